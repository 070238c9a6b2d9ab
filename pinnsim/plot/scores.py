"""Scores as bars: the model beside every baseline and control, in all directions, with intervals, win or lose."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, GREY, INK, ORANGE, new_panels, styled, titled
from pinnsim.score.compare import ROLL_OUT
from pinnsim.score.table import ScoreRow, ScoreTable
from pinnsim.units import reading_unit

_SHADES = {"model": BLUE, "control": ORANGE, "baseline": GREY}
_HATCH = {"model": "", "control": "////", "baseline": ""}


@styled
def score_bars(table: ScoreTable, *, mode: str = ROLL_OUT, title: str | None = None) -> list[Axes]:
    """RMSE of every row with its interval, one panel per direction; the best baseline is a line across.

    **Arguments:** `table`: from `score_table`; `mode`: roll-out or one step, which are never mixed.

    **Returns** one axes per direction. **Raises** `E_DATA_EMPTY` where the table has no row of this mode.
    """
    groups = {direction: rows for (direction, kind), rows in table.groups().items() if kind == mode}
    if not groups:
        raise PinnsimError.of("E_DATA_EMPTY", f"the score table has no row of mode '{mode}'.")
    tallest = max(map(len, groups.values()))
    panels = new_panels(1, len(groups), (4.4 * len(groups) + 0.6, 0.32 * tallest + 1.7))
    widest = max(max(row.rmse, row.hi) for rows in groups.values() for row in rows if np.isfinite(row.rmse))
    for ax, (direction, rows) in zip(panels.flat, groups.items(), strict=True):
        _panel(ax, rows, widest)
        ax.set_title(textwrap.fill(direction, 36))
        ax.set_xlabel(f"RMSE ({reading_unit(table.unit)}), lower is better")
        best = table.best_baseline(direction, mode)
        if best is not None:
            value = next(row.rmse for row in rows if row.name == best)
            ax.axvline(value, color=INK, linewidth=1, linestyle="--", zorder=0.5)
    figure = panels[0, 0].figure
    genes = next(iter(groups.values()))[0].n_genes
    text = f"{table.data + ': ' if table.data else ''}{mode}, {table.level:.0%} bootstrap intervals over {genes} genes"
    figure.suptitle(titled(text if title is None else title, table.simulated), x=0.01, ha="left")
    kinds = dict.fromkeys(row.kind for rows in groups.values() for row in rows)
    handles: list = [
        Patch(facecolor=_SHADES[kind], hatch=_HATCH[kind], edgecolor="white", label=kind) for kind in kinds
    ]
    handles.append(figure.axes[0].plot([], [], color=INK, linewidth=1, linestyle="--", label="best baseline")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return list(panels.flat)


def _panel(ax: Axes, rows: list[ScoreRow], widest: float) -> None:
    places = np.arange(len(rows))[::-1]
    for y, row in zip(places, rows, strict=True):
        ax.barh(
            y, row.rmse, height=0.72, color=_SHADES[row.kind], hatch=_HATCH[row.kind], edgecolor="white", linewidth=0.6
        )
        spread = [[max(row.rmse - row.lo, 0.0)], [max(row.hi - row.rmse, 0.0)]]
        if np.isfinite(spread).all():
            ax.errorbar(row.rmse, y, xerr=spread, color=INK, linewidth=1, capsize=2.5)
        end = row.hi if np.isfinite(row.hi) else row.rmse
        ax.text(
            end + 0.02 * widest,
            y,
            (f"{row.rmse:.3f}" if row.rmse < 100 else f"{row.rmse:.4g}") if np.isfinite(row.rmse) else "failed",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            fontsize=8,
            fontweight="bold" if row.kind == "model" else "normal",
        )
    ax.set_yticks(places, [f"{row.name} x {row.n_controls}" if row.n_controls > 1 else row.name for row in rows])
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.kind == "model" else "normal")
    ax.set_xlim(0, 1.16 * widest)
    ax.tick_params(axis="y", length=0)
