"""The Lyapunov equation `J X + X J' + B = 0`, and whether J is stable.

The Cayley transform with a pace c > 0 makes it a sum,

    X = sum_k A^k G A'^k,      A = (c - J)^-1 (c + J),      G = 2 c (c - J)^-1 B (c - J')^-1,

in which |A| < 1 exactly where J is stable; doubling, `X <- X + A X A'`, `A <- A^2`, sums 2^k terms in k steps. It needs
products of matrices only, so it runs and differentiates anywhere, and an unstable J shows as growth. The pace is the
geometric mean of the rates in J; residual corrections restore the digits that stiffness costs.

Source: R. A. Smith, SIAM J. Appl. Math. 16:198 (1968); doubling as in E. J. Davison and F. T. Man, IEEE Trans. Autom.
Control 13:448 (1968).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Square = Float[Array, "n n"]

_CORRECTIONS = 2
# Where rounding in J could change the solution by more than this share, J is as good as marginal.
_MARGIN = 1e-2


class LyapunovSolution(NamedTuple):
    """X, (n, n), symmetric, and whether J is stable; X is NaN where it is not."""

    solution: Square
    stable: Bool[Array, ""]


class _Cayley(NamedTuple):
    """Powers `A^(2^k)`, (doubling, n, n), and `sqrt(2 c) (c - J)^-1`."""

    powers: Float[Array, "doubling n n"]
    inverse: Square


def lyapunov(jacobian: Square, noise: Square) -> LyapunovSolution:
    """Solves `J X + X J' + B = 0` for symmetric B.

    Stable means: every eigenvalue of J has a negative real part, and more so than rounding could change (J with an
    exactly zero eigenvalue is never stable). The derivative is exact to any order; that of an unstable J is zero.
    """
    frozen = jax.lax.stop_gradient(jacobian)
    unit = jnp.eye(frozen.shape[0], dtype=frozen.dtype)
    cayley = _cayley(frozen)
    reach = _solved(frozen, cayley, unit)
    # |X| for B = 1 is the reach of the slowest mode, 1 / (2 |Re lambda|): rounding moves X by eps |J| |X|.
    rounding = jnp.finfo(frozen.dtype).eps * jnp.max(jnp.sum(jnp.abs(frozen), axis=1)) * jnp.max(jnp.abs(reach))
    gone = jnp.max(jnp.abs(cayley.powers[-1])) < 1e-3
    # A sum of positive terms is positive; what rounding made of it must be so too.
    positive = jnp.all(jnp.isfinite(reach)) & jnp.all(jnp.diagonal(reach) > 0)
    stable = gone & positive & (rounding < _MARGIN)
    # Numbers out of range would poison the gradients of other lanes.
    safe = jnp.where(stable, jacobian, -unit)
    known = jnp.where(stable, frozen, -unit)
    forward = jax.tree.map(lambda a: jnp.where(stable, a, 0.0), cayley)
    backward = jax.tree.map(lambda a: jnp.swapaxes(a, -1, -2), forward)

    def negative(solution: Square) -> Square:
        return -(safe @ solution + solution @ safe.T)

    def solve(_: object, right: Square) -> Square:
        return _solved(known, forward, right)

    def solve_transposed(_: object, right: Square) -> Square:
        return _solved(known.T, backward, right)

    found = jax.lax.custom_linear_solve(negative, noise, solve, solve_transposed)
    return LyapunovSolution(jnp.where(stable, 0.5 * (found + found.T), jnp.nan), stable)


def _cayley(jacobian: Square) -> _Cayley:
    count, dtype = jacobian.shape[0], jacobian.dtype
    doublings = math.ceil(math.log2(1.0 / float(jnp.finfo(dtype).eps)))
    unit = jnp.eye(count, dtype=dtype)
    pace = jnp.exp(jnp.linalg.slogdet(jacobian)[1] / count)
    pace = jnp.where(jnp.isfinite(pace) & (pace > 0), pace, 1.0)
    inverse = jnp.linalg.inv(pace * unit - jacobian)
    first = inverse @ (pace * unit + jacobian)
    _, powers = jax.lax.scan(lambda power, _: (power @ power, power), first, None, length=doublings)
    return _Cayley(powers, jnp.sqrt(2.0 * pace) * inverse)


def _solved(jacobian: Square, cayley: _Cayley, right: Square) -> Square:
    def once(right: Square) -> Square:
        begin = cayley.inverse @ right @ cayley.inverse.T
        return jax.lax.scan(lambda total, power: (total + power @ total @ power.T, None), begin, cayley.powers)[0]

    solution = once(right)
    for _ in range(_CORRECTIONS):
        solution = solution + once(jacobian @ solution + solution @ jacobian.T + right)
    return solution
