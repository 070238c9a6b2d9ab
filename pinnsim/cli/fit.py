"""`pinnsim fit`: a project file in, a model bundle with everything that its reader should know out."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import ConfigFile, OutFolder, ProgressBar, check_folder, is_cells, read_project
from pinnsim.cli.cells import fit_cells
from pinnsim.cli.output import (
    AsJson,
    answer,
    describe_data,
    project_copy,
    records,
    show_table,
    speak_to,
    tell,
    to_json,
    write_files,
)
from pinnsim.cli.problem import fit_problem, is_problem
from pinnsim.errors import PinnsimError
from pinnsim.session import start, versions

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.fit import Cultures, FitResult, Fitted, Laplace
    from pinnsim.model import CellModel, ModelPrior
    from pinnsim.project import Project

MODEL, SUMMARY, STARTS, PRIOR, PROJECT = "model", "fit.json", "fit.csv", "prior.csv", "project.toml"
RATES, EDGES, PROPOSED = "rates.csv", "edges.csv", "proposed_edges.csv"
COURSE, FITTED = "course.csv", "fitted.csv"
_CHECKPOINT = "checkpoint"
_MOST_PICTURES = 6
_DRAWS = 24  # of the posterior, for intervals of fitted courses


def fit(
    config: ConfigFile,
    out: OutFolder,
    starts: Annotated[
        int | None, typer.Option(min=1, help="Starts, instead of the file's.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the file's.", show_default=False)] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="NAME", help="A condition to leave out, for 'evaluate'; repeat for more."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever checkpoint is in DIR.")] = False,
    uncertainty: Annotated[
        bool, typer.Option(help="Say of every rate how sure it is (a solve per rate of the model).")
    ] = True,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Fit a model to time courses, as a project file says; or the parameters of a PEtab problem (.yaml).

    Writes the model bundle (DIR/model), what became of every start (fit.csv), which gene got which prior (prior.csv),
    every rate with its interval and whether the data identify it (rates.csv), edges ranked (edges.csv; with an
    attention residual also what it made of each), unlisted edges that the data ask for (proposed_edges.csv), the terms
    of the objective (fit.json) and its course over steps (course.csv), measured and fitted readings with intervals
    (fitted.csv), the complete configuration (project.toml) and pictures. Ctrl-C keeps the best so far; the same command
    goes on where it stopped.

    Of a PEtab problem: the problem with fitted numbers (DIR/problem), its parameters, starts and simulation as tables,
    a picture and fit.json. Starts (20 unless told) are drawn between the bounds; priors do not enter.

    \b
    Examples:
      pinnsim fit project.toml --out fitted
      pinnsim fit project.toml --out fitted --starts 8 --seed 1
      pinnsim fit project.toml --out fitted --without heat
      pinnsim fit project.toml --out fitted --no-progress > fit.log
      pinnsim fit problem.yaml --out fitted --starts 20

    \b
    The shortest project file, for an embedded data set:
      [data]
      name = "bsubtilis_carbon_shift"
      [prior]
      organism = "B. subtilis"
      [model]
      inputs = [{ name = "glucose" }, { name = "malate" }]
      [model.readout]
      kind = "array"

    \b
    For a table with a reading per row; times in hours, units are never guessed:
      [data]
      tidy = "readings.csv"
      gene = "gene"
      value = "value"
      time = "time"
      condition = "condition"
      time_unit = "h"
      scale = "log2"
      [treatments]
      heat = "signal(heat)=1@0:"
      [network]
      path = "network.csv"
      [prior]
      half_lives = "half_lives.csv"
      [model]
      time_unit = "h"
      inputs = [{ name = "heat" }]

    \b
    For a genes x samples matrix with a table of samples:
      [data]
      wide = "expression.csv"
      samples = "samples.csv"
      time = "time"
      condition = "condition"
      time_unit = "min"
      scale = "log2"
    """
    start()
    speak_to(as_json)
    if is_problem(config):
        fit_problem(config, out, starts=starts, seed=seed, without=without or [], progress=progress)
        return
    if is_cells(config):
        fit_cells(config, out, starts=starts, seed=seed, without=without or [], progress=progress)
        return
    project = read_project(config, without or [], starts=starts, seed=seed)
    check_folder(out)
    from pinnsim.fit import cultures, fitted_courses
    from pinnsim.fit.effects import with_effects_at_rest
    from pinnsim.formats.bundle import save_model
    from pinnsim.model import build

    tell(project.measured.describe())
    _show_prior(project)
    for note in project.notes:
        tell(f"Not in the file, so chosen: {note}.")
    prior = build(project.config.model, project.network, project.prior)
    result = _fitted(prior, project, out / _CHECKPOINT, restart, progress)
    models = result.ensemble()
    data = cultures(project.dataset, prior.center.table, substeps=project.config.fit.substeps)
    wanted = uncertainty and not result.interrupted
    sure, posterior = _certainty(result, prior, data, project, progress) if wanted else ({}, None)
    draws = None if posterior is None else _drawn(posterior, project.config.fit.seed)
    if project.config.model.inputs:
        models = with_effects_at_rest(models, prior, data)
        draws = None if draws is None else with_effects_at_rest(draws, prior, data)
    fitted = fitted_courses(models, data, project.dataset, project.config.fit, draws=draws)
    summary = _summary(project, result, models, config)
    summary["intervals"] = {"from": "members" if draws is None else "posterior", "members": fitted.members}
    files: dict[str, bytes | str] = {
        SUMMARY: to_json(summary),
        STARTS: result.table.to_csv(index=False),
        PRIOR: project.prior.report().to_csv(index=False),
        PROJECT: project_copy(project, config, out),
        COURSE: result.course.to_csv(index=False, float_format="%.8g"),
        FITTED: fitted.table.to_csv(index=False, float_format="%.6g"),
        **sure,
        **_pictures(project, models, fitted),
    }
    notes = {name: summary["data"][name] for name in ("source", "conditions", "times", "simulated")}
    save_model(
        out / MODEL,
        models,
        project.config.model,
        project.network,
        project.prior,
        data_digest=project.dataset.digest(),
        notes=notes,
    )
    for name in {RATES, EDGES, PROPOSED} - set(files):
        (out / name).unlink(missing_ok=True)  # of an earlier fit: they would be taken for this one's
    write_files(out, files)
    _show(result, summary, out)
    answer({**summary, "out": out, "starts": records(result.table)})
    if result.interrupted:
        typer.echo("Interrupted: what was saved is the best so far; the same command goes on from here.", err=True)
        raise typer.Exit(130)
    shutil.rmtree(out / _CHECKPOINT, ignore_errors=True)


def _fitted(prior: "ModelPrior", project: "Project", checkpoint: Path, restart: bool, progress: bool) -> "FitResult":
    from pinnsim.fit import fit as run_fit

    if restart:
        shutil.rmtree(checkpoint, ignore_errors=True)
    try:
        return run_fit(
            prior, project.dataset, project.config.fit, progress=progress, checkpoint=checkpoint / "fit", label="fit"
        )
    except PinnsimError as error:
        if error.codes != ("E_CKPT_MODEL",):
            raise
        message = f"'{checkpoint.parent}' holds an unfinished fit of something else (data, model or plan differ)"
        raise PinnsimError.of("E_CKPT_MODEL", f"{message}; choose another --out, or add --restart.") from error


def _certainty(
    result: "FitResult", prior: "ModelPrior", data: "Cultures", project: "Project", progress: bool
) -> "tuple[dict[str, str], Laplace | None]":
    """Tables of rates and edges of the best start, on screen how many of them the data identify, and the posterior."""
    from pinnsim.fit import attention_table, edge_table, laplace, propose_edges, rate_table, verdict_counts

    try:
        posterior = laplace(result.best(), prior, data, project.config.fit, progress=progress)
        asked = propose_edges(result.best(), prior, data, project.config.fit) if project.network.edges else None
    except KeyboardInterrupt:
        typer.echo(f"Interrupted: the fit is kept, without {RATES}, {EDGES} and {PROPOSED}.", err=True)
        return {}, None
    rates = rate_table(posterior)
    counts = verdict_counts(rates)
    show_table("What the data identify (90 % intervals: rates.csv)", tuple(counts.columns), counts.to_numpy().tolist())
    tell(f"The data determine {posterior.determined:.0f} of {len(rates)} free numbers; the rest is prior.")
    files = {RATES: rates.to_csv(index=False)}
    if asked is None:
        return files, posterior
    tell(f"Edges that the network lacks and the data ask for (false-discovery rate 5 %): {asked['proposed'].sum()}.")
    edges = edge_table(posterior)
    if project.config.model.residual.kind == "attention":
        edges = with_attention(edges, attention_table(result.best(), data, project.config.fit))
    return files | {EDGES: edges.to_csv(index=False), PROPOSED: asked.to_csv(index=False)}, posterior


def _drawn(posterior: "Laplace", seed: int) -> "CellModel":
    import jax

    return posterior.sample(jax.random.key(seed), _DRAWS)


def with_attention(edges: "pd.DataFrame", attended: "pd.DataFrame") -> "pd.DataFrame":
    """The ranked edges with what attention made of each, by the edge's two names; the sign is that of `strength`."""
    found = attended.drop(columns="sign")
    return edges.merge(found, on=["source", "target"], how="left", validate="one_to_one")


def _summary(project: "Project", result: "FitResult", models: "CellModel", config: Path) -> dict[str, Any]:
    from collections import Counter

    import numpy as np

    from pinnsim.parameter import resolve

    return {
        "made_by": "pinnsim fit",
        "project": config.name,
        "data": describe_data(project),
        "model": {
            "layers": list(project.config.model.layers),
            "genes": len(project.network.genes),
            "edges": len(project.network.edges),
            "regulators": len(project.network.regulators),
            "residual": project.config.model.residual.kind,
        },
        "objective": result.value.tolist(),
        "terms": {name: values.tolist() for name, values in result.terms.items()},
        "gate": float(np.mean(np.asarray(resolve(models).kinetics.residual.gate))),
        "outcomes": dict(Counter(result.table["outcome"])),
        "interrupted": result.interrupted,
        "priors": dict(Counter(project.prior.source)),
        "seed": project.config.fit.seed,
        "plan": project.config.fit.model_dump(mode="json"),
        "versions": versions(),
    }


def _pictures(project: "Project", models: "CellModel", fitted: "Fitted") -> dict[str, bytes | str]:
    """The fitted courses of each condition, and half-lives beside their priors."""
    import numpy as np

    from pinnsim.fit.cultures import measured_cultures
    from pinnsim.parameter import resolve
    from pinnsim.plot import fit_panels, prior_posterior
    from pinnsim.prior import half_life
    from pinnsim.report import png_bytes

    dataset, readings = project.dataset, fitted.courses
    owner = np.array([dataset.conditions[c] for c, _ in measured_cultures(dataset)])
    files: dict[str, bytes | str] = {}
    for number, condition in enumerate(dataset.conditions[:_MOST_PICTURES]):
        of = np.flatnonzero(owner == condition)
        length = int(dataset.length[number])
        courses = readings[:, of, :length].reshape(-1, length, len(dataset.genes))
        picture = fit_panels(
            project.measured,
            condition,
            dataset.times[number, :length],
            courses,
            label="fitted",
            title=f"{condition}: fitted",
        )
        files[f"fit_{_file_name(condition)}.png"] = png_bytes(picture)
    rate = project.prior.rate
    half_lives = prior_posterior(
        dataset.genes,
        half_life(np.asarray(resolve(models).kinetics.decay)),
        half_life(np.asarray(rate.median)),
        np.asarray(rate.log_sd),
        time_unit=project.config.model.time_unit,
        simulated=dataset.simulated,
    )
    files["half_lives.png"] = png_bytes(half_lives)
    return files


def _file_name(condition: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in condition)


def _show_prior(project: "Project") -> None:
    """Nothing is assumed silently: which genes got which half-life, and from where."""
    report = project.prior.report()
    unit = report["unit"].iloc[0]
    rows = [
        (source, len(part), " to ".join(dict.fromkeys(f"{end:.3g}" for end in (part.min(), part.max()))))
        for source, part in report.groupby("source", sort=False)["half_life"]
    ]
    show_table("Priors of decay: where the half-lives come from", ("source", "genes", f"half-life ({unit})"), rows)


def _show(result: "FitResult", summary: dict[str, Any], out: Path) -> None:
    low, high = summary["data"]["times"]
    more = [name for name in ("failure", "at bounds") if any(result.table[name])]
    rows = [
        (int(r["start"]), float(r["objective"]), r["outcome"], "yes" if r["kept"] else "no", *(r[k] for k in more))
        for r in result.table.to_dict("records")
    ]
    show_table("Starts", ("start", "objective (nats)", "outcome", "kept", *more), rows)
    for note in result.notes:
        tell(note)
    terms = [(name, float(values[0])) for name, values in result.terms.items()]
    show_table("Terms of the best start's objective", ("term", "nats"), terms)
    kind = summary["model"]["residual"]
    learned = "no residual: what was learned are rates" if kind == "none" else "0: physics alone, 1: residual at full"
    tell(f"Residual gate: {summary['gate']:.3g} ({learned})")
    tell(f"Model: {out / MODEL}")
    tell(f"Next: pinnsim simulate {out / MODEL} --times {low:g}:{high:g}:{(high - low) / 100:g} --out {out}/sim.zarr")
    tell(f"      pinnsim report {out}")
