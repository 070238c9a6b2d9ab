"""Does a kinetic model predict a DREAM4 series that it has not seen better than trivial baselines, without a network?

One in-silico network of 100 genes: ten series in which an unknown stimulus is on for the first half and off for the
second. A series is left out and each half predicted from its own first sample.
No network is given: each gene has its half-life and an input of its own, which one stimulus, the same for all series,
may move and which relaxes when it ends. What the held-out series' own stimulus does cannot be known from its first
sample; how it relaxes can. All folds are lanes of one program. Baselines are fitted on the same halves of the others.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.data import Dataset
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import Cultures, FitPlan, cultures, fit_groups, predict_cultures
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, GREY, new_panels, styled
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.score.arm import Arm
from pinnsim.score.baselines import AR1, GeneRelaxation, MeanOfArms, Persistence

SMOKE: dict[str, Any] = {"series": 2, "genes": 6, "fit": {"collocation_steps": 20}}
HALVES = ("stimulus on", "stimulus off")


def folder() -> Path:
    """Where data lie that are not part of the project: PINNSIM_DATA, or `shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("PINNSIM_DATA", beside)) / "dev" / "dream4_size100"


def halves(plan: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Readings (series, half, time, gene), times since the half's first sample, and genes."""
    table = pd.read_csv(folder() / "expression.tsv", sep="\t", index_col="gene").iloc[: plan["genes"]]
    marks = [column.removeprefix("TS_").split("delt_") for column in table.columns[1:]]
    number, clock = (np.array(part, dtype=float) for part in zip(*marks, strict=True))
    readings = table.to_numpy()[:, 1:].T
    courses = [readings[number == half + 1] for half in range(2 * plan["series"])]
    times = clock[number == 1]
    return np.stack(courses).reshape(plan["series"], 2, len(times), -1), times - times[0], tuple(table.index)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every series left out in turn."""
    what = "RMSE of left-out series over that of the best baseline"
    if not folder().exists():
        note = "DREAM4 was not measured: its data are not here (set PINNSIM_DATA to their folder)."
        print(note)
        return Findings({}, {}, (Acceptance(what, float("nan"), 1.0),), (note,))
    readings, times, genes = halves(plan)
    predicted = fitted(plan, readings, times, genes, progress)
    errors = {"pinnsim": predicted - readings}
    for baseline in (Persistence(), MeanOfArms(), GeneRelaxation(), AR1()):
        guess = np.array(readings)
        for left in range(len(readings)):
            for half in range(2):
                train = [Arm.of(times, readings[k, half]) for k in range(len(readings)) if k != left]
                guess[left, half] = baseline.fit(train)(readings[left, half, 0], times)
        errors[baseline.name] = guess - readings
    found = {
        name: {half: rmse(e[:, k]) for k, half in enumerate(HALVES)} | {"both": rmse(e)} for name, e in errors.items()
    }
    ours, others = found["pinnsim"], {name: value for name, value in found.items() if name != "pinnsim"}
    rows = [Acceptance(what, ours["both"] / min(value["both"] for value in others.values()), 1.0)]
    rows += [
        Acceptance(f"{what}, {half}", ours[half] / min(value[half] for value in others.values()), 1.0)
        for half in HALVES
    ]
    save(picture(found), out / "dream4.png")
    note = "Simulated data (GeneNetWeaver); the network is not given, and times are in the simulator's own unit."
    return Findings({"pinnsim": ours}, others, tuple(rows), (note,))


def fitted(
    plan: dict[str, Any], readings: np.ndarray, times: np.ndarray, genes: tuple[str, ...], progress: bool
) -> np.ndarray:
    """The left-out series as the fit to all others predicts them, (series, half, time, gene)."""
    series, count = len(readings), len(genes)
    names = [f"{half}, series {k}" for k in range(series) for half in HALVES]
    dataset = Dataset.build(
        readings.reshape(2 * series, 1, len(times), count), times, genes, names,
        treatments={n: "signal(stimulus)=1@0:" if n.startswith(HALVES[0]) else "signal(stimulus)=1@:0" for n in names},
        time_unit="min", scale="linear", simulated=True,
    )  # fmt: skip
    rate = LogNormal(jnp.full(count, np.log(2) / plan["half_life"]), jnp.full(count, plan["half_life_log_sd"]))
    prior = KineticPrior(rate, genes, ("given: wide",) * count, "mrna", "min")
    model = build(ModelConfig.model_validate(plan["model"]), Network.empty(genes), prior)
    fit = FitPlan.model_validate(plan["fit"])
    data = cultures(dataset, model.center.table, substeps=fit.substeps)
    folds = [_without(data, left) for left in range(series)]
    result = fit_groups([model] * series, folds, fit, progress=progress, label="series left out")
    found = np.zeros_like(readings)
    for left in range(series):
        every = predict_cultures(result.ensemble(left), data, fit).mean(axis=0)
        found[left] = every.reshape(readings.shape)[left]
    return found


def _without(data: Cultures, left: int) -> Cultures:
    """A fold: the readings of one series do not count."""
    return dataclasses.replace(data, mask=data.mask.at[2 * left : 2 * left + 2].set(False))


def rmse(error: np.ndarray) -> float:
    """Over all times after the first, (..., time, gene)."""
    return float(np.sqrt(np.mean(error[..., 1:, :] ** 2)))


@styled
def picture(found: dict[str, dict[str, float]]) -> Any:
    """Errors of both halves, the model first."""
    panels = new_panels(1, 2, (8.4, 3.2), sharey=True)[0]
    for axes, half in zip(panels, HALVES, strict=True):
        values = [found[name][half] for name in found]
        axes.barh(list(found), values, color=[BLUE] + [GREY] * (len(found) - 1))
        axes.invert_yaxis()
        axes.set(xlabel="RMSE of left-out series (expression)")
        axes.set_title(f"DREAM4, {half} (simulated)")
    panels[0].invert_yaxis()
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
