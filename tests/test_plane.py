"""Two species of three: with the third at rest the plane has the whole cell's fixed points, in a slice others."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim import plot
from pinnsim.dynamics.drift import drift_field
from pinnsim.errors import PinnsimError
from pinnsim.landscape import Potential, Relief, plane


class Relay(eqx.Module):
    """a' = z - a, b' = a - b, z' = 5 (2.5 b^2 / (1 + b^2) - z): fixed points a = b = z of b in {0, 1/2, 2}."""

    def __call__(self, state):
        a, b, z = state
        return jnp.stack([z - a, a - b, 5.0 * (2.5 * b**2 / (1.0 + b**2) - z)])


@pytest.fixture(scope="module")
def relay():
    return drift_field(Relay(), ("a", "b", "z"), [0.3, 0.3, 0.3])


@pytest.fixture(scope="module")
def at_rest(relay):
    return plane(relay, ("a", "b"), ([-0.3, -0.3], [2.6, 2.6]), cells=31)


def test_with_the_third_at_rest_the_crossings_are_the_whole_cells(at_rest):
    x, y = np.meshgrid(at_rest.x, at_rest.y, indexing="ij")
    exact = np.stack([2.5 * y**2 / (1 + y**2) - x, x - y], axis=-1)
    np.testing.assert_allclose(at_rest.flow, exact, atol=1e-9)
    found = at_rest.points
    order = np.argsort(found.states[:, 0])
    np.testing.assert_allclose(found.states[order], np.outer([0.0, 0.5, 2.0], np.ones(3)), atol=1e-10)
    assert [found.stability[k] for k in order] == ["stable", "saddle", "stable"]
    assert found.names == ("A1", "A2", "S1")
    assert at_rest.others == "z at rest"


def test_a_slice_has_the_crossings_of_the_held_cell(relay):
    found = plane(relay, ("b", "a"), ([-0.3, -0.3], [2.6, 2.6]), held=[0.0, 0.0, 1.25], cells=30)
    np.testing.assert_allclose(found.points.states, [[1.25, 1.25, 1.25]], atol=1e-10)
    assert found.points.stability == ("stable",)
    assert found.others == "z = 1.25 held"
    x, y = np.meshgrid(found.x, found.y, indexing="ij")
    np.testing.assert_allclose(found.flow, np.stack([y - x, 1.25 - y], axis=-1), atol=1e-12)
    # A treatment that lasts acts in the plane, too.
    driven = plane(relay, ("b", "a"), ([-0.3, -0.3], [2.6, 2.6]), "drive(a)=0.5", held=[0.0, 0.0, 1.25], cells=30)
    np.testing.assert_allclose(driven.points.states[:, :2], [[1.75, 1.75]], atol=1e-10)


def test_bad_planes_are_refused(relay):
    box = ([0, 0], [1, 1])
    with pytest.raises(PinnsimError, match="E_USAGE.*twice"):
        plane(relay, ("a", "a"), box)
    with pytest.raises(PinnsimError, match="E_USAGE.*'q' is not among"):
        plane(relay, ("a", "q"), box)
    with pytest.raises(PinnsimError, match="E_USAGE.*holds b.*\n.*E_BOUNDS"):
        plane(relay, ("a", "b"), ([0, 0], [0, 1]), "hold(b)=1")
    with pytest.raises(PinnsimError, match="E_INIT"):
        plane(relay, ("a", "b"), box, held=[0.0, 1.0])


def test_the_portrait_tells_the_others_and_tells_points_apart(at_rest):
    ax = plot.plane_portrait(at_rest, title="Relay", unit="nM", simulated=True)
    ax.figure.canvas.draw()
    assert ax.get_title(loc="left") == "Relay; z at rest [simulated data]"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a (nM)", "b (nM)")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[-2:] == ["attractor (stable)", "saddle"]
    assert {text.get_text() for text in ax.texts} == {"A1", "A2", "S1"}
    other = Relief(at_rest.x, at_rest.y, Potential("energy", np.zeros((31, 31)), ""), ("a", "z"))
    with pytest.raises(PinnsimError, match="E_USAGE.*a x z"):
        plot.plane_portrait(at_rest, relief=other)
