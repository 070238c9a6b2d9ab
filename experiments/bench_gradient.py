"""How fast and how exact are gradients through batches of cells, against diffrax under vmap at equal error?

W2: 20 genes (60 species) with a perceptron 60 -> 64 -> 20 in the synthesis rate, 64 cells, 10 saved times, mean-square
loss; gradient with respect to every cell's rates, the half-saturations and the perceptron, in double precision.
Everybody differentiates the same loss in the same run, in turn; errors of gradients are against one at tolerance 1e-11,
relative to the largest entry of each array. Then honesty: a thousand cells that blow up or are no numbers at all beside
good ones.
"""

import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from pinnsim.benchmark import LEAK, Workload, interleaved, workload
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.perturbation import Acting, Perturbation
from pinnsim.plot import save
from pinnsim.plot.speed import work_precision
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.simulate import ODE, Outcome, Way, solve_together
from pinnsim.table import Table

SMOKE: dict[str, Any] = {"genes": 4, "regulators": 2, "lanes": 4, "width": 3, "saves": 2, "rounds": 1,
                         "tolerances": [1e-4, 1e-5], "bad": 20, "others": False}  # fmt: skip
SHARE = 0.01  # of the perceptron in the synthesis rate
Numbers = dict[str, Array]
Rows = list[Acceptance]


class Corrected(AbstractKinetics):
    """The network of the workloads with a perceptron added to its synthesis rates, for one cell."""

    numbers: Numbers
    rates: Numbers
    source: Array
    activates: Bool[Array, "gene regulator"]
    table: Table = eqx.field(static=True)
    time_unit: str = eqx.field(static=True, default="h")

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return slope(self.source, self.activates, self.numbers, self.rates, state)

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0)

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((len(self.table.species), 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.ones(len(self.table.species), bool)

    def default_state(self) -> State:
        return jnp.ones(len(self.table.species))


class Growth(AbstractKinetics):
    """`x' = x^2 - rate`: bounded for a positive rate, infinite within pi / (2 sqrt(-rate)) for a negative one."""

    rate: Array
    table: Table = eqx.field(static=True, default=Table((), (), (), (), ("x",), ()))
    time_unit: str = eqx.field(static=True, default="h")

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return state**2 - self.rate

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0)

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((1, 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(1, bool)

    def default_state(self) -> State:
        return jnp.zeros(1)


def slope(source: Array, activates: Array, numbers: Numbers, rates: Numbers, y: Array) -> Array:
    """The right-hand side of one cell as anyone would write it."""
    u, s, p = jnp.split(y, 3)
    x = jnp.square(p[source] / numbers["kd"])
    h = x / (1.0 + x)
    active = jnp.mean(jnp.where(activates, h, 1.0 - h), axis=1)
    hidden = jnp.tanh(numbers["w1"] @ y + numbers["b1"])
    made = rates["alpha"] * (LEAK + active) + SHARE * (numbers["w2"] @ hidden + numbers["b2"])
    return jnp.concatenate(
        [made - rates["beta"] * u, rates["beta"] * u - rates["gamma"] * s, rates["kp"] * s - rates["delta"] * p]
    )


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """W2, then failures."""
    rows, metrics, notes = speed(plan, out, progress)
    more, found = honesty(plan)
    return Findings(metrics | found, {}, (*rows, *more), tuple(notes))


def numbers_of(work: Workload, width: int, seed: int) -> Numbers:
    """Half-saturations and a perceptron, which all cells share."""
    rng, species = np.random.default_rng(seed + 1), 3 * work.genes
    return {
        "kd": jnp.asarray(work.kd),
        "w1": jnp.asarray(rng.standard_normal((width, species)) / np.sqrt(species)),
        "b1": jnp.zeros(width),
        "w2": jnp.asarray(rng.standard_normal((work.genes, width)) / np.sqrt(width)),
        "b2": jnp.zeros(work.genes),
    }


def speed(plan: dict[str, Any], out: Path, progress: bool) -> tuple[Rows, dict[str, Any], list[str]]:
    """Time of loss and gradient, at the definition's tolerance and against error."""
    peers, seed = companion(__file__, "_peers"), plan["seeds"][0]
    work = workload(plan["genes"], plan["regulators"], plan["lanes"], seed=seed)
    numbers, rates = numbers_of(work, plan["width"], seed), jax.tree.map(jnp.asarray, work.rates)
    source, activates, begin = jnp.asarray(work.source), jnp.asarray(work.sign > 0), jnp.asarray(work.begin)
    times = jnp.arange(0.0, plan["saves"] + 1.0)
    table = Table((), (), (), (), tuple(f"x{i}" for i in range(3 * work.genes)), ())
    plain = Perturbation.none(table)

    def states(numbers: Numbers, rates: Numbers, rtol: Array) -> Array:
        model = Corrected(numbers, jax.tree.map(lambda a: a[0], rates), source, activates, table)
        own = {f"rates/{name}": values for name, values in rates.items()}
        method = ODE(rtol, 0.01 * rtol, max_steps=plan["max_steps"])
        found = solve_together(model, times, plain, begin, method, own=own, way=Way.EXPLICIT, doses_move=False)
        return found.states[:, 1:]

    def field(numbers: Numbers, rates: Numbers, y: Array) -> Array:
        return slope(source, activates, numbers, rates, y)

    # What is fitted: the same cells with other half-saturations and without a correction.
    target = jax.jit(states)(
        {**numbers, "kd": 1.2 * numbers["kd"], "w2": jnp.zeros_like(numbers["w2"])}, rates, jnp.asarray(1e-8)
    )

    def loss(numbers: Numbers, rates: Numbers, rtol: Array) -> Array:
        return jnp.mean((states(numbers, rates, rtol) - target) ** 2)

    asked = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def ours(rtol: float) -> Any:
        return lambda: asked(numbers, rates, jnp.asarray(rtol))

    def peer(how: str) -> Any:
        return peers.diffrax_gradient(field, numbers, rates, begin, times, target, plan["max_steps"], how)

    theirs = peer("vmap")
    compiling: dict[str, float] = {}

    def started(name: str, made: Any) -> Any:
        began = time.perf_counter()
        jax.block_until_ready(made())
        compiling[name] = time.perf_counter() - began
        return made

    exact = started("pinnsim", ours(1e-11))()[1]
    runs, errors, curves = {}, {}, {"pinnsim": [], "diffrax, vmap": []}
    rtols = {"pinnsim": 1e-5, "diffrax, vmap": 1e-5}
    runs["diffrax, vmap"] = started("diffrax, vmap", theirs(1e-5))
    errors["diffrax, vmap"] = gradient_error(runs["diffrax, vmap"]()[1], exact)
    # The loosest of our tolerances whose gradient is no less exact.
    for rtol in (1e-3, 3e-4, 1e-4, 5e-5, 3e-5, 1e-5, 3e-6, 1e-6):
        made = ours(rtol)
        if gradient_error(made()[1], exact) <= errors["diffrax, vmap"]:
            break
    runs["pinnsim"], rtols["pinnsim"] = made, rtol
    runs["pinnsim, same tolerance"] = ours(1e-5)
    if plan["others"]:
        name = "diffrax, one step for all cells"
        runs[name] = started(name, peer("shared")(1e-5))
    errors |= {name: gradient_error(made()[1], exact) for name, made in runs.items()}
    load = os.getloadavg()[0]
    spent = interleaved(runs, plan["rounds"])
    if plan["others"]:
        name = "diffrax, backwards in time (BacksolveAdjoint)"
        back = started(name, peer("backsolve")(1e-5))
        spent |= interleaved({name: back}, 1)
        errors[name] = gradient_error(back()[1], exact)
    for rtol in plan["tolerances"]:
        both = {"pinnsim": ours(rtol), "diffrax, vmap": theirs(rtol)}
        seconds = interleaved(both, plan["rounds"])
        for name, made in both.items():
            curves[name].append((gradient_error(made()[1], exact), seconds[name].processor))
        if progress:
            print(f"tolerance {rtol:g}: { ({name: line[-1] for name, line in curves.items()}) }", flush=True)
    axes = work_precision(curves, f"Loss and gradient: {work.lanes} cells x {work.genes} genes with a perceptron")
    axes.set(xlabel="error of the gradient, relative to its largest entry", ylabel="processor time (s)")
    save(axes, out / "bench_gradient.png")

    def over(what: str, run: str = "pinnsim") -> float:
        return getattr(spent[run], what) / getattr(spent["diffrax, vmap"], what)

    rows = [
        Acceptance("W2: time over that of diffrax under vmap at no larger error, wall", over("wall"), 0.45),
        Acceptance("W2: the same in processor seconds", over("processor"), 0.45),
        Acceptance("W2: error of the gradient over that of diffrax", errors["pinnsim"] / errors["diffrax, vmap"], 1.0),
    ]
    metrics = {
        "W2 seconds": {name: timing._asdict() for name, timing in spent.items()},
        "W2 errors of the gradient": errors,
        "W2 tolerances": rtols,
        "W2 time over that of diffrax at the same tolerance, wall": over("wall", "pinnsim, same tolerance"),
        "W2 seconds of the first call, compilation included": compiling,
        "W2 error and processor seconds by tolerance": curves,
        "load of the machine": load,
    }
    return rows, metrics, []


def gradient_error(found: Any, exact: Any) -> float:
    """The worst array's `max |g - ref| / max |ref|`; infinite where anything is not finite."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    errors = [float(jnp.max(jnp.abs(g - ref)) / jnp.max(jnp.abs(ref))) for g, ref in pairs]
    return max(errors) if np.isfinite(errors).all() else float("inf")


def honesty(plan: dict[str, Any]) -> tuple[Rows, dict[str, Any]]:
    """Cells that diverge, and cells that are not numbers, among good ones."""
    rng, bad, good = np.random.default_rng(plan["seeds"][0]), plan["bad"], 24
    rates = np.concatenate([-rng.uniform(30.0, 3000.0, bad), rng.uniform(0.5, 1.5, good)])
    rates[: bad // 10] = np.nan
    states = np.zeros((bad + good, 1))
    states[bad // 10 : bad // 5] = np.inf
    order = rng.permutation(bad + good)
    fine = order >= bad
    model, times = Growth(jnp.asarray(1.0)), jnp.asarray([0.0, 0.5, 1.0])
    plain, method = Perturbation.none(model.table), ODE(1e-6, 1e-9, max_steps=300)

    def loss(rates: Array, states: Array) -> tuple[Array, Any]:
        found = solve_together(model, times, plain, states, method, own={"rate": rates}, way=Way.EXPLICIT,
                               doses_move=False)  # fmt: skip
        return jnp.sum(found.states**2), found

    asked = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (by_rate, by_state), found = asked(jnp.asarray(rates[order]), jnp.asarray(states[order]))
    (alone, _), solo = asked(jnp.asarray(rates[order][fine]), jnp.asarray(states[order][fine]))
    flagged = np.asarray(found.outcome) != Outcome.DONE
    what = f"{bad} failing among {good} good cells"
    largest = max(float(np.max(np.abs(np.asarray(g)[~fine]))) for g in (by_rate, by_state))
    apart = float(np.max(np.abs(np.asarray(found.states)[fine] - np.asarray(solo.states))))
    turned = float(np.max(np.abs(np.asarray(by_rate)[fine] - np.asarray(alone))))
    rows = [
        Acceptance(f"{what}: wrongly flagged or not flagged", int(np.sum(flagged != ~fine)), 0),
        Acceptance(f"{what}: largest gradient of a failed cell", largest, 0.0),
        Acceptance(f"{what}: good cells, largest difference from a run without the others", apart, 1e-10),
        Acceptance(f"{what}: gradients of good cells, the same", turned, 1e-10),
    ]
    return rows, {f"{what}: outcomes": {o.name: int(np.sum(np.asarray(found.outcome) == o)) for o in Outcome}}


if __name__ == "__main__":
    raise SystemExit(main(__file__))
