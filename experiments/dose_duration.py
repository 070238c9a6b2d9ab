"""Does a campaign's map of dose x duration agree with the exact edge, and its verdicts with its fates, point by point?

The campaign that comes with pinnsim as `toggle`, on a finer grid: an inducer's push on the Gardner toggle, every dose
with every duration (simulated: there are no measurements here). Its fates, of the unvaried model's attractors, are held
against critical durations found by bisection; its verdicts, of each point's own attractors, against its fates.
Source: T. S. Gardner, C. R. Cantor, J. J. Collins, Nature 403:339 (2000).
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pinnsim import campaign, shelf
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import critical_duration
from pinnsim.plot import save, sweep_map
from pinnsim.sweep import Axis, Store

SMOKE: dict[str, Any] = {"doses": 2, "durations": 3, "record": ["end", "fate"]}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The campaign, the edge, and the two held against each other."""
    given = campaign.read_specification("toggle")
    dose = Axis(name="dose", linear=(plan["lowest_dose"], plan["highest_dose"], plan["doses"]))
    duration = Axis(name="duration", linear=(plan["longest"] / plan["durations"], plan["longest"], plan["durations"]))
    changes = {"axes": (dose, duration), "record": tuple(plan["record"]), "settle": plan["settle"]}
    loaded = campaign.load_campaign(type(given).model_validate({**given.model_dump(exclude_unset=True), **changes}))
    with tempfile.TemporaryDirectory() as place:
        report = campaign.run(loaded, Path(place) / "map", progress=progress)
        dataset = Store(Path(place) / "map").to_xarray().load()
    save(sweep_map(dataset, "valley"), out / "dose_duration.png")
    shape = (plan["doses"], plan["durations"])
    valley = dataset["valley"].values.reshape(shape)
    doses = dataset["axis_dose"].values.reshape(shape)[:, 0]
    durations = dataset["axis_duration"].values.reshape(shape)[0]
    began = time.perf_counter()
    attractors, start = np.array(loaded.found["attractors"]["states"]), np.asarray(loaded.program.start)
    edge = critical_duration(
        shelf.load("toggle_switch").model, start, "drive(u)=1", doses, attractors,
        longest=4 * plan["longest"], settle=given.times[-1] - plan["longest"], tolerance=plan["tolerance"],
    )  # fmt: skip
    searching = time.perf_counter() - began
    limits = np.where(np.isnan(edge.duration), np.inf, edge.duration)[:, None]
    high = int(np.argmax(attractors[:, 0]))
    # A point nearer to the edge than the bracket of the bisection is not decided by it.
    near = np.abs(durations[None] - limits) <= 2 * plan["tolerance"]
    wrong = ((valley == high) != (durations[None] > limits)) & ~near
    rows = [
        Acceptance("points that failed or settled nowhere", report.counts["failed"] + int(np.sum(valley < 0)), 0),
        Acceptance("points on the wrong side of the critical duration", int(np.sum(wrong)), 0),
        Acceptance("points too near to the edge to be decided by it (%)", 100 * float(np.mean(near)), 1.0),
    ]
    if "verdict" in dataset:
        switched = dataset["verdict"].values.reshape(shape) == 1
        differ = int(np.sum(switched != (valley == high)))
        rows.append(Acceptance("points whose verdict of their own landscape differs from their fate", differ, 0))
    metrics = {
        "points": report.counts["requested"],
        "points that switched": int(np.sum(valley == high)),
        "critical duration (h) by dose": {f"{d:.3g}": float(t) for d, t in zip(doses, edge.duration, strict=True)},
        "seconds of the campaign": report.seconds,
        "seconds of the search for the edge": searching,
    }
    return Findings(metrics, {}, tuple(rows))


if __name__ == "__main__":
    raise SystemExit(main(__file__))
