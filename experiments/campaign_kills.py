"""Does a campaign lose anything when its driver, its workers or both are killed at random times, two hundred times?

Each kill is a SIGKILL at a random moment of a run on a store that is then gone on with, killed again, and so on until
it is done; then the next store. Where a worker alone is killed, the run itself goes on with another in its place. While
runs work, and after every kill, the store is opened and held against what it said before; at the end of each its hash
is held against that of a run that nobody disturbed (simulated: there are no measurements here).
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pinnsim import campaign
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.plot import save
from pinnsim.plot.style import CYCLE, new_axes, styled, titled
from pinnsim.sweep import Axis, Campaign, Specification, Store

SMOKE: dict[str, Any] = {"points": 320, "kills": {"driver": 2, "worker": 0, "both": 0}}
_PATIENCE = 120.0  # seconds for what takes less than one
_LOOK = 0.1  # seconds between looks at a store at work
_SYSTEM = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
start = { A = 3.0 }
reactions = [
    { name = "make", equation = "0 -> A", rate = 2.0 },
    { name = "decay:A", equation = "A -> 0", rate = 0.5 },
]
"""


class _Forks:
    """Drivers that start in no time; see `_forks.py`."""

    def __init__(self, folder: Path) -> None:
        self.said = (folder / "drivers.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "_forks.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def ask(self, line: str) -> int:
        """The number that answers a line."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process that forks drivers has no pipes")
        patience = threading.Timer(_PATIENCE, self.process.kill)
        patience.start()
        try:
            stdin.write(line + "\n")
            stdin.flush()
            return int(stdout.readline())
        finally:
            patience.cancel()

    def close(self) -> None:
        """Ends it."""
        try:
            self.process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.said.close()


class _Watch:
    """One store after the other under kills: what is looked at, and what was found wrong."""

    def __init__(self, loaded: Campaign, folder: Path, plan: dict[str, Any], expected: str) -> None:
        self.loaded, self.folder, self.plan, self.expected = loaded, folder, plan, expected
        self.found: dict[str, int] = {"damaged": 0, "forgotten": 0, "miscounted": 0, "other hash": 0, "refused": 0}
        self.progressed: list[tuple[str, float]] = []
        self.looks = self.stores = self.since = 0
        self.looked = 0.0
        self.begin()

    def begin(self) -> None:
        """Another store."""
        self.store, self.since = _begin(self.loaded, self.folder, self.plan, self.stores), 0
        self.before: set[int] = set()
        self.stores += 1

    def look(self) -> Store | None:
        """Opens the store, at work or not, and holds its counts against its arrays."""
        self.looks += 1
        try:
            store = Store(self.store)
        except PinnsimError:
            self.found["refused"] += 1
            return None
        self.found["miscounted"] += _miscounted(store)
        return store

    def look_sometimes(self) -> None:
        """Looks ten times a second at most."""
        now = time.monotonic()
        if now - self.looked > _LOOK:
            self.look()
            self.looked = time.monotonic()

    def after(self, kind: str) -> bool:
        """What a kill has left. **Returns** whether the store is done; then another has begun."""
        self.since += 1
        store = self.look()
        if store is None:
            return False
        done = set(store.done)
        self.progressed.append((kind, len(done - self.before)))
        self.found["forgotten"] += bool(self.before - done)
        self.found["damaged"] += bool(store.damage())
        self.before = done
        if store.counts()["pending"]:
            return False
        self.end(store)
        self.begin()
        return True

    def end(self, store: Store) -> None:
        """Holds a store that is done against the undisturbed one."""
        self.found["other hash"] += self.since * (store.content_hash() != self.expected)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All kills."""
    random = np.random.default_rng(plan["seeds"][0])
    kinds = [kind for kind, count in plan["kills"].items() for _ in range(count)]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, contextlib.closing(_Forks(Path(place))) as forks:
        folder = Path(place)
        loaded = _campaign(plan, folder)
        campaign.run(loaded, folder / "whole", chunk=plan["chunk"])
        watch = _Watch(loaded, folder, plan, Store(folder / "whole").content_hash())
        driver = 0
        for kind in tqdm(kinds, desc="kills", disable=None if progress else True):
            driver = _kill(forks, kind, driver, watch, random)
            if watch.after(kind) and driver:
                driver = _stopped(forks, driver)
        if driver:
            _stopped(forks, driver)
        campaign.resume(watch.store)
        watch.end(Store(watch.store))
    _picture(watch.progressed, out / "campaign_kills.png")
    written, found = np.array([count for _, count in watch.progressed]), watch.found
    metrics = {
        "kills": len(kinds),
        "stores": watch.stores,
        "kills by kind": dict(plan["kills"]),
        "kills that came after a chunk was written": int(np.sum(written > 0)),
        "chunks written between kills, mean": float(written.mean()),
        "looks at stores, at work and after kills": watch.looks,
        "sha256 of all numbers": watch.expected,
        "seconds": time.perf_counter() - began,
    }
    rows = (
        Acceptance("kills of driver, worker or both, at random", len(watch.progressed), len(kinds), "higher"),
        Acceptance("kills whose store ended with another hash than the undisturbed run's", found["other hash"], 0),
        Acceptance("kills after which a chunk said to be done was damaged or missing", found["damaged"], 0),
        Acceptance("kills after which a chunk that was done before had to be done again", found["forgotten"], 0),
        Acceptance("looks at which done + failed + pending, counted in the arrays, was not requested",
                   found["miscounted"], 0),
        Acceptance("looks at which the store could not be opened", found["refused"], 0),
    )  # fmt: skip
    return Findings(metrics, {}, rows)


def _campaign(plan: dict[str, Any], folder: Path) -> Campaign:
    (folder / "system.toml").write_text(_SYSTEM)
    return campaign.load_campaign(
        Specification(
            model=str(folder / "system.toml"),
            times=(0.0, 1.0, 4.0),
            initial="start",
            record=("end", "trajectory"),
            samples=plan["points"],
            block=plan["block"],
            axes=(Axis(name="law/constant[0]", sobol=(1.0, 4.0)), Axis(name="law/constant[1]", sobol=(0.1, 1.0))),
        )
    )


def _begin(loaded: Campaign, folder: Path, plan: dict[str, Any], number: int) -> Path:
    store = folder / f"store{number}"
    Store.create(store, loaded.layout(plan["chunk"]), loaded.about())
    return store


def _kill(forks: _Forks, kind: str, driver: int, watch: _Watch, random: np.random.Generator) -> int:
    """Something of a run on the store is killed at a random moment of its start or its work.

    **Arguments:** `driver`: of a run that goes on, or 0. **Returns** the driver where the run goes on, or 0.
    """
    plan, journal = watch.plan, watch.store / "journal.jsonl"
    before = _size(journal)
    if driver and (kind != "worker" or not _running(driver)):
        driver = _stopped(forks, driver)
    if not driver:
        driver = forks.ask(f"{'in-process 1' if kind == 'driver' else 'processes 2'} {watch.store}")
    deadline = time.monotonic() + plan["patience"]
    if random.uniform() > plan["starting"]:
        while _size(journal) == before and _running(driver) and time.monotonic() < deadline:
            time.sleep(0.005)
            watch.look_sometimes()
    time.sleep(random.uniform(0, plan["within"]))
    workers = _children(driver)
    while kind != "driver" and not workers and _running(driver) and time.monotonic() < deadline:
        time.sleep(0.002)
        workers = _children(driver)
    if kind != "driver" and workers:
        _end(workers[int(random.integers(len(workers)))])
    if kind == "worker":
        return driver
    _end(driver)
    forks.ask(f"wait {driver}")
    return 0


def _stopped(forks: _Forks, driver: int) -> int:
    """Ends a run in order, as Ctrl-C does, and where it does not end, by force."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(driver, signal.SIGINT)
    deadline = time.monotonic() + _PATIENCE
    while _running(driver) and time.monotonic() < deadline:
        time.sleep(0.005)
    _end(driver)
    forks.ask(f"wait {driver}")
    return 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _running(process: int) -> bool:
    """Whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _children(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(text) for text in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def _miscounted(store: Store) -> bool:
    """Whether counts differ from what the arrays and the chunks not in the journal say."""
    outcomes = [store.read("outcome", chunk) for chunk in store.done]
    here = np.concatenate([*outcomes, np.zeros(0)])
    waiting = [chunk for chunk in store.layout.own if chunk not in store.done]
    pending = sum(stop - start for start, stop in map(store.layout.span, waiting))
    counts = {"done": int(np.sum(here == 0)), "failed": int(np.sum(here != 0)), "pending": pending}
    return {"requested": sum(counts.values()), **counts} != store.counts()


def _picture(progressed: list[tuple[str, float]], path: Path) -> None:
    """How many chunks were written before each kill."""

    @styled
    def draw() -> object:
        ax = new_axes(None, (6.0, 3.4))
        for number, kind in enumerate(dict.fromkeys(kind for kind, _ in progressed)):
            places = [k for k, (what, _) in enumerate(progressed, start=1) if what == kind]
            counts = [progressed[k - 1][1] for k in places]
            ax.plot(places, counts, "o", markersize=3, color=CYCLE[number % len(CYCLE)], label=f"{kind} killed")
        ax.set_xlabel("kill")
        ax.set_ylabel("chunks written since the kill before")
        ax.set_title(titled("A campaign under SIGKILLs at random times", True))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, -0.34), ncol=3)
        return ax

    save(draw(), path)  # type: ignore[arg-type]


if __name__ == "__main__":
    raise SystemExit(main(__file__))
