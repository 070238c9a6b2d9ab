"""`tl.fit`: a gene-kinetics model fitted to the populations of an AnnData object.

The cells of each condition start as its first population was seen, move by the chemical Langevin equation, and are
compared with those sampled later by a distance between populations (`pinnsim.fit.fit_snapshots`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.annotated import record
from pinnsim.annotated.cells import bundle_entry, prior_of, selected, snapshots_of
from pinnsim.data.snapshots import Snapshots
from pinnsim.distance import Energy
from pinnsim.errors import Problems, first
from pinnsim.fit.match import AbstractMatch, ByDistance
from pinnsim.fit.measured import cell_model, population_prior, reading_scale, usual_config
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.population import AbstractBegin, Intrinsic, PopulationModel, SampledBegin
from pinnsim.fit.snapshots import fit_data, fit_snapshots, simulate_populations
from pinnsim.formats.bundle import load_model, model_files, save_model
from pinnsim.model import ModelConfig, build
from pinnsim.parameter import frozen, resolve

USUAL = FitPlan(
    starts=4, trajectory_steps=200, trajectory_learning_rate=0.05, start_spread=0.3, substeps=20, initial="sample"
)
"""The plan of a fit where none is given."""

_RATES = ("synthesis", "splicing", "decay", "translation", "protein_decay")


def fit(
    adata: Any,
    *,
    layers: Mapping[str, str],
    scale: str,
    size: float | int,
    config: ModelConfig | None = None,
    begin: AbstractBegin | None = None,
    match: AbstractMatch | None = None,
    plan: FitPlan | None = None,
    cells: int = 200,
    batch: int | None = None,
    key_added: str = record.FIT,
    path: str | Path | None = None,
    progress: bool = True,
    copy: bool = False,
) -> Any:
    """Fits a model of the selected genes to the cells of all conditions and times.

        objective = sum over conditions and later times of cost(simulated, measured) + prior

    **Arguments:** `layers`: the model's layer to the data's, `{"mrna": "X"}`, `{"unspliced": "unspliced", "spliced":
    "spliced"}`; `scale`: of the values, "counts" or "linear" ("log2", "log1p" with a `config` of their own); `size`:
    Omega, molecules per unit of abundance, here per highest mean of a gene, which sets how noisy cells are; `config`:
    of the model (default: `pinnsim.fit.usual_config`); with a linear readout its scale is `pinnsim.fit.reading_scale`;
    `begin`: where cells start (default: `SampledBegin()`); `match`: how populations are compared (default:
    `ByDistance(Energy())`); `plan`: default `pinnsim.tl.USUAL`; `cells`: simulated per condition; `batch`: measured
    cells per step; `path`: also save the model there, as a bundle that `pinnsim.formats.bundle.load_model` reads.

    Good values: `size` = highest mean count / share of molecules that is captured, some hundreds for most genes.

    **Returns** nothing (`copy=True`: a new object). **Writes** `uns[key_added]`: `model`, the kept starts as a bundle's
    texts and bytes (`pinnsim.annotated.fitted` reads them, bit for bit); `table`, a row per start; `populations`,
    measured and simulated means and spreads; `scores`, of the means, beside no change; `flags`; `params`. And
    `var[key_added + "_synthesis"]`, `"_decay"` ..., rates of the best start.

    **Raises** `E_COLUMN_MISSING` for steps of `pp` that have not run, `E_LAYER_MISSING`, `E_CONFIG_VALUE`,
    `E_TIME_UNIT`, `E_PRIOR_MISSING`, `E_USAGE` and what `fit_snapshots` raises; nothing is written then.
    """
    record.check_object(adata, copy)
    plan, match = USUAL if plan is None else plan, ByDistance(Energy()) if match is None else match
    begin = SampledBegin() if begin is None else begin
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_entry(problems, adata, "uns", record.NETWORK)
        record.check_entry(problems, adata, "var", record.HALF_LIFE)
        record.check_entry(problems, adata, "obs", record.TIME)
        record.check_entry(problems, adata, "obs", record.SIZE)
        record.check_layers(problems, adata, list(layers.values()))
        _check_size(problems, size)
    genes, measured = selected(adata), tuple(layers)
    network = record.network_of(adata.uns[record.NETWORK])
    unit = str(adata.uns[record.TIMES]["time_unit"])
    with Problems() as problems:
        snapshots: Snapshots = problems.attempt(lambda: snapshots_of(adata, layers, scale, genes))
        given: ModelConfig = problems.attempt(lambda: config or usual_config(measured, unit, scale))
        if given is not None and given.time_unit != unit:
            problems.add(
                "E_TIME_UNIT",
                f"config.time_unit is '{given.time_unit}', but times are in '{unit}'; write config in '{unit}'.",
            )
        if tuple(network.genes) != tuple(genes):
            problems.add(
                "E_GENE_UNMATCHED",
                f"uns['{record.NETWORK}'] belongs to other genes than are selected now; run pp.select_genes again.",
            )
        prior = problems.attempt(lambda: prior_of(adata, genes, unit))
    per_gene = reading_scale(snapshots) if given.readout.kind == "linear" else None
    built = build(given, network, prior)
    wanted = population_prior(built, measured, begin, Intrinsic(frozen(float(size))), per_gene)
    found = fit_snapshots(wanted, snapshots, match, plan, cells=cells, batch=batch, progress=progress)
    parts = (cell_model(found.models), given, network, prior)
    params = {
        **{"layers": dict(layers), "scale": scale, "size": float(size), "begin": begin, "match": match, "plan": plan},
        **{"cells": int(cells), "batch": batch, "path": path, "interrupted": bool(found.interrupted)},
    }
    notes = {"layers": dict(layers), "size": float(size)}
    files = model_files(*parts, data_digest=snapshots.digest(), notes=notes)
    told = {
        "model": bundle_entry(files),
        "table": _columns(found.table),
        "populations": _populations(found.best, wanted, snapshots, match, plan, cells),
        "flags": record.texts(found.flags),
        "params": record.plain(params),
    }
    told["scores"] = _scores(told["populations"])
    if path is not None:
        save_model(path, *parts, data_digest=snapshots.digest(), notes=notes)
    rates = _rates(adata, found.best, genes, key_added)
    return record.write(adata, copy, uns={key_added: told}, var=rates)


def use_model(
    adata: Any,
    folder: str | Path,
    *,
    layers: Mapping[str, str],
    size: float | int,
    key_added: str = record.FIT,
    copy: bool = False,
) -> Any:
    """Takes a saved model in place of a fit, for cells that it was not fitted to: `tl.simulate`, `tl.landscape` and the
    others then use it.

    **Arguments:** `folder`: a bundle, of `tl.fit(path=...)`, `pinnsim fit` or `save_model`; `layers`: the model's layer
    to the data's; `size`: Omega, molecules per unit of abundance.

    **Returns** nothing (`copy=True`: a new object). **Writes** `uns[key_added]`: `model`, `params`.

    **Raises** `E_LAYER_MISSING`, `E_GENE_UNMATCHED` for genes of the model that the data lack and layers that the model
    does not have, `E_TIME_UNIT`, `E_USAGE`, `E_CKPT_...`, `E_PRECISION`, together where they can be.
    """
    record.check_object(adata, copy)
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_layers(problems, adata, list(layers.values()))
        _check_size(problems, size)
        bundle = problems.attempt(lambda: load_model(folder))
        if bundle is not None:
            names, known = {str(name) for name in adata.var_names}, bundle.config.layers
            missing = [gene for gene in bundle.network.genes if gene not in names]
            if missing:
                problems.add(
                    "E_GENE_UNMATCHED",
                    f"{len(missing)} of {len(bundle.network.genes)} genes of the model are absent from the data "
                    f"({first(missing)}).",
                )
            own = bundle.config.time_unit
            told = str(adata.uns[record.TIMES]["time_unit"]) if record.TIMES in adata.uns else own
            if told != own:
                problems.add(
                    "E_TIME_UNIT",
                    f"The model's times are in '{own}', those of pp.times in '{told}'; run pp.times in '{own}'.",
                )
            strange = [name for name in layers if name not in known]
            if strange:
                problems.add("E_GENE_UNMATCHED", f"The model has no layer {first(strange)}; it has {first(known)}.")
    parts = (bundle.model, bundle.config, bundle.network, bundle.prior)
    files = model_files(*parts, data_digest=bundle.data_digest, notes=bundle.notes)
    params = {"layers": dict(layers), "size": float(size), "path": Path(folder)}
    told = {"model": bundle_entry(files), "params": record.plain(params)}
    return record.write(adata, copy, uns={key_added: told})


def _check_size(problems: Problems, size: float | int) -> None:
    if not (np.isfinite(float(size)) and size > 0):
        problems.add("E_USAGE", f"Argument `size` must be finite and > 0, but is {size}.")


def _populations(
    model: PopulationModel, wanted: Any, snapshots: Snapshots, match: AbstractMatch, plan: FitPlan, cells: int
) -> dict[str, Any]:
    """Means and standard deviations over cells, (condition, time, layer, gene), measured and simulated."""
    data = fit_data(wanted, snapshots, match, plan, cells)
    shown, arrived = (np.asarray(a) for a in jax.jit(simulate_populations)(resolve(model), data))
    weight = np.broadcast_to(arrived[:, None, :, None, None].astype(float), shown.shape)
    count = np.maximum(weight.sum(axis=2), 1.0)
    mean = (shown * weight).sum(axis=2) / count
    spread = np.sqrt((((shown - mean[:, :, None]) * weight) ** 2).sum(axis=2) / count)
    normal, there = snapshots.normalised(), snapshots.there[..., None, None]
    seen = np.maximum(snapshots.cells(), 1)[..., None, None]
    average = (normal * there).sum(axis=2) / seen
    wide = np.sqrt((((normal - average[:, :, None]) * there) ** 2).sum(axis=2) / seen)
    gone = snapshots.cells() == 0
    for array in (mean, spread, average, wide):
        array[gone] = np.nan
    return {
        "times": np.asarray(snapshots.times),
        "cells": snapshots.cells(),
        "conditions": record.texts(snapshots.conditions),
        "layers": record.texts(snapshots.layers),
        "genes": record.texts(snapshots.genes),
        "measured_mean": average,
        "measured_sd": wide,
        "model_mean": mean,
        "model_sd": spread,
        "time_unit": snapshots.time_unit,
        "simulated": bool(snapshots.simulated),
    }


def _scores(shown: Mapping[str, Any]) -> dict[str, float]:
    """Root mean square of log(1 + mean) over later populations: of the model, and of no change from the first one."""
    truth, model = (np.log1p(np.asarray(shown[name])) for name in ("measured_mean", "model_mean"))
    gaps = {"model": model - truth, "no_change": truth[:, :1] - truth}
    return {f"rms_log1p_mean_{name}": float(np.sqrt(np.nanmean(gap[:, 1:] ** 2))) for name, gap in gaps.items()}


def _rates(adata: Any, model: PopulationModel, genes: list[str], key: str) -> dict[str, np.ndarray]:
    """Rates of the selected genes as columns of `var`, NaN elsewhere."""
    place = np.array([adata.var_names.get_loc(gene) for gene in genes], dtype=int)
    found = {}
    for name in _RATES:
        value = getattr(resolve(model).kinetics, name, None)
        if value is not None:
            column = np.full(adata.n_vars, np.nan)
            column[place] = np.asarray(jnp.broadcast_to(value, (len(genes),)))
            found[f"{key}_{name}"] = column
    return found


def _columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """A table as an array per column, under names that a file can hold."""
    plain = {str(name).replace("/", "_"): table[name].to_numpy() for name in table.columns}
    return {name: record.texts(array) if array.dtype.kind in "OUS" else array for name, array in plain.items()}
