"""How stiff a system is: how many steps an explicit solver would need for the sake of stability alone.

An explicit step is bounded by `h |lambda| < 3.5`, however smooth the solution is. The largest |lambda| of the Jacobian
is estimated by power iteration with exact Jacobian-vector products, so nothing of size (species, species) is made.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.adaptive import Field

_ITERATIONS = 12
_STABLE = 3.5
_STEPS = 1500.0  # explicit steps that cost about as much as an implicit solution of a mild problem


def fastest_rate(field: Field, time: Scalar, state: State) -> Scalar:
    """An estimate of the largest |lambda|, per time unit; 0 where the Jacobian is not finite."""
    species = state.shape[0]
    # Fixed and without symmetry, so that no eigenvector is missed and the estimate is the same for every run.
    start = jnp.asarray(1.0 + 0.5 * np.sin(1.0 + 3.0 * np.arange(species)), state.dtype)

    def once(carry: tuple[State, Scalar], _: None) -> tuple[tuple[State, Scalar], None]:
        vector = carry[0]
        image = jax.jvp(lambda x: field(time, x), (state,), (vector,))[1]
        size = jnp.sqrt(jnp.sum(image**2))
        return (image / jnp.where(size > 0, size, 1.0), size), None

    begin = start / jnp.sqrt(jnp.sum(start**2))
    (_, rate), _ = jax.lax.scan(once, (begin, jnp.zeros((), state.dtype)), length=_ITERATIONS)
    return jnp.where(jnp.isfinite(rate), rate, 0.0)


def is_stiff(fastest: Array, times: Times) -> bool:
    """Whether an explicit solver would take too many steps for any lane over these times."""
    span = float(times[-1]) - float(times[0])
    return bool(np.max(np.asarray(fastest), initial=0.0) * span / _STABLE > _STEPS)
