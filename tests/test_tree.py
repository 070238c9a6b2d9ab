"""Trees: names of leaves, hashes that tell structures and numbers apart, lanes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, randomised

from pinnsim.tree import brief, digest, lane, named_leaves, stack, structure_hash, unstack, with_leaves


@pytest.fixture(scope="module")
def models() -> list:
    model = model_of(("unspliced", "spliced", "protein"), unmeasured=1, own_inputs=True, residual="mlp")
    return [randomised(model, seed) for seed in range(3)]


def same(a: object, b: object) -> bool:
    left, right = named_leaves(a), named_leaves(b)
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_names_are_paths(models: list) -> None:
    names = list(named_leaves(models[0]))
    assert "kinetics/promoter/strength" in names
    assert "kinetics/decay/raw" in names
    assert "kinetics/residual/network/layers/0/weight" in names
    assert len(names) == len(set(names))


def test_with_leaves_puts_everything_back(models: list) -> None:
    moved = with_leaves(models[0], named_leaves(models[1]))
    assert same(moved, models[1])
    assert not same(moved, models[0])
    assert jax.tree.structure(moved) == jax.tree.structure(models[0])


def test_stack_and_unstack_are_inverse(models: list) -> None:
    batch = stack(models)
    assert all(same(a, b) for a, b in zip(unstack(batch), models, strict=True))
    assert same(lane(batch, 1), models[1])
    assert batch.table is models[0].table


def test_structure_hash_sees_names_shapes_and_types(models: list) -> None:
    known = structure_hash(models[0])
    assert structure_hash(models[1]) == known
    assert structure_hash(model_of(("mrna",))) != known
    narrow = eqx.tree_at(lambda m: m.kinetics.decay.raw, models[0], jnp.zeros(4, jnp.float32))
    assert structure_hash(narrow) != known
    renamed = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    assert structure_hash(renamed) != structure_hash({"a": jnp.ones(2), "c": jnp.zeros(2)})


def test_digest_sees_every_number_and_swapped_fields(models: list) -> None:
    leaves = named_leaves(models[0])
    assert digest(models[0]) == digest(with_leaves(models[0], leaves))
    for name, leaf in leaves.items():
        if leaf.size:
            flipped = leaf.copy()
            raw = flipped.reshape(-1).view(np.uint8)
            raw[0] ^= 1
            if flipped.dtype == bool:
                flipped = ~leaf
            assert digest(with_leaves(models[0], {**leaves, name: flipped})) != digest(models[0]), name
    one, two = "kinetics/synthesis/raw", "kinetics/decay/raw"
    assert digest(with_leaves(models[0], {**leaves, one: leaves[two], two: leaves[one]})) != digest(models[0])


@dataclasses.dataclass(frozen=True)
class Orbit:
    points: np.ndarray
    period: jax.Array
    name: str

    __repr__ = brief


def test_results_show_shapes_in_place_of_arrays():
    shown = brief(Orbit(np.zeros((257, 3)), jnp.ones(4), "C1"))
    assert shown == repr(Orbit(np.ones((257, 3)), jnp.zeros(4), "C1"))
    assert "257,3" in shown
    assert "name='C1'" in shown
    assert len(shown) < 100
