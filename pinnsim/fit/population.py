"""A population that can be fitted: where cells start, how they move, and what is seen of them, all differentiable.

    x_0 ~ begin,   x_c(t) = push(x_0c, z_c),   reading = readout(x_c(t)),

with the random numbers z_c of cell c fixed by its key (common random numbers): the same cells at every step of a fit
and at every pair of rates, so that what is fitted is a smooth function, and its gradient is exact for these cells.

Two ways to move: rate equations with rates that differ from cell to cell (extrinsic noise),

    rate_c = rate exp(sd z_c - sd^2 / 2),

and the chemical Langevin equation by Euler's steps (intrinsic noise), in which rates enter drift and noise alike.

Sources: P. S. Swain, M. B. Elowitz and E. D. Siggia, PNAS 99:12795 (2002), for the two kinds of noise; P. Glasserman,
Monte Carlo Methods in Financial Engineering (2004), section 7.2, for pathwise derivatives.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.structure import net_change
from pinnsim.observation import Observation
from pinnsim.parameter import Parameter
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.random import lane_key, normals
from pinnsim.shapes import State, Times
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.simulate.march import channels_of
from pinnsim.simulate.steady import steady_state
from pinnsim.tree import path_name, replaced

Key = UInt32[Array, " 2"]
Cells = Float[Array, "cell species"]
Courses = Float[Array, "cell time species"]
Amounts = Float[Array, "cell layer gene"]
Nodes = Float[Array, " node"]

_STILL = 1e-8  # propensity beside which none counts: the slope of a square root ends here
# Streams of random numbers: steps count from 0.
_BEGIN, _RATES, _EARLIER = 1 << 20, 1 << 21, 1 << 23


class AbstractBegin(eqx.Module):
    """Where cells start."""

    @abc.abstractmethod
    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        """First states, (cell, species); NaN where there is none.

        **Arguments:** `kinetics`: resolved; `shown`: (cell, layer, gene), amounts that cells of the first population
        seem to have; `where`: positions of those amounts in the state; `keys`: (cell, 2); `perturbation`: the
        condition's, of which the phases that act since ever count.
        """


class SampledBegin(AbstractBegin):
    """As cells of the first population were seen, counting noise included. Layers of gene kinetics that were not
    measured are at rest with the cell's RNA; anything else is where the model starts by default. Good where many
    molecules of each kind are counted."""

    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        measured, default = shown.reshape(shown.shape[0], -1), kinetics.default_state()
        states = jnp.broadcast_to(default, (shown.shape[0], len(kinetics.table.species)))
        states = states.at[:, where.ravel()].set(measured)
        if not isinstance(kinetics, GeneKinetics):
            return states
        rest = jax.vmap(kinetics.chain_at_rest, (0, None))(
            kinetics.layer(states, "rna"), default[kinetics.abundances :]
        )
        return rest.at[:, where.ravel()].set(measured)


class LogNormalBegin(AbstractBegin):
    """Independent log-normal amounts: `median exp(sd z)`. **Arguments:** `median`, `sd`: (species,); hidden activities
    start at the logarithm of their median."""

    median: Parameter
    sd: Parameter

    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        species = len(kinetics.table.species)
        draws = jax.vmap(lambda key: normals(key, _BEGIN, species, dtype=shown.dtype))(keys)
        median, sd = (jnp.broadcast_to(v, (species,))[None, :] for v in (self.median, self.sd))
        logs = jnp.log(median) + sd * draws
        return jnp.where(kinetics.material()[None, :], jnp.exp(logs), logs)


class RestingBegin(AbstractBegin):
    """At rest, all alike: the steady state under what acts since ever, before anything is switched. It fits cells whose
    differences are left to the likelihood (counts with a dispersion), and says more of rates than a first population
    does: every first sample is then a measurement of ratios of rates."""

    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        rest = steady_state(kinetics, perturbation).state
        return jnp.broadcast_to(rest, (shown.shape[0], rest.shape[0]))


class AbstractPush(eqx.Module):
    """How cells move."""

    @abc.abstractmethod
    def forward_mode(self) -> "AbstractPush":
        """The same for derivatives in forward mode (a direction of parameters at a time)."""

    @abc.abstractmethod
    def courses(
        self,
        kinetics: AbstractKinetics,
        times: Times,
        grid: Nodes,
        perturbation: Perturbation,
        begin: Cells,
        keys: Array,
    ) -> tuple[Courses, Bool[Array, " cell"]]:
        """States at `times`, (cell, time, species), and which cells got there, (cell,).

        **Arguments:** `kinetics`: resolved; `grid`: (node,), increasing, with `times` and all switches among its nodes,
        for methods with steps of given length; `begin`: (cell, species); `keys`: (cell, 2).
        """

    @abc.abstractmethod
    def earlier_keys(self, keys: UInt32[Array, "cell 2"]) -> UInt32[Array, "cell 2"]:
        """Keys of the same cells, (cell, 2), for a course that ends where another one begins: noise is drawn anew, what
        is a cell's own stays."""


class Extrinsic(AbstractPush):
    """Rate equations with rates of each cell's own.

    **Arguments:** `sd`: of the logarithm, () or (rate,), >= 0; `rates`: names of the model's leaves that differ
    between cells, all entries of one by the same factor ("synthesis"; see `tree.named_leaves`); `method`: tolerances.
    """

    sd: Parameter
    method: ODE
    rates: tuple[str, ...] = eqx.field(static=True)

    def forward_mode(self) -> "Extrinsic":
        return eqx.tree_at(lambda push: push.method, self, self.method.forward_mode())

    def courses(
        self,
        kinetics: AbstractKinetics,
        times: Times,
        grid: Nodes,
        perturbation: Perturbation,
        begin: Cells,
        keys: Array,
    ) -> tuple[Courses, Bool[Array, " cell"]]:
        leaves = _leaves(kinetics)
        sd = jnp.broadcast_to(self.sd, (len(self.rates),))

        def one(state: State, key: Key) -> tuple[Array, Array]:
            factor = jnp.exp(sd * normals(key, _RATES, len(self.rates), dtype=state.dtype) - 0.5 * sd**2)
            own = {name: leaves[name] * factor[k] for k, name in enumerate(self.rates)}
            solution = solve(replaced(kinetics, own), times, perturbation, state, self.method)
            return solution.states, solution.outcome == Outcome.DONE

        return jax.vmap(one)(begin, keys)

    def earlier_keys(self, keys: UInt32[Array, "cell 2"]) -> UInt32[Array, "cell 2"]:
        return keys


class Intrinsic(AbstractPush):
    """The chemical Langevin equation on the grid's steps, abundances clipped at 0.

    **Arguments:** `size`: Omega, molecules per abundance unit.
    """

    size: Parameter

    def forward_mode(self) -> "Intrinsic":
        return self

    def courses(
        self,
        kinetics: AbstractKinetics,
        times: Times,
        grid: Nodes,
        perturbation: Perturbation,
        begin: Cells,
        keys: Array,
    ) -> tuple[Courses, Bool[Array, " cell"]]:
        channels, material = channels_of(kinetics), kinetics.material()
        steps = jnp.diff(grid)
        # No step straddles a switch, so what is on at the middle is on for the whole step.
        acts = jax.vmap(perturbation.at)(0.5 * (grid[:-1] + grid[1:]))
        reactions, spare = len(kinetics.table.reactions), len(kinetics.table.species) - channels.amounts
        still = jnp.zeros((), begin.dtype)

        @jax.checkpoint
        def move(state: State, dt: Array, edit: Edits, draws: Array) -> State:
            state = jnp.where(edit.hold, edit.level, state)
            acting = Constant(edit)
            rates = jnp.maximum(kinetics.propensities(still, state, acting), 0.0)
            # Steps have length 0 where a switch is a saved time: no root of a product with them has a slope.
            kicks = jnp.sqrt(rates + _STILL) / jnp.sqrt(self.size) * jnp.sqrt(dt) * draws
            noise = jnp.concatenate([net_change(channels.structure, kicks), jnp.zeros(spare, state.dtype)])
            moved = state + kinetics.vector_field(still, state, acting) * dt + jnp.where(edit.hold, 0.0, noise)
            return jnp.where(material, jnp.maximum(moved, 0.0), moved)

        def one(state: State, key: Key) -> Array:
            def step(state: State, inputs: tuple[Array, Edits, Array]) -> tuple[State, State]:
                dt, edit, number = inputs
                moved = move(state, dt, edit, normals(key, number, reactions, dtype=state.dtype))
                return moved, moved

            numbers = jnp.arange(steps.shape[0], dtype=jnp.uint32)
            _, course = jax.lax.scan(step, state, (steps, acts, numbers))
            return jnp.concatenate([state[None], course])

        at = jnp.searchsorted(grid, times)
        courses = jax.vmap(one)(begin, keys)[:, at]
        return courses, jnp.all(jnp.isfinite(courses), axis=(1, 2))

    def earlier_keys(self, keys: UInt32[Array, "cell 2"]) -> UInt32[Array, "cell 2"]:
        return jax.vmap(lambda key: lane_key(key, _EARLIER))(keys)


class PopulationModel(eqx.Module):
    """A population and its instruments. **Arguments:** `observations`: one per measured layer."""

    kinetics: AbstractKinetics
    begin: AbstractBegin
    push: AbstractPush
    observations: tuple[Observation, ...]

    def readings(self, courses: Float[Array, "cell time species"], where: Int[Array, "layer gene"]) -> Array:
        """Expected readings per unit of exposure, (time, cell, layer, gene)."""
        amounts = jnp.swapaxes(courses, 0, 1)[..., where]
        shown = [jax.vmap(jax.vmap(one.readout))(amounts[:, :, k]) for k, one in enumerate(self.observations)]
        return jnp.stack(shown, axis=2)

    def amounts(self, readings: Amounts) -> Amounts:
        """What cells with these readings per unit of exposure seem to contain, (cell, layer, gene)."""
        found = [jax.vmap(one.readout.invert)(readings[:, k]) for k, one in enumerate(self.observations)]
        return jnp.stack(found, axis=1)


class PopulationPrior(eqx.Module):
    """As `ModelPrior`: unconstrained parameters are normal around `center` with standard deviation `spread` (same tree;
    0 fixed, inf free)."""

    center: PopulationModel
    spread: PopulationModel


def cell_keys(key: Key, cells: int) -> UInt32[Array, "cell 2"]:
    """A key per cell, which does not depend on how many there are."""
    return jax.vmap(lambda cell: lane_key(key, cell))(jnp.arange(cells))


def _leaves(kinetics: AbstractKinetics) -> dict[str, Array]:
    """Array leaves by name, traced ones included."""
    found = jax.tree_util.tree_flatten_with_path(eqx.filter(kinetics, eqx.is_array))[0]
    return {path_name(path): leaf for path, leaf in found}
