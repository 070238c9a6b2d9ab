"""Fluctuations around a stable steady state: how large they are, how they go together, and how long they last.

In the linear noise approximation (`pinnsim.simulate.linear_noise`) the covariance settles to the solution of

    J Sigma + Sigma J' + (S diag(v) S' + diag(drive)) / Omega = 0,

and what is left of a fluctuation after a time tau is `exp(J tau)` of it.

Source: N. G. van Kampen, Stochastic Processes in Physics and Chemistry (2007), chapter X; the space in which J is
regular is that of `pinnsim.simulate.totals`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate.lyapunov import lyapunov
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.totals import reachable, with_jacobian

Covariance = Float[Array, "species species"]


class Fluctuation(NamedTuple):
    """A covariance, (species, species), in abundance units squared, and the outcome code; NaN where not `DONE`."""

    covariance: Covariance
    outcome: Int[Array, ""]

    def raise_failure(self) -> "Fluctuation":
        """Raises `E_SOLVER` where there is no covariance; returns itself otherwise."""
        ended = Outcome(int(self.outcome))
        if ended != Outcome.DONE:
            raise PinnsimError.of(
                "E_SOLVER",
                f"There is no stationary covariance: {ended.sentence}; give a state from steady_state(...) that is "
                "stable.",
            )
        return self


class LocalNoise(NamedTuple):
    """A model around one state: `force`, dx/dt; its `jacobian` and the `noise` matrix `S diag(v) S' + diag(drive)`
    among what fluctuates, zero elsewhere; `fluctuates`, (species,)."""

    force: State
    jacobian: Covariance
    noise: Covariance
    fluctuates: Bool[Array, " species"]


def local_noise(kinetics: AbstractKinetics, time: Scalar, state: State, acting: Constant) -> LocalNoise:
    edits = acting.edits
    force, jacobian = with_jacobian(lambda x: kinetics.vector_field(time, x, acting), state)
    ruled = isinstance(kinetics, RuleSystem)
    fluctuates = (jnp.ones(state.size, bool) if ruled else kinetics.material()) & ~edits.hold
    among = fluctuates[:, None] & fluctuates[None, :]
    changes = jnp.asarray(kinetics.stoichiometry(), state.dtype)
    rates = kinetics.propensities(time, jnp.where(edits.hold, edits.level, state), acting)
    if ruled:
        # A rate below 0 is no propensity, and has no noise that could be told.
        rates = jnp.where(rates >= 0, rates, jnp.nan)
    noise = (changes * rates[None, :]) @ changes.T + jnp.diag(edits.drive)
    return LocalNoise(force, jnp.where(among, jacobian, 0.0), jnp.where(among, noise, 0.0), fluctuates)


def _at_rest(kinetics: AbstractKinetics, state: State, perturbation: Perturbation, time: Scalar | float) -> tuple:
    """What acts at `time` for ever, on a clock that is past every absorption, as `steady_state` has it."""
    at = jnp.asarray(time, state.dtype)
    clock = jnp.where(jnp.isfinite(at), at, jnp.where(at > 0, 1e9, 0.0))
    return clock, Constant(perturbation.acting(at).at(clock))


def stationary_covariance(
    kinetics: AbstractKinetics,
    state: State,
    perturbation: Perturbation,
    size: ArrayLike,
    time: Scalar | float = -jnp.inf,
) -> Fluctuation:
    """The covariance that fluctuations around a stable steady state settle to, `J Sigma + Sigma J' + B / Omega = 0`.

    Conserved totals do not fluctuate: the equation is solved in the space that the running reactions span, so that
    Sigma has no component along a total (all cells have the same).

    **Arguments:** `state`: (species,), a steady state under the phases that are on at `time` (default: those that act
    since ever), as `steady_state` gives it; `size`: Omega.

    **Returns** a `Fluctuation`, NaN with outcome `NOT_SETTLED` where the state is not at rest and `NOT_STABLE` where
    fluctuations grow or wander off.
    """
    kinetics = resolve(kinetics)
    clock, acting = _at_rest(kinetics, state, perturbation, time)
    force, whole = with_jacobian(lambda x: kinetics.vector_field(clock, x, acting), state)
    terms = jnp.abs(whole) @ (1.0 + jnp.abs(state))
    moving = jnp.where(force == 0, 0.0, jnp.abs(force) / terms)
    resting = jnp.all(moving <= jnp.sqrt(jnp.finfo(state.dtype).eps))
    here = local_noise(kinetics, clock, jnp.where(jnp.isfinite(state), state, 0.0), acting)
    kept = reachable(kinetics, clock, state, acting, here.fluctuates)
    # What no reaction changes has no dynamics of its own: any decay keeps the equation regular, and its share is 0.
    pace = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(here.jacobian), axis=1)))
    still = jnp.where(pace > 0, pace, 1.0) * (jnp.eye(state.size, dtype=state.dtype) - kept)
    solution, stable = lyapunov(here.jacobian @ kept - still, here.noise)
    outcome = jnp.where(stable, Outcome.DONE.value, Outcome.NOT_STABLE.value)
    outcome = jnp.where(resting, outcome, Outcome.NOT_SETTLED.value)
    outcome = jnp.where(jnp.all(jnp.isfinite(force)), outcome, Outcome.NOT_FINITE.value).astype(int)
    covariance = solution / jnp.asarray(size, state.dtype)
    return Fluctuation(jnp.where(outcome == Outcome.DONE, covariance, jnp.nan), outcome)


def lagged_covariance(
    kinetics: AbstractKinetics,
    state: State,
    perturbation: Perturbation,
    covariance: Covariance,
    lags: Times,
    time: Scalar | float = -jnp.inf,
) -> Float[Array, "time species species"]:
    """Covariances over time at a stationary state, `C(tau)_ij = <dx_i(t + tau) dx_j(t)> = (exp(J tau) Sigma)_ij`.

    **Arguments:** `state`, `covariance`: of `steady_state` and `stationary_covariance`; `lags`: (time,), tau, of either
    sign: `C(-tau) = C(tau)'`.

    **Returns** (lag, species, species), in abundance units squared; `correlation_of(covariance, lagged)` scales it.
    """
    kinetics = resolve(kinetics)
    clock, acting = _at_rest(kinetics, state, perturbation, time)
    jacobian = local_noise(kinetics, clock, state, acting).jacobian

    def one(lag: Scalar) -> Covariance:
        # Stiff systems need many squarings.
        later = jax.scipy.linalg.expm(jnp.abs(lag) * jacobian, max_squarings=64) @ covariance
        return jnp.where(lag < 0, later.T, later)

    return jax.vmap(one)(lags.astype(state.dtype))


def correlation_of(
    covariance: Float[Array, "*batch species species"], lagged: Float[Array, "*more species species"] | None = None
) -> Float[Array, "..."]:
    """`lagged` (default: the covariance itself) over the standard deviations of both species: correlations in [-1, 1],
    NaN where a species does not fluctuate."""
    deviation = jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))
    scale = deviation[..., :, None] * deviation[..., None, :]
    scale = jnp.broadcast_to(scale, covariance.shape if lagged is None else lagged.shape)
    return jnp.where(scale > 0, (covariance if lagged is None else lagged) / jnp.where(scale > 0, scale, 1.0), jnp.nan)
