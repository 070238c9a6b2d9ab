"""Into which valley a state flows: one program for one state, which runs many side by side.

A state is followed along the cell's own flow until it is within a small radius of a known attractor, or on a known
cycle, and stops there, so that quick lanes do not wait for the clock. The radius of attractor k in coordinates
(`pinnsim.landscape.coordinates`) is

    r_k = min(0.02, distance to the nearest other known fixed point / 10),

inside which no known saddle can be. A state that reaches none within `longest` has not settled: it sits on an edge,
goes round an unknown cycle, or is too slow; that is an outcome, never a valley.

Between two states, `crossed` cuts the line (straight in coordinates) into eighths, keeps the first that leaves the
valley of the first state, and cuts again, so its last bracket holds a point on the edge of that valley.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import (
    coordinates,
    distance,
    floors,
    frozen,
    kinetics_of,
    require_states,
    resolved,
)
from pinnsim.landscape.cycles import SAMPLES, gap_to
from pinnsim.landscape.slabs import in_batches
from pinnsim.landscape.system import System, system_of
from pinnsim.landscape.totals import Totals, totals_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.simulate import ODE, Outcome
from pinnsim.simulate.adaptive import AbstractPair, Field, Limits, Walk, begun, stepped_once
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.many import lanes_in_cache, starts_stiff
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.treatment import Treatment

NOWHERE = -1
ON_CYCLE = 0.02  # a state so near a cycle, in units of its swing, is on it
_RADIUS, _PART = 0.02, 0.1
_LIFETIMES = 60.0  # of the slowest rate: e^-60 of a start's distance from an edge is less than rounding
_STATES, _LINES = 256, 32  # lanes of the two programs, whatever is asked
_PLACES = 4  # attractors come in multiples of this
_STEPS_TO_CYCLE = 16  # steps between two looks at whether a state is on a cycle
_CUTS = 7  # states between the ends of a bracket that are asked at once: three halvings
_ORBIT = 2  # every second sample of an orbit is looked at
_LONG = 64  # batches beyond which a progress bar is shown


class Valleys(eqx.Module):
    """What states are asked against.

    **Arguments:** `system`: the cell under what acts; `points`: (place, species), attractors in coordinates, then
    places at infinity, `radius`: (place,); `count`: of attractors; `orbits`: (cycle, sample, species), `swings`:
    (cycle, species); `longest`: how long a state is followed; `rtol`, `atol`, `max_steps`: of the solver; `pair`: how a
    step is taken.
    """

    system: System
    points: Float[Array, "place species"]
    radius: Float[Array, " place"]
    count: Int[Array, ""]
    orbits: Float[Array, "cycle sample species"]
    swings: Float[Array, "cycle species"]
    longest: Scalar
    rtol: Scalar
    atol: Scalar
    max_steps: Int[Array, ""]
    pair: AbstractPair

    def coordinates(self, state: State) -> State:
        """z of a state, (species,)."""
        kinetics = self.system.kinetics
        return coordinates(state, floors(kinetics), kinetics.material())

    def state(self, z: State) -> tuple[State, Bool[Array, ""]]:
        """The state at coordinates, with held levels and conserved totals as they must be, and whether it is one (no
        amount is negative)."""
        kinetics = self.system.kinetics
        floor, material = floors(kinetics), kinetics.material()
        plain = jnp.where(material, jnp.maximum(jnp.exp(jnp.where(material, z, 0.0)) - floor, 0.0), z)
        held = self.system.state(self.system.free(plain))
        possible = jnp.all(jnp.where(material, held >= -1e-9 * floor, True))
        return jnp.where(material, jnp.maximum(held, 0.0), held), possible

    def arrived(self, state: State) -> Int[Array, ""]:
        """The attractor or cycle that a state has reached, or -1."""
        kinetics = self.system.kinetics
        state = jnp.where(kinetics.material(), jnp.maximum(state, 0.0), state)
        number = jnp.asarray(NOWHERE, dtype=int)
        if self.points.shape[0]:
            here = self.coordinates(state)
            gaps = distance(jnp.broadcast_to(here, self.points.shape), self.points) / self.radius
            number = jnp.where(jnp.min(gaps) < 1.0, jnp.argmin(gaps), number)
        for k in range(self.orbits.shape[0]):
            near = gap_to(self.orbits[k], self.swings[k], state) < ON_CYCLE
            number = jnp.where((number < 0) & near, self.count + k, number)
        return number


class Settled(NamedTuple):
    """Where a state flows, of one lane or of many: the valley (cycles after points, -1 for none), the state when it had
    arrived, the outcome code, and when it arrived."""

    valley: Any
    end: Any
    outcome: Any
    time: Any


class Crossing(NamedTuple):
    """Where a line leaves a valley: shares of the line of the last state inside and the first outside, the state
    halfway, the valleys of both ends of the bracket, and whether the line leaves at all."""

    inside: Any
    outside: Any
    state: Any
    home: Any
    beyond: Any
    leaves: Any


def settled(valleys: Valleys, state: State) -> Settled:
    """Where one state flows."""
    system = valleys.system
    field = Field(system.kinetics, Constant(system.acting))
    limits = Limits(valleys.rtol, valleys.atol, valleys.max_steps)
    zero = jnp.zeros((), state.dtype)
    state = jnp.where(system.acting.hold, system.acting.level, state)
    walk = begun(field, valleys.pair, zero, state, jnp.asarray(Outcome.DONE.value, dtype=int), limits)

    def moving(walk: Walk) -> Array:
        return (walk.outcome == Outcome.DONE) & (walk.time < valleys.longest)

    def going(carry: tuple) -> Array:
        return (carry[1] < 0) & moving(carry[0])

    def stepped(walk: Walk) -> Walk:
        return stepped_once(field, valleys.pair, walk, valleys.longest, limits)

    def further(carry: tuple) -> tuple:
        walk = carry[0]
        if valleys.orbits.shape[0]:
            # To look along a whole orbit costs more than a few steps.
            begin = (jnp.zeros((), int), walk)
            _, walk = jax.lax.while_loop(
                lambda some: (some[0] < _STEPS_TO_CYCLE) & moving(some[1]),
                lambda some: (some[0] + 1, stepped(some[1])),
                begin,
            )
        else:
            walk = stepped(walk)
        return walk, valleys.arrived(walk.state)

    walk, number = jax.lax.while_loop(going, further, (walk, valleys.arrived(state)))
    outcome = jnp.where((number < 0) & (walk.outcome == Outcome.DONE), Outcome.NOT_SETTLED.value, walk.outcome)
    outcome = jnp.where(number >= 0, Outcome.DONE.value, outcome)
    return Settled(number, walk.state, outcome, walk.time)


def crossed(valleys: Valleys, first: State, second: State, rounds: Int[Array, ""]) -> Crossing:
    """Where the line between two states, given in coordinates, leaves the valley of the first.

    What is no state (an amount that totals would make negative) counts as inside, so that no edge is seen there.
    """

    def at(share: Scalar) -> tuple[Array, Array]:
        state, possible = valleys.state(first + share * (second - first))
        return settled(valleys, state).valley, possible

    kind = first.dtype
    parts = jnp.arange(1, _CUTS + 1).astype(kind) / (_CUTS + 1)
    (home, away), (_, possible) = jax.vmap(at)(jnp.asarray([0.0, 1.0], kind))

    def cut(_: Array, carry: tuple) -> tuple:
        inside, outside, beyond = carry
        shares = inside + parts * (outside - inside)
        valley, possible = jax.vmap(at)(shares)
        left = (valley != home) & possible
        which = jnp.argmax(left)
        before = jnp.where(which > 0, shares[which - 1], inside)
        some = jnp.any(left)
        return (
            jnp.where(some, before, shares[-1]),
            jnp.where(some, shares[which], outside),
            jnp.where(some, valley[which], beyond),
        )

    zero, one = jnp.zeros((), kind), jnp.ones((), kind)
    inside, outside, beyond = jax.lax.fori_loop(0, rounds, cut, (zero, one, away))
    state, _ = valleys.state(first + 0.5 * (inside + outside) * (second - first))
    leaves = (home >= 0) & (away != home) & possible
    return Crossing(inside, outside, state, home, beyond, leaves)


def valleys_of(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    treatment: Treatment | Perturbation | str,
    time: float | int,
    longest: float | int | None,
    method: ODE | None,
    rtol: float = 1e-8,
) -> tuple[Valleys, tuple[str, ...], Totals]:
    """Valleys of a model, their names (attractors, then cycles) and the totals that all of them have.

    **Raises** `E_USAGE` where nothing is known to flow into, and where `method` brings a solver of its own.
    """
    kinetics = kinetics_of(model)
    acting = frozen(resolved(treatment, kinetics), time)
    stable = attractors.stable
    names = (*(n for n, s in zip(attractors.names, stable, strict=True) if s), *(c.name for c in attractors.cycles))
    if not names:
        raise PinnsimError.of(
            "E_USAGE",
            "Argument `attractors` holds no stable point and no cycle; there is no valley to flow into. Look for one "
            "with more `starts` or a longer `settle`.",
        )
    if method is not None and method.solver is not None:
        raise PinnsimError.of(
            "E_USAGE", "Basins are followed by pinnsim's own solvers; give ODE(...) without a `solver`, with `stiff`."
        )
    states = np.asarray(attractors.states, dtype=float)
    require_states(states, kinetics, "attractors")
    reference = states[0] if len(states) else attractors.cycles[0].orbit[0]
    totals = totals_of(kinetics, acting, reference, states)
    system = system_of(kinetics, acting, reference)
    rates = np.abs(attractors.eigenvalues.real)
    # A rate that is zero within rounding (a fold, a centre) says nothing about how long to wait.
    rates = rates[rates > 1e-6 * rates.max(initial=0.0)]
    slowest = min(rates.min(initial=np.inf), min((0.1 / c.period for c in attractors.cycles), default=np.inf))
    span = _LIFETIMES / slowest if longest is None else float(longest)
    if not (np.isfinite(span) and span > 0):
        raise PinnsimError.of("E_USAGE", f"Argument `longest` must be a positive time, but is {span:g}.")
    z = np.asarray(coordinates(jnp.asarray(states), floors(kinetics), kinetics.material()))
    gaps = np.sqrt(np.mean((z[:, None] - z[None]) ** 2, axis=-1))
    near = np.where(np.eye(len(z), dtype=bool), np.inf, gaps).min(axis=1, initial=np.inf)
    method = ODE(rtol=rtol, atol=1e-3 * rtol, max_steps=100_000) if method is None else method
    stiff = method.stiff
    if stiff is None:
        stiff = (
            starts_stiff(kinetics, jnp.asarray([0.0, span]), acting, jnp.asarray(states[:1]), {}) if len(z) else False
        )
    orbits = [cycle.orbit[::_ORBIT] for cycle in attractors.cycles]
    # Places for attractors are filled up with points at infinity, so that models with one or two more share a program.
    places = np.full((-(-int(stable.sum()) // _PLACES) * _PLACES, z.shape[1]), np.inf)
    radius = np.ones(len(places))
    places[: stable.sum()], radius[: stable.sum()] = z[stable], np.minimum(_RADIUS, _PART * near)[stable]
    return (
        Valleys(
            system,
            jnp.asarray(places),
            jnp.asarray(radius),
            jnp.asarray(int(stable.sum()), dtype=int),
            jnp.asarray(np.array(orbits).reshape(len(orbits), SAMPLES // _ORBIT + 1, states.shape[1])),
            jnp.asarray(np.array([cycle.swing for cycle in attractors.cycles]).reshape(len(orbits), states.shape[1])),
            jnp.asarray(span, dtype=float),
            jnp.asarray(method.rtol, dtype=float),
            jnp.asarray(method.atol, dtype=float),
            jnp.asarray(method.max_steps, dtype=int),
            Rodas() if stiff else Tsitouras(),
        ),
        names,
        totals,
    )


@eqx.filter_jit
def _settle(valleys: Valleys, states: Float[Array, "lane species"]) -> Settled:
    return run_lanes(settled, valleys, states, block=_block(valleys, states))


@eqx.filter_jit
def _cross(
    valleys: Valleys,
    rounds: Int[Array, ""],
    first: Float[Array, "lane species"],
    second: Float[Array, "lane species"],
) -> Crossing:
    def one(shared: tuple, lane: tuple) -> Crossing:
        return crossed(shared[0], lane[0], lane[1], shared[1])

    return run_lanes(one, (valleys, rounds), (first, second), block=max(_block(valleys, first) // (_CUTS + 1), 8))


def settle_all(valleys: Valleys, states: np.ndarray, progress: bool = True) -> Settled:
    """Where states, (state, species), flow; batches of one size, so that one program serves any number."""
    label = _bar(len(states) / _STATES, progress)
    return Settled(*in_batches(lambda some: _settle(valleys, jnp.asarray(some)), [states], _STATES, label))


def cross_all(valleys: Valleys, first: np.ndarray, second: np.ndarray, rounds: int, progress: bool = True) -> Crossing:
    """Where the lines between pairs of coordinates, (line, species) each, leave the valley of their first end."""
    count = jnp.asarray(rounds, dtype=int)

    def some(first: np.ndarray, second: np.ndarray) -> Crossing:
        return _cross(valleys, count, jnp.asarray(first), jnp.asarray(second))

    return Crossing(*in_batches(some, [first, second], _LINES, _bar(len(first) / _LINES, progress)))


def _bar(batches: float, progress: bool) -> str | None:
    """The label of a progress bar, where the work is long enough for one."""
    return "basins" if progress and batches > _LONG else None


def rounds_for(tolerance: float) -> int:
    """How often a line is cut until its bracket is no longer than this part of it.

    >>> rounds_for(1e-6)
    7
    """
    return max(math.ceil(math.log(1.0 / tolerance) / math.log(_CUTS + 1) - 1e-9), 1)


def _block(valleys: Valleys, states: Array) -> int:
    """How many lanes run side by side."""
    implicit = states.shape[1] if isinstance(valleys.pair, Rodas) else 0
    return lanes_in_cache(states, implicit) or states.shape[0]
