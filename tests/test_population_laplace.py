"""The posterior of rates from single cells: closed forms of counts at rest, verdicts, and what has no posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from pinnsim.data import Snapshots
from pinnsim.distance import Energy
from pinnsim.dynamics.reactions import Reaction, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.fit import (
    ByDistance,
    ByLikelihood,
    FitPlan,
    Intrinsic,
    PopulationModel,
    PopulationPrior,
    Populations,
    RestingBegin,
    fit_data,
    laplace_snapshots,
    polish_snapshots,
    rate_table,
)
from pinnsim.observation import LinearReadout, NegativeBinomial, Observation
from pinnsim.parameter import frozen, positive

BIRTH, DEATH, ALPHA = 20.0, 0.5, 0.2
PLAN = FitPlan(starts=1, initial="rest", substeps=1)
ALIKE = Intrinsic(frozen(1e14))  # so large that noise is below rounding of what is tested


def prior(sd: float = 1.0, alpha_sd: float = 0.0) -> PopulationPrior:
    kinetics = reaction_system(
        [Reaction("birth", "0 -> x.mrna", BIRTH), Reaction("death", "x.mrna -> 0", DEATH)], time_unit="h"
    )
    kinetics = eqx.tree_at(lambda k: k.law.constant, kinetics, positive(jnp.asarray([BIRTH, DEATH])))
    counter = Observation(LinearReadout(frozen(jnp.ones(1)), frozen(0.0)), NegativeBinomial(positive(ALPHA)))
    center = PopulationModel(kinetics, RestingBegin(), ALIKE, (counter,))
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, center)
    where = lambda m: (m.kinetics.law.constant.raw, m.observations[0].likelihood.dispersion.raw)  # noqa: E731
    spread = eqx.tree_at(where, still, (jnp.full(2, sd), jnp.asarray(alpha_sd)))
    return PopulationPrior(center, spread)


@pytest.fixture(scope="module")
def cells() -> Snapshots:
    rng = np.random.default_rng(4)
    exposure = rng.uniform(0.5, 2.0, 60)
    mean = exposure * BIRTH / DEATH
    counts = rng.poisson(rng.gamma(1 / ALPHA, ALPHA * mean))
    return Snapshots.build(
        counts[:, None],
        np.repeat([0.0, 3.0], 30),
        ("x",),
        ("mrna",),
        exposure=exposure,
        time_unit="h",
        scale="counts",
        simulated=True,
    )


@pytest.fixture(scope="module")
def data(cells: Snapshots) -> Populations:
    return fit_data(prior(), cells, ByLikelihood(), PLAN, 1)


def test_cells_at_rest_tell_the_ratio_of_rates_and_the_dispersion(cells: Snapshots, data: Populations) -> None:
    """Of two rates only their ratio shows: the curvature is that of counts with the mean s m and the dispersion."""
    given = prior(1.0, 0.7)
    found = laplace_snapshots(given.center, given, data, ByLikelihood(), PLAN, progress=False)
    y = jnp.asarray(cells.values[cells.there].reshape(-1, 1))
    m = jnp.asarray(cells.exposure[cells.there].reshape(-1, 1) * BIRTH / DEATH)

    def cost(at: Array) -> Array:
        likelihood = NegativeBinomial(ALPHA * jnp.exp(at[1]))
        return -likelihood.log_density(jnp.zeros(60), y, at[0] * m, jnp.ones((60, 1), bool), jnp.zeros((60, 1)))[0]

    seen = np.asarray(jax.hessian(cost)(jnp.asarray([1.0, 0.0])))
    effects = np.asarray([[1.0, -1.0, 0.0], [0.0, 0.0, 0.7]])
    exact = np.linalg.inv(np.eye(3) + effects.T @ seen @ effects)
    exact[2] *= 0.7
    exact[:, 2] *= 0.7
    np.testing.assert_allclose(found.covariance(), exact, rtol=1e-4, atol=1e-7)
    assert len(found.eigenvalues) == 2
    assert rate_table(found)["verdict"].tolist() == ["in part", "in part", "identified"]
    tight = eqx.tree_at(lambda p: p.spread.kinetics.law.constant.raw, given, jnp.asarray([1.0, 0.01]))
    known = laplace_snapshots(given.center, tight, data, ByLikelihood(), PLAN, progress=False)
    assert rate_table(known)["verdict"].tolist() == ["identified", "prior echo", "identified"]


def test_a_polished_fit_is_at_the_maximum(cells: Snapshots, data: Populations) -> None:
    """Of rates that only show by their ratio, and the same prior width: the mean is that of the counts."""
    given = prior(1.0, 0.7)
    off = eqx.tree_at(lambda m: m.kinetics.law.constant.raw, given.center, jnp.log(jnp.asarray([60.0, 0.4])))
    model, left = polish_snapshots(off, given, data, ByLikelihood(), PLAN, tolerance=1e-12, progress=False)
    assert left < 1e-9
    raw = np.asarray(model.kinetics.law.constant.raw) - np.log([BIRTH, DEATH])
    np.testing.assert_allclose(raw[0], -raw[1], atol=1e-6)
    alpha = float(jnp.exp(model.observations[0].likelihood.dispersion.raw))
    y, e = cells.values[cells.there].ravel(), cells.exposure[cells.there]
    mean = e * np.exp(raw[0] - raw[1]) * BIRTH / DEATH
    # The slope of log NB by log mean, against that of the prior.
    np.testing.assert_allclose(np.sum((y - mean) / (1 + alpha * mean)), raw[0], atol=3e-4)


def test_a_distance_has_no_posterior(data: Populations) -> None:
    given = prior()
    with pytest.raises(PinnsimError, match="no likelihood"):
        laplace_snapshots(given.center, given, data, ByDistance(Energy()), PLAN, progress=False)
