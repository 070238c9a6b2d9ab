"""What is held out stays out: nothing but a first sample ever crosses from a held-out condition or block into a fit."""

import equinox as eqx
import jax
import numpy as np
import pandas as pd
import pytest
from problems import measured, parts_of, prior_model, truth_of

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit import (
    Evaluation,
    FitPlan,
    FitResult,
    Prediction,
    cross_condition,
    cultures,
    evaluate,
    held_out_blocks,
    predict_cultures,
    predict_splits,
)
from pinnsim.fit.evaluate import ALL, PHYSICS, PRIOR_ONLY, REAL, SHUFFLED, SHUFFLED_TIME
from pinnsim.judge import neural_part
from pinnsim.parameter import resolve
from pinnsim.score import by_arm, by_time_blocks
from pinnsim.tree import digest, lane, stack

PLAN = FitPlan(starts=1, keep=1, collocation_steps=8, trajectory_steps=2, substeps=2, rtol=1e-4, atol=1e-6)
BLOCKS = [(4.0, 10.0), (20.0, 50.0)]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return measured(truth_of(prior_model("hidden")), noise=0.1)


def crossed(data: Dataset) -> Evaluation:
    return cross_condition(*parts_of("hidden"), data, PLAN, shuffles=1, progress=False)


@pytest.fixture(scope="module")
def whole(data: Dataset) -> Evaluation:
    return crossed(data)


def with_values(data: Dataset, condition: int, moved: np.ndarray) -> Dataset:
    """The data set with `moved`, broadcast to (time, gene), added to one condition."""
    values = np.array(data.values)
    values[condition, 0] += moved
    return eqx.tree_at(lambda d: d.values, data, values)


def predicted(evaluation: Evaluation, variant: str, fitted: str) -> np.ndarray:
    (found,) = [p for p in evaluation.predictions if p.variant == variant and p.fitted == fitted]
    return found.members


def test_readings_of_a_held_out_condition_never_reach_the_fit(data: Dataset, whole: Evaluation) -> None:
    late = np.where(np.arange(data.times.shape[1]) > 0, 100.0, 0.0)[:, None]
    other = crossed(with_values(data, 1, late))
    for network in (0, 1):
        assert digest(other.ensemble("fed", network)) == digest(whole.ensemble("fed", network))
    for variant in (REAL, SHUFFLED, PRIOR_ONLY):
        np.testing.assert_array_equal(predicted(other, variant, "fed"), predicted(whole, variant, "fed"))
    # The change is real: where the condition is fitted it counts.
    assert digest(other.ensemble("warm")) != digest(whole.ensemble("warm"))
    assert digest(other.ensemble(ALL)) != digest(whole.ensemble(ALL))


def test_a_first_sample_matters_to_its_own_prediction_only(data: Dataset, whole: Evaluation) -> None:
    first = np.where(np.arange(data.times.shape[1]) == 0, 0.5, 0.0)[:, None]
    other = crossed(with_values(data, 1, first))
    assert digest(other.ensemble("fed")) == digest(whole.ensemble("fed"))
    for variant in (REAL, SHUFFLED, PRIOR_ONLY):
        assert np.abs(predicted(other, variant, "fed") - predicted(whole, variant, "fed")).max() > 0.01


def test_predictions_say_what_they_are(data: Dataset, whole: Evaluation) -> None:
    kinds = [(p.variant, p.number, p.fitted, p.predicted) for p in whole.predictions]
    ends = [("fed", "warm"), ("warm", "fed")]
    variants = [(REAL, 0), (SHUFFLED, 1), (PRIOR_ONLY, 0)]
    assert sorted(kinds) == sorted((*variant, *pair) for pair in ends for variant in variants)
    for p in whole.predictions:
        row = data.conditions.index(p.predicted)
        np.testing.assert_array_equal(p.truth, np.asarray(data.values)[row, 0])
        np.testing.assert_allclose(p.mean[0], p.truth[0], atol=1e-6)
        assert not p.mask[0].any()
        assert p.mask[1:].all()
    assert whole.problems == (("fed", 0), ("fed", 1), ("warm", 0), ("warm", 1), (ALL, 0))
    assert len(whole.fits.table) == 5


def test_conditions_may_come_in_any_order(data: Dataset, whole: Evaluation) -> None:
    other = crossed(data.select(conditions=["warm", "fed"]))
    for variant in (REAL, SHUFFLED, PRIOR_ONLY):
        for fitted in ("fed", "warm"):
            gap = np.abs(predicted(other, variant, fitted) - predicted(whole, variant, fitted)).max()
            assert gap < 1e-6


def test_shuffled_networks_are_lanes_of_the_same_structure(whole: Evaluation) -> None:
    """Every degree and every regulator's signs are kept; the edges are others."""
    real, shuffled = (lane(whole.ensemble("fed", k), 0).kinetics.promoter for k in (0, 1))
    assert jax.tree.structure(real) == jax.tree.structure(shuffled)

    def degrees(promoter) -> list[list]:
        source, target, sign = (np.asarray(a) for a in (promoter.source, promoter.target, promoter.sign.raw))
        out = [sorted(sign[source == r].tolist()) for r in range(3)]
        return [out, np.bincount(target, minlength=3).tolist()]

    assert degrees(real) == degrees(shuffled)
    assert set(zip(*map(np.ndarray.tolist, map(np.asarray, (real.source, real.target))), strict=True)) != set(
        zip(*map(np.ndarray.tolist, map(np.asarray, (shuffled.source, shuffled.target))), strict=True)
    )
    # Its promoters read the edges of their own network.
    slots, edges = np.asarray(shuffled.slots), len(np.asarray(shuffled.target))
    for gene, row in enumerate(slots):
        assert all(int(np.asarray(shuffled.target)[e]) == gene for e in row if e < edges)


def test_the_prior_alone_predicts_without_any_fit(data: Dataset, whole: Evaluation) -> None:
    prior = prior_model("hidden")
    alone = predict_cultures(stack([prior.center]), cultures(data, prior.center.table, substeps=2), PLAN)
    np.testing.assert_allclose(alone[:, 1], predicted(whole, PRIOR_ONLY, "fed"), rtol=1e-12)
    assert np.abs(alone[:, 1] - predicted(whole, REAL, "fed")).max() > 0.05


def test_a_culture_that_cannot_be_solved_is_nan(data: Dataset) -> None:
    prior = prior_model("hidden")
    kinetics = resolve(prior.center.kinetics)
    fast = eqx.tree_at(lambda m: m.kinetics.decay.raw, prior.center, np.log(1e7 * np.asarray(kinetics.decay)))
    got = predict_cultures(stack([prior.center, fast]), cultures(data, prior.center.table, substeps=2), PLAN)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()


def blocked(data: Dataset) -> list[Prediction]:
    quick = PLAN.model_copy(update={"trajectory_steps": 0})
    return held_out_blocks(*parts_of("hidden"), data, quick, BLOCKS, progress=False)


def test_readings_of_a_held_out_block_never_reach_the_fit(data: Dataset) -> None:
    times = np.asarray(data.times)[0]
    inside = (times >= 20) & (times <= 50)
    before = blocked(data)
    after = blocked(with_values(data, 0, np.where(inside, 100.0, 0.0)[:, None]))
    assert [p.fitted for p in before] == [f"{c} without {b}" for c in ("fed", "warm") for b in ("4-10", "20-50")]
    same = [np.array_equal(a.members, b.members) for a, b in zip(before, after, strict=True)]
    # Only the fit that saw these readings, that without the other block of this condition, has changed.
    assert same == [False, True, True, True]
    np.testing.assert_array_equal(before[1].mask.any(axis=1), inside)
    assert before[1].mask.sum() == inside.sum() * 3


def test_splits_are_fitted_to_their_training_part_and_scored_on_their_test_part(
    data: Dataset, whole: Evaluation
) -> None:
    # Five lanes, as many as `whole` has: nothing compiles anew.
    splits = (*by_arm(data), *by_time_blocks(data, [(4.0, 10.0), (12.0, 20.0), (20.0, 50.0)]))
    found = predict_splits(*parts_of("hidden"), data, PLAN, splits, progress=False)
    assert [name for name, _ in found.problems[:3]] == ["fed -> warm", "warm -> fed", "4-10 min"]
    by_name = {(p.variant, p.fitted, p.predicted): p for p in found.predictions}
    # 2 arms of one tested culture, 3 blocks of two, beside the prior alone.
    assert len(by_name) == len(found.predictions) == 16
    for ends in (("fed", "warm"), ("warm", "fed")):
        mine = by_name[REAL, " -> ".join(ends), ends[1]].members
        np.testing.assert_allclose(mine, predicted(whole, REAL, ends[0]), rtol=1e-6)
    times = np.asarray(data.times)[0]
    block = by_name[REAL, "4-10 min", "warm"]
    np.testing.assert_array_equal(block.mask.any(axis=1), (times >= 4) & (times <= 10))


def test_controls_of_splits_never_see_what_is_tested(data: Dataset, whole: Evaluation) -> None:
    late = np.where(np.arange(data.times.shape[1]) > 0, 100.0, 0.0)[:, None]
    for truth in (data, with_values(data, 1, late)):
        options = {"shuffles": 2, "shuffled_times": 2, "progress": False}
        found = predict_splits(*parts_of("hidden"), truth, PLAN, by_arm(truth)[:1], **options)
        assert [k for _, k in found.problems] == [0, 1, 2, -1, -2]
        members = {(p.variant, p.number): p.members for p in found.predictions}
        np.testing.assert_allclose(members[SHUFFLED, 1], predicted(whole, SHUFFLED, "fed"), rtol=1e-6)
        np.testing.assert_allclose(members[REAL, 0], predicted(whole, REAL, "fed"), rtol=1e-6)
        # Another order of times is another fit.
        assert np.abs(members[SHUFFLED_TIME, 1] - members[REAL, 0]).max() > 0.01
        assert np.abs(members[SHUFFLED_TIME, 1] - members[SHUFFLED_TIME, 2]).max() > 0.01


def test_splits_of_other_data_are_refused(data: Dataset) -> None:
    split = by_arm(data.select(genes=["g0", "g1"]))[0]
    with pytest.raises(PinnsimError, match="E_SAMPLE_UNMATCHED.*fed -> warm"):
        predict_splits(*parts_of("hidden"), data, PLAN, [split], progress=False)
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        predict_splits(*parts_of("hidden"), data, PLAN, [], progress=False)


def test_what_cannot_be_held_out_is_refused(data: Dataset) -> None:
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        crossed(data.select(conditions=["fed"]))
    with pytest.raises(PinnsimError) as caught:
        held_out_blocks(*parts_of("hidden"), data, PLAN, [(6.0, 8.0), (0.0, 0.0), (4.0, 10.0)], progress=False)
    assert caught.value.codes == ("E_TIME_RANGE", "E_TIME_RANGE")
    assert "The block 6-8 holds no reading after the first sample of fed/1, warm/1" in str(caught.value)


def test_a_model_without_its_neural_part_is_a_lane_beside_the_whole_one(data: Dataset, monkeypatch) -> None:
    """Fits and predictions are stood in for: lanes end where their prior is, and predict their gate."""

    def end_at_the_prior(priors: list, training: list, plan: FitPlan, **_: object) -> FitResult:
        count = len(priors)
        assert len(training) == count
        models = stack([prior.center for prior in priors])
        return FitResult(models, np.zeros(count), {}, np.arange(count), pd.DataFrame(), False)

    def their_gate(models, data, plan) -> np.ndarray:
        gate = np.asarray(jax.nn.sigmoid(models.kinetics.residual.gate.raw))
        return gate[:, None, None, None] + np.zeros(data.readings.shape)

    monkeypatch.setattr(evaluate, "fit_groups", end_at_the_prior)
    monkeypatch.setattr(evaluate, "predict_cultures", their_gate)
    parts = parts_of("hidden", residual={"kind": "mlp", "width": 2, "gate": 0.25})
    found = cross_condition(*parts, data, PLAN, physics=True, progress=False)
    assert found.problems == (("fed", 0), ("fed", -1), ("warm", 0), ("warm", -1), (ALL, 0), (ALL, -1))
    gates = {(p.variant, p.fitted): float(p.mean.max()) for p in found.predictions}
    for fitted in ("fed", "warm"):
        assert gates[REAL, fitted] == pytest.approx(0.25)
        assert gates[PHYSICS, fitted] == 0.0
    trial = neural_part(found, data)
    assert [part.direction for part in trial] == ["fed -> warm", "warm -> fed"]
    assert all(part.earned for part in trial), "readings are far above both, and the whole model is nearer"
