"""The quasi-potential of a valley over a plane: what it costs to get from its bottom to every state.

    Phi(x) = min over paths from the attractor to x of 1/2 int (|f| |x'| - <f, x'>) ds,     products with D^-1,

the Freidlin-Wentzell action of `pinnsim.landscape.action` for all end points at once. On a grid it obeys Bellman's
principle: the last stretch of the best path to a cell comes from a cell nearby,

    Phi(x) = min over offsets o of Phi(x - o) + S(x - o -> x),

with the action S of a straight stretch by Simpson's rule. Offsets point in many directions (all coprime ones up to
`reach` cells), so paths may take nearly any direction; what is left of the error is of second order in the angle
between neighbouring offsets and in their length. All cells are updated at once until nothing changes. Around the
attractor, where the flow vanishes, Phi starts as the quadratic form of its linear part, `A C + C A' + 2 D = 0`,
`Phi = 1/2 (x - x0)' C^-1 (x - x0)`.

Convention `dX = f dt + sqrt(2 D) dW`, `p ~ exp(-Phi)`: a height of 1 is a factor of e. Beyond the nearest pass Phi is
flat where the flow leads on into other valleys.

Sources: M. I. Freidlin and A. D. Wentzell, Random Perturbations of Dynamical Systems (2012), chapter 4; M. K. Cameron,
Physica D 241:1532 (2012), on grids; D. P. Bertsekas, Dynamic Programming and Optimal Control (2012), the iteration.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.fokker_planck import repr_noise
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.system import System, jacobian, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_MOST_CELLS = 250_000


@dataclasses.dataclass(frozen=True)
class QuasiPotential:
    """Phi of one valley on the cells of a plane.

    **Arguments:** `centres`: per axis, (cell of that axis,); `potential`: of kind "quasi", its values of the grid's
    shape; `species`: of each axis; `attractor`: (species,); `converged`: whether nothing changed any more.
    """

    __repr__ = brief

    centres: tuple[np.ndarray, np.ndarray]
    potential: Potential
    species: tuple[str, ...]
    attractor: np.ndarray
    converged: bool

    def at(self, states: Numbers) -> np.ndarray:
        """Phi by linear interpolation at points of the plane, (point, axis) to (point,); NaN outside."""
        points = np.atleast_2d(np.asarray(states, dtype=float))
        values, place, inside = self.potential.values, [], np.ones(len(points), bool)
        for axis, centres in enumerate(self.centres):
            share = (points[:, axis] - centres[0]) / (centres[1] - centres[0])
            inside &= (share >= 0) & (share <= len(centres) - 1)
            place.append(np.clip(share, 0, len(centres) - 1))
        low = [np.minimum(p.astype(int), len(c) - 2) for p, c in zip(place, self.centres, strict=True)]
        (i, j), (u, v) = low, (place[0] - low[0], place[1] - low[1])
        found = (1 - u) * ((1 - v) * values[i, j] + v * values[i, j + 1])
        found = found + u * ((1 - v) * values[i + 1, j] + v * values[i + 1, j + 1])
        return np.where(inside, found, np.nan)


def quasi_potential(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    attractor: Numbers,
    box: tuple[Numbers, Numbers],
    cells: int | tuple[int, int],
    treatment: Treatment | Perturbation | str = NONE,
    *,
    reach: int = 8,
) -> QuasiPotential:
    """Phi from a valley to every cell of a plane, of a model with two free species.

    `Phi(x) = min 1/2 int (|f| |x'| - <f, x'>) ds` over paths from the attractor to x.

    **Arguments:** `attractor`: (species,), a stable fixed point; `box`: lowest and highest, (axis,) each; `cells`: per
    axis; `reach`: cells that a straight stretch of a path may span.

    Good values: 100 cells per axis and a reach of 8 for heights to about 1 %; more cells where valleys are narrow.

    **Returns** `QuasiPotential`. **Raises** `E_USAGE` for another number of free species, an attractor that is none or
    lies outside, noise that vanishes; `E_BOUNDS`; `E_INIT`.

    Source: Cameron, Physica D 241:1532 (2012), for the problem; the iteration is Bellman's.
    """
    state = np.asarray(attractor, dtype=float)
    system = system_of(model, treatment, state)
    basis, centre = np.asarray(system.basis), np.asarray(system.free(jnp.asarray(state)))
    shape = (cells, cells) if isinstance(cells, int) else (cells[0], cells[1])
    with Problems() as problems:
        if basis.shape[1] != 2 or not ((basis == 0) | (basis == 1)).all():
            problems.add(
                "E_USAGE", f"A plane needs 2 free species, and this model has {basis.shape[1]}; hold the others."
            )
        if min(shape) < 2 * reach + 1 or np.prod(shape, dtype=float) > _MOST_CELLS or reach < 1:
            problems.add(
                "E_USAGE",
                f"Argument `cells` {shape} needs {2 * reach + 1} or more per axis (twice the reach), and at most "
                f"{_MOST_CELLS} in all.",
            )
    low, high = (np.broadcast_to(np.asarray(b, dtype=float), (2,)) for b in box)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise PinnsimError.of("E_BOUNDS", f"Argument `box` must be finite and increasing, but is {low} to {high}.")
    widths = (high - low) / shape
    slope = np.asarray(jacobian(system, jnp.asarray(centre), jnp.zeros(0)))
    spread = np.asarray(noise.diffusion(system, jnp.asarray(centre)))
    force = np.abs(np.asarray(system.force(jnp.asarray(centre), jnp.zeros(0)))).max()
    with Problems() as problems:
        if np.linalg.eigvals(slope).real.max() >= 0 or force > 1e-5 * np.abs(slope).max() * (1 + np.abs(centre).max()):
            problems.add("E_USAGE", "The attractor is no stable fixed point; take one of find_attractors.")
        if ((centre < low + widths) | (centre > high - widths)).any():
            problems.add("E_USAGE", f"The attractor lies outside the box {low} to {high}, or on its edge; widen it.")
    # Cells' centres are every second point of a grid twice as fine, on which the middles of all stretches lie.
    fine = [lo + w * (0.5 + 0.5 * np.arange(2 * n - 1)) for lo, w, n in zip(low, widths, shape, strict=True)]
    points = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1)
    flow, inverse = (np.asarray(a) for a in _fields(system, noise, jnp.asarray(points.reshape(-1, 2))))
    if not (np.isfinite(flow).all() and np.isfinite(inverse).all()):
        raise PinnsimError.of("E_USAGE", "The flow or the inverse of the noise is not finite in the box; move the box.")
    costs, before = _stretches(flow.reshape(points.shape), inverse.reshape(*points.shape, 2), widths, shape, reach)
    away = points[::2, ::2] - centre
    curvature = np.linalg.inv(scipy.linalg.solve_continuous_lyapunov(slope, -2.0 * spread))
    # A quarter of a cell beyond, so that rounding breaks no symmetry.
    near = (np.abs(away) < (0.5 * reach + 0.25) * widths).all(axis=-1)
    begin = np.where(near, 0.5 * np.einsum("xyi,ij,xyj->xy", away, curvature, away), np.inf)
    most = jnp.asarray(8 * sum(shape))
    values, left = _relaxed(jnp.asarray(begin.ravel()), jnp.asarray(costs), jnp.asarray(before), most)
    heights = np.asarray(values).reshape(shape)
    names = tuple(np.array(system.kinetics.table.species)[basis.argmax(axis=0)].tolist())
    centres = (fine[0][::2], fine[1][::2])
    return QuasiPotential(centres, Potential("quasi", heights, repr_noise(noise)), names, state, bool(left == 0))


@eqx.filter_jit
def _fields(system: System, noise: AbstractNoise, points: Float[Array, "point free"]) -> tuple[Array, Array]:
    """f and D^-1 at points."""

    def one(y: Float[Array, " free"]) -> tuple[Array, Array]:
        return system.force(y, jnp.zeros(0, y.dtype)), jnp.linalg.inv(noise.diffusion(system, y))

    return jax.vmap(one)(points)


def _stretches(
    flow: np.ndarray, inverse: np.ndarray, widths: np.ndarray, shape: tuple[int, int], reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Actions of the straight stretches into every cell, (offset, cell), infinite from outside, and the cells from
    which they come."""
    steps = range(-reach, reach + 1)
    offsets = [(i, j) for i in steps for j in steps if math.gcd(i, j) == 1]
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    costs = np.full((len(offsets), *shape), np.inf)
    before = np.broadcast_to(number, costs.shape).copy()
    rows, columns = np.indices(shape)
    for k, offset in enumerate(offsets):
        along = np.array(offset) * widths
        valid = (rows >= offset[0]) & (rows < shape[0] + offset[0])
        valid &= (columns >= offset[1]) & (columns < shape[1] + offset[1])
        to = 2 * rows[valid], 2 * columns[valid]
        total = np.zeros(len(to[0]))
        # Simpson's rule: start, middle and end of the stretch.
        for part, weight in ((2, 1 / 6), (1, 4 / 6), (0, 1 / 6)):
            here = to[0] - part * offset[0], to[1] - part * offset[1]
            f, a = flow[here], inverse[here]
            af, ad = np.einsum("kij,kj->ki", a, f), a @ along
            lengths = np.sqrt(np.maximum((f * af).sum(axis=1) * (ad @ along), 0.0))
            total += weight * 0.5 * (lengths - (f * ad).sum(axis=1))
        costs[k][valid] = np.maximum(total, 0.0)
        before[k][valid] = number[rows[valid] - offset[0], columns[valid] - offset[1]]
    return costs.reshape(len(offsets), -1), before.reshape(len(offsets), -1)


@eqx.filter_jit
def _relaxed(
    begin: Float[Array, " cell"],
    costs: Float[Array, "offset cell"],
    before: Int[Array, "offset cell"],
    most: Int[Array, ""],
) -> tuple[Float[Array, " cell"], Int[Array, ""]]:
    """Heights at which no stretch saves anything, and how many cells still changed at the last look."""

    def update(carry: tuple) -> tuple:
        count, values, _ = carry
        new = jnp.minimum(values, jnp.min(values[before] + costs, axis=0))
        return count + 1, new, jnp.sum(new < values)

    def unfinished(carry: tuple) -> Array:
        count, _, left = carry
        return (count < most) & (left > 0)

    _, values, left = jax.lax.while_loop(unfinished, update, (jnp.zeros((), most.dtype), begin, jnp.ones((), int)))
    return values, left
