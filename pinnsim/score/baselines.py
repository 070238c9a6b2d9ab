"""Trivial predictors that a model has to beat: they know no kinetics, no network and no perturbation.

Each is fitted on some arms and then predicts another arm from that arm's first sample alone. Deep perturbation models
have lost to such predictors (Ahlmann-Eltze 2025), so they are printed beside every score. All work on the readings'
scale; what each needs beyond the readings (a time constant, where "late" begins) is a field with its default.

    persistence          y(t) = y0
    mean of arms         y(t) = mean over fitted arms of their reading at t
    copy                 y(t) = z(t), or y0 + z(t) - z(t0); z the fitted arm whose first sample is nearest
    relaxation           y(t) = L + (y0 - L) exp(-(t - t0) / tau), L the fitted arms' late mean, tau given
    gene relaxation      the same, tau_g per gene by least squares on the fitted arms
    AR(1)                the same, with both level and tau_g per gene by least squares on the fitted arms' steps

`LinearODE` (`linear.py`) couples the genes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pinnsim.errors import PinnsimError, first
from pinnsim.score.arm import Arm, masked_mean, span

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`predict(sample, times)`: from the readings (gene,) at `times[0]` to those at all `times`, (time, gene)."""


class AbstractBaseline(abc.ABC):
    """A trivial predictor, before it has seen data."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @abc.abstractmethod
    def fit(self, train: Sequence[Arm]) -> Predict:
        """Learn from the fitted arms (one or several, on one clock, same genes in the same order).

        **Returns:** `predict(sample, times)`: readings (time, gene) at any increasing `times` of the same clock, also
        ones that no fitted arm has, for a course that read `sample` (gene,) at `times[0]`; row 0 is the sample. The
        same function serves roll-out (all times at once) and one step (two times). A gene about which the fitted arms
        say nothing is predicted unchanged.

        **Raises:** `E_DATA_EMPTY` without arms; `E_TIME_FEW`, `E_TIME_RANGE` where an arm is too short to learn from.
        """


@dataclass(frozen=True)
class Persistence(AbstractBaseline):
    """No change: what was read stays."""

    @property
    def name(self) -> str:
        return "persistence"

    def fit(self, train: Sequence[Arm]) -> Predict:
        return lambda sample, times: np.repeat(sample[None], len(times), axis=0)


@dataclass(frozen=True)
class MeanOfArms(AbstractBaseline):
    """The mean of the fitted arms at the same time, whatever the first sample was."""

    @property
    def name(self) -> str:
        return "mean of fitted arms"

    def fit(self, train: Sequence[Arm]) -> Predict:
        span(train)

        def predict(sample: np.ndarray, times: np.ndarray) -> np.ndarray:
            courses = np.stack([arm.at(times) for arm in train])
            flat = courses.reshape(len(train), -1)
            return _started(sample, masked_mean(flat, np.isfinite(flat)).reshape(courses.shape[1:]))

        return predict


@dataclass(frozen=True)
class Copy(AbstractBaseline):
    """The fitted arm whose first sample is nearest, time by time; with `change`, its change added to the sample."""

    change: bool = False

    @property
    def name(self) -> str:
        return "copy of the change" if self.change else "copy"

    def fit(self, train: Sequence[Arm]) -> Predict:
        span(train)

        def predict(sample: np.ndarray, times: np.ndarray) -> np.ndarray:
            courses = [arm.at(times) for arm in train]
            far = [float(np.mean(np.nan_to_num(course[0] - sample) ** 2)) for course in courses]
            course = courses[int(np.argmin(far))]
            return _started(sample, sample + course - course[0] if self.change else course)

        return predict


@dataclass(frozen=True)
class Relaxation(AbstractBaseline):
    """Relaxation to the fitted arms' late mean with one time constant for all genes.

    **Arguments:** `tau`, in the data's time unit (good value: 20 min for bacteria; slower where the late mean is
    reached late); `late`, the time from which on an arm counts as settled; None takes the last 60 % of the fitted span
    (60 min of 150). **Raises**, in `fit`: `E_TIME_RANGE` if no fitted arm is observed that late.
    """

    tau: float = 20.0
    late: float | None = None

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise PinnsimError.of("E_USAGE", f"`tau` must be positive, but is {self.tau:g}.")

    @property
    def name(self) -> str:
        return f"relaxation (tau {self.tau:g})"

    def fit(self, train: Sequence[Arm]) -> Predict:
        level = _mean_late(train, self.late)
        return relaxing(level, np.full_like(level, self.tau))


@dataclass(frozen=True)
class GeneRelaxation(AbstractBaseline):
    """Relaxation to the fitted arms' late mean, with a time constant per gene learned on the fitted arms.

    `tau_g = argmin sum_{arm, t > t0} (L + (y0 - L) exp(-(t - t0) / tau) - y(t))^2` over a geometric grid, with each
    arm's own late mean `L` and first sample `y0`. The grid is the regulariser: its ends decide what becomes of genes
    that jump at once or never settle.

    **Arguments:** `late` as in `Relaxation`; `shortest`, `longest`, the ends of the grid in the data's time unit (None:
    span / 150 and span * 4 / 3, that is 1 and 200 min of 150 min); `count`, how many grid values.
    """

    late: float | None = None
    shortest: float | None = None
    longest: float | None = None
    count: int = 60

    @property
    def name(self) -> str:
        return "relaxation (tau per gene)"

    def fit(self, train: Sequence[Arm]) -> Predict:
        return relaxing(_mean_late(train, self.late), self.time_constants(train))

    def time_constants(self, train: Sequence[Arm]) -> Float[np.ndarray, " gene"]:
        """The learned `tau_g`; a gene without a first sample or late readings gets the median of the others."""
        whole = span(train)
        grid = np.geomspace(self.shortest or whole / 150.0, self.longest or whole * 4.0 / 3.0, self.count)
        start = _late_start(train, self.late)
        courses = [arm.observed() for arm in train]
        loss = np.zeros((len(grid), train[0].values.shape[1]))
        known = np.zeros(train[0].values.shape[1], dtype=bool)
        for arm in courses:
            level = arm.late(start)
            used = arm.mask & arm.mask[0] & np.isfinite(level)
            known |= used[1:].any(axis=0)
            decay = np.exp(-(arm.times - arm.times[0])[:, None] / grid[:, None, None])
            error = np.where(used, level + (arm.values[0] - level) * decay - arm.values, 0.0)
            loss += (error**2).sum(axis=1)
        tau = grid[loss.argmin(axis=0)]
        return np.where(known, tau, np.median(tau[known]) if known.any() else grid[-1])


@dataclass(frozen=True)
class AR1(AbstractBaseline):
    """First-order autoregression per gene for unequal steps: `y(t + d) = m + (y(t) - m) exp(-d / tau)`.

    Level `m` and time constant `tau` of each gene minimise the squared one-step errors of the fitted arms; `m` has a
    closed form at given `tau`, which is searched on a grid and then refined by golden section, so that a noiseless
    course is recovered exactly. Rolled out over several steps the exponentials multiply. An alternating course
    (negative autocorrelation) has no such form and is fitted by its mean.

    **Arguments:** `shortest`, `longest`, bounds of `tau` in the data's time unit (None: span / 300 and 10 spans).
    """

    shortest: float | None = None
    longest: float | None = None
    count: int = 60

    @property
    def name(self) -> str:
        return "AR(1)"

    def fit(self, train: Sequence[Arm]) -> Predict:
        return relaxing(*self.level_and_tau(train))

    def level_and_tau(self, train: Sequence[Arm]) -> tuple[np.ndarray, np.ndarray]:
        """`(m, tau)`, each (gene,); NaN level for a gene with fewer than two observed steps."""
        whole = span(train)
        courses = [arm.observed() for arm in train]
        step = np.concatenate([np.diff(arm.times) for arm in courses])[:, None]
        before, after = (np.concatenate([arm.values[s] for arm in courses]) for s in (slice(None, -1), slice(1, None)))
        seen = np.concatenate([arm.mask[:-1] & arm.mask[1:] for arm in courses])
        before, after = (np.where(seen, a, 0.0) for a in (before, after))

        def solve(log_tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            decay = np.exp(-step / np.exp(log_tau))
            weight = np.where(seen, 1 - decay, 0.0)
            innovation = after - decay * before
            level = (weight * innovation).sum(axis=0) / np.maximum((weight**2).sum(axis=0), 1e-300)
            return level, (np.where(seen, innovation - weight * level, 0.0) ** 2).sum(axis=0)

        grid = np.log(np.geomspace(self.shortest or whole / 300.0, self.longest or whole * 10.0, self.count))
        genes = before.shape[1]
        loss = np.stack([solve(np.full(genes, value))[1] for value in grid])
        best = loss.argmin(axis=0)
        low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
        log_tau = golden_section(lambda at: solve(at)[1], low, high)
        return np.where(seen.sum(axis=0) >= 2, solve(log_tau)[0], np.nan), np.exp(log_tau)


def relaxing(level: np.ndarray, tau: np.ndarray) -> Predict:
    """`predict` that relaxes to `level` (gene,) with time constants `tau` (gene,); unchanged where `level` is NaN."""

    def predict(sample: np.ndarray, times: np.ndarray) -> np.ndarray:
        goal = np.where(np.isfinite(level), level, sample)
        return _started(sample, goal + (sample - goal) * np.exp(-(times - times[0])[:, None] / tau))

    return predict


def golden_section(
    loss: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, steps: int = 60
) -> np.ndarray:
    """Minimiser of many unimodal functions at once: `loss` maps (gene,) to (gene,); brackets `low`, `high` (gene,)."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(steps):
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        left = loss(inner) < loss(outer)
        low, high = np.where(left, low, inner), np.where(left, outer, high)
    return (low + high) / 2.0


def _started(sample: np.ndarray, course: np.ndarray) -> np.ndarray:
    """`course` with row 0 replaced by the sample; genes it says nothing about stay at the sample."""
    course = np.where(np.isfinite(course), course, sample)
    course[0] = sample
    return course


def _late_start(train: Sequence[Arm], late: float | None) -> float:
    if late is not None:
        return late
    return min(float(arm.observed().times[0]) for arm in train if arm.mask.any()) + 0.4 * span(train)


def _mean_late(train: Sequence[Arm], late: float | None) -> np.ndarray:
    """Mean over the fitted arms of their late means; every arm counts once, however densely it was sampled."""
    start = _late_start(train, late)
    levels = np.stack([arm.late(start) for arm in train])
    if not np.isfinite(levels).any():
        names = first(arm.name for arm in train)
        raise PinnsimError.of("E_TIME_RANGE", f"no reading of {names} at or after {start:g}; choose an earlier `late`.")
    return masked_mean(levels, np.isfinite(levels))
