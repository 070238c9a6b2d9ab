"""Time courses from tables: tidy (one row per measurement) or wide (genes x samples beside a table of the samples).

Columns are named by the caller and never guessed; every problem of a table is reported together, with its line or
row. Technical samples (several of one culture at one time) are refused as duplicates unless `samples="average"` says
what they are; then the value is their mean, `sd` the standard error of that mean, and `Dataset.samples` remembers how
many there were.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from pinnsim.data import build as builder
from pinnsim.data import check
from pinnsim.data.build import Declared
from pinnsim.data.dataset import Dataset
from pinnsim.data.rows import Rows, from_rows
from pinnsim.errors import Problems, did_you_mean, first
from pinnsim.texttable import blank, need_columns, numbers, read_table, row_name
from pinnsim.treatment import Treatment
from pinnsim.units import known_time_unit

Source = str | Path | pd.DataFrame
Treatments = Mapping[str, Treatment | str]

_WITH_UNIT = re.compile(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*([A-Za-zµ]+)\s*")


def read_tidy(
    table: Source,
    *,
    gene: str = "gene",
    value: str = "value",
    time: str = "time",
    condition: str | None = None,
    replicate: str | None = None,
    sd: str | None = None,
    treatment: str | None = None,
    treatments: Treatments | None = None,
    samples: str | None = None,
    **declared: Unpack[Declared],
) -> Dataset:
    """A data set from a table with one row per measured value, in any order.

    **Arguments:** `table`, a path (.csv, .tsv) or frame; the names of its columns (`condition`, `replicate`, `sd`,
    `treatment` are used when present under these names; without them there is one condition "all" and one replicate
    "1"); `treatments` by condition, instead of a treatment column; `samples="average"` where several rows are
    technical samples of one culture at one time; and what the user declares: `time_unit` and `scale` (required) and
    the rest of `Declared`. A frame from `Dataset.to_frame` carries its declarations along.

    **Returns:** the data set, names in order of appearance.

    **Raises:** all problems together: `E_COLUMN_MISSING`, `E_DATA_FILE`, `E_TIME_UNIT`, `E_TIME_ORDER` (repeated
    entries) and those of `Dataset.build`.
    """
    from_file = not isinstance(table, pd.DataFrame)
    attrs = {} if from_file else {k: v for k, v in table.attrs.items() if k in builder.DEFAULTS}  # type: ignore[union-attr]
    frame = read_table(table)
    problems = Problems()
    known = builder.complete(problems, {**attrs, **declared})
    _check_average(problems, samples)
    optional = {"condition": condition, "replicate": replicate, "sd": sd, "treatment": treatment}
    used = {role: name or role for role, name in optional.items() if name is not None or role in frame.columns}
    if not _usable(problems, frame, {"gene": gene, "value": value, "time": time, **used}, "the table"):
        problems.raise_any()

    genes = _names(frame[gene])
    conditions = _names(frame[used["condition"]]) if "condition" in used else ["all"] * len(frame)
    replicates = _names(frame[used["replicate"]]) if "replicate" in used else ["1"] * len(frame)
    times = parse_times(problems, frame[time], from_file)
    values = numbers(problems, frame[value], f"column '{value}'", from_file)
    spread = (
        numbers(problems, frame[used["sd"]], "column 'sd'", from_file) if "sd" in used else np.full(len(frame), np.nan)
    )
    count = np.ones(len(frame))
    if "samples" in frame.columns:
        count = numbers(problems, frame["samples"], "column 'samples'", from_file)
        if not bool(np.all((count >= 0) & (count == np.round(count)))):
            problems.add("E_DATA_TYPE", "column 'samples' must hold whole numbers >= 0 (0: not measured).")
            count = np.ones(len(frame))
    given = dict(treatments or {})
    if "treatment" in used:
        given = {**_treatment_column(problems, conditions, _names(frame[used["treatment"]])), **given}

    if not np.isfinite(times).all() or "E_DATA_TYPE" in problems.codes:

        def place(index: tuple[int, ...]) -> str:
            return f"{row_name(frame.index[index[0]], from_file)}, gene {genes[index[0]]}"

        # What could not be read was reported; a blank cell was not.
        observed = (count > 0) & (~np.isnan(values) | blank(frame[value]))
        if known["missing"] == "mask":
            observed &= np.isfinite(values)
        check.check_values(problems, np.where(observed, values, 0.0), observed, str(known["scale"]), place)
        problems.raise_any()

    names = [row_name(index, from_file) for index in frame.index]
    rows = Rows(conditions, replicates, times, genes, values, spread, count, names)
    return from_rows(problems, rows, samples == "average", given, known)


def read_wide(
    expression: Source,
    sample_table: Source,
    *,
    gene: str | None = None,
    sample: str = "sample",
    time: str = "time",
    condition: str | None = None,
    replicate: str | None = None,
    treatments: Treatments | None = None,
    aggregate: str | None = None,
    samples: str | None = None,
    allow_missing: bool = False,
    **declared: Unpack[Declared],
) -> Dataset:
    """A data set from a matrix genes x samples and a table that says what each sample is.

    **Arguments:** `expression`, one row per gene, one column per sample; gene names in the column `gene` (default:
    the index of a frame that has one, else the first column). `sample_table`, one row per sample, within each culture
    in the order of time, with the columns `sample`, `time`, `condition`, `replicate` (the last two used when present
    under these names). `aggregate="mean"` or "sum" joins rows of the same gene; `samples="average"` averages
    technical samples; `allow_missing`, use only samples found in both tables. Declarations as in `read_tidy`.

    **Returns:** the data set; genes in the order of the matrix.

    **Raises:** all problems together: `E_COLUMN_MISSING`, `E_SAMPLE_UNMATCHED`, `E_SAMPLE_DUPLICATE`,
    `E_GENE_DUPLICATE`, `E_TIME_ORDER`, `E_TIME_UNIT` and those of `Dataset.build`.
    """
    problems = Problems()
    known = builder.complete(problems, declared)
    _check_average(problems, samples)
    if aggregate is not None:
        check.check_choice(problems, "aggregate", aggregate, ("mean", "sum"))
    if aggregate == "sum" and known["scale"] in ("log2", "log1p"):
        problems.add("E_USAGE", f"aggregate='sum' adds logarithms (scale='{known['scale']}'); use aggregate='mean'.")
    if isinstance(expression, pd.DataFrame) and gene is None and not isinstance(expression.index, pd.RangeIndex):
        expression = expression.rename_axis(index="gene").reset_index()
    matrix, table = read_table(expression), read_table(sample_table)
    from_file, matrix_from_file = (not isinstance(given, pd.DataFrame) for given in (sample_table, expression))
    named = str(matrix.columns[0]) if gene is None else gene
    optional = {"condition": condition, "replicate": replicate}
    used = {role: name or role for role, name in optional.items() if name is not None or role in table.columns}
    usable = _usable(problems, table, {"sample": sample, "time": time, **used}, "the sample table")
    if not (_usable(problems, matrix, {"gene": named}, "the expression matrix") and usable):
        problems.raise_any()

    if not check.check_unique(
        problems, [str(name) for name in matrix.columns], "E_SAMPLE_DUPLICATE", "columns", "rename one of them"
    ):
        problems.raise_any()
    columns, listed = [str(name) for name in matrix.columns if str(name) != named], _names(table[sample])
    _match_samples(problems, columns, listed, allow_missing)
    inside = [i for i, name in enumerate(listed) if name in set(columns)]
    table, listed = table.iloc[inside], [listed[i] for i in inside]
    genes = _names(matrix[named])
    unique = list(dict.fromkeys(genes))
    check.check_size(problems, {"genes": len(genes), "samples": len(listed)}, known["limit"], "the matrix")
    if aggregate is None:
        # In a file the header is line 1, so that the first gene is in line 2.
        axis, start = ("lines", 2) if matrix_from_file else ("rows", 0)
        remedy = "rename or pass aggregate='mean' or 'sum'"
        check.check_unique(problems, genes, "E_GENE_DUPLICATE", axis, remedy, start)
    before = len(problems.found)
    times = parse_times(problems, table[time], from_file)
    cells = [numbers(problems, matrix[name], f"sample '{name}'", matrix_from_file) for name in listed]
    if not listed:
        problems.raise_any()
    values = np.stack(cells)
    if len(problems.found) > before:
        # Without readable times and values there are no arrays; what can be read is still looked at.
        def place(index: tuple[int, ...]) -> str:
            return f"sample {listed[index[0]]}, gene {genes[index[1]]}"

        observed = ~np.isnan(values) | np.stack([blank(matrix[name]) for name in listed])
        if known["missing"] == "mask":
            observed &= np.isfinite(values)
        check.check_values(problems, np.where(observed, values, 0.0), observed, str(known["scale"]), place)
        problems.raise_any()
    values = _join_genes(values, genes, unique, aggregate == "sum", known["missing"] == "mask")

    conditions = _names(table[used["condition"]]) if "condition" in used else ["all"] * len(listed)
    replicates = _names(table[used["replicate"]]) if "replicate" in used else ["1"] * len(listed)
    cultures = list(zip(conditions, replicates, strict=True))
    for culture in dict.fromkeys(cultures):
        own = times[[i for i, c in enumerate(cultures) if c == culture]]
        where = f"condition '{culture[0]}', replicate '{culture[1]}' of the sample table"
        check.check_increasing(problems, own, where, equal_allowed=samples == "average")
    n, flat = len(unique), values.ravel()
    rows = Rows(
        conditions=[name for name in conditions for _ in range(n)],
        replicates=[name for name in replicates for _ in range(n)],
        times=np.repeat(times, n),
        genes=unique * len(listed),
        values=flat,
        sd=np.full(len(flat), np.nan),
        count=np.ones(len(flat)),
    )
    # Repeated times were judged above, culture by culture, where the message can say it better.
    return from_rows(problems, rows, True, dict(treatments or {}), known)


def parse_times(problems: Problems, column: pd.Series, from_file: bool) -> np.ndarray:
    """A column of times as float64; adds `E_TIME_UNIT` for dates, text, text with units (also mixed ones) and missing
    times."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        problems.add("E_TIME_UNIT", f"column '{column.name}' holds dates or durations; give numbers and time_unit=.")
        return np.full(len(column), np.nan)
    cells = [cell for cell in column.tolist() if isinstance(cell, str)]
    units = Counter(match[1] for match in map(_WITH_UNIT.fullmatch, cells) if match and known_time_unit(match[1]))
    if units:
        kinds = Counter(known_time_unit(unit) for unit in units.elements())
        bare = len(column) - sum(units.values())
        found = ", ".join(f"'{unit}' ({n} rows)" for unit, n in kinds.items()) + (
            f", none ({bare} rows)" if bare else ""
        )
        what = "mixes units" if len(kinds) + bool(bare) > 1 else "is text with a unit"
        problems.add(
            "E_TIME_UNIT",
            f"column '{column.name}' {what}: {found} (first: '{cells[0]}'). Give plain numbers in one unit and "
            f"say which with time_unit='{kinds.most_common(1)[0][0]}'.",
        )
        return np.full(len(column), np.nan)
    before = len(problems.found)
    times = numbers(problems, column, f"column '{column.name}'", from_file, "E_TIME_UNIT")
    odd = np.flatnonzero(~np.isfinite(times))
    if len(odd) and len(problems.found) == before:
        shown = first(f"{row_name(column.index[i], from_file)} = {times[i]}" for i in odd.tolist())
        problems.add(
            "E_TIME_UNIT", f"{len(odd)} times are missing or infinite (first: {shown}); give every row a time."
        )
    return times


def _join_genes(values: np.ndarray, genes: list[str], unique: list[str], total: bool, masked: bool) -> np.ndarray:
    """Columns of the same gene joined by sum or mean; of the values that are missing by declaration a mean takes the
    rest."""
    if len(unique) == len(genes):
        return values
    where: dict[str, list[int]] = {}
    for i, name in enumerate(genes):
        where.setdefault(name, []).append(i)
    out = np.empty((len(values), len(unique)))
    for g, name in enumerate(unique):
        part = values[:, where[name]]
        there = np.isfinite(part) if masked and not total else np.ones(part.shape, dtype=bool)
        amount = np.where(there, part, 0.0).sum(axis=1)
        n = there.sum(axis=1)
        out[:, g] = amount if total else np.where(n > 0, amount / np.maximum(n, 1), np.nan)
    return out


def _match_samples(problems: Problems, columns: Sequence[str], listed: Sequence[str], allow_missing: bool) -> None:
    check.check_unique(problems, listed, "E_SAMPLE_DUPLICATE", "rows", "list each sample once", start=2)
    lost = {
        "listed samples absent from the expression matrix": ([s for s in listed if s not in set(columns)], columns),
        "columns of the expression matrix absent from the sample table": (
            [s for s in columns if s not in set(listed)],
            listed,
        ),
    }
    none_fits = not set(columns) & set(listed)
    for what, (absent, there) in lost.items():
        if absent and (not allow_missing or none_fits):
            remedy = "is the matrix transposed?" if none_fits else "Complete it, or pass allow_missing=True."
            shown = first(f"'{name}'{did_you_mean(name, there)}" for name in absent)
            problems.add("E_SAMPLE_UNMATCHED", f"{len(absent)} {what}: {shown}. {remedy}")


def _usable(problems: Problems, frame: pd.DataFrame, wanted: dict[str, str], what: str) -> bool:
    """All wanted columns are there, and there is at least one row; adds what is not so."""
    good = need_columns(problems, frame, wanted, what)
    if not len(frame):
        problems.add("E_DATA_EMPTY", f"{what} has no rows; check the filter that made it.")
    return good and len(frame) > 0


def _treatment_column(problems: Problems, conditions: list[str], texts: list[str]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for name, text in zip(conditions, texts, strict=True):
        found.setdefault(name, {})[text] = None
    mixed = [name for name, given in found.items() if len(given) > 1]
    if mixed:
        problems.add(
            "E_PERTURB_CONFLICT",
            f"{len(mixed)} conditions have several treatments in their rows ({first(mixed)}); a condition has one: "
            "write changes in time as phases, for example SPI1*2@24:48.",
        )
    return {name: next(iter(given)) for name, given in found.items()}


def _check_average(problems: Problems, samples: str | None) -> None:
    if samples is not None:
        check.check_choice(problems, "samples", samples, ("average",))


def _names(column: pd.Series) -> list[str]:
    """Cells as names; a missing cell is blank (and refused later), not 'nan'."""
    return ["" if pd.isna(cell) else str(cell).strip() for cell in column.tolist()]
