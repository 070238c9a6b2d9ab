"""Do the data suit the instrument that a model says they come from?

What a user declares is never guessed from numbers, only compared with them: likelihoods of counts need counts, and
logarithmic readouts need logarithms.
"""

import equinox as eqx
import numpy as np

from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import Problems, did_you_mean, first, warn
from pinnsim.observation import ArrayReadout, NegativeBinomial, Observation, Poisson, ZeroInflated
from pinnsim.parameter import resolve
from pinnsim.table import Table

_LOGS = ("log2", "log1p")
_LOW = 20.0  # numbers that are not whole and stay below it look like logarithms
_FAR_BELOW = 12.0  # log2: an abundance below 1/4000, where steady states of order 1 are beyond priors of a few units
_HIGH = 1e3  # what no logarithm of an abundance reaches


def check_suits(problems: Problems, observation: Observation, values: np.ndarray, scale: str, what: str) -> None:
    """Adds `E_SCALE_MISMATCH` where a likelihood of counts is given other numbers, or a logarithmic readout numbers
    above 1000; warns `W_SCALE_RAW` for smaller ones that were not declared logarithms.

    **Arguments:** `values`: those that were measured, any shape; `scale`: as declared; `what`: for the message.
    """
    good = values[np.isfinite(values)]
    if not good.size:
        return
    whole, top = bool(np.all(good == np.round(good))), float(good.max())
    counted = isinstance(observation.likelihood, Poisson | NegativeBinomial | ZeroInflated)
    if counted and not whole and (scale in _LOGS or top < _LOW):
        looks = f"looks {scale if scale in _LOGS else 'log1p'}"
        problems.add(
            "E_SCALE_MISMATCH",
            f"{what}: {type(observation.likelihood).__name__} needs counts; the values are non-integer, max {top:.3g} "
            f"({looks}). Choose the raw counts, or another likelihood.",
        )
    if isinstance(observation.readout, ArrayReadout) and scale not in _LOGS:
        said = f"{what}: the readout is log2, but scale='{scale}' and the largest value is {top:.6g}"
        if top > _HIGH:
            problems.add("E_SCALE_MISMATCH", f"{said}; take the logarithm, or use a linear readout.")
        else:
            warn("W_SCALE_RAW", f"{said}; declare scale='log2' if these are logarithms.", stacklevel=5)


def check_levels(observation: Observation, values: np.ndarray, mask: np.ndarray, genes: tuple[str, ...]) -> None:
    """Warns `W_LEVEL_LOW` of genes whose middle reading is far below a logarithmic readout's offset.

    **Arguments:** `values`, `mask`: (..., gene), readings of the model's genes and whether they were taken;
    `observation`: unresolved.
    """
    readout = observation.readout
    if not isinstance(readout, ArrayReadout):
        return
    offset = np.broadcast_to(np.asarray(resolve(readout).offset), (len(genes),))
    rows = np.where(mask, values, np.nan).reshape(-1, len(genes))
    seen = np.isfinite(rows).any(axis=0)
    gaps = np.zeros(len(genes))
    gaps[seen] = np.nanmedian(rows[:, seen], axis=0) - offset[seen]
    low = np.flatnonzero(gaps < -_FAR_BELOW)
    if len(low):
        shown = first(f"{genes[k]} by {-gaps[k]:.1f}" for k in low)
        warn(
            "W_LEVEL_LOW",
            f"{len(low)} of {len(genes)} genes read more than {_FAR_BELOW:g} log2 units below their readout's offset, "
            f"the reading at abundance 1 ({shown}): amounts and affinities of order 1, where fits begin, are then far "
            "off, and it may not converge. Set `offset` near the highest readings.",
            stacklevel=4,
        )


def check_snapshots(problems: Problems, observations: tuple[Observation, ...], snapshots: Snapshots) -> None:
    """Adds `E_DATA_SHAPE` where there is not one instrument per layer, `E_DATA_NONFINITE` for cells that are not
    numbers, `E_DATA_EMPTY` where nothing is left to match, and what `check_suits` adds of every layer."""
    layers, there = snapshots.layers, snapshots.there
    if len(observations) != len(layers):
        problems.add(
            "E_DATA_SHAPE",
            f"The model has {len(observations)} observations for {len(layers)} measured layers ({first(layers)}); give "
            "one per layer, in this order.",
        )
        return
    odd = np.argwhere(there[..., None, None] & ~np.isfinite(snapshots.values)).tolist()
    if odd:
        shown = first(
            f"{snapshots.conditions[c]} at {snapshots.times[c, t]:g} {snapshots.time_unit}, cell {i}, layer "
            f"{layers[k]}, gene {snapshots.genes[g]}"
            for c, t, i, k, g in odd[:3]
        )
        problems.add(
            "E_DATA_NONFINITE", f"{len(odd)} values of cells are NaN or infinite (first: {shown}); drop those cells."
        )
    if not there[:, 1:].any():
        problems.add(
            "E_DATA_EMPTY", "No condition has cells after its first time, so nothing can be matched; check the split."
        )
    for k, one in enumerate(observations):
        check_suits(problems, one, snapshots.values[there][:, k], snapshots.scale, f"layer '{layers[k]}'")


def check_species(problems: Problems, snapshots: Snapshots, table: Table) -> None:
    """Adds `E_GENE_UNMATCHED` for measured species that a model with this `table` does not have."""
    missing = [name for row in _species(snapshots) for name in row if name not in table.species]
    if missing:
        shown = first(f"'{name}'{did_you_mean(name, table.species)}" for name in missing)
        problems.add(
            "E_GENE_UNMATCHED",
            f"{len(missing)} measured species are not in the model ({shown}); select the genes that are, and name "
            "layers as the model does.",
        )


def species_at(snapshots: Snapshots, table: Table) -> np.ndarray:
    """Where measured species are in the state of a model with this `table`, (layer, gene)."""
    return np.array([[table.species.index(name) for name in row] for row in _species(snapshots)])


def _species(snapshots: Snapshots) -> list[list[str]]:
    return [[f"{gene}.{layer}" for gene in snapshots.genes] for layer in snapshots.layers]


def flags(snapshots: Snapshots) -> tuple[str, ...]:
    """What these populations cannot tell, in sentences that start with a code: genes without a single count, genes that
    never change, populations of one cell, conditions with nothing to match."""
    found, there = [], snapshots.there
    cells, unit = there.sum(axis=2), snapshots.time_unit
    values = snapshots.values[there]
    for k, layer in enumerate(snapshots.layers):
        still = np.ptp(values[:, k], axis=0) == 0 if len(values) else np.zeros(len(snapshots.genes), bool)
        never = still & (np.abs(values[:, k]).max(axis=0, initial=0) == 0)
        for which, how in ((never, "have no count in any cell"), (still & ~never, "are the same in all cells")):
            names = [snapshots.genes[g] for g in np.flatnonzero(which)]
            if names:
                found.append(
                    f"W_GENE_CONSTANT: {len(names)} of {len(snapshots.genes)} genes {how} of layer '{layer}' "
                    f"({first(names)}); their rates only echo the prior."
                )
    alone = [
        f"{snapshots.conditions[c]} at {snapshots.times[c, t]:g} {unit}" for c, t in np.argwhere(cells == 1).tolist()
    ]
    if alone:
        found.append(
            f"W_CELLS_FEW: {len(alone)} populations have one cell ({first(alone)}), which has no spread: only its "
            "place counts."
        )
    empty = [name for c, name in enumerate(snapshots.conditions) if not there[c, 1:].any()]
    if empty:
        found.append(
            f"W_DATA_EMPTY: {len(empty)} of {len(snapshots.conditions)} conditions have no cells after their first "
            f"time ({first(empty)}); nothing of them was matched."
        )
    return tuple(found)


def needs_two_cells(problems: Problems, match: eqx.Module, snapshots: Snapshots) -> None:
    """Adds `E_DATA_EMPTY` where an unbiased distance would compare a population of one cell."""
    alone = np.argwhere(snapshots.there.sum(axis=2)[:, 1:] == 1).tolist()
    if alone and getattr(getattr(match, "distance", None), "unbiased", False):
        shown = first(f"{snapshots.conditions[c]} at {snapshots.times[c, t + 1]:g}" for c, t in alone)
        problems.add(
            "E_DATA_EMPTY",
            f"{len(alone)} populations have one cell ({shown}), and an unbiased distance needs two; drop them, or use "
            "the biased distance.",
        )
