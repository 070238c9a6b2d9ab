"""Workers as jobs of a batch queue (Slurm, PBS, SGE, LSF, ...), through dask-jobqueue: no scheduler of our own.

The process that holds the store is Dask's scheduler; each job is one worker that connects to it. What a job asks for
(memory, time, partition) is said by `settings`, or in Dask's own configuration (`jobqueue.yaml`).

Source: https://jobqueue.dask.org/en/latest/clusters-api.html
"""

import importlib.util
from typing import Any

from pinnsim.errors import PinnsimError, did_you_mean

QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}


def settings_of(text: str) -> dict[str, str | int]:
    """What a job asks for, of a line of `key=value`s.

    **Raises** `E_USAGE`.

    >>> settings_of("memory=8GB, cores=2, walltime=02:00:00")
    {'memory': '8GB', 'cores': 2, 'walltime': '02:00:00'}
    """
    found: dict[str, str | int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not (name.strip().isidentifier() and equals and value.strip()):
            raise PinnsimError.of(
                "E_USAGE", f"'{part}' is no setting of a job; write key=value, as in memory=8GB,walltime=02:00:00."
            )
        found[name.strip()] = int(value) if value.strip().isdigit() else value.strip()
    return found


def queue_cluster(queue: str, patience: float | int, settings: dict[str, str | int] | None = None) -> Any:
    """A cluster whose workers are jobs of a queue; none is submitted until it is scaled.

    **Arguments:** `queue`: a name of `QUEUES`; `patience`: seconds that a worker looks for this process before it ends;
    `settings`: of jobs (`memory`, `walltime`, `queue`, `account`, `cores`, ...).

    **Raises** `E_EXTRA_MISSING`; `E_USAGE` for other queues, and for settings that the queue's jobs do not have.
    """
    if queue not in QUEUES:
        raise PinnsimError.of(
            "E_USAGE", f"no job queue '{queue}'{did_you_mean(queue, QUEUES)}; there are {', '.join(QUEUES)}."
        )
    if importlib.util.find_spec("dask_jobqueue") is None:
        raise PinnsimError.of("E_EXTRA_MISSING", "Job queues need dask-jobqueue: pip install 'pinnsim[cluster]'.")
    import dask
    import dask_jobqueue

    # As on one machine: a worker is one compiled program, how often a lost job is tried is the campaign's rule, and how
    # much memory one has is the queue's.
    usual: dict[str, Any] = {"cores": 1, "processes": 1, "memory": "4GB", "death_timeout": int(patience)}
    usual["worker_extra_args"] = ["--memory-limit", "0"]
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            return getattr(dask_jobqueue, QUEUES[queue])(**{**usual, **(settings or {})})
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise PinnsimError.of(
            "E_USAGE", f"jobs of '{queue}' cannot be described: {error}; look at --job and at Dask's jobqueue.yaml."
        ) from error
