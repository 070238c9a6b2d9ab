"""Gradient fields: what they are against closed forms, and what a fit to snapshots finds of written ones."""

from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnsim import store
from pinnsim.data import Snapshots
from pinnsim.dynamics.energies import Boxed, box, chebyshev, confined, network, raised
from pinnsim.dynamics.gradient import GradientField, LearnedSwirl, constant_swirl, gradient_field, tilt
from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.errors import PinnsimError
from pinnsim.fit import LandscapeFit, fit_landscape
from pinnsim.fit.landscape_pairs import pairs_of, push_pairs
from pinnsim.landscape import fixed_points
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import as_treatment

PLACE = box([-2.0, -1.0], [2.0, 3.0])
NOISE = np.array([0.3, 0.7])


def learned(seed: int = 0, size: float = 1.0) -> GradientField:
    """A field of random energy, tilt and swirl, resolved."""
    rng = np.random.default_rng(seed)

    def wild(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(size * rng.standard_normal(leaf.shape)), tree)

    inner = wild(chebyshev(2, 4))
    swirl = LearnedSwirl(Boxed(wild(chebyshev(2, 3, constant=True)), PLACE))
    lean = tilt(PLACE, 1, Boxed(wild(chebyshev(2, 2)), PLACE))
    lean = eqx.tree_at(lambda t: t.strength, lean, jnp.asarray(rng.standard_normal((2, 1))))
    return resolve(
        gradient_field(
            confined(inner, PLACE), ("x", "y"), [0.0, 0.5], inputs=("s",), tilt=lean, swirl=swirl, diffusion=NOISE
        )
    )


def test_a_polynomial_of_the_box_is_what_it_says() -> None:
    inner = eqx.tree_at(lambda c: c.weights, chebyshev(2, 2), jnp.asarray([[0.0, 0.0, 0.0, 3.0, 0.0]]))
    assert inner.degrees[3] == (1, 1)
    energy = resolve(confined(inner, PLACE, stiffness=2.0))
    for x, y in ((0.3, 0.4), (-1.9, 2.9)):
        z = np.array([x / 2.0, (y - 1.0) / 2.0])
        wanted = 3.0 * z[0] * z[1] / 1.25**2 + z @ z
        assert float(energy(jnp.asarray([x, y]))) == pytest.approx(wanted, rel=1e-12)


def test_a_polynomial_raised_to_a_higher_degree_is_the_same() -> None:
    for constant in (False, True):
        bare = chebyshev(2, 3, 2, constant=constant)
        weights = jnp.asarray(np.random.default_rng(4).standard_normal(bare.weights.shape))
        known = eqx.tree_at(lambda c: c.weights, bare, weights)
        richer = raised(known, 5)
        assert richer.degrees == chebyshev(2, 5, 2, constant=constant).degrees
        for u in (jnp.asarray([0.3, -0.8]), jnp.asarray([-0.1, 0.6])):
            np.testing.assert_allclose(richer(u), known(u), rtol=1e-12)
    with pytest.raises(PinnsimError, match="E_USAGE.*degree 3"):
        raised(known, 2)


def test_without_swirl_the_flow_descends_the_energy() -> None:
    field = eqx.tree_at(lambda f: f.swirl, learned(), None)
    at, signal, h = jnp.asarray([0.7, -0.4]), jnp.asarray([0.8]), 1e-5
    steps = h * np.eye(2)
    acting = as_treatment("signal(s)=0.8").resolve(field.table)
    flow = eqx.filter_jit(field.vector_field)(jnp.zeros(()), at, acting)
    height, flux = jax.jit(jax.vmap(lambda x: field.height(x, signal))), eqx.filter_jit(field.flux)
    up, down = (np.asarray(height(at[None] + sign * jnp.asarray(steps))) for sign in (1, -1))
    np.testing.assert_allclose(flow, -NOISE * (up - down) / (2 * h), rtol=1e-7)
    assert np.asarray(flux(at, signal)) == pytest.approx(0.0, abs=1e-12)


def test_the_law_exp_minus_v_is_stationary_whatever_the_swirl() -> None:
    """`div (f p - D grad p) = 0` for `p = exp(-V)`, point by point, in the box and at its rim; the flux is not 0."""
    field, signal = learned(3), jnp.asarray([0.5])

    def slopes(here):
        def current(x):
            density = jnp.exp(-field.height(x, signal) + field.height(here, signal))
            slope = -jax.grad(field.height)(x, signal)
            return (field.learned(x, signal) - jnp.asarray(NOISE) * slope) * density

        return jax.jacfwd(current)(here), field.flux(here, signal)

    found, flux = jax.jit(jax.vmap(slopes))(jnp.asarray([[0.7, -0.4], [-2.3, 3.3]]))
    sizes = np.abs(np.asarray(found)).max(axis=(1, 2))
    assert np.all(np.abs(np.trace(np.asarray(found), axis1=1, axis2=2)) < 1e-11 * sizes)
    assert np.abs(np.asarray(flux)).max(axis=1).min() > 1e-2


@eqx.filter_jit
def _far(field: GradientField, states: jax.Array, signal: jax.Array) -> tuple[jax.Array, jax.Array]:
    flows = jax.vmap(lambda x: field.learned(x, signal))(states)
    return jax.vmap(lambda x: field.height(x, signal))(states), flows


@given(seed=st.integers(0, 10**6), size=st.floats(0.0, 1e3), strength=st.floats(-100.0, 100.0))
def test_cells_cannot_run_away_whatever_was_learned(seed: int, size: float, strength: float) -> None:
    field = eqx.tree_at(lambda f: f.swirl, learned(seed, size), None)
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = np.array([0.0, 1.0])
    near, far = (jnp.asarray(centre + radius * around) for radius in (1e3, 1e5))
    low, _ = _far(field, near, jnp.asarray([strength]))
    high, flows = _far(field, far, jnp.asarray([strength]))
    # The parabola of stiffness 4 and half-width 2 rises by 4 / 2 (1e5 / 2)^2 on the way.
    assert np.all(np.asarray(high - low) > 0.9 * 0.5 * 4.0 * (1e5 / 2.0) ** 2)
    assert np.all(np.sum(np.asarray(flows) * around, axis=1) < 0)


def test_attractors_of_a_written_double_well_are_found() -> None:
    """U = 6 (x^2 - 1)^2 + 2 y^2 in Chebyshev's terms; a signal tilts it by 3 x."""
    place, bare = box([-1.6, -1.6], [1.6, 1.6]), chebyshev(2, 4)
    scale = 1.6 * 1.25

    def wanted(u):
        x, y = scale * u
        return 6.0 * (x**2 - 1.0) ** 2 + 2.0 * y**2 - 2.0 * (x**2 + y**2) / 1.6**2

    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    rows = jax.jit(
        jax.vmap(lambda u: jax.jacfwd(lambda w: eqx.tree_at(lambda c: c.weights, bare, w)(u)[0])(bare.weights)[0])
    )
    table = np.asarray(rows(jnp.asarray(points)))
    values = np.array([wanted(u) for u in points])
    weights = np.linalg.lstsq(np.c_[table, np.ones(200)], values, rcond=None)[0][:-1]
    inner = eqx.tree_at(lambda c: c.weights, bare, jnp.asarray(weights[None]))
    lean = eqx.tree_at(lambda t: t.strength, tilt(place, 1), jnp.asarray([[3.0], [0.0]]))
    field = gradient_field(
        confined(inner, place), ("x", "y"), [0.5, 0.1], inputs=("s",), tilt=lean,
        diffusion=0.5,
    )  # fmt: skip
    found = fixed_points(field, "signal(s)=1", starts=16, bounds=([-1.5, -1.0], [1.5, 1.0]))
    roots = np.sort(np.roots([24.0, 0.0, -24.0, -3.0]).real)
    states = np.array(found.states)
    order = np.argsort(states[:, 0])
    np.testing.assert_allclose(states[order], np.stack([roots, np.zeros(3)], axis=1), atol=1e-8)
    assert [found.stability[k] for k in order] == ["stable", "saddle", "stable"]


def test_a_learned_part_beside_kinetics_takes_nothing_that_is_not_there() -> None:
    kinetics = gata1_pu1()
    place = box([-1.0, -1.0], [4.0, 4.0])
    drift = gradient_field(confined(chebyshev(2, 1), place, 50.0), drift=kinetics)
    field, none = resolve(drift), Perturbation.none(kinetics.table)
    zero = jnp.zeros(())
    inside = jnp.asarray([0.4, 2.0])
    both = field.vector_field(zero, inside, none)
    alone = resolve(kinetics).vector_field(zero, inside, none)
    part = field.learned(inside, jnp.zeros(0))
    cut = np.array([1.0, 2.0 / 2.01])  # of what is taken; the first is pushed up, and whole
    np.testing.assert_allclose(both - alone, part * cut, rtol=1e-12)
    pulled = eqx.tree_at(lambda f: f.energy.boxed.box.centre, field, jnp.asarray([-3.0, -3.0]))
    assert np.all(np.asarray(pulled.vector_field(zero, jnp.zeros(2), none)) >= 0)
    assert bool(field.material().all())


K = np.array([[2.0, 0.5], [0.5, 1.0]])
SWIRL, STRENGTH, LEAN = 0.6, 0.5, np.array([1.0, -0.5])


def _moved(mean: np.ndarray, spread: np.ndarray, signal: float, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of `dX = -(D + Q)(K X - s a) dt + sqrt(2 D) dW` after a time, exactly."""
    rates = -(STRENGTH * np.eye(2) + SWIRL * np.array([[0.0, 1.0], [-1.0, 0.0]])) @ K
    values, vectors = np.linalg.eig(rates)
    way = (vectors @ np.diag(np.exp(values * time)) @ np.linalg.inv(vectors)).real
    rest, law = np.linalg.solve(K, signal * LEAN), np.linalg.inv(K)
    return rest + way @ (mean - rest), law + way @ (spread - law) @ way.T


class Learned(NamedTuple):
    fit: LandscapeFit
    snapshots: Snapshots
    start: GradientField


def _fit(field: GradientField, snapshots: Snapshots, **options) -> LandscapeFit:
    sizes = {"cells": 300, "steps": 6, "waves": 4, "warm": 2, "most": 14}
    return fit_landscape(field, snapshots, progress=False, **{**sizes, **options})


@pytest.fixture(scope="module")
def rotating() -> Learned:
    """A fit to cells of a linear flow that rotates, under two signals, drawn from their exact laws."""
    rng, rows, times, names = np.random.default_rng(5), [], [], []
    for signal in (0.0, 2.0):
        for time in (0.0, 0.4, 1.0):
            mean, spread = _moved(np.array([2.0, -1.0]), 0.3 * np.eye(2), signal, time)
            rows.append(rng.multivariate_normal(mean, spread, 2000))
            times += [time] * 2000
            names += [f"s{signal:g}"] * 2000
    cells = np.concatenate(rows)
    snapshots = Snapshots.build(
        cells, times, ("x", "y"), ("state",), names, treatments={"s0": "", "s2": "signal(s)=2"}, time_unit="h",
        scale="log2", simulated=True,
    )  # fmt: skip
    place = box(cells.min(axis=0) - 0.5, cells.max(axis=0) + 0.5)
    start = gradient_field(
        confined(chebyshev(2, 2), place, 1.0), ("x", "y"), [0.0, 0.0], inputs=("s",), tilt=tilt(place, 1),
        swirl=constant_swirl(2), diffusion=0.4, time_unit="h",
    )  # fmt: skip
    return Learned(_fit(start, snapshots), snapshots, start)


def test_a_rotating_linear_flow_is_recovered_with_its_flux(rotating: Learned) -> None:
    field = rotating.fit.field
    curve = np.asarray(jax.jit(jax.hessian(field.height))(jnp.zeros(2), jnp.zeros(1)))
    np.testing.assert_allclose(curve, K, atol=0.2)
    # Within three of its own standard errors.
    drawn = rotating.fit.draw(100)
    for fitted, truth, found in (
        (field.diffusion, STRENGTH, [f.diffusion for f in drawn]),
        (field.swirl.upper[0], SWIRL, [f.swirl.upper[0] for f in drawn]),
        (field.tilt.strength[0, 0], LEAN[0], [f.tilt.strength[0, 0] for f in drawn]),
        (field.tilt.strength[1, 0], LEAN[1], [f.tilt.strength[1, 0] for f in drawn]),
    ):
        error = float(np.std([float(value) for value in found]))
        assert abs(float(fitted) - truth) < 3.0 * error < 0.7 * abs(truth)
    assert rotating.fit.misfit["misfit"].to_numpy().mean() == pytest.approx(1.0, abs=0.4)


def test_a_fitted_field_is_saved_and_loaded_bit_for_bit(rotating: Learned, tmp_path: Path) -> None:
    store.save_tree(tmp_path / "field.safetensors", rotating.fit.like)
    loaded, _ = store.load_tree(tmp_path / "field.safetensors", rotating.start)
    for ours, theirs in zip(*(jax.tree.leaves(tree) for tree in (rotating.fit.like, loaded)), strict=True):
        assert np.array_equal(ours, theirs)


def test_an_interrupted_fit_goes_on_where_it_stopped(rotating: Learned, tmp_path: Path) -> None:
    path = tmp_path / "run"
    _fit(rotating.start, rotating.snapshots, most=2, checkpoint=path)
    resumed = _fit(rotating.start, rotating.snapshots, checkpoint=path)
    assert np.array_equal(resumed.parameters, rotating.fit.parameters)
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL.*another fit"):
        _fit(rotating.start, rotating.snapshots, seed=1, checkpoint=path)


def test_growth_weighs_cells_as_feynman_and_kac_say() -> None:
    """With `dX = -X dt + sqrt(2 D) dW` and growth `g0 + b X` laws stay normal: m' = -m + b v, (ln mass)' = g0 + b m."""
    g0, b, noise, mean, size, dt = 0.3, 0.8, 0.5, 0.0, 0.0, 1e-4
    begin = np.sqrt(noise) * np.random.default_rng(1).standard_normal(8000)
    for _ in range(10000):
        mean, size = mean + dt * (b * noise - mean), size + dt * (g0 + b * mean)
    snapshots = Snapshots.build(
        np.r_[begin, begin[:20]][:, None], [0.0] * 8000 + [1.0] * 20, ("x",), ("state",), time_unit="h", scale="log2",
        simulated=True,
    )  # fmt: skip
    place = box([-5.0], [5.0])
    rate = eqx.tree_at(lambda c: c.weights, chebyshev(1, 1, constant=True), jnp.asarray([[g0, b * 5.0 * 1.25]]))
    field = gradient_field(
        confined(chebyshev(1, 1), place, 50.0), ("x",), [0.0], diffusion=noise, time_unit="h", growth=Boxed(rate, place)
    )
    pairs, _ = pairs_of(snapshots, field.table, cells=8000, steps=20, masses=np.array([[1.0, 2.0]]))
    cells, weight = (np.asarray(a)[0] for a in jax.jit(push_pairs)(resolve(field), pairs))
    assert float(pairs.grown[0]) == pytest.approx(np.log(2.0))
    assert np.log(np.exp(weight).mean()) == pytest.approx(size, abs=0.03)
    assert np.average(cells[:, 0], weights=np.exp(weight)) == pytest.approx(mean, abs=0.04)
    with pytest.raises(PinnsimError, match="E_USAGE.*masses"):
        fit_landscape(field, snapshots)


def test_what_does_not_fit_together_is_refused() -> None:
    energy = confined(network(2, 4, 1, key=jax.random.key(0)), PLACE)
    with pytest.raises(PinnsimError, match="E_INIT.*coordinates") as found:
        gradient_field(energy, ("x", "y"), [0.0], inputs=("s",), diffusion=-1.0)
    assert len(found.value.problems) == 3
    with pytest.raises(PinnsimError, match="E_BOUNDS"):
        box([0.0, 1.0], [1.0, 1.0])
    with pytest.raises(PinnsimError, match="E_USAGE.*stiffness"):
        confined(chebyshev(2, 2), PLACE, 0.0)
    with pytest.raises(PinnsimError, match="E_USAGE.*drift"):
        gradient_field(energy, ("x", "y"), [0.0, 0.0], drift=gata1_pu1())
    assert float(resolve(energy)(jnp.asarray([0.0, 1.0]))) == 0.0
