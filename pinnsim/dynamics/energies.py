"""Learned scalar fields on a box that stay bounded outside it, and energies that are confined whatever was learned.

    z_i  = (x_i - centre_i) / half_i                      the box is -1 <= z_i <= 1
    c(z) = z inside;  +-(1 + r tanh((|z| - 1) / r)) outside          twice differentiable, |c| < 1 + r
    U(x) = inner(c(z) / (1 + r)) + stiffness |z|^2 / 2

`inner` is any function of the squashed coordinates: products of Chebyshev polynomials up to a total degree, or a neural
network. What it sees never leaves (-1, 1), so it is bounded, and U grows with the square of the distance for any finite
weights: exp(-U) has a finite integral, and cells cannot run away. Inside the box U is exactly what `inner` says plus
the parabola; a polynomial of degree d there is a polynomial of degree d.

Source: L. N. Trefethen, Approximation Theory and Approximation Practice (2013), for Chebyshev products.
"""

from collections.abc import Callable
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pinnsim.errors import PinnsimError
from pinnsim.parameter import Parameter, frozen
from pinnsim.shapes import Numbers, Scalar, State

RIM = 0.25  # r: how far beyond the box, in half-widths, what was learned still varies
Inner = Callable[[State], Float[Array, " output"]]


class Chebyshev(eqx.Module):
    """`sum_k w_k prod_i T_(n_ki)(u_i)`, one sum per output; build it with `chebyshev`.

    **Arguments:** `weights`: (output, term); `degrees`: n_ki, (term, coordinate).
    """

    weights: Float[Array, "output term"]
    degrees: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __call__(self, u: State) -> Float[Array, " output"]:
        degrees = np.array(self.degrees)
        highest = int(degrees.max())
        # T_n(u) = 2 u T_(n-1) - T_(n-2), all coordinates at once.
        rows = [jnp.ones_like(u), u]
        for _ in range(highest - 1):
            rows.append(2.0 * u * rows[-1] - rows[-2])
        table = jnp.stack(rows[: highest + 1])
        # Products of ones and zeros pick the factors: on wide batches much faster than gathers.
        terms = jnp.ones(len(degrees), u.dtype)
        for i in range(degrees.shape[1]):
            pick = jnp.asarray(degrees[:, i, None] == np.arange(highest + 1), u.dtype)
            terms = terms * jnp.matmul(pick, table[:, i], precision="highest")
        return self.weights @ terms


class Box(eqx.Module):
    """Where cells were seen. **Arguments:** `centre`, `half`: (species,), middle and half-widths."""

    centre: Parameter
    half: Parameter

    def scaled(self, state: State) -> State:
        """z, (species,): within -1 and 1 in the box."""
        return (state - self.centre) / self.half

    def squashed(self, state: State) -> State:
        """c(z), (species,): z in the box, and never beyond 1 + r."""
        z = self.scaled(state)
        beyond = jnp.maximum(jnp.abs(z) - 1.0, 0.0) / RIM
        return jnp.clip(z, -1.0, 1.0) + jnp.sign(z) * RIM * jnp.tanh(beyond)


class Boxed(eqx.Module):
    """`inner(c(z) / (1 + r))`: a learned field that is bounded everywhere.

    **Arguments:** `inner`: from (species,) in (-1, 1) to (output,); `box`.
    """

    inner: Inner
    box: Box

    def __call__(self, state: State) -> Float[Array, " output"]:
        return self.inner(self.box.squashed(state) / (1.0 + RIM))


class Confined(eqx.Module):
    """`U(x) = boxed(x) + stiffness |z|^2 / 2`, dimensionless: the stationary law without flux is `exp(-U)`.

    **Arguments:** `boxed`: of one output; `stiffness`: > 0, the parabola's height at the box's faces is half of it.
    """

    boxed: Boxed
    stiffness: Parameter

    def __call__(self, state: State) -> Scalar:
        z = self.boxed.box.scaled(state)
        return self.boxed(state)[0] + 0.5 * self.stiffness * jnp.sum(z * z)


def chebyshev(coordinates: int, degree: int, outputs: int = 1, *, constant: bool = False) -> Chebyshev:
    """All products of Chebyshev polynomials of total degree 1 to `degree` (0 as well if `constant`), weights 0.

    Good values: degree 4 for two or three valleys, 6 to 8 for sharper ones; there are
    `(coordinates + degree)! / coordinates! / degree! - 1` terms, so above five coordinates prefer a network.

    **Raises** `E_USAGE` for numbers below 1.
    """
    if coordinates < 1 or degree < (0 if constant else 1) or outputs < 1:
        raise PinnsimError.of(
            "E_USAGE",
            f"A polynomial needs coordinates, degree and outputs of 1 or more, but got {coordinates}, {degree} and "
            f"{outputs}.",
        )
    rows = [row for row in product(range(degree + 1), repeat=coordinates) if (not constant) <= sum(row) <= degree]
    rows.sort(key=lambda row: (sum(row), row[::-1]))
    return Chebyshev(jnp.zeros((outputs, len(rows))), tuple(rows))


def raised(polynomial: Chebyshev, degree: int) -> Chebyshev:
    """The same polynomial among products up to a higher degree, the new weights 0: where a richer fit begins.

    **Raises** `E_USAGE` for a degree below the polynomial's own.
    """
    count, own = len(polynomial.degrees[0]), max(sum(row) for row in polynomial.degrees)
    if degree < own:
        raise PinnsimError.of("E_USAGE", f"A polynomial of degree {own} cannot be raised to degree {degree}.")
    wider = chebyshev(count, degree, len(polynomial.weights), constant=(0,) * count in polynomial.degrees)
    places = np.array([wider.degrees.index(row) for row in polynomial.degrees])
    return Chebyshev(wider.weights.at[:, places].set(polynomial.weights), wider.degrees)


def network(coordinates: int, width: int, depth: int, outputs: int = 1, *, key: PRNGKeyArray) -> eqx.nn.MLP:
    """A multilayer perceptron with smooth units, 0 everywhere before it has learned. Good values: width 16 to 64,
    depth 1 or 2."""
    made = eqx.nn.MLP(coordinates, outputs, width, depth, activation=jax.nn.tanh, key=key)
    return eqx.tree_at(
        lambda n: (n.layers[-1].weight, n.layers[-1].bias), made, replace_fn=lambda leaf: jnp.zeros_like(leaf)
    )


def box(low: Numbers, high: Numbers) -> Box:
    """The box from `low` to `high`, (species,) each. **Raises** `E_BOUNDS` where it is not finite or not increasing."""
    lowest, highest = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    fine = lowest.ndim == 1 and lowest.shape == highest.shape and np.isfinite(lowest).all()
    if not fine or not np.isfinite(highest).all() or not (lowest < highest).all():
        raise PinnsimError.of(
            "E_BOUNDS", f"A box needs finite bounds, lowest < highest per coordinate, but got {low} and {high}."
        )
    return Box(frozen(0.5 * (lowest + highest)), frozen(0.5 * (highest - lowest)))


def confined(inner: Inner, box: Box, stiffness: float | int = 4.0) -> Confined:
    """A confined energy on a box. Good values: a box that holds all cells with a tenth of its width to spare; a
    stiffness of a few, which is the pull back towards the centre where nothing was seen.

    **Raises** `E_USAGE` for a stiffness that is not > 0.
    """
    if not (np.isfinite(stiffness) and stiffness > 0):
        raise PinnsimError.of("E_USAGE", f"Argument `stiffness` must be > 0, or cells may run away; it is {stiffness}.")
    return Confined(Boxed(inner, box), frozen(jnp.asarray(float(stiffness))))
