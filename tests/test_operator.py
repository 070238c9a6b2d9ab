"""Operators: physics holds for any weights, answers agree with closed forms and solvers, certificates hold."""

import sys

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from pinnsim.benchmark import kinetics_of, workload
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.reactions import ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.fit.fit import run_stage_safely
from pinnsim.operator import (
    Domain,
    Grid,
    Operator,
    OperatorConfig,
    OperatorPlan,
    build_operator,
    calibrate,
    certify,
    conformal_quantile,
    declare,
    gene_kinds,
    graded,
    load_operator,
    predict,
    predict_many,
    save_operator,
    train,
    trajectory_error,
)
from pinnsim.operator.chain import Line, course_of, steps_of
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, FromState, simulate, solve_certified, solve_many
from pinnsim.simulate.solve import solve
from pinnsim.tree import named_leaves, replaced, stack

RATES = ("synthesis", "splicing", "decay", "translation", "protein_decay")
HORIZON = 8.0
CONFIG = OperatorConfig(horizon=HORIZON, levels=(0, 0, 1, 1), sweeps=1, width=4, modes=2, fastest=6.0)


@pytest.fixture(scope="module")
def kinetics() -> GeneKinetics:
    return jax.tree.map(jnp.asarray, kinetics_of(workload(3, 2, 2)))


@pytest.fixture(scope="module")
def domain(kinetics: GeneKinetics) -> Domain:
    middle = np.asarray(kinetics.default_state())
    return declare(
        kinetics, HORIZON, factor=1.5, rates=RATES, states=(0.5 * middle, 2 * middle), kinds=gene_kinds(kinetics),
        pulses=True,
    )  # fmt: skip


def moved(operator, seed: int, size: float):
    """The operator with every weight random."""
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        learned = eqx.is_inexact_array(leaf) and any(getattr(p, "name", "") in ("guess", "correctors") for p in path)
        return jnp.asarray(size * rng.standard_normal(leaf.shape)) if learned else leaf

    return jax.tree_util.tree_map_with_path(one, operator)


def test_steps_are_matrix_exponentials() -> None:
    """Of a line of three layers, two of which decay equally fast, fed a quadratic production."""
    loss, gain, supply, h = np.array([0.9, 0.4, 0.4]), np.array([0.0, 0.7, 1.3]), np.array([0.0, 0.2, 0.1]), 0.8
    line = Line(*(tuple(jnp.asarray([v]) for v in row) for row in (loss, gain, supply)), jnp.ones(1))
    grid = Grid((0, 0, 1))
    begin, ends, bends = np.array([0.3, 2.0, 0.5]), np.array([0.2, 0.9, 0.4, 0.6]), np.array([0.1, -0.05, 0.2])
    found = course_of(
        steps_of(line, jnp.asarray(h), 2, 4), grid.levels, tuple(jnp.asarray(begin)[:, None]),
        jnp.asarray(ends)[:, None], jnp.asarray(bends)[:, None],
    )  # fmt: skip
    # The production and its two derivatives are states too: z' = M z, exactly.
    matrix = np.zeros((7, 7))
    matrix[:3, :3] = np.diag(-loss) + np.diag(gain[1:], -1)
    matrix[:3, 6], matrix[0, 3], matrix[3, 4], matrix[4, 5] = supply, 1.0, 1.0, 1.0
    x = begin
    for k, width in enumerate((h, h, 2 * h)):
        slope, curve = (ends[k + 1] - ends[k]) / width + 4 * bends[k] / width, -8 * bends[k] / width**2
        x = (scipy.linalg.expm(matrix * width) @ np.array([*x, ends[k], slope, curve, 1.0]))[:3]
        np.testing.assert_allclose(found[k + 1], x, rtol=2e-7)


def test_a_gene_without_regulators_is_exact(kinetics: GeneKinetics) -> None:
    """Birth and death in closed form, at any time: where edges weigh nothing, nothing regulates."""
    free = eqx.tree_at(lambda k: k.promoter.weight, kinetics, jnp.zeros_like(kinetics.promoter.weight))
    operator = build_operator(CONFIG, free)
    state, times = jnp.arange(1.0, 10.0), jnp.asarray([0.0, 0.37, 2.9, 5.0, 8.0])
    found = eqx.filter_jit(predict)(operator, free, times, Perturbation.none(free.table), state).states
    made, lost = np.asarray(free.synthesis * free.promoter.leak), np.asarray(free.splicing)
    exact = made / lost + (np.asarray(state[:3]) - made / lost) * np.exp(-np.outer(times, lost))
    np.testing.assert_allclose(found[:, :3], exact, rtol=1e-5)


@hypothesis.settings(max_examples=6)
@hypothesis.given(st.integers(0, 10**6), st.floats(0.1, 30.0))
def test_bounds_hold_for_any_weights(kinetics: GeneKinetics, domain: Domain, seed: int, size: float) -> None:
    operator = moved(build_operator(CONFIG.model_copy(update={"corrected": True}), kinetics), seed, size)
    draws = domain.sample(jax.random.key(seed), 4)
    times = operator.nodes * HORIZON
    states, _ = predict_many(operator, kinetics, times, draws)
    np.testing.assert_array_equal(states[:, 0], draws.states)
    assert np.isfinite(states).all()
    assert (np.asarray(states) >= 0).all()
    # Unspliced RNA of lanes whose edits do not touch it: between decay alone and full synthesis.
    still = np.asarray(draws.kind) == 10
    lost, made = np.asarray(draws.own["splicing"]), np.asarray(draws.own["synthesis"])
    kept = np.asarray(draws.states)[:, None, :3] * np.exp(-lost[:, None] * times[None, :, None])
    most = kept + (made / lost)[:, None] * -np.expm1(-lost[:, None] * times[None, :, None])
    found = np.asarray(states)[..., :3]
    assert (found[still] >= kept[still] * (1 - 1e-5)).all()
    assert (found[still] <= most[still] * (1 + 1e-5)).all()


def test_switches_are_marched_through(kinetics: GeneKinetics, domain: Domain) -> None:
    """Untrained, physics alone is near the solver under pulses of ten kinds."""
    draws = domain.sample(jax.random.key(3), 24)
    times = np.linspace(0.0, HORIZON, 5)
    exact = solve_many(kinetics, times, draws.perturbation, draws.states, ODE(1e-8, 1e-11), own=draws.own).states
    fine = CONFIG.model_copy(update={"sweeps": 4, "levels": (0, 0, 0, 1, 1), "windows": 3})
    operator = build_operator(fine, kinetics)
    states, doubts = predict_many(operator, kinetics, times, draws)
    error = np.asarray(trajectory_error(states, exact, resolve(operator).floor))
    assert np.median(error) < 0.002
    assert error.max() < 0.2
    assert np.isfinite(doubts).all()


@pytest.fixture(scope="module")
def binding() -> ReactionSystem:
    reactions = [
        Reaction("bind", "A + B -> C", 0.4),
        Reaction("free", "C -> A + B", 0.2),
        Reaction("turn", "C -> A + D", 0.3),
    ]
    return reaction_system(reactions, time_unit="min", start={"A": 1.0, "B": 2.0, "C": 0.1, "D": 0.0})


def test_reactions_conserve_for_any_weights_and_solve_without(binding: ReactionSystem) -> None:
    config = OperatorConfig(kind="reactions", horizon=4.0, levels=(0, 0, 0), windows=8, sweeps=4, width=4)
    plain, none = build_operator(config, binding), Perturbation.none(binding.table)
    times, state = jnp.linspace(0.0, 4.0, 6), binding.default_state()
    ask = eqx.filter_jit(lambda operator: predict(operator, binding, times, none, state).states)
    for seed, size in ((0, 0.3), (1, 5.0), (2, 50.0)):
        wild = np.asarray(ask(moved(plain, seed, size)))
        assert (wild >= 0).all()
        np.testing.assert_array_equal(wild[0], state)
        np.testing.assert_allclose(wild[:, 0] + wild[:, 2], 1.1, rtol=1e-12)
        np.testing.assert_allclose(wild[:, 1:].sum(axis=1), 2.1, rtol=1e-12)
    np.testing.assert_allclose(
        ask(plain), solve(binding, times, none, state, ODE(1e-9, 1e-12)).states, rtol=3e-3, atol=1e-4
    )


def test_conformal_bounds_cover_what_they_say() -> None:
    """On synthetic doubts: 90 % of fresh errors are below, for a good and for a useless doubt."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        doubts = np.exp(rng.normal(size=(count, 2)))
        return doubts, 0.1 * doubts[:, 0] ** 0.7 * np.exp(0.5 * rng.normal(size=count))

    certificate = resolve(calibrate(*drawn(4000), level=0.9))
    doubts, errors = drawn(4000)
    bound = np.asarray(jax.vmap(certificate.bound)(jnp.asarray(doubts)))
    assert abs(np.mean(errors <= bound) - 0.9) < 0.03
    np.testing.assert_allclose(certificate.weights[1:], [0.7, 0.0], atol=0.03)
    # Ranks: the k-th of n numbers is exceeded by the next with probability 1 - k / (n + 1), exactly.
    assert conformal_quantile(np.arange(1.0, 20.0), 0.9) == 18.0
    assert conformal_quantile(np.arange(1.0, 6.0), 0.9) == np.inf
    with pytest.raises(PinnsimError, match="draw more"):
        calibrate(*drawn(10), level=0.9)


@pytest.fixture(scope="module")
def certified(kinetics: GeneKinetics, domain: Domain):
    return certify(build_operator(CONFIG, kinetics), domain, jax.random.key(5), lanes=100, chunk=100, progress=False)


def test_what_is_not_certified_is_solved(kinetics: GeneKinetics, domain: Domain, certified) -> None:
    draws, times = domain.sample(jax.random.key(8), 32), np.asarray([0.0, 3.0, HORIZON])
    args = (kinetics, times, draws.perturbation, draws.states)
    middle = jnp.median(Operator(certified).answer(*args, draws.own).bound)
    method = Operator(certified, fallback=ODE(1e-8, 1e-11), tolerance=middle)
    found, told = solve_certified(method, *args, own=draws.own)
    assert np.asarray(told.in_domain).all()
    assert 0.4 < told.fallback < 0.6
    exact = solve_many(*args, ODE(1e-8, 1e-11), own=draws.own)
    again = ~np.asarray(told.certified)
    np.testing.assert_allclose(np.asarray(found.states)[again], np.asarray(exact.states)[again], rtol=1e-12)
    error = np.asarray(trajectory_error(found.states, exact.states, resolve(certified.operator).floor))
    assert np.mean(error <= np.asarray(told.bound)) > 0.8
    # Outside, nothing is certified: ten times the rates, a longer time, other amounts, an edit of no declared strength.
    fast = {**draws.own, "decay": 10.0 * draws.own["decay"]}
    wild = eqx.tree_at(
        lambda p: p.edge_factor, draws.perturbation, draws.perturbation.edge_factor.at[:, 0, 1].set(50.0)
    )
    outside = (
        (times, draws.perturbation, draws.states, fast),
        (np.asarray([0.0, 3.0, 1.5 * HORIZON]), draws.perturbation, draws.states, draws.own),
        (times, draws.perturbation, 10.0 * draws.states, draws.own),
        (times, wild, draws.states, draws.own),
    )
    for moments, acting, states, own in outside:
        answer = method.answer(kinetics, moments, acting, states, own)
        assert not np.asarray(answer.in_domain)[np.asarray(draws.kind) < 10].any()


def test_simulate_takes_an_operator(kinetics: GeneKinetics, certified) -> None:
    start = FromState(kinetics.default_state())
    treatments = ["none", "g1*0.5", "g1*0.5@2:5", "g0*0.5, g1*0.5"]
    found = simulate(
        kinetics, [0.0, 4.0, HORIZON], treatments, initial=start, method=Operator(certified, tolerance=np.inf)
    )
    assert np.asarray(found.done).all()
    # Two edits at once were not declared.
    assert np.asarray(found.certificate.certified).tolist() == [True, True, True, False]
    exact = simulate(kinetics, [0.0, 4.0, HORIZON], treatments, initial=start)
    np.testing.assert_allclose(found.states, exact.states, rtol=0.15)
    np.testing.assert_allclose(found.states[3], exact.states[3], rtol=1e-12)


def test_gradients_are_finite_differences_and_the_solvers(kinetics: GeneKinetics) -> None:
    """By a dose (strength of a knock-down) and by a rate."""
    fine = build_operator(CONFIG.model_copy(update={"sweeps": 2, "levels": (0, 0, 0, 1, 1, 1)}), kinetics)
    state, times, h = kinetics.default_state(), jnp.asarray([0.0, HORIZON]), 1e-4
    none = eqx.tree_at(
        lambda p: (p.start, p.stop), Perturbation.none(kinetics.table), (jnp.full(1, -jnp.inf), jnp.full(1, jnp.inf))
    )

    def knocked(dose):
        return eqx.tree_at(lambda p: p.factor, none, none.factor.at[0, 1].set(dose))

    def last(at):
        mine = eqx.tree_at(lambda k: k.protein_decay, kinetics, at[1] * kinetics.protein_decay)
        return jnp.sum(jnp.log(predict(fine, mine, times, knocked(at[0]), state, times).states[-1]))

    at = jnp.asarray([0.4, 1.1])
    around = at[None] + h * jnp.asarray([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    value, slope = eqx.filter_jit(lambda at, around: (jax.vmap(last)(around), jax.grad(last)(at)))(at, around)
    np.testing.assert_allclose(slope, (value[::2] - value[1::2]) / (2 * h), rtol=1e-5)
    acting = stack([knocked(dose) for dose in around[:, 0]])
    own = {"protein_decay": around[:, 1:] * kinetics.protein_decay[None]}
    states = solve_many(kinetics, times, acting, jnp.stack([state] * 4), ODE(1e-10, 1e-12), own=own).states[:, -1]
    exact = jnp.sum(jnp.log(states), axis=1)
    np.testing.assert_allclose(slope, (exact[::2] - exact[1::2]) / (2 * h), rtol=0.05)


def test_training_lowers_the_residual_resumes_and_is_kept(kinetics, domain, certified, tmp_path, monkeypatch) -> None:
    plan = OperatorPlan(steps=30, batch=8, learning_rate=3e-3, data=0.5, conservation=1.0, seed=2)
    operator = certified.operator
    whole = train(operator, domain, plan, progress=False)
    calls = []

    def stopped(*args, **kwargs):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return saved(*args, **kwargs)

    loop = sys.modules[run_stage_safely.__module__]
    saved = loop.save_tree
    monkeypatch.setattr(loop, "save_tree", stopped)
    assert train(operator, domain, plan, checkpoint=tmp_path / "c", progress=False).interrupted
    monkeypatch.setattr(loop, "save_tree", saved)
    resumed = train(operator, domain, plan, checkpoint=tmp_path / "c", progress=False)
    ours, theirs = named_leaves(resumed.operator), named_leaves(whole.operator)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert any(not np.array_equal(value, named_leaves(operator)[name]) for name, value in theirs.items())
    kept = eqx.tree_at(lambda c: c.operator, certified, whole.operator)
    save_operator(tmp_path / "operator.safetensors", kept, CONFIG)
    back, config = load_operator(tmp_path / "operator.safetensors", kinetics)
    assert config == CONFIG
    assert jax.tree.structure(back) == jax.tree.structure(kept)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(kept), strict=True))
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL"):
        load_operator(tmp_path / "operator.safetensors", replaced(kinetics, {"decay": 2.0 * kinetics.decay}))


def test_what_cannot_be_is_refused(kinetics: GeneKinetics, binding: ReactionSystem) -> None:
    with pytest.raises(PinnsimError) as refused:
        declare(kinetics, -1.0, rates=["sinthesis"], states=(0.0, 1.0))
    assert len(refused.value.problems) == 3
    with pytest.raises(PinnsimError, match="use 'reactions'"):
        build_operator(OperatorConfig(horizon=1.0), binding)
    assert graded(2).nodes.tolist() == [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0]
