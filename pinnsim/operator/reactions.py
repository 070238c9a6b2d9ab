"""The operator of any reaction system: how fast reactions run is learned, what they make is fixed.

Rates over a window, v_r(t) >= 0, give extents `xi_r(t) = int v_r`, and extents the state,

    x(t) = x(0) + theta(t) S xi(t) + drive t,      theta in [0, 1] the largest share with x >= 0,

so that every total that the stoichiometry conserves is conserved to rounding, amounts start where they start and are
never negative, for any weights. The first guess lets rates change between two readings of the true rate laws along the
course of frozen rates, a branch-trunk network moves their logarithms, and sweeps of waveform relaxation follow, as in
`genes`. Nothing is solved exactly here, so a window must be short beside the fastest reaction (its rate times the
window about 1 or less): march.

Source: D. Bonvin and D. W. T. Rippin, Chem. Eng. Sci. 45:3417 (1990), for extents.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.operator.branch import BranchTrunk, branch_trunk
from pinnsim.operator.chain import Grid
from pinnsim.operator.form import AbstractOperator, Course
from pinnsim.parameter import Parameter, frozen
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import Rates, Scalar, State

_LEAST = 1e-3  # of the typical amount: what is less than that is measured against it
_RANGE = 20.0  # largest change of a logarithm of a rate in a window


class _Flow(NamedTuple):
    kinetics: AbstractKinetics
    edits: Edits
    state: State
    changes: Float[Array, "species reaction"]
    supply: State
    length: Scalar

    def rates(self, state: State) -> Rates:
        return self.kinetics.propensities(jnp.zeros((), state.dtype), state, Constant(self.edits))


class ReactionOperator(AbstractOperator):
    """Branch-trunk rates, extents, any stoichiometry. Build it with `reaction_operator`.

    **Arguments:** `grid`: nodes; `windows`: per stretch without a switch; `length`: of a window, time; `floor`:
    (species,), amounts below which errors are no longer relative; `scale`: (reaction,), typical rates; `guess`: the
    network; `sweeps`: of waveform relaxation.
    """

    grid: Grid
    windows: int = eqx.field(static=True)
    length: Parameter
    floor: Parameter
    scale: Parameter
    guess: BranchTrunk
    sweeps: int = eqx.field(static=True)

    @property
    def nodes(self) -> np.ndarray:
        return self.grid.nodes

    def course(self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar) -> Course:
        flow = self._flow(kinetics, edits, state, length)
        rates, states = self._guessed(flow)
        before = states
        for _ in range(self.sweeps):
            before = states
            rates = self._answer(flow, rates, states)
            states = self._states(flow, rates)
        change = jnp.max(jnp.abs(states - before) / (states + self.floor[None]))
        bends = self._bends(rates)
        bend = jnp.max(jnp.abs(bends) / (rates[1:] + _LEAST * self.scale[None]))
        return Course(states, rates, jnp.stack([change, bend]))

    def between(self, kinetics: AbstractKinetics, edits: Edits, course: Course, length: Scalar, share: Scalar) -> State:
        flow = self._flow(kinetics, edits, course.states[0], length)
        rates, nodes = course.pieces, jnp.asarray(self.nodes, share.dtype)
        step = jnp.clip(jnp.searchsorted(nodes, share, side="right") - 1, 0, self.grid.steps - 1)
        width = nodes[step + 1] - nodes[step]
        within = (share - nodes[step]) / width
        # The integral of the bent rate over a part of the step.
        left, right, bend = rates[step], rates[step + 1], self._bends(rates)[step]
        part = within * left + 0.5 * within**2 * (right - left) + bend * within**2 * (2.0 - 4.0 / 3.0 * within)
        extent = self._extents(flow, rates)[step] + width * length * part
        return self._limited(flow, extent, share * length)

    def physics_residual(
        self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar
    ) -> Float[Array, "node species"]:
        flow = self._flow(kinetics, edits, state, length)
        rates, states = self._guessed(flow)
        found = []
        for _ in range(self.sweeps + 1):
            rates = self._answer(flow, rates, states)
            answer = self._states(flow, rates)
            found.append(jnp.log((answer + self.floor[None]) / (states + self.floor[None])))
            states = answer
        return jnp.concatenate(found)

    def _flow(self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar) -> _Flow:
        state = jnp.where(edits.hold, edits.level, state)
        free = jnp.where(edits.hold, 0.0, 1.0).astype(state.dtype)
        changes = jnp.asarray(kinetics.stoichiometry(), state.dtype) * free[:, None]
        return _Flow(kinetics, edits, state, changes, free * edits.drive, length)

    def _guessed(self, flow: _Flow) -> tuple[Array, Array]:
        """Rates before any sweep, (node, reaction), and their course."""
        start, steps = flow.rates(flow.state), self.grid.steps
        floor = _LEAST * self.scale
        course = self._states(flow, jnp.broadcast_to(start, (steps + 1, start.shape[0])))
        coarse = np.array([steps // 2, steps])
        log_start = jnp.log(start + floor)
        moves = jnp.log(jax.vmap(flow.rates)(course[coarse]) + floor[None]) - log_start[None]
        # What frozen rates exaggerate is halved; the network learns the rest.
        shares = np.arange(steps + 1)
        anchor = np.stack([np.interp(shares, [0, *coarse], row) for row in ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0])], axis=1)
        between = jnp.asarray(0.5 * anchor, start.dtype) @ moves
        level = jnp.log(flow.state + self.floor) - jnp.log(
            flow.kinetics.default_state().astype(start.dtype) + self.floor
        )
        pace = jnp.log(start + floor) - jnp.log(self.scale + floor)
        features = 0.3 * jnp.concatenate([level, pace, moves.ravel()])
        learned = self.guess(features, jnp.asarray(self.nodes, start.dtype))
        rates = jnp.exp(log_start[None] + jnp.clip(between + learned, -_RANGE, _RANGE)) - floor[None]
        rates = jnp.concatenate([start[None], jnp.maximum(rates[1:], 0.0)])
        return rates, self._states(flow, rates)

    def _answer(self, flow: _Flow, rates: Array, states: Array) -> Array:
        return jnp.concatenate([rates[:1], jax.vmap(flow.rates)(states[1:])])

    def _bends(self, rates: Float[Array, "node reaction"]) -> Float[Array, "step reaction"]:
        wanted = jnp.asarray(self.grid.bends, rates.dtype) @ rates
        return jnp.maximum(wanted, -jnp.minimum(rates[1:], rates[:-1]))

    def _extents(self, flow: _Flow, rates: Array) -> Float[Array, "node reaction"]:
        widths = flow.length * jnp.asarray(np.diff(self.nodes), rates.dtype)
        made = widths[:, None] * (0.5 * (rates[1:] + rates[:-1]) + 2.0 / 3.0 * self._bends(rates))
        return jnp.concatenate([jnp.zeros_like(rates[:1]), jnp.cumsum(made, axis=0)])

    def _states(self, flow: _Flow, rates: Array) -> Float[Array, "node species"]:
        times = flow.length * jnp.asarray(self.nodes, rates.dtype)
        return jax.vmap(lambda extent, time: self._limited(flow, extent, time))(self._extents(flow, rates), times)

    def _limited(self, flow: _Flow, extent: Rates, time: Scalar) -> State:
        """The state of these extents, or of the largest share of them that leaves no amount negative."""
        change, begin = flow.changes @ extent, flow.state + flow.supply * time
        lost = jnp.maximum(-change, 0.0)
        needed = lost > begin
        share = jnp.min(jnp.where(needed, begin / jnp.where(needed, lost, 1.0), 1.0))
        # Rounding may leave the least amount just below zero.
        return jnp.maximum(begin + share * change, 0.0)


def reaction_operator(
    kinetics: AbstractKinetics,
    horizon: float,
    *,
    grid: Grid,
    windows: int,
    typical: State | None = None,
    sweeps: int = 2,
    width: int = 64,
    depth: int = 1,
    modes: int = 4,
    key: PRNGKeyArray,
) -> ReactionOperator:
    """An untrained operator, which already is what physics alone gives.

    **Arguments:** `kinetics`: resolved; `horizon`, `windows`, `grid`, `sweeps`, `width`, `depth`, `modes`: as for
    `gene_operator`; `typical`: (species,), amounts that errors are relative to (default: those to start from; where
    they are 0, the largest of them).

    **Raises** `E_USAGE` for sweeps or windows below 1, and for kinetics that are not written as reactions.
    """
    stoichiometry = kinetics.stoichiometry()
    if sweeps < 1 or windows < 1 or not stoichiometry.shape[1] or not bool(np.asarray(kinetics.material()).all()):
        raise PinnsimError.of(
            "E_USAGE",
            "An operator of reactions needs reactions, species that are all amounts, and `sweeps` and `windows` of at "
            f"least 1, but got {stoichiometry.shape[1]} reactions, sweeps={sweeps} and windows={windows}.",
        )
    amounts = np.asarray(kinetics.default_state() if typical is None else typical, dtype=float)
    amounts = np.where(amounts > 0, amounts, max(amounts.max(), 1e-12))
    plain = Constant(Perturbation.none(kinetics.table).at(jnp.zeros(())))
    rates = np.asarray(kinetics.propensities(jnp.zeros(()), jnp.asarray(amounts), plain))
    features = len(amounts) + 3 * len(rates)
    return ReactionOperator(
        grid=grid,
        windows=windows,
        length=frozen(horizon / windows),
        floor=frozen(_LEAST * amounts),
        scale=frozen(np.where(rates > 0, rates, max(rates.max(), 1e-12))),
        guess=branch_trunk(features, len(rates), width=width, depth=depth, modes=modes, key=key),
        sweeps=sweeps,
    )
