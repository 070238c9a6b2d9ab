"""Does it still work when the cell is not quite the model: a plan tried on many cells with rates of their own.

Cells are drawn with every reaction's rate multiplied by its own log-normal factor exp(spread z), z standard normal, or
are the members of an ensemble of fitted models. Of each cell its own start and target valley are found first, by the
flow from the model's; then it is pushed as planned. It counts as moved when it ends in its own target valley. All plans
meet the same cells. Shares are given with Wilson's interval.

Source: E. B. Wilson, J. Am. Stat. Assoc. 22:209 (1927), for the interval.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import coordinates, distance, floors
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.reprogramming.lanes import Bench, Own, Tries, run
from pinnsim.simulate import Outcome
from pinnsim.tree import named_leaves

WORKS, BACK, ELSEWHERE, NO_START, NO_TARGET, FAILED = (
    "moved", "comes back", "ends elsewhere", "has no such start", "has no such target", "could not be solved",
)  # fmt: skip
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Robustness:
    """How many cells a plan moves.

    **Arguments:** `cells`: how many were tried; `moved`: how many it moved; `reasons`: how many cells ended how.
    """

    cells: int
    moved: int
    reasons: dict[str, int]

    @property
    def share(self) -> float:
        """The share of cells that it moved, NaN without cells."""
        return self.moved / self.cells if self.cells else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the share, 95 %."""
        low, high = proportion_interval(self.moved, self.cells, LEVEL)
        return float(low), float(high)


def robustness(
    bench: Bench,
    plans: Tries,
    *,
    cells: int,
    spread: float,
    seed: int,
    threshold: float,
    ensemble: CellModel | AbstractKinetics | None,
    batch_size: int,
    progress: bool,
) -> list[Robustness]:
    """Each plan on the same cells. **Arguments:** `ensemble`: members along a leading axis of every number that
    differs; without it `cells` draws of rates of this `spread` (of the logarithm)."""
    own = {} if ensemble is None else members_of(bench.kinetics, ensemble)
    noise = None
    if ensemble is None:
        reactions = len(bench.kinetics.table.reactions)
        cells = cells if reactions else 0  # a flow without reactions has no rates to vary
        noise = np.exp(spread * np.random.default_rng(seed).standard_normal((cells, reactions)))
    else:
        cells = len(next(iter(own.values()))) if own else 0
    if not cells or not len(plans):
        return [Robustness(0, 0, {}) for _ in range(len(plans))]
    slots = plans.which.shape[1]
    still = Tries(np.full((2 * cells, slots), bench.edits.none), np.zeros((2 * cells, slots)), np.zeros(2 * cells))
    begin = np.repeat(np.stack([np.asarray(bench.state), np.asarray(bench.points[bench.goal])]), cells, axis=0)
    lanes = len(plans) * cells

    def every(values: np.ndarray, times: int) -> np.ndarray:
        return np.tile(values, (times,) + (1,) * (values.ndim - 1))

    with tqdm(total=2 * cells + lanes, desc="robustness", unit="cell", disable=None if progress else True) as bar:
        mine = {name: every(values, 2) for name, values in own.items()}
        rest = run(bench, still, probe=False, states=begin, noise=None if noise is None else every(noise, 2), own=mine,
                   batch_size=batch_size, bar=bar)  # fmt: skip
        start, target = np.split(rest.final, 2)
        fine = np.split((rest.outcome == Outcome.DONE) & np.isfinite(rest.final).all(axis=1), 2)
        kept = [ok & (near == number) for ok, near, number in zip(
            fine, np.split(rest.nearest, 2), (_home(bench), int(bench.goal)), strict=True)]  # fmt: skip
        pushed = Tries(*(np.repeat(a, cells, axis=0) for a in (plans.which, plans.strengths, plans.durations)))
        # What has no start is pushed from the model's, and not counted as moved.
        begin = np.where(kept[0][:, None], start, np.asarray(bench.state)[None])
        mine = {name: every(values, len(plans)) for name, values in own.items()}
        ends = run(bench, pushed, probe=False, states=every(begin, len(plans)),
                   noise=None if noise is None else every(noise, len(plans)), own=mine, batch_size=batch_size,
                   bar=bar)  # fmt: skip
    to_target = _gaps(bench, ends.final, every(target, len(plans)))
    to_start = _gaps(bench, ends.final, every(begin, len(plans)))
    solved = (ends.outcome == Outcome.DONE) & np.isfinite(ends.final).all(axis=1)
    has_start, has_target, both_solved = (
        every(kept[0], len(plans)),
        every(kept[1], len(plans)),
        every(fine[0] & fine[1], len(plans)),
    )
    endings = np.select(
        [~both_solved | ~solved, ~has_start, ~has_target, to_target <= threshold, to_start <= threshold],
        [FAILED, NO_START, NO_TARGET, WORKS, BACK],
        ELSEWHERE,
    ).reshape(len(plans), cells)
    return [Robustness(cells, int((row == WORKS).sum()), dict(zip(*_counts(row), strict=True))) for row in endings]


def members_of(kinetics: AbstractKinetics, ensemble: CellModel | AbstractKinetics) -> Own:
    """The numbers of members that differ from a model's, by name, each with a leading member axis.

    **Raises** `E_USAGE` for an ensemble of another model.
    """
    given = resolve(ensemble.kinetics if isinstance(ensemble, CellModel) else ensemble)
    own, many = named_leaves(kinetics), named_leaves(given)
    stacked = {name: leaf for name, leaf in many.items() if name in own and leaf.ndim == own[name].ndim + 1}
    counts = {len(leaf) for leaf in stacked.values()}
    wrong = [name for name, leaf in stacked.items() if leaf.shape[1:] != own[name].shape]
    if set(own) != set(many) or len(counts) != 1 or wrong:
        raise PinnsimError.of(
            "E_USAGE",
            "Argument `ensemble` must be this model with a leading member axis on its numbers, as `Fit.ensemble` and "
            "`Laplace.sample` give it.",
        )
    return {name: leaf for name, leaf in stacked.items() if leaf.dtype.kind == "f"}


def _home(bench: Bench) -> int:
    return int(np.argmin(_gaps(bench, np.asarray(bench.points), np.asarray(bench.state)[None])))


def _gaps(bench: Bench, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of states, (lane,)."""
    floor, material = floors(bench.kinetics), bench.kinetics.material()

    def at(states: np.ndarray) -> Float[Array, "lane species"]:
        return coordinates(jnp.asarray(np.broadcast_to(states, a.shape)), floor, material)

    return np.asarray(distance(at(a), at(b)))


def _counts(row: np.ndarray) -> tuple[list[str], list[int]]:
    names, counts = np.unique(row, return_counts=True)
    return names.tolist(), counts.tolist()
