"""Experiments: every one runs at its SMOKE size from its command line, and results say honestly which bars hold."""

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pinnsim import experiment, shelf
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, load_experiment, merged, read_plan, write_results

KEYS = ["experiment", "plan", "seeds", "versions", "machine", "metrics", "baselines", "acceptance", "notes"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:visit_:DeprecationWarning")  # of peers in benchmarks, where they are installed
@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")  # of another
@pytest.mark.parametrize("name", sorted(shelf.experiments()))
def test_every_experiment_runs_at_its_smoke_size(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    module = load_experiment(name)
    monkeypatch.setitem(sys.modules, "__main__", module)
    assert experiment.main(str(shelf.experiment_path(name)), ["--smoke", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert list(found) == KEYS
    assert found["experiment"] == name
    # A smoke plan is the frozen one with some replacements: it adds nothing of its own.
    assert found["plan"] == json.loads(json.dumps(read_plan(name, smoke=module.SMOKE)))
    assert set(found["plan"]) == set(read_plan(name))
    assert found["plan"] != read_plan(name)
    assert found["acceptance"]
    for row in found["acceptance"]:
        assert list(row) == ["what", "value", "bar", "better", "holds"]
        assert row["better"] in ("lower", "higher")
    assert len({row["what"] for row in found["acceptance"]}) == len(found["acceptance"])
    printed = capsys.readouterr().out
    assert printed.count("\nholds: ") + printed.count("\nFAILS: ") >= len(found["acceptance"]) - 1
    assert shelf.experiments()[name].endswith("?"), "the first line of an experiment is its question"
    # What can be measured exactly holds at any size.
    if name in ("foundation", "soundness", "toggle_push"):
        assert [row["what"] for row in found["acceptance"] if not row["holds"]] == []


@pytest.mark.parametrize(
    ("value", "bar", "better", "holds"),
    [
        (1.0, 1.0, "lower", True),
        (1.1, 1.0, "lower", False),
        (1.0, 1.0, "higher", True),
        (0.9, 1.0, "higher", False),
        (float("nan"), 1.0, "lower", False),
        (float("nan"), 1.0, "higher", False),
        (np.float64(0.5), 1, "lower", True),
    ],
)
def test_a_bar_holds_or_does_not(value: float, bar: float, better: str, holds: bool) -> None:
    assert Acceptance("x", value, bar, better).holds is holds


def test_results_are_plain_json_with_six_digits(tmp_path: Path) -> None:
    metrics = {"a": np.float64(np.pi), "b": [np.int64(3), np.bool_(True), None], "c": {"d": np.nan, "e": -np.inf}}
    rows = (Acceptance("x", np.float64(2.0), 1.0), Acceptance("y", float("nan"), 1.0))
    path = write_results(tmp_path / "new", "some", {"seeds": [4]}, Findings(metrics, {}, rows, ("told",)))
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert list(found) == KEYS
    assert found["metrics"] == {"a": 3.14159, "b": [3, True, None], "c": {"d": None, "e": None}}
    assert [row["holds"] for row in found["acceptance"]] == [False, False]
    assert found["acceptance"][1]["value"] is None
    assert found["seeds"] == [4]
    assert found["versions"]["jax"] == importlib.metadata.version("jax")
    assert found["machine"]["cores"] >= 1


def test_plans_are_merged_in_depth() -> None:
    plan = {"fit": {"starts": 4, "rate": 0.1}, "blocks": [[1, 2]], "name": "a"}
    assert merged(plan, {"fit": {"starts": 1}, "blocks": [[3, 4]]}) == {
        "fit": {"starts": 1, "rate": 0.1},
        "blocks": [[3, 4]],
        "name": "a",
    }
    assert plan["fit"]["starts"] == 4
    assert read_plan("toggle_push", smoke={"doses": 2})["doses"] == 2


def test_unknown_experiments_are_named_with_the_nearest() -> None:
    with pytest.raises(PinnsimError, match="E_EXPERIMENT_UNKNOWN.*did you mean 'toggle_push'"):
        load_experiment("togle_push")
