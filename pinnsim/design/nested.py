"""Information of an experiment about which member of an ensemble is right, without linear models: nested Monte Carlo.

    EIG = E_k E_y|k [ log p(y | k) - log 1/m sum_j p(y | j) ],        y = f_k + sd_k eps / sqrt(replicates),

over draws (k, eps) that all candidates share (common random numbers). For the m members given the inner sum is exact,
so that only the draws are random; the result lies between 0 and log m, and is near log m where members are too few to
tell apart the candidates.

Source: K. J. Ryan, J. Comput. Graph. Stat. 12:585 (2003); X. Huan and Y. Marzouk, J. Comput. Phys. 232:288 (2013).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pinnsim.design.experiments import Layout
from pinnsim.design.parts import in_parts

_SIDE_BY_SIDE = 8  # candidates


class Nested(NamedTuple):
    """Information in nats and its standard error over draws, (candidate,)."""

    gain: Float[Array, " candidate"]
    error: Float[Array, " candidate"]


@eqx.filter_jit
def nested_gains(
    predicted: Float[Array, "member treatment time gene"],
    sd: Float[Array, "member treatment time gene"],
    usable: Array,
    layout: Layout,
    key: PRNGKeyArray,
    draws: int,
) -> Nested:
    """The information of every candidate, NaN where a member could not be solved.

    **Arguments:** `predicted`, `sd`: of each member; `usable`: (treatment,); `draws`: of the outer mean, in turn from
    each member.
    """
    members, reading = predicted.shape[0], layout.read.shape[1]
    owner = jnp.arange(draws) % members
    noise = jax.random.normal(key, (draws, reading), predicted.dtype)

    def one(number: Int[Array, ""]) -> Nested:
        treatment, time, gene = layout.treatment[number], layout.time[number], layout.gene[number]
        mean, width = (a[:, treatment, time, gene] for a in (predicted, sd))
        width = width / jnp.sqrt(layout.replicates[number])
        told = layout.read[number] & jnp.all((width > 0) & jnp.isfinite(width), axis=0)
        width = jnp.where(told[None, :], width, 1.0)
        seen = mean[owner] + width[owner] * noise

        def density(reading: Array) -> Array:
            z = (reading[None, :] - mean) / width
            return jnp.sum(jnp.where(told[None, :], -0.5 * z**2 - jnp.log(width), 0.0), axis=1)

        each = in_parts(density, seen, 256)
        told_of = each[jnp.arange(draws), owner] - jax.nn.logsumexp(each, axis=1) + jnp.log(float(members))
        good = usable[treatment]
        error = jnp.std(told_of) / jnp.sqrt(float(draws))
        return Nested(jnp.where(good, jnp.mean(told_of), jnp.nan), jnp.where(good, error, jnp.nan))

    return in_parts(one, jnp.arange(layout.treatment.shape[0]), _SIDE_BY_SIDE)
