"""Means and covariances as a result: what the linear noise approximation says of many cells at once."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from pinnsim.shapes import Times
from pinnsim.shown import Facts, as_html, as_text
from pinnsim.simulate.result import Advice, Outcome, is_hidden, outcome_variable, raise_failed, run_facts, state_nodes
from pinnsim.simulate.stationary import correlation_of

PerSpecies = Float[Array, "lane time species"]
PerPair = Float[Array, "lane time species species"]


class Moments(eqx.Module):
    """Mean and covariance of every lane.

    **Arguments:** `times`: (time,); `mean`: (lane, time, species), in abundance units; `covariance`: (lane, time,
    species, species), in abundance units squared; both NaN for lanes that failed; `outcome`: (lane,), see `Outcome`;
    `reached`: (lane,), the last time solved; `size`: Omega, molecules per abundance unit.
    """

    times: Times
    mean: PerSpecies
    covariance: PerPair
    outcome: Int[Array, " lane"]
    reached: Float[Array, " lane"]
    size: Float[Array, ""]
    lanes: tuple[str, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    stiffness: tuple[float, ...] = eqx.field(static=True)

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        return run_facts("Moments", self, ("holds", "mean and covariance of every species"))

    @property
    def done(self) -> Array:
        """(lane,), true where the lane reached its last time."""
        return self.outcome == Outcome.DONE

    def mean_of(self, species: str) -> Float[Array, "lane time"]:
        """Mean of one species, in abundance units."""
        return self.mean[..., self.species.index(species)]

    def covariance_of(self, one: str, other: str) -> Float[Array, "lane time"]:
        """Covariance of two species, in abundance units squared."""
        return self.covariance[..., self.species.index(one), self.species.index(other)]

    def variance(self) -> PerSpecies:
        """Variances, in abundance units squared."""
        return jnp.diagonal(self.covariance, axis1=-2, axis2=-1)

    def fano(self) -> PerSpecies:
        """Variance over mean of molecule numbers, `Omega Sigma_ii / mean_i`: 1 for Poisson numbers, NaN where nothing
        is expected and for hidden activities."""
        return jnp.where(self._present(), self.size * self.variance() / self._divisor(), jnp.nan)

    def noise(self) -> PerSpecies:
        """Coefficient of variation, standard deviation over mean, the same in every unit; NaN as in `fano`."""
        return jnp.where(self._present(), jnp.sqrt(jnp.maximum(self.variance(), 0.0)) / self._divisor(), jnp.nan)

    def correlation(self) -> PerPair:
        """Correlations of species at the same time, in [-1, 1]; NaN where a species does not fluctuate."""
        return correlation_of(self.covariance)

    def molecules(self) -> tuple[PerSpecies, PerPair]:
        """Mean and covariance of molecule numbers, `Omega mean` and `Omega^2 Sigma`."""
        return self.size * self.mean, self.size**2 * self.covariance

    def _present(self) -> Array:
        return (self.mean > 0) & ~jnp.asarray(is_hidden(self.species))[None, None, :]

    def _divisor(self) -> PerSpecies:
        return jnp.where(self._present(), self.mean, 1.0)

    def raise_failures(self, advice: Advice | None = None) -> "Moments":
        """Raises `E_SOLVER` naming every failed lane, its last time and the way out (that of `advice`, where it has
        one); returns itself when all lanes are done."""
        raise_failed(self.lanes, self.outcome, self.reached, self.stiffness, self.time_unit, advice)
        return self

    def to_xarray(self) -> xr.DataTree:
        """A tree with `abundance` (lane, time, species) as mean and `hidden` activities where the model has them,
        `moments` (`covariance` of all pairs of abundances, `fano`, `noise`), `outcome` and `size`, with units."""
        lanes = {"lane": list(self.lanes)}
        coords: dict[str, object] = {**lanes, "time": ("time", np.asarray(self.times), {"units": self.time_unit})}
        root = xr.Dataset(
            {
                "outcome": outcome_variable(("lane",), self.outcome),
                "size": ((), np.asarray(self.size), {"units": "molecules per relative abundance"}),
            },
            coords=lanes,
        )
        kept = ~is_hidden(self.species)
        names = [name for name, keep in zip(self.species, kept, strict=True) if keep]
        dims = ("lane", "time", "species")
        spread = xr.Dataset(
            {
                "covariance": (
                    (*dims, "other"),
                    np.asarray(self.covariance)[..., kept, :][..., kept],
                    {"units": "relative abundance squared"},
                ),
                "fano": (dims, np.asarray(self.fano())[..., kept], {"units": "1, of molecule numbers"}),
                "noise": (dims, np.asarray(self.noise())[..., kept], {"units": "1, standard deviation over mean"}),
            },
            coords={**coords, "species": names, "other": names},
        )
        parts = state_nodes(np.asarray(self.mean), ("lane", "time"), coords, self.species)
        return xr.DataTree.from_dict({"/": root, **parts, "/moments": spread})
