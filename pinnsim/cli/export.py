"""`pinnsim export`: results in the formats of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from pinnsim.cli.arguments import check_folder
from pinnsim.cli.output import AsJson, answer, speak_to, tell
from pinnsim.errors import PinnsimError
from pinnsim.session import start


def export(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What fit, simulate, push, sweep or tl wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A name; its ending says the format.")],
    as_json: AsJson = False,
) -> None:
    """Write results for other programs.

    \b
    Sources:
      a simulation or a push    FILE.zarr, FILE.nc
      a fit                     the folder that fit wrote: readings beside fitted courses, rates, edges, scores
      a campaign                the folder of sweep
      annotated cells           FILE.h5ad with results of pinnsim.tl

    \b
    Formats, by the ending of OUT:
      .h5ad    AnnData: a row per sample, a column per gene; a fit's model comes along, bit for bit
      .nc      NetCDF, and
      .zarr    Zarr: named dimensions and units, for xarray
      .csv     one tidy table: the courses, or the points
      .yaml    a PEtab problem of a fit of tables, in a new folder: the best start's kinetics in SBML, data, treatments,
               noise, and fitted numbers; what PEtab cannot say (a neural residual, Student-t noise, ...) is refused
      (none)   a folder with a tidy table of everything

    \b
    Examples:
      pinnsim export fitted fitted.h5ad
      pinnsim export fitted tables
      pinnsim export fitted published/problem.yaml
      pinnsim export knockout.zarr knockout.csv
      pinnsim export out/sweep sweep.nc
    """
    start()
    speak_to(as_json)
    from pinnsim.annotated.exchange import TARGETS, read_source, write_target

    if out.suffix not in TARGETS:
        known = ", ".join(suffix or "a folder (no ending)" for suffix in TARGETS)
        raise PinnsimError.of("E_USAGE", f"OUT '{out.name}' ends in '{out.suffix}'; there are {known}.")
    check_folder(out.parent)
    found = read_source(source)
    written = write_target(found, out)
    tell(f"Written: {', '.join(map(str, written))}")
    answer({"source": source, "kind": found.kind, "written": written})
