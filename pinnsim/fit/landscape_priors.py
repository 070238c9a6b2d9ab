"""What a fit of a landscape may move, and how far: prior spreads, each in the unit of what it is the spread of.

Heights of an energy count in units of the noise, but a swirl Q is an amount^2 per time, as D is, and a growth rate is
per time. One number for all of them would be no prior at all for a slow system and a stiff one for a fast system, so

    sd(energy, tilt, log D) = spread,    sd(Q) = swirl_spread x D,    sd(g) = growth_spread x rms of d ln(mass) / dt.

Where cells rest in a valley, any Q leaves their law as it is: the prior alone holds it there, and a weak one lets the
drift of resting cells be anything. Hidden layers of a network have no such unit; they keep `spread`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from pinnsim.dynamics.energies import Chebyshev
from pinnsim.dynamics.gradient import GradientField
from pinnsim.fit.landscape_pairs import Pairs
from pinnsim.parameter import resolve, trainable
from pinnsim.tree import path_name


def moves(field: GradientField, noise: bool = True) -> GradientField:
    """Flags of what a fit may move. A kinetic drift is what is known, and stays; without `noise`, D does too."""
    flags = trainable(field)
    if field.drift is not None:
        flags = eqx.tree_at(lambda f: f.drift, flags, jax.tree.map(lambda _: False, flags.drift))
    return flags if noise else eqx.tree_at(lambda f: f.diffusion, flags, jax.tree.map(lambda _: False, flags.diffusion))


def spreads_of(
    field: GradientField, flags: GradientField, pairs: Pairs, spread: float, swirl: float, growth: float
) -> Float[Array, " parameter"]:
    """Prior standard deviations of what `flags` move, in the order of `ravel_pytree`.

    **Arguments:** `spread`: in units of the noise; `swirl`: in units of the field's first D (its mean over
    coordinates); `growth`: in units of the measured rates of growth (root mean square over pairs).
    """
    steps = pairs.shocks.shape[1]
    rates = np.asarray(pairs.grown) / (np.asarray(pairs.step) * steps)
    known = rates[np.isfinite(rates)]
    usual = float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
    units = {"swirl": swirl * float(np.mean(np.asarray(resolve(field).diffusion)))}
    if usual > 0:
        units["growth"] = growth * usual
    deep = {part for part in units if _has_hidden_layers(getattr(field, part))}

    def of(path: tuple, leaf: Array) -> Array:
        part = path_name(path).split("/")[0]
        return jnp.full(leaf.shape, units[part] if part in units and part not in deep else spread, leaf.dtype)

    return ravel_pytree(jax.tree_util.tree_map_with_path(of, eqx.filter(field, flags)))[0]


def _has_hidden_layers(part: object) -> bool:
    """Whether a learned field is more than a sum of products whose weights have its unit."""
    inner = getattr(getattr(part, "upper", part), "inner", None)
    return inner is not None and not isinstance(inner, Chebyshev)
