"""Does a model fitted to snapshots of some perturbations predict kinds of perturbations that it has not seen?

A simulated bistable network of 30 genes: cells under control, some knock-outs, knock-downs, over-expressions and a
ligand are measured; the model is fitted to pseudo-bulk per valley, through a network prior with missing and wrong
edges, and predicts whole populations under other knock-outs, doses, folds, double knock-outs and sequence variants.
Baselines know what was measured: no change, the mean effect, effects scaled and added up, and a ridge regression along
the network.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from pinnsim.data import Dataset
from pinnsim.distance import Energy, over_times
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PINK, RED, SKY, new_panels, save, styled, titled
from pinnsim.treatment import Treatment

bistable = companion(__file__, "_bistable")
effects = companion(__file__, "_effects")
free = companion(__file__, "_free_running")

SMOKE: dict[str, Any] = {
    "genes": 10,
    "cells": 16,
    "predicted_cells": 8,
    "dt": 0.5,
    "times": [0.0, 6.0, 12.0],
    "settle": 4.0,
    "knocked_out": 3,
    "knocked_down": 1,
    "over_expressed": 1,
    "doses": [0.5],
    "folds": [3.0],
    "doubles": 6,
    "variants": 3,
    "bootstrap": 50,
    "rest": 60.0,
    "chunk": 128,
    "shuffled": False,
    "kept_on": 24.0,
    "rounds": 0,
    "free": {"steps": 10},
    "fit": {"starts": 1, "substeps": 4, "collocation_steps": 10},
}
FITTED, UNFITTED, SHUFFLED, AGAIN = "fitted model", "unfitted model", "shuffled network", "truth, other cells"
BASELINES = ("no change", "mean effect", "additive", "ridge")
KINDS = {
    "knock-outs of other genes": BASELINES,
    "knock-downs": BASELINES,
    "over-expression": BASELINES,
    "double knock-outs, both measured": BASELINES,
    "double knock-outs, others": BASELINES,
    "weaker binding sites": BASELINES,
    "slower translation": BASELINES,
}


class Populations(NamedTuple):
    """Readings of cells, per unit of size factor: the control and every held-out trial; what of the control's cells is
    in the second valley; attractors under every double knock-out, (start, trial, species), and unperturbed."""

    control: np.ndarray
    held: np.ndarray
    ends: np.ndarray
    rest: np.ndarray


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Simulates, fits, predicts and scores."""
    rng = np.random.default_rng(plan["seeds"][0])
    truth = bistable.world(plan, rng)
    genes = truth.kinetics.table.genes
    training, held = effects.trials(plan, bistable.names_of(plan["genes"])[1], truth.network, truth.listed, rng)
    doubles = [t for t in held if t.kind.startswith("double")]
    sim = Simulator(plan, genes, held, doubles)
    control, begin, rest = sim.unperturbed(truth.kinetics, bistable.starts(genes), 0.5, 1)
    seen, dataset = measure(plan, truth, training, control, begin, rng)
    actual = sim.populations(truth.kinetics, begin, rest, control, 2, rng)

    share = bistable.valley_of(control, genes).mean()
    valleys = np.stack([control[bistable.valley_of(control, genes) == v].mean(axis=0) for v in (0, 1)])
    predicted = {}
    models, told = fitted_models(plan, truth, dataset, progress)
    for name, model in models.items():
        kinetics = resolve(model).kinetics
        readings, states, attractors = sim.unperturbed(kinetics, valleys / plan["capture"], share, 3)
        predicted[name] = sim.populations(kinetics, states, attractors, readings, 4, rng)
    # What a perfect model would score: the truth with another draw of cells and noise.
    predicted[AGAIN] = sim.populations(truth.kinetics, begin, rest, control, 5, rng)
    table = scores(plan, held, seen, control, actual, predicted)
    fates = fates_of(plan, held, doubles, actual, predicted[FITTED])
    picture(plan, table, fates, out / "unseen_perturbations.png")
    return findings(plan, table, fates, truth, training, told)


class Simulator(NamedTuple):
    """How populations are made, of the truth and of models alike."""

    plan: dict[str, Any]
    genes: tuple[str, ...]
    held: list[Any]
    doubles: list[Any]

    def unperturbed(
        self, kinetics: GeneKinetics, rna: np.ndarray, share: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Readings and states of cells at rest, of which `share` lie in the second valley, and both attractors."""
        plan, none = self.plan, bistable.acting_of(kinetics, [Treatment()])
        rest = bistable.attractors(kinetics, rna, none, plan)[:, 0]
        count = 4 * plan["cells"]
        cells = np.where(np.arange(count)[:, None] < round(share * count), rest[1], rest[0])
        states = bistable.pushed(kinetics, none, cells[None], plan, plan["settle"], seed)[0]
        rng = np.random.default_rng([plan["seeds"][0], seed])
        states = rng.permutation(states)
        return bistable.read(states, len(self.genes), plan, rng), states, rest

    def populations(
        self, kinetics: GeneKinetics, begin: np.ndarray, rest: np.ndarray, control: np.ndarray, seed: int, rng: Any
    ) -> Populations:
        """What comes of these cells under every held-out trial."""
        plan, acting = self.plan, bistable.acting_of(kinetics, [t.treatment for t in self.held])
        valley = bistable.valley_of(plan["capture"] * begin[:, : len(self.genes)], self.genes)
        cells = np.stack([begin[bistable.stratified(valley, plan["predicted_cells"], rng)] for _ in self.held])
        ended = bistable.pushed(kinetics, acting, cells, plan, plan["times"][-1], seed)
        doubles = bistable.acting_of(kinetics, [t.treatment for t in self.doubles])
        ends = bistable.attractors(kinetics, rest[:, : len(self.genes)], doubles, plan)
        return Populations(control, bistable.read(ended, len(self.genes), plan, rng), ends, rest)


def measure(
    plan: dict[str, Any], truth: Any, training: list[Any], control: np.ndarray, begin: np.ndarray, rng: Any
) -> tuple[Any, Dataset]:
    """What is measured: effects at the last time, for baselines; pseudo-bulk per valley and time, for the model."""
    genes, every = truth.kinetics.table.genes, [effects.Trial("control", Treatment()), *training]
    times, count, readings = plan["times"], plan["cells"], []

    def taken(trials: list[Any], until: float, seed: int) -> np.ndarray:
        own = np.stack([rng.permutation(begin)[:count] for _ in trials])
        acting = bistable.acting_of(truth.kinetics, [t.treatment for t in trials])
        return bistable.read(bistable.pushed(truth.kinetics, acting, own, plan, until, seed), len(genes), plan, rng)

    for k, until in enumerate(times[1:]):
        readings.append(taken(every, until, 10 + k))
    logs = np.log1p(control)
    changes = np.log1p(readings[-1][1:]).mean(axis=1) - logs.mean(axis=0)
    seen = effects.Measured(tuple(training), changes, np.corrcoef(logs.T), truth.listed)
    # One more culture that nothing is done to, and for long: that valleys hold is something to be measured, too.
    every, kept_on = [*every, every[0]], [times[0], *(plan["kept_on"] * np.arange(1, len(times)) / (len(times) - 1))]
    readings = [np.concatenate([r, taken(every[:1], t, 20)]) for r, t in zip(readings, kept_on[1:], strict=True)]
    shape = (len(every), 2, len(times), len(genes))
    values, sd, mask = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape, bool)
    usual = [np.mean(bistable.valley_of(control, genes) == v) for v in (0, 1)]
    for c in range(len(every)):
        for k, cells in enumerate([control, *(r[c] for r in readings)]):
            valley, last = bistable.valley_of(cells, genes), k == len(times) - 1
            share = [np.mean(valley == v) for v in (0, 1)]
            for v in (0, 1):
                # Cells of a valley that is empty in the end are in the other one; on their way they are not known.
                moved = last and share[v] < plan["emptied"]
                own, mixed = cells[valley == (1 - v if moved else v)], moved or share[v] > usual[v] + 0.1
                if len(own) >= 5 and (moved or share[v] >= plan["emptied"]) and (last or not mixed):
                    mean, error = own.mean(axis=0), np.sqrt((own.var(axis=0) + 1.0) / len(own))
                    values[c, v, k], mask[c, v, k] = np.log2(0.5 + mean), True
                    off = plan["moved_error" if mixed else "mean_error"]
                    sd[c, v, k] = np.hypot(error / ((0.5 + mean) * np.log(2.0)), off)
    alone = mask.any(axis=3).sum(axis=2) < 2  # a valley that nobody is left in
    mask[alone] = False
    names = ["control", *(str(t.treatment) for t in training), "control, kept on"]
    dataset = Dataset.build(
        np.where(mask, values, np.nan),
        np.stack([times] * (len(every) - 1) + [kept_on]),
        genes,
        names,
        ("valley 1", "valley 2"),
        sd=sd,
        treatments={name: t.treatment for name, t in zip(names, every, strict=True)},
        time_unit="h",
        scale="log2",
        missing="mask",
        simulated=True,
        source="simulated",
    )
    return seen, dataset


def fitted_models(
    plan: dict[str, Any], truth: Any, dataset: Dataset, progress: bool
) -> tuple[dict[str, CellModel], dict[str, Any]]:
    """The fitted model, the same before any fit, and one fitted through a shuffled network, to which no edges are
    added; and how well they fit."""
    networks, told = {FITTED: truth.listed}, {}
    if plan["shuffled"]:
        networks[SHUFFLED] = truth.listed.shuffled(plan["seeds"][0])
    found = {UNFITTED: bistable.model_prior(truth, truth.listed, plan).center}
    real = {f"{a} ({'+' if s > 0 else '-'})" for a, s in zip(truth.network.edges, truth.network.sign, strict=True)}
    for name, network in networks.items():
        best = free.fitted_in_rounds(
            network,
            partial(bistable.model_prior, truth, plan=plan),
            partial(bistable.network_of, genes=truth.network.genes),
            dataset,
            plan if name == FITTED else {**plan, "rounds": 0},
            progress,
            name,
        )
        found[name] = best.model
        told[name] = {
            "objective, nats": best.value,
            "error of fitted readings, log2 RMS": best.error,
            "edges proposed": list(best.edges),
            "of these right": sum(edge in real for edge in best.edges),
        }
    return found, told


def scores(
    plan: dict[str, Any], held: list[Any], seen: Any, control: np.ndarray, actual: Populations, predicted: Any
) -> pd.DataFrame:
    """Errors of every method and held-out trial: of the change of mean log expression (RMSE over genes), and as energy
    distance of populations. Genes whose own factor was changed do not count."""
    genes = list(seen.network.genes)
    others = np.array([[g not in t.targets for g in genes] for t in held])
    true = np.log1p(actual.held)
    change = true.mean(axis=1) - np.log1p(control).mean(axis=0)
    valley, rng = bistable.valley_of(control, seen.network.genes), np.random.default_rng(plan["seeds"][0])
    begin = np.log1p(control[bistable.stratified(valley, plan["predicted_cells"], rng)])
    changes = {
        "no change": np.zeros_like(change),
        "mean effect": effects.mean_effect(seen, held),
        "additive": effects.additive(seen, held),
        "ridge": effects.ridge(seen, held),
    }
    cells = {name: np.maximum(begin[None] + value[:, None], 0.0) for name, value in changes.items()}
    for name, found in predicted.items():
        cells[name] = np.log1p(found.held)
        changes[name] = cells[name].mean(axis=1) - np.log1p(found.control).mean(axis=0)
    rows = []
    for name, guess in changes.items():
        error = np.sqrt(np.sum((guess - change) ** 2 * others, axis=1) / others.sum(axis=1))
        distance = _energy(cells[name] * others[:, None], true * others[:, None])
        rows += [
            {"kind": t.kind, "treatment": str(t.treatment), "method": name, "rmse": e, "energy": d}
            for t, e, d in zip(held, error, distance, strict=True)
        ]
    return pd.DataFrame(rows)


@jax.jit
def _distances(x: Array, y: Array) -> Array:
    even = [jnp.ones(a.shape[:2], a.dtype) for a in (x, y)]
    return over_times(Energy(unbiased=True), x, y, *even).value


def _energy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(_distances(jnp.asarray(x), jnp.asarray(y)))


class Fates(NamedTuple):
    """Double knock-outs: fates from both valleys, (start, trial), 1 and 2 for the valleys, 0 neither, 3 both; those of
    the truth, of the model, and of a rule of thumb (a cell leaves when its master is gone); which trials leave both
    valleys; shares of cells per fate, (trial, fate)."""

    truth: np.ndarray
    model: np.ndarray
    rule: np.ndarray
    bistable: np.ndarray
    true_shares: np.ndarray
    model_shares: np.ndarray

    def right(self, guess: np.ndarray, which: np.ndarray) -> float:
        """Share of fates that are the truth's."""
        return float(np.mean((guess == self.truth)[:, which]))


def fates_of(
    plan: dict[str, Any], held: list[Any], doubles: list[Any], actual: Populations, model: Populations
) -> Fates:
    """Which masters are on in the end: at half of their own valley's level, or a quarter of it in counts of cells."""
    at = [i for i, t in enumerate(held) if t in doubles]

    def label(levels: np.ndarray, rest: np.ndarray, part: float) -> np.ndarray:
        return (levels[..., 0] > part * rest[0, 0]) * 1 + (levels[..., 1] > part * rest[1, 1]) * 2

    found = [label(p.ends, p.rest, 0.5) for p in (actual, model)]
    stays = np.array([["M1" in t.targets, "M2" in t.targets] for t in doubles]).T
    rule = np.where(stays, np.where(stays[::-1], 0, [[2], [1]]), [[1], [2]])
    shares = [
        np.stack([(label(p.held[at], plan["capture"] * p.rest, 0.25) == k).mean(axis=1) for k in range(4)], axis=1)
        for p in (actual, model)
    ]
    return Fates(*found, rule, (found[0] == [[1], [2]]).all(axis=0), *shares)


def findings(
    plan: dict[str, Any], table: pd.DataFrame, fates: Fates, truth: Any, training: list[Any], told: dict[str, Any]
) -> Findings:
    """Numbers and bars."""
    rows, metrics, baselines = [], {}, {}
    for score, what in (("rmse", "change of mean log expression, RMSE"), ("energy", "energy distance")):
        against = effects.compared(plan, table, score, FITTED)
        for kind, own in KINDS.items():
            part = against[(against["kind"] == kind) & against["method"].isin(own)]
            if part.empty:
                continue
            worst = part.loc[part["difference"].idxmax()]
            rows.append(Acceptance(f"{what}, {kind}: model less best baseline", worst["difference"], 0.0))
            if score == "rmse":
                label = f"{what}, {kind}: upper end of the 95 % interval of model less any baseline"
                rows.append(Acceptance(label, part["high"].max(), 0.0))
        for row in against.to_dict("records"):
            place = metrics if row["method"] in (FITTED, UNFITTED, SHUFFLED, AGAIN) else baselines
            numbers = {k: row[k] for k in ("trials", "other", "difference", "low", "high")}
            place.setdefault(score, {}).setdefault(row["kind"], {})[row["method"]] = numbers
    every, both = np.ones(len(fates.bistable), bool), fates.bistable
    flips = (fates.truth != [[1], [2]]).any(axis=0)
    parts = {"all": every, "both valleys left": both, "a valley lost": flips}
    metrics["fates"] = {
        "double knock-outs": {name: int(which.sum()) for name, which in parts.items()},
        "right, fitted model": {k: fates.right(fates.model, w) for k, w in parts.items() if w.any()},
        "error of shares of cells, mean": float(np.abs(fates.true_shares - fates.model_shares).mean()),
    }
    baselines["fates"] = {
        "right, all stay": {k: fates.right(np.array([[1], [2]]), w) for k, w in parts.items() if w.any()},
        "right, leave when the master is gone": {k: fates.right(fates.rule, w) for k, w in parts.items() if w.any()},
        "error of shares of cells, mean, half and half": float(np.abs(fates.true_shares - [0, 0.5, 0.5, 0]).mean()),
    }
    rows.append(
        Acceptance(
            "share of fates right, double knock-outs that leave both valleys", _or_nan(fates, both), 0.9, "higher"
        )
    )
    rows.append(Acceptance("share of fates right, all double knock-outs", _or_nan(fates, every), 0.9, "higher"))
    right = {(a, b) for a, b in zip(truth.network.edges, truth.network.sign, strict=True)}
    metrics["network prior"] = {
        "edges": len(truth.network.edges),
        "listed": len(truth.listed.edges),
        "listed rightly": sum((a, b) in right for a, b in zip(truth.listed.edges, truth.listed.sign, strict=True)),
    }
    metrics["fits"] = told
    metrics["measured trials"] = [str(t.treatment) for t in training]
    notes = (
        "Simulated: truth and model share their equations; the network prior and the half-lives do not agree with the "
        "truth, protein lifetimes are taken as equal, and the noise's size and the capture are known.",
        "Developed on other networks (seeds 3 and 4), whose held-out scores were seen. An earlier version was run once "
        "on seed 11, without free runs in its fit, and failed every row; this one was run once.",
        "Knock-outs of other genes: of genes that were measured knocked down to 0.3 only; no other dose, fold, pair of "
        "genes, binding site or rate of translation among the held-out ones was measured.",
    )
    return Findings(metrics, baselines, tuple(rows), notes)


def _or_nan(fates: Fates, which: np.ndarray) -> float:
    return fates.right(fates.model, which) if which.any() else float("nan")


@styled
def picture(plan: dict[str, Any], table: pd.DataFrame, fates: Fates, path: Path) -> None:
    """Mean errors by kind and method; shares of cells that end in the first valley."""
    left, right = new_panels(1, 2, (12.5, 5.2), width_ratios=[1.7, 1.0])[0]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    styles = {FITTED: ("o", BLUE), SHUFFLED: ("s", PINK), UNFITTED: ("D", SKY), "no change": ("^", GREY)}
    styles[AGAIN] = ("*", INK)
    styles = {method: look for method, look in styles.items() if (table["method"] == method).any()}
    styles |= {"mean effect": ("v", ORANGE), "additive": ("P", GREEN), "ridge": ("X", RED)}
    rng = np.random.default_rng(0)
    for k, (method, (marker, color)) in enumerate(styles.items()):
        for y, kind in enumerate(kinds):
            each = table[(table["kind"] == kind) & (table["method"] == method)]["rmse"].to_numpy()
            drawn = each[rng.integers(0, len(each), (plan["bootstrap"], len(each)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            at = y + 0.1 * (k - 3)
            left.plot([low, high], [at, at], "-", color=color, linewidth=1.0)
            left.plot(each.mean(), at, marker, color=color, markersize=5, label=method if y == 0 else None)
    counts = [len(table[(table["kind"] == kind) & (table["method"] == FITTED)]) for kind in kinds]
    left.set_yticks(range(len(kinds)), [f"{kind} ({n})" for kind, n in zip(kinds, counts, strict=True)])
    left.set(ylim=(len(kinds) - 0.5, -0.5), xlabel="error of the change of mean log expression (RMSE over genes, nats)")
    left.set_title(titled("Held-out perturbations: mean error and 95 % interval over them", True))
    left.legend(loc="lower right")
    right.plot([0, 1], [0, 1], "-", color=PALE)
    right.plot(fates.true_shares[:, 1], fates.model_shares[:, 1], "o", color=BLUE, markersize=4, alpha=0.6)
    right.set(xlabel="share of cells in valley 1, truth", ylabel="share of cells in valley 1, model", aspect="equal")
    right.set_title(titled("Double knock-outs", True))
    save(left, path)


if __name__ == "__main__":
    raise SystemExit(main(__file__))
