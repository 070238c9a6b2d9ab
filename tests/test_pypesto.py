"""pyPESTO's view of a fit: its multi-start finds the closed-form optimum, and priors are counted once."""

import importlib.util

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from posteriors import NAMES, known

import pinnsim
from pinnsim.errors import PinnsimError
from pinnsim.fit import target


@pytest.fixture(scope="module")
def problem():
    return known()


@pytest.fixture(scope="module")
def aim(problem):
    return target(problem.model, problem.prior, problem.data, problem.plan)


@pytest.mark.filterwarnings("ignore")  # pyPESTO's own
def test_a_multi_start_finds_the_exact_optimum(problem, aim):
    pypesto = pytest.importorskip("pypesto")
    from pypesto.optimize import ScipyOptimizer, minimize

    theirs = pinnsim.to_pypesto(aim)
    assert theirs.x_names == list(NAMES)
    np.testing.assert_allclose(theirs.ub - theirs.lb, 12 * np.asarray(aim.free.spread))
    # Objective and priors together are ours, up to the priors' normalisation; gradients agree.
    constant = 0.5 * np.sum(np.log(2 * np.pi * np.asarray(aim.free.spread) ** 2))
    cost = eqx.filter_jit(lambda vector: aim(vector).total)
    points = np.asarray(aim.free.center) + np.array([[0.0, 0.0, 0.0], [0.3, -0.2, 0.1]])
    for point in points:
        value, slope = theirs.objective(point, sensi_orders=(0, 1))
        assert value == pytest.approx(float(cost(jnp.asarray(point))) + constant)
        exact = np.linalg.solve(problem.covariance, point - problem.mean)
        np.testing.assert_allclose(slope, exact, atol=1e-6 * np.abs(exact).max())
    np.random.seed(1)
    found = minimize(
        theirs,
        optimizer=ScipyOptimizer("L-BFGS-B", tol=1e-12),
        n_starts=3,
        engine=pypesto.engine.SingleCoreEngine(),
        progress_bar=False,
        history_options=pypesto.HistoryOptions(trace_record=False),
    )
    for start in found.optimize_result.list:
        np.testing.assert_allclose(start.x, problem.mean, atol=1e-3)


def test_numbers_without_a_prior_get_bounds_about_the_model(aim):
    pytest.importorskip("pypesto")
    free = known({"synthesis": np.inf, "decay": np.inf, "scale": np.inf})
    theirs = pinnsim.to_pypesto(target(free.model, free.prior, free.data, free.plan), reach=3.0)
    np.testing.assert_allclose(theirs.ub - theirs.lb, 6.0)
    np.testing.assert_allclose(0.5 * (theirs.ub + theirs.lb), np.asarray(aim.free.start))


def test_without_pypesto_the_extra_is_named(aim, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pypesto" else found(name))
    with pytest.raises(PinnsimError) as caught:
        pinnsim.to_pypesto(aim, width=-1.0)
    assert caught.value.codes == ("E_USAGE", "E_EXTRA_MISSING")
    assert "pinnsim[pypesto]" in str(caught.value)
