"""What `pinnsim init` writes for single cells: a project file, and cells that were made up."""

import tempfile
from pathlib import Path
from typing import Any

_CELLS = """\
# Single cells, each destroyed by its measurement, in an AnnData file. Columns and layers are named here, never guessed.
[cells]
h5ad = "cells.h5ad"
layers = {layers}
time = "hours"                   # a column of obs: when each cell was sampled
time_unit = "h"                  # s, min, h or d
condition = "arm"                # a column of obs; leave it out where there is one condition
scale = "counts"                 # or linear
size = 200                       # molecules that stand for a gene's highest mean: mean count / share captured
depth = "depth"                  # total counts per cell, in obs; without it, totals of the layers
min_cells = 5                    # genes seen in fewer are left out
cells = 60                       # simulated per condition; 200 for your own
simulated = true                 # the example's numbers are made up; leave this out for measurements

# What was done to the cells: `GENE=0` a knock-out, `GENE*2` a doubled synthesis, `GENE=0@24:` from hour 24 on.
[treatments]
knockout = "src=0"

# Who regulates whom: columns regulator, target, sign (1 activates, -1 represses, 0 unknown). Genes of the file that
# occur in it are fitted.
[network]
path = "network.csv"

# Known half-lives: columns gene, half_life, unit. Or column = "..." of var, or organism = "human", its typical value.
[prior]
half_lives = "half_lives.csv"

[fit]
starts = 2                       # independent starts; the best `keep` become the ensemble
keep = 2
trajectory_steps = 150           # 200 for your own
trajectory_learning_rate = 0.1
substeps = 5                     # 20 for your own
seed = 0
"""
_HOURS = (0.0, 1.0, 2.0, 4.0, 8.0)
_DECAY, _SPLICING = (0.6, 0.35), 8.0  # per hour
_CAPTURE, _EACH = 40.0, 40


def cells_example(unspliced: bool) -> dict[str, str | bytes]:
    """The files of a project of cells: `src` switches `dst` on, in a control and where `src` is made no more."""
    layers = '{ unspliced = "unspliced", spliced = "spliced" }' if unspliced else '{ mrna = "X" }'
    lives = "gene,half_life,unit\nsrc,1.2,h\ndst,2,h\n"
    edges = "regulator,target,sign\nsrc,dst,1\n"
    return {
        "project.toml": _CELLS.format(layers=layers),
        "cells.h5ad": _file(_cells()),
        "network.csv": edges,
        "half_lives.csv": lives,
    }


def _cells() -> Any:
    """Counts of spliced and unspliced RNA: a cell's course by Euler steps, times its own level, times its depth."""
    import anndata
    import numpy as np
    import pandas as pd

    rng, step = np.random.default_rng(0), 0.01
    old, young, obs = [], [], []
    for arm in ("control", "knockout"):
        made = np.array([0.0 if arm == "knockout" else 1.0, 1.0])
        decay, x, time = np.array(_DECAY), np.array([0.15, 0.1]), 0.0
        for hour in _HOURS:
            while time < hour - 1e-9:
                active = np.array([0.5, 0.05 + 0.9 * x[0] / (0.7 + x[0])])
                x = x + step * decay * (2.0 * made * active - x)
                time += step
            active = np.array([0.5, 0.05 + 0.9 * x[0] / (0.7 + x[0])])
            level = np.exp(0.25 * rng.standard_normal((_EACH, 2)))
            depth = rng.uniform(0.7, 1.4, _EACH)
            fresh = 2.0 * made * active * decay / _SPLICING
            old.append(rng.poisson(depth[:, None] * _CAPTURE * x * level))
            young.append(rng.poisson(depth[:, None] * _CAPTURE * fresh * level))
            obs += [(hour, arm, one * 5000.0) for one in depth]
    counts, nascent = (np.concatenate(part).astype(np.float32) for part in (old, young))
    frame = pd.DataFrame(obs, columns=["hours", "arm", "depth"], index=[f"cell{k}" for k in range(len(counts))])
    layers = {"spliced": counts, "unspliced": nascent}
    return anndata.AnnData(counts.copy(), frame, pd.DataFrame(index=["src", "dst"]), layers=layers)


def _file(adata: Any) -> bytes:
    """The bytes of its `.h5ad` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        adata.write_h5ad(path)
        return path.read_bytes()
