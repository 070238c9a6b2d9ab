"""Push the ball up a hill, let go, and say in which valley it settles: dose x duration x settle.

A push multiplies every number of a template treatment by a dose and lasts for a duration; then only the background
acts, and after `settle` the state is compared with the known attractors. All lanes are one compiled program in which
doses, durations and settling times are arrays: sweeping them never recompiles. Lanes may also differ in the model
itself (`Members`), of which each lane names one.

How a dose enters: `signal`, `drive` and `hold` are dose x number; factors (`SPI1*1`, `activity(...)*1`) are
dose x number too, so a template `SPI1*1` at dose 4 is a four-fold over-expression; of an edit with a threshold
(`{ic50=...}`) the concentration is multiplied, and its full effect stays.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import (
    Numbers,
    coordinates,
    distance,
    floors,
    kinetics_of,
    require_states,
    resolved,
)
from pinnsim.landscape.cycles import Cycle
from pinnsim.landscape.dosage import linear_in_dose
from pinnsim.landscape.slabs import in_slabs
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.simulate.adaptive import Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.many import moving, starts_stiff
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.solve import Solution
from pinnsim.treatment import NONE, Treatment, as_treatment
from pinnsim.tree import lane as lane_of
from pinnsim.tree import named_leaves

NOWHERE = -1  # no known attractor within the threshold
_ON_CYCLE = 0.02  # a state so near a cycle's orbit, as a share of its swing, has settled on it


class Program(eqx.Module):
    """What all lanes share: equations, start, the push at dose 0 and per unit of dose, background, attractors."""

    kinetics: AbstractKinetics
    state: State
    zero: Perturbation
    slope: Perturbation
    background: Perturbation
    begin: Scalar
    attractors: Float[Array, "point species"]
    method: ODE

    def perturbation(self, dose: Scalar, duration: Scalar) -> Perturbation:
        """The push of one lane with the background."""
        scaled = jax.tree.map(lambda zero, slope: zero + dose * slope, self.zero, self.slope)
        # A push of no duration never starts: an interval of no length would still set held species.
        start = jnp.where(duration > 0, scaled.start, jnp.inf)
        timed = eqx.tree_at(lambda p: (p.start, p.stop), scaled, (start, start + duration))
        return timed.compose(self.background)

    def course(self, times: Times, acting: Perturbation, state: State, how: "How") -> Solution:
        """One cell's states at `times`, by the solver that the method names."""
        if self.method.solver is not None:
            return solve(self.kinetics, times, acting, state, self.method)
        limits = Limits(self.method.rtol, self.method.atol, self.method.max_steps)
        pair = Rodas() if how.stiff else Tsitouras()
        return integrate(self.kinetics, times, acting, state, pair, limits, how.moving)

    def lane(
        self, dose: Scalar, duration: Scalar, settle: Scalar, how: "How"
    ) -> tuple[State, State, Array, Array, Array]:
        """States when let go and when settled, nearest attractor, the distance to it, and the outcome."""
        stop = self.begin + duration
        times = jnp.stack([self.begin, stop, stop + settle])
        solution = self.course(times, self.perturbation(dose, duration), self.state, how)
        ok = (solution.outcome == Outcome.DONE) & jnp.all(jnp.isfinite(solution.states))
        material = self.kinetics.material()
        states = jnp.where(material, jnp.maximum(solution.states, 0.0), solution.states)
        nearest, gap = self.valley(states[2])
        states = jnp.where(ok, states, jnp.nan)
        return states[1], states[2], jnp.where(ok, nearest, NOWHERE), jnp.where(ok, gap, jnp.inf), solution.outcome

    def valley(self, state: State) -> tuple[Array, Array]:
        """The nearest attractor of a state and the distance to it."""
        material, floor = self.kinetics.material(), floors(self.kinetics)
        known = coordinates(self.attractors, floor, material)
        here = coordinates(state, floor, material)
        gaps = distance(jnp.broadcast_to(here, known.shape), known)
        # A valley that a member has lost is no number, and near nothing.
        gaps = jnp.where(jnp.isnan(gaps), jnp.inf, gaps)
        return jnp.argmin(gaps), jnp.min(gaps)


class How(NamedTuple):
    """What of a solver is chosen before it is compiled: implicit steps, and whether dose curves move."""

    stiff: bool
    moving: bool


class Members(eqx.Module):
    """What lanes may have of their own, with a leading member axis: numbers of the equations, start, attractors (NaN:
    lost). What is no floating number (positions, signs as integers) is the same in all members."""

    kinetics: AbstractKinetics
    state: Float[Array, "member species"]
    attractors: Float[Array, "member point species"]

    def of(self, program: Program, which: Int[Array, ""]) -> Program:
        """The program of one member."""

        def mine(leaf: Array) -> Array:
            # Positions are the same in all members, and a lookup by positions of lanes of their own would be slow.
            return leaf[which] if eqx.is_inexact_array(leaf) else leaf[0]

        arrays, rest = eqx.partition(self, eqx.is_array)
        own = eqx.combine(jax.tree.map(mine, arrays), rest)
        return dataclasses.replace(program, kinetics=own.kinetics, state=own.state, attractors=own.attractors)


@dataclasses.dataclass(frozen=True)
class Push:
    """Where pushed cells settled, one lane per dose and duration.

    **Arguments:** `doses`, `durations`, `settle`: (lane,); `released`, `final`: (lane, species), the state when let go
    and after `settle` (NaN for failed lanes); `valley`: (lane,), position among the attractors, -1 where none is within
    `threshold` or the lane failed, cycles counted after the points; `nearest`, `distance`: (lane,), the nearest point
    whatever its distance (log abundance, root mean square); `outcome`: (lane,), see `Outcome`; `names` of the
    attractors, (point,).
    """

    doses: np.ndarray
    durations: np.ndarray
    settle: np.ndarray
    released: np.ndarray
    final: np.ndarray
    valley: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    outcome: np.ndarray
    names: tuple[str, ...]
    threshold: float
    time_unit: str

    def verdicts(self) -> list[str]:
        """The attractor's name per lane, "none" where it settled near none, "failed" where it could not be solved."""
        failed = self.outcome != Outcome.DONE
        pairs = zip(self.valley, failed, strict=True)
        return ["failed" if bad else self.names[v] if v >= 0 else "none" for v, bad in pairs]

    def table(self) -> pd.DataFrame:
        """One row per lane."""
        return pd.DataFrame(
            {
                "dose": self.doses,
                f"duration ({self.time_unit})": self.durations,
                f"settle ({self.time_unit})": self.settle,
                "valley": self.verdicts(),
                "distance": self.distance,
                "outcome": [Outcome(int(code)).sentence for code in self.outcome],
            }
        )


def grid(doses: Numbers, durations: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Lanes of every dose with every duration: reshape results to (dose, duration)."""
    dose, duration = np.meshgrid(np.asarray(doses, float), np.asarray(durations, float), indexing="ij")
    return dose.ravel(), duration.ravel()


def push(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    template: Treatment | str,
    doses: Numbers,
    durations: Numbers,
    attractors: Attractors | Numbers,
    *,
    settle: Numbers,
    background: Treatment | str = NONE,
    threshold: float | int = 0.1,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Push:
    """Pushes a cell with every (dose, duration) lane, lets go, and says where it settled.

    **Arguments:** `state`: (species,), where the cell is when the push begins; `template`: the push at dose 1, its
    edits beginning at one time (default 0) and without stop, for example `"drive(u)=1"`; `doses`, `durations`,
    `settle`: (lane,) or one number for all; `attractors`: of the model under `background` (of an `Attractors` the
    stable ones and the cycles), else (point, species); `background`: what acts all the time; `threshold`: largest
    distance (log abundance) of a state that counts as settled in a valley; `method`: default `ODE(rtol=1e-6)`;
    `batch_size`: lanes solved at a time; `progress`: whether to show a bar.

    Good values: `settle` of 10 or more of the slowest relaxation times; more when pushes end near a separatrix.

    **Returns** a `Push`. **Raises** `E_INIT`, `E_DOSE_NEGATIVE`, `E_USAGE`, `E_PERTURB_...`.
    """
    kinetics = kinetics_of(model)
    points, names = known_points(attractors, kinetics)
    program = program_of(kinetics, state, template, background, points, method)
    lanes = lanes_of(doses, durations, settle)
    results = sweep(program, *lanes, batch_size, label="pushes" if progress else None)
    released, final, nearest, gap, outcome = results
    cycles = attractors.cycles if isinstance(attractors, Attractors) else ()
    valley = settled_in(nearest, gap, final, outcome, threshold, len(names), cycles)
    names = (*names, *(cycle.name for cycle in cycles))
    return Push(
        *lanes,
        released=released,
        final=final,
        valley=valley,
        nearest=nearest,
        distance=gap,
        outcome=outcome,
        names=names,
        threshold=threshold,
        time_unit=kinetics.time_unit,
    )


def settled_in(
    nearest: np.ndarray,
    gap: np.ndarray,
    final: np.ndarray,
    outcome: np.ndarray,
    threshold: float | int,
    points: int,
    cycles: tuple[Cycle, ...] = (),
) -> np.ndarray:
    """The valley of every lane, (lane,): a point within `threshold`, a cycle (counted after the points), or -1."""
    valley = np.where(gap <= threshold, nearest, NOWHERE)
    for lane in np.flatnonzero((valley == NOWHERE) & (outcome == Outcome.DONE)) if cycles else ():
        around = [cycle.gap(final[lane]) for cycle in cycles]
        if min(around) <= _ON_CYCLE:
            valley[lane] = points + int(np.argmin(around))
    return valley


def known_points(attractors: Attractors | Numbers, kinetics: AbstractKinetics) -> tuple[np.ndarray, tuple[str, ...]]:
    """Stable points, (point, species), and their names. Raises `E_INIT`, `E_USAGE` where there is none."""
    if isinstance(attractors, Attractors):
        points = attractors.states[attractors.stable]
        names = tuple(n for n, stable in zip(attractors.names, attractors.stable, strict=True) if stable)
    else:
        points = np.asarray(attractors, dtype=float)
        names = tuple(f"A{k + 1}" for k in range(len(points)))
    if not len(points) and isinstance(attractors, Attractors) and attractors.cycles:
        # Nothing is near a state of no number: only cycles are left to settle on.
        return np.full((1, len(kinetics.table.species)), np.nan), ("",)
    require_states(points, kinetics, "attractors")
    if not len(points):
        raise PinnsimError.of(
            "E_USAGE", "Argument `attractors` holds no stable point; there is no valley to settle in."
        )
    return points, names


def lanes_of(doses: Numbers, durations: Numbers, settle: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal one-dimensional arrays. Raises all problems of values and shapes."""
    given = {"doses": doses, "durations": durations, "settle": settle}
    arrays = {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in given.items()}
    with Problems() as problems:
        sizes = {a.size for a in arrays.values()} - {1}
        if len(sizes) > 1 or any(a.ndim > 1 for a in arrays.values()):
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            problems.add("E_USAGE", f"{shapes} must be (lane,) of one length, or single numbers; `grid` makes lanes.")
        for name, a in arrays.items():
            if not np.isfinite(a).all() or (a < 0).any():
                problems.add("E_DOSE_NEGATIVE", f"Argument `{name}` must be finite and >= 0, but holds {a.min():g}.")
        if (arrays["settle"] == 0).any():
            problems.add("E_USAGE", "Argument `settle` must be > 0: the cell needs time to settle after the push.")
    dose, duration, wait = np.broadcast_arrays(*arrays.values())
    return dose.copy(), duration.copy(), wait.copy()


def program_of(
    kinetics: AbstractKinetics,
    state: Numbers,
    template: Treatment | str,
    background: Treatment | str,
    points: np.ndarray,
    method: ODE | None,
) -> Program:
    """What all lanes share, checked and on the device."""
    start = np.asarray(state, dtype=float)
    require_states(start[None], kinetics, "state")
    zero, slope, begin = linear_in_dose(as_treatment(template), kinetics)
    method = ODE(rtol=1e-6, atol=1e-9, max_steps=16384) if method is None else method
    acting = resolved(background, kinetics)
    return Program(kinetics, jnp.asarray(start), zero, slope, acting, jnp.asarray(begin), jnp.asarray(points), method)


def sweep(
    program: Program,
    doses: np.ndarray,
    durations: np.ndarray,
    settle: np.ndarray,
    batch_size: int,
    *,
    members: Members | None = None,
    which: np.ndarray | None = None,
    how: How | None = None,
    label: str | None = None,
) -> tuple[np.ndarray, ...]:
    """Results of all lanes, in chunks of one program.

    **Arguments:** `members`, `which`: models of their own and each lane's, (lane,); `how`: where it is known already;
    `label`: of a progress bar.
    """
    if how is None:
        how = how_to_solve(program, float((durations + settle).max(initial=0.0)), members)
    numbers = np.zeros(len(doses), int) if which is None else np.asarray(which)

    def run(*chunks: Array) -> tuple[Array, ...]:
        return _run(program, members, how, *chunks)

    # Chunks of one width always: few lanes are filled up with copies, which take the same steps, so that one program
    # serves any number and a lane rounds alike alone and among others.
    return in_slabs(run, [numbers, doses, durations, settle], batch_size, label)


def how_to_solve(program: Program, span: float, members: Members | None = None) -> How:
    """Which of pinnsim's own solvers suits, by how fast the cell is at its start."""
    one = jnp.ones((), program.state.dtype)
    acting = program.perturbation(one, one)
    moves = moving(acting)
    if program.method.solver is not None or program.method.stiff is not None:
        return How(bool(program.method.stiff), moves)
    times = jnp.asarray([0.0, span], program.state.dtype) + program.begin
    if members is None:
        return How(starts_stiff(program.kinetics, times, acting, program.state[None], {}), moves)
    leaves = named_leaves(members.kinetics)
    own = {name: jnp.asarray(leaf) for name, leaf in leaves.items() if leaf.dtype.kind == "f"}
    return How(starts_stiff(lane_of(members.kinetics, 0), times, acting, members.state, own), moves)


@eqx.filter_jit
def _run(
    program: Program,
    members: Members | None,
    how: How,
    which: Int[Array, "chunk lane"],
    doses: Float[Array, "chunk lane"],
    durations: Float[Array, "chunk lane"],
    settle: Float[Array, "chunk lane"],
) -> tuple[Array, ...]:
    def one(shared: tuple[Program, Members | None], lane: tuple[Array, ...]) -> tuple[Array, ...]:
        program, members = shared
        which, dose, duration, settle = lane
        own = program if members is None else members.of(program, which)
        return own.lane(dose, duration, settle, how)

    lanes = tuple(array.ravel() for array in (which, doses, durations, settle))
    if program.method.solver is not None:
        chunks = (which, doses, durations, settle)
        return jax.lax.map(jax.vmap(lambda *lane: one((program, members), lane)), chunks)
    found = run_lanes(one, (program, members), lanes, block=doses.shape[1])
    return tuple(array.reshape(*doses.shape, *array.shape[1:]) for array in found)
