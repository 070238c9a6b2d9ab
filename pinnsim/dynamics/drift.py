"""A plain drift field as a cell: `dx/dt = f(x) + drive`, without reactions.

For systems that are given by their flow, not by what reacts: textbook landscapes, normal forms, learned fields. The
flow is any callable module, so its parameters are array leaves like those of every model; treatments may drive, hold
and time as everywhere. Coordinates may have either sign unless they are called abundances.

`Descent` makes a flow of an energy, `f = -grad U`.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Acting
from pinnsim.shapes import Numbers, Rates, Scalar, State
from pinnsim.table import Table


class DriftField(AbstractKinetics):
    """`x' = flow(x) + drive`; build it with `drift_field`.

    **Arguments:** `flow`: a callable module, (species,) to (species,), per time unit; `start`: (species,), default
    state; `abundance`: whether coordinates are amounts, which cannot be negative.
    """

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    abundance: bool = eqx.field(static=True)
    flow: Callable[[State], State]
    start: Float[Array, " species"]

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0, state.dtype)

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        return jnp.where(edits.hold, 0.0, self.flow(state) + edits.drive)

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((len(self.table.species), 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.full(len(self.table.species), self.abundance)

    def default_state(self) -> State:
        return self.start


def drift_field(
    flow: Callable[[State], State],
    species: Sequence[str],
    start: Numbers,
    *,
    abundance: bool = False,
    time_unit: str = "min",
) -> DriftField:
    """A cell that follows a flow.

    **Arguments:** `flow`: callable module; `species`: names of the coordinates; `start`: (species,).

    **Raises** `E_INIT` for a start or a flow of another shape.
    """
    names, begin = tuple(species), jnp.asarray(start, dtype=float)
    if begin.shape != (len(names),):
        raise PinnsimError.of("E_INIT", f"Argument `start` {begin.shape} must give each of {len(names)} coordinates.")
    made = jax.eval_shape(flow, begin)
    if made.shape != begin.shape:
        raise PinnsimError.of("E_INIT", f"The flow gives {made.shape} where the state has {begin.shape}.")
    return DriftField(Table((), (), (), (), names, ()), time_unit, abundance, flow, begin)


class Descent(eqx.Module):
    """`f(x) = -grad U(x)`. **Arguments:** `energy`: a callable module, (species,) to one number."""

    energy: Callable[[State], Scalar]

    def __call__(self, state: State) -> State:
        return -jax.grad(self.energy)(state)
