"""Stored arrays: what comes back is bit for bit what was written, or is refused.

`arrays` is the file, `identity` says which tree a file belongs to, `replace` makes writing atomic.
"""

from pinnsim.store.arrays import (
    LIMIT,
    SCHEMA,
    Stored,
    decode,
    encode,
    encode_tree,
    is_sound,
    load_arrays,
    load_tree,
    read,
    save_arrays,
    save_tree,
    version_sentence,
)
from pinnsim.store.replace import offering_previous, previous_of, replacing

__all__ = [
    "LIMIT",
    "SCHEMA",
    "Stored",
    "decode",
    "encode",
    "encode_tree",
    "is_sound",
    "load_arrays",
    "load_tree",
    "offering_previous",
    "previous_of",
    "read",
    "replacing",
    "save_arrays",
    "save_tree",
    "version_sentence",
]
