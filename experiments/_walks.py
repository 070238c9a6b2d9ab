"""Simulated snapshots of a cell with noise `dX = f dt + sqrt(2 D) dW`: other cells at every time, as if each were
destroyed by its measurement."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.data import Snapshots
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.perturbation import Perturbation


def snapshots_of(
    models: Mapping[str, tuple[AbstractKinetics, str]],
    begin: np.ndarray,
    times: list[float],
    noise: float,
    dt: float,
    seed: int,
) -> Snapshots:
    """Snapshots of several conditions.

    **Arguments:** `models`: by condition, a cell (all of one structure) and what its treatment is called in the data;
    `begin`: states at the first time, (time, cell, species), every time's own cells; `dt`: step of Euler and Maruyama.
    """
    parts, when, names = [], [], []
    species = next(iter(models.values()))[0].table.species
    for number, (name, (model, _)) in enumerate(models.items()):
        key = jax.random.fold_in(jax.random.key(seed), number)
        states = jnp.asarray(begin.reshape(-1, begin.shape[2]))
        for k, time in enumerate(times):
            if k:
                count = round((time - times[k - 1]) / dt)
                key, own = jax.random.split(key)
                states = _walked(model, states, own, jnp.asarray(noise), jnp.asarray(dt), jnp.asarray(count))
            parts.append(np.asarray(states).reshape(begin.shape)[k])
            when += [time] * begin.shape[1]
            names += [name] * begin.shape[1]
    return Snapshots.build(
        np.concatenate(parts), when, species, ("state",), names, scale="log2", simulated=True,
        treatments={name: text for name, (_, text) in models.items()}, time_unit=model.time_unit,
    )  # fmt: skip


@eqx.filter_jit
def _walked(model: AbstractKinetics, states: Array, key: Array, noise: Array, dt: Array, count: Array) -> Array:
    none = Perturbation.none(model.table)
    flow = jax.vmap(lambda x: model.vector_field(jnp.zeros(()), x, none))
    spread = jnp.sqrt(2.0 * noise * dt)

    def step(k: Array, x: Array) -> Array:
        return x + dt * flow(x) + spread * jax.random.normal(jax.random.fold_in(key, k), x.shape, x.dtype)

    return jax.lax.fori_loop(0, count, step, states)
