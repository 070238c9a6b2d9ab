"""Several layers of a cell measured together: spliced and unspliced counts, RNA and protein.

A cell's layers are read by instruments of their own, each a readout and a likelihood, and given the cell their errors
are independent:

    log p = sum over layers of log p(readings | readout(layer)).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pinnsim.errors import PinnsimError
from pinnsim.observation.likelihood import Exposure, exposed
from pinnsim.observation.observe import Observation
from pinnsim.shapes import PerGene, Times

TOTAL = "total"  # of unspliced and spliced RNA, or of the RNA there is
_RNA = ("unspliced", "spliced", "mrna")

LayerReadings = Float[Array, "layer time gene"]
LayerMask = Bool[Array, "layer time gene"]


class Layered(eqx.Module):
    """One observation per layer. **Arguments:** `layers`: names of the model's layers, or "total" for all RNA of a
    gene; `observations`: in that order."""

    layers: tuple[str, ...] = eqx.field(static=True)
    observations: tuple[Observation, ...]

    def readings(self, states: Float[Array, "time species"], of: tuple[str, ...], genes: int) -> LayerReadings:
        """Expected readings per unit of exposure. `of`: the model's layers in the order of its state; `genes`: their
        number."""
        return jnp.stack(
            [
                jax.vmap(one.readout)(amounts(states, name, of, genes))
                for name, one in zip(self.layers, self.observations, strict=True)
            ]
        )

    def log_density(
        self,
        times: Times,
        readings: LayerReadings,
        predictions: LayerReadings,
        mask: LayerMask,
        measured_sd: LayerReadings,
        exposure: Exposure | None = None,
    ) -> PerGene:
        """Log density, (gene,); arguments as of a likelihood, with a leading layer axis. `exposure`: size factors,
        (time,), by which predictions are multiplied."""
        total = jnp.zeros(readings.shape[2], readings.dtype)
        for k, one in enumerate(self.observations):
            expected = exposed(predictions[k], exposure)
            total = total + one.likelihood.log_density(times, readings[k], expected, mask[k], measured_sd[k])
        return total


def amounts(states: Float[Array, "time species"], name: str, of: tuple[str, ...], genes: int) -> Array:
    """One layer of states, (time, gene). **Raises** `E_USAGE` for a layer that the model does not have."""
    wanted = [layer for layer in of if layer in _RNA] if name == TOTAL else [name]
    missing = [layer for layer in wanted if layer not in of]
    if missing or not wanted:
        raise PinnsimError.of(
            "E_USAGE",
            f"The model has no layer '{name}' to read; it has {', '.join(of)}. Choose one of them, or 'total'.",
        )
    return sum(states[:, of.index(k) * genes : (of.index(k) + 1) * genes] for k in wanted)  # type: ignore[return-value]
