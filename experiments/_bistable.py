"""A simulated bistable network seen as single-cell snapshots: two self-activating masters that repress each other, with
helpers that keep them on, and regulators and targets downstream with random signed edges.

mRNA and protein of every gene follow pinnsim's gene kinetics; cells follow the chemical Langevin equation, and of their
mRNA counts are read, Poisson(size factor x capture x amount). A network prior lists most edges, some wrong ones and a
confidence for each.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.model import ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.random import key_of, lane_key
from pinnsim.simulate import Langevin
from pinnsim.simulate.batch import run_lanes
from pinnsim.treatment import Treatment
from pinnsim.treatment.treatment import resolve_lanes

CONFIG = ModelConfig.model_validate(
    {
        "layers": ["mrna", "protein"],
        "time_unit": "h",
        "synthesis": 1.5,
        "synthesis_sd": 0.5,
        "translation": 0.139,
        "translation_sd": 0.0,
        "protein_half_life": 5.0,
        "inputs": [{"name": "ligand", "regulator_sd": 1.0}],
        "regulation": {
            "hidden": "none",
            "strength": 3.0,
            "strength_sd": 0.6,
            "affinity": 0.5,
            "affinity_sd": 0.7,
            "hill": 2.0,
            "learn_hill": True,
            "basal": -1.0,
            "basal_sd": 2.0,
        },
    }
)
MASTERS = ("M1", "M2")


class World(NamedTuple):
    """The truth: resolved kinetics, its network, measured half-lives as a prior, and the network prior."""

    kinetics: GeneKinetics
    network: Network
    listed: Network
    prior: KineticPrior


def names_of(genes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All genes, and those that regulate: masters, their helpers, and half of the others."""
    helpers = tuple(f"{letter}{k}" for letter in "AB" for k in range(1, 3))
    rest = genes - len(MASTERS) - len(helpers)
    regulators = tuple(f"R{k}" for k in range(1, rest // 2 + 1))
    targets = tuple(f"T{k}" for k in range(1, rest - len(regulators) + 1))
    return (*MASTERS, *helpers, *regulators, *targets), (*MASTERS, *helpers, *regulators)


def world(plan: dict[str, Any], rng: np.random.Generator) -> World:
    """A network of `plan["genes"]` genes with random rates, and what is known of it beforehand."""
    genes, regulators = names_of(plan["genes"])
    edges = _core() + _downstream(genes, regulators, rng)
    network = network_of([(*pair, sign, 1.0) for pair, sign, _ in edges], genes)
    lifetime = 3.0 * np.exp(0.25 * rng.standard_normal(len(genes)))
    known = lifetime * np.exp(0.2 * rng.standard_normal(len(genes)))
    prior = KineticPrior(
        LogNormal(jnp.asarray(1.0 / known), jnp.full(len(genes), 0.25)),
        genes,
        ("given: simulated",) * len(genes),
        "mrna",
        "h",
    )
    return World(
        _truth(network, edges, lifetime, prior, rng), network, _listed(plan, edges, genes, regulators, rng), prior
    )


Edges = list[tuple[tuple[str, str], float, float]]  # regulator and target, sign, energy in kT

# Half-saturation of what acts on masters: their own product, the other one's, helpers, and regulators downstream.
_AFFINITY = {"own": 0.7, "other": 0.4, "helper": 0.4, "feedback": 0.5, "master": 0.5}


def _core() -> Edges:
    """Either valley outlives the loss of one of its helpers, but not of both."""
    found: Edges = []
    for own, other, letter, back in (("M1", "M2", "A", "R1"), ("M2", "M1", "B", "R2")):
        found += [((own, own), 1.0, 2.6), ((other, own), -1.0, 5.0), ((back, own), 1.0, 0.8)]
        for k in (1, 2):
            found += [((f"{letter}{k}", own), 1.0, 1.2), ((own, f"{letter}{k}"), 1.0, 3.5)]
    return found


def _core_affinity(pair: tuple[str, str]) -> float:
    source, target = pair
    if target not in MASTERS:
        return _AFFINITY["master"]
    if source in MASTERS:
        return _AFFINITY["own" if source == target else "other"]
    return _AFFINITY["feedback" if source[0] == "R" else "helper"]


def _downstream(genes: tuple[str, ...], regulators: tuple[str, ...], rng: np.random.Generator) -> Edges:
    """Each of the others is regulated by one of the core and one or two of the regulators before it."""
    found: Edges = []
    core, later = regulators[:6], [g for g in genes if g[0] in "RT"]
    for at, gene in enumerate(later):
        first = core[at % len(core)]
        before = [r for r in regulators[6:] if r not in later[at : at + 1] and (gene[0] == "T" or later.index(r) < at)]
        more = rng.permutation(before)[: rng.integers(1, 3)].tolist()
        for regulator in [first, *more]:
            sign = 1.0 if rng.random() < 0.6 else -1.0
            found.append(((regulator, gene), sign, float(rng.uniform(2.0, 4.0))))
    return found


def network_of(rows: list[tuple[str, str, float, float]], genes: tuple[str, ...]) -> Network:
    return Network.from_frame(pd.DataFrame(rows, columns=["regulator", "target", "sign", "confidence"]), genes=genes)


def _listed(
    plan: dict[str, Any], edges: Edges, genes: tuple[str, ...], regulators: tuple[str, ...], rng: np.random.Generator
) -> Network:
    """The network prior: a share of the edges is missing, another has no sign, and wrong edges are listed too, with
    confidences that are lower on average."""
    there = {pair for pair, _, _ in edges}
    lost = set(rng.permutation(len(edges))[: round(plan["missing"] * len(edges))].tolist())
    rows = []
    for i, (pair, sign, _) in enumerate(edges):
        if i not in lost:
            rows.append((*pair, 0.0 if rng.random() < plan["unsigned"] else sign, float(rng.uniform(0.6, 1.0))))
    wrong = [(r, g) for r in regulators for g in genes if r != g and (r, g) not in there]
    for k in rng.permutation(len(wrong))[: round(plan["wrong"] * len(edges))].tolist():
        rows.append((*wrong[k], float(rng.choice([-1.0, 1.0])), float(rng.uniform(0.3, 0.8))))
    return network_of(rows, genes)


def _truth(
    network: Network, edges: Edges, lifetime: np.ndarray, prior: KineticPrior, rng: np.random.Generator
) -> GeneKinetics:
    kinetics = resolve(build(CONFIG, network, prior).center).kinetics
    genes, energy = network.genes, np.array([w for _, _, w in edges])
    core = np.array([target[0] in "MAB" for (_, target), _, _ in edges])
    half = np.array([_core_affinity(pair) for pair, _, _ in edges])
    signs = np.array([s for _, s, _ in edges])
    # Promoters are balanced so that about half of their regulators' range matters.
    into = np.array([network.target == i for i in range(len(genes))])
    basal = -0.5 * (into * (signs * energy)[None, :]).sum(axis=1) + 0.5 * rng.standard_normal(len(genes))
    basal = np.where([g in MASTERS for g in genes], -2.7, np.where([g[0] in "AB" for g in genes], -2.2, basal))
    most = np.where([g[0] in "MAB" for g in genes], 1.5, 1.5 * np.exp(0.3 * rng.standard_normal(len(genes))))
    protein = 5.0 * np.exp(0.25 * rng.standard_normal(len(genes))) / np.log(2.0)
    new = {
        "synthesis": most / lifetime,
        "decay": 1.0 / lifetime,
        "translation": 1.0 / protein,
        "protein_decay": 1.0 / protein,
        "basal": basal,
        "strength": np.log(np.expm1(energy)),
        "affinity": np.where(core, half, rng.uniform(0.3, 1.0, len(edges))),
        "hill": np.where(core, 2.0, rng.uniform(1.5, 2.5, len(edges))),
        "gain": np.where(np.array(network.regulators)[:, None] == "R1", 1.2, 0.0),
    }
    return eqx.tree_at(
        lambda k: (
            *(k.synthesis, k.decay, k.translation, k.protein_decay),
            *(k.promoter.basal, k.promoter.strength, k.promoter.affinity, k.promoter.hill, k.gain),
        ),
        kinetics,
        tuple(jnp.asarray(v, dtype=float) for v in new.values()),
    )


def model_prior(given: World, network: Network, plan: dict[str, Any]) -> ModelPrior:
    """The model before any data: the listed edges, half-lives measured with errors, typical values for the rest. It is
    seen in logarithms of mean counts, with half a count of background."""
    seen = {
        "readout": {"kind": "array", "offset": float(np.log2(plan["capture"])), "floor": -1.0, "ceiling": 30.0},
        "likelihood": {"kind": "gaussian", "sd": 0.05},
    }
    return build(ModelConfig.model_validate({**CONFIG.model_dump(), **seen}), network, given.prior)


@eqx.filter_jit
def _walked(
    method: Langevin, kinetics: GeneKinetics, times: Array, acting: Perturbation, states: Array, keys: Array
) -> Array:
    def one(shared: tuple, cell: tuple) -> Array:
        method, kinetics, times = shared
        own, state, key = cell
        return method.sample(kinetics, times, own, state, key).states[-1]

    return run_lanes(one, (method, kinetics, times), (acting, states, keys), block=256)


def pushed(
    kinetics: GeneKinetics, acting: Perturbation, states: np.ndarray, plan: dict[str, Any], until: float, seed: int
) -> np.ndarray:
    """Cells under treatments for a time, each with noise of its own, (treatment, cell, species). All populations of a
    model run through one compiled program, so many cells at a time."""
    lanes, cells, species = states.shape
    flat, chunk = states.reshape(-1, species), plan["chunk"]
    which = np.repeat(np.arange(lanes), cells)
    words, found = key_of(jax.random.key(seed)), np.empty_like(flat)
    method, times = Langevin(plan["size"], plan["dt"]), jnp.asarray([0.0, until])
    for first in range(0, len(flat), chunk):
        at = np.minimum(np.arange(first, first + chunk), len(flat) - 1)
        keys = jax.vmap(lambda number: lane_key(words, number))(jnp.asarray(at))
        own = jax.tree.map(lambda leaf, at=at: leaf[which[at]], acting)
        ended = _walked(method, kinetics, times, own, jnp.asarray(flat[at], dtype=float), keys)
        found[first : first + chunk] = np.asarray(ended)[: len(flat) - first]
    return found.reshape(states.shape)


def starts(genes: tuple[str, ...]) -> np.ndarray:
    """mRNA amounts in either valley's direction, (valley, gene)."""
    programs = [("M1", "A1", "A2"), ("M2", "B1", "B2")]
    core = {g for names in programs for g in names}
    return np.array([[1.3 if g in names else 0.02 if g in core else 0.5 for g in genes] for names in programs])


def attractors(kinetics: GeneKinetics, rna: np.ndarray, acting: Perturbation, plan: dict[str, Any]) -> np.ndarray:
    """Where cells without noise end from these mRNA amounts, (start, gene), with proteins at rest beside them, under
    every treatment: (start, treatment, species)."""
    begin = jax.vmap(lambda m: kinetics.chain_at_rest(m, jnp.zeros(0)))(jnp.asarray(rna, dtype=float))
    states = np.broadcast_to(np.asarray(begin), (acting.start.shape[0], *begin.shape))
    return np.swapaxes(pushed(kinetics, acting, states, {**plan, "size": np.inf}, plan["rest"], 0), 0, 1)


def acting_of(kinetics: GeneKinetics, treatments: list[Treatment]) -> Perturbation:
    """The batch of these treatments; one of an edge that the model does not list does nothing to it."""
    known = set(kinetics.table.edges)

    def sees(t: Treatment) -> bool:
        return all(edit.field != "edge" or edit.name in known for edit in t.edits)

    return resolve_lanes([t if sees(t) else Treatment() for t in treatments], kinetics.table, phases=1)


def read(states: np.ndarray, genes: int, plan: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Counts of mRNA per unit of size factor, (..., gene)."""
    factor = np.exp(plan["size_factor_sd"] * rng.standard_normal((*states.shape[:-1], 1)))
    return rng.poisson(factor * plan["capture"] * np.maximum(states[..., :genes], 0.0)) / factor


def valley_of(readings: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
    """0 or 1 for each cell: of which master the program (with its helpers) is expressed more."""
    logs = np.log1p(readings)
    one, other = ([genes.index(g) for g in names] for names in (("M1", "A1", "A2"), ("M2", "B1", "B2")))
    return (logs[..., other].mean(axis=-1) > logs[..., one].mean(axis=-1)).astype(int)


def stratified(valley: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of `count` cells, of each valley as many as it has a share: what is compared are expectations, and
    chance shares would count as errors."""
    other = rng.permutation(np.flatnonzero(valley == 1))[: round(count * float(np.mean(valley == 1)))]
    one = rng.permutation(np.flatnonzero(valley == 0))[: count - len(other)]
    return np.concatenate([one, other])
