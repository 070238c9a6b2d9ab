"""Damped Gauss-Newton: priors per parameter, and no step where derivatives are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from tqdm import tqdm

from pinnsim.fit.least_squares import Minimum, Squares, least_squares

GIVEN = np.array([[1.0, 0.5], [0.2, 2.0], [1.0, 1.0]])
SEEN = np.array([1.0, -2.0, 0.5])


def linear(theta: Array, given: tuple[Array, Array]) -> Array:
    """`A theta - b`."""
    return given[0] @ theta - given[1]


def rooted(theta: Array, given: Array) -> Array:
    """Finite where the root ends, its slope is not."""
    return jnp.sqrt(jnp.maximum(theta - given, 0.0)) + 1.0


def solve(residuals, start, squares) -> Minimum:
    with tqdm(disable=True) as bar:
        return least_squares(residuals, jnp.asarray(start), squares, most=30, bar=bar)


def test_every_parameter_has_its_own_prior() -> None:
    sd = np.array([0.3, 5.0])
    found = solve(linear, np.zeros(2), Squares((jnp.asarray(GIVEN), jnp.asarray(SEEN)), jnp.asarray(sd)))
    curvature = GIVEN.T @ GIVEN + np.diag(1.0 / sd**2)
    np.testing.assert_allclose(found.vector, np.linalg.solve(curvature, GIVEN.T @ SEEN), rtol=1e-3)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(curvature), rtol=1e-9)
    assert found.finite
    assert found.converged


def test_without_finite_derivatives_there_is_no_step_and_it_is_told() -> None:
    found = solve(rooted, np.array([1.0, 3.0]), Squares(jnp.asarray([1.0, 1.0]), jnp.asarray(2.0)))
    assert np.isfinite(found.value)
    assert not found.finite
    assert not found.converged
    assert found.steps == 0
    np.testing.assert_allclose(found.covariance, 4.0 * np.eye(2))
    assert found.vector == pytest.approx([1.0, 3.0])
