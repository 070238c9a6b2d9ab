"""From the plain data of an SBML model to a `RuleSystem`: what is a state, what is constant, what follows.

    species changed by reactions:   state n (amount),   n' = sum_r stoichiometry_r factor v_r
    its name in formulas:           n, or n / V where it has not only substance units
    rate rules:                     the quantity as the rule means it is the state, x' = f
    assignment rules:               x = f, at any time;     initial assignments: x = f, at the start

Source: M. Hucka et al., SBML Level 3 Version 2 Core, J. Integr. Bioinform. 16:20190021 (2019), 4.6-4.11.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from pinnsim.dynamics.events import PLACES
from pinnsim.dynamics.naming import (
    TIME,
    active,
    activity_of,
    amount_of,
    concentration_of,
    local_of,
    rate_factor,
    slope_of,
    start_of,
)
from pinnsim.dynamics.operations import RELATIONS, Tree, names_in
from pinnsim.dynamics.program import needed, program
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.dynamics.structure import Structure
from pinnsim.errors import Problems, did_you_mean
from pinnsim.formats.sbml.events import WrittenEvents, tupled, written_events
from pinnsim.table import Table

_WHOLE = 2**31  # molecules that a reaction changes at the most to count as whole numbers
Plain = Mapping[str, Any]
NOTHING = "no state"


@dataclasses.dataclass
class _Quantities:
    """What is known of a model's quantities while it is read.

    `constants`: numbers; `states`: names; `start`, `now`: formulas at the start and at any time; `kept`: constants that
    initial assignments set; `slopes`: derivatives; `whole`: (state, column, change); `columns`: rates by column.
    """

    constants: dict[str, float] = dataclasses.field(default_factory=dict)
    states: list[str] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    start: dict[str, Tree] = dataclasses.field(default_factory=dict)
    now: dict[str, Tree] = dataclasses.field(default_factory=dict)
    kept: list[str] = dataclasses.field(default_factory=list)
    slopes: dict[str, Tree] = dataclasses.field(default_factory=dict)
    whole: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    columns: dict[str, Tree] = dataclasses.field(default_factory=dict)

    def state(self, name: str, label: str | None = None) -> None:
        """A state, and what the model's table calls it."""
        self.states.append(name)
        self.labels.append(label or name)


def build(model: Plain, problems: Problems, places: int = PLACES) -> RuleSystem | None:
    """The system of a model that was parsed without refusals; `None`, with what is wrong noted, where there is none.

    **Arguments:** `places`: executions of one event that may wait at one time.
    """
    before = len(problems.found)
    assign, rate, initial = (
        {item["symbol"]: tupled(item["tree"]) for item in model[kind]} for kind in ("assign", "rate", "initial")
    )
    found = _Quantities()
    # What events set is a state without motion of its own.
    moving = rate | dict.fromkeys((item["symbol"] for event in model["events"] for item in event["assign"]), 0.0)
    rules = (assign, moving, initial)
    sizes = {item["id"]: item for item in model["compartments"]}
    for item in model["compartments"]:
        _plain(found, item["id"], item["size"], rules)
    for item in model["parameters"]:
        _plain(found, item["id"], item["value"], rules)
    for reaction in model["reactions"]:
        for name, value in reaction["local"].items():
            _plain(found, local_of(reaction["id"], name), value, ({}, {}, {}))
        for side in reaction["sides"]:
            if side["id"] is not None and side["tree"] is None:
                _plain(found, side["id"], side["value"], rules)
    rules = (assign, rate, initial)
    for item in model["species"]:
        _species(found, item, sizes, rules)
    _reactions(found, model, rules)
    for name, tree in rate.items():
        column = f"rate:{name}"
        found.now[column] = found.columns[column] = ("*", tree, rate_factor(column))
        found.whole.append((found.states.index(name), len(found.columns) - 1, 1))
        found.slopes[name] = tree
    if not found.states:
        # Solvers want a state: rules alone still give quantities at any time.
        found.constants[start_of(NOTHING)] = 0.0
        found.start[NOTHING] = start_of(NOTHING)
        found.state(NOTHING)
    amounts = {item["id"] for item in model["species"] if _in_amounts(item, sizes, rules)}
    written = written_events(model, found.states, amounts)
    _derivatives(found, model, assign, sizes, written, problems)
    if len(problems.found) > before:
        return None
    return _system(found, model, written, places, problems)


def _plain(found: _Quantities, name: str, value: float | None, rules: tuple[dict, dict, dict]) -> None:
    """A compartment, parameter or stoichiometry: what its name means is what it is."""
    assign, rate, initial = rules
    if name in assign:
        found.now[name] = found.start[name] = assign[name]
        return
    if name in initial:
        found.start[name] = initial[name]
    elif value is not None:
        found.constants[start_of(name) if name in rate else name] = value
        if name in rate:
            found.start[name] = start_of(name)
    if name in rate:
        found.state(name)
    elif name in initial:
        found.kept.append(name)


def _is_point(home: Plain, rules: tuple[dict, dict, dict]) -> bool:
    """Whether a compartment is a point: without dimensions, and without a size to divide by."""
    return home["dimensions"] == 0 and home["size"] is None and not any(home["id"] in some for some in rules)


def _in_amounts(item: Plain, sizes: dict[str, Plain], rules: tuple[dict, dict, dict]) -> bool:
    """Whether a species' name means its amount."""
    return item["substance_only"] or _is_point(sizes[item["compartment"]], rules)


def _species(found: _Quantities, item: Plain, sizes: dict[str, Plain], rules: tuple[dict, dict, dict]) -> None:
    assign, rate, initial = rules
    in_amounts = _in_amounts(item, sizes, rules)
    name, amount, size = item["id"], amount_of(item["id"]), item["compartment"]

    known = sizes[size]["size"] is not None or any(size in some for some in rules)
    if known or not in_amounts:
        found.now[concentration_of(name)] = ("/", amount, size)

    def times_size(tree: Tree) -> Tree:
        return tree if in_amounts else ("*", tree, size)

    def over_size(tree: Tree) -> Tree:
        return tree if in_amounts else ("/", tree, size)

    if name in assign:
        found.now[name] = found.start[name] = assign[name]
        found.now[amount] = found.start[amount] = times_size(name)
        return
    if name in initial:
        found.start[name] = initial[name]
        found.start[amount] = times_size(name)
    elif item["amount"] is not None:
        found.constants[start_of(name)] = item["amount"]
        found.start[amount] = start_of(name)
        found.start[name] = over_size(amount)
    elif item["concentration"] is not None:
        found.constants[start_of(name)] = item["concentration"]
        found.start[amount] = ("*", start_of(name), size)
        found.start[name] = over_size(amount) if in_amounts else start_of(name)
    if name in rate:
        found.state(name)
        found.now[amount] = times_size(name)
        return
    if item["constant"]:
        found.kept.append(amount)
    else:
        found.state(amount, name)
    found.now[name] = over_size(amount)


def _reactions(found: _Quantities, model: Plain, rules: tuple[dict, dict, dict]) -> None:
    species = {item["id"]: item for item in model["species"]}
    place = {name: k for k, name in enumerate(found.labels)}
    for reaction in model["reactions"]:
        name, law = reaction["id"], tupled(reaction["law"])
        law = 0.0 if law is None else law
        changed: dict[str, list[tuple[float, Tree]]] = {}
        touched = {side["species"] for side in reaction["sides"]}
        for side in reaction["sides"]:
            item = species[side["species"]]
            if item["boundary"] or item["constant"] or item["id"] in rules[0] or item["id"] in rules[1]:
                continue
            own = tupled(side["tree"]) if side["tree"] is not None else side["id"]
            # A stoichiometry that was never given is no number, which is noted where it is used.
            count = (
                own if own is not None else side["value"] if side["value"] is not None else f"{name}'s stoichiometry"
            )
            changed.setdefault(item["id"], []).append((side["sign"], count))
        regulators = {s for s in names_in(law) if s in species and s in place and s not in touched}
        for regulator in regulators:
            found.now[active(regulator)] = ("*", regulator, activity_of(regulator))
        column = len(found.columns)
        found.start[name] = law
        renamed = _renamed(law, {s: active(s) for s in regulators})
        found.now[name] = found.columns[name] = ("*", renamed, rate_factor(name))
        for item_id, parts in changed.items():
            factor = species[item_id]["factor"] or model["factor"]
            counts = [count for _, count in parts]
            net = sum(sign * count for sign, count in parts) if all(isinstance(c, float) for c in counts) else None
            if net is not None and net.is_integer() and abs(net) <= _WHOLE and factor is None:
                if net:
                    found.whole.append((place[item_id], column, int(net)))
                _add_slope(found, item_id, ("*", net, name))
                continue
            total: Tree = net if net is not None else _sum([("*", sign, count) for sign, count in parts])
            flow = ("*", total, name) if factor is None else ("*", total, factor, name)
            extra = f"{name}>{item_id}"
            found.now[extra] = ("*", flow, rate_factor(extra))
            found.columns[extra] = found.now[extra]
            found.whole.append((place[item_id], len(found.columns) - 1, 1))
            _add_slope(found, item_id, flow)


def _sum(parts: list[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else ("+", *parts)


def _add_slope(found: _Quantities, species: str, flow: Tree) -> None:
    key = amount_of(species)
    before = found.slopes.get(key)
    found.slopes[key] = flow if before is None else ("+", *(before[1:] if before[0] == "+" else (before,)), flow)


def _derivatives(
    found: _Quantities,
    model: Plain,
    assign: dict[str, Tree],
    sizes: dict[str, Plain],
    written: WrittenEvents | None,
    problems: Problems,
) -> None:
    """Formulas for the derivatives that formulas ask for (`rateOf`)."""
    told = {} if written is None else written.formulas
    wanted = [n for trees in (found.now, found.start, told) for tree in trees.values() for n in names_in(tree)]
    homes = {item["id"]: item for item in model["species"]}
    waiting = [name for name in dict.fromkeys(wanted) if name.endswith(slope_of("")) and name not in found.now]
    while waiting:
        slope = waiting.pop()
        if slope in found.now:
            continue
        name = slope.removesuffix(slope_of(""))
        tree: Tree = 0.0
        if name in assign:
            problems.add("E_SBML_UNSUPPORTED", f"rateOf of '{name}', which an assignment rule sets.")
        elif name in found.slopes:
            tree = found.slopes[name]
        elif name in homes and amount_of(name) in found.states:
            flow, home = found.slopes.get(amount_of(name), 0.0), homes[name]["compartment"]
            if amount_of(name) == found.now[name]:
                tree = flow
            elif home in found.states:
                # n / V with V' of its own: (n' - [n] V') / V.
                tree = ("/", ("-", flow, ("*", name, slope_of(home))), home)
                waiting.append(slope_of(home))
            elif home in assign:
                problems.add(
                    "E_SBML_UNSUPPORTED", f"rateOf of '{name}', whose compartment '{home}' an assignment rule sets."
                )
            else:
                tree = ("/", flow, home)
        found.now[slope] = found.start[slope] = tree


def _system(
    found: _Quantities, model: Plain, written: WrittenEvents | None, places: int, problems: Problems
) -> RuleSystem | None:
    activities = [activity_of(label) for label in found.labels]
    factors = [rate_factor(column) for column in found.columns]
    constants = sorted(found.constants)
    given = [*found.states, TIME, *constants, *found.kept, *activities, *factors]
    told = {} if written is None else written.formulas
    switches = _switches(found, told.values())
    now = found.now | switches
    first = [TIME, *constants]
    # At the start nothing acts.
    start = {name: tree for name, tree in found.start.items() if name not in found.constants}
    _check_names(now, given, model, problems)
    _check_names(told, [*now, *given], model, problems)
    wanted = [name for name in found.states if name not in start and name not in found.constants]
    for name in wanted:
        problems.add("E_SBML_INVALID", f"'{_shown(name)}' has no initial value{_line(model, name)}; give it one.")
    begin = needed(found.states, start)
    lasting = needed(found.kept, start)
    for formulas in (begin, lasting):
        _check_names(formulas, first, model, problems)
    missing = [name for name in found.kept if name not in start]
    for name in missing:
        problems.add("E_SBML_INVALID", f"'{_shown(name)}' has no value{_line(model, name)}; give it one.")
    if problems:
        return None
    starting = problems.attempt(partial(program, first, begin))
    kept = problems.attempt(partial(program, first, lasting))
    running = problems.attempt(partial(program, given, now))
    if problems:
        return None
    events = (
        None
        if written is None
        else written.events(given, found.now, partial(_is_switch, {*constants, *found.kept}), places)
    )
    columns = tuple(found.columns)
    structure = Structure(len(found.states), len(columns), ((),) * len(columns), tuple(sorted(found.whole)))
    return RuleSystem(
        table=Table((), (), (), columns, tuple(found.labels), ()),
        time_unit=model["time_unit"],
        structure=structure,
        constants={name: jnp.asarray(found.constants[name], dtype=float) for name in constants},
        starting=starting,
        begin=tuple(found.states),
        lasting=kept,
        kept=tuple(found.kept),
        running=running,
        rates=columns,
        states=tuple(found.states),
        switching=tuple(switches),
        events=events,
    )


def _check_names(formulas: Mapping[str, Tree], given: list[str], model: Plain, problems: Problems) -> None:
    known = {*formulas, *given}
    for name, tree in formulas.items():
        for other in dict.fromkeys(names_in(tree)):
            if other not in known:
                has = other in model["lines"] or other.removesuffix(amount_of("")) in model["lines"]
                what = "has no value" if has or "stoichiometry" in other else "is nothing that the model has"
                problems.add(
                    "E_SBML_INVALID",
                    f"'{_shown(other)}', which '{_shown(name)}' needs, {what}{_line(model, other)}"
                    f"{'' if has else did_you_mean(other, model['lines'])}; give it one.",
                )


def _shown(name: str) -> str:
    return name.removesuffix(amount_of(""))


def _line(model: Plain, name: str) -> str:
    line = model["lines"].get(_shown(name))
    return "" if line is None else f" (line {line})"


def _switches(found: _Quantities, more: Iterable[Tree]) -> dict[str, Tree]:
    """When conditions `a < b` on the time alone change, where both sides are linear in it: -f(0) / (f(1) - f(0)) of
    f = a - b."""
    fixed = {*found.constants, *found.kept}
    seen: dict[Tree, None] = {}
    waiting = [*found.now.values(), *more]
    while waiting:
        tree = waiting.pop()
        if isinstance(tree, tuple):
            if _is_switch(fixed, tree):
                seen.setdefault(("-", *tree[1:]))
            waiting += tree[1:]
    times: dict[str, Tree] = {}
    for tree in seen:
        if TIME in names_in(tree):
            at, after = _renamed(tree, {TIME: 0.0}), _renamed(tree, {TIME: 1.0})
            times[f"switch {len(times)}"] = ("/", ("neg", at), ("-", after, at))
    return times


def _is_switch(fixed: set[str], tree: Tree) -> bool:
    """Whether a tree is a relation of two sides that are linear in the time."""
    return tree[0] in RELATIONS and len(tree) == 3 and _is_linear(("-", *tree[1:]), fixed)


def _is_linear(tree: Tree, fixed: set[str]) -> bool:
    """Whether a tree is a linear function of the time with constant coefficients."""
    if not isinstance(tree, tuple):
        return isinstance(tree, float) or tree == TIME or tree in fixed
    if not all(_is_linear(part, fixed) for part in tree[1:]):
        return False
    timed = [part for part in tree[1:] if TIME in names_in(part)]
    if tree[0] in ("+", "-", "neg"):
        return True
    if tree[0] == "*":
        return len(timed) <= 1
    return TIME not in names_in(tree[2]) if tree[0] == "/" else not timed


def _renamed(tree: Tree, names: Mapping[str, Tree]) -> Tree:
    if isinstance(tree, str):
        return names.get(tree, tree)
    return (tree[0], *(_renamed(part, names) for part in tree[1:])) if isinstance(tree, tuple) else tree
