"""The points of a campaign: from a point's number to the values of its axes, for any range of numbers, on any machine.

The number is written in the mixed base of the axes' lengths, the last axis fastest; the sampled axes are one digit
together, the slowest. So a point's values, like its random key `fold_in(key(seed), number)`, depend on its number and
on nothing else.
"""

import dataclasses
import functools
import math
import warnings

import numpy as np

from pinnsim.sweep.specification import Axis, Specification


@dataclasses.dataclass(frozen=True)
class Points:
    """All points. **Arguments:** `axes`; `samples`, `seed`: see `Specification`; `members`: of the model's ensemble."""

    axes: tuple[Axis, ...]
    samples: int
    seed: int
    members: int = 1

    @staticmethod
    def of(specification: Specification, members: int = 1) -> "Points":
        """The points of a specification."""
        return Points(specification.axes, specification.samples, specification.seed, members)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the sample (where axes are sampled) and of each axis of the grid."""
        head = (self.samples,) if self.samples else ()
        return (*head, *(len(self._grid[axis.name]) for axis in self.axes if not axis.sampled))

    @property
    def count(self) -> int:
        """How many points."""
        return math.prod(self.shape)

    def values(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Each axis at points `start` to `stop`, (point,): numbers; of treatments and members their position."""
        digits = list(np.unravel_index(np.arange(start, stop), self.shape))
        sample = digits.pop(0) if self.samples else None
        found: dict[str, np.ndarray] = {}
        for axis in self.axes:
            if axis.sampled:
                found[axis.name] = self._design[axis.name][sample]
            else:
                found[axis.name] = self._grid[axis.name][digits.pop(0)]
        return found

    @property
    def group_count(self) -> int:
        """How many groups there are, see `groups`."""
        return math.prod(self._group_shape)

    def groups(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the groups of points `start` to `stop`, (point,): points of a group differ in dose and duration
        alone, where these are axes of the grid."""
        digits = np.unravel_index(np.arange(start, stop), self.shape)
        kept = [digit for digit, own in zip(digits, self._of_group, strict=True) if own]
        return np.ravel_multi_index(kept, self._group_shape) if kept else np.zeros(stop - start, int)

    @property
    def _of_group(self) -> list[bool]:
        head = [True] if self.samples else []
        return [*head, *(axis.name not in ("dose", "duration") for axis in self.axes if not axis.sampled)]

    @property
    def _group_shape(self) -> tuple[int, ...]:
        return tuple(length for length, own in zip(self.shape, self._of_group, strict=True) if own)

    @functools.cached_property
    def _grid(self) -> dict[str, np.ndarray]:
        return {axis.name: _own_values(axis, self.members) for axis in self.axes if not axis.sampled}

    @functools.cached_property
    def _design(self) -> dict[str, np.ndarray]:
        """The sample by axis, (sample,). Worked out as a whole, so that no number depends on what is asked with it."""
        from scipy.stats import qmc

        sampled = [axis for axis in self.axes if axis.sampled]
        if sampled[0].kind == "latin":
            unit = qmc.LatinHypercube(len(sampled), rng=np.random.default_rng(self.seed)).random(self.samples)
        else:
            with warnings.catch_warnings():
                # Sobol points are balanced for powers of two only; other numbers are the user's wish.
                warnings.simplefilter("ignore", UserWarning)
                unit = qmc.Sobol(len(sampled), rng=np.random.default_rng(self.seed)).random(self.samples)
        return {axis.name: _spread(axis, unit[:, column]) for column, axis in enumerate(sampled)}


def _own_values(axis: Axis, members: int) -> np.ndarray:
    if axis.name == "treatment":
        return np.arange(len(axis.values or ()))
    if axis.name == "member":
        return np.arange(members) if axis.values is None else np.array(axis.values, dtype=int)
    if axis.linear is not None:
        return np.linspace(*axis.linear)
    if axis.log is not None:
        low, high, count = axis.log
        return np.geomspace(low, high, count)
    return np.array(axis.values, dtype=float)


def _spread(axis: Axis, unit: np.ndarray) -> np.ndarray:
    low, high = axis.latin or axis.sobol or (0.0, 1.0)
    if axis.scale == "log":
        return np.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return low + unit * (high - low)
