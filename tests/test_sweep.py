"""Campaigns of real models: closed forms, equal bits however cut, problems told, the command line."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from scipy.stats import qmc

from pinnsim import campaign
from pinnsim.errors import PinnsimError
from pinnsim.formats.toml import parse_config
from pinnsim.sweep import Campaign, InProcess, Points, Specification, Store, drive, plan

SYSTEM = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
[start]
A = 3.0
[constants]
k = 2.0
[[reactions]]
name = "make"
equation = "0 -> A"
rate = "k"
[[reactions]]
name = "decay:A"
equation = "A -> 0"
rate = 0.5
"""
SWEEP = """
model = "system.toml"
times = [0.0, 1.0, 4.0]
initial = "start"
push = "drive(A)=1"
duration = 2.0
record = ["end", "trajectory", "fate"]
threshold = 0.5
starts = 4
samples = 7
seed = 5
block = 8
chunk = 16
[[axes]]
name = "law/constants/k"
latin = [1.0, 4.0]
[[axes]]
name = "dose"
linear = [0.0, 2.0, 3]
[[axes]]
name = "treatment"
values = ["none", "reaction(decay:A)*2"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a model and a campaign's file."""
    place = tmp_path_factory.mktemp("sweep")
    (place / "system.toml").write_text(SYSTEM)
    (place / "sweep.toml").write_text(SWEEP)
    return place


@pytest.fixture(scope="module")
def loaded(folder) -> Campaign:
    return campaign.load_campaign(folder / "sweep.toml")


@pytest.fixture(scope="module")
def whole(folder, loaded) -> Store:
    """An uninterrupted run."""
    campaign.run(loaded, folder / "whole")
    return Store(folder / "whole")


def finished(out: Path, loaded: Campaign, chunk: int) -> str:
    with Store.create(out, loaded.layout(chunk), loaded.about()).hold() as store:
        drive(store, loaded, InProcess(loaded))
    return Store(out).content_hash()


def course(k, dose, fast, time):
    """x(t) of x' = k + dose [t < 2] - g x from 3, with g = 0.5, or 1 where decay is twice as fast."""
    g = np.where(fast, 1.0, 0.5)
    first = (k + dose) / g + (3 - (k + dose) / g) * np.exp(-g * np.minimum(time, 2))
    return k / g + (first - k / g) * np.exp(-g * np.maximum(time - 2, 0))


def test_a_campaign_agrees_with_the_closed_form_at_every_point(whole):
    dataset = whole.to_xarray()
    assert dict(dataset.sizes) == {"point": 42, "species": 1, "time": 3}
    assert whole.counts() == {"requested": 42, "done": 42, "failed": 0, "pending": 0}
    k, dose, treatment = (dataset[f"axis_{name}"].values for name in ("law.constants.k", "dose", "treatment"))
    assert len(np.unique(k)) == 7
    assert np.ptp(np.histogram(k, 7, (1, 4))[0]) == 0, "a Latin hypercube has one sample in each slice"
    exact = course(k[:, None], dose[:, None], treatment[:, None] == 1, np.array([0.0, 1.0, 4.0])[None])
    np.testing.assert_allclose(dataset.trajectory.values[..., 0], exact, rtol=1e-5)
    np.testing.assert_array_equal(dataset.end, dataset.trajectory[:, -1])
    gap = np.abs(np.log(exact[:, -1] + 3e-4) - np.log(4.0 + 3e-4))
    np.testing.assert_allclose(dataset.distance, gap, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(dataset.valley, np.where(dataset.distance <= 0.5, 0, -1))
    assert dataset.time.attrs["units"] == "h"


@pytest.mark.parametrize("chunk", [1, 5, 8, 24, 42])
def test_numbers_are_equal_to_the_bit_however_points_are_cut(tmp_path, loaded, whole, chunk):
    assert finished(tmp_path / "a", loaded, chunk) == whole.content_hash()


def test_a_point_gives_the_same_alone_and_among_others(loaded):
    every = loaded.compute(0, 42)
    for start, stop in ((13, 14), (6, 11), (40, 42)):
        part = loaded.compute(start, stop)
        for name, column in part.items():
            assert column.tobytes() == every[name][start:stop].tobytes()


def test_processes_killed_and_resumed_give_the_same_hash(folder, whole):
    """A real driver with a real worker: the driver is killed, then the run goes on with the other engine."""
    out = folder / "killed"
    line = [sys.executable, "-m", "pinnsim", "sweep", "run", str(folder / "sweep.toml"), "--out", str(out)]
    with subprocess.Popen([*line, "--engine", "processes", "--chunk", "3"]) as driver:
        deadline = time.monotonic() + 120
        while not (out / "journal.jsonl").exists() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    store = Store(out)
    assert store.damage() == {}
    counts = store.counts()
    assert counts["done"] + counts["failed"] + counts["pending"] == counts["requested"]
    report = campaign.resume(out)
    assert report.counts["pending"] == 0
    Store(out).verify()
    assert Store(out).content_hash() == whole.content_hash()


def test_a_changed_model_is_not_gone_on_with(folder, loaded):
    campaign.run(loaded, folder / "changed")
    model = folder / "system.toml"
    model.write_text(SYSTEM.replace("k = 2.0", "k = 2.5"))
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL"):
        campaign.resume(folder / "changed")
    model.write_text(SYSTEM)


def test_sampled_cells_follow_the_law_of_birth_and_death_in_any_pieces(folder):
    """From A = 3 at 20 molecules a unit: binomial survivors and a Poisson number of newcomers."""
    specification = Specification(
        model=str(folder / "system.toml"), times=(0, 1), initial="start", method="ssa", size=20, cells=400, block=2,
        record=("end", "fate"), threshold=0.2, seed=11, axes=[{"name": "law/constants/k", "values": (1, 2, 4)}],
    )  # fmt: skip
    loaded = campaign.load_campaign(specification, {"stiff": False, "attractors": {"names": ["A1"], "states": [[5.0]]}})
    found = loaded.compute(0, 3)
    stay, k = np.exp(-0.5), np.array([1.0, 2.0, 4.0])
    mean = 3 * stay + k / 0.5 * (1 - stay)
    variance = (60 * stay * (1 - stay) + 20 * k / 0.5 * (1 - stay)) / 20**2
    assert np.abs(found["end"][:, 0] - mean).max() < 4 * np.sqrt(variance.max() / 400)
    np.testing.assert_allclose(found["end_sd"][:, 0] ** 2, variance, rtol=4 * np.sqrt(2 / 400))
    assert found["share"][2, 0] > 0.5 > found["share"][0, 0]
    alone = loaded.compute(1, 2)
    assert all(column.tobytes() == found[name][1:2].tobytes() for name, column in alone.items())
    assert len(np.unique(found["end"])) == 3


# Points


def axes(**changes):
    return Points.of(Specification(**{"model": "m", "times": (0, 1), "push": "drive(A)=1", **changes}))


def test_grids_run_through_all_combinations_the_last_axis_fastest():
    points = axes(
        axes=[{"name": "dose", "values": [1, 5]}, {"name": "duration", "log": (1, 100, 3)}],
    )
    assert points.count == 6
    found = points.values(0, 6)
    np.testing.assert_array_equal(found["dose"], [1, 1, 1, 5, 5, 5])
    np.testing.assert_allclose(found["duration"], [1, 10, 100, 1, 10, 100], rtol=1e-15)


@pytest.mark.parametrize("kind", ["latin", "sobol"])
def test_samples_are_the_same_in_any_pieces_and_fill_their_ranges(kind):
    points = axes(
        samples=64,
        axes=[{"name": "dose", kind: (1, 100), "scale": "log"}, {"name": "a", kind: (-1, 1)}],
    )
    found = points.values(0, 64)
    pieces = [axes(**{"samples": 64, "axes": points.axes}).values(k, k + 4) for k in range(0, 64, 4)]
    for name, column in found.items():
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), column)
    unit = np.stack([np.log(found["dose"]) / np.log(100), (found["a"] + 1) / 2], axis=1)
    assert unit.min() >= 0
    assert unit.max() <= 1
    assert qmc.discrepancy(unit) < qmc.discrepancy(np.random.default_rng(0).random((64, 2))) / 2


# Problems


def test_all_problems_of_a_campaign_are_told_at_once(folder, tmp_path):
    text = SWEEP.replace("law/constants/k", "law/constants/kk").replace('"none"', '"GATA1=0"')
    (tmp_path / "system.toml").write_text(SYSTEM)
    (tmp_path / "sweep.toml").write_text(text.replace('"end"', '"readings"'))
    called = call("sweep", "plan", tmp_path / "sweep.toml")
    assert called.status == 2
    assert "'law/constants/kk' is no parameter of the model (did you mean 'law/constants/k'?)" in called.err
    assert "E_PERTURB_GENE" in called.err
    assert "no readings" in called.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"axes": [{"name": "dose", "values": [1], "linear": (0, 1, 2)}]}, "exactly|needs one of"),
        ({"axes": [{"name": "dose", "log": (0, 1, 2)}]}, "must be > 0"),
        ({"axes": [{"name": "dose", "latin": (0, 1)}]}, "'samples' goes with"),
        ({"axes": [{"name": "dose", "values": [-1]}]}, "needs values >= 0"),
        ({"axes": [{"name": "dose", "values": [1]}], "push": ""}, "dose and duration are those of 'push'"),
        ({"axes": [{"name": "dose", "values": [1]}, {"name": "dose", "values": [2]}]}, "named twice"),
        ({"axes": [{"name": "treatment", "values": [1]}]}, "axis 'treatment' needs"),
        ({"axes": [{"name": "dose", "values": [1]}], "times": (1, 0)}, "strictly increasing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, told):
    data = {"model": "m", "times": (0, 1), "push": "drive(A)=1", **changes}
    with pytest.raises(PinnsimError, match=told) as caught:
        parse_config(data, Specification)
    assert caught.value.exit_status == 2


# The command line


def test_the_command_line_plans_runs_shows_merges_and_verifies(folder, whole):
    planned = call("sweep", "plan", folder / "sweep.toml")
    assert planned.out.startswith("42 points in 3 chunks of 16; ")
    assert "to compile" in planned.out
    for k in (1, 2):
        ran = call("sweep", "run", folder / "sweep.toml", "--out", folder / f"part{k}", "--shard", f"{k}/2")
        assert ran.status == 0, ran.err
        assert "points/s, none failed" in ran.err
    merged = call("sweep", "merge", folder / "part1", folder / "part2", "--out", folder / "merged")
    assert merged.status == 0, merged.err
    shown = call("sweep", "status", folder / "merged")
    assert shown.out.startswith("42 requested, 42 done, 0 failed, 0 pending")
    verified = call("sweep", "verify", folder / "merged")
    assert verified.out.endswith(f"sha256 {whole.content_hash()}\n")
    Store(folder / "merged").file("end", 1).unlink()
    missing = call("sweep", "verify", folder / "merged")
    assert missing.status == 3
    assert "E_CKPT_MISSING: chunk 1 (points 16 to 31): its file 'end/1.0' is missing; resume." in missing.err
    resumed = call("sweep", "resume", folder / "merged", "--no-progress")
    assert "1 chunks written" in resumed.out
    assert call("sweep", "run", folder / "sweep.toml", "--out", folder / "merged").status == 2
    assert call("sweep", "run", folder / "sweep.toml", "--out", folder / "x", "--shard", "3/2").status == 2


def test_every_example_in_the_help_is_understood():
    for verb in ("plan", "run", "status", "resume", "merge", "verify"):
        called = call("sweep", verb, "--help")
        assert called.status == 0
        assert f"pinnsim sweep {verb} " in called.out


def test_no_room_on_the_disk_is_told_before_the_start(loaded, tmp_path):
    wanted = plan(loaded, tmp_path, trial=False)
    assert wanted.bytes == 3 * 16 * sum(v.bytes_per_point for v in loaded.layout().variables.values())
    small = json.loads(json.dumps(vars(wanted) | {"free": 100}))
    with pytest.raises(PinnsimError, match="E_DISK: The campaign takes"):
        type(wanted)(**small).check(tmp_path)
