"""How sure a fit is: profiles of rates, the spectrum of what data determine, ranks of a calibration."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.stats import binom

from pinnsim.errors import PinnsimError
from pinnsim.fit import Profiles
from pinnsim.plot.style import BLUE, GREY, INK, PALE, RED, grid_shape, new_axes, new_panels, styled, titled, with_unit

_MOST = 16  # panels of one picture


@styled
def profile_panels(profiles: Profiles, *, title: str = "Profiles of rates", simulated: bool = False) -> np.ndarray:
    """A panel per rate: by how many nats the objective rises when the rate is held there and all others follow; the
    dashed line is the threshold of the interval, and a curve that stays below it on a side is open there.

    **Arguments:** `profiles`: from `fit.profile`; at most 16 are drawn, in its order.

    **Returns** the axes, (rows, columns).
    """
    names = list(profiles.table["parameter"])[:_MOST]
    rows, columns = grid_shape(len(names))
    axes = new_panels(rows, columns, (2.6 * columns + 0.4, 2.2 * rows + 0.6))
    for ax in axes.ravel()[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.ravel(), names, strict=False):
        curve = profiles.curves[profiles.curves["parameter"] == name]
        row = profiles.table.set_index("parameter").loc[name]
        sure = row["verdict"] == "identified"
        ax.plot(curve["value"], curve["rise"], "o-", color=BLUE if sure else RED, markersize=2.5)
        ax.axhline(profiles.threshold, color=INK, linewidth=0.8, linestyle="--")
        if np.isfinite([row["lo"], row["hi"]]).all():
            ax.axvspan(row["lo"], row["hi"], color=PALE, alpha=0.5, linewidth=0)
        low = curve["value"].min()
        if low > 0 and curve["value"].max() > 5 * low:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if curve["value"].max() < 1e3 * low else (1.0,)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(-0.1 * profiles.threshold, 2.5 * profiles.threshold)
        open_side = f", open {row['open']}" if row["open"] else ""
        ax.set_title(f"{name}\n{row['verdict']}{open_side}", fontsize=8)
        ax.set_xlabel(with_unit("value", row["unit"]))
    for ax in axes[:, 0]:
        ax.set_ylabel("rise (nats)")
    axes[0, 0].figure.suptitle(titled(f"{title} (dashed: {profiles.level:.0%})", simulated))
    return axes


@styled
def rank_histograms(
    ranks: Mapping[str, np.ndarray],
    draws: int,
    bins: int,
    *,
    title: str = "Ranks of the truth among posterior draws",
    simulated: bool = False,
) -> np.ndarray:
    """A histogram per quantity; the grey band holds 99 % of a bin's counts where the posterior is calibrated. A valley
    says that posteriors are too narrow, a hill too wide, a slope that they are off to a side.

    **Arguments:** `ranks`: quantity -> (replicate,), 0 to `draws`; `bins`: of equally many ranks.

    **Returns** the axes, (rows, columns).

    Source: S. Talts et al., arXiv:1804.06788 (2018), section 4.
    """
    if not ranks or (draws + 1) % bins:
        raise PinnsimError.of("E_USAGE", f"{bins} bins do not share {draws + 1} ranks evenly, or there are no ranks.")
    rows, columns = grid_shape(len(ranks), widest=5)
    axes = new_panels(rows, columns, (2.4 * columns + 0.4, 1.7 * rows + 0.6))
    for ax in axes.ravel()[len(ranks) :]:
        ax.set_visible(False)
    for ax, (name, values) in zip(axes.ravel(), ranks.items(), strict=False):
        counts, edges = np.histogram(values, bins, (-0.5, draws + 0.5))
        low, high = (float(binom.ppf(q, len(values), 1.0 / bins)) for q in (0.005, 0.995))
        ax.axhspan(low, high, color=PALE, linewidth=0)
        ax.axhline(len(values) / bins, color=GREY, linewidth=0.8)
        ax.stairs(counts, edges, color=RED if name.startswith("control") else BLUE, linewidth=1.4)
        ax.set_ylim(0, max(1.15 * counts.max(), 1.3 * high))
        ax.set_title(name.replace(": ", "\n", 1), fontsize=7)
        ax.set_xlabel(f"rank among {draws} draws")
    for ax in axes[:, 0]:
        ax.set_ylabel("replicates")
    axes[0, 0].figure.suptitle(titled(title, simulated))
    return axes


@styled
def spectrum_panel(
    table: pd.DataFrame, *, named: int = 3, title: str = "What the data determine", ax: Axes | None = None
) -> Axes:
    """Posterior over prior width along every direction, stiffest first; the sloppiest ones are named by their leading
    rates.

    **Arguments:** `table`: from `fit.fisher_spectrum`; `named`: how many of the stiffest and of the sloppiest
    directions are named.
    """
    ax = new_axes(ax, (6.4, 3.8))
    place = np.arange(1, len(table) + 1)
    ax.plot(place, table["width"], "o", color=BLUE, markersize=4)
    ax.axhline(1.0, color=INK, linewidth=0.8, linestyle="--", label="prior")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("direction, stiffest first")
    ax.set_ylabel("posterior / prior width")
    ax.set_title(title)
    few = sorted({*range(min(named, len(table))), *range(max(len(table) - named, 0), len(table))})
    lines = [f"{k + 1}: {table['leading'].iloc[k]}" for k in few]
    ax.set_ylim(top=max(1.3, 1.3 * float(table["width"].max())))
    ax.text(0.98, 0.03, "\n".join(lines), transform=ax.transAxes, ha="right", va="bottom", fontsize=6.5, color=INK)
    ax.legend(loc="upper left")
    return ax
