"""Exact sampling of single molecules: the stochastic simulation algorithm, as a modified next reaction method.

In a volume of size Omega (molecules per abundance unit) reaction r fires at rate `a_r = Omega v_r(n / Omega)`. Each
reaction counts its own unit-rate Poisson process: it fires when its internal time, `int a_r dt`, reaches the next
point of that process. Points come from a stream of random numbers of their own (stream = reaction, counter = firing),
so two cells with one key share the points: where nothing upstream differs, reactions fire at bitwise the same times.

The remaining internal time `R_r` of a reaction is settled only when its rate changes,

    R_r <- R_r - a_r (t - s_r),   s_r <- t,          next firing at s_r + R_r / a_r,

so a rate that does not change keeps its firing time untouched, whatever fires elsewhere. A switch of a perturbation
changes rates at its own time, not at the next firing. Added production (`drive`) is one further channel per species.

Source: D. F. Anderson, J. Chem. Phys. 127:214107 (2007), algorithm 3; T. G. Kurtz's random time change.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, UInt32

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.dynamics.structure import Structure
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import exponential, key_of
from pinnsim.shapes import Amounts, Rates, Scalar, State, Times
from pinnsim.simulate.jumps import Stops, jumps_of, through_instants, with_events
from pinnsim.simulate.march import Channels, Span, channels_of, march
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.sampler import AbstractSampler, Key, setting
from pinnsim.simulate.solve import Solution

_NEVER = 1 << 30
_ROUNDING = 1e-6  # molecules
_GROUP = 30


class SSA(AbstractSampler):
    """Exact jumps of molecule numbers.

    Exact in law where rates change by firings and switches only. Dose curves and hidden activities change in between:
    they are looked at on a grid, every `refresh` time units (error of second order; see `march`). Numbers at the start
    are rounded to whole molecules; a held species stays at its level, whole or not. In float32 times of firings are
    resolved to 1e-7 of the clock.

    **Arguments:** `size`: Omega, molecules per abundance unit; `max_events`: firings per cell, beyond which it ends
    with `MAX_STEPS`; `refresh`: time, or `None` for 1/20 of the fastest time constant.
    """

    size: Scalar
    max_events: Int[Array, ""]
    refresh: Scalar | None

    def __init__(self, size: ArrayLike = 1.0, max_events: ArrayLike = 100_000_000, refresh: ArrayLike | None = None):
        self.size = setting("size", size)
        self.max_events = jnp.asarray(max_events, dtype=int)
        self.refresh = None if refresh is None else setting("refresh", refresh)

    def sample(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, key: Key
    ) -> Solution:
        kinetics = resolve(kinetics)
        ruled = isinstance(kinetics, RuleSystem)
        channels = jumps_of(kinetics) if isinstance(kinetics, RuleSystem) else channels_of(kinetics)
        size = self.size.astype(state.dtype)
        words = key_of(key)
        # Half a molecule is one: numbers are never rounded below what they say by more than half.
        numbers = state[: channels.amounts] * size
        numbers = numbers if ruled else jnp.floor(numbers + 0.5)
        begin = _begin(channels.structure, numbers, times[0].astype(state.dtype), words)

        def advance(own: Jumps, span: Span) -> tuple[Jumps, Array]:
            return advanced(channels, words, size, self.max_events, own, span)[:2]

        if isinstance(kinetics, RuleSystem) and kinetics.events is not None:

            def fire(own: Jumps, span: Span, stops: Stops) -> tuple[Jumps, Array, Scalar]:
                return advanced(channels, words, size, self.max_events, own, span, stops)

            course = with_events(kinetics, times[0].astype(state.dtype), perturbation, begin, size)
            return march(
                kinetics, channels.amounts, times, perturbation, state, self.refresh, course,
                lambda own: own.jumps.numbers / size, partial(through_instants, kinetics, size, fire),
            )  # fmt: skip

        def amounts_of(own: Jumps) -> Amounts:
            return own.numbers / size

        return march(
            channels.kinetics, channels.amounts, times, perturbation, state, self.refresh, begin, amounts_of, advance
        )


class Jumps(NamedTuple):
    """Molecule numbers; per reaction the rate in force, since when it counts, what remained then, and firings; of added
    production the rate, the next arrival, what remained when the rate last changed, and arrivals; all firings."""

    numbers: Amounts
    rate: Rates
    since: Rates
    remaining: Rates
    fired: UInt32[Array, " reaction"]
    supply: Amounts
    arrivals: Amounts
    supply_remaining: Amounts
    supplied: UInt32[Array, " amount"]
    events: Int[Array, ""]


def _begin(structure: Structure, numbers: Amounts, first: Scalar, words: UInt32[Array, " 2"]) -> Jumps:
    kind = numbers.dtype
    streams = jnp.arange(structure.reactions + structure.species, dtype=jnp.uint32)
    points = exponential(words, 0, streams, kind)

    def split(array: Array) -> tuple[Array, Array]:
        return array[: structure.reactions], array[structure.reactions :]

    (rate, supply), (left, supply_left) = split(jnp.zeros_like(points)), split(points)
    fired, supplied = split(jnp.zeros_like(streams))
    events = jnp.zeros((), int)
    return Jumps(numbers, rate, rate + first, left, fired, supply, supply + jnp.inf, supply_left, supplied, events)


def _settled(now: Scalar, old: Array, new: Array, since: Array, remaining: Array) -> tuple[Array, Array]:
    """`since` and `remaining` after rates went from `old` to `new`."""
    changed = new != old
    return jnp.where(changed, now, since), jnp.where(changed, remaining - old * (now - since), remaining)


def _rescheduled(now: Scalar, own: Jumps, supply: Amounts) -> tuple[Amounts, Amounts]:
    """Arrivals of added production, and what remains until them, after its rates became `supply`. They are constant
    within a span, so arrivals are kept, not worked out at each firing."""
    changed, supplying = supply != own.supply, supply > 0
    left = jnp.where(own.arrivals < jnp.inf, own.supply * (own.arrivals - now), own.supply_remaining)
    arrivals = jnp.where(supplying, now + left / jnp.where(supplying, supply, 1.0), jnp.inf)
    return jnp.where(changed, arrivals, own.arrivals), jnp.where(changed, left, own.supply_remaining)


def advanced(
    channels: Channels,
    words: Array,
    size: Scalar,
    max_events: Int[Array, ""],
    own: Jumps,
    span: Span,
    stops: Stops | None = None,
) -> tuple[Jumps, Array, Scalar]:
    """Jumps up to the end of a span, or, where `stops(time, numbers)` is given, to the firing after which it is true.

    **Returns** jumps, outcome, and the time reached.
    """
    structure, whole, ruled = channels.structure, channels.whole, channels.numbered is not None
    kind, grain = own.numbers.dtype, 1.0 / size
    which, how = structure.slots
    reaction = jnp.arange(structure.reactions, dtype=jnp.int32)
    channel = jnp.arange(structure.species, dtype=jnp.int32) + structure.reactions
    free = 1.0 - span.held

    def rates(numbers: Amounts) -> Rates:
        plain = size * channels.rates(numbers * grain, span.hidden, span.edits, grain)
        if not ruled:
            return jnp.maximum(plain, 0.0)
        # Imported rates may have either sign, and may use up what is not there: then they are no propensities.
        absent = jnp.any(whole & (numbers < 0))
        return jnp.where(absent | ~(plain >= 0), jnp.nan, plain)

    # Whole again where a species was held at a level between two numbers and is so no longer.
    rounded = jnp.floor(own.numbers + 0.5)
    broken = jnp.any(whole & (span.held == 0) & (jnp.abs(own.numbers - rounded) > _ROUNDING)) if ruled else False
    numbers = jnp.where(span.held > 0, span.level * size, jnp.where(whole, rounded, own.numbers))
    rate, supply = rates(numbers), size * span.drive
    since, remaining = _settled(span.left, own.rate, rate, own.since, own.remaining)
    arrivals, supply_remaining = _rescheduled(span.left, own, supply)
    supplying = supply > 0

    def upcoming(rate: Rates, since: Rates, remaining: Rates, arrivals: Amounts) -> tuple[Scalar, Int[Array, ""]]:
        # An infinite rate would fire for ever at one time; it is reported when the span ends.
        running = (rate > 0) & (rate < jnp.inf)
        due = jnp.where(running, since + remaining / jnp.where(running, rate, 1.0), jnp.inf)
        now = jnp.minimum(_least(due), _least(arrivals))
        # One at a time: of several at one time the first.
        first = _least(jnp.where(due <= now, reaction, _NEVER))
        return now, jnp.minimum(first, _least(jnp.where(arrivals <= now, channel, _NEVER)))

    def before_end(carry: tuple) -> Array:
        now, events, stopped = carry[0], carry[-3], carry[-2]
        return (now < span.right) & (events < max_events) & ~stopped

    def fire(carry: tuple) -> tuple:
        now, chosen, numbers, rate, since, remaining, fired, arrivals, supplied, events, _, _ = carry
        change = jnp.where(channel == chosen, 1.0, 0.0).astype(kind)
        for k in range(which.shape[1]):
            change = change + jnp.where(which[:, k] == chosen, how[:, k].astype(kind), 0.0)
        numbers = numbers + free * change
        new = rates(numbers)
        here, there = reaction == chosen, channel == chosen
        count = _total(jnp.where(here, fired, 0)) + _total(jnp.where(there, supplied, 0)) + jnp.uint32(1)
        point = exponential(words, count, chosen, kind)
        since, remaining = _settled(now, rate, new, since, remaining)
        since, remaining = jnp.where(here, now, since), jnp.where(here, point, remaining)
        arrivals = jnp.where(there, now + point / jnp.where(supplying, supply, 1.0), arrivals)
        fired, supplied = jnp.where(here, count, fired), jnp.where(there, count, supplied)
        following = upcoming(new, since, remaining, arrivals)
        stopped = jnp.zeros((), bool) if stops is None else stops(now, numbers)
        return *following, numbers, new, since, remaining, fired, arrivals, supplied, events + 1, stopped, now

    begin = (
        *upcoming(rate, since, remaining, arrivals),
        numbers, rate, since, remaining, own.fired, arrivals, own.supplied, own.events, jnp.zeros((), bool), span.left,
    )  # fmt: skip
    *_, numbers, rate, since, remaining, fired, arrivals, supplied, events, stopped, last = jax.lax.while_loop(
        before_end, fire, begin
    )
    finite = jnp.all(jnp.isfinite(rate)) & jnp.all(jnp.isfinite(supply))
    outcome = jnp.where(events < max_events, Outcome.DONE.value, Outcome.MAX_STEPS.value)
    if ruled:
        # Once no number, what remains of a reaction is none for ever: nothing that went wrong on the way is lost.
        right = finite & ~broken & jnp.all(jnp.isfinite(remaining))
        outcome = jnp.where(right, outcome, Outcome.NO_JUMPS.value)
    else:
        outcome = jnp.where(finite, outcome, Outcome.NOT_FINITE.value)
    after = Jumps(numbers, rate, since, remaining, fired, supply, arrivals, supply_remaining, supplied, events)
    return after, outcome.astype(int), jnp.where(stopped, last, span.right)


def _least(values: Array) -> Array:
    return _reduced(jnp.min, values)


def _total(values: Array) -> Array:
    return _reduced(partial(jnp.sum, dtype=values.dtype), values)


def _reduced(reduce: Callable[..., Array], values: Array) -> Array:
    """`reduce` over the entries in groups: the compiler turns longer rows into a form that is slow on processors."""
    rows = values.shape[0]
    if rows <= _GROUP:
        return reduce(values, axis=0)
    groups = -(-rows // _GROUP)
    width = rows // groups
    whole = reduce(values[: groups * width].reshape(groups, width), axis=1)
    rest = values[groups * width :]
    return _reduced(reduce, jnp.concatenate([whole, rest]) if rest.shape[0] else whole)
