"""Many items through a program for one: side by side up to a number, beyond it part by part.

`jax.lax.map` with a batch size compiles its function twice where the count is no multiple of it; solvers are large, so
that here the last part is padded instead, and the function is compiled once.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

In = TypeVar("In")
Out = TypeVar("Out")


def in_parts(one: Callable[[In], Out], items: In, batch: int) -> Out:
    """`jax.vmap(one)(items)`, at most `batch` items at a time.

    **Arguments:** `items`: a tree of arrays with a leading item axis; `one`: pure.
    """
    count = jax.tree.leaves(items)[0].shape[0]
    if count <= batch:
        return jax.vmap(one)(items)
    parts = -(-count // batch)
    at = jnp.minimum(jnp.arange(parts * batch), count - 1)

    def split(leaf: Array) -> Array:
        return leaf[at].reshape(parts, batch, *leaf.shape[1:])

    done = jax.lax.map(jax.vmap(one), jax.tree.map(split, items))
    return jax.tree.map(lambda leaf: leaf.reshape(parts * batch, *leaf.shape[2:])[:count], done)
