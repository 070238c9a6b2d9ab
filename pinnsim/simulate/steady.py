"""Steady states: where a cell rests under a perturbation that never ends.

Pseudo-transient continuation follows the cell's own flow with implicit steps that grow as the residual falls (dx = (I/h - J)^-1 f) and so ends as Newton's method;
it starts like the trajectory and settles in the basin it starts in. The result is certified by its residual, `|f_i| <= tol (rate scale)`, and never silently returned.
Its derivative with respect to parameters is exact (implicit function theorem: one Newton step at the solution, differentiated at constant J).

Source: C. T. Kelley and D. E. Keyes, SIAM J. Numer. Anal. 35:508 (1998).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.simulate.result import Outcome


class SteadyState(NamedTuple):
    """A steady state, its residual max_i |f_i| / (1 + |x_i|) per time unit, and the outcome code (`DONE` or `NOT_SETTLED`)."""

    state: State
    residual: Scalar
    outcome: Int[Array, ""]


def steady_state(
    kinetics: AbstractKinetics, perturbation: Perturbation, guess: State | None = None, time: Scalar | float = -jnp.inf, max_steps: int = 400
) -> SteadyState:
    """The steady state that the cell reaches from `guess` under the phases that are on at `time` (default: those that act since ever).

    **Returns** `SteadyState`; `outcome` is `NOT_SETTLED` (and the state NaN) when no certified steady state was found.
    """
    kinetics = resolve(kinetics)
    guess = kinetics.default_state() if guess is None else guess
    at = jnp.asarray(time, guess.dtype)
    acting = perturbation.acting(at)
    # "For ever" is so far from any dose curve's start that absorption and elimination are over.
    clock = jnp.where(jnp.isfinite(at), at, jnp.where(at > 0, 1e9, 0.0))
    material = kinetics.material()
    tolerance = 1e3 * jnp.finfo(guess.dtype).eps

    def flow(state: State, acting: Perturbation, kinetics: AbstractKinetics) -> State:
        return kinetics.vector_field(clock, state, acting)

    frozen_acting, frozen_kinetics = jax.lax.stop_gradient((acting, kinetics))
    edits = frozen_acting.at(clock)
    begin = jax.lax.stop_gradient(jnp.where(edits.hold, edits.level, guess))

    def size(state: State, force: State) -> Scalar:
        return jnp.max(jnp.abs(force) / (1.0 + jnp.abs(state)))

    def matrix(state: State) -> Array:
        jacobian = jax.jacfwd(flow)(state, frozen_acting, frozen_kinetics)
        # A held species has no equation of its own: unit rows keep the matrix regular.
        return jnp.where(edits.hold[:, None], -jnp.eye(state.size, dtype=state.dtype), jacobian)

    def step(carry: tuple) -> tuple:
        count, state, force, pace, _ = carry
        jacobian = matrix(state)
        change = jnp.linalg.solve(jnp.eye(state.size, dtype=state.dtype) / pace - jacobian, force)
        moved = state + change
        moved = jnp.where(material, jnp.maximum(moved, 0.0), moved)
        new_force = flow(moved, frozen_acting, frozen_kinetics)
        good = jnp.all(jnp.isfinite(new_force))
        before, after = size(state, force), size(moved, new_force)
        # Switched evolution relaxation: the pace grows as the force falls, and shrinks when a step made it worse.
        factor = jnp.clip(before / jnp.maximum(after, 1e-300 if state.dtype == jnp.float64 else 1e-30), 0.3, 3.0)
        state, force = jnp.where(good, moved, state), jnp.where(good, new_force, force)
        pace = jnp.where(good, pace * jnp.maximum(factor, 1.2 * (after <= before)), 0.1 * pace)
        return count + 1, state, force, jnp.clip(pace, 1e-12, 1e12), size(state, force)

    def unfinished(carry: tuple) -> Array:
        count, *_, residual = carry
        return (count < max_steps) & (residual > tolerance * 1e-2)

    force = flow(begin, frozen_acting, frozen_kinetics)
    speed = jnp.max(jnp.abs(force) / (1e-3 + jnp.abs(begin)))
    carry = (0, begin, force, 0.1 / jnp.maximum(speed, 1e-12), size(begin, force))
    _, state, _, _, residual = jax.lax.while_loop(unfinished, step, carry)
    scale = 1.0 + jnp.max(jnp.abs(jnp.diagonal(matrix(state))))
    settled = residual <= tolerance * scale
    newton = jnp.linalg.solve(jax.lax.stop_gradient(matrix(state)), flow(jax.lax.stop_gradient(state), acting, kinetics))
    exact = jnp.where(edits.hold, acting.at(clock).level, jax.lax.stop_gradient(state) - newton)
    exact = jnp.where(material, jnp.maximum(exact, 0.0), exact)
    outcome = jnp.where(settled, Outcome.DONE, Outcome.NOT_SETTLED)
    return SteadyState(jnp.where(settled, exact, jnp.nan), residual, outcome)
