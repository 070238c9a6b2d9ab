"""Grids whose stationary law is known to rounding: sums of independent one-dimensional chains in detailed balance.

A chain with rates `exp((U_i - U_j) / 2)` between neighbours i -> j has `p_i ~ exp(-U_i)`; the generator of independent
coordinates is the Kronecker sum of theirs, and its law the product.
"""

import functools
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from pinnsim.landscape import Attractors, Grid


def chain(heights: np.ndarray) -> scipy.sparse.csc_matrix:
    """Generator of one coordinate, (cell, cell), columns sum to 0."""
    forth, back = np.exp(0.5 * (heights[:-1] - heights[1:])), np.exp(0.5 * (heights[1:] - heights[:-1]))
    moves = scipy.sparse.diags([forth, back], [-1, 1]).tocsc()
    return (moves - scipy.sparse.diags(np.asarray(moves.sum(axis=0)).ravel())).tocsc()


def grid_of(centres: Sequence[np.ndarray], heights: Sequence[np.ndarray], species: Sequence[str], noise: str) -> Grid:
    """The grid of independent coordinates: `-ln p` is the sum of the heights, exactly."""
    # Cells are in C order: the last coordinate runs fastest.
    generator = functools.reduce(lambda a, b: scipy.sparse.kronsum(b, a), [chain(h) for h in heights])
    return Grid(tuple(centres), generator.tocsc(), tuple(species), noise, "min")


def wells(tilt: float = 0.0, cells: int = 21, noise: str = "D = 0.1") -> Grid:
    """A double well in u, tilted, and a single one in v."""
    u, v = np.linspace(-1.8, 1.8, cells), np.linspace(-1.5, 1.5, cells - 4)
    return grid_of((u, v), (3.0 * (u**2 - 1) ** 2 + tilt * u, 2.0 * v**2), ("u", "v"), noise)


def points_of(states: object, stability: Sequence[str], species: Sequence[str]) -> Attractors:
    """Fixed points that need no search, for pictures."""
    where, none = np.asarray(states, dtype=float), np.zeros(0, int)
    letters = {"stable": "A", "saddle": "S", "unstable": "U", "marginal": "M"}
    names = tuple(f"{letters[k]}{list(stability)[: i + 1].count(k)}" for i, k in enumerate(stability))
    count = len(where)
    return Attractors(
        where, names, tuple(stability), np.zeros(count, int), np.zeros(where.shape, complex), np.zeros(count),
        np.zeros(count, int), (), none, np.zeros((0, where.shape[1])), 1.0, tuple(species), "min",
    )  # fmt: skip
