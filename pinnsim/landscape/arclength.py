"""Following a curve of solutions `G(z) = 0`, G from m + 1 to m unknowns, by pseudo-arclength, as one compiled program.

From a point and a unit tangent t the next point solves

    G(z) = 0,      t' (z - z_0) = ds          (in scaled unknowns),

by Newton's method with the exact derivative, and the next tangent solves `[G_z; t'] t_new = (0, 1)`, so that the curve
is followed round its folds. Unknowns without bounds are measured by their own size, those with bounds by their span.
The
step shrinks where Newton's method fails or the tangent turns by more than `acos 0.95`
and grows where neither happens. Nothing is stepped outside the program; its shapes are fixed by the number of points.

Source: H. B. Keller, Numerical solution of bifurcation and nonlinear eigenvalue problems (1977); E. Doedel, H. B.
Keller and J. P. Kernevez, Int. J. Bifurcation and Chaos 1:493 (1991).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinnsim.shapes import Scalar

Unknowns = Float[Array, " unknown"]

FULL, LEFT, CLOSED, STUCK, NEGATIVE = range(5)
ENDS = ("went on beyond the last point", "left the span", "came back to its start", "could not be followed",
        "reached a negative abundance")  # fmt: skip
_NEWTON, _FIRST = 8, 50  # iterations at most, on the way and for the first point
_TURN, _STRAIGHT = 0.95, 0.995  # cosines between tangents: largest turn in a step, and where the step may grow
_CLEAR = 5  # so many points before a curve may come back to its start


class Steps(NamedTuple):
    """Arc length of steps in scaled unknowns (`first`, `least`, `most`) and Newton's tolerance."""

    first: Scalar
    least: Scalar
    most: Scalar
    tolerance: Scalar


class Box(NamedTuple):
    """Where a curve is followed: `low` and `high` of every unknown, and those that are abundances (>= 0)."""

    low: Unknowns
    high: Unknowns
    material: Bool[Array, " unknown"]


class Curve(NamedTuple):
    """Points of a curve, (point, unknown), their tangents, how many there are, and why it ended (`ENDS`)."""

    points: Float[Array, "point unknown"]
    tangents: Float[Array, "point unknown"]
    kept: Int[Array, ""]
    end: Int[Array, ""]


class Corrected(NamedTuple):
    """Newton's result: unknowns, last scaled change, scaled residual-free flag."""

    z: Unknowns
    change: Scalar
    converged: Bool[Array, ""]


def newton(function: Callable, z: Unknowns, scale: Unknowns, tolerance: Scalar, most: int = _NEWTON) -> Corrected:
    """Newton's method for a square system: z, its last change (scaled, largest), and whether that is below the
    tolerance. Singular matrices and numbers that are none never count as converged."""

    def step(carry: tuple) -> tuple:
        count, z, _ = carry
        change = jnp.linalg.solve(jax.jacfwd(function)(z), function(z))
        return count + 1, z - change, jnp.max(jnp.abs(change) / scale)

    def unfinished(carry: tuple) -> Array:
        count, _, change = carry
        return (count < most) & (change > tolerance) & (jnp.isfinite(change) | (count == 0))

    _, z, change = jax.lax.while_loop(unfinished, step, (0, z, jnp.asarray(jnp.inf, z.dtype)))
    return Corrected(z, change, jnp.isfinite(change) & (change <= tolerance) & jnp.all(jnp.isfinite(z)))


@eqx.filter_jit
def trace(
    function: Callable, z: Unknowns, along: Unknowns, scale: Unknowns, box: Box, steps: Steps, points: int,
    limit: Int[Array, ""],
) -> Curve:  # fmt: skip
    """The curve from near a solution z in the direction `along`; its first point is the solution across `along`.

    **Arguments:** `function`: G, a callable module; `scale`: (unknown,), least size of each unknown; `points`: how many
    are kept at most (fixes the shapes), of which `limit` are found. The last point may lie just outside the box.
    """

    def metric(z: Unknowns) -> Unknowns:
        # Abundances change over decades, so their steps are relative; knobs have their span.
        return jnp.where(jnp.isinf(box.low), jnp.maximum(scale, jnp.abs(z)), scale)

    def outside(z: Unknowns) -> Array:
        return jnp.any((z < box.low) | (z > box.high))

    def corrected(guess: Unknowns, ahead: Unknowns, local: Unknowns, most: Array) -> tuple[Unknowns, Unknowns, Array]:
        """The solution in the plane across `ahead`, the direction of the curve there, whether it converged."""
        row = ahead / local**2
        right = jnp.zeros((guess.shape[0], 2), guess.dtype).at[-1, 1].set(1.0)

        def iterate(carry: tuple) -> tuple:
            count, z, _, _ = carry
            matrix = jnp.concatenate([jax.jacfwd(function)(z), row[None]])
            force = jnp.append(function(z), jnp.sum(row * (z - guess)))
            both = jnp.linalg.solve(matrix * local[None], right.at[:, 0].set(force))
            return count + 1, z - both[:, 0] * local, both[:, 1] * local, jnp.max(jnp.abs(both[:, 0]))

        def unfinished(carry: tuple) -> Array:
            count, *_, change = carry
            return (count == 0) | ((count < most) & (change > steps.tolerance) & jnp.isfinite(change))

        _, z, onward, change = jax.lax.while_loop(
            unfinished, iterate, (0, guess, ahead, jnp.asarray(jnp.inf, guess.dtype))
        )
        return z, onward, (change <= steps.tolerance) & jnp.all(jnp.isfinite(z)) & jnp.all(jnp.isfinite(onward))

    def step(carry: tuple) -> tuple:
        count, tries, size, points_, tangents, end = carry
        # The first round stays where it is: it finds the direction of the curve.
        started = count > 0
        last = jnp.maximum(count - 1, 0)
        here, ahead = points_[last], tangents[last]
        local = metric(here)
        guess = here + jnp.where(started, size, 0.0) * ahead
        onto, onward, good = corrected(guess, ahead, local, jnp.where(started, _NEWTON, _FIRST))
        new = metric(onto)
        onward = onward / jnp.linalg.norm(onward / new)
        cosine = jnp.sum(onward * ahead / new**2) / jnp.linalg.norm(ahead / new)
        moved = jnp.linalg.norm((onto - here) / local)
        good = good & (~started | ((cosine > _TURN) & (moved < 2.0 * size)))
        points_ = jnp.where(good, points_.at[count].set(onto), points_)
        tangents = jnp.where(good, tangents.at[count].set(onward), tangents)
        grown = jnp.where(cosine > _STRAIGHT, 1.5 * size, size)
        size = jnp.where(good, jnp.minimum(jnp.where(started, grown, size), steps.most), 0.5 * size)
        back = (count > _CLEAR) & (jnp.linalg.norm((onto - z) / new) < moved)
        back = back & (jnp.sum(onward * tangents[0] / new**2) > 0)
        end = jnp.where(good & back, CLOSED, end)
        end = jnp.where(good & jnp.any(box.material & (onto < -1e-9 * local)), NEGATIVE, end)
        end = jnp.where(good & outside(onto), LEFT, end)
        end = jnp.where((size < steps.least) | (~started & ~good), STUCK, end)
        return jnp.where(good, count + 1, count), tries + 1, size, points_, tangents, end

    def unfinished(carry: tuple) -> Array:
        count, tries, *_, end = carry
        return (count < limit) & (tries < 4 * points) & (end == FULL)

    empty = jnp.full((points, z.shape[0]), jnp.nan, z.dtype)
    begin = (0, 0, steps.first, empty.at[0].set(z), empty.at[0].set(along), FULL)
    count, _, _, points_, tangents, end = jax.lax.while_loop(unfinished, step, begin)
    return Curve(points_, tangents, jnp.asarray(count), jnp.asarray(end))
