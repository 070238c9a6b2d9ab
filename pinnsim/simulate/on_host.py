"""A model of reactions, rules and events solved by scipy and numpy, without compiling anything: one run, and a second
opinion on `simulate`, with which it shares what an event does (`pinnsim.dynamics.events`), but no solver.

Between two instants scipy's solver steps; every step is looked at in several places of its dense output for conditions
that changed, and the first such moment is bracketed down to neighbouring numbers, where the solver stops and starts
afresh.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.integrate import DOP853, LSODA

from pinnsim.dynamics.events import FINE, Events, Waiting, host_loop, next_due, settled
from pinnsim.dynamics.rules import HostRules, RuleSystem
from pinnsim.shapes import Numbers
from pinnsim.simulate.result import Outcome, event_outcome

_LOOKS, _CLOSER = 8, 512  # places that are looked at, of a step and of a stretch in which something changed
_MOST = 100_000  # instants of a run


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
        found = _Run(host, system.events, moments, partial(_started, method, step, rtol, atol)).run()
        if found.outcome not in (Outcome.NOT_FINITE, Outcome.MAX_STEPS):
            break
    return found


def _started(method: type, step: float, rtol: float, atol: float, slope: object, time: float, state: np.ndarray,
             end: float) -> LSODA | DOP853:  # fmt: skip
    length = end - time
    return method(slope, time, state, end, rtol=rtol, atol=atol, max_step=step, first_step=min(1e-4 * step, length))


class _Run:
    def __init__(self, host: HostRules, events: Events | None, times: np.ndarray, started: partial) -> None:
        self.host, self.events, self.times, self.started = host, events, times, started
        self.shown = np.full((len(times), len(host.begin)), np.nan)
        self.read = 0

    def run(self) -> HostSolution:
        time, last, state, instants = float(self.times[0]), float(self.times[-1]), self.host.begin, 0
        waiting = None if self.events is None else self.events.waiting(np, float)
        waiting, state = self._settle(waiting, time, state)
        while True:
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
            waiting, state = self._settle(waiting, time, state)

    def _settle(self, waiting: Waiting | None, time: float, state: np.ndarray) -> tuple[Waiting | None, np.ndarray]:
        if self.events is None or waiting is None or waiting.trouble != FINE:
            return waiting, state
        telling = self.events.telling

        def tell(time: float, state: np.ndarray) -> np.ndarray:
            return telling.run_on_host(self.host.given(time, state))

        return settled(self.events, waiting, time, state, tell, host_loop, np)

    def _to_next(
        self, waiting: Waiting | None, time: float, state: np.ndarray, last: float
    ) -> tuple[float, np.ndarray] | None:
        """The next instant, or the end; what is asked on the way is filled in."""
        end = last if waiting is None else min(last, float(next_due(waiting, np)))
        before = None if waiting is None else self._before(waiting, time, state)
        solver = self.started(self.host.slope, time, state, end)
        while solver.status == "running":
            solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                return None
            dense = solver.dense_output()
            found = None if before is None else self._changed(before, dense, solver.t_old, solver.t)
            upto = solver.t if found is None else found
            while self.read < len(self.times) and (self.times[self.read] < upto):
                self.shown[self.read] = dense(self.times[self.read])
                self.read += 1
            if found is not None:
                return found, dense(found)
        return end, solver.y

    def _watched(self, times: np.ndarray, states: np.ndarray) -> np.ndarray:
        if self.events is None:
            return np.zeros((0, len(times)))
        watching, triggers = self.events.watching, len(self.events.triggers)
        values = watching.run_on_host(self.host.given(times, states))[watching.positions(self.events.conditions)]
        values = np.nan_to_num(values)
        # Any number but 0 is true.
        values[:triggers] = values[:triggers] != 0
        return values

    def _before(self, waiting: Waiting, time: float, state: np.ndarray) -> np.ndarray:
        """Conditions as they are, triggers as they were noticed: what an instant missed is noticed right after it."""
        values = self._watched(np.array([time]), state[:, None])[:, 0]
        values[: len(waiting.on)] = waiting.on
        return values

    def _changed(
        self, before: np.ndarray, dense: Callable[[np.ndarray], np.ndarray], left: float, right: float
    ) -> float | None:
        """The first moment in (left, right] at which a condition is another than before, and is seen to be."""

        def differs(times: np.ndarray) -> np.ndarray:
            return (self._watched(times, dense(times)) != before[:, None]).any(axis=0)

        low, high, looks = left, right, _LOOKS
        while True:
            inside = np.linspace(low, high, looks + 1)[1:]
            inside[-1] = high
            inside = np.unique(inside[(inside > low) & (inside <= high)])
            other = differs(inside)
            # Between neighbouring numbers rounding may hide what had changed: then the upper end is the moment.
            if not other.any() or len(inside) == 1:
                return self._seen(before, dense, high, right) if other.any() or looks == _CLOSER else None
            first = int(np.argmax(other))
            low, high, looks = low if first == 0 else inside[first - 1], inside[first], _CLOSER

    def _seen(self, before: np.ndarray, dense: Callable[..., np.ndarray], moment: float, right: float) -> float:
        """The moment, or soon after: a state at one time is rounded otherwise than those of many times at once, and a
        change that it does not show would be found again and again."""
        seen, gap = float(moment), float(np.spacing(moment))
        while seen < right and not (self._watched(np.array([seen]), dense(seen)[:, None])[:, 0] != before).any():
            seen, gap = min(moment + gap, right), 2 * gap
        return seen
