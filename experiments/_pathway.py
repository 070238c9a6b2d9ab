"""A steady-state model of kinases under inhibitors: a signed saturating network with its read-out integrated out.

Activities k of the drugs' targets, relative to untreated cells, rest where

    k = tanh(u + W k),                 u: the drugs' direct inputs (activity of a target alone: tanh u),

with W non-zero on listed edges only, each of the listed sign and a log-normal strength. A measured log ratio, in units
of the measurement's own size over what is fitted, is

    y_i = sum_j C_ij k_j + c_i load + noise,      load: summed direct activities, what any inhibitor does to a cell,
    C_ij ~ Normal(gain sign_ij, spread) with sign_ij of the listed read-outs, else 0;    c_i ~ Normal(0, common).

C and c are integrated out exactly, and the strengths maximise the marginal likelihood times their prior, so that they
are few unknowns against all readings. A drug that was never seen keeps the listed read-outs of its target, acts through
edges that other drugs have measured, and gets the common effect: what additive models lack.

Sources: E. Molinelli et al., PLoS Comput. Biol. 9:e1003290 (2013), and B. Yuan et al., Cell Systems 12:128 (2021), for
saturating networks at rest; C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 3.5.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float

ITERATIONS = 30  # of the resting state, each halving the distance at least while weights into a node sum to below 1
STRENGTH, STRENGTH_SD = -1.2, 0.5  # log-normal prior of an edge's strength: 0.3, within 1.6-fold
TINY = 1e-3  # of the typical size of a measurement: what is smaller does not vary


class Pathway(NamedTuple):
    """Listed edges and read-outs: `sign`, (target, source), of edges between activities; `listed`, (measured,
    activity), sign of read-outs; 0 where none."""

    sign: Float[Array, "activity activity"]
    listed: Float[Array, "measured activity"]


class Beliefs(NamedTuple):
    """The read-outs' prior, chosen by inner validation; all in units of a measurement's size."""

    gain: Float[Array, ""]
    spread: Float[Array, ""]
    common: Float[Array, ""]
    noise: Float[Array, ""]


def activities(strength: Array, sign: Array, inputs: Array) -> Array:
    """Resting activities of every condition and the load, (condition, activity + 1); `strength` in logs."""
    weights = jnp.exp(strength) * sign
    alone = jnp.tanh(inputs)

    def step(k: Array, _: None) -> tuple[Array, None]:
        return 0.5 * (k + jnp.tanh(inputs + k @ weights.T)), None

    k, _ = jax.lax.scan(step, alone, None, length=ITERATIONS)
    return jnp.concatenate([k, jnp.sum(alone, axis=1, keepdims=True)], axis=1)


def read_out(
    k: Array, listed: Array, beliefs: Beliefs, measured: Array, fitted: Array
) -> tuple[Float[Array, "measured column"], Float[Array, ""]]:
    """The read-outs' posterior mean and the log marginal likelihood of what is fitted, up to a constant.

    **Arguments:** `k`: (condition, activity + 1), from `activities`; `measured`: (condition, measured), scaled.
    """
    mean = jnp.concatenate([beliefs.gain * listed, jnp.zeros((len(listed), 1), k.dtype)], axis=1)
    spread = jnp.append(jnp.broadcast_to(beliefs.spread, (listed.shape[1],)), beliefs.common)
    weight = fitted.astype(k.dtype)[:, None]
    left = weight * (measured - k @ mean.T)
    # In units of the prior's spread the precision is I + S G S / variance: never singular, and the same for every row.
    variance = beliefs.noise**2
    precision = jnp.eye(len(spread)) + spread[:, None] * (k.T @ (weight * k)) * spread[None] / variance
    pull = spread[:, None] * (k.T @ left) / variance
    inverse, log_determinant = inverted(precision)
    moved = inverse @ pull
    log = -0.5 * (jnp.sum(left**2) / variance - jnp.sum(pull * moved) + len(mean) * log_determinant)
    return mean + (spread[:, None] * moved).T, log


def inverted(matrix: Float[Array, "row row"]) -> tuple[Float[Array, "row row"], Float[Array, ""]]:
    """Inverse and log determinant of a positive definite matrix by Gauss and Jordan's elimination, with their first
    derivatives.

    In whole arrays over all lanes at once, since batches of LAPACK's factors in a loop are suspected of standing still
    for ever where XLA's pool has two threads. Positive definite matrices need no exchange of rows.
    """
    fixed = jax.lax.stop_gradient(matrix)
    size = len(matrix)

    def eliminate(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, log = carry
        here = jnp.arange(size) == k
        pivot = rows[k, k]
        row = jnp.where(here, 1.0, rows[k]) / pivot
        others = jnp.where(here[None], 0.0, rows) - rows[:, k, None] * row[None]
        return jnp.where(here[:, None], row[None], others), log + jnp.log(pivot)

    inverse, log = jax.lax.fori_loop(0, size, eliminate, (fixed, jnp.zeros((), matrix.dtype)))
    # One step of Newton's iteration for the inverse changes its value by rounding alone, and has the derivative
    # -A^-1 dA A^-1; that of the log determinant is tr(A^-1 dA).
    return 2.0 * inverse - inverse @ matrix @ inverse, log + jnp.sum(inverse * (matrix - fixed))


@eqx.filter_jit
def fit_and_predict(
    pathways: Pathway,
    beliefs: Beliefs,
    inputs: Float[Array, "condition activity"],
    measured: Float[Array, "condition measured"],
    fitted: Bool[Array, "lane condition"],
    keys: Array,
    steps: int,
) -> tuple[Float[Array, "lane start condition measured"], Float[Array, "lane start"], Float[Array, "lane start ..."]]:
    """Every lane (a split, a network, beliefs) from every start, as one program: predictions of all conditions, log
    posteriors, and log strengths, (lane, start, activity, activity).

    **Arguments:** `pathways`, `beliefs`: with a leading lane axis; `fitted`: the conditions that a lane may see;
    `keys`: one per start, the same for all lanes; `steps`: of BFGS, at most.
    """

    def one(pathway: Pathway, beliefs: Beliefs, fitted: Array, key: Array) -> tuple[Array, Array, Array]:
        weight = fitted.astype(measured.dtype)[:, None]
        own = jnp.sqrt(jnp.sum(weight * measured**2, axis=0) / jnp.sum(weight))
        size = jnp.maximum(own, TINY * jnp.sqrt(jnp.mean(own**2)))
        there = jnp.abs(pathway.sign)

        def cost(strength: Array, _: None) -> Array:
            k = activities(strength, pathway.sign, inputs)
            _, log = read_out(k, pathway.listed, beliefs, measured / size[None], fitted)
            return 0.5 * jnp.sum(((strength - STRENGTH) / STRENGTH_SD) ** 2) - log

        start = STRENGTH + STRENGTH_SD * there * jax.random.normal(key, there.shape, measured.dtype)
        found = optx.minimise(cost, optx.BFGS(rtol=1e-5, atol=1e-5), start, max_steps=steps, throw=False).value
        k = activities(found, pathway.sign, inputs)
        readout, _ = read_out(k, pathway.listed, beliefs, measured / size[None], fitted)
        return (k @ readout.T) * size[None], -cost(found, None), found

    def lane(inputs: tuple[Pathway, Beliefs, Array]) -> tuple[Array, Array, Array]:
        return jax.vmap(one, in_axes=(None, None, None, 0))(*inputs, keys)

    # In groups: memory stays bounded, and a group ends when its own lanes have.
    return jax.lax.map(lane, (pathways, beliefs, fitted), batch_size=66)
