"""Switches that a model has of its own: conditions on the time alone, at which its right-hand side jumps; and whether
it has events, which most methods would pass over.

A step that straddles a jump loses its order, and one that is long enough never sees a pulse. Solvers already end steps
at the starts and stops of perturbations, so a model's own switches are given to them as phases that do nothing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.events import Events
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.learned_rate import as_written
from pinnsim.dynamics.naming import TIME
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation


def events_of(kinetics: AbstractKinetics) -> Events | None:
    """The events of a model that has any."""
    return kinetics.events if isinstance(kinetics, RuleSystem) else None


def refuse_events(kinetics: AbstractKinetics, what: str) -> None:
    """Raises `E_USAGE` for a model with events, which would be passed over."""
    events = events_of(kinetics)
    if events is not None:
        raise PinnsimError.of(
            "E_USAGE",
            f"The model has {len(events.names)} events (first: '{events.names[0]}'), which {what} would pass over; use "
            "simulate(model, times, method=ODE()) or solve_many, or take the events out of the file.",
        )


def with_own_switches(kinetics: AbstractKinetics, perturbations: Perturbation) -> Perturbation:
    """The same perturbations, (lane, phase), with an idle phase for each of the model's own switches."""
    kinetics = as_written(kinetics)
    if not isinstance(kinetics, RuleSystem) or not kinetics.switching:
        return perturbations
    idle = Perturbation.none(kinetics.table, len(kinetics.switching))
    idle = eqx.tree_at(lambda p: p.start, idle, _times(kinetics))
    lanes = perturbations.start.shape[0]

    def joined(own: Array, more: Array) -> Array:
        return jnp.concatenate([own, jnp.broadcast_to(more, (lanes, *more.shape)).astype(own.dtype)], axis=1)

    return jax.tree.map(joined, perturbations, idle)


def reads_time(kinetics: AbstractKinetics) -> bool:
    """Whether a model's rates move with the time alone, as a linearly implicit step must know to keep its order."""
    kinetics = as_written(kinetics)
    if not isinstance(kinetics, RuleSystem):
        return False
    return not kinetics.running.reached_by([TIME]).isdisjoint(kinetics.rates)


@eqx.filter_jit
def _times(kinetics: RuleSystem) -> Float[Array, " switch"]:
    times = resolve(kinetics).switch_times()
    return jnp.where(jnp.isfinite(times), times, jnp.inf)
