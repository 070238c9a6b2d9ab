"""What a kinetic model's file holds, in words and numbers: what was understood, what is conserved, how stiff it is."""

from pathlib import Path
from typing import Any

import numpy as np

from pinnsim.dynamics.conservation import conservation_laws, law_names
from pinnsim.dynamics.rules import HostRules, RuleSystem
from pinnsim.errors import PinnsimError
from pinnsim.formats.sbml.read import LIMITS, Limits, parsed_file, parsed_text, system_of
from pinnsim.formats.toml import read_text

ANTIMONY = (".ant", ".antimony")
SBML = (".xml", ".sbml")
_WIDEST = 500  # states whose Jacobian is worked out by differences


def describe_model(path: str | Path, *, limits: Limits = LIMITS) -> tuple[dict[str, Any], PinnsimError | None]:
    """What an SBML or Antimony file holds, and the error that reading it gives, if any.

    **Returns** counts of what was understood, names of states and constants, conservation laws, stiffness (largest over
    smallest |Re lambda| > 0 of the Jacobian at the start), and `refused`: a sentence for each thing that was not.
    """
    path = Path(path)
    found: dict[str, Any] = {"file": str(path), "refused": []}
    try:
        if path.suffix.lower() in ANTIMONY:
            parsed = parsed_text(read_text(path).encode(), str(path), kind="antimony", limits=limits)
        else:
            parsed = parsed_file(path, limits=limits)
        system = system_of(parsed, str(path))
    except PinnsimError as error:
        return found | {"refused": [str(problem) for problem in error.problems]}, error
    model = parsed["model"]
    host = system.on_host()
    laws = conservation_laws(system.stoichiometry())
    kept = [row for row in laws if np.count_nonzero(row) > 1]
    return found | {
        "model": model["id"],
        "level": model["level"],
        "time_unit": system.time_unit,
        "compartments": len(model["compartments"]),
        "species": len(model["species"]),
        "reactions": len(model["reactions"]),
        "parameters": len(model["parameters"]) + sum(len(item["local"]) for item in model["reactions"]),
        "assignment_rules": len(model["assign"]),
        "rate_rules": len(model["rate"]),
        "initial_assignments": len(model["initial"]),
        "states": list(system.table.species),
        "constants": sorted(system.constants),
        "start": dict(zip(system.table.species, host.begin.tolist(), strict=True)),
        "conservation_laws": list(law_names(np.array(kept), system.table.species)) if kept else [],
        "switch_times": _switch_times(system, host),
        "constraints_not_checked": model["constraints"],
        "stiffness": _stiffness(host),
    }, None


def _switch_times(system: RuleSystem, host: HostRules) -> list[float]:
    known = host.known(0.0, host.begin)
    return sorted({known[name] for name in system.switching if np.isfinite(known[name]) and known[name] > 0})


def _stiffness(host: HostRules) -> float | None:
    begin = host.begin
    if not 1 < len(begin) <= _WIDEST:
        return None
    step = 1e-6 * (1e-3 + np.abs(begin))
    columns = [
        (host.slope(0.0, begin + step * unit) - host.slope(0.0, begin - step * unit)) / (2.0 * step[k])
        for k, unit in enumerate(np.eye(len(begin)))
    ]
    jacobian = np.array(columns).T
    if not np.isfinite(jacobian).all():
        return None
    rates = np.abs(np.linalg.eigvals(jacobian).real)
    # Conserved totals and idle states have rates of 0 up to rounding.
    rates = rates[rates > 1e-7 * rates.max(initial=0.0)]
    return float(rates.max() / rates.min()) if rates.size else None
