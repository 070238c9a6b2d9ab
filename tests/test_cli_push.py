"""`pinnsim push`: a map on disk and in words, with noise; what cannot be pushed is refused at once."""

from pathlib import Path

import numpy as np
import pytest
from command_line import call, listing

from pinnsim.formats.simulation import load_simulation

PUSH = ("push", "toggle_switch", "-t", "drive(u)=1", "--settle", "60", "--no-progress")


def test_a_toggle_is_pushed_over_the_hill_with_and_without_noise(tmp_path):
    lanes = ("--doses", "1,6", "--durations", "1,8", "--method", "ssa", "--size", "2", "--cells", "8")
    called = call(*PUSH, *lanes, "--out", tmp_path / "map.nc", "--picture", tmp_path / "map.png")
    assert called.status == 0, called.err
    assert "2 attractors" in called.out
    assert "dose 1: critical duration none up to the longest" in called.out
    assert "32 runs (SSA(size=2.)), 8 per push" in called.out
    found = load_simulation(tmp_path / "map.nc").to_dataset()
    begins = str(found.attrs["start_valley"])
    home = list(found["valley"].values).index(begins)
    crossed = found["settles_in"].values != home
    # The toggle rests with v high or u high; from the former alone a drive of u makes it cross.
    assert not crossed[:, 0].any() or crossed[1, 1]
    assert np.allclose(found["probability"].sum("valley") + found["undecided_runs"] / 8, 1.0)
    assert (tmp_path / "map.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--doses", "1:0:1", "--durations", "x", "--out", "a.csv"), ("--doses", "--durations 'x'", "--out 'a.csv'")),
        (("--doses", "1", "--durations", "1", "--out", "a.nc", "--method", "ssa"), ("needs --size",)),
        (
            ("--doses", "1", "--durations", "1", "--out", "a.nc", "--method", "linear-noise", "--size", "1"),
            ("draws no noisy cells",),
        ),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_any_work(tmp_path: Path, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    called = call(*PUSH, *options)
    assert called.status == 2
    assert all(part in called.err for part in parts)
    assert listing(tmp_path) == set()
