"""Preparing an AnnData object: when and under what cells were sampled, how deeply, which genes, which half-lives.

    pp.times -> pp.size_factors -> pp.select_genes -> pp.half_lives -> tl.fit

Every column and layer is named by the caller. In place, functions return nothing; with `copy=True` a new object. What
is written begins with `pinnsim_` (see `pinnsim.annotated.record`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pinnsim.annotated import record
from pinnsim.annotated.cells import selected
from pinnsim.data import build
from pinnsim.data.blocks import row_sums
from pinnsim.data.changing import changing
from pinnsim.errors import Problems, first
from pinnsim.network import Network
from pinnsim.prior import half_life, half_life_prior
from pinnsim.texttable import read_table
from pinnsim.treatment import Treatment

__all__ = ["half_lives", "select_genes", "size_factors", "times"]

_NO_UNIT = ("half_life", "half-life", "half life", "halflife", "t_half", "thalf", "t1/2")  # headings without a unit


def times(
    adata: Any,
    *,
    time_key: str,
    time_unit: str,
    condition_key: str | None = None,
    treatments: Mapping[str, Treatment | str] | None = None,
    time_kind: str = "physical",
    source: str = "",
    simulated: bool = False,
    copy: bool = False,
) -> Any:
    """Attaches to every cell when it was sampled, and under which condition.

    **Arguments:** `time_key`: column of `obs`, plain numbers in `time_unit` ("s", "min", "h", "d"); `condition_key`:
    column of `obs`, one condition "all" where not given; `treatments`: what was done in each condition, as objects or
    text (`"GATA1=0"`, `"SPI1*2@24:48"`), nothing where not given; `time_kind`: "physical", or "pseudotime" (rates are
    relative then); `source`: a citation; `simulated`: whether these are no measurements.

    **Returns** nothing (`copy=True`: a new object). **Writes** `obs["pinnsim_time"]`, `obs["pinnsim_condition"]`,
    `uns["pinnsim_times"]`.

    **Raises** all problems together: `E_COLUMN_MISSING`, `E_TIME_UNIT`, `E_DATA_NONFINITE`, `E_DATA_TYPE`,
    `E_CONDITION_UNKNOWN`, `E_PERTURB_TEXT`, `E_USAGE`, `E_GENE_DUPLICATE`, `E_SAMPLE_DUPLICATE`.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        declared: dict[str, Any] = {"time_unit": time_unit, "time_kind": time_kind, "scale": "counts"}
        known = build.complete(problems, {**declared, "source": source, "simulated": simulated})
        record.check_unique(problems, adata)
        moments = np.zeros(adata.n_obs)
        if record.check_entry(problems, adata, "obs", time_key):
            column = adata.obs[time_key]
            # Text is refused even where it reads like a number: "24" of what?
            moments = build.as_numbers(problems, column.to_numpy(), f"obs['{time_key}']", "E_TIME_UNIT")
            bad = np.flatnonzero(~np.isfinite(moments))
            if len(bad) and "E_TIME_UNIT" not in problems.codes:
                problems.add(
                    "E_DATA_NONFINITE",
                    f"{len(bad)} cells have no time in '{time_key}' (first: {first(adata.obs_names[bad])}); drop them.",
                )
        names = np.full(adata.n_obs, "all", dtype=object)
        if condition_key is not None and record.check_entry(problems, adata, "obs", condition_key):
            column = adata.obs[condition_key]
            blank = np.flatnonzero(column.isna().to_numpy())
            names = np.array([str(name) for name in column], dtype=object)
            if len(blank):
                problems.add(
                    "E_DATA_TYPE",
                    f"{len(blank)} cells have no condition in '{condition_key}' (first: "
                    f"{first(adata.obs_names[blank])}); name it, or drop them.",
                )
        conditions = list(dict.fromkeys(names))
        acting = build.resolve_treatments(problems, treatments, conditions)
    told = {
        "time_key": time_key,
        "condition_key": record.plain(condition_key),
        "time_unit": str(known["time_unit"]),
        "time_kind": time_kind,
        "source": source,
        "simulated": bool(simulated),
        "conditions": record.texts(conditions),
        "treatments": record.texts(acting),
    }
    obs = {record.TIME: moments, record.CONDITION: pd.Categorical(names, categories=conditions)}
    return record.write(adata, copy, obs=obs, uns={record.TIMES: told})


def size_factors(
    adata: Any, *, layers: Sequence[str] = (), column: str | None = None, method: str = "total", copy: bool = False
) -> Any:
    """Attaches to every cell its size factor, by which expected readings are multiplied: `s_i = n_i / mean(n)`.

    **Arguments:** `method`: "total" (n is the sum of all genes of the named `layers`; "X" is the main matrix), "column"
    (n is a `column` of `obs`, for example total counts that were found before genes were dropped) or "none" (1 for
    all). Good values: "total" over spliced and unspliced counts of all genes, before any gene is dropped.

    **Returns** nothing (`copy=True`: a new object). **Writes** `obs["pinnsim_size_factor"]`,
    `uns["pinnsim_size_factors"]`.

    **Raises** all problems together: `E_USAGE`, `E_LAYER_MISSING`, `E_COLUMN_MISSING`, `E_DATA_EMPTY` for cells without
    a single count, `E_DATA_NEGATIVE`, `E_DATA_NONFINITE`.
    """
    record.check_object(adata, copy)
    amount = np.ones(adata.n_obs)
    with Problems() as problems:
        if method not in ("total", "column", "none"):
            problems.add("E_USAGE", f"Argument `method` must be 'total', 'column' or 'none', but is '{method}'.")
        given = {"total": bool(layers), "column": column is not None}
        if method in given and not given[method]:
            what = "`layers`, which are summed" if method == "total" else "the `column` of obs"
            problems.add("E_USAGE", f"method='{method}' needs {what}.")
        if any(there and name != method for name, there in given.items()):
            problems.add("E_USAGE", f"method='{method}' takes neither `layers` nor `column` of another method.")
        if layers:
            record.check_layers(problems, adata, layers)
        if column is not None:
            record.check_entry(problems, adata, "obs", column)
    if method == "total":
        amount = np.sum([row_sums(record.layer_of(adata, name)) for name in layers], axis=0)
    elif column is not None:
        with Problems() as problems:
            amount = build.as_numbers(problems, adata.obs[column].to_numpy(), f"obs['{column}']", "E_DATA_TYPE")
    with Problems() as problems:
        for bad, code, what in (
            (~np.isfinite(amount), "E_DATA_NONFINITE", "a sum that is not finite"),
            (amount < 0, "E_DATA_NEGATIVE", "a negative sum"),
            (amount == 0, "E_DATA_EMPTY", "no count at all"),
        ):
            if bad.any():
                shown = first(adata.obs_names[bad])
                problems.add(code, f"{int(bad.sum())} cells have {what} (first: {shown}); drop them before.")
    told = {"method": method, "layers": record.texts(layers), "column": record.plain(column)}
    obs = {record.SIZE: amount / amount.mean()}
    return record.write(adata, copy, obs=obs, uns={record.SIZES: told})


def select_genes(
    adata: Any,
    network: Network | pd.DataFrame | str | Path,
    *,
    layer: str,
    top: int | None = None,
    min_cells: int = 10,
    keep: Sequence[str] = (),
    copy: bool = False,
) -> Any:
    """Selects genes that the network links and that change in time.

    A gene is scored by its correlation ratio eta^2 in `layer` (`pinnsim.data.changing`: the share of the variation
    between cells that lies between sampling times). Kept are genes of the network that were seen in `min_cells` cells
    or more: of these all (`top=None`) or the `top` with the highest ratio, and those named in `keep` in any case.

    **Arguments:** `network`: signed edges, or a table of them (`Network.read`, `Network.from_frame`); `layer`: of the
    data, readings >= 0 on a linear scale; `top`: how many; `min_cells`; `keep`: genes that stay, such as regulators
    whose protein matters more than their RNA.

    **Returns** nothing (`copy=True`: a new object). **Writes** `var["pinnsim_selected"]`, `var["pinnsim_in_network"]`,
    `var["pinnsim_change"]`, `var["pinnsim_cells"]`, `uns["pinnsim_network"]` (edges among the selected genes;
    regulators that were not kept stay as hidden ones), `uns["pinnsim_genes"]`.

    **Raises** all problems together: `E_COLUMN_MISSING` (run `pp.times` and `pp.size_factors` first),
    `E_LAYER_MISSING`, `E_GENE_UNMATCHED`, `E_GENE_DUPLICATE`, `E_DATA_EMPTY`, `E_USAGE`, `E_NETWORK_...`.
    """
    record.check_object(adata, copy)
    names = [str(name) for name in adata.var_names]
    with Problems() as problems:
        for key in (record.TIME, record.CONDITION, record.SIZE):
            record.check_entry(problems, adata, "obs", key)
        record.check_layers(problems, adata, [layer])
        record.check_unique(problems, adata)
        if top is not None and top < 1:
            problems.add("E_USAGE", f"Argument `top` must be at least 1, but is {top}.")
        strangers = [gene for gene in keep if gene not in set(names)]
        if strangers:
            problems.add("E_GENE_UNMATCHED", f"`keep` names genes that are not in the data: {first(strangers)}.")
        edges = problems.attempt(lambda: _network(network))
    linked = set(edges.genes) | set(edges.regulators)
    here = np.array([name in linked for name in names], dtype=bool)
    with Problems() as problems:
        if not here.any():
            problems.add(
                "E_GENE_UNMATCHED",
                f"none of the {len(linked)} genes of the network ({first(sorted(linked))}) is among the data's "
                f"{len(names)} ({first(names)}); check that both use the same kind of names.",
            )
    moments, exposure = (np.asarray(adata.obs[key], dtype=float) for key in (record.TIME, record.SIZE))
    found = changing(record.layer_of(adata, layer), moments, np.asarray(adata.obs[record.CONDITION]), exposure)
    able = here & (found.cells >= min_cells)
    order = np.argsort(-np.where(able, found.ratio, -1.0), kind="stable")
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[: int(able.sum()) if top is None else min(top, int(able.sum()))]] = True
    chosen |= np.isin(names, list(keep))
    kept = [name for name, take in zip(names, chosen, strict=True) if take]
    with Problems() as problems:
        if not kept:
            problems.add(
                "E_DATA_EMPTY",
                f"no gene of the network was seen in {min_cells} cells or more of layer '{layer}'; lower min_cells.",
            )
    within = edges.restrict(kept, allow_missing=True) if len(edges.edges) else Network.empty(kept)
    told = {
        "layer": layer,
        "top": record.plain(top),
        "min_cells": int(min_cells),
        "keep": record.texts(keep),
        "expected_change": float(found.expected),
    }
    var = {
        record.SELECTED: chosen,
        "pinnsim_in_network": here,
        "pinnsim_change": found.ratio,
        "pinnsim_cells": found.cells,
    }
    uns = {record.NETWORK: record.network_entry(within), record.GENES: told}
    return record.write(adata, copy, var=var, uns=uns)


def half_lives(
    adata: Any,
    table: pd.DataFrame | str | Path | None = None,
    *,
    unit: str,
    column: str | None = None,
    organism: str | None = None,
    log_sd: float = 0.4,
    allow_missing: str = "typical",
    copy: bool = False,
) -> Any:
    """Attaches RNA half-lives to the selected genes: the prior of decay, `rate = ln 2 / half_life`, log-normal.

    **Arguments:** `table`: columns gene, half_life, and optionally unit, log_sd, source; or `column`: a column of `var`
    with half-lives; `unit`: of time, of the half-lives and of what is written; `organism`: whose typical value stands
    in for genes without one ("human", "mouse", "yeast", "E. coli", ...), as `pinnsim.prior.half_life_prior` says;
    `log_sd`: of measured values that state none; `allow_missing`: "typical" or "error".

    **Returns** nothing (`copy=True`: a new object). **Writes** `var["pinnsim_half_life"]`,
    `var["pinnsim_half_life_log_sd"]`, `var["pinnsim_half_life_source"]` (selected genes; others NaN and ""),
    `uns["pinnsim_half_lives"]`.

    **Raises** all problems together: `E_COLUMN_MISSING` (run `pp.select_genes` first), `E_USAGE`, and those of
    `half_life_prior`.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        record.check_entry(problems, adata, "var", record.SELECTED)
        if table is not None and column is not None:
            problems.add("E_USAGE", "Give half-lives as `table` or as `column` of var, not both.")
        if column is not None:
            record.check_entry(problems, adata, "var", column)
    genes = selected(adata)
    given: Any = table
    if column is not None:
        values = adata.var.loc[genes, column]
        known = values.notna().to_numpy()
        given = pd.DataFrame({"gene": np.array(genes, dtype=object)[known], "half_life": values.to_numpy()[known]})
        given = given if len(given) else None
    if isinstance(given, str | Path):
        given = read_table(given)
    # A unit that the table states goes before the one that is asked for.
    bare = given is not None and not any(str(name).strip().lower() == "unit" for name in given.columns)
    bare = bare and any(str(name).strip().lower() in _NO_UNIT for name in given.columns)
    prior = half_life_prior(
        given,
        genes,
        organism,
        unit,
        allow_missing,
        table_unit=unit if bare else None,
        log_sd=log_sd,
    )
    place = np.array([adata.var_names.get_loc(gene) for gene in genes], dtype=int)
    value, width = np.full(adata.n_vars, np.nan), np.full(adata.n_vars, np.nan)
    source = np.full(adata.n_vars, "", dtype=object)
    value[place], width[place] = half_life(np.asarray(prior.rate.median)), np.asarray(prior.rate.log_sd)
    source[place] = list(prior.source)
    told = {"unit": prior.time_unit, "column": record.plain(column), "organism": record.plain(organism)}
    told |= {"log_sd": float(log_sd), "allow_missing": allow_missing}
    var = {record.HALF_LIFE: value, f"{record.HALF_LIFE}_log_sd": width, f"{record.HALF_LIFE}_source": source}
    return record.write(adata, copy, var=var, uns={record.HALF_LIVES: told})


def _network(network: Network | pd.DataFrame | str | Path) -> Network:
    if isinstance(network, Network):
        return network
    return Network.from_frame(network) if isinstance(network, pd.DataFrame) else Network.read(network)
