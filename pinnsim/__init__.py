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
    "annotated",
    "data",
    "design",
    "dynamics",
    "fit",
    "landscape",
    "latent",
    "operator",
    "pl",
    "plot",
    "pp",
    "reprogramming",
    "score",
    "screen",
    "shelf",
    "simulate",
    "sweep",
    "tl",
)
_HOMES = {
    "CellModel": "pinnsim.model",
    "Dataset": "pinnsim.data",
    "FitPlan": "pinnsim.fit",
    "KineticPrior": "pinnsim.prior",
    "ModelConfig": "pinnsim.model",
    "Network": "pinnsim.network",
    "PinnsimError": "pinnsim.errors",
    "PinnsimWarning": "pinnsim.errors",
    "Snapshots": "pinnsim.data",
    "Treatment": "pinnsim.treatment",
    "load_model": "pinnsim.formats.bundle",
    "save_model": "pinnsim.formats.bundle",
    "read_antimony": "pinnsim.formats.antimony",
    "read_petab": "pinnsim.formats.petab.problem",
    "read_sbml": "pinnsim.formats.sbml.read",
    "to_pypesto": "pinnsim.formats.pypesto",
    "write_petab": "pinnsim.formats.petab.write",
    "write_results": "pinnsim.annotated",
    "write_sbml": "pinnsim.formats.sbml.write",
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
