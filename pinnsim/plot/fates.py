"""Fates: how likely each valley is, with intervals, and from which valley to which cells go when they are pushed.

Of n cells that start in one valley, k end in another: the share k / n with Wilson's interval,

    (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2),      z = 1.96 for 95 %,

which stays within [0, 1] and does not vanish where no cell was seen. The flow drawing gives every starting valley a
height, splits it by share, and bends each part to the valley where it ends.

Source: E. B. Wilson, J. Am. Stat. Assoc. 22:209 (1927).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.plot.style import CYCLE, GREY, INK, PALE, new_axes, styled, titled

_NEEDED = ("start", "end", "probability")
_GAP = 0.04  # between blocks, of the whole height
_BLOCK = 0.05  # width of a block
_HATCH = ("", "//", "..", "\\\\", "xx", "oo")


def fate_table(
    starts: Sequence[str], ends: Sequence[str], *, level: float | int = 0.95, order: Sequence[str] = ()
) -> pd.DataFrame:
    """Shares of cells by the valley they started and the valley they ended in.

    **Arguments:** `starts`, `ends`: (cell,) names of valleys; `level`: of Wilson's interval; `order`: valleys in the
    order to list them (default: as they occur).

    **Returns** one row per pair of a start that occurs and an end that occurs: `start`, `end`, `count`,
    `probability`, `low`, `high`. **Raises** `E_DATA_SHAPE`, `E_DATA_EMPTY`, `E_USAGE`.
    """
    begin, stop = [str(s) for s in starts], [str(e) for e in ends]
    with Problems() as problems:
        if len(begin) != len(stop):
            problems.add("E_DATA_SHAPE", f"There are {len(begin)} starts and {len(stop)} ends; give one each per cell.")
        if not begin:
            problems.add("E_DATA_EMPTY", "There are no cells, so there are no fates.")
        if not 0 < float(level) < 1:
            problems.add("E_USAGE", f"Argument `level` must lie between 0 and 1, but is {level}.")
    known = list(dict.fromkeys([*order, *begin, *stop]))
    rows = []
    for start in (name for name in known if name in set(begin)):
        there = [end for here, end in zip(begin, stop, strict=True) if here == start]
        n = len(there)
        for end in (name for name in known if name in set(stop)):
            k = there.count(end)
            low, high = (float(limit) for limit in proportion_interval(k, n, level))
            # Rounding must not put the share itself outside its interval.
            rows.append((start, end, k, k / n, min(low, k / n), max(high, k / n)))
    return pd.DataFrame(rows, columns=["start", "end", "count", "probability", "low", "high"])


@styled
def fate_bars(
    table: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    interval: str = "95 % interval",
    title: str = "Where the cells end",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Bars of fate probabilities, a group per start (or per condition), a bar per valley, with intervals.

    **Arguments:** `table`: columns `start`, `end`, `probability` and, where known, `low` and `high`, for example of
    `fate_table`; or condition -> table, each of one start, for example before and after a perturbation; `interval`:
    what `low` and `high` are, in words.

    **Raises** `E_COLUMN_MISSING`; `E_DATA_SHAPE` for pairs that repeat; `E_USAGE` for probabilities outside [0, 1].
    """
    if isinstance(table, Mapping):
        every = pd.concat([_checked(part).assign(start=name) for name, part in table.items()], ignore_index=True)
        every = _checked(every)
    else:
        every = _checked(table)
    groups, ends = list(dict.fromkeys(every["start"])), list(dict.fromkeys(every["end"]))
    ax = new_axes(ax, (max(4.2, 1.1 + 0.55 * len(groups) * (len(ends) + 1)), 3.6))
    width = 0.8 / len(ends)
    told = {"low", "high"} <= set(every.columns)
    for number, end in enumerate(ends):
        part = every[every["end"] == end]
        x = np.array([groups.index(s) for s in part["start"]]) + (number - 0.5 * (len(ends) - 1)) * width
        value = part["probability"].to_numpy(float)
        ax.bar(
            x, value, 0.92 * width, color=CYCLE[number % len(CYCLE)], hatch=_HATCH[number % len(_HATCH)],
            edgecolor="white", linewidth=0.6, label=end, zorder=2,
        )  # fmt: skip
        if told:
            reach = np.stack([value - part["low"].to_numpy(float), part["high"].to_numpy(float) - value])
            ax.errorbar(x, value, reach, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3, zorder=3)
    ax.set_xticks(range(len(groups)), groups)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("condition" if isinstance(table, Mapping) else "valley at the start")
    ax.set_ylabel("probability of the fate" + (f"\n(bars: {interval})" if told else ""))
    ax.set_title(titled(title, simulated))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="ends in")
    return ax


@styled
def fate_flow(
    table: pd.DataFrame,
    *,
    weights: Mapping[str, float | int] | None = None,
    left: str = "before the push",
    right: str = "after it",
    title: str = "From which valley to which",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """From which valley to which: blocks of starts, blocks of ends, and bands as wide as their share of all cells.

    **Arguments:** `table`: columns `start`, `end`, `probability`, the probabilities of each start adding up to 1;
    `weights`: share of cells per start (default: the counts, where the table has them, else equal).

    **Raises** `E_COLUMN_MISSING`; `E_DATA_SHAPE` for pairs that repeat; `E_USAGE` for probabilities outside [0, 1] or
    that do not add up to 1, and for weights that are missing, negative or all 0.
    """
    rows = _checked(table)
    starts, ends = list(dict.fromkeys(rows["start"])), list(dict.fromkeys(rows["end"]))
    names = list(dict.fromkeys([*starts, *ends]))
    share = rows.pivot(index="start", columns="end", values="probability").reindex(index=starts, columns=ends)
    flow = share.fillna(0.0).to_numpy(float)
    wrong = [s for s, total in zip(starts, flow.sum(axis=1), strict=True) if abs(total - 1) > 1e-6]
    if wrong:
        raise PinnsimError.of(
            "E_USAGE", f"Probabilities of start {first(wrong)} do not add up to 1; add the fate that is left out."
        )
    flow = flow * _weights(rows, starts, weights)[:, None]
    ax = new_axes(ax, (5.6, 4.0))
    shade = {name: CYCLE[k % len(CYCLE)] for k, name in enumerate(names)}
    heights = {"left": flow.sum(axis=1), "right": flow.sum(axis=0)}
    tops = {side: _stacked(h) for side, h in heights.items()}
    for side, listed, x, ha, shift in (
        ("left", starts, 0.0, "right", -0.02),
        ("right", ends, 1.0 - _BLOCK, "left", 0.07),
    ):
        for name, top, height in zip(listed, tops[side], heights[side], strict=True):
            ax.add_patch(
                Rectangle((x, top - height), _BLOCK, height, facecolor=shade[name], edgecolor=INK, linewidth=0.6)
            )
            if height > 0:
                ax.text(x + shift, top - 0.5 * height, f"{name}\n{height:.0%}", ha=ha, va="center", fontsize=8)
    used = [top.copy() for top in (tops["left"], tops["right"])]
    for a, start in enumerate(starts):
        for b in range(len(ends)):
            if flow[a, b] > 0:
                ax.add_patch(_band(used[0][a], used[1][b], flow[a, b], shade[start]))
            used[0][a] -= flow[a, b]
            used[1][b] -= flow[a, b]
    lowest = min(float((tops[side] - heights[side]).min()) for side in heights)
    ax.set(xlim=(-0.28, 1.28), ylim=(lowest - 0.03, 1.1))
    ax.text(0.0, 1.04, left, ha="left", fontsize=9, color=GREY)
    ax.text(1.0, 1.04, right, ha="right", fontsize=9, color=GREY)
    ax.set_axis_off()
    ax.set_title(titled(title, simulated))
    return ax


def _band(top_left: float, top_right: float, height: float, color: str) -> PathPatch:
    """A ribbon of equal height from the left block to the right one."""
    x0, x1, middle = _BLOCK, 1.0 - _BLOCK, 0.5
    corners = [
        (x0, top_left), (middle, top_left), (middle, top_right), (x1, top_right),
        (x1, top_right - height), (middle, top_right - height), (middle, top_left - height), (x0, top_left - height),
        (x0, top_left),
    ]  # fmt: skip
    curve = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    return PathPatch(Path(corners, curve), facecolor=color, edgecolor=PALE, linewidth=0.4, alpha=0.55, zorder=1)


def _stacked(heights: np.ndarray) -> np.ndarray:
    """Tops of blocks stacked downwards from 1, with gaps."""
    return 1.0 - np.concatenate([[0.0], np.cumsum(heights[:-1] + _GAP)])


def _weights(rows: pd.DataFrame, starts: list[str], weights: Mapping[str, float | int] | None) -> np.ndarray:
    if weights is None and "count" in rows.columns:
        given = np.array([float(rows.loc[rows["start"] == s, "count"].sum()) for s in starts])
    else:
        given = np.array([float((weights or {s: 1.0 for s in starts}).get(s, np.nan)) for s in starts])
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise PinnsimError.of("E_USAGE", f"Weights of the starts {first(starts)} must be >= 0 and not all 0.")
    return given / given.sum()


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names as text. Raises all that is wrong with it."""
    with Problems() as problems:
        missing = [name for name in _NEEDED if name not in table.columns]
        if missing:
            problems.add("E_COLUMN_MISSING", f"The table of fates lacks {', '.join(missing)}; `fate_table` makes one.")
        elif not len(table):
            problems.add("E_DATA_EMPTY", "The table of fates has no rows.")
        else:
            p = table["probability"].to_numpy(float)
            if not ((p >= 0) & (p <= 1 + 1e-9)).all():
                problems.add("E_USAGE", f"Probabilities must lie in [0, 1], but reach from {p.min():g} to {p.max():g}.")
            twice = table.duplicated(["start", "end"])
            if twice.any():
                pair = table.loc[twice].iloc[0]
                problems.add("E_DATA_SHAPE", f"The pair {pair['start']} -> {pair['end']} occurs twice; add them up.")
    return table.astype({"start": str, "end": str})
