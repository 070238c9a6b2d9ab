"""How a run of the command line begins: double precision, compiled programs kept between runs, warnings in one line.

The library itself changes nothing at import; this file is where a program of ours (the command line, an experiment)
says what it wants. Programs that were compiled once are kept in a cache folder, so that the second run starts in a
fraction of the time; a folder that cannot be written, or a broken entry in it, only costs the time.
"""

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from pinnsim.errors import PinnsimWarning

PACKAGES = ("pinnsim", "jax", "equinox", "diffrax", "optax", "numpy", "scipy")
CACHE_VARIABLE = "PINNSIM_CACHE"
_BROKEN_ENTRY = "Error (reading|writing) persistent compilation cache entry"


def start() -> None:
    """Double precision, a compilation cache where none is set up, and pictures without a screen."""
    from pinnsim.precision import enable_x64

    os.environ.setdefault("MPLBACKEND", "Agg")
    # Programs that call back to Python to report an error cannot be cached; what such checks find shows as NaN instead.
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    # Else XLA asks the user to file a bug where a busy machine compiles for two minutes; real errors are exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    enable_x64()
    _keep_compiled_programs()


def use_cores(most: int | None = None) -> int:
    """Makes a device of every processor core, or of `most` of them, so that batches are spread over them, where nothing
    has run yet; gives the number of devices there are."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(RuntimeError):  # too late: devices are as they are
        jax.config.update("jax_num_cpu_devices", cores if most is None else max(1, min(cores, most)))
    return jax.local_device_count()


def cache_folder() -> Path | None:
    """Where compiled programs are kept: `$PINNSIM_CACHE`, else in the user's cache folder; `None` if that is `off`, or
    cannot be made and written."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named.lower() == "off":
        return None
    folder = Path(named).expanduser() if named else _user_cache() / "pinnsim" / "jax"
    # Asked by writing: permissions alone do not tell of full or read-only disks.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        return folder
    return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            from pinnsim import __version__

            found[name] = __version__ if name == "pinnsim" else "absent"
    return found


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Inside, our own warnings are one line on stderr (`W_...: ...`), and broken cache entries are not spoken of."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", PinnsimWarning)
        warnings.filterwarnings("ignore", _BROKEN_ENTRY)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, PinnsimWarning):
                print(message, file=sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _keep_compiled_programs() -> None:
    import jax

    # Whoever has set a cache up already keeps it.
    if jax.config.values.get("jax_compilation_cache_dir") is None and (folder := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
