"""Exponential steps: second order beside scipy, exact for pure loss, and derivatives at rest that stay at rest."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax import Array
from problems import prior_model

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.fit import Stepped
from pinnsim.fit.stepped import losses, phi_1, phi_2
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate.steady import steady_state

KEYS = jnp.zeros((1, 2), jnp.uint32)
TIMES = jnp.asarray([0.0, 4.0, 20.0])


@pytest.fixture(scope="module")
def kinetics() -> GeneKinetics:
    layers = ("unspliced", "spliced", "protein")
    return resolve(prior_model("abundance", layers=layers, regulation={"hidden": "none"}).center.kinetics)


@eqx.filter_jit
def ends(kinetics: GeneKinetics, begin: Array, grid: Array) -> Array:
    plain = Perturbation.none(kinetics.table)
    return Stepped().courses(kinetics, TIMES, grid, plain, begin[None], KEYS)[0][0]


def grid_of(substeps: int) -> Array:
    nodes = np.concatenate([np.linspace(0, 4, substeps + 1), np.linspace(4, 20, substeps + 1)[1:]])
    return jnp.asarray(nodes)


def test_errors_fall_as_the_square_of_the_step(kinetics: GeneKinetics) -> None:
    begin = 3.0 * kinetics.default_state() + jnp.arange(len(kinetics.table.species), dtype=float)
    plain = Perturbation.none(kinetics.table)
    field = jax.jit(lambda x: kinetics.vector_field(jnp.zeros(()), x, plain))
    tight: Any = {"method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
    exact: Any = scipy.integrate.solve_ivp(lambda _, x: np.asarray(field(x)), (0, 20), begin, t_eval=TIMES, **tight)
    coarse, fine = (float(jnp.abs(ends(kinetics, begin, grid_of(n)) - exact.y.T).max()) for n in (20, 40))
    assert fine < 2e-2 * float(jnp.abs(begin).max())
    assert 3.0 < coarse / fine < 6.0


def test_derivatives_at_rest_are_those_of_the_rest(kinetics: GeneKinetics) -> None:
    """Steps far longer than the fastest loss: the state stays at rest as its rates change, and so must its slope."""
    plain = Perturbation.none(kinetics.table)

    @eqx.filter_jit
    def slopes(log_rate: Array) -> tuple[Array, Array, Array]:
        def both(log_rate: Array) -> Array:
            model = eqx.tree_at(lambda k: k.splicing, kinetics, jnp.exp(log_rate) * kinetics.splicing)
            rest = steady_state(model, plain).state
            return jnp.stack([rest, Stepped().courses(model, TIMES, grid_of(1), plain, rest[None], KEYS)[0][0, -1]])

        forward = jax.jvp(both, (log_rate,), (jnp.ones(()),))[1]
        backward = jax.grad(lambda value: jnp.sum(both(value)[1]))(log_rate)
        return forward[0], forward[1], backward

    at_rest, stepped, backward = slopes(jnp.log(jnp.asarray(5.0)))
    np.testing.assert_allclose(stepped, at_rest, atol=1e-8 * float(jnp.abs(at_rest).max()))
    np.testing.assert_allclose(backward, jnp.sum(at_rest), rtol=1e-6)


def test_functions_of_the_step_are_smooth_where_they_change_form(kinetics: GeneKinetics) -> None:
    z = np.asarray([1e-12, 1e-4, 0.00999999, 0.01000001, 0.3, 40.0])
    exact = (np.expm1(-z) + z) / z**2
    np.testing.assert_allclose(phi_2(jnp.asarray(z))[2:], exact[2:], rtol=1e-9)
    np.testing.assert_allclose(phi_2(jnp.asarray(z))[:2], 0.5 - z[:2] / 6, rtol=1e-8)
    np.testing.assert_allclose(phi_1(jnp.asarray(z)), -np.expm1(-z) / z, rtol=1e-12)
    assert float(phi_1(jnp.zeros(()))) == 1.0
    jacobian = jax.jacfwd(lambda x: kinetics.vector_field(jnp.zeros(()), x, Perturbation.none(kinetics.table)))(
        kinetics.default_state()
    )
    edits = Perturbation.none(kinetics.table).at(jnp.zeros(()))
    np.testing.assert_allclose(losses(kinetics, edits), -jnp.diagonal(jacobian), rtol=1e-10)
