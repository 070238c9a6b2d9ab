"""What is shown and written: tables for the terminal, files that appear whole or not at all.

With `--json` standard output holds one JSON text and nothing else: what is otherwise said there goes to stderr.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pinnsim.data import Dataset
    from pinnsim.project import Project

AsJson = Annotated[bool, typer.Option("--json", help="One JSON text on stdout, for programs; all else on stderr.")]

_for_programs: ContextVar[bool] = ContextVar("for_programs", default=False)
_NOTHING = 1e-4  # of a reading, which no instrument tells from 0
_PATHS = {"data": ("tidy", "wide", "samples"), "network": ("path",), "prior": ("half_lives",)}


def speak_to(programs: bool) -> None:
    """From here on `tell` and `show_table` speak to people on stdout, or, where stdout is for programs, on stderr."""
    _for_programs.set(programs)


def tell(text: str) -> None:
    """Says a line to people."""
    typer.echo(text, err=_for_programs.get())


def answer(values: Mapping[str, Any]) -> None:
    """The JSON text, where stdout is for programs; else nothing."""
    if _for_programs.get():
        typer.echo(to_json(values), nl=False)


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """A table as a list of rows by name, for JSON."""
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def write_files(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Writes files, each under its name only when it is whole. **Raises:** `E_DISK`."""
    # Storage needs JAX, which --help must not wait for.
    from pinnsim.store import replacing

    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def to_json(values: Mapping[str, Any]) -> str:
    """JSON text; what is not a finite number is null."""
    return json.dumps(_plain(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on the terminal; numbers to the right. A pipe gets all columns, however narrow a terminal would be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    lines = [[_cell(value) for value in row] for row in rows]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        right = all(_is_number(line[number]) for line in lines) and bool(lines)
        grid.add_column(name, justify="right" if right else "left", overflow="fold")
    for line in lines:
        grid.add_row(*line)
    console = Console(highlight=False, markup=False, file=sys.stderr if _for_programs.get() else None)
    console.width = console.width if console.is_terminal else 160
    console.print(f"\n{title}")
    console.print(grid)


def largest(names: Sequence[object], change: "np.ndarray", count: int = 4) -> str:
    """The largest changes by name, `gA +1.2, gB -0.8`; changes that are nothing but rounding are left out."""
    import numpy as np

    if not np.isfinite(change).all():
        return ""
    order = [int(k) for k in np.argsort(-np.abs(change), kind="stable")[:count] if abs(change[k]) > _NOTHING]
    return ", ".join(f"{names[k]} {change[k]:+.2g}" for k in order) or "none"


def highest(names: Sequence[object], values: "np.ndarray", count: int = 4) -> str:
    """The highest values by name, `gA 3.2, gB 0.8`; what is not a number is left out."""
    import numpy as np

    kept = np.where(np.isfinite(values), values, -np.inf)
    order = [int(k) for k in np.argsort(-kept, kind="stable")[:count] if kept[k] > _NOTHING]
    return ", ".join(f"{names[k]} {kept[k]:.2g}" for k in order) or "none"


def project_copy(project: "Project", source: Path, folder: Path) -> str:
    """The complete configuration of a run as TOML, defaults included, with paths that hold from `folder`."""
    from pinnsim.formats.toml import to_toml

    config = project.config.model_dump(mode="json", exclude_none=True)
    for section, names in _PATHS.items():
        for name in names:
            if name in config[section]:
                config[section][name] = _from(folder, source.parent / config[section][name])
    return f"# Everything that '{source.name}' said and left to its defaults.\n{to_toml(config)}"


def describe_data(project: "Project") -> dict[str, Any]:
    """What a report says about the data: citation, digest, size, caveats."""
    from pinnsim.data.carbon_shift import CAVEATS, NAME
    from pinnsim.report import coverage_of

    dataset = project.dataset
    return {
        "source": dataset.source or project.config.data.tidy or project.config.data.wide or "",
        "digest": dataset.digest(),
        "simulated": dataset.simulated,
        "description": project.measured.describe(),
        "caveats": list(CAVEATS) if project.config.data.name == NAME else [],
        "conditions": {name: str(t) for name, t in zip(dataset.conditions, dataset.treatments, strict=True)},
        "times": list(span(dataset)),
        "time_unit": dataset.time_unit,
        "scale": dataset.scale,
        "genes": len(dataset.genes),
        "coverage": coverage_of(project.measured),
    }


def span(dataset: "Dataset") -> tuple[float, float]:
    """First and last time of a data set."""
    last = max(float(times[length - 1]) for times, length in zip(dataset.times, dataset.length, strict=True))
    return float(dataset.times[:, 0].min()), last


def _from(folder: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    number = float(value)
    return number if math.isfinite(number) else None
