"""`pinnsim score`: how well a project's model predicts what it did not see, beside every baseline and control."""

from typing import TYPE_CHECKING, Annotated

import typer

from pinnsim.cli.arguments import ConfigFile, OutFolder, ProgressBar, check_folder, read_project
from pinnsim.cli.output import AsJson, speak_to
from pinnsim.cli.scored import SCORE, write_scores
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.data import Dataset
    from pinnsim.project import Project
    from pinnsim.score import ScoreTable


def score(
    config: ConfigFile,
    out: OutFolder,
    shuffles: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Shuffled-network controls, instead of the file's.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Score a project's model on what it did not see.

    With two or more conditions each is predicted, from its first sample alone, by a model fitted to another one, beside
    all baselines, an unfitted model and models with shuffled networks. With one condition the time blocks of [score]
    are held out in turn. Writes scores.json, scores.csv and score_bars.png, and says in plain words who won.

    \b
    Examples:
      pinnsim score project.toml --out scored
      pinnsim score project.toml --out scored --shuffles 20

    \b
    In the project file, times in the data's unit:
      [score]
      shuffles = 5
      late = 60                   # from when on a culture counts as settled
      relaxation = 20             # time constant of the common baseline
      blocks = [[25, 45]]         # held out, where there is one condition
    """
    start()
    speak_to(as_json)
    project = read_project(config)
    check_folder(out)
    dataset = project.dataset if len(project.dataset.replicates) == 1 else project.dataset.mean()
    if len(dataset.conditions) > 1:
        count = project.config.score.shuffles if shuffles is None else shuffles
        table, sentences = _across_conditions(project, dataset, count, progress)
    else:
        table, sentences = _across_blocks(project, dataset, progress)
    unused = "note: [score.candidates] was not used; the configuration was scored as the file gives it."
    notes = [*sentences, *([unused] if project.config.score.candidates else [])]
    write_scores(SCORE, out, table, project, project.config.fit.seed, notes, coverage=sentences)


def _across_conditions(
    project: "Project", dataset: "Dataset", shuffles: int, progress: bool
) -> tuple["ScoreTable", list[str]]:
    from pinnsim.fit.evaluate import REAL, cross_condition
    from pinnsim.judge import coverage, judge, neural_part

    plan = project.config
    if shuffles:
        try:
            project.network.shuffled(1)
        except PinnsimError as error:
            typer.echo(f"note: scored without a shuffled-network control. {error.problems[0].message}", err=True)
            shuffles = 0
    neural = plan.model.residual.kind != "none"
    evaluation = cross_condition(
        plan.model,
        project.network,
        project.prior,
        dataset,
        plan.fit,
        shuffles=shuffles,
        physics=neural,
        progress=progress,
    )
    name = plan.data.name or ""
    table = judge(evaluation, dataset, late=plan.score.late, relaxation=plan.score.relaxation, name=name)
    held = coverage(evaluation, [p for p in evaluation.predictions if p.variant == REAL])
    trial = neural_part(evaluation, dataset, plan.fit, progress=progress) if neural else ()
    return table, [*held.sentences(), *(part.sentence() for part in trial)]


def _across_blocks(project: "Project", dataset: "Dataset", progress: bool) -> tuple["ScoreTable", list[str]]:
    """Every block is predicted by a model that was fitted to the other times, as the baselines are."""
    from pinnsim.fit.evaluate import REAL, held_out_blocks
    from pinnsim.score import (
        Arm,
        Entry,
        arms,
        baseline_entries,
        by_time_blocks,
        compare,
        score_table,
        standard_baselines,
    )

    plan = project.config
    if not plan.score.blocks:
        message = "with one condition, [score] needs the time blocks to hold out, for example blocks = [[25, 45]]."
        raise PinnsimError.of("E_CONFIG_VALUE", message)
    splits = by_time_blocks(dataset, plan.score.blocks)
    baselines = standard_baselines(dataset.time_unit, plan.score.late, plan.score.relaxation)
    found = held_out_blocks(
        plan.model, project.network, project.prior, dataset, plan.fit, plan.score.blocks, progress=progress
    )
    entries: list[Entry] = []
    for split, prediction in zip(splits, found, strict=True):
        known, held = arms(split.train)[0], arms(split.test)[0]
        truth = Arm(held.name, held.times, held.values, held.mask & known.mask[0])
        scored = compare(prediction.mean, truth, start=known.values[0])
        entries += [Entry.of(REAL, "model", split.name, scored), *baseline_entries(split, baselines)]
    table = score_table(entries, unit=dataset.scale, data=plan.data.name or "", simulated=dataset.simulated)
    return table, []
