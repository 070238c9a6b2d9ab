"""Training: predict the next time's embeddings, reconstruct the cells, and keep embeddings apart.

    loss = predict * mean over pairs of dist(push(z_t), still(z_(t+1)))      z = encode(all readings)
         + reconstruct * mean of -log p(x | decode(encode(some readings) + blur))
         + spread * (mean (sd z_k - 1)^2 + mean (mean z_k)^2) + decorrelate * sum_(j != k) cov_jk^2 / dimension
         + anchor * mean residual^2 + action * mean over pairs of <int |f|^2 / (4 D) dt>
         + decay * mean over encoder and decoder of |weights of their networks|^2

Cells of one time and of the next are different cells, so what is predicted is a population: `dist` is a distance of
populations (energy distance), and push moves each embedding by the learned landscape and its noise. Where the same
cells were followed, `dist` is the mean squared distance of each cell to itself, and nothing is random. Nothing is
decoded to predict. No slope passes through the embeddings to be predicted (`still`), spread and reconstruction hold
them apart; without all three, equal embeddings for all cells would be perfect (`collapse`).

The action is the relative entropy of embeddings' ways, drawn with the field, to those of pure noise (Girsanov): of all
landscapes that lead from one population to the next, the one that adds least is preferred, in which cells are on their
way all the time. Its slope moves the field alone, with D as it is; embeddings are not drawn together for its sake.

Every chunk of steps sees fresh cells, shocks and masks, the same for the same plan. The loop, its checkpoints, schedule
and progress bar are those of fits (`pinnsim.fit.optimise`).

Sources: Y. LeCun, "A path towards autonomous machine intelligence" (2022), joint-embedding prediction; A. Bardes, J.
Ponce and Y. LeCun, ICLR (2022), variance and covariance terms.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.distance import AbstractDistance, Distance, Match
from pinnsim.distance.cost import Cells as Points
from pinnsim.distance.cost import Others
from pinnsim.distance.distance import OtherWeights, Weights
from pinnsim.fit.landscape_pairs import Pairs, efforts, push_pairs
from pinnsim.fit.objective import Objective
from pinnsim.fit.plan import Settings
from pinnsim.latent.cells import Cells, features_of
from pinnsim.latent.network import LatentNetwork
from pinnsim.latent.plan import LatentPlan
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.tree import stack

_TINY = 1e-4  # of a variance: the slope of a standard deviation stays finite
_PACED = 32  # cells of a pair whose ways an action is a mean of
TERMS = ("predict", "reconstruct", "spread", "decorrelate", "anchor", "action", "decay")


class Followed(AbstractDistance):
    """`mean |x_i - y_i|^2` of the same cells, row by row, with the weights of the first population."""

    def __call__(self, x: Points, y: Others, a: Weights | None = None, b: OtherWeights | None = None) -> Distance:
        weight = jnp.ones(x.shape[0], x.dtype) if a is None else a
        total = jnp.sum(weight)
        value = jnp.sum(weight * jnp.sum((x - y) ** 2, axis=1)) / jnp.where(total > 0, total, 1.0)
        ended = jnp.where(total > 0, Match.DONE.value, Match.EMPTY.value).astype(int)
        return Distance(value, ended, jnp.zeros((), x.dtype), jnp.zeros((), int))


class Batch(NamedTuple):
    """Populations of one chunk, padded. `times`: (1,), not used but by the loop; `features`, `values`, `seen`:
    (population, cell, reading); `size`, `there`: (population, cell); `blur`: (population, cell, dimension); `first`,
    `second`: (pair,), populations; `start`, `step`: (pair,); `shocks`: (pair, step, cell, dimension); `perturbations`:
    (pair, ...); `weights`: (term,); `moving`: 1 where slopes pass through what is predicted, else 0; `paid`: 0, or
    `None` where no action is asked for, which is then not worked out."""

    times: Array
    features: Array
    values: Array
    seen: Array
    size: Array
    there: Array
    blur: Array
    first: Array
    second: Array
    start: Array
    step: Array
    shocks: Array
    perturbations: Perturbation
    weights: Array
    moving: Array
    distance: AbstractDistance
    paid: Array | None


class Source:
    """Fresh cells for every chunk, the same for the same plan, whatever came before."""

    def __init__(
        self,
        cells: Cells,
        network: LatentNetwork,
        acting: list[Perturbation],
        plan: LatentPlan,
        distance: AbstractDistance,
    ) -> None:
        self.cells, self.plan, self.distance = cells, plan, distance
        self.features = features_of(cells.values, cells.exposure, network.decoder.counted)
        places = sorted(set(zip(cells.condition.tolist(), cells.time.tolist(), strict=True)))
        self.rows = [np.flatnonzero((cells.condition == c) & (cells.time == t)) for c, t in places]
        pairs = [k for k in range(len(places) - 1) if places[k][0] == places[k + 1][0]]
        self.first = np.array(pairs, dtype=int)
        self.start = np.array([places[k][1] for k in pairs])
        self.step = np.array([places[k + 1][1] - places[k][1] for k in pairs]) / plan.substeps
        self.acting = Perturbation.stack([acting[places[k][0]] for k in pairs])
        self.count = min(plan.cells, max(len(rows) for rows in self.rows))
        self.followed = isinstance(distance, Followed)

    def batch(self, done: int) -> Batch:
        plan, rng = self.plan, np.random.default_rng([self.plan.seed, 3, done])
        chosen = np.zeros((len(self.rows), self.count), dtype=int)
        there = np.zeros(chosen.shape)
        for k, rows in enumerate(self.rows):
            # Cells that were followed keep their places: all times of a condition are shuffled alike.
            condition = int(self.cells.condition[rows[0]])
            own = np.random.default_rng([plan.seed, 4, done, condition if self.followed else k])
            taken = rows[own.permutation(len(rows))[: self.count]]
            chosen[k, : len(taken)], there[k, : len(taken)] = taken, 1.0
        shape = (*chosen.shape, self.features.shape[1])
        noise = rng.standard_normal((len(self.first), plan.substeps, self.count, plan.dimension))
        floats = {
            "times": np.zeros(1),
            "features": self.features[chosen],
            "values": self.cells.values[chosen],
            "seen": rng.random(shape) >= plan.mask,
            "size": self.cells.exposure[chosen],
            "there": there,
            "blur": plan.blur * rng.standard_normal((*chosen.shape, plan.dimension)),
            "start": self.start,
            "step": self.step,
            "shocks": 0.0 * noise if self.followed else noise,
            "weights": np.array([getattr(plan, name) for name in TERMS]),
            "moving": np.asarray(plan.target_moves),
        }
        batch = Batch(
            **{name: jnp.asarray(value, dtype=float) for name, value in floats.items()},
            first=jnp.asarray(self.first),
            second=jnp.asarray(self.first + 1),
            perturbations=self.acting,
            distance=self.distance,
            paid=jnp.zeros(()) if plan.action > 0 else None,
        )
        return stack([batch._replace(times=batch.times[0])])


def latent_loss(model: Any, prior: Any, data: Batch, settings: Settings, predict: Any) -> Objective:
    """The loss of one chunk and its terms; see the module's first lines."""
    network: LatentNetwork = resolve(model)
    everything = jnp.ones(data.features.shape[2], data.features.dtype)
    z = _over(lambda x: network.encoder(x, everything), data.features)
    still = jax.lax.stop_gradient(z)
    target = still + data.moving * (z - still)
    pairs = _pairs(z, target, data)
    terms = {"predict": _predicted(network, pairs, data), "anchor": jnp.zeros(()), "action": jnp.zeros(())}
    if data.paid is not None:
        terms["action"] = data.paid + _action(network, eqx.tree_at(lambda p: p.begin, pairs, still[data.first]), data)
    share = data.there / jnp.sum(data.there)
    seen = _over(network.encoder, data.features, data.seen) + data.blur
    logs = _over(network.decoder.log_density, data.values, seen, data.size)
    terms["reconstruct"] = -jnp.sum(share * jnp.mean(logs, axis=2))
    middle = jnp.einsum("pc,pck->k", share, z)
    off = z - middle[None, None]
    covariance = jnp.einsum("pc,pcj,pck->jk", share, off, off)
    sd = jnp.sqrt(jnp.diagonal(covariance) + _TINY)
    terms["spread"] = jnp.mean((sd - 1.0) ** 2) + jnp.mean(middle**2)
    apart = covariance - jnp.diag(jnp.diagonal(covariance))
    terms["decorrelate"] = jnp.sum(apart**2) / z.shape[2]
    if network.decoder.anchor is not None:
        learned = _over(lambda one: network.decoder.parts(one)[1], seen)
        terms["anchor"] = jnp.sum(share * jnp.mean(learned**2, axis=2))
    terms["decay"] = _weights(network)
    total = jnp.sum(data.weights * jnp.stack([terms[name] for name in TERMS]))
    return Objective(total, terms, jnp.zeros((), int))


def _over(one: Any, *rows: Array) -> Array:
    return jax.vmap(jax.vmap(one))(*rows)


def _pairs(z: Array, target: Array, data: Batch) -> Pairs:
    """Embeddings of each population but the last, and those that are to be predicted from them."""
    still = jnp.zeros_like(data.start)
    there = data.there[data.second]
    return Pairs(
        z[data.first], data.shocks, data.start, data.step, target[data.second], there, still, still, data.perturbations
    )


def _predicted(network: LatentNetwork, pairs: Pairs, data: Batch) -> Array:
    """Mean over pairs of the distance between what is predicted and what was seen."""
    arrived = push_pairs(network.field, pairs).cells
    apart = jax.vmap(lambda x, y, a, b: data.distance(x, y, a, b).value)
    return jnp.mean(apart(arrived, pairs.target, data.there[data.first], pairs.there))


def _action(network: LatentNetwork, pairs: Pairs, data: Batch) -> Array:
    """Mean over pairs and cells of what the field adds to pure noise, in nats."""
    there = data.there[data.first][:, :_PACED]
    paid = 0.5 * jnp.sum(efforts(network.field, pairs, _PACED) ** 2, axis=(1, 3))
    return jnp.mean(jnp.sum(there * paid, axis=1) / jnp.sum(there, axis=1))


def _weights(network: LatentNetwork) -> Array:
    """Mean over encoder and decoder of the sum of squares of what stands beside their linear parts."""
    leaves = jax.tree.leaves(eqx.filter((network.encoder.network, network.decoder.network), eqx.is_inexact_array))
    return 0.5 * sum((jnp.sum(leaf**2) for leaf in leaves), jnp.zeros(()))


def embeddings_of(network: LatentNetwork, features: np.ndarray) -> np.ndarray:
    """z of cells with these features, (cell, dimension)."""
    return np.asarray(_encoded(network, jnp.asarray(features, dtype=float)))


@eqx.filter_jit
def _encoded(network: LatentNetwork, features: Array) -> Array:
    resolved = resolve(network)
    return jax.vmap(lambda x: resolved.encoder(x, jnp.ones_like(x)))(features)
