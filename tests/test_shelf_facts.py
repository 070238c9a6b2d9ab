"""What the cards of the shelf's models say, checked on the bundles as they lie there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim import shelf
from pinnsim.data import carbon_shift
from pinnsim.landscape import find_attractors
from pinnsim.simulate import AtRest, FromSample, simulate
from pinnsim.tree import lane


def test_the_toggle_has_the_valleys_of_its_card():
    model = shelf.load("toggle_switch").model
    found = find_attractors(model, starts=8)
    exact = 5 + 2 * np.sqrt(6) * np.array([1.0, -1.0])
    stable = found.states[found.stable]
    assert len(stable) == 2
    for state, eigenvalues in zip(stable, found.eigenvalues[found.stable], strict=True):
        np.testing.assert_allclose(np.sort(state)[::-1], exact, rtol=0, atol=1e-8)
        np.testing.assert_allclose(np.sort(eigenvalues.real), [-1.2, -0.8], rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def shift():
    return lane(shelf.load("carbon_shift").ensemble, 0), carbon_shift()[0].mean()


def test_a_pulse_of_malate_is_forgotten(shift):
    model, data = shift
    first = FromSample(jnp.asarray(data.values[0, 0, 0]))
    treatments = ["signal(glucose)=1", "signal(glucose)=1, signal(malate)=1@0:10"]
    readings = np.asarray(simulate(model, jnp.array([0.0, 10.0, 400.0]), treatments, initial=first).readings)
    resting, pulsed = readings
    np.testing.assert_allclose(resting[-1], resting[0], rtol=0, atol=1e-4)  # at rest it stays; solver error only
    assert np.abs(pulsed[1] - pulsed[0]).max() > 1
    assert np.sqrt(((pulsed[-1] - pulsed[0]) ** 2).mean()) < 0.01


def test_ccpa_is_needed_by_ack_and_holds_rbs_down(shift):
    model, _ = shift
    treatments = ["signal(glucose)=1", "signal(glucose)=1, ccpA=0"]
    wild, without = np.asarray(simulate(model, jnp.array([0.0, 1.0]), treatments, initial=AtRest()).readings)[:, 0]
    change = dict(zip(model.table.genes, without - wild, strict=True))
    assert change["ackA"] < -0.5
    assert min(change[gene] for gene in ("rbsA", "rbsB", "rbsC", "rbsD", "msmX")) > 0.2
    assert jax.numpy.isfinite(without).all()
