"""The objective: named terms, reported separately, added up for the optimiser. All are negative log densities, in nats.

    objective = data + kinetics + network + hidden + observation + residual + gate

`data` is the observation's likelihood of all cultures; the next five are the prior, Normal(center, spread) on
unconstrained parameters (log-normal on rates), summed over the part of the model that each is named after; `gate` is
`gate_penalty * gate * genes`, the price of learned corrections.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinnsim.fit.collocation import predict_on_grid, smooth
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.plan import Settings
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.simulate import ODE, AbstractInitial, AtRest, FromSample, Outcome
from pinnsim.simulate.run import run_one
from pinnsim.tree import path_name

Terms = dict[str, Scalar]
AllReadings = Float[Array, "culture time gene"]
AllOutcomes = Int[Array, " culture"]
Predictor = Callable[[CellModel, Cultures, Settings], tuple[AllReadings, AllOutcomes]]

_PARTS = {"promoter": "network", "gain": "network", "hidden": "hidden", "residual": "residual"}
FAILED_CULTURE = 1e6  # nats for a culture that could not be solved: worse than any prediction, and without a gradient


class Objective(NamedTuple):
    """The total in nats, its terms, and how many of the cultures that count could not be solved."""

    total: Scalar
    terms: Terms
    failed: Int[Array, ""]


def prior_deviates(model: Any, prior: Any) -> Iterator[tuple[str, Array]]:
    """Name and `(value - center) / spread` of every array of unconstrained parameters; 0 for fixed ones (spread 0)."""
    trees = [
        jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_inexact_array))[0]
        for tree in (model, prior.center, prior.spread)
    ]
    for (path, value), (_, center), (_, spread) in zip(*trees, strict=True):
        free = spread > 0
        yield (
            path_name(path),
            jnp.where(free, (value - jax.lax.stop_gradient(center)) / jnp.where(free, spread, 1.0), 0.0),
        )


def prior_costs(model: Any, prior: Any, part_of: Callable[[str], str], parts: tuple[str, ...]) -> Terms:
    """What the prior costs, by part of the model: `part_of` tells the part of an array by its name."""
    totals: Terms = {name: jnp.zeros(()) for name in parts}
    for name, z in prior_deviates(model, prior):
        totals[part_of(name)] = totals[part_of(name)] + 0.5 * jnp.sum(z**2)
    return totals


def prior_terms(model: CellModel, prior: ModelPrior) -> Terms:
    """Prior terms by part of a cell model."""
    return prior_costs(model, prior, _part_of, ("kinetics", "network", "hidden", "observation", "residual"))


def _part_of(name: str) -> str:
    keys = name.split("/")
    return "observation" if keys[0] == "observation" else _PARTS.get(keys[1], "kinetics")


def trajectory_readings(model: CellModel, data: Cultures, settings: Settings) -> tuple[AllReadings, AllOutcomes]:
    """Readings of every culture through the solver, (culture, time, gene), and outcomes, (culture,). `model` is
    resolved."""
    return _along_solver(model, data, settings, ODE(settings.rtol, settings.atol, max_steps=settings.max_steps))


def trajectory_readings_forward(
    model: CellModel, data: Cultures, settings: Settings
) -> tuple[AllReadings, AllOutcomes]:
    """The same readings, for derivatives in forward mode (a direction of parameters at a time) only."""
    method = ODE(settings.rtol, settings.atol, max_steps=settings.max_steps).forward_mode()
    return _along_solver(model, data, settings, method)


def _along_solver(model: CellModel, data: Cultures, settings: Settings, method: ODE) -> tuple[AllReadings, AllOutcomes]:
    def one(times: Array, readings: Array, perturbation: Perturbation) -> tuple[Array, Array]:
        solution, predicted = run_one(model, times, method, perturbation, start_of(readings, settings))
        return predicted, solution.outcome

    return jax.vmap(one)(data.times, data.per_exposure, data.perturbations)


def collocation_readings(model: CellModel, data: Cultures, settings: Settings) -> tuple[AllReadings, AllOutcomes]:
    """Readings of every culture on the grid, (culture, time, gene); the outcome is `NOT_SETTLED` where there is no
    state to start from. `model` is resolved."""

    def one(
        times: Array, readings: Array, mask: Array, perturbation: Perturbation, grid: Array, at: Array
    ) -> tuple[Array, Array]:
        measured = jax.vmap(model.observation.readout.invert)(smooth(times, readings, mask, grid))
        state = start_of(readings, settings).state(model, perturbation)
        usable = jnp.all(jnp.isfinite(state))
        predicted = predict_on_grid(model, perturbation, jnp.where(usable, state, 1.0), grid, at, measured)
        return predicted, jnp.where(usable, Outcome.DONE, Outcome.NOT_SETTLED)

    return jax.vmap(one)(data.times, data.per_exposure, data.mask, data.perturbations, data.grid, data.at)


def start_of(readings: Array, settings: Settings) -> AbstractInitial:
    """Where a culture starts: as its first sample shows it, or at rest."""
    return FromSample(readings[0]) if settings.initial == "sample" else AtRest()


def scored_readings(data: Cultures, settings: Settings) -> Bool[Array, "culture time gene"]:
    """Which readings count: a first sample that the model starts from is no prediction, and is not scored."""
    return data.mask.at[:, 0].set(False) if settings.initial == "sample" else data.mask


def objective(model: CellModel, prior: ModelPrior, data: Cultures, settings: Settings, predict: Predictor) -> Objective:
    """The objective of one model. `predict` is `trajectory_readings` or `collocation_readings`."""
    cell = resolve(model)
    predicted, outcome = predict(cell, data, settings)
    scored = scored_readings(data, settings)
    done = outcome == Outcome.DONE
    # A culture of which nothing counts is held out: whether it can be solved must not count either.
    failed = ~done & jnp.any(scored, axis=(1, 2))
    safe = jnp.where(done[:, None, None], predicted, data.per_exposure) * data.exposure[..., None]
    density = jax.vmap(cell.observation.likelihood.log_density)(
        data.times, data.readings, safe, scored, data.measured_sd
    )
    cost = jnp.where(done, -jnp.sum(density, axis=-1), jnp.where(failed, FAILED_CULTURE, 0.0))
    terms = {"data": jnp.sum(cost), **prior_terms(model, prior)}
    terms["gate"] = settings.gate_penalty * cell.kinetics.residual.gate * len(model.table.genes)
    return Objective(sum(terms.values(), jnp.zeros(())), terms, jnp.sum(failed, dtype=int))
