"""Snapshots: populations of cells at several times, each cell destroyed by its measurement, so no cell is seen twice.

`values[condition, time, cell, layer, gene]` of the cells that were sampled at `times[condition, time]`. Cells of one
time and those of the next are different cells, and there are not equally many: rows of cells, and times of conditions
that have fewer, are padded, and `there` says which rows are cells. `exposure` is each cell's size factor, by which
expected counts are multiplied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from pinnsim.data import build as builder
from pinnsim.data import check
from pinnsim.data.build import Declared
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first, warn
from pinnsim.shown import Facts, as_html, as_text
from pinnsim.treatment import Treatment

_FEW = 10  # cells at a time below which a population is hardly seen


class Snapshots(eqx.Module):
    """Measured (or simulated) populations of several conditions. Use `Snapshots.build` or `read_anndata`: they check.

    **Arguments:** `times` in `time_unit`, increasing; `values` on `scale`, 0 where there is no cell; `there`, true
    where there is one; `exposure`, 1 where there is none.
    """

    times: Float[np.ndarray, "condition time"]
    values: Float[np.ndarray, "condition time cell layer gene"]
    there: Bool[np.ndarray, "condition time cell"]
    exposure: Float[np.ndarray, "condition time cell"]
    genes: tuple[str, ...] = eqx.field(static=True)
    layers: tuple[str, ...] = eqx.field(static=True)
    conditions: tuple[str, ...] = eqx.field(static=True)
    treatments: tuple[Treatment, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    time_kind: str = eqx.field(static=True)
    scale: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    simulated: bool = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        values: Any,
        times: Any,
        genes: Sequence[str],
        layers: Sequence[str] = ("mrna",),
        conditions: Any = None,
        *,
        exposure: Any = None,
        cells: Sequence[str] | None = None,
        treatments: Mapping[str, Treatment | str] | None = None,
        **declared: Unpack[Declared],
    ) -> Snapshots:
        """Checked snapshots from one row per cell.

        **Arguments:** `values`: (cell, layer, gene) or, for one layer, (cell, gene); `times`: (cell,), when each was
        sampled; `layers`: the model's names of what was measured ("mrna", "unspliced", "spliced", "protein");
        `conditions`: (cell,), names, one condition "all" where not given; `exposure`: (cell,), size factors > 0;
        `cells`: names, for messages; `treatments` by condition; and what only the user can say: `time_unit` and `scale`
        (required), `time_kind`, `source`, `simulated`, `steady_state` (one time per condition is meant), `limit`.

        **Returns** the snapshots, conditions in order of appearance. **Warns** `W_CELLS_FEW` for times with fewer than
        10 cells, `W_GENE_CONSTANT` for genes that never change.

        **Raises** everything found, together: `E_DATA_EMPTY`, `E_DATA_SHAPE`, `E_DATA_TYPE`, `E_DATA_NONFINITE`,
        `E_DATA_NEGATIVE`, `E_SCALE_MISMATCH`, `E_GENE_DUPLICATE`, `E_SAMPLE_DUPLICATE`, `E_TIME_UNIT`, `E_TIME_FEW`,
        `E_CONDITION_UNKNOWN`, `E_SIZE`.
        """
        problems = Problems()
        known = builder.complete(problems, {"kind": "snapshot", **declared})
        builder.check_regular(problems, values=values, times=times)
        table = np.asarray(values)
        table = table[:, None, :] if table.ndim == 2 else table
        named = _conditions(problems, conditions, table)
        names = tuple(dict.fromkeys(named))
        _check_shapes(problems, table, times, named, genes, layers, exposure, cells)
        moments = builder.as_numbers(problems, times, "times", "E_TIME_UNIT")
        numbers = builder.as_numbers(problems, table, "values", "E_DATA_TYPE")
        size = (
            np.ones(len(numbers))
            if exposure is None
            else builder.as_numbers(problems, exposure, "exposure", "E_DATA_TYPE")
        )
        if known["missing"] == "mask":
            problems.add(
                "E_USAGE", "missing='mask' is for time courses; every cell has every gene: drop those cells or genes."
            )
        problems_before = len(problems.found)
        _check_cells(problems, numbers, moments, size, genes, layers, cells, str(known["scale"]))
        given = builder.resolve_treatments(problems, treatments, names)
        if len(problems.found) > problems_before:
            problems.raise_any()
        groups = [(c, t) for c in names for t in np.unique(moments[named == c]).tolist()]
        _check_times(problems, groups, names, bool(known["steady_state"]))
        per = {c: [t for k, t in groups if k == c] for c in names}
        counts = {g: int(((named == g[0]) & (moments == g[1])).sum()) for g in groups}
        shape = (len(names), max(map(len, per.values())), max(counts.values()), len(layers), len(genes))
        sizes = dict(zip(("conditions", "times", "cells", "layers", "genes"), shape, strict=True))
        check.check_size(problems, sizes, known["limit"], "the padded snapshots")
        problems.raise_any()
        _warn_few(counts, str(known["time_unit"]))
        check.check_constant(problems, numbers, np.ones(numbers.shape, bool), genes, ())
        padded, there, factor = np.zeros(shape), np.zeros(shape[:3], bool), np.ones(shape[:3])
        grid = np.zeros(shape[:2])
        for i, c in enumerate(names):
            grid[i, : len(per[c])] = per[c]
            for j, t in enumerate(per[c]):
                rows = np.flatnonzero((named == c) & (moments == t))
                padded[i, j, : len(rows)], factor[i, j, : len(rows)] = numbers[rows], size[rows]
                there[i, j, : len(rows)] = True
        length = np.array([len(per[c]) for c in names])
        said = {k: v for k, v in builder.said(known).items() if k != "kind"}
        return cls(builder.pad(grid, length), padded, there, factor, tuple(genes), tuple(layers), names, given, **said)

    def cells(self) -> np.ndarray:
        """How many cells there are, (condition, time); 0 for padding."""
        return self.there.sum(axis=2)

    def normalised(self) -> Float[np.ndarray, "condition time cell layer gene"]:
        """Values per unit of exposure."""
        return self.values / self.exposure[..., None, None]

    def mean(self) -> Float[np.ndarray, "condition time layer gene"]:
        """Mean over cells of normalised values; NaN for padding."""
        count = self.cells()[..., None, None]
        total = (self.normalised() * self.there[..., None, None]).sum(axis=2)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def select(self, conditions: Sequence[str] | None = None, genes: Sequence[str] | None = None) -> Snapshots:
        """The part with these conditions and genes, in the order given. **Raises** `E_CONDITION_UNKNOWN`,
        `E_GENE_UNKNOWN`, together."""
        with Problems() as problems:
            c = _positions(problems, conditions, self.conditions, "condition", "E_CONDITION_UNKNOWN")
            g = _positions(problems, genes, self.genes, "gene", "E_GENE_UNKNOWN")
        return dataclasses.replace(
            self,
            times=self.times[c],
            values=self.values[c][..., g],
            there=self.there[c],
            exposure=self.exposure[c],
            genes=tuple(self.genes[i] for i in g),
            conditions=tuple(self.conditions[i] for i in c),
            treatments=tuple(self.treatments[i] for i in c),
        )

    def pooled(self, parts: int, seed: int = 0) -> Snapshots:
        """Pseudo-bulk: the cells of every population dealt into `parts` random groups of equal size (up to one) and
        summed, size factors as well. Sums of counts keep nearly all that counts tell of means, at a fraction of the
        cost; their dispersion is that of cells over the cells of a group. Populations of fewer cells give fewer groups.

        **Raises** `E_SCALE_MISMATCH` for logarithms, which are not to be added, `E_USAGE` for `parts` below 1.
        """
        if self.scale not in ("counts", "linear") or parts < 1:
            code = "E_USAGE" if parts < 1 else "E_SCALE_MISMATCH"
            raise PinnsimError.of(
                code,
                f"Cells of scale '{self.scale}' were to be summed in {parts} groups; sums need counts or abundances, "
                "and at least one group.",
            )
        rng = np.random.default_rng(seed)
        shape = (*self.there.shape[:2], parts)
        values, exposure = np.zeros((*shape, *self.values.shape[3:])), np.zeros(shape)
        for c, t in np.argwhere(self.there.any(axis=2)).tolist():
            cells = rng.permutation(np.flatnonzero(self.there[c, t]))
            for k, group in enumerate(np.array_split(cells, min(parts, len(cells)))):
                values[c, t, k], exposure[c, t, k] = (a[c, t, group].sum(axis=0) for a in (self.values, self.exposure))
        there = exposure > 0
        return dataclasses.replace(self, values=values, there=there, exposure=np.where(there, exposure, 1.0))

    def hold_out(self, time: float) -> tuple[Snapshots, Snapshots]:
        """Two parts of the same shape: without the populations at `time`, and with nothing else but each condition's
        first. **Raises** `E_TIME_RANGE` where no condition has cells at that time, or only its first."""
        held = (self.times == time) & self.there.any(axis=2)
        if not held[:, 1:].any() or held[:, 0].any():
            raise PinnsimError.of(
                "E_TIME_RANGE",
                f"no population at {time:g} {self.time_unit} can be held out: it must be a time of the data, and not a "
                "condition's first, from which cells start.",
            )
        kept = held.copy()
        kept[:, 0] = True
        return self._with(~held), self._with(kept)

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        head, *rest = self.describe().splitlines()
        rows = [(name, line.split(": ", 1)[1]) for name, line in zip(self.conditions, rest, strict=True)]
        cells = f"{int(self.cells().sum())} of {len(self.genes)} genes, layers {', '.join(self.layers)}"
        return f"Snapshots{' (simulated)' if self.simulated else ''}", [("cells", cells), *rows]

    def digest(self) -> str:
        """sha256 of the content: names, declarations, treatments and arrays; the citation is not part of it."""
        text = {k: getattr(self, k) for k in ("genes", "layers", "conditions", "time_unit", "time_kind", "scale")}
        text["treatments"] = [str(treatment) for treatment in self.treatments]
        state = hashlib.sha256(json.dumps(text, sort_keys=True).encode())
        for array in (self.times, self.values, self.there.astype(np.float64), self.exposure):
            state.update(f"{array.shape}".encode() + np.ascontiguousarray(array.astype("<f8")).tobytes())
        return state.hexdigest()

    def describe(self) -> str:
        """A few lines for people."""
        made = "SIMULATED " if self.simulated else ""
        counts = self.cells()
        lines = [
            f"{made}snapshots of {int(counts.sum())} cells, {len(self.genes)} genes, layers {', '.join(self.layers)}"
        ]
        for c, name in enumerate(self.conditions):
            at = [f"{t:g} ({n})" for t, n in zip(self.times[c], counts[c], strict=True) if n]
            lines.append(f"  {name}: cells at {', '.join(at)} {self.time_unit}; {self.treatments[c]}")
        return "\n".join(lines)

    def _with(self, kept: np.ndarray) -> Snapshots:
        there = self.there & kept[..., None]
        values = np.where(there[..., None, None], self.values, 0.0)
        return dataclasses.replace(self, there=there, values=values, exposure=np.where(there, self.exposure, 1.0))


def _conditions(problems: Problems, conditions: Any, table: np.ndarray) -> np.ndarray:
    if conditions is None:
        return np.full(len(table), "all", dtype=object)
    named = np.asarray([str(c) for c in conditions], dtype=object)
    blank = np.flatnonzero([not c.strip() or c == "nan" for c in named]).tolist()
    if blank:
        problems.add(
            "E_DATA_TYPE", f"{len(blank)} cells have no condition (first: cell {blank[0]}); name it, or drop them."
        )
    return named


def _check_shapes(
    problems: Problems,
    table: np.ndarray,
    times: Any,
    named: np.ndarray,
    genes: Sequence[str],
    layers: Sequence[str],
    exposure: Any,
    cells: Sequence[str] | None,
) -> None:
    if table.ndim != 3 or table.shape[1:] != (len(layers), len(genes)):
        problems.add(
            "E_DATA_SHAPE",
            f"Argument `values` has the shape {table.shape}, but (cell, {len(layers)}, {len(genes)}) follows from "
            "`layers` and `genes`.",
        )
    per_cell = {"times": times, "conditions": named, "exposure": exposure, "cells": cells}
    for name, array in per_cell.items():
        if array is not None and np.shape(array) != (len(table),):
            problems.add(
                "E_DATA_SHAPE",
                f"Argument `{name}` has the shape {np.shape(array)}; it needs one entry per cell, {len(table)}.",
            )
    empty = [word for word, n in (("cells", len(table)), ("genes", len(genes)), ("layers", len(layers))) if n == 0]
    if empty:
        problems.add("E_DATA_EMPTY", f"no {' and no '.join(empty)} left; check the selection.")
    check.check_unique(problems, genes, "E_GENE_DUPLICATE", "columns", "rename them or sum their counts")
    check.check_unique(problems, layers, "E_DATA_TYPE", "layers", "name each layer once")
    check.check_named(problems, genes, "gene")
    if cells is not None:
        check.check_unique(problems, list(cells), "E_SAMPLE_DUPLICATE", "rows", "give every cell a name of its own")
    if {"E_DATA_SHAPE", "E_DATA_EMPTY"} & problems.codes:
        problems.raise_any()


def _check_cells(
    problems: Problems,
    values: np.ndarray,
    times: np.ndarray,
    exposure: np.ndarray,
    genes: Sequence[str],
    layers: Sequence[str],
    cells: Sequence[str] | None,
    scale: str,
) -> None:
    def name(cell: int) -> str:
        return f"cell {cell}" if cells is None else f"cell {cells[cell]}"

    def place(index: tuple[int, ...]) -> str:
        return f"{name(index[0])}, layer {layers[index[1]]}, gene {genes[index[2]]}"

    odd = np.flatnonzero(~np.isfinite(times)).tolist()
    if odd:
        problems.add(
            "E_TIME_UNIT",
            f"{len(odd)} cells have no time (first: {first(map(name, odd))}); give every cell one, or drop them.",
        )
    check.check_values(problems, values, np.ones(values.shape, bool), scale, place)
    bad = np.flatnonzero(~(exposure > 0) | ~np.isfinite(exposure)).tolist()
    if bad:
        problems.add(
            "E_DATA_EMPTY",
            f"{len(bad)} cells have a size factor that is not > 0 (first: {first(map(name, bad))}): nothing was "
            "counted in them; drop them.",
        )


def _check_times(
    problems: Problems, groups: list[tuple[str, float]], names: tuple[str, ...], steady_state: bool
) -> None:
    single = [c for c in names if sum(k == c for k, _ in groups) == 1]
    if single and not steady_state:
        problems.add(
            "E_TIME_FEW",
            f"dynamics not identifiable from 1 time point: {len(single)} of {len(names)} conditions ({first(single)}); "
            "use steady_state=True or give ≥2.",
        )


def _warn_few(counts: dict[tuple[str, float], int], unit: str) -> None:
    few = [f"{c} at {t:g} {unit}: {n}" for (c, t), n in counts.items() if n < _FEW]
    if few:
        warn(
            "W_CELLS_FEW",
            f"{len(few)} of {len(counts)} populations have fewer than {_FEW} cells ({first(few)}); what is learned "
            "from their spread is hardly more than noise.",
            stacklevel=4,
        )


def _positions(
    problems: Problems, wanted: Sequence[str] | None, names: tuple[str, ...], what: str, code: str
) -> list[int]:
    if wanted is None:
        return list(range(len(names)))
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        shown = first(f"'{name}'{did_you_mean(name, names)}" for name in unknown)
        problems.add(code, f"{len(unknown)} of {len(wanted)} {what}s unknown: {shown}; there are {first(names, 6)}.")
    return [names.index(name) for name in wanted if name in names]
