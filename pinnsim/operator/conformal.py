"""How far off an operator's answer may be: doubts turned into a bound that holds for a stated share of the domain.

An answer carries doubts (what its last sweep moved, how much it bends between nodes). On solver runs drawn from the
domain, one half fits a power law of the error, and the other half says how often it is exceeded (split conformal):

    scale(doubts) = exp(w_0 + w_1 log sweep + w_2 log bend),
    bound = q scale,      q = the ceil((n + 1) level)-th smallest of error / scale among n.

Then a fresh draw from the domain has `error <= bound` with probability at least `level`, and at most `level + 1 / (n +
1)`, whatever the error's distribution, however badly the power law fits: a bad fit costs width, not coverage. The
probability is over draws from the domain; outside it, nothing is promised, which is why nothing is certified there.

Source: J. Lei et al., J. Am. Stat. Assoc. 113:1094 (2018), section 5.2, locally weighted split conformal.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.errors import PinnsimError
from pinnsim.parameter import Parameter, frozen
from pinnsim.shapes import Scalar

_LEAST = 1e-9  # doubts and errors below that are rounding
_RIDGE = 1e-3


class Conformal(eqx.Module):
    """**Arguments:** `weights`: (1 + doubt,), of the power law; `factor`: q; `level`: share of the domain."""

    weights: Parameter
    factor: Parameter
    level: Parameter

    def bound(self, doubts: Float[Array, " doubt"]) -> Scalar:
        """On the relative error of one answer."""
        kind = doubts.dtype
        logs = jnp.log(jnp.maximum(doubts, _LEAST))
        weights, factor = (jnp.asarray(value, kind) for value in (self.weights, self.factor))
        return factor * jnp.exp(weights[0] + jnp.sum(weights[1:] * logs))


def calibrate(doubts: np.ndarray, errors: np.ndarray, level: float = 0.9) -> Conformal:
    """**Arguments:** `doubts`: (lane, doubt) and `errors`: (lane,), of answers to lanes drawn independently from one
    domain; `level`: in (0, 1).

    **Raises** `E_USAGE` for fewer lanes than the level needs, or numbers that are not finite.
    """
    doubts, errors = np.asarray(doubts, dtype=float), np.asarray(errors, dtype=float)
    half = len(errors) // 2
    needed = math.ceil((len(errors) - half + 1) * level)
    if not (0 < level < 1) or half < 4 or needed > len(errors) - half or not np.isfinite(errors).all():
        raise PinnsimError.of(
            "E_USAGE",
            f"A bound that holds for {level:g} of a domain needs finite errors of at least "
            f"{max(8, 2 * math.ceil(level / max(1 - level, 1e-9)))} lanes, but got {len(errors)}; draw more.",
        )
    weights = _power_law(doubts[:half], errors[:half])
    plain = Conformal(frozen(weights), frozen(1.0), frozen(level))
    scale = np.exp(weights[0] + np.log(np.maximum(doubts[half:], _LEAST)) @ weights[1:])
    return eqx.tree_at(lambda c: c.factor, plain, frozen(conformal_quantile(errors[half:] / scale, level)))


def conformal_quantile(ratios: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n numbers; infinite where there are too few.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.5)
    5.0
    """
    rank = math.ceil((len(ratios) + 1) * level)
    return float(np.sort(ratios)[rank - 1]) if rank <= len(ratios) else math.inf


def _power_law(doubts: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Least squares of log error by log doubts, slopes held at >= 0: more doubt never means a smaller bound."""
    logs, target = np.log(np.maximum(doubts, _LEAST)), np.log(np.maximum(errors, _LEAST))
    free = np.ones(logs.shape[1], bool)
    for _ in range(logs.shape[1] + 1):
        x = np.where(free[None], logs - logs.mean(axis=0), 0.0)
        slopes = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (target - target.mean()))
        if (slopes >= 0).all():
            break
        free &= slopes > 0
    slopes = np.where(free, np.maximum(slopes, 0.0), 0.0)
    return np.concatenate([[target.mean() - logs.mean(axis=0) @ slopes], slopes])


def trajectory_error(
    found: Float[Array, "*lane time species"],
    exact: Float[Array, "*lane time species"],
    floor: Float[Array, " species"],
) -> Float[Array, "*lane"]:
    """The worst relative error of a trajectory: `max |x - x*| / (x* + floor)` over its times and species (absolute for
    hidden activities, whose floor is 0)."""
    lead = (1,) * (found.ndim - 1)
    below = jnp.reshape(floor, (*lead, -1)).astype(found.dtype)
    scale = jnp.where(below > 0, jnp.abs(exact) + below, 1.0)
    return jnp.max(jnp.abs(found - exact) / scale, axis=(-2, -1))
