"""Fixed points with a certificate: polished, told apart, and classified by the eigenvalues of their Jacobian.

A point counts only with its residual below `1e3 eps` (`steady_state`), so a place where the flow is merely slow (a
ghost) does not. Stability is read off the eigenvalues of the Jacobian (exact, by automatic differentiation) at the
polished point and nothing else: all real parts below 0: stable; Morse index = number of real parts above 0. What has a
zero real part within rounding is called marginal, not stable. Held species and conserved totals are no directions of
motion: eigenvalues are those of the Jacobian among states with the totals of a reference state.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.coordinates import coordinates, distance, floors
from pinnsim.landscape.system import system_of
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.simulate import Outcome, steady_state

_MOST_STEPS = 100  # a guess from which Newton's method has not settled by then belongs to no point nearby
_FEW_STEPS = 24  # side by side, all guesses wait for the slowest: those that need more are followed for longer instead
_ZERO = 1e-10  # real parts below this times the Jacobian's norm are zero within the rounding of its entries


@eqx.filter_jit
def jacobian_at(kinetics: AbstractKinetics, acting: Perturbation, state: State) -> Array:
    """d f_i / d x_j, (species, species)."""
    return jax.jacfwd(lambda x: kinetics.vector_field(jnp.zeros(()), x, acting))(state)


@eqx.filter_jit
def polish(kinetics: AbstractKinetics, acting: Perturbation, guess: State) -> tuple[State, Scalar, Array]:
    """The fixed point found from a guess, its residual, and whether it is certified."""
    found = steady_state(kinetics, acting, guess, max_steps=_MOST_STEPS)
    return found.state, found.residual, found.outcome == Outcome.DONE


@eqx.filter_jit
def polish_lanes(
    kinetics: AbstractKinetics, acting: Perturbation, guesses: Float[Array, "lane species"]
) -> tuple[Float[Array, "lane species"], Float[Array, " lane"], Bool[Array, " lane"], Float[Array, "lane row column"]]:
    """`polish` of many guesses, each under its own perturbation (a leading lane axis), with the Jacobians there."""

    def one(acting: Perturbation, guess: State) -> tuple[State, Scalar, Array, Array]:
        found = steady_state(kinetics, acting, guess, max_steps=_FEW_STEPS)
        return found.state, found.residual, found.outcome == Outcome.DONE, jacobian_at(kinetics, acting, found.state)

    return jax.vmap(one)(acting, guesses)


class FixedPoints:
    """Distinct fixed points found so far, each with its certificate.

    **Arguments:** `reference`: (species,), whose conserved totals all points have (default: the model's default state).
    """

    def __init__(
        self,
        kinetics: AbstractKinetics,
        acting: Perturbation,
        tolerance: float,
        reference: np.ndarray | None = None,
    ) -> None:
        self.kinetics, self.acting, self.tolerance = kinetics, acting, tolerance
        self.material, self.floor = np.asarray(kinetics.material()), floors(kinetics)
        self.system = system_of(kinetics, acting, reference)
        self.base, self.basis = np.asarray(self.system.base), np.asarray(self.system.basis)
        self.free = ~np.asarray(acting.hold[0] > 0)
        self.conserves = self.basis.shape[1] < self.free.sum()
        self.states: list[np.ndarray] = []
        self.residuals: list[float] = []
        self.eigenvalues: list[np.ndarray] = []
        self.stability: list[str] = []
        self.index: list[int] = []

    def nearest(self, state: np.ndarray) -> int | None:
        """The stable point that a state has reached to the square root of the tolerance, if there is one."""
        for number, kind in enumerate(self.stability):
            if kind == "stable" and self._gap(state, self.states[number]) < np.sqrt(self.tolerance):
                return number
        return None

    def polish(self, guess: np.ndarray) -> int | None:
        """The fixed point found from a guess, added when it is new; `None` when there is none with a certificate."""
        found, residual, certified = polish(self.kinetics, self.acting, jnp.asarray(self.on_totals(guess)))
        if not certified:
            return None
        state = np.asarray(found)
        for number, known in enumerate(self.states):
            if self._gap(state, known) < self.tolerance:
                return number
        jacobian = np.asarray(jacobian_at(self.kinetics, self.acting, found))[np.ix_(self.free, self.free)]
        if not np.isfinite(jacobian).all():
            return None
        if self.conserves:
            jacobian = self.basis[self.free].T @ jacobian @ self.basis[self.free]
        values, kind, index = spectrum(jacobian)
        self.states.append(state)
        self.residuals.append(float(residual))
        self.eigenvalues.append(values)
        self.stability.append(kind)
        self.index.append(index)
        return len(self.states) - 1

    def on_totals(self, state: np.ndarray) -> np.ndarray:
        """A state, or states, with the part that no reaction changes replaced by that of the reference."""
        return self.base + (state @ self.basis) @ self.basis.T if self.conserves else state

    def slowest_rate(self) -> float:
        """The slowest relaxation at any stable point, per time unit; infinite where none is known."""
        leading = [-v.real.max() for v, kind in zip(self.eigenvalues, self.stability, strict=True) if kind == "stable"]
        return float(min(leading, default=np.inf))

    def far(self, state: np.ndarray, number: int) -> float:
        """Distance in coordinates from a state to a point."""
        a, b = (
            coordinates(jnp.asarray(x), self.floor, jnp.asarray(self.material)) for x in (state, self.states[number])
        )
        return float(distance(a, b))

    def _gap(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(gap(a, b, self.material))


def gap(a: np.ndarray, b: np.ndarray, material: np.ndarray) -> np.ndarray:
    """Largest relative difference of states, (..., species) to (...); rare species are measured against a thousandth
    of the largest."""
    size = np.maximum(np.abs(a), np.abs(b))
    largest = np.max(np.where(material, size, 0.0), axis=-1, keepdims=True)
    return np.asarray(np.max(np.abs(a - b) / (size + np.where(material, 1e-3 * largest + 1e-300, 1.0)), axis=-1))


def spectrum(jacobian: np.ndarray) -> tuple[np.ndarray, str, int]:
    """Eigenvalues, largest real part first, the kind of point that they make, and its Morse index."""
    values = np.linalg.eigvals(jacobian).astype(complex)
    values = values[np.argsort(-values.real, kind="stable")]
    return values, *classify(values, float(np.linalg.norm(jacobian, 2)) if jacobian.size else 0.0)


def classify(values: np.ndarray, norm: float) -> tuple[str, int]:
    """Kind and Morse index from eigenvalues; real parts within rounding of the matrix count as zero."""
    zero = _ZERO * norm
    index = int((values.real > zero).sum())
    if index:
        return ("unstable" if index == len(values) else "saddle"), index
    return ("marginal" if (np.abs(values.real) <= zero).any() else "stable"), 0
