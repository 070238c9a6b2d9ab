"""The batch solver once more, written down as it goes, so that `pinnsim.simulate.reverse` can go back over it.

Every lane has its own clock and step, as in `adaptive`; one turn of the loop tries one step in every lane that is not
done. Lanes do not wait for one another anywhere: saved times that a step passes are filled in by its dense output. Of
every turn the record has each lane's time before and after (equal where no step was taken), and state and slope before
it, at every `stride`-th turn: there is room for so many, and when it is full, every other one is dropped and the stride
doubles. So memory does not grow with the number of steps, and a short solution is never computed twice.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.lanes import lanes_last
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.adaptive import AbstractPair, Field, Limits, Walk, begun, state_between, stepped_once
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.solve import segments
from pinnsim.tree import replaced


class Common(NamedTuple):
    """What all lanes share: the model, resolved, and the perturbation where it is one for all."""

    kinetics: AbstractKinetics
    perturbation: Perturbation | None


class Own(NamedTuple):
    """What a lane has of its own: numbers of the model by name, and the perturbation where each has one."""

    numbers: dict[str, Array]
    perturbation: Perturbation | None


class How(eqx.Module):
    """How to solve: the pair, tolerances and steps allowed, whether dose curves move, how many states are remembered,
    and how many turns there is room for."""

    pair: AbstractPair
    rtol: Scalar
    atol: Scalar
    max_steps: int = eqx.field(static=True)
    moving: bool = eqx.field(static=True)
    remembered: int = eqx.field(static=True)
    turns: int = eqx.field(static=True)

    @property
    def limits(self) -> Limits:
        """As `adaptive` has them."""
        return Limits(self.rtol, self.atol, self.max_steps)


class Record(NamedTuple):
    """What was done, lanes last. `before`, `after`: (turn, lane); `opened`: (turn, lane), true where the slope is not
    the last step's own, because a stretch begins; `states`, `slopes`: (place, species, lane), those of turn
    `place * stride`; `turns`: how many there were."""

    before: Float[Array, "turn lane"]
    after: Float[Array, "turn lane"]
    opened: Bool[Array, "turn lane"]
    states: Float[Array, "place species lane"]
    slopes: Float[Array, "place species lane"]
    turns: Int[Array, ""]
    stride: Int[Array, ""]


class Recorded(NamedTuple):
    """Solutions of a block of lanes, lanes last, with their record."""

    states: Float[Array, "time species lane"]
    outcome: Int[Array, " lane"]
    reached: Float[Array, " lane"]
    record: Record


class Here(NamedTuple):
    """What acts on a lane at its time: the field between the switches at `left` and `right`, and what is held."""

    field: Field
    edits: Edits
    left: Scalar
    right: Scalar


def acting(how: How, common: Common, own: Own, times: Times, time: Scalar, apart: bool = False) -> Here:
    """What acts from `time` to the next switch, or to the last of `times`. `apart`: see `Field`."""
    perturbation = _given(common, own)
    edges = segments(perturbation, times[0], times[-1])
    left = jnp.max(jnp.where(edges <= time, edges, times[0]))
    right = jnp.min(jnp.where(edges > time, edges, times[-1]))
    local = perturbation.during(left, right)
    # In the middle, because a dose that is still being absorbed does not hold yet at its very start.
    edits = local.at(0.5 * (left + right))
    field = Field(replaced(common.kinetics, own.numbers), local if how.moving else Constant(edits), apart)
    return Here(field, edits, left, right)


def entered(here: Here, time: Scalar, state: State) -> tuple[State, State]:
    """State and slope at the start of a stretch: what is held is set."""
    state = jnp.where(here.edits.hold, here.edits.level, state)
    return state, here.field(time, state)


class _Carry(NamedTuple):
    walk: Walk
    fresh: Bool[Array, " lane"]
    opened: Bool[Array, " lane"]
    shown: Float[Array, "time species lane"]
    record: Record


def recorded(how: How, common: Common, own: Own, times: Times, state: Float[Array, "species lane"]) -> Recorded:
    """From `times[0]` to the last time, for a block of lanes.

    **Arguments:** `own`, `state`: lanes last; `times`: (time,), increasing, for all lanes.
    """
    species, lanes = state.shape
    kind = state.dtype
    first, last = times[0], times[-1]

    def open_lane(shared: tuple, lane: tuple) -> Walk:
        common, times = shared
        own, walk = lane
        here = acting(how, common, own, times, walk.time)
        entering, _ = entered(here, walk.time, walk.state)
        return begun(here.field, how.pair, walk.time, entering, walk.outcome, how.limits)

    def step_lane(shared: tuple, lane: tuple) -> tuple[Walk, Array]:
        common, times = shared
        own, walk = lane
        here = acting(how, common, own, times, walk.time)
        walk = stepped_once(here.field, how.pair, walk, here.right, how.limits)
        return walk, walk.time >= here.right

    def turn(carry: _Carry) -> _Carry:
        walk, record = carry.walk, carry.record
        fresh = carry.fresh & _going(walk, last)
        walk = jax.lax.cond(
            jnp.any(fresh), lambda: _chosen(fresh, lanes_last(open_lane)((common, times), (own, walk)), walk),
            lambda: walk,
        )  # fmt: skip
        opened = carry.opened | fresh
        going = _going(walk, last)
        new, ended = lanes_last(step_lane)((common, times), (own, walk))
        new = _chosen(going, new, walk)
        moved = going & (new.time > walk.time)
        record = _noted(record, walk, new, moved, opened)
        shown = _filled(how.pair, carry.shown, times, walk.time, new, moved)
        return _Carry(new, moved & ended, opened & ~moved, shown, record)

    idle = jnp.broadcast_to(first, (lanes,))
    start = Walk(idle, state, state, idle, idle, jnp.zeros(lanes, int), jnp.full(lanes, Outcome.DONE.value), idle,
                 state, state, ())  # fmt: skip
    shapes = jax.eval_shape(lambda: lanes_last(open_lane)((common, times), (own, start)))
    start = start._replace(inside=jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes.inside))
    most = min(how.max_steps * (2 * _given(common, own).start.shape[0] + 1), how.turns)
    places = min(how.remembered, most)
    record = Record(
        before=jnp.zeros((most, lanes), kind),
        after=jnp.zeros((most, lanes), kind),
        opened=jnp.zeros((most, lanes), bool),
        states=jnp.zeros((places, species, lanes), kind),
        slopes=jnp.zeros((places, species, lanes), kind),
        turns=jnp.zeros((), int),
        stride=jnp.ones((), int),
    )
    shown = jnp.broadcast_to(state, (times.shape[0], species, lanes))
    everywhere = jnp.ones(lanes, bool)
    carry = _Carry(start, everywhere, ~everywhere, shown, record)
    carry = jax.lax.while_loop(lambda c: jnp.any(_going(c.walk, last)) & (c.record.turns < most), turn, carry)
    outcome = jnp.where(_going(carry.walk, last), Outcome.MAX_STEPS, carry.walk.outcome)
    return Recorded(carry.shown, outcome, carry.walk.time, carry.record)


def _given(common: Common, own: Own) -> Perturbation:
    given = own.perturbation if common.perturbation is None else common.perturbation
    if given is None:
        raise TypeError("Lanes need a perturbation, in common or each their own.")
    return given


def _going(walk: Walk, last: Scalar) -> Bool[Array, " lane"]:
    return (walk.time < last) & (walk.outcome == Outcome.DONE)


def _chosen(where: Bool[Array, " lane"], this: Any, that: Any) -> Any:
    """By lane."""
    return jax.tree.map(lambda a, b: jnp.where(jnp.broadcast_to(where, a.shape), a, b), this, that)


def passed(times: Times, moment: Float[Array, " lane"]) -> Int[Array, " lane"]:
    """How many of the times lie no later than each lane's moment."""
    return jnp.sum((times[:, None] <= moment[None, :]).astype(int), axis=0)


def window(
    times: Times, before: Float[Array, " lane"], after: Float[Array, " lane"]
) -> tuple[Int[Array, " lane"], Int[Array, " lane"], Int[Array, ""], Int[Array, ""]]:
    """The saved times that each lane passes, from `start` to before `stop`, and the least and largest of these."""
    start, stop = passed(times, before), passed(times, after)
    moves = stop > start
    return start, stop, jnp.min(jnp.where(moves, start, times.shape[0])), jnp.max(jnp.where(moves, stop, 0))


def _filled(
    pair: AbstractPair, shown: Array, times: Times, before: Float[Array, " lane"], walk: Walk,
    moved: Bool[Array, " lane"],
) -> Array:  # fmt: skip
    """Saved times that were passed in this turn."""
    start, stop, least, most = window(times, before, jnp.where(moved, walk.time, before))

    def read(time: Scalar, walk: Walk) -> State:
        return state_between(pair, walk, time)

    def row(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        place, shown = carry
        here = jnp.broadcast_to((start <= place) & (place < stop), shown.shape[1:])
        return place + 1, shown.at[place].set(jnp.where(here, lanes_last(read)(times[place], walk), shown[place]))

    return jax.lax.while_loop(lambda carry: carry[0] < most, row, (least, shown))[1]


def _noted(record: Record, walk: Walk, new: Walk, moved: Array, opened: Array) -> Record:
    """The record with one more turn."""
    turn, places = record.turns, record.states.shape[0]
    states, slopes, stride = record.states, record.slopes, record.stride
    if places < record.before.shape[0]:
        # A loop of one turn at most: a branch would copy what it does not change.
        _, states, slopes, stride = jax.lax.while_loop(
            lambda c: turn >= c[3] * places, _thinned, (turn, states, slopes, stride)
        )
    place = turn // stride
    due = turn % stride == 0
    return Record(
        before=record.before.at[turn].set(walk.time),
        after=record.after.at[turn].set(jnp.where(moved, new.time, walk.time)),
        opened=record.opened.at[turn].set(opened),
        states=states.at[place].set(jnp.where(due, walk.state, states[place])),
        slopes=slopes.at[place].set(jnp.where(due, walk.slope, slopes[place])),
        turns=turn + 1,
        stride=stride,
    )


def _thinned(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Every other place is dropped."""
    turn, states, slopes, stride = carry

    def move(place: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        states, slopes = both
        return states.at[place].set(states[2 * place]), slopes.at[place].set(slopes[2 * place])

    states, slopes = jax.lax.fori_loop(0, states.shape[0] // 2, move, (states, slopes))
    return turn, states, slopes, 2 * stride
