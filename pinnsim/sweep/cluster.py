"""Workers of Dask distributed: a cluster on this machine, or any that a scheduler's address leads to.

Dask hands tasks out, restarts workers that die and says which task killed too many of them; a campaign's own rules
about lost jobs then apply. Each worker builds the work once and keeps it. What travels are two texts and arrays,
so that workers need this library, and the model where the specification's name leads to it, but no common disk.

Source: https://distributed.dask.org/en/stable/resilience.html
"""

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from pinnsim.errors import PinnsimError
from pinnsim.sweep.engine import AbstractEngine, AbstractWork, Arrays, Done, Job, Lost, Result, Stopping

Texts: TypeAlias = tuple[str, ...]
Load: TypeAlias = Callable[[Texts], AbstractWork]
_WAIT = 0.1


class Cluster(AbstractEngine):
    """A Dask cluster.

    **Arguments:** `load`: makes the work of its texts, on a worker; `texts`; `workers`: processes of a cluster on
    this machine; `address`: of a scheduler, whose workers are taken as they are.

    **Raises** `E_EXTRA_MISSING` where Dask is not installed, `E_USAGE` where no scheduler answers.
    """

    def __init__(self, load: Load, texts: Texts, workers: int = 1, address: str = "") -> None:
        if importlib.util.find_spec("distributed") is None:
            raise PinnsimError.of(
                "E_EXTRA_MISSING", "Engine 'dask' needs Dask distributed: pip install 'pinnsim[dask]'."
            )
        import dask
        import distributed

        self._local = None
        if not address:
            # One thread each: a worker is one compiled program. No dashboard: nothing listens beyond this machine.
            # What kills a worker comes back at once: how often it is tried again is the campaign's own rule.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                self._local = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
                )
        try:
            self.client = distributed.Client(self._local or address, timeout=20)
        except OSError as error:
            raise PinnsimError.of(
                "E_USAGE", f"no Dask scheduler answers at '{address}': {error}; start one with 'dask scheduler'."
            ) from error
        self._task = functools.partial(_work_out, load, texts)
        self._futures: dict[Any, Job] = {}
        self._workers = workers

    @property
    def capacity(self) -> int:
        return 2 * max(len(self.client.scheduler_info(n_workers=-1)["workers"]), self._workers)

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
                time.sleep(_WAIT)
        return found

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
        self.client.close()
        if self._local is not None:
            self._local.close()


@functools.cache
def _campaign(load: Load, texts: Texts) -> AbstractWork:
    return load(texts)


def _work_out(load: Load, texts: Texts, start: int, stop: int) -> tuple[Arrays, float]:
    campaign = _campaign(load, texts)
    began = time.perf_counter()
    return campaign.compute(start, stop), time.perf_counter() - began
