"""Answers that did not come from a solver: accepted where they are certified, solved where they are not.

A surrogate gives, lane by lane, states, a bound on their relative error and whether the lane is one that it was made
for. What is outside its domain, or may be worse than the tolerance, is run again by the fallback.
"""

import abc
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Scalar
from pinnsim.simulate.many import solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Certificate, Outcome
from pinnsim.simulate.solve import Solution


class Answer(NamedTuple):
    """**Arguments:** `states`: (lane, time, species); `bound`: (lane,), on the relative error; `in_domain`: (lane,)."""

    states: Float[Array, "lane time species"]
    bound: Float[Array, " lane"]
    in_domain: Bool[Array, " lane"]


class AbstractSurrogate(eqx.Module):
    """A method that answers without solving, and says how sure it is.

    **Arguments:** `tolerance`: relative error up to which an answer is taken; `fallback`: what solves the others.
    """

    tolerance: eqx.AbstractVar[Scalar]
    fallback: eqx.AbstractVar[ODE]

    @abc.abstractmethod
    def answer(
        self,
        kinetics: AbstractKinetics,
        times: Numbers,
        perturbation: Perturbation,
        states: Array,
        own: Mapping[str, Array] | None = None,
    ) -> Answer:
        """All lanes, from `states` at `times[0]`; arguments as for `solve_many`."""


def solve_certified(
    method: AbstractSurrogate,
    kinetics: AbstractKinetics,
    times: Numbers,
    perturbation: Perturbation,
    states: Float[Array, "lane species"],
    *,
    own: Mapping[str, Array] | None = None,
) -> tuple[Solution, Certificate]:
    """Every lane by the surrogate, and by its fallback where the surrogate's answer is not certified: outside the
    domain, with a bound above the tolerance, or not finite.

    **Arguments:** as for `solve_many`.

    **Returns** a `Solution` with a leading lane axis, and which lanes were certified. The fallback runs in batches of a
    power of two, so that it is compiled few times.
    """
    answer = method.answer(kinetics, times, perturbation, states, own)
    finite = jnp.all(jnp.isfinite(answer.states), axis=(1, 2)) & jnp.isfinite(answer.bound)
    certified = finite & answer.in_domain & (answer.bound <= method.tolerance)
    count = states.shape[0]
    found = Solution(
        answer.states,
        jnp.full(count, Outcome.DONE.value, int),
        jnp.broadcast_to(jnp.asarray(times, states.dtype)[-1], (count,)),
    )
    again = np.flatnonzero(~np.asarray(certified))
    if again.size:
        filled = again[np.minimum(np.arange(2 ** int(np.ceil(np.log2(again.size)))), again.size - 1)]

        def rows(tree: Array) -> Array:
            return tree[filled]

        shared = perturbation.start.ndim == 1
        solved = solve_many(
            kinetics,
            times,
            perturbation if shared else jax.tree.map(rows, perturbation),
            states[filled],
            method.fallback,
            own={name: rows(value) for name, value in (own or {}).items()},
        )
        found = jax.tree.map(lambda whole, part: whole.at[again].set(part[: again.size]), found, solved)
    return found, Certificate(certified, answer.bound, answer.in_domain)
