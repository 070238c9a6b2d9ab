"""`pinnsim check`: everything that is wrong with a project, at once, before any time is spent on a fit."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import ConfigFile, read_project
from pinnsim.cli.imported import SUFFIXES, show_model
from pinnsim.cli.output import show_table, to_json
from pinnsim.errors import Problems, first
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.project import Project


def check(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON, for programs.")] = False,
) -> None:
    """Read everything a project file names, and say all that is wrong with it; or read an SBML or Antimony model, or
    a PEtab problem.

    Files, columns, units, scales, genes, the network, half-lives, treatments, and whether the model can be built from
    them. Nothing is fitted and nothing written. Shows what share of the genes the network and the half-lives cover. The
    exit status is 0 when a fit can begin.

    \b
    Examples:
      pinnsim check project.toml
      pinnsim check project.toml --json
      pinnsim check BIOMD0000000012.xml
      pinnsim check problem.yaml
    """
    start()
    if config.suffix.lower() in SUFFIXES:
        show_model(config, as_json)
        return
    project = read_project(config)
    from pinnsim.fit import cultures
    from pinnsim.fit.suits import check_suits
    from pinnsim.model import build

    with Problems() as problems:
        prior = problems.attempt(lambda: build(project.config.model, project.network, project.prior))
        if prior is not None:
            data = project.dataset
            problems.attempt(lambda: cultures(data, prior.center.table, substeps=project.config.fit.substeps))
            check_suits(problems, prior.center.observation, data.values[data.mask], data.scale, "the data set")
    found = _coverage(project)
    if as_json:
        typer.echo(to_json(found), nl=False)
        return
    typer.echo(project.measured.describe())
    rows = [(name, *values) for name, values in _rows(found)]
    show_table("What covers the genes", ("", "count", "share of genes", "without it"), rows)
    typer.echo(f"Nothing is wrong. Next: pinnsim fit {config} --out fitted")


def _coverage(project: "Project") -> dict[str, Any]:
    """What is known of how many genes, and of which it is not."""
    import numpy as np

    genes, network = project.dataset.genes, project.network
    targets = {network.genes[k] for k in np.unique(network.target).tolist()}
    measured = [gene for gene, source in zip(genes, project.prior.source, strict=True) if source.startswith("measured")]
    seen: np.ndarray = np.all(project.dataset.mask, axis=(0, 1, 2))
    return {
        "genes": len(genes),
        "conditions": list(project.dataset.conditions),
        "time_unit": project.dataset.time_unit,
        "model_time_unit": project.config.model.time_unit,
        "scale": project.dataset.scale,
        "edges": len(network.edges),
        "hidden_regulators": [name for name in network.regulators if name not in genes],
        "unregulated": [gene for gene in genes if gene not in targets],
        "typical_half_life": [gene for gene in genes if gene not in set(measured)],
        "with_missing_readings": [gene for gene, whole in zip(genes, seen, strict=True) if not whole],
    }


def _rows(found: dict[str, Any]) -> list[tuple[str, tuple[object, ...]]]:
    total = found["genes"]

    def row(lacking: list[str]) -> tuple[object, ...]:
        return total - len(lacking), f"{1 - len(lacking) / total:.0%}", first(lacking) if lacking else ""

    hidden = found["hidden_regulators"]
    return [
        ("genes measured at every time", row(found["with_missing_readings"])),
        ("genes regulated in the network", row(found["unregulated"])),
        ("genes with a measured half-life", row(found["typical_half_life"])),
        ("edges", (found["edges"], "", "")),
        ("regulators that were not measured", (len(hidden), "", first(hidden) if hidden else "")),
    ]
