"""All single, all double and chosen triple perturbations of a model: what each does, and what they do together.

A ball lies in every valley of the unperturbed cell. Each combination of edits is switched on and stays, and the balls
are followed to where they rest (`pinnsim.landscape.attractors_under`), or for a time. Levels there are compared with
the unperturbed ones and with what the parts do alone, by the multiplicative and by the additive expectation
(`pinnsim.screen.interaction`). With an ensemble everything is done for every member in its own landscape, and the
members' agreement is told of every number.

Source: A. Dixit et al., Cell 167:1853 (2016) and T. Norman et al., Science 365:786 (2019), screens of combinations with
expression as the readout.
"""

import time as clock
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.attractors_under import default_span
from pinnsim.landscape.coordinates import Numbers, frozen, kinetics_of
from pinnsim.landscape.members import MemberValleys, Models, member_valleys, stacked
from pinnsim.landscape.push import known_points
from pinnsim.landscape.totals import conserved
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.screen.combinations import (
    EditList,
    as_rows,
    best_triples,
    edit_list,
    knockouts,
    rows_of,
    singles_and_doubles,
)
from pinnsim.screen.courses import Balls, Settings, decided, followed
from pinnsim.screen.readouts import Readouts, Reads, readouts_of
from pinnsim.screen.result import Screen
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment, as_treatment
from pinnsim.tree import lane, named_shapes

_TRIPLES, _STARTS = 32, 64


def screen(
    model: CellModel | AbstractKinetics,
    edits: Sequence[Treatment | str] | None = None,
    *,
    order: int = 2,
    doubles: Sequence[Sequence[str]] | None = None,
    triples: int | Sequence[Sequence[str]] | None = None,
    readouts: Reads | None = None,
    members: Models | None = None,
    time: float | int | None = None,
    background: Treatment | str = NONE,
    reference: Attractors | Numbers | None = None,
    starts: int = 16,
    settle: float | int | None = None,
    floor: Numbers | None = None,
    level: float = 0.9,
    threshold: float = 0.1,
    seed: int = 0,
    method: ODE | None = None,
    batch_size: int = 1024,
    memory_limit: float = 4e9,
    progress: bool = True,
) -> Screen:
    """Screens perturbations: effects, interactions against two expectations, changes of fate, and how sure they are.

        multiplicative   eps_ab = e_ab - e_a - e_b,   e = log2((x + floor) / (x0 + floor))
        additive         eps_ab = e_ab - e_a - e_b,   e = (x - x0) / (x0 + floor)

    **Arguments:** `edits`: such as `["GATA1=0", "SPI1*2"]` (default: the knock-out of each gene; of a model without
    genes, the stop of each reaction); `order`: 1 for singles, 2 with doubles of edits on different targets, 3 with
    triples; `doubles`: chosen ones, as lists of two edits (default: all); `triples`: chosen ones, or how many of those
    whose doubles interact most (default 32); `readouts`: species or genes, or sums as `{"total A": {"A": 1, "AB": 1}}`
    (default: all species); `members`: a model whose arrays have a leading member axis (`laplace(...).sample`), or a
    list of models; `time`: effects at this time after the switch, in the model's time unit, in place of rest; then
    edits may have times of their own; `background`: acts in all; `reference`: the unperturbed attractors (default:
    `find_attractors` from 64 starts), or their states, with `settle`; with `time` any states to begin from; `starts`:
    shared starts that look for new valleys of the model itself; `settle`: as of `attractors_under`; `floor`: amount
    that is told from nothing, one or one per readout (default: a ten-thousandth of the default abundance; with 0, what
    falls to nothing has no fold); `level`: of intervals over members; `threshold`: what counts as no difference, log2
    and share of the unperturbed level; `seed`: of starts; `batch_size`: lanes at a time; `memory_limit`: bytes that the
    results may take.

    Good values: `threshold` 0.1 is a tenth of a doubling, 7 %; 20 members or more for an interval of 90 %.

    **Returns** a `Screen`. Balls that go round, fail or do not settle are told by their fate and have no level.
    Compiled once per model, batch size and number of switches, for all combinations and all members.

    **Raises** `E_USAGE` (no edit, nothing to combine, no valley, totals that are conserved at rest), `E_SIZE`,
    `E_GENE_UNKNOWN`, `E_PERTURB_...`, `E_INIT`.

    Source: Mani et al., PNAS 105:3461 (2008); Norman et al., Science 365:786 (2019).
    """
    began = clock.perf_counter()
    kinetics, always = kinetics_of(model), as_treatment(background)
    _check(order, triples, doubles, time, reference, settle, starts, level, threshold, batch_size)
    chosen = edit_list(knockouts(kinetics) if edits is None else edits, kinetics, timed=time is not None)
    reads = readouts_of(readouts, kinetics, floor)
    named = None if triples is None or isinstance(triples, int) else list(triples)
    rows = singles_and_doubles(chosen, order, doubles, named or ())
    acting = always.resolve(kinetics.table)
    lasting = frozen(acting, np.inf)
    if time is None and len(conserved(kinetics, lasting.at(jnp.zeros(())))):
        raise PinnsimError.of(
            "E_USAGE",
            "The model conserves totals, so that a place of rest is not the only one near it; give a long `time`, at "
            "which effects are read on the way.",
        )
    method = ODE(rtol=1e-6, atol=1e-9, max_steps=16384) if method is None else method
    if reference is None:
        reference = find_attractors(
            kinetics, acting, starts=_STARTS, totals=kinetics.default_state(), settle=settle, seed=seed, method=method
        )
    points, names = known_points(reference, kinetics)
    if not np.isfinite(points).all():
        raise PinnsimError.of(
            "E_USAGE",
            "The unperturbed model has no place of rest, only cycles; give `time`, and states to begin from as "
            "`reference`.",
        )
    _check_size(len(rows), len(points), reads, kinetics, memory_limit)
    if time is not None:
        span = float(time)
    else:
        span = default_span(reference) if isinstance(reference, Attractors) and settle is None else float(settle or 0.0)
    settings = Settings(always, span, time is not None, starts, seed, method, batch_size)
    settings = decided(kinetics, [chosen.together(row) for row in rows], points[0], settings)
    every, own = _members(
        kinetics, members, lasting, points, names, rest=time is None or isinstance(reference, Attractors)
    )

    def run(rows: np.ndarray) -> list[Balls]:
        treatments = [chosen.together(row) for row in rows]
        return [
            followed(one, treatments, its, names, settings, own=k == 0, progress=progress)
            for k, (one, its) in enumerate(every)
        ]

    def result(rows: np.ndarray, balls: Sequence[Balls]) -> Screen:
        return Screen(
            edits=chosen.names,
            parts=rows,
            labels=tuple(str(chosen.together(row)) for row in rows),
            valleys=names,
            readouts=reads,
            model=balls[0],
            members=tuple(balls[1:]),
            kept=own,
            time=None if time is None else float(time),
            time_unit=kinetics.time_unit,
            level=level,
            threshold=threshold,
            seconds=clock.perf_counter() - began,
        )

    balls = run(rows)
    if order < 3:
        return result(rows, balls)
    so_far = result(rows, balls)
    if named is not None:
        three = as_rows(rows_of(chosen, named, 3, Problems()))
    else:
        three = _best(chosen, so_far, triples if isinstance(triples, int) else _TRIPLES)
    if len(three):
        balls = [a.joined(b) for a, b in zip(balls, run(three), strict=True)]
    return result(np.concatenate([rows, three]), balls)


def _best(edits: EditList, so_far: Screen, count: int) -> np.ndarray:
    """Rows of the triples whose doubles interact most: root mean square of eps over readouts that are not edited, in
    the valley where it is largest."""
    is_double = so_far.order == 2
    size = np.abs(so_far.interactions()[0])
    counted = ~so_far.readouts.of(so_far.model.edited[is_double])[:, None] & np.isfinite(size)
    mean_square = np.where(counted, size**2, 0.0).sum(axis=2) / np.maximum(counted.sum(axis=2), 1)
    return best_triples(edits, so_far.parts[is_double, :2], np.sqrt(mean_square.max(axis=1, initial=0.0)), count)


def _members(
    kinetics: AbstractKinetics,
    members: Models | None,
    lasting: Perturbation,
    points: np.ndarray,
    names: tuple[str, ...],
    *,
    rest: bool,
) -> tuple[list[tuple[AbstractKinetics, np.ndarray]], MemberValleys | None]:
    """The model and its members, each with its own valleys, (valley, species), and which valleys members have."""
    if members is None:
        return [(kinetics, points)], None
    every = stacked(kinetics, members)
    count = next(iter(named_shapes(every).values()))[0]
    if rest:
        own = member_valleys(every, lasting, points, names)
    else:  # states to begin from are the same for all
        own = MemberValleys(np.tile(points, (count, 1, 1)), np.zeros((count, len(points)), int), names)
    places = [points, *own.states[1:]]
    return [(lane(every, k), places[k]) for k in range(count)], own


def _check(
    order: int,
    triples: object,
    doubles: object,
    time: float | int | None,
    reference: object,
    settle: object,
    starts: int,
    level: float,
    threshold: float,
    batch_size: int,
) -> None:
    with Problems() as problems:
        if order not in (1, 2, 3):
            problems.add("E_USAGE", f"Argument `order` is {order}; give 1, 2 or 3.")
        if triples is not None and order != 3:
            problems.add("E_USAGE", "Argument `triples` needs `order=3`; give it, or leave triples out.")
        if isinstance(triples, int) and triples < 1:
            problems.add("E_USAGE", f"Argument `triples` is {triples}; give how many, 1 or more, or lists of edits.")
        if doubles is not None and order == 1:
            problems.add("E_USAGE", "Argument `doubles` needs `order` 2 or 3; give it, or leave doubles out.")
        if time is not None and not (np.isfinite(time) and time > 0):
            problems.add("E_USAGE", f"Argument `time` is {time}; give a time > 0, or leave it out for rest.")
        if time is None and settle is None and not (reference is None or isinstance(reference, Attractors)):
            problems.add(
                "E_USAGE", "Argument `reference` holds states; give `settle` with it, how long balls are followed."
            )
        if not 0 < level < 1 or not threshold >= 0:
            problems.add("E_USAGE", f"Give 0 < `level` < 1 and `threshold` >= 0, not {level} and {threshold}.")
        if batch_size < 1 or starts < 0:
            problems.add("E_USAGE", f"Give `batch_size` >= 1 and `starts` >= 0, not {batch_size} and {starts}.")


def _check_size(rows: int, valleys: int, reads: Readouts, kinetics: AbstractKinetics, limit: float) -> None:
    need = rows * valleys * (len(kinetics.table.species) + 4 * len(reads.names)) * 8.0
    if need > limit:
        raise PinnsimError.of(
            "E_SIZE",
            f"{rows} combinations in {valleys} valleys need {need / 1e9:.1f} GB per model; name fewer edits, doubles "
            "or readouts, or raise memory_limit.",
        )
