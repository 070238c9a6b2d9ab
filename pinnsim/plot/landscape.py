"""Where the cell goes: the flow in two principal components with its attractors, and the dose x duration verdict.

An arrow field on a plane of principal components would need the flow at states of the plane, which are no real states
(the other components would be made up). So the flow is shown only along courses that the model really runs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from pinnsim.landscape import Projection
from pinnsim.plot.marks import MARKS, STAR, Mark, point_handles
from pinnsim.plot.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    ORANGE,
    PALE,
    PINK,
    SKY,
    new_axes,
    place_labels,
    styled,
    titled,
    with_unit,
)


@dataclasses.dataclass(frozen=True)
class Course:
    """One arm on the map: measured (time, gene) at (time,) and the model's (member, time, gene) from its first sample.

    The model's course may have its own, finer times, and run on long after the last measurement.
    """

    name: str
    times: np.ndarray
    measured: np.ndarray | None
    model: np.ndarray | None


@styled
def landscape_2d(
    projection: Projection,
    paths: Sequence[Course],
    marks: Sequence[Mark] = (),
    *,
    flow: ArrayLike | None = None,
    time_unit: str = "",
    labelled_times: Sequence[float | int] = (),
    title: str = "Where the cells go",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Two principal components: measured arms, the model's courses from their first samples, attractors, and the flow.

    **Arguments:** `projection`: fitted on the data (2 or more components); `paths`: arms; `marks`: fixed points;
    `flow`: (lane, time, gene), the model's readings from many start states, drawn thin with an arrow each;
    `labelled_times`: measured times written beside their points. NaN lanes are left out.
    """
    ax = new_axes(ax, (7.4, 5.6))
    for course in np.zeros((0, 1, 1)) if flow is None else np.asarray(flow):
        _thread(ax, projection.project(course)[:, :2])
    points: list[tuple[float, float]] = []
    texts: list[str] = []
    shades: list[str] = []
    for path, color in zip(paths, [*CYCLE] * len(paths), strict=False):
        if path.model is not None:
            for member in np.asarray(path.model).reshape(-1, *np.asarray(path.model).shape[-2:]):
                line = projection.project(member)[:, :2]
                ax.plot(*line.T, color=color, linewidth=1.8, alpha=0.9, zorder=4)
                _arrow(ax, line, color, 0.35)
        if path.measured is not None:
            seen = projection.project(path.measured)[:, :2]
            ax.plot(
                *seen.T,
                "o--",
                color=color,
                markersize=4.5,
                linewidth=0.9,
                markeredgecolor="white",
                markeredgewidth=0.6,
                zorder=5,
            )
            for k in np.flatnonzero(np.isin(path.times, labelled_times)):
                points.append(tuple(seen[k]))
                texts.append(f"{path.times[k]:g} {time_unit}".strip())
                shades.append(color)
    for mark in marks:
        x, y = projection.project(mark.readings)[:2]
        stable = mark.stability == "stable"
        ax.plot(
            x,
            y,
            MARKS[mark.stability],
            color=STAR if stable else "white",
            markeredgecolor=INK,
            markersize=17 if stable else 10,
            markeredgewidth=1.1,
            zorder=7,
        )
    share = [f"PC{k + 1}: {fraction:.0%} of the variance (log2)" for k, fraction in enumerate(projection.explained[:2])]
    ax.set_xlabel(share[0])
    ax.set_ylabel(share[1])
    ax.set_title(titled(title, simulated))
    ax.margins(0.10)
    ax.legend(handles=_legend(paths, marks, flow is not None), loc="center left", bbox_to_anchor=(1.0, 0.5))
    places = [tuple(projection.project(mark.readings)[:2]) for mark in marks]
    place_labels(ax, places, [mark.name for mark in marks], size=9.0, weight="bold", clearance=8.0)
    place_labels(ax, points, texts, colors=shades)
    return ax


@styled
def dose_duration_map(
    doses: ArrayLike,
    durations: ArrayLike,
    valley: ArrayLike,
    names: Sequence[str],
    *,
    critical: tuple[ArrayLike, ArrayLike] | None = None,
    dose_label: str = "dose",
    dose_unit: str = "",
    time_unit: str = "",
    title: str = "In which valley the pushed cell settles",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Which valley, by dose and duration of the push.

    **Arguments:** `doses`: (dose,); `durations`: (duration,), both increasing; `valley`: (dose, duration), position in
    `names`, -1 for "none"; `critical`: doses and their critical durations (NaN where there is none), drawn as a line.
    """
    ax = new_axes(ax, (6.4, 4.6))
    x, y, codes = np.asarray(doses, float), np.asarray(durations, float), np.asarray(valley)
    shades = [BLUE, ORANGE, PINK, SKY, "#009E73", "#F0E442"]
    palette: list[Any] = [PALE, *(_lighter(shades[k % len(shades)]) for k in range(len(names)))]
    ax.pcolormesh(
        cell_edges(x),
        cell_edges(y),
        codes.T,
        cmap=ListedColormap(palette),
        norm=BoundaryNorm(np.arange(-1.5, len(names)), len(palette)),
        rasterized=True,
    )
    shown = [k for k in range(-1, len(names)) if (codes == k).any()]
    handles: list = [
        Patch(
            facecolor=palette[k + 1],
            edgecolor=GREY,
            label=f"settles in {names[k]}" if k >= 0 else "in no known valley, or failed",
        )
        for k in shown
    ]
    if critical is not None and np.isfinite(np.asarray(critical[1], float)).any():
        ax.plot(*(np.asarray(c, float) for c in critical), color=INK, linewidth=2)
        handles.append(Line2D([], [], color=INK, linewidth=2, label="critical duration"))
    ax.set_xlim(*cell_edges(x)[[0, -1]])
    ax.set_ylim(*cell_edges(y)[[0, -1]])
    ax.set_xlabel(with_unit(dose_label, dose_unit))
    ax.set_ylabel(with_unit("duration of the push", time_unit))
    ax.set_title(titled(title, simulated))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=len(handles))
    return ax


def _thread(ax: Axes, line: np.ndarray) -> None:
    if np.isfinite(line).all():
        ax.plot(*line.T, color=GREY, linewidth=0.6, alpha=0.45, zorder=1)
        _arrow(ax, line, GREY, 0.3, 7.0)


def _arrow(ax: Axes, line: np.ndarray, color: str, where: float, size: float = 11.0) -> None:
    """An arrow head at a fraction of the course's length."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    if not np.isfinite(steps).all() or steps.sum() == 0:
        return
    k = int(np.searchsorted(np.cumsum(steps), where * steps.sum()))
    tail, head = line[k], line[min(k + 1, len(line) - 1)]
    if (tail == head).all():
        return
    ax.annotate(
        "",
        head,
        tail,
        arrowprops={"arrowstyle": "-|>", "color": color, "mutation_scale": size, "shrinkA": 0, "shrinkB": 0},
        zorder=6,
    )


def _legend(paths: Sequence[Course], marks: Sequence[Mark], flow: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=color, linewidth=2.2, label=path.name)
        for path, color in zip(paths, [*CYCLE] * len(paths), strict=False)
    ]
    if any(path.measured is not None for path in paths):
        handles.append(
            Line2D(
                [], [], color=INK, linestyle="--", marker="o", markersize=4.5, linewidth=0.9, label="measured (mean)"
            )
        )
    if any(path.model is not None for path in paths):
        handles.append(Line2D([], [], color=INK, linewidth=1.8, label="model from first sample"))
    if flow:
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="model from other starts"))
    return handles + point_handles(mark.stability for mark in marks)


def cell_edges(centers: np.ndarray) -> np.ndarray:
    """Cell edges around increasing centres; one cell of width 1 around a single one."""
    if len(centers) == 1:
        return centers[0] + np.array([-0.5, 0.5])
    middle = 0.5 * (centers[1:] + centers[:-1])
    return np.concatenate([[centers[0] - (middle[0] - centers[0])], middle, [centers[-1] + (centers[-1] - middle[-1])]])


def _lighter(color: str) -> tuple[float, float, float]:
    red, green, blue = (0.45 + 0.55 * part for part in to_rgb(color))
    return red, green, blue
