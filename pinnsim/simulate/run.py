"""`simulate`: many cells under many treatments in one compiled program."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.errors import PinnsimError, Problems
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Scalar, Times
from pinnsim.simulate.initial import AbstractInitial, AtRest
from pinnsim.simulate.many import solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome, Simulation, mask_failed, stiffness_ratio
from pinnsim.simulate.solve import Solution, solve
from pinnsim.treatment import NONE, Treatment, as_treatment, resolve_lanes
from pinnsim.tree import lane, stack

_MEMORY_LIMIT = 16e9  # bytes a result may take unless the caller raises it


def simulate(
    model: CellModel,
    times: Numbers,
    treatments: Treatment | str | Sequence[Treatment | str] = NONE,
    *,
    initial: AbstractInitial | Sequence[AbstractInitial] | None = None,
    method: ODE | None = None,
    phases: int | None = None,
    memory_limit: int | float = _MEMORY_LIMIT,
) -> Simulation:
    """Runs `model` under each treatment (a lane each) and reports states and readings at `times`.

    **Arguments:** `times`: (time,), increasing, in the model's unit; `treatments`: one or several, as objects or text
    (`"GATA1=0, signal(malate)=1@0:10"`); `initial`: one rule for all lanes or one each (default `AtRest()`: the
    culture was at rest before the first switch); `method`: default `ODE()`; `phases`: pad perturbations to this many
    phases, so that later calls with other kinds share this compilation; `memory_limit`: bytes.

    **Returns** a `Simulation` with an outcome per lane; failed lanes are NaN, others are unaffected.
    `.raise_failures()` turns them into an error.

    **Raises** `E_TIME_ORDER`, `E_TIME_FEW`, `E_TIME_UNIT`, `E_PERTURB_...`, `E_DOSE_NEGATIVE`, `E_INIT`, `E_SIZE`,
    `E_USAGE`; all problems at once.
    """
    given = [treatments] if isinstance(treatments, Treatment | str) else list(treatments)
    with Problems() as problems:
        moments = _read_times(times, problems)
        lanes = _read_treatments(given, problems)
        rules = list(initial) if isinstance(initial, Sequence) else [initial or AtRest()] * len(given)
        _check_rules(model, rules, len(given), problems)
        _check_size(model, len(given), moments.size, memory_limit, problems)
        for treatment in dict.fromkeys(lanes):
            _collect(partial(treatment.check, model.table), problems)
            if moments.ndim == 1 and moments.size > 1 and np.isfinite(moments).all():
                _collect(partial(treatment.check_span, float(moments[0]), float(moments[-1])), problems)
    method = ODE() if method is None else method
    perturbations = resolve_lanes(lanes, model.table, phases)
    span, starts = jnp.asarray(moments), stack(rules)
    begin, usable = _begin(model, perturbations, starts)
    solved = solve_many(model.kinetics, span, perturbations, begin, method)
    states, outcome, reached, readings = _reported(model, span, solved, usable, starts)
    return Simulation(
        times=span,
        states=states,
        outcome=outcome,
        reached=reached,
        readings=readings,
        lanes=_labels(lanes),
        species=model.table.species,
        genes=model.table.genes,
        time_unit=model.kinetics.time_unit,
        stiffness=_stiffness(model, perturbations, outcome, reached),
    )


@eqx.filter_jit
def _begin(model: CellModel, perturbations: Perturbation, starts: AbstractInitial) -> tuple[Array, Array]:
    """First states, (lane, species), and which lanes have one, (lane,)."""
    model = resolve(model)
    begin = jax.vmap(lambda start, p: start.state(model, p))(starts, perturbations)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(begin), axis=1)
    return jnp.where(usable[:, None], begin, 1.0), usable


@eqx.filter_jit
def _reported(
    model: CellModel, times: Times, solved: Solution, usable: Array, starts: AbstractInitial
) -> tuple[Array, Array, Array, Array]:
    found, readings = jax.vmap(partial(_checked, resolve(model), times))(solved, usable, starts)
    failed = (found.outcome != Outcome.DONE)[:, None, None]
    return mask_failed(found.states, failed), found.outcome, found.reached, mask_failed(readings, failed)


def run_one(
    model: CellModel, times: Times, method: ODE, perturbation: Perturbation, start: AbstractInitial
) -> tuple[Solution, Array]:
    """One lane: initial state, solution and readings, (time, gene). Pure and differentiable; fits map over it.
    Abundances are clipped at 0 (solver error only)."""
    state = start.state(model, perturbation)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(state))
    solution = solve(model.kinetics, times, perturbation, jnp.where(usable, state, 1.0), method)
    return _checked(model, times, solution, usable, start)


def _checked(
    model: CellModel, times: Times, solution: Solution, usable: Array, start: AbstractInitial
) -> tuple[Solution, Array]:
    kinetics = model.kinetics
    # Clipped in value only: a species that is just absent still has its full derivative.
    below = jax.lax.stop_gradient(jnp.minimum(solution.states, 0.0))
    states = solution.states - jnp.where(kinetics.material()[None], below, 0.0)
    outcome = jnp.where(
        usable, solution.outcome, Outcome.NOT_SETTLED if isinstance(start, AtRest) else Outcome.NOT_FINITE
    )
    reached = jnp.where(usable, solution.reached, times[0])
    readings = jax.vmap(model.observation.readout)(kinetics.layer(states, "rna"))
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


def _check_rules(model: CellModel, rules: Sequence[AbstractInitial], lanes: int, problems: Problems) -> None:
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


def _check_size(model: CellModel, lanes: int, times: int, limit: int | float, problems: Problems) -> None:
    species, genes = len(model.table.species), len(model.table.genes)
    need = lanes * times * (species + genes) * jnp.zeros(()).dtype.itemsize
    if need > limit:
        problems.add(
            "E_SIZE",
            f"The result needs {need / 1e9:.1f} GB ({lanes} lanes x {times} times x {species} species and {genes} "
            f"readings), limit {limit / 1e9:.1f} GB; run fewer lanes or times per call, or raise memory_limit.",
        )


def _collect(check: Callable[[], None], problems: Problems) -> None:
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


def _stiffness(model: CellModel, perturbations: Perturbation, outcome: Array, reached: Array) -> tuple[float, ...]:
    """Stiffness ratio at the default state, under what acts where a failed lane stopped (1 for lanes that are done):
    what the error message advises from."""
    codes = np.asarray(outcome)

    def ratio(index: int) -> float:
        return stiffness_ratio(_jacobian(model, lane(perturbations, index), reached[index]))

    return tuple(1.0 if code == Outcome.DONE else ratio(index) for index, code in enumerate(codes))


@eqx.filter_jit
def _jacobian(model: CellModel, perturbation: Perturbation, time: Scalar) -> Array:
    kinetics = resolve(model.kinetics)
    return jax.jacfwd(kinetics.vector_field, argnums=1)(time, kinetics.default_state(), perturbation)
