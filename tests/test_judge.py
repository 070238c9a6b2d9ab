"""Judgement: predictions are scored beside baselines and controls, in both directions, and intervals are covered."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pandas as pd
import pytest
from problems import dataset_of, prior_model

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit import Evaluation, FitResult, Prediction
from pinnsim.fit.evaluate import PHYSICS, PRIOR_ONLY, REAL, SHUFFLED, without_neural_part
from pinnsim.fit.free import free_vector
from pinnsim.judge import block_score, coverage, judge, neural_part
from pinnsim.parameter import resolve

COUNT, SD = 60, 0.1
TIMES = tuple(np.linspace(0.0, 60.0, COUNT).tolist())
ENDS = [("fed", "warm"), ("warm", "fed")]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Both arms relax to one end, with different rates per gene; noise keeps the baselines from being perfect."""
    t = np.array(TIMES)[None, :, None]
    rate, jump = np.array([0.05, 0.1, 0.3]), np.array([[3.0, -2.0, 1.0], [-1.0, 2.0, 4.0]])[:, None]
    noise = 0.2 * np.random.default_rng(2).standard_normal((2, COUNT, 3))
    return dataset_of(12 + jump * np.exp(-rate * t) + noise, TIMES)


def prediction(data: Dataset, variant: str, number: int, ends: tuple[str, str], members: np.ndarray) -> Prediction:
    row = data.conditions.index(ends[1])
    mask = np.ones((COUNT, 3), bool)
    mask[0] = False
    truth = np.asarray(data.values)[row, 0]
    return Prediction(variant, number, *ends, np.asarray(data.times)[row], truth, mask, truth + members)


def evaluation(data: Dataset, errors: dict[str, list[float]]) -> Evaluation:
    """Predictions with a constant error each, one per shuffle, both directions."""
    prior = prior_model("hidden", likelihood={"kind": "gaussian", "sd": SD})
    found = [
        prediction(data, variant, k, ends, np.full((1, COUNT, 3), error))
        for ends in ENDS
        for variant, list_of in errors.items()
        for k, error in enumerate(list_of)
    ]
    empty = FitResult(prior.center, np.zeros(1), {}, np.zeros(1, int), pd.DataFrame(), False)
    return Evaluation(tuple(found), empty, (("fed", 0), ("warm", 0)), prior)


def test_models_stand_beside_controls_and_baselines(data: Dataset) -> None:
    table = judge(evaluation(data, {REAL: [0.01], PRIOR_ONLY: [3.0], SHUFFLED: [0.5, 0.7]}), data, name="relaxing")
    assert table.data == "relaxing"
    assert table.simulated
    assert {row.direction for row in table.rows} == {"fed -> warm", "warm -> fed"}
    for rows in table.groups().values():
        by_name = {row.name: row for row in rows}
        assert by_name[REAL].kind == "model"
        assert by_name[REAL].rmse == pytest.approx(0.01)
        assert by_name[PRIOR_ONLY].kind == by_name[SHUFFLED].kind == "control"
        assert by_name[SHUFFLED].rmse == pytest.approx(np.sqrt((0.5**2 + 0.7**2) / 2))
        assert by_name[SHUFFLED].n_controls == 2
        assert sum(row.kind == "baseline" for row in rows) >= 5
        persistence = by_name["persistence"]
        truth = np.asarray(data.values)[data.conditions.index(rows[0].direction.split(" -> ")[1]), 0]
        assert persistence.rmse == pytest.approx(np.sqrt(((truth[1:] - truth[0]) ** 2).mean()))
    assert any("beats" in verdict for verdict in table.verdicts)


def test_losing_is_said(data: Dataset) -> None:
    """A model that is worse than trivial, and no better than its control."""
    table = judge(evaluation(data, {REAL: [2.0], SHUFFLED: [0.1]}), data)
    assert any("loses" in verdict for verdict in table.verdicts)
    assert any("is BETTER than the model" in verdict for verdict in table.verdicts)


def test_a_failed_prediction_is_not_scored_on_what_is_left(data: Dataset) -> None:
    with pytest.raises(PinnsimError, match="E_DATA_NONFINITE"):
        judge(evaluation(data, {REAL: [np.nan]}), data)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_intervals_count_the_members_spread_and_the_measurement(data: Dataset, spread: float) -> None:
    """Errors drawn as the intervals assume are covered as often as they say."""
    found, rng = evaluation(data, {REAL: [0.0]}), np.random.default_rng(3)
    drawn = []
    for number in range(40):
        members = spread * rng.standard_normal((12, COUNT, 3))
        p = prediction(data, REAL, number, ENDS[number % 2], members)
        noise = np.hypot(SD, members.std(axis=0)) * rng.standard_normal((COUNT, 3))
        drawn.append(Prediction(**{**vars(p), "truth": p.members.mean(axis=0) + noise}))
    held = coverage(found, drawn)
    np.testing.assert_allclose(held.measured, held.nominal, atol=0.02)
    too_sure = coverage(found, [Prediction(**{**vars(p), "truth": p.truth + 2 * (p.truth - p.mean)}) for p in drawn])
    assert (too_sure.measured < too_sure.nominal - 0.1).all()


def test_block_scores_pool_blocks_and_say_how_sure(data: Dataset) -> None:
    rng = np.random.default_rng(1)
    parts = []
    for number, sd in enumerate((0.2, 0.4)):
        p = prediction(data, REAL, number, ENDS[0], sd * rng.standard_normal((1, COUNT, 3)))
        mask = np.zeros_like(p.mask)
        mask[10 * number + 1 : 10 * number + 11] = True
        parts.append(Prediction(**{**vars(p), "mask": mask}))
    value, error = block_score(parts)
    squares = np.concatenate([((p.mean - p.truth)[p.mask]) ** 2 for p in parts])
    assert value == pytest.approx(np.sqrt(squares.mean()))
    assert 0 < error < 0.1


def test_the_neural_part_is_on_trial_by_held_out_skill(data: Dataset) -> None:
    """Errors constant over genes leave a bootstrap interval without width: the verdict is certain."""
    found = neural_part(evaluation(data, {REAL: [0.1], PHYSICS: [0.3]}), data)
    assert [part.direction for part in found] == ["fed -> warm", "warm -> fed"]
    for part in found:
        assert part.earned
        assert part.saved.value == pytest.approx(0.2)
        assert "earns its place" in part.sentence()
        assert "evidence" not in part.sentence()
    worse = neural_part(evaluation(data, {REAL: [0.3], PHYSICS: [0.1]}), data)[0]
    assert not worse.earned
    assert "does harm" in worse.sentence()
    same = neural_part(evaluation(data, {REAL: [0.3], PHYSICS: [0.3]}), data)[0]
    assert "does not earn its place" in dataclasses.replace(same, evidence=-3.0).sentence()
    assert "3.0 nats against it" in dataclasses.replace(same, evidence=-3.0).sentence()
    with pytest.raises(PinnsimError, match="E_USAGE.*physics=True"):
        neural_part(evaluation(data, {REAL: [0.1]}), data)


def test_without_its_neural_part_a_model_is_the_same_but_for_it() -> None:
    prior = prior_model("hidden", residual={"kind": "mlp", "width": 3})
    shut = without_neural_part(prior)
    assert jax.tree.structure(shut) == jax.tree.structure(prior)
    assert float(resolve(shut.center).kinetics.residual.gate) == 0.0
    residual = [leaf for leaf in jax.tree.leaves(shut.spread.kinetics.residual) if eqx.is_inexact_array(leaf)]
    assert all(not np.asarray(leaf).any() for leaf in residual)
    names = set(free_vector(prior.center, prior).names) - set(free_vector(shut.center, shut).names)
    assert names
    assert all(name.startswith("kinetics/residual") for name in names)
    with pytest.raises(PinnsimError, match="E_USAGE.*no neural part"):
        without_neural_part(prior_model("hidden"))
