"""From switch to switch, and from window to window: an operator's windows composed over any span of time.

Conventions are the solvers': no window straddles a switch, a value reported at a switch is the one before it, a held
species takes its level at the start of its stretch. Doubts of windows add up, since errors are carried on.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.operator.form import DOUBTS, AbstractOperator
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State, Times, Trajectory
from pinnsim.simulate.solve import segments

Edges = Float[Array, " edge"]


class Predicted(NamedTuple):
    """States at the asked times, (time, species), and doubts, (2,), see `Course`."""

    states: Trajectory
    doubts: Float[Array, " doubt"]


def predict(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    edges: Edges | None = None,
) -> Predicted:
    """The operator's answer for one cell: from `state` at `times[0]`, at `times`.

    **Arguments:** `times`: (time,), increasing; `state`: (species,); `edges`: (edge,), ends of the stretches between
    switches, by default all that the perturbation may have. Pure and differentiable: use it under `jit`, `vmap` and
    `grad`, by rates, doses and states.
    """
    operator, kinetics = resolve(operator), resolve(kinetics)
    times = times.astype(state.dtype)
    edges = segments(perturbation, times[0], times[-1]) if edges is None else edges
    begin = jnp.zeros(len(DOUBTS), state.dtype)
    if edges.shape[0] == 2 and operator.windows == 1:
        return _one_window(operator, kinetics, times, perturbation, state, edges)
    lefts, rights = _windows(edges, operator.windows)
    owner = jnp.clip(jnp.searchsorted(rights, times), 0, rights.shape[0] - 1)

    def step(carry: tuple[State, Array], ends: tuple[Array, Scalar, Scalar]) -> tuple[tuple[State, Array], Trajectory]:
        state, doubts = carry
        number, left, right = ends
        edits = perturbation.during(left, right).at(0.5 * (left + right))
        length = right - left
        course = operator.course(kinetics, edits, state, length)
        share = jnp.clip((times - left) / jnp.where(length > 0, length, 1.0), 0.0, 1.0)
        read = jax.vmap(lambda s: operator.between(kinetics, edits, course, length, s))(share)
        after = jnp.where(length > 0, course.states[-1], state)
        doubts = doubts + jnp.where(length > 0, course.doubts, 0.0)
        return (after, doubts), jnp.where((owner == number)[:, None], read, 0.0)

    numbers = jnp.arange(rights.shape[0], dtype=owner.dtype)
    (_, doubts), shares = jax.lax.scan(step, (state, begin), (numbers, lefts, rights))
    states = jnp.sum(shares, axis=0)
    return Predicted(jnp.concatenate([state[None], states[1:]]), doubts)


def _one_window(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    edges: Edges,
) -> Predicted:
    edits = perturbation.during(edges[0], edges[1]).at(0.5 * (edges[0] + edges[1]))
    length = edges[1] - edges[0]
    course = operator.course(kinetics, edits, state, length)
    share = (times - edges[0]) / jnp.where(length > 0, length, 1.0)
    read = jax.vmap(lambda s: operator.between(kinetics, edits, course, length, s))(share)
    return Predicted(jnp.concatenate([state[None], read[1:]]), course.doubts)


def predict_at_nodes(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: State,
    which: tuple[int, ...],
) -> Predicted:
    """The same where no switch lies inside the span, one window covers it, and asked times are nodes (`which`): nothing
    needs to be read between nodes."""
    operator, kinetics = resolve(operator), resolve(kinetics)
    times = times.astype(state.dtype)
    edits = perturbation.during(times[0], times[-1]).at(0.5 * (times[0] + times[-1]))
    course = operator.course(kinetics, edits, state, times[-1] - times[0])
    rows = [state, *(course.states[k] for k in which[1:])]
    return Predicted(jnp.stack(rows), course.doubts)


def _windows(edges: Edges, count: int) -> tuple[Array, Array]:
    """Ends of all windows: every stretch between two edges in `count` equal parts."""
    shares = jnp.asarray(np.arange(count + 1) / count, edges.dtype)
    cuts = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * shares[None]
    return cuts[:, :-1].ravel(), cuts[:, 1:].ravel()


def inner_edges(perturbation: Perturbation, times: np.ndarray, lanes: int) -> np.ndarray:
    """Ends of stretches of every lane, (lane, edge), on the host: as many as the lane with most switches inside the
    span needs, and not what the number of phases would allow."""
    start, stop = np.asarray(perturbation.start), np.asarray(perturbation.stop)
    cuts = np.broadcast_to(np.concatenate([start, stop], axis=-1), (lanes, start.shape[-1] * 2))
    first, last = float(times[0]), float(times[-1])
    inside = np.where((cuts > first) & (cuts < last), cuts, last)
    inside = np.sort(inside, axis=1)
    # The same moment twice is one switch.
    repeated = np.concatenate([np.zeros((lanes, 1), bool), inside[:, 1:] == inside[:, :-1]], axis=1)
    inside = np.sort(np.where(repeated, last, inside), axis=1)
    most = int((inside < last).sum(axis=1).max(initial=0))
    ends = np.full((lanes, 1), last)
    return np.concatenate([np.full((lanes, 1), first), inside[:, :most], ends], axis=1)


def at_nodes(operator: AbstractOperator, times: np.ndarray) -> tuple[int, ...] | None:
    """Which nodes of one window over the whole span the asked times are; `None` where one is not a node."""
    shares = (np.asarray(times, dtype=float) - float(times[0])) / (float(times[-1]) - float(times[0]))
    gaps = np.abs(operator.nodes[None, :] - shares[:, None])
    return tuple(int(k) for k in gaps.argmin(axis=1)) if float(gaps.min(axis=1).max()) < 1e-6 else None
