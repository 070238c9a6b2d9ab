"""The operator of gene kinetics: promoters are learned, everything downstream of them is solved.

Given the activity of every promoter over a window, a_i(t) in [0, 1], amounts follow exactly (`chain`). So it is the
activities that are predicted, and amounts are positive, start where they start and stay between what decay alone and
what full synthesis leave, for any weights:

    1. frozen activities a(x(0)) give a first course, on which promoters are read at two times;
    2. a branch-trunk network moves the log-odds between these;
    3. the course of the predicted activities is given to the true promoters at every node, and the activities that
       they answer with give the next course (a sweep of waveform relaxation; a network may correct each).

A sweep contracts: an activity depends on proteins, which are three integrals away. What the last sweep moved is how
far the course was from obeying its own physics, and the certificate is made of that.

Source: E. Lelarasmee, A. Ruehli and A. Sangiovanni-Vincentelli, IEEE Trans. CAD 1:131 (1982), waveform relaxation.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.operator.branch import BranchTrunk, branch_trunk
from pinnsim.operator.chain import Grid, Line, Step, course_of, line_of, moved, steps_of
from pinnsim.operator.form import AbstractOperator, Course
from pinnsim.parameter import Parameter, frozen
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import PerGene, Scalar, State

_LEAST = 1e-3  # of the amounts at rest: what is less than that is measured against it
_ODDS = 30.0  # largest log-odds: as good as never or always active


class Pieces(NamedTuple):
    """Productions over a window: `ends`: (node, gene), at nodes; `bends`: (step, gene), in the middle of steps."""

    ends: Float[Array, "node gene"]
    bends: Float[Array, "step gene"]


class GeneOperator(AbstractOperator):
    """Branch-trunk activities, exact amounts. Build it with `gene_operator`.

    **Arguments:** `grid`: nodes; `windows`: per stretch without a switch (1: the whole horizon at once; more:
    marching); `halvings`: of the shortest step, for the series of `chain`; `length`: of a window, time; `floor`:
    (species,), below which errors are no longer relative; `centre`: (layer, gene), log of losses, that features are
    relative to; `guess`: the network of step 2; `correctors`: one network per sweep, or `None` for a plain sweep.
    """

    grid: Grid
    windows: int = eqx.field(static=True)
    halvings: int = eqx.field(static=True)
    length: Parameter
    floor: Parameter
    centre: Parameter
    guess: BranchTrunk
    correctors: tuple[BranchTrunk | None, ...]

    @property
    def nodes(self) -> np.ndarray:
        return self.grid.nodes

    def course(self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar) -> Course:
        flow = self._flow(kinetics, edits, state, length)
        active, states = self._guessed(flow)
        before = states
        for corrector in self.correctors:
            before = states
            active = self._swept(flow, active, states, corrector)
            pieces = self._pieces(flow.line, active)
            states = flow.states(pieces)
        pieces = self._pieces(flow.line, active)
        amounts = flow.kinetics.abundances
        change = jnp.abs(states - before)[:, :amounts] / (states[:, :amounts] + self.floor[None, :amounts])
        # What a bend of one step adds to the first layer, relative to what is made.
        bend = jnp.abs(pieces.bends) / (
            pieces.ends[1:] + 1e-3 * flow.line.synthesis[None] + jnp.finfo(state.dtype).tiny
        )
        return Course(states, pieces, jnp.stack([jnp.max(change), jnp.max(bend)]))

    def between(self, kinetics: AbstractKinetics, edits: Edits, course: Course, length: Scalar, share: Scalar) -> State:
        flow_kinetics = _genes(kinetics)
        nodes = jnp.asarray(self.nodes, share.dtype)
        step = jnp.clip(jnp.searchsorted(nodes, share, side="right") - 1, 0, self.grid.steps - 1)
        within = (share - nodes[step]) / (nodes[step + 1] - nodes[step])
        line = line_of(flow_kinetics, edits)
        (part,) = steps_of(line, (share - nodes[step]) * length, 1, self.halvings + max(self.grid.levels))
        left, bend = course.pieces.ends[step], course.pieces.bends[step]
        right = left + (course.pieces.ends[step + 1] - left) * within + 4.0 * within * (1.0 - within) * bend
        amounts = flow_kinetics.abundances
        begin = tuple(course.states[step, :amounts].reshape(len(line.loss), -1))
        here = moved(part, begin, left, right, within**2 * bend)
        return jnp.concatenate([*here, _hidden(flow_kinetics, edits, course.states[0], share * length)])

    def physics_residual(
        self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar
    ) -> Float[Array, "node species"]:
        flow = self._flow(kinetics, edits, state, length)
        active, states = self._guessed(flow)
        found = []
        for corrector in (*self.correctors, None):
            # The answer of promoters to each course, plain: the last one is that to the course which is reported.
            plain = self._swept(flow, active, states, None)
            answer = flow.states(self._pieces(flow.line, plain))
            found.append(self._apart(answer, states))
            active = plain if corrector is None else self._swept(flow, active, states, corrector)
            states = answer if corrector is None else flow.states(self._pieces(flow.line, active))
        return jnp.concatenate(found)

    def _apart(self, one: Array, other: Array) -> Array:
        floor = self.floor[None]
        material = floor > 0
        # Hidden activities are logarithms already, and exact.
        ratio = jnp.where(material, one + floor, 1.0) / jnp.where(material, other + floor, 1.0)
        return jnp.log(jnp.maximum(ratio, 1e-30))

    def _flow(self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar) -> "_Flow":
        genes = _genes(kinetics)
        state = jnp.where(edits.hold, edits.level, state)
        line = line_of(genes, edits)
        steps = steps_of(line, length / self.grid.units, max(self.grid.levels) + 1, self.halvings)
        times = length * jnp.asarray(self.nodes, state.dtype)
        hidden = jax.vmap(lambda t: _hidden(genes, edits, state, t))(times)
        return _Flow(genes, edits, state, hidden, line, steps, self.grid.levels, length)

    def _guessed(self, flow: "_Flow") -> tuple[Array, Array]:
        """Activities before any sweep, (node, gene), and their course."""
        start = flow.log_odds(flow.state)
        frozen_course = flow.states(
            self._pieces(flow.line, jnp.broadcast_to(jax.nn.sigmoid(start), self._shape(start)))
        )
        coarse = np.array([self.grid.steps // 2, self.grid.steps])
        moves = jax.vmap(flow.log_odds)(frozen_course[coarse]) - start[None]
        shares = np.arange(self.grid.steps + 1)
        anchor = np.stack([np.interp(shares, [0, *coarse], row) for row in ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0])], axis=1)
        between = jnp.asarray(anchor, start.dtype) @ moves
        losses = jnp.log(jnp.stack(flow.line.loss) * flow.length + 1e-3) - self.centre
        features = jnp.concatenate([0.3 * start, 0.3 * moves.ravel(), losses.ravel()])
        learned = self.guess(features, jnp.asarray(self.nodes, start.dtype))
        odds = jnp.clip(start[None] + between + learned, -_ODDS, _ODDS)
        active = jax.nn.sigmoid(odds)
        return active, flow.states(self._pieces(flow.line, active))

    def _swept(self, flow: "_Flow", active: Array, states: Array, corrector: BranchTrunk | None) -> Array:
        """Activities that the promoters answer with, (node, gene); the first node never changes."""
        if corrector is None:
            return jnp.concatenate([active[:1], jax.lax.map(flow.activity, states[1:])])
        odds = jax.vmap(flow.log_odds)(states[1:])
        gap = odds - _log_odds(active[1:])
        # Three times are enough to tell how a gap develops.
        seen = np.array([self.grid.steps // 3, 2 * self.grid.steps // 3, self.grid.steps]) - 1
        learned = corrector(gap[seen].ravel(), jnp.asarray(self.nodes[1:], odds.dtype))
        return jnp.concatenate([active[:1], jax.nn.sigmoid(jnp.clip(odds + learned, -_ODDS, _ODDS))])

    def _pieces(self, line: Line, active: Float[Array, "node gene"]) -> Pieces:
        """Productions of activities: bent as smooth courses are, but never out of [0, full activity]."""
        wanted = jnp.asarray(self.grid.bends, active.dtype) @ active
        least, most = jnp.minimum(active[1:], active[:-1]), jnp.maximum(active[1:], active[:-1])
        bends = jnp.clip(wanted, -least, 1.0 - most)
        return Pieces(line.synthesis[None] * active, line.synthesis[None] * bends)

    def _shape(self, row: PerGene) -> tuple[int, int]:
        return (self.grid.steps + 1, row.shape[0])


class _Flow(NamedTuple):
    """What stays the same in all courses of one window."""

    kinetics: GeneKinetics
    edits: Edits
    state: State
    hidden: Array
    line: Line
    steps: list[Step]
    levels: tuple[int, ...]
    length: Scalar

    def states(self, pieces: Pieces) -> Array:
        """The course of these productions, (node, species)."""
        begin = tuple(self.state[: self.kinetics.abundances].reshape(len(self.line.loss), -1))
        course = course_of(self.steps, self.levels, begin, pieces.ends, pieces.bends)
        return jnp.concatenate([course, self.hidden], axis=1) if self.hidden.shape[1] else course

    def activity(self, state: State) -> PerGene:
        return self.kinetics.promoter_activity(state, self.edits)

    def log_odds(self, state: State) -> PerGene:
        return self.kinetics.promoter_log_odds(state, self.edits)


def _log_odds(active: Array) -> Array:
    return jnp.log(jnp.maximum(active, 1e-12)) - jnp.log(jnp.maximum(1.0 - active, 1e-12))


def _genes(kinetics: AbstractKinetics) -> GeneKinetics:
    if not isinstance(kinetics, GeneKinetics):
        raise PinnsimError.of(
            "E_USAGE",
            f"This operator is of gene kinetics, but the model is {type(kinetics).__name__}; build one with "
            "reaction_operator(...).",
        )
    return kinetics


def _hidden(kinetics: GeneKinetics, edits: Edits, state: State, time: Scalar) -> Array:
    """Hidden activities after a while, exactly: each goes to its own rest exponentially."""
    count = kinetics.abundances
    here = state[count:]
    rest = kinetics.hidden.set_point(edits.signal) + kinetics.hidden.tau * edits.drive[count:]
    moving = rest + (here - rest) * jnp.exp(-time / kinetics.hidden.tau)
    return jnp.where(edits.hold[count:], here, moving)


def gene_operator(
    kinetics: GeneKinetics,
    horizon: float,
    *,
    grid: Grid,
    windows: int = 1,
    fastest: float,
    sweeps: int = 1,
    corrected: bool = False,
    width: int = 128,
    depth: int = 1,
    modes: int = 4,
    key: PRNGKeyArray,
) -> GeneOperator:
    """An untrained operator, which already is what physics alone gives.

    **Arguments:** `kinetics`: resolved; `horizon`: the longest time it is asked for, in the model's unit, cut into
    `windows`; `grid`: nodes of a window; `fastest`: the largest loss, per time, that it has to resolve; `sweeps` (>=
    1): evaluations of the true promoters at all nodes, each of which divides the error by several; `corrected`: whether
    a network follows each; `width`, `depth`, `modes`: of the networks.

    Good values: for a whole horizon at once `graded(4)`, one or two sweeps, width 128; for marching windows of about
    one protein lifetime `Grid((0, 0, 1, 1))` and one sweep.
    """
    _genes(kinetics)
    if sweeps < 1 or windows < 1:
        raise PinnsimError.of(
            "E_USAGE", f"Arguments `sweeps` and `windows` must be at least 1, but are {sweeps} and {windows}."
        )
    genes, layers = kinetics.genes, len(kinetics.layers)
    first, *others = jax.random.split(key, 1 + sweeps)
    length = horizon / windows
    plain = line_of(kinetics, _no_edits(kinetics))
    floor = _LEAST * np.asarray(kinetics.default_state())[: kinetics.abundances]
    hidden = len(kinetics.table.species) - kinetics.abundances
    size = {"width": width, "depth": depth, "modes": modes}
    return GeneOperator(
        grid=grid,
        windows=windows,
        halvings=grid.halvings(fastest, length),
        length=frozen(length),
        floor=frozen(np.concatenate([floor, np.zeros(hidden)])),
        centre=frozen(np.log(np.asarray(plain.loss) * length + 1e-3)),
        guess=branch_trunk((3 + layers) * genes, genes, key=first, **size),
        correctors=tuple(branch_trunk(3 * genes, genes, key=k, **size) if corrected else None for k in others),
    )


def _no_edits(kinetics: GeneKinetics) -> Edits:
    return Perturbation.none(kinetics.table).at(jnp.zeros(()))
