"""Exit times without a gradient: closed forms, a Riccati equation by scipy, and the generator on a grid."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.textbook import double_well, maier_stein
from pinnsim.errors import PinnsimError
from pinnsim.landscape import additive, exit_time, fokker_planck, minimum_action

NOISE = 0.05


class Turned(eqx.Module):
    """`b = -(1 - turn J) grad U`, U = x^4 / 4 - x^2 / 2 + 3 y^2, J the rotation by a quarter: no div l."""

    turn: Array

    def __call__(self, state):
        x, y = state
        slope = jnp.stack([x**3 - x, 6.0 * y])
        return -slope + self.turn * jnp.stack([slope[1], -slope[0]])


def test_a_rotation_without_divergence_has_the_closed_form():
    model = drift_field(Turned(jnp.asarray(0.5)), ("x", "y"), [-1.0, 0.0])
    up = minimum_action(model, additive(NOISE, 2), [-1.0, 0.0], [0.0, 0.0], points=129, bumps=1)
    found = exit_time(model, additive(NOISE, 2), up.paths[0])
    # At the saddle b' = -(1 - J / 2) diag(-1, 6); Phi = U / D, so the ratio of determinants is 6 / 12.
    rate = np.linalg.eigvals(-np.array([[1.0, -0.5], [0.5, 1.0]]) @ np.diag([-1.0, 6.0])).real.max()
    assert abs(found.action / (0.25 / NOISE) - 1) < 1e-3
    assert abs(found.rate / rate - 1) < 1e-9
    assert abs(found.divergence) < 0.01
    assert abs(found.prefactor / (2 * np.pi / rate * np.sqrt(0.5)) - 1) < 0.01


def riccati(alpha: float) -> float:
    """`int div l dt` of Maier and Stein's flow along its axis, D = 1 (any D gives the same), by scipy."""

    def change(u, y):
        force, cross = u - u**3, -(1 + u**2)
        k = y[0]
        bend = -force * (-2 * alpha * u)
        speed = -force  # against the flow, from -1 to 0
        return [-(bend + 2 * cross * k + 2 * k**2) / speed, (cross + k) / speed]

    # At the valley H_vv = 2: its rate there over D.
    begin, ends = [2.0, 0.0], (-1 + 1e-7, -1e-6)
    return scipy.integrate.solve_ivp(change, ends, begin, rtol=1e-10, atol=1e-12, method="LSODA").y[1, -1]


def test_a_flow_with_divergence_has_that_of_scipy():
    model, noise = maier_stein(3.0), additive(NOISE, 2)
    up = minimum_action(model, noise, [-1.0, 0.0], [0.0, 0.0], points=129, bumps=1)
    found = exit_time(model, noise, up.paths[0])
    wanted = riccati(3.0)
    assert abs(wanted) > 0.5, "the correction is no small one"
    assert abs(riccati(1.0)) < 1e-5, "a gradient system has none"
    assert abs(found.divergence - wanted) < 1e-3
    assert found.time == found.prefactor * np.exp(found.action)


def test_exit_times_approach_those_on_a_grid():
    model, ratio = maier_stein(2.0), []
    up = minimum_action(model, additive(0.025, 2), [-1.0, 0.0], [0.0, 0.0], points=129, bumps=1)
    found = exit_time(model, additive(0.025, 2), up.paths[0])
    for strength in (0.025, 0.0125):
        grid = fokker_planck(model, additive(strength, 2), ([-1.8, -0.9], [1.8, 0.9]), 90)
        times = grid.exit_time(lambda x: (x[:, 0] - 1) ** 2 + x[:, 1] ** 2 < 0.2**2)
        start = np.abs(grid.points - [-1.0, 0.0]).sum(axis=1).argmin()
        # Action and noise go together, prefactors stay.
        ratio.append(times.ravel()[start] / (found.prefactor * np.exp(found.action * 0.025 / strength)))
    # The error of weak noise is of first order in D.
    assert abs(ratio[1] - 1) < 0.1
    assert abs(2 * ratio[1] - ratio[0] - 1) < 0.02


def test_in_one_dimension_it_is_kramers():
    well, noise = double_well(), additive(NOISE, 1)
    up = minimum_action(well, noise, [-1.0], [0.0], points=65)
    found = exit_time(well, noise, up.paths[0])
    assert abs(found.prefactor / (2 * np.pi / np.sqrt(2)) - 1) < 1e-3
    assert abs(found.time / 659.382292 - 1) < 2e-3


def test_what_has_no_prefactor_is_refused():
    well, noise = double_well(), additive(NOISE, 1)
    across = minimum_action(well, noise, [-1.0], [0.0], points=65).paths[0]
    with pytest.raises(PinnsimError, match=r"E_USAGE.*1 and 0 unstable"):
        exit_time(well, noise, dataclasses.replace(across, points=across.points[::-1]))
