"""Baselines of the experiment with unseen perturbations: what they scale, sum up and learn; and its cells' valleys."""

import equinox as eqx
import numpy as np
import pandas as pd
import pytest

from pinnsim.data import Dataset
from pinnsim.experiment import load_experiment, read_plan
from pinnsim.fit import FitPlan, cultures
from pinnsim.fit.objective import trajectory_readings
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.simulate import Outcome

unseen = load_experiment("unseen_perturbations")
effects, bistable = unseen.effects, unseen.bistable
GENES = ("a", "b", "c", "d")
ROWS = [("a", "b", 1.0, 1.0), ("b", "c", -1.0, 1.0), ("c", "d", 1.0, 0.5)]
NETWORK = Network.from_frame(pd.DataFrame(ROWS, columns=["regulator", "target", "sign", "confidence"]), genes=GENES)
rng = np.random.default_rng(2)


def measured(*trials: object, of: np.ndarray | None = None) -> object:
    found = rng.normal(size=(len(trials), 4)) if of is None else of
    return effects.Measured(tuple(trials), found, np.eye(4), NETWORK)


def test_additive_effects_are_scaled_and_summed() -> None:
    out, over = effects.trial("k", ("a", 0.0)), effects.trial("k", ("b", 4.0))
    seen = measured(out, over, effects.trial("k", ("c", 0.2)))
    a, b, c = seen.effects
    held = [
        (effects.trial("k", ("a", 0.3)), 0.7 * a),
        (effects.trial("k", ("a", 0.0), ("c", 0.0)), a + c / 0.8),
        (effects.trial("k", ("b", 2.0)), 0.5 * b),
        (effects.trial("k", ("a", 6.0)), -a),
        (effects.trial("k", ("d", 0.0)), np.zeros(4)),
        (effects.Trial("k", out.treatment, (), ("a", "b"), 0.1), [0.0, 0.9 * a[1], 0.0, 0.0]),
    ]
    got = effects.additive(seen, [trial for trial, _ in held])
    np.testing.assert_allclose(got, [value for _, value in held], rtol=1e-12)
    np.testing.assert_array_equal(effects.mean_effect(seen, held)[3], seen.effects.mean(axis=0))


def test_ridge_learns_what_the_network_hands_down() -> None:
    """Effects of one and two steps along the listed edges come back for genes and doses never measured."""
    step = np.zeros((4, 4))
    for s, t, sign, sure in ROWS:
        step[GENES.index(s), GENES.index(t)] = sign * sure

    def exact(trial: object) -> np.ndarray:
        dose = sum((f - 1 if f < 1 else 0.5 * np.log2(f)) * np.eye(4)[GENES.index(g)] for g, f in trial.factors)
        return 0.8 * dose @ step + 0.3 * dose @ step @ step

    training = [effects.trial("k", (g, f)) for g in "abd" for f in (0.0, 0.4, 3.0)]
    held = [effects.trial("k", ("c", 0.0)), effects.trial("k", ("a", 0.0), ("c", 0.5))]
    seen = measured(*training, of=np.stack([exact(t) for t in training]))
    np.testing.assert_allclose(effects.ridge(seen, held), [exact(t) for t in held], atol=0.02)


def test_intervals_are_of_paired_differences() -> None:
    rows = [
        {"kind": "k", "treatment": str(i), "method": m, "rmse": i + (0.1 if m == "ours" else 0.3)}
        for i in range(20)
        for m in ("ours", "theirs")
    ]
    found = effects.compared({"seeds": [0], "bootstrap": 100}, pd.DataFrame(rows), "rmse", "ours").set_index("method")
    # Trials differ by far more than methods do, and pairs take that out.
    np.testing.assert_allclose(found.loc["theirs", ["difference", "low", "high"]].astype(float), -0.2, rtol=1e-9)
    assert found.loc["theirs", "trials"] == 20


@pytest.mark.parametrize("count", [10, 11])
def test_draws_keep_shares_of_valleys(count: int) -> None:
    valley = rng.permutation(np.repeat([0, 1], [60, 40]))
    drawn = bistable.stratified(valley, count, rng)
    assert len(set(drawn.tolist())) == count
    assert valley[drawn].sum() == 4


def test_free_runs_are_the_solvers() -> None:
    """Both valleys, untouched and without a master: what the fit runs freely is what the solver says."""
    plan = read_plan("unseen_perturbations", smoke=unseen.SMOKE)
    truth = bistable.world(plan, np.random.default_rng(1))
    genes = truth.network.genes
    model = resolve(bistable.model_prior(truth, truth.network, plan).center)
    model = eqx.tree_at(lambda m: m.kinetics, model, truth.kinetics)
    start = np.log2(0.5 + plan["capture"] * bistable.starts(genes))
    # Only the first sample is read; the others keep genes from looking constant.
    values = start[None, :, None] + 0.1 * np.arange(3.0)[None, None, :, None] * np.ones((2, 1, 1, 1))
    dataset = Dataset.build(
        values,
        np.array([[0.0, 6.0, 12.0]] * 2),
        genes,
        ("control", "out"),
        ("valley 1", "valley 2"),
        treatments={"control": "", "out": "M1=0@0:"},
        time_unit="h",
        scale="log2",
        simulated=True,
    )
    data, settings = cultures(dataset, model.table, substeps=24), FitPlan(rtol=1e-6, atol=1e-8).settings()
    free, done = eqx.filter_jit(unseen.free.free_readings)(model, data, settings)
    exact, _ = eqx.filter_jit(trajectory_readings)(model, data, settings)
    assert np.all(np.asarray(done) == Outcome.DONE)
    assert np.abs(np.asarray(exact)[:, -1] - np.tile(start, (2, 1))).max() > 1.0
    np.testing.assert_allclose(free, exact, atol=5e-3)
