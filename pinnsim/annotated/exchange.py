"""What the command line left, in the formats of other programs: `.h5ad`, NetCDF, Zarr, CSV.

Every source is read into the same thing, an xarray tree with named dimensions and units; every target is written from
that tree, so that a new source or a new target is one entry of `SOURCES` or `TARGETS` here.

    simulation (.zarr, .nc) | folder of a fit | folder of a campaign | .h5ad with results of `pinnsim.tl`
        ->  .zarr | .nc | .h5ad | .csv (one table) | a folder of tables

A fit is also written as a PEtab problem, by the name of its YAML file: not from the tree, but from the model itself.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from pinnsim.data.cells import open_cells
from pinnsim.errors import PinnsimError, first
from pinnsim.formats.simulation import load_simulation, save_simulation
from pinnsim.store import replacing

_SWEEP, _MODEL, _PROJECT = "journal.jsonl", "model", "project.toml"
_TABLES = ("rates", "edges", "proposed_edges", "fit", "prior", "scores", "evaluation")


class Source(NamedTuple):
    """Something that can be exported: what it is, its tree, where it lies, and, of a fit, the files of its model."""

    kind: str
    tree: xr.DataTree
    model: dict[str, bytes]
    place: Path


def read_source(path: Path) -> Source:
    """What lies at `path`. **Raises** `E_CKPT_MISSING`, `E_USAGE` for what is none of the kinds, and what their readers
    raise."""
    if not path.exists():
        raise PinnsimError.of("E_CKPT_MISSING", f"'{path}' does not exist.")
    for kind, (fits, read) in SOURCES.items():
        if fits(path):
            tree, model = read(path)
            return Source(kind, tree, model, path)
    raise PinnsimError.of(
        "E_USAGE", f"'{path}' is none of: {', '.join(SOURCES)}; give what fit, simulate, push or sweep wrote."
    )


def write_target(source: Source, path: Path) -> list[Path]:
    """Writes a source in the format that the name of `path` asks for, whole or not at all.

    **Returns** the files. **Raises** `E_USAGE` for other names, and for tables that cannot be one; `E_DISK`.
    """
    if path.suffix not in TARGETS:
        known = ", ".join(suffix or "a folder (tables)" for suffix in TARGETS)
        raise PinnsimError.of("E_USAGE", f"'{path.name}' ends in '{path.suffix}'; there are {known}.")
    return TARGETS[path.suffix](source, path)


def tables_of(tree: xr.DataTree) -> dict[str, pd.DataFrame]:
    """Tidy tables of a tree, by name: one for each set of dimensions of each node, a row per entry."""
    found: dict[str, pd.DataFrame] = {}
    for node in tree.subtree:
        dataset = node.to_dataset()
        by_dims: dict[tuple[Any, ...], list[Any]] = {}
        for name, variable in dataset.data_vars.items():
            by_dims.setdefault(variable.dims, []).append(name)
        for dims, names in by_dims.items():
            base = node.path.strip("/").replace("/", "_")
            label = "_".join(part for part in (base, "" if len(by_dims) == 1 and base else str(names[0])) if part)
            frame = dataset[names].to_dataframe() if dims else pd.DataFrame({n: [dataset[n].item()] for n in names})
            frame = frame[[*[c for c in dataset[names].coords if c in frame and c not in dims], *names]]
            found[label or "table"] = frame.reset_index() if dims else frame
    return found


def _simulation(path: Path) -> tuple[xr.DataTree, dict[str, bytes]]:
    return load_simulation(path), {}


def _sweep(path: Path) -> tuple[xr.DataTree, dict[str, bytes]]:
    from pinnsim.sweep import Store

    return xr.DataTree.from_dict({"/": xr.Dataset(), "/points": Store(path).to_xarray().load()}), {}


def _annotated(path: Path) -> tuple[xr.DataTree, dict[str, bytes]]:
    from pinnsim.annotated import to_xarray

    return to_xarray(open_cells(path)), {}


def _fit(path: Path) -> tuple[xr.DataTree, dict[str, bytes]]:
    """Readings beside the fitted courses, and every table that the fit wrote."""
    from pinnsim.fit import cultures, predict_cultures
    from pinnsim.formats.bundle import load_model
    from pinnsim.project import load_project

    project, bundle = load_project(path / _PROJECT), load_model(path / _MODEL)
    dataset, plan = project.dataset, project.config.fit
    data = cultures(dataset, bundle.ensemble.table, substeps=plan.substeps)
    shown = predict_cultures(bundle.ensemble, data, plan)
    mask = np.asarray(data.mask)
    dims = ("culture", "sample", "gene")
    attrs = {"units": dataset.scale, "simulated": int(dataset.simulated), "source": dataset.source}
    owner = [name.rpartition("/")[0] for name in data.names]
    acting = {name: str(text) for name, text in zip(dataset.conditions, dataset.treatments, strict=True)}
    readings = xr.Dataset(
        {
            "measured": (dims, np.where(mask, np.asarray(data.readings), np.nan), attrs),
            "fitted": (("member", *dims), shown, {"units": dataset.scale}),
        },
        {
            "gene": list(dataset.genes),
            "culture": list(data.names),
            "condition": ("culture", owner),
            "treatment": ("culture", [acting[name] for name in owner]),
            "time": (("culture", "sample"), np.asarray(data.times), {"units": dataset.time_unit}),
        },
    )
    nodes = {"/": xr.Dataset(attrs={"data_digest": bundle.data_digest}), "/readings": readings}
    for name in _TABLES:
        if (path / f"{name}.csv").is_file():
            frame = pd.read_csv(
                path / f"{name}.csv", keep_default_na=name not in ("rates", "edges"), float_precision="round_trip"
            )
            nodes[f"/{name}"] = _columns(frame)
    files = {one.name: one.read_bytes() for one in sorted((path / _MODEL).iterdir()) if one.is_file()}
    return xr.DataTree.from_dict(nodes), files


def _columns(frame: pd.DataFrame) -> xr.Dataset:
    """A table with a dimension `row`; columns that hold texts are texts."""
    made = {}
    for name in frame.columns:
        column = frame[name]
        plain = column.to_numpy() if column.dtype.kind in "iufb" else np.array([_text(v) for v in column], dtype=object)
        made[str(name).replace("/", " per ")] = ("row", plain)
    return xr.Dataset(made)


def _text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def _to_tree(source: Source, path: Path) -> list[Path]:
    save_simulation(path, source.tree)
    return [path]


def _to_folder(source: Source, path: Path) -> list[Path]:
    if path.exists() and (not path.is_dir() or any(entry.suffix != ".csv" for entry in path.iterdir())):
        raise PinnsimError.of("E_USAGE", f"'{path}' holds something else than tables; choose another name.")
    made = tables_of(source.tree)
    with replacing(path) as temporary:
        temporary.mkdir()
        for name, table in made.items():
            table.to_csv(temporary / f"{name}.csv", index=False)
    return [path / f"{name}.csv" for name in made]


def _to_csv(source: Source, path: Path) -> list[Path]:
    made = tables_of(source.tree)
    wanted = {"simulation": ("readout", "species"), "fit": ("readings_fitted",), "campaign": ("points",)}
    name = next((n for n in wanted.get(source.kind, ()) if n in made), None)
    if name is None and len(made) > 1:
        raise PinnsimError.of(
            "E_USAGE", f"this holds {len(made)} tables ({first(made)}), not one; name a folder, without an ending."
        )
    with replacing(path) as temporary:
        made[name or next(iter(made))].to_csv(temporary, index=False)
    return [path]


def _to_h5ad(source: Source, path: Path) -> list[Path]:
    """A row per sample, a column per gene or species; with a fit, its model comes along in `uns["pinnsim_fit"]`, from
    which `pinnsim.annotated.fitted` reads it bit for bit."""
    if "readings" in source.tree.children:
        adata = _samples(source.tree["readings"].to_dataset(), "measured", ("fitted",))
    elif "readout" in source.tree.children or "species" in source.tree.children:
        node, name = ("readout", "reading") if "readout" in source.tree.children else ("species", "abundance")
        adata = _samples(source.tree[node].to_dataset(), name, ())
    else:
        raise PinnsimError.of("E_USAGE", "an .h5ad file needs samples of genes, which this does not hold; name .csv.")
    if source.model:
        from pinnsim.annotated.cells import bundle_entry

        adata.uns["pinnsim_fit"] = {"model": bundle_entry(source.model)}
        for name in ("rates", "edges"):
            if name in source.tree.children:
                table = source.tree[name].to_dataset()
                adata.uns[f"pinnsim_{name}"] = {
                    str(column).replace("/", "_"): table[column].to_numpy() for column in table.data_vars
                }
    with replacing(path) as temporary:
        adata.write_h5ad(temporary)
    return [path]


def _to_petab(source: Source, path: Path) -> list[Path]:
    """The best start of a fit, with its data, as a PEtab problem in the folder of the YAML file."""
    if source.kind != "fit":
        raise PinnsimError.of("E_USAGE", f"A PEtab problem is made of a fit, but '{source.place}' is a {source.kind}.")
    from pinnsim.formats.bundle import load_model
    from pinnsim.formats.petab.fitted import write_fit
    from pinnsim.model import build
    from pinnsim.project import load_project

    project, bundle = load_project(source.place / _PROJECT), load_model(source.place / _MODEL)
    prior = build(project.config.model, project.network, project.prior)
    plan, folder = project.config.fit, path.absolute().parent
    write_fit(bundle.models[0], project.dataset, plan, folder, prior=prior, name=path.name)
    return [path, *sorted(entry for entry in path.parent.iterdir() if entry.name != path.name)]


def _samples(dataset: xr.Dataset, main: str, layers: tuple[str, ...]) -> Any:
    """One variable with samples as rows; others that share its dimensions as layers, members averaged."""
    import anndata

    array = dataset[main]
    columns = "gene" if "gene" in array.dims else "species"
    rows = [dim for dim in array.dims if dim != columns]
    flat = array.transpose(*rows, columns)
    values = flat.to_numpy().reshape(-1, flat.sizes[columns])
    obs = pd.DataFrame(index=[str(k) for k in range(len(values))])
    grid = np.indices([flat.sizes[dim] for dim in rows]).reshape(len(rows), -1)
    where = dict(zip(rows, grid, strict=True))
    units = {}
    for name, coordinate in flat.coords.items():
        if columns in coordinate.dims or not coordinate.dims:
            continue
        picked = coordinate.to_numpy()[tuple(where[dim] for dim in coordinate.dims)]
        obs[str(name)] = picked if picked.dtype.kind in "iufb" else [str(value) for value in picked]
        units[str(name)] = str(coordinate.attrs.get("units", ""))
    for dim in rows:
        if dim not in obs:
            obs[str(dim)] = where[dim]
    seen = np.isfinite(values).any(axis=1)
    adata = anndata.AnnData(values[seen], obs[seen], pd.DataFrame(index=[str(n) for n in flat[columns].to_numpy()]))
    for name in layers:
        layer = dataset[name].mean("member") if "member" in dataset[name].dims else dataset[name]
        adata.layers[f"pinnsim_{name}"] = layer.transpose(*rows, columns).to_numpy().reshape(values.shape)[seen]
    adata.uns["pinnsim_units"] = {main: str(array.attrs.get("units", "")), **{k: v for k, v in units.items() if v}}
    return adata


SOURCES: dict[str, tuple[Callable[[Path], bool], Callable[[Path], tuple[xr.DataTree, dict[str, bytes]]]]] = {
    "simulation": (lambda path: path.suffix in (".zarr", ".nc"), _simulation),
    "annotated cells": (lambda path: path.suffix == ".h5ad", _annotated),
    "fit": (lambda path: (path / _PROJECT).is_file() and (path / _MODEL).is_dir(), _fit),
    "campaign": (lambda path: (path / _SWEEP).is_file(), _sweep),
}
TARGETS: dict[str, Callable[[Source, Path], list[Path]]] = {
    ".h5ad": _to_h5ad,
    ".nc": _to_tree,
    ".zarr": _to_tree,
    ".csv": _to_csv,
    ".yaml": _to_petab,
    "": _to_folder,
}
