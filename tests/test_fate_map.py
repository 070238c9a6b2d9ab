"""Critical doses and durations, the dose x duration map and its codes, against quadratures and single pushes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jaxtyping import Array

from pinnsim import plot
from pinnsim.dynamics.drift import DriftField, drift_field
from pinnsim.dynamics.motifs import toggle
from pinnsim.errors import PinnsimError
from pinnsim.landscape import (
    Kept,
    Switch,
    Verdict,
    critical_dose,
    critical_duration,
    ensemble_map,
    fate_map,
    fate_probabilities,
    push,
)
from pinnsim.landscape.push import _run
from pinnsim.simulate import ODE, Diffusion
from pinnsim.tree import stack

SHARP = ODE(rtol=1e-10, atol=1e-12, max_steps=16384)
TRUTH = {0.5: 4.9713143585, 0.75: 2.1052938654, 1.0: 1.3643419919, 2.0: 0.5739092676, 5.0: 0.2106524568}
ENDS = [[-1.0], [1.0]]
DOSES, DURATIONS = np.array([0.3, 0.5, 1.0, 2.0]), np.array([0.25, 1.0, 1.5, 6.0])


class Cubic(eqx.Module):
    """`c0 + c1 x + c2 x^2 + c3 x^3`."""

    c: Array

    def __call__(self, state):
        return jnp.polyval(self.c[::-1], state)


def cubic(*c: float) -> DriftField:
    return drift_field(Cubic(jnp.asarray(c)), ("x",), [-1.0])


def fork(a: float) -> DriftField:
    """`x' = a x - x^3`: valleys at -+ sqrt a for a > 0, one at 0 else."""
    return cubic(0.0, a, 0.0, -1.0)


def quadrature(a: float, dose: float) -> float:
    """`T_c = int_{-sqrt a}^0 dx / (a x - x^3 + h)`, NaN below the fold."""
    if dose <= 2 * (a / 3) ** 1.5:
        return np.nan
    return scipy.integrate.quad(lambda x: 1 / (a * x - x**3 + dose), -np.sqrt(a), 0)[0]


@pytest.fixture(scope="module")
def well():
    return fork(1.0)


@pytest.fixture(scope="module")
def mapped(well):
    return fate_map(
        well, [-1.0], "drive(x)=1", DOSES, DURATIONS, ENDS, settle=40.0, tolerance=1e-7, method=SHARP,
        noise=Diffusion(0.05, 0.05), key=jax.random.key(0), runs=4, noisy_settle=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def members(well):
    lows = (0.8, 1.0, 1.3, -0.5, np.nan)
    return ensemble_map(
        well, [fork(a) for a in lows], "A1", "drive(x)=1", DOSES, DURATIONS, ENDS, settle=60.0, longest=8.0,
        tolerance=1e-7, method=SHARP,
    )  # fmt: skip


def test_the_critical_dose_inverts_the_quadrature(well):
    durations = [*TRUTH.values(), 1e-3]
    found = critical_dose(
        well, [-1.0], "drive(x)=1", durations, ENDS, highest=8.0, settle=40.0, tolerance=1e-7, method=SHARP
    )
    assert np.abs(found.dose[:-1] - list(TRUTH)).max() < 1e-6
    assert found.code.tolist() == [Switch.FOUND] * 5 + [Switch.NEVER]
    assert found.note[-1] == "returns at every dose tried"
    assert np.isnan(found.bracket[-1]).all()
    low = critical_dose(well, [-1.0], "drive(x)=1", [1.0] * 6, ENDS, lowest=5.0, highest=8.0, settle=40.0, method=SHARP)
    assert set(low.code) == {Switch.ALWAYS}
    assert np.isnan(low.dose).all()


def test_a_knock_down_leaves_at_small_doses():
    valleys = 5 + 2 * np.sqrt(6) * np.array([[-1.0, 1.0], [1.0, -1.0]])
    found = critical_dose(toggle(10.0), valleys[0], "v*1", [0.5, 3.0], valleys, highest=1.0, settle=40.0)
    assert found.code.tolist() == [Switch.NEVER, Switch.FOUND]
    returns, leaves = found.bracket[1]
    assert 0 < leaves < returns < 1
    both = push(toggle(10.0), valleys[0], "v*1", [returns, leaves], 3.0, valleys, settle=40.0)
    assert both.verdicts() == ["A1", "A2"]


def test_no_critical_number_is_given_without_two_valleys_seen(well):
    def of(state, ends, settle=40.0, model=well, dose=1.0):
        return critical_duration(
            model, state, "drive(x)=1", [dose] * 6, ends, longest=8.0, settle=settle, tolerance=1e-7, method=SHARP
        )

    for found, code in (
        (of([0.0], ENDS), Switch.UNSTABLE_START),
        (of([-1.0], [[-1.0], [5.0]]), Switch.NOT_SETTLED),
        (of([-1.0], ENDS, settle=8.0), Switch.UNDECIDED),
        (of([-1.0], [[-1.0], [5.0]], model=cubic(-1.0, 0.0, 1.0, 0.0), dose=9.0), Switch.FAILED),
    ):
        assert set(found.code) == {code}
        assert np.isnan(found.duration).all()
        assert all(found.note)
    assert of([0.0], ENDS).note[0] == Switch.UNSTABLE_START.sentence


def test_a_map_is_its_single_pushes(well, mapped):
    for i, dose in enumerate(DOSES):
        single = push(well, [-1.0], "drive(x)=1", dose, DURATIONS, ENDS, settle=40.0, method=SHARP)
        assert (single.valley == mapped.valley[i]).all()
        np.testing.assert_allclose(single.final, mapped.final[i], rtol=1e-12)
    exact = np.array([quadrature(1.0, dose) for dose in DOSES])
    assert (mapped.valley == (np.nan_to_num(exact, nan=np.inf)[:, None] < DURATIONS)).all()
    assert set(mapped.verdict.ravel()) == {Verdict.SETTLED}


def test_the_border_is_the_quadrature_along_both_axes(mapped):
    border = mapped.border
    assert len(border) == 6
    assert set(border.along) == {"dose", "duration"}
    assert (border.width < 1e-6).all()
    gaps = [quadrature(1.0, h) - t for h, t in zip(border.dose, border.duration, strict=True)]
    assert np.abs(gaps).max() < 5e-6  # the slope dT/dh is up to 9 here, times a bracket of doses
    doses, durations = mapped.critical()
    assert np.isnan(durations[0])
    assert np.abs(durations[1:] - [TRUTH[h] for h in doses[1:]]).max() < 1e-6


def test_a_map_is_a_table_an_array_and_a_sentence(mapped):
    table = mapped.table()
    assert len(table) == 16
    assert table["valley"].tolist() == [("A1", "A2")[v] for v in mapped.valley.ravel()]
    assert ((table["P(A2) low"] <= table["P(A2)"]) & (table["P(A2)"] <= table["P(A2) high"])).all()
    data = mapped.to_xarray()
    assert data["settles_in"].dims == ("dose", "duration")
    assert float(data["probability"].sel(dose=2.0, duration=6.0, valley="A2")) == 1.0
    assert data["duration"].attrs["units"] == "min"
    assert mapped.describe() == "16 pushes (drive(x)=1): 10 in A1, 6 in A2."


def test_other_numbers_compile_nothing(well, mapped):
    before = _run._cached._cache_size()
    fate_map(
        fork(0.9), [-0.9], "drive(x)=2", DOSES + 0.1, DURATIONS + 0.2, [[-(0.9**0.5)], [0.9**0.5]], settle=30.0,
        tolerance=None, method=SHARP,
    )  # fmt: skip
    assert _run._cached._cache_size() == before


def test_whoever_settles_nowhere_is_told_apart():
    def codes(model, ends, state=(), settle=40.0, template="drive(x)=1"):
        return fate_map(
            model, state or [-1.0], template, DOSES, DURATIONS, ends, settle=settle, tolerance=None, method=SHARP
        )

    well = fork(1.0)
    elsewhere = codes(well, [[-1.0]])
    assert (elsewhere.verdict == np.where(elsewhere.final[..., 0] > 0, Verdict.ELSEWHERE, Verdict.SETTLED)).all()
    assert "came to rest where no attractor was given" in elsewhere.describe()
    hurried = codes(well, ENDS, settle=0.1)
    assert hurried.verdict[1, 2] == Verdict.MOVING
    assert hurried.valley[1, 2] == -1
    # A cell that runs away in no time.
    assert set(codes(well, ENDS, template="drive(x)=1e300").verdict.ravel()) == {Verdict.MAX_STEPS}
    balanced = codes(well, ENDS, state=[0.0])
    assert balanced.start == Verdict.UNSTABLE_START
    assert "the unpushed cell started at rest on a saddle" in balanced.describe()
    with pytest.raises(PinnsimError, match="E_USAGE.*no stable point"):
        codes(well, np.zeros((0, 1)))


def test_a_cell_that_goes_round_is_called_so():
    def spin(state):
        x, y = state
        s = x**2 + y**2
        growth = (1.0 - s) * (s - 0.25)
        return jnp.stack([growth * x - 3.0 * y, 3.0 * x + growth * y])

    rings = drift_field(spin, ("x", "y"), [0.1, 0.0])
    found = fate_map(rings, [0.0, 0.0], "drive(x)=1", [0.1, 2.0], [1.0], [[0.0, 0.0]], settle=20.0)
    assert found.verdict.ravel().tolist() == [Verdict.SETTLED, Verdict.CYCLE]
    assert len(found.border) == 0


def test_members_switch_where_their_own_quadrature_says(members):
    exact = np.array([[quadrature(a, h) for h in DOSES] for a in (0.8, 1.0, 1.3)])
    beyond = exact > 8.0
    np.testing.assert_allclose(members.critical[:3], np.where(beyond, np.nan, exact), atol=1e-6)
    assert (members.code[:3] == np.where(np.isnan(members.critical[:3]), Switch.NEVER, Switch.FOUND)).all()
    leaves = np.nan_to_num(exact, nan=np.inf)[..., None] < DURATIONS
    assert (members.valley[:3] == leaves).all()
    # Of five members three have two valleys, one has lost one, and one is not a number.
    home = (members.valley == members.reference).sum(axis=0)
    np.testing.assert_allclose(members.agreement, home / 5)
    assert (members.reference == leaves[1]).all()
    np.testing.assert_allclose(members.reference_critical[1:], [TRUTH[h] for h in DOSES[1:]], atol=1e-6)


def test_members_with_other_valleys_are_told(members):
    assert members.valleys.same.tolist() == [True, True, True, False, False]
    assert sorted(members.valleys.kind[3]) == [Kept.KEPT, Kept.MERGED]
    assert (members.valleys.kind[4] == Kept.LOST).all()
    assert (members.verdict[4] == Verdict.NO_START).all()
    np.testing.assert_allclose(members.valleys.states[0, :, 0], np.sqrt(0.8) * np.array([-1, 1]), atol=1e-12)
    assert "3 of 5 members have all 2 valleys" in members.describe()
    assert len(members.table()) == 16
    assert dict(members.to_xarray().sizes) == {"member": 5, "dose": 4, "duration": 4, "valley": 2}
    # Of five, two have no critical duration: the upper quarter begins there.
    low, high = members.critical_interval(0.5)[3]
    assert abs(low - TRUTH[2.0]) < 1e-6
    assert np.isnan(high)


def test_stacked_members_and_lists_are_the_same(well, members):
    some = [fork(a) for a in (0.8, 1.0, 1.3, -0.5, np.nan)]
    again = ensemble_map(
        well, stack(some), "A1", "drive(x)=1", DOSES, DURATIONS, ENDS, settle=60.0, longest=8.0, tolerance=1e-7,
        method=SHARP,
    )  # fmt: skip
    assert (again.valley == members.valley).all()
    np.testing.assert_array_equal(again.critical, members.critical)


def test_bad_maps_are_refused(well):
    cases = [
        (lambda: fate_map(well, [-1.0], "drive(x)=1", [2.0, 1.0], [1.0], ENDS, settle=9.0), "doses.*increasing"),
        (lambda: fate_map(well, [-1.0], "drive(x)=1", [1.0], [1.0], ENDS, settle=9.0, tolerance=0), "tolerance"),
        (lambda: fate_map(well, [-1.0], "drive(x)=1", [1.0], [1.0], ENDS, settle=9.0, noise=Diffusion(1.0)), "key="),
        (lambda: critical_dose(well, [-1.0], "drive(x)=1", [1.0], ENDS, highest=0.0, settle=9.0), "highest"),
        (lambda: ensemble_map(well, [], "A1", "drive(x)=1", [1.0], [1.0], ENDS, settle=9.0), "members"),
        (lambda: ensemble_map(well, [toggle()], "A1", "drive(x)=1", [1.0], [1.0], ENDS, settle=9.0), "members"),
        (lambda: ensemble_map(well, [well], "B1", "drive(x)=1", [1.0], [1.0], ENDS, settle=9.0), "no stable point"),
        (
            lambda: fate_probabilities(
                well,
                [-1.0],
                "drive(x)=1",
                [1.0],
                [1.0],
                ENDS,
                noise=Diffusion(1.0),
                key=jax.random.key(0),
                settle=9.0,
                runs=0,
                level=2.0,
            ),
            "at least one(.|\n)*level",
        ),
    ]
    for call, words in cases:
        with pytest.raises(PinnsimError, match=words):
            call()


def test_the_picture_shows_valleys_doubt_and_disagreement(mapped, members):
    ax = plot.fate_map_panel(mapped, members, agree=0.7, dose_label="added production", simulated=True)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("added production", "duration of the push (min)")
    assert ax.get_title(loc="left").endswith("[simulated data]")
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "fewer than 70% of members agree" in shown
    hatched = [c for c in ax.collections if c.get_hatch()]
    assert len(hatched[0].get_paths()) == (members.agreement < 0.7).sum()
