"""Speed: time against error, a line per program."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from pinnsim.plot.style import new_axes, styled

_MARKERS = "osD^v"


@styled
def work_precision(curves: Mapping[str, Sequence[tuple[float, float]]], title: str, *, ax: Axes | None = None) -> Axes:
    """Seconds against the worst error, both on logarithmic axes: lower and further left is better.

    **Arguments:** `curves`: name to (error, seconds) by tolerance; `title`; `ax`, new ones if not given.

    **Returns** the axes.
    """
    ax = new_axes(ax, (5.6, 3.8))
    for marker, (name, line) in zip(_MARKERS, curves.items(), strict=False):
        errors, seconds = zip(*line, strict=True)
        ax.plot(errors, seconds, marker=marker, label=name)
    ax.set(xscale="log", yscale="log", xlabel="worst error, |y - ref| / (0.001 + |ref|)", ylabel="wall time (s)")
    ax.set_title(title)
    ax.legend()
    return ax
