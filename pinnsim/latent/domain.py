"""How unlike the training cells a cell is: in how few of their embeddings it could be, and in what even these cannot
say of it.

    w_i    = p(x | z_i) / sum_k p(x | z_k)                        i: training cells, p: the decoder's law of readings
    place  = log n + sum_i w_i log w_i                            nats, of n training cells: 0 where all would do
    misfit = sum_i w_i (-log p(x | z_i) - H(z_i)),   H(z) = E -log p(X | z), X drawn at z: what noise alone makes of it
    score  = sum over both of (value - mean) / sd                 of training cells of like depth, each without itself
    p      = (1 + #{calibration cells with a score at least this}) / (m + 1),    m calibration cells

Together place and misfit are `-log mean_i p(x | z_i)` less H: the latent density and the reconstruction in one. The
surprise of counts grows with their number, so that without H and the comparison with cells of like depth, shallow cells
of any kind would look familiar and deep ones of the same kind strange. The encoder takes no part: where it would put
cells of a kind that it never saw says little.

Readings that a data set does not have are left out of p, H and depth, and everything is worked out anew without them,
for the cells to compare with and to calibrate by too: that they are missing is no part of the score.

The calibration cells come from the same populations and were not trained on. For a cell drawn as they were, p is
uniform or larger (split conformal): `p <= level` flags at most that share of cells that belong.

Sources: E. Nalisnick et al., arXiv:1906.02994 (2019), for a likelihood compared with its entropy; J. Ren et al.,
NeurIPS (2019), for likelihoods led by what says nothing of the kind; V. Vovk, A. Gammerman and G. Shafer, Algorithmic
Learning in a Random World (2005), for conformal p values.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from scipy.special import gammaln

from pinnsim.latent.cells import Cells
from pinnsim.latent.network import Decoder, LatentNetwork
from pinnsim.parameter import Parameter, frozen, resolve

MOST = 1000  # training cells that others are compared with: drawn at random where there are more
NODES = 49  # means at which entropies are tabulated, from 1e-5 to 1e7 counts
_LOG_MEANS = np.linspace(np.log(1e-5), np.log(1e7), NODES)
_SUPPORT = 1500  # counts at which a law is summed: all of the small ones, some of the large
_BLOCK = 64  # cells judged by one call of a compiled program
_LEAST_SD = 0.1  # nats: parts that hardly differ between training cells are not blown up


class Domain(eqx.Module):
    """Where training cells were.

    **Arguments:** `embeddings`: theirs, (cell, dimension); `values`, `size`: their readings, (cell, reading), and size
    factors, (cell,); `parts`: their place and misfit, each without itself, (cell, 2); `held_values`, `held_size`: cells
    not trained on; `calibration`: their scores, sorted, (held,); `entropies`: of a count of each reading, (reading,
    node), at the tabulated means (0 on a logarithmic scale); `neighbours`: training cells of like depth.
    """

    embeddings: Parameter
    values: Parameter
    size: Parameter
    parts: Parameter
    held_values: Parameter
    held_size: Parameter
    calibration: Parameter
    entropies: Parameter
    neighbours: Int[Array, ""]


class OutOfDomain(NamedTuple):
    """One row per cell, (cell,): `score` (large: unlike the training cells), `p_value`, and the two parts of the score
    in nats, `place` and `misfit`, as they were measured."""

    score: np.ndarray
    p_value: np.ndarray
    place: np.ndarray
    misfit: np.ndarray


def blank(cells: int, held: int, readings: int, dimension: int, neighbours: int) -> Domain:
    """A domain of these shapes, all zeros."""
    shapes = ((cells, dimension), (cells, readings), (cells,), (cells, 2), (held, readings), (held,), (held,))
    parts: list[Any] = [frozen(np.zeros(shape)) for shape in (*shapes, (readings, NODES))]
    parts.append(jnp.asarray(neighbours))
    return Domain(*parts)


def domain_of(
    network: LatentNetwork, training: Cells, embeddings: np.ndarray, held: Cells, neighbours: int, seed: int
) -> Domain:
    """**Arguments:** `network`: trained; `training`, with `embeddings`, (cell, dimension), and `held`: cells."""
    kept = np.sort(np.random.default_rng([seed, 8]).permutation(len(embeddings))[:MOST])
    decoder = resolve(network.decoder)
    table = entropies(np.asarray(decoder.spread)) if decoder.counted else np.zeros((training.values.shape[1], NODES))
    near = (embeddings[kept], training.values[kept], training.exposure[kept], np.zeros((len(kept), 2)))
    apart = (held.values, held.exposure, np.zeros(len(held.time)), table)
    parts: list[Any] = [frozen(part) for part in (*near, *apart)]
    parts.append(jnp.asarray(neighbours))
    made = Domain(*parts)
    everything = np.ones(training.values.shape[1])
    made = eqx.tree_at(lambda d: d.parts, made, frozen(_own(network, made, everything)))
    return eqx.tree_at(lambda d: d.calibration, made, frozen(np.sort(_held(network, made, everything))))


def scored(
    network: LatentNetwork, domain: Domain, values: np.ndarray, size: np.ndarray, seen: np.ndarray
) -> OutOfDomain:
    """Scores of cells, (cell, reading), of size factors, (cell,), by the readings of which `seen`, (reading,), is 1."""
    calibration = np.asarray(domain.calibration.value)
    if not seen.all():
        domain = eqx.tree_at(lambda d: d.parts, domain, frozen(_own(network, domain, seen)))
        calibration = np.sort(_held(network, domain, seen))
    parts = _parts(network, domain, values, size, seen)
    score = _score(network, domain, parts, values, seen)
    above = len(calibration) - np.searchsorted(calibration, score, side="left")
    return OutOfDomain(score, (1.0 + above) / (len(calibration) + 1.0), parts[:, 0], parts[:, 1])


def entropies(dispersion: np.ndarray) -> np.ndarray:
    """Entropies of negative binomial counts, (reading, node), in nats, at means of which the logarithm goes from
    log 1e-5 to log 1e7 in equal steps."""
    found, shape = np.zeros((len(dispersion), NODES)), 1.0 / dispersion[:, None]
    for k, mean in enumerate(np.exp(_LOG_MEANS)):
        top = mean + 20.0 + 40.0 * np.sqrt(mean + dispersion.max() * mean**2)
        counts = np.unique(np.round(np.expm1(np.linspace(0.0, np.log1p(top), _SUPPORT))))
        # Each count stands for those around it that are left out.
        edges = np.concatenate([[-0.5], 0.5 * (counts[1:] + counts[:-1]), [counts[-1] + 0.5]])
        # On the host: each mean has a support of its own, and a program of its own would be compiled for it.
        logs = gammaln(counts + shape) - gammaln(shape) - gammaln(counts + 1.0) - shape * np.log1p(mean / shape)
        logs += counts * (np.log(mean) - np.log(shape + mean))
        found[:, k] = -np.sum(np.diff(edges) * np.exp(logs) * logs, axis=1)
    return found


def _own(network: LatentNetwork, domain: Domain, seen: np.ndarray) -> np.ndarray:
    """Place and misfit of the training cells, each without itself."""
    values, size = np.asarray(domain.values.value), np.asarray(domain.size.value)
    return _parts(network, domain, values, size, seen, np.arange(len(values)))


def _held(network: LatentNetwork, domain: Domain, seen: np.ndarray) -> np.ndarray:
    values, size = np.asarray(domain.held_values.value), np.asarray(domain.held_size.value)
    return _score(network, domain, _parts(network, domain, values, size, seen), values, seen)


def _parts(
    network: LatentNetwork,
    domain: Domain,
    values: np.ndarray,
    size: np.ndarray,
    seen: np.ndarray,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Place and misfit, (cell, 2); `own`: which training cell each is, and is not compared with (default: none)."""
    itself = np.full(len(values), -1) if own is None else own
    readings, mask = np.where(seen > 0, values, 0.0), jnp.asarray(seen, dtype=float)
    found = [np.zeros((0, 2))]
    for start in range(0, len(values), _BLOCK):
        # Blocks of one size, the last one filled up: another number of cells compiles nothing anew.
        rows = np.minimum(np.arange(start, start + _BLOCK), len(values) - 1)
        one = (
            jnp.asarray(readings[rows], dtype=float),
            jnp.asarray(size[rows], dtype=float),
            jnp.asarray(itself[rows]),
        )
        found.append(np.asarray(_judged(network.decoder, domain, *one, mask))[: len(values) - start])
    return np.concatenate(found)


@eqx.filter_jit
def _judged(decoder: Decoder, domain: Domain, values: Array, size: Array, own: Array, seen: Array) -> Array:
    decoder, domain = resolve((decoder, domain))
    eta = jax.vmap(decoder)(domain.embeddings)
    grid = jnp.asarray(_LOG_MEANS, eta.dtype)

    def one(cell: tuple[Array, Array, Array]) -> Array:
        x, exposure, itself = cell
        logs = jax.vmap(lambda e: decoder.log_density_at(x, e, exposure))(eta) @ seen
        others = jnp.arange(len(logs)) != itself
        logs = jnp.where(others, logs, -jnp.inf)
        total = jax.scipy.special.logsumexp(logs)
        weight = jnp.exp(logs - total)
        count = jnp.sum(others, dtype=logs.dtype)
        place = jnp.log(count) + jnp.sum(jax.scipy.special.xlogy(weight, weight))
        if decoder.counted:
            means = eta + jnp.log(exposure)
            noise = jax.vmap(lambda row: jax.vmap(jnp.interp, (0, None, 0))(row, grid, domain.entropies))(means) @ seen
        else:
            noise = jnp.full(len(logs), jnp.sum(seen * (0.5 * jnp.log(2 * jnp.pi * jnp.e) + jnp.log(decoder.spread))))
        misfit = jnp.sum(weight * (jnp.where(others, -logs, 0.0) - noise))
        return jnp.stack([place, misfit])

    return jax.lax.map(one, (values, size, own))


def _score(
    network: LatentNetwork, domain: Domain, parts: np.ndarray, values: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Both parts beside those of training cells of like depth, added."""
    known, table = np.asarray(domain.parts.value), np.asarray(domain.values.value)
    if not network.decoder.counted:
        return np.sum((parts - known.mean(axis=0)) / np.maximum(known.std(axis=0), _LEAST_SD), axis=1)
    depth, depths = (np.log1p(np.where(seen > 0, rows, 0.0).sum(axis=1)) for rows in (values, table))
    order = np.argsort(depths, kind="stable")
    k = min(int(domain.neighbours), len(depths))
    # The k nearest of a sorted list are consecutive: the window that begins where its two ends are equally far.
    ordered = depths[order]
    ends = 0.5 * (ordered[: len(ordered) - k] + ordered[k:])
    begin = np.searchsorted(ends, depth)
    near = known[order][begin[:, None] + np.arange(k)]
    return np.sum((parts - near.mean(axis=1)) / np.maximum(near.std(axis=1), _LEAST_SD), axis=1)
