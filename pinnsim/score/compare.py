"""A comparison: what was predicted beside what was measured, with everything a score needs and nothing else.

Roll-out and one step are different questions and are never mixed: a roll-out starts from the first sample and sees no
other reading of its course; one step starts from the previous reading each time, and is far easier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pinnsim.errors import PinnsimError, Problems
from pinnsim.score.arm import Arm, arms
from pinnsim.score.baselines import AbstractBaseline, Predict
from pinnsim.score.splits import Split

ROLL_OUT, ONE_STEP = "roll-out", "one step"


@dataclass(frozen=True)
class Comparison:
    """Predicted and observed readings at the scored moments, several courses below one another.

    **Arguments:** `mode`, `ROLL_OUT` or `ONE_STEP`; `times` (row,); `predicted`, `observed`, `start` (row, gene), the
    last being the reading from which a change is counted; `mask` (row, gene), true where scored.

    **Raises:** `E_DATA_SHAPE`, `E_DATA_NONFINITE` (a model that failed is not scored on what is left), `E_DATA_EMPTY`.
    """

    mode: str
    times: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    start: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        shape = self.predicted.shape
        if not shape == self.observed.shape == self.start.shape == self.mask.shape == (len(self.times), *shape[1:]):
            raise PinnsimError.of(
                "E_DATA_SHAPE",
                f"predicted {shape}, observed {self.observed.shape}, start {self.start.shape}, mask {self.mask.shape} "
                f"must all be (row, gene) with {len(self.times)} rows.",
            )
        with Problems() as problems:
            for what, array in (("predicted", self.predicted), ("observed", self.observed), ("start", self.start)):
                bad = np.argwhere(self.mask & ~np.isfinite(array))
                if len(bad):
                    row, gene = bad[0]
                    problems.add(
                        "E_DATA_NONFINITE",
                        f"{len(bad)} {what} readings to be scored are not finite (first: time {self.times[row]:g}, "
                        f"gene number {gene}); a lane that failed cannot be scored: look at its outcome.",
                    )
            if not self.mask.any():
                problems.add("E_DATA_EMPTY", "no reading is left to score: the mask is empty after the first sample.")

    @property
    def genes(self) -> int:
        """How many genes are scored at all."""
        return int(self.mask.any(axis=0).sum())

    def alike(self, other: Comparison) -> bool:
        """Whether both score the same readings, so that they may be paired."""
        return (
            self.mode == other.mode
            and self.mask.shape == other.mask.shape
            and bool((self.mask == other.mask).all())
            and bool(np.array_equal(self.observed[self.mask], other.observed[self.mask]))
        )


def compare(predicted: np.ndarray, arm: Arm, start: np.ndarray | None = None, mode: str = ROLL_OUT) -> Comparison:
    """Score a predicted course against an arm at all times after its first.

    **Arguments:** `predicted` (time, gene) at `arm.times`; `arm`, the truth; `start`, the reading the prediction began
    from, (gene,) for all times or (time, gene): by default the arm's own first sample (a gene without one is not
    scored). Pass it where the truth is masked at the first time, as held-out blocks are.

    **Returns:** the comparison of rows `times > times[0]`.
    """
    mask = arm.mask if start is not None else arm.mask & arm.mask[0]
    origin = np.broadcast_to(arm.values[0] if start is None else start, arm.values.shape)
    if predicted.shape != arm.values.shape:
        raise PinnsimError.of(
            "E_DATA_SHAPE",
            f"the prediction {predicted.shape} and arm '{arm.name}' {arm.values.shape} must both be (time, gene).",
        )
    return Comparison(mode, arm.times[1:], predicted[1:], arm.values[1:], origin[1:].copy(), mask[1:])


def stacked(parts: Sequence[Comparison]) -> Comparison:
    """Comparisons of several courses of the same genes as one. **Raises:** `E_USAGE` for mixed modes."""
    if len({part.mode for part in parts}) != 1:
        raise PinnsimError.of("E_USAGE", "roll-out and one step are scored apart: stack comparisons of one mode.")
    fields = ("times", "predicted", "observed", "start", "mask")
    return Comparison(parts[0].mode, *(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def roll_out(predict: Predict, arm: Arm) -> Comparison:
    """Predict a whole arm from its first sample alone."""
    return compare(predict(_sample(arm), arm.times), arm)


def one_step(predict: Predict, arm: Arm) -> Comparison:
    """Predict each sample of an arm from the one before it; scored where a gene was observed at both."""
    seen = arm.observed()
    predicted = seen.values.copy()
    filled = np.where(seen.mask, seen.values, _sample(seen))
    for row in range(1, len(seen.times)):
        predicted[row] = predict(filled[row - 1], seen.times[row - 1 : row + 1])[1]
    mask = seen.mask[1:] & seen.mask[:-1]
    return Comparison(ONE_STEP, seen.times[1:], predicted[1:], seen.values[1:], filled[:-1], mask)


def evaluate(baseline: AbstractBaseline, split: Split, mode: str = ROLL_OUT) -> Comparison:
    """Fit a baseline on the training part of a split and compare it with the test part.

    A condition that is in both parts (time blocks) is rolled out from its first training sample, and scored in the
    held-out blocks (where `Copy` is interpolation in time); one that is only in the test part, from its own first
    sample.

    **Raises:** `E_USAGE` for one step into a held-out block, whose previous samples may themselves be held out.
    """
    train = {arm.name: arm for arm in arms(split.train)}
    predict = baseline.fit(tuple(train.values()))
    parts = []
    for arm in arms(split.test):
        if arm.name not in train:
            parts.append(roll_out(predict, arm) if mode == ROLL_OUT else one_step(predict, arm))
        elif mode == ONE_STEP:
            raise PinnsimError.of("E_USAGE", "a held-out time block is scored by roll-out, not by one step.")
        elif arm.mask.any():
            known = train[arm.name]
            scored = Arm(arm.name, arm.times, arm.values, arm.mask & known.mask[0])
            parts.append(compare(predict(_sample(known), arm.times), scored, start=_sample(known)))
    return stacked(parts)


def _sample(arm: Arm) -> np.ndarray:
    """The first sample; 0 where a gene lacks one: it is not scored, and its NaN must not reach other genes."""
    return np.where(arm.mask[0], arm.values[0], 0.0)
