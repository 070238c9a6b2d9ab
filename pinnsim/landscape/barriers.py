"""From valley to valley: which saddle joins which, and what it costs both ways.

A saddle of index 1 has one unstable direction; the flow on either side of it ends in the two valleys that it joins.
The quasi-potential barrier of each is the minimum action from the attractor up to the saddle. In a gradient system
with equal noise D in all directions the mean exit time is known with its prefactor (Eyring and Kramers),

    T = 2 pi / l sqrt(|det J_saddle| / det(-J_attractor)) exp(S),      l: the saddle's unstable rate, S = dU / D,

which is exact for small noise; without a gradient the prefactor depends on the whole path and is that of
`pinnsim.landscape.prefactor` for constant noise, and not given (NaN) else, only `T ~ exp(S)`. Convention
`dX = f dt + sqrt(2 D) dW`, `S = 1/4 int (x' - f)' D^-1 (x' - f) dt`.

Source: H. Eyring, J. Chem. Phys. 3:107 (1935); F. Bouchet and J. Reygner, Ann. Henri Poincare 17:3499 (2016).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.action import MinimumAction, minimum_action
from pinnsim.landscape.attractors import Attractors, follow
from pinnsim.landscape.coordinates import coordinates, distance, floors, frozen, kinetics_of, resolved
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.prefactor import exit_time
from pinnsim.landscape.system import System, jacobian, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE
from pinnsim.treatment import NONE, Treatment

_NUDGE = 1e-3  # off the saddle, as a share of the size of its state
_LIFETIMES = 30.0


@dataclasses.dataclass(frozen=True)
class Barrier:
    """One way out of a valley.

    **Arguments:** `valley`, `saddle`, `beyond`: names of points ("" where the far side ends in no known valley);
    `paths`: minimum action paths up; `prefactor`: of the mean exit time, or NaN where it is not known.
    """

    valley: str
    saddle: str
    beyond: str
    paths: MinimumAction
    prefactor: float

    @property
    def action(self) -> float:
        """The quasi-potential barrier, dimensionless."""
        return self.paths.action

    @property
    def exit_time(self) -> float:
        """prefactor * exp(action), NaN where the prefactor is not known."""
        return float(self.prefactor * np.exp(self.action))


def barriers(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise,
    attractors: Attractors,
    treatment: Treatment | Perturbation | str = NONE,
    *,
    points: int = 129,
    method: ODE | None = None,
) -> tuple[Barrier, ...]:
    """All barriers over the known saddles of index 1, both ways, cheapest first.

    **Arguments:** `attractors`: of `find_attractors(model, treatment)`; `points`: of a path.
    """
    kinetics = kinetics_of(model)
    acting = frozen(resolved(treatment, kinetics), jnp.inf)
    system = system_of(kinetics, acting, attractors.states[0] if len(attractors.states) else None)
    names, found = attractors.names, list[Barrier]()
    for k, sides in joined(kinetics, attractors, acting, method):
        low = {name: attractors.states[names.index(name)] for name in sides if name}
        for here, there in (sides, sides[::-1]):
            if not here or (here == there and found and found[-1].saddle == names[k]):
                continue
            paths = minimum_action(kinetics, noise, low[here], attractors.states[k], acting, points=points)
            prefactor = _prefactor(noise, system, low[here], attractors.states[k])
            if np.isnan(prefactor):
                prefactor = _without_gradient(kinetics, noise, paths, acting)
            found.append(Barrier(here, names[k], there, paths, prefactor))
    return tuple(sorted(found, key=lambda barrier: barrier.action))


def joined(
    kinetics: AbstractKinetics, attractors: Attractors, acting: Perturbation, method: ODE | None = None
) -> list[tuple[int, tuple[str, str]]]:
    """The saddles of index 1, by number, and the names of the valleys that the flow reaches on either side ("" where it
    ends in none that is known)."""
    method = ODE(rtol=1e-8, atol=1e-10, max_steps=16384) if method is None else method
    system = system_of(kinetics, acting, attractors.states[0] if len(attractors.states) else None)
    passes = [k for k, number in enumerate(attractors.index) if number == 1]
    stable = np.flatnonzero(attractors.stable)
    if not passes or not len(stable):
        return []
    begin = []
    for k in passes:
        state = attractors.states[k]
        rates, vectors = np.linalg.eig(_jacobian(system, state))
        direction = np.asarray(system.basis) @ np.real(vectors[:, int(np.argmax(rates.real))])
        size = _NUDGE * max(float(np.linalg.norm(state)), 1e-3)
        begin += [state + size * direction, state - size * direction]
    slowest = min(float(np.abs(attractors.eigenvalues[[*passes, *stable]].real).min()), 1e9)
    ends, solved = follow(kinetics, acting, method, np.array(begin), _LIFETIMES / slowest)
    material, floor = kinetics.material(), floors(kinetics)
    known = coordinates(jnp.asarray(attractors.states[stable]), floor, material)

    def valley(end: np.ndarray, ok: bool) -> str:
        here = jnp.broadcast_to(coordinates(jnp.asarray(end), floor, material), known.shape)
        gaps = np.asarray(distance(here, known))
        return attractors.names[stable[gaps.argmin()]] if ok and gaps.min() < 0.05 else ""

    sides = [valley(end, bool(ok)) for end, ok in zip(ends, solved, strict=True)]
    return [(k, (sides[2 * number], sides[2 * number + 1])) for number, k in enumerate(passes)]


def barrier_table(found: tuple[Barrier, ...]) -> pd.DataFrame:
    """One row per barrier."""
    return pd.DataFrame(
        {
            "from": [b.valley for b in found],
            "over": [b.saddle for b in found],
            "to": [b.beyond for b in found],
            "action": [b.action for b in found],
            "straight path's action": [b.paths.straight for b in found],
            "paths": [len(b.paths.paths) for b in found],
            "prefactor": [b.prefactor for b in found],
            "exit time": [b.exit_time for b in found],
        }
    )


def _prefactor(noise: AbstractNoise, system: System, valley: np.ndarray, top: np.ndarray) -> float:
    """Eyring's and Kramers', where both Jacobians are symmetric and the noise is the same in all directions."""
    low, high = (_jacobian(system, state) for state in (valley, top))
    spreads = [np.asarray(noise.diffusion(system, system.free(jnp.asarray(s)))) for s in (valley, top)]
    even = all(np.allclose(d, spreads[0][0, 0] * np.eye(len(d)), rtol=1e-9) for d in spreads)
    gradient = all(np.allclose(j, j.T, rtol=0, atol=1e-8 * np.abs(j).max()) for j in (low, high))
    if not (even and gradient):
        return float("nan")
    rate = float(np.linalg.eigvalsh(high).max())
    return float(2 * np.pi / rate * np.sqrt(abs(np.linalg.det(high)) / abs(np.linalg.det(low))))


def _without_gradient(
    kinetics: AbstractKinetics, noise: AbstractNoise, paths: MinimumAction, acting: Perturbation
) -> float:
    """Bouchet's and Reygner's, along the cheapest path; NaN where the noise is not constant."""
    try:
        return exit_time(kinetics, noise, paths.paths[0], acting).prefactor
    except PinnsimError:
        return float("nan")


def _jacobian(system: System, state: np.ndarray) -> np.ndarray:
    y = system.free(jnp.asarray(state))
    return np.asarray(jacobian(system, y, jnp.zeros(0, y.dtype)))
