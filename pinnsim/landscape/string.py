"""The minimum energy path of a gradient system: a string pulled taut between two valleys, and the passes on it.

With `f = -grad U` (and noise of equal strength in all directions) the most probable path runs along the gradient, up
and down again. A string of equally spaced points relaxes by

    phi_t = f(phi),      then equal spacing again,

and its crests are refined to saddles by Newton's method, to rounding, and certified by their index. Heights are
`U = -int f dx` along the string. Flows that are no gradient (the Jacobian is not symmetric) are refused: for those,
`minimum_action`.

Source: W. E, W. Ren and E. Vanden-Eijnden, J. Chem. Phys. 126:164103 (2007), the simplified string method.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.action import equally_spaced
from pinnsim.landscape.arclength import newton
from pinnsim.landscape.coordinates import Numbers, require_states
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.system import System, Vector, jacobian, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.treatment import NONE, Treatment

Path = Float[Array, "point free"]

_STEP = 0.4  # of the steepest curvature's time
_SYMMETRIC = 1e-8
_NEWTON = 50


@dataclasses.dataclass(frozen=True)
class EnergyPath:
    """A path between valleys along the gradient.

    **Arguments:** `points`: (point, species); `heights`: of kind `energy`, per point, lowest 0; `saddles`, `minima`:
    (k, species), refined, in order along the path; `crests`, `floors`: (k,), energies there less that of the path's
    first point; `converged`.
    """

    points: np.ndarray
    heights: Potential
    saddles: np.ndarray
    minima: np.ndarray
    crests: np.ndarray
    floors: np.ndarray
    converged: bool


def energy_path(
    model: CellModel | AbstractKinetics,
    start: Numbers,
    end: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    points: int = 101,
    iterations: int = 50_000,
    tolerance: float | int = 1e-6,
) -> EnergyPath:
    """The minimum energy path from one state to another, usually between two attractors.

    **Arguments:** `start`, `end`: (species,); they slide to the bottoms of their valleys; `points`: of the string;
    `iterations`, `tolerance`: until no point moves across the string by more than this share of its length per unit of
    relaxation time.

    **Raises** `E_USAGE` for a flow that is no gradient; `E_INIT`.
    """
    system = system_of(model, treatment, start)
    ends = np.stack([np.asarray(start, dtype=float), np.asarray(end, dtype=float)])
    require_states(ends, system.kinetics, "start, end")
    y0, y1 = (system.free(jnp.asarray(x)) for x in ends)
    share = jnp.linspace(0.0, 1.0, points)[:, None]
    path = y0[None] + share * (y1 - y0)[None]
    uneven = float(_unevenness(system, path))
    if not uneven < _SYMMETRIC:
        raise PinnsimError.of(
            "E_USAGE",
            f"The flow is no gradient (its Jacobian is unsymmetric by {uneven:.1e} of its size); use minimum_action.",
        )
    path, moved = _pulled(system, path, jnp.asarray(iterations), jnp.asarray(tolerance, dtype=float))
    energy = np.asarray(_heights(system, path))
    inner = np.arange(1, points - 1)
    tops = inner[(energy[1:-1] > energy[:-2]) & (energy[1:-1] >= energy[2:])]
    bottoms = inner[(energy[1:-1] < energy[:-2]) & (energy[1:-1] <= energy[2:])]
    saddles, crests = _refined(system, path, energy, tops, 1)
    minima, floors = _refined(system, path, energy, np.concatenate([[0], bottoms, [points - 1]]), 0)
    return EnergyPath(
        np.asarray(jax.vmap(system.state)(path)),
        Potential("energy", energy - energy.min(), ""),
        saddles,
        minima,
        crests,
        floors,
        bool(float(moved) <= float(tolerance)),
    )


def _refined(
    system: System, path: Path, energy: np.ndarray, places: np.ndarray, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fixed points of this index near places of the path, (k, species), and their energies."""
    states, heights = [], []
    for k in places:
        found, rates, climb = _polished(system, path[int(k)])
        rates_up = int((np.asarray(rates) > 0).sum())
        if np.isfinite(np.asarray(found)).all() and rates_up == index:
            states.append(np.asarray(system.state(found)))
            heights.append(float(energy[int(k)] + float(climb)))
    width = system.base.shape[0]
    return np.array(states).reshape(-1, width), np.array(heights)


@eqx.filter_jit
def _polished(system: System, y: Vector) -> tuple[Vector, Vector, Scalar]:
    """The fixed point near y, NaN where there is none, its rates, and its height above y."""
    none = jnp.zeros(0, y.dtype)
    scale = jnp.full_like(y, 1e-3) + jnp.abs(y)
    found = newton(lambda y: system.force(y, none), y, scale, jnp.asarray(1e-13, y.dtype), _NEWTON)
    z = jnp.where(found.converged, found.z, jnp.nan)
    rates = jnp.linalg.eigvalsh(jnp.nan_to_num(jacobian(system, z, none)))
    # The energy between two near points, by Gauss' rule of three points.
    nodes = jnp.array([-jnp.sqrt(0.6), 0.0, jnp.sqrt(0.6)], y.dtype)
    weights = jnp.array([5.0, 8.0, 5.0], y.dtype) / 18.0

    def slope(node: Scalar) -> Scalar:
        return -jnp.sum(system.force(0.5 * (y + z) + 0.5 * node * (z - y), none) * (z - y))

    return z, rates, jnp.sum(weights * jax.vmap(slope)(nodes))


@eqx.filter_jit
def _unevenness(system: System, path: Path) -> Scalar:
    """Largest difference of the Jacobian from its transpose along a path, as a share of its size."""
    matrices = jax.vmap(lambda y: jacobian(system, y, jnp.zeros(0, y.dtype)))(path)
    return jnp.max(jnp.abs(matrices - jnp.swapaxes(matrices, 1, 2))) / jnp.max(jnp.abs(matrices))


@eqx.filter_jit
def _pulled(system: System, path: Path, iterations: Int[Array, ""], tolerance: Scalar) -> tuple[Path, Scalar]:
    none = jnp.zeros(0, path.dtype)

    def iterate(carry: tuple) -> tuple:
        number, path, _ = carry
        matrices = jax.vmap(lambda y: jacobian(system, y, none))(path)
        pace = _STEP / jnp.max(jnp.sum(jnp.abs(matrices), axis=2))
        forces = jax.vmap(lambda y: system.force(y, none))(path)
        # A long step in a steep place far from the valley would leave it.
        length = jnp.sum(jnp.linalg.norm(jnp.diff(path, axis=0), axis=1))
        sizes = jnp.linalg.norm(forces, axis=1, keepdims=True)
        most = length / path.shape[0]
        forces = forces * jnp.minimum(1.0, most / (pace * sizes + 1e-300))
        new = equally_spaced(path + pace * forces)
        return number + 1, new, jnp.max(jnp.abs(new - path)) / (pace * length * jnp.max(jnp.abs(matrices)))

    def unfinished(carry: tuple) -> Array:
        number, _, moved = carry
        return (number < iterations) & (moved > tolerance)

    begin = (0, path, jnp.asarray(jnp.inf, path.dtype))
    _, path, moved = jax.lax.while_loop(unfinished, iterate, begin)
    return path, moved


@eqx.filter_jit
def _heights(system: System, path: Path) -> Float[Array, " point"]:
    """U along a path, 0 at its first point: Simpson's rule on every piece."""
    none = jnp.zeros(0, path.dtype)

    def piece(a: Vector, b: Vector) -> Scalar:
        force = system.force(a, none) + 4.0 * system.force(0.5 * (a + b), none) + system.force(b, none)
        return -jnp.sum(force * (b - a)) / 6.0

    return jnp.concatenate([jnp.zeros(1, path.dtype), jnp.cumsum(jax.vmap(piece)(path[:-1], path[1:]))])
