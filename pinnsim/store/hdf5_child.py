"""A stranger's HDF5 file, walked through in a process of its own: with damaged files the library may run for ever.

    python hdf5_child.py FILE SECONDS        # the file is named by path: starting must not import the package

Prints one JSON object: `declared` (bytes of all arrays) or `refused` (why). Small arrays and all attributes are read,
too, so that what ends or never ends is met here.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator

import h5py

_SMALL = 100_000  # bytes of an array that is read here
_MEMORY = 1_500_000_000  # bytes that this process may take


def declared(path: str) -> Iterator[int]:
    """Bytes of every array as declared. **Raises** `ValueError` for links and for data in other files; `OSError`."""
    with h5py.File(path, "r") as file:
        waiting: list[h5py.Group] = [file]
        seen = set()
        while waiting:
            group = waiting.pop()
            # The NetCDF library follows a group that holds itself until the process dies.
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:
                raise ValueError(f"the group '{group.name}' is there twice")
            seen.add(address)
            dict(group.attrs)
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"'{name}' is a link, which is not followed")
                item = group[name]
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.is_virtual or item.external:
                        raise ValueError(f"the data of '{name}' lie in another file, which is not opened")
                    size = math.prod(item.shape or ()) * item.dtype.itemsize
                    dict(item.attrs)
                    if item.shape is not None and size <= _SMALL:
                        item[()]
                    yield size


def main(path: str, seconds: str) -> None:
    """Prints what a file declares."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found: dict[str, int | str] = {"declared": sum(declared(path))}
    except Exception as error:  # whatever a damaged file makes the library say
        found = {"refused": str(error)[:500] or type(error).__name__}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
