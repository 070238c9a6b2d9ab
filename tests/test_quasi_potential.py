"""The quasi-potential over a plane: a Gaussian law without a gradient, an energy, and the action of a path."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.textbook import double_well, gata1_pu1, maier_stein
from pinnsim.errors import PinnsimError
from pinnsim.landscape import additive, ornstein_uhlenbeck, quasi_potential

LOW, PASS = [0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550]


class Linear(eqx.Module):
    matrix: Array

    def __call__(self, state):
        return self.matrix @ state


def test_linear_dynamics_without_a_gradient_have_their_gaussian_law():
    drift, noise = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    model = drift_field(Linear(jnp.asarray(drift)), ("x", "y"), [0.0, 0.0])
    found = quasi_potential(model, additive(noise, 2), [0.0, 0.0], ([-2.0, -1.5], [2.0, 1.5]), (61, 61))
    x, y = np.meshgrid(*found.centres, indexing="ij")
    exact = np.asarray(ornstein_uhlenbeck(drift, noise).potential(np.stack([x, y], axis=-1).reshape(-1, 2)).values)
    exact = exact.reshape(x.shape)
    # Heights whose best paths stay inside the box.
    inside = exact < 2.5
    assert inside.mean() > 0.15
    assert np.abs(found.potential.values - exact)[inside].max() < 0.02 * 2.5
    assert found.converged
    assert found.potential.kind == "quasi"
    assert found.species == ("x", "y")


def test_a_fate_costs_what_its_path_of_least_action_says():
    found = quasi_potential(gata1_pu1(), additive(0.5, 2), LOW, ([-0.15, 0.9], [1.2, 2.3]), (80, 80))
    # 0.112364217 along the path (tests of paths); the straight line costs twice that.
    assert abs(found.at(PASS)[0] / 0.112364217 - 1) < 0.03
    assert found.at(LOW)[0] < 1e-3
    assert np.isnan(found.at([5.0, 5.0])[0])
    # Half the noise, twice the height.
    quieter = quasi_potential(gata1_pu1(), additive(0.25, 2), LOW, ([-0.15, 0.9], [1.2, 2.3]), (80, 80))
    np.testing.assert_allclose(quieter.potential.values, 2 * found.potential.values, rtol=1e-9)
    np.testing.assert_allclose(found.potential.minus(found.potential), 0.0)
    with pytest.raises(PinnsimError, match="compute both in the same way"):
        quieter.potential.minus(found.potential)


def test_both_sides_of_the_skew_well_are_alike_and_the_pass_is_cheaper_than_its_axis():
    found = quasi_potential(maier_stein(10.0), additive(0.5, 2), [-1.0, 0.0], ([-1.4, -0.7], [0.4, 0.7]), (81, 81))
    np.testing.assert_allclose(found.potential.values, found.potential.values[:, ::-1], atol=1e-9)
    assert abs(found.at([0.0, 0.0])[0] / (0.680083 * 0.5) - 1) < 0.03


def test_what_has_no_plane_is_refused():
    noise, box = additive(0.5, 2), ([-2.0, -2.0], [2.0, 2.0])
    with pytest.raises(PinnsimError, match=r"E_USAGE.*2 free species"):
        quasi_potential(double_well(), additive(0.5, 1), [-1.0], ([-2.0], [2.0]), 41)
    with pytest.raises(PinnsimError, match=r"E_USAGE.*no stable fixed point"):
        quasi_potential(maier_stein(), noise, [0.0, 0.0], box, 41)
    with pytest.raises(PinnsimError, match=r"E_USAGE.*outside the box"):
        quasi_potential(maier_stein(), noise, [-1.0, 0.0], ([-0.5, -0.5], [0.5, 0.5]), 41)
    with pytest.raises(PinnsimError, match="E_BOUNDS"):
        quasi_potential(maier_stein(), noise, [-1.0, 0.0], ([2.0, -2.0], [-2.0, 2.0]), 41)
    with pytest.raises(PinnsimError, match=r"E_USAGE.*twice the reach"):
        quasi_potential(maier_stein(), noise, [-1.0, 0.0], box, 5)
