"""Ways from one valley to another, ranked: what each costs, how far from the least possible, how many cells it moves,
and the course of the best."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, CYCLE, DASHES, GREEN, GREY, INK, ORANGE, PALE, RED, new_panels, styled, titled
from pinnsim.reprogramming import Reprogramming

_MOST = 12  # plans that are shown
_SHOWN = 6  # species of the course


@styled
def reprogramming_panels(
    result: Reprogramming, *, most: int = _MOST, title: str | None = None, simulated: bool = True
) -> np.ndarray:
    """Four panels: effort of each plan before and after refinement; control effort against the minimum action, the
    line that no plan can be left of; the share of other cells that are moved, with Wilson's interval; the course of the
    best plan, the push shaded.

    **Arguments:** `result`: of `reprogram`, with a plan at least; `most`: plans shown, by effort.

    **Returns** the axes, (1, 4). **Raises** `E_USAGE` where there is no plan.
    """
    plans = result.plans[:most]
    if not plans:
        raise PinnsimError.of("E_USAGE", "There is no plan to show; see `result.tried` for how each push ended.")
    place = np.arange(len(plans))
    axes = new_panels(1, 4, (15.0, 1.9 + 0.34 * max(len(plans), 7)), width_ratios=[1.25, 1.0, 0.8, 1.3])
    cost, control, share, course = axes[0]
    cost.barh(place, [p.effort for p in plans], color=BLUE, height=0.62, label="refined by gradients")
    cost.plot([p.begun for p in plans], place, "D", color=ORANGE, markersize=4, label="before")
    cost.set_yticks(place, [p.edits for p in plans])
    power = "" if result.power == 1 else f"^{result.power:g}"
    cost.set_xlabel(f"effort: time x sum of strengths{power} ({result.time_unit})")
    cost.set_title("Effort, least first")
    _keyed(cost)
    control.plot([p.control for p in plans], place, "o", color=BLUE, markersize=5, label="plan")
    if result.bound.action > 0:
        control.axvline(result.bound.action, color=RED, linestyle="--", label="minimum action")
    control.set_xscale("log")
    control.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    control.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    control.xaxis.set_minor_formatter(NullFormatter())
    control.set_xlabel(f"control effort ({_unit(result.time_unit)})")
    control.set_title("Against the least possible")
    _keyed(control)
    middle = np.array([p.robust.share for p in plans])
    ends = np.array([p.robust.interval for p in plans])
    share.errorbar(
        middle, place, xerr=np.abs(ends.T - middle), fmt="o", color=GREEN, ecolor=GREY, markersize=4, capsize=2
    )
    share.set_xlim(-0.03, 1.03)
    share.set_xlabel(f"share of {plans[0].robust.cells} cells, 95 % interval")
    share.set_title("Other cells moved")
    for ax in (cost, control, share):
        ax.set_ylim(len(plans) - 0.4, -0.6)
        ax.grid(axis="x", color=PALE, linewidth=0.6)
    for ax in (control, share):
        ax.set_yticks(place, [""] * len(plans))
    _course(course, result)
    whole = title or f"{result.start} to {result.target}"
    cost.figure.suptitle(titled(f"{whole}; all plans keep a margin of {result.margin:.0%}", False)
                         + (" (model prediction)" if simulated else ""))  # fmt: skip
    return axes


def _course(ax: Axes, result: Reprogramming) -> None:
    """The species that change most, in time."""
    plan = result.plans[0]
    swing = np.ptp(plan.states, axis=0)
    chosen = np.sort(np.argsort(-swing, kind="stable")[:_SHOWN])
    ax.axvspan(0.0, plan.duration, color=PALE, linewidth=0, label="push")
    for k, number in enumerate(chosen):
        ax.plot(
            plan.times, plan.states[:, number], color=CYCLE[k % len(CYCLE)],
            linestyle=("-", *DASHES)[k % (len(DASHES) + 1)], label=result.species[number],
        )  # fmt: skip
    moving = np.abs(plan.states - plan.states[-1:]).max(axis=1) > 0.01 * swing.max()
    last = plan.times[min(int(np.flatnonzero(moving).max(initial=0)) + 1, len(plan.times) - 1)]
    ax.set_xlim(-0.03 * last, 1.1 * last)
    ax.set_xlabel(f"time ({result.time_unit})")
    ax.set_ylabel("abundance")
    ax.set_title("Course of the first", color=INK)
    _keyed(ax)


def _keyed(ax: Axes) -> None:
    """A legend beneath the axes' label, off the data."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, fontsize=7.5)


def _unit(time_unit: str) -> str:
    return f"abundance^2 / {time_unit}"
