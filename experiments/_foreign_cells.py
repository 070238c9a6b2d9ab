"""Cells of tissues that a latent model never saw: mouse pancreas and dentate gyrus, as counts over given genes.

Genes are matched by name, whatever the case (mouse to human: the gene of the same name). A depth of their own would
give them away, so `thinned` takes cells that were counted more deeply down to totals of given cells.

Data: A. Bastidas-Ponce et al., Development 146:dev173849 (2019); H. Hochgerner et al., Nat. Neurosci. 21:290 (2018).
"""

import warnings
from pathlib import Path

import numpy as np

FILES = ("dentategyrus_100obs.h5ad", "pancreas_50obs.h5ad")


def foreign_counts(folder: Path, genes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Counts (spliced and unspliced) over those of `genes` that all files have, (cell, gene), and their names."""
    import anndata

    with warnings.catch_warnings():
        # The files are of an early version of the format.
        warnings.filterwarnings("ignore", message=".*was written without encoding metadata")
        tables = [anndata.read_h5ad(folder / name) for name in FILES]
    places = [{str(name).upper(): k for k, name in reversed(list(enumerate(t.var_names)))} for t in tables]
    shared = tuple(gene for gene in genes if all(gene.upper() in place for place in places))
    parts = []
    for table, place in zip(tables, places, strict=True):
        columns = [place[gene.upper()] for gene in shared]
        parts.append(sum(np.asarray(table.layers[name][:, columns].todense()) for name in ("spliced", "unspliced")))
    return np.concatenate(parts).astype(float), shared


def thinned(counts: np.ndarray, like: np.ndarray, seed: int) -> np.ndarray:
    """Each cell's counts thinned at random to the total of a random cell of `like`, where it has more."""
    rng = np.random.default_rng([seed, 11])
    totals = like.sum(axis=1)[rng.integers(0, len(like), len(counts))]
    kept = np.minimum(totals / np.maximum(counts.sum(axis=1), 1.0), 1.0)
    return rng.binomial(counts.astype(int), kept[:, None]).astype(float)


def auroc(outside: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a score of `outside` exceeds one of `inside`; ties count half."""
    more, equal = outside[:, None] > inside[None, :], outside[:, None] == inside[None, :]
    return float(np.mean(more + 0.5 * equal))
