"""How strongly a cell's state is shaken: the diffusion matrix D of `dX = f dt + sqrt(2 D) dW`.

    additive:  D is given, the same everywhere
    chemical:  D = S diag(v) S' / (2 Omega), the noise of reactions that happen one by one in a cell of size Omega

so that `<dX dX'> = 2 D dt`. Species that are held, and hidden activities, are not shaken by reactions.

Source: D. T. Gillespie, J. Chem. Phys. 113:297 (2000), for the chemical noise.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.system import System, Vector

Square = Float[Array, "free free"]


class AbstractNoise(eqx.Module):
    """A diffusion matrix over states."""

    @abc.abstractmethod
    def diffusion(self, system: System, y: Vector) -> Square:
        """D in the free coordinates of a system, amount^2 per time."""


class Additive(AbstractNoise):
    """The same D everywhere. **Arguments:** `strength`: (species, species), symmetric."""

    strength: Float[Array, "species species"]

    def diffusion(self, system: System, y: Vector) -> Square:
        return system.basis.T @ self.strength @ system.basis


class Chemical(AbstractNoise):
    """Reactions one by one. **Arguments:** `size`: Omega, molecules per abundance unit."""

    size: Float[Array, ""]
    stoichiometry: Float[Array, "species reaction"]

    def diffusion(self, system: System, y: Vector) -> Square:
        kinetics, acting = system.turned(jnp.zeros(0, y.dtype))
        rates = jnp.maximum(kinetics.propensities(jnp.zeros((), y.dtype), system.state(y), acting), 0.0)
        moves = system.basis.T @ self.stoichiometry
        return (moves * rates[None]) @ moves.T / (2.0 * self.size)


def additive(strength: Numbers, species: int) -> Additive:
    """Noise of one strength: a number for all species, one number each, or a symmetric matrix.

    **Raises** `E_USAGE` for another shape and for what is not positive definite.
    """
    given = np.asarray(strength, dtype=float)
    matrix = given if given.ndim == 2 else np.diag(np.broadcast_to(given, (species,)) if given.ndim < 2 else given)
    fine = matrix.shape == (species, species) and np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
    if not fine or np.linalg.eigvalsh(matrix).min(initial=1.0) <= 0:
        raise PinnsimError.of(
            "E_USAGE",
            f"Noise needs one number > 0, {species} of them, or a symmetric positive definite matrix, but got {given}.",
        )
    return Additive(jnp.asarray(matrix))


def chemical(system: System, size: Numbers) -> Chemical:
    """The noise of a system's own reactions. **Raises** `E_USAGE` for models without reactions and bad sizes."""
    moves = system.kinetics.stoichiometry()
    omega = np.asarray(size, dtype=float)
    if not moves.shape[1]:
        raise PinnsimError.of("E_USAGE", "This model has a flow but no reactions; give its noise as additive(D).")
    if omega.shape or not np.isfinite(omega) or omega <= 0:
        raise PinnsimError.of("E_USAGE", f"Argument `size` must be one finite number > 0, but is {omega}.")
    return Chemical(jnp.asarray(omega), jnp.asarray(moves, dtype=float))
