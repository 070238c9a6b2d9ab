"""`pinnsim evaluate`: a fitted model against conditions that it was not fitted to, beside baselines and controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinnsim.cli.arguments import ConfigFile, check_folder, read_project
from pinnsim.cli.fit import MODEL, PROJECT
from pinnsim.cli.output import AsJson, speak_to
from pinnsim.cli.scored import EVALUATE, write_scores
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.session import start

if TYPE_CHECKING:
    import numpy as np

    from pinnsim.data import Dataset
    from pinnsim.formats.bundle import Bundle
    from pinnsim.project import Project
    from pinnsim.score import Entry, Split

FitFolder = Annotated[Path, typer.Argument(metavar="FIT", help="The folder that 'pinnsim fit' wrote.")]
_SHUFFLED_GENES = "shuffled genes"


def evaluate(
    fit: FitFolder,
    config: ConfigFile,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A condition to predict; repeat.", show_default="all that were not fitted"),
    ] = None,
    shuffles: Annotated[int, typer.Option(min=0, max=10_000, help="Draws of the control 'shuffled genes'.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of these draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where results go (FIT if not given).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a fitted model on conditions that it has not seen.

    Each is predicted from its own first sample alone and compared with what was measured afterwards, beside every
    baseline (fitted to the same conditions as the model) and two controls: the model before its fit, and its predicted
    changes given to other genes. A condition that was fitted is refused: it would test memory. Nothing is fitted here;
    'pinnsim score' fits every split anew, with shuffled networks as controls. Writes evaluation.json, evaluation.csv
    and evaluation_bars.png.

    \b
    Examples:
      pinnsim fit project.toml --out fitted --without heat
      pinnsim evaluate fitted project.toml
      pinnsim evaluate fitted next_month.toml --condition cold --json
    """
    start()
    speak_to(as_json)
    bundle, fitted = read_fit(fit)
    held = read_project(config)
    folder = fit if out is None else out
    check_folder(folder)
    train, test = _parts(bundle, fitted, held, condition or [], config)
    from pinnsim.score import baseline_entries, score_table, standard_baselines

    plan = fitted.config.score
    baselines = standard_baselines(test.time_unit, plan.late, plan.relaxation)
    entries: list[Entry] = []
    for split in _splits(train, test):
        entries += [*_model_entries(bundle, fitted, split, shuffles, seed), *baseline_entries(split, baselines)]
    name = held.config.data.name or ""
    table = score_table(entries, unit=test.scale, data=name, simulated=test.simulated)
    write_scores(
        EVALUATE,
        folder,
        table,
        held,
        fitted.config.fit.seed,
        model=fit / MODEL,
        fitted=list(train.conditions),
        predicted=list(test.conditions),
    )


def read_fit(folder: Path) -> "tuple[Bundle, Project]":
    """The model that a fit left, and the project that it was fitted to. **Raises** `E_CKPT_MISSING`; `E_CKPT_MODEL`
    where the data have changed since."""
    from pinnsim.formats.bundle import load_model
    from pinnsim.project import load_project

    if not (folder / PROJECT).is_file() or not (folder / MODEL).is_dir():
        near = "; give the folder above" if folder.name == MODEL and (folder.parent / PROJECT).is_file() else ""
        raise PinnsimError.of(
            "E_CKPT_MISSING", f"'{folder}' holds no fit of a project of tables ({MODEL}, {PROJECT}){near}."
        )
    with Problems() as problems:
        bundle = problems.attempt(lambda: load_model(folder / MODEL))
        project = problems.attempt(lambda: load_project(folder / PROJECT))
    if bundle.data_digest and bundle.data_digest != project.dataset.digest():
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"the data that '{folder / PROJECT}' names are no longer those of the fit (their sha256 differs), so that "
            "what it has seen is unknown; fit again.",
        )
    return bundle, project


def _parts(
    bundle: "Bundle", fitted: "Project", held: "Project", asked: list[str], config: Path
) -> "tuple[Dataset, Dataset]":
    """What was fitted, and what is predicted, both one replicate and of the model's genes."""
    train, test, genes = _one(fitted.dataset), _one(held.dataset), bundle.network.genes
    unseen = [name for name in test.conditions if name not in train.conditions]
    with Problems() as problems:
        for name in asked:
            if name not in test.conditions:
                near = did_you_mean(name, test.conditions)
                there = first(test.conditions, 6)
                problems.add("E_CONDITION_UNKNOWN", f"no condition '{name}'{near} in '{config}'; there are {there}.")
        seen = [name for name in asked if name in train.conditions]
        if seen or not (asked or unseen):
            what = f"condition {first(seen)} was" if seen else f"all conditions of '{config}' were"
            problems.add(
                "E_SPLIT_LEAK",
                f"{what} fitted, so that a score would test memory; leave one out of the fit (pinnsim fit --without "
                "NAME), or let 'pinnsim score' fit every split.",
            )
        if test.time_unit != bundle.config.time_unit:
            problems.add("E_TIME_UNIT", f"'{config}' counts time in {test.time_unit}, the model in {train.time_unit}.")
        if test.scale != train.scale:
            problems.add("E_SCALE_MISMATCH", f"'{config}' has values on scale {test.scale}, the fit on {train.scale}.")
        lacking = [gene for gene in genes if gene not in test.genes]
        if lacking:
            problems.add("E_GENE_UNMATCHED", f"'{config}' lacks {len(lacking)} genes of the model ({first(lacking)}).")
    return train.select(genes=genes), test.select(conditions=asked or unseen, genes=genes)


def _one(dataset: "Dataset") -> "Dataset":
    return dataset if len(dataset.replicates) == 1 else dataset.mean()


def _splits(train: "Dataset", test: "Dataset") -> "list[Split]":
    """One per predicted condition. **Raises** `E_SPLIT_LEAK`."""
    from pinnsim.score import Split

    seen = " + ".join(train.conditions) if len(train.conditions) < 4 else f"{len(train.conditions)} conditions"
    return [Split(f"{seen} -> {name}", train, test.select(conditions=[name])) for name in test.conditions]


def _model_entries(bundle: "Bundle", fitted: "Project", split: "Split", shuffles: int, seed: int) -> "list[Entry]":
    """The model and its controls."""
    import numpy as np

    from pinnsim.fit import cultures, predict_cultures
    from pinnsim.fit.evaluate import PRIOR_ONLY, REAL
    from pinnsim.model import build
    from pinnsim.score import Entry, arms, compare
    from pinnsim.tree import stack

    plan, truth = fitted.config.fit, arms(split.test)[0]
    data = cultures(split.test, bundle.ensemble.table, substeps=plan.substeps)
    center = build(bundle.config, bundle.network, bundle.prior).center
    count = len(truth.times)
    shown = predict_cultures(bundle.ensemble, data, plan)[:, 0, :count].mean(axis=0)
    unfitted = predict_cultures(stack([center] * (bundle.members or 1)), data, plan)[0, 0, :count]
    if not np.isfinite(shown).all():
        raise PinnsimError.of("E_SOLVER", f"'{split.name}' could not be solved by every member of the model.")
    entries = [
        Entry.of(REAL, "model", split.name, compare(shown, truth)),
        Entry.of(PRIOR_ONLY, "control", split.name, compare(unfitted, truth)),
    ]
    if shuffles and shown.shape[1] > 1:
        rng = np.random.default_rng(seed)
        others = [compare(_reassigned(shown, rng), truth) for _ in range(shuffles)]
        entries.append(Entry.of(_SHUFFLED_GENES, "control", split.name, others))
    return entries


def _reassigned(shown: "np.ndarray", rng: "np.random.Generator") -> "np.ndarray":
    """Every gene from its own first value, with the predicted change of another one."""
    genes = rng.permutation(shown.shape[1])
    # A cycle through all genes leaves none with its own.
    other = genes[(genes.argsort() + 1) % len(genes)]
    return shown[:1] + (shown - shown[:1])[:, other]
