"""Which experiment next? Candidates ranked by how much they are expected to tell, and batches chosen greedily.

    EIG = 1/2 log det(I + R^-1/2 J Sigma J' R^-1/2)       (nats; `design.gain` has the algebra and its sources)

of a posterior with covariance Sigma at a fitted model, or of an ensemble's sample covariance; of everything unknown, or
of a goal: chosen rates, or any predicted number. All candidates are rows of one compiled program.

It fails where the model is wrong or the posterior far from normal: then the nested estimate of an ensemble
(`nested_draws`), or the disagreement of rival models (`design.disagreement`), ask for less.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm import tqdm

from pinnsim.design.experiments import Experiment, Layout, Number, check_experiments, described, layout_of
from pinnsim.design.gain import Gains, Goals, Outlook, after_choice, gains
from pinnsim.design.nested import nested_gains
from pinnsim.design.outlook import (
    Belief,
    Goal,
    count_of,
    goals_for,
    members_expect,
    members_of,
    outlook_from,
    outlook_of,
    setting_of,
)
from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit import Draws, Laplace
from pinnsim.model import CellModel
from pinnsim.simulate import AbstractInitial, AtRest

By = Literal["gain", "gain per cost"]
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Design:
    """Ranked experiments.

    **Arguments:** `experiments`: the candidates, in the order given; `table`: a row per candidate, best first:
    `experiment` (its position among the candidates), `treatment`, `times`, `genes`, `replicates`, `cost`, `gain`
    (nats), `gain_per_cost`, with a goal `goal_gain` (nats) and `goal_left` (mean share of the goals' variances that is
    left), nested `gain_error` (standard error), `outcome`; `batch`: the same for those chosen together, in order, each
    gain given the ones before it, with `total_gain` and `total_cost`; `goal`: names; `by`: what ranks.
    """

    experiments: tuple[Experiment, ...]
    table: pd.DataFrame
    batch: pd.DataFrame
    goal: tuple[str, ...]
    by: str

    @property
    def best(self) -> Experiment:
        """The first of the ranking."""
        return self.experiments[int(self.table["experiment"].iloc[0])]

    @property
    def chosen(self) -> tuple[Experiment, ...]:
        """The batch, in order."""
        return tuple(self.experiments[int(k)] for k in self.batch["experiment"])

    def __repr__(self) -> str:
        column = "goal_gain" if self.goal else "gain"
        lines = [f"Design: {len(self.experiments)} experiments by {self.by}{' about ' * bool(self.goal)}"]
        lines[0] += ", ".join(self.goal[:_SHOWN]) + " ..." * (len(self.goal) > _SHOWN)
        for place, (_, row) in enumerate(self.table.head(_SHOWN).iterrows(), start=1):
            one = self.experiments[int(row["experiment"])]
            lines.append(f"  {place}. {one}: {row[column]:.3g} nats, cost {row['cost']:g}")
        if len(self.batch):
            last = self.batch.iloc[-1]
            lines.append(
                f"  batch of {len(self.batch)}: {last['total_gain']:.3g} nats together, cost {last['total_cost']:g}"
            )
        return "\n".join(lines)


def design(
    belief: Belief,
    experiments: Sequence[Experiment],
    *,
    goal: Goal | None = None,
    by: By = "gain",
    batch: int = 0,
    budget: float | None = None,
    repeats: bool = False,
    start: Number = 0.0,
    initial: AbstractInitial | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    nested_draws: int = 0,
    seed: int = 0,
    memory_limit: float = 4e9,
    progress: bool = True,
) -> Design:
    """Ranks candidate experiments by their expected information.

    **Arguments:** `belief`: the posterior at a fitted model (`fit.laplace`), draws (`fit.nuts`), or an ensemble of
    models, (member, ...); `experiments`: from `design.candidates`; `goal`: names of free rates (`decay:g0`), or a
    function of a resolved model that returns numbers and has derivatives in forward mode: then what is told of these
    ranks, in place of what is told of everything; `by`: what ranks and chooses; `batch`: how many are chosen together,
    each given the ones before it; `budget`: what a batch may cost (alone, it chooses until nothing more is affordable);
    `repeats`: whether one may be chosen again; `start`: when cultures start, in the model's unit; `initial`: from
    where (default: at rest before the first switch); `nested_draws`: for ensembles, how many draws of nested Monte
    Carlo estimate `gain` (0: the normal approximation by the sample covariance; good value 2000); `memory_limit`: bytes
    that the readings' slopes may take.

    Cost: a tangent solve per free parameter and treatment, or a solve per member and treatment; then linear algebra.

    **Returns** a `Design`. Where the model cannot be solved under a treatment, its gains are NaN and rank last.

    **Raises** `E_USAGE` without candidates, for costs that are not > 0 and combinations that cannot be, `E_TIME_ORDER`,
    `E_GENE_UNKNOWN`, `E_PERTURB_...`, `E_SIZE`.
    """
    model = belief.free.model if isinstance(belief, Laplace | Draws) else belief
    _check(belief, experiments, model, start, by, batch, budget, repeats, nested_draws, goal)
    layout = layout_of(experiments, model.table, start)
    members = None if isinstance(belief, Laplace) else members_of(belief)
    directions = len(belief.free.names) if isinstance(belief, Laplace) else count_of(members)
    each = layout.times.shape[0] * len(model.table.genes) * directions
    need = len(layout.treatments) * each * jnp.zeros(()).dtype.itemsize
    if need > memory_limit:
        raise PinnsimError.of(
            "E_SIZE",
            f"Slopes of the readings need {need / 1e9:.1f} GB ({directions} directions x treatments x times x genes); "
            "give fewer treatments or times at once, or raise memory_limit.",
        )
    setting = setting_of(model, layout, AtRest() if initial is None else initial, rtol, atol)
    expected = None if members is None else members_expect(setting, members)
    outlook = outlook_of(belief, layout, setting, progress) if expected is None else outlook_from(expected)
    goals, names = goals_for(belief, goal)
    found = gains(outlook, layout, goals)
    errors = None
    if nested_draws and expected is not None:
        key = jax.random.key(seed)
        nested = nested_gains(expected.mean, expected.sd, outlook.usable, layout, key, nested_draws)
        found, errors = found._replace(gain=nested.gain), np.asarray(nested.error)
    table = _table(experiments, layout, outlook, found, bool(names), errors)
    order = ("goal_gain" if names else "gain") + ("_per_cost" if by == "gain per cost" else "")
    table = table.sort_values(order, ascending=False, kind="stable", na_position="last").reset_index(drop=True)
    together = _greedy(experiments, layout, outlook, goals, by, batch, budget, repeats, progress)
    return Design(tuple(experiments), table, together, names, by)


def _check(
    belief: Belief,
    experiments: Sequence[Experiment],
    model: CellModel,
    start: Number,
    by: str,
    batch: int,
    budget: float | None,
    repeats: bool,
    nested_draws: int,
    goal: Goal | None,
) -> None:
    with Problems() as problems:
        try:
            check_experiments(experiments, model.table, start)
        except PinnsimError as error:
            problems.absorb(error)
        if by not in ("gain", "gain per cost"):
            problems.add("E_USAGE", f"by = '{by}' is neither 'gain' nor 'gain per cost'.")
        if batch < 0 or (budget is not None and not budget > 0):
            problems.add("E_USAGE", "A batch needs a size >= 0 and a budget > 0; leave out what you do not want.")
        if not repeats and batch > len(experiments) > 0:
            problems.add(
                "E_USAGE",
                f"A batch of {batch} cannot be chosen from {len(experiments)} candidates; give repeats=True, or fewer.",
            )
        if nested_draws and (isinstance(belief, Laplace) or batch or budget or goal is not None):
            problems.add(
                "E_USAGE",
                "Nested Monte Carlo ranks single experiments by an ensemble, without goal and batch; leave out "
                "nested_draws, or give an ensemble alone (posterior.sample(key, 100)).",
            )


def _table(
    experiments: Sequence[Experiment],
    layout: Layout,
    outlook: Outlook,
    found: Gains,
    goal: bool,
    errors: np.ndarray | None,
) -> pd.DataFrame:
    cost = np.array([one.cost for one in experiments])
    usable = np.asarray(outlook.usable)[np.asarray(layout.treatment)]
    columns: dict[str, object] = {
        **described(experiments),
        "gain": np.asarray(found.gain),
        "gain_per_cost": np.asarray(found.gain) / cost,
    }
    if errors is not None:
        columns["gain_error"] = errors
    if goal:
        told = np.asarray(found.goal)
        columns |= {"goal_gain": told, "goal_gain_per_cost": told / cost, "goal_left": np.asarray(found.left)}
    columns["outcome"] = np.where(usable, "done", "could not be solved")
    return pd.DataFrame(columns)


def _greedy(
    experiments: Sequence[Experiment],
    layout: Layout,
    outlook: Outlook,
    goals: Goals | None,
    by: By,
    batch: int,
    budget: float | None,
    repeats: bool,
    progress: bool,
) -> pd.DataFrame:
    """Experiments chosen one after the other, each by its gain given those before it."""
    cost = np.array([one.cost for one in experiments])
    most = batch or (len(experiments) if budget is not None else 0)
    free, spent, told = np.ones(len(experiments), bool), 0.0, 0.0
    rows = []
    for _ in tqdm(range(most), desc="batch", unit="choice", disable=None if progress and most > 1 else True):
        found = gains(outlook, layout, goals)
        score = np.asarray(found.gain if goals is None else found.goal)
        able = free & np.isfinite(score) & (spent + cost <= (np.inf if budget is None else budget * (1 + 1e-12)))
        if not able.any():
            break
        best = int(np.argmax(np.where(able, score / (cost if by == "gain per cost" else 1.0), -np.inf)))
        spent, told = spent + cost[best], told + float(score[best])
        row = _table(experiments, layout, outlook, found, goals is not None, None).iloc[[best]]
        rows.append(row.assign(total_gain=told, total_cost=spent))
        free[best] = repeats
        outlook, goals = after_choice(outlook, layout, goals, jnp.asarray(best))
    if rows:
        return pd.concat(rows, ignore_index=True)
    return _table(experiments, layout, outlook, _nothing(len(experiments)), goals is not None, None).iloc[:0]


def _nothing(count: int) -> Gains:
    return Gains(*(jnp.zeros(count),) * 3)
