"""Baselines against closed-form courses and the numbers known for the carbon shift; splits that leak are refused."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg

from pinnsim.data import carbon_shift
from pinnsim.data.dataset import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.score import (
    AR1,
    ONE_STEP,
    Arm,
    Copy,
    GeneRelaxation,
    LinearODE,
    MeanOfArms,
    Persistence,
    Relaxation,
    Split,
    arms,
    baseline_entries,
    by_arm,
    by_condition,
    by_time_blocks,
    evaluate,
    one_step,
    r_change,
    rmse,
    roll_out,
    standard_baselines,
)

TIMES = np.array([0.0, 5, 10, 15, 25, 45, 60, 90, 120, 150])
TAU = np.array([2.0, 7.0, 21.0, 60.0])
LEVEL = np.array([3.0, 10.0, -2.0, 5.0])
START = np.array([8.0, 4.0, 1.0, 5.5])


def relaxing(times, start=START, level=LEVEL, tau=TAU):
    return level + (start - level) * np.exp(-(times - times[0])[:, None] / tau)


@pytest.fixture(scope="module")
def shift():
    return carbon_shift()[0]


@pytest.fixture(scope="module")
def forward(shift):
    return {split.name: split for split in by_arm(shift)}


# Half of the last digit that PEERS prints, and a hair for the halves themselves.
HALF_DIGIT = 0.0005 + 1e-6


@pytest.mark.parametrize(
    ("baseline", "malate_glucose", "glucose_malate"),
    [
        (Persistence(), (1.665, 0.0), (1.484, 0.0)),
        (Relaxation(20.0, 60.0), (0.987, 0.807), (1.194, 0.598)),
        (GeneRelaxation(60.0), (0.884, 0.853), (1.226, 0.565)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_known_numbers_of_the_carbon_shift(forward, baseline, malate_glucose, glucose_malate):
    for name, known in (("glc_mal -> mal_glc", malate_glucose), ("mal_glc -> glc_mal", glucose_malate)):
        comparison = evaluate(baseline, forward[name])
        assert comparison.mask.sum() == 121 * 9
        assert rmse(comparison) == pytest.approx(known[0], abs=HALF_DIGIT)
        assert r_change(comparison) == pytest.approx(known[1], abs=HALF_DIGIT)


def test_the_defaults_are_the_protocol(forward):
    split = forward["glc_mal -> mal_glc"]
    named = {baseline.name: baseline for baseline in standard_baselines("min")}
    for given, default in (
        (Relaxation(20.0, 60.0), "relaxation (tau 20)"),
        (GeneRelaxation(60.0), GeneRelaxation().name),
    ):
        assert rmse(evaluate(named[default], split)) == rmse(evaluate(given, split))
    assert Relaxation(20.0 / 60.0) in standard_baselines("h")


def test_time_constants_of_known_exponentials_are_recovered():
    far = np.concatenate([TIMES, [400.0, 800.0]])
    arm = Arm.of(far, relaxing(far))
    # The late mean is the level to within exp(-400/60); what remains is the grid, 0.4 % apart.
    learned = GeneRelaxation(late=400.0, shortest=1.0, longest=200.0, count=1300).time_constants([arm])
    np.testing.assert_allclose(learned, TAU, rtol=5e-3)
    coarse = GeneRelaxation(late=400.0, shortest=1.0, longest=200.0).time_constants([arm])
    assert (np.abs(np.log(coarse / TAU)) <= np.log(200.0) / 59 / 2 + 5e-3).all()


def test_autoregression_is_exact_on_its_own_courses():
    level, tau = AR1().level_and_tau([Arm.of(TIMES, relaxing(TIMES))])
    np.testing.assert_allclose(tau, TAU, rtol=1e-5)
    np.testing.assert_allclose(level, LEVEL, rtol=1e-5)
    other = Arm.of(TIMES + 1.0, relaxing(TIMES + 1.0, start=LEVEL + [2.0, -1.0, 0.0, 3.0]))
    predict = AR1().fit([Arm.of(TIMES, relaxing(TIMES))])
    assert rmse(roll_out(predict, other)) < 1e-5
    assert rmse(one_step(predict, other)) < 1e-5


def test_autoregression_pools_noisy_arms():
    rng = np.random.default_rng(3)
    noisy = [
        Arm.of(TIMES, relaxing(TIMES, start=START + shift) + 0.05 * rng.normal(size=(10, 4)), name=str(shift))
        for shift in (-6.0, -3.0, 3.0, 6.0)
    ]
    truth = Arm.of(TIMES, relaxing(TIMES))
    assert rmse(roll_out(AR1().fit(noisy), truth)) < 0.1


MATRIX = np.array([[-0.3, 0.2, 0.0], [-0.2, -0.3, 0.0], [0.1, 0.0, -0.1]])
CONSTANT = np.array([1.0, 0.5, -0.2])


def linear_course(times, start):
    rest = -np.linalg.solve(MATRIX, CONSTANT)
    return rest + np.stack([scipy.linalg.expm(MATRIX * t) for t in times]) @ (np.array(start) - rest)


@pytest.mark.parametrize("candidates", [{}, {"penalties": (0.0,), "taus": (np.inf,)}], ids=["chosen", "fixed"])
def test_ridge_recovers_a_linear_equation(candidates):
    times = np.linspace(0.0, 12.0, 121)
    fitted = [Arm.of(times, linear_course(times, s), name=str(s)) for s in ([5.0, 0.0, 2.0], [0.0, 4.0, -1.0])]
    equation = LinearODE(**candidates).equation(fitted)
    # Trapezoid steps of h err by (h |A|)^2 / 12, here 2e-4 relative.
    np.testing.assert_allclose(equation.matrix, MATRIX, atol=1e-3)
    np.testing.assert_allclose(equation.constant, CONSTANT, atol=3e-3)
    new = np.array([0.0, 1.0, 7.5, 30.0])
    truth = Arm.of(new, linear_course(new, [-3.0, 2.0, 6.0]))
    assert rmse(roll_out(LinearODE(**candidates).fit(fitted), truth)) < 5e-3


def test_low_rank_prediction_is_the_whole_equation():
    rng = np.random.default_rng(0)
    fitted = Arm.of(TIMES, rng.normal(size=(10, 30)))
    equation = LinearODE(penalties=(0.1,), taus=(0.2,)).equation([fitted])
    sample = rng.normal(size=30)
    whole = np.zeros((31, 31))
    whole[:30, :30], whole[:30, 30] = equation.matrix, equation.constant
    expected = (scipy.linalg.expm(whole * 7.0) @ np.append(sample, 1.0))[:30]
    np.testing.assert_allclose(equation.predict(sample, np.array([3.0, 10.0]))[1], expected, atol=1e-10)
    assert equation.growth() == pytest.approx(np.linalg.eigvals(equation.matrix).real.max(), abs=1e-10)


def test_a_heavy_penalty_leaves_each_gene_to_forget_by_itself():
    equation = LinearODE(penalties=(1e9,), taus=(0.2,)).equation([Arm.of(TIMES, relaxing(TIMES))])
    np.testing.assert_allclose(equation.matrix, -np.eye(4) / 30.0, atol=1e-6)


def test_an_equation_that_runs_away_is_passed_over():
    growing = Arm.of(TIMES, relaxing(TIMES, level=np.zeros(4), tau=np.full(4, -40.0)))
    free = LinearODE(penalties=(1e-6,), taus=(np.inf,)).equation([growing])
    assert free.growth() * 150.0 > 1.0
    assert LinearODE().equation([growing]).growth() * 150.0 <= 1.0


def test_copies_and_means_at_times_never_seen():
    first = Arm.of([0.0, 10.0, 20.0], [[0.0, 5.0], [2.0, 5.0], [2.0, 9.0]], name="first")
    second = Arm.of([0.0, 20.0], [[10.0, 0.0], [14.0, 0.0]], name="second")
    sample, times = np.array([1.0, 4.0]), np.array([0.0, 5.0, 15.0, 99.0])
    near = Copy().fit([first, second])(sample, times)
    np.testing.assert_allclose(near, [[1, 4], [1, 5], [2, 7], [2, 9]])
    changed = Copy(change=True).fit([second, first])(sample, times)
    np.testing.assert_allclose(changed, [[1, 4], [2, 4], [3, 6], [3, 8]])
    mean = MeanOfArms().fit([first, second])(sample, times)
    np.testing.assert_allclose(mean, [[1, 4], [6, 2.5], [7.5, 3.5], [8, 4.5]])


@pytest.mark.parametrize("baseline", standard_baselines(), ids=lambda baseline: baseline.name)
class TestEveryBaseline:
    """What holds for all of them, on a part of the real data."""

    def test_starts_from_the_sample_and_stays_finite(self, shift, baseline):
        predict = baseline.fit(arms(shift.select(genes=shift.genes[:12])))
        sample = np.linspace(6.0, 14.0, 12)
        course = predict(sample, np.array([2.0, 3.5, 77.0, 400.0]))
        assert course.shape == (4, 12)
        assert np.isfinite(course).all()
        np.testing.assert_array_equal(course[0], sample)

    def test_does_not_depend_on_the_order_of_genes(self, shift, baseline):
        order = np.random.default_rng(1).permutation(15)
        genes = shift.genes[:15]
        one, other = (by_arm(shift.select(genes=g))[0] for g in (genes, [genes[i] for i in order]))
        straight, permuted = evaluate(baseline, one), evaluate(baseline, other)
        np.testing.assert_allclose(permuted.predicted, straight.predicted[:, order], atol=1e-7)
        assert rmse(permuted) == pytest.approx(rmse(straight), abs=1e-8)

    def test_never_reads_what_is_masked(self, shift, baseline):
        known = arms(shift.select(genes=shift.genes[:10]))[0]
        mask = known.mask.copy()
        mask[4, :5], mask[7:, 2], mask[:, 9], mask[5] = False, False, False, False
        low, high = (Arm(known.name, known.times, np.where(mask, known.values, junk), mask) for junk in (np.nan, 1e6))
        sample = np.linspace(6.0, 14.0, 10)
        a, b = (baseline.fit([arm])(sample, TIMES) for arm in (low, high))
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a[:, 9], np.full(10, sample[9]))

    def test_does_not_depend_on_the_zero_or_unit_of_time(self, shift, baseline):
        given = isinstance(baseline, Relaxation)
        other = dataclasses.replace(baseline, tau=baseline.tau * 60.0) if given else baseline
        known, truth = arms(shift.select(genes=shift.genes[:10]))

        def later(arm):
            return Arm(arm.name, arm.times * 60.0 + 1000.0, arm.values, arm.mask)

        straight = baseline.fit([known])(truth.values[0], truth.times)
        moved = other.fit([later(known)])(truth.values[0], later(truth).times)
        np.testing.assert_allclose(moved, straight, atol=1e-6)

    def test_has_no_hidden_look_at_the_predicted_arm(self, shift, baseline):
        small = shift.select(genes=shift.genes[:10])
        split = by_arm(small)[0]
        falsified = split.test.values.copy()
        falsified[:, :, 1:] = falsified[:, :, 1:] ** 2
        other = dataclasses.replace(split.test, values=falsified)
        honest, blind = evaluate(baseline, split), evaluate(baseline, Split("falsified", split.train, other))
        np.testing.assert_array_equal(honest.predicted, blind.predicted)


def test_one_step_is_easier_than_roll_out_and_kept_apart(forward):
    split = forward["glc_mal -> mal_glc"]
    easy = evaluate(Persistence(), split, ONE_STEP)
    assert easy.mode == ONE_STEP
    assert rmse(easy) < 0.5 * rmse(evaluate(Persistence(), split))
    truth = arms(split.test)[0]
    assert rmse(easy) == pytest.approx(np.sqrt(np.mean(np.diff(truth.values, axis=0) ** 2)))


def test_one_step_is_scored_where_both_readings_exist():
    mask = np.ones((4, 2), dtype=bool)
    mask[1, 0] = False
    arm = Arm.of(np.arange(4.0), [[1.0, 1.0], [99.0, 2.0], [3.0, 3.0], [4.0, 5.0]], mask)
    scored = one_step(Persistence().fit([arm]), arm)
    np.testing.assert_array_equal(scored.mask, [[False, True], [False, True], [True, True]])
    assert rmse(scored) == pytest.approx(np.sqrt((1 + 1 + 1 + 4) / 4))


def test_splits_by_condition_and_arm(shift):
    assert [split.name for split in by_condition(shift)] == ["mal_glc -> glc_mal", "glc_mal -> mal_glc"]
    three = Dataset.build(
        np.random.default_rng(0).normal(size=(3, 1, 4, 2)),
        np.arange(4.0),
        ["a", "b"],
        ["x", "y", "z"],
        time_unit="h",
        scale="log2",
    )
    assert [split.name for split in by_condition(three)] == ["y + z -> x", "x + z -> y", "x + y -> z"]
    assert len(by_arm(three)) == 6
    assert len(baseline_entries(by_condition(three)[0])) == len(standard_baselines())


def test_time_blocks_are_predicted_from_the_first_sample(shift):
    (split,) = by_time_blocks(shift, {"early": (10.0, 25.0)})
    assert split.name == "early"
    comparison = evaluate(Persistence(), split)
    assert set(comparison.times[comparison.mask.any(axis=1)]) == {10.0, 15.0, 25.0}
    truth = np.concatenate([arm.values[[2, 3, 4]] - arm.values[0] for arm in arms(shift)])
    assert rmse(comparison) == pytest.approx(np.sqrt(np.mean(truth**2)))
    # Linear interpolation of a course between its neighbours beats standing still.
    assert rmse(evaluate(Copy(), split)) < 0.5 * rmse(comparison)
    with pytest.raises(PinnsimError, match="E_USAGE"):
        evaluate(Persistence(), split, ONE_STEP)


def test_leaks_are_refused(shift):
    train, test = shift.hold_out([(10.0, 25.0)])
    Split("clean", train, test)
    with pytest.raises(PinnsimError, match=r"E_SPLIT_LEAK: 'all': 6 moments .*glc_mal at 10 min"):
        Split("all", shift, test)
    # One replicate against another at the same moments is a leak as well.
    one, two = (np.zeros_like(shift.mask), np.zeros_like(shift.mask))
    one[:, 0], two[:, 1] = True, True
    halves = [train._masked(part) for part in (one, two)]
    with pytest.raises(PinnsimError, match="E_SPLIT_LEAK"):
        Split("replicates", *halves)


def test_blocks_that_cannot_be_predicted_are_refused_together(shift):
    with pytest.raises(PinnsimError) as caught:
        by_time_blocks(shift, {"start": (0.0, 5.0), "nothing": (200.0, 300.0), "fine": (10.0, 15.0)})
    assert caught.value.codes == ("E_TIME_RANGE",) * len(caught.value.codes)
    assert "'start'" in str(caught.value)
    assert "[200, 300]" in str(caught.value)
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        by_arm(shift.select(conditions=["glc_mal"]))


def test_arms_are_checked():
    with pytest.raises(PinnsimError) as caught:
        Arm("bad", np.array([0.0, 0.0]), np.array([[1.0], [np.nan]]), np.ones((2, 1), dtype=bool))
    assert set(caught.value.codes) == {"E_TIME_ORDER", "E_DATA_NONFINITE"}
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        Arm.of([0.0, 1.0], np.zeros((3, 2)))
    with pytest.raises(PinnsimError, match="E_TIME_RANGE"):
        Relaxation(20.0, 1000.0).fit([Arm.of(TIMES, relaxing(TIMES))])
    with pytest.raises(PinnsimError, match="E_TIME_FEW"):
        AR1().fit([Arm.of([0.0], [[1.0]])])
