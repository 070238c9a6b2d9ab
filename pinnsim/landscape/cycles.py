"""Limit cycles: found from a course that goes round, closed exactly, and judged by their Floquet multipliers.

A cycle is a state and a period with

    Phi_T(y) - y = 0,      f(y_k)'(y - y_k) = 0,

solved by Newton's method (shooting) with the exact derivative of the integrator's own map, `M = dPhi_T / dy`, the
monodromy matrix, and `f(Phi_T(y))` for the period. One eigenvalue of M is 1 (along the cycle); the cycle attracts
where all others, its Floquet multipliers, are inside the unit circle. Steps of Dormand and Prince's order-5 formula
are fixed within a period and doubled until the period no longer changes. `log |det M| = int_0^T tr J dt` (Liouville)
checks M.

Sources: Yu. A. Kuznetsov, Elements of Applied Bifurcation Theory (2004), section 10.1 for shooting; J. R. Dormand and
P. J. Prince, J. Comput. Appl. Math. 6:19 (1980).
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.system import System, Vector, jacobian, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, Times
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_STEP = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
SAMPLES = 256  # states kept of an orbit
_DOUBLINGS = 8
_ITERATIONS = 30
_NEUTRAL = 1e-6  # a multiplier so close to the unit circle is called neither stable nor unstable


@dataclasses.dataclass(frozen=True)
class Cycle:
    """A closed orbit.

    **Arguments:** `name`: "C1" ...; `period`: in the model's time unit; `times`: (sample,), from 0 to one period,
    `orbit`: (sample, species); `low`, `high`: (species,), extremes of each; `multipliers`: (free - 1,), Floquet
    multipliers, largest first; `stability`: "stable", "unstable" or "neutral"; `closure`: largest gap between begin and
    end of the orbit, as a share of its swing; `error`: relative change of the period when steps were last halved;
    `liouville`: gap of `log |det M|` from the integral of the divergence.
    """

    __repr__ = brief

    name: str
    period: float
    times: np.ndarray
    orbit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    multipliers: np.ndarray
    stability: str
    closure: float
    error: float
    liouville: float
    species: tuple[str, ...]
    time_unit: str

    @property
    def stable(self) -> bool:
        """Whether neighbouring courses come to the cycle."""
        return self.stability == "stable"

    @property
    def swing(self) -> np.ndarray:
        """(species,), how far each goes from its lowest to its highest value; never 0."""
        return np.maximum(self.high - self.low, 1e-9 * (1.0 + np.abs(self.high)))

    def gap(self, state: np.ndarray) -> float:
        """Distance of a state from the orbit: the largest difference in units of each coordinate's swing."""
        return float(gap_to(self.orbit, self.swing, state))


def gap_to(orbit: Any, swing: Any, state: Any) -> Any:
    """Distance of a state from an orbit of samples, in units of the swing; arrays of NumPy or of JAX.

    **Arguments:** `orbit`: (sample, species); `swing`, `state`: (species,).
    """
    # Between samples the orbit is taken as straight.
    a = orbit[:-1] / swing[None]
    along = orbit[1:] / swing[None] - a
    off = (state / swing)[None] - a
    share = ((off * along).sum(axis=1) / (along**2).sum(axis=1).clip(1e-300)).clip(0.0, 1.0)
    return abs(off - share[:, None] * along).max(axis=1).min()


def shoot(
    model: CellModel | AbstractKinetics,
    state: Numbers,
    period: float | int,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    tolerance: float | int = 1e-9,
    name: str = "C1",
) -> Cycle:
    """The limit cycle near a state and a period, stable or not.

    **Arguments:** `state`: (species,), near the cycle; `period`: a guess, within about a tenth; `treatment`: what acts
    for ever; `tolerance`: relative, of the period.

    **Raises** `E_SOLVER` where Newton's method does not close an orbit (or only that of a fixed point), `E_USAGE`.
    """
    found = close_orbit(
        system_of(model, treatment, state), np.asarray(state, float), float(period), float(tolerance), name
    )
    if found is None:
        raise PinnsimError.of(
            "E_SOLVER",
            f"No cycle closes near the given state with a period of about {float(period):g}; give a state on the "
            "cycle (a late state of a simulation) and a better period.",
        )
    return found


def close_orbit(system: System, state: np.ndarray, period: float, tolerance: float, name: str) -> Cycle | None:
    """`shoot` for a system; `None` where no orbit closes."""
    if not (np.isfinite(state).all() and np.isfinite(period) and period > 0):
        return None
    y, time = system.free(jnp.asarray(state)), jnp.asarray(period, dtype=float)
    before = np.inf
    for doubling in range(_DOUBLINGS):
        y_new, time_new, matrix, gap, converged = _closed(system, y, time, jnp.asarray(2**doubling, dtype=int))
        if not bool(converged):
            # Too few steps for a stiff orbit look like no orbit.
            continue
        y, time = y_new, time_new
        error = abs(float(time) - before) / float(time)
        before = float(time)
        if error < tolerance:
            return _cycle(system, y, time, 2**doubling, np.asarray(matrix), float(gap), error, name)
    return None


def _step(system: System, y: Vector, size: Scalar) -> Vector:
    none = jnp.zeros(0, y.dtype)
    slopes = [system.force(y, none)]
    for row in _STAGES:
        slopes.append(system.force(y + size * _weighted(row, slopes), none))
    return y + size * _weighted(_STEP, slopes)


def _weighted(row: tuple[float, ...], slopes: list[Array]) -> Array:
    total = row[0] * slopes[0]
    for weight, slope in zip(row[1:], slopes[1:], strict=False):
        total = total + weight * slope
    return total


def _orbit(
    system: System, y: Vector, time: Scalar, steps: Int[Array, ""]
) -> tuple[Vector, Float[Array, "sample free"]]:
    """The state after `time`, and the states at the ends of `SAMPLES` equal parts, by `steps` steps in each."""
    size = time / (SAMPLES * steps).astype(time.dtype)

    def part(y: Vector, _: None) -> tuple[Vector, Vector]:
        y = jax.lax.fori_loop(0, steps, lambda _, y: _step(system, y, size), y)
        return y, y

    return jax.lax.scan(part, y, None, length=SAMPLES)


@eqx.filter_jit
def _closed(
    system: System, y: Vector, time: Scalar, steps: Int[Array, ""]
) -> tuple[Vector, Scalar, Array, Scalar, Array]:
    """A closed orbit's state, period, monodromy matrix, gap, and whether it closed."""
    count = y.shape[0]
    none = jnp.zeros(0, y.dtype)

    def ends(z: Array) -> tuple[Array, tuple[Array, Array]]:
        end, samples = _orbit(system, z[:-1], z[-1], steps)
        return end, (end, jnp.ptp(samples, axis=0))

    def iterate(carry: tuple) -> tuple:
        number, z, _, _, _ = carry
        derivative, (end, swing) = jax.jacfwd(ends, has_aux=True)(z)
        y = z[:-1]
        slope = system.force(y, none)
        square = jnp.concatenate([derivative - jnp.eye(count, count + 1, dtype=y.dtype), jnp.append(slope, 0.0)[None]])
        # Where nothing goes along the orbit (a fixed point) the matrix is singular and the change infinite.
        change = jnp.linalg.solve(square, jnp.append(end - y, 0.0))
        # Far from the solution the period may only change by a part, or a wrong multiple is found.
        change = change * jnp.minimum(1.0, 0.2 * z[-1] / (jnp.abs(change[-1]) + 1e-300))
        largest = jnp.max(swing)
        gap = jnp.max(jnp.abs(end - y)) / largest
        return number + 1, z - change, derivative[:, :-1], gap, jnp.where(largest > 1e-6 * jnp.max(jnp.abs(y)), 1, 0)

    def unfinished(carry: tuple) -> Array:
        number, z, _, gap, _ = carry
        return (number < _ITERATIONS) & (gap > 1e-11) & jnp.all(jnp.isfinite(z)) & (z[-1] > 0)

    begin = (0, jnp.append(y, time), jnp.zeros((count, count), y.dtype), jnp.asarray(jnp.inf, y.dtype), 1)
    _, z, matrix, gap, swings = jax.lax.while_loop(unfinished, iterate, begin)
    good = (gap <= 1e-9) & (swings > 0) & jnp.all(jnp.isfinite(z)) & (z[-1] > 0)
    return z[:-1], z[-1], matrix, gap, good


@eqx.filter_jit
def _sampled(system: System, y: Vector, time: Scalar, steps: Int[Array, ""]) -> tuple[Array, Array, Array]:
    """States of the orbit, (sample, species), in free coordinates, and the divergence of the flow there."""
    none = jnp.zeros(0, y.dtype)
    samples = jnp.concatenate([y[None], _orbit(system, y, time, steps)[1]])
    divergence = jax.vmap(lambda y: jnp.trace(jacobian(system, y, none)))(samples)
    return jax.vmap(system.state)(samples), samples, divergence


def _cycle(
    system: System, y: Vector, time: Scalar, steps: int, matrix: np.ndarray, gap: float, error: float, name: str
) -> Cycle:
    orbit, samples, divergence = map(np.asarray, _sampled(system, y, time, jnp.asarray(steps, dtype=int)))
    values = np.linalg.eigvals(matrix).astype(complex)
    along = int(np.argmin(np.abs(values - 1.0)))
    others = np.delete(values, along)
    others = others[np.argsort(-np.abs(others), kind="stable")]
    largest = np.abs(others).max(initial=0.0)
    stability = "neutral" if abs(largest - 1.0) < _NEUTRAL else "stable" if largest < 1.0 else "unstable"
    low, high = (
        np.asarray(_turned(system, jnp.asarray(samples[which(orbit, axis=0)]), time))
        for which in (np.argmin, np.argmax)
    )
    with np.errstate(divide="ignore"):
        # A contraction below rounding has a determinant that nobody can know.
        measured = np.log(np.abs(np.linalg.det(matrix)))
    integral = float(time) * float(divergence[:-1].mean())
    return Cycle(
        name,
        float(time),
        np.linspace(0.0, float(time), SAMPLES + 1),
        orbit,
        low,
        high,
        others,
        stability,
        gap,
        error,
        float(abs(measured - integral)) if integral > -25.0 else 0.0,
        system.kinetics.table.species,
        system.kinetics.time_unit,
    )


@eqx.filter_jit
def _turned(system: System, states: Float[Array, "species free"], time: Scalar) -> Float[Array, " species"]:
    """The value at which each species stops near a state of its own, within one sample of it."""
    none, most = jnp.zeros(0, time.dtype), time / SAMPLES

    def one(row: Float[Array, " free"], y: Vector) -> Scalar:
        def closer(_: Array, wait: Scalar) -> Scalar:
            here = _step(system, y, wait)
            slope = system.force(here, none)
            bend = jnp.sum(row * (jacobian(system, here, none) @ slope))
            change = jnp.where(bend == 0, 0.0, jnp.sum(row * slope) / jnp.where(bend == 0, 1.0, bend))
            return jnp.clip(wait - change, -most, most)

        return jnp.sum(row * _step(system, y, jax.lax.fori_loop(0, 5, closer, jnp.zeros_like(time))))

    return system.base + jax.vmap(one)(system.basis, states)


def period_of(times: Times, window: Float[Array, "time coordinate"]) -> Scalar:
    """A guess of the period of a course that goes round, NaN where it does not.

    The course's last state is looked for in its past; the period is where the gap has its first minimum after the
    course has been far away.

    **Arguments:** `times`: (time,), equally spaced; `window`: (time, coordinate).
    """
    swing = jnp.ptp(window, axis=0, keepdims=True)
    moving = swing > 1e-3 * jnp.max(swing)
    gaps = jnp.where(moving, (window - window[-1:]) / jnp.where(moving, swing, 1.0), 0.0)
    gap = jnp.sum(gaps**2, axis=1)[::-1]
    been_far = jax.lax.cummax(gap) > 0.2 * jnp.max(gap)
    left, here, right = gap[:-2], gap[1:-1], gap[2:]
    low = (here <= left) & (here < right) & (here < 0.06 * jnp.max(gap)) & been_far[1:-1]
    k = jnp.argmax(low)
    bend = left[k] - 2.0 * here[k] + right[k]
    shift = jnp.clip(0.5 * (left[k] - right[k]) / jnp.where(bend > 0, bend, 1.0), -0.5, 0.5)
    spacing = (times[-1] - times[0]) / (times.shape[0] - 1)
    return jnp.where(jnp.any(low) & jnp.any(moving), (1.0 + k.astype(shift.dtype) + shift) * spacing, jnp.nan)
