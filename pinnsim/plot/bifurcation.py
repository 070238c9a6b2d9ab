"""Pictures of landscapes: branches along a knob, phase portraits with nullclines, and heights with paths over them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pinnsim.landscape.action import MinimumAction
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.continuation import Branch
from pinnsim.landscape.potential import Potential
from pinnsim.plot.marks import HEIGHTS, look_of, outlined, point_handles
from pinnsim.plot.style import BLUE, GREY, INK, ORANGE, RED, new_axes, place_labels, styled, titled

_SPECIAL = {"fold": "o", "branch point": "D", "hopf": "s", "cusp": "^"}
_HIGHEST = 12.0  # heights above this, in units of ln p, are drawn as one


@styled
def bifurcation_diagram(
    branches: Sequence[Branch],
    species: str,
    *,
    knob: str = "knob",
    unit: str = "",
    title: str = "Fixed points as the knob is turned",
    ax: Axes | None = None,
) -> Axes:
    """Branches of fixed points: solid where stable, dashed where not, with folds, branch points and Hopf points.

    **Arguments:** `branches`: of `continuation` and `switch_branch`; `species`: shown upwards; `knob`, `unit`: label.
    """
    ax = new_axes(ax, (5.6, 4.0))
    column = branches[0].system.kinetics.table.require("species", species, "E_USAGE")
    kinds: list[str] = []
    for branch in branches:
        values, states, stable = branch.values, branch.states[:, column], branch.stable
        # Pieces of one stability share their end points, so that lines have no gaps.
        cuts = np.flatnonzero(stable[1:] != stable[:-1]) + 1
        for begin, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
            piece = slice(max(begin - 1, 0), end)
            style = "-" if stable[begin] else "--"
            ax.plot(values[piece], states[piece], style, color=BLUE if stable[begin] else GREY)
        for point in branch.special:
            ax.plot(point.value, point.state[column], _SPECIAL[point.kind], color=RED, markersize=6, zorder=4)
            kinds.append(point.kind)
    handles = [
        Line2D([], [], color=BLUE, label="stable"),
        Line2D([], [], color=GREY, linestyle="--", label="unstable"),
    ]
    for kind in dict.fromkeys(kinds):
        handles.append(Line2D([], [], linestyle="none", marker=_SPECIAL[kind], color=RED, label=kind))
    ax.set(xlabel=f"{knob} ({unit})" if unit else knob, ylabel=species)
    ax.set_title(title)
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


@styled
def phase_portrait(
    flow: Callable[[np.ndarray], np.ndarray],
    box: tuple[Sequence[float | int], Sequence[float | int]],
    species: tuple[str, str],
    *,
    points: Attractors | None = None,
    paths: Sequence[MinimumAction] = (),
    potential: Potential | None = None,
    grid: tuple[np.ndarray, np.ndarray] | None = None,
    title: str = "Flow, nullclines and paths",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The flow of two species with both nullclines, fixed points and minimum action paths, over heights if given.

    **Arguments:** `flow`: states (..., 2) to (..., 2); `box`: lowest and highest, (2,) each; `points`: fixed points;
    `paths`: of `minimum_action`; `potential`: heights on `grid` = centres of both axes, drawn as contours of at most
    12 above the lowest.
    """
    ax = new_axes(ax, (6.4, 5.0))
    handles: list = []
    axes = [np.linspace(low, high, 241) for low, high in zip(*box, strict=True)]
    x, y = np.meshgrid(*axes)
    field = np.asarray(flow(np.stack([x, y], axis=-1)))
    if potential is not None and grid is not None:
        shown = np.minimum(potential.values, _HIGHEST).T
        filled = ax.contourf(*grid, shown, levels=np.linspace(0, _HIGHEST, 25), cmap="viridis", alpha=0.85)
        bar = ax.figure.colorbar(filled, ax=ax, shrink=0.85)
        bar.set_label(HEIGHTS[potential.kind])
    coarse = slice(None, None, 12)
    ax.streamplot(
        axes[0][coarse], axes[1][coarse], field[coarse, coarse, 0], field[coarse, coarse, 1],
        color=GREY, linewidth=0.6, arrowsize=0.7, density=1.1,
    )  # fmt: skip
    looks: tuple[tuple[str, Any], ...] = ((ORANGE, "solid"), (RED, "dashed"))
    for k, (color, dash) in enumerate(looks):
        ax.contour(x, y, field[..., k], levels=[0.0], colors=[color], linewidths=1.4, linestyles=dash)
        handles.append(Line2D([], [], color=color, ls=dash, label=f"{species[k]} does not change"))
    for found in paths:
        for path in found.paths:
            ax.plot(*path.points.T, color=INK, linewidth=2.2, zorder=5)
    if paths:
        handles.append(Line2D([], [], color=INK, linewidth=2.2, label="minimum action path"))
    ax.set(xlim=(box[0][0], box[1][0]), ylim=(box[0][1], box[1][1]), xlabel=species[0], ylabel=species[1])
    ax.set_title(titled(title, simulated))
    if points is not None:
        for state, kind in zip(points.states, points.stability, strict=True):
            ax.plot(*state[:, None], **look_of(kind), zorder=6)  # type: ignore[arg-type]
        handles += point_handles(points.stability)
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    if points is not None:
        place_labels(ax, [tuple(state) for state in points.states], points.names, weight="bold", clearance=7.0)
        outlined(ax)
    return ax
