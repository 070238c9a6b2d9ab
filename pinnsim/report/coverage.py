"""What was measured: when, how often, and how much of it is there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pinnsim.data import Dataset
from pinnsim.plot.style import INK, new_axes, styled, titled, with_unit

MOST = 30  # conditions of a picture


def coverage_of(measured: Dataset) -> list[dict[str, Any]]:
    """By condition: its `replicates`, `times`, how many `cultures` were sampled and the share of `genes` read at each
    time, and the number of `readings`."""
    rows = []
    for c, condition in enumerate(measured.conditions):
        length = int(measured.length[c])
        seen = np.asarray(measured.mask)[c, :, :length]
        rows.append(
            {
                "condition": condition,
                "replicates": int(seen.any(axis=(1, 2)).sum()),
                "times": measured.times[c, :length].tolist(),
                "cultures": seen.any(axis=2).sum(axis=0).tolist(),
                "genes": seen.any(axis=0).mean(axis=1).tolist(),
                "readings": int(seen.sum()),
            }
        )
    return rows


def coverage_table(rows: Sequence[Mapping[str, Any]], treatments: Mapping[str, str], time_unit: str) -> pd.DataFrame:
    """A row per condition: treatment, replicates, times, readings and the share of what could have been read.

    **Arguments:** `rows`: of `coverage_of`; `treatments`: by condition.
    """
    return pd.DataFrame(
        [
            {
                "condition": row["condition"],
                "treatment": treatments.get(row["condition"], "none"),
                "replicates": row["replicates"],
                "samples in time": len(row["times"]),
                with_unit("from, to", time_unit): f"{row['times'][0]:g} to {row['times'][-1]:g}",
                "readings": row["readings"],
                "genes read": f"{100.0 * float(np.mean(row['genes'])):.4g} %",
            }
            for row in rows
        ]
    )


@styled
def coverage_panel(
    rows: Sequence[Mapping[str, Any]], time_unit: str, *, simulated: bool = False, ax: Axes | None = None
) -> Axes:
    """Samples in time, a line per condition (the first 30): a point's area tells how many cultures were sampled, its
    filling which share of genes was read."""
    shown = rows[:MOST]
    ax = new_axes(ax, (7.2, 1.3 + 0.3 * len(shown)))
    most = max(max(row["cultures"]) for row in shown)
    for place, row in enumerate(shown):
        ax.axhline(place, color="#E3E3E3", linewidth=0.8, zorder=1)
        sizes = 16.0 + 54.0 * np.asarray(row["cultures"], float) / max(most, 1)
        points = ax.scatter(
            row["times"],
            np.full(len(row["times"]), place),
            s=sizes,
            c=100.0 * np.asarray(row["genes"], float),
            cmap="cividis",
            vmin=0.0,
            vmax=100.0,
            edgecolors=INK,
            linewidths=0.6,
            zorder=3,
        )
    ax.set_yticks(range(len(shown)), [str(row["condition"])[:28] for row in shown], parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlabel(with_unit("time", time_unit))
    ax.set_ylabel("condition")
    ax.set_title(titled(f"Samples: points of up to {most} cultures", simulated))
    # One condition alone leaves a bar no room to be labelled beside.
    ax.figure.colorbar(points, ax=ax, label="genes read (%)", shrink=1.0, aspect=8 if len(shown) < 4 else 20)
    return ax
