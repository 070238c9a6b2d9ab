"""What do two textbook landscapes look like before, during and after a push, and is every picture true to its numbers?

The Gardner toggle under chemical noise (surfaces before and during a push, and the push as a moving picture) and the
GATA1-PU.1 switch under additive noise (surface with the ways over its passes, heights from above with the flux that
goes round, phase portrait, and the fates of cells of all three valleys when GATA1 is pushed). Where a picture shows a
number, the number is checked: fixed points against their closed form, fates of sampled cells against the Fokker-Planck
equation solved backwards, `q' = W' q`. Everything is simulated.

Sources: T. S. Gardner, C. R. Cantor, J. J. Collins, Nature 403:339 (2000); S. Huang et al., Dev. Biol. 305:695 (2007).
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.interpolate
import scipy.sparse.linalg
from tqdm import tqdm

from pinnsim import plot, shelf
from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import (
    Grid,
    Plane,
    additive,
    chemical,
    fokker_planck,
    in_time,
    minimum_action,
    plane,
    relief_of_grid,
)
from pinnsim.simulate import Diffusion, FromState, simulate

SMOKE: dict[str, Any] = {
    "toggle": {"cells": 20, "frames": 4},
    "gata1": {"cells": 20, "portrait": 25, "path_points": 9, "cell_count": 40, "step": 0.05},
}
_VIEW = (56.0, -132.0)
NAMES = {"SPI1": "PU.1 lineage", "both": "progenitor", "GATA1": "GATA1 lineage"}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All pictures and the numbers behind them."""
    with tqdm(total=3, desc="pictures", unit="part", disable=None if progress else True) as bar:
        toggle, size = _toggle(plan["toggle"], plan["bounds"]["gif_bytes"], out, progress)
        bar.update()
        grid, seen, wrong = _gata1(plan["gata1"], out)
        bar.update()
        fates, worst = _fates(plan["gata1"], plan["seed"], grid, seen, out)
        bar.update()
    rows = (
        Acceptance("fixed points marked in the GATA1-PU.1 pictures, largest error against known digits", wrong, 1e-9),
        Acceptance("attractors marked in the toggle's pictures, error against 5 +- 2 sqrt 6", toggle["error"], 1e-9),
        Acceptance(
            "fates of sampled cells less those of the Fokker-Planck equation, largest, in standard errors",
            worst, plan["bounds"]["standard_errors"],
        ),
        Acceptance("size of the moving picture, bytes", size, plan["bounds"]["gif_bytes"]),
        Acceptance("landscapes of other kinds or noises that could be subtracted", _mixed(grid, toggle["grid"]), 0),
    )  # fmt: skip
    metrics = {
        "toggle: mass of the stationary law at the walls": toggle["at walls"],
        "toggle: entropy production (per h) at rest and during the push": toggle["entropy"],
        "toggle: distinct landscapes of the moving picture": toggle["distinct"],
        "GATA1-PU.1: mass at the walls": grid.at_walls(),
        "GATA1-PU.1: entropy production per lifetime": grid.entropy_production(),
        "GATA1-PU.1: fates": fates,
    }
    notes = ("The walls of the boxes stand at 0 abundance, so some mass lies at them.",)
    return Findings(metrics, {}, rows, notes)


def _toggle(plan: dict[str, Any], most: int, out: Path, progress: bool) -> tuple[dict[str, Any], int]:
    """Surfaces before and during the push, and the push as a moving picture."""
    model, box = shelf.load("toggle_switch").model, ([0.0, 0.0], [plan["highest"]] * 2)
    species = model.table.species
    rest = plane(model, (species[0], species[1]), box, cells=41)
    stable = rest.points.states[rest.points.stable]
    exact = 5 + 2 * np.sqrt(6) * np.array([1.0, -1.0])
    low = stable[np.argmin(stable[:, 0])]
    times = np.linspace(0.0, plan["until"], plan["frames"])
    course = simulate(model, times, plan["push"], initial=FromState(low)).raise_failures()
    states = np.asarray(course.states[0])
    noise = functools.partial(chemical, size=plan["size"])
    moments = in_time(model, noise, box, plan["cells"], plan["push"], times, progress=progress)
    before, during = moments.reliefs()
    pushed = plane(model, (species[0], species[1]), box, plan["push"].split("@")[0], cells=41)
    on = moments.which == 1
    names = ["at rest, and the way after the push", f"during the push, {plan['push'].split('@')[0]}"]
    last = int(np.flatnonzero(on)[-1])
    panels = plot.landscape_panels(
        dict(zip(names, (before, during), strict=True)),
        courses={names[0]: before.place(states[last:], species), names[1]: before.place(states[: last + 1], species)},
        points=dict(zip(names, (rest.points, pushed.points), strict=True)),
        highest=plan["cut"], view=_VIEW, unit="amount", title="The toggle switch before and during a push",
        simulated=True,
    )  # fmt: skip
    plot.save(panels, out / "landscape_pictures_toggle.png", dpi=100)
    path = plot.push_gif(
        out / "landscape_pictures_push.gif", moments, states, species, points=rest.points, fps=plan["fps"],
        highest=plan["cut"], view=_VIEW, unit="amount", title="Pushing the toggle switch over", simulated=True,
        most_bytes=most, progress=progress,
    )  # fmt: skip
    found = {
        "error": max(float(np.abs(np.sort(state)[::-1] - exact).max()) for state in stable),
        "at walls": moments.grids[0].at_walls(),
        "entropy": [grid.entropy_production() for grid in moments.grids],
        "distinct": len(moments.grids),
        "grid": moments.grids[0],
    }
    return found, path.stat().st_size


def _gata1(plan: dict[str, Any], out: Path) -> tuple[Grid, Plane, float]:
    """Surface, heights from above with flux, and phase portrait, with fixed points and ways over the passes."""
    model, noise = gata1_pu1(), additive(plan["noise"], 2)
    box, species = ([0.0, 0.0], [plan["highest"]] * 2), ("GATA1.mrna", "SPI1.mrna")
    seen = plane(model, species, box, cells=plan["portrait"])
    grid = fokker_planck(model, noise, box, plan["cells"])
    relief = relief_of_grid(grid)
    states, kinds = seen.points.states, np.array(seen.points.stability)
    stable, saddles = states[kinds == "stable"], states[kinds == "saddle"]
    truth = np.array([[1, 1], [0.0039216026, 1.9960783974], [1.9960783974, 0.0039216026]])
    passes = np.array([[0.4884248450, 1.5115751550], [1.5115751550, 0.4884248450]])
    wrong = max(_apart(stable, truth), _apart(saddles, passes))
    low = stable[np.argmin(stable[:, 0])]
    over = saddles[np.argmin(np.linalg.norm(saddles - low, axis=1))]
    ways = [
        minimum_action(model, noise, begin, over, points=plan["path_points"]) for begin in (low, np.array([1.0, 1.0]))
    ]
    surface = plot.landscape_3d(
        relief, points=seen.points, paths=ways, highest=7, unit="amount", view=(66.0, -132.0),
        title="GATA1-PU.1: three valleys, and the ways to a pass", simulated=True,
    )  # fmt: skip
    plot.save(surface, out / "landscape_pictures.png", dpi=100)
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12.6, 5.8), layout="constrained")
    plot.landscape_contour(
        relief, points=seen.points, paths=ways, flux=grid.flux(), highest=9, unit="amount",
        title="GATA1-PU.1 from above, with the flux that goes round", simulated=True, ax=axes[0],
    )  # fmt: skip
    plot.plane_portrait(seen, unit="amount", title="GATA1-PU.1: flow and nullclines", simulated=True, ax=axes[1])
    plot.save(figure, out / "landscape_pictures_above.png", dpi=100)
    return grid, seen, wrong


def _fates(
    plan: dict[str, Any], seed: int, grid: Grid, seen: Plane, out: Path
) -> tuple[dict[str, dict[str, float]], float]:
    """Where cells of each valley end with and without the push, sampled, and how far that is from the exact law."""
    model = gata1_pu1()
    stable = seen.points.states[seen.points.stable]
    names = [NAMES["both" if abs(a - b) < 0.1 else "GATA1" if a > b else "SPI1"] for a, b in stable]
    begin, end = (float(t) for t in plan["push"].split("@")[1].split(":"))
    until, strength = plan["until"], plan["push"].split("@")[0]
    tables, worst = {}, 0.0
    pushed = fokker_planck(model, additive(plan["noise"], 2), _box(grid), grid.shape, strength)
    for number, (what, treatment) in enumerate((("without", "none"), ("with the push", plan["push"]))):
        cells = simulate(
            model, [0.0, until], [treatment] * len(stable), initial=[FromState(s) for s in stable],
            method=Diffusion(plan["noise"], dt=plan["step"]), key=jax.random.key(seed + number),
            cells=plan["cell_count"],
        ).raise_failures()  # fmt: skip
        ends = _nearest(np.asarray(cells.states[:, :, -1]), stable)
        spans = [(grid, begin), (pushed if number else grid, end - begin), (grid, until - end)]
        exact = np.array([[_end_in(spans, stable, b, state) for b in range(len(stable))] for state in stable])
        counts = np.array([[(row == b).sum() for b in range(len(stable))] for row in ends])
        total = plan["cell_count"]
        spread = np.sqrt(np.maximum(total * exact * (1 - exact), 1.0))
        worst = max(worst, float(np.abs((counts - total * exact) / spread).max()))
        labels = [name for name in names for _ in range(total)]
        tables[what] = plot.fate_table(labels, [names[k] for k in ends.ravel()], order=list(NAMES.values()))
    _draw(tables, out)
    shares = {
        f"{what}, from {start}": {row.end: row.probability for row in table[table["start"] == start].itertuples()}
        for what, table in tables.items()
        for start in names
    }
    return shares, worst


def _draw(tables: dict[str, Any], out: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12.4, 4.4), layout="constrained", width_ratios=(1.3, 1.0))
    start = NAMES["SPI1"]
    plot.fate_bars(
        {what: table[table["start"] == start] for what, table in tables.items()},
        title=f"Cells of the {start} when GATA1 is pushed", simulated=True, ax=axes[0],
    )  # fmt: skip
    plot.fate_flow(tables["with the push"], title="Cells of all three valleys, pushed", simulated=True, ax=axes[1])
    plot.save(figure, out / "landscape_pictures_fates.png", dpi=100)


def _end_in(spans: list[tuple[Grid, float]], stable: np.ndarray, valley: int, state: np.ndarray) -> float:
    """The exact probability that a cell at `state` is nearest to one attractor at the end: `q' = W' q`, backwards."""
    points = spans[0][0].points
    q = (_nearest(points, stable) == valley).astype(float)
    for grid, time in reversed(spans):
        q = scipy.sparse.linalg.expm_multiply(grid.generator.T.tocsc() * time, q)
    look = scipy.interpolate.RegularGridInterpolator(
        spans[0][0].centres, q.reshape(spans[0][0].shape), bounds_error=False, fill_value=None
    )
    return float(np.clip(look(state)[0], 0.0, 1.0))


def _box(grid: Grid) -> tuple[list[float], list[float]]:
    widths = [c[1] - c[0] for c in grid.centres]
    return (
        [float(c[0] - 0.5 * w) for c, w in zip(grid.centres, widths, strict=True)],
        [float(c[-1] + 0.5 * w) for c, w in zip(grid.centres, widths, strict=True)],
    )


def _nearest(states: np.ndarray, stable: np.ndarray) -> np.ndarray:
    return np.linalg.norm(states[..., None, :] - stable, axis=-1).argmin(axis=-1)


def _apart(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest distance of a known point from the nearest found one; infinite where the numbers differ."""
    if found.shape != truth.shape:
        return float("inf")
    return float(np.linalg.norm(found[None] - truth[:, None], axis=-1).min(axis=1).max())


def _mixed(one: Grid, other: Grid) -> int:
    """How many of two bad differences were not refused."""
    additive_noise, chemical_noise = one.potential(), other.potential()
    kinds = type(additive_noise)("energy", additive_noise.values, additive_noise.noise)
    bad = 0
    for wrong in (chemical_noise, kinds):
        try:
            additive_noise.minus(wrong)
            bad += 1
        except PinnsimError:
            continue
    return bad


if __name__ == "__main__":
    raise SystemExit(main(__file__))
