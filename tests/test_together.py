"""`solve_together`: values of the batch solver, gradients of the reference solver lane by lane and of closed forms,
whatever lanes differ in and whatever fails beside them."""

from functools import partial

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import CASCADE, Parabola, cascade, cascade_exact, model_of, random_perturbation, random_state, randomised

from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome, Way, solve, solve_many, solve_together, together, way_of
from pinnsim.treatment import Treatment
from pinnsim.tree import replaced

TIMES = jnp.asarray([0.0, 1.2, 2.7, 4.0])
TEXTS = ["none", "signal(s)=2@0.5:3", "hold(a)=1.5@1:2.5", "drive(a)=0.7@1:"]
PIECES = [
    [(0, 0, None)],
    [(0, 0, None), (0.5, 2, None), (3, 0, None)],
    [(0, 0, None), (1, 0, 1.5), (2.5, 0, None)],
    [(0, 0, None), (1, 0.7, None)],
]
MIXED = Perturbation.stack([Treatment.parse(text).resolve(CASCADE, 1) for text in TEXTS])
LOSSES = np.array([[0.5, 0.3], [2.0, 0.1], [0.2, 1.5], [0.7, 0.7]])
STATES = np.array([[0.4, 1.0], [1.0, 0.0], [0.0, 2.0], [0.3, 0.3]])
WEIGHTS = np.random.default_rng(0).standard_normal((4, 4, 2))
SHARP = ODE(1e-9, 1e-11)


def arguments():
    return {"loss": jnp.asarray(LOSSES)}, MIXED, jnp.asarray(STATES), cascade()


def loss(method, way, own, perturbation, states, kinetics, weights=WEIGHTS, times=TIMES):
    found = solve_together(kinetics, times, perturbation, states, method, own=own, way=way)
    return jnp.sum(jnp.asarray(weights) * found.states**2)


def exact_loss(k, losses=None, state=None, pieces=None):
    states = cascade_exact(
        cascade(loss=LOSSES[k] if losses is None else losses),
        TIMES.tolist(),
        PIECES[k] if pieces is None else pieces,
        STATES[k] if state is None else state,
    )
    return np.sum(WEIGHTS[k] * states**2)


def slope(fn, size=1e-5):
    return (fn(size) - fn(-size)) / (2 * size)


def gradient(method, way):
    return eqx.filter_jit(jax.grad(partial(loss, method, way), argnums=(0, 1, 2, 3), allow_int=True))(*arguments())


@pytest.fixture(scope="module")
def explicit():
    return gradient(SHARP, Way.EXPLICIT)


def check_against_truth(found, tolerance):
    own, perturbation, states, kinetics = found
    unit = np.eye(2)
    for k in range(4):
        for i in range(2):
            by_loss = slope(lambda e, k=k, i=i: exact_loss(k, losses=LOSSES[k] + e * unit[i]))
            by_state = slope(lambda e, k=k, i=i: exact_loss(k, state=STATES[k] + e * unit[i]))
            np.testing.assert_allclose(own["loss"][k, i], by_loss, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(states[k, i], by_state, rtol=tolerance, atol=tolerance)
    # A pulse's starts and stops, how strong it is, and the level of what is held.
    by_start = slope(lambda e: exact_loss(1, pieces=[(0, 0, None), (0.5 + e, 2, None), (3, 0, None)]))
    by_stop = slope(lambda e: exact_loss(1, pieces=[(0, 0, None), (0.5, 2, None), (3 + e, 0, None)]))
    by_signal = slope(lambda e: exact_loss(1, pieces=[(0, 0, None), (0.5, 2 + e, None), (3, 0, None)]))
    by_level = slope(lambda e: exact_loss(2, pieces=[(0, 0, None), (1, 0, 1.5 + e), (2.5, 0, None)]))
    by_hold = slope(lambda e: exact_loss(2, pieces=[(0, 0, None), (1 + e, 0, 1.5), (2.5, 0, None)]))
    got = [perturbation.start[1, 0], perturbation.stop[1, 0], perturbation.signal[1, 0, 0],
           perturbation.level[2, 0, 0], perturbation.start[2, 0]]  # fmt: skip
    np.testing.assert_allclose(got, [by_start, by_stop, by_signal, by_level, by_hold], rtol=tolerance)
    # What is shared adds up over lanes: only the signal's lane makes anything with it.
    assert abs(float(kinetics.supply) - 2 * float(by_signal)) < 10 * tolerance * abs(float(by_signal))


def test_gradients_are_those_of_the_closed_form(explicit):
    check_against_truth(explicit, 1e-6)


def test_implicit_steps_have_the_same_gradients():
    check_against_truth(gradient(ODE(1e-7, 1e-9), Way.IMPLICIT), 1e-5)


def test_what_is_not_remembered_is_walked_again(explicit, monkeypatch):
    monkeypatch.setattr(together, "REMEMBERED", 8)
    again = gradient(ODE(1e-9, 1e-11, max_steps=4095), Way.EXPLICIT)
    for a, b in zip(jax.tree.leaves(explicit), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_forward_numbers_are_those_of_the_batch_solver_and_order_and_blocks_do_not_matter(explicit):
    own, perturbation, states, kinetics = arguments()
    order = np.array([2, 0, 3, 1])
    mixed = jax.tree.map(lambda a: a[order], (own, perturbation, states))

    def value(own, perturbation, states):
        found = solve_together(kinetics, TIMES, perturbation, states, SHARP, own=own, way=Way.EXPLICIT, block=3)
        return jnp.sum(WEIGHTS[order] * found.states**2), found.states

    (_, found), back = eqx.filter_jit(jax.value_and_grad(value, has_aux=True))(*mixed)
    plain = solve_many(kinetics, TIMES, perturbation, states, SHARP, own=own)
    np.testing.assert_allclose(found, plain.states[order], rtol=1e-12)
    np.testing.assert_allclose(back["loss"], explicit[0]["loss"][order], rtol=1e-10, atol=1e-12)


def test_what_is_shared_has_the_gradients_of_all_lanes_together():
    own, _, states, kinetics = arguments()
    pulse = Treatment.parse(TEXTS[1]).resolve(CASCADE, 1)
    found = eqx.filter_jit(jax.grad(lambda pulse: loss(SHARP, Way.EXPLICIT, own, pulse, states, kinetics)))(pulse)

    def total(e, f):
        pieces = [(0, 0, None), (0.5 + e, 2 + f, None), (3, 0, None)]
        return sum(exact_loss(k, pieces=pieces) for k in range(4))

    np.testing.assert_allclose(found.start[0], slope(lambda e: total(e, 0.0)), rtol=1e-6)
    np.testing.assert_allclose(found.signal[0, 0], slope(lambda f: total(0.0, f)), rtol=1e-6)


def test_the_way_is_told_and_can_be_told():
    own, perturbation, states, kinetics = arguments()
    ask = partial(way_of, kinetics, TIMES, perturbation, states)
    assert ask(own=own) is Way.EXPLICIT
    assert ask(own={"loss": 1e5 * own["loss"]}) is Way.IMPLICIT
    assert ask(ODE(stiff=True), own=own) is Way.IMPLICIT
    assert ask(ODE(solver=dfx.Kvaerno5()), own=own) is Way.ONE_BY_ONE
    assert ask(ODE(adjoint=dfx.ForwardMode()), own=own) is Way.ONE_BY_ONE
    # Forward mode, lane by lane.
    method = ODE(1e-9, 1e-11, adjoint=dfx.ForwardMode())
    direction = {"loss": jnp.zeros((4, 2)).at[1, 0].set(1.0)}
    _, rate = jax.jvp(lambda own: loss(method, None, own, perturbation, states, kinetics), (own,), (direction,))
    by_loss = slope(lambda e: exact_loss(1, losses=LOSSES[1] + np.array([e, 0.0])))
    np.testing.assert_allclose(rate, by_loss, rtol=1e-6)


def test_a_thousand_bad_lanes_leave_the_good_ones_alone():
    """`x' = x^2 + offset` blows up at pi / (2 sqrt(offset)) from 0; others are not numbers at all."""
    bad, good = 1000, 24
    rng = np.random.default_rng(0)
    offsets = np.concatenate([rng.uniform(30.0, 3000.0, bad), -rng.uniform(0.5, 1.5, good)])
    offsets[:100] = np.nan
    states = np.zeros((bad + good, 1))
    states[100:200] = np.inf
    order = rng.permutation(bad + good)
    ok = order >= bad
    model, table = Parabola(jnp.asarray(1.0)), Parabola(jnp.asarray(1.0)).table
    method, times = ODE(1e-6, 1e-9, max_steps=300), jnp.asarray([0.0, 0.5, 1.0])

    def value(numbers, states, block=None):
        found = solve_together(model, times, Perturbation.none(table), states, method, own={"offset": numbers},
                               way=Way.EXPLICIT, doses_move=False, block=block)  # fmt: skip
        # Whatever a careless loss does with failed lanes, squares of what is not finite included.
        return jnp.sum(found.states**2), found

    compiled = eqx.filter_jit(jax.value_and_grad(value, argnums=(0, 1), has_aux=True))
    (_, found), (by_offset, by_state) = compiled(jnp.asarray(offsets[order]), jnp.asarray(states[order]))
    assert ((np.asarray(found.outcome) == Outcome.DONE) == ok).all()
    (_, alone), (alone_offset, alone_state) = compiled(jnp.asarray(offsets[order][ok]), jnp.asarray(states[order][ok]))
    # Rounding differs between batches of other sizes, and steps at 1e-6 carry it on.
    np.testing.assert_allclose(np.asarray(found.states)[ok], alone.states, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(by_offset)[ok], alone_offset, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(by_state)[ok], alone_state, rtol=1e-10)
    assert (np.asarray(by_offset)[~ok] == 0).all()
    assert (np.asarray(by_state)[~ok] == 0).all()
    assert np.isfinite(alone_offset).all()
    assert (np.asarray(alone_offset) != 0).all()
    # tanh in closed form: x' = x^2 - c^2 from 0 is -c tanh(c t).
    c = np.sqrt(-offsets[order][ok])
    np.testing.assert_allclose(alone.states[:, 2, 0], -c * np.tanh(c), rtol=1e-5)


@pytest.mark.slow
def test_gene_kinetics_under_any_perturbation_have_the_gradients_of_the_reference():
    cell = randomised(model_of(("mrna",), genes=3, unmeasured=1), seed=4)
    kinetics, times = resolve(cell.kinetics), jnp.asarray([0.0, 5.0, 20.0])
    lanes, method = 3, ODE(1e-8, 1e-10)
    perturbations = Perturbation.stack([random_perturbation(kinetics.table, k, 20.0) for k in range(lanes)])
    states = jnp.stack([random_state(kinetics, k, hidden=0.5) for k in range(lanes)])
    rng = np.random.default_rng(1)
    own = {
        "decay": jnp.asarray(np.asarray(kinetics.decay) * np.exp(0.1 * rng.standard_normal((lanes, kinetics.genes))))
    }
    weights = jnp.asarray(rng.standard_normal((lanes, 3, states.shape[1])))
    numbers, rest = eqx.partition(kinetics, eqx.is_inexact_array)

    def together_loss(numbers, own, states):
        found = solve_together(eqx.combine(numbers, rest), times, perturbations, states, method, own=own,
                               way=Way.EXPLICIT)  # fmt: skip
        return jnp.sum(weights * found.states), found.outcome

    def reference(numbers, own, states):
        model = eqx.combine(numbers, rest)
        found = jax.vmap(lambda o, p, x: solve(replaced(model, o), times, p, x, method))(own, perturbations, states)
        return jnp.sum(weights * found.states), found.outcome

    (value, outcome), ours = eqx.filter_jit(jax.value_and_grad(together_loss, (0, 1, 2), has_aux=True))(
        numbers, own, states
    )
    (other, _), theirs = eqx.filter_jit(jax.value_and_grad(reference, (0, 1, 2), has_aux=True))(numbers, own, states)
    assert (np.asarray(outcome) == Outcome.DONE).all()
    np.testing.assert_allclose(value, other, rtol=1e-6)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(theirs) if leaf.size)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * size)


def test_what_does_not_fit_is_told():
    own, perturbation, states, kinetics = arguments()
    with pytest.raises(PinnsimError, match="did you mean 'loss'"):
        jax.grad(partial(loss, SHARP, Way.EXPLICIT))({"los": own["loss"]}, perturbation, states, kinetics)
