"""The landscape from above: heights as shades, with the ball's course, fixed points, paths, and what flows round.

Where the flow is no gradient, heights alone do not say where a cell goes: the stationary flux `J = f p - div(D p)` goes
round and is drawn as arrows along `J / p`, the velocity that is left when the descent is taken away.

Source: J. Wang, Adv. Phys. 64:1 (2015), section 3, for landscape and flux.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pinnsim.errors import PinnsimError
from pinnsim.landscape import Attractors, MinimumAction, Relief
from pinnsim.plot.landscape3d import fine
from pinnsim.plot.marks import Mark, course_on, height_label, look_of, outlined, point_handles, points_on, told, ways_on
from pinnsim.plot.style import INK, PALE, RED, new_axes, place_labels, styled, titled, with_unit

_ARROWS = 18  # along each axis
_LEVELS = 25


@styled
def landscape_contour(
    relief: Relief,
    *,
    course: np.ndarray | None = None,
    points: Attractors | Sequence[Mark] | None = None,
    paths: Sequence[MinimumAction] = (),
    flux: np.ndarray | None = None,
    highest: float | int | None = None,
    unit: str = "",
    energy_unit: str = "",
    title: str = "Landscape",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Heights of a relief from above, with a course, fixed points, paths and flux.

    **Arguments:** as of `landscape_3d`; `flux`: (2, x, y), for example `grid.flux()` of a grid of two species; its
    arrows are scaled to the longest and show nothing where heights are cut.

    **Returns** axes. **Raises** `E_DATA_SHAPE` for a course or a flux that does not fit, `E_USAGE` for `highest` not
    above 0.
    """
    top = relief.highest if highest is None else float(highest)
    if not top > 0:
        raise PinnsimError.of("E_USAGE", f"Argument `highest` must be > 0, but is {top:g}.")
    line = course_on(course)
    if flux is not None and np.shape(flux) != (2, len(relief.x), len(relief.y)):
        raise PinnsimError.of(
            "E_DATA_SHAPE", f"The flux {np.shape(flux)} must be (2, x, y), here {(2, len(relief.x), len(relief.y))}."
        )
    ax = new_axes(ax, (6.4, 5.4))
    # What is above the highest level is left to the ground, which is grey: cut, not flat.
    ax.set_facecolor(PALE)
    plane, heights = fine(relief, top)
    drawn = plane[..., 0], plane[..., 1], heights
    filled = ax.contourf(*drawn, levels=np.linspace(0, top, _LEVELS), cmap="viridis")
    ax.contour(*drawn, levels=np.linspace(0, top, 13)[1:], colors="white", linewidths=0.4)
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.85)
    bar.set_ticks([tick for tick in MaxNLocator(7).tick_values(0.0, top) if 0.0 <= tick <= top])
    bar.set_label(height_label(relief, energy_unit))
    handles: list[Line2D] = []
    if flux is not None:
        handles += _arrows(ax, relief, np.asarray(flux), top)
    for way in ways_on(relief, paths):
        ax.plot(*way.T, color=INK, linewidth=2.0, zorder=4)
    if paths:
        handles.append(Line2D([], [], color=INK, linewidth=2.0, label="minimum action path"))
    if len(line):
        ax.plot(*line.T, color="white", linewidth=3.4, zorder=4.5)
        ax.plot(*line.T, color=RED, linewidth=2.0, zorder=5)
        ax.plot(*line[:1].T, "o", color="white", markeredgecolor=RED, markersize=6, zorder=6)
        ax.plot(*line[-1:].T, "o", color=RED, markeredgecolor="white", markersize=9, zorder=8)
        handles.append(Line2D([], [], color=RED, linewidth=2, marker="o", markersize=7, label="the ball's course"))
    marked = points_on(relief, points)
    for _, place, kind in marked:
        ax.plot(*place[:, None], **look_of(kind), zorder=7)  # type: ignore[arg-type]
    handles += point_handles(kind for _, _, kind in marked)
    (left, right), (near, far) = relief.box
    ax.set(xlim=(left, right), ylim=(near, far))
    ax.set_xlabel(with_unit(relief.axes[0], unit))
    ax.set_ylabel(with_unit(relief.axes[1], unit))
    small = told(relief, top, line, width=72)
    ax.set_title(titled(title, simulated), pad=8.0 + 9.0 * (1 + small.count("\n")))
    ax.text(0.0, 1.01, small, transform=ax.transAxes, fontsize=7.0, va="bottom")
    if handles:
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    names = [name for name, _, _ in marked]
    place_labels(ax, [tuple(place) for _, place, _ in marked], names, weight="bold", clearance=7.0)
    outlined(ax)
    return ax


def _arrows(ax: Axes, relief: Relief, flux: np.ndarray, top: float) -> list[Line2D]:
    """Arrows of `J / p` on a coarse grid, the longest as long as the grid is wide."""
    heights = relief.potential.values
    shown = heights < top
    # Probability of a cell relative to the likeliest: lengths are relative anyway.
    velocity = np.where(shown, flux * np.exp(np.where(shown, heights, 0.0)), np.nan)
    coarse = tuple(slice(n // (2 * _ARROWS), None, max(1, n // _ARROWS)) for n in shown.shape)
    u, v = velocity[0][coarse], velocity[1][coarse]
    x, y = np.meshgrid(relief.x[coarse[0]], relief.y[coarse[1]], indexing="ij")
    longest = float(np.nanmax(np.hypot(u, v), initial=0.0))
    if longest == 0:
        return []
    width = (relief.x[-1] - relief.x[0]) / _ARROWS
    ax.quiver(
        x, y, u, v, angles="xy", scale_units="xy", scale=longest / (1.6 * width), color="white", width=0.0032,
        edgecolor=INK, linewidth=0.3, zorder=3,
    )  # fmt: skip
    return [Line2D([], [], color="white", marker=r"$\rightarrow$", markeredgecolor=INK, markersize=11, linestyle="none",
                   label="flux J / p")]  # fmt: skip
