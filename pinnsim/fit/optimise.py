"""The one training loop: many lanes (starts, data splits, controls) as one compiled program, in chunks that can be
shown, saved and interrupted.

A lane is a model with its prior and its data; what is minimised is the stage's `measure` of them. Each keeps the best
parameters it has seen; a lane whose gradient is not finite skips that step, and says so in the end (`Halt`); a lane
that has not improved for `patience` steps stands still. Learning rates, tolerances and the number of steps are
arguments of the program, so that only another shape or another predictor compiles anew.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from pinnsim.errors import PinnsimError
from pinnsim.fit.objective import Objective, objective
from pinnsim.fit.plan import Settings
from pinnsim.parameter import trainable

CHUNK = 10  # steps between two looks at the clock, the keyboard and the checkpoint


class Lanes(NamedTuple):
    """Lanes of one program: models, priors and data with a leading lane axis on every array (cell models and their
    cultures, or population models and their populations)."""

    models: Any
    priors: Any
    data: Any


class Progress(NamedTuple):
    """What a stage carries from chunk to chunk, all with a leading lane axis: parameters, optimiser state, best
    parameters, best and last objective, steps since the best."""

    parameters: PyTree
    optimiser: PyTree
    best: PyTree
    best_value: Float[Array, " lane"]
    value: Float[Array, " lane"]
    stale: Int[Array, " lane"]


Measure = Callable[[Any, Any, Any, Settings, Any], Objective]
"""What is minimised: of a model, its prior, its data, settings and a way to predict."""


def _same(value: Any) -> Any:
    return value


class Stage(NamedTuple):
    """One stage of a fit: how it predicts, the learning rate of every step, (step,), and what is minimised.

    A stage may work on other lanes than the fit's: `enter(lanes)` makes them, `leave(models)` takes the models back. A
    stage of which the data change, by `part(lanes, steps_done)`, ends in its last parameters, since objectives of
    different data do not compare; the others in their best.
    """

    name: str
    predict: Any
    rates: np.ndarray
    measure: Measure = objective
    enter: Callable[[Lanes], Lanes] = _same
    leave: Callable[[Any], Any] = _same
    part: Callable[[Lanes, int], Any] | None = None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.rates)


def run_stage(
    lanes: Lanes,
    stage: Stage,
    settings: Settings,
    progress: Progress | None,
    done: int,
    on_chunk: Callable[[int, Progress], None],
    part: Callable[[int], Any] | None = None,
) -> Progress:
    """Runs `stage` from step `done` to its end, or until every lane is stale, calling `on_chunk(steps_done, progress)`
    after every chunk. `part(steps_done)` gives the data of the next chunk, where they are not the same for all."""
    progress = begin_stage(lanes) if progress is None else progress
    rest = eqx.filter(lanes.models, trainable(lanes.models), inverse=True)
    padded = np.concatenate([stage.rates, np.zeros(CHUNK)])
    patience = int(settings.patience)
    while done < stage.steps and not (patience and bool(jnp.all(progress.stale >= patience))):
        count = min(CHUNK, stage.steps - done)
        rates = jnp.asarray(padded[done : done + CHUNK], dtype=float)
        data = lanes.data if part is None else part(done)
        steps = jnp.asarray(count)
        progress = _advance(progress, rest, lanes.priors, data, settings, stage.predict, stage.measure, rates, steps)
        done += count
        on_chunk(done, progress)
    return progress


def with_parameters(lanes: Lanes, parameters: PyTree) -> Any:
    """The lanes' models with these unconstrained parameters."""
    return eqx.combine(parameters, eqx.filter(lanes.models, trainable(lanes.models), inverse=True))


@eqx.filter_jit
def evaluate(
    models: PyTree, priors: PyTree, data: PyTree, settings: Settings, predict: Any, measure: Measure = objective
) -> Objective:
    """Objective, terms and failed cultures of every lane, (lane,)."""
    return eqx.filter_vmap(lambda m, p, d: measure(m, p, d, settings, predict))(models, priors, data)


def begin_stage(lanes: Lanes) -> Progress:
    """Progress at step 0 of a stage."""
    parameters = eqx.filter(lanes.models, trainable(lanes.models))
    count = lanes.data.times.shape[0]
    worst = jnp.full(count, jnp.inf, lanes.data.times.dtype)
    optimiser = eqx.filter_vmap(_optimiser().init)(parameters)
    return Progress(parameters, optimiser, parameters, worst, worst, jnp.zeros(count, int))


class Halt(NamedTuple):
    """Lanes that gradients which are not finite have stopped, (lane,) each: `never`, before any step; `last`, at the
    end of the stage (for good, where data do not change; where they do, for a chunk of steps or more)."""

    never: np.ndarray
    last: np.ndarray


def halted(progress: Progress, changing: bool = False) -> Halt:
    """Where lanes of a stage were stopped; `changing`: whether its data change on the way."""
    state = progress.optimiser
    never = (np.asarray(state.inner_state.count) == 0) & (np.asarray(state.total_notfinite) > 0)
    return Halt(never, never | (np.asarray(state.notfinite_count) >= (CHUNK if changing else 1)))


def require_steps(progress: Progress, what: str) -> None:
    """**Raises** `E_FIT` where no lane could take a step."""
    if halted(progress).never.all():
        raise PinnsimError.of(
            "E_FIT",
            f"Nothing was learned of {what}: the gradient is not finite where training starts. Look for zeros under "
            "roots and logarithms in data and rates, or start elsewhere (another seed).",
        )


def _optimiser() -> optax.GradientTransformation:
    """Adam, whose learning rate comes from outside; it never gives in to gradients that are not finite."""
    return optax.apply_if_finite(optax.scale_by_adam(), max_consecutive_errors=np.iinfo(np.int32).max - 1)


@eqx.filter_jit
def _advance(
    progress: Progress,
    rest: PyTree,
    priors: PyTree,
    data: PyTree,
    settings: Settings,
    predict: Any,
    measure: Measure,
    rates: Float[Array, " step"],
    count: Int[Array, ""],
) -> Progress:
    """The first `count` steps at these learning rates."""
    # Made here: an optimiser is a pair of fresh closures, and as an argument would compile every fit anew.
    optimiser = _optimiser()

    def loss(parameters: PyTree, rest: PyTree, prior: PyTree, data: PyTree) -> Array:
        return measure(eqx.combine(parameters, rest), prior, data, settings, predict).total

    def lane(rate: Array, progress: Progress, rest: PyTree, prior: PyTree, data: PyTree) -> Progress:
        value, gradient = eqx.filter_value_and_grad(loss)(progress.parameters, rest, prior, data)
        spread = eqx.filter(prior.spread, trainable(prior.spread))
        gradient = jax.tree.map(lambda g, s: jnp.where(s > 0, g, 0.0), gradient, spread)
        better = value < progress.best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), progress.parameters, progress.best)
        stale = jnp.where(better, 0, progress.stale + 1)
        # optax mixes integer counts and floats, which strict promotion (a setting of tests and careful users) refuses.
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimiser.update(gradient, progress.optimiser, progress.parameters)
        moving = (settings.patience == 0) | (stale < settings.patience)
        moved = jax.tree.map(lambda p, c: jnp.where(moving, p - rate * c, p), progress.parameters, change)
        return Progress(moved, state, best, jnp.where(better, value, progress.best_value), value, stale)

    def step(number: Array, carry: Progress) -> Progress:
        return eqx.filter_vmap(functools.partial(lane, rates[number]))(carry, rest, priors, data)

    return jax.lax.fori_loop(0, count, step, progress)
