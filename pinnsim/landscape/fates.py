"""Fate probabilities: where noisy cells end after a push, with intervals that say how sure that is.

Every run is a cell with random numbers of its own, drawn by one of `pinnsim.simulate`'s samplers (exact jumps, chemical
Langevin, additive noise) through the push and `settle` after it. A noisy cell never rests, so its valley is that of the
basin it is in: from its last state the noise-free flow is followed for `quench`, and the attractor reached counts.

    P(valley k) = runs that end in k / all runs

Runs that are undecided (quenched next to a separatrix) or failed are told; the interval holds either way they might
have gone: its lower end counts none of them, its upper end all of them.

Run r of every push and every model has the key `lane_key(key, r)`, as in `simulate`: pushes share their random numbers,
so that differences between cells of a map are of the push, not of luck. Starts of a population do not share.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import Problems
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of, require_states
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.landscape.push import NOWHERE, How, Program, how_to_solve, known_points, lanes_of, program_of, settled_in
from pinnsim.landscape.slabs import in_slabs
from pinnsim.model import CellModel
from pinnsim.random import key_of, lane_key
from pinnsim.shapes import Scalar, State
from pinnsim.simulate import ODE, AbstractSampler, Outcome
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.sampler import Key
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class Fates:
    """How many noisy cells ended in which valley.

    **Arguments:** `doses`, `durations`: (lane,); `counts`: (start, lane, valley); `undecided`, `failed`: (start, lane);
    `runs`: of each start in each lane; `names`: of the valleys; `level`: of the intervals; `settle`, `quench`: with
    noise and without, in `time_unit`; `noise`: in words.
    """

    __repr__ = brief

    doses: np.ndarray
    durations: np.ndarray
    counts: np.ndarray
    undecided: np.ndarray
    failed: np.ndarray
    runs: int
    names: tuple[str, ...]
    level: float
    settle: float
    quench: float
    noise: str
    time_unit: str

    @property
    def total(self) -> int:
        """Runs of all starts in each lane."""
        return self.runs * self.counts.shape[0]

    @property
    def probability(self) -> np.ndarray:
        """(lane, valley), of a cell of the population of starts, each start as likely as any other."""
        return self.counts.sum(axis=0) / self.total

    @property
    def of_starts(self) -> np.ndarray:
        """(start, lane, valley), of a cell from each start."""
        return self.counts / self.runs

    def interval(self, *, exact: bool = False) -> np.ndarray:
        """(lane, valley, 2), lowest and highest probability at `level`: Wilson's, or Clopper and Pearson's where
        `exact`; of a population of starts it is on the safe side, because starts are taken as drawn at random."""
        open_ = (self.undecided + self.failed).sum(axis=0)[:, None]
        counts = self.counts.sum(axis=0)
        low, _ = proportion_interval(counts, self.total, self.level, exact=exact)
        _, high = proportion_interval(counts + open_, self.total, self.level, exact=exact)
        return np.stack([low, high], axis=-1)

    def table(self) -> pd.DataFrame:
        """One row per lane and valley."""
        lanes, valleys = self.probability.shape
        low, high = np.moveaxis(self.interval(), -1, 0)
        return pd.DataFrame(
            {
                "dose": np.repeat(self.doses, valleys),
                f"duration ({self.time_unit})": np.repeat(self.durations, valleys),
                "valley": list(self.names) * lanes,
                "probability": self.probability.ravel(),
                "low": low.ravel(),
                "high": high.ravel(),
                "runs": self.total,
                "undecided": np.repeat(self.undecided.sum(axis=0), valleys),
                "failed": np.repeat(self.failed.sum(axis=0), valleys),
            }
        )

    def describe(self) -> str:
        """One plain sentence on what may be trusted."""
        lost, open_ = int(self.failed.sum()), int(self.undecided.sum())
        every, widest = self.total * len(self.doses), float(np.ptp(self.interval(), axis=-1).max(initial=0.0))
        return (
            f"{every} runs ({self.noise}), {self.total} per push: {open_} undecided, {lost} failed; "
            f"{self.level:.0%} intervals are at most {widest:.3g} wide."
        )


def fate_probabilities(
    model: CellModel | AbstractKinetics,
    states: Numbers,
    template: Treatment | str,
    doses: Numbers,
    durations: Numbers,
    attractors: Attractors | Numbers,
    *,
    noise: AbstractSampler,
    key: Key,
    settle: float | int,
    quench: float | int | None = None,
    runs: int = 200,
    level: float = 0.95,
    background: Treatment | str = NONE,
    threshold: float | int = 0.1,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Fates:
    """Where noisy cells end after pushes, and how probably.

    **Arguments:** as for `push`; `states`: (species,), or (start, species) for a population; `noise`: `SSA(size)`,
    `Langevin(size, dt)`, `TauLeaping(size)` or `Diffusion(D, dt)`; `key`: a JAX key; `settle`: time with noise after
    the push; `quench`: time of the noise-free flow that decides the basin (default: `settle`); `runs`: cells per start
    and push; `level`: of the intervals; `method`: of the noise-free flow; `batch_size`: runs side by side.

    Good values: 200 runs for intervals 0.14 wide or less, 10,000 for 0.02; `settle` a few relaxation times (with much
    longer ones noise alone carries cells from valley to valley, whatever the push).

    **Returns** `Fates`. **Raises** as `push`, and `E_USAGE` for a noise that is no sampler or runs below 1.
    """
    kinetics = kinetics_of(model)
    points, names = known_points(attractors, kinetics)
    begin = np.atleast_2d(np.asarray(states, dtype=float))
    require_states(begin, kinetics, "states")
    rest = float(settle if quench is None else quench)
    with Problems() as problems:
        if not isinstance(noise, AbstractSampler):
            problems.add(
                "E_USAGE",
                f"Argument `noise` must be a sampler, but is {type(noise).__name__}; give SSA(size), "
                "Langevin(size, dt) or Diffusion(D, dt).",
            )
        if runs < 1 or not len(begin):
            problems.add("E_USAGE", f"{runs} runs of {len(begin)} starts: give at least one of each.")
        if not 0 < level < 1:
            problems.add("E_USAGE", f"Argument `level` must lie in (0, 1), but is {level}; 0.95 is usual.")
        if not (np.isfinite(rest) and rest > 0):
            problems.add("E_USAGE", f"Argument `quench` must be finite and > 0, but is {rest:g}.")
    program = program_of(kinetics, begin[0], template, background, points, method)
    dose, duration, wait = lanes_of(doses, durations, float(settle))
    how = how_to_solve(program, rest)
    starts, lanes = len(begin), len(dose)
    start, lane, run = (a.ravel() for a in np.meshgrid(*map(np.arange, (starts, lanes, runs)), indexing="ij"))
    given, words, time = jnp.asarray(begin), key_of(key), jnp.asarray(rest)

    def some(*chunks: Array) -> tuple[Array, ...]:
        return _noisy(program, noise, given, words, time, how, *chunks)

    # Cells of one push lie side by side: they take nearly the same number of steps. Starts do not share numbers.
    arrays = [start, start * runs + run, dose[lane], duration[lane], wait[lane]]
    final, nearest, gap, outcome = in_slabs(some, arrays, batch_size, "noisy cells" if progress else None)
    cycles = attractors.cycles if isinstance(attractors, Attractors) else ()
    valley = settled_in(nearest, gap, final, outcome, threshold, len(names), cycles).reshape(starts, lanes, runs)
    names = (*names, *(cycle.name for cycle in cycles))
    done = (outcome == Outcome.DONE).reshape(valley.shape)
    counts = np.stack([(valley == k).sum(axis=-1) for k in range(len(names))], axis=-1)
    return Fates(
        doses=dose,
        durations=duration,
        counts=counts,
        undecided=(done & (valley == NOWHERE)).sum(axis=-1),
        failed=(~done).sum(axis=-1),
        runs=runs,
        names=names,
        level=level,
        settle=float(settle),
        quench=rest,
        noise=_words(noise),
        time_unit=kinetics.time_unit,
    )


def noisy_end(program: Program, noise: AbstractSampler, state: State, key: Array, lane: tuple, how: How) -> tuple:
    """One noisy cell: its quenched state, the nearest attractor, the distance to it, and the outcome."""
    dose, duration, settle, quench = lane
    stop = program.begin + duration
    times = jnp.stack([program.begin, stop, stop + settle])
    drawn = noise.sample(program.kinetics, times, program.perturbation(dose, duration), state, key)
    last = drawn.states[-1]
    able = (drawn.outcome == Outcome.DONE) & jnp.all(jnp.isfinite(last))
    # What failed is not followed: numbers out of range would keep the solver busy.
    begin = jnp.where(able, last, program.state)
    times = jnp.stack([stop + settle, stop + settle + quench])
    course = program.course(times, program.background, begin, how)
    final = jnp.where(program.kinetics.material(), jnp.maximum(course.states[-1], 0.0), course.states[-1])
    nearest, gap = program.valley(final)
    outcome = jnp.where(
        drawn.outcome == Outcome.DONE, jnp.where(able, course.outcome, Outcome.NOT_FINITE), drawn.outcome
    )
    good = (outcome == Outcome.DONE) & jnp.all(jnp.isfinite(final))
    outcome = jnp.where((outcome == Outcome.DONE) & ~good, Outcome.NOT_FINITE, outcome)
    final = jnp.where(good, final, jnp.nan)
    return final, jnp.where(good, nearest, NOWHERE), jnp.where(good, gap, jnp.inf), outcome


@eqx.filter_jit
def _noisy(
    program: Program,
    noise: AbstractSampler,
    states: Float[Array, "start species"],
    words: Array,
    quench: Scalar,
    how: How,
    start: Int[Array, "chunk lane"],
    number: Int[Array, "chunk lane"],
    doses: Float[Array, "chunk lane"],
    durations: Float[Array, "chunk lane"],
    settle: Float[Array, "chunk lane"],
) -> tuple[Array, ...]:
    def one(shared: tuple, lane: tuple[Array, ...]) -> tuple[Array, ...]:
        program, noise, states, words, quench = shared
        start, number, dose, duration, settle = lane
        return noisy_end(program, noise, states[start], lane_key(words, number), (dose, duration, settle, quench), how)

    shared = (program, noise, states, words, quench)
    lanes = (start, number, doses, durations, settle)
    if program.method.solver is not None:
        return jax.lax.map(jax.vmap(lambda *lane: one(shared, lane)), lanes)
    found = run_lanes(one, shared, tuple(array.ravel() for array in lanes), block=doses.shape[1])
    return tuple(array.reshape(*doses.shape, *array.shape[1:]) for array in found)


def _words(noise: AbstractSampler) -> str:
    """A sampler and its strength."""
    for name in ("size", "strength"):
        value = getattr(noise, name, None)
        if value is not None:
            return f"{type(noise).__name__}({name}={np.array2string(np.asarray(value), precision=4)})"
    return type(noise).__name__
