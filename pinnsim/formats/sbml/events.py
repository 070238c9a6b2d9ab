"""The events of an SBML model, from its plain data to `pinnsim.dynamics.events.Events`.

trigger, delay, priority, assigned values        formulas of an instant
conditions to watch                              the triggers, and every relation that they depend on
a species' value                                 its amount, or a concentration times the size of its compartment
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pinnsim.dynamics.events import PLACES, Events
from pinnsim.dynamics.naming import TIME, amount_of
from pinnsim.dynamics.operations import RELATIONS, Tree, names_in
from pinnsim.dynamics.program import needed, program

Plain = Mapping[str, Any]


@dataclasses.dataclass
class WrittenEvents:
    """Events with their formulas. `formulas`: by name; the rest as in `Events`."""

    names: list[str]
    formulas: dict[str, Tree]
    triggers: list[str]
    delays: list[str]
    priorities: list[str]
    ranked: list[bool]
    initial: list[bool]
    persistent: list[bool]
    early: list[bool]
    owners: list[int]
    targets: list[int]
    values: list[str]
    sizes: list[str]
    kept: list[tuple[int, str]]
    states: int

    def events(
        self, given: Sequence[str], now: Mapping[str, Tree], switched: Callable[[Tree], bool], places: int = PLACES
    ) -> Events:
        """The events of a model whose programs are given these names, and whose quantities follow by these formulas.

        **Arguments:** `switched(relation)`: whether solvers end steps where it changes with the time.
        """
        every = {**now, **self.formulas}
        told = [*self.triggers, *self.delays, *self.priorities, *self.values, *filter(None, self.sizes)]
        told += [name for _, name in self.kept]
        watched = dict.fromkeys(self.triggers)
        relations: dict[Tree, str] = {}
        for tree in needed(self.triggers, every).values():
            for relation in _relations(tree):
                relations.setdefault(_watched(relation), f"condition {len(relations)}")
        conditions = {name: every[name] for name in watched} | {name: tree for tree, name in relations.items()}
        watching = program(given, needed(conditions, {**every, **conditions}))
        timed = watching.reached_by([TIME])
        drifting = [
            name
            for name, trigger in zip(self.names, self.triggers, strict=True)
            if _drifts(every[trigger], every, timed, switched)
        ]
        return Events(
            names=tuple(self.names),
            watching=watching,
            conditions=tuple(conditions),
            telling=program(given, needed(told, every)),
            triggers=tuple(self.triggers),
            delays=tuple(self.delays),
            priorities=tuple(self.priorities),
            ranked=tuple(self.ranked),
            initial=tuple(self.initial),
            persistent=tuple(self.persistent),
            early=tuple(self.early),
            owners=tuple(self.owners),
            targets=tuple(self.targets),
            values=tuple(self.values),
            sizes=tuple(self.sizes),
            kept=tuple(self.kept),
            species=self.states,
            drifting=tuple(drifting),
            places=places,
        )


def tupled(tree: Any) -> Tree:
    """A tree as it was before it was written as JSON."""
    return tuple(tupled(part) for part in tree) if isinstance(tree, list | tuple) else tree


def written_events(model: Plain, states: Sequence[str], amounts: Collection[str]) -> WrittenEvents | None:
    """The events of a model; those without a trigger never happen. `None` for none.

    **Arguments:** `states`: their names; `amounts`: species whose names mean amounts.
    """
    found = WrittenEvents([], {}, [], [], [], [], [], [], [], [], [], [], [], [], len(states))
    homes = {item["id"]: item["compartment"] for item in model["species"]}
    for event in model["events"]:
        if event["trigger"] is None:
            continue
        number = len(found.names)
        # Identifiers are optional; the place of the file is what an unnamed event is known by.
        name = event["id"] or f"event at line {event['line']}"
        found.names.append(name)
        kinds = (("trigger", found.triggers), ("delay", found.delays), ("priority", found.priorities))
        for kind, names in kinds:
            own = f"{name} {kind} {number}"
            names.append(own)
            found.formulas[own] = 0.0 if event[kind] is None else _number(tupled(event[kind]))
        found.ranked.append(event["priority"] is not None)
        found.initial.append(event["initial"])
        found.persistent.append(event["persistent"])
        found.early.append(event["early"])
        for item in event["assign"]:
            symbol = item["symbol"]
            value = f"{name} sets {symbol} {number}"
            found.formulas[value] = tupled(item["tree"])
            found.owners.append(number)
            found.values.append(value)
            # A state of its own is set as it is; an amount, where the name means a concentration, times the size.
            plain = symbol in states
            found.targets.append(states.index(symbol if plain else amount_of(symbol)))
            sized = not plain and symbol not in amounts
            found.sizes.append(f"size of {symbol} {number}" if sized else "")
            if sized:
                found.formulas[found.sizes[-1]] = _number(homes[symbol])
    for species, home in homes.items():
        if species in states and species not in amounts:
            # Its rate rule means a concentration, and so does its state.
            found.kept.append((states.index(species), f"size around {species}"))
            found.formulas[found.kept[-1][1]] = _number(home)
    return found if found.names else None


def _number(tree: Tree) -> Tree:
    """A formula that is only a number of the model, made one that a program works out."""
    return ("*", 1.0, tree) if isinstance(tree, str) else tree


def _drifts(tree: Tree, every: Mapping[str, Tree], timed: Collection[str], switched: Callable[[Tree], bool]) -> bool:
    """Whether a formula changes with the time other than at switches."""
    if isinstance(tree, str):
        return tree == TIME or (tree in timed and _drifts(every[tree], every, timed, switched))
    if not isinstance(tree, tuple) or (tree[0] in RELATIONS and switched(tree)):
        return False
    return any(_drifts(part, every, timed, switched) for part in tree[1:])


def _relations(tree: Tree) -> list[Tree]:
    if not isinstance(tree, tuple):
        return []
    inner = [relation for part in tree[1:] for relation in _relations(part)]
    return [tree, *inner] if tree[0] in RELATIONS else inner


def _watched(relation: Tree) -> Tree:
    """What changes where a relation does: its truth, or, of equations, which side is greater, because a solution is
    equal for an instant only."""
    if relation[0] in ("eq", "neq") and len(relation) == 3 and not _is_truth(relation):
        _, a, b = relation
        return ("piecewise", 1.0, ("gt", a, b), -1.0, ("lt", a, b), 0.0)
    return relation


def _is_truth(relation: Tree) -> bool:
    return not names_in(relation)
