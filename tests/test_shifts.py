"""All attractors under many perturbations in one batch, against roots of polynomials and against one search each."""

import numpy as np
import pytest
from systems import ring, roots

from pinnsim import shelf
from pinnsim.dynamics.textbook import double_well
from pinnsim.errors import PinnsimError
from pinnsim.landscape import attractors_under, find_attractors, resting
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.fixed_points import polish_lanes
from pinnsim.simulate import many

A = 10.0
PUSHES = ["none", "u=0", "drive(u)=0.5", "drive(u)=4", "hold(u)=3", "u*0.15", "u*0.8, v*0.8", "decay(v)*1.5"]


def run(model, perturbations, **more):
    return attractors_under(model, perturbations, batch_size=64, progress=False, **{"starts": 6, **more})


@pytest.fixture(scope="module")
def toggle():
    return ring(("u", "v"), A, 2.0)


@pytest.fixture(scope="module")
def reference(toggle) -> Attractors:
    return find_attractors(toggle, starts=16)


@pytest.fixture(scope="module")
def shifts(toggle, reference):
    return run(toggle, PUSHES, reference=reference)


def test_every_valley_is_where_the_polynomial_says(shifts):
    wanted = {
        "none": roots(1, 1, 0, 1),
        "u=0": np.array([[0.0, A]]),
        "drive(u)=0.5": roots(1, 1, 0.5, 1),
        "drive(u)=4": roots(1, 1, 4, 1),
        "hold(u)=3": np.array([[3.0, 1.0]]),
        "u*0.15": roots(0.15, 1, 0, 1),
        "u*0.8, v*0.8": roots(0.8, 0.8, 0, 1),
        "decay(v)*1.5": roots(1, 1, 0, 1.5),
    }
    assert [len(w) for w in wanted.values()] == [2, 1, 2, 1, 1, 1, 2, 2]
    for label, states in wanted.items():
        found = shifts.states[shifts.under(label)]
        assert np.abs(found[np.argsort(found[:, 0])] - states).max() < 1e-8, label
    assert shifts.residual.max() < 1e-12
    assert (shifts.leading.real < 0).all()


def test_fates_and_shifts_follow_the_ball(shifts, reference):
    low = int(np.argmin(reference.states[:2, 0]))
    fate = dict(zip(shifts.labels, shifts.fate[:, [low, 1 - low]].tolist(), strict=True))
    assert fate["none"] == ["remains", "remains"]
    assert fate["u=0"] == fate["u*0.15"] == ["remains", "vanishes"]
    assert fate["drive(u)=4"] == ["vanishes", "remains"]
    assert np.abs(shifts.folds()[0]).max() < 1e-9
    both = PUSHES.index("drive(u)=0.5")
    floor = 1e-4 * 0.5 * A * (1 + 1e-2)  # a ten-thousandth of the default abundance
    here, there = reference.states[:2], shifts.states[shifts.home[both]]
    assert np.allclose(shifts.folds()[both], np.log2((there + floor) / (here + floor)), atol=0.01)
    assert np.allclose(shifts.distances()[both], np.sqrt(np.mean((np.log(2) * shifts.folds()[both]) ** 2, axis=1)))
    assert np.allclose(shifts.distances(downstream=True)[both], np.abs(np.log(2) * shifts.folds()[both][:, 1]))


def test_what_is_lifted_returns_or_stays(shifts, reference):
    low = int(np.argmin(reference.states[:2, 0]))
    for label, valley in (("u=0", low), ("u*0.15", low), ("drive(u)=4", 1 - low), ("hold(u)=3", 1 - low)):
        assert shifts.lifted[shifts.under(label)].tolist() == [valley]
    assert (shifts.lifted[shifts.under("none")] == shifts.home[0, np.argsort(shifts.home[0])].argsort()).all()


def test_the_tables_say_it(shifts):
    table = shifts.table()
    assert len(table) == 2 * len(PUSHES)
    knocked = table[table["perturbation"] == "u=0"]
    assert sorted(knocked["fate"]) == ["remains", "vanishes"]
    assert knocked["rests in"].nunique() == 1
    assert set(knocked["most moved"]) == {"v.mrna"}
    ranked = shifts.ranked()
    assert ranked.set_index("perturbation")["largest downstream shift"]["none"] < 1e-9
    assert set(ranked["perturbation"].iloc[:2]) < {"u=0", "u*0.15", "drive(u)=4", "hold(u)=3"}
    assert ranked["remains"].sum() == (shifts.fate == "remains").sum()
    assert "8 perturbations from 8 starts each, in " in repr(shifts)
    assert f"({shifts.rate:.3g} per second)" in shifts.describe()


def test_other_perturbations_compile_nothing(toggle, reference, shifts):
    programs = [many._solved, many._fastest, polish_lanes, resting._lasting]
    before = [p._cached._cache_size() for p in programs]
    other = run(toggle, {f"push {k}": f"drive(u)={0.3 * k}, v*{1 - 0.05 * k}" for k in range(9)}, reference=reference)
    assert [p._cached._cache_size() for p in programs] == before
    assert (other.fate == "remains").any()
    assert not np.allclose(other.states[:4], shifts.states[:4])
    one = run(toggle, {"alone": "drive(u)=0.9, v*0.85"}, reference=reference)
    assert np.array_equal(one.states, other.states[other.under("push 3")])


def test_new_valleys_are_named_and_counted():
    found = run(ring(("u", "v"), 1.5, 2.0), ["none", "u*4.4, v*4"], starts=8)
    assert len(found.valleys) == 1
    strong = found.under("u*4.4, v*4")
    # The ball of the only valley goes to the favoured side.
    order = np.argsort(-found.states[strong, 0])
    assert [found.names[k] for k in strong[order]] == ["A1", "N1"]
    model = roots(0.66, 0.6, 0, 1)
    assert np.abs(found.states[strong[order]] - model[::-1]).max() < 1e-8
    assert found.table()["fate"].tolist() == ["remains", "remains", "new"]
    assert found.ranked()["perturbation"].iloc[0] == "u*4.4, v*4"
    assert found.arrivals[strong].sum() == 8


def test_cycles_are_coded_and_harm_no_other_lane():
    calm = ring(("a", "b", "c"), 2.0, 3.0)
    reference = find_attractors(calm, starts=2, probes=0, settle=30.0)
    loud = ["a*5, b*5, c*5", "a=0"]
    found = run(calm, loud, reference=reference, starts=2, settle=30.0, states=[[1.0, 2.0, 3.0]])
    assert set(found.motion[0, 1:]) == {"cycle"}
    assert found.under("a*5, b*5, c*5").tolist() == []
    assert found.fate[1, 0] == "remains"
    assert abs(found.states[found.under("a=0")][0, 1] - 2.0) < 1e-9
    assert set(found.sentences) >= set(found.fate.ravel())


def test_against_one_search_each(toggle, reference, shifts):
    for label in ("drive(u)=0.5", "decay(v)*1.5"):
        alone = find_attractors(toggle, label, starts=16)
        one, batch = alone.states[alone.stable], shifts.states[shifts.under(label)]
        assert np.abs(one[np.argsort(one[:, 0])] - batch[np.argsort(batch[:, 0])]).max() < 1e-9


def test_what_cannot_be_asked_is_refused(toggle, reference):
    with pytest.raises(PinnsimError, match=r"E_USAGE.*perturbations"):
        run(toggle, [])
    with pytest.raises(PinnsimError, match=r"E_USAGE.*starts"):
        run(toggle, ["none"], starts=-1)
    with pytest.raises(PinnsimError, match=r"E_PERTURB_GENE"):
        run(toggle, ["w=0"], reference=reference)
    with pytest.raises(PinnsimError, match=r"E_INIT"):
        run(double_well(), ["none"], reference=reference)
    with pytest.raises(PinnsimError, match=r"E_USAGE.*conserves totals.*find_attractors"):
        run(shelf.load_system("telegraph").system, ["none"])
