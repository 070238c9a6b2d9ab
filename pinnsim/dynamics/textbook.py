"""Textbook landscapes, of which nearly everything is known exactly: wells, choices, rings of repressors, lineages.

    double well      x' = x - x^3                                         U = x^4 / 4 - x^2 / 2
    Muller-Brown     U = sum_k A_k exp(a_k dx^2 + b_k dx dy + c_k dy^2)
    binary choice    U = x^4 + y^4 + y^3 - 4 x^2 y + y^2 + p1 x + p2 y
    Maier-Stein      u' = u - u^3 - alpha u v^2,  v' = -mu (1 + u^2) v    no gradient for alpha != mu
    ring             x_i' = a / (1 + x_(i-1)^n) - x_i                     repressilator for three genes
    six-variable     m_i' = a0 + a / (1 + p_(i-1)^n) - m_i,  p_i' = beta (m_i - p_i)
    GATA1-PU.1       x' = a x^4 / (S^4 + x^4) + b S^4 / (S^4 + y^4) - x, and its mirror

Sources: K. Muller and L. D. Brown, Theor. Chim. Acta 53:75 (1979); M. Saez et al., Cell Systems 13:12 (2022), binary
choice; R. S. Maier and D. L. Stein, Phys. Rev. E 48:931 (1993); M. B. Elowitz and S. Leibler, Nature 403:335 (2000);
S. Huang et al., Dev. Biol. 305:695 (2007), GATA1-PU.1.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.drift import Descent, DriftField, drift_field
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import AbstractRateLaw, ReactionSystem, reaction_system
from pinnsim.dynamics.structure import Structure
from pinnsim.parameter import Parameter
from pinnsim.shapes import Numbers, PerInput, Rates, Scalar, State


class Quartic(eqx.Module):
    """`U = x^4 / 4 - x^2 / 2`."""

    def __call__(self, state: State) -> Scalar:
        (x,) = state
        return 0.25 * x**4 - 0.5 * x**2


def double_well(time_unit: str = "min") -> DriftField:
    """`x' = x - x^3`; tilt it with the treatment `drive(x)=h`."""
    return drift_field(Descent(Quartic()), ("x",), [-1.0], time_unit=time_unit)


class Gaussians(eqx.Module):
    """A sum of four two-dimensional exponentials. **Arguments:** (term,) each, in the order of the formula."""

    height: Float[Array, " term"]
    a: Float[Array, " term"]
    b: Float[Array, " term"]
    c: Float[Array, " term"]
    x: Float[Array, " term"]
    y: Float[Array, " term"]

    def __call__(self, state: State) -> Scalar:
        dx, dy = state[0] - self.x, state[1] - self.y
        return jnp.sum(self.height * jnp.exp(self.a * dx**2 + self.b * dx * dy + self.c * dy**2))


def muller_brown(time_unit: str = "min") -> DriftField:
    """The Muller-Brown surface: three minima and two saddles off any straight line."""
    energy = Gaussians(
        height=jnp.array([-200.0, -100.0, -170.0, 15.0]),
        a=jnp.array([-1.0, -1.0, -6.5, 0.7]),
        b=jnp.array([0.0, 0.0, 11.0, 0.6]),
        c=jnp.array([-10.0, -10.0, -6.5, 0.7]),
        x=jnp.array([1.0, 0.0, -0.5, -1.0]),
        y=jnp.array([0.0, 0.5, 1.5, 1.0]),
    )
    return drift_field(Descent(energy), ("x", "y"), [-0.5, 1.4], time_unit=time_unit)


class Choice(eqx.Module):
    """`U = x^4 + y^4 + y^3 - 4 x^2 y + y^2 + p1 x + p2 y`. **Arguments:** `tilt`: (2,), p."""

    tilt: Float[Array, " signal"]

    def __call__(self, state: State) -> Scalar:
        x, y = state
        return x**4 + y**4 + y**3 - 4.0 * x**2 * y + y**2 + jnp.sum(self.tilt * state)


def binary_choice(tilt: Numbers = (0.0, 1.0), time_unit: str = "min") -> DriftField:
    """A progenitor between two fates, both reached through symmetric saddles."""
    energy = Choice(jnp.asarray(tilt, dtype=float))
    return drift_field(Descent(energy), ("x", "y"), [0.1, -0.5], time_unit=time_unit)


class SkewWell(eqx.Module):
    """Maier and Stein's flow. **Arguments:** `alpha`, `mu`: numbers; a gradient only where they are equal."""

    alpha: Scalar
    mu: Scalar

    def __call__(self, state: State) -> State:
        u, v = state
        return jnp.stack([u - u**3 - self.alpha * u * v**2, -self.mu * (1.0 + u**2) * v])


def maier_stein(alpha: float | int = 10.0, mu: float | int = 1.0, time_unit: str = "min") -> DriftField:
    """Two valleys whose most probable way out leaves the axis, to either side, for `alpha > 4 mu`."""
    flow = SkewWell(jnp.asarray(float(alpha)), jnp.asarray(float(mu)))
    return drift_field(flow, ("u", "v"), [-1.0, 0.1], time_unit=time_unit)


class RingRepression(AbstractRateLaw):
    """`births a / (1 + x_(i-1)^n), then deaths x_i`. **Arguments:** `strength`, `hill`: numbers."""

    strength: Parameter
    hill: Parameter

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        seen = jnp.roll(jnp.maximum(state * activity, 0.0), 1)
        return jnp.concatenate([self.strength / (1.0 + seen**self.hill), state])


def ring(
    strength: Numbers = 10.0, hill: Numbers = 3.0, genes: Sequence[str] = ("a", "b", "c"), time_unit: str = "min"
) -> ReactionSystem:
    """Each gene represses the next, round a ring: two genes are a toggle, three a repressilator."""
    names = tuple(genes)
    reactions = [Reaction(f"transcription:{g}", f"0 -> {g}.mrna") for g in names]
    reactions += [Reaction(f"decay:{g}", f"{g}.mrna -> 0") for g in names]
    law = RingRepression(jnp.asarray(strength, dtype=float), jnp.asarray(hill, dtype=float))
    start = {f"{g}.mrna": 1.0 + 0.5 * k for k, g in enumerate(names)}
    return reaction_system(reactions, time_unit=time_unit, law=law, genes=names, start=start)


class SixRepression(AbstractRateLaw):
    """`births of RNA, deaths of RNA, births of protein, deaths of protein`. **Arguments:** numbers."""

    strength: Parameter
    leak: Parameter
    hill: Parameter
    ratio: Parameter

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        rna, protein = state[:3], state[3:]
        seen = jnp.roll(jnp.maximum(state * activity, 0.0)[3:], 1)
        made = self.leak + self.strength / (1.0 + seen**self.hill)
        return jnp.concatenate([made, rna, self.ratio * rna, self.ratio * protein])


def six_variable_repressilator(
    strength: Numbers = 216.0,
    leak: Numbers = 0.216,
    hill: Numbers = 2.0,
    ratio: Numbers = 5.0,
    time_unit: str = "RNA lifetime",
) -> ReactionSystem:
    """Elowitz and Leibler's repressilator with RNA and protein; `ratio` is the protein's over the RNA's decay rate."""
    names = ("lacI", "tetR", "cI")
    reactions = [Reaction(f"transcription:{g}", f"0 -> {g}.mrna") for g in names]
    reactions += [Reaction(f"decay:{g}", f"{g}.mrna -> 0") for g in names]
    reactions += [Reaction(f"translation:{g}", f"{g}.mrna -> {g}.mrna + {g}.protein") for g in names]
    reactions += [Reaction(f"protein_decay:{g}", f"{g}.protein -> 0") for g in names]
    law = SixRepression(*(jnp.asarray(value, dtype=float) for value in (strength, leak, hill, ratio)))
    start = {f"{g}.mrna": 1.0 + 5.0 * k for k, g in enumerate(names)}
    start |= {f"{g}.protein": 1.0 + 5.0 * k for k, g in enumerate(names)}
    return reaction_system(reactions, time_unit=time_unit, law=law, genes=names, start=start)


class LineageChoice(AbstractRateLaw):
    """Two genes that further themselves and repress each other; births, then deaths. **Arguments:** numbers."""

    activation: Parameter
    repression: Parameter
    threshold: Parameter

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        own = (jnp.maximum(state * activity, 0.0) / self.threshold) ** 4
        made = self.activation * own / (1.0 + own) + self.repression / (1.0 + own[::-1])
        return jnp.concatenate([made, state])


def gata1_pu1(
    activation: Numbers = 1.0, repression: Numbers = 1.0, threshold: Numbers = 0.5, time_unit: str = "min"
) -> ReactionSystem:
    """GATA1 and PU.1 (gene SPI1): two lineages, and from a = 0.7744750294 a progenitor at (1, 1) between them."""
    names = ("GATA1", "SPI1")
    reactions = [Reaction(f"transcription:{g}", f"0 -> {g}.mrna") for g in names]
    reactions += [Reaction(f"decay:{g}", f"{g}.mrna -> 0") for g in names]
    law = LineageChoice(*(jnp.asarray(value, dtype=float) for value in (activation, repression, threshold)))
    start = {f"{g}.mrna": 1.0 for g in names}
    return reaction_system(reactions, time_unit=time_unit, law=law, genes=names, start=start)
