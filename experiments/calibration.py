"""Do posteriors by NUTS have the spread that they claim, on models whose parameters were drawn from the prior?

Simulation-based calibration: parameters from the prior, readings from the parameters, draws from the posterior given
the readings; if the three belong together, the rank of the true value among the draws is uniform, for every parameter
and for the log-likelihood. Cells start empty and fill, so that every rate moves the readings; simulation and inference
use the same classical Runge-Kutta steps, so that only the inference is on trial. All replicates are lanes of one
program. A posterior that believes in half the noise is the control, which must fail.

Sources: S. Talts et al., arXiv:1804.06788 (2018); M. Modrak et al., Bayesian Analysis (2023), doi:10.1214/23-BA1404.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pandas as pd
from jaxtyping import Array
from scipy.stats import chisquare

from pinnsim.data import Dataset
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import Cultures, cultures
from pinnsim.fit.draws import ess_bulk
from pinnsim.fit.free import free_vector
from pinnsim.fit.nuts import log_density, run_chains
from pinnsim.fit.objective import objective
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.target import Target, White
from pinnsim.model import CellModel, ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.plot import rank_histograms, save
from pinnsim.prior import half_life_prior
from pinnsim.simulate import ODE, FromState, Outcome, simulate

SMOKE: dict[str, Any] = {
    "replicates": 12,
    "draws": 7,
    "thin": 1,
    "warmup": 18,
    "bins": 2,
    "checked": 1,
    "run": ["birth_death"],
}
NOTE = (
    "{count} p-values are compared with {bar:g}: were every posterior exact, one or more would fall below in "
    "{chance:.0%} of such experiments."
)


class Ranks(NamedTuple):
    """Of one model: ranks of the truth among the draws, (replicate,), by name; divergent steps; effective draws of the
    slowest parameter, (replicate,)."""

    ranks: dict[str, np.ndarray]
    divergent: int
    effective: np.ndarray


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every model, and the control on the first."""
    metrics: dict[str, Any] = {}
    rows, shown, count = [], {}, 0
    keys = jax.random.split(jax.random.key(plan["seeds"][0]), len(plan["models"]))
    control: dict[str, float] = {}
    for number, name in enumerate(plan["run"]):
        aim = problem(plan["models"][name], plan["substeps"])
        found = ranked(aim, keys[number], plan, 1.0, name, progress)
        values = {what: uniform(ranks, plan) for what, ranks in found.ranks.items()}
        metrics[name] = {
            "p": values,
            "divergent steps": found.divergent,
            "effective draws of the slowest parameter, median": float(np.median(found.effective)),
            "effective draws of the slowest parameter, 5 %": float(np.quantile(found.effective, 0.05)),
            "readings against the adaptive solver, log2, largest": apart(aim, keys[number], plan),
        }
        rows += [
            Acceptance(f"{name}: p of uniform ranks, {what}", p, plan["bar"], "higher") for what, p in values.items()
        ]
        shown |= {f"{name}: {what}": ranks for what, ranks in found.ranks.items()}
        count += len(values)
        if number == 0:
            wrong = ranked(aim, keys[0], plan, plan["wrong_noise"], f"{name}, wrong noise", progress)
            control = {what: uniform(ranks, plan) for what, ranks in wrong.ranks.items()}
            shown |= {f"control, wrong noise: {what}": ranks for what, ranks in wrong.ranks.items()}
    rows.append(
        Acceptance("control with the wrong noise, which must fail: smallest p", min(control.values()), plan["bar"])
    )
    metrics["control with the wrong noise: p"] = control
    picture = rank_histograms(shown, plan["draws"], plan["bins"], simulated=True)
    save(picture, out / "calibration.png")
    chance = 1.0 - (1.0 - plan["bar"]) ** count
    return Findings(metrics, {}, tuple(rows), (NOTE.format(count=count, bar=plan["bar"], chance=chance),))


def problem(spec: dict[str, Any], substeps: int) -> Target:
    """A model with its prior and its moments of reading; the readings are still to come."""
    genes = tuple(spec["genes"])
    frame = pd.DataFrame(spec["edges"], columns=["source", "target", "sign"])
    network = Network.from_frame(frame, genes=genes) if len(frame) else Network.empty(genes)
    config = ModelConfig.model_validate(
        {
            "layers": tuple(spec["layers"]),
            "synthesis": 2.0,
            "synthesis_sd": spec["synthesis_sd"],
            "translation_sd": spec.get("translation_sd", 0.0),
            "protein_half_life": spec.get("protein_half_life", 60.0),
            "regulation": {"hidden": "none", "strength": spec.get("strength", 2.5), "learn_hill": True, "hill": 2.0},
            "readout": {"kind": "array", "floor": 4.0},
            "likelihood": {"kind": "gaussian", "sd": spec["noise"]},
        }
    )
    half_lives = pd.DataFrame({"gene": genes, "half_life_min": spec["half_life"]})
    known = half_life_prior(half_lives, genes)
    prior = build(config, network, known)
    spread = eqx.tree_at(
        lambda s: (s.kinetics.decay.raw, s.kinetics.promoter.basal),
        prior.spread,
        (jnp.full(len(genes), spec["decay_sd"]), jnp.full(len(genes), 0.5 if len(frame) else 0.0)),
    )
    if spread.kinetics.protein_decay is not None:
        wide = jnp.full(len(genes), spec["protein_decay_sd"])
        spread = eqx.tree_at(lambda s: s.kinetics.protein_decay.raw, spread, wide)
    prior = ModelPrior(prior.center, spread)
    read = ["rna", "protein"][: len(spec["layers"])]  # the same culture, read twice
    later = np.broadcast_to(np.arange(len(spec["times"]))[:, None], (len(read), 1, len(spec["times"]), len(genes)))
    data = Dataset.build(later, spec["times"], genes, read, time_unit="min", scale="log2", simulated=True)
    seen = cultures(data, prior.center.table, substeps=substeps).anonymous()
    return Target(free_vector(prior.center, prior), prior, seen, FitPlan().settings(), readings)


def readings(cell: CellModel, data: Cultures, settings: Settings) -> tuple[Array, Array]:
    """Readings of an empty cell that fills, (culture, time, gene), by classical Runge-Kutta steps along the grid."""
    found = []
    for culture, layer in zip(range(data.times.shape[0]), ("rna", "protein"), strict=False):
        perturbation = jax.tree.map(lambda leaf, c=culture: leaf[c], data.perturbations)
        grid = data.grid[culture]

        def step(state: Array, ends: tuple[Array, Array], perturbation: Any = perturbation) -> tuple[Array, Array]:
            left, right = ends
            local, h = perturbation.during(left, right), right - left

            def flow(time: Array, state: Array) -> Array:
                return cell.kinetics.vector_field(time, state, local)

            a = flow(left, state)
            b = flow(left + 0.5 * h, state + 0.5 * h * a)
            c = flow(left + 0.5 * h, state + 0.5 * h * b)
            d = flow(right, state + h * c)
            moved = state + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)
            return moved, moved

        empty = jnp.zeros(len(cell.table.species), grid.dtype)
        states = jax.lax.scan(step, empty, (grid[:-1], grid[1:]))[1]
        every = jnp.concatenate([empty[None], states])[data.at[culture]]
        found.append(jax.vmap(lambda s, layer=layer: cell.observation.readout(cell.kinetics.layer(s, layer)))(every))
    outcome = jnp.full(data.times.shape[0], Outcome.DONE.value, dtype=int)
    return jnp.stack(found), outcome


def ranked(aim: Target, key: Array, plan: dict[str, Any], belief: float, name: str, progress: bool) -> Ranks:
    """Replicates, their posteriors and ranks; `belief`: the share of the true noise that the posterior believes in."""
    parts = jax.random.split(key, 3)
    truth, aims = replicates(aim, parts[0], plan["replicates"])
    if belief != 1.0:
        aims = eqx.tree_at(
            lambda a: a.free.model.observation.likelihood.sd.raw, aims, replace_fn=lambda sd: belief * sd
        )
    coordinates = modes(aims)
    start = jax.random.normal(parts[1], truth.shape, truth.dtype)
    walk = run_chains(
        log_density,
        (aims, coordinates),
        start,
        jax.random.split(parts[2], plan["replicates"]),
        shared=False,
        warmup=plan["warmup"],
        draws=plan["draws"] * plan["thin"],
        progress=progress,
        label=name,
    )
    raw, drawn, true = told(aims, coordinates, jnp.asarray(walk.position), truth)
    kept = slice(plan["thin"] - 1, None, plan["thin"])
    ranks = {
        what: np.asarray((raw[:, kept, k] < truth[:, None, k]).sum(axis=1)) for k, what in enumerate(aim.free.names)
    }
    ranks["log-likelihood"] = np.asarray((drawn[:, kept] < true[:, None]).sum(axis=1))
    effective = [min(ess_bulk(np.asarray(raw[r, None, :, k])) for k in range(truth.shape[1])) for r in range(len(raw))]
    return Ranks(ranks, int(walk.divergent.sum()), np.array(effective))


@eqx.filter_jit
def replicates(aim: Target, key: Array, count: int) -> tuple[Array, Target]:
    """Parameters from the prior, (replicate, free), and targets with readings simulated from them."""
    draws, errors = jax.random.split(key)
    free = aim.free
    normal = jax.random.normal(draws, (count, free.center.shape[0]), free.center.dtype)
    truth = free.center[None] + free.spread[None] * normal

    def one(vector: Array, key: Array) -> Target:
        cell = resolve(free.with_values(vector))
        exact = readings(cell, aim.data, aim.settings)[0]
        noise = cell.observation.likelihood.sd * jax.random.normal(key, exact.shape, exact.dtype)
        # The first sample is the empty cell: it tells nothing and does not count.
        mask = aim.data.mask.at[:, 0].set(False)
        return dataclasses.replace(aim, data=dataclasses.replace(aim.data, readings=exact + noise, mask=mask))

    return truth, eqx.filter_vmap(one)(truth, jax.random.split(errors, count))


@eqx.filter_jit
def modes(aims: Target) -> White:
    """Coordinates of the normal posterior at every replicate's mode, found from the prior's centre."""

    def one(aim: Target) -> White:
        center, scale = aim.free.center, aim.free.spread

        def cost(z: Array) -> Array:
            return aim(center + scale * z).total

        found = optx.minimise(
            lambda z, _: cost(z), optx.BFGS(1e-5, 1e-5), jnp.zeros_like(center), max_steps=200, throw=False
        )
        curvature, basis = jnp.linalg.eigh(jax.hessian(cost)(found.value))
        return White(center + scale * found.value, scale, basis, jax.lax.rsqrt(jnp.clip(curvature, 0.5, None)))

    return eqx.filter_vmap(one)(aims)


@eqx.filter_jit
def told(aims: Target, coordinates: White, position: Array, truth: Array) -> tuple[Array, Array, Array]:
    """Unconstrained numbers of all draws, and log-likelihoods of draws and truths."""

    def one(aim: Target, coordinates: White, position: Array, truth: Array) -> tuple[Array, Array, Array]:
        def likelihood(vector: Array) -> Array:
            model = aim.free.with_values(vector)
            return -objective(model, aim.prior, aim.data, aim.settings, aim.predict).terms["data"]

        raw = jax.vmap(coordinates.vector)(position)
        return raw, jax.lax.map(likelihood, raw), likelihood(truth)

    return eqx.filter_vmap(one)(aims, coordinates, position, truth)


def uniform(ranks: np.ndarray, plan: dict[str, Any]) -> float:
    """p of the chi-square test that ranks 0..draws are uniform, in bins of equally many."""
    counts = np.histogram(ranks, plan["bins"], (-0.5, plan["draws"] + 0.5))[0]
    return float(chisquare(counts).pvalue)


def apart(aim: Target, key: Array, plan: dict[str, Any]) -> float:
    """Largest difference of noise-free RNA readings from the adaptive solver's, in log2, over some replicates."""
    truth, _ = replicates(aim, jax.random.split(key, 3)[0], plan["replicates"])
    worst = 0.0
    for vector in truth[: plan["checked"]]:
        model = aim.free.with_values(vector)
        empty = FromState(jnp.zeros(len(model.table.species)))
        exact = simulate(model, np.asarray(aim.data.times[0]), initial=empty, method=ODE(1e-9, 1e-11)).readings
        ours = eqx.filter_jit(readings)(resolve(model), aim.data, aim.settings)[0]
        worst = max(worst, float(jnp.max(jnp.abs(ours[0, 1:] - jnp.asarray(exact)[0, 1:]))))
    return worst


if __name__ == "__main__":
    raise SystemExit(main(__file__))
