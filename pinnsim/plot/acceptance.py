"""Bars: what an experiment measured, each value as a share of the bar that it must not exceed."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from pinnsim.experiment import Acceptance
from pinnsim.plot.style import BLUE, INK, RED, new_axes, styled

_LEAST, _MOST = 1e-9, 30.0  # of the bar: what lies beyond is drawn at the edge


def _share(row: Acceptance) -> float:
    if math.isnan(row.value) or (row.better == "higher" and row.value <= 0):
        return _MOST
    return row.value / row.bar if row.better == "lower" else row.bar / row.value


@styled
def acceptance_dots(rows: Sequence[Acceptance], title: str, *, ax: Axes | None = None) -> Axes:
    """A dot per row with a positive bar: on the line at 1, or left of it, it holds. Where higher is better, the share
    is the bar's of the value; what was not measured stands at the right edge.

    **Arguments:** `rows`, of which at least one can be shown; `title`; `ax`, new ones if not given.

    **Returns** the axes.
    """
    shown = [row for row in reversed(rows) if row.bar > 0]
    longest = max(len(row.what) for row in shown)
    ax = new_axes(ax, (5.0 + 0.075 * longest, 1.1 + 0.27 * len(shown)))
    for y, row in enumerate(shown):
        share = min(max(_share(row), _LEAST), _MOST)
        marker = {_LEAST: "<", _MOST: ">"}.get(share, "o")
        ax.plot(share, y, marker, color=BLUE if row.holds else RED, clip_on=False, zorder=3)
        measured = "not measured" if math.isnan(row.value) else f"{row.value:.3g}"
        label = f"{measured}  (bar {row.bar:g})"
        ax.annotate(label, (1.0, y), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=8)
    ax.axvline(1.0, color=INK, linewidth=1.0)
    ax.set(xscale="log", xlim=(_LEAST, _MOST), ylim=(-0.6, len(shown) - 0.4))
    ax.set_yticks(range(len(shown)), [row.what for row in shown])
    ax.set_xlabel("share of the bar (holds at 1 and left of it)")
    ax.set_title(title)
    return ax
