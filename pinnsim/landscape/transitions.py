"""A Markov chain on measured cells: where a cell of the model goes in a step, among the cells that were seen near it.

In a time tau a cell at x moves as `dX = f dt + sqrt(2 D) dW` says, to first order in tau

    p(x -> y) = Normal(y; x + tau f(x), 2 tau D(x)).

Measured cells j lie with some density rho, so that a sum over them, each weighted by 1 / rho_j, is an integral over
states. Among the neighbours N(i) of cell i in a graph (the cell itself belongs to them),

    P_ij = p(x_i -> x_j) / rho_j  /  sum_k in N(i) p(x_i -> x_k) / rho_k.

Rows add up to 1, and P has the pattern of the graph. Where cells are dense beside a step, `P phi = phi + tau L phi` to
first order in tau, with the generator `L phi = f . grad phi + sum D_kl d_k d_l phi`; where the graph is too narrow, or
cells are too few, it is not: `neighbours` says how many cells share a row's probability, and `lag` how much of the step
that the drift asks for is made.

Densities are kernel estimates on the same graph and at the same scale, whose error is then of higher order in tau,

    rho_j = sum_k in N(j) exp(-(x_k - x_j)' D_j^-1 (x_k - x_j) / 4 tau) / |D_j|^(1/2).

Sources: R. R. Coifman and S. Lafon, Appl. Comput. Harmon. Anal. 21:5 (2006), densities divided out; B. Nadler, S.
Lafon, R. Coifman and I. Kevrekidis, ibid. 21:113 (2006), the generator as a limit of walks on samples.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.spatial
from jaxtyping import Array

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import Numbers, kinetics_of, require_states
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System, system_of
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment
from pinnsim.tree import brief

_NARROW = 1e-6  # of the largest diffusion of a cell: the least of any species, so that none is frozen
_EDGES = 1 << 20  # pairs of cells looked at side by side


@dataclasses.dataclass(frozen=True)
class Transitions:
    """A chain on cells.

    **Arguments:** `matrix`: (cell, cell), row-stochastic, sparse; `neighbours`: (cell,), `exp(entropy)` of a row, how
    many cells share its probability; `lag`: (cell,), the mean step of the row along the drift over the drift's own (1:
    made in full; NaN where the drift is 0); `step` in `time_unit`.
    """

    __repr__ = brief

    matrix: scipy.sparse.csr_matrix
    neighbours: np.ndarray
    lag: np.ndarray
    step: float
    time_unit: str


def nearest_cells(states: np.ndarray, count: int) -> scipy.sparse.csr_matrix:
    """The graph of the `count` nearest cells of every cell, (cell, cell), true where there is an edge in either
    direction, by distance with every species in units of its spread. **Raises** `E_USAGE` for impossible counts."""
    if not 1 <= count < len(states):
        raise PinnsimError.of(
            "E_USAGE", f"{count} nearest cells of {len(states)}: give at least 1 and fewer than there are."
        )
    scaled = states / _spread(states)
    _, near = scipy.spatial.cKDTree(scaled).query(scaled, k=count + 1)
    rows = np.repeat(np.arange(len(states)), count + 1)
    ones = np.ones(rows.size, dtype=bool)
    graph = scipy.sparse.csr_matrix((ones, (rows, near.ravel())), shape=(len(states),) * 2)
    return (graph + graph.T).tocsr()


def transitions(
    model: CellModel | AbstractKinetics,
    states: Numbers,
    graph: Any,
    step: float | int,
    noise: AbstractNoise | Callable[[System], AbstractNoise],
    treatment: Treatment | Perturbation | str = NONE,
    *,
    density: bool = True,
) -> Transitions:
    """The chain of a model on measured cells, `P_ij ~ Normal(x_j; x_i + tau f(x_i), 2 tau D(x_i)) / rho_j`.

    **Arguments:** `states`: (cell, species), what the cells seem to contain; `graph`: (cell, cell), sparse, an edge
    where it is not 0 (`nearest_cells`, or the neighbours that an analysis has found); `step`: tau, in the model's time
    unit; `noise`: `additive(...)`, or a function of the system such as `functools.partial(chemical, size=100)`; the
    diagonal of D counts; `treatment`: what acts; `density`: whether densities of cells are divided out (leave it true
    unless cells were drawn evenly).

    Good values: a step in which the noise carries a cell about as far as its tenth neighbour; `neighbours` well above 1
    and `lag` near 1 say that it is right.

    **Returns** `Transitions`. **Raises** `E_INIT`, `E_DATA_SHAPE`, `E_USAGE`, `E_PERTURB_...`, together where they can
    be. Source: see the file.
    """
    kinetics = kinetics_of(model)
    cells = np.asarray(states, dtype=float)
    require_states(cells, kinetics, "states")
    tau = float(step)
    with Problems() as problems:
        if graph.shape != (len(cells),) * 2:
            problems.add("E_DATA_SHAPE", f"The graph {graph.shape} does not fit {len(cells)} cells.")
        if not (np.isfinite(tau) and tau > 0):
            problems.add("E_USAGE", f"Argument `step` must be finite and > 0, but is {tau:g}.")
    system = system_of(kinetics, treatment)
    made = noise if isinstance(noise, AbstractNoise) else noise(system)
    basis = np.asarray(system.basis)
    if not ((basis == 0) | (basis == 1)).all():
        raise PinnsimError.of(
            "E_USAGE", "Reactions conserve totals in this model; cells have no neighbours of their own."
        )
    drift, width = (np.asarray(a) for a in _at_cells(system, made, jnp.asarray(cells)))
    place = cells @ basis
    width = np.maximum(width, _NARROW * width.max(axis=1, keepdims=True))
    pattern = (graph.astype(bool) + scipy.sparse.identity(len(cells), dtype=bool, format="csr")).tocoo()
    i, j = pattern.row, pattern.col
    if not (width > 0).all():
        raise PinnsimError.of("E_USAGE", "The noise vanishes at some cells, so nothing says how far a step may stray.")
    logs, moved = np.empty(len(i)), np.empty(len(i))
    for begin in range(0, len(i), _EDGES):
        part = slice(begin, begin + _EDGES)
        way, asked = place[j[part]] - place[i[part]], tau * drift[i[part]]
        logs[part] = -((way - asked) ** 2 / (4.0 * tau * width[i[part]])).sum(axis=1)
        moved[part] = (way * asked / width[i[part]]).sum(axis=1)
    if density:
        logs -= _log_density(place, tau * width, i, j)[j]
    highest = np.full(len(cells), -np.inf)
    np.maximum.at(highest, i, logs)
    weight = np.exp(logs - highest[i])
    weight /= np.bincount(i, weight, len(cells))[i]
    entropy = -np.bincount(i, weight * np.log(np.maximum(weight, 1e-300)), len(cells))
    wanted = tau**2 * (drift**2 / width).sum(axis=1)
    lag = np.where(wanted > 0, np.bincount(i, weight * moved, len(cells)) / np.where(wanted > 0, wanted, 1.0), np.nan)
    matrix = scipy.sparse.csr_matrix((weight, (i, j)), shape=pattern.shape)
    matrix.sort_indices()
    return Transitions(matrix, np.exp(entropy), lag, tau, kinetics.time_unit)


@eqx.filter_jit
def _at_cells(system: System, noise: AbstractNoise, states: Array) -> tuple[Array, Array]:
    """Drift and diagonal of D in the free coordinates, (cell, free)."""
    none = jnp.zeros(0, states.dtype)

    def one(state: Array) -> tuple[Array, Array]:
        y = system.free(state)
        return system.force(y, none), jnp.diagonal(noise.diffusion(system, y))

    return jax.lax.map(one, states, batch_size=256)


def _log_density(place: np.ndarray, width: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Logarithm of the kernel density of cells on their graph, (cell,), up to a constant. `width`: tau D, diagonal."""
    near = np.zeros(len(place))
    for begin in range(0, len(i), _EDGES):
        part = slice(begin, begin + _EDGES)
        apart = ((place[j[part]] - place[i[part]]) ** 2 / (4.0 * width[i[part]])).sum(axis=1)
        near += np.bincount(i[part], np.exp(-apart), len(place))
    return np.log(near) - 0.5 * np.log(width).sum(axis=1)


def _spread(states: np.ndarray) -> np.ndarray:
    spread = states.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
