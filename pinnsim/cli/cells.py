"""`pinnsim fit` for a project of single cells: the same folder of results as for tables, and the cells themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnsim.cli.arguments import check_folder
from pinnsim.cli.output import answer, show_table, tell, to_json, write_files
from pinnsim.session import versions

if TYPE_CHECKING:
    from pinnsim.tl.project import Cells

MODEL, SUMMARY, OBJECT, TABLES = "model", "cells.json", "fitted.h5ad", "tables"
GENES, POPULATIONS = "genes.png", "populations.png"


def fit_cells(
    config: Path, out: Path, *, starts: int | None, seed: int | None, without: list[str], progress: bool
) -> None:
    """Fits populations, and writes the model, `fitted.h5ad`, tables, pictures and a summary."""
    from pinnsim.annotated import write_results
    from pinnsim.tl.project import described, fit_project, load_cells

    project = load_cells(config, tuple(without), starts=starts, seed=seed)
    check_folder(out)
    found = described(project)
    tell(found["described"])
    tell(f"{found['genes_fitted']} of {found['genes_in_file']} genes, {found['edges']} edges among them.")
    out.mkdir(parents=True, exist_ok=True)
    adata = fit_project(project, out / MODEL, progress)
    kept = adata.uns["pinnsim_fit"]
    table = {name: [str(v) if hasattr(v, "lower") else v for v in column] for name, column in kept["table"].items()}
    summary: dict[str, Any] = {"made_by": "pinnsim fit", "project": config.name, **found, "scores": kept["scores"]}
    summary |= {"flags": [str(flag) for flag in kept["flags"]], "starts": table, "versions": versions()}
    write_results(adata, out / OBJECT)
    write_results(adata, out / TABLES)
    write_files(out, {SUMMARY: to_json(summary), **_pictures(project)})
    show_table("Starts", tuple(table), list(zip(*table.values(), strict=True)))
    scores = {name.removeprefix("rms_log1p_mean_").replace("_", " "): value for name, value in kept["scores"].items()}
    show_table("Error of population means (root mean square of log(1 + mean))", ("", "error"), list(scores.items()))
    for flag in summary["flags"]:
        tell(flag)
    tell(f"Model: {out / MODEL}\nCells: {out / OBJECT}, tables: {out / TABLES}")
    last = max(row["time"] for row in found["populations"])
    tell(f"Next: pinnsim landscape {out / MODEL}")
    tell(f"      pinnsim simulate {out / MODEL} --times 0:{last:g}:{last / 100:g} --out {out}/sim.zarr")
    answer({**summary, "out": out})


def _pictures(project: "Cells") -> dict[str, bytes | str]:
    from pinnsim import pl
    from pinnsim.report import png_bytes

    return {
        GENES: png_bytes(pl.genes(project.adata)),
        POPULATIONS: png_bytes(pl.populations(project.adata)),
    }
