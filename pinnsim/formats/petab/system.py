"""A PEtab problem's model: an SBML model whose numbers conditions change, made ours.

What the first period of an experiment changes is an initial assignment of its own, so that other initial assignments
see it; which one holds is a constant of 0 or 1,

    S(0) = piecewise(value_1, S change 1, value_2, S change 2, ..., what the model says)

and what a later period changes is worked out from the state at its start. So one compiled program serves all
experiments, and every number of the parameter table is an array leaf.
"""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

from pinnsim.dynamics.naming import TIME, amount_of
from pinnsim.dynamics.operations import Tree, names_in
from pinnsim.dynamics.program import Program, program
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import Problems, did_you_mean
from pinnsim.errors import first as first_of
from pinnsim.formats.petab.tables import Tables
from pinnsim.formats.petab.v1 import own_number
from pinnsim.formats.sbml.build import build

Plain = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PetabSystem:
    """**Arguments:** `rules`: the model; `switches`: its constants of 0 or 1, by (target, tree) of first periods;
    `later`: places of the changes of later periods; `changing`: their values from `reads`, quantities of the model;
    `sizes`: per state, the compartment whose size makes it a concentration, or ''; `alias`: other names."""

    rules: RuleSystem
    switches: dict[tuple[str, Tree], str]
    later: dict[tuple[str, Tree], int]
    changing: Program
    reads: tuple[str, ...]
    sizes: tuple[str, ...]
    alias: dict[str, str]

    def place(self, target: str) -> tuple[str, int]:
        """Where a target lives: ('state' or 'kept', position)."""
        for kind, names in (("state", self.rules.states), ("kept", self.rules.kept)):
            for name in (target, amount_of(target)):
                if name in names:
                    return kind, names.index(name)
        raise KeyError(target)


def renamed(tree: Tree, alias: dict[str, str]) -> Tree:
    """A tree with other names."""
    if isinstance(tree, str):
        return alias.get(tree, tree)
    return (tree[0], *(renamed(part, alias) for part in tree[1:])) if isinstance(tree, tuple) else tree


def petab_system(model: Plain, tables: Tables, alias: dict[str, str], problems: Problems) -> PetabSystem | None:
    """The model of a problem. **Arguments:** `model`: plain data of the SBML file, which are not changed; `alias`:
    names of the problem for entities of the model. Problems are noted; then `None`."""
    model = {
        kind: [dict(item) for item in value]
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else value
        for kind, value in model.items()
    }
    model["lines"] = dict(model["lines"])
    kinds = {item["id"]: kind for kind in ("compartments", "species", "parameters") for item in model[kind]}
    alias = alias | ({} if "time" in kinds else {"time": TIME})
    _parameters(model, tables, kinds, problems)
    first, later = _changes(tables, alias)
    assigned = {item["symbol"] for item in model["assign"]}
    for target in dict.fromkeys(target for target, _ in (*first, *later)):
        if target in tables.parameters:
            problems.add(
                "E_PETAB_INVALID",
                f"'{target}' is changed by a condition and in the parameter table, too; keep one of them.",
            )
        elif target in assigned:
            problems.add("E_PETAB_INVALID", f"'{target}' is changed by a condition, but an assignment rule sets it.")
        elif target not in kinds:
            # A number of the observables only: no model has it, and it has no value of its own.
            model["parameters"].append({"id": target, "value": math.nan, "constant": True})
            kinds[target] = "parameters"
    if model["events"]:
        names = [event["id"] or "without a name" for event in model["events"]]
        problems.add(
            "E_PETAB_UNSUPPORTED",
            f"The model has {len(names)} event(s) (first: {first_of(names)}); gradients do not pass through events, so "
            "problems with them are not read; simulate the model itself with pinnsim.read_sbml.",
        )
    if problems:
        return None
    constant = {item["id"] for item in model["species"] if item["constant"]}
    for target, _ in later:
        if target in constant:
            problems.add("E_PETAB_UNSUPPORTED", f"'{target}', a species that never changes, changes after the start.")
        if kinds[target] == "compartments" and any(
            s["compartment"] == target and s["constant"] for s in model["species"]
        ):
            problems.add(
                "E_PETAB_UNSUPPORTED", f"The compartment '{target}' of a constant species changes after the start."
            )
    switches = _begin(model, kinds, first, later)
    _known(first, model, problems)
    rules = None if problems else build(model, problems)
    if rules is None:
        return None
    known = rules.running.position
    _all_known(later, known, problems)
    if problems:
        return None
    reads = tuple(dict.fromkeys(name for _, tree in later for name in names_in(tree)))
    changing = program(reads, {f"change {k}": tree for k, (_, tree) in enumerate(later)})
    concentrations = {
        amount_of(s["id"]): s["compartment"]
        for s in model["species"]
        if not s["substance_only"] and s["compartment"] in known
    }
    sizes = tuple(concentrations.get(name, "") for name in rules.states)
    return PetabSystem(rules, switches, {one: k for k, one in enumerate(later)}, changing, reads, sizes, alias)


def _parameters(model: Plain, tables: Tables, kinds: dict[str, str], problems: Problems) -> None:
    """The parameter table over the model's own numbers."""
    ruled = {item["symbol"] for item in (*model["assign"], *model["rate"])}
    for name, one in tables.parameters.items():
        if name in ruled or kinds.get(name) == "species":
            problems.add("E_PETAB_INVALID", f"'{name}' of the parameter table is no constant of the model.")
            continue
        # What is estimated may have no nominal value; it gets one before anything is computed.
        value = 1.0 if math.isnan(one.value) else one.value
        model["initial"] = [item for item in model["initial"] if item["symbol"] != name]
        if name not in kinds:
            model["parameters"].append({"id": name, "value": value, "constant": True})
            kinds[name] = "parameters"
            continue
        word = "size" if kinds[name] == "compartments" else "value"
        for item in model[kinds[name]]:
            if item["id"] == name:
                item[word] = value


def _changes(tables: Tables, alias: dict[str, str]) -> tuple[list[tuple[str, Tree]], list[tuple[str, Tree]]]:
    """Distinct changes of first and of later periods."""
    first: dict[tuple[str, Tree], None] = {}
    later: dict[tuple[str, Tree], None] = {}
    for periods in tables.experiments.values():
        for k, period in enumerate(periods):
            for change in period.changes:
                (later if k else first).setdefault(renamed_change(change, alias))
    return list(first), list(later)


def renamed_change(change: tuple[str, Tree], alias: dict[str, str]) -> tuple[str, Tree]:
    """A change with the model's own names."""
    return alias.get(change[0], change[0]), renamed(change[1], alias)


def _begin(
    model: Plain, kinds: dict[str, str], first: list[tuple[str, Tree]], later: list[tuple[str, Tree]]
) -> dict[tuple[str, Tree], str]:
    """Initial assignments for what conditions change; the constants that say which holds."""
    switches: dict[tuple[str, Tree], str] = {}
    rated = {item["symbol"] for item in model["rate"]}
    initial = {item["symbol"]: item["tree"] for item in model["initial"]}
    for target in dict.fromkeys(target for target, _ in (*first, *later)):
        here = [tree for name, tree in first if name == target]
        kind = kinds[target]
        if not here and (kind == "species" or target in rated):
            continue
        item = next(item for item in model[kind] if item["id"] == target)
        parts: list[Tree] = []
        for k, tree in enumerate(here, start=1):
            switch = f"{target} change {k}"
            switches[target, tree] = switch
            model["parameters"].append({"id": switch, "value": 0.0, "constant": True})
            parts += [tree, switch]
        own = initial.get(target, own_number(target))
        if target not in initial:
            number = _own(item, kind)
            model["parameters"].append({"id": own_number(target), "value": number, "constant": True})
            if kind == "species" and item["amount"] is not None and not item["substance_only"]:
                own = ("/", own, item["compartment"])
            elif kind == "species" and item["amount"] is None and item["substance_only"]:
                own = ("*", own, item["compartment"])
        initial[target] = ("piecewise", *parts, own) if parts else own
    model["initial"] = [{"symbol": name, "tree": tree} for name, tree in initial.items()]
    return switches


def _own(item: Plain, kind: str) -> float:
    """The number that the model gives; NaN where conditions alone give one."""
    word = {"compartments": "size", "parameters": "value"}.get(kind)
    value = item[word] if word else item["amount"] if item["amount"] is not None else item["concentration"]
    return math.nan if value is None else value


def _known(first: list[tuple[str, Tree]], model: Plain, problems: Problems) -> None:
    names = {
        TIME,
        *(item["id"] for kind in ("compartments", "species", "parameters", "reactions") for item in model[kind]),
    }
    names |= {side["id"] for reaction in model["reactions"] for side in reaction["sides"] if side["id"] is not None}
    _all_known(first, names, problems)


def _all_known(changes: list[tuple[str, Tree]], known: Collection[str], problems: Problems) -> None:
    """Notes names in values of conditions that are none of these."""
    for target, tree in changes:
        for name in dict.fromkeys(names_in(tree)):
            if name not in known:
                problems.add(
                    "E_PETAB_INVALID",
                    f"The value of '{target}' needs '{name}', which is nothing that the "
                    f"problem has{did_you_mean(name, known)}.",
                )
