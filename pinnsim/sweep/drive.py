"""The run: hands out what is pending, writes what comes back, and ends in order whatever happens.

A chunk whose worker died is handed in once more; when it kills a worker again it is halved, and so on, until single
points are left that killed their worker twice: these are quarantined, with their names in the journal, and the rest of
the chunk is kept. A first Ctrl-C gives up the chunks in hand, a second one ends at once.
"""

import dataclasses
import signal
import sys
import threading
import time
from collections import deque
from types import FrameType

import numpy as np
from tqdm import tqdm

from pinnsim.errors import PinnsimError
from pinnsim.simulate import Outcome
from pinnsim.sweep.engine import AbstractEngine, AbstractWork, Arrays, Done, Job, Lost
from pinnsim.sweep.store import QUARANTINED, Store

_KILLS = 2
# Workers in a row that die without a point done: as long as none was ever done, and after that. Whole regions of points
# may kill; but where every worker dies of whatever it is given, halving a million points would never end.
_VAIN, _VAIN_LATER = 20, 200
_EVERY = 30.0  # seconds between lines where nobody watches


@dataclasses.dataclass(frozen=True)
class Report:
    """How a run ended.

    **Arguments:** `counts`: see `Store.counts`; `chunks`: written by this run; `seconds`: of the run; `computing`: of
    its workers together; `quarantined`: points; `lost`: workers that died.
    """

    counts: dict[str, int]
    chunks: int
    seconds: float
    computing: float
    quarantined: tuple[int, ...]
    lost: int


class Interrupts:
    """While it holds, a first Ctrl-C is noted, and a second one raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.noted = False
        self._before: object = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
        print("Stopping: what is written is kept. Ctrl-C again ends at once.", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.noted


def drive(store: Store, points: AbstractWork, engine: AbstractEngine, progress: bool = False) -> Report:
    """Works out everything that is pending or damaged in a store, and writes it.

    **Arguments:** `store`: held (`with store.hold()`); `points`: what to work out; `engine`: closed in any case.

    **Raises** `KeyboardInterrupt` after Ctrl-C, `E_DISK` when the disk is full (what is in the journal is kept),
    `E_CKPT_CORRUPT` where a chunk comes out otherwise than before, `E_SOLVER` where workers die of whatever they are
    given, and what the engine raises.
    """
    began = time.perf_counter()
    work = _Hands(points)
    written, computing = 0, 0.0
    try:
        damaged = store.damage()
        pending = deque(chunk for chunk in store.layout.own if chunk not in store.done or chunk in damaged)
        with Interrupts() as stopping, _Progress(store, len(pending), progress) as shown:
            while pending or work.busy:
                if stopping():
                    raise KeyboardInterrupt
                while pending and work.busy < engine.capacity:
                    chunk = pending.popleft()
                    engine.submit(work.begin(Job(chunk, *store.layout.span(chunk))))
                for result in engine.collect(stopping):
                    if isinstance(result, Lost):
                        for job in work.lost(result):
                            engine.submit(job)
                    else:
                        computing += result.seconds
                        work.done(result)
                for chunk, arrays, note in work.complete():
                    start, stop = store.layout.span(chunk)
                    store.commit(chunk, {**arrays, **points.axes(start, stop)}, note)
                    written += 1
                    shown.advance(stop - start)
    finally:
        engine.close()
    return Report(
        store.counts(), written, time.perf_counter() - began, computing, tuple(sorted(work.quarantined)), work.deaths
    )


class _Hands:
    """Chunks in hand: which of their points are done, and how often workers died on which."""

    def __init__(self, points: AbstractWork) -> None:
        self.points = points
        self.parts: dict[int, dict[int, tuple[int, Arrays]]] = {}
        self.goals: dict[int, Job] = {}
        self.kills: dict[Job, int] = {}
        self.quarantined: dict[int, str] = {}
        self.deaths = 0
        self.vain = 0
        self.fruitful = False

    @property
    def busy(self) -> int:
        return len(self.goals)

    def begin(self, job: Job) -> Job:
        self.goals[job.chunk], self.parts[job.chunk] = job, {}
        return job

    def done(self, result: Done) -> None:
        job = result.job
        self.vain, self.fruitful = 0, True
        if job.chunk in self.parts:
            self.parts[job.chunk][job.start] = (job.stop, result.arrays)

    def lost(self, result: Lost) -> list[Job]:
        """What to hand in again."""
        job = result.job
        self.deaths += 1
        self.vain += 1
        if self.vain > (_VAIN_LATER if self.fruitful else _VAIN):
            raise PinnsimError.of(
                "E_SOLVER",
                f"{self.vain} workers in a row died at their work (the last: {result.reason}) and nothing was done in "
                "between; look whether one block fits into the memory (a smaller 'block'), or take fewer workers.",
            )
        self.kills[job] = kills = self.kills.get(job, 0) + 1
        if kills < _KILLS:
            return [job]
        if job.stop - job.start == 1:
            self.quarantined[job.start] = result.reason
            self.parts[job.chunk][job.start] = (job.stop, self.points.lost(1))
            return []
        middle = (job.start + job.stop) // 2
        return [Job(job.chunk, job.start, middle), Job(job.chunk, middle, job.stop)]

    def complete(self) -> list[tuple[int, Arrays, dict]]:
        """Chunks of which every point is there, with what the journal should say of them."""
        found = []
        for chunk, goal in list(self.goals.items()):
            parts, place, pieces = self.parts[chunk], goal.start, []
            while place in parts:
                place, arrays = parts[place]
                pieces.append(arrays)
            if place == goal.stop:
                arrays = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
                bad = {str(k): reason for k, reason in self.quarantined.items() if goal.start <= k < goal.stop}
                found.append((chunk, arrays, {"quarantined": bad} if bad else {}))
                del self.goals[chunk], self.parts[chunk]
        return found


class _Progress:
    """A bar with points per second, failures by reason and time left; lines where nobody watches."""

    def __init__(self, store: Store, chunks: int, wanted: bool) -> None:
        self.store, self.wanted, self.watched = store, wanted, sys.stderr.isatty()
        counts = store.counts()
        self.begun = self.told = time.perf_counter()
        self.here = 0
        self.total, self.before = counts["requested"], counts["requested"] - counts["pending"]
        self.bar = tqdm(
            total=self.total, initial=min(self.before, self.total), unit="point", unit_scale=True, desc="sweep",
            disable=not (wanted and self.watched),
        )  # fmt: skip
        if wanted and not self.watched:
            print(f"sweep: {chunks} chunks to do, {self.before} of {self.total} points done before", file=sys.stderr)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def advance(self, points: int) -> None:
        """Tells of a chunk."""
        self.here += points
        if not self.wanted:
            return
        failures = failures_by_reason(self.store)
        if self.watched:
            self.bar.update(min(points, self.total - self.bar.n))
            self.bar.set_postfix(failures)
            return
        now = time.perf_counter()
        counts = self.store.counts()
        if now - self.told > _EVERY or not counts["pending"]:
            self.told = now
            rate = self.here / (now - self.begun)
            failed = ", ".join(f"{count} {reason}" for reason, count in failures.items()) or "none failed"
            print(
                f"sweep: {self.total - counts['pending']} of {self.total} points, {rate:.3g} points/s, {failed}, "
                f"{counts['pending'] / rate:.0f} s left",
                file=sys.stderr,
            )


def failures_by_reason(store: Store) -> dict[str, int]:
    """How many points failed, by reason in words."""
    return {reason_of(code): count for code, count in sorted(store.outcomes().items()) if code != Outcome.DONE}


def reason_of(code: int) -> str:
    """An outcome in a word or two."""
    words = {
        Outcome.MAX_STEPS.value: "out of steps",
        Outcome.NOT_FINITE.value: "not finite",
        Outcome.NOT_SETTLED.value: "no rest",
        Outcome.NOT_STABLE.value: "not stable",
        QUARANTINED: "killed a worker",
    }
    return words.get(code, f"outcome {code}")
