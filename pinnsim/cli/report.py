"""`pinnsim report`: one HTML page of everything that a folder holds about a model, and of what it lacks."""

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pinnsim.cli.fit import MODEL, SUMMARY
from pinnsim.cli.score import BARS, SCORES
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.report import Report


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
    baselines and controls, the network, landscapes, perturbations, provenance. What was not computed is said, with the
    command that would. The page holds its pictures and needs nothing else: send it, print it, keep it.

    \b
    It finds, in DIR:
      what fit, score and simulate wrote
      *.csv of landscape --out, each with the picture of the same name (--picture)
      *.zarr and *.nc of simulate and push
      a folder of screen --out, or that folder's files

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
    from pinnsim.cli.valleys import landscapes, pushes, screens, tell_landscape, tell_push, tell_screen
    from pinnsim.report import Report

    if not folder.is_dir():
        raise PinnsimError.of("E_DATA_FILE", f"no folder '{folder}'; give one that fit, score or simulate wrote to.")
    fits, scores = ([path] if (path := folder / name).is_file() else [] for name in (SUMMARY, SCORES))
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
            _scores,
            "Honest score",
            "No score was computed: how well the model predicts what it did not see is not known here.",
            f"pinnsim score project.toml --out {quoted}",
        ),
        (
            landscapes(folder),
            tell_landscape,
            "Landscape",
            "No landscape was computed.",
            f"pinnsim landscape {model} --out {quoted}/landscape.csv --picture {quoted}/landscape.png",
        ),
        (
            screens(folder),
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
    ]
    if not any(paths for paths, *_ in parts):
        message = (
            f"'{folder}' holds nothing that fit, score, simulate and others wrote ({SUMMARY}, {SCORES}, "
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
            facts |= told.facts
            brief += told.brief
    return page.provenance(**facts).summary(brief)


def _told(page: "Report", tell: Tell, path: Path) -> Told:
    try:
        return tell(page, path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        message = f"'{path}' is not what pinnsim writes ({type(error).__name__}: {error}); run it again."
        raise PinnsimError.of("E_CKPT_CORRUPT", message) from error


def _scores(page: "Report", path: Path) -> Told:
    from pinnsim.score.table import ScoreRow, ScoreTable

    found = json.loads(path.read_text(encoding="utf-8"))
    filled: list[dict[str, Any]] = [{k: math.nan if v is None else v for k, v in row.items()} for row in found["rows"]]
    rows = [ScoreRow(**row) for row in filled]
    head = {name: found[name] for name in ("unit", "data", "simulated", "level", "draws", "seed")}
    table = ScoreTable(tuple(rows), tuple(found["verdicts"]), **head)
    page.section("Honest score").verdicts([*found["verdicts"], *found.get("coverage", [])])
    page.table(table, "Skill is the reduction of RMSE against the best baseline; intervals by bootstrap over genes.")
    if not any(row.kind == "control" for row in rows):
        page.absent("No control was scored: a shuffled network or a prior alone may predict as well.")
    if (path.parent / BARS).is_file():
        page.picture(path.parent / BARS, "Error of the model, the baselines and the controls, with intervals.")
    facts = provenance_of(found["provenance"], found["fit_seed"]) if "provenance" in found else {}
    return Told(facts, list(found["verdicts"])[:2])


def provenance_of(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """Facts about the data of a fit or a score."""
    return {
        "data": data["source"],
        "caveats": data["caveats"],
        "digest": data["digest"],
        "simulated": data["simulated"],
        "seeds": [seed],
    }
