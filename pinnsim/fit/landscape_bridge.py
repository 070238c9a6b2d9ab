"""A simulation-free start: the drift of Brownian bridges between entropically coupled snapshots.

Among all ways to join two snapshots, the one most like pure noise over their time apart T is a Schroedinger bridge:
cells x0 and x1 are joined with the weights of entropic optimal transport of cost |x1 - x0|^2 at eps = 4 D T, and
between them runs a Brownian bridge,

    X_s = (1 - s) x0 + s x1 + sqrt(2 D T s (1 - s)) xi,      drift at s:  (x1 - X_s) / (T (1 - s)).

The mean of that drift given X_s is the drift of the process; so a field is fitted to it by least squares, at once for
all pairs and signals, with no simulation. This is exact only as far as the bridge's law between snapshots is the true
one: a start, which the fit through the equation (`fit.landscape`) makes right.

Sources: C. Leonard, Discrete Contin. Dyn. Syst. 34:1533 (2014), Schroedinger bridges; Y. Shi et al., NeurIPS (2023),
bridge matching; A. Tong et al., AISTATS (2024), for snapshots of cells.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.distance.transport import Limits, solve
from pinnsim.dynamics.gradient import GradientField
from pinnsim.fit.landscape_pairs import Pairs
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import State

_LATEST = 0.9  # s, at the most: the drift's variance grows as 1 / (1 - s)
_MOST = 600  # cells of either end that are coupled, at the most: bridges are a start, and couplings cost the product
_LEAST = 0.02  # eps in units of the mean cost, at the least: below it the coupling is a matching of the sample


class Bridges(eqx.Module):
    """Places on bridges, (pair, cell, species), drifts there, their standard deviation, (pair, cell, species), times of
    the pairs, and what acts."""

    places: Float[Array, "pair cell species"]
    drifts: Float[Array, "pair cell species"]
    spread: Float[Array, "pair cell species"]
    start: Float[Array, " pair"]
    perturbations: Perturbation


def bridges_of(field: GradientField, pairs: Pairs, seed: int) -> Bridges:
    """One bridge from each simulated cell (of at most 600), at one random moment. `field` is resolved: its D is that of
    the bridges."""
    rng = np.random.default_rng([seed, 2])
    pairs = _fewer(pairs, rng)
    noise = np.broadcast_to(np.asarray(field.diffusion), pairs.begin.shape[2:])
    span = np.asarray(pairs.step) * pairs.shocks.shape[1]
    coupled = np.asarray(_coupled(pairs, jnp.asarray(noise), jnp.asarray(span)))
    begin, target = np.asarray(pairs.begin), np.asarray(pairs.target)
    ends = np.stack([_drawn(row, cells, rng) for row, cells in zip(coupled, target, strict=True)])
    s = rng.uniform(0.0, _LATEST, begin.shape[:2])[..., None]
    span = span[:, None, None]
    places = (1 - s) * begin + s * ends
    places = places + np.sqrt(2 * noise * span * s * (1 - s)) * rng.standard_normal(begin.shape)
    left = span * (1 - s)
    return Bridges(
        jnp.asarray(places),
        jnp.asarray((ends - places) / left),
        jnp.asarray(np.sqrt(2 * noise / left) * np.ones(begin.shape)),
        pairs.start,
        pairs.perturbations,
    )


def _fewer(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Pairs of no more cells than are coupled; those of small populations are as they were."""
    if pairs.begin.shape[1] > _MOST:
        pairs = eqx.tree_at(lambda p: p.begin, pairs, pairs.begin[:, :_MOST])
    if pairs.target.shape[1] <= _MOST:
        return pairs
    there = np.asarray(pairs.there)
    # Cells that are there first, in random order; the others weigh nothing.
    order = np.argsort((there <= 0) + rng.uniform(size=there.shape), axis=1)[:, :_MOST]
    target = np.take_along_axis(np.asarray(pairs.target), order[..., None], axis=1)
    there = np.take_along_axis(there, order, axis=1)
    kept = (jnp.asarray(target), jnp.asarray(there / there.sum(axis=1, keepdims=True)))
    return eqx.tree_at(lambda p: (p.target, p.there), pairs, kept)


def bridge_residuals(field: GradientField, bridges: Bridges) -> Array:
    """(drift of the field - drift of the bridge) / its standard deviation, flat. `field` is resolved."""

    def one(places: Array, start: Array, acting: Perturbation) -> Array:
        def flow(state: State) -> State:
            return field.vector_field(start, state, acting)

        return jax.vmap(flow)(places)

    flows = jax.vmap(one)(bridges.places, bridges.start, bridges.perturbations)
    return jnp.ravel((flows - bridges.drifts) / bridges.spread)


@eqx.filter_jit
def _coupled(pairs: Pairs, noise: Float[Array, " species"], span: Float[Array, " pair"]) -> Array:
    """Weights of later cells for each earlier one, (pair, cell, other), rows summing to 1."""

    def one(begin: Array, target: Array, there: Array, span: Array) -> Array:
        scaled, other = (cells / jnp.sqrt(noise)[None, :] for cells in (begin, target))
        cost = jnp.sum((scaled[:, None, :] - other[None, :, :]) ** 2, axis=2)
        a = jnp.full(begin.shape[0], 1.0 / begin.shape[0], cost.dtype)
        mean = jnp.sum(a * (cost @ there))
        eps = jnp.maximum(4.0 * span, _LEAST * mean)
        kind = cost.dtype
        limits = Limits(jnp.asarray(1e-3, kind), jnp.asarray(2000), mean, jnp.asarray(0.25, kind))
        found = solve(cost, a, there, eps, jnp.asarray(jnp.inf, kind), limits)
        weights = there[None, :] * jnp.exp((found.f[:, None] + found.g[None, :] - cost) / eps)
        return weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), jnp.finfo(kind).tiny)

    return jax.lax.map(lambda row: one(*row), (pairs.begin, pairs.target, pairs.there, span))


def _drawn(weights: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A later cell for each earlier one, by its weights."""
    sums = np.cumsum(weights, axis=1)
    chosen = (sums < rng.uniform(0.0, 1.0, len(sums))[:, None] * sums[:, -1:]).sum(axis=1)
    return cells[np.minimum(chosen, len(cells) - 1)]
