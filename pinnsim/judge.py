"""Judgement of an evaluation: the model beside every baseline and control, in both directions, win or lose."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from pinnsim.data import Dataset
from pinnsim.fit.evaluate import PRIOR_ONLY, REAL, SHUFFLED, Evaluation, Prediction
from pinnsim.parameter import resolve
from pinnsim.score import (
    Comparison,
    Coverage,
    Entry,
    ScoreTable,
    arms,
    baseline_entries,
    by_arm,
    compare,
    coverage_of_normal,
    rmse,
    rmse_interval,
    score_table,
    stacked,
    standard_baselines,
)

_KINDS = {REAL: "model", PRIOR_ONLY: "control", SHUFFLED: "control"}


def judge(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    late: float | None = None,
    relaxation: float | None = None,
    name: str = "",
) -> ScoreTable:
    """Scores predictions across conditions.

    **Arguments:** `dataset`: what was fitted (one replicate); `late`, `relaxation`: settings of the relaxation
    baselines in the data's time unit; `name`: of the data, for the title.
    """
    baselines = standard_baselines(dataset.time_unit, late, relaxation)
    entries: list[Entry] = []
    for split in by_arm(dataset):
        truth = arms(split.test)[0]
        here = [p for p in evaluation.predictions if split.name == f"{p.fitted} -> {p.predicted}"]
        for variant, kind in _KINDS.items():
            scored = [compare(p.mean, truth) for p in here if p.variant == variant]
            if scored:
                entries.append(Entry.of(variant, kind, split.name, scored[0] if kind == "model" else scored))
        entries += baseline_entries(split, baselines)
    return score_table(entries, unit=dataset.scale, data=name, simulated=dataset.simulated)


def coverage(evaluation: Evaluation, predictions: Sequence[Prediction]) -> Coverage:
    """Coverage of the model's predictive intervals over several predictions: spread of the members, model error and
    measurement error together, as normal."""
    likelihood = resolve(evaluation.prior.center.observation.likelihood)
    means, sds, truths, masks = [], [], [], []
    for p in predictions:
        error = np.asarray(likelihood.standard_deviation(jnp.asarray(p.times), jnp.asarray(p.mean)))
        means.append(p.mean[1:])
        sds.append(np.sqrt(error**2 + p.members.var(axis=0))[1:])
        truths.append(p.truth[1:])
        masks.append(p.mask[1:])
    mean, sd, truth, mask = (np.concatenate(parts) for parts in (means, sds, truths, masks))
    return coverage_of_normal(mean, sd, truth, mask)


def block_score(predictions: Sequence[Prediction]) -> tuple[float, float]:
    """RMSE over held-out time blocks and its bootstrap standard error over genes."""
    parts = [
        Comparison("roll-out", p.times, p.mean, p.truth, np.broadcast_to(p.truth[0], p.truth.shape).copy(), p.mask)
        for p in predictions
    ]
    pooled = stacked(parts)
    band = rmse_interval(pooled)
    # A 95 % interval of a nearly normal statistic is 3.92 standard errors wide.
    return rmse(pooled), (band.hi - band.lo) / 3.92
