"""Populations of cells over time, measured beside modelled, and courses of a model under several treatments."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.plot.style import CYCLE, DASHES, GREY, grid_shape, new_panels, styled, titled, with_unit

_MOST = 16  # panels


@styled
def population_panels(
    times: ArrayLike,
    measured: tuple[ArrayLike, ArrayLike],
    modelled: tuple[ArrayLike, ArrayLike],
    *,
    conditions: Sequence[str],
    genes: Sequence[str],
    time_unit: str,
    unit: str = "mean count per cell",
    title: str = "Measured and modelled populations",
    simulated: bool = False,
) -> list[Axes]:
    """Means over cells of each gene at the sampling times, a panel per gene and a colour per condition.

    Measured means are points, and bars reach one standard deviation of cells (not of the mean) to either side;
    the model's means are lines with a band of one standard deviation of its cells.

    **Arguments:** `times`: (condition, time); `measured`, `modelled`: means and standard deviations, each (condition,
    time, gene), NaN where there are no cells; `genes`: at most 16 are drawn.

    **Returns** axes, one per gene. **Raises** `E_DATA_SHAPE`, `E_DATA_EMPTY`.
    """
    grid = np.asarray(times, dtype=float)
    arrays = [np.asarray(a, dtype=float) for a in (*measured, *modelled)]
    shape = (len(conditions), grid.shape[-1], len(genes))
    with Problems() as problems:
        if any(array.shape != shape for array in arrays) or grid.shape != shape[:2]:
            problems.add("E_DATA_SHAPE", f"Means and spreads must be (condition, time, gene) = {shape}.")
        if not len(genes):
            problems.add("E_DATA_EMPTY", "There is no gene to draw.")
    return _populations(grid, arrays, conditions, genes[:_MOST], time_unit, unit, titled(title, simulated))


def _populations(
    grid: np.ndarray,
    arrays: list[np.ndarray],
    conditions: Sequence[str],
    genes: Sequence[str],
    time_unit: str,
    unit: str,
    title: str,
) -> list[Axes]:
    panels = _panels(len(genes))
    mean, spread, model, wide = arrays
    for g, (ax, gene) in enumerate(zip(panels, genes, strict=True)):
        for c, name in enumerate(conditions):
            color, dash = CYCLE[c % len(CYCLE)], ("-", *DASHES)[c % (1 + len(DASHES))]
            here = np.isfinite(mean[c, :, g])
            at, low, high = grid[c, here], model[c, here, g] - wide[c, here, g], model[c, here, g] + wide[c, here, g]
            ax.fill_between(at, np.maximum(low, 0.0), high, color=color, alpha=0.15, linewidth=0)
            ax.plot(at, model[c, here, g], color=color, linestyle=dash, label=f"{name}, model")
            ax.errorbar(
                at,
                mean[c, here, g],
                np.stack([np.minimum(spread[c, here, g], mean[c, here, g]), spread[c, here, g]]),
                color=color,
                linestyle="none",
                marker="o^sDvP"[c % 6],
                markersize=4.5,
                linewidth=0.9,
                label=f"{name}, measured",
            )
        ax.set_title(gene, fontstyle="italic")
        ax.set_ylim(bottom=0)
    _finish(panels, time_unit, unit, title)
    return panels


@styled
def course_panels(
    times: ArrayLike,
    courses: Mapping[str, ArrayLike],
    *,
    genes: Sequence[str],
    time_unit: str,
    unit: str = "reading per cell",
    title: str = "Courses of the model",
    simulated: bool = True,
) -> list[Axes]:
    """Courses of each gene, a panel per gene and a colour per treatment; the range over members is a band.

    **Arguments:** `times`: (time,); `courses`: treatment -> (member, time, gene) or (time, gene), NaN where it failed;
    `genes`: at most 16 are drawn.

    **Returns** axes, one per gene. **Raises** `E_DATA_SHAPE`, `E_DATA_EMPTY`.
    """
    moments = np.asarray(times, dtype=float)
    arrays = {name: np.asarray(a, dtype=float) for name, a in courses.items()}
    arrays = {name: a[None] if a.ndim == 2 else a for name, a in arrays.items()}
    wrong = [name for name, a in arrays.items() if a.shape[1:] != (moments.size, len(genes))]
    if wrong or not arrays or not len(genes):
        code = "E_DATA_SHAPE" if wrong else "E_DATA_EMPTY"
        raise PinnsimError.of(
            code, f"Courses must be (member, time, gene), at least one of one gene; {first(wrong) or 'none'} is not."
        )
    panels = _panels(min(len(genes), _MOST))
    for g, (ax, gene) in enumerate(zip(panels, genes, strict=False)):
        for k, (name, array) in enumerate(arrays.items()):
            good = array[np.isfinite(array).all(axis=(1, 2)), :, g]
            color, dash = CYCLE[k % len(CYCLE)], ("-", *DASHES)[k % (1 + len(DASHES))]
            if not len(good):
                ax.plot([], [], color=color, linestyle=dash, label=f"{name} (failed)")
                continue
            if len(good) > 1:
                ax.fill_between(moments, good.min(axis=0), good.max(axis=0), color=color, alpha=0.2, linewidth=0)
            ax.plot(moments, good[0], color=color, linestyle=dash, label=name)
        ax.set_title(gene, fontstyle="italic")
        ax.set_ylim(bottom=0)
    _finish(panels, time_unit, unit, titled(title, simulated))
    return panels


def _panels(count: int) -> list[Axes]:
    rows, columns = grid_shape(count)
    size = (2.7 * columns + 2.2, 2.1 * rows + 0.8)
    panels = new_panels(rows, columns, size, sharex=True).ravel().tolist()
    for ax in panels[count:]:
        ax.set_visible(False)
    return panels[:count]


def _finish(panels: list[Axes], time_unit: str, unit: str, title: str) -> None:
    figure = panels[0].figure.get_figure(root=True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", labelcolor="black", edgecolor=GREY)
    figure.supxlabel(with_unit("time", time_unit), fontsize=9)
    figure.supylabel(unit, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
