"""Where campaigns are worked out: an accelerator per worker, points spread over devices, jobs of a batch queue; and the
files and pictures that come with them."""

import importlib.util
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from command_line import call

from pinnsim import campaign, shelf
from pinnsim.errors import PinnsimError
from pinnsim.plot import save, sweep_map
from pinnsim.sweep.devices import check_devices, environments
from pinnsim.sweep.queues import queue_cluster, settings_of

# What the numbers hash to, of one device or of as many as the environment makes.
SPREAD = """
import sys
from pinnsim import session; session.start()
from pinnsim import campaign
from pinnsim.sweep import Specification
file, devices = sys.argv[1], int(sys.argv[2])
axes = [{"name": "law/constants/k", "linear": (1.0, 4.0, 128)}]
common = dict(model=file, times=(0, 2), initial="start", block=128, stiff=False)
loaded = campaign.load_campaign(Specification(axes=axes, **common))
one, many = loaded.compute(0, 128), loaded.spread(devices).compute(0, 128)
print(all(one[name].tobytes() == many[name].tobytes() for name in one), len(set(one["end"][:, 0])))
"""
SYSTEM = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
start = { A = 3.0 }
constants = { k = 2.0 }
reactions = [
    { name = "make", equation = "0 -> A", rate = "k" },
    { name = "loss", equation = "A -> 0", rate = 0.5 },
]
"""


def test_each_worker_has_an_accelerator_of_its_own_and_keeps_to_what_it_may_see():
    assert environments(3, 0) == [{}, {}, {}]
    own = environments(4, 2, {})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in own] == ["0", "1", "0", "1"]
    assert [one["HIP_VISIBLE_DEVICES"] for one in own] == ["0", "1", "0", "1"]
    assert {one["XLA_PYTHON_CLIENT_PREALLOCATE"] for one in own} == {"false"}
    some = environments(2, 2, {"CUDA_VISIBLE_DEVICES": "5, GPU-8f"})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in some] == ["5", "GPU-8f"]


def test_workers_begin_with_their_own_environment_and_so_do_those_in_their_place(tmp_path):
    from pinnsim.sweep import Processes

    seen = tmp_path / "seen"
    code = f"import os; open({str(seen)!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' '); raise SystemExit(7)"
    engine = Processes([sys.executable, "-c", code], 2, environments=environments(2, 2, {}))
    try:
        with pytest.raises(PinnsimError, match="exit status 7"):
            engine.collect(lambda: False)
    finally:
        engine.close()
    found = seen.read_text().split()
    assert set(found) == {"0", "1"}
    assert len(found) >= 3


def test_points_spread_over_two_devices_are_the_same_to_the_bit(tmp_path):
    (tmp_path / "system.toml").write_text(SYSTEM)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    called = subprocess.run(
        [sys.executable, "-c", SPREAD, str(tmp_path / "system.toml"), "2"],
        env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert called.stdout == "True 128\n"


def test_more_devices_than_there_are_and_engines_that_do_not_fit_are_told():
    with pytest.raises(PinnsimError, match="E_USAGE: Points are to be spread over 4096 devices"):
        check_devices(4096)
    with pytest.raises(PinnsimError) as caught:
        campaign._Where("processes", 0, "here:1", "slurm", "").check(devices=2)
    assert len(caught.value.problems) == 4


# Job queues


def test_settings_of_jobs_are_read_or_refused():
    assert settings_of("") == {}
    assert settings_of("memory=8GB, cores=2,walltime=02:00:00") == {"memory": "8GB", "cores": 2, "walltime": "02:00:00"}
    with pytest.raises(PinnsimError, match="E_USAGE: 'memory' is no setting"):
        settings_of("memory")


def test_queues_that_are_none_and_a_missing_package_are_told(monkeypatch):
    with pytest.raises(PinnsimError, match=r"E_USAGE: no job queue 'slrum' \(did you mean 'slurm'\?\)"):
        queue_cluster("slrum", 60)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pip install 'pinnsim\[cluster\]'"):
        queue_cluster("slurm", 60)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("queue", "asked", "lines"),
    [
        ("slurm", "memory=8GB,walltime=02:00:00,queue=short", ["#SBATCH -p short", "#SBATCH -t 02:00:00", "--mem=8G"]),
        ("pbs", "memory=4GB,walltime=01:00:00", ["#PBS -l walltime=01:00:00", "select=1:ncpus=1:mem=3815MB"]),
    ],
)
def test_jobs_ask_for_what_they_were_told_and_are_one_worker_each(queue, asked, lines):
    pytest.importorskip("dask_jobqueue")
    cluster = queue_cluster(queue, 60, settings_of(asked))
    try:
        script = cluster.job_script()
    finally:
        cluster.close(timeout=30)
    for line in lines:
        assert line in script
    assert "dask_worker" in script or "dask worker" in script
    assert "--nthreads 1" in script
    assert "--death-timeout 60" in script


# Files and pictures


def test_campaigns_that_come_with_pinnsim_are_files_to_begin_from(tmp_path, monkeypatch):
    assert set(shelf.campaigns()) >= {"demo", "toggle"}
    for name in shelf.campaigns():
        campaign.read_specification(name)
    assert campaign.read_specification("demo", "other/model").model == "other/model"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "model").mkdir(parents=True)  # what 'pinnsim demo' leaves is not the campaign of that name
    assert campaign.read_specification("demo").model == "demo/model"
    begun = call("sweep", "init", tmp_path / "new" / "sweep.toml")
    assert begun.status == 0, begun.err
    assert campaign.read_specification(tmp_path / "new" / "sweep.toml").model == "toggle_switch"
    assert call("sweep", "init", tmp_path / "new" / "sweep.toml").status == 2
    with pytest.raises(PinnsimError, match=r"E_EXPERIMENT_UNKNOWN: .*'togle' \(did you mean 'toggle'\?\)"):
        campaign.read_specification("togle")
    with pytest.raises(PinnsimError, match="E_MODEL_UNKNOWN: there is no model 'none/model' here; 'pinnsim demo'"):
        campaign.load_campaign(campaign.read_specification("demo", "none/model"))


def made_up() -> xr.Dataset:
    """3 x 4 points under two treatments, as a store shows them."""
    treatment, dose, duration = (
        a.ravel() for a in np.meshgrid([0, 1], [1.0, 2, 3], [1.0, 10, 100, 1000], indexing="ij")
    )
    columns = {
        "axis_treatment": (treatment, {"axis": "treatment", "meanings": "none; A=0"}),
        "axis_dose": (dose, {"axis": "dose"}),
        "axis_duration": (duration, {"axis": "duration", "units": "h"}),
        "outcome": (np.where(dose * duration == 6000, 1, 0), {}),
        "shift": (dose * np.log(duration) * (1 + treatment), {"units": "1", "long_name": "distance from the start"}),
        "verdict": ((dose * duration > 30).astype(int), {"meanings": "0 back, 1 in another, 2 nowhere, -1 failed"}),
    }
    dataset = xr.Dataset({name: ("point", values, attrs) for name, (values, attrs) in columns.items()})
    dataset["end"] = (("point", "species"), np.stack([dose, duration], axis=1), {"units": "au"})
    return dataset.assign_coords(species=["A", "B"])


def test_a_map_has_a_panel_per_treatment_and_every_point_in_its_place(tmp_path):
    drawn = sweep_map(made_up(), "shift")
    assert [ax.get_title(loc="left") for ax in drawn] == ["none", "A=0"]
    shown = drawn[1].collections[0].get_array().reshape(4, 3)
    np.testing.assert_allclose(np.ma.getdata(shown), 2 * np.log([1, 10, 100, 1000])[:, None] * np.array([1.0, 2, 3]))
    assert drawn[0].get_yscale() == "log"
    assert drawn[0].get_ylabel() == "duration (h)"
    assert save(drawn, tmp_path / "map.png").stat().st_size > 5000
    codes = sweep_map(made_up())
    assert {text.get_text() for text in codes[0].figure.legends[0].get_texts()} == {"back", "in another"}
    one = sweep_map(made_up(), "end[B]")[0].collections[0].get_array()
    assert np.ptp(one.reshape(4, 3), axis=1).max() == 0
    plt.close("all")


def test_maps_that_cannot_be_drawn_say_why():
    for show, told in (("shft", "did you mean 'shift'"), ("end", "more than one number"), ("end[C]", "no species 'C'")):
        with pytest.raises(PinnsimError, match=f"E_USAGE.*{told}"):
            sweep_map(made_up(), show)
    with pytest.raises(PinnsimError, match="E_USAGE.*no axis 'dos'"):
        sweep_map(made_up(), x="dos")
    with pytest.raises(PinnsimError, match="make no grid"):
        sweep_map(made_up().isel(point=slice(1, None)), "shift")
