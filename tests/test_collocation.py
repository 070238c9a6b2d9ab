"""Collocation: second order in the grid for hidden activities, and as good as the sampling for measured regulators."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from problems import QUICK, TIMES, dataset_of, measured, prior_model, truth_of
from systems import prior_of, randomised

from pinnsim.data import Dataset
from pinnsim.fit import cultures
from pinnsim.fit.collocation import exponential_step, smooth
from pinnsim.fit.objective import collocation_readings
from pinnsim.model import CellModel, ModelConfig, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.simulate import Outcome
from pinnsim.treatment import Treatment

SETTINGS = QUICK.settings()
on_grid = eqx.filter_jit(collocation_readings)


def gap(model: CellModel, dataset: Dataset, truth: Dataset, substeps: int) -> float:
    """Largest difference of the collocation on `dataset` from the readings of `truth`."""
    model = resolve(model)
    readings, outcome = on_grid(model, cultures(dataset, model.table, substeps=substeps), SETTINGS)
    assert (np.asarray(outcome) == Outcome.DONE).all()
    return float(np.abs(np.asarray(readings) - np.asarray(truth.values)[:, 0]).max())


@pytest.mark.parametrize("layers", [("mrna",), ("unspliced", "spliced", "protein")])
def test_hidden_activities_converge_with_second_order(layers: tuple[str, ...]) -> None:
    """To the trajectory, whatever the data are: nothing but the first sample is read from them. One switch is between
    two samples."""
    prior = prior_model("hidden", layers=layers, residual={"kind": "mlp", "width": 3, "gate": 0.5})
    model = randomised(prior.center, 4, 0.3, 1.0)
    truth = measured(model)
    noisy = np.array(truth.values)[:, 0]
    noisy[:, 1:] += np.random.default_rng(0).standard_normal(noisy[:, 1:].shape)
    coarse, fine = (gap(model, dataset_of(noisy, TIMES), truth, substeps) for substeps in (5, 20))
    assert coarse < 0.2
    assert 13 < coarse / fine < 19


EDITS = {
    "fed": "signal(food)=1@0:, transcription(g0)*0.3@4:14, hold(g1.activity)=0.8@9:25, drive(g2)=0.05@2:",
    "warm": "decay(g1)*2@0:, g2=0@7:26, drive(g0.activity)=0.2@5:15, hold(g0)=0.7@15:27, activity(g1)*3@2:",
}


def test_every_kind_of_edit_acts_as_in_the_solver() -> None:
    model = truth_of(prior_model("hidden"), 3)
    truth = measured(model, treatments=EDITS)
    coarse, fine = (gap(model, truth, truth, substeps) for substeps in (8, 32))
    assert fine < 3e-3
    assert 10 < coarse / fine < 22


def test_measured_regulators_are_as_good_as_the_sampling() -> None:
    """Data from the model itself: what is left is the error of straight lines between samples."""
    model = truth_of(prior_model("abundance"), 2)
    dense = np.linspace(0.0, 40.0, 81)
    readings = np.asarray(measured(model, tuple(dense.tolist()), sample=False).values)[:, 0]
    left = []
    for stride in (16, 4, 1):
        dataset = dataset_of(readings[:, ::stride], tuple(dense[::stride].tolist()))
        left.append(gap(model, dataset, dataset, 2 * stride))
    assert left[0] < 0.5
    assert left[1] < 0.3 * left[0]
    assert left[2] < 0.2 * left[1]


def test_a_step_of_any_length_is_exact_where_nothing_regulates() -> None:
    genes = ("a", "b")
    config = ModelConfig.model_validate({"layers": ["unspliced", "spliced", "protein"]})
    network = Network.empty(genes)
    kinetics = resolve(build(config, network, prior_of(network)).center).kinetics
    edits = Treatment.parse("decay(a)*0").resolve(kinetics.table).at(jnp.zeros(()))
    state = jnp.asarray([0.3, 0.1, 0.2, 1.0, 2.0, 0.5])
    moved = exponential_step(kinetics, state, jnp.asarray(50.0), edits, state[2:4])
    beta, made = np.asarray(kinetics.splicing), np.asarray(kinetics.synthesis) * 0.5
    unspliced = made / beta + (np.array([0.3, 0.1]) - made / beta) * np.exp(-50 * beta)
    np.testing.assert_allclose(moved[:2], unspliced, rtol=1e-12)
    # A stopped decay adds up what is spliced.
    assert float(moved[2]) == pytest.approx(0.2 + 50 * 0.5 * float(beta[0]) * (0.3 + unspliced[0]))
    delta, k = np.asarray(kinetics.protein_decay), np.asarray(kinetics.translation)
    protein = k * np.array([0.2, 1.0]) / delta
    np.testing.assert_allclose(moved[4:], protein + (np.array([2.0, 0.5]) - protein) * np.exp(-50 * delta), rtol=1e-12)


def test_smoothing_is_straight_between_samples_that_were_made() -> None:
    times = jnp.asarray([0.0, 1.0, 2.0, 4.0])
    readings = jnp.asarray([[1.0, 5.0, 1.0], [3.0, 99.0, 99.0], [5.0, 1.0, 99.0], [9.0, 99.0, 99.0]])
    mask = jnp.asarray([[True, True, False], [True, False, False], [True, True, False], [True, False, False]])
    grid = jnp.asarray([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    lines = smooth(times, readings, mask, grid)
    np.testing.assert_allclose(lines[:, 0], [1, 2, 3, 4, 5, 7, 9])
    np.testing.assert_allclose(lines[:, 1], [5, 4, 3, 2, 1, 1, 1])
    # Held out: flat from the first sample, where the culture starts.
    np.testing.assert_allclose(lines[:, 2], 1.0)
