"""An arm: one condition's mean course as plain arrays, the form in which everything in `score/` sees data.

Baselines, metrics and bootstraps need a clock, readings and a mask, nothing else; `arms` makes them from a `Dataset` at
the edge. Readings are on the scale the data were declared on (log2 for arrays): scores are errors on that scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pinnsim.data.dataset import Dataset
from pinnsim.errors import PinnsimError, Problems, first


@dataclass(frozen=True)
class Arm:
    """Readings `values[time, gene]` at `times`, observed where `mask` is true.

    All arms that meet in one comparison share one clock: the same number means the same moment after the shift.

    **Arguments:** `name`; `times` (time,), strictly increasing; `values` (time, gene), float64; `mask` (time, gene).

    **Raises:** `E_DATA_SHAPE`, `E_TIME_ORDER`, `E_DATA_NONFINITE`, together.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        with Problems() as problems:
            if self.values.ndim != 2 or len(self.times) != len(self.values) or self.mask.shape != self.values.shape:
                problems.add(
                    "E_DATA_SHAPE",
                    f"arm '{self.name}': times {self.times.shape}, values {self.values.shape} and mask "
                    f"{self.mask.shape} must be (time,), (time, gene) and (time, gene).",
                )
            elif not np.isfinite(self.values[self.mask]).all():
                row, gene = np.argwhere(self.mask & ~np.isfinite(self.values))[0]
                problems.add(
                    "E_DATA_NONFINITE",
                    f"arm '{self.name}': readings marked observed are not finite (first: time "
                    f"{self.times[row]:g}, gene number {gene}); mask them.",
                )
            if not (np.diff(self.times) > 0).all():
                problems.add("E_TIME_ORDER", f"arm '{self.name}': times must be strictly increasing.")

    @classmethod
    def of(cls, times: object, values: object, mask: object = None, name: str = "arm") -> Arm:
        """An arm from anything array-like; without a mask, what is finite counts as observed."""
        readings = np.array(values, dtype=np.float64)
        seen = np.isfinite(readings) if mask is None else np.array(mask, dtype=bool)
        return cls(name, np.array(times, dtype=np.float64), readings, seen)

    def observed(self) -> Arm:
        """The arm without the times at which nothing was observed (held-out blocks are such times)."""
        rows = self.mask.any(axis=1)
        return Arm(self.name, self.times[rows], self.values[rows], self.mask[rows])

    def at(self, times: Float[np.ndarray, " wanted"]) -> Float[np.ndarray, "wanted gene"]:
        """Readings at any times: linear between a gene's observed times, constant beyond them, NaN if it has none."""
        out = np.full((len(times), self.values.shape[1]), np.nan)
        # Genes observed at the same times are interpolated together; mostly there is one such group.
        patterns, group = np.unique(self.mask, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            if pattern.any():
                genes = np.flatnonzero(group.ravel() == number)
                out[:, genes] = _linear(times, self.times[pattern], self.values[np.ix_(pattern, genes)])
        return out

    def late(self, start: float) -> Float[np.ndarray, " gene"]:
        """Mean of each gene's observed readings at times >= `start`; NaN where it has none."""
        return masked_mean(self.values, self.mask & (self.times >= start)[:, None])


def _linear(
    wanted: Float[np.ndarray, " wanted"], times: Float[np.ndarray, " time"], values: Float[np.ndarray, "time gene"]
) -> Float[np.ndarray, "wanted gene"]:
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.repeat(values, len(wanted), axis=0)
    share = np.clip((wanted - times[right - 1]) / (times[right] - times[right - 1]), 0.0, 1.0)[:, None]
    return (1 - share) * values[right - 1] + share * values[right]


def masked_mean(
    values: Float[np.ndarray, "row gene"], mask: Bool[np.ndarray, "row gene"]
) -> Float[np.ndarray, " gene"]:
    """Mean over rows of what is observed; NaN for a gene with nothing observed."""
    count = mask.sum(axis=0)
    total = np.where(mask, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def span(fitted: Sequence[Arm]) -> float:
    """Time from the first to the last observed moment of any fitted arm.

    **Raises:** `E_DATA_EMPTY` if there is no arm, `E_TIME_FEW` if none has two times.
    """
    if not fitted:
        raise PinnsimError.of("E_DATA_EMPTY", "a baseline needs at least one arm to be fitted on.")
    observed = [arm.observed().times for arm in fitted]
    longest = max((float(times[-1] - times[0]) for times in observed if len(times)), default=0.0)
    if longest <= 0:
        names = first(arm.name for arm in fitted)
        raise PinnsimError.of("E_TIME_FEW", f"a baseline needs an arm with at least two times; fitted: {names}.")
    return longest


def arms(dataset: Dataset) -> tuple[Arm, ...]:
    """The conditions of a data set, each as the mean over its samples at each time (protocol of every score here)."""
    mean = dataset.mean()
    return tuple(
        Arm(name, mean.times[c, :n].copy(), mean.values[c, 0, :n].copy(), mean.mask[c, 0, :n].copy())
        for c, (name, n) in enumerate(zip(mean.conditions, mean.length.tolist(), strict=True))
    )
