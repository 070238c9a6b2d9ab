"""A report in one file: text, tables, pictures and verdicts as plain HTML that needs nothing else to be read.

    Report("Carbon shift", "Fit one arm, predict the other").section("Score").text("...").write(path)

Pictures are embedded as base64 PNG, the style sheet is in the head. A content security policy forbids the page
everything else: no script runs, nothing is loaded from anywhere. Every text is escaped: gene names and citations are
data, not markup. Methods return the report, so that calls chain.
"""

from __future__ import annotations

import base64
import datetime
import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pinnsim.errors import PinnsimError
from pinnsim.report.style import STYLE
from pinnsim.report.tables import escaped, html_table, score_frame, shown
from pinnsim.score.table import ScoreTable
from pinnsim.session import versions
from pinnsim.store import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PNG = b"\x89PNG\r\n\x1a\n"
_DPI = 150


class Report:
    """A report that is written piece by piece: `section` opens a part, what follows is added to it."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._notices: list[str] = []
        self._sections: list[tuple[str, list[str]]] = [("", [])]
        self._tables = 0

    def section(self, title: str) -> Report:
        """Opens a part under a heading."""
        self._sections.append((title, []))
        return self

    def part(self, title: str) -> Report:
        """A heading inside a section."""
        return self._add(f"<h3>{escaped(title)}</h3>")

    def notice(self, text: str) -> Report:
        """A sentence above everything else, such as that the data are simulated; said once."""
        if text not in self._notices:
            self._notices.append(text)
        return self

    def text(self, text: str) -> Report:
        """Paragraphs, separated by blank lines."""
        return self._add(*(f"<p>{escaped(part)}</p>" for part in text.split("\n\n") if part.strip()))

    def summary(self, sentences: Iterable[str]) -> Report:
        """What a reader in a hurry should know, before all sections."""
        here = self._sections
        self._sections = [("In brief", [])]
        self.verdicts(sentences)
        brief = self._sections if self._sections[0][1] else []
        self._sections = [here[0], *brief, *here[1:]]
        return self

    def absent(self, text: str, command: str = "") -> Report:
        """What the run did not produce, and the command that would."""
        how = f" To have it: <code>{escaped(command)}</code>" if command else ""
        return self._add(f'<p class="absent">{escaped(text)}{how}</p>')

    def verdicts(self, sentences: Iterable[str]) -> Report:
        """What was concluded, a sentence each, win or lose."""
        items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
        return self._add(f'<ul class="verdicts">{items}</ul>') if items else self

    def facts(self, facts: Mapping[str, object]) -> Report:
        """Names and their values, one pair a line. A list gives several lines; an empty value is left out."""
        rows = []
        for name, value in facts.items():
            several = list(value) if isinstance(value, (list, tuple)) else [value]
            cells = "".join(f"<dd>{escaped(shown(item))}</dd>" for item in several if item not in ("", None))
            rows.append(f"<dt>{escaped(name)}</dt>{cells}" if cells else "")
        return self._add(f"<dl>{''.join(rows)}</dl>") if any(rows) else self

    def table(self, table: pd.DataFrame | ScoreTable, caption: str) -> Report:
        """A table with its caption. A `ScoreTable` gives one table per direction, with its title before the caption.

        Numbers have four significant digits, missing ones are a dash; the first column heads the rows. Tables of many
        rows scroll in a box of their own.
        """
        if isinstance(table, ScoreTable):
            for (direction, mode), rows in table.groups().items():
                best = table.best_baseline(direction, mode)
                made = " on SIMULATED data" if table.simulated else ""
                title = f"{direction}, {mode}{made} ({rows[0].n_genes} genes, {rows[0].n_values} readings). {caption}"
                strong = [row.kind == "model" for row in rows]
                self._table(score_frame(table, direction, mode, best), title, strong)
            return self
        return self._table(table, caption)

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
        if not data.startswith(_PNG) or len(data) < 24:
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
        links = "".join(f'<li><a href="#{anchor}">{escaped(title)}</a></li>' for anchor, title in named)
        body = []
        for anchor, title, parts in titled:
            heading = f'<h2 id="{anchor}">{escaped(title)}</h2>' if title else ""
            label = f' aria-labelledby="{anchor}"' if title else ""
            if title or parts:
                body.append("\n".join([f"<section{label}>", heading, *parts, "</section>"]))
        head = [f"<h1>{escaped(self.title)}</h1>"]
        head += [f'<p class="lead">{escaped(self.subtitle)}</p>'] if self.subtitle else []
        head += [f'<p class="notice">{escaped(text)}</p>' for text in self._notices]
        contents = [f'<nav aria-label="Contents"><ul>{links}</ul></nav>'] if len(named) > 1 else []
        return "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en">',
                f'<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="referrer" content="no-referrer">',
                f"<title>{escaped(self.title)}</title><style>{STYLE}</style></head>",
                "<body>",
                "<header>",
                *head,
                "</header>",
                *contents,
                "<main>",
                *body,
                "</main>",
                f"<footer><p>Written by pinnsim {versions()['pinnsim']}. This file holds all it shows.</p></footer>",
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

    def _table(self, frame: pd.DataFrame, caption: str, strong: Sequence[bool] = ()) -> Report:
        self._tables += 1
        return self._add(html_table(frame, caption, f"table-{self._tables}", strong))

    def _picture(self, data: bytes, caption: str, alt: str | None) -> Report:
        # Pictures are drawn with more pixels than a screen's 96 per inch; the attributes give them their own size.
        width, height = (round(side * 96 / _DPI) for side in struct.unpack(">II", data[16:24]))
        source = base64.b64encode(data).decode("ascii")
        said = escaped(alt or caption or "Picture")
        image = f'<img src="data:image/png;base64,{source}" alt="{said}" width="{width}" height="{height}">'
        # On a phone a wide picture keeps its letters legible and scrolls in its box, which a keyboard reaches.
        box = f'<div class="picture" role="group" aria-label="Picture" tabindex="0">{image}</div>'
        return self._add(f"<figure>{box}<figcaption>{escaped(caption)}</figcaption></figure>")


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
