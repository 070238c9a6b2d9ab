"""What may be wrong with a time course, checked before anything is computed from it.

Each check takes the collector and adds what it finds (object, place, count, first three offenders, remedy); none
raises, so that one read reports everything at once. What the user declares (scale, unit of time) is never guessed
from the numbers, only compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pinnsim.errors import Problems, did_you_mean, first, warn
from pinnsim.units import TIME_UNITS, known_time_unit

SCALES: dict[str, str] = {
    "log2": "log2 of an abundance or intensity",
    "log1p": "log(1 + abundance)",
    "linear": "abundance",
    "counts": "counts of molecules, reads or cells",
}
TIME_KINDS = ("physical", "pseudotime")
KINDS = ("trajectory", "snapshot")
DEFAULT_LIMIT = 16e9  # bytes

_BYTES = 8


def check_choice(problems: Problems, name: str, given: object, allowed: Sequence[str], code: str = "E_USAGE") -> None:
    """Adds a problem unless `given` is one of `allowed`; None means that the user has to say it."""
    listed = ", ".join(f"'{choice}'" for choice in allowed)
    if given is None:
        problems.add(code, f"Argument `{name}` is not given and is never guessed; pass one of {listed}.")
    elif given not in allowed:
        problems.add(code, f"Argument `{name}` is '{given}'{did_you_mean(str(given), allowed)}; use one of {listed}.")


def check_time_unit(problems: Problems, unit: str | None) -> str:
    """The house name of the declared unit; adds `E_TIME_UNIT` if it is absent or unknown."""
    known = None if unit is None else known_time_unit(unit)
    if known is None:
        check_choice(problems, "time_unit", unit, tuple(TIME_UNITS), "E_TIME_UNIT")
    return known or "min"


def check_size(problems: Problems, dimensions: Mapping[str, int], limit: float, what: str = "the data set") -> bool:
    """Adds `E_SIZE` if an array of these dimensions (8 bytes each) would exceed `limit` bytes; call it BEFORE
    allocating."""
    need = math.prod(int(n) for n in dimensions.values()) * _BYTES
    if need <= limit:
        return True
    shape = " x ".join(f"{n} {name}" for name, n in dimensions.items())
    problems.add(
        "E_SIZE",
        f"{what} ({shape}) needs {_bytes(need)}, limit {_bytes(limit)}. "
        "Select fewer genes or samples, or raise `limit`.",
    )
    return False


def check_times(problems: Problems, times: np.ndarray, length: np.ndarray, conditions: Sequence[str]) -> None:
    """Adds `E_TIME_UNIT` for times that are NaN or infinite and `E_TIME_ORDER` where they do not strictly increase."""
    for c, name in enumerate(conditions):
        row = times[c, : int(length[c])]
        check_increasing(problems, row, f"condition '{name}'")


def check_increasing(problems: Problems, row: np.ndarray, where: str, equal_allowed: bool = False) -> None:
    """Adds `E_TIME_UNIT` or `E_TIME_ORDER` for one sequence of times (`equal_allowed`: several samples at one time)."""
    odd = np.flatnonzero(~np.isfinite(row))
    if len(odd):
        shown = first(f"time[{i}]={row[i]:g}" for i in odd)
        problems.add(
            "E_TIME_UNIT", f"{len(odd)} times of {where} are NaN or infinite ({shown}); give every sample a time."
        )
        return
    step = np.diff(row)
    bad = np.flatnonzero(step < 0 if equal_allowed else step <= 0) + 1
    if len(bad):
        shown = first(f"time[{i}]={row[i]!s} after {row[i - 1]!s}" for i in bad)
        problems.add(
            "E_TIME_ORDER",
            f"{where}: {shown}. Times must strictly increase: sort the samples by time; several samples at one time "
            "are replicates, or pass samples='average' to the reader.",
        )


def check_enough_times(problems: Problems, mask: np.ndarray, conditions: Sequence[str], steady_state: bool) -> None:
    """Adds `E_TIME_FEW` for conditions observed at fewer than two times, unless `steady_state` says that this is
    meant."""
    observed = mask.any(axis=(1, 3)).sum(axis=1).tolist()
    empty = [name for name, n in zip(conditions, observed, strict=True) if n == 0]
    single = [name for name, n in zip(conditions, observed, strict=True) if n == 1]
    if empty:
        share = _count(len(empty), len(conditions), "conditions")
        problems.add("E_DATA_EMPTY", f"{share} have no observed value ({first(empty)}); drop them.")
    if single and not steady_state:
        share = _count(len(single), len(conditions), "conditions")
        problems.add(
            "E_TIME_FEW",
            f"dynamics not identifiable from 1 time point: {share} ({first(single)}); "
            "use steady_state=True or give ≥2.",
        )


def check_unique(problems: Problems, names: Sequence[str], code: str, axis: str, remedy: str, start: int = 1) -> bool:
    """Adds `code` if a name occurs twice, with its positions along `axis` counted from `start`."""
    where: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        where.setdefault(name, []).append(i + start)
    twice = {name: places for name, places in where.items() if len(places) > 1}
    if twice:
        shown = first(f"'{n}' ×{len(p)} ({axis} {', '.join(map(str, p))})" for n, p in twice.items())
        problems.add(code, f"{shown}; {remedy}.")
    return not twice


def check_named(problems: Problems, names: Sequence[str], axis: str, start: int = 1) -> None:
    """Adds `E_DATA_TYPE` for names that are blank."""
    blank = [f"{axis} {i + start}" for i, name in enumerate(names) if not name.strip()]
    if blank:
        problems.add("E_DATA_TYPE", f"{len(blank)} blank names ({first(blank)}); every {axis} needs a name.")


def check_values(
    problems: Problems, values: np.ndarray, observed: np.ndarray, scale: str, place: Callable[[tuple[int, ...]], str]
) -> None:
    """Finite, of the right sign, and like the declared scale.

    **Arguments:** `values`, any shape; `observed`, the same shape, false where nothing was measured; `scale`, one of
    `SCALES`, as declared; `place`, names an index in words.

    Adds `E_DATA_NONFINITE`, `E_DATA_NEGATIVE` (counts, linear, log1p), `E_SCALE_MISMATCH`; warns `W_SCALE_RAW`.
    """
    finite = np.isfinite(values)
    odd = np.argwhere(observed & ~finite).tolist()
    if len(odd):
        n_nan = int(np.isnan(values[observed]).sum())
        kinds = ", ".join(f"{n} {word}" for n, word in ((n_nan, "NaN"), (len(odd) - n_nan, "inf")) if n)
        shown = first(f"{place(tuple(i))} = {values[tuple(i)]}" for i in odd[:3])
        problems.add(
            "E_DATA_NONFINITE",
            f"{kinds} among {int(observed.sum())} values (first: {shown}); use missing='mask' to treat as unobserved.",
        )
    good = values[observed & finite]
    if not good.size:
        return
    negative = np.argwhere(observed & finite & (values < 0)).tolist()
    if len(negative) and scale in ("counts", "linear", "log1p"):
        shown = first([f"{place(tuple(i))} = {values[tuple(i)]:g}" for i in negative[:3]])
        thing = {"counts": "Counts", "linear": "Abundances", "log1p": "log(1 + abundance)"}[scale]
        problems.add(
            "E_DATA_NEGATIVE",
            f"{len(negative)} negative values of {good.size} (first: {shown}). {thing} must be ≥0; "
            "if log-ratio data pass scale='log2'.",
        )
    _check_scale(problems, good, scale)


def _check_scale(problems: Problems, good: np.ndarray, scale: str) -> None:
    whole, top = bool(np.all(good == np.round(good))), float(good.max())
    if scale == "counts" and not whole and top < 20:
        problems.add(
            "E_SCALE_MISMATCH",
            f"scale='counts' needs counts; the values are non-integer, max {top:.3g} (looks log1p). "
            "Choose the raw table, or declare scale='log1p' or scale='log2'.",
        )
    if scale in ("log2", "log1p") and top > 1e3:
        problems.add(
            "E_SCALE_MISMATCH",
            f"scale='{scale}' but the largest value is {top:.6g}, which no logarithm of an abundance reaches "
            f"(looks {'raw counts' if whole else 'linear'}). Take the logarithm, or declare "
            f"scale='{'counts' if whole else 'linear'}'.",
        )
    elif scale in ("log2", "log1p") and top > 50:
        look = "integers up to" if whole else "up to"
        warn(
            "W_SCALE_RAW",
            f"scale='{scale}' but the values are {look} {top:.6g} (looks {'raw counts' if whole else 'linear'}); "
            f"declare scale='{'counts' if whole else 'linear'}' if they are.",
            stacklevel=5,
        )


def check_constant(
    problems: Problems, values: np.ndarray, mask: np.ndarray, genes: Sequence[str], targets: Sequence[str]
) -> None:
    """Warns `W_GENE_CONSTANT` for genes (last axis) that never change; adds `E_GENE_CONSTANT` for those of
    `targets`."""
    flat, seen = values.reshape(-1, len(genes)), mask.reshape(-1, len(genes))
    low = np.where(seen, flat, np.inf).min(axis=0, initial=np.inf)
    high = np.where(seen, flat, -np.inf).max(axis=0, initial=-np.inf)
    still = np.flatnonzero((seen.sum(axis=0) >= 2) & (high == low)).tolist()
    named = [f"{genes[g]} = {low[g]:g}" for g in still]
    wanted = [text for g, text in zip(still, named, strict=True) if genes[g] in set(targets)]
    if wanted:
        problems.add(
            "E_GENE_CONSTANT",
            f"{_count(len(wanted), len(targets), 'target genes')} never change ({first(wanted)}); their rates cannot "
            "be fitted: drop them from the targets.",
        )
    rest = [text for text in named if text not in wanted]
    if rest:
        warn(
            "W_GENE_CONSTANT",
            f"{_count(len(rest), len(genes), 'genes')} never change ({first(rest)}); their rates cannot be identified "
            "from these data.",
            stacklevel=4,
        )


def _count(part: int, whole: int, what: str) -> str:
    return f"{part} of {whole} {what}"


def _bytes(n: float | int) -> str:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= factor:
            return f"{n / factor:.3g} {unit}"
    return f"{n:.0f} bytes"
