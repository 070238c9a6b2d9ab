"""Is a random network of 350 genes learned from short noisy courses and a partly wrong prior network?

Simulated Hill kinetics, 140 training courses from random first states, noise up to 0.4 of the mean expression, and
prior networks of which up to a fifth of the edges start at a wrong gene. All noise and corruption levels are fitted as
lanes of one program. One step predicts the next sample from a noisy one, roll-out the whole course from its first;
errors are against the noise-free course. AR(1) is fitted per gene, on the same noisy samples. First samples are shrunk
towards the training courses' mean at that time by the share of their variance that is noise.
"""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from pinnsim.data import Dataset
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import FitPlan, aupr, cultures, fit_groups, listed_edges, propose_edges, rank_edges
from pinnsim.fit.fit import draw_start
from pinnsim.model import CellModel, ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, CYCLE, GREY, RED, new_panels, styled
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.simulate import FromState, simulate

SMOKE: dict[str, Any] = {
    "genes": 10, "training": 12, "held_out": 2, "noise": [0.1], "corruption": [0.2],
    "fit": {"collocation_steps": 20},
}  # fmt: skip
BAR = 2e-4


class Level(NamedTuple):
    """One lane: noise, share of wrong edges, its prior network, model and noisy courses, (course, time, gene)."""

    noise: float
    wrong: float
    network: Network
    prior: ModelPrior
    courses: np.ndarray


def network_of(genes: int, regulators: int, rng: np.random.Generator) -> Network:
    """`regulators` random edges to each gene from others, with random signs."""
    others = [np.delete(np.arange(genes), gene) for gene in range(genes)]
    source = np.concatenate([rng.choice(other, regulators, replace=False) for other in others])
    names, edges = tuple(f"g{i}" for i in range(genes)), genes * regulators
    sign = np.where(rng.random(edges) < 0.6, 1.0, -1.0)
    target = np.repeat(np.arange(genes), regulators)
    words = ("",) * edges
    return Network(source, target, sign, np.ones(edges), names, names, words, words)


def corrupted(network: Network, share: float, rng: np.random.Generator) -> Network:
    """The network with the sources of some edges replaced by genes that do not regulate the target."""
    source, target = np.array(network.source), np.asarray(network.target)
    present = set(zip(source.tolist(), target.tolist(), strict=True))
    for edge in rng.choice(len(source), round(share * len(source)), replace=False):
        while True:
            new = int(rng.integers(len(network.genes)))
            if new != target[edge] and (new, int(target[edge])) not in present:
                break
        present.add((new, int(target[edge])))
        source[edge] = new
    return eqx.tree_at(lambda n: n.source, network, source)


def model_of(plan: dict[str, Any], network: Network, rate: np.ndarray) -> ModelPrior:
    """The model at its prior's centre, with half-lives known within `half_life_log_sd`."""
    genes = len(network.genes)
    known = LogNormal(jnp.asarray(rate), jnp.full(genes, plan["half_life_log_sd"]))
    prior = KineticPrior(known, network.genes, ("given: simulated",) * genes, "mrna", "h")
    return build(ModelConfig.model_validate(plan["model"]), network, prior)


def courses_of(model: CellModel, starts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Abundances from these states, (course, time, gene)."""
    begin = [FromState(start) for start in starts]
    return np.asarray(simulate(model, times, ["none"] * len(starts), initial=begin).raise_failures().readings)


def shrunk(readings: np.ndarray, training: np.ndarray, sd: float) -> np.ndarray:
    """Readings (course, gene) at a time, shrunk towards the training courses' mean there."""
    mean, spread = training.mean(axis=0), training.var(axis=0)
    return np.maximum(mean + np.maximum(1.0 - sd**2 / spread, 0.0) * (readings - mean), 0.0)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Simulates, fits every level as a lane, and scores what was held out."""
    times, training = np.asarray(plan["times"], dtype=float), plan["training"]
    real, rate, clean = simulated(plan)
    unit = float(clean.mean())
    levels = levels_of(plan, real, rate, clean)
    fit = FitPlan.model_validate(plan["fit"])
    data = [
        cultures(dataset_of(level, times, training, unit), level.prior.center.table, substeps=fit.substeps)
        for level in levels
    ]
    result = fit_groups([same(levels[0].prior, level.prior) for level in levels], data, fit, progress=progress)
    rows: list[Acceptance] = []
    found: dict[str, dict[str, float]] = {}
    for k, level in enumerate(tqdm(levels, desc="scores", unit="level", disable=None if progress else True)):
        name = f"noise {level.noise:g}, {level.wrong:.0%} of edges wrong"
        found[name] = scores(result.best(k), level, clean, times, training, unit)
        one = found[name]
        if level.noise == 0:
            rows.append(Acceptance(f"one-step MSE, {name}", one["one step"], BAR))
        share = one["one step"] / one["one step, AR(1)"]
        rows.append(Acceptance(f"one-step MSE over that of AR(1), {name}", share, 1.0))
        what = f"roll-out MSE over that of persistence, {name}"
        rows.append(Acceptance(what, one["roll-out"] / one["roll-out, persistence"], 1.0))
        if level.wrong > 0:
            known = (with_names(result.best(k), level.prior), level.prior, data[k], fit)
            ranked = rank_edges(listed_edges(*known), propose_edges(*known))
            recovery = aupr(ranked, real, level.network)
            one["AUPR"], one["AUPR, prior"] = recovery.value, recovery.prior
            rows.append(Acceptance(f"edge AUPR less the corrupted prior's own, {name}", recovery.gain, 0.0, "higher"))
    save(picture(levels, found), out / "random_network.png")
    return Findings(found, {"mean expression": unit}, tuple(rows), ("The data are simulated.",))


def simulated(plan: dict[str, Any]) -> tuple[Network, np.ndarray, np.ndarray]:
    """The real network, rates of decay, (gene,), and courses without noise, (course, time, gene)."""
    rng = np.random.default_rng(plan["seeds"][0])
    genes, times = plan["genes"], np.asarray(plan["times"], dtype=float)
    real = network_of(genes, plan["regulators"], rng)
    rate = 0.4 * np.exp(0.3 * rng.standard_normal(genes))
    truth = draw_start(model_of(plan, real, rate), jax.random.key(plan["seeds"][0]), 1.0)
    return real, rate, courses_of(truth, rng.random((plan["training"] + plan["held_out"], genes)), times)


def levels_of(plan: dict[str, Any], real: Network, rate: np.ndarray, clean: np.ndarray) -> list[Level]:
    """A lane per share of wrong edges and noise."""
    levels, unit = [], float(clean.mean())
    for wrong in plan["corruption"]:
        network = corrupted(real, wrong, np.random.default_rng(plan["seeds"][0] + 1))
        for noise in plan["noise"]:
            spread = noise * unit * np.random.default_rng(plan["seeds"][0] + 2).standard_normal(clean.shape)
            noisy = np.maximum(clean + spread, 0.0)  # no instrument shows less than nothing
            chosen = {**plan, "model": {**plan["model"], "likelihood": {"kind": "gaussian", "sd": _sd(noise, unit)}}}
            levels.append(Level(noise, wrong, network, model_of(chosen, network, rate), noisy))
    return levels


def _sd(noise: float, unit: float) -> float:
    """What a reading may lie off: the noise, and what straight lines between samples cost."""
    return float(np.hypot(noise * unit, 0.01))


def same(first: ModelPrior, other: ModelPrior) -> ModelPrior:
    """Another network in the first one's structure, so that both are lanes of one program."""
    return jax.tree.unflatten(jax.tree.structure(first), jax.tree.leaves(other))


def with_names(model: CellModel, prior: ModelPrior) -> CellModel:
    """A fitted lane with its own network's names again."""
    return jax.tree.unflatten(jax.tree.structure(prior.center), jax.tree.leaves(model))


def dataset_of(level: Level, times: np.ndarray, training: int, unit: float) -> Dataset:
    """The training courses, their first samples shrunk."""
    values = np.array(level.courses[:training])
    values[:, 0] = shrunk(values[:, 0], values[:, 0], level.noise * unit)
    names = [f"course {k}" for k in range(training)]
    return Dataset.build(
        values[:, None], times, level.network.genes, names, time_unit="h", scale="linear", simulated=True
    )


def scores(
    model: CellModel, level: Level, clean: np.ndarray, times: np.ndarray, training: int, unit: float
) -> dict[str, float]:
    """Mean squared errors on the held-out courses."""
    found = errors(model, level, clean, times, training, unit)
    return {name: float(np.mean(value**2)) for name, value in found.items()}


def errors(
    model: CellModel, level: Level, clean: np.ndarray, times: np.ndarray, training: int, unit: float
) -> dict[str, np.ndarray]:
    """Errors on the held-out courses by way to predict, (course, time, gene)."""
    noisy, known, sd = level.courses[training:], level.courses[:training], level.noise * unit
    truth, steps = clean[training:], len(times) - 1
    starts = np.stack([shrunk(noisy[:, k], known[:, k], sd) for k in range(steps)], axis=1)
    # Equal steps and no treatment: one step from any sample is the first step from there.
    ahead = courses_of(model, starts.reshape(-1, starts.shape[-1]), times).reshape(*starts.shape[:2], len(times), -1)
    before, after = known[:, :-1].reshape(-1, known.shape[-1]), known[:, 1:].reshape(-1, known.shape[-1])
    slope = ((before - before.mean(0)) * (after - after.mean(0))).sum(0) / ((before - before.mean(0)) ** 2).sum(0)
    linear = after.mean(0) + slope * (noisy[:, :-1] - before.mean(0))
    return {
        "one step": ahead[:, :, 1] - truth[:, 1:],
        "one step, AR(1)": linear - truth[:, 1:],
        "one step, persistence": noisy[:, :-1] - truth[:, 1:],
        "roll-out": ahead[:, 0, 1:] - truth[:, 1:],
        "roll-out, persistence": noisy[:, :1] - truth[:, 1:],
        "roll-out, mean of training courses": known[:, 1:].mean(0)[None] - truth[:, 1:],
    }


@styled
def picture(levels: list[Level], found: dict[str, dict[str, float]]) -> Any:
    """Errors against noise, and edges found."""
    left, right = panels = new_panels(1, 2, (8.6, 3.5))[0]
    scored = list(zip(levels, found.values(), strict=True))
    for colour, wrong in zip(CYCLE, sorted({level.wrong for level in levels}), strict=False):
        here = [(level.noise, one) for level, one in scored if level.wrong == wrong]
        noise = [x for x, _ in here]
        left.plot(noise, [one["one step"] for _, one in here], "o-", color=colour, label=f"pinnsim, {wrong:.0%} wrong")
        if wrong > 0:
            right.plot(noise, [one["AUPR"] for _, one in here], "o-", color=BLUE, label=f"fitted, {wrong:.0%} wrong")
            right.plot(noise, [one["AUPR, prior"] for _, one in here], "s--", color=GREY, label="corrupted prior")
        if wrong == min(level.wrong for level in levels):
            left.plot(noise, [one["one step, AR(1)"] for _, one in here], "s--", color=GREY, label="AR(1) per gene")
    left.axhline(BAR, color=RED, linestyle=":", label="bar at noise 0")
    left.set(yscale="log", xlabel="noise (of mean expression)", ylabel="one-step mean squared error")
    left.set_title("Held-out courses (simulated)")
    right.set(xlabel="noise (of mean expression)", ylabel="AUPR of edges")
    right.set_title("Edges (simulated)")
    for axes in panels:
        axes.legend()
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
