"""`pinnsim check`: all that is wrong with a project is told at once, and what covers its genes."""

import json
import re

import pandas as pd
from command_line import PROJECT, call, listing, write_project


def test_a_good_project_has_its_coverage_shown_and_nothing_written(tmp_path) -> None:
    path = write_project(tmp_path)
    before = listing(tmp_path)
    called = call("check", path)
    assert called.status == 0, called.err
    assert "Nothing is wrong." in called.out
    assert "genes regulated in the network" in called.out
    assert listing(tmp_path) == before
    found = json.loads(call("check", path, "--json").out)
    assert found["genes"] == 3
    assert found["unregulated"] == ["gA"]
    assert found["typical_half_life"] == []
    assert found["edges"] == 2
    assert found["edges_of_unknown_sign"] == 0


def test_every_file_is_read_before_anything_is_said(tmp_path) -> None:
    text = PROJECT.replace('up = "signal', 'up = "sgnal').replace("half_lives.csv", "nowhere.csv")
    path = write_project(tmp_path, text)
    readings = (tmp_path / "readings.csv").read_text()
    (tmp_path / "network.csv").write_text("source,target,weight\ngA,gX,1\n", encoding="utf-8")
    called = call("check", path)
    assert called.status == 2
    assert {line.partition(":")[0] for line in called.err.splitlines()} == {
        "E_PERTURB_TEXT",
        "E_DATA_FILE",
        "E_GENE_UNMATCHED",
    }
    (tmp_path / "readings.csv").write_text(readings.replace("gA,up,1,0.0,", "gA,up,1,0.0,x"), encoding="utf-8")
    called = call("check", path)
    assert {line.partition(":")[0] for line in called.err.splitlines()} == {
        "E_PERTURB_TEXT",
        "E_DATA_FILE",
        "E_DATA_TYPE",
    }


def test_a_network_without_signs_and_readings_of_nothing_are_said(tmp_path) -> None:
    text = PROJECT.replace('scale = "log2"', 'scale = "linear"')
    path = write_project(tmp_path, text[: text.index("[model.readout]")] + text[text.index("[fit]") :])
    (tmp_path / "network.csv").write_text("source,target,Wirkung\ngA,gB,+\ngB,gC,-\n", encoding="utf-8")
    readings = pd.read_csv(tmp_path / "readings.csv").assign(value=lambda frame: frame["value"].clip(lower=1.25) - 1.25)
    readings.to_csv(tmp_path / "readings.csv", index=False)
    called = call("check", path)
    assert called.status == 0
    assert "edges of known sign" in called.out
    assert "is there a column 'sign'?" in called.out
    assert "[model.likelihood] kind = 'combined', sd = 0.3" in called.out
    assert re.search(r"scale = \d\.\d+ to \d\.\d+ by gene: twice the highest reading of each gene", called.out)


def test_what_would_stop_the_fit_stops_the_check(tmp_path) -> None:
    path = write_project(tmp_path, PROJECT.replace("starts = 2", "starts = 2\ninitial = 'sample'"))
    (tmp_path / "readings.csv").write_text(
        "\n".join(
            line
            for line in (tmp_path / "readings.csv").read_text().splitlines()
            if not (line.startswith("gB") and ",0.0," in line)
        ),
        encoding="utf-8",
    )
    called = call("check", path)
    assert called.status in (2, 3)
    assert "gB" in called.err
