"""`simulate`: lanes, outcomes, initial rules, refusals with all problems at once, and export with names and units."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, randomised

from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.simulate import ODE, AtRest, FromSample, FromState, Outcome, Simulation, simulate
from pinnsim.simulate.result import stiffness_ratio
from pinnsim.treatment import knockout

TIMES = [0.0, 2.0, 5.0, 20.0]
DENSE = np.linspace(0, 20, 401)
LANES = ["none", "g0=0", "signal(food)=1@1:3, g1*5@2:", "hold(g2)=0.4@1:4"]
ONES = FromState(jnp.ones(10))


@pytest.fixture(scope="module")
def model():
    return randomised(model_of(("mrna", "protein"), genes=3, unmeasured=1, own_inputs=True), 5, 0.3)


def at_rest(model, lanes: list[str]) -> Simulation:
    """Four lanes from rest: one compiled program for all tests."""
    return simulate(model, TIMES, lanes, method=ODE(1e-9, 1e-11), phases=2)


def few_steps(model, lanes: list[str], initial=ONES) -> Simulation:
    """Three lanes that may not take many steps: one compiled program for all tests."""
    return simulate(model, DENSE, lanes, initial=initial, method=ODE(1e-6, 1e-9, max_steps=200))


@pytest.fixture(scope="module")
def done(model) -> Simulation:
    return at_rest(model, LANES)


def refused(*args, **kwargs) -> PinnsimError:
    with pytest.raises(PinnsimError) as caught:
        simulate(*args, **kwargs)
    return caught.value


def test_lanes_and_names(model, done: Simulation) -> None:
    assert done.states.shape == (4, 4, len(model.table.species))
    assert done.lanes == tuple(LANES)
    assert bool(done.done.all())
    assert done.raise_failures() is done
    np.testing.assert_array_equal(done.reached, 20.0)
    np.testing.assert_array_equal(done.state_of("g1.protein"), done.states[..., 4])
    assert float(jnp.min(done.states[..., :6])) >= 0


def test_a_culture_that_nothing_happens_to_stays_at_rest(done: Simulation) -> None:
    np.testing.assert_allclose(done.states[0], jnp.broadcast_to(done.states[0, :1], done.states[0].shape), atol=1e-7)
    # A knock-out since ever was there while the culture came to rest.
    assert float(jnp.max(done.state_of("g0.mrna")[1])) < 1e-12
    assert float(done.state_of("g2.protein")[3, 1]) == 0.4


def test_readings_are_the_instruments_view(model, done: Simulation) -> None:
    readout = resolve(model.observation.readout)
    np.testing.assert_allclose(done.readings[2, 3], readout(done.states[2, 3, :3]), rtol=1e-12)


def test_one_treatment_is_one_lane(model) -> None:
    for given in ("g0=0", knockout("g0"), [knockout("g0")]):
        assert simulate(model, TIMES, given, initial=ONES).lanes == ("g0=0",)


def test_each_lane_may_start_elsewhere(model) -> None:
    states = [FromState(np.full(10, 0.5)), FromState([0.7] * 10), ONES]
    got = few_steps(model, ["none", "none", "g1*2@1:"], states)
    assert got.lanes == ("none #1", "none #2", "g1*2@1:")
    np.testing.assert_array_equal(got.states[:, 0, 0], [0.5, 0.7, 1.0])


def test_from_a_sample(model) -> None:
    sample = np.array([15.0, 16.0, 14.0])
    got = simulate(model, TIMES, ["none", "g0=0@1:"], initial=FromSample(sample))
    np.testing.assert_allclose(got.readings[:, 0], np.stack([sample, sample]), atol=1e-8)


def test_what_acted_before_the_first_time_says_where_the_culture_rested(model) -> None:
    got = at_rest(model, ["signal(food)=2@:0, signal(heat)=1@0:", "signal(food)=2", "none", "none"])
    np.testing.assert_allclose(got.states[0, 0], got.states[1, 0], rtol=1e-10)
    assert float(jnp.max(jnp.abs(got.states[0, -1] - got.states[1, -1]))) > 1e-3


@pytest.mark.parametrize(
    ("times", "code"),
    [
        ([0.0, 5.0, 5.0], "E_TIME_ORDER"),
        ([0.0, 5.0, 4.0], "E_TIME_ORDER"),
        ([1.0], "E_TIME_FEW"),
        ([], "E_TIME_FEW"),
        (3.0, "E_TIME_FEW"),
        ([[0.0, 1.0]], "E_TIME_FEW"),
        ([0.0, np.nan, 2.0], "E_TIME_UNIT"),
        ([0.0, np.inf], "E_TIME_UNIT"),
        (["0 h", "1 h"], "E_TIME_UNIT"),
    ],
)
def test_times_are_refused(model, times, code: str) -> None:
    error = refused(model, np.asarray(times))
    assert error.codes == (code,)


def test_message_names_the_place(model) -> None:
    assert "times[2]=4.0 follows 5.0" in str(refused(model, [0.0, 5.0, 4.0]))


@pytest.mark.parametrize(
    ("initial", "piece"),
    [
        (FromState(jnp.ones(9)), "shape (10,)"),
        (FromState(jnp.ones(10).at[1].set(-0.5)), "g1.mrna = -0.5"),
        (FromState(jnp.ones(10).at[4].set(jnp.nan)), "g1.protein = nan"),
        (FromSample(jnp.ones(2)), "shape (3,)"),
        (FromSample(jnp.asarray([1.0, jnp.nan, jnp.inf])), "g1, g2"),
        (AtRest(jnp.full(10, jnp.inf)), "not finite"),
    ],
)
def test_infeasible_initial_states_are_refused(model, initial, piece: str) -> None:
    error = refused(model, TIMES, initial=initial)
    assert error.codes == ("E_INIT",)
    assert piece in str(error)
    # Hidden activities are logarithms: they may be negative.
    FromState(jnp.ones(10).at[7].set(-2.0)).check(model)


def test_all_problems_at_once(model) -> None:
    error = refused(
        model,
        [0.0, 2.0, 1.0],
        ["g9=0", "g0=0, g0*3", "g0**2", "g1*-1"],
        initial=FromState(-jnp.ones(10)),
        memory_limit=10,
    )
    assert set(error.codes) == {
        "E_TIME_ORDER", "E_PERTURB_GENE", "E_PERTURB_CONFLICT", "E_PERTURB_TEXT", "E_DOSE_NEGATIVE", "E_INIT", "E_SIZE",
    }  # fmt: skip
    assert error.exit_status == 2


def test_perturbations_outside_the_span_are_refused(model) -> None:
    assert refused(model, TIMES, ["g0=0@30:40", "g1=0@-9:-2"]).codes == ("E_PERTURB_TIME",) * 2


def test_sizes_are_refused_before_anything_is_allocated(model) -> None:
    # 10^6 times of 10^4 lanes would be a terabyte.
    error = refused(model, np.arange(1e6), ["none"] * 10_000)
    assert error.codes == ("E_SIZE",)
    assert "GB" in str(error)


def test_lists_of_rules_are_checked(model) -> None:
    assert refused(model, TIMES, ["none"] * 3, initial=[ONES, ONES]).codes == ("E_USAGE",)
    assert refused(model, TIMES, ["none"] * 2, initial=[ONES, AtRest()]).codes == ("E_USAGE",)
    assert refused(model, TIMES, ["none"] * 2, initial=[AtRest(jnp.ones(10)), AtRest()]).codes == ("E_USAGE",)
    assert refused(model, TIMES, []).codes == ("E_USAGE",)


def test_a_lane_that_runs_out_of_steps(model) -> None:
    """The other lanes are what they are without it; it is NaN; the error names lane, time, stiffness and remedy."""
    got = few_steps(model, ["none", "decay(g0)*1000000@1:", "g1*2@1:"])
    assert got.outcome.tolist() == [Outcome.DONE, Outcome.MAX_STEPS, Outcome.DONE]
    assert np.isnan(np.asarray(got.states[1])).all()
    assert np.isnan(np.asarray(got.readings[1])).all()
    assert 1.0 <= float(got.reached[1]) < 20.0
    alone = few_steps(model, ["none", "g0*2@1:", "g1*2@1:"])
    kept = jnp.asarray([0, 2])
    np.testing.assert_allclose(got.states[kept], alone.states[kept], rtol=1e-12)
    with pytest.raises(PinnsimError) as caught:
        got.raise_failures()
    message = str(caught.value)
    assert caught.value.codes == ("E_SOLVER",)
    assert caught.value.exit_status == 4
    for piece in ("'decay(g0)*1000000@1:'", "t=1", " min", "stiffness ratio ~", "e+0", "ODE(stiff=True)"):
        assert piece in message


def test_what_is_not_a_number_is_a_failed_lane(model) -> None:
    broken = eqx.tree_at(lambda m: m.kinetics.decay.raw, model, model.kinetics.decay.raw.at[0].set(jnp.nan))
    got, unsettled = simulate(broken, TIMES, "none", initial=ONES), at_rest(broken, LANES)
    assert got.outcome.tolist() == [Outcome.NOT_FINITE]
    assert unsettled.outcome.tolist() == [Outcome.NOT_SETTLED] * 4
    for failed, piece in ((got, "NaN"), (unsettled, "FromState")):
        assert np.isnan(np.asarray(failed.states)).all()
        with pytest.raises(PinnsimError, match="E_SOLVER") as caught:
            failed.raise_failures()
        assert piece in str(caught.value)


def test_stiffness_ratio() -> None:
    assert stiffness_ratio(jnp.diag(jnp.asarray([-1e-2, -1e3]))) == pytest.approx(1e5)
    assert stiffness_ratio(jnp.asarray([[jnp.nan]])) == np.inf
    assert stiffness_ratio(jnp.zeros((2, 2))) == 1.0


def test_xarray_has_dims_units_and_values(model, done: Simulation) -> None:
    tree = done.to_xarray()
    abundance = tree["species/abundance"]
    assert abundance.dims == ("lane", "time", "species")
    assert abundance.shape == (4, 4, 6)
    assert abundance.attrs["units"] == "relative abundance"
    assert abundance.coords["time"].attrs["units"] == "min"
    np.testing.assert_array_equal(abundance.coords["time"], TIMES)
    assert tree["outcome"].values.tolist() == [0, 0, 0, 0]
    assert tree["hidden/log_activity"].coords["species"].values.tolist() == [
        "h0.activity", "g0.input", "g1.input", "g2.input",
    ]  # fmt: skip
    reading = tree["readout/reading"]
    assert reading.dims == ("lane", "time", "gene")
    assert "log2" in reading.attrs["units"]
    for lane in LANES:
        for species in abundance.coords["species"].values:
            got = abundance.sel(lane=lane, species=species).values
            np.testing.assert_array_equal(got, done.state_of(str(species))[LANES.index(lane)])
    np.testing.assert_array_equal(reading.values, done.readings)
