"""Stationary laws, relaxation, exit times, committors and fluxes against quadrature, closed forms and exact laws."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import birth_death, schlogl
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.dynamics.textbook import double_well, gata1_pu1
from pinnsim.errors import PinnsimError
from pinnsim.landscape.birth_death import birth_death_law
from pinnsim.landscape.first_passage import line
from pinnsim.landscape.fokker_planck import fokker_planck
from pinnsim.landscape.noise import additive, chemical
from pinnsim.landscape.ornstein_uhlenbeck import ornstein_uhlenbeck
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.system import system_of

A = np.array([[-1.0, -2.0], [1.0, -1.5]])
D = np.array([0.5, 0.25])


class Linear(eqx.Module):
    matrix: Array

    def __call__(self, state):
        return self.matrix @ state


@pytest.fixture(scope="module")
def well():
    return double_well()


@pytest.fixture(scope="module")
def grid(well):
    return fokker_planck(well, additive(0.1, 1), ([-2.5], [2.5]), 800)


@pytest.fixture(scope="module")
def plane():
    model = drift_field(Linear(jnp.asarray(A)), ("x", "y"), [0.0, 0.0])
    return fokker_planck(model, additive(D, 2), ([-3.5, -2.4], [3.5, 2.4]), (112, 96))


def test_exit_times_of_the_double_well_are_the_quadrature(well):
    for noise, to_top, across, kramers in (
        (0.05, 361.903760, 729.670692, 659.382292),
        (0.1, 30.821302, 66.268626, 54.125395),
    ):
        found = line(well, additive(noise, 1), (-3.0, 3.0))
        assert abs(found.exit_time(-1.0, 0.0) / to_top - 1) < 1e-7
        assert abs(found.exit_time(-1.0, 1.0) / across - 1) < 1e-7
        assert abs(found.exit_time(1.0, -1.0) / across - 1) < 1e-7
        assert abs(found.kramers(-1.0, 0.0).time - kramers) < 1e-5
    assert abs(found.committor(-0.5, -1.0, 1.0) - 0.09010479) < 1e-8
    assert abs(found.committor(0.25, -1.0, 1.0) - 0.75939020) < 1e-8
    assert abs(found.committor(0.25, 1.0, -1.0) - 0.24060980) < 1e-8
    assert abs(found.mean(2) - 0.8713629080) < 1e-9
    assert found.exit_time(0.5, 0.5) == 0


def test_a_barrier_of_hundreds_neither_overflows_nor_loses_kramers(well):
    found = line(well, additive(0.001, 1), (-2.0, 2.0))
    kramers = found.kramers(-1.0, 0.0)
    assert abs(kramers.exponent - 250) < 1e-9
    # Kramers' next order: 1 + 3 / 2 D for this well (both curvatures 1 and 2, by Laplace's method).
    assert abs(found.exit_time(-1.0, 1.0) / kramers.time - 1) < 3e-3


def test_relaxation_on_a_grid(grid):
    values = grid.eigenvalues(3)
    assert abs(values[0]) < 1e-9
    np.testing.assert_allclose(values[1:].real, [-0.0335453271, -0.927371], rtol=1e-3)
    p, (x,) = grid.stationary(), grid.centres
    assert (p > 0).all()
    assert abs(p.sum() - 1) < 1e-12
    assert abs((p * x**2).sum() - 0.8713629080) < 1e-4
    # Detailed balance holds in one dimension, to rounding; and so does -ln p = U / D.
    assert abs(grid.entropy_production()) < 1e-10
    heights = grid.potential()
    assert heights.kind == "stationary"
    middle = np.abs(x) < 1.5
    np.testing.assert_allclose(heights.values[middle], ((x**4 / 4 - x**2 / 2 + 0.25) / 0.1)[middle], atol=2e-3)
    assert grid.at_walls() < 1e-9


def test_exit_times_committors_and_rates_on_a_grid(grid):
    x = grid.centres[0]
    times = grid.exit_time(lambda points: points[:, 0] > 1.0)
    assert abs(np.interp(-1.0, x, times) / 66.268626 - 1) < 0.01
    q = grid.committor(lambda points: points[:, 0] < -1, lambda points: points[:, 0] > 1)
    np.testing.assert_allclose(np.interp([-0.5, 0.25], x, q), [0.09010479, 0.75939020], atol=1e-3)
    rate = grid.rate(lambda points: points[:, 0] < -1, lambda points: points[:, 0] > 1)
    assert abs(rate * 66.268626 - 1) < 0.01


def test_the_closed_forms_of_linear_dynamics():
    found = ornstein_uhlenbeck(A, D)
    covariance = np.array([[0.4428571429, 0.0285714286], [0.0285714286, 0.1857142857]])
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-9)
    np.testing.assert_allclose(found.rotation, [[0, -0.4], [0.4, 0]], atol=1e-9)
    assert abs(found.entropy_production - 3.2) < 1e-9
    mean, spread = found.moments(np.array([1.0, -1.0]), 0.7)
    np.testing.assert_allclose(mean, [0.7916433106, 0.0755671826], atol=1e-9)
    np.testing.assert_allclose(spread, [[0.3668099237, 0.013980973], [0.013980973, 0.150580704]], atol=1e-9)
    # The drift is -(D - Q) grad Phi.
    state = np.array([0.3, -0.2])
    slope = np.linalg.solve(found.covariance, state)
    np.testing.assert_allclose(-(found.noise - found.rotation) @ slope, A @ state, atol=1e-12)
    assert abs(found.potential(state).values - 0.5 * state @ slope) < 1e-12


def test_linear_dynamics_on_a_grid_goes_round(plane):
    exact = ornstein_uhlenbeck(A, D)
    p, points = plane.stationary().ravel(), plane.points
    np.testing.assert_allclose((points * p[:, None]).T @ points, exact.covariance, atol=4e-3)
    assert abs(plane.entropy_production() / 3.2 - 1) < 0.01
    # The two slowest rates are the eigenvalues of A.
    slow = plane.eigenvalues(3)
    np.testing.assert_allclose(np.sort_complex(slow[1:]), np.sort_complex(np.linalg.eigvals(A)), rtol=5e-3)
    # J = f p - D grad p = Q C^-1 x p, at a place where it is large.
    flux = plane.flux().reshape(2, -1)
    density = scipy.stats.multivariate_normal([0, 0], exact.covariance).pdf(points)
    wanted = (exact.rotation @ np.linalg.solve(exact.covariance, points.T)) * density
    np.testing.assert_allclose(flux, wanted, atol=0.02 * np.abs(wanted).max())


def test_chemical_noise_on_a_grid_is_nearly_the_exact_law():
    model = birth_death(40.0, 1.0)
    found = fokker_planck(model, functools.partial(chemical, size=1.0), ([5.0], [90.0]), 340)
    x, p = found.centres[0], found.stationary()
    mean = (x * p).sum()
    assert abs(mean - 40) < 0.6
    assert abs((p * (x - mean) ** 2).sum() / 40 - 1) < 0.02
    # f = b - x, D = (b + x) / 2 are solved by hand: p ~ exp(-2 x) (b + x)^(4 b - 1).
    exact = np.exp(-2 * x + (4 * 40 - 1) * np.log(40 + x))
    np.testing.assert_allclose(p, exact / exact.sum(), atol=2e-4 * p.max())


def test_two_genes_have_three_valleys_in_their_stationary_law():
    found = fokker_planck(gata1_pu1(), additive(0.02, 2), ([-0.6, -0.6], [3.0, 3.0]), (60, 60))
    p = found.stationary()
    np.testing.assert_allclose(p, p.T, rtol=1e-6)
    x = found.centres[0]

    def height(a, b):
        return p[np.abs(x - a).argmin(), np.abs(x - b).argmin()]

    assert min(height(1, 1), height(0, 2), height(2, 0)) > 2 * max(height(0.5, 1.5), height(1.5, 0.5))


def test_a_stationary_law_survives_a_middle_cell_that_is_beyond_all_digits():
    """The cell in the middle of the list lies at the lower wall, exp(-225) as likely as the peak."""
    still = drift_field(Linear(-jnp.eye(2)), ("x", "y"), [0.0, 0.0])
    found = fokker_planck(still, additive(0.02, 2), ([-1.0, -3.0], [1.0, 1.0]), (20, 64))
    exact = np.exp(-(found.points**2).sum(axis=1) / 0.04)
    p = found.stationary().ravel()
    likely = exact > 1e-6
    np.testing.assert_allclose(p[likely], (exact / exact.sum())[likely], rtol=0.06)
    assert p[len(p) // 2] < 1e-80


def test_schlogl_to_the_last_molecule():
    found = birth_death_law(schlogl(), 1500)
    peaks, dips = found.modes()
    assert peaks.tolist() == [82, 563]
    assert dips.tolist() == [256]
    assert abs(found.p[:257].sum() - 0.2202606320) < 1e-9
    np.testing.assert_allclose(found.moments(), [454.86134790, 39951.546743], rtol=1e-10)
    assert abs(found.exit_time(82, 563) / 50307.86145 - 1) < 1e-9
    assert abs(found.exit_time(563, 82) / 178100.49064 - 1) < 1e-9
    # First-step analysis: T(n) - 1 / (b + d) = sum of the neighbours' times.
    n = 300
    total = found.births[n] + found.deaths[n]
    after = found.births[n] * found.exit_time(n + 1, 82) + found.deaths[n] * found.exit_time(n - 1, 82)
    assert abs((1 + after) / total / found.exit_time(n, 82) - 1) < 1e-9
    q = found.committor(82, 563)
    k = 200 - 82
    up, down = found.births[200], found.deaths[200]
    assert abs(q[k] - (up * q[k + 1] + down * q[k - 1]) / (up + down)) < 1e-12
    np.testing.assert_allclose(found.committor(563, 82), 1 - q[::-1], atol=1e-12)


def test_a_plain_birth_death_law_is_poisson_also_with_a_drive_and_a_size():
    found = birth_death_law(birth_death(2.0, 1.0), 60, "drive(x)=1", size=4.0)
    np.testing.assert_allclose(found.p, scipy.stats.poisson(12).pmf(np.arange(61)), atol=1e-12)


def test_kinds_of_potentials_are_never_mixed(grid, well):
    heights = grid.potential()
    other = fokker_planck(well, additive(0.2, 1), ([-2.5], [2.5]), 800)
    with pytest.raises(PinnsimError, match="E_USAGE.*compute both in the same way"):
        heights.minus(other.potential())
    with pytest.raises(PinnsimError, match="compute both"):
        heights.minus(Potential("energy", heights.values, heights.noise))
    with pytest.raises(PinnsimError, match="no kind of potential"):
        Potential("waddington", heights.values, "")
    tilted = fokker_planck(well, additive(0.1, 1), ([-2.5], [2.5]), 800, "drive(x)=0.1")
    change = tilted.potential().minus(heights)
    x = grid.centres[0]
    slope = (np.diff(change) / np.diff(x))[np.abs(x[:-1]) < 1.8]
    np.testing.assert_allclose(slope, -1.0, atol=1e-6)  # -h / D


def test_what_has_no_grid_law_or_line_is_refused(well):
    with pytest.raises(PinnsimError, match="E_USAGE.*positive definite"):
        additive([[1.0, 2.0], [2.0, 1.0]], 2)
    with pytest.raises(PinnsimError, match="no reactions"):
        chemical(system_of(well), 10.0)
    with pytest.raises(PinnsimError, match="couples species"):
        fokker_planck(gata1_pu1(), additive([[1.0, 0.5], [0.5, 1.0]], 2), ([0, 0], [3, 3]), 10)
    with pytest.raises(PinnsimError, match="E_BOUNDS"):
        fokker_planck(well, additive(0.1, 1), ([1.0], [-1.0]), 10)
    with pytest.raises(PinnsimError, match="one free species"):
        line(gata1_pu1(), additive(0.1, 2), (0.0, 1.0))
    with pytest.raises(PinnsimError, match="outside the walls"):
        line(well, additive(0.1, 1), (-2.0, 2.0)).exit_time(-1.0, 3.0)
    pairs = reaction_system([Reaction("a", "0 -> 2 x", 1.0), Reaction("b", "x -> 0", 1.0)], time_unit="s")
    with pytest.raises(PinnsimError, match="change the number by one"):
        birth_death_law(pairs, 10)
    with pytest.raises(PinnsimError, match="not stable"):
        ornstein_uhlenbeck(np.eye(2), [1.0, 1.0])
