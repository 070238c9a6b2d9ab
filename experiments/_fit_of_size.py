"""One bulk fit of a given size in a process of its own, so that its peak memory is its own.

A simulated network in which every gene has `regulators` regulators from a tenth of the genes, read at a few times
after some regulators' transcription was changed; the last condition is held out and predicted from its first sample.
Prints a JSON object: processor seconds per step and peak memory (GiB) of each stage, and errors.
"""

import dataclasses
import json
import resource
import sys
import time
from typing import Any

import jax
import numpy as np

from pinnsim.data import Dataset
from pinnsim.fit import FitPlan, cultures, predict_cultures
from pinnsim.fit.fit import draw_start
from pinnsim.fit.objective import collocation_readings, trajectory_readings
from pinnsim.fit.optimise import Lanes, Progress, Stage, run_stage, with_parameters
from pinnsim.fit.schedule import learning_rates
from pinnsim.model import ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.precision import enable_x64
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.simulate import FromState, simulate
from pinnsim.tree import stack


def network_of(genes: int, regulators: int, rng: np.random.Generator) -> Network:
    """Signed edges from a tenth of the genes to all of them, `regulators` each."""
    pool = max(genes // 10, 2 * regulators)
    counts = np.full(genes, regulators)
    source = np.concatenate([rng.choice(pool, count, replace=False) for count in counts])
    edges = len(source)
    names = tuple(f"g{i}" for i in range(genes))
    return Network(
        source=source,
        target=np.repeat(np.arange(genes), counts),
        sign=np.where(rng.random(edges) < 0.6, 1.0, -1.0),
        confidence=np.ones(edges),
        genes=names,
        regulators=names[:pool],
        kind=("",) * edges,
        origin=("simulated",) * edges,
    )


def prior_of(network: Network, log_sd: float, rng: np.random.Generator) -> KineticPrior:
    """Half-lives of about two hours."""
    genes = len(network.genes)
    rate = LogNormal(jax.numpy.asarray(0.35 * np.exp(0.5 * rng.standard_normal(genes))), jax.numpy.full(genes, log_sd))
    return KineticPrior(rate, network.genes, ("given: simulated",) * genes, "mrna", "h")


def model_of(plan: dict[str, Any], genes: int) -> ModelPrior:
    """The model of `genes` genes at the centre of its prior."""
    rng = np.random.default_rng(plan["seeds"][0])
    network = network_of(genes, plan["regulators"], rng)
    return build(ModelConfig.model_validate(plan["model"]), network, prior_of(network, plan["half_life_log_sd"], rng))


def simulated(plan: dict[str, Any], prior: ModelPrior) -> Dataset:
    """Noisy log2 readings of a model drawn from the prior, a condition per set of changed regulators."""
    rng = np.random.default_rng(plan["seeds"][0] + 1)
    truth = draw_start(prior, jax.random.key(plan["seeds"][0]), 1.0)
    times = np.asarray(plan["times"], dtype=float)
    names, treatments = [f"shift {c}" for c in range(plan["conditions"])], []
    pool = len(prior.center.table.regulators)
    for _ in names:
        changed = rng.choice(pool, max(pool // 4, 1), replace=False)
        folds = np.where(rng.random(len(changed)) < 0.5, 4.0, 0.25)
        treatments.append(", ".join(f"g{i}*{fold:g}@0:" for i, fold in zip(changed, folds, strict=True)))
    # From half the maximal expression, left alone until it rests: a search for the steady state would cost more.
    span = np.concatenate([[-plan["settling"]], times])
    begin = FromState(resolve(truth).kinetics.default_state())
    readings = np.array(simulate(truth, span, treatments, initial=begin).raise_failures().readings)[:, 1:]
    readings += plan["noise"] * rng.standard_normal(readings.shape)
    return Dataset.build(
        readings[:, None],
        times,
        prior.center.table.genes,
        names,
        treatments=dict(zip(names, treatments, strict=True)),
        time_unit="h",
        scale="log2",
        simulated=True,
    )


def memory() -> float:
    """The largest memory that this process has had so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(plan: dict[str, Any], genes: int) -> dict[str, Any]:
    """Seconds and memory of each stage, and errors on the condition that was held out, log2."""
    prior = model_of(plan, genes)
    settings = FitPlan.model_validate(plan["fit"])
    data = cultures(simulated(plan, prior), prior.center.table, substeps=settings.substeps)
    found: dict[str, Any] = {"genes": genes, "edges": len(prior.center.table.edges), "memory before": memory()}
    fitted = dataclasses.replace(data, mask=data.mask.at[-1].set(False), names=())
    lanes = Lanes(*(stack([part]) for part in (prior.center, prior, fitted)))
    stages = [
        ("collocation", collocation_readings, settings.learning_rate, settings.collocation_steps),
        ("trajectories", trajectory_readings, settings.trajectory_learning_rate, settings.trajectory_steps),
    ]
    for name, predict, peak, steps in stages:
        found[f"{name}, seconds per step"] = 0.0
        if not steps:
            continue
        stage, marks = Stage(name, predict, learning_rates(settings, peak, steps)), [(0, time.process_time())]

        def note(done: int, progress: Progress, marks: list[tuple[int, float]] = marks) -> None:
            jax.block_until_ready(progress.best_value)
            marks.append((done, time.process_time()))

        progress = run_stage(lanes, stage, settings.settings(), None, 0, note)
        lanes = lanes._replace(models=with_parameters(lanes, progress.best))
        # The first chunk compiles.
        (first, begun), (last, ended) = marks[1], marks[-1]
        found[f"{name}, seconds per step"] = (ended - begun) / max(last - first, 1)
        found[f"{name}, seconds to compile"] = begun - marks[0][1] - first * found[f"{name}, seconds per step"]
        found[f"{name}, memory"] = memory()
    readings = np.asarray(data.readings[-1])
    for name, models in (("fitted", lanes.models), ("prior", stack([prior.center]))):
        predicted = predict_cultures(models, data, settings)[0, -1]
        found[f"error, {name}"] = rmse(predicted[1:] - readings[1:])
    found["error, persistence"] = rmse(readings[1:] - readings[:1])
    found["memory"], found["seconds"] = memory(), time.process_time()
    return found


def rmse(difference: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(difference**2)))


if __name__ == "__main__":
    enable_x64()
    print(json.dumps(measured(json.loads(sys.argv[1]), int(sys.argv[2]))))
