"""Events of imported models: closed forms, scipy's driver against `simulate`, sampled cells against exact
distributions, and what is refused. Every construct alone and in pairs is compared in `test_sbml`."""

import inspect

import jax
import numpy as np
import pytest
from scipy.linalg import expm

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")

from event_models import events, written  # noqa: E402
from sbml_models import document  # noqa: E402

from pinnsim.dynamics.events import PLACES  # noqa: E402
from pinnsim.dynamics.learned_rate import learned_rate  # noqa: E402
from pinnsim.dynamics.rules import RuleSystem  # noqa: E402
from pinnsim.errors import PinnsimError  # noqa: E402
from pinnsim.formats.antimony import read_antimony  # noqa: E402
from pinnsim.formats.sbml.read import parsed_text, read_sbml, system_of  # noqa: E402
from pinnsim.perturbation import Perturbation  # noqa: E402
from pinnsim.simulate import ODE, SSA, LinearNoise, Outcome, simulate, solve, solve_many  # noqa: E402
from pinnsim.simulate.on_host import solve_on_host  # noqa: E402
from pinnsim.simulate.result import MODEL_REMEDIES  # noqa: E402

# Away from the moments at which events are due, where a value is before or after by a rounding.
TIMES = np.concatenate([[0.0], np.linspace(0.263, 2.013, 8)])


def system_from(text: str, places: int = PLACES) -> RuleSystem:
    return system_of(parsed_text(text.encode(), "test", isolated=False), "test", places)


def quantities(system: RuleSystem, names: tuple[str, ...], times: np.ndarray = TIMES) -> np.ndarray:
    found, host = solve_on_host(system, times), system.on_host()
    assert found.outcome == Outcome.DONE
    rows = [host.known(time, state) for time, state in zip(times, found.states, strict=True)]
    return np.array([[row[name] for name in names] for row in rows])


def clock(*each: dict[str, str], places: int = PLACES, **starts: float) -> RuleSystem:
    """Parameters and events alone."""
    listed = "".join(f'<parameter id="{name}" value="{value}" constant="false"/>' for name, value in starts.items())
    return system_from(document(f"<listOfParameters>{listed}</listOfParameters>{events(*each)}"), places)


def test_a_crossing_is_located_to_the_solvers_tolerance() -> None:
    """A' = -k A from 2 falls below 1.2 at log(2 / 1.2) / k, and gains 1.5 there."""
    system = system_from(written("on a state"))
    got = quantities(system, ("A",))[:, 0]
    first = np.log(2.0 / 1.2) / 0.9
    period = np.log(2.7 / 1.2) / 0.9
    since = np.where(first > TIMES, 0.0, (TIMES - first) % period)
    np.testing.assert_allclose(got, np.where(first > TIMES, 2.0 * np.exp(-0.9 * TIMES), 2.7 * np.exp(-0.9 * since)),
                               rtol=1e-7)  # fmt: skip


def test_a_volume_that_doubles_keeps_amounts_and_halves_concentrations() -> None:
    got = quantities(system_from(written("volume")), ("A", "A amount", "C"))
    after = TIMES >= 0.9
    np.testing.assert_allclose(got[:, 1], 3.0 * np.exp(-0.9 * TIMES), rtol=1e-7)
    np.testing.assert_allclose(got[:, 0], got[:, 1] / np.where(after, 3.0, 1.5), rtol=1e-12)
    assert set(got[after, 2]) == {3.0}


INSTANT = {
    "order of priorities": (({"priority": "1", "a": "2*a", "early": "false"}, {"priority": "2", "a": "a + 1"}), 4.0),
    "values at trigger time": (({"priority": "1", "a": "2*a"}, {"priority": "2", "a": "a + 5"}), 2.0),
    "without priority, in the file's order": (({"a": "a + 1", "early": "false"}, {"a": "3*a", "early": "false"}), 6.0),
    "cancelled by a higher one": (
        ({"priority": "1", "persistent": "false", "trigger": "and(time >= 1, b < 1)", "a": "50"},
         {"priority": "2", "b": "1"}),
        1.0,
    ),
    "persistent, though no longer true": (
        ({"priority": "1", "trigger": "and(time >= 1, b < 1)", "a": "50"}, {"priority": "2", "b": "1"}),
        50.0,
    ),
    "a cascade at one time": (({"b": "1"}, {"trigger": "b > 0.5", "a": "7"}), 7.0),
    "a pulse between two times": (({"trigger": "and(time >= 1, time < 1.000001)", "a": "8"},), 8.0),
    "an equation": (({"trigger": "time == 1", "a": "9"},), 9.0),
    "true from the start": (({"trigger": "a > 0", "a": "9"},), 1.0),
    "true from the start, after nothing": (({"trigger": "a > 0", "initial": "false", "a": "9"},), 9.0),
}  # fmt: skip


@pytest.mark.parametrize("name", INSTANT)
def test_what_happens_at_one_instant(name: str) -> None:
    each, expected = INSTANT[name]
    system = clock(*({"trigger": "time >= 1"} | one for one in each), a=1.0, b=0.0)
    assert quantities(system, ("a",), np.array([0.0, 0.999, 2.0]))[-1, 0] == expected


def test_equal_priorities_are_drawn_and_drawn_alike_again() -> None:
    """Of two events that cancel each other one wins each time: each in about half of 400 draws, never by turns."""
    both = {"trigger": "time - last >= 0.01", "priority": "1", "persistent": "false", "last": "time"}
    system = clock(both | {"a": "a + 1"}, both | {"b": "b + 1"}, last=0.0, a=0.0, b=0.0)
    times = np.linspace(0.0, 2.005, 6)
    got = quantities(system, ("a", "b"), times)
    assert got[-1].sum() == 200
    assert 70 <= got[-1, 0] <= 130
    assert len({int(a) - int(b) for a, b in np.diff(got, axis=0)}) > 1
    np.testing.assert_array_equal(got, quantities(system, ("a", "b"), times))


def test_what_cannot_go_on_has_an_outcome_of_its_own() -> None:
    turns = ({"trigger": "and(time >= 1, a < 1)", "a": "1"}, {"trigger": "a >= 1", "a": "0"})
    crowded = (
        {"trigger": "time - last >= 0.1", "last": "time"},
        {"trigger": "time - last < 0.05", "delay": "1.65", "a": "a + 1", "early": "false"},
    )
    ended = {
        Outcome.EVENTS_ENDLESS: clock(*turns, a=0.0),
        Outcome.EVENT_DELAY: clock({"trigger": "time >= 1", "delay": "0 - 1", "a": "1"}, a=0.0),
        Outcome.EVENTS_WAITING: clock(*crowded, last=0.0, a=0.0),
    }  # fmt: skip
    for outcome, system in ended.items():
        found = solve_on_host(system, np.array([0.0, 0.5, 2.0]))
        assert found.outcome == outcome, outcome
        assert np.isnan(found.states[-1]).all()
    # 17 of them wait at a time; with room for them, those of 0.1, 0.2 and 0.3 are executed by the end.
    roomy = clock(*crowded, places=PLACES + 1, last=0.0, a=0.0)
    assert quantities(roomy, ("a",), np.array([0.0, 0.5, 2.0]))[-1, 0] == 3.0
    assert "places=64" in MODEL_REMEDIES[Outcome.EVENTS_WAITING]
    assert {"places"} <= set(inspect.signature(read_sbml).parameters) & set(inspect.signature(read_antimony).parameters)
    with pytest.raises(PinnsimError, match="`places` must be at least 1"):
        clock(*crowded, places=0, last=0.0, a=0.0)


def test_simulate_runs_events_like_scipy_and_serves_a_sweep_with_one_program() -> None:
    names = ("on a state", "delayed", "not persistent", "high priority", "low priority", "volume", "cascade")
    system = system_from(written(*names))
    method = ODE(1e-9, 1e-12, stiff=False)
    found = simulate(system, TIMES, ["none", "hold(A)=4@0.5:1.5"], method=method)
    found.raise_failures()
    expected = solve_on_host(system, TIMES).states
    np.testing.assert_allclose(found.states[0], expected, rtol=1e-6, atol=1e-8)
    held = (TIMES > 0.5) & (TIMES <= 1.5)
    np.testing.assert_allclose(np.asarray(found.state_of("A"))[1, held], 4.0)
    # Rates of their own move every instant; lanes beside change nothing.
    rates = jax.numpy.asarray([0.3, 0.9, 1.7])
    begin = jax.numpy.stack([system.default_state()] * 3)
    none = Perturbation.none(system.table)
    swept = solve_many(system, TIMES, none, begin, method, own={"constants/k": rates})
    alone = solve_many(system, TIMES, none, begin[:1], method, own={"constants/k": rates[1:2]})
    assert np.asarray(swept.outcome).tolist() == [Outcome.DONE] * 3
    np.testing.assert_allclose(swept.states[1], expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(swept.states[1], alone.states[0], rtol=1e-12)


def test_what_passes_over_events_refuses_the_model() -> None:
    system = system_from(written("at a time"))
    none = Perturbation.none(system.table)
    with pytest.raises(PinnsimError, match="1 events"):
        solve(system, jax.numpy.asarray(TIMES), none, system.default_state(), ODE())
    with pytest.raises(PinnsimError, match="rate rule"):
        simulate(system, TIMES, method=LinearNoise(100.0))
    with pytest.raises(PinnsimError, match="rate rule") as caught:
        simulate(system, TIMES, method=SSA(), key=jax.random.key(0), cells=2)
    assert caught.value.codes == ("E_USAGE",) * 2
    assert system.events is not None
    assert system.events.places == PLACES
    with pytest.raises(PinnsimError, match="1 events .first: 'e0'., which are not run with a learned rate"):
        learned_rate(system, "R", ["A"], key=jax.random.key(0))


def test_a_learned_rate_over_reactions_and_rules_has_neither_jumps_nor_linear_noise() -> None:
    model = learned_rate(dimers(), "on", ["P"], key=jax.random.key(0))
    for method, more in ((SSA(), {"key": jax.random.key(0), "cells": 2}), (LinearNoise(1.0), {})):
        with pytest.raises(PinnsimError, match="with a learned rate is solved by ODE") as caught:
            simulate(model, TIMES, method=method, **more)
        assert caught.value.codes == ("E_USAGE",)


def dimers(*each: dict[str, str]) -> RuleSystem:
    """2 P -> D at k P (P - 1) / 2, back at b D, from 20 molecules of P."""
    species = "".join(
        f'<species id="{name}" compartment="C" initialAmount="{start}" hasOnlySubstanceUnits="true" '
        'boundaryCondition="false" constant="false"/>'
        for name, start in (("P", 20), ("D", 0))
    )
    from sbml_models import mathml

    def reaction(name: str, used: tuple[str, int], made: tuple[str, int], law: str) -> str:
        sides = (f'<speciesReference species="{who}" stoichiometry="{count}" constant="true"/>' for who, count in
                 (used, made))  # fmt: skip
        left, right = sides
        return (
            f'<reaction id="{name}" reversible="false"><listOfReactants>{left}</listOfReactants><listOfProducts>{right}'
            f"</listOfProducts><kineticLaw>{mathml(law)}</kineticLaw></reaction>"
        )

    return system_from(
        document(
            '<listOfCompartments><compartment id="C" size="1" constant="true"/></listOfCompartments>'
            f"<listOfSpecies>{species}</listOfSpecies><listOfReactions>"
            f"{reaction('on', ('P', 2), ('D', 1), '0.05*P*(P - 1)/2')}{reaction('off', ('D', 1), ('P', 2), '0.5*D')}"
            f"</listOfReactions>{events(*each)}"
        )
    )


def test_sampled_cells_have_the_exact_law_with_events_on_time_and_state() -> None:
    """With `D > 6` everything is P again: a chain of seven states; at 1.5 all is P again, too."""
    model = dimers(
        {"trigger": "D > 6", "P": "20", "D": "0"}, {"trigger": "time >= 1.5", "P": "20", "D": "0", "initial": "false"}
    )
    chain = np.zeros((7, 7))
    for number in range(7):
        left = 20 - 2 * number
        for rate, target in ((0.05 * left * (left - 1) / 2, (number + 1) % 7), (0.5 * number, number - 1)):
            if rate > 0:
                chain[number, target] += rate
                chain[number, number] -= rate
    times, count = np.array([0.0, 0.4, 1.2, 1.5, 2.5]), 3000
    cloud = simulate(model, times, method=SSA(), key=jax.random.key(3), cells=count)
    cloud.raise_failures()
    dimer = np.asarray(cloud.state_of("D"))[0]
    np.testing.assert_allclose(np.asarray(cloud.state_of("P"))[0] + 2 * dimer, 20.0)
    assert (dimer[:, 3] == 0).all()
    for place, since in ((1, 0.4), (2, 1.2), (4, 1.0)):
        law = expm(chain * since)[0]
        seen = np.bincount(dimer[:, place].astype(int), minlength=7) / count
        assert np.abs(seen - law).max() < 5.0 * np.sqrt(0.25 / count)
    expected = solve_on_host(model, times)
    assert expected.outcome == Outcome.DONE


def test_linear_noise_of_an_imported_model_is_that_of_its_equations() -> None:
    model = dimers()
    found = simulate(model, np.array([0.0, 1.0, 5.0]), method=LinearNoise(1.0))
    variance = np.asarray(found.covariance)[0, -1]
    mean = np.asarray(found.mean)[0, -1]
    p, d = mean
    # At rest: J Sigma + Sigma J' + B = 0 along the one direction (-2, 1).
    slope = 0.05 * (2 * p - 1) / 2 * -2 - 0.5
    noise = 0.05 * p * (p - 1) / 2 + 0.5 * d
    np.testing.assert_allclose(variance[1, 1], noise / (-2 * slope), rtol=2e-2)
    np.testing.assert_allclose(variance[0, 0], 4 * variance[1, 1], rtol=1e-6)
