"""First passages on a line, by quadrature: exit times, committors, the stationary law, and what Kramers makes of them.

For `dX = f dt + sqrt(2 D(x)) dW` with scale density `s(x) = exp(-int f / D)` and speed density `m = 1 / (D s)`,

    T(x -> b) = int_x^b s(y) int_l^y m(z) dz dy          l: the reflecting wall (far below)
    q(x)      = int_a^x s / int_a^b s                     reaching b before a
    p(x)      = m(x) / int m                              stationary

integrated on panels of Gauss-Legendre points, exactly to rounding for smooth flows; exponents are kept apart from
numbers, so that barriers of hundreds of D do not overflow. Kramers' time for a well at x0 and a top at x1 is

    T_K = 2 pi / sqrt(|f'(x0)| f'(x1)) exp(int_x1^x0 f / D),

the prefactor and the exponent reported apart: it is off by some per cent where the barrier is a few D. Convention as
everywhere: `dX = f dt + sqrt(2 D) dW`, `p ~ exp(-Phi)`.

Source: C. W. Gardiner, Handbook of Stochastic Methods (2004), sections 5.2.7 and 5.2.8; N. G. van Kampen, Stochastic
Processes in Physics and Chemistry (2007), section XIII.2.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_NODES = 12


@dataclasses.dataclass(frozen=True)
class Kramers:
    """An exit time in parts: `prefactor`, per time unit (a time), `exponent`: barrier over noise, and their `time`."""

    prefactor: float
    exponent: float

    @property
    def time(self) -> float:
        """prefactor * exp(exponent)."""
        return float(self.prefactor * np.exp(self.exponent))


@dataclasses.dataclass(frozen=True)
class Line:
    """A one-dimensional system between two reflecting walls, on panels of quadrature points.

    **Arguments:** `edges`: (panel + 1,); `points`, `weights`: (panel, node); `upto`: (node, node), integrals from a
    panel's left edge to each node; `phi`, `slope`, `spread`: (panel, node), `-int f / D` (0 at its lowest), f, D.
    """

    __repr__ = brief

    edges: np.ndarray
    points: np.ndarray
    weights: np.ndarray
    upto: np.ndarray
    phi: np.ndarray
    slope: np.ndarray
    spread: np.ndarray
    time_unit: str

    def exit_time(self, start: float, target: float) -> float:
        """Mean time from `start` to `target`, in the model's time unit."""
        self._inside(start, target)
        line = self if start <= target else self._mirrored()
        low, high = (start, target) if start <= target else (-start, -target)
        speed = line._cumulative(-line.phi - np.log(line.spread))
        # log int_l^y m + phi(y): both exponents are added before anything is raised.
        return float(np.exp(line._between(line.phi + speed, low, high)))

    def committor(self, x: float, a: float, b: float) -> float:
        """Probability of reaching `b` before `a` from x between them."""
        self._inside(x, a, b)
        low, high = min(a, b), max(a, b)
        if not low <= x <= high:
            raise PinnsimError.of("E_USAGE", f"The state {x:g} must lie between the sets at {low:g} and {high:g}.")
        if x in (low, high):
            return float(x == b)
        reached = np.exp(self._between(self.phi, low, x) - self._between(self.phi, low, high))
        return float(reached if b > a else 1.0 - reached)

    def mean(self, power: int) -> float:
        """Stationary mean of x^power."""
        density = np.exp(-self.phi - np.log(self.spread)) * self.weights
        return float((density * self.points**power).sum() / density.sum())

    def kramers(self, well: float, top: float) -> Kramers:
        """Kramers' time from a well across a top to the valley beyond; to the top itself it is half of that.

        **Raises** `E_USAGE` where `well` is no stable or `top` no unstable fixed point.
        """
        self._inside(well, top)
        slopes = [self._at(self.slope, x, 1) for x in (well, top)]
        if not (slopes[0] < 0 < slopes[1]):
            raise PinnsimError.of("E_USAGE", f"Kramers needs a well and a top, but f' is {slopes[0]:g}, {slopes[1]:g}.")
        height = self._at(self.phi, top, 0) - self._at(self.phi, well, 0)
        return Kramers(float(2.0 * np.pi / np.sqrt(-slopes[0] * slopes[1])), float(height))

    def _inside(self, *states: float) -> None:
        for x in states:
            if not self.edges[0] <= x <= self.edges[-1]:
                raise PinnsimError.of(
                    "E_BOUNDS", f"The state {x:g} lies outside the walls {self.edges[0]:g} and {self.edges[-1]:g}."
                )

    def _mirrored(self) -> "Line":
        turned = {name: getattr(self, name)[::-1, ::-1] for name in ("points", "weights", "phi", "slope", "spread")}
        turned["points"], turned["slope"] = -turned["points"], -turned["slope"]
        return dataclasses.replace(self, edges=-self.edges[::-1], **turned)

    def _cumulative(self, log: np.ndarray) -> np.ndarray:
        """log of the integral of exp(log) from the left wall to every node, (panel, node)."""
        top = log.max(axis=1, keepdims=True)
        scaled = np.exp(log - top)
        half = 0.5 * np.diff(self.edges)[:, None]
        inside = np.maximum(half * (scaled @ self.upto.T), 1e-300)
        whole = np.log((scaled * self.weights).sum(axis=1)) + top[:, 0]
        before = np.concatenate([[-np.inf], np.logaddexp.accumulate(whole)[:-1]])
        return np.logaddexp(before[:, None], np.log(inside) + top)

    def _between(self, log: np.ndarray, low: float, high: float) -> float:
        """log of the integral of exp(log) between two states."""
        if low == high:
            return -np.inf
        nodes, weights = np.polynomial.legendre.leggauss(2 * _NODES)
        total = -np.inf
        for k in range(max(int(np.searchsorted(self.edges, low, "right")) - 1, 0), len(self.edges) - 1):
            left, right = max(low, self.edges[k]), min(high, self.edges[k + 1])
            if left >= right:
                break
            x = 0.5 * (left + right) + 0.5 * (right - left) * nodes
            values = _interpolated(self.points[k], log[k], x)
            top = values.max()
            part = np.log((np.exp(values - top) * weights).sum() * 0.5 * (right - left)) + top
            total = np.logaddexp(total, part)
        return float(total)

    def _at(self, values: np.ndarray, x: float, derivative: int) -> float:
        k = int(np.clip(np.searchsorted(self.edges, x, "right") - 1, 0, len(self.edges) - 2))
        series = np.polynomial.Polynomial.fit(self.points[k], values[k], _NODES - 1)
        return float(series.deriv(derivative)(x) if derivative else series(x))


def line(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    walls: tuple[float, float],
    treatment: Treatment | Perturbation | str = NONE,
    *,
    panels: int = 256,
) -> Line:
    """A model of one free species under noise, between reflecting walls.

    **Arguments:** `noise`: `additive(D, 1)` or `chemical(system, size)`; `walls`: so far out that the cell is never
    there (in the double well at D = 0.05, -3 and 3); `panels`: of 12 quadrature points.

    **Raises** `E_USAGE` for other than one free species or a noise that vanishes between the walls, `E_BOUNDS`.
    """
    system = system_of(model, treatment)
    if system.basis.shape[1] != 1:
        raise PinnsimError.of(
            "E_USAGE", f"Quadrature needs one free species, and there are {system.basis.shape[1]}; use fokker_planck."
        )
    if not (np.isfinite(walls).all() and walls[0] < walls[1]):
        raise PinnsimError.of("E_BOUNDS", f"Argument `walls` must be finite and increasing, but is {walls}.")
    edges = np.linspace(walls[0], walls[1], panels + 1)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(edges)[:, None]
    points = edges[:-1, None] + half * (1.0 + nodes)
    slope, spread = (np.asarray(a).reshape(points.shape) for a in _local(system, noise, jnp.asarray(points.ravel())))
    if not (np.isfinite(slope).all() and np.isfinite(spread).all() and (spread > 0).all()):
        raise PinnsimError.of("E_USAGE", "The flow is not finite, or the noise vanishes, between the walls.")
    upto = _upto(nodes)
    ratio = -slope / spread
    whole = (ratio * weights).sum(axis=1) * half[:, 0]
    phi = half * (ratio @ upto.T) + np.concatenate([[0.0], np.cumsum(whole)[:-1]])[:, None]
    return Line(edges, points, half * weights, upto, phi - phi.min(), slope, spread, system.kinetics.time_unit)


@eqx.filter_jit
def _local(system: System, noise: AbstractNoise, points: Float[Array, " point"]) -> tuple[Array, Array]:
    """f and D at every point."""

    def one(x: Float[Array, ""]) -> tuple[Array, Array]:
        y = x[None]
        return system.force(y, jnp.zeros(0, y.dtype))[0], noise.diffusion(system, y)[0, 0]

    return jax.vmap(one)(points)


def _upto(nodes: np.ndarray) -> np.ndarray:
    """(node, node): integrals over [-1, node_i] of the polynomial through values at all nodes."""
    powers = np.polynomial.legendre.legvander(nodes, len(nodes) - 1)
    integrals = np.stack(
        [
            np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(unit, lbnd=-1))
            for unit in np.eye(len(nodes))
        ],
        axis=1,
    )
    return integrals @ np.linalg.inv(powers)


def _interpolated(points: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The polynomial through a panel's values, in Legendre's basis."""
    left, right = points[0], points[-1]
    to = (2.0 * points - left - right) / (right - left)
    series = np.linalg.solve(np.polynomial.legendre.legvander(to, len(points) - 1), values)
    return np.polynomial.legendre.legval((2.0 * x - left - right) / (right - left), series)
