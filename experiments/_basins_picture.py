"""The picture of basins: GATA1-PU.1's three valleys with their separatrices, and an edge that is an unstable cycle."""

from pathlib import Path

import numpy as np

from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.experiment import companion
from pinnsim.landscape import assign, distance_to_edge, find_attractors, separatrix
from pinnsim.plot import save

_COLOURS = ("#cfe1f2", "#fbe3c5", "#d9ecd3", "#eadcf0")
_NOWHERE = "#ffffff"


def picture(cells: int, path: Path) -> None:
    """Writes it."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    figure, axes = plt.subplots(1, 2, figsize=(13.0, 5.8), layout="constrained")
    model = gata1_pu1()
    found = find_attractors(model, starts=16)
    low, high = 0.002, 4.0
    side = np.exp(np.linspace(np.log(low), np.log(high), cells))
    grid = np.stack(np.meshgrid(side, side, indexing="xy"), axis=-1).reshape(-1, 2)
    begin = np.array([[1.4, 0.9]])
    edge = distance_to_edge(model, found, begin)

    def basins(ax, x, y, verdict, count):  # type: ignore[no-untyped-def]
        colours = ListedColormap([_NOWHERE, *_COLOURS[:count]])
        ax.pcolormesh(x, y, verdict + 1, cmap=colours, vmin=-0.5, vmax=count + 0.5, rasterized=True)

    verdict = assign(model, found, grid).valley.reshape(cells, cells)
    basins(axes[0], side, side, verdict, int(found.stable.sum()))
    walls = ([low, low], [high, high])
    for name, index in zip(found.names, found.index, strict=True):
        if index == 1:
            curve = separatrix(model, found, name, bounds=walls).curve
            axes[0].plot(
                curve[:, 0], curve[:, 1], color="#333333", lw=1.6, label="separatrix" if name == "S1" else None
            )
    _points(axes[0], found)
    reached = edge.nearest[0]
    axes[0].annotate(
        "",
        reached,
        begin[0],
        arrowprops={"arrowstyle": "->", "color": "#b03030", "lw": 1.8, "shrinkA": 0, "shrinkB": 0},
    )
    axes[0].plot(*begin[0], "o", color="#b03030", ms=6, label=f"a cell, {edge.distance[0]:.2f} (log) from the edge")
    axes[0].set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes[0].set(xlabel="GATA1 (abundance)", ylabel="PU.1 (abundance)", title="GATA1-PU.1: three basins (simulated)")
    wheel = companion(__file__, "_edges").wheel()
    around = find_attractors(wheel, starts=16, bounds=([-2.5, -2.5], [2.5, 2.5]))
    span = np.linspace(-2.9, 2.9, cells)
    plane = np.stack(np.meshgrid(span, span, indexing="xy"), axis=-1).reshape(-1, 2)
    verdict = assign(wheel, around, plane).valley.reshape(cells, cells)
    basins(axes[1], span, span, verdict, int(around.stable.sum()))
    saddle = around.names[int(np.abs(around.states - [2.0, 0.0]).max(axis=1).argmin())]
    for arm in separatrix(wheel, around, saddle, bounds=([-2.9, -2.9], [2.9, 2.9]), length=24.0).arms:
        label = f"stable manifold of {saddle}, ends: {arm.end}"
        axes[1].plot(*arm.states.T, lw=1.2, label=label, color="#333333" if arm.end == "cycle" else "#888888")
    _points(axes[1], around)
    axes[1].set(xlabel="x", ylabel="y", aspect="equal", title="A basin whose edge is an unstable cycle (simulated)")
    for ax in axes:
        ax.legend(loc="lower left", fontsize=8, framealpha=0.9)
    save(figure, path)


def _points(ax, found) -> None:  # type: ignore[no-untyped-def]
    """Attractors as discs, saddles as crosses, named."""
    for name, state, stable in zip(found.names, found.states, found.stable, strict=True):
        ax.plot(*state, "o" if stable else "X", color="black" if stable else "white", mec="black", ms=8)
        ax.annotate(name, state, textcoords="offset points", xytext=(7, 6), fontsize=9)
