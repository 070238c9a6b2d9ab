"""A report in one file: text, tables, pictures and verdicts as plain HTML that needs nothing else to be read.

    Report("Carbon shift", "Fit one arm, predict the other").section("Score").text("...").write(path)

Pictures are embedded as base64 PNG, the style sheet is in the head, nothing is loaded from elsewhere, no script runs.
Every text is escaped: gene names and citations are data, not markup. Methods return the report, so that calls chain.
"""

from __future__ import annotations

import base64
import datetime
import html
import io
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pinnsim.errors import PinnsimError
from pinnsim.score.table import ScoreTable
from pinnsim.session import versions
from pinnsim.store import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PNG = b"\x89PNG\r\n\x1a\n"
_DPI = 150
_RIGHT = ' class="n"'
_RANGE = re.compile(r"|[-+]?[0-9.]+ to [-+]?[0-9.]+")

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --tint: #f4f6f8; --line: #d0d7de;
  --accent: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa4ae; --paper: #14181d; --tint: #1e242b;
  --line: #3a434d; --accent: #7ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 64rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.6rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
p, .verdicts, nav ul { max-width: 46rem; }
section > p { white-space: pre-line; }
.lead { font-size: 1.15rem; color: var(--soft); margin: 0 0 1.2rem; }
.notice { border-left: .3rem solid #c2410c; background: var(--tint); padding: .6rem 1rem; font-weight: 600; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; }
a { color: var(--accent); }
.verdicts { padding: .8rem 1rem .8rem 2.2rem; background: var(--tint); border-radius: .4rem; }
.verdicts li + li { margin-top: .4rem; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 400; }
tr.strong > * { font-weight: 700; }
.n { text-align: right; white-space: nowrap; }
figure { margin: 1.4rem 0; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.2rem; font-size: .9rem; margin: 0; }
dt { color: var(--soft); }
dt { grid-column: 1; }
dd { grid-column: 2; margin: 0; max-width: 46rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { display: block; } dd { margin-bottom: .6rem; } }
@media print { :root { --ink: #000; --soft: #444; --paper: #fff; --tint: #f4f4f4; --line: #bbb; --accent: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; } h2 { break-after: avoid; }
  figure, tr, li { break-inside: avoid; } .scroll { overflow: visible; } }
"""


class Report:
    """A report that is written piece by piece: `section` opens a part, what follows is added to it."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._notices: list[str] = []
        self._sections: list[tuple[str, list[str]]] = [("", [])]

    def section(self, title: str) -> Report:
        """Opens a part under a heading."""
        self._sections.append((title, []))
        return self

    def notice(self, text: str) -> Report:
        """A sentence above everything else, such as that the data are simulated; said once."""
        if text not in self._notices:
            self._notices.append(text)
        return self

    def text(self, text: str) -> Report:
        """Paragraphs, separated by blank lines."""
        return self._add(*(f"<p>{_escaped(part)}</p>" for part in text.split("\n\n") if part.strip()))

    def verdicts(self, sentences: Iterable[str]) -> Report:
        """What was concluded, a sentence each, win or lose."""
        items = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in sentences)
        return self._add(f'<ul class="verdicts">{items}</ul>') if items else self

    def facts(self, facts: Mapping[str, object]) -> Report:
        """Names and their values, one pair a line. A list gives several lines; an empty value is left out."""
        rows = []
        for name, value in facts.items():
            several = list(value) if isinstance(value, (list, tuple)) else [value]
            cells = "".join(f"<dd>{_escaped(_shown(item))}</dd>" for item in several if item not in ("", None))
            rows.append(f"<dt>{_escaped(name)}</dt>{cells}" if cells else "")
        return self._add(f"<dl>{''.join(rows)}</dl>")

    def table(self, table: pd.DataFrame | ScoreTable, caption: str) -> Report:
        """A table with its caption. A `ScoreTable` gives one table per direction, with its title before the caption.

        Numbers have four significant digits, missing ones are a dash; the first column heads the rows.
        """
        if isinstance(table, ScoreTable):
            for (direction, mode), rows in table.groups().items():
                best = table.best_baseline(direction, mode)
                made = " on SIMULATED data" if table.simulated else ""
                title = f"{direction}, {mode}{made} ({rows[0].n_genes} genes, {rows[0].n_values} readings). {caption}"
                strong = [row.kind == "model" for row in rows]
                self._add(_table(_score_frame(table, direction, mode, best), title, strong))
            return self
        return self._add(_table(table, caption))

    def figure(self, figure: Figure | Axes | Sequence[Axes], caption: str, alt: str | None = None) -> Report:
        """A matplotlib figure (or axes of it), embedded and closed. `alt`: what it shows, for who cannot see it."""
        return self._picture(png_bytes(figure), caption, alt)

    def picture(self, path: str | Path, caption: str, alt: str | None = None) -> Report:
        """A PNG file, embedded. **Raises:** `E_DATA_FILE` if it is absent or no PNG."""
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise PinnsimError.of("E_DATA_FILE", f"picture '{path}' cannot be read: {reason}.") from error
        if not data.startswith(_PNG):
            raise PinnsimError.of("E_DATA_FILE", f"'{path}' is no PNG picture; save it with pinnsim.plot.save.")
        return self._picture(data, caption, alt)

    def provenance(
        self,
        *,
        data: str = "",
        caveats: Iterable[str] = (),
        seeds: Iterable[int] = (),
        digest: str = "",
        simulated: bool = False,
        **more: object,
    ) -> Report:
        """Where everything comes from: the data's citation, caveats, digest, seeds, versions; `more` facts by name."""
        if simulated:
            self.notice("The data in this report are SIMULATED, not measured.")
        made = ", ".join(f"{name} {version}" for name, version in versions().items())
        facts: dict[str, object] = {"data": data, "caveats": list(caveats), "data digest (sha256)": digest}
        facts["seeds"] = ", ".join(map(str, seeds))
        facts |= {name.replace("_", " "): value for name, value in more.items()}
        facts |= {"made with": made, "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")}
        return self.section("Provenance").facts(facts)

    def to_html(self) -> str:
        """The whole page."""
        titled = [(f"part-{number}", title, parts) for number, (title, parts) in enumerate(self._sections)]
        named = [(anchor, title) for anchor, title, _ in titled if title]
        links = "".join(f'<li><a href="#{anchor}">{_escaped(title)}</a></li>' for anchor, title in named)
        body = []
        for anchor, title, parts in titled:
            heading = f'<h2 id="{anchor}">{_escaped(title)}</h2>' if title else ""
            if title or parts:
                body.append("\n".join(["<section>", heading, *parts, "</section>"]))
        head = [f"<h1>{_escaped(self.title)}</h1>"]
        head += [f'<p class="lead">{_escaped(self.subtitle)}</p>'] if self.subtitle else []
        head += [f'<p class="notice">{_escaped(text)}</p>' for text in self._notices]
        head += [f'<nav aria-label="Contents"><ul>{links}</ul></nav>'] if len(named) > 1 else []
        return "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en">',
                '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{_escaped(self.title)}</title><style>{_STYLE}</style></head>",
                "<body>",
                "<header>",
                *head,
                "</header>",
                "<main>",
                *body,
                "</main>",
                "</body>",
                "</html>",
                "",
            ]
        )

    def write(self, path: str | Path) -> Path:
        """Writes the page, atomically. **Raises:** `E_DISK`."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_html(), encoding="utf-8")
        return Path(path)

    def _add(self, *parts: str) -> Report:
        self._sections[-1][1].extend(parts)
        return self

    def _picture(self, data: bytes, caption: str, alt: str | None) -> Report:
        # Pictures are drawn with more pixels than a screen's 96 per inch; the attributes give them their own size.
        width, height = (round(side * 96 / _DPI) for side in struct.unpack(">II", data[16:24]))
        source = base64.b64encode(data).decode("ascii")
        said = _escaped(caption if alt is None else alt)
        image = f'<img src="data:image/png;base64,{source}" alt="{said}" width="{width}" height="{height}">'
        return self._add(f"<figure>{image}<figcaption>{_escaped(caption)}</figcaption></figure>")


def png_bytes(figure: Figure | Axes | Sequence[Axes]) -> bytes:
    """A figure (or that of axes) as the bytes of a PNG file; the figure is closed."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if isinstance(figure, Figure):
        whole: Any = figure
    else:
        whole = np.ravel(np.asarray(figure, dtype=object))[0].get_figure(root=True)
    buffer = io.BytesIO()
    whole.savefig(buffer, format="png", dpi=_DPI)
    plt.close(whole)
    return buffer.getvalue()


def _score_frame(table: ScoreTable, direction: str, mode: str, best: str | None) -> pd.DataFrame:
    rows = table.groups()[direction, mode]
    return pd.DataFrame(
        {
            "what": [
                f"{row.name}{f' x {row.n_controls}' if row.n_controls > 1 else ''}"
                f"{' (best)' if row.kind == 'baseline' and row.name == best else ''}"
                for row in rows
            ],
            "kind": [row.kind for row in rows],
            f"RMSE ({table.unit})": [row.rmse for row in rows],
            f"{table.level:.0%} interval": _ranges([(row.lo, row.hi) for row in rows]),
            "r of change": [row.r_change for row in rows],
            "skill": [row.skill for row in rows],
            "interval of skill": _ranges([(row.skill_lo, row.skill_hi) for row in rows]),
        }
    )


def _ranges(pairs: Sequence[tuple[float, float]]) -> list[str]:
    return ["" if math.isnan(low) else f"{low:.3f} to {high:.3f}" for low, high in pairs]


def _table(frame: pd.DataFrame, caption: str, strong: Sequence[bool] = ()) -> str:
    names = [str(name) for name in frame.columns]
    columns = [_column(frame.iloc[:, place]) for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{_escaped(name)}</th>' for name, (_, kind) in zip(names, columns, strict=True)
    )
    body = []
    for number in range(len(frame)):
        cells = []
        for place, (texts, kind) in enumerate(columns):
            tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
            cells.append(f"<{tag}{scope}{kind}>{_escaped(texts[number])}</{tag}>")
        row = ' class="strong"' if number < len(strong) and strong[number] else ""
        body.append(f"<tr{row}>{''.join(cells)}</tr>")
    said = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    table = f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    # A table wider than the page scrolls by itself; reachable by keyboard.
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _column(column: pd.Series) -> tuple[list[str], str]:
    """The cells of a column, and its class: numbers stand right, with equal decimals where they are of one size."""
    values = column.tolist()
    if pd.api.types.is_float_dtype(column.dtype):
        sizes = np.abs([value for value in values if math.isfinite(value) and value != 0])
        if len(sizes) and 1e-2 < sizes.max() < 1e6 and sizes.max() <= 1e4 * sizes.min():
            place = math.floor(math.log10(sizes.max()))
            # Scores and correlations just below 1 look like those just above.
            decimals = 0 if (sizes == np.round(sizes)).all() else max(0, 3 - (0 if place in (-1, 0) else place))
            texts = [f"{value:.{decimals}f}" if math.isfinite(value) else _shown(value) for value in values]
            return texts, _RIGHT
    texts = [_shown(value) for value in values]
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    return texts, _RIGHT if numeric or all(_RANGE.fullmatch(text) for text in texts) else ""


def _shown(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.4g}" if math.isfinite(value) else ("–" if math.isnan(value) else str(float(value)))
    return "–" if value is None or value is pd.NA or value is pd.NaT else str(value)


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
