"""What the report says of a simulation's file, whatever the method: how lanes and cells ended, and courses with bands.

A band is the range of an ensemble's members where each is one course; where cells differ it holds 90 % of them: between
the 5th and the 95th percentile of sampled cells, or, for linear noise, the mean and 1.645 standard deviations to either
side. Cells of all members count as one crowd, whose variance is the mean of the members' variances and the variance of
their means.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pinnsim.cli.output import highest, largest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from pinnsim.report import Report

_NAMES, _LANES = 6, 12
_SHARE, _DEVIATIONS = (0.05, 0.95), 1.6449
_TOLD = ("model", "method", "size", "cells", "seed", "dt", "rtol", "begins", "data", "condition")
_FLAT = 0.02  # of what is read: a panel is at least twice as high, or rounding would fill it
_CAPTIONS = {
    "course": "Simulated courses of what changed most; bands are the range of an ensemble's members.",
    "cells": "Means of sampled cells of what changed or spread most; bands hold 90 % of the cells.",
    "moments": "Means by linear noise of what changed or spread most; bands hold 90 % of cells, if they are normal.",
}


class Courses(NamedTuple):
    """What a file holds: `values` (member, lane, cell, time, name), NaN where a lane or cell failed; of linear noise
    also `spread` (standard deviation) and `fano`, (member, lane, time, name); `kind`: course, cells or moments."""

    kind: str
    names: list[str]
    lanes: list[str]
    times: "xr.DataArray"
    quantity: str
    values: "np.ndarray"
    outcomes: "np.ndarray"
    spread: "np.ndarray | None"
    fano: "np.ndarray | None"


def tell_simulation(page: "Report", path: Path) -> dict[str, Any]:
    """A section of the report on one file. **Raises:** `E_CKPT_CORRUPT`, `E_SIZE`."""
    from pinnsim.formats.simulation import load_simulation

    tree = load_simulation(path)
    page.section(f"Simulation: {path.stem}")
    told: dict[str, object] = {name: tree.attrs[name] for name in _TOLD if name in tree.attrs}
    page.facts({**told, "nature": "simulated, not measured"})
    courses = read_courses(tree)
    page.table(_table(courses), "Outcome of every lane; changes from first to last time.")
    if 1 <= len(courses.lanes) <= _LANES and len(courses.names):
        page.figure(course_panels(courses), _CAPTIONS[courses.kind])
    return {}


def read_courses(tree: "xr.DataTree") -> Courses:
    """Readings, or abundances where there are none, with a member and a cell where the file has none."""
    import numpy as np

    if "readout" in tree.children:
        array = tree["/readout/reading"].rename(gene="name")
    else:
        array = tree["/species/abundance"].rename(species="name")
    outcomes = tree.to_dataset()["outcome"]
    kind = "cells" if "cell" in array.dims else "moments" if "moments" in tree.children else "course"
    spread = fano = None
    if kind == "moments":
        noise = tree["/moments"].to_dataset()
        covariance = _whole(noise["covariance"], "member", "lane", "time", "species", "other")
        spread = np.sqrt(np.maximum(np.einsum("...ii->...i", covariance), 0.0))
        fano = _whole(noise["fano"], "member", "lane", "time", "species")
    return Courses(
        kind,
        [str(name) for name in array["name"].values],
        [str(name) for name in outcomes["lane"].values],
        array["time"],
        _quantity(array),
        _whole(array, "member", "lane", "cell", "time", "name"),
        _whole(outcomes, "member", "lane", "cell"),
        spread,
        fano,
    )


def bands(courses: Courses) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Middle, lower and upper edge of every lane, each (lane, time, name); failed members and cells are left out, and
    a lane that has none left is NaN."""
    import numpy as np

    edges = np.full((3, len(courses.lanes), *courses.values.shape[3:]), np.nan)
    for k in range(len(courses.lanes)):
        crowd = courses.values[:, k].reshape(-1, *courses.values.shape[3:])
        good = np.isfinite(crowd).all(axis=(1, 2))
        if not good.any():
            continue
        crowd = crowd[good]
        edges[0, k] = crowd.mean(axis=0)
        if courses.spread is not None:
            away = _DEVIATIONS * np.sqrt((courses.spread[good, k] ** 2).mean(axis=0) + crowd.var(axis=0))
            edges[1:, k] = np.maximum(edges[0, k] - away, 0.0), edges[0, k] + away
        elif courses.kind == "cells":
            edges[1:, k] = np.quantile(crowd, _SHARE, axis=0)
        else:
            edges[1:, k] = crowd.min(axis=0), crowd.max(axis=0)
    return edges[0], edges[1], edges[2]


def _table(courses: Courses) -> "pd.DataFrame":
    """By lane: counts of outcomes, and, of the best member, what changed and how much cells differ at the end."""
    import numpy as np
    import pandas as pd

    rows = []
    for k, lane in enumerate(courses.lanes):
        cells = courses.values[0, k]
        cells = cells[np.isfinite(cells).all(axis=(1, 2))]
        mean = cells.mean(axis=0) if len(cells) else np.full(cells.shape[1:], np.nan)
        row = {
            "treatment": lane,
            "outcome": _counts(courses, k),
            "largest changes": largest(courses.names, mean[-1] - mean[0]),
        }
        if courses.kind == "cells":
            spread = highest(courses.names, cells[:, -1].std(axis=0, ddof=1)) if len(cells) > 1 else ""
            row["largest spread at the end (sd)"] = spread
        elif courses.fano is not None:
            row["largest Fano factors at the end"] = highest(courses.names, courses.fano[0, k, -1])
        rows.append(row)
    return pd.DataFrame(rows)


def _counts(courses: Courses, k: int) -> str:
    """How a lane ended; of several members or cells, how many each way."""
    import numpy as np

    from pinnsim.simulate import Outcome

    codes, counts = np.unique(courses.outcomes[:, k], return_counts=True)
    endings = [Outcome(int(code)).sentence for code in codes]
    if len(codes) == 1 and courses.kind != "cells":
        return endings[0]
    what = "cells" if courses.kind == "cells" else "members"
    total = int(counts.sum())
    return "; ".join(f"{n} of {total} {what}: {ending}" for n, ending in zip(counts, endings, strict=True))


def course_panels(courses: Courses) -> "list[Axes]":
    """Small multiples of the names that change or spread most, a line and a band per lane."""
    import numpy as np

    from pinnsim.plot.style import CYCLE, DASHES, grid_shape, new_panels, styled, with_unit

    middle, low, high = bands(courses)
    banded = courses.kind != "course" or len(courses.values) > 1
    highest_values = np.where(np.isfinite(high), high, -np.inf).max(axis=(0, 1))
    lowest_values = np.where(np.isfinite(low), low, np.inf).min(axis=(0, 1))
    shown = np.argsort(lowest_values - highest_values, kind="stable")[:_NAMES]
    times, unit = courses.times.values, courses.times.attrs.get("units", "")
    dashes = ("-", *DASHES)

    @styled
    def draw() -> "list[Axes]":
        rows, columns = grid_shape(len(shown), 3)
        size = (max(3.0 * columns, 4.5), 2.0 * rows + 0.3 + 0.22 * len(courses.lanes))
        axes = new_panels(rows, columns, size, sharex=True)
        for number, ax in enumerate(axes.flat):
            ax.set_visible(number < len(shown))
        for number, (ax, g) in enumerate(zip(axes.flat, shown, strict=False)):
            for k, lane in enumerate(courses.lanes):
                color, dash = CYCLE[k % len(CYCLE)], dashes[k % len(dashes)]
                label = textwrap.shorten(lane, 80, placeholder=" …")
                ax.plot(times, middle[k, :, g], color=color, linestyle=dash, label=label)
                if banded:
                    ax.fill_between(times, low[k, :, g], high[k, :, g], color=color, alpha=0.2, linewidth=0)
            ax.set_title(courses.names[g], fontstyle="italic", fontsize=9)
            ax.ticklabel_format(axis="y", useOffset=False)
            room = _FLAT * max(abs(lowest_values[g]), abs(highest_values[g]))
            if highest_values[g] - lowest_values[g] < room:
                middle_value = (highest_values[g] + lowest_values[g]) / 2
                ax.set_ylim(middle_value - room, middle_value + room)
            if number >= len(shown) - columns:
                ax.set_xlabel(with_unit("time", unit))
                ax.tick_params(labelbottom=True)
            if number % columns == 0:
                ax.set_ylabel(courses.quantity)
        figure = axes[0, 0].figure
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left")
        return list(axes.flat)

    return draw()


def _quantity(array: "xr.DataArray") -> str:
    """What an axis of these numbers says: their name and their unit, which of a reading is its instrument's."""
    from pinnsim.plot.style import with_unit

    unit = "instrument's unit" if array.name == "reading" else str(array.attrs.get("units", ""))
    return unit if "abundance" in unit else with_unit(str(array.name), unit)


def _whole(array: "xr.DataArray", *dims: str) -> "np.ndarray":
    """Its values along `dims`; one that it has not is of length 1."""
    missing = [name for name in dims if name not in array.dims]
    return array.expand_dims(missing).transpose(*dims).values
