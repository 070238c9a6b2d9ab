"""Does a kinetic model with a motif network, fitted to one replicate of the yeast cell cycle, forecast the other?

Every interval between two arrays of replicate 1 is fitted as a culture of its own, from its first sample; replicate 2
is then predicted one step ahead from each of its samples, and, named apart, rolled out from its first sample alone.
The prior's widths are chosen by leaving whole intervals of replicate 1 out. Baselines: persistence, AR(1) per gene, a
linear ODE, and the other replicate itself. Shuffled motifs are the control.
"""

import itertools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.data import Dataset
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.fit import FitPlan, cultures, predict_cultures, predict_splits
from pinnsim.fit.evaluate import REAL
from pinnsim.fit.fit import fit_groups
from pinnsim.model import CellModel, ModelConfig, build
from pinnsim.network import Network
from pinnsim.plot import save
from pinnsim.plot.style import BASELINE, MODEL, new_panels, styled
from pinnsim.prior import KineticPrior, half_life_prior
from pinnsim.score import (
    AR1,
    ONE_STEP,
    ROLL_OUT,
    Arm,
    Comparison,
    Copy,
    LinearODE,
    Persistence,
    Split,
    arms,
    compare,
    difference_interval,
    evaluate,
    rmse,
    rmse_interval,
)

data = companion(__file__, "_development_data")

SMOKE: dict[str, Any] = {
    "genes": 40,
    "panel": 40,
    "folds": 2,
    "draws": 20,
    "fit": {"collocation_steps": 10},
    "candidates": {"strength": [0.2], "decay_sd": [1.5]},
}
ROW = "one-step MSE on replicate 2, below persistence"
FIRST, SECOND = "replicate 1", "replicate 2"


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Chooses widths within replicate 1, fits it, and forecasts replicate 2 once."""
    folder = data.data_folder(plan["data"])
    if folder is None:
        missing = float("nan")
        return Findings({}, {}, (Acceptance(ROW, missing, 0.0768),), (data.absent(plan["data"]),))
    both, edges = read(folder)
    genes = regulated(both, edges, plan["genes"])
    strength, decay_sd, selection = choose(
        both.select(genes=regulated(both, edges, plan["panel"])), edges, plan, progress
    )
    both = both.select(genes=genes)
    split = Split("forecast", both.select(conditions=[FIRST]), both.select(conditions=[SECOND]))
    config, network, prior = parts(genes, edges, plan, strength, decay_sd)
    networks = [network, *(network.shuffled(k + 1) for k in range(plan["shuffles"]))]
    fit_plan = FitPlan.model_validate(plan["fit"])
    found: dict[str, dict[str, Comparison]] = {ONE_STEP: {}, ROLL_OUT: {}}
    (truth,) = arms(split.test)
    for number, wired in enumerate(networks):
        model = fitted(config, wired, prior, intervals(split.train), fit_plan, progress)
        name = "pinnsim" if number == 0 else f"shuffled motifs {number}"
        found[ONE_STEP][name] = stepped(model, truth, split.test, fit_plan)
        found[ROLL_OUT][name] = compare(course(model, split.test, fit_plan)[0], truth)
    (first,) = arms(split.train)
    baselines = {"persistence": Persistence(), "AR(1) per gene": AR1(), "linear ODE": LinearODE()}
    for mode in (ONE_STEP, ROLL_OUT):
        for name, baseline in baselines.items():
            found[mode][name] = evaluate(baseline, split, mode)
        shape = found[mode]["persistence"]
        # Known at every time, so that it is no forecast: a mark of what measurement error leaves.
        copied = Comparison(mode, shape.times, first.values[1:], shape.observed, shape.start, shape.mask)
        found[mode]["the other replicate, same time"] = copied
    found[ROLL_OUT]["copy of the other replicate's change"] = evaluate(Copy(), split, ROLL_OUT)
    scores = {mode: {name: mse(one, plan["draws"]) for name, one in rows.items()} for mode, rows in found.items()}
    ours, persistence = found[ONE_STEP]["pinnsim"], found[ONE_STEP]["persistence"]
    rows = (Acceptance(ROW, scores[ONE_STEP]["pinnsim"]["mse"], scores[ONE_STEP]["persistence"]["mse"]),)
    less = {
        mode: {
            name: difference_interval(all_of["pinnsim"], one, plan["draws"])._asdict()
            for name, one in all_of.items()
            if name != "pinnsim"
        }
        for mode, all_of in found.items()
    }
    save(picture(scores, ours, persistence), out / "yeast_forecast.png")
    mechanistic = {mode: {n: s for n, s in one.items() if n not in BASELINES} for mode, one in scores.items()}
    metrics = {
        **mechanistic,
        "RMSE of pinnsim less that of": less,
        "selection within replicate 1": selection,
        "genes": len(genes),
        "edges": len(network.edges),
    }
    trivial = {mode: {n: s for n, s in one.items() if n in BASELINES} for mode, one in scores.items()}
    notes = (
        f"Chosen within replicate 1: strength {strength:g}, decay_sd {decay_sd:g}.",
        "'The other replicate, same time' knows the answer's time course and is no forecast.",
        "A sample's own error is part of what a step starts from: decay rates that were fitted are effective ones, and "
        "hold the return of a noisy reading to the gene's level as well as decay.",
    )
    return Findings(metrics, trivial, rows, notes)


BASELINES = {
    "persistence",
    "AR(1) per gene",
    "linear ODE",
    "the other replicate, same time",
    "copy of the other replicate's change",
}


def read(folder: Path) -> tuple[Dataset, pd.DataFrame]:
    """Both replicates as conditions, and the motif edges whose regulator was measured."""
    names = pd.read_csv(folder / "pramila3551_gene_names.csv")["x"].astype(str).tolist()
    tables = [
        np.genfromtxt(folder / f"pramila_3551genes_{part}_24T.csv", delimiter=",", skip_header=1)
        for part in ("1sample", "1VALsample")
    ]
    values = np.stack([table[:-1].T for table in tables])[:, None]
    both = Dataset.build(
        values, tables[0][-1], names, (FIRST, SECOND), time_unit="min", scale="log2", source="Pramila et al. 2006"
    )
    edges = pd.read_csv(folder / "motif_prior.csv", skipinitialspace=True)
    edges.columns = ["regulator", "target", "weight"]
    kept = edges[edges["regulator"].isin(names) & edges["target"].isin(names)]
    return both, kept[["regulator", "target"]].reset_index(drop=True)


def regulated(both: Dataset, edges: pd.DataFrame, count: int) -> list[str]:
    """All genes, or `count`: the regulators of most genes and the genes that vary most in replicate 1."""
    if not count:
        return list(both.genes)
    variance = np.asarray(both.values)[0, 0].var(axis=0)
    order = [both.genes[k] for k in np.argsort(-variance)]
    most = edges["regulator"].value_counts().index[: count // 4].tolist()
    return [*most, *(gene for gene in order if gene not in most)][:count]


def parts(
    genes: list[str], edges: pd.DataFrame, plan: dict[str, Any], strength: float, decay_sd: float
) -> tuple[ModelConfig, Network, KineticPrior]:
    """What a model of these genes is built from."""
    inside = edges[edges["regulator"].isin(genes) & edges["target"].isin(genes)]
    config = ModelConfig.model_validate(
        {**plan["model"], "regulation": {**plan["model"]["regulation"], "strength": strength}}
    )
    prior = half_life_prior(None, genes, "yeast", "min")
    prior = eqx.tree_at(lambda p: p.rate.log_sd, prior, jnp.full(len(genes), decay_sd))
    return config, Network.from_frame(inside, genes=genes), prior


def intervals(course: Dataset) -> Dataset:
    """Every interval between two samples of a single course as a condition of its own, from time 0."""
    times, values = course.times[0], np.asarray(course.values)[0, 0]
    pairs = np.stack([values[:-1], values[1:]], axis=1)[:, None]
    grid = np.stack([np.zeros(len(times) - 1), np.diff(times)], axis=1)
    names = [f"{a:g}-{b:g}" for a, b in itertools.pairwise(times)]
    return Dataset.build(pairs, grid, course.genes, names, time_unit="min", scale="log2", source=course.source)


def choose(
    both: Dataset, edges: pd.DataFrame, plan: dict[str, Any], progress: bool
) -> tuple[float, float, list[dict[str, float]]]:
    """The widths with the lowest one-step error over intervals of replicate 1 that were left out."""
    steps = intervals(both.select(conditions=[FIRST]))
    blocks = np.array_split(np.arange(len(steps.conditions)), plan["folds"])
    splits = []
    for block in blocks:
        held = [steps.conditions[k] for k in block]
        rest = [name for name in steps.conditions if name not in held]
        splits.append(Split(f"without {held[0]} to {held[-1]}", steps.select(rest), steps.select(held)))
    table = []
    for strength, decay_sd in itertools.product(*plan["candidates"].values()):
        config, network, prior = parts(list(both.genes), edges, plan, strength, decay_sd)
        quick = FitPlan.model_validate(plan["fit"])
        found = predict_splits(config, network, prior, steps, quick, splits, progress=progress)
        error = [(p.mean - p.truth)[p.mask] ** 2 for p in found.predictions if p.variant == REAL]
        table.append({"strength": strength, "decay_sd": decay_sd, "mse": float(np.concatenate(error).mean())})
    best = min(table, key=lambda row: row["mse"])
    return best["strength"], best["decay_sd"], table


def fitted(
    config: ModelConfig, network: Network, prior: KineticPrior, steps: Dataset, plan: FitPlan, progress: bool
) -> CellModel:
    """The model fitted to intervals, (member, ...)."""
    center = build(config, network, prior)
    training = cultures(steps, center.center.table, substeps=plan.substeps)
    return fit_groups([center], [training], plan, progress=progress, label="replicate 1").ensemble()


def course(models: CellModel, dataset: Dataset, plan: FitPlan) -> np.ndarray:
    """Predictions of every condition, (condition, time, gene), the mean of the members."""
    data_of = cultures(dataset, models.table, substeps=plan.substeps)
    return predict_cultures(models, data_of, plan).mean(axis=0)


def stepped(models: CellModel, truth: Arm, dataset: Dataset, plan: FitPlan) -> Comparison:
    """Every sample predicted from the one before it."""
    ahead = course(models, intervals(dataset), plan)[:, 1]
    return Comparison(ONE_STEP, truth.times[1:], ahead, truth.values[1:], truth.values[:-1], truth.mask[1:])


def mse(comparison: Comparison, draws: int) -> dict[str, float]:
    """Mean squared error with its interval over genes."""
    error = rmse_interval(comparison, draws)
    return {"mse": rmse(comparison) ** 2, "lo": error.lo**2, "hi": error.hi**2}


@styled
def picture(scores: dict[str, dict[str, dict[str, float]]], ours: Comparison, persistence: Comparison) -> np.ndarray:
    """Errors of everything, one step ahead and rolled out; and along the course."""
    panels = new_panels(1, 3, (13.0, 3.8))[0]
    for ax, mode in zip(panels[:2], (ONE_STEP, ROLL_OUT), strict=True):
        names = sorted(scores[mode], key=lambda name: -scores[mode][name]["mse"])
        for row, name in enumerate(names):
            one = scores[mode][name]
            ax.barh(row, one["mse"], color=MODEL if name == "pinnsim" else BASELINE, alpha=0.8)
            ax.plot([one["lo"], one["hi"]], [row, row], color="black", linewidth=1.2)
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="mean squared error (log2 ratio)²", title=f"Replicate 2, {mode}")
    for name, one, colour in (("pinnsim", ours, MODEL), ("persistence", persistence, BASELINE)):
        panels[2].plot(one.times, ((one.predicted - one.observed) ** 2).mean(axis=1), color=colour, label=name)
    panels[2].set(xlabel="time after release (min)", ylabel="mean squared error (log2 ratio)²", title="One step ahead")
    panels[2].legend()
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
