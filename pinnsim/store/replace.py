"""Atomic writing: under its name there is always something whole, the old or the new, whatever happens in between.

Protocol: a temporary neighbour in the same folder, write, flush, fsync, rename, fsync of the folder. What was there
before stays as `<name>.previous` if it was sound, and is offered when the newer one turns out damaged.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pinnsim.errors import PinnsimError, Problem


def previous_of(path: str | Path) -> Path:
    """Where the generation before `path` is kept."""
    path = Path(path)
    return path.with_name(f"{path.name}.previous")


def offering_previous(error: PinnsimError, path: Path, sound: Callable[[Path], bool]) -> PinnsimError:
    """`error`, its last message completed by the way to the previous generation where that is sound."""
    previous = previous_of(path)
    if not {"E_CKPT_CORRUPT", "E_CKPT_MISSING"} & set(error.codes) or not sound(previous):
        return error
    *others, last = error.problems
    offer = f"{last.message} The previous generation is undamaged: load '{previous}'."
    return PinnsimError([*others, Problem(last.code, offer)])


@contextlib.contextmanager
def replacing(path: str | Path, sound: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A temporary neighbour of `path`, to be made in the block; it takes the place of `path` when the block ends well.

    The name `path` always stands for something whole: what was there before stays until the rename, and stays for good
    if the block fails. Left-overs of killed writers are removed.

    **Arguments:** `sound`: if given, what was there is kept as `previous_of(path)` where `sound(path)` holds (a damaged
    one never pushes out the generation before it).

    **Raises:** `E_DISK` when the disk is full or the folder cannot be written.
    """
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_orphans(path)
            yield temporary
            _sync_all(temporary)
            _swap(path, temporary, old, sound is not None and path.exists() and sound(path))
            _sync(path.parent)
        finally:
            _remove(temporary)
            _remove(old)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"'{path}' cannot be written: {reason}; free space, or choose another folder."
        raise PinnsimError.of("E_DISK", message) from error


def _swap(path: Path, new: Path, old: Path, keep: bool) -> None:
    previous = previous_of(path)
    if not path.is_dir():
        if keep:
            # A second name for the same file, so that `path` exists at every moment.
            try:
                os.link(path, old)
            except OSError:
                shutil.copy2(path, old)
                _sync(old)
            os.replace(old, previous)
        os.replace(new, path)
        return
    # A folder cannot be renamed over another: for a moment only the previous generation exists, under its own name.
    with contextlib.ExitStack() as undo:
        if keep and previous.exists():
            os.replace(previous, old)
            undo.callback(os.replace, old, previous)
        aside = previous if keep else old
        os.replace(path, aside)
        undo.callback(os.replace, aside, path)
        os.replace(new, path)
        undo.pop_all()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_orphans(path: Path) -> None:
    pattern = re.compile(re.escape(f".{path.name}.") + r"(\d+)(?:\.old)?\.tmp")
    for entry in list(path.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match[1])):
            _remove(entry)


def _alive(process: int) -> bool:
    if os.name == "nt":
        return process != os.getpid()  # signal 0 would end a process there
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process != os.getpid()


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there; a rename is durable by itself
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    for entry in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():
        _sync(entry)
    _sync(path)
