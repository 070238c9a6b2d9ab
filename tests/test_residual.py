"""Learned corrections of promoters: nothing at the start, bounded, and attention only ever along listed edges.

The oracle of attention is its own formula, gene by gene and head by head in numpy.
"""

import dataclasses
import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from problems import TIMES, dataset_of, prior_model
from systems import model_of, network_of, prior_of, random_state, randomised

from pinnsim.dynamics.attention import AttentionResidual, attention_residual
from pinnsim.dynamics.residual import low_rank_residual, mlp_residual
from pinnsim.errors import PinnsimError, PinnsimWarning
from pinnsim.fit import FitPlan, attention_table, cultures
from pinnsim.fit.evaluate import without_neural_part
from pinnsim.fit.objective import prior_terms
from pinnsim.formats.bundle import load_model, save_model
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.parameter import resolve, trainable
from pinnsim.perturbation import Perturbation
from pinnsim.store import encode_tree

FORMS = ("mlp", "attention", "low_rank")
SIGNALS = jnp.asarray([0.7, -0.4])


answer = eqx.filter_jit(lambda residual, *seen: residual(*seen))


@functools.cache
def attention(seed: int = 0, hard: bool = True, weights: float = 1.0, genes: int = 4) -> AttentionResidual:
    """Random weights over a ring with chords: activating, repressing and unknown edges, two heads each."""
    network = network_of(genes, 1)
    ends = (np.asarray(network.source), np.asarray(network.target), np.asarray(network.sign))
    made = attention_residual(
        *ends, genes + 1, 2, genes, width=3, heads=2, hard=hard, gate=0.5, bound=2.0, key=jax.random.key(seed)
    )
    rng = np.random.default_rng(seed)
    moved = jax.tree.map(lambda leaf: leaf + jnp.asarray(weights * rng.standard_normal(leaf.shape)), made.network)
    return resolve(eqx.tree_at(lambda r: r.network, made, moved))


def inputs(seed: int, count: int = 5) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).uniform(0.05, 3.0, count))


def by_hand(r: AttentionResidual, x: np.ndarray, signal: np.ndarray, factor: np.ndarray, gene: int) -> float:
    """The correction of one gene, by the formula of the file."""
    net = {name: np.asarray(leaf) for name, leaf in vars(r.network).items()}
    total = 0.0
    for h, kind in enumerate(r.heads):
        n, t = 1 + 3 / (1 + math.exp(-net["steep"][h])), 8 * math.tanh(net["tilt"][h] / 8)
        query = net["target"][gene]
        null = query @ (net["null"][h] - signal @ net["signal"][:, h]) + net["null_bias"][h]
        above, below = 1.0, 1.0
        for slot, edge in enumerate(np.asarray(r.edge)[gene]):
            listed = float(r.sign[gene, slot])
            if edge == r.edges or kind not in ("any", {1.0: "activating", -1.0: "repressing", 0.0: "unknown"}[listed]):
                continue
            regulator = int(r.source[gene, slot])
            pair = query * net["regulator"][regulator]
            middle = math.exp(pair @ net["affinity"][h] + net["affinity_bias"][h])
            bound = x[regulator] ** n / (x[regulator] ** n + middle**n)
            turn = pair @ net["direction"][h]
            sign = math.tanh(1.5 * listed + turn) if not r.hard else listed or math.tanh(turn)
            share = math.exp(pair @ net["share"][h] - null) * factor[edge]
            above, below = above + share * math.exp(t * sign * bound), below + share
        read = query @ net["readout"][h]
        read = 0.5 * (read + math.hypot(read, 0.1)) if r.hard and kind != "unknown" else read
        total += read * math.log(above / below) / t
    return float(r.gate) * float(r.bound) * math.tanh(total)


@pytest.mark.parametrize("hard", [True, False])
def test_attention_is_its_formula(hard: bool) -> None:
    r, x = attention(1, hard), inputs(1)
    factor = np.random.default_rng(2).uniform(0, 2, r.edges)
    factor[3] = 0.0
    got = answer(r, x, SIGNALS, jnp.asarray(factor))
    expected = [by_hand(r, np.asarray(x), np.asarray(SIGNALS), factor, gene) for gene in range(4)]
    assert min(abs(value) for value in expected) > 1e-3
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    np.testing.assert_allclose(answer(r, x, SIGNALS), answer(r, x, SIGNALS, jnp.ones(r.edges)), rtol=1e-12)


def test_a_flat_head_is_an_average() -> None:
    r, x = attention(1), inputs(1)

    def tilted(tilt: float) -> jax.Array:
        return eqx.tree_at(lambda q: q.network.tilt, r, jnp.full(len(r.heads), tilt))(x, SIGNALS)

    # Continuous where the two expressions meet (terms of t^2 are left out), and at 0.
    np.testing.assert_allclose(tilted(1.001e-3), tilted(0.999e-3), atol=1e-6)
    np.testing.assert_allclose(0.5 * (tilted(1e-6) + tilted(-1e-6)), tilted(0.0), atol=1e-12)
    slope = jax.grad(lambda t: jnp.sum(eqx.tree_at(lambda q: q.network.tilt, r, t)(x, SIGNALS)))
    flat, near = slope(jnp.zeros(len(r.heads))), slope(jnp.full(len(r.heads), 2e-3))
    np.testing.assert_allclose(flat, near, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_zero_at_the_start_and_bounded(form: str, key: jax.Array) -> None:
    model = model_of(unmeasured=1, residual=form)
    fresh = resolve(model).kinetics.residual
    x = jnp.asarray([0.0, 1.0, 1e6, 1e-200, 0.3])
    if form == "attention":
        # What has to be > 0 begins next to 0; where signs are soft, nothing has to.
        assert float(jnp.max(jnp.abs(answer(fresh, x, SIGNALS)))) <= 0.05 * len(fresh.heads) * 2.0 * float(fresh.gate)
        assert not np.any(dataclasses.replace(fresh, hard=False)(x, SIGNALS))
    else:
        assert answer(fresh, x, SIGNALS).tolist() == [0.0] * 4
    slope = eqx.filter_grad(lambda r: jnp.sum(r(x, SIGNALS)))(fresh).network
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slope)) > 0
    wild = resolve(randomised(model, 1, weights=30.0)).kinetics.residual
    value, push = jax.value_and_grad(lambda x: jnp.max(jnp.abs(wild(x, SIGNALS))))(x)
    assert 0 < float(value) <= float(wild.gate * wild.bound) + 1e-12
    assert np.isfinite(np.asarray(push)).all()


def test_low_rank_is_a_perceptron_of_that_width(key: jax.Array) -> None:
    low = resolve(low_rank_residual(3, 2, 4, rank=2, gate=0.3, bound=2.0, key=key))
    low = eqx.tree_at(lambda r: r.network.write, low, jnp.arange(8.0).reshape(4, 2) - 3.0)
    full = resolve(mlp_residual(3, 2, 4, width=2, depth=1, gate=0.3, bound=2.0, key=key))
    layers = (low.network.read.T, low.network.offset, low.network.write, jnp.zeros(4))
    full = eqx.tree_at(
        lambda r: [getattr(layer, name) for layer in r.network.layers for name in ("weight", "bias")], full, layers
    )
    np.testing.assert_allclose(answer(low, inputs(1, 3), SIGNALS), answer(full, inputs(1, 3), SIGNALS), rtol=1e-12)
    assert sum(leaf.size for leaf in jax.tree.leaves(low.network)) == 2 * (4 + 3 + 2 + 1)


@pytest.mark.parametrize("hard", [True, False])
def test_only_listed_regulators_move_a_gene_as_their_signs_say(hard: bool) -> None:
    network, slope = network_of(4, 1), jax.jit(lambda r, x: jax.jacobian(r)(x, SIGNALS))
    listed = np.full((4, 5), np.nan)
    listed[np.asarray(network.target), np.asarray(network.source)] = np.asarray(network.sign)
    turned = False
    for seed in range(5):
        found = np.asarray(slope(attention(seed, hard), inputs(seed)))
        np.testing.assert_array_equal(found[np.isnan(listed)], 0.0)
        assert np.any(found[~np.isnan(listed)] != 0)
        turned |= bool(np.any(found * listed < 0))
    # Soft signs may be learned to be wrong, hard ones never.
    assert turned == (not hard)


def test_names_and_order_of_genes_do_not_matter() -> None:
    r, x = attention(3), inputs(3)
    genes, regulators = np.array([2, 0, 3, 1]), np.array([4, 2, 0, 3, 1])
    net = r.network
    moved = eqx.tree_at(
        lambda q: (q.network.target, q.network.regulator, q.source, q.sign, q.edge),
        r,
        (
            net.target[genes],
            net.regulator[regulators],
            jnp.argsort(regulators)[r.source[genes]],
            r.sign[genes],
            r.edge[genes],
        ),
    )
    np.testing.assert_allclose(answer(moved, x[regulators], SIGNALS), answer(r, x, SIGNALS)[genes], rtol=1e-12)


def test_a_site_that_is_gone_is_an_edge_that_is_not_listed() -> None:
    r, x = attention(4), inputs(4)
    network, gone = network_of(4, 1), 3
    kept = np.delete(np.arange(r.edges), gone)
    ends = [np.asarray(part)[kept] for part in (network.source, network.target, network.sign)]
    less = attention_residual(*ends, 5, 2, 4, width=3, heads=2, hard=True, gate=0.5, bound=2.0, key=jax.random.key(0))
    less = eqx.tree_at(lambda q: q.network, resolve(less), r.network)
    assert less.heads == r.heads
    factor = jnp.ones(r.edges).at[gone].set(0.0)
    np.testing.assert_allclose(answer(r, x, SIGNALS, factor), answer(less, x, SIGNALS), rtol=1e-12)
    assert float(jnp.max(jnp.abs(answer(r, x, SIGNALS) - answer(less, x, SIGNALS)))) > 1e-4


def test_slopes_are_those_of_finite_differences() -> None:
    r, x, h = attention(5), inputs(5), 1e-6
    flat, back = jax.flatten_util.ravel_pytree(r.network)
    weight = jnp.asarray([1.0, -2.0, 0.5, 3.0])

    def total(numbers: jax.Array, x: jax.Array, signal: jax.Array) -> jax.Array:
        return weight @ eqx.tree_at(lambda q: q.network, r, back(numbers))(x, signal)

    value = jax.jit(total)
    at = (flat, x, SIGNALS)
    for k, slope in enumerate(jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*at)):
        for j in range(0, at[k].size, max(1, at[k].size // 20)):
            step = jnp.zeros_like(at[k]).at[j].set(h)
            ends = [value(*at[:k], at[k] + s * step, *at[k + 1 :]) for s in (1, -1)]
            np.testing.assert_allclose(slope[j], (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-8)


def test_attention_says_where_a_correction_comes_from() -> None:
    r, x = attention(6), inputs(6)
    factor = jnp.ones(r.edges)
    weight, added = r.attended(x, SIGNALS, factor)
    listed = np.asarray(r.edge) < r.edges
    assert (np.asarray(weight)[listed] > 0).all()
    assert (np.asarray(weight).sum(axis=1) < 1).all()
    np.testing.assert_array_equal(np.asarray(weight)[~listed], 0.0)
    whole = answer(r, x, SIGNALS)
    for gene, slot in np.argwhere(listed):
        # An absent regulator, at this edge only: a regulator of its own that is not there.
        away = eqx.tree_at(
            lambda q: (q.source, q.network.regulator),
            r,
            (
                r.source.at[gene, slot].set(5),
                jnp.concatenate([r.network.regulator, r.network.regulator[r.source[gene, slot]][None]]),
            ),
        )
        less = answer(away, jnp.append(x, 0.0), SIGNALS, factor)
        np.testing.assert_allclose(added[gene, slot], whole[gene] - less[gene], atol=1e-12)
        assert float(added[gene, slot]) * float(r.sign[gene, slot]) >= 0
    # One head that sees one edge: the softmax of its share and value against the null token.
    alone = attention_residual(
        *(np.array([v]) for v in (0, 0, 1.0)),
        *(1, 0, 1),
        width=2,
        heads=1,
        hard=True,
        gate=0.5,
        bound=1.0,
        key=jax.random.key(0),
    )
    alone = resolve(eqx.tree_at(lambda q: q.network.share, alone, jnp.zeros((1, 2))))
    got, _ = alone.attended(jnp.asarray([1e9]), jnp.zeros(0))
    tilt = 8 * math.tanh(-2 / 8)
    np.testing.assert_allclose(got, [[math.exp(tilt) / (1 + math.exp(tilt))]], rtol=1e-6)


def test_lanes_and_single_precision_agree() -> None:
    r = attention(7)
    xs = jnp.stack([inputs(seed) for seed in range(3)])
    lanes = jax.jit(jax.vmap(lambda x: r(x, SIGNALS)))(xs)
    np.testing.assert_allclose(lanes, [answer(r, x, SIGNALS) for x in xs], rtol=1e-12)
    with jax.enable_x64(False):
        kind = {"f": np.float32, "i": np.int32}
        small = jax.tree.map(lambda a: jnp.asarray(np.asarray(a).astype(kind[np.asarray(a).dtype.kind])), r)
        got = small(jnp.asarray(np.asarray(xs[0], np.float32)), jnp.asarray(np.asarray(SIGNALS, np.float32)))
        assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, lanes[0], atol=2e-6)


def test_a_network_without_edges_corrects_nothing() -> None:
    none = np.zeros(0)
    bare = resolve(
        attention_residual(
            none, none, none, 0, 1, 3, width=2, heads=1, hard=True, gate=0.5, bound=1.0, key=jax.random.key(0)
        )
    )
    assert bare(jnp.zeros(0), jnp.ones(1)).tolist() == [0.0] * 3
    assert np.asarray(bare.attended(jnp.zeros(0), jnp.ones(1))).sum() == 0.0


def test_numbers_grow_with_genes_not_with_pairs() -> None:
    def numbers(genes: int) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(attention(genes=genes).network))

    assert numbers(40) - numbers(20) == 20 * 2 * 3


@pytest.mark.parametrize("form", ["attention", "low_rank"])
def test_amounts_stay_and_models_come_back(form: str, tmp_path) -> None:
    network = network_of(4, 1)
    config = ModelConfig.model_validate(
        {"inputs": [{"name": "food"}], "residual": {"kind": form, "heads": 2, "rank": 3, "width": 3}}
    )
    model = randomised(build(config, network, prior_of(network)).center, 3)
    kinetics = resolve(model).kinetics
    state = random_state(kinetics, 1)
    p = Perturbation.none(kinetics.table)
    active = kinetics.promoter_activity(state, p.at(jnp.zeros(())))
    assert ((active >= 0) & (active <= 1)).all()
    plain = eqx.tree_at(lambda k: k.residual.gate, kinetics, jnp.zeros(()))
    assert float(jnp.max(jnp.abs(active - plain.promoter_activity(state, p.at(jnp.zeros(())))))) > 1e-6
    save_model(tmp_path / "kept", model, config, network, prior_of(network))
    loaded = load_model(tmp_path / "kept")
    assert loaded.config == config
    assert encode_tree(loaded.model) == encode_tree(model)
    np.testing.assert_array_equal(resolve(loaded.model).kinetics.promoter_activity(state, p.at(jnp.zeros(()))), active)


def test_a_residual_without_weights_of_its_own_stays_put() -> None:
    prior = prior_model("hidden", residual={"kind": "attention", "width": 2})
    free = prior.spread.kinetics.residual
    assert all(bool(jnp.all(leaf == 1.0)) for leaf in jax.tree.leaves(free.network))
    assert float(free.sign.raw.max()) == float(free.bound) == 0.0
    flags = trainable(prior.center.kinetics.residual)
    assert (flags.sign.raw, flags.source, flags.edge, flags.network.target) == (False, False, False, True)
    shut = without_neural_part(prior)
    assert float(resolve(shut.center).kinetics.residual.gate) == 0.0
    assert all(bool(jnp.all(leaf == 0.0)) for leaf in jax.tree.leaves(shut.spread.kinetics.residual.network))


def test_two_regulators_that_are_needed_together_are_learned() -> None:
    """Truth: active only where both regulators are bound, which regulators that act on their own cannot say."""
    network = Network(
        *(np.array([0, 1]), np.array([2, 2]), np.ones(2), np.ones(2)), ("a", "b", "c"), ("a", "b"), ("", ""), ("", "")
    )
    levels = np.array([0.05, 0.6, 2.0, 20.0])
    x = jnp.asarray([[a, b] for a in levels for b in levels])
    both = jnp.prod(x**2 / (1 + x**2), axis=1)
    wanted = 0.02 + 0.96 * both

    def error(kind: str) -> float:
        config = {"residual": {"kind": kind, "width": 4, "heads": 2, "gate": 0.5, "bound": 8.0}}
        prior = build(ModelConfig.model_validate(config), network, prior_of(network))
        free = trainable(prior.center)
        flat, back = jax.flatten_util.ravel_pytree(eqx.filter(prior.center, free))

        def activity(numbers: jax.Array) -> jax.Array:
            k = resolve(eqx.combine(back(numbers), prior.center)).kinetics
            return jax.vmap(lambda x: k.promoter.activity(x, jnp.ones(2), k.residual(x, jnp.zeros(0)))[2])(x)

        def nats(numbers: jax.Array) -> jax.Array:
            model = eqx.combine(back(numbers), prior.center)
            known = sum(prior_terms(model, prior).values(), jnp.zeros(()))
            return 0.5 * jnp.sum(((activity(numbers) - wanted) / 0.02) ** 2) + known

        slope = jax.jit(jax.value_and_grad(nats))
        options = {"maxiter": 60}
        found = scipy.optimize.minimize(slope, np.asarray(flat), jac=True, method="L-BFGS-B", options=options)
        return float(jnp.sqrt(jnp.mean((activity(jnp.asarray(found.x)) - wanted) ** 2)))

    without, attended = error("none"), error("attention")
    assert without > 0.08
    assert attended < 0.4 * without


def test_the_table_of_a_culture_that_stands_still_is_its_one_state() -> None:
    regulation = {"hidden": "none", "basal": -1.0}
    prior = prior_model(
        "abundance", layers=("mrna",), regulation=regulation, residual={"kind": "attention", "width": 2}
    )
    model = randomised(prior.center, 2, 0.1, 1.0)
    level = np.array([14.0, 15.0, 14.5])
    with pytest.warns(PinnsimWarning, match="W_GENE_CONSTANT"):
        still = dataset_of(np.tile(level, (2, len(TIMES), 1)), TIMES)
    data = cultures(still, model.table, substeps=2)
    found = attention_table(model, data, FitPlan(trajectory_steps=0, collocation_steps=1))
    cell = resolve(model)
    kinetics, perturbations = cell.kinetics, data.perturbations
    rna = cell.observation.readout.invert(jnp.asarray(level))

    @jax.jit
    def attended(perturbation: Perturbation, middle: jax.Array) -> tuple[jax.Array, jax.Array]:
        edits = perturbation.at(middle)
        return kinetics.residual.attended(kinetics.regulator_inputs(rna, edits), edits.signal, edits.edge_factor)

    rows = []
    for k, nodes in enumerate(data.grid):
        treated = jax.tree.map(lambda leaf, k=k: leaf[k], perturbations)
        rows += [attended(treated, middle) for middle in 0.5 * (nodes[:-1] + nodes[1:])]
    edge = np.asarray(kinetics.residual.edge)
    for column, part in zip(("attention", "contribution"), zip(*rows, strict=True), strict=True):
        by_edge = np.zeros(len(model.table.edges) + 1)
        by_edge[edge] = np.mean(np.stack(part), axis=0)
        np.testing.assert_allclose(found[column], by_edge[:-1], rtol=1e-9, atol=1e-14)
    assert [f"{s}->{t}" for s, t in zip(found["source"], found["target"], strict=True)] == list(model.table.edges)
    assert (found["contribution"] * found["sign"] >= 0).all()
    assert (found["attention"] > 0).all()
    with pytest.raises(PinnsimError, match="E_USAGE.*attention"):
        attention_table(prior_model("abundance").center, data, FitPlan())
