"""Results files: of the committed plan, complete, and true about which bars hold."""

import json
import tomllib

import pytest

from pinnsim import shelf

NAMES = sorted(shelf.experiments())
KEYS = ["experiment", "plan", "seeds", "versions", "machine", "metrics", "baselines", "acceptance", "notes"]


@pytest.mark.parametrize("name", NAMES)
def test_results_are_of_the_committed_plan(name):
    path = shelf.experiment_path(name)
    found = json.loads((path.parent / "results" / f"{name}.json").read_text())
    assert list(found) == KEYS
    assert found["experiment"] == name
    assert found["plan"] == tomllib.loads(path.with_suffix(".toml").read_text())
    assert found["acceptance"], "an experiment without a bar proves nothing"
    for row in found["acceptance"]:
        reached = row["value"] is not None and (
            row["value"] <= row["bar"] if row["better"] == "lower" else row["value"] >= row["bar"]
        )
        assert row["holds"] == reached, row
