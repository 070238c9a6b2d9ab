"""The score table: every model beside every baseline and control, and the outcome in plain words, win or lose.

Rows are grouped by direction (what was fitted -> what was predicted) and mode (roll-out or one step). In each group the
best baseline is the one with the smallest RMSE there, skill is counted from it, and all intervals are paired bootstraps
over the same genes (`metrics.py`).
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.score.compare import Comparison, stacked
from pinnsim.score.controls import ControlTest, control_test
from pinnsim.score.metrics import DRAWS, LEVEL, Interval, interval, r_change, resample_mse, rmse, skill
from pinnsim.units import reading_unit

KINDS = ("model", "control", "baseline")
_MARKS = {"model": ">", "control": "-", "baseline": " "}
_LEGEND = (
    "> model   - control, which must fail   * best baseline\n"
    "r of the change from the first sample; skill: RMSE saved against the best baseline; bootstrap intervals over genes"
)


@dataclass(frozen=True)
class Entry:
    """Something to be scored: a `model`, a `baseline`, or a `control` with one comparison per shuffle."""

    name: str
    kind: str
    direction: str
    comparisons: tuple[Comparison, ...]

    @classmethod
    def of(cls, name: str, kind: str, direction: str, comparison: Comparison | Sequence[Comparison]) -> Entry:
        """An entry from one comparison or, for a control, from one or several. **Raises:** `E_USAGE`."""
        parts = (comparison,) if isinstance(comparison, Comparison) else tuple(comparison)
        with Problems() as problems:
            if kind not in KINDS:
                problems.add(
                    "E_USAGE", f"kind '{kind}' of '{name}'{did_you_mean(kind, KINDS)} is none of {', '.join(KINDS)}."
                )
            if not parts or (len(parts) > 1 and kind != "control"):
                problems.add("E_USAGE", f"'{name}' has {len(parts)} comparisons; only a control may have several.")
        return cls(name, kind, direction, parts)


@dataclass(frozen=True)
class ScoreRow:
    """One line: RMSE with interval in the readings' unit, r of change, skill over the best baseline with interval.

    `difference` is `RMSE - RMSE(against)`: against the best baseline or, for a control, against the model (NaN without
    one). A control of several shuffles shows the root of their mean squared error and the mean of their r. Undefined
    numbers are NaN.
    """

    name: str
    kind: str
    direction: str
    mode: str
    rmse: float
    lo: float
    hi: float
    r_change: float
    skill: float
    skill_lo: float
    skill_hi: float
    against: str
    difference: float
    difference_lo: float
    difference_hi: float
    p_rank: float
    n_controls: int
    n_genes: int
    n_values: int


@dataclass(frozen=True)
class ScoreTable:
    """Rows, and what was concluded from them. `unit` is that of the readings; `data` names the data set."""

    rows: tuple[ScoreRow, ...]
    verdicts: tuple[str, ...]
    unit: str = "log2"
    data: str = ""
    simulated: bool = False
    level: float = LEVEL
    draws: int = DRAWS
    seed: int = 0

    def groups(self) -> dict[tuple[str, str], list[ScoreRow]]:
        """Rows by (direction, mode), in order of first appearance."""
        groups: dict[tuple[str, str], list[ScoreRow]] = {}
        for row in self.rows:
            groups.setdefault((row.direction, row.mode), []).append(row)
        return groups

    def best_baseline(self, direction: str, mode: str) -> str | None:
        """Name of the best baseline of a group, None if it has none."""
        rows = [row for row in self.groups().get((direction, mode), []) if row.kind == "baseline"]
        return min(rows, key=lambda row: row.rmse).name if rows else None

    def to_frame(self) -> pd.DataFrame:
        """One line per row, all fields as columns."""
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: numbers that are not defined are None."""
        rows = [{key: _plain(value) for key, value in dataclasses.asdict(row).items()} for row in self.rows]
        head = {name: getattr(self, name) for name in ("data", "simulated", "unit", "level", "draws", "seed")}
        return {**head, "rows": rows, "verdicts": list(self.verdicts)}

    def to_rich(self) -> list[Table]:
        """One terminal table per group."""
        return [self._grid(direction, mode, rows) for (direction, mode), rows in self.groups().items()]

    def to_text(self, width: int = 120, color: bool = False) -> str:
        """The tables and the verdicts as text."""
        buffer = io.StringIO()
        console = Console(
            file=buffer, width=width, force_terminal=color, no_color=not color, highlight=False, force_jupyter=False
        )
        for grid in self.to_rich():
            console.print(grid)
        for verdict in self.verdicts:
            console.print(verdict, markup=False)
        return buffer.getvalue()

    def _grid(self, direction: str, mode: str, rows: list[ScoreRow]) -> Table:
        made = " on SIMULATED data" if self.simulated else ""
        where = f"{self.data}: " if self.data else ""
        title = f"{where}{direction}, {mode}{made} ({rows[0].n_genes} genes, {rows[0].n_values} readings)"
        # Fits a terminal of 80 columns: intervals in brackets, the kind as a mark before the name.
        grid = Table(
            title=title, title_justify="left", caption=_LEGEND, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        grid.add_column(f"RMSE in {reading_unit(self.unit)}", no_wrap=True)
        for heading in ("RMSE", f"{self.level:.0%}", "r", "skill", f"{self.level:.0%}"):
            grid.add_column(heading, justify="right", no_wrap=True)
        best = self.best_baseline(direction, mode)
        for row in rows:
            several = f" x {row.n_controls}" if row.n_controls > 1 else ""
            mark = "*" if row.kind == "baseline" and row.name == best else _MARKS[row.kind]
            grid.add_row(
                f"{mark} {row.name}{several}",
                f"{row.rmse:.3f}",
                f"{row.lo:.2f}..{row.hi:.2f}",
                f"{row.r_change:.2f}",
                f"{row.skill:+.2f}" if not math.isnan(row.skill) else "-",
                "" if math.isnan(row.skill_lo) else f"{row.skill_lo:+.2f}..{row.skill_hi:+.2f}",
                style="bold" if row.kind == "model" else None,
            )
        return grid


def score_table(
    entries: Iterable[Entry],
    *,
    unit: str = "log2",
    data: str = "",
    simulated: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> ScoreTable:
    """Score entries and conclude.

    **Arguments:** `entries`; within one direction and mode all must score the same readings. `draws`, `seed`, `level`
    of the bootstrap over genes.

    **Returns:** the table: per group the models, then controls, then baselines by RMSE, and one sentence per model and
    per (model, control).

    **Raises:** `E_DATA_EMPTY` without entries; `E_DATA_SHAPE` where readings differ inside a group; `E_USAGE`.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.direction, entry.comparisons[0].mode), []).append(entry)
    if not groups:
        raise PinnsimError.of("E_DATA_EMPTY", "a score table needs at least one entry.")
    rows: list[ScoreRow] = []
    verdicts: list[str] = []
    for (direction, mode), members in groups.items():
        names = [entry.name for entry in members]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise PinnsimError.of("E_USAGE", f"{direction}, {mode}: '{repeated[0]}' is entered twice; name each once.")
        found, said = _group(direction, mode, members, draws, seed, level)
        rows += found
        verdicts += said
    return ScoreTable(tuple(rows), tuple(verdicts), unit, data, simulated, level, draws, seed)


def _group(
    direction: str, mode: str, entries: list[Entry], draws: int, seed: int, level: float
) -> tuple[list[ScoreRow], list[str]]:
    flat = resample_mse([comparison for entry in entries for comparison in entry.comparisons], draws, seed)
    ends = np.cumsum([len(entry.comparisons) for entry in entries])
    resampled = {
        entry.name: np.sqrt(flat[end - len(entry.comparisons) : end].mean(axis=0))
        for entry, end in zip(entries, ends, strict=True)
    }
    error = {entry.name: rmse(stacked(entry.comparisons)) for entry in entries}
    order = sorted(entries, key=lambda entry: (KINDS.index(entry.kind), entry.kind == "baseline" and error[entry.name]))
    baselines = [entry.name for entry in order if entry.kind == "baseline"]
    models = [entry for entry in order if entry.kind == "model"]
    best = baselines[0] if baselines else None
    rows, verdicts = [], []
    for entry in order:
        reference = (models[0].name if models else None) if entry.kind == "control" else best
        tests: dict[str, ControlTest] = {}
        if entry.kind == "control":
            for model in models:
                tests[model.name] = control_test(model.comparisons[0], entry.comparisons, draws, seed, level)
        row = _row(entry, mode, error, resampled, best, reference, tests.get(reference or ""), level)
        rows.append(row)
        if entry.kind == "model" and best is not None:
            verdicts.append(f"{direction}, {mode}: {_verdict(row, error[best], level)}")
        for against, test in tests.items():
            whom = f" (against '{against}')" if len(models) > 1 else ""
            verdicts.append(f"{direction}, {mode}: {test.sentence(entry.name)}{whom}")
    return rows, verdicts


def _row(
    entry: Entry,
    mode: str,
    error: dict[str, float],
    resampled: dict[str, np.ndarray],
    best: str | None,
    reference: str | None,
    test: ControlTest | None,
    level: float,
) -> ScoreRow:
    own, mine = error[entry.name], resampled[entry.name]
    score = interval(own, mine, level)
    gain = drop = Interval(math.nan, math.nan, math.nan)
    if best is not None and resampled[best].min() > 0:
        gain = interval(skill(own, error[best]), 1 - mine / resampled[best], level)
    if reference is not None:
        drop = interval(own - error[reference], mine - resampled[reference], level)
    first = entry.comparisons[0]
    return ScoreRow(
        entry.name,
        entry.kind,
        entry.direction,
        mode,
        *score,
        float(np.mean([r_change(comparison) for comparison in entry.comparisons])),
        *gain,
        reference or "",
        *drop,
        test.p_rank if test is not None else math.nan,
        len(entry.comparisons) if entry.kind == "control" else 0,
        first.genes,
        int(first.mask.sum()),
    )


def _verdict(row: ScoreRow, best: float, level: float) -> str:
    figures = (
        f"RMSE {row.rmse:.3f} against {best:.3f}; difference {row.difference:+.3f}, "
        f"{level:.0%} interval {row.difference_lo:+.3f} to {row.difference_hi:+.3f}"
    )
    verb = "beats the best baseline" if row.difference < 0 else "loses to"
    if row.difference == 0:
        verb = "ties with"
    beyond = row.difference_hi < 0 or row.difference_lo > 0
    sure = "beyond the bootstrap interval" if beyond else "but within the bootstrap interval: not told apart"
    return f"model '{row.name}' {verb} '{row.against}', {sure} ({figures})."


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
