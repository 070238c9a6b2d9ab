"""Steady states: closed-form attractors, certificates that ghosts, cycles and NaN do not get, exact derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import Parabola, cascade, model_of, randomised, ring, toggle

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.motifs import telegraph
from pinnsim.dynamics.reactions import Reaction, ReactionSystem, reaction_system
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import Outcome, steady_state
from pinnsim.treatment import Treatment

settle = eqx.filter_jit(steady_state)
NOW = jnp.zeros(())
HIGH, LOW = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)


def jacobian(k: GeneKinetics, state: jax.Array) -> np.ndarray:
    return np.asarray(jax.jacfwd(lambda x: k.vector_field(NOW, x, Perturbation.none(k.table)))(state))


@pytest.mark.parametrize("guess", [(8.0, 1.0), (1.0, 8.0), (3.0, 1.0), (0.0, 0.1), (30.0, 0.0)])
def test_attractors_of_the_toggle(guess: tuple[float, float]) -> None:
    k = toggle(10.0, 2.0)
    got = settle(k, Perturbation.none(k.table), jnp.asarray(guess))
    wanted = [HIGH, LOW] if guess[0] > guess[1] else [LOW, HIGH]
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.state, wanted, atol=1e-8)
    rates = np.sort(np.linalg.eigvals(jacobian(k, got.state)).real)
    np.testing.assert_allclose(rates, [-1.2, -0.8], atol=1e-8)


def test_saddle_of_the_toggle() -> None:
    k = toggle(10.0, 2.0)
    got = settle(k, Perturbation.none(k.table), jnp.asarray([1.9, 1.9]))
    np.testing.assert_allclose(got.state, [2.0, 2.0], atol=1e-8)
    rates = np.sort(np.linalg.eigvals(jacobian(k, got.state)).real)
    np.testing.assert_allclose(rates, [-2.6, 0.6], atol=1e-8)


def test_a_cycle_is_not_a_steady_state() -> None:
    """Off its fixed point the repressilator cycles for ever: either nothing is certified, or the point is the fixed
    point itself, which the implicit steps may reach although it is unstable."""
    k = ring(("a", "b", "c"), 10.0, 3.0)
    got = settle(k, Perturbation.none(k.table), jnp.asarray([1.0, 2.0, 3.0]))
    if int(got.outcome) == Outcome.DONE:
        x = np.asarray(got.state)
        np.testing.assert_allclose(x, 10 / (1 + np.roll(x, 1) ** 3), atol=1e-8)
        assert np.linalg.eigvals(jacobian(k, got.state)).real.max() > 0
    else:
        assert np.isnan(np.asarray(got.state)).all()


@pytest.mark.parametrize("guess", [-1.0, -0.3, 0.0, 2.0])
def test_a_ghost_is_not_a_steady_state(guess: float) -> None:
    ghost = Parabola(jnp.asarray(0.1))
    got = settle(ghost, Perturbation.none(ghost.table), jnp.full(1, guess))
    assert int(got.outcome) == Outcome.NOT_SETTLED
    assert np.isnan(np.asarray(got.state)).all()
    real = Parabola(jnp.asarray(-0.1))
    got = settle(real, Perturbation.none(real.table), jnp.full(1, -1.0))
    np.testing.assert_allclose(got.state, [-np.sqrt(0.1)], atol=1e-12)


@pytest.mark.parametrize("steps", [4, 8, 12, 16])
def test_near_is_not_settled(steps: int) -> None:
    """A search that is cut short is either exact or not settled, never something in between."""
    k = toggle()
    for guess in ((8.0, 1.0), (2.3, 1.9), (60.0, 20.0)):
        got = settle(k, Perturbation.none(k.table), jnp.asarray(guess), max_steps=steps)
        if int(got.outcome) == Outcome.DONE:
            np.testing.assert_allclose(got.state, [HIGH, LOW], atol=1e-9)
        else:
            assert np.isnan(np.asarray(got.state)).all()


def test_nan_is_never_done() -> None:
    k = toggle()
    none = Perturbation.none(k.table)
    broken = eqx.tree_at(lambda q: q.synthesis, k, k.synthesis.at[0].set(jnp.nan))
    dosed = eqx.tree_at(lambda q: (q.factor, q.start), none, (jnp.full((1, 4), jnp.nan), jnp.full(1, -jnp.inf)))
    for kinetics, p, guess in (
        (k, none, jnp.asarray([jnp.nan, 1.0])),
        (k, none, jnp.asarray([jnp.inf, 1.0])),
        (broken, none, jnp.ones(2)),
        (k, dosed, jnp.ones(2)),
    ):
        got = settle(kinetics, p, guess)
        assert int(got.outcome) == Outcome.NOT_SETTLED
        assert np.isnan(np.asarray(got.state)).all()


def test_phases_that_act_at_the_asked_time() -> None:
    k = cascade(1.0, (0.5, 0.25))
    p = Treatment.parse("signal(s)=2@:10, signal(s)=6@5:").resolve(k.table)
    for time, supply in ((-np.inf, 2.0), (7.0, 8.0), (np.inf, 6.0)):
        got = settle(k, p, None, jnp.asarray(time))
        np.testing.assert_allclose(got.state, [2 * supply, 8 * supply], rtol=1e-12)


def test_held_and_switched_off_species() -> None:
    """A held species stays at its level; one that is neither made nor lost stays where it was, and nothing is NaN."""
    k = toggle()
    held = settle(k, Treatment.parse("hold(u)=3").resolve(k.table), jnp.ones(2))
    np.testing.assert_allclose(held.state, [3.0, 10 / (1 + 9)], rtol=1e-10)
    frozen = settle(k, Treatment.parse("u=0, decay(u)*0").resolve(k.table), jnp.asarray([2.0, 1.0]))
    assert int(frozen.outcome) == Outcome.DONE
    np.testing.assert_allclose(frozen.state, [2.0, 2.0], rtol=1e-10)
    filling = settle(k, Treatment.parse("decay(u)*0").resolve(k.table), jnp.ones(2))
    assert int(filling.outcome) == Outcome.NOT_SETTLED or float(filling.state[0]) > 1e6


def test_the_derivative_is_whole_where_a_species_is_just_absent() -> None:
    k = toggle()
    out = Treatment.parse("u=0, drive(u)=0").resolve(k.table)
    slope = jax.grad(lambda rate: steady_state(k, eqx.tree_at(lambda p: p.drive, out, out.drive + rate)).state[0])(0.0)
    assert float(slope) == pytest.approx(1.0)


@pytest.mark.parametrize("speed", [1e-4, 1.0, 60.0, 1e5])
def test_the_unit_of_time_does_not_matter(speed: float) -> None:
    k = toggle()
    fast = eqx.tree_at(lambda q: (q.synthesis, q.decay), k, (speed * k.synthesis, speed * k.decay))
    got = settle(fast, Perturbation.none(k.table), jnp.asarray([3.0, 1.0]))
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.state, [HIGH, LOW], rtol=1e-11)


@pytest.fixture(scope="module")
def template():
    return model_of(("unspliced", "spliced", "protein"), genes=3, unmeasured=1, own_inputs=True, residual="mlp")


def test_random_networks_settle(template) -> None:
    """Nearly all do (some cycle); what is certified is at rest, and is where the flow goes."""
    done = 0
    for seed in range(20):
        k = resolve(randomised(template, seed, weights=1.0).kinetics)
        p = Treatment.parse("g0*3, signal(food)=1").resolve(k.table)
        got = settle(k, p)
        if int(got.outcome) == Outcome.DONE:
            done += 1
            force = k.vector_field(NOW, got.state, p)
            np.testing.assert_allclose(force, 0.0, atol=1e-11 * (1 + float(jnp.max(jnp.abs(got.state)))))
    assert done >= 18


def test_gradients_are_those_of_central_differences(template) -> None:
    model = randomised(template, 3, scale=0.4, weights=1.0)
    p = Treatment.parse("g0*3, signal(food)=1, drive(g1)=0.2, hold(g2)=0.7").resolve(model.table)
    params, static = eqx.partition(model.kinetics, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    count = len(model.table.species)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=count))

    @jax.jit
    def total(values: jax.Array) -> jax.Array:
        return weights @ steady_state(eqx.combine(unravel(values), static), p).state

    slope = np.asarray(jax.jit(jax.grad(total))(flat))
    moving = np.flatnonzero(slope)
    assert moving.size > 50
    h, directions = 1e-4, jnp.eye(flat.size)[moving]
    moved = jax.jit(lambda step: jax.lax.map(lambda d: total(flat + step * d), directions))
    central = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    error = np.abs(np.asarray(central) - slope[moving]).max() / np.abs(slope).max()
    assert error < 1e-6


def cycle() -> ReactionSystem:
    return reaction_system(
        [Reaction("there", "A -> B", 0.7), Reaction("back", "B -> A", 0.3)], time_unit="h", start={"A": 2.0}
    )


def enzyme(on: float = 1e3) -> ReactionSystem:
    """Fast and slow rates over six decades; totals E + ES and S + ES + P."""
    return reaction_system(
        [
            Reaction("on", "E + S -> ES", on),
            Reaction("off", "ES -> E + S", 1.0),
            Reaction("make", "ES -> E + P", 10.0),
            Reaction("back", "P -> S", 1e-3),
        ],
        time_unit="s",
        start={"E": 1e-3, "S": 5.0},
    )


@pytest.mark.parametrize("begin", [(2.0, 0.0), (0.0, 2.0), (0.0, 0.0), (1e6, 1.0)])
def test_a_closed_cycle_rests_with_the_totals_of_its_guess(begin) -> None:
    k = cycle()
    got = settle(k, Perturbation.none(k.table), jnp.asarray(begin))
    assert int(got.outcome) == Outcome.DONE
    np.testing.assert_allclose(got.state, np.array([0.3, 0.7]) * sum(begin), rtol=1e-12)


def test_an_enzyme_at_rest_in_closed_form() -> None:
    """At rest make = back: P = 1e4 ES; S = 11 ES / (1e3 E): a quadratic in ES, from the two totals."""
    k = enzyme()
    got = settle(k, Perturbation.none(k.table))
    assert int(got.outcome) == Outcome.DONE
    e, s, es, p = got.state
    b = 10001.0 * 1e-3 + 5.0 + 0.011
    root = (b - np.sqrt(b * b - 4 * 10001.0 * 1e-3 * 5.0)) / (2 * 10001.0)
    np.testing.assert_allclose([es, p, e, s], [root, 1e4 * root, 1e-3 - root, 5.0 - 10001.0 * root], rtol=1e-9)
    np.testing.assert_allclose([e + es, s + es + p], [1e-3, 5.0], rtol=1e-15, atol=1e-14)


def test_switches_make_and_end_totals() -> None:
    k = enzyme()
    stopped = settle(k, Treatment.parse("reaction(back)*0").resolve(k.table))
    np.testing.assert_allclose(stopped.state, [1e-3, 0.0, 0.0, 5.0], atol=1e-9)
    # A held substrate is exchanged with the outside: of both totals that of the enzyme is left.
    held = settle(k, Treatment.parse("hold(S)=2").resolve(k.table))
    bound = 1e-3 / (1.0 + 11.0 / 2e3)
    np.testing.assert_allclose(held.state, [1e-3 - bound, 2.0, bound, 1e4 * bound], rtol=1e-9)
    # What is added and never lost piles up.
    c = cycle()
    fed = Perturbation.none(c.table)
    fed = eqx.tree_at(lambda p: (p.drive, p.start), fed, (jnp.asarray([[1.0, 0.0]]), jnp.full(1, -jnp.inf)))
    assert int(settle(c, fed).outcome) == Outcome.NOT_SETTLED


def test_promoters_at_rest_and_the_derivative_by_their_number() -> None:
    k = telegraph(2, on=0.05, off=0.1)
    got = settle(k, Perturbation.none(k.table))
    np.testing.assert_allclose(got.state, np.repeat([2 / 3, 1 / 3, 10 / 3, 500 / 3], 2), rtol=1e-10)

    def proteins(copies: jax.Array) -> jax.Array:
        return steady_state(k, Perturbation.none(k.table), jnp.zeros(8).at[0].set(copies)).state[6]

    assert float(jax.jit(jax.grad(proteins))(jnp.asarray(1.0))) == pytest.approx(500 / 3, rel=1e-9)

    def by_rate(rate: jax.Array) -> jax.Array:
        changed = eqx.tree_at(lambda q: q.law.constant, k, k.law.constant.at[0].set(rate))
        return steady_state(changed, Perturbation.none(k.table)).state[6]

    # 500 on / (on + off): the derivative is 500 off / (on + off)^2.
    assert float(jax.jit(jax.grad(by_rate))(jnp.asarray(0.05))) == pytest.approx(500 * 0.1 / 0.15**2, rel=1e-8)


def test_totals_in_single_precision() -> None:
    with jax.enable_x64(False):
        k = cycle()
        got = settle(k, Perturbation.none(k.table), jnp.asarray([2.0, 1.0]))
        assert got.state.dtype == jnp.float32
        assert int(got.outcome) == Outcome.DONE
        np.testing.assert_allclose(got.state, [0.9, 2.1], rtol=1e-5)
