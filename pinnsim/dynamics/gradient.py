"""Gradient dynamics with a flux: a learned landscape as a cell, tilted by signals.

    f(x, s) = -(D + Q) grad V + div Q,      V(x, s) = U(x) - s' A' x - s' h(x),      (div Q)_i = sum_j dQ_ij / dx_j

U is confined (`dynamics.energies`), A and the bounded h are what signals s do, Q is antisymmetric: with noise
`dX = f dt + sqrt(2 D) dW`, D constant, the stationary law is exp(-V) whatever Q is, and the current is
`J = div(Q exp(-V))`, which has no divergence. So V is the landscape (in units of the noise: what costs 1 is e times
rarer) and Q the flux that no landscape shows; without Q there is detailed balance.

The field may stand alone, or be added to a kinetic model's own vector field. What it adds to an abundance that is
nearly gone is cut where it would take away, so that abundances stay >= 0. Cells may divide or die at a learned rate
g(x): populations are then weighted by `exp(int g dt)` along each cell's way (Feynman and Kac).

Sources: P. Ao, J. Phys. A 37:L25 (2004), and H. Qian, J. Math. Phys. 54:053302 (2013), for the decomposition; J. Shi
et al., J. Chem. Phys. 157:044101 (2022); M. Saez et al., Cell Systems 13:12 (2022), for linear tilts.
"""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.energies import Box, Boxed
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.parameter import Parameter, frozen, is_parameter, positive, resolve
from pinnsim.perturbation import Acting
from pinnsim.shapes import Numbers, PerInput, Rates, Scalar, State
from pinnsim.table import Table

_NEARLY_GONE = 1e-2  # of the default abundance: half of what the learned part would take is cut there
Square = Float[Array, "species species"]


class Tilt(eqx.Module):
    """`s' A' y + s' h(x)`, what signals take off the energy; build it with `tilt`.

    y is x within the box and stays at its rim beyond, so no signal, however strong, pulls cells out of the box: what it
    does there was never seen.

    **Arguments:** `strength`: A, (species, input), energy per signal and coordinate; `box`; `shape`: h, of one output
    per input, or `None` for a linear tilt.
    """

    strength: Parameter
    box: Box
    shape: Boxed | None

    def __call__(self, state: State, signal: PerInput) -> Scalar:
        place = self.box.centre + self.box.half * self.box.squashed(state)
        linear = jnp.sum(self.strength * place[:, None] * signal[None, :])
        return linear if self.shape is None else linear + jnp.sum(self.shape(state) * signal)


class AbstractSwirl(eqx.Module):
    """The antisymmetric part."""

    @abc.abstractmethod
    def __call__(self, state: State) -> Square:
        """Q, (species, species), with Q' = -Q."""


class ConstantSwirl(AbstractSwirl):
    """The same Q everywhere. **Arguments:** `upper`: (pair,), Q_ij of i < j, row by row, coordinates^2 per time."""

    upper: Parameter

    def __call__(self, state: State) -> Square:
        return _antisymmetric(self.upper, state.shape[0])


class LearnedSwirl(AbstractSwirl):
    """A Q that changes from place to place. **Arguments:** `upper`: a bounded field of one output per pair."""

    upper: Boxed

    def __call__(self, state: State) -> Square:
        return _antisymmetric(self.upper(state), state.shape[0])


class GradientField(AbstractKinetics):
    """`x' = f(x, signal) + drive` (+ a kinetic model's vector field); build it with `gradient_field`.

    **Arguments:** `energy`: U, a callable module, (species,) to a number; `tilt`; `swirl`: Q, or `None` for detailed
    balance; `diffusion`: D, () or (species,), coordinates^2 per time; `growth`: g, of one output, per time, or `None`;
    `drift`: the kinetic model this is added to, or `None`; `start`: (species,), default state.
    """

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    energy: Callable[[State], Scalar]
    tilt: Tilt | None
    swirl: AbstractSwirl | None
    diffusion: Parameter
    growth: Boxed | None
    drift: AbstractKinetics | None
    start: Parameter

    def height(self, state: State, signal: PerInput) -> Scalar:
        """V(x, s), (): `-ln p` of the stationary law up to a constant, where there is no kinetic drift."""
        return self.energy(state) if self.tilt is None else self.energy(state) - self.tilt(state, signal)

    def learned(self, state: State, signal: PerInput) -> State:
        """f(x, s) of the learned part alone, (species,), coordinates per time."""
        slope = jax.grad(self.height)(state, signal)
        flow = -self.diffusion * slope
        if self.swirl is None:
            return flow
        around = jax.jacfwd(self.swirl)(state)
        return flow - self.swirl(state) @ slope + jnp.einsum("ijj->i", around)

    def flux(self, state: State, signal: PerInput) -> State:
        """The part of f that no landscape shows, `-Q grad V + div Q`, (species,): the current per density."""
        return self.learned(state, signal) + self.diffusion * jax.grad(self.height)(state, signal)

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0, state.dtype) if self.drift is None else self.drift.propensities(time, state, perturbation)

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        flow = self.learned(state, edits.signal)
        if self.drift is None:
            flow = flow + edits.drive
        else:
            present = jnp.maximum(state, 0.0)
            half = _NEARLY_GONE * jnp.maximum(jnp.abs(self.start), jnp.finfo(state.dtype).eps)
            left = jnp.where(self.drift.material() & (flow < 0), present / (present + half), 1.0)
            flow = flow * left + self.drift.vector_field(time, state, perturbation)
        return jnp.where(edits.hold, 0.0, flow)

    def stoichiometry(self) -> np.ndarray:
        empty = np.zeros((len(self.table.species), 0), dtype=int)
        return empty if self.drift is None else self.drift.stoichiometry()

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(len(self.table.species), bool) if self.drift is None else self.drift.material()

    def default_state(self) -> State:
        return resolve(self.start)


def tilt(box: Box, inputs: int, shape: Boxed | None = None) -> Tilt:
    """A linear tilt of strength 0 (and, with `shape`, a richer one of as many outputs as inputs)."""
    return Tilt(jnp.zeros((resolve(box).centre.shape[0], inputs)), box, shape)


def constant_swirl(species: int) -> ConstantSwirl:
    """A constant antisymmetric part of strength 0: one number per pair of coordinates."""
    return ConstantSwirl(jnp.zeros(species * (species - 1) // 2))


def gradient_field(
    energy: Callable[[State], Scalar],
    species: Sequence[str] | None = None,
    start: Numbers | None = None,
    *,
    inputs: Sequence[str] = (),
    tilt: Tilt | None = None,
    swirl: AbstractSwirl | None = None,
    diffusion: Numbers | Parameter = 1.0,
    growth: Boxed | None = None,
    drift: AbstractKinetics | None = None,
    time_unit: str = "min",
) -> GradientField:
    """A landscape as a cell.

    **Arguments:** `energy`: for example `confined(chebyshev(2, 4), box(low, high))`; `species`: names of the
    coordinates; `start`: (species,); `inputs`: names of signals, and `tilt`: what they do; `swirl`, `growth`: as of
    `GradientField`; `diffusion`: D > 0, one number or (species,), fitted unless frozen; `drift`: a kinetic model, which
    then gives species, start, inputs and time unit.

    **Raises** `E_INIT` for a start or an energy of another shape, `E_USAGE` for a noise that is not > 0, for parts of
    other shapes and for names given beside a `drift`.
    """
    given = drift is not None and (species is not None or start is not None or bool(inputs))
    if given or (drift is None and (species is None or start is None)):
        raise PinnsimError.of(
            "E_USAGE", "Give either `species` and `start` (and `inputs`) or `drift`, the kinetic model that has them."
        )
    if drift is not None:
        table, begin, unit = drift.table, resolve(drift).default_state(), drift.time_unit
    else:
        table, begin, unit = Table((), (), tuple(inputs), (), tuple(species or ()), ()), jnp.asarray(start), time_unit
    count, signals = len(table.species), len(table.inputs)
    noise = diffusion if is_parameter(diffusion) else np.asarray(diffusion, dtype=float)
    begin = jnp.asarray(begin, dtype=float)
    with Problems() as problems:
        if begin.shape != (count,):
            problems.add("E_INIT", f"Argument `start` {begin.shape} must give each of {count} coordinates.")
        elif jax.eval_shape(resolve(energy), begin).shape != ():
            problems.add("E_INIT", "The energy must give one number per state; take one output.")
        if isinstance(noise, np.ndarray) and not (noise.shape in ((), (count,)) and (noise > 0).all()):
            problems.add("E_USAGE", f"Argument `diffusion` must be > 0, one number or {count}, but is {diffusion}.")
        if (tilt is None) != (signals == 0):
            problems.add("E_USAGE", f"A model of {signals} signals needs a `tilt` that says what they do, or neither.")
        if tilt is not None and resolve(tilt).strength.shape != (count, signals):
            problems.add("E_USAGE", f"The tilt {resolve(tilt).strength.shape} must be ({count}, {signals}).")
        for name, part, wanted in (
            ("growth", growth, (1,)),
            ("tilt's shape", None if tilt is None else tilt.shape, (signals,)),
            ("swirl", swirl, (count, count)),
        ):
            if part is None or begin.shape != (count,):
                continue
            made = jax.eval_shape(resolve(part), begin).shape
            if made != wanted:
                problems.add("E_USAGE", f"The {name} gives {made} where {wanted} is needed.")
    strength = positive(noise) if isinstance(noise, np.ndarray) else noise
    return GradientField(table, unit, energy, tilt, swirl, strength, growth, drift, frozen(begin))


def _antisymmetric(upper: Float[Array, " pair"], count: int) -> Square:
    half = jnp.zeros((count, count), upper.dtype).at[np.triu_indices(count, 1)].set(upper)
    return half - half.T
