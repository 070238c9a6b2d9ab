"""`simulate`: many cells under many treatments in one compiled program."""

from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from pinnsim.errors import PinnsimError, Problems
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Times
from pinnsim.simulate.initial import AbstractInitial, AtRest
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome, Simulation, mask_failed, stiffness_ratio
from pinnsim.simulate.solve import Solution, solve
from pinnsim.treatment import NONE, Treatment, as_treatment

_MEMORY_LIMIT = 16e9  # bytes a result may take unless the caller raises it


def simulate(
    model: CellModel,
    times: ArrayLike,
    treatments: Treatment | str | Sequence[Treatment | str] = NONE,
    *,
    initial: AbstractInitial | Sequence[AbstractInitial] | None = None,
    method: ODE | None = None,
    phases: int | None = None,
    memory_limit: float = _MEMORY_LIMIT,
) -> Simulation:
    """Runs `model` under each treatment (a lane each) and reports states and readings at `times`.

    **Arguments:** `times`: (time,), increasing, in the model's unit; `treatments`: one or several, as objects or text (`"GATA1=0, signal(malate)=1@0:10"`);
    `initial`: one rule for all lanes or one each (default `AtRest()`: the culture was at rest before the first switch); `method`: default `ODE()`;
    `phases`: pad perturbations to this many phases, so that later calls with other kinds share this compilation; `memory_limit`: bytes.

    **Returns** a `Simulation` with an outcome per lane; failed lanes are NaN, others are unaffected. `.raise_failures()` turns them into an error.

    **Raises** `E_TIME_ORDER`, `E_PERTURB_...`, `E_DOSE_NEGATIVE`, `E_INIT`, `E_SIZE`; all problems at once.
    """
    # Host values in the session's precision: checking must not add a device transfer or a wider type.
    moments = np.asarray(times, dtype=np.dtype(jnp.zeros(()).dtype))
    lanes = [as_treatment(t) for t in ([treatments] if isinstance(treatments, (Treatment, str)) else treatments)]
    rules = list(initial) if isinstance(initial, Sequence) else [initial or AtRest()] * len(lanes)
    _check(model, moments, lanes, rules, memory_limit)
    method = ODE() if method is None else method
    resolved = [t.resolve(model.table, phases) for t in lanes]
    perturbations = Perturbation.stack(resolved)
    arrays = [eqx.filter(rule, eqx.is_array) for rule in rules]
    starts = eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays), eqx.filter(rules[0], eqx.is_array, inverse=True))
    states, outcome, reached, readings = _run(model, jnp.asarray(moments), perturbations, starts, method)
    return Simulation(
        times=jnp.asarray(moments), states=states, outcome=outcome, reached=reached, readings=readings, lanes=_labels(lanes), species=model.table.species,
        genes=model.table.genes, time_unit=model.kinetics.time_unit, stiffness=_stiffness(model, perturbations, outcome),
    )  # fmt: skip


@eqx.filter_jit
def _run(model: CellModel, times: Times, perturbations: Perturbation, starts: AbstractInitial, method: ODE) -> tuple[Array, Array, Array, Array]:
    model = resolve(model)
    solved, readings = jax.vmap(partial(run_one, model, times, method))(perturbations, starts)
    failed = (solved.outcome != Outcome.DONE)[:, None, None]
    return mask_failed(solved.states, failed), solved.outcome, solved.reached, mask_failed(readings, failed)


def run_one(model: CellModel, times: Times, method: ODE, perturbation: Perturbation, start: AbstractInitial) -> tuple[Solution, Array]:
    """One lane: initial state, solution and readings, (time, gene). Pure; fits and sweeps map over it. Abundances are clipped at 0 (solver error only)."""
    kinetics = model.kinetics
    state = start.state(model, perturbation)
    # A state that is not a number would keep an adaptive solver busy; any number does, and the lane is marked.
    usable = jnp.all(jnp.isfinite(state))
    solution = solve(kinetics, times, perturbation, jnp.where(usable, state, 1.0), method)
    states = jnp.where(kinetics.material(), jnp.maximum(solution.states, 0.0), solution.states)
    outcome = jnp.where(usable, solution.outcome, Outcome.NOT_SETTLED if isinstance(start, AtRest) else Outcome.NOT_FINITE)
    reached = jnp.where(usable, solution.reached, times[0])
    readings = jax.vmap(model.observation.readout)(kinetics.layer(states, "rna"))
    return Solution(states, outcome, reached), readings


def _check(model: CellModel, times: np.ndarray, lanes: Sequence[Treatment], rules: Sequence[AbstractInitial], limit: float) -> None:
    with Problems() as problems:
        if not lanes:
            problems.add("E_USAGE", "Argument `treatments` is empty; give at least one, for example 'none'.")
        if len(rules) != len(lanes):
            problems.add("E_USAGE", f"Argument `initial` has {len(rules)} rules for {len(lanes)} treatments; give one for all, or one each.")
        if len({type(rule) for rule in rules}) > 1:
            problems.add("E_USAGE", "Argument `initial` mixes kinds of rules; one call takes one kind.")
        if times.ndim != 1 or len(times) < 2:
            problems.add("E_TIME_FEW", f"Argument `times` needs at least 2 times in one dimension, but has shape {times.shape}.")
        elif not np.isfinite(times).all():
            problems.add("E_TIME_UNIT", f"Argument `times` must be finite numbers, but times[{int(np.argmin(np.isfinite(times)))}] is not.")
        elif (np.diff(times) <= 0).any():
            k = int(np.argmax(np.diff(times) <= 0))
            problems.add("E_TIME_ORDER", f"Argument `times` must be strictly increasing, but times[{k + 1}]={times[k + 1]} follows {times[k]}.")
        need = len(lanes) * len(times) * len(model.table.species) * times.itemsize
        if need > limit:
            problems.add("E_SIZE", f"The result needs {need / 1e9:.1f} GB ({len(lanes)} lanes x {len(times)} times x {len(model.table.species)} species), limit {limit / 1e9:.1f} GB; run fewer lanes or times per call, or raise memory_limit.")
        for check in [partial(t.check, model.table) for t in lanes] + [partial(rule.check, model) for rule in rules]:
            _collect(check, problems)
        if times.ndim == 1 and len(times) > 1 and np.isfinite(times).all():
            for treatment in lanes:
                _collect(partial(treatment.check_span, float(times[0]), float(times[-1])), problems)


def _collect(check: partial, problems: Problems) -> None:
    try:
        check()
    except PinnsimError as error:
        for problem in error.problems:
            problems.add(problem.code, problem.message)


def _labels(lanes: Sequence[Treatment]) -> tuple[str, ...]:
    """The text of each treatment; repeated ones are numbered, because lanes are found by name."""
    texts = [str(t) for t in lanes]
    return tuple(text if texts.count(text) == 1 else f"{text} #{texts[: i + 1].count(text)}" for i, text in enumerate(texts))


def _stiffness(model: CellModel, perturbations: Perturbation, outcome: Array) -> tuple[float, ...]:
    """Stiffness ratio at the default state for failed lanes (1 for the others): what the error message advises from."""
    kinetics = resolve(model.kinetics)
    ratios = []
    for lane, code in enumerate(np.asarray(outcome)):
        if code == Outcome.DONE:
            ratios.append(1.0)
            continue
        perturbation = jax.tree.map(lambda leaf, lane=lane: leaf[lane], perturbations)
        ratios.append(stiffness_ratio(jax.jacfwd(lambda x, p=perturbation: kinetics.vector_field(jnp.zeros(()), x, p))(kinetics.default_state())))
    return tuple(ratios)
