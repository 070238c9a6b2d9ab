"""Random numbers by counter: published vectors, JAX's own generator, the laws, and no dependence on the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from pinnsim.lanes import lanes_last
from pinnsim.random import bits, exponential, key_of, lane_key, normal, normal_pair, normals, poisson, uniform

KEY = key_of(jax.random.key(2017))
MANY = jnp.arange(100_000, dtype=jnp.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_random123(counter: tuple, key: tuple, expected: tuple) -> None:
    words = jnp.asarray(key, dtype=jnp.uint32)
    got = bits(words, jnp.uint32(counter[0]), jnp.uint32(counter[1]))
    assert tuple(int(word) for word in got) == expected


def test_the_same_bits_as_jax() -> None:
    count = jax.random.bits(jax.random.key(3), (512,), jnp.uint32)
    first, second = bits(KEY, count[:256], count[256:])
    np.testing.assert_array_equal(jnp.concatenate([first, second]), threefry_2x32(KEY, count))


@pytest.mark.parametrize("lane", [0, 1, 12345, 2**31 + 7])
def test_lane_keys_are_those_of_fold_in(lane: int) -> None:
    folded = jax.random.key_data(jax.random.fold_in(jax.random.key(2017), lane))
    np.testing.assert_array_equal(lane_key(KEY, jnp.uint32(lane)), folded)


def test_any_key_gives_two_words() -> None:
    np.testing.assert_array_equal(key_of(KEY), KEY)
    np.testing.assert_array_equal(key_of(jax.random.PRNGKey(5)), jax.random.key_data(jax.random.key(5)))
    long = key_of(jax.random.key(5, impl="rbg"))
    assert long.shape == (2,)
    assert long.dtype == jnp.uint32
    assert not np.array_equal(long, key_of(jax.random.key(6, impl="rbg")))


def test_counters_and_streams_broadcast_and_do_not_depend_on_company() -> None:
    whole = normal(KEY, jnp.arange(4)[:, None], jnp.arange(3)[None])
    assert whole.shape == (4, 3)
    np.testing.assert_array_equal(whole[2, 1], normal(KEY, 2, 1))
    keys = jax.vmap(lambda lane: lane_key(KEY, lane))(jnp.arange(7))
    one = jax.jit(jax.vmap(lambda key: normals(key, 4, 5)))(keys)
    last = jax.jit(lanes_last(lambda _, key: normals(key, 4, 5)))(None, keys.T)
    np.testing.assert_array_equal(last.T, one)
    np.testing.assert_array_equal(one[3], jax.jit(lambda key: normals(key, 4, 5))(keys[3]))


@pytest.mark.parametrize("kind", [jnp.float64, jnp.float32])
def test_uniforms_are_uniform_and_never_at_the_ends(kind: jnp.dtype) -> None:
    found = uniform(KEY, 1, MANY, kind)
    assert found.dtype == kind
    assert scipy.stats.kstest(np.asarray(found, float), "uniform").pvalue > 1e-4
    # All bits 0 and all bits 1 are the extremes.
    from pinnsim.random import _unit

    full, none = jnp.uint32(0xFFFFFFFF), jnp.uint32(0)
    assert 0 < float(_unit((none, none), kind)) < 1e-7
    assert 1 - 1e-7 < float(_unit((full, full), kind)) < 1


@pytest.mark.parametrize("kind", [jnp.float64, jnp.float32])
def test_exponentials_and_normals_have_their_laws(kind: jnp.dtype) -> None:
    assert scipy.stats.kstest(np.asarray(exponential(KEY, 2, MANY, kind), float), "expon").pvalue > 1e-4
    first, second = (np.asarray(part, float) for part in normal_pair(KEY, 3, MANY, kind))
    for part in (first, second, (first + second) / np.sqrt(2), (first - second) / np.sqrt(2)):
        assert scipy.stats.kstest(part, "norm").pvalue > 1e-4
    # Squares of a pair are independent too: the radius and the angle do not share bits.
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4 / np.sqrt(len(first))


def test_normals_in_the_tails() -> None:
    """Four million draws: as many beyond 4 and 4.5 standard deviations as there should be, within four sigma."""
    draw = jax.jit(lambda counter: jnp.concatenate(normal_pair(KEY, counter, jnp.arange(500_000), jnp.float32)))
    found = np.abs(np.concatenate([draw(jnp.uint32(k)) for k in range(4)]))
    for limit in (3.0, 4.0, 4.5):
        expected = 2 * scipy.stats.norm.sf(limit) * found.size
        assert abs((found > limit).sum() - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("kind", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("mean", [0.02, 1.0, 9.9, 10.1, 47.0, 3000.0])
def test_poisson_numbers_have_their_law(mean: float, kind: jnp.dtype) -> None:
    found = np.asarray(jax.jit(poisson)(KEY, 4, MANY, jnp.full(MANY.shape, mean, kind)), float)
    law = scipy.stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0.02, 0.98, 25)))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * found.size
    observed = np.histogram(found, np.concatenate([[-0.5], edges + 0.5, [np.inf]]))[0]
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4


def test_poisson_at_the_edges() -> None:
    means = jnp.asarray([0.0, jnp.inf, jnp.nan, -1.0, 1e12])
    found = np.asarray(poisson(KEY, 0, jnp.arange(5), means))
    assert found[0] == 0.0
    assert np.isnan(found[1:4]).all()
    assert abs(found[4] - 1e12) < 6e6


def test_streams_and_counters_are_independent() -> None:
    base = np.asarray(normal(KEY, 0, MANY))
    for other in (normal(KEY, 1, MANY), normal(KEY, 0, MANY + 1), normal(lane_key(KEY, 1), 0, MANY)):
        assert abs(np.corrcoef(base, np.asarray(other))[0, 1]) < 4 / np.sqrt(base.size)
