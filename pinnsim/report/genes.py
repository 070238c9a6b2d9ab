"""Fits gene by gene: a score for each, and courses of the worst, the median and the best.

`RMSE = sqrt(mean (measured - fitted)^2)` over the readings that count; beside it the RMSE of "no change" (each culture
stays at its first reading), and skill `1 - RMSE / RMSE of no change`. All in sample: fitted, not predicted.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import CYCLE, DASHES, grid_shape, new_panels, styled, titled, with_unit

FEW = 12  # genes up to which all are drawn
MOST_CONDITIONS = 6
_MARKERS = "osD^vP"


def fit_scores(fitted: pd.DataFrame) -> pd.DataFrame:
    """A row per gene, worst first: `gene`, `readings`, `RMSE`, `RMSE of no change`, `skill`, `inside` (share of
    readings inside their interval), `worst in` (the condition with the largest error).

    **Arguments:** `fitted`: as `fit.fitted_courses` tables it. **Raises** `E_DATA_EMPTY` where no reading counts.
    """
    table = fitted.sort_values("time", kind="stable")
    culture = ["condition", "replicate", "gene"]
    first = table[table["measured"].notna()].groupby(culture, sort=False)["measured"].transform("first")
    table = table.assign(first=first)
    table = table[table["measured"].notna() & table["scored"].astype(bool)]
    if table.empty:
        raise PinnsimError.of("E_DATA_EMPTY", "No fitted reading counts; fit data with two or more times.")
    error = table["measured"] - table["fitted"]
    inside = ((table["measured"] >= table["lo"]) & (table["measured"] <= table["hi"])).astype(float)
    table = table.assign(
        square=error**2,
        still=(table["measured"] - table["first"]) ** 2,
        inside=np.where(np.isfinite(table["lo"]) & np.isfinite(table["hi"]), inside, np.nan),
    )
    grouped = table.groupby("gene", sort=False)
    by_condition = table.groupby(["gene", "condition"], sort=False)["square"].mean().fillna(np.inf)
    worst = {gene: by_condition.loc[gene].idxmax() for gene in by_condition.index.get_level_values(0).unique()}
    rmse, still = np.sqrt(grouped["square"].mean()), np.sqrt(grouped["still"].mean())
    scores = pd.DataFrame(
        {
            "readings": grouped.size(),
            "RMSE": rmse,
            "RMSE of no change": still,
            "skill": 1.0 - rmse / still.where(still > 0),
            "inside": grouped["inside"].mean(),
        }
    )
    scores["worst in"] = pd.Series(worst)
    return (
        scores.rename_axis("gene")
        .reset_index()
        .sort_values("RMSE", ascending=False, kind="stable", na_position="first")
    )


def shown_genes(scores: pd.DataFrame, each: int = 4) -> dict[str, list[str]]:
    """Which genes are drawn: all where they are few, else the worst, the median and the best, `each` of them."""
    genes = scores["gene"].tolist()
    if len(genes) <= FEW:
        return {"all": genes}
    middle = (len(genes) - each) // 2
    return {"worst": genes[:each], "median": genes[middle : middle + each], "best": genes[-each:]}


@styled
def gene_panels(
    fitted: pd.DataFrame,
    genes: Sequence[str],
    *,
    time_unit: str = "",
    unit: str = "",
    title: str = "Measured and fitted",
    simulated: bool = False,
) -> list[Axes]:
    """A panel per gene: readings as points, the fitted course as a line, the interval of a reading as a band, a colour,
    marker and dash per condition (the six in which these genes are fitted worst).

    **Arguments:** `fitted`: as `fit.fitted_courses` tables it.
    """
    table = fitted[fitted["gene"].isin(list(genes))].sort_values("time", kind="stable")
    square = (table["measured"] - table["fitted"]) ** 2
    order = square.groupby(table["condition"], sort=False).mean().sort_values(ascending=False, kind="stable")
    kept = set(order.index[:MOST_CONDITIONS])
    conditions = [name for name in dict.fromkeys(fitted["condition"]) if name in kept]
    rows, columns = grid_shape(len(genes))
    axes = new_panels(rows, columns, (max(2.3 * columns, 4.6), 1.85 * rows + 0.9), sharex=True)
    for ax, gene in zip(axes.flat, genes, strict=False):
        here = table[table["gene"] == gene]
        for k, condition in enumerate(conditions):
            of = here[here["condition"] == condition]
            colour, dash = CYCLE[k], ("-", *DASHES)[k]
            for number, (_, culture) in enumerate(of.groupby("replicate", sort=False)):
                ax.fill_between(culture["time"], culture["lo"], culture["hi"], color=colour, alpha=0.14, linewidth=0)
                label = str(condition)[:40] if number == 0 else None
                ax.plot(culture["time"], culture["fitted"], color=colour, linestyle=dash, linewidth=1.4, label=label)
                ax.plot(culture["time"], culture["measured"], _MARKERS[k], color=colour, markersize=3.2, zorder=4)
        ax.set_title(gene, fontstyle="italic", fontsize=9, parse_math=False)
        ax.margins(y=0.1)
    for k, ax in enumerate(axes.flat):
        ax.set_visible(k < len(genes))
        if k % columns == 0:
            ax.set_ylabel(with_unit("reading", unit))
        if len(genes) - columns <= k < len(genes):
            ax.set_xlabel(with_unit("time", time_unit))
            ax.tick_params(labelbottom=True)
    figure = axes[0, 0].figure
    figure.suptitle(titled(title, simulated), x=0.01, ha="left")
    handles, names = axes.flat[0].get_legend_handles_labels()
    if handles:
        legend = figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3))
        for text in legend.get_texts():
            text.set_parse_math(False)
    return list(axes.flat[: len(genes)])


def summary_of(scores: pd.DataFrame) -> list[str]:
    """What the table of genes says, in sentences."""
    skilled = int((scores["skill"] > 0).sum())
    middle = scores["RMSE"].median()
    worst = scores.iloc[0]
    told = [
        f"{skilled} of {len(scores)} genes are fitted better than by no change; RMSE: median {middle:.3g}, worst "
        f"{worst['RMSE']:.3g} ({worst['gene']})."
    ]
    inside = float(
        (scores["inside"] * scores["readings"]).sum() / scores.loc[scores["inside"].notna(), "readings"].sum()
    )
    if math.isfinite(inside):
        told.append(
            f"90 % intervals hold {inside:.1%} of the fitted readings. They were fitted: this is no coverage of "
            "predictions, which the score tells."
        )
    return told
