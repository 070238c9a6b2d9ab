"""Where cells go, on an embedding: the mean step of a Markov chain on cells, averaged on a grid; and which genes were
selected, by how much they change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, CYCLE, GREY, INK, new_axes, place_labels, styled, titled, with_unit

_FEWEST = 0.15  # of the fullest square's cells: squares with fewer show no arrow


def mean_steps(matrix: Any, points: np.ndarray) -> np.ndarray:
    """The expected step of every cell on an embedding, `sum_j P_ij (e_j - e_i)`, (cell, 2); P is sparse."""
    return np.asarray(matrix @ points) - points * np.asarray(matrix.sum(axis=1)).reshape(-1, 1)


@styled
def embedding_arrows(
    points: ArrayLike,
    steps: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    labels: tuple[str, str] = ("embedding 1", "embedding 2"),
    unit: str = "",
    squares: int = 16,
    title: str = "Expected steps of cells",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Cells on a plane, and the mean of their steps in the squares of a grid.

    An arrow is the mean step of the cells near a square's centre, weighted by their distance; all arrows are drawn at
    one scale, the longest as long as a square's diagonal. Squares with few cells show none.

    **Arguments:** `points`, `steps`: (cell, 2); `groups`: (cell,), names by which cells are coloured; `unit`: of both
    coordinates. **Raises** `E_DATA_SHAPE`.
    """
    place, move = (np.asarray(a, dtype=float) for a in (points, steps))
    if place.ndim != 2 or place.shape[1] != 2 or move.shape != place.shape:
        raise PinnsimError.of(
            "E_DATA_SHAPE",
            f"Points {place.shape} and steps {move.shape} must both be (cell, 2); choose two coordinates.",
        )
    ax = new_axes(ax, (6.4, 5.2))
    named = np.full(len(place), "cells", dtype=object) if groups is None else np.array([str(g) for g in groups])
    kinds = list(dict.fromkeys(named.tolist()))
    handles = []
    for k, kind in enumerate(kinds):
        color, marker = CYCLE[k % len(CYCLE)], "o^sDvP"[k % 6]
        here = named == kind
        ax.scatter(place[here, 0], place[here, 1], s=9, color=color, marker=marker, alpha=0.45, linewidths=0)
        handles.append(Line2D([], [], color=color, marker=marker, linestyle="none", markersize=5, label=kind))
    low, high = place.min(axis=0), place.max(axis=0)
    width = np.where(high > low, high - low, 1.0) / squares
    centres = np.stack(
        np.meshgrid(*(lo + w * (np.arange(squares) + 0.5) for lo, w in zip(low, width, strict=True))), -1
    )
    centres = centres.reshape(-1, 2)
    weight = np.exp(-0.5 * (((centres[:, None] - place[None]) / width) ** 2).sum(axis=2))
    mass = weight.sum(axis=1)
    shown = mass > _FEWEST * mass.max()
    mean = (weight[shown] @ move) / mass[shown, None]
    longest = float(np.linalg.norm(mean / width, axis=1).max(initial=0.0))
    if longest > 0:
        mean = mean / longest * np.sqrt(2.0)
    ax.quiver(
        centres[shown, 0],
        centres[shown, 1],
        mean[:, 0],
        mean[:, 1],
        angles="xy",
        scale_units="xy",
        scale=1.0,
        color=INK,
        width=0.004,
        headwidth=4.0,
        zorder=4,
    )
    ax.set_xlabel(with_unit(labels[0], unit))
    ax.set_ylabel(with_unit(labels[1], unit))
    if groups is not None:
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_title(titled(title, simulated))
    return ax


@styled
def selection_scatter(
    cells: ArrayLike,
    ratio: ArrayLike,
    selected: ArrayLike,
    genes: Sequence[str],
    *,
    expected: float | int,
    names: int = 12,
    title: str = "Genes by their change in time",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The share of a gene's variation that lies between times, against the number of cells in which it was seen.

    **Arguments:** `cells`, `ratio`, `selected`: (gene,); `expected`: the ratio of a gene that does not change; `names`:
    how many of the highest are named. **Raises** `E_DATA_SHAPE`.
    """
    x, y, taken = np.asarray(cells, dtype=float), np.asarray(ratio, dtype=float), np.asarray(selected, dtype=bool)
    if not x.shape == y.shape == taken.shape == (len(genes),):
        raise PinnsimError.of("E_DATA_SHAPE", f"Cells, ratios and marks must be (gene,) = ({len(genes)},).")
    ax = new_axes(ax, (6.0, 4.4))
    ax.scatter(x[~taken], y[~taken], s=22, facecolors="none", edgecolors=GREY, label="left out")
    ax.scatter(x[taken], y[taken], s=22, color=BLUE, label="selected")
    ax.axhline(float(expected), color=GREY, linestyle="--", linewidth=1, label="expected without change")
    ax.set_ylim(0, max(1.15 * float(y.max(initial=0.0)), 2.0 * float(expected), 1e-3))
    ax.set_xlabel("cells in which the gene was seen (cells)")
    ax.set_ylabel("share of variation between times, eta^2")
    ax.set_title(titled(title, simulated))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    most = np.argsort(-y, kind="stable")[:names]
    place_labels(ax, [(float(x[k]), float(y[k])) for k in most], [genes[k] for k in most])
    return ax
