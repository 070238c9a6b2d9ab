"""How soon a hill is crossed where there is no gradient: the mean exit time with its prefactor, along the way over.

For `dX = b dt + sqrt(2 D) dW` with constant D and a quasi-potential Phi (`p ~ exp(-Phi)`), split the flow as
`b = -D grad Phi + l` with `<l, grad Phi> = 0`. Over a saddle of index 1 the mean time from valley to valley is, for
weak noise,

    T = 2 pi / lambda sqrt(|det H_saddle| / det H_valley) exp(int div l dt) exp(Phi_saddle - Phi_valley),

lambda being the saddle's unstable rate, H the Hessians of Phi, and the integral along the most probable way up,
`x' = D grad Phi + l`. In a gradient system l = 0, and this is Eyring's and Kramers' time.

All of it follows from the path of least action. With its momentum `p = grad Phi = D^-1 (x' - b) / 2`, at the speed
`|x'| = |b|` (norms of D^-1), and A = db/dx, the Hessian H along the path obeys

    dH/dt = -(sum_k p_k grad grad b_k + A' H + H A + 2 H D H),      H x' = -A' p,      div l = tr A + tr(D H),

of which the second equation, exact along the path, replaces the first in the path's direction, where that is unstable.
At both ends `H^-1 = C` with `A C + C A' + 2 D = 0`.

Source: F. Bouchet and J. Reygner, Ann. Henri Poincare 17:3499 (2016), equation 1.10.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.action import ActionPath
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, Vector, jacobian, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.treatment import NONE, Treatment

_PARTS = 8  # steps of the Hessian between two points of the path
_CUT = 2  # points at each end on which the divergence is continued
_NOISE = 1e-9  # relative change of D along the path up to which it is constant

Square = Float[Array, "free free"]


@dataclasses.dataclass(frozen=True)
class ExitTime:
    """The mean time to leave a valley over one saddle, for weak noise.

    **Arguments:** `prefactor`: per unit of the model's time; `action`: Phi_saddle - Phi_valley, dimensionless;
    `divergence`: `int div l dt`, 0 where the transverse part has none; `rate`: the saddle's unstable rate.
    """

    prefactor: float
    action: float
    divergence: float
    rate: float

    @property
    def time(self) -> float:
        """prefactor * exp(action); over several ways the inverses add up."""
        return float(self.prefactor * np.exp(self.action))


def exit_time(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    path: ActionPath,
    treatment: Treatment | Perturbation | str = NONE,
) -> ExitTime:
    """The mean exit time along a path of least action, with its prefactor, without a gradient too.

    `T = 2 pi / lambda sqrt(|det H_saddle| / det H_valley) exp(int div l dt) exp(S)`.

    **Arguments:** `noise`: constant, `dX = b dt + sqrt(2 D) dW`; `path`: of `minimum_action` from an attractor to a
    saddle of index 1. Good values: 257 points for a prefactor to about 1 %.

    **Returns** `ExitTime`: an asymptotic value, off by a share of the order of 1 / action. **Raises** `E_USAGE` for
    noise that is not constant, and for ends that are not an attractor and a saddle of index 1.

    Source: Bouchet and Reygner, Ann. Henri Poincare 17:3499 (2016).
    """
    states = np.asarray(path.points, dtype=float)
    system = system_of(model, treatment, states[0])
    points = jax.vmap(system.free)(jnp.asarray(states))
    spread = np.asarray(jax.vmap(lambda y: noise.diffusion(system, y))(points))
    if np.abs(spread - spread[0]).max() > _NOISE * np.abs(spread[0]).max():
        raise PinnsimError.of(
            "E_USAGE", "The prefactor of an exit time is known for constant noise only; give it as additive(D)."
        )
    ends = [np.asarray(jacobian(system, points[k], jnp.zeros(0, points.dtype))) for k in (0, -1)]
    rates = [np.linalg.eigvals(a).real for a in ends]
    if rates[0].max() >= 0 or (rates[1] > 0).sum() != 1:
        above = [int((rate > 0).sum()) for rate in rates]
        raise PinnsimError.of(
            "E_USAGE",
            f"The path must lead from an attractor to a saddle of index 1, but its ends have {above[0]} and {above[1]} "
            "unstable directions.",
        )
    low, high = (np.linalg.inv(_covariance(a, spread[0])) for a in ends)
    divergence = float(_divergence(system, jnp.asarray(spread[0]), points, jnp.asarray(low)))
    rate = float(rates[1].max())
    curvature = np.sqrt(abs(np.linalg.det(high)) / abs(np.linalg.det(low)))
    return ExitTime(float(2 * np.pi / rate * curvature * np.exp(divergence)), path.action, divergence, rate)


def _covariance(slope: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """C of `A C + C A' + 2 D = 0`, symmetric. Where two rates of a saddle cancel, what is then free is 0."""
    unit = np.eye(len(slope))
    both = np.kron(slope, unit) + np.kron(unit, slope)
    found = np.linalg.lstsq(both, -2.0 * spread.ravel(), rcond=1e-10)[0].reshape(slope.shape)
    return 0.5 * (found + found.T)


class _Local(eqx.Module):
    """What the Hessian's equation needs at a point of the path, per unit of length along it."""

    tangent: Vector
    known: Vector
    push: Square
    slope: Square
    pace: Scalar


@eqx.filter_jit
def _divergence(system: System, spread: Square, points: Float[Array, "point free"], low: Square) -> Scalar:
    """`int div l dt` along the path."""
    none = jnp.zeros(0, points.dtype)
    steps = jnp.linalg.norm(jnp.diff(points, axis=0), axis=1)
    width = jnp.mean(steps)
    inverse = jnp.linalg.inv(spread)

    def at(y: Vector, along: Vector) -> _Local:
        along = along / jnp.linalg.norm(along)
        force, slope = system.force(y, none), jacobian(system, y, none)
        pace = jnp.sqrt(jnp.sum(force * (inverse @ force)) / jnp.sum(along * (inverse @ along)))
        momentum = 0.5 * inverse @ (pace * along - force)
        push = jax.hessian(lambda y: jnp.sum(momentum * system.force(y, none)))(y)
        return _Local(along, -(slope.T @ momentum) / pace, push, slope, pace)

    def fixed(hessian: Square, here: _Local) -> Square:
        """With what is known along the path."""
        across = jnp.eye(points.shape[1], dtype=points.dtype) - jnp.outer(here.tangent, here.tangent)
        both = jnp.outer(across @ here.known, here.tangent)
        along = jnp.sum(here.tangent * here.known) * jnp.outer(here.tangent, here.tangent)
        return across @ hessian @ across + both + both.T + along

    def change(hessian: Square, here: _Local) -> Square:
        turned = here.slope.T @ hessian
        return -(here.push + turned + turned.T + 2.0 * hessian @ spread @ hessian) / here.pace

    def leaving(slope: Square, here: _Local) -> Square:
        """The change of H at the path's first point, to first order in its distance s, where `s' = pace`."""
        unit = jnp.eye(points.shape[1], dtype=points.dtype)
        back, turned = (slope + 2.0 * spread @ low).T, (here.slope - slope).T @ low
        both = here.pace / steps[0] * jnp.kron(unit, unit) + jnp.kron(back, unit) + jnp.kron(unit, back)
        right = -(here.push + turned + turned.T)
        return jnp.linalg.solve(both, right.ravel()).reshape(right.shape)

    inner = jax.vmap(at)(points[1:-1], points[2:] - points[:-2])
    count = points.shape[0] - 2
    share = width / _PARTS

    def segment(hessian: Square, ends: tuple[_Local, _Local, Array]) -> tuple[Square, Square]:
        first, last, late = ends

        def between(part: Scalar) -> _Local:
            return jax.tree.map(lambda a, b: (1.0 - part) * a + part * b, first, last)

        def step(hessian: Square, number: Array) -> tuple[Square, None]:
            left, middle, right = (between((number + k) / _PARTS) for k in (0.0, 0.5, 1.0))
            a = change(hessian, left)
            b = change(hessian + 0.5 * share * a, middle)
            c = change(hessian + 0.5 * share * b, middle)
            d = change(hessian + share * c, right)
            new = hessian + share / 6.0 * (a + 2.0 * b + 2.0 * c + d)
            return jnp.where(late, fixed(new, right), new), None

        found, _ = jax.lax.scan(step, hessian, jnp.arange(_PARTS, dtype=points.dtype))
        return found, found

    first, last = (jax.tree.map(lambda a, cut=cut: a[cut], inner) for cut in (slice(None, -1), slice(1, None)))
    # Near the valley the equation is stable in every direction, and the path's own direction is known least.
    late = jnp.arange(count - 1) > count // 2
    begin = low + leaving(jacobian(system, points[0], none), jax.tree.map(lambda a: a[0], inner))
    _, found = jax.lax.scan(segment, begin, (first, last, late))
    hessians = jnp.concatenate([begin[None], found])
    divergence = jnp.trace(inner.slope, axis1=1, axis2=2) + jnp.einsum("ij,kji->k", spread, hessians)
    rate = divergence / inner.pace
    # Numerator and denominator vanish at the ends and their ratio does not: there it is continued as a parabola.
    place = jnp.arange(points.shape[0], dtype=points.dtype)
    whole = jnp.concatenate([rate[:1], rate, rate[-1:]])
    cut = _CUT

    def parabola(near: int, step: int) -> Array:
        a, b, c = whole[near], whole[near + step], whole[near + 2 * step]
        t = (place - place[near]) / step
        return a + t * (b - a) + 0.5 * t * (t - 1.0) * (c - 2.0 * b + a)

    whole = jnp.where(place < cut, parabola(cut, cut), whole)
    whole = jnp.where(place > place[-1 - cut], parabola(points.shape[0] - 1 - cut, -cut), whole)
    return jnp.sum(0.5 * (whole[1:] + whole[:-1]) * steps)
