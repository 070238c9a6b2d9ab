"""Out to pyPESTO: a fit's objective for other people's optimisers, profiles and samplers.

    pypesto objective = data terms + gate penalty          (nats, with its gradient by reverse differentiation)
    pypesto priors    = Normal(center, spread) per finite spread, in unconstrained numbers

so that their sum, which pyPESTO minimises, is our objective up to the priors' normalisation. Every number that pyPESTO
sees is unconstrained (logarithms of rates, log-odds of bounded ones); `FreeVector.value` turns a result back, and
`FreeVector.with_values` makes a model of it.

Source: Y. Schaelte et al., Bioinformatics 39:btad711 (2023), pyPESTO.
"""

import importlib.util
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.errors import Problems
from pinnsim.fit import Target
from pinnsim.fit.free import Vector
from pinnsim.shapes import Scalar


def to_pypesto(problem: Target, *, width: float = 6.0, start_width: float = 2.0, reach: float = 10.0) -> Any:
    """A `pypesto.Problem` of a fit: objective and gradient, names, bounds, priors, and a first guess.

    **Arguments:** `problem`: from `fit.target(model, prior, data, plan)`; `width`: bounds, in prior widths about the
    prior's centre; `start_width`: where optimisers start, likewise; `reach`: both for numbers without a prior, in
    unconstrained units about the model's own.

    Its functions hold compiled programs, which are not pickled: use pyPESTO's `SingleCoreEngine` or
    `MultiThreadEngine`.

    **Raises** `E_EXTRA_MISSING` without pyPESTO, `E_USAGE` for widths that are not > 0, or a start wider than bounds.
    """
    with Problems() as problems:
        if not (0 < start_width <= width < np.inf and 0 < reach < np.inf):
            problems.add(
                "E_USAGE",
                f"Bounds need 0 < start_width <= width and reach > 0, but got {start_width:g}, {width:g}, {reach:g}.",
            )
        if importlib.util.find_spec("pypesto") is None:
            problems.add(
                "E_EXTRA_MISSING",
                "to_pypesto needs the package pypesto; install it with pip install 'pinnsim[pypesto]'.",
            )
    import pypesto
    from pypesto.objective import AggregatedObjective, NegLogParameterPriors
    from pypesto.objective.priors import get_parameter_prior_dict

    free = problem.free
    center, spread, start = (np.asarray(leaf, dtype=float) for leaf in (free.center, free.spread, free.start))
    known = np.isfinite(spread)
    middle, unit = np.where(known, center, start), np.where(known, spread, reach)
    bounds, begin = (np.where(known, w, 1.0) * unit for w in (width, start_width))

    def both(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _value_and_slope(problem, jnp.asarray(vector, free.center.dtype))
        return float(value), np.asarray(slope, dtype=float)

    priors = [
        get_parameter_prior_dict(int(k), "normal", [float(center[k]), float(spread[k])]) for k in np.flatnonzero(known)
    ]
    names = list(free.names)
    data = pypesto.Objective(fun=both, grad=True, x_names=names)
    prior = NegLogParameterPriors(priors) if priors else None
    return pypesto.Problem(
        # pyPESTO reads `x_priors_defs` when it samples, and minimises the objective alone.
        objective=data if prior is None else AggregatedObjective([data, prior], x_names=names),
        lb=middle - bounds,
        ub=middle + bounds,
        lb_init=middle - begin,
        ub_init=middle + begin,
        x_guesses=np.clip(start, middle - bounds, middle + bounds)[None],
        x_names=names,
        x_scales=["lin"] * len(start),
        x_priors_defs=prior,
    )


@eqx.filter_jit
def _value_and_slope(problem: Target, vector: Vector) -> tuple[Array, Array]:
    """Everything but the prior, and its gradient."""

    def cost(vector: Vector) -> Scalar:
        return problem(vector).total - problem.free.prior_cost(vector)

    return jax.value_and_grad(cost)(vector)
