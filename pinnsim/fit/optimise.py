"""The one training loop: many lanes (starts, data splits, controls) as one compiled program, in chunks that can be shown, saved and interrupted.

A lane is a model with its prior and its data. Each keeps the best parameters it has seen; a lane whose gradient is not finite skips that step; a lane that has not improved for `patience` steps stands still.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import Predictor, Terms, objective
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.schedule import learning_rate
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import trainable

_CHUNK = 10  # steps between two looks at the clock, the keyboard and the checkpoint


class Lanes(NamedTuple):
    """Lanes of one program: models, priors and data with a leading lane axis on every array."""

    models: CellModel
    priors: ModelPrior
    data: Cultures


class Progress(NamedTuple):
    """What a stage carries from chunk to chunk, all with a leading lane axis: parameters, optimiser state, best parameters, best and last objective, steps since the best."""

    parameters: PyTree
    optimiser: PyTree
    best: PyTree
    best_value: Array
    value: Array
    stale: Array


class Stage(NamedTuple):
    """One stage of a fit."""

    name: str
    predict: Predictor
    steps: int
    rate: float


def run_stage(
    lanes: Lanes, stage: Stage, plan: FitPlan, progress: Progress | None, done: int, on_chunk: Callable[[int, Progress], bool]
) -> tuple[Progress, int]:
    """Runs `stage` from step `done`, calling `on_chunk(steps_done, progress)` after every chunk; stops early when that returns true or every lane is stale.

    **Returns** the progress and the steps done.
    """
    progress = begin_stage(lanes, stage, plan) if progress is None else progress
    rest = eqx.filter(lanes.models, trainable(lanes.models), inverse=True)
    while done < stage.steps:
        count = min(_CHUNK, stage.steps - done)
        progress = _advance(progress, rest, lanes.priors, lanes.data, stage, plan, count)
        done += count
        if on_chunk(done, progress) or (plan.patience and bool(jnp.all(progress.stale >= plan.patience))):
            break
    return progress, done


def with_parameters(lanes: Lanes, parameters: PyTree) -> CellModel:
    """The lanes' models with these unconstrained parameters."""
    return eqx.combine(parameters, eqx.filter(lanes.models, trainable(lanes.models), inverse=True))


@eqx.filter_jit
def evaluate(models: CellModel, priors: ModelPrior, data: Cultures, plan: FitPlan, predict: Predictor) -> tuple[Array, Terms]:
    """Objective and its terms for every lane, (lane,)."""
    return eqx.filter_vmap(lambda m, p, d: objective(m, p, d, plan, predict))(models, priors, data)


def begin_stage(lanes: Lanes, stage: Stage, plan: FitPlan) -> Progress:
    """Progress at step 0 of a stage."""
    parameters = eqx.filter(lanes.models, trainable(lanes.models))
    count = lanes.data.times.shape[0]
    worst = jnp.full(count, jnp.inf, lanes.data.times.dtype)
    return Progress(parameters, eqx.filter_vmap(_optimiser(stage, plan).init)(parameters), parameters, worst, worst, jnp.zeros(count, int))


def _optimiser(stage: Stage, plan: FitPlan) -> optax.GradientTransformation:
    return optax.apply_if_finite(optax.adam(learning_rate(plan, stage.rate, stage.steps)), max_consecutive_errors=stage.steps + 1)


@eqx.filter_jit
def _advance(
    progress: Progress, rest: CellModel, priors: ModelPrior, data: Cultures, stage: Stage, plan: FitPlan, count: int
) -> Progress:
    # Made here, from hashable settings: an optimiser is a pair of fresh closures, and as an argument would recompile every fit.
    optimiser = _optimiser(stage, plan)

    def loss(parameters: PyTree, rest: CellModel, prior: ModelPrior, data: Cultures) -> Array:
        return objective(eqx.combine(parameters, rest), prior, data, plan, stage.predict)[0]

    def lane(progress: Progress, rest: CellModel, prior: ModelPrior, data: Cultures) -> Progress:
        value, gradient = eqx.filter_value_and_grad(loss)(progress.parameters, rest, prior, data)
        spread = eqx.filter(prior.spread, trainable(prior.spread))
        gradient = jax.tree.map(lambda g, s: jnp.where(s > 0, g, 0.0), gradient, spread)
        better = value < progress.best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), progress.parameters, progress.best)
        stale = jnp.where(better, 0, progress.stale + 1)
        # optax mixes integer counts and floats, which strict promotion (a setting of tests and careful users) refuses.
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimiser.update(gradient, progress.optimiser, progress.parameters)
        moving = stale < plan.patience if plan.patience else jnp.ones((), bool)
        moved = jax.tree.map(lambda p, c: jnp.where(moving, p + c, p), progress.parameters, change)
        return Progress(moved, state, best, jnp.where(better, value, progress.best_value), value, stale)

    def step(carry: Progress, _: None) -> tuple[Progress, None]:
        return eqx.filter_vmap(lane)(carry, rest, priors, data), None

    return jax.lax.scan(step, progress, None, length=count)[0]
