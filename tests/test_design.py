"""Design of experiments: against linear models with normal errors in closed form, exhaustive search and samples."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from problems import prior_model, truth_of
from scipy.special import xlogy
from scipy.stats import norm

from pinnsim.design import Experiment, Price, candidates, design, design_rounds, disagreement
from pinnsim.design.experiments import layout_of
from pinnsim.design.gain import Outlook, gains
from pinnsim.design.outlook import members_expect, setting_of
from pinnsim.design.parts import in_parts
from pinnsim.errors import PinnsimError
from pinnsim.fit import Draws, FitPlan, Laplace
from pinnsim.fit.free import free_vector
from pinnsim.fit.laplace import posterior
from pinnsim.plot import policy_courses, ranked_bars, save
from pinnsim.simulate import AtRest
from pinnsim.table import Table
from pinnsim.treatment import Treatment

NOISE = 0.1
REGULATION = {"hidden": "none", "basal": -1.0, "strength_sd": 0.3, "affinity_sd": 0.3, "basal_sd": 0.5}
TREATMENTS, SPAN = ("g0=0@0:", "g1*4@0:", "signal(rich)=1@0:"), (0.0, 1.0, 2.0, 5.0)


def posterior_at(model, prior, seed: int) -> Laplace:
    """A normal posterior of random curvature in half of all directions."""
    free, rng = free_vector(model, prior), np.random.default_rng(seed)
    count = len(free.names)
    basis = np.linalg.qr(rng.standard_normal((count, count)))[0][:, : count // 2]
    return posterior(free, 10.0 ** np.linspace(3, -1, count // 2), basis, 0.0)


@pytest.fixture(scope="module")
def prior():
    return prior_model(
        "abundance", layers=("mrna",), regulation=REGULATION, likelihood={"kind": "gaussian", "sd": NOISE}
    )


@pytest.fixture(scope="module")
def fitted(prior):
    return posterior_at(truth_of(prior, 2, 0.3), prior, 0)


@pytest.fixture(scope="module")
def experiments():
    return candidates(TREATMENTS, [2.0, (1.0, 5.0)], ["g1", ("g0", "g2")], (1, 3), Price(culture=5.0, sample=1.0))


@pytest.fixture(scope="module")
def found(fitted, experiments):
    return design(fitted, experiments, batch=3, progress=False)


@pytest.fixture(scope="module")
def courses(fitted, experiments):
    """Readings of any models, (member, treatment, time, gene)."""
    table = fitted.free.model.table
    layout = layout_of(experiments, table, 0.0)
    setting = setting_of(fitted.free.model, layout, AtRest(), 1e-6, 1e-8)
    return lambda vectors: np.asarray(
        members_expect(setting, eqx.filter_vmap(fitted.free.with_values)(jnp.asarray(vectors))).mean
    )


def of(one: Experiment, readings: np.ndarray) -> np.ndarray:
    """The readings of an experiment, (..., reading), among those of all treatments, times and genes."""
    rows = readings[..., TREATMENTS.index(str(one.treatment)), :, :]
    return np.stack([rows[..., SPAN.index(t), int(g[1])] for t in one.times for g in one.genes], axis=-1)


@pytest.fixture(scope="module")
def slopes(fitted, courses):
    """d readings / d free numbers of an experiment, (reading, free), by central differences: errors of h^2 = 1e-6, and
    of the solver's 1e-6 / h."""
    moved, step = fitted.estimate + 1e-3 * np.eye(len(fitted.estimate)), 2e-3
    every = courses(np.concatenate([moved, 2 * fitted.estimate - moved]))
    change = (every[: len(moved)] - every[len(moved) :]) / step
    return lambda one: of(one, change).T


def test_gains_are_those_of_the_dense_covariance(fitted, experiments, found, slopes):
    """1/2 log det(I + R^-1/2 J Sigma J' R^-1/2), slopes by differences of readings."""
    for number in (1, 6, 15):
        one = experiments[number]
        jacobian = slopes(one)
        seen = jacobian @ fitted.covariance() @ jacobian.T * one.replicates / NOISE**2
        exact = 0.5 * np.linalg.slogdet(np.eye(len(seen)) + seen)[1]
        row = found.table.set_index("experiment").loc[number]
        assert row["gain"] == pytest.approx(exact, rel=2e-3)
        assert row["gain_per_cost"] == row["gain"] / one.cost
    assert list(found.table["gain"]) == sorted(found.table["gain"], reverse=True)
    assert len(experiments) == 24
    assert experiments[0].cost == 6.0
    assert experiments[7].cost == 3 * (5.0 + 2 * 1.0)
    assert found.best == experiments[int(found.table["experiment"][0])]


def test_more_readings_and_replicates_never_tell_less(experiments, found):
    gain = found.table.set_index("experiment")["gain"]
    assert (gain > 0).all()
    for number, one in enumerate(experiments):
        if one.replicates == 1:
            more = experiments.index(dataclasses.replace(one, replicates=3, cost=3 * one.cost))
            assert gain[number] < gain[more] < 3 * gain[number]


def linear(rows: np.ndarray, sd: np.ndarray) -> Outlook:
    """One treatment, a gene, a time per row: a linear model in whitened coordinates."""
    shape = (1, len(rows), 1)
    return Outlook(
        jnp.zeros(shape), jnp.asarray(sd).reshape(shape), jnp.asarray(rows)[None, :, None], None, jnp.ones(1, bool)
    )


def line(times: list[tuple[float, ...]]) -> tuple[tuple[Experiment, ...], Table]:
    return tuple(Experiment(Treatment(), t) for t in times), Table(("g",), (), (), (), ("g.mrna",), ())


def test_a_linear_model_in_closed_form():
    """Straight line y = a + b t with prior covariance D: a formula of determinants."""
    times, sd = np.array([0.0, 1.0, 3.0, 7.0]), np.array([0.3, 0.2, 0.5, 0.1])
    root = np.diag([0.7, 1.9])
    rows = np.stack([np.ones(4), times], axis=1) @ root
    chosen, table = line([(1.0,), (0.0, 7.0), (1.0, 3.0, 7.0)])
    told = gains(linear(rows, sd), layout_of(chosen, table, 0.0), None)
    for value, one in zip(np.asarray(told.gain), chosen, strict=True):
        at = [list(times).index(t) for t in one.times]
        a = np.sum(0.49 / sd[at] ** 2)
        b = np.sum(1.9**2 * times[at] ** 2 / sd[at] ** 2)
        c = np.sum(0.7 * 1.9 * times[at] / sd[at] ** 2)
        assert value == pytest.approx(0.5 * np.log((1 + a) * (1 + b) - c**2), abs=1e-9)


def test_errors_that_correlate_tell_less():
    times, rows = np.array([0.0, 1.0, 2.0]), np.ones((3, 1))
    view = linear(rows, np.full(3, 0.5))
    lag = np.exp(-np.abs(times[:, None] - times[None, :]) / 1.5)
    related = eqx.tree_at(lambda o: o.correlation, view, jnp.asarray(lag)[None, None], is_leaf=lambda x: x is None)
    chosen, table = line([(1.0,), (0.0, 2.0), (0.0, 1.0, 2.0)])
    told = np.asarray(gains(related, layout_of(chosen, table, 0.0), None).gain)
    for value, at in zip(told, ([1], [0, 2], [0, 1, 2]), strict=True):
        noise = 0.25 * lag[np.ix_(at, at)]
        exact = 0.5 * np.log1p(np.ones(len(at)) @ np.linalg.solve(noise, np.ones(len(at))))
        assert value == pytest.approx(exact, abs=1e-10)


def together(fitted, chosen: tuple[Experiment, ...], slopes) -> float:
    """Information of several experiments: 1/2 log det(I + Sigma sum J' R^-1 J)."""
    told = sum(slopes(one).T @ slopes(one) * one.replicates / NOISE**2 for one in chosen)
    return 0.5 * np.linalg.slogdet(np.eye(len(fitted.free.names)) + fitted.covariance() @ told)[1]


def test_batches_are_chosen_given_what_was_chosen_before(fitted, found, slopes):
    exact = together(fitted, found.chosen, slopes)
    assert found.batch["total_gain"].iloc[-1] == pytest.approx(exact, rel=5e-4)
    assert found.batch["gain"].sum() == pytest.approx(found.batch["total_gain"].iloc[-1])
    assert list(found.batch["gain"]) == sorted(found.batch["gain"], reverse=True), "later choices tell less"
    assert len(set(found.batch["experiment"])) == 3
    assert found.chosen[0] == found.best


def test_greedy_batches_come_near_the_best_of_all(fitted, experiments, found, slopes):
    """At least 1 - 1/e of the best triple's information, and never more, over all triples."""
    best = max(together(fitted, three, slopes) for three in itertools.combinations(experiments, 3))
    assert (1 - np.exp(-1)) * best <= found.batch["total_gain"].iloc[-1] <= best * (1 + 1e-3)


def test_goals_rank_by_what_is_told_of_them(fitted, experiments, slopes):
    """Variance of chosen rates after the experiment, from the dense posterior."""
    names = ("decay:g1", "basal:g1")
    told = design(fitted, experiments, goal=list(names), progress=False)
    at = [fitted.free.names.index(name) for name in names]
    one = experiments[4]
    before = fitted.covariance()
    jacobian = slopes(one)
    after = np.linalg.inv(np.linalg.inv(before) + jacobian.T @ jacobian * one.replicates / NOISE**2)
    row = told.table.set_index("experiment").loc[4]
    ratio = np.diag(after)[at] / np.diag(before)[at]
    assert row["goal_left"] == pytest.approx(ratio.mean(), rel=1e-3)
    less = np.linalg.slogdet(before[np.ix_(at, at)])[1] - np.linalg.slogdet(after[np.ix_(at, at)])[1]
    assert row["goal_gain"] == pytest.approx(0.5 * less, rel=1e-3)
    assert (told.table["goal_gain"] <= told.table["gain"] + 1e-9).all()
    assert list(told.table["goal_gain"]) == sorted(told.table["goal_gain"], reverse=True)
    assert names[0] in repr(told)


def half_life(model):
    """Of g1, in minutes."""
    return jnp.log(2.0) / model.kinetics.decay[1]


def test_a_predicted_quantity_as_goal(fitted, experiments):
    """The logarithm's derivative: a half-life tells what its decay rate tells."""
    quantity = design(fitted, experiments, goal=half_life, progress=False).table
    rate = design(fitted, experiments, goal="decay:g1", progress=False).table
    np.testing.assert_allclose(quantity["goal_gain"], rate["goal_gain"], rtol=1e-8)
    np.testing.assert_allclose(quantity["goal_left"], np.exp(-2 * quantity["goal_gain"]), rtol=1e-8)


def members(fitted, seed: int) -> np.ndarray:
    """Numbers of an ensemble of as many members as `slopes` solves."""
    count = len(fitted.estimate)
    return fitted.estimate + 0.2 * np.random.default_rng(seed).standard_normal((2 * count, count))


def test_ensembles_count_by_their_sample_covariance(fitted, experiments, courses):
    """The normal gain from numpy's covariance; the nested one of a single reading from quadrature of the mixture."""
    vectors = members(fitted, 3)
    ensemble = eqx.filter_vmap(fitted.free.with_values)(jnp.asarray(vectors))
    normal = design(ensemble, experiments, progress=False).table.set_index("experiment")
    nested = design(ensemble, experiments, nested_draws=2000, progress=False).table.set_index("experiment")
    readings = courses(vectors)
    for number in (0, 6, 15):
        one = experiments[number]
        seen = np.atleast_2d(np.cov(of(one, readings).T)) * one.replicates / NOISE**2
        assert normal.loc[number, "gain"] == pytest.approx(
            0.5 * np.linalg.slogdet(np.eye(len(seen)) + seen)[1], rel=1e-6
        )
    one = experiments[0]
    assert (one.times, one.genes, one.replicates) == ((2.0,), ("g1",), 1)
    mean = of(one, readings)[:, 0]
    grid = np.linspace(mean.min() - 8 * NOISE, mean.max() + 8 * NOISE, 20_001)
    mixture = norm.pdf(grid[None], mean[:, None], NOISE).mean(axis=0)
    exact = np.trapezoid(-xlogy(mixture, mixture), grid) - 0.5 * np.log(2 * np.pi * np.e * NOISE**2)
    assert abs(nested.loc[0, "gain"] - exact) < 4 * nested.loc[0, "gain_error"] < 0.2
    assert (nested["gain"] < np.log(len(vectors))).all()


def test_draws_are_an_ensemble_that_knows_its_rates(fitted, experiments):
    raw = members(fitted, 4)[None]
    nothing = np.zeros(raw.shape[:2])
    draws = Draws(fitted.free, raw, nothing, nothing.astype(bool), nothing.astype(int), np.ones(1))
    told = design(draws, experiments, goal="decay:g1", progress=False)
    assert told.goal == ("decay:g1",)
    assert (told.table["goal_gain"] <= told.table["gain"] + 1e-9).all()
    np.testing.assert_allclose(told.table["goal_left"], np.exp(-2 * told.table["goal_gain"]), rtol=1e-8)


def test_rivals_are_told_apart_where_they_disagree(prior, fitted, experiments, courses, slopes):
    """Symmetrised divergence of dense normals."""
    other = posterior_at(fitted.free.with_values(jnp.asarray(fitted.estimate + 0.1)), prior, 1)
    both = np.repeat([fitted.estimate, other.estimate], len(fitted.estimate), axis=0)
    one = experiments[6]
    f, g = of(one, courses(both)[[0, -1]])
    first = slopes(one) @ fitted.covariance() @ slopes(one).T + NOISE**2 * np.eye(len(f))
    count = len(fitted.estimate)
    sharp = [dataclasses.replace(p, eigenvalues=np.full(count, 1e12), basis=np.eye(count)) for p in (fitted, other)]
    sure = disagreement({"one": sharp[0], "other": sharp[1]}, experiments, progress=False).set_index("experiment")
    assert sure.loc[6, "disagreement"] == pytest.approx(np.sum((f - g) ** 2) / NOISE**2, rel=1e-3)
    half = disagreement({"one": fitted, "sure": sharp[0]}, experiments, progress=False).set_index("experiment")
    ratio = first / NOISE**2
    exact = 0.5 * (np.trace(ratio) + np.trace(np.linalg.inv(ratio)) - 2 * len(f))
    assert half.loc[6, "disagreement"] == pytest.approx(exact, rel=2e-3)
    three = disagreement({"one": fitted, "other": other, "sure": sharp[0]}, experiments, progress=False)
    assert (three["least"] <= three["disagreement"]).all()
    assert set(three["pair"]) <= {"one / other", "one / sure", "other / sure"}


def test_budgets_and_prices(fitted, experiments):
    told = design(fitted, experiments, by="gain per cost", budget=20.0, progress=False)
    assert told.batch["total_cost"].iloc[-1] <= 20.0
    assert list(told.table["gain_per_cost"]) == sorted(told.table["gain_per_cost"], reverse=True)
    left = [one.cost for k, one in enumerate(experiments) if k not in set(told.batch["experiment"])]
    assert min(left) + told.batch["total_cost"].iloc[-1] > 20.0
    assert len(repr(told).splitlines()) == 5


def test_what_cannot_be_asked_is_named(fitted, experiments):
    bad = [
        dataclasses.replace(experiments[0], cost=0.0),
        dataclasses.replace(experiments[0], genes=("g9",)),
        dataclasses.replace(experiments[0], times=(3.0, 1.0)),
        dataclasses.replace(experiments[0], treatment=Treatment.parse("h0=0")),
    ]
    with pytest.raises(PinnsimError) as caught:
        design(fitted, bad, progress=False)
    assert {"E_USAGE", "E_GENE_UNKNOWN", "E_TIME_ORDER", "E_PERTURB_GENE"} <= set(caught.value.codes)
    for arguments, text in (
        ({"experiments": []}, "no candidate"),
        ({"goal": "decay:g7"}, "did you mean"),
        ({"batch": 99}, "repeats=True"),
        ({"nested_draws": 10}, "ensemble"),
        ({"budget": -1.0}, "budget"),
        ({"memory_limit": 10.0}, "memory_limit"),
    ):
        with pytest.raises(PinnsimError, match=text):
            design(fitted, **{"experiments": experiments, "progress": False, **arguments})
    with pytest.raises(PinnsimError, match="two or more rival"):
        disagreement({"one": fitted}, experiments)


def test_rounds_say_what_they_need(prior, experiments):
    one = experiments[:1]
    with pytest.raises(PinnsimError) as caught:
        design_rounds(prior, [], one, opening=[], rounds=2, plan=FitPlan())
    assert caught.value.codes == ("E_USAGE",) * 3
    counted = prior_model("abundance", layers=("mrna",), regulation=REGULATION, likelihood={"kind": "student_t"})
    with pytest.raises(PinnsimError, match="normal errors"):
        design_rounds(counted, [counted.center], experiments, opening=one, rounds=1, plan=FitPlan(initial="rest"))


def test_pictures_of_designs(found, tmp_path):
    ax = ranked_bars(found.table, most=6)
    assert len(ax.patches) == 6
    assert ax.get_xlabel() == "expected information (nats)"
    assert ax.patches[0].get_width() == found.table["gain"].iloc[0]
    assert str(found.best.treatment) in ax.get_yticklabels()[0].get_text()
    assert save(ax, tmp_path / "ranked.png").stat().st_size > 5_000
    rows = [(p, r, n, 1.0 / (n + 1 + r), 0.5) for p in ("active", "random") for r in range(3) for n in range(4)]
    courses = policy_courses(pd.DataFrame(rows, columns=["policy", "repeat", "round", "error", "cost"]), simulated=True)
    assert "simulated" in courses.get_title(loc="left")
    assert save(courses, tmp_path / "courses.png").exists()
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        ranked_bars(found.table, value="nothing")


@pytest.mark.parametrize(("count", "batch"), [(5, 2), (6, 3), (4, 8), (1, 1)])
def test_parts_are_the_whole(count, batch):
    items = (jnp.arange(float(count)), jnp.arange(2.0 * count).reshape(count, 2))
    plain = jax.vmap(lambda item: (item[0] * item[1], item[0] + 1.0))(items)
    parts = in_parts(lambda item: (item[0] * item[1], item[0] + 1.0), items, batch)
    for one, other in zip(plain, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_program_for_all_candidates():
    """Other candidates of the same shapes compile nothing anew."""

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def told(view, layout):
        return gains(view, layout, None).gain

    found = []
    for scale, plan in ((1.0, [(0.0, 1.0), (1.0,)]), (2.0, [(0.0, 2.0), (2.0,)]), (3.0, [(0.0, 5.0), (5.0,)])):
        chosen, table = line(plan)
        found.append(told(linear(scale * np.ones((2, 2)), np.ones(2)), layout_of(chosen, table, 0.0)))
    np.testing.assert_allclose(np.asarray(found)[:, 1], 0.5 * np.log1p(2 * np.array([1.0, 4.0, 9.0])), rtol=1e-12)
