"""Reprogramming against exact answers: a pushed double well, the toggle switch, and a valley beside a cycle."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.motifs import toggle
from pinnsim.errors import PinnsimError
from pinnsim.landscape import find_attractors
from pinnsim.landscape.coordinates import frozen, resolved
from pinnsim.plot import reprogramming_panels, save
from pinnsim.reprogramming import KNOCKOUT, Search, default_edits, reprogram
from pinnsim.reprogramming.edits import edit_set
from pinnsim.reprogramming.effort import effort
from pinnsim.reprogramming.lanes import Bench, Tries, _judged
from pinnsim.reprogramming.refine import _late
from pinnsim.reprogramming.robustness import Robustness, members_of
from pinnsim.reprogramming.search import _possible, combinations, extended
from pinnsim.simulate import ODE
from pinnsim.treatment import Treatment

SHARP = ODE(rtol=1e-10, atol=1e-12, max_steps=16384, stiff=False)
HIGH, LOW = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)
BARE = {"cells": 0, "points": 0}
WELLS = [0.0, 0.0, -1.0], [0.0, 0.0, 1.0]


def crossing(height: float) -> float:
    """The shortest push of `x' = x - x^3 + h` from -1 that leaves: the time to x = 0."""
    return quad(lambda x: 1.0 / (x - x**3 + height), -1.0, 0.0, epsabs=1e-13, epsrel=1e-13)[0]


class Beside(eqx.Module):
    """A valley beside a stable cycle of radius 1 in (x, y), and a double well in z."""

    def __call__(self, state):
        x, y, z = state
        size = x**2 + y**2
        pull = -(size - 0.09) * (size - 1.0) * 4.0
        return jnp.stack([pull * x - 3.0 * y, pull * y + 3.0 * x, z - z**3])


@pytest.fixture(scope="module")
def well():
    """A double well beside a cycle, its valleys, and what a search on it shares."""
    # The pull is inward below radius 0.3, outward up to 1, and inward beyond.
    model = drift_field(Beside(), ("x", "y", "z"), [0.1, 0.0, -0.9])
    near = [*WELLS, [0.9, 0.0, -1.0]]
    valleys = find_attractors(model, starts=1, states=near, bounds=([-0.1] * 3, [0.1] * 3), settle=30.0)
    common = {"attractors": valleys, "progress": False, "settle": 40.0, "method": SHARP, "most": 1}
    return model, common


def test_the_least_push_of_a_double_well_is_the_quadrature(well):
    model, common = well
    times = [crossing(0.8), crossing(0.6), crossing(0.5)]
    options = Search(tolerance=1e-10, steps=0, cells=0, batch_size=8, margin=0.1, points=33)
    found = reprogram(model, *WELLS, ["drive(z)=1"], doses=[0.4, 1.0, 2.0], durations=times, options=options, **common)
    (plan,) = found.plans
    np.testing.assert_allclose(times[-1], 4.9713143585, atol=1e-9)
    np.testing.assert_allclose(0.9 * plan.front[:, 1], [0.8, 0.6, 0.5], rtol=1e-7)
    # A constant push h costs 1/2 h^2 T in control, and none less than the barrier, 1/4 over D = 1/2.
    strength, duration = plan.strengths[0], plan.duration
    np.testing.assert_allclose(plan.control, 0.5 * strength**2 * duration, rtol=1e-12)
    np.testing.assert_allclose(found.bound.action, 0.5, rtol=1e-6)
    assert found.bound.complete
    assert found.bound.route == (found.start, "S1", found.target)
    assert found.table()["times the bound"][0] == plan.control / found.bound.action > 1
    assert (0.5 * 0.81 * plan.front[:, 1] ** 2 * plan.front[:, 0] > found.bound.action).all()
    np.testing.assert_allclose(plan.effort, strength * duration, rtol=1e-12)
    assert plan.treatment.edits[0].stop == duration
    # A flow without reactions has no rates to vary.
    assert np.isnan(plan.robust.share)


def test_gradients_find_the_best_duration_and_never_make_it_worse(well):
    model, common = well
    options = Search(steps=10, tolerance=1e-5, margin=0.01, batch_size=8, **BARE)
    found = reprogram(
        model, *WELLS, ["drive(z)=1"], doses=[0.5, 1.0, 4.0], durations=[0.5, 1.5, 9.0], power=2,
        options=options, **common,
    )  # fmt: skip
    (plan,) = found.plans
    truth = minimize_scalar(lambda h: h**2 * crossing(h), bounds=(0.4, 3.9), method="bounded").fun / 0.99**2
    assert truth * (1 - 1e-6) <= plan.effort < truth * 1.001
    assert plan.effort < 0.99 * plan.begun


@pytest.fixture(scope="module")
def switch():
    """The toggle switch, what a search on it shares, and one search."""
    model = toggle()
    known = np.array([[LOW, HIGH], [HIGH, LOW]])
    common = {
        "attractors": find_attractors(model, starts=8, states=known), "progress": False, "settle": 40.0,
        "doses": [1.0, 2.5], "durations": [1.0, 3.0],
    }  # fmt: skip
    edits = ["u*2", "v*0.5", "u*0.5", "v=0"]
    options = Search(cells=16, spread=0.05, points=0, steps=0, keep=2, seed=3)
    return model, common, edits, reprogram(model, known[0], known[1], edits, most=2, options=options, **common)


def test_the_toggle_is_switched_by_what_it_should(switch):
    model, common, edits, found = switch
    endings = dict(zip(found.tried["edits"], found.tried["ending"], strict=True))
    assert endings["u up"] == endings["v down"] == endings["v out"] == "reaches the target"
    assert endings["u down"] == "comes back"
    assert set(found.tried["size"]) == {1, 2}
    # Two edits of one target do not go together: six pairs less two.
    assert found.levels[1][:4] == (2, 4, 4, True)
    assert [p.effort for p in found.plans] == sorted(p.effort for p in found.plans)
    assert found.best is found.plans[0]
    assert found.reachable
    table = found.table()
    assert len(table) == len(found.plans)
    assert ((table["moved, low"] <= table["moved"]) & (table["moved"] <= table["moved, high"])).all()
    for text in table["treatment"]:
        assert str(Treatment.parse(text)) == text
    assert found.best.edits in found.describe()
    assert len(repr(found)) < 4000


def test_rates_of_their_own_move_the_edge(switch):
    found = switch[-1]
    robust = found.best.robust
    assert robust.cells == sum(robust.reasons.values()) == 16
    assert 0 < robust.moved <= 16
    # Plans are on a margin of 5 %: rates that vary by as much bring some cells back.
    assert any(p.robust.reasons.get("comes back", 0) for p in found.plans)


def test_a_search_compiles_once(switch):
    model, common, edits, _ = switch
    before = _judged._cached._cache_size()
    for doses in ([0.5, 2.0], [1.5, 2.2]):
        options, given = Search(steps=0, keep=1, margin=0.2, **BARE), {**common, "doses": doses}
        found = reprogram(model, [LOW, HIGH], [HIGH, LOW], edits, most=2, options=options, **given)
        assert found.plans
    assert _judged._cached._cache_size() <= before + 1


def test_a_beam_finds_the_best_pair_and_says_how_little_it_tried(switch):
    model, common, edits, _ = switch
    options = [Search(steps=0, beam=1, exhaustive=most, keep=9, **BARE) for most in (1, 100)]
    beam, whole = (reprogram(model, [LOW, HIGH], [HIGH, LOW], edits, most=2, options=o, **common) for o in options)
    pairs = [min((p.effort, p.edits) for p in found.plans if len(p.strengths) == 2) for found in (beam, whole)]
    assert pairs[0] == pairs[1]
    assert beam.levels[1][1:4] == (4, 2, False)
    assert "beam" in beam.describe()


def test_what_cannot_be_reached_is_said(switch):
    model, common, *_ = switch
    found = reprogram(model, [LOW, HIGH], [HIGH, LOW], ["u*0.5", "v*2"], options=Search(**BARE), **common)
    assert found.best is None
    assert not found.reachable
    assert not len(found.table())
    assert set(found.tried["ending"]) == {"comes back"}
    assert "is not reached" in found.describe()
    with pytest.raises(PinnsimError, match="no plan"):
        reprogramming_panels(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": [LOW, HIGH], "target": "A1"}, "is there already"),
        ({"target": "S1"}, "no valley but saddle"),
        ({"target": [5.0, 5.0]}, "not at rest"),
        ({"target": "A7"}, "no point is called 'A7'; valleys are A1, A2"),
        ({"edits": ["w*2"]}, "'w' is not among"),
        ({"edits": ["u*1"]}, "changes nothing"),
        ({"edits": ["u*2@0:5"]}, "has times"),
        ({"edits": ["hold(u)=3"]}, "clamps"),
        ({"edits": ["u*2, v*2"]}, "2 edits"),
        ({"edits": []}, "is empty"),
        ({"doses": [2.0, 1.0]}, "ascending"),
        ({"most": 0}, "`most`"),
        ({"options": Search(margin=1.0)}, "margin"),
    ],
)
def test_impossible_searches_are_refused(switch, changes, said):
    model, common, edits, found = switch
    given = {"start": [LOW, HIGH], "target": [HIGH, LOW], "edits": edits, **common, **changes}
    if given["target"] == "A1":
        given["target"] = found.start
    with pytest.raises(PinnsimError, match=said):
        reprogram(model, given.pop("start"), given.pop("target"), given.pop("edits"), **given)


def test_a_push_onto_a_cycle_is_called_one(well):
    model, common = well
    given = {**common, "doses": [4.0], "durations": [1.0, 1.5, 2.0], "options": Search(steps=0, batch_size=8, **BARE)}
    found = reprogram(model, *WELLS, ["drive(x)=1", "drive(z)=1"], **given)
    endings = dict(zip(found.tried["edits"], found.tried["ending"], strict=True))
    assert endings == {"drive(x)": "goes round a cycle", "drive(z)": "reaches the target"}
    with pytest.raises(PinnsimError, match="cycle, on which"):
        reprogram(model, WELLS[0], common["attractors"].cycles[0].name, ["drive(z)=1"], **given)


def test_edits_act_as_their_treatment_does(switch):
    model = switch[0]
    edits = edit_set(["u*2", "v*0.5", "drive(u)=0.5", "v=0", "transcription(v)*0{dose=2;ic50=3}"], model)
    arrays = edits.arrays
    which, strengths = np.array([0, 2, 4]), np.array([0.7, 3.0, 1.5])
    acting = arrays.acting(which, jnp.asarray(strengths))
    written = edits.written(which.tolist(), strengths.tolist(), 2.0)
    same = written.resolve(model.table).at(jnp.asarray(1.0))
    assert written.edits[2].dose.dose == 3.0
    for ours, theirs in zip((acting.factor, acting.drive), (same.factor, same.drive), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(acting.factor[0], np.exp(0.7), rtol=1e-12)
    np.testing.assert_allclose(acting.factor[1], 1.0 - 0.5, rtol=1e-12)  # occupied: 3 / (3 + 3)
    tries = Tries(np.array([[0, 3, 5], [2, 5, 5]]), np.array([[2.0, 9.0, 9.0], [3.0, 9.0, 9.0]]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(effort(arrays, tries, 2), [2 * (4 + KNOCKOUT**2), 36.0])
    assert default_edits(model) == ("u*2", "u*0.5", "v*2", "v*0.5")


def test_combinations_keep_targets_apart(switch):
    edits = edit_set(["u*2", "u*0.5", "v*2", "v*0.5", "drive(u)=1"], switch[0])
    pairs = combinations(edits, 2, 100)
    assert len(pairs) == _possible(edits, 2) == 8
    assert len(combinations(edits, 3, 100)) == _possible(edits, 3) == 4
    assert combinations(edits, 2, 7) is None
    more = extended(edits, np.array([[0, 2, 5]]), 3)
    assert more.tolist() == [[0, 2, 4]]


def test_the_normal_of_the_edge_is_the_slope_of_the_arrival(well):
    model, common = well
    edits = edit_set(["drive(z)=1"], model).arrays
    ground = frozen(resolved("none", model), jnp.inf).at(jnp.zeros(()))
    times = jnp.asarray([0.0, 1.0, 2.0, 3.0, 30.0])
    bench = Bench(model, edits, ground, jnp.asarray(WELLS[0]), jnp.asarray(WELLS), times, jnp.asarray(1),
                  jnp.asarray(0.0), SHARP)  # fmt: skip
    lanes = np.zeros((8, 1), int), np.full((8, 1), 0.5), np.full(8, crossing(0.5) + 5e-3)
    slope = np.asarray(_late(bench, *map(jnp.asarray, lanes)))
    # Along the edge h(T), nothing changes: the normal is proportional to (dT/dh, -1) in (h, T).
    step = 1e-5
    fall = (crossing(0.5 + step) - crossing(0.5 - step)) / (2 * step)
    ratio = slope[0, 0] / 0.5 / (slope[0, 1] / crossing(0.5))
    np.testing.assert_allclose(ratio, -fall, rtol=0.02)


def test_members_must_be_of_this_model(switch):
    model = switch[0]
    many = eqx.tree_at(lambda m: m.law.strength, model, jnp.stack([model.law.strength, 2 * model.law.strength]))
    assert {len(v) for v in members_of(model, many).values()} == {2}
    with pytest.raises(PinnsimError, match="member axis"):
        members_of(model, model)


def test_wilson_intervals_are_those_of_the_formula():
    low, high = Robustness(20, 15, {}).interval
    z, n, p = 1.959963984540054, 20, 0.75
    middle, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    np.testing.assert_allclose([low, high], [middle - half, middle + half], rtol=1e-12)
    assert Robustness(0, 0, {}).interval == (0.0, 1.0)


def test_the_picture_has_its_panels(switch, tmp_path):
    axes = reprogramming_panels(switch[-1], title="Toggle")
    assert axes.shape == (1, 4)
    assert all(ax.get_xlabel() for ax in axes[0])
    assert save(axes, tmp_path / "ways.png").stat().st_size > 10_000
