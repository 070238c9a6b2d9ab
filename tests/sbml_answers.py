"""Answers of libroadrunner for our models by rule, kept in small tables so that tests do not need it.

    python tests/sbml_answers.py              # writes sbml_answers.csv and event_answers.csv anew; needs libroadrunner
    python tests/sbml_answers.py --check      # compares the tables with what scipy makes of our own equations

Writing compares every number with what scipy makes of our own equations, and says where the two differ. Where they do,
the analytic answer decides, and stands in the table (`DECIDED`).
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import event_models
import numpy as np
import sbml_models

HERE = Path(__file__).resolve().parent
RULES, EVENTS = HERE / "sbml_answers.csv", HERE / "event_answers.csv"
SHOWN = ("A amount", "B amount", "A concentration", "B concentration", "C", "k1")
EVENTS_SHOWN = ("A", "B", "C", "k", "n", "q", "w", "x")
TIMES = (1.0, 3.0)
# Away from the moments at which events are due, where a value is before or after by a rounding.
EVENT_TIMES = (0.513, 1.013, 2.013)
_THEIRS = {"A amount": "A", "B amount": "B", "A concentration": "[A]", "B concentration": "[B]"}
_DIGITS = 9


def _moved_in_a_breathing_volume(time: float) -> list[float]:
    """[A] = 1.2 exp(-0.4 t) by its rule, in C = 2 + sin(t) / 2; B gains 0.7 C [A]: what libroadrunner 2.7 has of both
    is another number."""
    size, left = 2.0 + 0.5 * np.sin(time), 1.2 * np.exp(-0.4 * time)
    made = 2.0 * (1.0 - np.exp(-0.4 * time)) / 0.4
    made += 0.5 * (1.0 - np.exp(-0.4 * time) * (0.4 * np.sin(time) + np.cos(time))) / (1.0 + 0.4**2)
    amount = 0.5 + 0.7 * 1.2 * made
    return [left * size, amount, left, amount / size, size, 0.7]


DECIDED = {"volume assigned + kind ruled": _moved_in_a_breathing_volume}


def name_of(choices: Iterable[tuple[str, str]]) -> str:
    """What a model of `sbml_models` is called in the table."""
    return " + ".join(f"{axis} {name}" for axis, name in choices) or "base"


def rule_models() -> dict[str, str]:
    """Every construct alone and in pairs: SBML by name."""
    every = [(), *((one,) for one in sbml_models.singles()), *sbml_models.pairs()]
    return {name_of(choices): sbml_models.written(*choices) for choices in every}


def eventful_models() -> dict[str, str]:
    """Every construct of events alone and in pairs: SBML by name."""
    every = [*((name,) for name in event_models.EVENTS), *event_models.pairs()]
    return {" + ".join(names): event_models.written(*names) for names in every}


def read(path: Path) -> dict[str, np.ndarray]:
    """A table: by model, (time, quantity)."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found: dict[str, list[list[float]]] = {}
    for name, _, *values in rows:
        found.setdefault(name, []).append([float(value) for value in values])
    return {name: np.array(values) for name, values in found.items()}


def answer(text: str, times: tuple[float, ...], names: tuple[str, ...]) -> np.ndarray:
    """What libroadrunner says, (time, quantity)."""
    import roadrunner

    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    peer = roadrunner.RoadRunner(text)
    peer.integrator.relative_tolerance, peer.integrator.absolute_tolerance = 1e-10, 1e-12
    own = {"A": "[A]", "B": "[B]"} if names == EVENTS_SHOWN else _THEIRS
    return np.array(peer.simulate(times=[0.0, *times], selections=[own.get(name, name) for name in names]))[1:]


def ours(text: str, times: tuple[float, ...], names: tuple[str, ...]) -> np.ndarray:
    """What scipy makes of our equations, (time, quantity)."""
    from pinnsim.formats.sbml.read import parsed_text, system_of
    from pinnsim.simulate import Outcome
    from pinnsim.simulate.on_host import solve_on_host

    system = system_of(parsed_text(text.encode(), "test", isolated=False), "test")
    found, host = solve_on_host(system, np.array([0.0, *times]), 1e-8, 1e-10, max_step=0.25), system.on_host()
    assert found.outcome == Outcome.DONE, found.outcome
    rows = [host.known(time, state) for time, state in zip(times, found.states[1:], strict=True)]
    return np.array([[row[name] for name in names] for row in rows])


def differing(path: Path, models: dict[str, str], times: tuple[float, ...], names: tuple[str, ...]) -> list[str]:
    """Models whose numbers are other than the table's."""
    kept = read(path)
    assert set(kept) == set(models), f"{path.name} is of other models: write it anew"
    return [name for name, text in models.items()
            if not np.allclose(ours(text, times, names), kept[name], rtol=2e-5, atol=1e-6)]  # fmt: skip


def _write(path: Path, models: dict[str, str], times: tuple[float, ...], names: tuple[str, ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "time", *names])
        for name, text in models.items():
            exact = DECIDED.get(name)
            answers = answer(text, times, names) if exact is None else [exact(time) for time in times]
            for time, row in zip(times, answers, strict=True):
                writer.writerow([name, time, *(f"{value:.{_DIGITS}g}" for value in row)])
    print(f"{path.name}: {len(models)} models; scipy differs for {differing(path, models, times, names)}")


TABLES = (
    (RULES, rule_models, TIMES, SHOWN),
    (EVENTS, eventful_models, EVENT_TIMES, EVENTS_SHOWN),
)

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    for path, made, times, names in TABLES:
        models = made()
        if sys.argv[1:] == ["--check"]:
            print(f"{path.name}: {len(models)} models; scipy differs for {differing(path, models, times, names)}")
        else:
            _write(path, models, times, names)
