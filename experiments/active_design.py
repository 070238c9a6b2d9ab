"""Does choosing the next experiment by its expected information teach more than choosing at random?

Simulated cells: a small signed network whose rates are drawn from the prior. Candidates are knock-outs and
over-expressions of each gene, read early, midway or late, one gene at a time. From the same opening, one policy
chooses by expected information at its own fit, the other at random; both refit after every round. Beside it, what is
exact: the gain of linear models in closed form, and greedy batches against exhaustive search.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.design import Experiment, Price, candidates, design_rounds
from pinnsim.design.experiments import layout_of
from pinnsim.design.gain import Outlook, after_choice, gains
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import FitPlan
from pinnsim.fit.fit import draw_start
from pinnsim.fit.free import free_vector
from pinnsim.model import ModelConfig, ModelPrior, build
from pinnsim.plot import policy_courses, save
from pinnsim.specimens import network_of, prior_of
from pinnsim.table import Table
from pinnsim.treatment import Treatment

SMOKE: dict[str, Any] = {
    "seeds": [0, 1],
    "rounds": 1,
    "bootstrap": 100,
    "network": {"genes": 2},
    "candidates": {"factors": [0.0], "times": [[1.0, 3.0], [6.0, 12.0]]},
    "fit": {"polish": 2, "rtol": 1e-3, "atol": 1e-5},
    "greedy": {"draws": 3, "candidates": 6},
}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Both policies on every truth, and the exact checks."""
    prior = prior_model(plan)
    genes = prior.center.table.genes
    fitting = FitPlan(
        starts=plan["fit"]["starts"],
        keep=1,
        collocation_steps=0,
        trajectory_steps=0,
        polish_steps=plan["fit"]["polish"],
        initial="rest",
        substeps=1,
        rtol=plan["fit"]["rtol"],
        atol=plan["fit"]["atol"],
    )
    treatments = [edited(gene, factor) for gene in genes for factor in plan["candidates"]["factors"]]
    readouts = [group for size in plan["candidates"]["together"] for group in groups(genes, size)]
    pool = candidates(treatments, plan["candidates"]["times"], readouts, cost=Price())
    opening = candidates(["none"], [1.0])
    truths = [draw_start(prior, jax.random.key(1000 + seed), 1.0) for seed in plan["seeds"]]
    table = design_rounds(
        prior, truths, pool, opening=opening, rounds=plan["rounds"], plan=fitting, seed=7, progress=progress
    )
    saved = paired(table, plan["bootstrap"])
    exact, greedy = closed_form(plan), greedy_share(plan)
    save(
        policy_courses(table, title="Error of the rates after each experiment", simulated=True),
        out / "active_design.png",
    )
    last = table[table["round"] == plan["rounds"]]
    told = table[table["round"] > 0].groupby("policy")["gain"].mean()
    error = last.groupby("policy")["error"].mean()
    rows = (
        Acceptance(
            "error of the rates after the last round, random less active, lower end of the 95 % bootstrap interval over"
            " repeats",
            saved["last"][1],
            0.0,
            "higher",
        ),
        Acceptance("the same, mean over all rounds after the opening", saved["all rounds"][1], 0.0, "higher"),
        Acceptance(
            "gain of linear models with normal errors, largest error against the closed form, nats", exact, 1e-9
        ),
        Acceptance(
            "greedy batches, least share of the best batch's information (at least 1 - 1/e)",
            greedy,
            1 - np.exp(-1),
            "higher",
        ),
    )
    metrics = {
        "repeats": len(truths),
        "candidates": len(pool),
        "free rates": len(free_vector(prior.center, prior).names),
        "error after the last round, in prior widths": error.to_dict(),
        "error after the opening, in prior widths": float(table[table["round"] == 0]["error"].mean()),
        "random less active: mean and 95 % interval": {name: list(values) for name, values in saved.items()},
        "repeats in which active ends with the smaller error": wins(last),
        "posterior's own width after the last round": last.groupby("policy")["width"].mean().to_dict(),
        "expected gain per experiment, nats": told.to_dict(),
    }
    notes = (
        "All data are simulated; truths are drawn from the prior that is fitted with, and the model is right.",
        "Errors are root mean squares over all free numbers in prior standard deviations; both policies start from the "
        "same opening and read the same noise.",
    )
    return Findings(metrics, {"error of the prior's centre": 1.0}, rows, notes)


def prior_model(plan: dict[str, Any]) -> ModelPrior:
    """A ring of genes that regulate one another, read in log2."""
    sd = plan["network"]["sd"]
    config = ModelConfig.model_validate(
        {
            "synthesis": 4.0,
            "synthesis_sd": sd["synthesis"],
            "regulation": {
                "hidden": "none",
                "basal": -0.5,
                "basal_sd": sd["basal"],
                "strength_sd": sd["strength"],
                "affinity_sd": sd["affinity"],
            },
            "readout": {"kind": "array"},
            "likelihood": {"kind": "gaussian", "sd": plan["network"]["noise"]},
        }
    )
    network = network_of(plan["network"]["genes"])
    return build(config, network, prior_of(network))


def edited(gene: str, factor: float) -> str:
    """Synthesis of a gene multiplied from time 0 on, as text."""
    return f"{gene}=0@0:" if factor == 0 else f"{gene}*{factor:g}@0:"


def groups(genes: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    """Genes that are read together."""
    return list(itertools.combinations(genes, size))


def paired(table: pd.DataFrame, draws: int) -> dict[str, tuple[float, float, float]]:
    """Mean of error (random less active) and its 95 % bootstrap interval over repeats."""
    wide = table.pivot_table(index="repeat", columns=["round", "policy"], values="error")
    rounds = sorted(set(table["round"]) - {0})
    apart = np.stack([(wide[r, "random"] - wide[r, "active"]).to_numpy() for r in rounds], axis=1)
    rng, found = np.random.default_rng(0), {}
    for name, values in (("last", apart[:, -1]), ("all rounds", apart.mean(axis=1))):
        means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
        found[name] = (float(values.mean()), *(float(q) for q in np.quantile(means, [0.025, 0.975])))
    return found


def wins(last: pd.DataFrame) -> float:
    """Share of repeats in which the active policy has the smaller error."""
    wide = last.pivot_table(index="repeat", columns="policy", values="error")
    return float((wide["active"] < wide["random"]).mean())


def line(root: np.ndarray, times: np.ndarray, sd: float) -> Outlook:
    """`y = a + b t`: a linear model, one gene."""
    rows = np.stack([np.ones_like(times), times], axis=1) @ root
    shape = (1, len(times), 1)
    return Outlook(jnp.zeros(shape), jnp.full(shape, sd), jnp.asarray(rows)[None, :, None], None, jnp.ones(1, bool))


def closed_form(plan: dict[str, Any]) -> float:
    """Largest error of the gain of straight lines: 1/2 log of a 2 x 2 determinant, written out."""
    rng, worst = np.random.default_rng(1), 0.0
    times = np.linspace(0.0, 6.0, 7)
    table = Table(("g",), (), (), (), ("g.mrna",), ())
    chosen = [Experiment(Treatment(), tuple(times[:k])) for k in range(1, 8)]
    layout = layout_of(chosen, table, 0.0)
    for _ in range(plan["greedy"]["draws"]):
        a, b, sd = rng.uniform(0.1, 3.0, 3)
        told = np.asarray(gains(line(np.diag([a, b]), times, sd), layout, None).gain)
        for value, one in zip(told, chosen, strict=True):
            t = np.asarray(one.times)
            exact = (1 + len(t) * a**2 / sd**2) * (1 + np.sum(t**2) * b**2 / sd**2) - (a * b * np.sum(t) / sd**2) ** 2
            worst = max(worst, abs(float(value) - 0.5 * np.log(exact)))
    return worst


def greedy_share(plan: dict[str, Any]) -> float:
    """Least share of the best batch's information that a greedy batch has, over random linear models."""
    count, size = plan["greedy"]["candidates"], plan["greedy"]["batch"]
    rng, least = np.random.default_rng(2), 1.0
    table = Table(("g",), (), (), (), ("g.mrna",), ())
    layout = layout_of([Experiment(Treatment(), (float(k),)) for k in range(count)], table, 0.0)
    for _ in range(plan["greedy"]["draws"]):
        rows = rng.standard_normal((count, 4)) * rng.uniform(0.1, 10.0, (count, 1))
        shape = (1, count, 1)
        view = Outlook(jnp.zeros(shape), jnp.ones(shape), jnp.asarray(rows)[None, :, None], None, jnp.ones(1, bool))
        picked: list[int] = []
        for _ in range(size):
            told = np.array(gains(view, layout, None).gain)
            told[picked] = -np.inf
            picked.append(int(np.argmax(told)))
            view, _ = after_choice(view, layout, None, jnp.asarray(picked[-1]))
        every = [information(rows[list(some)]) for some in itertools.combinations(range(count), size)]
        least = min(least, information(rows[picked]) / max(every))
    return least


def information(rows: np.ndarray) -> float:
    """1/2 log det(I + G'G)."""
    return 0.5 * float(np.linalg.slogdet(np.eye(rows.shape[1]) + rows.T @ rows)[1])


if __name__ == "__main__":
    raise SystemExit(main(__file__))
