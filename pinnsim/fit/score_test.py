"""The arithmetic of the score test of new edges, for all genes and candidates at once: see `propose` for what it is.

Sums over readings are gathered culture by culture; a reverse sweep per sample time gives how a gene's reading there
depends on its own numbers and on its log-odds in every step of the grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.regulation import HillAverage, Promoter
from pinnsim.fit.collocation import exponential_step, halfway, smooth
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import scored_readings
from pinnsim.fit.plan import Settings
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import Frozen, is_parameter, resolve
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import State
from pinnsim.simulate import ODE, AtRest, FromSample, Outcome
from pinnsim.simulate.run import run_one

_TOLD = 1e-6  # least share of an edge's information that its gene's own parameters must leave
_FREE = 1e-8  # prior precision of a parameter without a prior
_LEAST = 1e-12  # abundance that stands for none inside a logarithm
_EDGE = 1e-4  # promoter activity at rest is kept this far from 0 and 1, as where a sample is inverted

Own = list[Any]  # a gene's own free numbers, a leaf each


class _Sums(NamedTuple):
    """Sums over readings: J'W J, J'g, S'W J, S'W S and S'g."""

    own: Float[Array, "gene own own"]
    slope: Float[Array, "gene own"]
    mixed: Float[Array, "gene candidate own"]
    edge: Float[Array, "gene candidate"]
    score: Float[Array, "gene candidate"]


@eqx.filter_jit
def score_tests(
    model: CellModel, prior: ModelPrior, data: Cultures, settings: Settings, index: Array, fitted: bool
) -> tuple[Array, Array, Array, Array, Array]:
    """z, strength, its standard error and whether the data tell it apart, (gene, candidate), and standard deviations of
    each gene's own numbers, (gene, own)."""
    own, cell, scored = own_numbers(model), resolve(model), scored_readings(data, settings)

    states, rna, usable = courses(cell, data, settings, fitted)
    levels, level_at_rest = jax.vmap(lambda *culture: _inputs(cell.kinetics, index, *culture))(
        states, data.perturbations, data.grid, rna
    )
    counted = usable[:, None].astype(levels.dtype)
    center = jnp.sum(counted * jnp.mean(levels, axis=1), axis=0) / jnp.maximum(jnp.sum(counted), 1.0)
    promoter: Any = cell.kinetics.promoter
    hill = jnp.mean(promoter.hill) if promoter.hill.size else jnp.ones(())
    occupied = jax.nn.sigmoid(hill * (levels - center[None, None]))
    at_rest = jax.nn.sigmoid(hill * (level_at_rest - center[None]))

    def add(sums: _Sums, culture: tuple) -> tuple[_Sums, None]:
        (times, readings, sd, exposure, perturbation, grid, at), mask, state, rna, occupied, at_rest = culture

        def predicted(own: Own, more: Array, rest: Array) -> Array:
            kinetics = resolve(eqx.tree_at(own_numbers, model, own)).kinetics
            begin = _begin(kinetics, state, perturbation, rest, settings.initial)

            def advance(state: State, step: tuple) -> tuple[State, Array]:
                moved = exponential_step(kinetics, state, *step)
                return moved, kinetics.layer(moved, "rna")

            path = jax.lax.scan(advance, begin, (*_steps(perturbation, grid, rna), more))[1]
            path = jnp.concatenate([kinetics.layer(begin, "rna")[None], path])
            return jax.vmap(cell.observation.readout)(path[at]) * exposure[:, None]

        none = jnp.zeros((grid.shape[0] - 1, readings.shape[1]), readings.dtype)
        expected, pull = jax.vjp(predicted, own, none, none[0])
        # A gene's reading depends on its own numbers only: one reverse sweep per time serves all genes.
        of_own, of_more, of_rest = jax.vmap(lambda k: pull(jnp.zeros_like(expected).at[k].set(1.0)))(
            jnp.arange(times.shape[0])
        )
        jacobian = jax.vmap(lambda leaves: own_rows(model, leaves))(of_own)
        effect = jnp.einsum("tng,nc->tgc", of_more, occupied) + of_rest[:, :, None] * at_rest[None, None]
        slope, weight = _likelihood(cell, times, readings, expected, mask, sd)
        weighted = jnp.einsum("gts,sgc->tgc", weight, effect)
        here = _Sums(
            jnp.einsum("tgp,tgq->gpq", jacobian, jnp.einsum("gts,sgp->tgp", weight, jacobian)),
            jnp.einsum("tgp,tg->gp", jacobian, slope),
            jnp.einsum("tgc,tgp->gcp", weighted, jacobian),
            jnp.einsum("tgc,tgc->gc", effect, weighted),
            jnp.einsum("tgc,tg->gc", effect, slope),
        )
        return jax.tree.map(jnp.add, sums, here), None

    here, center_of, spread = (
        own_rows(model, leaves) for leaves in (own, own_numbers(prior.center), own_numbers(prior.spread))
    )
    (genes, width), many = here.shape, index.shape[0]
    shapes = ((genes, width, width), (genes, width), (genes, many, width), (genes, many), (genes, many))
    zero = _Sums(*(jnp.zeros(shape, here.dtype) for shape in shapes))
    parts = (data.times, data.readings, data.measured_sd, data.exposure, data.perturbations, data.grid, data.at)
    counts = scored & usable[:, None, None]
    sums, _ = jax.lax.scan(add, zero, (parts, counts, states, rna, occupied, at_rest))
    return _scores(sums, here - center_of, spread)


def courses(cell: CellModel, data: Cultures, settings: Settings, fitted: bool) -> tuple[Array, Array, Array]:
    """First states, (culture, species), RNA along the grids, (culture, node, gene), and whether there are any,
    (culture,): as fitted or as measured. `cell` is resolved."""

    def course(times: Array, readings: Array, mask: Array, perturbation: Perturbation, grid: Array) -> tuple:
        rule = FromSample(readings[0]) if settings.initial == "sample" else AtRest()
        state = rule.state(cell, perturbation)
        fine = jnp.all(jnp.isfinite(state))
        if fitted:
            method = ODE(settings.rtol, settings.atol, max_steps=settings.max_steps)
            solution, _ = run_one(cell, grid, method, perturbation, rule)
            rna, fine = cell.kinetics.layer(solution.states, "rna"), fine & (solution.outcome == Outcome.DONE)
        else:
            rna = jax.vmap(cell.observation.readout.invert)(smooth(times, readings, mask, grid))
        return jnp.where(fine, state, 1.0), jnp.where(fine, rna, 1.0), fine

    return jax.vmap(course)(data.times, data.per_exposure, data.mask, data.perturbations, data.grid)


def along(
    kinetics: GeneKinetics,
    state: State,
    perturbation: Perturbation,
    grid: Array,
    rna: Array,
    read: Callable[[State, Edits], Any],
) -> Any:
    """What `read` makes of the state in the middle of every step of a course, (step, ...)."""

    def advance(state: State, step: tuple) -> tuple[State, Any]:
        span, edits, here = step
        seen = halfway(kinetics, state, span, edits, here)
        return exponential_step(kinetics, state, span, edits, here), read(seen, edits)

    return jax.lax.scan(advance, state, _steps(perturbation, grid, rna))[1]


def _scores(sums: _Sums, away: Array, spread: Array) -> tuple[Array, Array, Array, Array, Array]:
    """U and I from the sums, with what the gene's own parameters could do as well taken away."""
    free = (spread > 0).astype(away.dtype)
    precision = jnp.where(jnp.isfinite(spread), 1.0 / jnp.where(spread > 0, spread, 1.0) ** 2, _FREE)
    matrix = sums.own * free[:, :, None] * free[:, None, :] + jax.vmap(jnp.diag)(precision)
    slope = free * (sums.slope - precision * away)
    both = jnp.concatenate([(sums.mixed * free[:, None, :]).swapaxes(1, 2), slope[:, :, None]], axis=2)
    white = jax.vmap(lambda a, b: jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(a), b, lower=True))(
        matrix, both
    )
    taken, left = white[:, :, :-1], white[:, :, -1]
    score = sums.score - jnp.einsum("gpc,gp->gc", taken, left)
    information = sums.edge - jnp.sum(taken**2, axis=1)
    told = (information > _TOLD * sums.edge) & (information > 0)
    safe = jnp.where(told, information, 1.0)
    z, strength = jnp.where(told, score / jnp.sqrt(safe), 0.0), jnp.where(told, score / safe, 0.0)
    sd = free * jnp.sqrt(jax.vmap(lambda a: jnp.diagonal(jnp.linalg.inv(a)))(matrix))
    return z, strength, 1.0 / jnp.sqrt(safe), told, sd


def _steps(perturbation: Perturbation, grid: Array, rna: Array) -> tuple[Array, Edits, Array]:
    """Length of every step, what acts during it, and RNA in its middle."""
    edits = jax.vmap(perturbation.at)(0.5 * (grid[:-1] + grid[1:]))
    return jnp.diff(grid), edits, 0.5 * (rna[:-1] + rna[1:])


def _since_ever(perturbation: Perturbation) -> Edits:
    kind = perturbation.start.dtype
    return perturbation.acting(jnp.asarray(-jnp.inf, kind)).at(jnp.zeros((), kind))


def _inputs(
    kinetics: GeneKinetics, index: Array, state: State, perturbation: Perturbation, grid: Array, rna: Array
) -> tuple[Array, Array]:
    """Logarithms of the candidates' inputs in the middle of every step, (step, candidate), and at rest."""
    product = "rna" if kinetics.translation is None else "protein"

    def read(seen: State, edits: Edits) -> Array:
        both = jnp.concatenate([kinetics.regulator_inputs(seen, edits), kinetics.layer(seen, product)])
        return jnp.log(jnp.maximum(both[index], _LEAST))

    return along(kinetics, state, perturbation, grid, rna, read), read(state, _since_ever(perturbation))


def _begin(kinetics: GeneKinetics, state: State, perturbation: Perturbation, rest: Array, initial: str) -> State:
    """The first state as a gene's own numbers, and what is added to its log-odds at rest, move it."""
    edits = _since_ever(perturbation)
    factor = kinetics.by_kind(jnp.where(edits.factor > 0, edits.factor, 1.0))
    rna, most = kinetics.layer(state, "rna"), factor["transcription"] * kinetics.synthesis
    lost = factor["decay"] * kinetics.decay
    if initial == "rest":
        rna = most / lost * kinetics.promoter_activity(state, edits, rest)
    before = [] if kinetics.splicing is None else [lost * rna / (factor["splicing"] * kinetics.splicing)]
    moved = jnp.concatenate([*before, rna, state[(len(before) + 1) * kinetics.genes :]])
    if initial == "rest" or not kinetics.own_inputs:
        return moved
    activity = jnp.clip(lost * rna / most, _EDGE, 1.0 - _EDGE)
    listed = kinetics.promoter.log_odds(kinetics.regulator_inputs(state, edits), edits.edge_factor)
    needed = jnp.log(activity) - jnp.log1p(-activity) - listed - rest
    # In value nothing: what a gene's own input makes up for at rest.
    return moved.at[-kinetics.genes :].add(needed - jax.lax.stop_gradient(needed))


def _likelihood(
    cell: CellModel, times: Array, readings: Array, expected: Array, mask: Array, sd: Array
) -> tuple[Array, Array]:
    """Slope of the log density in the predictions, (time, gene), and its curvature, (gene, time, time), where positive
    (an outlier's says nothing)."""

    def density(expected: Array) -> Array:
        return jnp.sum(cell.observation.likelihood.log_density(times, readings, expected, mask, sd))

    def column(time: Array) -> Array:
        tangent = jnp.zeros_like(expected).at[time].set(1.0)
        return -jax.jvp(jax.grad(density), (expected,), (tangent,))[1]

    curvature = jnp.moveaxis(jax.vmap(column)(jnp.arange(times.shape[0])), 2, 0)
    values, vectors = jnp.linalg.eigh(0.5 * (curvature + jnp.swapaxes(curvature, 1, 2)))
    weight = jnp.einsum("gts,gs,gus->gtu", vectors, jnp.maximum(values, 0.0), vectors)
    return jax.grad(density)(expected), weight


def own_numbers(model: CellModel) -> Own:
    """Unconstrained numbers that belong to one gene each: rates of its RNA, and its promoter's."""
    return [node.raw if is_parameter(node) else node for _, node in _owned(model)]


def _owned(model: CellModel) -> list[tuple[str, Any]]:
    """These parameters, with what they belong to: genes, edges, or rows of edges."""
    kinetics, promoter = model.kinetics, model.kinetics.promoter
    nodes = [("gene", node) for node in (kinetics.synthesis, kinetics.splicing, kinetics.decay) if node is not None]
    if isinstance(promoter, Promoter):
        nodes += [("gene", promoter.basal)]
        nodes += [("edge", node) for node in (promoter.strength, promoter.affinity, promoter.hill)]
    elif isinstance(promoter, HillAverage):
        nodes += [("gene", promoter.leak)]
        nodes += [("row", node) for node in (promoter.weight, promoter.tilt, promoter.affinity, promoter.hill)]
    return [(of, node) for of, node in nodes if not isinstance(node, Frozen)]


def own_rows(model: CellModel, leaves: Own) -> Float[Array, "gene own"]:
    """Such numbers gene by gene; 0 where rows of edges are padded."""
    promoter: Any = model.kinetics.promoter

    def row(of: str, leaf: Array) -> Array:
        if of == "edge":
            return jnp.concatenate([leaf, jnp.zeros(1, leaf.dtype)])[promoter.slots]
        return leaf[:, None] if of == "gene" else leaf

    return jnp.concatenate([row(of, leaf) for (of, _), leaf in zip(_owned(model), leaves, strict=True)], axis=1)
