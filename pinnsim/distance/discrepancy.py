"""The maximum mean discrepancy: how far apart populations are for all functions of a given smoothness.

    MMD^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y),     k(x, y) = mean over s of exp(-|x - y|^2 / (2 s^2 h^2))

with bandwidths s h: h is given, or found as the median distance of different cells of the two populations together
(`MeanDiscrepancy.bandwidth = None`), s are factors around it.

Sources: A. Gretton et al., J. Mach. Learn. Res. 13:723 (2012), for the statistic, its unbiased form and the median.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.distance.cost import Cells, Others, SquaredEuclidean
from pinnsim.distance.distance import (
    AbstractDistance,
    Distance,
    OtherWeights,
    Population,
    Weights,
    finished,
    population,
    shares,
)
from pinnsim.distance.energy import form, spread
from pinnsim.shapes import Numbers, Scalar

_ENOUGH = 256  # cells of each population that the median distance is taken of


class MeanDiscrepancy(AbstractDistance):
    """The squared maximum mean discrepancy with Gaussian kernels.

    **Arguments:** `bandwidth`: h, in units of the points, or `None` for the median distance, which the gradient takes
    as given; `factors`: (scale,), s; `unbiased`: as in `Energy`.

    Good values: the median, with factors 1/2, 1 and 2.
    """

    bandwidth: Scalar | None
    factors: Float[Array, " scale"]
    unbiased: bool = eqx.field(static=True)

    def __init__(self, bandwidth: Numbers | None = None, factors: Numbers = (0.5, 1.0, 2.0), unbiased: bool = False):
        self.bandwidth = None if bandwidth is None else jnp.asarray(bandwidth, dtype=float)
        self.factors, self.unbiased = jnp.asarray(factors, dtype=float), unbiased

    def __call__(self, x: Cells, y: Others, a: Weights | None = None, b: OtherWeights | None = None) -> Distance:
        one, other, apart = population(x, a), population(y, b), SquaredEuclidean()
        p, q = shares(one), shares(other)
        across = apart(one.points, other.points)
        inside, outside = apart(one.points, one.points), apart(other.points, other.points)
        if self.bandwidth is None:
            square = jax.lax.stop_gradient(_median_square(one, other, apart))
        else:
            square = self.bandwidth.astype(x.dtype) ** 2
        rates = 0.5 / (self.factors.astype(x.dtype) ** 2 * square)
        within = spread(p, _kernel(inside, rates), self.unbiased) + spread(q, _kernel(outside, rates), self.unbiased)
        return finished(one, other, within - 2.0 * form(p, _kernel(across, rates), q))


def _kernel(squares: Array, rates: Array) -> Array:
    total = jnp.zeros_like(squares)
    for k in range(rates.shape[0]):  # a few scales: no third axis in memory
        total = total + jnp.exp(-rates[k] * squares)
    return total / rates.shape[0]


def _median_square(x: Population, y: Population, apart: SquaredEuclidean) -> Scalar:
    """Median squared distance of different cells; 1 where all are equal.

    Cells at the same place (duplicates, and every cell with itself) tell nothing about scale and are left out.
    """
    (x_points, a), (y_points, b) = _thinned(x), _thinned(y)
    points, there = jnp.concatenate([x_points, y_points]), jnp.concatenate([a, b]) > 0
    pairs = apart(points, points)
    least = 1e3 * jnp.finfo(pairs.dtype).eps * jnp.max(pairs)
    kept = jnp.where(there[:, None] & there[None, :] & (pairs > least), pairs, jnp.nan)
    median = jnp.nanmedian(kept)
    return jnp.where(jnp.isfinite(median), median, 1.0)


def _thinned(of: Population) -> tuple[Array, Array]:
    """At most `_ENOUGH` cells, evenly spaced among those that are there: sorting all pairs of large populations would
    cost more than the distance."""
    rows = of.weights.shape[0]
    if rows <= _ENOUGH:
        return of.points, of.weights
    there = of.weights > 0
    count = jnp.sum(there, dtype=int)
    at = jnp.arange(_ENOUGH) * ((count + _ENOUGH - 1) // _ENOUGH)
    which = jnp.argsort(~there, stable=True)[jnp.minimum(at, rows - 1)]
    return of.points[which], jnp.where(at < count, of.weights[which], 0.0)
