"""How unlike the training cells a cell is: in the latent space, and in what the decoder cannot say of it.

    distance = mean distance of z to its k nearest training embeddings
    deviance = -mean over readings of log p(x | decode(encode(x)))
    score    = max over both of (value - median) / (84th percentile - median),   of the training cells
    p        = (1 + #{calibration cells with a score at least this}) / (n + 1)

The calibration cells come from the same populations and were not trained on. For a cell drawn as they were, p is
uniform or larger (split conformal): `p <= level` flags at most that share of cells that belong.

Sources: S. Ramaswamy, R. Rastogi and K. Shim, SIGMOD (2000), for distances to neighbours; V. Vovk, A. Gammerman and
G. Shafer, Algorithmic Learning in a Random World (2005), for conformal p values.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from scipy.spatial import cKDTree

from pinnsim.parameter import Parameter, frozen


class Domain(eqx.Module):
    """Where training cells were.

    **Arguments:** `reference`: their embeddings, (cell, dimension); `middle`, `scale`: of distance and deviance, (2,);
    `calibration`: sorted scores of cells not trained on, (held,); `neighbours`: k.
    """

    reference: Parameter
    middle: Parameter
    scale: Parameter
    calibration: Parameter
    neighbours: Int[Array, ""]


class OutOfDomain(NamedTuple):
    """One row per cell, (cell,): `score` (large: unlike the training cells), `p_value`, and the two parts of the score
    as they were measured, `distance` and `deviance` (nats per reading)."""

    score: np.ndarray
    p_value: np.ndarray
    distance: np.ndarray
    deviance: np.ndarray


def domain_of(training: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], neighbours: int) -> Domain:
    """**Arguments:** `training`, `held`: embeddings, (cell, dimension), and deviances, (cell,), of both."""
    reference, deviance = training
    k = min(neighbours, len(reference) - 1)
    apart = np.asarray(cKDTree(reference).query(reference, k + 1)[0])[:, 1:].mean(axis=1)
    both = np.stack([apart, deviance])
    middle = np.median(both, axis=1)
    scale = np.maximum(np.quantile(both, 0.84, axis=1) - middle, 1e-9)
    empty = Domain(frozen(reference), frozen(middle), frozen(scale), frozen(np.zeros(0)), jnp.asarray(k))
    return eqx.tree_at(lambda d: d.calibration, empty, frozen(np.sort(scored(empty, *held).score)))


def scored(domain: Domain, embeddings: np.ndarray, deviance: np.ndarray) -> OutOfDomain:
    """Scores of cells with these embeddings, (cell, dimension), and deviances, (cell,)."""
    reference, middle, scale, calibration = (
        np.asarray(part.raw) for part in (domain.reference, domain.middle, domain.scale, domain.calibration)
    )
    k = int(domain.neighbours)
    apart = np.asarray(cKDTree(reference).query(embeddings, list(range(1, k + 1)))[0]).mean(axis=1)
    score = ((np.stack([apart, deviance]) - middle[:, None]) / scale[:, None]).max(axis=0)
    above = len(calibration) - np.searchsorted(calibration, score, side="left")
    return OutOfDomain(score, (1.0 + above) / (len(calibration) + 1.0), apart, np.asarray(deviance))
