"""Limit cycles: periods, amplitudes and Floquet multipliers of repressilators and of orbits in closed form."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.textbook import six_variable_repressilator
from pinnsim.errors import PinnsimError
from pinnsim.landscape import find_attractors, push
from pinnsim.landscape.cycles import _closed, shoot


class Rings(eqx.Module):
    """`r' = r (1 - r^2) (r^2 - b^2)`, `phi' = w`: circles at r = 1 and r = b < 1, of which the outer one attracts.

    With s = r^2 the rates at the circles are -2 (1 - b^2) and +2 b^2 (1 - b^2); the period is 2 pi / w.
    """

    b: Array
    w: Array

    def __call__(self, state):
        x, y = state
        s = x**2 + y**2
        growth = (1.0 - s) * (s - self.b**2)
        return jnp.stack([growth * x - self.w * y, self.w * x + growth * y])


@pytest.fixture(scope="module")
def rings():
    return drift_field(Rings(jnp.asarray(0.5), jnp.asarray(3.0)), ("x", "y"), [0.7, 0.1])


def test_circles_have_their_period_their_extremes_and_their_multipliers(rings):
    period = 2 * np.pi / 3.0
    outer = shoot(rings, [1.05, 0.02], 2.0)
    assert abs(outer.period / period - 1) < 1e-9
    np.testing.assert_allclose([outer.low, outer.high], [[-1, -1], [1, 1]], atol=1e-9)
    np.testing.assert_allclose(outer.multipliers, [np.exp(-1.5 * period)], rtol=1e-7)
    assert outer.stability == "stable"
    inner = shoot(rings, [0.48, 0.02], 2.2)
    np.testing.assert_allclose([inner.low, inner.high], [[-0.5, -0.5], [0.5, 0.5]], atol=1e-9)
    np.testing.assert_allclose(inner.multipliers, [np.exp(2 * 0.25 * 0.75 * period)], rtol=1e-7)
    assert inner.stability == "unstable"
    assert max(outer.liouville, inner.liouville) < 1e-7
    assert inner.gap(np.array([0.0, 0.5])) < 1e-3
    assert inner.gap(np.array([0.0, 0.6])) == pytest.approx(0.1, abs=1e-3)


def test_a_valley_inside_an_unstable_cycle_and_a_cycle_are_both_found(rings):
    found = find_attractors(rings, starts=16, bounds=([-1.5, -1.5], [1.5, 1.5]), settle=20.0)
    assert set(found.motion) == {"settled", "cycle"}
    assert found.stability == ("stable",)
    np.testing.assert_allclose(found.states, [[0, 0]], atol=1e-9)
    (cycle,) = found.cycles
    assert cycle.stability == "stable"
    assert abs(cycle.period - 2 * np.pi / 3.0) < 1e-9
    assert (found.circles[np.array(found.motion) == "cycle"] == 0).all()
    pushed = push(rings, [0.0, 0.0], "drive(x)=1", [0.1, 2.0], 1.0, found, settle=20.0)
    assert pushed.verdicts() == ["A1", "C1"]
    # The unstable circle is the edge between both: a share of pi b^2 of the box settles.
    assert abs(found.share[0] - np.pi * 0.25 / 9) < 2 / 16


@pytest.mark.parametrize(("ratio", "period"), [(5.0, 8.689331), (1.0, 16.095565)])
def test_the_six_variable_repressilator_has_the_published_periods(ratio, period):
    # A state on each cycle, a late one of a simulation.
    state = {
        5.0: [1.764, 60.468, 6.285, 1.514, 56.831, 7.779],
        1.0: [0.337, 65.558, 17.036, 0.895, 32.128, 49.634],
    }[ratio]
    before = _closed._cached._cache_size()
    cycle = shoot(six_variable_repressilator(ratio=ratio), state, period * 1.01)
    assert abs(cycle.period - period) < 1e-6
    assert cycle.stable
    assert _closed._cached._cache_size() <= before + 1


def test_where_nothing_goes_round_no_cycle_is_invented(rings):
    for state, period in (([0.0, 0.0], 2.0), ([1.0, 0.0], np.nan)):
        with pytest.raises(PinnsimError, match="E_SOLVER.*No cycle"):
            shoot(rings, state, period)
