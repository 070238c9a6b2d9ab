"""Cells as a latent model sees them: one row per cell, readings and their logarithms per unit of size factor."""

from typing import NamedTuple

import numpy as np

from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError, Problems

SCALES = ("counts", "log2", "log1p")


class Cells(NamedTuple):
    """One row per cell.

    **Arguments:** `values`: (cell, reading), on the scale of the data; `exposure`: (cell,), size factors; `condition`,
    `time`: (cell,); `readings`: names, genes or `gene.layer` where there are several layers.
    """

    values: np.ndarray
    exposure: np.ndarray
    condition: np.ndarray
    time: np.ndarray
    readings: tuple[str, ...]


def cells_of(snapshots: Snapshots) -> Cells:
    """All cells of snapshots, condition by condition and time by time."""
    c, t, n = np.nonzero(snapshots.there)
    many = len(snapshots.layers) > 1
    names = tuple(f"{gene}.{layer}" if many else gene for layer in snapshots.layers for gene in snapshots.genes)
    values = snapshots.values[c, t, n].reshape(len(c), -1)
    return Cells(values, snapshots.exposure[c, t, n], c, snapshots.times[c, t], names)


def taken(cells: Cells, which: np.ndarray) -> Cells:
    """Some of the cells, by flags or positions."""
    return Cells(cells.values[which], cells.exposure[which], cells.condition[which], cells.time[which], cells.readings)


def features_of(values: np.ndarray, exposure: np.ndarray, counted: bool) -> np.ndarray:
    """What the encoder reads, (cell, reading): `log(1 + count / size)`, or logarithms as they are."""
    return np.log1p(values / exposure[:, None]) if counted else values


def checked(
    values: object, exposure: object, readings: tuple[str, ...], counted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A caller's cells, (cell, reading), and size factors, (cell,). **Raises** together `E_DATA_SHAPE`,
    `E_DATA_NONFINITE`, `E_DATA_NEGATIVE`, `E_USAGE` for size factors of logarithms."""
    table = np.asarray(values, dtype=float)
    with Problems() as problems:
        if table.ndim != 2 or table.shape[1] != len(readings):
            problems.add("E_DATA_SHAPE", f"Cells {table.shape} must be (cell, {len(readings)}), in the model's order.")
        if not np.isfinite(table).all():
            problems.add("E_DATA_NONFINITE", "Cells hold NaN or infinite readings; drop those cells.")
        if counted and (table < 0).any():
            problems.add("E_DATA_NEGATIVE", "Cells hold negative counts; give the raw table.")
        if exposure is not None and not counted:
            problems.add("E_USAGE", "Readings on a logarithmic scale have no size factors; leave `exposure` out.")
        size = np.ones(len(table)) if exposure is None else np.asarray(exposure, dtype=float)
        if size.shape != table.shape[:1] or not (np.isfinite(size) & (size > 0)).all():
            problems.add("E_DATA_SHAPE", f"Argument `exposure` {size.shape} needs a number > 0 for each cell.")
    return table, size


def check_scale(scale: str) -> bool:
    """Whether readings are counts. **Raises** `E_SCALE_MISMATCH` for a scale that has no likelihood here."""
    if scale not in SCALES:
        raise PinnsimError.of(
            "E_SCALE_MISMATCH",
            f"A latent model needs counts or logarithms, but the scale is '{scale}'; take log1p and declare that.",
        )
    return scale == "counts"
