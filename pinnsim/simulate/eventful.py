"""The adaptive solver for a model with events: many lanes side by side, each with its own instants.

Steps end at switches of perturbations and at executions that are due. Every step is looked at in several places of its
dense output for conditions that changed; where one did, the step is cut at the first such moment, bracketed down to
neighbouring numbers, the events of that instant happen, and the lane goes on with a slope and a first step of its own.
A value reported at an instant is the one after it.

What is remembered between instants has a fixed size (`pinnsim.dynamics.events.Waiting`), so that one program serves a
whole sweep: constants that move triggers, delays and priorities do not recompile. Forward only.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.events import FINE, FULL, Waiting, next_due, settled
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.adaptive import AbstractPair, Field, Limits, Walk, begun, state_between, stepped_once
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.solve import Solution, segments

_LOOKS = 8  # places of a step that are looked at
_MOST = 100_000  # instants of a lane


class _Course(NamedTuple):
    """Where a lane is. `seen`: the last step, whole, for interpolation; `before`: conditions where it is; `fresh`:
    whether slope and conditions are still to be worked out; `instants`: how many there were."""

    walk: Walk
    seen: Walk
    waiting: Waiting
    before: Float[Array, " condition"]
    fresh: Bool[Array, ""]
    instants: Int[Array, ""]


class _Here(NamedTuple):
    """What acts from now on, up to `right`."""

    perturbation: Perturbation
    edits: Edits
    right: Scalar


def integrate_with_events(
    kinetics: RuleSystem,
    times: Times,
    perturbation: Perturbation,
    state: State,
    pair: AbstractPair,
    limits: Limits,
    moving: bool,
) -> Solution:
    """As `pinnsim.simulate.adaptive.integrate`, for a model with events."""
    events, kind = kinetics.events, state.dtype
    if events is None:
        raise TypeError("The model has no events.")
    times = times.astype(kind)
    limits = Limits(limits.rtol.astype(kind), limits.atol.astype(kind), limits.max_steps)
    edges = segments(perturbation, times[0], times[-1])
    watched = events.watching.positions(events.conditions)
    triggers = len(events.triggers)

    def here(time: Scalar) -> _Here:
        left = jnp.max(jnp.where(edges <= time, edges, times[0]))
        right = jnp.min(jnp.where(edges > time, edges, times[-1]))
        local = perturbation.during(left, right)
        return _Here(local, local.at(0.5 * (left + right)), right)

    def edits_at(now: _Here, time: Scalar) -> Edits:
        return now.perturbation.at(time) if moving else now.edits

    def field(now: _Here) -> Field:
        return Field(kinetics, now.perturbation if moving else Constant(now.edits))

    def tell(now: _Here, time: Scalar, state: State) -> Array:
        return events.telling.run(kinetics.given(time, state, edits_at(now, time)))

    def conditions(now: _Here, time: Scalar, state: State) -> Array:
        values = events.watching.run(kinetics.given(time, state, edits_at(now, time)))[watched]
        values = jnp.where(jnp.isnan(values), 0.0, values)
        # Any number but 0 is true.
        return jnp.where(jnp.arange(values.size) < triggers, (values != 0).astype(kind), values)

    def happened(now: _Here, waiting: Waiting, time: Scalar, state: State) -> tuple[Waiting, State]:
        def held(state: State) -> State:
            return jnp.where(now.edits.hold, now.edits.level, state)

        return settled(events, waiting, time, state, partial(tell, now), jax.lax.while_loop, jnp, held)

    def opened(course: _Course) -> _Course:
        walk = course.walk
        now = here(walk.time)
        state = jnp.where(now.edits.hold, now.edits.level, walk.state)
        begin = begun(field(now), pair, walk.time, state, walk.outcome, limits)
        before = conditions(now, walk.time, state)
        # Triggers as they were noticed: an instant missed by rounding is noticed right after it.
        before = jnp.concatenate([course.waiting.on.astype(kind), before[triggers:]])
        walk = begin._replace(steps=walk.steps)
        return course._replace(walk=walk, before=before, fresh=jnp.zeros_like(course.fresh))

    def located(now: _Here, walk: Walk, left: Scalar, before: Array) -> tuple[Array, Scalar]:
        """Whether a condition changed in the last step, and the first moment at which it had."""

        def differs(time: Scalar) -> Array:
            return jnp.any(conditions(now, time, state_between(pair, walk, time)) != before)

        share = jnp.arange(1, _LOOKS + 1).astype(kind) / _LOOKS
        looks = jnp.where(share < 1, left + share * (walk.time - left), walk.time)
        others = jax.vmap(differs)(looks)
        first = others & (jnp.cumsum(others.astype(int)) == 1)
        earlier = jnp.concatenate([left[None], looks[:-1]])
        found = jnp.any(others) & (walk.time > left)

        def more(ends: tuple[Scalar, Scalar]) -> Array:
            low, high = ends
            middle = 0.5 * (low + high)
            return found & (low < middle) & (middle < high)

        def closer(ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = ends
            middle = 0.5 * (low + high)
            other = differs(middle)
            return jnp.where(other, low, middle), jnp.where(other, middle, high)

        begin = (jnp.sum(jnp.where(first, earlier, 0.0)), jnp.sum(jnp.where(first, looks, 0.0)))
        return found, jax.lax.while_loop(more, closer, begin)[1]

    def turn(course: _Course) -> _Course:
        # Loops of one turn at most: as lanes last, a branch would run for every lane.
        course = jax.lax.while_loop(lambda c: c.fresh, opened, course)
        walk = course.walk
        now, due = here(walk.time), next_due(course.waiting)
        new = stepped_once(field(now), pair, walk, jnp.minimum(now.right, due), limits)
        moved = new.time > walk.time
        found, moment = located(now, new, walk.time, course.before)
        stop = jnp.where(found, moment, new.time)
        state = jnp.where(found, state_between(pair, new, stop), new.state)
        happens = moved & (found | (due <= stop))

        def instant(carry: tuple) -> tuple:
            return (jnp.zeros_like(happens), *happened(now, carry[1], stop, carry[2]))

        _, waiting, state = jax.lax.while_loop(lambda c: c[0], instant, (happens, course.waiting, state))
        instants = course.instants + happens.astype(int)
        outcome = _with_trouble(new.outcome, waiting, instants)
        seen = jax.tree.map(lambda a, b: jnp.where(moved, a, b), new, course.seen)
        walk = new._replace(time=stop, state=state, outcome=outcome, steps=jnp.where(happens, 0, new.steps))
        return _Course(walk, seen, waiting, course.before, happens | (moved & (stop >= now.right)), instants)

    def through(course: _Course, target: Scalar) -> tuple[_Course, State]:
        def more(course: _Course) -> Array:
            return (course.walk.time < target) & (course.walk.outcome == Outcome.DONE)

        course = jax.lax.while_loop(more, turn, course)
        shown = jnp.where(course.walk.time <= target, course.walk.state, state_between(pair, course.seen, target))
        return course, shown

    now = here(times[0])
    state = jnp.where(now.edits.hold, now.edits.level, state)
    waiting, state = happened(now, events.waiting(jnp, kind), times[0], state)
    instants = jnp.zeros((), int)
    outcome = _with_trouble(jnp.asarray(Outcome.DONE.value, dtype=int), waiting, instants)
    start = begun(field(now), pair, times[0], state, outcome, limits)
    none = jnp.zeros(len(events.conditions), kind)
    course = _Course(start, start, waiting, none, jnp.ones((), bool), instants)
    course, shown = jax.lax.scan(through, course, times)
    return Solution(shown, course.walk.outcome, course.walk.time)


def _with_trouble(outcome: Array, waiting: Waiting, instants: Array) -> Array:
    """The outcome of a solver, or what went wrong with events."""
    ended = jnp.where(instants > _MOST, Outcome.MANY_EVENTS.value, outcome)
    ended = jnp.where(waiting.trouble == FINE, ended, waiting.trouble + (Outcome.EVENTS_WAITING.value - FULL))
    return jnp.where(outcome == Outcome.DONE, ended, outcome)
