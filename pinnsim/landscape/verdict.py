"""What became of a pushed cell, as a code with a sentence, also where it settled nowhere.

A lane that ends near no known attractor is followed on under the background alone, 3 times as long again, and watched:
it goes round for ever (a cycle), it comes to rest where nobody looked (a certified stable point that was not given), or
it is merely slow. So "none" is never the last word.
"""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.attractors import arrival, follow_all
from pinnsim.landscape.coordinates import frozen
from pinnsim.landscape.fixed_points import FixedPoints, classify
from pinnsim.landscape.push import Program
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import State
from pinnsim.simulate import Outcome

_LONGER, _TOGETHER = 3.0, 16
_AT_REST = 1e-8  # a flow so small beside the terms that cancel in it is none
_TOLERANCE = 1e-6


class Verdict(enum.IntEnum):
    """What became of a pushed cell."""

    SETTLED = 0
    CYCLE = 1
    MOVING = 2
    ELSEWHERE = 3
    MAX_STEPS = 4
    NOT_FINITE = 5
    NO_START = 6
    UNSTABLE_START = 7

    @property
    def sentence(self) -> str:
        """What it means for a reader, and the next move."""
        return {
            Verdict.SETTLED: "settled in a known valley",
            Verdict.CYCLE: "goes round for ever and settles in no valley: add the cycle (find_attractors with more "
            "starts)",
            Verdict.MOVING: "was still on its way when time was up: give a longer `settle`",
            Verdict.ELSEWHERE: "came to rest where no attractor was given: find_attractors with more starts",
            Verdict.MAX_STEPS: "ran out of steps (stiff, oscillating fast, or running away): use ODE(stiff=True), "
            "raise max_steps, or bound the model",
            Verdict.NOT_FINITE: "left the range of numbers: look for NaN in parameters, doses and the start",
            Verdict.NO_START: "has no valley to start in: the member lost the attractor that the start names",
            Verdict.UNSTABLE_START: "started at rest on a saddle or unstable point, from where rounding decides: start "
            "in a valley",
        }[self]


def first_verdicts(valley: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Codes of lanes by what is known at the end of a sweep, any shape: `MOVING` where nothing is known yet."""
    failed = np.where(outcome == Outcome.MAX_STEPS, Verdict.MAX_STEPS, Verdict.NOT_FINITE)
    return np.where(outcome != Outcome.DONE, failed, np.where(valley >= 0, Verdict.SETTLED, Verdict.MOVING))


def followed(program: Program, verdict: np.ndarray, final: np.ndarray, settle: float) -> np.ndarray:
    """Codes after lanes that are `MOVING` were followed on, (lane,).

    **Arguments:** `final`: (lane, species), where they are; `settle`: how long they had, in the model's time unit.
    """
    late = np.flatnonzero(verdict == Verdict.MOVING)
    if not len(late):
        return verdict
    verdict, acting = verdict.copy(), frozen(program.background, np.inf)
    points = FixedPoints(program.kinetics, acting, _TOLERANCE)
    for point in np.asarray(program.attractors):
        if np.isfinite(point).all():
            points.polish(point)
    known = len(points.states)
    for first in range(0, len(late), _TOGETHER):
        some = late[first : first + _TOGETHER]
        # Always as many, so that the number of late lanes compiles nothing.
        begin = final[np.resize(some, _TOGETHER)]
        found = follow_all(program.kinetics, acting, program.method, begin, _LONGER * settle, _TOGETHER)
        for lane, end, round_, ok in zip(some, *found[:3], strict=False):
            if not ok:
                verdict[lane] = Verdict.NOT_FINITE
            elif round_:
                verdict[lane] = Verdict.CYCLE
            elif arrival(points, end) >= known:
                verdict[lane] = Verdict.ELSEWHERE
    return verdict


def resting(kinetics: AbstractKinetics, treatment: Perturbation, state: np.ndarray) -> str:
    """The stability of a state at rest ("stable", "saddle", "unstable", "marginal"), "" where it moves.

    At rest: `|f_i| <= 1e-8 sum_j |J_ij| (1 + |x_j|)` for every species that is not held.
    """
    acting = frozen(treatment, np.inf)
    force, jacobian = (np.asarray(a) for a in _flow(kinetics, acting, jnp.asarray(state)))
    free = ~np.asarray(acting.hold[0] > 0)
    force, inner = force[free], jacobian[np.ix_(free, free)]
    if not (np.isfinite(force).all() and np.isfinite(jacobian).all()):
        return ""
    if (np.abs(force) > _AT_REST * (np.abs(jacobian[free]) @ (1.0 + np.abs(state)))).any():
        return ""
    return classify(np.linalg.eigvals(inner).astype(complex), float(np.linalg.norm(inner, 2)) if inner.size else 0.0)[0]


@eqx.filter_jit
def _flow(
    kinetics: AbstractKinetics, acting: Perturbation, state: State
) -> tuple[State, Float[Array, "species species"]]:
    def flow(x: State) -> State:
        return kinetics.vector_field(jnp.zeros((), x.dtype), x, acting)

    return flow(state), jax.jacfwd(flow)(state)
