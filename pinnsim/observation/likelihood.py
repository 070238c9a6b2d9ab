"""Likelihoods: how far a reading may lie from its prediction.

    Gaussian:   r = y - f,  log p = -r^2 / (2 s^2) - log s - log(2 pi) / 2
    Student-t:  log p = log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2 - log s
                        - (nu + 1) / 2 * log(1 + r^2 / (nu s^2))
    Combined:   as Gaussian, s^2 = (share f)^2 + least^2 + measured^2

with `s^2 = sd^2 + measured^2`: the model's own spread and the measurement's standard error (where it is known).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Readings, Scalar, Times

Exposure = Float[Array, " time"]


class AbstractLikelihood(eqx.Module):
    """Log density of one culture's readings given predictions, per gene."""

    @abc.abstractmethod
    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        """Log density of the readings that were made, (gene,).

        **Arguments:** `times`: (time,); `readings`, `predictions`: (time, gene); `mask`: (time, gene), true where a
        reading was made (the others may be anything, NaN included); `measured_sd`: (time, gene),
        standard error of each reading, 0 where unknown.
        """

    @abc.abstractmethod
    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        """Standard deviation of a reading about its prediction, (time, gene), for predictive intervals; infinite where
        it does not exist (Student-t with df <= 2)."""


class Gaussian(AbstractLikelihood):
    """Normal errors, independent. **Arguments:** `sd`: () or (gene,), in units of the reading."""

    sd: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        width = spread(self.sd, measured_sd)
        seen = jnp.where(mask, readings, predictions)
        return jnp.sum(jnp.where(mask, jax.scipy.stats.norm.logpdf(seen, predictions, width), 0.0), axis=0)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        return jnp.broadcast_to(self.sd, predictions.shape)


class StudentT(AbstractLikelihood):
    """Heavy-tailed independent errors: single bad readings do not steer the fit. **Arguments:** `sd` (scale), `df`
    (good value: 4)."""

    sd: Parameter
    df: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        width = spread(self.sd, measured_sd)
        seen = jnp.where(mask, readings, predictions)
        return jnp.sum(jnp.where(mask, jax.scipy.stats.t.logpdf(seen, self.df, predictions, width), 0.0), axis=0)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        return jnp.broadcast_to(self.sd * student_t_width(self.df), predictions.shape)


class Combined(AbstractLikelihood):
    """Normal errors in proportion to the prediction, down to a least one: amounts over decades, of which some are 0.

    **Arguments:** `share`: of the prediction, () or (gene,); `least`: the error of a reading of nothing, () or (gene,),
    > 0, in units of the reading; good value: the smallest amount that can be told from nothing.

    Source: D. M. Rocke, S. Lorenzato, Technometrics 37:176 (1995).
    """

    share: Parameter
    least: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        width = spread(self.standard_deviation(times, predictions), jnp.where(mask, measured_sd, 0.0))
        seen = jnp.where(mask, readings, predictions)
        return jnp.sum(jnp.where(mask, jax.scipy.stats.norm.logpdf(seen, predictions, width), 0.0), axis=0)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        return jnp.sqrt((self.share * predictions) ** 2 + jnp.broadcast_to(self.least, predictions.shape) ** 2)


def exposed(predictions: Readings, exposure: Exposure | None) -> Readings:
    """Expected readings of samples with these size factors, (time,); `None` where there is nothing to multiply."""
    return predictions if exposure is None else predictions * exposure[:, None]


def student_t_width(df: Parameter) -> Scalar:
    """Standard deviation of a Student-t variable of scale 1: sqrt(df / (df - 2)), infinite for df <= 2."""
    return jnp.where(df > 2, jnp.sqrt(df / jnp.where(df > 2, df - 2, 1.0)), jnp.inf)


def spread(sd: Parameter, measured_sd: Readings) -> Readings:
    """Own and measured standard deviation together, (time, gene)."""
    return jnp.sqrt(jnp.broadcast_to(sd, measured_sd.shape) ** 2 + measured_sd**2)
