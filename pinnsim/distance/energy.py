"""The energy distance: no parameter to choose, no iterations.

    E(P, Q) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|  >= 0,   and 0 only for P = Q

with the Euclidean norm. Over samples the means are over all pairs (V-statistic, >= 0, biased upwards by about the
populations' spread over their size) or, `unbiased`, over pairs of different cells (U-statistic: right on average, so
the one for minibatches; it may be negative).

Source: G. J. Szekely and M. L. Rizzo, J. Stat. Plan. Inference 143:1249 (2013).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.distance.cost import Cells, Euclidean, Others
from pinnsim.distance.distance import AbstractDistance, Distance, OtherWeights, Weights, finished, population, shares
from pinnsim.shapes import Scalar


class Energy(AbstractDistance):
    """The energy distance (not its square root). **Arguments:** `unbiased`: whether pairs of a cell with itself are
    left out; such a population needs two cells."""

    unbiased: bool = eqx.field(static=True, default=False)

    def __call__(self, x: Cells, y: Others, a: Weights | None = None, b: OtherWeights | None = None) -> Distance:
        one, other, apart = population(x, a), population(y, b), Euclidean()
        p, q = shares(one), shares(other)
        across = form(p, apart(one.points, other.points), q)
        inside = spread(p, apart(one.points, one.points), self.unbiased)
        outside = spread(q, apart(other.points, other.points), self.unbiased)
        return finished(one, other, 2.0 * across - inside - outside)


def form(p: Array, pairs: Array, q: Array) -> Scalar:
    """`p' pairs q`."""
    return jnp.sum(p * (pairs @ q))


def spread(p: Array, pairs: Array, unbiased: bool) -> Scalar:
    """Mean over pairs inside a population; NaN for a single cell without itself.

    The diagonal of `pairs` is what a pair of a cell with itself gives.
    """
    whole = form(p, pairs, p)
    if not unbiased:
        return whole
    return (whole - jnp.sum(p * p * jnp.diagonal(pairs))) / (1.0 - jnp.sum(p * p))
