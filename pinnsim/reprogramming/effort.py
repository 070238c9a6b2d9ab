"""What a push costs, in two measures: what the lab does, and what the flow is bent by.

The lab's effort of edits of strengths s_k for a duration T, with an exponent p that says how strong edits count
against long ones, is

    E = T sum_k s_k^p,      s_k: |ln fold| of factors, multiples of the template's value of drives and signals.

The control effort counts the push as what it adds to the flow, u = f(x; edits) - f(x), along the way that the cell
goes while it lasts:

    C = 1/4 int_0^T u' D^-1 u dt,           which is 1/2 int |u|^2 dt for D = 1/2.

A pushed cell obeys x' = f + u, so C is the action of its path, `1/4 int (x' - f)' D^-1 (x' - f) dt`, and no push by
whatever means that takes the cell from A to B costs less than the minimum action from A to B: after it is let go the
path is free of cost. That makes all edits comparable in one unit, and says how far each is from the best additive
control. It is a statement about the deterministic control of one cell; that noise of strength D takes the same path
with probability `~ exp(-S)` is Freidlin and Wentzell's reading of the same number.

The integral is Gauss and Legendre's over stretches of the push, along a solution of high accuracy by diffrax: the same
solution verifies the verdict that the batch solver gave.

Source: M. I. Freidlin and A. D. Wentzell, Random Perturbations of Dynamical Systems (3rd ed. 2012), chapter 4.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.landscape.coordinates import in_chunks
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.system import System
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.reprogramming.edits import EditArrays
from pinnsim.reprogramming.lanes import Bench, Tries, acting_of
from pinnsim.shapes import Scalar, State
from pinnsim.simulate import ODE, Outcome, solve

_STRETCHES, _NODES, _AFTER = 32, 8, 64  # of the quadrature over a push, and of the course shown after it
_AT_ONCE = 8


def effort(edits: EditArrays, tries: Tries, power: float | int = 1) -> np.ndarray:
    """E of each try, (lane,): strengths^power x model time units."""
    counted = edits.counted(tries.which, tries.strengths)
    return tries.durations * np.sum(np.where(tries.which == edits.none, 0.0, counted**power), axis=-1)


@dataclasses.dataclass(frozen=True)
class Exact:
    """Solutions of high accuracy.

    **Arguments:** `times`: (lane, time), while pushed and after; `states`: (lane, time, species); `control`: (lane,),
    C; `solved`: (lane,).
    """

    times: np.ndarray
    states: np.ndarray
    control: np.ndarray
    solved: np.ndarray


def exactly(bench: Bench, system: System, noise: AbstractNoise, tries: Tries) -> Exact:
    """Tries, without their margin, solved to a relative accuracy of 1e-9 through diffrax, and their control effort.

    **Arguments:** `system`: the cell under its background.
    """
    method = ODE(rtol=1e-9, atol=1e-11, max_steps=65536, solver=bench.method.solver)
    chunks = in_chunks([tries.which, tries.strengths, tries.durations], _AT_ONCE)
    none, whole = jnp.ones((_AT_ONCE, len(bench.kinetics.table.reactions))), jnp.asarray(False)
    parts = []
    for which, strengths, durations in zip(*chunks, strict=True):
        acting = acting_of(bench, which, strengths, durations, none, whole)
        edited = _edited(bench, which, strengths)
        parts.append(_exactly(system, noise, method, bench.state, bench.times[-1], durations, acting, edited))
    return Exact(*(np.concatenate(column)[: len(tries)] for column in zip(*parts, strict=True)))


@eqx.filter_jit
def _edited(bench: Bench, which: Array, strengths: Array) -> Edits:
    """What edits and background do together while a push lasts, a lane each."""
    return jax.vmap(lambda which, strengths: both(bench.background, bench.edits.acting(which, strengths)))(
        which, strengths
    )


@eqx.filter_jit
def _exactly(
    system: System,
    noise: AbstractNoise,
    method: ODE,
    state: State,
    last: Scalar,
    durations: Float[Array, " lane"],
    acting: Perturbation,
    edited: Edits,
) -> tuple[Array, ...]:
    places, weights = (jnp.asarray(a) for a in _rule())
    rest = jnp.linspace(0.0, 1.0, _AFTER + 1)[1:] ** 2

    def one(duration: Scalar, acting: Perturbation, edited: Edits) -> tuple[Array, ...]:
        after = duration + rest * (last - duration)
        times = jnp.concatenate([duration * places, duration[None], after])
        solution = solve(system.kinetics, times, acting, state, method, start=jnp.zeros_like(duration))
        pushed = solution.states[: places.shape[0]]
        rates = jax.vmap(control_rate, (None, None, None, 0))(system, noise, edited, pushed)
        ok = (solution.outcome == Outcome.DONE) & jnp.all(jnp.isfinite(solution.states))
        control = duration * jnp.sum(weights * rates)
        return times, solution.states, jnp.where(ok, control, jnp.nan), ok

    return jax.vmap(one)(durations, acting, edited)


def control_rate(system: System, noise: AbstractNoise, edited: Edits, state: State) -> Scalar:
    """`1/4 u' D^-1 u` at one state, per time: what edits add to the flow, against the noise."""
    y, still = system.free(state), jnp.zeros((), state.dtype)
    bent = system.basis.T @ system.kinetics.vector_field(still, state, Constant(edited))
    u = bent - system.basis.T @ system.kinetics.vector_field(still, state, Constant(system.acting))
    return 0.25 * jnp.sum(u * jnp.linalg.solve(noise.diffusion(system, y), u))


def both(one: Edits, other: Edits) -> Edits:
    """Edits that act together: factors multiply, drives and signals add; what the other holds is held there."""
    return Edits(
        factor=one.factor * other.factor,
        activity=one.activity * other.activity,
        drive=one.drive + other.drive,
        hold=one.hold | other.hold,
        level=jnp.where(other.hold, other.level, one.level),
        edge_factor=one.edge_factor * other.edge_factor,
        signal=one.signal + other.signal,
    )


def _rule() -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Nodes and weights on (0, 1): stretches that grow with time, because a push moves the cell fastest at first."""
    x, w = np.polynomial.legendre.leggauss(_NODES)
    edges = np.linspace(0.0, 1.0, _STRETCHES + 1) ** 2
    width = np.diff(edges)[:, None]
    return (edges[:-1, None] + 0.5 * width * (x + 1.0)).ravel(), (0.5 * width * w).ravel()
