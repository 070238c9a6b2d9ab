"""Fixed points as a knob is turned: branches, and the points on them where something changes.

A branch is followed in both directions by pseudo-arclength (`arclength`), so it turns round its folds; between its
points the program looks for a change of the turning direction (fold), of the sign of `det [f_z; t']` (branch point,
for example a pitchfork) and of the number of unstable complex pairs (Hopf), and each is then solved for exactly
(`bifurcation`). A fold may be followed in two knobs, where its cusps are found.

Source: Yu. A. Kuznetsov, Elements of Applied Bifurcation Theory (2004), chapter 10.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape import bifurcation as at
from pinnsim.landscape.arclength import ENDS, LEFT, STUCK, Box, Steps, trace
from pinnsim.landscape.coordinates import FLOOR, Numbers, floors
from pinnsim.landscape.system import AbstractKnob, System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

TOLERANCE = 1e-11
_POINTS = 400  # in each direction


@dataclasses.dataclass(frozen=True)
class SpecialPoint:
    """A fold, branch point, Hopf point or cusp.

    **Arguments:** `kind`; `values`: (knob,); `state`: (species,); `frequency`: angular, per time unit (Hopf, else 0);
    `coefficient`: of a fold its curvature, of a Hopf point the first Lyapunov coefficient (negative: a stable cycle is
    born), of a branch point the defect of its equations (0); `null`: (free,), direction of the change; `place`: index
    of the branch's point before it.
    """

    kind: str
    values: np.ndarray
    state: np.ndarray
    frequency: float
    coefficient: float
    null: np.ndarray
    place: int

    @property
    def value(self) -> float:
        """The (first) knob's value."""
        return float(self.values[0])


@dataclasses.dataclass(frozen=True)
class Branch:
    """Fixed points along a knob.

    **Arguments:** `values`: (point,); `states`: (point, species); `eigenvalues`: (point, free), largest real part
    first; `index`: (point,), Morse index; `special`: what happens on the way; `ends`: why it ended, backward and
    forward; `system`: what was followed; `tangents`: (point, unknown) and `scale`: (unknown,), for going on.
    """

    __repr__ = brief

    values: np.ndarray
    states: np.ndarray
    eigenvalues: np.ndarray
    index: np.ndarray
    special: tuple[SpecialPoint, ...]
    ends: tuple[str, str]
    system: System
    tangents: np.ndarray
    scale: np.ndarray

    @property
    def stable(self) -> np.ndarray:
        """(point,), true where every eigenvalue has a negative real part."""
        return self.eigenvalues[:, 0].real < 0

    def of_kind(self, kind: str) -> tuple[SpecialPoint, ...]:
        """The special points called "fold", "branch point" or "hopf"."""
        return tuple(point for point in self.special if point.kind == kind)

    def table(self) -> pd.DataFrame:
        """One row per special point."""
        species = self.system.kinetics.table.species
        rows = [
            {"kind": p.kind, "value": p.value, "frequency": p.frequency, "coefficient": p.coefficient}
            | dict(zip(species, p.state, strict=True))
            for p in self.special
        ]
        return pd.DataFrame(rows, columns=["kind", "value", "frequency", "coefficient", *species])


@dataclasses.dataclass(frozen=True)
class FoldCurve:
    """Folds in two knobs. **Arguments:** `values`: (point, 2); `states`: (point, species); `cusps`; `ends`."""

    __repr__ = brief

    values: np.ndarray
    states: np.ndarray
    cusps: tuple[SpecialPoint, ...]
    ends: tuple[str, str]


def continuation(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    knob: AbstractKnob,
    value: float | int,
    span: tuple[float, float],
    treatment: Treatment | Perturbation | str = NONE,
    *,
    points: int = _POINTS,
    step: float | int = 0.05,
) -> Branch:
    """The branch of fixed points through one of them.

    **Arguments:** `state`: (species,), a fixed point, or near one, with the `knob` at `value`; `span`: lowest and
    highest value followed; `treatment`: what acts for ever beside the knob; `points`: most points in each direction;
    `step`: largest step of arc, as a share of the span and of the size of the state.

    Good values: `step` 0.05 for a first look, 0.01 where special points lie close together.

    **Returns** a `Branch`. **Raises** `E_USAGE` (bad span, unknown knob), `E_INIT`, `E_SOLVER` when there is no fixed
    point near `state`.
    """
    _check_span(span, (value,))
    system = system_of(model, treatment, state, (knob,))
    y = np.asarray(system.free(jnp.asarray(state, dtype=float)))
    follower = _Follower(at.PointCondition(system), system, _scale(system, y, (span,)), (span,), points, float(step))
    start = follower.polished(np.append(y, value))
    if start is None:
        raise PinnsimError.of(
            "E_SOLVER", f"There is no fixed point near the given state at {value:g}; give one of find_attractors(...)."
        )
    return _branch(follower, (start, start), follower.knob_direction())


def switch_branch(
    branch: Branch, point: SpecialPoint, span: tuple[float, float] | None = None, points: int = _POINTS,
    step: float | int = 0.05,
) -> Branch:  # fmt: skip
    """The other branch through a branch point, followed in both directions.

    **Raises** `E_USAGE` for a point that is no branch point of this branch.
    """
    if point.kind != "branch point":
        raise PinnsimError.of("E_USAGE", f"A branch can be left at a branch point only, and this is a {point.kind}.")
    system, scale = branch.system, branch.scale
    limits = span or (float(branch.values.min()), float(branch.values.max()))
    follower = _Follower(at.PointCondition(system), system, scale, (limits,), points, float(step))
    z = np.append(np.asarray(system.free(jnp.asarray(point.state))), point.values[0])
    # Two curves cross here: the plane of both tangents less the one that is known.
    whole = follower.derivatives(z[None])[0] * scale[None]
    plane = np.linalg.svd(whole)[2][-2:]
    known = branch.tangents[point.place] / scale
    other = plane.T @ (np.array([[0, -1], [1, 0]]) @ (plane @ known))
    other *= scale / np.linalg.norm(other)
    # The crossing itself is singular: the other curve is entered a fraction of a step beside it, on both sides.
    sides = [z + side * 0.2 * float(step) * other for side in (-1.0, 1.0)]
    ends = [follower.polished(guess, other) for guess in sides]
    begin = tuple(guess if end is None else end for guess, end in zip(sides, ends, strict=True))
    return _branch(follower, (begin[0], begin[1]), other)


def fold_curve(
    branch: Branch,
    point: SpecialPoint,
    knob: AbstractKnob,
    value: float | int,
    spans: tuple[tuple[float, float], tuple[float, float]],
    *,
    points: int = _POINTS,
    step: float | int = 0.05,
) -> FoldCurve:
    """A fold followed in two knobs, with its cusps.

    **Arguments:** `point`: a fold of `branch`; `knob`: the second knob, which stands at `value` there; `spans`: of
    both knobs.

    **Raises** `E_USAGE` for a point that is no fold, bad spans or a value at which the model does not have this fold.
    """
    if point.kind != "fold":
        raise PinnsimError.of("E_USAGE", f"Only a fold can be followed as a fold, and this is a {point.kind}.")
    for span, here in zip(spans, (point.value, value), strict=True):
        _check_span(span, (here,))
    old = branch.system
    system = System(old.kinetics, old.acting, (*old.knobs, knob), old.base, old.basis)
    y = np.asarray(system.free(jnp.asarray(point.state)))
    n = len(y)
    scale = _scale(system, y, spans)
    sizes = np.concatenate([scale[:n], np.ones(n), scale[n:]])
    condition = at.FoldCondition(system, jnp.asarray(point.null / (point.null @ point.null)))
    z = np.concatenate([y, point.null, [point.value, float(value)]])
    if float(jnp.max(jnp.abs(condition(jnp.asarray(z))))) > 1e-6 * (1.0 + float(np.abs(y).max())):
        raise PinnsimError.of("E_USAGE", f"With the second knob at {value:g} this is no fold; give its present value.")
    follower = _Follower(condition, system, sizes, spans, points, float(step))
    along = follower.knob_direction()
    curves = (follower.curve(z, -along), follower.curve(z, along))
    whole, tangents = _joined(curves)
    states = whole[:, :n] @ np.asarray(system.basis).T + np.asarray(system.base)
    cusps = []
    # At a cusp both knobs turn back at once: their common direction flips between two points.
    turns = tangents[:, 2 * n :] / scale[n:]
    for k in np.flatnonzero((turns[1:] * turns[:-1]).sum(axis=1) < 0):
        found = at.locate_cusp(system, whole[k, :n], whole[k, 2 * n :], scale, TOLERANCE)
        if found.converged:
            cusps.append(_special("cusp", system, found, int(k)))
    return FoldCurve(whole[:, 2 * n :], states, tuple(cusps), (ENDS[curves[0].end], ENDS[curves[1].end]))


class _Path(NamedTuple):
    """A followed curve on the host: points and tangents, (point, unknown), and the number of its `ENDS`."""

    points: np.ndarray
    tangents: np.ndarray
    end: int


class _Follower:
    """Curves of one condition, all by one compiled program."""

    def __init__(
        self, condition: at.PointCondition | at.FoldCondition, system: System, scale: np.ndarray,
        spans: tuple[tuple[float, float], ...], points: int, step: float,
    ) -> None:  # fmt: skip
        self.condition, self.system, self.scale, self.spans, self.points = condition, system, scale, spans, points
        infinite = np.full(len(scale) - len(spans), np.inf)
        low, high = (np.array([span[side] for span in spans], dtype=float) for side in (0, 1))
        # Only coordinates that are amounts themselves have a sign.
        basis, material = np.asarray(system.basis), np.asarray(system.kinetics.material())
        amounts = np.zeros(len(scale), bool)
        if (basis >= 0).all():
            amounts[: basis.shape[1]] = basis.T @ material > 0.5
        box = (np.concatenate([-infinite, low]), np.concatenate([infinite, high]), amounts)
        self.box = Box(*map(jnp.asarray, box))
        self.steps = Steps(*map(jnp.asarray, (0.1 * step, 1e-7 * step, step, TOLERANCE)))

    def knob_direction(self) -> np.ndarray:
        """Where the last knob grows."""
        direction = np.zeros(len(self.scale))
        direction[-1] = self.scale[-1]
        return direction

    def curve(self, z: np.ndarray, along: np.ndarray, limit: int | None = None) -> _Path:
        """The curve from z, as host arrays."""
        count = jnp.asarray(self.points if limit is None else limit)
        at_, toward, scale = jnp.asarray(z), jnp.asarray(along), jnp.asarray(self.scale)
        found = trace(self.condition, at_, toward, scale, self.box, self.steps, self.points, count)
        kept = int(found.kept)
        return _Path(np.array(found.points)[:kept], np.array(found.tangents)[:kept], int(found.end))

    def polished(self, z: np.ndarray, across: np.ndarray | None = None) -> np.ndarray | None:
        """The solution near z at its knob's value, or in the plane across a direction."""
        found = self.curve(z, self.knob_direction() if across is None else across, 1)
        return found.points[0] if len(found.points) else None

    def cut(self, curve: _Path) -> _Path:
        """A branch that has left the span, ended on its edge."""
        if curve.end != LEFT or len(curve.points) < 2:
            return curve
        points = curve.points.copy()
        before, after = points[-2], points[-1]
        edge = self.spans[0][0] if after[-1] < self.spans[0][0] else self.spans[0][1]
        guess = before + (edge - before[-1]) / (after[-1] - before[-1]) * (after - before)
        guess[-1] = edge
        found = self.polished(guess)
        points[-1] = before if found is None else found
        return curve._replace(points=points)

    def derivatives(self, points: np.ndarray) -> np.ndarray:
        """[f_y, f_p] at points, by a program of one shape."""
        filled = np.concatenate([points, np.repeat(points[-1:], 2 * self.points - len(points), axis=0)])
        return np.asarray(at.derivatives_along(self.system, jnp.asarray(filled)))[: len(points)]


def _special(kind: str, system: System, found: at.Located, place: int) -> SpecialPoint:
    return SpecialPoint(
        kind,
        found.values,
        np.asarray(system.state(jnp.asarray(found.y))),
        found.frequency,
        found.coefficient,
        found.null,
        place,
    )


def _branch(follower: _Follower, begin: tuple[np.ndarray, np.ndarray], along: np.ndarray) -> Branch:
    """The branch from one start backward and from another (or the same) forward, with what happens on it."""
    system, scale, (low, high) = follower.system, follower.scale, follower.spans[0]
    curves = (follower.cut(follower.curve(begin[0], -along)), follower.cut(follower.curve(begin[1], along)))
    whole, tangents = _joined(curves, begin[0] is not begin[1])
    derivatives = follower.derivatives(whole)
    jacobians = derivatives[:, :, :-1]
    signs = np.linalg.slogdet(np.concatenate([derivatives * scale, (tangents / scale)[:, None]], axis=1))[0]
    eigenvalues, unstable, waves = at.unstable_counts(jacobians)
    special: list[SpecialPoint] = []

    def add(kind: str, found: at.Located, k: int) -> None:
        # Newton's method may leave for another point: it must be between its neighbours, give or take a step.
        size = np.maximum(scale, np.append(np.abs(whole[k, :-1]), 0.0))
        near = np.linalg.norm((np.append(found.y, found.values) - whole[k]) / size)
        step_here = np.linalg.norm((whole[k + 1] - whole[k]) / size)
        if found.converged and low <= found.values[0] <= high and near <= 3.0 * step_here:
            special.append(_special(kind, system, found, k))

    for k in range(len(whole) - 1):
        middle = 0.5 * (whole[k] + whole[k + 1])
        turned = tangents[k, -1] * tangents[k + 1, -1] < 0
        if turned:
            add("fold", at.locate_fold(system, middle[:-1], middle[-1], scale, TOLERANCE), k)
        if signs[k] * signs[k + 1] < 0:
            add("branch point", at.locate_branch(system, middle[:-1], middle[-1], scale, TOLERANCE), k)
        elif abs(waves[k + 1] - waves[k]) >= 2 and unstable[k + 1] != unstable[k] and not turned:
            rates, vectors = np.linalg.eig(jacobians[k])
            pair = int(np.argmin(np.where(rates.imag > 0, np.abs(rates.real), np.inf)))
            wave, pace = vectors[:, pair], rates[pair].imag
            add("hopf", at.locate_hopf(system, whole[k, :-1], whole[k, -1], wave, pace, scale, TOLERANCE), k)
    states = whole[:, :-1] @ np.asarray(system.basis).T + np.asarray(system.base)
    ends = (ENDS[curves[0].end], ENDS[curves[1].end])
    kept = _without_twins(special, states)
    return Branch(whole[:, -1], states, eigenvalues, unstable, kept, ends, system, tangents, scale)


def _without_twins(special: list[SpecialPoint], states: np.ndarray) -> tuple[SpecialPoint, ...]:
    """Where a branch turns in a branch point (a pitchfork's outer branch), that is no fold."""
    size = 1e-5 * (1.0 + np.abs(states).max())
    crossings = [p for p in special if p.kind == "branch point"]

    def crosses(p: SpecialPoint) -> bool:
        return any(np.abs(p.state - c.state).max() + np.abs(p.values - c.values).max() < size for c in crossings)

    return tuple(p for p in special if p.kind != "fold" or not crosses(p))


def _joined(curves: tuple[_Path, _Path], both_starts: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Points and tangents from the far end backward, through the start, to the far end forward."""
    back, forth = curves
    first = 0 if both_starts else 1
    whole = np.concatenate([back.points[first:][::-1], forth.points])
    turned = np.concatenate([-back.tangents[first:][::-1], forth.tangents])
    if not len(whole):
        raise PinnsimError.of("E_SOLVER", f"The curve {ENDS[STUCK]} from its start, where it has no tangent.")
    return whole, turned


def _scale(system: System, y: np.ndarray, spans: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Least size of each free coordinate (a twentieth of its own or the default state's) and the spans."""
    usual = np.abs(np.asarray(system.basis).T @ np.asarray(floors(system.kinetics))) / FLOOR
    size = np.maximum(np.abs(y), usual)
    size = 0.05 * np.maximum(size, 0.2 * size.max(initial=0.0))
    return np.concatenate([size, [float(span[1] - span[0]) for span in spans]])


def _check_span(span: tuple[float, float], values: tuple[float, ...]) -> None:
    with Problems() as problems:
        if not (np.isfinite(span).all() and span[0] < span[1]):
            problems.add("E_USAGE", f"Argument `span` must be finite and increasing, but is {span}.")
        elif not all(span[0] <= value <= span[1] for value in values):
            problems.add("E_USAGE", f"The knob stands at {values[0]:g}, outside its span {span}; widen the span.")
