"""Where a search for fixed points starts: balanced quasi-random states of a box, and guesses for saddles.

Abundances are spread log-uniformly, because a valley of rare species is as much a valley as one of abundant ones;
hidden activities, which are logarithms, uniformly around the set point that the signals give them.

Source: I. M. Sobol, USSR Comput. Math. Math. Phys. 7:86 (1967); scrambled after A. Owen, J. Complexity 14:466 (1998).
"""

from itertools import combinations

import numpy as np
from scipy.stats import qmc

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.fixed_points import FixedPoints
from pinnsim.perturbation import Perturbation

_SPREADS = 3.0  # hidden activities start within so many spreads of their set point
_LOWEST, _HIGHEST = 1e-3, 2.0  # box of abundances, in units of the default state (half the maximum of gene kinetics)
_MOST_PAIRS = 32


def box_points(
    kinetics: AbstractKinetics,
    acting: Perturbation,
    count: int,
    bounds: tuple[Numbers, Numbers] | None,
    seed: int,
    logarithmic: bool = True,
) -> np.ndarray:
    """Sobol points of the box, (start, species); abundances are spread evenly where not `logarithmic`."""
    if not count:
        return np.zeros((0, len(kinetics.table.species)))
    material = np.asarray(kinetics.material())
    low, high = (
        _box(kinetics, acting)
        if bounds is None
        else (np.broadcast_to(np.asarray(b, dtype=float), material.shape) for b in bounds)
    )
    logarithms = material & logarithmic
    wrong = ~np.isfinite(low) | ~np.isfinite(high) | (high < low) | (logarithms & (low <= 0)) | (material & (low < 0))
    if wrong.any():
        name = kinetics.table.species[int(np.argmax(wrong))]
        raise PinnsimError.of(
            "E_BOUNDS",
            f"Argument `bounds` needs lowest <= highest for every species, and > 0 for abundances; {name} has not.",
        )
    # Sobol points are balanced in powers of two only: draw the next one and keep the first `count`.
    unit = qmc.Sobol(len(material), scramble=True, rng=np.random.default_rng(seed)).random_base2(
        int(np.ceil(np.log2(count)))
    )[:count]
    safe = np.where(logarithms, low, 1.0)
    spread = safe * (np.where(logarithms, high, 1.0) / safe) ** unit
    return np.where(logarithms, spread, low + (high - low) * unit)


def _box(kinetics: AbstractKinetics, acting: Perturbation) -> tuple[np.ndarray, np.ndarray]:
    usual, material = np.asarray(kinetics.default_state()), np.asarray(kinetics.material())
    abundance = np.where(usual > 0, usual, 1.0)
    center, width = usual.copy(), np.full_like(usual, 2.0)
    if isinstance(kinetics, GeneKinetics):
        center[kinetics.abundances :] = np.asarray(kinetics.hidden.set_point(acting.signal[0]))
        width[kinetics.abundances :] = _SPREADS * np.asarray(kinetics.hidden.spread)
    return np.where(material, _LOWEST * abundance, center - width), np.where(
        material, _HIGHEST * abundance, center + width
    )


def probes_of(starts: np.ndarray, points: FixedPoints) -> list[np.ndarray]:
    """Guesses for saddles: the starts, and the middle (arithmetic and geometric) of pairs of attractors."""
    stable = [state for state, kind in zip(points.states, points.stability, strict=True) if kind == "stable"]
    middles = []
    for a, b in list(combinations(stable, 2))[:_MOST_PAIRS]:
        geometric = np.where(points.material, np.sqrt(np.maximum(a * b, 0.0)), 0.5 * (a + b))
        middles += [0.5 * (a + b), geometric]
    return [*middles, *starts]
