"""Where points are worked out: one small interface, and the simplest engine, this process.

An engine takes jobs (a range of points) and gives back arrays, or says that the worker died on it. It writes nothing:
the one who holds the store does. Engines may give jobs back in any order, and lose a job that is then handed in again.
"""

import abc
import dataclasses
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
Stopping: TypeAlias = Callable[[], bool]


class Stopped(Exception):
    """The work was given up before its end."""


class AbstractWork(abc.ABC):
    """What can be driven: numbered points that are worked out in any order and any pieces with equal results."""

    @abc.abstractmethod
    def compute(self, start: int, stop: int, stopping: Stopping | None = None) -> Arrays:
        """What is kept of points `start` to `stop`, (point, ...). **Raises** `Stopped` where `stopping()` says so."""

    @abc.abstractmethod
    def axes(self, start: int, stop: int) -> Arrays:
        """What is known of these points before they are worked out, (point, ...)."""

    @abc.abstractmethod
    def lost(self, count: int) -> Arrays:
        """What is kept of points that killed their worker, as `compute` would give it."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Points `start` to `stop` of a chunk."""

    chunk: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Done:
    """A job's numbers, and the seconds that its worker took for them."""

    job: Job
    arrays: Arrays
    seconds: float


@dataclasses.dataclass(frozen=True)
class Lost:
    """A job whose worker died. `reason`: how, in words."""

    job: Job
    reason: str


Result: TypeAlias = Done | Lost


class AbstractEngine(abc.ABC):
    """Works out jobs."""

    @property
    @abc.abstractmethod
    def capacity(self) -> int:
        """How many jobs it wants to hold at a time."""

    @abc.abstractmethod
    def submit(self, job: Job) -> None:
        """Takes a job."""

    @abc.abstractmethod
    def collect(self, stopping: Stopping) -> list[Result]:
        """Waits for at least one job that was taken, unless `stopping()`; jobs given up then are not given back.

        **Raises** `PinnsimError` where no worker can work at all.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends all workers, at once."""


class InProcess(AbstractEngine):
    """This process: one job after the other. A point that kills its worker kills this process."""

    def __init__(self, work: AbstractWork) -> None:
        self.work = work
        self._waiting: list[Job] = []

    @property
    def capacity(self) -> int:
        return 1

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def collect(self, stopping: Stopping) -> list[Result]:
        job = self._waiting.pop(0)
        began = time.perf_counter()
        try:
            arrays = self.work.compute(job.start, job.stop, stopping)
        except Stopped:
            return []
        return [Done(job, arrays, time.perf_counter() - began)]

    def close(self) -> None:
        self._waiting.clear()
