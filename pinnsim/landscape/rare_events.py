"""Rates of events that no plain simulation would see: weighted ensembles of noisy courses.

Walkers with weights follow `dX = f dt + sqrt(2 D) dW`; after every interval each bin of a progress coordinate that is
occupied gets the same number of walkers, drawn in proportion to their weights (systematic resampling, so that the mean
of everything is unchanged), each with the same share of the bin's weight. Walkers that reach the target are put back to
the start; in the long run the weight that arrives per time is exactly the inverse of the mean first-passage time,

    rate = <weight arriving per time> = 1 / T(start -> target).

Replicates with keys of their own give the interval. Steps are Euler and Maruyama's, so rates have an error of the order
of `dt`; the noise is read in Ito's sense, `D` of `pinnsim.landscape.noise`.

Sources: G. A. Huber and S. Kim, Biophys. J. 70:97 (1996); D. Aristoff, SIAM J. Numer. Anal. 56:1394 (2018), unbiased.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Key

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, Vector, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.treatment import NONE, Treatment


class Coordinate(eqx.Module):
    """One species as progress, `sign * x_i`. **Arguments:** `weights`: (species,), a row of the unit matrix or any."""

    weights: Float[Array, " species"]

    def __call__(self, state: Float[Array, " species"]) -> Scalar:
        return jnp.sum(self.weights * state)


@dataclasses.dataclass(frozen=True)
class RareRate:
    """A rate with its interval.

    **Arguments:** `rate`: per time; `low`, `high`: its interval at `level`, from replicates; `replicates`:
    (replicate,), their rates; `course`: (round,), mean weight arriving per time in every round, to see whether the
    start was forgotten; `time_unit`.
    """

    rate: float
    low: float
    high: float
    level: float
    replicates: np.ndarray
    course: np.ndarray
    time_unit: str


def weighted_ensemble(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    start: Numbers,
    progress: Callable[[Float[Array, " species"]], Scalar],
    edges: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    dt: float | int,
    interval: int = 10,
    rounds: int = 400,
    walkers: int = 16,
    replicates: int = 8,
    forget: float = 0.5,
    level: float = 0.95,
    seed: int = 0,
) -> RareRate:
    """The rate from a state to a target, however rare.

    **Arguments:** `start`: (species,); `progress`: a module from a state to one number that grows towards the target,
    such as `Coordinate`; `edges`: (edge,), increasing values between which bins lie; a walker beyond the last has
    arrived; `dt`: step; `interval`: steps between resamplings; `rounds`: resamplings; `walkers`: per bin;
    `replicates`: independent runs; `forget`: share of rounds left out at the beginning; `level`: of the interval.

    Good values: bins so narrow that walkers reach the next within an interval with probability 0.1 or more; rounds of
    several relaxation times in total (look at `course`).

    **Raises** `E_USAGE` for edges that do not increase, a start beyond them, or numbers below their least; `E_SOLVER`
    when no walker ever arrives.
    """
    system = system_of(model, treatment, start)
    y = system.free(jnp.asarray(start, dtype=float))
    limits = np.asarray(edges, dtype=float)
    with Problems() as problems:
        if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
            problems.add("E_USAGE", "Argument `edges` must be 2 or more increasing numbers.")
        elif not float(progress(system.state(y))) < limits[-1]:
            problems.add("E_USAGE", "The start lies beyond the last edge: it has arrived already.")
        if min(interval, rounds, walkers) < 1 or replicates < 2 or not dt > 0 or not 0 <= forget < 1:
            problems.add("E_USAGE", "Give 2 or more `replicates`, `dt` > 0, `forget` below 1, and counts of 1 or more.")
    keys = jax.random.split(jax.random.key(seed), replicates)
    arriving = np.asarray(
        _ensemble(
            system,
            noise,
            progress,
            y,
            jnp.asarray(limits),
            jnp.asarray(dt, dtype=float),
            keys,
            interval,
            rounds,
            walkers,
        )  # fmt: skip
    )
    kept = arriving[:, int(forget * rounds) :] / (float(dt) * interval)
    each = kept.mean(axis=1)
    if not (each > 0).any():
        raise PinnsimError.of("E_SOLVER", "No walker arrived; give more rounds, narrower bins, or longer intervals.")
    middle, spread = float(each.mean()), float(each.std(ddof=1) / np.sqrt(replicates))
    reach = float(scipy.stats.t.ppf(0.5 + 0.5 * level, replicates - 1)) * spread
    course = arriving.mean(axis=0) / (float(dt) * interval)
    return RareRate(middle, max(middle - reach, 0.0), middle + reach, level, each, course, system.kinetics.time_unit)


@eqx.filter_jit
def _ensemble(
    system: System,
    noise: AbstractNoise,
    progress: Callable,
    start: Vector,
    edges: Float[Array, " edge"],
    dt: Scalar,
    keys: Key[Array, " replicate"],
    interval: int,
    rounds: int,
    walkers: int,
) -> Float[Array, "replicate round"]:
    """Weight that arrives in every round."""
    bins, none, kind = edges.shape[0], jnp.zeros(0, start.dtype), start.dtype
    lanes = bins * walkers

    def move(y: Vector, key: Array) -> tuple[Vector, Array]:
        def step(carry: tuple, key: Array) -> tuple[tuple, None]:
            y, arrived = carry
            spread = jnp.linalg.cholesky(2.0 * dt * noise.diffusion(system, y))
            moved = y + dt * system.force(y, none) + spread @ jax.random.normal(key, y.shape, y.dtype)
            # Who has arrived stays where it is until it is put back.
            y = jnp.where(arrived, y, moved)
            return (y, arrived | (progress(system.state(y)) >= edges[-1])), None

        return jax.lax.scan(step, (y, jnp.zeros((), bool)), jax.random.split(key, interval))[0]

    def one(key: Array) -> Float[Array, " round"]:
        def turn(carry: tuple, key: Array) -> tuple[tuple, Scalar]:
            states, weights = carry
            first, second = jax.random.split(key)
            states, arrived = jax.vmap(move)(states, jax.random.split(first, lanes))
            flow = jnp.sum(jnp.where(arrived, weights, 0.0))
            states = jnp.where(arrived[:, None], start[None], states)
            place = jnp.searchsorted(edges[:-1], jax.vmap(lambda y: progress(system.state(y)))(states))
            inside = place[None] == jnp.arange(bins, dtype=place.dtype)[:, None]
            upto = jnp.cumsum(jnp.where(inside, weights[None], 0.0), axis=1)
            total = upto[:, -1]
            ticks = (jnp.arange(walkers, dtype=kind)[None] + jax.random.uniform(second, (bins, 1), kind)) / walkers
            chosen = jax.vmap(jnp.searchsorted)(upto, ticks * total[:, None])
            # An empty bin draws walkers without weight; where rounding overshoots, the last one of the bin.
            last = jnp.max(jnp.where(inside & (weights > 0)[None], jnp.arange(lanes)[None], 0), axis=1)
            chosen = jnp.minimum(chosen, last[:, None].astype(chosen.dtype))
            shares = jnp.broadcast_to(total[:, None] / walkers, (bins, walkers))
            return (states[chosen.ravel()], shares.ravel()), flow

        states = jnp.broadcast_to(start[None], (lanes, start.shape[0]))
        weights = jnp.full(lanes, 1.0 / lanes, start.dtype)
        return jax.lax.scan(turn, (states, weights), jax.random.split(key, rounds))[1]

    return jax.vmap(one)(keys)
