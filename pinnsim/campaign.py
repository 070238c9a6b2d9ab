"""A campaign from its file to its store: the model found by name, the engine by name, and every way to begin or go on.

    run(specification, "out/toggle")              begin
    resume("out/toggle")                          go on after anything
    merge(["a", "b", "c"], "whole")               shards to one store (`pinnsim.sweep.merge`)

`Store("out/toggle").to_xarray()` opens the numbers.
"""

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pinnsim import shelf
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.formats.bundle import load_model
from pinnsim.formats.reaction_system import holds_system, load_system
from pinnsim.formats.toml import read_config
from pinnsim.session import start
from pinnsim.sweep import AbstractEngine, Campaign, InProcess, Processes, Report, Specification, Store, campaign, drive
from pinnsim.sweep.devices import accelerators, environments
from pinnsim.sweep.plan import plan

ENGINES = ("in-process", "processes", "dask")
Specified: TypeAlias = Specification | str | Path


def read_specification(path: str | Path, model: str = "") -> Specification:
    """A campaign's file, or one that comes with pinnsim by its name; a model that is a path is meant from the file's
    folder.

    **Arguments:** `model`: in place of the file's. **Raises** `E_CONFIG_...`, `E_EXPERIMENT_UNKNOWN`.
    """
    place = Path(path)
    if not place.is_file() and place.name == str(path) and not place.suffix:
        place = shelf.campaign_path(str(path))
    specification = read_config(place, Specification)
    beside = place.parent / specification.model
    if model:
        specification = specification.model_copy(update={"model": model})
    elif beside.exists():
        specification = specification.model_copy(update={"model": str(beside)})
    return specification


def load_campaign(specification: Specified, found: dict | None = None) -> Campaign:
    """A specification, or its file, with its model. **Arguments:** `found`: what an earlier start looked up.

    **Raises** `E_CONFIG_...`, `E_MODEL_UNKNOWN`, and what the model's file and `sweep.campaign` raise.
    """
    given = specification if isinstance(specification, Specification) else read_specification(specification)
    place = Path(given.model)
    if place.exists():
        given = given.model_copy(update={"model": str(place.resolve())})
    elif place.name != given.model:
        raise PinnsimError.of(
            "E_MODEL_UNKNOWN",
            f"there is no model '{given.model}' here; 'pinnsim demo' writes demo/model, 'pinnsim fit' another, and "
            "--model says where it is.",
        )
    else:
        place = shelf.path(given.model)
    if place.suffix == ".toml" or holds_system(place):
        return campaign(given, load_system(place).system, found=found)
    bundle = load_model(place)
    wanted = any(axis.name == "member" for axis in given.axes)
    members = bundle.models if wanted and bundle.members is not None else ()
    return campaign(given, bundle.models[0], members, found=found)


def of_store(store: Store) -> Campaign:
    """The campaign of a store. **Raises** `E_CKPT_MODEL` where the model has changed since it began."""
    about = store.manifest["about"]
    loaded = load_campaign(Specification.model_validate(about["specification"]), about["found"])
    if loaded.digest() != about["campaign"]:
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"'{store.folder}' was begun with another '{loaded.specification.model}': its numbers have changed since; "
            "put the old model back, or run into another folder.",
        )
    return loaded


def run(
    specification: Specified | Campaign,
    out: str | Path,
    *,
    engine: str = "in-process",
    workers: int = 1,
    address: str = "",
    chunk: int | None = None,
    shard: tuple[int, int] = (1, 1),
    progress: bool = False,
    queue: str = "",
    job: str = "",
    devices: int = 1,
) -> Report:
    """Begins a campaign and works until it is done.

    **Arguments:** `engine`: `in-process`, `processes` or `dask`; `workers`: how many processes; `address`: of a Dask
    scheduler (none: a cluster on this machine); `chunk`: points per chunk, instead of the specification's; `shard`:
    (which, of how many), from 1; `queue`: a batch queue whose jobs are Dask's workers, see `pinnsim.sweep.queues`, and
    `job`: what each asks for ("memory=8GB,walltime=02:00:00"); `devices`: of this process, over which points are
    spread. With several accelerators, each of the `processes` has its own.

    **Raises** what `load_campaign` and `sweep.drive` raise; `E_DISK` before the start where there is no room.
    """
    loaded = specification if isinstance(specification, Campaign) else load_campaign(specification)
    which, total = shard
    if not 1 <= which <= total:
        raise PinnsimError.of("E_USAGE", f"Shard {which}/{total} is none; give i/n with 1 <= i <= n.")
    layout = loaded.layout(chunk, shard)
    plan(loaded, out, layout, trial=False).check(Path(out))
    store = Store.create(out, layout, loaded.about())
    return _driven(store, loaded.spread(devices), _Where(engine, workers, address, queue, job), progress)


def resume(
    out: str | Path,
    *,
    engine: str = "in-process",
    workers: int = 1,
    address: str = "",
    progress: bool = False,
    queue: str = "",
    job: str = "",
    devices: int = 1,
) -> Report:
    """Goes on with a campaign: what is pending, and what is damaged. **Raises** as `run`, and what `Store` raises."""
    store = Store(out)
    where = _Where(engine, workers, address, queue, job)
    return _driven(store, of_store(store).spread(devices), where, progress)


def worker_command(folder: str | Path) -> list[str]:
    """What starts a worker of a store's campaign."""
    return [sys.executable, "-P", "-m", "pinnsim", "sweep", "worker", str(Path(folder).resolve())]


class _Where(NamedTuple):
    """Where points are worked out, as `run` says it."""

    engine: str
    workers: int
    address: str
    queue: str
    job: str

    def check(self, devices: int) -> None:
        """Raises all that does not go together. **Arguments:** `devices`: over which points are spread."""
        with Problems() as problems:
            if self.engine not in ENGINES:
                near = did_you_mean(self.engine, ENGINES)
                problems.add("E_USAGE", f"no engine '{self.engine}'{near}; there are {', '.join(ENGINES)}.")
            if self.workers < 1:
                problems.add("E_USAGE", f"At least 1 worker is needed, but {self.workers} were asked for.")
            if (self.queue or self.address) and self.engine != "dask":
                problems.add("E_USAGE", "Job queues and schedulers are Dask's: use engine 'dask' with them.")
            if self.queue and self.address:
                problems.add("E_USAGE", "Give the address of a scheduler or a job queue for workers, not both.")
            if self.job and not self.queue:
                problems.add("E_USAGE", "What a job asks for goes with a job queue, such as 'slurm'.")
            if devices > 1 and self.engine != "in-process":
                problems.add("E_USAGE", "Points are spread over devices of one process: use engine 'in-process'.")


def _driven(store: Store, loaded: Campaign, where: _Where, progress: bool) -> Report:
    with store.hold():
        return drive(store, loaded, _engine(where, store, loaded), progress)


def _engine(where: _Where, store: Store, loaded: Campaign) -> AbstractEngine:
    where.check(loaded.program.devices)
    name, workers = where.engine, where.workers
    if name == "processes":
        own = environments(workers, accelerators())
        return Processes(worker_command(store.folder), workers, environments=own)
    if name == "dask":
        from pinnsim.sweep.cluster import PATIENCE, Cluster
        from pinnsim.sweep.queues import queue_cluster, settings_of

        # A job may wait in its queue for as long as it has to: Ctrl-C ends a run that waits too long.
        patience = math.inf if where.queue else PATIENCE
        jobs = queue_cluster(where.queue, PATIENCE, settings_of(where.job)) if where.queue else None
        return Cluster(distant, _texts(loaded), workers, where.address, patience, jobs)
    return InProcess(loaded)


def _texts(loaded: Campaign) -> tuple[str, ...]:
    return loaded.specification.model_dump_json(exclude_unset=True), json.dumps(loaded.found)


def distant(texts: tuple[str, ...]) -> Campaign:
    """The campaign of two JSON texts, on another machine: specification, and what was looked up before the start."""
    start()
    return load_campaign(Specification.model_validate_json(texts[0]), json.loads(texts[1]))
