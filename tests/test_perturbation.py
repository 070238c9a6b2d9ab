"""Perturbations as arrays: the identity, composition, phases, dose curves, and gradients that are finite everywhere."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import random_perturbation

from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.table import Table
from pinnsim.treatment import NONE, Treatment

TABLE = Table(("a", "b"), ("a",), ("s",), ("transcription:a", "transcription:b", "decay:a", "decay:b"),
              ("a.mrna", "b.mrna"), ("a->b",))  # fmt: skip
at = eqx.filter_jit(Perturbation.at)


def read(text: str) -> Perturbation:
    return Treatment.parse(text).resolve(TABLE)


def check_same(a: Edits, b: Edits) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-14)


def bateman(since: np.ndarray, ka: float, ke: float) -> np.ndarray:
    """The textbook curve in extended precision; its limit where ka = ke."""
    t, a, e = np.longdouble(since), np.longdouble(ka), np.longdouble(ke)
    if np.isinf(a):
        return np.exp(-e * t)
    if a == e:
        return a * t * np.exp(-a * t)
    return a / (a - e) * (np.exp(-e * t) - np.exp(-a * t))


def test_none_is_the_identity() -> None:
    none = Perturbation.none(TABLE)
    check_same(at(none, jnp.asarray(3.0)), at(NONE.resolve(TABLE), jnp.asarray(-3.0)))
    some = random_perturbation(TABLE, 1, 10.0)
    for moment in (0.0, 2.5, 7.0):
        time = jnp.asarray(moment)
        check_same(at(some.compose(none), time), at(some, time))
        check_same(at(none.compose(some), time), at(some, time))
        check_same(at(some.pad(7), time), at(some, time))


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 10))
def test_compose_multiplies_factors_and_adds_drives(one: int, two: int, moment: float) -> None:
    a, b = random_perturbation(TABLE, one, 10.0), random_perturbation(TABLE, two, 10.0)
    time = jnp.asarray(moment)
    left, right, both = at(a, time), at(b, time), at(a.compose(b), time)
    for name in ("factor", "activity", "edge_factor"):
        np.testing.assert_allclose(getattr(both, name), getattr(left, name) * getattr(right, name), rtol=1e-12)
    for name in ("drive", "signal"):
        np.testing.assert_allclose(getattr(both, name), getattr(left, name) + getattr(right, name), atol=1e-12)
    np.testing.assert_array_equal(both.hold, left.hold | right.hold)
    # The last phase wins: the right one where it holds, else the left one.
    np.testing.assert_array_equal(both.level, np.where(right.hold, right.level, np.where(left.hold, left.level, 0)))


def test_stack_pads_and_keeps_lanes() -> None:
    lanes = [read("none"), read("a=0@1:2, b*3@4:5"), read("signal(s)=2@3:")]
    stacked = Perturbation.stack(lanes)
    assert stacked.start.shape == (3, 2)
    assert stacked.phases == 2
    for k, lane in enumerate(lanes):
        for moment in (0.5, 1.5, 3.0, 4.5):
            time = jnp.asarray(moment)
            check_same(at(jax.tree.map(lambda leaf, k=k: leaf[k], stacked), time), at(lane, time))
    with pytest.raises(PinnsimError, match="E_PERTURB_TIME"):
        stacked.pad(1)


def test_intervals_are_closed_on_the_left() -> None:
    pulse = read("a*3@1:2")
    values = [float(at(pulse, jnp.asarray(t)).factor[0]) for t in (0.999, 1.0, 1.5, 2.0)]
    assert values == [1.0, 3.0, 3.0, 1.0]
    np.testing.assert_array_equal(read("a*3@1:2, b=0@:5").switch_times(), [-np.inf, 1.0, 2.0, 5.0])


def test_acting_keeps_what_is_on() -> None:
    some = read("a*3@:2, b*5@1:")
    assert at(some.acting(jnp.asarray(-jnp.inf)), jnp.asarray(100.0)).factor[:2].tolist() == [3.0, 1.0]
    assert at(some.acting(jnp.asarray(jnp.inf)), jnp.asarray(100.0)).factor[:2].tolist() == [1.0, 5.0]
    assert at(some.during(jnp.asarray(1.0), jnp.asarray(2.0)), jnp.asarray(2.0)).factor[:2].tolist() == [3.0, 5.0]


def test_of_several_holds_the_last_wins() -> None:
    some = read("hold(a)=1@0:10, hold(a)=2@3:5, hold(b)=7@4:6")
    seen = [at(some, jnp.asarray(t)) for t in (1.0, 4.0, 6.0, 11.0)]
    assert [e.level.tolist() for e in seen] == [[1, 0], [2, 7], [1, 0], [0, 0]]
    assert [e.hold.tolist() for e in seen] == [[True, False], [True, True], [True, False], [False, False]]


@pytest.mark.parametrize(
    ("ka", "ke"),
    [(np.inf, 0.0), (np.inf, 0.7), (2.0, 0.0), (2.0, 0.7), (0.7, 2.0), (0.7, 0.7), (0.7, 0.7 + 1e-5), (0.1, 10.0)],
)
def test_dose_curve_is_the_bateman_function(ka: float, ke: float) -> None:
    base = read("signal(s)=1{dose=3;ic50=2;hill=1.5}@4:")
    curve = eqx.tree_at(lambda p: (p.ka, p.ke), base, (jnp.full(1, ka), jnp.full(1, ke)))
    # The late times overflow a formula in which exp((ke - ka) t) grows.
    times = np.array([4.0, 4.001, 5.0, 9.0, 50.0, 104.0, 2000.0])
    dose = (3 * bateman(times - 4, ka, ke) / 2) ** np.longdouble(1.5)
    got = jax.vmap(lambda t: curve.at(t).signal[0])(jnp.asarray(times))
    np.testing.assert_allclose(got, (dose / (1 + dose)).astype(float), rtol=1e-8, atol=1e-15)


def test_hill_response() -> None:
    half = read("a*0{dose=2;ic50=2;hill=3}")
    assert float(at(half, jnp.asarray(1.0)).factor[0]) == pytest.approx(0.5)
    strong = read("a*0{dose=1e9;ic50=1e-9;hill=40}")
    assert float(at(strong, jnp.asarray(1.0)).factor[0]) == 0.0
    none = read("a*0{dose=0;ic50=2}")
    assert float(at(none, jnp.asarray(1.0)).factor[0]) == 1.0
    eliminated = read("a*0{ke=0.1;ic50=1}")  # given since ever, so it is gone
    assert float(at(eliminated, jnp.asarray(1.0)).factor[0]) == 1.0


@eqx.filter_jit
def slope(p: Perturbation, time: jax.Array) -> tuple[Perturbation, jax.Array]:
    """Derivative of everything that a perturbation says, by its numbers and by time."""

    def total(p: Perturbation, time: jax.Array) -> jax.Array:
        edits = p.at(time)
        return jnp.sum(edits.factor**2) + jnp.sum(edits.signal) + jnp.sum(edits.level) + jnp.sum(edits.drive)

    return jax.grad(total, (0, 1))(p, time)


@pytest.mark.parametrize(
    "text",
    [
        "a*0{dose=0;ic50=1;hill=0.5}@1:",
        "a*0{dose=2;ka=0.5;ke=0.5;ic50=1;hill=2}@1:",
        "a*0{dose=2;ka=0.5;ic50=1;hill=0.5}@1:",
        "a*0{dose=2;ke=3}@1:",
        "a*3@1:2, hold(b)=2@1:",
        "none",
    ],
)
def test_gradient_is_finite_everywhere(text: str) -> None:
    """At the start, long after, at dose 0, with ka = ke and with idle phases of a padded batch."""
    padded = read(text).pad(3)
    for moment in (0.0, 1.0, 1.0 + 1e-12, 2.0, 1e6):
        leaves = jax.tree.leaves(slope(padded, jnp.asarray(moment)))
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)


def test_gradient_of_a_dose() -> None:
    @jax.jit
    def response(dose: jax.Array) -> jax.Array:
        p = read("a*0{ka=0.7;ke=0.7;ic50=1.5;hill=2}@1:")
        return eqx.tree_at(lambda q: q.dose, p, dose[None]).at(jnp.asarray(2.3)).factor[0]

    x, h = jnp.asarray(2.0), 1e-5
    central = (response(x + h) - response(x - h)) / (2 * h)
    assert float(jax.grad(response)(x)) == pytest.approx(float(central), rel=1e-8)
