"""Courses in time: what was measured, what the model says, and what a simple guess would have said.

Every function takes values and returns axes; bands are the range of an ensemble, not a confidence interval, and say so.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.plot.style import (
    BASELINE,
    CYCLE,
    DASHES,
    DATA,
    GREY,
    INK,
    MODEL,
    ORANGE,
    grid_shape,
    new_panels,
    styled,
    titled,
    with_unit,
)  # fmt: skip
from pinnsim.units import reading_unit


@styled
def fit_panels(
    dataset: Dataset,
    condition: str,
    times: ArrayLike,
    model: ArrayLike,
    *,
    genes: Sequence[str] | None = None,
    baselines: Mapping[str, ArrayLike] | None = None,
    label: str = "model",
    title: str | None = None,
    quantity: str = "expression",
    unit: str | None = None,
) -> list[Axes]:
    """Small multiples, one per gene: every replicate, their mean, the model's ensemble, baselines dashed.

    **Arguments:** `dataset`: with its replicates (not averaged); `condition`: the one shown; `times`: (time,), in the
    data set's unit; `model`: (member, time, gene) readings for all the data set's genes, or (time, gene);
    `genes`: those shown (default: the 12 that change most); `baselines`: name -> (time, gene), at `times`; `label`:
    what the model did ("fitted", "predicted from the first sample"); `quantity`, `unit`: what readings are, and
    in which unit (default: that of the scale).

    **Returns** one axes per gene. **Raises** `E_GENE_UNKNOWN`, `E_CONDITION_UNKNOWN`, `E_DATA_SHAPE`.
    """
    moments = np.asarray(times, dtype=float)
    part = dataset.select(conditions=[condition])
    mean = part.mean()
    shown = list(genes) if genes is not None else _most_changing(mean, 12)
    column = [_position(dataset.genes, gene) for gene in shown]
    members = np.asarray(model, dtype=float)
    members = members[None] if members.ndim == 2 else members
    if members.shape[1:] != (len(moments), len(dataset.genes)):
        raise PinnsimError.of(
            "E_DATA_SHAPE",
            f"model {members.shape} must be (member, time, gene): {len(moments)} times, {len(dataset.genes)} genes.",
        )
    rows, columns = grid_shape(len(shown))
    axes = new_panels(rows, columns, (max(2.3 * columns, 4.2), 1.75 * rows + 1.0), sharex=True)
    when = part.times[0]
    for ax, gene, g in zip(axes.flat, shown, column, strict=False):
        for name, dash, values in _dashed(baselines):
            ax.plot(moments, values[:, g], color=BASELINE, linestyle=dash, linewidth=1.1, label=name, zorder=2)
        _band(ax, moments, members[:, :, g], MODEL, label)
        seen = part.mask[0, :, :, g]
        several = len(part.values[0]) > 1
        if several:
            ax.plot(
                np.broadcast_to(when, seen.shape)[seen], part.values[0, :, :, g][seen], "o", color=GREY,
                markersize=2.6, alpha=0.75, label="replicate", zorder=4,
            )  # fmt: skip
        known, told = mean.mask[0, 0, :, g], "mean" if several else "measured"
        ax.plot(when[known], mean.values[0, 0, known, g], "D", color=DATA, markersize=3.4, label=told, zorder=5)
        ax.set_title(gene, fontstyle="italic", fontsize=9)
        ax.margins(y=0.12)
    for k, ax in enumerate(axes.flat):
        ax.set_visible(k < len(shown))
        if k % columns == 0:
            ax.set_ylabel(with_unit(quantity, reading_unit(dataset.scale) if unit is None else unit))
        if len(shown) - columns <= k < len(shown):
            ax.set_xlabel(with_unit("time", _time_unit(dataset)))
            ax.tick_params(labelbottom=True)
    figure = axes[0, 0].figure
    text = f"{condition}: measured and {label}" if title is None else title
    figure.suptitle(titled(text, dataset.simulated), x=0.01, ha="left")
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), max(columns, 2)))
    return list(axes.flat[: len(shown)])


@styled
def pulse_panel(
    times: ArrayLike,
    distance: ArrayLike,
    changes: Mapping[str, ArrayLike],
    pulse: tuple[float | int, float | int],
    *,
    signal: str = "signal",
    time_unit: str = "",
    unit: str = "log2",
    threshold: float | int | None = None,
    title: str | None = None,
    simulated: bool = False,
) -> list[Axes]:
    """A pulse that is given and withdrawn: how far the cell is from rest over time, and which genes moved.

    **Arguments:** `times`: (time,); `distance`: (member, time) or (time,), root mean square over genes of the readings'
    difference from rest; `changes`: gene -> (time,) or (member, time), its difference from rest; `pulse`: start and
    stop, same unit as `times`; `threshold`: drawn as the distance below which the cell counts as back.

    **Returns** the two axes, distance above genes.
    """
    moments = np.asarray(times, dtype=float)
    panels = new_panels(2, 1, (6.4, 5.0), sharex=True, height_ratios=(1.0, 1.25))
    upper, lower = panels[:, 0]
    length = f"{pulse[1] - pulse[0]:g} {time_unit}".strip()
    for ax in (upper, lower):
        ax.axvspan(*pulse, color=ORANGE, alpha=0.25, linewidth=0, label=f"{signal} on" if ax is upper else None)
    _band(upper, moments, np.atleast_2d(np.asarray(distance, dtype=float)), INK, "distance from rest")
    if threshold is not None:
        upper.axhline(threshold, color=GREY, linestyle="--", linewidth=1, label="counts as back at rest")
    upper.set_ylim(bottom=0)
    upper.set_ylabel(with_unit("distance from rest", f"rms {unit}".strip()))
    upper.legend(loc="upper right")
    for (gene, values), color, dash in zip(changes.items(), _repeat(CYCLE), _repeat(("-", *DASHES)), strict=False):
        _band(lower, moments, np.atleast_2d(np.asarray(values, dtype=float)), color, gene, dash)
    lower.axhline(0, color=GREY, linewidth=0.8)
    lower.set_ylabel(with_unit("change from rest", unit))
    lower.set_xlabel(with_unit("time", time_unit))
    if changes:
        lower.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), prop={"style": "italic", "size": 8})
    upper.set_title(titled(f"{signal} for {length}, then withdrawn" if title is None else title, simulated))
    return [upper, lower]


def _band(ax: Axes, times: np.ndarray, members: np.ndarray, color: str, label: str, dash: object = "-") -> None:
    """The ensemble's mean as a line and its range as a band; lanes that failed (NaN) are left out."""
    good = members[np.isfinite(members).all(axis=1)]
    if not len(good):
        ax.plot([], [], color=color, label=f"{label} (failed)")
        return
    if len(good) > 1:
        ax.fill_between(times, good.min(axis=0), good.max(axis=0), color=color, alpha=0.22, linewidth=0)
    ax.plot(times, good.mean(axis=0), color=color, linestyle=dash, label=label, zorder=3)


def _dashed(baselines: Mapping[str, ArrayLike] | None) -> list[tuple[str, object, np.ndarray]]:
    return [
        (name, dash, np.asarray(v)) for (name, v), dash in zip((baselines or {}).items(), _repeat(DASHES), strict=False)
    ]


def _repeat(items: Sequence) -> list:
    return list(items) * 16


def _most_changing(mean: Dataset, count: int) -> list[str]:
    seen, values = mean.mask[0, 0], mean.values[0, 0]
    highest = np.max(values, axis=0, initial=-np.inf, where=seen)
    lowest = np.min(values, axis=0, initial=np.inf, where=seen)
    return [mean.genes[k] for k in np.argsort(lowest - highest, kind="stable")[:count]]


def _position(genes: Sequence[str], gene: str) -> int:
    if gene not in genes:
        raise PinnsimError.of(
            "E_GENE_UNKNOWN", f"'{gene}' is not among the data's {len(genes)} genes{did_you_mean(gene, genes)}."
        )
    return list(genes).index(gene)


def _time_unit(dataset: Dataset) -> str:
    return dataset.time_unit if dataset.time_kind == "physical" else "pseudotime"
