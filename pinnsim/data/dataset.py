"""A time course: conditions followed in time, in replicates, gene by gene, with what is missing said by a mask and
never by a shape.

`values[condition, replicate, time, gene]` was measured at `times[condition, time]` on the declared `scale`; a culture
is a pair (condition, replicate). Each condition has its treatment. The class only holds and selects; reading and
checking are `Dataset.build`, `read_tidy` and `read_wide`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import equinox as eqx
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from pinnsim.data import build as builder
from pinnsim.data.build import Declared, canonical, pad
from pinnsim.data.check import SCALES, check_unique
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.shown import Facts, as_html, as_text
from pinnsim.treatment import Treatment

Interval = tuple[float, float]


class Dataset(eqx.Module):
    """Measured (or simulated) time courses of several conditions.

    **Arguments:** `times` in `time_unit`, increasing; entries from `length` of a condition on are padding. `values`
    on `scale`; `mask`, true where observed (elsewhere the value is 0). `sd`, the standard deviation of the error of
    each value, NaN where unknown. `samples`, how many samples each value is the mean of (0 where not observed).
    `treatments`, one per condition. Use `Dataset.build`: it checks.
    """

    times: Float[np.ndarray, "condition time"]
    values: Float[np.ndarray, "condition replicate time gene"]
    mask: Bool[np.ndarray, "condition replicate time gene"]
    sd: Float[np.ndarray, "condition replicate time gene"]
    samples: Int[np.ndarray, "condition replicate time gene"]
    length: Int[np.ndarray, " condition"]
    genes: tuple[str, ...] = eqx.field(static=True)
    conditions: tuple[str, ...] = eqx.field(static=True)
    replicates: tuple[str, ...] = eqx.field(static=True)
    treatments: tuple[Treatment, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    time_kind: str = eqx.field(static=True)
    scale: str = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    simulated: bool = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        values: Any,
        times: Any,
        genes: Sequence[str],
        conditions: Sequence[str] = ("all",),
        replicates: Sequence[str] = ("1",),
        *,
        mask: Any = None,
        sd: Any = None,
        samples: Any = None,
        length: Any = None,
        treatments: Mapping[str, Treatment | str] | None = None,
        **declared: Unpack[Declared],
    ) -> Dataset:
        """A checked data set from arrays.

        **Arguments:** `values` (condition, replicate, time, gene) or, for one culture, (time, gene); `times` (time,)
        or (condition, time); names; `mask`, `sd`, `samples` shaped like `values`; `length` (condition,), how many
        times of each condition are real; `treatments` by condition, as `Treatment` or text; and what only the user
        can say: `time_unit` and `scale` (required), `time_kind`, `kind`, `source`, `simulated`, `missing="mask"`,
        `steady_state`, `targets`, `limit` (see `Declared`).

        **Returns:** the data set. **Raises:** everything found, together: `E_DATA_EMPTY`, `E_DATA_SHAPE`,
        `E_DATA_TYPE`, `E_DATA_NONFINITE`, `E_DATA_NEGATIVE`, `E_SCALE_MISMATCH`, `E_GENE_DUPLICATE`,
        `E_GENE_CONSTANT`, `E_TIME_ORDER`, `E_TIME_UNIT`, `E_TIME_FEW`, `E_SIZE`.
        """
        problems = Problems()
        known = builder.complete(problems, declared)
        if builder.check_regular(problems, values=values, times=times, mask=mask, sd=sd) and np.ndim(values) == 2:
            values, mask, sd, samples = (None if a is None else _culture(a) for a in (values, mask, sd, samples))
        resolved = builder.resolve_treatments(problems, treatments, conditions)
        arrays = builder.checked_arrays(
            problems, values, times, genes, conditions, replicates, mask, sd, samples, length, known
        )
        names: dict[str, Any] = {
            "genes": tuple(genes),
            "conditions": tuple(conditions),
            "replicates": tuple(replicates),
        }
        return cls(**arrays, **names, treatments=resolved, **builder.said(known))

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **options: Any) -> Dataset:
        """A data set from a tidy frame: see `read_tidy`."""
        from pinnsim.data.tables import read_tidy

        return read_tidy(frame, **options)

    def select(
        self,
        conditions: Sequence[str] | None = None,
        genes: Sequence[str] | None = None,
        times: Interval | None = None,
    ) -> Dataset:
        """The part with these conditions and genes, in the order given, at `times[0] <= t <= times[1]`.

        **Raises:** `E_CONDITION_UNKNOWN`, `E_GENE_UNKNOWN`, `E_GENE_DUPLICATE`, `E_CONDITION_DUPLICATE`,
        `E_TIME_RANGE`, `E_DATA_EMPTY`; together.
        """
        with Problems() as problems:
            c = _positions(problems, conditions, self.conditions, "condition", "E_CONDITION")
            g = _positions(problems, genes, self.genes, "gene", "E_GENE")
        keep = [np.arange(n) for n in self.length[c].tolist()]
        if times is not None:
            low, high = times
            keep = [k[(self.times[i, k] >= low) & (self.times[i, k] <= high)] for i, k in zip(c, keep, strict=True)]
            empty = [self.conditions[i] for i, k in zip(c, keep, strict=True) if not len(k)]
            if empty:
                raise PinnsimError.of(
                    "E_TIME_RANGE",
                    f"no time of {first(empty)} lies in [{low:g}, {high:g}] {self.time_unit}; "
                    "widen the interval or select other conditions.",
                )
        length = np.array([len(k) for k in keep])
        # Columns beyond the length repeat the first time; `canonical` masks them and `pad` renumbers their times.
        column = np.array([np.concatenate([k, np.full(length.max() - len(k), k[0])]) for k in keep])
        real = np.arange(length.max()) < length[:, None]
        index = (np.array(c)[:, None, None, None], np.arange(len(self.replicates))[:, None, None])
        values, mask, sd, samples = (
            a[(*index, column[:, None, :, None], np.array(g))] for a in (self.values, self.mask, self.sd, self.samples)
        )
        grid = np.take_along_axis(self.times[c], column, axis=1)
        arrays = canonical(values, mask & real[:, None, :, None], sd, samples, pad(grid, length), length)
        return dataclasses.replace(
            self,
            **arrays,
            genes=tuple(self.genes[i] for i in g),
            conditions=tuple(self.conditions[i] for i in c),
            treatments=tuple(self.treatments[i] for i in c),
        )

    def hold_out(self, times: Sequence[Interval]) -> tuple[Dataset, Dataset]:
        """Two data sets of the same shape: (training part, the blocks of time `low <= t <= high` held out from it).

        A value hidden from one part is 0 in it, so it cannot leak. **Raises:** `E_TIME_RANGE` if a block holds no
        time, or all of them.
        """
        held = np.zeros(self.times.shape, dtype=bool)
        real = np.arange(self.times.shape[1]) < self.length[:, None]
        with Problems() as problems:
            for low, high in times:
                block = (self.times >= low) & (self.times <= high) & real
                held |= block
                if not block.any():
                    every = first((f"{t:g}" for t in np.unique(self.times[real])), 12)
                    problems.add(
                        "E_TIME_RANGE", f"no time lies in [{low:g}, {high:g}] {self.time_unit}; times: {every}."
                    )
            if not held.any() or not (self.mask & ~held[:, None, :, None]).any():
                problems.add("E_TIME_RANGE", "the held-out blocks must leave times on both sides of the split.")
        return self._masked(~held[:, None, :, None]), self._masked(held[:, None, :, None])

    def mean(self) -> Dataset:
        """One replicate, `mean`: the mean over all samples at each time, `m = sum_r n_r v_r / sum_r n_r`.

        `sd` is the standard error `sqrt(sum_samples (x - m)^2 / (n - 1) / n)` where n >= 2 (NaN if all are equal); of
        a single sample its own sd. A value that is itself the mean of n_r samples counts n_r times, with the spread
        that its `sd` tells.
        """
        n = self.samples.sum(axis=1, keepdims=True)
        safe = np.maximum(n, 1)
        mean = (self.samples * self.values).sum(axis=1, keepdims=True) / safe
        # The sum of squares inside a value that is a mean of n_r samples is (n_r - 1) n_r sd_r^2; unknown is none.
        known = np.where(np.isfinite(self.sd), self.sd, 0.0)
        within = np.maximum(self.samples - 1, 0) * self.samples * known**2
        squares = (self.samples * (self.values - mean) ** 2 * self.mask + within).sum(axis=1, keepdims=True)
        error = np.sqrt(squares / np.maximum(n - 1, 1) / safe)
        single = known.max(axis=1, keepdims=True, initial=0.0)
        sd = np.where(n >= 2, error, single)
        arrays = canonical(mean, n > 0, np.where(sd > 0, sd, np.nan), n, self.times, self.length)
        return dataclasses.replace(self, **arrays, replicates=("mean",))

    def n_samples(self) -> Int[np.ndarray, "condition time gene"]:
        """How many samples stand behind each condition, time and gene, over all replicates."""
        return self.samples.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """A tidy table: condition, replicate, time, gene, value, sd, samples, treatment; one row per entry, observed
        or not.

        Unobserved entries have a blank value and 0 samples. `read_tidy(data.to_frame())` gives the same data back,
        bit by bit: what was declared travels in `frame.attrs` (in a file it does not: declare it again).
        """
        real = np.arange(self.times.shape[1]) < self.length[:, None]
        c, r, t, g = np.nonzero(np.broadcast_to(real[:, None, :, None], self.mask.shape))
        seen = self.mask[c, r, t, g]
        frame = pd.DataFrame(
            {
                "condition": np.array(self.conditions, dtype=object)[c],
                "replicate": np.array(self.replicates, dtype=object)[r],
                "time": self.times[c, t],
                "gene": np.array(self.genes, dtype=object)[g],
                "value": np.where(seen, self.values[c, r, t, g], np.nan),
                "sd": self.sd[c, r, t, g],
                "samples": self.samples[c, r, t, g],
                "treatment": np.array([str(treatment) for treatment in self.treatments], dtype=object)[c],
            }
        )
        frame.attrs.update(self._declared())
        return frame

    def to_xarray(self) -> xr.Dataset:
        """`value`, `sd` and `samples` with the dimensions (condition, replicate, time, gene), units in `attrs`; NaN
        where not observed.

        The time axis is the union of the conditions' times.
        """
        real = np.arange(self.times.shape[1]) < self.length[:, None]
        union = np.unique(self.times[real])
        c, t = np.nonzero(real)
        where = np.searchsorted(union, self.times[c, t])

        def spread(array: np.ndarray, fill: float | int) -> np.ndarray:
            out = np.full((*array.shape[:2], len(union), array.shape[3]), fill, dtype=array.dtype)
            out[c, :, where] = array[c, :, t]
            return out

        dims = ("condition", "replicate", "time", "gene")
        unit = SCALES[self.scale]
        label = self.time_unit if self.time_kind == "physical" else "pseudotime"
        data = {
            "value": (dims, spread(np.where(self.mask, self.values, np.nan), np.nan), {"units": unit}),
            "sd": (dims, spread(self.sd, np.nan), {"units": unit, "long_name": "standard deviation of the error"}),
            "samples": (dims, spread(self.samples, 0), {"units": "1", "long_name": "samples averaged"}),
        }
        coords = {
            "condition": list(self.conditions),
            "replicate": list(self.replicates),
            "time": ("time", union, {"units": label}),
            "gene": list(self.genes),
            "treatment": ("condition", [str(treatment) for treatment in self.treatments]),
        }
        # NetCDF has no booleans.
        attrs = {k: int(v) if isinstance(v, bool) else v for k, v in self._declared().items()}
        return xr.Dataset(data, coords, attrs)

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        made = "simulated " if self.simulated else ""
        head, *rest = self.describe().splitlines()
        named = zip(self.conditions, rest[: len(self.conditions)], strict=True)
        rows = [("holds", head.split(": ", 1)[1]), *((name, line.split(": ", 1)[1]) for name, line in named)]
        return f"Dataset ({made}{self.kind})", [*rows, *([("source", self.source)] if self.source else [])]

    def digest(self) -> str:
        """sha256 of the content: names, declarations, treatments and arrays; the citation is not part of it."""
        text = {k: v for k, v in self._declared().items() if k != "source"}
        text |= {"genes": self.genes, "conditions": self.conditions, "replicates": self.replicates}
        text["treatments"] = [str(treatment) for treatment in self.treatments]
        state = hashlib.sha256(json.dumps(text, sort_keys=True).encode())
        for name in ("times", "values", "mask", "sd", "samples", "length"):
            array = getattr(self, name)
            # One bit pattern for NaN and one byte order, whatever machine wrote the data.
            plain = np.where(np.isnan(array), np.nan, array) if array.dtype.kind == "f" else array.astype(np.int64)
            state.update(
                f"{name}{plain.shape}".encode()
                + np.ascontiguousarray(plain.astype(plain.dtype.newbyteorder("<"))).tobytes()
            )
        return state.hexdigest()

    def describe(self) -> str:
        """A few lines for people: what was measured, where, when, how often, and what is missing."""
        made = "SIMULATED " if self.simulated else ""
        unit = self.time_unit if self.time_kind == "physical" else f"{self.time_unit} (pseudotime: rates are relative)"
        lines = [f"{made}{self.kind}: {len(self.genes)} genes, values are {SCALES[self.scale]}, time in {unit}"]
        for c, name in enumerate(self.conditions):
            n = int(self.length[c])
            real, seen = self.times[c, :n], self.mask[c, :, :n]
            cultures = seen.any(axis=(1, 2))
            share = 1 - seen[cultures].mean() if cultures.any() else 1.0
            lines.append(
                f"  {name}: {cultures.sum()} replicates, {n} times from {real[0]:g} to {real[-1]:g}, "
                f"{share:.0%} missing; treatment: {self.treatments[c]}"
            )
        return "\n".join([*lines, *([f"  source: {self.source}"] if self.source else [])])

    def _declared(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in builder.KEPT}

    def _masked(self, keep: np.ndarray) -> Dataset:
        mask = self.mask & keep
        return dataclasses.replace(self, **canonical(self.values, mask, self.sd, self.samples, self.times, self.length))


def _culture(array: Any) -> np.ndarray:
    """(time, gene) of one culture as (condition, replicate, time, gene); a view, so that nothing is allocated before
    it is checked."""
    return np.asarray(array)[None, None]


def _positions(
    problems: Problems, wanted: Sequence[str] | None, names: tuple[str, ...], what: str, code: str
) -> list[int]:
    """Indices of the wanted names (all for None); adds problems for unknown, repeated and no names."""
    if wanted is None:
        return list(range(len(names)))
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    index = {name: i for i, name in enumerate(names)}
    unknown = [name for name in chosen if name not in index]
    if unknown:
        shown = first(f"'{name}'{did_you_mean(name, names)}" for name in unknown)
        problems.add(
            f"{code}_UNKNOWN", f"{len(unknown)} of {len(chosen)} {what}s unknown: {shown}; there are {first(names, 6)}."
        )
    check_unique(problems, chosen, f"{code}_DUPLICATE", "positions", f"select each {what} once")
    if not chosen:
        problems.add("E_DATA_EMPTY", f"the selection names no {what}.")
    return [index[name] for name in chosen if name in index]
