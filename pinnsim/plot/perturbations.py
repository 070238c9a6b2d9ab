"""What perturbations change: a heat map of log2 fold changes against the unperturbed cell."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import DIVERGING, GREY, INK, new_axes, styled, titled

Values = Float[np.ndarray, "..."]


@styled
def knockout_heatmap(
    changes: Values,
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
    simulation failed; `top`: how many genes are shown, by their largest change in any row; `own`: per row the gene that
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
    chosen = np.argsort(-size.max(axis=0), kind="stable")[: min(top, len(genes))]
    chosen = chosen[_order(np.nan_to_num(data[:, chosen]).T)]
    shown = data[:, chosen]
    limit = max(float(np.nanmax(size[:, chosen], initial=0.0)), 1e-3)
    ax = new_axes(ax, (max(0.26 * len(chosen) + 2.6, 4.0), max(0.34 * len(knockouts) + 1.9, 2.6)))
    import matplotlib as mpl

    shades = mpl.colormaps[DIVERGING].copy()
    shades.set_bad(GREY)
    image = ax.imshow(
        np.ma.masked_invalid(shown), cmap=shades, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    for row, gene in enumerate(removed):
        for column, k in enumerate(chosen):
            if genes[k] == gene:
                ax.add_patch(
                    mpl.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.4)
                )
    ax.set_xticks(range(len(chosen)), [genes[k] for k in chosen], rotation=90, fontstyle="italic")
    ax.set_yticks(range(len(knockouts)), list(knockouts))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(f"{len(chosen)} most changed of {len(genes)} genes" if len(chosen) < len(genes) else "gene")
    ax.set_ylabel("knock-out")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, aspect=14)
    bar.set_label(f"{unit} change against {reference}")
    bar.outline.set_visible(False)
    ax.set_title(titled(title, False) + (" (model prediction)" if simulated else ""))
    return ax


def _order(rows: Values) -> np.ndarray:
    """Leaf order of a tree over rows; rows as they are where there are too few."""
    if len(rows) < 3:
        return np.arange(len(rows))
    from scipy.cluster.hierarchy import leaves_list, linkage

    return leaves_list(linkage(rows, "average", optimal_ordering=True))
