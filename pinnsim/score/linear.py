"""A linear differential equation for all genes at once, by ridge regression: `x' = A x + b` on the readings' scale.

Each step of the fitted arms gives one row per gene, by the trapezoid rule

    (x(t + d) - x(t)) / d  =  A (x(t) + x(t + d)) / 2 + b,     error O(d^2),

and there are far fewer steps than genes, so `A` is shrunk: towards `-I / tau` (each gene forgets by itself) or, for
`tau` infinite, towards 0. Penalty and `tau` are chosen by holding out blocks of times of the fitted arms and rolling
out through them from the last sample before, the way the equation will be used. Prediction is exact:
`exp(M t)` applied to `(x, 1)`. Finite-difference regression of a linear network equation is that of the Inferelator
(Bonneau et al. 2006, Genome Biol 7:R36), which shrinks with an L1 norm instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from pinnsim.errors import PinnsimError
from pinnsim.score.arm import Arm, masked_mean, span
from pinnsim.score.baselines import AbstractBaseline, Predict


@dataclass(frozen=True)
class LinearODE(AbstractBaseline):
    """`x' = A x + b` by ridge regression on the steps of the fitted arms.

    **Arguments:** `penalties`, candidates relative to the mean square of the predictors; `taus`, candidates for the
    shrinkage target `-I / tau`, as fractions of the fitted span (`inf`: shrink to no coupling at all); `blocks`, into
    how many blocks each arm's times are cut for choosing between candidates. One candidate of each skips the choice.
    Candidates whose fastest growing mode grows more than e-fold over the fitted span are passed over while others
    remain: such an equation leaves the range of the data as soon as it is rolled out further.

    Missing readings inside an arm are filled by interpolation in time before the fit.
    """

    penalties: tuple[float, ...] = tuple(10.0**power for power in range(-6, 4))
    taus: tuple[float, ...] = (np.inf, 1.0, 1 / 3, 2 / 15, 1 / 20)
    blocks: int = 3

    def __post_init__(self) -> None:
        if not self.penalties or not self.taus or min(self.penalties) < 0 or min(self.taus) <= 0 or self.blocks < 1:
            raise PinnsimError.of(
                "E_USAGE", "`penalties` must be >= 0 and `taus` > 0, at least one of each, and `blocks` >= 1."
            )

    @property
    def name(self) -> str:
        return "linear ODE (ridge)"

    def fit(self, train: Sequence[Arm]) -> Predict:
        equation = self.equation(train)
        seen = np.any([arm.mask.any(axis=0) for arm in train], axis=0)
        return lambda sample, times: np.where(seen, equation.predict(sample, times), sample)

    def equation(self, train: Sequence[Arm]) -> Linear:
        """The fitted equation, penalty and target chosen. **Raises:** `E_TIME_FEW` if no arm has two times."""
        whole = span(train)
        courses = _filled(train)
        candidates = [(penalty, tau * whole) for tau in self.taus for penalty in self.penalties]
        errors = np.zeros(len(candidates))
        if len(candidates) > 1:
            for kept, held in self._folds(courses):
                steps = Steps.of(kept)
                for number, candidate in enumerate(candidates):
                    errors[number] += _held_error(steps.solve(*candidate), held)
        steps = Steps.of(courses)
        wild = []
        for number in np.argsort(errors, kind="stable"):
            equation = steps.solve(*candidates[number])
            if equation.growth() * whole <= 1.0:
                return equation
            wild.append((equation.growth(), number))
        return steps.solve(*candidates[min(wild)[1]])

    def _folds(self, courses: list[Course]) -> list[tuple[list[Course], Course]]:
        """(training pieces, (sample before the block, the block)) for every block of every arm."""
        folds = []
        for number, (times, values) in enumerate(courses):
            for rows in np.array_split(np.arange(1, len(times)), min(self.blocks, len(times) - 1)):
                keep = np.setdiff1d(np.arange(len(times)), rows)
                rest = [course for other, course in enumerate(courses) if other != number]
                kept = [*rest, (times[keep], values[keep])]
                if sum(len(piece[0]) - 1 for piece in kept) >= 2:
                    path = np.concatenate([[rows[0] - 1], rows])
                    folds.append((kept, (times[path], values[path])))
        return folds


Course = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Linear:
    """A fitted equation `x' = (U V' - k I)(x - c) + b`, kept in the low rank that few steps give it.

    **Arguments:** `out` U and `into` V, (gene, rank); `forget` k; `centre` c and `drift` b, (gene,).
    """

    out: np.ndarray
    into: np.ndarray
    forget: float
    centre: np.ndarray
    drift: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """`A` (gene, gene), in 1 / time unit."""
        return self.out @ self.into.T - self.forget * np.eye(len(self.centre))

    @property
    def constant(self) -> np.ndarray:
        """`b` (gene,) of `x' = A x + b`."""
        return self.drift - self.matrix @ self.centre

    def growth(self) -> float:
        """Largest real part of the eigenvalues of `A`: those of `V'U - k` and, if the rank is not full, `-k`."""
        rank = self.out.shape[1]
        coupled = np.linalg.eigvals(self.into.T @ self.out).real.max() if rank else 0.0
        return float((coupled if rank >= len(self.centre) else max(coupled, 0.0)) - self.forget)

    def predict(self, sample: np.ndarray, times: np.ndarray) -> np.ndarray:
        """`x(t)` from `x(times[0]) = sample`, exactly, as (time, gene)."""
        start = sample - self.centre
        # The solution never leaves the span of the start, the drift and U: a small equation tells all of it.
        columns = np.column_stack([self.out, self.drift, start])
        basis = scipy.linalg.orth(columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300))
        size = basis.shape[1]
        small = np.zeros((size + 1, size + 1))
        small[:size, :size] = (basis.T @ self.out) @ (self.into.T @ basis) - self.forget * np.eye(size)
        small[:size, size] = basis.T @ self.drift
        state = np.append(basis.T @ start, 1.0)
        with np.errstate(all="ignore"):
            flow = scipy.linalg.expm(small * (times - times[0])[:, None, None])
            course = self.centre + (flow @ state)[:, :size] @ basis.T
        course[0] = sample
        return course


@dataclass(frozen=True)
class Steps:
    """The steps of some courses, centred, with the spectrum of their predictors: every candidate is then cheap."""

    change: np.ndarray
    at: np.ndarray
    change_mean: np.ndarray
    at_mean: np.ndarray

    @classmethod
    def of(cls, courses: list[Course]) -> Steps:
        change = np.concatenate([np.diff(x, axis=0) / np.diff(t)[:, None] for t, x in courses])
        at = np.concatenate([(x[1:] + x[:-1]) / 2.0 for _, x in courses])
        return cls(change - change.mean(axis=0), at - at.mean(axis=0), change.mean(axis=0), at.mean(axis=0))

    def solve(self, penalty: float, tau: float) -> Linear:
        """Ridge towards `-I / tau`: least squares on `change + at / tau`, so that the penalty falls on the rest."""
        forget = 1.0 / tau
        target = self.change + forget * self.at
        left, size, right = np.linalg.svd(self.at, full_matrices=False)
        solid = size > 1e-10 * max(size.max(initial=0.0), 1e-300)
        left, size, right = left[:, solid], size[solid], right[solid]
        strength = penalty * (size**2).mean() if solid.any() else 1.0
        weight = size / (size**2 + strength)
        return Linear(target.T @ (left * weight), right.T, forget, self.at_mean, self.change_mean)


def _held_error(equation: Linear, held: Course) -> float:
    times, values = held
    course = equation.predict(values[0], times)
    return float(np.mean((course[1:] - values[1:]) ** 2)) if np.isfinite(course).all() else np.inf


def _filled(train: Sequence[Arm]) -> list[Course]:
    """The arms without gaps: interpolated in time; a gene that an arm never saw sits at its mean over the others."""
    seen = [arm.observed() for arm in train]
    typical = masked_mean(np.concatenate([a.values for a in seen]), np.concatenate([a.mask for a in seen]))
    courses = [arm.at(arm.times) for arm in seen]
    return [
        (arm.times, np.where(np.isfinite(course), course, np.nan_to_num(typical)))
        for arm, course in zip(seen, courses, strict=True)
    ]
