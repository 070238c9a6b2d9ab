"""Less effort by gradients: strengths and durations that slide along the edge of the basin.

The pushes that just reach the target form a surface in the space of strengths and duration. On it the effort falls
steepest along its own gradient less the part across the surface,

    d = -(grad log E - (grad log E . n) n),      all with respect to log s_k and log T,

with n normal to the surface. The normal is the gradient of how late the cell arrives,

    A = mean over time of  d_B / (d_A + d_B),       d: squared distances to target and start in log abundance,

because near the edge the time of arrival is `-log(distance from the edge) / rate` and nothing else in a course depends
on where it was pushed. A is differentiated through the batch solver, backwards over its steps. A step in strengths is
followed by the bisection of the duration, several lengths of step at once; only what then costs less is taken, so the
result is never worse than its start and always reaches with its margin.

Source: of the projection, J. B. Rosen, J. Soc. Ind. Appl. Math. 9:514 (1961).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from pinnsim.landscape.coordinates import chunk_size, coordinates, floors, in_chunks
from pinnsim.perturbation import Perturbation
from pinnsim.reprogramming.effort import effort
from pinnsim.reprogramming.lanes import Bench, Tries
from pinnsim.reprogramming.search import Grid, Judge, bisected
from pinnsim.simulate import Way, solve_together

_LENGTHS = (1.0, 0.25, 0.0625)  # of the trust radius
_TRUST, _SMALLEST = 0.5, 1e-3  # in logarithms of strengths
_BEYOND = 2e-3  # how far over the edge the normal is taken: on it the cell never arrives
_MOMENTS = 96
_FEWEST = 8
_WEAKEST = 1e-3  # of the largest strength


def refined(
    bench: Bench, grid: Grid, tries: Tries, *, steps: int, tolerance: float, judge: Judge, progress: bool
) -> Tries:
    """Each try made cheaper, step by step.

    **Arguments:** `judge`: as for `fronts`; `steps`: at most; `tolerance`: relative, of durations.
    """
    best, efforts = tries, effort(bench.edits, tries, grid.power)
    trust = np.where(np.asarray(bench.edits.turned)[tries.which].any(axis=1), _TRUST, 0.0)
    with tqdm(total=steps, desc="less effort", unit="step", disable=None if progress else True) as bar:
        for _ in range(steps):
            if not (trust > _SMALLEST).any():
                break
            down = _direction(bench, grid, best)
            for_all = [_moved(bench, grid, best, length * trust[:, None] * down) for length in _LENGTHS]
            trial = Tries(*(np.concatenate(a) for a in zip(*((t.which, t.strengths, t.durations) for t in for_all),
                                                          strict=True)))  # fmt: skip
            trial, fine = _shortest(bench, grid, trial, tolerance, judge)
            costs = np.where(fine, effort(bench.edits, trial, grid.power), np.inf).reshape(len(_LENGTHS), -1)
            winner = np.argmin(costs, axis=0)
            better = costs.min(axis=0) < efforts * (1.0 - tolerance)
            chosen = trial.take(winner * len(best) + np.arange(len(best)))
            best = Tries(
                best.which,
                np.where(better[:, None], chosen.strengths, best.strengths),
                np.where(better, chosen.durations, best.durations),
            )
            efforts = np.where(better, costs.min(axis=0), efforts)
            trust = np.where(better, trust * np.where(winner == 0, 1.5, 1.0), trust * _LENGTHS[-1])
            bar.update()
    return best


def _direction(bench: Bench, grid: Grid, tries: Tries) -> np.ndarray:
    """Steepest descent along the edge, (lane, slot), of unit length in the logarithms of strengths and duration."""
    turned = np.asarray(bench.edits.turned)[tries.which]
    probe = Tries(tries.which, np.where(turned, (1 + _BEYOND) * tries.strengths, tries.strengths), tries.durations)
    # Filled up, so that nearby numbers of plans share a program.
    filled = in_chunks([probe.which, probe.strengths, probe.durations], chunk_size(max(len(tries), _FEWEST), 1 << 16))
    across = np.asarray(_late(bench, *(a[0] for a in filled)))[: len(tries)]
    size = np.linalg.norm(across, axis=1, keepdims=True)
    normal = np.where(size > 0, across / np.where(size > 0, size, 1.0), 0.0)
    counted = np.where(turned, tries.strengths, 0.0) ** grid.power * turned
    total = effort(bench.edits, tries, grid.power) / tries.durations
    rise = np.concatenate([grid.power * counted / total[:, None], np.ones((len(tries), 1))], axis=1)
    # At the largest strength there is no way up: what points there is left out before projecting.
    top = np.concatenate([tries.strengths >= grid.strengths[-1] * (1 - 1e-9), np.zeros((len(tries), 1), bool)], axis=1)
    down = _projected(-rise, normal)
    blocked = top & (down > 0)
    free = np.where(blocked, 0.0, normal)
    size = np.linalg.norm(free, axis=1, keepdims=True)
    again = _projected(np.where(blocked, 0.0, -rise), np.where(size > 0, free / np.where(size > 0, size, 1.0), 0.0))
    down = np.where(blocked.any(axis=1, keepdims=True), np.where(blocked, 0.0, again), down)
    length = np.linalg.norm(down, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-9)
    return np.where(usable, down / np.where(usable, length, 1.0), 0.0)[:, :-1]


def _projected(vector: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return vector - np.sum(vector * normal, axis=1, keepdims=True) * normal


def _moved(bench: Bench, grid: Grid, tries: Tries, step: np.ndarray) -> Tries:
    """Strengths after a step in their logarithms, within the range that is searched."""
    turned, most = np.asarray(bench.edits.turned)[tries.which], grid.strengths[-1]
    moved = np.clip(tries.strengths * np.exp(np.where(turned, step, 0.0)), _WEAKEST * most, most)
    return Tries(tries.which, np.where(turned, moved, tries.strengths), tries.durations)


def _shortest(bench: Bench, grid: Grid, tries: Tries, tolerance: float, judge: Judge) -> tuple[Tries, np.ndarray]:
    """The least duration that reaches, and whether there is one, (lane,)."""
    short = np.full(len(tries), grid.durations[0])
    long = np.minimum(4.0 * tries.durations, grid.durations[-1])

    def lasting(durations: np.ndarray) -> Tries:
        return Tries(tries.which, tries.strengths, durations)

    fine, already = judge(lasting(long)), judge(lasting(short))
    found = bisected(np.where(already, short, np.minimum(short, long)), np.where(already, short, long), tolerance,
                     lambda durations: judge(lasting(durations)))  # fmt: skip
    return lasting(found), fine | already


@eqx.filter_jit
def _late(
    bench: Bench, which: Array, strengths: Float[Array, "lane slot"], durations: Float[Array, " lane"]
) -> Float[Array, "lane variable"]:
    """d A / d (log strengths, log duration), of the probes."""
    material, floor = bench.kinetics.material(), floors(bench.kinetics)
    known = coordinates(bench.points[bench.goal], floor, material), coordinates(bench.state, floor, material)
    times = jnp.linspace(0.0, 1.0, _MOMENTS) * bench.times[-1]
    states = jnp.broadcast_to(bench.state, (which.shape[0], bench.state.shape[0]))
    none = jnp.ones(len(bench.kinetics.table.reactions))

    def late(logs: Float[Array, "lane variable"]) -> Array:
        def acting(which: Array, logs: Array) -> Perturbation:
            weaker, shorter = bench.probed(which, jnp.exp(logs[:-1]), jnp.exp(logs[-1]))
            return bench.phases(which, weaker, shorter, none)

        way = Way.IMPLICIT if bench.method.stiff else Way.EXPLICIT
        courses = solve_together(
            bench.kinetics, times, jax.vmap(acting)(which, logs), states, bench.method, way=way, doses_move=False
        ).states
        here = coordinates(courses, floor, material)
        to_goal, to_start = (jnp.mean((here - z[None, None]) ** 2, axis=-1) for z in known)
        return jnp.sum(jnp.mean(to_goal / (to_goal + to_start), axis=1))

    turned = bench.edits.turned[which]
    logs = jnp.concatenate([jnp.log(jnp.where(turned, strengths, 1.0)), jnp.log(durations)[:, None]], axis=1)
    slopes = jax.grad(late)(logs)
    slopes = slopes.at[:, :-1].multiply(jnp.where(turned, 1.0, 0.0))
    return jnp.where(jnp.all(jnp.isfinite(slopes), axis=1, keepdims=True), slopes, 0.0)
