"""Draws against a normal posterior in closed form; diagnostics against arviz; a seed gives the same draws."""

import importlib.util

import jax
import numpy as np
import pytest
from posteriors import NAMES, known

from pinnsim.errors import PinnsimError
from pinnsim.fit import laplace, nuts, rate_table
from pinnsim.fit.draws import Draws, ess_bulk, ess_tail, r_hat

CHAINS, DRAWS = 4, 500


@pytest.fixture(scope="module")
def problem():
    return known()


@pytest.fixture(scope="module")
def posterior(problem):
    return laplace(problem.model, problem.prior, problem.data, problem.plan, progress=False)


def drawn(problem, posterior, **options: int) -> Draws:
    pytest.importorskip("blackjax")
    parts = (problem.model, problem.prior, problem.data, problem.plan)
    return nuts(*parts, posterior=posterior, chains=CHAINS, warmup=100, draws=DRAWS, progress=False, **options)


@pytest.fixture(scope="module")
def draws(problem, posterior) -> Draws:
    return drawn(problem, posterior, seed=1)


def test_draws_have_the_exact_mean_and_covariance(problem, draws):
    """A mean from n effective draws is off by sd / sqrt(n), a variance by sqrt(2 / n): 4 standard errors."""
    assert not draws.divergent.any()
    count = draws.diagnostics()["ess_bulk"].min()
    sd = np.sqrt(np.diag(problem.covariance))
    np.testing.assert_allclose((draws.flat.mean(axis=0) - problem.mean) / sd, 0, atol=4 / np.sqrt(count))
    found = np.cov(draws.flat.T) / np.outer(sd, sd)
    np.testing.assert_allclose(found, problem.covariance / np.outer(sd, sd), atol=4 * np.sqrt(2 / count))
    # The density that comes along is the objective's, of which the differences are known.
    z = (draws.flat - problem.mean) @ np.linalg.cholesky(np.linalg.inv(problem.covariance))
    steady = draws.log_density.ravel() + 0.5 * (z**2).sum(axis=1)
    np.testing.assert_allclose(steady, steady[0], atol=1e-6)


def test_the_rate_table_has_the_normal_posterior_s_form(draws, posterior):
    ours, theirs = rate_table(draws), rate_table(posterior)
    assert list(ours.columns) == list(theirs.columns)
    assert list(ours["parameter"]) == list(NAMES)
    assert list(ours["verdict"])[0] == "in part"
    np.testing.assert_allclose(ours["width"], theirs["width"], rtol=0.1)
    values = draws.values()
    assert list(values.columns) == ["chain", "draw", *NAMES]
    assert len(values) == CHAINS * DRAWS
    np.testing.assert_allclose(values["decay:g0"], np.exp(draws.flat[:, 1]))
    members = draws.sample(jax.random.key(0), 7)
    assert set(np.asarray(members.kinetics.decay.raw).ravel()) <= set(draws.flat[:, 1])


def test_a_seed_gives_the_same_draws(problem, posterior, draws):
    np.testing.assert_array_equal(drawn(problem, posterior, seed=1).raw, draws.raw)
    assert not np.array_equal(drawn(problem, posterior, seed=2).raw, draws.raw)


@pytest.mark.filterwarnings("ignore")
def test_diagnostics_are_arviz_s(draws):
    az = pytest.importorskip("arviz")
    rng = np.random.default_rng(3)
    slow = np.zeros((CHAINS, 400))
    for k in range(1, 400):
        slow[:, k] = 0.9 * slow[:, k - 1] + rng.normal(size=CHAINS)
    apart = rng.standard_cauchy((CHAINS, 301)) + np.array([0.0, 0.0, 0.0, 3.0])[:, None]
    for given in (slow, apart, draws.raw[..., 0]):
        assert r_hat(given) == pytest.approx(float(az.rhat(given)), rel=1e-9)
        assert ess_bulk(given) == pytest.approx(float(az.ess(given, method="bulk")), rel=0.05)
        assert ess_tail(given) == pytest.approx(float(az.ess(given, method="tail")), rel=0.05)


def test_draws_that_cannot_be_trusted_are_told(draws):
    rng = np.random.default_rng(0)
    moved = rng.normal(size=draws.raw.shape) + np.array([0.0, 0.0, 0.0, 2.0])[:, None, None]
    bad = Draws(draws.free, moved, draws.log_density, ~draws.divergent, draws.steps, draws.step_size)
    assert [text.partition(" ")[0] for text in bad.complaints()] == ["2000", "Chains", "3"]
    assert np.isinf(r_hat(np.ones((2, 10))))
    good = Draws(draws.free, rng.normal(size=draws.raw.shape), *(getattr(draws, n) for n in (
        "log_density", "divergent", "steps", "step_size")))  # fmt: skip
    assert good.complaints() == []


def test_without_blackjax_the_extra_is_named(problem, posterior, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "blackjax" else found(name))
    parts = (problem.model, problem.prior, problem.data, problem.plan)
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pinnsim\[bayes\]"):
        nuts(*parts, posterior=posterior, progress=False)
    with pytest.raises(PinnsimError) as caught:
        nuts(*parts, posterior=posterior, chains=0, acceptance=1.0)
    assert caught.value.codes == ("E_USAGE",) * 2
