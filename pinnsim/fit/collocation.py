"""Predictions without a solver: regulators follow the measured curves, so that every gene's chain is linear and is integrated exactly on a grid.

Between two nodes promoter activity and signals are taken at the middle; a linear stage `y' = q - k y` then moves as `y(t + h) = y e^(-kh) + (q / k) (1 - e^(-kh))`. Where a regulator is measured,
its abundance in the promoters comes from straight lines through the readings; hidden activities and proteins are integrated along. For a model that is right this integral form has the
same optimum as trajectory matching, costs no adaptive steps, and has no stiff or diverging region: it is where a fit starts.

Sources: C. Varah, SIAM J. Sci. Stat. Comput. 3:28 (1982), matching to a smooth of the data; I. Dattner and C. Klaassen, Electron. J. Statist. 9:1939 (2015), the integral form.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.model import CellModel
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import Readings, State, Times


def predict_on_grid(model: CellModel, perturbation: Perturbation, state: State, grid: Times, at: Array, measured: Readings) -> Readings:
    """Readings at the grid's sample nodes, (time, gene), from resolved parameters.

    **Arguments:** `state`: (species,) at `grid[0]`; `grid`: (node,); `at`: (time,), positions of the sample times; `measured`: (node, gene), mature RNA abundance along the grid, from `smooth`.
    """
    kinetics = model.kinetics
    steps = jnp.diff(grid)
    # A switch inside a step is averaged over: edits are taken at the middle.
    edits = jax.vmap(perturbation.at)(0.5 * (grid[:-1] + grid[1:]))
    halfway = 0.5 * (measured[:-1] + measured[1:])

    def advance(state: State, inputs: tuple[Array, Edits, Array]) -> tuple[State, Array]:
        step, edit, rna = inputs
        moved = exponential_step(kinetics, state, step, edit, rna)
        return moved, kinetics.layer(moved, "rna")

    _, rna = jax.lax.scan(advance, state, (steps, edits, halfway))
    rna = jnp.concatenate([kinetics.layer(state, "rna")[None], rna])
    return jax.vmap(model.observation.readout)(rna[at])


def exponential_step(kinetics: GeneKinetics, state: State, step: Array, edits: Edits, rna: Array) -> State:
    """One step of every linear chain; promoters see measured RNA `rna`, (gene,), and the middle of the step for what is integrated along."""
    genes, first = kinetics.genes, kinetics.abundances
    factor = dict(zip(_kinds(kinetics), edits.factor.reshape(-1, genes), strict=True))

    def stage(level: Array, inflow: Array, rate: Array, span: Array) -> Array:
        # (1 - e^-x) / rate, exact where the rate is 0 (a stopped reaction).
        growth = jnp.where(rate > 0, -jnp.expm1(-rate * span) / jnp.where(rate > 0, rate, 1.0), span)
        return level * jnp.exp(-rate * span) + inflow * growth

    target = kinetics.hidden.set_point(edits.signal)
    hidden = state[first:]
    middle = target + (hidden - target) * jnp.exp(-0.5 * step / kinetics.hidden.tau)
    protein_there = kinetics.translation is not None
    delta = kinetics.protein_decay * factor["protein_decay"] if protein_there else None
    made = kinetics.translation * factor["translation"] * rna if protein_there else None
    seen = [rna] if kinetics.splicing is None else [kinetics.layer(state, "unspliced"), rna]
    if protein_there:
        seen.append(stage(kinetics.layer(state, "protein"), made, delta, 0.5 * step))
    production = kinetics.synthesis * factor["transcription"] * kinetics.promoter_activity(jnp.concatenate([*seen, middle]), edits)
    gamma = kinetics.decay * factor["decay"]
    drive = edits.drive[: first].reshape(len(kinetics.layers), genes)
    levels = []
    if kinetics.splicing is not None:
        beta = kinetics.splicing * factor["splicing"]
        unspliced = kinetics.layer(state, "unspliced")
        levels.append(stage(unspliced, production + drive[0], beta, step))
        production = beta * 0.5 * (unspliced + levels[0])
    levels.append(stage(kinetics.layer(state, "rna"), production + drive[len(levels)], gamma, step))
    if protein_there:
        levels.append(stage(kinetics.layer(state, "protein"), made + drive[-1], delta, step))
    moved = jnp.concatenate([*levels, target + (hidden - target) * jnp.exp(-step / kinetics.hidden.tau)])
    return jnp.where(edits.hold, edits.level, moved)


def _kinds(kinetics: GeneKinetics) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.partition(":")[0] for name in kinetics.table.reactions))


def smooth(times: Times, readings: Readings, mask: Array, grid: Times) -> Readings:
    """Readings along the grid, (node, gene): straight lines between the samples that were made, flat beyond them.

    Straight lines in the readings' own (log) scale never overshoot, and their error is below the measurement's at the sampling of expression data. The first sample, where the culture
    starts, always counts as made; a culture that is held out is flat from there.
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
