"""Populations pushed from each snapshot to the next by a gradient field, with the random numbers kept.

    X*      = X_n + f(t_n, X_n) dt + sqrt(2 D dt) xi_n
    X_(n+1) = X_n + (f(t_n, X_n) + f(t_(n+1), X*)) dt / 2 + sqrt(2 D dt) xi_n,      ln w_(n+1) = ln w_n + g(X_n) dt

by Heun's steps of one length per pair of snapshots, of weak order 2 for such noise. (Of Euler and Maruyama's a
landscape would learn the error: at dt a quarter of a valley's relaxation time they widen it by 14 %, Heun's narrow it
by 2 %.) The xi are drawn once, so that what comes out is a smooth function of the parameters (the reparameterisation).
Cells of a pair start as cells of its earlier snapshot, drawn evenly: horizons are short, and errors of one interval do
not enter the next (multiple shooting).

Convention `dX = f dt + sqrt(2 D) dW` (Ito; D does not depend on the state). Treatments that switch between two
snapshots are seen to within one step.

Source: P. E. Kloeden and E. Platen, Numerical Solution of Stochastic Differential Equations (1992), section 15.1.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from pinnsim.data.snapshots import Snapshots
from pinnsim.dynamics.gradient import GradientField
from pinnsim.errors import Problems, first
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.table import Table


class Pairs(eqx.Module):
    """Consecutive snapshots, all conditions in one list.

    **Arguments:** `begin`: simulated cells at the earlier time, (pair, cell, species); `shocks`: standard normals,
    (pair, step, cell, species); `start`: earlier time, (pair,); `step`: length of a step, (pair,); `target`: measured
    cells at the later time, (pair, other, species); `there`: their weights, which sum to 1, (pair, other); `sources`:
    how many measured cells `begin` was drawn from, (pair,); `grown`: logarithm of the later mass over the earlier one,
    (pair,), NaN where masses are not known; `perturbations`: what acts, (pair, ...).
    """

    begin: Float[Array, "pair cell species"]
    shocks: Float[Array, "pair step cell species"]
    start: Float[Array, " pair"]
    step: Float[Array, " pair"]
    target: Float[Array, "pair other species"]
    there: Float[Array, "pair other"]
    sources: Float[Array, " pair"]
    grown: Float[Array, " pair"]
    perturbations: Perturbation


class Arrived(NamedTuple):
    """Simulated cells at later times, (pair, cell, species), and logarithms of their weights, (pair, cell)."""

    cells: Array
    weight: Array


class Moment(NamedTuple):
    """When a step begins, how long it is, and what acts."""

    time: Scalar
    step: Scalar
    acting: Perturbation


def pairs_of(
    snapshots: Snapshots,
    table: Table,
    *,
    cells: int = 500,
    steps: int = 40,
    masses: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[Pairs, tuple[str, ...]]:
    """Consecutive snapshots as a fit sees them, and their names.

    **Arguments:** `table`: of the field, whose species must all be measured; `cells`: simulated per pair; `steps`:
    between two snapshots; `masses`: (condition, time), sizes of the populations, where they were counted.

    Good values: 500 cells or more; steps of a quarter of the fastest relaxation time or less.

    **Raises** `E_GENE_UNMATCHED` for species that were not measured, `E_TIME_FEW` where no condition has two snapshots,
    `E_DATA_SHAPE` for masses of another shape, `E_USAGE`, `E_PERTURB_...`.
    """
    there = snapshots.there
    seen: np.ndarray = np.asarray(there.any(axis=2))
    size = None if masses is None else np.asarray(masses, dtype=float)
    with Problems() as problems:
        where = _places(problems, snapshots, table)
        if cells < 2 or steps < 1:
            problems.add("E_USAGE", f"A fit needs 2 or more cells and 1 or more steps, but got {cells} and {steps}.")
        if not (seen.sum(axis=1) >= 2).any():
            problems.add("E_TIME_FEW", "No condition has cells at two times; a landscape needs populations that move.")
        if size is not None and (size.shape != seen.shape or not (np.isfinite(size[seen]) & (size[seen] > 0)).all()):
            problems.add("E_DATA_SHAPE", f"Argument `masses` must be > 0 for each of {seen.shape} populations.")
    values = snapshots.normalised().reshape(*there.shape, -1)[..., where]
    rows = [
        (c, one, two)
        for c in range(len(seen))
        for one, two in zip(*(np.flatnonzero(seen[c])[k] for k in (slice(None, -1), slice(1, None))), strict=True)
    ]
    rng = np.random.default_rng(seed)
    begin, target, weight = [], np.zeros((len(rows), there.shape[2], len(where))), np.zeros((len(rows), there.shape[2]))
    for k, (c, one, two) in enumerate(rows):
        # Every cell the same number of times, as far as that goes: less chance in who starts.
        here, later = np.flatnonzero(there[c, one]), np.flatnonzero(there[c, two])
        order = np.concatenate([rng.permutation(here) for _ in range(-(-cells // len(here)))])[:cells]
        begin.append(values[c, one][order])
        target[k, : len(later)], weight[k, : len(later)] = values[c, two][later], 1.0 / len(later)
    acting = Perturbation.stack([treatment.resolve(table) for treatment in snapshots.treatments])
    spans = np.array([snapshots.times[c, two] - snapshots.times[c, one] for c, one, two in rows])
    grown = [np.nan if size is None else np.log(size[c, two] / size[c, one]) for c, one, two in rows]
    names = tuple(
        f"{snapshots.conditions[c]}, {snapshots.times[c, one]:g} to {snapshots.times[c, two]:g} {snapshots.time_unit}"
        for c, one, two in rows
    )
    made = Pairs(
        begin=jnp.asarray(np.stack(begin), dtype=float),
        shocks=jnp.asarray(rng.standard_normal((len(rows), steps, cells, len(where))), dtype=float),
        start=jnp.asarray([snapshots.times[c, one] for c, one, _ in rows], dtype=float),
        step=jnp.asarray(spans / steps, dtype=float),
        target=jnp.asarray(target, dtype=float),
        there=jnp.asarray(weight, dtype=float),
        sources=jnp.asarray([there[c, one].sum() for c, one, _ in rows], dtype=float),
        grown=jnp.asarray(grown, dtype=float),
        perturbations=jax.tree.map(lambda leaf: leaf[np.array([c for c, _, _ in rows])], acting),
    )
    return made, names


def push_pairs(field: GradientField, pairs: Pairs) -> Arrived:
    """All pairs from their earlier to their later times. `field` is resolved."""
    cells, weight, _ = _pushed(field, pairs, False)
    return Arrived(cells, weight)


def heun(field: GradientField, state: State, shock: State, at: Moment) -> tuple[State, Scalar]:
    """One cell one step on, (species,), and what its logarithm of weight grows by, (). `field` is resolved."""
    material = field.material()

    def allowed(cell: State) -> State:
        return jnp.where(material, jnp.maximum(cell, 0.0), cell)

    kick = jnp.sqrt(2.0 * field.diffusion * at.step) * shock
    first = field.vector_field(at.time, state, at.acting)
    guess = allowed(state + at.step * first + kick)
    second = field.vector_field(at.time + at.step, guess, at.acting)
    grown = jnp.zeros((), state.dtype) if field.growth is None else at.step * field.growth(state)[0]
    return allowed(state + 0.5 * at.step * (first + second) + kick), grown


def efforts(field: GradientField, pairs: Pairs, most: int) -> Array:
    """What the learned part costs along the ways of `most` cells of each pair, (pair, step, cell, species).

        e = f dt^(1/2) / (2 D)^(1/2),      |e|^2 / 2 summed over a way = int |f|^2 / (4 D) dt,

    f the learned part of the flow: the relative entropy of the process to what it is without that part (Girsanov).
    `field` is resolved; its D is taken as given.

    Source: C. Leonard, Discrete Contin. Dyn. Syst. 34:1533 (2014).
    """
    few = eqx.tree_at(lambda p: (p.begin, p.shocks), pairs, (pairs.begin[:, :most], pairs.shocks[:, :, :most]))
    flows = _pushed(field, few, True)[2]
    noise = jnp.broadcast_to(jax.lax.stop_gradient(field.diffusion), flows.shape[-1:])
    return flows * jnp.sqrt(pairs.step[:, None, None, None] / (2.0 * noise)[None, None, None])


def _pushed(field: GradientField, pairs: Pairs, record: bool) -> tuple[Array, Array, Array]:
    """Cells and their weights at the later times and, on record, the learned flow along their ways, (pair, step, cell,
    species)."""

    def one(begin: Array, shocks: Array, start: Scalar, step: Scalar, acting: Perturbation) -> tuple:
        def advance(carry: tuple[Array, Array, Scalar], shock: Array) -> tuple[tuple[Array, Array, Scalar], Array]:
            cells, weight, time = carry

            def move(state: State, xi: State) -> tuple[State, Scalar, Array]:
                moved, grown = heun(field, state, xi, Moment(time, step, acting))
                told = field.learned(state, acting.at(time).signal) if record else state[:0]
                return moved, grown, told

            moved, grown, told = jax.vmap(move)(cells, shock)
            return (moved, weight + grown, time + step), told

        still = jnp.zeros(begin.shape[0], begin.dtype)
        (cells, weight, _), flows = jax.lax.scan(advance, (begin, still, start), shocks)
        return cells, weight, flows

    return jax.vmap(one)(pairs.begin, pairs.shocks, pairs.start, pairs.step, pairs.perturbations)


def _places(problems: Problems, snapshots: Snapshots, table: Table) -> list[int]:
    """Positions of the field's species among the readings: `gene.layer`, or the gene alone where there is one layer."""
    names = [f"{gene}.{layer}" for layer in snapshots.layers for gene in snapshots.genes]
    plain = list(snapshots.genes) if len(snapshots.layers) == 1 else names
    found = [names.index(s) if s in names else plain.index(s) if s in plain else -1 for s in table.species]
    missing = [name for name, place in zip(table.species, found, strict=True) if place < 0]
    if missing:
        problems.add(
            "E_GENE_UNMATCHED",
            f"{len(missing)} coordinates of the landscape were not measured ({first(missing)}); the snapshots have "
            f"{first(names)}.",
        )
    return found
