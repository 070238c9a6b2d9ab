"""The push as a moving picture: the landscape of every moment of a treatment, and the ball that it moves.

Each surface is drawn once per distinct landscape and kept as pixels; a frame is that picture with the ball, its trail
and the clock on top. All frames share one palette, so that colours do not flicker; a file that would be too large gets
fewer colours, then fewer pixels.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from PIL import Image
from tqdm import tqdm

from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape import Attractors, InTime, Relief
from pinnsim.landscape.relief import require_alike
from pinnsim.plot.landscape3d import axes_3d, on_surface, surface
from pinnsim.plot.marks import STAR, Mark, look_of, point_handles, points_on, told
from pinnsim.plot.style import GREY, INK, RED, styled, titled

_PALETTES = (96, 48, 24)  # numbers of colours tried
_SHRINK = 0.85
_SMALLEST = 0.4  # of the first size


@styled
def push_gif(
    path: str | Path,
    landscapes: InTime,
    states: np.ndarray,
    species: Sequence[str],
    *,
    axes: tuple[str, str] | None = None,
    points: Attractors | Sequence[Mark] | None = None,
    fps: float | int = 12,
    highest: float | int | None = None,
    unit: str = "",
    view: tuple[float | int, float | int] = (48.0, -60.0),
    title: str = "The push",
    simulated: bool = False,
    most_bytes: int = 3_000_000,
    dpi: int = 90,
    progress: bool = True,
) -> Path:
    """Writes the push as a GIF, a frame per moment of `landscapes`.

    **Arguments:** `landscapes`: of `pinnsim.landscape.in_time`, whose times are the frames; `states`: (time, species),
    the ball's, at the same times; `species`: their names; `axes`: the two species shown (default: the grid's first
    two); `points`: fixed points, marked all the time (those of the cell without the push show what it comes back to);
    `fps`: frames per second; `highest`: heights above it are cut; `most_bytes`: of the file; `progress`: a bar.

    Good values: 40 to 80 frames; closely spaced times where the ball is fast.

    **Returns** the path. **Raises** `E_DATA_SHAPE` for states of other times or species, `E_BOUNDS` where the ball
    leaves the box, `E_USAGE` for a path that is no GIF, fewer than 2 frames, and where even the smallest picture is
    larger than `most_bytes`.
    """
    target, frames = Path(path), np.asarray(states, dtype=float)
    count = len(landscapes.times)
    with Problems() as problems:
        if frames.shape != (count, len(species)):
            problems.add(
                "E_DATA_SHAPE", f"States {frames.shape} must be (time, species), here {(count, len(species))}."
            )
        if target.suffix.lower() != ".gif":
            problems.add("E_USAGE", f"A moving picture is written as .gif, not '{target.suffix}'.")
        if count < 2 or not (np.isfinite(fps) and fps > 0) or (highest is not None and not highest > 0):
            problems.add("E_USAGE", "A moving picture needs 2 or more frames, and `fps` and `highest` > 0.")
    reliefs = landscapes.reliefs(axes)
    require_alike(reliefs)
    top = max(relief.highest for relief in reliefs) if highest is None else float(highest)
    course = reliefs[0].place(frames, species)
    off = np.flatnonzero(~np.isfinite(reliefs[0].height(course)))
    if off.size:
        raise PinnsimError.of(
            "E_BOUNDS",
            f"The ball is outside the box at {off.size} of {count} times (first: {landscapes.times[off[0]]:g} "
            f"{landscapes.time_unit}); compute the landscapes on a wider box.",
        )
    made: list[Image.Image | None] = [None] * count
    clock = [f"t = {time:.3g} {landscapes.time_unit}" for time in landscapes.times]
    with tqdm(total=count, desc="frames", unit="frame", disable=None if progress else True) as bar:
        for number, relief in enumerate(reliefs):
            figure = Figure(figsize=(6.0, 5.2), dpi=dpi)
            figure.set_layout_engine("none")
            FigureCanvasAgg(figure)
            ax = axes_3d(figure.add_axes((0.03, 0.11, 0.92, 0.80), projection="3d"), view)
            surface(ax, relief, top, unit, "")
            _mark(ax, relief, top, points)
            figure.text(0.02, 0.955, titled(title, simulated), fontweight="bold", fontsize=10)
            figure.text(0.02, 0.91, f"treatment: {landscapes.treatment or 'given as arrays'}", fontsize=8, color=GREY)
            figure.text(
                0.02, 0.01, told(relief, top, course[landscapes.which == number]), fontsize=6.5, color=INK, va="bottom"
            )
            mine = np.flatnonzero(landscapes.which == number)
            for k, image in zip(mine, _frames(ax, relief, top, course, mine, clock), strict=True):
                made[k] = image
                bar.update()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encoded([image for image in made if image is not None], float(fps), most_bytes))
    return target


def _mark(ax: Axes3D, relief: Relief, top: float, points: Attractors | Sequence[Mark] | None) -> None:
    marked = points_on(relief, points)
    if marked:
        place, hidden = on_surface(ax, relief, top, np.array([where for _, where, _ in marked]))
        for (_, _, kind), spot, behind in zip(marked, place, hidden, strict=True):
            ax.plot(*spot[:, None], **look_of(kind), alpha=0.7 if behind else 1.0, zorder=7)
        ax.legend(handles=point_handles(kind for _, _, kind in marked), loc="upper right", bbox_to_anchor=(1.06, 1.04))


def _frames(
    ax: Axes3D, relief: Relief, top: float, course: np.ndarray, mine: np.ndarray, clock: list[str]
) -> Iterator[Image.Image]:
    """Pictures of these frames: the still part once, then trail, ball and clock over it."""
    figure = ax.figure.get_figure(root=True)
    canvas = figure.canvas
    (faint,) = ax.plot([], [], [], ":", color=RED, linewidth=1.2, alpha=0.45, zorder=4, animated=True)
    (trail,) = ax.plot([], [], [], color=RED, linewidth=2.2, zorder=5, animated=True)
    (ball,) = ax.plot([], [], [], "o", color=RED, markeredgecolor="white", markersize=10, zorder=8, animated=True)
    time = figure.text(0.98, 0.955, "", ha="right", fontsize=10, fontweight="bold", animated=True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    place, hidden = on_surface(ax, relief, top, course)
    for k in mine:
        canvas.restore_region(still)
        faint.set_data_3d(*place[: k + 1].T)
        trail.set_data_3d(*np.where(hidden[: k + 1, None], np.nan, place[: k + 1]).T)
        ball.set_data_3d(*place[k : k + 1].T)
        ball.set_alpha(0.5 if hidden[k] else 1.0)
        time.set_text(clock[k])
        for artist in (faint, trail, ball):
            ax.draw_artist(artist)
        figure.draw_artist(time)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _palette(sample: Image.Image, colours: int) -> Image.Image:
    """The commonest colours of a sample, and those of the ball and of marks, which fill too few pixels to be among
    them."""
    accents = [round(255 * part) for name in (RED, STAR, INK, "white") for part in to_rgb(name)]
    common = sample.quantize(colours - len(accents) // 3).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(common[: 3 * colours - len(accents)] + accents)
    return palette


def encoded(images: list[Image.Image], fps: float, most: int) -> bytes:
    """The GIF, in as many colours and as large as fit. Raises `E_USAGE` where none does."""
    scale, size = 1.0, 0
    while scale >= _SMALLEST:
        width, height = (round(scale * side) for side in images[0].size)
        small = [image.resize((width, height), Image.Resampling.LANCZOS) for image in images] if scale < 1 else images
        sample = Image.new("RGB", (width, 4 * height))
        for row, k in enumerate(np.linspace(0, len(small) - 1, 4).astype(int)):
            sample.paste(small[k], (0, row * height))
        for colours in _PALETTES:
            palette = _palette(sample, colours)
            flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
            buffer = io.BytesIO()
            flat[0].save(buffer, "GIF", save_all=True, append_images=flat[1:], duration=1000 / fps, loop=0)
            size = buffer.tell()
            if size <= most:
                return buffer.getvalue()
        scale *= _SHRINK
    raise PinnsimError.of(
        "E_USAGE", f"The GIF of {len(images)} frames needs {size:,} bytes at its smallest; draw fewer frames."
    )
