"""Linear noise: exact where rates are linear, right to first order elsewhere, and refused where it does not exist."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from jaxtyping import Array
from systems import Parabola, model_of, random_state, randomised, toggle

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.reactions import Custom, Reaction, ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.experiment import load_experiment
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import Outcome, steady_state
from pinnsim.simulate.linear_noise import GivenCovariance, LinearNoise, StationaryCovariance, linear_noise
from pinnsim.simulate.stationary import correlation_of, lagged_covariance, stationary_covariance

run = eqx.filter_jit(linear_noise)
stationary = eqx.filter_jit(stationary_covariance)
later = eqx.filter_jit(lagged_covariance)
TIGHT = {"rtol": 1e-9, "atol": 1e-11}

accuracy = load_experiment("solver_accuracy")
two_stage, autoregulated, exchange = accuracy.two_stage, accuracy.autoregulated, accuracy.exchange
lna_fano, exact_fano = accuracy.lna_fano, accuracy.exact_fano


def none(kinetics: AbstractKinetics) -> Perturbation:
    return Perturbation.none(kinetics.table)


def phase(kinetics: AbstractKinetics, start: float, stop: float, **edits: list[float]) -> Perturbation:
    """One phase from `start` to `stop`."""
    new = {"start": [start], "stop": [stop]} | {name: [row] for name, row in edits.items()}
    return dataclasses.replace(none(kinetics), **{name: jnp.asarray(row) for name, row in new.items()})


def test_two_stage_expression_at_rest_is_exact() -> None:
    k = two_stage()
    got = stationary(k, jnp.asarray([5.0, 50.0]), none(k), 1.0)
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.covariance, [[5.0, 10.0], [10.0, 150.0]], rtol=1e-12)


def test_two_stage_expression_on_its_way_is_exact() -> None:
    k, times = two_stage(), jnp.asarray([0.0, 1.0, 60.0])
    got = run(k, times, none(k), jnp.zeros(2), LinearNoise(1.0, **TIGHT))
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.mean[1, 1], 11.8202107398, rtol=1e-9)
    np.testing.assert_allclose(got.mean[2], [5.0, 50.0], rtol=1e-8)
    np.testing.assert_allclose(got.covariance[2], [[5.0, 10.0], [10.0, 150.0]], rtol=1e-8)
    np.testing.assert_array_equal(got.covariance[0], 0.0)
    # From nothing, RNA numbers are Poisson at all times.
    np.testing.assert_allclose(got.covariance[1, 0, 0], got.mean[1, 0], rtol=1e-8)


def test_system_size_scales_covariance_only() -> None:
    k, times = autoregulated(), jnp.asarray([0.0, 0.5, 2.0])
    one, many = (run(k, times, none(k), jnp.ones(1), LinearNoise(s, **TIGHT)) for s in (1.0, 1e6))
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-12)
    np.testing.assert_allclose(1e6 * many.covariance, one.covariance, rtol=1e-12)


def test_autoregulation_and_its_error_of_first_order() -> None:
    lna = float(eqx.filter_jit(lna_fano)(autoregulated()))
    assert abs(lna - 0.41777937) < 5e-9
    assert abs(exact_fano(100.0, 20.0) - 0.41739110) < 5e-9
    assert abs(exact_fano(1000.0, 200.0) - 0.41773395) < 5e-9
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    errors = [abs(lna - exact_fano(100.0 * s, 20.0 * s)) for s in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope + 1.0) < 0.2


def test_gradient_of_a_fano_factor() -> None:
    def fano(k: Array, half: Array) -> Array:
        where = lambda m: (m.law.parameters["k"], m.law.parameters["K"])  # noqa: E731
        return lna_fano(eqx.tree_at(where, autoregulated(), (k, half)))

    slope = jax.jit(jax.grad(fano, (0, 1)))(jnp.asarray(100.0), jnp.asarray(20.0))
    value, h = jax.jit(fano), 1e-3
    for which, got in enumerate(slope):
        at = [np.array([100.0, 20.0]) + sign * h * np.eye(2)[which] for sign in (1, -1)]
        moved = [float(value(*map(jnp.asarray, x))) for x in at]
        assert abs(float(got) - (moved[0] - moved[1]) / (2 * h)) < 1e-7 * abs(float(got)) + 1e-10


def test_gradient_through_time() -> None:
    times, method = jnp.asarray([0.0, 1.0]), LinearNoise(1.0, **TIGHT)

    def spread(k: Array) -> Array:
        model = eqx.tree_at(lambda m: m.law.parameters["k"], autoregulated(), k)
        return linear_noise(model, times, none(model), jnp.ones(1), method).covariance[1, 0, 0]

    slope, value, h = jax.jit(jax.grad(spread))(jnp.asarray(100.0)), jax.jit(spread), 1e-2
    central = (value(jnp.asarray(100.0 + h)) - value(jnp.asarray(100.0 - h))) / (2 * h)
    np.testing.assert_allclose(slope, central, rtol=1e-6)


def rest_of(kinetics: ReactionSystem, start: list[float]) -> Array:
    """Where the rate equations go, to rounding: the totals are those of `start`."""
    field = jax.jit(lambda x: kinetics.vector_field(jnp.zeros(()), x, none(kinetics)))
    totals = scipy.linalg.null_space(kinetics.stoichiometry().T).T
    found = scipy.integrate.solve_ivp(lambda _, x: np.asarray(field(x)), (0, 200), start, method="LSODA", rtol=1e-8)
    x = found.y[:, -1]
    jacobian = jax.jit(jax.jacfwd(field))
    for _ in range(3):
        gap = np.concatenate([np.asarray(field(x)), totals @ (x - np.asarray(start))])
        x = x - np.linalg.lstsq(np.concatenate([np.asarray(jacobian(x)), totals]), gap, rcond=None)[0]
    return jnp.asarray(x)


def test_conserved_totals_do_not_fluctuate() -> None:
    k = exchange()
    rest = rest_of(k, [40.0, 0.0, 15.0, 0.0])
    got = stationary(k, rest, none(k), 1.0)
    assert int(got.outcome) == Outcome.DONE
    names = list(k.table.species)
    totals = np.array([[float(n in law) for n in names] for law in (("A", "B", "C"), ("E", "C"))])
    assert np.abs(totals @ np.asarray(got.covariance)).max() < 1e-12
    # The same as after a long time from cells that are all alike.
    time = jnp.asarray([0.0, 100.0])
    long = run(k, time, none(k), rest, LinearNoise(1.0, **TIGHT))
    np.testing.assert_allclose(long.covariance[1], got.covariance, atol=1e-7)
    assert np.abs(totals @ np.asarray(long.covariance[1])).max() < 1e-10


def test_a_switched_off_reaction_makes_a_total() -> None:
    """Without binding, A and B are binomial, and E and C do not fluctuate at all."""
    k = exchange()
    stopped = phase(k, -np.inf, np.inf, factor=[1.0, 1.0, 0.0, 0.0])
    got = stationary(k, jnp.asarray([12.0, 28.0, 9.0, 6.0]), stopped, 1.0)
    variance = 40 * 0.3 * 0.7
    expected = np.zeros((4, 4))
    expected[:2, :2] = [[variance, -variance], [-variance, variance]]
    np.testing.assert_allclose(got.covariance, expected, atol=1e-12)


def test_a_hold_ends_fluctuations_and_what_follows_grows_anew() -> None:
    k = two_stage()
    held = phase(k, 1.0, 30.0, hold=[1.0, 0.0], level=[5.0, 0.0])
    got = run(k, jnp.asarray([0.0, 1.0, 1.5, 30.0, 31.0]), held, jnp.asarray([5.0, 50.0]), LinearNoise(1.0, **TIGHT))
    m, both, p = got.covariance[:, 0, 0], got.covariance[:, 0, 1], got.covariance[:, 1, 1]
    assert m[1] > 4.0
    np.testing.assert_array_equal(np.asarray([m[2:4], both[2:4]]), 0.0)
    # From a constant template protein numbers are Poisson.
    np.testing.assert_allclose(p[3], 50.0, rtol=1e-5)
    np.testing.assert_allclose(m[4], 5.0 * (1 - np.exp(-4.0)), rtol=1e-8)
    at_rest = stationary(k, jnp.asarray([5.0, 50.0]), phase(k, -np.inf, np.inf, hold=[1.0, 0.0], level=[5.0, 0.0]), 1.0)
    np.testing.assert_allclose(at_rest.covariance, [[0.0, 0.0], [0.0, 50.0]], rtol=1e-12, atol=1e-12)


def test_added_production_is_noise_too() -> None:
    k = two_stage()
    driven = phase(k, -np.inf, np.inf, factor=[0.0, 1.0, 1.0, 1.0], drive=[10.0, 0.0])
    got = stationary(k, jnp.asarray([5.0, 50.0]), driven, 1.0)
    np.testing.assert_allclose(got.covariance, [[5.0, 10.0], [10.0, 150.0]], rtol=1e-12)


def test_switches_in_time_as_scipy_solves_them() -> None:
    k, begin = autoregulated(), np.array([[7.0]])
    p = phase(k, 0.8, 2.3, factor=[0.4, 1.5], drive=[6.0])
    times = [0.0, 0.8, 1.0, 3.0]
    got = run(k, jnp.asarray(times), p, jnp.asarray([30.0]), LinearNoise(2.0, begin=GivenCovariance(begin), **TIGHT))

    def flow(_: float, y: np.ndarray, on: bool) -> list[float]:
        birth, death, drive = (0.4, 1.5, 6.0) if on else (1.0, 1.0, 0.0)
        x = y[0]
        made, lost = birth * 100 / (1 + (x / 20) ** 2), death * x
        slope = -birth * 100 * 2 * x / 400 / (1 + (x / 20) ** 2) ** 2 - death
        return [made - lost + drive, 2 * slope * y[1] + (made + lost + drive) / 2.0]

    y, exact = np.array([30.0, 7.0]), [np.array([30.0, 7.0])]
    for left, right, on in ((0, 0.8, False), (0.8, 1.0, True), (1.0, 2.3, True), (2.3, 3.0, False)):
        y = scipy.integrate.solve_ivp(flow, (left, right), y, args=(on,), rtol=1e-11, atol=1e-12).y[:, -1]
        exact.append(y)
    exact = np.array(exact)[[0, 1, 2, 4]]
    np.testing.assert_allclose(got.mean[:, 0], exact[:, 0], rtol=1e-7)
    np.testing.assert_allclose(got.covariance[:, 0, 0], exact[:, 1], rtol=1e-7)


def test_hidden_activities_are_deterministic() -> None:
    k = resolve(randomised(model_of(genes=3, unmeasured=1), 1).kinetics)
    signalled = phase(k, 1.0, 5.0, signal=[2.0, -1.0])
    got = run(k, jnp.asarray([0.0, 2.0, 8.0]), signalled, random_state(k, 1, 1.0) + 0.1, LinearNoise(50.0))
    assert int(got.outcome) == Outcome.DONE
    hidden = ~np.asarray(k.material())
    assert hidden.any()
    np.testing.assert_array_equal(got.covariance[:, hidden], 0.0)
    eigen = np.linalg.eigvalsh(np.asarray(got.covariance[1:])[:, ~hidden][:, :, ~hidden])
    assert eigen.min() > 0.0


def test_a_gene_network_starts_and_stays_at_rest() -> None:
    k = resolve(randomised(model_of(("unspliced", "spliced"), genes=2), 2).kinetics)
    rest = eqx.filter_jit(steady_state)(k, none(k)).state
    got = run(k, jnp.asarray([0.0, 5.0]), none(k), rest, LinearNoise(10.0, begin=StationaryCovariance(), **TIGHT))
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.covariance[1], got.covariance[0], rtol=1e-6, atol=1e-12)
    # First-order noise of a chain without regulation of transcription would be Poisson; regulation changes that.
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda x: k.vector_field(jnp.zeros(()), x, none(k))))(rest))
    change = k.stoichiometry()
    noise = change @ np.diag(np.asarray(k.propensities(jnp.zeros(()), rest, none(k)))) @ change.T / 10.0
    expected = scipy.linalg.solve_continuous_lyapunov(jacobian, -noise)
    np.testing.assert_allclose(got.covariance[0], expected, rtol=1e-8, atol=1e-14)


def test_correlations_over_time() -> None:
    k, rest = two_stage(), jnp.asarray([5.0, 50.0])
    sigma = stationary(k, rest, none(k), 1.0).covariance
    lags = jnp.asarray([-1.5, 0.0, 0.4, 1.5])
    got = later(k, rest, none(k), sigma, lags)
    np.testing.assert_allclose(got[1], sigma, rtol=1e-12)
    np.testing.assert_allclose(got[0], got[3].T, rtol=1e-12)
    np.testing.assert_allclose(got[2:, 0, 0], 5.0 * np.exp(-2.0 * np.asarray(lags[2:])), rtol=1e-12)
    jacobian = np.array([[-2.0, 0.0], [5.0, -0.5]])
    np.testing.assert_allclose(got[3], scipy.linalg.expm(1.5 * jacobian) @ np.asarray(sigma), rtol=1e-12)
    scaled = np.asarray(correlation_of(sigma, got))
    np.testing.assert_allclose(np.diagonal(scaled[1]), 1.0)
    # RNA leads protein: what it does now shows in the protein later.
    assert scaled[2, 1, 0] > scaled[2, 0, 1]
    assert np.abs(scaled).max() <= 1.0 + 1e-12


def test_unstable_and_moving_states_are_refused() -> None:
    bistable = toggle(10.0)
    saddle = stationary(bistable, jnp.asarray([2.0, 2.0]), none(bistable), 10.0)
    assert int(saddle.outcome) == Outcome.NOT_STABLE
    assert np.isnan(np.asarray(saddle.covariance)).all()
    with pytest.raises(PinnsimError, match="not stable") as caught:
        saddle.raise_failure()
    assert caught.value.codes == ("E_SOLVER",)
    valley = jnp.asarray([5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)])
    assert int(stationary(bistable, valley, none(bistable), 10.0).raise_failure().outcome) == Outcome.DONE
    assert int(stationary(bistable, valley + 0.1, none(bistable), 10.0).outcome) == Outcome.NOT_SETTLED
    lost = stationary(bistable, valley * jnp.nan, none(bistable), 10.0)
    assert int(lost.outcome) == Outcome.NOT_FINITE
    ghost = Parabola(jnp.asarray(0.1))
    assert int(stationary(ghost, jnp.zeros(1), none(ghost), 1.0).outcome) == Outcome.NOT_SETTLED


def test_a_walk_without_a_way_back_is_refused() -> None:
    """Birth and death at equal constant rates: always balanced, never stationary."""
    law = Custom(lambda state, active, rates, signal: jnp.ones(2), None)
    k = reaction_system([Reaction("up", "-> n"), Reaction("down", "n ->")], time_unit="h", law=law)
    assert int(stationary(k, jnp.ones(1), none(k), 1.0).outcome) == Outcome.NOT_STABLE


def test_a_lane_that_cannot_start_leaves_the_others_alone() -> None:
    k = toggle(10.0)
    valley = jnp.asarray([5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)])
    states = jnp.stack([valley, jnp.asarray([2.0, 2.0]), jnp.full(2, jnp.nan), valley[::-1]])
    method = LinearNoise(10.0, begin=StationaryCovariance(), **TIGHT)
    times = jnp.asarray([0.0, 1.0])
    got = eqx.filter_jit(jax.vmap(lambda x: linear_noise(k, times, none(k), x, method)))(states)
    assert got.outcome.tolist() == [Outcome.DONE, Outcome.NOT_STABLE, Outcome.NOT_FINITE, Outcome.DONE]
    assert got.reached.tolist() == [1.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(got.covariance[0, 1], got.covariance[0, 0], rtol=1e-6)
    np.testing.assert_allclose(got.covariance[0], got.covariance[3, :, ::-1, ::-1], rtol=1e-6)

    def total(synthesis: Array, states: Array) -> Array:
        model = eqx.tree_at(lambda q: q.synthesis, k, synthesis)
        got = jax.vmap(lambda x: stationary_covariance(model, x, none(model), 10.0))(states)
        return jnp.sum(jnp.where((got.outcome == Outcome.DONE)[:, None, None], got.covariance, 0.0))

    slope = jax.jit(jax.grad(total))
    np.testing.assert_allclose(slope(k.synthesis, states), slope(k.synthesis, states[jnp.asarray([0, 3])]), rtol=1e-9)


def test_single_precision() -> None:
    with jax.enable_x64(False):
        k = two_stage()
        rest = jnp.asarray([5.0, 50.0])
        got = stationary(k, rest, none(k), 1.0)
        assert got.covariance.dtype == jnp.float32
        np.testing.assert_allclose(got.covariance, [[5.0, 10.0], [10.0, 150.0]], rtol=1e-5)
        course = run(k, jnp.asarray([0.0, 20.0]), none(k), jnp.zeros(2), LinearNoise(1.0, 1e-5, 1e-5))
        assert course.covariance.dtype == jnp.float32
        np.testing.assert_allclose(course.covariance[1], [[5.0, 10.0], [10.0, 150.0]], rtol=1e-3)
        conserved = stationary(exchange(), jnp.asarray([12.0, 28.0, 9.0, 5.4]), none(exchange()), 1.0)
        assert int(conserved.outcome) == Outcome.DONE
        saddle = stationary(toggle(10.0), jnp.asarray([2.0, 2.0]), none(toggle(10.0)), 10.0)
        assert int(saddle.outcome) == Outcome.NOT_STABLE


def test_sweeping_numbers_compiles_once() -> None:
    k = autoregulated()

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def once(k: ReactionSystem, times: Array, p: Perturbation, x: Array, method: LinearNoise) -> Array:
        return linear_noise(k, times, p, x, method).covariance

    for size, stop in ((1.0, 2.0), (7.0, 1.0), (30.0, 0.5)):
        p = phase(k, 0.2, stop, factor=[size / 10, 1.0])
        once(k, jnp.asarray([0.0, stop, 4.0]), p, jnp.asarray([size]), LinearNoise(size, 1e-4 / size))


def test_a_size_must_be_positive() -> None:
    with pytest.raises(PinnsimError) as caught:
        LinearNoise(0.0)
    assert caught.value.codes == ("E_USAGE",)
