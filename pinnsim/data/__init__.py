"""Measurements: the `Dataset`, the readers that make one, and the data that come with the library (`load`)."""

from collections.abc import Callable

from pinnsim.data.carbon_shift import NAME, carbon_shift
from pinnsim.data.cells import read_anndata
from pinnsim.data.changing import Changing, changing
from pinnsim.data.dataset import Dataset
from pinnsim.data.myoblasts import myoblasts
from pinnsim.data.snapshots import Snapshots
from pinnsim.data.tables import read_tidy, read_wide
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.network import Network

__all__ = [
    "EMBEDDED",
    "Changing",
    "Dataset",
    "Snapshots",
    "carbon_shift",
    "changing",
    "load",
    "myoblasts",
    "read_anndata",
    "read_tidy",
    "read_wide",
]

EMBEDDED: dict[str, Callable[[], tuple[Dataset, Network]]] = {NAME: carbon_shift}
"""Embedded data sets by name."""


def load(name: str) -> tuple[Dataset, Network]:
    """An embedded data set and its network by name. **Raises** `E_DATASET_UNKNOWN` for an unknown name."""
    if name not in EMBEDDED:
        raise PinnsimError.of(
            "E_DATASET_UNKNOWN",
            f"no embedded data set '{name}'{did_you_mean(name, EMBEDDED)}; there are {', '.join(EMBEDDED)}.",
        )
    return EMBEDDED[name]()
