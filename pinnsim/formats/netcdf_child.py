"""A stranger's NetCDF file, turned into Zarr in a process of its own: damaged ones make HDF5 write beyond its memory.

    python -m pinnsim.formats.netcdf_child FILE.nc FOLDER.zarr MEMORY SECONDS

Whoever asked reads the Zarr folder and never touches the file.
"""

import sys

from pinnsim.formats.apart import bounded


def main(source: str, target: str, memory: str, seconds: str) -> None:
    """Reads one and writes the other."""
    bounded(int(memory), int(seconds))
    import xarray as xr

    from pinnsim.formats.texts import in_memory

    with xr.open_datatree(source, engine="h5netcdf", chunks=None, decode_times=False) as opened:
        nodes = {
            node.path: node.to_dataset(inherit=False).drop_encoding() for node in in_memory(opened, object).subtree
        }
    xr.DataTree.from_dict(nodes).to_zarr(target, mode="w", zarr_format=3, consolidated=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
