"""What reactions make, as a sparse and hashable list: which species each uses, and what it changes.

The stoichiometry S is read in three forms: edge arrays, a dense matrix for inspection, and padded (ELL) rows, in which
each species lists its reactions, so that `S v` is a few gathers and sums and never a scatter.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.shapes import Rates, State

_RUNS = 12  # from so many pieces on a gather is quicker than slices


@dataclasses.dataclass(frozen=True)
class Structure:
    """Which species each reaction uses and makes. Hashable, so that it is a static part of a model.

    **Arguments:** numbers of `species` and `reactions`; `reactants`: per reaction, the position of each reactant,
    repeated as often as it is used; `changes`: (species, reaction, net change), no zeros.
    """

    species: int
    reactions: int
    reactants: tuple[tuple[int, ...], ...]
    changes: tuple[tuple[int, int, int], ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.species, self.reactions, self.reactants, self.changes))

    def __hash__(self) -> int:
        # Every call of a compiled program asks for it.
        return self._hash

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """S as edge arrays: species, reaction, change."""
        table = np.array(self.changes, dtype=int).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2]

    @cached_property
    def matrix(self) -> np.ndarray:
        """S as a dense integer array, (species, reaction)."""
        dense = np.zeros((self.species, self.reactions), dtype=int)
        species, reaction, change = self.edges
        dense[species, reaction] = change
        return dense

    @cached_property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """S in padded (ELL) form: the reactions that change each species, (species, slot), padded with the number of
        reactions, and their changes, padded with 0."""
        species, reaction, change = self.edges
        counts = np.bincount(species, minlength=self.species)
        shape = (self.species, max(int(counts.max(initial=0)), 1))
        which, how = np.full(shape, self.reactions, np.int32), np.zeros(shape, np.int32)
        order = np.argsort(species, kind="stable")
        rank = np.arange(len(species)) - np.repeat(np.cumsum(counts) - counts, counts)
        which[species[order], rank], how[species[order], rank] = reaction[order], change[order]
        return which, how

    @cached_property
    def uses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reactants in padded form, (reaction, slot): species (padded with their number), how many of the same species
        come before in the row, and whether the species is a catalyst there (not changed)."""
        shape = (self.reactions, max((len(row) for row in self.reactants), default=0))
        which, rank = np.full(shape, self.species, np.int32), np.zeros(shape, np.int32)
        for r, row in enumerate(self.reactants):
            which[r, : len(row)] = row
            rank[r, : len(row)] = [row[:k].count(i) for k, i in enumerate(row)]
        padded = np.concatenate([self.matrix, np.ones((1, self.reactions), dtype=int)])
        catalyst = padded[which, np.arange(self.reactions)[:, None]] == 0
        return which, rank, catalyst


def net_change(structure: Structure, rates: Rates) -> State:
    """S v, (species,), by rows of reactions."""
    which, how = structure.slots
    padded = jnp.concatenate([rates, jnp.zeros(1, rates.dtype)])
    total = jnp.zeros(structure.species, rates.dtype)
    for k in range(which.shape[1]):
        total = total + how[:, k].astype(rates.dtype) * take_rows(padded, which[:, k])
    return total


def take_rows(values: Float[Array, " row"], index: np.ndarray) -> Float[Array, " item"]:
    """`values[index]` for an index that is known when compiling: by slices where it is made of few runs, which move
    whole blocks where a gather moves rows."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    if len(breaks) >= _RUNS:
        return values[index]
    runs = [values[int(run[0]) : int(run[-1]) + 1] for run in np.split(index, breaks) if len(run)]
    return jnp.concatenate(runs) if len(runs) > 1 else runs[0] if runs else values[:0]


def changes_of(used: Sequence[Sequence[int]], made: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """(species, reaction, net change) of every reaction that uses and makes these, zeros left out."""
    changes = []
    for r, (before, after) in enumerate(zip(used, made, strict=True)):
        for i in sorted({*before, *after}):
            net = list(after).count(i) - list(before).count(i)
            if net:
                changes.append((int(i), r, net))
    return changes


def gene_structure(layers: tuple[str, ...], kinds: tuple[str, ...], genes: int) -> Structure:
    """The structure of gene kinetics: species layer after layer, reactions kind after kind, each over all genes.

    Reactants are left out: those propensities are not mass action.
    """
    mature = "spliced" if "spliced" in layers else "mrna"
    effects = {
        "transcription": ((layers[0], 1),),
        "splicing": (("unspliced", -1), ("spliced", 1)),
        "decay": ((mature, -1),),
        "translation": (("protein", 1),),
        "protein_decay": (("protein", -1),),
    }
    changes = [
        (layers.index(layer) * genes + i, k * genes + i, change)
        for k, kind in enumerate(kinds)
        for layer, change in effects[kind]
        for i in range(genes)
    ]
    reactions = len(kinds) * genes
    return Structure(len(layers) * genes, reactions, ((),) * reactions, tuple(sorted(changes)))
