"""A PEtab problem as arrays: experiments of one shape, and which measurement reads which state.

Two measurements of one experiment at one time share their state; a change and a measurement at one time come in this
order: the change first.
"""

import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.operations import Tree, names_in
from pinnsim.dynamics.program import Program, program
from pinnsim.errors import Problems, did_you_mean
from pinnsim.formats.petab.course import FOREVER, Ground, Lanes
from pinnsim.formats.petab.system import PetabSystem, renamed, renamed_change
from pinnsim.formats.petab.tables import Measurement, Observable, Parameter, Period, Tables

_VALUE, _NOISE = "what is seen", "how far off"


class Group(eqx.Module):
    """Measurements of one observable. `reading`: its formula and its noise from `reads`, quantities of the model, and
    placeholders; `filled`: (measurement, placeholder), positions in the model's quantities and then `literals`."""

    noise: str = eqx.field(static=True)
    reading: Program = eqx.field(static=True)
    reads: tuple[str, ...] = eqx.field(static=True)
    rows: Int[Array, " measurement"]
    filled: Int[Array, "measurement placeholder"]


class Arrays(eqx.Module):
    """A problem: what all share, experiments, measurements in the table's order, and groups of them by observable;
    `places`: where the estimated parameters are among the model's constants; `base`: the constants; `parameters`."""

    ground: Ground
    lanes: Lanes
    groups: tuple[Group, ...]
    lane: Int[Array, " measurement"]
    moment: Int[Array, " measurement"]
    time: Float[Array, " measurement"]
    measured: Float[Array, " measurement"]
    literals: Float[Array, " literal"]
    base: Float[Array, " constant"]
    places: tuple[int, ...] = eqx.field(static=True)
    parameters: tuple[Parameter, ...] = eqx.field(static=True)


@dataclasses.dataclass(frozen=True)
class _Shape:
    """An experiment on the host."""

    rest: bool
    periods: tuple[Period, ...]
    times: tuple[float, ...]
    settle: bool


def arrays_of(tables: Tables, system: PetabSystem, problems: Problems) -> Arrays | None:
    """The arrays of a problem; `None`, with what is wrong noted, where formulas name what the problem does not have."""
    names = list(dict.fromkeys(one.experiment for one in tables.measurements))
    shapes = {name: _shape(name, tables) for name in names}
    literals: dict[float, int] = {}
    groups = []
    for name, one in tables.observables.items():
        rows = [k for k, row in enumerate(tables.measurements) if row.observable == name]
        if rows:
            groups.append(_group(one, rows, tables, system, literals, problems))
    if problems:
        return None
    constants = sorted(system.rules.constants)
    place = {name: k for k, name in enumerate(constants)}
    switches = list(system.switches.values())
    ground = Ground(
        rules=system.rules,
        changing=system.changing,
        reads=system.reads,
        sizes=system.sizes,
        switches=tuple(place[name] for name in switches),
        rests=any(shape.rest for shape in shapes.values()),
        settles=any(shape.settle for shape in shapes.values()),
    )
    estimated = tuple(one for one in tables.parameters.values() if one.estimated)
    lane, moment = _reads(tables.measurements, names, shapes)
    return Arrays(
        ground=ground,
        lanes=_lanes(list(shapes.values()), system, switches),
        groups=tuple(groups),
        lane=jnp.asarray(lane),
        moment=jnp.asarray(moment),
        time=_array([min(row.time, FOREVER) for row in tables.measurements]),
        measured=_array([row.value for row in tables.measurements]),
        literals=_array(list(literals)),
        base=_array([float(system.rules.constants[name]) for name in constants]),
        places=tuple(place[one.name] for one in estimated),
        parameters=estimated,
    )


def _array(values: list[float] | np.ndarray) -> Array:
    return jnp.asarray(values, dtype=float)


def _shape(name: str, tables: Tables) -> _Shape:
    periods = tables.experiments.get(name, ())
    rest = bool(periods) and periods[0].start == -math.inf
    finite = tuple(period for period in periods if math.isfinite(period.start)) or (Period(0.0, ()),)
    asked = sorted({row.time for row in tables.measurements if row.experiment == name})
    before = periods[:1] if rest else ()
    return _Shape(rest, (*before, *finite), tuple(t for t in asked if math.isfinite(t)), asked[-1] == math.inf)


def _lanes(shapes: list[_Shape], system: PetabSystem, switches: list[str]) -> Lanes:
    count = max(len(shape.periods) - shape.rest for shape in shapes)
    asked = max(max(len(shape.times) for shape in shapes), 1)
    size = len(shapes)
    on = np.zeros((size, len(switches)))
    start, stop = np.zeros((size, count)), np.zeros((size, count))
    moved = np.full((size, count, len(system.rules.states)), -1)
    fixed = np.full((size, count, len(system.rules.kept)), -1)
    times, owner = np.zeros((size, asked)), np.zeros((size, asked), dtype=int)
    for e, shape in enumerate(shapes):
        for change in shape.periods[0].changes:
            on[e, switches.index(system.switches[renamed_change(change, system.alias)])] = 1.0
        finite = shape.periods[1:] if shape.rest else shape.periods
        starts = [period.start for period in finite]
        end = max(starts[-1], shape.times[-1] if shape.times else starts[-1])
        for p in range(count):
            # Periods that an experiment does not have are moments at its end.
            start[e, p] = starts[p] if p < len(starts) else end
            stop[e, p] = starts[p + 1] if p + 1 < len(starts) else end
            if p < len(finite) and (p or shape.rest):
                for change in finite[p].changes:
                    change = renamed_change(change, system.alias)
                    kind, place = system.place(change[0])
                    (moved if kind == "state" else fixed)[e, p, place] = system.later[change]
        last = shape.times[-1] if shape.times else end
        times[e] = [*shape.times, *[last] * (asked - len(shape.times))]
        owner[e] = np.searchsorted(starts, times[e], side="right") - 1
    return Lanes(
        on=_array(on),
        rest=jnp.asarray([shape.rest for shape in shapes]),
        start=_array(start),
        stop=_array(stop),
        moved=jnp.asarray(moved),
        fixed=jnp.asarray(fixed),
        times=_array(times),
        owner=jnp.asarray(owner),
        settle=jnp.asarray([shape.settle for shape in shapes]),
    )


def _reads(rows: tuple[Measurement, ...], names: list[str], shapes: dict[str, _Shape]) -> tuple[list[int], list[int]]:
    """Experiment and moment of each measurement; what holds for ever is the last moment."""
    places = {name: {time: k for k, time in enumerate(shape.times)} for name, shape in shapes.items()}
    number = {name: k for k, name in enumerate(names)}
    return [number[row.experiment] for row in rows], [places[row.experiment].get(row.time, -1) for row in rows]


def _group(
    one: Observable,
    rows: list[int],
    tables: Tables,
    system: PetabSystem,
    literals: dict[float, int],
    problems: Problems,
) -> Group:
    known = system.rules.running.position
    given = tuple(dict.fromkeys((*one.given, *one.noise_given)))
    formulas = _formulas(one, tables, system, given, problems)
    wanted = dict.fromkeys(name for tree in formulas.values() for name in names_in(tree))
    reads = tuple(name for name in wanted if name in known and name not in given)
    reading = program((*reads, *given), formulas) if not problems else program((), {_VALUE: 0.0, _NOISE: 1.0})
    filled = np.zeros((len(rows), len(given)), dtype=int)
    for k, row in enumerate(rows):
        measurement = tables.measurements[row]
        cells = dict(zip(one.given, measurement.filled, strict=False))
        cells |= dict(zip(one.noise_given, measurement.noise_filled, strict=False))
        for j, name in enumerate(given):
            cell = cells.get(name, 1.0)
            if isinstance(cell, str):
                cell = system.alias.get(cell, cell)
                if cell not in known:
                    problems.add(
                        "E_PETAB_INVALID",
                        f"{measurement.where}: '{cell}' fills a place of {one.name}, but "
                        f"is nothing that the problem has{did_you_mean(cell, tables.parameters)}.",
                    )
                    continue
                filled[k, j] = known[cell]
            else:
                filled[k, j] = _size(system) + literals.setdefault(cell, len(literals))
    return Group(one.distribution, reading, reads, jnp.asarray(rows), jnp.asarray(filled))


def _size(system: PetabSystem) -> int:
    """How many values the model's program gives."""
    running = system.rules.running
    return len(running.given) + len(running.literals) + len(running.names)


def _formulas(
    one: Observable, tables: Tables, system: PetabSystem, given: tuple[str, ...], problems: Problems
) -> dict[str, Tree]:
    """An observable's value and noise, with other observables that they name written beside them."""
    known = system.rules.running.position
    alias = {name: to for name, to in system.alias.items() if name not in given}
    formulas = {_VALUE: renamed(one.formula, alias), _NOISE: renamed(one.noise, alias)}
    others = {name: renamed(other.formula, system.alias) for name, other in tables.observables.items()}
    others[one.name] = formulas[_VALUE]
    waiting = list(formulas.values())
    while waiting:
        for name in dict.fromkeys(names_in(waiting.pop())):
            if name in formulas or name in given or name in known:
                continue
            if name in others:
                formulas[name] = others[name]
                waiting.append(others[name])
            else:
                problems.add(
                    "E_PETAB_INVALID",
                    f"The observable '{one.name}' needs '{name}', which is nothing that "
                    f"the problem has{did_you_mean(name, (*known, *others))}.",
                )
                formulas[name] = 0.0
    return formulas


def seen(group: Group, known: Array, filled: Array, positions: np.ndarray) -> tuple[Array, Array]:
    """Value and noise of one measurement. **Arguments:** `known`: the model's quantities and then literals."""
    values = group.reading.run(jnp.concatenate([known[positions], known[filled]]))
    return values[group.reading.position[_VALUE]], values[group.reading.position[_NOISE]]
