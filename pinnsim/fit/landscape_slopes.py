"""Pushed populations with their derivatives by the parameters, which travel along with the cells.

One step takes a cell from x to s(x, theta), and so its derivative from X to

    X' = ds/dx X + ds/dtheta,      X = dx/dtheta,      0 at the start.

Both Jacobians have as many rows as there are coordinates (and one more where cells grow), so few reverse sweeps give
them for any number of parameters; forward derivatives of the whole way would take one run of the populations per
parameter. The numbers are the same to rounding.

Source: R. M. Errico, Bull. Am. Meteorol. Soc. 78:2577 (1997), for tangent-linear models and their adjoints.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from pinnsim.dynamics.gradient import GradientField
from pinnsim.fit.landscape_pairs import Arrived, Moment, Pairs, heun, push_pairs
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar

_Carried = tuple[Array, Array, Array, Array, Array]


@eqx.filter_custom_jvp
def arrivals(moving: GradientField, rest: GradientField, pairs: Pairs) -> Arrived:
    """`push_pairs` of the field of both parts, unresolved, with cheap derivatives by `moving` (and none by others)."""
    return push_pairs(resolve(eqx.combine(moving, rest)), pairs)


@arrivals.def_jvp
def _slopes(primals: tuple, tangents: tuple) -> tuple[Arrived, Arrived]:
    moving, rest, pairs = primals
    cells, weight, by_cell, by_weight = _sloped(moving, rest, pairs)
    leaves = [way for way in jax.tree.leaves(tangents[0]) if way is not None]
    way, _ = ravel_pytree(leaves)
    return Arrived(cells, weight), Arrived(by_cell @ way, by_weight @ way)


def _sloped(moving: GradientField, rest: GradientField, pairs: Pairs) -> tuple[Array, Array, Array, Array]:
    """Cells, (pair, cell, species), logarithms of weights, (pair, cell), and both by parameters, (..., parameter)."""
    theta, back = ravel_pytree(moving)
    grows = rest.growth is not None

    def one(begin: Array, shocks: Array, start: Scalar, step: Scalar, acting: Perturbation) -> tuple:
        def advance(carry: _Carried, shock: Array) -> tuple[_Carried, None]:
            cells, weight, by_cell, by_weight, time = carry

            def move(state: Array, xi: Array, slope: Array) -> tuple[Array, ...]:
                def ahead(numbers: Array, here: Array) -> Array:
                    field = resolve(eqx.combine(back(numbers), rest))
                    moved, grown = heun(field, here, xi, Moment(time, step, acting))
                    return jnp.append(moved, grown) if grows else moved

                ends, pull = jax.vjp(ahead, theta, state)
                by_theta, by_state = jax.vmap(pull)(jnp.eye(ends.shape[0], dtype=ends.dtype))
                return ends, by_theta + by_state @ slope

            ends, slopes = jax.vmap(move)(cells, shock, by_cell)
            count = cells.shape[1]
            if grows:
                weight, by_weight = weight + ends[:, count], by_weight + slopes[:, count]
            return (ends[:, :count], weight, slopes[:, :count], by_weight, time + step), None

        size, dtype = theta.shape[0], begin.dtype
        still = (
            jnp.zeros(begin.shape[0], dtype),
            jnp.zeros((*begin.shape, size), dtype),
            jnp.zeros((begin.shape[0], size if grows else 0), dtype),
        )
        ended, _ = jax.lax.scan(advance, (begin, *still, start), shocks)
        by_weight = ended[3] if grows else jnp.zeros((begin.shape[0], size), dtype)
        return ended[0], ended[1], ended[2], by_weight

    return jax.vmap(one)(pairs.begin, pairs.shocks, pairs.start, pairs.step, pairs.perturbations)
