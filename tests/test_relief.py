"""Reliefs are the potentials they say, over the plane they say, and are compared only where that means something."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from chains import grid_of, wells

from pinnsim.dynamics.textbook import double_well, gata1_pu1
from pinnsim.errors import PinnsimError
from pinnsim.landscape import (
    Potential,
    Relief,
    System,
    additive,
    in_time,
    principal_components,
    relief_of_cells,
    relief_of_energy,
    relief_of_grid,
)


def test_the_relief_of_a_grid_is_its_law_and_a_third_species_is_summed_out():
    u, v, w = (np.linspace(-1.0, 1.0, n) for n in (9, 7, 5))
    parts = 2 * u**2 + u, 3 * v**2, 4 * w**2 - w
    whole = grid_of((u, v, w), parts, ("u", "v", "w"), "D = 1")
    flat = relief_of_grid(whole)
    wanted = np.add.outer(parts[0], parts[1])
    np.testing.assert_allclose(flat.potential.values, wanted - wanted.min(), atol=1e-9)
    assert flat.note == "w summed out"
    assert (flat.potential.kind, flat.potential.noise) == ("stationary", "D = 1")
    turned = relief_of_grid(whole, ("w", "u"))
    wanted = np.add.outer(parts[2], parts[0])
    np.testing.assert_allclose(turned.potential.values, wanted - wanted.min(), atol=1e-9)
    assert turned.axes == ("w", "u")
    for bad, why in ((("u", "u"), "twice"), (("u", "x"), "not on the grid")):
        with pytest.raises(PinnsimError, match=f"E_USAGE.*{why}"):
            relief_of_grid(whole, bad)
    with pytest.raises(PinnsimError, match="E_USAGE.*two species"):
        relief_of_grid(grid_of((u,), (parts[0],), ("u",), ""))


def test_heights_between_centres_and_places_of_states():
    relief = relief_of_grid(wells(cells=41))
    inside = np.array([[0.3, 0.2], [-1.1, -0.7]])
    exact = 3 * (inside[:, 0] ** 2 - 1) ** 2 + 2 * inside[:, 1] ** 2
    lowest = (3 * (relief.x**2 - 1) ** 2).min()
    np.testing.assert_allclose(relief.height(inside), exact - lowest, atol=0.05)  # h^2 U'' / 8
    np.testing.assert_allclose(relief.height(inside, 1.0), np.minimum(exact - lowest, 1.0), atol=0.05)
    assert np.isnan(relief.height(np.array([[5.0, 0.0]]))).all()
    states = np.array([[7.0, 1.0, 2.0]])
    np.testing.assert_array_equal(relief.place(states, ("w", "v", "u")), [[2.0, 1.0]])
    with pytest.raises(PinnsimError, match="E_USAGE.*'u'.*\n.*'v'"):
        relief.place(states[:, :1], ("w",))


def test_an_energy_and_an_ensemble_are_not_called_probabilities():
    energy = relief_of_energy(lambda s: jnp.sum(s**2) + s[0], ([-1, -1], [1, 1]), ("x", "y"), 21)
    np.testing.assert_allclose(energy.potential.values, np.add.outer((energy.x + 0.5) ** 2, energy.y**2), atol=1e-12)
    assert energy.potential.kind == "energy"
    cells = np.random.default_rng(0).normal(size=(4000, 3)) * [1.0, 2.0, 0.5]
    seen = relief_of_cells(cells, ("a", "b", "c"), ("a", "b"), noise="drawn")
    assert seen.potential.kind == "ensemble"
    assert seen.note == "1 other species not shown"
    # -ln of a normal density; the kernel widens it by (1 + factor^2), factor = n^(-1/6).
    wide = 1 + 4000 ** (-1 / 3)
    exact = 0.5 * np.add.outer(seen.x**2, seen.y**2 / 4) / wide
    low = exact < 1.0
    np.testing.assert_allclose(seen.potential.values[low], exact[low], atol=0.3)
    assert seen.potential.values.max() <= np.log(4000)
    flat = principal_components(cells, ("a", "b", "c"))
    shown = relief_of_cells(cells, ("a", "b", "c"), flat, noise="drawn")
    np.testing.assert_allclose(shown.place(cells[:3], ("a", "b", "c")), flat.project(cells[:3]))
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        relief_of_cells(np.outer(np.arange(9.0), np.ones(3)), ("a", "b", "c"), ("a", "b"), noise="")
    cells[3, 0] = np.nan
    with pytest.raises(PinnsimError, match="E_DATA_NONFINITE: 1 of 4000"):
        relief_of_cells(cells, ("a", "b", "c"), ("a", "b"), noise="")
    with pytest.raises(PinnsimError, match="E_BOUNDS"):
        relief_of_energy(jnp.sum, ([0, 0], [0, 1]), ("x", "y"))


def test_reliefs_of_other_potentials_planes_or_grids_are_never_subtracted():
    one, other = relief_of_grid(wells()), relief_of_grid(wells(tilt=0.7))
    tilt = one.minus(other) + 0.7 * one.x[:, None]
    np.testing.assert_allclose(tilt, tilt[0, 0], atol=1e-9)
    np.testing.assert_array_equal(one.potential - other.potential, one.minus(other))
    with pytest.raises(PinnsimError, match="E_USAGE.*compute both in the same way"):
        one.minus(relief_of_grid(wells(noise="D = 0.2")))
    learned = Potential("energy", one.potential.values, one.potential.noise)
    with pytest.raises(PinnsimError, match="E_USAGE.*compute both in the same way"):
        one.minus(dataclasses.replace(one, potential=learned))
    with pytest.raises(PinnsimError, match="E_USAGE.*compute both in the same way"):
        one.potential - learned
    # Equal shapes are not enough: heights at other places do not compare.
    with pytest.raises(PinnsimError, match="E_USAGE.*other centres"):
        one.minus(dataclasses.replace(one, x=one.x + 0.1))
    with pytest.raises(PinnsimError, match="E_USAGE.*same plane"):
        one.minus(dataclasses.replace(one, axes=("u", "w")))
    with pytest.raises(PinnsimError, match="E_USAGE.*increasing.*\n.*must be \\(x, y\\)"):
        Relief(one.x[::-1], one.y[:-1], one.potential, one.axes)


def test_the_landscape_of_every_moment_of_a_push(monkeypatch):
    traces, force = [], System.force
    monkeypatch.setattr(System, "force", lambda *given: traces.append(1) or force(*given))
    treatment, times = "drive(x)=0.1@1:2", [0.0, 0.5, 1.0, 1.9, 2.0, 7.0]
    found = in_time(double_well(), additive(0.1, 1), ([-2.0], [2.0]), 60, treatment, times)
    assert found.which.tolist() == [0, 0, 1, 1, 0, 0]
    rest, pushed = (grid.potential() for grid in found.grids)
    x = found.grids[0].centres[0]
    np.testing.assert_allclose(np.diff(pushed - rest) / np.diff(x), -1.0, atol=1e-6)  # -h / D
    assert found.time_unit == "min"
    # One program serves all moments of all treatments.
    first = len(traces)
    # A dose that is eliminated tilts less and less.
    fading = in_time(
        double_well(), additive(0.1, 1), ([-2.0], [2.0]), 60, "drive(x)=0.1{dose=2;ke=1;ic50=1}@0:9", [0.0, 1.0, 3.0]
    )
    assert fading.which.tolist() == [0, 1, 2]
    assert len(traces) == first <= 1
    slopes = [np.diff(grid.potential() - rest)[30] / (x[1] - x[0]) for grid in fading.grids]
    left = 2 * np.exp(-np.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(slopes, -left / (1 + left), atol=1e-6)
    with pytest.raises(PinnsimError, match="E_USAGE.*holds GATA1.mrna some of the time"):
        in_time(gata1_pu1(), additive(0.1, 2), ([0, 0], [2, 2]), 5, "hold(GATA1)=1@0:1", [0.5, 2.0])
    with pytest.raises(PinnsimError, match="E_USAGE.*finite"):
        in_time(double_well(), additive(0.1, 1), ([-2.0], [2.0]), 60, treatment, [np.nan])
