"""Reprogramming: the smallest perturbations that move a cell from one valley to another.

Which of the named edits, alone or two or three together, how strong and for how long, so that the cell settles in the
target when it is let go? The search is in four stages, each of which reports what it did:

1. combinations of edits on a grid of strengths and durations, level by level (`pinnsim.reprogramming.search`);
2. of the best of each level the least strength at every duration, then less effort by gradients through the simulator
   (`pinnsim.reprogramming.refine`), always with a margin to the edge of the basin;
3. a push of full accuracy, without which no plan is listed, its control effort, and the minimum action from valley to
   valley, which none can undercut (`pinnsim.reprogramming.effort`, `pinnsim.reprogramming.bound`);
4. the share of cells with rates of their own that each plan moves (`pinnsim.reprogramming.robustness`).
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import Problems
from pinnsim.landscape import additive
from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.coordinates import Numbers, frozen, kinetics_of, resolved
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.reprogramming.bound import Bound, least_action
from pinnsim.reprogramming.edits import EditSet, default_edits, edit_set
from pinnsim.reprogramming.effort import effort, exactly
from pinnsim.reprogramming.lanes import Bench, Tries, judged, reached, reaches, steady_method, verdicts
from pinnsim.reprogramming.refine import refined
from pinnsim.reprogramming.result import Plan, Reprogramming, Search, described
from pinnsim.reprogramming.robustness import robustness
from pinnsim.reprogramming.search import Grid, Level, fronts, least_of, search
from pinnsim.reprogramming.valleys import both_valleys, relaxation
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment

FOLDS = (1.5, 2.0, 4.0, 10.0, 30.0, 100.0)  # default strengths, as folds
SPANS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # default durations, in units of the slowest relaxation
_LIFETIMES = 30.0  # default `settle`, in the same unit: near the edge the cell lingers at the pass


def reprogram(
    model: CellModel | AbstractKinetics,
    start: str | Numbers,
    target: str | Numbers,
    edits: Sequence[Treatment | str] | None = None,
    *,
    attractors: Attractors | None = None,
    most: int = 3,
    doses: Numbers | None = None,
    durations: Numbers | None = None,
    power: float | int = 1,
    background: Treatment | str = NONE,
    settle: float | int | None = None,
    noise: AbstractNoise | None = None,
    ensemble: CellModel | AbstractKinetics | None = None,
    method: ODE | None = None,
    options: Search | None = None,
    progress: bool = True,
) -> Reprogramming:
    """The pushes of least effort `T sum_k s_k^power` from the valley `start` to the valley `target`.

    **Arguments:**

    - `start`, `target`: names of stable points of `attractors`, or states, (species,), at rest in them.
    - `edits`: what may be done, by name, one edit each (`"GATA1*2"` may be turned up, `"SPI1*0.5"` down, `"MYC=0"` is a
      knock-out, `"signal(ligand)=1"` and `"drive(u)=1"` add multiples of their value); default: every gene up and
      down, every signal. See `pinnsim.reprogramming.edits` for what a strength means.
    - `attractors`: of the model under `background`; default: searched for.
    - `most`: edits at once, at most.
    - `doses`: strengths tried, ascending: ln fold of factors, multiples of the value of signals and drives. Default:
      folds of 1.5 to 100. The largest is the most that any edit may be turned.
    - `durations`: tried, ascending, in the model's time unit; default: 1/4 to 8 of the slowest relaxation time.
    - `settle`: how long the cell is followed after the longest push; default: 30 of the slowest relaxation times, of
      valleys and of passes between them.
    - `noise`: D, in whose unit the control effort and the minimum action are; default 1/2 in every species, which makes
      the control effort `1/2 int |u|^2 dt`.
    - `ensemble`: members of a fit, for robustness; default: cells with rates of their own.
    - `method`: of the search, default `ODE(rtol=1e-6)`; plans are verified with rtol 1e-9 whatever it is.
    - `options`: how hard to look, and with what margin; see `Search`.

    **Returns** a `Reprogramming`; where no combination reaches the target it has no plans and says so.

    **Raises** `E_USAGE` for a start that is the target, for valleys that are none (unknown names, states that rest
    nowhere known, saddles, cycles) and for impossible numbers; `E_PERTURB_...` for edits the model does not have.
    """
    options = Search() if options is None else options
    kinetics = kinetics_of(model)
    ground = frozen(resolved(background, kinetics), jnp.inf)
    if attractors is None:
        own = [np.asarray(a, dtype=float) for a in (start, target) if not isinstance(a, str)]
        totals = None if own else kinetics.default_state()
        attractors = find_attractors(
            kinetics, ground, starts=options.starts, states=own or None, probes=options.starts, totals=totals
        )
    home, goal = both_valleys(kinetics, attractors, start, target)
    grid = _grid(attractors, doses, durations, power)
    candidates = edit_set(default_edits(kinetics) if edits is None else edits, kinetics)
    _check(options, most, settle)
    names = tuple(n for n, stable in zip(attractors.names, attractors.stable, strict=True) if stable)
    wait = _LIFETIMES * relaxation(attractors) if settle is None else float(settle)
    times = np.concatenate([[0.0], grid.durations, [grid.durations[-1] + wait]])
    bench = Bench(
        kinetics,
        candidates.arrays,
        ground.at(jnp.zeros(())),
        jnp.asarray(attractors.states[attractors.names.index(home)]),
        jnp.asarray(attractors.states[attractors.stable]),
        jnp.asarray(times),
        jnp.asarray(names.index(goal)),
        jnp.asarray(float(options.margin)),
        ODE(rtol=1e-6, atol=1e-9, max_steps=16384) if method is None else method,
    )
    bench = dataclasses.replace(bench, method=steady_method(bench, float(grid.strengths[-1])))
    levels = search(
        bench,
        candidates,
        grid,
        most=most,
        exhaustive=options.exhaustive,
        beam=options.beam,
        threshold=float(options.threshold),
        batch_size=options.batch_size,
        progress=progress,
    )
    whole = system_of(kinetics, ground, np.asarray(bench.state))
    strength = additive(0.5, len(kinetics.table.species)) if noise is None else noise
    plans, unconfirmed = _plans(
        bench, candidates, grid, levels, whole, strength, attractors, names, ensemble, options, progress
    )
    bound = (
        least_action(kinetics, strength, attractors, ground, home, goal, points=options.points)
        if options.points
        else Bound(float("nan"), (home,), False, ())
    )
    endings = [verdicts(level.ends, names, options.threshold, attractors).reshape(len(level.which), *grid.shape)
               for level in levels]  # fmt: skip
    return Reprogramming(
        plans=tuple(sorted(plans, key=lambda plan: plan.effort)),
        tried=described(candidates, levels, endings, home, goal, unconfirmed),
        levels=tuple(
            (level.size, level.possible, len(level.which), level.whole, int(level.reached.any(axis=(1, 2)).sum()))
            for level in levels
        ),
        start=home,
        target=goal,
        bound=bound,
        margin=float(options.margin),
        power=float(power),
        beam=options.beam,
        species=kinetics.table.species,
        time_unit=kinetics.time_unit,
    )


def _plans(
    bench: Bench,
    edits: EditSet,
    grid: Grid,
    levels: list[Level],
    system: System,
    noise: AbstractNoise,
    attractors: Attractors,
    names: tuple[str, ...],
    ensemble: CellModel | AbstractKinetics | None,
    options: Search,
    progress: bool,
) -> tuple[list[Plan], dict[tuple[int, ...], str]]:
    """Listed plans, and where those ended that a push of full accuracy did not confirm, by combination."""

    def judge(tries: Tries) -> np.ndarray:
        return reached(bench, tries, float(options.threshold), options.batch_size)[0]

    found: list[Tries] = []
    for level in levels:
        least = least_of(level, bench.edits, grid)
        chosen = [k for k in np.argsort(least, kind="stable")[: options.keep] if np.isfinite(least[k])]
        found += [front for _, front in fronts(bench, grid, level, np.array(chosen, int), options.tolerance, judge)]
    if not found:
        return [], {}
    costs = [effort(bench.edits, front, grid.power) for front in found]
    begun = _stacked([front.take(np.array([int(np.argmin(c))])) for front, c in zip(found, costs, strict=True)])
    best = refined(bench, grid, begun, steps=options.steps, tolerance=options.tolerance, judge=judge, progress=progress)
    exact = exactly(bench, system, noise, best)
    ends = judged(bench, exact.states, exact.solved)
    confirmed = reaches(bench, ends, options.threshold) & judge(best)
    settled = verdicts(ends, names, options.threshold, attractors)
    robust = robustness(
        bench, best.take(confirmed), cells=options.cells, spread=float(options.spread), seed=options.seed,
        threshold=options.threshold, ensemble=ensemble, batch_size=options.batch_size, progress=progress,
    )  # fmt: skip
    before, after = (effort(bench.edits, tries, grid.power) for tries in (begun, best))
    plans = []
    for k, sure in zip(np.flatnonzero(confirmed), robust, strict=True):
        which = tuple(int(n) for n in best.which[k])
        used = np.array(which) != bench.edits.none
        plans.append(
            Plan(
                edits=edits.label(which),
                treatment=edits.written(which, best.strengths[k].tolist(), float(best.durations[k])),
                strengths=bench.edits.counted(best.which[k], best.strengths[k])[used],
                duration=float(best.durations[k]),
                effort=float(after[k]),
                begun=float(before[k]),
                control=float(exact.control[k]),
                robust=sure,
                front=np.stack([found[k].durations, found[k].strengths[:, 0], costs[k]], axis=1),
                times=exact.times[k],
                states=exact.states[k],
            )
        )
    failed = np.flatnonzero(~confirmed)
    return plans, {tuple(int(n) for n in best.which[k]): str(settled[k]) for k in failed}


def _stacked(parts: list[Tries]) -> Tries:
    rows = ((t.which, t.strengths, t.durations) for t in parts)
    return Tries(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _grid(attractors: Attractors, doses: Numbers | None, durations: Numbers | None, power: float | int) -> Grid:
    strengths = np.log(FOLDS) if doses is None else np.atleast_1d(np.asarray(doses, dtype=float))
    spans = (
        np.array(SPANS) * relaxation(attractors)
        if durations is None
        else np.atleast_1d(np.asarray(durations, dtype=float))
    )
    with Problems() as problems:
        for name, values in (("doses", strengths), ("durations", spans)):
            ascending = values.ndim == 1 and values.size and (np.diff(values) > 0).all()
            if not (ascending and np.isfinite(values).all() and values[0] > 0):
                problems.add("E_USAGE", f"Argument `{name}` must be finite, > 0 and ascending, but is {values}.")
        if not (np.isfinite(power) and power > 0):
            problems.add("E_USAGE", f"Argument `power` must be > 0, but is {power}.")
    return Grid(strengths, spans, float(power))


def _check(options: Search, most: int, settle: float | int | None) -> None:
    with Problems() as problems:
        if most < 1:
            problems.add("E_USAGE", f"Argument `most` must be 1 or more, but is {most}.")
        if settle is not None and not (np.isfinite(settle) and settle > 0):
            problems.add("E_USAGE", f"Argument `settle` must be finite and > 0, but is {settle}.")
        options.check(problems)
