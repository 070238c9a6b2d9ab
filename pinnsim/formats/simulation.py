"""Simulations on disk: an xarray tree with named dimensions and units, as Zarr (version 3) or NetCDF.

The suffix chooses: `.zarr` is a folder, `.nc` a file (NetCDF needs the package h5netcdf). Both open in any
tool that reads these formats. Zarr reads a lost chunk as its fill value, which for an outcome means "done"; so the root
carries `pinnsim_sha256` over all names, dimensions and values, and what does not fit it is refused.

Before an array is read its declared size is held against a limit, and nothing that leads out of the file is followed.
"""

import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from pinnsim.errors import PinnsimError, first
from pinnsim.store import LIMIT, replacing
from pinnsim.store.declared import over_limit
from pinnsim.store.hdf5 import declared_bytes

_DIGEST = "pinnsim_sha256"
_CODECS = frozenset({"bytes", "transpose", "vlen-utf8", "vlen-bytes", "zstd", "gzip", "blosc", "crc32c"})
_TEXT = "UOT"  # numpy's kinds of fixed and variable text
_FAILURES = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError)


def save_simulation(path: str | Path, simulation: xr.DataTree | xr.Dataset) -> None:
    """Write a simulation (`to_xarray()` of a `Simulation`, `Ensemble` or `Moments`), atomically; an older one of that
    name is replaced.

    **Arguments:** `path`, ending in `.zarr` or `.nc`.

    **Raises:** `E_USAGE` for another suffix, or a folder that holds something else; `E_EXTRA_MISSING`; `E_DISK`.
    """
    path = Path(path)
    suffix = _suffix(path)
    if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").is_file():
        raise PinnsimError.of("E_USAGE", f"'{path}' holds something else than a simulation; choose another name.")
    tree = _mapped(simulation, object)
    tree.attrs[_DIGEST] = _digest(tree)
    engine = _netcdf_engine() if suffix == ".nc" else None
    with replacing(path) as temporary:
        if engine is None:
            tree.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False)
        else:
            tree.to_netcdf(temporary, mode="w", engine=engine)


def load_simulation(path: str | Path, limit: int = LIMIT) -> xr.DataTree:
    """A simulation as it was saved, read into memory.

    **Arguments:** `limit`, the most bytes of arrays that are read.

    **Raises:** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`, `E_SIZE` before memory is taken, `E_USAGE`, `E_EXTRA_MISSING`.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.exists():
        raise PinnsimError.of("E_CKPT_MISSING", f"'{path}' does not exist.")
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    if suffix == ".nc":
        options = {"engine": _netcdf_engine()}
    try:
        declared = sum(_declared_zarr(path)) if suffix == ".zarr" else declared_bytes(path)
        excess = over_limit(path, declared, limit)
        if excess:
            raise PinnsimError.of("E_SIZE", f"{excess}; pass limit=.")
        # Times are plain numbers in the unit they name: no guess at dates.
        with xr.open_datatree(path, chunks=None, decode_times=False, **options) as opened:
            tree = _mapped(opened, str)
    except _FAILURES as error:
        raise PinnsimError.of("E_CKPT_CORRUPT", f"'{path}' cannot be read as a simulation: {error}") from error
    if tree.attrs.pop(_DIGEST, None) != _digest(tree):
        raise PinnsimError.of("E_CKPT_CORRUPT", f"'{path}' is damaged: its values do not fit its sha256; run it again.")
    return tree


def _suffix(path: Path) -> Literal[".zarr", ".nc"]:
    if path.suffix == ".zarr":
        return ".zarr"
    if path.suffix == ".nc":
        return ".nc"
    raise PinnsimError.of("E_USAGE", f"The name of a simulation ends in .zarr or .nc, but is '{path.name}'.")


def _netcdf_engine() -> Literal["h5netcdf"]:
    # Not netCDF4: damaged files end its process, whatever was looked at before.
    if importlib.util.find_spec("h5netcdf"):
        return "h5netcdf"
    message = "NetCDF files need the package h5netcdf ('pip install h5netcdf'); or use a name that ends in .zarr."
    raise PinnsimError.of("E_EXTRA_MISSING", message)


def _mapped(simulation: xr.DataTree | xr.Dataset, text: type) -> xr.DataTree:
    """The tree in memory with its texts as `object` (the form that Zarr 3 specifies) or as `str` (as they were)."""
    tree = simulation if isinstance(simulation, xr.DataTree) else xr.DataTree(simulation)
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False).load()
        texts: dict[Hashable, tuple] = {
            name: (
                variable.dims,
                np.array(variable.values.tolist(), dtype=text).reshape(variable.shape),
                variable.attrs,
            )
            for name, variable in dataset.variables.items()
            if variable.dtype.kind in _TEXT
        }
        nodes[node.path] = dataset.assign(texts)
    return xr.DataTree.from_dict(nodes)


def _digest(tree: xr.DataTree) -> str:
    total = hashlib.sha256()
    for node in sorted(tree.subtree, key=lambda node: node.path):
        variables = node.to_dataset(inherit=False).variables
        for name in sorted(variables, key=str):
            values = variables[name].values
            text = values.dtype.kind in _TEXT
            kind = "text" if text else values.dtype.newbyteorder("=").str
            total.update(json.dumps([node.path, str(name), variables[name].dims, values.shape, kind]).encode())
            total.update(json.dumps(values.tolist()).encode() if text else np.ascontiguousarray(values).data)
    return total.hexdigest()


def _declared_zarr(folder: Path) -> Iterator[int]:
    """Bytes of every array as its metadata declares them; refuses coders outside a list, whose decoding runs code."""
    for path in sorted(folder.rglob("zarr.json")):
        entry = json.loads(path.read_bytes())
        if entry["node_type"] != "array":
            continue
        odd = [codec["name"] for codec in entry["codecs"] if codec["name"] not in _CODECS]
        if odd or entry.get("storage_transformers"):
            raise ValueError(f"array '{path.parent.name}' uses the coder {first(odd)}, which is not accepted")
        yield math.prod(entry["shape"]) * _item_bytes(entry["data_type"])


def _item_bytes(data_type: str | dict[str, Any]) -> int:
    match = re.search(r"\d+$", data_type) if isinstance(data_type, str) else None
    return 16 if match is None else max(int(match[0]) // 8, 1)
