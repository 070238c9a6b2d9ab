"""Predictions without a solver: regulators follow the measured curves, so that every gene's chain is linear and is
integrated exactly on a grid.

Between two nodes promoter activity and signals are taken at the middle; a linear stage `y' = q - k y` then moves as
`y(t + h) = y e^(-kh) + (q / k) (1 - e^(-kh))`. Where a regulator is measured, its abundance in the promoters comes from
straight lines through the readings; hidden activities and proteins are integrated along. For a model that is right
this integral form has the same optimum as trajectory matching up to the grid's and the straight lines' error, costs no
adaptive steps, and has no stiff or diverging region: it is where a fit starts.

Sources: C. Varah, SIAM J. Sci. Stat. Comput. 3:28 (1982), matching to a smooth of the data; I. Dattner and C. Klaassen,
Electron. J. Statist. 9:1939 (2015), the integral form.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.model import CellModel
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import PerGene, Readings, Scalar, State, Times

AlongGrid = Float[Array, "node gene"]
Nodes = Float[Array, " node"]


def predict_on_grid(
    model: CellModel,
    perturbation: Perturbation,
    state: State,
    grid: Nodes,
    at: Int[Array, " time"],
    measured: AlongGrid,
) -> Readings:
    """Readings at the grid's sample nodes, (time, gene), from resolved parameters.

    **Arguments:** `state`: (species,) at `grid[0]`; `grid`: (node,); `at`: (time,), positions of the sample times;
    `measured`: (node, gene), mature RNA abundance along the grid, from `smooth`.
    """
    kinetics = model.kinetics
    steps = jnp.diff(grid)
    # No step straddles a switch, so what is on at the middle is on for the whole step.
    edits = jax.vmap(perturbation.at)(0.5 * (grid[:-1] + grid[1:]))
    halfway = 0.5 * (measured[:-1] + measured[1:])

    def advance(state: State, inputs: tuple[Array, Edits, Array]) -> tuple[State, Array]:
        step, edit, rna = inputs
        moved = exponential_step(kinetics, state, step, edit, rna)
        return moved, kinetics.layer(moved, "rna")

    _, rna = jax.lax.scan(advance, state, (steps, edits, halfway))
    rna = jnp.concatenate([kinetics.layer(state, "rna")[None], rna])
    return jax.vmap(model.observation.readout)(rna[at])


def exponential_step(
    kinetics: GeneKinetics, state: State, step: Scalar, edits: Edits, rna: PerGene, more: PerGene | None = None
) -> State:
    """One step of every linear chain; promoters see measured RNA `rna`, (gene,), the middle of the step of what is
    integrated along, and the level of what is held; `more`, (gene,), is added to their log-odds."""
    factor = kinetics.by_kind(edits.factor)
    state = jnp.where(edits.hold, edits.level, state)
    drive = _drives(kinetics, edits)
    before = [] if kinetics.splicing is None else [kinetics.layer(state, "unspliced")]
    seen = halfway(kinetics, state, step, edits, rna)
    inflow = kinetics.synthesis * factor["transcription"] * kinetics.promoter_activity(seen, edits, more) + drive[0]
    levels = []
    if kinetics.splicing is not None:
        beta = kinetics.splicing * factor["splicing"]
        levels.append(_relaxed(before[0], inflow, beta, step))
        inflow = beta * 0.5 * (before[0] + levels[0]) + drive[1]
    levels.append(_relaxed(kinetics.layer(state, "rna"), inflow, kinetics.decay * factor["decay"], step))
    moved = jnp.concatenate([*levels, *_along(kinetics, state, step, edits, rna)])
    return jnp.where(edits.hold, edits.level, moved)


def halfway(kinetics: GeneKinetics, state: State, step: Scalar, edits: Edits, rna: PerGene) -> State:
    """What promoters see in the middle of a step, (species,): measured RNA `rna`, the rest integrated along."""
    state = jnp.where(edits.hold, edits.level, state)
    before = [] if kinetics.splicing is None else [kinetics.layer(state, "unspliced")]
    middle = jnp.concatenate([*before, rna, *_along(kinetics, state, 0.5 * step, edits, rna)])
    return jnp.where(edits.hold, edits.level, middle)


def _along(kinetics: GeneKinetics, state: State, span: Scalar, edits: Edits, rna: PerGene) -> list[Array]:
    """Proteins, where they are modelled, and hidden activities a span later."""
    first, factor = kinetics.abundances, kinetics.by_kind(edits.factor)
    # A driven activity rests above its set point: (target - h) / tau + drive = 0.
    target = kinetics.hidden.set_point(edits.signal) + kinetics.hidden.tau * edits.drive[first:]
    activity = target + (state[first:] - target) * jnp.exp(-span / kinetics.hidden.tau)
    if kinetics.translation is None or kinetics.protein_decay is None:
        return [activity]
    made = kinetics.translation * factor["translation"] * rna + _drives(kinetics, edits)[-1]
    lost = kinetics.protein_decay * factor["protein_decay"]
    return [_relaxed(kinetics.layer(state, "protein"), made, lost, span), activity]


def _drives(kinetics: GeneKinetics, edits: Edits) -> Array:
    """Added production, (layer, gene)."""
    return edits.drive[: kinetics.abundances].reshape(len(kinetics.layers), kinetics.genes)


def _relaxed(level: PerGene, inflow: PerGene, rate: PerGene, span: Scalar) -> PerGene:
    """The exact flow of y' = inflow - rate y over a span; rate 0 is a stopped reaction."""
    growth = jnp.where(rate > 0, -jnp.expm1(-rate * span) / jnp.where(rate > 0, rate, 1.0), span)
    return level * jnp.exp(-rate * span) + inflow * growth


def smooth(times: Times, readings: Readings, mask: Array, grid: Nodes) -> AlongGrid:
    """Readings along the grid, (node, gene): straight lines between the samples that were made, flat beyond them.

    Straight lines in the readings' own (log) scale never overshoot, and their error is below the measurement's at the
    sampling of expression data. The first sample, where the culture starts, always counts as made; a culture that is
    held out is flat from there.
    """
    mask = mask.at[0].set(True)

    def one_gene(values: Array, seen: Array) -> Array:
        # Unseen samples take the neighbours' line: interpolate over the seen ones only, by giving the others no width.
        position = jnp.where(seen, times, jnp.inf)
        order = jnp.argsort(position)
        last = jnp.max(jnp.where(seen, times, -jnp.inf))
        knots = jnp.where(jnp.isfinite(position[order]), position[order], last)
        heights = jnp.where(jnp.isfinite(position[order]), values[order], values[order][jnp.sum(seen) - 1])
        return jnp.interp(grid, knots, heights)

    return jax.vmap(one_gene, in_axes=1, out_axes=1)(readings, mask)
