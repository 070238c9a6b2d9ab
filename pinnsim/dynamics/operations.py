"""What the operations of a formula's tree compute, and the one function that evaluates trees.

A tree is a number, a name, or a tuple of an operation and its trees. Which operations a text may use is said by its
reader: `pinnsim.dynamics.formula` allows few, MathML (`pinnsim.formats.sbml.math`) allows all of these.

Truth values count as 1 and 0 where numbers are expected, and numbers as true where they are not 0, as SBML Level 3
Version 2 has it. A function outside its domain gives NaN, as does a `piecewise` none of whose conditions holds.

The arrays may be JAX's, for compiled programs, or numpy's, for single values on the host without compiling anything.

Source: W3C, Mathematical Markup Language 2.0 (2003), chapter 4, for branches of inverse functions.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

Tree = Any
"""A number, a name, or a tuple of an operation and its trees."""


def number(value: Any, xp: ModuleType = jnp) -> Any:
    """A truth value as 1 or 0; numbers as they are."""
    return xp.where(value, 1.0, 0.0) if _is_truth(value) else value


def truth(value: Any, xp: ModuleType = jnp) -> Any:
    """A number as whether it is not 0; truth values as they are."""
    return value if _is_truth(value) else xp.asarray(value) != 0


def _is_truth(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "b"


def hill(x: Any, threshold: Any, exponent: Any) -> Any:
    """`x^n / (K^n + x^n)`."""
    high = (x / threshold) ** exponent
    return high / (1.0 + high)


def repress(x: Any, threshold: Any, exponent: Any) -> Any:
    """`K^n / (K^n + x^n)`."""
    return 1.0 / (1.0 + (x / threshold) ** exponent)


def _plus(*parts: Any) -> Any:
    return functools.reduce(operator.add, parts)


def _times(*parts: Any) -> Any:
    return functools.reduce(operator.mul, parts)


@functools.cache
def _numeric(xp: ModuleType) -> dict[str, Callable[..., Any]]:
    """Operations of numbers."""
    log_gamma = jax.scipy.special.gammaln if xp is jnp else scipy.special.gammaln

    def factorial(x: Any) -> Any:
        # exp(log gamma) of a whole number is whole up to rounding, which is taken back where that is exact.
        value = xp.exp(log_gamma(x + 1.0))
        return xp.where((x == xp.floor(x)) & (value < 1e15), xp.round(value), xp.where(x < 0, xp.nan, value))

    def root(degree: Any, x: Any) -> Any:
        odd = xp.fmod(degree, 2.0) == 1.0
        return xp.where(odd & (x < 0), -(xp.abs(x) ** (1.0 / degree)), x ** (1.0 / degree))

    inverse = {
        **dict(zip(("sec", "csc", "cot"), (xp.cos, xp.sin, xp.tan), strict=True)),
        **dict(zip(("sech", "csch", "coth"), (xp.cosh, xp.sinh, xp.tanh), strict=True)),
    }
    of_inverse = {
        **dict(zip(("arcsec", "arccsc", "arccot"), (xp.arccos, xp.arcsin, xp.arctan), strict=True)),
        **dict(zip(("arcsech", "arccsch", "arccoth"), (xp.arccosh, xp.arcsinh, xp.arctanh), strict=True)),
    }
    plain = ("exp", "log", "log10", "sqrt", "abs", "floor", "ceil", "sin", "cos", "tan", "sinh", "cosh", "tanh")
    arcs = ("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh")
    return {
        "+": _plus,
        "-": operator.sub,
        "*": _times,
        "/": operator.truediv,
        "neg": operator.neg,
        **{name: getattr(xp, name) for name in (*plain, *arcs)},
        **{name: _over_one(function) for name, function in inverse.items()},
        **{name: _of_one_over(function) for name, function in of_inverse.items()},
        "log_base": lambda base, x: xp.log(x) / xp.log(base),
        "root": root,
        "factorial": factorial,
        "quotient": lambda a, b: xp.trunc(a / b),
        "rem": xp.fmod,
        "min": lambda *parts: functools.reduce(xp.minimum, parts),
        "max": lambda *parts: functools.reduce(xp.maximum, parts),
        "hill": hill,
        "repress": repress,
    }


def _over_one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: 1.0 / function(x)


def _of_one_over(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(1.0 / x)


_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "leq": operator.le,
    "gt": operator.gt,
    "geq": operator.ge,
}
RELATIONS = frozenset(_COMPARED)


def _implies(a: Any, b: Any) -> Any:
    return ~a | b


_COMBINED: dict[str, Callable[..., Any]] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "implies": _implies,
    "not": operator.invert,
}


def _piecewise(parts: list[Any], xp: ModuleType) -> Any:
    """Value, condition, value, condition, ..., and the value otherwise."""
    numbers = [number(part, xp) for part in parts[::2]]
    found = numbers[-1] if len(parts) % 2 else xp.full_like(numbers[0], xp.nan)
    for k in range(len(parts) // 2 - 1, -1, -1):
        found = xp.where(truth(parts[2 * k + 1], xp), numbers[k], found)
    return found


OPERATIONS = frozenset({*_numeric(np), *_COMPARED, *_COMBINED, "^", "piecewise"})


def evaluate(tree: Tree, known: Mapping[str, Any], xp: ModuleType = jnp) -> Any:
    """The value of a tree for what each name stands for, element by element; a plain number where there are no names.

    **Arguments:** `xp`: `jax.numpy`, or `numpy` where `known` holds arrays of numpy.
    """
    if isinstance(tree, float):
        return tree
    if isinstance(tree, str):
        return known[tree]
    operation, *parts = tree
    values = [evaluate(part, known, xp) for part in parts]
    if operation == "piecewise":
        return _piecewise(values, xp)
    if operation in _COMBINED:
        truths = [truth(value, xp) for value in values]
        combine = _COMBINED[operation]
        return combine(*truths) if operation in ("not", "implies") else functools.reduce(combine, truths)
    values = [number(value, xp) for value in values]
    if operation in _COMPARED:
        # `a < b < c`: every neighbour in the relation.
        pairs = [_COMPARED[operation](a, b) for a, b in zip(values[:-1], values[1:], strict=True)]
        return functools.reduce(operator.and_, pairs)
    if operation == "^":
        # A whole power keeps its slope where the base is 0 or negative.
        return values[0] ** int(parts[1]) if is_whole_power(parts[1]) else values[0] ** values[1]
    return _numeric(xp)[operation](*values)


def is_whole_power(exponent: Tree) -> bool:
    """Whether an exponent is a whole number small enough to be multiplied out."""
    return isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 64


def names_in(tree: Tree) -> list[str]:
    """The names in a tree, in order, repeated as they are."""
    if isinstance(tree, str):
        return [tree]
    return [name for part in tree[1:] for name in names_in(part)] if isinstance(tree, tuple) else []
