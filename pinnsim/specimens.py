"""Random models, states and perturbations far from what is usual, for proofs that must hold everywhere.

Small gene networks of any layers at the centre of their priors (`model_of`), then with every parameter moved
(`randomised`) and other edges (`rewired`); states over decades, some exactly zero; any mix of perturbations. Tests and
experiments draw from here, so that both speak of the same systems.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.regulation import edge_slots
from pinnsim.model import (
    CellModel,
    InputConfig,
    ModelConfig,
    ReadoutConfig,
    RegulationConfig,
    ResidualConfig,
    build,
)
from pinnsim.network import Network
from pinnsim.parameter import frozen, resolve, trainable
from pinnsim.perturbation import Acting, Perturbation
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.table import Table


class Flow(AbstractKinetics):
    """`x' = matrix x`, both signs allowed, two states."""

    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    matrix: Array

    def __init__(self, matrix: Array):
        self.table, self.time_unit, self.matrix = Table((), (), (), (), ("x", "y"), ()), "min", matrix

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0)

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return self.matrix @ state

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((2, 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(2, bool)

    def default_state(self) -> State:
        return jnp.asarray([1.0, -1.0])


class Specimens(NamedTuple):
    """Gene networks of one shape, lane by lane: resolved kinetics, perturbations and states."""

    models: list[GeneKinetics]
    perturbations: list[Perturbation]
    states: list[State]


def random_networks(count: int, genes: int = 4, span: float = 8.0) -> Specimens:
    """Random networks under perturbations that never change, so that solutions are smooth; of every four, one is mild
    and the others have rates spread over two, four and six decades."""
    plain = model_of(("unspliced", "spliced", "protein"), genes=genes, unmeasured=1)
    rng, models, steady = np.random.default_rng(5), [], []
    for seed in range(count):
        model = resolve(rewired(randomised(plain, seed, 0.5), seed)).kinetics
        spread = jnp.asarray(10 ** (rng.uniform(-1, 1, genes) * (seed % 4)))
        where = lambda k: (k.splicing, k.decay, k.synthesis)  # noqa: E731
        models.append(eqx.tree_at(where, model, [rate * spread for rate in where(model)]))
        p = random_perturbation(model.table, seed, span)
        for_ever = (jnp.full(3, jnp.inf), jnp.zeros(3), jnp.full(3, -jnp.inf), jnp.full(3, jnp.inf))
        steady.append(eqx.tree_at(lambda p: (p.ka, p.ke, p.start, p.stop), p, for_ever))
    return Specimens(models, steady, [random_state(models[0], seed, 1.0) for seed in range(count)])


def network_of(genes: int, unmeasured: int = 0) -> Network:
    """A ring of alternating signs with chords, an edge of unknown sign, and `unmeasured` regulators outside."""
    names = tuple(f"g{i}" for i in range(genes))
    rows = [(names[i], names[(i + 1) % genes], (-1.0) ** i) for i in range(genes)]
    rows += [(names[0], names[2 % genes], 0.0), (names[1], names[1], 1.0)]
    rows += [(f"h{k}", names[k % genes], 1.0) for k in range(unmeasured)]
    rows += [(f"h{k}", names[(k + 2) % genes], -1.0) for k in range(unmeasured)]
    return Network.from_frame(pd.DataFrame(rows, columns=["regulator", "target", "sign"]), genes=names)


def prior_of(network: Network, rate: float = 0.2) -> KineticPrior:
    """Decay rates per minute around `rate`, spread over a factor of 3."""
    count = len(network.genes)
    median = rate * np.geomspace(0.6, 1.8, count)
    known = LogNormal(jnp.asarray(median), jnp.full(count, 0.5))
    return KineticPrior(known, network.genes, ("given: test",) * count, "mrna", "min")


def model_of(
    layers: tuple[str, ...] = ("mrna",),
    *,
    genes: int = 4,
    unmeasured: int = 0,
    hidden: Literal["none", "unmeasured", "all"] = "unmeasured",
    own_inputs: bool = False,
    residual: Literal["none", "mlp", "attention", "low_rank"] = "none",
    readout: Literal["identity", "array"] = "array",
    inputs: tuple[str, ...] = ("food", "heat"),
) -> CellModel:
    """A small model at the centre of its prior."""
    network = network_of(genes, unmeasured)
    config = ModelConfig(
        layers=layers,
        inputs=tuple(InputConfig(name=name) for name in inputs),
        regulation=RegulationConfig(hidden=hidden, own_inputs=own_inputs, learn_hill=True),
        residual=ResidualConfig(kind=residual, width=5, gate=0.5),
        readout=ReadoutConfig(kind=readout),
    )
    return build(config, network, prior_of(network), key=jax.random.key(3)).center


def randomised(model: CellModel, seed: int, scale: float = 0.5, weights: float = 5.0) -> CellModel:
    """The model with every unconstrained parameter moved by N(0, scale^2), weights of a residual by N(0, weights^2)."""
    rng = np.random.default_rng(seed)
    flags = trainable(model)

    def moved(leaf: Any, flag: bool, size: float) -> Any:
        return leaf + jnp.asarray(size * rng.standard_normal(leaf.shape), leaf.dtype) if flag else leaf

    out = jax.tree.map(lambda leaf, flag: moved(leaf, flag, scale), model, flags)
    if hasattr(model.kinetics.residual, "network"):
        where = lambda m: m.kinetics.residual.network  # noqa: E731
        net = jax.tree.map(lambda leaf: moved(leaf, eqx.is_inexact_array(leaf), weights), where(out))
        out = eqx.tree_at(where, out, net)
    return out


def rewired(model: CellModel, seed: int) -> CellModel:
    """The model with random edges between the same regulators and genes, and random signs. Rows of edges are padded to
    the longest that there can be, so that all such models share one compiled program. Names of edges no longer tell.
    """
    rng = np.random.default_rng(seed)
    edges, genes, regulators = (len(names) for names in (model.table.edges, model.table.genes, model.table.regulators))
    source, target = rng.integers(0, regulators, edges), rng.integers(0, genes, edges)
    slots = np.full((genes, edges), edges)
    narrow = edge_slots(target, genes)
    slots[:, : narrow.shape[1]] = narrow
    sign = frozen(rng.choice([-1.0, 0.0, 1.0], edges))
    return eqx.tree_at(
        lambda m: (
            m.kinetics.promoter.source,
            m.kinetics.promoter.target,
            m.kinetics.promoter.slots,
            m.kinetics.promoter.sign,
        ),
        model,
        (jnp.asarray(source), jnp.asarray(target), jnp.asarray(slots), sign),
    )


def random_state(kinetics: AbstractKinetics, seed: int, hidden: float = 3.0) -> State:
    """Abundances over several decades, some exactly zero; hidden activities N(0, hidden^2)."""
    rng = np.random.default_rng(seed)
    material = np.asarray(kinetics.material())
    amounts = np.where(rng.random(material.size) < 0.25, 0.0, 10 ** rng.uniform(-4, 1.5, material.size))
    return jnp.asarray(np.where(material, amounts, hidden * rng.standard_normal(material.size)))


def random_perturbation(table: Table, seed: int, span: float, phases: int = 3) -> Perturbation:
    """Any mix of knock-outs, over-expression, drives, holds, edges, activities, signals, timing and doses."""
    rng = np.random.default_rng(seed)
    plain = Perturbation.none(table, phases)

    def some(name: str, draw: np.ndarray, chance: float = 0.3) -> Array:
        neutral = np.asarray(getattr(plain, name))
        return jnp.asarray(np.where(rng.random(neutral.shape) < chance, draw, neutral))

    def shape(name: str) -> tuple[int, ...]:
        return getattr(plain, name).shape

    material = np.array([not name.endswith((".activity", ".input")) for name in table.species])
    start = np.where(rng.random(phases) < 0.3, -np.inf, rng.uniform(0, span, phases))
    stop = np.where(rng.random(phases) < 0.3, np.inf, np.maximum(start, 0) + rng.uniform(0.01, 0.7, phases) * span)
    factors = {
        name: some(name, rng.choice([0.0, 0.2, 4.0, 10.0], shape(name)))
        for name in ("factor", "activity", "edge_factor")
    }
    return Perturbation(
        **factors,
        drive=some("drive", material * rng.exponential(1.0, shape("drive"))),
        hold=some("hold", material * np.ones(shape("hold")), 0.15),
        level=some("level", rng.exponential(2.0, shape("level")), 1.0),
        signal=some("signal", rng.normal(0, 3, shape("signal")), 0.7),
        start=jnp.asarray(start),
        stop=jnp.asarray(stop),
        dose=jnp.asarray(rng.exponential(1.0, phases)),
        ka=jnp.asarray(np.where(rng.random(phases) < 0.5, np.inf, rng.uniform(0.01, 3, phases))),
        ke=jnp.asarray(np.where(rng.random(phases) < 0.5, 0.0, rng.uniform(0.01, 3, phases))),
        ic50=jnp.asarray(np.where(rng.random(phases) < 0.5, 0.0, rng.uniform(0.1, 3, phases))),
        hill=jnp.asarray(rng.uniform(0.5, 4, phases)),
    )
