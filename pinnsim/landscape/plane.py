"""The flow in the plane of two species, with the others held at a state, or at rest for the two.

    held      (a', b') = f_ab(a, b, z0)                       a slice: exact where z does not move
    at rest   (a', b') = f_ab(a, b, z*(a, b)),  f_z(a, b, z*) = 0      the others are taken to be fast

With the others at rest the nullclines cross exactly at the fixed points of the whole cell; in a slice they cross at
those of the cell whose other species are held there, which in general are none of the whole cell. At rest is a
certified steady state (`pinnsim.simulate.steady_state`) with the two held, sought from the same values of the others
everywhere, so that of several rests one branch is shown; where there is none the flow is NaN.

Source: S. Strogatz, Nonlinear Dynamics and Chaos (1994), section 6.1, for nullclines; L. A. Segel and M. Slemrod, SIAM
Review 31:446 (1989), for others at rest.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.arclength import newton
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.coordinates import (
    Numbers,
    chunk_size,
    floors,
    frozen,
    in_chunks,
    kinetics_of,
    out_of_chunks,
    require_states,
    resolved,
)
from pinnsim.landscape.fixed_points import FixedPoints
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import State
from pinnsim.simulate import steady_state
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_CHUNK = 1024
_SAME = 1e-6  # relative: two fixed points nearer than this are one
_NEAR = 1e-8  # relative change with which Newton's method ends; certified after
_LISTED = 4  # other species named one by one


@dataclasses.dataclass(frozen=True)
class Plane:
    """Flow over the plane of two species.

    **Arguments:** `x`, `y`: (x,) and (y,), increasing; `flow`: (x, y, 2), amount per time, NaN where the others have no
    rest; `species`: names of the two; `points`: fixed points in the box, states of all species, with certificates, of
    the whole cell (at rest) or of the cell with the others held; `others`: what they do, in words.
    """

    __repr__ = brief

    x: np.ndarray
    y: np.ndarray
    flow: np.ndarray
    species: tuple[str, str]
    points: Attractors
    others: str
    time_unit: str


def plane(
    model: CellModel | AbstractKinetics,
    species: tuple[str, str],
    box: tuple[Numbers, Numbers],
    treatment: Treatment | Perturbation | str = NONE,
    *,
    held: Numbers | None = None,
    cells: int = 121,
) -> Plane:
    """The flow of two species of a model.

    **Arguments:** `species`: two names; `box`: lowest and highest, (2,) each; `treatment`: what lasts of it acts;
    `held`: (species,), the state at which all others are held, or `None` for others at rest; `cells`: points per axis.

    Good values: a fixed point as `held`, else the slice passes through none; others at rest where they are faster than
    the two (RNA beside stable proteins).

    **Returns** a `Plane`. **Raises** `E_USAGE` for unknown or equal names and for a treatment that holds one of the
    two; `E_BOUNDS`; `E_INIT`; `E_SOLVER` where the others come to rest nowhere in the box.
    """
    kinetics = kinetics_of(model)
    acting = frozen(resolved(treatment, kinetics), np.inf)
    low, high = (np.broadcast_to(np.asarray(b, dtype=float), (2,)) for b in box)
    names = kinetics.table.species
    chosen = [kinetics.table.require("species", name, "E_USAGE") for name in species]
    with Problems() as problems:
        if chosen[0] == chosen[1]:
            problems.add("E_USAGE", f"A plane needs two different species, not '{species[0]}' twice.")
        for k in chosen:
            if float(acting.hold[0, k]) > 0:
                problems.add(
                    "E_USAGE", f"The treatment holds {names[k]}, which then has no flow; show another species."
                )
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()) or cells < 3:
            problems.add("E_BOUNDS", f"`box` must be finite and increasing, `cells` 3 or more: {low}, {high}, {cells}.")
    start = np.asarray(kinetics.default_state() if held is None else held, dtype=float)
    require_states(start[None], kinetics, "held")
    others = np.array([k not in chosen for k in range(len(names))])
    start = np.where(np.asarray(acting.hold[0]) > 0, np.asarray(acting.level[0]), start)
    x, y = (np.linspace(a, b, cells) for a, b in zip(low, high, strict=True))
    states = np.broadcast_to(start, (cells, cells, len(names))).copy()
    states[..., chosen[0]], states[..., chosen[1]] = x[:, None], y[None, :]
    lanes = in_chunks([states.reshape(-1, len(names))], min(_CHUNK, cells**2))
    shown = jnp.asarray(~others) if held is None and others.any() else None
    found, rates = out_of_chunks(_flows(kinetics, acting, shown, *lanes), cells**2)
    found, flow = found.reshape(states.shape), rates[:, chosen].reshape(cells, cells, 2)
    if not np.isfinite(flow).any():
        raise PinnsimError.of("E_SOLVER", "The other species come to rest nowhere in the box; give `held`.")
    if held is not None:
        still = jnp.asarray(others)[None] | (acting.hold > 0)
        acting = eqx.tree_at(
            lambda p: (p.hold, p.level),
            acting,
            (still.astype(acting.hold.dtype), jnp.where(still, jnp.asarray(start)[None], acting.level)),
        )
    points = FixedPoints(kinetics, acting, _SAME)
    guesses = _crossings(found, flow)
    if len(guesses):
        # Followed by their own flow, saddles would be left: Newton's method brings guesses there first.
        system = system_of(kinetics, acting, start)
        lanes = in_chunks([guesses], chunk_size(len(guesses), 16))
        near, converged = out_of_chunks(_refined(system, floors(kinetics), *lanes), len(guesses))
        for guess in near[converged]:
            points.polish(guess)
    return Plane(
        x, y, flow, species, _listed(points, chosen, low, high), _words(names, others, held), kinetics.time_unit
    )


@eqx.filter_jit
def _flows(
    kinetics: AbstractKinetics,
    acting: Perturbation,
    shown: Bool[Array, " species"] | None,
    states: Float[Array, "chunk lane species"],
) -> tuple[Float[Array, "chunk lane species"], Float[Array, "chunk lane species"]]:
    """States with the others at rest (with `shown`, the two that are not), and how they move."""

    def one(state: State) -> tuple[State, State]:
        if shown is not None:
            hold = jnp.where(shown, 1.0, acting.hold[0])
            level = jnp.where(shown, state, acting.level[0])
            still = eqx.tree_at(lambda p: (p.hold, p.level), acting, (hold[None], level[None]))
            state = jnp.where(shown, state, steady_state(kinetics, still, state).state)
        return state, kinetics.vector_field(jnp.zeros(()), state, acting)

    return jax.lax.map(jax.vmap(one), states)


@eqx.filter_jit
def _refined(
    system: System, floor: State, guesses: Float[Array, "chunk lane species"]
) -> tuple[Float[Array, "chunk lane species"], Bool[Array, "chunk lane"]]:
    """Where Newton's method ends, and whether it did."""
    none = jnp.zeros(0, guesses.dtype)
    least = jnp.abs(system.basis.T @ floor)

    def one(state: State) -> tuple[State, Array]:
        y = system.free(state)
        end = newton(lambda y: system.force(y, none), y, jnp.abs(y) + least, jnp.asarray(_NEAR, y.dtype))
        return system.state(end.z), end.converged

    return jax.lax.map(jax.vmap(one), guesses)


def _crossings(found: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """States in the middle of every cell of the plane in which both rates change sign."""
    corners = np.stack([flow[:-1, :-1], flow[1:, :-1], flow[:-1, 1:], flow[1:, 1:]])
    change = (corners.min(axis=0) <= 0) & (corners.max(axis=0) >= 0)
    middle = 0.25 * (found[:-1, :-1] + found[1:, :-1] + found[:-1, 1:] + found[1:, 1:])
    return middle[change.all(axis=-1)]


def _listed(points: FixedPoints, chosen: list[int], low: np.ndarray, high: np.ndarray) -> Attractors:
    """The fixed points in the box, stable ones first."""
    states = np.array(points.states).reshape(-1, len(points.free))
    inside = ((states[:, chosen] >= low) & (states[:, chosen] <= high)).all(axis=1)
    order = sorted(np.flatnonzero(inside), key=lambda k: (points.stability[k] != "stable", points.index[k]))
    kinds = tuple(points.stability[k] for k in order)
    letters = {"stable": "A", "saddle": "S", "unstable": "U", "marginal": "M"}
    return Attractors(
        states=states[order],
        names=tuple(f"{letters[kind]}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)),
        stability=kinds,
        index=np.array([points.index[k] for k in order], dtype=int),
        eigenvalues=np.array([points.eigenvalues[k] for k in order], complex).reshape(-1, int(points.free.sum())),
        residual=np.array([points.residuals[k] for k in order]),
        starts=np.zeros(len(order), int),
        motion=(),
        arrives=np.zeros(0, int),
        ends=np.zeros((0, len(points.free))),
        settle=0.0,
        species=points.kinetics.table.species,
        time_unit=points.kinetics.time_unit,
    )


def _words(names: tuple[str, ...], others: np.ndarray, held: Numbers | None) -> str:
    listed = [name for name, other in zip(names, others, strict=True) if other]
    if not listed:
        return ""
    if held is None:
        return f"{', '.join(listed)} at rest" if len(listed) <= _LISTED else f"{len(listed)} other species at rest"
    values = np.asarray(held, dtype=float)[others]
    if len(listed) > _LISTED:
        return f"{len(listed)} other species held"
    return ", ".join(f"{name} = {value:.3g}" for name, value in zip(listed, values, strict=True)) + " held"
