"""The Fokker-Planck equation on a grid: stationary law, rates, committors, exit times and fluxes of 1 to 3 species.

    dp/dt = -div J,      J = f p - div(D p),      D diagonal

on cells of a box with walls. Between neighbours i and j, a distance h apart along one axis, the flux is that of
Scharfetter and Gummel (Chang and Cooper's is the same): the exact solution for constant f and D between the centres,

    rate(i -> j) = D / h^2 B(-z),      rate(j -> i) = D / h^2 B(z),      z = h (f - dD/dx) / D,   B(z) = z / (e^z - 1)

at the face between them. So the generator W is a Markov chain: probability is conserved to rounding and never negative,
detailed balance holds where it holds, and its error falls with h^2. Exit times T and committors q solve

    W' T = -1 outside the target, 0 in it;      W' q = 0,  q = 0 in A, 1 in B;

the entropy production is `sum over faces of (p_i w_ij - p_j w_ji) ln (p_i w_ij / p_j w_ji)` per time. Convention
`dX = f dt + sqrt(2 D) dW` (Ito), heights `-ln p`.

Sources: D. L. Scharfetter and H. K. Gummel, IEEE Trans. Electron Devices 16:64 (1969); J. S. Chang and G. Cooper,
J. Comput. Phys. 6:1 (1970); J. Schnakenberg, Rev. Mod. Phys. 48:571 (1976), entropy production.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.potential import Potential, from_probability
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_MOST_CELLS = 400_000

Inside = Callable[[np.ndarray], np.ndarray] | Bool[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A Markov chain on the cells of a box.

    **Arguments:** `centres`: per axis, (cell of that axis,); `generator`: (cell, cell), `dp/dt = W p`, cells in C
    order; `species`: of each axis; `noise`: in words; `time_unit`.
    """

    __repr__ = brief

    centres: tuple[np.ndarray, ...]
    generator: scipy.sparse.csc_matrix
    species: tuple[str, ...]
    noise: str
    time_unit: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells per axis."""
        return tuple(len(c) for c in self.centres)

    @property
    def points(self) -> np.ndarray:
        """Centres of all cells, (cell, axis)."""
        return np.stack([a.ravel() for a in np.meshgrid(*self.centres, indexing="ij")], axis=1)

    @property
    def volume(self) -> float:
        """Size of one cell."""
        return float(np.prod([c[1] - c[0] for c in self.centres]))

    def where(self, inside: Inside) -> np.ndarray:
        """(cell,), true for cells of a set: a mask of the grid's shape, or a function of points (cell, axis)."""
        mask = np.asarray(inside(self.points) if callable(inside) else inside, dtype=bool).ravel()
        if mask.shape != (int(np.prod(self.shape)),):
            raise PinnsimError.of("E_USAGE", f"A set of states must be a mask of the grid's shape {self.shape}.")
        if not mask.any() or mask.all():
            raise PinnsimError.of("E_USAGE", "A set of states must hold some cells of the grid and leave some out.")
        return mask

    def stationary(self) -> np.ndarray:
        """p, probability of each cell, of the grid's shape, sum 1; `at_walls` tells whether the box is wide enough."""
        return _stationary(self.generator).reshape(self.shape)

    def potential(self) -> Potential:
        """`-ln p` of the stationary law."""
        return from_probability(self.stationary(), "stationary", self.noise)

    def at_walls(self) -> float:
        """The stationary law's mass in the outermost cells; more than 1e-3 says that the box is too small."""
        p = self.stationary()
        inner = p[tuple(slice(1, -1) for _ in self.shape)]
        return float(p.sum() - inner.sum())

    def eigenvalues(self, count: int = 3) -> np.ndarray:
        """The `count` slowest rates of relaxation, (count,), largest real part first; the first is 0."""
        matrix = self.generator.tocsc()
        # Shifted off the eigenvalue 0, and by so little that the slowest come first.
        shift = 1e-6 * float(np.abs(matrix.diagonal()).min())
        begin = np.ones(matrix.shape[0])
        found = scipy.sparse.linalg.eigs(matrix, k=count, sigma=shift, v0=begin, return_eigenvectors=False)
        return found[np.argsort(-found.real)]

    def exit_time(self, target: Inside) -> np.ndarray:
        """Mean time to reach a set from every cell, of the grid's shape, in the model's time unit.

        The set begins at the centre of its first cell: to within half a cell.
        """
        mask = self.where(target)
        rest = np.flatnonzero(~mask)
        backward = self.generator.T.tocsc()
        times = np.zeros(len(mask))
        times[rest] = scipy.sparse.linalg.spsolve(backward[rest][:, rest], -np.ones(len(rest)))
        return times.reshape(self.shape)

    def committor(self, a: Inside, b: Inside) -> np.ndarray:
        """Probability of reaching set `b` before set `a` from every cell, of the grid's shape."""
        in_a, in_b = self.where(a), self.where(b)
        if (in_a & in_b).any():
            raise PinnsimError.of("E_USAGE", "The two sets of a committor must not overlap; make them smaller.")
        rest = np.flatnonzero(~(in_a | in_b))
        backward = self.generator.T.tocsc()
        q = in_b.astype(float)
        q[rest] = scipy.sparse.linalg.spsolve(backward[rest][:, rest], -(backward[rest] @ q))
        return q.reshape(self.shape)

    def rate(self, a: Inside, b: Inside) -> float:
        """Transitions from `a` to `b` per time, over the time last spent in `a` (transition path theory)."""
        p, q = self.stationary().ravel(), self.committor(a, b).ravel()
        in_a = self.where(a)
        moves = self.generator.tocoo()
        leaves = in_a[moves.col] & ~in_a[moves.row]
        flow = (moves.data * p[moves.col] * q[moves.row])[leaves].sum()
        # Where the flow has no detailed balance, who came last from a is told by the reversed chain.
        return float(flow / (p * self._backward_committor(p, in_a, self.where(b))).sum())

    def _backward_committor(self, p: np.ndarray, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
        rest = np.flatnonzero(~(in_a | in_b))
        safe = np.maximum(p, 1e-300)
        reversed_ = (scipy.sparse.diags(1.0 / safe) @ self.generator @ scipy.sparse.diags(safe)).tocsc()
        q = in_a.astype(float)
        q[rest] = scipy.sparse.linalg.spsolve(reversed_[rest][:, rest], -(reversed_[rest] @ q))
        return q

    def flux(self) -> np.ndarray:
        """J at the centres, (axis, *grid's shape), probability per time and area: 0 everywhere in equilibrium."""
        p, widths = self.stationary().ravel(), [c[1] - c[0] for c in self.centres]
        number = np.arange(len(p)).reshape(self.shape)
        found = np.zeros((len(self.shape), *self.shape))
        for axis, width in enumerate(widths):
            low = np.take(number, range(self.shape[axis] - 1), axis)
            high = np.take(number, range(1, self.shape[axis]), axis)
            net = self._net(p, low.ravel(), high.ravel()).reshape(low.shape) * width / self.volume
            pad = [(0, 0)] * len(self.shape)
            left, right = list(pad), list(pad)
            left[axis], right[axis] = (1, 0), (0, 1)
            found[axis] = 0.5 * (np.pad(net, left) + np.pad(net, right))
        return found

    def entropy_production(self) -> float:
        """Of the stationary flow, per time, in units of Boltzmann's constant; 0 exactly in equilibrium."""
        p = self.stationary().ravel()
        moves = scipy.sparse.triu(self.generator + self.generator.T, 1).tocoo()
        forth = np.asarray(self.generator[moves.col, moves.row]).ravel() * p[moves.row]
        back = np.asarray(self.generator[moves.row, moves.col]).ravel() * p[moves.col]
        both = (forth > 0) & (back > 0)
        return float(((forth - back)[both] * np.log(forth[both] / back[both])).sum())

    def _net(self, p: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        forth = np.asarray(self.generator[high, low]).ravel() * p[low]
        return forth - np.asarray(self.generator[low, high]).ravel() * p[high]


def fokker_planck(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise | Callable[[System], AbstractNoise],
    box: tuple[Numbers, Numbers],
    cells: int | tuple[int, ...],
    treatment: Treatment | Perturbation | str = NONE,
) -> Grid:
    """The chain of a model of 1 to 3 free species under noise.

    **Arguments:** `noise`: `additive(D, species)` or a function of the system such as
    `functools.partial(chemical, size=100)`; `box`: lowest and highest, (species,) each, where the walls are;
    `cells`: per axis.

    Good values: cells narrow enough that `h |f| / D < 1` in the valleys; a box whose walls hold less than 1e-6 of the
    mass (`at_walls`).

    **Returns** a `Grid`. **Raises** `E_USAGE` for more than 3 free species, conserved totals, a noise that is not
    diagonal or vanishes in the box, and too many cells; `E_BOUNDS`.
    """
    system = system_of(model, treatment)
    basis = np.asarray(system.basis)
    names = tuple(np.array(system.kinetics.table.species)[basis.argmax(axis=0)].tolist())
    count = basis.shape[1]
    low, high = (np.broadcast_to(np.asarray(b, dtype=float), (count,)) for b in box)
    shape = (cells,) * count if isinstance(cells, int) else tuple(cells)
    with Problems() as problems:
        if not (1 <= count <= 3 and ((basis == 0) | (basis == 1)).all()):
            problems.add(
                "E_USAGE",
                f"A grid needs 1 to 3 free species without conserved totals, and this model has {count}; hold the "
                "others, or use action paths or ensembles.",
            )
        if len(shape) != count or min(shape, default=0) < 3 or np.prod(shape, dtype=float) > _MOST_CELLS:
            problems.add("E_USAGE", f"Argument `cells` {shape} needs 3 or more per axis and {_MOST_CELLS} in all.")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            problems.add("E_BOUNDS", f"Argument `box` must be finite and increasing, but is {low} to {high}.")
    made = noise if isinstance(noise, AbstractNoise) else noise(system)
    widths = (high - low) / shape
    centres = tuple(lo + w * (np.arange(n) + 0.5) for lo, w, n in zip(low, widths, shape, strict=True))
    number = np.arange(int(np.prod(shape))).reshape(shape)
    rows, columns, rates = [], [], []
    for axis in range(count):
        along = list(centres)
        along[axis] = centres[axis][:-1] + 0.5 * widths[axis]
        faces = np.stack([a.ravel() for a in np.meshgrid(*along, indexing="ij")], axis=1)
        drift, spread, mixed = (np.asarray(a) for a in _at_faces(system, made, jnp.asarray(faces), axis))
        _check_noise(spread, mixed)
        z = widths[axis] * drift / spread
        first = np.take(number, range(shape[axis] - 1), axis).ravel()
        second = np.take(number, range(1, shape[axis]), axis).ravel()
        pace = spread / widths[axis] ** 2
        rows += [second, first]
        columns += [first, second]
        rates += [pace * _bernoulli(-z), pace * _bernoulli(z)]
    row, column, rate = (np.concatenate(parts) for parts in (rows, columns, rates))
    size = number.size
    moves = scipy.sparse.coo_matrix((rate, (row, column)), shape=(size, size)).tocsc()
    generator = moves - scipy.sparse.diags(np.asarray(moves.sum(axis=0)).ravel())
    return Grid(centres, generator.tocsc(), names, repr_noise(made), system.kinetics.time_unit)


def repr_noise(noise: AbstractNoise) -> str:
    """A noise in words, exact enough that equal words mean equal noises."""
    leaves = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(noise)]
    return f"{type(noise).__name__.lower()} noise {leaves[0]}"


@eqx.filter_jit
def _at_faces(
    system: System, noise: AbstractNoise, faces: Float[Array, "face free"], axis: int
) -> tuple[Float[Array, " face"], Float[Array, " face"], Float[Array, " face"]]:
    """Along one axis: the drift less the gradient of D, D, and the largest entry of D beside the diagonal."""

    def one(y: Float[Array, " free"]) -> tuple[Array, Array, Array]:
        unit = jnp.zeros_like(y).at[axis].set(1.0)
        matrix, slope = jax.jvp(lambda y: noise.diffusion(system, y), (y,), (unit,))
        drift = system.force(y, jnp.zeros(0, y.dtype))[axis] - slope[axis, axis]
        mixed = jnp.max(jnp.abs(matrix[axis].at[axis].set(0.0)))
        return drift, matrix[axis, axis], mixed

    return jax.vmap(one)(faces)


def _check_noise(spread: np.ndarray, mixed: np.ndarray) -> None:
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise PinnsimError.of("E_USAGE", "The noise vanishes or is not finite in the box; move the box.")
    if (mixed > 1e-9 * spread).any():
        raise PinnsimError.of(
            "E_USAGE", "The noise couples species, which this grid cannot hold; use action paths or ensembles."
        )


def _bernoulli(z: np.ndarray) -> np.ndarray:
    """z / (e^z - 1), without loss of digits near 0 and without overflow."""
    small = np.abs(z) < 1e-5
    safe = np.where(small, 1.0, z)
    with np.errstate(over="ignore"):
        return np.where(small, 1.0 - 0.5 * z, safe / np.expm1(safe))


def _stationary(generator: scipy.sparse.csc_matrix) -> np.ndarray:
    """The null vector of a generator, positive, sum 1."""
    size = generator.shape[0]
    anchor = size // 2
    for _ in range(2):
        # Relative to one cell, the rest solves a regular system; from the likeliest cell no tail is lost.
        rest = np.delete(np.arange(size), anchor)
        p = np.ones(size)
        # Without pivots every term of the elimination has one sign (an M-matrix), so far tails keep their digits.
        factors = scipy.sparse.linalg.splu(
            -generator[rest][:, rest], "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        p[rest] = factors.solve(generator[rest][:, [anchor]].toarray().ravel())
        # From far in a tail the system is singular to rounding, and what comes out is the law times any number.
        anchor = int(np.abs(p).argmax())
    p = np.maximum(p, 0.0)
    return p / p.sum()
