"""Reaction equations as text: `A + 2 B -> C`.

A side is `nothing` (empty, `0` or `∅`) or terms joined by ` + `, each a species name with an optional whole number
before it. Names start with a letter or `_` and may hold letters, digits, `_`, `.`, `-` and `:`. One arrow, `->`; a
reversible reaction is two reactions, because each direction has its own name and rate, which perturbations address.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pinnsim.errors import Problems, closest, first

_TERM = re.compile(r"\s*(?:(\d+)\s*\*?\s*)?([A-Za-z_][\w.:-]*)\s*")
_NOTHING = {"", "0", "∅"}
_MOST = 9  # molecules of one species in one reaction; beyond is a typing error

Sides = tuple[tuple[str, ...], tuple[str, ...]]
Read = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, int, int], ...]]


@dataclasses.dataclass(frozen=True)
class Reaction:
    """One reaction: its name, its equation (`"A + B -> C"`), and its rate constant under mass action (per time unit
    and abundance unit) or `None` where a law gives all rates."""

    name: str
    equation: str
    rate: Any = None


def read_equation(text: str, problems: Problems, name: str = "") -> Sides:
    """Species used and made, each repeated as often as the equation says. Notes `E_FORMULA`."""
    here = f"Reaction '{name}': the equation '{text}'" if name else f"The equation '{text}'"
    if "<" in text or "=" in text:
        problems.add("E_FORMULA", f"{here} looks reversible; write two reactions, one per direction, with '->'.")
        return (), ()
    if text.count("->") != 1:
        problems.add("E_FORMULA", f"{here} needs exactly one '->', as in 'A + B -> C'.")
        return (), ()
    used, made = (_side(side, here, problems) for side in text.split("->"))
    return used, made


def _side(text: str, here: str, problems: Problems) -> tuple[str, ...]:
    if text.strip() in _NOTHING:
        return ()
    names: list[str] = []
    for term in text.split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            problems.add(
                "E_FORMULA",
                f"{here} has the term '{term.strip()}'; a term is a species name with an optional whole number before "
                "it, as in '2 A'.",
            )
            continue
        count = int(match[1] or 1)
        if not 1 <= count <= _MOST:
            problems.add("E_FORMULA", f"{here} counts '{match[2]}' {count} times; give a number from 1 to {_MOST}.")
            continue
        names += [match[2]] * count
    return tuple(names)


def read_reactions(
    reactions: Sequence[Reaction], species: Sequence[str] | None, problems: Problems
) -> tuple[tuple[str, ...], Read]:
    """Names of species, and per reaction the positions used and the net changes. Notes every problem it finds."""
    if not reactions:
        problems.add("E_NETWORK_EMPTY", "A reaction system needs at least one reaction.")
    for what, given in (("Reaction", [r.name for r in reactions]), ("Species", list(species or ()))):
        repeated = [name for name, count in Counter(given).items() if count > 1]
        if repeated:
            problems.add("E_CONFIG_VALUE", f"{what} names must differ, but these repeat: {first(repeated)}.")
    sides = [read_equation(reaction.equation, problems, reaction.name) for reaction in reactions]
    seen = tuple(dict.fromkeys(name for used, made in sides for name in (*used, *made)))
    names = seen if species is None else tuple(species)
    if not names and reactions and not problems:
        problems.add("E_NETWORK_EMPTY", "The reactions have no species.")
    position = {name: i for i, name in enumerate(names)}
    for reaction, (used, made) in zip(reactions, sides, strict=True):
        for name in dict.fromkeys((*used, *made)):
            if name not in position:
                near = closest(name, names)
                hint = f" (did you mean '{near}'?)" if near else ""
                problems.add(
                    "E_CONFIG_VALUE",
                    f"Reaction '{reaction.name}' has the species '{name}', which is not among the {len(names)} given "
                    f"ones{hint}; add it to `species`.",
                )
    if problems:
        return names, ((), ())
    reactants, changes = [], []
    for r, (used, made) in enumerate(sides):
        reactants.append(tuple(sorted(position[name] for name in used)))
        net = Counter(made)
        net.subtract(Counter(used))
        changes += [(position[name], r, change) for name, change in net.items() if change]
    return names, (tuple(reactants), tuple(sorted(changes)))
