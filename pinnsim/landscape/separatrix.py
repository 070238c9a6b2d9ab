"""Separatrices: the stable manifold of a saddle of index 1, which is the edge between two valleys.

At a saddle with one unstable direction the states that flow into the saddle itself form a surface of one dimension
less than the cell has, tangent to the stable eigenvectors; with l the left eigenvector of the unstable eigenvalue,

    l' (z - z_s) = 0                             its tangent plane, in coordinates z (logarithms of abundances).

With two free coordinates the surface is a curve. Each of its two arms is followed backwards in time from the saddle,
at unit speed in z,

    dz/ds = -F(z) / |F(z)|,      F_i = f_i(x) / (x_i + floor_i) for abundances,

which neither stops near the saddle nor runs off where abundances vanish. Backwards in time everything beside the curve
is drawn to it, so what is wrong at the start is forgotten. An arm ends on the wall of the box, at another fixed point,
or winds on to an unstable cycle, which is then closed. With more free coordinates, points on the surface are found by
cutting lines that cross the tangent plane between states of different valleys (`pinnsim.landscape.settling`).

Sources: J. Guckenheimer and P. Holmes, Nonlinear Oscillations, Dynamical Systems, and Bifurcations of Vector Fields
(1983), section 1.3, stable manifold theorem; B. Krauskopf et al., Int. J. Bifurcation Chaos 15:763 (2005), computing
them.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import norm, qmc

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, coordinates, floors, frozen, resolved
from pinnsim.landscape.cycles import close_orbit, period_of
from pinnsim.landscape.fixed_points import jacobian_at
from pinnsim.landscape.rays import coordinates_of, states_of
from pinnsim.landscape.settling import Valleys, cross_all, rounds_for, settle_all, valleys_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.shapes import State
from pinnsim.simulate import ODE, solve_many
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

WALL, POINT, CYCLE, OPEN = "wall", "fixed point", "cycle", "open"
_NUDGE = 1e-6  # first step off the saddle, in coordinates: the curve's bend adds its square
_SAMPLES = 513
_ZOOMS = 2  # times that the last interval before a wall is followed again, each time in `_SAMPLES` parts
_BRAKE = 1e-2  # so near another fixed point (in coordinates), or so far beyond a wall (of the box), an arm slows down
_WINDOW = 1024  # samples of the course in which a period is looked for
_NEAR_CYCLE = 0.05  # an arm that ends so near a closed orbit, in units of its swing, winds on to it
_MANY = 100_000


@dataclasses.dataclass(frozen=True)
class Arm:
    """One half of a curve, from the saddle outwards.

    **Arguments:** `states`: (sample, species), from the saddle to the end; `length`: (sample,), along the curve in
    coordinates; `end`: "wall" (of the box), "fixed point", "cycle" or "open" (neither within the length); `where`: in
    words, which; `period`: of the cycle, else NaN.
    """

    __repr__ = brief

    states: np.ndarray
    length: np.ndarray
    end: str
    where: str
    period: float


@dataclasses.dataclass(frozen=True)
class Separatrix:
    """The edge through one saddle.

    **Arguments:** `saddle`: its name; `state`: (species,); `rate`: the unstable eigenvalue, per time unit; `normal`:
    (species,), of the tangent plane in coordinates, unit length, towards the second valley; `between`: the valleys on
    both sides, where the two halves of the unstable manifold flow; `arms`: the two halves of the curve (two free
    coordinates only); `points`: (point, species), on the edge; `width`: largest last bracket of the points, as a
    distance; `lost`: lines that crossed no edge.
    """

    __repr__ = brief

    saddle: str
    state: np.ndarray
    rate: float
    normal: np.ndarray
    between: tuple[str, str]
    arms: tuple[Arm, ...]
    points: np.ndarray
    width: float
    lost: int
    species: tuple[str, ...]

    @property
    def curve(self) -> np.ndarray:
        """(sample, species), both arms as one curve through the saddle; empty where there are none."""
        if not self.arms:
            return np.zeros((0, len(self.species)))
        return np.concatenate([self.arms[0].states[::-1], self.arms[1].states[1:]])

    def describe(self) -> str:
        """One sentence: between which valleys, and where the arms end or how many points there are."""
        text = f"{self.saddle} lies between {self.between[0]} and {self.between[1]}"
        if self.arms:
            return f"{text}; its arms end {' and '.join(arm.where for arm in self.arms)}."
        lost = f" ({self.lost} lines crossed no edge)" if self.lost else ""
        return f"{text}; {len(self.points)} points of the edge{lost}."


class Upstream(eqx.Module):
    """`dz/ds = -F / |F|`, slowed to rest at known points and just beyond the walls.

    **Arguments:** `kinetics`, `acting`: the cell; `low`, `high`: (species,), walls in coordinates; `points`: (point,
    species), coordinates of fixed points where arms end.
    """

    kinetics: AbstractKinetics
    acting: Constant
    low: State
    high: State
    points: Float[Array, "point species"]

    def velocity(self, z: State) -> State:
        """dz/dt, per time unit, forwards in time."""
        material, floor = self.kinetics.material(), floors(self.kinetics)
        x = jnp.where(material, jnp.maximum(jnp.exp(jnp.where(material, z, 0.0)) - floor, 0.0), z)
        force = self.kinetics.vector_field(jnp.zeros((), z.dtype), x, self.acting)
        return jnp.where(material, force / (x + floor), force)

    def __call__(self, z: State) -> State:
        force = self.velocity(z)
        speed = jnp.sqrt(jnp.sum(force**2))
        wide = _BRAKE * (self.high - self.low) + 1e-12
        beyond = jnp.max(jnp.maximum(self.low - z, z - self.high) / wide)
        brake = jnp.clip(1.0 - beyond, 0.0, 1.0)
        if self.points.shape[0]:
            gap = jnp.sqrt(jnp.sum((z[None] - self.points) ** 2, axis=1))
            brake = brake * jnp.min(jnp.clip(gap / _BRAKE, 0.0, 1.0))
        return -force * (brake / jnp.where(speed > 0, speed, 1.0))


def separatrix(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    saddle: str | None = None,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    bounds: tuple[Numbers, Numbers] | None = None,
    length: float | int | None = None,
    points: int = 0,
    reach: float | int = 0.5,
    tolerance: float | int = 1e-8,
    seed: int = 0,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> Separatrix:
    """The edge of two valleys through a saddle of index 1: `{x : phi_t(x) -> saddle}`.

    **Arguments:** `attractors`: of `find_attractors(model, treatment)`; `saddle`: its name there (default: the only one
    of index 1); `bounds`: walls (lowest, highest), (species,) each, abundances >= 0, at which arms end (default: ten
    times beyond all known fixed points); `length`: of an arm, in coordinates (default: 4 times the box's diagonal);
    `points`: how many lines across the tangent plane are cut (32 where there are more than two free coordinates
    and none is asked for); `reach`: how far from the saddle, as a distance; `tolerance`: of the last bracket, relative
    to a line; `seed`: of the lines; `method`: for valleys and points, as in `assign`; arms use rtol 1e-11.

    **Returns** a `Separatrix`. **Raises** `E_USAGE` where no saddle is called so, or none or several have index 1,
    `E_BOUNDS`, `E_INIT`, `E_PERTURB_...`. Source: see the file.
    """
    number = _chosen(attractors, saddle)
    valleys, names, _ = valleys_of(model, attractors, treatment, time, longest, method, 1e-10)
    system, kinetics = valleys.system, valleys.system.kinetics
    state = attractors.states[number]
    here = coordinates_of(valleys, state[None])[0]
    acting = frozen(resolved(treatment, kinetics), time)
    material, floor = np.asarray(kinetics.material()), np.asarray(floors(kinetics))
    pace = np.where(material, 1.0 / (state + floor), 1.0)  # dz / dx
    basis = np.asarray(system.basis)
    matrix = basis.T @ np.asarray(jacobian_at(kinetics, acting, jnp.asarray(state))) @ basis
    rates, right = np.linalg.eig(matrix)
    lefts, left = np.linalg.eig(matrix.T)
    top = int(np.argmax(rates.real))
    out = pace * (basis @ np.real(right[:, top]))
    out /= np.sqrt(np.mean(out**2))
    # A covector of y, read on displacements of z: dy = B' dx, dx = dz / pace.
    normal = (basis @ np.real(left[:, int(np.argmax(lefts.real))])) / pace
    normal /= np.linalg.norm(normal) * np.sign(normal @ out)
    sides = settle_all(valleys, states_of(valleys, here[None] + 1e-4 * np.array([[-1.0], [1.0]]) * out[None])).valley
    between = tuple(names[k] if k >= 0 else "none" for k in sides)
    free = basis.shape[1]
    arms: tuple[Arm, ...] = ()
    if free == 2:
        stable = pace * (basis @ np.real(right[:, 1 - top]))
        walls = _walls(attractors, kinetics, bounds)
        arms = _arms(valleys, attractors, number, here, stable / np.linalg.norm(stable), walls, length)
    count = points if points or free <= 2 else 32
    found, width, lost = np.zeros((0, len(here))), 0.0, 0
    if count:
        offsets = _across(normal, pace[:, None] * basis, count, float(reach), seed)
        ends = [here[None] + offsets + sign * float(reach) * out[None] for sign in (-1.0, 1.0)]
        rounds = rounds_for(float(tolerance))
        crossing = cross_all(valleys, ends[0], ends[1], rounds)
        found = crossing.state[crossing.leaves]
        lost = int(count - len(found))
        width = 2.0 * float(reach) / 8.0**rounds
    return Separatrix(
        attractors.names[number], state, float(rates[top].real), normal, (between[0], between[1]), arms, found, width,
        lost, kinetics.table.species,
    )  # fmt: skip


def _chosen(attractors: Attractors, name: str | None) -> int:
    passes = [k for k, index in enumerate(attractors.index) if index == 1]
    known = ", ".join(attractors.names[k] for k in passes) or "none"
    if name is None and len(passes) == 1:
        return passes[0]
    if name is None:
        raise PinnsimError.of(
            "E_USAGE", f"There are {len(passes)} saddles of index 1 ({known}); name one in `saddle`, or find more "
            "with a larger `probes` of find_attractors."
        )  # fmt: skip
    if name not in attractors.names or attractors.names.index(name) not in passes:
        raise PinnsimError.of("E_USAGE", f"'{name}' is no fixed point of index 1; those of index 1 are: {known}.")
    return attractors.names.index(name)


def _walls(
    attractors: Attractors, kinetics: AbstractKinetics, bounds: tuple[Numbers, Numbers] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The box in coordinates."""
    material, states = np.asarray(kinetics.material()), attractors.states
    if bounds is None:
        low, high = states.min(axis=0), states.max(axis=0)
        swing = np.maximum(high - low, 1e-3 * np.maximum(np.abs(high), 1e-12))
        low, high = np.where(material, 0.1 * low, low - swing), np.where(material, 10.0 * high, high + swing)
        high = np.where(material & (high <= 0), np.asarray(floors(kinetics)), high)
    else:
        low, high = (np.broadcast_to(np.asarray(b, dtype=float), material.shape) for b in bounds)
    wrong = ~np.isfinite(low) | ~np.isfinite(high) | (high <= low) | (material & (low < 0))
    if bounds is not None and wrong.any():
        name = kinetics.table.species[int(np.argmax(wrong))]
        raise PinnsimError.of(
            "E_BOUNDS",
            f"Argument `bounds` needs lowest < highest for every species, >= 0 for abundances; {name} has not.",
        )
    floor = floors(kinetics)
    a, b = (np.asarray(coordinates(jnp.asarray(w), floor, kinetics.material())) for w in (low, high))
    return a, b


def _across(normal: np.ndarray, moves: np.ndarray, count: int, reach: float, seed: int) -> np.ndarray:
    """Displacements within the tangent plane, (line, species), spread over a ball of radius `reach`."""
    # Within what can move, across the normal.
    plane = moves - normal[:, None] * (normal @ moves)[None]
    left, size, _ = np.linalg.svd(plane, full_matrices=False)
    axes = left[:, size > 1e-9 * size.max(initial=1e-300)]
    drawn = qmc.Sobol(axes.shape[1] + 1, rng=np.random.default_rng(seed)).random_base2(int(np.ceil(np.log2(count))))
    drawn = np.clip(drawn[:count], 1e-12, 1 - 1e-12)
    way = norm.ppf(drawn[:, :-1]) @ axes.T
    way /= np.maximum(np.sqrt(np.mean(way**2, axis=1, keepdims=True)), 1e-300)
    return reach * drawn[:, -1:] ** (1.0 / axes.shape[1]) * way


def _arms(
    valleys: Valleys,
    attractors: Attractors,
    number: int,
    here: np.ndarray,
    stable: np.ndarray,
    walls: tuple[np.ndarray, np.ndarray],
    length: float | int | None,
) -> tuple[Arm, ...]:
    """Both halves of the curve; they are two lanes of one program."""
    kinetics, species = valleys.system.kinetics, valleys.system.kinetics.table.species
    others = [k for k in range(len(attractors.names)) if k != number]
    known = coordinates_of(valleys, attractors.states[others])
    low, high = walls
    field = Upstream(kinetics, Constant(valleys.system.acting), jnp.asarray(low), jnp.asarray(high), jnp.asarray(known))
    model = drift_field(field, species, here)
    nothing = resolved(NONE, model)
    total = 4.0 * float(np.linalg.norm(np.minimum(high - low, 50.0))) if length is None else float(length)
    exact = ODE(rtol=1e-11, atol=1e-12, max_steps=_MANY, stiff=False)

    def follow(begin: np.ndarray, over: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = solve_many(model, over, nothing, jnp.asarray(begin), exact)
        return np.asarray(found.states), np.asarray(found.outcome)

    s = np.linspace(0.0, total, _SAMPLES)
    courses, outcome = follow(here[None] + _NUDGE * np.array([[1.0], [-1.0]]) * stable[None], s)
    arms = []
    for course, code in zip(courses, outcome, strict=True):
        good = np.isfinite(course).all(axis=1) & (code == 0)
        inside = good & ((course >= low[None]) & (course <= high[None])).all(axis=1)
        stop = int(np.argmin(inside)) if not inside.all() else len(s)
        path, along, end, where, period = course[:stop], s[:stop], OPEN, "nowhere within the length", float("nan")
        if stop < len(s) and stop > 0 and good[stop]:
            last, gone, wall = _met(follow, course[stop - 1], course[stop], float(s[1]), low, high)
            path, along = np.concatenate([path, last[None]]), np.append(along, s[stop - 1] + gone)
            end, where = WALL, f"on the wall of {species[wall // 2]} ({'lowest' if wall % 2 == 0 else 'highest'})"
        elif stop == len(s) and len(known):
            gaps = np.linalg.norm(path[-1] - known, axis=1)
            if gaps.min() < 1e-3 * _BRAKE:
                nearest = int(gaps.argmin())
                keep = np.linalg.norm(path - known[nearest], axis=1) > 1e-6
                path, along = np.concatenate([path[keep], known[nearest][None]]), along[: keep.sum() + 1]
                end, where = POINT, f"at {attractors.names[others[nearest]]}"
        if end == OPEN and stop == len(s):
            period = _winds(valleys, field, path, along)
            if np.isfinite(period):
                end, where = CYCLE, f"on an unstable cycle of period {period:.6g} {kinetics.time_unit}"
        path, along = np.concatenate([here[None], path]), np.concatenate([[0.0], along + _NUDGE])
        arms.append(Arm(states_of(valleys, path), along, end, where, period))
    return tuple(arms)


def _met(
    follow: Callable, inside: np.ndarray, outside: np.ndarray, gap: float, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, float, int]:
    """Where a course meets a wall: the last interval followed again in ever smaller parts, then straight."""
    gone = 0.0
    for _ in range(_ZOOMS):
        fine = np.linspace(0.0, gap, _SAMPLES)
        course, _ = follow(np.stack([inside, inside]), fine)
        within = ((course[0] >= low[None]) & (course[0] <= high[None])).all(axis=1)
        k = max(int(np.argmin(within)), 1) if not within.all() else _SAMPLES - 1
        inside, outside, gone, gap = course[0][k - 1], course[0][k], gone + fine[k - 1], fine[1]
    change = outside - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.stack([(low - inside) / change, (high - inside) / change], axis=1)
    shares = np.where(np.isfinite(shares) & (shares >= 0), shares, np.inf).ravel()
    wall = int(shares.argmin())
    share = float(min(shares[wall], 1.0))
    return inside + share * change, gone + share * gap, wall


def _winds(valleys: Valleys, field: Upstream, path: np.ndarray, along: np.ndarray) -> float:
    """The period of the unstable cycle on to which an arm winds, NaN where it does not."""
    half = len(path) // 2
    s = np.linspace(along[half], along[-1], 4 * _WINDOW)
    course = np.stack([np.interp(s, along, column) for column in path.T], axis=1)
    # Time along the arm, from the speed there; good enough for a first guess.
    speed = np.linalg.norm(np.asarray(jax.vmap(field.velocity)(jnp.asarray(course))), axis=1)
    if not (speed > 0).all():
        return float("nan")
    clock = np.concatenate([[0.0], np.cumsum(0.5 * (1.0 / speed[1:] + 1.0 / speed[:-1]) * np.diff(s))])
    even = np.linspace(0.0, clock[-1], _WINDOW)
    window = np.stack([np.interp(even, clock, column) for column in course.T], axis=1)
    period = float(period_of(jnp.asarray(even), jnp.asarray(window)))
    last = states_of(valleys, course[-1:])[0]
    found = close_orbit(valleys.system, last, period, 1e-9, "C") if np.isfinite(period) else None
    return float(found.period) if found is not None and found.gap(last) < _NEAR_CYCLE else float("nan")
