"""The Sinkhorn divergence: optimal transport that is quick, smooth, and 0 between equal populations.

    S(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + eps (m(a) - m(b))^2 / 2

with OT of `transport.py`, m the mass. It is >= 0, tends to the transport cost for eps -> 0 and to a maximum mean
discrepancy for eps -> infinity. Gradients with respect to points, weights, eps and rho are those of the dual at its
maximum: exact to first order at convergence, and of no use beyond it.

Sources: A. Genevay et al., AISTATS (2018); J. Feydy et al., AISTATS (2019); T. Sejourne et al., arXiv:1910.12958
(2019), for unbalanced populations.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int

from pinnsim.distance.cost import AbstractCost, Cells, Others, Pairs, SquaredEuclidean
from pinnsim.distance.distance import (
    AbstractDistance,
    Distance,
    OtherWeights,
    Population,
    Weights,
    outcome_of,
    population,
)
from pinnsim.distance.transport import Limits, Potentials, dual_value, solve, solve_self
from pinnsim.errors import PinnsimError
from pinnsim.shapes import Scalar

_NARROW = 0.02  # mean costs: an epsilon below it is annealed


class Sinkhorn(AbstractDistance):
    """The Sinkhorn divergence, balanced or not.

    **Arguments:** `epsilon`: > 0, blur; `relative`: whether `epsilon` and `reach` are in units of the mean cost between
    the two populations (else: of the cost); `reach`: rho, the price of making or losing mass: infinite (weights are
    then shares, whatever they sum to), or finite, where cells grow and die and weights are masses; `cost`; `tolerance`:
    of the marginals, in shares of the mass; `max_iterations`; `start`, `decay`: where epsilon is below 0.02 mean costs,
    annealing starts at `start` mean costs and multiplies by `decay` until it is there; `debiased`: false for OT(a, b)
    alone.

    Good values: epsilon 0.05 relative for fits (0.001 for transport costs), tolerance 1e-3 for losses and 1e-6 for
    values to be quoted; reach 1 to 10 mean costs. In single precision keep epsilon above 1e-3 mean costs and the
    tolerance above 1e-5.
    """

    epsilon: Scalar
    reach: Scalar
    tolerance: Scalar
    start: Scalar
    decay: Scalar
    max_iterations: Int[Array, ""]
    cost: AbstractCost
    relative: bool = eqx.field(static=True)
    debiased: bool = eqx.field(static=True)

    def __init__(
        self,
        epsilon: ArrayLike = 0.05,
        reach: ArrayLike = jnp.inf,
        *,
        relative: bool = True,
        cost: AbstractCost | None = None,
        tolerance: ArrayLike = 1e-3,
        max_iterations: int | Array = 2000,
        start: ArrayLike = 1.0,
        decay: ArrayLike = 0.25,
        debiased: bool = True,
    ):
        given = {"epsilon": epsilon, "reach": reach, "tolerance": tolerance, "start": start, "decay": decay}
        numbers = {name: jnp.asarray(value, dtype=float) for name, value in given.items()}
        for name, value in given.items():
            if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
                raise PinnsimError.of("E_USAGE", f"Argument `{name}` must be > 0, but is {value}.")
        self.epsilon, self.reach, self.tolerance = numbers["epsilon"], numbers["reach"], numbers["tolerance"]
        self.start, self.decay = numbers["start"], jnp.minimum(numbers["decay"], 0.9)
        self.max_iterations = jnp.asarray(max_iterations, dtype=int)
        self.cost = SquaredEuclidean() if cost is None else cost
        self.relative, self.debiased = relative, debiased

    def __call__(self, x: Cells, y: Others, a: Weights | None = None, b: OtherWeights | None = None) -> Distance:
        one, other = population(x, a), population(y, b)
        # In a balanced problem weights are shares of the whole.
        p, q = (of.weights / jnp.where(jnp.isinf(self.reach) & (of.total > 0), of.total, 1.0) for of in (one, other))
        across = self.cost(one.points, other.points)
        scale = jnp.ones((), x.dtype)
        if self.relative:
            pairs = jnp.sum(p) * jnp.sum(q)
            mean = jnp.sum(p * (across @ q)) / jnp.where(pairs > 0, pairs, 1.0)
            scale = jnp.where(mean > 0, mean, 1.0)
        eps, reach = self.epsilon.astype(x.dtype) * scale, self.reach.astype(x.dtype)
        endless = jnp.isinf(reach)
        # An infinity times something to differentiate by has the slope infinity times 0.
        rho = jnp.where(endless, jnp.inf, jnp.where(endless, 1.0, reach) * scale)
        size = scale if self.relative else jnp.mean(across)
        # A wide blur is reached at once; stages would only cost kernels.
        first = jnp.where(eps < _NARROW * size, self.start.astype(x.dtype) * size, eps)
        limits = Limits(self.tolerance.astype(x.dtype), self.max_iterations, first, self.decay.astype(x.dtype))
        value, ended = self._transport(across, p, q, eps, rho, limits)
        solved = [ended]
        if self.debiased:
            for of, w in ((one, p), (other, q)):
                own, ended = self._transport(self.cost(of.points, of.points), w, None, eps, rho, limits)
                value, solved = value - 0.5 * own, [*solved, ended]
            value = value + 0.5 * eps * (jnp.sum(p) - jnp.sum(q)) ** 2
        return _gathered(one, other, value, solved, self.tolerance.astype(x.dtype))

    def _transport(
        self, cost: Pairs, a: Weights, b: OtherWeights | None, eps: Scalar, rho: Scalar, limits: Limits
    ) -> tuple[Scalar, Potentials]:
        """OT of two populations, or, without `b`, of one with itself."""
        still = jax.lax.stop_gradient((cost, a, a if b is None else b, eps, rho, limits))
        solved = solve_self(still[0], still[1], *still[3:]) if b is None else solve(*still)
        return dual_value(cost, a, a if b is None else b, eps, rho, solved.f, solved.g), solved


def _gathered(
    one: Population, other: Population, value: Scalar, solved: list[Potentials], tolerance: Scalar
) -> Distance:
    error = jnp.max(jnp.stack([s.error for s in solved]))
    usable = one.usable & other.usable
    return Distance(
        jnp.where(usable, value, jnp.nan),
        outcome_of(one, other, error <= tolerance),
        jax.lax.stop_gradient(error),
        jnp.max(jnp.stack([s.iterations for s in solved])),
    )
