"""`pinnsim report`: one HTML page of everything that a folder holds about a model, and of what it lacks."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pinnsim.cli import design, screen
from pinnsim.cli.fit import MODEL, SUMMARY
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.report import Report


_EXPERIMENTS = 15  # that the page lists


class Told(NamedTuple):
    """What a part of the report hands on: facts for the provenance, and sentences for the summary."""

    facts: dict[str, Any]
    brief: list[str]


Tell = Callable[["Report", Path], Told]


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where fit, score, simulate and others wrote to.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page (DIR/report.html if not given).")
    ] = None,
) -> None:
    """Write one HTML page of everything that a folder holds about a model.

    Data and their coverage, the fit gene by gene, the course of the objective, rates with verdicts, scores beside
    baselines and controls, the network, landscapes, perturbations, the next experiment, provenance. What was not
    computed is said, with the command that would. The page holds its pictures and needs nothing else: send it, print
    it, keep it.

    \b
    It finds, in DIR:
      what fit, score, evaluate and simulate wrote
      *.csv of landscape --out, each with the picture of the same name (--picture)
      *.zarr and *.nc of simulate and push
      folders of screen --out and design --out, or these folders' files

    \b
    Examples:
      pinnsim report fitted
      pinnsim report fitted --out carbon_shift.html
    """
    start()
    page = gather(folder)
    path = page.write(folder / "report.html" if out is None else out)
    typer.echo(f"Written: {path} ({path.stat().st_size / 1e6:.2f} MB)")


def gather(folder: Path) -> "Report":
    """The report of a folder. **Raises:** `E_DATA_FILE`, `E_DATA_EMPTY`, `E_CKPT_CORRUPT`."""
    from pinnsim.cli.courses import tell_simulation
    from pinnsim.cli.fitted import tell_fit
    from pinnsim.cli.scored import EVALUATE, SCORE, tell_scores
    from pinnsim.cli.valleys import landscapes, pushes, tell_landscape, tell_push, tell_screen, within
    from pinnsim.report import Report

    if not folder.is_dir():
        raise PinnsimError.of("E_DATA_FILE", f"no folder '{folder}'; give one that fit, score or simulate wrote to.")
    fits, scores, evaluations = (
        [path] if (path := folder / name).is_file() else [] for name in (SUMMARY, SCORE.summary, EVALUATE.summary)
    )
    stored = sorted([*folder.glob("*.zarr"), *folder.glob("*.nc")])
    maps = pushes(stored)
    simulations = [path for path in stored if path not in maps]

    def simulated(page: "Report", path: Path) -> Told:
        return Told(tell_simulation(page, path), [])

    model, quoted = shlex.quote(str(folder / MODEL)), shlex.quote(str(folder))
    parts: list[tuple[list[Path], Tell, str, str, str]] = [
        (fits, tell_fit, "The fit", "No fit is in this folder.", f"pinnsim fit project.toml --out {quoted}"),
        (
            scores,
            tell_scores,
            SCORE.title,
            "No score was computed: how well the model predicts what it did not see is not known here.",
            f"pinnsim score project.toml --out {quoted}",
        ),
        (
            evaluations,
            tell_scores,
            EVALUATE.title,
            "This fit was not tried on a condition that it has not seen. After a fit that left one out (--without):",
            f"pinnsim evaluate {quoted} project.toml",
        ),
        (
            landscapes(folder),
            tell_landscape,
            "Landscape",
            "No landscape was computed.",
            f"pinnsim landscape {model} --out {quoted}/landscape.csv --picture {quoted}/landscape.png",
        ),
        (
            within(folder, screen.SUMMARY),
            tell_screen,
            "Perturbation screen",
            "No screen of perturbations was run.",
            f"pinnsim screen {model} --out {quoted}/screen",
        ),
        (
            maps,
            tell_push,
            "Push",
            "The cell was not pushed.",
            f'pinnsim push {model} -t "GENE*1" --doses 0,0.5 --durations 10:60:10 --settle 300 '
            f"--out {quoted}/push.zarr",
        ),
        (
            simulations,
            simulated,
            "Simulations",
            "Nothing was simulated.",
            f'pinnsim simulate {model} --times 0:100:1 -t none -t "GENE=0" --out {quoted}/knockout.zarr',
        ),
        (
            within(folder, design.SUMMARY),
            _design,
            "The next experiment",
            "Experiments were not ranked by what they would tell.",
            f"pinnsim design {quoted} --out {quoted}/design",
        ),
    ]
    if not any(paths for paths, *_ in parts):
        message = (
            f"'{folder}' holds nothing that fit, score, simulate and others wrote ({SUMMARY}, {SCORE.summary}, "
            "*.zarr, *.nc, ...)."
        )
        raise PinnsimError.of("E_DATA_EMPTY", message)
    page = Report(f"pinnsim: {folder.resolve().name}", "What was fitted, how well it predicts, and what it predicts.")
    facts: dict[str, Any] = {}
    brief: list[str] = []
    for paths, tell, title, lacking, command in parts:
        if not paths:
            page.section(title).absent(lacking, command)
        for path in paths:
            told = _told(page, tell, path)
            facts = told.facts | facts  # what was fitted comes first; a score may be of other data
            brief += told.brief
    return page.provenance(**facts).summary(brief)


def _told(page: "Report", tell: Tell, path: Path) -> Told:
    try:
        return tell(page, path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        message = f"'{path}' is not what pinnsim writes ({type(error).__name__}: {error}); run it again."
        raise PinnsimError.of("E_CKPT_CORRUPT", message) from error


def _design(page: "Report", path: Path) -> Told:
    """A section on ranked experiments."""
    import pandas as pd

    found = json.loads(path.read_text(encoding="utf-8"))
    goal = ", ".join(found["goal"]) or "everything that the fit left uncertain"
    best = found["ranking"][0]
    value = best["goal_gain" if found["goal"] else "gain"]
    text = f"None of {found['candidates']} candidates could be judged."
    if value is not None:
        per_cost = " for its cost" if found["by"] == "gain per cost" else ""
        text = (
            f"Of {found['candidates']} candidates '{best['treatment']}' would tell most{per_cost} about {goal}, by the "
            f"model as it was fitted: {value:.3g} {found['unit']} of information."
        )
    page.section("The next experiment").text(text)
    for rows, caption in (
        (found["ranking"], f"Ranked by {found['by']}, {found['unit']}; the first {_EXPERIMENTS} of all."),
        (found["batch"], "Chosen together, in order: each adds what those before it do not tell."),
    ):
        if rows:
            table = pd.DataFrame(rows[:_EXPERIMENTS])
            page.table(table[[name for name in table.columns if name != "experiment"]], caption)
    if (path.parent / design.PICTURE).is_file():
        page.picture(path.parent / design.PICTURE, "Expected information of the best candidates, with their costs.")
    return Told({}, [f"Next experiment: {text}"])


def provenance_of(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """Facts about the data of a fit or a score."""
    return {
        "data": data["source"],
        "caveats": data["caveats"],
        "digest": data["digest"],
        "simulated": data["simulated"],
        "seeds": [seed],
    }
