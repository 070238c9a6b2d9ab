"""The objective: named terms, reported separately, added up for the optimiser. All are negative log densities, in nats.

    objective = data + kinetics + network + hidden + observation + residual + gate

`data` is the observation's likelihood of all cultures; the next five are the prior, Normal(center, spread) on unconstrained parameters (log-normal on rates), summed over the part of the model that
each is named after; `gate` is `gate_penalty * gate * genes`, the price of learned corrections.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.fit.collocation import predict_on_grid, smooth
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.plan import FitPlan
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Readings, Scalar
from pinnsim.simulate import ODE, AbstractInitial, AtRest, FromSample, Outcome
from pinnsim.simulate.run import run_one
from pinnsim.tree import path_name

Terms = dict[str, Scalar]
_PARTS = {"promoter": "network", "gain": "network", "hidden": "hidden", "residual": "residual"}
FAILED_CULTURE = 1e6  # nats for a culture that could not be solved: worse than any prediction, and constant, so that it has no gradient


def prior_terms(model: CellModel, prior: ModelPrior) -> Terms:
    """Prior terms by part of the model; fixed parameters (spread 0) cost nothing."""
    totals: Terms = {name: jnp.zeros(()) for name in ("kinetics", "network", "hidden", "observation", "residual")}
    trees = [jax.tree_util.tree_flatten_with_path(eqx.filter(t, eqx.is_inexact_array))[0] for t in (model, prior.center, prior.spread)]
    for (path, value), (_, center), (_, spread) in zip(*trees, strict=True):
        keys = path_name(path).split("/")
        part = "observation" if keys[0] == "observation" else _PARTS.get(keys[1], "kinetics")
        free = spread > 0
        z = jnp.where(free, (value - jax.lax.stop_gradient(center)) / jnp.where(free, spread, 1.0), 0.0)
        totals[part] = totals[part] + 0.5 * jnp.sum(z**2)
    return totals


def trajectory_readings(model: CellModel, data: Cultures, plan: FitPlan) -> tuple[Readings, Array]:
    """Readings of every culture through the solver, (culture, time, gene), and outcomes, (culture,). `model` is resolved."""
    method = ODE(plan.rtol, plan.atol, max_steps=plan.max_steps)

    def one(times: Array, readings: Array, perturbation: Perturbation) -> tuple[Array, Array]:
        start: AbstractInitial = FromSample(readings[0]) if plan.initial == "sample" else AtRest()
        solution, predicted = run_one(model, times, method, perturbation, start)
        return predicted, solution.outcome

    return jax.vmap(one)(data.times, data.readings, data.perturbations)


def collocation_readings(model: CellModel, data: Cultures, plan: FitPlan) -> tuple[Readings, Array]:
    """Readings of every culture on the grid, (culture, time, gene); every outcome is `DONE`. `model` is resolved."""

    def one(times: Array, readings: Array, mask: Array, perturbation: Perturbation, grid: Array, at: Array) -> Array:
        start: AbstractInitial = FromSample(readings[0]) if plan.initial == "sample" else AtRest()
        measured = jax.vmap(model.observation.readout.invert)(smooth(times, readings, mask, grid))
        return predict_on_grid(model, perturbation, start.state(model, perturbation), grid, at, measured)

    predicted = jax.vmap(one)(data.times, data.readings, data.mask, data.perturbations, data.grid, data.at)
    return predicted, jnp.full(data.times.shape[0], Outcome.DONE)


Predictor = Callable[[CellModel, Cultures, FitPlan], tuple[Readings, Array]]


def objective(model: CellModel, prior: ModelPrior, data: Cultures, plan: FitPlan, predict: Predictor) -> tuple[Scalar, Terms]:
    """The total, in nats, and its terms. `predict` is `trajectory_readings` or `collocation_readings`."""
    cell = resolve(model)
    predicted, outcome = predict(cell, data, plan)
    # A first sample that the model starts from is no prediction: it is not scored.
    scored = data.mask.at[:, 0].set(False) if plan.initial == "sample" else data.mask
    done = outcome == Outcome.DONE
    safe = jnp.where(done[:, None, None], predicted, data.readings)
    density = jax.vmap(cell.observation.likelihood.log_density)(data.times, data.readings, safe, scored, data.measured_sd)
    terms = {"data": jnp.sum(jnp.where(done, -jnp.sum(density, axis=-1), FAILED_CULTURE)), **prior_terms(model, prior)}
    terms["gate"] = plan.gate_penalty * cell.kinetics.residual.gate * len(model.table.genes)
    return sum(terms.values(), jnp.zeros(())), terms
