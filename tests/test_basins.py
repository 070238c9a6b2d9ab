"""Basins, their volumes, separatrices and distances to edges against closed forms."""

import dataclasses

import numpy as np
import pytest

from pinnsim import shelf
from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.motifs import toggle
from pinnsim.errors import PinnsimError
from pinnsim.experiment import companion
from pinnsim.landscape import (
    assign,
    basin_volumes,
    distance_along,
    distance_to_edge,
    edge_points,
    separatrix,
)
from pinnsim.landscape.attractors import _collect
from pinnsim.landscape.coordinates import frozen, kinetics_of, resolved
from pinnsim.landscape.cycles import SAMPLES, Cycle
from pinnsim.landscape.fixed_points import FixedPoints
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.landscape.settling import _settle
from pinnsim.simulate import ODE, Outcome

_systems = companion(str(shelf.experiment_path("basins")), "_edges")
BOX = ([-2.0, -1.5], [2.0, 1.5])
HIGH, LOW = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)


def known(model, guesses, totals=None):
    """The fixed points near guesses, as `find_attractors` gives them, without its search."""
    kinetics = kinetics_of(model)
    points = FixedPoints(kinetics, frozen(resolved("", kinetics), np.inf), 1e-6, totals)
    assert [points.polish(np.array(guess)) for guess in guesses] == list(range(len(guesses)))
    none = np.zeros(0, int)
    return _collect(points, (), none, np.zeros((0, len(guesses[0]))), 1.0)


@pytest.fixture(scope="module")
def bent():
    model = _systems.bent_well()
    return model, known(model, [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])


@pytest.fixture(scope="module")
def pair():
    model = toggle(10.0)
    return model, known(model, [[HIGH, LOW], [LOW, HIGH], [2.0, 2.0]])


def _name(found, state):
    """The attractor nearest to a state."""
    return found.names[int(np.abs(found.states[found.stable] - state).max(axis=1).argmin())]


def test_states_belong_to_the_side_of_the_parabola_that_they_are_on(bent):
    model, found = bent
    left, right = _name(found, [-1.0, 0.0]), _name(found, [1.0, 0.0])
    y = np.linspace(-1.4, 1.4, 32)
    states = np.concatenate([np.stack([y**2 + side, y], axis=1) for side in (-1e-6, 1e-6, -0.5, 0.5)])
    result = assign(model, found, states)
    assert result.verdicts() == ([left] * 32 + [right] * 32) * 2
    assert (result.outcome == Outcome.DONE).all()
    assert np.abs(result.ends[:, 0]).min() > 0.9
    # Near the edge p grows as e^t from 1e-6: arriving takes about log(1e6) longer than from afar.
    assert 8 < result.arrival[:64].min() - result.arrival[64:].max() < 16
    assert list(result.table().columns) == ["valley", "arrival (min)", "outcome"]


def test_more_states_and_other_numbers_use_the_same_program(bent):
    model, found = bent
    states = np.random.default_rng(0).uniform(*BOX, (600, 2))
    assign(model, found, states)
    before = _settle._cached._cache_size()
    verdicts = assign(model, found, states[:300] * 0.9, longest=50.0, method=ODE(rtol=1e-6)).valley
    assert _settle._cached._cache_size() == before
    assert set(verdicts) == {0, 1}


def test_what_settles_nowhere_is_said_and_not_counted(bent):
    model, found = bent
    result = assign(model, found, [[0.0, 0.0], [1e-300, 0.0], [0.9, 0.1]], longest=30.0)
    assert result.verdicts() == ["none", "none", _name(found, [1.0, 0.0])]
    assert result.outcome.tolist() == [Outcome.NOT_SETTLED, Outcome.NOT_SETTLED, Outcome.DONE]
    assert "flows nowhere known: no steady state was reached" in result.sentences()[0]
    assert np.isnan(result.arrival[:2]).all()
    with pytest.raises(PinnsimError, match=r"E_INIT.*not finite"):
        assign(model, found, [[np.nan, 0.0]])
    with pytest.raises(PinnsimError, match="E_USAGE.*own solvers"):
        assign(model, found, [[0.0, 0.0]], method=ODE(solver=_tsit5()))


def _tsit5():
    import diffrax

    return diffrax.Tsit5()


def test_a_state_that_runs_away_fails_alone():
    # x' = x^2 - 1: a valley at -1, and from above 1 to infinity in finite time.
    model = drift_field(_Square(), ("x",), [-0.5])
    found = known(model, [[-1.0], [1.0]])
    result = assign(model, found, [[0.9], [1.1], [5.0], [-3.0]])
    assert result.verdicts() == ["A1", "failed", "failed", "A1"]
    volumes = basin_volumes(model, found, points=64, bounds=([-1.0], [3.0]))
    # The edge is the unstable point 1, in the middle of the box.
    assert volumes.counts[0] == volumes.failed == 32
    assert [note.code for note in volumes.notes] == ["W_SETTLES_NOWHERE"]
    assert "32 of 64 states flow to no known attractor" in volumes.describe()


class _Square:
    """`x^2 - 1`."""

    def __call__(self, state):
        return state**2 - 1.0


def test_volumes_against_the_area_beside_the_parabola(bent):
    model, found = bent
    box = ([-2.0, -1.0], [2.0, 1.0])
    volumes = basin_volumes(model, found, points=256, bounds=box)
    right = volumes.names.index(_name(found, [1.0, 0.0]))
    exact = (2.0 - 1.0 / 3.0) / 4.0
    assert abs(volumes.share[right] - exact) < 3 * volumes.error[right]
    assert volumes.low[right] < exact < volumes.high[right]
    assert volumes.counts.sum() == 256
    assert volumes.notes == ()
    assert volumes.table()["share"].sum() == pytest.approx(1.0)
    # Of a population, and an empty valley.
    some = basin_volumes(model, found, states=np.tile([[0.9, 0.0]], (256, 1)))
    assert some.share[right] == 1.0
    assert some.low[right] == pytest.approx(0.025 ** (1 / 256))
    (note,) = some.notes
    assert note.code == "W_BASIN_EMPTY"
    assert note.message.startswith(f"none of 256 states flows to {volumes.names[1 - right]}: its share is below 0.014")
    for arguments, code in (
        ({"confidence": 1.0}, "E_USAGE"),
        ({"points": 0}, "E_USAGE"),
        ({"bounds": ([1.0, 0.0], [0.0, 1.0])}, "E_BOUNDS"),
        ({"states": np.zeros((0, 2))}, "E_DATA_EMPTY"),
    ):
        with pytest.raises(PinnsimError, match=code):
            basin_volumes(model, found, **arguments)


def test_the_interval_of_a_share_covers_it():
    # Of 2,000 samples of 40, the interval misses the truth in at most 5 % (and, being exact, not in none).
    rng = np.random.default_rng(2)
    for share in (0.02, 0.3, 0.9):
        low, high = proportion_interval(rng.binomial(40, share, 2000), 40, 0.95, exact=True)
        missed = np.mean((share < low) | (share > high))
        assert missed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_cycle_is_a_valley_and_an_unstable_cycle_an_edge():
    model = _systems.rings()
    times = np.linspace(0.0, 2 * np.pi / 3, SAMPLES + 1)
    orbit = np.stack([np.cos(3 * times), np.sin(3 * times)], axis=1)
    one = np.ones(2)
    outer = Cycle(
        "C1", times[-1], times, orbit, -one, one, np.array([0.04 + 0j]), "stable", 0.0, 0.0, 0.0, ("x", "y"), "min"
    )
    found = dataclasses.replace(known(model, [[0.0, 0.0]]), cycles=(outer,))
    circle = orbit[:-1:32]
    result = assign(model, found, np.concatenate([0.499 * circle, 0.501 * circle]))
    assert result.verdicts() == ["A1"] * 8 + ["C1"] * 8


def test_the_separatrix_of_the_symmetric_toggle_is_the_diagonal(pair):
    model, found = pair
    edge = separatrix(model, found)
    assert np.abs(edge.curve[:, 0] - edge.curve[:, 1]).max() < 1e-8
    assert [arm.end for arm in edge.arms] == ["wall", "wall"]
    assert abs(edge.rate - 0.6) < 1e-9
    np.testing.assert_allclose(np.abs(edge.normal), np.sqrt(0.5), atol=1e-9)
    assert set(edge.between) == {"A1", "A2"}
    # Walls are met exactly: ten times beyond all points.
    high = 10 * found.states.max()
    assert min(abs(arm.states[-1] - high).max() / high for arm in edge.arms) < 1e-9
    with pytest.raises(PinnsimError, match="E_USAGE.*'A1' is no fixed point of index 1.*S1"):
        separatrix(model, found, "A1")


def test_the_separatrix_of_the_bent_well_is_the_parabola(bent):
    model, found = bent
    edge = separatrix(model, found, bounds=([-1.0, -2.0], [2.0, 2.0]))
    assert np.abs(edge.curve[:, 0] - edge.curve[:, 1] ** 2).max() < 1e-8
    ends = np.sort([arm.states[-1, 1] for arm in edge.arms])
    np.testing.assert_allclose(ends, [-np.sqrt(2), np.sqrt(2)], atol=1e-8)


def test_an_arm_winds_on_to_an_unstable_cycle():
    model = _systems.wheel()
    found = known(model, [[0.0, 0.0], [-2.0, 0.0], [2.0, 0.0]])
    edge = separatrix(model, found, "S1", bounds=([-3.0, -3.0], [3.0, 3.0]))
    by_end = {arm.end: arm for arm in edge.arms}
    assert set(by_end) == {"cycle", "wall"}
    assert abs(by_end["cycle"].period / _systems.wheel_period() - 1) < 1e-8
    np.testing.assert_allclose(np.linalg.norm(by_end["cycle"].states[-1]), 1.0, atol=1e-3)
    assert "unstable cycle of period" in edge.describe()


def test_points_of_an_edge_in_three_dimensions(pair):
    model = _systems.bent_space()
    found = known(model, [[-1.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0]])
    edge = separatrix(model, found, points=16, reach=0.3, tolerance=1e-8)
    assert edge.arms == ()
    assert edge.curve.shape == (0, 3)
    x, y, w = edge.points.T
    assert len(x) + edge.lost == 16
    assert len(x) >= 12
    assert np.abs(x - y**2 - y * w).max() < 1e-7
    np.testing.assert_allclose(np.abs(edge.normal), [1, 0, 0], atol=1e-9)
    points, sides = edge_points(model, found, [[0.8, 0.5, 0.2], [0.9, 0, 0]], [[-0.8, 0.1, -0.3], [0.8, 0, 0]])
    x, y, w = points[0]
    assert abs(x - y**2 - y * w) < 1e-7
    assert np.isnan(points[1]).all()
    assert sides[0, 0] != sides[0, 1]
    assert sides[1, 0] == sides[1, 1]


def test_the_distance_to_the_edge_is_that_of_the_closed_form(bent, pair):
    model, found = bent
    states = [[1.0, 0.0], [0.9, 0.4], [-1.0, 0.2], [0.0, 0.0]]
    result = distance_to_edge(model, found, states, rays=1, steps=8)
    exact = [_systems.nearest_on_parabola(x, y, 1.0) / np.sqrt(2) for x, y in states[:3]]
    np.testing.assert_allclose(result.distance[:3], exact, atol=3e-6)
    assert np.abs(result.nearest[:3, 0] - result.nearest[:3, 1] ** 2).max() < 1e-5
    assert result.outcome == ("found", "found", "found", "in no valley")
    assert "it has no edge" in result.sentences()[3]
    assert result.beyond[:3] == (result.valley[2], result.valley[2], result.valley[0])
    near = distance_to_edge(model, found, states[:3], rays=1, steps=8, reach=0.1)
    assert near.outcome == ("no edge within reach",) * 3
    assert np.isinf(near.distance).all()
    model, found = pair
    stable = found.states[:2]
    z = np.log(stable + 1e-4)
    gap = distance_to_edge(model, found, stable, rays=1, steps=8)
    np.testing.assert_allclose(gap.distance, np.abs(z[:, 0] - z[:, 1]) / 2, atol=3e-6)
    # Along one gene: until it is equal to the other.
    along = distance_along(model, found, stable, "u")
    low = int(np.argmin(stable[:, 0]))
    assert along.up[low] == pytest.approx(stable[low, 1], rel=1e-6)
    assert along.down[1 - low] == pytest.approx(stable[1 - low, 1], rel=1e-6)
    assert np.isnan([along.down[low], along.up[1 - low]]).all()
    assert along.fold_up[low] == pytest.approx(stable[low, 1] / stable[low, 0], rel=1e-6)
    with pytest.raises(PinnsimError, match="E_GENE_UNKNOWN"):
        distance_along(model, found, stable, "w")
    with pytest.raises(PinnsimError, match="E_USAGE.*`rays`"):
        distance_to_edge(model, found, stable, rays=0)


def test_one_valley_has_no_edge():
    model = toggle(1.5)
    found = known(model, [[0.9, 0.9]])
    result = distance_to_edge(model, found, found.states[:1], rays=1, steps=4)
    assert result.outcome == ("no edge within reach",)
    assert "no edge of A1 within 6.91" in result.sentences()[0]
    with pytest.raises(PinnsimError, match="E_USAGE.*0 saddles of index 1"):
        separatrix(model, found)


def test_states_with_other_totals_than_the_valleys_are_refused():
    model = _systems.switch()
    found = known(model, [[3.0, 0.0], [1.0, 2.0], [2.0, 1.0]], np.array([2.0, 1.0]))
    # With X + P = 3 the edge is at P = 1.
    high, low = (result_index(found, state) for state in ([1.0, 2.0], [3.0, 0.0]))
    assert assign(model, found, [[1.99, 1.01], [2.01, 0.99]]).valley.tolist() == [high, low]
    with pytest.raises(PinnsimError, match="E_INIT.*other totals.*X"):
        assign(model, found, [[2.0, 2.0]])
    with pytest.raises(PinnsimError, match="E_USAGE.*cannot change alone"):
        distance_along(model, found, [[0.6, 2.4]], "P")


def test_a_singular_jacobian_is_said_and_is_no_valley():
    # x' = -x^3 rests at 0, where the Jacobian is 0: linear stability says nothing.
    model = drift_field(_Cube(), ("x",), [0.5])
    found = known(model, [[0.0]])
    assert found.stability == ("marginal",)
    (note,) = found.notes
    assert note.code == "W_JACOBIAN_SINGULAR"
    assert note.message.startswith("at M1 an eigenvalue is zero within rounding")
    with pytest.raises(PinnsimError, match="E_USAGE.*no valley to flow into"):
        assign(model, found, [[0.5]])
    moving = dataclasses.replace(found, motion=("settled", "not settled", "failed"))
    assert [n.code for n in moving.notes] == ["W_SETTLES_NOWHERE", "W_JACOBIAN_SINGULAR"]
    assert "2 of 3 starts (first: start 1)" in moving.notes[0].message


class _Cube:
    """`-x^3`."""

    def __call__(self, state):
        return -(state**3)


def result_index(found, state):
    """Position of a state among the attractors."""
    return int(np.abs(found.states[found.stable] - state).max(axis=1).argmin())
