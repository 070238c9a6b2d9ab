"""One runner per folder: a lock file that names its holder by process, start of the process, boot and machine.

The holder also keeps the file locked with the system (`flock`), which ends with the process whatever its end. A file
that nobody holds any more, because the process is gone, its number was given to another, or the machine was restarted,
is stale and is taken over. A holder on another machine cannot be asked; it is believed.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from pinnsim.errors import PinnsimError


class Lock:
    """Holds a folder until `release`, or until the end of the process. **Raises** `E_LOCKED`; `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            free = _flock(self._descriptor)
            if free is False:
                self._refuse(_read(self._descriptor))
            # Whoever released between our opening and locking took the file away: then it is another file now.
            if _same_file(self._descriptor, path):
                break
            os.close(self._descriptor)
        holder = _read(self._descriptor)
        if holder and _alive(holder, free):
            self._refuse(holder)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(_self()).encode(), 0)
        os.fsync(self._descriptor)

    def _refuse(self, holder: dict[str, Any]) -> None:
        os.close(self._descriptor)
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        raise PinnsimError.of(
            "E_LOCKED",
            f"{who} is working in '{self.path.parent}'; wait for it, or look with 'pinnsim sweep status'. If that "
            f"machine is gone for good, delete '{self.path}'.",
        )

    def release(self) -> None:
        """Gives the folder free."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _self() -> dict[str, Any]:
    return {"pid": os.getpid(), "began": _began(os.getpid()), "boot": _boot(), "host": platform.node()}


def _alive(holder: dict[str, Any], free: bool | None) -> bool:
    """Whether the holder that a lock file names may still be at work, where the system's own lock is `free`."""
    if holder.get("host") != platform.node():
        return True
    if free or holder.get("boot") != _boot():
        return False
    process = int(holder.get("pid", 0))
    if process == os.getpid():
        # Ours, from before, or held by another object of this process: the latter keeps the system's lock.
        return False
    if os.name != "nt":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return _began(process) == holder.get("began")


def _boot() -> str:
    """Names this run of the machine; empty where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _began(process: int) -> str:
    """When a process began, in the system's own ticks; empty where the system does not tell."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _flock(descriptor: int) -> bool | None:
    """Whether the system gave its lock; `None` where it has none, and the names in the file decide."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
