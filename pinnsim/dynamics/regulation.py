"""Thermodynamic regulation: how likely a promoter is active, given its regulators.

Each regulator r binds the promoter of gene i on its own with statistical weight `theta_e = f_e (x_r / K_e)^n_e` and,
when bound, changes the weight of the active state by `omega_e = exp(w_e)`:

    a_i = sigmoid( b_i + sum_e [F_e(x_r) - F_e(x_r^ref)] + own_i + residual_i ),
    F_e = log((1 + omega_e theta_e) / (1 + theta_e)),

with w_e > 0 for activation and w_e < 0 for repression; b_i is the log-odds of activity where every regulator is at
its reference input (0: the bare promoter).

One formula for every motif; a sign per edge. `f_e` is the perturbation's edge factor. Edges are stored once, as
arrays; each gene lists its edges in a padded row (ELL form), so that the sum over regulators is a gather, not a
scatter.

Source: L. Bintu et al., Curr. Opin. Genet. Dev. 15:116 (2005), equations 4-7, for independent regulators.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from pinnsim.parameter import Parameter
from pinnsim.shapes import EdgeIndex, PerEdge, PerGene, PerRegulator

# Stands for "absent" inside a logarithm: its occupancy (<= 1e-30) is far below rounding, and its gradient is finite.
_LEAST = 1e-30


class Promoter(eqx.Module):
    """Signed edges from regulators to promoters.

    **Arguments:**

    - `basal`: (gene,), log-odds of activity at the regulators' reference inputs.
    - `reference`: (regulator,), those inputs; 0 for regulators that act by abundance, 1 for hidden activities.
    - `strength`: (edge,), unconstrained strength q: interaction energy w = sign * softplus(q) in kT, or w = q where
      the sign is unknown.
    - `sign`: (edge,), +1, -1 or 0 for unknown (learned).
    - `affinity`: (edge,), K, in the unit of the regulator's input; `hill`: (edge,), n in [1, 4].
    - `source`, `target`: (edge,), positions among regulators and genes.
    - `slots`: (gene, slot), each gene's edges, padded with the number of edges.
    """

    basal: Parameter
    reference: Parameter
    strength: Parameter
    sign: Parameter
    affinity: Parameter
    hill: Parameter
    source: EdgeIndex
    target: EdgeIndex
    slots: Int[Array, "gene slot"]

    def energy(self) -> PerEdge:
        """Signed interaction energy w, (edge,): known signs cannot flip, unknown ones are free."""
        return jnp.where(self.sign == 0, self.strength, self.sign * jax.nn.softplus(self.strength))

    def contributions(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerEdge:
        """Each edge's share of its target's log-odds."""
        log_input = jnp.log(jnp.maximum(regulators, _LEAST))[self.source]
        log_weight = self.hill * (log_input - jnp.log(self.affinity)) + jnp.log(jnp.maximum(edge_factor, _LEAST))
        return jax.nn.softplus(log_weight + self.energy()) - jax.nn.softplus(log_weight)

    def log_odds(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerGene:
        """Log-odds of promoter activity from basal rate and listed edges, (gene,)."""
        change = self.contributions(regulators, edge_factor) - self.contributions(
            self.reference, jnp.ones_like(edge_factor)
        )
        padded = jnp.concatenate([change, jnp.zeros(1, change.dtype)])
        return self.basal + jnp.sum(padded[self.slots], axis=-1)


def edge_slots(target: np.ndarray, genes: int) -> np.ndarray:
    """Padded rows of edges per gene, (gene, slot): the ELL form. Padding is the number of edges.

    >>> edge_slots(np.array([1, 0, 1]), 3).tolist()
    [[1, 3], [0, 2], [3, 3]]
    """
    edges = len(target)
    counts = np.bincount(target, minlength=genes)
    slots = np.full((genes, max(int(counts.max(initial=0)), 1)), edges)
    order = np.argsort(target, kind="stable")
    rank = np.arange(edges) - np.repeat(np.cumsum(counts) - counts, counts)
    slots[target[order], rank] = order
    return slots
