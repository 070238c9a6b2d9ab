"""What a fit did: its course from many starts, and where rates ended against where they were expected."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, CYCLE, GREY, PALE, new_axes, place_labels, styled, titled, with_unit

_NAMED = 40  # genes up to which each gets its own tick


@styled
def training_history(
    history: Mapping[str, ArrayLike],
    *,
    unit: str = "nats",
    title: str = "Objective of every start",
    ax: Axes | None = None,
) -> Axes:
    """The objective over optimisation steps, a line per start, stage after stage; the best start is dark.

    **Arguments:** `history`: stage -> (step, start) or (step,); NaN where a step could not be evaluated.

    The axis is the gap to the lowest value seen, on a logarithmic scale, because an objective has no natural zero.
    """
    ax = new_axes(ax, (6.4, 3.8))
    stages = {name: _columns(v) for name, v in history.items() if np.size(v)}
    finite = np.concatenate([v[np.isfinite(v)] for v in stages.values()]) if stages else np.zeros(0)
    if not finite.size:
        raise PinnsimError.of("E_DATA_EMPTY", "the history holds no finite value.")
    lowest = finite.min()
    gap = 10.0 ** np.floor(np.log10(max(np.ptp(finite), 1e-6) * 1e-3))
    last = list(stages.values())[-1]
    best = int(np.nanargmin(np.where(np.isfinite(last), last, np.inf).min(axis=0)))
    offset = 0
    for k, (name, values) in enumerate(stages.items()):
        steps = offset + np.arange(1, len(values) + 1)
        for start, course in enumerate(values.T):
            dark = start == best
            ax.plot(
                steps,
                course - lowest + gap,
                color=CYCLE[k % len(CYCLE)],
                linewidth=1.8 if dark else 0.8,
                alpha=1.0 if dark else 0.4,
                zorder=3 if dark else 2,
            )
        ax.plot([], [], color=CYCLE[k % len(CYCLE)], label=f"{name} ({len(values)} steps)")
        offset += len(values)
        if k < len(stages) - 1:
            ax.axvline(offset + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_yscale("log")
    ax.set_xlim(0, offset + 1)
    ax.set_xlabel("optimisation step")
    ax.set_ylabel(with_unit("objective above the lowest seen", unit))
    ax.set_title(f"{title} ({last.shape[1]} starts, lowest {lowest:.1f} {unit})" if unit else title)
    ax.legend(loc="upper right")
    return ax


@styled
def prior_posterior(
    genes: Sequence[str],
    fitted: ArrayLike,
    median: ArrayLike,
    log_sd: ArrayLike,
    *,
    time_unit: str = "",
    quantity: str = "mRNA half-life",
    named: int = 6,
    title: str | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Fitted half-lives against their log-normal priors, genes in order of the fitted value.

    **Arguments:** `fitted`: (member, gene) or (gene,), half-lives; `median`, `log_sd`: (gene,), of the prior; `named`:
    how many of the genes farthest from their prior are named where there are too many for an axis.

    A gene on its prior's median learned nothing from the data, or agrees with it: the picture does not tell which.
    """
    ax = new_axes(ax, (7.2, 4.0))
    members = np.atleast_2d(np.asarray(fitted, float))
    middle, center, sd = np.exp(np.log(members).mean(axis=0)), np.asarray(median, float), np.asarray(log_sd, float)
    order = np.argsort(middle, kind="stable")
    place = np.arange(len(order))
    few = len(order) <= _NAMED
    for width, shade, label in ((1.96, PALE, "prior, 95 %"), (0.674, "#B5B5B5", "prior, 50 %")):
        low, high = (center * np.exp(sign * width * sd) for sign in (-1, 1))
        if few:
            ax.bar(place, (high - low)[order], 0.5, bottom=low[order], color=shade, label=label, zorder=1)
        else:
            edges = np.append(place - 0.5, place[-1] + 0.5)
            ax.stairs(high[order], edges, baseline=low[order], fill=True, color=shade, label=label, zorder=1)
    span = np.stack([members.min(axis=0), members.max(axis=0)])[:, order]
    if len(members) > 1:
        ax.vlines(place, *span, color=BLUE, linewidth=1.2, zorder=2)
    ax.plot(
        place,
        middle[order],
        "o",
        color=BLUE,
        markersize=4 if len(order) < 200 else 2.5,
        zorder=3,
        label="fitted" + (f" (range of {len(members)} starts)" if len(members) > 1 else ""),
    )
    ax.set_yscale("log")
    every = np.concatenate([span.ravel(), center * np.exp(-1.96 * sd), center * np.exp(1.96 * sd)])
    lowest, highest = 0.9 * np.nanmin(every), 1.1 * np.nanmax(every)
    # Headroom for the legend, which would otherwise cover the priors.
    ax.set_ylim(lowest, highest * (highest / lowest) ** 0.16)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if highest > 4 * lowest else range(1, 10)))
    ax.yaxis.set_major_formatter(FuncFormatter(_plain))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel(with_unit(quantity, time_unit))
    ax.set_xlim(-0.03 * len(order) - 1, len(order))  # room for names beside the first points
    if few:
        ax.set_xticks(place, [genes[k] for k in order], rotation=90, fontstyle="italic")
    else:
        ax.set_xticks([])
    ax.set_xlabel(f"{len(order)} genes, by fitted value" if len(order) > 1 else "gene")
    ax.set_title(titled(f"{quantity}: fitted and prior" if title is None else title, simulated))
    ax.legend(loc="upper left", ncols=3)
    if not few:
        shift = np.abs(np.log(middle / center) / sd)[order]
        far = np.argsort(-shift, kind="stable")[:named]
        place_labels(
            ax,
            [(float(place[k]), float(middle[order][k])) for k in far],
            [genes[order[k]] for k in far],
        )
    return ax


def _columns(values: ArrayLike) -> np.ndarray:
    """(step,) or (step, start) as (step, start)."""
    array = np.asarray(values, dtype=float)
    return array.reshape(len(array), -1)


def _plain(value: float, _: int) -> str:
    """A tick's number without an exponent."""
    return f"{value:g}"
