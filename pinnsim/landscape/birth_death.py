"""Molecule numbers of one species, exactly: the stationary law and mean first passages of a birth-death chain.

Where every reaction changes the number n by one, with total rates b(n) up and d(n) down,

    p(n) / p(n - 1) = b(n - 1) / d(n)
    T(n -> n + 1) = 1 / (b(n) p(n)) sum_(k <= n) p(k),      T(n -> n - 1) = 1 / (d(n) p(n)) sum_(k >= n) p(k)

in closed form, summed as logarithms, so that no barrier overflows. Rates are those of the exact simulation: `Omega v`
with combinatorial counts.

Source: N. G. van Kampen, Stochastic Processes in Physics and Chemistry (2007), sections VI.3 and XII.2.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.reactions import ReactionSystem
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.potential import Potential, from_probability
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class BirthDeath:
    """A chain on n = 0 ... most.

    **Arguments:** `births`, `deaths`: (number,), rates b(n) and d(n) per time; `log_p`: (number,), ln of the stationary
    law.
    """

    __repr__ = brief

    births: np.ndarray
    deaths: np.ndarray
    log_p: np.ndarray
    time_unit: str

    @property
    def p(self) -> np.ndarray:
        """The stationary law, (number,)."""
        return np.exp(self.log_p)

    def moments(self) -> tuple[float, float]:
        """Mean and variance."""
        n = np.arange(len(self.log_p))
        mean = float((self.p * n).sum())
        return mean, float((self.p * (n - mean) ** 2).sum())

    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers at which the law has a maximum, and a minimum between them."""
        rise = np.diff(self.log_p) > 0
        turns = np.flatnonzero(rise[1:] != rise[:-1]) + 1
        peaks = [n for n in turns if rise[n - 1]] + ([0] if not rise[0] else [])
        return np.array(sorted(peaks)), np.array([n for n in turns if not rise[n - 1]], dtype=int)

    def exit_time(self, start: int, target: int) -> float:
        """Mean time from one number to another, in the model's time unit."""
        most = len(self.log_p) - 1
        if not (0 <= start <= most and 0 <= target <= most):
            raise PinnsimError.of("E_BOUNDS", f"Numbers {start} and {target} must lie in 0 ... {most}.")
        if start <= target:
            below = np.logaddexp.accumulate(self.log_p)
            steps = below - self.log_p - np.log(self.births)
            return float(np.exp(steps[start:target]).sum())
        above = np.logaddexp.accumulate(self.log_p[::-1])[::-1]
        with np.errstate(divide="ignore"):
            steps = above - self.log_p - np.log(self.deaths)
        return float(np.exp(steps[target + 1 : start + 1]).sum())

    def committor(self, a: int, b: int) -> np.ndarray:
        """Probability of reaching b before a from every number between them, (|b - a| + 1,), a first."""
        low, high = min(a, b), max(a, b)
        # The scale function's steps: 1 / (b(n) p(n)).
        steps = np.exp(
            -(self.log_p + np.log(self.births))[low:high] + (self.log_p + np.log(self.births))[low:high].min()
        )
        q = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
        return q if b > a else (1.0 - q)[::-1]

    def potential(self) -> Potential:
        """`-ln p(n)`."""
        return from_probability(self.p, "molecules", f"exact law of 0 to {len(self.log_p) - 1} molecules")


def birth_death_law(
    model: CellModel | AbstractKinetics,
    most: int,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    size: float | int = 1.0,
) -> BirthDeath:
    """The exact law of a reaction system of one species.

    **Arguments:** `most`: largest number kept (where the law is negligible); `size`: Omega, molecules per abundance
    unit.

    **Raises** `E_USAGE` for models of more species, with reactions that change the number by other than one, or without
    births at some number below `most`.
    """
    system = system_of(model, treatment)
    kinetics = system.kinetics
    moves = kinetics.stoichiometry()
    with Problems() as problems:
        if moves.shape[0] != 1 or not isinstance(kinetics, ReactionSystem):
            problems.add("E_USAGE", f"The exact law needs reactions of one species; this model has {moves.shape[0]}.")
        elif not np.isin(moves, (-1, 0, 1)).all():
            problems.add("E_USAGE", "The exact law needs reactions that change the number by one; use SSA.")
        if most < 2 or not (np.isfinite(size) and size > 0):
            problems.add("E_USAGE", f"Argument `most` must be 2 or more and `size` > 0, but are {most} and {size}.")
    numbers = jnp.arange(most + 1, dtype=float)
    rates = np.asarray(_rates(system, numbers, jnp.asarray(1.0 / size, dtype=float))) * size
    drive = float(system.acting.drive[0]) * size
    births = rates[:, moves[0] > 0].sum(axis=1) + drive
    deaths = rates[:, moves[0] < 0].sum(axis=1)
    if (births[:-1] <= 0).any() or (deaths[1:] <= 0).any():
        raise PinnsimError.of(
            "E_USAGE", "Some number below `most` has no births or no deaths: the chain falls apart there."
        )
    log = np.concatenate([[0.0], np.cumsum(np.log(births[:-1]) - np.log(deaths[1:]))])
    log = log - np.logaddexp.reduce(log)
    return BirthDeath(births, deaths, log, kinetics.time_unit)


@eqx.filter_jit
def _rates(system: System, numbers: Float[Array, " number"], grain: Scalar) -> Float[Array, "number reaction"]:
    kinetics = system.kinetics

    def one(n: Scalar) -> Array:
        return kinetics.molecular((n * grain)[None], system.acting, grain)  # type: ignore[attr-defined]

    return jax.vmap(one)(numbers)
