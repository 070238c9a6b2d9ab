"""What a PEtab problem holds, in words and numbers, without solving it."""

from collections import Counter
from pathlib import Path
from typing import Any

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.problem import read_petab

PETAB = (".yaml", ".yml")


def describe_petab(path: str | Path) -> tuple[dict[str, Any], PinnsimError | None]:
    """What a PEtab YAML file holds, and the error that reading it gives, if any.

    **Returns** counts of what was understood, the estimated parameters, and `refused`: a sentence for each thing that
    was not.
    """
    found: dict[str, Any] = {"file": str(path), "refused": []}
    try:
        problem = read_petab(path)
    except PinnsimError as error:
        return found | {"refused": [str(one) for one in error.problems]}, error
    tables, model = problem.source.tables, problem.source.model
    asked = {row.experiment for row in tables.measurements}
    return found | {
        "version": tables.version,
        "model": model["id"],
        "measurements": len(tables.measurements),
        "observables": len(tables.observables),
        "experiments": len(asked),
        "at_rest_first": sum(
            bool(p) and p[0].start == float("-inf") for name, p in tables.experiments.items() if name in asked
        ),
        "species": len(model["species"]),
        "reactions": len(model["reactions"]),
        "estimated": list(problem.names),
        "fixed": [one.name for one in tables.parameters.values() if not one.estimated],
        "with_prior": [one.name for one in problem.parameters if one.prior is not None],
        "scales": dict(Counter(one.scale for one in problem.parameters)),
        "noise": dict(Counter(one.distribution for one in tables.observables.values())),
    }, None
