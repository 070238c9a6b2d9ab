"""The course of one experiment: rest where it is asked for, then period after period, each solved from the changes at
its start.

    kept, x(0) = the model's start;     rest: f(x) = 0;     period: x, kept <- changes;  dx/dt = f(x, kept)

A change of a compartment keeps what the names of its species mean: concentrations stay, and so do amounts of species
that have only substance units. Experiments are arrays of one shape, so that a problem is one compiled program.

Source: PEtab 2.0, "Conditions table", "Experiments table".
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.naming import TIME
from pinnsim.dynamics.program import Program
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.dynamics.structure import Structure, net_change
from pinnsim.perturbation import Acting, Perturbation
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.simulate.adaptive import Limits, integrate
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.solve import Solution, solve
from pinnsim.simulate.steady import steady_state
from pinnsim.table import Table

FOREVER = 1e9
"""The time at which formulas are asked for what holds for ever."""


class Held(AbstractKinetics):
    """Reactions and rules with given numbers, initial assignments' included: those hold from the start on, whatever
    changes later. **Arguments:** `numbers`: constants, what initial assignments set, and a 1."""

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    structure: Structure = eqx.field(static=True)
    running: Program = eqx.field(static=True)
    rates: tuple[str, ...] = eqx.field(static=True)
    places: tuple[int, ...] = eqx.field(static=True)
    numbers: Float[Array, " number"]

    @staticmethod
    def of(rules: RuleSystem, constants: Array, kept: Array) -> "Held":
        """The system of a period; `constants` in the order of their names."""
        names = [*rules.states, TIME, *sorted(rules.constants), *rules.kept]
        place = {name: k for k, name in enumerate(names)}
        # Activities and factors are those of nothing done.
        places = tuple(place.get(name, len(names)) for name in rules.running.given)
        numbers = jnp.concatenate([constants, kept, jnp.ones(1, constants.dtype)])
        return Held(rules.table, rules.time_unit, rules.structure, rules.running, rules.rates, places, numbers)

    def known(self, time: Scalar, state: State) -> Float[Array, " known"]:
        """All quantities, by the positions of `running`."""
        every = jnp.concatenate([state, jnp.asarray(time, state.dtype)[None], self.numbers])
        return self.running.run(every[np.array(self.places, dtype=int)])

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return self.known(time, state)[self.running.positions(self.rates)]

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return net_change(self.structure, self.propensities(time, state, perturbation))

    def stoichiometry(self) -> np.ndarray:
        return self.structure.matrix

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(self.structure.species, bool)

    def default_state(self) -> State:
        return jnp.zeros(self.structure.species, self.numbers.dtype)


class Lanes(eqx.Module):
    """Experiments as arrays. `on`: (experiment, switch), which changes of first periods hold; `rest`: (experiment,),
    whether it begins at rest; `start`, `stop`: (experiment, period); `moved`: (experiment, period, state) and `fixed`:
    (experiment, period, kept), the change that sets it, or -1; `times`, `owner`: (experiment, time), what is asked and
    in which period; `settle`: (experiment,), whether it is asked for ever."""

    on: Float[Array, "experiment switch"]
    rest: Bool[Array, " experiment"]
    start: Float[Array, "experiment period"]
    stop: Float[Array, "experiment period"]
    moved: Int[Array, "experiment period state"]
    fixed: Int[Array, "experiment period kept"]
    times: Float[Array, "experiment time"]
    owner: Int[Array, "experiment time"]
    settle: Bool[Array, " experiment"]


class Course(NamedTuple):
    """States and kept numbers at the asked times, the last of them for ever; how it ended."""

    states: Float[Array, "experiment time state"]
    kept: Float[Array, "experiment time kept"]
    outcome: Int[Array, " experiment"]


class Ground(eqx.Module):
    """What all experiments share, all of it static: the model, what later periods change, sizes of compartments, which
    of the model's constants are switches, and whether any experiment rests or is asked for ever."""

    rules: RuleSystem
    changing: Program = eqx.field(static=True)
    reads: tuple[str, ...] = eqx.field(static=True)
    sizes: tuple[str, ...] = eqx.field(static=True)
    switches: tuple[int, ...] = eqx.field(static=True)
    rests: bool = eqx.field(static=True)
    settles: bool = eqx.field(static=True)


def courses(ground: Ground, lanes: Lanes, constants: Float[Array, " constant"], method: ODE) -> Course:
    """All experiments, one after the other. Pure; differentiable in `constants`, in the order of their names."""
    return Course(*jax.lax.map(lambda lane: _course(ground, lane, constants, method), lanes))


def _course(ground: Ground, lane: Lanes, constants: Array, method: ODE) -> tuple[Array, Array, Array]:
    rules = ground.rules
    if ground.switches:
        constants = constants.at[np.array(ground.switches)].set(lane.on)
    opening = jnp.where(lane.rest, 0.0, lane.start[0])
    given = jnp.concatenate([opening[None], constants])
    state = rules.starting.run(given)[rules.starting.positions(rules.begin)]
    kept = rules.lasting.run(given)[rules.lasting.positions(rules.kept)]
    outcome = jnp.asarray(Outcome.DONE.value)
    none = Perturbation.none(rules.table)

    def settled(state: State, kept: Array, time: float) -> tuple[State, Array]:
        held = Held.of(rules, constants, kept)
        found = steady_state(held, none, state, jnp.asarray(time), reach=_reach(held, state, jnp.asarray(time)))
        return found.state, found.outcome

    if ground.rests:
        state, outcome = jax.lax.cond(
            lane.rest, partial(settled, time=0.0), lambda state, kept: (state, outcome), state, kept
        )

    def period(carry: tuple, one: tuple) -> tuple[tuple, tuple]:
        state, kept, outcome = carry
        start, stop, moved, fixed = one
        state, kept = _changed(ground, constants, start, state, kept, moved, fixed)
        held = Held.of(rules, constants, kept)
        usable = jnp.all(jnp.isfinite(state))
        times = jnp.concatenate([jnp.clip(lane.times, start, stop), stop[None]])
        idle = _own_switches(rules, held, state, none)
        solved = _solved(held, times, idle, jnp.where(usable, state, 1.0), method, start)
        here = jnp.where(usable, solved.outcome, Outcome.NOT_FINITE.value)
        outcome = jnp.where(outcome == Outcome.DONE, here, outcome)
        # What was not solved is no number.
        states = jnp.where(outcome == Outcome.DONE, solved.states, jnp.nan)
        return (states[-1], kept, outcome), (states[:-1], kept)

    carry, (states, all_kept) = jax.lax.scan(
        period, (state, kept, outcome), (lane.start, lane.stop, lane.moved, lane.fixed)
    )
    state, kept, outcome = carry
    reported = states[lane.owner, jnp.arange(lane.times.shape[0])]
    final = state
    if ground.settles:
        final, last = jax.lax.cond(
            lane.settle,
            partial(settled, time=FOREVER),
            lambda state, kept: (state, jnp.asarray(Outcome.DONE.value)),
            jnp.where(jnp.isfinite(state), state, 1.0),
            kept,
        )
        final = jnp.where(outcome == Outcome.DONE, final, jnp.nan)
        outcome = jnp.where(outcome == Outcome.DONE, last, outcome)
    return (
        jnp.concatenate([reported, final[None]]),
        jnp.concatenate([all_kept[lane.owner], kept[None]]),
        outcome,
    )


def _solved(held: Held, times: Array, idle: Perturbation, state: State, method: ODE, start: Scalar) -> Solution:
    if method.solver is not None:
        return solve(held, times, idle, state, method, start)
    limits = Limits(method.rtol, method.atol, method.max_steps)
    span = jnp.concatenate([start[None], times])
    clocked = not held.running.reached_by([TIME]).isdisjoint(held.rates)
    solved = integrate(held, span, idle, state, Tsitouras() if method.stiff is False else Rodas(), limits, clocked)
    return solved._replace(states=solved.states[1:])


def _changed(
    ground: Ground, constants: Array, time: Scalar, state: State, kept: Array, moved: Array, fixed: Array
) -> tuple[State, Array]:
    """States and kept numbers after the changes at the start of a period."""
    if not ground.changing.names:
        return state, kept
    rules, place = ground.rules, ground.rules.running.position
    before = Held.of(rules, constants, kept).known(time, state)
    values = ground.changing.run(before[rules.running.positions(ground.reads)])
    values = values[ground.changing.positions(f"change {k}" for k in range(len(ground.changing.names)))]
    kept = jnp.where(fixed >= 0, values[fixed], kept)
    dense = np.array([bool(size) for size in ground.sizes])
    size = np.array([place[size] if size else 0 for size in ground.sizes])
    new = jnp.where(moved >= 0, values[moved], state)
    after = Held.of(rules, constants, kept).known(time, jnp.where(dense, state, new))
    amounts = jnp.where(moved >= 0, new * after[size], state * (after[size] / before[size]))
    return jnp.where(dense, amounts, new), kept


def _own_switches(rules: RuleSystem, held: Held, state: State, none: Perturbation) -> Perturbation:
    """Idle phases at the times at which the model's own conditions change, so that no step straddles them."""
    if not rules.switching:
        return none
    times = held.known(jnp.zeros((), state.dtype), state)[held.running.positions(rules.switching)]
    idle = Perturbation.none(rules.table, len(rules.switching))
    return eqx.tree_at(lambda p: p.start, idle, jnp.where(jnp.isfinite(times), times, jnp.inf))


def _reach(held: Held, state: State, time: Scalar) -> Float[Array, "species species"]:
    """The projector onto what the flow can change. Reactions that run move along their column of S; columns that are
    no reactions of whole numbers are asked at several states, because two of them may belong together (a' = -b')."""
    arrays, rest = eqx.partition((held, state), eqx.is_array)
    held, state = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    matrix = held.structure.matrix
    apart = np.array([":" in name or ">" in name for name in held.rates])
    draws = np.random.default_rng(0).uniform(0.3, 1.7, (int(apart.sum()) + 2, len(state)))
    near = jnp.asarray(draws, state.dtype) * (jnp.abs(state) + 1.0)[None, :]
    flows = held.running.positions(held.rates)
    rates = jax.vmap(lambda x: held.known(time, x)[flows])(near)
    columns = jnp.where(jnp.any(rates != 0, axis=0)[None, :], jnp.asarray(matrix, state.dtype), 0.0)
    drawn = (jnp.where(apart[None, :], rates, 0.0) @ jnp.asarray(matrix.T, state.dtype)).T
    size = jnp.linalg.norm(drawn, axis=0)
    drawn = drawn / jnp.where(size > 0, size, 1.0)[None, :]
    every = jnp.concatenate([jnp.where(apart[None, :], 0.0, columns), drawn], axis=1)
    every = jnp.where(jnp.isfinite(every), every, 0.0)
    values, vectors = jnp.linalg.eigh(every @ every.T)
    spanned = values > 1e-13 * jnp.maximum(values[-1], 1.0)
    return jnp.where(spanned[None, :], vectors, 0.0) @ vectors.T
