"""Basins of attraction: which valley a state belongs to, and what share of a box or of a population each valley has.

The basin of an attractor A is `B(A) = {x : phi_t(x) -> A as t -> inf}`. States are followed along the cell's own flow
(`pinnsim.landscape.settling`). The volume of a basin is its share of quasi-random points of a box (abundances spread
log-uniformly unless said otherwise), or of the states of a given population. Of n states of which k arrive, the share
is k / n with Clopper and Pearson's interval,

    low  = Beta^-1(a / 2; k, n - k + 1),      high = Beta^-1(1 - a / 2; k + 1, n - k),

exact for independent states, and wider than needed for Sobol points, which are more even than random ones.

Sources: P. J. Menck et al., Nature Physics 9:89 (2013), basin volume; C. J. Clopper and E. S. Pearson, Biometrika
26:404 (1934).
"""

import dataclasses

import numpy as np
import pandas as pd

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problem
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, frozen, require_states, resolved
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.landscape.settling import Settled, Valleys, settle_all, valleys_of
from pinnsim.landscape.starts import box_points
from pinnsim.landscape.totals import Totals
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_SAME = 1e-6  # totals of given states may differ so much from those of the attractors, as data do


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The valley of every state.

    **Arguments:** `names`: of the valleys, attractors before cycles; `valley`: (state,), position among the names, -1
    where a state flows to none; `outcome`: (state,), `Outcome.DONE` where it arrived, `NOT_SETTLED` where it had not
    within `longest`, `NOT_FINITE` or `MAX_STEPS` where it could not be followed; `ends`: (state, species), where it was
    then; `arrival`: (state,), when it arrived, in the model's time unit, else NaN.
    """

    __repr__ = brief

    names: tuple[str, ...]
    valley: np.ndarray
    outcome: np.ndarray
    ends: np.ndarray
    arrival: np.ndarray
    longest: float
    time_unit: str

    def verdicts(self) -> list[str]:
        """The valley's name per state, "none" where it settled in none, "failed" where it could not be followed."""
        nowhere = np.where(self.outcome == Outcome.NOT_SETTLED, "none", "failed")
        return [self.names[v] if v >= 0 else str(n) for v, n in zip(self.valley, nowhere, strict=True)]

    def sentences(self) -> list[str]:
        """What happened to each state, in words."""
        return [
            f"flows to {self.names[v]}, arriving after {t:.4g} {self.time_unit}"
            if v >= 0
            else f"flows nowhere known: {Outcome(int(o)).sentence}"
            for v, o, t in zip(self.valley, self.outcome, self.arrival, strict=True)
        ]

    def table(self) -> pd.DataFrame:
        """One row per state."""
        return pd.DataFrame(
            {
                "valley": self.verdicts(),
                f"arrival ({self.time_unit})": self.arrival,
                "outcome": [Outcome(int(code)).name for code in self.outcome],
            }
        )


@dataclasses.dataclass(frozen=True)
class BasinVolumes:
    """Shares of valleys.

    **Arguments:** `names`: of the valleys; `counts`: (valley,), states that flow there; `share`, `low`, `high`:
    (valley,), with the interval of `confidence`; `unsettled`, `failed`: how many states flow nowhere known and could
    not be followed; `of`: what the share is a share of; `assignment`: of the states themselves.
    """

    __repr__ = brief

    names: tuple[str, ...]
    counts: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unsettled: int
    failed: int
    confidence: float
    of: str
    assignment: Assignment

    @property
    def error(self) -> np.ndarray:
        """(valley,), standard error of the share, `sqrt(p (1 - p) / n)`."""
        return np.sqrt(self.share * (1.0 - self.share) / len(self.assignment.valley))

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What a reader must know, coded: `W_BASIN_EMPTY`, `W_SETTLES_NOWHERE`."""
        count, notes = len(self.assignment.valley), []
        for name, number, high in zip(self.names, self.counts, self.high, strict=True):
            if not number:
                notes.append(
                    Problem(
                        "W_BASIN_EMPTY",
                        f"none of {count} states flows to {name}: its share is below {high:.2g} at "
                        f"{self.confidence:.0%}; take more points, or a box around it.",
                    )
                )
        if self.unsettled or self.failed:
            codes = self.assignment.outcome[self.assignment.valley < 0]
            kinds = [f"{int((codes == o).sum())} {Outcome(int(o)).sentence}" for o in np.unique(codes)]
            notes.append(
                Problem(
                    "W_SETTLES_NOWHERE",
                    f"{len(codes)} of {count} states flow to no known attractor ({'; '.join(kinds)}); look for cycles "
                    "and further attractors with find_attractors, or follow them for longer.",
                )
            )
        return tuple(notes)

    def table(self) -> pd.DataFrame:
        """One row per valley, and one for what flows nowhere known."""
        count = len(self.assignment.valley)
        lost = self.unsettled + self.failed
        low, high = proportion_interval(np.array([lost]), count, self.confidence, exact=True)
        return pd.DataFrame(
            {
                "valley": [*self.names, "none"],
                "states": [*self.counts.tolist(), lost],
                "share": [*self.share.tolist(), lost / count],
                "low": [*self.low.tolist(), float(low[0])],
                "high": [*self.high.tolist(), float(high[0])],
            }
        )

    def describe(self) -> str:
        """Shares with their intervals, what they are shares of, and the notes."""
        parts = [
            f"{name} {s:.3g} ({lo:.3g} to {hi:.3g})"
            for name, s, lo, hi in zip(self.names, self.share, self.low, self.high, strict=True)
        ]
        text = f"Share of {self.of}, {self.confidence:.0%} interval: {', '.join(parts)}."
        return " ".join([text, *(f"{note.message[0].upper()}{note.message[1:]}" for note in self.notes)])


def assign(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    states: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> Assignment:
    """Which valley each state flows to, `lim phi_t(x)` as t grows; all states are lanes of one compiled program.

    **Arguments:** `attractors`: of `find_attractors(model, treatment, time=time)`; `states`: (state, species),
    abundances; `longest`: how long a state is followed, in the model's time unit (default: 60 of the slowest
    relaxation time of any known fixed point); `method`: default `ODE(rtol=1e-8)`, of pinnsim's own solvers.

    **Returns** an `Assignment`. **Raises** `E_INIT` (also for states with other conserved totals than the attractors),
    `E_USAGE`, `E_PERTURB_...`. Source: see the file.
    """
    valleys, names, totals = valleys_of(model, attractors, treatment, time, longest, method)
    return assigned(valleys, names, checked(states, valleys, totals, "states"), valleys.system.kinetics.time_unit)


def basin_volumes(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    points: int = 1024,
    bounds: tuple[Numbers, Numbers] | None = None,
    logarithmic: bool = True,
    states: Numbers | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> BasinVolumes:
    """What share of a box, or of a population, flows to each valley: `|{x in sample : x -> A}| / n`.

    **Arguments:** `points`: Sobol points in the box `bounds` = (lowest, highest), (species,) each (default as in
    `find_attractors`), spread evenly in the logarithm of abundances, or in abundances where `logarithmic` is false; in
    a model with conserved totals each point is moved to those of the attractors; `states`: (state, species), a
    population in place of a box; `confidence`: of the intervals; `seed`: of the Sobol points; `time`, `longest`,
    `method`: as in `assign`.

    Good values: a power of two; the standard error is at most 0.5 / sqrt(points).

    **Returns** `BasinVolumes`. **Raises** `E_INIT`, `E_BOUNDS`, `E_USAGE`, `E_PERTURB_...`. Source: see the file.
    """
    if not 0.0 < confidence < 1.0:
        raise PinnsimError.of("E_USAGE", f"Argument `confidence` must be between 0 and 1, but is {confidence:g}.")
    if states is None and points < 1:
        raise PinnsimError.of("E_USAGE", f"Argument `points` is {points}; a volume needs at least one point.")
    valleys, names, totals = valleys_of(model, attractors, treatment, time, longest, method, 1e-6)
    kinetics = valleys.system.kinetics
    if states is None:
        acting = frozen(resolved(treatment, kinetics), time)
        sample = totals.held_by(box_points(kinetics, acting, points, bounds, seed, logarithmic))
        what = f"{len(sample)} points of the {'default' if bounds is None else 'given'} box"
        what += " (spread log-uniformly)" if logarithmic else " (spread evenly)"
    else:
        sample = checked(states, valleys, totals, "states")
        what = f"{len(sample)} given states"
    if not len(sample):
        raise PinnsimError.of("E_DATA_EMPTY", "Argument `states` holds no state; a share needs at least one.")
    found = assigned(valleys, names, sample, kinetics.time_unit)
    counts = np.bincount(found.valley[found.valley >= 0], minlength=len(names))
    low, high = proportion_interval(counts, len(sample), confidence, exact=True)
    unsettled = int((found.outcome == Outcome.NOT_SETTLED).sum())
    failed = int((found.valley < 0).sum()) - unsettled
    return BasinVolumes(names, counts, counts / len(sample), low, high, unsettled, failed, confidence, what, found)


def assigned(valleys: Valleys, names: tuple[str, ...], states: np.ndarray, time_unit: str) -> Assignment:
    """The assignment of checked states."""
    empty = np.zeros(0)
    found = settle_all(valleys, states) if len(states) else Settled(empty.astype(int), states, empty.astype(int), empty)
    arrival = np.where(found.valley >= 0, found.time, np.nan)
    return Assignment(names, found.valley, found.outcome, found.end, arrival, float(valleys.longest), time_unit)


def checked(states: Numbers, valleys: Valleys, totals: Totals, what: str) -> np.ndarray:
    """States as an array. **Raises** `E_INIT` for shapes, for numbers that are none, and for other totals."""
    array = np.asarray(states, dtype=float)
    require_states(array, valleys.system.kinetics, what)
    held = np.where(np.asarray(valleys.system.acting.hold), np.asarray(valleys.system.acting.level), array)
    gaps = totals.gaps(held)
    if (gaps > _SAME).any():
        raise PinnsimError.of(
            "E_INIT",
            f"{int((gaps > _SAME).sum())} of {len(array)} states (first: state {int(np.argmax(gaps > _SAME))}) have "
            f"other totals ({', '.join(totals.names)}) than the attractors; find those at the totals of these states.",
        )
    return array
