"""The normal posterior: against exact second derivatives, quadrature and its own samples; names and verdicts.

Readings are the model's own predictions, so residuals are zero and the Gauss-Newton curvature is the exact one.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CONDITIONS, GENES, measured, prior_model, truth_of

from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, cultures, edge_table, laplace, rate_table, verdict_counts
from pinnsim.fit.free import free_vector
from pinnsim.fit.objective import collocation_readings, objective, trajectory_readings
from pinnsim.parameter import resolve

NOISE = 0.05
PLAN = FitPlan(collocation_steps=10, trajectory_steps=0, substeps=2, rtol=1e-8, atol=1e-10, initial="rest")
REGULATION = {"hidden": "none", "basal": -1.0, "strength_sd": 0.1, "affinity_sd": 0.2, "basal_sd": 0.5}


@pytest.fixture(scope="module")
def prior():
    likelihood = {"kind": "gaussian", "sd": NOISE}
    return prior_model("abundance", layers=("mrna",), regulation=REGULATION, likelihood=likelihood)


@pytest.fixture(scope="module")
def model(prior):
    return truth_of(prior, 2, 0.3)


@pytest.fixture(scope="module")
def data(prior, model):
    """Cultures whose readings are what collocation predicts."""
    found = cultures(measured(model, sample=False), prior.center.table, substeps=2)
    predict = eqx.filter_jit(collocation_readings)
    for _ in range(31):  # collocation reads the readings: their fixed point
        predicted = predict(resolve(model), nameless(found), PLAN.settings())[0]
        found = dataclasses.replace(found, readings=predicted)
    return found


def nameless(data):
    return dataclasses.replace(data, names=())


@pytest.fixture(scope="module")
def posterior(prior, model, data):
    return laplace(model, prior, data, PLAN)


def test_curvature_is_the_exact_second_derivative(prior, model, data, posterior):
    """Of the data term, by central differences of its gradient: steps of 1e-4 prior widths leave errors of 1e-7."""
    free, scale = free_vector(model, prior), posterior.scale

    def cost(vector):
        found = objective(free.with_values(vector), prior, nameless(data), PLAN.settings(), collocation_readings)
        return found.terms["data"]

    slope = jax.jit(jax.vmap(jax.grad(cost)))
    shifts = 1e-4 * np.diag(scale)
    exact = scale * np.asarray(slope(free.start[None] + shifts) - slope(free.start[None] - shifts)) / 2e-4
    ours = (posterior.basis * posterior.eigenvalues) @ posterior.basis.T
    np.testing.assert_allclose(ours, exact, atol=1e-5 * np.abs(exact).max())
    inverse = np.linalg.inv(exact + np.eye(len(scale)))
    np.testing.assert_allclose(posterior.covariance(), scale[:, None] * inverse * scale, atol=1e-4)
    np.testing.assert_allclose(posterior.sd, np.sqrt(np.diag(posterior.covariance())), rtol=1e-8)


def test_few_directions_are_the_leading_ones_and_overstate_uncertainty(prior, model, data, posterior):
    few = laplace(model, prior, data, PLAN, dense=1, rank=8)
    assert not few.complete
    assert posterior.complete
    np.testing.assert_allclose(few.eigenvalues[:5], posterior.eigenvalues[:5], rtol=1e-4)
    assert (few.sd >= posterior.sd - 1e-6 * posterior.scale).all()


def test_through_the_solver_curvature_agrees_with_differences(prior, model, data):
    """Forward derivatives through the solver against central differences of predictions: the solver's tolerance is
    1e-8, the difference's step 1e-4, so 1e-3 of the largest is a wide margin."""
    found = laplace(model, prior, data, PLAN, predict="trajectories")
    free = free_vector(model, prior)
    predict = eqx.filter_jit(
        lambda v: trajectory_readings(resolve(free.with_values(v)), nameless(data), PLAN.settings())[0]
    )
    step, columns = 1e-4, []
    for k, scale in enumerate(found.scale):
        shift = jnp.zeros(len(found.scale)).at[k].set(step * scale)
        columns.append(np.ravel(predict(free.start + shift) - predict(free.start - shift)) / (2 * step * NOISE))
    expected = np.array(columns) @ np.array(columns).T
    ours = (found.basis * found.eigenvalues) @ found.basis.T
    np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())


def test_evidence_is_the_integral_over_one_free_parameter(prior, model, data):
    """Quadrature over one decay rate that the data identify well: there the posterior is nearly normal (its third
    derivative moves the logarithm of the integral by less than 0.01)."""
    spread = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, prior.spread)
    one = eqx.tree_at(lambda s: s.kinetics.decay.raw, spread, spread.kinetics.decay.raw.at[0].set(0.5))
    narrow = dataclasses.replace(prior, spread=one)
    found = laplace(model, narrow, data, PLAN)
    assert found.free.names == ("decay:g0",)
    cost = jax.jit(
        jax.vmap(
            lambda x: (
                objective(
                    found.free.with_values(x[None]), narrow, nameless(data), PLAN.settings(), collocation_readings
                ).total
            )
        )
    )
    grid = jnp.linspace(-8, 8, 801) * found.sd[0] + found.estimate[0]
    mass = np.trapezoid(np.exp(-np.asarray(cost(grid))), np.asarray(grid))
    expected = np.log(mass) - 0.5 * np.log(2 * np.pi) - np.log(0.5)  # the prior's own normalisation
    assert found.evidence == pytest.approx(expected, abs=0.02)


def test_samples_have_the_posterior_covariance(posterior):
    members = posterior.sample(jax.random.key(0), 20_000)
    raw = np.asarray(members.kinetics.decay.raw)
    where = [posterior.free.names.index(f"decay:g{i}") for i in range(GENES)]
    expected = posterior.covariance()[np.ix_(where, where)]
    # A covariance from n samples is off by about sqrt(2 / n) of the variances.
    np.testing.assert_allclose(np.cov(raw.T), expected, atol=5 * np.sqrt(2 / 20_000) * expected.max())


def test_every_rate_has_a_verdict_and_an_interval_inside_its_bounds(posterior, model):
    table = rate_table(posterior)
    assert len(table) == len(posterior.free.names) == len(set(table["parameter"]))
    decay = table[table["parameter"].str.startswith("decay:")]
    assert (decay["verdict"] != "prior echo").all()
    assert (decay["unit"] == "1/min").all()
    np.testing.assert_allclose(decay["estimate"], resolve(model).kinetics.decay)
    assert ((table["lo"] <= table["estimate"]) & (table["estimate"] <= table["hi"])).all()
    assert (decay["lo"] > 0).all()
    assert {"identified", "prior echo"} <= set(table["verdict"])
    counts = verdict_counts(table).set_index("kind")
    assert counts.to_numpy().sum() == len(table)
    assert counts.loc["decay"].sum() == GENES


def test_edges_are_ranked_by_how_clear_their_sign_is(posterior, model):
    edges = edge_table(posterior, draws=4000)
    assert set(edges["source"] + "->" + edges["target"]) == set(model.table.edges)
    clear = np.abs(edges["strength"]) / (edges["hi"] - edges["lo"])
    assert (np.diff(clear) <= 1e-12).all()
    sign = dict(zip(model.table.edges, np.asarray(model.kinetics.promoter.sign.value), strict=True))
    for row in edges.to_dict("records"):
        known = sign[f"{row['source']}->{row['target']}"]
        if known:  # a known sign cannot flip
            assert np.sign(row["strength"]) == known
            assert row["sure"] == 1.0


def test_what_nothing_depends_on_echoes_its_prior(prior, model, data):
    """Without readings of the culture that was heated, what heat does cannot be seen."""
    unseen = dataclasses.replace(data, mask=data.mask.at[list(CONDITIONS).index("warm")].set(False))
    table = rate_table(laplace(model, prior, unseen, PLAN)).set_index("parameter")
    heat = table[table.index.str.endswith("by heat")]
    assert len(heat) == GENES
    np.testing.assert_allclose(heat["width"], 1.0)
    assert (heat["verdict"] == "prior echo").all()


def test_a_model_without_free_parameters_is_refused(prior, model, data):
    spread = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, prior.spread)
    with pytest.raises(PinnsimError, match="E_FIT: The prior leaves no parameter free"):
        laplace(model, dataclasses.replace(prior, spread=spread), data, PLAN)
