"""Our own explicit solver and its batches: exact answers, theory's order, the reference solver lane by lane, and the
same answer whatever runs beside a lane."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import (
    CASCADE,
    Parabola,
    cascade,
    cascade_exact,
    model_of,
    random_perturbation,
    random_state,
    randomised,
    rewired,
)

from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.simulate.adaptive import Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.treatment import Treatment
from pinnsim.tree import stack

PULSES = [
    ("none", [(0, 0, None)]),
    ("signal(s)=2@3.3:3.7", [(0, 0, None), (3.3, 2, None), (3.7, 0, None)]),
    ("signal(s)=2@-5:1e-3", [(0, 2, None), (1e-3, 0, None)]),
    ("signal(s)=1@1:30, signal(s)=2@10:20", [(0, 0, None), (1, 1, None), (10, 3, None), (20, 1, None), (30, 0, None)]),
    ("hold(a)=1.5@2:6", [(0, 0, None), (2, 0, 1.5), (6, 0, None)]),
    ("hold(a)=0@2:, signal(s)=3@1:", [(0, 0, None), (1, 3, None), (2, 0, 0.0)]),
    ("drive(a)=0.7@4:9", [(0, 0, None), (4, 0.7, None), (9, 0, None)]),
]


def lane(shared, own):
    times, rtol, atol = shared
    kinetics, perturbation, state = own
    return integrate(kinetics, times, perturbation, state, Tsitouras(), Limits(rtol, atol, 4096), moving=True)


compiled = eqx.filter_jit(run_lanes)


def run(kinetics, times, perturbations, states, rtol=1e-10, atol=1e-12, block=None):
    """Lanes of stacked models, perturbations and states."""
    shared = (jnp.asarray(times), jnp.asarray(rtol), jnp.asarray(atol))
    return compiled(lane, shared, (kinetics, perturbations, states), block=block)


def cascades(texts, states):
    models = stack([cascade()] * len(texts))
    given = Perturbation.stack([Treatment.parse(text).resolve(CASCADE, 3) for text in texts])
    return models, given, jnp.asarray(states)


def test_switches_inside_long_steps_are_exact_in_every_lane():
    # The saved times leave the switches inside gaps that an adaptive step would cross; one lies on a switch.
    times, begin = [0.0, 1.0, 3.5, 12.0, 50.0], [0.4, 1.0]
    models, given, states = cascades([text for text, _ in PULSES], [begin] * len(PULSES))
    got = run(models, times, given, states)
    assert (np.asarray(got.outcome) == Outcome.DONE).all()
    assert (np.asarray(got.reached) == 50.0).all()
    for k, (_, pieces) in enumerate(PULSES):
        expected = cascade_exact(cascade(), times, pieces, begin)
        np.testing.assert_allclose(got.states[k], expected, atol=1e-8, rtol=0)


def decay_error(rtol: float, times: np.ndarray) -> float:
    models, given, states = cascades(["none"], [[1.0, 0.0]])
    got = run(models, times, given, states, rtol, 1e-14)
    return float(np.abs(got.states[0] - cascade_exact(cascade(), times, [(0, 0, None)], [1.0, 0.0])).max())


def test_the_error_follows_the_tolerance_at_saved_times_too():
    """An adaptive fifth-order pair: error ~ rtol, within a small factor, on steps and between them."""
    dense, ends = np.linspace(0, 20, 400), np.asarray([0.0, 20.0])
    for times in (dense, ends):
        errors = np.array([decay_error(rtol, times) for rtol in (1e-5, 1e-7, 1e-9)])
        assert (errors < 10 * np.array([1e-5, 1e-7, 1e-9])).all()
        slopes = np.diff(np.log(errors)) / np.diff(np.log([1e-5, 1e-7, 1e-9]))
        assert (np.abs(slopes - 1.0) < 0.25).all()


@pytest.mark.parametrize("times", [2, 401])
def test_many_saved_times_cost_no_further_steps(times):
    """The number of right-hand sides does not depend on how many times are reported."""
    models, given, states = cascades(["none"], [[1.0, 0.0]])
    shared = (jnp.linspace(0.0, 20.0, times), jnp.asarray(1e-6), jnp.asarray(1e-9))
    one = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, (models, given, states))
    few = 60
    got = integrate(one[0], shared[0], one[1], one[2], Tsitouras(), Limits(shared[1], shared[2], few), moving=False)
    assert int(got.outcome) == Outcome.DONE


@pytest.fixture(scope="module")
def batch():
    """Twelve models of one network shape with random parameters, edges, states and perturbations."""
    plain = model_of(("unspliced", "spliced", "protein"), genes=4, unmeasured=1, own_inputs=True, residual="mlp")
    models = [resolve(rewired(randomised(plain, s, 0.5, 2.0), s)).kinetics for s in range(12)]
    given = [random_perturbation(models[0].table, s, 8.0) for s in range(12)]
    states = [random_state(models[0], s, 1.0) for s in range(12)]
    return stack(models), Perturbation.stack(given), jnp.stack(states)


TIMES = np.linspace(0.0, 8.0, 9)


def test_every_lane_is_the_reference_solvers(batch):
    got = run(batch[0], TIMES, batch[1], batch[2], 1e-9, 1e-11)
    assert (np.asarray(got.outcome) == Outcome.DONE).all()
    method = ODE(1e-9, 1e-11, max_steps=65536)
    exact = eqx.filter_jit(eqx.filter_vmap(lambda k, p, x: solve(k, jnp.asarray(TIMES), p, x, method)))(*batch)
    np.testing.assert_allclose(got.states, exact.states, rtol=1e-6, atol=1e-7)


def test_neither_block_nor_order_nor_neighbours_matter(batch):
    whole = run(batch[0], TIMES, batch[1], batch[2], 1e-7, 1e-9)
    order = np.random.default_rng(0).permutation(12)
    arrays, static = eqx.partition(batch, eqx.is_array)
    others = eqx.combine(jax.tree.map(lambda a: a[order], arrays), static)
    alone = eqx.combine(jax.tree.map(lambda a: a[:1], arrays), static)
    for block in (1, 5, 12):
        got = run(batch[0], TIMES, batch[1], batch[2], 1e-7, 1e-9, block=block)
        np.testing.assert_allclose(got.states, whole.states, rtol=1e-10, atol=1e-12)
    moved = run(others[0], TIMES, others[1], others[2], 1e-7, 1e-9)
    np.testing.assert_allclose(moved.states, whole.states[order], rtol=1e-10, atol=1e-12)
    solo = run(alone[0], TIMES, alone[1], alone[2], 1e-7, 1e-9)
    np.testing.assert_allclose(solo.states[0], whole.states[0], rtol=1e-10, atol=1e-12)


def test_a_thousand_lanes_that_fail_leave_the_good_ones_as_if_alone():
    """Lanes that blow up, are not a number, or are too stiff for their steps, between good ones: all flagged."""
    table = Parabola(jnp.asarray(0.0)).table
    good = -1.0 - 0.1 * np.arange(100.0)
    offsets = np.concatenate([good, np.full(400, 0.5), np.full(300, np.nan), np.full(300, -1e12)])
    order = np.random.default_rng(1).permutation(offsets.size)
    models = eqx.filter_vmap(lambda c: Parabola(c, table, "min"))(jnp.asarray(offsets[order]))
    given = Perturbation.stack([Perturbation.none(table)] * offsets.size)
    got = run(models, [0.0, 3.0, 30.0], given, jnp.zeros((offsets.size, 1)))
    done = np.asarray(got.outcome) == Outcome.DONE
    assert np.array_equal(np.sort(order[done]), np.arange(100))
    assert (np.asarray(got.reached)[~done] < 30.0).all()
    assert set(np.asarray(got.outcome)[np.isnan(offsets[order])].tolist()) == {Outcome.NOT_FINITE}
    root = np.sqrt(-offsets[order][done])
    np.testing.assert_allclose(got.states[done, :, 0], -root[:, None] * np.tanh(root[:, None] * [0, 3, 30]), atol=1e-8)


def test_several_devices_give_the_same(batch):
    """Two host devices in a process of their own, since their number is fixed when a process starts."""
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from pinnsim.simulate.adaptive import Limits, integrate
from pinnsim.simulate.batch import run_lanes
lanes = jnp.linspace(0.1, 2.0, 75)
one = lambda limit, x: jax.lax.while_loop(lambda c: c[0] < limit, lambda c: (c[0] + x, c[1] * x), (x, x))[1]
assert len(jax.devices()) == 2
found = [jax.jit(lambda l, n=n: run_lanes(one, jnp.asarray(9.0), l, block=8, devices=n))(lanes) for n in (1, 2)]
np.testing.assert_array_equal(*found)
assert found[0].shape == (75,)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_tolerances_and_times_compile_once(batch):
    counted = eqx.filter_jit(eqx.debug.assert_max_traces(max_traces=1)(lane))
    one = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, batch)
    for k in range(3):
        shared = (jnp.asarray(TIMES) + 0.1 * k, jnp.asarray(10.0 ** (-5 - k)), jnp.asarray(1e-9 / (k + 1)))
        counted(shared, one)
