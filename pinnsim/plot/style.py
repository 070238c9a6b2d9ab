"""How every picture here looks: one palette, one set of settings, one way to make axes and to save them.

Colours are those of Okabe and Ito, which people with any common colour blindness tell apart; line styles and markers
differ as well, so that a picture survives a grey printer. Settings hold while a plotting function runs and are not left
behind. `matplotlib.pyplot` is imported when the first picture is drawn, not with this package.

Source: M. Okabe and K. Ito, Color Universal Design (2008).
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, BboxBase

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
INK, GREY, PALE = "#222222", "#8A8A8A", "#D9D9D9"
CYCLE = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
DIVERGING = "RdBu_r"  # red up, blue down, white at 0: safe for red-green blindness
DPI = 150
MODEL, DATA, BASELINE = BLUE, INK, GREY

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "figure.titlesize": 11.0,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """The same plotting function, run under `STYLE`; the session's own settings are restored afterwards."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            result = function(*args, **kwargs)
            interactive = mpl.is_interactive()
        # A notebook's backend is chosen at the first figure and turns interactive mode on, which leaving the context
        # takes back; without it the notebook would show its first picture only.
        mpl.interactive(interactive)
        return result

    return wrapped


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """`ax`, or new axes on a figure of `size` (inches)."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size)[1]


def new_panels(rows: int, columns: int, size: tuple[float, float], **options: object) -> np.ndarray:
    """Axes of a new figure of small multiples, (rows, columns); `size` is of the whole figure, in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)[1]  # type: ignore[call-overload]


def grid_shape(count: int, widest: int = 4) -> tuple[int, int]:
    """Rows and columns for `count` panels, at most `widest` columns, as square as may be.

    >>> [grid_shape(n) for n in (1, 2, 6, 9, 12)]
    [(1, 1), (1, 2), (2, 3), (3, 3), (3, 4)]
    """
    columns = min(widest, math.ceil(math.sqrt(count)))
    return math.ceil(count / columns), columns


def with_unit(name: str, unit: str) -> str:
    """An axis label: the name, and its unit in brackets when there is one."""
    return f"{name} ({unit})" if unit else name


def titled(text: str, simulated: bool) -> str:
    """A title; what was simulated is called simulated."""
    return f"{text} [simulated data]" if simulated else text


def save(picture: Axes | Sequence[Axes] | np.ndarray | Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Writes the figure of `picture` to a file (by its ending: png, svg, pdf), closes it, and returns the path."""
    import matplotlib.pyplot as plt

    figure = picture if isinstance(picture, Figure) else np.ravel(np.asarray(picture, dtype=object))[0].figure
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=dpi)
    plt.close(figure)
    return target


_DIRECTIONS = [(1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)]


def place_labels(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    *,
    colors: Sequence[str] | str = INK,
    size: float = 8.0,
    weight: str = "normal",
    clearance: float = 3.0,
) -> None:
    """Writes labels beside points, each in the freest of 32 places: off other labels first, then off what is drawn.

    **Arguments:** `points`: in data units; `colors`: one for all or one each; `clearance`: radius of the points'
    markers, in typographic points. Call it last, with limits set.
    """
    figure = ax.figure.get_figure(root=True)
    figure.draw_without_rendering()  # lays out, so that positions in pixels are final
    taken: list[Bbox] = [label.get_window_extent() for label in ax.texts if label.get_visible() and label.get_text()]
    drawn = _drawn(ax)
    frame = ax.get_window_extent()
    shade = [colors] * len(labels) if isinstance(colors, str) else list(colors)
    for (x, y), label, color in zip(points, labels, shade, strict=True):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        text = ax.annotate(
            label, (x, y), (0, 0), textcoords="offset points", fontsize=size, color=color, fontweight=weight, zorder=9
        )
        best, least = (0.0, 0.0, "left", "bottom"), math.inf
        for reach in (clearance + 1.0, clearance + 6.0, clearance + 14.0, clearance + 24.0):
            for right, up in _DIRECTIONS:
                across = {1: "left", -1: "right", 0: "center"}[right]
                along = {1: "bottom", -1: "top", 0: "center"}[up]
                short = 1.0 if 0 in (right, up) else math.sqrt(0.5)
                text.set(position=(right * reach * short, up * reach * short), ha=across, va=along)
                box = text.get_window_extent()
                cost = 1e3 * sum(box.overlaps(other) for other in taken) + 1e4 * (not _within(box, frame))
                cost += 5.0 * _inside(box, drawn) + 0.5 * reach
                if cost < least:
                    best, least = (right * reach * short, up * reach * short, across, along), cost
        text.set(position=best[:2], ha=best[2], va=best[3])
        taken.append(text.get_window_extent())


def _drawn(ax: Axes) -> np.ndarray:
    """Pixels along all lines of `ax`, every 3 of them, (point, 2)."""
    every = []
    for line in ax.lines:
        corners = ax.transData.transform(np.column_stack([line.get_xdata(orig=False), line.get_ydata(orig=False)]))
        corners = corners[np.isfinite(corners).all(axis=1)]
        for a, b in zip(corners[:-1], corners[1:], strict=True):
            count = int(min(np.hypot(*(b - a)) / 3.0, 2000)) + 1
            every.append(a + np.arange(count)[:, None] / count * (b - a))
        every.append(corners[-1:])
    return np.concatenate(every) if every else np.zeros((0, 2))


def _inside(box: Bbox, points: np.ndarray) -> int:
    pad = box.padded(2.0)
    return int(((points > pad.min) & (points < pad.max)).all(axis=1).sum())


def _within(box: BboxBase, frame: BboxBase) -> bool:
    slack = frame.padded(1.0)
    return bool(box.x0 >= slack.x0 and box.y0 >= slack.y0 and box.x1 <= slack.x1 and box.y1 <= slack.y1)
