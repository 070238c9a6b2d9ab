"""A neural correction inside the promoter's logit: learned rates, never learned mass.

    correction_i = gate * bound * tanh(network(log(1 + regulator inputs), signals))_i

It is zero at the start (the last layer is zero), bounded by `gate * bound` in log-odds, and added inside the sigmoid,
so promoter activity stays in (0, 1) whatever the weights are. The gate in [0, 1] is reported: 0 is pure physics.

Networks here see every regulator: a multilayer perceptron, or a form of low rank, `U tanh(V'f + b)`, whose rank is the
number of patterns of regulators and signals f that all genes share. `attention` has the form that sees listed
regulators only.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pinnsim.parameter import Parameter, interval
from pinnsim.shapes import PerEdge, PerGene, PerInput, PerRegulator


class AbstractResidual(eqx.Module):
    """A correction to the log-odds of promoter activity, and its gate."""

    gate: eqx.AbstractVar[Parameter]

    @abc.abstractmethod
    def __call__(self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None) -> PerGene:
        """Correction in log-odds, (gene,), from regulator inputs (>= 0), external signals and the perturbation's edge
        factors, (edge,), which only forms that go along edges read (`None`: all 1)."""


class NoResidual(AbstractResidual):
    """Pure physics: no correction."""

    gate: Parameter
    genes: int = eqx.field(static=True)

    def __call__(self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None) -> PerGene:
        return jnp.zeros(self.genes, regulators.dtype)


class MLPResidual(AbstractResidual):
    """A multilayer perceptron over all regulators and signals.

    **Arguments:** `gate` in [0, 1]; `bound`, the largest correction in log-odds at gate 1; `network`, regulators and
    signals -> genes.
    """

    gate: Parameter
    bound: Parameter
    network: eqx.nn.MLP

    def __call__(self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None) -> PerGene:
        return self.gate * self.bound * jnp.tanh(self.network(_features(regulators, signal)))


class LowRank(eqx.Module):
    """`U tanh(V'f + b)`: `write` is U, (gene, rank), `read` is V, (feature, rank), `offset` is b, (rank,)."""

    write: Float[Array, "gene rank"]
    read: Float[Array, "feature rank"]
    offset: Float[Array, " rank"]

    def __call__(self, features: Float[Array, " feature"]) -> PerGene:
        return self.write @ jnp.tanh(features @ self.read + self.offset)


class LowRankResidual(AbstractResidual):
    """A few patterns of all regulators and signals, each with a weight per gene: `rank (genes + regulators + inputs
    + 1)` numbers. Arguments as in `MLPResidual`."""

    gate: Parameter
    bound: Parameter
    network: LowRank

    def __call__(self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None) -> PerGene:
        return self.gate * self.bound * jnp.tanh(self.network(_features(regulators, signal)))


def mlp_residual(
    regulators: int, inputs: int, genes: int, *, width: int, depth: int, gate: float, bound: float, key: PRNGKeyArray
) -> MLPResidual:
    """An `MLPResidual` whose output is zero. Good values: width 16-64, depth 1-2, gate 0.1, bound 2 (a factor of 7 in
    the odds)."""
    network = eqx.nn.MLP(regulators + inputs, genes, width, depth, activation=jax.nn.tanh, key=key)
    network = eqx.tree_at(
        lambda n: (n.layers[-1].weight, n.layers[-1].bias), network, replace_fn=lambda leaf: jnp.zeros_like(leaf)
    )
    return MLPResidual(interval(gate, 0.0, 1.0), jnp.asarray(bound, dtype=float), network)


def low_rank_residual(
    regulators: int, inputs: int, genes: int, *, rank: int, gate: float, bound: float, key: PRNGKeyArray
) -> LowRankResidual:
    """A `LowRankResidual` whose output is zero. Good values: rank 2-8, gate and bound as for `mlp_residual`."""
    features = regulators + inputs
    # Of the size that eqx.nn.Linear begins with.
    reach = 1.0 / max(features, 1) ** 0.5
    read = jax.random.uniform(key, (features, rank), dtype=float, minval=-reach, maxval=reach)
    network = LowRank(jnp.zeros((genes, rank)), read, jnp.zeros(rank))
    return LowRankResidual(interval(gate, 0.0, 1.0), jnp.asarray(bound, dtype=float), network)


def _features(regulators: PerRegulator, signal: PerInput) -> Float[Array, " feature"]:
    return jnp.concatenate([jnp.log1p(regulators), signal])
