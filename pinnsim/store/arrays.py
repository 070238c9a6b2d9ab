"""One safetensors file that holds the arrays of a tree under the paths of their leaves (`kinetics/decay/raw`).

Its header carries, beside the shapes and dtypes, what makes damage visible:

- `digest`: sha256 of the whole file with this field zeroed: no bit can flip, no byte be cut off or added unseen;
- per leaf, sha256 of name, dtype, shape and bytes, so that the damaged leaf is named and exchanged leaves are seen;
- `structure`: the tree's `structure_hash`, and `names`: every static name in it (genes, species, layers), so that
  parameters never enter another model, not even one that differs in the order of its genes only;
- `schema`: the version of this layout.

Nothing is pickled. Source of the layout: safetensors, https://github.com/huggingface/safetensors#format
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import jax
import numpy as np
import safetensors
import safetensors.numpy

from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.store.identity import leaf_difference, name_difference, static_names
from pinnsim.store.replace import offering_previous, replacing
from pinnsim.tree import named_leaves, structure_hash, with_leaves

T = TypeVar("T")

SCHEMA = 1
LIMIT = 16 * 2**30
"""Bytes that a stored file may ask for, unless the caller allows more."""

_KEY = "pinnsim"
_BLANK = "0" * 64
# The first key of the inner JSON, as it stands (escaped) in the header.
_DIGEST = re.compile(rb'\{\\"digest\\": \\"([0-9a-f]{64})\\"')
_ITEM_BYTES = {
    **{"BOOL": 1, "I8": 1, "U8": 1, "I16": 2, "U16": 2, "F16": 2},
    **{"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8},
}
_DTYPES = {np.dtype(kind) for kind in ("?", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8", "c8")}


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file holds: `leaves` by path in tree order, the caller's `meta`, and what identifies the tree."""

    leaves: dict[str, np.ndarray]
    meta: dict[str, str]
    structure: str
    names: dict[str, tuple[str, ...]]
    place: str

    def into(self, like: T) -> T:
        """`like` with its arrays replaced by the stored ones.

        **Raises:** `E_PRECISION` where the stored precision is not the session's or the tree's (nothing is ever cast),
        `E_CKPT_MODEL` where paths, shapes, their order or static names differ.
        """
        self.check_precision()
        with Problems() as problems:
            expected = named_leaves(like)
            if self.structure != structure_hash(like):
                difference = leaf_difference(self.leaves, expected)
                if difference:
                    problems.add("E_CKPT_MODEL", f"{self.place} holds the parameters of another model: {difference}.")
                elif other := [name for name, leaf in self.leaves.items() if leaf.dtype != expected[name].dtype]:
                    have, want = self.leaves[other[0]].dtype, expected[other[0]].dtype
                    problems.add(
                        "E_PRECISION",
                        f"{len(other)} leaves of {self.place} are stored in another precision than the model's (first: "
                        f"'{other[0]}', {have} in the file, {want} in the model); load it under the precision in which "
                        "it was saved.",
                    )
            names = static_names(like)
            if self.names and self.names != names:
                differing = name_difference(self.names, names)
                problems.add("E_CKPT_MODEL", f"{self.place} belongs to a model with other names: {differing}.")
        return with_leaves(like, self.leaves)

    def check_precision(self) -> None:
        """Raises `E_PRECISION` if the file holds 64-bit numbers and this session computes with 32."""
        wide = [f"'{name}' ({leaf.dtype})" for name, leaf in self.leaves.items() if _would_narrow(leaf.dtype)]
        if wide:
            raise PinnsimError.of(
                "E_PRECISION",
                f"{self.place} holds double-precision numbers ({len(wide)} leaves: {first(wide)}), but this session is "
                "in single precision; call pinnsim.enable_x64() before any array is made.",
            )


def save_arrays(path: str | Path, leaves: Mapping[str, np.ndarray], meta: Mapping[str, str] | None = None) -> None:
    """Write arrays under their names, atomically; a sound older file stays as `<name>.previous`.

    **Arguments:** `leaves`, name -> array of numbers or truth values; `meta`, short texts kept beside them.
    **Raises:** `E_DISK`, `E_USAGE` for arrays that are not numbers.
    """
    _write(path, encode(leaves, meta))


def load_arrays(path: str | Path, limit: int = LIMIT) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and texts of a file of `save_arrays` or `save_tree`, bit for bit. **Raises:** see `read`."""
    stored = read(path, limit)
    return stored.leaves, stored.meta


def save_tree(path: str | Path, tree: object, meta: Mapping[str, str] | None = None) -> None:
    """Write all arrays of a tree under the paths of their leaves; otherwise like `save_arrays`."""
    _write(path, encode_tree(tree, meta))


def load_tree(path: str | Path, like: T, limit: int = LIMIT) -> tuple[T, dict[str, str]]:
    """`like` with the arrays of a file of `save_tree`, and its texts. **Raises:** see `read` and `Stored.into`."""
    stored = read(path, limit)
    return stored.into(like), stored.meta


def read(path: str | Path, limit: int = LIMIT) -> Stored:
    """All of a file, checked.

    **Arguments:** `limit`, the largest size in bytes that is accepted, declared or real.

    **Raises:** `E_CKPT_MISSING`; `E_SIZE`, before memory is taken; `E_CKPT_CORRUPT` naming the damaged leaves or the
    header, and the previous generation where that is sound; `E_CKPT_VERSION` for a newer layout.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            _check_size(file, path.name, limit)
            data = file.read()
        return decode(data, path.name)
    except OSError as error:
        failure = PinnsimError.of("E_CKPT_MISSING", f"'{path}' cannot be read: {error.strerror or error}.")
        raise offering_previous(failure, path, is_sound) from error
    except PinnsimError as error:
        raise offering_previous(error, path, is_sound) from error


def encode(leaves: Mapping[str, np.ndarray], meta: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file with these arrays; equal arrays and texts give equal bytes."""
    return _encode(leaves, meta, "", {})


def encode_tree(tree: object, meta: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file with all arrays of a tree and what identifies the tree."""
    return _encode(named_leaves(tree), meta, structure_hash(tree), static_names(tree))


def _encode(
    leaves: Mapping[str, np.ndarray],
    meta: Mapping[str, str] | None,
    structure: str,
    names: Mapping[str, tuple[str, ...]],
) -> bytes:
    # asarray, not ascontiguousarray: the latter turns a scalar into a vector.
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in leaves.items()}
    odd = [f"'{name}' ({leaf.dtype})" for name, leaf in arrays.items() if leaf.dtype.newbyteorder("=") not in _DTYPES]
    if odd:
        raise PinnsimError.of("E_USAGE", f"Only arrays of numbers can be stored, but got {first(odd)}.")
    arrays = {name: leaf.astype(leaf.dtype.newbyteorder("="), copy=False) for name, leaf in arrays.items()}
    # The same names occur many times in a tree (a model, its optimiser's moments): each list is written once.
    lists = {values: number for number, values in enumerate(dict.fromkeys(names.values()))}
    header = {
        "digest": _BLANK,
        "schema": SCHEMA,
        "leaves": [[name, leaf_digest(name, leaf)] for name, leaf in arrays.items()],
        "structure": structure,
        "names": {path: lists[values] for path, values in names.items()},
        "lists": [list(values) for values in lists],
        "meta": dict(meta or {}),
    }
    data = safetensors.numpy.save(arrays, metadata={_KEY: json.dumps(header)})
    place = _digest_place(data)
    if place is None:
        raise RuntimeError("safetensors wrote a header in an order that hides the digest")
    return data[: place.start] + hashlib.sha256(data).hexdigest().encode() + data[place.stop :]


def decode(data: bytes, place: str) -> Stored:
    """The contents of a file's bytes; `place` names it in messages. **Raises:** `E_CKPT_CORRUPT`, `E_CKPT_VERSION`."""
    if not _digest_holds(data):
        raise PinnsimError.of("E_CKPT_CORRUPT", f"{place}: {_blame(data)}.")
    header = _header(data)
    if header["schema"] != SCHEMA:
        raise PinnsimError.of("E_CKPT_VERSION", f"{place}: {version_sentence(header['schema'], SCHEMA)}")
    arrays = safetensors.numpy.load(data)
    lists = [tuple(values) for values in header["lists"]]
    return Stored(
        {name: arrays[name] for name, _ in header["leaves"]},
        header["meta"],
        header["structure"],
        {path: lists[number] for path, number in header["names"].items()},
        place,
    )


def leaf_digest(name: str, leaf: np.ndarray) -> str:
    """sha256 over name, dtype, shape and bytes: two leaves that exchange their bytes both fail."""
    return hashlib.sha256(f"{name}\0{leaf.dtype}\0{leaf.shape}\0".encode() + leaf.tobytes()).hexdigest()


def version_sentence(found: object, build: int) -> str:
    """What a file of another schema version tells its reader."""
    remedy = "update pinnsim" if isinstance(found, int) and found > build else "load it with the pinnsim that wrote it"
    return f"file schema {found}, this build reads {build}; {remedy}."


def is_sound(path: Path) -> bool:
    """Whether a file of `save_arrays` or `save_tree` is there and undamaged."""
    try:
        return _digest_holds(path.read_bytes())
    except OSError:
        return False


def _write(path: str | Path, data: bytes) -> None:
    with replacing(path, is_sound) as temporary:
        temporary.write_bytes(data)


def _check_size(file: BinaryIO, place: str, limit: int) -> None:
    """Refuse by the declared sizes, before anything of that size is read."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size > limit:
        raise PinnsimError.of("E_SIZE", f"{place} takes {size / 1e9:.3g} GB, limit {limit / 1e9:.3g} GB; pass limit=.")
    broken = PinnsimError.of("E_CKPT_CORRUPT", f"{place}: the header is damaged, or this is no file of pinnsim.")
    if length > size - 8:
        raise broken
    try:
        tensors = {name: entry for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"}
        declared = sum(math.prod(entry["shape"]) * _ITEM_BYTES[entry["dtype"]] for entry in tensors.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise broken from None
    file.seek(0)
    if declared > limit:
        raise PinnsimError.of(
            "E_SIZE", f"{place} declares {declared / 1e9:.3g} GB of arrays, limit {limit / 1e9:.3g} GB; pass limit=."
        )
    if declared != size - 8 - length:
        there = size - 8 - length
        what = "cut off, or its header damaged" if declared > there else "followed by bytes that are not its own"
        raise PinnsimError.of(
            "E_CKPT_CORRUPT", f"{place} is {what}: its header declares {declared} bytes of arrays, there are {there}."
        )


def _digest_place(data: bytes) -> slice | None:
    end = 8 + int.from_bytes(data[:8], "little")
    match = _DIGEST.search(data[:end] if end < len(data) else data)
    return None if match is None else slice(*match.span(1))


def _digest_holds(data: bytes) -> bool:
    place = _digest_place(data)
    if place is None:
        return False
    blank = data[: place.start] + _BLANK.encode() + data[place.stop :]
    return hashlib.sha256(blank).hexdigest().encode() == data[place]


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])


def _blame(data: bytes) -> str:
    """Which part of a damaged file is hit: leaves by name, or else the header."""
    try:
        arrays = safetensors.numpy.load(data)
        recorded = {str(name): str(digest) for name, digest in _header(data)["leaves"]}
    except (ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError):
        return "the header is damaged, or this is no file of pinnsim"
    bad = [name for name in recorded if name not in arrays or leaf_digest(name, arrays[name]) != recorded[name]]
    for one in bad:
        for other in bad:
            if one < other and {one, other} <= set(arrays):
                exchanged = leaf_digest(one, arrays[other]), leaf_digest(other, arrays[one])
                if exchanged == (recorded[one], recorded[other]):
                    return f"the leaves '{one}' and '{other}' were exchanged"
    if bad:
        quoted = first(f"'{name}'" for name in bad)
        return f"sha256 mismatch in {'leaf' if len(bad) == 1 else 'leaves'} {quoted}"
    return "sha256 mismatch in the header"


def _would_narrow(dtype: np.dtype) -> bool:
    return jax.dtypes.canonicalize_dtype(dtype) != dtype
