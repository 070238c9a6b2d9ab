"""Coverage: how often predictive intervals hold what was measured, beside how often they say they do.

A predictive interval at level `q` should hold a share `q` of new readings. Intervals come either from draws of an
ensemble (order statistics: with `n` exchangeable draws the `k`-th smallest lies above a new reading with probability
`k / (n + 1)`, hence the Weibull quantile) or from a mean and standard deviation (Gaussian). Draws must include
the noise of measurement: the spread of an ensemble's means says how unsure the model is, not where readings fall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from pinnsim.errors import PinnsimError
from pinnsim.score.metrics import DRAWS, LEVEL, gene_weights

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Coverage:
    """Nominal against measured coverage.

    **Arguments:** `nominal` (level,); `measured`, the share of scored readings inside, (level,); `lo`, `hi`, its
    bootstrap interval over genes; `width`, the mean width of the intervals in the readings' unit: of two forecasts
    that cover as they say, the narrower is the better.
    """

    nominal: np.ndarray
    measured: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    width: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for a results file."""
        return {name: getattr(self, name).tolist() for name in ("nominal", "measured", "lo", "hi", "width")}

    def sentences(self) -> list[str]:
        """One line per level in plain words."""
        lines = []
        for q, share, lo, hi in zip(self.nominal, self.measured, self.lo, self.hi, strict=True):
            verdict = "as stated" if lo <= q <= hi else ("too narrow" if share < q else "too wide")
            lines.append(f"{q:.0%} intervals hold {share:.1%} of the readings ({lo:.1%} to {hi:.1%}): {verdict}")
        return lines


def coverage_of_draws(
    draws: np.ndarray,
    observed: np.ndarray,
    mask: np.ndarray | None = None,
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
) -> Coverage:
    """Coverage of central intervals from ensemble draws.

    **Arguments:** `draws` (draw, row, gene), measurement noise included; `observed`, `mask` (row, gene); `levels`.

    **Raises:** `E_USAGE` for a level that so few draws cannot reach (95 % needs 39); `E_DATA_SHAPE`, `E_DATA_EMPTY`.
    """
    _check_levels(levels)
    reach = (len(draws) - 1) / (len(draws) + 1)
    if max(levels) > reach + 1e-12:
        needed = int(np.ceil(round((1 + max(levels)) / (1 - max(levels)), 9)))
        raise PinnsimError.of(
            "E_USAGE",
            f"{len(draws)} draws reach levels up to {reach:.2f}, but {max(levels):g} was asked for; give {needed} "
            "draws, or their mean and sd to `coverage_of_normal`.",
        )
    tails = [(1 - q) / 2 for q in levels]
    lower, upper = (np.quantile(draws, at, axis=0, method="weibull") for at in (tails, [1 - t for t in tails]))
    return _coverage(lower, upper, observed, mask, levels, seed)


def coverage_of_normal(
    mean: np.ndarray,
    sd: np.ndarray,
    observed: np.ndarray,
    mask: np.ndarray | None = None,
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
) -> Coverage:
    """Coverage of central Gaussian intervals `mean +/- z sd`, all (row, gene); `sd` includes measurement noise."""
    _check_levels(levels)
    half = norm.ppf((1 + np.array(levels)) / 2)[:, None, None] * np.broadcast_to(sd, mean.shape)
    return _coverage(mean - half, mean + half, observed, mask, levels, seed)


def _coverage(
    lower: np.ndarray,
    upper: np.ndarray,
    observed: np.ndarray,
    mask: np.ndarray | None,
    levels: tuple[float, ...],
    seed: int,
) -> Coverage:
    scored = np.isfinite(observed) if mask is None else mask
    if lower.shape[1:] != observed.shape or scored.shape != observed.shape:
        raise PinnsimError.of(
            "E_DATA_SHAPE",
            f"intervals {lower.shape[1:]}, observed {observed.shape} and mask {scored.shape} must all be (row, gene).",
        )
    if not scored.any():
        raise PinnsimError.of("E_DATA_EMPTY", "no reading is left to score: the mask is empty.")
    inside = (scored & (lower <= observed) & (observed <= upper)).sum(axis=1).astype(np.float64)
    genes = scored.any(axis=0)
    count = scored.sum(axis=0)[genes].astype(np.float64)
    parts = [inside[:, genes] @ w.T / (w @ count) for w in gene_weights(len(count), DRAWS, seed)]
    lo, hi = np.quantile(np.concatenate(parts, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    width = (upper - lower)[:, scored].mean(axis=1)
    return Coverage(np.array(levels), inside.sum(axis=1) / scored.sum(), lo, hi, width)


def _check_levels(levels: tuple[float, ...]) -> None:
    if not levels or not all(0 < level < 1 for level in levels):
        raise PinnsimError.of("E_USAGE", f"`levels` must lie between 0 and 1, but are {levels}.")
