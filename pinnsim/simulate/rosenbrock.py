"""A linearly implicit solver for one stiff cell, made for many lanes side by side.

Rodas, six stages of order 4 with an embedded solution of order 3, stiffly accurate and L-stable, with dense output of
order 3. Every stage solves

    (I / (gamma h) - J) U_i = f(t + c_i h, x + sum_j a_ij U_j) + sum_j c_ij U_j / h + gamma_i h df/dt

with one matrix per step, so no iteration can fail to converge. How the matrix is solved is the model's own structure
(`pinnsim.simulate.newton`). Steps follow the error alone: saved times are interpolated.

Source: E. Hairer and G. Wanner, Solving Ordinary Differential Equations II (1996), IV.7 and their code RODAS.
"""

import jax
import jax.numpy as jnp

from pinnsim.perturbation import Constant
from pinnsim.shapes import Scalar, State
from pinnsim.simulate.adaptive import AbstractPair, Attempt, Ends, Field, weighted
from pinnsim.simulate.newton import shifted_solver

_GAMMA = 0.25
_POINTS = (
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.687886036105895),
)
_MIXED = (
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.7089089320616),
    (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
)
_NODES = (0.386, 0.21, 0.63, 1.0)
_DRIFTS = (0.25, -0.1043, 0.1035, -0.0362)
_SECOND = (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662)
_THIRD = (-0.6762803392806898, 6.087714651680606, 16.43084320892478, 24.76722511418386, -6.594389125716872)


class Rodas(AbstractPair):
    """Six right-hand sides, one Jacobian and one factorisation per step; no bound on the step by stability."""

    order: int = 4

    def attempt(self, field: Field, time: Scalar, state: State, slope: State, step: Scalar) -> Attempt:
        solve = shifted_solver(field, time, state, 1.0 / (_GAMMA * step))
        drift = self._drift(field, time, state)
        changes = [solve(slope + _DRIFTS[0] * step * drift)]
        for node, points, mixed, push in zip(_NODES, _POINTS, _MIXED, (*_DRIFTS[1:], 0.0), strict=False):
            point = state + weighted(points, changes)
            known = field(time + node * step, point) + weighted(mixed, changes) / step + push * step * drift
            changes.append(solve(known))
        # The last stage starts from a solution, and so does what follows it: both are of the end of the step.
        point = point + changes[4]
        changes.append(solve(field(time + step, point) + weighted(_MIXED[4], changes) / step))
        inside = (weighted(_SECOND, changes[:5]), weighted(_THIRD, changes[:5]))
        new = point + changes[5]
        return Attempt(new, field(time + step, new), changes[5], inside)

    def _drift(self, field: Field, time: Scalar, state: State) -> State:
        """df/dt at constant state: only dose curves move."""
        if isinstance(field.acting, Constant):
            return jnp.zeros_like(state)
        return jax.jvp(lambda t: field(t, state), (time,), (jnp.ones_like(time),))[1]

    def between(self, share: Scalar, ends: Ends, inside: tuple[State, ...]) -> State:
        second, third = inside
        rest = 1.0 - share
        return rest * ends.first + share * (ends.last + rest * (second + share * third))
