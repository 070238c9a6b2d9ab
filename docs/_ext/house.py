"""The map of floors as a drawing: read from the table in CONTRIBUTING.md, which a test holds against the code."""

import html
import re

_WIDTH, _LEFT, _LINE, _CHAR = 900.0, 150.0, 26.0, 8.2


def floors(text: str) -> list[tuple[str, list[str], str]]:
    """Rows of the table from the ground up: name, units, what lives there."""
    rows = re.findall(r"^\| (\d [^|]*)\|([^|]*)\|([^|]*)\|$", text, flags=re.M)
    return [(name.strip(), re.findall(r"`(\w+/?)`", units), told.strip()) for name, units, told in rows]


def drawn(text: str) -> str:
    """An SVG of the house, the ground at the bottom; what stands higher imports from what stands lower."""
    y, parts = 8.0, []
    for name, units, told in reversed(floors(text)):
        placed, lines = _placed(units)
        height = 14.0 + _LINE * lines
        plain = html.escape(re.sub(r"[`*]", "", told))
        parts.append(
            f'<g><title>{plain}</title><rect x="2" y="{y:g}" width="{_WIDTH - 4:g}" height="{height:g}" rx="4"/>'
        )
        parts.append(
            f'<text x="14" y="{y + height / 2 + 5:g}" font-size="15" font-weight="600">{html.escape(name)}</text>'
        )
        for unit, x, line in placed:
            top = y + 8 + _LINE * line
            parts.append(
                f'<rect class="unit" x="{x:g}" y="{top:g}" width="{_wide(unit):g}" height="{_LINE - 5:g}" rx="3"/>'
                f'<text x="{x + 7:g}" y="{top + 15:g}" font-size="13">{html.escape(unit)}</text>'
            )
        parts.append("</g>")
        y += height + 7
    label = "The house: eight floors of files and folders; each imports from lower floors only."
    return (
        f'<div><svg class="house" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH:g} {y:g}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{label}</title>{"".join(parts)}</svg></div>'
    )


def _wide(unit: str) -> float:
    return 14 + _CHAR * len(unit)


def _placed(units: list[str]) -> tuple[list[tuple[str, float, int]], int]:
    """Units side by side, in as many lines as they need."""
    x, line, placed = _LEFT, 0, []
    for unit in units:
        if x + _wide(unit) > _WIDTH - 14:
            x, line = _LEFT, line + 1
        placed.append((unit, x, line))
        x += _wide(unit) + 7
    return placed, line + 1
