"""Systems with basins in closed form: bent double wells, circles, a wheel, and a switch with a conserved total.

    bent well      p' = p - p^3, y' = -y              seen as x = p + c y^2: the edge is the parabola x = c y^2
    bent space     and w' = -2 w                      seen as x = p + c (y^2 + y w)
    rings          r' = r (1 - r^2) (r^2 - b^2)       the edge of the centre is the circle r = b
    wheel          r' = r (r^2 - 1) (4 - r^2), phi' = w (4 - r^2) + r^2 sin(phi) / 4
    switch         X + 2 P -> 3 P (k), P -> X (d)     X + P = T: the edge is P = T / 2 - sqrt(T^2 / 4 - d / k)

On the wheel's rim, r = 2, lie a saddle at phi = 0 and a valley at phi = pi; the stable manifold of the saddle winds
inwards on to the unstable cycle r = 1, of period 2 pi / sqrt(9 w^2 - 1 / 16), which is the edge of the centre.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.drift import DriftField, drift_field
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import ReactionSystem, reaction_system


class _Bent(eqx.Module):
    bend: Array

    def __call__(self, state: Array) -> Array:
        x, y = state
        p = x - self.bend * y**2
        return jnp.stack([p - p**3 - 2.0 * self.bend * y**2, -y])


class _BentAmounts(eqx.Module):
    """The bent well of the logarithms of two amounts."""

    inner: _Bent

    def __call__(self, state: Array) -> Array:
        amounts = jnp.maximum(state, 1e-30)
        return amounts * self.inner(jnp.log(amounts))


class _BentSpace(eqx.Module):
    bend: Array

    def __call__(self, state: Array) -> Array:
        x, y, w = state
        p = x - self.bend * (y**2 + y * w)
        return jnp.stack([p - p**3 - self.bend * (2.0 * y**2 + 3.0 * y * w), -y, -2.0 * w])


class _Rings(eqx.Module):
    b: Array

    def __call__(self, state: Array) -> Array:
        x, y = state
        s = x**2 + y**2
        growth = (1.0 - s) * (s - self.b**2)
        return jnp.stack([growth * x - 3.0 * y, 3.0 * x + growth * y])


class _Wheel(eqx.Module):
    pace: Array

    def __call__(self, state: Array) -> Array:
        x, y = state
        s = x**2 + y**2
        growth = (s - 1.0) * (4.0 - s)
        # s sin(phi) / 4 = sqrt(s) y / 4, smooth at the centre.
        turn = self.pace * (4.0 - s) + 0.25 * jnp.sqrt(s + 1e-300) * y
        return jnp.stack([growth * x - turn * y, turn * x + growth * y])


def bent_well(bend: float = 1.0) -> DriftField:
    """Valleys at (-1, 0) and (1, 0), the edge x = c y^2."""
    return drift_field(_Bent(jnp.asarray(bend)), ("x", "y"), [0.5, 0.0])


def bent_amounts(bend: float = 1.0) -> DriftField:
    """Amounts X, Y with log X = c (log Y)^2 as the edge; valleys at (1 / e, 1) and (e, 1)."""
    flow = _BentAmounts(_Bent(jnp.asarray(bend)))
    return drift_field(flow, ("X", "Y"), [1.5, 1.0], abundance=True)


def bent_space(bend: float = 1.0) -> DriftField:
    """Three coordinates, the edge x = c (y^2 + y w)."""
    return drift_field(_BentSpace(jnp.asarray(bend)), ("x", "y", "w"), [0.5, 0.0, 0.0])


def rings(radius: float = 0.5) -> DriftField:
    """A valley inside the unstable circle of this radius, a stable cycle outside."""
    return drift_field(_Rings(jnp.asarray(radius)), ("x", "y"), [0.7, 0.1])


def wheel(pace: float = 1.0) -> DriftField:
    """A centre, an unstable cycle, and a rim with a saddle and a valley."""
    return drift_field(_Wheel(jnp.asarray(pace)), ("x", "y"), [0.5, 0.1])


def wheel_period(pace: float = 1.0) -> float:
    """Of the unstable cycle: the integral of `1 / (3 w + sin(phi) / 4)` once round."""
    return 2.0 * np.pi / np.sqrt(9.0 * pace**2 - 1.0 / 16.0)


def switch(make: float = 1.0, lose: float = 2.0) -> ReactionSystem:
    """A protein between two forms, the active one furthering its own making; with T = 3 the edge is P = 1."""
    reactions = [Reaction("make", "X + 2 P -> 3 P", make), Reaction("lose", "P -> X", lose)]
    return reaction_system(reactions, time_unit="min", start={"X": 2.0, "P": 1.0})


def nearest_on_parabola(x: float, y: float, bend: float) -> float:
    """Euclidean distance of a point from x = c y^2: the least over the real roots of the cubic."""
    roots = np.roots([2.0 * bend**2, 0.0, 1.0 - 2.0 * bend * x, -y])
    real = roots[np.abs(roots.imag) < 1e-9].real
    return float(np.sqrt((bend * real**2 - x) ** 2 + (real - y) ** 2).min())
