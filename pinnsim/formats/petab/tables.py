"""What a PEtab problem says, as plain data: parameters, observables, conditions, experiments, measurements.

An experiment is a sequence of periods; at the start of each the changes of its conditions are made. A first period at
-inf is the rest before the experiment. Version 2 says this itself; version 1 is brought to it (`v1`).

Source: PEtab 2.0, data format specification.
"""

import dataclasses
import math

import pandas as pd

from pinnsim.dynamics.operations import Tree
from pinnsim.errors import Problems, did_you_mean, first
from pinnsim.formats.petab.files import number_of
from pinnsim.formats.petab.math import read_math

NOISES = ("normal", "laplace", "log-normal", "log-laplace")
PRIORS = {
    "uniform": 2,
    "normal": 2,
    "log-normal": 2,
    "cauchy": 2,
    "chisquare": 1,
    "exponential": 1,
    "gamma": 2,
    "laplace": 2,
    "log-laplace": 2,
    "log-uniform": 2,
    "rayleigh": 1,
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A row of the parameter table: `value` as it is, not on its scale; `prior`: a name and its numbers, on the
    parameter's scale where `prior_on_scale`, cut off at the bounds where `cut` (version 2)."""

    name: str
    value: float
    lower: float
    upper: float
    estimated: bool
    scale: str = "lin"
    prior: tuple[str, tuple[float, ...]] | None = None
    prior_on_scale: bool = False
    cut: bool = True


@dataclasses.dataclass(frozen=True)
class Observable:
    """What is measured, how noisy: trees; names that measurements fill in (`given`, `noise_given`)."""

    name: str
    formula: Tree
    noise: Tree
    distribution: str
    given: tuple[str, ...]
    noise_given: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Period:
    """From `start` on, with changes: target and tree."""

    start: float
    changes: tuple[tuple[str, Tree], ...]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A row of the measurement table; `filled`, `noise_filled`: numbers or names; `row`: its place in the table."""

    observable: str
    experiment: str
    time: float
    value: float
    filled: tuple[float | str, ...]
    noise_filled: tuple[float | str, ...]
    where: str


@dataclasses.dataclass(frozen=True)
class Tables:
    """All of it. `described`: the measurement table as it was read."""

    parameters: dict[str, Parameter]
    observables: dict[str, Observable]
    experiments: dict[str, tuple[Period, ...]]
    measurements: tuple[Measurement, ...]
    version: int
    described: pd.DataFrame


def parameters_of(table: pd.DataFrame, problems: Problems, version: int) -> dict[str, Parameter]:
    """Rows of a parameter table by name."""
    found: dict[str, Parameter] = {}
    for row in table.to_dict("records"):
        where, name = row["_where"], row["parameterId"]
        if name in found or not name.isidentifier():
            what = "is there twice" if name in found else "is no name"
            problems.add("E_PETAB_INVALID", f"{where}: the parameter '{name}' {what}; give each a name of its own.")
            continue
        word = row.get("estimate", "true").lower()
        if word not in ("true", "false", "1", "0"):
            problems.add("E_PETAB_INVALID", f"{where}: estimate is '{word}', not 1 or 0 (true or false).")
        estimated = word in ("true", "1")
        scale = row.get("parameterScale", "") or "lin"
        if scale not in ("lin", "log", "log10"):
            problems.add("E_PETAB_INVALID", f"{where}: the scale '{scale}' is none of lin, log, log10.")
            scale = "lin"
        numbers = {}
        for column, without in (("nominalValue", math.nan), ("lowerBound", -math.inf), ("upperBound", math.inf)):
            cell = row.get(column, "")
            value = number_of(cell) if cell else without
            if value is None:
                problems.add("E_PETAB_INVALID", f"{where}: {column} is '{cell}', which is no number.")
                value = without
            numbers[column] = value
        value, lower, upper = numbers["nominalValue"], numbers["lowerBound"], numbers["upperBound"]
        if not estimated and math.isnan(value):
            problems.add("E_PETAB_INVALID", f"{where}: '{name}' is not estimated and has no nominalValue; give it one.")
        if estimated and (lower > upper or (scale != "lin" and lower < 0)):
            problems.add(
                "E_BOUNDS",
                f"{where}: '{name}' has bounds {lower:g} and {upper:g} on scale {scale}; lower must be "
                "below upper, and not negative on a logarithmic scale.",
            )
        prior, on_scale = (_prior_v1 if version == 1 else _prior)(row, (lower, upper), scale, problems)
        found[name] = Parameter(
            name, value, lower, upper, estimated, scale, prior if estimated else None, on_scale, version != 1
        )
    return found


def _numbers(text: str, count: int, where: str, problems: Problems) -> tuple[float, ...]:
    values = tuple(number_of(part.strip()) for part in text.split(";")) if text else ()
    if len(values) != count or any(value is None or not math.isfinite(value) for value in values):
        problems.add("E_PETAB_INVALID", f"{where}: the prior's parameters are '{text}', not {count} numbers with ';'.")
        return (1.0,) * count
    return tuple(float(value) for value in values if value is not None)


def _prior(
    row: dict, bounds: tuple[float, float], scale: str, problems: Problems
) -> tuple[tuple[str, tuple[float, ...]] | None, bool]:
    kind, where = row.get("priorDistribution", ""), row["_where"]
    if not kind:
        return (("uniform", bounds) if math.isfinite(bounds[1] - bounds[0]) else None), False
    if kind not in PRIORS:
        problems.add("E_PETAB_INVALID", f"{where}: no prior is called '{kind}'{did_you_mean(kind, PRIORS)}.")
        return None, False
    return (kind, _numbers(row.get("priorParameters", ""), PRIORS[kind], where, problems)), False


def _prior_v1(
    row: dict, bounds: tuple[float, float], scale: str, problems: Problems
) -> tuple[tuple[str, tuple[float, ...]] | None, bool]:
    kind, where = row.get("objectivePriorType", ""), row["_where"]
    if not kind:
        return None, False
    words = {
        "uniform": "uniform",
        "normal": "normal",
        "laplace": "laplace",
        "logNormal": "log-normal",
        "logLaplace": "log-laplace",
    }
    words |= {f"parameterScale{word.capitalize()}": word for word in ("uniform", "normal", "laplace")}
    if kind not in words:
        problems.add("E_PETAB_INVALID", f"{where}: no prior is called '{kind}'{did_you_mean(kind, words)}.")
        return None, False
    text = row.get("objectivePriorParameters", "")
    if not text and words[kind] == "uniform":
        return None, False
    return (words[kind], _numbers(text, 2, where, problems)), kind.startswith("parameterScale")


def observables_of(table: pd.DataFrame, problems: Problems) -> dict[str, Observable]:
    """Rows of an observable table by name, with columns as version 2 has them."""
    found: dict[str, Observable] = {}
    for row in table.to_dict("records"):
        where, name = row["_where"], row["observableId"]
        if name in found or not name:
            what = "is there twice" if name else "has no name"
            problems.add("E_PETAB_INVALID", f"{where}: the observable '{name}' {what}.")
            continue
        noise = row.get("noiseDistribution", "") or "normal"
        if noise not in (*NOISES, "log10-normal", "log10-laplace"):
            problems.add("E_PETAB_INVALID", f"{where}: no noise is called '{noise}'; there are {', '.join(NOISES)}.")
            noise = "normal"
        found[name] = Observable(
            name,
            read_math(row["observableFormula"], problems, f"{where}, {name}"),
            read_math(row.get("noiseFormula", "") or "1", problems, f"{where}, noise of {name}"),
            noise,
            listed(row.get("observablePlaceholders", "")),
            listed(row.get("noisePlaceholders", "")),
        )
    return found


def listed(text: str) -> tuple[str, ...]:
    """Names or numbers with ';' between."""
    return tuple(part.strip() for part in text.split(";")) if text else ()


def measurements_of(table: pd.DataFrame, tables: dict[str, Observable], problems: Problems) -> list[Measurement]:
    """Rows of a measurement table; what is wrong is counted and its first rows named."""
    found, bad = [], []
    for row in table.to_dict("records"):
        where, name = row["_where"], row["observableId"]
        if name not in tables:
            problems.add("E_PETAB_INVALID", f"{where}: no observable is called '{name}'{did_you_mean(name, tables)}.")
            continue
        one = tables[name]
        time, value = number_of(row["time"]), number_of(row["measurement"])
        if time is None or time == -math.inf or value is None or not math.isfinite(value):
            bad.append(f"{where}: time '{row['time']}', measurement '{row['measurement']}'")
            continue
        if "-" in one.distribution and value <= 0:
            problems.add(
                "E_PETAB_INVALID",
                f"{where}: {value:g} has no logarithm, but {name} has {one.distribution} "
                "noise; leave it out, or give normal noise.",
            )
            continue
        filled, noise = listed(row.get("observableParameters", "")), listed(row.get("noiseParameters", ""))
        for what, have, want in (("observable", filled, one.given), ("noise", noise, one.noise_given)):
            if len(have) != len(want):
                problems.add(
                    "E_PETAB_INVALID", f"{where}: {len(have)} {what}Parameters for {len(want)} places of {name}."
                )
        found.append(Measurement(name, row["experimentId"], time, value, _cells(filled), _cells(noise), where))
    if bad:
        problems.add("E_PETAB_INVALID", f"{len(bad)} measurements have no number (first: {first(bad)}).")
    if not found and not problems:
        problems.add("E_DATA_EMPTY", "The problem has no measurements.")
    return found


def _cells(cells: tuple[str, ...]) -> tuple[float | str, ...]:
    return tuple(cell if (value := number_of(cell)) is None else value for cell in cells)


def experiments_of(
    conditions: pd.DataFrame, experiments: pd.DataFrame, problems: Problems
) -> dict[str, tuple[Period, ...]]:
    """Periods by experiment, in the order of time."""
    changes: dict[str, list[tuple[str, Tree]]] = {}
    for row in conditions.to_dict("records"):
        tree = read_math(row["targetValue"], problems, f"{row['_where']}, {row['targetId']}")
        changes.setdefault(row["conditionId"], []).append((row["targetId"], tree))
    found: dict[str, dict[float, list[tuple[str, Tree]]]] = {}
    for row in experiments.to_dict("records"):
        where, time, name = row["_where"], number_of(row["time"]), row["conditionId"]
        if time is None or time == math.inf:
            problems.add("E_PETAB_INVALID", f"{where}: a period starts at '{row['time']}', which is no time.")
            continue
        if name and name not in changes:
            problems.add("E_PETAB_INVALID", f"{where}: no condition is called '{name}'{did_you_mean(name, changes)}.")
        here = found.setdefault(row["experimentId"], {}).setdefault(time, [])
        twice = {target for target, _ in here} & {target for target, _ in changes.get(name, [])}
        if twice:
            problems.add("E_PETAB_INVALID", f"{where}: '{min(twice)}' is changed twice at time {time:g}.")
        here += changes.get(name, [])
    return {
        name: tuple(Period(time, tuple(periods[time])) for time in sorted(periods)) for name, periods in found.items()
    }
