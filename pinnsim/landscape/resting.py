"""Where many starts come to rest under many perturbations, with a certificate: the batch behind `attractors_under`.

A lane is one start under one perturbation. Lanes go through three programs, each compiled once for its shape, in chunks
of a fixed size (the last one padded), with perturbations as arrays, so that other perturbations compile nothing:

1. *follow*: the cell's own flow for `span`, by pinnsim's own batched solver. What still moves at the end is late.
2. *polish*: of the lanes of one perturbation that ended within some thousandths of one another, one is polished by
   Newton's method, and certified by its residual and by the eigenvalues of its exact Jacobian
   (`pinnsim.landscape.fixed_points`). A lane has settled where that point is stable and no further than `ARRIVED` from
   where the flow ended.
3. *watch*: late lanes are followed and polished once more; those that are still late go on for longer and are told
   apart: those that come round (a cycle), those that have come to rest by now, and those that have not.

Eigenvalues are LAPACK's, on the host. What is held has no equation: its row and column of the Jacobian are zero, and it
gets an eigenvalue far below all others, so that every perturbation has matrices of one size.
"""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.attractors import ARRIVED, CYCLE, FAILED, LIFETIMES, LONGER, MOVING, SETTLED, WINDOW, goes_round
from pinnsim.landscape.coordinates import coordinates, floors, frozen, host_coordinates
from pinnsim.landscape.fixed_points import classify, gap, polish_lanes
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.simulate import ODE, Outcome, solve_many
from pinnsim.simulate.many import starts_stiff

_TOGETHER = 3e-3  # lanes that ended closer than this in every coordinate are polished as one
_LAST = 0.9  # share of the span after which a lane that arrives hardly moves
_POLISHED, _WATCHED = 64, 32  # lanes per chunk of the programs that need more memory per lane


class Rest:
    """Lanes and where they rest, (perturbation, start, ...) for one block of perturbations.

    **Arguments:** `states`: fixed points, NaN for lanes that have not settled; `residual`: max |f| / (1 + |x|);
    `leading`: eigenvalue of the largest real part; `motion`: "settled", "cycle", "not settled" or "failed".
    """

    def __init__(self, shape: tuple[int, int], species: int) -> None:
        self.states = np.full((*shape, species), np.nan)
        self.residual = np.full(shape, np.nan)
        self.leading = np.full(shape, np.nan, complex)
        self.motion = np.full(shape, MOVING, object)


class Settling:
    """The programs for one model and many perturbations.

    **Arguments:** `perturbations`: with a leading lane axis, of which what acts at `time` acts for ever; `size`: lanes
    at a time.
    """

    def __init__(
        self, kinetics: AbstractKinetics, perturbations: Perturbation, time: float, method: ODE, size: int
    ) -> None:
        self.kinetics, self.size, self.method = kinetics, size, method
        self.material, self._place = np.asarray(kinetics.material()), host_coordinates(kinetics)
        # On the host: rows are picked for every chunk, and picking on the device would be a program per number of rows.
        self.acting: Perturbation = jax.tree.map(np.asarray, perturbations)
        which = np.arange(len(self.acting.start))
        moment = jnp.asarray(time, float)
        lasting = [_lasting(acting, moment) for _, acting, _ in self._chunks(which, which[:, None], size)]
        self.acting = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(which)], *lasting)
        self.held = np.asarray(self.acting.hold[:, 0] > 0)

    def decide(self, state: np.ndarray, span: float) -> None:
        """Explicit or implicit steps for all lanes alike, where the method leaves it open: one program, not two."""
        method = self.method
        if method.stiff is not None or method.solver is not None:
            return
        which, times = np.arange(len(self.held)), jnp.asarray([0.0, span])
        stiff = any(
            starts_stiff(self.kinetics, times, acting, jnp.asarray(begin), {})
            for _, acting, begin in self._chunks(which, np.broadcast_to(state, (len(which), len(state))), self.size)
        )
        self.method = ODE(method.rtol, method.atol, None, method.max_steps, method.adjoint, stiff)

    def follow(
        self, which: np.ndarray, states: np.ndarray, span: float, advance: Callable[[int], object] = id
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lanes `span` later, (lane, species), whether they could be solved, and whether they still move.

        **Arguments:** `which`: (lane,), the perturbation of each; `advance`: told how many lanes are done.
        """
        ends, solved, moves = np.array(states, float), np.zeros(len(states), bool), np.zeros(len(states), bool)
        times = jnp.asarray([0.0, _LAST * span, span])
        for rows, acting, begin in self._chunks(which, states, self.size):
            found = solve_many(self.kinetics, times, acting, jnp.asarray(begin), self.method)
            last = self._bounded(np.asarray(found.states)[: len(rows), 1:])
            solved[rows] = (np.asarray(found.outcome)[: len(rows)] == Outcome.DONE) & np.isfinite(last).all(axis=(1, 2))
            ends[rows] = last[:, 1]
            moves[rows] = self.far(last[:, 0], last[:, 1]) > ARRIVED
            advance(len(rows))
        return ends, solved, moves & solved

    def watch(self, which: np.ndarray, states: np.ndarray, span: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `follow`, and in place of whether lanes still move, whether they go round."""
        ends, solved, turning = np.array(states, float), np.zeros(len(states), bool), np.zeros(len(states), bool)
        # The first third is left out of the window, so that a transient does not hide a cycle.
        times = jnp.asarray([0.0, *np.linspace(span / 3.0, span, WINDOW)])
        for rows, acting, begin in self._chunks(which, states, min(_WATCHED, self.size)):
            found = solve_many(self.kinetics, times, acting, jnp.asarray(begin), self.method)
            window = self._bounded(np.asarray(found.states)[:, 1:])
            fine = (np.asarray(found.outcome) == Outcome.DONE) & np.isfinite(window).all(axis=(1, 2))
            course = jnp.asarray(np.where(fine[:, None, None], window, 1.0))
            turning[rows] = (np.asarray(_round(self.kinetics, course)) & fine)[: len(rows)]
            ends[rows], solved[rows] = window[: len(rows), -1], fine[: len(rows)]
        return ends, solved, turning

    def polish(self, which: np.ndarray, guesses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The certified stable points found from guesses, (lane, species), NaN where there is none; their residuals,
        leading eigenvalues, and whether there is one."""
        count = len(guesses)
        states, residual = np.full_like(guesses, np.nan), np.full(count, np.nan)
        leading, stable = np.full(count, np.nan, complex), np.zeros(count, bool)
        for rows, acting, begin in self._chunks(which, guesses, min(_POLISHED, self.size)):
            found, imbalance, certified, jacobian = (
                np.asarray(a)[: len(rows)] for a in polish_lanes(self.kinetics, acting, jnp.asarray(begin))
            )
            fine = certified & np.isfinite(jacobian).all(axis=(1, 2))
            held = self.held[which[rows]]
            values, kinds = spectra(np.where(fine[:, None, None], jacobian, 0.0), held)
            good = fine & np.array([kind == "stable" for kind in kinds], dtype=bool)
            states[rows[good]], residual[rows], stable[rows] = found[good], imbalance, good
            leading[rows] = np.where(good, values, np.nan)
        return states, residual, leading, stable

    def rest(self, which: np.ndarray, starts: np.ndarray, span: float, advance: Callable[[int], object] = id) -> Rest:
        """Where starts, (start, species), come to rest under each of these perturbations, (perturbation,).

        **Arguments:** `span`: how long they are followed at first; `advance`: told how many lanes have been followed.
        """
        shape, species = (len(which), len(starts)), starts.shape[1]
        found, lane = Rest(shape, species), np.repeat(which, len(starts))
        ends, late = np.tile(starts, (len(which), 1, 1)), np.ones(shape, bool)
        for longer in (1.0, LONGER):
            row, column = np.nonzero(late)
            report = advance if longer == 1.0 else id
            ends[late], solved, moves = self.follow(lane.reshape(shape)[late], ends[late], longer * span, report)
            found.motion[row[~solved], column[~solved]] = FAILED
            still = np.zeros(shape, bool)
            still[row, column] = solved & ~moves
            self._arrive(found, which, ends, still)
            late = found.motion == MOVING
            if not late.any():
                return found
        # Under a perturbation a valley may be slower than it was.
        slowest = float(np.min(np.where(np.isnan(found.leading.real), np.inf, -found.leading.real)))
        row, column = np.nonzero(late)
        ends[late], solved, turning = self.watch(which[row], ends[late], max(LONGER * span, LIFETIMES / slowest))
        found.motion[late] = np.where(~solved, FAILED, np.where(turning, CYCLE, MOVING))
        still = np.zeros(shape, bool)
        still[row, column] = solved & ~turning
        self._arrive(found, which, ends, still)
        return found

    def far(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Distance of states in coordinates, (..., species) to (...)."""
        return np.sqrt(np.mean((self.coordinates(a) - self.coordinates(b)) ** 2, axis=-1))

    def coordinates(self, states: np.ndarray) -> np.ndarray:
        """Coordinates of states, (..., species), on the host."""
        return self._place(states)

    def _arrive(self, found: Rest, which: np.ndarray, ends: np.ndarray, still: np.ndarray) -> None:
        """Enters the lanes that are near a certified stable point."""
        here = self.coordinates(ends)
        first = leaders(still, lambda k: np.abs(here - here[:, k : k + 1]).max(axis=-1) < _TOGETHER)
        row, column = np.nonzero(still & (first == np.arange(still.shape[1])))
        if not len(row):
            return
        states, residual, leading, stable = self.polish(which[row], ends[row, column])
        number = np.full(still.shape, -1)
        number[row, column] = np.arange(len(row))
        mine = np.take_along_axis(number, np.where(still, first, 0), axis=1)
        near = still & stable[mine]
        near[near] = self.far(ends[near], states[mine[near]]) <= ARRIVED
        found.states[near], found.residual[near] = states[mine[near]], residual[mine[near]]
        found.leading[near], found.motion[near] = leading[mine[near]], SETTLED

    def _bounded(self, states: np.ndarray) -> np.ndarray:
        return np.where(self.material, np.maximum(states, 0.0), states)

    def _chunks(
        self, which: np.ndarray, states: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, Perturbation, np.ndarray]]:
        """Rows, and padded to `size` their perturbations and states; the last lane fills up the last chunk."""
        for start in range(0, len(states), size):
            rows = np.arange(start, min(start + size, len(states)))
            filled = np.minimum(np.arange(start, start + size), len(states) - 1)
            acting = jax.tree.map(lambda a, lanes=which[filled]: jnp.asarray(a[lanes]), self.acting)
            yield rows, acting, states[filled]


def leaders(valid: np.ndarray, near: Callable[[int], np.ndarray]) -> np.ndarray:
    """The first lane that each lane is near to, (perturbation, start), and -1 for those that are not `valid`.

    **Arguments:** `near(k)`: (perturbation, start), which lanes are near lane k of their perturbation.
    """
    first = np.full(valid.shape, -1)
    for k in range(valid.shape[1]):
        leads = valid[:, k] & (first[:, k] < 0)
        if leads.any():
            first = np.where(valid & (first < 0) & leads[:, None] & near(k), k, first)
    return first


def different(states: np.ndarray, material: np.ndarray, tolerance: float) -> np.ndarray:
    """The first lane that rests at the same fixed point, (perturbation, start), and -1 for those that do not rest."""
    valid = np.isfinite(states).all(axis=-1)
    safe = np.where(valid[..., None], states, 0.0)
    return leaders(valid, lambda k: gap(safe, safe[:, k : k + 1], material) < tolerance)


def spectra(jacobians: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Leading eigenvalues of Jacobians, (lane, species, species), and the kinds of their points.

    **Arguments:** `held`: (lane, species), what has no equation.
    """
    size = jacobians.shape[1]
    free = ~held
    jacobians = np.where(free[:, :, None] & free[:, None, :], jacobians, 0.0)
    norms = np.linalg.norm(jacobians, 2, axis=(1, 2)) if size else np.zeros(len(jacobians))
    far_below = np.where(held, -2.0 * norms[:, None] - 1.0, 0.0)
    values = np.linalg.eigvals(jacobians + far_below[:, :, None] * np.eye(size)).astype(complex)
    kinds = [classify(v, float(norm))[0] for v, norm in zip(values, norms, strict=True)]
    return np.take_along_axis(values, values.real.argmax(axis=1)[:, None], axis=1)[:, 0], kinds


@eqx.filter_jit
def _lasting(perturbations: Perturbation, time: Scalar) -> Perturbation:
    return jax.vmap(lambda one: frozen(one, time))(perturbations)


@eqx.filter_jit
def _round(kinetics: AbstractKinetics, windows: Float[Array, "lane time species"]) -> Bool[Array, " lane"]:
    floor, material = floors(kinetics), kinetics.material()
    return jax.vmap(lambda window: goes_round(coordinates(window, floor, material)))(windows)
