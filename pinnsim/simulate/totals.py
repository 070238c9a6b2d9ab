"""What running reactions can change, and what they cannot: the totals of a state.

Reactions move a state along the columns of S only, added production along single species. The orthogonal projector K
onto what these span splits a state: `K x` is free to move, the rest is conserved. A reaction that a perturbation
switched off spans nothing, so it makes totals that the stoichiometry alone does not have; a held species is exchanged
with the outside and belongs to no total.

Source: C. Reder, J. Theor. Biol. 135:175 (1988).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.perturbation import Constant
from pinnsim.shapes import Scalar, State


def with_jacobian(function: Callable[[State], Array], state: State) -> tuple[Array, Array]:
    """Value and Jacobian in one pass."""
    push = jax.vmap(lambda tangent: jax.jvp(function, (state,), (tangent,)), out_axes=(None, -1))
    return push(jnp.eye(state.size, dtype=state.dtype))


def reachable(
    kinetics: AbstractKinetics, time: Scalar, state: State, acting: Constant, free: Bool[Array, " species"]
) -> Float[Array, "species species"]:
    """K, (species, species), constant.

    **Arguments:** `kinetics`: resolved; `state`: where reactions are asked whether they run: those whose rate is zero
    there, and stays zero nearby, do not; `free`: (species,), what may move; rows and columns of others are 0.
    """
    if not kinetics.stoichiometry().shape[1]:
        # A flow that is not written as reactions may move anything.
        return jnp.diag(free.astype(state.dtype))
    arrays, rest = eqx.partition((kinetics, time, state, acting), eqx.is_array)
    kinetics, time, state, acting = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    rates, slopes = with_jacobian(lambda x: kinetics.propensities(time, x, acting), state)
    running = (rates != 0) | jnp.any((slopes != 0) & free[None, :], axis=1)
    changes = jnp.asarray(kinetics.stoichiometry(), state.dtype)
    changes = jnp.where(free[:, None] & running[None, :], changes, 0.0)
    supplied = jnp.where(free & (acting.edits.drive > 0), 1.0, 0.0).astype(state.dtype)
    # The matrix has whole numbers, so its eigenvalues are either far from 0 or 0.
    values, vectors = jnp.linalg.eigh(changes @ changes.T + jnp.diag(supplied))
    spanned = values > 10.0 * state.size * jnp.finfo(state.dtype).eps * jnp.maximum(values[-1], 1.0)
    return jnp.where(spanned[None, :], vectors, 0.0) @ vectors.T
