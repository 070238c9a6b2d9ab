"""How sure are we? The normal approximation of the posterior at a fitted model.

In whitened coordinates `z = (theta - theta_prior) / sd_prior` the prior is the unit normal, and the data add the
curvature

    B = S J' W J S,     S = diag(sd_prior),   J = d predictions / d theta,   W = -d2 log p(readings) / d predictions2,

(generalised Gauss and Newton; W is taken per culture and gene, and where an outlier makes it negative, that direction
counts as no information). With `B = V diag(l) V'` the posterior covariance is

    S (I + B)^-1 S = S (I - V diag(l / (1 + l)) V') S,

so an eigenvalue l >> 1 is a direction that the data identify, l << 1 one in which only the prior speaks; the sum of
`l / (1 + l)` is the number of parameters that the data determine. Up to `dense` parameters all directions are
computed, beyond it the `rank` leading ones by a randomised method, which can only overstate an uncertainty. Where
residuals are large, `fit.curvature` gives a small model's exact B, which may have negative eigenvalues.

    log evidence = log p(readings | theta) + log prior - 1/2 sum log(1 + l) + constants of the data alone.

Sources: D. J. C. MacKay, Neural Computation 4:415 (1992), evidence and effective parameters; N. N. Schraudolph, Neural
Computation 14:1723 (2002), generalised Gauss-Newton; T. Bui-Thanh et al., SIAM J. Sci. Comput. 35:A2494 (2013), low
rank; N. Halko et al., SIAM Review 53:217 (2011), the randomised method.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.curvature import by_batches, exact_curvature, refuse_saddles
from pinnsim.fit.free import FreeVector, Vector, free_vector
from pinnsim.fit.objective import (
    Predictor,
    collocation_readings,
    objective,
    scored_readings,
    trajectory_readings,
    trajectory_readings_forward,
)
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.stages import solved
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.simulate import Outcome
from pinnsim.tree import brief

BATCH = 32  # tangents that go through the model side by side
_EXTRA = 10  # random directions beyond the rank that is asked for
_LEAST = 1e-10  # eigenvalues below it are rounding

Blocks = Float[Array, "culture gene time time"]


@dataclasses.dataclass(frozen=True)
class Laplace:
    """A normal posterior.

    **Arguments:** `free`: the parameters; `estimate`: (free,), unconstrained numbers of the fitted model; `scale`:
    (free,), prior standard deviations; `eigenvalues`: (direction,), curvature of the data in whitened coordinates,
    largest first; `basis`: (free, direction), their directions; `complete`: whether these are all directions;
    `evidence`: log evidence in nats, up to constants of the data; `failed`: cultures that could not be solved, which
    tell nothing.
    """

    __repr__ = brief

    free: FreeVector
    estimate: np.ndarray
    scale: np.ndarray
    eigenvalues: np.ndarray
    basis: np.ndarray
    complete: bool
    evidence: float
    failed: int

    @property
    def shrinkage(self) -> np.ndarray:
        """Posterior over prior standard deviation, (free,): 1 where the data say nothing."""
        told = self.eigenvalues / (1.0 + self.eigenvalues)
        return np.sqrt(np.maximum(1.0 - self.basis**2 @ told, 0.0))

    @property
    def sd(self) -> np.ndarray:
        """Posterior standard deviation of the unconstrained numbers, (free,)."""
        return self.scale * self.shrinkage

    @property
    def determined(self) -> float:
        """How many parameters the data determine."""
        return float(np.sum(self.eigenvalues / (1.0 + self.eigenvalues)))

    def covariance(self) -> np.ndarray:
        """Posterior covariance of the unconstrained numbers, (free, free)."""
        told = self.eigenvalues / (1.0 + self.eigenvalues)
        white = np.eye(len(self.estimate)) - (self.basis * told) @ self.basis.T
        return self.scale[:, None] * white * self.scale[None, :]

    def sample(self, key: PRNGKeyArray, members: int) -> CellModel:
        """Models drawn from it, (member, ...): an ensemble for `simulate` and `push`."""
        white = np.asarray(jax.random.normal(key, (members, len(self.estimate))))
        along = white @ self.basis
        narrowed = white - (along * (1.0 - 1.0 / np.sqrt(1.0 + self.eigenvalues))) @ self.basis.T
        drawn = jnp.asarray(self.estimate + self.scale * narrowed)
        return eqx.filter_vmap(self.free.with_values)(drawn)


def laplace(
    model: CellModel,
    prior: ModelPrior,
    data: Cultures,
    plan: FitPlan,
    *,
    predict: Literal["trajectories", "collocation"] | None = None,
    curvature: Literal["gauss-newton", "exact"] = "gauss-newton",
    dense: int = 2000,
    rank: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Laplace:
    """The normal posterior at a fitted model.

    **Arguments:** `model`: one member of a fit, not resolved; `data`: the cultures it was fitted to; `plan`: the fit's;
    `predict`: how readings are predicted, by default as the fit's last stage did; `curvature`: of Gauss and Newton, or
    the exact one of up to 200 parameters (see `fit.curvature`), which matters where residuals are large; `dense`: up to
    how many parameters all directions are computed; `rank`: how many are beyond; `progress`: whether a bar is shown.

    Cost: a tangent solve per parameter (dense), or about `3 rank` solves and gradients.

    **Raises** `E_FIT` where no parameter is free, no culture can be solved from this model, or it is no minimum and the
    exact curvature was asked for; `E_USAGE` where that has too many parameters.
    """
    free, settings = free_vector(model, prior), plan.settings()
    stage = predict or ("trajectories" if solved(plan) else "collocation")
    exact = stage == "trajectories"
    forward: Predictor = trajectory_readings_forward if exact else collocation_readings
    backward: Predictor = trajectory_readings if exact else collocation_readings
    anonymous = data.anonymous()
    estimate = free.start
    scale = free.scale
    blocks, usable = _blocks(free, estimate, anonymous, settings, backward)
    if not bool(jnp.any(usable)):
        raise PinnsimError.of("E_FIT", "No culture could be solved from this model, so nothing is known about it.")
    here = _Here(free, estimate, scale, blocks, usable, anonymous, settings)
    full = curvature == "exact"
    if full:
        through = (free, prior, anonymous, settings, forward, scale)
        matrix = exact_curvature(*through, nested=exact, progress=progress)
    elif len(free.names) <= dense:
        tangents = functools.partial(_whitened, here, forward)
        jacobian = by_batches(tangents, len(free.names), BATCH, "uncertainty", progress)
        matrix = jacobian @ jacobian.T
    else:
        directions = min(rank + _EXTRA, len(free.names))
        draws = jax.random.normal(jax.random.key(seed), (directions, len(free.names)), estimate.dtype)
        # One power iteration: the spectrum of a fit falls slowly at first.
        once = _orthonormal(_curved(here, forward, backward, draws))
        basis = _orthonormal(_curved(here, forward, backward, once))
        matrix = np.asarray(basis) @ np.asarray(_curved(here, forward, backward, basis)).T
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    complete = full or len(free.names) <= dense
    if full:
        refuse_saddles(values, vectors, free.names)
    else:
        values = np.maximum(values, 0.0)
    if not complete:
        values, vectors = values[:rank], (np.asarray(basis).T @ vectors)[:, :rank]
    total = float(_total(model, prior, anonymous, settings, backward))
    return posterior(free, values, vectors, total, complete=complete, failed=int(np.sum(~np.asarray(usable))))


def posterior(
    free: FreeVector, values: np.ndarray, vectors: np.ndarray, total: float, *, complete: bool = True, failed: int = 0
) -> Laplace:
    """The posterior of curvature `values` along `vectors` (largest first) where the objective is `total`, in nats."""
    told = np.abs(values) > _LEAST
    return Laplace(
        free=free,
        estimate=np.asarray(free.start),
        scale=np.asarray(free.scale),
        eigenvalues=values[told],
        basis=vectors[:, told],
        complete=complete,
        evidence=-total - 0.5 * float(np.sum(np.log1p(values))),
        failed=failed,
    )


class _Here(NamedTuple):
    """Where curvature is taken: the parameters, their numbers and prior widths, the likelihood's curvature as `_blocks`
    gives it, and the data."""

    free: FreeVector
    vector: Vector
    scale: Vector
    blocks: Blocks
    usable: Array
    data: Cultures
    settings: Settings

    def readings(self, predict: Predictor) -> Callable[[Vector], Array]:
        """Readings, (culture, time, gene), as a function of the free numbers."""
        return lambda vector: predict(resolve(self.free.with_values(vector)), self.data, self.settings)[0]


@eqx.filter_jit
def _total(model: CellModel, prior: ModelPrior, data: Cultures, settings: Settings, predict: Predictor) -> Array:
    return objective(model, prior, data, settings, predict).total


@eqx.filter_jit
def _blocks(
    free: FreeVector, vector: Vector, data: Cultures, settings: Settings, predict: Predictor
) -> tuple[Blocks, Array]:
    """Square roots R of the likelihood's curvature, W = R' R, per culture and gene, and which cultures count."""
    cell = resolve(free.with_values(vector))
    predicted, outcome = predict(cell, data, settings)
    scored = scored_readings(data, settings)
    usable = (outcome == Outcome.DONE) & jnp.any(scored, axis=(1, 2))

    def one(times: Array, readings: Array, predicted: Array, mask: Array, sd: Array) -> Array:
        def cost(predictions: Array) -> Array:
            return -jnp.sum(cell.observation.likelihood.log_density(times, readings, predictions, mask, sd))

        # Genes do not see one another's readings, so one tangent per time serves all of them.
        def column(time: Array) -> Array:
            tangent = jnp.zeros_like(predicted).at[time].set(1.0)
            return jax.jvp(jax.grad(cost), (predicted,), (tangent,))[1]

        curvature = jnp.moveaxis(jax.vmap(column)(jnp.arange(times.shape[0])), 2, 0)
        values, vectors = jnp.linalg.eigh(0.5 * (curvature + jnp.swapaxes(curvature, 1, 2)))
        return jnp.sqrt(jnp.maximum(values, 0.0))[:, :, None] * jnp.swapaxes(vectors, 1, 2)

    safe = jnp.where(usable[:, None, None], predicted, data.readings)
    return jax.vmap(one)(data.times, data.readings, safe, scored, data.measured_sd), usable


@eqx.filter_jit
def _whitened(here: _Here, predict: Predictor, numbers: Int[Array, " some"]) -> Float[Array, "some reading"]:
    """R J S, transposed: the effect of these parameters on all readings, in standard deviations of both."""

    def tangent(number: Array) -> Array:
        direction = jnp.where(jnp.arange(here.vector.shape[0]) == number, here.scale, 0.0)
        return jnp.ravel(_seen(here, predict, direction))

    return jax.vmap(tangent)(numbers)


@eqx.filter_jit
def _curved(
    here: _Here, forward: Predictor, backward: Predictor, directions: Float[Array, "direction free"]
) -> Float[Array, "direction free"]:
    """B times each direction."""
    _, pull = jax.vjp(here.readings(backward), here.vector)

    def one(direction: Vector) -> Vector:
        seen = _seen(here, forward, here.scale * direction)
        back = jnp.einsum("cgst,csg->ctg", here.blocks, seen)
        return here.scale * pull(jnp.where(here.usable[:, None, None], back, 0.0))[0]

    return jax.lax.map(one, directions)


def _seen(here: _Here, predict: Predictor, direction: Vector) -> Float[Array, "culture time gene"]:
    """R J times a direction; 0 for cultures that do not count."""
    change = jax.jvp(here.readings(predict), (here.vector,), (direction,))[1]
    return jnp.einsum("cgst,ctg->csg", here.blocks, jnp.where(here.usable[:, None, None], change, 0.0))


def _orthonormal(rows: Array) -> Array:
    return jnp.linalg.qr(rows.T)[0].T
