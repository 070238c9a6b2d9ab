"""What "near" means between states of a cell: logarithms of abundances, hidden activities as they are.

    z_i = log(x_i + floor_i) for abundances,     z_i = h_i for hidden activities (already logarithms),
    distance(x, y) = sqrt(mean_i (z_i(x) - z_i(y))^2),

so that a distance of 0.1 means "10 % off in a typical species", for rare and abundant ones alike. `floor_i` is `FLOOR`
times the model's default abundance: a knocked-out gene at 0 and at 1e-9 are the same state.

Everything in this folder needs float64: near a fixed point differences of abundances are what is left after nearly
everything cancels. `frozen` makes of any treatment what it does at one moment, for ever: the autonomous system whose
fixed points are meant.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.treatment import Treatment, as_treatment
from pinnsim.tree import named_leaves

Numbers = int | float | ArrayLike  # one number or many, as people write them
FLOOR = 1e-4
_FOR_EVER = 1e9  # so far from any dose curve's start that absorption and elimination are over


def kinetics_of(model: CellModel | AbstractKinetics) -> AbstractKinetics:
    """The equations of a model, parameters resolved.

    **Raises** `E_USAGE` for a session in single precision and for parameters that are NaN (which would make every
    verdict about stability meaningless), with the names of the leaves.
    """
    kinetics = resolve(model.kinetics if isinstance(model, CellModel) else model)
    with Problems() as problems:
        if not jax.config.read("jax_enable_x64"):
            problems.add(
                "E_USAGE", "A landscape needs double precision; call pinnsim.enable_x64() before building the model."
            )
        bad = [name for name, leaf in named_leaves(kinetics).items() if leaf.dtype.kind == "f" and np.isnan(leaf).any()]
        if bad:
            problems.add(
                "E_USAGE",
                f"{len(bad)} parameters of the model are NaN (first: {first(bad)}); it has no landscape.",
            )
    return kinetics


def resolved(treatment: Treatment | Perturbation | str, kinetics: AbstractKinetics) -> Perturbation:
    """Arrays of a treatment given as object, text or arrays."""
    return treatment if isinstance(treatment, Perturbation) else as_treatment(treatment).resolve(kinetics.table)


def frozen(perturbation: Perturbation, time: Scalar | float) -> Perturbation:
    """One phase that does for ever what all phases together do at `time`.

    `time = -inf`: what acts since ever; `inf`: what never ends, long after it began (an eliminated drug is gone).
    """
    at = jnp.asarray(time, perturbation.start.dtype)
    clock = jnp.where(jnp.isfinite(at), at, jnp.where(at > 0, _FOR_EVER, 0.0))
    edits = perturbation.acting(at).at(clock)
    return lasting(edits)


def lasting(edits: Edits) -> Perturbation:
    """One phase that does these edits since ever and for ever."""
    one, kind = jnp.ones(1, edits.factor.dtype), edits.factor.dtype
    return Perturbation(
        factor=edits.factor[None],
        activity=edits.activity[None],
        drive=edits.drive[None],
        hold=edits.hold[None].astype(kind),
        level=edits.level[None],
        edge_factor=edits.edge_factor[None],
        signal=edits.signal[None],
        start=-jnp.inf * one,
        stop=jnp.inf * one,
        dose=one,
        ka=jnp.inf * one,
        ke=0.0 * one,
        ic50=0.0 * one,
        hill=one,
    )


def floors(kinetics: AbstractKinetics) -> State:
    """The abundance added inside the logarithm, (species,)."""
    usual = jnp.abs(kinetics.default_state())
    return FLOOR * jnp.where(usual > 0, usual, 1.0)


def coordinates(
    states: Float[Array, "*lanes species"], floor: State, material: Bool[Array, " species"]
) -> Float[Array, "*lanes species"]:
    """z of states, (..., species): logarithms of abundances, hidden activities unchanged."""
    shape = states.shape
    floor, material = jnp.broadcast_to(floor, shape), jnp.broadcast_to(material, shape)
    return jnp.where(material, jnp.log(jnp.where(material, jnp.maximum(states, 0.0) + floor, 1.0)), states)


def host_coordinates(kinetics: AbstractKinetics) -> Callable[[np.ndarray], np.ndarray]:
    """`coordinates` on the host: z of any number of states, (..., species), without a compilation."""
    material, floor = np.asarray(kinetics.material()), np.asarray(floors(kinetics))

    def place(states: np.ndarray) -> np.ndarray:
        logarithm = np.log(np.where(material, np.maximum(states, 0.0) + floor, 1.0))
        return np.where(material, logarithm, states)

    return place


def distance(a: Float[Array, "*lanes species"], b: Float[Array, "*lanes species"]) -> Float[Array, "*lanes"]:
    """Root mean square difference of coordinates, over species."""
    return jnp.sqrt(jnp.mean((a - b) ** 2, axis=-1))


def require_states(states: np.ndarray, kinetics: AbstractKinetics, what: str) -> None:
    """Raises `E_INIT` for states of another shape, that are not finite, or with a negative abundance."""
    species = kinetics.table.species
    if states.ndim != 2 or states.shape[1] != len(species):
        raise PinnsimError.of(
            "E_INIT",
            f"Argument `{what}` must be (state, species) with {len(species)} species, but has shape {states.shape}.",
        )
    wrong = ~np.isfinite(states) | (np.asarray(kinetics.material()) & (states < 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise PinnsimError.of(
            "E_INIT",
            f"Argument `{what}` has {int(wrong.sum())} values that are not finite or negative (first: state {row}, "
            f"{species[column]} = {states[row, column]:g}); give finite states with abundances >= 0.",
        )


def chunk_size(count: int, most: int) -> int:
    """Lanes per chunk: `most`, or the next power of two for fewer lanes, so that nearby numbers share a program.

    >>> [chunk_size(n, 64) for n in (1, 5, 33, 1000)]
    [1, 8, 64, 64]
    """
    return min(most, 1 << (count - 1).bit_length())


def in_chunks(arrays: Sequence[np.ndarray], size: int) -> list[Array]:
    """Arrays with a leading lane axis as (chunk, lane, ...), the last chunk padded with copies of its last lane."""
    count = len(arrays[0])
    chunks = -(-count // size)
    filled = [np.concatenate([a, np.repeat(a[-1:], chunks * size - count, axis=0)]) for a in arrays]
    return [jnp.asarray(a.reshape(chunks, size, *a.shape[1:])) for a in filled]


def out_of_chunks(results: Sequence[Array], count: int) -> tuple[np.ndarray, ...]:
    """The inverse of `in_chunks` for results, (chunk, lane, ...) to (lane, ...), on the host."""
    return tuple(np.asarray(r).reshape(-1, *r.shape[2:])[:count] for r in results)
