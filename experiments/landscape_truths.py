"""Does the landscape give the exact answers of textbook systems, to the digits that each method allows?

Fixed points, folds, cycles, exit times, laws and paths of systems whose answers are known in closed form or were
computed independently (simulated: there are no measurements here), each as one acceptance row.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.motifs import schlogl, toggle
from pinnsim.dynamics.textbook import (
    binary_choice,
    double_well,
    gata1_pu1,
    maier_stein,
    muller_brown,
    ring,
    six_variable_repressilator,
)
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.landscape import critical_duration, find_attractors
from pinnsim.landscape.action import minimum_action
from pinnsim.landscape.birth_death import birth_death_law
from pinnsim.landscape.continuation import continuation, fold_curve
from pinnsim.landscape.cycles import shoot
from pinnsim.landscape.first_passage import line
from pinnsim.landscape.fokker_planck import fokker_planck
from pinnsim.landscape.noise import additive
from pinnsim.landscape.ornstein_uhlenbeck import ornstein_uhlenbeck
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.rare_events import Coordinate, weighted_ensemble
from pinnsim.landscape.roots import fixed_points
from pinnsim.landscape.string import energy_path
from pinnsim.landscape.system import dose, parameter, system_of
from pinnsim.simulate import ODE

SMOKE: dict[str, Any] = {
    "parts": ["points", "laws", "denials"],
    "networks": 3,
    "networks_grid": 300,
    "grid": 300,
    "plane": 40,
    "path_points": 65,
    "picture_cells": 0,
}

FOLD = 2 / (3 * np.sqrt(3))
STRENGTH = parameter("law/strength")
SHARP = ODE(rtol=1e-10, atol=1e-12, max_steps=16384)


class Linear(eqx.Module):
    """`f(x) = A x`."""

    matrix: Array

    def __call__(self, state: Array) -> Array:
        return self.matrix @ state


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every part, its rows, and a picture."""
    rows: list[Acceptance] = []
    for name in plan["parts"]:
        if progress:
            print(name, flush=True)
        rows += PARTS[name](plan)
    metrics = {"rows": len(rows), "failing rows": sum(not row.holds for row in rows)}
    if plan["picture_cells"]:
        companion(__file__, "_landscape_picture").picture(plan["picture_cells"], out / "landscape_truths.png")
    return Findings(metrics, {}, tuple(rows))


def _gap(found: Any, wanted: Any) -> float:
    """Largest difference; infinite where the shapes differ."""
    a, b = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    return float(np.abs(a - b).max()) if a.shape == b.shape else np.inf


def _sorted(states: Any) -> list:
    return sorted(map(tuple, np.asarray(states).tolist()))


def _points(plan: dict[str, Any]) -> list[Acceptance]:
    root = np.sqrt(6)
    found = fixed_points(toggle(10.0), starts=32, bounds=([1e-2] * 2, [20.0] * 2))
    exact = [[5 - 2 * root, 5 + 2 * root], [2, 2], [5 + 2 * root, 5 - 2 * root]]
    order = np.argsort([s[0] for s in found.states])
    values = [np.sort(found.eigenvalues[k].real) for k in order]
    gata = fixed_points(gata1_pu1(), starts=32)
    low, pass_ = [0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550]
    gata_exact = [low, pass_, [1.0, 1.0], pass_[::-1], low[::-1]]
    rates = [np.sort(gata.eigenvalues[k].real) for k in np.argsort([s[0] for s in gata.states])]
    surface = fixed_points(muller_brown(), starts=64, bounds=([-1.5, -0.5], [1.2, 2.0]))
    surface_exact = [
        [-0.82200156, 0.62431280], [-0.55822363, 1.44172584], [-0.05001082, 0.46669410], [0.21248658, 0.29298833],
        [0.62349940, 0.02803776],
    ]  # fmt: skip
    energy = muller_brown().flow.energy
    heights = [float(energy(jnp.asarray(s))) for s in _sorted(surface.states)]
    height_exact = [-40.66484351, -146.69951721, -80.76781813, -72.24894011, -108.16672412]
    tilts = {-0.5: 2, 1.0: 3, 2.0: 1}
    box = ([-2.0, -2.0], [2.0, 2.0])
    choices = {p: fixed_points(binary_choice((0.0, p)), starts=64, bounds=box) for p in tilts}
    wells = [s for s, k in zip(choices[1.0].states, choices[1.0].index, strict=True) if k == 0]
    saddles = [s for s, k in zip(choices[1.0].states, choices[1.0].index, strict=True) if k == 1]
    side = [0.614879, 0.189038]
    beside = _sorted([s for s in saddles if abs(s[0]) > 0.1])
    oracle = companion(__file__, "_networks")
    wrong = 0
    for seed in range(plan["networks"]):
        model = oracle.network(seed, 2, 2)
        got, wanted = fixed_points(model, starts=64), oracle.oracle(model.law, plan["networks_grid"])
        wrong += int(_gap(_sorted(got.states), _sorted(wanted)) > 1e-7)
    return [
        Acceptance("toggle: fixed points", _gap(_sorted(found.states), exact), 1e-8),
        Acceptance("toggle: eigenvalues", _gap(values, [[-1.2, -0.8], [-2.6, 0.6], [-1.2, -0.8]]), 1e-8),
        Acceptance("GATA1-PU.1: fixed points", _gap(_sorted(gata.states), _sorted(gata_exact)), 1e-9),
        Acceptance("GATA1-PU.1: eigenvalues of the progenitor", _gap(rates[2], [-1, -0.55709343]), 1e-8),
        Acceptance("GATA1-PU.1: eigenvalues of the saddle", _gap(rates[1], [-1, 1.07384685]), 1e-8),
        Acceptance("Muller-Brown: minima and saddles", _gap(_sorted(surface.states), _sorted(surface_exact)), 1e-8),
        Acceptance("Muller-Brown: energies", _gap(heights, height_exact), 1e-8),
        Acceptance(
            "binary choice: wells at p2 = -0.5, 1, 2",
            sum(choices[p].index.count(0) != n for p, n in tilts.items()),
            0,
        ),
        Acceptance(
            "binary choice: minima at p2 = 1",
            _gap(_sorted(wells), [[-1.243085, 0.772630], [0, -0.605830], [1.243085, 0.772630]]),
            1e-6,
        ),
        Acceptance("binary choice: saddles at p2 = 1", _gap(beside, [[-side[0], side[1]], side]), 1e-6),
        Acceptance("random networks of two genes that differ from the grid's fixed points", wrong, 0),
    ]


def _branches(plan: dict[str, Any]) -> list[Acceptance]:
    well = double_well()
    folds = continuation(well, [-1.0], dose(well, "drive(x)=1"), 0.0, (-1.0, 1.0)).of_kind("fold")
    rows = [Acceptance("double well: folds", _gap([p.value for p in folds], [FOLD, -FOLD]), 1e-7)]
    for hill, where in ((2.0, 2.0), (3.0, 1.1905507890), (4.0, 1.0131142475)):
        branch = continuation(ring(1.0, hill, ("u", "v")), [0.7] * 2, STRENGTH, 1.0, (0.5, 5.0))
        found = [p.value for p in branch.of_kind("branch point")]
        rows.append(Acceptance(f"toggle: pitchfork, n = {hill:g}", _gap(found, [where]), 1e-7))
    first, second = parameter("law/strength", 0), parameter("law/strength", 1)
    for a1, edges in ((10.0, (5.38301245, 33.05675177)), (5.0, (3.67901386, 8.71048988))):
        start = (a1 + np.sqrt(a1**2 - 4)) / 2
        branch = continuation(toggle([a1, a1]), [start, 1 / start], second, a1, (0.1, 50.0))
        found = sorted(p.value for p in branch.of_kind("fold"))
        rows.append(Acceptance(f"toggle: bistable range, a1 = {a1:g}", _gap(found, edges), 1e-7))
    curve = fold_curve(branch, branch.of_kind("fold")[0], first, 5.0, ((0.1, 50.0), (0.1, 50.0)))
    rows.append(Acceptance("toggle: cusp", _gap([c.values for c in curve.cusps], [[2, 2]]), 1e-7))
    for hill, where in ((3.0, [3.7797631497]), (4.0, [2.0]), (2.0, [])):
        hopf = continuation(ring(1.0, hill), [0.7] * 3, STRENGTH, 1.0, (0.5, 20.0)).of_kind("hopf")
        gap = _gap([p.value for p in hopf], where) if where else float(len(hopf))
        rows.append(Acceptance(f"repressilator: Hopf point, n = {hill:g}", gap, 1e-7))
        if where:
            pace = _gap([p.frequency for p in hopf], [np.sqrt(3)])
            rows.append(Acceptance(f"repressilator: frequency there, n = {hill:g}", pace, 1e-7))
    model = gata1_pu1()
    branch = continuation(model, [1.0, 1.0], parameter("law/activation"), 1.0, (0.1, 2.0))
    rows.append(
        Acceptance(
            "GATA1-PU.1: the progenitor appears",
            _gap([p.value for p in branch.of_kind("branch point")], [0.7744750294]),
            1e-7,
        )
    )
    low = [0.0039216026, 1.9960783974]
    pushed = continuation(model, low, dose(model, "drive(GATA1)=1"), 0.0, (0.0, 1.0)).of_kind("fold")
    rows.append(Acceptance("GATA1-PU.1: the push that ends a fate", abs(pushed[0].value - 0.187367), 5e-7))
    return rows


def _cycles(plan: dict[str, Any]) -> list[Acceptance]:
    found = find_attractors(ring(), starts=8, settle=30.0)
    cycle = found.cycles[0] if found.cycles else None
    rows = [
        Acceptance("repressilator: starts that do not end on the cycle", int((found.circles != 0).sum()), 0),
        Acceptance("repressilator: period", abs(cycle.period - 4.95825812) if cycle else np.inf, 1e-6),
        # By scipy's DOP853 at rtol 1e-13 with events at the extremes.
        Acceptance(
            "repressilator: extremes of the cycle",
            _gap([cycle.low.min(), cycle.high.max()], [0.65152678, 5.49417971]) if cycle else np.inf,
            1e-6,
        ),
        Acceptance("repressilator: largest Floquet multiplier", float(np.abs(cycle.multipliers).max()), 1.0),
    ]
    states = {
        5.0: ([1.764, 60.468, 6.285, 1.514, 56.831, 7.779], 8.689331),
        1.0: ([0.337, 65.558, 17.036, 0.895, 32.128, 49.634], 16.095565),
    }
    for ratio, (state, period) in states.items():
        orbit = shoot(six_variable_repressilator(ratio=ratio), state, period * 1.01)
        rows.append(
            Acceptance(f"six-variable repressilator: period, beta = {ratio:g}", abs(orbit.period - period), 1e-6)
        )
    return rows


def _passages(plan: dict[str, Any]) -> list[Acceptance]:
    well, rows = double_well(), []
    for noise, top, across, kramers in (
        (0.05, 361.903760, 729.670692, 659.382292),
        (0.1, 30.821302, 66.268626, 54.125395),
    ):
        found = line(well, additive(noise, 1), (-3.0, 3.0))
        times = (found.exit_time(-1.0, 0.0) / top, found.exit_time(-1.0, 1.0) / across)
        times = (*times, found.kramers(-1.0, 0.0).time / kramers)
        for what, ratio in zip(("time to the top", "time across", "Kramers' time"), times, strict=True):
            rows.append(Acceptance(f"double well, D = {noise}: {what}, relative", abs(ratio - 1), 1e-6))
    rows += [
        Acceptance("double well: committor at -0.5", abs(found.committor(-0.5, -1, 1) - 0.09010479), 1e-6),
        Acceptance("double well: committor at 0.25", abs(found.committor(0.25, -1, 1) - 0.75939020), 1e-6),
        Acceptance("double well: <x^2>", abs(found.mean(2) - 0.8713629080), 1e-6),
    ]
    grid = fokker_planck(well, additive(0.1, 1), ([-2.5], [2.5]), plan["grid"])
    slow = grid.eigenvalues(3).real
    q = grid.committor(lambda x: x[:, 0] < -1, lambda x: x[:, 0] > 1)
    at = np.interp([-0.5, 0.25], grid.centres[0], q)
    rate = grid.rate(lambda x: x[:, 0] < -1, lambda x: x[:, 0] > 1)
    doses = {0.5: 4.9713143585, 0.75: 2.1052938654, 1.0: 1.3643419919, 2.0: 0.5739092676, 5.0: 0.2106524568}
    pushed = critical_duration(
        well, [-1.0], "drive(x)=1", list(doses), [[-1.0], [1.0]], longest=8.0, settle=40.0, tolerance=1e-7, method=SHARP
    )
    return [
        *rows,
        Acceptance("double well, grid: lambda_1, relative", abs(slow[1] / -0.0335453271 - 1), 1e-3),
        Acceptance("double well, grid: lambda_2, relative", abs(slow[2] / -0.927371 - 1), 1e-3),
        Acceptance("double well, grid: committors", _gap(at, [0.09010479, 0.75939020]), 1e-3),
        Acceptance("double well, grid: rate across against 1 / time, relative", abs(rate * 66.268626 - 1), 1e-2),
        Acceptance("double well: critical durations", _gap(pushed.duration, list(doses.values())), 1e-6),
    ]


def _laws(plan: dict[str, Any]) -> list[Acceptance]:
    drift, noise = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    linear = ornstein_uhlenbeck(drift, noise)
    mean, spread = linear.moments(np.array([1.0, -1.0]), 0.7)
    model = drift_field(Linear(jnp.asarray(drift)), ("x", "y"), [0.0, 0.0])
    plane = fokker_planck(model, additive(noise, 2), ([-3.5, -2.4], [3.5, 2.4]), plan["plane"])
    law = birth_death_law(schlogl(), 1500)
    peaks, dips = law.modes()
    moments = np.array(law.moments()) / [454.86134790, 39951.546743]
    return [
        Acceptance(
            "linear: stationary covariance",
            _gap(linear.covariance, [[0.4428571429, 0.0285714286], [0.0285714286, 0.1857142857]]),
            1e-9,
        ),
        Acceptance("linear: rotation Q", _gap(linear.rotation, [[0, -0.4], [0.4, 0]]), 1e-9),
        Acceptance("linear: entropy production", abs(linear.entropy_production - 3.2), 1e-9),
        Acceptance("linear: mean after 0.7", _gap(mean, [0.7916433106, 0.0755671826]), 1e-9),
        Acceptance(
            "linear: covariance after 0.7",
            _gap(spread, [[0.3668099237, 0.013980973], [0.013980973, 0.150580704]]),
            1e-9,
        ),
        Acceptance("linear, grid: entropy production, relative", abs(plane.entropy_production() / 3.2 - 1), 1e-2),
        Acceptance("Schlogl: modes and antimode", _gap([*peaks, *dips], [82, 563, 256]), 0),
        Acceptance("Schlogl: P(n <= 256)", abs(law.p[:257].sum() - 0.2202606320), 1e-9),
        Acceptance("Schlogl: mean and variance, relative", _gap(moments, [1, 1]), 1e-9),
        Acceptance("Schlogl: time 82 to 563, relative", abs(law.exit_time(82, 563) / 50307.86145 - 1), 1e-9),
        Acceptance("Schlogl: time 563 to 82, relative", abs(law.exit_time(563, 82) / 178100.49064 - 1), 1e-9),
    ]


def _paths(plan: dict[str, Any]) -> list[Acceptance]:
    noise, points = additive(0.5, 2), plan["path_points"]
    low, pass_ = [0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550]
    up = minimum_action(gata1_pu1(), noise, low, pass_, points=points)
    mirror = minimum_action(gata1_pu1(), noise, low[::-1], pass_[::-1], points=points)
    back = minimum_action(gata1_pu1(), noise, [1.0, 1.0], pass_, points=points)
    skew = minimum_action(maier_stein(), noise, [-1.0, 0.0], [0.0, 0.0], points=points)
    sides = [p.points for p in skew.paths[:2]]
    drift, spread = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    model = drift_field(Linear(jnp.asarray(drift)), ("x", "y"), [0.0, 0.0])
    linear = minimum_action(model, additive(spread, 2), [0.0, 0.0], [0.6, 0.3], points=points)
    gauss = float(ornstein_uhlenbeck(drift, spread).potential([0.6, 0.3]).values)
    string = energy_path(muller_brown(), [-0.55, 1.45], [0.62, 0.03])
    return [
        Acceptance("GATA1-PU.1: the straight path's action", abs(up.straight - 0.2201), 5e-5),
        Acceptance("GATA1-PU.1: straight over least action", up.straight / up.action, 1.9, "higher"),
        Acceptance("progenitor's way out: straight over least action", back.straight / back.action, 1.5, "higher"),
        Acceptance("GATA1-PU.1: mirror barriers differ, relative", abs(mirror.action / up.action - 1), 1e-6),
        Acceptance("Maier-Stein: paths found (two mirror images and the axis)", abs(len(skew.paths) - 3), 0),
        Acceptance("Maier-Stein: mirror paths differ", _gap(sides[0] * [1, -1], sides[1]), 1e-5),
        Acceptance("Maier-Stein: least action over the axis's", skew.action / 0.5, 0.7),
        Acceptance("linear: action against its Gaussian law, relative", abs(linear.action / gauss - 1), 1e-4),
        Acceptance(
            "Muller-Brown: passes of the string",
            _gap(string.saddles, [[-0.82200156, 0.62431280], [0.21248658, 0.29298833]]),
            1e-8,
        ),
    ]  # fmt: skip


class _Parabola(eqx.Module):
    """`x^2 + 0.1`, which has no fixed point."""

    offset: Array

    def __call__(self, state: Array) -> Array:
        return state**2 + self.offset


def _rare(plan: dict[str, Any]) -> list[Acceptance]:
    well, noise = double_well(), additive(plan["rare_noise"], 1)
    exact = 1.0 / line(well, noise, (-2.5, 2.5)).exit_time(-1.0, 0.5)
    along = Coordinate(jnp.array([1.0]))
    edges, rounds, walkers = np.linspace(-1.0, 0.5, 31), plan["rare_rounds"], plan["rare_walkers"]
    found = weighted_ensemble(well, noise, [-1.0], along, edges, dt=0.01, rounds=rounds, walkers=walkers)
    half = 0.5 * (found.high - found.low)
    networks, missed = companion(__file__, "_networks"), 0
    for seed in range(2, 2 + plan["large_networks"]):
        model = networks.network(seed, 20, 3)
        few = fixed_points(model, starts=64, seed=1).states
        for state in fixed_points(model, starts=6400, seed=2).states:
            missed += int(min(np.abs(state - other).max() for other in few) > 1e-6)
    return [
        Acceptance("double well: exact rate of the rare event, per minute", exact, 2e-8),
        Acceptance("double well: weighted ensemble's gap over its half interval", abs(found.rate - exact) / half, 1.0),
        Acceptance("double well: weighted ensemble's half interval, relative", half / found.rate, 0.6),
        Acceptance("networks of 20 genes: fixed points that only 100 times more starts find", missed, 0),
    ]  # fmt: skip


def _denials(plan: dict[str, Any]) -> list[Acceptance]:
    ghost = fixed_points(drift_field(_Parabola(jnp.asarray(0.1)), ("x",), [-1.0]), starts=16)
    tilted = fixed_points(double_well(), "drive(x)=0.39", starts=16)
    weak = fixed_points(ring(1.9, 2.0, ("u", "v")), starts=32)
    broken = drift_field(_Parabola(jnp.asarray(np.nan)), ("x",), [-1.0])
    around = find_attractors(ring(), starts=8, settle=30.0)
    mixed = Potential("energy", np.zeros(3), ""), Potential("quasi", np.zeros(3), "")
    return [
        Acceptance("x' = x^2 + 0.1: fixed points", len(ghost.states), 0),
        Acceptance("double well, h = 0.39: roots beside one", abs(len(tilted.states) - 1), 0),
        Acceptance("toggle, a = 1.9: attractors beside one", abs(weak.index.count(0) - 1) + len(weak.states) - 1, 0),
        Acceptance("NaN parameters that are accepted", int(not _refuses(lambda: system_of(broken))), 0),
        Acceptance("repressilator: starts not called a cycle", sum(m != "cycle" for m in around.motion), 0),
        Acceptance("kinds of potentials that are mixed", int(not _refuses(lambda: mixed[0].minus(mixed[1]))), 0),
    ]


def _refuses(call: Any) -> bool:
    try:
        call()
    except PinnsimError:
        return True
    return False


PARTS = {
    "points": _points,
    "branches": _branches,
    "cycles": _cycles,
    "passages": _passages,
    "laws": _laws,
    "paths": _paths,
    "rare": _rare,
    "denials": _denials,
}


if __name__ == "__main__":
    raise SystemExit(main(__file__))
