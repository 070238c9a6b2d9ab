"""Readouts are monotone and invertible; likelihoods are scipy's, with masks, errors per reading and any NaN unseen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pinnsim.observation import AbstractLikelihood, ArrayReadout, Correlated, Gaussian, IdentityReadout, StudentT

TIMES, GENES = 6, 3
rng = np.random.default_rng(8)
times = np.cumsum(rng.uniform(1, 20, TIMES))
predictions = rng.normal(10, 2, (TIMES, GENES))
readings = predictions + rng.normal(0, 1, (TIMES, GENES))
mask = rng.random((TIMES, GENES)) < 0.7
mask[:, 2] = [True] * TIMES
measured = rng.uniform(0.1, 0.4, (TIMES, GENES)) * (rng.random((TIMES, GENES)) < 0.5)


def value(x: float) -> jax.Array:
    return jnp.asarray(x)


def readout(offset: float = 15.0, scale: float = 1.0, floor: float = 3.0, ceiling: float = 18.0) -> ArrayReadout:
    return ArrayReadout(jnp.full(1, offset), jnp.full(1, scale), value(floor), value(ceiling))


correlated = Correlated(value(0.3), value(4.0), value(0.8), value(0.25), value(30.0), value(20.0))
LIKELIHOODS = [
    Gaussian(value(0.3)),
    Gaussian(jnp.asarray([0.1, 0.3, 0.9])),
    StudentT(value(0.3), value(4.0)),
    correlated,
    eqx.tree_at(lambda c: c.sd, correlated, jnp.asarray([0.1, 0.3, 0.9])),
]


def reference(likelihood: AbstractLikelihood, gene: int) -> float:
    seen = mask[:, gene]
    sd = np.broadcast_to(np.asarray(likelihood.sd), GENES)[gene]
    y, f, m, t = readings[seen, gene], predictions[seen, gene], measured[seen, gene], times[seen]
    if isinstance(likelihood, Gaussian):
        return float(scipy.stats.norm.logpdf(y, f, np.hypot(sd, m)).sum())
    if isinstance(likelihood, StudentT):
        return float(scipy.stats.t.logpdf(y, float(likelihood.df), f, np.hypot(sd, m)).sum())
    error = 0.8 * np.exp(-(t - times[0]) / 30.0) + 0.25
    shape = np.outer(error, error) * np.exp(-np.abs(t[:, None] - t) / 20.0) + np.diag(np.where(m > 0, m, sd) ** 2)
    return float(scipy.stats.multivariate_t.logpdf(y, loc=f, shape=shape, df=4.0))


def density(
    likelihood: AbstractLikelihood, predicted: jax.Array, read: np.ndarray = readings, seen: np.ndarray = mask
) -> jax.Array:
    arrays = (jnp.asarray(array) for array in (times, read, predicted, seen, measured))
    return likelihood.log_density(*arrays)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda x: type(x).__name__)
def test_log_density_is_scipys(likelihood: AbstractLikelihood) -> None:
    got = density(likelihood, jnp.asarray(predictions))
    np.testing.assert_allclose(got, [reference(likelihood, g) for g in range(GENES)], rtol=1e-10)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda x: type(x).__name__)
def test_what_was_not_read_does_not_count(likelihood: AbstractLikelihood) -> None:
    def total(predicted: jax.Array, read: np.ndarray) -> jax.Array:
        return jnp.sum(density(likelihood, predicted, read))

    gaps = np.where(mask, readings, np.nan)
    whole, slope = jax.value_and_grad(total)(jnp.asarray(predictions), readings)
    holed, holed_slope = jax.value_and_grad(total)(jnp.asarray(predictions), gaps)
    assert float(whole) == float(holed)
    np.testing.assert_array_equal(slope, holed_slope)
    assert not np.asarray(slope)[~mask].any()
    nothing = density(likelihood, jnp.asarray(predictions), gaps, np.zeros_like(mask))
    np.testing.assert_allclose(nothing, 0.0, atol=1e-12)


def test_array_readout_is_monotone_and_saturates() -> None:
    r = readout()
    levels = jnp.geomspace(1e-8, 1e8, 400)
    shown = np.asarray(jax.vmap(lambda m: r(m[None])[0])(levels))
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == pytest.approx(3.0, abs=1e-4)
    assert 17.9 < shown[-1] <= 18.0
    # In the middle of the range a doubling is one unit of log2.
    middle = np.asarray(jax.vmap(lambda m: r(m[None])[0])(jnp.asarray([2.0**-4, 2.0**-3])))
    assert middle[1] - middle[0] == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.3])
def test_array_readout_inverse_is_exact_inside_its_range(scale: float) -> None:
    r = readout(scale=scale)
    shown = jnp.linspace(3.06, 17.94, 200)
    back = jax.vmap(lambda y: r(r.invert(y[None]))[0])(shown)
    np.testing.assert_allclose(back, shown, atol=1e-10)
    assert (np.diff(np.asarray(jax.vmap(lambda y: r.invert(y[None])[0])(shown))) > 0).all()


@pytest.mark.parametrize("reading", [-5.0, 3.0, 18.0, 40.0])
def test_readings_beyond_the_range_are_at_its_limits(reading: float) -> None:
    r = readout()
    amount, slope = jax.value_and_grad(lambda y: r.invert(y)[0])(jnp.asarray([reading]))
    assert np.isfinite(float(amount))
    assert float(amount) >= 0
    assert np.isfinite(np.asarray(slope)).all()
    np.testing.assert_allclose(r(r.invert(jnp.asarray([reading]))), np.clip(reading, 3.0, 18.0), atol=0.051)


def test_nothing_reads_as_the_floor_with_a_finite_gradient() -> None:
    r = readout()
    shown, slope = jax.value_and_grad(lambda m: r(m)[0])(jnp.zeros(1))
    assert float(shown) == pytest.approx(3.0, abs=1e-3)
    assert np.isfinite(np.asarray(slope)).all()


def test_identity() -> None:
    r = IdentityReadout()
    assert r(jnp.asarray([2.0])).tolist() == [2.0]
    assert r.invert(jnp.asarray([2.0, -1.0])).tolist() == [2.0, 0.0]
