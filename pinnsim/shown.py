"""How objects show themselves: a heading and a few rows of facts, as text and, in notebooks, as HTML.

A model's facts are names, counts and units, never numbers of arrays, so that it shows itself also where its numbers are
not known yet (inside a compiled function).
"""

import html
from collections.abc import Sequence

Facts = tuple[str, Sequence[tuple[str, object]]]

_CELL = "text-align:left;padding:1px 10px 1px 0;vertical-align:top;border:none"
_WIDEST = 110


def as_text(facts: Facts) -> str:
    """The heading and a row per line.

    >>> print(as_text(("Network", [("genes", 3), ("edges", 2)])))
    Network
      genes  3
      edges  2
    """
    title, rows = facts
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{width}}  {_cut(str(value))}" for name, value in rows]
    return "\n".join([title, *lines])


def as_html(facts: Facts) -> str:
    """The same as a small table; everything is escaped."""
    title, rows = facts
    body = "".join(
        f'<tr><th scope="row" style="{_CELL};font-weight:600">{html.escape(name)}</th>'
        f'<td style="{_CELL}">{html.escape(_cut(str(value)))}</td></tr>'
        for name, value in rows
    )
    heading = f"<strong>{html.escape(title)}</strong>"
    return f'<div class="pinnsim">{heading}<table style="border-collapse:collapse;margin:2px 0">{body}</table></div>'


def some(names: Sequence[object], most: int = 6) -> str:
    """How many there are and the first of them.

    >>> some(["a", "b", "c"], 2)
    '3 (a, b ...)'
    """
    shown = ", ".join(str(name) for name in names[:most])
    return f"{len(names)} ({shown}{' ...' if len(names) > most else ''})" if len(names) else "none"


def span(low: float, high: float, unit: str) -> str:
    """A range with its unit.

    >>> span(0.0, 12.5, "h")
    '0 to 12.5 h'
    """
    return f"{low:g} to {high:g} {unit}".strip()


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDEST else flat[: _WIDEST - 4] + " ..."
