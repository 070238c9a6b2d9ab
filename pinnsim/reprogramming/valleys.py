"""Which valleys are meant: names or states, checked, and how slowly they relax."""

import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import Numbers, coordinates, distance, floors


def both_valleys(
    kinetics: AbstractKinetics, attractors: Attractors, start: str | Numbers, target: str | Numbers
) -> tuple[str, str]:
    """Names of start and target. **Raises** `E_USAGE`, `E_INIT` for what is no valley, and for one that is both."""
    with Problems() as problems:
        found = [_valley(kinetics, attractors, given, what, problems)
                 for what, given in (("start", start), ("target", target))]  # fmt: skip
        if found[0] and found[0] == found[1]:
            problems.add("E_USAGE", f"Start and target are both {found[0]}; the cell is there already.")
    return found[0], found[1]


def _valley(
    kinetics: AbstractKinetics, attractors: Attractors, given: str | Numbers, what: str, problems: Problems
) -> str:
    stable = [n for n, kind in zip(attractors.names, attractors.stability, strict=True) if kind == "stable"]
    there = f"valleys are {', '.join(stable) or 'none'}"
    if isinstance(given, str):
        if given in stable:
            return given
        if given in attractors.names:
            kind = attractors.stability[attractors.names.index(given)]
            problems.add("E_USAGE", f"Argument `{what}`: {given} is no valley but {kind}; {there}.")
        elif given in [cycle.name for cycle in attractors.cycles]:
            problems.add("E_USAGE", f"Argument `{what}`: {given} is a cycle, on which no cell comes to rest; {there}.")
        else:
            near = did_you_mean(given, attractors.names)
            problems.add("E_USAGE", f"Argument `{what}`: no point is called '{given}'{near}; {there}.")
        return ""
    state = np.asarray(given, dtype=float)
    points = attractors.states
    if state.shape != points.shape[1:] or not np.isfinite(state).all():
        problems.add("E_INIT", f"Argument `{what}` must be a name or a finite state of {points.shape[1]} species.")
        return ""
    if not len(points):
        problems.add("E_USAGE", f"Argument `{what}`: the model has no point at rest.")
        return ""
    floor, material = floors(kinetics), kinetics.material()
    known = coordinates(jnp.asarray(points), floor, material)
    here = jnp.broadcast_to(coordinates(jnp.asarray(state), floor, material), known.shape)
    gaps = np.asarray(distance(here, known))
    nearest = int(gaps.argmin())
    if gaps[nearest] > 0.1 or attractors.names[nearest] not in stable:
        problems.add(
            "E_USAGE",
            f"Argument `{what}` is not at rest in a valley (nearest: {attractors.names[nearest]}, "
            f"{attractors.stability[nearest]}, {gaps[nearest]:.2g} off in log abundance); {there}.",
        )
        return ""
    return attractors.names[nearest]


def relaxation(attractors: Attractors) -> float:
    """The slowest relaxation time of valleys and passes."""
    counted = attractors.stable | (attractors.index == 1)
    rates = np.abs(attractors.eigenvalues[counted].real)
    rates = rates[rates > 1e-6 * rates.max(initial=0.0)]
    if not rates.size:
        raise PinnsimError.of("E_USAGE", "The model has no valley; there is nowhere to start from.")
    return float(1.0 / rates.min())
