"""Many formulas that use one another, evaluated side by side: equal forms once, whatever their number.

    known_0 = given values,      known_(k+1) = (known_k, all formulas whose names are in known_k)

Formulas of a level that have one form, `k * A - kr * B` say, differ in which names they read only; they are one
vectorised evaluation over gathered values. So a compiled program grows with the number of forms and levels, not with
the number of reactions. Numbers in formulas are gathered like names, except whole exponents, which belong to the form.

A program is plain, hashable data, so that compiled code is shared by all values that names stand for.
"""

import dataclasses
import graphlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.operations import Tree, evaluate, is_whole_power, names_in
from pinnsim.dynamics.structure import take_rows
from pinnsim.errors import PinnsimError


@dataclasses.dataclass(frozen=True)
class Form:
    """Formulas of one form: a tree of slots named "0", "1", ..., and per formula the position that each slot reads."""

    tree: Tree
    reads: tuple[tuple[int, ...], ...]

    @cached_property
    def rows(self) -> np.ndarray:
        """`reads` as an array, (formula, slot)."""
        return np.array(self.reads, dtype=int).reshape(len(self.reads), -1)


@dataclasses.dataclass(frozen=True)
class Program:
    """Formulas in the order of their evaluation; build it with `program`.

    **Arguments:** `given`: names whose values come from outside, in order; `literals`: numbers of the formulas;
    `levels`: forms; `names`: of all formulas, in the order in which they are worked out.
    """

    given: tuple[str, ...]
    literals: tuple[float, ...]
    levels: tuple[tuple[Form, ...], ...]
    names: tuple[str, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.given, self.literals, self.levels, self.names))

    def __hash__(self) -> int:
        # Every call of a compiled function asks for it.
        return self._hash

    @cached_property
    def position(self) -> dict[str, int]:
        """Where the value of each name lies in what `run` returns."""
        first = len(self.given) + len(self.literals)
        found = {name: place for place, name in enumerate(self.given)}
        return found | {name: first + place for place, name in enumerate(self.names)}

    def positions(self, names: Iterable[str]) -> np.ndarray:
        """Positions of several names."""
        return np.array([self.position[name] for name in names], dtype=int)

    def reached_by(self, names: Iterable[str]) -> set[str]:
        """The names whose values these given ones may change, directly or not."""
        reached = np.zeros(len(self.given) + len(self.literals) + len(self.names), dtype=bool)
        reached[[place for place, name in enumerate(self.given) if name in set(names)]] = True
        place = len(self.given) + len(self.literals)
        for level in self.levels:
            for form in level:
                count = len(form.reads)
                reached[place : place + count] = reached[form.rows].any(axis=1)
                place += count
        return {name for name, place in self.position.items() if reached[place]}

    def run(self, given: Float[Array, " given"]) -> Float[Array, " known"]:
        """All values, (given + literal + formula,)."""
        known = jnp.concatenate([given, jnp.asarray(self.literals, given.dtype)])
        for level in self.levels:
            parts = [known]
            for form in level:
                reads = form.rows
                slots = {str(slot): take_rows(known, reads[:, slot]) for slot in range(reads.shape[1])}
                value = jnp.asarray(evaluate(form.tree, slots))
                # A truth value where a number is expected is 1 or 0.
                parts.append(jnp.broadcast_to(value.astype(given.dtype), (len(form.reads),)))
            known = jnp.concatenate(parts)
        return known

    def run_on_host(self, given: np.ndarray) -> np.ndarray:
        """The same by numpy, in double precision: for a few values of a model that is not worth compiling; for several
        sets of values at once, (given, set)."""
        given = np.asarray(given, dtype=float)
        first = len(self.given) + len(self.literals)
        known = np.empty((first + len(self.names), *given.shape[1:]))
        known[: len(self.given)] = given
        literals = np.array(self.literals, dtype=float)
        known[len(self.given) : first] = literals[:, None] if given.ndim > 1 else literals
        with np.errstate(all="ignore"):
            for tree, slots, target in self.on_host:
                known[target] = evaluate(tree, {name: known[places] for name, places in slots.items()}, np)
        return known

    @cached_property
    def on_host(self) -> list[tuple[Tree, dict[str, slice | np.ndarray], slice]]:
        """For numpy, per form: its tree, where each slot's values lie, and where its own values go."""
        found: list[tuple[Tree, dict[str, slice | np.ndarray], slice]] = []
        first = len(self.given) + len(self.literals)
        for form in (form for level in self.levels for form in level):
            # A slice is a view, which is quicker than a gather.
            slots: dict[str, slice | np.ndarray] = {
                str(slot): slice(places[0], places[0] + 1) if len(places) == 1 else places
                for slot, places in enumerate(form.rows.T)
            }
            found.append((form.tree, slots, slice(first, first + len(form.reads))))
            first += len(form.reads)
        return found


def program(given: Sequence[str], formulas: Mapping[str, Tree]) -> Program:
    """A program from formulas in any order.

    **Arguments:** `given`: names of values from outside; `formulas`: a tree by name, of given names and one another.

    **Raises** `E_RULE_CYCLE` where formulas need one another in a circle.
    """
    level_of: dict[str, int] = dict.fromkeys(given, 0)
    # A formula may hide a name from outside: what was given is then what it starts from.
    needs = {name: [other for other in dict.fromkeys(names_in(tree)) if other in formulas] for name, tree in
             formulas.items()}  # fmt: skip
    order = ordered(needs)
    for name in order:
        level_of[name] = 1 + max((level_of[other] for other in needs[name]), default=0)
    literals: dict[float | str, int] = {}
    forms: list[dict[Tree, list[str]]] = [{} for _ in range(max((level_of[name] for name in order), default=0))]
    leaves: dict[str, list[float | str]] = {}
    for name in order:
        found: list[float | str] = []
        shape = _form(formulas[name], found)
        leaves[name] = found
        for leaf in found:
            if isinstance(leaf, float):
                literals.setdefault(_exact(leaf), len(literals))
        forms[level_of[name] - 1].setdefault(shape, []).append(name)
    values = tuple(key if isinstance(key, float) else float(key) for key in literals)
    first = len(given) + len(values)
    position: dict[str, int] = {name: place for place, name in enumerate(given)}
    names = [name for level in forms for members in level.values() for name in members]
    position |= {name: first + place for place, name in enumerate(names)}

    def place(leaf: float | str) -> int:
        return len(given) + literals[_exact(leaf)] if isinstance(leaf, float) else position[leaf]

    levels = tuple(
        tuple(Form(shape, tuple(tuple(place(leaf) for leaf in leaves[name]) for name in members))
              for shape, members in level.items())
        for level in forms
    )  # fmt: skip
    return Program(tuple(given), values, levels, tuple(names))


def ordered(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Names so that each comes after what it needs. **Raises** `E_RULE_CYCLE`."""
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise PinnsimError.of(
            "E_RULE_CYCLE", f"These need one another in a circle, {circle}; break it, or write a rate rule."
        ) from error


def needed(wanted: Iterable[str], formulas: Mapping[str, Tree]) -> dict[str, Tree]:
    """The formulas that are needed for some names, directly or not."""
    kept: dict[str, Tree] = {}
    waiting = [name for name in wanted if name in formulas]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = formulas[name]
            waiting += [other for other in dict.fromkeys(names_in(formulas[name])) if other in formulas]
    return kept


def _exact(value: float) -> float | str:
    """A key that tells -0 from 0 and is equal for NaN."""
    return value if value == value and value != 0 else str(value)


def _form(tree: Tree, leaves: list[float | str]) -> Tree:
    """The tree with its leaves replaced by slots, which are noted."""
    if isinstance(tree, tuple):
        if tree[0] == "^" and is_whole_power(tree[2]):
            return ("^", _form(tree[1], leaves), tree[2])
        return (tree[0], *(_form(part, leaves) for part in tree[1:]))
    leaves.append(tree)
    return str(len(leaves) - 1)
