"""All attractors under many perturbations at once, and what became of the unperturbed ones.

A ball is put into every valley of the unperturbed cell, the perturbation is switched on and stays, and the ball is
followed to where it rests; starts shared by all perturbations look for valleys that no ball reaches. A sudden push that
throws the ball over a ridge so counts as what it is, the cell's fate under that perturbation; the continuation of one
fixed point is another question (`pinnsim.landscape.continuation`). Every ball is then let go: a valley from which it
does not return to the one that it came from is a switch that lasts.

How lanes are followed and certified is in `pinnsim.landscape.resting`, what the result says in
`pinnsim.landscape.shifts`.

Source: S. Huang, G. Eichler, Y. Bar-Yam and D. E. Ingber, Phys. Rev. Lett. 94:128701 (2005), attractors as cell types.
"""

import time as clock
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.attractors import ARRIVED, LONGER, Attractors, find_attractors
from pinnsim.landscape.coordinates import Numbers, kinetics_of, require_states
from pinnsim.landscape.resting import Rest, Settling, different
from pinnsim.landscape.shifts import REMAINS, VANISHES, Shifts
from pinnsim.landscape.starts import box_points
from pinnsim.landscape.totals import conserved
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment, as_treatment, resolve_lanes

_LIFETIMES = 7.0  # default `settle`, in units of the slowest relaxation
_BLOCK = 16  # batches whose late lanes are collected


def attractors_under(
    model: CellModel | AbstractKinetics,
    perturbations: Sequence[Treatment | str] | Mapping[str, Treatment | str],
    *,
    background: Treatment | str = NONE,
    reference: Attractors | None = None,
    starts: int = 16,
    states: Numbers | None = None,
    bounds: tuple[Numbers, Numbers] | None = None,
    settle: float | int | None = None,
    time: float | int = np.inf,
    seed: int = 0,
    tolerance: float | int = 1e-6,
    method: ODE | None = None,
    batch_size: int = 1024,
    lift: bool = True,
    progress: bool = True,
) -> Shifts:
    """The attractors under each of many perturbations that last, each with its shift from the unperturbed valley.

    `x' = f(x; p) = 0` with all eigenvalues of `df/dx` in the left half-plane, for every perturbation p.

    **Arguments:** `perturbations`: such as `["GATA1=0", "SPI1*2, TP53=0"]`, or with labels of their own as a mapping;
    of each counts what acts at `time`, for ever; `background`: acts in all of them and in the reference; `reference`:
    the attractors under the background alone (default: `find_attractors` from 64 starts); `starts`: Sobol points in the
    box `bounds`, shared by all perturbations; `states`: (state, species), further shared starts; `settle`: how long
    lanes are followed, in the model's time unit (default: 7 relaxation times of the slowest reference attractor; what
    is late goes on for 3 times as long, and once more); `tolerance`: relative, two points closer than this are one;
    `seed`: of the Sobol points; `method`: default `ODE(rtol=1e-6)`; `batch_size`: lanes (perturbation x start) at a
    time, which bounds the memory; `lift`: whether every ball is let go afterwards (if not, `lifted` is -1).

    Good values: 16 starts find a valley that fills a sixth of the box or more (95 %), 64 one of a twentieth.

    **Returns** `Shifts`. Compiled once per model, `batch_size` and number of switches: other perturbations, however
    many, compile nothing.

    **Raises** `E_USAGE` (no perturbation, nothing to start from), `E_INIT`, `E_PERTURB_...`.

    Source: Huang et al., Phys. Rev. Lett. 94:128701 (2005).
    """
    began = clock.perf_counter()
    kinetics, (labels, treatments) = kinetics_of(model), _labelled(perturbations)
    with Problems() as problems:
        if not labels:
            problems.add("E_USAGE", "Argument `perturbations` is empty; give at least one, for example 'GATA1=0'.")
        if batch_size < 1 or starts < 0:
            problems.add("E_USAGE", f"Give `batch_size` >= 1 and `starts` >= 0, not {batch_size} and {starts}.")
    method = ODE(rtol=1e-6, atol=1e-9, max_steps=16384) if method is None else method
    always = as_treatment(background)
    # The first lane is the background alone: the reference, and what is left when a perturbation is lifted.
    stacked = resolve_lanes([always, *(always + t for t in treatments)], kinetics.table, host=True)
    programs = Settling(kinetics, stacked, time, method, batch_size)
    alone: Perturbation = jax.tree.map(lambda a: jnp.asarray(a[0]), programs.acting)
    if len(conserved(kinetics, alone.at(jnp.zeros(())))):
        raise PinnsimError.of(
            "E_USAGE",
            "The model conserves totals, which this batch does not hold; use find_attractors(model, PERTURBATION, "
            "totals=STATE) for each perturbation.",
        )
    if reference is None:
        reference = find_attractors(
            kinetics, alone, starts=64, states=states, bounds=bounds, settle=settle, seed=seed, method=method
        )
    valleys = reference.states[reference.stable]
    more = np.zeros((0, valleys.shape[1])) if states is None else np.asarray(states, dtype=float)
    for what, given in (("reference", valleys), ("states", more)):
        require_states(given, kinetics, what)
    begin = np.concatenate([valleys, more, box_points(kinetics, alone, starts, bounds, seed)])
    with Problems() as problems:
        if not len(begin):
            problems.add("E_USAGE", "The reference has no attractor and there are no `starts`; set them to 16 or more.")
    span = default_span(reference) if settle is None else float(settle)
    programs.decide(begin[0], span)
    parts, block = [], max(1, _BLOCK * batch_size // len(begin))
    lanes = len(labels) * len(begin)
    with tqdm(total=lanes, desc="valleys", unit="lane", disable=None if progress else True) as bar:
        for first in range(0, len(labels), block):
            which = np.arange(first, min(first + block, len(labels)))
            rest = programs.rest(which + 1, begin, span, bar.update)
            parts.append(_Part(rest, which, programs.material, float(tolerance)))
    states_, owner, residual, leading, arrives = _joined(parts)
    balls, motion = arrives[:, : len(valleys)], np.concatenate([part.motion for part in parts])
    names = tuple(name for name, stable in zip(reference.names, reference.stable, strict=True) if stable)
    fate, keeper = _fates(programs, valleys, states_, balls, motion)
    shared = arrives[:, len(valleys) :]
    arrivals = np.bincount(shared[shared >= 0], minlength=len(states_))
    return Shifts(
        labels=labels,
        species=kinetics.table.species,
        valleys=names,
        reference=valleys,
        states=states_,
        owner=owner,
        names=_named(names, keeper, owner, arrivals),
        residual=residual,
        leading=leading,
        arrivals=arrivals,
        lifted=_lifted(programs, valleys, states_, span) if lift else np.full(len(states_), -1),
        home=balls,
        fate=fate,
        motion=motion,
        log_states=programs.coordinates(states_) / np.log(2.0),
        log_reference=programs.coordinates(valleys) / np.log(2.0),
        edited=edited_species(kinetics, programs.acting)[1:],
        seconds=clock.perf_counter() - began,
        time_unit=kinetics.time_unit,
    )


class _Part:
    """One block of perturbations, with one entry per attractor: states, residuals, leading eigenvalues, the owners, and
    where each lane has arrived, (perturbation, start), or -1."""

    def __init__(self, rest: Rest, which: np.ndarray, material: np.ndarray, tolerance: float) -> None:
        first = different(rest.states, material, tolerance)
        row, column = np.nonzero(first == np.arange(first.shape[1]))
        self.states, self.residual = rest.states[row, column], rest.residual[row, column]
        self.leading, self.owner, self.motion = rest.leading[row, column], which[row], rest.motion
        number = np.full(first.shape, -1)
        number[row, column] = np.arange(len(row))
        mine = np.take_along_axis(number, np.maximum(first, 0), axis=1)
        self.arrives = np.where(first >= 0, mine, -1)


def _joined(parts: Sequence[_Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Attractors of all blocks: states, owners, residuals, leading eigenvalues, and arrivals of lanes."""
    before = np.cumsum([0, *(len(part.states) for part in parts)])
    arrives = [np.where(p.arrives >= 0, p.arrives + n, -1) for p, n in zip(parts, before, strict=False)]
    states, owner, residual, leading = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("states", "owner", "residual", "leading")
    )
    return states, owner, residual, leading, np.concatenate(arrives)


def _labelled(
    perturbations: Sequence[Treatment | str] | Mapping[str, Treatment | str],
) -> tuple[tuple[str, ...], list[Treatment]]:
    if isinstance(perturbations, Mapping):
        return tuple(perturbations), [as_treatment(t) for t in perturbations.values()]
    treatments = [as_treatment(t) for t in ([perturbations] if isinstance(perturbations, str) else perturbations)]
    return tuple(map(str, treatments)), treatments


def default_span(reference: Attractors) -> float:
    """How long lanes are followed: so many relaxation times of the slowest valley."""
    leading = reference.eigenvalues[reference.stable]
    return _LIFETIMES / float(-leading[:, 0].real.max()) if leading.size else reference.settle


def _fates(
    programs: Settling, valleys: np.ndarray, states: np.ndarray, home: np.ndarray, motion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What became of each valley, (perturbation, valley), and the valley whose name an attractor keeps, or -1."""
    keeper = np.full(len(states), -1)
    fate = motion[:, : home.shape[1]].copy()
    rests = home >= 0
    if rests.any():
        moved = np.where(rests, programs.far(states[np.maximum(home, 0)], valleys[None]), np.inf)
        rank = moved.argsort(axis=1, kind="stable").argsort(axis=1)
        same = rests[:, :, None] & (home[:, :, None] == home[:, None, :])
        nearest = rests & ~(same & (rank[:, None, :] < rank[:, :, None])).any(axis=2)
        fate[rests] = np.where(nearest[rests], REMAINS, VANISHES)
        row, column = np.nonzero(nearest)
        keeper[home[row, column]] = column
    return fate, keeper


def _named(valleys: tuple[str, ...], keeper: np.ndarray, owner: np.ndarray, arrivals: np.ndarray) -> tuple[str, ...]:
    """Names of attractors: of their valley, or N1, N2 ... by the number of starts, for each perturbation."""
    names, new = [valleys[k] if k >= 0 else "" for k in keeper], np.flatnonzero(keeper < 0)
    count: dict[int, int] = {}
    for k in new[np.lexsort((-arrivals[new], owner[new]))]:
        count[int(owner[k])] = count.get(int(owner[k]), 0) + 1
        names[k] = f"N{count[int(owner[k])]}"
    return tuple(names)


def _lifted(programs: Settling, valleys: np.ndarray, states: np.ndarray, span: float) -> np.ndarray:
    """The valley to which each ball returns under the background alone, or -1."""
    found, ends = np.full(len(states), -1), states.copy()
    for longer in (1.0, LONGER):
        late = np.flatnonzero(found < 0)
        if len(late) and len(valleys):
            ends[late], solved, _ = programs.follow(np.zeros(len(late), int), ends[late], longer * span)
            gaps = programs.far(ends[late][:, None], valleys[None])
            found[late] = np.where(solved & (gaps.min(axis=1) <= ARRIVED), gaps.argmin(axis=1), -1)
    return found


def edited_species(kinetics: AbstractKinetics, acting: Perturbation) -> np.ndarray:
    """The species of genes on which each perturbation acts, in any phase, (perturbation, species).

    **Arguments:** `acting`: arrays on the host, with a leading perturbation axis.
    """
    changes = kinetics.stoichiometry() != 0
    touched = ((acting.hold > 0) | (acting.drive != 0) | (acting.activity != 1)).any(axis=1)
    touched = touched | ((acting.factor != 1).any(axis=1).astype(int) @ changes.T.astype(int) > 0)
    owners = [name.rpartition(".")[0] or name for name in kinetics.table.species]
    same = np.array([[a == b for b in owners] for a in owners])
    return (touched.astype(int) @ same.astype(int)) > 0
