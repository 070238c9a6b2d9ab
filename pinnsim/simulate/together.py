"""`solve_together`: many lanes in one program, with exact gradients of everything that lanes have or share.

Forward it is the batch solver of `solve_many`; backward it goes over the recorded steps (`pinnsim.simulate.reverse`),
all lanes side by side. Every lane keeps its own clock and step: one that is stiffer, has other switches, or fails,
costs the others nothing in accuracy, and in time only that the batch runs until the slowest lane is done. How a batch
is solved is a `Way`, by this rule:

- `ONE_BY_ONE`, through diffrax (`solve`) under `vmap`, where the method names a diffrax solver or another adjoint than
  diffrax's default: `ODE(adjoint=diffrax.ForwardMode())` for derivatives in forward mode, `diffrax.DirectAdjoint()` for
  second derivatives, which the other ways do not have;
- `IMPLICIT`, by linearly implicit steps, where `method.stiff` says so or where it is `None` and any lane is so fast at
  its start that an explicit solver would take more than 1500 steps for stability alone (`pinnsim.simulate.stiffness`);
- `EXPLICIT` otherwise.
"""

import enum
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Times
from pinnsim.simulate.batch import Blocks
from pinnsim.simulate.elimination import devices_for
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.many import Own as OwnNumbers
from pinnsim.simulate.many import check_lanes, moving, starts_stiff
from pinnsim.simulate.method import ODE
from pinnsim.simulate.newton import equations
from pinnsim.simulate.recorded import Common, How, Own, Recorded, recorded
from pinnsim.simulate.reverse import Cotangents, reversed_over
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.solve import Solution, solve
from pinnsim.simulate.switches import refuse_events
from pinnsim.tree import replaced

REMEMBERED = 128  # most states that are kept for the way back; longer solutions are walked twice
_LEAST = 8
_MEMORY = 256e6  # bytes for these states, and again for the times of all steps
_WIDEST = 256  # lanes of a block on a processor: the way back has many small operations, which wide blocks pay for


class Way(enum.Enum):
    """How lanes are solved where gradients are wanted."""

    EXPLICIT = "explicit steps, all lanes side by side"
    IMPLICIT = "linearly implicit steps, all lanes side by side"
    ONE_BY_ONE = "diffrax, mapped over lanes"


def way_of(
    kinetics: AbstractKinetics,
    times: Numbers,
    perturbation: Perturbation,
    states: Float[Array, "lane state"],
    method: ODE | None = None,
    *,
    own: OwnNumbers | None = None,
) -> Way:
    """The way that `solve_together` takes by itself, told before the work is done. Under `jit`, where numbers are not
    known, a method that leaves `stiff` open counts as mild."""
    method = ODE() if method is None else method
    if method.solver is not None or not isinstance(method.adjoint, dfx.RecursiveCheckpointAdjoint):
        return Way.ONE_BY_ONE
    stiff = method.stiff
    if stiff is None:
        given = (kinetics, times, perturbation, states, own)
        span = jnp.asarray(times, states.dtype)
        stiff = not _traced(given) and starts_stiff(resolve(kinetics), span, perturbation, states, dict(own or {}))
    return Way.IMPLICIT if stiff else Way.EXPLICIT


def solve_together(
    kinetics: AbstractKinetics,
    times: Numbers,
    perturbation: Perturbation,
    states: Float[Array, "lane state"],
    method: ODE | None = None,
    *,
    own: OwnNumbers | None = None,
    way: Way | None = None,
    doses_move: bool | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> Solution:
    """Solves every lane, differentiably: use it under `jit`, `grad` and `vjp`.

    **Arguments:** as for `solve_many`; `way`: `None` for `way_of`'s choice; `doses_move`: whether any dose curve moves
    between switches, `None` to look (under `jit`, where the perturbation is not known, that means yes, which is right
    but slower).

    **Returns** a `Solution` with a leading lane axis. Gradients reach the model's numbers, `own`, first states and all
    of the perturbation, its starts and stops included, but not `times`. A lane that failed has a gradient of exactly
    zero and leaves those of the others alone. Compiled once per shape. Beside `method.max_steps`, memory bounds the
    steps of a lane: 15,000 for a thousand lanes in double precision, more for fewer.

    **Raises** `E_INIT` for states and `E_USAGE` for names or shapes of `own` that do not fit.
    """
    method = ODE() if method is None else method
    numbers = dict(own or {})
    way = way_of(kinetics, times, perturbation, states, method, own=numbers) if way is None else way
    kinetics, span = resolve(kinetics), jnp.asarray(times, states.dtype)
    check_lanes(kinetics, states, numbers)
    refuse_events(kinetics, "solve_together")
    if way is Way.ONE_BY_ONE:
        return _one_by_one(kinetics, span, perturbation, states, method, numbers)
    if doses_move is None:
        doses_move = _traced((perturbation.ka, perturbation.ke)) or moving(perturbation)
    lanes, width = states.shape
    fitting = int(_MEMORY / (2 * max(lanes * width, 1) * states.dtype.itemsize))
    shared = perturbation.start.ndim == 1
    how = How(
        Tsitouras() if way is Way.EXPLICIT else Rodas(),
        method.rtol.astype(states.dtype),
        method.atol.astype(states.dtype),
        method.max_steps,
        doses_move,
        max(min(fitting // 2 * 2, REMEMBERED), _LEAST),
        max(int(_MEMORY / (max(lanes, 1) * (2 * states.dtype.itemsize + 1))), 1),
    )
    if block is None and jax.local_devices()[0].platform == "cpu":
        block = _WIDEST
    spread = _Spread(block, devices_for(equations(kinetics) if way is Way.IMPLICIT else 0, devices))
    asked = (Common(kinetics, perturbation if shared else None), Own(numbers, None if shared else perturbation), states)
    return Solution(*_solved(asked, how, span, spread))


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


class _Spread(NamedTuple):
    block: int | None
    devices: int | None


@eqx.filter_jit
def _one_by_one(
    kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, states: Array, method: ODE, own: OwnNumbers
) -> Solution:
    def one(own: OwnNumbers, acting: Perturbation, state: Array) -> Solution:
        return solve(replaced(kinetics, own), times, acting, state, method)

    return jax.vmap(one, (0, 0 if perturbation.start.ndim == 2 else None, 0))(own, perturbation, states)


_Asked = tuple[Common, Own, Array]
_Found = tuple[Array, Array, Array]


@eqx.filter_custom_vjp
def _solved(asked: _Asked, how: How, times: Times, spread: _Spread) -> _Found:
    return _forward(asked, how, times, spread)[0]


@eqx.filter_jit
def _forward(asked: _Asked, how: How, times: Times, spread: _Spread) -> tuple[_Found, Recorded]:
    common, own, states = asked
    blocks = Blocks.of(states.shape[0], *spread)

    def one_block(shared: tuple, lanes: tuple) -> Recorded:
        how, common = shared
        own, states = lanes
        return recorded(how, common, own, times, states)

    found = blocks.run(one_block, (how, common), blocks.cut((own, states)))
    return blocks.joined((found.states, found.outcome, found.reached)), found


def _forward_rule(perturbed: Any, asked: _Asked, how: How, times: Times, spread: _Spread) -> tuple[_Found, Recorded]:
    return _forward(asked, how, times, spread)


def _backward_rule(
    found: Recorded, given: Any, perturbed: Any, asked: _Asked, how: How, times: Times, spread: _Spread
) -> Any:
    if given[0] is None:
        return jax.tree.map(lambda _: None, asked)
    return _backward(found, given[0], perturbed, asked, how, times, spread)


@eqx.filter_jit
def _backward(
    found: Recorded, readings: Array, perturbed: Any, asked: _Asked, how: How, times: Times, spread: _Spread
) -> Any:
    common, own, states = asked
    blocks = Blocks.of(states.shape[0], *spread)
    filled = blocks.total * blocks.width
    # Copies of the last lane that fill the last block do not count.
    rows = jnp.zeros((filled, *readings.shape[1:]), readings.dtype).at[: readings.shape[0]].set(readings)

    def one_block(shared: tuple, lanes: tuple) -> Cotangents:
        how, common = shared
        own, readings, found = lanes
        return reversed_over(how, perturbed[:2], common, own, times, found, readings)

    lanes = (blocks.cut(own), blocks._replace(lanes=filled).cut(rows), found)
    back = blocks.run(one_block, (how, common), lanes)
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0), back.common)
    return total, *blocks.joined((back.own, back.state))


_solved.def_fwd(_forward_rule)
_solved.def_bwd(_backward_rule)
