"""Work for tests of campaigns that needs no compilation: squares of a point's number."""

import sys
import time
from pathlib import Path

import numpy as np
from sweep_worker import compute

from pinnsim.sweep import InProcess, Report, Store, drive
from pinnsim.sweep.engine import AbstractEngine, AbstractWork
from pinnsim.sweep.store import QUARANTINED, Layout, Variable

POINTS = 100


class Squares(AbstractWork):
    """`square` = number^2 and `pair` = (number, number / 3); outcome 1 for every tenth point."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[tuple[int, int]] = []

    def compute(self, start, stop, stopping=None):
        self.calls.append((start, stop))
        time.sleep(self.seconds)
        return compute(start, stop)

    def axes(self, start, stop):
        return {"axis_number": np.arange(start, stop, dtype=float)}

    def lost(self, count):
        return {
            "outcome": np.full(count, QUARANTINED, np.int16),
            "square": np.full(count, np.nan),
            "pair": np.full((count, 2), np.nan),
        }


def layout(chunk: int = 8, points: int = POINTS, shard: tuple[int, int] = (1, 1)) -> Layout:
    """The layout of `Squares`."""
    variables = {
        "outcome": Variable("<i2", fill=-1, attrs={"coordinates": "axis_number"}),
        "square": Variable("<f8", fill=float("nan"), attrs={"units": "1", "coordinates": "axis_number"}),
        "pair": Variable("<f8", ("part",), (2,), float("nan")),
        "axis_number": Variable("<f8", fill=float("nan"), attrs={"axis": "number"}),
    }
    return Layout(points, chunk, variables, {"part": (("whole", "third"), {})}, shard)


def worker_command(seconds: float = 0.0, poison: tuple[int, ...] = ()) -> list[str]:
    """Starts a worker of `Squares` that takes its time and dies of some points."""
    return [sys.executable, str(Path(__file__).parent / "sweep_worker.py"), str(seconds), *map(str, poison)]


def begin(folder: Path, chunk: int = 8, shard: tuple[int, int] = (1, 1)) -> Store:
    """A new store of `Squares`."""
    return Store.create(folder, layout(chunk, shard=shard), {"campaign": "squares"})


def finish(folder: Path, engine: AbstractEngine | None = None) -> Report:
    """Works a store of `Squares` out."""
    work = Squares()
    with Store(folder).hold() as store:
        return drive(store, work, InProcess(work) if engine is None else engine)


def undisturbed(folder: Path) -> str:
    """The hash of an uninterrupted run."""
    begin(folder)
    finish(folder)
    return Store(folder).content_hash()
