"""What a distance of two populations is: a value with its gradient, an outcome, and how far the work was carried.

A population is a cloud of points, (cell, gene), with weights >= 0, (cell,). Points of weight 0 are not there: whatever
they hold, NaN included, has no influence, so that populations of different sizes share one shape. A weight is a share
of the population; only a distance that knows growth reads the total as mass.
"""

import abc
import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.distance.cost import Cells, Others
from pinnsim.errors import PinnsimError
from pinnsim.shapes import Scalar

Weights = Float[Array, " cell"]
OtherWeights = Float[Array, " other"]


class Match(enum.IntEnum):
    """How the comparison of two populations ended."""

    DONE = 0
    NOT_CONVERGED = 1
    NOT_FINITE = 2
    EMPTY = 3

    @property
    def sentence(self) -> str:
        """What it means for a reader, and the next move."""
        return {
            Match.DONE: "done",
            Match.NOT_CONVERGED: "the iterations ran out; raise max_iterations, tolerance or epsilon",
            Match.NOT_FINITE: "a point or weight is NaN, infinite or negative; drop such cells or give them weight 0",
            Match.EMPTY: "a population has no cells of positive weight; leave that time out",
        }[self]


class Distance(eqx.Module):
    """A distance, or a batch of them.

    **Arguments:** `value`: NaN where inputs were not finite or a population was empty, with a gradient of 0 there;
    `outcome`: see `Match`; `error`: what is left of the tolerance's measure (0 where there is nothing to iterate);
    `iterations`.
    """

    value: Float[Array, "..."]
    outcome: Int[Array, "..."]
    error: Float[Array, "..."]
    iterations: Int[Array, "..."]

    def raise_failure(self) -> "Distance":
        """Raises `E_SOLVER` naming the first comparison that is not done; returns itself when all are."""
        codes = np.atleast_1d(np.asarray(self.outcome)).ravel()
        bad = np.flatnonzero(codes != Match.DONE)
        if len(bad):
            error = float(np.atleast_1d(np.asarray(self.error)).ravel()[bad[0]])
            raise PinnsimError.of(
                "E_SOLVER",
                f"{len(bad)} of {len(codes)} comparisons of populations failed (first: number {bad[0]}, error "
                f"{error:.3g}): {Match(int(codes[bad[0]])).sentence}.",
            )
        return self


class AbstractDistance(eqx.Module):
    """A distance between two populations; pure, differentiable once, for one pair: map it over times."""

    @abc.abstractmethod
    def __call__(self, x: Cells, y: Others, a: Weights | None = None, b: OtherWeights | None = None) -> Distance:
        """Distance between `x`, (cell, gene), with weights `a`, (cell,), and `y`, (other, gene), with weights `b`;
        equal weights where none are given."""


class Population(eqx.Module):
    """Points and weights that are safe to compute with."""

    points: Cells
    weights: Weights
    total: Scalar
    finite: Array

    @property
    def usable(self) -> Array:
        """Whether a distance to it exists."""
        return self.finite & (self.total > 0)


def population(points: Cells, weights: Weights | None) -> Population:
    """Absent points moved to the middle of the present ones; weights that are NaN, infinite or negative, and points
    that are NaN or infinite, are taken out and told by `finite`."""
    if weights is None:
        weights = jnp.full(points.shape[0], 1.0 / max(points.shape[0], 1), points.dtype)
    weights = weights.astype(points.dtype)
    good = jnp.isfinite(weights) & (weights >= 0)
    sound = jnp.all(jnp.isfinite(points), axis=1)
    finite = jnp.all(good & (sound | (weights == 0)))
    there = good & sound & (weights > 0)
    kept = jnp.where(there, weights, 0.0)
    inner = jnp.where(there[:, None], points, 0.0)
    total = jnp.sum(kept)
    middle = jnp.sum(kept[:, None] * inner, axis=0) / jnp.where(total > 0, total, 1.0)
    placed = jnp.where(there[:, None], points, jax.lax.stop_gradient(middle)[None, :])
    return Population(placed, kept, total, finite)


def shares(of: Population) -> Weights:
    """Weights that sum to 1 (all 0 for an empty population)."""
    return of.weights / jnp.where(of.total > 0, of.total, 1.0)


def outcome_of(x: Population, y: Population, converged: Array) -> Array:
    """The worst of what can be said of inputs and iterations."""
    empty = (x.total <= 0) | (y.total <= 0)
    ended = jnp.where(converged, Match.DONE.value, Match.NOT_CONVERGED.value)
    ended = jnp.where(empty, Match.EMPTY.value, ended)
    return jnp.where(x.finite & y.finite, ended, Match.NOT_FINITE.value).astype(int)


def finished(x: Population, y: Population, value: Scalar) -> Distance:
    """The result of a distance that needs no iterations."""
    kind = value.dtype
    return Distance(
        jnp.where(x.usable & y.usable, value, jnp.nan),
        outcome_of(x, y, jnp.isfinite(value)),
        jnp.zeros((), kind),
        jnp.zeros((), int),
    )
