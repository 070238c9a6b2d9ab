"""Promoters: occupancy computed by hand, signs that hold, saturation, and edge rows that sum as loops do."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnsim.dynamics.regulation import Promoter, edge_slots
from pinnsim.dynamics.residual import NoResidual, mlp_residual
from pinnsim.parameter import resolve


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
