"""What `pinnsim score` and `pinnsim evaluate` leave in a folder, and what the report says of it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pinnsim.cli.output import answer, describe_data, tell, to_json, write_files
from pinnsim.session import versions

if TYPE_CHECKING:
    from pinnsim.cli.report import Told
    from pinnsim.project import Project
    from pinnsim.report import Report
    from pinnsim.score import ScoreTable


class Scored(NamedTuple):
    """The files of a command that scores: a summary, a row per score, a picture."""

    command: str
    title: str
    summary: str
    rows: str
    bars: str


SCORE = Scored("pinnsim score", "Honest score", "scores.json", "scores.csv", "score_bars.png")
EVALUATE = Scored(
    "pinnsim evaluate", "Conditions that were left out", "evaluation.json", "evaluation.csv", "evaluation_bars.png"
)


def write_scores(
    made: Scored, folder: Path, table: "ScoreTable", data: "Project", seed: int, notes: Sequence[str] = (), **more: Any
) -> None:
    """Shows and writes scores, and answers programs.

    **Arguments:** `data`: the project whose data were predicted; `seed`: of the fit; `notes`: lines below the table;
    `more`: of the summary.
    """
    from pinnsim.plot import score_bars
    from pinnsim.report import png_bytes

    for line in (table.to_text(), *notes):
        tell(line)
    summary = {
        **table.to_dict(),
        "made_by": made.command,
        **more,
        "provenance": describe_data(data),
        "fit_seed": seed,
        "versions": versions(),
    }
    files: dict[str, bytes | str] = {
        made.summary: to_json(summary),
        made.rows: table.to_frame().to_csv(index=False),
        made.bars: png_bytes(score_bars(table)),
    }
    write_files(folder, files)
    tell(f"Written: {', '.join(str(folder / name) for name in files)}\nNext: pinnsim report {folder}")
    answer({**summary, "out": folder})


def tell_scores(page: "Report", path: Path) -> "Told":
    """A section on what was scored."""
    from pinnsim.cli.report import Told, provenance_of
    from pinnsim.score.table import ScoreRow, ScoreTable

    made = EVALUATE if path.name == EVALUATE.summary else SCORE
    found = json.loads(path.read_text(encoding="utf-8"))
    filled: list[dict[str, Any]] = [{k: math.nan if v is None else v for k, v in row.items()} for row in found["rows"]]
    rows = [ScoreRow(**row) for row in filled]
    head = {name: found[name] for name in ("unit", "data", "simulated", "level", "draws", "seed")}
    table = ScoreTable(tuple(rows), tuple(found["verdicts"]), **head)
    page.section(made.title)
    if made == EVALUATE:
        page.text(
            f"Fitted: {', '.join(found['fitted'])}. Predicted, each from its own first sample alone: "
            f"{', '.join(found['predicted'])}."
        )
    page.verdicts([*found["verdicts"], *found.get("coverage", [])])
    page.table(table, "Skill is the reduction of RMSE against the best baseline; intervals by bootstrap over genes.")
    if not any(row.kind == "control" for row in rows):
        page.absent("No control was scored: a shuffled network or a prior alone may predict as well.")
    if (path.parent / made.bars).is_file():
        page.picture(path.parent / made.bars, "Error of the model, the baselines and the controls, with intervals.")
    facts = provenance_of(found["provenance"], found["fit_seed"]) if "provenance" in found else {}
    return Told(facts, list(found["verdicts"])[:2])
