"""Splits: what is fitted and what is predicted, by whole conditions or by blocks of time, never by single samples.

Neighbouring samples and replicates of one moment repeat each other, so a random split scores memory. A split is
refused when training and test share any (condition, time), whichever replicate or gene it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pinnsim.data.dataset import Dataset
from pinnsim.errors import PinnsimError, Problems, first


@dataclass(frozen=True)
class Split:
    """A named pair of data sets that share no (condition, time). **Raises:** `E_SPLIT_LEAK`."""

    name: str
    train: Dataset
    test: Dataset

    def __post_init__(self) -> None:
        check_no_leak(self.train, self.test, self.name)


def check_no_leak(train: Dataset, test: Dataset, name: str = "split") -> None:
    """Refuse a pair that shares moments of a condition.

    An entry (condition, time) is shared if anything was observed there in both parts, in any replicate: replicates of
    one moment differ by noise only, so fitting one and scoring another tells nothing about prediction.

    **Raises:** `E_SPLIT_LEAK`, naming the shared entries.
    """
    shared = sorted(_entries(train) & _entries(test))
    if shared:
        shown = first(f"{condition} at {time:g} {test.time_unit}" for condition, time in shared)
        raise PinnsimError.of(
            "E_SPLIT_LEAK",
            f"'{name}': {len(shared)} moments are both fitted and tested ({shown}); split by whole conditions or by "
            "blocks of time, in all replicates.",
        )


def by_condition(dataset: Dataset) -> tuple[Split, ...]:
    """Leave one condition out: each is predicted from a fit to all others (`a + b -> c`).

    **Raises:** `E_DATA_EMPTY` for fewer than two conditions.
    """
    _at_least_two(dataset)
    splits = []
    for held in dataset.conditions:
        rest = [condition for condition in dataset.conditions if condition != held]
        splits.append(_pair(dataset, rest, held))
    return tuple(splits)


def by_arm(dataset: Dataset) -> tuple[Split, ...]:
    """Fit one condition, predict another (`a -> b`), for every ordered pair. **Raises:** as `by_condition`."""
    _at_least_two(dataset)
    return tuple(_pair(dataset, [fitted], held) for fitted, held in itertools.permutations(dataset.conditions, 2))


def by_time_blocks(
    dataset: Dataset, blocks: Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]]
) -> tuple[Split, ...]:
    """Hold out one block of time `low <= t <= high` of every condition at a time.

    **Arguments:** `blocks`, by name or in order (then named `low-high unit`), in the data's time unit.

    **Raises:** `E_TIME_RANGE` for a block that is empty, holds everything or holds a condition's first time (from which
    roll-outs start).
    """
    named = blocks if isinstance(blocks, Mapping) else {f"{a:g}-{b:g} {dataset.time_unit}": (a, b) for a, b in blocks}
    splits = []
    with Problems() as problems:
        for name, (low, high) in named.items():
            begun = [
                f"{condition} ({start:g})"
                for condition, start in zip(dataset.conditions, dataset.times[:, 0], strict=True)
                if low <= start <= high
            ]
            if begun:
                problems.add(
                    "E_TIME_RANGE",
                    f"block '{name}' [{low:g}, {high:g}] {dataset.time_unit} holds the first time of {first(begun)}, "
                    "from which predictions start; begin the block after it.",
                )
                continue
            try:
                splits.append(Split(name, *dataset.hold_out([(low, high)])))
            except PinnsimError as error:
                problems.absorb(error)
    return tuple(splits)


def _pair(dataset: Dataset, fitted: list[str], held: str) -> Split:
    name = f"{' + '.join(fitted)} -> {held}"
    return Split(name, dataset.select(conditions=fitted), dataset.select(conditions=[held]))


def _entries(dataset: Dataset) -> set[tuple[str, float]]:
    seen = np.asarray(dataset.mask.any(axis=(1, 3)))
    return {
        (condition, float(time))
        for condition, times, marks in zip(dataset.conditions, dataset.times, seen, strict=True)
        for time in times[marks]
    }


def _at_least_two(dataset: Dataset) -> None:
    if len(dataset.conditions) < 2:
        raise PinnsimError.of(
            "E_DATA_EMPTY", "a split by condition needs at least two conditions; split by time blocks instead."
        )
