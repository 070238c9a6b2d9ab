"""Double precision: the one switch of JAX that users of this library need; the library never turns it by itself."""


def enable_x64() -> None:
    """Switch JAX to double precision, which fits and landscapes need. Call it before any array is made."""
    import jax

    jax.config.update("jax_enable_x64", True)
