"""Fits to snapshots: simulated populations are pushed from the first one and matched with those measured later.

    objective = sum over conditions and times of cost(simulated, measured) + prior

Deterministic by seed: cells keep their random numbers through a fit. All starts run as one program, in the same
optimiser as every other fit.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, UInt32
from tqdm import tqdm

from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import Problems, first
from pinnsim.fit.cultures import collocation_grid
from pinnsim.fit.fit import draw_start, run_stage_safely
from pinnsim.fit.match import AbstractMatch, feature
from pinnsim.fit.objective import FAILED_CULTURE, Objective, prior_costs
from pinnsim.fit.optimise import Halt, Lanes, Stage, evaluate, halted, with_parameters
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.population import PopulationModel, PopulationPrior, cell_keys
from pinnsim.fit.schedule import learning_rates
from pinnsim.fit.starts import kept_starts, outcomes
from pinnsim.fit.suits import check_snapshots, check_species, flags, needs_two_cells, species_at
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key
from pinnsim.table import Table
from pinnsim.tree import brief, digest, lane, stack


class Populations(eqx.Module):
    """Arrays of all populations, as a fit sees them.

    **Arguments:** `times`: (condition, time); `measured`: readings; `there`: 1 for cells; `exposure`; `seeds`: first
    readings per unit of exposure, drawn with replacement for as many cells as are simulated; `keys`: of the simulated
    cells, the same in all conditions; `where`: positions in the state; `unit`: spread of each quantity on the scale of
    distances; `grid`: time nodes of methods with given steps.
    """

    times: Float[Array, "condition time"]
    measured: Float[Array, "condition time cell layer gene"]
    there: Float[Array, "condition time cell"]
    exposure: Float[Array, "condition time cell"]
    seeds: Float[Array, "condition lane layer gene"]
    keys: UInt32[Array, "condition lane 2"]
    where: Int[Array, "layer gene"]
    unit: Float[Array, "layer gene"]
    perturbations: Perturbation
    grid: Float[Array, "condition node"]


@dataclasses.dataclass(frozen=True)
class SnapshotFit:
    """Fitted populations, best first within each group.

    **Arguments:** `models`: (lane, ...), the kept starts; `value`: (lane,), objectives; `group`: (lane,), which problem
    a lane belongs to; `table`: a row per start, kept or not; `flags`: what the data could not tell, in sentences that
    start with a code; `interrupted`: whether Ctrl-C ended it (the best so far is kept).
    """

    __repr__ = brief

    models: PopulationModel
    value: np.ndarray
    group: np.ndarray
    table: pd.DataFrame
    flags: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def best(self) -> PopulationModel:
        """The start with the lowest objective, of the first problem where there are several."""
        return self.best_of(0)

    def best_of(self, group: int) -> PopulationModel:
        """The start of one problem with the lowest objective."""
        return lane(self.models, int(np.flatnonzero(self.group == group)[0]))


def populations(
    snapshots: Snapshots, table: Table, *, cells: int, substeps: int = 20, seed: int = 0, logs: bool = True
) -> Populations:
    """What a fit needs of `snapshots`, for a model with this `table`.

    **Arguments:** `cells`: how many are simulated per condition; `substeps`: steps between two times, of methods with
    given steps; `logs`: whether distances compare log(1 + reading).

    **Raises** `E_GENE_UNMATCHED` for measured species that the model does not have, `E_DATA_EMPTY` where a condition
    has no cells at its first time, `E_PERTURB_...`.
    """
    with Problems() as problems:
        check_species(problems, snapshots, table)
        empty = [name for name, n in zip(snapshots.conditions, snapshots.cells()[:, 0], strict=True) if n == 0]
        if empty:
            problems.add("E_DATA_EMPTY", f"conditions {first(empty)} have no cells at their first time to start from.")
        if cells < 1:
            problems.add("E_USAGE", f"Argument `cells` must be at least 1, but is {cells}.")
    acting = Perturbation.stack([treatment.resolve(table) for treatment in snapshots.treatments])
    grid, _ = collocation_grid(snapshots.times, acting, substeps)
    key = key_of(jax.random.key(seed))
    keys = np.asarray(cell_keys(key, cells))
    rng = np.random.default_rng(np.asarray(lane_key(key, cells)).tolist())
    normal, there = snapshots.normalised(), snapshots.there
    seeds = [normal[c, 0][rng.choice(np.flatnonzero(there[c, 0]), cells)] for c in range(len(normal))]
    unit = np.asarray(feature(jnp.asarray(normal[there]), logs)).std(axis=0)
    return Populations(
        times=jnp.asarray(snapshots.times, dtype=float),
        measured=jnp.asarray(snapshots.values, dtype=float),
        there=jnp.asarray(there, dtype=float),
        exposure=jnp.asarray(snapshots.exposure, dtype=float),
        seeds=jnp.asarray(np.stack(seeds), dtype=float),
        keys=jnp.asarray(np.broadcast_to(keys, (len(seeds), *keys.shape))),
        where=jnp.asarray(species_at(snapshots, table)),
        unit=jnp.asarray(np.where(unit > 0, unit, 1.0), dtype=float),
        perturbations=acting,
        grid=jnp.asarray(grid, dtype=float),
    )


def simulate_populations(model: PopulationModel, data: Populations) -> tuple[Array, Array]:
    """Expected readings, (condition, time, lane, layer, gene), and which cells arrived, (condition, lane). `model` is
    resolved."""

    def one(times: Array, grid: Array, seeds: Array, keys: Array, perturbation: Perturbation) -> tuple[Array, Array]:
        begin = model.begin.states(model.kinetics, model.amounts(seeds), data.where, keys, perturbation)
        usable = jnp.all(jnp.isfinite(begin), axis=1)
        # A state that is not a number would keep an adaptive solver busy; any number does, and the cell is marked.
        begin = jnp.where(usable[:, None], begin, 1.0)
        courses, arrived = model.push.courses(model.kinetics, times, grid, perturbation, begin, keys)
        arrived = arrived & usable
        courses = jnp.where(arrived[:, None, None], courses, 1.0)
        return model.readings(jnp.maximum(courses, 0.0), data.where), arrived

    return jax.vmap(one)(data.times, data.grid, data.seeds, data.keys, data.perturbations)


def snapshot_objective(
    model: PopulationModel, prior: PopulationPrior, data: Populations, settings: Settings, match: AbstractMatch
) -> Objective:
    """The objective of one population model; populations at first times are scored only where they are modelled
    (`settings.initial` is not "sample")."""
    population = resolve(model)
    simulated, arrived = simulate_populations(population, data)
    costs, failed = population_costs(population, simulated, arrived, data, settings, match)
    told = prior_costs(model, prior, lambda name: name.split("/")[0], ("kinetics", "begin", "push", "observations"))
    terms = {"data": jnp.sum(costs), **told}
    return Objective(sum(terms.values(), jnp.zeros(())), terms, jnp.sum(failed, dtype=int))


def population_costs(
    population: PopulationModel,
    simulated: Array,
    arrived: Array,
    data: Populations,
    settings: Settings,
    match: AbstractMatch,
) -> tuple[Array, Array]:
    """Costs of all populations given simulated ones, (condition x time,), and which could not be matched."""
    kind = simulated.dtype
    scored = jnp.any(data.there > 0, axis=2)
    if settings.initial == "sample":
        scored = scored.at[:, 0].set(False)

    def one(inputs: tuple) -> tuple[Array, Array]:
        measured, there, exposure, shown, came, keys, counts = inputs
        cost, usable = match.cost(population, measured, there, exposure, shown, came, data.unit, keys)
        return jnp.where(counts & usable, cost, jnp.where(counts, FAILED_CULTURE, 0.0)), counts & ~usable

    conditions, moments = data.times.shape
    spread = (arrived.astype(kind), data.keys)
    each = [jnp.repeat(a, moments, axis=0) for a in spread]
    flat = [
        a.reshape(conditions * moments, *a.shape[2:]) for a in (data.measured, data.there, data.exposure, simulated)
    ]
    return jax.lax.map(one, (*flat, *each, scored.ravel()))


def fit_snapshots(
    prior: PopulationPrior,
    snapshots: Snapshots,
    match: AbstractMatch,
    plan: FitPlan | None = None,
    *,
    cells: int = 200,
    batch: int | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> SnapshotFit:
    """Fits a population model from many starts.

    **Arguments:** `plan`: its `trajectory_steps` at `trajectory_learning_rate`, starts, schedule and seed count;
    `initial="sample"` starts cells from the first population and does not score it; `cells`: simulated per condition;
    `batch`: measured cells drawn anew for every ten steps (all by default); `checkpoint`: a path;
    `<path>.populations.safetensors` is written during the fit, and a fit of the same problem goes on from it.

    **Returns** the kept starts, best first by the objective over all cells. Deterministic by `plan.seed`, interrupted
    and resumed or not.

    **Raises** `E_FIT` when no start has a finite objective, `E_SCALE_MISMATCH` for data that do not suit the
    likelihood, `E_CKPT_MODEL` and `E_CKPT_CORRUPT` for a checkpoint of another fit or a damaged one, and what
    `populations` raises.
    """
    plan = FitPlan() if plan is None else plan
    data = fit_data(prior, snapshots, match, plan, cells)
    fitted = fit_populations([prior], [data], match, plan, batch=batch, progress=progress, checkpoint=checkpoint)
    return dataclasses.replace(fitted, flags=flags(snapshots))


def fit_data(
    prior: PopulationPrior, snapshots: Snapshots, match: AbstractMatch, plan: FitPlan, cells: int
) -> Populations:
    """What a fit of this plan needs of `snapshots`, checked against the model's instruments."""
    with Problems() as problems:
        check_snapshots(problems, prior.center.observations, snapshots)
        needs_two_cells(problems, match, snapshots)
    table, logs = prior.center.kinetics.table, getattr(match, "logs", True)
    return populations(snapshots, table, cells=cells, substeps=plan.substeps, seed=plan.seed, logs=logs)


def fit_populations(
    priors: Sequence[PopulationPrior],
    data: Sequence[Populations],
    match: AbstractMatch,
    plan: FitPlan,
    *,
    batch: int | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    label: str = "snapshots",
) -> SnapshotFit:
    """Several problems of equal shapes (data sets, shuffled priors, held-out times) x `plan.starts`, as lanes of one
    program; arguments as of `fit_snapshots`. Start `k` of every problem draws with the same key."""
    keys = jax.random.split(jax.random.key(plan.seed), plan.starts)
    starts = range(plan.starts)
    lanes = Lanes(
        stack([draw_start(prior, keys[k], plan.start_spread * (k > 0)) for prior in priors for k in starts]),
        stack([prior for prior in priors for _ in starts]),
        stack([one for one in data for _ in starts]),
    )
    rates = learning_rates(plan, plan.trajectory_learning_rate, plan.trajectory_steps)
    stage = Stage("populations", match, rates, snapshot_objective)
    whole, seed = lanes.data, jax.random.key(plan.seed)

    def part(done: int) -> Populations:
        return whole if batch is None else _drawn(whole, seed, jnp.asarray(done), batch)

    told = {"match": repr(match) + digest(match), "batch": str(batch)}
    with tqdm(total=stage.steps, desc=label, unit="step", disable=None if progress else True) as bar:
        ended, interrupted = run_stage_safely(lanes, stage, plan, checkpoint, bar, part, told)
    if ended is None:
        raise KeyboardInterrupt  # before the first chunk was done there is nothing to keep
    # Of parts of the data the best step is the luckiest one: the last parameters are kept then.
    found = with_parameters(lanes, ended.best if batch is None else ended.parameters)
    group = np.repeat(np.arange(len(priors)), plan.starts)
    value = evaluate(found, lanes.priors, whole, plan.settings(), match, snapshot_objective)
    return _collected(found, value, group, plan, interrupted, halted(ended, batch is not None))


def _collected(
    models: PopulationModel, ended: Objective, group: np.ndarray, plan: FitPlan, interrupted: bool, halt: Halt
) -> SnapshotFit:
    value, failed = np.asarray(ended.total), np.asarray(ended.failed)
    good, outcome = outcomes(value, failed, halt, "a population could not be matched", "not finite")
    terms = {name: np.asarray(term) for name, term in ended.terms.items()}
    start = np.arange(len(value)) % plan.starts
    table = pd.DataFrame({"group": group, "start": start, "objective": value, **terms, "outcome": outcome})
    advice = "could be simulated and matched to the end; narrow start_spread, or raise substeps."
    chosen = kept_starts(value, good, group, plan, lambda _: advice)
    table["kept"] = np.isin(np.arange(len(value)), chosen)
    return SnapshotFit(lane(models, chosen), value[chosen], group[chosen], table, interrupted=interrupted)


@eqx.filter_jit
def _drawn(data: Populations, key: Array, done: Array, count: int) -> Populations:
    """`count` cells of every population; all arrays have a leading lane axis, and lanes draw with one key."""

    def one(data: Populations) -> Populations:
        there = data.there
        score = jax.random.uniform(jax.random.fold_in(key, done), there.shape, there.dtype)
        chosen = jax.lax.top_k(jnp.where(there > 0, score, -1.0), min(count, there.shape[2]))[1]
        return dataclasses.replace(
            data,
            measured=jnp.take_along_axis(data.measured, chosen[..., None, None], axis=2),
            there=jnp.take_along_axis(there, chosen, axis=2),
            exposure=jnp.take_along_axis(data.exposure, chosen, axis=2),
        )

    return jax.vmap(one)(data)
