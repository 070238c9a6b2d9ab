"""The one solving function: one cell, one perturbation, one method; everything else maps over it.

A perturbation's starts and stops cut the span into segments; each is solved on its own, so no step straddles a
switch, and a held species is set at the start of its segment. The number of segments depends on the number of phases
only, so that times, doses and kinds of perturbations can be swept in one compiled program.
"""

from typing import NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State, Times, Trajectory
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.switches import refuse_events

_Carry = tuple[State, Int[Array, ""], Scalar]  # state, outcome so far, last time solved


class Solution(NamedTuple):
    """States at the asked times, (time, species), the outcome code, and the last time reached. States of a failed
    solve are not masked here."""

    states: Trajectory
    outcome: Int[Array, ""]
    reached: Scalar


def solve(
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    method: ODE,
    start: Scalar | None = None,
) -> Solution:
    """Solves `dx/dt = f(t, x, perturbation)` from `state` at `start` (default `times[0]`) and reports it at `times`.

    **Arguments:** `times`: (time,), increasing; `state`: (species,); `method`: `ODE(...)`. Pure: use it under `jit`,
    `vmap` and `grad`.
    """
    kinetics = resolve(kinetics)
    refuse_events(kinetics, "this solver")
    # A time axis in the state's precision: a float32 session must not be promoted by a float64 default.
    times = times.astype(state.dtype)
    first = times[0] if start is None else jnp.asarray(start, state.dtype)
    edges = segments(perturbation, first, times[-1])

    def segment(carry: _Carry, ends: tuple[Scalar, Scalar]) -> tuple[_Carry, Trajectory]:
        state, outcome, reached = carry
        left, right = ends
        local = perturbation.during(left, right)
        # Inside the segment, because a dose that is still being absorbed does not hold yet at its very start.
        edits = local.at(0.5 * (left + right))
        state = jnp.where(edits.hold & (right > left), edits.level, state)
        # What failed, or cannot start, is not solved further: an adaptive solver would grind through all its steps, and
        # numbers out of range would poison the gradients of other lanes.
        able = jnp.all(jnp.isfinite(kinetics.vector_field(left, state, local)))
        going = (outcome == Outcome.DONE) & able
        outcome = jnp.where((outcome == Outcome.DONE) & ~able, Outcome.NOT_FINITE, outcome)
        state = jnp.where(able, state, jnp.nan_to_num(state, posinf=0.0, neginf=0.0))
        right = jnp.where(going, right, left)
        inside = jnp.clip(times, left, right)
        solution = dfx.diffeqsolve(
            # diffrax's type for a time is wider than ours.
            dfx.ODETerm(kinetics.vector_field),  # type: ignore[arg-type]
            dfx.Tsit5() if method.solver is None else method.solver,
            left,
            right,
            dt0=None,
            y0=state,
            args=local,
            saveat=dfx.SaveAt(subs=[dfx.SubSaveAt(ts=inside), dfx.SubSaveAt(t1=True)]),
            stepsize_controller=dfx.PIDController(rtol=method.rtol, atol=method.atol),
            adjoint=method.adjoint,
            max_steps=method.max_steps,
            throw=False,
        )
        saved, final = solution.ys
        complete = solution.result == dfx.RESULTS.successful
        finite = jnp.all(jnp.isfinite(final[0]))
        here = jnp.where(complete, jnp.where(finite, Outcome.DONE, Outcome.NOT_FINITE), Outcome.MAX_STEPS)
        # The last saved time that is still finite tells how far a failed solve came.
        good = jnp.all(jnp.isfinite(saved), axis=-1)
        last_good = jnp.where(complete & finite, right, jnp.max(jnp.where(good, inside, left)))
        state = jnp.where(finite & (right > left), final[0], state)
        return (state, jnp.where(going, here, outcome), jnp.where(going, last_good, reached)), saved

    begin = (state, jnp.asarray(Outcome.DONE.value, dtype=int), first)
    (_, outcome, reached), saved = jax.lax.scan(segment, begin, (edges[:-1], edges[1:]))
    # Each asked time is reported by the first segment that reaches it: a value at a switch is the one before it.
    owner = jnp.clip(jnp.searchsorted(edges[1:], times), 0, len(edges) - 2)
    return Solution(saved[owner, jnp.arange(times.shape[0])], outcome, reached)


def segments(perturbation: Perturbation, first: Scalar, last: Scalar) -> Float[Array, " edge"]:
    """Ends of the stretches between switches, `2 * phase + 2` of them; stretches outside the span have no length."""
    cuts = jnp.clip(perturbation.switch_times().astype(first.dtype), first, last)
    return jnp.concatenate([first[None], cuts, last[None]])
