"""Random gene networks, and all fixed points of those with two genes by a dense grid: an oracle for searches.

x_i' = c_i s(b_i + sum_j w_ij x_j^4 / (1 + x_j^4)) - x_i,      s the logistic function
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import AbstractRateLaw, ReactionSystem, reaction_system
from pinnsim.dynamics.structure import Structure


class RandomLaw(AbstractRateLaw):
    """`x_i' = c_i s(b_i + sum_j w_ij x_j^4 / (1 + x_j^4)) - x_i`, s the logistic function."""

    c: Array
    b: Array
    w: Array

    def rates(self, structure: Structure, state: Array, activity: Array, signal: Array, grain: Array) -> Array:
        fourth = state**4
        seen = fourth / (1.0 + fourth)
        return jnp.concatenate([self.c / (1.0 + jnp.exp(-self.b - self.w @ seen)), state])


def network(seed: int, genes: int, regulators: int) -> ReactionSystem:
    """Random signs and strengths of `regulators` edges per gene, self-regulation included."""
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(genes)]
    reactions = [Reaction(f"b{n}", f"0 -> {n}") for n in names] + [Reaction(f"d{n}", f"{n} -> 0") for n in names]
    w = 5.0 * rng.standard_normal((genes, genes))
    w *= rng.permuted(np.tile(np.arange(genes) < regulators, (genes, 1)), axis=1)
    # Promoters are balanced at the middle, so that many networks have several states.
    law = RandomLaw(*map(jnp.asarray, (rng.uniform(1.5, 4.0, genes), -0.5 * w.sum(axis=1), w)))
    return reaction_system(reactions, time_unit="h", law=law, start={n: 1.0 for n in names})


def oracle(law: RandomLaw, count: int = 500) -> np.ndarray:
    """All roots of two genes: cells of a fine grid in which both null surfaces may pass, each refined by Newton."""
    c, b, w = (np.asarray(a) for a in (law.c, law.b, law.w))

    def force(x: np.ndarray) -> np.ndarray:
        fourth = x**4
        return c / (1 + np.exp(-b - (fourth / (1 + fourth)) @ w.T)) - x

    axes = [np.linspace(0, ci, count) for ci in c]
    values = force(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    corners = np.stack([values[i : count - 1 + i, j : count - 1 + j] for i in (0, 1) for j in (0, 1)])
    # A margin of a tenth of the cell's own variation: a curved null line that only grazes a corner is kept.
    margin = 0.1 * np.ptp(corners, axis=0)
    cells = np.argwhere(((corners.min(axis=0) <= margin) & (corners.max(axis=0) >= -margin)).all(axis=-1))
    begin = np.stack([axes[k][cells[:, k]] + 0.5 * c[k] / (count - 1) for k in (0, 1)], axis=1)
    x = begin.copy()
    for _ in range(30):
        columns = [(force(x + s) - force(x - s)) / 2e-7 for s in 1e-7 * np.eye(2)]
        x = np.maximum(x - np.linalg.solve(np.stack(columns, axis=2), force(x)[..., None])[..., 0], 0.0)
    near = (np.abs(x - begin).max(axis=1) < 5 * c.max() / count) & (np.abs(force(x)).max(axis=1) < 1e-10)
    found: list[np.ndarray] = []
    for y in x[near]:
        if not any(np.abs(y - o).max() < 1e-6 for o in found):
            found.append(y)
    return np.array(sorted(found, key=tuple))
