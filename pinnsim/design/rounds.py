"""Does design pay? Rounds of fit, choice, measurement and refit on simulated truth, against choice at random.

Every repeat has a truth drawn from the prior. Each policy starts from the same opening experiments, then, round by
round, fits, chooses one more candidate (`active`: the largest expected information at its own fit; `random`), and reads
the truth with the instrument's noise; an experiment reads the same under both policies (common random numbers). All
repeats of all policies are problems of one fit and rows of one program, and later rounds compile nothing anew.

Errors are root mean squares over the free unconstrained numbers in units of the prior's standard deviations: 1 is what
the prior alone would leave. Information is that of the normal posterior with the fit's own prior,

    M = I + sum over experiments made of G' G,     G = R^-1/2 J S,     S = diag(sd_prior),     covariance S M^-1 S.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from tqdm import tqdm

from pinnsim.design.experiments import Experiment, Layout, Number, check_experiments, layout_of
from pinnsim.design.gain import Outlook, all_gains, whitened
from pinnsim.design.outlook import Expected, Setting, instrument, members_expect, readings, setting_of
from pinnsim.design.parts import in_parts
from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit import Cultures, FitPlan, fit_groups
from pinnsim.fit.cultures import collocation_grid
from pinnsim.fit.free import FreeVector, Vector, free_vector
from pinnsim.model import CellModel, ModelPrior
from pinnsim.observation import Gaussian
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import AtRest
from pinnsim.tree import lane, stack

POLICIES = ("active", "random")
_SIDE_BY_SIDE = 8  # problems


def design_rounds(
    prior: ModelPrior,
    truths: Sequence[CellModel],
    experiments: Sequence[Experiment],
    *,
    opening: Sequence[Experiment],
    rounds: int,
    plan: FitPlan,
    per_cost: bool = False,
    start: Number = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Runs both policies on every truth.

    **Arguments:** `prior`: of model and fit, with normal errors of known spread; `truths`: a repeat each (`fit.fit`'s
    `draw_start` draws them from the prior); `experiments`: candidates, of which none is chosen twice; `opening`: what
    both policies begin with; `rounds`: choices after it; `plan`: of the fits, with `initial = "rest"`; `per_cost`:
    whether `active` maximises information per cost; `start`: when cultures start; `seed`: of noise and random choice.

    Good values: `FitPlan(starts=2, collocation_steps=0, trajectory_steps=0, polish_steps=15, initial="rest")`.

    **Returns** a row per policy, repeat and round (0: after the opening): `error`, `width` (root mean square of the
    posterior's own widths, same unit as `error`), `cost` so far, `experiment` chosen for this round (-1: the opening)
    and `gain`, what it was expected to tell (nats).

    **Raises** `E_USAGE` for another likelihood or start, fewer candidates than rounds, and what `design` raises.
    """
    pool = (*opening, *experiments)
    _check(prior, truths, pool, opening, rounds, plan, start)
    table, repeats = prior.center.table, len(truths)
    layout = layout_of(pool, table, start)
    setting = setting_of(prior.center, layout, AtRest(), plan.rtol, plan.atol)
    free = free_vector(prior.center, prior)
    true = np.asarray(_vectors(free, stack(list(truths))))
    bench = _Bench(pool, layout, setting, members_expect(setting, stack(list(truths))), plan.substeps, seed)
    problems = [(policy, repeat) for policy in POLICIES for repeat in range(repeats)]
    made = [list(range(len(opening))) for _ in problems]
    gained = [float("nan")] * len(problems)
    cost, rng, rows = np.array([one.cost for one in pool]), np.random.default_rng(seed), []
    for number in tqdm(range(rounds + 1), desc="rounds", disable=None if progress else True):
        slots = len(opening) + rounds
        data = [bench.cultures(repeat, done, slots) for (_, repeat), done in zip(problems, made, strict=True)]
        fitted = fit_groups([prior] * len(problems), data, plan, progress=False)
        best = np.array([fitted.indices(group)[0] for group in range(len(problems))])
        vectors = _vectors(free, lane(fitted.models, best))
        counts = np.zeros((len(problems), len(pool)))
        for row, done in enumerate(made):
            counts[row, done] = 1.0
        outlook = _prospects(setting, layout, free, vectors, jnp.asarray(counts))
        gain, width = np.asarray(outlook.gain), np.asarray(outlook.width)
        apart = (np.asarray(vectors) - true[[repeat for _, repeat in problems]]) / np.asarray(free.scale)
        errors = np.sqrt(np.mean(apart**2, axis=1))
        for row, (policy, repeat) in enumerate(problems):
            chosen = made[row][-1] - len(opening) if number else -1
            rows.append((policy, repeat, number, errors[row], width[row], cost[made[row]].sum(), chosen, gained[row]))
        if number < rounds:
            _choose(problems, made, gained, gain, cost if per_cost else np.ones_like(cost), len(opening), rng)
    columns = ["policy", "repeat", "round", "error", "width", "cost", "experiment", "gain"]
    return pd.DataFrame(rows, columns=columns)


def _check(
    prior: ModelPrior,
    truths: Sequence[CellModel],
    pool: Sequence[Experiment],
    opening: Sequence[Experiment],
    rounds: int,
    plan: FitPlan,
    start: Number,
) -> None:
    with Problems() as problems:
        try:
            check_experiments(pool, prior.center.table, start)
        except PinnsimError as error:
            problems.absorb(error)
        if not truths or not opening:
            problems.add("E_USAGE", "Rounds need a truth and an opening experiment; give one or more of each.")
        if not 1 <= rounds <= len(pool) - len(opening):
            problems.add(
                "E_USAGE", f"{rounds} rounds need as many candidates, but there are {len(pool) - len(opening)}."
            )
        if not isinstance(prior.center.observation.likelihood, Gaussian):
            problems.add("E_USAGE", "Rounds read simulated truth with normal errors; use likelihood.kind = 'gaussian'.")
        if plan.initial != "rest":
            problems.add("E_USAGE", "Cultures of rounds start at rest; give a plan with initial = 'rest'.")


def _choose(
    problems: list[tuple[str, int]],
    made: list[list[int]],
    gained: list[float],
    gain: np.ndarray,
    cost: np.ndarray,
    opening: int,
    rng: np.random.Generator,
) -> None:
    """Adds each problem's next experiment."""
    for row, (policy, _) in enumerate(problems):
        left = [k for k in range(opening, gain.shape[1]) if k not in made[row] and np.isfinite(gain[row, k])]
        best = left[int(np.argmax(gain[row, left] / cost[left]))]
        chosen = int(rng.choice(left)) if policy == "random" else best
        made[row].append(chosen)
        gained[row] = float(gain[row, chosen])


class _Bench:
    """Where simulated truths are read: cultures of experiments, always of the same shapes."""

    def __init__(
        self,
        pool: Sequence[Experiment],
        layout: Layout,
        setting: Setting,
        expected: Expected,
        substeps: int,
        seed: int,
    ) -> None:
        self.layout, self.perturbations, self.substeps, self.pool = layout, setting.perturbations, substeps, pool
        self.mean, self.sd = np.asarray(expected.mean), np.asarray(expected.sd)
        self.times = np.asarray(layout.times)
        self.longest = 1 + max(len(one.times) for one in pool)
        self.replicates = max(one.replicates for one in pool)
        # By truth, experiment and replicate, so that a reading does not depend on when and by whom it was chosen.
        shape = (len(self.mean), len(pool), self.replicates, self.longest, self.mean.shape[-1])
        self.noise = np.random.default_rng([seed, 1]).standard_normal(shape)

    def cultures(self, repeat: int, made: list[int], slots: int) -> Cultures:
        """What was read of one truth so far; cultures that were not grown have no readings that count."""
        genes = self.mean.shape[-1]
        shape = (slots * self.replicates, self.longest, genes)
        times = np.full(shape[:2], self.times[-1])
        times[:, 0] = self.times[0]
        values, mask, treated = np.zeros(shape), np.zeros(shape, bool), np.zeros(len(times), int)
        reads = np.asarray(self.layout.read)
        for slot, number in enumerate(made):
            one, treatment = self.pool[number], int(self.layout.treatment[number])
            at = np.searchsorted(self.times, one.times)
            chosen = np.zeros(genes, bool)
            chosen[np.asarray(self.layout.gene)[number][reads[number]]] = True
            for replicate in range(one.replicates):
                culture, samples = slot * self.replicates + replicate, slice(1, 1 + len(at))
                treated[culture], times[culture, samples] = treatment, self.times[at]
                noise = self.noise[repeat, number, replicate, : len(at)]
                spread = self.sd[repeat, treatment, at]
                values[culture, samples] = self.mean[repeat, treatment, at] + spread * noise
                times[culture, samples.stop :] = self.times[at[-1]]
                mask[culture, samples] = chosen
        perturbations: Perturbation = lane(self.perturbations, treated)
        grid, where = collocation_grid(times, perturbations, self.substeps)
        return Cultures(
            times=jnp.asarray(times, dtype=float),
            readings=jnp.asarray(np.where(mask, values, 0.0), dtype=float),
            measured_sd=jnp.zeros(shape),
            mask=jnp.asarray(mask),
            exposure=jnp.ones(shape[:2]),
            perturbations=perturbations,
            grid=jnp.asarray(grid, dtype=float),
            at=jnp.asarray(where, dtype=int),
            names=tuple(f"culture {k}" for k in range(len(times))),
        )


class _Prospects(NamedTuple):
    """What every candidate would tell, (problem, candidate), and the posterior's widths, (problem,)."""

    gain: Array
    width: Array


@eqx.filter_jit
def _vectors(free: FreeVector, models: CellModel) -> Float[Array, "model free"]:
    """Free numbers of many models."""
    return eqx.filter_vmap(lambda model: eqx.tree_at(lambda f: f.model, free, model).start)(models)


@eqx.filter_jit
def _prospects(
    setting: Setting,
    layout: Layout,
    free: FreeVector,
    vectors: Float[Array, "problem free"],
    made: Float[Array, "problem candidate"],
) -> _Prospects:
    """What candidates tell after what was made, at every problem's own fit, in one program."""

    def one(vector: Vector, made: Array) -> _Prospects:
        def predicted(white: Vector) -> tuple[Array, tuple[Array, Array]]:
            mean, usable = readings(setting, resolve(free.with_values(vector + free.scale * white)))
            return mean, (mean, usable)

        roots, (mean, usable) = jax.jacfwd(predicted, has_aux=True)(jnp.zeros_like(vector))
        model = resolve(free.with_values(vector))
        sd = jax.vmap(lambda m: instrument(model, setting.times, m)[0])(mean)
        good = usable & jnp.all(jnp.isfinite(roots), axis=(1, 2, 3))
        prior = Outlook(mean, sd, jnp.where(good[:, None, None, None], roots, 0.0), None, good)
        rows = jax.vmap(lambda number: made[number] * whitened(prior, layout, number))(jnp.arange(made.shape[0]))
        flat = rows.reshape(-1, vector.shape[0])
        factor = jnp.linalg.cholesky(flat.T @ flat + jnp.eye(vector.shape[0], dtype=vector.dtype))
        # Any square root of the covariance will do: its columns are those of the inverse factor.
        square = jax.scipy.linalg.solve_triangular(factor, jnp.eye(vector.shape[0], dtype=vector.dtype), lower=True)
        after = eqx.tree_at(lambda o: o.roots, prior, prior.roots @ square.T)
        return _Prospects(all_gains(after, layout, None).gain, jnp.sqrt(jnp.mean(jnp.sum(square**2, axis=0))))

    return in_parts(lambda row: one(*row), (vectors, made), _SIDE_BY_SIDE)
