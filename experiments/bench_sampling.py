"""How fast are sampled cells, exact and by Langevin steps, against the best peers?

W3: the chemical Langevin equation of 10 genes (RNA and protein), 10,000 cells, 1000 steps, single precision; W4: exact
jumps of a toggle switch and of ten telegraph genes, 1000 cells each. Everybody samples the same laws; what is compared
is processor seconds, and means agree within their errors. Peers: diffrax (Euler) under vmap, torchsde (Euler),
gillespy2's C++ solver.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.benchmark import interleaved, langevin_model, workload
from pinnsim.dynamics.motifs import telegraph, toggle
from pinnsim.dynamics.reactions import ReactionSystem
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.session import use_cores
from pinnsim.simulate import SSA, Langevin, sample_cells

SMOKE: dict[str, Any] = {"langevin_cells": 32, "steps": 20, "cells": 16, "toggle_until": 2.0, "telegraph_until": 2.0,
                         "rounds": 1}  # fmt: skip
TELEGRAPH = {"on": 0.05, "off": 0.1, "transcription": 10.0, "decay": 1.0, "translation": 5.0, "protein_decay": 0.1}
Rows = list[Acceptance]


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Both workloads."""
    peers = companion(__file__, "_sampling_peers")
    rows, metrics, notes = langevin(plan, peers)
    for part in (exact_toggle, exact_telegraph):
        new, found, told = part(plan, peers)
        rows, metrics, notes = rows + new, metrics | found, notes + told
    save(acceptance_dots(rows, "Sampling: processor seconds against peers"), out / "bench_sampling.png")
    return Findings(metrics, {}, tuple(rows), tuple(notes))


def langevin(plan: dict[str, Any], peers: ModuleType) -> tuple[Rows, dict[str, Any], list[str]]:
    """W3."""
    kinetics, begin = langevin_model(10, 3, seed=plan["seeds"][0])
    until, cells = 0.01 * plan["steps"], plan["langevin_cells"]
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a, kinetics)
    plain = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32)[None], Perturbation.none(kinetics.table))
    times, start = jnp.asarray([0.0, until], jnp.float32), jnp.asarray(begin, jnp.float32)[None]
    method, key = Langevin(100.0, 0.01), jax.random.key(plan["seeds"][0])

    def ours() -> jax.Array:
        return sample_cells(method, single, times, plain, start, key, cells).states

    runs: dict[str, Callable[[], Any]] = {"pinnsim": ours}
    runs["diffrax, vmap"] = peers.diffrax_langevin(single, start[0], until, 100.0, cells)
    spent, notes = interleaved(runs, plan["rounds"]), []
    try:
        work = workload(10, 3, 1, seed=plan["seeds"][0])
        runs["torchsde"] = peers.torch_langevin(work, np.asarray(start[0]), until, 100.0, cells)
        # Once beside our own: it takes minutes.
        spent |= interleaved({"pinnsim beside torchsde": ours, "torchsde": runs["torchsde"]}, 1)
    except ImportError as error:
        notes.append(f"torchsde was not measured, so its row stands as failing: {error}")
    one, *others = (np.asarray(run()).reshape(cells, -1, start.shape[1])[:, -1] for run in runs.values())
    apart = max(
        float((np.abs(one.mean(0) - other.mean(0)) / np.sqrt((one.var(0) + other.var(0)) / cells)).max())
        for other in others
    )

    def ratio(peer: str, us: str = "pinnsim") -> float:
        return spent[peer].processor / spent[us].processor if peer in spent else float("nan")

    rows = [
        Acceptance("W3: times faster than diffrax, processor seconds", ratio("diffrax, vmap"), 4.0, "higher"),
        Acceptance(
            "W3: times faster than torchsde, processor seconds",
            ratio("torchsde", "pinnsim beside torchsde"),
            10.0,
            "higher",
        ),
        Acceptance("W3: largest difference of means, in standard errors", apart, 5.0),
    ]
    return rows, {"W3 seconds": {name: timing._asdict() for name, timing in spent.items()}}, notes


def jumps(
    name: str,
    model: ReactionSystem,
    start: np.ndarray,
    until: float,
    plan: dict[str, Any],
    peer: Callable[..., Any],
    bar: float,
) -> tuple[Rows, dict[str, Any], list[str]]:
    """W4: one system, whole numbers."""
    resolved, cells = resolve(model), plan["cells"]
    plain = jax.tree.map(lambda a: jnp.asarray(a)[None], Perturbation.none(model.table))
    times, key = jnp.asarray([0.0, until]), jax.random.key(plan["seeds"][0])

    def ours() -> jax.Array:
        return sample_cells(SSA(), resolved, times, plain, jnp.asarray(start)[None], key, cells).states

    runs: dict[str, Callable[[], Any]] = {"pinnsim": ours}
    notes = []
    try:
        runs["gillespy2"] = peer(until, cells)
    except ImportError as error:
        notes.append(f"gillespy2 was not measured: {error}")
    spent = interleaved(runs, plan["rounds"])
    ratio = spent["gillespy2"].processor / spent["pinnsim"].processor if "gillespy2" in spent else float("nan")
    found: dict[str, Any] = {f"W4 {name} seconds": {who: timing._asdict() for who, timing in spent.items()}}
    rows = [Acceptance(f"W4 {name}: times faster than gillespy2, processor seconds", ratio, bar, "higher")]
    if "gillespy2" in runs:
        one, other = np.asarray(ours())[0, :, -1], np.asarray(runs["gillespy2"]())
        spread = np.sqrt((one.var(0) + other.var(0)) / cells) + 1e-9
        apart = float((np.abs(one.mean(0) - other.mean(0)) / spread).max())
        rows.append(Acceptance(f"W4 {name}: largest difference of means, in standard errors", apart, 5.0))
    return rows, found, notes


def exact_toggle(plan: dict[str, Any], peers: ModuleType) -> tuple[Rows, dict[str, Any], list[str]]:
    """Two genes that repress each other: birth 50 / (1 + (p / 20)^2), death p."""
    model = toggle(50.0, 20.0, 2, 1.0)
    return jumps("toggle", model, np.array([10.0, 10.0]), plan["toggle_until"], plan, peers.gillespy_toggle, 5.0)


def exact_telegraph(plan: dict[str, Any], peers: ModuleType) -> tuple[Rows, dict[str, Any], list[str]]:
    """Ten genes that switch on and off."""
    model = telegraph(10, **TELEGRAPH)
    start = np.concatenate([np.ones(10), np.zeros(30)])
    return jumps("telegraph", model, start, plan["telegraph_until"], plan, peers.gillespy_telegraph, 1.0)


if __name__ == "__main__":
    use_cores()
    raise SystemExit(main(__file__))
