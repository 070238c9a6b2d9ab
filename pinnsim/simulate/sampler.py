"""What every sampled method is: settings as arrays, and one function that draws one cell."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray, UInt32

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.solve import Solution

Key = PRNGKeyArray | UInt32[Array, " 2"]


class AbstractSampler(eqx.Module):
    """A way to draw cells."""

    @abc.abstractmethod
    def sample(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, key: Key
    ) -> Solution:
        """One cell from `state` at `times[0]`, reported at `times`. Pure; map it over lanes.

        **Arguments:** `times`: (time,), increasing; `state`: (species,), abundances and hidden activities; `key`: any
        JAX key, or its two words.

        **Returns** a `Solution` in abundance units.

        **Raises** `E_USAGE` for kinetics with states that are neither abundances nor hidden activities.
        """


def setting(name: str, value: ArrayLike) -> Scalar:
    """`value` as a floating array: sweeping it compiles nothing. **Raises** `E_USAGE` unless every number is > 0
    (infinite is allowed); what is being traced is not looked at."""
    array = jnp.asarray(value, dtype=float)
    if not isinstance(array, jax.core.Tracer) and not bool(jnp.all(array > 0)):
        raise PinnsimError.of("E_USAGE", f"Argument `{name}` must be > 0, but is {value}.")
    return array
