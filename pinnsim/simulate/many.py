"""`solve_many`: one model, many lanes that differ in rates, perturbations and first states, in one compiled program.

`simulate` ends here, and so do sweeps: what lanes share is stored and worked out once, what differs between them is
named.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.rules import packed
from pinnsim.errors import Problems, did_you_mean
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Scalar, Times
from pinnsim.simulate.adaptive import Field, Limits, integrate
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.elimination import devices_for
from pinnsim.simulate.eventful import integrate_with_events
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.method import ODE
from pinnsim.simulate.newton import equations
from pinnsim.simulate.rosenbrock import Rodas
from pinnsim.simulate.solve import Solution, solve
from pinnsim.simulate.stiffness import fastest_rate, is_stiff
from pinnsim.simulate.switches import events_of, reads_time
from pinnsim.tree import named_shapes, replaced

Own = Mapping[str, Array]

_CACHE = 512e3  # bytes of a core's second-level cache that a block may fill
_ARRAYS, _MATRICES = 16, 3  # arrays of the state's size that a step works on; matrices of an implicit step
_FEWEST = 16  # compilers write loops over fewer lanes out number by number, several times slower


def solve_many(
    kinetics: AbstractKinetics,
    times: Numbers,
    perturbation: Perturbation,
    states: Float[Array, "lane state"],
    method: ODE | None = None,
    *,
    own: Own | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> Solution:
    """Solves every lane by pinnsim's own solvers, or, where `method.solver` is given, by that of diffrax.

    **Arguments:** `times`: (time,), increasing; `perturbation`: one for all lanes or, with a leading lane axis, one
    each (`Perturbation.stack`); `states`: at `times[0]`; `own`: numbers of the model that lanes have of their own, by
    the names of `tree.named_leaves(parameter.resolve(kinetics))`, each with a leading lane axis (`{"synthesis": (lane,
    gene)}`); `block`, `devices`: see `run_lanes`.

    **Returns** a `Solution` with a leading lane axis. Forward only: for gradients use `solve_together`. Compiled
    once per shape; dose curves that move, and stiff models, are further programs.

    **Raises** `E_INIT` for states and `E_USAGE` for names or shapes of `own` that do not fit.
    """
    method = ODE() if method is None else method
    kinetics, span, own = resolve(kinetics), jnp.asarray(times, states.dtype), dict(own or {})
    check_lanes(kinetics, states, own)
    kinetics = packed(kinetics)
    stiff = method.stiff
    if stiff is None:
        stiff = method.solver is None and starts_stiff(kinetics, span, perturbation, states, own)
    moves = moving(perturbation) or (stiff and reads_time(kinetics))
    return _solved(kinetics, span, perturbation, states, method, own, stiff, moves, block, devices)


def moving(perturbation: Perturbation) -> bool:
    """Whether any phase has a dose curve, which moves between switches."""
    return bool(np.isfinite(np.asarray(perturbation.ka)).any() or (np.asarray(perturbation.ke) > 0).any())


def starts_stiff(kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, states: Array, own: Own) -> bool:
    """Whether any lane is too fast at its start for an explicit solver. `kinetics` is resolved."""
    return is_stiff(_fastest(kinetics, perturbation, states, times[0], own), times)


def check_lanes(kinetics: AbstractKinetics, states: Array, own: Own) -> None:
    """Raises `E_INIT` and `E_USAGE` for states and numbers of lanes that do not fit the resolved model."""
    species, leaves = len(kinetics.table.species), named_shapes(kinetics)
    with Problems() as problems:
        if states.ndim != 2 or states.shape[1] != species:
            problems.add(
                "E_INIT",
                f"Argument `states` needs one row per lane and one column per species, (lane, {species}), but has "
                f"shape {tuple(states.shape)}.",
            )
        for name, values in own.items():
            if name not in leaves:
                problems.add("E_USAGE", f"Argument `own` names '{name}', which the model does not have"
                             f"{did_you_mean(name, leaves)}.")  # fmt: skip
            elif tuple(values.shape) != (states.shape[0], *leaves[name]):
                problems.add(
                    "E_USAGE",
                    f"Argument `own['{name}']` needs shape {(states.shape[0], *leaves[name])}, lanes first, but "
                    f"has shape {tuple(values.shape)}.",
                )


def _lane_of(perturbation: Perturbation) -> tuple[Perturbation | None, Perturbation | None]:
    """As something shared, or as something of lanes."""
    return (perturbation, None) if perturbation.start.ndim == 1 else (None, perturbation)


# A dozen products of a matrix and a vector: compilers take far longer over them than any machine.
@eqx.filter_jit(compiler_options={"xla_backend_optimization_level": 0})  # type: ignore[call-overload]
def _fastest(kinetics: AbstractKinetics, perturbation: Perturbation, states: Array, first: Scalar, own: Own) -> Array:
    common, each = _lane_of(perturbation)

    def one(shared: tuple, lane: tuple) -> Scalar:
        kinetics, common, first = shared
        own, each, state = lane
        return fastest_rate(Field(_with_own(kinetics, own), each if common is None else common), first, state)

    return run_lanes(one, (kinetics, common, first), (own, each, states))


@eqx.filter_jit
def _solved(
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    states: Array,
    method: ODE,
    own: Own,
    stiff: bool,
    moving: bool,
    block: int | None,
    devices: int | None,
) -> Solution:
    common, each = _lane_of(perturbation)

    def one(shared: tuple, lane: tuple) -> Solution:
        kinetics, common, times, rtol, atol = shared
        own, each, state = lane
        limits, pair = Limits(rtol, atol, method.max_steps), Rodas() if stiff else Tsitouras()
        acting = each if common is None else common
        whole = integrate if events_of(kinetics) is None else integrate_with_events
        return whole(_with_own(kinetics, own), times, acting, state, pair, limits, moving)

    def reference(own: Own, acting: Perturbation, state: Array) -> Solution:
        return solve(_with_own(kinetics, own), times, acting, state, method)

    if method.solver is not None:
        return jax.vmap(reference, (0, 0 if common is None else None, 0))(own, perturbation, states)
    shared = (kinetics, common, times, method.rtol, method.atol)
    if block is None:
        block = lanes_in_cache(states, equations(kinetics) if stiff else 0)
    spread = devices_for(equations(kinetics) if stiff else 0, devices)
    return run_lanes(one, shared, (own, each, states), block=block, devices=spread)


def _with_own(kinetics: Any, own: Own) -> Any:
    """A lane's model."""
    return packed(replaced(kinetics, own)) if own else kinetics


def lanes_in_cache(states: Array, equations: int) -> int | None:
    """How many lanes side by side keep a step's arrays in a core's cache; `None` where there is no such limit.

    **Arguments:** `equations`: of the linear system that an implicit step solves, else 0.
    """
    if jax.local_devices()[0].platform != "cpu":
        return None
    numbers = _ARRAYS * states.shape[1] + _MATRICES * equations**2
    fitting = int(_CACHE / (numbers * states.dtype.itemsize))
    return min(max(fitting // 8 * 8, _FEWEST), 128)
