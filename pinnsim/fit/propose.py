"""Edges that the network does not list and the data ask for: a score test of every candidate at once.

A new edge of strength w from regulator r adds `w h_r(x_r)` to a gene's log-odds of activity (first order in w), with

    h_r = (x_r / K_r)^n / (1 + (x_r / K_r)^n) - its value at rest,

K_r the geometric mean of its input over the data. Nothing is fitted anew: with S the effect of w on the readings, g
and W the likelihood's slope and curvature in the readings, J the effect of the gene's own parameters and P their prior
precision,

    U = S'g - S'W J (J'W J + P)^-1 (J'g - P (theta - prior)),      I = S'W S - S'W J (J'W J + P)^-1 J'W S,
    z = U / sqrt(I),                       one Newton step gives the strength U / I, with standard error 1 / sqrt(I),

where the second terms take away what the gene's own parameters could do as well (and what an unfinished fit has left
to do). z is standard normal where the edge is absent and the model otherwise right. Where it is not quite right all z
are too wide: they are divided by their spread beyond that of a normal (genomic control), and false discoveries are
bounded as by Benjamini and Hochberg.

Regulators follow the measured or the fitted courses, as in collocation, so that genes do not see one another and
one reverse sweep per sample time gives S and J of all genes. What genes share (hidden activities and their time
constants, effects of signals) is held at its fitted value.

Sources: C. R. Rao, Proc. Camb. Phil. Soc. 44:50 (1948), score tests; B. Devlin and K. Roeder, Biometrics 55:997 (1999),
genomic control; Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57:289 (1995).
"""

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Int
from scipy.stats import norm

from pinnsim.dynamics.regulation import HillAverage, Promoter
from pinnsim.errors import PinnsimError, did_you_mean, first
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.identify import edge_strengths
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.score_test import own_numbers, own_rows, score_tests
from pinnsim.fit.stages import solved
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve

_NORMAL_MEDIAN = 0.4549364  # of the square of a standard normal variable


def propose_edges(
    model: CellModel,
    prior: ModelPrior,
    data: Cultures,
    plan: FitPlan,
    *,
    candidates: Sequence[str] | None = None,
    along: Literal["fitted", "measured"] | None = None,
    fdr: float = 0.05,
    most: int = 1000,
) -> pd.DataFrame:
    """Unlisted edges ranked by how much the data ask for them.

    **Arguments:** `model`: one member of a fit, not resolved; `data`: the cultures it was fitted to; `plan`: the fit's;
    `candidates`: regulators or measured genes that may regulate (default: the network's regulators); `along`: what
    regulators follow, by default the fitted courses if the fit's last stage was through the solver; `fdr`: expected
    share of false ones among the proposed; `most`: how many rows are returned.

    **Returns** a row per candidate edge, surest first: `source`, `target`, `sign`, `strength` (one Newton step, in kT
    at half occupancy), `se`, `z`, `p`, `q` (least false-discovery rate at which it is proposed), `proposed`. Listed
    edges and self-regulation, which a wrong half-life looks like, are no candidates.

    **Raises** `E_GENE_UNKNOWN` for candidates that the model does not have, `E_NETWORK_EMPTY` without any.
    """
    table = model.table
    names = list(table.regulators) if candidates is None else list(candidates)
    index = _positions(model, names)
    follow = along or ("fitted" if solved(plan) else "measured")
    found = score_tests(model, prior, data.anonymous(), plan.settings(), index, follow == "fitted")
    z, strength, error, told = (np.asarray(a) for a in found[:-1])
    source, target = _candidates(model, names, told)
    if not source.size:
        return pd.DataFrame(columns=["source", "target", "sign", "strength", "se", "z", "p", "q", "proposed"])
    z = z[target, source]
    z = z / np.sqrt(max(float(np.median(z**2)) / _NORMAL_MEDIAN, 1.0))
    p = 2.0 * norm.sf(np.abs(z))
    q = false_discovery(p)
    order = np.argsort(-np.abs(z), kind="stable")[:most]
    rows = target[order], source[order]
    return pd.DataFrame(
        {
            "source": [names[s] for s in rows[1]],
            "target": [table.genes[t] for t in rows[0]],
            "sign": np.sign(strength[rows]),
            "strength": strength[rows],
            "se": error[rows],
            "z": z[order],
            "p": p[order],
            "q": q[order],
            "proposed": q[order] <= fdr,
        }
    )


def listed_edges(
    model: CellModel,
    prior: ModelPrior,
    data: Cultures,
    plan: FitPlan,
    *,
    along: Literal["fitted", "measured"] | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    """Listed edges with the intervals that each gene's own curvature gives: for networks too large for `laplace`.

    **Returns** a row per edge, in the network's order: `source`, `target`, `strength`, `lo`, `hi` as in `edge_table`,
    by the normal posterior of the gene's own parameters, with what genes share held.
    """
    promoter: Any = model.kinetics.promoter
    follow = along or ("fitted" if solved(plan) else "measured")
    index = jnp.zeros(1, dtype=int)  # any candidate: only what belongs to the genes is read
    sd = np.asarray(score_tests(model, prior, data.anonymous(), plan.settings(), index, follow == "fitted")[-1])
    marked = [jnp.full(leaf.shape, k + 1.0) for k, leaf in enumerate(own_numbers(model))]
    strength = promoter.strength if isinstance(promoter, Promoter) else promoter.weight.raw
    number = next(k for k, leaf in enumerate(own_numbers(model)) if leaf is strength)
    columns = np.asarray(own_rows(model, marked)).max(axis=0) == number + 1
    edges, rows = len(model.table.edges), sd[:, columns]
    slots = np.asarray(promoter.slots if isinstance(promoter, Promoter) else promoter.edge)
    spread = np.zeros(edges + 1)
    spread[slots] = rows
    raw = np.zeros(edges + 1)
    padded = jnp.append(strength, 0.0)[slots] if isinstance(promoter, Promoter) else strength
    raw[slots] = np.asarray(padded)
    half = float(norm.ppf(0.5 + 0.5 * level))

    def values(shift: float) -> np.ndarray:
        moved = jnp.asarray(raw + shift * spread)
        where = (lambda p: p.strength) if isinstance(promoter, Promoter) else (lambda p: p.weight.raw)
        new = moved[:-1] if isinstance(promoter, Promoter) else moved[slots]
        return np.asarray(edge_strengths(resolve(eqx.tree_at(where, promoter, new)), edges))

    ends = np.stack([values(-half), values(half)])
    names = [edge.split("->") for edge in model.table.edges]
    return pd.DataFrame(names, columns=["source", "target"]).assign(
        strength=values(0.0), lo=ends.min(axis=0), hi=ends.max(axis=0)
    )


def false_discovery(p: np.ndarray) -> np.ndarray:
    """q values: the least false-discovery rate at which each of the hypotheses is rejected (Benjamini and Hochberg).

    >>> false_discovery(np.array([0.01, 0.5, 0.02, 0.9])).round(4).tolist()
    [0.04, 0.6667, 0.04, 0.9]
    """
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(scaled)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return q


def _positions(model: CellModel, names: list[str]) -> Int[Array, " candidate"]:
    """Where the candidates' inputs are, among those of the network's regulators and then all genes' products."""
    table = model.table
    known = {name: len(table.regulators) + k for k, name in enumerate(table.genes)}
    known |= {name: k for k, name in enumerate(table.regulators)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PinnsimError.of(
            "E_GENE_UNKNOWN",
            f"{len(unknown)} candidates are neither regulators nor genes of the model (first: {first(unknown)})"
            f"{did_you_mean(unknown[0], known)}.",
        )
    if not names:
        raise PinnsimError.of("E_NETWORK_EMPTY", "The network has no regulators; name `candidates` among the genes.")
    return jnp.asarray([known[name] for name in names], dtype=int)


def _candidates(model: CellModel, names: list[str], told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions among `names` and among genes of the pairs that are tested."""
    table = model.table
    place, gene = ({name: k for k, name in enumerate(part)} for part in (names, table.genes))
    allowed = np.array(told)
    # From the arrays, not from the edges' names: a shuffled network keeps the real one's.
    promoter: Any = model.kinetics.promoter
    if isinstance(promoter, HillAverage):
        target, slot = np.nonzero(np.asarray(promoter.edge) < len(table.edges))
        source = np.asarray(promoter.source)[target, slot]
    else:
        source, target = np.asarray(promoter.source), np.asarray(promoter.target)
    for s, t in zip(source.tolist(), target.tolist(), strict=True):
        if table.regulators[s] in place:
            allowed[t, place[table.regulators[s]]] = False
    for name in set(place) & set(gene):
        allowed[gene[name], place[name]] = False
    target_at, source_at = np.nonzero(allowed)
    return source_at, target_at
