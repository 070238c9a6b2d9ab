"""Bounds of formulas by interval arithmetic: a rate law that might turn negative is told before it is run.

Bounds hold but may be wide, because a name that occurs twice counts as two: `x - x` of x in [0, 1] lies in [-1, 1].

Source: R. E. Moore, Interval Analysis (1966).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Range = tuple[float, float]
_ALL: Range = (-math.inf, math.inf)


def range_of(tree: Any, known: Mapping[str, Range]) -> Range:
    """An interval that holds the value of a formula's tree wherever names stay within theirs."""
    if isinstance(tree, float):
        return tree, tree
    if isinstance(tree, str):
        return known[tree]
    operation, *parts = tree
    return _RANGES[operation](*(range_of(part, known) for part in parts))


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _product(a: Range, b: Range) -> Range:
    ends = [_times(x, y) for x in a for y in b]
    return min(ends), max(ends)


def _inverse(a: Range) -> Range:
    if a[0] < 0 < a[1] or a == (0.0, 0.0):
        return _ALL
    low, high = (math.inf if a[0] == 0 else 1 / a[0]), (-math.inf if a[1] == 0 else 1 / a[1])
    return (0.0 if math.isinf(a[1]) else 1 / a[1], low) if a[0] >= 0 else (high, 0.0 if math.isinf(a[0]) else 1 / a[0])


def _raised(a: Range, b: Range) -> Range:
    if a[0] < 0:
        even = b[0] == b[1] and b[0] > 0 and b[0] % 2 == 0
        return (0.0, math.inf) if even else _ALL
    return 0.0, math.inf


def _monotone(function: Callable[[float], float]) -> Callable[[Range], Range]:
    def through(a: Range) -> Range:
        return function(a[0]), function(a[1])

    return through


def _exponential(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _share(x: Range, threshold: Range, exponent: Range) -> Range:
    return (0.0, 1.0) if x[0] >= 0 and threshold[0] >= 0 else _ALL


_RANGES: dict[str, Callable[..., Range]] = {
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "-": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "*": _product,
    "/": lambda a, b: _product(a, _inverse(b)),
    "^": _raised,
    "neg": lambda a: (-a[1], -a[0]),
    "exp": _monotone(_exponential),
    "log": _monotone(lambda x: math.log(x) if 0 < x < math.inf else (x if x > 0 else -math.inf)),
    "sqrt": lambda a: (0.0, math.inf),
    "abs": lambda a: (0.0 if a[0] <= 0 <= a[1] else min(map(abs, a)), max(map(abs, a))),
    "tanh": _monotone(math.tanh),
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "hill": _share,
    "repress": _share,
}
