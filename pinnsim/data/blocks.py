"""Tables of cells read block by block: dense, sparse, or left on the disk (AnnData opened with `backed="r"`).

A table is anything with a shape that gives rows by a slice. Only sums and the columns that are asked for are kept, so
memory is that of one block beside the answer.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

ROWS = 4096  # cells read at a time


def blocks(table: Any, rows: int = ROWS) -> Iterator[tuple[slice, Any]]:
    """Rows and what stands in them, as a dense array or a sparse matrix in memory."""
    for begin in range(0, table.shape[0], rows):
        part = slice(begin, min(begin + rows, table.shape[0]))
        block = table[part]
        yield part, block if scipy.sparse.issparse(block) else np.asarray(block)


def row_sums(table: Any, rows: int = ROWS) -> np.ndarray:
    """The sum of every row, (cell,)."""
    total = np.zeros(table.shape[0])
    for part, block in blocks(table, rows):
        total[part] = np.asarray(block.sum(axis=1, dtype=float)).ravel()
    return total


def columns(table: Any, which: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """Some columns of every row, (cell, column), as numbers in double precision."""
    found = np.zeros((table.shape[0], len(which)))
    for part, block in blocks(table, rows):
        # Rows of a compressed sparse matrix are cheap, columns are not: they are taken from its columnwise form.
        chosen = block[:, which] if isinstance(block, np.ndarray) else block.tocsc()[:, which].toarray()
        found[part] = np.asarray(chosen, dtype=float)
    return found
