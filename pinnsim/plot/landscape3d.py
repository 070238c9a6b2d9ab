"""The landscape as a surface, with the ball's course lying on it.

Heights are those of one potential, up to `highest`; what is higher is cut away, and the picture says so, because walls
of -ln p have no top. Lines lie on the surface (their height is the surface's), and where a hill stands between them and
the eye they are drawn faint: along the direction v of sight, a place is hidden where the surface is above
`(x, y, h) + t v` for some t > 0. Parallel lines of sight, so that heights at the back compare with those in front.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D, proj3d
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from pinnsim.errors import PinnsimError
from pinnsim.landscape import Attractors, MinimumAction, Relief
from pinnsim.landscape.relief import require_alike
from pinnsim.plot.marks import Mark, course_on, height_label, look_of, outlined, point_handles, points_on, told, ways_on
from pinnsim.plot.style import INK, RED, place_labels, styled, titled, with_unit

_ASPECT = (4.0, 4.0, 2.4)
_SIGHT = 120  # places looked at along a line of sight
_FINE = 96  # places per axis at which the surface is drawn
_BEYOND = 1.5  # heights are cut here before they are interpolated, so that the edge at the cut is smooth
_BELOW = 0.35  # how far below the lowest point the contours lie, of the drawn height
_DIM, _PALE = 0.72, 0.22  # the darkest shade; how opaque the surface is when it is seen from below
_LIFT = 0.012  # of the drawn height, by which lines float so that the surface does not swallow them
_BALL = {"linestyle": "none", "marker": "o", "color": RED, "markeredgecolor": "white", "markersize": 9}


@styled
def landscape_3d(
    relief: Relief,
    *,
    course: np.ndarray | None = None,
    points: Attractors | Sequence[Mark] | None = None,
    paths: Sequence[MinimumAction] = (),
    highest: float | int | None = None,
    unit: str = "",
    energy_unit: str = "",
    view: tuple[float | int, float | int] = (48.0, -60.0),
    title: str = "Landscape",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes3D:
    """The surface of a relief, seen from above and aside, with a course, fixed points and paths on it.

    **Arguments:** `relief`: of a grid, an energy, cells, or any potential on a plane; `course`: (time, 2), the ball's,
    by `relief.place(states, species)`, its last state drawn as a ball; `points`: those in the box are marked; `paths`:
    of `minimum_action`; `highest`: heights above it are cut (default: 12 in units of ln p, an energy's own largest);
    `unit`: of both coordinates; `energy_unit`: of an energy's heights; `view`: elevation and azimuth, degrees; `ax`:
    axes with `projection="3d"`.

    **Returns** 3-D axes. **Raises** `E_DATA_SHAPE` for a course not on the plane, `E_USAGE` for flat axes and `highest`
    not above 0.
    """
    top = _top(relief, highest)
    line = course_on(course)
    if ax is None:
        figure = _figure((7.4, 6.0))
        ax = figure.add_axes((0.05, 0.09, 0.87, 0.82), projection="3d")
        figure.text(0.01, 0.955, titled(title, simulated), fontsize=11, fontweight="bold")
        figure.text(0.01, 0.012, told(relief, top, line), fontsize=7.0, va="bottom")
    else:
        ax.set_title(titled(title, simulated))
    ax3 = axes_3d(ax, view)
    surface(ax3, relief, top, unit, energy_unit)
    handles = _lines(ax3, relief, top, line, ways_on(relief, paths))
    marked = points_on(relief, points)
    _label(ax3, relief, top, marked)
    handles += point_handles(kind for _, _, kind in marked)
    if handles:
        ax3.legend(handles=handles, loc="upper right", bbox_to_anchor=(1.07, 1.0))
    return ax3


@styled
def landscape_panels(
    reliefs: Mapping[str, Relief],
    *,
    courses: Mapping[str, np.ndarray] | None = None,
    points: Mapping[str, Attractors | Sequence[Mark]] | None = None,
    highest: float | int | None = None,
    unit: str = "",
    view: tuple[float | int, float | int] = (48.0, -60.0),
    title: str = "The landscape before and during a push",
    simulated: bool = False,
) -> list[Axes3D]:
    """Several reliefs side by side on one scale of heights, for example before, during and after a perturbation.

    **Arguments:** `reliefs`: name -> relief, all of one kind, noise, plane and grid; `courses`, `points`: by the same
    names. **Raises** `E_USAGE` for reliefs that do not compare.
    """
    require_alike(list(reliefs.values()))
    first = next(iter(reliefs.values()))
    top = max(_top(relief, highest) for relief in reliefs.values())
    figure = _figure((5.9 * len(reliefs), 5.4))
    share = 1.0 / len(reliefs)
    axes = [
        figure.add_axes(((k + 0.08) * share, 0.12, 0.84 * share, 0.74), projection="3d") for k in range(len(reliefs))
    ]
    kinds: list[str] = []
    moved = False
    for number, (ax, (name, relief)) in enumerate(zip(axes, reliefs.items(), strict=True)):
        ax3 = axes_3d(ax, view)
        surface(ax3, relief, top, unit, "")
        course = course_on((courses or {}).get(name))
        moved = moved or len(course) > 0
        _lines(ax3, relief, top, course, [])
        marked = points_on(relief, (points or {}).get(name))
        kinds += [kind for _, _, kind in marked]
        figure.text((number + 0.5) * share, 0.905, name, fontsize=9.5, fontweight="bold", ha="center")
        _label(ax3, relief, top, marked)
    handles = [_course_handle()] * moved + point_handles(kinds)
    figure.text(0.01, 0.955, titled(title, simulated), fontsize=11, fontweight="bold")
    figure.text(0.01, 0.012, told(first, top, width=70 * len(reliefs), share=False), fontsize=7.0, va="bottom")
    if handles:
        figure.legend(handles=handles, loc="lower right", ncols=len(handles))
    return axes


def axes_3d(ax: Axes, view: tuple[float | int, float | int]) -> Axes3D:
    """3-D axes made ready: parallel lines of sight, drawing in our order. **Raises** `E_USAGE` for flat axes."""
    if not isinstance(ax, Axes3D):
        raise PinnsimError.of("E_USAGE", 'A surface needs axes made with projection="3d".')
    ax.set_proj_type("ortho")
    ax.view_init(*view)
    ax.set_box_aspect(_ASPECT, zoom=1.05)
    ax.computed_zorder = False
    return ax


def surface(ax: Axes3D, relief: Relief, top: float, unit: str, energy_unit: str) -> None:
    """The surface itself, cut at `top`, its contours on the floor, and the axes' labels."""
    plane, heights = fine(relief, top)
    x, y = plane[:, 0, 0], plane[0, :, 1]
    cut = ~(heights < top)
    place = np.concatenate([plane, np.where(cut, top, heights)[..., None]], axis=-1)
    (left, right), (near, far) = relief.box
    ax.set(xlim=(left, right), ylim=(near, far), zlim=(-_BELOW * top, top))
    # Faces with all corners cut are left out, so that the surface ends at the cut. They are made here: of faces that
    # lost corners matplotlib 3.11 projects memory that it never set, and may warn of an overflow.
    corners = [np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[1:, 1:], np.s_[:-1, 1:]]
    kept = ~np.all([cut[corner] for corner in corners], axis=0)
    colours = np.mean([_shaded(ax, place[..., 2], x, y, top)[corner][kept] for corner in corners], axis=0)
    faces = np.stack([place[corner][kept] for corner in corners], axis=1)
    ax.add_collection3d(Poly3DCollection(faces, facecolors=colours, linewidths=0.0, antialiased=False, zorder=1))
    ax.contour(
        plane[..., 0], plane[..., 1], heights, levels=np.linspace(0, top, 13), zdir="z", offset=-_BELOW * top,
        cmap="viridis", linewidths=0.6, zorder=0,
    )  # fmt: skip
    ax.set_xlabel(with_unit(relief.axes[0], unit), labelpad=4)
    ax.set_ylabel(with_unit(relief.axes[1], unit), labelpad=4)
    ax.set_zlabel(height_label(relief, energy_unit), labelpad=2)
    ax.set_zticks([tick for tick in ax.get_zticks() if 0.0 <= tick <= top])
    ax.tick_params(pad=0)
    # The ends of two axes meet in a corner, where their numbers would overlap.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, prune="both"))


def fine(relief: Relief, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Places as close as a picture shows them, (x, y, 2), to the edges of the box, and their heights, (x, y)."""
    x, y = (
        np.linspace(*edges, max(_FINE, len(centres)))
        for edges, centres in zip(relief.box, (relief.x, relief.y), strict=True)
    )
    plane = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    return plane, relief.height(plane, _BEYOND * top)


def _figure(size: tuple[float, float]) -> Figure:
    """A figure whose axes are placed by hand: automatic layouts do not know how wide 3-D axes are."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="none")


def _shaded(ax: Axes3D, shown: np.ndarray, x: np.ndarray, y: np.ndarray, top: float) -> np.ndarray:
    """Colours of the surface: by height, darker where it faces away from the light, and pale where it is seen from
    below, so that a wall in front does not hide the valley behind it."""
    step = np.array(_ASPECT) / np.diff(np.array(ax.get_w_lims()).reshape(3, 2), axis=1)[:, 0]
    z = shown * step[2]
    slopes = np.gradient(z, x * step[0], y * step[1])
    normal = np.stack([-slopes[0], -slopes[1], np.ones_like(z)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    colours = colormaps["viridis"](Normalize(0.0, top)(shown))
    colours[..., :3] *= (_DIM + (1.0 - _DIM) * np.clip(normal @ (_sight(ax) + [0.0, 0.0, 0.5]), 0.0, 1.0))[..., None]
    colours[..., 3] = np.where(normal @ _sight(ax) < 0.0, _PALE, 1.0)
    return colours


def _sight(ax: Axes3D) -> np.ndarray:
    """The direction to the eye, in units of the drawn box."""
    up, round_ = np.radians([ax.elev, ax.azim])
    return np.array([np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)])


def on_surface(ax: Axes3D, relief: Relief, top: float, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of a line on the drawn surface, (point, 3), NaN outside the box, and which are hidden behind a hill.

    Call it when limits and view are set.
    """
    heights = relief.height(line, top)
    place = np.column_stack([line, heights + _LIFT * top])
    limits = np.array(ax.get_w_lims()).reshape(3, 2)
    step = _sight(ax) * np.diff(limits, axis=1)[:, 0] / np.array(_ASPECT)
    # Once a line of sight is above the highest point, nothing is in its way; flat lines end at the box.
    climb = top / max(step[2], 1e-12)
    along = np.linspace(0.0, min(climb, 2.0 * max(_ASPECT)), _SIGHT + 1)[1:]
    rays = place[:, None, :] + along[None, :, None] * step
    ground = relief.height(rays[..., :2])
    # Where the surface is cut away the eye sees through.
    hidden = (ground < top) & (ground > rays[..., 2] + 2 * _LIFT * top)
    return place, hidden.any(axis=1)


def draw_line(ax: Axes3D, place: np.ndarray, hidden: np.ndarray, color: str, width: float) -> None:
    """A line, faint where it is hidden."""
    ax.plot(*place.T, color=color, linewidth=0.6 * width, alpha=0.45, linestyle=":", zorder=4)
    ax.plot(*np.where(hidden[:, None], np.nan, place).T, color=color, linewidth=width, zorder=5)


def _lines(ax: Axes3D, relief: Relief, top: float, course: np.ndarray, ways: list[np.ndarray]) -> list[Line2D]:
    handles = []
    for way in ways:
        draw_line(ax, *on_surface(ax, relief, top, way), color=INK, width=2.0)
    if ways:
        handles.append(Line2D([], [], color=INK, linewidth=2, label="minimum action path"))
    if len(course):
        place, hidden = on_surface(ax, relief, top, course)
        draw_line(ax, place, hidden, RED, 2.4)
        ax.plot(*place[:1].T, "o", color="white", markeredgecolor=RED, markersize=6, zorder=6)
        ax.plot(*place[-1:].T, **_BALL, zorder=8)
        handles.append(_course_handle())
    return handles


def _course_handle() -> Line2D:
    return Line2D([], [], color=RED, linewidth=2, marker="o", markersize=7, label="the ball's course")


def _label(ax: Axes3D, relief: Relief, top: float, marked: list[tuple[str, np.ndarray, str]]) -> None:
    """Marks of fixed points, with their names where there is room."""
    if not marked:
        return
    place, hidden = on_surface(ax, relief, top, np.array([where for _, where, _ in marked]))
    for (_, _, kind), spot, behind in zip(marked, place, hidden, strict=True):
        ax.plot(*spot[:, None], **look_of(kind), alpha=0.7 if behind else 1.0, zorder=7)
    ax.figure.get_figure(root=True).draw_without_rendering()
    flat = np.column_stack(proj3d.proj_transform(*place.T, ax.get_proj()))[:, :2]
    place_labels(ax, [tuple(p) for p in flat], [name for name, _, _ in marked], weight="bold", clearance=7.0)
    outlined(ax)


def _top(relief: Relief, highest: float | int | None) -> float:
    top = relief.highest if highest is None else float(highest)
    if not top > 0:
        raise PinnsimError.of("E_USAGE", f"Argument `highest` must be > 0, but is {top:g}.")
    return top
