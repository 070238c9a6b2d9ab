"""Are the attractors of GATA1-PU.1, and which barrier is the higher one, recovered from snapshots alone?

Simulated: two genes that further themselves and repress each other (Huang et al.), as populations of cells at five
times, other cells every time, noise of one strength in either coordinate (which may then fall below 0, where nothing is
made). The flow has no potential; what is learned is an energy and a swirl, of the degree that held-out cells choose.
Truths: fixed points (0.0039216, 1.9960784) and its mirror, (1, 1), saddles (0.4884248, 1.5115752) and its mirror;
barriers as minimum actions of the true flow.

Source: S. Huang et al., Dev. Biol. 305:695 (2007). Convention dX = f dt + sqrt(2 D) dW, barriers in units of the noise.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.data import Snapshots
from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.energies import Boxed, box, chebyshev, confined, raised
from pinnsim.dynamics.gradient import GradientField, LearnedSwirl, gradient_field
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.fit import LandscapeFit, fit_landscape, landscape_misfit
from pinnsim.landscape import Attractors, additive, find_attractors, fokker_planck, minimum_action
from pinnsim.plot import save
from pinnsim.plot.style import GREY, RED, YELLOW, new_panels, styled

SMOKE: dict[str, Any] = {
    "cells": 60,
    "held": 40,
    "dt": 0.02,
    "points": 9,
    "law": 24,
    "degrees": [2],
    "swirl_degree": 1,
    "grid": 12,
    "fit": {"cells": 30, "steps": 2, "waves": 2, "warm": 0, "most": 1},
}
NAMES = ("GATA1", "SPI1")
FATE, PROGENITOR, PASS = np.array([0.0039216026, 1.9960783974]), np.ones(2), np.array([0.4884248450, 1.5115751550])
NOTES = (
    "Simulated. Barriers are told in two ways, each beside the truth of its own kind: least actions of the whole "
    "flow, and heights of -ln p (at this noise both differ by about 1, the same for either valley).",
    "The true actions are 3.1 and 2.5 in units of the noise: below about 2 a valley is hardly one.",
    "History of the plan. A first run (noise 0.04, cells from around the progenitor) missed distances and barriers. "
    "Attractors beyond the box of the cells, where a polynomial is only extrapolated, are told but not counted: this "
    "was decided after a second run had found three of them. A third (1000 cells at five times up to 2.2 min, degree "
    "6, no prior on the swirl to speak of) had both barriers in the wrong order in both lineages, as heights (2.4 and "
    "5.6, 1.4 and 5.5) and as actions of its whole flow (2.6 and 5.6, 1.6 and 4.8) alike: not the split into energy "
    "and swirl was wrong, the flow was, by 0.26 (root mean square) among cells that hardly move. Its own standard "
    "errors of the differences were 3.1 and 1.8, of a true difference of 0.7: the data could not tell. After that, "
    "and before this run, the swirl was given a prior in units of D, cells are followed to 5 min (until populations "
    "rest within valleys, whose density at the passes tells barriers directly), there are more of them, and the "
    "degree is chosen by held-out cells. A trial of this design (4000 cells, degree 8) had been seen.",
    "A fourth run, of that plan (stiffness 10, swirl of degree 2, every degree begun anew), chose degree 6 (held-out "
    "misfit 1.6; degree 8 had stuck at 150): attractors within 0.02, heights 2.3 and 6.3, 1.5 and 7.2. After it, and "
    "before this one, the stiffness was set by the decay, the swirl raised to degree 3, and degree 8 begun where "
    "degree 6 ended. Degree 8 still runs away from some held-out cells, so what is missing is a basis that is rich "
    "where cells are and tame beyond; with degree 6 the orders are wrong by 1.8 and 3.2 standard errors.",
)
VALLEYS = np.stack([FATE, PROGENITOR, FATE[::-1]])


class Lineage(eqx.Module):
    """`x' = x^4 / (S^4 + x^4) + S^4 / (S^4 + y^4) - x` and its mirror. **Arguments:** `threshold`: S."""

    threshold: Array

    def __call__(self, state: Array) -> Array:
        own = (jnp.maximum(state, 0.0) / self.threshold) ** 4
        return own / (1.0 + own) + 1.0 / (1.0 + own[::-1]) - state


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The fits, the one that held-out cells choose, its valleys and barriers, and a picture."""
    seed, noise = plan["seeds"][0], plan["noise"]
    rng = np.random.default_rng(seed)
    truth = drift_field(Lineage(jnp.asarray(0.5)), NAMES, [1.0, 1.0])
    walks = companion(__file__, "_walks")

    def culture(count: int, its_seed: int) -> Snapshots:
        begin = rng.uniform(0.0, plan["highest"], (len(plan["times"]), count, 2))
        return walks.snapshots_of({"all": (truth, "")}, begin, plan["times"], noise, plan["dt"], its_seed)

    snapshots, held = culture(plan["cells"], seed), culture(plan["held"], seed + 1)
    cells = snapshots.values[snapshots.there][:, 0]
    low, high = cells.min(axis=0), cells.max(axis=0)
    place = box(low - 0.05 * (high - low), high + 0.05 * (high - low))
    fits, told = {}, {}
    start = gradient_field(
        confined(chebyshev(2, plan["degrees"][0]), place, plan["stiffness"]), NAMES, [1.0, 1.0],
        swirl=LearnedSwirl(Boxed(chebyshev(2, plan["swirl_degree"], constant=True), place)), diffusion=1.3 * noise,
    )  # fmt: skip
    options = dict(plan["fit"])
    for degree in plan["degrees"]:
        start = eqx.tree_at(inner_of, start, raised(inner_of(start), degree))
        fits[degree] = fit_landscape(start, snapshots, seed=seed, progress=progress, **options)
        # A richer energy begins as the poorer one that was fitted.
        start, options["warm"] = fits[degree].like, 0
        judged = landscape_misfit(
            fits[degree].field, held, cells=plan["held"], steps=plan["fit"]["steps"], waves=plan["fit"]["waves"],
            seed=seed + 1,
        )  # fmt: skip
        told[degree] = float(judged["misfit"].mean())
    chosen = min(told, key=lambda degree: told[degree])
    fit = fits[chosen]
    field = fit.field
    starts = cells[rng.choice(len(cells), 48, replace=False)]
    found = find_attractors(field, states=starts, starts=0, probes=16, settle=30.0)
    seen = np.all((found.states >= low) & (found.states <= high), axis=1)
    here, beyond = found.states[found.stable & seen], found.states[found.stable & ~seen]
    gap = np.inf
    if len(here):
        gaps = np.linalg.norm(here[:, None] - VALLEYS[None], axis=2)
        gap = max(float(gaps.min(axis=1).max()), float(gaps.min(axis=0).max()))
    true_points = (FATE, PROGENITOR, PASS)
    actions, law = actions_of(truth, true_points, noise, plan["points"]), heights_of_law(truth, plan)
    points = [nearest(found, mirrored) for mirrored in (true_points, tuple(x[::-1] for x in true_points))]
    learned_actions = [actions_of(field, three, float(field.diffusion), plan["points"]) for three in points]
    heights = [heights_of(field, three) for three in points]
    rows = (
        Acceptance("GATA1-PU.1: attractors among the cells, more or fewer than three", abs(len(here) - 3), 0),
        Acceptance("GATA1-PU.1: largest distance of an attractor to the true ones", gap, 0.1),
        Acceptance(
            "GATA1-PU.1: lineages (of 2) whose two barriers come in the wrong order", swapped(heights, law), 0
        ),
        Acceptance(
            "GATA1-PU.1: lineages (of 2) whose two barriers, as actions of the whole learned flow, come in the wrong "
            "order", swapped(learned_actions, actions), 0,
        ),
    )  # fmt: skip
    metrics = {
        "attractors": here.tolist(),
        "attractors beyond the cells": beyond.tolist(),
        "barriers, true, as minimum actions (from a fate, from the progenitor)": actions,
        "barriers, learned, as minimum actions of the whole flow, by lineage": learned_actions,
        "barriers, true, as heights of -ln p (from a fate, from the progenitor)": law,
        "barriers, learned, as heights of V = -ln p, by lineage": heights,
        "standard error of the difference of the two heights, by lineage": errors_of(fit, points),
        "misfit of held-out cells, by degree": {str(degree): value for degree, value in told.items()},
        "degree chosen by it": chosen,
        "noise D, true and learned": [noise, float(field.diffusion)],
        "misfit": fit.misfit["misfit"].tolist(),
        "steps": fit.steps,
        "converged": fit.converged,
    }
    save(picture(field, found, cells, plan), out / "gata_pu_snapshots.png")
    return Findings(metrics, {}, rows, NOTES)


def inner_of(field: Any) -> Any:
    """The polynomial of a field's energy."""
    return field.energy.boxed.inner


def nearest(found: Attractors, wanted: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...] | None:
    """The learned fate, progenitor and pass next to the true ones; `None` where one is missing."""
    three = []
    for what, index in zip(wanted, (0, 0, 1), strict=True):
        far = np.where(found.index == index, np.linalg.norm(found.states - what, axis=1), np.inf)
        if not len(far) or far.min() >= 0.35:
            return None
        three.append(found.states[int(np.argmin(far))])
    return tuple(three)


def actions_of(model: AbstractKinetics, points: tuple[np.ndarray, ...] | None, noise: float, count: int) -> list[float]:
    """Least actions up to the pass from the fate and from the progenitor, of the whole flow."""
    if points is None:
        return [float("nan")] * 2
    *valleys, over = points
    return [float(minimum_action(model, additive(noise, 2), x, over, points=count).action) for x in valleys]


def heights_of(field: GradientField, points: tuple[np.ndarray, ...] | None) -> list[float]:
    """What the pass lies above the fate and above the progenitor in V."""
    if points is None:
        return [float("nan")] * 2
    fate, progenitor, top = np.asarray(_heights(field, jnp.asarray(np.stack(points))))
    return [float(top - fate), float(top - progenitor)]


def heights_of_law(truth: AbstractKinetics, plan: dict[str, Any]) -> list[float]:
    """The same in -ln p of the true stationary law, on a grid."""
    grid = fokker_planck(truth, additive(plan["noise"], 2), ([-1.0, -1.0], [3.0, 3.0]), plan["law"])
    values = grid.potential().values.ravel()
    fate, progenitor, top = (
        values[int(np.argmin(np.linalg.norm(grid.points - x, axis=1)))] for x in (FATE, PROGENITOR, PASS)
    )
    return [float(top - fate), float(top - progenitor)]


def swapped(learned: list[list[float]], true: list[float]) -> int:
    """Lineages whose barriers are missing or come in another order than the true ones."""
    higher = true[0] > true[1]
    return sum(not np.isfinite(a + b) or (a > b) != higher for a, b in learned)


def errors_of(fit: LandscapeFit, points: list[tuple[np.ndarray, ...] | None]) -> list[float]:
    """How sure the fit is of the difference of the two heights, by draws from its covariance at its own points."""
    drawn = fit.draw(60)
    errors = []
    for three in points:
        if three is None:
            errors.append(float("nan"))
            continue
        heights = np.array([_heights(field, jnp.asarray(np.stack(three))) for field in drawn])
        errors.append(float(np.std(heights[:, 1] - heights[:, 0])))
    return errors


@eqx.filter_jit
def _heights(field: GradientField, points: Array) -> Array:
    return jax.vmap(lambda x: field.height(x, jnp.zeros(0)))(points)


@styled
def picture(field: GradientField, found: Attractors, cells: np.ndarray, plan: dict[str, Any]) -> np.ndarray:
    """The learned landscape with its fixed points and the true ones."""
    axes = new_panels(1, 1, (6.0, 4.8))
    ax = axes[0, 0]
    line = np.linspace(-0.6, 2.6, plan["grid"])
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1))
    height = np.asarray(jax.vmap(jax.vmap(lambda p: field.height(p, jnp.zeros(0))))(grid))
    # From the lowest place that has cells: beyond them the polynomial may go anywhere.
    among = np.asarray(_heights(field, jnp.asarray(cells[:: max(len(cells) // 2000, 1)])))
    height = np.clip(height - among.min(), 0.0, 14.0)
    shown = ax.contourf(line, line, height, levels=np.arange(0.0, 14.5, 1.0), cmap="viridis")
    ax.figure.colorbar(shown, ax=ax, label="learned V = -ln p (units of the noise)")
    ax.plot(*cells[:: max(len(cells) // 400, 1)].T, ".", color="white", ms=2, alpha=0.6, label="cells")
    ax.plot(*VALLEYS.T, "o", mfc="none", mec=RED, ms=9, label="true attractors")
    ax.plot(*np.stack([PASS, PASS[::-1]]).T, "s", mfc="none", mec=RED, ms=8, label="true passes")
    for kind, mark in ((0, "o"), (1, "s")):
        ax.plot(*found.states[found.index == kind].T, mark, color=YELLOW, ms=4, label="learned" if kind == 0 else None)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=4, frameon=True, facecolor=GREY, framealpha=1.0)
    ax.set(xlabel="GATA1 (threshold 0.5)", ylabel="PU.1 (SPI1)", xlim=(-0.6, 2.6), ylim=(-0.6, 2.6))
    ax.set_title("GATA1-PU.1 learned from snapshots (simulated)")
    return axes


if __name__ == "__main__":
    raise SystemExit(main(__file__))
