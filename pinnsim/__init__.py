"""pinnsim: physics-informed cell-dynamics simulation.

The front door. Importing it is cheap and changes nothing: each public name is fetched from the file that defines it
when it is first used, and no JAX flag is touched. Verbs live in folders of their own name
(`from pinnsim.simulate import simulate`, `from pinnsim.fit import fit`).
"""

import importlib
from typing import Any

from pinnsim.precision import enable_x64

__version__ = "0.1.0"

_MODULES = (
    "data",
    "design",
    "dynamics",
    "fit",
    "landscape",
    "operator",
    "plot",
    "reprogramming",
    "score",
    "screen",
    "shelf",
    "simulate",
    "sweep",
)
_HOMES = {
    "Dataset": "pinnsim.data",
    "Network": "pinnsim.network",
    "PinnsimError": "pinnsim.errors",
    "PinnsimWarning": "pinnsim.errors",
    "Treatment": "pinnsim.treatment",
    "read_antimony": "pinnsim.formats.antimony",
    "read_sbml": "pinnsim.formats.sbml",
    "to_pypesto": "pinnsim.formats.pypesto",
}

__all__ = ["__version__", "enable_x64", *_MODULES, *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"pinnsim.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pinnsim' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
