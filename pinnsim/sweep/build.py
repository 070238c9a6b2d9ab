"""From a specification and a model to a program, and what must be known before the first point.

Two things are looked up once and stored with the campaign, so that every worker, every resume and every shard takes the
same: the attractors that fates refer to, and whether the stiff solver is used.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.landscape import find_attractors, parameter
from pinnsim.landscape.attractors import LIFETIMES, LONGER
from pinnsim.landscape.coordinates import frozen
from pinnsim.landscape.dosage import linear_in_dose
from pinnsim.landscape.starts import box_points
from pinnsim.landscape.totals import conserved
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of
from pinnsim.simulate import SSA, AbstractSampler, FromState, Langevin, TauLeaping
from pinnsim.simulate.initial import Bare, Model
from pinnsim.simulate.many import moving, starts_stiff
from pinnsim.sweep.devices import check_devices
from pinnsim.sweep.engine import AbstractWork, Arrays, Stopping
from pinnsim.sweep.points import Points
from pinnsim.sweep.program import REST, Program, compute, resolved_model, rest_block, shapes
from pinnsim.sweep.specification import QUANTITIES, Specification
from pinnsim.sweep.store import QUARANTINED, Layout, Variable
from pinnsim.sweep.valleys import MEANINGS, Search
from pinnsim.treatment import Treatment, as_treatment, resolve_lanes
from pinnsim.tree import named_leaves, stack

_LOOKED_AT = 256  # points that decide which solver is used
_FEW = 8  # starts that show how slow the unvaried model's attractors are


@dataclasses.dataclass(frozen=True)
class Campaign(AbstractWork):
    """A specification with its model: everything that working out points needs.

    **Arguments:** `found`: what was looked up before the start, as JSON.
    """

    specification: Specification
    points: Points
    program: Program
    found: dict[str, Any]

    def compute(self, start: int, stop: int, stopping: Stopping | None = None) -> Arrays:
        return compute(self.program, self.points, self.specification.block, start, stop, stopping)

    def lost(self, count: int) -> Arrays:
        kept = {
            name: np.full((count, *kind.shape), kind.fill, dtype=kind.dtype)
            for name, kind in self.layout().variables.items()
        }
        kept["outcome"][:] = QUARANTINED
        return {name: column for name, column in kept.items() if not name.startswith("axis_")}

    def axes(self, start: int, stop: int) -> Arrays:
        values = self.points.values(start, stop)
        return {_axis_name(name): column for name, column in values.items()}

    def layout(self, chunk: int | None = None, shard: tuple[int, int] = (1, 1)) -> Layout:
        """Variables, units and sizes."""
        kinetics = self.program.model.kinetics
        table, unit = kinetics.table, kinetics.time_unit
        kinds = shapes(self.program, self.points, self.specification.block)
        dims = {"end": ("species",), "trajectory": ("time", "species"), "readings": ("time", "gene")}
        dims |= dict.fromkeys(("peak", "lowest", "mean"), ("species",))
        dims |= {
            "attractor_state": ("valley", "species"),
            "attractor_share": ("valley",),
            "attractor_rate": ("valley",),
        }
        dims |= {"end_sd": dims["end"], "trajectory_sd": dims["trajectory"], "share": ("attractor",)}
        about = _about(unit, tuple(self.found.get("attractors", {}).get("names", ())))
        axes = " ".join(_axis_name(axis.name) for axis in self.specification.axes)
        variables = {}
        for name, kind in kinds.items():
            fill: float | int = math.nan if kind.dtype.kind == "f" else -1
            attrs = {**about[name], "coordinates": axes}
            dtype = np.dtype(kind.dtype).newbyteorder("<").str
            variables[name] = Variable(dtype, dims.get(name, ()), tuple(kind.shape[1:]), fill, attrs)
        for axis in self.specification.axes:
            attrs = {"axis": axis.name}
            if axis.name == "duration":
                attrs["units"] = unit
            if axis.name == "treatment":
                attrs["meanings"] = "; ".join(map(str, axis.values or ()))
            whole = axis.name in ("treatment", "member")
            variables[_axis_name(axis.name)] = Variable(
                "<i8" if whole else "<f8", fill=-1 if whole else math.nan, attrs=attrs
            )
        coordinates: dict[str, Any] = {"species": (table.species, {})}
        if {"trajectory", "readings"} & set(variables):
            coordinates["time"] = (self.specification.times, {"units": unit})
        if "share" in variables:
            coordinates["attractor"] = (self.found["attractors"]["names"], {})
        if "attractors" in variables:
            coordinates["valley"] = (tuple(range(self.specification.valleys)), {})
        if "readings" in variables:
            coordinates["gene"] = (table.genes, {})
        return Layout(self.points.count, self.chunk_of(chunk), variables, coordinates, shard)

    def chunk_of(self, chunk: int | None = None) -> int:
        """Points per chunk: as asked, but no more than there are, in whole blocks where it is more than one."""
        block = self.specification.block
        wanted = min(self.specification.chunk if chunk is None else chunk, self.points.count)
        return -(-wanted // block) * block if wanted > block else wanted

    def about(self) -> dict[str, Any]:
        """What the store says of itself."""
        given = self.specification.model_dump(mode="json", exclude_unset=True)
        return {"campaign": self.digest(), "specification": given, "found": self.found}

    def spread(self, devices: int) -> "Campaign":
        """The same, with the points of a block spread over so many devices of this process. **Raises** `E_USAGE`."""
        check_devices(devices)
        return dataclasses.replace(self, program=dataclasses.replace(self.program, devices=devices))

    def digest(self) -> str:
        """sha256 of what the numbers depend on: specification, and the model's numbers."""
        names = " ".join(self.program.model.table.species)
        total = hashlib.sha256(f"{self.specification.digest()} {names}\n".encode())
        for tree in (self.program.model, self.program.members):
            for name, leaf in named_leaves(tree).items():
                total.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
                total.update(np.ascontiguousarray(leaf).tobytes())
        return total.hexdigest()


def campaign(
    specification: Specification,
    model: CellModel | AbstractKinetics,
    members: Sequence[CellModel] = (),
    found: dict[str, Any] | None = None,
) -> Campaign:
    """A campaign, checked.

    **Arguments:** `members`: of the model's ensemble, where an axis goes over them; `found`: what an earlier start
    looked up.

    **Raises** all problems at once: `E_USAGE` for axes and settings that the model does not have, `E_PERTURB_...`,
    `E_INIT`.
    """
    cell = resolved_model(model)
    points = Points.of(specification, max(len(members), 1))
    treatments, push = _checked(specification, cell, len(members))
    stacked = resolve_lanes(treatments, cell.table)
    zero = slope = None
    begin = specification.times[0]
    if push is not None:
        zero, slope, begin = linear_in_dose(push, cell.kinetics)
    knobs = {axis.name: parameter(*axis.knob) for axis in specification.axes if axis.name not in QUANTITIES}
    species = len(cell.table.species)
    program = Program(
        model=cell,
        members=stack([resolved_model(member) for member in members]) if members else None,
        treatments=stacked,
        zero=zero,
        slope=slope,
        begin=jnp.asarray(begin, float),
        start=jnp.asarray(_start(specification, cell)),
        dose=jnp.asarray(specification.dose, float),
        duration=jnp.asarray(specification.duration, float),
        times=jnp.asarray(specification.times, float),
        references=jnp.zeros((0, species)),
        threshold=jnp.asarray(specification.threshold, float),
        rtol=jnp.asarray(specification.rtol, float),
        atol=jnp.asarray(specification.atol, float),
        knobs=knobs,
        sampler=_sampler(specification),
        words=key_of(jax.random.key(specification.seed)),
        search=None,
        cells=specification.cells,
        rest=specification.initial == "rest",
        stiff=False,
        moving=moving(stacked) or (slope is not None and zero is not None and moving(zero)),
        max_steps=specification.max_steps,
        record=specification.record,
    )
    known = _look_up(specification, program, points, treatments) if found is None else found
    references = jnp.asarray(known.get("attractors", {}).get("states", np.zeros((0, species))), float)
    program = dataclasses.replace(program, references=references, stiff=known["stiff"])
    if "settle" in known:
        idle = frozen(Perturbation.none(cell.table), np.inf)
        starts = box_points(cell.kinetics, idle, specification.starts, None, specification.seed)
        search = Search(jnp.asarray(starts), jnp.asarray(known["settle"], float), specification.valleys)
        program = dataclasses.replace(program, search=search)
    return Campaign(specification, points, program, known)


def _look_up(
    specification: Specification, program: Program, points: Points, treatments: Sequence[Treatment]
) -> dict[str, Any]:
    known: dict[str, Any] = {"stiff": specification.stiff}
    kinetics = program.model.kinetics
    if "fate" in specification.record:
        always = treatments[0] if len(treatments) == 1 else "none"
        totals = np.array(kinetics.default_state())
        if isinstance(specification.initial, dict):
            for name, amount in specification.initial.items():
                totals[kinetics.table.species.index(name)] = amount
        landscape = find_attractors(kinetics, always, starts=specification.starts, totals=totals)
        stable = np.flatnonzero(landscape.stable)
        if not len(stable):
            raise PinnsimError.of(
                "E_USAGE", "The model has no stable point to which a fate could refer; record 'end' or 'trajectory'."
            )
        # In an order of their own, so that names do not depend on shares of starts that may be equal.
        stable = stable[np.lexsort(np.round(landscape.states[stable], 9).T[::-1])]
        known["attractors"] = {
            "names": [f"A{k + 1}" for k in range(len(stable))],
            "states": landscape.states[stable].tolist(),
        }
    if {"landscape", "verdict"} & set(specification.record):
        known["settle"] = _settle(specification, kinetics)
    if known["stiff"] is None and specification.method != "ode":
        known["stiff"] = False
    if known["stiff"] is None:
        places = np.unique(np.linspace(0, points.count - 1, min(_LOOKED_AT, points.count)).astype(int))
        values = [points.values(int(place), int(place) + 1) for place in places]
        lanes = {name: jnp.asarray(np.concatenate([v[name] for v in values])) for name in values[0]}
        if program.rest:
            groups = np.concatenate([points.groups(int(place), int(place) + 1) for place in places])
            _, chosen, which = np.unique(groups, return_index=True, return_inverse=True)
            resting = rest_block(program, jax.tree.map(lambda column: column[chosen], lanes))
            lanes[REST] = resting[which.ravel()]
        own, acting, states = jax.jit(jax.vmap(program.before))(lanes)
        states = jnp.where(jnp.isfinite(states), states, 1.0)
        known["stiff"] = starts_stiff(kinetics, program.times, acting, states, own)
    return known


def _settle(specification: Specification, kinetics: AbstractKinetics) -> float:
    """How long lanes of the search at a point are followed. **Raises** `E_USAGE` where totals are conserved."""
    if len(conserved(kinetics, Perturbation.none(kinetics.table).at(jnp.zeros(())))):
        raise PinnsimError.of(
            "E_USAGE",
            "The model conserves totals, which the search at every point does not hold: record 'fate' instead of "
            "'landscape' and 'verdict'.",
        )
    if specification.settle is not None:
        return specification.settle
    found = find_attractors(kinetics, starts=min(specification.starts, _FEW), probes=0, seed=specification.seed)
    slowest = -found.eigenvalues[found.stable][:, 0].real.max() if found.stable.any() else math.inf
    return (1.0 + LONGER) * max(found.settle, LIFETIMES / float(slowest))


def _checked(specification: Specification, cell: Model, members: int) -> tuple[list[Treatment], Treatment | None]:
    """Treatments, and the push. Raises all problems."""
    leaves = {name: leaf for name, leaf in named_leaves(cell.kinetics).items() if leaf.dtype.kind == "f"}
    treatments: list[Treatment] = []
    push = None
    span = (specification.times[0], specification.times[-1])
    with Problems() as problems:
        texts: tuple[Any, ...] = (specification.treatment,)
        for axis in specification.axes:
            if axis.name == "treatment":
                texts = axis.values or ()
            elif axis.name == "member":
                _check_members(axis.values, members, problems)
            elif axis.name not in QUANTITIES:
                leaf, entry = axis.knob
                if leaf not in leaves:
                    problems.add(
                        "E_USAGE",
                        f"Axis '{axis.name}' is no parameter of the model{did_you_mean(leaf, leaves)}; there are "
                        f"{first(leaves, 12)}, and {', '.join(QUANTITIES)}.",
                    )
                elif entry is not None and entry >= leaves[leaf].size:
                    problems.add("E_USAGE", f"Axis '{axis.name}': '{leaf}' has {leaves[leaf].size} entries, from 0.")
        for text in texts:
            try:
                treatment = as_treatment(text)
                treatment.check(cell.table)
                treatment.check_span(*span)
                treatments.append(treatment)
            except PinnsimError as error:
                problems.absorb(error)
        if specification.push:
            try:
                push = as_treatment(specification.push)
                push.check(cell.table)
                push.check_span(*span)
            except PinnsimError as error:
                problems.absorb(error)
        if "readings" in specification.record and isinstance(cell, Bare):
            problems.add("E_USAGE", "A reaction system has no readings to record; record 'end' or 'trajectory'.")
        if isinstance(specification.initial, dict):
            for name in specification.initial:
                if name not in cell.table.species:
                    near = did_you_mean(name, cell.table.species)
                    problems.add(
                        "E_INIT",
                        f"initial names '{name}', which is no species of the model{near}; "
                        f"there are {first(cell.table.species, 8)}.",
                    )
    return treatments, push


def _sampler(specification: Specification) -> AbstractSampler | None:
    if specification.method == "ode":
        return None
    if specification.method == "langevin":
        return Langevin(specification.size, specification.dt)
    return SSA(specification.size) if specification.method == "ssa" else TauLeaping(specification.size)


def _check_members(values: tuple[Any, ...] | None, members: int, problems: Problems) -> None:
    if not members:
        problems.add("E_USAGE", "Axis 'member' goes over an ensemble, but the model is a single one.")
    odd = [value for value in values or () if value not in range(members)]
    if members and odd:
        problems.add("E_USAGE", f"Axis 'member' has {first(odd)}; there are members 0 to {members - 1}.")


def _start(specification: Specification, cell: Model) -> np.ndarray:
    """Where points start; of no meaning for rest."""
    state = np.array(cell.kinetics.default_state(), dtype=float)
    if isinstance(specification.initial, dict):
        for name, amount in specification.initial.items():
            state[cell.table.species.index(name)] = amount
    FromState(jnp.asarray(state)).check(cell)
    return state


def _axis_name(name: str) -> str:
    """The name of an axis as a variable: no slashes, which are folders."""
    return f"axis_{name.replace('/', '.').replace('[', '.').replace(']', '')}"


def _about(unit: str, attractors: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    amount = "abundance units of the model"
    codes = "0 done, 1 out of steps, 2 not finite, 3 no rest to start from, 4 not stable, 100 killed its worker"
    return {
        "outcome": {"meanings": codes},
        "end": {"units": amount, "long_name": "state at the last time"},
        "end_sd": {"units": amount, "long_name": "standard deviation over cells at the last time"},
        "trajectory": {"units": amount},
        "trajectory_sd": {"units": amount, "long_name": "standard deviation over cells"},
        "share": {"units": "1", "long_name": "share of cells that end near each attractor"},
        "readings": {"units": "those of the instrument"},
        "valley": {"meanings": "; ".join(attractors) + "; -1 near none of them"},
        "distance": {"units": "1", "long_name": "distance of logarithms of abundances to the nearest attractor"},
        "peak": {"units": amount, "long_name": "largest amount at any of the times"},
        "lowest": {"units": amount, "long_name": "smallest amount at any of the times"},
        "mean": {"units": amount, "long_name": "mean over time"},
        "reach": {"units": "1", "long_name": "largest distance from the start (log abundance)"},
        "shift": {"units": "1", "long_name": "distance from the start at the last time (log abundance)"},
        "attractors": {"long_name": "attractors of the point's own model under its treatment"},
        "attractor_state": {"units": amount, "long_name": "states of attractors, that of the start first"},
        "attractor_share": {"units": "1", "long_name": "share of the starts that flow to an attractor"},
        "attractor_rate": {"units": f"1/{unit}", "long_name": "slowest relaxation at an attractor"},
        "unsettled": {"units": "1", "long_name": "share of the starts that came to rest at no attractor kept"},
        "verdict": {"meanings": MEANINGS},
        "moved": {"meanings": "1 where the end is nearer to another attractor than the start"},
    }
