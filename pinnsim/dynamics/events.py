"""Events of a model: what happens at one instant, as SBML Level 3 has it, for compiled programs and for numpy alike.

    trigger false -> true at t:          due at t + delay; values are worked out now, or when it is executed
    trigger true -> false, not persistent: what waits of this event is cancelled
    at an instant:   while something is due: the due event of highest priority is executed, all triggers are looked at

So an execution may trigger, cancel or order others, at the same instant. Of equal priorities one is drawn, by a fixed
sequence that depends on how many were executed before (the same model always draws alike); events without a priority
come last, in the order of the file. What waits has so many places per event (`places`); more than that, endless
executions at one instant, and a delay that is negative or no number, end a lane with an outcome of their own.

Between instants solvers watch `conditions`: every relation in a trigger, and the triggers. Where one changes within a
step, the step is cut there, so that no instant is stepped over.

Source: M. Hucka et al., SBML Level 3 Version 2 Core, J. Integr. Bioinform. 16:20190021 (2019), 4.11.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.program import Program

PLACES = 16  # executions of one event that may wait at one time
_TURNS = 1000  # executions at one instant, after which it counts as endless
FINE, FULL, ENDLESS, WRONG_DELAY = 0, 1, 2, 3

Watch = Callable[[Any, Any], Any]
"""(time, state) -> the values of a program."""


@dataclasses.dataclass(frozen=True)
class Events:
    """The events of a model, hashable.

    **Arguments:** `names`: (event,); `watching`: the program of the `conditions`; the first of them are the triggers,
    in the order of events; `telling`: the program of `triggers`, `delays`, `priorities` by event, and of `values` and
    `sizes` by assignment; `ranked`: whether an event has a priority; `initial`, `persistent`, `early` (values from
    trigger time): per event; `owners`, `targets`: the event and the state of each assignment; `sizes`: what a value
    is multiplied by, "" for nothing; `kept`: states that are concentrations, whose amounts an event's change of their
    compartment leaves as they are, each with the name of its compartment's size; `species`: number of states;
    `drifting`: events whose conditions change with the time at other moments than the model's switches; `places`: see
    above.
    """

    names: tuple[str, ...]
    watching: Program
    conditions: tuple[str, ...]
    telling: Program
    triggers: tuple[str, ...]
    delays: tuple[str, ...]
    priorities: tuple[str, ...]
    ranked: tuple[bool, ...]
    initial: tuple[bool, ...]
    persistent: tuple[bool, ...]
    early: tuple[bool, ...]
    owners: tuple[int, ...]
    targets: tuple[int, ...]
    values: tuple[str, ...]
    sizes: tuple[str, ...]
    kept: tuple[tuple[int, str], ...]
    species: int
    drifting: tuple[str, ...] = ()
    places: int = PLACES

    @cached_property
    def _hash(self) -> int:
        return hash((self.names, self.watching, self.telling, self.owners, self.targets, self.places))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def reaches(self) -> np.ndarray:
        """(assignment, state), true where an assignment sets a state."""
        found = np.zeros((len(self.owners), self.species), dtype=bool)
        found[np.arange(len(self.owners)), np.array(self.targets, dtype=int)] = True
        return found

    @cached_property
    def owned(self) -> np.ndarray:
        """(assignment, event), true where an assignment is of an event."""
        found = np.zeros((len(self.owners), len(self.names)), dtype=bool)
        found[np.arange(len(self.owners)), np.array(self.owners, dtype=int)] = True
        return found

    @cached_property
    def told(self) -> "_Told":
        """Where `telling` has what."""
        at = self.telling.positions
        # A value that is multiplied by nothing stands in for its own factor.
        sizes = [size or name for size, name in zip(self.sizes, self.values, strict=True)]
        homes = at([name for _, name in self.kept])
        return _Told(at(self.triggers), at(self.delays), at(self.priorities), at(self.values), at(sizes), homes)

    @cached_property
    def flags(self) -> "_Flags":
        """What is said of every event and assignment, as arrays."""
        sized = [bool(size) for size in self.sizes]
        ranked, persistent, early, sized_ = (np.array(some, dtype=bool) for some in
                                             (self.ranked, self.persistent, self.early, sized))  # fmt: skip
        owners = np.array(self.owners, dtype=int)
        return _Flags(ranked, persistent, early[owners], owners, sized_)

    @cached_property
    def watched(self) -> np.ndarray:
        """(condition,), where `watching` has them."""
        return self.watching.positions(self.conditions)

    def waiting(self, xp: ModuleType, kind: Any) -> "Waiting":
        """Before anything happened."""
        events, assignments = len(self.names), len(self.owners)
        return Waiting(
            xp.asarray(np.array(self.initial, dtype=bool)),
            xp.full((events, self.places), np.inf, dtype=kind),
            xp.zeros((assignments, self.places), dtype=kind),
            xp.zeros((), dtype=int),
            xp.zeros((), dtype=int),
        )


class _Told(NamedTuple):
    """Positions. `homes`: of the sizes around what is kept."""

    triggers: np.ndarray
    delays: np.ndarray
    priorities: np.ndarray
    values: np.ndarray
    sizes: np.ndarray
    homes: np.ndarray


class _Flags(NamedTuple):
    """`ranked`, `persistent`: per event; `early`, `owners`, `sized`: per assignment."""

    ranked: np.ndarray
    persistent: np.ndarray
    early: np.ndarray
    owners: np.ndarray
    sized: np.ndarray


class Waiting(NamedTuple):
    """What is remembered between instants. `on`: (event,), triggers when last looked at; `due`: (event, place), when
    what waits is executed, infinite for empty places; `values`: (assignment, place), worked out at trigger time;
    `executed`: how many were; `trouble`: `FINE` or what went wrong."""

    on: Any
    due: Any
    values: Any
    executed: Any
    trouble: Any


def next_due(waiting: Waiting, xp: ModuleType = jnp) -> Any:
    """When the next execution is due; infinite where none waits."""
    return xp.min(waiting.due)


def noticed(events: Events, waiting: Waiting, time: Any, told: Any, xp: ModuleType = jnp) -> Waiting:
    """After the triggers were looked at: what rose waits, what fell and does not persist is cancelled."""
    at, flags = events.told, events.flags
    on = told[at.triggers] != 0
    rising, falling = on & ~waiting.on, ~on & waiting.on
    cancelled = falling & ~flags.persistent
    due = xp.where(cancelled[:, None], np.inf, waiting.due)
    empty = due == np.inf
    first = empty & (xp.cumsum(empty.astype(int), axis=1) == 1)
    put = rising[:, None] & first
    delay = told[at.delays]
    trouble = xp.where(xp.any(rising & ~(delay >= 0)), WRONG_DELAY, FINE)
    trouble = xp.where(xp.any(rising & ~xp.any(empty, axis=1)), FULL, trouble)
    due = xp.where(put, (time + delay)[:, None], due)
    values = xp.where(put[flags.owners], told[at.values][:, None], waiting.values)
    return Waiting(on, due, values, waiting.executed, xp.where(waiting.trouble == FINE, trouble, waiting.trouble))


def _draw(count: Any, events: int, xp: ModuleType) -> Any:
    """(event,), whole numbers without order, the next for every `count` (the finaliser of A. Appleby's MurmurHash3)."""
    word = xp.asarray(np.arange(1, events + 1, dtype=np.uint32) * np.uint32(0x9E3779B9))
    word = word + xp.asarray(count).astype(np.uint32) * xp.full((events,), 0x85EBCA6B, dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        word = (word ^ (word >> np.uint32(shift))) * np.uint32(factor)
    return (word >> np.uint32(2)).astype(np.int32)


def _chosen(events: Events, waiting: Waiting, time: Any, told: Any, xp: ModuleType) -> Any:
    """(event, place), true at what is executed next."""
    ready = waiting.due <= time
    any_ready = xp.any(ready, axis=1)
    ranked, given = events.flags.ranked, told[events.told.priorities]
    priority = xp.where(ranked & (given == given), given, -np.inf)
    best = xp.max(xp.where(any_ready, priority, -np.inf))
    tied = any_ready & (priority == best)
    count = len(events.names)
    order = np.arange(count, 0, -1, dtype=np.int32)
    rank = xp.where(ranked, _draw(waiting.executed, count, xp) + 1, order)
    rank = xp.where(tied, rank, 0)
    mine = tied & (rank == xp.max(rank))
    # Equal draws are settled by the file's order, several executions of one event by when they are due.
    mine = mine & (xp.cumsum(mine.astype(int)) == 1)
    soonest = xp.min(xp.where(mine[:, None], waiting.due, np.inf))
    pick = mine[:, None] & (waiting.due == soonest)
    return pick & (xp.cumsum(pick.astype(int), axis=1) == 1)


def _placed(events: Events, which: Any, values: Any, state: Any, xp: ModuleType) -> Any:
    """The state after the assignments of a mask."""
    hit = which[:, None] & events.reaches
    return xp.where(xp.any(hit, axis=0), xp.sum(xp.where(hit, values[:, None], 0.0), axis=0), state)


def _executed(
    events: Events, waiting: Waiting, time: Any, state: Any, tell: Watch, xp: ModuleType
) -> tuple[Waiting, Any]:
    at, flags = events.told, events.flags
    told = tell(time, state)
    pick = _chosen(events, waiting, time, told, xp)
    kept = xp.sum(xp.where(pick[flags.owners], waiting.values, 0.0), axis=1)
    values = xp.where(flags.early, kept, told[at.values])
    mine = xp.any(pick, axis=1)[flags.owners]
    # A concentration is set as an amount, in the compartment as it is before the event (case 01779 of the suite).
    state = _placed(events, mine, xp.where(flags.sized, values * told[at.sizes], values), state, xp)
    if events.kept:
        place = np.arange(events.species)[:, None] == np.array([k for k, _ in events.kept], dtype=int)
        ratio = told[at.homes] / tell(time, state)[at.homes]
        state = xp.where(place.any(axis=1), state * xp.sum(xp.where(place, ratio, 0.0), axis=1), state)
    due = xp.where(pick, np.inf, waiting.due)
    return waiting._replace(due=due, executed=waiting.executed + 1), state


def settled(
    events: Events,
    waiting: Waiting,
    time: Any,
    state: Any,
    tell: Watch,
    loop: Any,
    xp: ModuleType = jnp,
    fixed: Callable[[Any], Any] = lambda state: state,
) -> tuple[Waiting, Any]:
    """All that happens at one instant.

    **Arguments:** `tell(time, state)`: the values of `telling`; `loop(more, turn, carry)`: `jax.lax.while_loop`, or
    `host_loop` for numpy; `fixed(state)`: the state with what nothing may change.

    **Returns** what waits, and the state, afterwards.
    """
    waiting = noticed(events, waiting, time, tell(time, state), xp)

    def more(carry: tuple) -> Any:
        waiting, _, turns = carry
        return (next_due(waiting, xp) <= time) & (waiting.trouble == FINE) & (turns < _TURNS)

    def turn(carry: tuple) -> tuple:
        waiting, state, turns = carry
        waiting, state = _executed(events, waiting, time, state, tell, xp)
        state = fixed(state)
        return noticed(events, waiting, time, tell(time, state), xp), state, turns + 1

    waiting, state, turns = loop(more, turn, (waiting, state, xp.zeros((), dtype=int)))
    endless = (turns >= _TURNS) & (next_due(waiting, xp) <= time) & (waiting.trouble == FINE)
    return waiting._replace(trouble=xp.where(endless, ENDLESS, waiting.trouble)), state


def host_loop(more: Callable[[Any], Any], turn: Callable[[Any], Any], carry: Any) -> Any:
    """`jax.lax.while_loop` for numpy."""
    while more(carry):
        carry = turn(carry)
    return carry
