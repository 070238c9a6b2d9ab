"""Profiles against the parabolas of a normal posterior; what only a product fixes is called open."""

import sys

import equinox as eqx
import numpy as np
import pandas as pd
import pytest
from posteriors import NAMES, known
from scipy.stats import norm

from pinnsim.errors import PinnsimError
from pinnsim.fit import Profiles, laplace, profile
from pinnsim.plot import profile_panels, rank_histograms

PROFILE = sys.modules[profile.__module__]  # the module, which the function hides


@pytest.fixture(scope="module", autouse=True)
def _one_trace():
    """Whatever is profiled, and whether its prior counts, one program serves."""
    with pytest.MonkeyPatch.context() as patch:
        inner = eqx.debug.assert_max_traces(PROFILE._minimised.__wrapped__, max_traces=1)
        patch.setattr(PROFILE, "_minimised", eqx.filter_jit(inner))
        yield


@pytest.fixture(scope="module")
def problem():
    return known()


@pytest.fixture(scope="module")
def posterior(problem):
    return laplace(problem.model, problem.prior, problem.data, problem.plan, progress=False)


def profiled(problem, posterior, *names: str, **options: object):
    parts = (problem.model, problem.prior, problem.data, problem.plan)
    return profile(*parts, list(names) or None, posterior=posterior, progress=False, **options)


def test_a_normal_posterior_has_parabolas(problem, posterior):
    """rise = (c - mean)^2 / (2 variance), to the optimiser's tolerance of 1e-4 nats."""
    found = profiled(problem, posterior)
    assert tuple(found.table["parameter"]) == NAMES
    assert (found.table["verdict"] == "identified").all()
    assert (found.table["open"] == "").all()
    half = norm.ppf(0.975)
    for k, name in enumerate(NAMES):
        curve = found.curves[found.curves["parameter"] == name]
        sd = np.sqrt(problem.covariance[k, k])
        expected = (curve["raw"].to_numpy() - problem.mean[k]) ** 2 / (2 * sd**2)
        np.testing.assert_allclose(curve["rise"], expected, atol=1e-3)
        assert (np.diff(curve["raw"]) > 0).all()
        row = found.table.set_index("parameter").loc[name]
        limits = np.exp(problem.mean[k] + half * sd * np.array([-1.0, 0.0, 1.0]))
        np.testing.assert_allclose([row["lo"], row["estimate"], row["hi"]], limits, rtol=5e-3)
        np.testing.assert_allclose(curve["value"], np.exp(curve["raw"]))


def test_without_its_own_prior_only_data_and_others_hold_a_rate(problem, posterior):
    """Precisions subtract; the posterior is that of the same problem with this one prior lifted."""
    found = profiled(problem, posterior, NAMES[0], with_prior=False).table.iloc[0]
    lifted = known({"synthesis": np.inf, "decay": 0.4, "scale": 0.3})
    half = norm.ppf(0.975) * np.sqrt(lifted.covariance[0, 0])
    np.testing.assert_allclose(np.log([found["lo"], found["hi"]]), lifted.mean[0] + half * np.array([-1, 1]), rtol=5e-3)


def test_a_product_leaves_its_factors_open():
    """Readings fix synthesis / decay x scale; with free priors on the first two either may be anything."""
    free = known({"synthesis": np.inf, "decay": np.inf, "scale": 0.3})
    normal = laplace(free.model, free.prior, free.data, free.plan, progress=False)
    found = profiled(free, normal)
    rows = found.table.set_index("parameter")
    assert list(rows.loc[[NAMES[0], NAMES[1]], "open"]) == ["both", "both"]
    assert list(rows.loc[[NAMES[0], NAMES[1]], "verdict"]) == ["not identified"] * 2
    assert np.isnan(rows.loc[NAMES[0], ["lo", "hi"]].astype(float)).all()
    # The third is held by its prior alone.
    assert rows.loc[NAMES[2], "verdict"] == "identified"
    np.testing.assert_allclose(np.log(rows.loc[NAMES[2], "hi"] / rows.loc[NAMES[2], "lo"]), 2 * 1.96 * 0.3, rtol=5e-3)
    flat = found.curves[found.curves["parameter"] == NAMES[1]]
    assert flat["rise"].abs().max() < 1e-3
    assert np.ptp(flat["raw"]) == pytest.approx(20.0)


def test_one_side_may_be_open():
    raw = np.array([0.0, 1.0, 2.0])
    assert PROFILE._crossing(raw, 0.5 * raw**2, 1.0) == pytest.approx(np.sqrt(2.0), abs=1e-12)
    assert np.isnan(PROFILE._crossing(raw, np.array([0.0, 0.3, 0.4]), 1.0))
    assert np.isnan(PROFILE._crossing(raw, np.array([0.0, np.nan, 4.0]), 1.0)), "past what failed nothing is known"


def test_bad_arguments_are_told_together(problem, posterior):
    with pytest.raises(PinnsimError) as caught:
        profiled(problem, posterior, "decay:g", "synthesis:g0", level=1.0, points=1)
    assert caught.value.codes == ("E_USAGE",) * 3
    assert "did you mean 'decay:g0'" in str(caught.value)


def test_profiles_are_drawn_with_their_threshold_and_open_sides():
    raw = np.linspace(-2, 2, 9)
    curves = [pd.DataFrame({"parameter": name, "unit": "1/min", "value": np.exp(raw), "raw": raw, "rise": rise})
              for name, rise in (("decay:a", raw**2), ("decay:b", 0 * raw))]  # fmt: skip
    rows = [("decay:a", "1/min", 1.0, 0.3, 4.0, "identified", ""), ("decay:b", "1/min", 1.0, np.nan, np.nan,
             "not identified", "both")]  # fmt: skip
    columns = ["parameter", "unit", "estimate", "lo", "hi", "verdict", "open"]
    found = Profiles(pd.concat(curves), pd.DataFrame(rows, columns=columns), 0.95, 1.92)
    axes = profile_panels(found, simulated=True)
    assert [ax.get_title(loc="left") for ax in axes.ravel()] == [
        "decay:a\nidentified",
        "decay:b\nnot identified, open both",
    ]
    assert axes[0, 0].get_xlabel() == "value (1/min)"
    assert axes[0, 0].get_ylabel() == "rise (nats)"
    assert "[simulated data]" in axes[0, 0].figure.get_suptitle()


def test_ranks_are_drawn_in_bins_of_equally_many():
    axes = rank_histograms({"m: a": np.arange(64), "m: b": np.zeros(64, int)}, 15, 4)
    counts = axes[0, 1].patches[-1].get_data().values
    np.testing.assert_array_equal(counts, [64, 0, 0, 0])
    with pytest.raises(PinnsimError, match="E_USAGE"):
        rank_histograms({"m: a": np.arange(64)}, 15, 5)
