"""How much memory a stored file may ask for, decided by what it declares before anything is read."""

from pathlib import Path

_DENSEST = 1032  # times that DEFLATE can make bytes fewer at the most
_ROOM = 2**28  # bytes that a small file may declare whatever it holds


def over_limit(path: Path, declared: int, limit: int) -> str:
    """Why a file or folder is too large to be read, in words; empty where it is not.

    Its arrays may have `limit` bytes, and no more than a compressed file of its size can hold: an array of which
    nothing was ever written takes no room on disk, but all of it in memory.

    **Arguments:** `declared`: bytes of all its arrays, as it says.
    """
    if declared > limit:
        return f"'{path.name}' declares {declared / 1e9:.3g} GB of arrays, limit {limit / 1e9:.3g} GB"
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    held = sum(file.stat().st_size for file in files)
    if declared > _DENSEST * held + _ROOM:
        return f"'{path.name}' declares {declared / 1e9:.3g} GB of arrays, but holds {held / 1e6:.3g} MB"
    return ""
