"""`pinnsim report`: one HTML page of what fit, score and simulate left in a folder."""

import json
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.fit import PRIOR, STARTS, SUMMARY
from pinnsim.cli.output import largest
from pinnsim.cli.score import BARS, SCORES
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from pinnsim.report import Report

_GENES, _LANES = 6, 12


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
        *((path, _simulation) for path in simulations),
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
    for picture in sorted(folder.glob("fit_*.png")):
        page.picture(picture, f"Measured and fitted courses: {picture.stem.removeprefix('fit_')}.")
    if (folder / "half_lives.png").is_file():
        page.picture(folder / "half_lives.png", "Fitted half-lives beside the prior that each gene got.")
    return _provenance(data, found["seed"])


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


def _simulation(page: "Report", path: Path) -> dict[str, Any]:
    from pinnsim.formats.simulation import load_simulation
    from pinnsim.simulate import Outcome

    tree = load_simulation(path)
    page.section(f"Simulation: {path.stem}")
    kept = ("model", "method", "begins", "data", "condition")
    told: dict[str, object] = {name: tree.attrs[name] for name in kept if name in tree.attrs}
    page.facts({**told, "nature": "simulated, not measured"})
    outcomes = tree.to_dataset()["outcome"]
    lanes, courses = [str(name) for name in outcomes["lane"].values], _courses(tree)
    page.table(
        _lane_table(outcomes, lanes, courses, Outcome), "Outcome of every lane; changes from first to last time."
    )
    if 1 <= len(lanes) <= _LANES:
        caption = "Simulated courses of what changed most; bands are the range of an ensemble's members."
        page.figure(_picture(courses, lanes), caption)
    return {}


def _courses(tree: "xr.DataTree") -> "xr.DataArray":
    """Readings, or abundances where there are none, as (member, lane, time, name)."""
    array = tree["/readout/reading"].rename(gene="name") if "readout" in tree.children else None
    if array is None:
        array = tree["/species/abundance"].rename(species="name")
    return array if "member" in array.dims else array.expand_dims("member")


def _lane_table(outcomes: "xr.DataArray", lanes: list[str], courses: "xr.DataArray", kinds: Any) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    codes = np.atleast_2d(outcomes.values)
    change = (courses.isel(time=-1) - courses.isel(time=0)).transpose("member", "lane", "name").values[0]
    names = courses["name"].values.tolist()
    rows = []
    for k, lane in enumerate(lanes):
        bad = [int(code) for code in codes[:, k] if code != kinds.DONE]
        ended = kinds(bad[0]).sentence if bad else kinds.DONE.sentence
        rows.append({"treatment": lane, "outcome": ended, "largest changes": largest(names, change[k])})
    return pd.DataFrame(rows)


def _picture(courses: "xr.DataArray", lanes: list[str]) -> "list[Axes]":
    """Small multiples of the names that change most, a line per lane."""
    import numpy as np

    from pinnsim.plot.style import CYCLE, DASHES, grid_shape, new_panels, styled, with_unit

    values = courses.transpose("member", "lane", "time", "name").values
    times, unit = courses["time"].values, courses["time"].attrs.get("units", "")
    spread = np.nan_to_num(np.ptp(values[0], axis=(0, 1)))
    shown = np.argsort(-spread, kind="stable")[:_GENES]
    dashes = ("-", *DASHES)

    @styled
    def draw() -> "list[Axes]":
        rows, columns = grid_shape(len(shown), 3)
        axes = new_panels(rows, columns, (max(3.0 * columns, 4.5), 2.0 * rows + 0.3 + 0.22 * len(lanes)), sharex=True)
        for number, ax in enumerate(axes.flat):
            ax.set_visible(number < len(shown))
        for number, (ax, g) in enumerate(zip(axes.flat, shown, strict=False)):
            for k, lane in enumerate(lanes):
                course, color = values[:, k, :, g], CYCLE[k % len(CYCLE)]
                label = textwrap.shorten(lane, 80, placeholder=" …")
                dash = dashes[(k // len(CYCLE)) % len(dashes)]
                ax.plot(times, course.mean(axis=0), color=color, linestyle=dash, label=label)
                if len(course) > 1:
                    ax.fill_between(times, course.min(axis=0), course.max(axis=0), color=color, alpha=0.2, linewidth=0)
            ax.set_title(str(courses["name"].values[g]), fontstyle="italic", fontsize=9)
            if number >= len(shown) - columns:
                ax.set_xlabel(with_unit("time", unit))
                ax.tick_params(labelbottom=True)
            if number % columns == 0:
                ax.set_ylabel("reading" if courses.name == "reading" else "abundance")
        figure = axes[0, 0].figure
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left")
        return list(axes.flat)

    return draw()


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
