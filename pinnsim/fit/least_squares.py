"""Damped Gauss-Newton for residuals with noise that is kept: forward derivatives, a few columns at a time.

    minimise |r(theta)|^2 / 2 + |(theta - prior) / sd|^2 / 2,      (J'J + 1 / sd^2 + mu diag(J'J)) step = -gradient

mu falls to a fifth after a step that helped and rises fourfold after one that did not (Marquardt). One program
evaluates r and J together; the small linear algebra happens on the host, where a step can be saved, shown and
interrupted. Where J is not finite no step can be told from another, and the fit ends there, saying so.

Source: D. Marquardt, J. SIAM 11:431 (1963).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from tqdm import tqdm

from pinnsim.errors import PinnsimError
from pinnsim.store import load_arrays, save_arrays
from pinnsim.tree import digest

T = TypeVar("T")

_COLUMNS = 12  # of the Jacobian at once, at the most: what is held in memory
_FIRST, _FALL, _RISE, _MOST = 1.0, 0.2, 4.0, 1e8
_ENOUGH = 1e-4  # a step that lowers the value by a smaller share is the last one


class Squares(NamedTuple):
    """`given`: what residuals need beside the parameters; `sd`: prior spread, of every parameter or (parameter,);
    `prior`: its centre (default: where the fit begins)."""

    given: Any
    sd: Array
    prior: Any = None


@dataclasses.dataclass(frozen=True)
class Minimum(Generic[T]):
    """Where it ended: parameters (a tree, and as a vector), |r|^2 / 2 with its prior, the inverse of its curvature, and
    whether derivatives were finite (where they were not, the fit went no further and its curvature is the prior's)."""

    parameters: T
    vector: np.ndarray
    value: float
    covariance: np.ndarray
    steps: int
    converged: bool
    interrupted: bool
    finite: bool = True


def least_squares(
    residuals: Callable[[T, Any], Array],
    start: T,
    squares: Squares,
    *,
    most: int,
    bar: tqdm,
    checkpoint: Path | None = None,
) -> Minimum[T]:
    """Minimises a sum of squares.

    **Arguments:** `residuals`: a function of the module's own (not a fresh closure, which would compile anew) of
    parameters and `squares.given`; `start`: a tree of arrays, `None` elsewhere; `most`: steps; `checkpoint`: a file
    that is written after every step and gone on from.

    **Raises** `E_CKPT_MODEL` for a checkpoint of another problem.
    """
    begin, back = ravel_pytree(start)
    theta = np.array(begin)
    centre: np.ndarray = theta if squares.prior is None else np.array(ravel_pytree(squares.prior)[0])
    precision = np.broadcast_to(1.0 / np.asarray(squares.sd, dtype=float) ** 2, theta.shape)
    identity = {"problem": digest((squares, centre))}
    mu, done, converged = _FIRST, 0, False
    if checkpoint is not None and checkpoint.exists():
        theta, mu, done, converged = _resume(checkpoint, identity)
        bar.update(done)

    def value_of(point: np.ndarray) -> float:
        r = np.asarray(values(residuals, back(jnp.asarray(point)), squares.given))
        return float(0.5 * (r @ r) + 0.5 * (precision * (point - centre) ** 2).sum())

    interrupted, finite, value = False, True, value_of(theta)
    curvature, gradient = np.diag(precision), np.zeros(len(theta))
    try:
        fresh = True
        while done < most and not converged and np.isfinite(value):
            if fresh:
                r, jacobian = (np.asarray(a) for a in _derivatives(residuals, jnp.asarray(theta), start, squares.given))
                finite = bool(np.isfinite(jacobian).all())
                if not finite:
                    curvature = np.diag(precision)
                    break
                curvature = jacobian.T @ jacobian + np.diag(precision)
                gradient = jacobian.T @ r + precision * (theta - centre)
            step = np.linalg.solve(curvature + mu * np.diag(np.diag(curvature)), -gradient)
            tried = value_of(theta + step)
            fresh = bool(tried < value)
            if fresh:
                converged = value - tried < _ENOUGH * value
                theta, value, mu = theta + step, tried, max(mu * _FALL, 1e-6)
            else:
                mu *= _RISE
                converged = mu > _MOST
            done += 1
            bar.update(1)
            bar.set_postfix_str(f"{value:.1f} nats")
            if checkpoint is not None:
                state = {"theta": theta, "mu": np.array(mu), "done": np.array(done), "converged": np.array(converged)}
                save_arrays(checkpoint, state, identity)
        if finite and np.isfinite(value):
            last = np.asarray(_derivatives(residuals, jnp.asarray(theta), start, squares.given)[1])
            finite = bool(np.isfinite(last).all())
            curvature = (last.T @ last if finite else 0.0) + np.diag(precision)
    except KeyboardInterrupt:
        interrupted = True
    ended: T = back(jnp.asarray(theta))
    return Minimum(ended, theta, value, np.linalg.inv(curvature), done, converged, interrupted, finite)


def _resume(path: Path, identity: dict[str, str]) -> tuple[np.ndarray, float, int, bool]:
    arrays, meta = load_arrays(path)
    differing = [name for name, text in identity.items() if meta.get(name) != text]
    if differing:
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"Checkpoint '{path.name}' was written by another fit (its {' and '.join(differing)} differ); give another "
            "checkpoint name, or delete it to start anew.",
        )
    return arrays["theta"], float(arrays["mu"]), int(arrays["done"]), bool(arrays["converged"])


@eqx.filter_jit
def values(residuals: Callable[[T, Any], Array], parameters: T, given: Any) -> Array:
    """r, (residual,)."""
    return residuals(parameters, given)


@eqx.filter_jit
def _derivatives(residuals: Callable[[T, Any], Array], theta: Array, like: T, given: Any) -> tuple[Array, Array]:
    """r, (residual,), and J, (residual, parameter)."""
    _, back = ravel_pytree(like)

    def of(vector: Array) -> Array:
        return residuals(back(vector), given)

    r, forward = jax.linearize(of, theta)
    count = theta.shape[0]
    chunks = -(-count // _COLUMNS)
    wide = -(-count // chunks)
    directions = jnp.zeros((chunks * wide, count), theta.dtype).at[:count].set(jnp.eye(count, dtype=theta.dtype))
    columns = jax.lax.map(jax.vmap(forward), directions.reshape(chunks, wide, count))
    return r, columns.reshape(-1, r.shape[0])[:count].T
