"""Snapshots from AnnData: which layer is which, when and under what each cell was sampled, said by the caller.

Nothing is guessed: not the layer, not the key of time or condition, not how depth is to be accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from pinnsim.data import build as builder
from pinnsim.data.blocks import columns, row_sums
from pinnsim.data.build import Declared
from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.store import LIMIT
from pinnsim.store.declared import over_limit
from pinnsim.store.hdf5 import declared_bytes
from pinnsim.treatment import Treatment

MAIN = "X"  # the name of AnnData's own matrix among layers


def read_anndata(
    table: Any,
    *,
    layers: Mapping[str, str],
    time_key: str,
    size_factors: str,
    condition_key: str | None = None,
    genes: Sequence[str] | None = None,
    treatments: Mapping[str, Treatment | str] | None = None,
    **declared: Unpack[Declared],
) -> Snapshots:
    """Snapshots from an AnnData object or `.h5ad` file.

    **Arguments:** `table`: the object or a path; `layers`: the model's layer to the data's, for example `{"unspliced":
    "unspliced", "spliced": "spliced"}` or `{"mrna": "X"}` ("X" is the main matrix); `time_key`, `condition_key`:
    columns of `obs`, times as plain numbers; `size_factors`: "total" (counts of all genes and named layers together,
    over their mean), "none", or a column of `obs`; `genes`: names to keep, all where not given; `treatments` by
    condition; and what the user declares: `time_unit`, `scale` (required) and the rest, as for `Snapshots.build`.

    **Returns** the snapshots.

    **Raises** all problems together: `E_LAYER_MISSING`, `E_COLUMN_MISSING`, `E_GENE_UNMATCHED`, `E_DATA_FILE`, and
    those of `Snapshots.build`; `E_SIZE` before memory is taken.
    """
    data = open_cells(table) if isinstance(table, str | Path) else table
    problems = Problems()
    builder.complete(problems, {"kind": "snapshot", **declared})
    _check_names(problems, data, layers, time_key, condition_key, size_factors, genes)
    problems.raise_any()
    names = [str(name) for name in data.var_names]
    kept = names if genes is None else list(genes)
    column = np.array([names.index(name) for name in kept], dtype=int)
    tables = [data.X if name == MAIN else data.layers[name] for name in layers.values()]
    values = np.stack([columns(table, column) for table in tables], axis=1)
    return Snapshots.build(
        values,
        np.asarray(data.obs[time_key]),
        kept,
        tuple(layers),
        None if condition_key is None else [str(c) for c in data.obs[condition_key]],
        exposure=_exposure(data, tables, size_factors),
        cells=[str(name) for name in data.obs_names],
        treatments=treatments,
        **declared,
    )


def open_cells(path: str | Path) -> Any:
    """The AnnData object of an `.h5ad` file, looked at before it is read.

    **Raises** `E_DATA_FILE` for what is none, with links and data in other files among them; `E_SIZE` before memory is
    taken.
    """
    import anndata

    path = Path(path)
    if not path.is_file():
        raise PinnsimError.of("E_DATA_FILE", f"there is no file '{path.name}'; check the path.")
    try:
        excess = over_limit(path, declared_bytes(path), LIMIT)
        if not excess:
            return anndata.read_h5ad(path)
    except Exception as error:  # whatever a damaged file makes HDF5, zarr or pandas say
        what = str(error).strip().partition("\n")[0]
        raise PinnsimError.of("E_DATA_FILE", f"'{path.name}' cannot be read as AnnData: {what}") from error
    raise PinnsimError.of("E_SIZE", f"{excess}; write the file again with the cells and genes that you need.")


def _check_names(
    problems: Problems,
    data: Any,
    layers: Mapping[str, str],
    time_key: str,
    condition_key: str | None,
    size_factors: str,
    genes: Sequence[str] | None,
) -> None:
    # anndata 0.13 lists X among the layers, without a name.
    there = [*filter(None, data.layers), *([MAIN] if data.X is not None else [])]
    for name in layers.values():
        if name not in there:
            problems.add("E_LAYER_MISSING", f"'{name}' not in {sorted(there)}{did_you_mean(name, there)}.")
        elif (kind := (data.X if name == MAIN else data.layers[name]).dtype).kind not in "biuf":
            problems.add("E_DATA_TYPE", f"'{name}' holds no numbers but {kind}; give the layer of the counts.")
    columns = [str(c) for c in data.obs.columns]
    wanted = [time_key, *([condition_key] if condition_key else [])]
    wanted += [] if size_factors in ("total", "none") else [size_factors]
    for key in wanted:
        if key not in columns:
            problems.add(
                "E_COLUMN_MISSING",
                f"`obs` has no column '{key}'{did_you_mean(key, columns)}; it has {first(columns, 8)}.",
            )
    if size_factors in columns and data.obs[size_factors].dtype.kind not in "biuf":
        problems.add("E_DATA_TYPE", f"`obs` column '{size_factors}' holds no numbers; name another, or 'total'.")
    names = {str(name) for name in data.var_names}
    missing = [gene for gene in genes or () if gene not in names]
    if missing:
        shown = first(f"'{gene}'{did_you_mean(gene, names)}" for gene in missing)
        problems.add("E_GENE_UNMATCHED", f"{len(missing)} of {len(genes or ())} genes absent from the data ({shown}).")


def _exposure(data: Any, tables: list[Any], size_factors: str) -> np.ndarray:
    if size_factors == "none":
        return np.ones(data.n_obs)
    if size_factors != "total":
        return np.asarray(data.obs[size_factors], dtype=float)
    total = np.zeros(data.n_obs)
    for table in tables:
        total = total + row_sums(table)
    # Cells without a single count keep 0, which is refused with their names.
    return total / total.mean() if total.any() else total
