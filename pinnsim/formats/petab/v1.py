"""PEtab version 1 as version 2: a conversion of our own.

The converter of the `petab` package reads formulas through sympy, follows addresses, and makes log10-normal noise
log-normal, which is another likelihood. Here nothing is lost: noise on log10 stays, and so do the parameters' scales.

    condition (row) and parameter (column)          -> changes of that condition
    preequilibrationConditionId, simulationConditionId -> an experiment with periods at -inf and 0
    observableTransformation, noiseDistribution     -> one noise distribution
    observableParameter1_obs, noiseParameter1_obs   -> placeholders of obs

An empty cell of a simulation condition after another one for the rest gives a parameter back its own number, because
in version 1 conditions do not follow on one another; species and compartments stay as the rest left them.

Source: PEtab 1.0, data format specification.
"""

import pandas as pd

from pinnsim.dynamics.operations import Tree, names_in
from pinnsim.errors import Problems, did_you_mean
from pinnsim.formats.petab.files import number_of
from pinnsim.formats.petab.math import read_math
from pinnsim.formats.petab.tables import Period

_NO_TARGETS = ("conditionId", "conditionName", "_where")


def own_number(name: str) -> str:
    """The name of the number that a quantity has before conditions change it."""
    return f"{name} own"


def observables_v1(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The observable table with columns of version 2."""
    table = table.copy()
    for place, row in table.iterrows():
        noise = row.get("noiseDistribution", "") or "normal"
        scale = row.get("observableTransformation", "") or "lin"
        if scale not in ("lin", "log", "log10") or noise not in ("normal", "laplace"):
            problems.add(
                "E_PETAB_INVALID",
                f"{row['_where']}: the noise '{noise}' on '{scale}' is none of normal and laplace on lin, log, log10.",
            )
        table.loc[place, "noiseDistribution"] = noise if scale == "lin" else f"{scale}-{noise}"
        for kind, formula, column in (
            ("observable", "observableFormula", "observablePlaceholders"),
            ("noise", "noiseFormula", "noisePlaceholders"),
        ):
            # What the formula lacks is told where it is read for good.
            start, end = f"{kind}Parameter", f"_{row['observableId']}"
            names = set(names_in(read_math(row.get(formula, "") or "1", Problems(), "")))
            numbers = sorted(
                int(middle)
                for name in names
                if name.startswith(start)
                and name.endswith(end)
                and (middle := name.removeprefix(start).removesuffix(end)).isdigit()
            )
            table.loc[place, column] = ";".join(f"{start}{number}{end}" for number in numbers)
    return table


def experiments_v1(
    conditions: pd.DataFrame, measurements: pd.DataFrame, problems: Problems, lasting: set[str]
) -> tuple[pd.DataFrame, dict[str, tuple[Period, ...]]]:
    """The measurement table with experiments, and these; `lasting`: species and compartments."""
    cells = {row["conditionId"]: row for row in conditions.to_dict("records")}
    targets = [column for column in conditions.columns if column not in _NO_TARGETS]
    measurements = measurements.copy()
    if "preequilibrationConditionId" not in measurements:
        measurements["preequilibrationConditionId"] = ""
    found: dict[str, tuple[Period, ...]] = {}
    names = []
    for row in measurements.to_dict("records"):
        before, during = row["preequilibrationConditionId"], row["simulationConditionId"]
        name = f"{before}__{during}" if before else during
        names.append(name)
        if name in found:
            continue
        found[name] = ()
        missing = [one for one in (before, during) if one and one not in cells]
        for one in missing:
            problems.add(
                "E_PETAB_INVALID", f"{row['_where']}: no condition is called '{one}'{did_you_mean(one, cells)}."
            )
        if missing or not during:
            if not during:
                problems.add("E_PETAB_INVALID", f"{row['_where']}: there is no simulationConditionId.")
            continue
        first = _changes(cells[before], targets, problems) if before else {}
        then = _changes(cells[during], targets, problems)
        for target in first:
            if target not in then and target not in lasting:
                then[target] = own_number(target)
        periods = (Period(0.0, tuple(then.items())),)
        found[name] = (Period(float("-inf"), tuple(first.items())), *periods) if before else periods
    measurements["experimentId"] = names
    return measurements, found


def _changes(row: dict, targets: list[str], problems: Problems) -> dict[str, Tree]:
    changes: dict[str, Tree] = {}
    for target in targets:
        text = row[target]
        if not text or text.lower() == "nan":
            continue
        number = number_of(text)
        where = f"{row['_where']}, {target}"
        changes[target] = number if number is not None else read_math(text, problems, where)
    return changes
