"""What is known to be done: a journal of lines that are whole or do not count, and files that are whole or not there.

A file is written as a temporary neighbour, flushed, synchronised, renamed, and its folder synchronised; only then a
line is appended to the journal and synchronised. A line is

    <length of body, 8 digits> <CRC-32 of body, 8 hex digits> <body: one JSON object>

so that a line which was cut off by a crash, or hit by a flipped bit, is seen and counts for nothing: what it told of is
done again.

Source: the protocol in T. S. Pillai et al., "All file systems are not created equal", OSDI (2014).
"""

import contextlib
import errno
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinnsim.errors import PinnsimError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEMPORARY = re.compile(r"\..+\.\d+\.part")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Inside, what the disk refuses is an `E_DISK` that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            advice = "what is in the journal is kept; free space, then go on with 'pinnsim sweep resume'"
        else:
            advice = "choose a folder that can be written"
        raise PinnsimError.of("E_DISK", f"'{folder}' cannot be written: {reason}; {advice}.") from error


def write_durably(path: Path, data: bytes) -> None:
    """Puts `data` under a name: whole, and still there after a power cut; or not at all. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            _write_all(file.fileno(), data)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder last."""
    if os.name == "nt":
        return  # folders cannot be opened there; a rename is durable by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_orphans(folder: Path) -> int:
    """Deletes temporaries of writers that were killed; gives their number. For the one who holds the lock."""
    found = [path for path in folder.rglob(".*.part") if _TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


class Journal:
    """An append-only file of JSON objects.

    **Arguments:** `path`: the file, made when absent. `entries`: the whole lines; `damaged`: numbers of lines (from 1)
    that are none; `torn`: whether the last line was cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self.damaged: list[int] = []
        self.torn = False
        data = path.read_bytes() if path.exists() else b""
        lines = data.split(b"\n")
        self.torn = bool(lines.pop())
        for number, line in enumerate(lines, start=1):
            entry = _parsed(line)
            if entry is None:
                self.damaged.append(number)
            else:
                self.entries.append(entry)

    def mend(self) -> None:
        """Drops what is torn or damaged from the file, so that lines can be appended. Raises `OSError`."""
        if self.torn or self.damaged:
            write_durably(self.path, b"".join(map(_line, self.entries)))
            self.torn, self.damaged = False, []

    def append(self, entry: dict[str, Any]) -> None:
        """One more line, on the disk when this returns. What fails leaves the journal as it was. Raises `OSError`."""
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, _line(entry))
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self.path.parent)
        self.entries.append(entry)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _line(entry: dict[str, Any]) -> bytes:
    body = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08d %08x %s\n" % (len(body), zlib.crc32(body), body)


def _parsed(line: bytes) -> dict[str, Any] | None:
    head, body = line[:18], line[18:]
    if re.fullmatch(rb"\d{8} [0-9a-f]{8} ", head) is None:
        return None
    if int(head[:8]) != len(body) or int(head[9:17], 16) != zlib.crc32(body):
        return None
    return json.loads(body)
