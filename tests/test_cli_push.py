"""`pinnsim push`: a map on disk and in words, with noise; what cannot be pushed is refused at once."""

from pathlib import Path

import numpy as np
import pytest
from command_line import call, listing

from pinnsim.formats.simulation import load_simulation

PUSH = ("push", "toggle_switch", "-t", "drive(u)=1", "--settle", "60", "--no-progress")


def test_a_toggle_is_pushed_over_the_hill_with_and_without_noise(tmp_path):
    lanes = ("--doses", "1,6", "--durations", "1,8", "--method", "ssa", "--size", "2", "--cells", "8")
    called = call(*PUSH, *lanes, "--start", "A1", "--out", tmp_path / "map.nc", "--picture", tmp_path / "map.png")
    assert called.status == 0, called.err
    assert "2 attractors" in called.out
    assert all(f"dose {dose}: critical duration" in called.out for dose in (1, 6))
    assert "32 runs (SSA(size=2.)), 8 per push" in called.out
    found = load_simulation(tmp_path / "map.nc").to_dataset()
    u_wins = (found["final"].sel(species="u.mrna") > found["final"].sel(species="v.mrna")).values
    # A strong drive of u for long decides for u, wherever the cell was; a weak one for a little changes nothing.
    assert u_wins[1, 1]
    assert str(found["valley"].values[found["settles_in"].values[0, 0]]) == found.attrs["start_valley"] == "A1"
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
