"""Learning-rate schedules from optax, by name, as plain numbers: a rate per step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pinnsim.fit.plan import FitPlan

_FIRST, _LAST = 0.05, 0.01  # of the peak: where the warm-up starts, and where the cosine ends


def learning_rates(plan: FitPlan, peak: float, steps: int) -> np.ndarray:
    """Learning rate of every step, (step,): a warm-up from 5 % of the peak, then cosine decay to 1 % of it; `cycles`
    times over for "cyclical"; "constant" keeps the peak after the warm-up. The warm-up is `warmup_fraction` of a cycle,
    one step at the least."""
    cycles = plan.cycles if plan.schedule == "cyclical" else 1
    length = max(steps // cycles, 2)
    warmup = min(max(int(plan.warmup_fraction * length), 1), length - 1)
    if plan.schedule == "constant":
        schedule = optax.warmup_constant_schedule(_FIRST * peak, peak, warmup)
    else:
        cycle = {
            "init_value": _FIRST * peak,
            "peak_value": peak,
            "warmup_steps": warmup,
            "decay_steps": length,
            "end_value": _LAST * peak,
        }
        schedule = optax.sgdr_schedule([cycle] * cycles)
    # optax mixes integers and floats, which strict promotion (a setting of tests and careful users) refuses.
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(schedule(jnp.arange(steps)), dtype=float)
