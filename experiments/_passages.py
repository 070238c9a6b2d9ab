"""Mean first passage times of Schlogl's system, far beyond what direct sampling reaches, by exact milestoning.

Numbers of one species change by one, so between milestones m_0 < m_1 < ... it moves from each to a neighbour first:
with the probability p_i that it leaves m_i upwards, and the mean time t_i until it leaves, both sampled from starts at
m_i, the mean time T_i to a target milestone solves

    T_i = t_i + p_i T_{i+1} + (1 - p_i) T_{i-1},        T_target = 0,

which is exact because the process forgets how it came to a milestone. One cell samples many leavings: at the edge of
its box it is counted and put back into the middle. Its time is counted by a clock, a Poisson process that runs while
leavings are wanting, so that every count is exact in expectation.

Source: A. K. Faradjian and R. Elber, J. Chem. Phys. 120:10880 (2004); J. M. Bello-Rivas and R. Elber, J. Chem. Phys.
142:094102 (2015), exact milestoning.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.reactions import Custom, ReactionSystem
from pinnsim.dynamics.structure import Structure
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.ssa import SSA
from pinnsim.table import Table

LOW, HIGH, APART = 82, 563, 13  # both modes, and the distance of milestones, which divides theirs
FIRST, LAST = LOW - 6 * APART, HIGH + 32 * APART  # the box of the first reaches below 0; above the last is nobody
_TICKS = 4.0  # of the clock per leaving
_ELSEWHERE = 5  # times fewer leavings of milestones that are not between the modes
_RESAMPLED = 400


class Box(NamedTuple):
    """Numbers from `corner + 1` to `corner + 2 APART - 1`; the clock's rate; leavings wanted."""

    corner: jax.Array
    pace: jax.Array
    wanted: jax.Array


def rates(n: Any) -> tuple[Any, Any]:
    """Births and deaths per time of `schlogl()` at number n."""
    return 3e-2 * n * (n - 1) / 2 + 200.0, 1e-4 * n * (n - 1) * (n - 2) / 6 + 3.5 * n


def mean_passage(begin: int, end: int, most: int = 1200) -> float:
    """The exact mean time from `begin` to `end`, of a system that holds `most` at most."""
    birth, death = rates(np.arange(most + 1, dtype=float))
    step = np.zeros(most + 1)
    if end > begin:  # step[i]: from i to i + 1
        for i in range(end):
            step[i] = (1.0 + (death[i] * step[i - 1] if i else 0.0)) / birth[i]
        return float(step[begin:end].sum())
    birth[most] = 0.0
    for i in range(most, end, -1):  # step[i]: from i to i - 1
        step[i] = (1.0 + (birth[i] * step[i + 1] if i < most else 0.0)) / death[i]
    return float(step[end + 1 : begin + 1].sum())


def _boxed(state: jax.Array, active: jax.Array, box: Box, signal: jax.Array) -> jax.Array:
    x, up, down, _ = state
    birth, death = rates(x + box.corner)
    top, bottom = x > 2 * APART - 1.5, x < 1.5
    zero = jnp.zeros_like(x)
    each = [
        jnp.where(top, zero, birth),
        jnp.where(bottom, zero, death),
        jnp.where(top, birth, zero),
        jnp.where(bottom, death, zero),
        box.pace,
    ]
    return jnp.where(up + down < box.wanted, jnp.stack(each), 0.0)


def boxed_schlogl(box: Box) -> ReactionSystem:
    """Schlogl's system in a box: position, leavings upwards and downwards, and the clock."""
    back = APART - 1
    changes = ((0, 0, 1), (0, 1, -1), (0, 2, -back), (0, 3, back), (1, 2, 1), (2, 3, 1), (3, 4, 1))
    table = Table((), (), (), ("birth", "death", "leave_up", "leave_down", "tick"), ("x", "up", "down", "ticks"), ())
    begin = jnp.zeros(4).at[0].set(APART)
    return ReactionSystem(table, "s", Structure(4, 5, ((),) * 5, changes), Custom(_boxed, box), begin)


def milestones() -> np.ndarray:
    """All of them, (milestone,)."""
    return np.arange(FIRST, LAST + 1, APART)


def boxes(leavings: int) -> Box:
    """A box around each milestone."""
    at = milestones()
    wanted = np.where((at >= LOW) & (at <= HIGH), leavings, max(leavings // _ELSEWHERE, 1))
    pace = _TICKS * sum(rates(at.astype(float))) / APART**2
    return Box(jnp.asarray(at - APART, dtype=float), jnp.asarray(pace), jnp.asarray(wanted, dtype=float))


def leavings(cells: int, count: int, seed: int) -> np.ndarray:
    """Leavings upwards, downwards and time spent, (milestone, cell, 3), of cells that leave `count` times."""
    around, key = boxes(count), key_of(jax.random.key(seed))
    system = boxed_schlogl(jax.tree.map(lambda a: a[0], around))
    p, times = Perturbation.none(system.table), jnp.asarray([0.0, 1e9])

    def one(shared: tuple[Box, jax.Array], lane: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        (around, times), (which, number) = shared, lane
        own = eqx.tree_at(lambda s: s.law.parameters, system, jax.tree.map(lambda a: a[which], around))
        found = SSA().sample(own, times, p, own.start, lane_key(key, number))
        return found.states[-1], found.outcome

    total = cells * len(milestones())
    which = jnp.repeat(jnp.arange(len(milestones())), cells)
    run = jax.jit(lambda shared, lanes: run_lanes(one, shared, lanes, block=min(cells, 256)))
    states, outcome = run((around, times), (which, jnp.arange(total)))
    if not bool((outcome == Outcome.DONE).all()):
        raise RuntimeError("Cells in their boxes ended early.")
    counts = np.array(states)[:, 1:].reshape(-1, cells, 3)
    counts[..., 2] /= np.asarray(around.pace)[:, None]
    return counts


def mean_times(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean times from LOW to HIGH and back from counts summed over cells, (..., milestone, 3)."""
    up, down, spent = np.moveaxis(counts, -1, 0)
    total = up + down
    p, time = up / total, spent / total
    low, high = (LOW - FIRST) // APART, (HIGH - FIRST) // APART
    rise, fall = np.zeros_like(p), np.zeros_like(p)  # from each milestone to the next, and to the one before
    for i in range(high):
        before = rise[..., i - 1] if i else 0.0
        rise[..., i] = (time[..., i] + (1 - p[..., i]) * before) / p[..., i]
    # Above the last it is put back onto the last: so rare that it is not seen.
    for i in range(p.shape[-1] - 1, low, -1):
        after = fall[..., i + 1] if i + 1 < p.shape[-1] else 0.0
        fall[..., i] = (time[..., i] + p[..., i] * after) / (1 - p[..., i])
    return rise[..., low:high].sum(-1), fall[..., low + 1 : high + 1].sum(-1)


def passages(cells: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean times LOW to HIGH and HIGH to LOW, and their standard errors by resampling cells, (2,) each."""
    counts = leavings(cells, count, seed)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(cells, np.full(cells, 1 / cells), (_RESAMPLED, len(counts)))
    drawn = np.einsum("bmc,mck->bmk", weights, counts)
    return np.array(mean_times(counts.sum(axis=1))), np.array(mean_times(drawn)).std(axis=1, ddof=1)
