"""Latent models: against a simulated branching whose latent course is known, and against closed forms."""

import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import nbinom

from pinnsim.data import Snapshots
from pinnsim.distance import Energy
from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.errors import PinnsimError, PinnsimWarning
from pinnsim.fit import FitPlan
from pinnsim.fit.fit import run_stage_safely
from pinnsim.latent import (
    LatentFit,
    LatentPlan,
    cells_of,
    fit_latent,
    kinetic_anchor,
    load_latent,
    save_latent,
    spread_of,
)
from pinnsim.latent.cells import features_of
from pinnsim.latent.domain import entropies
from pinnsim.latent.learn import Source, embeddings_of, latent_loss
from pinnsim.latent.network import latent_network
from pinnsim.parameter import resolve
from pinnsim.simulate import FromState
from pinnsim.store import save_arrays
from pinnsim.tree import lane, named_leaves

GENES, EACH, HELD = 12, 60, 2.0
NAMES = tuple(f"g{k}" for k in range(GENES))
PLAN = LatentPlan(
    dimension=2,
    width=8,
    steps=300,
    learning_rate=1e-2,
    cells=40,
    substeps=3,
    mask=0.1,
    neighbours=60,
    seed=1,
    swirl=False,
)


class Truth(NamedTuple):
    """A branching: cells advance along u with time and, from u = 1 on, leave to either side, v. Counts are negative
    binomial (dispersion 0.1) with log means linear in (u, v)."""

    state: np.ndarray
    counts: np.ndarray
    time: np.ndarray
    size: np.ndarray
    log_rate: np.ndarray


def branching(seed: int, each: int = EACH, turn: bool = False) -> Truth:
    """Cells of four times; with `turn`, of genes that answer otherwise, with the same means."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    loadings, base = 0.75 * fixed.standard_normal((2, GENES)), fixed.uniform(1.5, 2.5, GENES)
    time = np.repeat(np.arange(4.0), each)
    u = time + 0.3 * rng.standard_normal(len(time))
    side = np.where(rng.random(len(time)) < 0.5, 1.0, -1.0)
    state = np.stack([u, side * np.maximum(u - 1.0, 0.0) + 0.2 * rng.standard_normal(len(time))], axis=1)
    log_rate = base + (state - [1.5, 0.0]) @ (1.25 * fixed.standard_normal((2, GENES)) if turn else loadings)
    size = rng.uniform(0.7, 1.4, len(time))
    rate = size[:, None] * np.exp(log_rate) * rng.gamma(10.0, 0.1, log_rate.shape)
    return Truth(state, rng.poisson(rate).astype(float), time, size, log_rate)


def snapshots(truth: Truth, where: np.ndarray | None = None) -> Snapshots:
    kept = np.ones(len(truth.time), bool) if where is None else where
    return Snapshots.build(
        truth.counts[kept], truth.time[kept], NAMES, exposure=truth.size[kept], time_unit="h", scale="counts",
        simulated=True,
    )  # fmt: skip


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(Energy(unbiased=True)(*(jnp.asarray(np.log1p(x)) for x in (one, other))).value)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return branching(0)


@pytest.fixture(scope="module")
def fitted(truth: Truth) -> LatentFit:
    """Trained without the cells of `HELD`."""
    return fit_latent(snapshots(truth, truth.time != HELD), PLAN, progress=False)


def test_embeddings_are_the_known_latent_state(truth: Truth, fitted: LatentFit) -> None:
    """Two numbers say of it nearly what all twelve counts do (in their logarithms, by least squares)."""

    def left(known: np.ndarray) -> np.ndarray:
        design = np.concatenate([known, np.ones((len(known), 1))], axis=1)
        return (truth.state - design @ np.linalg.lstsq(design, truth.state, rcond=None)[0]).var(axis=0)

    z = fitted.model.encode(truth.counts, truth.size)
    assert (left(z) < 1.6 * left(np.log1p(truth.counts / truth.size[:, None]))).all()
    assert (left(z) < 0.2 * truth.state.var(axis=0)).all()
    assert not fitted.spread.collapsed
    assert "tell cells apart" in fitted.spread.verdict


def test_reconstruction_is_nearer_to_the_true_rates_than_the_mean(truth: Truth, fitted: LatentFit) -> None:
    """Of cells whose time it never saw, and of their counts, which are noisier than the rates."""
    held = truth.time == HELD
    found = fitted.model.decode(fitted.model.encode(truth.counts[held], truth.size[held]))
    error = np.mean((np.log(found) - truth.log_rate[held]) ** 2)
    assert error < 0.25 * np.mean((truth.log_rate[held] - truth.log_rate[~held].mean(axis=0)) ** 2)
    counts = np.log((truth.counts[held] + 0.5) / truth.size[held, None])
    assert error < 0.5 * np.mean((counts - truth.log_rate[held]) ** 2)


def test_a_time_left_out_is_predicted_better_than_by_the_one_before(truth: Truth, fitted: LatentFit) -> None:
    before, held = truth.time == HELD - 1.0, truth.time == HELD
    found = fitted.model.simulate(truth.counts[before], 1.0, start=1.0, exposure=truth.size[before])
    again = fitted.model.simulate(truth.counts[before], 1.0, start=1.0, exposure=truth.size[before])
    np.testing.assert_array_equal(found.readings, again.readings)
    assert apart(found.readings, truth.counts[held]) < 0.4 * apart(truth.counts[before], truth.counts[held])
    still = fitted.model.simulate(truth.counts[before], 0.0, exposure=truth.size[before], steps=40)
    np.testing.assert_allclose(still.embeddings, fitted.model.encode(truth.counts[before], truth.size[before]))


def test_draws_have_the_mean_and_variance_of_their_law(fitted: LatentFit) -> None:
    z = np.tile([[0.3, -0.2]], (4000, 1))
    drawn, mean = fitted.model.sample(z), fitted.model.decode(z[:1])[0]
    alpha = np.asarray(fitted.model.network.decoder.spread.value)
    variance = mean + alpha * mean**2
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * np.sqrt(variance.max() / len(z)))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.2)


def above(outside: np.ndarray, inside: np.ndarray) -> float:
    return float(np.mean(outside[:, None] > inside[None, :]))


def thinner(truth: Truth, share: float) -> Truth:
    """The same cells, of which only a share of the molecules was counted, and their size factors say so."""
    counts = np.random.default_rng(9).binomial(truth.counts.astype(int), share).astype(float)
    return truth._replace(counts=counts, size=share * truth.size)


def test_cells_of_another_kind_are_flagged_and_its_own_are_not(truth: Truth, fitted: LatentFit) -> None:
    fresh, other = branching(1), branching(2, turn=True)
    own = fresh.time != HELD
    inside = fitted.model.out_of_domain(fresh.counts[own], fresh.size[own])
    outside = fitted.model.out_of_domain(other.counts, other.size)
    assert above(outside.score, inside.score) >= 0.9
    flagged = ~fitted.model.in_domain(fresh.counts[own], fresh.size[own], level=0.1)
    # 36 calibration cells: the flagged share of 180 fresh ones has a standard deviation of about 0.055.
    assert flagged.mean() < 0.1 + 3 * 0.055
    assert ((inside.p_value > 0) & (inside.p_value <= 1)).all()


def test_depth_alone_makes_no_cell_strange_and_hides_none(truth: Truth, fitted: LatentFit) -> None:
    """A raw likelihood would call shallow cells of any kind familiar, since few counts are no surprise."""
    fresh, other = branching(1), branching(2, turn=True)
    own = fresh.time != HELD
    inside = fitted.model.out_of_domain(fresh.counts[own], fresh.size[own])
    shallow = thinner(fresh, 0.3)
    same = fitted.model.out_of_domain(shallow.counts[own], shallow.size[own])
    assert 0.3 < above(same.score, inside.score) < 0.7
    strange = thinner(other, 0.3)
    assert above(fitted.model.out_of_domain(strange.counts, strange.size).score, inside.score) > 0.8


def test_missing_readings_count_neither_for_nor_against_a_cell(truth: Truth, fitted: LatentFit) -> None:
    fresh, other = branching(1), branching(2, turn=True)
    own, missing = fresh.time != HELD, NAMES[:4]
    holes = [np.where(np.isin(NAMES, missing), np.nan, part) for part in (fresh.counts[own], other.counts)]
    inside = fitted.model.out_of_domain(holes[0], fresh.size[own], missing=missing)
    again = fitted.model.out_of_domain(fresh.counts[own], fresh.size[own], missing=missing)
    np.testing.assert_array_equal(inside.score, again.score)
    assert np.mean(inside.p_value <= 0.1) < 0.1 + 3 * 0.055
    assert above(fitted.model.out_of_domain(holes[1], other.size, missing=missing).score, inside.score) > 0.8
    with pytest.warns(PinnsimWarning, match="W_READINGS_MISSING: 7 of 12"):
        fitted.model.in_domain(fresh.counts, fresh.size, missing=NAMES[:7])
    with pytest.raises(PinnsimError, match=r"E_GENE_UNMATCHED.*\(h\)"):
        fitted.model.out_of_domain(fresh.counts, fresh.size, missing=("h",))
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        fitted.model.out_of_domain(fresh.counts, fresh.size, missing=NAMES)
    with pytest.raises(PinnsimError, match="E_DATA_NONFINITE"):
        fitted.model.out_of_domain(holes[1], other.size)


def test_entropies_are_those_of_negative_binomial_counts() -> None:
    dispersion = np.array([0.1, 0.5, 2.0])
    found = entropies(dispersion)
    for k in (0, 12, 20, 30):
        mean = np.exp(np.linspace(np.log(1e-5), np.log(1e7), found.shape[1])[k])
        for row, alpha in zip(found, dispersion, strict=True):
            counts = np.arange(int(mean + 20 + 60 * np.sqrt(mean + alpha * mean**2)))
            logs = nbinom.logpmf(counts, 1 / alpha, 1 / (1 + alpha * mean))
            assert row[k] == pytest.approx(-np.sum(np.exp(logs) * logs), rel=1e-4)


def test_the_action_is_that_of_a_known_process(truth: Truth) -> None:
    """Untrained, embeddings move by dz = -D z dt + sqrt(2 D) dW, D = 1 / span: int <|f|^2> / (4 D) is known."""
    plan = PLAN.model_copy(update={"action": 1.0, "substeps": 16, "cells": 60})
    data = snapshots(truth)
    cells = cells_of(data)
    features = features_of(cells.values, cells.exposure, True)
    network = latent_network(
        features, cells.values.mean(axis=0), 3.0, dimension=2, width=4, depth=1, counted=True, key=jax.random.key(0)
    )
    acting = [treatment.resolve(network.field.table) for treatment in data.treatments]
    batch = lane(Source(cells, network, acting, plan, Energy(unbiased=True)).batch(0), 0)
    found = jax.jit(lambda b: latent_loss(network, None, b, FitPlan().settings(), None).terms["action"])(batch)
    rate, wanted = 1.0 / 3.0, []
    for population in (0, 1, 2):
        z = embeddings_of(network, np.asarray(batch.features[population, :32]))
        begin, gone = np.mean(np.sum(z**2, axis=1)), 1.0 - np.exp(-2.0 * rate)
        wanted.append(0.25 * rate * (begin * gone / (2 * rate) + 2 * (1.0 - gone / (2 * rate))))
    # 96 ways of 2 coordinates each: the mean's own spread is about a tenth.
    assert float(found) == pytest.approx(np.mean(wanted), rel=0.3)


def test_an_interrupted_training_goes_on_to_the_same_numbers(truth: Truth, tmp_path, monkeypatch) -> None:
    plan, data = PLAN.model_copy(update={"steps": 30}), snapshots(truth, truth.time != HELD)
    loop, calls = sys.modules[run_stage_safely.__module__], []
    saved = loop.save_tree

    def stopped(*args, **kwargs):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return saved(*args, **kwargs)

    monkeypatch.setattr(loop, "save_tree", stopped)
    assert fit_latent(data, plan, checkpoint=tmp_path / "c", progress=False).interrupted
    monkeypatch.setattr(loop, "save_tree", saved)
    resumed = fit_latent(data, plan, checkpoint=tmp_path / "c", progress=False)
    whole = fit_latent(data, plan, progress=False)
    ours, theirs = named_leaves(resumed.model), named_leaves(whole.model)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL"):
        fit_latent(data, plan.model_copy(update={"mask": 0.3}), checkpoint=tmp_path / "c", progress=False)
    save_latent(tmp_path / "m.safetensors", whole.model)
    back = load_latent(tmp_path / "m.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(whole.model)
    assert all(np.array_equal(named_leaves(back)[name], value) for name, value in theirs.items())
    np.testing.assert_array_equal(back.encode(truth.counts), whole.model.encode(truth.counts))
    save_arrays(tmp_path / "other", {"a": np.zeros(2)}, {"make": json.dumps({})})
    with pytest.raises(PinnsimError, match="E_CKPT_CORRUPT.*no latent model"):
        load_latent(tmp_path / "other")


def test_followed_cells_are_predicted_one_by_one_and_prediction_alone_collapses(truth: Truth) -> None:
    """A turn of the plane by 30 degrees per hour, seen in 12 readings on a logarithmic scale."""
    rng = np.random.default_rng(3)
    begin, angle = rng.standard_normal((EACH, 2)) + [2.0, 0.0], np.pi / 6
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    states = np.concatenate([begin @ np.linalg.matrix_power(turn, k) for k in range(3)])
    logs = 6.0 + states @ rng.standard_normal((2, GENES)) + 0.05 * rng.standard_normal((len(states), GENES))
    data = Snapshots.build(logs, np.repeat([0.0, 1.0, 2.0], EACH), NAMES, time_unit="h", scale="log2", simulated=True)
    found = fit_latent(data, PLAN.model_copy(update={"mask": 0.0, "swirl": True}), followed=True, progress=False)
    model = found.model
    z = model.encode(logs).reshape(3, EACH, 2)
    term = found.terms.set_index("term")["after"]["predict"]
    assert term < 0.1 * np.mean(np.sum((z[1:] - z[:-1]) ** 2, axis=2))
    alone = PLAN.model_copy(
        update={
            "reconstruct": 0.0,
            "spread": 0.0,
            "decorrelate": 0.0,
            "target_moves": True,
            "learning_rate": 0.03,
            "swirl": True,
        }
    )
    with pytest.warns(PinnsimWarning, match="W_LATENT_COLLAPSED.*raise the weights"):
        gone = fit_latent(data, alone, followed=True, progress=False)
    assert gone.spread.collapsed
    assert not found.spread.collapsed


def test_before_training_it_is_a_principal_component_analysis() -> None:
    rng = np.random.default_rng(4)
    logs = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 6)) + 5.0
    made = latent_network(
        logs, logs.mean(axis=0), 1.0, dimension=3, width=4, depth=1, counted=False, key=jax.random.key(0)
    )
    network = resolve(made)
    z = jax.vmap(lambda x: network.encoder(x, jnp.ones(6)))(jnp.asarray(logs))
    np.testing.assert_allclose(jax.vmap(network.decoder)(z), logs, atol=1e-9)
    spread = spread_of(np.asarray(z))
    np.testing.assert_allclose(spread.eigenvalues, 1.0, rtol=1e-9)
    assert spread.effective_rank == pytest.approx(3.0)


def test_a_kinetic_model_anchors_the_decoder() -> None:
    """Counts of cells on the course of two species that relax: hardly anything is left to learn beside it."""
    kinetics = reaction_system(
        [Reaction("in", "-> a", 8.0), Reaction("on", "a -> b", 0.4), Reaction("out", "b ->", 0.8)], time_unit="h"
    )
    begin, times = np.array([2.0, 1.0]), np.array([0.0, 1.0, 2.0, 4.0])
    anchor = kinetic_anchor(
        kinetics, times, ("a", "b"), scale="counts", initial=FromState(jnp.asarray(begin)), treatments=["none"]
    )
    a = 20.0 + (2.0 - 20.0) * np.exp(-0.4 * times)
    b = 10.0 - 18.0 * np.exp(-0.4 * times) + (1.0 - 10.0 + 18.0) * np.exp(-0.8 * times)
    np.testing.assert_allclose(np.exp(anchor.nodes.value), np.stack([a, b], axis=1), rtol=1e-4)
    rng, at = np.random.default_rng(5), np.repeat(times[1:], 30)
    counts = rng.poisson(np.repeat(30.0 * np.stack([a, b], axis=1)[1:], 30, axis=0)).astype(float)
    data = Snapshots.build(counts, at, ("a", "b"), time_unit="h", scale="counts", simulated=True)
    found = fit_latent(
        data,
        PLAN.model_copy(update={"anchor": 10.0, "dimension": 1, "depth": 0, "mask": 0.0}),
        anchor=anchor,
        progress=False,
    )
    term = found.terms.set_index("term")
    assert term["after"]["anchor"] < 1e-3
    said = found.model.decode(found.model.encode(counts))
    for t, wanted in zip(times[1:], 30.0 * np.stack([a, b], axis=1)[1:], strict=True):
        np.testing.assert_allclose(said[at == t].mean(axis=0), wanted, rtol=0.12)
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        kinetic_anchor(kinetics, times, ("a", "c"), scale="counts")


def test_spreads_are_those_of_their_eigenvalues() -> None:
    rng = np.random.default_rng(6)
    points = rng.standard_normal((200, 4)) * [2.0, 1.0, 0.5, 0.1]
    spread = spread_of(points)
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) ** 2 / 200
    np.testing.assert_allclose(spread.eigenvalues, values, rtol=1e-10)
    assert spread.participation == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1.0 < spread.effective_rank < 4.0
    line = np.outer(rng.standard_normal(50), [1.0, 1.0, 1.0, 1.0])
    assert spread_of(line).collapsed
    assert spread_of(line).effective_rank == pytest.approx(1.0, abs=1e-6)
    assert spread_of(np.zeros((5, 3))).collapsed
    assert not spread.collapsed
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        spread_of(np.zeros((1, 3)))


def test_what_cannot_be_is_refused(truth: Truth, fitted: LatentFit) -> None:
    one = Snapshots.build(truth.counts, truth.time, NAMES, time_unit="h", scale="linear", simulated=True)
    with pytest.raises(PinnsimError) as refused:
        fit_latent(one, LatentPlan(dimension=50))
    assert refused.value.codes == ("E_SCALE_MISMATCH", "E_USAGE")
    with pytest.raises(PinnsimError) as refused:
        fitted.model.encode(-truth.counts[:, :5], np.ones(3))
    assert set(refused.value.codes) == {"E_DATA_SHAPE", "E_DATA_NEGATIVE"}
    with pytest.raises(PinnsimError, match="E_TIME_RANGE"):
        fitted.model.simulate(truth.counts, -1.0)
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        fitted.model.decode(np.zeros((2, 5)))
    assert cells_of(one).readings == NAMES
