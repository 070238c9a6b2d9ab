"""What a stimulus does to hidden activities, read from cultures at rest before it.

Where a signal's effect was not fitted (prior sd 0), the cultures that rest without it still show it: their hidden
activities `h_c`, inferred from the first samples, obey `h_c = effect . (signal_c - reference)`, solved by least squares
over the cultures that were fitted. With it a signal can be withdrawn again: the set point is then where the culture
was.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.fit.cultures import Cultures
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.simulate import FromSample

_RIDGE = 1e-9  # makes the solution unique (smallest) where cultures cannot tell two signals apart


@eqx.filter_jit
def with_effects_at_rest(models: CellModel, prior: ModelPrior, data: Cultures) -> CellModel:
    """Members of an ensemble, (member, ...), with the effects of unfitted signals read from the rests of `data`.

    Effects that were fitted stay; signals in which no culture's rest differs from the reference stay at 0.
    """
    fitted = jnp.any(prior.spread.kinetics.hidden.effect > 0, axis=0)
    counts = jnp.any(data.mask[:, 1:], axis=(1, 2)).astype(data.times.dtype)
    edits = jax.vmap(_at_rest)(data.perturbations)

    def one(model: CellModel) -> CellModel:
        cell = resolve(model)
        hidden = cell.kinetics.hidden
        rests = jax.vmap(lambda sample, p: FromSample(sample).state(cell, p))(
            data.per_exposure[:, 0], data.perturbations
        )
        at_rest = rests[:, cell.kinetics.abundances :]
        signal = edits.signal - hidden.reference[None]
        explained = signal @ jnp.where(fitted[None], hidden.effect, 0.0).T
        design = signal * jnp.where(fitted, 0.0, 1.0)[None] * counts[:, None]
        matrix = design.T @ design + _RIDGE * jnp.eye(design.shape[1], dtype=design.dtype)
        read: Array = jnp.linalg.solve(matrix, design.T @ (at_rest - explained)).T
        return eqx.tree_at(lambda m: m.kinetics.hidden.effect, model, jnp.where(fitted[None], hidden.effect, read))

    return eqx.filter_vmap(one)(models)


def _at_rest(perturbation: Perturbation) -> Edits:
    """What acts since ever."""
    kind = perturbation.start.dtype
    return perturbation.acting(jnp.asarray(-jnp.inf, kind)).at(jnp.zeros((), kind))
