"""The landscape as a surface to turn by hand, in a notebook or a file of HTML (extra `[interactive]`: plotly).

The same heights, cut and marks as `landscape_3d`; pointing at a place tells its coordinates and its height.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinnsim.errors import PinnsimError
from pinnsim.landscape import Attractors, MinimumAction, Relief
from pinnsim.plot.marks import WORDS, Mark, course_on, height_label, points_on, told, ways_on
from pinnsim.plot.style import INK, RED, titled, with_unit

_SYMBOL = {"stable": "diamond", "saddle": "x", "unstable": "cross", "marginal": "square"}
_SHADE = {"stable": "#FFD92F", "saddle": "white", "unstable": "white", "marginal": "white"}


def landscape_interactive(
    relief: Relief,
    *,
    course: np.ndarray | None = None,
    points: Attractors | Sequence[Mark] | None = None,
    paths: Sequence[MinimumAction] = (),
    highest: float | int | None = None,
    unit: str = "",
    energy_unit: str = "",
    title: str = "Landscape",
    simulated: bool = False,
) -> Any:
    """The surface of a relief as a `plotly.graph_objects.Figure`, with a course, fixed points and paths on it.

    **Arguments:** as of `landscape_3d`. **Returns** the figure: show it, change it, or write it by `write_html`.

    **Raises** `E_EXTRA_MISSING` where plotly is not installed; `E_DATA_SHAPE`, `E_USAGE` as `landscape_3d`.
    """
    go = _plotly()
    top = relief.highest if highest is None else float(highest)
    if not top > 0:
        raise PinnsimError.of("E_USAGE", f"Argument `highest` must be > 0, but is {top:g}.")
    line = course_on(course)
    axes = [with_unit(relief.axes[0], unit), with_unit(relief.axes[1], unit), height_label(relief, energy_unit)]
    values = relief.potential.values
    shown = np.where(np.isfinite(values) & (values <= top), values, np.nan)
    hover = "<br>".join(f"{name} %{{{letter}:.4g}}" for name, letter in zip(axes, "xyz", strict=True))
    parts = [
        go.Surface(
            x=relief.x, y=relief.y, z=shown.T, cmin=0.0, cmax=top, colorscale="Viridis",
            colorbar={"title": {"text": axes[2]}, "len": 0.7}, hovertemplate=hover + "<extra></extra>", name="heights",
            contours={"z": {"show": True, "start": 0.0, "end": top, "size": top / 12, "color": "white", "width": 1}},
        )
    ]  # fmt: skip
    for number, way in enumerate(ways_on(relief, paths)):
        look = {"line": {"color": INK, "width": 6}, "showlegend": number == 0, "legendgroup": "paths"}
        parts.append(go.Scatter3d(**_along(relief, way, top), mode="lines", name="minimum action path", **look))
    if len(line):
        parts.append(
            go.Scatter3d(
                **_along(relief, line, top), mode="lines", line={"color": RED, "width": 7}, name="the ball's course"
            )
        )
        ball = {"size": 7, "color": RED, "line": {"color": "white", "width": 1}}
        parts.append(go.Scatter3d(**_along(relief, line[-1:], top), mode="markers", marker=ball, name="the ball"))
    marked = points_on(relief, points)
    for kind, word in WORDS.items():
        those = [(name, place) for name, place, stability in marked if stability == kind]
        if those:
            look = {"size": 6, "symbol": _SYMBOL[kind], "color": _SHADE[kind], "line": {"color": INK, "width": 2}}
            parts.append(
                go.Scatter3d(
                    **_along(relief, np.array([place for _, place in those]), top), mode="markers+text", name=word,
                    text=[name for name, _ in those], textposition="top center", marker=look,
                )
            )  # fmt: skip
    small = told(relief, top, line, width=110).replace("\n", "<br>")
    return go.Figure(
        parts,
        layout={
            "title": {"text": f"{titled(title, simulated)}<br><sup>{small}</sup>"},
            "scene": {
                "xaxis": {"title": {"text": axes[0]}},
                "yaxis": {"title": {"text": axes[1]}},
                "zaxis": {"title": {"text": axes[2]}, "range": [0.0, top]},
                "aspectratio": {"x": 1.0, "y": 1.0, "z": 0.6},
            },
            "legend": {"orientation": "h", "y": -0.02},
            "margin": {"l": 0, "r": 0, "b": 0, "t": 90},
        },
    )


def write_html(figure: Any, path: str | Path, *, embedded: bool = True) -> Path:
    """Writes a figure of `landscape_interactive` as one file of HTML; returns the path.

    **Arguments:** `embedded`: with the drawing library inside (about 5 MB, works without a network); else the file
    asks for it from the network when opened. **Raises** `E_EXTRA_MISSING`; `E_USAGE` for what is no plotly figure.
    """
    go = _plotly()
    if not isinstance(figure, go.Figure):
        raise PinnsimError.of("E_USAGE", "Only a figure of landscape_interactive is written as HTML; use plot.save.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(figure.to_html(include_plotlyjs=True if embedded else "cdn", full_html=True), encoding="utf-8")
    return target


def _along(relief: Relief, line: np.ndarray, top: float) -> dict[str, np.ndarray]:
    """Coordinates of a line on the surface, a little above it so that the surface does not swallow it."""
    return {"x": line[:, 0], "y": line[:, 1], "z": relief.height(line, top) + 0.012 * top}


def _plotly() -> Any:
    """`plotly.graph_objects`. **Raises** `E_EXTRA_MISSING` where plotly is not installed."""
    if importlib.util.find_spec("plotly") is None:
        raise PinnsimError.of(
            "E_EXTRA_MISSING",
            "Surfaces to turn by hand need the package plotly; install it with pip install 'pinnsim[interactive]', or "
            "use landscape_3d(...).",
        )
    import plotly.graph_objects as go

    return go
