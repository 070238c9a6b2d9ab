"""A parameter says what it is: positive, bounded or frozen, in its leaf.

Optimisers move the unconstrained `raw`; equations see the constrained `value`. `resolve` turns a whole model's
parameters into their values, once, at the boundary. Densities over values become densities over `raw` with the
`log_determinant` of the map, log |d value / d raw|, summed over entries.
"""

import abc
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pinnsim.errors import PinnsimError
from pinnsim.shapes import Scalar

T = TypeVar("T")


class AbstractParameter(eqx.Module):
    """A constrained array. Subclasses give the map from their stored form to the value that equations see."""

    @property
    @abc.abstractmethod
    def value(self) -> Array:
        """The constrained value."""

    @abc.abstractmethod
    def log_determinant(self) -> Scalar:
        """log |d value / d raw| summed over entries; 0 for what is not optimised."""


class Positive(AbstractParameter):
    """A positive number, stored as its logarithm: `value = exp(raw)`. Good for rates, affinities and time constants."""

    raw: Float[Array, "..."]

    @property
    def value(self) -> Array:
        return jnp.exp(self.raw)

    def log_determinant(self) -> Scalar:
        return jnp.sum(self.raw)


class Interval(AbstractParameter):
    """A number between bounds: `value = lower + (upper - lower) * sigmoid(raw)`. The bounds are arrays and are not
    optimised."""

    raw: Float[Array, "..."]
    lower: Float[Array, "..."]
    upper: Float[Array, "..."]

    @property
    def value(self) -> Array:
        lower, upper = jax.lax.stop_gradient((self.lower, self.upper))
        return lower + (upper - lower) * jax.nn.sigmoid(self.raw)

    def log_determinant(self) -> Scalar:
        width = jax.lax.stop_gradient(self.upper - self.lower)
        return jnp.sum(jnp.log(width) - jax.nn.softplus(self.raw) - jax.nn.softplus(-self.raw))


class Frozen(AbstractParameter):
    """A known number: part of the model, swept and saved like any other, but never optimised."""

    raw: Float[Array, "..."]

    @property
    def value(self) -> Array:
        return jax.lax.stop_gradient(self.raw)

    def log_determinant(self) -> Scalar:
        return jnp.zeros((), jnp.result_type(self.raw))


if TYPE_CHECKING:
    # One field, two lives: a parameter where models are built and fitted, an array where equations see them resolved.
    Parameter = Any
else:
    Parameter = Array | AbstractParameter


def positive(value: ArrayLike) -> Positive:
    """`Positive` with this value. **Raises** `E_BOUNDS` for zero, negative or non-finite values."""
    array = jnp.asarray(value, dtype=float)
    if not bool(jnp.all(jnp.isfinite(array) & (array > 0))):
        raise PinnsimError.of(
            "E_BOUNDS", f"A positive parameter must be finite and > 0, but the smallest value is {jnp.min(array)}."
        )
    return Positive(jnp.log(array))


def interval(value: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Interval:
    """`Interval` with this value inside its bounds. **Raises** `E_BOUNDS` where not `lower < value < upper`."""
    value, lower, upper = jnp.broadcast_arrays(*(jnp.asarray(a, dtype=float) for a in (value, lower, upper)))
    if not bool(jnp.all(lower < upper)):
        raise PinnsimError.of(
            "E_BOUNDS", f"A lower bound must be below its upper bound, but got lower={lower} and upper={upper}."
        )
    if not bool(jnp.all((lower < value) & (value < upper))):
        raise PinnsimError.of(
            "E_BOUNDS",
            f"A nominal value must lie strictly inside its bounds, but {value} is not inside [{lower}, {upper}].",
        )
    fraction = (value - lower) / (upper - lower)
    return Interval(jnp.log(fraction) - jnp.log1p(-fraction), lower, upper)


def frozen(value: ArrayLike) -> Frozen:
    """`Frozen` with this value."""
    return Frozen(jnp.asarray(value, dtype=float))


def is_parameter(node: object) -> bool:
    """Whether a node of a tree is a parameter (for `is_leaf`)."""
    return isinstance(node, AbstractParameter)


def resolve(tree: T) -> T:
    """The same tree with every parameter replaced by its value. Idempotent."""
    return jax.tree.map(lambda node: node.value if is_parameter(node) else node, tree, is_leaf=is_parameter)


def log_determinant(tree: object) -> Scalar:
    """Sum of all parameters' log-determinants."""
    nodes = [node for node in jax.tree.leaves(tree, is_leaf=is_parameter) if is_parameter(node)]
    return sum((node.log_determinant() for node in nodes), jnp.zeros(()))


def trainable(tree: T) -> T:
    """A tree of flags: true where an optimiser may move a leaf. False for frozen numbers, bounds, integers and
    everything that is no array."""

    def flags(node: object) -> object:
        if isinstance(node, Frozen):
            return jax.tree.map(lambda _: False, node)
        if isinstance(node, Interval):
            return eqx.tree_at(lambda p: (p.raw, p.lower, p.upper), node, (True, False, False))
        if is_parameter(node):
            return jax.tree.map(lambda _: True, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(flags, tree, is_leaf=is_parameter)
