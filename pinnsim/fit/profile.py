"""Profile likelihood: how far may one rate move, when all others follow?

    profile_i(c) = min { cost(theta) : theta_i = c } - min cost

A rate is identified where the profile rises on both sides by half the chi-square quantile (1.92 nats for 95 %); the two
crossings are its interval, which, unlike that of a normal posterior, may be lopsided. Where the profile stays flat, the
rate is not identified, and the open side is said. By default the profiled rate's own prior is kept; without it the
profile shows what the data alone say of it, given what is expected of the others.

Every (rate, value) is a lane of one program. A lane starts at the conditional mean of the normal posterior (`Laplace`)
and walks in its coordinates, where the cost is nearly |z|^2 / 2, by BFGS on the plane theta_i = c:

    theta_i - m_i = a . z,    z = w - a (a . w - (c - m_i)) / |a|^2,    w free.

Rounds double the reach of the sides that have not crossed yet, from where the last round ended.

Sources: A. Raue et al., Bioinformatics 25:1923 (2009); J. Nocedal and S. Wright, Numerical Optimization (2006), BFGS.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pandas as pd
from jaxtyping import Array, Bool, Float, Int
from scipy.stats import chi2
from tqdm import tqdm

from pinnsim.errors import Problems, did_you_mean
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.free import Vector
from pinnsim.fit.laplace import Laplace, laplace
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.target import Predict, Target, White, target, white
from pinnsim.model import CellModel, ModelPrior
from pinnsim.shapes import Scalar

IDENTIFIED, OPEN = "identified", "not identified"
_MANY = 50  # parameters up to which all are profiled unless they are named
_LANES = 32  # side by side
_FIRST = 1.15  # of the normal posterior's own crossing: how far the first round goes
_WIDEST = 1.0  # unconstrained units that the first round goes at the most
_STEPS = 100  # of BFGS, at the most
_TOLERANCE = 1e-4  # of the cost in nats, and of coordinates in posterior widths


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of some parameters.

    **Arguments:** `curves`: a row per (parameter, value): `parameter`, `unit`, `value` (as equations see it), `raw`
    (unconstrained), `rise` (nats above the lowest cost; NaN where a culture could not be solved); `table`: a row per
    parameter: `parameter`, `unit`, `estimate`, `lo`, `hi` (NaN on an open side), `verdict` (`identified` or
    `not identified`), `open` (`""`, `below`, `above` or `both`); `level`, `threshold`: of the interval, in nats.
    """

    curves: pd.DataFrame
    table: pd.DataFrame
    level: float
    threshold: float


class _Lane(NamedTuple):
    """One constrained minimisation: which number is held and at what, unless it is free; whether its prior counts;
    where the walk starts."""

    number: Int[Array, ""]
    value: Scalar
    held: Bool[Array, ""]
    with_prior: Bool[Array, ""]
    start: Vector


class _Found(NamedTuple):
    """Where a walk ended, its unconstrained numbers, cost and cultures that failed: of one lane on the device, of all
    lanes on the host."""

    z: Any
    vector: Any
    cost: Any
    failed: Any


def profile(
    model: CellModel,
    prior: ModelPrior,
    data: Cultures,
    plan: FitPlan,
    parameters: Sequence[str] | None = None,
    *,
    posterior: Laplace | None = None,
    level: float = 0.95,
    with_prior: bool = True,
    points: int = 6,
    reach: float = 10.0,
    predict: Predict | None = None,
    progress: bool = True,
) -> Profiles:
    """Profiles of named parameters, with intervals.

    **Arguments:** `model`, `prior`, `data`, `plan`, `predict`: as for `laplace`; `parameters`: names as in
    `rate_table` (`decay:gapB`), by default all of a model of up to 50; `posterior`: `laplace(...)` of this model, where
    it is at hand; `with_prior`: whether the profiled parameter's own prior counts; `points`: per side and round;
    `reach`: how far from the estimate to look, in unconstrained units (10: a factor of 22,000 for a positive rate).

    Good values: 6 points; `with_prior=False` to ask what the data alone identify.

    **Raises** `E_USAGE` for unknown names and impossible numbers, `E_FIT` where nothing is free or solvable.

    Source: A. Raue et al., Bioinformatics 25:1923 (2009), equation 8.
    """
    aim = target(model, prior, data, plan, predict)
    chosen = _chosen(aim, parameters, level, points, reach)
    told = posterior or laplace(model, prior, data, plan, predict=predict, progress=progress)
    walk = partial(_walk, aim, white(told), with_prior)
    threshold = 0.5 * float(chi2.ppf(level, 1))
    with tqdm(desc="profiles", unit="value", disable=None if progress else True) as bar:
        base = walk(bar, chosen, told.estimate[chosen], np.zeros((len(chosen), len(told.estimate))), held=False)
        sides = [_Side(k, int(n), sign) for k, n in enumerate(chosen) for sign in (-1, 1)]
        sd = _own_width(told, aim, chosen, with_prior)
        step = np.minimum(_FIRST * np.sqrt(2.0 * threshold) * sd, _WIDEST)
        center = np.array([vector[n] for vector, n in zip(base.vector, chosen, strict=True)])
        going = sides
        while going:
            fractions = np.arange(1, points + 1) / points
            ahead = [
                center[s.k] + s.sign * np.minimum(s.done + fractions * max(step[s.k], s.done), reach) for s in going
            ]
            starts = [base.z[s.k] if s.last is None else s.last for s in going]
            found = walk(
                bar,
                np.repeat([s.number for s in going], points),
                np.concatenate(ahead),
                np.repeat(starts, points, axis=0),
                held=True,
            )
            for k, side in enumerate(going):
                part = _Found(*(leaf[k * points : (k + 1) * points] for leaf in found))
                side.note(ahead[k], part, abs(ahead[k][-1] - center[side.k]))
            going = [s for s in going if s.open(base.cost[s.k] + threshold) and s.done < reach * (1 - 1e-9)]
    return _collected(aim, chosen, center, base, sides, level, threshold)


@dataclasses.dataclass
class _Side:
    """One direction of one profile: what was found so far, nearest first."""

    k: int
    number: int
    sign: int
    raw: list[float] = dataclasses.field(default_factory=list)
    cost: list[float] = dataclasses.field(default_factory=list)
    done: float = 0.0
    last: np.ndarray | None = None

    def note(self, raw: np.ndarray, found: _Found, done: float) -> None:
        self.raw += raw.tolist()
        self.cost += np.where(found.failed > 0, np.nan, found.cost).tolist()
        self.done, self.last = done, found.z[-1]

    def open(self, bar: float) -> bool:
        """Whether it may still cross: a stretch that cannot be solved ends it."""
        return not (np.array(self.cost) > bar).any() and bool(np.isfinite(self.cost).all())


def _chosen(aim: Target, parameters: Sequence[str] | None, level: float, points: int, reach: float) -> np.ndarray:
    names = aim.free.names
    with Problems() as problems:
        if not 0 < level < 1:
            problems.add("E_USAGE", f"Argument `level` must be between 0 and 1, but is {level:g}.")
        if points < 2 or reach <= 0:
            problems.add(
                "E_USAGE", f"A profile needs 2 or more points and a reach > 0, but got {points} and {reach:g}."
            )
        if parameters is None and len(names) > _MANY:
            problems.add(
                "E_USAGE",
                f"The model has {len(names)} free parameters; name those to be profiled, for example "
                f"parameters=['{names[0]}'].",
            )
        for name in parameters or ():
            if name not in names:
                problems.add("E_USAGE", f"No free parameter is called '{name}'{did_you_mean(name, names)}.")
        if parameters is not None and not parameters:
            problems.add("E_USAGE", "Argument `parameters` is empty; name one parameter at the least.")
    return np.arange(len(names)) if parameters is None else np.array([names.index(name) for name in parameters])


def _own_width(told: Laplace, aim: Target, chosen: np.ndarray, with_prior: bool) -> np.ndarray:
    """Posterior width of each chosen parameter, with or without its own prior: precisions subtract."""
    precision = told.sd[chosen] ** -2.0
    if not with_prior:
        precision = precision - np.asarray(aim.free.spread)[chosen] ** -2.0
    return np.maximum(precision, 1e-12) ** -0.5


def _walk(
    aim: Target,
    coordinates: White,
    with_prior: bool,
    bar: tqdm,
    numbers: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    *,
    held: bool,
) -> _Found:
    """All lanes, `_LANES` at a time: what fills the last batch up is computed twice, so that one program serves."""
    count, parts = len(numbers), []
    kind = coordinates.center.dtype
    for first in range(0, count, _LANES):
        rows = np.resize(np.arange(first, min(first + _LANES, count)), _LANES)
        lanes = _Lane(
            jnp.asarray(numbers[rows]),
            jnp.asarray(values[rows], kind),
            jnp.full(_LANES, held),
            jnp.full(_LANES, with_prior),
            jnp.asarray(starts[rows], kind),
        )
        found = _minimised(aim, coordinates, lanes)
        kept = min(_LANES, count - first)
        parts.append([np.asarray(leaf)[:kept] for leaf in found])
        bar.update(kept)
    return _Found(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


@eqx.filter_jit
def _minimised(aim: Target, coordinates: White, lanes: _Lane) -> _Found:
    """Every lane's constrained minimum."""

    def one(lane: _Lane) -> _Found:
        row = coordinates.row(lane.number)
        shift = lane.value - coordinates.center[lane.number]

        def on_plane(w: Vector) -> Vector:
            return jnp.where(lane.held, w - row * ((row @ w - shift) / (row @ row)), w)

        def cost(w: Vector) -> tuple[Scalar, _Found]:
            z = on_plane(w)
            vector = coordinates.vector(z)
            found = aim(vector)
            spread = aim.free.spread[lane.number]
            own = 0.5 * ((vector[lane.number] - aim.free.center[lane.number]) / spread) ** 2
            total = found.total - jnp.where(lane.with_prior, 0.0, own)
            # What is not a number stops no walk elsewhere: it is only worse than anything.
            total = jnp.where(jnp.isfinite(total), total, jnp.finfo(total.dtype).max ** 0.25)
            return total, _Found(z, vector, total, found.failed)

        done = optx.minimise(
            lambda w, _: cost(w),
            optx.BFGS(_TOLERANCE, _TOLERANCE),
            on_plane(lane.start),
            has_aux=True,
            max_steps=_STEPS,
            throw=False,
        )
        return done.aux

    return jax.vmap(one)(lanes)


def _collected(
    aim: Target,
    chosen: np.ndarray,
    center: np.ndarray,
    base: _Found,
    sides: list[_Side],
    level: float,
    threshold: float,
) -> Profiles:
    """Curves above the lowest cost of each profile, and where they cross the threshold."""
    curves, rows = [], []
    for k, number in enumerate(chosen):
        below, above = (s for s in sides if s.k == k)
        raw = np.array([*below.raw[::-1], center[k], *above.raw])
        cost = np.array([*below.cost[::-1], float(base.cost[k]), *above.cost])
        low = int(np.nanargmin(cost))
        rise = cost - cost[low]
        lo = _crossing(raw[low::-1], rise[low::-1], threshold)
        hi = _crossing(raw[low:], rise[low:], threshold)
        name, unit = aim.free.names[number], aim.free.units[number]

        def value(of: Float[np.ndarray, " point"], number: int = number) -> np.ndarray:
            everywhere = jnp.zeros((len(of), len(aim.free.names)), aim.free.center.dtype).at[:, number].set(of)
            return np.asarray(jax.vmap(aim.free.value)(everywhere))[:, number]

        curves.append(pd.DataFrame({"parameter": name, "unit": unit, "value": value(raw), "raw": raw, "rise": rise}))
        estimate, lower, upper = value(np.array([raw[low], lo, hi]))
        side = {(False, False): "", (True, False): "below", (False, True): "above", (True, True): "both"}
        is_open = side[bool(np.isnan(lo)), bool(np.isnan(hi))]
        verdict = OPEN if is_open else IDENTIFIED
        rows.append((name, unit, estimate, lower, upper, verdict, is_open))
    columns = ["parameter", "unit", "estimate", "lo", "hi", "verdict", "open"]
    return Profiles(pd.concat(curves, ignore_index=True), pd.DataFrame(rows, columns=columns), level, threshold)


def _crossing(raw: np.ndarray, rise: np.ndarray, threshold: float) -> float:
    """Where a profile, from its lowest point outward, first exceeds the threshold; NaN where it does not. Square roots
    are interpolated, which for a parabola is exact."""
    over = np.flatnonzero(rise > threshold)
    if not over.size or np.isnan(rise[: over[0]]).any():
        return float("nan")
    after = over[0]
    ends = np.sqrt(np.maximum(rise[[after - 1, after]], 0.0))
    share = (np.sqrt(threshold) - ends[0]) / (ends[1] - ends[0])
    return float(raw[after - 1] + share * (raw[after] - raw[after - 1]))
