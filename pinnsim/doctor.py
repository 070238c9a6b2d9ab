"""What this installation is made of and whether it works, ending in a self-test with a known answer.

The self-test is Gardner's toggle from the shelf, `u' = a / (1 + v^2) - u` and the same for v, with a = 10: its steady
states off the diagonal solve u + v = a and u v = 1, so that they are `5 +- 2 sqrt(6)`.

Source: T. S. Gardner, C. R. Cantor, J. J. Collins, Nature 403:339 (2000).
"""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from pinnsim.errors import PinnsimError
from pinnsim.session import CACHE_VARIABLE, cache_folder, versions

_LEAST_DISK = 1e9
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    well: bool
    found: str


def examine() -> Iterator[Check]:
    """All checks, one after the other; one that breaks is not well, and the others still run."""
    for name, look in _CHECKS.items():
        try:
            well, found = look()
        except PinnsimError as error:
            well, found = False, str(error)
        except Exception as error:  # a diagnosis must not fall ill itself
            well, found = False, f"{type(error).__name__}: {error}"
        yield Check(name, well, found)


def _packages() -> tuple[bool, str]:
    return True, ", ".join(f"{name} {version}" for name, version in versions().items())


def _requirements() -> tuple[bool, str]:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("pinnsim") or []]
    except PackageNotFoundError:
        return True, "pinnsim runs from its source folder: requirements were not checked"
    wrong = []
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need} is absent")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need} is wanted, {found} is here")
    return not wrong, "; ".join(wrong) or "all as wanted"


def _devices() -> tuple[bool, str]:
    import jax

    devices = jax.devices()
    return bool(devices), f"{len(devices)} {jax.default_backend()} ({devices[0].device_kind})"


def _precision() -> tuple[bool, str]:
    import jax.numpy as jnp

    dtype = jnp.zeros(()).dtype
    return str(dtype) == "float64", f"{dtype}, which fits and landscapes need to be float64"


def _cache() -> tuple[bool, str]:
    folder = cache_folder()
    if folder is not None:
        size = sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())
        return True, f"{folder} ({size / 1e6:.0f} MB)"
    off = os.environ.get(CACHE_VARIABLE, "").lower() == "off"
    return off, f"switched off by {CACHE_VARIABLE}" if off else f"cannot be written: set {CACHE_VARIABLE}=FOLDER"


def _threads() -> tuple[bool, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "XLA_FLAGS") if os.environ.get(name)]
    return True, ", ".join([f"{usable} of {os.cpu_count()} cores usable", *limits])


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return free > _LEAST_DISK, f"{free / 1e9:.1f} GB free here"


def _shelf() -> tuple[bool, str]:
    from pinnsim import shelf

    models, experiments = shelf.models(), shelf.experiments()
    return bool(models), f"models: {', '.join(models) or 'none'}; experiments: {', '.join(experiments) or 'none'}"


def _self_test() -> tuple[bool, str]:
    import jax.numpy as jnp
    import numpy as np

    from pinnsim import shelf
    from pinnsim.perturbation import Perturbation
    from pinnsim.simulate import steady_state

    bundle = shelf.load("toggle_switch")
    model = bundle.models[0]
    guess = np.where(np.arange(len(model.table.species)) == 0, 9.0, 0.5)
    state = np.asarray(steady_state(model.kinetics, Perturbation.none(model.table), jnp.asarray(guess)).state)
    error = float(np.abs(state - [5 + 2 * math.sqrt(6), 5 - 2 * math.sqrt(6)]).max())
    return error < _TOLERANCE, f"steady state of the toggle switch within {error:.1e} of the exact one"


_CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "versions": _packages,
    "requirements": _requirements,
    "devices": _devices,
    "precision": _precision,
    "cache": _cache,
    "threads": _threads,
    "disk": _disk,
    "shelf": _shelf,
    "self-test": _self_test,
}
