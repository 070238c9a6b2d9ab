"""The gradient stages of a fit, in order: collocation, multiple shooting, curriculum, trajectories.

The curriculum solves and scores a course up to a horizon only, which moves from `curriculum_from` of its span to its
end. Times beyond the horizon are put at it and masked, so that shapes stay, nothing compiles anew, and no step is spent
on what does not count yet.

Source: Y. Bengio et al., ICML 2009, for curricula; O. Kidger, On Neural Differential Equations (2022), section 2.3.2.3,
for growing horizons in neural differential equations.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import collocation_readings, trajectory_readings
from pinnsim.fit.optimise import CHUNK, Stage
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.schedule import learning_rates
from pinnsim.fit.shooting import Shooting


def stages_of(plan: FitPlan) -> list[Stage]:
    """The stages of a plan; those of no steps do nothing."""
    shooting = Shooting(plan)
    rate = plan.trajectory_learning_rate
    return [
        Stage("collocation", collocation_readings, learning_rates(plan, plan.learning_rate, plan.collocation_steps)),
        shooting.stage(learning_rates(plan, rate, plan.shooting_steps)),
        Stage(
            "curriculum",
            trajectory_readings,
            learning_rates(plan, rate, plan.curriculum_steps),
            part=lambda lanes, done: up_to_horizon(lanes.data, horizon(plan, done)),
        ),
        Stage("trajectories", trajectory_readings, learning_rates(plan, rate, plan.trajectory_steps)),
    ]


def solved(plan: FitPlan) -> bool:
    """Whether a fit by this plan ends in solved trajectories, so that these are what is reported."""
    return plan.trajectory_steps + plan.curriculum_steps + plan.shooting_steps + plan.polish_steps > 0


def horizon(plan: FitPlan, done: int) -> float:
    """Share of the span that counts after so many steps: all of it in the last chunk."""
    rise = min(done / max(plan.curriculum_steps - CHUNK, 1), 1.0)
    return plan.curriculum_from + (1.0 - plan.curriculum_from) * rise


def up_to_horizon(data: Cultures, share: float) -> Cultures:
    """The same cultures (any leading axes) up to a share of each one's measured span; the second sample always
    counts, or there would be nothing to fit."""
    times, seen = np.asarray(data.times), np.asarray(data.mask).any(axis=-1)
    begin = times[..., :1]
    last = np.max(np.where(seen, times, begin), axis=-1, keepdims=True)
    until = np.maximum(begin + share * (last - begin), times[..., 1:2])
    # Rounding must not cut off the last sample.
    until = np.where(share >= 1.0, times[..., -1:], until)
    inside = times <= until
    return eqx.tree_at(
        lambda d: (d.times, d.mask),
        data,
        (jnp.asarray(np.minimum(times, until)), jnp.asarray(np.asarray(data.mask) & inside[..., None])),
    )
