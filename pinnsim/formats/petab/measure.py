"""What a PEtab problem's parameters predict for every measurement, and how likely that makes it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.formats.petab.course import Held, courses
from pinnsim.formats.petab.lanes import Arrays, seen
from pinnsim.formats.petab.noise import from_scale, log_density, residual
from pinnsim.simulate.method import ODE


class Answer(NamedTuple):
    """`value` and `noise` of every measurement, in the table's order; how each experiment ended."""

    value: Float[Array, " measurement"]
    noise: Float[Array, " measurement"]
    outcome: Int[Array, " experiment"]


def answer(arrays: Arrays, theta: Float[Array, " parameter"], method: ODE) -> Answer:
    """Predictions for estimated parameters on their scales. Pure and differentiable."""
    constants = arrays.base
    for k, one in enumerate(arrays.parameters):
        constants = constants.at[arrays.places[k]].set(from_scale(one.scale, theta[k]))
    found = courses(arrays.ground, arrays.lanes, constants, method)
    rules, switches = arrays.ground.rules, arrays.ground.switches

    def known(lane: Array, moment: Array, time: Array) -> Array:
        own = constants.at[jnp.asarray(switches)].set(arrays.lanes.on[lane]) if switches else constants
        held = Held.of(rules, own, found.kept[lane, moment])
        return jnp.concatenate([held.known(time, found.states[lane, moment]), arrays.literals])

    every = jax.vmap(known)(arrays.lane, arrays.moment, arrays.time)
    value = noise = jnp.zeros_like(arrays.time)
    for group in arrays.groups:
        positions = rules.running.positions(group.reads)
        here, there = jax.vmap(lambda k, f, g=group, p=positions: seen(g, k, f, p))(every[group.rows], group.filled)
        value, noise = value.at[group.rows].set(here), noise.at[group.rows].set(there)
    return Answer(value, noise, found.outcome)


def log_likelihoods(arrays: Arrays, found: Answer) -> Float[Array, " measurement"]:
    """log p of each measurement."""
    total = jnp.zeros_like(arrays.measured)
    for group in arrays.groups:
        rows = group.rows
        each = log_density(group.noise, arrays.measured[rows], found.value[rows], found.noise[rows])
        total = total.at[rows].set(each)
    return total


def residuals(arrays: Arrays, found: Answer) -> Float[Array, " measurement"]:
    """(g(m) - g(y)) / sigma of each measurement."""
    total = jnp.zeros_like(arrays.measured)
    for group in arrays.groups:
        rows = group.rows
        total = total.at[rows].set(residual(group.noise, arrays.measured[rows], found.value[rows], found.noise[rows]))
    return total
