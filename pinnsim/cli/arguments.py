"""What is read from the command line: text in, values or coded errors out."""

import math
import os
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinnsim.errors import PinnsimError, Problems, did_you_mean, first

if TYPE_CHECKING:
    import numpy as np

    from pinnsim.data import Dataset
    from pinnsim.dynamics.kinetics import AbstractKinetics
    from pinnsim.formats.bundle import Bundle
    from pinnsim.formats.reaction_system import StoredSystem
    from pinnsim.project import Project

MOST_TIMES = 10_000_000

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The project file.", show_default=False)]


def model_names(incomplete: str) -> list[str]:
    """What completes the name of a model: those of the shelf, folders and .toml files. Imports no JAX."""
    from pinnsim import shelf

    return [name for name in shelf.models() if name.startswith(incomplete)] + _paths(incomplete, ".toml")


def experiment_names(incomplete: str) -> list[str]:
    """What completes the name of an experiment."""
    from pinnsim import shelf

    return [name for name in shelf.experiments() if name.startswith(incomplete)]


def _paths(incomplete: str, suffix: str) -> list[str]:
    """Folders, which end in a slash, and files of one kind that begin so."""
    whole = Path(incomplete or ".")
    folder = whole if incomplete.endswith(("/", os.sep)) or not incomplete else whole.parent
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    names = [f"{path.as_posix()}/" if path.is_dir() else path.as_posix() for path in found]
    return [name for name in names if name.startswith(incomplete) and name.endswith(("/", suffix))]


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name on the shelf, a bundle's folder, or a reaction system's .toml.",
        autocompletion=model_names,
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go; made when absent.", show_default=False)
]
ProgressBar = Annotated[bool, typer.Option("--progress/--no-progress", help="Bars while it works.")]


def read_project(path: Path, without: Sequence[str] = (), **fit: int | None) -> "Project":
    """The project of a file; `without`: conditions to leave out; `fit`: settings of its plan to replace, where they are
    given."""
    from pinnsim.fit import FitPlan
    from pinnsim.formats.toml import parse_config, read_config
    from pinnsim.project import ProjectConfig, assemble

    config = read_config(path, ProjectConfig)
    changes = {name: value for name, value in fit.items() if value is not None}
    if changes:
        plan = parse_config({**config.fit.model_dump(), **changes}, FitPlan, "the command line")
        config = config.model_copy(update={"fit": plan})
    project = assemble(config, path.parent)
    if not without:
        return project
    there = project.dataset.conditions
    with Problems() as problems:
        for name in without:
            if name not in there:
                near = did_you_mean(name, there)
                problems.add("E_CONDITION_UNKNOWN", f"no condition '{name}'{near} to leave out of {first(there)}.")
        kept = tuple(name for name in there if name not in without)
        if not kept:
            problems.add("E_DATA_EMPTY", "every condition was left out, so that nothing is left to fit.")
    data = config.data.model_copy(update={"conditions": kept})
    return assemble(config.model_copy(update={"data": data}), path.parent)


def is_cells(path: Path) -> bool:
    """Whether a project file is of single cells: it has a section `[cells]`. Other mistakes are left to its reader."""
    from pinnsim.formats.toml import parse_toml, read_text

    return "cells" in parse_toml(read_text(path), str(path))


def read_times(text: str, option: str = "--times") -> "np.ndarray":
    """Times, or other numbers, from `start:stop:step` (the stop included where a step meets it) or a list `0,5,10`.

    **Raises:** `E_USAGE` for other text, `E_SIZE` for more times than anyone can want.
    """
    import numpy as np

    form = "give start:stop:step, for example 0:150:1, or a list, for example 0,5,10"
    parts = text.split(":") if ":" in text else text.split(",")
    try:
        numbers = [Decimal(part.strip()) for part in parts]
    except InvalidOperation:
        numbers = []
    if not numbers or not all(number.is_finite() for number in numbers) or (":" in text and len(numbers) != 3):
        raise PinnsimError.of("E_USAGE", f"{option} '{text}' cannot be read; {form}.")
    if ":" not in text:
        return np.array([float(number) for number in numbers])
    start, stop, step = numbers
    if step <= 0 or stop <= start:
        raise PinnsimError.of("E_USAGE", f"{option} '{text}' needs start < stop and step > 0; {form}.")
    # In decimals 0.1 is a tenth, so that 0:1:0.1 ends at 1.
    count = math.floor((stop - start) / step) + 1
    if count > MOST_TIMES:
        raise PinnsimError.of("E_SIZE", f"{option} '{text}' are {count:.2e} numbers, limit {MOST_TIMES:.0e}.")
    return np.array([float(start + number * step) for number in range(count)])


def read_model(name: str) -> "Bundle":
    """A model of the shelf by its name, or of a bundle's folder. A folder of that name goes first."""
    from pinnsim import shelf
    from pinnsim.formats.bundle import load_model

    if Path(name).is_dir():
        return load_model(name)
    if "/" in name or "\\" in name:
        raise PinnsimError.of("E_CKPT_MISSING", f"no model bundle in '{name}': there is no such folder.")
    return shelf.load(name)


def read_system(name: str) -> "StoredSystem | None":
    """A reaction system by the name of its file or folder, or by its name on the shelf; `None` for other models."""
    from pinnsim import shelf
    from pinnsim.formats.reaction_system import holds_system, load_system

    place = Path(name)
    if place.suffix == ".toml":
        return load_system(place)
    if not place.is_dir():
        if name not in shelf.models():
            return None
        place = shelf.path(name)
    return load_system(place) if holds_system(place) else None


def read_members(name: str) -> "list[AbstractKinetics]":
    """The equations of a reaction system, or of all members of a bundle, the best first."""
    from pinnsim.parameter import resolve

    system = read_system(name)
    if system is not None:
        return [resolve(system.system)]
    return [resolve(member.kinetics) for member in read_model(name).models]


def read_data(name: str) -> "Dataset":
    """The data of a project file, averaged as the file says, or an embedded data set by its name."""
    from pinnsim.data import load

    if Path(name).suffix != ".toml":
        return load(name)[0].mean()
    dataset = read_project(Path(name)).dataset
    return dataset if len(dataset.replicates) == 1 else dataset.mean()


def check_folder(out: Path) -> None:
    """Refuses a folder that cannot be made or written, before any work is done. Makes nothing. **Raises:** `E_DISK`."""
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    with Problems() as problems:
        if not nearest.is_dir():
            problems.add("E_DISK", f"'{out}' cannot be a folder: '{nearest}' is a file; choose another folder.")
        elif not os.access(nearest, os.W_OK | os.X_OK):
            problems.add("E_DISK", f"'{out}' cannot be written: no permission in '{nearest}'; choose another folder.")
