"""AnnData objects of simulated cells with known rates: a gene that activates another, and a toggle of these two genes.

The simulation is numpy's own Langevin equation, `dx = f dt + sqrt((v+ + v-) dt / Omega) z`, so that what the library
fits and finds is compared with equations that were written down again.
"""

import anndata
import numpy as np
import pandas as pd
import scipy.sparse

from pinnsim import pp
from pinnsim.model import CellModel, ModelConfig, RegulationConfig, build
from pinnsim.network import Network
from pinnsim.observation import LikelihoodConfig, ReadoutConfig
from pinnsim.prior import half_life_prior

HOURS = (0.0, 1.0, 2.0, 4.0, 8.0)
DECAY = np.array([0.6, 0.35])  # per hour, of the activated pair
SIZE, CAPTURE = 200.0, 40.0


def share(x: np.ndarray, energy: float, affinity: float, hill: float) -> np.ndarray:
    """Log odds that one edge adds."""
    bound = (np.maximum(x, 1e-12) / affinity) ** hill
    return np.log1p(np.exp(energy) * bound) - np.log1p(bound)


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-odds))


def activated(x: np.ndarray) -> np.ndarray:
    """Promoter activities of `src` (constant) and `dst` (activated by `src`)."""
    return np.stack([np.full(len(x), 0.5), sigmoid(-2.0 + share(x[:, 0], 2.5, 1.0, 1.0))], axis=1)


def courses(cells: int, rng: np.random.Generator, treated: bool) -> dict[float, np.ndarray]:
    """Cells at each of `HOURS`, other ones at each time, (cell, 2). `treated`: `src` is made no more."""
    x, found, steps = 0.15 * np.exp(0.3 * rng.standard_normal((cells * len(HOURS), 2))), {}, 40
    on = np.array([0.0 if treated else 1.0, 1.0])
    for k, hour in enumerate(HOURS):
        dt = 0.0 if k == 0 else (hour - HOURS[k - 1]) / steps
        for _ in range(steps if k else 0):
            made, gone = 2.0 * DECAY * activated(x) * on, DECAY * x
            noise = np.sqrt(dt / SIZE) * (np.sqrt(made) * rng.standard_normal(x.shape))
            noise -= np.sqrt(dt / SIZE) * (np.sqrt(gone) * rng.standard_normal(x.shape))
            x = np.maximum(x + dt * (made - gone) + noise, 0.0)
        found[hour] = x[k * cells : (k + 1) * cells]
    return found


def activated_cells(cells: int = 60, sparse: bool = False, kind: str = "float32", seed: int = 3) -> anndata.AnnData:
    """`src` -> `dst` in a control and under a knock-out of `src`, with a house-keeping gene, a silent one, and times in
    hours; counts in `X`, `unspliced` and `spliced` like scvelo's files."""
    rng, rows, obs = np.random.default_rng(seed), [], []
    for name in ("control", "knockout"):
        for hour, x in courses(cells, rng, name == "knockout").items():
            depth = rng.uniform(0.7, 1.4, len(x))
            counts = rng.poisson(depth[:, None] * CAPTURE * x)
            steady = rng.poisson(depth[:, None] * 300.0, (len(x), 1))
            rows.append(np.column_stack([counts, steady, np.zeros(len(x))]))
            obs += [(hour, name, one) for one in depth]
    table = np.concatenate(rows).astype(kind)
    order = rng.permutation(len(table))
    wrap = scipy.sparse.csr_matrix if sparse else np.asarray
    frame = pd.DataFrame(obs, columns=["hours", "arm", "depth"]).iloc[order]
    frame.index = [f"cell{k}" for k in range(len(table))]
    genes = pd.DataFrame({"half_life_h": [0.8, 3.0, np.nan, np.nan]}, index=["src", "dst", "housekeeping", "silent"])
    young = rng.poisson(0.2 * table).astype(kind)
    layers = {"spliced": wrap(table[order]), "unspliced": wrap(young[order])}
    return anndata.AnnData(wrap(table[order]), frame, genes, layers=layers)


def edges() -> Network:
    """`src` activates `dst`, and a regulator that nobody measured acts on `silent`."""
    return Network.from_frame(
        pd.DataFrame({"tf": ["src", "ghost"], "target": ["dst", "silent"], "sign": [1, -1], "confidence": [1.0, 0.5]})
    )


TOGGLE = {"synthesis": 2.0, "decay": 0.5, "basal": 3.0, "energy": -7.0, "affinity": 0.35, "hill": 3.0}


def toggle_force(x: np.ndarray) -> np.ndarray:
    """The flow of the toggle, (2,) to (2,), per hour."""
    t = TOGGLE
    odds = t["basal"] + share(x[::-1], t["energy"], t["affinity"], t["hill"])
    return t["synthesis"] * t["decay"] * sigmoid(odds) - t["decay"] * x


def toggle_parts() -> tuple[CellModel, ModelConfig, Network, object]:
    """The toggle as `save_model` takes it."""
    network = Network.from_frame(pd.DataFrame({"tf": ["src", "dst"], "target": ["dst", "src"], "sign": [-1, -1]}))
    t = TOGGLE
    config = ModelConfig(
        time_unit="h",
        synthesis=t["synthesis"],
        regulation=RegulationConfig(strength=-t["energy"], affinity=t["affinity"], hill=t["hill"], basal=t["basal"]),
        readout=ReadoutConfig(kind="linear", scale=CAPTURE),
        likelihood=LikelihoodConfig(kind="poisson"),
    )
    table = pd.DataFrame({"gene": ["src", "dst"], "half_life_h": [np.log(2) / t["decay"]] * 2})
    prior = half_life_prior(table, network.genes, time_unit="h")
    return build(config, network, prior).center, config, network, prior


def toggle_cells(cells: int = 120, seed: int = 5) -> tuple[anndata.AnnData, np.ndarray]:
    """Cells on both sides of the toggle, prepared by `pp`, at two times; and what they contain, (cell, 2): readings are
    exact, so that these are also the states that they seem to have."""
    rng = np.random.default_rng(seed)
    side = rng.random(cells) < 0.5
    x = np.where(side[:, None], [1.7, 0.3], [0.3, 1.7]) * np.exp(0.35 * rng.standard_normal((cells, 2)))
    obs = pd.DataFrame({"hour": np.repeat([0.0, 1.0], [cells // 2, cells - cells // 2])})
    obs["arm"] = "control"
    obs.index = [f"cell{k}" for k in range(cells)]
    adata = anndata.AnnData(CAPTURE * x, obs, pd.DataFrame(index=["src", "dst"]))
    pp.times(adata, time_key="hour", time_unit="h", condition_key="arm", simulated=True)
    pp.size_factors(adata, method="none")
    return adata, x


def same(a: object, b: object) -> bool:
    """Whether two entries of `uns` hold the same, whatever kind of array of texts a file gave back."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    x, y = np.asarray(a), np.asarray(b)
    if x.dtype.kind in "OUST":
        return x.shape == y.shape and [str(v) for v in x.ravel()] == [str(v) for v in y.ravel()]
    return x.shape == y.shape and bool(np.array_equal(x, y, equal_nan=x.dtype.kind == "f"))
