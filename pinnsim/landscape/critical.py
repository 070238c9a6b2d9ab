"""The critical duration of a push: the shortest one after which the cell does not come back, for every dose at once.

Bisection of the duration between a push that returns and one that leaves, all doses as lanes of the program that `push`
uses, so that it compiles once. For `x' = x - x^3 + h` from -1 the answer is the quadrature
`T_c(h) = int_{-1}^{0} dx / (x - x^3 + h)`, which the tests compare with.
"""

import dataclasses
import math

import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of
from pinnsim.landscape.push import known_points, lanes_of, program_of, sweep
from pinnsim.model import CellModel
from pinnsim.simulate import ODE, Outcome
from pinnsim.treatment import NONE, Treatment


@dataclasses.dataclass(frozen=True)
class CriticalDuration:
    """The shortest push that the cell does not come back from, per dose.

    **Arguments:** `doses`, `duration`: (dose,), the middle of the last bracket; `bracket`: (dose, 2), the longest push
    seen to return and the shortest seen to leave; `note`: "" or why there is none ("returns after the longest push",
    "failed"), where `duration` is NaN.
    """

    doses: np.ndarray
    duration: np.ndarray
    bracket: np.ndarray
    note: tuple[str, ...]
    time_unit: str


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
    method: ODE | None = None,
    batch_size: int = 64,
) -> CriticalDuration:
    """The critical duration of each dose; a push "leaves" when the cell ends nearest to another attractor.

    **Arguments:** as for `push`; `longest`: the longest push tried; `tolerance`: width of the last bracket, same unit.
    One threshold per dose is assumed (longer pushes leave, shorter ones return), as holds where the push works against
    one saddle; a push that goes round and comes back breaks it, and `push` on a grid shows that.
    """
    kinetics = kinetics_of(model)
    points, _ = known_points(attractors, kinetics)
    program = program_of(kinetics, state, template, background, points, method)
    dose, _, _ = lanes_of(doses, longest, settle)

    def ends(durations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        *_, nearest, _, outcome = sweep(program, *lanes_of(dose, durations, settle), batch_size)
        return nearest, outcome == Outcome.DONE

    low, high = np.zeros_like(dose), np.full_like(dose, longest)
    home, ok = ends(low)
    away, ok_long = ends(high)
    ok = ok & ok_long
    for _ in range(max(math.ceil(math.log2(longest / tolerance)), 0)):
        middle = 0.5 * (low + high)
        nearest, solved = ends(middle)
        left = nearest != home
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        ok = ok & solved
    found = ok & (away != home)
    note = tuple(
        "" if f else "returns after the longest push" if k else "failed" for f, k in zip(found, ok, strict=True)
    )
    middle = np.where(found, 0.5 * (low + high), np.nan)
    bracket = np.where(found[:, None], np.stack([low, high], axis=1), np.nan)
    return CriticalDuration(dose, middle, bracket, note, kinetics.time_unit)
