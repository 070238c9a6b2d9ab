"""Rays from a state to the edge of its valley, in many directions at once, and the shortest of them.

A ray is looked at in equal steps; the first step that leaves the valley is cut. With R(u) the length of the ray in
direction u on the unit sphere, differences along each tangent t give slope and curvature, and

    u <- u - sum_t (R_t / R_tt) t

is Newton's step towards a ray that meets the edge at a right angle; of several parts of it the one with the shortest
ray is kept, so lengths never grow.

Source: J. Nocedal and S. Wright, Numerical Optimization (2006), section 3.3; differences in place of derivatives,
because an edge is only known by where lines cross it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

from pinnsim.landscape.coordinates import coordinates, floors
from pinnsim.landscape.settling import NOWHERE, Crossing, Valleys, cross_all, settle_all

FAR = math.log(1e3)  # reach where nothing else is known: a thousandfold change of every species
_KEPT = 3  # rays of each state that are turned
_PARTS = (1.0, 0.3)  # of Newton's step on the sphere
_TURN = 0.1  # first difference of directions, radians; each round takes a third of it
_ROUNDS = 6


@dataclasses.dataclass(frozen=True)
class Best:
    """The shortest rays of each state: `unit` (state, kept, species) and `lengths` (state, kept), and the shortest."""

    units: np.ndarray
    lengths: np.ndarray
    length: np.ndarray
    state: np.ndarray
    beyond: np.ndarray
    error: np.ndarray

    @staticmethod
    def nothing(z: np.ndarray) -> "Best":
        none = np.full(len(z), np.inf)
        return Best(np.zeros((len(z), 0, z.shape[1])), none[:, None], none, np.full_like(z, np.nan),
                     np.full(len(z), NOWHERE), np.zeros(len(z)))  # fmt: skip


def coordinates_of(valleys: Valleys, states: np.ndarray) -> np.ndarray:
    kinetics = valleys.system.kinetics
    return np.asarray(coordinates(jnp.asarray(states), floors(kinetics), kinetics.material()))


def states_of(valleys: Valleys, z: np.ndarray) -> np.ndarray:
    """States at coordinates, (lane, species)."""
    return np.asarray(jax.vmap(lambda one: valleys.state(one)[0])(jnp.asarray(z)))


def moves(valleys: Valleys) -> np.ndarray:
    """Directions that a displacement may have, (species, free), orthonormal: all but what is held. Conserved totals
    bend lines of coordinates, and are put right at every state."""
    free = ~np.asarray(valleys.system.acting.hold)
    return np.eye(len(free))[:, free]


def _rms(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.mean(z**2, axis=-1)))


def reach_of(valleys: Valleys, z: np.ndarray, home: np.ndarray) -> np.ndarray:
    """The distance to the nearest other attractor or cycle, a little more: a ray towards it must leave the valley."""
    points, orbits = np.asarray(valleys.points)[: int(valleys.count)], np.asarray(valleys.orbits)
    gaps = [_rms(z[:, None] - points[None])]
    if len(orbits):
        around = coordinates_of(valleys, orbits.reshape(-1, z.shape[1])).reshape(orbits.shape)
        gaps.append(_rms(z[:, None, None] - around[None]).min(axis=2))
    table = np.concatenate(gaps, axis=1)
    others = np.arange(table.shape[1])[None] != home[:, None]
    nearest = np.where(others, table, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(nearest), 1.01 * nearest, FAR)


def directions(z: np.ndarray, known: np.ndarray, frame: np.ndarray, rays: int, seed: int) -> np.ndarray:
    """Unit displacements of every state, (state, ray, species)."""
    free = frame.shape[1]
    drawn = norm.ppf(np.clip(qmc.Sobol(free, rng=np.random.default_rng(seed)).random_base2(
        math.ceil(math.log2(rays)) if rays > 1 else 0), 1e-12, 1 - 1e-12))[:rays]  # fmt: skip
    fixed = np.concatenate([np.eye(free), -np.eye(free), drawn])
    towards = ((known[None] - z[:, None]) @ frame) if len(known) else np.zeros((len(z), 0, free))
    every = np.concatenate([np.broadcast_to(fixed[None], (len(z), *fixed.shape)), towards], axis=1) @ frame.T
    size = _rms(every)[..., None]
    # A known point at the state itself gives no direction.
    return np.where(
        size > 1e-9, every / np.where(size > 1e-9, size, 1.0), (frame[:, 0] / _rms(frame[:, 0]))[None, None]
    )


def first_crossings(
    valleys: Valleys, z: np.ndarray, ends: np.ndarray, steps: int, rounds: int
) -> tuple[Crossing, np.ndarray]:
    """Where the lines from each state to its ends, (state, ray, species), first leave its valley, (state, ray) each,
    and the step in which they do, -1 for none."""
    count, rays, width = ends.shape
    shares = np.arange(1, steps + 1) / steps
    line = ends[:, :, None] - z[:, None, None]
    grid = z[:, None, None] + shares[None, None, :, None] * line
    states, possible = jax.vmap(valleys.state)(jnp.asarray(grid.reshape(-1, width)))
    found = settle_all(valleys, np.asarray(states)).valley
    home = settle_all(valleys, states_of(valleys, z), progress=False).valley
    out = (found.reshape(count, rays, steps) != home[:, None, None]) & np.asarray(possible).reshape(count, rays, steps)
    which = np.where(out.any(axis=2) & (home >= 0)[:, None], out.argmax(axis=2), -1)
    step = np.maximum(which, 0)[..., None] / steps
    first = (z[:, None] + step * line[:, :, 0]).reshape(-1, width)
    second = (z[:, None] + (step + 1.0 / steps) * line[:, :, 0]).reshape(-1, width)
    crossing = cross_all(valleys, first, second, rounds)
    shaped = Crossing(*(np.asarray(v).reshape(count, rays, *np.asarray(v).shape[1:]) for v in crossing))
    return shaped, np.where(shaped.leaves, which, -1)


def scanned(valleys: Valleys, z: np.ndarray, units: np.ndarray, far: np.ndarray, steps: int, rounds: int) -> Best:
    """The shortest rays of every state."""
    crossing, which = first_crossings(valleys, z, z[:, None] + far[:, None, None] * units, steps, rounds)
    rows = np.arange(len(z))
    flat = crossing.state.reshape(-1, z.shape[1])
    gap = _rms(coordinates_of(valleys, flat).reshape(crossing.state.shape) - z[:, None])
    lengths = np.where(which >= 0, gap, np.inf)
    order = np.argsort(lengths, axis=1)[:, :_KEPT]
    top = order[:, 0]
    return Best(
        units[rows[:, None], order], lengths[rows[:, None], order], lengths[rows, top], crossing.state[rows, top],
        crossing.beyond[rows, top], np.zeros(len(z)),
    )  # fmt: skip


def turned(valleys: Valleys, z: np.ndarray, best: Best, frame: np.ndarray, tolerance: float, rounds: int) -> Best:
    """The shortest rays turned until the edge is met at a right angle."""
    free = frame.shape[1]
    count, width = z.shape
    scale = np.sqrt(width)
    # Rays as unit vectors of the free directions (Euclidean), lengths as root mean square distances.
    u, length = best.units @ frame / scale, best.lengths
    u = u / np.maximum(np.linalg.norm(u, axis=-1, keepdims=True), 1e-300)
    shortest, state, beyond, error = best.length.copy(), best.state.copy(), best.beyond.copy(), best.error.copy()
    if free == 1 or not np.isfinite(length).any():
        return best
    rows = np.arange(count)

    def measured(rays: np.ndarray, near: np.ndarray, wide: float) -> np.ndarray:
        """Lengths of rays, (state, kept, ray, free) to (state, kept, ray), with the shortest noted."""
        nonlocal shortest, state, beyond
        begin = np.broadcast_to(z[:, None, None], (*rays.shape[:-1], width)).reshape(-1, width)
        reach = (np.where(np.isfinite(near), near, 1.0) * (1.0 + wide))[..., None, None]
        end = begin + (reach * scale * rays @ frame.T).reshape(-1, width)
        crossing = cross_all(valleys, begin, end, rounds, progress=False)
        gap = _rms(coordinates_of(valleys, crossing.state) - begin)
        found = np.where(crossing.leaves, gap, np.inf).reshape(rays.shape[:-1])
        found = np.where(np.isfinite(near)[..., None], found, np.inf)
        flat = found.reshape(count, -1)
        top = flat.argmin(axis=1)
        better = flat[rows, top] < shortest
        shortest = np.where(better, flat[rows, top], shortest)
        state = np.where(better[:, None], crossing.state.reshape(count, -1, width)[rows, top], state)
        beyond = np.where(better, crossing.beyond.reshape(count, -1)[rows, top], beyond)
        return found

    turn = _TURN
    for _ in range(_ROUNDS):
        before = shortest.copy()
        tangent = _tangents(u)  # (state, kept, free, free - 1)
        sides = np.moveaxis(tangent, -1, -2)
        pairs = np.concatenate([sides, -sides], axis=2)
        # A boundary that the ray meets at a slant needs room: up to the tangent of its angle times the turn.
        around = measured(np.cos(turn) * u[:, :, None] + np.sin(turn) * pairs, length, 6.0 * turn)
        plus, minus = around[:, :, : free - 1], around[:, :, free - 1 :]
        usable = np.isfinite(plus) & np.isfinite(minus)
        centre = np.where(np.isfinite(length), length, 1.0)[..., None]
        p, m = np.where(usable, plus, centre), np.where(usable, minus, centre)
        slope, bend = (p - m) / (2.0 * turn), (p + m - 2.0 * centre) / turn**2
        angle = np.where(usable, -slope / np.maximum(bend, 0.2 * centre), 0.0)
        # Where one side meets no edge so near, the ray turns away from it.
        one = np.isfinite(plus) ^ np.isfinite(minus)
        angle = np.where(one, np.where(np.isfinite(plus), turn, -turn), angle)
        size = np.linalg.norm(angle, axis=-1, keepdims=True)
        angle = angle * np.minimum(1.0, 0.5 / np.maximum(size, 1e-300))
        move = np.einsum("skft,skt->skf", tangent, angle)[:, :, None] * np.array(_PARTS)[None, None, :, None]
        rays = _unit(u[:, :, None] + move)
        tried = measured(rays, length, 0.05)
        rays = np.concatenate([rays, _unit(np.cos(turn) * u[:, :, None] + np.sin(turn) * pairs)], axis=2)
        lengths = np.concatenate([tried, around], axis=2)
        top = lengths.argmin(axis=2)
        new = np.take_along_axis(lengths, top[..., None], axis=2)[..., 0]
        chosen = np.take_along_axis(rays, top[..., None, None], axis=2)[:, :, 0]
        better = new < length
        u, length = np.where(better[..., None], chosen, u), np.where(better, new, length)
        error = np.where(np.isfinite(before), before, 0.0) - np.where(np.isfinite(before), shortest, 0.0)
        turn /= 3.0
        if (error <= 0.1 * tolerance * np.where(np.isfinite(shortest), shortest, 1.0)).all() and turn < _TURN / 5:
            break
    return Best(best.units, length, shortest, state, beyond, error)


def _unit(rays: np.ndarray) -> np.ndarray:
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _tangents(u: np.ndarray) -> np.ndarray:
    """Orthonormal directions across unit vectors, (..., free) to (..., free, free - 1), by a reflection."""
    free = u.shape[-1]
    # The reflection that takes the first axis to -+u takes the others to directions across u.
    sign = np.where(u[..., :1] >= 0, 1.0, -1.0)
    mirror = u + sign * np.eye(free)[0]
    across = (
        np.eye(free) - 2.0 * mirror[..., :, None] * mirror[..., None, :] / (mirror**2).sum(axis=-1)[..., None, None]
    )
    return across[..., 1:]
