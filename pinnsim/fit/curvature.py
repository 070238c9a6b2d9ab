"""The exact curvature of the data at a model, for small models.

    B = S (d2 cost / d theta2 - prior precision) S,     S = diag(sd_prior),

where Gauss and Newton drop the second derivatives of the predictions. Where residuals are large these matter, and B may
have negative eigenvalues: directions that the data widen, or, at -1 and below, along which the model is no minimum.
Through collocation a column is the tangent of a gradient (forward over reverse); through the solver, whose gradient has
no tangent, it is the tangent of all tangents (forward over forward), `free` times the cost of a column.

Source: B. A. Pearlmutter, Neural Computation 6:147 (1994), Hessian-vector products.
"""

import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from pinnsim.errors import PinnsimError, first
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.free import FreeVector, Vector
from pinnsim.fit.objective import Predictor, objective
from pinnsim.fit.plan import Settings
from pinnsim.model import ModelPrior
from pinnsim.shapes import Scalar

MOST = 200  # parameters
_BATCH = 8  # columns side by side
_LEADING = 3


def exact_curvature(
    free: FreeVector,
    prior: ModelPrior,
    data: Cultures,
    settings: Settings,
    predict: Predictor,
    scale: Vector,
    *,
    nested: bool,
    progress: bool,
) -> np.ndarray:
    """B, (free, free), in units of the prior's widths.

    **Arguments:** `predict`: `collocation_readings`, or with `nested` (forward over forward)
    `trajectory_readings_forward`; `scale`: (free,), widths.

    **Raises** `E_USAGE` for more than 200 parameters.
    """
    count = len(free.names)
    if count > MOST:
        raise PinnsimError.of(
            "E_USAGE",
            f"The exact Hessian is for up to {MOST} free parameters, and the model has {count}; use "
            "curvature='gauss-newton'.",
        )

    def columns(numbers: Array) -> Array:
        return _columns(free, prior, data, settings, predict, scale, numbers, nested)

    matrix = by_batches(columns, count, _BATCH, "exact Hessian", progress)
    return 0.5 * (matrix + matrix.T)


def by_batches(
    some: Callable[[Array], Any], count: int, batch: int, label: str, progress: bool, unit: str = "rate"
) -> Any:
    """`some(numbers)`, arrays with a row per number (of a parameter, a model; `unit`), for all numbers 0..count-1,
    `batch` at a time."""
    parts = []
    with tqdm(total=count, desc=label, unit=unit, disable=None if progress else True) as bar:
        for numbers in np.array_split(np.arange(count), -(-count // batch)):
            # Always as many, so that one program serves: what is too many is computed twice.
            rows = jax.tree.map(np.asarray, some(jnp.asarray(np.resize(numbers, batch))))
            parts.append(jax.tree.map(operator.itemgetter(slice(len(numbers))), rows))
            bar.update(len(numbers))
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


@eqx.filter_jit
def _columns(
    free: FreeVector,
    prior: ModelPrior,
    data: Cultures,
    settings: Settings,
    predict: Predictor,
    scale: Vector,
    numbers: Int[Array, " some"],
    nested: bool,
) -> Float[Array, "some free"]:
    def cost(white: Vector) -> Scalar:
        vector = free.start + scale * white
        return objective(free.with_values(vector), prior, data, settings, predict).total - free.prior_cost(vector)

    slope = jax.jacfwd(cost) if nested else jax.grad(cost)
    origin = jnp.zeros_like(free.start)

    def column(number: Array) -> Vector:
        return jax.jvp(slope, (origin,), (jnp.where(jnp.arange(origin.shape[0]) == number, 1.0, origin),))[1]

    return jax.vmap(column)(numbers)


def refuse_saddles(values: np.ndarray, vectors: np.ndarray, names: tuple[str, ...]) -> None:
    """**Raises** `E_FIT` where the whole curvature, 1 + eigenvalue, is not positive along every direction."""
    falling = np.flatnonzero(~(values > -1.0))
    if falling.size:
        worst = vectors[:, falling[np.argmin(values[falling])]]
        leading = first((names[k] for k in np.argsort(-np.abs(worst))[:_LEADING]), _LEADING)
        raise PinnsimError.of(
            "E_FIT",
            f"The model is no minimum of its objective: it falls along {falling.size} directions (steepest in "
            f"{leading}). Fit longer and try again, or use curvature='gauss-newton', which cannot see this.",
        )
