"""Searches hold the conserved totals of one stated state; found points, laws and refusals against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim import shelf
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import toggle
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.experiment import companion
from pinnsim.landscape import find_attractors, fixed_points
from pinnsim.landscape.coordinates import frozen, kinetics_of, resolved
from pinnsim.landscape.fixed_points import FixedPoints
from pinnsim.landscape.totals import Totals, conserved, totals_of
from pinnsim.perturbation import Constant
from pinnsim.simulate.totals import reachable

_systems = companion(str(shelf.experiment_path("basins")), "_edges")


@pytest.fixture(scope="module")
def telegraph():
    return shelf.load_system("telegraph").system


@pytest.mark.parametrize("promoters", [1.0, 5.0])
def test_the_telegraph_rests_at_the_totals_that_are_stated(telegraph, promoters):
    # off -> on 0.05, on -> off 0.1, RNA 10 per promoter that is on, protein 5 per RNA and lost at 0.1.
    found = find_attractors(telegraph, starts=8, totals=[promoters, 0, 0, 0])
    on = promoters / 3
    np.testing.assert_allclose(found.states, [[promoters - on, on, 10 * on, 500 * on]], rtol=1e-10)
    assert abs(found.states[0, :2].sum() - promoters) < 1e-10
    assert np.abs(found.ends[:, :2].sum(axis=1) - promoters).max() < 1e-10
    assert found.stability == ("stable",)
    assert found.starts.tolist() == [8]
    # The promoter relaxes with both of its rates; the total itself has no eigenvalue.
    np.testing.assert_allclose(found.eigenvalues, [[-0.1, -0.15, -1.0]], atol=1e-9)


def test_totals_that_nobody_states_are_asked_for(telegraph):
    with pytest.raises(PinnsimError, match=r"E_INIT.*conserves 1 totals \(g.off \+ g.on = total\).*`totals`"):
        find_attractors(telegraph, starts=4)
    with pytest.raises(PinnsimError, match="E_INIT.*`totals`"):
        fixed_points(telegraph, starts=4)
    with pytest.raises(PinnsimError, match="E_INIT.*state 1.*other totals"):
        find_attractors(telegraph, starts=0, states=[[1.0, 0, 0, 0], [0.5, 1.5, 0, 0]])
    with pytest.raises(PinnsimError, match="E_INIT.*other totals.*than `totals`"):
        find_attractors(telegraph, starts=0, states=[[1.0, 0, 0, 0]], totals=[2.0, 0, 0, 0])
    with pytest.raises(PinnsimError, match="E_INIT.*totals"):
        find_attractors(telegraph, starts=4, totals=[1.0, 0])
    # States that agree say it themselves (eight, as above, so that they share its program).
    found = find_attractors(telegraph, starts=0, states=[[0.5, 0.5, 0, 0], [0.0, 1.0, 7.0, 0]] * 4)
    np.testing.assert_allclose(found.states[0, :2], [2 / 3, 1 / 3], rtol=1e-9)


def test_a_switch_has_two_valleys_above_its_threshold_and_one_below():
    model = _systems.switch()
    # P' = P (X P - 2): with T = 3 rests at P = 0, 1, 2; below T = sqrt(8) at P = 0 only.
    for total, rests in ((3.0, [0.0, 1.0, 2.0]), (2.8, [0.0])):
        acting = frozen(resolved("", model), np.inf)
        points = FixedPoints(kinetics_of(model), acting, 1e-6, np.array([total, 0.0]))
        # Guesses off the total are moved to it.
        for p in (0.1, 1.0, 1.8):
            points.polish(np.array([total - p + 0.03, p + 0.03]))
        order = np.argsort([state[1] for state in points.states])
        states = np.array(points.states)[order]
        np.testing.assert_allclose(states[:, 1], rests, atol=1e-9)
        assert np.abs(states.sum(axis=1) - total).max() < 1e-10
        assert [points.stability[k] for k in order] == ["stable", "unstable", "stable"][: len(rests)]


def test_what_is_held_driven_or_switched_off_makes_and_breaks_totals():
    loop = [Reaction("forth", "A -> B", 1.0), Reaction("back", "B -> A", 2.0), Reaction("lose", "C -> 0", 1.0)]
    model = kinetics_of(reaction_system(loop, time_unit="h", start={"A": 1.0, "C": 1.0}))

    def laws(treatment):
        acting = frozen(resolved(treatment, model), np.inf)
        return conserved(model, acting.at(jnp.zeros(()))).tolist()

    assert laws("") == [[1, 1, 0]]
    assert laws("hold(A)=1") == []
    assert laws("drive(B)=1") == []
    assert laws("reaction(lose)*0") == [[1, 1, 0], [0, 0, 1]] or laws("reaction(lose)*0") == [[0, 0, 1], [1, 1, 0]]
    assert conserved(kinetics_of(toggle(10.0)), frozen(resolved("", toggle(10.0)), np.inf).at(jnp.zeros(()))).size == 0


def test_starts_are_moved_to_the_totals_and_stay_positive():
    # A + AB = 1, B + AB = 3, C - D = -1: overlapping pools and a difference.
    laws = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, -1]])
    held = Totals(laws, np.array([1.0, 3.0, -1.0]), np.zeros(5), ("a", "b", "c"))
    starts = 10.0 ** np.random.default_rng(3).uniform(-6, 6, (200, 5))
    moved = held.held_by(starts)
    assert (moved > 0).all()
    assert held.gaps(moved).max() < 1e-12
    # The nearest in relative entropy: log ratios are combinations of the laws.
    ratio = np.log(moved / starts)
    off = ratio - ratio @ np.linalg.pinv(laws) @ laws
    assert np.abs(off).max() < 1e-8
    np.testing.assert_allclose(held.held_by(moved), moved, rtol=1e-9)
    nothing = Totals(laws[:1], np.array([0.0]), np.zeros(5), ("a",))
    assert (nothing.held_by(starts)[:, [0, 2]] == 0).all()
    impossible = Totals(laws[:1], np.array([-1.0]), np.zeros(5), ("a",))
    with pytest.raises(PinnsimError, match="E_INIT.*200 of 200 starts"):
        impossible.held_by(starts)


def test_a_flow_of_amounts_that_is_not_written_as_reactions_conserves_nothing():
    model = _systems.bent_amounts()
    edits = resolved("", model).acting(jnp.asarray(0.0)).at(jnp.asarray(0.0))
    free = jnp.asarray([True, False])
    kept = reachable(model, jnp.asarray(0.0), model.default_state(), Constant(edits), free)
    assert kept.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_a_model_that_conserves_nothing_needs_no_totals():
    model = kinetics_of(toggle(10.0))
    held = totals_of(model, frozen(resolved("", model), np.inf), None, None)
    assert held.laws.shape == (0, 2)
    states = np.ones((3, 2))
    assert held.held_by(states) is states
