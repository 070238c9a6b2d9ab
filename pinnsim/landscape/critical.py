"""The critical duration of a push at a dose, and the critical dose at a duration: where the cell stops coming back.

Bisection between a push that returns and one that leaves, all doses (or durations) as lanes of the program that `push`
uses, so that it compiles once. For `x' = x - x^3 + h` from -1 the answer is the quadrature

    T_c(h) = int_{-1}^{0} dx / (x - x^3 + h),

which the tests compare with, and the critical dose at a duration is its inverse. A number is given only where both ends
of the last bracket were seen to settle in different valleys; otherwise a code (`Switch`) and a note say why not.
"""

import dataclasses
import enum
import math
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of
from pinnsim.landscape.push import (
    How,
    Members,
    Program,
    how_to_solve,
    known_points,
    lanes_of,
    program_of,
    settled_in,
    sweep,
)
from pinnsim.landscape.verdict import resting
from pinnsim.model import CellModel
from pinnsim.simulate import ODE, Outcome
from pinnsim.treatment import NONE, Treatment

# Of lanes: the valley (where none is near, the nearest), whether it settled there, whether it could be solved.
Judged = tuple[np.ndarray, np.ndarray, np.ndarray]
Judge = Callable[[np.ndarray, np.ndarray], Judged]  # of doses and durations


class Switch(enum.IntEnum):
    """Whether a push switches the cell, and why no critical number is given."""

    FOUND = 0
    NEVER = 1
    ALWAYS = 2
    NOT_SETTLED = 3
    FAILED = 4
    UNDECIDED = 5
    UNSTABLE_START = 6

    @property
    def sentence(self) -> str:
        """What it means for a reader, and the next move."""
        return {
            Switch.FOUND: "a critical value was found",
            Switch.NEVER: "the cell returns from every push tried: try larger ones",
            Switch.ALWAYS: "the cell leaves after every push tried: try smaller ones",
            Switch.NOT_SETTLED: "a push at the end of the range does not settle (it goes round, or needs a longer "
            "`settle`)",
            Switch.FAILED: "a push could not be solved: look for NaN in parameters and doses, or use a stiff solver",
            Switch.UNDECIDED: "pushes beside the boundary do not settle in time: give a longer `settle`",
            Switch.UNSTABLE_START: "the start rests on a saddle or unstable point, from where rounding decides: start "
            "in a valley",
        }[self]


@dataclasses.dataclass(frozen=True)
class CriticalDuration:
    """The shortest push that the cell does not come back from, per dose.

    **Arguments:** `doses`, `duration`: (dose,), the middle of the last bracket; `bracket`: (dose, 2), the longest push
    seen to return and the shortest seen to leave; `note`: "" or why there is none ("returns after the longest push",
    "failed", ...), where `duration` is NaN; `code`: (dose,), see `Switch`.
    """

    doses: np.ndarray
    duration: np.ndarray
    bracket: np.ndarray
    note: tuple[str, ...]
    time_unit: str
    code: np.ndarray


@dataclasses.dataclass(frozen=True)
class CriticalDose:
    """The dose at which the cell stops coming back, per duration.

    **Arguments:** `durations`, `dose`: (duration,), the middle of the last bracket; `bracket`: (duration, 2), the last
    dose seen to return and the first seen to leave (the larger one first where it is smaller doses that leave, as of a
    knock-down `GATA1*1`); `note`: "" or why there is none, where `dose` is NaN; `code`: (duration,), see `Switch`.
    """

    durations: np.ndarray
    dose: np.ndarray
    bracket: np.ndarray
    note: tuple[str, ...]
    time_unit: str
    code: np.ndarray


@dataclasses.dataclass(frozen=True)
class Brackets:
    """What bisection ended with, (lane,) each: both ends, the valleys there, and a `Switch`."""

    low: np.ndarray
    high: np.ndarray
    before: np.ndarray
    after: np.ndarray
    code: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """(lane,), NaN where nothing was found."""
        return np.where(self.code == Switch.FOUND, 0.5 * (self.low + self.high), np.nan)

    @property
    def ends(self) -> np.ndarray:
        """(lane, 2), NaN where nothing was found."""
        both = np.stack([self.low, self.high], axis=-1)
        return np.where((self.code == Switch.FOUND)[..., None], both, np.nan)


def critical_duration(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    template: Treatment | str,
    doses: Numbers,
    attractors: Attractors | Numbers,
    *,
    longest: float | int,
    settle: float | int,
    background: Treatment | str = NONE,
    tolerance: float | int = 1e-3,
    threshold: float | int = 0.1,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> CriticalDuration:
    """The critical duration of each dose; a push "leaves" when the cell settles in another valley than unpushed.

    **Arguments:** as for `push`; `longest`: the longest push tried; `tolerance`: width of the last bracket, same unit.
    One threshold per dose is assumed (longer pushes leave, shorter ones return), as holds where the push works against
    one saddle; a push that goes round and comes back breaks it, and `fate_map` shows that.

    Good values: `settle` of `log(1 / tolerance)` and more of the slowest relaxation times.

    **Returns** a `CriticalDuration`. **Raises** as `push`, and `E_USAGE` for a tolerance that is not positive.
    """
    kinetics = kinetics_of(model)
    points, _ = known_points(attractors, kinetics)
    program = program_of(kinetics, state, template, background, points, method)
    dose, high, _ = lanes_of(doses, longest, settle)
    require_tolerance(tolerance)
    judge = judge_of(program, attractors, float(settle), float(longest), threshold, batch_size)
    label = "critical duration" if progress else None
    found = bracketed(lambda x: judge(dose, x), np.zeros_like(dose), high, float(tolerance), label)
    found = from_unstable(program, found)
    notes = {Switch.NEVER: "returns after the longest push", Switch.FAILED: "failed"}
    return CriticalDuration(dose, found.middle, found.ends, notes_of(found, notes), kinetics.time_unit, found.code)


def critical_dose(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    template: Treatment | str,
    durations: Numbers,
    attractors: Attractors | Numbers,
    *,
    highest: float | int,
    lowest: float | int = 0.0,
    settle: float | int,
    background: Treatment | str = NONE,
    tolerance: float | int = 1e-3,
    threshold: float | int = 0.1,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> CriticalDose:
    """The critical dose of each duration; a push "leaves" when the cell settles in another valley than unpushed.

    **Arguments:** as for `push`; `lowest`, `highest`: the doses tried; `tolerance`: width of the last bracket, in
    doses. One threshold between them is assumed, on either side: of a template like `GATA1*1` the cell returns at dose
    1 and may leave at dose 0.

    **Returns** a `CriticalDose`. **Raises** as `push`, and `E_USAGE` for a tolerance that is not positive or a highest
    dose that is not above the lowest.
    """
    kinetics = kinetics_of(model)
    points, _ = known_points(attractors, kinetics)
    program = program_of(kinetics, state, template, background, points, method)
    low, duration, _ = lanes_of(lowest, durations, settle)
    high, _, _ = lanes_of(highest, durations, settle)
    require_tolerance(tolerance)
    if not (high > low).all():
        raise PinnsimError.of(
            "E_USAGE", f"Argument `highest` must be above `lowest`, but is {highest} with {lowest}; give a wider range."
        )
    judge = judge_of(program, attractors, float(settle), float(duration.max()), threshold, batch_size)
    home, settled, ok = judge(high, np.zeros_like(duration))
    returns = judge(high, duration)[0] == home
    # Bisection goes from the end that returns, which for a knock-down is the highest dose.
    first, last = np.where(returns, high, low), np.where(returns, low, high)
    label = "critical dose" if progress else None
    found = bracketed(lambda x: judge(x, duration), first, last, float(tolerance), label)
    gone = np.isin(found.code, (Switch.NEVER, Switch.FOUND)) & (found.before != home)
    code = np.where(~ok, Switch.FAILED, np.where(~settled, Switch.NOT_SETTLED, found.code))
    code = np.where(gone & ok & settled, Switch.ALWAYS, code)
    found = from_unstable(program, dataclasses.replace(found, code=code))
    notes = {
        Switch.NEVER: "returns at every dose tried",
        Switch.ALWAYS: "leaves at every dose tried",
        Switch.FAILED: "failed",
    }
    return CriticalDose(duration, found.middle, found.ends, notes_of(found, notes), kinetics.time_unit, found.code)


def judge_of(
    program: Program,
    attractors: Attractors | Numbers,
    settle: float,
    longest: float,
    threshold: float | int,
    batch_size: int,
    members: Members | None = None,
    which: np.ndarray | None = None,
    how: How | None = None,
) -> Judge:
    """A function of doses and durations, (lane,) each: the valley of each, whether it settled there, whether it could
    be solved."""
    cycles = attractors.cycles if isinstance(attractors, Attractors) else ()
    points = program.attractors.shape[0]
    how = how_to_solve(program, longest + settle, members) if how is None else how

    def judge(doses: np.ndarray, durations: np.ndarray) -> Judged:
        lanes = lanes_of(doses, durations, settle)
        found = sweep(program, *lanes, batch_size, members=members, which=which, how=how)
        _, final, nearest, gap, outcome = found
        valley = settled_in(nearest, gap, final, outcome, threshold, points, cycles)
        return np.where(valley >= 0, valley, nearest), valley >= 0, outcome == Outcome.DONE

    return judge


def bracketed(
    where: Callable[[np.ndarray], Judged], low: np.ndarray, high: np.ndarray, tolerance: float, label: str | None = None
) -> Brackets:
    """Bisection of every lane between two ends, which may lie either way round, until they are `tolerance` apart."""
    before, sure_low, ok = where(low)
    after, sure_high, ok_high = where(high)
    settled, ok, same = sure_low & sure_high, ok & ok_high, before == after
    width = float(np.abs(high - low).max(initial=0.0))
    steps = max(math.ceil(math.log2(width / tolerance)), 0) if width > 0 else 0
    for _ in tqdm(range(steps), desc=label, unit="step", disable=None if label else True):
        middle = 0.5 * (low + high)
        valley, sure, solved = where(middle)
        left = valley != before
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        sure_low, sure_high = np.where(left, sure_low, sure), np.where(left, sure, sure_high)
        after = np.where(left, valley, after)
        ok = ok & solved
    code = np.where(sure_low & sure_high, Switch.FOUND, Switch.UNDECIDED)
    code = np.where(~settled, Switch.NOT_SETTLED, np.where(same, Switch.NEVER, code))
    return Brackets(low, high, before, after, np.where(ok, code, Switch.FAILED))


def from_unstable(program: Program, found: Brackets) -> Brackets:
    """What was found, refused where the start itself is at rest and not stable."""
    if resting(program.kinetics, program.background, np.asarray(program.state)) not in ("saddle", "unstable"):
        return found
    return dataclasses.replace(found, code=np.full_like(found.code, Switch.UNSTABLE_START))


def notes_of(found: Brackets, notes: dict[Switch, str]) -> tuple[str, ...]:
    """Why there is no number, "" where there is one; `notes`: in words of their own."""
    codes = [Switch(int(code)) for code in found.code]
    return tuple("" if code == Switch.FOUND else notes.get(code, code.sentence) for code in codes)


def require_tolerance(tolerance: float | int) -> None:
    """Raises `E_USAGE` for what is no width."""
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise PinnsimError.of("E_USAGE", f"Argument `tolerance` must be finite and > 0, but is {tolerance}.")
