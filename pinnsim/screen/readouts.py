"""What is read of a state: amounts of species, of genes by their last layer, or sums of several species."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.landscape.coordinates import Numbers, floors

Reads: TypeAlias = Sequence[str] | Mapping[str, str | Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Readouts:
    """Linear readings of abundances.

    **Arguments:** `names`; `weights`: (readout, species), >= 0; `floor`: (readout,), what is added inside logarithms,
    abundance units.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    floor: np.ndarray

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Levels of states, (..., species) to (..., readout); what is not read may be NaN or negative."""
        alive = np.isfinite(states).all(axis=-1, keepdims=True)
        return np.where(alive, np.where(alive, states, 0.0) @ self.weights.T, np.nan)

    def of(self, species: np.ndarray) -> np.ndarray:
        """Which readouts read any of these species, (..., species) to (..., readout)."""
        return species.astype(float) @ (self.weights != 0).astype(float).T > 0


def readouts_of(given: Reads | None, kinetics: AbstractKinetics, floor: Numbers | None) -> Readouts:
    """Readouts by name.

    **Arguments:** `given`: names of species or genes, or, for sums, `{"total A": {"A": 1, "A.B": 1}}` (default: all
    species that are abundances); `floor`: abundance units, one number or one each (default: that of the landscape, a
    ten-thousandth of the default abundance).

    **Raises** `E_GENE_UNKNOWN`, `E_USAGE`.
    """
    species, material = kinetics.table.species, np.asarray(kinetics.material())
    named: Mapping[str, str | Mapping[str, float]]
    if isinstance(given, str):
        given = [given]
    if given is None:
        named = {name: name for name, amount in zip(species, material, strict=True) if amount}
    else:
        named = given if isinstance(given, Mapping) else {name: name for name in given}
    with Problems() as problems:
        weights = [_weights(what, species, material, problems) for what in named.values()]
        if not named:
            problems.add("E_USAGE", "Argument `readouts` is empty; name species or genes, or leave it out for all.")
        if any((row < 0).any() or not np.isfinite(row).all() for row in weights):
            problems.add("E_USAGE", "A sum of species has a weight that is negative or not finite; give weights > 0.")
        lowest = np.zeros(1) if floor is None else np.atleast_1d(np.asarray(floor, dtype=float))
        if not np.isfinite(lowest).all() or (lowest < 0).any() or lowest.shape not in ((1,), (len(named),)):
            problems.add(
                "E_USAGE", f"Argument `floor` needs one amount >= 0, or one for each of {len(named)} readouts."
            )
    matrix = np.array(weights)
    whole = matrix @ np.asarray(floors(kinetics)) if floor is None else np.broadcast_to(lowest, (len(named),))
    return Readouts(tuple(named), matrix, np.array(whole))


def _weights(
    what: str | Mapping[str, float], species: tuple[str, ...], material: np.ndarray, problems: Problems
) -> np.ndarray:
    row = np.zeros(len(species))
    for name, weight in ({what: 1.0} if isinstance(what, str) else what).items():
        at = (
            [species.index(name)] if name in species else [k for k, s in enumerate(species) if s.startswith(f"{name}.")]
        )
        amounts = [k for k in at if material[k]]
        if amounts:
            row[amounts[-1]] += weight
        elif at:
            problems.add("E_USAGE", f"'{name}' is a hidden activity, which has no amount; read what it regulates.")
        else:
            problems.add(
                "E_GENE_UNKNOWN",
                f"'{name}' is neither a species nor a gene of the model{did_you_mean(name, species)}; its "
                f"{len(species)} species are in model.table.species.",
            )
    return row


def one_readout(name: str, names: Sequence[str]) -> int:
    """The position of a readout, or of a gene's last layer among them. **Raises** `E_GENE_UNKNOWN`."""
    found = [k for k, one in enumerate(names) if one == name] or [
        k for k, one in enumerate(names) if one.startswith(f"{name}.")
    ]
    if found:
        return found[-1]
    raise PinnsimError.of(
        "E_GENE_UNKNOWN", f"'{name}' is not among the {len(names)} readouts of the screen{did_you_mean(name, names)}."
    )
