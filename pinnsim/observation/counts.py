"""Likelihoods of counts: Poisson, negative binomial, and either with more zeros than it has.

    Poisson:            var = m
    Negative binomial:  var = m + alpha m^2   (NB2; shape r = 1 / alpha)
    Zero-inflated:      p(0) = pi + (1 - pi) q(0),   p(k) = (1 - pi) q(k)

with m the mean count of this sample: what the readout says times the sample's size factor. All are computed in the
saddle-point form, in which large terms cancel before they are rounded, with

    h(u) = (1 + u) log(1 + u) - u,   delta(x) = log x! - log(sqrt(2 pi x) (x / e)^x):

    log Poisson(k) = -m h((k - m) / m) - delta(k) - log(2 pi k) / 2
    log NB(k) = log Poisson-like terms of k and of r beside their common mean

so that a dispersion of 1e-9 and counts of 1e9 are as exact as small ones.

Sources: C. Loader, "Fast and accurate computation of binomial probabilities" (2000); M. D. Robinson and G. K. Smyth,
Biostatistics 9:321 (2008), for NB2 in sequencing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.observation.likelihood import AbstractLikelihood
from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Readings, Times

Counts = Float[Array, "..."]

_LEAST = (
    1e-12  # a mean below this is taken as this: a count where the model has nothing is very unlikely, not infinitely
)
_HALF_LOG_TURN = 0.9189385332046727  # log(2 pi) / 2
_SERIES = 16.0  # from here on Stirling's series is exact to rounding
_NOTHING = 1e-8  # counts^2: the variance of what is hardly expected at all


class Poisson(AbstractLikelihood):
    """Counting noise alone: molecules counted one by one, no difference between cultures."""

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        return _summed(poisson_log(_seen(readings, mask), predictions), mask)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        return _root(jnp.maximum(predictions, 0.0))


class NegativeBinomial(AbstractLikelihood):
    """Sequencing counts: counting noise, and a relative spread sqrt(alpha) that no depth removes.

    **Arguments:** `dispersion`: alpha > 0, () or (gene,); good value: 0.1 (single cells: 0.5).
    """

    dispersion: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        alpha = jnp.broadcast_to(self.dispersion, readings.shape)
        return _summed(negative_binomial_log(_seen(readings, mask), predictions, alpha), mask)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        mean = jnp.maximum(predictions, 0.0)
        return _root(mean + jnp.broadcast_to(self.dispersion, mean.shape) * mean**2)


class ZeroInflated(AbstractLikelihood):
    """A negative binomial of which a share of the molecules was lost altogether; for protocols without molecular
    identifiers (with them, plain counts have the zeros that are seen: V. Svensson, Nat. Biotechnol. 38:147, 2020).

    **Arguments:** `dispersion`: alpha > 0, `zeros`: pi in (0, 1), each () or (gene,).
    """

    dispersion: Parameter
    zeros: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        alpha, lost = (jnp.broadcast_to(v, readings.shape) for v in (self.dispersion, self.zeros))
        seen = _seen(readings, mask)
        plain = jnp.log1p(-lost) + negative_binomial_log(seen, predictions, alpha)
        return _summed(jnp.where(seen > 0, plain, jnp.logaddexp(jnp.log(lost), plain)), mask)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        mean, lost = jnp.maximum(predictions, 0.0), jnp.broadcast_to(self.zeros, predictions.shape)
        plain = mean + jnp.broadcast_to(self.dispersion, mean.shape) * mean**2
        return _root((1.0 - lost) * (plain + lost * mean**2))


def poisson_log(count: Counts, mean: Counts) -> Counts:
    """log p of counts >= 0, elementwise; `mean` > 0."""
    mean = jnp.maximum(mean, _LEAST)
    some = jnp.where(count > 0, count, 1.0)
    there = -_deviance(some, mean, (some - mean) / mean) - _stirling_error(some) - 0.5 * jnp.log(some) - _HALF_LOG_TURN
    return jnp.where(count > 0, there, -mean)


def negative_binomial_log(count: Counts, mean: Counts, dispersion: Counts) -> Counts:
    """log p of counts >= 0, elementwise; `mean` > 0, `dispersion` > 0."""
    mean, shape = jnp.maximum(mean, _LEAST), 1.0 / dispersion
    some = jnp.where(count > 0, count, 1.0)
    total, both = some + shape, shape + mean
    # Relative distances of r and of k from their expected parts of k + r, without differences of large numbers.
    of_shape = _deviance(shape, total * shape / both, (mean - some) / total)
    of_count = _deviance(some, total * mean / both, shape * (some - mean) / (total * mean))
    errors = _stirling_error(total) - _stirling_error(some) - _stirling_error(shape)
    there = errors - of_shape - of_count - _HALF_LOG_TURN - 0.5 * jnp.log(some) - 0.5 * jnp.log1p(some / shape)
    return jnp.where(count > 0, there, -shape * jnp.log1p(mean * dispersion))


def size_factors(counts: Float[np.ndarray, "sample gene"]) -> Float[np.ndarray, " sample"]:
    """How deeply each sample was sequenced, beside the others: the median, over genes, of its counts to their
    geometric mean over samples, scaled to a geometric mean of 1.

    **Arguments:** `counts`: all genes that were counted, not a selection; NaN where not counted. Only genes counted
    above 0 in every sample take part; where there are none (single cells), total counts stand in.

    **Returns** factors; NaN for samples without a single count, which no factor can repair.

    Source: S. Anders and W. Huber, Genome Biol. 11:R106 (2010), eq. 5.
    """
    counts = np.asarray(counts, dtype=float)
    total = np.nansum(counts, axis=1)
    usable = total > 0
    factors = np.full(len(counts), np.nan)
    if not usable.any():
        return factors
    kept = counts[usable]
    common = np.all(np.isfinite(kept) & (kept > 0), axis=0)
    if common.any():
        logs = np.log(kept[:, common])
        log_factor = np.median(logs - logs.mean(axis=0), axis=1)
    else:
        log_factor = np.log(total[usable])
    factors[usable] = np.exp(log_factor - log_factor.mean())
    return factors


def _deviance(x: Counts, mean: Counts, relative: Counts) -> Counts:
    """`x log(x / mean) + mean - x` from `relative = (x - mean) / mean`."""
    return mean * ((1.0 + relative) * jnp.log1p(relative) - relative)


def _stirling_error(x: Counts) -> Counts:
    """delta(x), for x > 0 that need not be whole."""
    low, high = jnp.minimum(x, _SERIES), jnp.maximum(x, _SERIES)
    exact = jax.scipy.special.gammaln(low + 1.0) - (low + 0.5) * jnp.log(low) + low - _HALF_LOG_TURN
    s = 1.0 / (high * high)
    series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s * (1 / 1188))))) / high
    return jnp.where(x < _SERIES, exact, series)


def _root(variance: Readings) -> Readings:
    """A square root whose slope ends where next to nothing is expected: at 0 it would be infinite."""
    some = variance > _NOTHING
    return jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1.0)), 0.0)


def _seen(readings: Readings, mask: Array) -> Readings:
    return jnp.where(mask, readings, 0.0)


def _summed(log: Readings, mask: Array) -> PerGene:
    return jnp.sum(jnp.where(mask, log, 0.0), axis=0)
