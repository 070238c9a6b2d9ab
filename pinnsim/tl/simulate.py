"""`tl.simulate` and `tl.perturb`: courses of a fitted model, and what an edit does to every cell."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from pinnsim.annotated import record
from pinnsim.annotated.cells import best, fitted, layers_of, readings_of, states_of
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.fit.measured import cell_states
from pinnsim.landscape.coordinates import floors
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.simulate import ODE, AtRest, FromState, Outcome, solve_many
from pinnsim.simulate.run import simulate as run
from pinnsim.treatment import NONE, Treatment, as_treatment, resolve_lanes
from pinnsim.tree import lane

REST = "rest"  # where a course starts: the steady state before the first switch


def simulate(
    adata: Any,
    treatments: Sequence[Treatment | str] = ("none",),
    *,
    times: Sequence[float | int] | np.ndarray,
    start: str = REST,
    method: ODE | None = None,
    key: str = record.FIT,
    key_added: str = record.SIMULATION,
    copy: bool = False,
) -> Any:
    """Courses of the fitted model under treatments, of every start that the fit kept.

        dx/dt = S v(t, x; treatment)

    **Arguments:** `treatments`: objects or text, `"GATA1=0"`, `"SPI1*2@24:48"`; `times`: (time,), increasing, in the
    unit of `pp.times`; `start`: "rest", or a condition, whose courses start at the mean of its first population;
    `method`: tolerances; `key`: of the fit.

    **Returns** nothing (`copy=True`: a new object). **Writes** `uns[key_added]`: `states` (member, lane, time,
    species), `readings` (member, lane, time, gene), per unit of exposure, of the most mature RNA layer; `outcome`
    (member, lane); `times`, `lanes`, `species`, `genes`, `time_unit`, `params`. Lanes that failed are NaN, with their
    outcome.

    **Raises** `E_COLUMN_MISSING`, `E_CONDITION_UNKNOWN`, and what `pinnsim.simulate.simulate` raises.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_entry(problems, adata, "uns", key)
    bundle = fitted(adata, key)
    found = []
    for model in bundle.models:  # a few kept starts, one compiled program
        rule = AtRest() if start == REST else FromState(jnp.asarray(_first_state(adata, model, key, start)))
        found.append(run(model, np.asarray(times, dtype=float), list(treatments), initial=rule, method=method))
    params = {"start": start, "treatments": [str(as_treatment(t)) for t in treatments], "key": key, "method": method}
    told = {
        "times": np.asarray(found[0].times),
        "lanes": record.texts(found[0].lanes),
        "species": record.texts(found[0].species),
        "genes": record.texts(found[0].genes),
        "states": np.stack([np.asarray(one.states) for one in found]),
        "readings": np.stack([np.asarray(one.readings) for one in found]),
        "outcome": np.stack([np.asarray(one.outcome) for one in found]),
        "time_unit": found[0].time_unit,
        "params": record.plain(params),
    }
    return record.write(adata, copy, uns={key_added: told})


def perturb(
    adata: Any,
    treatments: Mapping[str, Treatment | str],
    *,
    duration: float | int,
    member: int = 0,
    method: ODE | None = None,
    key: str = record.FIT,
    key_added: str = record.PERTURB,
    copy: bool = False,
) -> Any:
    """What treatments do to every cell in a given time, beside the same cell left alone.

        change_ig = log2 (x_ig(T; treated) + f_g) - log2 (x_ig(T; left alone) + f_g)

    **Arguments:** `treatments`: name -> object or text, acting from time 0 on; `duration`: T, in the unit of
    `pp.times`; `member`: of the kept starts, 0 the best; `method`: tolerances; `key`: of the fit. f is a ten-thousandth
    of a gene's default abundance. All cells and treatments are lanes of one compiled program.

    **Returns** nothing (`copy=True`: a new object). **Writes** per treatment `obsm[key_added + "_" + name]` (cell,
    gene), NaN for cells that could not be followed, and `obs[...]`, the root mean square over genes; `uns[key_added]`:
    `names`, `mean` (treatment, gene) over cells, `failed`, `genes`, `params`.

    **Raises** `E_COLUMN_MISSING`, `E_USAGE`, `E_PERTURB_...`, together where they can be.
    """
    record.check_object(adata, copy)
    names, span = list(treatments), float(duration)
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_names(problems, names, "Names of treatments")
        record.check_entry(problems, adata, "uns", key)
        if not names:
            problems.add("E_USAGE", "Argument `treatments` is empty; give at least one, for example {'ko': 'GATA1=0'}.")
        if not (np.isfinite(span) and span > 0):
            problems.add("E_USAGE", f"Argument `duration` must be finite and > 0, but is {duration}.")
    model = best(fitted(adata, key), member)
    with Problems() as problems:
        acting = [problems.attempt(lambda t=t: as_treatment(t)) for t in treatments.values()]  # type: ignore[misc]
        for treatment in acting:
            if treatment is not None:
                problems.attempt(lambda t=treatment: t.check(model.table))  # type: ignore[misc]
    states = states_of(adata, model, key)
    lanes, cells = 1 + len(acting), len(states)
    perturbations = lane(resolve_lanes([NONE, *acting], model.table), np.repeat(np.arange(lanes), cells))
    begin = jnp.asarray(np.tile(states, (lanes, 1)))
    solved = solve_many(model.kinetics, np.array([0.0, span]), perturbations, begin, method)
    done = (np.asarray(solved.outcome) == Outcome.DONE).reshape(lanes, cells)
    logs = np.asarray(_log_rna(model, solved.states[:, -1])).reshape(lanes, cells, -1)
    change = np.where((done[1:] & done[:1])[..., None], logs[1:] - logs[:1], np.nan)
    genes, lost = list(model.table.genes), ~done[1:] | ~done[:1]
    with np.errstate(invalid="ignore"):
        size = np.sqrt((change**2).mean(axis=2))
    params = {"duration": span, "member": member, "key": key, "method": method}
    told = {
        "names": record.texts(names),
        "treatments": record.texts(acting),
        "genes": record.texts(genes),
        "mean": _mean(change, ~lost),
        "failed": lost.sum(axis=1),
        "time_unit": model.kinetics.time_unit,
        "params": record.plain(params),
    }
    frames = {
        f"{key_added}_{name}": pd.DataFrame(change[k], index=adata.obs_names, columns=genes)
        for k, name in enumerate(names)
    }
    obs = {f"{key_added}_{name}": size[k] for k, name in enumerate(names)}
    return record.write(adata, copy, obsm=frames, obs=obs, uns={key_added: told})


def _mean(change: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mean over cells that were followed, (treatment, gene); NaN where there are none."""
    count = good.sum(axis=1)[:, None]
    total = np.where(good[..., None], change, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@eqx.filter_jit
def _log_rna(model: CellModel, states: Array) -> Array:
    """log2 of mature RNA above the floor, (lane, gene)."""
    kinetics = resolve(model.kinetics)
    rna = jnp.maximum(kinetics.layer(states, "rna"), 0.0)
    floor = kinetics.layer(floors(kinetics)[None], "rna")
    return jnp.log2(rna + floor)


def _first_state(adata: Any, model: CellModel, key: str, condition: str) -> np.ndarray:
    """The state that the mean cell of a condition's first population seems to have, (species,)."""
    with Problems() as problems:
        for name in (record.TIME, record.CONDITION):
            record.check_entry(problems, adata, "obs", name)
    named = np.array([str(name) for name in adata.obs[record.CONDITION]])
    known = list(dict.fromkeys(named.tolist()))
    if condition not in known:
        raise PinnsimError.of(
            "E_CONDITION_UNKNOWN",
            f"Argument `start` is '{condition}'{did_you_mean(condition, known)}; give '{REST}' or one of "
            f"{first(known, 8)}.",
        )
    moments = np.asarray(adata.obs[record.TIME], dtype=float)
    there = named == condition
    first_ones = there & (moments == moments[there].min())
    layers = layers_of(adata, key)
    mean = readings_of(adata[first_ones], layers, model.table.genes).mean(axis=0)
    return cell_states(model, mean[None], tuple(layers))[0]
