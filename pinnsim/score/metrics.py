"""Scores of a comparison, with bootstrap intervals over genes.

    RMSE = sqrt(mean over scored (time, gene) of (predicted - observed)^2)           in the readings' unit
    r of change = Pearson correlation of (predicted - start) with (observed - start)
    skill = 1 - RMSE / RMSE of the best baseline                                     1 perfect, 0 no better, < 0 worse

There is no R2: a prediction that stands still scores R2 > 0.9 wherever genes differ from one another.

Genes are the resampled units (Efron & Tibshirani 1993, ch. 13: percentile intervals), all times of a gene together,
because errors along one course are not independent. Everything compared is resampled with the SAME genes, so that an
interval of a difference is one of paired differences. Genes of one operon move together, so intervals are if
anything too narrow. The baseline compared with is chosen once, on all genes, not again in each resample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pinnsim.errors import PinnsimError
from pinnsim.score.compare import Comparison

DRAWS, LEVEL = 2000, 0.95
_CHUNK = 250


class Interval(NamedTuple):
    """An estimate with its bootstrap interval."""

    value: float
    lo: float
    hi: float


def rmse(comparison: Comparison) -> float:
    """Root mean squared error over everything scored."""
    return float(np.sqrt(squared_errors(comparison).sum() / comparison.mask.sum()))


def rmse_by_time(comparison: Comparison) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, " time"]]:
    """`(times, RMSE at each)`: where along the course a prediction fails; only times that are scored."""
    times = np.unique(comparison.times[comparison.mask.any(axis=1)])
    error = np.where(comparison.mask, comparison.predicted - comparison.observed, 0.0) ** 2
    rows = [comparison.times == time for time in times]
    return times, np.array([np.sqrt(error[row].sum() / comparison.mask[row].sum()) for row in rows])


def r_change(comparison: Comparison) -> float:
    """Correlation of the predicted with the observed change from the start; 0 where either does not change at all."""
    predicted = (comparison.predicted - comparison.start)[comparison.mask]
    observed = (comparison.observed - comparison.start)[comparison.mask]
    # A constant shift is rounded to within eps of its size; a spread below that is none.
    tiny = 1e-12 * (1.0 + np.abs(comparison.observed[comparison.mask]).max())
    if len(predicted) < 2 or min(predicted.std(), observed.std()) <= tiny:
        return 0.0
    return float(np.corrcoef(predicted, observed)[0, 1])


def skill(error: float, best: float) -> float:
    """`1 - error / best`; NaN where the best baseline is already perfect."""
    return 1.0 - error / best if best > 0 else float("nan")


def squared_errors(comparison: Comparison) -> Float[np.ndarray, " gene"]:
    """Sum of squared errors of each gene over its scored rows."""
    error = np.where(comparison.mask, comparison.predicted - comparison.observed, 0.0)
    return (error**2).sum(axis=0)


def resample_mse(
    comparisons: Sequence[Comparison], draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "comparison draw"]:
    """Mean squared errors of several comparisons under the same resampled genes.

    **Arguments:** `comparisons` of the same readings; `draws`, resamples (2000 give the ends of a 95 % interval to
    about 2 % of its width); `seed`. **Returns:** (comparison, draw).

    **Raises:** `E_DATA_SHAPE` if the comparisons do not score the same readings.
    """
    if not all(comparison.alike(comparisons[0]) for comparison in comparisons[1:]):
        raise PinnsimError.of(
            "E_DATA_SHAPE", "paired scores need the same readings: same mode, times, genes and mask in all comparisons."
        )
    count = comparisons[0].mask.sum(axis=0)
    scored = count > 0
    count = count[scored].astype(np.float64)
    errors = np.stack([squared_errors(comparison)[scored] for comparison in comparisons])
    parts = [errors @ weight.T / (weight @ count) for weight in gene_weights(len(count), draws, seed)]
    return np.concatenate(parts, axis=1)


def interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Percentile interval of bootstrap draws around an estimate. **Raises:** `E_USAGE` unless 0 < level < 1."""
    if not 0 < level < 1:
        raise PinnsimError.of("E_USAGE", f"`level` must lie between 0 and 1, but is {level:g}.")
    lo, hi = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(lo), float(hi))


def rmse_interval(comparison: Comparison, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """RMSE with its interval over genes."""
    return interval(rmse(comparison), np.sqrt(resample_mse([comparison], draws, seed)[0]), level)


def difference_interval(
    model: Comparison, baseline: Comparison, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """`RMSE(model) - RMSE(baseline)`, paired over genes: below 0 the model is better."""
    ours, theirs = np.sqrt(resample_mse([model, baseline], draws, seed))
    return interval(rmse(model) - rmse(baseline), ours - theirs, level)


def skill_interval(
    model: Comparison, baseline: Comparison, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Skill of the model over one baseline, paired over genes."""
    ours, theirs = np.sqrt(resample_mse([model, baseline], draws, seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval(skill(rmse(model), rmse(baseline)), 1 - ours / theirs, level)


def gene_weights(genes: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each gene is drawn, (draw, gene), a few draws at a time so that many genes fit in memory."""
    generator = np.random.default_rng(seed)
    for begin in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - begin)
        yield generator.multinomial(genes, np.full(genes, 1.0 / genes), size=size).astype(np.float64)
