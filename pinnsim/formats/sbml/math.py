"""MathML, as libSBML reads it, into our trees: only operations of a list, functions written out.

Names of the result are those of the model, `R.k` for the local parameter k of reaction R, and the names of
`pinnsim.dynamics.rules` for time and derivatives. Numbers are double-precision floats, so that a tower of powers is an
infinite number and no work.
"""

from collections.abc import Callable, Mapping
from typing import Any

import libsbml

from pinnsim.dynamics.naming import TIME, slope_of

AVOGADRO = 6.02214179e23  # the value that SBML Level 3 prescribes

Tree = Any
Note = Callable[[str, str], None]

_N_ARY = {
    libsbml.AST_PLUS: ("+", 0.0),
    libsbml.AST_TIMES: ("*", 1.0),
    libsbml.AST_LOGICAL_AND: ("and", 1.0),
    libsbml.AST_LOGICAL_OR: ("or", 0.0),
    libsbml.AST_LOGICAL_XOR: ("xor", 0.0),
}
_FIXED = {
    libsbml.AST_DIVIDE: ("/", 2),
    libsbml.AST_POWER: ("^", 2),
    libsbml.AST_FUNCTION_POWER: ("^", 2),
    libsbml.AST_FUNCTION_EXP: ("exp", 1),
    libsbml.AST_FUNCTION_LN: ("log", 1),
    libsbml.AST_FUNCTION_ABS: ("abs", 1),
    libsbml.AST_FUNCTION_FLOOR: ("floor", 1),
    libsbml.AST_FUNCTION_CEILING: ("ceil", 1),
    libsbml.AST_FUNCTION_FACTORIAL: ("factorial", 1),
    libsbml.AST_FUNCTION_QUOTIENT: ("quotient", 2),
    libsbml.AST_FUNCTION_REM: ("rem", 2),
    libsbml.AST_LOGICAL_NOT: ("not", 1),
    libsbml.AST_LOGICAL_IMPLIES: ("implies", 2),
    libsbml.AST_RELATIONAL_NEQ: ("neq", 2),
    **{
        getattr(libsbml, f"AST_FUNCTION_{name.upper()}"): (name, 1)
        for name in (
            *("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "sech", "csch", "coth"),
            *("arcsin", "arccos", "arctan", "arcsec", "arccsc", "arccot"),
            *("arcsinh", "arccosh", "arctanh", "arcsech", "arccsch", "arccoth"),
        )
    },
}
_AT_LEAST_ONE = {libsbml.AST_FUNCTION_MIN: "min", libsbml.AST_FUNCTION_MAX: "max"}
_CHAINS = {
    libsbml.AST_RELATIONAL_EQ: "eq",
    libsbml.AST_RELATIONAL_LT: "lt",
    libsbml.AST_RELATIONAL_LEQ: "leq",
    libsbml.AST_RELATIONAL_GT: "gt",
    libsbml.AST_RELATIONAL_GEQ: "geq",
}
_CONSTANTS = {
    libsbml.AST_CONSTANT_E: 2.718281828459045,
    libsbml.AST_CONSTANT_PI: 3.141592653589793,
    libsbml.AST_CONSTANT_TRUE: 1.0,
    libsbml.AST_CONSTANT_FALSE: 0.0,
    libsbml.AST_NAME_AVOGADRO: AVOGADRO,
}
_NUMBERS = {libsbml.AST_INTEGER, libsbml.AST_REAL, libsbml.AST_REAL_E, libsbml.AST_RATIONAL}


class TooLargeError(Exception):
    """Formulas that are too large once functions are written out."""


class MathReader:
    """Reads formulas of one model.

    **Arguments:** `functions`: bodies by name, each a `lambda` node; `note(code, what)`: takes what is refused;
    `nodes`: how many nodes all formulas may have with functions written out.
    """

    def __init__(self, functions: Mapping[str, Any], note: Note, nodes: int) -> None:
        self.functions, self.note, self.left = functions, note, nodes

    def tree(self, node: Any, local: Mapping[str, Tree] | None = None) -> Tree:
        """The tree of a node, with these names replaced. What is not supported is noted, and NaN in its place.

        **Raises** `TooLargeError`.
        """
        return self._read(node, local or {}, ())[0]

    def _read(self, node: Any, local: Mapping[str, tuple[Tree, int] | Tree], inside: tuple[str, ...]) -> tuple:
        self._spend(1)
        kind, count = node.getType(), node.getNumChildren()
        if kind in _NUMBERS:
            return float(node.getValue()), 1
        if kind in _CONSTANTS:
            return _CONSTANTS[kind], 1
        if kind == libsbml.AST_NAME_TIME:
            return TIME, 1
        if kind == libsbml.AST_NAME:
            found = local.get(node.getName(), node.getName())
            if isinstance(found, list):
                # An argument of a function counts with all that it is.
                self._spend(found[1])
                return found[0], found[1]
            return found, 1
        if kind == libsbml.AST_FUNCTION:
            return self._call(node, local, inside)
        if kind == libsbml.AST_FUNCTION_RATE_OF and count == 1 and node.getChild(0).getType() == libsbml.AST_NAME:
            name = self._read(node.getChild(0), local, inside)[0]
            if isinstance(name, str):
                return slope_of(name), 1
        parts = [self._read(node.getChild(k), local, inside) for k in range(count)]
        trees, size = [part[0] for part in parts], 1 + sum(part[1] for part in parts)
        made = self._made(kind, trees)
        if made is None:
            self._refuse(node, kind, count)
            return float("nan"), 1
        return made, size

    def _made(self, kind: int, trees: list[Tree]) -> Tree:
        """An operation of the list, or `None`."""
        count = len(trees)
        if kind in _N_ARY:
            word, empty = _N_ARY[kind]
            if count == 1 and word in ("+", "*"):
                return trees[0]
            return (word, *trees) if count else empty
        if kind == libsbml.AST_MINUS and count in (1, 2):
            return ("neg" if count == 1 else "-", *trees)
        if kind in _FIXED and count == _FIXED[kind][1]:
            return (_FIXED[kind][0], *trees)
        if kind in _AT_LEAST_ONE and count:
            return (_AT_LEAST_ONE[kind], *trees)
        if kind in _CHAINS and count > 1:
            return (_CHAINS[kind], *trees)
        if kind == libsbml.AST_FUNCTION_LOG and count in (1, 2):
            return ("log10", trees[-1]) if count == 1 or trees[0] == 10.0 else ("log_base", *trees)
        if kind == libsbml.AST_FUNCTION_ROOT and count in (1, 2):
            return ("sqrt", trees[-1]) if count == 1 or trees[0] == 2.0 else ("root", *trees)
        if kind == libsbml.AST_FUNCTION_PIECEWISE:
            return ("piecewise", *trees) if count > 1 else (trees[0] if count else float("nan"))
        return None

    def _call(self, node: Any, local: Mapping[str, Any], inside: tuple[str, ...]) -> tuple:
        name, count = node.getName(), node.getNumChildren()
        body = self.functions.get(name)
        if body is None or name in inside:
            what = "is no function of the model" if body is None else "calls itself"
            self.note("E_SBML_INVALID", f"'{name}' {what}")
            return float("nan"), 1
        wanted = body.getNumChildren() - 1
        if wanted != count:
            self.note("E_SBML_INVALID", f"'{name}' is given {count} arguments, but takes {wanted}")
            return float("nan"), 1
        # A list marks an argument; what a function's body names otherwise is not replaced by local parameters.
        bound = {body.getChild(k).getName(): list(self._read(node.getChild(k), local, inside)) for k in range(count)}
        return self._read(body.getChild(count), bound, (*inside, name))

    def _spend(self, nodes: int) -> None:
        self.left -= nodes
        if self.left < 0:
            raise TooLargeError

    def _refuse(self, node: Any, kind: int, count: int) -> None:
        if kind == libsbml.AST_FUNCTION_DELAY:
            self.note("E_SBML_UNSUPPORTED", "delay()")
            return
        name = node.getOperatorName() if node.isOperator() else node.getName()
        known = kind in _FIXED or kind in _CHAINS or kind in _AT_LEAST_ONE or kind == libsbml.AST_MINUS
        if known:
            self.note("E_SBML_INVALID", f"'{name}' with {count} arguments")
        else:
            self.note("E_SBML_UNSUPPORTED", f"the operation '{name or kind}'")
