"""Are ways over hills the same from every side, and exit times right where there is no gradient?

Textbook systems (simulated). Paths are searched from the straight line alone, from one side alone and from all sides;
exit times with Bouchet's and Reygner's prefactor are compared with the exact generator on a grid; a push a little too
short and a little too long must end on different sides.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.textbook import binary_choice, double_well, gata1_pu1, maier_stein
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import (
    MinimumAction,
    additive,
    continuation,
    exit_time,
    fixed_points,
    fokker_planck,
    minimum_action,
    ornstein_uhlenbeck,
    parameter,
    push,
)
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, GREY, INK, PINK, RED, new_panels, styled
from pinnsim.simulate import ODE

SMOKE: dict[str, Any] = {
    "points": 33, "fine_points": 65, "noises": [0.1, 0.05], "cells": 40, "starts": 4
}  # fmt: skip

LOW, PASS = [0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550]
FOLD = 2 / (3 * 3**0.5)
DURATIONS = {0.5: 4.9713143585, 0.75: 2.1052938654, 1.0: 1.3643419919, 2.0: 0.5739092676, 5.0: 0.2106524568}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All rows, and the picture of ways and times."""
    rows, metrics, drawn = [], {}, {}
    for name in plan["parts"]:
        if progress:
            print(name, flush=True)
        found, numbers, shown = PARTS[name](plan)
        rows += found
        metrics.update(numbers)
        drawn.update(shown)
    save(picture(drawn, plan), out / "landscape_ways.png")
    return Findings(metrics, {}, tuple(rows), ("Textbook systems: nothing here is measured.",))


def _bump(start: list[float], end: list[float], height: float, count: int = 65) -> np.ndarray:
    """A path that leaves the straight line to the left (height > 0) or right, as a share of the distance."""
    a, b = np.array(start), np.array(end)
    share = np.linspace(0.0, 1.0, count)[:, None]
    return a + share * (b - a) + height * np.sin(np.pi * share) * np.array([a[1] - b[1], b[0] - a[0]])


def _gap(a: MinimumAction, b: MinimumAction) -> float:
    return float(np.abs(a.paths[0].points - b.paths[0].points).max())


def _ways(plan: dict[str, Any]) -> tuple[list[Acceptance], dict, dict]:
    noise, how = additive(0.5, 2), {"points": plan["points"]}
    model, skew = gata1_pu1(), maier_stein(10.0)

    def sides(flow: Any, start: list[float], end: list[float]) -> list[MinimumAction]:
        """From all sides, and from the left, the right and the straight line alone."""
        alone = [[_bump(start, end, h)] for h in (0.5, -0.5, 0.0)]
        return [minimum_action(flow, noise, start, end, **how)] + [
            minimum_action(flow, noise, start, end, guesses=guess, **how) for guess in alone
        ]

    up, mirror = sides(model, LOW, PASS), minimum_action(model, noise, LOW[::-1], PASS[::-1], **how)
    bent = sides(skew, [-1.0, 0.0], [0.0, 0.0])
    left, right = (minimum_action(model, noise, [1.0, 1.0], end, **how) for end in (PASS, PASS[::-1]))
    spread = max(abs(other.action / up[0].action - 1) for other in up[1:])
    swapped = np.abs(mirror.paths[0].points[:, ::-1] - up[0].paths[0].points).max()
    both = np.abs(left.paths[0].points[:, ::-1] - right.paths[0].points).max()
    rows = [
        Acceptance("GATA1-PU.1, a = 1, out of a fate: straight over least action", up[0].straight / up[0].action, 1.9,
                   "higher"),
        Acceptance("the same: least actions from the left, the right and the straight line differ, relative", spread,
                   1e-6),
        Acceptance("the same: paths from the left and from the right differ", _gap(up[1], up[2]), 1e-4),
        Acceptance("the same: path out of the mirror fate, mirrored, differs", swapped, 1e-5),
        Acceptance("progenitor's ways out: mirror paths differ", both, 1e-5),
        Acceptance("progenitor's ways out: mirror actions differ, relative", abs(left.action / right.action - 1), 1e-6),
        Acceptance("Maier-Stein: straight start's action over the least", bent[3].action / bent[0].action, 1.4,
                   "higher"),
        Acceptance("Maier-Stein: left start's and right start's actions differ, relative",
                   abs(bent[1].action / bent[2].action - 1), 1e-6),
        Acceptance("Maier-Stein: left start's path, mirrored, differs from the right start's",
                   float(np.abs(bent[1].paths[0].points * [1, -1] - bent[2].paths[0].points).max()), 1e-5),
        Acceptance("Maier-Stein: mirror paths among those found from all sides", _mirrors(bent[0]), 2, "higher"),
    ]  # fmt: skip
    numbers = {"least action, GATA1-PU.1": up[0].action, "least action, Maier-Stein": bent[0].action}
    return rows, numbers, {"up": up, "bent": bent}


def _mirrors(found: MinimumAction) -> int:
    """How many of the cheapest paths have their mirror image among those found."""
    cheap = [p.points for p in found.paths if p.action < 1.01 * found.action]
    return sum(any(np.abs(a * [1, -1] - b).max() < 1e-4 for b in cheap) for a in cheap if np.abs(a[:, 1]).max() > 0.05)


def _times(plan: dict[str, Any]) -> tuple[list[Acceptance], dict, dict]:
    model, ratios, plain = maier_stein(plan["alpha"]), [], []
    start, end = [-1.0, 0.0], [0.0, 0.0]
    one = minimum_action(model, additive(1.0, 2), start, end, points=plan["fine_points"], bumps=1)
    for strength in plan["noises"]:
        noise = additive(strength, 2)
        path = minimum_action(
            model, noise, start, end, points=plan["fine_points"], guesses=[one.paths[0].points]
        ).paths[0]
        found = exit_time(model, noise, path)
        grid = fokker_planck(model, noise, ([-1.7, -0.8], [1.7, 0.8]), plan["cells"])
        times = grid.exit_time(lambda x: (x[:, 0] - 1) ** 2 + x[:, 1] ** 2 < 0.2**2).reshape(grid.shape)
        # Between the cells around the valley.
        near = [np.interp(start[0], grid.centres[0], times[:, k]) for k in range(grid.shape[1])]
        exact = float(np.interp(start[1], grid.centres[1], near))
        ratios.append(found.time / exact)
        plain.append(ratios[-1] / np.exp(found.divergence))
    # Off by c D, so what is left at D = 0 is a straight line through the last two.
    d, r = np.array(plan["noises"][-2:]), np.array(ratios[-2:])
    limit = float(r[1] - d[1] * (r[0] - r[1]) / (d[0] - d[1]))
    rows = [
        Acceptance("Maier-Stein, no gradient: exit time over the grid's, at weak noise, less 1", abs(limit - 1), 0.02),
        Acceptance("Maier-Stein: exit time over the grid's at the weakest noise, less 1", abs(ratios[-1] - 1), 0.05),
    ]
    numbers = {
        "exit time over the grid's": dict(zip(map(str, plan["noises"]), ratios, strict=True)),
        "the same without the divergence": dict(zip(map(str, plan["noises"]), plain, strict=True)),
        "divergence along the way": found.divergence,
    }
    return rows, numbers, {"ratios": ratios, "plain": plain}


class _Linear(eqx.Module):
    matrix: Array

    def __call__(self, state: Array) -> Array:
        return self.matrix @ state


def _truths(plan: dict[str, Any]) -> tuple[list[Acceptance], dict, dict]:
    well, sharp = double_well(), ODE(rtol=1e-10, atol=1e-12, max_steps=16384)
    doses, times = np.repeat(list(DURATIONS), 2), np.outer(list(DURATIONS.values()), [0.99, 1.01]).ravel()
    ends = push(well, [-1.0], "drive(x)=1", doses, times, [[-1.0], [1.0]], settle=40.0, method=sharp)
    wrong = sum(verdict != wanted for verdict, wanted in zip(ends.verdicts(), ["A1", "A2"] * 5, strict=True))
    model = gata1_pu1()
    pushed = push(model, LOW, "drive(GATA1)=1", 0.2, 200.0, [LOW, [1.0, 1.0], LOW[::-1]], settle=60.0, method=sharp)
    tilt = parameter("flow/energy/tilt", 1)
    outer = fixed_points(binary_choice((0.0, 1.0)), starts=4 * plan["starts"], bounds=([-2.0, -2.0], [2.0, 2.0]))
    fate = max((s for s, k in zip(outer.states, outer.index, strict=True) if k == 0), key=lambda s: s[0])
    folds = continuation(binary_choice((0.0, 1.0)), fate, tilt, 1.0, (-1.0, 2.5)).of_kind("fold")
    middle = continuation(binary_choice((0.0, 1.0)), [0.0, -0.605830], tilt, 1.0, (-1.0, 2.5)).of_kind("branch point")
    drift, strength = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    linear = drift_field(_Linear(jnp.asarray(drift)), ("x", "y"), [0.0, 0.0])
    grid = fokker_planck(linear, additive(strength, 2), ([-3.5, -2.4], [3.5, 2.4]), min(plan["cells"], 96))
    covariance = np.linalg.inv(np.asarray(ornstein_uhlenbeck(drift, strength).covariance))
    x = grid.points
    p = np.exp(-0.5 * np.einsum("ki,ij,kj->k", x, covariance, x)) * np.sqrt(np.linalg.det(covariance)) / (2 * np.pi)
    flux = (x @ (drift + np.diag(strength) @ covariance).T * p[:, None]).T.reshape(2, *grid.shape)
    return [
        Acceptance("double well: pushes of 0.99 and 1.01 critical durations on the wrong side", wrong, 0),
        Acceptance("GATA1-PU.1: the pushed fate settles at the progenitor, largest difference",
                   float(np.abs(pushed.final[0] - 1.0).max()), 1e-6),
        Acceptance("binary choice: the fates end at p2 = 7/4",
                   min((abs(q.value - 1.75) for q in folds), default=np.inf), 1e-7),
        Acceptance("binary choice: the middle well appears at p2 = 0",
                   min((abs(q.value) for q in middle), default=np.inf), 1e-7),
        Acceptance("linear, grid: flux against its closed form, of the largest",
                   float(np.abs(grid.flux() - flux).max() / np.abs(flux).max()), 0.01),
    ], {}, {}  # fmt: skip


PARTS = {"ways": _ways, "times": _times, "truths": _truths}


@styled
def picture(drawn: dict[str, Any], plan: dict[str, Any]) -> Any:
    """Ways over two passes from every side, and exit times against the exact ones."""
    left, middle, right = panels = new_panels(1, 3, (13.0, 4.0))[0]
    colours = {"from all sides": BLUE, "from the left": RED, "from the right": PINK, "straight start": GREY}
    widths = (5.0, 2.4, 1.2, 1.2)
    for axes, ways in ((left, drawn["up"]), (middle, drawn["bent"])):
        for (name, colour), way, width in zip(colours.items(), ways, widths, strict=True):
            cheap = [p for p in way.paths if p.action < 1.01 * way.action]
            for k, path in enumerate(cheap):
                label = f"{name}: {way.action:.4f}" if not k else None
                axes.plot(*path.points.T, color=colour, linewidth=width, alpha=0.8, label=label)
        first = ways[0].paths[0].points
        axes.plot(*first[[0, -1]].T, ":", color=INK, label=f"straight line: {ways[0].straight:.4f}")
        axes.plot(*first[0], "o", color=INK)
        axes.plot(*first[-1], "X", color=INK)
        axes.legend(title="action at D = 1/2", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    left.set(xlabel="GATA1", ylabel="PU.1", title="Out of a fate, GATA1-PU.1 (simulated)")
    middle.set(xlabel="u", ylabel="v", title="Maier and Stein's flow, alpha 10 (simulated)")
    right.axhline(1.0, color=INK, linewidth=0.8)
    right.plot(plan["noises"], drawn["ratios"], "o-", color=BLUE, label="with the prefactor of the path")
    right.plot(plan["noises"], drawn["plain"], "s--", color=GREY, label="without its divergence")
    right.set(xlim=(0, None), ylim=(0, None), xlabel="noise D", ylabel="exit time over the grid's exact one")
    right.set_title(f"Exit times, alpha {plan['alpha']:g} (simulated)")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
