"""Reactions and rules: a model whose quantities are defined by formulas of one another, the target of SBML import.

    quantities q = (state x, constants, what rules assign),      dx/dt = S v(q) + drive

A column of S is a reaction, a part of one whose stoichiometry is no constant whole number, or a rate rule
(`dx/dt = v`). Rates may have either sign and so may states, so that sampled methods, which need propensities >= 0, do
not take such a model. Every named constant is an array leaf, `constants/<name>`; what the model starts from follows
from the constants, too, by its initial assignments.

A perturbation acts as everywhere: `factor` multiplies the rates of columns, `drive` adds production, `hold` clamps a
state, and `activity` multiplies what a species counts for in the rate laws of reactions that do not change it.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.events import Events
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.program import Program
from pinnsim.dynamics.structure import Structure, net_change
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Acting, Edits, Perturbation
from pinnsim.shapes import Numbers, Rates, Scalar, State, Times, Trajectory
from pinnsim.table import Table


class RuleSystem(AbstractKinetics):
    """A model of reactions and rules; `pinnsim.read_sbml` builds it.

    **Arguments:**

    - `table`: `species` are the states: amounts of species, and quantities with a rate rule as the rule means them.
    - `structure`: which column changes which state.
    - `constants`: by name, (), in the file's units.
    - `starting`: from the constants (and time 0) to all quantities at the start; `begin`: its names of the states.
    - `lasting`: the part of it that gives constants set by initial assignments; `kept`: their names.
    - `running`: from states, time, constants, `kept`, activities and factors to everything else; `rates`: its names of
      the columns' rates; `states`: its names of the states; `switching`: its names of the times at which conditions on
      the time alone change.
    - `events`: what happens at instants, or `None`.
    - `fixed`: constants and `kept` as one array, where `packed` worked them out; `None` for models as they are read.
    """

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    structure: Structure = eqx.field(static=True)
    constants: dict[str, Array]
    starting: Program = eqx.field(static=True)
    begin: tuple[str, ...] = eqx.field(static=True)
    lasting: Program = eqx.field(static=True)
    kept: tuple[str, ...] = eqx.field(static=True)
    running: Program = eqx.field(static=True)
    rates: tuple[str, ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    switching: tuple[str, ...] = eqx.field(static=True)
    events: Events | None = eqx.field(static=True, default=None)
    fixed: Float[Array, " fixed"] | None = None

    def known(self, time: Scalar, state: State, edits: Edits) -> Float[Array, " known"]:
        """All quantities, by the positions of `running`."""
        return self.running.run(self.given(time, state, edits))

    def given(self, time: Scalar, state: State, edits: Edits) -> Float[Array, " given"]:
        """What programs of any time are given."""
        # The program's order: states, time, constants, what initial assignments set, activities, factors.
        kind = state.dtype
        fixed = self._fixed(kind) if self.fixed is None else self.fixed.astype(kind)
        clock = jnp.asarray(time, kind)[None]
        return jnp.concatenate([state, clock, fixed, edits.activity.astype(kind), edits.factor.astype(kind)])

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        edits = perturbation.at(time)
        return self.known(time, state, edits)[self.running.positions(self.rates)]

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        rates = self.known(time, state, edits)[self.running.positions(self.rates)]
        return jnp.where(edits.hold, 0.0, net_change(self.structure, rates) + edits.drive)

    def stoichiometry(self) -> np.ndarray:
        return self.structure.matrix

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(self.structure.species, bool)

    def default_state(self) -> State:
        constants = self._numbers(jnp.zeros(()).dtype)
        return self._assigned(self.starting, constants)[self.starting.positions(self.begin)]

    def switch_times(self) -> Float[Array, " switch"]:
        """When conditions on the time alone change, in no order; NaN for those that never do."""
        none = Perturbation.none(self.table).at(jnp.zeros(()))
        return self.known(jnp.zeros(()), self.default_state(), none)[self.running.positions(self.switching)]

    def values(self, names: Sequence[str], times: Numbers, states: Trajectory) -> Float[Array, "time name"]:
        """Quantities of an unperturbed run by name: species as the model's formulas mean them (concentrations, or
        amounts where the file says so), `"S amount"` and `"S concentration"`, parameters, compartments, rates of
        reactions.

        **Arguments:** `times`, (time,); `states`, (time, species).

        **Raises** `E_USAGE` for names that the model does not have.
        """
        place = self.running.position
        missing = [name for name in names if name not in place]
        if missing:
            raise PinnsimError.of("E_USAGE", f"The model has no quantity '{missing[0]}'; it has {', '.join(place)}.")
        none = Perturbation.none(self.table).at(jnp.zeros(()))
        return _values(self, tuple(names), jnp.asarray(times, states.dtype), states, none)

    def on_host(self) -> "HostRules":
        """The model's numbers for evaluation by numpy, one moment at a time, without compiling."""
        constants = np.array([np.asarray(self.constants[name], dtype=float) for name in sorted(self.constants)])
        first = np.concatenate([[0.0], constants])
        begin = self.starting.run_on_host(first)[self.starting.positions(self.begin)]
        kept = self.lasting.run_on_host(first)[self.lasting.positions(self.kept)]
        return HostRules(self, begin, np.concatenate([constants, kept, np.ones(len(self.states) + len(self.rates))]))

    def _fixed(self, kind: np.dtype) -> Float[Array, " fixed"]:
        constants = self._numbers(kind)
        return jnp.concatenate([constants, self._assigned(self.lasting, constants)[self.lasting.positions(self.kept)]])

    def _numbers(self, kind: np.dtype) -> Float[Array, " constant"]:
        if self.fixed is not None:
            return self.fixed[: len(self.constants)].astype(kind)
        # JAX hands dictionaries on in the order of their keys.
        values = [self.constants[name].astype(kind) for name in sorted(self.constants)]
        return jnp.stack(values) if values else jnp.zeros(0, kind)

    def _assigned(self, program: Program, constants: Array) -> Array:
        return program.run(jnp.concatenate([jnp.zeros(1, constants.dtype), constants]))


def packed(kinetics: AbstractKinetics) -> AbstractKinetics:
    """A resolved model whose constants are one array, worked out here and not at every evaluation: a compiled program
    has an operation for the whole, rather than one for each constant. Constants that are replaced need it anew."""
    if not isinstance(kinetics, RuleSystem):
        return kinetics
    plain = dataclasses.replace(kinetics, fixed=None)
    kind = jnp.zeros(()).dtype
    if any(isinstance(value, jax.core.Tracer) for value in kinetics.constants.values()):
        fixed = plain._fixed(kind)
    else:
        host = plain.on_host()
        fixed = jnp.asarray(host.rest[: len(host.rest) - len(plain.states) - len(plain.rates)], kind)
    return dataclasses.replace(plain, fixed=fixed)


@dataclasses.dataclass(frozen=True)
class HostRules:
    """An unperturbed model for numpy. **Arguments:** `begin`: (species,), states at the start; `rest`: what the
    running program is given beside states and time."""

    system: RuleSystem
    begin: np.ndarray
    rest: np.ndarray

    def known(self, time: float, state: np.ndarray) -> dict[str, float]:
        """All quantities by name."""
        return dict(zip(self.system.running.position, self._run(time, state)[self._places], strict=True))

    def slope(self, time: float, state: np.ndarray) -> np.ndarray:
        """dx/dt, (species,)."""
        rates = self._run(time, state)[self._rates]
        return self._matrix @ rates

    def given(self, time: float | np.ndarray, state: np.ndarray) -> np.ndarray:
        """What programs of any time are given, (given,), or for several moments (given, moment)."""
        if not isinstance(time, np.ndarray) or time.ndim == 0:
            return np.concatenate([state, [time], self.rest])
        found = np.empty((len(self.begin) + 1 + len(self.rest), len(time)))
        found[: len(self.begin)], found[len(self.begin)] = state, time
        found[len(self.begin) + 1 :] = self.rest[:, None]
        return found

    @cached_property
    def moves(self) -> np.ndarray:
        """(species,), whether a reaction or a rate rule moves a state."""
        return (self._matrix != 0).any(axis=1)

    @cached_property
    def steers(self) -> np.ndarray:
        """(species,), whether what an event sets is read by the rate of a column."""
        targets = set() if self.system.events is None else set(self.system.events.targets)
        rates = set(self.system.rates)
        reads = [k in targets and bool(rates & self.system.running.reached_by([name]))
                 for k, name in enumerate(self.system.states)]  # fmt: skip
        return np.array(reads, dtype=bool)

    @cached_property
    def switches(self) -> np.ndarray:
        """When conditions on the time alone change, in no order."""
        found = self._run(0.0, self.begin)[self.system.running.positions(self.system.switching)]
        return found[np.isfinite(found)]

    @cached_property
    def _places(self) -> np.ndarray:
        return np.array(list(self.system.running.position.values()), dtype=int)

    @cached_property
    def _rates(self) -> np.ndarray:
        return self.system.running.positions(self.system.rates)

    @cached_property
    def _matrix(self) -> np.ndarray:
        return self.system.stoichiometry().astype(float)

    def _run(self, time: float, state: np.ndarray) -> np.ndarray:
        return self.system.running.run_on_host(self.given(time, state))


@eqx.filter_jit
def _values(system: RuleSystem, names: tuple[str, ...], times: Times, states: Trajectory, edits: Edits) -> Array:
    wanted = system.running.positions(names)
    return jax.vmap(lambda time, state: system.known(time, state, edits)[wanted])(times, states)
