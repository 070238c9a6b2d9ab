"""Manners of every verb: JSON alone on stdout, wrong words refused with status 2, completion without JAX, one sentence
where an extra is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import call, listing

from pinnsim import shelf
from pinnsim.cli.app import app
from pinnsim.cli.arguments import experiment_names, model_names
from pinnsim.experiment import companion
from pinnsim.parameter import positive

interface = companion(str(shelf.experiment_path("interface")), "interface")
VERBS = typer.main.get_command(app).commands
# What they print is no table, or is JSON already.
PLAIN = {"demo", "init", "report", "schema"}


def of(command: typer.main.TyperGroup) -> dict[str, object]:
    """Verbs with the verbs below them."""
    found = {}
    for name, one in command.items():
        below = getattr(one, "commands", None)
        found |= {f"{name} {key}": two for key, two in below.items()} if below else {name: one}
    return found


EVERY = of(VERBS)


@pytest.mark.parametrize("name", sorted(set(EVERY) - PLAIN - {"sweep init", "sweep picture", "sweep worker"}))
def test_every_verb_that_prints_a_table_prints_it_as_json(name):
    assert any("--json" in option.opts for option in EVERY[name].params)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_wrong_arguments_of_every_verb_are_refused_in_words(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in (["--no-such-option"], ["a", "b", "c", "d", "e", "--progres"]):
        called = call(*name.split(), *more)
        assert (called.status, called.out) == (2, "")
        assert "Traceback" not in called.err
        assert "no such option" in called.err.lower()
    assert call(*name.split(), "--help").status == 0
    assert listing(tmp_path) == set()


LINES = [
    ("doctor", "--codes"),
    ("experiment", "--list"),
    ("landscape", "toggle_switch", "--starts", "8"),
    ("push", "toggle_switch", "--perturb", "drive(u)=1", "--doses", "1,6", "--durations", "1,8", "--settle", "60",
     "--start", "A1", "--out", "push.zarr", "--no-progress"),
    ("sweep", "plan", "toggle"),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_json_is_all_that_stdout_holds(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    called = call(*line, "--json")
    assert called.status == 0, called.err
    assert json.loads(called.out)


def test_pushes_as_json_are_those_of_the_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = json.loads(call(*LINES[3], "--json").out)
    assert [push["dose"] for push in found["pushes"]] == [1.0, 1.0, 6.0, 6.0]
    assert {push["valley"] for push in found["pushes"]} == set(found["valleys"])
    critical = {row["dose"]: row["duration"] for row in found["critical"]}
    assert any(duration is not None for duration in critical.values())
    key = next(name for name in found["pushes"][0] if name.startswith("duration"))
    for push in found["pushes"]:
        edge = critical[push["dose"]]
        assert edge is None or (push["valley"] != "A1") == (push[key] > edge)


def test_names_are_completed_without_jax():
    assert model_names("toggle_s") == ["toggle_switch"]
    assert "interface" in experiment_names("inter")
    code = "import sys; from pinnsim.cli.arguments import *; model_names('t'); experiment_names('b');"
    code += "print([m for m in ('jax', 'numpy', 'pandas') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60) == "[]\n"


def test_folders_and_files_complete_models_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").mkdir()
    (tmp_path / "mother.toml").touch()
    (tmp_path / "mother.csv").touch()
    assert [name for name in model_names("m") if name not in shelf.models()] == ["mine/", "mother.toml"]
    assert model_names("mine/") == ["mine/model/"]
    assert model_names("nowhere/x") == []


def test_the_shell_gets_candidates():
    words = {"_PINNSIM_COMPLETE": "complete_bash", "COMP_WORDS": "pinnsim push toggle_s", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "from pinnsim.cli import main; main()"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **words})
    assert said.stdout.strip() == "toggle_switch"


@pytest.mark.parametrize("extra", sorted(interface.EXTRAS))
def test_the_absence_of_an_extra_is_one_sentence_with_its_command(extra):
    said = interface.sentence(extra)
    assert said.startswith("E_EXTRA_MISSING: ")
    assert f"pip install 'pinnsim[{extra}]'" in said
    assert "\n" not in said


def test_every_extra_of_the_project_is_known_here():
    # Those without an entry in the library: bundles of others, benchmarks' peers, accelerators, PEtab.
    assert interface.declared() - set(interface.EXTRAS) <= {"sweep", "ot", "bench", "cuda12", "cuda13", "petab"}


def test_a_missing_extra_is_said_by_the_command_line(tmp_path):
    (tmp_path / "m.xml").write_text("<sbml/>", encoding="utf-8")
    with interface.without("libsbml"):
        called = call("import", Path(tmp_path / "m.xml"))
    assert (called.status, called.out) == (2, "")
    assert called.err.count("\n") == 1
    assert "pip install 'pinnsim[sbml]'" in called.err


def test_a_hidden_module_is_back_afterwards():
    with interface.without("pinnsim"):
        assert sys.modules["pinnsim"] is None
    assert positive is sys.modules["pinnsim.parameter"].positive
