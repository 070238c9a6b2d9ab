"""What every cell model offers: one signature, `(time, state, perturbation)`, for ONE cell; batching is always
outside, by `vmap`.

A cell is a reaction system, `dx/dt = S v(t, x)`, with fixed stoichiometry S and propensities v >= 0 that vanish when
their reactant does. Beside its species the state may hold hidden activities (log scale, no mass), which follow their
own linear relaxation.
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool

from pinnsim.perturbation import Acting
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.table import Table


class AbstractKinetics(eqx.Module):
    """A reaction system with named rates."""

    table: eqx.AbstractVar[Table]
    time_unit: eqx.AbstractVar[str]

    @abc.abstractmethod
    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        """Rates v of all reactions, amount per time, each >= 0 for any non-negative state.

        **Arguments:** `time` in the model's unit; `state`, (species,); `perturbation` with this model's shapes.
        """

    @abc.abstractmethod
    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        """`dx/dt = S v + drive`, relaxation of hidden activities, and 0 where a species is held."""

    @abc.abstractmethod
    def stoichiometry(self) -> np.ndarray:
        """S as a dense integer array (species, reactions), for inspection and tests; rows of hidden activities are
        zero."""

    @abc.abstractmethod
    def material(self) -> Bool[Array, " species"]:
        """True for species with an abundance (which can never be negative), false for hidden activities on the log
        scale."""

    @abc.abstractmethod
    def default_state(self) -> State:
        """A plausible state to start a solver or a steady-state search from."""
