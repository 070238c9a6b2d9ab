"""A learned factor on one rate, and fits of kinetic models as people write them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pinnsim import read_antimony
from pinnsim.data import Dataset
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.learned_rate import learned_rate
from pinnsim.dynamics.reactions import ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.fit import KineticFit, fit_kinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import rate_law
from pinnsim.simulate import ODE, AsWritten, simulate
from pinnsim.specimens import model_of
from pinnsim.treatment import as_treatment

TIMES = np.linspace(0.0, 6.0, 13)


def decay(rate: float) -> ReactionSystem:
    """A -> B -> nothing: the exact courses are sums of exponentials."""
    steps = [Reaction("turn", "A -> B", rate), Reaction("loss", "B -> ", 0.5)]
    return reaction_system(steps, time_unit="h", start={"A": 4.0})


@pytest.fixture(scope="module")
def corrected():
    given = learned_rate(decay(0.8), "turn", ["A"], key=jax.random.key(0), width=3, gate=0.6)
    last = given.network.layers[-1]
    moved = eqx.tree_at(lambda n: n.layers[-1].weight, given.network, last.weight + 1.5)
    return given, eqx.tree_at(lambda m: m.network, given, moved)


def test_a_correction_begins_at_one_and_changes_one_rate_only(corrected) -> None:
    plain, (before, after) = decay(0.8), corrected
    before, after = resolve(before), resolve(after)
    none, state, zero = Perturbation.none(plain.table), jnp.array([3.0, 1.0]), jnp.zeros(())
    np.testing.assert_array_equal(before.propensities(zero, state, none), plain.propensities(zero, state, none))
    rates, usual = (m.propensities(zero, state, none) for m in (after, plain))
    assert rates[1] == usual[1]
    factor = float(rates[0] / usual[0])
    assert factor != pytest.approx(1.0, abs=0.05)
    # Between exp(-gate bound) and exp(gate bound), and the logarithm is what it says.
    assert abs(np.log(factor)) <= 0.6 * 2.0
    assert np.log(factor) == pytest.approx(float(after.log_factor(state)), rel=1e-9)
    # dx/dt = S v still, so mass only leaves by the loss; and nothing is made of nothing.
    slope = after.vector_field(zero, state, none)
    np.testing.assert_allclose(slope, np.asarray(after.stoichiometry(), float) @ np.asarray(rates), rtol=1e-12)
    assert float(slope.sum()) == pytest.approx(-float(rates[1]), rel=1e-12)
    empty = after.propensities(zero, jnp.zeros(2), none)
    np.testing.assert_array_equal(empty, 0.0)
    # A treatment of the same reaction multiplies on top.
    halved = as_treatment("reaction(turn)*0.5@0:").resolve(plain.table)
    np.testing.assert_allclose(after.propensities(zero + 1, state, halved)[0], 0.5 * rates[0], rtol=1e-12)


def test_names_that_do_not_fit_are_told() -> None:
    with pytest.raises(PinnsimError, match="no reaction 'tern'.*turn") as told:
        learned_rate(decay(1.0), "tern", ["C"], key=jax.random.key(0))
    assert told.value.codes == ("E_USAGE", "E_USAGE")
    with pytest.raises(PinnsimError, match="ModelConfig"):
        learned_rate(model_of().kinetics, "transcription:g0", ["g0.mrna"], key=jax.random.key(0))
    data = measured(decay(0.8), 0.0)
    with pytest.raises(PinnsimError) as told:
        fit_kinetics(decay(0.8), data, {"constnt": 0.5})
    assert told.value.codes == ("E_USAGE",)
    with pytest.raises(PinnsimError, match="error of every reading"):
        fit_kinetics(written(0.8), data, {"turning": 0.5})


def written(rate: float):
    """The same model with a name for every number."""
    return read_antimony(
        f"turn: A -> B; turning * A; loss: B -> ; losing * B; A = 4; B = 0; turning = {rate}; losing = 0.5"
    )


def measured(model, sd: float, seed: int = 0) -> Dataset:
    runs = simulate(model, TIMES, ["none", "drive(A)=1@1:3"], initial=AsWritten()).raise_failures()
    noise = np.random.default_rng(seed).normal(0.0, 1.0, runs.states.shape)
    values = np.maximum(np.asarray(runs.states) + sd * noise, 0.0)[:, None]
    treatments = {"plain": "none", "fed": "drive(A)=1@1:3"}
    said = {"time_unit": "h", "scale": "linear", "simulated": True}
    return Dataset.build(values, TIMES, model.table.species, tuple(treatments), treatments=treatments, **said)


@pytest.fixture(scope="module")
def fits() -> tuple[KineticFit, KineticFit]:
    """The rate is really 0.8 A / (1 + A / 2): first order fails, a learned factor finds it."""
    truth = read_antimony("turn: A -> B; 0.8 * A / (1 + A / 2); loss: B -> ; losing * B; A = 4; B = 0; losing = 0.5")
    data, model = measured(truth, 0.03), written(0.5)
    method = ODE(1e-5, 1e-7)
    free = {"turning": 0.7, "losing": 0.5}
    plain = fit_kinetics(model, data, free, sd=0.03, method=method, progress=False)
    learned = fit_kinetics(
        learned_rate(model, "turn", ["A"], key=jax.random.key(0), width=3), data, free, sd=0.03, method=method,
        most=60, progress=False,
    )  # fmt: skip
    return plain, learned


def test_a_learned_rate_is_found_where_the_law_lacks_something(fits) -> None:
    plain, learned = fits
    assert plain.misfit > 3.0
    assert np.isnan(plain.gate)
    assert 0.7 < learned.misfit < 1.3
    assert learned.gate > learned.gate_before
    assert learned.evidence > plain.evidence + 100.0
    amounts = np.linspace(0.3, 4.0, 12)
    low, value, high = learned.rate("turn", "A", amounts)
    # To what an error of 0.03 leaves open, most where little is left.
    np.testing.assert_allclose(value, 0.8 * amounts / (1 + amounts / 2), rtol=0.1)
    assert (low < value).all()
    assert (value < high).all()
    # What is not touched is found as it is.
    losing = learned.table.set_index("constant").loc["losing"]
    assert losing["value"] == pytest.approx(0.5, rel=0.02)
    assert losing["low"] < losing["value"] < losing["high"]
    assert losing["narrowed"] < 0.1


def test_rate_laws_are_drawn_with_units(fits) -> None:
    plain, learned = fits
    ax = rate_law({"law": plain.kinetics, "learned": learned}, "turn", "A", np.linspace(0, 5, 9), seen=(0.2, 4.0),
                  unit="mmol/l", time_unit="h", simulated=True)  # fmt: skip
    assert ax.get_xlabel() == "A (mmol/l)"
    assert ax.get_ylabel() == "rate of turn (mmol/l/h)"
    assert "simulated" in ax.get_title(loc="left")
    plt.close("all")
    with pytest.raises(PinnsimError, match="no model"):
        rate_law({}, "turn", "A", [0.0, 1.0])
