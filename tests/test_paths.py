"""Minimum action paths, strings and barriers: closed forms, mirror images, textbook passes, and what is refused."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.textbook import binary_choice, gata1_pu1, maier_stein, muller_brown
from pinnsim.errors import PinnsimError
from pinnsim.landscape import find_attractors
from pinnsim.landscape.action import action_of, minimum_action
from pinnsim.landscape.barriers import barrier_table, barriers
from pinnsim.landscape.noise import additive
from pinnsim.landscape.ornstein_uhlenbeck import ornstein_uhlenbeck
from pinnsim.landscape.string import energy_path

DIFFERENTIATED, SADDLE = [0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550]


class Linear(eqx.Module):
    matrix: Array

    def __call__(self, state):
        return self.matrix @ state


def test_the_action_of_linear_dynamics_is_its_gaussian_law():
    # Not a gradient: Q is as large as D. The quasi-potential is x' C^-1 x / 2 exactly.
    drift, noise = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    exact = ornstein_uhlenbeck(drift, noise)
    model = drift_field(Linear(jnp.asarray(drift)), ("x", "y"), [0.0, 0.0])
    end = [0.6, 0.3]
    found = minimum_action(model, additive(noise, 2), [0.0, 0.0], end, points=65, bumps=1)
    wanted = float(exact.potential(end).values)
    assert abs(found.action / wanted - 1) < 1e-4
    assert found.straight > 1.05 * wanted
    # Any other path costs more, and a path along the flow costs nothing.
    assert action_of(model, additive(noise, 2), np.linspace([0, 0], end, 99)) > found.action
    downhill = np.array([exact.moments([0.6, 0.3], t)[0] for t in np.linspace(0, 3, 400)])
    assert action_of(model, additive(noise, 2), downhill) < 1e-4


def test_a_fate_is_left_along_a_bent_path_that_beats_the_straight_one():
    noise = additive(0.5, 2)  # S1 of the literature is S at D = 1/2
    model = gata1_pu1()
    found = minimum_action(model, noise, DIFFERENTIATED, SADDLE, points=65)
    assert abs(found.straight - 0.2201) < 5e-5
    assert abs(found.straight / found.action - 2) < 0.1
    assert len(found.paths) == 1, "every start ends in the same path"
    assert found.paths[0].starts == 7
    # The mirror image costs the same, and half the noise twice as much.
    mirror = minimum_action(model, noise, DIFFERENTIATED[::-1], SADDLE[::-1], points=65)
    assert abs(mirror.action / found.action - 1) < 1e-6
    np.testing.assert_allclose(mirror.paths[0].points[:, ::-1], found.paths[0].points, atol=1e-5)
    quieter = minimum_action(model, additive(0.25, 2), DIFFERENTIATED, SADDLE, points=65)
    assert abs(quieter.action / found.action - 2) < 1e-6
    # With 257 points it is 0.112364217.
    assert abs(found.action / 0.112364217 - 1) < 1e-6


def test_both_mirror_paths_of_maier_and_stein_are_found_and_beat_the_axis():
    noise = additive(0.5, 2)
    found = minimum_action(maier_stein(10.0), noise, [-1.0, 0.0], [0.0, 0.0], points=65)
    first, second, axis = found.paths
    assert abs(axis.action - 0.5) < 1e-9  # along the axis: 2 (U(0) - U(-1)), U = x^4 / 4 - x^2 / 2
    assert abs(first.action - second.action) < 1e-9
    assert first.action < 0.69 * axis.action
    np.testing.assert_allclose(first.points * [1, -1], second.points, atol=1e-6)
    # Below alpha = 4 mu the axis is the way, and there is no other.
    straight = minimum_action(maier_stein(3.0), noise, [-1.0, 0.0], [0.0, 0.0], points=65)
    assert len(straight.paths) == 1
    assert abs(straight.action - 0.5) < 1e-6


def test_the_string_finds_every_pass_of_muller_and_brown():
    found = energy_path(muller_brown(), [-0.55, 1.45], [0.62, 0.03])
    assert found.converged
    np.testing.assert_allclose(found.saddles, [[-0.82200156, 0.62431280], [0.21248658, 0.29298833]], atol=1e-8)
    minima = [[-0.55822363, 1.44172584], [-0.05001082, 0.46669410], [0.62349940, 0.02803776]]
    np.testing.assert_allclose(found.minima, minima, atol=1e-8)
    energies = np.array([-40.66484351, -72.24894011]) + 146.69951721
    start = found.floors[0]
    np.testing.assert_allclose(found.crests - start, energies, atol=2e-3)
    assert found.heights.kind == "energy"


def test_binary_choice_has_both_its_passes_and_their_exit_times():
    model = binary_choice((0.0, 1.0))
    found = find_attractors(model, starts=16, bounds=([-2.0, -1.5], [2.0, 2.0]), settle=20.0)
    minima = found.states[found.stable]
    minima = minima[np.argsort(minima[:, 0])]
    np.testing.assert_allclose(minima, [[-1.243085, 0.772630], [0, -0.605830], [1.243085, 0.772630]], atol=1e-6)
    saddles = found.states[np.array(found.stability) == "saddle"]
    saddles = saddles[np.argsort(saddles[:, 0])]
    np.testing.assert_allclose(saddles[[0, -1]], [[-0.614879, 0.189038], [0.614879, 0.189038]], atol=1e-6)
    ways = barriers(model, additive(0.05, 2), found, points=65)
    table = barrier_table(ways)
    assert len(table) == 4

    def energy(state):
        x, y = state
        return x**4 + y**4 + y**3 - 4 * x**2 * y + y**2 + y

    def hessian(state):
        x, y = state
        return np.array([[12 * x**2 - 8 * y, -8 * x], [-8 * x, 12 * y**2 + 6 * y + 2]])

    for way in ways:
        low, high = (found.states[found.names.index(name)] for name in (way.valley, way.saddle))
        # A gradient system: the quasi-potential is the energy over D, from either side.
        assert abs(way.action / ((energy(high) - energy(low)) / 0.05) - 1) < 1e-4
        top = hessian(high)
        rate = -np.linalg.eigvalsh(top)[0]
        wanted = 2 * np.pi / rate * np.sqrt(-np.linalg.det(top) / np.linalg.det(hessian(low)))
        assert abs(way.prefactor / wanted - 1) < 1e-6
        assert way.beyond in found.names
        assert way.exit_time == way.prefactor * np.exp(way.action)


def test_paths_that_cannot_be_are_refused():
    with pytest.raises(PinnsimError, match="no gradient.*minimum_action"):
        energy_path(maier_stein(10.0), [-1.0, 0.1], [1.0, 0.2])
    with pytest.raises(PinnsimError, match="odd.*\n.*the same"):
        minimum_action(gata1_pu1(), additive(0.5, 2), SADDLE, SADDLE, points=10)
    with pytest.raises(PinnsimError, match="E_INIT"):
        minimum_action(gata1_pu1(), additive(0.5, 2), SADDLE, [np.nan, 1.0])
