"""Which smallest perturbations move a cell from one valley to another, and is that right?

Searches on three shelf models (toggle switch, GATA1-PU.1, myeloid differentiation), each checked against the models'
equations written out again and solved push by push with scipy (simulated: there are no measurements here).
"""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pinnsim import shelf
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.landscape import find_attractors
from pinnsim.plot import reprogramming_panels, save
from pinnsim.reprogramming import Reprogramming, Search, reprogram
from pinnsim.simulate import ODE

checks = companion(__file__, "_reprogramming_checks")

SMOKE: dict[str, Any] = {
    "cells": 8,
    "sharp": 1e-9,
    "critical": 1e-5,
    "points": 17,
    "toggle": {"strengths": [1.0, 3.0], "durations": [2.0, 4.0], "compared": 0},
    "lineages": {"strengths": []},
    "myeloid": {"most": 0},
}

TYPES = {  # of the myeloid model's valleys, by genes that are on; the source's four cell types
    "erythrocyte": {"Gata1", "Fog1", "Scl", "EKLF"},
    "megakaryocyte": {"Gata1", "Fog1", "Scl", "Fli1"},
    "monocyte": {"Cebpa", "Pu1", "cJun", "EgrNab"},
    "granulocyte": {"Cebpa", "Pu1", "Gfi1"},
}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All three models."""
    results: dict[str, Reprogramming] = {}
    metrics: dict[str, Any] = {}
    rows: list[Acceptance] = []
    wanted = {_toggle: True, _lineages: bool(plan["lineages"]["strengths"]), _myeloid: bool(plan["myeloid"]["most"])}
    parts = [part for part, there in wanted.items() if there]
    for part in parts:
        began = time.perf_counter()
        found = part(plan, metrics, rows, progress)
        results |= found
        metrics[f"{part.__name__[1:]}: seconds, compilation included"] = time.perf_counter() - began
    for name, result in results.items():
        metrics[name] = {
            "table": result.table().drop(columns="treatment").to_dict("records"),
            "treatments": [str(p.treatment) for p in result.plans],
            "bound": result.bound.action,
            "route": " ".join(result.bound.route),
            "levels": [
                f"{tried} of {possible} combinations of {size}, {reached} reach"
                for size, possible, tried, _, reached in result.levels
            ],  # fmt: skip
            "endings": result.tried["ending"].value_counts().to_dict(),
        }
    every = [(p, result) for result in results.values() for p in result.plans]
    rows += [
        Acceptance("all plans: least control effort over the minimum action",
                   min(p.control / r.bound.action for p, r in every), 1.0, "higher"),
        Acceptance("all plans: largest effort after refinement over effort before",
                   max(p.effort / p.begun for p, _ in every), 1.0),
    ]  # fmt: skip
    names = {"toggle": "toggle switch", "lineages": "GATA1-PU.1", "myeloid": "myeloid: granulocyte to erythrocyte"}
    for name, title in names.items():
        if name in results:
            save(reprogramming_panels(results[name], title=title), out / f"reprogramming_{name}.png")
    return Findings(metrics, {}, tuple(rows))


def _options(plan: dict[str, Any], **changes: Any) -> Search:
    common = {key: plan[key] for key in ("margin", "cells", "spread", "seed", "points")}
    return Search(**{**common, **changes})


def _toggle(plan: dict[str, Any], metrics: dict, rows: list[Acceptance], progress: bool) -> dict[str, Reprogramming]:
    model, own = shelf.load("toggle_switch").model, plan["toggle"]
    known = 5 + 2 * np.sqrt(6) * np.array([[-1.0, 1.0], [1.0, -1.0]])
    valleys = find_attractors(model, starts=16, states=known)
    common = {"doses": own["strengths"], "durations": own["durations"], "attractors": valleys, "progress": progress}
    able = ["u*2", "v*0.5", "drive(u)=1", "v=0"]
    if own["compared"]:
        _toggle_truths(plan, model, known, able, common, metrics, rows)
    return {"toggle": reprogram(model, known[0], known[1], able, most=3, options=_options(plan), **common)}


def _toggle_truths(
    plan: dict[str, Any], model: Any, known: np.ndarray, able: list[str], common: dict, metrics: dict,
    rows: list[Acceptance],
) -> None:  # fmt: skip
    """Critical strengths, and the best duration where strengths count squared, against scipy."""
    own, margin, progress = plan["toggle"], plan["margin"], common["progress"]
    world = checks.World(checks.toggle, known, 60.0, 1e-12)
    genes, sharp = ("u", "v"), ODE(rtol=plan["sharp"], atol=1e-3 * plan["sharp"], max_steps=16384)
    unable = ["u*0.5", "v*2", "drive(v)=1", "u=0"]
    quick = {"cells": 0, "points": 0, "starts": 1}
    exactly = _options(plan, tolerance=plan["critical"], steps=0, keep=8, **quick)
    singles = reprogram(model, known[0], known[1], able + unable, most=1, method=sharp, options=exactly, **common)
    reached = {p.edits for p in singles.plans}
    rows.append(Acceptance("toggle: single edits that should switch it and do not, or do and should not",
                           len(reached ^ {"u up", "v down", "drive(u)", "v out"}), 0))  # fmt: skip
    worst = 0.0
    for p in tqdm(singles.plans, desc="toggle against scipy", disable=None if progress else True):
        for duration, strength, _ in p.front[:: max(len(p.front) // own["compared"], 1)]:
            if p.edits == "v out":

                def reach(value: float) -> bool:
                    return checks.reaches(world, 0, 1, ["v out"], genes, np.array([0.0]), value)

                value = (1 - margin) * duration
            else:

                def reach(value: float, p: Any = p, duration: float = duration) -> bool:
                    return checks.reaches(world, 0, 1, [p.edits], genes, np.array([value]), duration)

                value = (1 - margin) * strength
            truth = checks.bisected(reach, 0.9 * value, 1.1 * value)
            worst = max(worst, abs(value / truth - 1.0))
    rows.append(
        Acceptance("toggle: critical strengths and durations against scipy, largest relative error", worst, 1e-6)
    )
    # A strong push costs more than a long one where strengths count squared: the best duration lies inside.
    squared = reprogram(model, known[0], known[1], ["drive(u)=1"], most=1, power=2,
                        options=_options(plan, steps=20, **quick), **common)  # fmt: skip

    def critical(duration: float) -> float:
        cheap = world._replace(rtol=1e-8)
        return checks.bisected(
            lambda s: checks.reaches(cheap, 0, 1, ["drive(u)"], genes, np.array([s]), duration), 0.0,
            2 * own["strengths"][-1], 1e-5,
        ) / (1 - margin)  # fmt: skip

    best = squared.best
    duration, least = checks.least_effort(critical, 2.0, own["durations"][0], own["durations"][-1])
    metrics["toggle, squared strengths: effort, refined, and by scipy"] = [best.effort if best else np.nan, least]
    metrics["toggle, squared strengths: duration, refined, and by scipy"] = [
        best.duration if best else np.nan,
        duration,
    ]
    rows.append(Acceptance("toggle: refined effort of squared strengths over scipy's optimum",
                           best.effort / least if best else np.nan, 1.005))  # fmt: skip


def _lineages(plan: dict[str, Any], metrics: dict, rows: list[Acceptance], progress: bool) -> dict[str, Reprogramming]:
    model, own, margin = shelf.load_system("gata1_pu1").system, plan["lineages"], plan["margin"]
    low = 0.0039216026
    known = np.array([[2.0 - low, low], [low, 2.0 - low], [1.0, 1.0]])
    valleys = find_attractors(model, starts=16, states=known)
    edits = ["GATA1*2", "GATA1*0.5", "SPI1*2", "SPI1*0.5", "drive(GATA1)=1", "drive(SPI1)=1"]
    common = {"doses": own["strengths"], "durations": own["durations"], "attractors": valleys, "progress": progress}
    whole = reprogram(model, known[0], known[1], edits, options=_options(plan), **common)
    world, genes = checks.World(checks.lineages, known, 60.0), ("GATA1", "SPI1")
    wrong, lanes = 0, 0
    tried = whole.tried[whole.tried["size"] <= 2]
    for row in tqdm(tried.to_dict("records"), desc="GATA1-PU.1 against scipy", disable=None if progress else True):
        words = row["edits"].split(" + ")
        grid = list(itertools.product(own["strengths"], own["durations"]))
        alone = sum(checks.reaches_with(margin, world, 0, 1, words, genes, s, t) for s, t in grid)
        wrong += abs(alone - round(row["share of pushes that reach"] * len(grid)))
        lanes += len(grid)
    metrics["GATA1-PU.1: pushes repeated by scipy"] = lanes
    rows.append(Acceptance("GATA1-PU.1: pushes with one or two edits judged otherwise by scipy", wrong, 0))
    narrow = reprogram(model, known[0], known[1], edits,
                       options=_options(plan, exhaustive=1, beam=own["beam"], cells=0, points=0), **common)  # fmt: skip
    rows.append(Acceptance("GATA1-PU.1: best triple of a beam over the best of all triples, effort",
                           _triple(narrow) / _triple(whole), 1.0 + 1e-9))  # fmt: skip
    return {"lineages": whole}


def _myeloid(plan: dict[str, Any], metrics: dict, rows: list[Acceptance], progress: bool) -> dict[str, Reprogramming]:
    model, own = shelf.load_system("myeloid").system, plan["myeloid"]
    valleys = find_attractors(model, starts=64, probes=32)
    stable = valleys.states[valleys.stable]
    on = [{gene for gene, x in zip(checks.GENES, state, strict=True) if x > 0.5} for state in stable]
    a, b = (on.index(TYPES[own[name]]) for name in ("start", "target"))
    edits = [f"{gene}{what}" for gene in checks.GENES for what in ("*0.5", "")]
    edits = [text if "*" in text else f"drive({text})=1" for text in edits]
    common = {"doses": own["strengths"], "durations": own["durations"], "attractors": valleys, "progress": progress}
    result = reprogram(model, stable[a], stable[b], edits, most=own["most"],
                       options=_options(plan, beam=own["beam"], keep=own["keep"]), **common)  # fmt: skip
    world = checks.World(checks.myeloid, stable, 60.0)
    grid = list(itertools.product(own["strengths"], own["durations"]))
    rng, wrong = np.random.default_rng(plan["seed"]), 0
    rows_tried = result.tried.to_dict("records")
    chosen = rng.choice(len(rows_tried), max(own["brute"] // len(grid), 1), replace=False)
    for k in tqdm(chosen, desc="myeloid against scipy", disable=None if progress else True):
        words = rows_tried[k]["edits"].split(" + ")
        alone = sum(checks.reaches_with(plan["margin"], world, a, b, words, checks.GENES, s, t) for s, t in grid)
        wrong += abs(alone - round(rows_tried[k]["share of pushes that reach"] * len(grid)))
    metrics["myeloid: pushes repeated by scipy"] = len(chosen) * len(grid)
    rows.append(Acceptance("myeloid: pushes judged otherwise by scipy", wrong, 0))
    few = {"cells": 0, "points": 0}
    narrow, whole = (
        reprogram(model, stable[a], stable[b], own["few"], options=_options(plan, **few, **how), **common)
        for how in ({"exhaustive": 1, "beam": own["few_beam"]}, {})
    )
    rows.append(Acceptance("myeloid, seven edits: best triple of a beam over the best of all triples, effort",
                           _triple(narrow) / _triple(whole), 1.0 + 1e-9))  # fmt: skip
    return {"myeloid": result}


def _triple(result: Reprogramming) -> float:
    """The least effort of a plan with three edits, NaN where there is none."""
    return min((p.effort for p in result.plans if len(p.strengths) == 3), default=float("nan"))


if __name__ == "__main__":
    raise SystemExit(main(__file__))
