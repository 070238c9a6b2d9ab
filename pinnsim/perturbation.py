"""A perturbation: an edit of named rates, with timing, that stacks.

One final class serves every model, because every model is a reaction system. Each array has a leading `phase` axis; a
phase is one time interval `[start, stop)` with one set of edits. At time t phase p acts with intensity

    s_p(t) = 1[start_p <= t < stop_p] * C_p(t)^n / (C_p(t)^n + ic50_p^n),
    C_p(t) = dose_p * ka / (ka - ke) * (exp(-ke (t - start_p)) - exp(-ka (t - start_p)))

(one compartment, first-order absorption and elimination)

and the phases combine as `factor = prod_p (1 + s_p (factor_p - 1))` (likewise activity and edge_factor),
`drive = sum_p s_p drive_p`, `signal = sum_p s_p signal_p`; where several phases hold one species, the last one
wins. The identity is `Perturbation.none(table)`, so that any mix of perturbations is one batch of one compiled program.

Source of the dose curve: the Bateman function (H. Bateman, Proc. Camb. Phil. Soc. 15:423, 1910) with a Hill response.
"""

from collections.abc import Sequence
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.errors import PinnsimError
from pinnsim.shapes import PerEdge, PerInput, PerPhase, Rates, Scalar, State
from pinnsim.table import Table

_NEUTRAL = {
    "factor": 1.0,
    "activity": 1.0,
    "drive": 0.0,
    "hold": 0.0,
    "level": 0.0,
    "edge_factor": 1.0,
    "signal": 0.0,
    "start": np.inf,
    "stop": np.inf,
    "dose": 1.0,
    "ka": np.inf,
    "ke": 0.0,
    "ic50": 0.0,
    "hill": 1.0,
}


class Edits(eqx.Module):
    """What all phases together do at one time: the arrays a vector field reads. `hold` is a mask; a held species
    stays at `level`."""

    factor: Rates
    activity: State
    drive: State
    hold: Bool[Array, " species"]
    level: State
    edge_factor: PerEdge
    signal: PerInput


class Perturbation(eqx.Module):
    """Edits of named rates with timing, indexed by a model's own reactions, species, edges and inputs.

    **Arguments:** (units: time in the model's time unit, amounts in the model's abundance unit)

    - `factor`: (phase, reaction), multiplies a propensity; 0 stops the reaction.
    - `activity`: (phase, species), multiplies what a regulator's abundance counts for in the rate laws that it enters.
    - `drive`: (phase, species), added production, amount per time.
    - `hold`, `level`: (phase, species), where `hold` is 1 the species is clamped at `level` while the phase lasts.
    - `edge_factor`: (phase, edge), multiplies the binding affinity of a regulator at one promoter.
    - `signal`: (phase, input), added to an external input.
    - `start`, `stop`: (phase,), the interval; `-inf` means since ever, `inf` for ever.
    - `dose`, `ka`, `ke`, `ic50`, `hill`: (phase,), the dose curve; `ka = inf` is at once, `ke = 0` is never
      eliminated, `ic50 = 0` is full effect.
    """

    factor: Float[Array, "phase reaction"]
    activity: Float[Array, "phase species"]
    drive: Float[Array, "phase species"]
    hold: Float[Array, "phase species"]
    level: Float[Array, "phase species"]
    edge_factor: Float[Array, "phase edge"]
    signal: Float[Array, "phase input"]
    start: PerPhase
    stop: PerPhase
    dose: PerPhase
    ka: PerPhase
    ke: PerPhase
    ic50: PerPhase
    hill: PerPhase

    @staticmethod
    def none(table: Table, phases: int = 1) -> "Perturbation":
        """The identity for a model with this `table`: changes nothing, at any time, and has the same shapes as any
        other perturbation of `phases` phases."""
        return Perturbation(**{name: jnp.asarray(value) for name, value in neutral_arrays(table, phases).items()})

    @property
    def phases(self) -> int:
        """Number of phases (the leading axis; for a stacked batch, the axis after the lanes)."""
        return self.start.shape[-1]

    def intensity(self, time: Scalar) -> PerPhase:
        """How strongly each phase acts at `time`: 0 outside its interval, else the Hill response to the dose curve,
        in [0, 1]."""
        begun = jnp.isfinite(self.start)
        since = jnp.maximum(jnp.where(begun, time - jnp.where(begun, self.start, 0.0), 0.0), 0.0)
        # What was given "since ever" is fully absorbed, and gone if it is eliminated at all.
        remaining = jnp.where(begun, _bateman(since, self.ka, self.ke), jnp.where(self.ke > 0, 0.0, 1.0))
        concentration = self.dose * remaining
        # A neutral concentration where there is no threshold keeps the power and its derivative finite.
        thresholded = self.ic50 > 0
        ratio = jnp.where(thresholded, concentration, 1.0) / jnp.where(thresholded, self.ic50, 1.0)
        # On the log scale, so that no power overflows; the least normal number stands for "nothing there".
        positive = ratio > jnp.finfo(ratio.dtype).tiny
        occupied = jnp.where(positive, jax.nn.sigmoid(self.hill * jnp.log(jnp.where(positive, ratio, 1.0))), 0.0)
        response = jnp.where(thresholded, occupied, jnp.where(concentration > 0, 1.0, 0.0))
        return jnp.where((self.start <= time) & (time < self.stop), response, 0.0)

    def at(self, time: Scalar) -> Edits:
        """All phases combined at `time` (see the module's first lines for the rule)."""
        intensity = self.intensity(time)[:, None]
        holding = (self.hold * jnp.where(intensity > 0, 1.0, 0.0)) > 0
        # With several holds on one species the last phase wins: its position is the largest among those that hold.
        rank = jnp.where(holding, jnp.arange(1, self.phases + 1)[:, None], 0)
        last = holding & (rank == jnp.max(rank, axis=0, keepdims=True))
        return Edits(
            factor=jnp.prod(1.0 + intensity * (self.factor - 1.0), axis=0),
            activity=jnp.prod(1.0 + intensity * (self.activity - 1.0), axis=0),
            drive=jnp.sum(intensity * self.drive, axis=0),
            hold=jnp.any(holding, axis=0),
            level=jnp.sum(jnp.where(last, self.level, 0.0), axis=0),
            edge_factor=jnp.prod(1.0 + intensity * (self.edge_factor - 1.0), axis=0),
            signal=jnp.sum(intensity * self.signal, axis=0),
        )

    def during(self, left: Scalar, right: Scalar) -> "Perturbation":
        """The same perturbation for a solver that works on `[left, right]`, which no phase's start or stop may cut.

        Whether a phase is on is decided at the interval's middle, so that a stage evaluated exactly at an end does
        not see the neighbour's phase.
        """
        return self.acting(0.5 * (left + right))

    def acting(self, time: Scalar) -> "Perturbation":
        """The phases that are on at `time`, made to last for ever; the others never start. `time = -inf` keeps what
        acts since ever, `inf` what never ends."""
        on = (self.start <= time) & ((time < self.stop) | jnp.isposinf(self.stop))
        return eqx.tree_at(
            lambda p: (p.start, p.stop), self, (jnp.where(on, self.start, jnp.inf), jnp.full_like(self.stop, jnp.inf))
        )

    def switch_times(self) -> Float[Array, " switch"]:
        """Sorted starts and stops of all phases, `2 * phase` of them, infinite ones included."""
        return jnp.sort(jnp.concatenate([self.start, self.stop]))

    def compose(self, other: "Perturbation") -> "Perturbation":
        """Both together: factors multiply, drives and signals add, phases of both are kept."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), self, other)

    def pad(self, phases: int) -> "Perturbation":
        """The same perturbation with idle phases added up to `phases`, so that different ones can be stacked."""
        missing = phases - self.phases
        if missing < 0:
            raise PinnsimError.of(
                "E_PERTURB_TIME",
                f"Cannot pad a perturbation of {self.phases} phases to {phases}; ask for at least {self.phases}.",
            )

        def widen(name: str, array: Array) -> Array:
            filler = jnp.full((missing, *array.shape[1:]), _NEUTRAL[name], array.dtype)
            return jnp.concatenate([array, filler])

        return Perturbation(**{name: widen(name, getattr(self, name)) for name in _NEUTRAL})

    @staticmethod
    def stack(perturbations: Sequence["Perturbation"]) -> "Perturbation":
        """Lanes of one batch: pads all to the largest number of phases and adds a leading lane axis."""
        phases = max(p.phases for p in perturbations)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(p.pad(phases) for p in perturbations))


class Constant(eqx.Module):
    """Edits that never change, in the place of a perturbation: what acts between two switches, where no dose curve
    moves. Whatever does not depend on the state is then worked out once, not at every step of a solver."""

    edits: Edits

    def at(self, time: Scalar) -> Edits:
        """The edits, at any time."""
        return self.edits


Acting: TypeAlias = Perturbation | Constant


def neutral_arrays(table: Table, phases: int) -> dict[str, np.ndarray]:
    """Host arrays of the identity, to be filled by `Treatment.resolve`."""
    widths = {
        "factor": len(table.reactions),
        "activity": len(table.species),
        "drive": len(table.species),
        "hold": len(table.species),
        "level": len(table.species),
        "edge_factor": len(table.edges),
        "signal": len(table.inputs),
    }
    return {
        name: np.full((phases, widths[name]) if name in widths else (phases,), value)
        for name, value in _NEUTRAL.items()
    }


def _bateman(since: PerPhase, ka: PerPhase, ke: PerPhase) -> PerPhase:
    """Concentration per dose `since` after its start.

    With g = |ka - ke| t it is `ka t exp(-min(ka, ke) t) (1 - exp(-g)) / g`: exact where `ka = ke` (0/0 in the textbook
    form), and nothing grows with time.
    """
    at_once = jnp.isinf(ka)
    absorption = jnp.where(at_once, 1.0, ka)
    gap = jnp.abs(absorption - ke) * since
    small = gap < 1e-8
    shape = jnp.where(small, 1.0 - 0.5 * gap, -jnp.expm1(-gap) / jnp.where(small, 1.0, gap))
    absorbed = absorption * since * jnp.exp(-jnp.minimum(absorption, ke) * since) * shape
    return jnp.where(at_once, jnp.exp(-ke * since), absorbed)
