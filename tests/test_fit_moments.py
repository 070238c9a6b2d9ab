"""Populations by means and covariances: densities of scipy, rates of exact cells, gradients, and what bursts need."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import Array

from pinnsim.data import Snapshots
from pinnsim.dynamics.motifs import telegraph
from pinnsim.errors import PinnsimError
from pinnsim.fit import (
    ByMoments,
    FitPlan,
    MomentData,
    MomentModel,
    MomentPrior,
    fit_moments,
    moments_of,
    predicted_moments,
)
from pinnsim.fit.moments import moments_cost, normal_cost
from pinnsim.observation import LinearReadout, Observation, Poisson
from pinnsim.parameter import frozen, positive, resolve
from pinnsim.simulate import AtRest, FromState, StationaryCovariance, ZeroCovariance

CELLS, CAPTURE = 1500, 0.5
rng = np.random.default_rng(3)
COUNTER = Observation(LinearReadout(frozen(jnp.full(1, CAPTURE)), frozen(0.0)), Poisson())
PLAN = FitPlan(
    starts=2, keep=2, trajectory_steps=100, trajectory_learning_rate=0.1, start_spread=0.3, rtol=1e-6, atol=1e-8
)


# One shape for everything that is fitted: compiling is what these tests cost. RNA decays at rate 1 in truth.
BURSTS = telegraph(1, on=0.9, off=1.0, transcription=20.0, decay=1.0, translation=None, time_unit="h")


def prior_of(kinetics: Any, free: Any, *, rest: bool = False) -> MomentPrior:
    """Rate constants known to within e, where `free`."""
    kinetics = eqx.tree_at(lambda k: k.law.constant, kinetics, positive(kinetics.law.constant))
    begin = (AtRest(), StationaryCovariance()) if rest else (FromState(kinetics.start), ZeroCovariance())
    center = MomentModel(kinetics, *begin, frozen(1.0), (COUNTER,))
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, center)
    return MomentPrior(
        center, eqx.tree_at(lambda m: m.kinetics.law.constant.raw, still, jnp.asarray(free, dtype=float))
    )


def seen(amounts: np.ndarray, times: np.ndarray, gene: str, factor: np.ndarray | float = 1.0) -> Snapshots:
    """Counts of cells, (time, cell), behind a first time with none to tell."""
    counts = rng.poisson(factor * CAPTURE * amounts)
    first = np.zeros((1, counts.shape[1]), dtype=int)
    flat = np.concatenate([first, counts]).ravel()
    at = np.repeat(np.append(0.0, times), counts.shape[1])
    options = {"time_unit": "h", "scale": "counts", "simulated": True}
    exposure = np.broadcast_to(np.asarray(factor), counts.shape) if np.ndim(factor) else np.ones(counts.shape)
    exposure = np.concatenate([np.ones(first.shape), exposure]).ravel()
    return Snapshots.build(flat[:, None], at, (gene,), ("mrna",), exposure=exposure, **options)


def test_costs_are_those_of_normal_cells() -> None:
    y, root = rng.normal(size=(7, 3)), rng.normal(size=(3, 3))
    m, v = rng.normal(size=3), root @ root.T + np.eye(3)
    arrays = (y.mean(axis=0), np.cov(y.T, bias=True), m, v)
    cost, usable = normal_cost(jnp.asarray(7.0), *map(jnp.asarray, arrays))
    np.testing.assert_allclose(-cost, scipy.stats.multivariate_normal(m, v).logpdf(y).sum(), rtol=1e-12)
    assert bool(usable)
    assert not bool(normal_cost(jnp.asarray(7.0), *map(jnp.asarray, (*arrays[:3], -v)))[1])


TIMES = np.array([0.4, 0.8, 1.5, 3.0, 6.0])
SETTINGS = PLAN.settings()


def cost(raw: Array, model: MomentModel, data: MomentData) -> tuple[Array, tuple[Array, Array]]:
    model = eqx.tree_at(lambda m: m.kinetics.law.constant.raw, model, raw)
    found = predicted_moments(resolve(model), data, SETTINGS)
    return moments_cost(*found, data, SETTINGS, ByMoments())[0], (found[0][0, 1:, 0], found[1][0, 1:, 0, 0])


class Problem(NamedTuple):
    """Cells that started alike, the model of them, and which of its rates are free."""

    model: MomentModel
    data: MomentData
    free: np.ndarray

    both = staticmethod(eqx.filter_jit(jax.value_and_grad(cost, has_aux=True)))

    def __call__(self, raw: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Cost, its slopes by all logarithms of rates, and means and variances at `TIMES`."""
        (value, (mean, variance)), slope = self.both(jnp.asarray(raw), self.model, self.data)
        return float(value), *(np.asarray(a) for a in (slope, mean, variance))

    def slopes(self, raw: np.ndarray, h: float = 1e-4) -> list[np.ndarray]:
        """Of means and variances, (free rate, time), by central differences."""
        apart = [[self(raw + sign * h * np.eye(4)[k]) for sign in (1, -1)] for k in self.free]
        return [np.stack([(a[i] - b[i]) / (2 * h) for a, b in apart]) for i in (2, 3)]

    def information(self, raw: np.ndarray) -> np.ndarray:
        """Of the free rates, in normal cells."""
        by_mean, by_variance = self.slopes(raw)
        _, _, _, variance = self(raw)
        return CELLS * ((by_mean / variance) @ by_mean.T + 0.5 * (by_variance / variance**2) @ by_variance.T)

    def best(self, raw: np.ndarray) -> np.ndarray:
        """The lowest cost, by Fisher's scoring."""
        for _ in range(8):
            step = np.linalg.solve(self.information(raw), self(raw)[1][self.free])
            raw = raw.copy()
            raw[self.free] -= np.clip(step, -0.5, 0.5)
        assert np.abs(step).max() < 1e-4
        return raw


def test_rates_of_births_and_deaths_come_back() -> None:
    """Poisson cells, counted with size factors of their own: a promoter that is always on."""
    truth = np.log([1.0, 1e-9, 40.0, 0.8])
    exact = 50.0 * (1 - np.exp(-0.8 * TIMES))
    factor = np.exp(0.3 * rng.standard_normal((5, CELLS)))
    cells = seen(rng.poisson(exact[:, None], (5, CELLS)), TIMES, "g0", factor)
    always = eqx.tree_at(lambda k: k.start, BURSTS, jnp.asarray([0.0, 1.0, 0.0]))
    problem = Problem(prior_of(always, np.zeros(4)).center, moments_of(cells, BURSTS.table), np.array([2, 3]))
    _, _, mean, variance = problem(truth)
    np.testing.assert_allclose(mean, CAPTURE * exact, rtol=1e-5)
    np.testing.assert_allclose(variance, (CAPTURE**2 + CAPTURE * (1 / factor).mean(axis=1)) * exact, rtol=1e-5)
    found = problem.best(np.log([1.0, 1e-9, 60.0, 0.5]))
    error = np.sqrt(np.diag(np.linalg.inv(problem.information(found))))
    assert (error < 0.02).all()
    assert (np.abs(found - truth)[2:] < 3 * error).all()


def bursting(on: float, off: float, rate: float, until: np.ndarray, cells: int) -> np.ndarray:
    """Exact numbers of RNA (decay 1) at times, other cells at each: promoters switch, and given their course RNA is
    Poisson with mean `rate * int on(s) e^(s - t) ds`."""
    waits = rng.exponential(1.0, (len(until), cells, 80)) / np.where(np.arange(80) % 2, off, on)
    ends = np.minimum(np.cumsum(waits, axis=2), until[:, None, None]) - until[:, None, None]
    return rng.poisson(rate * (np.exp(ends[..., 1::2]) - np.exp(ends[..., 0:-1:2])).sum(axis=2))


def test_rates_of_a_bursting_promoter_come_back() -> None:
    """All three of them, within the sandwich errors: cells are far from normal, and linear noise is exact."""
    truth = np.log([0.6, 1.5, 30.0, 1.0])
    cells = seen(bursting(*np.exp(truth[:3]), TIMES, CELLS), TIMES, "g0")
    problem = Problem(prior_of(BURSTS, np.zeros(4)).center, moments_of(cells, BURSTS.table), np.arange(3))
    found = problem.best(np.log([0.9, 1.0, 20.0, 1.0]))
    by_mean, by_variance = problem.slopes(found)
    _, _, mean, variance = problem(found)
    apart = cells.values[0, 1:, :, 0, 0] - mean[:, None]
    score = by_mean[:, :, None] * (apart / variance[:, None])
    score = score + 0.5 * by_variance[:, :, None] * (apart**2 / variance[:, None] ** 2 - 1 / variance[:, None])
    bread = np.linalg.inv(problem.information(found))
    error = np.sqrt(np.diag(bread @ np.einsum("atc,btc->ab", score, score) @ bread))
    assert (error < 0.2).all()
    assert (np.abs(found - truth)[:3] < 3 * error).all()


def test_slopes_are_those_of_finite_differences_and_bursts_need_variances() -> None:
    """Long after the start, means know the product of burst frequency and size only."""
    cells = seen(np.full((5, 12), 5.0), 40.0 + TIMES, "g0")
    problem = Problem(prior_of(BURSTS, np.zeros(4)).center, moments_of(cells, BURSTS.table), np.array([0, 2]))
    at, h = np.log([0.05, 8.0, 80.0, 1.0]), 1e-3
    _, slope, mean, variance = problem(at)
    np.testing.assert_allclose(mean, CAPTURE * 80 * 0.05 / 8.05, rtol=1e-5)
    # Bursts of 10 on average would make RNA's Fano factor 11, were they at once; the promoter takes 1 / 8 for each.
    fano = 1 + 80 * 8.0 / (8.05 * 9.05)
    np.testing.assert_allclose(variance / mean, 1 + CAPTURE * fano, rtol=1e-5)
    central = [(problem(at + h * e)[0] - problem(at - h * e)[0]) / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(slope, central, rtol=1e-4)
    by_mean, _ = problem.slopes(at, 1e-3)
    alone, both = (np.linalg.eigvalsh(m) for m in (by_mean @ by_mean.T, problem.information(at)))
    assert alone[0] / alone[1] < 1e-5
    assert both[0] / both[1] > 1e-3


def test_means_alone_are_weighted_by_what_was_measured() -> None:
    data = moments_of(seen(rng.poisson(5.0, (2, 40)), np.array([1.0, 2.0]), "g0"), BURSTS.table)
    settings = PLAN.settings()
    expected = data.mean + 0.1
    shapes = expected, jnp.ones_like(data.covariance), jnp.asarray([True]), data, settings
    alone, failed = moments_cost(*shapes, ByMoments(covariance=False))
    wide = np.asarray(data.covariance)[0, 1:, 0, 0]
    exact = scipy.stats.norm(0.0, np.sqrt(wide / 40)).logpdf(0.1) - scipy.stats.norm(0.0, np.sqrt(wide / 40)).logpdf(0)
    level, _ = moments_cost(data.mean, *shapes[1:], ByMoments(covariance=False))
    np.testing.assert_allclose(float(alone - level), -exact.sum(), rtol=1e-10)
    assert int(failed) == 0
    lost = moments_cost(expected, -shapes[1], *shapes[2:], ByMoments())
    assert (float(lost[0]), int(lost[1])) == (2e6, 2)


def test_cells_at_rest_are_those_of_long_after_the_start() -> None:
    cells = seen(np.full((5, 12), 5.0), 40.0 + TIMES, "g0")
    data, model = moments_of(cells, BURSTS.table), prior_of(BURSTS, np.zeros(4)).center
    rested = prior_of(BURSTS, np.zeros(4), rest=True).center
    run = eqx.filter_jit(predicted_moments)
    found = run(resolve(rested), data, SETTINGS)
    _, _, mean, spread = Problem(model, data, np.arange(4))(np.asarray(model.kinetics.law.constant.raw))
    np.testing.assert_allclose(found[0][0, :, 0], np.full(6, mean[-1]), rtol=1e-5)
    np.testing.assert_allclose(found[1][0, :, 0, 0], np.full(6, spread[-1]), rtol=1e-5)


@pytest.mark.slow
def test_fits_go_down_and_tell_what_is_missing() -> None:
    cells = seen(bursting(0.6, 1.5, 30.0, TIMES, 60), TIMES, "g0")
    plan = PLAN.model_copy(update={"trajectory_steps": 30})
    found = fit_moments(prior_of(BURSTS, [1.0, 0.0, 1.0, 0.0]), cells, plan=plan, progress=False)
    assert found.table["outcome"].tolist() == ["done"] * 2
    on, off, rate, decay = np.asarray(resolve(found.best).kinetics.law.constant)
    assert (off, decay) == (1.0, 1.0)
    mean = moments_of(cells, BURSTS.table).mean[0, -1, 0]
    assert abs(CAPTURE * rate * on / (on + off) / mean - 1) < 0.2
    with pytest.raises(PinnsimError) as caught:
        fit_moments(prior_of(BURSTS, np.ones(4)), seen(np.full((5, 12), 4.0), TIMES, "h"), plan=PLAN, progress=False)
    assert caught.value.codes == ("E_GENE_UNMATCHED",)
