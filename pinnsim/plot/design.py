"""Designs as pictures: ranked experiments as bars, and what choosing them saved, round by round."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, GREY, INK, ORANGE, new_axes, styled, titled

_SHADES = {"active": (BLUE, "o", "-"), "random": (ORANGE, "s", "--")}


@styled
def ranked_bars(
    table: pd.DataFrame,
    *,
    value: str = "gain",
    most: int = 15,
    label: str = "expected information (nats)",
    title: str = "Which experiment next?",
    ax: Axes | None = None,
) -> Axes:
    """The best rows of a ranked table as bars, best on top, costs beside them where they differ.

    **Arguments:** `table`: of `design.Design` (`table` or `batch`) or of `design.disagreement`, in the order shown;
    `value`: the column drawn (`goal_gain`, `gain_per_cost`, `disagreement`); `most`: how many rows.

    **Raises** `E_DATA_EMPTY` where no row has this value.
    """
    shown = table[np.isfinite(table[value])].head(most) if value in table else table.iloc[:0]
    if not len(shown):
        raise PinnsimError.of("E_DATA_EMPTY", f"The table has no row with a finite '{value}'; nothing can be drawn.")
    ax = new_axes(ax, (7.2, 0.3 * len(shown) + 1.2))
    places = np.arange(len(shown))[::-1]
    ax.barh(places, shown[value], height=0.7, color=BLUE)
    same = shown["cost"].nunique() == 1  # says nothing beside each bar
    for place, (_, row) in zip(places, shown.iterrows(), strict=True):
        told = f" {row[value]:.2f}" + ("" if same else f", cost {row['cost']:g}")
        ax.text(row[value], place, told, va="center", fontsize=7, color=INK)
    names = [
        f"{row['treatment']} at {row['times']}: {row['genes']}" + f" x {row['replicates']}" * (row["replicates"] > 1)
        for _, row in shown.iterrows()
    ]
    ax.set_yticks(places, names, fontsize=7)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1.25 * float(shown[value].max()))
    ax.set_xlabel(label)
    ax.set_title(title)
    return ax


@styled
def policy_courses(
    table: pd.DataFrame,
    *,
    title: str = "Error of the rates, round by round",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Mean error of each policy after every round, with standard errors over repeats; repeats in the background.

    **Arguments:** `table`: of `design.design_rounds`.
    """
    ax = new_axes(ax, (5.6, 3.8))
    for policy, part in table.groupby("policy", sort=True):
        color, marker, dash = _SHADES.get(str(policy), (GREY, "^", ":"))
        wide = part.pivot_table(index="round", columns="repeat", values="error")
        ax.plot(wide.index, wide.to_numpy(), color=color, linewidth=0.5, alpha=0.25)
        spread = wide.std(axis=1, ddof=1) / np.sqrt(wide.shape[1]) if wide.shape[1] > 1 else 0.0 * wide.mean(axis=1)
        ax.errorbar(
            wide.index,
            wide.mean(axis=1),
            spread,
            color=color,
            marker=marker,
            linestyle=dash,
            capsize=3,
            label=str(policy),
        )
    ax.set_xticks(sorted(table["round"].unique()))
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("experiments after the opening")
    ax.set_ylabel("error of the rates (prior widths)")
    ax.set_title(titled(title, simulated))
    ax.legend(title="next experiment")
    return ax
