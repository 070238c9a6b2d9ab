"""A part of a population, drawn so that a distance of parts costs less; a fresh part at every step of a fit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from pinnsim.distance.cost import Cells
from pinnsim.distance.distance import Weights
from pinnsim.errors import PinnsimError


def minibatch(key: PRNGKeyArray, points: Cells, weights: Weights, count: int) -> tuple[Array, Array]:
    """`count` different cells, all that are there equally likely, with their own weights.

    **Arguments:** `key`: one key, one draw; `points`: (cell, gene); `weights`: (cell,), 0 for cells that are not there;
    `count`: at most the number of rows.

    **Returns** points, (count, gene), and weights, (count,): 0 for what fills up a population of fewer cells. The mean
    total weight is `count / there` of the whole. Biased distances of parts are larger than those of wholes; use the
    `unbiased` forms, or Sinkhorn divergences of parts that are not too small.

    **Raises** `E_USAGE` where `count` is not between 1 and the number of rows.
    """
    rows = points.shape[0]
    if not 1 <= count <= rows:
        raise PinnsimError.of("E_USAGE", f"Argument `count` must be from 1 to {rows}, the cells given, but is {count}.")
    # The largest of as many independent numbers: a draw without replacement that compiles once for any mask.
    score = jnp.where(weights > 0, jax.random.uniform(key, (rows,), points.dtype), -1.0)
    chosen = jax.lax.top_k(score, count)[1]
    return points[chosen], weights[chosen]
