"""Cells of tissues that a latent model never saw, mouse pancreas and dentate gyrus, as counts over given genes, and
cells of two data sets brought to the same depth.

Genes are matched by name, whatever the case (mouse to human: the gene of the same name); what a data set does not have
is named, and its counts are 0. A depth of their own would give foreign cells away, so `matched` pairs cells at random,
and of each pair the deeper one is thinned, without replacement, to the total of the other: what is left to tell them by
is how the same number of molecules spreads over the genes.

Data: A. Bastidas-Ponce et al., Development 146:dev173849 (2019); H. Hochgerner et al., Nat. Neurosci. 21:290 (2018).
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pinnsim.latent import LatentModel

FILES = {"pancreas": "pancreas_50obs.h5ad", "dentate gyrus": "dentategyrus_100obs.h5ad"}


class Foreign(NamedTuple):
    """Cells of one tissue: `counts`, (cell, gene), spliced and unspliced, 0 for genes that are `missing`."""

    counts: np.ndarray
    missing: tuple[str, ...]


def foreign_counts(folder: Path, genes: tuple[str, ...]) -> dict[str, Foreign]:
    """Counts over `genes`, by tissue."""
    import anndata

    found = {}
    for tissue, file in FILES.items():
        with warnings.catch_warnings():
            # The files are of an early version of the format.
            warnings.filterwarnings("ignore", message=".*was written without encoding metadata")
            table = anndata.read_h5ad(folder / file)
        place = {str(name).upper(): k for k, name in reversed(list(enumerate(table.var_names)))}
        there = [k for k, gene in enumerate(genes) if gene.upper() in place]
        columns = [place[genes[k].upper()] for k in there]
        counts = np.zeros((table.shape[0], len(genes)))
        for layer in ("spliced", "unspliced"):
            counts[:, there] += np.asarray(table.layers[layer][:, columns].todense())
        found[tissue] = Foreign(counts, tuple(gene for gene in genes if gene.upper() not in place))
    return found


def matched(inside: np.ndarray, outside: np.ndarray, least: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both, (pair, gene), a pair for each cell of the larger group, with equal totals of `least` or more."""
    rng = np.random.default_rng([seed, 11])
    groups = [rows[rows.sum(axis=1) >= least].astype(int) for rows in (inside, outside)]
    if not min(len(rows) for rows in groups):
        return inside[:0], outside[:0]
    count = max(len(rows) for rows in groups)
    chosen = [np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count] for rows in groups]
    totals = np.minimum(*(rows.sum(axis=1) for rows in chosen))
    one, other = (
        np.array([rng.multivariate_hypergeometric(row, n) for row, n in zip(rows, totals, strict=True)], dtype=float)
        for rows in chosen
    )
    return one, other


def counted(shares: np.ndarray, totals: np.ndarray, seed: int) -> np.ndarray:
    """Counts, (cell, gene), of cells with these shares of each gene, (cell, gene), at these totals, (cell,)."""
    rng = np.random.default_rng([seed, 12])
    even = shares / shares.sum(axis=1, keepdims=True)
    return np.array([rng.multinomial(int(n), row) for n, row in zip(totals, even, strict=True)], dtype=float)


def auroc(outside: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a score of `outside` exceeds one of `inside`; ties count half; NaN where there are none."""
    if not len(outside) or not len(inside):
        return float("nan")
    more, equal = outside[:, None] > inside[None, :], outside[:, None] == inside[None, :]
    return float(np.mean(more + 0.5 * equal))


class Counted(NamedTuple):
    """Cells as counts at depths of foreign cells, to learn from and to judge, (cell, gene), and size factors, (cell,).

    `training`, `size`, `hours`, `genes`: to learn from; `pairs`: by tissue, counts and size factors of cells that
    belong, and of foreign cells.
    """

    training: np.ndarray
    size: np.ndarray
    hours: np.ndarray
    genes: tuple[str, ...]
    pairs: dict[str, tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]


def counted_cells(
    fpkm: np.ndarray, hours: np.ndarray, genes: tuple[str, ...], held: float, chosen: tuple[str, ...],
    foreign: dict[str, Foreign], least: int, seed: int,
) -> Counted:  # fmt: skip
    """FPKM, (cell, gene), as counts at totals of foreign cells, over the genes that all tissues have; what is kept of
    them are the `chosen` genes, and the totals, over their median, as size factors."""
    rng = np.random.default_rng([seed, 13])
    missing = {gene for tissue in foreign.values() for gene in tissue.missing}
    there = np.array([gene not in missing for gene in genes])
    kept = np.array([genes.index(gene) for gene in chosen])
    totals = {name: tissue.counts[:, there].sum(axis=1) for name, tissue in foreign.items()}
    every = np.concatenate(list(totals.values()))
    unit = float(np.median(every))

    def drawn(rows: np.ndarray, depths: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        there_only = np.where(there, rows, 0.0)
        depth = rng.choice(depths, len(rows))
        return counted(there_only, depth, seed + number)[:, kept], depth / unit

    def enough(counts: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return counts[counts.sum(axis=1) >= least], size[counts.sum(axis=1) >= least]

    training, size = drawn(fpkm[hours != held], every, 0)
    pairs = {
        name: (
            enough(*drawn(fpkm[hours == held], totals[name], 1 + number)),
            enough(tissue.counts[:, kept], totals[name] / unit),
        )
        for number, (name, tissue) in enumerate(foreign.items())
    }
    return Counted(training, size, hours[hours != held], chosen, pairs)


def compared(
    model: LatentModel,
    inside: np.ndarray,
    outside: np.ndarray,
    missing: tuple[str, ...] = (),
    sizes: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> dict[str, Any]:
    """AUROC of the scores of cells outside over those inside, and shares that are flagged at 5 %."""
    both = zip((inside, outside), sizes, strict=True)
    with warnings.catch_warnings():
        # It says that more than half of the readings are missing, so that little can be told: what can be is what is
        # measured here, and the number of genes left stands beside each score in the results.
        warnings.filterwarnings("ignore", message="W_READINGS_MISSING")
        parts = [model.out_of_domain(rows, size, missing=missing) for rows, size in both]
    return {
        "AUROC": auroc(parts[1].score, parts[0].score),
        "AUROC of the place alone, and of the misfit alone": [
            auroc(parts[1].place, parts[0].place), auroc(parts[1].misfit, parts[0].misfit)
        ],
        "AUROC of the total alone, smaller is stranger": auroc(-outside.sum(axis=1), -inside.sum(axis=1)),
        "flagged at 5 %: of the time left out, of foreign cells": [float(np.mean(p.p_value <= 0.05)) for p in parts],
        "cells": [len(inside), len(outside)],
        "median counts": [float(np.median(rows.sum(axis=1))) for rows in (inside, outside)],
        "genes": int(inside.shape[1] - len(missing)),
        "scores": (parts[0].score, parts[1].score),
    }  # fmt: skip


def judged_counts(
    model: LatentModel,
    held: np.ndarray,
    genes: tuple[str, ...],
    foreign: dict[str, Foreign],
    least: int,
    seed: int,
) -> dict[str, Any]:
    """Foreign cells of each tissue, as they are and in pairs of equal totals, beside the cells left out."""
    found = {}
    for name, tissue in foreign.items():
        there = np.array([gene not in tissue.missing for gene in genes])
        inside = np.where(there, held, 0.0)
        enough = [rows[rows.sum(axis=1) >= least] for rows in (inside, tissue.counts)]
        found[name] = {
            "as they are": compared(model, *enough, tissue.missing),
            "depth matched": compared(model, *matched(inside, tissue.counts, least, seed), tissue.missing),
        }
    return found


def gathered(trainings: list[dict[str, Any]]) -> dict[str, Any]:
    """The same numbers of all trainings, each as a list."""
    return {
        tissue: {
            kind: {name: [one[tissue][kind][name] for one in trainings] for name in found if name != "scores"}
            for kind, found in kinds.items()
        }
        for tissue, kinds in trainings[0].items()
    }
