"""Linear systems solved side by side: equal to numpy's for every size, and never quietly wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim.lanes import lanes_last
from pinnsim.simulate.elimination import LARGEST, linear_solver

solved = eqx.filter_jit(lambda matrix, b: linear_solver(matrix)(b))


def dominant(size: int, seed: int = 0) -> np.ndarray:
    """Diagonals of both signs and over four decades, with couplings of a few tenths of them."""
    rng = np.random.default_rng(seed)
    couplings = rng.normal(size=(size, size)) * 0.3 / np.sqrt(size)
    sizes = 10.0 ** rng.uniform(-2, 2, size) * rng.choice([-1.0, 1.0], size)
    return sizes[:, None] * (np.eye(size) + couplings)


@pytest.mark.parametrize("size", [1, 4, 7, 10, 23, LARGEST + 1])
def test_it_is_numpys_solution(size):
    matrix, b = dominant(size), np.random.default_rng(1).normal(size=size)
    np.testing.assert_allclose(solved(jnp.asarray(matrix), jnp.asarray(b)), np.linalg.solve(matrix, b), rtol=1e-11)


def test_lanes_are_solved_each_on_their_own():
    matrices = np.stack([dominant(12, seed) for seed in range(5)])
    b = np.random.default_rng(1).normal(size=(5, 12))
    run = jax.jit(lanes_last(lambda _, lane: linear_solver(lane[0])(lane[1])))
    found = run(jnp.zeros(()), (jnp.moveaxis(jnp.asarray(matrices), 0, -1), jnp.asarray(b).T))
    np.testing.assert_allclose(found.T, np.linalg.solve(matrices, b[..., None])[..., 0], rtol=1e-11)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_would_need_other_pivots_is_not_a_number(kind):
    """A second pivot of ever smaller size: the solution is either right or NaN, and NaN where rounding ruins it."""
    b, nothing = np.array([1.0, 2.0], kind), []
    for small in 10.0 ** -np.arange(0.0, 20.0):
        matrix = np.array([[1.0, 1.0], [1.0, 1.0 + small]], kind)
        found = np.asarray(solved(jnp.asarray(matrix), jnp.asarray(b)))
        nothing.append(bool(np.isnan(found).all()))
        if not nothing[-1]:
            exact = np.linalg.solve(matrix.astype(float), b.astype(float))
            np.testing.assert_allclose(found, exact, rtol=30 * np.finfo(kind).eps ** 0.5)
    assert not nothing[0]
    assert all(nothing[5:])
    singular = np.array([[0.0, 1.0], [1.0, 0.0]], kind)
    assert np.isnan(np.asarray(solved(jnp.asarray(singular), jnp.asarray(b)))).all()


def test_what_is_not_a_number_stays_so():
    matrix = dominant(7)
    matrix[3, 2] = np.nan
    assert np.isnan(np.asarray(solved(jnp.asarray(matrix), jnp.ones(7)))).all()
