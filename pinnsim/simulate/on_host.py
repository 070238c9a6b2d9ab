"""A model of reactions, rules and events solved by scipy and numpy, without compiling anything: one run, and a second
opinion on `simulate`, with which it shares what an event does (`pinnsim.dynamics.events`), but no solver.

Between two instants scipy's solver moves the states that reactions and rate rules move; the others stand still. Every
step is looked at in several places of its dense output for conditions that changed, and the first such moment is
bracketed down to neighbouring numbers. Where what happens then leaves the motion as it was, the step goes on; else a
solver starts afresh from there. Where nothing moves, no solver runs at all.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from scipy.integrate import DOP853, LSODA, OdeSolver

from pinnsim.dynamics.events import FINE, Events, Waiting, host_loop, next_due, settled
from pinnsim.dynamics.operations import RELATIONS, evaluate
from pinnsim.dynamics.program import Program
from pinnsim.dynamics.rules import HostRules, RuleSystem
from pinnsim.shapes import Numbers
from pinnsim.simulate.result import Outcome, event_outcome

# Places that are looked at: of a step; of a stretch in which something changed, and around where it should have.
_LOOKS, _EVENLY = np.linspace(0.0, 1.0, 9), np.linspace(0.0, 1.0, 65)
_DENSER = np.concatenate([-(2.0 ** np.arange(44, -1, -1)), [0.0], 2.0 ** np.arange(45)])
_GUESSES = 3
_MOST = 100_000  # instants of a run
_FIRST, _AGAIN = 1e-4, 1e-2  # first step, of the longest one; after an instant, of the last one before it

Dense = Callable[[float | np.ndarray], np.ndarray]
"""A time -> its state, (species,); several -> (species, time)."""


class HostSolution(NamedTuple):
    """States at the asked times, (time, species), NaN after a failure; and the outcome."""

    states: np.ndarray
    outcome: Outcome


def solve_on_host(
    system: RuleSystem, times: Numbers, rtol: float = 1e-9, atol: float = 1e-12, max_step: float | None = None
) -> HostSolution:
    """Solves a model from its own start at `times[0]`, unperturbed.

    **Arguments:** `times`: (time,), increasing; `rtol`, `atol`: of scipy's solvers (LSODA, and DOP853 where it fails);
    `max_step`: default the shortest time between two asked ones.

    **Returns** states after the events of each time, and an outcome.
    """
    host, moments = system.on_host(), np.asarray(times, dtype=float)
    step = float(np.min(np.diff(moments))) if max_step is None else max_step
    for method in (LSODA, DOP853):
        found = _Run(host, system.events, moments, partial(method, rtol=rtol, atol=atol, max_step=step), step).run()
        if found.outcome not in (Outcome.NOT_FINITE, Outcome.MAX_STEPS):
            break
    return found


class _Step(NamedTuple):
    """A stretch between two times, and the states in it."""

    left: float
    right: float
    dense: Dense


class _Run:
    def __init__(
        self, host: HostRules, events: Events | None, times: np.ndarray, solver: Callable[..., OdeSolver], step: float
    ) -> None:
        self.host, self.events, self.times, self.solver, self.step = host, events, times, solver, step
        self.shown = np.full((len(times), len(host.begin)), np.nan)
        self.read = 0
        self.under_way: OdeSolver | None = None
        self.moving = np.flatnonzero(host.moves)
        self.switches = np.sort(host.switches)
        self.size = 0.0  # of the last step

    def run(self) -> HostSolution:
        time, last, state, instants = float(self.times[0]), float(self.times[-1]), self.host.begin, 0
        waiting = None if self.events is None else self.events.waiting(np, float)
        while True:
            waiting, state = self._settle(waiting, time, state)
            outcome = Outcome.DONE if waiting is None else event_outcome(int(waiting.trouble))
            if outcome != Outcome.DONE or not np.isfinite(state).all():
                return HostSolution(self.shown, outcome if outcome != Outcome.DONE else Outcome.NOT_FINITE)
            if self.read < len(self.times) and self.times[self.read] <= time:
                self.shown[self.read] = state
                self.read += 1
            if time >= last:
                return HostSolution(self.shown, Outcome.DONE)
            instants += 1
            if instants > _MOST:
                return HostSolution(self.shown, Outcome.MANY_EVENTS)
            found = self._to_next(waiting, time, state, last)
            if found is None:
                return HostSolution(self.shown, Outcome.NOT_FINITE)
            time, state = found

    def _settle(self, waiting: Waiting | None, time: float, state: np.ndarray) -> tuple[Waiting | None, np.ndarray]:
        if self.events is None or waiting is None or waiting.trouble != FINE:
            return waiting, state
        telling = self.events.telling

        def tell(time: float, state: np.ndarray) -> np.ndarray:
            return telling.run_on_host(self.host.given(time, state))

        waiting, after = settled(self.events, waiting, time, state, tell, host_loop, np)
        if (self._steering & (after != state)).any():
            self.under_way = None
        return waiting, after

    @property
    def _eventful(self) -> Events:
        if self.events is None:
            raise TypeError("The model has no events.")
        return self.events

    @cached_property
    def _steering(self) -> np.ndarray:
        """(species,), whether a state moves, or is read by what moves others: where it jumps, so does the motion."""
        return self.host.moves | self.host.steers

    def _to_next(
        self, waiting: Waiting | None, time: float, state: np.ndarray, last: float
    ) -> tuple[float, np.ndarray] | None:
        """The next instant, or the end; what is asked on the way is filled in."""
        ahead = self.switches[self.switches > time]
        end = min(last, float(ahead[0])) if len(ahead) else last
        end = end if waiting is None else min(end, float(next_due(waiting, np)))
        before = None if waiting is None else self._before(waiting, time, state)
        arrived = time, state
        for step in self._steps(time, state, end) if len(self.moving) else self._resting(time, state, end):
            if step is None:
                return None
            found = None if before is None else self._changed(before, step)
            upto = step.right if found is None else found
            while self.read < len(self.times) and self.times[self.read] < upto:
                self.shown[self.read] = step.dense(self.times[self.read])
                self.read += 1
            if found is not None:
                return found, step.dense(found)
            arrived = step.right, step.dense(step.right)
        return arrived

    def _resting(self, time: float, state: np.ndarray, end: float) -> Iterator[_Step]:
        """Steps of a model in which nothing moves."""

        def dense(times: float | np.ndarray) -> np.ndarray:
            return state if np.ndim(times) == 0 else state[:, None]

        right = time
        while right < end:
            left, right = right, min(right + self.step, end)
            yield _Step(left, right, dense)

    def _steps(self, time: float, state: np.ndarray, end: float) -> Iterator[_Step | None]:
        """Steps of a solver, to the end or to where it was to stop; `None` where it fails."""
        solver, moving = self.under_way, self.moving
        ahead = solver is not None and (solver.t > time or solver.status == "running")
        if solver is not None and ahead and solver.t_bound <= end:
            if solver.t > time:
                yield self._step(solver, time, state)
        else:
            full = state.copy()

            def slope(time: float, own: np.ndarray) -> np.ndarray:
                full[moving] = own
                return self.host.slope(time, full)[moving]

            first = min(max(_FIRST * self.step, _AGAIN * self.size), self.step, end - time)
            solver = self.under_way = self.solver(slope, time, state[moving], end, first_step=first)
        while solver.status == "running":
            solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                yield None
                return
            self.size = solver.t - solver.t_old
            yield self._step(solver, solver.t_old, state)
        self.under_way = None

    def _step(self, solver: OdeSolver, left: float, state: np.ndarray) -> _Step:
        """What a solver's last step is from some time on."""
        inner = solver.dense_output()

        def dense(times: float | np.ndarray) -> np.ndarray:
            own = solver.y if np.ndim(times) == 0 and times == solver.t else inner(times)
            found = np.empty((len(state), *np.shape(times)))
            found[:] = state if np.ndim(times) == 0 else state[:, None]
            found[self.moving] = own
            return found

        return _Step(left, solver.t, dense)

    def _known(self, times: np.ndarray, states: np.ndarray) -> np.ndarray:
        """All that `watching` works out, (known, time)."""
        return self._eventful.watching.run_on_host(self.host.given(times, states))

    def _conditions(self, known: np.ndarray) -> np.ndarray:
        """(condition, time)."""
        values = known[self._eventful.watched]
        values[np.isnan(values)] = 0.0
        # Any number but 0 is true.
        triggers = len(self._eventful.triggers)
        values[:triggers] = values[:triggers] != 0
        return values

    def _before(self, waiting: Waiting, time: float, state: np.ndarray) -> np.ndarray:
        """Conditions as they are, triggers as they were noticed: what an instant missed is noticed right after it."""
        values = self._conditions(self._known(np.array([time]), state[:, None]))[:, 0]
        values[: len(waiting.on)] = waiting.on
        return values

    def _changed(self, before: np.ndarray, step: _Step) -> float | None:
        """The first moment of a step at which a condition is another than before, and is seen to be."""
        low, high, places = step.left, step.right, step.left + (step.right - step.left) * _LOOKS
        found = False
        while True:
            places[0], places[-1] = low, high
            known = self._known(places, step.dense(places))
            other = (self._conditions(known) != before[:, None]).any(axis=0)
            # What differs where a stretch begins is noticed right after it.
            other[0] = False
            if not other.any():
                # Between neighbouring numbers rounding may hide what had changed: then the upper end is the moment.
                return self._seen(before, step, high) if found else None
            found, first = True, int(np.argmax(other))
            low, high = float(places[first - 1]), float(places[first])
            if high <= np.nextafter(low, np.inf):
                return self._seen(before, step, high)
            places = _closer(low, high, _crossings(self._eventful.watching, known[:, first - 1 : first + 1]))

    def _seen(self, before: np.ndarray, step: _Step, moment: float) -> float:
        """The moment, or soon after: a state at one time is rounded otherwise than those of many times at once, and a
        change that it does not show would be found again and again."""
        seen, gap = max(float(moment), float(np.nextafter(step.left, np.inf))), float(np.spacing(moment))
        while seen < step.right:
            known = self._known(np.array([seen]), step.dense(seen)[:, None])
            if (self._conditions(known)[:, 0] != before).any():
                break
            seen, gap = min(moment + gap, step.right), 2 * gap
        return seen


def _crossings(watching: Program, known: np.ndarray) -> list[float]:
    """Where in a stretch, from 0 to 1, the sides of relations would be equal, were they straight lines.

    **Arguments:** `known`: (known, 2), what a program works out at both ends.
    """
    found: list[float] = []
    with np.errstate(all="ignore"):
        for tree, slots, target in watching.on_host:
            if tree[0] in RELATIONS and len(tree) == 3:
                given = {name: known[places] for name, places in slots.items()}
                left, right = np.broadcast_to(evaluate(("-", *tree[1:]), given, np), (target.stop - target.start, 2)).T
                share = np.unique((left / (left - right))[(left < 0) != (right < 0)])
                found += share[(share >= 0) & (share <= 1)].tolist()
    return sorted(found)[:_GUESSES]


def _closer(low: float, high: float, shares: list[float]) -> np.ndarray:
    """Places in a stretch: evenly spread, and ever denser around where a crossing is expected."""
    around = [low + (high - low) * share + np.spacing(high) * _DENSER for share in shares]
    places = np.concatenate([low + (high - low) * _EVENLY, *around])
    places.sort()
    return np.clip(places, low, high)
