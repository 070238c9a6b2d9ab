"""Learning-rate schedules from optax, by name."""

import optax

from pinnsim.fit.plan import FitPlan


def learning_rate(plan: FitPlan, peak: float, steps: int) -> optax.Schedule:
    """Warm-up, then cosine decay to 1 % of the peak, `cycles` times over for "cyclical"; "constant" keeps the peak after the warm-up."""
    warmup = int(plan.warmup_fraction * steps)
    if plan.schedule == "constant":
        return optax.warmup_constant_schedule(0.05 * peak, peak, max(warmup, 1))
    cycles = plan.cycles if plan.schedule == "cyclical" else 1
    length = max(steps // cycles, 2)
    one = {
        "init_value": 0.05 * peak,
        "peak_value": peak,
        "warmup_steps": max(min(warmup, length - 1), 1),
        "decay_steps": length,
        "end_value": 0.01 * peak,
    }
    return optax.sgdr_schedule([one] * cycles)
