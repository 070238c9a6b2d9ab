"""What a fit did: its course from many starts, and where rates ended against where they were expected."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, CYCLE, GREY, INK, PALE, new_axes, place_labels, styled, titled, with_unit

Values = Float[np.ndarray, "..."]
_NAMED = 40  # genes up to which each gets its own tick


@styled
def training_history(
    history: Mapping[str, Values],
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
    stages = {name: np.asarray(v, float).reshape(len(v), -1) for name, v in history.items() if len(v)}
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
    fitted: Values,
    median: Values,
    log_sd: Values,
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
    for width, shade, label in ((1.96, PALE, "prior, 95 %"), (0.674, "#B5B5B5", "prior, 50 %")):
        low, high = center * np.exp(-width * sd), center * np.exp(width * sd)
        ax.vlines(
            place,
            low[order],
            high[order],
            color=shade,
            linewidth=max(1.5, min(7.0, 300 / len(order))),
            label=label,
            zorder=1,
        )
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
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(
        NullFormatter() if np.ptp(np.log10([*span.ravel(), *center])) > 0.7 else ScalarFormatter()
    )
    ax.set_ylabel(with_unit(quantity, time_unit))
    ax.set_xlim(-1, len(order))
    if len(order) <= _NAMED:
        ax.set_xticks(place, [genes[k] for k in order], rotation=90, fontstyle="italic")
    else:
        ax.set_xticks([])
    ax.set_xlabel(f"{len(order)} genes, by fitted value" if len(order) > 1 else "gene")
    ax.set_title(titled(f"{quantity}: fitted and prior" if title is None else title, simulated))
    ax.legend(loc="upper left")
    if len(order) > _NAMED:
        shift = np.abs(np.log(middle / center) / sd)[order]
        far = np.argsort(-shift, kind="stable")[:named]
        place_labels(
            ax,
            [(place[k], middle[order][k]) for k in far],
            [genes[order[k]] for k in far],
            avoid=list(zip(place, middle[order], strict=True)),
            colors=INK,
        )
    return ax
