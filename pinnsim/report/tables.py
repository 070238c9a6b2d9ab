"""Tables of a report as HTML: headers with their scope, a caption, numbers to the right; wide and long ones scroll in a
box of their own that a keyboard reaches."""

import html
import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pinnsim.score.table import ScoreTable
from pinnsim.units import reading_unit

LONG = 24  # rows from which a table scrolls in a box of limited height
_RIGHT = ' class="n"'
_RANGE = re.compile(r"|[-+]?[0-9.]+ to [-+]?[0-9.]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def html_table(frame: pd.DataFrame, caption: str, name: str, strong: Sequence[bool] = ()) -> str:
    """A table in its box.

    **Arguments:** `frame`: its first column heads the rows; `name`: unique in the page; `strong`: rows that stand out.
    """
    names = [str(column) for column in frame.columns]
    columns = [_column(frame.iloc[:, place]) for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(name)}</th>' for name, (_, kind) in zip(names, columns, strict=True)
    )
    body = []
    for number in range(len(frame)):
        cells = []
        for place, (texts, kind) in enumerate(columns):
            tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
            cells.append(f"<{tag}{scope}{kind}>{escaped(texts[number])}</{tag}>")
        row = ' class="strong"' if number < len(strong) and strong[number] else ""
        body.append(f"<tr{row}>{''.join(cells)}</tr>")
    said = f'<caption id="{name}"><span>{escaped(caption)}</span></caption>' if caption else ""
    called = f'aria-labelledby="{name}"' if caption else 'aria-label="Table"'
    tall = " tall" if len(frame) > LONG else ""
    table = f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll{tall}" role="region" {called} tabindex="0">{table}</div>'


def score_frame(table: ScoreTable, direction: str, mode: str, best: str | None) -> pd.DataFrame:
    """One direction of a score table as it is shown."""
    rows = table.groups()[direction, mode]
    return pd.DataFrame(
        {
            "what": [
                f"{row.name}{f' x {row.n_controls}' if row.n_controls > 1 else ''}"
                f"{' (best)' if row.kind == 'baseline' and row.name == best else ''}"
                for row in rows
            ],
            "kind": [row.kind for row in rows],
            f"RMSE ({reading_unit(table.unit)})": [row.rmse for row in rows],
            f"{table.level:.0%} interval": _ranges([(row.lo, row.hi) for row in rows]),
            "r of change": [row.r_change for row in rows],
            "skill": [row.skill for row in rows],
            "interval of skill": _ranges([(row.skill_lo, row.skill_hi) for row in rows]),
        }
    )


def shown(value: object) -> str:
    """A value as a cell: four significant digits, yes and no, a dash for what is missing."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.4g}" if math.isfinite(value) else ("–" if math.isnan(value) else str(float(value)))
    return "–" if value is None or value is pd.NA or value is pd.NaT else str(value)


def escaped(text: str) -> str:
    """Text that is text and nothing else, in content and in attributes."""
    return html.escape(_CONTROL.sub("\ufffd", text), quote=True)


def _ranges(pairs: Sequence[tuple[float, float]]) -> list[str]:
    return ["" if math.isnan(low) else f"{low:.3f} to {high:.3f}" for low, high in pairs]


def _column(column: pd.Series) -> tuple[list[str], str]:
    """The cells of a column, and its class: numbers stand right, with equal decimals where they are of one size."""
    values = column.tolist()
    if pd.api.types.is_float_dtype(column.dtype):
        sizes = np.abs([value for value in values if math.isfinite(value) and value != 0])
        if len(sizes) and 1e-2 < sizes.max() < 1e6 and sizes.max() <= 1e4 * sizes.min():
            place = math.floor(math.log10(sizes.max()))
            # Scores and correlations just below 1 look like those just above.
            decimals = 0 if (sizes == np.round(sizes)).all() else max(0, 3 - (0 if place in (-1, 0) else place))
            texts = [f"{value:.{decimals}f}" if math.isfinite(value) else shown(value) for value in values]
            return texts, _RIGHT
    texts = [shown(value) for value in values]
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    return texts, _RIGHT if numeric or all(_RANGE.fullmatch(text) for text in texts) else ""
