"""The exact Hessian where the objective is quadratic in closed form, away from its minimum; saddles are refused; the
spectrum names directions."""

import numpy as np
import pytest
from posteriors import NAMES, known

from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, fisher_spectrum, laplace
from pinnsim.fit.curvature import refuse_saddles
from pinnsim.plot import spectrum_panel

PLAN = FitPlan(collocation_steps=0, trajectory_steps=1, substeps=1, rtol=1e-8, atol=1e-10, initial="rest")


@pytest.fixture(scope="module")
def problem():
    return known()


@pytest.fixture(scope="module")
def posterior(problem):
    parts = (problem.model, problem.prior, problem.data, problem.plan)
    return laplace(*parts, curvature="exact", progress=False)


def test_a_quadratic_objective_has_its_covariance_everywhere(problem, posterior):
    """At the prior's centre, residuals are 0.7: Gauss and Newton, who drop a term of that size, are off."""
    np.testing.assert_allclose(posterior.covariance(), problem.covariance, atol=1e-9)
    np.testing.assert_allclose(posterior.sd, np.sqrt(np.diag(problem.covariance)))


@pytest.mark.slow
def test_through_the_solver_second_derivatives_are_as_exact(problem):
    """The state at rest, synthesis / decay, is far from linear in its rates; only with its second derivatives is the
    whole quadratic. The solver's tolerance is 1e-8."""
    parts = (problem.model, problem.prior, problem.data, PLAN)
    found = laplace(*parts, curvature="exact", progress=False)
    np.testing.assert_allclose(found.covariance(), problem.covariance, atol=1e-6)


def test_saddles_and_large_models_are_refused():
    names = ("a", "b", "c")
    refuse_saddles(np.array([3.0, -0.5, 0.0]), np.eye(3), names)
    with pytest.raises(PinnsimError, match=r"E_FIT.*falls along 1 directions \(steepest in b"):
        refuse_saddles(np.array([3.0, -1.5, 0.0]), np.eye(3), names)
    with pytest.raises(PinnsimError, match="E_FIT"):
        refuse_saddles(np.array([3.0, np.nan, 0.0]), np.eye(3), names)


def test_directions_are_named_by_their_leading_rates(posterior):
    """One combination is determined: (0.8, -0.4, 0.3) in prior widths, l = 5 (0.8^2 + 0.4^2 + 0.3^2) / 0.2^2."""
    table = fisher_spectrum(posterior)
    stiff = 5 * (0.64 + 0.16 + 0.09) / 0.04
    np.testing.assert_allclose(table["eigenvalue"], [stiff, 0, 0], atol=1e-6)
    np.testing.assert_allclose(table["width"], [1 / np.sqrt(1 + stiff), 1, 1])
    weights = np.array([0.8, -0.4, 0.3]) / np.sqrt(0.89)
    expected = " ".join(f"{w:+.2f} {name}" for w, name in zip(weights, NAMES, strict=True))
    assert table["leading"].iloc[0] == expected
    ax = spectrum_panel(table)
    assert ax.get_ylabel() == "posterior / prior width"
    assert expected in ax.texts[0].get_text()
