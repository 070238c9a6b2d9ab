"""Where fixed points change their number or kind: augmented systems whose regular solutions are the special points.

With the flow `f(y, p)`, J = f_y:

    fold            f = 0,  J a = 0,  l'a = 1                               (y, a, p)
    branch point    f + m b = 0,  J'b = 0,  f_p'b = 0,  b'b = 1             (y, b, m, p), m = 0 at the solution
    Hopf            f = 0,  J u + w v = 0,  J v - w u = 0,  phase and size   (y, u, v, w, p)
    cusp            f = 0,  J a = 0,  l'a = 1,  b'f_yy(a, a) = 0            (y, a, p1, p2), J'b = 0

All derivatives are exact, by automatic differentiation, so Newton's method ends at rounding. A fold's coefficient
`b'f_yy(a, a) / 2` (with `b'a = 1`) is 0 at a cusp; a Hopf point's first Lyapunov coefficient is negative where a stable
cycle is born (supercritical), positive where an unstable one is.

Sources: G. Moore and A. Spence, SIAM J. Numer. Anal. 17:567 (1980); Yu. A. Kuznetsov, Elements of Applied Bifurcation
Theory (2004), sections 10.2 and 3.5 (equation 5.39 for the coefficient in n dimensions).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.landscape.arclength import Corrected, Unknowns, newton
from pinnsim.landscape.system import System, Vector, jacobian
from pinnsim.shapes import Scalar

_MOST = 30


class Located(NamedTuple):
    """A special point: free coordinates, knob values, frequency (Hopf) or 0, coefficient, and whether Newton's method
    ended; `null`: (free,), the direction in which things happen."""

    y: np.ndarray
    values: np.ndarray
    frequency: float
    coefficient: float
    null: np.ndarray
    converged: bool


class FoldCondition(eqx.Module):
    """The fold system as a function of z = (y, a, values): one knob makes it square, two make a curve."""

    system: System
    along: Vector

    def __call__(self, z: Unknowns) -> Float[Array, " equation"]:
        n = self.along.shape[0]
        y, a, values = z[:n], z[n : 2 * n], z[2 * n :]
        force, change = jax.jvp(lambda y: self.system.force(y, values), (y,), (a,))
        return jnp.concatenate([force, change, (jnp.sum(self.along * a) - 1.0)[None]])


class PointCondition(eqx.Module):
    """`f = 0` as a function of z = (y, value)."""

    system: System

    def __call__(self, z: Unknowns) -> Float[Array, " equation"]:
        return self.system.force(z[:-1], z[-1:])


class BranchCondition(eqx.Module):
    """The system of branch points as a function of z = (y, b, m, value)."""

    system: System
    along: Vector

    def __call__(self, z: Unknowns) -> Float[Array, " equation"]:
        n = self.along.shape[0]
        y, b, m, value = z[:n], z[n : 2 * n], z[2 * n], z[2 * n + 1 :]
        force, pull = jax.vjp(self.system.force, y, value)
        return jnp.concatenate([force + m * b, *pull(b), (jnp.sum(b * b) - 1.0)[None]])


class HopfCondition(eqx.Module):
    """The system of Hopf points as a function of z = (y, u, v, w, value); `along`, `across`: the wave at the start."""

    system: System
    along: Vector
    across: Vector

    def __call__(self, z: Unknowns) -> Float[Array, " equation"]:
        n = self.along.shape[0]
        y, u, v, w, value = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n], z[3 * n + 1 :]
        matrix = jacobian(self.system, y, value)
        size = jnp.sum(self.along * u + self.across * v) - 1.0
        phase = jnp.sum(self.along * v - self.across * u)
        waves = (matrix @ u + w * v, matrix @ v - w * u)
        return jnp.concatenate([self.system.force(y, value), *waves, jnp.stack([size, phase])])


class CuspCondition(eqx.Module):
    """The system of cusps as a function of z = (y, a, values); `along`, `left`: null vectors at the start."""

    system: System
    along: Vector
    left: Vector

    def __call__(self, z: Unknowns) -> Float[Array, " equation"]:
        n = self.along.shape[0]
        y, a, values = z[:n], z[n : 2 * n], z[2 * n :]
        matrix = jacobian(self.system, y, values)
        # The left null vector by bordering, which is regular at the cusp.
        corner = jnp.zeros((1, 1), z.dtype)
        bordered = jnp.block([[matrix.T, self.along[:, None]], [self.left[None], corner]])
        b = jnp.linalg.solve(bordered, jnp.zeros(n + 1, z.dtype).at[n].set(1.0))[:n]
        curved = jnp.sum(b * _second(self.system, y, values, a, a))
        ends = jnp.stack([jnp.sum(self.along * a) - 1.0, curved])
        return jnp.concatenate([self.system.force(y, values), matrix @ a, ends])


@eqx.filter_jit
def _solve(condition: eqx.Module, z: Unknowns, scale: Unknowns, tolerance: Scalar) -> Corrected:
    return newton(condition, z, scale, tolerance, _MOST)  # type: ignore[arg-type]


@eqx.filter_jit
def _matrix(system: System, y: Vector, values: Array) -> Array:
    return jacobian(system, y, values)


@eqx.filter_jit
def _seconds(system: System, y: Vector, values: Array, a: Array, b: Array) -> Array:
    """f_yy(a_k, b_k) of every pair of directions, (pair, free)."""
    return jax.vmap(lambda a, b: _second(system, y, values, a, b))(a, b)


@eqx.filter_jit
def _thirds(system: System, y: Vector, values: Array, a: Array) -> Array:
    """f_yyy(a_k, a_k, a_k) of every direction, (direction, free)."""

    def third(a: Vector) -> Array:
        return jax.jvp(lambda y: _second(system, y, values, a, a), (y,), (a,))[1]

    return jax.vmap(third)(a)


def _second(system: System, y: Vector, values: Array, a: Vector, b: Vector) -> Vector:
    def slope(y: Vector) -> Vector:
        return jax.jvp(lambda x: system.force(x, values), (y,), (a,))[1]

    return jax.jvp(slope, (y,), (b,))[1]


def _null_vectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right and left singular vectors of the smallest singular value."""
    left, _, right = np.linalg.svd(matrix)
    return right[-1], left[:, -1]


def _fold_coefficient(system: System, y: np.ndarray, values: np.ndarray) -> float:
    """`b'f_yy(a, a) / 2` with |a| = 1, b'a = 1: its sign tells on which side the two points are."""
    a, b = _null_vectors(np.asarray(_matrix(system, jnp.asarray(y), jnp.asarray(values))))
    direction = jnp.asarray(a)[None]
    curved = np.asarray(_seconds(system, jnp.asarray(y), jnp.asarray(values), direction, direction))[0]
    return float(0.5 * (b @ curved) / (a @ b))


def locate_fold(system: System, y: np.ndarray, value: float, scale: np.ndarray, tolerance: float) -> Located:
    """The fold near a point. **Arguments:** `scale`: (free + 1,), of y and the knob."""
    n = len(y)
    a, _ = _null_vectors(np.asarray(_matrix(system, jnp.asarray(y), jnp.asarray([value]))))
    sizes = np.concatenate([scale[:n], np.ones(n), scale[n:]])
    begin = np.concatenate([y, a, [value]])
    found = _solved(FoldCondition(system, jnp.asarray(a)), begin, sizes, tolerance)
    z = np.asarray(found.z)
    y, a, values = z[:n], z[n : 2 * n], z[2 * n :]
    coefficient = _fold_coefficient(system, y, values) if bool(found.converged) else np.nan
    return Located(y, values, 0.0, coefficient, a, bool(found.converged))


def locate_branch(system: System, y: np.ndarray, value: float, scale: np.ndarray, tolerance: float) -> Located:
    """The branch point near a point; its coefficient is the defect m, which must vanish."""
    n = len(y)
    _, b = _null_vectors(np.asarray(_matrix(system, jnp.asarray(y), jnp.asarray([value]))))
    sizes = np.concatenate([scale[:n], np.ones(n + 1), scale[n:]])
    begin = np.concatenate([y, b, [0.0, value]])
    found = _solved(BranchCondition(system, jnp.asarray(b)), begin, sizes, tolerance)
    z = np.asarray(found.z)
    y, values, defect = z[:n], z[2 * n + 1 :], float(z[2 * n])
    matrix = np.asarray(_matrix(system, jnp.asarray(y), jnp.asarray(values)))
    real = bool(found.converged) and abs(defect) <= 1e-7 * (1.0 + np.abs(matrix).max())
    return Located(y, values, 0.0, defect, _null_vectors(matrix)[0] if real else y, real)


def locate_hopf(
    system: System, y: np.ndarray, value: float, wave: np.ndarray, frequency: float, scale: np.ndarray, tolerance: float
) -> Located:
    """The Hopf point near a point, from the eigenvector and frequency of the pair that crosses."""
    n = len(y)
    u, v = wave.real, wave.imag
    sizes = np.concatenate([scale[:n], np.ones(2 * n), [abs(frequency)], scale[n:]])
    begin = np.concatenate([y, u, v, [frequency, value]])
    found = _solved(HopfCondition(system, jnp.asarray(u), jnp.asarray(v)), begin, sizes, tolerance)
    z = np.asarray(found.z)
    y, w, values = z[:n], float(z[3 * n]), z[3 * n + 1 :]
    real = bool(found.converged)
    first = lyapunov_coefficient(system, y, values, z[n : 2 * n] + 1j * z[2 * n : 3 * n]) if real else np.nan
    return Located(y, values, abs(w), first, z[n : 2 * n], real and abs(w) > 1e-6 * abs(frequency))


def lyapunov_coefficient(system: System, y: np.ndarray, values: np.ndarray, wave: np.ndarray) -> float:
    """First Lyapunov coefficient at a Hopf point: negative where the cycle that is born is stable."""
    point, knobs = jnp.asarray(y), jnp.asarray(values)
    matrix = np.asarray(_matrix(system, point, knobs))
    q = wave / np.linalg.norm(wave)
    # The wave belongs to +i w or -i w as it was found; the sign follows from the matrix itself.
    w = float(np.imag(np.conj(q) @ matrix @ q))
    unit = np.eye(len(y))
    p = np.conj(np.linalg.svd(matrix.T - 1j * w * unit)[2][-1])
    p = p / (p @ q)

    def bilinear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left = jnp.asarray(np.stack([a.real, a.imag, a.real, a.imag]))
        right = jnp.asarray(np.stack([b.real, b.imag, b.imag, b.real]))
        rr, ii, ri, ir = np.asarray(_seconds(system, point, knobs, left, right))
        return rr - ii + 1j * (ri + ir)

    # C(q, q, conj q) from the cubic forms of u, v, u + v and u - v.
    u, v = q.real, q.imag
    cu, cv, plus, minus = np.asarray(_thirds(system, point, knobs, jnp.asarray(np.stack([u, v, u + v, u - v]))))
    uuv, uvv = (plus - minus - 2.0 * cv) / 6.0, (plus + minus - 2.0 * cu) / 6.0
    third = (cu + uvv) + 1j * (uuv + cv)
    inner = np.linalg.solve(matrix, bilinear(q, np.conj(q)))
    outer = np.linalg.solve(2j * w * unit - matrix, bilinear(q, q))
    total = third - 2.0 * bilinear(q, inner) + bilinear(np.conj(q), outer)
    return float(np.real(p @ total) / (2.0 * abs(w)))


def locate_cusp(system: System, y: np.ndarray, values: np.ndarray, scale: np.ndarray, tolerance: float) -> Located:
    """The cusp near a fold of two knobs. **Arguments:** `scale`: (free + 2,)."""
    n = len(y)
    a, b = _null_vectors(np.asarray(_matrix(system, jnp.asarray(y), jnp.asarray(values))))
    sizes = np.concatenate([scale[:n], np.ones(n), scale[n:]])
    condition = CuspCondition(system, jnp.asarray(a), jnp.asarray(b))
    found = _solved(condition, np.concatenate([y, a, values]), sizes, tolerance)
    z = np.asarray(found.z)
    y, a, values = z[:n], z[n : 2 * n], z[2 * n :]
    coefficient = _fold_coefficient(system, y, values) if bool(found.converged) else np.nan
    return Located(y, values, 0.0, coefficient, a, bool(found.converged))


def _solved(condition: eqx.Module, begin: np.ndarray, sizes: np.ndarray, tolerance: float) -> Corrected:
    return _solve(condition, jnp.asarray(begin), jnp.asarray(sizes), jnp.asarray(tolerance))


@eqx.filter_jit
def derivatives_along(system: System, points: Float[Array, "point unknown"]) -> Float[Array, "point free unknown"]:
    """[f_y, f_p] at every point of a curve."""
    return jax.vmap(jax.jacfwd(PointCondition(system)))(points)


def unstable_counts(jacobians: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues (largest real part first), how many have a positive real part, and how many of those are complex."""
    values = np.linalg.eigvals(jacobians).astype(complex)
    values = np.take_along_axis(values, np.argsort(-values.real, axis=-1, kind="stable"), axis=-1)
    up = values.real > 0
    size = np.abs(values).max(axis=-1, keepdims=True)
    return values, up.sum(axis=-1), (up & (np.abs(values.imag) > 1e-9 * size)).sum(axis=-1)
