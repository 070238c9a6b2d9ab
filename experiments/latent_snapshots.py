"""Does a latent model predict cells of a time left out as well as a landscape in gene space, and flag foreign cells?

Myoblasts (Trapnell et al. 2014; log(1 + FPKM) over its spread, normal errors) and mouse embryonic stem cells under
retinoic acid (Semrau et al. 2017; counts of 41 genes, negative binomial). A time in the middle is left out; cells of
the time before are pushed to it, by the latent model (counts or logarithms as they would be measured) and by the
landscape of `hsmm_landscape`, learned in the first two principal components of the training cells. Both are scored by
the energy distance to the cells left out, in these two components, where the gene-space model lives; the latent model
also over all genes, where it is compared with trivial populations.

Out of domain: cells of mouse pancreas (E15.5) and dentate gyrus, over the genes that both data sets have (myoblasts: by
the mouse gene of the same name). They must not be known by their depth alone: counts are thinned to the totals of
random training cells where they are more, and the myoblasts' scale is the total over these genes. Cells that belong
are those of the time left out, which the model never saw either.

Data: C. Trapnell et al., Nat. Biotechnol. 32:381 (2014); S. Semrau et al., Nat. Commun. 8:1096 (2017); A.
Bastidas-Ponce et al., Development 146:dev173849 (2019); H. Hochgerner et al., Nat. Neurosci. 21:290 (2018).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.data import Snapshots
from pinnsim.distance import Energy
from pinnsim.dynamics.energies import box
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.fit.landscape_pairs import pairs_of, push_pairs
from pinnsim.landscape import principal_components
from pinnsim.latent import LatentFit, LatentPlan, fit_latent
from pinnsim.parameter import resolve
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, GREY, INK, RED, new_panels, styled

SMOKE: dict[str, Any] = {
    "seeds": [0],
    "genes": 8,
    "latent": {"dimension": 2, "width": 4, "steps": 10, "cells": 16, "substeps": 2},
    "landscape": {"degree": 2, "fit": {"cells": 20, "steps": 2, "waves": 2, "warm": 0, "most": 1}},
}
LATENT, GENE_SPACE = "latent model", "landscape in gene space"
BEFORE, MIXED = "previous time", "mixture of neighbours"
LEAST = 3  # counts of a cell that is to be judged: one of nothing says nothing
BARS = (
    (
        "time left out, energy distance in two components, mean over trainings, against the landscape there",
        0.0,
        "lower",
    ),
    ("cells of other tissues told from cells of the time left out, AUROC, least of all trainings", 0.9, "higher"),
    ("trainings whose embeddings collapsed", 0, "lower"),
)
SCALE = (
    "Distances: energy distance without pairs of a cell with itself, which is 0 on average for equal populations. "
    "Counts are compared as log(1 + count) over its standard deviation among training cells."
)


class Cells(NamedTuple):
    """Readings, (cell, gene), on `scale`: of training cells and when they were taken, of those left out, and of
    foreign cells, with and without their depth matched."""

    scale: str
    genes: tuple[str, ...]
    training: np.ndarray
    hours: np.ndarray
    held: np.ndarray
    foreign: np.ndarray
    unmatched: np.ndarray


class Subject(NamedTuple):
    """A data set: its name, the time left out, the cells to predict, and the cells to judge by (other genes, perhaps,
    those that foreign cells have too)."""

    name: str
    time: float
    cells: Cells
    shared: Cells


class Panel(NamedTuple):
    """What is drawn: components of cells left out and predicted, distances by name, scores."""

    subject: Subject
    seen: np.ndarray
    predicted: np.ndarray
    distances: dict[str, float]
    inside: np.ndarray
    outside: np.ndarray


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Both data sets, where they are present."""
    folders = companion(__file__, "_development_data")
    tissues, stem = (folders.data_folder(name) for name in ("spliced_unspliced_h5ad", "mesc_retinoic_acid_semrau2017"))
    metrics: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    rows, notes, panels = [], [], []
    for key, subject in (("hsmm", myoblasts(plan, tissues)), ("mouse_es", stem_cells(plan, stem, tissues))):
        if subject is None:
            rows += [Acceptance(f"{key}: {what}", float("nan"), bar, better) for what, bar, better in BARS]
            notes.append(f"{key}: {folders.absent('spliced_unspliced_h5ad, or the cells to learn from,')}")
            continue
        found, trivial, panel = measured(subject, plan, progress)
        metrics[key], baselines[key] = found, trivial
        bars = (trivial["two components"][GENE_SPACE], *(bar for _, bar, _ in BARS[1:]))
        values = (
            found["two components"]["mean"],
            min(found["foreign cells"]["AUROC"]),
            found["trainings that collapsed"],
        )
        for (what, _, better), value, bar in zip(BARS, values, bars, strict=True):
            rows.append(Acceptance(f"{key}: {what}", value, bar, better))
        best = min(trivial["all genes"], key=lambda name: trivial["all genes"][name])
        told = "below" if found["all genes"]["mean"] <= trivial["all genes"][best] else "NOT below"
        notes.append(f"{subject.name}, all genes: the latent model is {told} the best trivial population ({best}).")
        panels.append(panel)
    if panels:
        save(picture(panels), out / "latent_snapshots.png")
    return Findings(metrics, baselines, tuple(rows), (*notes, SCALE))


def myoblasts(plan: dict[str, Any], tissues: Path | None) -> Subject | None:
    """HSMM, genes and scale as in `hsmm`; `None` where it or the foreign cells are absent."""
    kinetic, strange = companion(__file__, "hsmm"), companion(__file__, "_foreign_cells")
    table = kinetic.read()
    if table is None or tissues is None:
        return None
    logs, hours = table
    held = plan["held"]["hsmm"]
    split = kinetic.split_of(logs, hours, held, plan["genes"])
    counts, names = strange.foreign_counts(tissues, tuple(str(name) for name in logs.columns))
    among = kinetic.split_of(logs[list(names)], hours, held, plan["genes"])
    kept = [names.index(gene) for gene in among.genes]
    whole = logs[list(names)].to_numpy()[hours != held]
    sd = whole[:, kept].std(axis=0)
    # Foreign counts on the myoblasts' scale: their total over all shared genes.
    total = np.median(np.expm1(whole).sum(axis=1))
    foreign = np.log1p(counts * total / counts.sum(axis=1, keepdims=True))[:, kept] / sd
    none = foreign[:0]
    return Subject(
        "myoblasts",
        held,
        Cells("log1p", split.genes, split.points, split.hours, split.held, none, none),
        Cells("log1p", among.genes, among.points, among.hours, among.held, foreign, none),
    )


def stem_cells(plan: dict[str, Any], folder: Path | None, tissues: Path | None) -> Subject | None:
    """Mouse ES cells; the same cells and genes to predict and to judge by, where foreign cells have all genes."""
    strange = companion(__file__, "_foreign_cells")
    if folder is None or tissues is None:
        return None
    table = np.loadtxt(folder / "panel_real.txt")
    lines = (folder / "panel_genes.txt").read_text().splitlines()
    # The first row is time, the first column a number, and the first gene the stimulus.
    genes, hours, counts = tuple(line.split()[1] for line in lines)[1:], table[0, 1:], table[2:, 1:].T
    held = plan["held"]["mouse_es"]
    training = hours != held
    raw, names = strange.foreign_counts(tissues, genes)
    kept = [genes.index(gene) for gene in names]
    whole = Cells("counts", genes, counts[training], hours[training], counts[~training], raw[:0], raw[:0])
    parts = [part[:, kept] for part in (whole.training, whole.held)]
    same = strange.thinned(raw, parts[0], plan["seeds"][0])
    judged, foreign, unmatched = (part[part.sum(axis=1) >= LEAST] for part in (parts[1], same, raw))
    shared = Cells("counts", names, parts[0], whole.hours, judged, foreign, unmatched)
    return Subject("mouse ES cells", held, whole, shared)


def measured(subject: Subject, plan: dict[str, Any], progress: bool) -> tuple[dict[str, Any], dict[str, Any], Panel]:
    """Distances, scores, and what is drawn."""
    strange, cells = companion(__file__, "_foreign_cells"), subject.cells
    before = max(t for t in np.unique(cells.hours) if t < subject.time)
    after = min(t for t in np.unique(cells.hours) if t > subject.time)
    first, last = (cells.training[cells.hours == t] for t in (before, after))
    alike = subject.shared.genes == cells.genes
    wide: list[float] = []
    narrow: list[float] = []
    areas: list[float] = []
    unmatched: list[float] = []
    flagged: list[list[float]] = []
    sunk, terms = 0, {}
    view = components(cells)
    for seed in plan["seeds"]:
        fit = learned(cells, plan, seed, progress)
        arrived = fit.model.simulate(first, subject.time - before, start=before, seed=seed).readings
        wide.append(apart(scaled(arrived, cells), scaled(cells.held, cells)))
        narrow.append(apart(view(arrived), view(cells.held)))
        judge = fit if alike else learned(subject.shared, plan, seed, progress)
        inside, outside = (judge.model.out_of_domain(part) for part in (subject.shared.held, subject.shared.foreign))
        areas.append(strange.auroc(outside.score, inside.score))
        flagged.append([float(np.mean(part.p_value <= 0.05)) for part in (inside, outside)])
        if len(subject.shared.unmatched):
            unmatched.append(strange.auroc(judge.model.out_of_domain(subject.shared.unmatched).score, inside.score))
        sunk += fit.spread.collapsed + (not alike and judge.spread.collapsed)
        terms[str(seed)] = dict(zip(fit.terms["term"], fit.terms["after"], strict=True))
        terms[str(seed)]["effective rank"] = fit.spread.effective_rank
    mixed = np.concatenate([first, last])
    simple = {BEFORE: first, MIXED: mixed}
    trivial = {
        "all genes": {name: apart(scaled(part, cells), scaled(cells.held, cells)) for name, part in simple.items()},
        "two components": {
            GENE_SPACE: gene_space(subject, view, before, plan, progress),
            **{name: apart(view(part), view(cells.held)) for name, part in simple.items()},
        },
    }
    found = {
        "all genes": {"mean": float(np.mean(wide)), "trainings": wide},
        "two components": {"mean": float(np.mean(narrow)), "trainings": narrow},
        "foreign cells": {
            "genes": len(subject.shared.genes),
            "cells": len(subject.shared.foreign),
            "AUROC": areas,
            "AUROC, depths as they are": unmatched,
            "flagged at 5 %: of the time left out, of foreign cells": flagged,
        },
        "trainings that collapsed": sunk,
        "terms of the loss after training, by seed": terms,
    }
    told = {LATENT: float(np.mean(narrow)), **trivial["two components"]}
    return found, trivial, Panel(subject, view(cells.held), view(arrived), told, inside.score, outside.score)


def learned(cells: Cells, plan: dict[str, Any], seed: int, progress: bool) -> LatentFit:
    """A latent model of the training cells."""
    snapshots = Snapshots.build(cells.training, cells.hours, cells.genes, time_unit="h", scale=cells.scale)
    return fit_latent(snapshots, LatentPlan(seed=seed, **plan["latent"]), progress=progress)


def logs_of(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Logarithms of readings."""
    return np.log1p(values) if cells.scale == "counts" else values


def scaled(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Logarithms over their standard deviation among training cells."""
    return logs_of(values, cells) / np.maximum(logs_of(cells.training, cells).std(axis=0), 1e-3)


def components(cells: Cells) -> Callable[[np.ndarray], np.ndarray]:
    """The map to the first two components of the training cells, in units of their spread."""
    training = scaled(cells.training, cells)
    seen = principal_components(training, cells.genes)
    width = seen.project(training).std(axis=0)
    return lambda values: seen.project(scaled(values, cells)) / width


def gene_space(
    subject: Subject, view: Callable[[np.ndarray], np.ndarray], before: float, plan: dict[str, Any], progress: bool
) -> float:
    """Distance of cells pushed by a landscape in two components, learned and scored as in `hsmm_landscape`,
    without its tilt of the first day and its prior."""
    scene, cells = companion(__file__, "hsmm_landscape"), subject.cells
    points, held = view(cells.training), view(cells.held)
    place = box(points.min(axis=0) - 0.5, points.max(axis=0) + 0.5)
    field, _ = scene.learned(points, cells.hours, place, plan["landscape"], progress, early=False)
    near = cells.hours == before
    both = np.concatenate([points[near], held])
    when = np.concatenate([cells.hours[near], np.full(len(held), subject.time)])
    pairs, _ = pairs_of(scene.populations(both, when, early=False), field.table, cells=300, steps=20, seed=1)
    return apart(np.asarray(jax.jit(push_pairs)(resolve(field), pairs).cells)[0], held)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Energy distance without pairs of a cell with itself."""
    return float(Energy(unbiased=True)(jnp.asarray(one), jnp.asarray(other)).value)


@styled
def picture(panels: list[Panel]) -> np.ndarray:
    """Cells left out and predicted, distances, and scores."""
    axes = new_panels(len(panels), 3, (15.0, 4.4 * len(panels)))
    for (left, middle, right), panel in zip(np.reshape(axes, (-1, 3)), panels, strict=True):
        time = f"{panel.subject.time:g} h"
        left.plot(*panel.seen.T, "o", ms=3, color=INK, label="measured, left out")
        left.plot(*panel.predicted.T, "o", ms=3, color=RED, alpha=0.6, label="predicted by the latent model")
        left.set(xlabel="PC1 (spreads of training cells)", ylabel="PC2 (spreads of training cells)")
        left.set_title(f"{panel.subject.name} at {time}")
        left.legend(loc="best")
        names = list(panel.distances)
        middle.barh(names, list(panel.distances.values()), color=[BLUE] + [GREY] * (len(names) - 1))
        middle.invert_yaxis()
        middle.set(xlabel="energy distance to the cells left out, two components")
        middle.set_title(f"{time} predicted from the time before")
        bins = np.linspace(*np.quantile(np.concatenate([panel.inside, panel.outside]), [0.0, 0.98]), 30)
        for scores, colour, label in (
            (panel.inside, INK, f"same cells, {time}"),
            (panel.outside, RED, "other tissues"),
        ):
            share = np.full(len(scores), 1.0 / len(scores))
            right.hist(np.minimum(scores, bins[-1]), bins, weights=share, color=colour, alpha=0.6, label=label)
        right.set(xlabel="out-of-domain score (last bin: and above)", ylabel="share of cells")
        right.set_title("cells of other tissues, depth matched")
        right.legend(loc="best")
    return axes


if __name__ == "__main__":
    raise SystemExit(main(__file__))
