"""A reaction system as one TOML file that people write: reactions as text, rates, amounts to start from.

    schema_version = 1
    kind = "reaction_system"
    time_unit = "s"

    [start]
    x = 82

    [[reactions]]
    name = "inflow"
    equation = "0 -> x"
    rate = 200.0

The file is complete: it holds every digit of every number, so that a system comes back as it was, without further files
beside it. Rates are constants of mass action, per time unit and abundance unit (`pinnsim.dynamics.reactions`); a rate
law that is Python code has no place in a file, because nothing is executed from files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import MassAction, ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError, Problem
from pinnsim.formats.bundle import MANIFEST
from pinnsim.formats.toml import parse_config, parse_toml, read_text, to_toml
from pinnsim.parameter import resolve
from pinnsim.store import replacing, version_sentence

KIND, SCHEMA, FILE = "reaction_system", 1, "model.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReactionEntry(_Section):
    """One reaction: its name, its equation and its rate constant."""

    name: str
    equation: str
    rate: float


class ReactionSystemFile(_Section):
    """All of the file. `species`: their order, if it is not the one in which they occur; `genes`: names that treatments
    may use, where reactions are called `kind:gene` and species `gene.layer`."""

    schema_version: int
    kind: Literal["reaction_system"]
    time_unit: str
    species: tuple[str, ...] | None = None
    genes: tuple[str, ...] = ()
    start: dict[str, float] = {}
    notes: dict[str, Any] = {}
    reactions: tuple[ReactionEntry, ...]

    def system(self) -> ReactionSystem:
        """The system. **Raises** as `reaction_system` does."""
        return reaction_system(
            [Reaction(entry.name, entry.equation, entry.rate) for entry in self.reactions],
            time_unit=self.time_unit,
            species=self.species,
            start=self.start,
            genes=self.genes,
        )


@dataclass(frozen=True)
class StoredSystem:
    """What a file holds: the system, and the author's own notes."""

    system: ReactionSystem
    notes: dict[str, Any]


def holds_system(path: str | Path) -> bool:
    """Whether a file, or a folder's `model.toml`, is that of a reaction system. A folder with a manifest is a model
    bundle, whatever has become of its files."""
    file = _file(path)
    if Path(path).is_dir() and (Path(path) / MANIFEST).exists():
        return False
    return file.is_file() and parse_toml(read_text(file), str(file)).get("kind") == KIND


def load_system(path: str | Path) -> StoredSystem:
    """The reaction system of a file, or of a folder with a `model.toml`.

    **Raises:** `E_CONFIG_FILE`; `E_CONFIG_KEY` and `E_CONFIG_VALUE` for keys and types, all at once, with their lines;
    then `E_CKPT_VERSION`, `E_FORMULA`, `E_CONFIG_VALUE` and `E_NETWORK_EMPTY` for what they say, all at once.
    """
    file = _file(path)
    text = read_text(file)
    return _parsed(text, str(file))


def save_system(path: str | Path, system: ReactionSystem, notes: dict[str, Any] | None = None) -> None:
    """Writes a reaction system as a file, or as `model.toml` of an existing folder, atomically.

    **Raises:** `E_CKPT_MODEL` for what a file cannot hold: rate laws that are code, signals, regulators; `E_FORMULA`
    for names that equations cannot; `E_CONFIG_VALUE` for notes that TOML cannot; `E_DISK`.
    """
    text = to_toml(describe_system(system) | {"notes": dict(notes or {})})
    # Read back before anything is written, so that what was saved can be loaded.
    _parsed(text, str(_file(path)))
    with replacing(_file(path)) as temporary:
        temporary.write_bytes(text.encode())


def describe_system(system: ReactionSystem) -> dict[str, Any]:
    """The entries of the file. **Raises:** `E_CKPT_MODEL`."""
    system, table = resolve(system), system.table
    if not isinstance(system.law, MassAction):
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"The rates of this system are Python code ({type(system.law).__name__}), which a file cannot hold; write "
            "its reactions as mass action, or keep the Python that builds it.",
        )
    if table.inputs or table.regulators or table.edges:
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            "This system names signals, regulators or edges, which mass action does not use and a file does not hold; "
            "build it without them.",
        )
    rates, start = np.asarray(system.law.constant).tolist(), np.asarray(system.start).tolist()
    changes = system.stoichiometry()
    entries = []
    for r, name in enumerate(table.reactions):
        used = np.bincount(np.asarray(system.structure.reactants[r], dtype=int), minlength=len(table.species))
        sides = " -> ".join(_side(counts, table.species) for counts in (used, used + changes[:, r]))
        entries.append({"name": name, "equation": sides, "rate": rates[r]})
    return {
        "schema_version": SCHEMA,
        "kind": KIND,
        "time_unit": system.time_unit,
        "species": list(table.species),
        "genes": list(table.genes),
        "start": {name: amount for name, amount in zip(table.species, start, strict=True) if amount},
        "reactions": entries,
    }


def _side(counts: np.ndarray, species: tuple[str, ...]) -> str:
    terms = [species[i] if counts[i] == 1 else f"{counts[i]} {species[i]}" for i in np.flatnonzero(counts)]
    return " + ".join(terms) or "0"


def _parsed(text: str, place: str) -> StoredSystem:
    content = parse_config(parse_toml(text, place), ReactionSystemFile, place, text)
    if content.schema_version != SCHEMA:
        raise PinnsimError.of("E_CKPT_VERSION", f"'{place}': {version_sentence(content.schema_version, SCHEMA)}")
    try:
        return StoredSystem(content.system(), content.notes)
    except PinnsimError as error:
        raise PinnsimError(
            [Problem(one.code, f"{one.message.rstrip('.')} ({place}).") for one in error.problems]
        ) from error


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / FILE if path.is_dir() else path
