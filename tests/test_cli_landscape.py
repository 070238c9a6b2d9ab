"""`pinnsim landscape` against the toggle's closed form, and what it refuses."""

import csv
import json

import numpy as np
import pytest

from pinnsim.cli.app import run


def test_the_toggle_has_its_two_valleys_and_its_saddle(capsys, tmp_path):
    table, picture = tmp_path / "points.csv", tmp_path / "plane.png"
    line = ["landscape", "toggle_switch", "--starts", "16", "--json", "--out", str(table), "--picture", str(picture)]
    assert run(line) == 0
    found = json.loads(capsys.readouterr().out)
    points = {point["stability"]: point["state"] for point in found["points"]}
    # alpha = 10, n = 2: u v = 1 and u + v = 10 in the valleys, u = v = 2 at the saddle.
    root = 5 + 2 * np.sqrt(6)
    assert sorted(points["stable"].values()) == pytest.approx([1 / root, root], rel=1e-9)
    assert list(points["saddle"].values()) == pytest.approx([2, 2], rel=1e-9)
    assert sum(point["share"] for point in found["points"]) == pytest.approx(1)
    with table.open() as rows:
        assert [row["point"] for row in csv.DictReader(rows)] == ["A1", "A2", "S1"]
    assert picture.stat().st_size > 10_000


def test_a_treatment_that_lasts_leaves_one_valley(capsys):
    assert run(["landscape", "toggle_switch", "--starts", "16", "-t", "u=0"]) == 0
    said = capsys.readouterr().out
    assert "under u=0" in said
    assert "1 attractor from 16 starts." in said


def test_what_contradicts_is_told_together_before_any_search(capsys, tmp_path):
    assert run(["landscape", "toggle_switch", "--plane", "u,v", "--out", "points.txt", "--box", "0,3,1"]) == 2
    said = capsys.readouterr().err
    for part in ("must end in .csv", "give --picture FILE.png too", "lowest and the highest of each species"):
        assert part in said
    line = ["landscape", "toggle_switch", "--picture", str(tmp_path / "a.png"), "--plane", "u.mrna,w.mrna"]
    assert run(line) == 2
    assert "the model has no species 'w.mrna'" in capsys.readouterr().err
