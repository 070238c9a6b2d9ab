"""Distances of populations against closed forms, finite differences and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial
import scipy.stats
from populations import CELLS, DISTANCES, A, B, X, Y, gaussian, median, plainly, run, slopes

from pinnsim.distance import (
    AbstractCost,
    AbstractDistance,
    Cosine,
    Energy,
    Euclidean,
    Match,
    MeanDiscrepancy,
    Sinkhorn,
    SquaredEuclidean,
    between,
    minibatch,
)
from pinnsim.errors import PinnsimError

rng = np.random.default_rng(6)
every = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES.keys())


@every
def test_equal_populations_are_at_distance_0(distance: AbstractDistance) -> None:
    order = rng.permutation(CELLS)
    got = run(distance, X, X[order], A, A[order])
    assert abs(float(got.value)) < 1e-9
    assert int(got.outcome) == Match.DONE


@every
def test_distances_are_symmetric_and_positive(distance: AbstractDistance) -> None:
    one, other = run(distance, X, Y, A, B).value, run(distance, Y, X, B, A).value
    np.testing.assert_allclose(one, other, rtol=1e-8)
    assert float(one) > 0.1


@every
def test_absent_cells_have_no_influence(distance: AbstractDistance) -> None:
    """Whatever they hold; and a cell listed twice is a cell of twice the weight."""
    there = jnp.arange(CELLS) < 19
    short, weights = jnp.where(there[:, None], X, 0.5), jnp.where(there, A, 0.0)
    whole, slope = slopes(distance, short, Y, weights, B)
    for filling in (jnp.nan, 1e9):
        got, filled = slopes(distance, jnp.where(there[:, None], X, filling), Y, weights, B)
        np.testing.assert_allclose(got.value, whole.value, rtol=1e-9)
        np.testing.assert_allclose(filled[0], slope[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(filled[0][19:], 0.0)
    if not median(distance):
        twice = weights.at[0].set(0.25 * A[0]).at[20].set(0.75 * A[0])
        got = run(distance, short.at[20].set(X[0]), Y, twice, B)
        np.testing.assert_allclose(got.value, whole.value, rtol=1e-7)


@every
def test_slopes_are_those_of_finite_differences(distance: AbstractDistance) -> None:
    if median(distance):
        pytest.skip("the median is taken as given")
    inputs, h = (X, Y, A, B), 1e-4
    for k, slope in enumerate(slopes(distance, *inputs)[1][:4]):
        way, moved, ends = jnp.asarray(rng.normal(size=slope.shape)), list(inputs), []
        for sign in (1, -1):
            moved[k] = inputs[k] + sign * h * way
            ends.append(float(run(distance, *moved).value))
        scale = float(jnp.abs(slope).max())
        assert abs(float(jnp.sum(slope * way)) - (ends[0] - ends[1]) / (2 * h)) < 2e-6 * scale


def test_energy_distance_is_scipys_and_that_of_normal_laws() -> None:
    x, y = rng.normal(size=40), rng.gamma(2.0, size=25)
    a, b = rng.uniform(size=40), rng.uniform(size=25)
    got = plainly(Energy(), *(jnp.asarray(v) for v in (x[:, None], y[:, None], a, b)))
    np.testing.assert_allclose(got, scipy.stats.energy_distance(x, y, a, b) ** 2, rtol=1e-10)
    u, v = rng.normal(size=(30, 7)), rng.normal(size=(20, 7))
    across, one, other = (scipy.spatial.distance.cdist(p, q).mean() for p, q in ((u, v), (u, u), (v, v)))
    for unbiased, exact in ((False, 2 * across - one - other), (True, 2 * across - one * 30 / 29 - other * 20 / 19)):
        np.testing.assert_allclose(plainly(Energy(unbiased), jnp.asarray(u), jnp.asarray(v)), exact, rtol=1e-9)


def test_discrepancy_of_normal_laws() -> None:
    """E k(X, Y) = h / sqrt(h^2 + s^2) exp(-d^2 / (2 (h^2 + s^2))), with s^2 the sum of the variances."""
    h = 0.8

    def expected(d: float, s2: float) -> float:
        return h / np.sqrt(h**2 + s2) * np.exp(-(d**2) / (2 * (h**2 + s2)))

    (x, a), (y, b) = gaussian(0.0, 1.0), gaussian(0.7, 0.6)
    exact = expected(0, 2.0) + expected(0, 0.72) - 2 * expected(0.7, 1.36)
    got = plainly(MeanDiscrepancy(h, [1.0]), x, y, a, b)
    np.testing.assert_allclose(got, exact, rtol=1e-9)
    # The unbiased form is right on average, with however few cells.
    few = jnp.asarray(rng.normal(size=(4000, 2, 5, 1))) * jnp.asarray([1.0, 0.6])[None, :, None, None]
    few = few + jnp.asarray([0.0, 0.7])[None, :, None, None]
    estimate = MeanDiscrepancy(h, [1.0], unbiased=True)
    values = np.asarray(jax.jit(jax.vmap(lambda p: estimate(p[0], p[1]).value))(few))
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(len(values))


def test_the_median_is_that_of_different_cells() -> None:
    x, y = rng.normal(size=(300, 3)), rng.normal(size=(12, 3)) + 1.0
    pooled = scipy.spatial.distance.pdist(np.concatenate([x[::2], y]))
    exact = plainly(MeanDiscrepancy(float(np.median(pooled))), jnp.asarray(x), jnp.asarray(y))
    got = plainly(MeanDiscrepancy(), jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(got, exact, rtol=1e-9)


@pytest.mark.parametrize("cost", [SquaredEuclidean(), Euclidean(), Cosine()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("genes", [2, 9])
def test_costs_are_scipys_and_0_between_equal_points(cost: AbstractCost, genes: int) -> None:
    names = {"SquaredEuclidean": "sqeuclidean", "Euclidean": "euclidean", "Cosine": "cosine"}
    x, y = rng.normal(size=(12, genes)) + 3.0, rng.normal(size=(9, genes))
    exact = scipy.spatial.distance.cdist(x, y, names[type(cost).__name__])
    np.testing.assert_allclose(cost(jnp.asarray(x), jnp.asarray(y)), exact, rtol=1e-9, atol=1e-12)
    own = np.asarray(cost(jnp.asarray(x), jnp.asarray(x)))
    assert np.abs(np.diagonal(own)).max() < 1e-12
    slope = jax.grad(lambda x: jnp.sum(cost(x, x)))(jnp.zeros((2, genes)))
    assert np.isfinite(np.asarray(slope)).all()


@every
def test_cells_at_one_place(distance: AbstractDistance) -> None:
    """All of them, or one alone."""
    for weights in (A, jnp.where(jnp.arange(CELLS) == 5, 1.0, 0.0)):
        got, slope = slopes(distance, jnp.zeros_like(X), jnp.full_like(Y, 0.5), weights, weights)
        assert int(got.outcome) == Match.DONE
        assert float(got.value) > 0
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(slope))
        assert np.asarray(slope[0])[np.asarray(weights) > 0].max() < 0


@every
def test_what_cannot_be_compared_says_so(distance: AbstractDistance) -> None:
    for x, a, outcome in (
        (X.at[3, 1].set(jnp.nan), A, Match.NOT_FINITE),
        (X, jnp.zeros_like(A), Match.EMPTY),
        (X, A.at[2].set(-1.0), Match.NOT_FINITE),
        (X, A.at[0].set(jnp.inf), Match.NOT_FINITE),
    ):
        got, slope = slopes(distance, x, Y, a, B)
        assert int(got.outcome) == outcome
        assert np.isnan(float(got.value))
        for leaf in jax.tree.leaves(slope):
            np.testing.assert_array_equal(leaf, 0.0)


def test_the_door_checks_everything_at_once() -> None:
    bad = np.asarray(X).copy()
    bad[4, 1] = np.nan
    with pytest.raises(PinnsimError) as caught:
        between(Energy(), bad, rng.normal(size=(4, 3)), b=[1.0, -1.0, 1.0, 1.0])
    assert set(caught.value.codes) == {"E_DATA_NONFINITE", "E_DATA_SHAPE", "E_DATA_NEGATIVE"}
    assert "cell 4, column 1" in str(caught.value)
    for x, a, code in (
        (np.zeros((0, 2)), None, "E_DATA_EMPTY"),
        (np.zeros((2, 2)), [0.0, 0.0], "E_DATA_EMPTY"),
        (np.zeros((2, 2)), [1.0], "E_DATA_SHAPE"),
        (np.zeros((2, 2, 2)), None, "E_DATA_SHAPE"),
        (np.zeros((2, 2)), [1.0, np.nan], "E_DATA_NONFINITE"),
    ):
        with pytest.raises(PinnsimError) as caught:
            between(Sinkhorn(), x, Y, a)
        assert caught.value.codes == (code,)
    good = between(Energy(), np.asarray(X)[:, 0], np.asarray(Y)[:, 0])
    np.testing.assert_allclose(good.value, scipy.stats.energy_distance(X[:, 0], Y[:, 0]) ** 2, rtol=1e-10)
    assert float(between(Energy(), bad, Y, a=np.arange(24) != 4).value) > 0


@pytest.mark.parametrize("argument", ["epsilon", "reach", "tolerance"])
def test_settings_must_be_positive(argument: str) -> None:
    with pytest.raises(PinnsimError, match=argument) as caught:
        Sinkhorn(**{argument: 0.0})
    assert caught.value.codes == ("E_USAGE",)


def test_parts_are_drawn_without_replacement_and_by_seed() -> None:
    weights = jnp.where(jnp.arange(CELLS) % 3 == 0, 0.0, B)
    draw = jax.jit(minibatch, static_argnums=3)
    drawn, mass = draw(jax.random.key(3), Y, weights, 12)
    assert len(np.unique(np.asarray(drawn), axis=0)) == 12
    assert (np.asarray(mass) > 0).all()
    np.testing.assert_array_equal(draw(jax.random.key(3), Y, weights, 12)[0], drawn)
    assert not np.array_equal(draw(jax.random.key(4), Y, weights, 12)[0], drawn)
    # All that are there, and filling of weight 0.
    assert int((draw(jax.random.key(3), Y, weights, CELLS)[1] > 0).sum()) == 16
    # Cells are drawn equally often, whatever their weight.
    numbers = jnp.arange(CELLS, dtype=float)[:, None]
    keys = jax.random.split(jax.random.key(0), 4000)
    often = np.bincount(np.asarray(jax.vmap(lambda k: draw(k, numbers, weights, 5)[0])(keys)).astype(int).ravel())
    assert often[np.asarray(weights) == 0].sum() == 0
    # Without replacement the counts vary less than independent ones.
    present = often[np.asarray(weights) > 0]
    assert scipy.stats.chi2.sf(((present - 1250) ** 2).sum() / 1250 / (11 / 15), 15) > 1e-3
    with pytest.raises(PinnsimError) as caught:
        minibatch(jax.random.key(0), Y, B, CELLS + 1)
    assert caught.value.codes == ("E_USAGE",)
