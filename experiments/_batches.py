"""Batches that are cut, shuffled, spread over devices and spoiled: what every lane must not notice."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.benchmark import kinetics_of, own_of, workload, worst_error
from pinnsim.dynamics.motifs import toggle
from pinnsim.dynamics.reactions import Reaction, ReactionSystem, reaction_system
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key
from pinnsim.simulate import ODE, SSA, Outcome, solve_many
from pinnsim.simulate.batch import run_lanes

TIMES = np.linspace(0.0, 20.0, 6)
Run = Callable[..., np.ndarray]


def batch_of(kind: str, genes: int, lanes: int, seed: int) -> Run:
    """A function of the lanes' order, the block and the number of devices that gives all states, (lane, time,
    species)."""
    if kind == "exact jumps":
        system, p = toggle(50.0, 20.0), Perturbation.none(toggle().table)
        words, times = key_of(jax.random.key(seed)), jnp.asarray(TIMES)

        def one(shared: tuple, cell: jax.Array) -> jax.Array:
            words, times = shared
            return SSA().sample(system, times, p, jnp.asarray([10.0, 10.0]), lane_key(words, cell)).states

        def sampled(order: np.ndarray, block: int | None = None, devices: int | None = 1) -> np.ndarray:
            run = jax.jit(lambda shared, cells: run_lanes(one, shared, cells, block=block, devices=devices))
            return np.asarray(run((words, times), jnp.asarray(order)))

        return sampled
    work = workload(genes, min(genes, 3), lanes, stiff=kind == "stiff solver", seed=seed)
    kinetics, own, begin = kinetics_of(work), own_of(work), jnp.asarray(work.begin)
    p, method = Perturbation.none(kinetics.table), ODE(1e-6, 1e-8, max_steps=100_000, stiff=kind == "stiff solver")

    def solved(order: np.ndarray, block: int | None = None, devices: int | None = 1) -> np.ndarray:
        mine = {name: values[order] for name, values in own.items()}
        found = solve_many(kinetics, TIMES, p, begin[order], method, own=mine, block=block, devices=devices)
        return np.asarray(found.states)

    return solved


def sameness(kinds: list[str], genes: int, lanes: int, blocks: list[int], seed: int) -> dict[str, dict[str, float]]:
    """Largest difference from the whole batch on one device, per kind of solver and what was changed."""
    found: dict[str, dict[str, float]] = {}
    everybody, rng = np.arange(lanes), np.random.default_rng(seed)
    for kind in kinds:
        run = batch_of(kind, genes, lanes, seed)
        whole, order = run(everybody), rng.permutation(lanes)
        cut = [worst_error(run(everybody, block=block), whole) for block in blocks]
        found[kind] = {
            "block size": max(cut),
            "order of lanes": worst_error(run(order), whole[order]),
            "neighbours": worst_error(run(everybody[:1]), whole[:1]),
        }
    # The number of devices is fixed when a process starts.
    code = (
        "import sys, json, jax\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "from pinnsim.experiment import companion\n"
        "batches = companion(sys.argv[1], '_batches')\n"
        "print(json.dumps(batches.by_devices(sys.argv[5:], *map(int, sys.argv[2:5]))))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, __file__, str(genes), str(lanes), str(seed), *kinds],
        check=True,
        capture_output=True,
        text=True,
    )
    for kind, difference in json.loads(told.stdout).items():
        found[kind]["number of devices"] = difference
    return found


def by_devices(kinds: list[str], genes: int, lanes: int, seed: int) -> dict[str, float]:
    """Largest difference between one device and two, per kind of solver."""
    if jax.local_device_count() < 2:
        raise RuntimeError("Two devices are needed to compare one with two.")
    found = {}
    for kind in kinds:
        run = batch_of(kind, genes, lanes, seed)
        found[kind] = worst_error(run(np.arange(lanes), devices=2), run(np.arange(lanes), devices=1))
    return found


def explosive() -> ReactionSystem:
    """`x' = a - d x + g x^2`: at rest, or off to infinity in finite time."""
    return reaction_system(
        [Reaction("supply", "0 -> x", 1.0), Reaction("loss", "x -> 0", 1.5), Reaction("growth", "2 x -> 3 x", 0.05)],
        time_unit="h",
    )


def spoiled(good: int, bad: int, stiff: bool, seed: int) -> dict[str, Any]:
    """Bad lanes among good ones: those that are done all the same, good ones that are not, and how far good ones are
    from a run of their own.

    Bad lanes go to infinity, have rates that are not a number, or, for the explicit solver, a rate of 1e9, which its
    steps cannot follow; for the stiff solver such lanes are good.
    """
    rng = np.random.default_rng(seed)
    rates = np.tile([1.0, 1.5, 0.05], (good + bad, 1))
    rates[:good] *= np.exp(0.1 * rng.standard_normal((good, 3)))
    begin = rng.uniform(0.1, 3.0, good + bad)
    third = good + bad // 3 + np.array([0, bad // 3])
    rates[good : third[0]], begin[good : third[0]] = [1.0, 0.1, 1.0], 2.0
    rates[third[0] : third[1], 0] = np.nan
    rates[third[1] :] = [1.0, 0.1, 30.0] if stiff else [1.0, 1e9, 0.0]
    order = rng.permutation(good + bad)
    system = explosive()
    p, method = Perturbation.none(system.table), ODE(1e-6, 1e-9, stiff=stiff)

    def run(lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = {"law/constant": jnp.asarray(rates[lanes])}
        found = solve_many(system, np.array([0.0, 3.0, 30.0]), p, jnp.asarray(begin[lanes])[:, None], method, own=own)
        return np.asarray(found.states), np.asarray(found.outcome) == Outcome.DONE

    states, done = run(order)
    place = np.argsort(order)
    alone = np.concatenate([run(np.array([lane]))[0] for lane in range(good)])
    return {
        "bad lanes called done": int(done[place[good:]].sum()),
        "good lanes not done": int((~done[place[:good]]).sum()),
        "difference of good lanes from runs of their own": worst_error(states[place[:good]], alone),
    }
