"""Simulations on disk: an xarray tree with named dimensions and units, as Zarr (version 3) or NetCDF.

The suffix chooses: `.zarr` is a folder, `.nc` a file (NetCDF needs the package h5netcdf). Both open in any
tool that reads these formats. Zarr reads a lost chunk as its fill value, which for an outcome means "done"; so the root
carries `pinnsim_sha256` over all names, dimensions and values, and what does not fit it is refused.

Before an array is read its declared size is held against a limit, and nothing that leads out of the file is followed.
NetCDF is read by a process of its own (`netcdf_child`): a damaged file ends that one.
"""

import contextlib
import hashlib
import importlib.util
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from pinnsim.errors import PinnsimError, first
from pinnsim.formats.apart import last_words, run_apart
from pinnsim.formats.texts import TEXT, in_memory
from pinnsim.store import LIMIT, replacing
from pinnsim.store.declared import over_limit
from pinnsim.store.hdf5 import declared_bytes

_DIGEST = "pinnsim_sha256"
_CODECS = frozenset({"bytes", "transpose", "vlen-utf8", "vlen-bytes", "zstd", "gzip", "blosc", "crc32c"})
_CHILD_MEMORY = 2_000_000_000  # bytes, with all that is imported
_CHILD_SECONDS = 30  # of a processor
_CHILD_RATE = 10_000_000  # bytes a second, slower than any machine
_PATIENCE = 600  # seconds of a slow disk, by the clock


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
    tree = in_memory(simulation, object)
    tree.attrs[_DIGEST] = _digest(tree)
    if suffix == ".nc":
        _need_netcdf()
    with replacing(path) as temporary:
        if suffix == ".zarr":
            tree.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False)
        else:
            tree.to_netcdf(temporary, mode="w", engine="h5netcdf")


def load_simulation(path: str | Path, limit: int = LIMIT) -> xr.DataTree:
    """A simulation as it was saved, read into memory.

    **Arguments:** `limit`, the most bytes of arrays that are read.

    **Raises:** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`, `E_SIZE` before memory is taken, `E_USAGE`, `E_EXTRA_MISSING`.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.exists():
        raise PinnsimError.of("E_CKPT_MISSING", f"'{path}' does not exist.")
    netcdf = suffix == ".nc"
    if netcdf:
        _need_netcdf()
    try:
        declared = declared_bytes(path) if netcdf else sum(_declared_zarr(path))
        excess = over_limit(path, declared, limit)
        if excess:
            raise PinnsimError.of("E_SIZE", f"{excess}; pass limit=.")
        with (
            _as_zarr(path, declared) if netcdf else contextlib.nullcontext(path) as folder,
            # Times are plain numbers in the unit they name: no guess at dates.
            xr.open_datatree(folder, chunks=None, decode_times=False, engine="zarr", consolidated=False) as opened,
        ):
            tree = in_memory(opened, str)
    except PinnsimError:
        raise
    except Exception as error:  # whatever a damaged file makes Zarr, xarray or numpy say
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


def _need_netcdf() -> None:
    if importlib.util.find_spec("h5netcdf") is None:
        message = "NetCDF files need the package h5netcdf ('pip install h5netcdf'); or use a name that ends in .zarr."
        raise PinnsimError.of("E_EXTRA_MISSING", message)


@contextlib.contextmanager
def _as_zarr(path: Path, declared: int) -> Iterator[Path]:
    """The folder into which a process of its own writes what a NetCDF file holds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "simulation.zarr"
        memory, seconds = _CHILD_MEMORY + 4 * declared, _CHILD_SECONDS + declared // _CHILD_RATE
        arguments = [str(path.resolve()), str(folder), str(memory), str(seconds)]
        done = run_apart("pinnsim.formats.netcdf_child", arguments, b"", _PATIENCE + seconds)
        if done.returncode:
            raise ValueError(last_words(done))
        yield folder


def _digest(tree: xr.DataTree) -> str:
    total = hashlib.sha256()
    for node in sorted(tree.subtree, key=lambda node: node.path):
        variables = node.to_dataset(inherit=False).variables
        for name in sorted(variables, key=str):
            values = variables[name].values
            text = values.dtype.kind in TEXT
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
