"""Fits to valleys that must hold on their own, and edges that these ask for.

Collocation lets promoters see measured regulators, so that nothing scores whether a valley holds where regulators
follow one another. Here it finds the region only. What is fitted then runs freely from its first sample, on
exponential steps of the fit's grid; a culture that nothing is done to tells that it rests.

Edges are proposed in rounds, one per gene and round by the score test of pinnsim.fit, and the model is fitted anew:
candidates for one gene explain much the same, and only the next round tells what a second one would add.
"""

import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from pinnsim.data import Dataset
from pinnsim.fit import FitPlan, Stepped, cultures, fit, propose_edges
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import scored_readings
from pinnsim.fit.optimise import Lanes, Stage, evaluate, run_stage, with_parameters
from pinnsim.fit.plan import Settings
from pinnsim.fit.schedule import learning_rates
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import FromSample, Outcome
from pinnsim.tree import lane, stack


def free_readings(model: CellModel, data: Cultures, settings: Settings) -> tuple[Array, Array]:
    """Readings of every culture as it runs on its own from its first sample, (culture, time, gene), and outcomes."""

    def one(times: Array, readings: Array, perturbation: Perturbation, grid: Array) -> tuple[Array, Array]:
        state = FromSample(readings[0]).state(model, perturbation)
        keys = jnp.zeros((1, 2), jnp.uint32)  # rate equations draw nothing
        courses, arrived = Stepped().courses(model.kinetics, times, grid, perturbation, state[None], keys)
        rna = jax.vmap(lambda at: model.kinetics.layer(at, "rna"))(courses[0])
        done = arrived[0]
        return (
            jax.vmap(model.observation.readout)(jnp.where(done, rna, 1.0)),
            jnp.where(done, Outcome.DONE, Outcome.NOT_SETTLED),
        )

    return jax.vmap(one)(data.times, data.per_exposure, data.perturbations, data.grid)


class Fitted(NamedTuple):
    """The best start, its objective in nats, its error per reading (log2, RMS), and the edges that were proposed."""

    model: CellModel
    value: float
    error: float
    edges: tuple[str, ...] = ()


def fitted(prior: ModelPrior, dataset: Dataset, plan: dict[str, Any], progress: bool, label: str) -> Fitted:
    """Collocation from every start, then free runs."""
    settings = FitPlan(**plan["fit"], seed=plan["seeds"][0])
    found = fit(prior, dataset, settings, progress=progress, label=label)
    count, data = len(found.value), cultures(dataset, prior.center.table, substeps=settings.substeps).anonymous()
    lanes = Lanes(found.models, stack([prior] * count), stack([data] * count))
    rates = learning_rates(settings, plan["free"]["learning_rate"], plan["free"]["steps"])
    with tqdm(total=len(rates), desc=f"{label}, free runs", unit="step", disable=None if progress else True) as bar:

        def shown(done: int, _: Any) -> None:
            bar.update(done - bar.n)

        ended = run_stage(lanes, Stage("free runs", free_readings, rates), settings.settings(), None, 0, shown)
    models = with_parameters(lanes, ended.best)
    value = np.asarray(evaluate(models, lanes.priors, lanes.data, settings.settings(), free_readings).total)
    best = lane(models, int(np.nanargmin(value)))
    predicted, _ = eqx.filter_jit(free_readings)(resolve(best), data, settings.settings())
    there = np.asarray(scored_readings(data, settings.settings()))
    error = np.sqrt(np.mean((np.asarray(predicted) - np.asarray(data.readings))[there] ** 2))
    return Fitted(best, float(np.nanmin(value)), float(error))


def fitted_in_rounds(
    network: Any, prior_of: Any, network_of: Any, dataset: Dataset, plan: dict[str, Any], progress: bool, label: str
) -> Fitted:
    """The fit through `network`, then through the network with proposed edges, as often as the plan says or until none
    is proposed; the round of the best objective counts, whose prior charges for edges.

    **Arguments:** `prior_of`: a model's prior of a network; `network_of`: a network of rows (regulator, target, sign,
    confidence)."""
    settings = FitPlan(**plan["fit"], seed=plan["seeds"][0])
    rounds: list[Fitted] = []
    new: list[tuple[str, str, float, float]] = []
    for turn in range(plan["rounds"] + 1):
        rows = [
            (*edge.split("->"), sign, sure)
            for edge, sign, sure in zip(network.edges, network.sign, network.confidence, strict=True)
        ]
        prior = prior_of(network_of(rows + new))
        here = fitted(prior, dataset, plan, progress, f"{label}, round {turn}")
        rounds.append(here._replace(edges=tuple(f"{a}->{b} ({'+' if s > 0 else '-'})" for a, b, s, _ in new)))
        if turn == plan["rounds"]:
            break
        data = cultures(dataset, prior.center.table, substeps=settings.substeps)
        asked = propose_edges(here.model, prior, data, settings, along="fitted", fdr=plan["fdr"], most=10**6)
        first = asked[asked["proposed"]].drop_duplicates("target")
        if first.empty:
            break
        new += [(r.source, r.target, float(r.sign), plan["confidence"]) for r in first.itertuples()]
    return min(rounds, key=operator.attrgetter("value"))
