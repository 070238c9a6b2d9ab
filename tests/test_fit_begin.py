"""Where populations start: at rest before the stimulus, as seen with the rest of the cell beside it, as mixtures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from systems import model_of

from pinnsim.dynamics.motifs import birth_death
from pinnsim.errors import PinnsimError
from pinnsim.fit import Intrinsic, LogNormalBegin, MixtureBegin, SampledBegin, SettledBegin
from pinnsim.fit.population import cell_keys
from pinnsim.parameter import frozen, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import Treatment

CELLS = 1500
KEYS = cell_keys(jnp.asarray([3, 4], dtype=jnp.uint32), CELLS)
NOTHING = jnp.zeros((1, 0), dtype=int)
FAR = LogNormalBegin(frozen(jnp.asarray([4.0])), frozen(jnp.asarray([0.5])))


BIRTHS = resolve(birth_death(20.0, 0.5))
REST = resolve(SettledBegin(FAR, Intrinsic(frozen(1.0)), settle=24.0, steps=120))


@jax.jit
def at_rest(birth: Array, perturbation: Perturbation) -> Array:
    """Cells of births and deaths (0.5 per unit) that have rested for 12 lifetimes, (cell,)."""
    kinetics = eqx.tree_at(lambda k: k.law.constant, BIRTHS, BIRTHS.law.constant.at[0].set(birth))
    return REST.states(kinetics, jnp.zeros((CELLS, 1, 0)), NOTHING, KEYS, perturbation)[:, 0]


def acting(text: str) -> Perturbation:
    return Treatment.parse(text).resolve(birth_death().table, 1)


def test_cells_rest_in_the_stationary_law_with_exact_slopes() -> None:
    """Poisson in the long run, up to the bias of Euler's steps (dt / 4 of lifetime 2: 2.5 %) and the clip at 0."""
    birth = jnp.asarray(20.0)
    cells = np.asarray(at_rest(birth, acting("")))
    assert abs(cells.mean() - 40.0) < 4 * np.sqrt(40.0 / CELLS)
    assert abs(cells.var() / 40.0 - 1.0) < 0.03 + 4 * np.sqrt(2.0 / CELLS)
    spread = lambda rate: jnp.var(at_rest(rate, acting("")))  # noqa: E731
    slope = jax.grad(spread)(birth)
    central = (spread(birth + 1e-3) - spread(birth - 1e-3)) / 2e-3
    np.testing.assert_allclose(slope, central, rtol=1e-6)
    # The variance is birth / death: its slope is that of the law, too.
    assert abs(float(slope) - 2.0) < 0.2


def test_what_acts_since_ever_counts_and_a_stimulus_does_not() -> None:
    plain, since_ever, later = (np.asarray(at_rest(jnp.asarray(20.0), acting(t)))
        for t in ("", "reaction(birth)*0.5", "reaction(birth)*0.5@0:"))  # fmt: skip
    assert abs(since_ever.mean() - 20.0) < 4 * np.sqrt(20.0 / CELLS)
    np.testing.assert_array_equal(plain, later)


def test_noise_of_the_rest_is_not_that_of_the_run() -> None:
    push = Intrinsic(frozen(1.0))
    assert (np.asarray(push.earlier_keys(KEYS)) != np.asarray(KEYS)).any(axis=1).all()


def test_layers_that_were_not_measured_rest_with_those_that_were() -> None:
    kinetics = resolve(model_of(("unspliced", "spliced", "protein"), hidden="all")).kinetics
    rna = jnp.asarray(np.random.default_rng(0).uniform(0.1, 2.0, (3, 1, kinetics.genes)))
    where = kinetics.genes + jnp.arange(kinetics.genes)[None]
    states = SampledBegin().states(kinetics, rna, where, KEYS[:3], Perturbation.none(kinetics.table))
    np.testing.assert_array_equal(kinetics.layer(states, "spliced"), rna[:, 0])
    for one, amounts in zip(states, rna[:, 0], strict=True):
        np.testing.assert_allclose(kinetics.splicing * kinetics.layer(one, "unspliced"), kinetics.decay * amounts)
        made, lost = kinetics.translation * amounts, kinetics.protein_decay * kinetics.layer(one, "protein")
        np.testing.assert_allclose(made, lost, rtol=1e-12)


def test_mixtures_have_their_shares_and_refuse_wrong_ones() -> None:
    low, high = (LogNormalBegin(frozen(jnp.asarray([m])), frozen(jnp.asarray([0.1]))) for m in (1.0, 50.0))
    kinetics = resolve(birth_death())
    shown, plain = jnp.zeros((CELLS, 1, 0)), Perturbation.none(kinetics.table)
    states = resolve(MixtureBegin((low, high), [1.0, 3.0])).states(kinetics, shown, NOTHING, KEYS, plain)
    assert abs(np.mean(np.asarray(states) > 10.0) - 0.75) < 4 * np.sqrt(0.25 * 0.75 / CELLS)
    only = resolve(MixtureBegin((low, high), [1.0, 0.0])).states(kinetics, shown, NOTHING, KEYS, plain)
    assert (np.asarray(only) < 10.0).all()
    for wrong in ([1.0], [0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(PinnsimError, match="shares"):
            MixtureBegin((low, high), wrong)
    for wrong in ({"settle": 0.0}, {"settle": 1.0, "steps": 0}):
        with pytest.raises(PinnsimError) as caught:
            SettledBegin(low, Intrinsic(frozen(1.0)), **wrong)
        assert caught.value.codes == ("E_USAGE",)
