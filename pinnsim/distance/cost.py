"""Costs of moving a cell from one state to another, for all pairs of two populations.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y

is one matrix product in many dimensions, at the price of cancellation where points are close beside their distance from
the origin; so points are centred first, and in few dimensions differences are taken as they are. A cost is symmetric,
never negative, and 0 between equal points: the solver of a population against itself relies on it.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Cells = Float[Array, "cell gene"]
Others = Float[Array, "other gene"]
Pairs = Float[Array, "cell other"]

_FEW = 4  # dimensions up to which differences are cheaper than a matrix product
_NOISE = 16  # roundings that a squared distance by cancellation may be off, of the squared norms


class AbstractCost(eqx.Module):
    """A cost of every pair."""

    @abc.abstractmethod
    def __call__(self, x: Cells, y: Others) -> Pairs:
        """Cost between every point of `x`, (cell, gene), and every one of `y`, (other, gene)."""


class SquaredEuclidean(AbstractCost):
    """`|x - y|^2`: the cost of the 2-Wasserstein distance."""

    def __call__(self, x: Cells, y: Others) -> Pairs:
        return _squares(*_centred(x, y))


class Euclidean(AbstractCost):
    """`|x - y|`: the cost of the 1-Wasserstein distance and of the energy distance; its slope at equal points is 0.

    In more than four dimensions points nearer than about 1e-7 (single precision: 1e-3) of their distance from the
    centre count as equal.
    """

    def __call__(self, x: Cells, y: Others) -> Pairs:
        x, y = _centred(x, y)
        squares = _squares(x, y)
        least = jnp.zeros_like(squares)
        if x.shape[1] > _FEW:
            noise = _NOISE * jnp.finfo(squares.dtype).eps
            least = jax.lax.stop_gradient(noise * (_norms(x)[:, None] + _norms(y)[None, :]))
        apart = squares > least
        return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


class Cosine(AbstractCost):
    """`1 - cos(x, y)`: composition without total; a point at 0 is at right angles to all that are not."""

    def __call__(self, x: Cells, y: Others) -> Pairs:
        # Half the squared distance of unit vectors is exact where they agree; 1 minus their product is not.
        x, y = _unit(x), _unit(y)
        somewhere, elsewhere = _norms(x)[:, None] > 0.5, _norms(y)[None, :] > 0.5
        return jnp.where(somewhere ^ elsewhere, 1.0, 0.5 * _squares(x, y))


def _centred(x: Cells, y: Others) -> tuple[Cells, Others]:
    middle = jax.lax.stop_gradient(0.5 * (jnp.mean(x, axis=0) + jnp.mean(y, axis=0)))[None, :]
    return x - middle, y - middle


def _squares(x: Cells, y: Others) -> Pairs:
    if x.shape[1] <= _FEW:
        apart = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
        for k in range(x.shape[1]):
            apart = apart + (x[:, k][:, None] - y[:, k][None, :]) ** 2
        return apart
    return _norms(x)[:, None] + _norms(y)[None, :] - 2.0 * (x @ y.T)


def _norms(x: Cells) -> Float[Array, " cell"]:
    return jnp.sum(x * x, axis=1)


def _unit(x: Cells) -> Cells:
    norms = _norms(x)
    there = norms > 0
    length = jnp.sqrt(jnp.where(there, norms, 1.0))
    return jnp.where(there[:, None], x / length[:, None], 0.0)
