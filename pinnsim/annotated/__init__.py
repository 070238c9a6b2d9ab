"""AnnData objects and pinnsim: what the steps of `pp` and `tl` write, how a fitted model is kept in one, and how
results leave it. The steps themselves are `pinnsim.pp`, `pinnsim.tl` and `pinnsim.pl`."""

from pinnsim.annotated.cells import fitted, snapshots_of, states_of
from pinnsim.annotated.export import tables, to_xarray, write_results

__all__ = ["fitted", "snapshots_of", "states_of", "tables", "to_xarray", "write_results"]
