"""A campaign from its file to its store: the model found by name, the engine by name, and every way to begin or go on.

    run(specification, "out/toggle")              begin
    resume("out/toggle")                          go on after anything
    merge(["a", "b", "c"], "whole")               shards to one store (`pinnsim.sweep.merge`)

`Store("out/toggle").to_xarray()` opens the numbers.
"""

import json
import sys
from pathlib import Path
from typing import TypeAlias

from pinnsim import shelf
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.formats.bundle import load_model
from pinnsim.formats.reaction_system import holds_system, load_system
from pinnsim.formats.toml import read_config
from pinnsim.session import start
from pinnsim.sweep import AbstractEngine, Campaign, InProcess, Processes, Report, Specification, Store, campaign, drive
from pinnsim.sweep.plan import plan

ENGINES = ("in-process", "processes", "dask")
Specified: TypeAlias = Specification | str | Path


def read_specification(path: str | Path) -> Specification:
    """A campaign's file; a model that is a path is meant from the file's folder. **Raises** `E_CONFIG_...`."""
    specification = read_config(path, Specification)
    beside = Path(path).parent / specification.model
    if beside.exists():
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
) -> Report:
    """Begins a campaign and works until it is done.

    **Arguments:** `engine`: `in-process`, `processes` or `dask`; `workers`: how many processes; `address`: of a Dask
    scheduler (none: a cluster on this machine); `chunk`: points per chunk, instead of the specification's; `shard`:
    (which, of how many), from 1.

    **Raises** what `load_campaign` and `sweep.drive` raise; `E_DISK` before the start where there is no room.
    """
    loaded = specification if isinstance(specification, Campaign) else load_campaign(specification)
    which, total = shard
    if not 1 <= which <= total:
        raise PinnsimError.of("E_USAGE", f"Shard {which}/{total} is none; give i/n with 1 <= i <= n.")
    layout = loaded.layout(chunk, shard)
    plan(loaded, out, layout, trial=False).check(Path(out))
    store = Store.create(out, layout, loaded.about())
    return _driven(store, loaded, engine, workers, address, progress)


def resume(
    out: str | Path, *, engine: str = "in-process", workers: int = 1, address: str = "", progress: bool = False
) -> Report:
    """Goes on with a campaign: what is pending, and what is damaged. **Raises** as `run`, and what `Store` raises."""
    store = Store(out)
    return _driven(store, of_store(store), engine, workers, address, progress)


def worker_command(folder: str | Path) -> list[str]:
    """What starts a worker of a store's campaign."""
    return [sys.executable, "-m", "pinnsim", "sweep", "worker", str(Path(folder).resolve())]


def _driven(store: Store, loaded: Campaign, engine: str, workers: int, address: str, progress: bool) -> Report:
    with store.hold():
        return drive(store, loaded, _engine(engine, store, loaded, workers, address), progress)


def _engine(name: str, store: Store, loaded: Campaign, workers: int, address: str) -> AbstractEngine:
    if name not in ENGINES:
        raise PinnsimError.of(
            "E_USAGE", f"no engine '{name}'{did_you_mean(name, ENGINES)}; there are {', '.join(ENGINES)}."
        )
    if workers < 1:
        raise PinnsimError.of("E_USAGE", f"At least 1 worker is needed, but {workers} were asked for.")
    if name == "processes":
        return Processes(worker_command(store.folder), workers)
    if name == "dask":
        from pinnsim.sweep.cluster import Cluster

        return Cluster(distant, _texts(loaded), workers, address)
    return InProcess(loaded)


def _texts(loaded: Campaign) -> tuple[str, ...]:
    return loaded.specification.model_dump_json(exclude_unset=True), json.dumps(loaded.found)


def distant(texts: tuple[str, ...]) -> Campaign:
    """The campaign of two JSON texts, on another machine: specification, and what was looked up before the start."""
    start()
    return load_campaign(Specification.model_validate_json(texts[0]), json.loads(texts[1]))
