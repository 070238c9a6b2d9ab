"""Pictures of what `pinnsim.tl` wrote into an AnnData object; `pinnsim.plot.save` writes them to files.

Each function reads one key and draws it with a function of `pinnsim.plot`, which takes arrays and serves every other
purpose. Data that were declared simulated are called so in the title.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pinnsim import plot
from pinnsim.annotated import record
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.plot.arrows import embedding_arrows, mean_steps
from pinnsim.plot.populations import course_panels, population_panels
from pinnsim.tl.landscape import attractors_of, relief_of

__all__ = ["fate", "genes", "landscape", "perturb", "populations", "simulation", "transitions"]

_BELOW = 0.97  # of the plateau of a density of cells


def genes(adata: Any, *, names: int = 12, title: str = "Genes by their change in time", ax: Axes | None = None) -> Axes:
    """The correlation ratio of every gene of the network against the number of cells it was seen in; selected genes are
    filled, and the `names` with the highest ratio are named. Written by `pp.select_genes`. **Raises**
    `E_COLUMN_MISSING`."""
    record.check_object(adata)
    told = record.entry(adata, record.GENES)
    here = adata.var[np.asarray(adata.var["pinnsim_in_network"], dtype=bool)]
    return plot.selection_scatter(
        here["pinnsim_cells"].to_numpy(),
        here["pinnsim_change"].to_numpy(),
        np.asarray(here[record.SELECTED], dtype=bool),
        [str(name) for name in here.index],
        expected=float(told["expected_change"]),
        names=names,
        title=title,
        simulated=_simulated(adata),
        ax=ax,
    )


def populations(
    adata: Any, genes: Sequence[str] | None = None, *, layer: str | None = None, key: str = record.FIT
) -> list[Axes]:
    """Means of the cells of each condition over time, measured and modelled, a panel per gene (at most 16).

    **Arguments:** `genes`: those shown (default: the model's, in its order); `layer`: the model's name (default: the
    only one, or the last). **Raises** `E_COLUMN_MISSING`, `E_GENE_UNKNOWN`, `E_LAYER_MISSING`.
    """
    record.check_object(adata)
    kept = record.entry(adata, key)["populations"]
    layers = [str(name) for name in kept["layers"]]
    shown = layers[-1] if layer is None else layer
    with Problems() as problems:
        which = _which(problems, genes, kept["genes"])
        if shown not in layers:
            problems.add(
                "E_LAYER_MISSING", f"'{shown}' was not fitted{did_you_mean(shown, layers)}; {first(layers)} were."
            )
    k = layers.index(shown)
    pairs = [
        np.asarray(kept[f"{who}_{what}"])[:, :, k][..., which]
        for who in ("measured", "model")
        for what in ("mean", "sd")
    ]
    return population_panels(
        np.asarray(kept["times"]),
        (pairs[0], pairs[1]),
        (pairs[2], pairs[3]),
        conditions=[str(name) for name in kept["conditions"]],
        genes=[str(kept["genes"][g]) for g in which],
        time_unit=str(kept["time_unit"]),
        unit=f"{shown}: mean reading per cell",
        simulated=bool(kept["simulated"]),
    )


def simulation(adata: Any, genes: Sequence[str] | None = None, *, key: str = record.SIMULATION) -> list[Axes]:
    """Courses of the model under each treatment, a panel per gene (at most 16); the band is the range over the fit's
    kept starts. **Raises** `E_COLUMN_MISSING`, `E_GENE_UNKNOWN`."""
    record.check_object(adata)
    kept = record.entry(adata, key)
    with Problems() as problems:
        which = _which(problems, genes, kept["genes"])
    readings = np.asarray(kept["readings"])[..., which]
    return course_panels(
        np.asarray(kept["times"]),
        {str(name): readings[:, k] for k, name in enumerate(kept["lanes"])},
        genes=[str(kept["genes"][g]) for g in which],
        time_unit=str(kept["time_unit"]),
        unit="RNA: reading per cell",
        title="Courses of the fitted model",
        simulated=_simulated(adata),
    )


def perturb(adata: Any, *, top: int = 30, key: str = record.PERTURB, ax: Axes | None = None) -> Axes:
    """Mean change over cells of the genes that change most under each treatment. **Raises** `E_COLUMN_MISSING`."""
    record.check_object(adata)
    kept = record.entry(adata, key)
    span, unit = float(kept["params"]["duration"]), str(kept["time_unit"])
    texts = [str(text) for text in kept["treatments"]]
    genes = [str(name) for name in kept["genes"]]
    drawn = plot.knockout_heatmap(
        np.asarray(kept["mean"]),
        [str(name) for name in kept["names"]],
        genes,
        top=top,
        own=[next((gene for gene in genes if text.startswith((f"{gene}=", f"{gene}*"))), None) for text in texts],
        reference="cells left alone",
        title=f"Change in {span:g} {unit}",
        simulated=_simulated(adata),
        ax=ax,
    )
    drawn.set_ylabel("treatment, mean over cells")
    return drawn


def landscape(
    adata: Any,
    *,
    view: str = "contour",
    key: str = record.LANDSCAPE,
    highest: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The relief that `tl.landscape` was asked for by `axes=`, with its fixed points, from above (`view="contour"`) or
    aside (`"3d"`).

    **Raises** `E_COLUMN_MISSING`, `E_USAGE` where there is no relief, and for another view.
    """
    record.check_object(adata)
    kept = record.entry(adata, key)
    with Problems() as problems:
        if "relief" not in kept:
            problems.add("E_USAGE", f"uns['{key}'] has no relief; run tl.landscape with axes=(gene, gene).")
        if view not in ("contour", "3d"):
            problems.add("E_USAGE", f"Argument `view` must be 'contour' or '3d', but is '{view}'.")
    relief, acting = relief_of(kept["relief"]), str(kept["treatment"])
    if highest is None and relief.potential.kind == "ensemble":
        # A density of cells ends in a plateau, where no cell was: it is cut, not drawn.
        highest = _BELOW * relief.highest
    draw = plot.landscape_contour if view == "contour" else plot.landscape_3d
    return draw(
        relief,
        points=attractors_of(kept),
        highest=highest,
        unit="relative abundance",
        title="Landscape" if acting == "none" else f"Landscape under {acting}",
        simulated=_simulated(adata),
        ax=ax,
    )


def fate(adata: Any, *, key: str = record.FATE, ax: Axes | None = None) -> Axes:
    """Where the cells of each condition and time end, with 95 % intervals. **Raises** `E_COLUMN_MISSING`."""
    record.check_object(adata)
    kept = record.entry(adata, key)
    table = pd.DataFrame({str(name): np.asarray(column) for name, column in kept["table"].items()})
    unit, acting = str(kept["time_unit"]), str(kept["treatment"])
    table["start"] = [f"{c}, {t:g} {unit}" for c, t in zip(table["condition"], table["time"], strict=True)]
    # An end that no run has is not drawn.
    ends = table.groupby("end", sort=False)["probability"].sum()
    table = table[table["end"].isin(ends.index[ends > 0])]
    for name in ("low", "high"):  # rounding must not put a share outside its interval
        clip = np.minimum if name == "low" else np.maximum
        table = table.assign(**{name: clip(table[name], table["probability"])})
    drawn = plot.fate_bars(
        table,
        title="Where cells end" if acting == "none" else f"Where cells end after {acting}",
        simulated=_simulated(adata),
        ax=ax,
    )
    drawn.set_xlabel("population: condition and time of sampling")
    return drawn


def transitions(
    adata: Any,
    *,
    basis: str,
    color: str | None = None,
    components: tuple[int, int] = (0, 1),
    key: str = record.TRANSITION,
    ax: Axes | None = None,
) -> Axes:
    """Cells on an embedding, and where the model's chain carries them in a step.

    **Arguments:** `basis`: key of `obsm`, such as "X_umap"; `color`: a column of `obs` with names; `components`: of the
    embedding. **Raises** `E_COLUMN_MISSING`, `E_DATA_SHAPE`.
    """
    record.check_object(adata)
    with Problems() as problems:
        record.check_entry(problems, adata, "obsp", key)
        record.check_entry(problems, adata, "obsm", basis)
        if color is not None:
            record.check_entry(problems, adata, "obs", color)
    whole = np.asarray(adata.obsm[basis], dtype=float)
    if whole.ndim != 2 or max(components) >= whole.shape[1]:
        raise PinnsimError.of(
            "E_DATA_SHAPE", f"obsm['{basis}'] has the shape {whole.shape}; it has no components {components}."
        )
    points, told = whole[:, list(components)], adata.uns[key]
    name = basis.removeprefix("X_")
    return embedding_arrows(
        points,
        mean_steps(adata.obsp[key], points),
        groups=None if color is None else [str(value) for value in adata.obs[color]],
        labels=(f"{name} {components[0] + 1}", f"{name} {components[1] + 1}"),
        title=f"Expected steps in {float(told['params']['step']):g} {told['time_unit']}",
        simulated=_simulated(adata),
        ax=ax,
    )


def _simulated(adata: Any) -> bool:
    return bool(adata.uns.get(record.TIMES, {}).get("simulated", False))


def _which(problems: Problems, wanted: Sequence[str] | None, known: Sequence[Any] | np.ndarray) -> list[int]:
    """Positions of genes; adds `E_GENE_UNKNOWN`."""
    names = [str(name) for name in known]
    chosen = names if wanted is None else list(wanted)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        shown = first(f"'{name}'{did_you_mean(name, names)}" for name in unknown)
        problems.add("E_GENE_UNKNOWN", f"{len(unknown)} genes are not in the model: {shown}.")
    return [names.index(name) for name in chosen if name in names]
