"""The course of a fit: the objective of all starts over steps, and the terms of the best one's."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import CYCLE, DASHES, GREY, INK, new_panels, styled, titled

_TERMS = ("data", "kinetics", "network", "hidden", "observation", "residual")
_NOTHING = 1e-9


@styled
def history_panels(course: pd.DataFrame, *, simulated: bool = False) -> list[Axes]:
    """Left: the lowest objective that each start has seen in its stage, above the lowest of that stage (its best start
    dark). Right: the terms of the best start; `data` is what the prior's terms leave, so that in collocation it is the
    misfit to smoothed courses.

    **Arguments:** `course`: as in `FitResult.course`, of one group.

    **Raises** `E_DATA_EMPTY` where it holds no finite objective.
    """
    table = course[np.isfinite(course["objective"])]
    if table.empty:
        raise PinnsimError.of("E_DATA_EMPTY", "The course of the fit holds no finite objective.")
    stages = list(dict.fromkeys(table["stage"]))
    last = table[table["stage"] == stages[-1]]
    best = last.sort_values(["step", "objective"], ascending=[False, True], kind="stable")["start"].iloc[0]
    left, right = axes = new_panels(1, 2, (8.4, 3.9))[0]
    for k, stage in enumerate(stages):
        here = table[table["stage"] == stage]
        lowest, colour = float(here["objective"].min()), CYCLE[k % len(CYCLE)]
        for start, one in here.groupby("start", sort=False):
            dark = start == best
            left.plot(
                one["step"],
                one["objective"] - lowest + 1.0,
                "o-",
                color=colour,
                markersize=2.0,
                linewidth=1.8 if dark else 0.8,
                alpha=1.0 if dark else 0.4,
                zorder=3 if dark else 2,
                label=f"{stage}: lowest {lowest:.4g}" if dark else None,
            )
        for ax in axes if k < len(stages) - 1 else ():
            ax.axvline(float(here["step"].max()), color=GREY, linewidth=0.8, linestyle=":")
    left.set_yscale("log")
    left.set_ylabel("objective above the stage's lowest + 1 (nats)")
    left.set_title(titled(f"Objective of {table['start'].nunique()} starts", simulated))
    own = table[table["start"] == best]
    named = [name for name in _TERMS if name in own and (own[name].abs() > _NOTHING).any()]
    for k, name in enumerate(named):
        colour = INK if name == "data" else CYCLE[(k - 1) % len(CYCLE)]
        style = ("-", *DASHES)[k % (1 + len(DASHES))]
        for number, stage in enumerate(stages):
            one, label = own[own["stage"] == stage], name if number == 0 else None
            right.plot(one["step"], one[name], "o", markersize=2.0, color=colour)
            right.plot(one["step"], one[name], color=colour, linestyle=style, label=label)
    right.set_yscale("symlog", linthresh=1.0)
    right.set_ylabel("term (nats)")
    right.set_title("Terms of the best start")
    for ax in axes:
        ax.set_xlabel("optimisation step")
        ax.set_xlim(left=0)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return [left, right]
