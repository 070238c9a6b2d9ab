"""Branches, folds, pitchforks, Hopf points and cusps against their closed forms and the digits of the literature."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from pinnsim.dynamics.drift import drift_field
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import toggle
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.dynamics.textbook import double_well, gata1_pu1, ring
from pinnsim.errors import PinnsimError
from pinnsim.landscape.arclength import trace
from pinnsim.landscape.continuation import continuation, fold_curve, switch_branch
from pinnsim.landscape.system import dose, parameter, system_of

FOLD = 2 / (3 * np.sqrt(3))
STRENGTH = parameter("law/strength")


def test_the_tilted_double_well_has_both_its_folds():
    well = double_well()
    branch = continuation(well, [-1.0], dose(well, "drive(x)=1"), 0.0, (-1.0, 1.0))
    assert [point.kind for point in branch.special] == ["fold", "fold"]
    found = np.array([[point.value, point.state[0]] for point in branch.special])
    np.testing.assert_allclose(found, [[FOLD, -1 / np.sqrt(3)], [-FOLD, 1 / np.sqrt(3)]], rtol=0, atol=1e-9)
    # f'' / 2 = -3 x in the direction of growing x.
    np.testing.assert_allclose([abs(p.coefficient) for p in branch.special], np.sqrt(3), rtol=1e-9)
    # Every point solves x - x^3 + h = 0, is stable exactly outside the folds, and the branch ends at the span's edges.
    x = branch.states[:, 0]
    np.testing.assert_allclose(x - x**3 + branch.values, 0, atol=1e-10)
    assert (branch.stable == (np.abs(x) > 1 / np.sqrt(3))).all()
    np.testing.assert_allclose(branch.values[[0, -1]], [-1, 1], atol=1e-12)
    assert branch.ends == ("left the span", "left the span")
    assert list(branch.table()["kind"]) == ["fold", "fold"]


@pytest.mark.parametrize(("hill", "where"), [(2.0, 2.0), (3.0, 1.1905507890), (4.0, 1.0131142475)])
def test_the_toggle_has_its_pitchfork(hill, where):
    branch = continuation(ring(1.0, hill, ("u", "v")), [0.7, 0.7], STRENGTH, 1.0, (0.5, 5.0))
    (point,) = branch.special
    assert point.kind == "branch point"
    assert abs(point.value - where) < 1e-9
    assert (branch.stable == (branch.values < where)).all()
    other = switch_branch(branch, point)
    # The other branch holds both fates, mirror images, and touches the symmetric one at the pitchfork only.
    ends = other.states[[0, -1]]
    at_ends = other.values[[0, -1]]
    for (u, v), a in zip(ends, at_ends, strict=True):
        assert abs(a / (1 + v**hill) - u) + abs(a / (1 + u**hill) - v) < 1e-8
    assert (ends[0, 0] - ends[0, 1]) * (ends[1, 0] - ends[1, 1]) < -1
    assert other.of_kind("fold") == ()


def test_the_repressilator_begins_to_oscillate_where_it_must_and_never_for_a_small_exponent():
    for hill, where in ((3.0, 3.7797631497), (4.0, 2.0)):
        branch = continuation(ring(1.0, hill), [0.7] * 3, STRENGTH, 1.0, (0.5, 10.0))
        (point,) = branch.special
        assert point.kind == "hopf"
        assert abs(point.value - where) < 1e-9
        assert abs(point.frequency - np.sqrt(3)) < 1e-9
        assert point.coefficient < 0, "a stable cycle is born"
    before = trace._cached._cache_size()
    assert continuation(ring(1.0, 2.0), [0.7] * 3, STRENGTH, 1.0, (0.5, 100.0)).special == ()
    assert trace._cached._cache_size() == before, "another model of the same kind compiles nothing"


class Whirl(eqx.Module):
    """`z' = (mu + i) z + s z |z|^2` in two coordinates: first Lyapunov coefficient 2 s for eigenvectors of length 1."""

    mu: Array
    s: Array

    def __call__(self, state):
        x, y = state
        growth = self.mu + self.s * (x**2 + y**2)
        return jnp.stack([growth * x - y, x + growth * y])


def test_the_lyapunov_coefficient_of_the_normal_form():
    flow = Whirl(jnp.asarray(-0.5), jnp.asarray(0.7))
    model = drift_field(flow, ("x", "y"), [0.0, 0.0])
    (point,) = continuation(model, [0.0, 0.0], parameter("flow/mu"), -0.5, (-1.0, 1.0)).special
    assert point.kind == "hopf"
    np.testing.assert_allclose([point.value, point.frequency, point.coefficient], [0, 1, 1.4], atol=1e-9)


def test_the_toggle_is_bistable_between_its_folds_which_meet_in_a_cusp():
    first, second = parameter("law/strength", 0), parameter("law/strength", 1)
    for a1, folds in ((10.0, (5.38301245, 33.05675177)), (5.0, (3.67901386, 8.71048988))):
        model = toggle([a1, a1])
        start = (a1 + np.sqrt(a1**2 - 4)) / 2
        branch = continuation(model, [start, 1 / start], second, a1, (0.1, 50.0))
        assert {point.kind for point in branch.special} == {"fold"}
        np.testing.assert_allclose(sorted(p.value for p in branch.special), folds, rtol=0, atol=1e-8)
    curve = fold_curve(branch, branch.special[0], first, 5.0, ((0.1, 50.0), (0.1, 50.0)))
    (cusp,) = curve.cusps
    np.testing.assert_allclose(cusp.values, [2, 2], atol=1e-7)
    np.testing.assert_allclose(cusp.state, [1, 1], atol=1e-7)
    # Every point of the curve is a fold: the Jacobian of u' = a1 / (1 + v^2) - u and its mirror is singular there.
    u, v = curve.states.T
    slopes = 4 * curve.values.prod(axis=1) * u * v / ((1 + u**2) * (1 + v**2)) ** 2
    np.testing.assert_allclose(slopes, 1, atol=1e-8)


def test_the_progenitor_appears_in_a_pitchfork_and_a_push_ends_a_fate_in_a_fold():
    model = gata1_pu1()
    branch = continuation(model, [1.0, 1.0], parameter("law/activation"), 1.0, (0.1, 2.0))
    (point,) = branch.special
    assert point.kind == "branch point"
    assert abs(point.value - 0.7744750294) < 1e-9
    pushed = continuation(model, [0.0039216026, 1.9960783974], dose(model, "drive(GATA1)=1"), 0.0, (0.0, 1.0))
    assert abs(pushed.of_kind("fold")[0].value - 0.187367) < 5e-7


def test_conserved_totals_and_holds_are_no_degrees_of_freedom():
    model = reaction_system(
        [Reaction("forth", "A -> B", 1.0), Reaction("back", "B -> A", 2.0)], time_unit="s", start={"A": 3.0}
    )
    branch = continuation(model, [2.0, 1.0], parameter("law/constant", 0), 1.0, (0.1, 8.0))
    k = branch.values
    np.testing.assert_allclose(branch.states, 3 * np.stack([2 / (2 + k), k / (2 + k)], axis=1), atol=1e-9)
    np.testing.assert_allclose(branch.eigenvalues[:, 0].real, -(k + 2), atol=1e-9)
    assert branch.special == ()
    held = system_of(gata1_pu1(), "hold(GATA1)=2")
    assert held.basis.shape == (2, 1)
    assert held.state(jnp.array([0.5])).tolist() == [2.0, 0.5]


def test_what_cannot_be_followed_is_refused():
    well = double_well()
    knob = dose(well, "drive(x)=1")
    with pytest.raises(PinnsimError, match="E_SOLVER.*no fixed point"):
        continuation(well, [np.sqrt(1 / 3)], knob, 1e6, (0.0, 2e6))
    with pytest.raises(PinnsimError, match="E_USAGE.*increasing"):
        continuation(well, [-1.0], knob, 0.0, (1.0, -1.0))
    with pytest.raises(PinnsimError, match="E_USAGE.*outside"):
        continuation(well, [-1.0], knob, 3.0, (-1.0, 1.0))
    with pytest.raises(PinnsimError, match="did you mean 'law/strength'"):
        continuation(ring(), [1.0] * 3, parameter("law/strenght"), 1.0, (0.0, 2.0))
    with pytest.raises(PinnsimError, match="E_USAGE.*2 entries"):
        continuation(toggle(), [1.0] * 2, parameter("law/strength", 2), 1.0, (0.0, 2.0))
