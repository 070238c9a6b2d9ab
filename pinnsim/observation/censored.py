"""Likelihoods of amounts that have a direction: readings that end at a limit, and errors that are relative.

Censored:   log p = log N(y; f, s) below the limit, log P(Y >= limit) at it
LogNormal:  log p = log N(log y; log f, s) - log y
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.observation.likelihood import AbstractLikelihood, spread
from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Readings, Times

_LEAST = 1e-300  # stands for amounts of 0, of which a log-normal law knows nothing


class Censored(AbstractLikelihood):
    """Normal errors of an instrument that stops at a limit: a threshold cycle that was not reached says that it is at
    least the last one.

    **Arguments:** `sd`: () or (gene,); `limit`: the largest reading; readings at it or above are "not reached", and so
    should be written for reactions that the instrument calls undetermined.
    """

    sd: Parameter
    limit: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        width = spread(self.sd, measured_sd)
        limit = jnp.broadcast_to(self.limit, readings.shape)
        seen = jnp.where(mask, readings, predictions)
        reached = seen < limit
        inside = jax.scipy.stats.norm.logpdf(jnp.where(reached, seen, predictions), predictions, width)
        beyond = jax.scipy.special.log_ndtr((predictions - limit) / width)
        return jnp.sum(jnp.where(mask, jnp.where(reached, inside, beyond), 0.0), axis=0)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        return jnp.broadcast_to(self.sd, predictions.shape)


class LogNormal(AbstractLikelihood):
    """Relative errors: intensities, protein amounts. Readings must be > 0.

    **Arguments:** `sd`: of the natural logarithm, () or (gene,). A measurement's own standard error, in units of the
    reading, is added as a share of the reading.
    """

    sd: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        seen = jnp.maximum(jnp.where(mask, readings, 1.0), _LEAST)
        width = spread(self.sd, jnp.where(mask, measured_sd, 0.0) / seen)
        center = jnp.log(jnp.maximum(predictions, _LEAST))
        return jnp.sum(
            jnp.where(mask, jax.scipy.stats.norm.logpdf(jnp.log(seen), center, width) - jnp.log(seen), 0.0), axis=0
        )

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        """That of the reading: `f exp(s^2 / 2) sqrt(exp(s^2) - 1)`."""
        square = jnp.broadcast_to(self.sd, predictions.shape) ** 2
        return jnp.abs(predictions) * jnp.exp(0.5 * square) * jnp.sqrt(jnp.expm1(square))
