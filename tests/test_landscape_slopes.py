"""Derivatives that travel with the cells, spreads in their units, and the misfit of cells held out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from pinnsim.data import Snapshots
from pinnsim.dynamics.energies import Boxed, box, chebyshev, confined, network
from pinnsim.dynamics.gradient import GradientField, LearnedSwirl, gradient_field
from pinnsim.fit import landscape_misfit
from pinnsim.fit.landscape_pairs import Pairs, pairs_of, push_pairs
from pinnsim.fit.landscape_priors import moves, spreads_of
from pinnsim.fit.landscape_slopes import arrivals
from pinnsim.parameter import resolve

PLACE = box([-3.0, -3.0], [3.0, 3.0])
NOISE = 0.4


def snapshots(count: int, wide: float = 1.0) -> Snapshots:
    """Normal cells at two times, the later ones `wide` times as wide."""
    cells = np.random.default_rng(0).standard_normal((2 * count, 2))
    cells[count:] *= wide
    when = [0.0] * count + [0.5] * count
    return Snapshots.build(cells, when, ("x", "y"), ("state",), scale="log2", simulated=True, time_unit="h")


@pytest.fixture(scope="module")
def field() -> GradientField:
    return gradient_field(
        confined(chebyshev(2, 2), PLACE, 9.0), ("x", "y"), [0.0, 0.0], diffusion=NOISE, time_unit="h",
        swirl=LearnedSwirl(Boxed(chebyshev(2, 1, constant=True), PLACE)),
        growth=Boxed(chebyshev(2, 1, constant=True), PLACE),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pairs(field: GradientField) -> Pairs:
    return pairs_of(snapshots(30), field.table, cells=20, steps=3, masses=np.array([[1.0, np.exp(0.4)]]))[0]


def test_slopes_are_those_of_the_whole_way(field: GradientField, pairs: Pairs) -> None:
    moving, rest = eqx.partition(field, moves(field))
    vector, back = ravel_pytree(moving)
    vector = vector + 0.2 * jnp.asarray(np.random.default_rng(1).standard_normal(vector.shape))

    def flat(arrived) -> jax.Array:
        return jnp.concatenate([jnp.ravel(part) for part in arrived])

    @jax.jit
    def both(theta):
        ours = jax.jacfwd(lambda v: flat(arrivals(back(v), rest, pairs)))(theta)
        return ours, jax.jacfwd(lambda v: flat(push_pairs(resolve(eqx.combine(back(v), rest)), pairs)))(theta)

    ours, plain = both(vector)
    assert np.abs(np.asarray(plain)).max(axis=0).min() > 1e-6
    np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12)


def test_spreads_have_the_units_of_what_they_spread(field: GradientField, pairs: Pairs) -> None:
    """Five weights of the energy, three of the swirl, log D, three of the growth: in another unit of time, D and rates
    change, and their spreads with them."""
    moving = eqx.filter(field, moves(field))
    _, back = ravel_pytree(moving)
    told = back(spreads_of(field, moves(field), pairs, 300.0, 10.0, 4.0))
    np.testing.assert_allclose(told.energy.boxed.inner.weights, 300.0)
    np.testing.assert_allclose(told.swirl.upper.inner.weights, 10.0 * NOISE, rtol=1e-12)
    np.testing.assert_allclose(told.growth.inner.weights, 4.0 * 0.4 / 0.5, rtol=1e-12)
    np.testing.assert_allclose(told.diffusion.raw, 300.0)
    deep = LearnedSwirl(Boxed(network(2, 3, 1, key=jax.random.key(0)), PLACE))
    other = eqx.tree_at(lambda f: f.swirl, field, deep)
    many = np.asarray(spreads_of(other, moves(other), pairs, 300.0, 10.0, 4.0))
    assert set(many.tolist()) == {300.0, 4.0 * 0.4 / 0.5}


def test_cells_held_out_tell_a_right_landscape_from_a_wrong_one() -> None:
    """Normal cells rest in the parabola of stiffness 9 on half-widths of 3."""
    still = gradient_field(
        confined(chebyshev(2, 1), PLACE, 9.0), ("x", "y"), [0.0, 0.0], diffusion=NOISE, time_unit="h"
    )
    right, wrong = (
        landscape_misfit(still, snapshots(1000, wide), cells=1000, steps=3, waves=4)["misfit"].mean()
        for wide in (1.0, 1.3)
    )
    assert right == pytest.approx(1.0, abs=0.8)
    assert wrong > 3.0 * right
