"""Metabolic labelling (4sU): which RNA is new since the pulse, exactly, whatever transcription did meanwhile.

Old RNA is never made again, it only matures and decays. From the state at the start of a pulse of length T,

    u_old = u e^(-beta T),   s_old = s e^(-gamma T) + beta u (e^(-beta T) - e^(-gamma T)) / (gamma - beta),

and, without unspliced RNA in the model, m_old = m e^(-gamma T). New RNA is what there is less what is old. Of new
molecules a share `detected` carries enough label to be told apart:

    labelled = detected (total - old),   unlabelled = total - labelled.

Sources: C. Miller et al., Mol. Syst. Biol. 7:458 (2011), for the mRNA layer; X. Qiu et al., Cell 185:690 (2022), for
labelled RNA with splicing.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.parameter import Parameter
from pinnsim.shapes import PerGene, Scalar


class Labelling(eqx.Module):
    """A pulse of label, and how well it is seen. **Arguments:** `duration`: T, in the model's time unit; `detected`:
    share of new molecules that is recognised, in (0, 1], () or (gene,)."""

    duration: Scalar
    detected: Parameter

    def mature(self, total: PerGene, before: PerGene, decay: PerGene) -> tuple[PerGene, PerGene]:
        """Labelled and unlabelled RNA of a model without splicing, from `total` now and `before` the pulse."""
        return self._split(total, old_mature(before, decay, self.duration))

    def unspliced(self, total: PerGene, before: PerGene, splicing: PerGene) -> tuple[PerGene, PerGene]:
        """Labelled and unlabelled precursors."""
        return self._split(total, old_mature(before, splicing, self.duration))

    def spliced(
        self, total: PerGene, before: PerGene, unspliced_before: PerGene, splicing: PerGene, decay: PerGene
    ) -> tuple[PerGene, PerGene]:
        """Labelled and unlabelled spliced RNA."""
        return self._split(total, old_spliced(before, unspliced_before, splicing, decay, self.duration))

    def _split(self, total: PerGene, old: PerGene) -> tuple[PerGene, PerGene]:
        # Solver error can leave slightly less than what is old.
        labelled = jnp.broadcast_to(self.detected, total.shape) * jnp.maximum(total - old, 0.0)
        return labelled, total - labelled


def old_mature(before: PerGene, loss: PerGene, duration: Scalar) -> PerGene:
    """What is left of a layer that only loses, (gene,)."""
    return before * jnp.exp(-loss * duration)


def old_spliced(before: PerGene, unspliced: PerGene, splicing: PerGene, decay: PerGene, duration: Scalar) -> PerGene:
    """Spliced RNA made of precursors that were there before, and what is left of older, (gene,). `splicing` and `decay`
    may be equal."""
    made = splicing * unspliced * duration * jnp.exp(-decay * duration) * _mean_exp((decay - splicing) * duration)
    return old_mature(before, decay, duration) + made


def _mean_exp(x: Array) -> Array:
    """`(e^x - 1) / x`, 1 at 0, with its slope."""
    small = jnp.abs(x) < 1e-5
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1.0 + 0.5 * x, jnp.expm1(safe) / safe)
