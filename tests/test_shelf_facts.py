"""What the cards of the shelf's models say, checked on the bundles as they lie there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim import shelf
from pinnsim.data import carbon_shift
from pinnsim.dynamics.textbook import binary_choice, gata1_pu1, ring, six_variable_repressilator
from pinnsim.landscape import find_attractors
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, AtRest, FromSample, Outcome, simulate, solve, stationary_covariance, steady_state
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


@pytest.mark.parametrize(
    ("name", "textbook"),
    [
        ("repressilator", lambda: ring(genes=("lacI", "tetR", "cI"))),
        ("repressilator_protein", six_variable_repressilator),
        ("gata1_pu1", gata1_pu1),
        ("binary_choice", binary_choice),
    ],
)
def test_textbook_systems_are_those_that_the_truths_are_computed_for(name, textbook):
    """Periods, folds and barriers of these are tested where they are computed (`landscape_truths`)."""
    ours, theirs = shelf.load_system(name).system, textbook()
    for state in np.random.default_rng(2).uniform(0.1, 3.0, (5, len(ours.table.species))):
        fields = [s.vector_field(jnp.zeros(()), jnp.asarray(state), Perturbation.none(s.table)) for s in (ours, theirs)]
        np.testing.assert_allclose(*fields, rtol=1e-13, atol=1e-13)


REST = {
    "emt": {
        "epithelial": (18668.223978, 65.830279, 6455.924444),
        "hybrid": (11690.079454, 326.103006, 52414.117526),
        "mesenchymal": (1714.122543, 827.545987, 563720.044876),
    },
    "binary_flip": {"progenitor": (-1.175391, 0.0), "up": (0.693, 0.832466), "down": (0.693, -0.832466)},
    "myeloid": {
        "erythrocyte": ("Gata1", "Fog1", "Scl", "EKLF"),
        "megakaryocyte": ("Gata1", "Fog1", "Scl", "Fli1"),
        "monocyte": ("Cebpa", "Pu1", "cJun", "EgrNab"),
        "granulocyte": ("Cebpa", "Pu1", "Gfi1"),
        "nothing": (),
    },
}


@pytest.mark.parametrize("name", REST)
def test_cells_rest_where_their_card_says(name):
    system = shelf.load_system(name).system
    none = Perturbation.none(system.table)
    slope = jax.jit(jax.jacfwd(lambda x: system.vector_field(jnp.zeros(()), x, none)))
    settle = jax.jit(lambda x: steady_state(system, none, x))
    for place, said in REST[name].items():
        there = [float(g in said) for g in system.table.genes] if name == "myeloid" else said
        found = settle(jnp.asarray(there))
        assert int(found.outcome) == Outcome.DONE, place
        assert np.linalg.eigvals(slope(found.state)).real.max() < 0, place
        if name == "myeloid":
            on = {gene for gene, x in zip(system.table.genes, found.state, strict=True) if x > 0.5}
            assert on == set(said), place
        else:
            np.testing.assert_allclose(found.state, said, rtol=1e-6, atol=1e-6, err_msg=place)


def test_the_cell_cycle_returns_after_its_period():
    system = shelf.load_system("cell_cycle").system
    times = jnp.asarray([0.0, 40.0, 40.0 + 4.379470982819426])
    solution = solve(system, times, Perturbation.none(system.table), system.start, ODE(1e-9, 1e-11))
    np.testing.assert_allclose(solution.states[1], solution.states[2], rtol=0, atol=1e-6)
    assert np.abs(solution.states[1] - solution.states[0]).max() > 0.1
