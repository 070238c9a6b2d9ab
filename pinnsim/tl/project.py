"""A project of single cells: what one TOML file says about an `.h5ad` file, its network, half-lives, model and fit.

    [cells]       h5ad = "cells.h5ad", layers = { mrna = "X" }, time = "hours", time_unit = "h", scale = "counts",
                  size = 200, condition = "arm"
    [treatments]  knockout = "src=0"
    [network]     path = "network.csv"
    [prior]       organism = "human"    or half_lives = "half_lives.csv", or column = "half_life_h" (of `var`)
    [model]       see `ModelConfig` (default: `pinnsim.fit.measured.usual_config`)     [fit] see `FitPlan`

Cells of one time and those of the next are different cells: `pinnsim.tl.fit` compares populations. Paths are relative
to the file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pinnsim import pp
from pinnsim.annotated import record
from pinnsim.annotated.cells import selected
from pinnsim.data.cells import open_cells
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.fit import FitPlan
from pinnsim.formats.toml import read_config
from pinnsim.model import ModelConfig
from pinnsim.tl.fit import USUAL, fit


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellsConfig(_Section):
    """The cells. `layers`: the model's layer to the file's ("X" is the main matrix); `time`, `condition`, `depth`:
    columns of `obs` (without `depth`, size factors are totals of the layers); `size`: molecules that stand for a gene's
    highest mean, mean count over the share of molecules that is captured; `cells`: simulated per condition."""

    h5ad: str
    layers: dict[str, str]
    time: str
    time_unit: str
    scale: Literal["counts", "linear"]
    size: Annotated[float, Field(gt=0)]
    condition: str | None = None
    conditions: tuple[str, ...] = ()
    depth: str | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    min_cells: Annotated[int, Field(ge=1)] = 20
    cells: Annotated[int, Field(ge=2)] = 200
    source: str = ""
    simulated: bool = False


class EdgesConfig(_Section):
    """The signed network: a table of edges (see `Network.read`)."""

    path: str


class LivesConfig(_Section):
    """Half-lives: a table, or a column of `var` in the cells' time unit, and/or an organism for the other genes."""

    half_lives: str | None = None
    column: str | None = None
    organism: str | None = None
    log_sd: Annotated[float, Field(gt=0)] = 0.4


class CellsProject(_Section):
    """The whole file."""

    cells: CellsConfig
    network: EdgesConfig
    treatments: dict[str, str] = {}
    prior: LivesConfig = LivesConfig()
    model: ModelConfig | None = None
    fit: FitPlan = USUAL

    @field_validator("fit", mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        return {**USUAL.model_dump(), **given} if isinstance(given, dict) else given


class Cells(NamedTuple):
    """A project's configuration, and its cells with everything that `pinnsim.pp` attaches."""

    config: CellsProject
    adata: Any


def load_cells(path: str | Path, without: tuple[str, ...] = (), **plan: int | None) -> Cells:
    """Reads a project of cells and all that it names; steps of `pp` whose input is sound run, so that what they find is
    told together.

    **Arguments:** `without`: conditions to leave out; `plan`: settings of the fit to replace, where they are given.

    **Raises** `E_CONFIG_...`, `E_DATA_FILE`, `E_SIZE`, `E_CONDITION_UNKNOWN`, and what `pp.times`, `pp.size_factors`,
    `pp.select_genes` and `pp.half_lives` raise.
    """
    config = read_config(Path(path), CellsProject)
    changes = {name: value for name, value in plan.items() if value is not None}
    if changes:
        config = config.model_copy(update={"fit": config.fit.model_copy(update=changes)})
    folder, cells = Path(path).parent, config.cells
    adata = open_cells(folder / cells.h5ad)
    with Problems() as problems:
        adata = problems.attempt(lambda: _chosen(adata, cells, without))
        if adata is None:
            problems.raise_any()
        treatments = {name: text for name, text in config.treatments.items() if name not in without}
        problems.attempt(
            lambda: pp.times(
                adata,
                time_key=cells.time,
                time_unit=cells.time_unit,
                condition_key=cells.condition,
                treatments=treatments,
                source=cells.source,
                simulated=cells.simulated,
            )
        )
        layers = list(dict.fromkeys(cells.layers.values()))
        how: dict[str, Any] = {"column": cells.depth, "method": "column"} if cells.depth else {"layers": layers}
        problems.attempt(lambda: pp.size_factors(adata, **how))
        problems.raise_any()
        layer = cells.layers.get("mrna") or cells.layers.get("spliced") or layers[0]
        network = folder / config.network.path
        problems.attempt(lambda: pp.select_genes(adata, network, layer=layer, top=cells.top, min_cells=cells.min_cells))
        problems.raise_any()
        lives, unit = config.prior, cells.time_unit
        table = None if lives.half_lives is None else folder / lives.half_lives
        options: dict[str, Any] = {"column": lives.column, "organism": lives.organism, "log_sd": lives.log_sd}
        problems.attempt(lambda: pp.half_lives(adata, table, unit=unit, **options))
    return Cells(config, adata)


def fit_project(project: Cells, folder: Path, progress: bool = True) -> Any:
    """Fits as the project says, in place, and keeps the model in `folder`. **Raises** as `tl.fit`."""
    config, cells = project.config, project.config.cells
    fit(
        project.adata,
        layers=cells.layers,
        scale=cells.scale,
        size=cells.size,
        config=config.model,
        plan=config.fit,
        cells=cells.cells,
        path=folder,
        progress=progress,
    )
    return project.adata


def described(project: Cells) -> dict[str, Any]:
    """What there is: cells by condition and time, genes, edges, half-lives."""
    adata = project.adata
    told, genes = adata.uns[record.TIMES], selected(adata)
    by = adata.obs.groupby([record.CONDITION, record.TIME], observed=True).size()
    counts = [{"condition": str(c), "time": float(t), "cells": int(n)} for (c, t), n in by.items()]
    made = "SIMULATED " if told["simulated"] else ""
    network = record.network_of(adata.uns[record.NETWORK])
    source = adata.var.loc[genes, f"{record.HALF_LIFE}_source"]
    shown = first((f"{row['condition']} at {row['time']:g} {told['time_unit']}: {row['cells']}" for row in counts), 12)
    return {
        "described": f"{made}snapshots of {adata.n_obs} cells, {len(genes)} genes ({first(genes, 8)}); {shown}",
        "cells": adata.n_obs,
        "populations": counts,
        "time_unit": str(told["time_unit"]),
        "layers": dict(project.config.cells.layers),
        "genes": genes,
        "genes_fitted": len(genes),
        "genes_in_file": adata.n_vars,
        "edges": len(network.edges),
        "typical_half_life": [gene for gene, text in source.items() if not str(text).startswith("measured")],
        "simulated": bool(told["simulated"]),
    }


def _chosen(adata: Any, cells: CellsConfig, without: tuple[str, ...]) -> Any:
    """The cells of the wanted conditions."""
    if not cells.conditions and not without:
        return adata
    if cells.condition is None or cells.condition not in adata.obs:
        raise PinnsimError.of("E_CONDITION_UNKNOWN", "choosing conditions needs [cells] condition, a column of obs.")
    column = adata.obs[cells.condition].astype(str)
    names = list(dict.fromkeys(column))
    with Problems() as problems:
        for name in (*cells.conditions, *without):
            if name not in names:
                near = did_you_mean(name, names)
                problems.add("E_CONDITION_UNKNOWN", f"no condition '{name}'{near}; there are {first(names)}.")
    kept = [name for name in cells.conditions or names if name not in without]
    return adata[column.isin(kept).to_numpy()].copy()
