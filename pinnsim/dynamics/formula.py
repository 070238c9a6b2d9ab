"""Formulas as text: rate laws that files may hold, read by a grammar of our own, so that no text is ever run as code.

    sum     = term (("+" | "-") term)*          power  = atom (("^" | "**") signed)?
    term    = signed (("*" | "/") signed)*      atom   = number | name | name "(" sum ("," sum)* ")" | "(" sum ")"
    signed  = "-" signed | power

so `-x^2` is `-(x^2)` and `2^3^2` is `2^9`. Names start with a letter or `_` and may hold letters, digits, `_`, `.` and
`:`. Functions are those of `FUNCTIONS`; `hill(x, K, n)` is `x^n / (K^n + x^n)` and `repress(x, K, n)` the rest to 1.

A formula is plain, hashable data, so that compiled code is shared by all numbers its names stand for.
"""

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array

from pinnsim.dynamics.interval import Range, range_of
from pinnsim.dynamics.operations import Tree, evaluate, names_in
from pinnsim.errors import Problems, closest

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_][\w.:]*)|(\*\*|[-+*/^(),]))")
_LONGEST, _DEEPEST, _TOWER = 2000, 40, 3  # characters, nested parts, powers of powers

FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(("exp", "log", "sqrt", "abs", "tanh"), 1),
    **dict.fromkeys(("min", "max"), 2),
    **dict.fromkeys(("hill", "repress"), 3),
}
_WIDE_TOKEN = re.compile(_TOKEN.pattern.replace(r"(\*\*|", r"(\*\*|&&|\|\||[<>=!]=|[<>!]|"))
_RELATED = {"<": "lt", "<=": "leq", ">": "gt", ">=": "geq", "==": "eq", "!=": "neq"}
_FOLDED: dict[str, Callable] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclasses.dataclass(frozen=True)
class Grammar:
    """What a reader of formulas knows: `functions`, with the least and the largest number of their arguments; numbers
    with a name (`constants`); whether there are comparisons and `&&`, `||`, `!` (`logic`); the `longest` text."""

    functions: Mapping[str, tuple[int, int]]
    constants: Mapping[str, float] = dataclasses.field(default_factory=dict)
    logic: bool = False
    longest: int = _LONGEST


PLAIN = Grammar({name: (count, count) for name, count in FUNCTIONS.items()})


@dataclasses.dataclass(frozen=True)
class Formula:
    """A formula that was read: its text and its tree."""

    text: str
    tree: Tree

    def names(self) -> tuple[str, ...]:
        """The names in it, as they first occur."""
        return tuple(dict.fromkeys(names_in(self.tree)))

    def value(self, known: Mapping[str, Array]) -> Any:
        """Its value, for what each name stands for; a plain number where there are no names."""
        return evaluate(self.tree, known)

    def range_of(self, known: Mapping[str, Range]) -> Range:
        """An interval that holds its value wherever names stay within theirs; it may be wider than it need be."""
        return range_of(self.tree, known)


NOTHING = Formula("0", 0.0)


def read_formula(text: str, problems: Problems, where: str = "", grammar: Grammar = PLAIN) -> Formula:
    """A formula; `NOTHING`, with `E_FORMULA` and the column noted, for what the grammar does not have."""
    reader = _Reader(text, grammar)
    try:
        if len(text) > grammar.longest:
            raise _WrongError(f"has {len(text)} characters, more than {grammar.longest}", grammar.longest)
        tree = reader.all()
    except _WrongError as wrong:
        here = f"{where}: " if where else ""
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        problems.add("E_FORMULA", f"{here}the formula '{shown}' {wrong.what} (column {wrong.column + 1}).")
        return NOTHING
    return Formula(text, tree)


class _WrongError(Exception):
    def __init__(self, what: str, column: int):
        super().__init__(what)
        self.what, self.column = what, column


class _Reader:
    """One pass over a text, by recursive descent."""

    def __init__(self, text: str, grammar: Grammar):
        self.text, self.at, self.depth = text, 0, 0
        self.grammar, self.pattern = grammar, _WIDE_TOKEN if grammar.logic else _TOKEN
        self.kind, self.token, self.column = "", "", 0

    def all(self) -> Tree:
        self._next()
        tree = self._whole()
        if self.kind != "end":
            raise _WrongError(f"has '{self.token}' where an operator or its end should be", self.column)
        return tree

    def _next(self) -> None:
        rest = self.text[self.at :]
        if not rest.strip():
            self.kind, self.token, self.column = "end", "", len(self.text)
            return
        match = self.pattern.match(self.text, self.at)
        if match is None:
            column = self.at + len(rest) - len(rest.lstrip())
            raise _WrongError(f"has '{self.text[column]}', which formulas do not have", column)
        number, name, sign = match.groups()
        self.kind = "number" if number else "name" if name else "sign"
        self.token = number or name or sign
        self.at, self.column = match.end(), match.end() - len(self.token)

    def _taken(self, *signs: str) -> str:
        """The sign here if it is one of these, and on to what follows it."""
        if self.kind != "sign" or self.token not in signs:
            return ""
        sign = self.token
        self._next()
        return sign

    def _made(self, sign: str, *parts: Tree) -> Tree:
        """An operation; of numbers alone, what it gives."""
        if not all(isinstance(part, float) for part in parts):
            return (sign, *parts)
        try:
            value = -parts[0] if sign == "neg" else parts[0] ** parts[1] if sign == "^" else _FOLDED[sign](*parts)
        except ArithmeticError:
            value = math.inf
        if isinstance(value, complex) or not math.isfinite(value):
            raise _WrongError("divides by 0 or leaves the range of numbers", self.column)
        return float(value)

    def _whole(self) -> Tree:
        """What an argument, a pair of parentheses or a text holds."""
        if not self.grammar.logic:
            return self._sum()
        either: list[Tree] = []
        while not either or self._taken("||"):
            both = [self._compared()]
            while self._taken("&&"):
                both.append(self._compared())
            either.append(both[0] if len(both) == 1 else ("and", *both))
        return either[0] if len(either) == 1 else ("or", *either)

    def _compared(self) -> Tree:
        tree = self._sum()
        sign = self._taken(*_RELATED)
        return (_RELATED[sign], tree, self._sum()) if sign else tree

    def _sum(self) -> Tree:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _WrongError(f"is nested more than {_DEEPEST} deep", self.column)
        tree = self._term()
        while sign := self._taken("+", "-"):
            tree = self._made(sign, tree, self._term())
        self.depth -= 1
        return tree

    def _term(self) -> Tree:
        tree = self._signed()
        while sign := self._taken("*", "/"):
            tree = self._made(sign, tree, self._signed())
        return tree

    def _signed(self, tower: int = 0) -> Tree:
        nots = 0
        while self._taken("!"):
            nots += 1
        if nots:
            tree = self._signed(tower)
            return ("not", tree) if nots % 2 else ("not", ("not", tree))
        signs = 0
        while self._taken("-"):
            signs += 1
        tree = self._power(tower)
        return self._made("neg", tree) if signs % 2 else tree

    def _power(self, tower: int) -> Tree:
        base = self._atom()
        if not self._taken("^", "**"):
            return base
        if tower >= _TOWER:
            raise _WrongError(f"raises powers to powers more than {_TOWER} times", self.column)
        return self._made("^", base, self._signed(tower + 1))

    def _atom(self) -> Tree:
        kind, token, column = self.kind, self.token, self.column
        if kind == "number":
            value = float(token)
            if not math.isfinite(value):
                raise _WrongError(f"has the number {token}, which is too large", column)
            self._next()
            return value
        if kind == "name":
            self._next()
            return self._call(token, column) if self._taken("(") else self.grammar.constants.get(token, token)
        if self._taken("("):
            tree = self._whole()
            self._close()
            return tree
        found = "ends" if kind == "end" else f"has '{token}'"
        raise _WrongError(f"{found} where a number or a name should be", column)

    def _call(self, name: str, column: int) -> Tree:
        parts = [self._whole()]
        while self._taken(","):
            parts.append(self._whole())
        self._close()
        known = self.grammar.functions
        if name not in known:
            near = closest(name, tuple(known))
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(known)}"
            raise _WrongError(f"calls '{name}', which is no function here; {hint}", column)
        fewest, most = known[name]
        if not fewest <= len(parts) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise _WrongError(f"gives {name}() {len(parts)} arguments, but it takes {wanted}", column)
        return (name, *parts)

    def _close(self) -> None:
        if not self._taken(")"):
            raise _WrongError("has a parenthesis that is not closed", self.column)
