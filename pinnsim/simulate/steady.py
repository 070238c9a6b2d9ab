"""Steady states: where a cell rests under a perturbation that never ends.

Pseudo-transient continuation follows the cell's own flow with implicit steps, `dx = (I/h - J)^-1 f`, that grow as the
residual falls, and so ends as Newton's method; it starts like the trajectory and settles in the basin it starts in.
The result is certified by its relative residual,

    |f_i| / sum_j |J_ij| (1 + |x_j|) <= 1e3 eps        for every species i,

the imbalance of each species over the size of the terms that must cancel in it: the same in every unit of time, and as
strict for slow species as for fast ones. What is not certified is never returned. The derivative with respect to
parameters is exact (implicit function theorem: one Newton step at the solution, differentiated at constant J), and with
a second one the second derivative is, too.

Where reactions conserve totals, J is singular and there is a steady state for every value of the totals; the one
returned has those of the guess. With the projector C onto what no running reaction changes (`pinnsim.simulate.totals`),
`C f = 0` and `C J = 0`, so `J - c C`, c > 0, is regular where J is regular among states of equal totals, and gives the
same steps; each step ends with `x <- x - C (x - guess)`, which undoes rounding.

Source: C. T. Kelley and D. E. Keyes, SIAM J. Numer. Anal. 35:508 (1998).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.switches import refuse_events
from pinnsim.simulate.totals import reachable


class SteadyState(NamedTuple):
    """A steady state, its residual max_i |f_i| / (1 + |x_i|) per time unit, and the outcome code (`DONE` or
    `NOT_SETTLED`)."""

    state: State
    residual: Scalar
    outcome: Int[Array, ""]


def steady_state(
    kinetics: AbstractKinetics,
    perturbation: Perturbation,
    guess: State | None = None,
    time: Scalar | float = -jnp.inf,
    max_steps: int = 400,
    reach: Array | None = None,
) -> SteadyState:
    """The steady state that the cell reaches from `guess` under the phases that are on at `time` (default: those that
    act since ever). Conserved totals are those of `guess`, and the derivative with respect to them is exact too.
    `reach`: the projector K of `pinnsim.simulate.totals`, (species, species), where the caller knows it better.

    **Returns** `SteadyState`; `outcome` is `NOT_SETTLED` (and the state NaN) when no certified steady state was found.
    """
    kinetics = resolve(kinetics)
    refuse_events(kinetics, "the search for a steady state")
    guess = kinetics.default_state() if guess is None else guess
    at = jnp.asarray(time, guess.dtype)
    acting = perturbation.acting(at)
    # "For ever" is so far from any dose curve's start that absorption and elimination are over.
    clock = jnp.where(jnp.isfinite(at), at, jnp.where(at > 0, 1e9, 0.0))
    material = kinetics.material()
    eps = jnp.finfo(guess.dtype).eps

    def flow(state: State, acting: Perturbation, kinetics: AbstractKinetics) -> State:
        return kinetics.vector_field(clock, state, acting)

    arrays, rest = eqx.partition((acting, kinetics), eqx.is_array)
    frozen_acting, frozen_kinetics = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    edits = frozen_acting.at(clock)
    begin = jax.lax.stop_gradient(jnp.where(edits.hold, edits.level, guess))
    unit = jnp.eye(guess.size, dtype=guess.dtype)
    free = material & ~edits.hold
    # Every abundance of gene kinetics has a loss of its own. Elsewhere reactions are asked where nothing is absent.
    present = jnp.where(material, jnp.maximum(begin, 0.0) + 1.0, begin)
    conserved = (
        unit - jax.lax.stop_gradient(reach)
        if reach is not None
        else None
        if isinstance(kinetics, GeneKinetics)
        else jnp.diag(free.astype(guess.dtype)) - reachable(frozen_kinetics, clock, present, Constant(edits), free)
    )

    def astray(state: State) -> State:
        return jnp.zeros_like(state) if conserved is None else conserved @ (state - begin)

    def regular(jacobian: Array) -> Array:
        return jacobian if conserved is None else jacobian - conserved / shortest

    def imbalance(state: State, force: State, jacobian: Array) -> Scalar:
        moving = jnp.where(force == 0, 0.0, jnp.abs(force) / (jnp.abs(jacobian) @ (1.0 + jnp.abs(state))))
        return jnp.maximum(jnp.max(moving), jnp.max(jnp.abs(astray(state))) / (1.0 + jnp.max(jnp.abs(state))))

    def matrix(state: State) -> Array:
        jacobian = jax.jacfwd(lambda x: flow(x, frozen_acting, frozen_kinetics))(state)
        # What is held, or never changes, has no equation of its own: unit rows keep the matrix regular.
        still = edits.hold | jnp.all(jacobian == 0, axis=1)
        return jnp.where(still[:, None], -unit, jacobian)

    def step(carry: tuple) -> tuple:
        count, state, force, pace, _ = carry
        jacobian = matrix(state)
        moved = state + jnp.linalg.solve(unit / pace - regular(jacobian), force)
        moved = moved - astray(moved)
        moved = jnp.where(material, jnp.maximum(moved, 0.0), moved)
        new_force = flow(moved, frozen_acting, frozen_kinetics)
        good = jnp.all(jnp.isfinite(new_force))
        before, after = imbalance(state, force, jacobian), imbalance(moved, new_force, jacobian)
        # Switched evolution relaxation: the pace grows as the force falls, and shrinks when a step made it worse.
        factor = jnp.clip(before / jnp.maximum(after, 1e-300 if state.dtype == jnp.float64 else 1e-30), 0.3, 3.0)
        state, force = jnp.where(good, moved, state), jnp.where(good, new_force, force)
        factor = jnp.where(after <= before, jnp.maximum(factor, 1.2), factor)
        pace = jnp.where(good, pace * factor, 0.1 * pace)
        return (
            count + 1,
            state,
            force,
            jnp.clip(pace, 1e-12 * shortest, 1e12 * shortest),
            jnp.where(good, after, before),
        )

    def unfinished(carry: tuple) -> Array:
        count, *_, residual = carry
        return (count < max_steps) & (residual > 1e2 * eps)

    force = flow(begin, frozen_acting, frozen_kinetics)
    jacobian = matrix(begin)
    speed = jnp.max(jnp.abs(force) / (1e-3 + jnp.abs(begin)))
    # The first step is short beside the fastest change; steps are bounded in units of it, not of the clock.
    shortest = 1.0 / jnp.maximum(jnp.max(jnp.sum(jnp.abs(jacobian), axis=1)), jnp.finfo(guess.dtype).tiny)
    pace = 0.1 / jnp.maximum(speed, 1e-12 / shortest)
    carry = (0, begin, force, pace, imbalance(begin, force, jacobian))
    _, state, *_ = jax.lax.while_loop(unfinished, step, carry)
    state = jax.lax.stop_gradient(state)
    jacobian = jax.lax.stop_gradient(matrix(state))
    force = flow(state, acting, kinetics)
    if conserved is not None:
        # In value nothing: what the totals of the guess change.
        force = force + conserved @ (guess - jax.lax.stop_gradient(guess)) / shortest
    last = jnp.linalg.solve(regular(jacobian), force)
    stepped = state - last
    # A second step is nothing in value and in first derivatives, and makes second ones exact: it multiplies the first
    # step's error, which is of second order, by the change of J.
    again = flow(stepped, acting, kinetics)
    if conserved is not None:
        again = again - conserved @ (stepped - guess) / shortest
    again = jnp.linalg.solve(regular(jacobian), again)
    stepped = stepped - (again - jax.lax.stop_gradient(again))
    exact = jnp.where(edits.hold, acting.at(clock).level, stepped)
    # Clipped in value only: a species that is just absent still has its full derivative.
    exact = jnp.where(material, exact - jax.lax.stop_gradient(jnp.minimum(exact, 0.0)), exact)
    # What piles up for ever is balanced but for rounding once it is large enough; a Newton step from there goes far.
    near = jnp.all(jnp.abs(last) <= 1e-3 * (1.0 + jnp.abs(state)))
    settled = (imbalance(state, force, jacobian) <= 1e3 * eps) & near & jnp.all(jnp.isfinite(exact))
    residual = jnp.max(jnp.abs(force) / (1.0 + jnp.abs(state)))
    outcome = jnp.where(settled, Outcome.DONE, Outcome.NOT_SETTLED)
    return SteadyState(jnp.where(settled, exact, jnp.nan), residual, outcome)
