"""Simulations as xarray trees, their texts in one form: Zarr 3 specifies `object`, other tools want `str`."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

TEXT = "UOT"  # numpy's kinds of fixed and variable text


def in_memory(simulation: xr.DataTree | xr.Dataset, text: type) -> xr.DataTree:
    """The tree, read into memory, with its texts as `object` or as `str`."""
    tree = simulation if isinstance(simulation, xr.DataTree) else xr.DataTree(simulation)
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False).load()
        texts: dict[Hashable, tuple] = {
            name: (
                variable.dims,
                # xarray takes an empty array of objects for one of numbers.
                np.array(variable.values.tolist(), dtype=text if variable.size else np.dtypes.StringDType()).reshape(
                    variable.shape
                ),
                variable.attrs,
            )
            for name, variable in dataset.variables.items()
            if variable.dtype.kind in TEXT
        }
        nodes[node.path] = dataset.assign(texts)
    return xr.DataTree.from_dict(nodes)
