"""The door for users: populations as they come, checked, compared, with failures said in words.

Inside a fit call the distance itself: it never raises, and says how it ended in its outcome.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from pinnsim.distance.distance import AbstractDistance, Distance
from pinnsim.errors import Problems, first

Table = ArrayLike | Sequence[Any]  # what a caller may give where numbers are read on the host


def between(
    distance: AbstractDistance,
    x: Table,
    y: Table,
    a: Table | None = None,
    b: Table | None = None,
) -> Distance:
    """The distance of two populations.

    **Arguments:** `x`: (cell, gene); `y`: (other, gene); one-dimensional points may be given as (cell,); `a`, `b`:
    weights >= 0, (cell,) and (other,), equal where not given. What cells of weight 0 hold does not matter.

    **Returns** the distance. Compiled once per shape.

    **Raises** together: `E_DATA_EMPTY` for no cells, `E_DATA_SHAPE`, `E_DATA_NONFINITE`, `E_DATA_NEGATIVE` for weights;
    `E_SOLVER` where the iterations ran out.
    """
    with Problems() as problems:
        points, weights = _checked(problems, "x", x, "a", a)
        others, masses = _checked(problems, "y", y, "b", b)
        if points.ndim == others.ndim == 2 and points.shape[1] != others.shape[1]:
            problems.add(
                "E_DATA_SHAPE",
                f"Argument `x` has {points.shape[1]} genes and `y` has {others.shape[1]}; select the same ones.",
            )
    arrays = (jnp.asarray(array, dtype=float) for array in (points, others, weights, masses))
    return _compiled(distance, *arrays).raise_failure()


def over_times(
    distance: AbstractDistance, x: Array, y: Array, a: Array, b: Array, *, batch: int | None = None
) -> Distance:
    """Distances of populations at many times (or in many lanes), which differ in size by their weights only.

    **Arguments:** `x`: (time, cell, gene); `y`: (time, other, gene); `a`: (time, cell); `b`: (time, other); `batch`:
    how many run side by side; one after the other by default, which is quicker from about 100 cells on. Pure.
    """
    return jax.lax.map(lambda each: distance(*each), (x, y, a, b), batch_size=batch)


@eqx.filter_jit
def _compiled(distance: AbstractDistance, x: Array, y: Array, a: Array, b: Array) -> Distance:
    return distance(x, y, a, b)


def _checked(
    problems: Problems, name: str, points: Table, weight_name: str, weights: Table | None
) -> tuple[np.ndarray, np.ndarray]:
    cells = np.asarray(points, dtype=float)
    cells = cells[:, None] if cells.ndim == 1 else cells
    if cells.ndim != 2:
        problems.add("E_DATA_SHAPE", f"Argument `{name}` needs the shape (cell, gene), but has {cells.shape}.")
        return cells, np.zeros(0)
    mass = np.ones(len(cells)) if weights is None else np.asarray(weights, dtype=float)
    if mass.shape != cells.shape[:1]:
        problems.add(
            "E_DATA_SHAPE",
            f"Argument `{weight_name}` needs one weight per cell of `{name}`, {cells.shape[:1]}, but has {mass.shape}.",
        )
        return cells, mass
    if weights is None:
        mass = mass / max(len(cells), 1)
    _check_weights(problems, name, weight_name, mass)
    odd = np.argwhere(~np.isfinite(cells) & (mass != 0)[:, None]).tolist()
    if odd:
        shown = first(f"cell {i}, column {j} = {cells[i, j]}" for i, j in odd)
        problems.add(
            "E_DATA_NONFINITE",
            f"{len(odd)} values of `{name}` are NaN or infinite (first: {shown}); drop those cells or give them "
            "weight 0.",
        )
    return cells, mass


def _check_weights(problems: Problems, name: str, weight_name: str, mass: np.ndarray) -> None:
    unknown = np.flatnonzero(~np.isfinite(mass)).tolist()
    if unknown:
        shown = first(f"cell {i} = {mass[i]}" for i in unknown)
        problems.add(
            "E_DATA_NONFINITE", f"{len(unknown)} weights `{weight_name}` are NaN or infinite (first: {shown})."
        )
    negative = np.flatnonzero(mass < 0).tolist()
    if negative:
        shown = first(f"cell {i} = {mass[i]:g}" for i in negative)
        problems.add(
            "E_DATA_NEGATIVE",
            f"{len(negative)} weights `{weight_name}` are negative (first: {shown}); weights are >= 0.",
        )
    if not unknown and not negative and not mass.any():
        problems.add(
            "E_DATA_EMPTY", f"Argument `{name}` has no cells of positive weight, so there is no population to compare."
        )
