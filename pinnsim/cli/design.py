"""`pinnsim design`: which experiment next, by how much it would tell about a fitted model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pinnsim.cli.arguments import ProgressBar, check_folder, read_times
from pinnsim.cli.evaluate import FitFolder, read_fit
from pinnsim.cli.output import AsJson, answer, records, show_table, speak_to, tell, to_json, write_files
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.design import Design
    from pinnsim.fit import Laplace
    from pinnsim.project import Project

RANKING, BATCH, SUMMARY, PICTURE = "design.csv", "batch.csv", "design.json", "design.png"
_SHOWN = ("treatment", "times", "genes", "replicates", "cost", "gain")
_PRICE = ("culture", "sample", "reading")


def design(
    fit: FitFolder,
    treatments: Annotated[
        list[str] | None,
        typer.Option(
            "--treatment",
            "--perturb",
            "-t",
            metavar="TEXT",
            help="One that could be done; repeat.",
            show_default="those of the data, and the knock-out of each regulator, or of each gene without a network",
        ),
    ] = None,
    times: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLAN", help="When samples are taken: 0,5,10 or 0:60:10; repeat.", show_default="as in the data"
        ),
    ] = None,
    readouts: Annotated[
        list[str] | None,
        typer.Option(
            "--readout", "-r", metavar="GENES", help="Genes that are read: gA,gB; repeat.", show_default="all genes"
        ),
    ] = None,
    replicates: Annotated[list[int] | None, typer.Option(min=1, help="Cultures treated alike; repeat.")] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A number of rates.csv to learn, as decay:gA; repeat.", show_default="everything"
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(metavar="CULTURE,SAMPLE,READING", help="What each costs.", show_default="1 per experiment"),
    ] = None,
    per_cost: Annotated[bool, typer.Option("--per-cost", help="Rank by what is told per cost.")] = False,
    batch: Annotated[int, typer.Option(min=0, metavar="N", help="How many to choose together.")] = 0,
    budget: Annotated[float | None, typer.Option(help="What a batch may cost.", show_default=False)] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows that are shown.")] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="For whole tables and a picture.")
    ] = None,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Rank the experiments that could be done next by how much they would tell.

    Every combination of treatment, sampling plan, readout and number of replicates is a candidate. Its gain is the
    expected information, in nats, about the rates that the fit left uncertain (all of them, or a --goal), by the normal
    posterior at the best member. With --batch or --budget several are chosen, each given the ones before it. The
    ranking is as good as the model: where its form is wrong, so is what it finds informative.

    \b
    Examples:
      pinnsim design fitted
      pinnsim design fitted -t "gA=0" -t "gB*2@0:20" --times 0,5,10 --times 0:60:10 --batch 3
      pinnsim design fitted --goal decay:gA --price 10,2,0.1 --per-cost --out next
    """
    start()
    speak_to(as_json)
    with Problems() as problems:
        read_plans = [problems.attempt(partial(read_times, text)) for text in times or []]
        prices = problems.attempt(lambda: _prices(price))
    if out is not None:
        check_folder(out)
    bundle, project = read_fit(fit)
    from pinnsim.design import Price, candidates
    from pinnsim.design import design as rank

    genes, plans = bundle.network.genes, [plan.tolist() for plan in read_plans]
    wanted = treatments or _usual_treatments(project)
    read = [_genes(text, genes) for text in readouts or []] or [()]
    cost = None if prices is None else Price(prices[0], prices[1], prices[2], len(genes))
    posterior = _posterior(bundle.models[0], project, progress)
    offered = candidates(wanted, plans or [_usual_times(project)], read, replicates or [1], cost)
    by: Literal["gain", "gain per cost"] = "gain per cost" if per_cost else "gain"
    begin = float(project.dataset.times[:, 0].min())
    found = rank(
        posterior,
        offered,
        goal=goal or None,
        by=by,
        batch=batch,
        budget=budget,
        start=min([begin, *(float(plan[0]) for plan in plans)]),
        progress=progress,
    )
    columns = [*_SHOWN, *(["goal_gain", "goal_left"] if goal else []), *(["gain_per_cost"] if per_cost else [])]
    title = f"Which experiment next (gain in nats, time in {project.dataset.time_unit})"
    show_table(title, columns, found.table[columns].head(top).to_numpy().tolist())
    if len(found.batch):
        shown = [*columns, "total_gain", "total_cost"]
        show_table("Chosen together, in order", shown, found.batch[shown].to_numpy().tolist())
    tell(f"{len(offered)} candidates; the data determine {posterior.determined:.3g} of {len(posterior.sd)} numbers.")
    if out is not None:
        _write(out, found, fit)
        tell(f"Written: {out}")
    answer({**_summary(found, fit), "ranking": records(found.table.head(top)), "batch": records(found.batch)})


def _posterior(model: Any, project: "Project", progress: bool) -> "Laplace":
    from pinnsim.fit import cultures, laplace
    from pinnsim.model import build

    prior = build(project.config.model, project.network, project.prior)
    data = cultures(project.dataset, prior.center.table, substeps=project.config.fit.substeps)
    return laplace(model, prior, data, project.config.fit, progress=progress)


def _usual_treatments(project: "Project") -> list[str]:
    """What was done already, and knock-outs of the regulators (or of all genes) from the first time on."""
    begin = float(project.dataset.times[:, 0].min())
    measured = [name for name in project.network.regulators if name in project.network.genes]
    knocked = [f"{gene}=0@{begin:g}:" for gene in measured or project.network.genes]
    return list(dict.fromkeys([*map(str, project.dataset.treatments), *knocked]))


def _usual_times(project: "Project") -> list[float]:
    """The moments of the longest condition."""
    row = int(project.dataset.length.argmax())
    return [float(t) for t in project.dataset.times[row, : int(project.dataset.length[row])]]


def _genes(text: str, genes: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    with Problems() as problems:
        for name in names:
            if name not in genes:
                near = did_you_mean(name, genes)
                problems.add(
                    "E_GENE_UNKNOWN", f"--readout: no gene '{name}'{near} in the model, which has {first(genes)}."
                )
    return names


def _prices(text: str | None) -> tuple[float, ...] | None:
    """**Raises** `E_USAGE`."""
    if text is None:
        return None
    numbers = tuple(float(value) for value in read_times(text, "--price"))
    if ":" in text or len(numbers) != len(_PRICE) or min(numbers) < 0 or sum(numbers) == 0:
        raise PinnsimError.of("E_USAGE", f"--price '{text}' needs three numbers >= 0: {', '.join(_PRICE)}.")
    return numbers


def _summary(found: "Design", fit: Path) -> dict[str, Any]:
    return {"fit": fit, "candidates": len(found.experiments), "by": found.by, "goal": list(found.goal), "unit": "nats"}


def _write(out: Path, found: "Design", fit: Path) -> None:
    import numpy as np

    from pinnsim.plot.design import ranked_bars
    from pinnsim.report import png_bytes

    files: dict[str, bytes | str] = {
        RANKING: found.table.to_csv(index=False),
        SUMMARY: to_json({**_summary(found, fit), "ranking": records(found.table), "batch": records(found.batch)}),
    }
    if len(found.batch):
        files[BATCH] = found.batch.to_csv(index=False)
    value = "goal_gain" if found.goal else "gain"
    if np.isfinite(found.table[value]).any():
        files[PICTURE] = png_bytes(ranked_bars(found.table, value=value))
    write_files(out, files)
