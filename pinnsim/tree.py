"""Trees of arrays: names of leaves, and batches of equal trees.

A leaf's name is its path of field names and indices joined by `/` (`kinetics/promoter/strength/raw`); files, error
messages and reports use it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

T = TypeVar("T")


def brief(value: object) -> str:
    """How a result shows itself: its fields, with shapes in place of arrays. For `__repr__`."""
    return eqx.tree_pformat(value)


def path_name(path: tuple) -> str:
    """A leaf's name from JAX's key path."""
    parts = []
    for key in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(key, attribute):
                parts.append(str(getattr(key, attribute)))
                break
    return "/".join(parts)


def named_leaves(tree: object) -> dict[str, np.ndarray]:
    """All array leaves of `tree` by name, as host arrays, in tree order."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def named_shapes(tree: object) -> dict[str, tuple[int, ...]]:
    """The shapes of all array leaves by name, also where their numbers are not known yet."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def with_leaves(tree: T, leaves: dict[str, np.ndarray]) -> T:
    """`tree` with every array leaf replaced by the one of the same name; shapes and dtypes must match, and do where
    `structure_hash` agrees."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    replaced = jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(leaves[path_name(path)]), arrays)
    return eqx.combine(replaced, rest)


def replaced(tree: T, leaves: Mapping[str, Array]) -> T:
    """`tree` with these array leaves, by name, replaced; the others stay. Names that it lacks are passed over."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    new = jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(path_name(path), leaf), arrays)
    return eqx.combine(new, rest)


def structure_hash(tree: object) -> str:
    """sha256 over names, shapes and dtypes of all array leaves, in tree order: equal exactly when parameters of one
    fit into the other."""
    lines = [f"{name} {array.shape} {array.dtype}" for name, array in named_leaves(tree).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest(tree: object) -> str:
    """sha256 over names, types and contents of all array leaves: equal exactly when the numbers are."""
    total = hashlib.sha256(structure_hash(tree).encode())
    for array in named_leaves(tree).values():
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def stack(trees: Sequence[T]) -> T:
    """Lanes of one batch: equal trees to one tree whose arrays have a leading lane axis."""
    arrays = [eqx.filter(tree, eqx.is_array) for tree in trees]
    rest = eqx.filter(trees[0], eqx.is_array, inverse=True)
    return eqx.combine(jax.tree.map(_stack_leaves, *arrays), rest)


def _stack_leaves(*leaves: Array | np.ndarray) -> Array:
    # On the host where the numbers are known: a compiled stack takes minutes to compile for ten thousand lanes.
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    numeric = all(isinstance(leaf.dtype, np.dtype) for leaf in leaves)
    return jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves])) if numeric and not traced else jnp.stack(leaves)


def lane(tree: T, index: int | np.ndarray) -> T:
    """One lane of a stacked tree; of an array of indices, the stack of these."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda leaf: leaf[index], arrays), rest)


def unstack(tree: T) -> list[T]:
    """All lanes of a stacked tree; the inverse of `stack`."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return [lane(tree, index) for index in range(leaves[0].shape[0])]
