"""How well simulated cells match a measured population: by a distance of the two, or by the likelihood of its cells.

*Distance.* Simulated readings get the spread of the instrument (normal, by fixed random numbers), both populations are
put on one scale per gene, and a `distance` compares them.

*Likelihood.* The population is the mixture of its simulated cells x_m, and measured cells are draws of it:

    log p(y_1 ... y_n) = sum_i log (1 / M) sum_m prod_g p(y_ig | exposure_i readout_g(x_m)).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pinnsim.distance import AbstractDistance, Match
from pinnsim.fit.population import PopulationModel
from pinnsim.random import normals
from pinnsim.shapes import Scalar

Measured = Float[Array, "cell layer gene"]
Simulated = Float[Array, "lane layer gene"]

_NOISE = 1 << 22  # stream of random numbers


class AbstractMatch(eqx.Module):
    """The cost of a difference between populations, in nats."""

    @abc.abstractmethod
    def cost(
        self,
        model: PopulationModel,
        measured: Measured,
        there: Float[Array, " cell"],
        exposure: Float[Array, " cell"],
        simulated: Simulated,
        arrived: Float[Array, " lane"],
        unit: Float[Array, "layer gene"],
        keys: Array,
    ) -> tuple[Scalar, Array]:
        """Cost, and whether it could be computed.

        **Arguments:** `measured`: readings; `there`: 1 for cells, 0 for padding; `exposure`: size factors; `simulated`:
        expected readings per unit of exposure; `arrived`: 1 for simulated cells that count; `unit`: spread of each
        measured quantity, on the scale on which distances are taken; `keys`: (lane, 2).
        """


class ByDistance(AbstractMatch):
    """`weight` nats per measured cell and unit of distance, with quantities in units of their spread.

    **Arguments:** `distance` (where cells grow and die an unbalanced `Sinkhorn(reach=...)`, in which kinds of cells may
    become more or fewer at a price instead of being moved); `weight`: good value 1; `logs`: whether log(1 + reading) is
    compared, as counts should be; `noise`: whether simulated readings get the instrument's spread.
    """

    distance: AbstractDistance
    weight: Scalar
    logs: bool = eqx.field(static=True)
    noise: bool = eqx.field(static=True)

    def __init__(self, distance: AbstractDistance, weight: ArrayLike = 1.0, *, logs: bool = True, noise: bool = True):
        self.distance, self.weight = distance, jnp.asarray(weight, dtype=float)
        self.logs, self.noise = logs, noise

    def cost(
        self,
        model: PopulationModel,
        measured: Measured,
        there: Float[Array, " cell"],
        exposure: Float[Array, " cell"],
        simulated: Simulated,
        arrived: Float[Array, " lane"],
        unit: Float[Array, "layer gene"],
        keys: Array,
    ) -> tuple[Scalar, Array]:
        shown = self._noisy(model, simulated, keys) if self.noise else simulated
        ours = feature(shown, self.logs) / unit[None]
        theirs = feature(measured / exposure[:, None, None], self.logs) / unit[None]
        # Shares: how many cells were sorted, or simulated, says nothing of how they grew.
        weights = (of / jnp.maximum(jnp.sum(of), 1.0) for of in (arrived, there))
        got = self.distance(ours.reshape(ours.shape[0], -1), theirs.reshape(theirs.shape[0], -1), *weights)
        # A divergence that has not converged is a little off, but no reason to stop a fit.
        usable = (got.outcome == Match.DONE) | (got.outcome == Match.NOT_CONVERGED)
        return self.weight * jnp.sum(there) * jnp.where(usable, got.value, 0.0), usable

    def _noisy(self, model: PopulationModel, simulated: Simulated, keys: Array) -> Simulated:
        count = simulated.shape[1] * simulated.shape[2]
        draws = jax.vmap(lambda key: normals(key, _NOISE, count, dtype=simulated.dtype))(keys).reshape(simulated.shape)
        times = jnp.zeros(simulated.shape[0], simulated.dtype)
        layers = [
            simulated[:, k] + one.likelihood.standard_deviation(times, simulated[:, k]) * draws[:, k]
            for k, one in enumerate(model.observations)
        ]
        noisy = jnp.stack(layers, axis=1)
        return jnp.maximum(noisy, 0.0) if self.logs else noisy


class ByLikelihood(AbstractMatch):
    """The mixture likelihood. Needs simulated cells near every measured one: good for few genes and many cells; with
    many genes the nearest simulated cell decides alone, and a distance is better."""

    def cost(
        self,
        model: PopulationModel,
        measured: Measured,
        there: Float[Array, " cell"],
        exposure: Float[Array, " cell"],
        simulated: Simulated,
        arrived: Float[Array, " lane"],
        unit: Float[Array, "layer gene"],
        keys: Array,
    ) -> tuple[Scalar, Array]:
        present, usable = there > 0, jnp.sum(arrived) > 0
        arrived = jnp.where(usable, arrived, 1.0)

        def pair(reading: Array, factor: Array, expected: Array) -> Scalar:
            total = jnp.zeros((), reading.dtype)
            one, true = jnp.zeros((1, reading.shape[1]), reading.dtype), jnp.ones((1, reading.shape[1]), bool)
            for k, observation in enumerate(model.observations):
                density = observation.likelihood.log_density(
                    jnp.zeros(1, reading.dtype), reading[k][None], factor * expected[k][None], true, one
                )
                total = total + jnp.sum(density)
            return total

        def cell(inputs: tuple[Array, Array]) -> Scalar:
            reading, factor = inputs
            logs = jax.vmap(lambda expected: pair(reading, factor, expected))(simulated)
            weighted = jnp.where(arrived > 0, logs, -jnp.inf)
            return jax.nn.logsumexp(weighted) - jnp.log(jnp.maximum(jnp.sum(arrived), 1.0))

        logs = jax.lax.map(cell, (measured, exposure), batch_size=64)
        return -jnp.sum(jnp.where(present, logs, 0.0)), usable


def feature(readings: Array, logs: bool) -> Array:
    """The scale on which populations are compared."""
    return jnp.log1p(readings) if logs else readings
