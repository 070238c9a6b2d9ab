"""What all pictures of landscapes share: marks of fixed points, words for heights, the titles that say what is shown.

Stable points are yellow stars, saddles white crosses, points unstable in every direction white pluses, marginal ones
squares: shapes differ, not only colours.
"""

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from pinnsim.errors import PinnsimError
from pinnsim.landscape import Attractors, MinimumAction, Relief
from pinnsim.plot.style import INK, with_unit

MARKS = {"stable": "*", "saddle": "X", "unstable": "P", "marginal": "s"}
WORDS = {"stable": "attractor (stable)", "saddle": "saddle", "unstable": "unstable point", "marginal": "marginal point"}
STAR = "#FFD92F"
HEIGHTS = {
    "energy": "energy U",
    "stationary": "-ln p, lowest 0",
    "quasi": "action S, in units of ln p",
    "gaussian": "-ln p, linear noise",
    "molecules": "-ln p(n), lowest 0",
    "ensemble": "-ln density of cells, lowest 0",
}


@dataclasses.dataclass(frozen=True)
class Mark:
    """A fixed point on a map of components: its readings, (gene,), in the order of the projection's genes, and
    "stable", "saddle", "unstable" or "marginal"."""

    name: str
    readings: np.ndarray
    stability: str


def look_of(stability: str) -> dict[str, object]:
    """How a fixed point is drawn: arguments of a line."""
    stable = stability == "stable"
    return {
        "linestyle": "none",
        "marker": MARKS[stability],
        "color": STAR if stable else "white",
        "markeredgecolor": INK,
        "markersize": 14 if stable else 8,
        "markeredgewidth": 1.0,
    }


def points_on(relief: Relief, points: Attractors | Sequence[Mark] | None) -> list[tuple[str, np.ndarray, str]]:
    """Name, coordinates (2,) and stability of the fixed points that lie in a relief's box.

    **Raises** `E_USAGE` for marks of readings on a relief of species, and for other species than the relief's.
    """
    if points is None:
        return []
    if isinstance(points, Attractors):
        names, kinds = points.names, points.stability
        places = relief.place(points.states, points.species) if names else np.zeros((0, 2))
    elif relief.projection is None:
        raise PinnsimError.of("E_USAGE", "Marks are readings, for a relief over components; here give Attractors.")
    else:
        names, kinds = tuple(mark.name for mark in points), tuple(mark.stability for mark in points)
        places = relief.projection.project(np.array([mark.readings for mark in points]))[:, :2]
    inside = np.isfinite(relief.height(places))
    return [found[:3] for found in zip(names, places, kinds, inside, strict=True) if found[3]]


def ways_on(relief: Relief, paths: Iterable[MinimumAction]) -> list[np.ndarray]:
    """Coordinates, (point, 2), of every path found."""
    return [relief.place(path.points, found.species) for found in paths for path in found.paths]


def course_on(course: np.ndarray | None) -> np.ndarray:
    """A course of coordinates, (time, 2), checked; empty for `None`. **Raises** `E_DATA_SHAPE`."""
    line = np.zeros((0, 2)) if course is None else np.asarray(course, dtype=float)
    if line.ndim != 2 or line.shape[1] != 2:
        raise PinnsimError.of(
            "E_DATA_SHAPE",
            f"A course {line.shape} must be (time, 2) on the plane; make it by relief.place(states, species).",
        )
    return line


def point_handles(kinds: Iterable[str]) -> list[Line2D]:
    """Legend entries of the kinds of fixed points that occur, stable ones first."""
    seen = set(kinds)
    return [
        Line2D([], [], **{**look_of(kind), "markersize": 11 if kind == "stable" else 7}, label=WORDS[kind])  # type: ignore[arg-type]
        for kind in MARKS
        if kind in seen
    ]


def outlined(ax: Axes) -> None:
    """Gives labels written on shades a pale outline, so that they read on dark and on light ones."""
    for text in ax.texts:
        text.set_path_effects([withStroke(linewidth=2.2, foreground="white", alpha=0.85)])


def height_label(relief: Relief, unit: str = "") -> str:
    """The name of the upward axis, by kind; an energy has a unit."""
    return with_unit(HEIGHTS[relief.potential.kind], unit)


def told(
    relief: Relief, highest: float, course: np.ndarray | None = None, width: int = 84, *, share: bool = True
) -> str:
    """The small print of a picture: which potential, of what noise, what is not shown, and where heights are cut.

    **Arguments:** `course`: what runs above the cut is drawn at it, and told; `share`: tell how much of the box is cut.
    """
    parts = [relief.potential.meaning, *([relief.note] if relief.note else [])]
    above = ~(relief.potential.values <= highest)
    if above.any():
        cut = f"heights above {highest:.3g} are cut"
        parts.append(f"{cut} ({above.mean():.0%} of the box)" if share else cut)
    if course is not None and len(course):
        places = relief.height(course)
        off, high = np.isnan(places), places > highest
        if off.any():
            parts.append(f"{off.mean():.0%} of the course lies outside the box")
        if high.any():
            parts.append(f"{high.mean():.0%} of the course is higher and drawn at the cut")
    return "\n".join(textwrap.wrap("; ".join(parts), width))
