"""Likelihoods: how far a reading may lie from its prediction.

    Gaussian:   r = y - f,  log p = -r^2 / (2 s^2) - log s - log(2 pi) / 2
    Student-t:  log p = log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2 - log s - (nu + 1) / 2 * log(1 + r^2 / (nu s^2))

with `s^2 = sd^2 + measured^2`: the model's own spread and the measurement's standard error (where it is known).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Readings, Times


class AbstractLikelihood(eqx.Module):
    """Log density of one culture's readings given predictions, per gene."""

    sd: eqx.AbstractVar[Parameter]

    @abc.abstractmethod
    def log_density(self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings) -> PerGene:
        """Log density of the readings that were made, (gene,).

        **Arguments:** `times`: (time,); `readings`, `predictions`: (time, gene); `mask`: (time, gene), true where a reading was made; `measured_sd`: (time, gene), standard error of each
        reading, 0 where unknown.
        """


class Gaussian(AbstractLikelihood):
    """Normal errors, independent. **Arguments:** `sd`: () or (gene,), in units of the reading."""

    sd: Parameter

    def log_density(self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings) -> PerGene:
        spread = jnp.sqrt(self.sd**2 + measured_sd**2)
        return jnp.sum(jnp.where(mask, jax.scipy.stats.norm.logpdf(readings, predictions, spread), 0.0), axis=0)


class StudentT(AbstractLikelihood):
    """Heavy-tailed independent errors: single bad readings do not steer the fit. **Arguments:** `sd` (scale), `df` (good value: 4)."""

    sd: Parameter
    df: Parameter

    def log_density(self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings) -> PerGene:
        spread = jnp.sqrt(self.sd**2 + measured_sd**2)
        return jnp.sum(jnp.where(mask, jax.scipy.stats.t.logpdf(readings, self.df, predictions, spread), 0.0), axis=0)
