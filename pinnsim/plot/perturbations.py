"""What perturbations change: a heat map of log2 fold changes against the unperturbed cell."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import DIVERGING, GREY, INK, new_axes, styled, titled


@styled
def knockout_heatmap(
    changes: ArrayLike,
    knockouts: Sequence[str],
    genes: Sequence[str],
    *,
    top: int = 30,
    unit: str = "log2",
    reference: str = "wild type",
    own: Sequence[str | None] | None = None,
    title: str = "Steady-state change after a knock-out",
    simulated: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Change of the most affected genes (columns) under each knock-out (rows); colours are centred at 0.

    **Arguments:** `changes`: (knock-out, gene), difference of readings from the reference; NaN (drawn grey) where a
    simulation failed; `top`: how many genes are shown, each row's most changed in turn; `own`: per row the gene that
    was removed (default: the row's name), outlined, because its own change is no prediction.

    Genes are ordered so that those that move together stand together (leaf order of an average-linkage tree).
    """
    data = np.asarray(changes, float)
    if data.shape != (len(knockouts), len(genes)):
        raise PinnsimError.of(
            "E_DATA_SHAPE", f"changes {data.shape} must be (knock-out, gene) = ({len(knockouts)}, {len(genes)})."
        )
    removed = list(knockouts) if own is None else list(own)
    size = np.nan_to_num(np.abs(data))
    # A removed gene's own fall would crowd out what the knock-out does to others.
    for row, gene in enumerate(removed):
        if gene is not None and gene in genes:
            size[row, list(genes).index(gene)] = 0.0
    chosen = _most_changed(size, min(top, len(genes)))
    chosen = chosen[_order(np.nan_to_num(data[:, chosen]).T)]
    shown = data[:, chosen]
    limit = max(float(np.nanmax(size[:, chosen], initial=0.0)), 1e-3)
    ax = new_axes(ax, (max(0.26 * len(chosen) + 2.6, 4.0), max(0.34 * len(knockouts) + 1.9, 2.6)))
    shades = mpl.colormaps[DIVERGING].with_extremes(bad=GREY)
    image = ax.imshow(
        np.ma.masked_invalid(shown), cmap=shades, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    places = [(row, column) for row, gene in enumerate(removed) for column, k in enumerate(chosen) if genes[k] == gene]
    for row, column in places:
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.4, zorder=3))
    ax.set_xticks(range(len(chosen)), [genes[k] for k in chosen], rotation=90, fontstyle="italic")
    ax.set_yticks(range(len(knockouts)), list(knockouts))
    ax.set_xticks(np.arange(len(chosen) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(knockouts) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    label = f"{len(chosen)} most changed of {len(genes)} genes" if len(chosen) < len(genes) else "gene"
    ax.set_xlabel(label + ("; outlined: the gene that was removed" if places else ""))
    ax.set_ylabel("knock-out")
    # Colours show what happens to other genes; a removed gene's own fall may lie beyond them.
    beyond = bool((shown < -limit).any()), bool((shown > limit).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, aspect=14, extend=extend)
    bar.set_label(f"{unit} change against {reference}")
    bar.outline.set_visible(False)
    ax.set_title(titled(title, False) + (" (model prediction)" if simulated else ""))
    return ax


def _most_changed(size: np.ndarray, count: int) -> np.ndarray:
    """Columns in turn by every row's ranking, so that a knock-out with few and small effects is not left out."""
    rank = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1, kind="stable")
    # What a row does not change at all is nobody's choice.
    best = np.where(size > 0, rank, size.shape[1]).min(axis=0)
    return np.lexsort((-size.max(axis=0), best))[:count]


def _order(rows: np.ndarray) -> np.ndarray:
    """Leaf order of a tree over rows; rows as they are where there are too few."""
    if len(rows) < 3:
        return np.arange(len(rows))
    from scipy.cluster.hierarchy import leaves_list, linkage

    return leaves_list(linkage(rows, "average", optimal_ordering=True))
