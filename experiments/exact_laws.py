"""Do sampled cells follow the laws that are known in closed form?

Exact jumps against the stationary laws of births and deaths, telegraph promoters and Schlogl's system, against the
moments of two-stage expression and the mean first passages between the modes of Schlogl's system, up to 178,100 s; the
Langevin methods against the Ornstein-Uhlenbeck process and their orders of convergence; tau leaping's distance from the
exact law. Discrete numbers are made continuous by a uniform draw within their probability, so that Kolmogorov and
Smirnov's test is exact for them.
Sources: those of the motifs (`pinnsim.dynamics.motifs`); P. E. Kloeden and E. Platen (1992) for the orders.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.motifs import birth_death, schlogl, telegraph
from pinnsim.dynamics.reactions import ReactionSystem, reaction_system
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.random import bits, key_of, lane_key, normals
from pinnsim.session import use_cores
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.ensemble import sample_cells
from pinnsim.simulate.langevin import Langevin
from pinnsim.simulate.sampler import AbstractSampler
from pinnsim.simulate.ssa import SSA
from pinnsim.simulate.tau_leaping import TauLeaping
from pinnsim.treatment import Treatment

SMOKE: dict[str, Any] = {
    "seeds": [11],
    "cells": 1500,
    "step": 0.02,
    "keep": 0.02,
    "passage_cells": 16,
    "leavings": 25,
    "paths": 500,
    "pairs": 20,
    "strong_steps": [0.125, 0.0625, 0.03125],
}
_FLOOR = 1e-4  # no p value of a fixed list of seeds may be lower


def sampled(
    method: AbstractSampler,
    kinetics: AbstractKinetics,
    times: list[float],
    seed: int,
    cells: int,
    start: np.ndarray | None = None,
    treatments: tuple[str, ...] = ("none",),
) -> np.ndarray:
    """States, (treatment, cell, time, species). `start` may give each cell its own state: one lane per state then."""
    p = Perturbation.stack([Treatment.parse(text).resolve(kinetics.table) for text in treatments])
    state = np.asarray(kinetics.default_state()) if start is None else np.asarray(start, dtype=float)
    states = jnp.asarray(np.broadcast_to(state, (len(treatments), *state.shape[-1:])))
    found = sample_cells(method, kinetics, jnp.asarray(times), p, states, jax.random.key(seed), cells)
    return np.asarray(found.raise_failures().states)


def continuous(numbers: np.ndarray, cdf: np.ndarray, seed: int) -> np.ndarray:
    """Uniform on (0, 1) exactly where the numbers follow the law with this distribution function (over 0, 1, ...)."""
    whole = np.clip(np.round(numbers).astype(int), 0, len(cdf) - 1)
    below = np.where(whole > 0, cdf[whole - 1], 0.0)
    return below + np.random.default_rng(seed).random(numbers.size) * (cdf[whole] - below)


def ks(numbers: np.ndarray, cdf: np.ndarray, seed: int) -> float:
    """p of Kolmogorov and Smirnov's test of whole numbers against a discrete law."""
    return float(scipy.stats.kstest(continuous(numbers, cdf, seed), "uniform").pvalue)


def telegraph_cdf(on: float, off: float, r: float) -> np.ndarray:
    """Peccoud and Ycart's law at rest."""
    n = np.arange(int(6 * r) + 40)
    log = n * np.log(r) - scipy.special.gammaln(n + 1) - r
    log += scipy.special.gammaln(on + n) - scipy.special.gammaln(on)
    log -= scipy.special.gammaln(on + off + n) - scipy.special.gammaln(on + off)
    return np.cumsum(np.exp(log) * scipy.special.hyp1f1(off, on + off + n, r))


def schlogl_cdf() -> np.ndarray:
    """Stationary law by detailed balance."""
    birth, death = companion(__file__, "_passages").rates(np.arange(1200.0))
    log = np.concatenate([[0.0], np.cumsum(np.log(birth[:-1]) - np.log(death[1:]))])
    return np.cumsum(np.exp(log - scipy.special.logsumexp(log)))


def two_stage() -> ReactionSystem:
    """km, kp, gm, gp = 10, 5, 2, 0.5."""
    return reaction_system(
        [
            Reaction("transcription:g", "0 -> m", 10.0),
            Reaction("decay:g", "m -> 0", 2.0),
            Reaction("translation:g", "m -> m + p", 5.0),
            Reaction("protein_decay:g", "p -> 0", 0.5),
        ],
        time_unit="h",
    )


def cascade() -> ReactionSystem:
    """a makes b, b makes c; each is lost."""
    return reaction_system(
        [
            Reaction("transcription:a", "0 -> a.mrna", 20.0),
            Reaction("transcription:b", "a.mrna -> a.mrna + b.mrna", 3.0),
            Reaction("transcription:c", "b.mrna -> b.mrna + c.mrna", 1.0),
            *(Reaction(f"decay:{g}", f"{g}.mrna -> 0", 1.0) for g in "abc"),
        ],
        time_unit="h",
        genes=("a", "b", "c"),
    )


def jump_laws(plan: dict[str, Any], seed: int) -> dict[str, float]:
    """p values of the stationary and transient laws of exact jumps, for one seed."""
    cells, found = plan["cells"], {}
    numbers = sampled(SSA(), birth_death(12.0, 0.5), [0.0, 0.7], seed, cells)[0, :, 1, 0]
    mean = 24.0 * (1 - np.exp(-0.35))
    found["births and deaths at t = 0.7, Poisson"] = ks(numbers, scipy.stats.poisson(mean).cdf(np.arange(200)), seed)
    for on, off, r in plan["telegraph"]:
        system = telegraph(1, on=on, off=off, transcription=r, translation=None)
        numbers = sampled(SSA(), system, [0.0, plan["settle"]], seed, cells)[0, :, 1, 2]
        found[f"telegraph promoter ({on:g}, {off:g}, {r:g})"] = ks(numbers, telegraph_cdf(on, off, r), seed)
    law = schlogl_cdf()
    # Cells by starting number: as many from each as the stationary law says, so that rounding is the only error.
    start = np.searchsorted(law, (np.arange(cells) + 0.5) / cells)
    found["Schlogl's system stays in its stationary law"] = ks(kept_law(start, plan["keep"], seed), law, seed)
    return found


def kept_law(start: np.ndarray, keep: float, seed: int) -> np.ndarray:
    """Numbers of Schlogl's system after `keep`, one cell from each starting number."""
    system, key = schlogl(), key_of(jax.random.key(seed))
    p, times = Perturbation.none(system.table), jnp.asarray([0.0, keep])

    def one(times: jax.Array, cell: tuple[jax.Array, jax.Array]) -> jax.Array:
        number, index = cell
        return SSA().sample(system, times, p, number[None], lane_key(key, index)).states[-1, 0]

    # Neighbours start alike, so that they take about as many steps.
    cells = (jnp.asarray(start, dtype=float), jnp.arange(len(start)))
    return np.asarray(jax.jit(lambda cells: run_lanes(one, times, cells, block=250))(cells))


def moments(plan: dict[str, Any], seed: int) -> dict[str, float]:
    """Standard scores of the moments of two-stage expression, for one seed."""
    cells = plan["cells"]
    states = sampled(SSA(), two_stage(), [0.0, 1.0, 20.0], seed, cells)[0]
    m, p, early = states[:, 2, 0], states[:, 2, 1], states[:, 1, 1]
    root = np.sqrt(cells)
    product = (m - 5.0) * (p - 50.0)
    square = (p - 50.0) ** 2
    # Beyond t = 20 what is left of the start is 50 exp(-10).
    rest = 50.0 * np.exp(-10.0) * 1.4
    return {
        "<m> = 5": (m.mean() - 5.0) / np.sqrt(5.0) * root,
        "<p> = 50": (abs(p.mean() - 50.0) - rest) / np.sqrt(150.0) * root,
        "<p>(1) = 11.8202107398": (early.mean() - 11.8202107398) / early.std() * root,
        "Var p = 150": (square.mean() - 150.0) / square.std() * root,
        "Cov(m, p) = 10": (product.mean() - 10.0) / product.std() * root,
    }


def ornstein_uhlenbeck(plan: dict[str, Any], seed: int) -> dict[str, float]:
    """p values of the marginals of a linear chemical Langevin equation whose noise is constant."""
    # Births at rate b and deaths at rate 1 from rest, at a size at which sqrt(b + x) hardly moves: mean b, variance
    # b / size (1 - exp(-2 t)), normal up to a skewness of 1 / sqrt(b size).
    birth, size, span = 50.0, 1e7, 0.7
    method = Langevin(size, plan["step"])
    x = sampled(method, birth_death(birth), [0.0, span], seed, plan["cells"], np.array([birth]))[0, :, 1, 0]
    spread = np.sqrt(birth / size * (1 - np.exp(-2 * span)))
    return {"Ornstein-Uhlenbeck by Langevin at t = 0.7": float(scipy.stats.kstest((x - birth) / spread, "norm").pvalue)}


def slope(steps: list[float], errors: list[float]) -> float:
    """Order of convergence."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def strong_order(plan: dict[str, Any], seed: int) -> tuple[float, list[float]]:
    """`dx = s x dW` by `2 x -> 3 x`, `2 x -> x`, against its solution for the very noise that was drawn."""
    rate, size, span, paths, steps = 0.25, 2.0, 1.0, plan["paths"], plan["strong_steps"]
    system = reaction_system(
        [Reaction("up", "2 x -> 3 x", rate), Reaction("down", "2 x -> x", rate)], time_unit="s", start={"x": 1.0}
    )
    counters = jnp.arange(round(span / min(steps)), dtype=jnp.uint32)
    keys = jax.vmap(lambda c: lane_key(key_of(jax.random.key(seed)), c))(jnp.arange(paths))
    draws = np.asarray(jax.vmap(lambda key: jax.vmap(lambda j: normals(key, j, 1)[0])(counters))(keys))
    strength, errors = np.sqrt(2 * rate / size), []
    for dt in steps:
        x = sampled(Langevin(size, dt), system, [0.0, span], seed, paths)[0, :, 1, 0]
        path = draws[:, : round(span / dt)].sum(axis=1) * np.sqrt(dt)
        errors.append(float(np.sqrt(np.mean((x - np.exp(strength * path - strength**2 / 2 * span)) ** 2))))
    return slope(steps, errors), errors


def weak_order(plan: dict[str, Any], seed: int) -> tuple[float, list[float]]:
    """Second moment of births (4) and deaths (1) at t = 1 from 1."""
    birth, size, steps, errors = 4.0, 30.0, plan["weak_steps"], []
    mean = birth + (1.0 - birth) * np.exp(-1.0)
    variance = (birth * (1 - np.exp(-2.0)) - (birth - 1.0) * (np.exp(-1.0) - np.exp(-2.0))) / size
    for dt in steps:
        method = Langevin(size, dt)
        x = sampled(method, birth_death(birth), [0.0, 1.0], seed, 5 * plan["paths"], np.array([1.0]))[0, :, 1, 0]
        errors.append(float(abs(np.mean(x**2) - mean**2 - variance)))
    return slope(steps, errors), errors


def leap_distance(plan: dict[str, Any], seed: int) -> float:
    """Largest difference between tau leaping's distribution function and the telegraph law (2, 3, 30)."""
    system = telegraph(1, on=2.0, off=3.0, transcription=30.0, translation=None)
    cells = min(plan["cells"], 20_000)
    numbers = sampled(TauLeaping(epsilon=0.03), system, [0.0, 12.0], seed, cells)[0, :, 1, 2]
    return float(scipy.stats.kstest(continuous(numbers, telegraph_cdf(2.0, 3.0, 30.0), seed), "uniform").statistic)


def unmoved(plan: dict[str, Any], seed: int) -> tuple[int, int]:
    """Numbers upstream of a knock-down that differ between control and knocked cells, and downstream ones that do."""
    times = np.linspace(0.0, 6.0, 61).tolist()
    control, knocked = sampled(SSA(), cascade(), times, seed, plan["pairs"], treatments=("none", "b*0.2@2.013:"))
    differ = control != knocked
    return int(differ[..., 0].sum() + differ[:, :21].sum()), int(differ[..., 1:].sum())


def other_bits(seed: int) -> int:
    """Of a million words, how many differ from those of JAX's own threefry."""
    key = jax.random.key(seed)
    counts = jnp.arange(1_000_000, dtype=jnp.uint32)
    ours = jnp.concatenate(bits(key_of(key), counts[:500_000], counts[500_000:]))
    from jax.extend.random import threefry_2x32

    return int((np.asarray(ours) != np.asarray(threefry_2x32(key_of(key), counts))).sum())


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All laws for all seeds."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        if progress:
            print(f"{name}: {seconds[name]:.0f} s")
        return result

    seeds = plan["seeds"]
    laws = [timed("laws of jumps", lambda s=s: jump_laws(plan, s)) for s in seeds]
    laws = [
        {**law, **timed("Langevin", lambda s=s: ornstein_uhlenbeck(plan, s))}
        for law, s in zip(laws, seeds, strict=True)
    ]
    scores = [timed("moments", lambda s=s: moments(plan, s)) for s in seeds]
    between = companion(__file__, "_passages")
    modes = ((between.LOW, between.HIGH), (between.HIGH, between.LOW))
    exact = np.array([between.mean_passage(*ends) for ends in modes])
    given = [timed("passages", lambda s=s: between.passages(plan["passage_cells"], plan["leavings"], s)) for s in seeds]
    means, errors = (np.array(values) for values in zip(*given, strict=True))  # (seed, direction)
    scores_of_means = np.abs((means - exact) / errors).max(axis=0)
    strong, strong_errors = timed("strong order", lambda: strong_order(plan, seeds[0]))
    weak, weak_errors = timed("weak order", lambda: weak_order(plan, seeds[0]))
    distance = timed("tau leaping", lambda: leap_distance(plan, seeds[0]))
    moved, downstream = timed("pairs", lambda: unmoved(plan, seeds[0]))
    words = other_bits(seeds[0])
    law = schlogl_cdf()
    rows = [
        Acceptance(
            f"{name}: smallest p of Kolmogorov and Smirnov, {plan['cells']} cells",
            min(p[name] for p in laws),
            _FLOOR,
            "higher",
        )
        for name in laws[0]
    ]
    rows += [
        Acceptance(f"two-stage expression, {name}: largest standard score", max(abs(s[name]) for s in scores), 4.0)
        for name in scores[0]
    ]
    rows += [
        *(
            Acceptance(f"Schlogl, mean first passage {begin} -> {end}: largest standard score", score, 4.0)
            for (begin, end), score in zip(modes, scores_of_means.tolist(), strict=True)
        ),
        Acceptance("Schlogl, mean first passages: largest relative standard error", (errors / exact).max(), 0.1),
        Acceptance(
            "Schlogl, exact mean first passages tested against: relative error",
            np.abs(exact / np.array([50307.86145, 178100.49064]) - 1.0).max(),
            1e-9,
        ),
        Acceptance("Schlogl, P(n <= 256) of the law tested against: error", abs(float(law[256]) - 0.2202606320), 1e-9),
        Acceptance("strong order of Langevin, distance from 1/2", abs(strong - 0.5), 0.2),
        Acceptance("weak order of Langevin, distance from 1", abs(weak - 1.0), 0.2),
        Acceptance("tau leaping, epsilon 0.03: distance from the telegraph law", distance, 0.03),
        Acceptance("numbers upstream of a knock-down that differ from control", moved, 0),
        Acceptance("random words that differ from JAX's threefry, of a million", words, 0),
    ]
    save(acceptance_dots(rows, "Sampled cells against exact laws"), out / "exact_laws.png")
    metrics = {
        "p values by seed": {name: [p[name] for p in laws] for name in laws[0]},
        "standard scores by seed": {name: [s[name] for s in scores] for name in scores[0]},
        "mean first passages, there and back, by seed": means.tolist(),
        "their standard errors": errors.tolist(),
        "strong errors": strong_errors,
        "weak errors": weak_errors,
        "strong order": strong,
        "weak order": weak,
        "numbers downstream of a knock-down that differ": downstream,
        "seconds": seconds,
    }
    return Findings(metrics, {}, tuple(rows))


if __name__ == "__main__":
    use_cores()
    raise SystemExit(main(__file__))
