"""`pinnsim screen`: tables, JSON and pictures of a toggle; what cannot be screened is refused before any work."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call, listing
from systems import roots

EDITS = ("-e", "u*0.6", "-e", "v*1.6", "-e", "u=0")


def test_a_toggle_is_screened_into_tables_and_pictures(tmp_path):
    called = call("screen", "toggle_switch", *EDITS, "--json", "--top", "40", "--out", tmp_path / "out")
    assert called.status == 0, called.err
    told = json.loads(called.out)
    assert told["combinations"] == {"of 1": 3, "of 2": 2, "of 3": 0}  # u*0.6 and u=0 change one gene
    assert len(told["valleys"]) == 2
    assert listing(tmp_path / "out") == {
        "effects.csv", "synergies.csv", "fates.csv", "screen.json", "synergies.png", "ranking.png"
    }  # fmt: skip
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert len(effects) == len(told["effects"]) == 10
    u_high = max(told["valleys"], key=lambda name: -_u(effects, name))
    single = effects.set_index(["perturbation", "valley"]).loc[("u*0.6", u_high)]
    assert single["fate"] == "remains"
    assert single["level"] == pytest.approx(roots(0.6, 1.0, 0, 1)[-1, 1], rel=1e-6)
    assert {(f["perturbation"], f["emergent"]) for f in told["fates"]} == {
        ("u*0.6, v*1.6", True),
        ("u=0", False),
        ("v*1.6, u=0", False),
    }
    assert (tmp_path / "out" / "synergies.png").stat().st_size > 10_000
    again = call("screen", "toggle_switch", "-e", "u*0.6", "--order", "1", "--time", "2", "--no-progress")
    assert again.status == 0, again.err
    assert "2 h after the switch" in again.out
    assert "Doubles" not in again.out


def _u(effects: pd.DataFrame, valley: str) -> float:
    """The unperturbed level of v, which u's edits move most."""
    rows = effects[(effects["valley"] == valley) & (effects["readout"] == "v.mrna")]
    return float(rows["unperturbed"].iloc[0]) if len(rows) else np.inf


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--triples", "4"), ("--triples needs --order 3",)),
        (("-e", "w=0", "-e", "u*1"), ("E_PERTURB_GENE", "changes nothing")),
        (("-e", "u=0", "-r", "nobody"), ("E_GENE_UNKNOWN", "nobody")),
        (
            (
                "-e",
                "u=0@2:",
            ),
            ("rest has none",),
        ),
    ],
)
def test_what_cannot_be_screened_is_refused_before_any_work(tmp_path: Path, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    called = call("screen", "toggle_switch", *options, "--out", "out")
    assert called.status == 2
    assert all(part in called.err for part in parts)
    assert listing(tmp_path) == set()
