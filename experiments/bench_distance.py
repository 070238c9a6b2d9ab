"""Is the Sinkhorn divergence right, quick beside OTT, and without underflow at small epsilon?

W6: two populations of 2000 cells in 50 dimensions, squared Euclidean cost, epsilon 0.05 of the mean cost; the loss and
its gradient by the points of one. Both programs stop at the same error of the marginals (L1), OTT looking every tenth
iteration, as it does by default; at the looser tolerance that leaves it with more iterations than it needs and a better
gradient than ours, so a second ratio is taken where our gradient is the closer one. OTT has two ways to iterate (sums
of exponentials in log space; products with a kernel); ratios are against the quicker one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

from pinnsim.benchmark import interleaved
from pinnsim.distance import Match, Sinkhorn, SquaredEuclidean
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.session import use_cores

SMOKE: dict[str, Any] = {"cells": 60, "genes": 5, "narrow_cells": 40, "rounds": 1}
Result = tuple[Array, Array]  # the loss and its gradient


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Agreement, speed, and the smallest epsilon."""
    rng = np.random.default_rng(plan["seeds"][0])
    shape = (plan["cells"], plan["genes"])
    x, y = jnp.asarray(rng.normal(size=shape)), jnp.asarray(0.2 + 1.1 * rng.normal(size=shape))
    eps = plan["epsilon"] * jnp.mean(SquaredEuclidean()(x, y))
    rows, metrics, notes = narrow(plan, rng)
    try:
        import ott  # noqa: F401
    except ImportError as error:
        missing = float("nan")
        rows += [Acceptance("W6: times faster than OTT at tolerance 0.001, processor seconds", missing, 2.0, "higher")]
        return _found(rows, metrics, [*notes, f"OTT was not measured: {error}"], out)
    loose, fine = plan["tolerances"]
    reference = ours(x, y, eps, plan["tight"])()
    peer = theirs(x, y, eps, plan["tight"], True)()
    apart = _apart(reference, peer)
    rows += [
        Acceptance("W6: difference of values from OTT, relative", apart[0], 1e-5),
        Acceptance("W6: difference of gradients from OTT, of the largest entry", apart[1], 1e-4),
    ]
    runs: dict[str, Callable[[], Result]] = {}
    for tolerance in (loose, fine):
        runs[f"pinnsim, {tolerance:g}"] = ours(x, y, eps, tolerance)
        for name, in_logs in (("OTT, log space", True), ("OTT, kernel", False)):
            runs[f"{name}, {tolerance:g}"] = theirs(x, y, eps, tolerance, in_logs)
    errors = {name: _apart(each(), reference) for name, each in runs.items()}
    spent = interleaved(runs, plan["rounds"])
    metrics["W6 seconds"] = {name: timing._asdict() for name, timing in spent.items()}
    metrics["W6 errors of value and gradient"] = errors

    def ratio(tolerance: float, own: float) -> float:
        peers = [spent[f"{name}, {tolerance:g}"].processor for name in ("OTT, log space", "OTT, kernel")]
        return min(peers) / spent[f"pinnsim, {own:g}"].processor

    for tolerance in (loose, fine):
        what = f"W6: times faster than OTT at tolerance {tolerance:g}, processor seconds"
        rows.append(Acceptance(what, ratio(tolerance, tolerance), 2.0, "higher"))
    closer = errors[f"pinnsim, {fine:g}"][1] <= errors[f"OTT, log space, {loose:g}"][1]
    better = ratio(loose, fine) if closer else float("nan")
    what = f"W6: times faster, our tolerance {fine:g} against its {loose:g}, with the closer gradient"
    rows.append(Acceptance(what, better, 2.0, "higher"))
    return _found(rows, metrics, notes, out)


def ours(x: Array, y: Array, eps: Array, tolerance: float) -> Callable[[], Result]:
    """The loss and its gradient by `x`."""
    distance = Sinkhorn(eps, relative=False, tolerance=tolerance)

    @eqx.filter_jit
    def both(distance: Sinkhorn, x: Array, y: Array) -> Result:
        return jax.value_and_grad(lambda x: distance(x, y).value)(x)

    return lambda: both(distance, x, y)


def theirs(x: Array, y: Array, eps: Array, tolerance: float, in_logs: bool) -> Callable[[], Result]:
    """OTT's."""
    from ott.geometry import pointcloud
    from ott.tools import sinkhorn_divergence

    settings = {"lse_mode": in_logs, "threshold": tolerance, "max_iterations": 20_000}

    def loss(x: Array, y: Array, eps: Array) -> Array:
        found = sinkhorn_divergence.sinkhorn_divergence(pointcloud.PointCloud, x, y, epsilon=eps, solve_kwargs=settings)
        return found[0]

    both = jax.jit(jax.value_and_grad(loss))

    def run() -> Result:
        # Its lines mix ranks and types, which a strict session refuses.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return both(x, y, eps)

    return run


def narrow(plan: dict[str, Any], rng: np.random.Generator) -> tuple[list[Acceptance], dict[str, Any], list[str]]:
    """The smallest epsilon against the exact assignment, in double and in single precision."""
    count, epsilon = plan["narrow_cells"], plan["narrow_epsilon"]
    x, y = rng.normal(size=(count, 5)), 4.0 + 0.5 * rng.normal(size=(count, 5))
    cost = np.asarray(SquaredEuclidean()(jnp.asarray(x), jnp.asarray(y)))
    pairs = scipy.optimize.linear_sum_assignment(cost)
    exact = float(cost[pairs].mean())
    distance = Sinkhorn(epsilon, max_iterations=200_000)
    rows, metrics = [], {"smallest epsilon: rows of a plain kernel that are all 0": _lost(cost, epsilon)}
    for kind, bar in (("float64", 1e-3), ("float32", 1e-2)):

        @eqx.filter_jit
        def both(x: Array, y: Array) -> tuple[Any, Array]:
            value = lambda x: (lambda got: (got.value, got))(distance(x, y))  # noqa: E731
            (_, got), slope = jax.value_and_grad(value, has_aux=True)(x)
            return got, slope

        got, slope = both(jnp.asarray(x, kind), jnp.asarray(y, kind))
        good = int(got.outcome) == Match.DONE and bool(jnp.all(jnp.isfinite(slope)))
        error = abs(float(got.value) / exact - 1) if good else float("nan")
        rows.append(Acceptance(f"epsilon {epsilon:g}, {kind}: error of the exact transport cost", error, bar))
        metrics[f"epsilon {epsilon:g}, {kind}: iterations"] = int(got.iterations)
    return rows, metrics, []


def _lost(cost: np.ndarray, epsilon: float) -> int:
    return int((np.exp(-cost / (epsilon * cost.mean())).max(axis=1) == 0).sum())


def _apart(one: Result, other: Result) -> tuple[float, float]:
    """Relative difference of values, and of gradients beside their largest entry."""
    value = abs(float(one[0]) / float(other[0]) - 1)
    return value, float(jnp.max(jnp.abs(one[1] - other[1])) / jnp.max(jnp.abs(other[1])))


def _found(rows: list[Acceptance], metrics: dict[str, Any], notes: list[str], out: Path) -> Findings:
    save(acceptance_dots(rows, "Sinkhorn divergence: against OTT and exact assignments"), out / "bench_distance.png")
    return Findings(metrics, {}, tuple(rows), tuple(notes))


if __name__ == "__main__":
    use_cores()
    raise SystemExit(main(__file__))
