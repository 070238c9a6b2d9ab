"""A trained latent model: cells to embeddings and back, embeddings moved in time, and what it never saw flagged."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from pinnsim.dynamics.gradient import GradientField
from pinnsim.errors import PinnsimError, Problems, first, warn
from pinnsim.fit.landscape_pairs import Pairs, push_pairs
from pinnsim.latent.cells import checked, features_of
from pinnsim.latent.domain import Domain, OutOfDomain, scored
from pinnsim.latent.learn import embeddings_of
from pinnsim.latent.network import LatentNetwork
from pinnsim.latent.plan import LatentPlan
from pinnsim.parameter import resolve
from pinnsim.treatment import NONE, Treatment, as_treatment


class Arrival(NamedTuple):
    """Cells pushed in time. `embeddings`: (cell, dimension); `means`: expected readings on the scale of the data;
    `readings`: as they would be measured, with the likelihood's noise; both (cell, reading)."""

    embeddings: np.ndarray
    means: np.ndarray
    readings: np.ndarray


class LatentModel(eqx.Module):
    """What `fit_latent` learned. Cells are rows of readings in the order of `readings`, on `scale`; size factors go
    with counts only.

    **Arguments:** `network`: encoder, decoder and field; `domain`: where training cells were; `readings`: names;
    `inputs` are those of the field's table; `scale`, `time_unit`: of the data; `plan`: how it was made.
    """

    network: LatentNetwork
    domain: Domain
    readings: tuple[str, ...] = eqx.field(static=True)
    scale: str = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    plan: LatentPlan = eqx.field(static=True)

    @property
    def field(self) -> GradientField:
        """The landscape of embeddings, resolved: what the tools of `pinnsim.landscape` take."""
        return resolve(self.network.field)

    def encode(self, values: ArrayLike, exposure: ArrayLike | None = None) -> np.ndarray:
        """Embeddings, (cell, dimension), of cells, (cell, reading), with size factors, (cell,).

        **Raises** together `E_DATA_SHAPE`, `E_DATA_NONFINITE`, `E_DATA_NEGATIVE`, `E_USAGE`.
        """
        table, size = self._checked(values, exposure)
        return embeddings_of(self.network, features_of(table, size, self.network.decoder.counted))

    def decode(self, embeddings: ArrayLike, exposure: ArrayLike | None = None) -> np.ndarray:
        """Expected readings, (cell, reading), of embeddings, (cell, dimension), on the scale of the data. **Raises**
        `E_DATA_SHAPE`."""
        z, size = self._placed(embeddings, exposure)
        return np.asarray(_decoded(self.network, z, size))

    def sample(self, embeddings: ArrayLike, exposure: ArrayLike | None = None, *, seed: int = 0) -> np.ndarray:
        """Readings as they would be measured, (cell, reading): drawn from the decoder's likelihood. **Raises**
        `E_DATA_SHAPE`."""
        z, size = self._placed(embeddings, exposure)
        return np.asarray(_drawn(self.network, z, size, jax.random.split(jax.random.key(seed), len(z))))

    def simulate(
        self,
        values: ArrayLike,
        span: float,
        treatment: Treatment | str = NONE,
        *,
        start: float = 0.0,
        exposure: ArrayLike | None = None,
        steps: int = 40,
        seed: int = 0,
    ) -> Arrival:
        """Cells pushed in time by `dz = f(z, signal) dt + sqrt(2 D) dW`, and decoded.

        **Arguments:** `values`, `exposure`: cells at `start`; `span`: how long, >= 0, in `time_unit`; `treatment`:
        signals of the model, which may switch; `steps`: of the solver.

        **Raises** together the errors of `encode` and `E_TIME_RANGE`, `E_USAGE`; `E_PERTURB_...`.
        """
        with Problems() as problems:
            if not (np.isfinite(span) and span >= 0):
                problems.add("E_TIME_RANGE", f"Argument `span` must be a time >= 0, but is {span}.")
            if steps < 1:
                problems.add("E_USAGE", f"Argument `steps` must be 1 or more, but is {steps}.")
        z = jnp.asarray(self.encode(values, exposure))
        acting = as_treatment(treatment).resolve(self.network.field.table)
        rng = np.random.default_rng([seed, 5])
        shocks = jnp.asarray(rng.standard_normal((1, steps, *z.shape)), z.dtype)
        one = jnp.ones(1, z.dtype)
        pairs = Pairs(
            z[None], shocks, start * one, span / steps * one, z[None, :1], one[:, None], one, 0.0 * one,
            jax.tree.map(lambda leaf: leaf[None], acting),
        )  # fmt: skip
        arrived = np.asarray(_pushed(self.network, pairs))[0]
        if not np.isfinite(arrived).all():
            raise PinnsimError.of("E_SOLVER", f"Embeddings left all bounds in {steps} steps; raise `steps`.")
        return Arrival(arrived, self.decode(arrived, exposure), self.sample(arrived, exposure, seed=seed))

    def out_of_domain(
        self, values: ArrayLike, exposure: ArrayLike | None = None, *, missing: Sequence[str] = ()
    ) -> OutOfDomain:
        """How unlike the training cells each cell is; see `pinnsim.latent.domain`.

        **Arguments:** `values`, `exposure`: cells; `missing`: names of readings that this data set does not have; what
        stands in their columns is not read. They are left out for all cells alike, so that their absence is no part of
        the score; what is left may tell little.

        **Warns** `W_READINGS_MISSING` where more than half of the readings are missing.

        **Raises** as `encode`, and `E_GENE_UNMATCHED` for missing readings that the model does not have, `E_DATA_EMPTY`
        where all of them are missing.
        """
        unknown = [name for name in missing if name not in self.readings]
        if unknown:
            raise PinnsimError.of(
                "E_GENE_UNMATCHED",
                f"{len(unknown)} of {len(missing)} missing readings are none of the model's ({first(unknown)}); it has "
                f"{first(self.readings)}. Name those of the model that the data lack.",
            )
        seen = np.array([name not in set(missing) for name in self.readings], dtype=float)
        if not seen.any():
            raise PinnsimError.of("E_DATA_EMPTY", "All readings are missing; nothing tells these cells apart.")
        if seen.mean() < 0.5:
            warn(
                "W_READINGS_MISSING",
                f"{int((seen == 0).sum())} of {len(seen)} readings are missing; cells of other kinds may pass for "
                "cells that belong. Measure more of them, or train on those that both data sets have.",
            )
        table = np.asarray(values, dtype=float)
        if table.ndim == 2 and table.shape[1] == len(seen):
            table = np.where(seen > 0, table, 0.0)
        table, size = self._checked(table, exposure)
        return scored(self.network, self.domain, table, size, seen)

    def in_domain(
        self,
        values: ArrayLike,
        exposure: ArrayLike | None = None,
        *,
        level: float = 0.05,
        missing: Sequence[str] = (),
    ) -> np.ndarray:
        """Which cells belong, (cell,): `p > level`, which leaves out at most that share of cells like those that it
        was trained on. **Warns** and **raises** as `out_of_domain`."""
        return self.out_of_domain(values, exposure, missing=missing).p_value > level

    def _checked(self, values: object, exposure: object) -> tuple[np.ndarray, np.ndarray]:
        return checked(values, exposure, self.readings, self.network.decoder.counted)

    def _placed(self, embeddings: object, exposure: object) -> tuple[Array, Array]:
        z = np.asarray(embeddings, dtype=float)
        size = np.ones(z.shape[:1]) if exposure is None else np.asarray(exposure, dtype=float)
        if z.ndim != 2 or z.shape[1] != self.plan.dimension or size.shape != z.shape[:1]:
            raise PinnsimError.of(
                "E_DATA_SHAPE",
                f"Embeddings {z.shape} must be (cell, {self.plan.dimension}), with a size factor each ({size.shape}).",
            )
        return jnp.asarray(z, dtype=float), jnp.asarray(size, dtype=float)


@eqx.filter_jit
def _decoded(network: LatentNetwork, z: Array, size: Array) -> Array:
    return jax.vmap(resolve(network).decoder.mean)(z, size)


@eqx.filter_jit
def _drawn(network: LatentNetwork, z: Array, size: Array, keys: Array) -> Array:
    return jax.vmap(resolve(network).decoder.draw)(z, size, keys)


@eqx.filter_jit
def _pushed(network: LatentNetwork, pairs: Pairs) -> Array:
    return push_pairs(resolve(network).field, pairs).cells
