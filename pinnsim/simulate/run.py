"""`simulate`: many cells under many treatments in one compiled program."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.learned_rate import as_written
from pinnsim.dynamics.rules import RuleSystem, packed
from pinnsim.errors import PinnsimError, Problems
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Scalar, Times, Trajectory
from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.initial import AbstractInitial, AsWritten, AtRest, Bare, Model
from pinnsim.simulate.jumps import check_fluctuations, jumps_of
from pinnsim.simulate.linear_noise import LinearNoise, NoiseSolution, linear_noise
from pinnsim.simulate.many import solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.moments import Moments
from pinnsim.simulate.result import Outcome, Simulation, mask_failed, stiffness_ratio
from pinnsim.simulate.sampler import AbstractSampler, Key
from pinnsim.simulate.solve import Solution, solve
from pinnsim.simulate.ssa import SSA
from pinnsim.simulate.surrogate import AbstractSurrogate, solve_certified
from pinnsim.simulate.switches import refuse_events, with_own_switches
from pinnsim.treatment import NONE, Treatment, as_treatment, resolve_lanes
from pinnsim.tree import lane, stack

Treatments: TypeAlias = Treatment | str | Sequence[Treatment | str]
Initial: TypeAlias = AbstractInitial | Sequence[AbstractInitial] | None

_MEMORY_LIMIT = 16e9  # bytes a result may take unless the caller raises it


@overload
def simulate(
    model: CellModel | AbstractKinetics,
    times: Numbers,
    treatments: Treatments = ...,
    *,
    initial: Initial = ...,
    method: ODE | AbstractSurrogate | None = ...,
    phases: int | None = ...,
    memory_limit: int | float = ...,
) -> Simulation: ...
@overload
def simulate(
    model: CellModel | AbstractKinetics,
    times: Numbers,
    treatments: Treatments = ...,
    *,
    initial: Initial = ...,
    method: LinearNoise,
    phases: int | None = ...,
    memory_limit: int | float = ...,
) -> Moments: ...
@overload
def simulate(
    model: CellModel | AbstractKinetics,
    times: Numbers,
    treatments: Treatments = ...,
    *,
    initial: Initial = ...,
    method: AbstractSampler,
    key: Key,
    cells: int = ...,
    phases: int | None = ...,
    memory_limit: int | float = ...,
) -> Ensemble: ...
def simulate(
    model: CellModel | AbstractKinetics,
    times: Numbers,
    treatments: Treatments = NONE,
    *,
    initial: Initial = None,
    method: ODE | LinearNoise | AbstractSampler | AbstractSurrogate | None = None,
    key: Key | None = None,
    cells: int = 100,
    phases: int | None = None,
    memory_limit: int | float = _MEMORY_LIMIT,
) -> Simulation | Moments | Ensemble:
    """Runs `model` under each treatment (a lane each) and reports states and readings at `times`.

    **Arguments:** `model`: a cell model, or kinetics alone (a reaction system), which have no readings; `times`:
    (time,), increasing, in the model's unit; `treatments`: one or several, as objects or text (`"GATA1=0,
    signal(malate)=1@0:10"`); `initial`: one rule for all lanes or one each (default `AtRest()`: the culture was at rest
    before the first switch; of imported models `AsWritten()`, what the file says); `method`: `ODE()` (default),
    `LinearNoise(size)`, or a sampler: `SSA(size)`, `Langevin(size, dt)`, `TauLeaping(size)`, `Diffusion(...)`, or a
    learned operator with its fallback, `pinnsim.operator.Operator(...)`, whose answers are taken where they are
    certified; `key`, `cells`: for samplers, a JAX key and the number of cells per treatment, of which those with one
    number share their random numbers; `phases`: pad perturbations to this many phases, so that later calls with other
    kinds share this compilation; `memory_limit`:
    bytes.

    **Returns** a `Simulation`, `Moments` or an `Ensemble`, with an outcome per lane (and cell); what failed is NaN,
    others are unaffected. `.raise_failures()` turns them into an error.

    **Raises** `E_TIME_ORDER`, `E_TIME_FEW`, `E_TIME_UNIT`, `E_PERTURB_...`, `E_DOSE_NEGATIVE`, `E_INIT`, `E_SIZE`,
    `E_USAGE`; all problems at once.
    """
    given = [treatments] if isinstance(treatments, Treatment | str) else list(treatments)
    method = ODE() if method is None else method
    cell = Bare(model) if isinstance(model, AbstractKinetics) else model
    with Problems() as problems:
        moments = _read_times(times, problems)
        lanes = _read_treatments(given, problems)
        usual = AsWritten() if isinstance(as_written(cell.kinetics), RuleSystem) else AtRest()
        rules = list(initial) if isinstance(initial, Sequence) else [initial or usual] * len(given)
        _check_rules(cell, rules, len(given), problems)
        _check_size(cell, method, len(given), cells, moments.size, memory_limit, problems)
        if isinstance(method, AbstractSampler) and key is None:
            problems.add("E_USAGE", "Sampled cells need random numbers: give key=jax.random.key(0), or another.")
        if isinstance(method, LinearNoise) and isinstance(cell.kinetics, RuleSystem):
            _collect(partial(check_fluctuations, cell.kinetics), problems)
        if not isinstance(method, ODE | SSA | LinearNoise):
            _collect(partial(refuse_events, cell.kinetics, type(method).__name__), problems)
        if isinstance(method, SSA) and isinstance(cell.kinetics, RuleSystem):
            _collect(partial(jumps_of, cell.kinetics), problems)
        written = as_written(cell.kinetics)
        if written is not cell.kinetics and isinstance(written, RuleSystem) and not isinstance(method, ODE):
            problems.add(
                "E_USAGE",
                "A model of reactions and rules with a learned rate is solved by ODE() only: its rates may have either "
                "sign; write it as a reaction system, one reaction per direction, for jumps and noise.",
            )
        for treatment in dict.fromkeys(lanes):
            _collect(partial(treatment.check, cell.table), problems)
            if moments.ndim == 1 and moments.size > 1 and np.isfinite(moments).all():
                _collect(partial(treatment.check_span, float(moments[0]), float(moments[-1])), problems)
    perturbations = with_own_switches(cell.kinetics, resolve_lanes(lanes, cell.table, phases))
    span, starts = jnp.asarray(moments), stack(rules)
    ready = Bare(packed(resolve(model))) if isinstance(model, RuleSystem) else cell
    begin, usable = _begin(ready, perturbations, starts)
    if isinstance(method, AbstractSampler) and key is not None:
        cloud = sample_cells(method, cell.kinetics, span, perturbations, begin, key, cells, _labels(lanes))
        outcome = jnp.where(usable[:, None], cloud.outcome, _no_start(starts))
        states = mask_failed(cloud.states, ~usable[:, None, None, None])
        return eqx.tree_at(lambda e: (e.outcome, e.states), cloud, (outcome, states))
    if isinstance(method, LinearNoise):
        found = _moments(cell, span, perturbations, begin, method)
        outcome = jnp.where(usable, found.outcome, _no_start(starts))
        failed = (outcome != Outcome.DONE)[:, None, None]
        return Moments(
            times=span,
            mean=mask_failed(found.mean, failed),
            covariance=mask_failed(found.covariance, failed[..., None]),
            outcome=outcome,
            reached=found.reached,
            size=method.size,
            lanes=_labels(lanes),
            species=cell.table.species,
            time_unit=cell.kinetics.time_unit,
            stiffness=_stiffness(cell, perturbations, outcome, found.reached),
        )
    certificate = None
    if isinstance(method, AbstractSurrogate):
        solved, certificate = solve_certified(method, cell.kinetics, span, perturbations, begin)
    elif isinstance(method, ODE):
        solved = solve_many(cell.kinetics, span, perturbations, begin, method)
    else:
        raise PinnsimError.of("E_USAGE", f"Argument `method` is no method, but {type(method).__name__}.")
    states, outcome, reached, readings = _reported(cell, span, solved, usable, starts)
    return Simulation(
        times=span,
        states=states,
        outcome=outcome,
        reached=reached,
        readings=readings,
        lanes=_labels(lanes),
        species=cell.table.species,
        genes=cell.table.genes,
        time_unit=cell.kinetics.time_unit,
        stiffness=_stiffness(cell, perturbations, outcome, reached),
        certificate=certificate,
    )


def _no_start(starts: AbstractInitial) -> int:
    """The outcome of a lane whose rule gave no state."""
    return Outcome.NOT_SETTLED.value if isinstance(starts, AtRest) else Outcome.NOT_FINITE.value


@eqx.filter_jit
def _moments(
    model: Model, times: Times, perturbations: Perturbation, begin: Array, method: LinearNoise
) -> NoiseSolution:
    kinetics = resolve(model.kinetics)
    return jax.vmap(lambda p, state: linear_noise(kinetics, times, p, state, method))(perturbations, begin)


@eqx.filter_jit
def _begin(model: Model, perturbations: Perturbation, starts: AbstractInitial) -> tuple[Array, Array]:
    """First states, (lane, species), and which lanes have one, (lane,)."""
    model = resolve(model)
    begin = jax.vmap(lambda start, p: start.state(model, p))(starts, perturbations)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(begin), axis=1)
    return jnp.where(usable[:, None], begin, 1.0), usable


@eqx.filter_jit
def _reported(
    model: Model, times: Times, solved: Solution, usable: Array, starts: AbstractInitial
) -> tuple[Array, Array, Array, Array | None]:
    found, readings = jax.vmap(partial(_checked, resolve(model), times))(solved, usable, starts)
    failed = (found.outcome != Outcome.DONE)[:, None, None]
    shown = None if readings is None else mask_failed(readings, failed)
    return mask_failed(found.states, failed), found.outcome, found.reached, shown


def run_one(
    model: CellModel, times: Times, method: ODE, perturbation: Perturbation, start: AbstractInitial
) -> tuple[Solution, Array]:
    """One lane: initial state, solution and readings, (time, gene). Pure and differentiable; fits map over it.
    Abundances are clipped at 0 (solver error only)."""
    state = start.state(model, perturbation)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(state))
    solution = solve(model.kinetics, times, perturbation, jnp.where(usable, state, 1.0), method)
    checked, _ = _checked(model, times, solution, usable, start)
    return checked, readings_of(model, checked.states)


def readings_of(model: CellModel, states: Trajectory) -> Array:
    """What the instrument would show, (time, gene)."""
    return jax.vmap(model.observation.readout)(model.kinetics.layer(states, "rna"))


def _checked(
    model: Model, times: Times, solution: Solution, usable: Array, start: AbstractInitial
) -> tuple[Solution, Array | None]:
    kinetics = model.kinetics
    # Clipped in value only: a species that is just absent still has its full derivative.
    below = jax.lax.stop_gradient(jnp.minimum(solution.states, 0.0))
    states = solution.states - jnp.where(kinetics.material()[None], below, 0.0)
    outcome = jnp.where(usable, solution.outcome, _no_start(start))
    reached = jnp.where(usable, solution.reached, times[0])
    readings = None if isinstance(model, Bare) else readings_of(model, states)
    return Solution(states, outcome, reached), readings


def _read_times(times: Numbers, problems: Problems) -> np.ndarray:
    """Times on the host in the session's precision: checking must not add a device transfer or a wider type."""
    try:
        moments = np.asarray(times, dtype=np.dtype(jnp.zeros(()).dtype))
    except (TypeError, ValueError):
        problems.add("E_TIME_UNIT", "Argument `times` must be plain numbers in the model's time unit.")
        return np.zeros(0)
    if moments.ndim != 1 or moments.size < 2:
        problems.add(
            "E_TIME_FEW", f"Argument `times` needs at least 2 times in one dimension, but has shape {moments.shape}."
        )
    elif not np.isfinite(moments).all():
        k = int(np.argmin(np.isfinite(moments)))
        problems.add("E_TIME_UNIT", f"Argument `times` must be finite numbers, but times[{k}] is {moments[k]}.")
    elif (np.diff(moments) <= 0).any():
        k = int(np.argmax(np.diff(moments) <= 0))
        problems.add(
            "E_TIME_ORDER",
            f"Argument `times` must be strictly increasing, but times[{k + 1}]={moments[k + 1]} follows {moments[k]}.",
        )
    return moments


def _read_treatments(given: Sequence[Treatment | str], problems: Problems) -> list[Treatment]:
    if not given:
        problems.add("E_USAGE", "Argument `treatments` is empty; give at least one, for example 'none'.")
    lanes = []
    for item in given:
        try:
            lanes.append(as_treatment(item))
        except PinnsimError as error:
            problems.absorb(error)
    return lanes


def _check_rules(model: Model, rules: Sequence[AbstractInitial], lanes: int, problems: Problems) -> None:
    if len(rules) != lanes:
        problems.add(
            "E_USAGE",
            f"Argument `initial` has {len(rules)} rules for {lanes} treatments; give one for all, or one each.",
        )
    distinct = list({id(rule): rule for rule in rules}.values())
    if len({jax.tree.structure(rule) for rule in distinct}) > 1:
        problems.add("E_USAGE", "Argument `initial` mixes kinds of rules; one call takes one kind.")
    for rule in distinct:
        _collect(partial(rule.check, model), problems)


def _check_size(
    model: Model, method: Any, lanes: int, cells: int, times: int, limit: int | float, problems: Problems
) -> None:
    species = len(model.table.species)
    each, what = species, f"{species} species"
    if isinstance(method, AbstractSampler):
        each, what = cells * species, f"{cells} cells x {species} species"
    elif isinstance(method, LinearNoise):
        each, what = species * (species + 1), f"{species} means and {species} x {species} covariances"
    elif not isinstance(model, Bare):
        each, what = species + len(model.table.genes), f"{species} species and {len(model.table.genes)} readings"
    need = lanes * times * each * jnp.zeros(()).dtype.itemsize
    if need > limit:
        problems.add(
            "E_SIZE",
            f"The result needs {need / 1e9:.1f} GB ({lanes} lanes x {times} times x {what}), limit {limit / 1e9:.1f} "
            "GB; run fewer lanes or times per call, or raise memory_limit.",
        )


def _collect(check: Callable[[], object], problems: Problems) -> None:
    try:
        check()
    except PinnsimError as error:
        problems.absorb(error)


def _labels(lanes: Sequence[Treatment]) -> tuple[str, ...]:
    """The text of each treatment; repeated ones are numbered, because lanes are found by name."""
    texts = [str(t) for t in lanes]
    total, so_far, labels = Counter(texts), Counter[str](), []
    for text in texts:
        so_far[text] += 1
        labels.append(text if total[text] == 1 else f"{text} #{so_far[text]}")
    return tuple(labels)


def _stiffness(model: Model, perturbations: Perturbation, outcome: Array, reached: Array) -> tuple[float, ...]:
    """Stiffness ratio at the default state, under what acts where a failed lane stopped (1 for lanes that are done):
    what the error message advises from."""
    codes = np.asarray(outcome)

    def ratio(index: int) -> float:
        return stiffness_ratio(_jacobian(model, lane(perturbations, index), reached[index]))

    return tuple(1.0 if code == Outcome.DONE else ratio(index) for index, code in enumerate(codes))


@eqx.filter_jit
def _jacobian(model: Model, perturbation: Perturbation, time: Scalar) -> Array:
    kinetics = resolve(model.kinetics)
    return jax.jacfwd(kinetics.vector_field, argnums=1)(time, kinetics.default_state(), perturbation)
