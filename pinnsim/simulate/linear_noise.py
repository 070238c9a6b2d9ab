"""The linear noise approximation: mean and covariance of many cells, without sampling any.

In a system of size Omega (molecules per abundance unit) amounts fluctuate around the rate equations' course by
1 / sqrt(Omega), and to this order their distribution is normal with

    dx/dt = S v(x) + drive,
    dSigma/dt = J Sigma + Sigma J' + (S diag(v) S' + diag(drive)) / Omega,       J = d(dx/dt) / dx,

in abundance units. It is exact for the two first moments where all rates are linear in the amounts; elsewhere its
error falls as 1 / Omega, and it knows nothing of transitions between attractors. Every reaction is a source of noise,
and so is added production (`drive`, one more reaction per species). A held species has no variance from the moment it
is held. Hidden activities are deterministic: they have no noise of their own and transmit none.

What is solved is mean and `Omega Sigma`, which is of the size of the mean for every Omega, as one system of rate
equations: switches, holds and doses are those of `solve`.

Source: N. G. van Kampen, Stochastic Processes in Physics and Chemistry (2007), chapter X; J. Elf and M. Ehrenberg,
Genome Res. 13:2475 (2003), equations 4-8.
"""

import abc
import dataclasses
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Acting, Constant, Edits, Perturbation
from pinnsim.shapes import Rates, Scalar, State, Times, Trajectory
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.sampler import setting
from pinnsim.simulate.solve import solve
from pinnsim.simulate.stationary import Covariance, Fluctuation, local_noise, stationary_covariance
from pinnsim.table import Table


def _numbers(values: ArrayLike) -> Array:
    return jnp.asarray(values, dtype=float)


class AbstractCovariance(eqx.Module):
    """How cells differ at the start."""

    @abc.abstractmethod
    def at(self, kinetics: AbstractKinetics, state: State, perturbation: Perturbation, size: Scalar) -> Fluctuation:
        """The covariance of cells whose mean is `state`."""


class ZeroCovariance(AbstractCovariance):
    """All cells start in the same state, as sampled cells do."""

    def at(self, kinetics: AbstractKinetics, state: State, perturbation: Perturbation, size: Scalar) -> Fluctuation:
        return Fluctuation(jnp.zeros((state.size, state.size), state.dtype), jnp.asarray(Outcome.DONE.value, dtype=int))


class GivenCovariance(AbstractCovariance):
    """A known covariance, (species, species), in abundance units squared."""

    covariance: Covariance = eqx.field(converter=_numbers)

    def at(self, kinetics: AbstractKinetics, state: State, perturbation: Perturbation, size: Scalar) -> Fluctuation:
        finite = jnp.all(jnp.isfinite(self.covariance))
        outcome = jnp.where(finite, Outcome.DONE.value, Outcome.NOT_FINITE.value).astype(int)
        return Fluctuation(self.covariance.astype(state.dtype), outcome)


class StationaryCovariance(AbstractCovariance):
    """Cells at rest for long, under what acts since ever; the starting state must be a stable steady state."""

    def at(self, kinetics: AbstractKinetics, state: State, perturbation: Perturbation, size: Scalar) -> Fluctuation:
        return stationary_covariance(kinetics, state, perturbation, size)


class LinearNoise(eqx.Module):
    """Mean and covariance by the linear noise approximation.

    **Arguments:** `size`: Omega, molecules per abundance unit; `begin`: how cells differ at the start (default: not at
    all); `rtol`, `atol`, `solver`, `max_steps`, `adjoint`: as of `ODE`, for the mean and Omega times the covariance.

    Good values: trust the result where the smallest mean is above some 10 molecules, or where all rates are linear
    (then it is exact).
    """

    size: Scalar
    begin: AbstractCovariance
    ode: ODE

    def __init__(
        self,
        size: ArrayLike,
        rtol: ArrayLike = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        begin: AbstractCovariance | None = None,
        solver: dfx.AbstractSolver | None = None,
        max_steps: int = 4096,
        adjoint: dfx.AbstractAdjoint | None = None,
    ):
        self.size = setting("size", size)
        self.begin = ZeroCovariance() if begin is None else begin
        self.ode = ODE(rtol, atol, solver, max_steps, adjoint)


class NoiseSolution(NamedTuple):
    """Mean, (time, species), and covariance, (time, species, species), at the asked times, in abundance units; the
    outcome code, and the last time reached. What a failed solve left is not masked here."""

    mean: Trajectory
    covariance: Float[Array, "time species species"]
    outcome: Int[Array, ""]
    reached: Scalar


def linear_noise(
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    method: LinearNoise,
    start: Scalar | None = None,
) -> NoiseSolution:
    """Mean and covariance of one kind of cell, from `state` at `start` (default `times[0]`).

    **Arguments:** as of `solve`. Pure: use it under `jit`, `vmap` and `grad`.

    **Returns** a `NoiseSolution`; its outcome is that of the starting covariance where that failed.
    """
    kinetics = resolve(kinetics)
    size = method.size.astype(state.dtype)
    begin = method.begin.at(kinetics, state, perturbation, size)
    usable = begin.outcome == Outcome.DONE
    # A lane that cannot start keeps the solver short, and the gradients of others clean.
    scaled = size * jnp.where(usable, begin.covariance, 0.0)
    wider = MeanAndCovariance(kinetics)
    found = solve(wider, times, widened(perturbation, state.size), wider.packed(state, scaled), method.ode, start)
    mean, covariance = wider.unpacked(found.states)
    outcome = jnp.where(usable, found.outcome, begin.outcome)
    first = (times[0] if start is None else start).astype(found.reached.dtype)
    return NoiseSolution(mean, covariance / size, outcome, jnp.where(usable, found.reached, first))


class MeanAndCovariance(AbstractKinetics):
    """Rate equations of the mean and of Omega times the covariance: its state is that of `kinetics`, then the upper
    triangle, row by row; its names are those of `kinetics`. Perturbations must be `widened`."""

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    kinetics: AbstractKinetics

    def __init__(self, kinetics: AbstractKinetics):
        self.table, self.time_unit, self.kinetics = kinetics.table, kinetics.time_unit, kinetics

    def packed(self, mean: State, covariance: Covariance) -> Float[Array, " entry"]:
        """One state of both."""
        return jnp.concatenate([mean, covariance[np.triu_indices(mean.size)]])

    def unpacked(self, state: Float[Array, "*batch entry"]) -> tuple[Array, Array]:
        """Mean, (..., species), and covariance, (..., species, species)."""
        count = self._count
        upper = np.zeros((count, count), dtype=int)
        upper[np.triu_indices(count)] = np.arange(count * (count + 1) // 2)
        return state[..., :count], state[..., count:][..., upper + np.triu(upper, 1).T]

    @property
    def _count(self) -> int:
        return len(self.table.species)

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return self.kinetics.propensities(time, state[: self._count], self._own(perturbation.at(time)))

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        mean, covariance = self.unpacked(state)
        here = local_noise(self.kinetics, time, mean, self._own(edits))
        flow = here.jacobian @ covariance
        change = self.packed(here.force, flow + flow.T + here.noise)
        return jnp.where(edits.hold, 0.0, change)

    def _own(self, edits: Edits) -> Constant:
        names = ("activity", "drive", "hold", "level")
        return Constant(dataclasses.replace(edits, **{name: getattr(edits, name)[: self._count] for name in names}))

    def stoichiometry(self) -> np.ndarray:
        own = self.kinetics.stoichiometry()
        pairs = self._count * (self._count + 1) // 2
        return np.concatenate([own, np.zeros((pairs, own.shape[1]), dtype=own.dtype)])

    def material(self) -> Bool[Array, " species"]:
        pairs = self._count * (self._count + 1) // 2
        return jnp.concatenate([self.kinetics.material(), jnp.zeros(pairs, bool)])

    def default_state(self) -> State:
        mean = self.kinetics.default_state()
        return self.packed(mean, jnp.zeros((mean.size, mean.size), mean.dtype))


def widened(perturbation: Perturbation, species: int) -> Perturbation:
    """The perturbation for `MeanAndCovariance`: where a species is held, so are its variance and covariances, at 0."""
    rows, columns = np.triu_indices(species)
    blank = jnp.zeros((perturbation.phases, len(rows)), perturbation.drive.dtype)
    held = jnp.maximum(perturbation.hold[:, rows], perturbation.hold[:, columns])
    more = {"activity": jnp.ones_like(blank), "drive": blank, "hold": held, "level": blank}
    wide = {name: jnp.concatenate([getattr(perturbation, name), added], axis=1) for name, added in more.items()}
    return dataclasses.replace(perturbation, **wide)
