"""The page of results, written from `experiments/results/*.json`: every experiment, every bar, wins and losses.

Nothing is chosen and nothing is typed in. A row without a value fails, and a row whose `holds` contradicts its own
value and bar ends the build. Nothing here needs Sphinx.
"""

import ast
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MANY = 12  # numbers of a list that are shown one by one
_PICTURES = (".png", ".gif", ".svg")


def read(folder: Path) -> list[dict[str, Any]]:
    """All results files of `folder/results`, with each experiment's question and pictures, by name."""
    files = sorted((folder / "results").glob("*.json"))
    names = [path.stem for path in files]
    found = []
    for path in files:
        result = json.loads(path.read_text(encoding="utf-8"))
        pictures = [
            picture
            for picture in sorted(path.parent.glob(f"{path.stem}*"))
            if picture.suffix in _PICTURES and _owner(picture.stem, names) == path.stem
        ]
        found.append({**result, "name": path.stem, "question": _question(folder, path.stem), "pictures": pictures})
    return found


def page(folder: Path) -> str:
    """Markdown: totals, what fails, a table of all experiments, a section each."""
    results = read(folder)
    rows = [(result, row) for result in results for row in result["acceptance"]]
    failing = [(result, row) for result, row in rows if not holds(row)]
    failing.sort(key=lambda pair: pair[1]["value"] is None)  # what was measured and lost comes first
    unmeasured = sum(row["value"] is None for _, row in failing)
    why = f", {unmeasured} of them because they were not measured (a machine, a rival or time was not at hand)"
    parts = [
        f"**{len(results)} experiments set {len(rows)} bars. {len(rows) - len(failing)} hold, {len(failing)} fail"
        + (why if unmeasured else "")
        + ".** "
        "All that fail are here first; every experiment follows with all its bars, baselines and pictures.",
        "## What fails",
        _table(
            ["experiment", "what was asked", "value", "bar"],
            ([_link(result["name"]), _cell(row["what"]), _value(row), _bar(row)] for result, row in failing),
        )
        if failing
        else "Nothing, at present.",
        "## All experiments",
        _table(
            ["experiment", "question", "hold", "fail"],
            (
                [
                    _link(result["name"]),
                    _cell(result["question"]),
                    str(sum(map(holds, result["acceptance"]))),
                    _count(sum(not holds(row) for row in result["acceptance"])),
                ]
                for result in results
            ),
        ),
        *(section(result) for result in results),
    ]
    return "\n\n".join(parts)


def section(result: dict[str, Any]) -> str:
    """One experiment: question, bars, notes, pictures, numbers of the model and of its baselines, machine."""
    name = result["name"]
    parts = [f"({anchor(name)})=\n## {name.replace('_', ' ')}", _text(result["question"])]
    parts.append(
        _table(
            ["", "what was asked", "value", "bar"],
            ([_verdict(row), _cell(row["what"]), _value(row), _bar(row)] for row in result["acceptance"]),
        )
    )
    parts += [f"- {_text(note)}" for note in result.get("notes", [])]
    for picture in result["pictures"]:
        parts.append(f"![{_text(result['question'])}](../experiments/results/{picture.name})")
    if result.get("baselines"):
        parts.append(
            _numbers("Baselines: what trivial predictions score on the same question", result["baselines"], True)
        )
    if result.get("metrics"):
        parts.append(_numbers("All numbers of the run", result["metrics"], False))
    parts.append(_provenance(result))
    return "\n\n".join(parts)


def holds(row: dict[str, Any]) -> bool:
    """Whether a row's value reaches its bar. **Raises** `ValueError` where the row says otherwise."""
    value, bar = row["value"], row["bar"]
    reached = value is not None and (value <= bar if row["better"] == "lower" else value >= bar)
    if reached != row["holds"]:
        raise ValueError(
            f"the row '{row['what']}' is said to hold: {row['holds']}, but {value} and {bar} say {reached}"
        )
    return bool(reached)


def anchor(name: str) -> str:
    return f"result-{name.replace('_', '-')}"


def _owner(stem: str, names: list[str]) -> str:
    """The longest experiment's name that a picture's name begins with."""
    owners = [name for name in names if stem == name or stem.startswith(f"{name}_")]
    return max(owners, key=len, default="")


def _question(folder: Path, name: str) -> str:
    path = folder / f"{name}.py"
    if not path.exists():
        return "The experiment's file is not in this checkout."
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Plain words as markdown that shows them as they are."""
    escaped = html.escape(" ".join(str(text).split()), quote=False)
    for mark in "\\`*_[]$#{}~":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _link(name: str) -> str:
    return f"[{name.replace('_', ' ')}](#{anchor(name)})"


def _verdict(row: dict[str, Any]) -> str:
    return '<span class="holds">holds</span>' if holds(row) else '<span class="fails">FAILS</span>'


def _value(row: dict[str, Any]) -> str:
    return "not measured" if row["value"] is None else f"{row['value']:.4g}"


def _bar(row: dict[str, Any]) -> str:
    return f"{'at most' if row['better'] == 'lower' else 'at least'} {row['bar']:g}"


def _count(number: int) -> str:
    return f'<span class="fails">{number}</span>' if number else "0"


def _numbers(title: str, numbers: dict[str, Any], shown: bool) -> str:
    """A table of nested numbers, behind a line to click on."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in flat(numbers))
    opened = " open" if shown and len(list(flat(numbers))) <= _MANY else ""
    return (
        f'<details class="numbers"{opened}><summary>{html.escape(title)}</summary>'
        f'<table class="table"><tbody>{rows}</tbody></table></details>'
    )


def flat(numbers: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested numbers as rows; long lists by how many there are and their range."""
    if isinstance(numbers, dict):
        for key, item in numbers.items():
            yield from flat(item, f"{name}, {key}" if name else str(key))
    elif isinstance(numbers, list) and any(isinstance(item, dict | list) for item in numbers):
        for k, item in enumerate(numbers):
            yield from flat(item, f"{name}, {k + 1}")
    elif isinstance(numbers, list) and len(numbers) > _MANY and all(isinstance(item, int | float) for item in numbers):
        yield name, f"{len(numbers)} numbers, {min(numbers):.4g} to {max(numbers):.4g}"
    elif isinstance(numbers, list):
        yield name, ", ".join(_plain(item) for item in numbers)
    else:
        yield name, _plain(numbers)


def _plain(item: Any) -> str:
    if item is None:
        return "not measured"
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def _provenance(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    cores = machine.get("cores", "?")
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    seeds = ", ".join(map(str, result["seeds"]))
    name = result["name"]
    return (
        f"{cores} core{'' if cores == 1 else 's'}, {_text(str(machine.get('device', '?')))}; seeds {_text(seeds)}; "
        f"{_text(used)}. Plan, run and file: [plan](../experiments/{name}.toml), [code](../experiments/{name}.py), "
        f"[numbers](../experiments/results/{name}.json)."
    )
