"""The Sinkhorn divergence: limits in closed form, small epsilon, growth, failures in batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
from jax import Array
from populations import CELLS, EQUAL, TIGHT, A, B, X, Y, gaussian, plainly, points, run, slopes

from pinnsim.distance import Distance, Match, Sinkhorn, over_times
from pinnsim.errors import PinnsimError

rng = np.random.default_rng(7)


def janati(mean: float, sd: float, other_mean: float, other_sd: float, eps: float) -> float:
    """Entropic transport between normal laws: H. Janati et al., NeurIPS (2020), theorem 1, with eps = 2 sigma^2."""
    half = eps / 2
    root = np.sqrt(4 * sd**2 * other_sd**2 + half**2)
    bures = sd**2 + other_sd**2 - root + half * (1 - np.log(2 * half)) + half * np.log(root + half)
    return (mean - other_mean) ** 2 + bures


def test_normal_laws_in_closed_form() -> None:
    one, other = (0.0, 1.0), (0.7, 0.6)
    (x, a), (y, b) = gaussian(*one), gaussian(*other)
    both = eqx.filter_jit(lambda distances: [distance(x, y, a, b).value for distance in distances])
    for eps in (0.1, 0.4, 3.0):
        plain, whole = both([Sinkhorn(eps, relative=False, debiased=d, **TIGHT) for d in (False, True)])
        exact = janati(*one, *other, eps)
        np.testing.assert_allclose(plain, exact, rtol=1e-6)
        debiased = exact - 0.5 * janati(*one, *one, eps) - 0.5 * janati(*other, *other, eps)
        np.testing.assert_allclose(whole, debiased, rtol=1e-6)


def test_a_small_epsilon_gives_transport_costs_in_one_dimension() -> None:
    x, y = rng.normal(size=CELLS), rng.gamma(2.0, size=CELLS)
    sorted_cost = np.mean((np.sort(x) - np.sort(y)) ** 2)
    errors = []
    for epsilon in (1e-1, 1e-2, 1e-3):
        got = run(Sinkhorn(epsilon, tolerance=1e-5, max_iterations=200_000), points(x), points(y))
        assert int(got.outcome) == Match.DONE
        errors.append(abs(float(got.value) / sorted_cost - 1))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 2e-3


def test_an_epsilon_of_a_ten_thousandth_does_not_underflow() -> None:
    """Far clusters: a kernel of the costs alone would be 0 in whole rows, and the assignment is known."""
    x = rng.normal(size=(CELLS, 2))
    y = x[rng.permutation(CELLS)] + 10.0 + 0.1 * rng.normal(size=(CELLS, 2))
    cost = scipy.spatial.distance.cdist(x, y, "sqeuclidean")
    assert np.exp(-cost / (1e-4 * cost.mean())).max() == 0.0
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    got, slope = slopes(Sinkhorn(1e-4, max_iterations=20_000), jnp.asarray(x), jnp.asarray(y), EQUAL, EQUAL)
    assert int(got.outcome) == Match.DONE
    np.testing.assert_allclose(got.value, cost[rows, columns].mean(), rtol=1e-3)
    np.testing.assert_allclose(slope[0], 2 * (x - y[columns]) / CELLS, rtol=0.05, atol=1e-2)


def test_single_precision() -> None:
    distance = Sinkhorn(0.1, max_iterations=20_000)
    for epsilon in (1.0, 1e-2, 1e-4):
        single, double = (
            run(
                eqx.tree_at(lambda d: d.epsilon, distance, jnp.asarray(epsilon)),
                *(v.astype(kind) for v in (X, Y, A, B)),
            )
            for kind in (jnp.float32, jnp.float64)
        )
        assert single.value.dtype == jnp.float32
        assert int(single.outcome) == Match.DONE
        np.testing.assert_allclose(single.value, double.value, rtol=2e-3)


def test_slopes_by_epsilon_and_reach() -> None:
    at, h = (0.2, 0.8), 1e-4

    def made(epsilon: float, reach: float) -> Sinkhorn:
        return Sinkhorn(epsilon, reach, **TIGHT)

    _, slope = slopes(made(*at), X, Y, A, B)
    for k, name in enumerate(("epsilon", "reach")):
        ends = [
            float(run(made(*(v + sign * h * (i == k) for i, v in enumerate(at))), X, Y, A, B).value) for sign in (1, -1)
        ]
        np.testing.assert_allclose(getattr(slope[4], name), (ends[0] - ends[1]) / (2 * h), rtol=1e-5)
    # Balanced: growth has no price to change.
    assert float(slopes(made(0.2, np.inf), X, Y, A, B)[1][4].reach) == 0.0


def test_other_shapes_and_equal_weights() -> None:
    there = jnp.arange(CELLS) < 19
    distance = Sinkhorn(0.1, 0.7, **TIGHT)
    padded = run(distance, X, Y, jnp.where(there, 1 / 19, 0.0))
    np.testing.assert_allclose(plainly(distance, X[:19], Y), padded.value, rtol=1e-8)


def test_growth_between_two_places_in_closed_form() -> None:
    """One place each: log P = ((eps + rho) log(m n) - c) / (eps + 2 rho)."""
    eps, rho, cost, m, n = 0.3, 1.7, 4.0, 2.0, 0.5
    here = jnp.where(jnp.arange(CELLS) == 3, 1.0, 0.0)
    x, y = points(np.zeros(CELLS)), points(np.full(CELLS, 2.0))
    got = run(Sinkhorn(eps, rho, relative=False, debiased=False, **TIGHT), x, y, m * here, n * here)
    moved = np.exp(((eps + rho) * np.log(m * n) - cost) / (eps + 2 * rho))

    def kl(p: float, q: float) -> float:
        return p * np.log(p / q) - p + q

    exact = moved * cost + eps * kl(moved, m * n) + rho * (kl(moved, m) + kl(moved, n))
    np.testing.assert_allclose(got.value, exact, rtol=1e-9)


def test_reach_between_balanced_and_none() -> None:
    """Far mass is given up where reach is short; without a limit, weights are shares."""
    a, b = A / A.sum(), B / B.sum()
    wide = run(Sinkhorn(0.1, 1e7, **TIGHT), X, Y, a, b).value
    np.testing.assert_allclose(wide, run(Sinkhorn(0.1, **TIGHT), X, Y, a, b).value, rtol=1e-5)
    # Nothing is moved: each population is lost and made anew, at rho per mass.
    far = run(Sinkhorn(0.5, 0.2, relative=False, debiased=False, **TIGHT), X, Y + 100.0, a, b)
    np.testing.assert_allclose(far.value, 0.2 * 2 + 0.5, rtol=1e-8)
    grown = [float(run(Sinkhorn(0.1, 0.7, **TIGHT), X, X, A, f * A).value) for f in (1.0, 1.5, 2.0, 4.0)]
    assert np.diff(grown).min() > 0
    shares = [float(run(Sinkhorn(0.1, **TIGHT), X, Y, f * A, B).value) for f in (1.0, 7.0)]
    np.testing.assert_allclose(*shares, rtol=1e-12)


def test_failures_stay_in_their_lanes() -> None:
    """In values and in slopes, side by side and one after the other."""
    distance = Sinkhorn(0.1, 0.7, tolerance=1e-8)
    x = jnp.stack([X, X.at[3, 1].set(jnp.nan), X + 1.0])

    def total(x: Array) -> tuple[Array, Distance]:
        got = over_times(distance, x, jnp.stack([Y] * 3), jnp.stack([A] * 3), jnp.stack([B] * 3), batch=2)
        return jnp.sum(jnp.where(got.outcome == Match.DONE, got.value, 0.0)), got

    (_, got), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
    assert got.outcome.tolist() == [Match.DONE, Match.NOT_FINITE, Match.DONE]
    np.testing.assert_array_equal(slope[1], 0.0)
    for k in (0, 2):
        alone, own = slopes(distance, x[k], Y, A, B)
        np.testing.assert_allclose(got.value[k], alone.value, rtol=1e-10)
        np.testing.assert_allclose(slope[k], own[0], rtol=1e-7, atol=1e-10)
    with pytest.raises(PinnsimError, match=r"1 of 3 .* number 1"):
        got.raise_failure()


def test_iterations_that_run_out_are_told() -> None:
    short = run(Sinkhorn(1e-3, tolerance=1e-9, max_iterations=5), X, Y)
    assert int(short.outcome) == Match.NOT_CONVERGED
    assert int(short.iterations) == 5
    assert float(short.error) > 1e-9
    with pytest.raises(PinnsimError, match="raise max_iterations") as caught:
        short.raise_failure()
    assert caught.value.codes == ("E_SOLVER",)


def test_sweeping_settings_traces_once() -> None:
    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def once(distance: Sinkhorn, x: Array, y: Array, a: Array, b: Array) -> Array:
        return distance(x, y, a, b).value

    for k in (1.0, 2.0, 3.0):
        distance = Sinkhorn(0.1 * k, k, tolerance=1e-3 / k, max_iterations=int(100 * k), decay=0.2 * k)
        once.lower(distance, k * X, Y, A, B)
