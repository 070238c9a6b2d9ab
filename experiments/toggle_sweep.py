"""What does the campaign layer cost, and are its numbers the same however ten thousand points of a toggle are cut?

Dose x duration of an inducer's push on the Gardner toggle, as a campaign with a store on disk (simulated: there are no
measurements here). The fates are held against the critical duration found by bisection, the hash of all numbers against
that of other chunk sizes, workers and engines, and the rate of a long campaign against a plain loop over the same
compiled program. Source: T. S. Gardner, C. R. Cantor, J. J. Collins, Nature 403:339 (2000).
"""

import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pinnsim import campaign, shelf
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import critical_duration
from pinnsim.plot import dose_duration_map, save
from pinnsim.sweep import Axis, Campaign, InProcess, Report, Specification, Store, drive

SMOKE: dict[str, Any] = {
    "doses": 6,
    "durations": 5,
    "block": 8,
    "critical": 2,
    "cuts": {"chunks": [3, 8], "workers": [1], "engines": ["in-process"]},
    "long": {"doses": 8, "durations": 8, "chunk": 32, "asked": 64},
}
_MB = 1024  # kilobytes, in which the system counts memory


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The campaign, its cuts and its cost."""
    loaded = campaign.load_campaign(_specification(plan, plan["doses"], plan["durations"], ("end", "fate")))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        report = campaign.run(loaded, folder / "whole", progress=progress)
        store = Store(folder / "whole")
        expected = store.content_hash()
        wrong, chosen, boundary = _picture(plan, store, loaded, out)
        cuts = _cuts(plan["cuts"], loaded, folder, expected, progress)
        cost, growth = _cost(plan, folder, progress)
    metrics = {
        "points": report.counts["requested"],
        "failed": report.counts["failed"],
        "undecided": int(np.sum(wrong[1])),
        "sha256 of all numbers": expected,
        "ways of cutting and working out": len(cuts),
        "critical duration (h) by dose": {f"{d:.3g}": float(b) for d, b in zip(chosen, boundary, strict=True)},
        **cost,
    }
    baselines = {"plain loop over the compiled vmapped program, points per s": cost["points per s, plain loop"]}
    rows = (
        Acceptance("points that failed or are undecided", report.counts["failed"] + metrics["undecided"], 0),
        Acceptance("points on the wrong side of the critical duration", wrong[0], 0),
        Acceptance("runs with another hash, of all chunk sizes, workers and engines", sum(not s for s in cuts), 0),
        Acceptance("overhead of the campaign over its own compute, chunks over 1 s (%)", cost["overhead (%)"], 5.0),
        Acceptance(
            "seconds of compute per chunk in the run for the overhead", cost["seconds per chunk"], 1.0, "higher"
        ),
        Acceptance("points of the long campaign", cost["points of the long campaign"], plan["long"]["asked"], "higher"),
        Acceptance(
            "rate of the long campaign over that of a plain vmapped loop without a store",
            cost["points per s, campaign"] / cost["points per s, plain loop"],
            0.9,
            "higher",
        ),
        Acceptance("growth of peak memory from a tenth to all points of the long campaign (MB)", growth, 64.0),
    )
    return Findings(metrics, baselines, rows)


def _specification(plan: dict[str, Any], doses: int, durations: int, record: tuple[str, ...]) -> Specification:
    state = 5 + 2 * np.sqrt(6) * np.array([-1.0, 1.0])
    dose = Axis(name="dose", linear=(plan["lowest_dose"], plan["highest_dose"], doses))
    duration = Axis(name="duration", linear=(plan["longest"] / durations, plan["longest"], durations))
    return Specification.model_validate(
        {
            "model": "toggle_switch",
            "times": (0.0, plan["end"]),
            "push": "drive(u)=1",
            "initial": {"u.mrna": float(state[0]), "v.mrna": float(state[1])},
            "record": record,
            "block": plan["block"],
            "axes": (dose, duration),
        }
    )


def _picture(
    plan: dict[str, Any], store: Store, loaded: Campaign, out: Path
) -> tuple[tuple[int, np.ndarray], np.ndarray, np.ndarray]:
    """Points on the wrong side and undecided ones; doses and critical durations; the map is drawn."""
    dataset = store.to_xarray()
    shape = (plan["doses"], plan["durations"])
    valley = dataset["valley"].values.reshape(shape)
    doses = dataset["axis_dose"].values.reshape(shape)[:, 0]
    durations = dataset["axis_duration"].values.reshape(shape)[0]
    attractors = np.array(loaded.found["attractors"]["states"])
    start = np.asarray(loaded.program.start)
    chosen = doses[np.linspace(0, len(doses) - 1, plan["critical"]).astype(int)]
    critical = critical_duration(
        shelf.load("toggle_switch").model,
        start,
        "drive(u)=1",
        chosen,
        attractors,
        longest=4 * plan["longest"],
        settle=plan["end"] - plan["longest"],
    )
    high = int(np.argmax(attractors[:, 0]))
    limits = np.nan_to_num(critical.duration, nan=np.inf)
    rows = [int(np.flatnonzero(doses == dose)[0]) for dose in chosen]
    # A point nearer to the boundary than the bracket of the bisection is not decided by it.
    wrong = sum(
        int(np.sum(((valley[row] == high) != (durations > limit)) & (np.abs(durations - limit) > 2e-3)))
        for row, limit in zip(rows, limits, strict=True)
    )
    names = ["u high" if state[0] > state[1] else "v high" for state in attractors]
    save(
        dose_duration_map(
            doses,
            durations,
            valley,
            names,
            critical=(chosen, critical.duration),
            dose_label="added production of u",
            dose_unit="per h",
            time_unit="h",
            simulated=True,
        ),
        out / "toggle_sweep.png",
    )
    return (wrong, valley < 0), chosen, critical.duration


def _cuts(plan: dict[str, Any], loaded: Campaign, folder: Path, expected: str, progress: bool) -> list[bool]:
    """Whether each way of cutting and working out gave the same hash."""
    ways = [
        (engine, workers, chunk)
        for engine in plan["engines"]
        for workers in (plan["workers"] if engine != "in-process" else [1])
        for chunk in plan["chunks"]
    ]
    same = []
    for engine, workers, chunk in tqdm(ways, desc="cuts", disable=None if progress else True):
        place = folder / "cut"
        report = campaign.run(loaded, place, engine=engine, workers=workers, chunk=chunk)
        same.append(report.counts["pending"] == 0 and Store(place).content_hash() == expected)
        shutil.rmtree(place)
    return same


def _cost(plan: dict[str, Any], folder: Path, progress: bool) -> tuple[dict[str, float], float]:
    """Overhead, rates and memory of a long campaign in this process."""
    size = plan["long"]
    tenth = campaign.load_campaign(_specification(plan, max(size["doses"] // 10, 1), size["durations"], ("end",)))
    every = campaign.load_campaign(_specification(plan, size["doses"], size["durations"], ("end",)))
    every.compute(0, plan["block"])
    tenth.compute(0, plan["block"])
    _driven(tenth, folder / "tenth", size["chunk"], progress)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = _driven(every, folder / "every", size["chunk"], progress)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / _MB
    began = time.perf_counter()
    for start in range(0, tenth.points.count, size["chunk"]):
        tenth.compute(start, min(start + size["chunk"], tenth.points.count))
    plain = tenth.points.count / (time.perf_counter() - began)
    return {
        "points of the long campaign": float(every.points.count),
        "overhead (%)": 100 * (report.seconds / report.computing - 1),
        "seconds per chunk": report.computing / report.chunks,
        "points per s, campaign": every.points.count / report.seconds,
        "points per s, plain loop": plain,
        "failed points of the long campaign": float(report.counts["failed"]),
    }, growth


def _driven(loaded: Campaign, folder: Path, chunk: int, progress: bool) -> Report:
    with Store.create(folder, loaded.layout(chunk), loaded.about()).hold() as store:
        return drive(store, loaded, InProcess(loaded), progress)


if __name__ == "__main__":
    raise SystemExit(main(__file__))
