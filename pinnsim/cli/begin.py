"""`pinnsim init` and `pinnsim schema`: where a project of one's own begins."""

import enum
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pinnsim.cli.arguments import check_folder
from pinnsim.cli.output import tell, write_files
from pinnsim.errors import PinnsimError
from pinnsim.session import start

PROJECT = "project.toml"


class Template(enum.StrEnum):
    """What the data look like."""

    BULK = "bulk"
    MATRIX = "matrix"
    SNAPSHOTS = "snapshots"
    US = "us"
    EMBEDDED = "embedded"
    PETAB = "petab"


_TABLE = """\
# A table with a reading per row. Columns are named here, never guessed; units and scales too.
[data]
tidy = "readings.csv"
gene = "gene"
value = "value"
time = "time"
condition = "condition"
replicate = "replicate"
time_unit = "min"                # of the times in the table: s, min, h or d
scale = "log2"                   # or linear, log1p, counts
simulated = true                 # the example's numbers are made up; leave this out for measurements
"""
_MATRIX = """\
# A genes x samples matrix, and a table that says what each of its columns is.
[data]
wide = "expression.csv"
samples = "samples.csv"
time = "time"
condition = "condition"
replicate = "replicate"
time_unit = "min"                # of the times in the table of samples: s, min, h or d
scale = "log2"                   # or linear, log1p, counts
simulated = true                 # the example's numbers are made up; leave this out for measurements
"""
_REST = """
# What was done to the cells: `signal(NAME)=1@0:` is on from time 0, `GENE=0` a knock-out, `GENE*2` a doubled synthesis.
[treatments]
heat = "signal(heat)=1@0:"

# Who regulates whom: columns regulator, target, sign (1 activates, -1 represses, 0 unknown).
[network]
path = "network.csv"
# allow_missing = true           # keep regulators that were not measured, as hidden ones

# Known half-lives: columns gene, half_life. Missing genes need `organism = "..."`, whose typical value they get.
[prior]
half_lives = "half_lives.csv"
unit = "min"

[model]
time_unit = "min"                # of every rate and time constant of the model
inputs = [{ name = "heat" }]
[model.readout]
kind = "array"                   # log2 of an intensity with a floor and a ceiling

[fit]
starts = 4                       # independent starts; the best `keep` become the ensemble
keep = 2
seed = 0
"""
_EMBEDDED = """\
# Real measurements that come with pinnsim: 121 genes of Bacillus subtilis, two carbon shifts.
[data]
name = "bsubtilis_carbon_shift"

[prior]
organism = "B. subtilis"         # its typical half-life for every gene

[model]
inputs = [{ name = "glucose" }, { name = "malate" }]
[model.readout]
kind = "array"

[fit]
starts = 4                       # independent starts; the best `keep` become the ensemble
keep = 2
seed = 0
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    template: Annotated[Template, typer.Option(help="What your data look like, see below.")] = Template.BULK,
) -> None:
    """Write a project to begin from: a commented project file and a small example of every table it names.

    \b
    Templates:
      bulk       a table with a reading per row: courses of cultures
      matrix     the same as a genes x samples matrix and a table of samples
      snapshots  single cells at several times, in an .h5ad file
      us         the same with unspliced and spliced counts
      embedded   the measurements that come with pinnsim
      petab      a PEtab problem: a kinetic model in SBML, conditions, measurements, numbers to be found

    The example fits as it is. Replace its tables by your own, keep or rename their columns in the project file, and
    let 'pinnsim check' say what does not fit together. A PEtab problem has problem.yaml in place of project.toml.

    \b
    Examples:
      pinnsim init mine
      pinnsim init cells --template snapshots
      pinnsim check mine/project.toml
      pinnsim fit mine/project.toml --out mine/fitted
      pinnsim init kinetics --template petab
    """
    start()
    check_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise PinnsimError.of("E_USAGE", f"'{folder}' is not empty; name a new folder, so that nothing is overwritten.")
    files = _files(template)
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, dict(files))
    tell(f"Written: {', '.join(str(folder / name) for name in files)}")
    project = next(iter(files))
    tell(f"Next: pinnsim check {folder / project}")
    tell(f"      pinnsim fit {folder / project} --out {folder / 'fitted'}")


def _files(template: Template) -> dict[str, str | bytes]:
    if template == Template.EMBEDDED:
        return {PROJECT: _EMBEDDED}
    if template in (Template.SNAPSHOTS, Template.US):
        from pinnsim.cli.examples import cells_example

        return cells_example(unspliced=template == Template.US)
    if template == Template.PETAB:
        from pinnsim.cli.problem_example import problem_example

        return dict(problem_example())
    return dict(_example(template))


def schema(
    fields: Annotated[bool, typer.Option("--fields", help="A line per setting instead, with its default.")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="Of projects of single cells, in place of tables.")] = False,
) -> None:
    """Print the JSON Schema of project files, for editors that complete and check TOML.

    \b
    Examples:
      pinnsim schema > pinnsim.schema.json
      pinnsim schema --cells > cells.schema.json
      pinnsim schema --fields
    """
    start()
    import json

    from pydantic import BaseModel

    kind: type[BaseModel]
    if cells:
        from pinnsim.tl.project import CellsProject as kind
    else:
        from pinnsim.project import ProjectConfig as kind

    if not fields:
        typer.echo(json.dumps(kind.model_json_schema(), indent=1))
        return
    for line in _settings(kind, ""):
        typer.echo(line)


def _settings(config: Any, prefix: str) -> Iterator[str]:
    """`section.name: default ...` of every setting, in the order of the file."""
    for name, setting in config.model_fields.items():
        if hasattr(setting.annotation, "model_fields"):
            yield from _settings(setting.annotation, f"{prefix}{name}.")
        elif setting.is_required():
            yield f"{prefix}{name}: required"
        else:
            yield f"{prefix}{name}: default {setting.get_default(call_default_factory=True)!r}"


def _example(template: Template) -> dict[str, str]:
    """A project file and its tables: four genes after a heat shock, made up."""
    import numpy as np
    import pandas as pd

    times = np.array([0.0, 15.0, 30.0, 60.0, 120.0, 240.0])
    # From rest each gene relaxes to its new level with its own half-life (minutes).
    genes = {
        "hspA": (10.0, 13.0, 10.0),
        "hspB": (9.5, 12.5, 15.0),
        "ribA": (14.0, 12.0, 20.0),
        "repR": (11.0, 10.2, 8.0),
    }
    rng = np.random.default_rng(0)
    rows = [
        {
            "gene": gene,
            "condition": "heat",
            "replicate": replicate,
            "time": time,
            "value": round(float(np.log2(2**high + (2**low - 2**high) * 0.5 ** (time / half)) + rng.normal(0, 0.1)), 3),
        }
        for gene, (low, high, half) in genes.items()
        for replicate in ("r1", "r2")
        for time in times.tolist()
    ]
    frame = pd.DataFrame(rows)
    tables: dict[str, pd.DataFrame]
    if template == Template.BULK:
        text, tables = _TABLE, {"readings.csv": frame}
    else:
        frame["sample"] = "heat_" + frame["replicate"] + "_" + frame["time"].map("{:g}min".format)
        wide = frame.pivot(index="gene", columns="sample", values="value").loc[list(genes)]
        about = frame[["sample", "condition", "replicate", "time"]].drop_duplicates()
        text, tables = _MATRIX, {"expression.csv": wide.reset_index(), "samples.csv": about}
    edges = pd.DataFrame({"regulator": ["repR", "repR"], "target": ["hspA", "hspB"], "sign": [-1, -1]})
    lives = pd.DataFrame({"gene": list(genes), "half_life": [half for _, _, half in genes.values()]})
    files = {PROJECT: text + _REST}
    for name, table in {**tables, "network.csv": edges, "half_lives.csv": lives}.items():
        buffer = io.StringIO()
        table.to_csv(buffer, index=False)
        files[name] = buffer.getvalue()
    return files
