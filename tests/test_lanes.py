"""Lanes last: equal to `vmap` for every operation that programs use, loops and branches included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pinnsim.lanes import lanes_last

LANES = 5
INDEX = jnp.asarray([[2, 0], [1, 1], [0, 2], [2, 2]])
MATRIX = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))


def newton(shared, x):
    """A root by a loop whose length differs between lanes, with a counter that starts out the same in all."""

    def step(carry):
        guess, count = carry
        return guess - (guess**2 - x[0]) / (2 * guess), count + 1

    return lax.while_loop(lambda c: jnp.abs(c[0] ** 2 - x[0]) > shared, step, (x[0] + 1.0, 0))


def scanned(_, x):
    def step(carry, item):
        count, total = carry
        return (count + 1, total + item * x), (total[0], count)

    return lax.scan(step, (0, jnp.zeros(3)), jnp.arange(4.0), reverse=True)


def scanned_items(_, x):
    return lax.scan(lambda carry, item: (carry + item, carry * item), 0.0, x)


@jax.jit
def long(v, s):
    """A jitted function of many equations, one of whose results is the same in all lanes."""
    total = v
    for k in range(20):
        total = jnp.sin(total) + k * s
    return total, s * 2


PROGRAMS = {
    "elementwise": lambda s, x: jnp.where(x > 0, jnp.log1p(jnp.abs(x)) * s, jnp.tanh(x) ** 3) + 2,
    "scalars": lambda s, x: x[0] * jnp.ones(3) + s + jnp.clip(x, -0.5, x[1]),
    "custom derivatives": lambda s, x: jax.nn.softplus(x) + jax.nn.relu(x) + jax.nn.logsumexp(x),
    "structure": lambda s, x: jnp.concatenate([x.reshape(3, 1), jnp.stack([x, x], 1), jnp.ones((3, 1))], 1).T[::-1],
    "slices": lambda s, x: jnp.pad(x[1:] - x[:-1], (1, 2), constant_values=s) + jnp.zeros(5).at[1:3].set(x[:2]),
    "rows": lambda s, x: jnp.sum(x[INDEX] * MATRIX[:, :2], axis=1),
    "planes": lambda s, x: jnp.outer(x, x)[INDEX],
    "scatter": lambda s, x: jnp.zeros(4).at[INDEX[:3, 0]].add(x) + jnp.ones(4).at[1].set(s),
    "per lane index": lambda s, x: MATRIX[jnp.argmax(x)] + lax.dynamic_slice(x, [jnp.argmin(x)], [1]),
    "reductions": lambda s, x: jnp.cumsum(x) + jnp.where(jnp.any(x > s) & jnp.all(x < 9), 1.0, 0.0),
    "extremes": lambda s, x: jnp.max(x) + jnp.min(x) + jnp.prod(x),
    "shared matrix": lambda s, x: MATRIX @ x + (x @ MATRIX.T),
    "own matrices": lambda s, x: jnp.outer(x, x) @ jnp.diag(x) @ x + jnp.vdot(x, x),
    "pairs of matrices": lambda s, x: jnp.einsum(
        "bij,bjk->bik", jnp.stack([jnp.diag(x), jnp.outer(x, x)]), jnp.ones((2, 3, 4)) * x[0]
    ),
    "matrix of lanes on the left": lambda s, x: jnp.outer(x, x) @ MATRIX.T,
    "solve": lambda s, x: jnp.linalg.solve(jnp.outer(x, x) + 9 * jnp.eye(3), x),
    "sort": lambda s, x: jnp.sort(x),
    "nothing of lanes": lambda s, x: jnp.arange(3.0) * s,
    "while": newton,
    "fixed loop": lambda s, x: lax.fori_loop(0, 3, lambda i, c: (c[0] * x, c[1] + i), (jnp.ones(3), 0)),
    "scan": scanned,
    "scan over lanes' items": scanned_items,
    "branch by lane": lambda s, x: lax.switch(
        jnp.argmax(x), [lambda v: v, lambda v: 2 * v, lambda v: v[::-1]], x
    ) + lax.cond(x[0] > 0, lambda v: v, lambda v: jnp.ones(3), x),
    "branch by all": lambda s, x: lax.cond(s > 0, lambda v: (v, jnp.ones(2)), lambda v: (-v, jnp.zeros(2)), x),
    "long and jitted, called twice": lambda s, x: (long(x, s), long(long(x, s)[0], x[0]), long(jnp.ones(3), s)),
    "jitted": lambda s, x: jax.jit(lambda v: jax.checkpoint(jnp.sin)(v) * s)(x),
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_it_is_vmap_with_lanes_last(program):
    shared, lanes = jnp.asarray(0.3), jnp.asarray(np.random.default_rng(1).normal(size=(3, LANES)))
    if program is newton:
        shared, lanes = jnp.asarray(1e-9), jnp.abs(lanes) * 10
    expected = jax.vmap(program, (None, -1), -1)(shared, lanes)
    for found in (lanes_last(program)(shared, lanes), jax.jit(lanes_last(program))(shared, lanes)):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_trees_with_parts_that_are_no_arrays_pass_through():
    found = lanes_last(lambda s, x: {"y": x["a"] * s["k"] * x["n"]})(
        {"k": jnp.asarray(2.0)}, {"a": jnp.ones((3, 4)), "n": 3}
    )
    np.testing.assert_array_equal(found["y"], np.full((3, 4), 6.0))


def test_lanes_that_are_done_are_not_moved_by_others():
    """A lane that would overflow if it went on keeps what it had."""

    def doubled(limit, x):
        return lax.while_loop(lambda c: c < limit, lambda c: c * 1e200, x)

    found = lanes_last(doubled)(jnp.asarray(1e300), jnp.asarray([1e301, 1e-300]))
    np.testing.assert_array_equal(found, [1e301, 1e-300 * 1e200 * 1e200 * 1e200])


def test_derivatives_are_those_of_vmap():
    program = PROGRAMS["rows"]
    lanes = jnp.asarray(np.random.default_rng(2).normal(size=(3, LANES)))
    of = [lambda x, f=f: jnp.sum(f(1.0, x) ** 2) for f in (lanes_last(program), jax.vmap(program, (None, -1), -1))]
    np.testing.assert_allclose(jax.grad(of[0])(lanes), jax.grad(of[1])(lanes), rtol=1e-12)
