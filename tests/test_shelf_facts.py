"""What the cards of the shelf's models say, checked on the bundles as they lie there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim import shelf
from pinnsim.data import carbon_shift
from pinnsim.landscape import find_attractors
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import AtRest, FromSample, simulate, stationary_covariance, steady_state
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


def test_schlogls_system_has_the_modes_of_its_card():
    """By detailed balance of the births and deaths in the file."""
    system = shelf.load_system("schlogl").system
    n = jnp.arange(1200.0)[:, None]
    edits = Perturbation.none(system.table).at(jnp.zeros(()))
    rates = np.asarray(jax.vmap(lambda x: system.molecular(x, edits, jnp.ones(())))(n))
    change = system.stoichiometry()[0]
    birth, death = rates[:, change > 0].sum(axis=1), rates[:, change < 0].sum(axis=1)
    law = np.cumsum(np.concatenate([[0.0], np.log(birth[:-1]) - np.log(death[1:])]))
    p = np.exp(law - law.max())
    p /= p.sum()
    assert [int(np.argmax(p[:256])), 256 + int(np.argmax(p[256:]))] == [82, 563]
    assert 82 + int(np.argmin(p[82:563])) == 256
    assert abs(p[:257].sum() - 0.2202606320) < 1e-9
    mean = (np.arange(1200) * p).sum()
    np.testing.assert_allclose([mean, ((np.arange(1200) - mean) ** 2 * p).sum()], [454.86134790, 39951.546743])


def test_the_telegraph_gene_has_the_moments_of_its_card():
    """Rates are linear, so the moments of linear noise are exact."""
    system = shelf.load_system("telegraph").system
    untreated = Perturbation.none(system.table)
    rest = steady_state(system, untreated).state
    np.testing.assert_allclose(rest, [2 / 3, 1 / 3, 10 / 3, 500 / 3], rtol=1e-9)
    covariance = stationary_covariance(system, rest, untreated, 1.0).covariance
    assert float(covariance[2, 2] / rest[2]) == pytest.approx(1 + 1 / 0.1725, rel=1e-9)
