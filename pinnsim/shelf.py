"""The shelf: models that come with pinnsim, each a bundle or a reaction system with a card, and the experiments.

`models/` and `experiments/` are no import packages. In a wheel they lie inside the package, under `_share`; in a
checkout, and in an editable install of one, beside it.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from pinnsim.errors import PinnsimError, did_you_mean

if TYPE_CHECKING:
    from pinnsim.formats.bundle import Bundle
    from pinnsim.formats.reaction_system import StoredSystem

_PACKAGE = Path(__file__).resolve().parent


def models() -> dict[str, str]:
    """The models on the shelf: name -> first line of the card."""
    folders = sorted(entry.parent for entry in _folder("models").glob("*/model.toml"))
    return {folder.name: _headline(folder / "README.md") for folder in folders if folder.suffix != ".previous"}


def path(name: str) -> Path:
    """The folder of a model. **Raises:** `E_MODEL_UNKNOWN` with the closest name and all names."""
    known = models()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "the shelf is empty"
        raise PinnsimError.of("E_MODEL_UNKNOWN", f"no model '{name}'{did_you_mean(name, known)} on the shelf; {there}.")
    return _folder("models") / name


def load(name: str) -> "Bundle":
    """A model of the shelf that is a bundle. **Raises:** `E_MODEL_UNKNOWN`, `E_USAGE` for a reaction system, and what
    `load_model` raises."""
    # Listing names needs no JAX; loading does.
    from pinnsim.formats.bundle import load_model
    from pinnsim.formats.reaction_system import holds_system

    if holds_system(path(name)):
        raise PinnsimError.of("E_USAGE", f"'{name}' is a reaction system; load it with shelf.load_system('{name}').")
    return load_model(path(name))


def load_system(name: str) -> "StoredSystem":
    """A reaction system of the shelf. **Raises:** `E_MODEL_UNKNOWN`, and what `formats.reaction_system.load_system`
    raises."""
    from pinnsim.formats import reaction_system

    return reaction_system.load_system(path(name))


def experiments() -> dict[str, str]:
    """The experiments: name -> the question, which is the first line of the file."""
    files = sorted(entry for entry in _folder("experiments").glob("*.py") if not entry.stem.startswith("_"))
    return {file.stem: _question(file) for file in files}


def experiment_path(name: str) -> Path:
    """The file of an experiment; its plan lies beside it as `<name>.toml`. **Raises:** `E_EXPERIMENT_UNKNOWN`."""
    known = experiments()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "none are installed"
        raise PinnsimError.of("E_EXPERIMENT_UNKNOWN", f"no experiment '{name}'{did_you_mean(name, known)}; {there}.")
    return _folder("experiments") / f"{name}.py"


def campaigns() -> dict[str, str]:
    """Campaigns to begin from: name -> first line of the file."""
    files = sorted((_folder("experiments") / "sweeps").glob("*.toml"))
    return {file.stem: _headline(file) for file in files}


def campaign_path(name: str) -> Path:
    """The file of a campaign. **Raises:** `E_EXPERIMENT_UNKNOWN`."""
    known = campaigns()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "none are installed"
        raise PinnsimError.of(
            "E_EXPERIMENT_UNKNOWN", f"no campaign's file and no campaign '{name}'{did_you_mean(name, known)}; {there}."
        )
    return _folder("experiments") / "sweeps" / f"{name}.toml"


def _folder(what: str) -> Path:
    """Where `models` or `experiments` lie; in an install without either, a folder that does not exist."""
    inside, beside = _PACKAGE / "_share" / what, _PACKAGE.parent / what
    # Site-packages may hold a `models` of somebody else; a checkout has a project file.
    in_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    return beside if in_checkout and not inside.is_dir() else inside


def _headline(card: Path) -> str:
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    return next((line.lstrip("# ").strip() for line in lines if line.strip("# ")), "")


def _question(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
