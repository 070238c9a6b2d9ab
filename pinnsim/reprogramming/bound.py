"""The least action from one valley to another: what no push can undercut.

    V(A, B) = min over chains of valleys A -> ... -> B of the sum of the barriers on the way,

each barrier being the minimum action from an attractor up to a saddle of index 1, from which the flow goes down to the
next for nothing. The chain is found by Dijkstra's algorithm; barriers of a valley are worked out when it is reached,
so that valleys which are dearer than the answer cost nothing.

Minimum action paths are found by relaxation, from above: the bound is as good as the list of saddles and the paths'
resolution. Where the saddles known of lead nowhere near B, the cheapest way out of A is what remains as a bound.

Source: M. I. Freidlin and A. D. Wentzell, Random Perturbations of Dynamical Systems (3rd ed. 2012), chapter 6.
"""

import dataclasses
import heapq

import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.action import minimum_action
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.barriers import joined
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.perturbation import Perturbation
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class Bound:
    """What no push from A to B can cost less than, in the unit of `control`.

    **Arguments:** `action`: NaN where no pass out of A is known; `route`: names of valleys and passes, in order;
    `complete`: whether the route ends in B (else it is the cheapest way out of A) and the paths to all passes on the
    way came to rest; `paths`: the minimum action path of each climb, (point, species).
    """

    __repr__ = brief

    action: float
    route: tuple[str, ...]
    complete: bool
    paths: tuple[np.ndarray, ...]


def least_action(
    kinetics: AbstractKinetics,
    noise: AbstractNoise,
    attractors: Attractors,
    background: Perturbation,
    start: str,
    target: str,
    *,
    points: int = 65,
    bumps: int = 1,
    tolerance: float | int = 1e-5,
) -> Bound:
    """The cheapest chain of climbs from one valley to another. **Arguments:** as for `minimum_action`; its action is
    stationary: an error of a path counts squared."""
    names = attractors.names
    where = {name: attractors.states[k] for k, name in enumerate(names)}
    passes = [(names[k], sides) for k, sides in joined(kinetics, attractors, background)]
    queue: list[tuple[float, tuple[str, ...], tuple[np.ndarray, ...]]] = [(0.0, (start,), ())]
    done: set[str] = set()
    first: tuple[float, tuple[str, ...], tuple[np.ndarray, ...]] | None = None
    missed = False
    while queue:
        cost, route, paths = heapq.heappop(queue)
        here = route[-1]
        if here == target:
            return Bound(cost, route, not missed, paths)
        if not here:  # what lies beyond this pass is not known, so nothing beyond its cost is sure
            return Bound(cost, route, False, paths)
        if here in done or here not in where:
            continue
        done.add(here)
        for saddle, sides in passes:
            ways = {there for this, there in (sides, sides[::-1]) if this == here and there != here}
            for there in ways:
                try:
                    path = minimum_action(
                        kinetics, noise, where[here], where[saddle], background, points=points, bumps=bumps,
                        tolerance=tolerance,
                    ).paths[0]  # fmt: skip
                except PinnsimError as error:
                    if "E_SOLVER" not in error.codes:
                        raise
                    missed = True
                    continue
                step = (cost + path.action, (*route, saddle, there), (*paths, path.points))
                if here == start and (first is None or step[0] < first[0]):
                    first = step
                heapq.heappush(queue, step)
    if first is None:
        return Bound(float("nan"), (start,), False, ())
    return Bound(first[0], first[1], False, first[2])
