"""Results out of an AnnData object: to xarray (NetCDF, Zarr), to tables (CSV), to `.h5ad`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pinnsim.annotated import record
from pinnsim.errors import PinnsimError
from pinnsim.formats.simulation import save_simulation

# Dimensions of the arrays that steps keep in `uns`, and where the names along them are kept.
_DIMS: dict[str, tuple[str, ...]] = {
    "readings": ("member", "lane", "time", "gene"),
    "outcome": ("member", "lane"),
    "measured_mean": ("condition", "time", "layer", "gene"),
    "measured_sd": ("condition", "time", "layer", "gene"),
    "model_mean": ("condition", "time", "layer", "gene"),
    "model_sd": ("condition", "time", "layer", "gene"),
    "cells": ("condition", "time"),
    "mean": ("treatment", "gene"),
    "failed": ("treatment",),
    "heights": ("x", "y"),
}
_NAMES = {"lane": "lanes", "gene": "genes", "condition": "conditions", "layer": "layers", "treatment": "names"}


def to_xarray(adata: Any) -> xr.DataTree:
    """All results of `tl` as a tree with named dimensions and units: `/cells` (per cell), and a node for each
    simulation, perturbation, landscape and fitted population.

    **Raises** `E_DATA_EMPTY` where nothing was written yet.
    """
    record.check_object(adata)
    nodes: dict[str, xr.Dataset] = {}
    for key, kept in adata.uns.items():
        if not str(key).startswith(record.PREFIX) or not isinstance(kept, Mapping):
            continue
        name = str(key).removeprefix(record.PREFIX)
        for part, entries in {name: kept, f"{name}_populations": kept.get("populations", {})}.items():
            made = _dataset(entries)
            if made is not None:
                nodes[f"/{part}"] = made
        if "relief" in kept:
            made = _dataset(kept["relief"])
            if made is not None:
                nodes[f"/{name}_relief"] = made
    cells = _cells(adata)
    if len(cells.data_vars):
        nodes["/cells"] = cells
    if not nodes:
        raise PinnsimError.of("E_DATA_EMPTY", "The object holds no results of pinnsim yet; run pinnsim.tl.fit first.")
    return xr.DataTree.from_dict({"/": xr.Dataset(), **nodes})


def tables(adata: Any) -> dict[str, pd.DataFrame]:
    """All results as tidy tables by name: `cells`, `genes`, and a table for each simulation, fixed points, fates,
    populations, perturbation and chain."""
    record.check_object(adata)
    found = {"cells": _cells(adata).to_dataframe() if adata.n_obs else pd.DataFrame()}
    mine = [name for name in adata.var if str(name).startswith(record.PREFIX)]
    found["genes"] = adata.var[mine].rename_axis("gene")
    for key, kept in adata.uns.items():
        if not str(key).startswith(record.PREFIX) or not isinstance(kept, Mapping):
            continue
        name = str(key).removeprefix(record.PREFIX)
        if isinstance(kept.get("table"), Mapping):
            found[f"{name}_table"] = pd.DataFrame({str(n): np.asarray(v) for n, v in kept["table"].items()})
        if "stability" in kept:
            found[f"{name}_points"] = _points(kept)
        for part, entries in {name: kept, f"{name}_populations": kept.get("populations", {})}.items():
            made = _dataset(entries)
            if made is not None and "stability" not in entries:
                found[part] = _tidy(made)
    for key in adata.obsp:
        if str(key).startswith(record.PREFIX):
            pairs = adata.obsp[key].tocoo()
            names = np.asarray(adata.obs_names, dtype=object)
            found[str(key).removeprefix(record.PREFIX)] = pd.DataFrame(
                {"from": names[pairs.row], "to": names[pairs.col], "probability": pairs.data}
            )
    return found


def write_results(adata: Any, path: str | Path) -> Path:
    """Writes results, by the ending of `path`: `.h5ad` the whole object, `.nc` and `.zarr` its results as `to_xarray`
    gives them, no ending a folder of CSV tables.

    **Returns** the path. **Raises** `E_USAGE` for another ending, `E_DATA_EMPTY`, `E_EXTRA_MISSING`, `E_DISK`.
    """
    record.check_object(adata)
    target = Path(path)
    if target.suffix == ".h5ad":
        adata.write_h5ad(target)
    elif target.suffix in (".nc", ".zarr"):
        save_simulation(target, to_xarray(adata))
    elif target.suffix == "":
        made = tables(adata)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, table in made.items():
                table.to_csv(target / f"{name}.csv", index=table.index.name is not None)
        except OSError as error:
            raise PinnsimError.of("E_DISK", f"'{target}' cannot be written: {error}.") from error
    else:
        raise PinnsimError.of(
            "E_USAGE", f"'{target.name}' ends in '{target.suffix}'; give .h5ad, .nc, .zarr, or a folder for CSV tables."
        )
    return target


def _cells(adata: Any) -> xr.Dataset:
    """What was written of every cell: columns of `obs`, and of tables in `obsm`."""
    variables: dict[str, Any] = {}
    for name in adata.obs:
        if str(name).startswith(record.PREFIX):
            column = adata.obs[name]
            numeric = column.dtype.kind in "iufb"
            variables[str(name)] = ("cell", column.to_numpy() if numeric else np.array([str(v) for v in column]))
    for key in adata.obsm:
        frame = adata.obsm[key]
        if str(key).startswith(record.PREFIX) and isinstance(frame, pd.DataFrame):
            for column in frame:
                variables[f"{key}:{column}"] = ("cell", frame[column].to_numpy())
    return xr.Dataset(variables, coords={"cell": np.array([str(name) for name in adata.obs_names])})


def _dataset(kept: Mapping[str, Any]) -> xr.Dataset | None:
    """Arrays of a step with their dimensions and names; nothing where there are none."""
    unit = str(kept.get("time_unit", ""))
    variables: dict[str, Any] = {}
    for name, array in kept.items():
        dims = _DIMS.get(str(name))
        if str(name) == "states":
            dims = ("point", "species") if np.ndim(array) == 2 else ("member", "lane", "time", "species")
        if dims is not None and np.ndim(array) == len(dims):
            variables[str(name)] = (dims, np.asarray(array))
    if not variables:
        return None
    used = {dim for dims, _ in variables.values() for dim in dims}
    coords: dict[str, Any] = {dim: [str(n) for n in kept[key]] for dim, key in _NAMES.items() if dim in used}
    if "species" in used:
        coords["species"] = [str(n) for n in kept["species"]]
    if "point" in used:
        coords["point"] = [str(n) for n in kept["names"]]
        for name in ("index", "share", "residual"):
            variables[name] = ("point", np.asarray(kept[name]))
        variables["stability"] = ("point", np.array([str(n) for n in kept["stability"]]))
    if "time" in used:
        times = np.asarray(kept["times"])
        coords["moment" if times.ndim == 2 else "time"] = (
            (("condition", "time"), times, {"units": unit}) if times.ndim == 2 else ("time", times, {"units": unit})
        )
    for axis in ("x", "y"):
        if axis in used:
            coords[axis] = np.asarray(kept[axis])
    return xr.Dataset(variables, coords)


def _points(kept: Mapping[str, Any]) -> pd.DataFrame:
    head = pd.DataFrame(
        {
            "point": [str(name) for name in kept["names"]],
            "stability": [str(name) for name in kept["stability"]],
            **{name: np.asarray(kept[name]) for name in ("index", "starts", "share", "residual")},
        }
    )
    states = pd.DataFrame(np.asarray(kept["states"]), columns=[str(name) for name in kept["species"]])
    return pd.concat([head, states], axis=1)


def _tidy(made: xr.Dataset) -> pd.DataFrame:
    """One table; what lacks a dimension that others have is repeated along it."""
    widest = max(made.data_vars.values(), key=lambda variable: variable.ndim).dims
    same = [name for name, variable in made.data_vars.items() if set(variable.dims) <= set(widest)]
    return made[same].to_dataframe().reset_index()
