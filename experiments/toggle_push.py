"""Which dose of an inducer, for how long, flips a genetic toggle switch for good?

A thousand pushes of the Gardner toggle (dose x duration, then let go) as one batched program; the boundary is compared
with the critical duration found by bisection, and the valleys with their closed form (simulated: there are no
measurements here). Source: T. S. Gardner, C. R. Cantor, J. J. Collins, Nature 403:339 (2000).
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from pinnsim import shelf
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import critical_duration, find_attractors, grid, push
from pinnsim.plot import dose_duration_map, save

SMOKE: dict[str, Any] = {"doses": 4, "durations": 5, "critical": 2}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The map, its boundary and the attractors."""
    model = shelf.load("toggle_switch").model
    found = find_attractors(model, starts=plan["starts"])
    stable = found.states[found.stable]
    exact = 5 + 2 * np.sqrt(6) * np.array([1.0, -1.0])
    closed = max(float(np.abs(np.sort(state)[::-1] - exact).max()) for state in stable)
    low = stable[np.argmin(stable[:, 0])]
    doses = np.linspace(plan["lowest_dose"], plan["highest_dose"], plan["doses"])
    durations = np.linspace(plan["longest"] / plan["durations"], plan["longest"], plan["durations"])
    began = time.perf_counter()
    result = push(model, low, "drive(u)=1", *grid(doses, durations), found, settle=plan["settle"])
    seconds = time.perf_counter() - began
    valley = result.valley.reshape(len(doses), len(durations))
    flipped = np.array([name == result.names[int(np.argmax(stable[:, 0]))] for name in result.verdicts()]).reshape(
        valley.shape
    )
    chosen = doses[np.linspace(0, len(doses) - 1, plan["critical"]).astype(int)]
    critical = critical_duration(
        model, low, "drive(u)=1", chosen, found, longest=4 * plan["longest"], settle=plan["settle"]
    )
    boundary = critical.duration
    # A lane is misjudged when it flipped before the critical duration at its dose, or did not after it.
    wrong = sum(
        int(np.sum(flipped[np.flatnonzero(doses == dose)[0]] != (durations > limit)))
        for dose, limit in zip(chosen, np.nan_to_num(boundary, nan=np.inf), strict=True)
    )
    save(
        dose_duration_map(
            doses,
            durations,
            valley,
            [_name(state) for state in stable],
            critical=(chosen, boundary),
            dose_label="added production of u",
            dose_unit="per h",
            time_unit="h",
            simulated=True,
        ),
        out / "toggle_push.png",
    )
    lost = int((result.outcome != 0).sum()), int((result.valley < 0).sum())
    metrics = {
        "lanes": len(result.valley),
        "failed lanes": lost[0],
        "undecided lanes": lost[1],
        "seconds, compilation included": seconds,
        "flipped share": float(flipped.mean()),
        "critical duration (h) by dose": {f"{d:.3g}": float(b) for d, b in zip(chosen, boundary, strict=True)},
    }
    rows = (
        Acceptance("attractors of the toggle against 5 +- 2 sqrt 6, largest error", closed, 1e-8),
        Acceptance(
            "lanes of the dose x duration map that failed or are undecided",
            sum(lost),
            0,
        ),
        Acceptance("lanes on the wrong side of the critical duration", wrong, 0),
    )
    return Findings(metrics, {}, rows)


def _name(state: np.ndarray) -> str:
    return "u high" if state[0] > state[1] else "v high"


if __name__ == "__main__":
    raise SystemExit(main(__file__))
