"""Back over a recorded solution: the exact derivative of the numbers that the batch solver returned.

A step is a function `(x, k, theta) -> (x', k', m)` of its state, its first slope, and all numbers theta, to the next
state and slope and what dense output needs; a saved reading is a linear function of both ends and m. So with the
cotangents of the readings given, turns are undone one by one, last first: the cotangents of a step's readings are added
to those of (x', k', m), and the transpose of the step's derivative gives those of (x, k) and its share of theta's.
Where a stretch begins, x is set where it is held and k is the field there. A switch at time tau has the cotangent
`lambda . (f before - f after)`, lambda being that of the state. Otherwise step lengths are taken as they were: they are
no smooth function of anything (diffrax makes the same choice).

States that were not remembered are computed again from the last one that was, with the recorded steps. Lanes that
failed are replaced by copies of one that did not, with cotangents of zero, so that nothing of theirs is ever touched:
their gradient is exactly zero and no other lane's is affected.

Source: W. W. Hager, Numer. Math. 87:247 (2000), on the discrete adjoint of Runge-Kutta methods; A. Griewank,
Optim. Methods Softw. 1:35 (1992), on what to remember.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.lanes import lanes_last
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.adaptive import Ends
from pinnsim.simulate.recorded import Common, How, Own, Record, Recorded, acting, entered, window
from pinnsim.simulate.result import Outcome

_IDLE = 1e-9  # share of the span that stands for the step of a lane that took none: its result is not used


class Cotangents(NamedTuple):
    """Gradients of a block: `common` for what lanes share, `own` and `state` (species, lane) for what they do not.
    Trees have `None` where nothing was asked for."""

    common: Any
    own: Any
    state: Float[Array, "species lane"]


class _Carry(NamedTuple):
    common: Any
    own: Any
    state: Array
    slope: Array


def reversed_over(
    how: How,
    wanted: tuple[Common, Own],
    common: Common,
    own: Own,
    times: Times,
    solved: Recorded,
    readings: Float[Array, "time species lane"],
) -> Cotangents:
    """Gradients of `sum(readings * states)`.

    **Arguments:** `wanted`: which leaves of `common` and `own` to differentiate (trees of flags); `solved`: what
    `recorded` returned; `readings`: cotangents of its states. Those of lanes that failed do not count.
    """
    record = solved.record
    good = solved.outcome == Outcome.DONE
    donor = jnp.argmax(good)

    def usable(array: Array) -> Array:
        """Failed lanes replaced."""
        return _either(good, array, array[..., donor][..., None])

    def at(turn: Array) -> tuple[Array, Array, Array]:
        return usable(record.before[turn]), usable(record.after[turn]), usable(record.opened[turn])

    def remembered(place: Array) -> tuple[Array, Array]:
        return usable(record.states[place]), usable(record.slopes[place])

    own = jax.tree.map(usable, own)
    readings = jnp.where(jnp.broadcast_to(good, readings.shape), readings, 0.0)
    common_asked, common_rest = eqx.partition(common, wanted[0])
    own_asked, own_rest = eqx.partition(own, wanted[1])
    idle = _IDLE * (times[-1] - times[0])

    def step_lane(shared: tuple, lane: tuple) -> tuple[State, State, tuple[State, ...], Scalar]:
        common, times = shared
        own, time, step, state, slope = lane
        # Fused across stages, the derivative of one stage would be computed once for each use of it.
        here = acting(how, common, own, times, time, apart=True)
        tried = how.pair.attempt(here.field, time, state, slope, step)
        return tried.state, tried.slope, tried.inside, here.right

    def enter_lane(shared: tuple, lane: tuple) -> tuple[State, State]:
        common, times = shared
        own, time, state = lane
        return entered(acting(how, common, own, times, time), time, state)

    def leave_lane(shared: tuple, lane: tuple) -> State:
        common, times = shared
        own, time, then, state = lane
        return acting(how, common, own, times, time).field(then, state)

    def left_lane(shared: tuple, lane: tuple) -> Scalar:
        common, times = shared
        own, time = lane
        return acting(how, common, own, times, time).left

    def all_lanes(fn: Callable, *known: Array) -> Callable:
        """As a function of what is asked for, of the given numbers and of others."""

        def mapped(common_asked: Any, own_asked: Any, *others: Array) -> Any:
            common, own = eqx.combine(common_asked, common_rest), eqx.combine(own_asked, own_rest)
            return lanes_last(fn)((common, times), (own, *known, *others))

        return mapped

    def undo(turn: Array, state: Array, slope: Array, carry: _Carry) -> _Carry:
        time, then, opened = at(turn)
        moved = then > time
        step = jnp.where(moved, then - time, idle)
        (new, last, inside, right), pull = jax.vjp(
            all_lanes(step_lane, time, step), common_asked, own_asked, state, slope
        )
        zeros = (jnp.zeros_like(state), jnp.zeros_like(new), jnp.zeros_like(state), jnp.zeros_like(new),
                 jax.tree.map(jnp.zeros_like, inside))  # fmt: skip
        x0, x1, f0, f1, middle = _read_back(how, times, time, then, moved, step, readings, zeros)
        asked = _masked(moved, (carry.state + x1, carry.slope + f1, middle))
        # A switch that comes later leaves the state to the field before it for longer, and less to that after it.
        leaving = moved & (then >= right)
        # Not the slope of the pair, which may have no use for the one at its end.
        last = jax.lax.cond(
            jnp.any(leaving), lambda: all_lanes(leave_lane, time, then)(common_asked, own_asked, new), lambda: last
        )
        later = jnp.where(leaving, jnp.sum(carry.state * last, axis=0), 0.0)
        by_common, by_own, by_state, by_slope = pull((*asked, later))
        by_state, by_slope = by_state + x0, by_slope + f0
        begins = moved & opened

        def enter() -> tuple[Any, Any, Array]:
            _, back = jax.vjp(all_lanes(enter_lane, time), common_asked, own_asked, state)
            more = back(_masked(begins, (by_state, by_slope)))
            _, back = jax.vjp(all_lanes(left_lane, time), common_asked, own_asked)
            less = back(jnp.where(begins, -jnp.sum(more[2] * slope, axis=0), 0.0))
            found = _sum((by_common, by_own), _sum(more[:2], less))
            return *found, _either(begins, more[2], by_state)

        by_common, by_own, by_state = jax.lax.cond(jnp.any(begins), enter, lambda: (by_common, by_own, by_state))
        by_slope = _either(begins, jnp.zeros_like(by_slope), by_slope)
        return _Carry(
            _sum(carry.common, by_common),
            _sum(carry.own, by_own),
            _either(moved, by_state, carry.state),
            _either(moved, by_slope, carry.slope),
        )

    nothing = jnp.zeros(record.states.shape[1:], record.states.dtype)
    by_common, by_own = jax.tree.map(jnp.zeros_like, (common_asked, own_asked))
    carry = _Carry(by_common, by_own, nothing, nothing)
    turns = jnp.where(jnp.any(good), record.turns, 0)
    if record.states.shape[0] >= record.before.shape[0]:
        carry = _downwards(turns, lambda turn, carry: undo(turn, *remembered(turn), carry), carry)
    else:

        def again(turn: Array, state: Array, slope: Array) -> tuple[Array, Array]:
            """State and slope of the turn after."""
            time, then, _ = at(turn)
            moved = then > time
            step = jnp.where(moved, then - time, idle)
            new, last, _, _ = all_lanes(step_lane, time, step)(common_asked, own_asked, state, slope)
            new, last = _either(moved, new, state), _either(moved, last, slope)
            fresh = at(turn + 1)[2] & moved
            return jax.lax.cond(
                jnp.any(fresh),
                lambda: _either(fresh, all_lanes(enter_lane, then)(common_asked, own_asked, new), (new, last)),
                lambda: (new, last),
            )

        carry = _by_stretches(record, turns, remembered, again, undo, carry)
    at_start = readings[0]
    own_found = _masked(good, carry.own)
    return Cotangents(carry.common, own_found, carry.state + at_start)


def _downwards(count: Array, undo: Callable[[Array, Any], Any], carry: Any) -> Any:
    """`undo(count - 1), ..., undo(0)`."""
    begin = (count - 1, carry)
    return jax.lax.while_loop(lambda c: c[0] >= 0, lambda c: (c[0] - 1, undo(*c)), begin)[1]


def _by_stretches(
    record: Record, turns: Array, remembered: Callable, again: Callable, undo: Callable, carry: _Carry
) -> _Carry:
    """Between two remembered states there are `stride` turns: those are walked again, then undone."""
    places, longest = record.states.shape[0], 1
    while longest * places < record.before.shape[0]:
        longest *= 2
    room = jnp.zeros((longest, *record.states.shape[1:]), record.states.dtype)

    def stretch(place: Array, both: tuple[_Carry, Array, Array]) -> tuple[_Carry, Array, Array]:
        carry, states, slopes = both
        first = place * record.stride
        count = jnp.minimum(record.stride, turns - first)

        def on(c: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            k, states, slopes = c
            state, slope = again(first + k, states[k], slopes[k])
            return k + 1, states.at[k + 1].set(state), slopes.at[k + 1].set(slope)

        state, slope = remembered(place)
        begin = (jnp.zeros((), int), states.at[0].set(state), slopes.at[0].set(slope))
        _, states, slopes = jax.lax.while_loop(lambda c: c[0] < count - 1, on, begin)
        carry = _downwards(count, lambda k, carry: undo(first + k, states[k], slopes[k], carry), carry)
        return carry, states, slopes

    return _downwards((turns + record.stride - 1) // record.stride, stretch, (carry, room, room))[0]


def _read_back(
    how: How, times: Times, time: Array, then: Array, moved: Array, step: Array, readings: Array, zeros: tuple
) -> tuple:
    """Cotangents of a step's ends, slopes and inside from those of the readings within it."""
    start, stop, least, most = window(times, time, then)

    def read_lane(_: None, lane: tuple) -> State:
        share, step, (x0, x1, f0, f1, inside) = lane
        return how.pair.between(share, Ends(x0, x1, step * f0, step * f1), inside)

    def row(carry: tuple[Array, tuple]) -> tuple[Array, tuple]:
        place, found = carry
        here = (start <= place) & (place < stop) & moved
        share = jnp.where(here, (times[place] - time) / step, 0.0)
        # A reading is linear in what it is made of, so any point will do.
        _, pull = jax.vjp(lambda parts: lanes_last(read_lane)(None, (share, step, parts)), zeros)
        return place + 1, _sum(found, pull(_masked(here, readings[place]))[0])

    return jax.lax.while_loop(lambda carry: carry[0] < most, row, (least, zeros))[1]


def _either(where: Array, this: Any, that: Any) -> Any:
    """By lane."""
    return jax.tree.map(lambda a, b: jnp.where(jnp.broadcast_to(where, a.shape), a, b), this, that)


def _masked(where: Array, tree: Any) -> Any:
    return _either(where, tree, jax.tree.map(jnp.zeros_like, tree))


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
