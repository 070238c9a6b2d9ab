"""Conservation laws: the amounts that no reaction changes, found exactly from the stoichiometry.

A law is an integer row y with `y S = 0`, so that `y x` is constant: the left null space of S, computed by elimination
with whole numbers, without rounding. Laws with only positive coefficients are pools of a moiety (`A + AB = total`);
rows are combined until they are, where that is possible.

Source: S. Schuster and C. Hilgetag, J. Biol. Syst. 2:201 (1994), for moiety conservation as non-negative integer rows.
"""

import math
from collections.abc import Sequence

import numpy as np

_Row = dict[int, int]


def conservation_laws(stoichiometry: np.ndarray) -> np.ndarray:
    """All independent conservation laws of S.

    **Arguments:** `stoichiometry`: (species, reaction), integers.

    **Returns** integers, (law, species), with `laws @ S == 0`, coefficients without a common divisor, non-negative
    where a combination is.
    """
    matrix = np.asarray(stoichiometry)
    species = matrix.shape[0]
    # Each row carries what it is made of; a row of S that is eliminated to zero is made of a law. The species with
    # most reactions go last, so that laws are written in terms of the simple ones first.
    pivots: dict[int, tuple[_Row, _Row]] = {}
    laws: list[_Row] = []
    for i in np.argsort((matrix != 0).sum(axis=1), kind="stable"):
        row = {int(r): int(matrix[i, r]) for r in np.flatnonzero(matrix[i])}
        made_of = {int(i): 1}
        while row:
            r = min(row)
            if r not in pivots:
                pivots[r] = (row, made_of)
                break
            other, other_of = pivots[r]
            a, b = row[r], other[r]
            common = math.gcd(a, b)
            row, made_of = _reduced(_sum(row, b // common, other, -a // common), made_of, other_of, b, a, common)
        else:
            laws.append(made_of)
    dense = np.zeros((len(laws), species), dtype=int)
    for number, law in enumerate(laws):
        for i, coefficient in law.items():
            dense[number, i] = coefficient
    return _positive(dense)


def law_names(laws: np.ndarray, species: Sequence[str]) -> tuple[str, ...]:
    """Each law in words: `A + 2 AB = total`."""
    return tuple(f"{_words(row, species)} = total" for row in laws)


def _words(row: np.ndarray, species: Sequence[str]) -> str:
    text = ""
    for i in np.flatnonzero(row).tolist():
        size = abs(int(row[i]))
        sign = ("- " if row[i] < 0 else "") if not text else (" - " if row[i] < 0 else " + ")
        text += sign + (f"{size} " if size > 1 else "") + species[i]
    return text


def _sum(row: _Row, times: int, other: _Row, other_times: int) -> _Row:
    total = {k: times * v for k, v in row.items()}
    for k, v in other.items():
        total[k] = total.get(k, 0) + other_times * v
    return {k: v for k, v in total.items() if v}


def _reduced(row: _Row, made_of: _Row, other_of: _Row, b: int, a: int, common: int) -> tuple[_Row, _Row]:
    made_of = _sum(made_of, b // common, other_of, -a // common)
    divisor = math.gcd(*row.values(), *made_of.values())
    return {k: v // divisor for k, v in row.items()}, {k: v // divisor for k, v in made_of.items()}


def _positive(laws: np.ndarray) -> np.ndarray:
    """The same space with as many non-negative rows as adding other rows gives."""
    laws = laws.copy()
    for k, row in enumerate(laws):
        if (row <= 0).all():
            laws[k] = -row
    for k in range(len(laws)):
        for sign in (1, -1):
            row = sign * laws[k]
            for other in np.delete(laws, k, axis=0):
                low = row < 0
                if (other >= 0).all() and low.any() and (other[low] > 0).any():
                    helped = low & (other > 0)
                    row = row + int(np.max(-(row[helped] // other[helped]))) * other
            if (row >= 0).all():
                laws[k] = row // max(int(np.gcd.reduce(row)), 1)
                break
    # A first coefficient below zero reads badly.
    leads = np.array([row[np.flatnonzero(row)[0]] if row.any() else 1 for row in laws], dtype=int)
    return laws * np.sign(leads)[:, None] if len(laws) else laws
