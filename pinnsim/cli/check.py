"""`pinnsim check`: everything that is wrong with a project, at once, before any time is spent on a fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnsim.cli.arguments import ConfigFile, is_cells, read_project
from pinnsim.cli.imported import SUFFIXES, show_model
from pinnsim.cli.output import AsJson, answer, show_table, span, speak_to, tell
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.project import Project


def check(
    config: ConfigFile,
    as_json: AsJson = False,
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
    speak_to(as_json)
    if config.suffix.lower() in SUFFIXES:
        show_model(config, as_json)
        return
    found: dict[str, Any] = {"project": config, "problems": []}
    try:
        found |= _looked_at(config)
    except PinnsimError as error:
        found["problems"] = [{"code": problem.code, "message": problem.message} for problem in error.problems]
        answer(found)
        raise
    answer(found)
    tell(f"Nothing is wrong. Next: pinnsim fit {config} --out fitted")


def _looked_at(config: Path) -> dict[str, Any]:
    """Shows what a project holds, and gives it. **Raises** everything that is wrong with it."""
    if is_cells(config):
        return _cells(config)
    project = read_project(config)
    from pinnsim.fit import cultures
    from pinnsim.fit.suits import check_suits
    from pinnsim.model import build

    found = _coverage(project)
    tell(project.measured.describe())
    rows = [(name, *values) for name, values in _rows(found)]
    show_table("What covers the genes", ("", "count", "share of genes", "without it"), rows)
    for note in project.notes:
        tell(f"Not in the file, so chosen: {note}.")
    with Problems() as problems:
        prior = problems.attempt(lambda: build(project.config.model, project.network, project.prior))
        if prior is not None:
            data = project.dataset
            problems.attempt(lambda: cultures(data, prior.center.table, substeps=project.config.fit.substeps))
            check_suits(problems, prior.center.observation, data.values[data.mask], data.scale, "the data set")
    return found


def _cells(config: Path) -> dict[str, Any]:
    """The same for a project of single cells."""
    from pinnsim.tl.project import described, load_cells

    found = described(load_cells(config))
    tell(found["described"])
    rows = [(name.replace("_", " "), found[name]) for name in ("cells", "genes_fitted", "genes_in_file", "edges")]
    rows += [("genes with a measured half-life", found["genes_fitted"] - len(found["typical_half_life"]))]
    show_table("What there is", ("", "count"), rows)
    return found


def _coverage(project: "Project") -> dict[str, Any]:
    """What is known of how many genes, and of which it is not."""
    import numpy as np

    genes, network = project.dataset.genes, project.network
    targets = {network.genes[k] for k in np.unique(network.target).tolist()}
    measured = [gene for gene, source in zip(genes, project.prior.source, strict=True) if source.startswith("measured")]
    data = project.dataset
    moments = [times[:length] for times, length in zip(data.times, data.length, strict=True)]
    seen: np.ndarray = np.all(project.dataset.mask, axis=(0, 1, 2))
    return {
        "genes": len(genes),
        "conditions": list(project.dataset.conditions),
        "time_points": len(np.unique(np.concatenate(moments))),
        "times": list(span(project.dataset)),
        "time_unit": project.dataset.time_unit,
        "model_time_unit": project.config.model.time_unit,
        "scale": project.dataset.scale,
        "edges": len(network.edges),
        "edges_of_unknown_sign": int((network.sign == 0).sum()),
        "hidden_regulators": [name for name in network.regulators if name not in genes],
        "unregulated": [gene for gene in genes if gene not in targets],
        "typical_half_life": [gene for gene in genes if gene not in set(measured)],
        "with_missing_readings": [gene for gene, whole in zip(genes, seen, strict=True) if not whole],
        "chosen": list(project.notes),
    }


def _rows(found: dict[str, Any]) -> list[tuple[str, tuple[object, ...]]]:
    total = found["genes"]

    def row(lacking: list[str]) -> tuple[object, ...]:
        return total - len(lacking), f"{1 - len(lacking) / total:.0%}", first(lacking) if lacking else ""

    hidden, blind = found["hidden_regulators"], found["edges_of_unknown_sign"]
    unsigned = 0 < blind == found["edges"]
    low, high = found["times"]
    units = f"data in {found['time_unit']}, model in {found['model_time_unit']}"
    return [
        ("conditions", (len(found["conditions"]), "", "")),
        (f"times, from {low:g} to {high:g} ({units})", (found["time_points"], "", "")),
        ("genes measured at every time", row(found["with_missing_readings"])),
        ("genes regulated in the network", row(found["unregulated"])),
        ("genes with a measured half-life", row(found["typical_half_life"])),
        ("edges", (found["edges"], "", "")),
        ("edges of known sign", (found["edges"] - blind, "", "all: is there a column 'sign'?" if unsigned else "")),
        ("regulators that were not measured", (len(hidden), "", first(hidden) if hidden else "")),
    ]
