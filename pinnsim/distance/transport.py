"""Entropic optimal transport on a cost matrix: Sinkhorn's iterations, in the kernel, without underflow.

    OT = min over P >= 0 of <P, C> + eps KL(P | a b') + rho KL(P 1 | a) + rho KL(P' 1 | b),
    KL(p | q) = sum p log(p / q) - p + q,

with rho infinite where marginals are given (balanced). Its dual, in potentials f and g,

    D(f, g) = sum a phi(f) + sum b phi(g) - eps sum a b' (exp((f + g - C) / eps) - 1),
    phi(f) = rho (1 - exp(-f / rho)), or f,

is maximised by turns, f = -tau eps log sum_j b_j exp((g_j - C_ij) / eps) with tau = 1 / (1 + eps / rho).

*Stable.* Large parts of f and g are absorbed into the kernel `K = exp((f + g - C) / eps)`, first lowered so that the
largest entry of every row and column is 1; what is left are scalings u = exp(.), bounded by re-absorption, of which two
products with K per iteration are all the work. Nothing underflows that matters, at any eps, because entries of K that
do are below exp(-300) of what they are added to (single precision: exp(-25)). *Annealed*: eps falls to its value by
stages. *Overrelaxed*: log u moves omega times as far; omega comes from the observed rate of the errors, as in Young's
theory of successive overrelaxation, and is 1 again where that does not help.

Sources: B. Schmitzer, SIAM J. Sci. Comput. 41:A1443 (2019), for absorption and eps scaling; L. Chizat et al., Math.
Comput. 87:2563 (2018), for unbalanced problems; A. Thibault et al., Algorithms 14:143 (2021), for overrelaxation;
J. Feydy et al., AISTATS (2019), for the averaged iterations of a population with itself.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.distance.cost import Pairs
from pinnsim.distance.distance import OtherWeights, Weights
from pinnsim.shapes import Scalar

_PERIOD = 10  # iterations between two looks at the rate
_STAGE = 20  # iterations of a stage of annealing, at the most
_ROUGH = 0.05  # error at which a stage of annealing is good enough
_FASTEST = 1.95  # omega, at the most
_REACH = {4: 25.0, 8: 200.0}  # largest |log u| before it is absorbed, by bytes of the number


class Limits(eqx.Module):
    """When to stop, and where to start: `tolerance` of the marginals, in shares of the mass; `most` iterations;
    `first`: the eps at which annealing starts; `decay`, from stage to stage."""

    tolerance: Scalar
    most: Int[Array, ""]
    first: Scalar
    decay: Scalar


class Potentials(NamedTuple):
    """Dual potentials, 0 where the weight is 0; the error of the marginals, in shares of the mass (unbalanced: of the
    conditions that take their place); iterations."""

    f: Float[Array, " cell"]
    g: Float[Array, " other"]
    error: Scalar
    iterations: Int[Array, ""]


class _Round(NamedTuple):
    """Carried from absorption to absorption."""

    f: Array
    g: Array
    eps: Scalar
    error: Scalar
    iterations: Array
    done: Array


class _Turn(NamedTuple):
    """Carried from iteration to iteration: log scalings, overrelaxation, the error at the last look."""

    u: Array
    v: Array
    error: Scalar
    seen: Scalar
    omega: Scalar
    iterations: Array


def solve(cost: Pairs, a: Weights, b: OtherWeights, eps: Scalar, rho: Scalar, limits: Limits) -> Potentials:
    """Potentials between two populations.

    **Arguments:** `cost`: (cell, other), finite; `a`: (cell,), `b`: (other,), weights >= 0, of equal totals where
    `rho` is infinite; `eps`, `rho`: in units of the cost; `limits`.

    **Returns** potentials; `error` is above the tolerance, or NaN, where the iterations ran out or left the numbers.
    """
    kind = cost.dtype
    here, there = a > 0, b > 0
    mass = jnp.maximum(jnp.maximum(jnp.sum(a), jnp.sum(b)), jnp.finfo(kind).tiny)
    reach = jnp.asarray(_REACH[kind.itemsize], kind)

    def unfinished(carry: _Round) -> Array:
        return ~carry.done & (carry.iterations < limits.most) & (jnp.isfinite(carry.error) | (carry.iterations == 0))

    def one_round(carry: _Round) -> _Round:
        eps_now, final = carry.eps, carry.eps <= eps
        tau = 1.0 / (1.0 + eps_now / rho)
        # Absent points have potential -inf: they are in no maximum, and their kernel is 0.
        f, g = jnp.where(here, carry.f, -jnp.inf), jnp.where(there, carry.g, -jnp.inf)
        low = _finite(jnp.max(f[:, None] + g[None, :] - cost, axis=1))
        f = f - low
        right = _finite(jnp.max(f[:, None] + g[None, :] - cost, axis=0))
        g = g - right
        kernel = jnp.exp((f[:, None] + g[None, :] - cost) / eps_now)
        # Zero in the balanced case, where what is absorbed does not pull.
        pull_u = jnp.where(here, (1.0 - tau) * f / eps_now, 0.0)
        pull_v = jnp.where(there, (1.0 - tau) * g / eps_now, 0.0)
        goal = jnp.where(final, limits.tolerance, jnp.maximum(limits.tolerance, _ROUGH))
        most = jnp.where(final, limits.most, jnp.minimum(limits.most, carry.iterations + _STAGE))

        def going(turn: _Turn) -> Array:
            size = jnp.maximum(jnp.max(jnp.abs(turn.u)), jnp.max(jnp.abs(turn.v)))
            return (turn.error > goal) & (size < reach) & (turn.iterations < most)

        def turn_once(turn: _Turn) -> _Turn:
            du = jnp.where(here, -tau * _log(kernel @ (b * jnp.exp(turn.v))) - pull_u - turn.u, 0.0)
            u = turn.u + turn.omega * du
            dv = jnp.where(there, -tau * _log((a * jnp.exp(u)) @ kernel) - pull_v - turn.v, 0.0)
            v = turn.v + turn.omega * dv
            error = jnp.maximum(_left(a, du), _left(b, dv)) / mass
            count = turn.iterations + 1
            look = (count - carry.iterations) % _PERIOD == 0
            omega = jnp.where(look, _relaxation(turn.omega, error, turn.seen), turn.omega)
            return _Turn(u, v, error, jnp.where(look, error, turn.seen), omega, count)

        bound = 0.5 * reach
        begin = _Turn(
            jnp.clip(low / eps_now, -bound, bound),
            jnp.clip(right / eps_now, -bound, bound),
            jnp.asarray(jnp.inf, kind),
            jnp.asarray(jnp.inf, kind),
            jnp.ones((), kind),
            carry.iterations,
        )
        end = jax.lax.while_loop(going, turn_once, begin)
        f, g = (jnp.where(m, p + eps_now * s, 0.0) for m, p, s in ((here, f, end.u), (there, g, end.v)))
        ready = (end.error <= goal) | (end.iterations >= most)
        next_eps = jnp.where(ready, jnp.maximum(eps, eps_now * limits.decay), eps_now)
        return _Round(f, g, next_eps, end.error, end.iterations, final & (end.error <= goal))

    zero = jnp.zeros((), kind)
    first = jnp.maximum(eps, limits.first)
    begin = _Round(jnp.zeros_like(a), jnp.zeros_like(b), first, zero + jnp.inf, jnp.zeros((), int), jnp.zeros((), bool))
    end = jax.lax.while_loop(unfinished, one_round, begin)
    return Potentials(end.f, end.g, end.error, end.iterations)


def solve_self(cost: Pairs, a: Weights, eps: Scalar, rho: Scalar, limits: Limits) -> Potentials:
    """Potentials of a population with itself, `f = g`; arguments as for `solve`.

    The cost is 0 on the diagonal, so K_ii = 1 bounds the scalings, `sqrt(min a) <= u <= 1 / sqrt(min a)`: nothing needs
    absorbing. log u moves half of the way each time, which never oscillates.
    """
    kind, here = cost.dtype, a > 0
    mass = jnp.maximum(jnp.sum(a), jnp.finfo(kind).tiny)
    tau = 1.0 / (1.0 + eps / rho)
    kernel = jnp.exp(-cost / eps)

    def going(carry: tuple[Array, Array, Array]) -> Array:
        _, error, count = carry
        return (error > limits.tolerance) & (count < limits.most)

    def turn_once(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, _, count = carry
        du = jnp.where(here, -tau * _log(kernel @ (a * jnp.exp(u))) - u, 0.0)
        return u + 0.5 * du, _left(a, du) / mass, count + 1

    begin = (jnp.zeros_like(a), jnp.asarray(jnp.inf, kind), jnp.zeros((), int))
    u, error, count = jax.lax.while_loop(going, turn_once, begin)
    f = jnp.where(here, eps * u, 0.0)
    return Potentials(f, f, error, count)


def dual_value(
    cost: Pairs,
    a: Weights,
    b: OtherWeights,
    eps: Scalar,
    rho: Scalar,
    f: Float[Array, " cell"],
    g: Float[Array, " other"],
) -> Scalar:
    """D(f, g). At the maximum its derivatives by everything but f and g are those of OT (the envelope theorem), so
    potentials are passed as constants."""
    f, g = jax.lax.stop_gradient((f, g))
    here, there = a > 0, b > 0
    exponent = jnp.where(here[:, None] & there[None, :], f[:, None] + g[None, :] - cost, 0.0) / eps
    kernel = jnp.exp(exponent)
    mass = jnp.sum(a * (kernel @ b)) - jnp.sum(a) * jnp.sum(b)
    return jnp.sum(a * _phi(f, rho)) + jnp.sum(b * _phi(g, rho)) - eps * mass


def _phi(f: Array, rho: Scalar) -> Array:
    given = jnp.isinf(rho)
    finite = jnp.where(given, 1.0, rho)
    return jnp.where(given, f, -finite * jnp.expm1(-f / finite))


def _finite(highest: Array) -> Array:
    """0 where there is no pair to take the highest of."""
    return jnp.where(jnp.isfinite(highest), highest, 0.0)


def _log(sums: Array) -> Array:
    """log, of sums that are 0 for absent points only."""
    return jnp.log(jnp.where(sums > 0, sums, 1.0))


def _left(weights: Array, change: Array) -> Scalar:
    """Distance of a marginal from its own: of given marginals, `sum |P 1 - a|`."""
    return jnp.sum(weights * jnp.abs(jnp.expm1(-change)))


def _relaxation(omega: Scalar, error: Scalar, seen: Scalar) -> Scalar:
    """The next omega, from how the error fell over a period at the present one.

    An iteration at omega shrinks the error by lambda, with (lambda + omega - 1)^2 = lambda omega^2 theta; theta is that
    of plain iterations, and omega = 2 / (1 + sqrt(1 - theta)) is best.
    """
    rate = jnp.clip((error / seen) ** (1.0 / _PERIOD), 0.0, 1.0)
    theta = jnp.clip((rate + omega - 1.0) ** 2 / jnp.maximum(rate * omega**2, 1e-12), 0.0, 1.0)
    better = jnp.minimum(2.0 / (1.0 + jnp.sqrt(1.0 - theta)), _FASTEST)
    # The first look has nothing to compare with; and an error that grew says that omega was too large.
    return jnp.where(jnp.isfinite(seen) & (error < seen), jnp.maximum(better, 1.0), 1.0)
