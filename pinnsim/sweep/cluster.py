"""Workers of Dask distributed: a cluster on this machine, jobs of a queue, or any that a scheduler's address leads to.

Dask hands tasks out, restarts workers that die and says which task killed too many of them; a campaign's own rules
about lost jobs then apply. Each worker builds the work once and keeps it. What travels are two texts and arrays,
so that workers need this library, and the model where the specification's name leads to it, but no common disk.

No wait is without an end: workers of this machine must begin in time, and where no worker is left and none comes in
time, the run ends and says so.

Source: https://distributed.dask.org/en/stable/resilience.html
"""

import contextlib
import functools
import importlib.util
import logging
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from pinnsim.errors import PinnsimError
from pinnsim.sweep.engine import AbstractEngine, AbstractWork, Arrays, Done, Job, Lost, Result, Stopping

Texts: TypeAlias = tuple[str, ...]
Load: TypeAlias = Callable[[Texts], AbstractWork]
_WAIT = 0.1
PATIENCE = 300.0  # seconds that a worker may take to begin, or to come back
_ANSWER = 30.0  # seconds for a scheduler to answer, and for a cluster to close


class Cluster(AbstractEngine):
    """A Dask cluster.

    **Arguments:** `load`: makes the work of its texts, on a worker; `texts`; `workers`: processes of a cluster on
    this machine, or jobs; `address`: of a scheduler, whose workers are taken as they are; `queue`: made by
    `pinnsim.sweep.queues.queue_cluster`, in place of a cluster on this machine; `patience`: seconds that a worker may
    take to begin, and that the run goes on without any.

    **Raises** `E_EXTRA_MISSING` where Dask is not installed, `E_USAGE` where no scheduler answers or no worker begins.
    """

    def __init__(
        self,
        load: Load,
        texts: Texts,
        workers: int = 1,
        address: str = "",
        patience: float | int = PATIENCE,
        queue: Any = None,
    ) -> None:
        if importlib.util.find_spec("distributed") is None:
            raise PinnsimError.of(
                "E_EXTRA_MISSING", "Engine 'dask' needs Dask distributed: pip install 'pinnsim[dask]'."
            )
        import distributed

        if queue is not None:
            queue.scale(jobs=workers)
            self._local = queue
        else:
            self._local = None if address else _local(workers, patience)
        try:
            self.client = distributed.Client(self._local or address, timeout=_ANSWER)
        except OSError as error:
            raise PinnsimError.of(
                "E_USAGE", f"no Dask scheduler answers at '{address}': {error}; start one with 'dask scheduler'."
            ) from error
        self._patience = patience
        self._peopled = time.monotonic()  # when a worker was last seen
        self._task = functools.partial(_work_out, load, texts)
        self._futures: dict[Any, Job] = {}
        self._workers = workers

    @property
    def capacity(self) -> int:
        return 2 * max(self._present(), self._workers)

    def _present(self) -> int:
        """How many workers there are."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def submit(self, job: Job) -> None:
        # Not pure: a job that is handed in again is worked out again.
        future = self.client.submit(self._task, job.start, job.stop, pure=False, retries=0)
        self._futures[future] = job

    def collect(self, stopping: Stopping) -> list[Result]:
        found: list[Result] = []
        while not found and not stopping():
            for future in [future for future in self._futures if future.done()]:
                found.append(self._result(future, self._futures.pop(future)))
            if not found:
                self._check_workers()
                time.sleep(_WAIT)
        return found

    def _check_workers(self) -> None:
        now = time.monotonic()
        if self._present():
            self._peopled = now
        elif now - self._peopled > self._patience:
            raise PinnsimError.of(
                "E_USAGE",
                f"no Dask worker has been there for {self._patience:g} s; what is written is kept: start workers with "
                "'dask worker', then go on with 'pinnsim sweep resume'.",
            )

    def _result(self, future: Any, job: Job) -> Result:
        import distributed

        try:
            arrays, seconds = future.result()
        except distributed.KilledWorker as error:
            return Lost(job, "its worker died" if not error.allowed_failures else "its workers died")
        except (distributed.client.FutureCancelledError, distributed.comm.CommClosedError) as error:
            return Lost(job, f"{type(error).__name__}")
        return Done(job, arrays, seconds)

    def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            self.client.close(timeout=_ANSWER)
        if self._local is not None:
            with contextlib.suppress(TimeoutError):
                self._local.close(timeout=_ANSWER)


def _local(workers: int, patience: float | int) -> Any:
    """A cluster on this machine. **Raises** `E_USAGE` where its workers do not begin."""
    import dask
    import distributed

    # One thread each: a worker is one compiled program. No dashboard: nothing listens beyond this machine. No limit of
    # memory: at a share of one, Dask holds workers back without end. What kills a worker comes back at once: how often
    # it is tried again is the campaign's own rule, and so is what is said of it.
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            return distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=None,
                death_timeout=patience,
                silence_logs=logging.ERROR,
            )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise PinnsimError.of(
            "E_USAGE",
            f"no Dask worker began on this machine within {patience:g} s: {error}; look at what it printed, let a "
            "script begin under `if __name__ == '__main__':`, or take '--engine processes'.",
        ) from error


@functools.cache
def _campaign(load: Load, texts: Texts) -> AbstractWork:
    return load(texts)


def _work_out(load: Load, texts: Texts, start: int, stop: int) -> tuple[Arrays, float]:
    campaign = _campaign(load, texts)
    began = time.perf_counter()
    return campaign.compute(start, stop), time.perf_counter() - began
