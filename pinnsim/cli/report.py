"""`pinnsim report`: one HTML page of what fit, score and simulate left in a folder."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.courses import tell_simulation
from pinnsim.cli.fit import EDGES, PRIOR, RATES, STARTS, SUMMARY
from pinnsim.cli.score import BARS, SCORES
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.report import Report

_EDGES = 15  # edges that the page shows


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where fit, score or simulate wrote to.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page (DIR/report.html if not given).")
    ] = None,
) -> None:
    """Write one HTML page of what fit, score and simulate left in a folder.

    The page holds its pictures and needs nothing else: send it, print it, keep it.

    \b
    Examples:
      pinnsim report fitted
      pinnsim report fitted --out carbon_shift.html
    """
    start()
    page = gather(folder)
    path = page.write(folder / "report.html" if out is None else out)
    typer.echo(f"Written: {path}")


def gather(folder: Path) -> "Report":
    """The report of a folder. **Raises:** `E_DATA_FILE`, `E_DATA_EMPTY`, `E_CKPT_CORRUPT`."""
    from pinnsim.report import Report

    if not folder.is_dir():
        raise PinnsimError.of("E_DATA_FILE", f"no folder '{folder}'; give one that fit, score or simulate wrote to.")
    simulations = sorted([*folder.glob("*.zarr"), *folder.glob("*.nc")])
    parts: list[tuple[Path, Callable[[Report, Path], dict[str, Any]]]] = [
        *((folder / name, tell) for name, tell in ((SUMMARY, _fit), (SCORES, _scores)) if (folder / name).is_file()),
        *((path, tell_simulation) for path in simulations),
    ]
    if not parts:
        message = f"'{folder}' holds nothing that fit, score or simulate wrote ({SUMMARY}, {SCORES}, *.zarr, *.nc)."
        raise PinnsimError.of("E_DATA_EMPTY", message)
    page = Report(f"pinnsim: {folder.resolve().name}", "What was fitted, how well it predicts, and what it predicts.")
    facts: dict[str, Any] = {}
    for path, tell in parts:
        try:
            facts |= tell(page, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"'{path}' is not what pinnsim writes ({type(error).__name__}: {error}); run it again."
            raise PinnsimError.of("E_CKPT_CORRUPT", message) from error
    return page.provenance(**facts)


def _fit(page: "Report", path: Path) -> dict[str, Any]:
    import pandas as pd

    found, folder = json.loads(path.read_text(encoding="utf-8")), path.parent
    data, model = found["data"], found["model"]
    page.section("The fit")
    if found["interrupted"]:
        page.notice("The fit was interrupted: this is the best so far.")
    page.text(data["description"])
    learned = "none" if model["residual"] == "none" else f"{model['residual']}, gate {found['gate']:.3g} (0: unused)"
    page.facts(
        {
            "model": f"{' and '.join(model['layers'])} of {model['genes']} genes, {model['edges']} signed edges from "
            f"{model['regulators']} regulators",
            "neural residual": learned,
            "treatments": [f"{name}: {text}" for name, text in data["conditions"].items()],
            "starts": ", ".join(f"{count} {outcome}" for outcome, count in found["outcomes"].items()),
        }
    )
    kept = pd.DataFrame({"kept start": range(1, len(found["objective"]) + 1), "objective": found["objective"]})
    page.table(kept.assign(**found["terms"]), "Objective of the kept starts and its named terms, nats, best first.")
    if (folder / STARTS).is_file():
        starts = pd.read_csv(folder / STARTS)
        columns = [name for name in ("start", "objective", "outcome", "kept") if name in starts]
        page.table(starts[columns], "All starts.")
    if (folder / PRIOR).is_file():
        page.table(_priors(pd.read_csv(folder / PRIOR)), "Which prior of decay the genes got, and from where.")
    if (folder / RATES).is_file():
        _certainty(page, folder)
    for picture in sorted(folder.glob("fit_*.png")):
        page.picture(picture, f"Measured and fitted courses: {picture.stem.removeprefix('fit_')}.")
    if (folder / "half_lives.png").is_file():
        page.picture(folder / "half_lives.png", "Fitted half-lives beside the prior that each gene got.")
    return _provenance(data, found["seed"])


def _certainty(page: "Report", folder: Path) -> None:
    """What the data identify, and the network as a result."""
    import pandas as pd

    from pinnsim.fit import verdict_counts

    rates = pd.read_csv(folder / RATES, keep_default_na=False)
    text = (
        "Parameters by verdict: identified (posterior at most half as wide as the prior), prior echo (at least nine "
        f"tenths: the data hardly speak of it), or between. All {len(rates)} with 90 % intervals: {RATES}."
    )
    page.table(verdict_counts(rates), text)
    if (folder / EDGES).is_file():
        edges = pd.read_csv(folder / EDGES, keep_default_na=False)
        attended = [name for name in ("attention", "contribution") if name in edges]
        shown = edges[["rank", "source", "target", "strength", "lo", "hi", "width", *attended]].head(_EDGES)
        text = (
            f"The clearest {len(shown)} of {len(edges)} edges: signed strength with a 90 % interval; width is posterior"
            f" over prior, so that an edge near 1 is clear by its prior alone. All: {EDGES}."
        )
        if attended:
            text += (
                " Attention and contribution (log-odds) are what the learned correction made of an edge, not evidence"
                " that it exists."
            )
        page.table(shown, text)


def _scores(page: "Report", path: Path) -> dict[str, Any]:
    from pinnsim.score.table import ScoreRow, ScoreTable

    found = json.loads(path.read_text(encoding="utf-8"))
    filled: list[dict[str, Any]] = [{k: math.nan if v is None else v for k, v in row.items()} for row in found["rows"]]
    rows = [ScoreRow(**row) for row in filled]
    head = {name: found[name] for name in ("unit", "data", "simulated", "level", "draws", "seed")}
    table = ScoreTable(tuple(rows), tuple(found["verdicts"]), **head)
    page.section("Honest score").verdicts([*found["verdicts"], *found.get("coverage", [])])
    page.table(table, "Skill is the reduction of RMSE against the best baseline; intervals by bootstrap over genes.")
    if (path.parent / BARS).is_file():
        page.picture(path.parent / BARS, "Error of the model, the baselines and the controls, with intervals.")
    return _provenance(found["provenance"], found["fit_seed"]) if "provenance" in found else {}


def _priors(table: "pd.DataFrame") -> "pd.DataFrame":
    grouped = table.groupby("source", sort=False)
    unit = table["unit"].iloc[0]
    return (
        grouped["half_life"]
        .agg(["count", "min", "median", "max"])
        .reset_index()
        .rename(columns={"count": "genes", **{name: f"{name} half-life ({unit})" for name in ("min", "median", "max")}})
    )


def _provenance(data: dict[str, Any], seed: int) -> dict[str, Any]:
    return {
        "data": data["source"],
        "caveats": data["caveats"],
        "digest": data["digest"],
        "simulated": data["simulated"],
        "seeds": [seed],
    }
