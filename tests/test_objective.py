"""The objective adds up its named terms, and its gradient is that of central differences, whatever the parts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from problems import QUICK, measured, prior_model, truth_of
from systems import randomised

from pinnsim.fit import cultures
from pinnsim.fit.objective import Predictor, collocation_readings, objective, trajectory_readings
from pinnsim.parameter import resolve, trainable

TIGHT = QUICK.model_copy(update={"rtol": 1e-10, "atol": 1e-12, "max_steps": 8192, "gate_penalty": 0.7})
SETTINGS = TIGHT.settings()
compiled = eqx.filter_jit(objective)

LEARNED = {
    "residual": {"kind": "mlp", "width": 3, "gate": 0.5},
    "likelihood": {"kind": "correlated", "early_sd": 0.8, "late_sd": 0.25},
}
SPLICED = {
    "layers": ("unspliced", "spliced", "protein"),
    "residual": {"kind": "mlp", "width": 3, "gate": 0.5},
    "likelihood": {"kind": "student_t", "sd": 0.2},
}

CASES = [
    ("hidden", LEARNED, "sample", trajectory_readings),
    ("hidden", LEARNED, "sample", collocation_readings),
    ("abundance", SPLICED, "rest", trajectory_readings),
    ("abundance", {}, "rest", collocation_readings),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changes", "initial", "predict"), CASES)
def test_gradient_of_the_whole_objective_is_that_of_central_differences(
    kind: str, changes: dict, initial: str, predict: Predictor
) -> None:
    """Away from the optimum, by every parameter, relative to the largest component."""
    prior = prior_model(kind, **changes)
    data = cultures(measured(truth_of(prior, 1, 0.3), noise=0.2), prior.center.table, substeps=2)
    model = randomised(prior.center, 7, 0.3, 1.0)
    settings = TIGHT.model_copy(update={"initial": initial}).settings()
    parameters, static = eqx.partition(model, trainable(model))
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    spread = jax.flatten_util.ravel_pytree(eqx.filter(prior.spread, trainable(prior.spread)))[0]

    @jax.jit
    @jax.value_and_grad
    def total(values: jax.Array) -> jax.Array:
        found = objective(eqx.combine(unravel(values), static), prior, data, settings, predict)
        return jnp.where(found.failed == 0, found.total, jnp.nan)

    slope = np.asarray(total(flat)[1])
    assert (np.asarray(spread) > 0).sum() > 20
    assert np.abs(slope).max() > 1
    # One mixed direction sees every parameter, fixed ones included; single ones say which would be wrong.
    rng = np.random.default_rng(0)
    chosen = np.unique([np.abs(slope).argmax(), *rng.choice(flat.size, 11, replace=False)])
    h = 1e-4
    for direction in [rng.standard_normal(flat.size) / np.sqrt(flat.size), *np.eye(flat.size)[chosen]]:
        moved = {k: float(total(flat + k * h * direction)[0]) for k in (-2, -1, 1, 2)}
        # Fourth order, so that a step can be far above the solver's own error.
        central = (8 * (moved[1] - moved[-1]) - (moved[2] - moved[-2])) / (12 * h)
        assert abs(central - slope @ direction) < 1e-6 * np.abs(slope).max()


@pytest.fixture(scope="module")
def prior():
    return prior_model(likelihood={"kind": "gaussian", "sd": 0.1}, residual={"kind": "mlp", "width": 3, "gate": 0.5})


@pytest.fixture(scope="module")
def data(prior):
    return cultures(measured(truth_of(prior), noise=0.1), prior.center.table, substeps=2)


def test_terms_are_named_and_add_up(prior, data) -> None:
    model = randomised(prior.center, 3, 0.2, 0.5)
    found = compiled(model, prior, data, SETTINGS, collocation_readings)
    assert set(found.terms) == {"data", "kinetics", "network", "hidden", "observation", "residual", "gate"}
    assert float(found.total) == pytest.approx(sum(float(term) for term in found.terms.values()))
    gate = float(resolve(model).kinetics.residual.gate)
    assert float(found.terms["gate"]) == pytest.approx(0.7 * 3 * gate)
    # Rates are log-normal about their centre; what is fixed (synthesis) costs nothing wherever it is.
    z = (model.kinetics.decay.raw - prior.center.kinetics.decay.raw) / 0.5
    assert float(found.terms["kinetics"]) == pytest.approx(0.5 * float(jnp.sum(z**2)))
    centre = compiled(prior.center, prior, data, SETTINGS, collocation_readings).terms
    assert all(float(centre[name]) == 0 for name in ("kinetics", "network", "hidden", "observation", "residual"))


def test_the_first_sample_is_scored_only_where_it_is_predicted(prior, data) -> None:
    cell = resolve(prior.center)
    predicted, _ = eqx.filter_jit(collocation_readings)(cell, data, SETTINGS)
    density = scipy.stats.norm.logpdf(data.readings, predicted, 0.1)
    found = compiled(prior.center, prior, data, SETTINGS, collocation_readings)
    assert float(found.terms["data"]) == pytest.approx(-density[:, 1:].sum())
    np.testing.assert_allclose(predicted[:, 0], data.readings[:, 0], atol=1e-9)


def test_a_culture_that_cannot_be_solved_counts_only_if_its_readings_do(prior, data) -> None:
    """A held-out culture gives its first sample and nothing else: not even whether it can be solved."""
    broken = eqx.tree_at(lambda d: d.readings, data, data.readings.at[1, 0].set(jnp.nan))
    both = compiled(prior.center, prior, broken, SETTINGS, collocation_readings)
    assert int(both.failed) == 1
    assert float(both.total) > 1e5
    held = eqx.tree_at(lambda d: d.mask, broken, broken.mask.at[1].set(False))
    one = compiled(prior.center, prior, held, SETTINGS, collocation_readings)
    assert int(one.failed) == 0
    alone = eqx.tree_at(lambda d: d.mask, data, data.mask.at[1].set(False))
    assert float(one.total) == float(compiled(prior.center, prior, alone, SETTINGS, collocation_readings).total)
