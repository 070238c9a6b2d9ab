"""Do the foundation's promises hold in numbers: physics by construction, invariances, pulses, gradients?

Models are random (networks, parameters, weights of the residual), and so are states and perturbations: far outside what
a fit would find. Exact answers come from the equations themselves: bounds of production over loss, the matrix
exponential of a chain that nothing regulates, the symmetries of time and names, central differences.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.linalg

from pinnsim.data import Dataset
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import FitPlan, cultures
from pinnsim.fit.objective import collocation_readings, objective, trajectory_readings
from pinnsim.model import ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import resolve, trainable
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.prior import half_life_prior
from pinnsim.simulate import ODE, FromState, Outcome, solve
from pinnsim.simulate.run import run_one
from pinnsim.treatment import Treatment
from pinnsim.tree import named_leaves, stack, with_leaves

SMOKE: dict[str, Any] = {"lanes": 3, "layers": [["mrna", "protein"]], "predictors": ["collocation"], "directions": 2}
FULL = ("unspliced", "spliced", "protein")
TIGHT = ODE(1e-12, 1e-13, max_steps=16384)
PREDICTORS = {"trajectories": trajectory_readings, "collocation": collocation_readings}
Rows = list[Acceptance]


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every row, in the order of the promises, and their picture."""
    rows, metrics = physics(plan)
    rows += invariances(plan) + pulse() + gradients(plan)
    save(acceptance_dots(rows, "What the foundation promises, measured"), out / "foundation.png")
    return Findings(metrics, {}, tuple(rows))


def network_of(plan: dict[str, Any], order: np.ndarray | None = None) -> Network:
    """A random signed network, every gene with as many edges; its genes in some order."""
    rng = np.random.default_rng(plan["seeds"][0])
    genes = [f"g{i}" for i in range(plan["genes"])]
    rows = [
        (source, gene, rng.choice([-1, 0, 1]))
        for gene in genes
        for source in rng.choice([*genes, "h0", "h1"], plan["regulators"], replace=False)
    ]
    named = genes if order is None else [genes[i] for i in order]
    return Network.from_frame(pd.DataFrame(rows, columns=["source", "target", "sign"]), genes=named)


def prior_of(
    plan: dict[str, Any], layers: tuple[str, ...], network: Network | None = None, **config: Any
) -> ModelPrior:
    """A model with everything in it: regulators by abundance and hidden ones, own inputs, signals, a residual."""
    network = network_of(plan) if network is None else network
    half_lives = pd.DataFrame(
        {
            "gene": network.genes,
            "half_life": [2.0 + int(g[1:]) for g in network.genes],
            "unit": "min",
            "source": "made up",
        }
    )
    sections = {
        "layers": layers,
        "inputs": [{"name": "food"}, {"name": "heat"}],
        "regulation": {"own_inputs": True, "learn_hill": True, "basal": -0.5},
        "residual": {"kind": "mlp", "width": 6, "gate": 0.5},
        "readout": {"kind": "array"},
        "likelihood": {"kind": "correlated"},
    }
    prior = half_life_prior(half_lives, network.genes)
    return build(ModelConfig.model_validate({**sections, **config}), network, prior, key=jax.random.key(1))


def moved(model: Any, seed: int, scale: float, weights: float) -> Any:
    """A model whose unconstrained parameters are all moved, the residual's weights by another scale."""
    rng = np.random.default_rng(seed)
    free = named_leaves(eqx.filter(model, trainable(model)))
    new = dict(named_leaves(model))
    for name, leaf in free.items():
        size = weights if "residual/network" in name else scale
        new[name] = leaf + size * rng.standard_normal(leaf.shape)
    return with_leaves(model, new)


def rewired(model: Any, seed: int) -> Any:
    """The model with random sources and signs of its edges."""
    rng, promoter = np.random.default_rng(seed), model.kinetics.promoter
    source = rng.integers(0, len(model.table.regulators), promoter.source.shape)
    sign = rng.choice([-1.0, 0.0, 1.0], promoter.source.shape)
    where = lambda m: (m.kinetics.promoter.source, m.kinetics.promoter.sign.raw)  # noqa: E731
    return eqx.tree_at(where, model, (jnp.asarray(source), jnp.asarray(sign)))


def random_perturbation(kinetics: GeneKinetics, seed: int, span: float) -> Perturbation:
    """Three phases of any mix of factors, activities, drives, holds, edges and signals, with any timing and dose."""
    rng, plain = np.random.default_rng(seed), Perturbation.none(kinetics.table, 3)
    material = np.asarray(kinetics.material())

    def some(name: str, draw: Any, chance: float) -> jax.Array:
        neutral = np.asarray(getattr(plain, name))
        return jnp.asarray(np.where(rng.random(neutral.shape) < chance, draw(neutral.shape), neutral))

    start = np.where(rng.random(3) < 0.3, -np.inf, rng.uniform(0, span, 3))
    edited = {
        name: some(name, lambda s: rng.choice([0.0, 0.1, 5.0, 50.0], s), 0.3)
        for name in ("factor", "activity", "edge_factor")
    }
    timed = {"ka": np.inf, "ke": 0.0, "ic50": 0.0}
    return eqx.tree_at(
        lambda p: [getattr(p, n) for n in (*edited, "drive", "hold", "level", "signal", "start", "stop", *timed)],
        plain,
        [
            *edited.values(),
            some("drive", lambda s: material * rng.exponential(1.0, s), 0.3),
            some("hold", lambda s: material * np.ones(s), 0.15),
            some("level", lambda s: rng.exponential(2.0, s), 1.0),
            some("signal", lambda s: rng.normal(0, 3, s), 0.7),
            jnp.asarray(start),
            jnp.asarray(np.where(rng.random(3) < 0.3, np.inf, np.maximum(start, 0) + rng.uniform(0.01, 0.7, 3) * span)),
            *(jnp.asarray(np.where(rng.random(3) < 0.5, rest, rng.uniform(0.01, 3, 3))) for rest in timed.values()),
        ],
    )


def ceilings(k: GeneKinetics, p: Perturbation, begin: np.ndarray, span: float) -> np.ndarray:
    """The most each abundance can reach: max(start, held level, production / loss), layer after layer."""
    factor = np.asarray(p.factor)
    most, least = (k.by_kind(jnp.asarray(np.prod(cut(factor, 1.0), axis=0))) for cut in (np.maximum, np.minimum))
    parts = [
        np.split(np.asarray(a)[: k.abundances], len(k.layers))
        for a in (p.drive.sum(0), (p.hold * p.level).max(0), begin)
    ]
    gains = {"spliced": ("splicing", k.splicing), "protein": ("translation", k.translation)}
    losses = {"unspliced": ("splicing", k.splicing), "protein": ("protein_decay", k.protein_decay)}
    out: list[np.ndarray] = []
    for layer, drive, held, start in zip(k.layers, *parts, strict=True):
        made, source = gains.get(layer, ("transcription", k.synthesis))
        loss, rate = losses.get(layer, ("decay", k.decay))
        supply = out[-1] if out else 1.0
        inflow = np.asarray(most[made]) * np.asarray(source) * supply + drive
        outflow = np.asarray(least[loss]) * np.asarray(rate)
        balance = np.divide(inflow, outflow, out=np.full(k.genes, np.inf), where=outflow > 0)
        first = np.maximum(start, held)
        # Without any loss it fills at most linearly.
        out.append(np.minimum(np.maximum(first, balance), first + inflow * span))
    return np.concatenate(out)


@eqx.filter_jit
def _lanes(models: Any, times: jax.Array, perturbations: Perturbation, states: jax.Array) -> tuple[jax.Array, ...]:
    def one(model: Any, p: Perturbation, state: jax.Array) -> tuple[jax.Array, ...]:
        method = ODE(1e-10, 1e-12, max_steps=65536)
        solution, _ = run_one(model, times, method, p, FromState(state))
        raw = solve(model.kinetics, times, p, state, method).states
        # Each species absent in turn, at every time: its own net production, which must not be negative.
        absent = jnp.where(jnp.eye(state.size, dtype=bool) & model.kinetics.material()[:, None], 0.0, state[None])
        at = jax.vmap(lambda t: jax.vmap(lambda x: model.kinetics.vector_field(t, x, p))(absent))(times)
        field = jnp.diagonal(at, axis1=1, axis2=2)
        return solution.states, solution.outcome, raw, field

    return eqx.filter_vmap(one)(models, perturbations, states)


def physics(plan: dict[str, Any]) -> tuple[Rows, dict[str, Any]]:
    """Abundances of random models: never negative, never above what production over loss allows."""
    smallest, steepest, excess, unclipped, lanes = np.inf, np.inf, -np.inf, 0.0, 0
    times = jnp.linspace(0.0, plan["span"], 13)
    for layers in plan["layers"]:
        plain = prior_of(plan, tuple(layers)).center
        numbers = range(plan["seeds"][0], plan["seeds"][0] + plan["lanes"])
        models = [resolve(rewired(moved(plain, s, 1.0, 20.0), s)) for s in numbers]
        # Every fourth is left alone with its promoters fully on, so that the bound is reached.
        full = 60.0 * jnp.ones(plan["genes"])
        models[::4] = [eqx.tree_at(lambda m: m.kinetics.promoter.basal, model, full) for model in models[::4]]
        given = [random_perturbation(plain.kinetics, s, plan["span"]) for s in numbers]
        given[::4] = [Perturbation.none(plain.table, 3)] * len(given[::4])
        rng, material = np.random.default_rng(plan["seeds"][0]), np.asarray(plain.kinetics.material())
        shape = (len(models), material.size)
        amounts = np.where(rng.random(shape) < 0.25, 0.0, 10 ** rng.uniform(-4, 1.5, shape))
        states = np.where(material, amounts, 5.0 * rng.standard_normal(shape))
        found = _lanes(stack(models), times, Perturbation.stack(given), jnp.asarray(states))
        solved, outcome, raw, field = (np.asarray(a) for a in found)
        if (outcome != Outcome.DONE).any():
            raise PinnsimError.of("E_SOLVER", f"{int((outcome != Outcome.DONE).sum())} random models were not solved.")
        smallest = min(smallest, float(solved[..., material].min()))
        steepest = min(steepest, float(field[..., material].min()))
        for k, (model, p) in enumerate(zip(models, given, strict=True)):
            ceiling = ceilings(model.kinetics, p, states[k], plan["span"])
            excess = max(excess, float((solved[k][:, material] / ceiling - 1).max()))
            unclipped = min(unclipped, float((raw[k][:, material] / ceiling).min()))
        lanes += len(models)
    rows = [
        Acceptance("smallest abundance over random models and perturbations", smallest, 0.0, "higher"),
        Acceptance("smallest net production of an absent species", steepest, 0.0, "higher"),
        Acceptance("largest excess over production / loss, relative", excess, 1e-9),
    ]
    return rows, {"random models": lanes, "smallest abundance before clipping, over its bound": unclipped}


def solved(model: Any, times: np.ndarray, treatment: str, state: jax.Array, phases: int = 5) -> np.ndarray:
    """States along one treatment; (time, species)."""
    kinetics = resolve(model.kinetics)
    p = Treatment.parse(treatment).resolve(kinetics.table, phases)
    return np.asarray(eqx.filter_jit(solve)(kinetics, jnp.asarray(times), p, state, TIGHT).states)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over time, relative to each species' largest value."""
    return float((np.abs(a - b).max(axis=0) / np.maximum(np.abs(b).max(axis=0), 1e-300)).max())


def invariances(plan: dict[str, Any]) -> Rows:
    """The clock has no origin, time no preferred unit, genes no order; editing what is not there changes nothing."""
    times, rng = np.linspace(0.0, plan["span"], 7), np.random.default_rng(plan["seeds"][0])
    model = moved(prior_of(plan, FULL).center, 3, 0.5, 1.0)
    k, genes = model.kinetics, plan["genes"]
    state = jnp.asarray(
        np.where(k.material(), rng.uniform(0.05, 2, len(k.table.species)), rng.normal(size=len(k.table.species)))
    )

    def text(shift: float = 0.0, unit: float = 1.0) -> str:
        a, b, c, d = ((at + shift) / unit for at in (1.0, 4.0, 2.0, 3.0))
        return f"g0*3@{a!r}:{b!r}, signal(food)=1@{c!r}:, drive(g1)={0.4 * unit!r}@{d!r}:, g2=0@{c!r}:{d!r}"

    base = solved(model, times, text(), state)
    later = solved(model, times + 1000.0, text(1000.0), state)
    leaves = dict(named_leaves(model))
    for name in ("synthesis", "splicing", "decay", "translation", "protein_decay"):
        leaves[f"kinetics/{name}/raw"] = leaves[f"kinetics/{name}/raw"] + np.log(60)
    leaves["kinetics/hidden/tau/raw"] = leaves["kinetics/hidden/tau/raw"] - np.log(60)
    hourly = solved(with_leaves(model, leaves), times / 60, text(unit=60.0), state)
    order = rng.permutation(genes)
    other = prior_of(plan, FULL, network_of(plan, order)).center
    species = np.array([k.table.species.index(name) for name in other.table.species])
    renamed = solved(_reordered(model, other, order), times, text(), state[species])
    silent = with_leaves(
        model, {**named_leaves(model), "kinetics/synthesis/raw": np.asarray(k.synthesis.raw.at[0].set(-600.0))}
    )
    absent = state.at[jnp.arange(3) * genes].set(0.0)
    knocked = solved(silent, times, "g0=0", absent)
    return [
        Acceptance(
            "knock-out of an unexpressed gene, largest change",
            float(np.abs(knocked - solved(silent, times, "none", absent)).max()),
            1e-10,
        ),
        Acceptance("time shift by 1000 min, largest relative difference", apart(later, base), 1e-10),
        Acceptance("minutes to hours, largest relative difference", apart(hourly, base), 1e-10),
        Acceptance("genes in another order, largest relative difference", apart(renamed, base[:, species]), 1e-10),
    ]


def _reordered(model: Any, other: Any, order: np.ndarray) -> Any:
    """`other`, a model of the same network with its genes in another order, with the parameters of `model`."""
    hidden = len(model.kinetics.hidden.tau.raw) - len(order)
    own = np.concatenate([np.arange(hidden), hidden + order])
    rates = ("synthesis", "splicing", "decay", "translation", "protein_decay")
    readout = ("observation/readout/offset", "observation/readout/scale")
    learned = ("kinetics/promoter/basal", "kinetics/residual/network/layers/1")
    per_gene = (*(f"kinetics/{rate}" for rate in rates), *learned, *readout)
    leaves = {}
    for name, leaf in named_leaves(other).items():
        mine = named_leaves(model)[name]
        if name.startswith(per_gene):
            mine = mine[order]
        elif name.startswith("kinetics/hidden") and "reference" not in name:
            mine = mine[own]
        leaves[name] = mine if mine.dtype.kind == "f" else leaf
    return with_leaves(other, leaves)


def pulse() -> Rows:
    """Two pulses inside long gaps between saved times, in a chain that nothing regulates, by the matrix exponential."""
    plan = {"genes": 1, "regulators": 0, "seeds": [0]}
    model = prior_of(plan, FULL, Network.empty(("g0",)), regulation={"basal": 0.4}, residual={"kind": "none"}).center
    k = resolve(model.kinetics)
    c, beta, gamma, kappa, delta = (
        float(np.asarray(a)[0]) for a in (k.synthesis, k.splicing, k.decay, k.translation, k.protein_decay)
    )
    on = c / (1 + np.exp(-0.4))

    def flow(state: np.ndarray, made: float, span: float) -> np.ndarray:
        matrix = np.array([[-beta, 0, 0, made], [beta, -gamma, 0, 0], [0, kappa, -delta, 0], [0, 0, 0, 0]])
        return scipy.linalg.expm(matrix * span) @ state

    pieces = [(3.3, on), (3.7, 5 * on), (10.0, on), (10.5, on + 0.5), (50.0, on)]
    begin = np.array([0.3, 0.1, 2.0, 1.0])
    exact, here, state = [begin], 0.0, begin
    for end, made in pieces:
        if here < 3.5 < end:
            exact.append(flow(state, made, 3.5 - here))
        state, here = flow(state, made, end - here), end
    exact.append(state)
    text = "transcription(g0)*5@3.3:3.7, drive(g0.unspliced)=0.5@10:10.5"
    got = solved(model, np.array([0.0, 3.5, 50.0]), text, jnp.asarray(begin[:3]))
    return [
        Acceptance(
            "pulses in a linear cascade against the matrix exponential",
            float(np.abs(got[:, :3] - np.array(exact)[:, :3]).max()),
            1e-8,
        )
    ]


def data_of(prior: ModelPrior, seed: int = 0, last: float = 12.0) -> Dataset:
    """Made-up readings of two cultures."""
    genes = prior.center.table.genes
    readings = 13.0 + np.random.default_rng(seed).normal(0, 1.0, (2, 1, 4, len(genes)))
    treatments = {"fed": "signal(food)=1@0:, g0*3@2.5:", "warm": "signal(heat)=1@0:, g1=0@2.5:"}
    return Dataset.build(
        readings,
        [0.0, 3.0, 6.0, last],
        genes,
        list(treatments),
        treatments=treatments,
        time_unit="min",
        scale="log2",
        simulated=True,
    )


def gradients(plan: dict[str, Any]) -> Rows:
    """Of the whole objective, by both predictors, away from the optimum; relative to the largest component."""
    prior = prior_of(plan, ("mrna", "protein"))
    data = cultures(data_of(prior), prior.center.table, substeps=2)
    settings = FitPlan(rtol=1e-10, atol=1e-12, max_steps=16384, gate_penalty=0.5).settings()
    model = moved(prior.center, 7, 0.3, 1.0)
    parameters, static = eqx.partition(model, trainable(model))
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    rng, h, rows = np.random.default_rng(plan["seeds"][0]), 1e-4, []
    for name in plan["predictors"]:
        predict = PREDICTORS[name]
        total = jax.jit(
            jax.value_and_grad(
                lambda v, f=predict: objective(eqx.combine(unravel(v), static), prior, data, settings, f).total
            )
        )
        slope, worst = np.asarray(total(flat)[1]), 0.0
        chosen = [np.abs(slope).argmax(), *rng.choice(flat.size, plan["directions"] - 1, replace=False)]
        for direction in (rng.standard_normal(flat.size) / np.sqrt(flat.size), *np.eye(flat.size)[chosen]):
            at = {n: float(total(flat + n * h * direction)[0]) for n in (-2, -1, 1, 2)}
            # Fourth order, so that a step can be far above the solver's own error.
            central = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
            worst = max(worst, abs(central - slope @ direction) / np.abs(slope).max())
        rows.append(
            Acceptance(f"gradient of the whole objective ({name}) against central differences", float(worst), 1e-6)
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main(__file__))
