"""Does a residual that attends to listed regulators beat a perceptron that sees all genes?

The network of `random_network`: 350 genes, simulated Hill kinetics, prior networks of which a fifth of the edges start
at a wrong gene. The same kinetic model is fitted without a residual, with a perceptron, with attention over the listed
edges and with a form of low rank, one level of noise after the other; every form gets the same steps. Errors are
against noise-free held-out courses; intervals of ratios by resampled genes. A regulator that the prior does not list
cannot be seen by attention, and can by the other two.

Time is that of a fit's step (140 courses, gradient included), after a first fit, so that nothing compiles in it.
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from scipy.stats import rankdata
from tqdm import tqdm

from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.fit import Cultures, FitPlan, attention_table, cultures, fit_groups, listed_edges
from pinnsim.model import CellModel, ModelPrior
from pinnsim.network import Network
from pinnsim.parameter import resolve, trainable
from pinnsim.plot import save
from pinnsim.plot.style import CYCLE, GREY, new_panels, styled
from pinnsim.score.metrics import gene_weights

SMOKE: dict[str, Any] = {
    "genes": 10, "training": 6, "held_out": 2, "noise": [0.1], "forms": ["mlp", "attention"], "draws": 50,
    "fit": {"collocation_steps": 10},
}  # fmt: skip
NAMES = {"none": "no residual", "mlp": "perceptron", "attention": "attention", "low_rank": "low rank"}
WAYS = ("one step", "roll-out")


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Fits every form to the same data and compares what was held out."""
    base = companion(__file__, "random_network")
    real, rate, clean = base.simulated(plan)
    times, training, unit = np.asarray(plan["times"], dtype=float), plan["training"], float(clean.mean())
    fit = FitPlan.model_validate(plan["fit"])
    errors: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for form in tqdm(plan["forms"], desc="forms", unit="form", disable=None if progress else True):
        chosen = {**plan, "model": {**plan["model"], "residual": {"kind": form, **plan["residual"].get(form, {})}}}
        levels = base.levels_of(chosen, real, rate, clean)
        priors = [base.same(levels[0].prior, level.prior) for level in levels]
        table = levels[0].prior.center.table
        data = [
            cultures(base.dataset_of(level, times, training, unit), table, substeps=fit.substeps) for level in levels
        ]
        # One after the other: a step holds what its gradient needs for every course, and attention holds most.
        fit_groups(priors[:1], data[:1], fit.model_copy(update={"collocation_steps": 1}), progress=False)
        began = time.perf_counter()
        models = [
            fit_groups([prior], [part], fit, progress=progress, label=f"{NAMES[form]}, {name_of(level)}").best()
            for prior, part, level in zip(priors, data, levels, strict=True)
        ]
        took = (time.perf_counter() - began) / fit.collocation_steps / len(levels)
        own = levels[0].prior.center.kinetics.residual
        free = 0 if form == "none" else sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(own, trainable(own))))
        metrics[form] = {"numbers of the residual": free, "ms per step": 1e3 * took}
        for k, (level, model) in enumerate(zip(levels, models, strict=True)):
            errors[form, name_of(level)] = base.errors(model, level, clean, times, training, unit)
            here: dict[str, Any] = {w: mse(errors[form, name_of(level)][w]) for w in WAYS}
            here["gate"] = float(resolve(model).kinetics.residual.gate)
            here |= evidence(model, priors[k], level, data[k], fit, real)
            metrics[form][name_of(level)] = here
    named = [name_of(level) for level in levels]
    baselines = {
        name: {w: mse(value) for w, value in errors[plan["forms"][0], name].items() if w not in WAYS} for name in named
    }
    rows, ratios = compared(errors, named, plan)
    more = Acceptance(
        "numbers of attention over those of the perceptron",
        metrics["attention"]["numbers of the residual"] / metrics["mlp"]["numbers of the residual"],
        1.0,
    )
    save(picture(metrics, baselines, named), out / "residual_forms.png")
    note = (
        "The data are simulated. Attention beats the perceptron where a ratio is below 1; it ties where the lower end "
        "of the ratio's 90 % interval (resampled genes) is, though the ratio is not."
    )
    return Findings({**metrics, "attention over": ratios}, baselines, (*rows, more), (note,))


def name_of(level: Any) -> str:
    """A level's name in the results."""
    return f"noise {level.noise:g}, {level.wrong:.0%} of edges wrong"


def mse(error: np.ndarray) -> float:
    """Mean square."""
    return float(np.mean(error**2))


def compared(
    errors: dict[tuple[str, str], dict[str, np.ndarray]], named: list[str], plan: dict[str, Any]
) -> tuple[list[Acceptance], dict[str, dict[str, list[float]]]]:
    """Mean squared errors of attention over those of the other forms, with 90 % intervals, and the rows of the
    perceptron's."""
    rows, found = [], {}
    for other in [form for form in plan["forms"] if form != "attention"]:
        found[other] = {}
        for name in named:
            for way in WAYS:
                ours, theirs = ((errors[form, name][way] ** 2).mean(axis=(0, 1)) for form in ("attention", other))
                weights = np.concatenate(list(gene_weights(len(ours), plan["draws"], plan["seeds"][0])))
                low, high = np.quantile((weights @ ours) / (weights @ theirs), [0.05, 0.95])
                ratio = float(ours.sum() / theirs.sum())
                found[other][f"{way}, {name}"] = [ratio, float(low), float(high)]
                if other == "mlp":
                    rows += [
                        Acceptance(f"{way} MSE of attention over the perceptron's, {name}", ratio, 1.0),
                        Acceptance(f"lower end of that ratio's interval, {way}, {name}", float(low), 1.0),
                    ]
    return rows, found


def evidence(
    model: CellModel, prior: ModelPrior, level: Any, data: Cultures, fit: FitPlan, real: Network
) -> dict[str, float]:
    """How well listed edges that are real are told from those that start at a wrong gene: the chance that a real one
    ranks above a wrong one (area under the ROC curve), by the promoter's strength over its interval and by attention.
    """
    right = np.asarray(level.network.source) == np.asarray(real.source)
    if right.all():
        return {}
    edges = listed_edges(model, prior, data, fit)
    clear = np.abs(edges["strength"]) / np.maximum(edges["hi"] - edges["lo"], np.finfo(float).tiny)
    found = {"AUROC of edges by strength": auroc(clear.to_numpy(), right)}
    if hasattr(model.kinetics.residual, "attended"):
        table = attention_table(model, data, fit)
        found["AUROC of edges by attention"] = auroc(table["attention"].to_numpy(), right)
        found["AUROC of edges by contribution"] = auroc(np.abs(table["contribution"]).to_numpy(), right)
    return found


def auroc(score: np.ndarray, right: np.ndarray) -> float:
    """Chance that a right one has a higher score than a wrong one (Mann and Whitney)."""
    ranks, count = rankdata(score), int(right.sum())
    return float((ranks[right].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


@styled
def picture(metrics: dict[str, Any], baselines: dict[str, Any], named: list[str]) -> Any:
    """Errors of every form by noise, and what a form costs."""
    panels = new_panels(1, 3, (11.5, 3.6))[0]
    for axes, way in zip(panels, WAYS, strict=False):
        place = np.arange(len(named), dtype=float)
        for k, (form, one) in enumerate(metrics.items()):
            beside = place + 0.15 * (k - 0.5 * (len(metrics) - 1))
            axes.plot(beside, [one[name][way] for name in named], "o", color=CYCLE[k], label=NAMES[form])
        if way == "one step":
            level = [baselines[name]["one step, AR(1)"] for name in named]
            axes.hlines(level, place - 0.35, place + 0.35, color=GREY, linestyle="--", label="AR(1) per gene")
        axes.set_xticks(place, [name.partition(",")[0].removeprefix("noise ") for name in named])
        axes.set_xlim(-0.5, len(named) - 0.5)
        axes.set(yscale="log", xlabel="noise (of mean expression)", ylabel="mean squared error (abundance squared)")
        axes.set_title(f"{way.capitalize()}, held-out courses (simulated)")
    panels[0].legend(fontsize=7)
    for k, (form, one) in enumerate(metrics.items()):
        panels[2].plot(one["numbers of the residual"], one["ms per step"], "o", color=CYCLE[k])
        panels[2].annotate(
            NAMES[form],
            (one["numbers of the residual"], one["ms per step"]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
        )
    panels[2].set(xlabel="numbers of the residual", ylabel="time per step of the fit (ms)")
    panels[2].margins(0.2)
    panels[2].set_title("What a form costs")
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
