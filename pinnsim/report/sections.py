"""Parts that every report of a fit has, as the command line and the demonstration write them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pinnsim.report.coverage import coverage_panel, coverage_table
from pinnsim.report.genes import fit_scores, gene_panels, shown_genes, summary_of
from pinnsim.report.history import history_panels
from pinnsim.report.network import network_panel
from pinnsim.report.page import Report
from pinnsim.units import reading_unit

_GENES = 3000  # genes that a page lists


def add_coverage(
    page: Report,
    rows: Sequence[Mapping[str, Any]],
    treatments: Mapping[str, str],
    *,
    genes: int,
    time_unit: str,
    simulated: bool = False,
) -> None:
    """What was measured, as a table and a picture. **Arguments:** `rows`: of `coverage_of`."""
    page.table(
        coverage_table(rows, treatments, time_unit),
        f"What was measured of {genes} genes, by condition; a reading is one gene in one sample.",
    )
    first, last = min(row["times"][0] for row in rows), max(row["times"][-1] for row in rows)
    page.figure(
        coverage_panel(rows, time_unit, simulated=simulated),
        "Samples in time, by condition: the larger a point, the more cultures; the lighter, the more genes were read.",
        f"Times of the samples of {len(rows)} conditions, from {first:g} to {last:g} {time_unit}.",
    )


def add_genes(
    page: Report, fitted: pd.DataFrame, source: str, *, time_unit: str, scale: str, simulated: bool = False
) -> list[str]:
    """The worst, the median and the best fits as pictures, and every gene in a table.

    **Arguments:** `fitted`: as `fit.fitted_courses` tables it; `source`: what the bands come from.

    **Returns** what a summary should say.
    """
    scores = fit_scores(fitted)
    sentences = summary_of(scores)
    page.part("Gene by gene").text(" ".join(sentences))
    unit = reading_unit(scale)
    for kind, genes in shown_genes(scores).items():
        title = {"all": "All genes", "median": f"{len(genes)} genes around the median fit"}.get(
            kind, f"The {len(genes)} genes of the {kind} fit"
        )
        page.figure(
            gene_panels(fitted, genes, time_unit=time_unit, unit=unit, title=title, simulated=simulated),
            f"{title}: readings (points), fitted courses (lines), and the 90 % interval of a reading (bands), from "
            f"{source}.",
            f"{title}, measured and fitted over time: {', '.join(genes)}.",
        )
    shown = scores.head(_GENES)
    shown = shown.assign(inside=[f"{100 * share:.0f} %" if share == share else "" for share in shown["inside"]])
    more = f" The {_GENES} worst of {len(scores)}." if len(scores) > _GENES else ""
    page.table(
        shown.rename(columns={"RMSE": f"RMSE ({unit})", "inside": "inside 90 % interval"}),
        "Every gene, worst first. RMSE of no change: were each culture to stay as its first sample; skill: the "
        f"reduction of RMSE against that.{more}",
    )
    return sentences[:1]


def add_course(page: Report, course: pd.DataFrame, *, simulated: bool = False) -> None:
    """The course of a fit. **Arguments:** `course`: `FitResult.course`, of one group."""
    page.figure(
        history_panels(course, simulated=simulated),
        "Left: the objective of every start over steps, above the lowest of its stage (stages measure different "
        "things, so that their values do not compare). Right: the terms of the best start; data is what the prior's "
        "terms leave of the objective.",
        "Objective of every start and terms of the best one over optimisation steps.",
    )


def add_network(page: Report, edges: pd.DataFrame, what: str, *, simulated: bool = False) -> None:
    """The network as a picture. **Arguments:** `edges`: as for `network_panel`; `what`: what their order and width
    tell."""
    page.figure(
        network_panel(edges, simulated=simulated),
        f"Regulators (left) and their targets (right): {what}. Blue, solid, arrow: activates; red, dashed, bar: "
        "represses. The wider, the stronger.",
        f"Network of {len(edges)} edges, of which the clearest are drawn: "
        + ", ".join(f"{s} to {t}" for s, t in edges[["source", "target"]].head(5).itertuples(index=False)),
    )
