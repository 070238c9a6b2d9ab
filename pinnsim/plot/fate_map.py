"""A picture of the verdict and of its certainty: dose x duration, border, probability, and where an ensemble disagrees.

The colour of a cell is the valley that it settles in; the less probable that is under noise, the paler it is. The line
is the border without noise, the band beside it the members' own; hatched is where fewer members than asked agree.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from pinnsim.landscape.agreement import EnsembleMap
from pinnsim.landscape.fate_map import FateMap
from pinnsim.plot.landscape import cell_edges, dose_duration_map
from pinnsim.plot.style import GREY, INK, styled

_PALEST = 0.85  # how white a cell is whose valley is no likelier than any other


@styled
def fate_map_panel(
    found: FateMap,
    ensemble: EnsembleMap | None = None,
    *,
    agree: float = 0.9,
    level: float = 0.9,
    dose_label: str = "dose",
    dose_unit: str = "",
    names: tuple[str, ...] | None = None,
    title: str = "Where the pushed cell settles, and how sure that is",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The map with its border, probabilities and disagreement.

    **Arguments:** `found`: the map, with probabilities where it has a noise law; `ensemble`: on the same doses and
    durations; `agree`: share of members below which a cell is hatched; `level`: share of members whose critical
    durations the band holds; `names`: of the valleys, in place of the map's.
    """
    doses, critical = found.critical()
    ax = dose_duration_map(
        doses,
        found.durations,
        found.valley,
        found.names if names is None else names,
        critical=(doses, critical),
        dose_label=dose_label,
        dose_unit=dose_unit,
        time_unit=found.time_unit,
        title=title,
        simulated=simulated,
        ax=ax,
    )
    handles = list(ax.get_legend().legend_handles)  # type: ignore[union-attr]
    x, y = cell_edges(doses), cell_edges(found.durations)
    chance = found.probability
    if chance is not None:
        # A map settled by chance alone gives every valley the same.
        even = 1.0 / max(chance.shape[-1], 1)
        at = np.take_along_axis(chance, np.maximum(found.valley, 0)[..., None], axis=-1)[..., 0]
        sure = np.clip((at - even) / max(1.0 - even, 1e-9), 0.0, 1.0)
        pale = np.where(found.valley >= 0, _PALEST * (1.0 - sure), 0.0)
        rgba = np.ones((*pale.T.shape, 4))
        rgba[..., 3] = pale.T
        ax.pcolormesh(x, y, rgba, rasterized=True, zorder=1.2)
        handles.append(Patch(facecolor="white", edgecolor=GREY, label="paler: less probable under noise"))
    if ensemble is not None:
        low = np.argwhere(ensemble.agreement < agree)
        cells = [Rectangle((x[i], y[j]), x[i + 1] - x[i], y[j + 1] - y[j]) for i, j in low]
        with mpl.rc_context({"hatch.linewidth": 0.6}):
            ax.add_collection(
                PatchCollection(
                    cells, hatch="////", facecolor="none", edgecolor=INK, linewidth=0.0, alpha=0.6, zorder=1.4
                )
            )
        handles.append(
            Patch(facecolor="none", edgecolor=INK, hatch="////", label=f"fewer than {agree:.0%} of members agree")
        )
        for ends in ensemble.critical_interval(level).T:
            ax.plot(ensemble.doses, ends, color=INK, linewidth=1.0, linestyle=":", zorder=2.1)
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                linewidth=1.0,
                linestyle=":",
                label=f"middle {level:.0%} of members: critical duration",
            )
        )
    for line in ax.lines:
        line.set_zorder(max(line.get_zorder(), 2.0))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return ax
