"""Where a cell can rest: fixed points with a certificate, their stability, and how often the flow ends there.

From many quasi-random starts (Sobol points, log-uniform in abundance) two questions are asked, which need two methods:

1. *Which valleys are there, and how wide?* Every start is followed along the cell's own flow for a long time and the
   point where it came to rest is polished by Newton's method. The share of starts that arrives in a valley estimates
   its share of the box of starts. A start that still moves is reported as a cycle (it came back to where it was, with
   undiminished swing), which is then closed exactly (`pinnsim.landscape.cycles`), or as not settled; it is never
   counted as resting anywhere.
2. *Which other fixed points are there?* Deflated Newton iterations (`pinnsim.landscape.roots`; of more than 64 species
   implicit steps, without deflation) from the starts themselves, and from the middle between every two valleys, also
   converge to saddles and peaks, which the flow leaves. So they never decide whether a point is stable,
   nor whose valley a start belongs to.

What a fixed point must show to be counted, and when it is called stable, is in `pinnsim.landscape.fixed_points`.

Source: S. Strogatz, Nonlinear Dynamics and Chaos (1994), chapters 6 and 7.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problem, first
from pinnsim.landscape.coordinates import (
    Numbers,
    chunk_size,
    coordinates,
    floors,
    frozen,
    in_chunks,
    kinetics_of,
    out_of_chunks,
    require_states,
    resolved,
)
from pinnsim.landscape.cycles import Cycle, close_orbit, period_of
from pinnsim.landscape.fixed_points import FixedPoints, jacobian_at
from pinnsim.landscape.roots import search
from pinnsim.landscape.starts import box_points, probes_of
from pinnsim.landscape.system import system_of
from pinnsim.landscape.totals import totals_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.shown import Facts, as_html, as_text
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.treatment import NONE, Treatment

SETTLED, CYCLE, MOVING, FAILED = "settled", "cycle", "not settled", "failed"
WINDOW = 256  # states looked at to tell a cycle from a slow approach
ARRIVED = 0.05  # largest distance (log abundance) between where the flow ended and the fixed point it is counted for
_ON_CYCLE = 0.02  # a state so near a known cycle, in units of its swing, is on it
_LARGE = 64  # species beyond which guesses are polished one by one
_STILL = 1e-3  # a coordinate that swings less than this rests
LIFETIMES = 12.0  # default `settle`, in units of the slowest relaxation: what is left of a start is e^-12
LONGER = 3.0  # a start that is not at rest after `settle` is followed this many times longer again


@dataclasses.dataclass(frozen=True)
class Attractors:
    """Fixed points, stable ones first, by share.

    **Arguments:**

    - `states`: (point, species); `names`: "A1", "A2" ... for attractors, "S1" ... for saddles, "U1" ... for points
      unstable in every direction, "M1" ... for marginal ones.
    - `stability`: "stable", "saddle", "unstable" or "marginal"; `index`: (point,), Morse index.
    - `eigenvalues`: (point, free species), complex, per time unit, largest real part first (held species and
      conserved totals left out).
    - `residual`: (point,), max |f| / (1 + |x|) per time unit.
    - `starts`: (point,), how many starts the flow brought there (0 for all but attractors).
    - `motion`: (start,), "settled", "cycle", "not settled" or "failed"; `arrives`: (start,), the point, or -1.
    - `ends`: (start, species), where the flow had brought each start; `settle`: how long it was followed at first.
    - `cycles`: limit cycles on which starts ended, with their periods and Floquet multipliers; `circles`: (start,), the
      cycle, or -1.
    """

    states: np.ndarray
    names: tuple[str, ...]
    stability: tuple[str, ...]
    index: np.ndarray
    eigenvalues: np.ndarray
    residual: np.ndarray
    starts: np.ndarray
    motion: tuple[str, ...]
    arrives: np.ndarray
    ends: np.ndarray
    settle: float
    species: tuple[str, ...]
    time_unit: str
    cycles: tuple[Cycle, ...] = ()
    circles: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        rows: list[tuple[str, object]] = [("found", self.describe())]
        for k, name in enumerate(self.names):
            share = f", {self.share[k]:.0%} of the starts" if self.stability[k] == "stable" else ""
            order = np.argsort(-self.states[k], kind="stable")[:4]
            most = ", ".join(f"{self.species[s]} {self.states[k, s]:.3g}" for s in order)
            rows.append((name, f"{self.stability[k]}{share}; highest: {most}"))
        return "Landscape (fixed points)", [*rows, *(("note", note) for note in self.notes)]

    @property
    def stable(self) -> np.ndarray:
        """(point,), true for attractors."""
        return np.array([kind == "stable" for kind in self.stability], dtype=bool)

    @property
    def share(self) -> np.ndarray:
        """(point,), fraction of all starts that the flow brought there: the valley's share of the box of starts."""
        return self.starts / max(len(self.motion), 1)

    def table(self) -> pd.DataFrame:
        """One row per fixed point: stability, index, starts, share, residual, slowest and largest rate."""
        leading = self.eigenvalues[:, 0] if len(self.names) else np.zeros(0, complex)
        return pd.DataFrame(
            {
                "point": list(self.names),
                "stability": list(self.stability),
                "index": self.index,
                "starts": self.starts,
                "share": self.share,
                "residual": self.residual,
                f"leading eigenvalue, real (1/{self.time_unit})": leading.real,
                f"leading eigenvalue, imaginary (1/{self.time_unit})": leading.imag,
            }
        )

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What a reader must know, coded: `W_SETTLES_NOWHERE`, `W_JACOBIAN_SINGULAR`."""
        notes = []
        lost = [k for k, kind in enumerate(self.motion) if kind in (MOVING, FAILED)]
        if lost:
            failed = self.motion.count(FAILED)
            notes.append(
                Problem(
                    "W_SETTLES_NOWHERE",
                    f"{len(lost)} of {len(self.motion)} starts (first: start {lost[0]}) ended neither at an attractor "
                    f"nor on a cycle ({failed} could not be followed); follow them for longer with `settle`, or by a "
                    "stiff `method`.",
                )
            )
        flat = [name for name, kind in zip(self.names, self.stability, strict=True) if kind == "marginal"]
        if flat:
            notes.append(
                Problem(
                    "W_JACOBIAN_SINGULAR",
                    f"at {first(flat)} an eigenvalue is zero within rounding, so the Jacobian does not say whether it "
                    "attracts (a fold, or one of many points that lie side by side); turn a knob with `continuation`.",
                )
            )
        return tuple(notes)

    def describe(self) -> str:
        """One plain sentence: how many attractors, how many other fixed points, and what did not come to rest."""
        stable, count = int(self.stable.sum()), len(self.motion)
        others = len(self.names) - stable
        parts = [f"{stable} attractor{'s' * (stable != 1)} from {count} starts"]
        if others:
            parts.append(f"{others} other fixed point{'s' * (others != 1)}")
        parts += [f"{c.stability} cycle {c.name} of period {c.period:.6g} {self.time_unit}" for c in self.cycles]
        texts = {CYCLE: "cycle", MOVING: "did not settle (cycle or too slow)", FAILED: "could not be solved"}
        parts += [f"{n} starts {text}" for kind, text in texts.items() if (n := self.motion.count(kind))]
        return ", ".join(parts) + "."


def find_attractors(
    model: CellModel | AbstractKinetics,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    starts: int = 32,
    states: Numbers | None = None,
    bounds: tuple[Numbers, Numbers] | None = None,
    totals: Numbers | None = None,
    settle: float | int | None = None,
    time: float | int = np.inf,
    probes: int = 8,
    seed: int = 0,
    tolerance: float | int = 1e-6,
    method: ODE | None = None,
    batch_size: int = 16,
) -> Attractors:
    """All fixed points found under a treatment that lasts.

    **Arguments:** `treatment`: what acts at `time` acts for ever (default: what never ends; `-inf`: what acts since
    ever); `starts`: Sobol points in the box `bounds` = (lowest, highest), each (species,), abundances spread
    log-uniformly (default: 0.001 to 2 times the default state; hidden activities within 3 spreads of their set point);
    `states`: (state, species), further starts, for example cultures of a data set; `totals`: (species,), a state whose
    conserved totals all starts are given (needed where reactions conserve any and `states` do not say); `settle`: how
    long each start is followed, in the model's time unit (default: 12 of the slowest relaxation time of the default
    state); those not at rest by then are followed 3 times as long again, or 12 of the slowest attractor's relaxation
    times, and watched for a cycle; `probes`: how many starts are also used to look for saddles; `tolerance`: relative,
    two points closer than this are one; `seed`: of the Sobol points; `method`: default `ODE(rtol=1e-6)`; give a stiff
    solver for stiff models; `batch_size`: lanes at a time.

    Good values: 32 starts for a first look, a power of two; 256 or more to bound the share of a narrow valley (none in
    n starts: share below 3 / n at 95 %).

    **Returns** `Attractors`. **Raises** `E_INIT`, `E_USAGE` (single precision, NaN parameters), `E_PERTURB_...`.
    """
    kinetics = kinetics_of(model)
    if starts < 0 or (starts == 0 and states is None):
        raise PinnsimError.of(
            "E_USAGE", f"Argument `starts` is {starts} and no `states` are given; the search needs at least one start."
        )
    acting = frozen(resolved(treatment, kinetics), time)
    begin = np.zeros((0, len(kinetics.table.species))) if states is None else np.asarray(states, dtype=float)
    require_states(begin, kinetics, "states")
    held = totals_of(kinetics, acting, totals, None if states is None else begin)
    begin = np.concatenate([begin, held.held_by(box_points(kinetics, acting, starts, bounds, seed))])
    method = ODE(rtol=1e-6, atol=1e-9, max_steps=16384) if method is None else method
    span = LIFETIMES / _slowest_rate(kinetics, acting) if settle is None else float(settle)
    points = FixedPoints(kinetics, acting, tolerance, held.state)
    size = chunk_size(len(begin), batch_size)
    circles = np.full(len(begin), -1)
    cycles: list[Cycle] = []
    # All starts are followed; those that are not at rest by then go on for longer, watched for a cycle.
    ends, _, solved, _ = follow_all(kinetics, acting, method, begin, span, size)
    arrives = np.array([arrival(points, end) if ok else -1 for end, ok in zip(ends, solved, strict=True)])
    motion = np.where(solved, SETTLED, FAILED).astype(object)
    late = np.flatnonzero(solved & (arrives < 0))
    if len(late):
        # An attractor may be slower than the default state made believe.
        span_left = max(LONGER * span, LIFETIMES / points.slowest_rate())
        ends[late], turning, still_solved, periods = follow_all(kinetics, acting, method, ends[late], span_left, size)
        for k, round_, ok, period in zip(late, turning, still_solved, periods, strict=True):
            circles[k] = _circle(kinetics, acting, ends[k], period, cycles) if ok and round_ else -1
            arrives[k] = arrival(points, ends[k]) if ok and not round_ else -1
            motion[k] = FAILED if not ok else CYCLE if round_ else SETTLED if arrives[k] >= 0 else MOVING
    guesses = probes_of(begin[:probes], points)
    if points.free.sum() <= _LARGE:
        search(points, np.array(guesses), seed)
    else:  # whole Jacobians of many lanes would cost more than all courses
        for guess in guesses:
            points.polish(guess)
    found = _collect(points, tuple(map(str, motion)), arrives, ends, span)
    return dataclasses.replace(found, cycles=tuple(cycles), circles=circles)


def _circle(
    kinetics: AbstractKinetics, acting: Perturbation, end: np.ndarray, period: float, cycles: list[Cycle]
) -> int:
    """The cycle on which the flow has ended, closed when it is new, or -1."""
    for number, cycle in enumerate(cycles):
        if cycle.gap(end) < _ON_CYCLE:
            return number
    found = close_orbit(system_of(kinetics, acting, end), end, period, 1e-9, f"C{len(cycles) + 1}")
    if found is None or found.stability == "unstable" or found.gap(end) > ARRIVED:
        return -1
    cycles.append(found)
    return len(cycles) - 1


def follow(
    kinetics: AbstractKinetics, acting: Perturbation, method: ODE, states: np.ndarray, span: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the flow brings states within `span`, (state, species), and whether each could be solved."""
    ends, _, solved, _ = follow_all(kinetics, acting, method, states, span, chunk_size(len(states), 16))
    return ends, solved


def follow_all(
    kinetics: AbstractKinetics, acting: Perturbation, method: ODE, states: np.ndarray, span: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each state: where it is after `span`, whether it goes round by then, whether it could be solved, and the
    period, roughly."""
    chunks = in_chunks([states], size)
    end, turning, solved, period = out_of_chunks(
        _follow(kinetics, acting, jnp.asarray(span), method, *chunks), len(states)
    )
    return end.copy(), turning, solved, period


@eqx.filter_jit
def _follow(
    kinetics: AbstractKinetics,
    acting: Perturbation,
    span: Scalar,
    method: ODE,
    states: Float[Array, "chunk lane species"],
) -> tuple[Float[Array, "chunk lane species"], Array, Array, Array]:
    # The first third is left out of the window, so that a transient does not hide a cycle.
    times, floor, material = jnp.linspace(span / 3.0, span, WINDOW), floors(kinetics), kinetics.material()

    def one(state: State) -> tuple[State, Array, Array, Array]:
        solution = solve(kinetics, times, acting, state, method, start=jnp.zeros(()))
        window = jnp.where(material, jnp.maximum(solution.states, 0.0), solution.states)
        ok = (solution.outcome == Outcome.DONE) & jnp.all(jnp.isfinite(window))
        course = coordinates(window, floor, material)
        return window[-1], ok & goes_round(course), ok, period_of(times, course)

    return jax.lax.map(jax.vmap(one), states)


def arrival(points: FixedPoints, end: np.ndarray) -> int:
    """The attractor at which the flow has ended, or -1."""
    number = points.nearest(end)
    number = points.polish(end) if number is None else number
    if number is None or points.stability[number] != "stable" or points.far(end, number) > ARRIVED:
        return -1
    return number


def goes_round(window: Float[Array, "time species"]) -> Array:
    """Whether a course of coordinates keeps its swing and comes back to its last state from far away."""
    swing = jnp.ptp(window, axis=0, keepdims=True)
    half = window.shape[0] // 2
    early, late = (jnp.ptp(part, axis=0, keepdims=True) for part in (window[:half], window[half:]))
    moves = swing > _STILL
    lasting = jnp.all(jnp.where(moves, jnp.abs(early - late) < 0.1 * swing, True))
    gaps = jnp.abs(window - window[-1:]) / jnp.where(moves, swing, 1.0)
    gap = jnp.max(jnp.where(moves, gaps, 0.0), axis=1)
    been_far = jax.lax.cummax(gap[::-1])[::-1] > 0.5
    return jnp.any(moves) & lasting & jnp.any(been_far & (gap < 0.15))


def _slowest_rate(kinetics: AbstractKinetics, acting: Perturbation) -> float:
    """Smallest real part, in size, of the Jacobian's eigenvalues at the default state: how long to follow at first."""
    jacobian = np.asarray(jacobian_at(kinetics, acting, kinetics.default_state()))
    free = ~np.asarray(acting.hold[0] > 0)
    rates = np.abs(np.linalg.eigvals(jacobian[np.ix_(free, free)]).real) if np.isfinite(jacobian).all() else np.ones(1)
    # What is slower than a thousandth of the fastest is conserved, accidental, or too slow to wait for.
    rates = rates[rates > 1e-3 * rates.max(initial=0.0)]
    return float(rates.min(initial=np.inf)) if rates.size else 1.0


def _collect(
    points: FixedPoints, motion: tuple[str, ...], arrives: np.ndarray, ends: np.ndarray, settle: float
) -> Attractors:
    """The result, stable points first, by number of starts."""
    counts = np.bincount(arrives[arrives >= 0], minlength=len(points.states))
    order = sorted(
        range(len(points.states)), key=lambda k: (points.stability[k] != "stable", -counts[k], points.index[k])
    )
    rank = np.argsort(order) if order else np.zeros(0, int)
    letters = {"stable": "A", "saddle": "S", "unstable": "U", "marginal": "M"}
    kinds = [points.stability[k] for k in order]
    names = tuple(f"{letters[kind]}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds))
    width = len(points.kinetics.table.species)
    return Attractors(
        states=np.array([points.states[k] for k in order]).reshape(-1, width),
        names=names,
        stability=tuple(kinds),
        index=np.array([points.index[k] for k in order], dtype=int),
        eigenvalues=np.array([points.eigenvalues[k] for k in order], dtype=complex).reshape(-1, points.basis.shape[1]),
        residual=np.array([points.residuals[k] for k in order]),
        starts=counts[order] if order else np.zeros(0, int),
        motion=motion,
        arrives=np.where(arrives >= 0, rank[arrives], -1) if order else arrives,
        ends=ends,
        settle=settle,
        species=points.kinetics.table.species,
        time_unit=points.kinetics.time_unit,
    )
