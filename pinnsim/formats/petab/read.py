"""From a PEtab problem's files to its tables and model, versions 1 and 2; all problems at once.

Source: PEtab 1.0 and 2.0, data format specifications.
"""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

from pinnsim.errors import PinnsimError, Problem, Problems, did_you_mean, first
from pinnsim.formats.petab.files import TABLE_LIMITS, TableLimits, inside, read_grouping, read_tables
from pinnsim.formats.petab.tables import (
    Measurement,
    Period,
    Tables,
    experiments_of,
    measurements_of,
    observables_of,
    parameters_of,
)
from pinnsim.formats.petab.v1 import experiments_v1, observables_v1
from pinnsim.formats.sbml.read import LIMITS, Limits, parsed_file

Plain = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """What was read from `path`: `tables`; the plain data of the SBML `model`, at `place`; `alias`: names of the
    problem for entities of the model; `grouping`: the YAML file's contents."""

    path: Path
    tables: Tables
    model: Plain
    place: Path
    alias: dict[str, str]
    grouping: Plain


def read_source(
    path: Path, *, limits: Limits = LIMITS, tables: TableLimits = TABLE_LIMITS, isolated: bool = True
) -> Source:
    """A problem's tables and model. **Raises** as `read_petab`."""
    grouping = read_grouping(path, tables)
    folder = path.parent
    version = str(grouping.get("format_version", ""))
    with Problems() as problems:
        if version.partition(".")[0] not in ("1", "2"):
            problems.add("E_PETAB_UNSUPPORTED", f"'{path}': format_version is '{version}'; versions 1 and 2 are read.")
            problems.raise_any()
        files = problems.attempt(lambda: files_of(grouping, path)) or {}
        count = sum(len(names) for names in files.values())
        if count > tables.files:
            problems.add("E_SIZE", f"'{path}' names {count} files, limit {tables.files}.")
        problems.raise_any()
        place = inside(folder, files["model"][0])
        parsed = parsed_file(place, limits=limits, isolated=isolated)
        if parsed["problems"]:
            raise PinnsimError([Problem(code, f"{what.rstrip('.')} ('{place}').") for code, what in parsed["problems"]])
        model: Plain = parsed["model"]
        get = partial(read_tables, folder, problems=problems, limits=tables)
        found = (_tables_v1 if version.startswith("1") else _tables_v2)(files, get, model, problems)
        mapping = get(files.get("mapping", []), needed=("petabEntityId", "modelEntityId"))
        alias = {
            row["petabEntityId"]: row["modelEntityId"]
            for row in mapping.to_dict("records")
            if row["modelEntityId"] and row["petabEntityId"]
        }
    return Source(path, found, model, place, alias, grouping)


def files_of(grouping: Plain, path: Path) -> dict[str, list[Any]]:
    """The files that a problem names, by kind. **Raises** `E_PETAB_INVALID`, `E_PETAB_UNSUPPORTED`."""
    with Problems() as problems:
        first_version = str(grouping.get("format_version", "")).startswith("1")
        return (_files_v1 if first_version else _files_v2)(grouping, path, problems)


def _listed(grouping: Plain, key: str, problems: Problems) -> list[Any]:
    """Files of one kind: a name or a list of names."""
    value = grouping.get(key) or []
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        problems.add("E_PETAB_INVALID", f"{key} must be names of files, but is {str(value)[:80]}.")
        return []
    return names


def _files_v1(grouping: Plain, path: Path, problems: Problems) -> dict[str, list[Any]]:
    every = grouping.get("problems")
    if not isinstance(every, list) or len(every) != 1 or not isinstance(every[0], dict):
        count = len(every) if isinstance(every, list) else 0
        problems.add("E_PETAB_UNSUPPORTED", f"'{path}' lists {count} problems; one is read.")
        return {}
    one = every[0]
    files = {kind: _listed(one, f"{kind}_files", problems) for kind in ("condition", "measurement", "observable")}
    files["parameter"] = _listed(grouping, "parameter_file", problems)
    files["model"] = _listed(one, "sbml_files", problems)
    return _complete(files, ("condition", "measurement", "observable", "parameter"), path, problems)


def _files_v2(grouping: Plain, path: Path, problems: Problems) -> dict[str, list[Any]]:
    kinds = ("condition", "experiment", "measurement", "observable", "parameter", "mapping")
    files = {kind: _listed(grouping, f"{kind}_files", problems) for kind in kinds}
    models = grouping.get("model_files")
    files["model"] = []
    for name, one in (models if isinstance(models, dict) else {}).items():
        if not isinstance(one, dict) or str(one.get("language", "")).lower() != "sbml":
            problems.add("E_PETAB_UNSUPPORTED", f"'{path}': the model '{name}' is not written in SBML.")
        else:
            files["model"].append(one.get("location"))
    extensions = grouping.get("extensions")
    if extensions:
        problems.add("E_PETAB_UNSUPPORTED", f"'{path}' needs the extensions {first(extensions)}.")
    return _complete(files, ("measurement", "observable", "parameter"), path, problems)


def _complete(
    files: dict[str, list[Any]], needed: tuple[str, ...], path: Path, problems: Problems
) -> dict[str, list[Any]]:
    for kind in needed:
        if not files[kind]:
            problems.add("E_PETAB_INVALID", f"'{path}' names no {kind} file.")
    if len(files["model"]) != 1 and not problems:
        problems.add("E_PETAB_UNSUPPORTED", f"'{path}' names {len(files['model'])} models; one is read.")
    return files


def _tables_v1(files: dict[str, list[Any]], get: Any, model: Plain, problems: Problems) -> Tables:
    parameters = parameters_of(get(files["parameter"], needed=("parameterId", "estimate")), problems, 1)
    shown = get(files["observable"], needed=("observableId", "observableFormula", "noiseFormula"))
    observables = observables_of(observables_v1(shown, problems), problems)
    conditions = get(files["condition"], needed=("conditionId",))
    needed = ("observableId", "simulationConditionId", "time", "measurement")
    measured = get(files["measurement"], needed=needed)
    lasting = {item["id"] for kind in ("species", "compartments") for item in model[kind]}
    lasting |= {item["symbol"] for item in model["rate"]}
    described, experiments = experiments_v1(conditions, measured, problems, lasting)
    rows = measurements_of(described, observables, problems)
    _begun(rows, experiments, problems)
    return Tables(parameters, observables, experiments, tuple(rows), 1, measured)


def _tables_v2(files: dict[str, list[Any]], get: Any, model: Plain, problems: Problems) -> Tables:
    parameters = parameters_of(get(files["parameter"], needed=("parameterId", "estimate")), problems, 2)
    observables = observables_of(get(files["observable"], needed=("observableId", "observableFormula")), problems)
    conditions = get(files["condition"], needed=("conditionId", "targetId", "targetValue"))
    periods = get(files["experiment"], needed=("experimentId", "time", "conditionId"))
    measured = get(files["measurement"], needed=("observableId", "experimentId", "time", "measurement"))
    if len({row for row in measured.get("modelId", []) if row}) > 1:
        problems.add("E_PETAB_UNSUPPORTED", "The measurements are of several models; one is read.")
    experiments = experiments_of(conditions, periods, problems)
    rows = measurements_of(measured, observables, problems)
    _begun(rows, experiments, problems)
    return Tables(parameters, observables, experiments, tuple(rows), 2, measured)


def _begun(rows: list[Measurement], experiments: dict[str, tuple[Period, ...]], problems: Problems) -> None:
    """Notes measurements of experiments that are not there, or have not begun."""
    for one in rows:
        if one.experiment and one.experiment not in experiments:
            near = did_you_mean(one.experiment, experiments)
            problems.add("E_PETAB_INVALID", f"{one.where}: no experiment is called '{one.experiment}'{near}.")
            continue
        periods = experiments.get(one.experiment, ())
        begin = min((period.start for period in periods if math.isfinite(period.start)), default=0.0)
        if one.time < begin:
            problems.add(
                "E_PETAB_INVALID", f"{one.where}: time {one.time:g} is before the experiment starts ({begin:g})."
            )
