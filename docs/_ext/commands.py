"""What the command line says of itself, verb by verb, and a table of the models on the shelf."""

import contextlib
import io
from pathlib import Path

import typer

from pinnsim.cli.app import app, run


def verbs() -> list[list[str]]:
    """Every verb, groups with each of theirs."""
    command = typer.main.get_command(app)
    found = []
    for name, verb in command.commands.items():  # type: ignore[attr-defined]
        found.append([name])
        found += [[name, inner] for inner in getattr(verb, "commands", {})]
    return found


def page() -> str:
    """Markdown: the help of every verb, as `--help` prints it."""
    return "\n\n".join(f"## pinnsim {' '.join(verb)}\n\n```none\n{told([*verb, '--help'])}\n```" for verb in verbs())


def told(arguments: list[str]) -> str:
    """What a command line prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = run(arguments)
    if status:
        raise ValueError(f"pinnsim {' '.join(arguments)} ends with status {status}")
    return printed.getvalue().strip("\n")


def shelf_table(folder: Path) -> str:
    """Markdown: a row per model, with the title of its card."""
    rows = ["| name | what it is |", "|---|---|"]
    for card in sorted(folder.glob("*/README.md")):
        title = card.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        rows.append(f"| [{card.parent.name}](../models/{card.parent.name}/README.md) | {title} |")
    return "\n".join(rows)
