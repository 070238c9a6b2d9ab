"""Populations to compare, and distances with their slopes compiled once for all of them."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from pinnsim.distance import AbstractDistance, Distance, Energy, Euclidean, MeanDiscrepancy, Sinkhorn

rng = np.random.default_rng(5)
CELLS = 24  # one shape for nearly everything: compiling is what these tests cost
X, Y = jnp.asarray(rng.normal(size=(CELLS, 2))), jnp.asarray(1.0 + 0.5 * rng.normal(size=(CELLS, 2)))
A, B = jnp.asarray(rng.uniform(0.5, 2.0, CELLS)), jnp.asarray(rng.uniform(0.5, 2.0, CELLS))
EQUAL = jnp.ones(CELLS) / CELLS
TIGHT = {"tolerance": 1e-10, "max_iterations": 5000}


@eqx.filter_jit
def slopes(distance: AbstractDistance, *populations: Array) -> tuple[Distance, tuple]:
    """The distance, and the slopes of its value by points, weights and its own settings."""

    def value(inputs: tuple) -> tuple[Array, Distance]:
        got = inputs[-1](*inputs[:-1])
        return got.value, got

    (_, got), slope = eqx.filter_value_and_grad(value, has_aux=True)((*populations, distance))
    return got, slope


def run(distance: AbstractDistance, x: Array, y: Array, a: Array = EQUAL, b: Array = EQUAL) -> Distance:
    return slopes(distance, x, y, a, b)[0]


@eqx.filter_jit
def plainly(distance: AbstractDistance, *populations: Array) -> Array:
    """The value, for populations of another shape."""
    return distance(*populations).value


def points(values: np.ndarray) -> Array:
    """Points on a line as points in a plane."""
    return jnp.asarray(np.stack([values, np.zeros_like(values)], axis=1))


DISTANCES: dict[str, AbstractDistance] = {
    "sinkhorn": Sinkhorn(0.1, **TIGHT),
    "sinkhorn, wide": Sinkhorn(0.5, relative=False, cost=Euclidean(), **TIGHT),
    "sinkhorn, unbalanced": Sinkhorn(0.1, 0.7, **TIGHT),
    "energy": Energy(),
    "discrepancy": MeanDiscrepancy(1.3),
    "discrepancy, median": MeanDiscrepancy(),
}


def median(distance: AbstractDistance) -> bool:
    return isinstance(distance, MeanDiscrepancy) and distance.bandwidth is None


def gaussian(mean: float, sd: float) -> tuple[Array, Array]:
    """A normal law as points and weights."""
    nodes = np.linspace(-7, 7, 161)
    weights = np.exp(-0.5 * nodes**2)
    return jnp.asarray(mean + sd * nodes)[:, None], jnp.asarray(weights / weights.sum())
