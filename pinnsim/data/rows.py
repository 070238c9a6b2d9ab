"""From rows, one per measured value, to the dense arrays of a `Dataset`.

Each row names its condition, replicate, time and gene and so falls into one cell of the array. Rows that share a cell
are either technical samples, averaged with their counts as weights, `m = sum n_i v_i / sum n_i` with the standard
error of that mean, or a mistake that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pinnsim.data import build as builder
from pinnsim.data import check
from pinnsim.data.build import Declared
from pinnsim.data.dataset import Dataset
from pinnsim.errors import Problems, first
from pinnsim.treatment import Treatment


@dataclass(frozen=True)
class Rows:
    """Measured values in a row each: names, time, value, its sd (NaN unknown), how many samples it averages, and the
    row's name for messages."""

    conditions: list[str]
    replicates: list[str]
    times: np.ndarray
    genes: list[str]
    values: np.ndarray
    sd: np.ndarray
    count: np.ndarray
    names: list[str] | None = None

    def place(self, i: int) -> str:
        """What row `i` measures, in words."""
        return f"{self.conditions[i]}, {self.replicates[i]}, t={self.times[i]:g}, {self.genes[i]}"


def from_rows(
    problems: Problems, rows: Rows, average: bool, treatments: Mapping[str, Treatment | str], known: Declared
) -> Dataset:
    """The data set of these rows; without `average` repeated entries are a problem. Raises everything found, also
    before it was called."""
    times, values, sd, count = rows.times, rows.values, rows.sd, rows.count
    c, c_names = _codes(rows.conditions)
    r, r_names = _codes(rows.replicates)
    g, g_names = _codes(rows.genes)
    grids = [np.unique(times[c == i]) for i in range(len(c_names))]
    length = np.array([len(grid) for grid in grids])
    shape = (len(c_names), len(r_names), int(length.max()), len(g_names))
    sizes = dict(zip(("conditions", "replicates", "times", "genes"), shape, strict=True))
    if not check.check_size(problems, sizes, known["limit"]):
        problems.raise_any()
    t = np.zeros(len(times), dtype=np.int64)
    for i, grid in enumerate(grids):
        t[c == i] = np.searchsorted(grid, times[c == i])
    cell = np.ravel_multi_index((c, r, t, g), shape)
    if not average:
        _report_repeats(problems, cell, rows)

    seen = (count > 0) & (np.isfinite(values) if known["missing"] == "mask" else True)
    cell, values, sd, count = cell[seen], values[seen], sd[seen], count[seen]
    size = int(np.prod(shape))
    n_rows, n = np.bincount(cell, minlength=size), np.bincount(cell, count, minlength=size)
    mean, spread = np.zeros(size), np.full(size, np.nan)
    # A value that stands alone is copied, not divided by its count: reading back what was written is exact.
    mean[cell], spread[cell] = values, sd
    many = np.flatnonzero(n_rows > 1)
    if len(many):
        with np.errstate(invalid="ignore"):
            mean[many] = np.bincount(cell, count * values, minlength=size)[many] / n[many]
            squares = np.bincount(cell, count * (values - mean[cell]) ** 2, minlength=size)[many]
            scatter = np.sqrt(squares / (n[many] - 1) / n[many])
            stated = np.sqrt(np.bincount(cell, (count * sd) ** 2, minlength=size)[many]) / n[many]
        error = np.where(np.isfinite(stated), stated, scatter)
        # Equal samples say nothing about the spread; an sd of 0 would claim certainty.
        spread[many] = np.where(error > 0, error, np.nan)
    grid = np.stack([np.pad(row, (0, shape[2] - len(row))) for row in grids])
    treated = builder.resolve_treatments(problems, treatments, c_names)
    arrays = builder.checked_arrays(
        problems,
        mean.reshape(shape),
        grid,
        g_names,
        c_names,
        r_names,
        (n_rows > 0).reshape(shape),
        spread.reshape(shape),
        n.reshape(shape),
        length,
        known,
    )
    names: dict[str, Any] = {"genes": tuple(g_names), "conditions": tuple(c_names), "replicates": tuple(r_names)}
    return Dataset(**arrays, **names, treatments=treated, **builder.said(known))


def _report_repeats(problems: Problems, cell: np.ndarray, rows: Rows) -> None:
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    if groups:
        shown = first(
            f"{rows.place(int(group[0]))} in {', '.join(rows.names[i] if rows.names else f'row {i}' for i in group)}"
            for group in sorted(groups, key=lambda group: group[0])
        )
        problems.add(
            "E_TIME_ORDER",
            f"{len(groups)} entries (condition, replicate, time, gene) occur more than once (first: {shown}); if they "
            "are technical samples of one culture pass samples='average', else name the replicates.",
        )


def _codes(names: list[str]) -> tuple[np.ndarray, list[str]]:
    codes, unique = pd.factorize(np.array(names, dtype=object))
    return codes.astype(np.int64), [str(name) for name in unique]
