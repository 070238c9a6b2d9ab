"""Cells with continuous noise: the chemical Langevin equation, and diffusion of a given strength.

    Langevin:   dX = S v dt + drive dt + sum_r S_r sqrt(v_r / Omega) dW_r
    Diffusion:  dX = f dt + sqrt(2 D) dW

by Euler and Maruyama's steps of length dt on a fixed grid, which switches and saved times cut; abundances are clipped
at 0, held species stay at their level, and hidden activities have no noise. Reactions that each change one and the same
species only have noises that add up to one normal of the summed variance, so such a species draws one normal per step:
exact in law, and half the random numbers of a gene's births and deaths.

The normals of a step belong to its place on the grid (counter = step), so two cells with one key see the same noise
even where one of them has more switches.

Sources: D. T. Gillespie, J. Chem. Phys. 113:297 (2000); P. E. Kloeden and E. Platen, Numerical Solution of Stochastic
Differential Equations (1992), section 10.2: weak order 1; strong order 1/2, and 1 where the noise does not depend on
the state.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, UInt32

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.structure import Structure, net_change, take_rows
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.random import key_of, normals
from pinnsim.shapes import Amounts, Numbers, Rates, Scalar, State, Times
from pinnsim.simulate.march import Span, channels_of, march
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.sampler import AbstractSampler, Key, setting
from pinnsim.simulate.solve import Solution

_NEAR = 1e-3  # of a step: a saved time or switch so close to the grid is taken to be on it


class Langevin(AbstractSampler):
    """The chemical Langevin equation. Good where molecule numbers are above about 10; below use `SSA`.

    **Arguments:** `size`: Omega, molecules per abundance unit (infinite: no noise); `dt`: step, in the model's time
    unit; `refresh`: time between looks at dose curves and hidden activities (`march`), or `None` for 1/20 of the
    fastest time constant.

    Good values: dt a tenth of the shortest lifetime.
    """

    size: Scalar
    dt: Scalar
    refresh: Scalar | None

    def __init__(self, size: ArrayLike = 1.0, dt: ArrayLike = 0.01, refresh: ArrayLike | None = None):
        self.size, self.dt = setting("size", size), setting("dt", dt)
        self.refresh = None if refresh is None else setting("refresh", refresh)

    def sample(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, key: Key
    ) -> Solution:
        channels, kind = channels_of(resolve(kinetics)), state.dtype
        grain, none = 1.0 / self.size.astype(kind), jnp.zeros((), kind)
        count, words, free = channels.amounts, key_of(key), _free_reactions(channels.structure)
        wanted = count + len(free)

        def step(amounts: Amounts, span: Span, length: Scalar, counter: Array, piece: Array) -> Amounts:
            rates = jnp.maximum(channels.rates(amounts, span.hidden, span.edits, none), 0.0)
            draws = normals(words, counter, wanted, piece * jnp.uint32((wanted + 1) // 2), kind)
            drift = net_change(channels.structure, rates) + span.drive
            noise = chemical_noise(channels.structure, rates * grain, draws)
            moved = jnp.maximum(amounts + drift * length + noise * jnp.sqrt(length), 0.0)
            return jnp.where(span.held > 0, span.level, moved)

        return _walk(channels.kinetics, count, times, perturbation, state, self.dt, self.refresh, step)


class Diffusion(AbstractSampler):
    """The model's own flow with noise of a given strength, `dX = f dt + sqrt(2 D) dW`: the convention of landscapes.

    **Arguments:** `strength`: D, amount^2 per time, one number or (species,), >= 0; `dt`, `refresh`: as in `Langevin`.
    Held species have no noise; abundances are clipped at 0.
    """

    strength: Float[Array, "..."]
    dt: Scalar
    refresh: Scalar | None

    def __init__(self, strength: Numbers, dt: ArrayLike = 0.01, refresh: ArrayLike | None = None):
        self.strength, self.dt = jnp.asarray(strength, dtype=float), setting("dt", dt)
        self.refresh = None if refresh is None else setting("refresh", refresh)

    def sample(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, key: Key
    ) -> Solution:
        kinetics, kind, words = resolve(kinetics), state.dtype, key_of(key)
        count, material = state.shape[0], kinetics.material()
        spread = jnp.sqrt(2.0 * self.strength.astype(kind))

        def step(values: State, span: Span, length: Scalar, counter: Array, piece: Array) -> State:
            draws = normals(words, counter, count, piece * jnp.uint32((count + 1) // 2), kind)
            flow = kinetics.vector_field(jnp.zeros((), kind), values, Constant(span.edits))
            moved = values + flow * length + spread * jnp.sqrt(length) * draws
            moved = jnp.where(material, jnp.maximum(moved, 0.0), moved)
            return jnp.where(span.held > 0, span.level, moved)

        return _walk(kinetics, count, times, perturbation, state, self.dt, self.refresh, step)


def chemical_noise(structure: Structure, variances: Rates, draws: Float[Array, " draw"]) -> Amounts:
    """`sum_r S_r sqrt(variance_r) xi_r`, (species,), with one normal per species for all reactions that change nothing
    else.

    **Arguments:** `variances`: (reaction,), v / Omega; `draws`: standard normals, one per species, then one per
    reaction that changes several species.
    """
    which, how = structure.slots
    free = _free_reactions(structure)
    count, kind = structure.species, variances.dtype
    padded = jnp.concatenate([variances, jnp.zeros(1, kind)])
    summed = jnp.zeros(count, kind)
    alone = ~np.isin(which, free)
    for k in range(which.shape[1]):
        square = np.where(alone[:, k], how[:, k] ** 2, 0).astype(kind)
        if square.any():
            summed = summed + square * take_rows(padded, which[:, k])
    noise = jnp.sqrt(summed) * draws[:count]
    if len(free) == 0:
        return noise
    kicks = jnp.sqrt(take_rows(variances, free)) * draws[count:]
    position = np.full(structure.reactions + 1, len(free), np.int32)
    position[free] = np.arange(len(free))
    kicks = jnp.concatenate([kicks, jnp.zeros(1, kind)])
    for k in range(which.shape[1]):
        if (~alone[:, k]).any():
            change = np.where(alone[:, k], 0, how[:, k]).astype(kind)
            noise = noise + change * take_rows(kicks, position[which[:, k]])
    return noise


def _free_reactions(structure: Structure) -> np.ndarray:
    """Positions of the reactions that change more than one species: each needs a normal of its own."""
    _, reaction, _ = structure.edges
    return np.flatnonzero(np.bincount(reaction, minlength=structure.reactions) > 1).astype(np.int32)


class _Walk(NamedTuple):
    """Values, the step of the grid that is next, and how many pieces of it are done."""

    values: State
    counter: UInt32[Array, ""]
    piece: UInt32[Array, ""]


_Step = Callable[[State, Span, Scalar, Array, Array], State]


def _walk(
    kinetics: AbstractKinetics,
    count: int,
    times: Times,
    perturbation: Perturbation,
    state: State,
    dt: Scalar,
    refresh: Scalar | None,
    step: _Step,
) -> Solution:
    """Steps of the grid `times[0] + k dt`, cut at the ends of spans."""
    kind = state.dtype
    first, dt = times[0].astype(kind), dt.astype(kind)

    def advance(own: _Walk, span: Span) -> tuple[_Walk, Array]:
        def before_end(carry: tuple[Scalar, _Walk]) -> Array:
            return carry[0] < span.right

        def one(carry: tuple[Scalar, _Walk]) -> tuple[Scalar, _Walk]:
            now, (values, counter, piece) = carry
            grid = first + (counter + 1).astype(kind) * dt
            whole = grid <= span.right + _NEAR * dt
            until = jnp.where(grid >= span.right - _NEAR * dt, span.right, grid)
            values = step(values, span, until - now, counter, piece)
            after = _Walk(
                values,
                jnp.where(whole, counter + 1, counter),
                jnp.where(whole, jnp.uint32(0), piece + 1),
            )
            return until, after

        own = own._replace(values=jnp.where(span.held > 0, span.level, own.values))
        _, own = jax.lax.while_loop(before_end, one, (span.left, own))
        finite = jnp.all(jnp.isfinite(own.values))
        return own, jnp.where(finite, Outcome.DONE.value, Outcome.NOT_FINITE.value).astype(int)

    begin = _Walk(state[:count], jnp.uint32(0), jnp.uint32(0))
    return march(kinetics, count, times, perturbation, state, refresh, begin, _values, advance)


def _values(own: _Walk) -> State:
    return own.values
