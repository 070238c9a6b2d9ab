"""Which starts are kept, why and where the others failed, and which parameters sit at a bound."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
import pandas as pd
from jaxtyping import Array

from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.free import free_vector
from pinnsim.fit.objective import Objective, start_of
from pinnsim.fit.optimise import Halt, Lanes
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.stages import solved
from pinnsim.model import CellModel
from pinnsim.parameter import Interval, is_parameter, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome
from pinnsim.simulate.run import run_one
from pinnsim.tree import lane

NEAR = 0.01  # share of a bound's width within which a parameter sits at it
_SHOWN = 3  # names that are written out


def outcomes(
    value: np.ndarray, failed: np.ndarray, halt: Halt, unsolved: str, infinite: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which lanes may be kept, (lane,), and their outcomes in words: `unsolved` where something `failed`, `infinite`
    where the objective is not finite. A lane that never took a step is no fit; one that was stopped later is kept, and
    told."""
    solved_ones = ~(failed > 0)
    fine = np.isfinite(value)
    words = np.where(halt.last, "stopped where its gradient is not finite", "done")
    words = np.where(halt.never, "not fitted: its gradient is not finite where it starts", words)
    words = np.where(solved_ones, np.where(fine, words, infinite), unsolved)
    return solved_ones & fine & ~halt.never, words


def kept_starts(
    value: np.ndarray, good: np.ndarray, group: np.ndarray, plan: FitPlan, why: Callable[[int], str]
) -> np.ndarray:
    """Lanes of the best `plan.keep` good starts of every group, best first within each.

    **Raises** `E_FIT`, with the words of `why(group)`, where a group has no good start.
    """
    chosen: list[int] = []
    for number in np.unique(group).tolist():
        ranked = sorted(np.flatnonzero((group == number) & good).tolist(), key=lambda k: value[k])[: plan.keep]
        if not ranked:
            raise PinnsimError.of("E_FIT", f"None of the {plan.starts} starts of problem {number} {why(number)}")
        chosen += ranked
    return np.array(chosen)


def reasons(lanes: Lanes, names: list[tuple[str, ...]], ended: Objective, plan: FitPlan) -> pd.DataFrame:
    """For every lane `failure` (culture, time, outcome of every culture that failed; empty where none did) and `at
    bounds` (names and values).

    **Arguments:** `names`: of each lane's cultures; `ended`: the objective of the lanes. Courses are solved again only
    where one failed.
    """
    failure, failed = [""] * len(names), np.asarray(ended.failed) > 0
    if failed.any():
        outcome, reached = (np.asarray(a) for a in _solved(lanes.models, lanes.data, plan.settings()))
        counts = np.array(lanes.data.mask)
        first_only = counts[:, :, 1:] if plan.initial == "sample" else counts
        counted = np.array(first_only.any(axis=(2, 3)))
        begin, unit = np.asarray(lanes.data.times)[:, :, 0], lanes.models.kinetics.time_unit
        for number in np.flatnonzero(failed).tolist():
            texts = []
            for culture in np.flatnonzero(counted[number] & (outcome[number] != Outcome.DONE)):
                ending = Outcome(int(outcome[number, culture]))
                at = reached[number, culture] if solved(plan) else begin[number, culture]
                texts.append(f"{names[number][culture]} stopped at {at:g} {unit}: {ending.name}, {ending.sentence}")
            failure[number] = _listed(texts, "; ")
    return pd.DataFrame({"failure": failure, "at bounds": at_bounds(lanes)})


def at_bounds(lanes: Lanes) -> list[str]:
    """For every lane the parameters within a hundredth of a bound's width of that bound, by name and value."""
    nodes = jax.tree.leaves(lanes.models, is_leaf=is_parameter)
    limit = float(np.log((1.0 - NEAR) / NEAR))
    close = np.zeros(len(np.asarray(lanes.data.times)), bool)
    for node in nodes:
        if isinstance(node, Interval):
            close |= (np.abs(np.asarray(node.raw)) > limit).reshape(len(close), -1).any(axis=1)
    found = [""] * len(close)
    for number in np.flatnonzero(close).tolist():
        free = free_vector(lane(lanes.models, number), lane(lanes.priors, number))
        value, lower, upper = (np.asarray(a) for a in (free.value(free.start), free.lower, free.upper))
        with np.errstate(invalid="ignore"):
            near = NEAR * (upper - lower)
            stuck = np.isfinite(near) & ((value - lower < near) | (upper - value < near))
        found[number] = _listed([f"{free.names[k]} = {value[k]:.4g}" for k in np.flatnonzero(stuck)], ", ")
    return found


def _listed(texts: list[str], between: str) -> str:
    more = f"{between}and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return between.join(texts[:_SHOWN]) + more


@eqx.filter_jit
def _solved(models: CellModel, data: Cultures, settings: Settings) -> tuple[Array, Array]:
    """Outcome of every culture and the last time reached, (lane, culture)."""
    method = ODE(settings.rtol, settings.atol, max_steps=settings.max_steps)

    def one(model: CellModel, times: Array, readings: Array, perturbation: Perturbation) -> tuple[Array, Array]:
        solution, _ = run_one(model, times, method, perturbation, start_of(readings, settings))
        return solution.outcome, solution.reached

    def cultures(model: CellModel, data: Cultures) -> tuple[Array, Array]:
        cell = resolve(model)
        return jax.vmap(lambda *culture: one(cell, *culture))(data.times, data.per_exposure, data.perturbations)

    return eqx.filter_vmap(cultures)(models, data)
