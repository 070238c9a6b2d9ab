"""The demonstration: the main job, end to end, on real measurements.

Reads the embedded carbon-shift time courses, fits a constrained model to one arm and predicts the
other (and the reverse), prints the score beside every baseline and control, then perturbs a model of both arms:
knock-outs, a pulse that is withdrawn, and the landscape with its attractors. Everything it shows it also writes.
"""

import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from rich.console import Console

from pinnsim import shelf
from pinnsim.data.carbon_shift import CAVEATS
from pinnsim.fit import Evaluation, cross_condition, cultures, fitted_courses
from pinnsim.fit.effects import with_effects_at_rest
from pinnsim.fit.evaluate import ALL, REAL
from pinnsim.fit.identify import edge_strengths
from pinnsim.formats.bundle import save_model
from pinnsim.formats.simulation import save_simulation
from pinnsim.judge import coverage, judge
from pinnsim.landscape import Attractors, find_attractors, principal_components
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.plot import (
    Course,
    Mark,
    fit_panels,
    knockout_heatmap,
    landscape_2d,
    prior_posterior,
    pulse_panel,
    save,
    score_bars,
)
from pinnsim.project import Project, ScorePlan, load_project
from pinnsim.report import Report, add_course, add_coverage, add_genes, add_network, coverage_of
from pinnsim.score import ScoreTable
from pinnsim.simulate import AtRest, FromSample, Simulation, simulate
from pinnsim.treatment import Treatment
from pinnsim.tree import lane

_PROJECT = "carbon_shift"
_REST = {"glc_mal": "signal(glucose)=1", "mal_glc": "signal(malate)=1"}
_BOTH = "signal(glucose)=1, signal(malate)=1"
_LATE = ", signal(late)=1"
_PULSE = (0.0, 10.0)
_BACK = 0.27  # log2: the standard error of a mean of three arrays; closer than this, no experiment could tell
_TIMES = np.linspace(0.0, 150.0, 76)
_MIXED = 5  # starts between the two cultures, to show the flow


@dataclasses.dataclass
class Demo:
    """What the stages of the demonstration share: where it writes, what it fits, and how it speaks."""

    out: Path
    project: Project
    console: Console
    progress: bool
    report: Report
    starts: int
    told: list[str] = dataclasses.field(default_factory=list)

    def show(self, picture: Axes | list[Axes], name: str, caption: str) -> None:
        """Saves a picture and puts it into the report."""
        path = save(picture, self.out / f"{name}.png")
        self.report.picture(path, caption)


def run_demo(out: Path, smoke: bool = False, progress: bool = True) -> None:
    """Runs the whole demonstration and writes `report.html`, pictures, the model bundle, simulations and `scores.json`.

    **Arguments:** `out`: a folder, made when absent; `smoke`: tiny fits, to see that everything works (its numbers mean
    nothing); `progress`: bars on the terminal.
    """
    began = time.time()
    out.mkdir(parents=True, exist_ok=True)
    demo = _begin(out, smoke, progress)
    evaluation, table = _score(demo)
    models = _fitted(demo, evaluation)
    _knockouts(demo, models)
    courses = _courses(demo, models)
    _pulse(demo, courses)
    _landscape(demo, models, courses)
    demo.report.provenance(
        data=demo.project.dataset.source,
        caveats=CAVEATS,
        digest=demo.project.dataset.digest(),
        seeds=[demo.project.config.fit.seed],
    ).summary([*table.verdicts[:2], *demo.told])
    demo.report.write(out / "report.html")
    spent = time.time() - began
    scores = {**table.to_dict(), "seconds": round(spent, 1), "smoke": smoke}
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    demo.console.print(
        f"Done in {spent:.0f} s. Open [bold]{out / 'report.html'}[/bold]; next: pinnsim simulate {out / 'model'} --help"
    )


def _begin(out: Path, smoke: bool, progress: bool) -> Demo:
    project = load_project(shelf.experiment_path(_PROJECT).with_suffix(".toml"))
    # One start and few controls keep the demonstration short; experiments/carbon_shift.py runs the full protocol.
    fit = project.config.fit.model_copy(update={"starts": 1, "keep": 1, "trajectory_steps": 10})
    score = ScorePlan(shuffles=4, late=project.config.score.late, relaxation=project.config.score.relaxation)
    if smoke:
        fit, score = (
            fit.model_copy(update={"collocation_steps": 10, "trajectory_steps": 1}),
            score.model_copy(update={"shuffles": 1}),
        )
    project = dataclasses.replace(project, config=project.config.model_copy(update={"fit": fit, "score": score}))
    report = Report(
        "pinnsim: carbon shifts of Bacillus subtilis",
        "Fit one shift, predict the opposite one, perturb, and see where the cell goes",
    )
    demo = Demo(out, project, Console(), progress, report, 4 if smoke else 16)
    demo.console.rule("pinnsim demo: Bacillus subtilis between two sugars")
    demo.console.print(project.measured.describe(), highlight=False)
    for caveat in CAVEATS:
        demo.console.print(f"  caveat: {caveat}", highlight=False)
    counts = Counter(project.prior.source)
    for source, count in counts.items():
        demo.console.print(f"  half-life prior of {count} genes: {source}", highlight=False)
    if smoke:
        demo.console.print("[bold]SMOKE RUN: tiny fits, the numbers below mean nothing.[/bold]")
        report.section("Smoke run").text(
            "Tiny fits: this report shows that everything works; its numbers mean nothing."
        )
    treatments = dict(zip(project.dataset.conditions, map(str, project.dataset.treatments), strict=True))
    report.section("Data and coverage").text(f"{project.measured.describe().splitlines()[0]}.")
    size, unit = len(project.dataset.genes), project.dataset.time_unit
    add_coverage(report, coverage_of(project.measured), treatments, genes=size, time_unit=unit)
    return demo


def _score(demo: Demo) -> tuple[Evaluation, ScoreTable]:
    """Cross-arm prediction beside baselines and controls."""
    project = demo.project
    plan = project.config
    evaluation = cross_condition(
        plan.model,
        project.network,
        project.prior,
        project.dataset,
        plan.fit,
        shuffles=plan.score.shuffles,
        progress=demo.progress,
    )
    table = judge(
        evaluation, project.dataset, late=plan.score.late, relaxation=plan.score.relaxation, name="carbon shift"
    )
    real = [p for p in evaluation.predictions if p.variant == REAL]
    held = coverage(evaluation, real)
    for grid in table.to_rich():
        demo.console.print(grid)
    sentences = [*table.verdicts, *held.sentences()]
    for sentence in sentences:
        demo.console.print(sentence, markup=False, highlight=False)
    report = demo.report
    report.section("Honest score: one arm fitted, the other predicted from its first sample").verdicts(sentences)
    report.text(
        "RMSE over genes and all times after the first, log2 intensity. Skill is the reduction of RMSE against the "
        "best baseline."
    )
    shown = ["direction", "name", "kind", "rmse", "lo", "hi", "r_change", "skill", "skill_lo", "skill_hi"]
    report.table(
        table.to_frame()[shown].round(3), "Every baseline and control, with 95 % bootstrap intervals over genes."
    )
    demo.show(score_bars(table), "scores", "Error of the model, the baselines and the controls, both directions.")
    for p in real:
        caption = (
            f"Predicted, not fitted: {p.predicted}, from its first sample by a model that saw {p.fitted} only. Band: "
            "model and measurement error are not included, members only."
        )
        picture = fit_panels(
            project.measured,
            p.predicted,
            p.times,
            p.members,
            label="predicted from the first sample",
            title=f"{p.predicted}, predicted by a fit to {p.fitted}",
        )
        demo.show(picture, f"predicted_{p.predicted}", caption)
    return evaluation, table


def _fitted(demo: Demo, evaluation: Evaluation) -> CellModel:
    """The model of both arms, with the effects of each sugar read from the cultures at rest; saved as a bundle."""
    project, prior = demo.project, evaluation.prior
    data = cultures(project.dataset, prior.center.table, substeps=project.config.fit.substeps)
    models = with_effects_at_rest(evaluation.ensemble(ALL), prior, data)
    save_model(
        demo.out / "model",
        models,
        project.config.model,
        project.network,
        project.prior,
        data_digest=project.dataset.digest(),
    )
    gate = float(np.mean(np.asarray(resolve(models).kinetics.residual.gate)))
    rows = evaluation.fits.table
    demo.report.section("The fitted model").text(
        f"Fitted to both arms: {project.config.model.layers} layers, {len(project.network.edges)} signed edges from "
        f"{len(project.network.regulators)} regulators, hidden activities of all regulators. Residual gate: {gate:.2f} "
        "(0: no neural correction is used; what was learned are rates)."
    )
    terms = ["objective", "data", "kinetics", "network", "hidden", "outcome"]
    demo.report.table(rows[[c for c in terms if c in rows]].round(1), "Objective of every fit, nats, by named terms.")
    decay = np.asarray(resolve(models).kinetics.decay)
    rate = project.prior.rate
    picture = prior_posterior(
        project.dataset.genes,
        np.log(2) / decay,
        np.log(2) / np.asarray(rate.median),
        np.asarray(rate.log_sd),
        time_unit="min",
    )
    demo.show(picture, "half_lives", "mRNA half-lives: fitted values against the prior that each gene got.")
    _fit_in_detail(demo, evaluation, models)
    by_source = project.prior.report().groupby("source", as_index=False)
    demo.report.table(
        by_source.agg(genes=("gene", "count"), half_life_min=("half_life", "median")), "Which prior the genes got."
    )
    return models


def _fit_in_detail(demo: Demo, evaluation: Evaluation, models: CellModel) -> None:
    """Every gene's fit, the course of the objective, and the network with its fitted strengths."""
    project, report, table = demo.project, demo.report, models.table
    data = cultures(project.dataset, table, substeps=project.config.fit.substeps)
    fitted = fitted_courses(models, data, project.dataset, project.config.fit)
    source = f"the measurement's error and {fitted.members} kept start(s): too narrow by themselves"
    demo.told += add_genes(report, fitted.table, source, time_unit="min", scale="log2")
    course = evaluation.fits.course
    report.part("Training")
    add_course(report, course[course["group"] == evaluation.problems.index((ALL, 0))])
    strength = np.asarray(edge_strengths(resolve(lane(models, 0)).kinetics.promoter, len(table.edges)))
    names = [edge.partition("->") for edge in table.edges]
    order = np.argsort(-np.abs(strength), kind="stable")
    edges = {"source": [names[k][0] for k in order], "target": [names[k][2] for k in order]}
    report.part("Network")
    add_network(report, pd.DataFrame({**edges, "strength": strength[order]}), "fitted strengths, strongest first")
    report.absent(
        "Which rates the data identify was not computed, to keep the demonstration short.",
        "pinnsim fit project.toml --out fitted",
    )


def _knockouts(demo: Demo, models: CellModel) -> None:
    """Knock-outs of the main regulators in cultures at rest on glucose."""
    model, network = lane(models, 0), demo.project.network
    targets = Counter(network.regulators[s] for s in np.asarray(network.source))
    chosen = ["ccpA", "ccpN"] + [name for name, _ in targets.most_common() if name not in ("ccpA", "ccpN")][:6]
    treatments = [f"{_REST['glc_mal']}", *(f"{_REST['glc_mal']}, {name}=0" for name in chosen)]
    result = simulate(model, _TIMES[:2], treatments, initial=AtRest()).raise_failures()
    save_simulation(demo.out / "knockouts.zarr", result.to_xarray())
    readings = np.asarray(result.readings)[:, 0]
    changes = readings[1:] - readings[0]
    top = pd.DataFrame(
        [
            {"knock-out": name, "most changed": _largest(row, model.table.genes, name)}
            for name, row in zip(chosen, changes, strict=True)
        ]
    )
    demo.console.print("Knock-outs at rest on glucose, largest changes (log2, simulated):", highlight=False)
    for _, row in top.iterrows():
        demo.console.print(f"  {row['knock-out']:6s} {row['most changed']}", highlight=False)
    demo.report.section("Knock-outs of the main regulators (simulated)").table(
        top, "Largest changes at rest on glucose, log2; the removed gene itself is left out."
    )
    demo.show(
        knockout_heatmap(changes, chosen, model.table.genes),
        "knockouts",
        "Change of expression at rest on glucose after each knock-out, simulated.",
    )


def _courses(demo: Demo, models: CellModel) -> Simulation:
    """Every course drawn, as lanes of one program: a pulse, the same malate left on, both arms, mixed starts."""
    dataset = demo.project.dataset
    rest, (start, stop) = _REST["glc_mal"], _PULSE
    samples = np.asarray(dataset.values)[:, 0, 0]
    glucose = samples[dataset.conditions.index("glc_mal")]
    pulses = [f"{rest}, signal(malate)=1@{start:g}:{stop:g}", f"{rest}, signal(malate)=1@{start:g}:"]
    mixed = samples[0] + np.linspace(0, 1, _MIXED + 2)[1:-1, None] * (samples[1] - samples[0])
    treatments: list[Treatment | str] = [*pulses, *dataset.treatments, *[_BOTH] * _MIXED]
    first = [glucose, glucose, *samples, *mixed]
    initial = [FromSample(jnp.asarray(sample)) for sample in first]
    result = simulate(lane(models, 0), _TIMES, treatments, initial=initial).raise_failures()
    save_simulation(demo.out / "courses.zarr", result.to_xarray())
    return result


def _pulse(demo: Demo, result: Simulation) -> None:
    """Malate for ten minutes, then withdrawn: does the cell come back?"""
    project, (start, stop) = demo.project, _PULSE
    changes = np.asarray(result.readings)[:2] - np.asarray(result.readings)[:2, :1]
    distance = np.sqrt((changes**2).mean(axis=-1))
    farthest, left = distance[0].max(), distance[0, -1]
    back = _TIMES[np.flatnonzero(distance[0] > _BACK)[-1]] if (distance[0] > _BACK).any() else 0.0
    verdict = "comes back" if left < _BACK else "does not come back"
    text = (
        f"A malate pulse of {stop - start:g} min moves the culture {farthest:.2f} log2 (rms) from rest; after it is "
        f"withdrawn the cell {verdict}: {left:.2f} log2 away at {_TIMES[-1]:g} min, below the measurement's error of "
        f"{_BACK} log2 from {back:.0f} min on. Left on, it ends {distance[1, -1]:.2f} away."
    )
    demo.console.print(text, highlight=False)
    moved = np.argsort(-np.abs(changes[0]).max(axis=0))[:5]
    shown = {project.dataset.genes[g]: changes[0, :, g] for g in moved}
    demo.report.section("A pulse that is withdrawn (simulated)").text(text)
    picture = pulse_panel(
        _TIMES, distance[0], shown, _PULSE, signal="malate", time_unit="min", threshold=_BACK, simulated=True
    )
    demo.show(
        picture,
        "pulse",
        "Malate for ten minutes on a glucose culture: distance from rest, and the genes that moved most.",
    )


def _landscape(demo: Demo, models: CellModel, result: Simulation) -> None:
    """The two-valley picture: both arms flow into one attractor."""
    project, model = demo.project, lane(models, 0)
    arms = range(2, 2 + len(project.dataset.conditions))
    rests = np.asarray(result.states)[list(arms), 0]
    courses = [
        Course(condition, times, measured[0], np.asarray(result.readings)[k][None])
        for condition, times, measured, k in zip(
            project.dataset.conditions, project.dataset.times, project.dataset.values, arms, strict=True
        )
    ]
    media = {"glucose": _REST["glc_mal"], "malate": _REST["mal_glc"], "both sugars": _BOTH, "both, late": _BOTH + _LATE}
    found = {
        name: find_attractors(model, medium, starts=demo.starts, states=rests, probes=0)
        for name, medium in media.items()
    }
    readout = eqx.filter_vmap(resolve(model).observation.readout)
    marks, rows = [], []
    for name, attractors in found.items():
        demo.console.print(f"Landscape under {name}: {attractors.describe()}", highlight=False)
        rows.append(attractors.table().assign(medium=name))
        shown = np.asarray(readout(model.kinetics.layer(jnp.asarray(attractors.states), "rna")))
        marks += [Mark(name, reading, kind) for reading, kind in zip(shown, attractors.stability, strict=True)]
    samples_of_both = np.concatenate([course.measured for course in courses if course.measured is not None])
    projection = principal_components(samples_of_both, project.dataset.genes)
    demo.report.section("Landscape: where the cells go").text(_story(found))
    demo.report.table(
        pd.concat(rows)[["medium", *[c for c in rows[0] if c != "medium"]]].round(4),
        "Fixed points from many starts, with stability from the Jacobian's eigenvalues.",
    )
    picture = landscape_2d(
        projection,
        courses,
        marks,
        flow=np.asarray(result.readings)[-_MIXED:],
        time_unit="min",
        labelled_times=(5, 25, 60, 150),
        title="Two valleys, one attractor: both arms end together",
    )
    demo.show(
        picture,
        "landscape",
        "Expression in two principal components: measured arms, the model's courses, courses from mixed starts, and "
        "fixed points.",
    )


def _story(found: dict[str, Attractors]) -> str:
    told = " ".join(f"Under {name}: {attractors.describe()}" for name, attractors in found.items())
    return f"{told} The valleys belong to different media: each medium has its own, and both arms end in that of both."


def _largest(row: np.ndarray, genes: tuple[str, ...], own: str) -> str:
    """The five most changed genes but one, with their changes."""
    order = [int(g) for g in np.argsort(-np.abs(row)) if genes[g] != own]
    return ", ".join(f"{genes[g]} {row[g]:+.1f}" for g in order[:5])
