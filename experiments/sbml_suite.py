"""How many cases of the SBML Test Suite are simulated right, how many refused by name, and is any number wrong?

Every case is read by `read_sbml`. What is not refused is solved and compared at every time with the suite's own answer,
|got - expected| <= absolute + relative |expected|. All of them are solved by scipy over our right-hand side on the host
(`RuleSystem.on_host`), which compiles nothing; a stated number, drawn at random, by `simulate` itself as well.

    python experiments/sbml_suite.py --suite FOLDER      # the folder with semantic/ and tiers.json; also --smoke, --out

Beside the results, `sbml_suite_cases.csv` has a line per case: pass, refused, wrong or failed, and why. With
`--started FILE` every verdict is noted in a file as it comes, and what is noted there is not run again: a run that was
interrupted goes on, with the same program.

Source: S. M. Keating et al., Mol. Syst. Biol. 16:e9110 (2020), for the suite.
"""

import csv
import json
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from pinnsim.dynamics.naming import amount_of, concentration_of
from pinnsim.dynamics.rules import HostRules, RuleSystem
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.formats.sbml.read import read_sbml
from pinnsim.plot import save
from pinnsim.simulate import ODE, Outcome, simulate
from pinnsim.simulate.on_host import solve_on_host

SMOKE: dict[str, Any] = {"cases": 1, "simulated": 1}
EVENT_FREE = ("tier1_must", "tier2_advanced")
EVENTS = ("tier1_events", "tier2_events")
PASS, REFUSED, WRONG, FAILED = "pass", "refused", "wrong", "failed"
COLOURS = {PASS: "#0072B2", REFUSED: "#BBBBBB", WRONG: "#D55E00", FAILED: "#E69F00"}


class Case(NamedTuple):
    """A case's question and answer: times, (time,), columns by name, tolerances, what is asked as amounts or as
    concentrations."""

    number: str
    times: np.ndarray
    expected: dict[str, np.ndarray]
    absolute: float
    relative: float
    amounts: tuple[str, ...]
    concentrations: tuple[str, ...]


class Verdict(NamedTuple):
    """How a case went."""

    number: str
    tier: str
    how: str
    result: str
    reason: str


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Runs the cases of a plan; without the suite, small models of our own stand in for it and say so."""
    data = companion(__file__, "_development_data")
    folder = data.data_folder("sbml_test_suite")
    named = os.environ.get("PINNSIM_SBML_SUITE")
    folder = Path(named) if named else folder
    if folder is None:
        with tempfile.TemporaryDirectory() as own:
            _stand_in(Path(own))
            return _findings(plan, Path(own), out, progress, (data.absent("sbml_test_suite"),))
    return _findings(plan, folder, out, progress, ())


def _findings(plan: dict[str, Any], folder: Path, out: Path, progress: bool, notes: tuple[str, ...]) -> Findings:
    draw = random.Random(plan["seeds"][0])
    tiers = json.loads((folder / "tiers.json").read_text())
    chosen = {tier: tiers[tier] for tier in plan["tiers"] if tier in tiers}
    if plan["cases"]:
        chosen = {tier: sorted(draw.sample(every, min(plan["cases"], len(every)))) for tier, every in chosen.items()}
    todo = [(tier, number) for tier, numbers in chosen.items() for number in numbers]
    noted = _Noted(os.environ.get("PINNSIM_SBML_STARTED"))
    verdicts = []
    for tier, number in tqdm(todo, desc="cases", disable=not progress):
        verdicts.append(noted.judged(folder, number, tier, plan))
    drawn: list[Verdict] = []
    for some, count in ((EVENT_FREE, plan["simulated"]), (EVENTS, plan["simulated"])):
        passed = [v for v in verdicts if v.tier in some and v.result == PASS]
        drawn += draw.sample(passed, min(count, len(passed)))
    for verdict in tqdm(drawn, desc="simulate", disable=not progress):
        verdicts.append(noted.judged(folder, verdict.number, verdict.tier, plan, compiled=True))
    _write(out / "sbml_suite_cases.csv", verdicts)
    if noted.known:
        notes = (*notes, "Run in parts: verdicts were noted as they came, and an interrupted run went on from them.")
    return _told(verdicts, chosen, tiers, out, notes, plan["simulated"])


def read_case(folder: Path, number: str) -> Case:
    """A case of the suite's folder."""
    place = folder / "semantic" / number
    lines = (place / f"{number}-settings.txt").read_text().splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    with (place / f"{number}-results.csv").open(newline="") as file:
        head, *rows = [row for row in csv.reader(file) if row]
    table = np.array([[float(cell) for cell in row] for row in rows])
    # A variable may be called `time`, too: the first column is the clock.
    columns = {name.strip(): table[:, k] for k, name in enumerate(head) if k}
    start, duration, steps = (float(said[key]) for key in ("start", "duration", "steps"))
    return Case(
        number,
        np.linspace(start, start + duration, int(steps) + 1),
        {name: columns[name] for name in _listed(said["variables"])},
        float(said["absolute"]),
        float(said["relative"]),
        _listed(said.get("amount", "")),
        _listed(said.get("concentration", "")),
    )


class _Noted:
    """Verdicts in a file, if there is to be one, each written when it is known."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path)
        rows: list[list[str]] = []
        if self.path is not None and self.path.exists():
            with self.path.open(newline="") as file:
                rows = list(csv.reader(file))
        # The last line of a run that was interrupted may be torn.
        self.known = {(row[0], row[2]): Verdict(*row) for row in rows if len(row) == len(Verdict._fields)}

    def judged(self, folder: Path, number: str, tier: str, plan: dict[str, Any], compiled: bool = False) -> Verdict:
        known = self.known.get((number, "simulate" if compiled else "scipy"))
        if known is not None:
            return known
        try:
            found = judged(folder, number, tier, plan, compiled)
        except Exception as error:  # what the experiment is there to find must not end it
            how = "simulate" if compiled else "scipy"
            found = Verdict(number, tier, how, FAILED, f"{type(error).__name__}: {error}")
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(found)
        return found


def judged(folder: Path, number: str, tier: str, plan: dict[str, Any], compiled: bool = False) -> Verdict:
    """Whether a case passes, by scipy on the host or by `simulate`."""
    how = "simulate" if compiled else "scipy"
    try:
        # The suite's files are read in this process: a process per case would take longer than the case.
        system = read_sbml(next(iter(sorted((folder / "semantic" / number).glob("*-sbml-*.xml")))), isolated=False)
    except PinnsimError as error:
        first = error.problems[0]
        return Verdict(number, tier, how, REFUSED, _plain_words(f"{first.code}: {first.message}"))
    case = read_case(folder, number)
    names = [_quantity(case, name, system) for name in case.expected]
    if None in names:
        return Verdict(case.number, tier, how, FAILED, f"no quantity for {list(case.expected)[names.index(None)]}")
    solve = _compiled if compiled else _on_host
    found = solve(system, case, [name for name in names if name is not None], plan)
    if isinstance(found, str):
        return Verdict(case.number, tier, how, FAILED, found)
    off = [name for k, name in enumerate(case.expected) if not _fits(found[:, k], case.expected[name], case)]
    return Verdict(case.number, tier, how, WRONG if off else PASS, f"{', '.join(off)} off" if off else "")


def _quantity(case: Case, name: str, system: RuleSystem) -> str | None:
    """Our name of what the suite asks for."""
    wanted = name
    if name in case.amounts:
        wanted = amount_of(name)
    elif name in case.concentrations:
        wanted = concentration_of(name)
    place = system.running.position
    return wanted if wanted in place else name if name in place else None


def _fits(got: np.ndarray, expected: np.ndarray, case: Case) -> bool:
    with np.errstate(invalid="ignore"):
        close = np.abs(got - expected) <= case.absolute + case.relative * np.abs(expected)
    return bool(np.all(close | (got == expected) | (np.isnan(got) & np.isnan(expected))))


def _tolerances(case: Case, plan: dict[str, Any]) -> tuple[float, float]:
    rtol = min(max(case.relative / plan["tighter"], 1e-12), plan["rtol"]) if case.relative else plan["rtol"]
    return rtol, max(case.absolute / plan["tighter_absolute"], 1e-18)


def _from_zero(case: Case) -> np.ndarray:
    """A file's start is at time 0, wherever the suite begins to ask."""
    return case.times if case.times[0] == 0 else np.concatenate([[0.0], case.times])


def _on_host(system: RuleSystem, case: Case, names: list[str], plan: dict[str, Any]) -> np.ndarray | str:
    rtol, atol = _tolerances(case, plan)
    times = _from_zero(case)
    found = solve_on_host(system, times, rtol, atol)
    if found.outcome != Outcome.DONE:
        return found.outcome.sentence
    host: HostRules = system.on_host()
    rows = [host.known(time, state) for time, state in zip(times, found.states, strict=True)]
    return np.array([[row[name] for name in names] for row in rows])[-len(case.times) :]


def _compiled(system: RuleSystem, case: Case, names: list[str], plan: dict[str, Any]) -> np.ndarray | str:
    rtol, atol = _tolerances(case, plan)
    times = _from_zero(case)
    found = simulate(system, times, method=ODE(rtol=rtol, atol=atol, max_steps=100_000))
    if int(found.outcome[0]) != Outcome.DONE:
        return Outcome(int(found.outcome[0])).sentence
    return np.asarray(system.values(names, times, found.states[0]))[-len(case.times) :]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _write(path: Path, verdicts: list[Verdict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Verdict._fields)
        writer.writerows(sorted((v.number, v.tier, v.how, v.result, v.reason) for v in verdicts))


def _plain_words(reason: str) -> str:
    """A reason without the place of the file, which is another on every machine."""
    return reason.partition(" ('")[0]


def _told(
    verdicts: list[Verdict],
    chosen: dict[str, list[str]],
    tiers: dict[str, list[str]],
    out: Path,
    notes: tuple[str, ...],
    drawn: int,
) -> Findings:
    counts = {tier: Counter(v.result for v in verdicts if v.tier == tier and v.how == "scipy") for tier in chosen}
    compiled = Counter(v.result for v in verdicts if v.how == "simulate")
    with_events = Counter(v.result for v in verdicts if v.how == "simulate" and v.tier in EVENTS)
    free = [tier for tier in EVENT_FREE if tier in chosen]
    unnamed = sum(not v.reason.startswith("E_") for v in verdicts if v.result == REFUSED)
    reasons = Counter(_construct(v.reason) for v in verdicts if v.result == REFUSED)
    rows = [Acceptance(f"share of event-free cases that pass, {tier}", counts[tier][PASS] / max(len(chosen[tier]), 1),
                       1.0, "higher") for tier in free]  # fmt: skip
    rows += [
        Acceptance("cases of 959 (event-free core and simple events) that pass",
                   sum(counts[tier][PASS] for tier in ("tier1_must", "tier1_events") if tier in counts), 959, "higher"),
        Acceptance("advanced cases of 505 that pass",
                   sum(counts[tier][PASS] for tier in ("tier2_advanced", "tier2_events") if tier in counts), 465,
                   "higher"),
        Acceptance("cases with a wrong number", sum(v.result == WRONG for v in verdicts), 0),
        Acceptance("cases that neither pass nor are refused", sum(v.result == FAILED for v in verdicts), 0),
        Acceptance("refusals without a code", unnamed, 0),
        Acceptance("drawn cases that `simulate` gets wrong", compiled[WRONG] + compiled[FAILED], 0),
        Acceptance("drawn cases with events that `simulate` gets right", with_events[PASS], drawn, "higher"),
    ]  # fmt: skip
    save(_picture(counts), out / "sbml_suite.png")
    metrics = {
        "cases": {tier: {"run": len(chosen[tier]), "of": len(tiers[tier]), **counts[tier]} for tier in chosen},
        "by simulate": dict(compiled),
        "refused for": dict(reasons.most_common(12)),
    }
    return Findings(metrics, {}, tuple(rows), notes)


def _construct(reason: str) -> str:
    """The construct that a refusal names first."""
    return re.sub(r"^line \d+: ", "", reason.partition(": ")[2]).partition(" at line")[0].partition(" in ")[0]


def _picture(counts: dict[str, Counter]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(7.0, 2.6), layout="constrained")
    left = np.zeros(len(counts))
    for result, colour in COLOURS.items():
        width = np.array([found[result] for found in counts.values()], dtype=float)
        axes.barh(list(counts), width, left=left, color=colour, label=result)
        left += width
    axes.invert_yaxis()
    axes.set_xlabel("cases")
    axes.set_title("SBML Test Suite, semantic cases, by tier")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _stand_in(folder: Path) -> None:
    """A suite of two small cases of our own: a decay with its exact answer, without an event and with one that never
    happens."""
    law = "<apply><times/><ci>k</ci><ci>S</ci></apply>"
    event = (
        '<listOfEvents><event id="e" useValuesFromTriggerTime="true"><trigger initialValue="true" persistent="true">'
        '<math xmlns="http://www.w3.org/1998/Math/MathML"><apply><gt/><ci>S</ci><cn>5</cn></apply></math></trigger>'
        "</event></listOfEvents>"
    )
    times = np.linspace(0.0, 2.0, 5)
    for number, more in (("00001", ""), ("00002", event)):
        place = folder / "semantic" / number
        place.mkdir(parents=True)
        (place / f"{number}-sbml-l3v2.xml").write_text(
            '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="m">'
            '<listOfCompartments><compartment id="C" size="1" spatialDimensions="3" constant="true"/>'
            '</listOfCompartments><listOfSpecies><species id="S" compartment="C" initialAmount="1" constant="false" '
            'hasOnlySubstanceUnits="false" boundaryCondition="false"/></listOfSpecies><listOfParameters><parameter '
            'id="k" value="1" constant="true"/></listOfParameters><listOfReactions><reaction id="R" reversible="false">'
            '<listOfReactants><speciesReference species="S" stoichiometry="1" constant="true"/></listOfReactants>'
            f'<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math></kineticLaw></reaction>'
            f"</listOfReactions>{more}</model></sbml>"
        )
        (place / f"{number}-settings.txt").write_text(
            "start: 0\nduration: 2\nsteps: 4\nvariables: S\nabsolute: 1e-7\nrelative: 1e-4\namount: S\nconcentration:\n"
        )
        rows = "\n".join(f"{time},{np.exp(-time)}" for time in times)
        (place / f"{number}-results.csv").write_text(f"time,S\n{rows}\n")
    (folder / "tiers.json").write_text(json.dumps({"tier1_must": ["00001"], "tier1_events": ["00002"]}))


def _own_options(arguments: list[str]) -> Iterator[str]:
    """The arguments without `--suite FOLDER` and `--started FILE`, which are noted where `run` looks for them."""
    own = {"--suite": "PINNSIM_SBML_SUITE", "--started": "PINNSIM_SBML_STARTED"}
    waiting = iter(arguments)
    for argument in waiting:
        if argument in own:
            os.environ[own[argument]] = str(Path(next(waiting, "")).expanduser())
        else:
            yield argument


if __name__ == "__main__":
    raise SystemExit(main(__file__, list(_own_options(sys.argv[1:]))))
