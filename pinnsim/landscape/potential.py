"""Landscapes as values: numbers over states that say which potential they are, and are never mixed.

| kind | what | which to use when |
|---|---|---|
| `energy` | U with `f = -grad U`, as written or learned | the model is a gradient system |
| `stationary` | `-ln p_ss`, of a given noise | where cells are found; heights are in units of `ln p`, at this noise |
| `quasi` | Freidlin-Wentzell action from an attractor, `p ~ exp(-Phi)` | rare escapes; exponent of exit times |
| `gaussian` | `-ln p` of the linear noise approximation | near one attractor, any number of genes |
| `molecules` | `-ln p(n)` of an exact birth-death law | few molecules of one species |
| `ensemble` | `-ln` of the density of sampled cells | many genes: a map of where the cells of a run are |

For a gradient system with constant noise D, `stationary = energy / D + constant`, and `quasi = energy / D` above the
attractor; without a gradient none of them is another, and the flux `J = f p - D grad p` goes round.

Source: J. Wang, Adv. Phys. 64:1 (2015); M. I. Freidlin and A. D. Wentzell, Random Perturbations of Dynamical Systems
(2012).
"""

import dataclasses

import numpy as np

from pinnsim.errors import PinnsimError
from pinnsim.tree import brief

KINDS = {
    "energy": "U, with f = -grad U",
    "stationary": "-ln p of the stationary law at the given noise",
    "quasi": "Freidlin-Wentzell action from an attractor (S = 1/4 int (x' - f)' D^-1 (x' - f) dt)",
    "gaussian": "-ln p of the linear noise approximation",
    "molecules": "-ln p(n) of the exact law of molecule numbers",
    "ensemble": "-ln of the density of an ensemble of cells",
}


@dataclasses.dataclass(frozen=True)
class Potential:
    """Heights of a landscape.

    **Arguments:** `kind`: one of `KINDS`; `values`: any shape, dimensionless except an `energy`, lowest 0; `noise`:
    what noise the heights belong to, in words ("" where they belong to none).
    """

    __repr__ = brief

    kind: str
    values: np.ndarray
    noise: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PinnsimError.of("E_USAGE", f"'{self.kind}' is no kind of potential; choose of {', '.join(KINDS)}.")

    @property
    def meaning(self) -> str:
        """What the heights are, in words."""
        return KINDS[self.kind] + (f" ({self.noise})" if self.noise else "")

    def require_like(self, other: "Potential") -> None:
        """**Raises** `E_USAGE` where the other is of another kind or noise: their heights do not compare."""
        if (self.kind, self.noise) != (other.kind, other.noise):
            raise PinnsimError.of(
                "E_USAGE",
                f"One landscape is {self.meaning}, the other {other.meaning}; compute both in the same way to compare.",
            )

    def __sub__(self, other: "Potential") -> np.ndarray:
        """The same as `minus`."""
        return self.minus(other)

    def minus(self, other: "Potential") -> np.ndarray:
        """Differences of heights of two potentials of one kind and noise, for example before and after a perturbation.

        **Raises** `E_USAGE` for different kinds, noises or shapes: their heights do not compare.
        """
        self.require_like(other)
        if self.values.shape != other.values.shape:
            raise PinnsimError.of(
                "E_USAGE", f"The landscapes have shapes {self.values.shape} and {other.values.shape}; use one grid."
            )
        return self.values - other.values


def from_probability(p: np.ndarray, kind: str, noise: str) -> Potential:
    """`-ln p`, lowest 0, infinite where p is 0."""
    with np.errstate(divide="ignore"):
        heights = -np.log(np.asarray(p, dtype=float))
    return Potential(kind, heights - heights.min(), noise)
