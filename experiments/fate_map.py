"""Which push settles where, with what probability, and would another fit of the model say the same?

Critical durations and doses against quadratures; the dose x duration map against single pushes; probabilities under
exact jumps, chemical Langevin and additive noise against laws by matrix exponentials; an ensemble's agreement against
closed forms; and a code for everything that settles nowhere. One picture of a toggle switch with all of it (simulated:
there are no measurements here).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Array

from pinnsim import shelf
from pinnsim.dynamics.drift import DriftField, drift_field
from pinnsim.dynamics.motifs import schlogl, toggle
from pinnsim.dynamics.textbook import double_well, gata1_pu1
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import (
    Kept,
    Switch,
    Verdict,
    additive,
    birth_death_law,
    chemical,
    critical_dose,
    critical_duration,
    ensemble_map,
    fate_map,
    fate_probabilities,
    find_attractors,
    fokker_planck,
    grid,
    push,
    system_of,
)
from pinnsim.plot import fate_map_panel, save
from pinnsim.simulate import ODE, SSA, AbstractSampler, Diffusion, Langevin

SMOKE: dict[str, Any] = {
    "parts": ["picture"],
    "axis": 3,
    "singles": 2,
    "long_push": 50.0,
    "runs": 20,
    "members": 4,
    "picture_axis": 3,
    "picture_runs": 4,
    "picture_members": 2,
    "law_cells": 101,
}

SHARP = ODE(rtol=1e-10, atol=1e-12, max_steps=1 << 17)
TRUTH = {0.5: 4.9713143585, 0.75: 2.1052938654, 1.0: 1.3643419919, 2.0: 0.5739092676, 5.0: 0.2106524568}
FOLD, GATA_FOLD = 2 / (3 * np.sqrt(3)), 0.187367
ENDS = [[-1.0], [1.0]]
Rows = list[Acceptance]


class Cubic(eqx.Module):
    """`c0 + c1 x + c2 x^2 + c3 x^3`. **Arguments:** `c`: (4,)."""

    c: Array

    def __call__(self, state: Array) -> Array:
        return jnp.polyval(self.c[::-1], state)


class Bounded(eqx.Module):
    """`sqrt(3/2 - x) - sqrt(5/2)`: rests at -1, and is no number beyond 3/2."""

    def __call__(self, state: Array) -> Array:
        return jnp.sqrt(1.5 - state) - jnp.sqrt(jnp.asarray(2.5))


class Rings(eqx.Module):
    """`r' = r (1 - r^2) (r^2 - 1/4)`, `phi' = 3`: a valley inside, a cycle outside."""

    def __call__(self, state: Array) -> Array:
        x, y = state
        s = x**2 + y**2
        growth = (1.0 - s) * (s - 0.25)
        return jnp.stack([growth * x - 3.0 * y, 3.0 * x + growth * y])


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All parts and the picture."""
    rows: Rows = []
    metrics: dict[str, Any] = {}
    for name in plan["parts"]:
        if progress:
            print(name, flush=True)
        began = time.perf_counter()
        rows += PARTS[name](plan, out, progress, metrics)
        metrics[f"seconds, {name}"] = time.perf_counter() - began
    return Findings(metrics, {}, tuple(rows))


def _fork(a: float) -> DriftField:
    """`x' = a x - x^3`."""
    return drift_field(Cubic(jnp.asarray([0.0, a, 0.0, -1.0])), ("x",), [-1.0])


def _quadrature(a: float, dose: float) -> float:
    """`T_c = int_{-sqrt a}^0 dx / (a x - x^3 + h)`; NaN where the push never gets there."""
    if not dose > 2 * (a / 3) ** 1.5:
        return np.nan
    return scipy.integrate.quad(lambda x: 1 / (a * x - x**3 + dose), -np.sqrt(a), 0, epsabs=1e-13, limit=500)[0]


def _gap(found: Any, wanted: Any) -> float:
    """Largest difference; infinite where one has a number and the other has none."""
    a, b = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return np.inf
    return float(np.nanmax(np.abs(a - b)))


def _critical(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    well, doses, times = double_well(), list(TRUTH), list(TRUTH.values())
    shared: dict[str, Any] = {"settle": 40.0, "tolerance": 1e-7, "method": SHARP}
    long = critical_duration(well, [-1.0], "drive(x)=1", doses, ENDS, longest=8.0, **shared)
    strong = critical_dose(well, [-1.0], "drive(x)=1", times, ENDS, highest=8.0, **shared)
    near = np.outer(times[:4], [0.99, 1.01]).ravel()
    ball = push(well, [-1.0], "drive(x)=1", np.repeat(doses[:4], 2), near, ENDS, settle=40.0)
    held = critical_dose(well, [-1.0], "drive(x)=1", plan["long_push"], ENDS, highest=1.0, **shared)
    metrics["critical durations by dose"] = {f"{h:g}": t for h, t in zip(doses, long.duration, strict=True)}
    low, mirror = [0.0039216026, 1.9960783974], [1.9960783974, 0.0039216026]
    fates = [low, [1.0, 1.0], mirror]
    lineage = critical_dose(
        gata1_pu1(), low, "drive(GATA1)=1", plan["long_push"], fates, highest=0.25, settle=100.0, tolerance=1e-8,
        method=SHARP,
    )  # fmt: skip
    after = push(gata1_pu1(), low, "drive(GATA1)=1", 0.19, plan["long_push"], fates, settle=100.0)
    never = critical_duration(well, [-1.0], "drive(x)=1", [0.3, FOLD - 1e-3], ENDS, longest=60.0, **shared)
    return [
        Acceptance("double well: critical durations at five doses", _gap(long.duration, times), 1e-6),
        Acceptance("double well: critical doses at these durations", _gap(strong.dose, doses), 1e-6),
        Acceptance(
            "double well: balls at 0.99 and 1.01 of the critical duration in the wrong valley",
            sum(v != w for v, w in zip(ball.verdicts(), ["A1", "A2"] * 4, strict=True)),
            0,
        ),
        Acceptance("double well: critical dose of a very long push against the fold", _gap(held.dose, [FOLD]), 1e-6),
        Acceptance(
            "double well: doses below the fold that are not refused", int((never.code != Switch.NEVER).sum()), 0
        ),
        Acceptance(
            "GATA1-PU.1: critical dose of a very long push against the fold", _gap(lineage.dose, [GATA_FOLD]), 1e-6
        ),
        Acceptance(
            "GATA1-PU.1: cells pushed beyond it that do not settle at the progenitor",
            sum(verdict != "A2" for verdict in after.verdicts()),
            0,
        ),
    ]


def _maps(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    model = shelf.load("toggle_switch").model
    found = find_attractors(model, starts=32)
    stable = found.states[found.stable]
    low = stable[np.argmin(stable[:, 0])]
    doses, durations = np.linspace(0.5, 6.0, plan["axis"]), np.linspace(0.5, 8.0, plan["axis"])
    began = time.perf_counter()
    cells = fate_map(model, low, "drive(u)=1", doses, durations, found, settle=60.0, progress=progress)
    metrics["cells of the toggle's map"] = cells.valley.size
    metrics["seconds of the toggle's map, compilation included"] = time.perf_counter() - began
    rng = np.random.default_rng(plan["seeds"][0])
    picked = rng.choice(cells.valley.size, plan["singles"], replace=False)
    wrong, apart = 0, 0.0
    for lane in picked:
        i, j = divmod(int(lane), len(durations))
        one = push(model, low, "drive(u)=1", doses[i], durations[j], found, settle=60.0)
        wrong += int(one.valley[0] != cells.valley[i, j])
        apart = max(apart, float(np.abs(one.final[0] - cells.final[i, j]).max()))
    # On the double well the border is known: T_c(h) along one axis, its inverse along the other.
    x, y = np.linspace(0.45, 3.0, plan["axis"]), np.linspace(0.25, 6.0, plan["axis"])
    known = fate_map(
        double_well(), [-1.0], "drive(x)=1", x, y, ENDS, settle=40.0, tolerance=1e-8, method=SHARP, progress=progress
    )
    exact = np.array([_quadrature(1.0, h) for h in x])
    border = known.border
    along = border.along == "duration"
    beside = np.array([_quadrature(1.0, h) for h in border.dose])
    slope = np.array([(_quadrature(1.0, h + 1e-4) - _quadrature(1.0, h - 1e-4)) / 2e-4 for h in border.dose])
    error = np.where(along, border.duration - beside, (border.duration - beside) / slope)
    return [
        Acceptance("cells of the map in another valley than the single push", wrong, 0),
        Acceptance("cells of the map: largest difference of a final state from the single push", apart, 1e-12),
        Acceptance(
            "double well: cells of the map on the wrong side of the quadrature",
            int((known.valley != (y[None] > exact[:, None])).sum()),
            0,
        ),
        Acceptance("double well: the map's border against the quadrature", float(np.abs(error).max()), 1e-6),
    ]


def _evolved(p: np.ndarray, generator: Any, span: float) -> np.ndarray:
    """A law after a time, by the matrix exponential."""
    return scipy.sparse.linalg.expm_multiply(span * scipy.sparse.csc_matrix(generator), p)


def _chances(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    key, runs = jax.random.key(plan["seeds"][0]), plan["runs"]
    lanes, settle = grid([200.0, 350.0, 500.0], [0.3, 0.6]), 0.5
    low, saddle, high = np.sort(np.roots([-1e-4 / 6, 0.015, -3.5, 200.0]).real)
    counts, most = schlogl(), 1000
    rows = []

    def compared(name: str, model: Any, start: float, given: tuple, ends: list, noise: AbstractSampler, law: Callable):
        found = fate_probabilities(
            model, [start], "drive(x)=1", *given, ends, noise=noise, key=key, settle=settle, quench=40.0, runs=runs,
            progress=progress,
        )  # fmt: skip
        exact = np.array([law(dose, time) for dose, time in zip(*given, strict=True)])
        error = np.sqrt(np.maximum(exact * (1 - exact), 1.0 / runs) / runs)
        reach = found.interval()[:, 1]
        metrics[name] = {
            "exact": exact.tolist(),
            "found": found.probability[:, 1].tolist(),
            "undecided": int(found.undecided.sum()),
            "failed": int(found.failed.sum()),
            "exact probabilities within the 95% interval": float(
                ((reach[:, 0] <= exact) & (exact <= reach[:, 1])).mean()
            ),
        }
        score = float(np.abs((found.probability[:, 1] - exact) / error).max())
        rows.append(Acceptance(f"{name}: largest error of a probability, in standard errors", score, 3.0))

    def chain(dose: float, span: float) -> float:
        p = np.zeros(most + 1)
        p[round(low)] = 1.0
        for drive, lasts in ((dose, span), (0.0, settle)):
            exact = birth_death_law(counts, most, f"drive(x)={drive}")
            births = np.append(exact.births[:-1], 0.0)
            step = scipy.sparse.diags([births[:-1], -births - exact.deaths, exact.deaths[1:]], [-1, 0, 1])
            p = _evolved(p, step, lasts)
        return float(p[int(np.ceil(saddle)) :].sum())

    def on_grid(model: Any, noise: Any, box: tuple, start: float, edge: float) -> Callable[[float, float], float]:
        def law(dose: float, span: float) -> float:
            p = None
            for drive, lasts in ((dose, span), (0.0, settle)):
                cells = fokker_planck(model, noise(drive), box, plan["law_cells"], f"drive(x)={drive}")
                x = cells.centres[0]
                if p is None:
                    # Between two centres, so that the law starts with the right mean.
                    p = np.maximum(1.0 - np.abs(x - start) / (x[1] - x[0]), 0.0)
                p = _evolved(p, cells.generator, lasts)
            # The cell that the edge cuts counts in part.
            return float((p * np.clip((x - edge) / (x[1] - x[0]) + 0.5, 0.0, 1.0)).sum())

        return law

    ends = [[low], [high]]
    compared("exact jumps, Schlogl", counts, round(low), lanes, ends, SSA(1.0), chain)
    langevin = on_grid(
        counts, lambda drive: chemical(system_of(counts, f"drive(x)={drive}"), 1.0), ([1.0], [1000.0]), low, saddle
    )
    compared("chemical Langevin, Schlogl", counts, low, lanes, ends, Langevin(1.0, plan["dt"]), langevin)
    well = grid([0.6, 1.0], [0.5, 1.0, 2.0])
    even = on_grid(double_well(), lambda drive: additive(0.1, 1), ([-3.0], [3.0]), -1.0, 0.0)
    compared("additive noise, double well", double_well(), -1.0, well, ENDS, Diffusion(0.1, plan["dt"]), even)
    return rows


def _members(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    rng = np.random.default_rng(plan["seeds"][0])
    lows = np.exp(0.2 * rng.normal(size=plan["members"]))
    lost = np.array([-0.5, np.nan])
    x, y = np.linspace(0.2, 2.0, plan["axis"]), np.linspace(0.25, 6.0, plan["axis"])
    began = time.perf_counter()
    found = ensemble_map(
        _fork(1.0), [_fork(a) for a in (*lows, *lost)], "A1", "drive(x)=1", x, y, ENDS, settle=80.0, longest=8.0,
        tolerance=1e-7, method=SHARP, progress=progress,
    )  # fmt: skip
    metrics["members times cells"] = found.valley.size
    metrics["seconds of all members' maps and critical durations"] = time.perf_counter() - began
    own = np.array([[_quadrature(a, h) for h in x] for a in lows])
    reference = y[None] > np.nan_to_num([_quadrature(1.0, h) for h in x], nan=np.inf)[:, None]
    leaves = y > np.nan_to_num(own, nan=np.inf)[..., None]
    # A flow with one valley always settles in it; a member that is no number never settles.
    alone = int(np.flatnonzero(found.valleys.kind[-2] == Kept.KEPT)[0])
    share = ((leaves == reference).sum(axis=0) + (reference == alone)) / (len(lows) + 2)
    told = [*found.valleys.same[:-2], not found.valleys.same[-2], (found.verdict[-1] == Verdict.NO_START).all()]
    return [
        Acceptance(
            "members: their own critical durations against the quadrature",
            _gap(found.critical[:-2], np.where(own > 8.0, np.nan, own)),
            1e-6,
        ),
        Acceptance("members: agreement against closed forms", _gap(found.agreement, share), 1e-12),
        Acceptance("members whose lost valleys are not told", int(len(told) - np.sum(told)), 0),
    ]


def _codes(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    well = _fork(1.0)
    runaway = drift_field(Cubic(jnp.asarray([-1.0, 0.0, 1.0, 0.0])), ("x",), [-1.0])
    bounded = drift_field(Bounded(), ("x",), [-1.0])
    rings = drift_field(Rings(), ("x", "y"), [0.1, 0.0])

    def code(model: Any, state: list, ends: list, dose: float, settle: float = 30.0, method: ODE | None = None) -> int:
        found = fate_map(model, state, "drive(x)=1", [dose], [1.0], ends, settle=settle, tolerance=None, method=method)
        return int(found.verdict[0, 0] if found.start == Verdict.SETTLED else found.start)

    found = {
        Verdict.SETTLED: code(well, [-1.0], ENDS, 3.0),
        Verdict.CYCLE: code(rings, [0.0, 0.0], [[0.0, 0.0]], 2.0),
        Verdict.MOVING: code(well, [-1.0], ENDS, 1.0, settle=0.1),
        Verdict.ELSEWHERE: code(well, [-1.0], [[-1.0]], 3.0),
        Verdict.MAX_STEPS: code(runaway, [-1.0], [[-1.0]], 9.0),
        Verdict.NOT_FINITE: code(bounded, [-1.0], [[-1.0]], 9.0),
        Verdict.UNSTABLE_START: code(well, [0.0], ENDS, 0.0),
    }
    metrics["codes"] = {wanted.sentence: Verdict(got).name for wanted, got in found.items()}
    wrong = sum(got != wanted for wanted, got in found.items())
    return [Acceptance("pushes that end badly and are given another code than theirs", wrong, 0)]


def _picture(plan: dict[str, Any], out: Path, progress: bool, metrics: dict[str, Any]) -> Rows:
    model = toggle(10.0, time_unit="h")
    high, low = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)
    ends = [[low, high], [high, low]]
    doses = np.linspace(0.4, 8.0, plan["picture_axis"])
    durations = np.linspace(0.25, 6.0, plan["picture_axis"])
    began = time.perf_counter()
    found = fate_map(
        model, ends[0], "drive(u)=1", doses, durations, ends, settle=60.0, noise=SSA(plan["picture_size"]),
        key=jax.random.key(plan["seeds"][0]), runs=plan["picture_runs"], noisy_settle=5.0, progress=progress,
    )  # fmt: skip
    metrics["seconds of the picture's map with noise"] = time.perf_counter() - began
    rng = np.random.default_rng(plan["seeds"][0])
    strengths = 10.0 * np.exp(plan["picture_spread"] * rng.normal(size=(plan["picture_members"], 2)))
    members = [toggle(pair, time_unit="h") for pair in strengths]
    ensemble = ensemble_map(
        model, members, "A1", "drive(u)=1", doses, durations, ends, settle=60.0, longest=20.0, progress=progress
    )
    metrics["picture"] = [found.describe(), ensemble.describe()]
    if found.fates is not None:
        metrics["picture's noise"] = found.fates.describe()
    save(
        fate_map_panel(
            found,
            ensemble,
            dose_label="added production of u",
            dose_unit="per h",
            names=("v high", "u high"),
            title="Toggle switch: where it settles, and how sure that is",
            simulated=True,
        ),
        out / "fate_map.png",
    )
    return [Acceptance("cells of the picture's map without a verdict of their own", int((found.valley < 0).sum()), 0)]


PARTS: dict[str, Callable[[dict[str, Any], Path, bool, dict[str, Any]], Rows]] = {
    "critical": _critical,
    "maps": _maps,
    "chances": _chances,
    "members": _members,
    "codes": _codes,
    "picture": _picture,
}


if __name__ == "__main__":
    raise SystemExit(main(__file__))
