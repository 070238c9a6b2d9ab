"""Does a certified operator screen a 50-gene model as exactly as it says, and how much faster than the batched solver?

A random network of 50 genes with unspliced RNA, spliced RNA and protein (150 species; that of `pinnsim.benchmark`),
every rate within a factor 3, first amounts within a factor 3 of rest, ten kinds of perturbations, 24 hours. Errors are
relative, of the worst of all amounts at all nodes of a trajectory unless said otherwise; the operator is trained on
its own physics without a solver, calibrated on solver runs and tested on fresh ones. Double precision.
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter
from tqdm import tqdm

from pinnsim.benchmark import RATES, interleaved, kinetics_of, own_of, workload
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.operator import (
    Domain,
    Draws,
    Operator,
    OperatorConfig,
    OperatorPlan,
    build_operator,
    certify,
    declare,
    gene_kinds,
    measured_errors,
    train,
    trajectory_error,
)
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.simulate import ODE, solve_many

SMOKE: dict[str, Any] = {
    "genes": 3, "regulators": 2, "lanes": 40, "calibration": 40, "fresh": 40, "outside": 40, "rounds": 1,
    "timed_lanes": 40, "solver_rtols": [0.01], "operator": {"levels": [0, 0, 1, 1], "width": 4, "modes": 2},
    "training": {"steps": 10, "batch": 4},
}  # fmt: skip
CHUNK = 2000


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Training, calibration, fresh draws, the screen, the outside, speed and gradients of one operator."""
    seed, horizon = plan["seeds"][0], plan["horizon"]
    domain = domain_of(plan)
    config = OperatorConfig(horizon=horizon, seed=seed, **plan["operator"])
    plain = build_operator(config, domain.kinetics)
    began = time.process_time()
    trained = train(plain, domain, OperatorPlan(seed=seed, **plan["training"]), progress=progress)
    operator = trained.operator
    spent = {"training, processor seconds": time.process_time() - began}
    keys = jax.random.split(jax.random.key(seed), 5)
    solver, sizes = ODE(1e-6, 1e-9), {"chunk": min(CHUNK, plan["calibration"]), "progress": progress}
    lanes, level = plan["calibration"], plan["level"]
    certified = certify(operator, domain, keys[0], lanes=lanes, level=level, solver=solver, **sizes)
    nodes = operator.nodes * horizon
    method = Operator(certified, fallback=ODE(1e-6, 1e-9), tolerance=plan["tolerance"])
    fresh = domain.sample(keys[1], plan["fresh"])
    exact = solve_many(domain.kinetics, nodes, fresh.perturbation, fresh.states, solver, own=fresh.own)
    answer = method.answer(domain.kinetics, nodes, fresh.perturbation, fresh.states, fresh.own)
    floor = jnp.asarray(resolve(operator).floor)
    worst = np.asarray(trajectory_error(answer.states, exact.states, floor))
    right = np.asarray(exact.states)
    each = np.abs(np.asarray(answer.states) - right) / (np.abs(right) + np.asarray(floor))
    untrained, _ = measured_errors(plain, domain, fresh, nodes, solver)
    bound = np.asarray(answer.bound)
    taken = np.asarray(answer.in_domain) & (bound <= plan["tolerance"])
    screened = screen(method, domain, plan, keys[2], nodes, progress)
    leaks = {name: outside(method, draws, times) for name, draws, times in leaving(domain, plan, keys[3], nodes)}
    speeds, ratio, notes = speed(method, domain, plan, keys[4], nodes)
    rows = [
        Acceptance("relative error of an amount, median", float(np.median(each)), 0.01),
        Acceptance("relative error of an amount, 99th percentile", float(np.quantile(each, 0.99)), 0.05),
        Acceptance("relative error of the worst amount of a trajectory, median", float(np.median(worst)), 0.01),
        Acceptance("relative error of the worst amount of a trajectory, 99th percentile", _high(worst), 0.05),
        Acceptance("share certified at 5 %", float(np.mean(taken)), 0.95, "higher"),
        Acceptance("certificate coverage, distance from 90 %", abs(float(np.mean(worst <= bound)) - 0.9), 0.03),
        Acceptance("answers certified outside the domain", int(sum(found for found, _ in leaks.values())), 0),
        Acceptance("times faster than the batched solver per core at 1 % error", ratio, 20.0, "higher"),
    ]
    metrics = {
        "coverage on fresh draws": float(np.mean(worst <= bound)),
        "share of certified answers that are worse than 5 %": float(np.mean(worst[taken] > plan["tolerance"])),
        "screen: perturbations": plan["lanes"],
        **screened,
        "outside the domain, certified of asked": {name: list(found) for name, found in leaks.items()},
        "share within 5 %": float(np.mean(worst <= plan["tolerance"])),
        "processor microseconds per lane": speeds,
        "training loss, first and last": [float(trained.history[0]), float(trained.history[-1])],
        **spent,
    }
    baselines = {
        "untrained (physics alone): worst amount, median": float(np.median(untrained)),
        "untrained (physics alone): worst amount, 99th percentile": _high(untrained),
    }
    save(picture(worst, bound, untrained, plan), out / "operator_screen.png")
    return Findings(metrics, baselines, tuple(rows), tuple(notes))


def _high(errors: np.ndarray) -> float:
    return float(np.quantile(errors[np.isfinite(errors)], 0.99))


def domain_of(plan: dict[str, Any]) -> Domain:
    """The declared domain: around the benchmark's network, first amounts around rest."""
    work = workload(plan["genes"], plan["regulators"], 2, seed=plan["seeds"][0])
    kinetics = jax.tree.map(jnp.asarray, kinetics_of(work))
    species = len(kinetics.table.species)
    begin = jnp.ones((1, species))
    rest = solve_many(kinetics, [0.0, 300.0], Perturbation.none(kinetics.table), begin, ODE(1e-5, 1e-6))
    amounts, wide = np.asarray(rest.states[0, -1], dtype=float), plan["state_factor"]
    rates = list(own_of(work))
    if len(rates) != len(RATES):
        raise ValueError("every rate of the network is declared")
    return declare(
        kinetics, plan["horizon"], factor=plan["factor"], rates=rates, states=(amounts / wide, amounts * wide),
        kinds=gene_kinds(kinetics),
    )  # fmt: skip


def screen(
    method: Operator, domain: Domain, plan: dict[str, Any], key: Any, nodes: np.ndarray, progress: bool
) -> dict[str, float]:
    """Many perturbations, chunk by chunk: how many are certified, and how long it takes."""
    chunk = min(CHUNK, plan["lanes"])
    accepted, seconds = 0, 0.0
    with tqdm(total=plan["lanes"], desc="screen", unit="lane", disable=None if progress else True) as bar:
        for number in range(plan["lanes"] // chunk):
            draws = domain.sample(jax.random.fold_in(key, number), chunk)
            began = time.process_time()
            answer = method.answer(domain.kinetics, nodes, draws.perturbation, draws.states, draws.own)
            ok = np.asarray(answer.in_domain & (answer.bound <= method.tolerance))
            seconds += time.process_time() - began
            accepted += int(ok.sum())
            bar.update(chunk)
    asked = plan["lanes"] // chunk * chunk
    return {
        "screen: fallback fraction": 1.0 - accepted / asked,
        "screen: processor microseconds per perturbation, certificate included": 1e6 * seconds / asked,
    }


def leaving(domain: Domain, plan: dict[str, Any], key: Any, nodes: np.ndarray) -> list[tuple[str, Draws, np.ndarray]]:
    """Ways to leave the domain: lanes, and the times asked."""
    draws = domain.sample(key, plan["outside"], plain=0.0)
    edge = draws.perturbation
    unseen = Perturbation.none(domain.kinetics.table)
    half = len(domain.kinetics.table.species) // 3
    # Activity of an RNA, which no declared kind touches; and a dose curve, which moves.
    other = eqx.tree_at(
        lambda p: (p.activity, p.start, p.stop),
        unseen,
        (unseen.activity.at[0, half].set(0.3), jnp.full(1, -jnp.inf), jnp.full(1, jnp.inf)),
    )
    strange = jax.tree.map(lambda a: jnp.repeat(a[None], plan["outside"], axis=0), other)
    fast = {name: 10.0 * value for name, value in draws.own.items()}
    dosed = eqx.tree_at(lambda p: p.ke, edge, jnp.full_like(edge.ke, 0.1))
    return [
        ("ten times the rates", draws._replace(own=fast), nodes),
        ("unseen kind", draws._replace(perturbation=strange), nodes),
        ("dose curve", draws._replace(perturbation=dosed), nodes),
        ("twice the time", draws, 2.0 * nodes),
        ("ten times the first amounts", draws._replace(states=10.0 * draws.states), nodes),
    ]


def outside(method: Operator, draws: Draws, times: np.ndarray) -> tuple[int, int]:
    """How many of these lanes are certified, and how many there are."""
    kinetics = method.certified.domain.kinetics
    answer = method.answer(kinetics, times, draws.perturbation, draws.states, draws.own)
    sure = np.asarray(answer.in_domain & (answer.bound <= method.tolerance))
    return int(sure.sum()), len(sure)


def speed(
    method: Operator, domain: Domain, plan: dict[str, Any], key: Any, nodes: np.ndarray
) -> tuple[dict[str, Any], float, list[str]]:
    """Processor time per lane, certificate included, beside the batched solver at the loosest tolerance whose median
    error is 1 % or less, at the same times."""
    kinetics, count = domain.kinetics, plan["timed_lanes"]
    draws = domain.sample(key, count)
    floor = jnp.asarray(resolve(method.certified.operator).floor)

    def solved(method: ODE) -> jax.Array:
        return solve_many(kinetics, nodes, draws.perturbation, draws.states, method, own=draws.own).states

    exact = solved(ODE(1e-7, 1e-9))
    errors = {}
    for rtol in plan["solver_rtols"]:
        chosen = rtol
        errors[str(rtol)] = float(np.median(np.asarray(trajectory_error(solved(ODE(rtol, 1e-3 * rtol)), exact, floor))))
        if errors[str(rtol)] <= 0.01:
            break
    runs = {
        "operator with certificate": lambda: method.answer(
            kinetics, nodes, draws.perturbation, draws.states, draws.own
        ),
        "solver": lambda: solved(ODE(chosen, 1e-3 * chosen)),
    }
    spent = interleaved(runs, plan["rounds"])
    each = {name: 1e6 * timing.processor / count for name, timing in spent.items()}
    notes = [
        f"The solver's tolerance in the comparison is {chosen:g}: the loosest whose worst amount is off by 1 % or less "
        "in the median trajectory. The operator's is in the first rows.",
        "Sweeps of the true rates do most of the work: compare the untrained baseline. Training pays where sweeps are "
        "saved, or windows are long beside what one sweep mends.",
        "Why not more: the exact linear part (steps for every lane's own rates, and courses) costs as much as "
        "everything else together, by a profile of a smaller operator, and the peer is a batched, vectorised solver.",
    ]
    found: dict[str, Any] = {**each, "solver tolerance": chosen, "solver worst amount, median, by tolerance": errors}
    return found, each["solver"] / each["operator with certificate"], notes


def picture(worst: np.ndarray, bound: np.ndarray, untrained: np.ndarray, plan: dict[str, Any]) -> plt.Figure:
    """Error against bound, and how errors are distributed before and after training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    left.loglog(100 * bound, 100 * worst, ".", markersize=3, alpha=0.5)
    ends = 100 * np.array([min(bound.min(), worst.min()), max(bound.max(), worst.max())])
    left.loglog(ends, ends, "k-", linewidth=0.8, label="error = bound")
    left.axvline(100 * plan["tolerance"], color="tab:red", linewidth=0.8, label="certified left of it")
    left.set(xlabel="certified bound (%)", ylabel="error of the worst amount (%)")
    left.legend(frameon=False)
    for errors, name in ((worst, "trained"), (untrained, "untrained: physics alone")):
        good = np.sort(errors[np.isfinite(errors)])
        right.semilogx(100 * good, np.arange(1, len(good) + 1) / len(good), label=name)
    right.axvline(100 * plan["tolerance"], color="tab:red", linewidth=0.8)
    right.xaxis.set_major_formatter(ScalarFormatter())
    right.xaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="error of the worst amount (%)", ylabel="share of trajectories")
    right.legend(frameon=False)
    figure.suptitle(f"Operator of {plan['genes']} genes, fresh draws from its domain, simulated")
    return figure


if __name__ == "__main__":
    raise SystemExit(main(__file__))
