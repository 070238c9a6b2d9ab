"""Systems with known answers, and small models of every kind, shared by the tests.

`LinearCascade`: k * signal -> x -> y -> nothing, solved exactly by the matrix exponential. `ring`: perfect repressors
in a circle as gene kinetics; two make Gardner's toggle, with attractors in closed form (T. S. Gardner et al., Nature
403:339, 2000), three a repressilator. `Parabola`: a fixed point and its ghost. `model_of` and `randomised`:
gene-kinetics models of any layers with parameters far from their priors.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.linalg
from jaxtyping import Array, Bool

from pinnsim.dynamics.activity import no_hidden_activity
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.regulation import Promoter, edge_slots
from pinnsim.dynamics.residual import NoResidual
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
from pinnsim.parameter import frozen, trainable
from pinnsim.perturbation import Acting, Edits, Perturbation
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.table import Table

CASCADE = Table(
    ("a", "b"), (), ("s",), ("make:a", "make:b", "decay:a", "decay:b"), ("a.mrna", "b.mrna"), ()
)  # reactions are named as gene kinetics name theirs: kind:gene


class LinearCascade(AbstractKinetics):
    """`x' = supply * signal - loss_x x`, `y' = x - loss_y y`: mass flows down a line, so everything is exact."""

    supply: Array
    loss: Array
    table: Table = eqx.field(static=True, default=CASCADE)
    time_unit: str = eqx.field(static=True, default="min")

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return self._rates(state, perturbation.at(time))

    def _rates(self, state: State, edits: Edits) -> Rates:
        made = jnp.stack([self.supply * edits.signal[0], state[0]])
        return jnp.concatenate([made, self.loss * state]) * edits.factor

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        rates = self._rates(state, edits)
        return jnp.where(edits.hold, 0.0, rates[:2] - rates[2:] + edits.drive)

    def stoichiometry(self) -> np.ndarray:
        return np.array([[1, 0, -1, 0], [0, 1, 0, -1]])

    def material(self) -> Bool[Array, " species"]:
        return jnp.ones(2, bool)

    def default_state(self) -> State:
        return jnp.zeros(2)


def cascade(supply: float = 1.0, loss: Sequence[float] = (0.5, 0.3)) -> LinearCascade:
    """The cascade with these rates per minute."""
    return LinearCascade(jnp.asarray(supply), jnp.asarray(loss, dtype=float))


def cascade_exact(model: LinearCascade, times: Sequence[float], pieces: Sequence[tuple], begin: Sequence[float]):
    """States at `times`, exactly: `pieces` are (from, supply, held level of x or None), in order, each until the next.

    A held x jumps to its level and stays. The affine system `z' = M z` with z = (x, y, 1) is solved by `expm`.
    """
    loss = np.asarray(model.loss)
    states, here, z = [], pieces[0][0], np.array([*begin, 1.0])

    def flow(z: np.ndarray, piece: tuple, span: float) -> np.ndarray:
        _, supply, level = piece
        rate, source = (loss[0], supply) if level is None else (0.0, 0.0)
        matrix = np.array([[-rate, 0.0, source], [1.0, -loss[1], 0.0], [0.0, 0.0, 0.0]])
        return scipy.linalg.expm(matrix * span) @ z

    ends = [piece[0] for piece in pieces[1:]] + [np.inf]
    for piece, end in zip(pieces, ends, strict=True):
        if piece[2] is not None:
            z = np.array([piece[2], *z[1:]])
        states += [flow(z, piece, t - here)[:2] for t in times if here < t <= end or (t == here == pieces[0][0])]
        if np.isfinite(end):
            z, here = flow(z, piece, end - here), end
    return np.array(states)


def ring(names: tuple[str, ...], a: float, n: float, odds: float = 1e-2) -> GeneKinetics:
    """Genes in a circle, each repressing the next: `x_i' = a / (1 + x_{i-1}^n) - x_i`.

    A promoter is active with probability `1 / (1 + q (1 + theta))`, q = exp(-basal) and theta = (x / K)^n, so
    `c = a (1 + q)` and `K^n = q / (1 + q)` give the textbook form for any bare-promoter odds q = `odds`.
    """
    count = len(names)
    source, target = np.arange(count), (np.arange(count) + 1) % count
    edges = tuple(f"{names[s]}->{names[t]}" for s, t in zip(source, target, strict=True))
    reactions = tuple(f"{kind}:{gene}" for kind in ("transcription", "decay") for gene in names)
    table = Table(names, names, (), reactions, tuple(f"{name}.mrna" for name in names), edges)
    promoter = Promoter(
        basal=jnp.full(count, -np.log(odds)),
        reference=jnp.zeros(count),
        strength=jnp.full(count, 90.0),  # omega = exp(-90): bound means silent
        sign=-jnp.ones(count),
        affinity=jnp.full(count, (odds / (1 + odds)) ** (1 / n)),
        hill=jnp.full(count, n),
        source=jnp.asarray(source),
        target=jnp.asarray(target),
        slots=jnp.asarray(edge_slots(target, count)),
    )
    return GeneKinetics(
        table=table,
        layers=("mrna",),
        time_unit="min",
        own_inputs=False,
        synthesis=jnp.full(count, a * (1 + odds)),
        splicing=None,
        decay=jnp.ones(count),
        translation=None,
        protein_decay=None,
        promoter=promoter,
        residual=NoResidual(jnp.zeros(()), count),
        hidden=no_hidden_activity(0),
        gain=jnp.zeros((count, 0)),
        regulator_state=jnp.arange(count),
        regulator_hidden=jnp.zeros(count, bool),
    )


def toggle(a: float = 10.0, n: float = 2.0) -> GeneKinetics:
    """Gardner's toggle `u' = a / (1 + v^n) - u` and its mirror."""
    return ring(("u", "v"), a, n)


class Parabola(AbstractKinetics):
    """`x' = x^2 + offset`: two fixed points for a negative offset; only the ghost of one for a positive offset."""

    offset: Array
    table: Table = eqx.field(static=True, default=Table((), (), (), (), ("x",), ()))
    time_unit: str = eqx.field(static=True, default="min")

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0)

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return state**2 + self.offset

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((1, 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(1, bool)

    def default_state(self) -> State:
        return -jnp.ones(1)


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
    hidden: str = "unmeasured",
    own_inputs: bool = False,
    residual: str = "none",
    readout: str = "array",
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

    def moved(leaf: Array, flag: bool, size: float) -> Array:
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
