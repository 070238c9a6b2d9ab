"""Does any damaged or hostile file crash, hang, fill memory, run code, or give numbers that are silently not finite?

Sound small files of every kind that is read (SBML, Antimony, PEtab, projects with their tables, campaigns, reaction
systems, bundles, simulations, AnnData) are damaged at random; hostile ones are written by hand. A process of its own
reads each of them (`_untrusted_reader.py`), watched from outside for time and memory and from inside by an audit hook
for what code could do. A file may be read or refused with a code; everything else is a fault and is kept in a table.

Models are parsed within that process, which stands in for the process of its own that users' models are parsed in; what
ends it is read once more the users' way.
"""

import concurrent.futures
import csv
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.plot import save

SMOKE: dict[str, Any] = {
    "attacks": False,
    "workers": 1,
    "mutations": {
        "sbml": 12, "antimony": 6, "petab": 2, "project": 6, "campaign": 6, "system": 10, "bundle": 8, "simulation": 4,
        "h5ad": 6,
    },
}  # fmt: skip
READ, REFUSED = "read", "refused"
FAULTS = ("crash", "exception", "hang", "memory", "code", "non-finite")
_ASKED = 10_000  # damaged files
_START = 300.0  # seconds that the first file of a kind may take, with all that it imports


class Case(NamedTuple):
    """A file to read: its number, kind, seed and, for attacks, what it tries."""

    number: int
    kind: str
    seed: Path
    what: str = ""


class Verdict(NamedTuple):
    """What came of a file."""

    number: int
    kind: str
    what: str
    result: str
    why: str
    seconds: float
    peak: int


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Reads all files of a plan."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = companion(__file__, "_untrusted_seeds").write_seeds(folder / "seeds")
        cases = [(kind, k) for kind, count in plan["mutations"].items() for k in range(count)]
        todo = [Case(n, kind, seeds[kind][k % len(seeds[kind])]) for n, (kind, k) in enumerate(cases)]
        if plan["attacks"]:
            found = companion(__file__, "_untrusted_attacks").attacks(folder / "attacks", seeds)
            todo += [Case(len(cases) + n, one.kind, one.path, one.what) for n, one in enumerate(found)]
        random.Random(plan["seeds"][0]).shuffle(todo)
        shares = [todo[k :: plan["workers"]] for k in range(plan["workers"])]
        with (
            tqdm(total=len(todo), desc="files", disable=not progress) as bar,
            concurrent.futures.ThreadPoolExecutor(plan["workers"]) as pool,
        ):
            work = [pool.submit(_share, share, seeds, folder / f"w{k}", plan, bar) for k, share in enumerate(shares)]
            verdicts = sorted(verdict for done in work for verdict in done.result())
    return _told(verdicts, plan, out)


def _share(cases: list[Case], seeds: dict[str, list[Path]], folder: Path, plan: dict[str, Any], bar: tqdm) -> list:
    damage = companion(__file__, "_untrusted_mutate").damage
    copied = companion(__file__, "_untrusted_seeds").copied
    folder.mkdir()
    reader, verdicts = Reader(folder, plan, seeds), []
    for case in cases:
        path = case.seed
        if not case.what:
            draw = random.Random(f"{plan['seeds'][0]}/{case.number}")
            path = copied(case.seed, folder / case.seed.name)
            damaged = draw.choice(sorted(p for p in path.iterdir() if p.is_file())) if path.is_dir() else path
            other = draw.choice(seeds[case.kind])
            other = other / damaged.name if other.is_dir() else other
            damage(damaged, case.kind, draw, other.read_bytes())
        verdict = reader.read(case, path)
        if verdict.result in FAULTS and not case.what:
            kept = folder.parent.parent / "pinnsim_untrusted"
            kept.mkdir(exist_ok=True)
            copied(path, kept / f"{case.number}_{path.name}")
        verdicts.append(verdict)
        bar.update()
    reader.stop()
    return verdicts


class Reader:
    """A process that reads files, ended and replaced when one takes too long or too much."""

    def __init__(self, folder: Path, plan: dict[str, Any], sound: dict[str, list[Path]]):
        self.folder, self.plan, self.sound = folder, plan, sound
        self.process: subprocess.Popen | None = None

    def read(self, case: Case, path: Path) -> Verdict:
        """One file; a crash of a parser within this process is looked at again the users' way, isolated."""
        result, why, seconds, peak = self._ask(case, path, isolated=False)
        if result == "crash" and case.kind in ("sbml", "antimony"):
            result, why, seconds, peak = self._ask(case, path, isolated=True)
        if (self.folder / "canary").exists():
            (self.folder / "canary").unlink()
            result, why = "code", "a canary file was written"
        if result in (READ, REFUSED) and seconds > self.plan["longest"]:
            result, why = "hang", f"{seconds:.1f} s"
        if result in (READ, REFUSED) and peak > self.plan["memory"]:
            result, why = "memory", f"{peak / 1e9:.2f} GB"
        return Verdict(case.number, case.kind, case.what, result, why, round(seconds, 3), peak)

    def stop(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self._closed(self.process)

    def _closed(self, process: subprocess.Popen) -> int:
        """The status of a process that has ended; what is left of its pipes is thrown away."""
        process.communicate()
        self.process = None
        return process.returncode

    def _ask(self, case: Case, path: Path, isolated: bool) -> tuple[str, str, float, int]:
        if self.process is None:
            self._begin()
        return self._answer(case.kind, path, isolated, self.plan["patience"])

    def _begin(self) -> None:
        """Starts a process and has it read a sound file of every kind, so that all it imports is imported."""
        command = [sys.executable, str(Path(__file__).with_name("_untrusted_reader.py"))]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for kind, files in self.sound.items():
            result, why, _, _ = self._answer(kind, files[0], False, _START, sound=True)
            if result in FAULTS and self.process is None:
                raise RuntimeError(f"a sound file of the kind {kind} could not be read: {why}")

    def _answer(
        self, kind: str, path: Path, isolated: bool, longest: float, sound: bool = False
    ) -> tuple[str, str, float, int]:
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"kind": kind, "path": str(path.resolve()), "isolated": isolated, "sound": sound}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        began = time.perf_counter()
        while True:
            ready, _, _ = select.select([process.stdout], [], [], 0.25)
            seconds, held = time.perf_counter() - began, self._held()
            if ready:
                line = process.stdout.readline()
                if not line:
                    status = self._closed(process)
                    return "crash", f"the process ended with status {status}", seconds, held
                said = json.loads(line)
                return said["result"], said["why"], said["seconds"], said["peak"]
            if seconds > longest:
                self.stop()
                return "hang", f"no answer after {seconds:.0f} s", seconds, held
            if held > 2 * self.plan["memory"]:
                self.stop()
                return "memory", f"{held / 1e9:.2f} GB", seconds, held

    def _held(self) -> int:
        assert self.process is not None
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        return 1024 * int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0


def _told(verdicts: list[Verdict], plan: dict[str, Any], out: Path) -> Findings:
    damaged = [v for v in verdicts if not v.what]
    hostile = [v for v in verdicts if v.what]
    counts = {kind: Counter(v.result for v in damaged if v.kind == kind) for kind in plan["mutations"]}
    faults = Counter(v.result for v in damaged)
    rows = [
        Acceptance("damaged files read", len(damaged), _ASKED, "higher"),
        Acceptance("damaged files that end the process", faults["crash"], 0),
        Acceptance("damaged files that raise what has no code", faults["exception"], 0),
        Acceptance("damaged files that take longer than 10 s", faults["hang"], 0),
        Acceptance("damaged files that take more than 2 GB", faults["memory"], 0),
        Acceptance("damaged files that run code or reach out", faults["code"], 0),
        Acceptance("damaged files with numbers silently not finite", faults["non-finite"], 0),
    ]
    if hostile:
        rows.append(Acceptance("hostile files tried", len(hostile), 40, "higher"))
        rows.append(Acceptance("hostile files that are not inert", sum(v.result in FAULTS for v in hostile), 0))
    with (out / "untrusted_input_files.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("number", "kind", "what", "result", "why"))
        kept = [v for v in verdicts if v.what or v.result in FAULTS]
        writer.writerows((v.number, v.kind, v.what, v.result, v.why) for v in kept)
    save(_picture(counts), out / "untrusted_input.png")
    codes = Counter(v.why for v in damaged if v.result == REFUSED)
    metrics = {
        "damaged": {kind: dict(found) for kind, found in counts.items()},
        "hostile": dict(Counter(v.result for v in hostile)),
        "refused with": dict(codes.most_common(25)),
        "seconds": {
            "median": float(np.median([v.seconds for v in damaged])),
            "longest": max(v.seconds for v in damaged),
        },
        "peak memory, GB": max(v.peak for v in verdicts) / 1e9,
    }
    return Findings(metrics, {}, tuple(rows))


def _picture(counts: dict[str, Counter]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(7.0, 3.2), layout="constrained")
    left = np.zeros(len(counts))
    for result, colour in ((READ, "#0072B2"), (REFUSED, "#BBBBBB"), ("fault", "#D55E00")):
        wanted = FAULTS if result == "fault" else (result,)
        width = np.array([sum(found[name] for name in wanted) for found in counts.values()], dtype=float)
        axes.barh(list(counts), width, left=left, color=colour, label=f"{result} ({int(width.sum()):,})")
        left += width
    axes.invert_yaxis()
    axes.set_xlabel("damaged files")
    axes.set_title("What becomes of damaged files, by kind")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(main(__file__))
