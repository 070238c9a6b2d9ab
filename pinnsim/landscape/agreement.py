"""Do the members of an ensemble agree on what a push does? The dose x duration map of every one, in one program.

Each member starts and settles in its own landscape (`pinnsim.landscape.members`): its verdict is the valley of the
reference that its own valley continues, so that members whose attractors moved still compare, and members that lost an
attractor are told, not hidden. Per cell of the map,

    agreement = members that settle where the reference does / all members,

where whoever fails, keeps moving, or has no valley to start in does not agree. Each member's own critical durations are
bisected as lanes of the same program.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of, require_states
from pinnsim.landscape.critical import bracketed, judge_of, require_tolerance
from pinnsim.landscape.fate_map import axes_of
from pinnsim.landscape.members import MemberValleys, Models, member_valleys, stacked
from pinnsim.landscape.push import NOWHERE, Members, grid, how_to_solve, known_points, lanes_of, program_of, sweep
from pinnsim.landscape.verdict import Verdict, first_verdicts, followed
from pinnsim.model import CellModel
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class EnsembleMap:
    """What members make of every dose and duration.

    **Arguments:** `doses`: (dose,); `durations`: (duration,); `valley`: (member, dose, duration), position in `names`,
    -1 for none; `verdict`: (member, dose, duration), see `Verdict`; `reference`: (dose, duration), the reference's
    valleys; `critical`: (member, dose), each member's own critical duration, NaN where there is none; `code`: (member,
    dose), see `Switch`; `reference_critical`: (dose,); `valleys`: of the members.
    """

    __repr__ = brief

    doses: np.ndarray
    durations: np.ndarray
    valley: np.ndarray
    verdict: np.ndarray
    reference: np.ndarray
    critical: np.ndarray
    code: np.ndarray
    reference_critical: np.ndarray
    valleys: MemberValleys
    names: tuple[str, ...]
    template: str
    time_unit: str

    @property
    def agreement(self) -> np.ndarray:
        """(dose, duration), share of members that settle where the reference does."""
        return ((self.valley == self.reference) & (self.valley >= 0)).mean(axis=0)

    @property
    def share(self) -> np.ndarray:
        """(dose, duration, valley), share of members that settle in each valley."""
        return np.stack([(self.valley == k).mean(axis=0) for k in range(len(self.names))], axis=-1)

    def critical_interval(self, level: float = 0.9) -> np.ndarray:
        """(dose, 2), between which the middle `level` of all members switch; NaN where the member at that end has no
        critical duration (it never switches, or does not settle)."""
        tail = 0.5 * (1.0 - level)
        filled = np.where(np.isfinite(self.critical), self.critical, np.inf)
        ends = np.quantile(filled, [tail, 1.0 - tail], axis=0, method="inverted_cdf").T
        return np.where(np.isfinite(ends), ends, np.nan)

    def table(self) -> pd.DataFrame:
        """One row per cell: the reference's valley, the agreement, and the share of members in each valley."""
        dose, duration = grid(self.doses, self.durations)
        shares = {f"share in {name}": self.share[..., k].ravel() for k, name in enumerate(self.names)}
        return pd.DataFrame(
            {
                "dose": dose,
                f"duration ({self.time_unit})": duration,
                "reference": [self.names[v] if v >= 0 else "none" for v in self.reference.ravel()],
                "agreement": self.agreement.ravel(),
                **shares,
                "members not settled": (self.verdict != Verdict.SETTLED).sum(axis=0).ravel(),
            }
        )

    def describe(self) -> str:
        """One plain sentence: how far members agree, and which of them differ in their valleys."""
        least = float(self.agreement.min(initial=1.0))
        whole = float((self.agreement == 1).mean())
        text = (
            f"All {len(self.valley)} members agree on {whole:.0%} of the map, {least:.0%} of them on its least cell. "
        )
        text += self.valleys.describe()
        for code in Verdict:
            count = int((self.verdict == code).any(axis=(1, 2)).sum())
            if count and code != Verdict.SETTLED:
                text += f" Of {count} members some push {code.sentence}."
        return text

    def to_xarray(self) -> xr.Dataset:
        """Everything with named dimensions `member`, `dose`, `duration`, `valley`, and units."""
        unit, cells = {"units": self.time_unit}, ("dose", "duration")
        meaning = {"meaning": "; ".join(f"{code.value} {code.sentence}" for code in Verdict)}
        return xr.Dataset(
            {
                "settles_in": (("member", *cells), self.valley, {"meaning": "position along `valley`, -1 for none"}),
                "verdict": (("member", *cells), self.verdict, meaning),
                "reference": (cells, self.reference),
                "agreement": (cells, self.agreement),
                "critical_duration": (("member", "dose"), self.critical, unit),
                "reference_critical_duration": (("dose",), self.reference_critical, unit),
                "kept": (("member", "valley"), self.valleys.kind),
            },
            {
                "member": np.arange(len(self.valley)),
                "dose": self.doses,
                "duration": ("duration", self.durations, unit),
                "valley": list(self.names),
            },
            {"push": self.template},
        )


def ensemble_map(
    model: CellModel | AbstractKinetics,
    members: Models,
    state: Numbers | str,
    template: Treatment | str,
    doses: Numbers,
    durations: Numbers,
    attractors: Attractors | Numbers,
    *,
    settle: float | int,
    longest: float | int | None = None,
    background: Treatment | str = NONE,
    threshold: float | int = 0.1,
    tolerance: float | int = 1e-3,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> EnsembleMap:
    """The map of every member, and how far they agree with the reference.

    **Arguments:** as for `fate_map`; `model`: the reference, whose `attractors` name the valleys; `members`: a model
    whose arrays have a leading member axis (`Draws.sample`), or a list of models; `state`: (species,) for all,
    (member, species), or the name of an attractor, in whose copy of its own every member starts; `longest`: the longest
    push tried for critical durations (default: the longest of `durations`); `tolerance`: their last bracket's width, in
    the model's time unit.

    **Returns** an `EnsembleMap`. **Raises** as `fate_map`, and `E_USAGE` for members of other equations or an unknown
    name.
    """
    x, y = axes_of(doses, durations)
    require_tolerance(tolerance)
    kinetics = kinetics_of(model)
    points, names = known_points(attractors, kinetics)
    if not np.isfinite(points).all():
        raise PinnsimError.of("E_USAGE", "Members are compared by their stable points, but there are only cycles.")
    every = stacked(kinetics, members)
    program = program_of(kinetics, points[0], template, background, points, method)
    # Number 0 is the reference.
    own = member_valleys(every, program.background, points, names)
    begin = _starts(state, own, kinetics)
    missing = ~np.isfinite(begin).all(axis=1)
    group = Members(every, jnp.asarray(begin), jnp.asarray(own.states))
    count, cells = len(begin), len(x) * len(y)
    which = np.repeat(np.arange(count), cells)
    dose, duration = (np.tile(axis, count) for axis in grid(x, y))
    lanes = lanes_of(dose, duration, settle)
    reach = float(y[-1] if longest is None else longest)
    how = how_to_solve(program, max(reach, float(y[-1])) + float(settle), group)
    label = "members" if progress else None
    _, final, nearest, gap, outcome = sweep(
        program, *lanes, batch_size, members=group, which=which, how=how, label=label
    )
    valley = np.where(gap <= threshold, nearest, NOWHERE)
    verdict = first_verdicts(valley, outcome)
    for member in np.unique(which[(verdict == Verdict.MOVING) & ~missing[which]]):
        mine = which == member
        single = group.of(program, jnp.asarray(member))
        verdict[mine] = followed(single, verdict[mine], final[mine], float(settle))
    verdict = np.where(missing[which], Verdict.NO_START, verdict)
    numbers, dose = np.repeat(np.arange(count), len(x)), np.tile(x, count)
    judge = judge_of(program, points, float(settle), reach, threshold, batch_size, group, numbers, how)
    label = "critical durations" if progress else None
    switch = bracketed(
        lambda t: judge(dose, t), np.zeros(len(dose)), np.full(len(dose), reach), float(tolerance), label
    )
    critical, code = switch.middle.reshape(count, -1), switch.code.reshape(count, -1)
    shape = (count, len(x), len(y))
    valley, verdict = valley.reshape(shape), verdict.reshape(shape)
    return EnsembleMap(
        doses=x,
        durations=y,
        valley=valley[1:],
        verdict=verdict[1:],
        reference=valley[0],
        critical=critical[1:],
        code=code[1:],
        reference_critical=critical[0],
        valleys=MemberValleys(own.states[1:], own.kind[1:], names),
        names=names,
        template=str(template),
        time_unit=kinetics.time_unit,
    )


def _starts(state: Numbers | str, own: MemberValleys, kinetics: AbstractKinetics) -> np.ndarray:
    """Where the reference and every member start, (member, species), NaN where the valley is lost."""
    count = len(own.kind)
    if isinstance(state, str):
        if state not in own.names:
            near = did_you_mean(state, own.names)
            raise PinnsimError.of("E_USAGE", f"Argument `state` names '{state}', which is no stable point{near}.")
        return own.states[:, own.names.index(state)]
    given = np.asarray(state, dtype=float)
    if given.ndim == 1:
        given = np.broadcast_to(given, (count, *given.shape)).copy()
    elif len(given) == count - 1:
        # Of members only: the reference starts as the first of them does.
        given = np.concatenate([given[:1], given])
    else:
        raise PinnsimError.of(
            "E_USAGE",
            f"Argument `state` has {len(given)} rows for {count - 1} members; give one row, one each, or a valley's "
            "name.",
        )
    require_states(given, kinetics, "state")
    return given
