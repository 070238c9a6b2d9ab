"""How fast are batches of deterministic cells, against the best peers at equal error, and how far from the floor?

W1: a thousand cells with 50 genes (150 species) and rates of their own, 51 saved times; W1s: the same with rates over
four decades; W5: regulation of up to 20,000 genes; the same at rest under 64 knock-downs; and a second start of a
program compiled before. Everybody solves the same equations (`pinnsim.benchmark`) in the same run, in turn; errors are
against a solution at tolerance 1e-11. Peers: diffrax under vmap, a hand-written loop compiled by numba, CVODE in
libroadrunner.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.benchmark import Workload, interleaved, kinetics_of, own_of, spliced_unit, workload, worst_error
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.lanes import lanes_last
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.speed import work_precision
from pinnsim.session import use_cores
from pinnsim.simulate import ODE, Outcome, solve_many

SMOKE: dict[str, Any] = {
    "genes": 6, "regulators": 2, "lanes": 16, "stiff_lanes": 4, "rounds": 1, "tolerances": [1e-4, 1e-6], "saves": 5,
    "large": [200], "steady_genes": 300, "steady_lanes": 4, "second_start": False,
}  # fmt: skip
Rows = list[Acceptance]
Metrics = dict[str, Any]


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """All workloads, one after the other."""
    peers, notes = companion(__file__, "_peers"), []
    rows: Rows = []
    metrics: Metrics = {"devices": jax.local_device_count(), "load of the machine at the start": os.getloadavg()[0]}
    for part in (mild, stiff, regulation, steady, second_start):
        began = time.perf_counter()
        new, found, told = part(plan, out, peers)
        rows, metrics, notes = rows + new, metrics | found, notes + told
        if progress:
            print(f"{part.__name__}: {time.perf_counter() - began:.0f} s", flush=True)
    metrics["load of the machine at the end"] = os.getloadavg()[0]
    return Findings(metrics, {}, tuple(rows), tuple(notes))


def solver(work: Workload, times: np.ndarray, rtol: float, **options: Any) -> Callable[[], np.ndarray]:
    """Our run of a workload, in the workload's own units."""
    kinetics, own, unit = kinetics_of(work), own_of(work), spliced_unit(work)
    plain, begin = Perturbation.none(kinetics.table), jnp.asarray(work.begin / unit)
    method = ODE(rtol, 0.01 * rtol, max_steps=200_000, **options)

    def run() -> np.ndarray:
        found = solve_many(kinetics, times, plain, begin, method, own=own)
        return np.asarray(found.states) * unit[:, None]

    return run


def mild(plan: dict[str, Any], out: Path, peers: ModuleType) -> tuple[Rows, Metrics, list[str]]:
    """W1: time at the tolerance of the definition, and time against error."""
    work = workload(plan["genes"], plan["regulators"], plan["lanes"], seed=plan["seeds"][0])
    times = np.linspace(0.0, 100.0, plan["saves"])
    exact = solver(work, times, 1e-11, stiff=False)()
    makers = {
        "pinnsim": lambda rtol: solver(work, times, rtol, stiff=False),
        "diffrax, vmap": lambda rtol: peers.diffrax_vmap(work, times, rtol, 0.01 * rtol),
        "numba loop": lambda rtol: peers.numba_loop(work, times, rtol, 0.01 * rtol),
    }
    runs, notes = installed(makers, 1e-6)
    spent = interleaved(runs, plan["rounds"])
    errors = {name: worst_error(run(), exact) for name, run in runs.items()}
    curves = {}
    for name, make in makers.items():
        if name in runs and name != "numba loop":
            line = []
            for rtol in plan["tolerances"]:
                here = make(rtol)
                line.append(
                    (worst_error(here(), exact), interleaved({name: here}, max(1, plan["rounds"] // 2))[name].wall)
                )
            curves[name] = line
    save(work_precision(curves, f"{work.lanes} cells x {work.genes} genes"), out / "bench_simulate.png")
    ours = spent["pinnsim"]

    def against(peer: str, what: str) -> float:
        return getattr(spent[peer], what) / getattr(ours, what) if peer in spent else float("nan")

    rows = [
        Acceptance("W1: times faster than diffrax under vmap, wall", against("diffrax, vmap", "wall"), 7.0, "higher"),
        Acceptance("W1: time over that of the numba loop, wall", 1 / against("numba loop", "wall"), 2.0),
        Acceptance("W1: error over that of diffrax", errors["pinnsim"] / errors["diffrax, vmap"], 1.0),
    ]
    metrics = {
        "W1 seconds": {name: timing._asdict() for name, timing in spent.items()},
        "W1 errors": errors,
        "W1 error and seconds by tolerance": curves,
        "W1 processor ratio to diffrax": against("diffrax, vmap", "processor"),
    }
    return rows, metrics, notes


def stiff(plan: dict[str, Any], out: Path, peers: ModuleType) -> tuple[Rows, Metrics, list[str]]:
    """W1s: processor seconds per cell at no larger error than CVODE's."""
    work = workload(plan["genes"], plan["regulators"], plan["stiff_lanes"], stiff=True, seed=plan["seeds"][0])
    times = np.linspace(0.0, 100.0, plan["saves"])
    exact = solver(work, times, 1e-10, stiff=True)()
    runs, notes = installed({"CVODE": lambda rtol: peers.roadrunner_loop(work, times, rtol, 0.01 * rtol)}, 1e-6)
    bar = worst_error(runs["CVODE"](), exact) if runs else 1e-4
    # The loosest of our tolerances whose error is no larger.
    for rtol in (1e-3, 5e-4, 3e-4, 2e-4, 1e-4, 5e-5, 3e-5, 2e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8):
        runs["pinnsim"] = solver(work, times, rtol, stiff=True)
        error = worst_error(runs["pinnsim"](), exact)
        if error <= bar:
            break
    spent = interleaved(runs, max(1, plan["rounds"] // 2))
    ratio = spent["CVODE"].processor / spent["pinnsim"].processor if "CVODE" in spent else float("nan")
    rows = [Acceptance("W1s: times faster than CVODE per core at no larger error", ratio, 2.0, "higher")]
    each = {name: 1e3 * timing.processor / work.lanes for name, timing in spent.items()}
    found = {"W1s processor milliseconds per cell": each, "W1s errors": {"CVODE": bar, "pinnsim": error}}
    return rows, found | {"W1s tolerance of pinnsim at that error": rtol}, notes


def regulation(plan: dict[str, Any], out: Path, peers: ModuleType) -> tuple[Rows, Metrics, list[str]]:
    """W5: regulation and decay, eight states in single precision; the floor is reading and writing every array once."""
    rows: Rows = []
    metrics: Metrics = {}
    for genes in plan["large"]:
        model = jax.tree.map(_single, kinetics_of(workload(genes, 10, 1, seed=plan["seeds"][0])).promoter)
        factor, decay = jnp.ones(10 * genes, jnp.float32), jnp.full(genes, 0.5, jnp.float32)
        states = jnp.asarray(np.random.default_rng(0).uniform(0.1, 3.0, (genes, 8)), jnp.float32)

        def change(shared: tuple, x: jax.Array) -> jax.Array:
            promoter, factor, decay = shared
            return promoter.activity(x, factor) - decay * x

        lanes = lanes_last(change)
        forward = jax.jit(lanes)
        backward = jax.jit(jax.grad(lambda shared, x, lanes=lanes: jnp.sum(lanes(shared, x) ** 2), argnums=1))
        shared = (model, factor, decay)
        arrays = [leaf for leaf in jax.tree.leaves(shared) if leaf.size > 1]
        # Once: every parameter read, the regulators' states read edge by edge, and the result written.
        size = sum(leaf.nbytes for leaf in arrays) + 10 * states.nbytes + 2 * states.nbytes
        block = jnp.ones(size // 8, jnp.float32)
        stream = jax.jit(lambda a: a * 1.0001)
        spent = interleaved(
            {
                "forward": lambda f=forward, s=shared, x=states: f(s, x),
                "gradient": lambda f=backward, s=shared, x=states: f(s, x),
                "floor": lambda f=stream, b=block: f(b),
            },
            max(5, plan["rounds"]),
        )
        milliseconds = {name: 1e3 * timing.wall for name, timing in spent.items()}
        metrics[f"W5 milliseconds at {genes} genes"] = milliseconds | {"bytes": size}
        if genes == plan["large"][-1]:
            for what in ("forward", "gradient"):
                ratio = milliseconds[what] / milliseconds["floor"]
                rows.append(Acceptance(f"W5: {what} over the floor of bandwidth, largest network", ratio, 3.0))
    return rows, metrics, []


def _single(leaf: Any) -> Any:
    is_float = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float32) if is_float else leaf


def steady(plan: dict[str, Any], out: Path, peers: ModuleType) -> tuple[Rows, Metrics, list[str]]:
    """A large network to its rest under many knock-downs: time, memory, and whether it rests."""
    work = workload(plan["steady_genes"], 10, plan["steady_lanes"], seed=plan["seeds"][0])
    kinetics, own = kinetics_of(work), own_of(work)
    plain, times = Perturbation.none(kinetics.table), np.array([0.0, 250.0, 260.0])
    began = time.perf_counter()
    # At rest explicit steps grow to the edge of stability, where the state moves by about the error that is allowed.
    method = ODE(1e-6, 1e-8, stiff=False)
    found = solve_many(kinetics, times, plain, jnp.asarray(work.begin), method, own=own)
    states = np.asarray(found.states)
    seconds = time.perf_counter() - began
    moved = float((np.abs(states[:, 2] - states[:, 1]) / (1e-3 + np.abs(states[:, 1]))).max())
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    what = f"{work.genes} genes x {work.lanes} knock-downs to rest"
    rows = [
        Acceptance(f"{what}: peak memory of the whole run, GB", gigabytes, 24.0),
        Acceptance(f"{what}: largest relative change in 10 h more", moved, 1e-3),
    ]
    done = bool((np.asarray(found.outcome) == Outcome.DONE).all())
    return rows, {f"{what}: seconds, compilation included": seconds, "all lanes done": done}, []


_START = """
import time
import pinnsim.session
pinnsim.session.start()
import numpy as np, jax.numpy as jnp
from pinnsim.benchmark import kinetics_of, own_of, workload
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, solve_many
work = workload(50, 5, 64)
kinetics = kinetics_of(work)
began = time.perf_counter()
solve_many(kinetics, np.linspace(0, 100, 51), Perturbation.none(kinetics.table), jnp.asarray(work.begin),
           ODE(stiff=False), own=own_of(work)).states.block_until_ready()
print(time.perf_counter() - began)
"""


def second_start(plan: dict[str, Any], out: Path, peers: ModuleType) -> tuple[Rows, Metrics, list[str]]:
    """The first call of a compiled batch in a new process: without and with what an earlier process compiled."""
    if not plan["second_start"]:
        return [], {}, []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PINNSIM_CACHE": cache}
        seconds = []
        for _ in range(2):
            told = subprocess.run(
                [sys.executable, "-c", _START], env=environment, check=True, capture_output=True, text=True
            )
            seconds.append(float(told.stdout))
    rows = [Acceptance("second start of a compiled batch, times quicker", seconds[0] / seconds[1], 5.0, "higher")]
    return rows, {"seconds of the first and second start": seconds}, []


def installed(makers: dict[str, Callable[[float], Any]], rtol: float) -> tuple[dict[str, Any], list[str]]:
    """The runs of those who are there, and who is not."""
    runs, notes = {}, []
    for name, make in makers.items():
        try:
            runs[name] = make(rtol)
        except ImportError as error:
            notes.append(f"{name} was not measured: {error}")
    return runs, notes


if __name__ == "__main__":
    use_cores()
    raise SystemExit(main(__file__))
