"""A cell model: kinetics and what the instrument shows of them; and how one is built from a configuration, a network
and kinetic priors.

Building is deterministic: the configuration, the network and the prior say everything about a model's structure and
about where its parameters start (their prior centre). A second tree of the same structure, `spread`, says how far
each unconstrained parameter may be from its centre (prior standard deviation; 0 = fixed, infinite = free). It is what
fits and starts are drawn from.
"""

import dataclasses
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import ndtri

from pinnsim.dynamics.activity import HiddenActivity
from pinnsim.dynamics.attention import attention_residual
from pinnsim.dynamics.gene_kinetics import LAYERS, GeneKinetics, reaction_kinds
from pinnsim.dynamics.regulation import AbstractPromoter, HillAverage, Promoter, edge_slots, hill_average
from pinnsim.dynamics.residual import AbstractResidual, NoResidual, low_rank_residual, mlp_residual
from pinnsim.errors import PinnsimError, first
from pinnsim.network import Network
from pinnsim.observation import LikelihoodConfig, Observation, ReadoutConfig, observation_of, observation_spreads
from pinnsim.parameter import Parameter, frozen, interval, positive
from pinnsim.prior import KineticPrior, rate_of
from pinnsim.shown import Facts, as_html, as_text, some
from pinnsim.table import Table
from pinnsim.tree import named_shapes

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


_SOFT = (0.55, 0.99)  # least and largest probability of a soft sign


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(_Section):
    """An external signal: its name, the level at which hidden activities are 0, and how strongly it may move
    regulators and genes' own inputs (prior sd, natural log)."""

    name: str
    reference: float = 0.0
    regulator_sd: NonNegative = 1.0
    own_sd: NonNegative = 1.0


class RegulationConfig(_Section):
    """Promoters: their form, which regulators act by a hidden activity, and the priors of edges and time constants
    (medians; log-sd; times in the model's unit).

    `signs`: a known sign cannot flip (`hard`), or is as probable before the data as its edge's confidence says (`soft`;
    0.55 at the least, 0.99 at the most): the prior is centred on the signed strength and as wide as that takes.
    `strength`, `basal` belong to the thermodynamic form; `leak` and `share` (of the largest weight that a regulator
    may have, 1 / regulators of the gene, where its edge is sure) to averaged Hill functions, with standard deviations
    `leak_sd` and `strength_sd` in log-odds.
    """

    kind: Literal["thermodynamic", "hill"] = "thermodynamic"
    signs: Literal["hard", "soft"] = "hard"
    hidden: Literal["none", "unmeasured", "all"] = "unmeasured"
    own_inputs: bool = False
    strength: Positive = 2.5
    strength_sd: NonNegative = 0.5
    affinity: Positive = 1.0
    affinity_sd: NonNegative = 1.0
    hill: Annotated[float, Field(ge=1, le=4)] = 1.0
    learn_hill: bool = False
    basal: float = 0.0
    basal_sd: Positive = 3.0
    leak: Annotated[float, Field(gt=0, lt=1)] = 0.05
    leak_sd: NonNegative = 1.0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    tau: Positive = 10.0
    tau_sd: NonNegative = 0.4
    own_tau: Positive = 10.0
    own_tau_sd: NonNegative = 0.2
    spread: Positive = 1.0
    own_spread: Positive = 0.5


class ResidualConfig(_Section):
    """The neural correction inside the promoter's log-odds.

    `mlp` and `low_rank` see every regulator and signal; `attention` sees a gene's listed regulators only, with their
    signs (hard ones as `regulation.signs` says). `width`: of hidden layers, or of attention's embeddings; `depth`:
    hidden layers of `mlp`; `rank`: of `low_rank`; `heads`: of attention, per kind of edge.
    """

    kind: Literal["none", "mlp", "attention", "low_rank"] = "none"
    width: Annotated[int, Field(ge=1, le=4096)] = 16
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    rank: Annotated[int, Field(ge=1, le=4096)] = 4
    heads: Annotated[int, Field(ge=1, le=64)] = 1
    gate: Fraction = 0.1
    bound: Positive = 2.0
    weight_sd: Positive = 1.0


class ModelConfig(_Section):
    """Everything that fixes a gene-kinetics model's structure and priors, apart from its network and half-lives."""

    layers: tuple[str, ...] = ("mrna",)
    time_unit: str = "min"
    synthesis: Positive = 1.0
    synthesis_sd: NonNegative = 0.0
    splicing_half_life: Positive = 5.0
    translation: Positive = 1.0
    translation_sd: NonNegative = 0.5
    protein_half_life: Positive = 60.0
    inputs: tuple[InputConfig, ...] = ()
    regulation: RegulationConfig = RegulationConfig()
    residual: ResidualConfig = ResidualConfig()
    readout: ReadoutConfig = ReadoutConfig()
    likelihood: LikelihoodConfig = LikelihoodConfig()


class CellModel(eqx.Module):
    """A cell and its instrument. `kinetics` holds what the cell does, `observation` what is seen of it."""

    kinetics: GeneKinetics
    observation: Observation

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        kinetics, table = self.kinetics, self.table
        seen = self.observation
        count = sum(int(np.prod(shape)) for shape in named_shapes(self).values())
        rows: list[tuple[str, object]] = [
            ("genes", some(table.genes)),
            ("layers", ", ".join(kinetics.layers)),
            ("regulators, edges", f"{some(table.regulators)}, {len(table.edges)} edges"),
            ("inputs", some(table.inputs)),
            ("promoter, residual", f"{type(kinetics.promoter).__name__}, {type(kinetics.residual).__name__}"),
            ("instrument", f"{type(seen.readout).__name__}, {type(seen.likelihood).__name__}"),
            ("numbers", f"{count} in {len(table.species)} species, {len(table.reactions)} reactions"),
            ("rates per", kinetics.time_unit),
        ]
        return "CellModel", rows

    @property
    def table(self) -> Table:
        """Names of reactions, species, edges and inputs."""
        return self.kinetics.table


class ModelPrior(eqx.Module):
    """Where a model's unconstrained parameters are expected: normal around `center` with standard deviation `spread`
    (same tree; 0 fixed, inf free)."""

    center: CellModel
    spread: CellModel


def gene_table(
    network: Network, layers: tuple[str, ...], inputs: tuple[str, ...], hidden: tuple[str, ...], own_inputs: bool
) -> Table:
    """Names of a gene-kinetics model, in array order (see `GeneKinetics`)."""
    genes = network.genes
    species = [f"{gene}.{layer}" for layer in layers for gene in genes]
    species += [f"{name}.activity" for name in hidden] + [f"{gene}.input" for gene in genes if own_inputs]
    reactions = tuple(f"{kind}:{gene}" for kind in reaction_kinds(layers) for gene in genes)
    return Table(genes, network.regulators, inputs, reactions, tuple(species), network.edges)


def build(config: ModelConfig, network: Network, prior: KineticPrior, *, key: PRNGKeyArray | None = None) -> ModelPrior:
    """The model at the centre of its prior, and the prior's spread.

    **Arguments:** `network.genes` are the model's genes, in this order; `prior` has the decay rate of each gene's
    mature RNA in `config.time_unit`; `key` draws the residual's inner weights.

    **Raises:** `E_CONFIG_VALUE` for unknown layers, `E_NETWORK_EMPTY` for a model without genes, `E_GENE_UNMATCHED`
    when the prior's genes are not the network's.
    """
    if config.layers not in LAYERS:
        raise PinnsimError.of(
            "E_CONFIG_VALUE", f"layers = {list(config.layers)} is not one of {[list(layers) for layers in LAYERS]}."
        )
    if not network.genes:
        raise PinnsimError.of("E_NETWORK_EMPTY", "The network has no genes, so the model would have no species.")
    if tuple(prior.genes) != network.genes:
        raise PinnsimError.of(
            "E_GENE_UNMATCHED",
            "The kinetic prior lists other genes, or in another order, than the network; build it with "
            "genes=network.genes.",
        )
    kinetics = _kinetics(config, network, prior, jax.random.key(0) if key is None else key)
    model = CellModel(kinetics, observation_of(config.readout, config.likelihood, len(network.genes)))
    return ModelPrior(model, _spread(model, config, prior))


def _kinetics(config: ModelConfig, network: Network, prior: KineticPrior, key: PRNGKeyArray) -> GeneKinetics:
    genes, regulation = network.genes, config.regulation
    hidden = _hidden_regulators(network, regulation.hidden)
    inputs = tuple(item.name for item in config.inputs)
    table = gene_table(network, config.layers, inputs, hidden, regulation.own_inputs)
    product = "protein" if "protein" in config.layers else config.layers[-1]
    stands_for = [f"{r}.activity" if r in hidden else f"{r}.{product}" for r in network.regulators]
    is_hidden = np.isin(network.regulators, hidden) if network.regulators else np.zeros(0, bool)
    decay = np.asarray(prior.rate.median)
    count, protein = len(genes), "protein" in config.layers
    return GeneKinetics(
        table=table,
        layers=config.layers,
        time_unit=config.time_unit,
        own_inputs=regulation.own_inputs,
        synthesis=positive(config.synthesis * decay),
        splicing=positive(rate_of(np.full(count, config.splicing_half_life))) if "spliced" in config.layers else None,
        decay=positive(decay),
        translation=positive(np.full(count, config.translation)) if protein else None,
        protein_decay=positive(rate_of(np.full(count, config.protein_half_life))) if protein else None,
        promoter=_promoter(regulation, network, is_hidden),
        residual=_residual(config, network, key),
        hidden=_hidden_activity(config, len(hidden), count),
        gain=jnp.zeros((len(network.regulators), len(inputs))),
        regulator_state=jnp.asarray([table.require("species", name) for name in stands_for], dtype=int),
        regulator_hidden=jnp.asarray(is_hidden),
    )


def _hidden_regulators(network: Network, mode: str) -> tuple[str, ...]:
    measured = set(network.genes)
    if mode == "none" and not measured.issuperset(network.regulators):
        missing = [r for r in network.regulators if r not in measured]
        raise PinnsimError.of(
            "E_GENE_UNMATCHED",
            f"{len(missing)} regulators are not among the genes (first: {first(missing)}); use hidden = 'unmeasured', "
            "or drop their edges.",
        )
    return tuple(r for r in network.regulators if mode == "all" or (mode == "unmeasured" and r not in measured))


def _promoter(regulation: RegulationConfig, network: Network, is_hidden: np.ndarray) -> AbstractPromoter:
    if regulation.kind == "hill":
        return _average(regulation, network)
    edges = len(network.edges)
    # Surer edges start stronger: the prior's median is scaled by the edge's confidence.
    energy = regulation.strength * np.asarray(network.confidence)
    sign, soft = np.asarray(network.sign), regulation.signs == "soft"
    # A soft sign is a learned one whose prior is not centred at 0.
    strength = sign * energy if soft else np.where(sign == 0, 0.0, np.log(np.expm1(np.maximum(energy, 1e-3))))
    hill: Parameter = frozen(np.full(edges, regulation.hill))
    if regulation.learn_hill:
        hill = interval(np.clip(np.full(edges, regulation.hill), 1.05, 3.95), 1.0, 4.0)
    return Promoter(
        basal=jnp.full(len(network.genes), regulation.basal, dtype=float),
        reference=frozen(np.where(is_hidden, 1.0, 0.0)),
        strength=jnp.asarray(strength, dtype=float),
        sign=frozen(np.zeros(edges) if soft else sign),
        affinity=positive(np.full(edges, regulation.affinity)),
        hill=hill,
        source=jnp.asarray(network.source, dtype=int),
        target=jnp.asarray(network.target, dtype=int),
        slots=jnp.asarray(edge_slots(np.asarray(network.target), len(network.genes)), dtype=int),
    )


def _average(regulation: RegulationConfig, network: Network) -> HillAverage:
    genes, target = len(network.genes), np.asarray(network.target)
    # Weights that each stay below 1 / regulators cannot sum to more than 1.
    most = 1.0 / np.maximum(np.bincount(target, minlength=genes), 1)
    share = regulation.share * np.asarray(network.confidence) * most[target]
    source, sign = np.asarray(network.source), np.asarray(network.sign)
    soft = regulation.signs == "soft"
    shown = np.zeros(len(sign)) if soft else sign
    plain = hill_average(source, target, shown, genes, weight=share, affinity=regulation.affinity, hill=regulation.hill)
    trusted = np.clip(np.asarray(network.confidence), *_SOFT)
    # Log-odds of activation around a soft sign, as far from 0 as makes the sign that probable.
    tilt = sign * regulation.strength * ndtri(trusted) if soft else np.zeros(len(sign))
    bound = np.broadcast_to(most[:, None], plain.edge.shape)
    hill = interval(np.clip(plain.hill.value, 1.05, 3.95), 1.0, 4.0) if regulation.learn_hill else plain.hill
    return dataclasses.replace(
        plain,
        leak=interval(np.full(genes, regulation.leak), 0.0, 1.0),
        weight=interval(np.where(plain.edge < len(target), plain.weight.value, 0.5 * bound), 0.0, bound),
        tilt=jnp.asarray(np.append(tilt, 0.0)[np.asarray(plain.edge)], dtype=float),
        hill=hill,
        square=plain.square and not regulation.learn_hill,
    )


def _hidden_activity(config: ModelConfig, hidden: int, genes: int) -> HiddenActivity:
    regulation = config.regulation
    own = genes if regulation.own_inputs else 0
    tau = np.concatenate([np.full(hidden, regulation.tau), np.full(own, regulation.own_tau)])
    spread = np.concatenate([np.full(hidden, regulation.spread), np.full(own, regulation.own_spread)])
    reference = np.array([item.reference for item in config.inputs], dtype=float)
    return HiddenActivity(
        jnp.zeros((hidden + own, len(config.inputs))), frozen(reference), positive(tau), frozen(spread)
    )


def _residual(config: ModelConfig, network: Network, key: PRNGKeyArray) -> AbstractResidual:
    chosen, regulation = config.residual, config.regulation
    regulators, inputs, genes = len(network.regulators), len(config.inputs), len(network.genes)
    gate, bound = chosen.gate, chosen.bound
    if chosen.kind == "none":
        return NoResidual(frozen(0.0), genes)
    if chosen.kind == "low_rank":
        return low_rank_residual(regulators, inputs, genes, rank=chosen.rank, gate=gate, bound=bound, key=key)
    if chosen.kind == "attention":
        source, target, sign = map(np.asarray, (network.source, network.target, network.sign))
        return attention_residual(
            source, target, sign, regulators, inputs, genes, width=chosen.width, heads=chosen.heads,
            hard=regulation.signs == "hard", gate=gate, bound=bound, affinity=regulation.affinity, key=key,
        )  # fmt: skip
    return mlp_residual(
        regulators, inputs, genes, width=chosen.width, depth=chosen.depth, gate=gate, bound=bound, key=key
    )


def _spread(model: CellModel, config: ModelConfig, prior: KineticPrior) -> CellModel:
    """Prior standard deviations of all unconstrained parameters: 0 unless said otherwise here."""
    regulation = config.regulation
    spread = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, model)
    k = spread.kinetics
    hidden = int(np.asarray(model.kinetics.hidden.tau.raw).size) - len(model.table.genes) * regulation.own_inputs

    def rows(shared: float, own: float) -> jax.Array:
        return jnp.where(jnp.arange(k.hidden.tau.raw.size) < hidden, shared, own)

    chosen: list[tuple[jax.Array, object]] = [
        (k.synthesis.raw, config.synthesis_sd),
        (k.decay.raw, jnp.asarray(prior.rate.log_sd)),
        *_promoter_sds(k.promoter, model.kinetics.promoter, regulation, len(model.table.edges)),
        (k.hidden.tau.raw, rows(regulation.tau_sd, regulation.own_tau_sd)),
        (
            k.hidden.effect,
            jnp.stack([rows(item.regulator_sd, item.own_sd) for item in config.inputs], axis=1)
            if config.inputs
            else 0.0,
        ),
        (
            k.gain,
            jnp.where(
                model.kinetics.regulator_hidden[:, None],
                0.0,
                jnp.asarray([item.regulator_sd for item in config.inputs], dtype=float),
            ),
        ),
    ]
    if k.translation is not None:
        chosen.append((k.translation.raw, config.translation_sd))
    chosen += observation_spreads(spread.observation, config.readout, config.likelihood)
    if config.residual.kind != "none":
        weights = jax.tree.leaves(eqx.filter(k.residual.network, eqx.is_inexact_array))
        chosen += [(leaf, config.residual.weight_sd) for leaf in weights] + [(k.residual.gate.raw, 1.0)]
    sds = {id(leaf): sd for leaf, sd in chosen}
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(jnp.asarray(sds[id(leaf)], leaf.dtype), leaf.shape) if id(leaf) in sds else leaf,
        spread,
    )


def _promoter_sds(
    spread: AbstractPromoter, promoter: AbstractPromoter, regulation: RegulationConfig, edges: int
) -> list[tuple[jax.Array, object]]:
    if isinstance(spread, HillAverage) and isinstance(promoter, HillAverage):
        listed = promoter.edge < edges
        chosen: list[tuple[jax.Array, object]] = [
            (spread.leak.raw, regulation.leak_sd),
            (spread.weight.raw, jnp.where(listed, regulation.strength_sd, 0.0)),
            (spread.affinity.raw, jnp.where(listed, regulation.affinity_sd, 0.0)),
            (spread.tilt, jnp.where(listed & (promoter.sign.value == 0), regulation.strength, 0.0)),
        ]
        return [*chosen, (spread.hill.raw, jnp.where(listed, 1.0, 0.0))] if regulation.learn_hill else chosen
    if isinstance(spread, Promoter) and isinstance(promoter, Promoter):
        chosen = [
            (spread.basal, regulation.basal_sd),
            (spread.strength, _strength_sd(promoter, regulation)),
            (spread.affinity.raw, regulation.affinity_sd),
        ]
        return [*chosen, (spread.hill.raw, 1.0)] if regulation.learn_hill else chosen
    return []


def _strength_sd(promoter: Promoter, regulation: RegulationConfig) -> jax.Array:
    """Log-sd of the energy as sd of the unconstrained strength: d softplus(q) / dq = sigmoid(q), so
    sd_q = sd_log * w / sigmoid(q); unknown signs get the energy itself, soft ones what leaves the other sign the
    probability that the confidence does."""
    trusted = jnp.clip(jnp.abs(promoter.strength) / regulation.strength, *_SOFT)
    soft = jnp.abs(promoter.strength) / jax.scipy.special.ndtri(trusted)
    unknown = jnp.where(promoter.strength == 0, regulation.strength, soft)
    known = regulation.strength_sd * jax.nn.softplus(promoter.strength) / jax.nn.sigmoid(promoter.strength)
    return jnp.where(promoter.sign.value == 0, unknown, known)
