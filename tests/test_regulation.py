"""Promoters of both forms: by hand, signs that hold, bounds, saturation, and edge rows that sum as loops do."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from systems import network_of, prior_of, random_state, randomised

from pinnsim.dynamics.regulation import HillAverage, Promoter, edge_slots, hill_average
from pinnsim.dynamics.residual import NoResidual, mlp_residual
from pinnsim.formats.gene_kinetics import formulas
from pinnsim.model import ModelConfig, RegulationConfig, build
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import FromSample, simulate


def promoter(
    source: list[int], target: list[int], genes: int, regulators: int, sign: list[float], seed: int = 0
) -> Promoter:
    rng = np.random.default_rng(seed)
    edges = len(source)
    return Promoter(
        basal=jnp.asarray(rng.normal(size=genes)),
        reference=jnp.zeros(regulators),
        strength=jnp.asarray(rng.normal(1, 1, edges)),
        sign=jnp.asarray(sign),
        affinity=jnp.asarray(rng.uniform(0.2, 3, edges)),
        hill=jnp.asarray(rng.uniform(1, 4, edges)),
        source=jnp.asarray(source, dtype=int),
        target=jnp.asarray(target, dtype=int),
        slots=jnp.asarray(edge_slots(np.asarray(target, dtype=int), genes)),
    )


def by_states(p: Promoter, regulators: np.ndarray, gene: int) -> float:
    """P(active) by the partition function: every subset of bound regulators, promoter active or not."""
    here = [e for e in range(len(p.source)) if int(p.target[e]) == gene]
    theta = [(regulators[int(p.source[e])] / float(p.affinity[e])) ** float(p.hill[e]) for e in here]
    omega = [float(jnp.exp(p.energy()[e])) for e in here]
    active = inactive = 0.0
    for bound in itertools.product([0, 1], repeat=len(here)):
        weight = np.prod([t if b else 1.0 for t, b in zip(theta, bound, strict=True)])
        inactive += weight
        active += weight * np.prod([w if b else 1.0 for w, b in zip(omega, bound, strict=True)])
    odds = np.exp(float(p.basal[gene])) * active / inactive
    return odds / (1 + odds)


def test_activity_is_the_partition_function() -> None:
    p = promoter([0, 1, 2, 0, 2], [0, 0, 0, 1, 1], 3, 3, [1.0, -1.0, 0.0, -1.0, 1.0])
    regulators = np.array([0.4, 2.0, 0.7])
    got = jax.nn.sigmoid(p.log_odds(jnp.asarray(regulators), jnp.ones(5)))
    np.testing.assert_allclose(got, [by_states(p, regulators, g) for g in range(3)], rtol=1e-12)


def test_edge_factor_scales_binding() -> None:
    p = promoter([0], [0], 1, 1, [1.0])
    doubled = p.log_odds(jnp.asarray([0.5]), jnp.asarray([2.0]))
    nearer = p.log_odds(jnp.asarray([0.5]) * 2.0 ** (1 / p.hill), jnp.ones(1))
    np.testing.assert_allclose(doubled, nearer, rtol=1e-12)
    # A site that no longer binds leaves the bare promoter.
    np.testing.assert_allclose(p.log_odds(jnp.asarray([0.5]), jnp.zeros(1)), p.basal, atol=1e-14)


@given(st.integers(0, 10_000), st.sampled_from([-1.0, 1.0]))
def test_known_signs_cannot_flip(seed: int, sign: float) -> None:
    p = promoter([0], [0], 1, 1, [sign], seed)
    levels = jnp.geomspace(1e-6, 1e6, 40)
    odds = jax.vmap(lambda x: p.log_odds(x[None], jnp.ones(1))[0])(levels)
    steps = sign * np.diff(np.asarray(odds))
    assert (steps >= -1e-12).all()
    assert steps.sum() > 0
    # Saturation: no more than the interaction energy.
    assert steps.sum() <= float(jnp.abs(p.energy()[0])) + 1e-9


def test_reference_input_is_the_basal_rate() -> None:
    p = promoter([0, 1], [0, 0], 1, 2, [1.0, -1.0])
    p = Promoter(**{**vars(p), "reference": jnp.asarray([1.0, 0.3])})
    np.testing.assert_allclose(p.log_odds(p.reference, jnp.ones(2)), p.basal, atol=1e-14)


@pytest.mark.parametrize("level", [0.0, 1e-300, 1e300])
def test_extreme_inputs_are_finite_with_finite_gradients(level: float) -> None:
    p = promoter([0, 0], [0, 1], 2, 1, [1.0, -1.0])
    value, slope = jax.value_and_grad(lambda x: jnp.sum(p.log_odds(x, jnp.ones(2))))(jnp.asarray([level]))
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(slope)).all()


@given(st.integers(1, 6), st.integers(0, 12), st.integers(0, 1000))
def test_rows_of_edges_sum_as_a_loop(genes: int, edges: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, shares = rng.integers(0, genes, edges), rng.normal(size=edges)
    slots = edge_slots(target, genes)
    rows = np.append(shares, 0.0)[slots].sum(axis=1)
    np.testing.assert_allclose(rows, [shares[target == g].sum() for g in range(genes)], atol=1e-12)
    assert sorted(slots[slots < edges].tolist()) == list(range(edges))


def test_residual_is_zero_at_the_start_and_bounded(key: jax.Array) -> None:
    fresh = resolve(mlp_residual(3, 2, 4, width=8, depth=2, gate=0.3, bound=2.0, key=key))
    regulators, signals = jnp.asarray([0.0, 1.0, 1e6]), jnp.asarray([-3.0, 3.0])
    assert fresh(regulators, signals).tolist() == [0.0] * 4
    network = jax.tree.map(lambda leaf: leaf + 100.0 if eqx.is_inexact_array(leaf) else leaf, fresh.network)
    wild = eqx.tree_at(lambda r: r.network, fresh, network)
    assert float(jnp.max(jnp.abs(wild(regulators, signals)))) <= 0.6 + 1e-12
    assert NoResidual(jnp.zeros(()), 4)(regulators, signals).tolist() == [0.0] * 4


def average(seed: int, edges: int = 9, genes: int = 4, regulators: int = 3, hill: float | None = None) -> HillAverage:
    """Random edges of all three kinds of sign; gene 3 has none."""
    rng = np.random.default_rng(seed)
    target, sign = rng.integers(0, genes - 1, edges), rng.choice([-1.0, 0.0, 1.0], edges)
    made = hill_average(
        rng.integers(0, regulators, edges),
        target,
        sign,
        genes,
        leak=rng.uniform(0, 0.3, genes),
        weight=rng.uniform(0, 1, edges) / np.bincount(target, minlength=genes)[target],
        affinity=rng.uniform(0.2, 3, edges),
        hill=rng.uniform(1, 4, edges) if hill is None else hill,
    )
    return resolve(eqx.tree_at(lambda p: p.tilt, made, jnp.asarray(rng.normal(size=made.edge.shape))))


def by_hand(p: HillAverage, regulators: np.ndarray, factor: np.ndarray) -> list[float]:
    active = []
    for gene, row in enumerate(np.asarray(p.edge)):
        total = 0.0
        for slot, edge in enumerate(row):
            if edge < factor.size:
                sign, n = float(p.sign[gene, slot]), 2.0 if p.square else float(p.hill[gene, slot])
                theta = factor[edge] * (regulators[int(p.source[gene, slot])] / float(p.affinity[gene, slot])) ** n
                rising = {1.0: 1.0, -1.0: 0.0, 0.0: 1 / (1 + np.exp(-float(p.tilt[gene, slot])))}[sign]
                h = theta / (1 + theta)
                total += float(p.weight[gene, slot]) * (rising * h + (1 - rising) * (1 - h))
        active.append(float(p.leak[gene]) + (1 - float(p.leak[gene])) * total)
    return active


@pytest.mark.parametrize("hill", [2.0, None])
def test_hill_functions_add_up(hill: float | None) -> None:
    p = average(1, hill=hill)
    assert p.square == (hill == 2.0)
    rng = np.random.default_rng(2)
    regulators, factor = np.array([0.4, 2.0, 0.7]), rng.choice([0.0, 1.0, 3.0], 9)
    got = p.activity(jnp.asarray(regulators), jnp.asarray(factor))
    np.testing.assert_allclose(got, by_hand(p, regulators, factor), rtol=1e-13)
    np.testing.assert_allclose(jax.nn.sigmoid(p.log_odds(jnp.asarray(regulators), jnp.asarray(factor))), got)


def test_a_square_is_the_power_of_two() -> None:
    p = average(5, hill=2.0)
    any_power = eqx.tree_at(lambda q: q.hill, average(5, hill=2.0 + 1e-13), jnp.full_like(p.hill, 2.0))
    assert not any_power.square
    x, one = jnp.asarray([1e-3, 1.0, 40.0]), jnp.ones(9)
    np.testing.assert_allclose(p.activity(x, one), any_power.activity(x, one), rtol=1e-12)


def test_the_shift_acts_on_the_log_odds() -> None:
    p, x, one = average(3), jnp.asarray([0.4, 2.0, 0.7]), jnp.ones(9)
    shift = jnp.asarray([0.0, -3.0, 2.0, 1.0])
    expected = jax.nn.sigmoid(p.log_odds(x, one) + shift)
    np.testing.assert_allclose(p.activity(x, one, shift), expected, rtol=1e-12)
    thermodynamic = promoter([0, 1], [0, 2], 4, 3, [1.0, -1.0])
    two = jnp.ones(2)
    expected = jax.nn.sigmoid(thermodynamic.log_odds(x, two) + shift)
    np.testing.assert_allclose(thermodynamic.activity(x, two, shift), expected)


@given(st.integers(0, 10_000), st.booleans())
def test_averages_stay_between_leak_and_one(seed: int, square: bool) -> None:
    p = average(seed, hill=2.0 if square else None)
    rng = np.random.default_rng(seed)
    x = jnp.asarray(10.0 ** rng.uniform(-30, 30, 3) * rng.choice([0.0, 1.0], 3, p=[0.2, 0.8]))
    active = np.asarray(p.activity(x, jnp.asarray(rng.choice([0.0, 1.0, 100.0], 9))))
    assert (active >= np.asarray(p.leak) * (1 - 1e-15)).all()
    assert (active <= 1 + 1e-15).all()


def test_padding_does_not_matter() -> None:
    p, x, one = average(4), jnp.asarray([0.4, 2.0, 0.7]), jnp.ones(9)
    empty = p.edge == 9
    assert bool(empty.any())
    names = ("weight", "sign", "tilt", "affinity", "hill")
    odd = [jnp.where(empty, 0.37, getattr(p, name)) for name in names]
    other = eqx.tree_at(lambda q: [getattr(q, name) for name in names], p, odd)
    np.testing.assert_array_equal(other.activity(x, one), p.activity(x, one))
    slope = eqx.filter_grad(lambda q: jnp.sum(q.activity(x, one) ** 2))(p)
    for name in names:
        assert not np.asarray(getattr(slope, name))[np.asarray(empty)].any()


@pytest.mark.parametrize("hill", [2.0, None])
@pytest.mark.parametrize("level", [0.0, 1e-300, 1e300])
def test_averages_at_extreme_inputs(level: float, hill: float | None) -> None:
    p, one = average(6, hill=hill), jnp.ones(9)
    for shift in (None, jnp.full(4, -700.0), jnp.full(4, 700.0)):
        value, slope = jax.value_and_grad(lambda x, s=shift: jnp.sum(p.activity(x, one, s)))(jnp.full(3, level))
        assert np.isfinite(float(value))
        assert np.isfinite(np.asarray(slope)).all()


def test_a_network_without_edges_is_its_leak() -> None:
    none = np.zeros(0)
    p = resolve(hill_average(none, none, none, 3, leak=0.2))
    np.testing.assert_array_equal(p.activity(jnp.zeros(0), jnp.zeros(0)), 0.2)
    assert np.isfinite(np.asarray(p.log_odds(jnp.zeros(0), jnp.zeros(0)))).all()


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("kind", ["thermodynamic", "hill", "squares"])
def test_slopes_edge_by_edge_add_up_to_the_derivative(kind: str, shifted: bool) -> None:
    p = {
        "thermodynamic": promoter([0, 1, 1, 2, 1], [0, 0, 0, 1, 1], 4, 3, [1.0, -1.0, 0.0, -1.0, 1.0]),
        "hill": average(3),
        "squares": average(3, hill=2.0),
    }[kind]
    factor = jnp.asarray(np.random.default_rng(2).choice([0.0, 1.0, 3.0], 5 if kind == "thermodynamic" else 9))
    x, shift = jnp.asarray([0.4, 2.0, 0.7]), jnp.asarray([0.0, -3.0, 2.0, 1.0]) if shifted else None
    slopes, regulator = p.slopes(x, factor, shift)
    found = np.zeros((4, 3))
    np.add.at(found, (np.arange(4)[:, None], np.asarray(regulator)), np.asarray(slopes))
    np.testing.assert_allclose(found, jax.jacfwd(lambda y: p.activity(y, factor, shift))(x), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["thermodynamic", "hill"])
def test_long_rows_are_looped_over(kind: str) -> None:
    """As many edges on one gene as are not written out: the same sum."""
    edges = 75
    rng = np.random.default_rng(8)
    source, sign = list(range(edges)), list(rng.choice([-1.0, 1.0], edges))
    x, one = jnp.asarray(rng.uniform(0, 3, edges)), jnp.ones(edges)
    if kind == "hill":
        p = resolve(hill_average(np.array(source), np.zeros(edges, int), np.array(sign), 1, hill=1.5))
        np.testing.assert_allclose(p.activity(x, one), by_hand(p, np.asarray(x), np.ones(edges)), rtol=1e-12)
        slope = jax.grad(lambda y: p.activity(y, one)[0])(x)
    else:
        p = promoter(source, [0] * edges, 1, edges, sign)
        parts = [promoter([k], [0], 1, edges, [sign[k]]) for k in range(edges)]
        for k, part in enumerate(parts):
            kept = {name: getattr(p, name)[k : k + 1] for name in ("strength", "affinity", "hill")}
            parts[k] = Promoter(**{**vars(part), **kept, "basal": jnp.zeros(1)})
        total = sum(float(part.log_odds(x, jnp.ones(1))[0]) for part in parts)
        np.testing.assert_allclose(p.log_odds(x, one)[0], p.basal[0] + total, rtol=1e-12)
        slope = jax.grad(lambda y: p.log_odds(y, one)[0])(x)
    assert (np.sign(np.asarray(slope)) == np.asarray(sign)).all()


def test_second_derivatives_where_input_and_affinity_are_equal() -> None:
    """The weight is exactly one there: the place where formulas with a case for each side go wrong."""
    p = promoter([0], [0], 1, 1, [1.0])
    p = Promoter(**{**vars(p), "affinity": jnp.ones(1), "hill": jnp.ones(1)})
    slope = jax.grad(lambda x: p.log_odds(x[None], jnp.ones(1))[0])
    omega = float(jnp.exp(p.energy()[0]))
    np.testing.assert_allclose(slope(jnp.asarray(1.0)), omega / (1 + omega) - 0.5, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(slope)(jnp.asarray(1.0)), 0.25 - (omega / (1 + omega)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("learn_hill", [False, True])
def test_a_model_with_averaged_hill_functions(learn_hill: bool) -> None:
    """Built from its configuration: a proper prior, weights within their bounds for any parameters, and a course."""
    network = network_of(3, 1)
    config = ModelConfig(regulation=RegulationConfig(kind="hill", hill=2.0, learn_hill=learn_hill, own_inputs=True))
    prior = build(config, network, prior_of(network))
    p, spread = prior.center.kinetics.promoter, prior.spread.kinetics.promoter
    assert isinstance(p, HillAverage)
    assert p.square != learn_hill
    empty = np.asarray(p.edge) == len(network.edges)
    assert empty.any()
    for name in ("weight", "affinity"):
        sds = np.asarray(getattr(spread, name).raw)
        assert not sds[empty].any()
        assert (sds[~empty] > 0).all()
    unknown = np.asarray(p.sign.raw) == 0
    assert (np.asarray(spread.tilt) > 0).tolist() == unknown.tolist()
    for seed in range(3):
        cell = resolve(randomised(prior.center, seed, scale=3.0))
        weight = np.where(empty, 0.0, np.asarray(cell.kinetics.promoter.weight))
        assert (weight >= 0).all()
        assert (weight.sum(axis=1) <= 1.0 + 1e-12).all()
        edits = Perturbation.none(cell.table).at(jnp.zeros(()))
        state = random_state(cell.kinetics, seed)
        active = cell.kinetics.promoter_activity(state, edits)
        np.testing.assert_allclose(jax.nn.sigmoid(cell.kinetics.promoter_log_odds(state, edits)), active, rtol=1e-9)
    sample = FromSample(np.array([0.6, 0.2, 0.4]))
    course = simulate(prior.center, [0.0, 5.0, 20.0], ["none", "g0=0@5:"], initial=sample).raise_failures()
    # It starts at rest as the sample shows it; what genes' own inputs explain of it fades later.
    np.testing.assert_allclose(course.states[0, 0, :3], [0.6, 0.2, 0.4], rtol=1e-9)
    moving = resolve(prior.center).kinetics.vector_field(
        jnp.zeros(()), course.states[0, 0], Perturbation.none(prior.center.table)
    )
    assert np.abs(np.asarray(moving)[:3]).max() < 1e-12
    assert float(course.states[1, 2, 0]) < 0.3 * float(course.states[0, 2, 0])
    assert "leak" in formulas(config)["promoter"]


@pytest.mark.parametrize("kind", ["thermodynamic", "hill"])
def test_a_soft_sign_is_as_probable_as_its_edge_is_sure(kind: str) -> None:
    """P(sign) under the prior is the confidence, between 0.55 and 0.99; the centre has the sign; unknown ones stay
    centred at 0."""
    network = network_of(3, 1)
    sure = np.resize([0.6, 0.9, 1.0, 0.2], len(network.edges))
    network = eqx.tree_at(lambda n: n.confidence, network, sure)
    sections = {"kind": kind, "hill": 2.0}
    hard, soft = (
        build(ModelConfig(regulation=RegulationConfig(**sections, signs=signs)), network, prior_of(network))
        for signs in ("hard", "soft")
    )
    p, spread = soft.center.kinetics.promoter, soft.spread.kinetics.promoter
    assert not np.asarray(p.sign.raw).any() or kind == "hill"
    if kind == "hill":
        listed = np.asarray(p.edge) < len(network.edges)
        edge = np.asarray(p.edge)[listed]
        center, sd = (np.asarray(tree.tilt)[listed] for tree in (p, spread))
    else:
        edge = np.arange(len(network.edges))
        center, sd = np.asarray(p.strength), np.asarray(spread.strength)
        # Surer edges are stronger, and as strong as with hard signs.
        np.testing.assert_allclose(np.abs(resolve(p).energy()), np.where(network.sign == 0, 0.0, 2.5 * sure), rtol=1e-9)
        np.testing.assert_allclose(resolve(p).energy(), resolve(hard.center.kinetics.promoter).energy(), rtol=1e-9)
    sign = np.asarray(network.sign)[edge]
    assert (np.sign(center) == sign).all()
    known = sign != 0
    probable = scipy.special.ndtr(np.abs(center) / sd)[known]
    np.testing.assert_allclose(probable, np.clip(sure[edge][known], 0.55, 0.99), rtol=1e-9)
