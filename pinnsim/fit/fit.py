"""`fit`: a model, its prior and data in; an ensemble of the best starts, with every term and outcome, out."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, ArrayLike, PRNGKeyArray
from tqdm import tqdm

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.fit.course import Course
from pinnsim.fit.cultures import Cultures, cultures
from pinnsim.fit.objective import Objective, collocation_readings, trajectory_readings
from pinnsim.fit.optimise import (
    Halt,
    Lanes,
    Progress,
    Stage,
    begin_stage,
    evaluate,
    halted,
    run_stage,
    with_parameters,
)
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.polish import polished
from pinnsim.fit.stages import solved, stages_of
from pinnsim.fit.starts import kept_starts, outcomes, reasons
from pinnsim.fit.suits import check_levels, check_suits
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import trainable
from pinnsim.store import load_tree, save_tree
from pinnsim.tree import brief, digest, lane, stack

_COURSE = "course"  # the notes in a checkpoint


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Fitted lanes, best first within each group.

    **Arguments:** `models`: (lane, ...), the kept starts of each group; `value`: (lane,), objective in nats; `terms`:
    name -> (lane,); `group`: (lane,), which problem a lane belongs to; `table`: one row per start, kept or not, with
    its objective at every stage, its terms, its outcome, which culture failed, when and why (`failure`), and which
    parameters sit at a bound (`at bounds`); `interrupted`: true when stopped by Ctrl-C (the best so far is kept);
    `notes`: what was left out, in plain words; `course`: the objective over steps (see `Course.frame`).
    """

    __repr__ = brief

    models: CellModel
    value: np.ndarray
    terms: dict[str, np.ndarray]
    group: np.ndarray
    table: pd.DataFrame
    interrupted: bool
    notes: tuple[str, ...] = ()
    course: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    def indices(self, group: int = 0) -> np.ndarray:
        """Lanes of one group, best first."""
        return np.flatnonzero(self.group == group)

    def ensemble(self, group: int = 0) -> CellModel:
        """The kept starts of one group, (member, ...), best first."""
        return lane(self.models, self.indices(group))

    def best(self, group: int = 0) -> CellModel:
        """The best start of one group."""
        return lane(self.ensemble(group), 0)


def fit(
    prior: ModelPrior,
    dataset: Dataset,
    plan: FitPlan | None = None,
    *,
    exposure: ArrayLike | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    label: str = "fit",
) -> FitResult:
    """Fits a model to a data set from many starts.

    **Arguments:** `prior`: from `build`; `dataset`: its genes are the model's; `plan`: see `FitPlan`;
    `exposure`: size factors of counted samples (see `cultures`); `checkpoint`: a path; `<path>.<stage>.safetensors` are
    written during the fit, and a fit of the same problem goes on from them.

    **Raises** `E_FIT` when every start failed, `E_CKPT_MODEL` and `E_CKPT_CORRUPT` for a checkpoint of another fit or a
    damaged one, `E_SCALE_MISMATCH` for data that do not suit the likelihood, and everything that `cultures` raises.
    """
    plan = FitPlan() if plan is None else plan
    with Problems() as problems:
        values = np.asarray(dataset.values)[np.asarray(dataset.mask)]
        check_suits(problems, prior.center.observation, values, dataset.scale, "the data set")
    data = cultures(dataset, prior.center.table, substeps=plan.substeps, exposure=exposure)
    # Once the genes are known to be the model's.
    check_levels(prior.center.observation, np.asarray(dataset.values), np.asarray(dataset.mask), dataset.genes)
    return fit_groups([prior], [data], plan, progress=progress, checkpoint=checkpoint, label=label)


def fit_groups(
    priors: list[ModelPrior],
    data: list[Cultures],
    plan: FitPlan,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    label: str = "fit",
) -> FitResult:
    """Several problems of equal shapes (data splits, shuffled networks, both directions) x `plan.starts`, as lanes of
    one program.

    Lane order is problem-major; start `k` of every problem draws with the same key, so that problems differ by their
    data and network only.
    """
    keys = jax.random.split(jax.random.key(plan.seed), plan.starts)
    starts = range(plan.starts)
    lanes = Lanes(
        stack([draw_start(prior, keys[k], plan.start_spread * (k > 0)) for prior in priors for k in starts]),
        stack([prior for prior in priors for _ in starts]),
        stack([d.anonymous() for d in data for _ in starts]),
    )
    stages = stages_of(plan)
    history: dict[str, np.ndarray] = {}
    none = np.zeros(len(priors) * plan.starts, bool)
    halt, course, interrupted = Halt(none, none), Course(), False
    with tqdm(total=sum(s.steps for s in stages), desc=label, unit="step", disable=None if progress else True) as bar:
        for stage in stages:
            if not stage.steps or interrupted:
                continue
            working = stage.enter(lanes)
            part = None if stage.part is None else functools.partial(stage.part, working)
            final, interrupted = run_stage_safely(working, stage, plan, checkpoint, bar, part, course=course)
            if final is not None:
                kept = final.best if part is None else final.parameters
                lanes = lanes._replace(models=stage.leave(with_parameters(working, kept)))
                now = halted(final, part is not None)
                halt = Halt(now.never & halt.never if history else now.never, now.last)
                history[stage.name] = np.asarray(final.best_value if part is None else final.value)
        if interrupted and not history:
            raise KeyboardInterrupt  # before the first chunk was done there is nothing to keep
        notes: tuple[str, ...] = ()
        if plan.polish_steps and not interrupted:
            bar.set_postfix_str(f"polish, up to {plan.polish_steps} steps at once")
            lanes, value, notes = polished(lanes, plan)
            if value is not None:
                still = ~(value < history[next(reversed(history))]) if history else none
                halt = Halt(halt.never & still, halt.last & still)
                history["polish"] = value
    predict = trajectory_readings if solved(plan) else collocation_readings
    ended = evaluate(lanes.models, lanes.priors, lanes.data, plan.settings(), predict)
    group = np.repeat(np.arange(len(priors)), plan.starts)
    why = reasons(lanes, [one.names for one in data for _ in starts], ended, plan)
    found = _collect(lanes.models, ended, group, history, plan, interrupted, why, notes, halt)
    return dataclasses.replace(found, course=course.frame(group, np.arange(len(group)) % plan.starts))


def draw_start(prior: Any, key: PRNGKeyArray, scale: Array | float) -> Any:
    """A model drawn from its prior, narrowed by `scale` (0: the centre). Parameters without a finite spread stay at the
    centre."""
    leaves, structure = jax.tree.flatten(eqx.filter(prior.center, trainable(prior.center)))
    spreads = jax.tree.leaves(eqx.filter(prior.spread, trainable(prior.spread)))
    keys = jax.random.split(key, len(leaves))
    drawn = [
        leaf + scale * jnp.where(jnp.isfinite(spread), spread, 0.0) * jax.random.normal(k, leaf.shape, leaf.dtype)
        for leaf, spread, k in zip(leaves, spreads, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, drawn), prior.center)


def run_stage_safely(
    lanes: Lanes,
    stage: Stage,
    plan: FitPlan,
    checkpoint: str | Path | None,
    bar: tqdm,
    part: Callable[[int], Any] | None = None,
    told: Mapping[str, str] | None = None,
    say: Callable[[Progress], str] | None = None,
    course: Course | None = None,
) -> tuple[Progress | None, bool]:
    """A stage with its checkpoint and Ctrl-C: the best parameters so far (`None` when interrupted before the first
    chunk was done), and whether it was interrupted. `part` is that of `run_stage`; `told`, what else a checkpoint must
    agree in; `say`, what the bar shows of a chunk; `course`, its notes."""
    path = None if checkpoint is None else Path(f"{checkpoint}.{stage.name}.safetensors")
    identity = {"plan": plan.model_dump_json(), "problem": digest(lanes), **(told or {})}
    latest, done, before = None, 0, "[]"
    if path is not None and path.exists():
        latest, done, before = _resume(path, lanes, identity)
    if course is not None:
        course.recall(stage.name, before)
    bar.update(done)

    def on_chunk(steps: int, progress: Progress) -> None:
        nonlocal latest, done
        bar.update(steps - done)
        best = f"{stage.name}, best {float(jnp.min(progress.best_value)):.1f} nats"
        bar.set_postfix_str(best if say is None else say(progress))
        latest, done = progress, steps
        if course is not None:
            course.note(stage, lanes, steps, progress)
        if path is not None:
            notes = {} if course is None else {_COURSE: course.text(stage.name)}
            save_tree(path, progress, {**identity, **notes, "done": str(steps)})

    try:
        # Where data change, a lane may rise without being stale.
        settings = (plan if part is None else plan.model_copy(update={"patience": 0})).settings()
        return run_stage(lanes, stage, settings, latest, done, on_chunk, part), False
    except KeyboardInterrupt:
        return latest, True


def _resume(path: Path, lanes: Lanes, identity: dict[str, str]) -> tuple[Progress, int, str]:
    """Progress, steps done and notes of a checkpoint of this very problem and plan. **Raises** `E_CKPT_MODEL` for
    another one's."""
    progress, meta = load_tree(path, begin_stage(lanes))
    differing = [name for name, value in identity.items() if meta.get(name) != value]
    if differing:
        raise PinnsimError.of(
            "E_CKPT_MODEL",
            f"Checkpoint '{path.name}' was written by another fit (its {' and '.join(differing)} differ); give another "
            "checkpoint name, or delete it to start anew.",
        )
    return progress, int(meta["done"]), meta.get(_COURSE, "[]")


def _collect(
    models: CellModel,
    ended: Objective,
    group: np.ndarray,
    history: dict[str, np.ndarray],
    plan: FitPlan,
    interrupted: bool,
    why: pd.DataFrame,
    notes: tuple[str, ...],
    halt: Halt,
) -> FitResult:
    """Keeps the best starts of each group; a start whose objective is not finite, of which a culture could not be
    solved, or that never took a step, is never kept."""
    value, failed = np.asarray(ended.total), np.asarray(ended.failed) > 0
    terms = {name: np.asarray(term) for name, term in ended.terms.items()}
    good, outcome = outcomes(value, failed, halt, "a culture could not be solved", "objective is not finite")
    table = pd.DataFrame(
        {
            "group": group,
            "start": np.arange(len(group)) % plan.starts,
            "objective": value,
            **{f"after {stage}": best for stage, best in history.items()},
            **terms,
            "outcome": outcome,
        }
    )
    table = pd.concat([table, why], axis=1)

    def unsolved(number: int) -> str:
        if halt.never[group == number].all():
            return (
                "could be fitted: the gradient is not finite where they start. Look for zeros under roots and "
                "logarithms in data and rates, or start elsewhere (another seed)."
            )
        here = table["outcome"][group == number].value_counts().to_dict()
        told = first(dict.fromkeys(text for text in table["failure"][group == number] if text))
        more = f"; first: {told}" if told else ""
        return f"could be solved to the end ({here}{more}). Loosen rtol, raise max_steps or narrow start_spread."

    chosen = kept_starts(value, good, group, plan, unsolved)
    table["kept"] = np.isin(np.arange(len(group)), chosen)
    kept_terms = {name: term[chosen] for name, term in terms.items()}
    return FitResult(lane(models, chosen), value[chosen], kept_terms, group[chosen], table, interrupted, notes)
