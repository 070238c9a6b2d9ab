"""Where an edit lands in a model's arrays: from the lab's names to positions, by the model's table."""

from collections.abc import Callable

from pinnsim.errors import Problems
from pinnsim.table import Table
from pinnsim.treatment.edit import FACTORS, Edit
from pinnsim.treatment.text import write_edit

Place = tuple[str, int, float]
_Locator = Callable[[Edit, Table], list[Place]]
_TABLES = {"signal": ("signal", "inputs"), "edge": ("edge_factor", "edges"), "reaction": ("factor", "reactions")}
_SPECIES = {"drive": "drive", "hold": "level", "activity": "activity"}


def locate(edit: Edit, table: Table, problems: Problems) -> list[Place]:
    """(array, position, value) for each number that an edit changes; notes `E_PERTURB_GENE` for what is not there."""
    if edit.field in _TABLES:
        array, what = _TABLES[edit.field]
        position = table.position(what, edit.name)
        if position is None:
            problems.add("E_PERTURB_GENE", table.unknown(what, edit.name))
            return []
        return [(array, position, edit.value)]
    if edit.field in _SPECIES and (position := table.position("species", edit.name)) is not None:
        return [(_SPECIES[edit.field], position, edit.value)]
    if table.position("genes", edit.name) is None and table.position("regulators", edit.name) is None:
        problems.add("E_PERTURB_GENE", table.unknown("genes", edit.name))
        return []
    places = _LOCATORS[edit.field](edit, table)
    if not places:
        there = ", ".join(name for name in table.reactions if name.endswith(f":{edit.name}"))
        problems.add(
            "E_PERTURB_GENE",
            f"'{write_edit(edit)}': this model has no such rate for '{edit.name}'; its reactions of that gene: "
            f"{there or 'none'}.",
        )
    return places


def _at(array: str, what: str, name: str, table: Table, value: float) -> list[Place]:
    position = table.position(what, name)
    return [] if position is None else [(array, position, value)]


def _factor(kind: str) -> _Locator:
    def places(edit: Edit, table: Table) -> list[Place]:
        return _at("factor", "reactions", f"{kind}:{edit.name}", table, edit.value)

    return places


def _first_layer_of(array: str, layers: tuple[str, ...]) -> _Locator:
    def places(edit: Edit, table: Table) -> list[Place]:
        found = (_at(array, "species", f"{edit.name}.{layer}", table, edit.value) for layer in layers)
        return next((place for place in found if place), [])

    return places


def _hidden(edit: Edit, table: Table) -> list[Place]:
    return _at("activity", "species", f"{edit.name}.activity", table, edit.value)


def _gene(edit: Edit, table: Table) -> list[Place]:
    return _factor("transcription")(edit, table) + _hidden(edit, table)


def _rnai(edit: Edit, table: Table) -> list[Place]:
    return _at("factor", "reactions", f"decay:{edit.name}", table, 1.0 / edit.value) + _hidden(edit, table)


def _product_decay(edit: Edit, table: Table) -> list[Place]:
    return _factor("protein_decay")(edit, table) or _factor("decay")(edit, table)


_LOCATORS: dict[str, _Locator] = {
    **{kind: _factor(kind) for kind in FACTORS},
    "gene": _gene,
    "rnai": _rnai,
    "product_decay": _product_decay,
    # A gene acts by its hidden activity, else by its last layer.
    "activity": _first_layer_of("activity", ("activity", "protein", "spliced", "mrna")),
    "drive": _first_layer_of("drive", ("unspliced", "mrna")),
    "hold": _first_layer_of("level", ("protein", "spliced", "mrna")),
}
