"""The dose x duration map: in which valley a pushed cell settles, where the border runs, and how sure that is.

All cells of the map are lanes of the one program that `push` uses, so a cell of the map and a single push agree. Then

- cells that settled nowhere are followed on, and told apart (`Verdict`);
- between any two neighbours in different valleys, along either axis, the border is bisected to a stated tolerance: all
  crossings are lanes of the same program, and nothing assumes that there is one per dose;
- with a noise law, every cell of the map gets probabilities with intervals (`fate_probabilities`).
"""

import dataclasses

import numpy as np
import pandas as pd
import xarray as xr

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of
from pinnsim.landscape.critical import Judge, Judged, Switch, bracketed, judge_of, require_tolerance
from pinnsim.landscape.fates import Fates, fate_probabilities
from pinnsim.landscape.push import grid, known_points, program_of, push
from pinnsim.landscape.verdict import Verdict, first_verdicts, followed, resting
from pinnsim.model import CellModel
from pinnsim.simulate import ODE, AbstractSampler
from pinnsim.simulate.sampler import Key
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class Border:
    """Where one valley's cells end and another's begin, one entry per crossing, (crossing,) each.

    **Arguments:** `dose`, `duration`: the middle of the last bracket; `along`: the axis it was bisected along, "dose"
    or "duration"; `width`: of that bracket; `before`, `after`: the valleys at its ends; `code`: see `Switch`: `FOUND`
    where both ends were seen to settle.
    """

    __repr__ = brief

    dose: np.ndarray
    duration: np.ndarray
    along: np.ndarray
    width: np.ndarray
    before: np.ndarray
    after: np.ndarray
    code: np.ndarray

    def __len__(self) -> int:
        return len(self.dose)

    def durations(self, doses: Numbers) -> np.ndarray:
        """The critical duration of each dose, (dose,): the first crossing along its column, NaN where there is none."""
        ours = (self.along == "duration") & (self.code == Switch.FOUND)
        at = [self.duration[ours & (self.dose == dose)] for dose in np.atleast_1d(np.asarray(doses, dtype=float))]
        return np.array([found.min() if found.size else np.nan for found in at])


@dataclasses.dataclass(frozen=True)
class FateMap:
    """What becomes of a cell pushed with every dose for every duration.

    **Arguments:** `doses`: (dose,); `durations`: (duration,); `valley`: (dose, duration), position in `names`, -1 where
    it settled in none; `verdict`: (dose, duration), see `Verdict`; `distance`: to the nearest attractor; `final`:
    (dose, duration, species); `border`: crossings; `start`: what is wrong with the start, if anything; `fates`:
    probabilities under noise (lanes in the map's order), or `None`; `template`: the push at dose 1, as text.
    """

    __repr__ = brief

    doses: np.ndarray
    durations: np.ndarray
    valley: np.ndarray
    verdict: np.ndarray
    distance: np.ndarray
    final: np.ndarray
    border: Border
    start: Verdict
    fates: Fates | None
    names: tuple[str, ...]
    species: tuple[str, ...]
    template: str
    settle: float
    time_unit: str

    @property
    def probability(self) -> np.ndarray | None:
        """(dose, duration, valley), `None` without noise."""
        return None if self.fates is None else self._cells(self.fates.probability)

    @property
    def interval(self) -> np.ndarray | None:
        """(dose, duration, valley, 2), lowest and highest probability, `None` without noise."""
        return None if self.fates is None else self._cells(self.fates.interval())

    def critical(self) -> tuple[np.ndarray, np.ndarray]:
        """Doses and their critical durations, (dose,) each, NaN where there is none: what pictures draw."""
        return self.doses, self.border.durations(self.doses)

    def table(self) -> pd.DataFrame:
        """One row per cell: dose, duration, valley ("none" where there is none), distance, what became of it, and with
        noise the probability of every valley with its interval."""
        dose, duration = grid(self.doses, self.durations)
        columns: dict[str, object] = {
            "dose": dose,
            f"duration ({self.time_unit})": duration,
            "valley": [self.names[v] if v >= 0 else "none" for v in self.valley.ravel()],
            "distance": self.distance.ravel(),
            "verdict": [Verdict(int(code)).sentence for code in self.verdict.ravel()],
        }
        if self.fates is not None:
            chance, reach = self.fates.probability, self.fates.interval()
            for k, name in enumerate(self.names):
                columns |= {f"P({name})": chance[:, k], f"P({name}) low": reach[:, k, 0]}
                columns |= {f"P({name}) high": reach[:, k, 1]}
            columns |= {"runs": self.fates.total, "undecided": self.fates.undecided.sum(axis=0)}
            columns |= {"failed": self.fates.failed.sum(axis=0)}
        return pd.DataFrame(columns)

    def describe(self) -> str:
        """One plain sentence: how many cells settled where, what did not settle, and what is wrong with the start."""
        total = self.valley.size
        parts = [f"{int((self.valley == k).sum())} in {name}" for k, name in enumerate(self.names)]
        text = f"{total} pushes ({self.template}): " + ", ".join(parts)
        for code in Verdict:
            count = int((self.verdict == code).sum())
            if count and code != Verdict.SETTLED:
                text += f"; {count} {code.sentence}"
        if self.start != Verdict.SETTLED:
            text += f"; the unpushed cell {self.start.sentence}"
        return text + "."

    def to_xarray(self) -> xr.Dataset:
        """Everything with named dimensions `dose`, `duration`, `valley` and `crossing`, and units."""
        unit = {"units": self.time_unit}
        cells = ("dose", "duration")
        meaning = {"meaning": "; ".join(f"{code.value} {code.sentence}" for code in Verdict)}
        border = self.border
        variables: dict[str, tuple] = {
            "settles_in": (cells, self.valley, {"meaning": "position along `valley`, -1 for none"}),
            "verdict": (cells, self.verdict, meaning),
            "distance": (cells, self.distance, {"units": "log abundance, root mean square"}),
            "final": ((*cells, "species"), self.final, {"units": "relative abundance"}),
            "border_dose": (("crossing",), border.dose),
            "border_duration": (("crossing",), border.duration, unit),
            "border_along": (("crossing",), border.along),
            "border_width": (("crossing",), border.width),
            "border_code": (("crossing",), border.code),
        }
        if self.fates is not None:
            reach = self._cells(self.fates.interval())
            variables |= {
                "probability": ((*cells, "valley"), self._cells(self.fates.probability)),
                "probability_low": ((*cells, "valley"), reach[..., 0]),
                "probability_high": ((*cells, "valley"), reach[..., 1]),
                "undecided_runs": (cells, self._cells(self.fates.undecided.sum(axis=0))),
                "failed_runs": (cells, self._cells(self.fates.failed.sum(axis=0))),
            }
        coords = {
            "dose": self.doses,
            "duration": ("duration", self.durations, unit),
            "valley": list(self.names),
            "species": list(self.species),
        }
        notes = {"push": self.template, "settle": self.settle, "start": self.start.sentence}
        if self.fates is not None:
            notes |= {"noise": self.fates.noise, "runs": self.fates.total, "level": self.fates.level}
        return xr.Dataset(variables, coords, notes)

    def _cells(self, lanes: np.ndarray) -> np.ndarray:
        return lanes.reshape(len(self.doses), len(self.durations), *lanes.shape[1:])


def fate_map(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    template: Treatment | str,
    doses: Numbers,
    durations: Numbers,
    attractors: Attractors | Numbers,
    *,
    settle: float | int,
    background: Treatment | str = NONE,
    threshold: float | int = 0.1,
    tolerance: float | int | None = 1e-3,
    noise: AbstractSampler | None = None,
    key: Key | None = None,
    runs: int = 100,
    noisy_settle: float | int | None = None,
    level: float = 0.95,
    method: ODE | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> FateMap:
    """The map of all doses with all durations.

    **Arguments:** as for `push`, but `doses`: (dose,) and `durations`: (duration,), each increasing, and `settle` one
    number; `tolerance`: width of the border's last brackets, as a share of the largest dose or duration (`None`: the
    border is not refined); `noise`, `key`, `runs`, `noisy_settle` (default `settle`), `level`: with a noise law, see
    `fate_probabilities`.

    **Returns** a `FateMap`. **Raises** as `push`, and `E_USAGE` for axes that do not increase, a tolerance that is not
    positive, or noise without a key.
    """
    x, y = axes_of(doses, durations)
    if tolerance is not None:
        require_tolerance(tolerance)
    if noise is not None and key is None:
        raise PinnsimError.of("E_USAGE", "Noisy cells need random numbers: give key=jax.random.key(0), or another.")
    lanes = grid(x, y)
    kinetics = kinetics_of(model)
    points, _ = known_points(attractors, kinetics)
    pushed = push(
        model, state, template, *lanes, attractors, settle=settle, background=background, threshold=threshold,
        method=method, batch_size=batch_size, progress=progress,
    )  # fmt: skip
    program = program_of(kinetics, state, template, background, points, method)
    verdict = followed(program, first_verdicts(pushed.valley, pushed.outcome), pushed.final, float(settle))
    shape = (len(x), len(y))
    valley = pushed.valley.reshape(shape)
    judge = judge_of(program, attractors, float(settle), float(y[-1]), threshold, batch_size)
    border = _border(judge, x, y, valley, tolerance, "border" if progress else None)
    unstable = resting(kinetics, program.background, np.asarray(program.state)) in ("saddle", "unstable")
    fates = None
    if noise is not None and key is not None:
        fates = fate_probabilities(
            model, state, template, *lanes, attractors, noise=noise, key=key,
            settle=settle if noisy_settle is None else noisy_settle, quench=settle, runs=runs, level=level,
            background=background, threshold=threshold, method=method, batch_size=batch_size, progress=progress,
        )  # fmt: skip
    return FateMap(
        doses=x,
        durations=y,
        valley=valley,
        verdict=verdict.reshape(shape),
        distance=pushed.distance.reshape(shape),
        final=pushed.final.reshape(*shape, -1),
        border=border,
        start=Verdict.UNSTABLE_START if unstable else Verdict.SETTLED,
        fates=fates,
        names=pushed.names,
        species=kinetics.table.species,
        template=str(template),
        settle=float(settle),
        time_unit=kinetics.time_unit,
    )


def axes_of(doses: Numbers, durations: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Both axes of a map. Raises `E_USAGE` unless each is one-dimensional and increasing."""
    axes = {"doses": np.asarray(doses, dtype=float), "durations": np.asarray(durations, dtype=float)}
    with Problems() as problems:
        for name, axis in axes.items():
            if axis.ndim != 1 or not axis.size or not (np.diff(axis) > 0).all():
                problems.add("E_USAGE", f"Argument `{name}` must be increasing numbers in one dimension; sort them.")
    return axes["doses"], axes["durations"]


def _border(
    judge: Judge,
    x: np.ndarray,
    y: np.ndarray,
    valley: np.ndarray,
    tolerance: float | int | None,
    label: str | None,
) -> Border:
    """All crossings between neighbours in different valleys, bisected; without tolerance as coarse as the map."""
    settled = valley >= 0
    along_y = np.argwhere((valley[:, 1:] != valley[:, :-1]) & settled[:, 1:] & settled[:, :-1])
    along_x = np.argwhere((valley[1:] != valley[:-1]) & settled[1:] & settled[:-1])
    i, j = np.concatenate([along_y, along_x]).T.astype(int)
    up = np.arange(len(i)) < len(along_y)
    low = np.stack([x[i], y[j]])
    high = np.stack([x[i + ~up], y[j + up]])
    span = np.where(up, y[-1], x[-1])
    # Bisection in shares of each axis, so that one tolerance serves both.
    share_low, share_high = (np.where(up, ends[1], ends[0]) / span for ends in (low, high))

    def where(share: np.ndarray) -> Judged:
        return judge(np.where(up, low[0], share * span), np.where(up, share * span, low[1]))

    if tolerance is None or not len(i):
        before, after = valley[i, j], valley[i + ~up, j + up]
        code = np.full(len(i), Switch.FOUND)
    else:
        found = bracketed(where, share_low, share_high, float(tolerance), label)
        share_low, share_high = found.low, found.high
        before, after, code = found.before, found.after, found.code
    middle = 0.5 * (share_low + share_high) * span
    return Border(
        dose=np.where(up, low[0], middle),
        duration=np.where(up, middle, low[1]),
        along=np.where(up, "duration", "dose"),
        width=(share_high - share_low) * span,
        before=before,
        after=after,
        code=code,
    )
