"""Does a kinetic model of cell states predict myoblasts at a time that was left out, better than trivial populations?

Single cells of Trapnell et al. 2014 (271 cells, 0 to 72 h after the switch to differentiation medium). States of cells
are clusters of the training cells; cells go from state to state by first-order reactions

    s_i -> s_j   at rate k_ij s_i,     ln k_ij ~ Normal(ln(median) - d_ij^2 / (2 h^2), sd),

d the distance of their centres and h its median between nearest ones. Rates are fitted to the numbers of cells per
state and time, as Poisson counts; the prediction for the time left out are the training cells, weighted so that states
have the shares that the model says. Nothing is chosen with cells of that time: not genes, scale, states or rates.
"""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from pinnsim.data import Snapshots
from pinnsim.distance import Energy
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.errors import PinnsimWarning
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import (
    ByLikelihood,
    Extrinsic,
    FitPlan,
    PopulationModel,
    PopulationPrior,
    SampledBegin,
    fit_data,
    fit_populations,
)
from pinnsim.observation import LinearReadout, Observation, Poisson
from pinnsim.parameter import frozen, positive, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, CYCLE, DASHES, GREY, new_panels, styled
from pinnsim.simulate import ODE

SMOKE: dict[str, Any] = {
    "genes": 10,
    "states": {"count": 3, "components": 2, "starts": 1},
    "fit": {"steps": 10},
    "score": {"bootstrap": 20, "others": []},
}
MODEL = "cell-state kinetics"
TRIVIAL = ("previous time", "mixture of neighbours", "transport between neighbours")
ABSENT = (
    "Not run: the data set 'hsmm_myoblast' is absent; name the folder that holds ship/hsmm_myoblast in PINNSIM_DATA."
)
SEEN = (
    "While the experiment was designed, distances of all four times and of mixtures of them in any proportion were "
    "looked at; numbers of genes, states and starts were then set once, and no score of this model was seen before."
)


class Split(NamedTuple):
    """A time left out: features of training cells and their times, of held-out cells, and the times."""

    points: np.ndarray
    hours: np.ndarray
    held: np.ndarray
    time: float
    times: tuple[float, ...]
    genes: tuple[str, ...]


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All times left out, all starts of k-means, as lanes of one program."""
    cells = read()
    if cells is None:
        rows = tuple(Acceptance(bar_name(time), float("nan"), 0.0) for time in plan["held"])
        return Findings({}, {}, rows, (ABSENT,))
    splits = [split_of(*cells, float(time), plan["genes"]) for time in plan["held"]]
    shares = predict(splits, plan, plan["states"]["count"], progress)
    metrics: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    rows, notes, scores = [], [], []
    for split, (weights, course) in zip(splits, shares, strict=True):
        score = score_of(split, weights, plan)
        scores.append((split, course, score))
        best = min(TRIVIAL, key=lambda name: score[name]["distance"])
        rows.append(Acceptance(bar_name(split.time), score[MODEL]["distance"], score[best]["distance"]))
        name = f"{split.time:g} h left out"
        metrics[name] = {
            MODEL: score[MODEL],
            "less the best trivial population": score["less"][best],
            "best trivial population": best,
            "halves of the held-out cells (floor)": score["floor"],
            "genes": list(split.genes),
        }
        baselines[name] = {trivial: score[trivial] for trivial in (*TRIVIAL, "next time")}
        low, high = score["less"][best]["lo"], score["less"][best]["hi"]
        verdict = "below" if rows[-1].holds else "NOT below"
        clear = "" if (high < 0) == rows[-1].holds and (high < 0 or low > 0) else ", within the spread of bootstraps"
        notes.append(f"{name}: the model is {verdict} the best trivial population ({best}){clear}.")
    for count in plan["score"]["others"]:
        for split, (weights, _) in zip(splits, predict(splits, plan, count, progress), strict=True):
            found = energy(split.points, split.held, weights, np.ones(len(split.held)))
            metrics[f"{split.time:g} h left out"][f"{MODEL}, {count} states instead"] = found
    save(picture(scores), out / "hsmm.png")
    return Findings(metrics, baselines, tuple(rows), (*notes, SEEN, SCALE))


SCALE = (
    "Features: log(1 + FPKM) over its standard deviation among training cells, of genes chosen by training cells. "
    "Distances: energy distance without pairs of a cell with itself, which is 0 on average for equal populations; "
    "intervals draw cells anew and keep the fitted shares of states."
)


def bar_name(time: float) -> str:
    """What a row says."""
    return f"{time:g} h left out: energy distance to the held-out cells, against the best trivial population"


def read() -> tuple[pd.DataFrame, np.ndarray] | None:
    """log(1 + FPKM), (cell, gene), and hours, (cell,); `None` where the data are absent."""
    root = os.environ.get("PINNSIM_DATA")
    folder = Path(root) if root else Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = folder / "ship" / "hsmm_myoblast"
    if not folder.is_dir():
        return None
    hours = pd.read_csv(folder / "cells.csv", index_col=0)["Hours"]
    table = pd.read_csv(folder / "hsmm_fpkm_hvg.csv.gz", index_col=0)
    symbols = table.pop("symbol")
    table = table[~symbols.duplicated().to_numpy()].set_axis(symbols[~symbols.duplicated().to_numpy()])
    return np.log1p(table[hours.index].T), hours.to_numpy(dtype=float)


def split_of(logs: pd.DataFrame, hours: np.ndarray, time: float, genes: int) -> Split:
    """Genes and scale by the training cells alone."""
    training = hours != time
    values, when = logs.to_numpy()[training], hours[training]
    times = tuple(np.unique(when).tolist())
    means = np.stack([values[when == t].mean(axis=0) for t in times])
    inside = np.sqrt(np.mean([values[when == t].var(axis=0) for t in times], axis=0) + 0.05)
    chosen = np.argsort(-np.ptp(means, axis=0) / inside, kind="stable")[:genes]
    sd = values[:, chosen].std(axis=0)
    names = tuple(str(logs.columns[k]) for k in chosen)
    return Split(values[:, chosen] / sd, when, logs.to_numpy()[~training][:, chosen] / sd, time, times, names)


def predict(
    splits: list[Split], plan: dict[str, Any], count: int, progress: bool
) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """For each split weights of its training cells, (cell,), summed to 1, and the course of the states of one start."""
    starts, lanes = plan["states"]["starts"], []
    for split in splits:
        centred = split.points - split.points.mean(axis=0)
        scores = centred @ np.linalg.svd(centred, full_matrices=False)[2][: plan["states"]["components"]].T
        for k in range(starts):
            lanes.append((split, *states_of(scores, count, [plan["seeds"][0], k])))
    fitting = FitPlan(
        starts=1,
        substeps=1,
        trajectory_steps=plan["fit"]["steps"],
        trajectory_learning_rate=plan["fit"]["learning_rate"],
    )
    priors = [prior_of(centres, plan["rates"]) for _, centres, _ in lanes]
    match = ByLikelihood()
    data = [
        fit_data(prior, counted(split, label, count), match, fitting, 1)
        for prior, (split, _, label) in zip(priors, lanes, strict=True)
    ]
    fitted = fit_populations(priors, data, match, fitting, progress=progress, label=f"{count} states")
    courses = np.asarray(shares_at(fitted.models, jnp.stack([one.seeds[0, 0, 0] for one in data]), splits, starts))
    found = []
    for k, split in enumerate(splits):
        weights = np.zeros(len(split.points))
        mine = range(k * starts, (k + 1) * starts)
        for row in mine:
            label = lanes[row][2]
            share = np.maximum(courses[row, 1], 0.0)
            weights += (share / np.maximum(np.bincount(label, minlength=count), 1))[label]
        label = lanes[k * starts][2]
        seen = [np.bincount(label[split.hours == t], minlength=count) / (split.hours == t).sum() for t in split.times]
        middles = np.stack([split.points[label == state].mean(axis=0) for state in range(count)])
        held = np.argmin(cdist(split.held, middles), axis=1)
        course = {
            "times": np.asarray(GRID) * max(split.times),
            "shares": courses[k * starts, 2:],
            "seen": np.asarray(seen),
            "held": np.bincount(held, minlength=count) / len(held),
        }
        found.append((weights / weights.sum(), course))
    return found


GRID = tuple(np.linspace(0.0, 1.0, 25).tolist())


def states_of(scores: np.ndarray, count: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres and labels; drawn again where a state comes out empty."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            return kmeans2(scores, count, minit="++", seed=rng, missing="raise")
        except ClusterError:
            continue


def prior_of(centres: np.ndarray, said: dict[str, Any]) -> PopulationPrior:
    """First-order reactions between all states, rarer between distant ones."""
    count = len(centres)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    apart = cdist(centres, centres)
    reach = np.median(np.where(np.eye(count) > 0, np.inf, apart).min(axis=1))
    rate = [said["median"] * np.exp(-0.5 * (apart[i, j] ** 2 / reach**2 - 1)) for i, j in pairs]
    kinetics = reaction_system(
        [Reaction(f"{i} to {j}", f"s{i}.cells -> s{j}.cells", 1.0) for i, j in pairs], time_unit="h"
    )
    kinetics = eqx.tree_at(lambda k: k.law.constant, kinetics, positive(np.maximum(rate, 1e-6)))
    counter = Observation(LinearReadout(frozen(jnp.ones(count)), frozen(1e-3)), Poisson())
    alike = Extrinsic(jnp.zeros(()), ODE(rtol=1e-5, atol=1e-7, max_steps=512), ())
    center = PopulationModel(kinetics, SampledBegin(), alike, (counter,))
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, center)
    spread = eqx.tree_at(lambda m: m.kinetics.law.constant.raw, still, jnp.full(len(pairs), said["sd"]))
    return PopulationPrior(center, spread)


def counted(split: Split, label: np.ndarray, count: int) -> Snapshots:
    """Numbers of cells per state: a row per time, with the cells of that time as its exposure."""
    rows = np.stack([np.bincount(label[split.hours == t], minlength=count) for t in split.times])
    with warnings.catch_warnings():
        # A row is a whole population here, so one row per time is not few.
        warnings.simplefilter("ignore", PinnsimWarning)
        return Snapshots.build(
            rows,
            split.times,
            [f"s{k}" for k in range(count)],
            ("cells",),
            exposure=rows.sum(axis=1),
            time_unit="h",
            scale="counts",
        )


def shares_at(models: PopulationModel, begin: Array, splits: list[Split], starts: int) -> Array:
    """Shares of states, (lane, time, state): at the start, at the time left out, and along a grid."""
    held = np.repeat([split.time / max(split.times) for split in splits], starts)
    span = np.repeat([max(split.times) for split in splits], starts)
    wanted = np.concatenate([np.zeros((len(held), 1)), held[:, None], np.tile(GRID, (len(held), 1))], axis=1)
    order = np.argsort(wanted, axis=1, kind="stable")
    # A solver's times increase: ties (the start, and perhaps a node) are moved by a billionth.
    times = np.take_along_axis(wanted, order, axis=1) + 1e-9 * np.arange(wanted.shape[1])
    found = _courses(models, begin, jnp.asarray(times * span[:, None]))
    return jnp.take_along_axis(found, jnp.asarray(np.argsort(order, axis=1))[:, :, None], axis=1)


@eqx.filter_jit
def _courses(models: PopulationModel, begin: Array, times: Array) -> Array:
    def one(model: PopulationModel, begin: Array, times: Array) -> Array:
        cell, key = resolve(model), jnp.zeros((1, 2), jnp.uint32)
        plain = Perturbation.none(cell.kinetics.table)
        return cell.push.courses(cell.kinetics, times, times, plain, begin[None], key)[0][0]

    return eqx.filter_vmap(one)(models, begin, times)


def energy(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased energy distance of weighted cells."""
    return float(DISTANCE(*(jnp.asarray(part, dtype=float) for part in (x, y, a, b))).value)


DISTANCE = eqx.filter_jit(Energy(unbiased=True))


def score_of(split: Split, weights: np.ndarray, plan: dict[str, Any]) -> dict[str, Any]:
    """Distances of all predictions to the held-out cells, with bootstrap intervals over cells."""
    before, after = max(t for t in split.times if t < split.time), min(t for t in split.times if t > split.time)
    first, second = (np.flatnonzero(split.hours == t) for t in (before, after))
    # The optimal coupling of the neighbours, and the points on its straight lines.
    apart = cdist(split.points[first], split.points[second]) ** 2
    coupling = transport(apart)
    i, j = np.nonzero(coupling > 1e-12)
    share = (split.time - before) / (after - before)
    between = (1 - share) * split.points[first[i]] + share * split.points[second[j]]
    points = np.concatenate([split.points, between])
    cells = len(split.points)

    def every(count: np.ndarray) -> dict[str, np.ndarray]:
        """Weights of all points, given how often each training cell was drawn."""
        found = {"previous time": first, "next time": second}
        rows = {name: np.where(np.isin(np.arange(cells), at), count, 0.0) for name, at in found.items()}
        halves = [rows[name] / max(rows[name].sum(), 1.0) for name in found]
        rows["mixture of neighbours"] = halves[0] + halves[1]
        rows[MODEL] = weights * count
        rows = {name: np.concatenate([row, np.zeros(len(between))]) for name, row in rows.items()}
        moved = coupling[i, j] * count[first[i]] * count[second[j]]
        return {**rows, "transport between neighbours": np.concatenate([np.zeros(cells), moved])}

    rng = np.random.default_rng(plan["seeds"][0])
    ones = np.ones(len(split.held))
    here = {name: energy(points, split.held, row, ones) for name, row in every(np.ones(cells)).items()}
    drawn: dict[str, list[float]] = {name: [] for name in here}
    floor = []
    for _ in range(plan["score"]["bootstrap"]):
        count = np.concatenate([resampled(rng, split.hours == t) for t in split.times])
        order = np.concatenate([np.flatnonzero(split.hours == t) for t in split.times])
        times_drawn = np.zeros(cells)
        times_drawn[order] = count
        mine = resampled(rng, np.ones(len(split.held), bool))
        for name, row in every(times_drawn).items():
            drawn[name].append(energy(points, split.held, row, mine))
        half = rng.permutation(len(split.held)) < len(split.held) // 2
        floor.append(energy(split.held, split.held, half.astype(float), (~half).astype(float)))
    result: dict[str, Any] = {name: {"distance": here[name], **ends(drawn[name])} for name in here}
    result["less"] = {
        name: {"distance": here[MODEL] - here[name], **ends(np.subtract(drawn[MODEL], drawn[name]))} for name in TRIVIAL
    }
    result["floor"] = {"distance": float(np.mean(floor)), **ends(floor)}
    return result


def resampled(rng: np.random.Generator, which: np.ndarray) -> np.ndarray:
    """How often each of these cells is drawn, with replacement."""
    count = int(which.sum())
    return rng.multinomial(count, np.full(count, 1.0 / count)).astype(float)


def ends(values: Any) -> dict[str, float]:
    """95 % interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return {"lo": float(low), "hi": float(high)}


def transport(cost: np.ndarray) -> np.ndarray:
    """The optimal coupling of equally weighted cells, exact."""
    n, m = cost.shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    marginals = np.concatenate([np.full(n, 1.0 / n), np.full(m, 1.0 / m)])
    return linprog(cost.ravel(), A_eq=sums, b_eq=marginals, method="highs").x.reshape(n, m)


@styled
def picture(scores: list[tuple[Split, dict[str, np.ndarray], dict[str, Any]]]) -> np.ndarray:
    """Distances with bootstrap intervals, and the courses of the states of one start."""
    axes = new_panels(2, len(scores), (6.2 * len(scores), 6.5))
    names = (MODEL, *TRIVIAL, "next time")
    for (split, course, score), top, below in zip(scores, axes[0], axes[1], strict=True):
        for k, name in enumerate(names):
            one = score[name]
            top.barh(k, one["distance"], color=BLUE if name == MODEL else GREY)
            top.plot([one["lo"], one["hi"]], [k, k], color="black", lw=1.0)
        top.axvspan(
            *(score["floor"][end] for end in ("lo", "hi")),
            color=CYCLE[2],
            alpha=0.3,
            label="halves of the held-out cells",
        )
        top.set_yticks(range(len(names)), names)
        top.invert_yaxis()
        top.set(xlabel="energy distance to the held-out cells (lines: 95 %)")
        top.set_title(f"myoblasts, {split.time:g} h left out")
        top.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
        for k in range(course["shares"].shape[1]):
            look: dict[str, Any] = {"color": CYCLE[k % len(CYCLE)], "marker": "os^Dv*"[k % 6], "ls": "none"}
            dash = ("-", *DASHES)[k % (1 + len(DASHES))]
            below.plot(course["times"], course["shares"][:, k], color=look["color"], ls=dash)
            below.plot(split.times, course["seen"][:, k], ms=4, label=f"state {k + 1}", **look)
            below.plot(split.time, course["held"][k], mfc="none", ms=6, **look)
        below.set(xlabel="time (h)", ylabel="share of cells in a state")
        below.set_title("fitted to filled points; open ones left out")
        below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    return axes


if __name__ == "__main__":
    raise SystemExit(main(__file__))
