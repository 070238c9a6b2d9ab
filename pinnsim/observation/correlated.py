"""A likelihood that knows that models are wrong for a while: errors correlated in time, largest just after a switch.

The readings of one gene over the times of one culture are jointly Student-t with scale matrix

    K[j, k] = d(t_j) d(t_k) exp(-|t_j - t_k| / correlation_time) + [j = k] (sd^2 or measured^2),
    d(t) = early_sd exp(-(t - t_0) / settling_time) + late_sd,

so a transient that the model does not have costs little and does not bend what is learned about where the cell
settles; the number of independent witnesses of the late state is not the number of late samples.

Source: M. C. Kennedy and A. O'Hagan, J. R. Statist. Soc. B 63:425 (2001), with an Ornstein-Uhlenbeck discrepancy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.observation.likelihood import AbstractLikelihood, student_t_width
from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Readings, Times


class Correlated(AbstractLikelihood):
    """Multivariate Student-t over the times of each gene.

    **Arguments:** `sd`: measurement error where none is given with the data, () or (gene,); `df`: degrees of freedom
    (good value: 4); `early_sd`, `late_sd`: model error just after the first time and much later; `settling_time`,
    `correlation_time`: in the model's time unit (good value: about the system's own relaxation time).
    """

    sd: Parameter
    df: Parameter
    early_sd: Parameter
    late_sd: Parameter
    settling_time: Parameter
    correlation_time: Parameter

    def log_density(
        self, times: Times, readings: Readings, predictions: Readings, mask: Array, measured_sd: Readings
    ) -> PerGene:
        model_error = self._model_error(times)
        lag = jnp.abs(times[:, None] - times[None, :])
        kernel = model_error[:, None] * model_error[None, :] * jnp.exp(-lag / self.correlation_time)

        def one_gene(residual: Array, seen: Array, measured: Array, sd: Array) -> Array:
            noise = jnp.where(measured > 0, measured, sd) ** 2
            # Unseen entries become independent unit rows: they add nothing to the form or the determinant.
            both = seen[:, None] & seen[None, :]
            matrix = jnp.where(both, kernel + jnp.diag(noise), jnp.eye(times.size, dtype=kernel.dtype))
            factor = jnp.linalg.cholesky(matrix)
            whitened = jax.scipy.linalg.solve_triangular(factor, residual, lower=True)
            count, df = jnp.sum(seen, dtype=residual.dtype), self.df
            normal = -jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * count * jnp.log(df * jnp.pi)
            tail = -0.5 * (df + count) * jnp.log1p(jnp.sum(whitened**2) / df)
            return jax.scipy.special.gammaln(0.5 * (df + count)) - jax.scipy.special.gammaln(0.5 * df) + normal + tail

        residual = jnp.where(mask, readings, predictions) - predictions
        sd = jnp.broadcast_to(self.sd, readings.shape[1:])
        return jax.vmap(one_gene, in_axes=(1, 1, 1, 0))(residual, mask, measured_sd, sd)

    def standard_deviation(self, times: Times, predictions: Readings) -> Readings:
        own = jnp.broadcast_to(self.sd, predictions.shape)
        return jnp.sqrt(self._model_error(times)[:, None] ** 2 + own**2) * student_t_width(self.df)

    def _model_error(self, times: Times) -> Times:
        return self.early_sd * jnp.exp(-(times - times[0]) / self.settling_time) + self.late_sd
