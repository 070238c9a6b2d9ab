"""The Lyapunov equation: scipy's answers, small residuals, derivatives of both orders, no answer without stability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jaxtyping import Array

from pinnsim.simulate.lyapunov import lyapunov


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_lyapunov_as_scipy_solves_it(spread: float) -> None:
    rng = np.random.default_rng(3)
    solve = jax.jit(lyapunov)
    for _ in range(5):
        rates = 10 ** rng.uniform(-spread, spread, 8)
        jacobian = rates[:, None] * (0.3 * rng.standard_normal((8, 8)) - 1.5 * np.eye(8))
        stable = np.linalg.eigvals(jacobian).real.max() < 0
        factor = rng.standard_normal((8, 3))
        noise = factor @ factor.T
        got = solve(jnp.asarray(jacobian), jnp.asarray(noise))
        assert bool(got.stable) == stable
        if stable:
            x = np.asarray(got.solution)
            residual = jacobian @ x + x @ jacobian.T + noise
            scale = np.abs(jacobian) @ np.abs(x)
            assert np.all(np.abs(residual) <= 1e-11 * (scale + scale.T + np.abs(noise)))
            exact = scipy.linalg.solve_continuous_lyapunov(jacobian, -noise)
            np.testing.assert_allclose(x, exact, atol=1e-8 * np.abs(exact).max())
        else:
            assert np.isnan(np.asarray(got.solution)).all()


def test_lyapunov_derivatives_of_both_orders() -> None:
    jacobian = jnp.asarray([[-1.0, -2.0], [1.0, -1.5]])
    noise = jnp.diag(jnp.asarray([1.0, 0.5]))
    got = lyapunov(jacobian, noise).solution
    np.testing.assert_allclose(got, [[0.4428571429, 0.0285714286], [0.0285714286, 0.1857142857]], atol=1e-10)

    weight, way = jnp.asarray([[1.0, 0.3], [-0.2, 2.0]]), jnp.asarray([[0.3, -0.4], [0.2, 0.5]])

    def value(t: Array) -> Array:
        return jnp.sum(weight * lyapunov(jacobian + t * way, noise + t * jnp.eye(2)).solution)

    slopes = jax.jit(lambda t: (value(t), jax.grad(value)(t), jax.jacfwd(jax.grad(value))(t)))
    at, h = 0.1, 1e-4
    here, above, below = (slopes(jnp.asarray(t)) for t in (at, at + h, at - h))
    for order in (0, 1):
        np.testing.assert_allclose(here[order + 1], (above[order] - below[order]) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(
    "jacobian",
    [[[0.6, 0.0], [0.0, -2.6]], [[0.0, 1.0], [-1.0, 0.0]], [[-1.0, 1.0], [1.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]],
)
def test_what_is_not_stable_has_no_solution(jacobian: list) -> None:
    for turn in (0.0, 0.3):
        basis = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        got = lyapunov(jnp.asarray(basis @ np.array(jacobian) @ basis.T), jnp.eye(2))
        assert not bool(got.stable)
        assert np.isnan(np.asarray(got.solution)).all()
