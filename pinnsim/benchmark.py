"""Speed, measured fairly: the same work for everybody, one after the other in one process, and how far from the floor.

A random signed network of G genes with K regulators each,

    u' = alpha (0.05 + reg(p)) - beta u,   s' = beta u - gamma s,   p' = k s - delta p,
    reg_g = mean_k h(p_r / K_gk),          h(x) = x^2 / (1 + x^2), or 1 less that for a repressor,

in which each lane has one gene knocked down to a tenth and rates of its own, spread by 10 %. Timings are medians of
interleaved rounds (A B A B ...), wall and processor seconds, without compilation.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.activity import no_hidden_activity
from pinnsim.dynamics.gene_kinetics import GeneKinetics, reaction_kinds
from pinnsim.dynamics.regulation import hill_average
from pinnsim.dynamics.residual import NoResidual
from pinnsim.parameter import resolve
from pinnsim.table import Table

LEAK, SPREAD = 0.05, 0.1
RATES = ("alpha", "beta", "gamma", "kp", "delta")
LAYERS = ("unspliced", "spliced", "protein")


class Workload(NamedTuple):
    """The numbers of a random network and of its lanes, plain, so that any program can be given them.

    **Arguments:** `source`: (gene, K), regulators; `sign`: (gene, K), +1 or -1; `kd`: (gene, K); `rates`: name to
    (lane, gene); `begin`: (lane, 3 gene), u then s then p; `into`: (lane, gene), the rate at which s is made per u
    (beta, unless the system is stiff).
    """

    source: np.ndarray
    sign: np.ndarray
    kd: np.ndarray
    rates: dict[str, np.ndarray]
    begin: np.ndarray
    into: np.ndarray

    @property
    def genes(self) -> int:
        """G."""
        return len(self.source)

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.begin)


def workload(genes: int, regulators: int, lanes: int, *, stiff: bool = False, seed: int = 0) -> Workload:
    """The network; `stiff` spreads losses over four decades, with `s' = gamma (u - s)` and the same steady states."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, genes, (genes, regulators))
    sign = np.where(rng.random((genes, regulators)) < 0.7, 1.0, -1.0)
    kd = np.exp(0.5 * rng.standard_normal((genes, regulators)))
    center = {"alpha": (2.0, 0.5), "beta": (1.0, 0.3), "gamma": (0.5, 0.3), "kp": (1.0, 0.3), "delta": (0.5, 0.3)}
    base = {name: scale * np.exp(sd * rng.standard_normal(genes)) for name, (scale, sd) in center.items()}
    if stiff:
        for loss, gain in (("beta", "alpha"), ("gamma", None), ("delta", "kp")):
            factor = 10 ** rng.uniform(-2, 2, genes)
            base[loss] = base[loss] * factor
            if gain is not None:
                base[gain] = base[gain] * factor
    rates = {name: value * np.exp(SPREAD * rng.standard_normal((lanes, genes))) for name, value in base.items()}
    rates["alpha"][np.arange(lanes), rng.integers(0, genes, lanes)] *= 0.1
    begin = 0.1 * np.exp(0.5 * rng.standard_normal((lanes, 3 * genes)))
    return Workload(index, sign, kd, rates, begin, rates["gamma"] if stiff else rates["beta"])


def kinetics_of(work: Workload) -> GeneKinetics:
    """The first lane's model, resolved; `own_of` has the rates of all lanes."""
    return _kinetics(work, LAYERS)


def langevin_model(genes: int, regulators: int, seed: int = 0) -> tuple[GeneKinetics, np.ndarray]:
    """The network without splicing, resolved, and a state to start from, (2 gene,)."""
    work = workload(genes, regulators, 1, seed=seed)
    return _kinetics(work, ("mrna", "protein")), work.begin[0, : 2 * genes]


def _kinetics(work: Workload, layers: tuple[str, ...]) -> GeneKinetics:
    genes, regulators = work.source.shape
    names = tuple(f"g{i}" for i in range(genes))
    target = np.repeat(np.arange(genes), regulators)
    source, sign, kd = (a.ravel() for a in (work.source, work.sign, work.kd))
    table = Table(
        names,
        names,
        (),
        tuple(f"{kind}:{name}" for kind in reaction_kinds(layers) for name in names),
        tuple(f"{name}.{layer}" for layer in layers for name in names),
        tuple(f"{names[s]}->{names[t]}#{k % regulators}" for k, (s, t) in enumerate(zip(source, target, strict=True))),
    )
    own = {name: value[0] for name, value in own_of(work).items()}
    return resolve(
        GeneKinetics(
            table=table,
            layers=layers,
            time_unit="h",
            own_inputs=False,
            synthesis=own["synthesis"],
            splicing=own["splicing"] if "spliced" in layers else None,
            decay=own["decay"],
            translation=own["translation"],
            protein_decay=own["protein_decay"],
            promoter=hill_average(source, target, sign, genes, leak=LEAK / (1 + LEAK), affinity=kd),
            residual=NoResidual(jnp.zeros(()), genes),
            hidden=no_hidden_activity(0),
            gain=jnp.zeros((genes, 0)),
            regulator_state=jnp.asarray((len(layers) - 1) * genes + np.arange(genes)),
            regulator_hidden=jnp.zeros(genes, bool),
        )
    )


def own_of(work: Workload) -> dict[str, jax.Array]:
    """Rates of all lanes by the names of the model's leaves. Where s is made at another rate than u is lost, s is
    counted in units of `into / beta`, which makes both the same."""
    unit = work.into / work.rates["beta"]
    return {
        "synthesis": jnp.asarray((1 + LEAK) * work.rates["alpha"]),
        "splicing": jnp.asarray(work.rates["beta"]),
        "decay": jnp.asarray(work.rates["gamma"]),
        "translation": jnp.asarray(work.rates["kp"] * unit),
        "protein_decay": jnp.asarray(work.rates["delta"]),
    }


def spliced_unit(work: Workload) -> np.ndarray:
    """What one of the model's units is worth, (lane, 3 gene)."""
    one = np.ones_like(work.into)
    return np.concatenate([one, work.into / work.rates["beta"], one], axis=1)


class Timing(NamedTuple):
    """Medians over rounds, in seconds."""

    wall: float
    processor: float


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Times every run once per round, in turn, after one round that is not counted.

    **Arguments:** `runs`: name to a function that returns when its work is done (arrays are waited for).
    """
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), _processor_seconds()
            jax.block_until_ready(run())
            if turn:
                spent[name].append((time.perf_counter() - wall, _processor_seconds() - processor))
    return {name: Timing(*np.median(np.asarray(times), axis=0).tolist()) for name, times in spent.items()}


def _processor_seconds() -> float:
    """Of this process and of the programs that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def worst_error(found: np.ndarray | jax.Array, exact: np.ndarray) -> float:
    """`max |y - ref| / (1e-3 + |ref|)`; infinite where anything is not finite."""
    error = np.abs(np.asarray(found) - exact) / (1e-3 + np.abs(exact))
    return float(error.max()) if np.isfinite(error).all() else float("inf")
