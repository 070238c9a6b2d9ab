"""Which combinations of edits reach the target, level by level, and how little of each is enough.

A level tries combinations of one, two, three ... edits at every strength and duration of a grid, all as lanes of one
program. A level of no more than `exhaustive` combinations is tried whole; of a larger one those that add an edit to the
`beam` best of the level before: the ones that reached the target with the least effort, then those that came nearest to
it. So a beam can miss a combination no part of which comes near the target; what was tried is reported.

Of a combination that reaches, the least strength is then bisected at every duration of the grid, between the weakest
that reached and the one below: its front of strength against duration. Combinations of knock-outs only have no strength
to turn; of them the least duration is bisected.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from pinnsim.reprogramming.edits import EditArrays, EditSet
from pinnsim.reprogramming.effort import effort
from pinnsim.reprogramming.lanes import Bench, Ends, Tries, reached

_NOTHING = 1e-3
Judge = Callable[[Tries], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Level:
    """What was tried of one size of combination.

    **Arguments:** `which`: (combination, slot); `reached`: (combination, strength, duration); `ends`: of all lanes, in
    that order; `possible`: how many combinations there are; `whole`: whether all were tried.
    """

    size: int
    which: np.ndarray
    reached: np.ndarray
    ends: Ends
    possible: int
    whole: bool


@dataclasses.dataclass(frozen=True)
class Grid:
    """The strengths and durations that are tried, ascending, and the effort's exponent."""

    strengths: np.ndarray
    durations: np.ndarray
    power: float

    def tries(self, which: np.ndarray) -> Tries:
        """Every combination at every strength and duration, in that order."""
        count = len(self.strengths) * len(self.durations)
        strength, duration = np.meshgrid(self.strengths, self.durations, indexing="ij")
        each = np.repeat(which, count, axis=0)
        strengths = np.repeat(np.tile(strength.ravel(), len(which))[:, None], which.shape[1], axis=1)
        return Tries(each, strengths, np.tile(duration.ravel(), len(which)))

    @property
    def shape(self) -> tuple[int, int]:
        """(strength, duration)."""
        return len(self.strengths), len(self.durations)


def search(
    bench: Bench,
    edits: EditSet,
    grid: Grid,
    *,
    most: int,
    exhaustive: int,
    beam: int,
    threshold: float,
    batch_size: int,
    progress: bool,
) -> list[Level]:
    """All levels from one edit to `most`."""
    levels: list[Level] = []
    for size in range(1, min(most, edits.none) + 1):
        every = combinations(edits, size, exhaustive)
        possible = len(every) if every is not None else _possible(edits, size)
        if every is None:
            every = extended(edits, levels[-1].which[_best(levels[-1], edits.arrays, grid, beam)], size)
        if not len(every):
            break
        which = np.full((len(every), most), edits.none)
        which[:, :size] = every
        tries = grid.tries(which)
        what = f"{size} edit{'s' * (size > 1)} at a time"
        with tqdm(total=len(tries), desc=what, unit="push", disable=None if progress else True) as bar:
            there, ends = reached(bench, tries, threshold, batch_size, bar)
        whole = len(every) == possible
        levels.append(Level(size, which, there.reshape(len(which), *grid.shape), ends, possible, whole))
    return levels


def combinations(edits: EditSet, size: int, limit: int) -> np.ndarray | None:
    """All combinations of `size` edits of different targets, (combination, size), or `None` where they are more than
    `limit`; single edits are always all."""
    made = (c for c in itertools.combinations(range(edits.none), size) if _distinct(edits, c))
    first = list(itertools.islice(made, limit + 1 if size > 1 else None))
    return None if size > 1 and len(first) > limit else np.array(first, dtype=int).reshape(-1, size)


def extended(edits: EditSet, parents: np.ndarray, size: int) -> np.ndarray:
    """Combinations that add one edit to each parent, (combination, size)."""
    own = [tuple(int(k) for k in parent if k != edits.none) for parent in parents]
    made = {tuple(sorted((*p, k))) for p in own for k in range(edits.none) if k not in p}
    return np.array(sorted(c for c in made if _distinct(edits, c)), dtype=int).reshape(-1, size)


def fronts(
    bench: Bench, grid: Grid, level: Level, chosen: np.ndarray, tolerance: float, judge: Judge
) -> list[tuple[int, Tries]]:
    """For each chosen combination, by number: its least strengths at the durations of the grid where it reaches at all.

    **Arguments:** `tolerance`: relative width of the last bracket, whose upper end is given; `judge`: (lane,), whether
    tries reach.
    """
    rows: list[tuple[int, float, float, bool]] = []  # combination, lower and upper end, at which duration
    fixed: list[float] = []
    for k in chosen.tolist():
        there = level.reached[k]
        if not bool(np.asarray(bench.edits.turned)[level.which[k]].any()):
            j = int(np.argmax(there.any(axis=0)))
            rows.append((k, grid.durations[j - 1] if j else 0.0, grid.durations[j], False))
            fixed.append(float(grid.strengths[-1]))
            continue
        for j in np.flatnonzero(there.any(axis=0)).tolist():
            i = int(np.argmax(there[:, j]))
            rows.append((k, grid.strengths[i - 1] if i else 0.0, grid.strengths[i], True))
            fixed.append(float(grid.durations[j]))
    if not rows:
        return []
    number, low, high, turned = (np.array(column) for column in zip(*rows, strict=True))
    held = np.array(fixed)

    def tries(value: np.ndarray) -> Tries:
        strength, duration = np.where(turned, value, held), np.where(turned, held, value)
        which = level.which[number]
        return Tries(which, np.repeat(strength[:, None], which.shape[1], axis=1), duration)

    found = tries(bisected(low, high, tolerance, lambda value: judge(tries(value))))
    return [(k, found.take(number == k)) for k in chosen.tolist() if (number == k).any()]


def bisected(
    low: np.ndarray, high: np.ndarray, tolerance: float, reach: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The upper ends of brackets, of which the lower end does not reach and the upper does, once no bracket is wider
    than `tolerance` times its upper end (where everything reaches, a thousandth of the first upper end counts)."""
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    least = _NOTHING * high
    # A bracket that is narrow enough stays as it is, so that it does not depend on which others are still open.
    while np.any(wide := high - low > tolerance * np.maximum(high, least)):
        middle = 0.5 * (low + high)
        there = reach(middle)
        high, low = np.where(wide & there, middle, high), np.where(wide & ~there, middle, low)
    return high


def least_of(level: Level, edits: EditArrays, grid: Grid) -> np.ndarray:
    """The least effort at which each combination reached on the grid, infinite where none did, (combination,)."""
    efforts = effort(edits, grid.tries(level.which), grid.power).reshape(level.reached.shape)
    return np.where(level.reached, efforts, np.inf).min(axis=(1, 2))


def _best(level: Level, edits: EditArrays, grid: Grid, beam: int) -> np.ndarray:
    """The `beam` best combinations of a level: by effort where they reached, then by how near they came."""
    near = level.ends.approach.reshape(len(level.which), -1).min(axis=1)
    return np.lexsort((near, least_of(level, edits, grid)))[:beam]


def _possible(edits: EditSet, size: int) -> int:
    """How many combinations of different targets there are: a coefficient of the product of (1 + n x)."""
    counts = np.unique(np.array([f"{field}\t{name}" for field, name in edits.targets]), return_counts=True)[1]
    ways = [1] + [0] * size
    for n in counts.tolist():
        ways = [ways[0], *(ways[k] + n * ways[k - 1] for k in range(1, size + 1))]
    return int(ways[size])


def _distinct(edits: EditSet, numbers: tuple[int, ...]) -> bool:
    targets = [edits.targets[k] for k in numbers]
    return len(set(targets)) == len(targets)
