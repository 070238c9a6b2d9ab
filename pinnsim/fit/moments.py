"""Populations matched by their means and covariances: a likelihood whose cost does not depend on the number of cells.

In the linear noise approximation cells at a time are normal, and so are linear readings of them with the instrument's
noise added:

    y ~ Normal(m, V),      m = readout(mu(t)),      V = G Sigma(t) G + N,      G = diag(d readout / dx at mu),

with N the instrument's variance, `sd(e m)^2 / e^2` for readings per unit of exposure. Of n cells their mean and their
covariance S (divided by n) are enough:

    log p = -n / 2 [ d log 2 pi + log |V| + tr(V^-1 (S + (mean - m)(mean - m)')) ].

Exact where rates and readouts are linear and cells normal. Cells that are not normal leave the estimates consistent
where mean and covariance are right (linear rates), with errors of the sandwich kind; what is not right is the curvature
of this likelihood. It knows of one valley only: fit populations of several valleys by `fit_snapshots`.

Sources: M. Komorowski, B. Finkenstadt, C. V. Harper and D. A. Rand, BMC Bioinformatics 10:343 (2009), linear noise as
a likelihood; C. Gourieroux, A. Monfort and A. Trognon, Econometrica 52:681 (1984), for cells that are not normal.
"""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float, Int
from tqdm import tqdm

from pinnsim.data.snapshots import Snapshots
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import Problems
from pinnsim.fit.fit import draw_start, run_stage_safely
from pinnsim.fit.objective import FAILED_CULTURE, Objective, prior_costs
from pinnsim.fit.optimise import Lanes, Stage, evaluate, halted, with_parameters
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.schedule import learning_rates
from pinnsim.fit.starts import kept_starts, outcomes
from pinnsim.fit.suits import check_species, species_at
from pinnsim.observation import Observation
from pinnsim.parameter import Parameter, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.simulate import AbstractCovariance, AbstractInitial, LinearNoise, Outcome, linear_noise
from pinnsim.simulate.initial import Bare
from pinnsim.table import Table
from pinnsim.tree import brief, lane, stack

_LEAST = 1e-12  # amount that stands for none

Means = Float[Array, "condition time reading"]
Covariances = Float[Array, "condition time reading reading"]


class MomentModel(eqx.Module):
    """A kind of cell and its fluctuations. **Arguments:** `start`: the mean's first state (`AtRest()`: the steady state
    before the first switch; `FromState(...)`); `spread`: how cells differ there (`StationaryCovariance()`,
    `ZeroCovariance()`, `GivenCovariance(...)`); `size`: Omega, molecules per abundance unit; `observations`: one per
    measured layer."""

    kinetics: AbstractKinetics
    start: AbstractInitial
    spread: AbstractCovariance
    size: Parameter
    observations: tuple[Observation, ...]


class MomentPrior(eqx.Module):
    """As `ModelPrior`: unconstrained parameters are normal around `center` with standard deviation `spread` (same tree;
    0 fixed, inf free)."""

    center: MomentModel
    spread: MomentModel


class MomentData(eqx.Module):
    """What is enough of all populations.

    **Arguments:** `times`: (condition, time); `count`: (condition, time), cells; `mean`, `covariance` (divided by the
    count): of readings per unit of exposure, a reading for each layer and gene, 0 where there are no cells; `exposure`:
    (condition, time), harmonic mean of size factors; `where`: (layer, gene), positions in the state.
    """

    times: Float[Array, "condition time"]
    count: Float[Array, "condition time"]
    mean: Means
    covariance: Covariances
    exposure: Float[Array, "condition time"]
    where: Int[Array, "layer gene"]
    perturbations: Perturbation


class ByMoments(eqx.Module):
    """What of the moments is compared. **Arguments:** `covariance`: whether means and covariances are, else means
    alone, weighted by measured covariances (then every population needs more cells than readings)."""

    covariance: bool = eqx.field(static=True, default=True)


@dataclasses.dataclass(frozen=True)
class MomentFit:
    """Kept starts, (start, ...) on every array, best first; their objectives in nats; a row per start; whether Ctrl-C
    ended the fit (the best so far is kept)."""

    __repr__ = brief

    models: MomentModel
    value: np.ndarray
    table: pd.DataFrame
    interrupted: bool = False

    @property
    def best(self) -> MomentModel:
        """The start with the lowest objective."""
        return lane(self.models, 0)


def moments_of(snapshots: Snapshots, table: Table) -> MomentData:
    """Means and covariances of `snapshots`, for a model with this `table`.

    **Raises** `E_GENE_UNMATCHED` for measured species that the model does not have, `E_PERTURB_...`.
    """
    with Problems() as problems:
        check_species(problems, snapshots, table)
    there, cells = snapshots.there, snapshots.cells()
    readings = snapshots.normalised().reshape(*there.shape, -1) * there[..., None]
    count = np.maximum(cells, 1)[..., None]
    mean = readings.sum(axis=2) / count
    apart = (readings - mean[:, :, None]) * there[..., None]
    thin = np.sum(np.where(there, 1.0 / snapshots.exposure, 0.0), axis=2)
    return MomentData(
        times=jnp.asarray(snapshots.times, dtype=float),
        count=jnp.asarray(cells, dtype=float),
        mean=jnp.asarray(mean, dtype=float),
        covariance=jnp.asarray(np.einsum("ctni,ctnj->ctij", apart, apart) / count[..., None], dtype=float),
        exposure=jnp.asarray(np.where(cells > 0, cells / np.where(cells > 0, thin, 1.0), 1.0), dtype=float),
        where=jnp.asarray(species_at(snapshots, table)),
        perturbations=Perturbation.stack([treatment.resolve(table) for treatment in snapshots.treatments]),
    )


def predicted_moments(
    model: MomentModel, data: MomentData, settings: Settings
) -> tuple[Means, Covariances, Bool[Array, " condition"]]:
    """Means and covariances of readings per unit of exposure, the instrument's noise included, and which conditions
    could be solved. `model` is resolved."""
    kind, cell = data.times.dtype, Bare(model.kinetics)
    method = LinearNoise(model.size, settings.rtol, settings.atol, begin=model.spread, max_steps=settings.max_steps)

    def one(times: Array, exposure: Array, perturbation: Perturbation) -> tuple[Array, Array, Array]:
        state = model.start.state(cell, perturbation)
        usable = jnp.all(jnp.isfinite(state))
        found = linear_noise(model.kinetics, times, perturbation, jnp.where(usable, state, 1.0), method)
        usable = usable & (found.outcome == Outcome.DONE)
        mean = jnp.where(usable, found.mean, 1.0)
        covariance = jnp.where(usable, found.covariance, jnp.eye(mean.shape[1], dtype=kind)[None])
        means: list[Array] = []
        slopes: list[Array] = []
        noises: list[Array] = []
        for k, instrument in enumerate(model.observations):
            # The spread of counts has no slope at 0, where nothing is scored anyway.
            amount = jnp.maximum(mean[:, data.where[k]], _LEAST)
            shown, slope = jax.jvp(jax.vmap(instrument.readout), (amount,), (jnp.ones_like(amount),))
            wide = instrument.likelihood.standard_deviation(times, shown * exposure[:, None]) / exposure[:, None]
            means.append(shown)
            slopes.append(slope)
            noises.append(wide**2)
        slope, rows = jnp.concatenate(slopes, axis=1), data.where.ravel()
        inside = covariance[:, rows][:, :, rows] * slope[:, :, None] * slope[:, None, :]
        noise = jax.vmap(jnp.diag)(jnp.concatenate(noises, axis=1))
        return jnp.concatenate(means, axis=1), inside + noise, usable

    return jax.vmap(one)(data.times, data.exposure, data.perturbations)


def normal_cost(count: Scalar, mean: Array, covariance: Array, expected: Array, spread: Array) -> tuple[Scalar, Array]:
    """`-log p` of n readings with this mean and covariance (divided by n) under Normal(expected, spread), in nats, and
    whether `spread` is positive definite."""
    plain = jnp.eye(mean.size, dtype=mean.dtype)
    usable = jnp.all(jnp.isfinite(jnp.linalg.cholesky(jax.lax.stop_gradient(spread))))
    lower = jnp.linalg.cholesky(jnp.where(usable, spread, plain))
    apart = mean - expected
    second = covariance + apart[:, None] * apart[None, :]
    trace = jnp.trace(jax.scipy.linalg.cho_solve((lower, True), second))
    turns = mean.size * jnp.log(2.0 * jnp.pi).astype(mean.dtype)
    return 0.5 * count * (turns + 2.0 * jnp.sum(jnp.log(jnp.diagonal(lower))) + trace), usable


def moments_objective(
    model: MomentModel, prior: MomentPrior, data: MomentData, settings: Settings, match: ByMoments
) -> Objective:
    """The objective of one model: `data` by moments and `prior`, in nats. First times are scored only where they are
    modelled (`settings.initial` is not "sample")."""
    cost, failed = moments_cost(*predicted_moments(resolve(model), data, settings), data, settings, match)
    terms = {"data": cost, **prior_costs(model, prior, lambda _: "prior", ("prior",))}
    return Objective(terms["data"] + terms["prior"], terms, failed)


def moments_cost(
    expected: Means, spread: Covariances, solved: Array, data: MomentData, settings: Settings, match: ByMoments
) -> tuple[Scalar, Int[Array, ""]]:
    """What `predicted_moments` cost, in nats, and how many scored populations could not be predicted."""
    scored = data.count > 0
    if settings.initial == "sample":
        scored = scored.at[:, 0].set(False)
    plain = jnp.eye(data.mean.shape[2], dtype=data.mean.dtype)
    against = spread if match.covariance else data.covariance
    safe = jnp.where((scored & solved[:, None])[..., None, None], against, plain[None, None])
    cost, usable = jax.vmap(jax.vmap(normal_cost))(data.count, data.mean, data.covariance, expected, safe)
    usable = usable & solved[:, None]
    costs = jnp.where(scored & usable, cost, jnp.where(scored, FAILED_CULTURE, 0.0))
    return jnp.sum(costs), jnp.sum(scored & ~usable, dtype=int)


def fit_moments(
    prior: MomentPrior,
    snapshots: Snapshots,
    match: ByMoments | None = None,
    plan: FitPlan | None = None,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> MomentFit:
    """Fits means and covariances from many starts, which run as one program.

    **Arguments:** `plan`: its `trajectory_steps` at `trajectory_learning_rate`, starts, schedule and tolerances;
    `initial="sample"` does not score first times; `checkpoint`: a path; `<path>.moments.safetensors` is written during
    the fit, and a fit of the same problem goes on from it.

    **Raises** `E_FIT` when no start has a finite objective, `E_CKPT_MODEL` and `E_CKPT_CORRUPT` for a checkpoint of
    another fit or a damaged one, and what `moments_of` raises.
    """
    plan, match = FitPlan() if plan is None else plan, ByMoments() if match is None else match
    data = moments_of(snapshots, prior.center.kinetics.table)
    keys = jax.random.split(jax.random.key(plan.seed), plan.starts)
    models = stack([draw_start(prior, keys[k], plan.start_spread * (k > 0)) for k in range(plan.starts)])
    lanes = Lanes(models, stack([prior] * plan.starts), stack([data] * plan.starts))
    rates = learning_rates(plan, plan.trajectory_learning_rate, plan.trajectory_steps)
    stage, settings = Stage("moments", match, rates, moments_objective), plan.settings()
    with tqdm(total=stage.steps, desc="moments", unit="step", disable=None if progress else True) as bar:
        last, interrupted = run_stage_safely(lanes, stage, plan, checkpoint, bar, told={"match": str(match)})
    if last is None:
        raise KeyboardInterrupt  # before the first chunk was done there is nothing to keep
    found = with_parameters(lanes, last.best)
    ended = evaluate(found, lanes.priors, lanes.data, settings, match, moments_objective)
    value, failed = np.asarray(ended.total), np.asarray(ended.failed)
    good, outcome = outcomes(value, failed, halted(last), "a population could not be solved", "not finite")
    advice = "could be solved at all times; narrow start_spread, or give the instrument some noise."
    ranked = kept_starts(value, good, np.zeros(plan.starts, int), plan, lambda _: advice)
    table = pd.DataFrame({"start": np.arange(plan.starts), "objective": value})
    table = table.assign(**{name: np.asarray(term) for name, term in ended.terms.items()})
    table["outcome"] = outcome
    table["kept"] = np.isin(np.arange(plan.starts), ranked)
    return MomentFit(lane(found, ranked), value[ranked], table, interrupted)
