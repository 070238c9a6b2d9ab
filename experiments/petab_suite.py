"""Are PEtab problems computed as the standard says: the official suite, published problems, gradients, fits?

    log L and simulations against the suite's and the collection's own answers;
    d(-log L) by reverse mode against five-point central differences, |difference| / max |gradient|;
    fits from random starts between the bounds, against -log L at the published parameters

The suite's cases are of versions 1 and 2. What is not supported must be refused by name, and no number may be wrong.

Beside the results, `petab_suite_cases.csv` has a line per case. Without the data a small problem of our own stands in.

Sources: PEtab-dev/petab_test_suite; H. Hass et al., Bioinformatics 35:3073 (2019), for the published problems.
"""

import csv
import json
import math
import tempfile
import time
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
from pinnsim.formats.petab.fit import PetabFit, fit_petab
from pinnsim.formats.petab.problem import PetabProblem, read_petab, stiff_method
from pinnsim.plot import save

SMOKE: dict[str, Any] = {
    "cases": 1,
    "budget": 900.0,
    "published": [],
    "gradients": 1,
    "fitted": [],
    "starts": 1,
    "gradient_rtol": 1e-9,
}
PASS, REFUSED, WRONG = "pass", "refused", "wrong"
COLOURS = {PASS: "#0072B2", REFUSED: "#BBBBBB", WRONG: "#D55E00"}
OWN = "own"


class Verdict(NamedTuple):
    """How a case went; `off`: the largest error over the tolerance's scale."""

    version: str
    number: str
    result: str
    off: float
    reason: str


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Runs the suite and the published problems of a plan; without them, a small problem of our own, and says so."""
    data = companion(__file__, "_development_data")
    suite, published = data.data_folder("petab_test_suite"), data.data_folder("petab")
    with tempfile.TemporaryDirectory() as place:
        notes = tuple(
            data.absent(name) for name, folder in (("petab_test_suite", suite), ("petab", published)) if folder is None
        )
        small = plan["cases"] == SMOKE["cases"] and not plan["published"]
        if notes or small:
            suite = published = _stand_in(Path(place))
            names = [OWN]
            notes = (*notes, "A small problem of our own stands in for the suite and the published problems.")
            plan = {**plan, "published": names, "fitted": names, "versions": ["v2.0.0"]}
        assert suite is not None
        assert published is not None
        return _findings(plan, suite, published, out, progress, notes)


def _findings(
    plan: dict[str, Any], suite: Path, published: Path, out: Path, progress: bool, notes: tuple[str, ...]
) -> Findings:
    verdicts, todo, since = [], [], time.perf_counter()
    for version in plan["versions"]:
        numbers = sorted(place.name for place in (suite / version).iterdir() if place.is_dir())
        todo += [(version, number) for number in (numbers[: plan["cases"]] if plan["cases"] else numbers)]
    for version, number in tqdm(todo, desc="cases", disable=not progress):
        verdicts.append(judged(suite / version / number, version, plan))
    _write(out / "petab_suite_cases.csv", verdicts)
    known = json.loads((published / "reference_log_likelihood.json").read_text())
    problems, nominal, slopes = {}, {}, {}
    for name in tqdm(plan["published"], desc="published problems", disable=not progress):
        problems[name] = read_petab(published / name / f"{name}.yaml")
        begun = time.perf_counter()
        found = problems[name].log_likelihood()
        expected = known[name]["log_likelihood_at_nominal"]
        nominal[name] = {
            "log_likelihood": found,
            "reference": expected,
            "off": abs(found - expected),
            "seconds": time.perf_counter() - begun,
        }
    fits = {}
    for name in plan["fitted"]:
        if time.perf_counter() - since > plan["budget"]:
            notes = (*notes, f"Not run, the time was up: the fits of {name}.")
        else:
            fits[name] = _fitted(problems[name], plan, progress)
    for name in tqdm(plan["published"], desc="gradients", disable=not progress):
        if time.perf_counter() - since > plan["budget"]:
            # A row without a number fails.
            slopes[name] = {"error": math.nan}
            notes = (*notes, f"Not run, the time was up: the gradient of {name}.")
        else:
            slopes[name] = gradient_error(problems[name], plan)
    return _told(plan, verdicts, nominal, slopes, fits, out, notes)


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


def gradient_error(problem: PetabProblem, plan: dict[str, Any]) -> dict[str, Any]:
    """The largest difference between the gradient and central differences, over max |gradient|."""
    draw = np.random.default_rng(plan["seeds"][0])
    lower, upper = problem.bounds
    room = 3 * plan["step"]
    point = np.clip(
        problem.nominal + draw.uniform(-1, 1, len(problem.names)) * plan["away"], lower + room, upper - room
    )
    method = stiff_method(plan["gradient_rtol"], 1e-3 * plan["gradient_rtol"])
    begun = time.perf_counter()
    _, slope = problem.value_and_gradient(point, method)
    seconds = time.perf_counter() - begun
    chosen = draw.choice(len(point), min(plan["gradients"], len(point)), replace=False)
    errors = []
    for k in chosen:
        unit = plan["step"] * np.eye(len(point))[k]
        values = {j: -problem.log_likelihood(point + j * unit, method) for j in (-2, -1, 1, 2)}
        difference = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * plan["step"])
        errors.append(abs(difference - slope[k]) / np.max(np.abs(slope)))
    return {
        "error": float(np.max(errors)),
        "parameters": len(chosen),
        "of": len(point),
        "seconds": seconds,
        "largest": float(np.max(np.abs(slope))),
    }


def _fitted(problem: PetabProblem, plan: dict[str, Any], progress: bool) -> PetabFit:
    """Fits from random starts, one after the other, while patience lasts."""
    begun, found = time.perf_counter(), []
    for k in tqdm(range(plan["starts"]), desc="starts", disable=not progress):
        if found and time.perf_counter() - begun > plan["patience"]:
            break
        found.append(
            fit_petab(
                problem,
                1,
                seed=plan["seeds"][0] + k,
                method=stiff_method(1e-6, 1e-9),
                evaluations=plan["evaluations"],
                progress=False,
            )
        )
    found.sort(key=lambda fit: float(fit.objective[0]))
    values, objective, starts = (
        np.concatenate([getattr(fit, word) for fit in found]) for word in ("values", "objective", "begun")
    )
    # The published optimum is known to more digits than a quick solver has.
    objective[0] = -problem.log_likelihood(values[0])
    return PetabFit(problem.names, values, objective, starts, sum(fit.redrawn for fit in found))


def _write(path: Path, verdicts: list[Verdict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Verdict._fields)
        writer.writerows((v.version, v.number, v.result, f"{v.off:.2g}", v.reason) for v in sorted(verdicts))


def _told(
    plan: dict[str, Any],
    verdicts: list[Verdict],
    nominal: dict[str, dict[str, float]],
    slopes: dict[str, dict[str, Any]],
    fits: dict[str, PetabFit],
    out: Path,
    notes: tuple[str, ...],
) -> Findings:
    counts = {version: Counter(v.result for v in verdicts if v.version == version) for version in plan["versions"]}
    bars = {"v1.0.0": 20, "v2.0.0": 28}
    rows = [
        Acceptance(f"cases of version {version[1]} that pass", counts[version][PASS], bars[version], "higher")
        for version in plan["versions"]
    ]
    rows += [
        Acceptance("cases with a wrong number", sum(v.result == WRONG for v in verdicts), 0),
        Acceptance(
            "refusals without a code", sum(v.result == REFUSED and not v.reason.startswith("E_") for v in verdicts), 0
        ),
        Acceptance(
            "published problems within 1e-4 of the reference log-likelihood",
            sum(one["off"] <= 1e-4 for one in nominal.values()),
            len(nominal),
            "higher",
        ),
        *(
            Acceptance(f"gradient against central differences over max |g|, {name}", one["error"], 1e-6)
            for name, one in slopes.items()
        ),
        *(
            Acceptance(
                f"starts of {plan['starts']} that were fitted, {name}",
                len(fits[name].objective) if name in fits else 0,
                plan["starts"],
                "higher",
            )
            for name in plan["fitted"]
        ),
        *(
            Acceptance(
                f"-log L of the best of {plan['starts']} fits at the most less the published one, {name}",
                float(fits[name].objective[0] + nominal[name]["reference"]) if name in fits else math.nan,
                plan["within"],
            )
            for name in plan["fitted"]
        ),
    ]
    save(_picture(counts, fits, nominal), out / "petab_suite.png")
    metrics = {
        "cases": {version: dict(found) for version, found in counts.items()},
        "refused for": [f"{v.version} {v.number}: {v.reason}" for v in verdicts if v.result == REFUSED],
        "largest error of a passing case": max((v.off for v in verdicts if v.result == PASS), default=None),
        "at nominal parameters": nominal,
        "gradients": slopes,
        "fits": {
            name: {
                "objective": fit.objective.tolist(),
                "begun": fit.begun.tolist(),
                "redrawn": fit.redrawn,
                "starts within 0.1 of the best": fit.reached(),
            }
            for name, fit in fits.items()
        },
    }
    return Findings(metrics, {}, tuple(rows), notes)


def _picture(counts: dict[str, Counter], fits: dict[str, PetabFit], nominal: dict[str, dict[str, float]]) -> plt.Figure:
    figure, grid = plt.subplots(
        1, 1 + len(fits), figsize=(max(5.0, 3.4 * (1 + len(fits))), 3.2), layout="constrained", squeeze=False
    )
    axes = grid[0]
    left = np.zeros(len(counts))
    for result, colour in COLOURS.items():
        width = np.array([found[result] for found in counts.values()], dtype=float)
        axes[0].barh(list(counts), width, left=left, color=colour, label=result)
        left += width
    axes[0].set_xlabel("cases")
    axes[0].set_ylabel("version of the suite")
    axes[0].legend(fontsize="small", loc="upper left", bbox_to_anchor=(0.0, -0.2), ncols=3, frameon=False)
    for place, (name, fit) in zip(axes[1:], fits.items(), strict=True):
        best = -nominal[name]["reference"]
        place.plot(1 + np.arange(len(fit.objective)), fit.objective - best + 1e-3, "o-", color=COLOURS[PASS], ms=4)
        place.set_yscale("symlog", linthresh=1e-2)
        place.axhline(1e-3, color="black", lw=0.8, ls=":")
        place.set_xlabel("start, best first")
        place.set_ylabel("-log L less the published one, + 0.001")
        place.set_title(name.partition("_")[0], fontsize="medium")
    return figure


def _stand_in(folder: Path) -> Path:
    """A suite of one case of our own, which is a published problem, too: a decay, S' = -k S, seen through a scale."""
    place = folder / "v2.0.0" / "0001"
    place.mkdir(parents=True)
    times, k, scale, sd = np.array([0.0, 1.0, 2.0, 4.0]), 0.5, 2.0, 0.1
    exact = scale * np.exp(-k * times)
    measured = exact + np.array([0.1, -0.1, 0.05, 0.0])
    law = "<apply><times/><ci>k</ci><ci>S</ci></apply>"
    (place / "model.xml").write_text(
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="decay">'
        '<listOfCompartments><compartment id="C" size="1" spatialDimensions="3" constant="true"/></listOfCompartments>'
        '<listOfSpecies><species id="S" compartment="C" initialAmount="1" constant="false" '
        'hasOnlySubstanceUnits="false" boundaryCondition="false"/></listOfSpecies><listOfParameters><parameter id="k" '
        'value="1" constant="true"/></listOfParameters><listOfReactions><reaction id="R" reversible="false">'
        '<listOfReactants><speciesReference species="S" stoichiometry="1" constant="true"/></listOfReactants>'
        f'<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math></kineticLaw></reaction>'
        "</listOfReactions></model></sbml>"
    )
    (place / "parameters.tsv").write_text(
        "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\n"
        f"k\t0.01\t5\t{k}\ttrue\nscale\t0.1\t10\t{scale}\ttrue\n"
    )
    (place / "observables.tsv").write_text(
        f"observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\ny\tscale * S\t{sd}\tnormal\n"
    )
    rows = "".join(f"y\t\t{t}\t{m}\n" for t, m in zip(times, measured, strict=True))
    (place / "measurements.tsv").write_text(f"observableId\texperimentId\ttime\tmeasurement\n{rows}")
    names = {f"{kind}_files": [f"{kind}s.tsv"] for kind in ("parameter", "observable", "measurement")}
    models = {"m": {"language": "sbml", "location": "model.xml"}}
    grouping = yaml.safe_dump({"format_version": "2.0.0", **names, "model_files": models})
    chi2 = float(np.sum((measured - exact) ** 2) / sd**2)
    llh = -0.5 * chi2 - len(times) * math.log(sd * math.sqrt(2 * math.pi))
    (place / "_0001.yaml").write_text(grouping)
    (place / "_0001_solution.yaml").write_text(yaml.safe_dump({"llh": llh, "chi2": chi2}))
    pd.DataFrame({"simulation": exact}).to_csv(place / "_simulations.tsv", sep="\t", index=False)
    (folder / OWN).symlink_to(place)
    (place / f"{OWN}.yaml").write_text(grouping)
    (folder / "reference_log_likelihood.json").write_text(json.dumps({OWN: {"log_likelihood_at_nominal": llh}}))
    return folder


if __name__ == "__main__":
    raise SystemExit(main(__file__))
