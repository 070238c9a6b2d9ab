"""A neural correction of ONE rate of a kinetic model: learned speed, never learned mass.

    v_r -> v_r exp(gate * bound * tanh(network(log(1 + x_seen / typical))))

The correction is a factor > 0 on the rate of one reaction, as a treatment's is: stoichiometry, and that a rate vanishes
with its reactant, stay as the model has them. It is 1 at the start (the network's last layer is zero) and between
`exp(-bound)` and `exp(bound)` whatever the weights are. The gate in [0, 1] is reported: near where it started, the law
was enough; near 1, the fit rests on what was learned.

Source: the idea of universal differential equations, C. Rackauckas et al., arXiv:2001.04385 (2020).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.parameter import Parameter, frozen, interval
from pinnsim.perturbation import Acting, Constant, Edits
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.table import Table

_FEWEST_TYPICAL = 1e-12


class LearnedRate(AbstractKinetics):
    """Kinetics with a learned factor on one rate; build it with `learned_rate`.

    **Arguments:** `table`, `time_unit`: names and unit of the model; `kinetics`: the model as it is; `gate` in [0, 1];
    `bound`: largest correction in natural logarithm at gate 1; `typical`: (seen,), amounts that inputs are measured in;
    `network`: inputs -> (); `column`: which reaction; `seen`: positions of the species that it sees.
    """

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    kinetics: AbstractKinetics
    gate: Parameter
    bound: Parameter
    typical: Parameter
    network: eqx.nn.MLP
    column: int = eqx.field(static=True)
    seen: tuple[int, ...] = eqx.field(static=True)

    def log_factor(self, state: State) -> Scalar:
        """What the network adds to the logarithm of the rate at this state, (species,). The model is resolved."""
        amounts = jnp.maximum(state[jnp.asarray(self.seen)], 0.0)
        inputs = jnp.log1p(amounts / self.typical)
        return self.gate * self.bound * jnp.tanh(self.network(inputs))

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        edits = perturbation.at(time)
        return self.kinetics.propensities(time, state, Constant(self._corrected(state, edits)))

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        held = jnp.where(edits.hold, edits.level, state)
        return self.kinetics.vector_field(time, state, Constant(self._corrected(held, edits)))

    def stoichiometry(self) -> np.ndarray:
        return self.kinetics.stoichiometry()

    def material(self) -> Bool[Array, " species"]:
        return self.kinetics.material()

    def default_state(self) -> State:
        return self.kinetics.default_state()

    def _corrected(self, state: State, edits: Edits) -> Edits:
        factor = edits.factor.at[self.column].multiply(jnp.exp(self.log_factor(state)).astype(edits.factor.dtype))
        return eqx.tree_at(lambda e: e.factor, edits, factor)


def learned_rate(
    kinetics: AbstractKinetics,
    reaction: str,
    sees: Sequence[str],
    *,
    key: PRNGKeyArray,
    width: int = 6,
    depth: int = 1,
    gate: float = 0.1,
    bound: float = 2.0,
    typical: Sequence[float] | None = None,
) -> LearnedRate:
    """The model with a neural correction of one rate, which is 1 before it has learned.

    **Arguments:** `kinetics`: a reaction system, or what `read_sbml` and `read_antimony` return; `reaction`: its name;
    `sees`: names of the species whose amounts the correction may depend on; `key`: draws the network's inner weights;
    `width`, `depth`: of the network; `gate`, `bound`: see above; `typical`: amounts that inputs are measured in
    (default: those the model starts from, and 1 where that is 0).

    Good values: width 4-8, depth 1, gate 0.1, bound 2 (a factor of 7 either way); as few species as can matter.

    **Raises** `E_USAGE` for gene kinetics, which have corrections of their own, models with events, and unknown names.
    """
    table = kinetics.table
    with Problems() as problems:
        if isinstance(kinetics, GeneKinetics):
            problems.add(
                "E_USAGE", "Gene kinetics have corrections of their own: choose one in ModelConfig(residual=...)."
            )
        written = as_written(kinetics)
        if isinstance(written, RuleSystem) and written.events is not None:
            problems.add(
                "E_USAGE",
                f"The model has {len(written.events.names)} events (first: '{written.events.names[0]}'), which are not "
                "run with a learned rate; take them out of the file, or write them as treatments.",
            )
        if reaction not in table.reactions:
            near = did_you_mean(reaction, table.reactions)
            problems.add(
                "E_USAGE", f"The model has no reaction '{reaction}'{near}; there are {first(table.reactions, 8)}."
            )
        unknown = [name for name in sees if name not in table.species]
        if unknown or not sees:
            problems.add(
                "E_USAGE",
                f"Argument `sees` names {len(unknown)} species that the model lacks (first: {first(unknown)}); give "
                f"one or more of {first(table.species, 8)}.",
            )
    seen = tuple(table.require("species", name) for name in sees)
    usual = np.asarray(kinetics.default_state())[list(seen)]
    scale = np.where(usual > _FEWEST_TYPICAL, usual, 1.0) if typical is None else np.asarray(typical, dtype=float)
    if scale.shape != (len(seen),) or not (np.isfinite(scale) & (scale > 0)).all():
        raise PinnsimError.of("E_USAGE", f"Argument `typical` needs {len(seen)} finite amounts > 0, one per species.")
    network = eqx.nn.MLP(len(seen), "scalar", width, depth, activation=jax.nn.tanh, key=key)
    network = eqx.tree_at(
        lambda n: (n.layers[-1].weight, n.layers[-1].bias), network, replace_fn=lambda leaf: jnp.zeros_like(leaf)
    )
    return LearnedRate(
        table,
        kinetics.time_unit,
        kinetics,
        interval(gate, 0.0, 1.0),
        frozen(bound),
        frozen(scale),
        network,
        table.reactions.index(reaction),
        seen,
    )


def as_written(kinetics: AbstractKinetics) -> AbstractKinetics:
    """The model without its learned factors."""
    return as_written(kinetics.kinetics) if isinstance(kinetics, LearnedRate) else kinetics
