"""Scores, intervals, coverage, controls and the table: against closed forms and against their own promises."""

import dataclasses
import json

import numpy as np
import pytest

from pinnsim.errors import PinnsimError
from pinnsim.score import (
    ROLL_OUT,
    Arm,
    Comparison,
    Entry,
    compare,
    control_test,
    coverage_of_draws,
    coverage_of_normal,
    difference_interval,
    r_change,
    rmse,
    rmse_by_time,
    rmse_interval,
    score_table,
    skill,
    skill_interval,
    stacked,
)
from pinnsim.score.metrics import interval

ROWS, GENES = 6, 40


def comparison(error, seed=0, mask=None):
    """A comparison whose prediction errs by `error` (row, gene)."""
    observed = np.random.default_rng(seed).normal(size=np.shape(error)) * 2.0
    every = np.ones(observed.shape, dtype=bool) if mask is None else mask
    times = np.arange(1.0, 1.0 + len(observed))
    return Comparison(ROLL_OUT, times, observed + error, observed, np.zeros_like(observed), every)


def noise(seed, scale=1.0, shape=(ROWS, GENES)):
    return scale * np.random.default_rng(seed).normal(size=shape)


def test_scores_of_known_errors():
    error = np.array([[3.0, -4.0], [0.0, 0.0]])
    one = comparison(error)
    assert rmse(one) == pytest.approx(2.5)
    np.testing.assert_allclose(rmse_by_time(one)[1], [np.sqrt(12.5), 0.0])
    masked = comparison(error, mask=np.array([[True, False], [True, True]]))
    assert rmse(masked) == pytest.approx(np.sqrt(3.0))
    assert skill(0.5, 1.0) == 0.5
    assert skill(2.0, 1.0) == -1.0
    assert np.isnan(skill(0.0, 0.0))


def test_correlation_of_change_ignores_levels_and_stands_still_at_zero():
    arm = Arm.of([0.0, 1.0, 2.0], [[10.0, 0.0], [11.0, -1.0], [12.0, -3.0]])
    change = arm.values - arm.values[0]
    assert r_change(compare(arm.values[0] + 0.3 * change, arm)) == pytest.approx(1.0)
    assert r_change(compare(arm.values[0] - change, arm)) == pytest.approx(-1.0)
    assert r_change(compare(np.repeat(arm.values[:1], 3, axis=0), arm)) == 0.0


def test_mask_and_first_sample_are_respected():
    values = np.arange(12.0).reshape(4, 3)
    mask = np.ones((4, 3), dtype=bool)
    mask[0, 1], mask[2, 2] = False, False
    arm = Arm.of(np.arange(4.0), values, mask)
    predicted = np.where(mask, values + 1.0, 1e9)
    predicted[0], predicted[:, 1] = -1e9, 1e9
    scored = compare(predicted, arm)
    assert scored.mask.sum() == 5
    assert scored.genes == 2
    assert rmse(scored) == pytest.approx(1.0)
    # With a start given, the gene without a first sample is scored too.
    assert compare(predicted, arm, start=np.zeros(3)).mask.sum() == 8


def test_failed_predictions_are_not_scored():
    broken = np.zeros((2, 2))
    broken[1, 0] = np.nan
    with pytest.raises(PinnsimError, match="E_DATA_NONFINITE: 1 predicted .*time 2, gene number 0"):
        comparison(broken)
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        comparison(np.zeros((2, 2)), mask=np.zeros((2, 2), dtype=bool))
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        compare(np.zeros((2, 3)), Arm.of([0.0, 1.0], np.zeros((2, 2))))


def test_scores_do_not_depend_on_the_order_of_genes_or_courses():
    one = comparison(noise(1))
    order = np.random.default_rng(2).permutation(GENES)
    parts = {name: getattr(one, name)[:, order] for name in ("predicted", "observed", "start", "mask")}
    other = dataclasses.replace(one, **parts)
    assert rmse(other) == pytest.approx(rmse(one), rel=1e-12)
    assert r_change(other) == pytest.approx(r_change(one), rel=1e-12)
    both = stacked([one, comparison(noise(3), seed=4)])
    assert rmse(both) ** 2 == pytest.approx((rmse(one) ** 2 + rmse(comparison(noise(3), seed=4)) ** 2) / 2)


def test_intervals_are_reproducible_and_contain_the_estimate():
    one, two = comparison(noise(1)), comparison(noise(2, 1.3))
    assert rmse_interval(one) == rmse_interval(one)
    assert rmse_interval(one) != rmse_interval(one, seed=1)
    assert rmse_interval(one).lo < rmse(one) < rmse_interval(one).hi
    narrow, wide = rmse_interval(one, level=0.5), rmse_interval(one, level=0.99)
    assert wide.lo < narrow.lo < narrow.hi < wide.hi
    assert difference_interval(one, two).hi < 0 < skill_interval(one, two).lo
    assert skill_interval(one, two).value == pytest.approx(1 - rmse(one) / rmse(two))
    assert difference_interval(one, one) == (0.0, 0.0, 0.0)


def test_an_interval_leaves_out_equal_tails():
    assert interval(0.5, np.linspace(0.0, 1.0, 1001), level=0.9) == pytest.approx((0.5, 0.05, 0.95))
    with pytest.raises(PinnsimError, match="E_USAGE"):
        interval(0.5, np.linspace(0.0, 1.0, 5), level=95.0)


def test_pairing_narrows_the_interval_of_a_difference():
    # Genes differ much in how hard they are, and the model is a little better on each of them.
    hard = noise(1) * np.geomspace(0.1, 10.0, GENES)
    model, baseline = comparison(0.95 * hard), comparison(hard)
    paired = difference_interval(model, baseline)
    assert paired.hi < 0
    assert rmse_interval(model).hi > rmse_interval(baseline).lo
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        difference_interval(model, comparison(hard, seed=9))


def test_bootstrap_intervals_cover_as_often_as_they_say():
    # True RMSE 1; 120 genes x 4 rows of unit normal errors. 300 repeats: 95 % +/- 1.3 % (sd), percentile intervals
    # run a little low.
    trials = 300
    inside = 0
    for seed in range(trials):
        lo, hi = rmse_interval(comparison(noise(seed, shape=(4, 120))), draws=400, seed=seed)[1:]
        inside += lo <= 1.0 <= hi
    assert 0.90 <= inside / trials <= 0.985


def test_coverage_of_calibrated_and_overconfident_forecasts():
    rng = np.random.default_rng(5)
    mean, sd = rng.normal(size=(20, 300)), np.exp(rng.normal(size=(20, 300)))
    observed = mean + sd * rng.normal(size=mean.shape)
    honest = coverage_of_normal(mean, sd, observed)
    np.testing.assert_allclose(honest.measured, honest.nominal, atol=0.02)
    assert (honest.lo <= honest.measured).all()
    assert (honest.measured <= honest.hi).all()
    boastful = coverage_of_normal(mean, 0.5 * sd, observed)
    assert (boastful.hi < boastful.nominal).all()
    assert all("too narrow" in line for line in boastful.sentences())
    np.testing.assert_allclose(boastful.width, 0.5 * honest.width)
    # Eight draws cannot make a 95 % interval, and do make calibrated 50 % ones.
    draws = mean + sd * rng.normal(size=(8, *mean.shape))
    few = coverage_of_draws(draws, observed, levels=(0.5, 7 / 9))
    np.testing.assert_allclose(few.measured, [0.5, 7 / 9], atol=0.02)
    with pytest.raises(PinnsimError, match="E_USAGE: 8 draws .* give 39"):
        coverage_of_draws(draws, observed)
    mask = np.zeros(mean.shape, dtype=bool)
    mask[:, 0] = True
    wrong = np.where(mask, mean, 1e9)
    assert coverage_of_normal(mean, sd, wrong, mask).measured.tolist() == [1.0] * 4


def test_controls_that_fail_and_controls_that_do_not():
    base = noise(0)
    model = comparison(base)
    worse = control_test(model, [comparison(base + noise(seed, 0.8)) for seed in range(1, 20)])
    assert worse.worse
    assert worse.p_rank == pytest.approx(1 / 20)
    expected = np.mean(worse.controls**2) - worse.model**2
    assert worse.mse_difference.value == pytest.approx(expected)
    assert "is worse than the model, beyond" in worse.sentence()
    # An unrelated error of the same size.
    same = control_test(model, [comparison(noise(seed)) for seed in range(1, 20)])
    assert not same.worse
    assert same.p_rank > 0.05
    assert "NOT worse" in same.sentence()
    better = control_test(model, [comparison(0.5 * base)])
    assert "BETTER" in better.sentence()
    assert better.p_rank == 1.0
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        control_test(model, [])


@pytest.fixture(scope="module")
def table():
    base = noise(0)
    entries = []
    for direction, scale in (("a -> b", 0.6), ("b -> a", 1.5)):
        entries += [
            Entry.of("bad baseline", "baseline", direction, comparison(2.0 * base)),
            Entry.of("good baseline", "baseline", direction, comparison(base)),
            Entry.of("neural ODE", "model", direction, comparison(scale * base)),
            Entry.of(
                "shuffled network",
                "control",
                direction,
                [comparison(scale * base + noise(seed, 0.5)) for seed in (1, 2, 3)],
            ),
        ]
    return score_table(entries, data="toy", simulated=True, draws=500)


def test_table_orders_rows_and_finds_the_best_baseline(table):
    assert [row.name for row in table.rows[:4]] == ["neural ODE", "shuffled network", "good baseline", "bad baseline"]
    assert table.best_baseline("a -> b", ROLL_OUT) == "good baseline"
    model, control, good, bad = table.rows[:4]
    assert model.skill == pytest.approx(0.4)
    assert model.skill_lo == pytest.approx(0.4)
    assert bad.skill == pytest.approx(-1.0)
    assert (good.skill, good.difference) == (0.0, 0.0)
    assert (control.against, control.n_controls) == ("neural ODE", 3)
    assert control.p_rank == 0.25
    assert (model.n_genes, model.n_values) == (GENES, GENES * ROWS)


def test_table_says_who_won_in_plain_words(table):
    text = " ".join(table.to_text(width=400).split())
    assert "a -> b, roll-out: model 'neural ODE' beats the best baseline 'good baseline', beyond" in text
    assert "b -> a, roll-out: model 'neural ODE' loses to 'good baseline', beyond" in text
    assert "control 'shuffled network' is worse than the model, beyond its bootstrap interval" in text
    assert "SIMULATED" in text
    assert "* good baseline" in text
    assert "R2" not in text
    near = score_table(
        [
            Entry.of("m", "model", "x", comparison(noise(1))),
            Entry.of("b", "baseline", "x", comparison(noise(2))),
        ]
    )
    assert "within the bootstrap interval: not told apart" in near.verdicts[0]


def test_table_as_json_and_frame(table):
    stored = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert stored["simulated"] is True
    assert stored["rows"][2]["p_rank"] is None
    assert len(stored["verdicts"]) == 4
    frame = table.to_frame()
    assert frame.shape[0] == 8
    assert frame.loc[0, "rmse"] == table.rows[0].rmse


def test_entries_that_make_no_table():
    one = comparison(noise(0))
    with pytest.raises(PinnsimError, match="did you mean 'baseline'") as caught:
        Entry.of("x", "base line", "a", [one, one])
    assert caught.value.codes == ("E_USAGE", "E_USAGE")
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        score_table([])
    with pytest.raises(PinnsimError, match="entered twice"):
        score_table([Entry.of("x", "model", "a", one), Entry.of("x", "baseline", "a", one)])
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        score_table([Entry.of("x", "model", "a", one), Entry.of("y", "baseline", "a", comparison(noise(0), seed=8))])
    alone = score_table([Entry.of("x", "model", "a", one)])
    assert alone.verdicts == ()
    assert np.isnan(alone.rows[0].skill)
    assert "x" in alone.to_text()
