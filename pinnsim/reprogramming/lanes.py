"""Many tries at once: combinations of edits, strengths and durations as lanes of one program, and where each ends.

A try pushes the cell from the start valley with up to `slot` edits for a duration, lets go, and follows it to one end
time that all tries share. Combinations are numbers of edits, strengths and durations are arrays: a search over
thousands of tries is one compiled program, run in chunks of equal shape.

A try is also judged by its probe: the same with every strength smaller by `margin` (with the duration shorter where
only knock-outs act). What reaches the target both as it is and as its probe keeps that distance from the near edge of
what reaches; a push that is a little too strong may overshoot into a third valley, so both are needed.
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import coordinates, distance, floors, lasting
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.reprogramming.edits import EditArrays, Strengths
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.simulate import ODE, Outcome, solve_many
from pinnsim.simulate.many import starts_stiff

NOWHERE = -1
UNSETTLED, FAILED = "unsettled", "failed"
_ON_CYCLE = 0.02  # a state so near a cycle's orbit, as a share of its swing, has settled on it


class Bench(eqx.Module):
    """What all tries share.

    **Arguments:** `state`: where they begin; `points`: all stable points, (point, species); `times`: (time,), from 0 to
    the common end, where the approach to the target is looked at; `goal`: the target's number among the points;
    `margin`: see above.
    """

    kinetics: AbstractKinetics
    edits: EditArrays
    background: Edits
    state: State
    points: Float[Array, "point species"]
    times: Float[Array, " time"]
    goal: Int[Array, ""]
    margin: Scalar
    method: ODE

    def phases(self, which: Array, strengths: Strengths, duration: Scalar, noise: Rates) -> Perturbation:
        """The edits for a duration from time 0 on, and the background, its rates multiplied by `noise`, ever."""
        push = lasting(self.edits.acting(which, strengths))
        # A push of no duration never starts.
        start = jnp.where(duration > 0, 0.0, jnp.inf)[None]
        push = eqx.tree_at(lambda p: (p.start, p.stop), push, (start, start + duration))
        ground = eqx.tree_at(lambda e: e.factor, self.background, self.background.factor * noise)
        return push.compose(lasting(ground))

    def probed(self, which: Array, strengths: Strengths, duration: Scalar) -> tuple[Strengths, Scalar]:
        """Strengths and duration of the probe."""
        turned, less = self.edits.turned[which], 1.0 - self.margin
        shorter = jnp.where(jnp.any(turned), duration, less * duration)
        return jnp.where(turned, less * strengths, strengths), shorter


@dataclasses.dataclass(frozen=True)
class Tries:
    """Combinations with their strengths and durations.

    **Arguments:** `which`: (lane, slot), numbers of edits, empty slots hold the edit that does nothing; `strengths`:
    (lane, slot); `durations`: (lane,).
    """

    which: np.ndarray
    strengths: np.ndarray
    durations: np.ndarray

    def __len__(self) -> int:
        return len(self.durations)

    def take(self, lanes: np.ndarray) -> "Tries":
        """Some of them, by position or mask."""
        return Tries(self.which[lanes], self.strengths[lanes], self.durations[lanes])


@dataclasses.dataclass(frozen=True)
class Ends:
    """Where tries ended, (lane, ...).

    **Arguments:** `final`: the last state; `nearest`: the nearest stable point; `gap`: the distance to it (log
    abundance, root mean square); `approach`: the least distance to the target at any of the bench's times; `outcome`.
    """

    final: np.ndarray
    nearest: np.ndarray
    gap: np.ndarray
    approach: np.ndarray
    outcome: np.ndarray


Own = Mapping[str, np.ndarray]


def run(
    bench: Bench,
    tries: Tries,
    *,
    probe: bool = True,
    states: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    own: Own | None = None,
    batch_size: int = 64,
    bar: tqdm | None = None,
) -> Ends:
    """All tries to their ends.

    **Arguments:** `probe`: whether the margin is taken off; `states`: (lane, species), starts of their own; `noise`:
    (lane, reaction), factors on all rates; `own`: numbers of the model of each lane's own, see `solve_many`.
    """
    count, reactions = len(tries), len(bench.kinetics.table.reactions)
    begin = np.broadcast_to(np.asarray(bench.state), (count, len(bench.state))) if states is None else states
    factors = np.ones((count, reactions)) if noise is None else noise
    parts = []
    for first in range(0, count, batch_size):
        # Every chunk has one shape: the last is filled with copies of its last lane.
        at = np.minimum(np.arange(first, first + batch_size), count - 1)
        which, strengths, durations, rates = (
            jnp.asarray(a[at]) for a in (tries.which, tries.strengths, tries.durations, factors)
        )
        acting = acting_of(bench, which, strengths, durations, rates, jnp.asarray(probe))
        mine = {name: jnp.asarray(values[at]) for name, values in (own or {}).items()}
        solution = solve_many(bench.kinetics, bench.times, acting, jnp.asarray(begin[at]), bench.method, own=mine)
        ends = _judged(bench.kinetics, bench.points, bench.goal, solution.states, solution.outcome)
        parts.append([np.asarray(a)[: count - first] for a in ends])
        if bar is not None:
            bar.update(min(batch_size, count - first))
    return Ends(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def reached(
    bench: Bench, tries: Tries, threshold: float, batch_size: int = 64, bar: tqdm | None = None
) -> tuple[np.ndarray, Ends]:
    """(lane,), which tries settle within `threshold` of the target, as they are and as probes; and the ends: of the
    probe, or of the whole push where only the probe reaches."""
    ends = run(bench, tries, batch_size=batch_size, bar=bar)
    there = reaches(bench, ends, threshold)
    lanes = np.flatnonzero(there)
    if len(lanes):
        whole = run(bench, tries.take(lanes), probe=False, batch_size=batch_size)
        fine = reaches(bench, whole, threshold)
        there[lanes] = fine
        for field in dataclasses.fields(Ends):
            if field.name != "approach":
                getattr(ends, field.name)[lanes[~fine]] = getattr(whole, field.name)[~fine]
    return there, ends


def steady_method(bench: Bench, strongest: float) -> ODE:
    """The bench's method with the choice between explicit and implicit steps made once, for the strongest push."""
    method = bench.method
    if method.solver is not None or method.stiff is not None:
        return method
    which = jnp.arange(max(bench.edits.none, 1))[:, None]
    lanes = which.shape[0]
    ones = jnp.ones((lanes, len(bench.kinetics.table.reactions)))
    strengths, durations = jnp.full((lanes, 1), strongest), jnp.full(lanes, bench.times[-1])
    acting = acting_of(bench, which, strengths, durations, ones, jnp.asarray(False))
    states = jnp.broadcast_to(bench.state, (lanes, bench.state.shape[0]))
    stiff = starts_stiff(bench.kinetics, bench.times, acting, states, {})
    return ODE(method.rtol, method.atol, None, method.max_steps, method.adjoint, stiff)


def judged(bench: Bench, states: np.ndarray, solved: np.ndarray) -> Ends:
    """The ends of courses that were solved elsewhere. **Arguments:** `states`: (lane, time, species)."""
    outcome = np.where(solved, int(Outcome.DONE), int(Outcome.NOT_FINITE))
    found = _judged(bench.kinetics, bench.points, bench.goal, jnp.asarray(states), jnp.asarray(outcome))
    return Ends(*(np.asarray(a) for a in found))


def reaches(bench: Bench, ends: Ends, threshold: float | None = None) -> np.ndarray:
    """(lane,), whether tries ended nearest to the target, and within `threshold` where one is given."""
    there = (ends.outcome == Outcome.DONE) & (ends.nearest == int(bench.goal))
    return there if threshold is None else there & (ends.gap <= threshold)


def verdicts(ends: Ends, names: tuple[str, ...], threshold: float, attractors: Attractors) -> np.ndarray:
    """Per lane the name of the valley or cycle it settled on, `UNSETTLED`, or `FAILED` where it could not be solved."""
    solved = ends.outcome == Outcome.DONE
    found = np.where(ends.gap <= threshold, np.array(names, dtype=object)[ends.nearest], UNSETTLED)
    for lane in np.flatnonzero(solved & (found == UNSETTLED)) if attractors.cycles else ():
        gap, name = min((cycle.gap(ends.final[lane]), cycle.name) for cycle in attractors.cycles)
        found[lane] = name if gap <= _ON_CYCLE else UNSETTLED
    return np.where(solved, found, FAILED)


@eqx.filter_jit
def acting_of(
    bench: Bench,
    which: Int[Array, "lane slot"],
    strengths: Float[Array, "lane slot"],
    durations: Float[Array, " lane"],
    noise: Float[Array, "lane reaction"],
    probe: Array,
) -> Perturbation:
    """What acts on each lane, of tries or of their probes."""

    def one(which: Array, strengths: Array, duration: Array, noise: Array) -> Perturbation:
        weaker, shorter = bench.probed(which, strengths, duration)
        chosen = jnp.where(probe, weaker, strengths), jnp.where(probe, shorter, duration)
        return bench.phases(which, *chosen, noise)

    return jax.vmap(one)(which, strengths, durations, noise)


@eqx.filter_jit
def _judged(
    kinetics: AbstractKinetics,
    points: Float[Array, "point species"],
    goal: Int[Array, ""],
    states: Float[Array, "lane time species"],
    outcome: Array,
) -> tuple[Array, ...]:
    """Final state, nearest point, distance to it, closest approach to the target, outcome."""
    material, floor = kinetics.material(), floors(kinetics)
    known = coordinates(points, floor, material)

    def one(course: Float[Array, "time species"], outcome: Array) -> tuple[Array, ...]:
        ok = (outcome == Outcome.DONE) & jnp.all(jnp.isfinite(course))
        course = jnp.where(material[None], jnp.maximum(course, 0.0), course)
        here = coordinates(course, floor, material)
        gaps = distance(jnp.broadcast_to(here[-1:], known.shape), known)
        nearest = jnp.argmin(gaps)
        approach = jnp.min(distance(here, jnp.broadcast_to(known[goal], here.shape)))
        bad = jnp.where(outcome == Outcome.DONE, Outcome.NOT_FINITE, outcome)
        final = jnp.where(ok, course[-1], jnp.nan)
        return (
            final,
            jnp.where(ok, nearest, NOWHERE),
            jnp.where(ok, gaps[nearest], jnp.inf),
            jnp.where(ok, approach, jnp.inf),
            jnp.where(ok, outcome, bad),
        )

    return jax.vmap(one)(states, outcome)
