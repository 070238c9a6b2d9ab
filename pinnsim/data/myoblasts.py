"""Differentiating human myoblasts, cell by cell: the embedded snapshots.

271 cells, 0, 24, 48 and 72 h after the switch to differentiation medium, 56 genes as log(1 + FPKM). The first 40 genes
are those that change most between 0, 24 and 72 h, chosen without the cells of 48 h; the others are markers. Source:
Trapnell et al. 2014, Nat. Biotechnol. 32:381 (licence and caveats in `embedded/hsmm_myoblast/NOTICE.md`).
"""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np

from pinnsim.data.snapshots import Snapshots
from pinnsim.texttable import read_table

CITATION = "Trapnell et al. 2014, Nat. Biotechnol. 32:381 (by way of HSMMSingleCell 1.18.0)"


def myoblasts() -> Snapshots:
    """The four populations (time in h, log(1 + FPKM), one culture)."""
    with as_file(files("pinnsim.data") / "embedded" / "hsmm_myoblast" / "fpkm.csv") as path:
        table = read_table(path)
    genes = tuple(str(name) for name in table.columns[2:])
    return Snapshots.build(
        np.log1p(table[list(genes)].to_numpy(dtype=float)),
        table["hours"].to_numpy(dtype=float),
        genes,
        time_unit="h",
        scale="log1p",
        source=CITATION,
    )
