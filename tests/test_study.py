"""Studies: trials judged by held-out skill, kept in Optuna's storage, resumed, and refused with a reason."""

import importlib.util

import numpy as np
import pytest
from problems import measured, parts_of, prior_model, truth_of

from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, cross_condition
from pinnsim.judge import judge
from pinnsim.study import study

PLAN = FitPlan(starts=1, keep=1, collocation_steps=5, trajectory_steps=0, substeps=1)
TIMES = (0.0, 5.0, 15.0, 40.0)
CHOICES = {"likelihood.sd": [0.1, 0.3], "fit.learning_rate": (0.01, 0.2, "log")}


@pytest.fixture(scope="module")
def parts():
    kind = {"kind": "abundance", "layers": ("mrna",), "regulation": {"hidden": "none", "basal": -1.0}}
    config, network, prior = parts_of(**kind)
    return config, network, prior, measured(truth_of(prior_model(**kind)), TIMES, noise=0.1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("study") / "trials.db"


@pytest.fixture(scope="module")
def found(parts, kept):
    config, network, prior, data = parts
    return study(config, CHOICES, network, prior, data, PLAN, trials=2, storage=kept, progress=False)


def test_trials_are_scored_by_held_out_skill(parts, found):
    """The best trial's skill is that of the same configuration judged by hand."""
    config, network, prior, data = parts
    assert len(found.table) == 2
    assert list(found.table.columns) == ["trial", *CHOICES, "skill", "outcome"]
    assert found.skill == found.table["skill"].max()
    assert found.config.likelihood.sd == found.best["likelihood.sd"]
    assert found.plan.learning_rate == found.best["fit.learning_rate"]
    assert 0.01 <= found.plan.learning_rate <= 0.2
    table = judge(cross_condition(found.config, network, prior, data, found.plan, progress=False), data)
    by_hand = [row.skill for row in table.rows if row.kind == "model"]
    assert found.skill == pytest.approx(np.mean(by_hand), rel=1e-9)
    assert "2 of 2 trials" in repr(found)


def test_studies_go_on_where_they_stopped(parts, kept, found):
    config, network, prior, data = parts
    again = study(config, CHOICES, network, prior, data, PLAN, trials=3, storage=kept, progress=False)
    assert len(again.table) == 3
    old = again.table[again.table["trial"] < 2].sort_values("trial").reset_index(drop=True)
    assert old.equals(found.table.sort_values("trial").reset_index(drop=True))
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL"):
        study(config, {"likelihood.sd": [0.2]}, network, prior, data, PLAN, trials=3, storage=kept, progress=False)


def test_what_cannot_be_chosen_is_named(parts, monkeypatch):
    config, network, prior, data = parts
    bad = {"likelihood.kind": ["gaussian", "cauchy"], "regulation.nothing": [1], "likelihood.sd": (0.3, 0.1)}
    with pytest.raises(PinnsimError) as caught:
        study(config, bad, network, prior, data, PLAN)
    assert sorted(caught.value.codes) == ["E_CONFIG_VALUE", "E_CONFIG_VALUE", "E_USAGE"]
    one = data.select(conditions=["fed"])
    with pytest.raises(PinnsimError, match="E_FIT.*two or more"):
        study(config, {"likelihood.sd": [0.2]}, network, prior, one, PLAN, trials=1, progress=False)
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else there(name))
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pinnsim\[tune\]"):
        study(config, CHOICES, network, prior, data, PLAN)
