"""The command line: exit statuses, one line per problem, no traceback, nothing left behind.

All lines run in one fresh interpreter, without the tests' settings, as a user's would.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinnsim import shelf

LINES = {
    "E_MODEL_UNKNOWN": ["simulate", "togle_switch", "--times", "0:4:1", "--out", "bad.zarr"],
    "E_PERTURB_GENE": ["simulate", "toggle_switch", "--times", "0:4:1", "--treatment", "w=0", "--out", "bad.zarr"],
    "E_DOSE_NEGATIVE": [
        "simulate",
        "toggle_switch",
        "--times",
        "0:4:1",
        "--treatment",
        "drive(u)=-1",
        "--out",
        "bad.zarr",
    ],
    "E_PERTURB_CONFLICT": [
        "simulate",
        "toggle_switch",
        "--times",
        "0:4:1",
        "--treatment",
        "u=0, u*3",
        "--out",
        "bad.zarr",
    ],
    "E_PERTURB_TIME": ["simulate", "toggle_switch", "--times", "0:4:1", "--treatment", "u=0@7:9", "--out", "bad.zarr"],
    "E_PERTURB_TEXT": ["simulate", "toggle_switch", "--times", "0:4:1", "--treatment", "drv(u)=1", "--out", "bad.zarr"],
    "E_CONFIG_KEY": ["fit", "project.toml", "--out", "fitted"],
    "E_CKPT_CORRUPT": ["simulate", "damaged", "--times", "0:4:1", "--out", "bad.zarr"],
    "good": ["simulate", "toggle_switch", "--times", "0:4:1", "--treatment", "drive(u)=3@1:2", "--out", "good.zarr"],
}
PROJECT = """
[data]
name = "bsubtilis_carbon_shift"
[prior]
organism = "B. subtilis"
[fit]
lerning_rate = 0.1
"""
PROGRAM = """
import contextlib, io, json, sys
from pinnsim.cli import run
told = {}
for name, words in json.loads(sys.argv[1]).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(words)
    told[name] = [status, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def told(place):
    (place / "project.toml").write_text(PROJECT)
    (place / "damaged").mkdir()
    for file in shelf.path("toggle_switch").iterdir():
        (place / "damaged" / file.name).write_bytes(file.read_bytes())
    parameters = place / "damaged" / "parameters.safetensors"
    content = bytearray(parameters.read_bytes())
    content[-9] ^= 4
    parameters.write_bytes(bytes(content))
    ours = ("JAX_", "XLA_", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PINNSIM_CACHE": "off", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(LINES)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("code", [name for name in LINES if name != "good"])
def test_what_is_wrong_is_told_in_a_line(told, code, place):
    status, _, text = told[code]
    assert status == (3 if code == "E_CKPT_CORRUPT" else 2)
    assert code in text
    assert "Traceback" not in text
    assert not (place / "bad.zarr").exists()
    assert not (place / "fitted").exists()


def test_the_nearest_name_is_offered(told):
    assert "toggle_switch" in told["E_MODEL_UNKNOWN"][2]
    assert "learning_rate" in told["E_CONFIG_KEY"][2]


def test_a_simulation_is_written(told, place):
    status, out, _ = told["good"]
    assert status == 0
    assert "reached the last time" in out
    assert (place / "good.zarr").is_dir()
