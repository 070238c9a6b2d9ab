"""A folder as `pinnsim fit` and others leave it, written by hand: many genes, some with names made to break a page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pinnsim.cli.output import to_json
from pinnsim.score import Entry, score_table
from pinnsim.score.compare import ROLL_OUT, Comparison

NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x^$y$", "NA", "a" * 60, "](http://x.example)")
TIMES = (0.0, 1.0, 2.0, 4.0, 8.0)


def write_folder(folder: Path, genes: int = 30, conditions: int = 3) -> Path:
    """What a fit of so many genes leaves, with rates, edges, a course, an evaluation, a landscape, a screen and ranked
    experiments; random numbers."""
    rng = np.random.default_rng(0)
    names = [*NASTY, *(f"gene{k}" for k in range(genes - len(NASTY)))]
    cultures = [f"shift {k} & <b>" for k in range(conditions)]
    folder.mkdir(parents=True, exist_ok=True)
    grid = pd.MultiIndex.from_product([cultures, names, TIMES], names=["condition", "gene", "time"]).to_frame(
        index=False
    )
    fitted = np.sin(grid["time"] + rng.normal(size=len(grid)))
    table = grid.assign(replicate="mean", samples=2, scored=grid["time"] > 0, fitted=fitted, lo=fitted - 0.4)
    table = table.assign(hi=fitted + 0.4, measured=fitted + rng.normal(0, 0.2, len(grid)))
    table.loc[3, "measured"] = np.nan
    table.to_csv(folder / "fitted.csv", index=False)
    steps = pd.MultiIndex.from_product([["collocation", "trajectories"], range(10, 60, 10), [0, 1]])
    course = steps.set_names(["stage", "step", "start"]).to_frame(index=False)
    course["step"] += 50 * (course["stage"] == "trajectories")
    course["objective"] = 1e4 / course["step"] + course["start"]
    course = course.assign(group=0, data=course["objective"] - 3, kinetics=2.0, network=1.0, hidden=0.0)
    course.to_csv(folder / "course.csv", index=False)
    verdict = np.resize(["identified", "prior echo", "in part"], genes)
    rates = pd.DataFrame({"parameter": [f"decay:{name}" for name in names], "unit": "1/h", "prior": 0.1})
    rates = rates.assign(prior_lo=0.05, prior_hi=0.2, estimate=0.12, lo=0.1, hi=0.15, width=rng.random(genes))
    rates.assign(verdict=verdict).to_csv(folder / "rates.csv", index=False)
    edges = pd.DataFrame({"source": names, "target": names[::-1], "strength": rng.normal(size=genes)})
    edges.assign(lo=-1.0, hi=1.0, width=0.5, rank=range(1, genes + 1)).to_csv(folder / "edges.csv", index=False)
    points = pd.DataFrame({"point": ["A1", "S1"], "stability": ["stable", "saddle"], "share": [1.0, np.nan]})
    points = points.assign(index=[0, 1], **{"leading eigenvalue": ["-1", "0.5"], "residual": 1e-12, "u": [1, 2.0]})
    points.assign(v=[2.0, 1.0]).to_csv(folder / "landscape.csv", index=False)
    (folder / "screen").mkdir(exist_ok=True)
    effects = pd.DataFrame({"perturbation": [f"{name}=0" for name in names], "log2 fold": rng.normal(size=genes)})
    effects.to_csv(folder / "screen" / "effects.csv", index=False)
    screen = {"edits": names, "combinations": {"of 1": genes}, "time": None, "time_unit": "h"}
    (folder / "screen" / "screen.json").write_text(json.dumps(screen), encoding="utf-8")
    _write_evaluation(folder / "evaluation.json", cultures)
    _write_design(folder / "design", names)
    (folder / "fit.json").write_text(json.dumps(_summary(names, cultures)), encoding="utf-8")
    return folder


def _write_evaluation(path: Path, conditions: list[str]) -> None:
    rng, times = np.random.default_rng(1), np.arange(4.0)
    truth, start, mask = rng.normal(0, 1, (4, 5)), np.zeros((4, 5)), np.ones((4, 5), dtype=bool)
    entries = [
        Entry.of(name, kind, conditions[-1], Comparison(ROLL_OUT, times, truth + error, truth, start, mask))
        for name, kind, error in (("pinnsim", "model", 0.1), ("persistence", "baseline", 0.5))
    ]
    found = score_table(entries, unit="log2", data="<b>held</b>", simulated=False).to_dict()
    found |= {"fitted": conditions[:-1], "predicted": conditions[-1:]}
    path.write_text(to_json(found), encoding="utf-8")


def _write_design(folder: Path, genes: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "experiment": k,
            "treatment": f"{gene}=0",
            "times": "0,5",
            "genes": "",
            "replicates": 1,
            "cost": 1.0,
            "gain": gain,
        }
        for k, (gene, gain) in enumerate(zip(genes, [2.5, *[1.0] * 18, None], strict=False))
    ]
    found = {"candidates": len(rows), "by": "gain", "goal": [], "unit": "nats", "ranking": rows, "batch": rows[:2]}
    (folder / "design.json").write_text(json.dumps(found), encoding="utf-8")


def _summary(genes: list[str], conditions: list[str]) -> dict:
    seen = {"replicates": 2, "times": list(TIMES), "cultures": [2] * len(TIMES), "genes": [1.0] * len(TIMES)}
    return {
        "project": "project.toml",
        "data": {
            "source": "nobody <i>2024</i>",
            "digest": "0" * 64,
            "simulated": False,
            "description": "trajectory: genes\nmore",
            "caveats": ["<u>caveat</u>"],
            "conditions": dict.fromkeys(conditions, "GATA1=0@0:"),
            "times": [0, 8],
            "time_unit": "h",
            "scale": "log2",
            "genes": len(genes),
            "coverage": [{"condition": name, "readings": 10 * len(genes), **seen} for name in conditions],
        },
        "model": {"layers": ["mrna"], "genes": len(genes), "edges": 30, "regulators": 30, "residual": "none"},
        "objective": [50.0, 60.0],
        "terms": {"data": [40.0, 50.0], "kinetics": [10.0, 10.0]},
        "gate": 0.0,
        "outcomes": {"done": 2},
        "interrupted": False,
        "seed": 3,
        "plan": {"starts": 2, "keep": 2, "collocation_steps": 50, "trajectory_steps": 50},
        "intervals": {"from": "posterior", "members": 24},
        "versions": {"jax": "0"},
    }
