"""An adaptive solver for one cell, made for many lanes side by side.

Steps follow the error alone: saved times are interpolated, not stepped on, and only a perturbation's switches end a
step. As `pinnsim.lanes.lanes_last` evaluates it, every lane has its own clock, step and outcome; lanes wait for one
another after one or a few saved times only. How one step is taken is a pair of methods (`AbstractPair`): explicit for
mild systems, linearly implicit for stiff ones.

The error of a step is `sqrt(mean_i (e_i / (atol + rtol max(|x_i|, |x_i new|)))^2)`, and the step is accepted where that
is below 1; the next step follows a proportional-integral rule, `h <- 0.9 h err^(-0.7/p) err_before^(0.4/p)`, where the
error is of order h^p.

Source: E. Hairer, S. Norsett, G. Wanner, Solving Ordinary Differential Equations I (1993), II.4.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.perturbation import Acting, Constant, Perturbation
from pinnsim.shapes import Scalar, State, Times, Trajectory
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.solve import Solution, segments

_SAFETY, _LEAST, _MOST = 0.9, 0.2, 10.0


class Field(eqx.Module):
    """What moves a cell between two switches. `apart`: whether the compiler must keep each evaluation, and with it its
    derivative, apart from what is around it."""

    kinetics: AbstractKinetics
    acting: Acting
    apart: bool = eqx.field(static=True, default=False)

    @eqx.filter_jit
    def __call__(self, time: Scalar, state: State) -> State:
        """dx/dt. A function to itself under `jit`: a step calls it many times, and tracing it each time takes long."""
        if not self.apart:
            return self.kinetics.vector_field(time, state, self.acting)
        state = jax.lax.optimization_barrier(state)
        return jax.lax.optimization_barrier(self.kinetics.vector_field(time, state, self.acting))


class Attempt(NamedTuple):
    """A step tried: state and slope after it (the slope that came in, where the pair has no use for one), the estimate
    of its error, and what interpolation needs beside both ends."""

    state: State
    slope: State
    error: State
    inside: tuple[State, ...]


class AbstractPair(eqx.Module):
    """How a step is taken and its error estimated.

    `order`: the error of a step is of order h^order; `between_arrays`: how many arrays of the state's shape
    interpolation needs beside both ends; `together`: how many saved times lanes may reach in steps of
    their own before they wait for one another. Waiting costs steps of the lanes that wait, running ahead costs passes
    over the states at these times in every step: few for cheap steps that are short, more for dear ones that are long.
    """

    order: eqx.AbstractVar[int]
    between_arrays: eqx.AbstractVar[int]
    together: eqx.AbstractVar[int]

    @abc.abstractmethod
    def attempt(self, field: Field, time: Scalar, state: State, slope: State, step: Scalar) -> Attempt:
        """A step from `state` at `time`, where the slope is `slope`."""

    @abc.abstractmethod
    def between(self, share: Scalar, ends: "Ends", inside: tuple[State, ...]) -> State:
        """The state at `share` in [0, 1] of the last step."""


class Ends(NamedTuple):
    """Both ends of a step: states, and slopes times the step."""

    first: State
    last: State
    first_change: State
    last_change: State


class Walk(NamedTuple):
    """Where a lane is, and the last step it took, for interpolation."""

    time: Scalar
    state: State
    slope: State
    step: Scalar
    error: Scalar
    steps: Int[Array, ""]
    outcome: Int[Array, ""]
    before: Scalar
    old_state: State
    old_slope: State
    inside: tuple[State, ...]


class Limits(NamedTuple):
    """Errors allowed per step, and steps allowed between two switches."""

    rtol: Scalar
    atol: Scalar
    max_steps: Any


def integrate(
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    pair: AbstractPair,
    limits: Limits,
    moving: bool,
) -> Solution:
    """Like `solve`, from `times[0]`, for resolved `kinetics`.

    **Arguments:** `moving`: whether anything moves with time between switches: a dose curve, a formula that reads it.
    Derivatives in forward mode (`jax.jvp`) are those of the steps taken; for gradients use `solve_together`.
    """
    kind = state.dtype
    times = times.astype(kind)
    limits = Limits(limits.rtol.astype(kind), limits.atol.astype(kind), limits.max_steps)
    edges = segments(perturbation, times[0], times[-1])
    shown = jnp.broadcast_to(state, (times.shape[0], state.shape[0]))

    def segment(carry: tuple, ends: tuple[Scalar, Scalar, Bool[Array, ""]]) -> tuple[tuple, None]:
        left, right, opening = ends
        mine = (times <= right) & ((times > left) | opening)
        return jax.lax.cond(right > left, advanced, lambda carry, *_: carry, carry, left, right, mine), None

    def advanced(carry: tuple, left: Scalar, right: Scalar, mine: Bool[Array, " time"]) -> tuple:
        state, outcome, reached, shown = carry
        local = perturbation.during(left, right)
        # In the middle, because a dose that is still being absorbed does not hold yet at its very start.
        edits = local.at(0.5 * (left + right))
        state = jnp.where(edits.hold, edits.level, state)
        field = Field(kinetics, local if moving else Constant(edits))
        walk, readings = _walk(field, pair, jnp.where(mine, times, left), mine, (left, right), state, outcome, limits)
        reached = jnp.where(outcome == Outcome.DONE, walk.time, reached)
        return walk.state, walk.outcome, reached, jnp.where(mine[:, None], readings, shown)

    begin = (state, jnp.asarray(Outcome.DONE.value, dtype=int), times[0], shown)
    openings = jnp.arange(edges.shape[0] - 1) == 0
    (_, outcome, reached, shown), _ = jax.lax.scan(segment, begin, (edges[:-1], edges[1:], openings))
    return Solution(shown, outcome, reached)


def _walk(
    field: Field,
    pair: AbstractPair,
    targets: Times,
    wanted: Bool[Array, " time"],
    ends: tuple[Scalar, Scalar],
    state: State,
    outcome: Int[Array, ""],
    limits: Limits,
) -> tuple[Walk, Trajectory]:
    """From one end to the other, and the states at the wanted targets."""
    left, right = ends
    walk = begun(field, pair, left, state, outcome, limits)

    def stepped(walk: Walk) -> Walk:
        return stepped_once(field, pair, walk, right, limits)

    def through(walk: Walk, some: tuple[Times, Bool[Array, " time"]]) -> tuple[Walk, Trajectory]:
        targets, wanted = some

        def read(walk: Walk, missing: Array, readings: Trajectory) -> tuple[Array, Trajectory]:
            """What the last step passed, one time after the other: no turn of the loop where no lane passed any."""

            def one(carry: tuple[Array, Trajectory]) -> tuple[Array, Trajectory]:
                missing, readings = carry
                due = missing & (targets <= walk.time)
                first = due & ~jnp.concatenate([jnp.zeros(1, bool), due[:-1]])
                reading = state_between(pair, walk, jnp.sum(jnp.where(first, targets, 0.0)))
                return missing & ~first, jnp.where(first[:, None], reading[None], readings)

            return jax.lax.while_loop(lambda c: jnp.any(c[0] & (targets <= walk.time)), one, (missing, readings))

        empty = jnp.broadcast_to(state, (targets.shape[0], state.shape[0]))
        if pair.together == 1:

            def before(walk: Walk) -> Array:
                return wanted[0] & (walk.time < targets[0]) & (walk.outcome == Outcome.DONE)

            walk = jax.lax.while_loop(before, stepped, walk)
            return walk, read(walk, wanted, empty)[1]

        def further(carry: tuple[Walk, Array, Trajectory]) -> tuple[Walk, Array, Trajectory]:
            walk = stepped(carry[0])
            return walk, *read(walk, *carry[1:])

        begin = (walk, *read(walk, wanted, empty))
        walk, _, readings = jax.lax.while_loop(lambda c: jnp.any(c[1]) & (c[0].outcome == Outcome.DONE), further, begin)
        return walk, readings

    # The end is one more target, so that a step is compiled once.
    count = targets.shape[0]
    more = -(count + 1) % pair.together + 1
    shape = (-1, pair.together)
    targets = jnp.concatenate([targets, jnp.broadcast_to(right, (more,))]).reshape(shape)
    wanted = jnp.concatenate([wanted, jnp.ones(more, bool)]).reshape(shape)
    walk, readings = jax.lax.scan(through, walk, (targets, wanted))
    return walk, readings.reshape(-1, state.shape[0])[:count]


def begun(
    field: Field, pair: AbstractPair, left: Scalar, state: State, outcome: Int[Array, ""], limits: Limits
) -> Walk:
    """Where a lane stands at the start of a stretch without switches."""
    slope = field(left, state)
    able = jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(state))
    outcome = jnp.where((outcome == Outcome.DONE) & ~able, Outcome.NOT_FINITE, outcome)
    step = jax.lax.stop_gradient(first_step(field, left, state, slope, limits, pair.order))
    inside = (jnp.zeros_like(state),) * pair.between_arrays
    return Walk(left, state, slope, step, jnp.ones_like(left), jnp.zeros((), int), outcome, left, state, slope, inside)


def stepped_once(field: Field, pair: AbstractPair, walk: Walk, right: Scalar, limits: Limits) -> Walk:
    """One attempt to go on, towards `right`: taken or not, with the next step's length."""
    left, x = walk.time, walk.state
    remaining = right - left
    last = walk.step >= remaining
    h = jnp.where(last, remaining, walk.step)
    tried = pair.attempt(field, left, x, walk.slope, h)
    error = scaled(tried.error, x, tried.state, limits)
    finite = jnp.isfinite(error)
    error = jnp.where(finite, jnp.maximum(error, 1e-8), 1e8)
    good = error < 1.0
    power = 1.0 / pair.order
    wish = jnp.where(good, error ** (-0.7 * power) * walk.error ** (0.4 * power), jnp.minimum(error**-power, 1.0))
    following = h * jnp.clip(_SAFETY * wish, _LEAST, _MOST)
    # A short last step tells nothing about the next one.
    following = jnp.where(good & last, jnp.maximum(following, walk.step), following)
    steps = walk.steps + 1
    least = 8 * jnp.finfo(left.dtype).eps * jnp.maximum(jnp.abs(left), jnp.abs(right))
    stuck = ~good & (following < least)
    ended = jnp.where(stuck & ~finite, Outcome.NOT_FINITE, Outcome.MAX_STEPS)
    over = stuck | ((steps >= limits.max_steps) & ~(good & last))

    def kept(after: Array, before: Array) -> Array:
        return jnp.where(good, after, before)

    return Walk(
        time=kept(jnp.where(last, right, left + h), left),
        state=kept(tried.state, x),
        slope=kept(tried.slope, walk.slope),
        # How long steps are is no part of what a derivative is taken of.
        step=jax.lax.stop_gradient(following),
        error=jax.lax.stop_gradient(kept(error, walk.error)),
        steps=steps,
        outcome=jnp.where(over, ended, walk.outcome),
        before=kept(left, walk.before),
        old_state=kept(x, walk.old_state),
        old_slope=kept(walk.slope, walk.old_slope),
        inside=jax.tree.map(kept, tried.inside, walk.inside),
    )


def state_between(pair: AbstractPair, walk: Walk, time: Scalar) -> State:
    """The state at a time within the last step taken."""
    h = walk.time - walk.before
    share = jnp.where(h > 0, (time - walk.before) / jnp.where(h > 0, h, 1.0), 1.0)
    ends = Ends(walk.old_state, walk.state, h * walk.old_slope, h * walk.slope)
    # Before the first step there is nothing in between.
    return jnp.where(h > 0, pair.between(share, ends, walk.inside), walk.state)


def weighted(weights: tuple[float, ...], slopes: list[State]) -> State:
    """`sum_j w_j k_j`, with nothing spent on zeros."""
    parts = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return sum(parts[1:], parts[0])


def scaled(error: State, x: State, new: State, limits: Limits) -> Scalar:
    """The size of an error against what is allowed; 1 is the limit."""
    allowed = limits.atol + limits.rtol * jnp.maximum(jnp.abs(x), jnp.abs(new))
    return jnp.sqrt(jnp.mean((error / allowed) ** 2))


def first_step(field: Field, time: Scalar, x: State, slope: State, limits: Limits, order: int) -> Scalar:
    """A first step after Hairer, Norsett and Wanner, II.4: from sizes of state, slope and change of slope."""
    size, speed = scaled(x, x, x, limits), scaled(slope, x, x, limits)
    small = (size < 1e-5) | (speed < 1e-5)
    guess = jnp.where(small, 1e-6, 0.01 * size / jnp.where(small, 1.0, speed))
    change = scaled(field(time + guess, x + guess * slope) - slope, x, x, limits) / guess
    fastest = jnp.maximum(speed, change)
    flat = fastest <= 1e-15
    power = (0.01 / jnp.where(flat, 1.0, fastest)) ** (1.0 / order)
    return jnp.minimum(100.0 * guess, jnp.where(flat, jnp.maximum(1e-6, guess * 1e-3), power))
