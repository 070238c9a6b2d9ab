"""An explicit Runge-Kutta solver for one cell, made for many lanes side by side.

Tsitouras' 5(4) pair with its fourth-order dense output. Steps follow the error alone: saved times are interpolated, not
stepped on. Only a perturbation's switches end a step. As `pinnsim.lanes.lanes_last` evaluates it, every lane has its
own clock, step and outcome; lanes wait for one another at saved times only.

The error of a step is `sqrt(mean_i (e_i / (atol + rtol max(|x_i|, |x_i new|)))^2)`, and the step is accepted where that
is below 1; the next step follows a proportional-integral rule, `h <- 0.9 h err^-0.14 err_before^0.08`.

Dense output between x0 and x1 with slopes f0 and f1 is the quartic through both, their slopes, and the pair's own value
in the middle of the step, which is the pair's own interpolant, as that is a quartic with the same five conditions.

Sources: Ch. Tsitouras, Comput. Math. Appl. 62:770 (2011); E. Hairer, S. Norsett, G. Wanner, Solving Ordinary
Differential Equations I (1993), II.4 (first step, step control).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.shapes import Scalar, State, Times, Trajectory
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.solve import Solution, segments

_STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
)
_NODES = (0.161, 0.327, 0.9, 0.9800255409045097, 1.0)
_STEP = (
    0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774
)  # fmt: skip
_ERROR = (
    0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629, -0.5823571654525552,
    0.45808210592918697, -0.015151515151515152,
)  # fmt: skip
_MIDDLE = (
    0.10741235230096871, 0.01135625, 0.39560903056045305, -0.34475214352593553, 1.3161853649581645,
    -1.0170608542936508, 0.03125,
)  # fmt: skip
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 10.0

Slope = Callable[[Scalar, State], State]


class _Walk(NamedTuple):
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
    middle: State


def integrate(
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    rtol: Scalar,
    atol: Scalar,
    max_steps: int,
    moving: bool,
) -> Solution:
    """Like `solve`, from `times[0]`, for resolved `kinetics`.

    **Arguments:** `rtol`, `atol`: per step; `max_steps`: between two switches; `moving`: whether any dose curve moves
    between switches. Forward only: gradients go through `solve`.
    """
    kind = state.dtype
    times, rtol, atol = times.astype(kind), rtol.astype(kind), atol.astype(kind)
    edges = segments(perturbation, times[0], times[-1])
    shown = jnp.broadcast_to(state, (times.shape[0], state.shape[0]))

    def segment(carry: tuple, ends: tuple[Scalar, Scalar, Bool[Array, ""]]) -> tuple[tuple, None]:
        left, right, opening = ends
        mine = (times <= right) & ((times > left) | opening)
        return jax.lax.cond(right > left, _advanced, lambda carry, *_: carry, carry, left, right, mine), None

    def _advanced(carry: tuple, left: Scalar, right: Scalar, mine: Bool[Array, " time"]) -> tuple:
        state, outcome, reached, shown = carry
        local = perturbation.during(left, right)
        # In the middle, because a dose that is still being absorbed does not hold yet at its very start.
        edits = local.at(0.5 * (left + right))
        acting = local if moving else Constant(edits)
        walk, readings = _walk(
            lambda time, x: kinetics.vector_field(time, x, acting),
            jnp.where(mine, times, left),
            mine,
            left,
            right,
            jnp.where(edits.hold, edits.level, state),
            outcome,
            (rtol, atol, max_steps),
        )
        going = outcome == Outcome.DONE
        reached = jnp.where(going, walk.time, reached)
        return walk.state, walk.outcome, reached, jnp.where(mine[:, None], readings, shown)

    begin = (state, jnp.asarray(Outcome.DONE.value, dtype=int), times[0], shown)
    openings = jnp.arange(edges.shape[0] - 1) == 0
    (_, outcome, reached, shown), _ = jax.lax.scan(segment, begin, (edges[:-1], edges[1:], openings))
    return Solution(shown, outcome, reached)


def _walk(
    field: Slope,
    targets: Times,
    wanted: Bool[Array, " time"],
    left: Scalar,
    right: Scalar,
    state: State,
    outcome: Int[Array, ""],
    limits: tuple[Scalar, Scalar, int],
) -> tuple[_Walk, Trajectory]:
    """From `left` to `right`, and the states at the wanted targets."""
    rtol, atol, max_steps = limits
    slope = field(left, state)
    able = jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(state))
    outcome = jnp.where((outcome == Outcome.DONE) & ~able, Outcome.NOT_FINITE, outcome)
    step = first_step(field, left, state, slope, rtol, atol, 5)
    one, none = jnp.ones_like(left), jnp.zeros((), int)
    walk = _Walk(left, state, slope, step, one, none, outcome, left, state, slope, state)

    def stepped(walk: _Walk) -> _Walk:
        return _stepped(field, walk, right, rtol, atol, max_steps)

    def to(walk: _Walk, item: tuple[Scalar, Bool[Array, ""]]) -> tuple[_Walk, State]:
        target, here = item
        walk = jax.lax.while_loop(lambda w: (w.time < target) & (w.outcome == Outcome.DONE), stepped, walk)
        # A loop of one turn: passed over where no lane wants this time.
        _, reading = jax.lax.while_loop(
            lambda c: c[0], lambda c: (jnp.zeros((), bool), _between(walk, target)), (here, state)
        )
        return walk, reading

    walk, readings = jax.lax.scan(to, walk, (targets, wanted))
    return jax.lax.while_loop(lambda w: (w.time < right) & (w.outcome == Outcome.DONE), stepped, walk), readings


def _stepped(field: Slope, walk: _Walk, right: Scalar, rtol: Scalar, atol: Scalar, max_steps: int) -> _Walk:
    left, x, least = walk.time, walk.state, jnp.finfo(walk.time.dtype).eps
    remaining = right - left
    last = walk.step >= remaining
    h = jnp.where(last, remaining, walk.step)
    slopes = [walk.slope]
    for node, row in zip(_NODES, _STAGES, strict=True):
        slopes.append(field(left + node * h, x + h * weighted(row, slopes)))
    new = x + h * weighted(_STEP, slopes)
    slopes.append(field(left + h, new))
    error = scaled(h * weighted(_ERROR, slopes), x, new, rtol, atol)
    finite = jnp.isfinite(error)
    error = jnp.where(finite, jnp.maximum(error, 1e-8), 1e8)
    good = error < 1.0
    factor = _SAFETY * jnp.where(good, error**-0.14 * walk.error**0.08, jnp.minimum(error**-0.2, 1.0))
    following = h * jnp.clip(factor, _LEAST, _MOST)
    # A short last step tells nothing about the next one.
    following = jnp.where(good & last, jnp.maximum(following, walk.step), following)
    steps = walk.steps + 1
    stuck = ~good & (following < 8 * least * jnp.maximum(jnp.abs(left), jnp.abs(right)))
    ended = jnp.where(stuck & ~finite, Outcome.NOT_FINITE, Outcome.MAX_STEPS)
    over = stuck | ((steps >= max_steps) & ~(good & last))

    def kept(after: Array, before: Array) -> Array:
        return jnp.where(good, after, before)

    return _Walk(
        time=kept(jnp.where(last, right, left + h), left),
        state=kept(new, x),
        slope=kept(slopes[-1], walk.slope),
        step=following,
        error=kept(error, walk.error),
        steps=steps,
        outcome=jnp.where(over, ended, walk.outcome),
        before=kept(left, walk.before),
        old_state=kept(x, walk.old_state),
        old_slope=kept(walk.slope, walk.old_slope),
        middle=kept(x + h * weighted(_MIDDLE, slopes), walk.middle),
    )


def _between(walk: _Walk, time: Scalar) -> State:
    """The state at a time within the last step."""
    h = walk.time - walk.before
    share = jnp.where(h > 0, (time - walk.before) / jnp.where(h > 0, h, 1.0), 1.0)
    x0, x1, middle = walk.old_state, walk.state, walk.middle
    f0, f1 = h * walk.old_slope, h * walk.slope
    fourth = 2.0 * (f1 - f0) - 8.0 * (x1 + x0) + 16.0 * middle
    third = 5.0 * f0 - 3.0 * f1 + 18.0 * x0 + 14.0 * x1 - 32.0 * middle
    second = f1 - 4.0 * f0 - 11.0 * x0 - 5.0 * x1 + 16.0 * middle
    return x0 + share * (f0 + share * (second + share * (third + share * fourth)))


def weighted(weights: tuple[float, ...], slopes: list[State]) -> State:
    """`sum_j w_j k_j`, with nothing spent on zeros."""
    parts = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return sum(parts[1:], parts[0])


def scaled(error: State, x: State, new: State, rtol: Scalar, atol: Scalar) -> Scalar:
    """The size of an error against what is allowed; 1 is the limit."""
    return jnp.sqrt(jnp.mean((error / (atol + rtol * jnp.maximum(jnp.abs(x), jnp.abs(new)))) ** 2))


def first_step(
    field: Slope, time: Scalar, x: Float[Array, " species"], slope: State, rtol: Scalar, atol: Scalar, order: int
) -> Scalar:
    """A first step after Hairer, Norsett and Wanner, II.4: from sizes of state, slope and change of slope."""
    size, speed = scaled(x, x, x, rtol, atol), scaled(slope, x, x, rtol, atol)
    small = (size < 1e-5) | (speed < 1e-5)
    guess = jnp.where(small, 1e-6, 0.01 * size / jnp.where(small, 1.0, speed))
    ahead = field(time + guess, x + guess * slope)
    change = scaled(ahead - slope, x, x, rtol, atol) / guess
    fastest = jnp.maximum(speed, change)
    flat = fastest <= 1e-15
    power = (0.01 / jnp.where(flat, 1.0, fastest)) ** (1.0 / order)
    return jnp.minimum(100.0 * guess, jnp.where(flat, jnp.maximum(1e-6, guess * 1e-3), power))
