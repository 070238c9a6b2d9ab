"""What `pinnsim simulate` says of its results: which lanes and cells failed, and what changed most in those that did
not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from pinnsim.cli.output import highest, largest, show_table
from pinnsim.errors import PinnsimError, Problems, first

if TYPE_CHECKING:
    import numpy as np

    from pinnsim.cli.methods import Result
    from pinnsim.simulate import Moments


def failures(results: Sequence["Result"]) -> Problems:
    """Every lane that failed, or has failed cells, by name."""
    import numpy as np

    from pinnsim.simulate import Ensemble, Moments, Outcome, Simulation

    rest = {Outcome.NOT_SETTLED: "nothing rests under what acts since ever: give such treatments a time, GENE=0@0:"}
    courses = {Outcome.MAX_STEPS: "choose --method auto or kvaerno5, or a larger --rtol", **rest}
    cells = {Outcome.MAX_STEPS: "lower --size, stop earlier (--times), or choose --method langevin", **rest}
    problems = Problems()
    for result in results:
        try:
            result.raise_failures(cells if isinstance(result, Ensemble) else courses)
        except PinnsimError as error:
            problems.absorb(error)
        values = np.asarray(result.mean if isinstance(result, Moments) else result.states)
        done = np.asarray(result.done)
        broken = done & ~np.isfinite(values).reshape(*done.shape, -1).all(axis=-1)
        advice = "try --method kvaerno5" if isinstance(result, Simulation) else "see what --method auto says of it"
        for k in np.flatnonzero(broken.reshape(len(result.lanes), -1).any(axis=1)):
            problems.add("E_SOLVER", f"lane '{result.lanes[k]}' holds values that are not numbers; {advice}.")
    return problems


def show(results: Sequence["Result"], model: str) -> list[dict[str, object]]:
    """Each lane: how it ended and what changed most from its beginning to its end, by the best member. Of many cells:
    the change of their mean, and how they differ at the end. **Returns** the rows that were shown, by name."""
    import numpy as np

    from pinnsim.simulate import Ensemble, Moments

    best = results[0]
    names, courses = _courses(best)
    columns = ["treatment", "outcome", "largest changes of readings"]
    spread = None
    if isinstance(best, Ensemble):
        columns[2:] = ["largest changes of the mean", "largest spread at the end (sd of cells)"]
        spread = np.sqrt(_visible(best, best.variance()))
    elif isinstance(best, Moments):
        columns[2:] = ["largest changes of the mean", "largest Fano factors at the end"]
        spread = _visible(best, best.fano())
    several = len(best.lanes) > 1  # a single lane has nothing to be compared with
    rows = []
    for k, lane in enumerate(best.lanes):
        row = [lane, _ended(results, k), largest(names, courses[k, -1] - courses[k, 0])]
        if spread is not None:
            row.append(highest(names, spread[k, -1]))
        if several:
            row.append(largest(names, courses[k, -1] - courses[0, -1]) if k else "")
        rows.append(row)
    doubtful = [f"'{lane}'" for k, lane in enumerate(best.lanes) if isinstance(best, Moments) and _wide(best)[k]]
    title = f"{model}, simulated from {best.times[0]:g} to {best.times[-1]:g} {best.time_unit}"
    columns += ["at the end, against the first lane"] if several else []
    show_table(title, columns, rows)
    if doubtful:
        typer.echo(
            f"Cells spread further than their mean in lane {first(doubtful)}; linear noise may mislead there "
            "(molecules are few, or cells part ways): see what --method ssa says.",
            err=True,
        )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _courses(result: "Result") -> tuple[Sequence[str], "np.ndarray"]:
    """Names, and the course of each as (lane, time, name): readings, or abundances (means of many cells)."""
    import numpy as np

    from pinnsim.simulate import Moments, Simulation

    if isinstance(result, Simulation):
        read = result.readings is not None
        return (result.genes, np.asarray(result.readings)) if read else (result.species, np.asarray(result.states))
    names = _visible(result, np.asarray(result.species))
    return names.tolist(), _visible(result, result.mean if isinstance(result, Moments) else result.mean())


def _visible(result: "Result", values: object) -> "np.ndarray":
    """Without hidden activities, which are no molecules; species last."""
    import numpy as np

    from pinnsim.simulate.result import is_hidden

    return np.asarray(values)[..., ~is_hidden(result.species)]


def _wide(result: "Moments") -> "np.ndarray":
    """(lane,), true where a standard deviation exceeds its mean at some time."""
    import numpy as np

    noise = np.asarray(result.noise())
    return np.where(np.isfinite(noise), noise, 0.0).max(axis=(1, 2), initial=0.0) > 1


def _ended(results: Sequence["Result"], k: int) -> str:
    """How lane `k` ended, over all members and cells."""
    import numpy as np

    from pinnsim.simulate import Ensemble, Outcome

    codes = np.stack([np.asarray(result.outcome)[k] for result in results])
    done, worst = int((codes == Outcome.DONE).sum()), next((c for c in codes.flat if c != Outcome.DONE), Outcome.DONE)
    if codes.size == 1 and not isinstance(results[0], Ensemble):
        return Outcome(int(worst)).sentence
    what = f"{len(results)} members"
    if isinstance(results[0], Ensemble):
        what = f"{codes.size} cells" if len(results) == 1 else f"{codes.size} cells of {what}"
    remark = "" if done == codes.size else f"; first failure: {Outcome(int(worst)).sentence}"
    return f"{done} of {what} done{remark}"
