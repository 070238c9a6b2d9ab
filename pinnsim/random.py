"""Random numbers by counter: every draw is a pure function of (key, counter, stream), in any order and any batch.

The generator is threefry-2x32 with 20 rounds, the one that JAX itself uses, here written out as elementwise integer
operations: no state to carry, no shape to split, so that a lane's numbers do not depend on which other lanes share
its block, and a reaction's numbers do not depend on which other reactions fired. Two runs with one key (a control and
a perturbed cell) share all numbers: common random numbers.

    bits(key, counter, stream) = threefry_2x32(key, (counter, stream))          two words of 32 random bits

Normals are by Box and Muller, `sqrt(-2 log u) (cos 2 pi w, sin 2 pi w)`, with the angle's quadrant taken from two bits
and a polynomial inside the quadrant; Poisson numbers by inversion (mean below 10) and by transformed rejection.

Sources: J. K. Salmon et al., Proc. SC11 (2011), for threefry; G. E. P. Box and M. E. Muller, Ann. Math. Stat. 29:610
(1958); W. Hoermann, Insur. Math. Econ. 12:39 (1993), algorithm PTRS; C. Loader, "Fast and accurate computation of
binomial probabilities" (2000), for the logarithm of a Poisson probability.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray, UInt32

Key = UInt32[Array, " 2"]
Counter = Int[Array, "..."] | UInt32[Array, "..."] | int
Words = tuple[UInt32[Array, "..."], UInt32[Array, "..."]]
Numbers = Float[Array, "..."]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# Taylor terms of cos and sin on [-pi/4, pi/4], by bytes of the number: the remainder is below rounding.
_TERMS = {4: 5, 8: 9}
_FEW = 10.0  # Poisson means below this are inverted, others rejected: where PTRS begins to hold
_HALF_LOG_TURN = 0.9189385332046727  # log(2 pi) / 2
_MOST = 120  # terms after which the sum of Poisson(10) probabilities is 1 to far beyond rounding


def key_of(key: PRNGKeyArray | UInt32[Array, "..."]) -> Key:
    """Two words from any JAX key, (2,).

    Threefry keys keep their own words; those of longer kinds are mixed into two words; (2,) words pass through.
    """
    words = key if key.dtype == jnp.uint32 else jax.random.key_data(key)
    words = words.reshape(-1)
    mixed = words[:2]
    for first in range(2, words.shape[0], 2):
        mixed = jnp.stack(bits(mixed, words[first], words[first + 1]))
    return mixed


def lane_key(key: Key, lane: Counter) -> Key:
    """The key of one lane, (2,): `jax.random.fold_in` on the words of a threefry key."""
    return jnp.stack(bits(key, 0, lane))


def bits(key: Key, counter: Counter, stream: Counter) -> Words:
    """Two words of random bits for each pair (counter, stream), which broadcast against each other.

    **Arguments:** `key`: (2,); `counter`, `stream`: integers, taken modulo 2^32.

    **Returns** two arrays of uint32.
    """
    return _threefry(key[0], key[1], _word(counter), _word(stream))


def uniform(key: Key, counter: Counter, stream: Counter, dtype: DTypeLike | None = None) -> Numbers:
    """Uniform on (0, 1), never 0 or 1: the middles of 2^52 (float64) or 2^23 (float32) equal cells."""
    return _unit(bits(key, counter, stream), _float(dtype))


def exponential(key: Key, counter: Counter, stream: Counter, dtype: DTypeLike | None = None) -> Numbers:
    """Exponential with mean 1, > 0."""
    return -jnp.log(uniform(key, counter, stream, dtype))


def normal_pair(key: Key, counter: Counter, stream: Counter, dtype: DTypeLike | None = None) -> tuple[Numbers, Numbers]:
    """Two independent standard normals for each (counter, stream).

    In float64 they take two blocks of bits, at `stream` and at `stream + 2^31`; so streams must stay below 2^31.
    Largest possible value: 8.6 (float64), 6.6 (float32).
    """
    kind = _float(dtype)
    first, second = bits(key, counter, stream)
    if kind == jnp.float64:
        radius = _unit((first, second), kind)
        first, second = bits(key, counter, _word(stream) + jnp.uint32(1 << 31))
        offset = _unit((first << 2, second), kind)
        quadrant = first >> 30
    else:
        # All 31 bits count where the number is small, which is where the tail is.
        radius = (_real(first >> 1, kind) + 0.5) * kind.type(2.0**-31)
        offset = (_real((second << 2) >> 9, kind) + 0.5) * kind.type(2.0**-23)
        quadrant = second >> 30
    cosine, sine = _turned(offset, quadrant)
    # Rounding can make the float32 number 1; the maximum keeps its root from being that of -0.
    length = jnp.sqrt(jnp.maximum(-2.0 * jnp.log(radius), 0.0))
    return length * cosine, length * sine


def normal(key: Key, counter: Counter, stream: Counter, dtype: DTypeLike | None = None) -> Numbers:
    """A standard normal for each (counter, stream); `normals` costs half as much where many are wanted."""
    return normal_pair(key, counter, stream, dtype)[0]


def normals(key: Key, counter: Counter, count: int, offset: Counter = 0, dtype: DTypeLike | None = None) -> Numbers:
    """`count` independent standard normals for one counter, (count,), from `(count + 1) / 2` streams on from
    `offset`, two a stream."""
    streams = _word(offset) + jnp.arange((count + 1) // 2, dtype=jnp.uint32)
    return jnp.concatenate(normal_pair(key, counter, streams, dtype))[:count]


def poisson(key: Key, counter: Counter, stream: Counter, mean: Numbers) -> Numbers:
    """Poisson numbers with this mean (>= 0; elementwise), as whole floats of the mean's dtype; NaN where the mean is
    not finite.

    Inversion below mean 10, else transformed rejection with a ratio of probabilities that stays exact to rounding for
    large means (Loader's deviance form). Both are exact in law up to the session's precision.
    """
    mean, _ = jnp.broadcast_arrays(mean, _word(counter) + _word(stream))
    usable = jnp.isfinite(mean) & (mean >= 0)
    # Each number has its own generator, so that attempts of one do not shift the next.
    own = bits(key, counter, stream)
    few = mean < _FEW
    small = _by_inversion(own, jnp.where(few & usable, mean, 0.0))
    large = _by_rejection(own, jnp.where(few | ~usable, _FEW, mean), ~few & usable)
    return jnp.where(usable, jnp.where(few, small, large), jnp.nan)


def _by_inversion(own: Words, mean: Numbers) -> Numbers:
    u = _unit(own, mean.dtype)

    def below(carry: tuple) -> Array:
        count, _, total, _ = carry
        return jnp.any(u > total) & (count < _MOST)

    def add(carry: tuple) -> tuple:
        count, term, total, found = carry
        found = jnp.where(u > total, found + 1.0, found)
        term = term * mean / (count + 1).astype(mean.dtype)
        return count + 1, term, total + term, found

    none = jnp.exp(-mean)
    begin = (jnp.zeros((), jnp.int32), none, none, jnp.zeros_like(mean))
    return jax.lax.while_loop(below, add, begin)[3]


def _by_rejection(own: Words, mean: Numbers, wanted: Array) -> Numbers:
    """Hoermann's PTRS for means >= 10, with a fresh pair of uniforms per attempt."""
    b = 0.931 + 2.53 * jnp.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2.0)

    def unfinished(carry: tuple) -> Array:
        _, _, searching = carry
        return jnp.any(searching)

    def attempt(carry: tuple) -> tuple:
        trial, found, searching = carry
        u = _unit(_threefry(*own, trial, jnp.uint32(1)), mean.dtype) - 0.5
        v = _unit(_threefry(*own, trial, jnp.uint32(2)), mean.dtype)
        reach = 0.5 - jnp.abs(u)
        k = jnp.floor((2.0 * a / reach + b) * u + mean + 0.43)
        # What is surely inside needs no probability; what is surely outside gets none.
        inside = (reach >= 0.07) & (v <= squeeze)
        outside = (k < 0) | ((reach < 0.013) & (v > reach))
        weight = jnp.log(v * inverse_alpha / (a / (reach * reach) + b))
        accepted = inside | (~outside & (weight <= _log_probability(jnp.maximum(k, 0.0), mean)))
        return trial + jnp.uint32(1), jnp.where(searching & accepted, k, found), searching & ~accepted

    return jax.lax.while_loop(unfinished, attempt, (jnp.uint32(0), jnp.zeros_like(mean), wanted))[1]


def _log_probability(k: Numbers, mean: Numbers) -> Numbers:
    """log of the Poisson probability, as `-deviance - log(sqrt(2 pi k)) - Stirling's correction`."""
    relative = (k - mean) / mean
    grown = jnp.log1p(jnp.maximum(relative, -1.0 + jnp.finfo(mean.dtype).eps))
    deviance = mean * ((1.0 + relative) * grown - relative)
    whole = jnp.maximum(k, 1.0)
    low = jnp.minimum(whole, 16.0)
    exact = jax.lax.lgamma(low + 1.0) - (low + 0.5) * jnp.log(low) + low - _HALF_LOG_TURN
    square = 1.0 / (whole * whole)
    series = (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0)) / whole
    correction = jnp.where(whole < 16.0, exact, series)
    return jnp.where(k > 0, -deviance - 0.5 * jnp.log(2 * np.pi * whole) - correction, -mean)


def _threefry(first_key: Array, second_key: Array, first: Array, second: Array) -> Words:
    keys = (first_key, second_key, first_key ^ second_key ^ jnp.uint32(_PARITY))
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            first = first + second
            second = (second << distance) | (second >> (32 - distance))
            second = first ^ second
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second


def _unit(words: Words, dtype: DTypeLike) -> Numbers:
    kind = np.dtype(dtype)
    first, second = words
    if kind == jnp.float64:
        return _real(first >> 6, kind) * 2.0**-26 + (_real(second >> 6, kind) + 0.5) * 2.0**-52
    return (_real(first >> 9, kind) + 0.5) * kind.type(2.0**-23)


def _turned(offset: Numbers, quadrant: Array) -> tuple[Numbers, Numbers]:
    """cos and sin of `(pi / 2) (quadrant + offset - 1/2)`, for `offset` in (0, 1)."""
    angle = (np.pi / 2) * (offset - 0.5)
    square = angle * angle
    terms = _TERMS[offset.dtype.itemsize]
    cosine, sine = jnp.ones_like(offset), jnp.ones_like(offset)
    for k in range(terms, 0, -1):
        cosine = 1.0 - cosine * (square * (1.0 / ((2 * k - 1) * (2 * k))))
        sine = 1.0 - sine * (square * (1.0 / ((2 * k) * (2 * k + 1))))
    sine = sine * angle
    odd, half = (quadrant & 1) == 1, quadrant >= 2
    across, up = jnp.where(odd, -sine, cosine), jnp.where(odd, cosine, sine)
    return jnp.where(half, -across, across), jnp.where(half, -up, up)


def _word(value: Counter) -> Array:
    return jnp.asarray(value).astype(jnp.uint32)


def _real(word: Array, kind: np.dtype) -> Numbers:
    # By way of int32: processors convert signed integers in one instruction; the words given here have their top bit 0.
    return word.astype(jnp.int32).astype(kind)


def _float(dtype: DTypeLike | None) -> np.dtype:
    return np.dtype(jnp.zeros(()).dtype if dtype is None else dtype)
