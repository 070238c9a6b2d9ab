"""When a model of reactions, rules and events is a process of jumps, and its events between firings.

It is one where reactions alone move it, each by whole numbers of molecules at a rate >= 0 that the time does not change
between switches. What can be known before is refused here, with its reason; a rate below 0, and an amount below 0 or
not whole, end a cell with the outcome `NO_JUMPS`.

Between firings amounts stand still, so that triggers change at firings, at switches and at executions that are due.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.dynamics.events import FINE, FULL, Events, Waiting, next_due, settled
from pinnsim.dynamics.naming import TIME, amount_of
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import Problems, first
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import Amounts, Scalar
from pinnsim.simulate.march import Channels, Span
from pinnsim.simulate.result import Outcome

Stops = Callable[[Scalar, Amounts], Array]
"""(time, numbers) -> whether to stop."""
Fire = Callable[[Any, Span, Stops], tuple[Any, Array, Scalar]]
"""(jumps, span, stops) -> jumps, outcome and time at the end of a span, or where it stops."""


def jumps_of(system: RuleSystem) -> Channels:
    """The jumps of a model. **Raises** `E_USAGE`, with all reasons, where it is no process of jumps."""
    with Problems() as problems:
        _check_columns(system, problems, "there are no jumps of it")
        timed = [name for name in system.rates if name in system.running.reached_by([TIME])]
        if timed:
            problems.add(
                "E_USAGE",
                f"{len(timed)} rates depend on the time (first: {first(timed)}), and firings would not be exact; "
                "write the change as an event at a time, or use ODE().",
            )
        if system.events is not None and system.events.drifting:
            names = system.events.drifting
            problems.add(
                "E_USAGE",
                f"{len(names)} triggers compare the time with what is no constant (first: {first(names)}); sampled "
                "cells know triggers on amounts, or on the time against constants; use ODE().",
            )
    numbered = tuple(name == amount_of(label) for name, label in zip(system.states, system.table.species, strict=True))
    return Channels(system, system.structure, numbered)


def check_fluctuations(system: RuleSystem) -> None:
    """Raises `E_USAGE`, with all reasons, for a model that has no linear noise."""
    with Problems() as problems:
        _check_columns(system, problems, "it has no linear noise")
        if system.events is not None:
            problems.add(
                "E_USAGE",
                f"The model has {len(system.events.names)} events (first: {system.events.names[0]}), whose effect on "
                "fluctuations is not worked out; use SSA(...) or ODE().",
            )


def _check_columns(system: RuleSystem, problems: Problems, so: str) -> None:
    ruled = [name for name in system.rates if name.startswith("rate:")]
    parts = [name for name in system.rates if ">" in name]
    if ruled:
        problems.add(
            "E_USAGE",
            f"{len(ruled)} quantities have a rate rule (first: {first(ruled)}), which moves them without reactions, so "
            f"{so}; use ODE().",
        )
    if parts:
        problems.add(
            "E_USAGE",
            f"{len(parts)} parts of reactions (first: {first(parts)}) change a species by what is no constant whole "
            f"number, so {so}; use ODE().",
        )


class Eventful(NamedTuple):
    """Jumps, and what waits."""

    jumps: Any
    waiting: Waiting


def with_events(system: RuleSystem, begin: Scalar, perturbation: Perturbation, jumps: Any, size: Scalar) -> Eventful:
    """A cell at its start, after the events of that moment."""
    events = _events(system)
    edits = perturbation.during(begin, begin).at(begin)
    waiting = events.waiting(jnp, jumps.numbers.dtype)
    return _looked(system, edits, size, Eventful(jumps, waiting), begin)


def through_instants(system: RuleSystem, size: Scalar, fire: Fire, own: Eventful, span: Span) -> tuple[Eventful, Array]:
    """From one end of a span to the other."""
    events = _events(system)
    triggers = events.watching.positions(events.triggers)

    def on(time: Scalar, numbers: Amounts) -> Array:
        return events.watching.run(system.given(time, numbers / size, span.edits))[triggers] != 0

    def more(carry: tuple) -> Array:
        left, _, outcome = carry
        return (left < span.right) & (outcome == Outcome.DONE)

    def turn(carry: tuple) -> tuple:
        left, own, _ = carry
        right = jnp.minimum(span.right, next_due(own.waiting))

        def stops(time: Scalar, numbers: Amounts) -> Array:
            return jnp.any(on(time, numbers) != own.waiting.on)

        jumps, outcome, reached = fire(own.jumps, span._replace(left=left, right=right), stops)
        own = _looked(system, span.edits, size, own._replace(jumps=jumps), reached)
        trouble = own.waiting.trouble
        ended = jnp.where(trouble == FINE, outcome, trouble + (Outcome.EVENTS_WAITING.value - FULL))
        return reached, own, jnp.where(outcome == Outcome.DONE, ended, outcome)

    # A trigger such as `time > 5` changes right after the switch at which this span begins.
    own = _looked(system, span.edits, size, own, jnp.nextafter(span.left, span.right))
    trouble = own.waiting.trouble
    outcome = jnp.where(trouble == FINE, Outcome.DONE.value, trouble + (Outcome.EVENTS_WAITING.value - FULL))
    _, own, outcome = jax.lax.while_loop(more, turn, (span.left, own, outcome.astype(int)))
    return own, outcome


def _events(system: RuleSystem) -> Events:
    if system.events is None:
        raise TypeError("The model has no events.")
    return system.events


def _looked(system: RuleSystem, edits: Edits, size: Scalar, own: Eventful, time: Scalar) -> Eventful:
    """After all that happens at a moment."""
    numbers, waiting = _happened(system, edits, size, own.jumps.numbers, own.waiting, time)
    return Eventful(own.jumps._replace(numbers=numbers), waiting)


def _happened(
    system: RuleSystem, edits: Edits, size: Scalar, numbers: Amounts, waiting: Waiting, time: Scalar
) -> tuple[Amounts, Waiting]:
    events = _events(system)

    def tell(time: Scalar, state: Amounts) -> Array:
        return events.telling.run(system.given(time, state, edits))

    def held(state: Amounts) -> Amounts:
        return jnp.where(edits.hold, edits.level, state)

    waiting, state = settled(events, waiting, time, numbers / size, tell, jax.lax.while_loop, jnp, held)
    # What no event set stays as it is, to the last digit.
    changed = state != numbers / size
    return jnp.where(changed, state * size, numbers), waiting
