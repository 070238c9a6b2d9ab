"""The linear systems of implicit steps, `(s I - J) x = b`, by the structure of the model.

In gene kinetics everything but promoters is a chain: what regulates is known, so hidden activities come first, and
every layer after the first is a known multiple of the one before,

    x_s = (b_s + beta x_u) / (s + gamma),      x_p = (b_p + k x_s) / (s + delta),

which leaves one equation per gene for the first layer, coupled through the promoters' derivatives alone: a system of
(gene, gene) instead of (species, species), solved once per step, 27 times less work for three layers. Other models
have their whole Jacobian solved.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.residual import NoResidual
from pinnsim.perturbation import Edits
from pinnsim.shapes import PerGene, PerRegulator, Scalar, State
from pinnsim.simulate.adaptive import Field

Solver = Callable[[State], State]


def shifted_solver(field: Field, time: Scalar, state: State, shift: Scalar) -> Solver:
    """`b -> (shift I - J)^-1 b`, J being the Jacobian of `field` at `time` and `state`."""
    if isinstance(field.kinetics, GeneKinetics):
        return _chain_solver(field.kinetics, field.acting.at(time), state, shift)
    jacobian = jax.jacfwd(lambda x: field(time, x))(state)
    factors = jax.scipy.linalg.lu_factor(shift * jnp.eye(state.shape[0], dtype=state.dtype) - jacobian)
    return lambda b: jax.scipy.linalg.lu_solve(factors, b)


def _chain_solver(kinetics: GeneKinetics, edits: Edits, state: State, shift: Scalar) -> Solver:
    genes, amounts = kinetics.genes, kinetics.abundances
    free = jnp.where(edits.hold, 0.0, 1.0).astype(state.dtype)
    state = jnp.where(edits.hold, edits.level, state)
    steps = _chain(kinetics, edits, free, shift)
    hidden_loss = shift + free[amounts:] / kinetics.hidden.tau
    slopes = _promoter_slopes(kinetics, edits, state) * free[:genes, None]
    # What a regulator's amount gains per unit of its gene's first layer; hidden activities gain nothing.
    gain = jnp.concatenate([*_gains(steps, state.dtype, genes), jnp.zeros(len(state) - amounts, state.dtype)])
    place = kinetics.regulator_state
    coupling = slopes * gain[place][None]
    column = jnp.where(kinetics.regulator_hidden, 0, place % genes)
    matrix = jnp.zeros((genes, genes), state.dtype).at[:, column].add(-coupling)
    matrix = matrix + jnp.diag(steps[0][1])
    factors = jax.scipy.linalg.lu_factor(matrix)
    own = _own_slopes(kinetics, edits, state) * free[:genes] if kinetics.own_inputs else None

    def solve(b: State) -> State:
        hidden = b[amounts:] / hidden_loss
        # Amounts as if the first layer stayed where it is: what the right-hand side alone makes of them.
        fixed = _along(steps, b[:amounts], jnp.zeros(genes, b.dtype))
        known = jnp.concatenate([*fixed, hidden])
        right = b[:genes] + slopes @ known[place]
        if own is not None:
            right = right + own * hidden[-genes:]
        first = jax.scipy.linalg.lu_solve(factors, right)
        return jnp.concatenate([*_along(steps, b[:amounts], first), hidden])

    return solve


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


def _promoter_slopes(kinetics: GeneKinetics, edits: Edits, state: State) -> Float[Array, "gene regulator"]:
    """Derivatives of transcription by what regulates, as the state holds it."""
    scale = kinetics.synthesis * kinetics.by_kind(edits.factor)["transcription"]
    place = kinetics.regulator_state
    if not isinstance(kinetics.residual, NoResidual):  # couples every gene to every regulator

        def transcription(levels: Array) -> PerGene:
            return scale * kinetics.promoter_activity(state.at[place].set(levels), edits)

        return jax.jacfwd(transcription)(state[place])

    def inputs(levels: Array) -> PerRegulator:
        return kinetics.regulator_inputs(state.at[place].set(levels), edits)

    seen, speed = jax.jvp(inputs, (state[place],), (jnp.ones(place.shape[0], state.dtype),))
    # Every edge is given a regulator of its own, so that one backward pass has the derivative by each.
    apart, source, target = kinetics.promoter.separated()
    shift = state[-kinetics.genes :] if kinetics.own_inputs else None
    slopes = jax.grad(lambda x: jnp.sum(scale * apart.activity(x, edits.edge_factor, shift)))(seen[source])
    dense = jnp.zeros((kinetics.genes, place.shape[0]), state.dtype)
    return dense.at[target, source].add(slopes) * speed[None]


def _own_slopes(kinetics: GeneKinetics, edits: Edits, state: State) -> PerGene:
    """Derivatives of transcription by each gene's own input."""
    scale = kinetics.synthesis * kinetics.by_kind(edits.factor)["transcription"]
    genes = kinetics.genes

    def transcription(own: PerGene) -> PerGene:
        return scale * kinetics.promoter_activity(state.at[-genes:].set(own), edits)

    return jax.jvp(transcription, (state[-genes:],), (jnp.ones(genes, state.dtype),))[1]
