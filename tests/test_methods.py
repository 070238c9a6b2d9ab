"""One definition, every method: `simulate` gives rate equations, moments or sampled cells of the same model, in
agreement where theory says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of

from pinnsim.dynamics.motifs import birth_death
from pinnsim.errors import PinnsimError
from pinnsim.simulate import (
    SSA,
    Ensemble,
    FromSample,
    FromState,
    Langevin,
    LinearNoise,
    Moments,
    Outcome,
    Simulation,
    TauLeaping,
    simulate,
)

KEY = jax.random.key(3)
TIMES, LANES = [0.0, 1.0, 4.0], ["none", "reaction(birth)*3@1:"]


@pytest.fixture(scope="module")
def courses() -> dict[str, Simulation | Moments | Ensemble]:
    """Birth at 20 per unit time, death at 1; birth is tripled from t = 1."""
    model, begin = birth_death(20.0, 1.0), FromState([5.0])
    sampled = {"ssa": SSA(), "langevin": Langevin(1.0, dt=0.01), "tau": TauLeaping(1.0)}
    return {
        "ode": simulate(model, TIMES, LANES, initial=begin),
        "moments": simulate(model, TIMES, LANES, initial=begin, method=LinearNoise(1.0)),
        **{
            name: simulate(model, TIMES, LANES, initial=begin, method=method, key=KEY, cells=2000)
            for name, method in sampled.items()
        },
    }


def mean(times: np.ndarray) -> np.ndarray:
    """Exact, (lane, time)."""
    plain = 20 + (5 - 20) * np.exp(-times)
    at_one = 20 - 15 * np.exp(-1.0)
    after = 60 + (at_one - 60) * np.exp(-(times - 1.0))
    return np.stack([plain, np.where(times > 1, after, plain)])


def test_rate_equations_are_exact_and_have_no_readings(courses):
    np.testing.assert_allclose(courses["ode"].state_of("x"), mean(np.asarray(TIMES)), rtol=1e-5)
    assert courses["ode"].readings is None


def test_moments_of_linear_rates_are_exact(courses):
    """5 molecules at the start thin out binomially, what is born is Poisson: variance = mean - 5 exp(-2 t)."""
    exact = mean(np.asarray(TIMES))
    np.testing.assert_allclose(courses["moments"].mean_of("x"), exact, rtol=1e-5)
    variance = exact - 5 * np.exp(-2 * np.asarray(TIMES))
    np.testing.assert_allclose(courses["moments"].covariance_of("x", "x"), variance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ssa", "langevin", "tau"])
def test_sampled_cells_have_these_moments(courses, name):
    """Within five standard errors of 2000 cells, and a bias of 3 % of steps."""
    cells, exact = courses[name], courses["moments"]
    assert (np.asarray(cells.outcome) == Outcome.DONE).all()
    variance = np.asarray(exact.covariance_of("x", "x"))
    error = 5 * np.sqrt(variance / 2000) + (0.0 if name == "ssa" else 0.03 * np.asarray(exact.mean_of("x")))
    assert (np.abs(np.asarray(cells.mean()[..., 0]) - np.asarray(exact.mean_of("x"))) <= error + 1e-9).all()
    spread = np.asarray(cells.variance()[..., 0])
    np.testing.assert_allclose(spread[:, 1:], variance[:, 1:], rtol=5 * np.sqrt(2 / 2000) + 0.05)


def test_treated_and_untreated_cells_of_one_number_are_one_cell_until_the_treatment(courses):
    states = np.asarray(courses["ssa"].states)
    np.testing.assert_array_equal(states[0, :, :2], states[1, :, :2])
    assert (states[1, :, 2] > states[0, :, 2]).mean() > 0.99


def test_sampling_a_model_with_an_instrument_and_hidden_regulators():
    model = model_of(("mrna", "protein"), unmeasured=1)
    got = simulate(model, [0.0, 5.0], ["none", "g0=0@1:"], method=SSA(50.0), key=KEY, cells=8)
    assert isinstance(got, Ensemble)
    assert got.states.shape == (2, 8, 2, len(model.table.species))
    assert (np.asarray(got.outcome) == Outcome.DONE).all()
    molecules = 50 * np.asarray(got.states)[..., np.asarray(model.kinetics.material())]
    np.testing.assert_allclose(molecules, np.round(molecules), atol=1e-9)


def test_a_cell_that_cannot_start_is_told_by_its_lane():
    model = birth_death(20.0, 1.0)
    with pytest.raises(PinnsimError) as caught:
        simulate(model, [0.0, 1.0], method=SSA(), initial=FromSample([1.0]))
    assert set(caught.value.codes) >= {"E_INIT", "E_USAGE"}
    assert "key=jax.random.key(0)" in str(caught.value)
    with pytest.raises(PinnsimError, match="E_SIZE.*1000 cells x 1 species"):
        simulate(model, [0.0, 1.0], method=SSA(), key=KEY, cells=1000, memory_limit=10.0)
    assert jnp.isnan(
        simulate(model, [0.0, 1.0], initial=FromState([1.0]), method=SSA(max_events=1), key=KEY, cells=3).states[
            0, 0, -1, 0
        ]
    )
