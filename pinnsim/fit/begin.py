"""Cells that did not start where they were seen: populations that had rested before, and mixtures of kinds.

*Rest.* The steady state before the stimulus is a population of its own: cells that have run for a long time T under
what acts since ever,

    x_0 = push(x_(-T)),      x_(-T) ~ begin,

so that its means, its spread and its valleys follow from the rates, and the gradient goes through that course. Where T
is long beside the slowest relaxation, what `begin` says matters no more, except for the valley it lies in.

*Mixture.* x_0 is drawn from part k with probability w_k.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.fit.population import AbstractBegin, AbstractPush, Amounts, Cells
from pinnsim.perturbation import Perturbation
from pinnsim.random import normals
from pinnsim.shapes import Numbers, Scalar
from pinnsim.simulate.sampler import setting

_PART = 1 << 24  # stream of random numbers


class SettledBegin(AbstractBegin):
    """Cells at rest before the stimulus.

    **Arguments:** `begin`: where they were long before (`SampledBegin()`: in the valleys in which they were seen);
    `push`: how they moved (the population's own, as a rule); `settle`: for how long, in the model's time unit; `steps`:
    of methods with steps of given length.

    Good values: `settle` 5 times the slowest lifetime, steps of a fifth of the shortest.
    """

    begin: AbstractBegin
    push: AbstractPush
    settle: Scalar
    steps: int = eqx.field(static=True)

    def __init__(self, begin: AbstractBegin, push: AbstractPush, settle: ArrayLike, steps: int = 50):
        self.begin, self.push, self.steps = begin, push, steps
        self.settle = setting("settle", settle)
        if steps < 1:
            raise PinnsimError.of("E_USAGE", f"Argument `steps` must be at least 1, but is {steps}.")

    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        since_ever = perturbation.acting(jnp.asarray(-jnp.inf, shown.dtype))
        before = self.begin.states(kinetics, shown, where, keys, perturbation)
        # A setting, not a parameter: no fit may make the past shorter.
        settle = jax.lax.stop_gradient(self.settle).astype(shown.dtype)
        grid = settle * jnp.linspace(0.0, 1.0, self.steps + 1, dtype=shown.dtype)
        courses, arrived = self.push.courses(
            kinetics, grid[jnp.asarray([0, -1])], grid, since_ever, before, self.push.earlier_keys(keys)
        )
        # Cells that never got to their start are told by the push that follows.
        return jnp.where(arrived[:, None], courses[:, -1], jnp.nan)


class MixtureBegin(AbstractBegin):
    """Each cell starts as one of several kinds. **Arguments:** `parts`: the kinds; `shares`: (part,), >= 0, of any sum.
    Which kind a cell is does not change by small steps, so a fit has no slope by shares: give them, or compare fits."""

    parts: tuple[AbstractBegin, ...]
    shares: Float[Array, " part"]

    def __init__(self, parts: tuple[AbstractBegin, ...], shares: Numbers):
        self.parts, self.shares = tuple(parts), jnp.asarray(shares, dtype=float)
        if self.shares.shape != (len(self.parts),) or not bool(jnp.all(self.shares >= 0) & jnp.any(self.shares > 0)):
            raise PinnsimError.of(
                "E_USAGE",
                f"A mixture of {len(self.parts)} kinds needs as many shares >= 0, not all 0, but got {shares}.",
            )

    def states(
        self,
        kinetics: AbstractKinetics,
        shown: Amounts,
        where: Int[Array, "layer gene"],
        keys: Array,
        perturbation: Perturbation,
    ) -> Cells:
        each = jnp.stack([part.states(kinetics, shown, where, keys, perturbation) for part in self.parts])
        draws = jax.vmap(lambda key: normals(key, _PART, 1, dtype=shown.dtype)[0])(keys)
        edges = jnp.cumsum(self.shares) / jnp.sum(self.shares)
        # A share of 0 has no width, and rounding of the last edge no cell beyond it.
        which = jnp.minimum(
            jnp.sum(jax.scipy.special.ndtr(draws)[:, None] >= edges[None, :-1], axis=1), len(self.parts) - 1
        )
        return each[which, jnp.arange(keys.shape[0])]
