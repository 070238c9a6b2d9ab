"""Which genes change in time: the share of a gene's variation between cells that lies between sampling times.

Readings per unit of exposure are compared as y = log(1 + reading / exposure). Of the cells of condition c sampled at
time t, n_ct of them with mean m_ct, and with m_c the mean of the condition,

    eta^2 = sum_c sum_t n_ct (m_ct - m_c)^2 / sum_c sum_i (y_i - m_c)^2,

0 for a gene whose law is the same at all times (in expectation (groups - conditions) / (cells - conditions), which
`expected` gives), 1 for one that depends on time alone. Differences between conditions that last from the first time on
do not count. Tables are read block by block and may be sparse.

Source: R. A. Fisher, Statistical Methods for Research Workers (1925), section 45, the correlation ratio.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from pinnsim.data.blocks import ROWS, blocks


@dataclasses.dataclass(frozen=True)
class Changing:
    """Per gene: `ratio`, eta^2 (0 where the gene never varies); `cells`, in how many cells it was seen. `expected`:
    eta^2 of a gene that does not change."""

    ratio: np.ndarray
    cells: np.ndarray
    expected: float


def changing(table: Any, times: np.ndarray, conditions: np.ndarray, exposure: np.ndarray, rows: int = ROWS) -> Changing:
    """The correlation ratio of every gene of a table.

    **Arguments:** `table`: (cell, gene), readings >= 0, dense, sparse or backed; `times`, `conditions`: (cell,);
    `exposure`: (cell,), size factors > 0. **Returns** `Changing`. Source: see the file.
    """
    _, condition = np.unique(conditions.astype(str), return_inverse=True)
    pairs = np.stack([condition, np.unique(times, return_inverse=True)[1]], axis=1)
    kinds, group = np.unique(pairs, axis=0, return_inverse=True)
    group = group.ravel()
    genes = table.shape[1]
    sums, squares = np.zeros((len(kinds), genes)), np.zeros(genes)
    seen, count = np.zeros(genes, dtype=int), np.bincount(group, minlength=len(kinds))
    for part, block in blocks(table, rows):
        here = scipy.sparse.csr_matrix(block, dtype=float)
        logs = scipy.sparse.diags(1.0 / exposure[part]) @ here
        logs.data = np.log1p(logs.data)
        members = scipy.sparse.csr_matrix(
            (np.ones(here.shape[0]), (group[part], np.arange(here.shape[0]))), shape=(len(kinds), here.shape[0])
        )
        sums += (members @ logs).toarray()
        squares += np.asarray(logs.multiply(logs).sum(axis=0)).ravel()
        seen += np.asarray((here > 0).sum(axis=0)).ravel()
    held = kinds[:, 0]
    of_condition = np.zeros((held.max(initial=-1) + 1, genes))
    np.add.at(of_condition, held, sums)
    size = np.bincount(held, weights=count)
    inside = (of_condition**2 / size[:, None]).sum(axis=0)
    between = (sums**2 / count[:, None]).sum(axis=0) - inside
    total = squares - inside
    # What is left after cancellation of equal numbers is rounding, not variation.
    varies = total > 1e-12 * np.maximum(squares, 1e-300)
    ratio = np.where(varies, np.clip(between, 0.0, None) / np.where(varies, total, 1.0), 0.0)
    spare = len(group) - len(size)
    return Changing(np.minimum(ratio, 1.0), seen, (len(kinds) - len(size)) / spare if spare > 0 else 1.0)
