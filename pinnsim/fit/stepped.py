"""Cells that are all alike, moved by exponential steps of given length.

Each loss of first order is solved exactly and the rest to second order: with x' = f(x), lambda the rates of loss and
z = lambda h,

    a = x + h phi_1(z) f(x),        x_next = a + h phi_2(z) (f(a) - f(x) + lambda (a - x)),
    phi_1 = (1 - exp(-z)) / z,      phi_2 = (exp(-z) - 1 + z) / z^2.

No step is too long for it to be stable, and neither for its derivatives. That is what fits to cells at rest need: there
an adaptive explicit solver sees no error and takes steps beyond its stability, which the state, being at rest, does
not show, but its derivatives do.

Source: S. M. Cox and P. C. Matthews, J. Comput. Phys. 176:430 (2002), eq. 20-22 (ETD2RK).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.fit.population import AbstractPush, Cells, Courses, Nodes
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import State, Times

_SMALL = 1e-2  # z below which phi_2 is its series: the difference of large terms has lost half its digits


class Stepped(AbstractPush):
    """Exponential steps between the nodes of the fit's grid (`substeps` of its plan; good value 20). Rates of loss are
    those of gene kinetics; of other systems they are taken as 0, and steps must then resolve the fastest reaction."""

    def forward_mode(self) -> "Stepped":
        return self

    def courses(
        self,
        kinetics: AbstractKinetics,
        times: Times,
        grid: Nodes,
        perturbation: Perturbation,
        begin: Cells,
        keys: Array,
    ) -> tuple[Courses, Bool[Array, " cell"]]:
        steps = jnp.diff(grid)
        # No step straddles a switch, so what is on at the middle is on for the whole step.
        acts = jax.vmap(perturbation.at)(0.5 * (grid[:-1] + grid[1:]))
        still = jnp.zeros((), begin.dtype)

        def step(state: State, inputs: tuple[Array, Edits]) -> tuple[State, State]:
            h, edits = inputs
            acting, loss = Constant(edits), losses(kinetics, edits)
            state = jnp.where(edits.hold, edits.level, state)
            z = loss * h
            here = kinetics.vector_field(still, state, acting)
            near = state + h * phi_1(z) * here
            there = kinetics.vector_field(still, near, acting)
            moved = near + h * phi_2(z) * (there - here + loss * (near - state))
            return moved, moved

        def one(state: State) -> Array:
            _, course = jax.lax.scan(jax.checkpoint(step), state, (steps, acts))
            return jnp.concatenate([state[None], course])

        courses = jax.vmap(one)(begin)[:, jnp.searchsorted(grid, times)]
        return courses, jnp.all(jnp.isfinite(courses), axis=(1, 2))

    def earlier_keys(self, keys: UInt32[Array, "cell 2"]) -> UInt32[Array, "cell 2"]:
        return keys


def losses(kinetics: AbstractKinetics, edits: Edits) -> State:
    """Rates of first-order loss of every species, (species,)."""
    if not isinstance(kinetics, GeneKinetics):
        return jnp.zeros(len(kinetics.table.species), edits.level.dtype)
    factor = kinetics.by_kind(edits.factor)
    lost = {
        "unspliced": ("splicing", kinetics.splicing),
        "spliced": ("decay", kinetics.decay),
        "mrna": ("decay", kinetics.decay),
        "protein": ("protein_decay", kinetics.protein_decay),
    }
    parts = [factor[kind] * rate for kind, rate in (lost[layer] for layer in kinetics.layers)]
    return jnp.concatenate([*parts, 1.0 / kinetics.hidden.tau])


def phi_1(z: Array) -> Array:
    """(1 - exp(-z)) / z, for z >= 0."""
    some = jnp.where(z > 0, z, 1.0)
    return jnp.where(z > 0, -jnp.expm1(-some) / some, 1.0)


def phi_2(z: Array) -> Array:
    """(exp(-z) - 1 + z) / z^2, for z >= 0."""
    some = jnp.where(z > _SMALL, z, 1.0)
    series = 0.5 + z * (-1 / 6 + z * (1 / 24 - z / 120))
    return jnp.where(z > _SMALL, (jnp.expm1(-some) + some) / some**2, series)
