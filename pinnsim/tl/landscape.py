"""`tl.landscape` and `tl.fate`: valleys of the fitted model, the one each cell lies in, and where noise carries it."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from pinnsim.annotated import record
from pinnsim.annotated.cells import best, fitted, states_of
from pinnsim.errors import Problems, did_you_mean
from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.basins import assign
from pinnsim.landscape.fates import fate_probabilities
from pinnsim.landscape.fokker_planck import fokker_planck
from pinnsim.landscape.noise import chemical
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.landscape.relief import Relief, relief_of_cells, relief_of_grid
from pinnsim.model import CellModel
from pinnsim.simulate import Langevin
from pinnsim.treatment import Treatment, as_treatment, overexpress

HEIGHTS = ("cells", "model")


def landscape(
    adata: Any,
    treatment: Treatment | str = "none",
    *,
    starts: int = 32,
    axes: tuple[str, str] | None = None,
    heights: str = "cells",
    grid: int = 60,
    member: int = 0,
    seed: int = 0,
    key: str = record.FIT,
    key_added: str = record.LANDSCAPE,
    copy: bool = False,
) -> Any:
    """The fixed points of the fitted model under a treatment that lasts, and the valley that each cell flows to.

    **Arguments:** `treatment`: object or text; `starts`: of the search, a power of two; `axes`: two genes, over whose
    mature layer a relief is drawn; `heights`: of the relief, "cells" (-ln of the cells' density, of all times: where
    they were seen, no property of the model) or "model" (-ln of the model's stationary law under its own noise, for
    models of two or three species); `grid`: cells of the relief per axis; `member`: of the kept starts; `seed`: of the
    search; `key`: of the fit.

    **Returns** nothing (`copy=True`: a new object). **Writes** `uns[key_added]`: fixed points (`states`, `names`,
    `stability`, `index`, eigenvalues, `share` of the starts), `relief` where there are `axes`, `describe`, `notes`,
    `params`; `obs[key_added + "_valley"]`: the attractor that a cell's noise-free course reaches, "none" or "failed".

    **Raises** `E_COLUMN_MISSING`, `E_USAGE`, `E_GENE_UNKNOWN`, and what `find_attractors`, `fokker_planck` raise.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_entry(problems, adata, "uns", key)
        if heights not in HEIGHTS:
            problems.add("E_USAGE", f"Argument `heights` must be one of {', '.join(HEIGHTS)}, but is '{heights}'.")
        if grid < 3:
            problems.add("E_USAGE", f"Argument `grid` must be 3 or more, but is {grid}.")
    model = best(fitted(adata, key), member)
    with Problems() as problems:
        for gene in axes or ():
            if gene not in model.table.genes:
                near = did_you_mean(gene, model.table.genes)
                problems.add("E_GENE_UNKNOWN", f"`axes` names '{gene}', which the model does not have{near}.")
        acting = problems.attempt(lambda: as_treatment(treatment))
    states = states_of(adata, model, key)
    found = find_attractors(model, acting, starts=starts, seed=seed)
    told: dict[str, Any] = attractors_entry(found)
    told["treatment"] = str(acting)
    params = {"starts": starts, "axes": axes, "heights": heights, "grid": grid, "member": member, "seed": seed}
    told["params"] = record.plain({**params, "key": key})
    verdicts = assign(model, found, states, acting).verdicts() if found.stable.any() else ["none"] * len(states)
    if axes is not None:
        size = float(record.entry(adata, key)["params"]["size"])
        told["relief"] = _relief_entry(_relief(model, states, axes, heights, grid, size, acting))
    valleys = pd.Categorical(verdicts, categories=[*found.names[: int(found.stable.sum())], "none", "failed"])
    return record.write(adata, copy, uns={key_added: told}, obs={f"{key_added}_valley": valleys})


def fate(
    adata: Any,
    treatment: Treatment | str = "none",
    *,
    duration: float | int,
    settle: float | int,
    dt: float | int,
    runs: int = 50,
    size: float | int | None = None,
    quench: float | int | None = None,
    seed: int = 0,
    of_cells: Sequence[str] | np.ndarray | pd.Index | pd.Series | None = None,
    key: str = record.FIT,
    landscape_key: str = record.LANDSCAPE,
    key_added: str = record.FATE,
    progress: bool = True,
    copy: bool = False,
) -> Any:
    """How probably each cell ends in which valley, by noisy runs that start where it was seen.

        P_i(valley k) = runs of cell i that end in the basin of k / all its runs

    **Arguments:** `treatment`: acts for `duration`, then nothing does for `settle`, with noise; both in the unit of
    `pp.times`; `dt`: step of the chemical Langevin equation; `runs`: per cell; `size`: molecules per unit of abundance
    (default: that of the fit); `quench`: of the noise-free flow that decides (default: `settle`); `seed`: of the noise;
    `of_cells`: names, or a mask over cells (default: all); `landscape_key`: of `tl.landscape`, made without treatment.

    Good values: `dt` a twentieth of the shortest lifetime; 50 runs for a first look (interval 0.28 wide or less), 1000
    to tell 3 % from 5 %.

    **Returns** nothing (`copy=True`: a new object). **Writes** `obsm[key_added]` (cell, valley), with what was
    "undecided" and "failed", NaN for cells that were not asked for; `uns[key_added]`: `table`, shares by condition and
    time with 95 % intervals, `names`, `params`.

    **Raises** `E_COLUMN_MISSING`, `E_USAGE`, `E_DATA_EMPTY`, and what `fate_probabilities` raises.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        record.check_key(problems, key_added)
        for place, name in (("uns", key), ("uns", landscape_key), ("obs", record.TIME), ("obs", record.CONDITION)):
            record.check_entry(problems, adata, place, name)
    kept = adata.uns[landscape_key]
    points = attractors_of(kept)
    with Problems() as problems:
        asked = _asked(problems, adata, of_cells)
        acting = problems.attempt(lambda: as_treatment(treatment))
        if str(kept["treatment"]) != "none":
            problems.add(
                "E_USAGE",
                f"uns['{landscape_key}'] is the landscape under '{kept['treatment']}', but cells settle without any; "
                "run tl.landscape without treatment.",
            )
        if not points.stable.any():
            problems.add("E_DATA_EMPTY", f"uns['{landscape_key}'] has no attractor for a cell to end in.")
    member = int(kept["params"]["member"])
    model = best(fitted(adata, key), member)
    states = states_of(adata, model, key)[asked]
    omega = float(record.entry(adata, key)["params"]["size"]) if size is None else float(size)
    # A factor of 1 is a push that does nothing.
    template = acting if str(acting) != "none" else overexpress(model.table.genes[0], fold=1.0)
    found = fate_probabilities(
        model,
        states,
        template,
        [1.0],
        [float(duration)],
        points,
        noise=Langevin(omega, float(dt)),
        key=jax.random.key(seed),
        settle=settle,
        quench=quench,
        runs=runs,
        progress=progress,
    )
    columns = [*found.names, "undecided", "failed"]
    counts = np.concatenate([found.counts[:, 0], found.undecided, found.failed], axis=1)
    share = np.full((adata.n_obs, len(columns)), np.nan)
    share[asked] = counts / found.runs
    params: dict[str, Any] = {"duration": float(duration), "settle": float(settle), "dt": float(dt)}
    params |= {"runs": runs, "size": omega, "seed": seed, "key": key, "landscape_key": landscape_key}
    params |= {"member": member, "cells": int(asked.sum())}
    told = {
        "names": record.texts(found.names),
        "treatment": str(acting),
        "describe": found.describe(),
        "time_unit": found.time_unit,
        "table": _by_population(adata, asked, counts, columns, found.runs),
        "params": record.plain(params),
    }
    frame = pd.DataFrame(share, index=adata.obs_names, columns=columns)
    return record.write(adata, copy, obsm={key_added: frame}, uns={key_added: told})


def _asked(
    problems: Problems, adata: Any, cells: Sequence[str] | np.ndarray | pd.Index | pd.Series | None
) -> np.ndarray:
    if cells is None:
        return np.ones(adata.n_obs, dtype=bool)
    given = np.asarray(cells)
    if given.dtype == bool:
        if given.shape != (adata.n_obs,):
            problems.add("E_USAGE", f"Argument `of_cells` has {given.size} entries for {adata.n_obs} cells.")
        mask = given
    else:
        mask = np.isin(np.asarray(adata.obs_names, dtype=object), [str(name) for name in given])
        unknown = len(set(given.tolist())) - int(mask.sum())
        if unknown:
            problems.add("E_USAGE", f"{unknown} names of `of_cells` are not in the data.")
    if not mask.any():
        problems.add("E_DATA_EMPTY", "Argument `of_cells` names no cell.")
    return mask


def _by_population(
    adata: Any, asked: np.ndarray, counts: np.ndarray, columns: list[str], runs: int
) -> dict[str, np.ndarray]:
    """Shares by condition and time, a row per population and end."""
    named = np.array([str(name) for name in adata.obs[record.CONDITION]], dtype=object)[asked]
    moments = np.asarray(adata.obs[record.TIME], dtype=float)[asked]
    rows = []
    for condition in dict.fromkeys(named.tolist()):
        for time in np.unique(moments[named == condition]):
            here = (named == condition) & (moments == time)
            total, ended = int(here.sum()) * runs, counts[here].sum(axis=0)
            low, high = proportion_interval(ended, np.full(len(columns), total), 0.95)
            for k, end in enumerate(columns):
                rows.append((condition, time, end, ended[k] / total, low[k], high[k], total))
    names = ("condition", "time", "end", "probability", "low", "high", "runs")
    table = dict(zip(names, zip(*rows, strict=True), strict=True))
    return {name: record.texts(v) if name in ("condition", "end") else np.asarray(v) for name, v in table.items()}


def attractors_entry(found: Attractors) -> dict[str, Any]:
    """Fixed points in arrays and texts."""
    return {
        "states": found.states,
        "names": record.texts(found.names),
        "stability": record.texts(found.stability),
        "index": found.index,
        "eigenvalues_real": found.eigenvalues.real,
        "eigenvalues_imag": found.eigenvalues.imag,
        "residual": found.residual,
        "starts": found.starts,
        "share": found.share,
        "motion": record.texts(found.motion),
        "arrives": found.arrives,
        "ends": found.ends,
        "settle": float(found.settle),
        "species": record.texts(found.species),
        "time_unit": found.time_unit,
        "describe": found.describe(),
        "notes": record.texts(found.notes),
        "cycle_periods": np.array([cycle.period for cycle in found.cycles]),
    }


def attractors_of(kept: Mapping[str, Any]) -> Attractors:
    """The fixed points of `attractors_entry`, without the courses of limit cycles."""

    def names(key: str) -> tuple[str, ...]:
        return tuple(str(name) for name in kept[key])

    return Attractors(
        states=np.asarray(kept["states"]),
        names=names("names"),
        stability=names("stability"),
        index=np.asarray(kept["index"]),
        eigenvalues=np.asarray(kept["eigenvalues_real"]) + 1j * np.asarray(kept["eigenvalues_imag"]),
        residual=np.asarray(kept["residual"]),
        starts=np.asarray(kept["starts"]),
        motion=names("motion"),
        arrives=np.asarray(kept["arrives"]),
        ends=np.asarray(kept["ends"]),
        settle=float(kept["settle"]),
        species=names("species"),
        time_unit=str(kept["time_unit"]),
    )


def _relief(
    model: CellModel,
    states: np.ndarray,
    axes: tuple[str, str],
    kind: str,
    grid: int,
    size: float,
    treatment: Treatment,
) -> Relief:
    layer = model.kinetics.mature_layer
    first, second = (f"{gene}.{layer}" for gene in axes)
    if kind == "cells":
        whole = relief_of_cells(states, model.table.species, (first, second), noise="cells of all times", count=grid)
        x, y = whole.x >= 0, whole.y >= 0  # there is less than nothing of no species
        heights = dataclasses.replace(whole.potential, values=whole.potential.values[np.ix_(x, y)])
        return dataclasses.replace(whole, x=whole.x[x], y=whole.y[y], potential=heights)
    # The box begins a little above 0, where the noise of rates vanishes.
    top = 1.6 * np.maximum(states.max(axis=0), 1e-3)
    chain = fokker_planck(model, functools.partial(chemical, size=size), (1e-3 * top, top), grid, treatment)
    return relief_of_grid(chain, (first, second))


def _relief_entry(relief: Relief) -> dict[str, Any]:
    return {
        "x": relief.x,
        "y": relief.y,
        "heights": relief.potential.values,
        "kind": relief.potential.kind,
        "noise": relief.potential.noise,
        "axes": record.texts(relief.axes),
        "note": relief.note,
    }


def relief_of(kept: Mapping[str, Any]) -> Relief:
    """The relief that `tl.landscape` kept."""
    first, second = (str(name) for name in kept["axes"])
    heights = Potential(str(kept["kind"]), np.asarray(kept["heights"]), str(kept["noise"]))
    return Relief(np.asarray(kept["x"]), np.asarray(kept["y"]), heights, (first, second), str(kept["note"]))
