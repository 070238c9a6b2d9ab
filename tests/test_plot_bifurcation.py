"""Pictures of branches and of flows: what is stable is solid, what is given is drawn, heights say what they are."""

import numpy as np
import pytest

from pinnsim import plot
from pinnsim.dynamics.textbook import double_well, gata1_pu1
from pinnsim.errors import PinnsimError
from pinnsim.landscape import Attractors, Branch, Potential, SpecialPoint, dose, system_of
from pinnsim.landscape.action import ActionPath, MinimumAction


@pytest.fixture(scope="module")
def branch():
    well = double_well()
    x = np.linspace(-1.5, 1.5, 101)
    slope = (1 - 3 * x**2)[:, None].astype(complex)
    fold = SpecialPoint("fold", np.array([0.3849]), np.array([-0.577]), 0.0, 1.7, np.ones(1), 30)
    system = system_of(well, knobs=(dose(well, "drive(x)=1"),))
    index = (slope[:, 0].real > 0).astype(int)
    return Branch(x**3 - x, x[:, None], slope, index, (fold,), ("", ""), system, np.zeros((101, 2)), np.ones(2))


def test_branches_are_solid_where_stable_and_dashed_where_not(branch):
    ax = plot.bifurcation_diagram([branch], "x", knob="push", unit="1/min")
    ax.figure.canvas.draw()
    styles = [line.get_linestyle() for line in ax.lines]
    assert styles == ["-", "--", "-", "None"]
    assert (np.abs(ax.lines[1].get_ydata()) < 0.61).all()
    assert ax.get_xlabel() == "push (1/min)"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"stable", "unstable", "fold"}
    with pytest.raises(PinnsimError, match="E_USAGE.*species"):
        plot.bifurcation_diagram([branch], "y")


def test_a_phase_portrait_shows_points_paths_and_heights():
    species = gata1_pu1().table.species
    states, none = np.array([[1.0, 1.0], [0.5, 1.5]]), np.zeros(0, int)
    found = Attractors(
        states, ("A1", "S1"), ("stable", "saddle"), np.array([0, 1]), np.zeros((2, 2), complex),
        np.zeros(2), np.zeros(2, int), (), none, np.zeros((0, 2)), 1.0, species, "min",
    )  # fmt: skip
    path = MinimumAction((ActionPath(np.linspace([1, 1], [0.5, 1.5], 9), 0.1, 1, True),), 0.2, species)
    centres = np.linspace(0, 2, 20)
    heights = Potential("stationary", np.add.outer(centres, centres) * 5, "D = 0.1")
    ax = plot.phase_portrait(
        lambda x: 1.0 - x, ([0, 0], [2, 2]), ("GATA1", "PU.1"), points=found, paths=[path], potential=heights,
        grid=(centres, centres), simulated=True,
    )  # fmt: skip
    ax.figure.canvas.draw()
    assert {text.get_text() for text in ax.texts} == {"A1", "S1"}
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "GATA1 does not change", "PU.1 does not change", "minimum action path", "attractor (stable)", "saddle",
    ]  # fmt: skip
    assert "[simulated data]" in ax.get_title(loc="left")
    assert ax.figure.axes[1].get_ylabel() == "-ln p, lowest 0"
