"""What is worked out at each point, as one compiled program of a fixed shape.

Points are worked on in blocks of `block`: point k always lies at place `k mod block` of a call of one and the same
program, whatever the size of chunks, the number of workers or the order. What is asked of only a part of a block (a
chunk's end, a bisected chunk) fills the other places with points of that part. So numbers are equal to the last bit
where lanes do not see one another, which they do not: a lane's steps, outcome and end are its own.
"""

import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.coordinates import coordinates, distance, floors, frozen
from pinnsim.landscape.system import ParameterKnob
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import lane_key
from pinnsim.shapes import Scalar, State, Times
from pinnsim.simulate import Outcome
from pinnsim.simulate.adaptive import Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.initial import AtRest, Bare, Model
from pinnsim.simulate.many import lanes_in_cache
from pinnsim.simulate.newton import equations
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.sampler import AbstractSampler
from pinnsim.simulate.solve import Solution
from pinnsim.sweep.engine import Stopped, Stopping
from pinnsim.sweep.points import Points
from pinnsim.sweep.valleys import RAW, Search, judged
from pinnsim.tree import path_name, replaced

NOWHERE = -1
NUMBER = "#"  # a point's number, among the names of axes
REST = "rest"  # where a point rests before it is pushed, likewise
Lanes = dict[str, Array]


class Program(eqx.Module):
    """What all points share.

    **Arguments:** `model`: resolved; `members`: its ensemble, stacked, or `None`; `treatments`: stacked, what acts all
    the time; `zero`, `slope`: the push at dose 0 and per unit of dose, or `None`; `begin`: when it begins; `start`:
    (species,), or NaN for rest; `dose`, `duration`: where they do not vary; `references`: (point, species), attractors
    that fates refer to; `threshold`; `rtol`, `atol`; `knobs`: numbers of the model that vary, by their axes' names;
    `sampler`: what draws `cells` cells, or `None` for rate equations; `words`: of the campaign's random key; `rest`,
    `stiff`, `moving`, `max_steps`, `record`: choices.
    """

    model: Model
    members: Model | None
    treatments: Perturbation
    zero: Perturbation | None
    slope: Perturbation | None
    begin: Scalar
    start: State
    dose: Scalar
    duration: Scalar
    times: Times
    references: Float[Array, "attractor species"]
    threshold: Scalar
    rtol: Scalar
    atol: Scalar
    knobs: dict[str, ParameterKnob]
    sampler: AbstractSampler | None
    words: UInt32[Array, " 2"]
    search: Search | None
    rest: bool = eqx.field(static=True)
    stiff: bool = eqx.field(static=True)
    moving: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    record: tuple[str, ...] = eqx.field(static=True)
    devices: int = eqx.field(static=True, default=1)

    def cell(self, lane: Lanes) -> Model:
        """The model of a point."""
        model = self.model
        if self.members is not None and "member" in lane:
            arrays, rest = eqx.partition(self.members, eqx.is_array)
            model = eqx.combine(jax.tree.map(lambda leaf: leaf[lane["member"]], arrays), rest)
        kinetics, idle = model.kinetics, Perturbation.none(model.table).at(jnp.zeros(()))
        for name, knob in self.knobs.items():
            kinetics, _ = knob.turned(kinetics, idle, lane[name])
        return eqx.tree_at(lambda m: m.kinetics, model, kinetics)

    def treatment(self, lane: Lanes) -> Perturbation:
        """What acts at a point all the time."""
        which = lane.get("treatment", jnp.zeros((), int))
        return jax.tree.map(lambda leaf: leaf[which], self.treatments)

    def perturbation(self, lane: Lanes) -> Perturbation:
        """What acts at a point."""
        acting = self.treatment(lane)
        if self.zero is None or self.slope is None:
            return acting
        dose, duration = lane.get("dose", self.dose), lane.get("duration", self.duration)
        scaled = jax.tree.map(lambda zero, slope: zero + dose * slope, self.zero, self.slope)
        # A push of no duration never starts: an interval of no length would still set held species.
        start = jnp.where(duration > 0, scaled.start, jnp.inf)
        stop = start + jnp.where(jnp.isfinite(start), duration, 0.0)
        return eqx.tree_at(lambda p: (p.start, p.stop), scaled, (start, stop)).compose(acting)

    def before(self, lane: Lanes) -> tuple[dict[str, Array], Perturbation, State]:
        """Numbers of the model that are this point's own, what acts, and where it starts (at its rest: as given)."""
        model, acting = self.cell(lane), self.perturbation(lane)
        own = _named(model.kinetics)
        if self.members is None or "member" not in lane:
            own = {name: leaf for name, leaf in own.items() if name in {knob.leaf for knob in self.knobs.values()}}
        return own, acting, lane[REST] if self.rest else self.start

    def after(self, lane: Lanes, begin: State, usable: Array, found: Solution) -> Lanes:
        """What is kept of a point."""
        model = self.cell(lane)
        states = jnp.where(model.kinetics.material()[None], jnp.maximum(found.states, 0.0), found.states)
        outcome = jnp.where(usable, found.outcome, Outcome.NOT_SETTLED.value if self.rest else Outcome.NOT_FINITE.value)
        outcome = jnp.where(
            (outcome == Outcome.DONE) & ~jnp.all(jnp.isfinite(states)), Outcome.NOT_FINITE.value, outcome
        )
        done = outcome == Outcome.DONE
        states = jnp.where(done, states, jnp.nan)
        kept: Lanes = {"outcome": outcome.astype(jnp.int16)}
        if "end" in self.record:
            kept["end"] = states[-1]
        if "trajectory" in self.record:
            kept["trajectory"] = states
        if "readings" in self.record and isinstance(model, CellModel):
            kept["readings"] = jax.vmap(model.observation.readout)(model.kinetics.layer(states, "rna"))
        if "summary" in self.record:
            kept |= self.summary(begin, states)
        if "fate" in self.record:
            first, _ = self.nearest(begin)
            valley, gap = self.nearest(states[-1])
            settled = done & (gap <= self.threshold)
            kept["valley"] = jnp.where(settled, valley, NOWHERE).astype(jnp.int16)
            kept["distance"] = jnp.where(done, gap, jnp.nan)
            kept["moved"] = jnp.where(done, valley != first, False).astype(jnp.int8)
        return kept

    def summary(self, begin: State, states: Float[Array, "time species"]) -> Lanes:
        """A course in a few numbers: extremes and time means of amounts, and how far it went from where it began."""
        floor, material = floors(self.model.kinetics), self.model.kinetics.material()
        there, here = coordinates(states, floor, material), coordinates(begin, floor, material)
        gaps = distance(there, jnp.broadcast_to(here, there.shape))
        spans = jnp.diff(self.times)[:, None]
        mean = jnp.sum(0.5 * spans * (states[1:] + states[:-1]), axis=0) / (self.times[-1] - self.times[0])
        return {
            "peak": jnp.max(states, axis=0),
            "lowest": jnp.min(states, axis=0),
            "mean": mean,
            "reach": jnp.max(gaps),
            "shift": gaps[-1],
        }

    def after_cells(self, lane: Lanes, begin: State, usable: Array, found: Solution) -> Lanes:
        """What is kept of a point with cells: means and standard deviations over those that are done."""
        material = self.cell(lane).kinetics.material()
        states = jnp.where(material[None, None], jnp.maximum(found.states, 0.0), found.states)
        outcome = jnp.where(usable, found.outcome, Outcome.NOT_SETTLED.value if self.rest else Outcome.NOT_FINITE.value)
        done = outcome == Outcome.DONE
        count = jnp.sum(done).astype(states.dtype)
        weight = jnp.where(done, 1.0, 0.0)[:, None, None]
        mean = jnp.sum(weight * jnp.where(done[:, None, None], states, 0.0), axis=0) / count
        gap = jnp.where(done[:, None, None], states, 0.0) - mean[None]
        sd = jnp.sqrt(jnp.sum(weight * gap**2, axis=0) / (count - 1.0))
        kept: Lanes = {"outcome": jnp.max(outcome).astype(jnp.int16)}
        if "end" in self.record:
            kept["end"], kept["end_sd"] = mean[-1], sd[-1]
        if "trajectory" in self.record:
            kept["trajectory"], kept["trajectory_sd"] = mean, sd
        if "fate" in self.record:
            valley, distances = jax.vmap(self.nearest)(states[:, -1])
            settled = done & (distances <= self.threshold)
            here = settled[:, None] & (valley[:, None] == jnp.arange(self.references.shape[0])[None])
            kept["share"] = jnp.sum(here, axis=0).astype(states.dtype) / count
        return kept

    def nearest(self, state: State) -> tuple[Array, Scalar]:
        """The attractor of the unvaried model that a state is nearest to, and how far it is."""
        floor, material = floors(self.model.kinetics), self.model.kinetics.material()
        known, here = coordinates(self.references, floor, material), coordinates(state, floor, material)
        gaps = distance(jnp.broadcast_to(here, known.shape), known)
        return jnp.argmin(gaps), jnp.min(gaps)


@eqx.filter_jit
def rest_block(program: Program, lanes: Lanes) -> Array:
    """Where points rest before they are pushed, (point, species)."""
    return jax.vmap(lambda lane: AtRest().state(program.cell(lane), program.perturbation(lane)))(lanes)


def rests(program: Program, points: Points, block: int, start: int, stop: int) -> np.ndarray:
    """Where points `start` to `stop` rest before they are pushed, (point, species).

    Points that differ in dose and duration alone rest alike: group g of them is worked out once, at place `g mod width`
    of a call, as points are.
    """
    groups, values = points.groups(start, stop), points.values(start, stop)
    width = min(block, points.group_count)
    found: dict[int, np.ndarray] = {}
    for number in np.unique(groups // width):
        here = np.flatnonzero(groups // width == number)
        member = np.full(width, here[0])
        member[groups[here] % width] = here
        lanes = {name: _device(column[member]) for name, column in {**values, NUMBER: np.arange(start, stop)}.items()}
        states = np.asarray(rest_block(program, lanes))
        found |= {int(group): states[group % width] for group in np.unique(groups[here])}
    return np.stack([found[int(group)] for group in groups])


@eqx.filter_jit
def run_block(program: Program, lanes: Lanes) -> Lanes:
    """All points of a block, arrays (block, ...)."""
    own, acting, states = jax.vmap(program.before)(lanes)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(states), axis=1)
    states = jnp.where(usable[:, None], states, 1.0)
    if program.sampler is not None:
        return jax.vmap(program.after_cells)(lanes, states, usable, _sampled(program, lanes, own, acting, states))
    pair = Rodas() if program.stiff else Tsitouras()

    def one(shared: tuple, lane: tuple) -> Solution:
        kinetics, times, rtol, atol = shared
        own, acting, state = lane
        limits = Limits(rtol, atol, program.max_steps)
        return integrate(replaced(kinetics, own), times, acting, state, pair, limits, program.moving)

    kinetics = program.model.kinetics
    width = _width(program, states)
    shared = (kinetics, program.times, program.rtol, program.atol)
    found = run_lanes(one, shared, (own, acting, states), block=width, devices=program.devices)
    kept = jax.vmap(program.after)(lanes, states, usable, found)
    return kept if program.search is None else kept | _searched(program, lanes, own, states, found.states[:, -1])


def _width(program: Program, states: Array) -> int | None:
    """Lanes in lockstep: on a processor as many for one device as for four, so that a lane rounds alike on all."""
    usual = lanes_in_cache(states, equations(program.model.kinetics) if program.stiff else 0)
    return None if usual is None else min(usual, max(states.shape[0] // 4, 1))


def _searched(program: Program, lanes: Lanes, own: dict[str, Array], begin: Array, end: Array) -> Lanes:
    """Where the lanes of the search for valleys come to rest, (point, ...)."""
    search, kinetics = program.search, program.model.kinetics
    if search is None:
        raise RuntimeError("no valleys are looked for")
    pair = Rodas() if program.stiff else Tsitouras()
    always = jax.vmap(lambda lane: frozen(program.treatment(lane), jnp.inf))(lanes)
    starts = search.lanes(begin, end)
    points, count = starts.shape[:2]

    def one(shared: tuple, place: tuple[Array, Array]) -> Solution:
        kinetics, times, own, always, starts, rtol, atol = shared
        which, start = place
        mine = {name: leaf[which] for name, leaf in own.items()}
        acts = jax.tree.map(lambda leaf: leaf[which], always)
        limits = Limits(rtol, atol, program.max_steps)
        return integrate(replaced(kinetics, mine), times, acts, starts[which, start], pair, limits, False)

    shared = (kinetics, search.times, own, always, starts, program.rtol, program.atol)
    places = (jnp.repeat(jnp.arange(points), count), jnp.tile(jnp.arange(count), points))
    width = _width(program, begin)
    found = run_lanes(one, shared, places, block=width, devices=program.devices)
    found = jax.tree.map(lambda array: array.reshape(points, count, *array.shape[1:]), found)

    def gathered(mine: dict[str, Array], acts: Perturbation, found: Solution) -> Lanes:
        return search.gathered(replaced(kinetics, mine), acts, found)

    return jax.vmap(gathered)(own, always, found)


def _sampled(program: Program, lanes: Lanes, own: dict[str, Array], acting: Perturbation, states: Array) -> Solution:
    """Cells of every point, (point, cell, ...): the key of cell c at point k is `fold_in(fold_in(key, k), c)`."""
    sampler = program.sampler
    if sampler is None:
        raise RuntimeError("only samplers draw cells")
    points, cells = states.shape[0], program.cells

    def one(shared: tuple, place: tuple[Array, Array]) -> Solution:
        sampler, kinetics, times, own, acting, states, words, numbers = shared
        which, cell = place
        mine = {name: leaf[which] for name, leaf in own.items()}
        acts = jax.tree.map(lambda leaf: leaf[which], acting)
        key = lane_key(lane_key(words, numbers[which]), cell)
        return sampler.sample(replaced(kinetics, mine), times, acts, states[which], key)

    shared = (
        sampler, program.model.kinetics, program.times, own, acting, states, program.words, lanes[NUMBER],
    )  # fmt: skip
    places = (jnp.repeat(jnp.arange(points), cells), jnp.tile(jnp.arange(cells), points))
    found = run_lanes(one, shared, places, devices=program.devices)
    return jax.tree.map(lambda array: array.reshape(points, cells, *array.shape[1:]), found)


def compute(
    program: Program, points: Points, block: int, start: int, stop: int, stopping: Stopping | None = None
) -> dict[str, np.ndarray]:
    """What is kept of points `start` to `stop`, (point, ...).

    **Arguments:** `stopping`: asked between blocks. **Raises** `Stopped`.
    """
    parts = []
    # Before the first block: points that rest alike lie in many blocks.
    values = columns(program, points, block, start, stop)
    for number in range(start // block, -(-stop // block)):
        if stopping is not None and stopping():
            raise Stopped
        first, last = max(start, number * block), min(stop, (number + 1) * block)
        places = np.arange(number * block, (number + 1) * block)
        inside = np.clip(places, first, last - 1) - start
        lanes = {name: _device(column[inside]) for name, column in values.items()}
        found = {name: np.asarray(column) for name, column in run_block(program, lanes).items()}
        wanted = slice(first - number * block, last - number * block)
        parts.append(kept({name: column[wanted] for name, column in found.items()}, program))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def columns(program: Program, points: Points, block: int, start: int, stop: int) -> dict[str, np.ndarray]:
    """What points `start` to `stop` have of their own, (point, ...)."""
    found = {**points.values(start, stop), NUMBER: np.arange(start, stop)}
    return {**found, REST: rests(program, points, block, start, stop)} if program.rest else found


def kept(found: Mapping[str, np.ndarray], program: Program) -> dict[str, np.ndarray]:
    """What is kept of what a block gave: what only the host can judge is judged."""
    plain = {name: column for name, column in found.items() if not name.startswith(RAW)}
    if program.search is None:
        return plain
    return plain | judged(found, np.asarray(program.model.kinetics.material()), program.record)


def _device(column: np.ndarray) -> Array:
    return jnp.asarray(column, dtype=int if column.dtype.kind == "i" else float)


def _named(kinetics: AbstractKinetics) -> dict[str, Array]:
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(kinetics, eqx.is_array))[0]
    return {path_name(path): leaf for path, leaf in leaves}


def shapes(program: Program, points: Points, block: int) -> Mapping[str, Any]:
    """Shape and dtype of what is kept of a block, without working it out, (point, ...)."""
    values = {**points.values(0, 1), NUMBER: np.arange(1), REST: np.zeros((1, len(program.model.table.species)))}
    lanes = {name: _device(np.repeat(column, block, axis=0)) for name, column in values.items()}
    found = eqx.filter_eval_shape(functools.partial(run_block, program), lanes)
    # One point of zeros shows what the host makes of it.
    return kept({name: np.zeros((1, *kind.shape[1:]), kind.dtype) for name, kind in found.items()}, program)


def resolved_model(model: CellModel | AbstractKinetics) -> Model:
    """A model with its parameters resolved."""
    return resolve(Bare(model) if isinstance(model, AbstractKinetics) else model)
