"""How far a state is from the edge of its valley, in all directions and along one gene, and points on edges.

Displacements are measured in the coordinates of `pinnsim.landscape.coordinates`, z = log(x + floor) for abundances, by
the distance of that file, so that 0.1 means "10 % off in a typical species":

    d(x) = min { |z(x') - z(x)|_rms : x' is not in the basin of x }.

Rays go out from z(x) in quasi-random directions, along every axis, and towards every other known fixed point; each is
looked at in equal steps, and the first step that leaves the valley is cut until its bracket is short. The shortest
rays are then turned: with R(u) the length of the ray in direction u, the gradient and curvature of R along each
tangent t (by differences, u +- h t) give Newton's step on the sphere, and R is stationary where the ray meets the edge
at a right angle. What is found is a state beyond the edge at that distance, so d is never larger than what is said (but
for the last bracket); a tongue of another valley that is narrower than a step, and that no ray meets, is not seen.

Source: C. Mitra, J. Kurths and R. V. Donner, Sci. Rep. 5:16196 (2015), least perturbation that leaves a basin.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.basins import checked
from pinnsim.landscape.coordinates import Numbers, floors
from pinnsim.landscape.rays import (
    FAR,
    Best,
    coordinates_of,
    directions,
    first_crossings,
    moves,
    reach_of,
    scanned,
    turned,
)
from pinnsim.landscape.settling import cross_all, rounds_for, settle_all, valleys_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

FOUND, NO_EDGE, NO_VALLEY = "found", "no edge within reach", "in no valley"


@dataclasses.dataclass(frozen=True)
class EdgeDistance:
    """How far states are from the edge of their valley.

    **Arguments:** `valley`: (state,), name, "none" where a state is in none; `distance`: (state,), infinite where no
    edge was found within `reach`, NaN in no valley; `nearest`: (state, species), the state on the edge; `beyond`:
    (state,), name of the valley on the other side, "none" where what is there settles nowhere known; `outcome`:
    (state,), "found", "no edge within reach" or "in no valley"; `error`: (state,), the last bracket plus the last
    improvement; `reach`: (state,), how far was looked.
    """

    __repr__ = brief

    valley: tuple[str, ...]
    distance: np.ndarray
    nearest: np.ndarray
    beyond: tuple[str, ...]
    outcome: tuple[str, ...]
    error: np.ndarray
    reach: np.ndarray
    species: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """One row per state."""
        return pd.DataFrame(
            {
                "valley": list(self.valley),
                "distance": self.distance,
                "beyond": list(self.beyond),
                "error": self.error,
                "outcome": list(self.outcome),
            }
        )

    def sentences(self) -> list[str]:
        """What was found for each state, in words."""
        texts = []
        for valley, gap, beyond, outcome, reach in zip(
            self.valley, self.distance, self.beyond, self.outcome, self.reach, strict=True
        ):
            if outcome == FOUND:
                side = "what settles nowhere known" if beyond == "none" else beyond
                texts.append(f"{gap:.4g} (log abundance) from the edge of {valley}, towards {side}")
            elif outcome == NO_EDGE:
                texts.append(f"no edge of {valley} within {reach:.3g} (log abundance); give a larger `reach`")
            else:
                texts.append("flows to no known attractor, so it has no edge to be far from")
        return texts


@dataclasses.dataclass(frozen=True)
class AxisEdge:
    """How much of one species it takes to leave the valley, up and down.

    **Arguments:** `species`: its name; `valley`: (state,); `level`: (state,), what there is of it; `up`, `down`:
    (state,), the amounts beyond which the state flows elsewhere (NaN where none within `reach`, or none above 0);
    `beyond_up`, `beyond_down`: (state,), where to; `fold_up`, `fold_down`: (state,), `up / level`, `down / level`.
    """

    __repr__ = brief

    species: str
    valley: tuple[str, ...]
    level: np.ndarray
    up: np.ndarray
    down: np.ndarray
    beyond_up: tuple[str, ...]
    beyond_down: tuple[str, ...]

    @property
    def fold_up(self) -> np.ndarray:
        """(state,), the fold change that leaves the valley upwards."""
        return self.up / self.level

    @property
    def fold_down(self) -> np.ndarray:
        """(state,), the fold change that leaves the valley downwards."""
        return self.down / self.level


def distance_to_edge(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    states: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    rays: int = 32,
    steps: int = 16,
    reach: float | int | None = None,
    tolerance: float | int = 1e-6,
    seed: int = 0,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> EdgeDistance:
    """The smallest displacement that takes a state out of its valley, `min |z(x') - z(x)|_rms`.

    **Arguments:** `attractors`: of `find_attractors(model, treatment)`; `states`: (state, species); `rays`:
    quasi-random directions beside the axes and those towards known points; `steps`: into which a ray is cut; `reach`:
    how far to look, in the same metric (default: the distance to the nearest other attractor, which is beyond the edge;
    log 1000 where there is none); `tolerance`: of the distance, relative to `reach`; `time`, `longest`, `method`: as in
    `assign`.

    Good values: `tolerance` not below the solver's `rtol`, which moves the edge itself.

    **Returns** `EdgeDistance`. **Raises** `E_INIT`, `E_USAGE`, `E_PERTURB_...`. Source: see the file.
    """
    _check(rays, steps, reach, tolerance)
    valleys, names, totals = valleys_of(model, attractors, treatment, time, longest, method)
    begin = checked(states, valleys, totals, "states")
    z = coordinates_of(valleys, begin)
    home = settle_all(valleys, begin, progress=False).valley if len(begin) else np.zeros(0, int)
    frame = moves(valleys)
    known = coordinates_of(valleys, np.concatenate([attractors.states, *(c.orbit[::32] for c in attractors.cycles)]))
    far = reach_of(valleys, z, home) if reach is None else np.full(len(z), float(reach))
    rounds = rounds_for(float(tolerance))
    best = Best.nothing(z)
    if len(z) and frame.shape[1]:
        units = directions(z, known, frame, rays, seed)
        best = scanned(valleys, z, units, far, steps, rounds)
        best = turned(valleys, z, best, frame, float(tolerance), rounds)
    inside = home >= 0
    found = inside & np.isfinite(best.length)
    outcome = np.where(found, FOUND, np.where(inside, NO_EDGE, NO_VALLEY))
    return EdgeDistance(
        _named(names, home, home >= 0),
        np.where(inside, best.length, np.nan),
        np.where(found[:, None], best.state, np.nan),
        _named(names, best.beyond, found),
        tuple(map(str, outcome)),
        np.where(found, best.error + far / 8.0**rounds, np.nan),
        far,
        valleys.system.kinetics.table.species,
    )


def distance_along(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    states: Numbers,
    species: str,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    reach: float | int = FAR,
    steps: int = 32,
    tolerance: float | int = 1e-8,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> AxisEdge:
    """How far one species alone must be raised, or lowered, until a state flows to another valley.

    **Arguments:** `species`: a species, or a gene with one species; `reach`: how far to look upwards, in the logarithm
    of the amount (default: a thousandfold); downwards it is looked to 0; `steps`: into which each way is cut;
    `tolerance`: of the edge, relative to the way; others as in `distance_to_edge`.

    **Returns** `AxisEdge`. **Raises** `E_GENE_UNKNOWN`, `E_INIT`, `E_USAGE` (also for a species whose change alone
    would change a conserved total). Source: see the file.
    """
    _check(1, steps, reach, tolerance)
    valleys, names, totals = valleys_of(model, attractors, treatment, time, longest, method)
    kinetics = valleys.system.kinetics
    place = _place(species, kinetics)
    if len(totals.laws) and totals.laws[:, place].any():
        law = totals.names[int(np.argmax(totals.laws[:, place] != 0))]
        raise PinnsimError.of(
            "E_USAGE", f"'{species}' cannot change alone, it belongs to the conserved {law}; use distance_to_edge."
        )
    begin = checked(states, valleys, totals, "states")
    z = coordinates_of(valleys, begin)
    home = settle_all(valleys, begin, progress=False).valley if len(begin) else np.zeros(0, int)
    material, floor = bool(np.asarray(kinetics.material())[place]), float(np.asarray(floors(kinetics))[place])
    lowest = np.log(floor) if material else z[:, place] - float(reach)
    rounds = rounds_for(float(tolerance))
    amounts: list[np.ndarray] = []
    beyond: list[tuple[str, ...]] = []
    for way in (np.full(len(z), float(reach)), lowest - z[:, place]):
        ends = z[:, None, :].copy()
        ends[:, 0, place] += way
        crossing, which = first_crossings(valleys, z, ends, steps, rounds)
        leaves = (which >= 0)[:, 0] & (home >= 0)
        amounts.append(np.where(leaves, crossing.state[:, 0, place], np.nan))
        beyond.append(_named(names, crossing.beyond[:, 0], leaves))
    valley = _named(names, home, home >= 0)
    return AxisEdge(kinetics.table.species[place], valley, begin[:, place], amounts[0], amounts[1], *beyond)


def edge_points(
    model: CellModel | AbstractKinetics,
    attractors: Attractors,
    first: Numbers,
    second: Numbers,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    tolerance: float | int = 1e-8,
    time: float | int = np.inf,
    longest: float | int | None = None,
    method: ODE | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Points on the edge between valleys, by cutting the lines between pairs of states, straight in coordinates.

    **Arguments:** `first`, `second`: (pair, species), states in different valleys; `tolerance`: width of the last
    bracket, relative to the line; others as in `assign`.

    **Returns** points, (pair, species), NaN for pairs in one valley, and the valleys on both sides, (pair, 2), as
    positions among attractors, then cycles (-1: none). **Raises** as `assign`. Source: see the file.
    """
    _check(1, 1, None, tolerance)
    valleys, _, totals = valleys_of(model, attractors, treatment, time, longest, method)
    a, b = checked(first, valleys, totals, "first"), checked(second, valleys, totals, "second")
    if len(a) != len(b):
        raise PinnsimError.of("E_USAGE", f"Arguments `first` ({len(a)}) and `second` ({len(b)}) must hold pairs.")
    rounds = rounds_for(float(tolerance))
    found = cross_all(valleys, coordinates_of(valleys, a), coordinates_of(valleys, b), rounds)
    leaves = found.leaves
    sides = np.stack([found.home, np.where(leaves, found.beyond, found.home)], axis=1)
    return np.where(leaves[:, None], found.state, np.nan), sides


def _check(rays: int, steps: int, reach: float | int | None, tolerance: float | int) -> None:
    wrong = [name for name, value in (("rays", rays), ("steps", steps)) if value < 1]
    wrong += ["reach"] if reach is not None and not (math.isfinite(reach) and reach > 0) else []
    wrong += [] if 0 < tolerance < 1 else ["tolerance"]
    if wrong:
        raise PinnsimError.of(
            "E_USAGE",
            f"Argument{'s' * (len(wrong) > 1)} {', '.join(f'`{w}`' for w in wrong)} must be positive (`rays` and "
            "`steps` whole numbers, `tolerance` below 1).",
        )


def _place(name: str, kinetics: AbstractKinetics) -> int:
    species = kinetics.table.species
    mine = [k for k, s in enumerate(species) if s == name or s.rpartition(".")[0] == name]
    if len(mine) == 1:
        return mine[0]
    if mine:
        raise PinnsimError.of(
            "E_GENE_UNKNOWN", f"'{name}' has {len(mine)} species ({', '.join(species[k] for k in mine)}); name one."
        )
    genes = {s.rpartition(".")[0] for s in species} - {""}
    raise PinnsimError.of(
        "E_GENE_UNKNOWN", f"The model has no species or gene '{name}'{did_you_mean(name, [*species, *genes])}."
    )


def _named(names: tuple[str, ...], numbers: np.ndarray, known: np.ndarray) -> tuple[str, ...]:
    return tuple(names[k] if good and k >= 0 else "none" for k, good in zip(numbers, known, strict=True))
