"""What a campaign will take, before it starts: points, chunks, disk and time."""

import dataclasses
import shutil
import time
from pathlib import Path

from pinnsim.errors import PinnsimError
from pinnsim.sweep.build import Campaign
from pinnsim.sweep.store import Layout

_MARGIN = 1.05  # journal, manifest and folders beside the numbers


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and estimates.

    **Arguments:** `points`, `chunk`, `chunks`: of this shard; `bytes`: on disk; `free`: bytes that the disk has;
    `seconds`: of one worker, NaN where nothing was tried; `compiling`: seconds, once per worker.
    """

    points: int
    chunk: int
    chunks: int
    bytes: int
    free: int
    seconds: float
    compiling: float

    def check(self, folder: Path) -> None:
        """Raises `E_DISK` where the disk has less room than the numbers take."""
        if self.bytes * _MARGIN > self.free:
            raise PinnsimError.of(
                "E_DISK",
                f"The campaign takes {size_text(self.bytes)}, but '{folder}' has {size_text(self.free)}; free some, "
                "choose another folder, or record less.",
            )


def plan(campaign: Campaign, folder: str | Path, layout: Layout | None = None, trial: bool = True) -> Plan:
    """The plan of a campaign in a folder.

    **Arguments:** `trial`: works out one block twice, for the time that it takes with and without compiling.
    """
    layout = campaign.layout() if layout is None else layout
    seconds = compiling = float("nan")
    if trial:
        # In the middle, where nothing is extreme.
        block = campaign.specification.block
        start = layout.points // 2 // block * block
        stop = min(start + block, layout.points)
        took = []
        for _ in range(2):
            began = time.perf_counter()
            campaign.compute(start, stop)
            took.append(time.perf_counter() - began)
        compiling = max(took[0] - took[1], 0.0)
        # A block takes as long as a full one, whatever part of it is asked for.
        seconds = took[1] * -(-layout.requested // block)
    place = next(p for p in (Path(folder).absolute(), *Path(folder).absolute().parents) if p.exists())
    return Plan(
        layout.requested, layout.chunk, len(layout.own), layout.bytes, shutil.disk_usage(place).free, seconds, compiling
    )


def size_text(count: float | int) -> str:
    """Bytes as people say them.

    >>> size_text(1234567)
    '1.23 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
