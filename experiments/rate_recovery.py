"""Which rates do single cells tell, does the library know which, and are its intervals right?

Simulated cells: a signed network, unspliced and spliced counts and counted protein tags, at several times after a
stimulus or a knock-out. Truths are drawn from the prior, so that intervals should hold the truth as often as they say.
A tenth of the half-lives is known; the control gives these to other genes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from scipy.stats import norm
from scipy.stats import t as student
from tqdm import tqdm

from pinnsim.data import Snapshots
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import (
    ByLikelihood,
    Extrinsic,
    FitPlan,
    Laplace,
    PopulationModel,
    PopulationPrior,
    RestingBegin,
    Stepped,
    fit_data,
    fit_populations,
    laplace_snapshots,
    polish_snapshots,
    rate_table,
)
from pinnsim.fit.fit import draw_start
from pinnsim.model import InputConfig, ModelConfig, RegulationConfig, build
from pinnsim.network import Network
from pinnsim.observation import LinearReadout, NegativeBinomial, Observation
from pinnsim.parameter import frozen, positive, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, GREY, ORANGE, RED, new_panels, styled, titled
from pinnsim.prior import KineticPrior, LogNormal, rate_of
from pinnsim.simulate import ODE
from pinnsim.simulate.steady import steady_state
from pinnsim.treatment import as_treatment

SMOKE: dict[str, Any] = {
    "seeds": [0, 1],
    "network": {"genes": 3, "regulators": 1, "constitutive": 1},
    "cells": {"times": [0.0, 2.0, 12.0], "each": 12, "knockouts": 0, "pooled": 2},
    "fit": {"steps": 0, "polish": 1},
}
LAYERS = ("unspliced", "spliced", "protein")
KINDS = ("synthesis", "splicing", "decay", "translation", "protein_decay")
FLAT = 30.0  # how much wider priors are made to ask what cells tell without them
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Fits all data sets and their controls as lanes of one program, then asks each posterior."""
    cases = [case(plan, seed) for seed in plan["seeds"]]
    fitting = FitPlan(
        starts=1,
        initial="rest",
        substeps=plan["fit"]["substeps"],
        trajectory_steps=plan["fit"]["steps"],
        trajectory_learning_rate=plan["fit"]["learning_rate"],
    )
    match = ByLikelihood()
    data = [fit_data(one.prior, one.seen, match, fitting, 1) for one in cases]
    priors = [one.prior for one in cases] + [one.shuffled for one in cases]
    fitted = fit_populations(priors, data * 2, match, fitting, progress=progress, label="rates")
    rows, left, controls = [], [], []
    settings = {"plan": fitting, "match": match, "progress": False}
    for k, one in enumerate(tqdm(cases, desc="posteriors", disable=None if progress else True)):
        polished = [
            polish_snapshots(
                fitted.best_of(group), prior, data[k], steps=plan["fit"]["polish"], tolerance=0.05, **settings
            )
            for group, prior in ((k, one.prior), (k + len(cases), one.shuffled))
        ]
        left += [promised for _, promised in polished]
        posterior = laplace_snapshots(polished[0][0], one.prior, data[k], **settings)
        at_truth = laplace_snapshots(one.truth, one.prior, data[k], **settings)
        table = rate_table(posterior).assign(
            seed=plan["seeds"][k],
            width_alone=width_alone(at_truth),
            truth=np.asarray(posterior.free.value(jnp.asarray(at_truth.estimate))),
            raw=posterior.estimate,
            sd=posterior.sd,
            raw_truth=at_truth.estimate,
            raw_prior=np.asarray(posterior.free.center),
        )
        table["kind"] = table["parameter"].str.partition(":")[0]
        rows.append(table[table["kind"].isin(KINDS)])
        controls.append([half_life_error(model, one.truth) for model, _ in polished])
    rates = pd.concat(rows, ignore_index=True)
    save(picture(rates), out / "rate_recovery.png")
    return found(rates, np.asarray(controls), np.asarray(left), plan)


def found(rates: pd.DataFrame, controls: np.ndarray, left: np.ndarray, plan: dict[str, Any]) -> Findings:
    """Numbers and bars."""
    told = rates[rates["verdict"] == "identified"]
    silent = rates[rates["width_alone"] >= 1.0]
    covered = {f"{level:g}": coverage(rates, level) for level in LEVELS}
    worse = controls[:, 1] - controls[:, 0]
    low, high = interval(worse)
    rows = (
        Acceptance("correlation of log rates called identified, estimate and truth", correlation(told), 0.9, "higher"),
        Acceptance(
            "the same of log rates over their prior medians, which no prior gives",
            correlation(told, over_prior=True),
            0.9,
            "higher",
        ),
        Acceptance("90 % intervals: share that holds the truth, at the least", covered["0.9"], 0.85, "higher"),
        Acceptance("90 % intervals: share that holds the truth, at the most", covered["0.9"], 0.95),
        Acceptance(
            f"rates that the cells alone cannot tell (with priors {FLAT:g} times as wide, at the truth, wider than the "
            "prior): share not called identified",
            share(silent["verdict"] != "identified"),
            0.9,
            "higher",
        ),
        Acceptance(
            "known half-lives given to other genes: mean absolute log error of half-lives, more by, lower end of the "
            "95 % interval over data sets",
            low,
            0.0,
            "higher",
        ),
    )
    verdicts = pd.crosstab(rates["kind"], rates["verdict"])
    metrics = {
        "rates": len(rates),
        "called identified": len(told),
        "cannot be told": len(silent),
        "verdicts of what cannot be told, by kind": {
            str(k): row.to_dict() for k, row in pd.crosstab(silent["kind"], silent["verdict"]).iterrows()
        },
        "verdicts by kind": {str(k): row.to_dict() for k, row in verdicts.iterrows()},
        "correlation by kind, of those identified": {
            k: correlation(part, over_prior=True) for k, part in told.groupby("kind") if len(part) > 3
        },
        "coverage by level": covered,
        "coverage of 90 % intervals by verdict": {v: coverage(p, 0.9) for v, p in rates.groupby("verdict")},
        "coverage of 90 % intervals by kind": {v: coverage(p, 0.9) for v, p in rates.groupby("kind")},
        "mean absolute log error of half-lives": {
            "known ones": controls[:, 0].mean(),
            "shuffled": controls[:, 1].mean(),
        },
        "95 % interval of the difference": [low, high],
        "largest fall of the objective still promised, nats": float(left.max()),
    }
    baseline = {
        "mean absolute log error of the prior's medians": float((rates["raw_prior"] - rates["raw_truth"]).abs().mean())
    }
    notes = (
        "All data are simulated, and their truths are drawn from the prior that is fitted with.",
        f"Cells of a population were summed into {plan['cells']['pooled']} pseudo-bulk samples before the fit.",
        "Dispersions of cells are gamma, independent between genes and layers given the mean course.",
    )
    return Findings(metrics, baseline, rows, notes)


def width_alone(posterior: Laplace) -> np.ndarray:
    """Posterior width of each number where all priors are `FLAT` times as wide, over its prior width: what the cells
    alone cannot tell stays wide, what other rates' priors told is no longer told."""
    wider = FLAT**2 * posterior.eigenvalues
    return FLAT * np.sqrt(np.maximum(1.0 - posterior.basis**2 @ (wider / (1.0 + wider)), 0.0))


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set: its truth, the prior with known half-lives, that with these at other genes, and what was counted."""

    truth: PopulationModel
    prior: PopulationPrior
    shuffled: PopulationPrior
    seen: Snapshots


def case(plan: dict[str, Any], seed: int) -> Case:
    """Draws network, truth, half-life measurements and cells."""
    rng = np.random.default_rng(seed)
    broad = prior_of(plan)
    for attempt in range(50):
        truth = draw_start(broad, jax.random.fold_in(jax.random.key(seed), attempt), 1.0)
        cells = cells_of(plan, truth, rng)
        if cells is not None:
            break
    genes = len(broad.center.kinetics.table.genes)
    known = max(1, round(plan["prior"]["known_share"] * genes))
    chosen = {kind: rng.choice(genes, known, replace=False) for kind in ("decay", "protein_decay")}
    prior = shuffled = broad
    for kind, at in chosen.items():
        error = plan["prior"]["known_sd"]
        measured = np.asarray(getattr(truth.kinetics, kind).raw)[at] + error * rng.standard_normal(known)
        others = rng.permutation(np.setdiff1d(np.arange(genes), at))[:known]
        prior, shuffled = (told(p, kind, where, measured, error) for p, where in ((prior, at), (shuffled, others)))
    return Case(truth, prior, shuffled, cells.pooled(plan["cells"]["pooled"], seed))


def told(prior: PopulationPrior, kind: str, at: np.ndarray, raw: np.ndarray, sd: float) -> PopulationPrior:
    """The prior with these rates measured."""
    place = lambda p: (getattr(p.center.kinetics, kind).raw, getattr(p.spread.kinetics, kind).raw)  # noqa: E731
    center, spread = place(prior)
    return eqx.tree_at(place, prior, (center.at[at].set(raw), spread.at[at].set(sd)))


def network_of(sizes: dict[str, Any]) -> Network:
    """One or two regulators for each gene but the constitutive ones; two edges of three activate. The same for all data
    sets, whose rates and strengths differ."""
    rng = np.random.default_rng(sizes["seed"])
    names = [f"g{k}" for k in range(sizes["genes"])]
    edges = []
    for k, target in enumerate(names[: sizes["genes"] - sizes["constitutive"]]):
        for source in rng.choice(sizes["regulators"], min(sizes["regulators"], 1 + k % 2), replace=False):
            edges.append((names[source], target, 1 if rng.random() < 2 / 3 else -1))
    return Network.from_frame(pd.DataFrame(edges, columns=["regulator", "target", "sign"]), names)


def prior_of(plan: dict[str, Any]) -> PopulationPrior:
    """Medians and widths before anything is known of single genes."""
    said, network = plan["prior"], network_of(plan["network"])
    count, sd = len(network.genes), said["rate_sd"]
    config = ModelConfig(
        layers=LAYERS,
        time_unit="h",
        synthesis=said["synthesis"],
        synthesis_sd=sd,
        splicing_half_life=said["splicing_half_life"],
        translation=said["translation"],
        translation_sd=sd,
        protein_half_life=said["protein_half_life"],
        inputs=(InputConfig(name="stimulus", regulator_sd=1.0, own_sd=0.0),),
        regulation=RegulationConfig(
            hidden="none", strength=2.0, strength_sd=0.4, affinity=50.0, affinity_sd=0.5, basal=-0.5, basal_sd=1.0
        ),
    )
    rate = LogNormal(jnp.asarray(np.full(count, rate_of(said["mrna_half_life"]))), jnp.full(count, sd))
    known = KineticPrior(rate, network.genes, ("given: median",) * count, "mrna", "h")
    cell = build(config, network, known)
    instruments = tuple(
        Observation(LinearReadout(frozen(jnp.ones(count)), frozen(0.0)), NegativeBinomial(positive(alpha)))
        for alpha in np.asarray(plan["cells"]["dispersion"]) * group_share(plan["cells"])
    )
    center = PopulationModel(cell.center.kinetics, RestingBegin(), Stepped(), instruments)
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, center)
    widths = eqx.tree_at(
        lambda k: (k.splicing.raw, k.protein_decay.raw), cell.spread.kinetics, (jnp.full(count, sd),) * 2
    )
    spread = eqx.tree_at(
        lambda m: (m.kinetics, *(one.likelihood.dispersion.raw for one in m.observations)),
        still,
        (widths, *[jnp.asarray(0.3)] * len(LAYERS)),
    )
    return PopulationPrior(center, spread)


def group_share(cells: dict[str, Any]) -> float:
    """Dispersion of a group's sum over that of its cells: sum e^2 / (sum e)^2, on average."""
    return float(np.exp(cells["depth_sd"] ** 2) * cells["pooled"] / cells["each"])


@eqx.filter_jit
def mean_courses(truth: PopulationModel, perturbations: Perturbation, times: Array) -> Array:
    """Amounts, (condition, time, species), solved finely; NaN where the cells do not rest before the switch."""
    cell = resolve(truth)
    exact = Extrinsic(jnp.zeros(()), ODE(rtol=1e-8, atol=1e-9), ())
    key = jnp.zeros((1, 2), jnp.uint32)

    def one(perturbation: Perturbation) -> Array:
        begin = steady_state(cell.kinetics, perturbation).state
        safe = jnp.where(jnp.isfinite(begin), begin, 1.0)
        courses, _ = exact.courses(cell.kinetics, times, times, perturbation, safe[None], key)
        return jnp.where(jnp.all(jnp.isfinite(begin)), courses[0], jnp.nan)

    return jax.vmap(one)(perturbations)


def cells_of(plan: dict[str, Any], truth: PopulationModel, rng: np.random.Generator) -> Snapshots | None:
    """Counted cells; `None` where this truth has no rest to start from."""
    said, table = plan["cells"], truth.kinetics.table
    treatments = {"stimulus": "signal(stimulus)=1@0:"}
    treatments |= {f"{gene} off": f"{gene}=0@0:" for gene in table.genes[: said["knockouts"]]}
    acting = Perturbation.stack([as_treatment(text).resolve(table) for text in treatments.values()])
    means = np.asarray(mean_courses(truth, acting, jnp.asarray(said["times"])))
    if not np.isfinite(means).all():
        return None
    means = np.maximum(means[..., : len(LAYERS) * len(table.genes)], 1e-9)
    means = means.reshape(*means.shape[:2], len(LAYERS), -1)
    alpha = np.asarray([float(jnp.exp(one.likelihood.dispersion.raw)) for one in truth.observations])
    alpha = alpha[:, None] / group_share(said)
    condition, time = (np.repeat(k.ravel(), said["each"]) for k in np.indices(means.shape[:2]))
    depth = np.exp(said["depth_sd"] * rng.standard_normal(len(time)) - 0.5 * said["depth_sd"] ** 2)
    expected = depth[:, None, None] * means[condition, time]
    return Snapshots.build(
        rng.poisson(rng.gamma(1.0 / alpha, alpha * expected)),
        np.asarray(said["times"])[time],
        table.genes,
        LAYERS,
        np.asarray(list(treatments))[condition],
        exposure=depth,
        treatments=treatments,
        time_unit="h",
        scale="counts",
        simulated=True,
    )


def half_life_error(model: PopulationModel, truth: PopulationModel) -> float:
    """Mean absolute log error of mRNA and protein half-lives."""
    pairs = [(getattr(m.kinetics, kind).raw for m in (model, truth)) for kind in ("decay", "protein_decay")]
    return float(np.mean([np.abs(np.asarray(a) - np.asarray(b)).mean() for a, b in pairs]))


def correlation(rates: pd.DataFrame, over_prior: bool = False) -> float:
    """Of log rates, estimate and truth; NaN for fewer than three."""
    if len(rates) < 3:
        return float("nan")
    shift = rates["raw_prior"] if over_prior else 0.0
    return float(np.corrcoef(rates["raw"] - shift, rates["raw_truth"] - shift)[0, 1])


def coverage(rates: pd.DataFrame, level: float) -> float:
    """Share of intervals of this level that hold the truth."""
    return share(np.abs(rates["raw_truth"] - rates["raw"]) <= norm.ppf(0.5 + 0.5 * level) * rates["sd"])


def share(holds: pd.Series) -> float:
    """How many do; NaN of none."""
    return float(holds.mean()) if len(holds) else float("nan")


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean over data sets (Student)."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


@styled
def picture(rates: pd.DataFrame) -> np.ndarray:
    """Estimates against truths with 90 % intervals, and how often intervals hold."""
    axes = new_panels(1, 2, (9.0, 4.2))
    left, right = axes.ravel()
    colours = {"prior echo": GREY, "in part": ORANGE, "identified": BLUE}
    half = norm.ppf(0.95) / np.log(2)
    for verdict, colour in colours.items():
        part = rates[rates["verdict"] == verdict]
        x, y = ((part[name] - part["raw_prior"]) / np.log(2) for name in ("raw_truth", "raw"))
        label = f"{verdict} ({len(part)})"
        left.errorbar(x, y, half * part["sd"], fmt="o", ms=2.5, lw=0.5, color=colour, alpha=0.7, label=label)
    ends = [np.log2(np.e) * float(f(rates["raw_truth"] - rates["raw_prior"])) for f in (np.min, np.max)]
    left.plot(ends, ends, color=RED, lw=1.0, label="equal")
    left.set(xlabel="true rate over prior median (log2)", ylabel="estimate over prior median (log2)")
    left.set_title(titled("rates from single cells", True))
    left.legend(loc="upper left")
    levels = np.linspace(0.05, 0.99, 40)
    right.plot([0, 1], [0, 1], color=RED, lw=1.0, label="as they say")
    right.plot(levels, [coverage(rates, level) for level in levels], color=BLUE, label="all rates")
    part = rates[rates["verdict"] == "identified"]
    right.plot(levels, [coverage(part, level) for level in levels], "--", color=BLUE, label="called identified")
    right.set(xlabel="level of the interval", ylabel="share that holds the truth")
    right.set_title(titled("intervals", True))
    right.legend(loc="upper left")
    return axes


if __name__ == "__main__":
    raise SystemExit(main(__file__))
