"""A neural correction inside the promoter's logit: learned rates, never learned mass.

    correction_i = gate * bound * tanh(network(log(1 + regulator inputs), signals))_i

It is zero at the start (the last layer is zero), bounded by `gate * bound` in log-odds, and added inside the sigmoid,
so promoter activity stays in (0, 1) whatever the weights are. The gate in [0, 1] is reported: 0 is pure physics.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pinnsim.parameter import Parameter, interval
from pinnsim.shapes import PerGene, PerInput, PerRegulator


class AbstractResidual(eqx.Module):
    """A correction to the log-odds of promoter activity, and its gate."""

    gate: eqx.AbstractVar[Parameter]

    @abc.abstractmethod
    def __call__(self, regulators: PerRegulator, signal: PerInput) -> PerGene:
        """Correction in log-odds, (gene,), from regulator inputs (>= 0) and external signals."""


class NoResidual(AbstractResidual):
    """Pure physics: no correction."""

    gate: Parameter
    genes: int = eqx.field(static=True)

    def __call__(self, regulators: PerRegulator, signal: PerInput) -> PerGene:
        return jnp.zeros(self.genes, regulators.dtype)


class MLPResidual(AbstractResidual):
    """A multilayer perceptron over all regulators and signals.

    **Arguments:** `gate` in [0, 1]; `bound`, the largest correction in log-odds at gate 1; `network`, regulators and
    signals -> genes.
    """

    gate: Parameter
    bound: Parameter
    network: eqx.nn.MLP

    def __call__(self, regulators: PerRegulator, signal: PerInput) -> PerGene:
        features = jnp.concatenate([jnp.log1p(regulators), signal])
        return self.gate * self.bound * jnp.tanh(self.network(features))


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
