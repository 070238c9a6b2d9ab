"""Can an operator learn a toggle, a repressilator and a 10-gene network from their equations alone, without a solver?

The loss is the operator's own residual; solver runs are made afterwards, to measure. Errors are relative, of the worst
amount of a trajectory, over fresh rates, first states and times. The repressilator is followed over its own period,
measured from the solver. Operators march: a window is a part of the horizon.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from pinnsim.benchmark import kinetics_of, own_of, workload
from pinnsim.dynamics.activity import no_hidden_activity
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.regulation import hill_average
from pinnsim.dynamics.residual import NoResidual
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.operator import (
    OperatorConfig,
    OperatorPlan,
    build_operator,
    declare,
    gene_kinds,
    measured_errors,
    predict_many,
    train,
)
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.plot import save
from pinnsim.simulate import ODE, solve_many
from pinnsim.table import Table

SMOKE: dict[str, Any] = {
    "fresh": 4, "toggle": {"windows": 1, "levels": [0, 0]}, "repressilator": {"genes": 0}, "network": {"genes": 0},
    "training": {"steps": 10, "batch": 2},
}  # fmt: skip
SYSTEMS = ("toggle", "repressilator", "network")


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Trains one operator per system, then measures."""
    seed, rows, metrics, baselines, notes = plan["seeds"][0], [], {}, {}, []
    chosen_systems = [name for name in SYSTEMS if plan[name]["genes"]]
    count = len(chosen_systems)
    figure, axes = plt.subplots(1, count, figsize=(4 * count, 3.8), layout="constrained", squeeze=False)
    for name, axis in zip(chosen_systems, axes[0], strict=True):
        chosen = plan[name]
        kinetics = system(name, chosen, seed)
        horizon, exact = chosen["horizon"], ODE(plan["solver_rtol"], 1e-3 * plan["solver_rtol"])
        middle = np.asarray(kinetics.default_state())
        if name == "repressilator":
            horizon, middle = period(kinetics, exact)
            notes.append(f"The repressilator's period is {horizon:.3f} h.")
        domain = declare(
            kinetics, horizon, factor=plan["factor"], rates=rates_of(kinetics), states=(0.5 * middle, 2.0 * middle),
            kinds=gene_kinds(kinetics),
        )  # fmt: skip
        config = OperatorConfig(
            horizon=horizon, levels=chosen["levels"], windows=chosen["windows"], sweeps=1, corrected=True, width=32,
            modes=3, fastest=8.0, seed=seed,
        )  # fmt: skip
        plain = build_operator(config, kinetics)
        trained = train(plain, domain, OperatorPlan(seed=seed, data=0.0, **plan["training"]), progress=progress)
        draws, times = domain.sample(jax.random.key(seed + 1), plan["fresh"]), np.linspace(0.0, horizon, 17)
        before, _ = measured_errors(plain, domain, draws, times, exact)
        after, _ = measured_errors(trained.operator, domain, draws, times, exact)
        what = {"toggle": "toggle", "repressilator": "repressilator, one period", "network": "10-gene network"}[name]
        rows.append(Acceptance(f"{what}: worst amount of a trajectory, median error", float(np.nanmedian(after)), 0.05))
        baselines[f"{what}: untrained, median"] = float(np.nanmedian(before))
        metrics[f"{what}: 90th and 99th percentile"] = np.nanquantile(after, [0.9, 0.99]).tolist()
        metrics[f"{what}: residual loss, first and last"] = [float(trained.history[0]), float(trained.history[-1])]
        drawn(axis, what, kinetics, trained.operator, draws, times, exact)
    save(figure, out / "operator_physics.png")
    return Findings(metrics, baselines, tuple(rows), tuple(notes))


def system(name: str, chosen: dict[str, Any], seed: int) -> GeneKinetics:
    """A ring of repressors with mRNA alone, `x' = c (0.02 + 0.98 / (1 + x^n)) - x`, or a random network."""
    if name == "network":
        return jax.tree.map(jnp.asarray, kinetics_of(workload(chosen["genes"], chosen["regulators"], 2, seed=seed)))
    count = chosen["genes"]
    names = tuple(f"g{i}" for i in range(count))
    source, target = np.arange(count), (np.arange(count) + 1) % count
    table = Table(
        names,
        names,
        (),
        tuple(f"{kind}:{gene}" for kind in ("transcription", "decay") for gene in names),
        tuple(f"{gene}.mrna" for gene in names),
        tuple(f"{names[s]}->{names[t]}" for s, t in zip(source, target, strict=True)),
    )
    return resolve(
        GeneKinetics(
            table=table,
            layers=("mrna",),
            time_unit="h",
            own_inputs=False,
            synthesis=jnp.full(count, chosen["synthesis"]),
            splicing=None,
            decay=jnp.ones(count),
            translation=None,
            protein_decay=None,
            promoter=hill_average(source, target, -np.ones(count), count, leak=0.02, hill=chosen["hill"]),
            residual=NoResidual(jnp.zeros(()), count),
            hidden=no_hidden_activity(0),
            gain=jnp.zeros((count, 0)),
            regulator_state=jnp.arange(count),
            regulator_hidden=jnp.zeros(count, bool),
        )
    )


def rates_of(kinetics: GeneKinetics) -> list[str]:
    """Names of the rates that the system has."""
    every = own_of(workload(2, 1, 2))
    return [name for name in every if getattr(kinetics, name) is not None]


def period(kinetics: GeneKinetics, method: ODE) -> tuple[float, np.ndarray]:
    """The period on the cycle, from crossings of the first species' mean, and mean amounts."""
    times = np.linspace(0.0, 200.0, 8001)
    begin = jnp.arange(1.0, 1.0 + len(kinetics.table.species))[None]
    found = np.asarray(solve_many(kinetics, times, Perturbation.none(kinetics.table), begin, method).states[0])
    late = found[len(times) // 2 :]
    x = late[:, 0] - late[:, 0].mean()
    crossings = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    return float(np.diff(crossings).mean() * (times[1] - times[0])), late.mean(axis=0)


def drawn(axis: Any, what: str, kinetics: Any, operator: Any, draws: Any, times: np.ndarray, method: ODE) -> None:
    """The first species of three lanes: solver as lines, operator as dots."""
    few = jax.tree.map(lambda a: a[:3], draws)
    exact = solve_many(kinetics, times, few.perturbation, few.states, method, own=few.own).states
    found, _ = predict_many(operator, kinetics, times, few)
    for k in range(min(3, len(found))):
        (line,) = axis.plot(times, exact[k, :, 0], label="solver" if k == 0 else None)
        axis.plot(
            times, found[k, :, 0], "o", markersize=3, color=line.get_color(), label="operator" if k == 0 else None
        )
    axis.set(xlabel="time (h)", ylabel=f"amount of {kinetics.table.species[0]}", title=f"{what} (simulated)")
    axis.legend(frameon=False)


if __name__ == "__main__":
    raise SystemExit(main(__file__))
