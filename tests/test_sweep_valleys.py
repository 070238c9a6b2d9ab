"""Landscapes, verdicts and summaries at every point of a campaign, against the roots of a cubic; members of an
ensemble against each of them alone."""

import equinox as eqx
import numpy as np
import pytest

from pinnsim import campaign, shelf
from pinnsim.errors import PinnsimError
from pinnsim.formats.bundle import save_model
from pinnsim.sweep import Campaign, Specification
from pinnsim.sweep import campaign as of_model
from pinnsim.tree import stack

# A' = h + 6 A^2 - A (A^2 + 11) + push: the cubic (1 - A)(2 - A)(3 - A) at h = 6.
CUBIC = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
start = { A = 3.0 }
constants = { h = 6.0 }
reactions = [
    { name = "make", equation = "0 -> A", rate = "h + 6 * A^2" },
    { name = "loss", equation = "A -> 0", rate = "A^2 + 11" },
]
"""
TURNED = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
start = { A = 1.0, B = 0.0 }
reactions = [
    { name = "there", equation = "A -> B", rate = 1.0 },
    { name = "back", equation = "B -> A", rate = 2.0 },
]
"""
HEIGHTS, DOSES = (5.0, 5.7, 6.0, 6.2, 7.0), (0.0, 8.0)


@pytest.fixture(scope="module")
def cubic(tmp_path_factory) -> Campaign:
    """A cubic whose height and push vary."""
    place = tmp_path_factory.mktemp("cubic") / "cubic.toml"
    place.write_text(CUBIC)
    axes = [{"name": "law/constants/h", "values": HEIGHTS}, {"name": "dose", "values": DOSES}]
    specification = Specification(
        model=str(place), times=(0, 1, 2, 20), initial={"A": 1.0}, push="drive(A)=1", duration=2.0, axes=axes, starts=8,
        record=("trajectory", "landscape", "verdict", "summary"), valleys=3, settle=40.0, block=5, stiff=False,
    )  # fmt: skip
    return campaign.load_campaign(specification)


@pytest.fixture(scope="module")
def found(cubic) -> dict[str, np.ndarray]:
    """All its points."""
    return cubic.compute(0, 10)


def test_every_point_has_the_roots_of_its_own_cubic(found):
    for point, height in enumerate(np.repeat(HEIGHTS, 2)):
        roots = np.roots([-1, 6, -11, height])
        roots = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
        slope = -3 * roots**2 + 12 * roots - 11
        stable = roots[slope < 0]
        count = found["attractors"][point]
        assert count == len(stable)
        states, rates = found["attractor_state"][point, :, 0], found["attractor_rate"][point]
        np.testing.assert_allclose(np.sort(states[:count]), stable, rtol=1e-9)
        np.testing.assert_allclose(np.sort(rates[:count]), np.sort(-slope[slope < 0]), rtol=1e-9)
        assert np.isnan(states[count:]).all()
        # Starts are spread evenly in the logarithm from 0.003 to 6.
        middle = roots[1] if len(roots) == 3 else (0.0 if stable[0] > 2 else np.inf)
        low = np.clip(np.log(middle / 3e-3) / np.log(6 / 3e-3), 0, 1) if middle > 0 else 0.0
        share = found["attractor_share"][point, :count][np.argsort(states[:count])]
        np.testing.assert_allclose(share, [low, 1 - low] if count == 2 else [1.0], atol=1 / 8 + 1e-9)
        assert found["unsettled"][point] == 0


def test_verdicts_say_whether_a_push_left_the_points_own_valley(found):
    # Where there is one valley there is nowhere else to go; from 1 a push of 8 for 2 h is over the ridge at 2.
    two = [height for height in HEIGHTS if abs(height - 6) < 2 / np.sqrt(27)]
    expected = [[0, 1 if height in two else 0] for height in HEIGHTS]
    np.testing.assert_array_equal(found["verdict"].reshape(5, 2), expected)
    assert found["verdict"].dtype == np.int16


def test_summaries_are_those_of_the_trajectory(found):
    course = found["trajectory"]
    np.testing.assert_array_equal(found["peak"], course.max(axis=1))
    np.testing.assert_array_equal(found["lowest"], course.min(axis=1))
    np.testing.assert_allclose(found["mean"], np.trapezoid(course, [0, 1, 2, 20], axis=1) / 20, rtol=1e-14)
    away = np.abs(np.log(course[..., 0] + 3e-4) - np.log(1.0 + 3e-4))
    np.testing.assert_allclose(found["reach"], away.max(axis=1), atol=1e-3)
    np.testing.assert_allclose(found["shift"], away[:, -1], atol=1e-3)


def test_landscapes_are_equal_to_the_bit_however_points_are_cut(cubic, found):
    for start, stop in ((0, 1), (3, 8), (9, 10)):
        for name, column in cubic.compute(start, stop).items():
            assert column.tobytes() == found[name][start:stop].tobytes(), name
    layout = cubic.layout()
    assert layout.variables["attractor_state"].dims == ("valley", "species")
    assert {name: column.shape[1:] for name, column in found.items()} == {
        name: kind.shape for name, kind in layout.variables.items() if not name.startswith("axis_")
    }


def test_landscapes_of_conserved_totals_and_of_drawn_cells_are_refused(tmp_path):
    (tmp_path / "turned.toml").write_text(TURNED)
    plain = {
        "model": str(tmp_path / "turned.toml"),
        "times": (0, 1),
        "axes": [{"name": "law/constant[0]", "values": (1, 2)}],
    }
    with pytest.raises(PinnsimError, match="E_USAGE: The model conserves totals.*record 'fate'"):
        campaign.load_campaign(Specification(**plain, initial="start", record=("verdict",), stiff=False))
    with pytest.raises(ValueError, match="landscape is of rate equations"):
        Specification(**plain, method="ssa", record=("landscape",))


def test_members_of_an_ensemble_are_points_each_like_its_model_alone(tmp_path):
    bundle = shelf.load("toggle_switch")
    where, shifts = (lambda m: m.kinetics.synthesis.raw), (-0.3, 0.0, 0.4)
    members = [eqx.tree_at(where, bundle.model, where(bundle.model) + shift) for shift in shifts]
    save_model(tmp_path / "ensemble", stack(members), bundle.config, bundle.network, bundle.prior)
    axes = [{"name": "member"}, {"name": "dose", "values": (0.0, 2.0)}]
    common = {
        "times": (0, 3),
        "initial": {"u.mrna": 1.0, "v.mrna": 2.0},
        "push": "drive(u)=1",
        "stiff": False,
        "block": 2,
    }
    every = campaign.load_campaign(Specification(model=str(tmp_path / "ensemble"), axes=axes, **common))
    assert every.points.count == 6
    ends = every.compute(0, 6)["end"].reshape(3, 2, -1)
    assert len(np.unique(ends[:, 0, 0])) == 3
    for number in range(len(members)):
        single = of_model(Specification(model="m", axes=axes[1:], **common), members[number])
        np.testing.assert_allclose(single.compute(0, 2)["end"], ends[number], rtol=1e-12)
    with pytest.raises(PinnsimError, match=r"Axis 'member' has 3(\.0)?; there are members 0 to 2"):
        campaign.load_campaign(
            Specification(model=str(tmp_path / "ensemble"), axes=[{"name": "member", "values": (3,)}], **common)
        )
