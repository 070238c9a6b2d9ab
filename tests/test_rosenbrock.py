"""The linearly implicit solver: theory's order, linear systems by structure, stiff networks against scipy's Radau, and
the choice between both solvers."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from systems import Parabola, cascade, model_of, random_perturbation, random_state, randomised, rewired

from pinnsim.benchmark import kinetics_of, workload
from pinnsim.dynamics.gene_kinetics import LAYERS
from pinnsim.experiment import load_experiment
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.simulate import ODE, AtRest, FromState, Outcome, simulate
from pinnsim.simulate.adaptive import Field, Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.newton import shifted_solver
from pinnsim.simulate.rosenbrock import _DRIFTS, _GAMMA, _MIXED, _NODES, _POINTS, Rodas
from pinnsim.simulate.stiffness import fastest_rate, is_stiff
from pinnsim.specimens import random_networks
from pinnsim.tree import stack

NOW = jnp.zeros(())


def still(kinetics, perturbation=None):
    p = Perturbation.none(kinetics.table) if perturbation is None else perturbation
    return Field(kinetics, Constant(p.at(jnp.asarray(3.0))))


@eqx.filter_jit
def solved(field, state, shift, b):
    return shifted_solver(field, NOW, state, jnp.asarray(shift))(jnp.asarray(b))


@pytest.mark.parametrize(("pair", "order", "inside"), [(Tsitouras(), 5, 5), (Rodas(), 5, 5)])
def test_errors_shrink_at_the_order_of_theory(pair, order, inside):
    """Global error h^order; dense output within one step h^inside."""
    found = load_experiment("solver_accuracy").orders_of(pair, [150, 300])
    np.testing.assert_allclose(found, [order, inside], atol=0.2)


def test_the_coefficients_meet_every_order_condition():
    """Trees of up to five nodes, after Hairer and Wanner IV.7, table 7.1, and a solution that ends stiffly accurate."""
    size = len(_NODES)
    points, mixed = (np.array([[*row, *[0.0] * (size - len(row))] for row in rows]) for rows in (_POINTS, _MIXED))
    gamma = np.linalg.inv(np.eye(size) / _GAMMA - mixed)
    alpha, weights = points @ gamma, (points[-1] + np.eye(size)[-1]) @ gamma
    beta = alpha + gamma
    a, b = alpha.sum(1), beta.sum(1)
    trees = {
        1.0: [weights.sum()], 1 / 2: [weights @ b], 1 / 3: [weights @ a**2], 1 / 6: [weights @ beta @ b],
        1 / 4: [weights @ a**3], 1 / 8: [weights @ (a * (alpha @ b))], 1 / 12: [weights @ beta @ a**2],
        1 / 24: [weights @ beta @ beta @ b], 1 / 5: [weights @ a**4], 1 / 10: [weights @ (a**2 * (alpha @ b))],
        1 / 20: [weights @ (alpha @ b) ** 2, weights @ beta @ a**3], 1 / 15: [weights @ (a * (alpha @ a**2))],
        1 / 30: [weights @ (a * (alpha @ beta @ b))], 1 / 40: [weights @ beta @ (a * (alpha @ b))],
        1 / 60: [weights @ beta @ beta @ a**2], 1 / 120: [weights @ beta @ beta @ beta @ b],
    }  # fmt: skip
    for exact, found in trees.items():
        np.testing.assert_allclose(found, exact, atol=2e-14)
    np.testing.assert_allclose(a, _NODES, atol=1e-13)
    np.testing.assert_allclose(gamma.sum(1), _DRIFTS, atol=1e-13)
    np.testing.assert_allclose(weights, beta[-1], atol=1e-13)


@pytest.mark.parametrize("layers", LAYERS, ids="-".join)
def test_the_chain_is_eliminated_exactly(layers):
    """The solution by structure is that of the whole matrix, holds and knock-outs included."""
    kinetics = resolve(
        rewired(randomised(model_of(layers, unmeasured=1, own_inputs=True, residual="mlp"), 1, 0.5, 2.0), 1)
    ).kinetics
    for seed in range(3):
        field = still(kinetics, random_perturbation(kinetics.table, seed, 8.0))
        held = np.asarray(field.acting.edits.hold)
        state = jnp.where(held, field.acting.edits.level, random_state(kinetics, seed, 1.0) + 0.01)
        jacobian = np.asarray(jax.jacfwd(lambda x, field=field: field(NOW, x))(state))
        b = np.where(held, 0.0, np.random.default_rng(seed).normal(size=state.size))
        expected = np.linalg.solve(0.7 * np.eye(state.size) - jacobian, b)
        got = solved(field, state, 0.7, b)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_other_models_have_their_whole_matrix_solved():
    model, b = cascade(), jnp.asarray([1.0, -2.0])
    got = solved(still(model), jnp.ones(2), 2.0, b)
    np.testing.assert_allclose(got, np.linalg.solve([[2.5, 0.0], [-1.0, 2.3]], b), rtol=1e-12)


TIMES = np.array([0.0, 1e-3, 0.1, 1.0, 10.0])


@pytest.fixture(scope="module")
def networks():
    """Fifty random networks, perturbed; rates spread over up to six decades."""
    return random_networks(50)


def test_fifty_random_networks_agree_with_radau(networks):
    models, given, states = networks

    def one(times, lane):
        kinetics, p, x = lane
        limits = Limits(jnp.asarray(1e-8), jnp.asarray(1e-10), 20000)
        return integrate(kinetics, times, p, x, Rodas(), limits, moving=False)

    lanes = (stack(models), Perturbation.stack(given))
    got = eqx.filter_jit(run_lanes)(one, jnp.asarray(TIMES), (*lanes, jnp.stack(states)))
    assert (np.asarray(got.outcome) == Outcome.DONE).all()

    # The networks are constants of these programs: SciPy calls them a hundred thousand times.
    arrays, rest = eqx.partition(lanes, eqx.is_array)

    def field(y, number):
        k, p = eqx.combine(jax.tree.map(lambda leaf: leaf[number], arrays), rest)
        return k.vector_field(jnp.zeros(()), y, p)

    slope, jacobian = jax.jit(field), jax.jit(jax.jacfwd(field))
    for number, (p, x) in enumerate(zip(given, states, strict=True)):
        edits = p.at(jnp.zeros(()))
        begin = np.asarray(jnp.where(edits.hold, edits.level, x))
        exact = scipy.integrate.solve_ivp(
            lambda t, y, number=number: np.asarray(slope(y, number)),
            (TIMES[0], TIMES[-1]),
            begin,
            method="Radau",
            jac=lambda t, y, number=number: np.asarray(jacobian(y, number)),
            rtol=1e-9,
            atol=1e-11,
            t_eval=TIMES,
        ).y.T
        # Errors of about 10 x the tolerance per step, over many steps.
        np.testing.assert_allclose(got.states[number, 1:], exact[1:], rtol=2e-6, atol=1e-7, err_msg=f"network {number}")


def test_the_fastest_rate_is_that_of_the_jacobian(networks):
    models, given, states = networks
    for k, p, x in list(zip(models, given, states, strict=True))[:8]:
        field = Field(k, p)
        exact = np.abs(np.linalg.eigvals(np.asarray(jax.jacfwd(lambda y, f=field: f(NOW, y))(x)))).max()
        found = float(eqx.filter_jit(fastest_rate)(field, NOW, x))
        assert 0.3 * exact < found < 30 * exact  # of a matrix that is far from normal


def test_the_solver_is_chosen_by_need():
    span = jnp.asarray([0.0, 10.0])
    assert not is_stiff(jnp.asarray([1.0, 20.0]), span)
    assert is_stiff(jnp.asarray([1.0, 1e4]), span)
    assert not is_stiff(jnp.zeros(0), span)


def test_simulate_solves_a_stiff_model_by_itself_and_says_when_it_may_not():
    plain = model_of(("mrna", "protein"))
    fast = eqx.tree_at(lambda m: m.kinetics.decay.raw, plain, plain.kinetics.decay.raw + np.log(1e6) * jnp.eye(4)[0])
    start = FromState(resolve(fast).kinetics.default_state() + 0.3)
    times = [0.0, 1.0, 300.0]
    automatic = simulate(fast, times, initial=start)
    assert (np.asarray(automatic.outcome) == Outcome.DONE).all()
    assert (
        np.asarray(simulate(fast, times, initial=start, method=ODE(stiff=False)).outcome) == Outcome.MAX_STEPS
    ).all()
    exact = simulate(fast, times, initial=start, method=ODE(1e-9, 1e-11, stiff=True))
    np.testing.assert_allclose(automatic.states, exact.states, rtol=1e-4, atol=1e-6)


def test_both_agree_where_both_can():
    mild = model_of(("mrna", "protein"), unmeasured=1)
    lanes = ["none", "g0=0@2:", "drive(g1)=0.5@1:3"]
    found = [
        simulate(mild, [0.0, 2.0, 2.5, 9.0], lanes, initial=AtRest(), method=ODE(1e-8, 1e-10, stiff=stiff)).states
        for stiff in (True, False)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)


def test_stiff_batches_are_spread_over_devices():
    """In a process of its own, since the number of devices is fixed when a process starts; other blocks as well."""
    code = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
from pinnsim.benchmark import kinetics_of, own_of, workload
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, solve_many
work = workload(4, 2, 11, stiff=True)
kinetics = kinetics_of(work)
given = kinetics, [0.0, 1.0, 50.0], Perturbation.none(kinetics.table), jnp.asarray(work.begin), ODE(stiff=True)
assert len(jax.devices()) == 2
found = [solve_many(*given, own=own_of(work), block=b, devices=d) for b, d in ((16, 1), (3, 2))]
assert all((np.asarray(f.outcome) == 0).all() for f in found)
np.testing.assert_allclose(found[0].states, found[1].states, rtol=1e-10, atol=1e-12)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_blowing_up_is_never_done():
    model = Parabola(jnp.asarray(0.1))
    p = Perturbation.none(model.table)
    limits = Limits(jnp.asarray(1e-6), jnp.asarray(1e-9), 4096)
    got = eqx.filter_jit(integrate)(model, jnp.asarray([0.0, 1.0, 100.0]), p, jnp.zeros(1), Rodas(), limits, False)
    assert int(got.outcome) != Outcome.DONE
    assert float(got.reached) < 4.97  # pi / (2 sqrt 0.1)


def test_additive_promoters_are_eliminated_exactly_too():
    """Promoters that average Hill functions, rates over four decades, every regulator used more than once."""
    kinetics = kinetics_of(workload(6, 3, 2, stiff=True))
    state = jnp.asarray(np.random.default_rng(0).uniform(0.1, 3.0, 18))
    field, b = still(kinetics), np.random.default_rng(1).normal(size=18)
    jacobian = np.asarray(jax.jacfwd(lambda x: field(NOW, x))(state))
    got = solved(field, state, 0.3, b)
    np.testing.assert_allclose(got, np.linalg.solve(0.3 * np.eye(18) - jacobian, b), rtol=1e-9, atol=1e-12)
