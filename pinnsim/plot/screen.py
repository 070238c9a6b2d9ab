"""What a screen found: a map of interactions by both expectations, and the strongest with their members' intervals."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.plot.style import BLUE, DIVERGING, GREEN, GREY, INK, ORANGE, PALE, PINK, RED, new_axes, styled
from pinnsim.screen import Screen
from pinnsim.screen.interaction import (
    ANTAGONISTIC,
    BUFFERING,
    EXPECTATIONS,
    MASKING,
    NO,
    SYNERGISTIC,
    SYNTHETIC,
)

_COLOURS = {SYNTHETIC: RED, SYNERGISTIC: ORANGE, BUFFERING: GREEN, MASKING: BLUE, ANTAGONISTIC: PINK, NO: GREY}
_MARKERS = {SYNTHETIC: "D", SYNERGISTIC: "^", BUFFERING: "s", MASKING: "o", ANTAGONISTIC: "v", NO: "o"}
_OTHER = "PuOr_r"


@styled
def synergy_map(
    screen: Screen,
    *,
    readout: str | None = None,
    valley: str | None = None,
    top: int = 30,
    title: str = "What doubles do beyond their singles",
    simulated: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Interactions of all doubles of a screen as a map of edits: multiplicative above the diagonal, additive below.

    **Arguments:** `readout`: whose (default: of each double the one that interacts most beside the edited genes);
    `valley`: in which (default: the first); `top`: how many edits are shown, those in the strongest interactions, in
    the order of the screen. Doubles that leave the valley, alone or together, are marked by a dot; those that were not
    screened, or do not rest, are grey.

    **Raises** `E_DATA_EMPTY` without doubles, `E_USAGE` for an unknown valley.
    """
    place = screen.valleys[0] if valley is None else valley
    if place not in screen.valleys:
        raise PinnsimError.of("E_USAGE", f"'{place}' is no valley of the screen{did_you_mean(place, screen.valleys)}.")
    whole = [screen.synergies(readout, by=e) for e in EXPECTATIONS]
    tables = [table[table["valley"] == place].set_index("perturbation") for table in whole]
    if not len(tables[0]):
        raise PinnsimError.of("E_DATA_EMPTY", "The screen has no doubles; give it `order=2`.")
    count = len(screen.edits)
    values, leaves = np.full((count, count), np.nan), np.zeros((count, count), bool)
    for label, (a, b, _) in zip(screen.labels, screen.parts, strict=True):
        if label in tables[0].index:
            (values[a, b], values[b, a]) = (t.loc[label, e] for t, e in zip(tables, EXPECTATIONS, strict=True))
            leaves[a, b] = leaves[b, a] = not tables[0].loc[label, "same valley"]
    upper = np.triu(np.ones((count, count), bool), 1)
    size = np.nan_to_num(np.abs(np.where(upper, values, 0.0)))
    kept = np.sort(np.argsort(-(size + size.T).max(axis=1), kind="stable")[:top])
    values, leaves, upper = (a[np.ix_(kept, kept)] for a in (values, leaves, upper))
    side = max(0.24 * len(kept) + 2.2, 4.2)
    ax = new_axes(ax, (side + 1.8, side))
    for part, colours, name in (
        (upper, DIVERGING, "multiplicative, above (log2)"),
        (upper.T, _OTHER, "additive, below (share of the unperturbed level)"),
    ):
        shown = np.ma.masked_where(~part | ~np.isfinite(values), values)
        # A few extreme doubles would leave all others white.
        limit = max(
            float(np.nanquantile(np.abs(shown.filled(np.nan)), 0.99, method="higher")) if shown.count() else 0.0, 1e-3
        )
        # Where the aspect is fixed, the layout does not see labels beside it.
        image = ax.imshow(
            shown, cmap=mpl.colormaps[colours], vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto"
        )
        beyond = "both" if shown.count() and float(np.abs(shown).max()) > limit else "neither"
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.035, pad=0.02, extend=beyond)
        bar.set_label(name)
        bar.outline.set_visible(False)
    ax.set_facecolor(PALE)
    row, column = np.nonzero(leaves & np.isfinite(values))
    if len(row):
        ax.scatter(column, row, s=5, color=INK, linewidths=0, zorder=3)
    names = [screen.edits[k] for k in kept]
    ax.set_xticks(range(len(kept)), names, rotation=90, fontsize=7)
    ax.set_yticks(range(len(kept)), names, fontsize=7)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    what = "the readout that interacts most" if readout is None else readout
    ax.set_xlabel(f"{what}, valley {place}" + ("; dot: leaves the valley" if len(row) else ""))
    ax.set_title(f"{title} (simulated)" if simulated else title)
    return ax


@styled
def ranked_intervals(
    table: pd.DataFrame,
    *,
    value: str = "multiplicative",
    most: int = 20,
    label: str | None = None,
    title: str = "Strongest interactions",
    simulated: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Rows of a screen's table with the interval over members, best on top; shapes and colours are terms.

    **Arguments:** `table`: of `Screen.synergies`, `triples` or `effects`, in the order shown; `value`: the column
    (`multiplicative`, `additive`, `log2 fold`); `most`: how many rows. The model's own number is the marker, the
    members' interval the bar; the share of members of the same sign stands beside it. Hollow: a ball leaves the valley.

    **Raises** `E_DATA_EMPTY` where no row has this value.
    """
    shown = table[np.isfinite(table[value].astype(float))].head(most) if value in table else table.iloc[:0]
    if not len(shown):
        raise PinnsimError.of("E_DATA_EMPTY", f"The table has no row with a finite '{value}'; nothing can be drawn.")
    ax = new_axes(ax, (7.2, 0.28 * len(shown) + 1.4))
    places = np.arange(len(shown))[::-1]
    terms = shown.get(f"{value} term", pd.Series([""] * len(shown), index=shown.index)).astype(str)
    members = f"{value} low" in shown
    if members:
        ax.hlines(places, shown[f"{value} low"], shown[f"{value} high"], color=PALE, linewidth=5, zorder=1)
    stays = shown.get("same valley", pd.Series([True] * len(shown), index=shown.index))
    for place, number, term, stay in zip(places, shown[value], terms, stays, strict=True):
        shade = _COLOURS.get(term, INK)
        inside = shade if stay else "white"
        ax.plot(number, place, _MARKERS.get(term, "o"), color=shade, markerfacecolor=inside, markersize=6, zorder=3)
    ax.axvline(0.0, color=INK, linewidth=0.8)
    names = [
        f"{row['perturbation']}: {row['readout']} in {row['valley']}"
        + (f" ({row[f'{value} same sign']:.0%})" if members and np.isfinite(row[f"{value} same sign"]) else "")
        for _, row in shown.iterrows()
    ]
    ax.set_yticks(places, names, fontsize=7)
    ax.tick_params(axis="y", length=0)
    units = {"multiplicative": "log2", "additive": "share of the unperturbed level", "log2 fold": "log2"}
    what = label or (f"{value} ({units[value]})" if value in units else value)
    ax.set_xlabel(f"{what}; bars: interval of members, in brackets: share of the same sign" if members else what)
    seen = [term for term in _COLOURS if term in set(terms)]
    if seen:
        handles = [Line2D([], [], linestyle="", marker=_MARKERS[t], color=_COLOURS[t], label=t) for t in seen]
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), title="interaction", frameon=False)
    ax.set_title(f"{title} (simulated)" if simulated else title)
    return ax
