"""Growth that is fitted with a landscape, against a flow whose laws stay normal; what a landscape's flow costs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim.data import Snapshots
from pinnsim.dynamics.energies import Boxed, box, chebyshev, confined
from pinnsim.dynamics.gradient import gradient_field
from pinnsim.fit import fit_landscape
from pinnsim.fit.landscape_pairs import efforts, pairs_of
from pinnsim.parameter import resolve

PULL, NOISE, BASE, SLOPE = 1.0, 0.5, -0.3, 0.8
TIMES = (0.0, 0.3, 0.7, 1.2)


def laws() -> list[tuple[float, float, float]]:
    """Mean, variance and log mass at each time of `dX = -pull X dt + sqrt(2 D) dW` with growth `base + slope X`:
    m' = -pull m + slope v, v' = -2 pull v + 2 D, (ln mass)' = base + slope m."""
    mean, variance, size, dt, found = 2.5, 1.5, 0.0, 1e-4, []
    for k in range(round(TIMES[-1] / dt) + 1):
        if any(abs(k * dt - time) < dt / 2 for time in TIMES):
            found.append((mean, variance, size))
        mean, variance, size = (
            mean + dt * (SLOPE * variance - PULL * mean),
            variance + dt * 2.0 * (NOISE - PULL * variance),
            size + dt * (BASE + SLOPE * mean),
        )
    return found


def test_growth_rates_are_recovered_beside_the_landscape() -> None:
    exact, rng, count = laws(), np.random.default_rng(2), 4000
    cells = np.concatenate([mean + np.sqrt(variance) * rng.standard_normal(count) for mean, variance, _ in exact])
    snapshots = Snapshots.build(
        cells[:, None], np.repeat(TIMES, count), ("x",), ("state",), time_unit="h", scale="log2", simulated=True
    )
    place = box([cells.min() - 0.2], [cells.max() + 0.2])
    start = gradient_field(
        confined(chebyshev(1, 2), place, 1.0), ("x",), [0.0], diffusion=0.4, time_unit="h",
        growth=Boxed(chebyshev(1, 1, constant=True), place),
    )  # fmt: skip
    fit = fit_landscape(
        start, snapshots, masses=np.exp([[size for _, _, size in exact]]), cells=1000, steps=8, waves=6, warm=2,
        most=12, mass_sd=0.01, progress=False,
    )  # fmt: skip
    ends = jnp.asarray([[0.5], [2.5]])
    rates = eqx.filter_jit(lambda growth: jax.vmap(growth)(ends)[:, 0])
    learned = np.asarray(rates(fit.field.growth))
    error = np.std([rates(field.growth) for field in fit.draw(60)], axis=0)
    assert np.all(np.abs(learned - (BASE + SLOPE * ends[:, 0])) < 3.0 * error), (learned, error)
    assert np.all(error < 0.2)
    assert float(fit.field.diffusion) == pytest.approx(NOISE, rel=0.1)


def test_efforts_of_a_parabola_are_its_slope_over_the_noise() -> None:
    """`f = -D k z / h^2` of `U = k z^2 / (2 h^2)`: over one step `|e|^2 / 2 = f^2 dt / (4 D)`."""
    cells = np.random.default_rng(0).standard_normal(40)
    snapshots = Snapshots.build(
        cells[:, None], [0.0] * 20 + [0.4] * 20, ("x",), ("state",), time_unit="h", scale="log2", simulated=True
    )
    field = gradient_field(confined(chebyshev(1, 1), box([-4.0], [4.0]), 8.0), ("x",), [0.0], diffusion=NOISE)
    pairs, _ = pairs_of(snapshots, field.table, cells=8, steps=1)
    found = np.asarray(efforts(resolve(field), pairs, 5))
    flow = -NOISE * 8.0 * np.asarray(pairs.begin)[:, :5] / 4.0**2
    assert found.shape == (1, 1, 5, 1)
    np.testing.assert_allclose(0.5 * found[:, 0] ** 2, flow**2 * 0.4 / (4.0 * NOISE), rtol=1e-12)
