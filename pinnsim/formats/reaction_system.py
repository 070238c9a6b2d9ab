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
beside it. Rates are constants of mass action, per time unit and abundance unit (`pinnsim.dynamics.reactions`), or
formulas for such constants, of species, signals and the numbers under `[constants]` (`pinnsim.dynamics.formula`):

    rate = "most * repress(lacI, threshold, 2)"

What is no reaction at all, because coordinates may be negative, is a flow, `kind = "flow"`, with a formula for the
change of each coordinate under `[flow]`, or the energy that they descend, `energy = "x^4 - x^2"`.

A law that is Python code has no place in a file, because nothing is executed from files.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pinnsim.dynamics.drift import Descent, DriftField, drift_field
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import MassAction, ReactionSystem, reaction_system
from pinnsim.dynamics.written import FormulaEnergy, FormulaFlow, FormulaLaw, formula_flow, formula_law
from pinnsim.errors import PinnsimError, Problem, Problems
from pinnsim.formats.bundle import MANIFEST
from pinnsim.formats.toml import parse_config, parse_toml, read_text, to_toml
from pinnsim.parameter import resolve
from pinnsim.store import replacing, version_sentence

KIND, FLOW, SCHEMA, FILE = "reaction_system", "flow", 1, "model.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReactionEntry(_Section):
    """One reaction: its name, its equation and its rate constant, a number or a formula."""

    name: str
    equation: str
    rate: float | str


class ReactionSystemFile(_Section):
    """All of the file. `species`: their order, if it is not the one in which they occur; `genes`: names that treatments
    may use, where reactions are called `kind:gene` and species `gene.layer`; `inputs`: names of signals; `constants`:
    numbers that formulas use."""

    schema_version: int
    kind: Literal["reaction_system"]
    time_unit: str
    species: tuple[str, ...] | None = None
    genes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    start: dict[str, float] = {}
    constants: dict[str, float] = {}
    notes: dict[str, Any] = {}
    reactions: tuple[ReactionEntry, ...]

    def system(self) -> ReactionSystem:
        """The system. **Raises** as `reaction_system` and `formula_law` do."""
        # A first reading finds the species, whose names formulas use; 1 stands for rates that are formulas.
        plain = [
            Reaction(entry.name, entry.equation, 1.0 if isinstance(entry.rate, str) else entry.rate)
            for entry in self.reactions
        ]
        system = reaction_system(
            plain,
            time_unit=self.time_unit,
            species=self.species,
            start=self.start,
            inputs=self.inputs,
            genes=self.genes,
        )
        if not any(isinstance(entry.rate, str) for entry in self.reactions):
            return system
        with Problems() as problems:
            rates = {entry.name: entry.rate for entry in self.reactions}
            law = formula_law(
                rates, system.table.species, problems, constants=self.constants, inputs=system.table.inputs
            )
        return dataclasses.replace(system, law=law)


class FlowFile(_Section):
    """All of a flow's file: a formula for each coordinate's change, or an `energy` that they descend."""

    schema_version: int
    kind: Literal["flow"]
    time_unit: str
    start: dict[str, float]
    constants: dict[str, float] = {}
    notes: dict[str, Any] = {}
    flow: dict[str, str] = {}
    energy: str | None = None

    def system(self) -> DriftField:
        """The system. **Raises** as `formula_flow` does."""
        names = tuple(self.start)
        with Problems() as problems:
            flow = formula_flow(self.flow, self.energy, names, problems, constants=self.constants)
        return drift_field(flow, names, list(self.start.values()), time_unit=self.time_unit)


@dataclass(frozen=True)
class StoredSystem:
    """What a file holds: the system, and the author's own notes."""

    system: ReactionSystem | DriftField
    notes: dict[str, Any]


def holds_system(path: str | Path) -> bool:
    """Whether a file, or a folder's `model.toml`, is that of a reaction system or a flow. A folder with a manifest is a
    model bundle, whatever has become of its files."""
    file = _file(path)
    if Path(path).is_dir() and (Path(path) / MANIFEST).exists():
        return False
    return file.is_file() and parse_toml(read_text(file), str(file)).get("kind") in (KIND, FLOW)


def load_system(path: str | Path) -> StoredSystem:
    """The reaction system or flow of a file, or of a folder with a `model.toml`.

    **Raises:** `E_CONFIG_FILE`; `E_CONFIG_KEY` and `E_CONFIG_VALUE` for keys and types, all at once, with their lines;
    then `E_CKPT_VERSION`, `E_FORMULA`, `E_CONFIG_VALUE` and `E_NETWORK_EMPTY` for what they say, all at once.
    """
    file = _file(path)
    text = read_text(file)
    return _parsed(text, str(file))


def save_system(path: str | Path, system: ReactionSystem | DriftField, notes: dict[str, Any] | None = None) -> None:
    """Writes a reaction system or flow as a file, or as `model.toml` of an existing folder, atomically.

    **Raises:** `E_CKPT_MODEL` for what a file cannot hold: rate laws that are code, signals, regulators; `E_FORMULA`
    for names that equations cannot; `E_CONFIG_VALUE` for notes that TOML cannot; `E_DISK`.
    """
    text = to_toml(describe_system(system) | {"notes": dict(notes or {})})
    # Read back before anything is written, so that what was saved can be loaded.
    _parsed(text, str(_file(path)))
    with replacing(_file(path)) as temporary:
        temporary.write_bytes(text.encode())


def describe_system(system: ReactionSystem | DriftField) -> dict[str, Any]:
    """The entries of the file. **Raises:** `E_CKPT_MODEL`."""
    system, table = resolve(system), system.table
    start = dict(zip(table.species, np.asarray(system.start).tolist(), strict=True))
    head = {"schema_version": SCHEMA, "time_unit": system.time_unit}
    if isinstance(system, DriftField):
        return head | {"kind": FLOW, "start": start} | _flow_entries(system)
    law = system.law
    if not isinstance(law, MassAction | FormulaLaw):
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"The rates of this system are Python code ({type(law).__name__}), which a file cannot hold; write its "
            "reactions as mass action or formulas, or keep the Python that builds it.",
        )
    if table.regulators or table.edges or (table.inputs and isinstance(law, MassAction)):
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            "This system names signals, regulators or edges that its rates do not use, and a file does not hold them; "
            "build it without them.",
        )
    written = law.formulas if isinstance(law, FormulaLaw) else (None,) * len(table.reactions)
    factors = np.asarray(law.factor if isinstance(law, FormulaLaw) else law.constant).tolist()
    if any(f is not None and c != 1.0 for f, c in zip(written, factors, strict=True)):
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            "Rates that are formulas were multiplied by other factors than 1, which a file does not hold; write them "
            "into the formulas, as constants.",
        )
    rates = [c if f is None else f.text for f, c in zip(written, factors, strict=True)]
    changes = system.stoichiometry()
    entries = []
    for r, name in enumerate(table.reactions):
        used = np.bincount(np.asarray(system.structure.reactants[r], dtype=int), minlength=len(table.species))
        sides = " -> ".join(_side(counts, table.species) for counts in (used, used + changes[:, r]))
        entries.append({"name": name, "equation": sides, "rate": rates[r]})
    return head | {
        "kind": KIND,
        "species": list(table.species),
        "genes": list(table.genes),
        "inputs": list(table.inputs),
        "start": {name: amount for name, amount in start.items() if amount},
        "constants": _numbers(law.constants) if isinstance(law, FormulaLaw) else {},
        "reactions": entries,
    }


def _flow_entries(system: DriftField) -> dict[str, Any]:
    flow = system.flow
    if isinstance(flow, Descent) and isinstance(flow.energy, FormulaEnergy):
        return {"constants": _numbers(flow.energy.constants), "energy": flow.energy.formula.text}
    if isinstance(flow, FormulaFlow):
        written = {name: f.text for name, f in zip(flow.species, flow.formulas, strict=True)}
        return {"constants": _numbers(flow.constants), "flow": written}
    raise PinnsimError.of(
        "E_CKPT_MODEL",
        f"This flow is Python code ({type(flow).__name__}), which a file cannot hold; write it as formulas, or keep "
        "the Python that builds it.",
    )


def _numbers(constants: dict[str, Any]) -> dict[str, float]:
    return {name: np.asarray(value).item() for name, value in constants.items()}


def _side(counts: np.ndarray, species: tuple[str, ...]) -> str:
    terms = [species[i] if counts[i] == 1 else f"{counts[i]} {species[i]}" for i in np.flatnonzero(counts)]
    return " + ".join(terms) or "0"


def _parsed(text: str, place: str) -> StoredSystem:
    entries = parse_toml(text, place)
    content: ReactionSystemFile | FlowFile
    if entries.get("kind") == FLOW:
        content = parse_config(entries, FlowFile, place, text)
    else:
        content = parse_config(entries, ReactionSystemFile, place, text)
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
