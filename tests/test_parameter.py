"""Parameters: raw and value are inverse, log-determinants are those of the maps, bounds are checked (Bad input 19)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnsim.errors import PinnsimError
from pinnsim.parameter import (
    Frozen,
    Interval,
    Positive,
    frozen,
    interval,
    log_determinant,
    positive,
    resolve,
    trainable,
)

raws = st.floats(-20, 20)


@given(st.floats(1e-8, 1e8))
def test_positive_holds_its_value(value: float) -> None:
    assert float(positive(value).value) == pytest.approx(value, rel=1e-13)


@given(st.floats(-50, 50), st.floats(1e-3, 100), st.floats(1e-6, 1 - 1e-6))
def test_interval_holds_its_value(lower: float, width: float, part: float) -> None:
    value = lower + part * width
    assert float(interval(value, lower, lower + width).value) == pytest.approx(value, abs=1e-12 * (abs(lower) + width))


@given(raws)
def test_values_keep_their_bounds(raw: float) -> None:
    assert float(Positive(jnp.asarray(raw)).value) > 0
    assert 2.0 <= float(Interval(jnp.asarray(raw), jnp.asarray(2.0), jnp.asarray(3.0)).value) <= 3.0


@pytest.mark.parametrize("kind", ["positive", "interval"])
def test_log_determinant_is_that_of_the_map(kind: str) -> None:
    def value(raw: jax.Array) -> jax.Array:
        bounds = jnp.full_like(raw, -1.0), jnp.full_like(raw, 3.0)
        return (Positive(raw) if kind == "positive" else Interval(raw, *bounds)).value

    raw = jnp.asarray([-3.0, 0.2, 4.0])
    exact = jnp.linalg.slogdet(jax.jacfwd(value)(raw))[1]
    parameter = Positive(raw) if kind == "positive" else Interval(raw, jnp.full(3, -1.0), jnp.full(3, 3.0))
    assert float(parameter.log_determinant()) == pytest.approx(float(exact), rel=1e-12)


def test_log_determinant_of_a_tree() -> None:
    tree = {"rate": positive(np.array([2.0, 3.0])), "known": frozen(5.0), "free": jnp.ones(3)}
    assert float(log_determinant(tree)) == pytest.approx(np.log(6.0))
    assert float(log_determinant({"free": jnp.ones(2)})) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: positive(0.0),
        lambda: positive(np.array([1.0, -2.0])),
        lambda: positive(np.nan),
        lambda: positive(np.inf),
        lambda: interval(0.5, 1.0, 0.0),
        lambda: interval(0.5, 1.0, 1.0),
        lambda: interval(2.0, 0.0, 1.0),
        lambda: interval(0.0, 0.0, 1.0),
        lambda: interval(np.nan, 0.0, 1.0),
        lambda: interval(0.5, 0.0, np.nan),
    ],
)
def test_bounds_are_refused(call) -> None:
    with pytest.raises(PinnsimError) as caught:
        call()
    assert caught.value.codes == ("E_BOUNDS",)


def test_resolve_and_trainable() -> None:
    tree = {
        "rate": positive(2.0),
        "part": interval(0.5, 0.0, 1.0),
        "known": frozen(5.0),
        "free": jnp.ones(3),
        "index": jnp.arange(2),
        "name": "x",
    }
    once = resolve(tree)
    assert float(once["rate"]) == pytest.approx(2.0)
    assert float(once["known"]) == 5.0
    assert once["name"] == "x"
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), {**once, "name": 0}, {**resolve(once), "name": 0})
    )
    flags = trainable(tree)
    assert flags["rate"].raw is True
    assert (flags["part"].raw, flags["part"].lower, flags["part"].upper) == (True, False, False)
    assert (flags["known"].raw, flags["free"], flags["index"]) == (False, True, False)


def test_no_gradient_reaches_what_is_known() -> None:
    def total(tree: dict) -> jax.Array:
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(resolve(tree))), jnp.zeros(()))

    slope = jax.grad(total)({"known": Frozen(jnp.ones(2)), "part": interval(0.5, 0.0, 1.0), "rate": positive(3.0)})
    assert slope["known"].raw.tolist() == [0.0, 0.0]
    assert (float(slope["part"].lower), float(slope["part"].upper)) == (0.0, 0.0)
    assert float(slope["part"].raw) == pytest.approx(0.25)
    assert float(slope["rate"].raw) == pytest.approx(3.0)
