"""Hidden activities: what a regulator's protein does, where nothing of it is measured.

Each hidden activity `h` (natural logarithm, 0 = its value at the reference signals) relaxes to a set point that
signals move,

    dh/dt = (set_point - h) / tau,      set_point = effect . (signal - reference).

It is a state of the culture, not of the genome: at rest, before a stimulus, it is whatever the culture's first sample
says (`pinnsim.dynamics.rest`).
"""

import equinox as eqx
import jax.numpy as jnp

from pinnsim.parameter import Parameter
from pinnsim.shapes import Hidden, PerInput


class HiddenActivity(eqx.Module):
    """Set points, time constants and spread of hidden activities.

    **Arguments:** `effect`: (hidden, input), shift of the set point per unit of signal; `reference`: (input,), the
    signals at which every set point is 0; `tau`: (hidden,), relaxation time; `spread`: (hidden,), how much cultures
    differ at rest (standard deviation, natural log).
    """

    effect: Parameter
    reference: Parameter
    tau: Parameter
    spread: Parameter

    def set_point(self, signal: PerInput) -> Hidden:
        """Where the activities go under this signal."""
        return self.effect @ (signal - self.reference)

    def drift(self, hidden: Hidden, signal: PerInput) -> Hidden:
        """dh/dt, per time unit."""
        return (self.set_point(signal) - hidden) / self.tau


def no_hidden_activity(inputs: int) -> HiddenActivity:
    """For models in which every regulator acts by its abundance."""
    return HiddenActivity(jnp.zeros((0, inputs)), jnp.zeros(inputs), jnp.ones(0), jnp.ones(0))
