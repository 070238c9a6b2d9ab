"""Many firings at once: explicit tau leaping.

In a leap of length tau reaction r fires Poisson(a_r tau) times, with all rates as they were at its start. The leap is
short enough that no rate changes by more than about a share `epsilon` in mean or standard deviation,

    tau = min_i min( b_i / |mu_i|,  b_i^2 / sigma2_i ),      b_i = max(epsilon n_i / g_i, 1),
    mu = S a,   sigma2 = S^2 a,   g_i = order of the fastest-changing rate that species i enters.

Reactions within ten firings of using up a reactant are critical: at most one of them fires per leap, at an exact
exponential time. A leap shorter than a few mean waiting times makes every reaction critical, which is an exact step;
a leap that would still make a number negative is halved and drawn anew. Numbers never become negative.

Source: Y. Cao, D. T. Gillespie and L. R. Petzold, J. Chem. Phys. 124:044109 (2006), equations 26, 33 and section III.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.reactions import MassAction, ReactionSystem
from pinnsim.dynamics.structure import Structure, net_change
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import exponential, key_of, poisson
from pinnsim.shapes import Amounts, Rates, Scalar, State, Times
from pinnsim.simulate.march import Channels, Span, channels_of, march
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.sampler import AbstractSampler, Key, setting
from pinnsim.simulate.solve import Solution

_CRITICAL = 10.0  # firings from exhaustion
_WORTHWHILE = 5.0  # mean firings in a leap below which single exact steps are taken
_STEEPEST = 4.0  # order that a rate law without known orders may have: Hill exponents reach 4


class TauLeaping(AbstractSampler):
    """Approximate jumps of molecule numbers, many at a time: for numbers that are large and rates that are fast.

    **Arguments:** `size`: Omega, molecules per abundance unit; `epsilon`: share by which rates may change in a leap;
    `max_leaps`: leaps per cell, beyond which it ends with `MAX_STEPS`; `refresh`: as in `SSA`.

    Good values: epsilon 0.03; 0.01 where tails matter.
    """

    size: Scalar
    epsilon: Scalar
    max_leaps: Int[Array, ""]
    refresh: Scalar | None

    def __init__(
        self,
        size: ArrayLike = 1.0,
        epsilon: ArrayLike = 0.03,
        max_leaps: ArrayLike = 10_000_000,
        refresh: ArrayLike | None = None,
    ):
        self.size, self.epsilon = setting("size", size), setting("epsilon", epsilon)
        self.max_leaps = jnp.asarray(max_leaps, dtype=int)
        self.refresh = None if refresh is None else setting("refresh", refresh)

    def sample(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, key: Key
    ) -> Solution:
        channels, words = channels_of(resolve(kinetics)), key_of(key)
        size = self.size.astype(state.dtype)
        epsilon = self.epsilon.astype(state.dtype)
        numbers = jnp.floor(state[: channels.amounts] * size + 0.5)
        zero = jnp.zeros((), int)

        def advance(own: _Leaps, span: Span) -> tuple[_Leaps, Array]:
            return _advance(channels, words, size, epsilon, self.max_leaps, own, span)

        def amounts_of(own: _Leaps) -> Amounts:
            return own.numbers / size

        begin = _Leaps(numbers, zero)
        return march(
            channels.kinetics, channels.amounts, times, perturbation, state, self.refresh, begin, amounts_of, advance
        )


class _Leaps(NamedTuple):
    numbers: Amounts
    leaps: Int[Array, ""]


def _advance(
    channels: Channels,
    words: Array,
    size: Scalar,
    epsilon: Scalar,
    max_leaps: Int[Array, ""],
    own: _Leaps,
    span: Span,
) -> tuple[_Leaps, Array]:
    structure = _with_supply(channels.structure)
    kind, grain = own.numbers.dtype, 1.0 / size
    orders = _orders(channels).astype(kind)
    free = 1.0 - span.held
    streams = jnp.arange(structure.reactions, dtype=jnp.uint32)

    def rates(numbers: Amounts) -> Rates:
        made = jnp.maximum(channels.rates(numbers * grain, span.hidden, span.edits, grain), 0.0)
        return size * jnp.concatenate([made, span.drive])

    def longest(numbers: Amounts, rate: Rates) -> Scalar:
        """The leap condition over all species."""
        reach = jnp.maximum(epsilon * numbers / orders, 1.0)
        mean = jnp.abs(net_change(structure, rate)) * free
        variance = net_change(_squared(structure), rate) * free
        tiny = jnp.finfo(kind).tiny
        return jnp.min(jnp.minimum(reach / jnp.maximum(mean, tiny), reach**2 / jnp.maximum(variance, tiny)))

    def before_end(carry: tuple) -> Array:
        now, _, leaps, _, rate = carry
        return (now < span.right) & (leaps < max_leaps) & jnp.all(jnp.isfinite(rate))

    def leap(carry: tuple) -> tuple:
        now, numbers, leaps, cap, rate = carry
        left = span.right - now
        length = jnp.minimum(longest(numbers, rate), cap)
        single = length * jnp.sum(rate) < _WORTHWHILE
        critical = (_near_exhaustion(structure, numbers, span.held) | single) & (rate > 0)
        points = exponential(words, leaps, streams + jnp.uint32(structure.reactions), kind)
        due = jnp.where(critical, points / jnp.where(critical, rate, 1.0), jnp.inf)
        soonest = jnp.min(due)
        # An exact step is as long as its waiting time.
        length = jnp.minimum(jnp.where(single, left, jnp.minimum(length, left)), soonest)
        fires = critical & (due <= length) & (soonest < left)
        counts = poisson(words, leaps, streams, jnp.where(critical, 0.0, rate * length))
        changed = numbers + free * net_change(structure, counts + jnp.where(fires, 1.0, 0.0))
        bad = jnp.any(changed < 0)
        numbers = jnp.where(bad, numbers, changed)
        # Exactly the end where it is reached, so that rounding leaves no sliver.
        now = jnp.where(bad, now, jnp.where(length >= left, span.right, now + length))
        cap = jnp.where(bad, 0.5 * length, jnp.inf)
        return now, numbers, leaps + 1, cap, rates(numbers)

    numbers = jnp.where(span.held > 0, span.level * size, jnp.floor(own.numbers + 0.5))
    begin = (span.left, numbers, own.leaps, jnp.asarray(jnp.inf, kind), rates(numbers))
    _, numbers, leaps, _, rate = jax.lax.while_loop(before_end, leap, begin)
    outcome = jnp.where(leaps < max_leaps, Outcome.DONE.value, Outcome.MAX_STEPS.value)
    outcome = jnp.where(jnp.all(jnp.isfinite(rate)), outcome, Outcome.NOT_FINITE.value)
    return _Leaps(numbers, leaps), outcome.astype(int)


def _with_supply(structure: Structure) -> Structure:
    """One more reaction per species, which makes one of it: added production."""
    extra = tuple((i, structure.reactions + i, 1) for i in range(structure.species))
    return Structure(
        structure.species,
        structure.reactions + structure.species,
        (*structure.reactants, *(((),) * structure.species)),
        (*structure.changes, *extra),
    )


def _squared(structure: Structure) -> Structure:
    return Structure(
        structure.species,
        structure.reactions,
        structure.reactants,
        tuple((i, r, change**2) for i, r, change in structure.changes),
    )


def _orders(channels: Channels) -> np.ndarray:
    """g, (species,): the highest order of a reaction that a species enters."""
    kinetics, structure = channels.kinetics, channels.structure
    if not (isinstance(kinetics, ReactionSystem) and isinstance(kinetics.law, MassAction)):
        return np.full(structure.species, _STEEPEST)
    orders = np.ones(structure.species)
    for used in structure.reactants:
        for i in used:
            orders[i] = max(orders[i], len(used))
    return orders


def _near_exhaustion(structure: Structure, numbers: Amounts, held: Amounts) -> Bool[Array, " reaction"]:
    """Reactions that can fire fewer than `_CRITICAL` times before a species that they use up is gone."""
    species, reaction, change = structure.edges
    uses_up = change < 0
    slots = Structure(structure.reactions, structure.species, (), tuple(
        (int(r), int(i), int(-c)) for i, r, c in zip(species[uses_up], reaction[uses_up], change[uses_up], strict=True)
    ))  # fmt: skip
    which, need = slots.slots
    plenty = jnp.concatenate([jnp.where(held > 0, jnp.inf, numbers), jnp.full(1, jnp.inf, numbers.dtype)])
    near = jnp.zeros(structure.reactions, bool)
    for k in range(which.shape[1]):
        near = near | (plenty[which[:, k]] < _CRITICAL * np.maximum(need[:, k], 1).astype(numbers.dtype))
    return near
