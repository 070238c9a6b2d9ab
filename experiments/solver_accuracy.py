"""Do the deterministic solvers and linear noise keep what theory, exact laws and other solvers promise of them?

Orders of convergence at fixed steps; random gene networks, stiff ones included, against scipy's Radau and LSODA;
conserved totals of closed systems, by both solvers and by exact jumps; linear noise against exact laws; the same
numbers for any block, order of lanes and number of devices; and lanes that blow up among good ones. The gradient of
failed lanes is measured by the benchmark of gradients.
Sources: E. Hairer, S. Norsett, G. Wanner (1993, 1996) for the orders; N. G. van Kampen (2007), chapter X, for linear
noise and its error of first order in 1 / size.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.stats

from pinnsim.benchmark import worst_error
from pinnsim.dynamics.conservation import conservation_laws
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.motifs import telegraph, toggle
from pinnsim.dynamics.reactions import Custom, Reaction, ReactionSystem, reaction_system
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.session import use_cores
from pinnsim.simulate import ODE, SSA, LinearNoise, Outcome, linear_noise, sample_cells, solve_many, steady_state
from pinnsim.simulate.adaptive import AbstractPair, Ends, Field, Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.langevin import Diffusion
from pinnsim.simulate.linear_noise import MeanAndCovariance, widened
from pinnsim.simulate.lyapunov import lyapunov
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.stationary import stationary_covariance
from pinnsim.specimens import Flow, random_networks
from pinnsim.tree import stack

SMOKE: dict[str, Any] = {
    "counts": [100, 200], "networks": 3, "rtol": 1e-6, "closed": ["exchange"], "closed_cells": 8, "cells": 2000,
    "step": 0.01, "kinds": ["explicit solver"], "blocks": [5], "lanes": 12, "genes": 4, "good": 3, "bad": 12,
}  # fmt: skip
NOW = jnp.zeros(())
SPAN = 3.0  # hours, of the courses whose order is measured
Rows = list[Acceptance]
Part = tuple[Rows, dict[str, Any]]


def plain(kinetics: AbstractKinetics) -> Perturbation:
    """Nothing acts."""
    return Perturbation.none(kinetics.table)


def fitted_order(counts: list[int], errors: list[float]) -> float:
    """The exponent of the step that the errors follow."""
    return -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])


def orders_of(pair: AbstractPair, counts: list[int]) -> tuple[float, float]:
    """Orders of a pair on Gardner's toggle: of the error after the span, and of the dense output inside one step.
    Exact is what the explicit pair gives with steps that are much finer."""
    system, begin = toggle(), jnp.asarray([3.0, 0.5])
    field = Field(system, Constant(plain(system).at(NOW)))

    def walk(pair: AbstractPair, span: jax.Array, count: jax.Array) -> jax.Array:
        h = span / count
        return jax.lax.fori_loop(0, count, lambda _, x: pair.attempt(field, NOW, x, field(NOW, x), h).state, begin)

    @jax.jit
    def inside(h: jax.Array, shares: jax.Array) -> jax.Array:
        tried = pair.attempt(field, NOW, begin, field(NOW, begin), h)
        ends = Ends(begin, tried.state, h * field(NOW, begin), h * field(NOW, tried.state))
        return jax.vmap(lambda share: pair.between(share, ends, tried.inside))(shares)

    walked, exact = jax.jit(partial(walk, pair)), jax.jit(partial(walk, Tsitouras()))
    shares, far, near = jnp.asarray([0.2, 0.5, 0.8]), [], []
    end = exact(jnp.asarray(SPAN), jnp.asarray(10 * max(counts)))
    for count in counts:
        far.append(float(jnp.abs(walked(jnp.asarray(SPAN), jnp.asarray(count)) - end).max()))
        h = jnp.asarray(SPAN / count)
        there = jnp.stack([exact(share * h, jnp.asarray(30)) for share in shares])
        near.append(float(jnp.abs(inside(h, shares) - there).max()))
    return fitted_order(counts, far), fitted_order(counts, near)


def noise_order(counts: list[int]) -> float:
    """Order of mean and covariance of a repressed gene, by the solver of `linear_noise` at fixed steps."""
    kinetics = resolve(autoregulated())
    wider, p = MeanAndCovariance(kinetics), widened(plain(kinetics), 1)
    begin, span = wider.default_state(), 0.2  # while the noise grows: later errors are forgotten
    fewer = [count // 4 for count in counts]

    @eqx.filter_jit
    def solved(count: jax.Array) -> jax.Array:
        term, h = dfx.ODETerm(wider.vector_field), span / count
        return dfx.diffeqsolve(term, dfx.Tsit5(), 0.0, span, h, begin, p, max_steps=4096).ys[-1]

    best = solved(jnp.asarray(2000.0))
    return fitted_order(fewer, [float(jnp.abs(solved(jnp.asarray(float(n))) - best).max()) for n in fewer])


def orders(plan: dict[str, Any]) -> Part:
    """Distances of measured orders from theory."""
    rows, found = [], {}
    for pair, far, near in ((Tsitouras(), 5, 5), (Rodas(), 5, 5)):
        name = type(pair).__name__
        got = orders_of(pair, plan["counts"])
        found[name] = got
        rows.append(Acceptance(f"order of {name}, distance from {far}", abs(got[0] - far), 0.2))
        rows.append(Acceptance(f"local order of {name}'s dense output, distance from {near}", abs(got[1] - near), 0.2))
    found["linear noise"] = noise_order(plan["counts"])
    rows.append(Acceptance("order of linear noise, distance from 5", abs(found["linear noise"] - 5), 0.2))
    return rows, {"orders: of the error, of dense output": found}


def against_scipy(count: int, rtol: float, times: np.ndarray) -> tuple[dict[str, list[float]], bool]:
    """Per network the worst difference from each of scipy's solvers, `|y - ref| / (1e-3 + |ref|)`, and whether all
    lanes are done. Errors allowed are equal on both sides."""
    models, given, states = random_networks(count)

    def one(times: jax.Array, lane: tuple) -> Any:
        limits = Limits(jnp.asarray(rtol), jnp.asarray(0.01 * rtol), 1_000_000)
        return integrate(lane[0], times, lane[1], lane[2], Rodas(), limits, moving=False)

    lanes = (stack(models), Perturbation.stack(given), jnp.stack(states))
    got = eqx.filter_jit(run_lanes)(one, jnp.asarray(times), lanes, devices=1)
    field = eqx.filter_jit(lambda k, p, x: k.vector_field(NOW, x, p))
    jacobian = eqx.filter_jit(lambda k, p, x: jax.jacfwd(lambda y: k.vector_field(NOW, y, p))(x))
    apart: dict[str, list[float]] = {"Radau": [], "LSODA": []}
    for number, (k, p, x) in enumerate(zip(models, given, states, strict=True)):
        edits = p.at(NOW)
        begin = np.asarray(jnp.where(edits.hold, edits.level, x))
        for solver, found in apart.items():
            exact = scipy.integrate.solve_ivp(
                lambda _, y, k=k, p=p: np.asarray(field(k, p, y)),
                (times[0], times[-1]),
                begin,
                method=solver,
                jac=lambda _, y, k=k, p=p: np.asarray(jacobian(k, p, y)),
                rtol=rtol,
                atol=0.01 * rtol,
                t_eval=times,
            ).y.T
            found.append(worst_error(got.states[number, 1:], exact[1:]))
    return apart, bool((np.asarray(got.outcome) == Outcome.DONE).all())


def networks(plan: dict[str, Any]) -> Part:
    """Random gene networks against scipy."""
    count, rtol = plan["networks"], plan["rtol"]
    apart, done = against_scipy(count, rtol, np.array([0.0, 1e-3, 0.1, 1.0, 10.0]))
    what = f"{count} random networks, both at rtol {rtol:g}: largest difference from"
    rows = [Acceptance(f"{what} {solver}", max(worst), 1e3 * rtol) for solver, worst in apart.items()]
    return rows, {"difference from scipy by network": apart, "all networks done": done}


def exchange() -> ReactionSystem:
    """A <-> B and A + E <-> C."""
    return reaction_system(
        [
            Reaction("there", "A -> B", 0.7),
            Reaction("back", "B -> A", 0.3),
            Reaction("bind", "A + E -> C", 0.05),
            Reaction("free", "C -> A + E", 1.0),
        ],
        time_unit="h",
        start={"A": 40.0, "E": 15.0},
    )


def enzyme() -> ReactionSystem:
    """An enzyme with rates over seven decades."""
    return reaction_system(
        [
            Reaction("on", "E + S -> ES", 1e3),
            Reaction("off", "ES -> E + S", 1.0),
            Reaction("make", "ES -> E + P", 10.0),
            Reaction("back", "P -> S", 1e-3),
        ],
        time_unit="h",
        start={"E": 3.0, "S": 50.0},
    )


def relay(levels: int = 4) -> ReactionSystem:
    """Kinases that phosphorylate the next, each in two steps that share a phosphatase."""
    steps, start = [], {"k0": 5.0, "F": 20.0}
    for level in range(levels):
        by = "k0" if level == 0 else f"k{level}pp"
        for before, after in ((f"k{level + 1}", f"k{level + 1}p"), (f"k{level + 1}p", f"k{level + 1}pp")):
            steps += [
                Reaction(f"bind {before}", f"{by} + {before} -> {by}:{before}", 0.5),
                Reaction(f"leave {before}", f"{by}:{before} -> {by} + {before}", 0.1),
                Reaction(f"make {after}", f"{by}:{before} -> {by} + {after}", 2.0),
                Reaction(f"bind F {after}", f"F + {after} -> F:{after}", 0.2),
                Reaction(f"lose {after}", f"F:{after} -> F + {before}", 1.0),
            ]
        start[f"k{level + 1}"] = 30.0
    return reaction_system(steps, time_unit="h", start=start)


CLOSED = {"exchange": exchange, "enzyme": enzyme, "relay": relay, "promoters": telegraph}  # by name


def totals(plan: dict[str, Any]) -> Part:
    """Drift of conserved totals, relative to each total."""
    rows, found, times = [], {}, np.linspace(0.0, 50.0, 11)
    for name in plan["closed"]:
        system = CLOSED[name]()
        laws = conservation_laws(system.stoichiometry())
        begin = system.start[None]
        own = np.asarray(begin) @ laws.T
        for stiff in (False, True):
            method = ODE(plan["closed_rtol"], 1e-3 * plan["closed_rtol"], max_steps=10_000_000, stiff=stiff)
            got = solve_many(system, times, plain(system), begin, method)
            drift = np.abs(np.asarray(got.states) @ laws.T - own[:, None]) / own[:, None]
            whole = bool((np.asarray(got.outcome) == Outcome.DONE).all())
            found[f"{name}, {'stiff' if stiff else 'explicit'}"] = float(drift.max()) if whole else float("nan")
        p = jax.tree.map(lambda a: jnp.asarray(a)[None], plain(system))
        key, short = jax.random.key(plan["seeds"][0]), jnp.asarray(times[:3])
        cloud = sample_cells(SSA(), system, short, p, begin, key, plan["closed_cells"]).raise_failures()
        found[f"{name}, exact jumps"] = float(np.abs(np.asarray(cloud.states) @ laws.T - own[0]).max())

    def worst(kind: str) -> float:
        # A solver that did not arrive is no small drift.
        values = [value for name, value in found.items() if name.endswith(kind)]
        return float(np.max(values)) if np.isfinite(values).all() else float("nan")

    number = len(plan["closed"])
    for kind in ("explicit", "stiff"):
        what = f"relative drift of conserved totals in {number} closed systems, {kind} solver"
        rows.append(Acceptance(what, worst(kind), 1e-9))
    what = f"molecules by which exact jumps change a total in {number} closed systems"
    rows.append(Acceptance(what, worst("exact jumps"), 0))
    return rows, {"drift of totals": found}


def repressed(state: jax.Array, active: jax.Array, rates: dict, signal: jax.Array) -> jax.Array:
    """Birth `k / (1 + (n / K)^2)`, death n."""
    return jnp.stack([rates["k"] / (1.0 + (active[0] / rates["K"]) ** 2), state[0]])


def autoregulated(k: float = 100.0, half: float = 20.0) -> ReactionSystem:
    """A gene that represses itself."""
    law = Custom(repressed, {"k": jnp.asarray(k), "K": jnp.asarray(half)})
    return reaction_system([Reaction("birth", "-> n"), Reaction("death", "n ->")], time_unit="h", law=law)


def lna_fano(kinetics: ReactionSystem, size: float = 1.0) -> jax.Array:
    """Variance over mean of molecule numbers at rest, by linear noise."""
    rest = steady_state(kinetics, plain(kinetics), jnp.ones(1) * 20.0).state
    return size * stationary_covariance(kinetics, rest, plain(kinetics), size).covariance[0, 0] / rest[0]


def exact_fano(k: float, half: float) -> float:
    """The same of the stationary law: `p(n + 1) / p(n) = birth(n) / (n + 1)`."""
    n = np.arange(int(3 * half) + 200)
    steps = np.log(k / (1.0 + (n / half) ** 2)) - np.log(n + 1.0)
    log = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    p = np.exp(log - log.max())
    p /= p.sum()
    mean = (n * p).sum()
    return float(((n - mean) ** 2 * p).sum() / mean)


def two_stage() -> ReactionSystem:
    """mRNA and protein with every rate linear: the two first moments of the linear noise are exact."""
    return reaction_system(
        [
            Reaction("transcription", "-> m", 10.0),
            Reaction("translation", "m -> m + p", 5.0),
            Reaction("decay", "m ->", 2.0),
            Reaction("protein_decay", "p ->", 0.5),
        ],
        time_unit="h",
    )


def moments(plan: dict[str, Any]) -> Part:
    """Linear noise: exact where rates are linear, right to first order elsewhere."""
    lna = float(eqx.filter_jit(lna_fano)(autoregulated()))
    sizes = plan["sizes"]
    errors = [abs(lna - exact_fano(100.0 * s, 20.0 * s)) for s in sizes]
    slope = float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])
    system = two_stage()
    times, method = jnp.asarray([0.0, 1.0, 60.0]), LinearNoise(1.0, 1e-9, 1e-11)
    got = eqx.filter_jit(linear_noise)(system, times, plain(system), jnp.zeros(2), method)
    exact = np.array([11.8202107398, 5.0, 50.0, 5.0, 10.0, 150.0])
    mine = [got.mean[1, 1], *got.mean[2], got.covariance[2, 0, 0], got.covariance[2, 0, 1], got.covariance[2, 1, 1]]
    rows = [
        Acceptance("linear noise, repressed gene: error of its Fano factor", abs(lna - 0.41777937), 5e-9),
        Acceptance("exact Fano factor tested against, size 1: error", abs(exact_fano(100.0, 20.0) - 0.41739110), 5e-9),
        Acceptance("exact Fano factor tested against, size 10: error", abs(exact_fano(1e3, 200.0) - 0.41773395), 5e-9),
        Acceptance("error of linear noise against 1 / size: distance of the slope from -1", abs(slope + 1.0), 0.2),
        Acceptance(
            "two-stage moments by linear noise: relative error", float(np.abs(np.array(mine) / exact - 1).max()), 1e-8
        ),
    ]
    return rows, {"linear noise: size and error of the Fano factor": [sizes, errors], "its slope": slope}


def ornstein_uhlenbeck(plan: dict[str, Any]) -> Part:
    """Two states: the stationary covariance, and the law on the way to it."""
    drift, strength = np.array([[-1.0, -2.0], [1.0, -1.5]]), np.array([0.5, 0.25])
    rest = np.array([[0.4428571429, 0.0285714286], [0.0285714286, 0.1857142857]])
    found = np.asarray(jax.jit(lyapunov)(jnp.asarray(drift), jnp.diag(2.0 * jnp.asarray(strength))).solution)
    flow = Flow(jnp.asarray(drift))
    p = jax.tree.map(lambda a: jnp.asarray(a)[None], plain(flow))
    cloud = sample_cells(
        Diffusion(strength, dt=plan["step"]),
        flow,
        jnp.asarray([0.0, 0.7]),
        p,
        flow.default_state()[None],
        jax.random.key(plan["seeds"][0]),
        plan["cells"],
    )
    mean = np.array([0.7916433106, 0.0755671826])
    covariance = np.array([[0.3668099237, 0.013980973], [0.013980973, 0.150580704]])
    # Both coordinates in which the law is standard normal and independent.
    x = np.linalg.solve(np.linalg.cholesky(covariance), (np.asarray(cloud.states)[0, :, 1] - mean).T)
    p_values = [float(scipy.stats.kstest(one, "norm").pvalue) for one in x]
    together = float(scipy.stats.kstest((x**2).sum(axis=0), scipy.stats.chi2(2).cdf).pvalue)
    rows = [
        Acceptance("Ornstein-Uhlenbeck, stationary covariance: error", float(np.abs(found - rest).max()), 1e-9),
        Acceptance(
            f"Ornstein-Uhlenbeck at t = 0.7, {plan['cells']} cells: smallest p of Kolmogorov and Smirnov",
            min(*p_values, together),
            1e-4,
            "higher",
        ),
    ]
    return rows, {"Ornstein-Uhlenbeck, p of both coordinates and of their square": [*p_values, together]}


def batches(plan: dict[str, Any]) -> Part:
    """What a lane must not notice: how the batch is cut, and what runs beside it."""
    own = companion(__file__, "_batches")
    seed = plan["seeds"][0]
    found = own.sameness(plan["kinds"], plan["genes"], plan["lanes"], plan["blocks"], seed)
    rows = [
        Acceptance(f"largest difference by {what}, {plan['lanes']} lanes", max(f[what] for f in found.values()), 1e-10)
        for what in found[plan["kinds"][0]]
    ]
    spoiled = {}
    for stiff in (False, True):
        name = "stiff" if stiff else "explicit"
        spoiled[name] = own.spoiled(plan["good"], plan["bad"], stiff, seed)
        for what, value in spoiled[name].items():
            bar = 1e-10 if "difference" in what else 0
            rows.append(Acceptance(f"{plan['bad']} bad among {plan['good']}, {name} solver: {what}", value, bar))
    return rows, {"difference by what was changed": found, "spoiled batches": spoiled}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All parts, one after the other."""
    rows: Rows = []
    metrics: dict[str, Any] = {}
    for part in (orders, networks, totals, moments, ornstein_uhlenbeck, batches):
        began = time.perf_counter()
        new, found = part(plan)
        rows, metrics = rows + new, metrics | found
        if progress:
            print(f"{part.__name__}: {time.perf_counter() - began:.0f} s", flush=True)
    save(acceptance_dots(rows, "Deterministic solvers and linear noise"), out / "solver_accuracy.png")
    return Findings(metrics, {}, tuple(rows))


if __name__ == "__main__":
    use_cores()
    raise SystemExit(main(__file__))
