"""PEtab's formulas: its functions, comparisons and logic, read by our own grammar into trees; never by another
package's reader of text.

Source: PEtab 2.0, "Math expressions syntax"; PEtab 1 has a part of it.
"""

from collections.abc import Callable

from pinnsim.dynamics.formula import Grammar, read_formula
from pinnsim.dynamics.operations import Tree
from pinnsim.errors import Problems

_LONGEST = 20_000  # characters; observables of large models are long sums
_ONE = (
    "exp",
    "sqrt",
    "abs",
    "floor",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "sec",
    "csc",
    "cot",
    "sech",
    "csch",
    "coth",
    "arcsin",
    "arccos",
    "arctan",
    "arcsinh",
    "arccosh",
    "arctanh",
    "arcsec",
    "arccsc",
    "arccot",
    "arcsech",
    "arccsch",
    "arccoth",
)
_SHORT = {f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "sec", "csc", "cot")}
_MANY = 100

_MADE: dict[str, Callable[..., Tree]] = {
    "ln": lambda x: ("log", x),
    "log": lambda x, base=None: ("log", x) if base is None else ("log_base", base, x),
    "log2": lambda x: ("log_base", 2.0, x),
    "log10": lambda x: ("log10", x),
    "exp2": lambda x: ("^", 2.0, x),
    "exp10": lambda x: ("^", 10.0, x),
    "pow": lambda x, y: ("^", x, y),
    "sqr": lambda x: ("^", x, 2.0),
    "ceil": lambda x: ("ceil", x),
    "ceiling": lambda x: ("ceil", x),
    "sign": lambda x: ("piecewise", 1.0, ("gt", x, 0.0), -1.0, ("lt", x, 0.0), 0.0),
    "heaviside": lambda x, half=0.5: ("piecewise", 1.0, ("gt", x, 0.0), 0.0, ("lt", x, 0.0), half),
    **{short: (lambda x, name=name: (name, x)) for short, name in _SHORT.items()},
}
_COUNTS = {"log": (1, 2), "pow": (2, 2), "heaviside": (1, 2)}
GRAMMAR = Grammar(
    functions={
        **dict.fromkeys(_ONE, (1, 1)),
        **{name: _COUNTS.get(name, (1, 1)) for name in _MADE},
        "min": (1, _MANY),
        "max": (1, _MANY),
        "piecewise": (2, _MANY),
    },
    constants={"true": 1.0, "false": 0.0, "inf": float("inf"), "pi": 3.141592653589793},
    logic=True,
    longest=_LONGEST,
)


def read_math(text: str, problems: Problems, where: str) -> Tree:
    """The tree of a formula; problems are noted as `E_FORMULA`, with the place and the column."""
    return _translated(read_formula(text.strip(), problems, where, GRAMMAR).tree)


def _translated(tree: Tree) -> Tree:
    """PEtab's words as our operations."""
    if not isinstance(tree, tuple):
        return tree
    word, parts = tree[0], [_translated(part) for part in tree[1:]]
    return _MADE[word](*parts) if word in _MADE else (word, *parts)
