"""Do basins, their edges and conserved totals agree with closed forms, and are no fixed points missed?

Systems whose basins are known exactly (simulated: there are no measurements here), random networks of two genes against
a search that proves itself complete (interval Newton), and random networks of 20 genes against searches that are 100
times denser.
"""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pinnsim import shelf
from pinnsim.dynamics.motifs import toggle
from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.landscape import (
    Attractors,
    assign,
    basin_volumes,
    distance_along,
    distance_to_edge,
    find_attractors,
    fixed_points,
    separatrix,
)

SMOKE: dict[str, Any] = {
    "parts": ["small"],
    "points": 64,
    "networks": 2,
    "large_networks": 0,
    "edge_states": 2,
    "picture_cells": 0,
}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every part, its rows, and a picture."""
    rows: list[Acceptance] = []
    metrics: dict[str, Any] = {}
    for name in plan["parts"]:
        if progress:
            print(name, flush=True)
        found, numbers = PARTS[name](plan, progress)
        rows += found
        metrics |= numbers
    metrics |= {"rows": len(rows), "failing rows": sum(not row.holds for row in rows)}
    if plan["picture_cells"]:
        companion(__file__, "_basins_picture").picture(plan["picture_cells"], out / "basins.png")
    return Findings(metrics, {}, tuple(rows))


def _gap(found: Any, wanted: Any) -> float:
    """Largest difference; infinite where the shapes differ."""
    a, b = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf


def _nearest(found: Attractors, state: Any) -> int:
    """Which attractor is nearest to a state."""
    return int(np.abs(found.states[found.stable] - np.asarray(state)).max(axis=1).argmin())


def _systems() -> Any:
    return companion(__file__, "_edges")


def _volumes(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    systems, points = _systems(), plan["points"]
    rows, shares = [], {}

    def share(name: str, model: Any, found: Attractors, state: Any, exact: float, **options: Any) -> None:
        volumes = basin_volumes(model, found, points=points, **options)
        k = _nearest(found, state)
        shares[name] = {"share": volumes.share[k], "standard error": volumes.error[k], "exact": exact}
        gap = abs(volumes.share[k] - exact)
        rows.append(Acceptance(f"{name}: share, standard errors from the exact one", gap / volumes.error[k], 3.0))
        rows.append(Acceptance(f"{name}: states that settle nowhere", volumes.unsettled + volumes.failed, 0))

    pair, bent = toggle(10.0), systems.bent_well()
    valleys = find_attractors(pair, starts=16)
    share("symmetric toggle", pair, valleys, valleys.states[0], 0.5)
    box = ([-2.0, -1.0], [2.0, 1.0])
    found = find_attractors(bent, starts=16, bounds=box)
    # The area right of x = y^2 in the box.
    share("bent well", bent, found, [1.0, 0.0], (2.0 - 1.0 / 3.0) / 4.0, bounds=box)
    return rows, {"shares": shares}


def _circles(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    model = _systems().rings()
    square = ([-1.5, -1.5], [1.5, 1.5])
    found = find_attractors(model, starts=16, bounds=square, settle=20.0)
    volumes = basin_volumes(model, found, points=plan["points"], bounds=square)
    exact = np.pi * 0.25 / 9.0
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)[:, None]
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    sides = assign(model, found, np.concatenate([(0.5 - 1e-6) * circle, (0.5 + 1e-6) * circle])).verdicts()
    states = np.random.default_rng(0).uniform(-0.3, 0.3, (plan["edge_states"], 2))
    edge = distance_to_edge(model, found, states, rays=8, reach=1.0)
    gap = edge.distance - (0.5 - np.linalg.norm(states, axis=1)) / np.sqrt(2)
    return [
        Acceptance(
            "valley inside an unstable cycle: share, standard errors from the exact one",
            abs(volumes.share[0] - exact) / volumes.error[0],
            3.0,
        ),
        Acceptance(
            "valley inside an unstable cycle: states 1e-6 beside it that are put on the wrong side",
            sum(a != b for a, b in zip(sides, ["A1"] * 64 + ["C1"] * 64, strict=True)),
            0,
        ),
        Acceptance("valley inside an unstable cycle: distance to the edge", float(np.abs(gap).max()), 5e-6),
    ], {"share inside the unstable cycle": {"share": volumes.share[0], "exact": exact}}


def _separatrices(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    systems = _systems()
    pair, bent, amounts, space, wheel, lineage = (
        toggle(10.0),
        systems.bent_well(),
        systems.bent_amounts(),
        systems.bent_space(),
        systems.wheel(),
        gata1_pu1(),
    )
    diagonal = separatrix(pair, find_attractors(pair, starts=16)).curve
    box = ([-1.0, -2.0], [2.0, 2.0])
    parabola = separatrix(bent, find_attractors(bent, starts=16, bounds=box), bounds=box).curve
    inner = find_attractors(amounts, starts=16, bounds=([0.2, 0.2], [4.0, 4.0]))
    logs = np.log(separatrix(amounts, inner, bounds=([1e-2, 1e-2], [10.0, 10.0])).curve)
    three = find_attractors(space, starts=16, bounds=([-1.5] * 3, [1.5] * 3))
    surface = separatrix(space, three, points=64, reach=0.4)
    x, y, w = surface.points.T
    rim = find_attractors(wheel, starts=16, bounds=([-2.5, -2.5], [2.5, 2.5]))
    saddle = rim.names[int(np.abs(rim.states - [2.0, 0.0]).max(axis=1).argmin())]
    arms = separatrix(wheel, rim, saddle, bounds=([-3.0, -3.0], [3.0, 3.0])).arms
    periods = [arm.period for arm in arms if arm.end == "cycle"]
    fates = find_attractors(lineage, starts=16)
    passes = [n for n, k in zip(fates.names, fates.index, strict=True) if k == 1]
    walls = ([1e-3, 1e-3], [5.0, 5.0])
    edges = [separatrix(lineage, fates, name, bounds=walls) for name in passes]
    curves = [np.log(edge.curve[(edge.curve > 0).all(axis=1)]) for edge in edges]
    wrong = count = 0
    for edge in edges:
        # A little to either side of the curve, across it in the logarithms, away from its ends.
        curve = np.log(edge.curve[np.abs(np.log(edge.curve / edge.state)).max(axis=1) < 2.0])
        along = np.gradient(curve, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
        across = across * np.sign(across @ edge.normal)[:, None]
        keep = np.abs(across @ edge.normal) > 0.2
        for sign, name in ((-1.0, edge.between[0]), (1.0, edge.between[1])):
            verdicts = assign(lineage, fates, np.exp(curve + sign * 1e-3 * across)[keep]).verdicts()
            wrong += sum(v != name for v in verdicts)
            count += len(verdicts)
    return [
        Acceptance("symmetric toggle: separatrix from the diagonal", _gap(diagonal[:, 0], diagonal[:, 1]), 1e-8),
        Acceptance("bent well: separatrix from the parabola", _gap(parabola[:, 0], parabola[:, 1] ** 2), 1e-8),
        Acceptance("bent well of amounts: separatrix, logarithms", _gap(logs[:, 0], logs[:, 1] ** 2), 1e-8),
        Acceptance("bent space: points of the edge from the surface", _gap(x, y**2 + y * w), 1e-7),
        Acceptance("bent space: lines that cross no edge", surface.lost, 0),
        Acceptance("bent space: normal of the edge at the saddle", _gap(np.abs(surface.normal), [1, 0, 0]), 1e-8),
        Acceptance(
            "wheel: period of the unstable cycle where the separatrix ends, relative",
            _gap(np.array(periods) / systems.wheel_period(), [1.0]),
            1e-8,
        ),
        Acceptance("GATA1-PU.1: separatrices whose mirror image is no other", _mirrors(curves), 1e-6),
        Acceptance("GATA1-PU.1: states beside a separatrix that flow to the wrong valley", wrong, 0),
    ], {"GATA1-PU.1: states tried beside the separatrices": count}


def _mirrors(curves: list[np.ndarray]) -> float:
    """Largest distance of the second curve's points from the first one's mirror image, both read along their sum."""
    first, second = curves[0][:, ::-1], curves[1]
    size = []
    for curve, other in ((first, second), (second, first)):
        # Distance of a point from a polyline.
        a, along = other[:-1], np.diff(other, axis=0)
        off = curve[:, None] - a[None]
        share = np.clip((off * along[None]).sum(-1) / np.maximum((along**2).sum(-1), 1e-300)[None], 0, 1)
        size.append(np.linalg.norm(off - share[..., None] * along[None], axis=-1).min(axis=1).max())
    return float(max(size))


def _edges(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    systems, count = _systems(), plan["edge_states"]
    rng = np.random.default_rng(1)
    bent = systems.bent_well()
    found = find_attractors(bent, starts=16, bounds=([-2.0, -1.5], [2.0, 1.5]))
    states = np.stack([rng.uniform(-1.5, 1.5, count), rng.uniform(-1.0, 1.0, count)], axis=1)
    exact = np.array([systems.nearest_on_parabola(x, y, 1.0) for x, y in states]) / np.sqrt(2)
    flat = _gap(distance_to_edge(bent, found, states, reach=2.0).distance, exact)
    pair = toggle(10.0)
    valleys = find_attractors(pair, starts=16)
    amounts = 10.0 ** rng.uniform(-1.0, 1.0, (count, 2))
    z = np.log(amounts + 1e-4)
    logs = _gap(distance_to_edge(pair, valleys, amounts).distance, np.abs(z[:, 0] - z[:, 1]) / 2.0)
    along = distance_along(pair, valleys, amounts, "u")
    # Alone, u leaves where it is equal to v.
    crossing = np.where(np.isfinite(along.up), along.up, along.down) / amounts[:, 1]
    # Three coordinates without a bend: the distance from the plane x = 0.
    space = systems.bent_space(0.0)
    three = find_attractors(space, starts=16, bounds=([-1.5] * 3, [1.5] * 3))
    cube = rng.uniform(-1.0, 1.0, (count, 3))
    plane = _gap(distance_to_edge(space, three, cube, reach=2.0).distance, np.abs(cube[:, 0]) / np.sqrt(3.0))
    return [
        Acceptance("bent well: distance to the edge", flat, 1e-5),
        Acceptance("symmetric toggle: distance to the edge, log abundance", logs, 1e-5),
        Acceptance("symmetric toggle: amount of u alone that leaves, relative", _gap(crossing, np.ones(count)), 1e-6),
        Acceptance("three coordinates: distance to the edge", plane, 1e-5),
    ], {}  # fmt: skip


def _totals(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    telegraph = shelf.load_system("telegraph").system
    drift, place = 0.0, 0.0
    for promoters in (1.0, 5.0):
        found = find_attractors(telegraph, starts=16, totals=[promoters, 0, 0, 0])
        on = promoters / 3.0
        ends = np.concatenate([found.ends, found.states])
        drift = max(drift, float(np.abs(ends[:, :2].sum(axis=1) - promoters).max()) / promoters)
        place = max(place, _gap(found.states, [[promoters - on, on, 10 * on, 500 * on]]))
    model = _systems().switch()
    box = ([1e-2, 1e-2], [4.0, 4.0])
    switch = find_attractors(model, starts=16, totals=[3.0, 0.0], bounds=box)
    held = np.abs(np.concatenate([switch.ends, switch.states]).sum(axis=1) - 3.0).max()
    points = _gap(np.sort(switch.states[:, 1]), [0.0, 1.0, 2.0])
    begin = np.array([[0.6, 2.4]])
    edge = distance_to_edge(model, switch, begin, rays=8)
    floor = 1e-4 * np.array([2.0, 1.0])
    exact = np.sqrt(np.mean((np.log(begin[0] + floor) - np.log(np.array([2.0, 1.0]) + floor)) ** 2))
    return [
        Acceptance("telegraph of the shelf: totals held by all starts and points, relative", drift, 1e-10),
        Acceptance("telegraph of the shelf: where it rests", place, 1e-8),
        Acceptance("switch: totals held by all starts and points", float(held), 1e-10),
        Acceptance("switch: fixed points", points, 1e-8),
        Acceptance("switch: distance to the edge along its total", abs(edge.distance[0] - exact), 1e-5),
    ], {}


def _small(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    networks, proofs = companion(__file__, "_networks"), companion(__file__, "_interval")
    wrong = undecided = 0
    place, euler, counts = 0.0, 0, []
    for seed in tqdm(range(plan["networks"]), desc="networks of two genes", disable=not progress):
        model = networks.network(seed, 2, 2)
        wanted, left = proofs.interval_roots(*(np.asarray(v) for v in (model.law.c, model.law.b, model.law.w)))
        found = fixed_points(model, starts=plan["starts"])
        states = np.array(sorted(map(tuple, found.states))).reshape(-1, 2)
        undecided += left
        counts.append(len(wanted))
        if len(states) != len(wanted):
            wrong += 1
        else:
            place = max(place, _gap(states, wanted))
        euler += int(sum((-1) ** k for k in found.index) != 1)
    return [
        Acceptance("two genes: networks whose number of fixed points is not the proven one", wrong, 0),
        Acceptance("two genes: fixed points from the proven ones", place, 1e-8),
        Acceptance("two genes: boxes that the proof leaves undecided", undecided, 0),
        Acceptance("two genes: networks whose indices do not sum to 1", euler, 0),
    ], {"two genes: networks by number of fixed points": {str(n): counts.count(n) for n in sorted(set(counts))}}


def _large(plan: dict[str, Any], progress: bool) -> tuple[list[Acceptance], dict[str, Any]]:
    networks, proofs = companion(__file__, "_networks"), companion(__file__, "_interval")
    missed = alone = points = 0
    dense = plan["starts"] * plan["denser"]
    for seed in tqdm(range(plan["large_networks"]), desc="networks of 20 genes", disable=not progress):
        model = networks.network(1000 + seed, 20, 3)
        few = np.array(fixed_points(model, starts=plan["starts"], seed=1).states).reshape(-1, 20)
        points += len(few)

        def unknown(states: Any, few: np.ndarray = few) -> int:
            return sum(int(np.abs(few - state).max(axis=1).min(initial=np.inf) > 1e-5) for state in states)

        missed += unknown(fixed_points(model, starts=dense, seed=2).states)
        law = [np.asarray(v) for v in (model.law.c, model.law.b, model.law.w)]
        alone += unknown(proofs.many_newton(*law, dense, seed))
    return [
        Acceptance(f"20 genes: fixed points that only {plan['denser']} times more starts find", missed, 0),
        Acceptance(f"20 genes: fixed points that only Newton's method from {dense} starts finds", alone, 0),
    ], {"20 genes: fixed points found": points}


PARTS = {
    "volumes": _volumes,
    "circles": _circles,
    "separatrices": _separatrices,
    "edges": _edges,
    "totals": _totals,
    "small": _small,
    "large": _large,
}


if __name__ == "__main__":
    raise SystemExit(main(__file__))
