"""Readouts: from the cell's abundance to the number on the instrument, and back.

The array readout is log2 with a gene-wise offset and scale and saturation at both ends:

    z = offset + scale * log2(m),      w = log2(2^floor + 2^z),      y = ceiling - softplus(k (ceiling - w)) / k

with k = 2.

`floor` is the background intensity (additive on the linear scale), `ceiling` the scanner's limit, both in log2 units.
Intensities are relative: an offset says nothing about molecules.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene

_SHARPNESS = 2.0  # k: the bend at the ceiling is about one log2 unit wide, as in scanners' response curves
_MARGIN = 0.05  # log2: readings closer than this to a limit carry no information on the abundance beyond "at the limit"
_LEAST = 1e-12  # abundance whose logarithm stands for "none"


class AbstractReadout(eqx.Module):
    """A gene-wise monotone map from abundance to reading (threshold cycles fall, all others rise)."""

    @abc.abstractmethod
    def __call__(self, abundance: PerGene) -> PerGene:
        """Reading, (gene,), of abundance, (gene,), >= 0."""

    @abc.abstractmethod
    def invert(self, reading: PerGene) -> PerGene:
        """The abundance, >= 0, whose reading this is; readings outside the instrument's range are taken as at its
        limits."""


class IdentityReadout(AbstractReadout):
    """The reading is the abundance itself."""

    def __call__(self, abundance: PerGene) -> PerGene:
        return abundance

    def invert(self, reading: PerGene) -> PerGene:
        return jnp.maximum(reading, 0.0)


class ArrayReadout(AbstractReadout):
    """log2 intensity of an array, saturating at both ends (see the module's first lines).

    **Arguments:** `offset`, `scale`: (gene,), log2 intensity at abundance 1, and slope (1 = undistorted); `floor`,
    `ceiling`: scalars, log2 intensity.
    """

    offset: Parameter
    scale: Parameter
    floor: Parameter
    ceiling: Parameter

    def __call__(self, abundance: PerGene) -> PerGene:
        linear = self.offset + self.scale * jnp.log2(jnp.maximum(abundance, _LEAST))
        lifted = jnp.logaddexp2(jnp.broadcast_to(self.floor, linear.shape), linear)
        return self.ceiling - jax.nn.softplus(_SHARPNESS * (self.ceiling - lifted)) / _SHARPNESS

    def invert(self, reading: PerGene) -> PerGene:
        # The largest reading of the lowest abundance, so that inversion is exact between the margins.
        bounded = jnp.clip(reading, self.floor + _MARGIN, self.ceiling - _MARGIN)
        lifted = self.ceiling - jnp.log(jnp.expm1(_SHARPNESS * (self.ceiling - bounded))) / _SHARPNESS
        lifted = jnp.maximum(lifted, self.floor + _MARGIN / 2)
        linear = lifted + jnp.log1p(-jnp.exp2(self.floor - lifted)) / jnp.log(2.0)
        return jnp.exp2((linear - self.offset) / self.scale)


class LinearReadout(AbstractReadout):
    """`y = background + scale * abundance`: counts (the scale is what share of molecules is captured, or the expected
    count per unit of abundance in a sample of size factor 1), proteins in intensity units.

    **Arguments:** `scale`: (gene,), > 0; `background`: () or (gene,), >= 0, readings of nothing.
    """

    scale: Parameter
    background: Parameter

    def __call__(self, abundance: PerGene) -> PerGene:
        return jnp.broadcast_to(self.background, abundance.shape) + self.scale * abundance

    def invert(self, reading: PerGene) -> PerGene:
        return jnp.maximum(reading - jnp.broadcast_to(self.background, reading.shape), 0.0) / self.scale


class CycleReadout(AbstractReadout):
    """Threshold cycle of a quantitative PCR: `y = offset - log(abundance) / log(1 + efficiency)`.

    **Arguments:** `offset`: (gene,), the cycle at abundance 1; `efficiency`: () or (gene,), in (0, 1]: each cycle
    multiplies the product by 1 + efficiency; `limit`: the last cycle, which nothing is read beyond.

    Source: M. W. Pfaffl, Nucleic Acids Res. 29:e45 (2001).
    """

    offset: Parameter
    efficiency: Parameter
    limit: Parameter

    def __call__(self, abundance: PerGene) -> PerGene:
        cycles = jnp.log(jnp.maximum(abundance, _LEAST)) / jnp.log1p(self.efficiency)
        return self.offset - cycles

    def invert(self, reading: PerGene) -> PerGene:
        bounded = jnp.minimum(reading, jnp.broadcast_to(self.limit, reading.shape))
        return jnp.exp((self.offset - bounded) * jnp.log1p(self.efficiency))
