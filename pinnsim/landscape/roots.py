"""All fixed points, stable or not: Newton's method from many starts at once, and deflation of what is known.

From every start a damped Newton iteration runs; a found root r is then divided out,

    g(y) = M(y) f(y),      M(y) = prod_k (1 + 1 / |(y - r_k) / w|^2),

so that the next round of the same starts cannot end there again, until a round finds nothing new. Newton's step d of f
gives that of g for free, `d / (1 - d' grad log M)`. Steps keep abundances positive and change none by more than a
factor of five, which is what the logarithm of the abundance would do, where scales span decades. What is found here is
only a guess: `FixedPoints` certifies it.

A check of completeness costs nothing: in a box into which the flow points everywhere, the sum of `(-1)^index` over all
fixed points is 1 (Poincare and Hopf).

Sources: P. E. Farrell, A. Birkisson and S. W. Funke, SIAM J. Sci. Comput. 37:A2026 (2015), deflation; V. Guillemin and
A. Pollack, Differential Topology (1974), chapter 3, for the index.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.coordinates import Numbers, chunk_size, floors, frozen, kinetics_of, require_states, resolved
from pinnsim.landscape.fixed_points import FixedPoints
from pinnsim.landscape.starts import box_points
from pinnsim.landscape.system import System, Vector, jacobian
from pinnsim.landscape.totals import totals_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import Outcome, steady_state
from pinnsim.treatment import NONE, Treatment

_ITERATIONS = 80
_ROUNDS, _PATIENCE = 16, 4
_FRESH = 128  # new starts of every round
_SMALL = 24  # free coordinates up to which that is cheap; beyond, fewer starts and rounds
_PARTS = (1.0, 0.5, 0.2, 0.05)  # of a step, of which the best is taken
_SLOTS = 16  # roots that are divided out, doubled when there are more
_FACTOR = 5.0
_CLOSE = 1e-9


def fixed_points(
    model: CellModel | AbstractKinetics,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    starts: int = 64,
    states: Numbers | None = None,
    bounds: tuple[Numbers, Numbers] | None = None,
    totals: Numbers | None = None,
    seed: int = 0,
    tolerance: float | int = 1e-6,
) -> FixedPoints:
    """All certified fixed points under a treatment that lasts, with their eigenvalues and Morse indices.

    Quicker than `find_attractors` and better at saddles, but says nothing about which valley is how wide, nor about
    cycles. **Arguments:** as there.
    """
    kinetics = kinetics_of(model)
    acting = frozen(resolved(treatment, kinetics), jnp.inf)
    begin = np.zeros((0, len(kinetics.table.species))) if states is None else np.asarray(states, dtype=float)
    require_states(begin, kinetics, "states")
    held = totals_of(kinetics, acting, totals, None if states is None else begin)
    begin = np.concatenate([begin, held.held_by(box_points(kinetics, acting, starts, bounds, seed))])
    points = FixedPoints(kinetics, acting, float(tolerance), held.state)
    # Attractors by their own flow, which Newton's method alone may jump over.
    size = chunk_size(len(begin), 64)
    padded = np.concatenate([begin, np.repeat(begin[-1:], -len(begin) % size, axis=0)])
    states_, certified = _settled(kinetics, acting, jnp.asarray(padded.reshape(-1, size, begin.shape[1])))
    ends = np.asarray(states_).reshape(-1, begin.shape[1])[np.asarray(certified).ravel()]
    for state in _different(ends):
        points.polish(state)
    search(points, begin, seed)
    return points


def search(points: FixedPoints, guesses: np.ndarray, seed: int = 0) -> None:
    """Adds every fixed point that deflated Newton iterations find from guesses, (guess, species).

    Every round adds fresh starts around and between the points that are known, until nothing new turns up and the
    indices sum to 1, or nothing has turned up for some rounds.
    """
    if not len(guesses):
        return
    kinetics, system, basis = points.kinetics, points.system, points.basis
    amounts = jnp.asarray((basis.T @ np.asarray(kinetics.material()) > 0.5) & bool((basis >= 0).all()))
    scale = jnp.abs(system.basis.T @ floors(kinetics)) + 1e-300
    rng, quiet = np.random.default_rng(seed), 0
    small = basis.shape[1] <= _SMALL
    fresh, rounds = (_FRESH, _ROUNDS) if small else (_FRESH // 8, 2)
    for number in range(rounds):
        known = len(points.states)
        roots = np.zeros((max(_SLOTS, 1 << max(known - 1, 0).bit_length()), basis.shape[1]))
        roots[:known] = np.array(points.states).reshape(known, len(basis)) @ basis
        used = np.arange(len(roots)) < known
        begin = (
            guesses if number == 0 else _fresh(rng, np.array([*points.states, *guesses[:fresh]]), known, points, fresh)
        )
        padded = np.concatenate([begin, np.repeat(begin[-1:], -len(begin) % fresh, axis=0)])
        lanes = jnp.asarray(padded.reshape(-1, fresh // 2, len(basis)))
        found, ended = _newton(system, lanes, jnp.asarray(roots), jnp.asarray(used), amounts, scale)
        ends = np.asarray(found).reshape(-1, basis.shape[1])[np.asarray(ended).ravel()]
        for y in _different(ends):
            points.polish(np.asarray(system.state(jnp.asarray(y))))
        quiet = quiet + 1 if len(points.states) == known else 0
        complete = sum((-1) ** k for k in points.index) == 1
        if quiet >= (2 if complete else _PATIENCE):
            return


def _fresh(rng: np.random.Generator, states: np.ndarray, known: int, points: FixedPoints, count: int) -> np.ndarray:
    """New starts: in the box of what is known, widened, and on and beside lines between pairs of known points."""
    half = count // 2
    low, high = states.min(axis=0), states.max(axis=0)
    tiny = 1e-3 * np.maximum(np.abs(high), 1e-300)
    share = rng.random((half, states.shape[1]))
    ratio = np.maximum(3.0 * high, tiny) / np.maximum(0.3 * low, tiny)
    relative = np.maximum(0.3 * low, tiny) * ratio**share
    plain = low - 0.2 * (high - low) + share * 1.4 * (high - low)
    box = np.where(points.material, relative, plain)
    pairs = states[rng.integers(0, known if known > 1 else len(states), (2, count - half))]
    between = pairs[0] + rng.uniform(-0.2, 1.2, (count - half, 1)) * (pairs[1] - pairs[0])
    spread = 0.1 * (high - low) * rng.standard_normal(between.shape) * rng.integers(0, 2, (len(between), 1))
    return np.concatenate([box, np.where(points.material, np.abs(between + spread), between + spread)])


def _different(ends: np.ndarray) -> np.ndarray:
    """One of each group of equal results: what is certified one by one."""
    kept: list[np.ndarray] = []
    for y in ends:
        if not any(np.allclose(y, other, rtol=1e-6, atol=1e-12) for other in kept):
            kept.append(y)
    return np.array(kept).reshape(-1, ends.shape[1])


@eqx.filter_jit
def _settled(
    kinetics: AbstractKinetics, acting: Perturbation, starts: Float[Array, "chunk lane species"]
) -> tuple[Float[Array, "chunk lane species"], Bool[Array, "chunk lane"]]:
    """Where starts come to rest, followed by implicit steps, and whether they do."""

    def one(state: Float[Array, " species"]) -> tuple[Array, Array]:
        found = steady_state(kinetics, acting, state, max_steps=_ITERATIONS)
        return found.state, found.outcome == Outcome.DONE

    return jax.lax.map(jax.vmap(one), starts)


@eqx.filter_jit
def _newton(
    system: System,
    starts: Float[Array, "chunk lane species"],
    roots: Float[Array, "slot free"],
    used: Bool[Array, " slot"],
    amounts: Bool[Array, " free"],
    scale: Vector,
) -> tuple[Float[Array, "chunk lane free"], Bool[Array, "chunk lane"]]:
    """Where each start ends, and whether Newton's method ended there."""
    none = jnp.zeros(0, scale.dtype)
    weight = jnp.max(jnp.abs(roots), axis=0) + scale / 1e-4

    def one(state: Float[Array, " species"]) -> tuple[Vector, Array]:
        def pull(y: Vector) -> Array:
            """log M."""
            gaps = jnp.sum(((y[None] - roots) / weight[None]) ** 2, axis=1)
            return jnp.sum(jnp.where(used, jnp.log1p(1.0 / jnp.maximum(jnp.where(used, gaps, 1.0), 1e-30)), 0.0))

        def height(y: Vector) -> Array:
            force = system.force(y, none)
            return pull(y) + 0.5 * jnp.log(jnp.sum((force / weight) ** 2) + 1e-300)

        def step(carry: tuple) -> tuple:
            number, y, _ = carry
            newton = -jnp.linalg.solve(jacobian(system, y, none), system.force(y, none))
            share = 1.0 - jnp.sum(jax.grad(pull)(y) * newton)
            # Beyond the pole of the deflated step its sign turns; its length is bounded either way.
            change = newton / jnp.where(jnp.abs(share) < 1e-3, jnp.where(share < 0, -1e-3, 1e-3), share)
            reach = jnp.where(amounts, _FACTOR * (jnp.abs(y) + scale), jnp.abs(y) + scale / 1e-4)
            change = change * jnp.minimum(1.0, jnp.min(reach / (jnp.abs(change) + 1e-300)))

            def moved(part: Array) -> Vector:
                new = y + part * change
                return jnp.where(amounts, jnp.maximum(new, y / _FACTOR), new)

            parts = jnp.asarray(_PARTS, y.dtype)
            heights = jax.vmap(lambda part: height(moved(part)))(parts)
            part = parts[jnp.nanargmin(jnp.where(jnp.isnan(heights), jnp.inf, heights))]
            new = moved(part)
            return number + 1, new, jnp.max(jnp.abs(new - y) / (part * (jnp.abs(new) + scale)))

        def unfinished(carry: tuple) -> Array:
            number, _, change = carry
            return (number < _ITERATIONS) & (change > _CLOSE) & ~jnp.isnan(change)

        y = system.free(state)
        begin = (0, y, jnp.asarray(jnp.inf, y.dtype))
        _, y, change = jax.lax.while_loop(unfinished, step, begin)
        return y, (change <= _CLOSE) & jnp.all(jnp.isfinite(y))

    return jax.lax.map(jax.vmap(one), starts)
