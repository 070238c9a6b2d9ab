"""A signal whose effect was not fitted can be withdrawn again: its effect is read from the cultures at rest."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from problems import SAMPLES, measured, prior_model

from pinnsim.fit import cultures
from pinnsim.fit.effects import with_effects_at_rest
from pinnsim.model import CellModel, ModelPrior
from pinnsim.simulate import ODE, FromSample, simulate
from pinnsim.tree import lane, stack

INPUTS = [{"name": n, "reference": 1.0, "regulator_sd": 0.0, "own_sd": 0.0} for n in ("rich", "food")]


@pytest.fixture(scope="module")
def prior() -> ModelPrior:
    """`heat` was fitted; the two sugars were not."""
    heat = {"name": "heat", "regulator_sd": 0.5, "own_sd": 0.5}
    return prior_model("hidden", inputs=[*INPUTS, heat])


@pytest.fixture(scope="module")
def fitted(prior: ModelPrior) -> CellModel:
    return eqx.tree_at(lambda m: m.kinetics.hidden.effect, prior.center, prior.center.kinetics.hidden.effect + 0.3)


@pytest.fixture(scope="module")
def read(prior: ModelPrior, fitted: CellModel) -> CellModel:
    data = cultures(measured(fitted), prior.center.table)
    return lane(with_effects_at_rest(stack([fitted]), prior, data), 0)


def test_fitted_effects_stay(read: CellModel, fitted: CellModel) -> None:
    before, after = (np.asarray(m.kinetics.hidden.effect) for m in (fitted, read))
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert (np.abs(after[:, :2] - before[:, :2]) > 0.01).any(axis=0).all()


@pytest.mark.parametrize("culture", ["fed", "warm"])
def test_every_culture_rests_where_its_sample_says(read: CellModel, culture: str) -> None:
    """A pulse that is withdrawn leaves nothing behind."""
    rest, other = ("rich", "food") if culture == "fed" else ("food", "rich")
    lanes = [f"signal({rest})=1", f"signal({rest})=1, signal({other})=1@5:15, signal(heat)=1@8:12"]
    sample = FromSample(jnp.asarray(SAMPLES[culture]))
    done = simulate(read, [0.0, 15.0, 600.0], lanes, initial=sample, method=ODE(1e-11, 1e-13), phases=3)
    readings = np.asarray(done.raise_failures().readings)
    assert np.abs(readings[0] - np.array(SAMPLES[culture])).max() < 1e-6
    assert np.abs(readings[1, 1] - readings[1, 0]).max() > 0.1
    assert np.abs(readings[1, 2] - readings[1, 0]).max() < 1e-6


def test_cultures_that_were_held_out_teach_nothing(prior: ModelPrior, fitted: CellModel, read: CellModel) -> None:
    data = cultures(measured(fitted), prior.center.table)
    held = eqx.tree_at(lambda d: d.mask, data, data.mask.at[1, 1:].set(False))
    shifted = eqx.tree_at(lambda d: d.readings, held, held.readings.at[1].add(1.0))
    one, other = (lane(with_effects_at_rest(stack([fitted]), prior, d), 0) for d in (held, shifted))
    np.testing.assert_array_equal(one.kinetics.hidden.effect, other.kinetics.hidden.effect)
    # Where only `rich` was ever present, what the absence of `food` does is known, and of `rich` nothing.
    assert not np.asarray(one.kinetics.hidden.effect)[:, 0].any()
