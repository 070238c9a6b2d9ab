"""The linear systems of implicit steps, `(s I - J) x = b`, by the structure of the model.

In gene kinetics everything but promoters is a chain: what regulates is known, so hidden activities come first, and
every layer after the first is a known multiple of the one before,

    x_s = (b_s + beta x_u) / (s + gamma),      x_p = (b_p + k x_s) / (s + delta),

which leaves one equation per gene for the first layer, coupled through the promoters' derivatives alone: a system of
(gene, gene) instead of (species, species), solved once per step, 27 times less work for three layers. Other models
have their whole Jacobian solved.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.residual import NoResidual
from pinnsim.perturbation import Edits
from pinnsim.shapes import PerGene, PerRegulator, Scalar, State
from pinnsim.simulate.adaptive import Field
from pinnsim.simulate.elimination import linear_solver

Solver = Callable[[State], State]

_UNROLLED = 32  # regulators per gene whose sums are written out


def equations(kinetics: AbstractKinetics) -> int:
    """How many equations are left to be solved per step."""
    return kinetics.genes if isinstance(kinetics, GeneKinetics) else len(kinetics.table.species)


def shifted_solver(field: Field, time: Scalar, state: State, shift: Scalar) -> Solver:
    """`b -> (shift I - J)^-1 b`, J being the Jacobian of `field` at `time` and `state`."""
    if isinstance(field.kinetics, GeneKinetics):
        return _chain_solver(field.kinetics, field.acting.at(time), state, shift)
    jacobian = jax.jacfwd(lambda x: field(time, x))(state)
    return linear_solver(shift * jnp.eye(state.shape[0], dtype=state.dtype) - jacobian)


def _chain_solver(kinetics: GeneKinetics, edits: Edits, state: State, shift: Scalar) -> Solver:
    genes, amounts = kinetics.genes, kinetics.abundances
    free = jnp.where(edits.hold, 0.0, 1.0).astype(state.dtype)
    state = jnp.where(edits.hold, edits.level, state)
    steps = _chain(kinetics, edits, free, shift)
    hidden_loss = shift + free[amounts:] / kinetics.hidden.tau
    slopes = _promoter_slopes(kinetics, edits, state)
    slopes = slopes._replace(weight=slopes.weight * free[:genes, None])
    # What a regulator's amount gains per unit of its gene's first layer; hidden activities gain nothing.
    gain = jnp.concatenate([*_gains(steps, state.dtype, genes), jnp.zeros(len(state) - amounts, state.dtype)])
    place = kinetics.regulator_state
    column = jnp.where(kinetics.regulator_hidden, 0, place % genes)
    solve_first = linear_solver(jnp.diag(steps[0][1]) - _matrix(slopes, gain[place], column))
    own = _own_slopes(kinetics, edits, state) * free[:genes] if kinetics.own_inputs else None

    def solve(b: State) -> State:
        hidden = b[amounts:] / hidden_loss
        # Amounts as if the first layer stayed where it is: what the right-hand side alone makes of them.
        fixed = _along(steps, b[:amounts], jnp.zeros(genes, b.dtype))
        right = b[:genes] + _applied(slopes, jnp.concatenate([*fixed, hidden])[place])
        if own is not None:
            right = right + own * hidden[-genes:]
        return jnp.concatenate([*_along(steps, b[:amounts], solve_first(right)), hidden])

    return solve


class _Slopes(NamedTuple):
    """Derivatives of transcription, (gene, slot), by the regulators that stand in each slot; one row of these, where
    it is the same for all genes."""

    weight: Float[Array, "gene slot"]
    regulator: Int[Array, "row slot"]


def _applied(slopes: _Slopes, change: PerRegulator) -> PerGene:
    """How transcription changes with the regulators."""
    columns = slopes.weight.shape[1]
    if columns > _UNROLLED:
        return jnp.sum(slopes.weight * change[slopes.regulator], axis=1)
    total = jnp.zeros(slopes.weight.shape[0], change.dtype)
    for k in range(columns):
        total = total + slopes.weight[:, k] * change[slopes.regulator[:, k]]
    return total


def _matrix(slopes: _Slopes, gain: PerRegulator, column: Int[Array, " regulator"]) -> Float[Array, "gene gene"]:
    """How transcription changes with every gene's first layer, where regulators gain from the gene of their column."""
    genes, columns = slopes.weight.shape
    places = column[slopes.regulator]
    weight = slopes.weight * gain[slopes.regulator]
    if columns > _UNROLLED:
        rows = jnp.broadcast_to(jnp.arange(genes)[:, None], weight.shape)
        return jnp.zeros((genes, genes), weight.dtype).at[rows, jnp.broadcast_to(places, weight.shape)].add(weight)
    # By comparison, slot after slot: faster than writing to places one by one, where many lanes are side by side.
    names = jnp.arange(genes)[None]
    total = jnp.zeros((genes, genes), weight.dtype)
    for k in range(columns):
        total = total + jnp.where(places[:, k : k + 1] == names, weight[:, k : k + 1], 0.0)
    return total


_Steps = list[tuple[PerGene, PerGene]]


def _chain(kinetics: GeneKinetics, edits: Edits, free: State, shift: Scalar) -> _Steps:
    """Per layer: the rate from the layer before (0 for the first) and the diagonal of `shift I - J`."""
    factor, genes = kinetics.by_kind(edits.factor), kinetics.genes
    losses = {"rna": factor["decay"] * kinetics.decay}
    gains = {}
    if kinetics.splicing is not None:
        losses["unspliced"] = gains["spliced"] = factor["splicing"] * kinetics.splicing
    if kinetics.translation is not None and kinetics.protein_decay is not None:
        gains["protein"] = factor["translation"] * kinetics.translation
        losses["protein"] = factor["protein_decay"] * kinetics.protein_decay
    steps = []
    for number, layer in enumerate(kinetics.layers):
        here = free[number * genes : (number + 1) * genes]
        loss = losses["rna" if layer == kinetics.mature_layer else layer]
        gain = gains.get(layer, jnp.zeros_like(loss))
        steps.append((here * gain, shift + here * loss))
    return steps


def _gains(steps: _Steps, kind: jnp.dtype, genes: int) -> list[PerGene]:
    """How much each layer changes per unit of the first."""
    return _along(steps, jnp.zeros(len(steps) * genes, kind), jnp.ones(genes, kind))


def _along(steps: _Steps, b: State, first: PerGene) -> list[PerGene]:
    """Every layer, given the first."""
    layers, genes = [first], first.shape[0]
    for number, (gain, loss) in enumerate(steps[1:], 1):
        layers.append((b[number * genes : (number + 1) * genes] + gain * layers[-1]) / loss)
    return layers


def _promoter_slopes(kinetics: GeneKinetics, edits: Edits, state: State) -> _Slopes:
    """By what regulates, as the state holds it."""
    scale = kinetics.synthesis * kinetics.by_kind(edits.factor)["transcription"]
    place = kinetics.regulator_state
    if not place.shape[0]:
        return _Slopes(jnp.zeros((kinetics.genes, 0), state.dtype), jnp.zeros((1, 0), int))
    if not isinstance(kinetics.residual, NoResidual):  # couples every gene to every regulator

        def transcription(levels: Array) -> PerGene:
            return scale * kinetics.promoter_activity(state.at[place].set(levels), edits)

        return _Slopes(jax.jacfwd(transcription)(state[place]), jnp.arange(place.shape[0])[None])

    def inputs(levels: Array) -> PerRegulator:
        return kinetics.regulator_inputs(state.at[place].set(levels), edits)

    seen, speed = jax.jvp(inputs, (state[place],), (jnp.ones(place.shape[0], state.dtype),))
    shift = state[-kinetics.genes :] if kinetics.own_inputs else None
    slopes, regulator = kinetics.promoter.slopes(seen, edits.edge_factor, shift)
    return _Slopes(scale[:, None] * slopes * speed[regulator], regulator)


def _own_slopes(kinetics: GeneKinetics, edits: Edits, state: State) -> PerGene:
    """Derivatives of transcription by each gene's own input."""
    scale = kinetics.synthesis * kinetics.by_kind(edits.factor)["transcription"]
    genes = kinetics.genes

    def transcription(own: PerGene) -> PerGene:
        return scale * kinetics.promoter_activity(state.at[-genes:].set(own), edits)

    return jax.jvp(transcription, (state[-genes:],), (jnp.ones(genes, state.dtype),))[1]
