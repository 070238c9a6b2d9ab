"""The method as an object: how a model is solved, and how exactly."""

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import ArrayLike

from pinnsim.shapes import Scalar


class ODE(eqx.Module):
    """Deterministic rate equations by an adaptive solver.

    **Arguments:** `rtol`, `atol`: error allowed per step, relative and in abundance units (arrays: sweeping them does
    not recompile); `solver`: `None` for pinnsim's own, made for many lanes (`simulate.adaptive`), or any diffrax
    solver, `Tsit5()` for mild and `Kvaerno5()` for stiff systems; `max_steps`: bound on steps between two switch
    times; `stiff`: whether pinnsim's own solver is the linearly implicit one (`True`), the explicit one (`False`), or
    chosen by how fast the system is at its start (`None`); `adjoint`: how diffrax differentiates. Gradients of `solve`
    go through diffrax, with `Tsit5()` where `solver` is `None`; those of `solve_together` see there.

    Good values: rtol 1e-6 for simulation, 1e-4 for fitting to noisy data, 1e-10 for analysis in float64.
    """

    rtol: Scalar
    atol: Scalar
    solver: dfx.AbstractSolver | None
    stiff: bool | None = eqx.field(static=True)
    adjoint: dfx.AbstractAdjoint
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rtol: ArrayLike = 1e-6,
        atol: ArrayLike = 1e-9,
        solver: dfx.AbstractSolver | None = None,
        max_steps: int = 4096,
        adjoint: dfx.AbstractAdjoint | None = None,
        stiff: bool | None = None,
    ):
        self.rtol, self.atol = jnp.asarray(rtol, dtype=float), jnp.asarray(atol, dtype=float)
        self.solver = solver
        self.adjoint = dfx.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
        self.max_steps = max_steps
        self.stiff = stiff

    def forward_mode(self) -> "ODE":
        """The same method for derivatives in forward mode (`jax.jvp`, `jax.jacfwd`), which the default's gradients
        exclude."""
        return eqx.tree_at(lambda m: m.adjoint, self, dfx.ForwardMode())


def implicit(rtol: ArrayLike = 1e-9, atol: ArrayLike = 1e-10, max_steps: int = 100_000) -> ODE:
    """The method for stiff systems whose gradients are asked for: diffrax's `Kvaerno5`."""
    return ODE(rtol=rtol, atol=atol, solver=dfx.Kvaerno5(), max_steps=max_steps)
