"""The one solving function: one cell, one perturbation, one method; everything else maps over it.

A perturbation's starts and stops cut the span into segments; each is solved on its own, so no step straddles a switch, and a held species is set at the start of its segment.
The number of segments depends on the number of phases only, so that times, doses and kinds of perturbations can be swept in one compiled program.
"""

from typing import NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State, Times, Trajectory
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome


class Solution(NamedTuple):
    """States at the asked times, (time, species), the outcome code, and the last time reached. States of a failed solve are not masked here."""

    states: Trajectory
    outcome: Int[Array, ""]
    reached: Scalar


def solve(
    kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, method: ODE, start: Scalar | None = None
) -> Solution:
    """Solves `dx/dt = f(t, x, perturbation)` from `state` at `start` (default `times[0]`) and reports it at `times`.

    **Arguments:** `times`: (time,), increasing; `state`: (species,); `method`: `ODE(...)`. Pure: use it under `jit`, `vmap` and `grad`.
    """
    kinetics = resolve(kinetics)
    # A time axis in the state's precision: a float32 session must not be promoted by a float64 default.
    times = times.astype(state.dtype)
    first = times[0] if start is None else jnp.asarray(start, state.dtype)
    last = times[-1]
    cuts = jnp.clip(perturbation.switch_times().astype(state.dtype), first, last)
    edges = jnp.concatenate([first[None], cuts, last[None]])

    def segment(carry: tuple[State, Array], ends: tuple[Scalar, Scalar]) -> tuple[tuple[State, Array], tuple[Trajectory, Array, Scalar]]:
        state, failed = carry
        left, right = ends
        local = perturbation.during(left, right)
        edits = local.at(left)
        state = jnp.where(edits.hold & (right > left), edits.level, state)
        inside = jnp.clip(times, left, right)
        solution = dfx.diffeqsolve(
            dfx.ODETerm(kinetics.vector_field),
            method.solver,
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
        ok = solution.result == dfx.RESULTS.successful
        end = jnp.where(right > left, final[0], state)
        bad = ~ok | ~jnp.all(jnp.isfinite(end))
        # The last saved time that is still finite tells how far a failed solve came.
        finite = jnp.all(jnp.isfinite(saved), axis=-1)
        reached = jnp.where(bad, jnp.max(jnp.where(finite, inside, left)), right)
        return (end, failed | bad), (saved, ok, reached)

    (_, failed), (saved, ok, reached) = jax.lax.scan(segment, (state, jnp.zeros((), bool)), (edges[:-1], edges[1:]))
    # Each asked time is reported by the first segment that reaches it, so that a value at a switch is the one before it.
    owner = jnp.clip(jnp.searchsorted(edges[1:], times), 0, len(cuts))
    states = saved[owner, jnp.arange(times.shape[0])]
    outcome = jnp.where(failed, jnp.where(jnp.all(ok), Outcome.NOT_FINITE, Outcome.MAX_STEPS), Outcome.DONE)
    unfinished = jnp.where(ok, jnp.inf, reached)
    return Solution(states, outcome, jnp.where(failed, jnp.minimum(jnp.min(unfinished), last), last))
