"""How fast are batches on an accelerator, against diffrax on the same device and against our own time on processors?

The workloads of `bench_simulate` and `bench_sampling`: W1 and W1s, deterministic cells, mild and stiff; W3, Langevin
cells; W4, exact jumps of a toggle; W5, the right-hand side of a large network and its gradient, against the device's
own bandwidth. On an accelerator one block holds all lanes. Our time on processors is measured in a process that sees no
accelerator, on all cores. Without an accelerator the run says so, measures nothing and ends without an error.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.benchmark import interleaved, kinetics_of, langevin_model, workload, worst_error
from pinnsim.dynamics.motifs import toggle
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.lanes import lanes_last
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.simulate import SSA, Langevin, sample_cells

SMOKE: dict[str, Any] = {
    "device": "cpu", "genes": 5, "regulators": 2, "lanes": 8, "stiff_lanes": 4, "saves": 3, "langevin_cells": 16,
    "steps": 10, "cells": 8, "until": 1.0, "large": 100, "rounds": 1,
}  # fmt: skip
Run = Callable[[], Any]


class Work(NamedTuple):
    """One workload on the devices of this process: our run, the other's and who that is (a peer, or the floor), and
    where errors can be compared a run that is as good as exact."""

    ours: Run
    other: Run | None
    peer: str
    exact: Run | None = None


def single(leaf: Any) -> Any:
    """In single precision."""
    floating = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float32) if floating else leaf


def deterministic(plan: dict[str, Any], stiff: bool) -> Work:
    """W1 and W1s."""
    simulate, peers = companion(__file__, "bench_simulate"), companion(__file__, "_peers")
    lanes = plan["stiff_lanes"] if stiff else plan["lanes"]
    work = workload(plan["genes"], plan["regulators"], lanes, stiff=stiff, seed=plan["seeds"][0])
    times = np.linspace(0.0, 100.0, plan["saves"])
    solver = dfx.Kvaerno5() if stiff else dfx.Tsit5()
    return Work(
        simulate.solver(work, times, 1e-6, stiff=stiff),
        peers.diffrax_vmap(work, times, 1e-6, 1e-8, solver),
        f"diffrax, {type(solver).__name__} under vmap",
        simulate.solver(work, times, 1e-10, stiff=stiff),
    )


def stepping(plan: dict[str, Any]) -> Work:
    """W3, single precision."""
    peers = companion(__file__, "_sampling_peers")
    kinetics, begin = langevin_model(10, 3, seed=plan["seeds"][0])
    kinetics, until, cells = jax.tree.map(single, kinetics), 0.01 * plan["steps"], plan["langevin_cells"]
    plain = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32)[None], Perturbation.none(kinetics.table))
    times, start = jnp.asarray([0.0, until], jnp.float32), jnp.asarray(begin, jnp.float32)[None]
    method, key = Langevin(100.0, 0.01), jax.random.key(plan["seeds"][0])
    return Work(
        lambda: sample_cells(method, kinetics, times, plain, start, key, cells).states,
        peers.diffrax_langevin(kinetics, start[0], until, 100.0, cells),
        "diffrax, Euler under vmap",
    )


def jumping(plan: dict[str, Any]) -> Work:
    """W4, the toggle; diffrax has no exact jumps."""
    model = toggle(50.0, 20.0, 2, 1.0)
    plain = jax.tree.map(lambda a: jnp.asarray(a)[None], Perturbation.none(model.table))
    times, start, key = jnp.asarray([0.0, plan["until"]]), jnp.full((1, 2), 10.0), jax.random.key(plan["seeds"][0])
    return Work(lambda: sample_cells(SSA(), model, times, plain, start, key, plan["cells"]).states, None, "")


def regulation(plan: dict[str, Any], gradient: bool) -> Work:
    """W5: eight states in single precision, against reading and writing every array once."""
    genes = plan["large"]
    promoter = jax.tree.map(single, kinetics_of(workload(genes, 10, 1, seed=plan["seeds"][0])).promoter)
    shared = (promoter, jnp.ones(10 * genes, jnp.float32), jnp.full(genes, 0.5, jnp.float32))
    states = jnp.asarray(np.random.default_rng(0).uniform(0.1, 3.0, (genes, 8)), jnp.float32)

    def change(shared: tuple, x: jax.Array) -> jax.Array:
        promoter, factor, decay = shared
        return promoter.activity(x, factor) - decay * x

    lanes = lanes_last(change)
    run = jax.jit(jax.grad(lambda s, x: jnp.sum(lanes(s, x) ** 2), argnums=1) if gradient else lanes)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(shared) if leaf.size > 1) + 12 * states.nbytes
    block, stream = jnp.ones(size // 8, jnp.float32), jax.jit(lambda a: a * 1.0001)
    return Work(lambda: run(shared, states), lambda: stream(block), "the floor of bandwidth")


WORKS: dict[str, Callable[[dict[str, Any]], Work]] = {
    "W1": partial(deterministic, stiff=False),
    "W1s": partial(deterministic, stiff=True),
    "W3": stepping,
    "W4 toggle": jumping,
    "W5 forward": partial(regulation, gradient=False),
    "W5 gradient": partial(regulation, gradient=True),
}


def unmeasured() -> Findings:
    """What stands where there is no accelerator: rows that do not hold."""
    nothing = float("nan")
    rows = [Acceptance(f"{name}: times faster than ourselves on processors", nothing, 1.0, "higher") for name in WORKS]
    peers = {
        "W1": "diffrax, Tsit5 under vmap",
        "W1s": "diffrax, Kvaerno5 under vmap",
        "W3": "diffrax, Euler under vmap",
    }
    rows += [
        Acceptance(f"{name}: times faster than {peer}, same device", nothing, 1.0, "higher")
        for name, peer in peers.items()
    ]
    return Findings(
        {}, {}, tuple(rows), ("There was no accelerator, so nothing was measured: every row stands as failing.",)
    )


def own_seconds(plan: dict[str, Any]) -> dict[str, float]:
    """Wall seconds of our runs on the devices of this process."""
    works = {name: make(plan).ours for name, make in WORKS.items()}
    return {name: interleaved({name: run}, plan["rounds"])[name].wall for name, run in works.items()}


def on_processors(plan: dict[str, Any]) -> dict[str, float]:
    """The same in a process that sees processors only, all of their cores."""
    code = (
        "import sys, json\n"
        "from pinnsim import experiment, precision, session\n"
        "precision.enable_x64(); session.use_cores()\n"
        "bench = experiment.companion(sys.argv[1], 'bench_gpu')\n"
        "print(json.dumps(bench.own_seconds(json.loads(sys.argv[2]))))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, __file__, json.dumps(plan)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(told.stdout)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every workload: ours and its peer in turn, then ours on processors."""
    if plan["device"] != "cpu" and not accelerator():
        nothing = unmeasured()
        save(acceptance_dots(nothing.acceptance, "No accelerator here"), out / "bench_gpu.png")
        return nothing
    processors = on_processors(plan)
    rows: list[Acceptance] = []
    metrics: dict[str, Any] = {"device": jax.devices()[0].device_kind, "our seconds on processors": processors}
    for name, make in WORKS.items():
        began = time.perf_counter()
        work = make(plan)
        spent = interleaved(
            {"pinnsim": work.ours, **({work.peer: work.other} if work.other is not None else {})}, plan["rounds"]
        )
        metrics[f"{name} seconds"] = {who: timing.wall for who, timing in spent.items()}
        mine = spent["pinnsim"].wall
        rows.append(
            Acceptance(f"{name}: times faster than ourselves on processors", processors[name] / mine, 1.0, "higher")
        )
        if work.other is not None and name.startswith("W5"):
            rows.append(Acceptance(f"{name}: time over {work.peer}", mine / spent[work.peer].wall, 3.0))
        elif work.other is not None:
            faster = spent[work.peer].wall / mine
            rows.append(Acceptance(f"{name}: times faster than {work.peer}, same device", faster, 1.0, "higher"))
        if work.exact is not None and work.other is not None:
            exact = np.asarray(work.exact())
            errors = {"pinnsim": worst_error(work.ours(), exact), work.peer: worst_error(work.other(), exact)}
            metrics[f"{name} errors"] = errors
            rows.append(Acceptance(f"{name}: error over that of diffrax", errors["pinnsim"] / errors[work.peer], 1.0))
        if progress:
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    save(acceptance_dots(rows, f"On {jax.devices()[0].device_kind}"), out / "bench_gpu.png")
    return Findings(metrics, {}, tuple(rows))


def accelerator() -> bool:
    """Whether computations run on anything but processors here."""
    return jax.default_backend() != "cpu"


if __name__ == "__main__":
    # What was measured elsewhere is not overwritten.
    written = (Path(__file__).parent / "results" / "bench_gpu.json").is_file()
    if written and "--smoke" not in sys.argv and not accelerator():
        print("There is no accelerator here, so nothing was measured; --smoke runs the same on processors.")
        raise SystemExit(0)
    raise SystemExit(main(__file__))
