"""General reaction systems: any species, any reactions, any rate law, in the one interface of all cells.

    dx/dt = S v(x) + drive,        x_i = amount of species i, v_r >= 0 the rate of reaction r

S is sparse: a list of (species, reaction, change), read as padded rows per species. What a reaction makes is structure
(static); how fast it runs is a law. Mass action with rate constant k and reactants counted o_i times is

    v = k prod_i x_i (x_i - g) ... (x_i - (o_i - 1) g),

g = 0 in the rate equations and g = 1 / Omega (one molecule) in sampled methods, where Omega v is the exact
combinatorial propensity `k Omega^(1 - order) n! / (n - o)!`: the propensity of `2 A -> ...` is `k n (n - 1)`, so a
"probability per pair and time" c is `k = c / 2`.

A perturbation acts as everywhere: `factor` multiplies rates, `drive` adds production, `hold` clamps, `signal` is passed
to laws, and `activity` multiplies what a species counts for where it acts without being changed (catalysts, and
regulators in custom laws).

Source: D. T. Gillespie, J. Phys. Chem. 81:2340 (1977), for the propensities.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.equation import Reaction, read_reactions
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.structure import Structure, changes_of, net_change, take_rows
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.parameter import Parameter
from pinnsim.perturbation import Acting, Edits
from pinnsim.shapes import Numbers, PerInput, Rates, Scalar, State
from pinnsim.table import Table


class AbstractRateLaw(eqx.Module):
    """How fast the reactions of a structure run."""

    @abc.abstractmethod
    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        """v, (reaction,), amount per time, >= 0.

        **Arguments:** `state`: (species,), amounts; `activity`: (species,), by which a species counts more or less
        as catalyst or regulator; `signal`: (input,); `grain`: the amount that one molecule is, 0 in rate
        equations.
        """


class MassAction(AbstractRateLaw):
    """`v = k prod_i x_i (x_i - g) ...`; `constant`: (reaction,), k."""

    constant: Parameter

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        which, rank, catalyst = structure.uses
        one = jnp.ones(1, state.dtype)
        own, acting = jnp.concatenate([state, one]), jnp.concatenate([activity, one])
        rates = self.constant
        # What a catalyst counts for is no function of the state: it stays outside of loops over steps.
        for k in range(which.shape[1]):
            if catalyst[:, k].any():
                rates = rates * jnp.where(catalyst[:, k], acting[which[:, k]], 1.0)
        for k in range(which.shape[1]):
            amount = take_rows(own, which[:, k])
            if rank[:, k].any():
                amount = jnp.maximum(amount - rank[:, k].astype(state.dtype) * grain, 0.0)
            rates = rates * amount
        return rates


class Custom(AbstractRateLaw):
    """Any law: `function(state, active, parameters, signal) -> (reaction,)`.

    **Arguments:** `function`: a named function or a module, of amounts (species,), of what each species counts for as
    regulator or catalyst (species,), of `parameters` and of signals (input,); its rates must vanish with the reactants
    and are read as they are in sampled methods (propensity `Omega v(n / Omega)`); `parameters`: any tree of arrays or
    parameters.
    """

    function: Callable[[State, State, Any, PerInput], Rates]
    parameters: Any

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        return self.function(state, state * activity, self.parameters, signal)


class ReactionSystem(AbstractKinetics):
    """Species, reactions and a rate law; build it with `reaction_system`.

    **Arguments:** `table`, `time_unit`: names; `structure`: reactants and changes; `law`: rates; `start`: (species,),
    amounts to start from where nothing else is said.
    """

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    structure: Structure = eqx.field(static=True)
    law: AbstractRateLaw
    start: Float[Array, " species"]

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return self.molecular(state, perturbation.at(time), jnp.zeros((), state.dtype))

    def molecular(self, state: State, edits: Edits, grain: Scalar) -> Rates:
        """v where one molecule is `grain` of the abundance unit (0: rate equations)."""
        return self.law.rates(self.structure, state, edits.activity, edits.signal, grain) * edits.factor

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        change = net_change(self.structure, self.molecular(state, edits, jnp.zeros((), state.dtype)))
        return jnp.where(edits.hold, 0.0, change + edits.drive)

    def stoichiometry(self) -> np.ndarray:
        return self.structure.matrix

    def material(self) -> Bool[Array, " species"]:
        return jnp.ones(self.structure.species, bool)

    def default_state(self) -> State:
        return self.start


def reaction_system(
    reactions: Sequence[Reaction],
    *,
    time_unit: str,
    species: Sequence[str] | None = None,
    law: AbstractRateLaw | None = None,
    start: Mapping[str, float] | None = None,
    inputs: Sequence[str] = (),
    genes: Sequence[str] = (),
) -> ReactionSystem:
    """A reaction system from equations in words.

    **Arguments:** `reactions`: `Reaction("bind", "A + B -> C", 0.1)`, with the rate constant per `time_unit` and
    abundance unit; `species`: names in array order (default: as they occur); `law`: in place of mass action; then
    reactions need no constants; `start`: amounts to start from (default 0); `inputs`: names of signals; `genes`: names
    that treatments may use, where reactions are called `kind:gene` and species `gene.layer`.

    **Returns** a `ReactionSystem`.

    **Raises** `E_FORMULA` for equations that cannot be read, `E_CONFIG_VALUE` for unknown or repeated names and bad
    constants, `E_NETWORK_EMPTY` without reactions; all problems at once.
    """
    with Problems() as problems:
        names, structure = read_reactions(reactions, species, problems)
        if law is None:
            _check_constants(reactions, problems)
        start = dict(start or {})
        unknown = [name for name in start if name not in names]
        if unknown:
            problems.add(
                "E_CONFIG_VALUE",
                f"Argument `start` names {len(unknown)} species that no reaction has (first: {first(unknown)}); "
                f"the species are {first(names, 8)}.",
            )
        bad = [f"{name} = {value}" for name, value in start.items() if not (np.isfinite(value) and value >= 0)]
        if bad:
            problems.add("E_INIT", f"Amounts to start from must be finite and >= 0, but {first(bad)}.")
    if law is None:
        constants = [reaction.rate for reaction in reactions]
        law = MassAction(jnp.stack([jnp.asarray(value, dtype=float) for value in constants]))
    table = Table(
        genes=tuple(genes),
        regulators=(),
        inputs=tuple(inputs),
        reactions=tuple(reaction.name for reaction in reactions),
        species=names,
        edges=(),
    )
    amounts = jnp.asarray([start.get(name, 0.0) for name in names], dtype=float)
    used, changes = structure
    return ReactionSystem(table, time_unit, Structure(len(names), len(reactions), used, changes), law, amounts)


def _check_constants(reactions: Sequence[Reaction], problems: Problems) -> None:
    for reaction in reactions:
        if reaction.rate is None:
            problems.add(
                "E_CONFIG_VALUE",
                f"Reaction '{reaction.name}' has no rate constant; give one, Reaction(name, equation, 0.1), or a law "
                "for the whole system.",
            )
            continue
        value = np.asarray(reaction.rate, dtype=float)
        if value.shape != () or not np.isfinite(value) or value < 0:
            problems.add(
                "E_CONFIG_VALUE",
                f"The rate constant of reaction '{reaction.name}' must be one finite number >= 0, but is "
                f"{reaction.rate}.",
            )


def mass_action_system(
    table: Table,
    time_unit: str,
    constant: Numbers,
    reactants: Sequence[Sequence[int]],
    products: Sequence[Sequence[int]],
) -> ReactionSystem:
    """A mass-action system from positions: per reaction, the species used and made, each repeated as often as it is.

    For builders that work with index arrays; `reaction_system` reads names. **Raises** `E_CONFIG_VALUE` when lengths
    differ from the table's.
    """
    count = len(table.reactions)
    constants = jnp.asarray(constant, dtype=float)
    if not (len(reactants) == len(products) == count and constants.shape == (count,)):
        raise PinnsimError.of(
            "E_CONFIG_VALUE",
            f"A system of {count} reactions needs as many constants, reactants and products, but got "
            f"{constants.shape}, {len(reactants)} and {len(products)}.",
        )
    used = tuple(tuple(int(i) for i in row) for row in reactants)
    structure = Structure(len(table.species), count, used, tuple(changes_of(used, products)))
    return ReactionSystem(
        table, time_unit, structure, MassAction(constants), jnp.zeros(len(table.species), dtype=float)
    )
