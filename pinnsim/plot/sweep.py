"""A campaign as maps: one number or verdict per point over two of its axes, a panel for each value of the others."""

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

from pinnsim.errors import PinnsimError, did_you_mean, first
from pinnsim.plot.landscape import cell_edges
from pinnsim.plot.style import BLUE, GREY, ORANGE, PALE, PINK, SKY, new_panels, styled, titled, with_unit

if TYPE_CHECKING:
    import xarray as xr

_AXIS = "axis_"
_FIRST = ("verdict", "valley", "reach", "distance")  # what is shown where nothing is asked for
_SHADES = [BLUE, ORANGE, PINK, SKY, "#009E73", "#F0E442"]
_WIDEST = 5  # panels in a row
_EVEN = 1e-6  # relative; values so evenly spaced in the logarithm are drawn on a logarithmic axis


@styled
def sweep_map(
    dataset: "xr.Dataset", show: str = "", *, x: str = "dose", y: str = "duration", most: int = 12
) -> list[Axes]:
    """Maps of a campaign's store (`Store(...).to_xarray()`).

    **Arguments:** `show`: a variable with one number per point, or one of many by its name, as `end[u.mrna]` (default:
    the verdict, the valley, or how far the cell is from where it began, whichever was recorded); `x`, `y`: axes of the
    grid; `most`: panels.

    **Returns** an axes per panel. **Raises** `E_USAGE` where the store has no such axis or variable.
    """
    axes = {str(dataset[name].attrs["axis"]): str(name) for name in dataset.variables if str(name).startswith(_AXIS)}
    for name in (x, y):
        if name not in axes:
            raise PinnsimError.of(
                "E_USAGE", f"The campaign has no axis '{name}'{did_you_mean(name, axes)}; there are {first(axes)}."
            )
    values, shown, label, names = _shown(dataset, show)
    columns = {name: np.asarray(dataset[variable].values) for name, variable in axes.items()}
    across, up = (np.unique(columns[name]) for name in (x, y))
    others = [name for name in axes if name not in (x, y)]
    keys = np.stack([columns[name] for name in others], axis=1) if others else np.zeros((len(values), 0))
    panels, which = np.unique(keys, axis=0, return_inverse=True)
    if len(values) != len(panels) * len(across) * len(up):
        raise PinnsimError.of(
            "E_USAGE", f"'{x}' and '{y}' make no grid here: a map needs axes with values of their own, not samples."
        )
    grids = np.full((len(panels), len(across), len(up)), np.nan)
    grids[which.ravel(), np.searchsorted(across, columns[x]), np.searchsorted(up, columns[y])] = values
    count = min(len(panels), most)
    rows = -(-count // _WIDEST)
    wide = -(-count // rows)
    drawn = new_panels(rows, wide, (max(2.3 * wide + 1.6, 6.4), max(2.3 * rows + 1.1, 4.4)), sharex=True, sharey=True)
    colours = _colours(grids[:count], names)
    image: Any = None
    for number, ax in enumerate(drawn.ravel()):
        if number >= count:
            ax.set_visible(False)
            continue
        image = ax.pcolormesh(_edges(across), _edges(up), grids[number].T, rasterized=True, **colours)
        ax.set_title(_titles(dataset, others, axes, panels[number]), fontsize=8)
        for scale, numbers in ((ax.set_xscale, across), (ax.set_yscale, up)):
            if _logarithmic(numbers):
                scale("log")
    for ax in drawn[-1]:
        ax.set_xlabel(with_unit(x, str(dataset[axes[x]].attrs.get("units", ""))))
    for ax in drawn[:, 0]:
        ax.set_ylabel(with_unit(y, str(dataset[axes[y]].attrs.get("units", ""))))
    figure = drawn.ravel()[0].figure
    more = f", the first {count} of {len(panels)}" if count < len(panels) else ""
    figure.suptitle(titled(f"{len(values):,} points: {shown} by {x} and {y}{more}", True))
    if names:
        here = np.unique(grids[:count][np.isfinite(grids[:count])]).astype(int)
        handles = [Patch(facecolor=_shade(code), edgecolor=GREY, label=names[code]) for code in map(int, here)]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    else:
        bar = figure.colorbar(image, ax=list(drawn.ravel()), fraction=0.03, pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return list(drawn.ravel()[:count])


def _shown(dataset: "xr.Dataset", show: str) -> tuple[np.ndarray, str, str, dict[int, str]]:
    """Values, (point,), NaN where a point failed; what they are, in short and at length; meanings of codes."""
    known = [str(name) for name in dataset.data_vars if not str(name).startswith(_AXIS)]
    show = show or next((name for name in _FIRST if name in known), known[0])
    name, _, part = show.partition("[")
    if name not in known:
        raise PinnsimError.of(
            "E_USAGE", f"The campaign recorded no '{name}'{did_you_mean(name, known)}; there are {first(known, 12)}."
        )
    array = dataset[name]
    if part:
        dim = str(array.dims[-1])
        labels = [str(value) for value in dataset[dim].values]
        if part.rstrip("]") not in labels:
            near = did_you_mean(part.rstrip("]"), labels)
            raise PinnsimError.of("E_USAGE", f"'{name}' has no {dim} '{part.rstrip(']')}'{near}.")
        array = array[..., labels.index(part.rstrip("]"))]
    if array.ndim != 1:
        raise PinnsimError.of(
            "E_USAGE", f"'{show}' has more than one number per point; name one, as '{name}[...]' of {array.dims[-1]}."
        )
    values = np.asarray(array.values, float)
    values = np.where(np.asarray(dataset["outcome"].values) == 0, values, np.nan)
    attrs = array.attrs
    if name == "valley":
        return values, "valley", "", _meanings(attrs["meanings"], numbered=False)
    if name == "verdict":
        return values, "verdict", "", _meanings(attrs["meanings"], numbered=True)
    label = show if part else str(attrs.get("long_name", show))
    unit = str(attrs.get("units", ""))
    return values, show, label if unit in ("", "1") else with_unit(label, unit), {}


def _meanings(text: str, numbered: bool) -> dict[int, str]:
    """Codes and what they mean, of the attribute's text."""
    if numbered:
        pairs = [part.strip().split(" ", 1) for part in text.split(",")]
        return {int(code): words for code, words in pairs}
    *valleys, _ = text.split("; ")
    return {-1: "near none of the attractors", **{k: f"settles in {name}" for k, name in enumerate(valleys)}}


def _colours(grids: np.ndarray, names: dict[int, str]) -> dict[str, Any]:
    if names:
        codes = range(min(names), max(names) + 1)
        shades = ListedColormap([_shade(code) for code in codes]).with_extremes(bad=GREY)
        return {"cmap": shades, "norm": BoundaryNorm(np.arange(min(names) - 0.5, max(names) + 1), len(codes))}
    low, high = (float(f(grids[np.isfinite(grids)], initial=e)) for f, e in ((np.min, np.inf), (np.max, -np.inf)))
    return {"cmap": mpl.colormaps["viridis"].with_extremes(bad=GREY), "vmin": low, "vmax": high}


def _shade(code: int) -> str:
    return PALE if code < 0 else _SHADES[code % len(_SHADES)]


def _logarithmic(numbers: np.ndarray) -> bool:
    if len(numbers) < 3 or numbers[0] <= 0:
        return False
    ratios = numbers[1:] / numbers[:-1]
    return bool(np.ptp(ratios) < _EVEN * ratios[0])


def _edges(numbers: np.ndarray) -> np.ndarray:
    return np.exp(cell_edges(np.log(numbers))) if _logarithmic(numbers) else cell_edges(numbers)


def _titles(dataset: "xr.Dataset", others: list[str], axes: dict[str, str], key: np.ndarray) -> str:
    """What a panel has of its own."""
    told = []
    for name, value in zip(others, key, strict=True):
        meanings = str(dataset[axes[name]].attrs.get("meanings", "")).split("; ")
        told.append(meanings[int(value)] if name == "treatment" else f"{name} = {value:g}")
    return "\n".join(told)
