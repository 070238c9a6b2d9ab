"""A linearly implicit solver for one stiff cell, made for many lanes side by side.

Rodas5P, eight stages of order 5 with an embedded solution of order 4, stiffly accurate and L-stable, with dense output
of order 4. Every stage solves

    (I / (gamma h) - J) U_i = f(t + c_i h, x + sum_j a_ij U_j) + sum_j c_ij U_j / h + gamma_i h df/dt

with one matrix per step, so no iteration can fail to converge. How the matrix is solved is the model's own structure
(`pinnsim.simulate.newton`). Steps follow the error alone: saved times are interpolated.

Sources: G. Steinebach, Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia
Differential Equations package, BIT 63:27 (2023), whose coefficients these are, in the form of E. Hairer and G. Wanner,
Solving Ordinary Differential Equations II (1996), IV.7.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.perturbation import Constant
from pinnsim.shapes import Scalar, State
from pinnsim.simulate.adaptive import AbstractPair, Attempt, Ends, Field, weighted
from pinnsim.simulate.newton import shifted_solver

_STAGES = 8
_GAMMA = 0.21193756319429014
_BEFORE_LAST = (
    -7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946
)  # fmt: skip
_POINTS = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _BEFORE_LAST,
    (*_BEFORE_LAST, 1.0),
    (*_BEFORE_LAST, 1.0, 1.0),
)
_MIXED = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
        -28.087943162872662,
    ),
    (
        37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
        -54.66780262877968, -9.48861652309627,
    ),
)  # fmt: skip
_NODES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
_DRIFTS = (_GAMMA, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0)
_DENSE = (
    (
        25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073,
        1.1241088310450404, 0.4272876194431874, -0.17202221070155493,
    ),
    (
        -9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044,
        15.98066361424651, -6.789040303419874, -6.710236069923372,
    ),
    (
        11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654,
        -59.78993625266729, -0.15582684282751913, 4.883087185713722,
    ),
)  # fmt: skip


class _Stage(NamedTuple):
    """A row of the method."""

    number: Array
    points: Float[Array, " stage"]
    mixed: Float[Array, " stage"]
    node: Scalar
    push: Scalar


class Rodas(AbstractPair):
    """Eight right-hand sides, one Jacobian and one factorisation per step; no bound on the step by stability."""

    order: int = 5
    between_arrays: int = 3
    together: int = 4

    def attempt(self, field: Field, time: Scalar, state: State, slope: State, step: Scalar) -> Attempt:
        kind = state.dtype
        solve, drift = shifted_solver(field, time, state, 1.0 / (_GAMMA * step)), self._drift(field, time, state)

        def stage(carry: tuple[Array, State], row: _Stage) -> tuple[tuple[Array, State], None]:
            changes = carry[0]
            point = state + _summed(row.points, changes)
            known = field(time + row.node * step, point) + _summed(row.mixed, changes) / step
            change = solve(known if drift is None else known + row.push * step * drift)
            return (changes.at[row.number].set(change), point), None

        rows = _Stage(
            jnp.arange(_STAGES),
            *(jnp.asarray(_square(values), kind) for values in (_POINTS, _MIXED)),
            *(jnp.asarray(values, kind) for values in (_NODES, _DRIFTS)),
        )
        # A loop, so that a model's equations and its linear system are compiled once, not once per stage.
        begin = (jnp.zeros((_STAGES, *state.shape), kind), state)
        (changes, point), _ = jax.lax.scan(stage, begin, rows)
        each = list(changes)
        inside = tuple(weighted(row, each) for row in _DENSE)
        return Attempt(point + each[-1], slope, each[-1], inside)

    def _drift(self, field: Field, time: Scalar, state: State) -> State | None:
        """df/dt at constant state: only dose curves move."""
        if isinstance(field.acting, Constant):
            return None
        return jax.jvp(lambda t: field(t, state), (time,), (jnp.ones_like(time),))[1]

    def between(self, share: Scalar, ends: Ends, inside: tuple[State, ...]) -> State:
        second, third, fourth = inside
        rest = 1.0 - share
        return rest * ends.first + share * (ends.last + rest * (second + share * (third + share * fourth)))


def _square(rows: tuple[tuple[float, ...], ...]) -> np.ndarray:
    return np.array([[*row, *[0.0] * (_STAGES - len(row))] for row in rows])


def _summed(weights: Float[Array, " stage"], changes: Float[Array, "stage species"]) -> State:
    total = weights[0] * changes[0]
    for j in range(1, _STAGES - 1):  # no stage sees the last
        total = total + weights[j] * changes[j]
    return total
