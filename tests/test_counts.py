"""Likelihoods of counts and amounts against scipy, and in the corners: no counts, no spread, nothing measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from systems import network_of, prior_of

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import Cultures, cultures
from pinnsim.fit.objective import objective
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.model import CellModel, ModelConfig, build
from pinnsim.observation import (
    AbstractLikelihood,
    AbstractReadout,
    Censored,
    Combined,
    CycleReadout,
    Labelling,
    Layered,
    LikelihoodConfig,
    LinearReadout,
    LogNormal,
    NegativeBinomial,
    Observation,
    Poisson,
    ReadoutConfig,
    ZeroInflated,
    observation_of,
    size_factors,
)
from pinnsim.observation.counts import negative_binomial_log, poisson_log
from pinnsim.parameter import resolve

TIMES, GENES = 8, 3
rng = np.random.default_rng(9)
times = np.arange(TIMES, dtype=float)
means = rng.gamma(2.0, 20.0, (TIMES, GENES))
counts = rng.negative_binomial(4, 4 / (4 + means)).astype(float)
counts[0] = 0.0
amounts_read = means * np.exp(0.3 * rng.normal(size=means.shape))
cycles = np.minimum(30 + 4 * rng.normal(size=means.shape), 33.0)
expected_cycles = 30 + 2 * rng.normal(size=means.shape)
mask = rng.random((TIMES, GENES)) < 0.7
mask[0] = True
measured = rng.uniform(0.1, 0.4, (TIMES, GENES)) * (rng.random((TIMES, GENES)) < 0.5)
ALPHA, LOST = np.array([0.05, 0.5, 2.0]), 0.15

log_nb = jax.jit(negative_binomial_log)
log_poisson = jax.jit(poisson_log)


def nb(k: np.ndarray, m: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return scipy.stats.nbinom.logpmf(k, 1 / alpha, 1 / (1 + alpha * m))


def inflated(k: np.ndarray, m: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    plain = np.log1p(-LOST) + nb(k, m, alpha)
    return np.where(k > 0, plain, np.logaddexp(np.log(LOST), plain))


def censored(y: np.ndarray, f: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return np.where(y < 33.0, scipy.stats.norm.logpdf(y, f, sd), scipy.stats.norm.logsf(33.0, f, sd))


sd = np.hypot(0.3, measured)
relative = np.hypot(0.3, measured / amounts_read)
CASES: dict[str, tuple[AbstractLikelihood, np.ndarray, np.ndarray, np.ndarray]] = {
    "poisson": (Poisson(), counts, means, scipy.stats.poisson.logpmf(counts, means)),
    "nb": (NegativeBinomial(jnp.asarray(ALPHA)), counts, means, nb(counts, means, ALPHA)),
    "zeros": (ZeroInflated(jnp.asarray(ALPHA), jnp.asarray(LOST)), counts, means, inflated(counts, means, ALPHA)),
    "lognormal": (
        LogNormal(jnp.asarray(0.3)),
        amounts_read,
        means,
        scipy.stats.lognorm.logpdf(amounts_read, relative, scale=means),
    ),
    "combined": (
        Combined(jnp.asarray(0.3), jnp.asarray(2.0)),
        amounts_read * (amounts_read > 10),
        means,
        scipy.stats.norm.logpdf(
            amounts_read * (amounts_read > 10), means, np.hypot(np.hypot(0.3 * means, 2), measured)
        ),
    ),
    "censored": (
        Censored(jnp.asarray(0.3), jnp.asarray(33.0)),
        cycles,
        expected_cycles,
        censored(cycles, expected_cycles, sd),
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def density(likelihood: AbstractLikelihood, read: np.ndarray, predicted: jax.Array, seen: np.ndarray) -> jax.Array:
    arrays = (jnp.asarray(array) for array in (times, read, predicted, seen, measured))
    return likelihood.log_density(*arrays)


@every
def test_log_density_is_scipys(case: tuple) -> None:
    likelihood, read, predicted, exact = case
    got = density(likelihood, read, jnp.asarray(predicted), mask)
    np.testing.assert_allclose(got, np.where(mask, exact, 0.0).sum(axis=0), rtol=1e-10)


@every
def test_what_was_not_read_does_not_count(case: tuple) -> None:
    likelihood, read, predicted, _ = case

    def total(predicted: jax.Array, read: np.ndarray) -> jax.Array:
        return jnp.sum(density(likelihood, read, predicted, mask))

    whole, slope = jax.value_and_grad(total)(jnp.asarray(predicted), read)
    holed, holed_slope = jax.value_and_grad(total)(jnp.asarray(predicted), np.where(mask, read, np.nan))
    assert float(whole) == float(holed)
    np.testing.assert_array_equal(slope, holed_slope)
    assert not np.asarray(slope)[~mask].any()
    assert np.isfinite(np.asarray(slope)).all()
    nothing = density(likelihood, np.full_like(read, np.nan), jnp.asarray(predicted), np.zeros_like(mask))
    np.testing.assert_array_equal(nothing, 0.0)


@every
def test_spread_is_that_of_drawn_readings(case: tuple) -> None:
    """Of all but the censored, whose readings pile up at the limit."""
    likelihood, _, predicted, _ = case
    got = np.asarray(likelihood.standard_deviation(jnp.asarray(times), jnp.asarray(predicted)))
    assert got.shape == predicted.shape
    if isinstance(likelihood, Censored):
        np.testing.assert_array_equal(got, 0.3)
        return
    r, p = 1 / ALPHA, 1 / (1 + ALPHA * means)
    exact = {
        "Poisson": np.sqrt(means),
        "NegativeBinomial": scipy.stats.nbinom.std(r, p),
        "LogNormal": scipy.stats.lognorm.std(0.3, scale=means),
        "Combined": np.hypot(0.3 * means, 2.0),
    }
    square = (1 - LOST) * (scipy.stats.nbinom.var(r, p) + means**2) - ((1 - LOST) * means) ** 2
    np.testing.assert_allclose(got, exact.get(type(likelihood).__name__, np.sqrt(square)), rtol=1e-10)


def test_counts_are_exact_far_and_wide() -> None:
    """Where differences of log-gamma functions lose digits: references are sums of logarithms in extended precision."""
    wide = np.longdouble
    for k in (0, 1, 7, 15, 16, 300, 300_000):
        before = np.arange(k, dtype=wide)
        factorial = np.log1p(before).sum()
        for m in (1e-6, 0.3, 40.0, 3e6):
            exact = k * np.log(wide(m)) - wide(m) - factorial
            np.testing.assert_allclose(log_poisson(jnp.asarray(float(k)), jnp.asarray(m)), float(exact), rtol=1e-10)
            for alpha in (1e-9, 1e-3, 0.7, 50.0):
                a = wide(alpha)
                exact = np.log1p(a * before).sum() - factorial + k * np.log(wide(m)) - (k + 1 / a) * np.log1p(a * m)
                got = log_nb(jnp.asarray(float(k)), jnp.asarray(m), jnp.asarray(alpha))
                np.testing.assert_allclose(got, float(exact), rtol=1e-10, atol=1e-11)


def test_probabilities_add_up_and_slopes_are_exact() -> None:
    k = jnp.arange(4000.0)
    m, alpha = jnp.asarray(12.0), jnp.asarray(0.4)
    wide = jnp.ones_like(k)
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_nb(k, 12.0 * wide, 0.4 * wide))), 1.0, rtol=1e-12)
    for count in (0.0, 3.0, 15.5, 16.5, 200.0):
        got = jax.grad(negative_binomial_log, (1, 2))(jnp.asarray(count), m, alpha)
        by_mean = (count - 12.0) / (12.0 * (1 + 0.4 * 12.0))
        r = 1 / 0.4
        by_shape = scipy.special.digamma(count + r) - scipy.special.digamma(r) - np.log1p(12 / r)
        by_shape += (12.0 - count) / (r + 12.0)
        np.testing.assert_allclose(got, (by_mean, -(r**2) * by_shape), rtol=1e-8)


def test_genes_without_counts_and_models_without_molecules() -> None:
    """Finite values and slopes in every corner."""
    for likelihood in (CASES["poisson"][0], CASES["nb"][0], CASES["zeros"][0]):
        for read in (np.zeros((TIMES, GENES)), np.full((TIMES, GENES), 5.0)):
            for predicted in (0.0, 1e-9, 1.0):

                def total(predicted: jax.Array, likelihood: AbstractLikelihood = likelihood, read: np.ndarray = read):
                    return jnp.sum(density(likelihood, read, predicted, np.ones_like(mask)))

                value, slope = jax.value_and_grad(total)(jnp.full((TIMES, GENES), predicted))
                assert np.isfinite(float(value))
                assert np.isfinite(np.asarray(slope)).all()


def test_size_factors_are_those_of_depth() -> None:
    depth = np.array([0.5, 1.0, 2.0, 4.0])
    base = rng.gamma(2.0, 50.0, 200)
    exact = depth / np.exp(np.log(depth).mean())
    np.testing.assert_allclose(size_factors(depth[:, None] * base), exact, rtol=1e-12)
    # A third of the genes changing does not matter, as it would to totals.
    changed = depth[:, None] * base
    changed[2, :60] *= 30.0
    np.testing.assert_allclose(size_factors(changed), exact, rtol=1e-12)
    sparse = np.diag([3.0, 6.0, 0.0])
    found = size_factors(sparse)
    np.testing.assert_allclose(found[1] / found[0], 2.0)
    assert np.isnan(found[2])
    assert np.isnan(size_factors(np.zeros((2, 3)))).all()


@pytest.mark.parametrize(
    "readout",
    [
        LinearReadout(jnp.asarray([0.2, 1.0, 30.0]), jnp.asarray(0.5)),
        CycleReadout(jnp.asarray([30.0, 28.0, 35.0]), jnp.asarray(0.9), jnp.asarray(40.0)),
    ],
    ids=["linear", "cycles"],
)
def test_readouts_are_monotone_and_inverted(readout: AbstractReadout) -> None:
    amount = jnp.asarray(rng.gamma(2.0, 2.0, (20, GENES)))
    shown = jax.vmap(readout)(amount)
    np.testing.assert_allclose(jax.vmap(readout.invert)(shown), amount, rtol=1e-10)
    order = np.sign(np.diff(np.asarray(amount), axis=0)) * np.sign(np.diff(np.asarray(shown), axis=0))
    assert len(np.unique(order)) == 1
    nothing, slope = jax.value_and_grad(lambda a: jnp.sum(readout(a)))(jnp.zeros(GENES))
    assert np.isfinite(float(nothing))
    assert np.isfinite(np.asarray(slope)).all()
    assert (np.asarray(readout.invert(jnp.full(GENES, 1e3))) >= 0).all()


def test_a_cycle_is_a_doubling_at_full_efficiency() -> None:
    r = CycleReadout(jnp.full(1, 30.0), jnp.asarray(1.0), jnp.asarray(40.0))
    np.testing.assert_allclose(r(jnp.asarray([8.0])), 27.0)
    np.testing.assert_allclose(r.invert(jnp.asarray([50.0])), 2.0**-10)


def test_labelled_rna_is_what_was_made_since() -> None:
    """Against the equations of labelled and unlabelled molecules side by side, with transcription that moves."""
    beta, gamma, begin = 0.9, 0.25, np.array([2.0, 7.0, 0.0, 0.0])

    def flow(t: float, y: np.ndarray) -> list[float]:
        u, s, new_u, new_s = y
        return [-beta * u, beta * u - gamma * s, 3 + 2 * np.sin(t) - beta * new_u, beta * new_u - gamma * new_s]

    end = scipy.integrate.solve_ivp(flow, (0, 3.0), begin, rtol=1e-11, atol=1e-12).y[:, -1]
    pulse = Labelling(jnp.asarray(3.0), jnp.asarray(0.8))
    rate, loss = jnp.full(1, beta), jnp.full(1, gamma)
    u0, s0 = jnp.asarray(begin[:1]), jnp.asarray(begin[1:2])
    u, s = jnp.asarray([end[0] + end[2]]), jnp.asarray([end[1] + end[3]])
    np.testing.assert_allclose(np.ravel(pulse.unspliced(u, u0, rate)), [0.8 * end[2], end[0] + 0.2 * end[2]], rtol=1e-8)
    labelled, rest = pulse.spliced(s, s0, u0, rate, loss)
    np.testing.assert_allclose([labelled[0], rest[0]], [0.8 * end[3], end[1] + 0.2 * end[3]], rtol=1e-8)
    # One layer: at rest, a share 1 - exp(-gamma T) is new.
    new, _ = Labelling(jnp.asarray(3.0), jnp.asarray(1.0)).mature(s0, s0, loss)
    np.testing.assert_allclose(new / s0, 1 - np.exp(-gamma * 3.0))

    def old(beta: jax.Array) -> jax.Array:
        return jnp.sum(pulse.spliced(s, s0, u0, beta, loss)[0])

    for b in (gamma, gamma + 1e-7, gamma + 1e-4):  # equal rates are no special case, in values or slopes
        slope = (old(jnp.full(1, b + 1e-4)) - old(jnp.full(1, b - 1e-4))) / 2e-4
        np.testing.assert_allclose(jax.grad(old)(jnp.full(1, b))[0], slope, rtol=1e-5)


def test_layers_are_read_by_their_own_instruments() -> None:
    u_of, s_of = (
        Observation(LinearReadout(jnp.full(GENES, c), jnp.asarray(0.0)), NegativeBinomial(jnp.asarray(a)))
        for c, a in ((0.05, 0.3), (0.2, 0.1))
    )
    both = Layered(("unspliced", "total"), (u_of, s_of))
    states = jnp.asarray(rng.gamma(2.0, 100.0, (TIMES, 2 * GENES)))
    shown = both.readings(states, ("unspliced", "spliced"), GENES)
    u, s = np.asarray(states[:, :GENES]), np.asarray(states[:, GENES:])
    np.testing.assert_allclose(shown, [0.05 * u, 0.2 * (u + s)], rtol=1e-12)
    depth = rng.uniform(0.5, 2.0, TIMES)
    read = rng.poisson(np.asarray(shown) * depth[:, None]).astype(float)
    seen = np.stack([mask, ~mask])
    arrays = (jnp.asarray(v) for v in (times, read, shown, seen, np.zeros_like(read)))
    got = both.log_density(*arrays, jnp.asarray(depth))
    exact = [nb(read[k], np.asarray(shown)[k] * depth[:, None], np.full(GENES, a)) for k, a in enumerate((0.3, 0.1))]
    np.testing.assert_allclose(got, np.where(seen, exact, 0.0).sum(axis=(0, 1)), rtol=1e-10)
    with pytest.raises(PinnsimError, match="no layer 'protein'"):
        Layered(("protein",), (u_of,)).readings(states, ("unspliced", "spliced"), GENES)


@pytest.mark.parametrize(
    ("readout", "likelihood", "classes"),
    [
        ("linear", "negative_binomial", (LinearReadout, NegativeBinomial)),
        ("linear", "zero_inflated", (LinearReadout, ZeroInflated)),
        ("linear", "poisson", (LinearReadout, Poisson)),
        ("linear", "lognormal", (LinearReadout, LogNormal)),
        ("linear", "combined", (LinearReadout, Combined)),
        ("cycles", "censored", (CycleReadout, Censored)),
    ],
)
def test_instruments_come_from_configurations(readout: str, likelihood: str, classes: tuple) -> None:
    found = observation_of(ReadoutConfig(kind=readout, scale=3.0), LikelihoodConfig(kind=likelihood, dispersion=0.7), 4)
    assert (type(found.readout), type(found.likelihood)) == classes
    cell = resolve(found)
    shown = jnp.ones((2, 1)) * cell.readout(jnp.full(4, 2.0))[None, :]
    one, flags = jnp.ones_like(shown), jnp.ones(shown.shape, bool)
    assert cell.likelihood.log_density(jnp.arange(2.0), jnp.round(shown), shown, flags, 0.0 * one).shape == (4,)
    if isinstance(cell.likelihood, NegativeBinomial):
        np.testing.assert_allclose(cell.likelihood.dispersion, 0.7)


def test_a_readout_may_have_a_scale_per_gene() -> None:
    config = ReadoutConfig.model_validate({"kind": "linear", "scale": [2.0, 3.0]})
    shown = resolve(observation_of(config, LikelihoodConfig(), 2)).readout(jnp.ones(2))
    np.testing.assert_allclose(shown, [2.0, 3.0])
    with pytest.raises(PinnsimError, match="scale has 2 values, but the model 3 genes"):
        observation_of(config, LikelihoodConfig(), 3)


def test_dispersions_are_learned_where_their_prior_says_so() -> None:
    network = network_of(2, 0)
    config = ModelConfig(
        readout=ReadoutConfig(kind="linear", scale_sd=0.5),
        likelihood=LikelihoodConfig(kind="negative_binomial", dispersion_sd=0.25),
    )
    prior = build(config, network, prior_of(network))
    np.testing.assert_array_equal(prior.spread.observation.likelihood.dispersion.raw, 0.25)
    np.testing.assert_array_equal(prior.spread.observation.readout.scale.raw, 0.5)
    np.testing.assert_array_equal(prior.spread.observation.readout.background.raw, 0.0)


def test_size_factors_enter_the_objective() -> None:
    """Expected counts are the readout times the sample's factor; cells start from counts per unit of it."""
    network, depth = network_of(GENES, 0), rng.uniform(0.5, 2.0, (1, 1, TIMES))
    config = ModelConfig(
        readout=ReadoutConfig(kind="linear"), likelihood=LikelihoodConfig(kind="negative_binomial", dispersion=0.3)
    )
    prior = build(config, network, prior_of(network))
    read = counts + 1.0
    dataset = Dataset.build(read, times, network.genes, time_unit="min", scale="counts")
    data = cultures(dataset, prior.center.table, exposure=depth)
    np.testing.assert_allclose(data.per_exposure[0], read / depth[0, 0][:, None])

    def told(model: CellModel, data: Cultures, settings: Settings) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(means)[None], jnp.zeros(1, int)

    got = objective(prior.center, prior, data, FitPlan(initial="rest").settings(), told)
    exact = nb(read, means * depth[0, 0][:, None], np.full(GENES, 0.3)).sum()
    np.testing.assert_allclose(got.terms["data"], -exact, rtol=1e-10)
    for bad, code in ((depth[..., :2], "E_DATA_SHAPE"), (0.0 * depth, "E_DATA_EMPTY")):
        with pytest.raises(PinnsimError) as caught:
            cultures(dataset, prior.center.table, exposure=bad)
        assert caught.value.codes == (code,)
