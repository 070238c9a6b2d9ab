"""Solving: exact answers across switches, scipy's answers on random networks, failures as values, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from diffrax import Kvaerno5
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

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.treatment import Treatment

TIGHT = ODE(1e-10, 1e-12)
run = eqx.filter_jit(solve)
field = eqx.filter_jit(GeneKinetics.vector_field)


def treated(text: str, phases: int = 3) -> Perturbation:
    return Treatment.parse(text).resolve(CASCADE, phases)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("none", [(0, 0, None)]),
        ("signal(s)=2@3.3:3.7", [(0, 0, None), (3.3, 2, None), (3.7, 0, None)]),
        ("signal(s)=2@-5:1e-3", [(0, 2, None), (1e-3, 0, None)]),
        (
            "signal(s)=1@1:30, signal(s)=2@10:20",
            [(0, 0, None), (1, 1, None), (10, 3, None), (20, 1, None), (30, 0, None)],
        ),
        ("hold(a)=1.5@2:6", [(0, 0, None), (2, 0, 1.5), (6, 0, None)]),
        ("hold(a)=0@2:, signal(s)=3@1:", [(0, 0, None), (1, 3, None), (2, 0, 0.0)]),
        ("drive(a)=0.7@4:9", [(0, 0, None), (4, 0.7, None), (9, 0, None)]),
    ],
)
def test_switches_inside_long_steps_are_exact(text: str, pieces: list[tuple]) -> None:
    model, begin = cascade(), [0.4, 1.0]
    # The saved times leave the switches inside gaps that an adaptive step would cross.
    times = [0.0, 1.0, 3.5, 12.0, 50.0]
    got = run(model, jnp.asarray(times), treated(text), jnp.asarray(begin), TIGHT)
    assert int(got.outcome) == Outcome.DONE
    assert float(got.reached) == 50.0
    np.testing.assert_allclose(got.states, cascade_exact(model, times, pieces, begin), atol=1e-8, rtol=0)


def test_the_value_at_a_switch_is_the_one_before_it() -> None:
    got = run(cascade(), jnp.asarray([0.0, 2.0, 3.0, 4.0, 9.0]), treated("hold(a)=5@2:3"), jnp.zeros(2), TIGHT)
    np.testing.assert_allclose(got.states[:, 0], [0, 0, 5, 5 * np.exp(-0.5), 5 * np.exp(-3.0)], atol=1e-9)


def test_a_start_before_the_first_saved_time() -> None:
    times, model = [5.0, 7.0], cascade()
    got = run(model, jnp.asarray(times), treated("signal(s)=1@2:6"), jnp.zeros(2), TIGHT, jnp.asarray(0.0))
    exact = cascade_exact(model, times, [(0, 0, None), (2, 1, None), (6, 0, None)], [0, 0])
    np.testing.assert_allclose(got.states, exact, atol=1e-8)


@pytest.mark.parametrize(
    "curve", ["{dose=2;ka=0.6;ke=0.2;ic50=1;hill=2}", "{dose=2;ka=0.4;ke=0.4;ic50=1}", "{dose=2;ke=1;ic50=0.5}"]
)
def test_dose_curves_drive_the_equations(curve: str) -> None:
    p = treated(f"signal(s)=1{curve}@1:8")
    got = run(cascade(), jnp.asarray([0.0, 1.5, 4.0, 9.0]), p, jnp.zeros(2), TIGHT).states
    strength = jax.jit(lambda t: p.at(t).signal[0])

    def on(t: float, y: np.ndarray) -> list[float]:
        # The last moment before the switch off counts at its end, as in the solver.
        return [float(strength(jnp.asarray(min(t, np.nextafter(8.0, 0))))) - 0.5 * y[0], y[0] - 0.3 * y[1]]

    def off(t: float, y: np.ndarray) -> list[float]:
        return [-0.5 * y[0], y[0] - 0.3 * y[1]]

    x, exact = np.zeros(2), [np.zeros(2)]
    for field_, start, stop in ((on, 1.0, 1.5), (on, 1.5, 4.0), (on, 4.0, 8.0), (off, 8.0, 9.0)):
        x = scipy.integrate.solve_ivp(field_, (start, stop), x, rtol=1e-10, atol=1e-12, method="DOP853").y[:, -1]
        exact.append(x)
    np.testing.assert_allclose(got, np.array(exact)[[0, 1, 2, 4]], atol=1e-8)


def scipys(k: GeneKinetics, p: Perturbation, x: jax.Array, times: np.ndarray, method: str) -> np.ndarray:
    jacobian = jax.jit(jax.jacfwd(lambda y: k.vector_field(jnp.zeros(()), y, p)))
    extra = {"jac": lambda t, y: np.asarray(jacobian(jnp.asarray(y)))} if method == "Radau" else {}
    found = scipy.integrate.solve_ivp(
        lambda t, y: np.asarray(field(k, jnp.asarray(t), jnp.asarray(y), p)),
        (times[0], times[-1]), np.asarray(x), t_eval=times, rtol=1e-10, atol=1e-12, method=method, **extra,
    )  # fmt: skip
    assert found.success
    return found.y.T


def since_ever(table, seed: int) -> Perturbation:
    """A random perturbation without switches, so that scipy needs no pieces."""
    p = random_perturbation(table, seed, 10.0, phases=1)
    forever = (jnp.full(1, -jnp.inf), jnp.full(1, jnp.inf), jnp.zeros((1, len(table.species))), jnp.zeros(1))
    return eqx.tree_at(lambda q: (q.start, q.stop, q.hold, q.ke), p, forever)


@pytest.fixture(scope="module")
def template():
    return model_of(("unspliced", "spliced", "protein"), genes=3, unmeasured=1, own_inputs=True, residual="mlp")


@pytest.mark.parametrize("seed", range(9))
def test_random_networks_as_scipy_solves_them(template, seed: int) -> None:
    k = resolve(rewired(randomised(template, seed, weights=2.0), seed).kinetics)
    x, p, times = random_state(k, seed, 1.0), since_ever(k.table, seed), np.array([0.0, 0.5, 3.0, 10.0])
    got = run(k, jnp.asarray(times), p, x, TIGHT)
    assert int(got.outcome) == Outcome.DONE
    exact = scipys(k, p, x, times, "LSODA")
    np.testing.assert_allclose(got.states, exact, rtol=1e-6, atol=1e-7 * max(1.0, np.abs(exact).max()))


@pytest.fixture(scope="module")
def stiff(template) -> GeneKinetics:
    """Splicing and decay a hundred thousand times faster than the proteins."""
    k = resolve(randomised(template, 4).kinetics)
    return eqx.tree_at(
        lambda q: (q.splicing, q.decay, q.synthesis), k, (k.splicing * 3e4, k.decay * 1e5, k.synthesis * 1e5)
    )


def test_stiff_network_as_scipy_solves_it(stiff: GeneKinetics) -> None:
    x, times = random_state(stiff, 4, 1.0), np.array([0.0, 1e-4, 1.0, 100.0])
    p = Perturbation.none(stiff.table)
    got = run(stiff, jnp.asarray(times), p, x, ODE(1e-6, 1e-8, Kvaerno5()))
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.states, scipys(stiff, p, x, times, "Radau"), rtol=1e-4, atol=1e-5)


def test_failure_is_a_value_and_says_how_far_it_came(stiff: GeneKinetics) -> None:
    x, times = random_state(stiff, 4, 1.0), jnp.linspace(0.0, 100.0, 2001)
    got = run(stiff, times, Treatment.parse("g0=0@90:").resolve(stiff.table), x, ODE(1e-6, 1e-9, max_steps=2048))
    assert int(got.outcome) == Outcome.MAX_STEPS
    assert 0.0 < float(got.reached) < 90.0


def test_what_is_not_a_number_is_not_finite(template) -> None:
    k = resolve(template.kinetics)
    times, p = jnp.asarray([0.0, 5.0]), Perturbation.none(k.table)
    broken = eqx.tree_at(lambda q: q.decay, k, k.decay.at[0].set(jnp.nan))
    for kinetics, state in ((broken, k.default_state()), (k, k.default_state().at[1].set(jnp.nan))):
        got = run(kinetics, times, p, state, TIGHT)
        assert int(got.outcome) == Outcome.NOT_FINITE
        assert float(got.reached) == 0.0


def test_blowing_up_is_never_done() -> None:
    p = Perturbation.none(Parabola(jnp.asarray(0.1)).table)
    got = run(Parabola(jnp.asarray(0.1)), jnp.asarray([0.0, 1.0, 100.0]), p, jnp.zeros(1), ODE(max_steps=512))
    assert int(got.outcome) != Outcome.DONE
    assert float(got.reached) < 4.97  # pi / (2 sqrt 0.1)


def test_a_failed_lane_leaves_the_others_and_their_gradients_alone() -> None:
    p = treated("signal(s)=1@1:2", 1)
    times, method = jnp.asarray([0.0, 1.5, 4.0]), ODE(1e-8, 1e-10, max_steps=64)
    good = jnp.asarray([[0.3, 0.1], [0.2, 2.0], [1.0, 1.0]])

    def total(model: AbstractKinetics, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        got = jax.vmap(lambda x: solve(model, times, p, x, method))(states)
        kept = jnp.where((got.outcome == Outcome.DONE)[:, None, None], got.states, 0.0)
        return jnp.sum(kept**2), kept

    slope = eqx.filter_jit(eqx.filter_value_and_grad(total, has_aux=True))
    for bad in (jnp.nan, jnp.inf):
        (_, whole), alone = slope(cascade(), good)
        (_, among), batch = slope(cascade(), good.at[1].set(bad))
        np.testing.assert_allclose(among[jnp.asarray([0, 2])], whole[jnp.asarray([0, 2])], rtol=1e-12)
        assert not np.asarray(among[1]).any()
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(batch))
    (_, _), two = slope(cascade(), good.at[1].set(0.0))
    assert not np.allclose(np.asarray(two.loss), np.asarray(alone.loss))


def test_gradients_are_those_of_central_differences() -> None:
    """Of a reading through the solver, across a pulse, by every parameter; relative to the largest."""
    model = randomised(
        model_of(("mrna", "protein"), genes=3, unmeasured=1, own_inputs=True, residual="mlp"), 2, 0.4, 1.0
    )
    times = jnp.asarray([0.0, 4.0, 9.0])
    p = Treatment.parse("signal(food)=1@2:5, g0*3@3:8, drive(g1)=0.5@1:").resolve(model.table)
    begin = random_state(model.kinetics, 3, 0.5) + 0.2
    params, static = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    @jax.jit
    def reading(values: jax.Array) -> jax.Array:
        cell = resolve(eqx.combine(unravel(values), static))
        states = solve(cell.kinetics, times, p, begin, ODE(1e-12, 1e-14)).states
        shown = jax.vmap(cell.observation.readout)(states[:, :3])
        return jnp.sum(weights * shown)

    slope = jax.jit(jax.grad(reading))(flat)
    # What is frozen has no gradient by intent, so differences are taken of the others.
    moving = np.flatnonzero(np.asarray(slope) != 0)
    assert moving.size > 80
    h, directions = 1e-4, jnp.eye(flat.size)[moving]
    moved = jax.jit(lambda step: jax.vmap(lambda d: reading(flat + step * d))(directions))
    # Fourth order, so that a step can be far above the solver's own error.
    central = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    error = np.abs(np.asarray(central) - np.asarray(slope)[moving]).max() / np.abs(np.asarray(slope)).max()
    assert error < 1e-6
