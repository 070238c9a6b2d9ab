"""A calibration problem: what was measured of each observable, and what the model gives there."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import CYCLE, DASHES, grid_shape, new_panels, styled, titled, with_unit

_MOST = 12  # panels
_COURSES = 6  # experiments with a colour of their own


@styled
def problem_panels(
    observable: Sequence[str],
    experiment: Sequence[str],
    times: ArrayLike,
    measured: ArrayLike,
    simulated: ArrayLike,
    *,
    time_unit: str = "",
    made_up: bool = False,
) -> list[Axes]:
    """Small multiples, one per observable (the first 12): measurements as dots, the model as lines, a colour and a dash
    per experiment.

    **Arguments:** a row per measurement: `observable`, `experiment`: names; `times`, in `time_unit`, infinite ones are
    left out; `measured`, `simulated`: in the observable's own unit, which the problem does not say; `made_up`: whether
    the measurements are.

    **Returns** one axes per observable. **Raises** `E_DATA_SHAPE` for columns of different lengths.
    """
    when, seen, found = (np.asarray(column, dtype=float) for column in (times, measured, simulated))
    names, owners = np.asarray(observable, dtype=object), np.asarray(experiment, dtype=object)
    if len({len(column) for column in (when, seen, found, names, owners)}) != 1:
        raise PinnsimError.of("E_DATA_SHAPE", "Columns of measurements must have one length.")
    shown = list(dict.fromkeys(names.tolist()))[:_MOST]
    every = list(dict.fromkeys(owners.tolist()))
    rows, columns = grid_shape(len(shown))
    axes = new_panels(rows, columns, (max(2.8 * columns, 4.2), 2.2 * rows + 0.9))
    labelled: dict[str, object] = {}
    for ax, name in zip(axes.flat, shown, strict=False):
        for k, owner in enumerate(every):
            here = (names == name) & (owners == owner) & np.isfinite(when)
            if not here.any():
                continue
            order = np.argsort(when[here], kind="stable")
            colour, dash = CYCLE[k % _COURSES], ("-", *DASHES)[k // _COURSES % (1 + len(DASHES))]
            ax.plot(when[here], seen[here], "o", color=colour, markersize=3.2, alpha=0.8)
            (line,) = ax.plot(when[here][order], found[here][order], color=colour, linestyle=dash, linewidth=1.3)
            labelled.setdefault(owner or "as it is", line)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel(with_unit("time", time_unit))
        ax.set_ylabel("value, as measured")
        ax.margins(y=0.12)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    figure = axes[0, 0].figure
    left_out = len(set(names.tolist())) - len(shown)
    text = "Measured (dots) and fitted (lines)" + (f"; {left_out} more observables not shown" if left_out else "")
    figure.suptitle(titled(text, made_up), x=0.01, ha="left")
    figure.legend(
        list(labelled.values()),
        [str(name)[:40] for name in labelled],
        loc="outside lower center",
        ncols=max(1, min(len(labelled), math.ceil(1.5 * columns))),
    )
    return list(axes.flat[: len(shown)])
