"""Are PEtab problems of the official suite, versions 1 and 2, computed as the standard says?

    log L, chi-squared, every simulated value, and priors where a case has them, against the suite's own answers

What is not supported must be refused by name, and no number may be wrong. Beside the results, `petab_suite_cases.csv`
has a line per case. Without the data a small problem of our own stands in. Published problems, their gradients and
fits: `petab_published.py`.

Source: PEtab-dev/petab_test_suite.
"""

import csv
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.formats.petab.problem import read_petab
from pinnsim.plot import save

SMOKE: dict[str, Any] = {"cases": 1, "versions": ["v2.0.0"]}
PASS, REFUSED, WRONG = "pass", "refused", "wrong"
COLOURS = {PASS: "#0072B2", REFUSED: "#BBBBBB", WRONG: "#D55E00"}
BARS = {"v1.0.0": 20, "v2.0.0": 28}


class Verdict(NamedTuple):
    """How a case went; `off`: the largest error over the tolerance's scale."""

    version: str
    number: str
    result: str
    off: float
    reason: str


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Runs the suite; without it, a small problem of our own, and says so."""
    data, own = companion(__file__, "_development_data"), companion(__file__, "_petab_stand_in")
    suite = data.data_folder("petab_test_suite")
    with tempfile.TemporaryDirectory() as place:
        notes: tuple[str, ...] = () if suite is not None else (data.absent("petab_test_suite"),)
        if suite is None or plan["cases"] == SMOKE["cases"]:
            suite, notes = own.stand_in(Path(place)), (*notes, own.NOTE)
            plan = {**plan, "versions": ["v2.0.0"]}
        verdicts, todo = [], []
        for version in plan["versions"]:
            numbers = sorted(place.name for place in (suite / version).iterdir() if place.is_dir())
            todo += [(version, number) for number in (numbers[: plan["cases"]] if plan["cases"] else numbers)]
        for version, number in tqdm(todo, desc="cases", disable=not progress):
            verdicts.append(judged(suite / version / number, version, plan))
    _write(out / "petab_suite_cases.csv", verdicts)
    counts = {version: Counter(v.result for v in verdicts if v.version == version) for version in plan["versions"]}
    rows = [
        Acceptance(f"cases of version {version[1]} that pass", counts[version][PASS], BARS[version], "higher")
        for version in plan["versions"]
    ]
    rows += [
        Acceptance("cases with a wrong number", sum(v.result == WRONG for v in verdicts), 0),
        Acceptance(
            "refusals without a code", sum(v.result == REFUSED and not v.reason.startswith("E_") for v in verdicts), 0
        ),
    ]
    save(_picture(counts), out / "petab_suite.png")
    metrics = {
        "cases": {version: dict(found) for version, found in counts.items()},
        "refused for": [f"{v.version} {v.number}: {v.reason}" for v in verdicts if v.result == REFUSED],
        "wrong": [f"{v.version} {v.number}: {v.reason}, {v.off:.2g}" for v in verdicts if v.result == WRONG],
        "largest error of a passing case": max((v.off for v in verdicts if v.result == PASS), default=None),
    }
    return Findings(metrics, {}, tuple(rows), notes)


def judged(folder: Path, version: str, plan: dict[str, Any]) -> Verdict:
    """Whether a case passes: log-likelihood, chi-squared, every simulated value, and priors where it has them."""
    number = folder.name
    try:
        # The suite's models are read in this process: a process per case would take longer than the case.
        problem = read_petab(folder / f"_{number}.yaml", isolated=False)
    except PinnsimError as error:
        one = error.problems[0]
        return Verdict(version, number, REFUSED, 0.0, f"{one.code}: {one.message}".partition(" ('")[0])
    expected = yaml.safe_load((folder / f"_{number}_solution.yaml").read_text())
    pairs = [("llh", problem.log_likelihood(), expected["llh"]), ("chi2", problem.chi2(), expected["chi2"])]
    table = pd.read_csv(folder / "_simulations.tsv", sep="\t")["simulation"]
    pairs += [("simulation", *both) for both in zip(problem.simulate()["simulation"], table, strict=True)]
    if "log_prior" in expected:
        found = problem.log_priors()
        pairs += [("prior", found[name], value) for name, value in expected["log_prior"].items()]
    errors = [(abs(got - want) / max(1.0, abs(want)), what) for what, got, want in pairs]
    worst, what = max((math.inf if math.isnan(error) else error, what) for error, what in errors)
    good = worst <= plan["tolerance"]
    return Verdict(version, number, PASS if good else WRONG, worst, "" if good else what)


def _write(path: Path, verdicts: list[Verdict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Verdict._fields)
        writer.writerows((v.version, v.number, v.result, f"{v.off:.2g}", v.reason) for v in sorted(verdicts))


def _picture(counts: dict[str, Counter]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(5.0, 2.6), layout="constrained")
    left = np.zeros(len(counts))
    for result, colour in COLOURS.items():
        width = np.array([found[result] for found in counts.values()], dtype=float)
        axes.barh(list(counts), width, left=left, color=colour, label=result)
        left += width
    axes.set_xlabel("cases")
    axes.set_ylabel("version of the suite")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0.0, -0.25), ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main(__file__))
