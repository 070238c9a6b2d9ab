"""From raw arrays and what the user declares to the checked, canonical arrays of a `Dataset`.

Canonical form: where nothing was observed the value is 0 (a finite number, so that `mask * residual` has a finite
gradient, and a held-out value cannot leak), the sd is NaN and the number of samples is 0; the times of a shorter
condition go on increasing after its `length`, so that every condition has the same shape and an interpolation over
the padding is still defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from pinnsim.data import check
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.treatment import NONE, Treatment


class Declared(TypedDict, total=False):
    """What only the user can say about a time course; `time_unit` and `scale` must be said, the rest has a default.

    `time_unit` ("s", "min", "h", "d"); `scale` ("log2", "log1p", "linear", "counts"); `time_kind` ("physical" or
    "pseudotime"); `kind` ("trajectory": the same culture followed, or "snapshot": cells destroyed); `source`, a
    citation; `simulated`; `missing` ("error", or "mask": NaN and inf count as not observed); `steady_state`,
    conditions with one time point are meant; `targets`, genes that the fit needs to change; `limit`, bytes.
    """

    time_unit: str | None
    scale: str | None
    time_kind: str
    kind: str
    source: str
    simulated: bool
    missing: str
    steady_state: bool
    targets: Sequence[str]
    limit: float


DEFAULTS: Declared = {
    "time_unit": None,
    "scale": None,
    "time_kind": "physical",
    "kind": "trajectory",
    "source": "",
    "simulated": False,
    "missing": "error",
    "steady_state": False,
    "targets": (),
    "limit": check.DEFAULT_LIMIT,
}


KEPT = ("time_unit", "time_kind", "scale", "kind", "source", "simulated")
"""The declarations that a `Dataset` keeps."""


def complete(problems: Problems, declared: Mapping[str, Any]) -> Declared:
    """`declared` with defaults for what was left out; adds problems for unknown names and values."""
    for key in declared:
        if key not in DEFAULTS:
            problems.add(
                "E_USAGE", f"unknown argument `{key}`{did_you_mean(key, DEFAULTS)}; known: {', '.join(DEFAULTS)}."
            )
    known: Declared = {**DEFAULTS, **{k: v for k, v in declared.items() if k in DEFAULTS}}  # type: ignore[typeddict-item]
    known["limit"] = float(known["limit"])
    known["time_unit"] = check.check_time_unit(problems, known["time_unit"])
    check.check_choice(problems, "scale", known["scale"], tuple(check.SCALES))
    check.check_choice(problems, "time_kind", known["time_kind"], check.TIME_KINDS)
    check.check_choice(problems, "kind", known["kind"], check.KINDS)
    check.check_choice(problems, "missing", known["missing"], ("error", "mask"))
    if isinstance(known["targets"], str):
        known["targets"] = (known["targets"],)
    return known


def check_regular(problems: Problems, **arrays: Any) -> bool:
    """Adds `E_DATA_SHAPE` for nested lists whose rows differ in length, which have no shape, and raises."""
    for name, array in arrays.items():
        try:
            np.shape(array)
        except ValueError:
            problems.add(
                "E_DATA_SHAPE", f"Argument `{name}` has rows of different lengths; pad them and pass `length`."
            )
    if "E_DATA_SHAPE" in problems.codes:
        problems.raise_any()
    return True


def said(declared: Declared) -> dict[str, Any]:
    """The declarations that a `Dataset` keeps, by field name."""
    return {key: value for key, value in declared.items() if key in KEPT}


def checked_arrays(
    problems: Problems,
    values: Any,
    times: Any,
    genes: Sequence[str],
    conditions: Sequence[str],
    replicates: Sequence[str],
    mask: Any,
    sd: Any,
    samples: Any,
    length: Any,
    declared: Declared,
) -> dict[str, Any]:
    """The canonical arrays of a `Dataset`, by field name; raises everything found, together with what `problems`
    already holds.

    Shapes as in `Dataset`; `mask`, `sd`, `samples` and `length` may be None (all observed, unknown, one each, no
    padding).
    """
    n_times = np.shape(times)[-1] if np.ndim(times) in (1, 2) else -1
    sizes = {"conditions": len(conditions), "replicates": len(replicates), "times": n_times, "genes": len(genes)}
    nothing = [name for name, n in sizes.items() if n == 0]
    if nothing:
        problems.add("E_DATA_EMPTY", f"no {' and no '.join(nothing)} left; check the selection and the column names.")
    names_distinct(problems, genes, conditions, replicates)
    shape = (len(conditions), len(replicates), n_times, len(genes))
    given = {"values": values, "mask": mask, "sd": sd, "samples": samples}
    for name, array in given.items():
        if array is not None and np.shape(array) != shape:
            problems.add(
                "E_DATA_SHAPE",
                f"Argument `{name}` has the shape {np.shape(array)}, but {shape} follows from the names and times "
                "(condition, replicate, time, gene).",
            )
    if np.ndim(times) == 2 and np.shape(times)[0] != len(conditions):
        problems.add(
            "E_DATA_SHAPE", f"Argument `times` has {np.shape(times)[0]} rows for {len(conditions)} conditions."
        )
    real = np.full(shape[0], n_times) if length is None else np.asarray(length, dtype=np.int64)
    if n_times > 0 and (real.shape != shape[:1] or not np.all((real >= 1) & (real <= n_times))):
        problems.add("E_DATA_SHAPE", f"Argument `length` must be a whole number from 1 to {n_times} per condition.")
    named = dict(zip(("conditions", "replicates", "times", "genes"), (max(n, 0) for n in shape), strict=True))
    fits = check.check_size(problems, named, declared["limit"])
    # Without these the values cannot even be looked at; anything else is reported together with what the values show.
    if not fits or {"E_DATA_EMPTY", "E_DATA_SHAPE"} & problems.codes:
        problems.raise_any()

    before = len(problems.found)
    grid = np.array(np.broadcast_to(as_numbers(problems, times, "times", "E_TIME_UNIT"), (shape[0], n_times)))
    times_read = len(problems.found) == before
    value = as_numbers(problems, values, "values", "E_DATA_TYPE")
    spread = np.full(shape, np.nan) if sd is None else as_numbers(problems, sd, "sd", "E_DATA_TYPE")
    if "E_DATA_TYPE" in problems.codes:
        problems.raise_any()
    seen = np.ones(shape, dtype=bool) if mask is None else np.array(mask, dtype=bool)
    seen &= (np.arange(n_times) < real[:, None])[:, None, :, None]
    if declared["missing"] == "mask":
        seen &= np.isfinite(value)

    def place(index: tuple[int, ...]) -> str:
        c, r, t, g = index
        return f"condition {conditions[c]}, replicate {replicates[r]}, time {grid[c, t]:g}, gene {genes[g]}"

    if times_read:
        check.check_times(problems, grid, real, conditions)
    if not seen.any():
        problems.add("E_DATA_EMPTY", "no value is observed; check the mask and the selection.")
    else:
        check.check_enough_times(problems, seen, conditions, bool(declared["steady_state"]))
    check.check_values(problems, value, seen, str(declared["scale"]), place)
    narrow = np.argwhere(seen & (spread <= 0)).tolist()
    if len(narrow):
        shown = first(f"{place(tuple(i))}: sd = {spread[tuple(i)]:g}" for i in narrow[:3])
        problems.add("E_DATA_NEGATIVE", f"{len(narrow)} sd ≤ 0 (first: {shown}); give NaN where the sd is unknown.")
    unknown = [gene for gene in declared["targets"] if gene not in set(genes)]
    if unknown:
        near = did_you_mean(unknown[0], genes)
        problems.add("E_GENE_UNKNOWN", f"{len(unknown)} `targets` are not in the data: {first(unknown)}{near}.")
    if not problems:
        check.check_constant(problems, value, seen, genes, declared["targets"])
    problems.raise_any()
    count = np.ones(shape, dtype=np.int64) if samples is None else np.asarray(samples, dtype=np.int64)
    return canonical(value, seen, spread, count, pad(grid, real), real)


def canonical(
    values: np.ndarray, mask: np.ndarray, sd: np.ndarray, samples: np.ndarray, times: np.ndarray, length: np.ndarray
) -> dict[str, Any]:
    """The array fields of a `Dataset` in canonical form (see the file's docstring)."""
    return {
        "times": times,
        # Adding 0 turns -0 into 0, so that equal data have equal bytes.
        "values": np.where(mask, values, 0.0) + 0.0,
        "mask": mask,
        "sd": np.where(mask, sd, np.nan),
        "samples": np.where(mask, samples, 0),
        "length": np.asarray(length, dtype=np.int64),
    }


def pad(times: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Times whose entries from `length` on continue with the last step of their condition (1 if it has a single
    time)."""
    out = times.astype(np.float64, copy=True)
    for row, n in zip(out, length.tolist(), strict=True):
        step = row[n - 1] - row[n - 2] if n > 1 else 1.0
        row[n:] = row[n - 1] + step * np.arange(1, len(row) - n + 1)
    return out


def resolve_treatments(
    problems: Problems, given: Mapping[str, Treatment | str] | None, conditions: Sequence[str]
) -> tuple[Treatment, ...]:
    """One treatment per condition, `NONE` where none is given; adds `E_CONDITION_UNKNOWN` and what the text form
    refuses."""
    found = dict.fromkeys(conditions, NONE)
    for name, treatment in (given or {}).items():
        if name not in found:
            problems.add(
                "E_CONDITION_UNKNOWN",
                f"`treatments` names '{name}'{did_you_mean(name, conditions)}; the conditions are {first(conditions)}.",
            )
            continue
        try:
            found[name] = Treatment.parse(treatment) if isinstance(treatment, str) else treatment
        except PinnsimError as error:
            problems.absorb(error)
    return tuple(found[name] for name in conditions)


def names_distinct(
    problems: Problems, genes: Sequence[str], conditions: Sequence[str], replicates: Sequence[str]
) -> None:
    """Adds problems for names that are blank or occur twice on an axis."""
    check.check_unique(problems, genes, "E_GENE_DUPLICATE", "columns", "rename or pass aggregate= to the reader")
    check.check_unique(problems, conditions, "E_CONDITION_DUPLICATE", "conditions", "name each condition once")
    check.check_unique(problems, replicates, "E_CONDITION_DUPLICATE", "replicates", "name each replicate once")
    for axis, names in (("gene", genes), ("condition", conditions), ("replicate", replicates)):
        check.check_named(problems, names, axis)


def as_numbers(problems: Problems, array: Any, name: str, code: str) -> np.ndarray:
    """`array` as floats; adds `code` and returns NaN where it holds something else."""
    raw = np.asarray(array)
    if raw.dtype.kind in "iufb":
        return raw.astype(np.float64)
    cells = raw.ravel().tolist()
    try:
        if any(isinstance(cell, str | bytes) for cell in cells):
            raise TypeError
        return np.array([float(cell) for cell in cells]).reshape(raw.shape)
    except (TypeError, ValueError):
        remedy = " and the unit as time_unit=" if code == "E_TIME_UNIT" else ""
        texts = list(dict.fromkeys(repr(cell) for cell in cells))
        how = ", which are text: .astype(float) makes them numbers" if _are_text(cells) else ""
        problems.add(code, f"Argument `{name}` holds {first(texts)}{how}; give plain numbers{remedy}.")
        return np.full(raw.shape, np.nan)


def _are_text(cells: list[Any]) -> bool:
    """Whether these are numbers, written as text."""
    try:
        return bool([float(cell) for cell in cells if isinstance(cell, str)])
    except ValueError:
        return False
