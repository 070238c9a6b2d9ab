"""How well a ranking of edges recovers a known network, less what the prior network already knew.

Edges are ranked by the evidence that they exist: half the square of how many standard errors their strength is from 0
(about the log-likelihood ratio), plus the log-odds that they existed before the data, so that listed and unlisted edges
stand in one list. The area under the precision-recall curve is the average precision,

    AUPR = sum_k (R_k - R_{k-1}) P_k    over groups of equal evidence, surest first,

in which all pairs that are in no list share the last place. Areas are compared with the prior's own, whose listed edges
are ranked by their confidence: a prior that is mostly right has a large area that no data are needed for.

Source: J. Davis and M. Goadrich, ICML (2006), for the curve; D. Marbach et al., Nature Methods 9:796 (2012), its use
for networks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from pinnsim.errors import PinnsimError
from pinnsim.network import Network


class Recovery(NamedTuple):
    """Area under the precision-recall curve of a ranking, the prior's own, their difference, and what chance gives."""

    value: float
    prior: float
    gain: float
    chance: float


def rank_edges(edges: pd.DataFrame, proposed: pd.DataFrame, *, listed: float = 0.9, level: float = 0.9) -> pd.DataFrame:
    """Listed and unlisted edges in one list, surest first.

    **Arguments:** `edges`: from `edge_table` (with intervals of probability `level`); `proposed`: from `propose_edges`;
    `listed`: share of listed edges that are trusted to exist before the data. As many unlisted edges are taken to
    exist as listed ones do not.

    **Returns** a row per edge: `source`, `target`, `strength`, `listed`, `evidence`.
    """
    half = np.maximum(0.5 * (edges["hi"] - edges["lo"]).to_numpy(), np.finfo(float).tiny) / norm.ppf(0.5 + 0.5 * level)
    missing = (1.0 - listed) * len(edges) / max(len(proposed), 1)
    prior = np.log(listed / (1.0 - listed)), np.log(np.clip(missing, 1e-12, 0.5))
    parts = [
        edges[["source", "target", "strength"]].assign(
            listed=True, evidence=0.5 * (edges["strength"].to_numpy() / half) ** 2 + prior[0]
        ),
        proposed[["source", "target", "strength"]].assign(
            listed=False, evidence=0.5 * proposed["z"].to_numpy(float) ** 2 + prior[1]
        ),
    ]
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return found.sort_values("evidence", ascending=False, kind="stable").reset_index(drop=True)


def aupr(ranked: pd.DataFrame, truth: Network, prior: Network) -> Recovery:
    """The area under the precision-recall curve of `ranked` among all pairs of the prior's or the truth's regulators
    and genes, self-regulation left out, beside the prior's own.

    **Arguments:** `ranked`: rows with `source`, `target` and `evidence`; `truth`, `prior`: networks of equal genes.

    **Raises** `E_NETWORK_EMPTY` for a truth without edges, `E_GENE_UNMATCHED` where genes differ.
    """
    if truth.genes != prior.genes:
        raise PinnsimError.of("E_GENE_UNMATCHED", "Truth and prior must list the same genes in the same order.")
    real = {tuple(edge.split("->")) for edge in truth.edges} - {(gene, gene) for gene in truth.genes}
    if not real:
        raise PinnsimError.of("E_NETWORK_EMPTY", "The true network has no edges, so that nothing can be recovered.")
    regulators = set(prior.regulators) | set(truth.regulators)
    pairs = len(regulators) * len(truth.genes) - len(regulators & set(truth.genes))
    found = list(zip(ranked["source"], ranked["target"], strict=True))
    known = [tuple(edge.split("->")) for edge in prior.edges]
    value = _area(found, ranked["evidence"].to_numpy(float), real, pairs)
    own = _area(known, np.asarray(prior.confidence, float), real, pairs)
    return Recovery(value, own, value - own, len(real) / pairs)


def _area(edges: Sequence[tuple[str, ...]], score: np.ndarray, real: set[tuple[str, ...]], pairs: int) -> float:
    """Average precision; what is not in the list comes last, as one group."""
    keep = np.array([source != target for source, target in edges], dtype=bool)
    hit = np.array([edge in real for edge in edges], dtype=float)[keep]
    order = np.argsort(-score[keep], kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[keep][order]) != 0, True)) if len(order) else np.zeros(0, int)
    hits, seen = np.append(np.cumsum(hit[order])[ends], len(real)), np.append(ends + 1, max(pairs, len(order)))
    return float(np.sum(np.diff(np.append(0.0, hits)) * hits / seen) / len(real))
