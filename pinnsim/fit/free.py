"""Free parameters as one vector with names: what curvature, intervals and profiles are computed in.

The vector holds the unconstrained numbers that a prior leaves free (spread > 0), in the tree's order. A name says what
a number is in the field's terms (`decay:gapB`, `strength:ccpN->gapB`, `tau:ccpA.activity`); its value is what
equations see (`exp` of a positive parameter's number, and so on).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.errors import PinnsimError
from pinnsim.parameter import Interval, Positive, is_parameter, trainable
from pinnsim.shapes import Scalar
from pinnsim.tree import path_name

WIDE = 100.0  # what a free parameter without a prior counts as: sd of its unconstrained number

Vector = Float[Array, " free"]

# Along which names the axes of a leaf run, and what a leaf is called where that is not its own name.
_AXES: dict[str, tuple[str, ...]] = {
    "kinetics/synthesis": ("gene",),
    "kinetics/splicing": ("gene",),
    "kinetics/decay": ("gene",),
    "kinetics/translation": ("gene",),
    "kinetics/protein_decay": ("gene",),
    "kinetics/promoter/basal": ("gene",),
    "kinetics/promoter/leak": ("gene",),
    "kinetics/promoter/strength": ("edge",),
    "kinetics/promoter/affinity": ("edge",),
    "kinetics/promoter/hill": ("edge",),
    "kinetics/promoter/weight": ("edge",),
    "kinetics/promoter/tilt": ("edge",),
    "kinetics/hidden/tau": ("hidden",),
    "kinetics/hidden/effect": ("hidden", "input"),
    "kinetics/gain": ("regulator", "input"),
    "observation/readout/offset": ("gene",),
    "observation/readout/scale": ("gene",),
}
_PER_TIME = ("synthesis", "splicing", "decay", "translation", "protein_decay")


class FreeVector(eqx.Module):
    """A model's free parameters: which they are, and the way between vector and model.

    **Arguments:** `model`: everything that is not free; `index`: (free,), positions among all trainable numbers;
    `center`, `spread`: (free,), the prior's normal in unconstrained terms (spread may be infinite); `lower`, `upper`:
    (free,), bounds of the values, infinite where there are none; `positive`: (free,), whether a value is the
    exponential of its number; `names`, `units`: (free,), of the values.
    """

    model: Any
    index: Int[Array, " free"]
    center: Vector
    spread: Vector
    lower: Vector
    upper: Vector
    positive: Array
    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)

    @property
    def scale(self) -> Vector:
        """Widths that parameters are whitened with, (free,): the prior's, and `WIDE` where it is infinite."""
        return jnp.where(jnp.isfinite(self.spread), self.spread, WIDE)

    def prior_cost(self, vector: Vector) -> Scalar:
        """What the finite priors of these numbers cost, in nats."""
        known = jnp.isfinite(self.spread)
        z = jnp.where(known, (vector - self.center) / jnp.where(known, self.spread, 1.0), 0.0)
        return 0.5 * jnp.sum(z**2)

    @property
    def start(self) -> Vector:
        """The model's own numbers, (free,)."""
        return _flat(eqx.filter(self.model, trainable(self.model)))[self.index]

    def with_values(self, vector: Vector) -> Any:
        """The model with these unconstrained numbers, (free,)."""
        flags = trainable(self.model)
        leaves, structure = jax.tree.flatten(eqx.filter(self.model, flags))
        flat = _flat(leaves).at[self.index].set(vector)
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1].tolist()
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(flat, ends), leaves, strict=True)]
        return eqx.combine(jax.tree.unflatten(structure, shaped), eqx.filter(self.model, flags, inverse=True))

    def value(self, vector: Vector) -> Vector:
        """What equations see of these numbers, (..., free)."""
        bounded = jnp.isfinite(self.lower) & jnp.isfinite(self.upper) & ~self.positive
        low, width = jnp.where(bounded, self.lower, 0.0), jnp.where(bounded, self.upper - self.lower, 1.0)
        inside = low + width * jax.nn.sigmoid(vector)
        return jnp.where(
            self.positive, jnp.exp(jnp.where(self.positive, vector, 0.0)), jnp.where(bounded, inside, vector)
        )


def free_vector(model: Any, prior: Any) -> FreeVector:
    """The parameters of `model` that `prior` leaves free: of a cell model, or of a population model.

    **Raises** `E_FIT` where it leaves none.
    """
    flags = trainable(prior.center)
    center, spread = (_flat(eqx.filter(tree, flags)) for tree in (prior.center, prior.spread))
    index = np.flatnonzero(np.asarray(spread) > 0)
    if not index.size:
        raise PinnsimError.of("E_FIT", "The prior leaves no parameter free (every spread is 0): nothing is uncertain.")
    entries = _entries(model)
    chosen = [entries[i] for i in index]
    lower, upper, positive = (np.array([entry[k] for entry in chosen]) for k in (2, 3, 4))
    return FreeVector(
        model=model,
        index=jnp.asarray(index),
        center=center[index],
        spread=spread[index],
        lower=jnp.asarray(lower, center.dtype),
        upper=jnp.asarray(upper, center.dtype),
        positive=jnp.asarray(positive, bool),
        names=tuple(str(entry[0]) for entry in chosen),
        units=tuple(str(entry[1]) for entry in chosen),
    )


def _flat(tree: object) -> Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _entries(model: Any) -> list[tuple[str, str, float, float, bool]]:
    """Name, unit, bounds and whether positive of every trainable number, in the tree's order (on the host)."""
    found: list[tuple[str, str, float, float, bool]] = []
    nodes = jax.tree_util.tree_flatten_with_path(model, is_leaf=is_parameter)[0]
    for path, node in nodes:
        flags = trainable(node)
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(eqx.filter(node, flags)))
        if not count:
            continue
        place = path_name(path)
        low, high = np.full(count, -np.inf), np.full(count, np.inf)
        if isinstance(node, Positive):
            low = np.zeros(count)
        elif isinstance(node, Interval):
            low, high = (np.broadcast_to(np.asarray(b), node.raw.shape).ravel() for b in (node.lower, node.upper))
        shape = node.raw.shape if is_parameter(node) else np.shape(node)
        labels = _labels(place, shape, model)
        unit = _unit(place, model.kinetics.time_unit)
        found += [
            (label, unit, float(a), float(b), isinstance(node, Positive))
            for label, a, b in zip(labels, low, high, strict=True)
        ]
    return found


def _labels(place: str, shape: tuple[int, ...], model: Any) -> list[str]:
    kind, axes = place.rpartition("/")[2], _AXES.get(place)
    positions = list(np.ndindex(*shape))
    if axes == ("edge",) and len(shape) == 2:
        # Averaged promoters list edges in rows of genes; what pads a row is never free.
        edges = (*model.kinetics.table.edges, "none")
        rows: Any = model.kinetics.promoter
        return [f"{kind}:{edges[int(rows.edge[at])]}" for at in positions]
    if axes is None or len(axes) != len(shape):
        return [f"{place}{list(at) if at else ''}" for at in positions]
    table = model.kinetics.table
    of = {
        "gene": table.genes,
        "edge": table.edges,
        "hidden": table.species[model.kinetics.abundances :],
        "regulator": table.regulators,
        "input": table.inputs,
    }
    return [f"{kind}:{' by '.join(of[axis][i] for axis, i in zip(axes, at, strict=True))}" for at in positions]


def _unit(place: str, time_unit: str) -> str:
    kind = place.rpartition("/")[2]
    if place.count("/") == 1 and kind in _PER_TIME:
        return f"1/{time_unit}"
    return time_unit if kind == "tau" else ""
