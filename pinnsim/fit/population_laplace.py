"""How sure are we of rates fitted to single cells? The normal approximation of the posterior, as `laplace` for bulk.

The expected readings m(theta) of all populations and the parameters psi(theta) of the instruments go into the
likelihood of the cells, L(m, psi). Its curvature, carried back to whitened parameters z = (theta - prior) / sd,

    B = F' H F,    F = d(m, psi) / dz,    H = -d2 L / d(m, psi)2,

(generalised Gauss and Newton) leaves out the second derivative of the solver alone. H is never written out: columns of
F come in forward mode, and H times a column is the tangent of a gradient, in which no solver takes part. Directions in
which H is negative count as no information.

Sources: N. N. Schraudolph, Neural Computation 14:1723 (2002), generalised Gauss-Newton; D. J. C. MacKay, Neural
Computation 4:415 (1992), evidence and effective parameters.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.errors import PinnsimError
from pinnsim.fit.curvature import by_batches
from pinnsim.fit.free import FreeVector, Vector, free_vector
from pinnsim.fit.laplace import BATCH, Laplace, posterior
from pinnsim.fit.match import AbstractMatch, ByLikelihood
from pinnsim.fit.objective import Objective
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.population import PopulationModel, PopulationPrior
from pinnsim.fit.snapshots import Populations, population_costs, simulate_populations, snapshot_objective
from pinnsim.parameter import resolve


class _Here(NamedTuple):
    """Where curvature is taken."""

    free: FreeVector
    vector: Vector
    scale: Vector
    data: Populations
    settings: Settings
    match: AbstractMatch


def laplace_snapshots(
    model: PopulationModel,
    prior: PopulationPrior,
    data: Populations,
    match: AbstractMatch,
    plan: FitPlan,
    *,
    progress: bool = True,
) -> Laplace:
    """The normal posterior at a population model fitted to single cells by their likelihood.

    **Arguments:** `model`: a fitted one, not resolved; `data`: what it was fitted to (`fit_data`); `match`, `plan`: the
    fit's; `progress`: whether a bar is shown.

    **Returns** a posterior for `rate_table` and `edge_table`. With a mixture of many simulated cells it is the
    posterior given these cells' random numbers. Cost: a tangent solve per free parameter.

    **Raises** `E_USAGE` for a match by a distance, which is no likelihood and has no posterior; `E_FIT` where no
    parameter is free, or the populations cannot be simulated.
    """
    here, ended = _prepared(model, prior, data, match, plan)
    matrix, _ = _curvature(here, progress)
    values, vectors = np.linalg.eigh(matrix)
    return posterior(here.free, np.maximum(values[::-1], 0.0), vectors[:, ::-1], float(ended.total))


def polish_snapshots(
    model: PopulationModel,
    prior: PopulationPrior,
    data: Populations,
    match: AbstractMatch,
    plan: FitPlan,
    *,
    steps: int = 8,
    tolerance: float = 1e-2,
    progress: bool = True,
) -> tuple[PopulationModel, float]:
    """A fitted model moved to the maximum of its posterior by Gauss and Newton's steps `-(I + B)^-1 g`, each halved
    until the objective falls; a first-order fit stops short of it along flat directions.

    **Arguments:** as of `laplace_snapshots`; `steps`: at most; `tolerance`: of the fall that a full step promises, nats
    (good value 0.01: a hundredth of a standard deviation squared).

    **Returns** the model, and the fall promised by the step after the last one. **Raises** as `laplace_snapshots`.
    """
    promised = np.inf
    for step in range(steps + 1):
        here, ended = _prepared(model, prior, data, match, plan)
        matrix, slope = _curvature(here, progress)
        values, vectors = np.linalg.eigh(matrix)
        along = vectors.T @ (slope + np.asarray((here.vector - here.free.center) / here.scale))
        newton = vectors @ (along / (1.0 + np.maximum(values, 0.0)))
        promised = 0.5 * float(np.sum(along**2 / (1.0 + np.maximum(values, 0.0))))
        best, length = float(ended.total), 1.0
        while promised > tolerance and step < steps and length > 1e-3:
            moved = here.free.with_values(here.vector - length * here.scale * jnp.asarray(newton))
            tried = _ended(moved, prior, here)
            if int(tried.failed) == 0 and float(tried.total) < best:
                break
            length *= 0.5
        else:
            break
        model = moved
    return model, promised


def _prepared(
    model: PopulationModel, prior: PopulationPrior, data: Populations, match: AbstractMatch, plan: FitPlan
) -> tuple[_Here, Objective]:
    """Where curvature is taken, and the objective there; refuses what has none."""
    if not isinstance(match, ByLikelihood):
        raise PinnsimError.of(
            "E_USAGE",
            f"A match {type(match).__name__} is no likelihood, so it gives no posterior; fit with ByLikelihood(), or "
            "take the spread over refitted random parts of the cells.",
        )
    free = free_vector(model, prior)
    here = _Here(free, free.start, free.scale, data, plan.settings(), match)
    ended = _ended(model, prior, here)
    if int(ended.failed) or not np.isfinite(float(ended.total)):
        raise PinnsimError.of(
            "E_FIT",
            f"{int(ended.failed)} populations cannot be simulated from this model, so nothing is known about it.",
        )
    return here, ended


def _curvature(here: _Here, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """B, (free, free), and the slope of the data's cost, (free,), in prior standard deviations."""
    columns = functools.partial(_columns, here)
    effects, curved, slope = by_batches(columns, len(here.free.names), BATCH, "uncertainty", progress)
    matrix = effects @ curved.T
    return 0.5 * (matrix + matrix.T), slope


@eqx.filter_jit
def _ended(model: PopulationModel, prior: PopulationPrior, here: _Here) -> Objective:
    return snapshot_objective(model, prior, here.data, here.settings, here.match)


@eqx.filter_jit
def _columns(
    here: _Here, numbers: Int[Array, " some"]
) -> tuple[Float[Array, "some effect"], Float[Array, "some effect"], Float[Array, " some"]]:
    """Effects of these parameters on everything the likelihood sees, readings and the parameters themselves; the
    likelihood's curvature times them; the slopes of its cost; in prior standard deviations."""
    unit = jnp.diag(here.scale)

    def readings(vector: Vector) -> tuple[Array, Array]:
        population = resolve(here.free.with_values(vector))
        pushed = eqx.tree_at(lambda p: p.push, population, population.push.forward_mode())
        return simulate_populations(pushed, here.data)

    shown, arrived = readings(here.vector)

    def cost(vector: Vector, shown: Array) -> Array:
        population = resolve(here.free.with_values(vector))
        return jnp.sum(population_costs(population, shown, arrived, here.data, here.settings, here.match)[0])

    def one(number: Array) -> tuple[Array, Array, Array]:
        change = jax.jvp(lambda vector: readings(vector)[0], (here.vector,), (unit[number],))[1]
        point, direction = (here.vector, shown), (unit[number], change)
        slope, bent = jax.jvp(lambda *at: jax.grad(cost, argnums=(0, 1))(*at), point, direction)
        effect = jnp.concatenate([unit[number], change.ravel()])
        full = jnp.concatenate([slope[0], slope[1].ravel()])
        return effect, jnp.concatenate([bent[0], bent[1].ravel()]), jnp.sum(effect * full)

    return jax.vmap(one)(numbers)
