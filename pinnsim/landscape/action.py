"""The most probable way over a hill: minimum action paths, from many starts at once.

For `dX = f dt + sqrt(2 D) dW` a path costs `S = 1/4 int (x' - f)' D^-1 (x' - f) dt` (Freidlin-Wentzell), `p ~ exp(-S)`,
and the least over all durations is geometric,

    S = 1/2 int ( |f| |x'| - <f, x'> ) ds,      products with D^-1,

in which time has gone. Paths phi(s) of equal arc length relax, with a = 2 D, `l = |f| / |phi'|` (norms of a^-1) and
`theta = a^-1 (l phi' - f)`, by

    phi_t = l^2 phi'' - l H_(theta x) phi' + a H_x + l l' phi',       H = <f, theta> + <theta, a theta> / 2,

the stiff first term implicitly. A straight path is in general not the barrier, and where symmetry makes it stationary
it may be a saddle of the action: so the search starts from the straight path and from bumps to all sides of it, one
program for all, and reports every path that it ends in. Simpson's combination of two resolutions gives the action to
the fourth order of the spacing.

The quasi-potential barrier from an attractor to a saddle is the action of the path; from one valley to the next it is
the same, because downhill costs nothing. The mean exit time is `~ exp(S)` times a prefactor that is not in S.

Source: M. Heymann and E. Vanden-Eijnden, Commun. Pure Appl. Math. 61:1052 (2008), section 4.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import Numbers, require_states
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, Vector, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

Path = Float[Array, "point free"]

_STEP = 0.5  # of the largest stable step of the explicit part
_SAME = 0.02  # paths nearer than this share of their length are one


@dataclasses.dataclass(frozen=True)
class ActionPath:
    """A path of stationary action.

    **Arguments:** `points`: (point, species), equally spaced; `action`: S, dimensionless, of the convention
    `S = 1/4 int (x' - f)' D^-1 (x' - f) dt`; `starts`: how many of the starts ended in it; `converged`: whether it had
    stopped moving.
    """

    __repr__ = brief

    points: np.ndarray
    action: float
    starts: int
    converged: bool


@dataclasses.dataclass(frozen=True)
class MinimumAction:
    """All paths found between two states, cheapest first.

    **Arguments:** `paths`; `straight`: action of the straight path, for comparison; `species`.
    """

    __repr__ = brief

    paths: tuple[ActionPath, ...]
    straight: float
    species: tuple[str, ...]

    @property
    def action(self) -> float:
        """The least action found: the quasi-potential barrier, of noise D, in units of ln p."""
        return self.paths[0].action


def minimum_action(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    start: Numbers,
    end: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    points: int = 129,
    bumps: int = 3,
    height: float | int = 0.5,
    guesses: Numbers | None = None,
    seed: int = 0,
    iterations: int = 20_000,
    tolerance: float | int = 1e-7,
) -> MinimumAction:
    """Minimum action paths from one state to another, usually from an attractor to a saddle of its basin's edge.

    **Arguments:** `noise`: D, see `pinnsim.landscape.noise`; `start`, `end`: (species,); `points`: of a path, odd;
    `bumps`: heights of bumps tried to either side in every transverse direction (in more than 3 free species in random
    directions); `height`: of the largest, as a share of the distance; `iterations`, `tolerance`: until no point
    moves by more than this share of the path's length per unit of relaxation.

    Good values: 129 points for barriers to about 1e-4; more bumps where other ways over the hill are suspected.

    **Returns** `MinimumAction`. **Raises** `E_USAGE` for equal states, few points, noise that leaves a free species
    unshaken; `E_INIT`; `E_SOLVER` when no path converges.
    """
    system = system_of(model, treatment, start)
    ends = np.stack([np.asarray(start, dtype=float), np.asarray(end, dtype=float)])
    require_states(ends, system.kinetics, "start, end")
    y0, y1 = (system.free(jnp.asarray(x)) for x in ends)
    with Problems() as problems:
        if points < 9 or points % 2 == 0:
            problems.add("E_USAGE", f"Argument `points` must be odd and 9 or more, but is {points}.")
        if float(jnp.max(jnp.abs(y1 - y0))) == 0:
            problems.add("E_USAGE", "Both states are the same; a path needs two.")
        for y in (y0, y1):
            spread = np.linalg.eigvalsh(np.asarray(noise.diffusion(system, y)))
            if not (np.isfinite(spread).all() and spread.min() > 1e-12 * spread.max()):
                problems.add("E_USAGE", "The noise leaves some free species unshaken, so no path is possible; hold it.")
    begin = _starts(np.asarray(y0), np.asarray(y1), points, bumps, float(height), seed)
    straight = float(_actions(system, noise, jnp.asarray(begin[:1]))[0])
    if guesses is not None:
        begin = _given(system, guesses, np.asarray(y0), np.asarray(y1), points)
    amounts = _amounts(system)
    paths, moved = _relaxed(
        system, noise, jnp.asarray(begin), amounts, jnp.asarray(iterations), jnp.asarray(tolerance, dtype=float)
    )
    actions = np.asarray(_actions(system, noise, paths))
    found = _distinct(np.asarray(paths), actions, np.asarray(moved) <= float(tolerance))
    if not found:
        raise PinnsimError.of(
            "E_SOLVER", "No path came to rest; give more `iterations`, or states that are fixed points of the flow."
        )
    whole = tuple(
        dataclasses.replace(p, points=np.asarray(jax.vmap(system.state)(jnp.asarray(p.points)))) for p in found
    )
    return MinimumAction(whole, straight, system.kinetics.table.species)


def action_of(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    path: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
) -> float:
    """S of any path, (point, species), at the best speed: `1/2 int (|f| |dx| - <f, dx>)` with products of D^-1."""
    states = np.asarray(path, dtype=float)
    system = system_of(model, treatment, states[0])
    return float(_one_action(system, noise, jax.vmap(system.free)(jnp.asarray(states))))


def _starts(y0: np.ndarray, y1: np.ndarray, points: int, bumps: int, height: float, seed: int) -> np.ndarray:
    """(lane, point, free): the straight path, and bumps of several heights to both sides in transverse directions."""
    share = np.linspace(0.0, 1.0, points)[:, None]
    straight = y0 + share * (y1 - y0)
    along, count = y1 - y0, len(y0)
    size = np.linalg.norm(along)
    if count == 1:
        return straight[None]
    # Directions across the straight path: all of them where they are few, else random ones.
    if count <= 3:
        across = np.linalg.svd(along[None])[2][1:]
    else:
        random = np.random.default_rng(seed).standard_normal((3, count))
        across = random - np.outer(random @ along, along) / size**2
        across /= np.linalg.norm(across, axis=1, keepdims=True)
    heights = height * size * np.arange(1, bumps + 1) / max(bumps, 1)
    lanes = [straight]
    for direction in across:
        lanes += [straight + side * h * np.sin(np.pi * share) * direction for h in heights for side in (1.0, -1.0)]
    return np.stack(lanes)


def _given(system: System, guesses: Numbers, y0: np.ndarray, y1: np.ndarray, points: int) -> np.ndarray:
    """(lane, point, free): paths of one's own, each with `points` points at equal distances and the same ends."""
    states = np.asarray(guesses, dtype=float)
    if states.ndim != 3 or states.shape[1] < 2 or states.shape[2] != len(system.base) or not np.isfinite(states).all():
        raise PinnsimError.of(
            "E_USAGE",
            f"Argument `guesses` must be finite, (path, point, species) with {len(system.base)} species, but has shape "
            f"{states.shape}.",
        )
    lanes = []
    for path in states @ np.asarray(system.basis):
        whole = np.concatenate([y0[None], path[1:-1], y1[None]])
        upto = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(whole, axis=0), axis=1))])
        places = np.linspace(0.0, upto[-1], points)
        lanes.append(np.stack([np.interp(places, upto, column) for column in whole.T], axis=1))
    return np.stack(lanes)


def _amounts(system: System) -> Bool[Array, " free"]:
    """Free coordinates that are amounts, which paths keep from falling below 0."""
    basis = np.asarray(system.basis)
    plain = (basis >= 0).all()
    return jnp.asarray((basis.T @ np.asarray(system.kinetics.material()) > 0.5) & plain)


@eqx.filter_jit
def _relaxed(
    system: System,
    noise: AbstractNoise,
    paths: Float[Array, "lane point free"],
    amounts: Bool[Array, " free"],
    iterations: Int[Array, ""],
    tolerance: Scalar,
) -> tuple[Float[Array, "lane point free"], Float[Array, " lane"]]:
    """Paths at rest, and how fast they still moved."""

    def one(path: Path) -> tuple[Path, Scalar]:
        def iterate(carry: tuple) -> tuple:
            number, path, _ = carry
            new, pace = _iteration(system, noise, path)
            new = equally_spaced(jnp.where(amounts[None], jnp.maximum(new, 0.0), new))
            length = jnp.sum(jnp.linalg.norm(jnp.diff(new, axis=0), axis=1))
            return number + 1, new, jnp.max(jnp.abs(new - path)) / (pace * length)

        def unfinished(carry: tuple) -> Array:
            number, _, moved = carry
            return (number < iterations) & (moved > tolerance) & ~jnp.isnan(moved)

        _, path, moved = jax.lax.while_loop(unfinished, iterate, (0, path, jnp.asarray(jnp.inf, path.dtype)))
        return path, moved

    return jax.vmap(one)(paths)


def _iteration(system: System, noise: AbstractNoise, path: Path) -> tuple[Path, Scalar]:
    """One semi-implicit step of the relaxation, and its length in relaxation time (in units of the slowest rate)."""
    none, width = jnp.zeros(0, path.dtype), 1.0 / (path.shape[0] - 1)
    slope = (path[2:] - path[:-2]) / (2.0 * width)
    inner = path[1:-1]

    def point(y: Vector, along: Vector) -> tuple[Scalar, Vector, Scalar]:
        force, turned = jax.jvp(lambda y: system.force(y, none), (y,), (along,))
        a = 2.0 * noise.diffusion(system, y)
        both = jnp.linalg.solve(a, jnp.stack([force, along], axis=1))
        speed = jnp.sqrt(jnp.sum(force * both[:, 0]) / jnp.sum(along * both[:, 1]))
        theta = speed * both[:, 1] - both[:, 0]

        def momentum(y: Vector) -> Vector:
            return system.force(y, none) + 2.0 * noise.diffusion(system, y) @ theta

        def energy(y: Vector) -> Scalar:
            moved = noise.diffusion(system, y) @ theta
            return jnp.sum(system.force(y, none) * theta) + jnp.sum(theta * moved)

        mixed = jax.jvp(momentum, (y,), (along,))[1]
        rest = -speed * mixed + a @ jax.grad(energy)(y)
        steep = jnp.sum(jax.jacfwd(momentum)(y) ** 2)
        return speed, rest, steep

    speed, rest, steep = jax.vmap(point)(inner, slope)
    padded = jnp.concatenate([jnp.zeros(1, path.dtype), speed, jnp.zeros(1, path.dtype)])
    change = (padded[2:] - padded[:-2]) / (2.0 * width)
    rest = rest + (speed * change)[:, None] * slope
    # The explicit part is stable below 2 over the square of the flow's steepness.
    pace = _STEP / jnp.max(steep)
    stiff = pace * speed**2 / width**2
    right = inner + pace * rest
    right = right.at[0].add(stiff[0] * path[0]).at[-1].add(stiff[-1] * path[-1])
    zero = jnp.zeros(1, path.dtype)
    lower = jnp.concatenate([zero, -stiff[1:]])
    upper = jnp.concatenate([-stiff[:-1], zero])
    new = jax.lax.linalg.tridiagonal_solve(lower, 1.0 + 2.0 * stiff, upper, right)
    return jnp.concatenate([path[:1], new, path[-1:]]), pace


def equally_spaced(path: Path) -> Path:
    """The same curve with points at equal distances along it."""
    steps = jnp.linalg.norm(jnp.diff(path, axis=0), axis=1)
    upto = jnp.concatenate([jnp.zeros(1, path.dtype), jnp.cumsum(steps)])
    places = jnp.linspace(0.0, 1.0, path.shape[0], dtype=path.dtype) * upto[-1]
    inside = jax.vmap(lambda column: jnp.interp(places, upto, column), in_axes=1, out_axes=1)(path)
    return jnp.concatenate([path[:1], inside[1:-1], path[-1:]])


@eqx.filter_jit
def _actions(system: System, noise: AbstractNoise, paths: Float[Array, "lane point free"]) -> Float[Array, " lane"]:
    def one(path: Path) -> Scalar:
        fine, coarse = _one_action(system, noise, path), _one_action(system, noise, path[::2])
        return (4.0 * fine - coarse) / 3.0

    return jax.vmap(one)(paths)


@eqx.filter_jit
def _one_action(system: System, noise: AbstractNoise, path: Path) -> Scalar:
    none = jnp.zeros(0, path.dtype)

    def piece(a: Vector, b: Vector) -> Scalar:
        middle, along = 0.5 * (a + b), b - a
        force = system.force(middle, none)
        both = jnp.linalg.solve(noise.diffusion(system, middle), jnp.stack([force, along], axis=1))
        lengths = jnp.sum(force * both[:, 0]) * jnp.sum(along * both[:, 1])
        return 0.5 * (jnp.sqrt(jnp.maximum(lengths, 0.0)) - jnp.sum(force * both[:, 1]))

    return jnp.sum(jax.vmap(piece)(path[:-1], path[1:]))


def _distinct(paths: np.ndarray, actions: np.ndarray, settled: np.ndarray) -> list[ActionPath]:
    """Different paths, cheapest first."""
    found: list[ActionPath] = []
    fine = settled & np.isfinite(actions) & np.isfinite(paths).all(axis=(1, 2))
    for lane in np.argsort(actions):
        if not fine[lane]:
            continue
        length = np.linalg.norm(np.diff(paths[lane], axis=0), axis=1).sum()
        for k, known in enumerate(found):
            if np.linalg.norm(paths[lane] - known.points, axis=1).max() < _SAME * length:
                found[k] = dataclasses.replace(known, starts=known.starts + 1)
                break
        else:
            found.append(ActionPath(paths[lane], float(actions[lane]), 1, True))
    return found
