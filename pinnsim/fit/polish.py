"""The last digits of a fit: damped Gauss-Newton (Levenberg-Marquardt), where the objective is a sum of squares.

With normal errors of given spread and a normal prior of the unconstrained parameters the objective is, up to a
constant, 1/2 |r|^2 with

    r = ((predicted - measured) / sd of every scored reading,    (parameter - center) / spread of every free one),

and a step solves (J'J + damping I) step = -J'r. All starts are lanes of one program; Jacobians go forward through the
solver, one column per free parameter. A lane keeps its polished parameters only if its objective fell.

Fails, and is left out with a note, for other likelihoods, for a spread that is fitted itself, and for a priced gate.
Each lane holds a Jacobian of readings x parameters: up to about 1000 parameters.

Source: J. Nocedal and S. Wright, Numerical Optimization (2006), section 10.3; optimistix for the iteration.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array

from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import (
    FAILED_CULTURE,
    prior_deviates,
    scored_readings,
    trajectory_readings,
    trajectory_readings_forward,
)
from pinnsim.fit.optimise import Lanes, evaluate
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.model import CellModel, ModelPrior
from pinnsim.observation.likelihood import Gaussian
from pinnsim.observation.likelihood import spread as width_of
from pinnsim.parameter import resolve, trainable
from pinnsim.simulate import Outcome

TOLERANCE = 1e-8  # relative, of the parameters and the sum of squares; absolute too


def why_not(lanes: Lanes, plan: FitPlan) -> str | None:
    """What keeps the objective from being a sum of squares; `None` where it is one."""
    likelihood = lanes.models.observation.likelihood
    if not isinstance(likelihood, Gaussian):
        return f"errors are {type(likelihood).__name__}, not normal"
    spreads = jax.tree.leaves(eqx.filter(lanes.priors.spread.observation.likelihood, eqx.is_inexact_array))
    if any(bool(np.any(np.asarray(leaf) > 0)) for leaf in spreads):
        return "the errors' spread is fitted itself"
    gate = lanes.priors.spread.kinetics.residual.gate
    if plan.gate_penalty > 0 and any(bool(np.any(np.asarray(g) > 0)) for g in jax.tree.leaves(gate)):
        return "the gate of the learned correction has a price"
    return None


def polished(lanes: Lanes, plan: FitPlan) -> tuple[Lanes, np.ndarray | None, tuple[str, ...]]:
    """The lanes after `plan.polish_steps` steps at most, their objectives, and notes; lanes that did not improve are
    as they were."""
    reason = why_not(lanes, plan)
    if reason is not None:
        return lanes, None, (f"Not polished: the objective is not a sum of squares ({reason}).",)
    settings = plan.settings()
    moved = _polish(lanes.models, lanes.priors, lanes.data, settings, plan.polish_steps)
    before, after = (
        evaluate(models, lanes.priors, lanes.data, settings, trajectory_readings) for models in (lanes.models, moved)
    )
    better = np.asarray((after.total < before.total) & (after.failed <= before.failed))
    value = np.where(better, np.asarray(after.total), np.asarray(before.total))

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(jnp.asarray(better).reshape(-1, *[1] * (new.ndim - 1)), new, old)

    arrays, rest = eqx.partition(moved, eqx.is_array)
    old = eqx.filter(lanes.models, eqx.is_array)
    notes = () if better.all() else (f"Polishing did not improve {int((~better).sum())} of {len(better)} starts.",)
    return lanes._replace(models=eqx.combine(jax.tree.map(choose, arrays, old), rest)), value, notes


def residuals(model: CellModel, prior: ModelPrior, data: Cultures, settings: Settings) -> Array:
    """r, (residual,), of one model; half its squared norm is the objective up to a constant."""
    cell = resolve(model)
    predicted, outcome = trajectory_readings_forward(cell, data, settings)
    scored = scored_readings(data, settings)
    done = outcome == Outcome.DONE
    safe = jnp.where(done[:, None, None], predicted, data.per_exposure) * data.exposure[..., None]
    likelihood: Any = cell.observation.likelihood
    width = jax.vmap(lambda sd: width_of(likelihood.sd, sd))(data.measured_sd)
    errors = jnp.where(scored, (safe - data.readings) / width, 0.0)
    failed = ~done & jnp.any(scored, axis=(1, 2))
    price = jnp.where(failed, np.sqrt(2.0 * FAILED_CULTURE), 0.0).astype(errors.dtype)
    deviates = [jnp.ravel(z) for _, z in prior_deviates(model, prior)]
    return jnp.concatenate([jnp.ravel(errors), price, *deviates])


@eqx.filter_jit
def _polish(models: CellModel, priors: ModelPrior, data: Cultures, settings: Settings, steps: int) -> CellModel:
    """`steps` is a number of Python's: another one compiles anew."""
    solver: optx.LevenbergMarquardt = optx.LevenbergMarquardt(rtol=TOLERANCE, atol=TOLERANCE)

    def lane(model: CellModel, prior: ModelPrior, data: Cultures) -> CellModel:
        flags = trainable(model)
        start, rest = eqx.partition(model, flags)
        # In units of the prior, where it has one: there damping means the same for every parameter.
        scale = jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 1.0), eqx.filter(prior.spread, flags))

        def full(step: CellModel) -> CellModel:
            return eqx.combine(jax.tree.map(lambda v, s, d: v + s * d, start, scale, step), rest)

        def cost(step: CellModel, _: None) -> Array:
            return residuals(full(step), prior, data, settings)

        # optimistix mixes types, which strict promotion (a setting of tests and careful users) refuses.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            still = jax.tree.map(jnp.zeros_like, start)
            found = optx.least_squares(cost, solver, still, max_steps=steps, throw=False).value
        return full(found)

    return eqx.filter_vmap(lane)(models, priors, data)
