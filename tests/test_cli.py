"""The command line: quick help whose examples hold, plain words when something is wrong, and every verb end to end."""

import errno
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import typer
import xarray as xr
from command_line import ONE_CONDITION, call, listing, write_project

from pinnsim import __version__, demo, doctor, shelf
from pinnsim.cli.app import app
from pinnsim.cli.arguments import read_times
from pinnsim.cli.courses import course_panels, read_courses
from pinnsim.errors import CODES, PinnsimError, Problem
from pinnsim.formats.bundle import load_model
from pinnsim.formats.simulation import load_simulation
from pinnsim.project import load_project
from pinnsim.simulate import ODE

HEAVY = ("jax", "equinox", "numpy", "pandas", "xarray", "matplotlib", "pydantic", "rich")
COMMANDS = typer.main.get_command(app)
VERBS = sorted(set(COMMANDS.commands) - {"sweep"})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A fitted tiny project: the folder `fitted` beside its project file."""
    config = write_project(tmp_path_factory.mktemp("work"))
    called = call("fit", config, "--out", config.parent / "fitted", "--no-progress")
    assert called.status == 0, called.err
    (config.parent / "fit.out").write_text(called.out, encoding="utf-8")
    return config.parent / "fitted"


# Help and manners


def test_help_comes_within_a_second_and_imports_nothing_heavy():
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pinnsim", "--help"], check=True, capture_output=True, timeout=60)
        took.append(time.perf_counter() - began)
    assert min(took) < 1.0
    code = f"import sys, pinnsim.cli; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60) == "[]\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_in_the_help_is_a_command_line_that_is_understood(verb):
    called = call(verb, "--help")
    assert called.status == 0
    joined = called.out.replace("\\\n", " ")
    examples = [shlex.split(line)[1:] for line in joined.splitlines() if line.strip().startswith("pinnsim ")]
    assert any(example[0] == verb for example in examples)
    for name, *rest in examples:
        command = COMMANDS.commands[name]
        with command.make_context(name, rest[: rest.index(">")] if ">" in rest else rest):
            pass  # raises where an option or argument is not known


def test_the_program_tells_its_version_and_all_verbs():
    assert call("--version").out == f"pinnsim {__version__}\n"
    assert all(verb in call("--help").out for verb in VERBS)
    assert "Usage" in (call().out + call().err)


@pytest.mark.parametrize(
    "line", ["fly", "fit", "fit x.toml", "fit x.toml --out", "demo --smok", "simulate m --times 0:1:1 --out a --from x"]
)
def test_wrong_words_are_a_usage_error(line):
    called = call(*line.split())
    assert called.status == 2
    assert "Error" in called.err
    assert "Traceback" not in called.err


FAULTS = [
    (PinnsimError([Problem("E_DATA_FILE", "a."), Problem("E_USAGE", "b.")]), 2, "E_DATA_FILE: a.\nE_USAGE: b.\n"),
    (PinnsimError.of("E_SOLVER", "c."), 4, "E_SOLVER: c.\n"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 3, "E_DISK: No space left on device: 'x'"),
    (KeyboardInterrupt(), 130, ""),
    (ZeroDivisionError("division\nby zero"), 1, "ZeroDivisionError: division\nThis should not happen; run again with"),
]


@pytest.mark.parametrize(("fault", "status", "said"), FAULTS, ids=lambda value: type(value).__name__)
def test_what_goes_wrong_is_said_in_single_lines_with_its_status(monkeypatch, fault, status, said):
    def examine():
        raise fault

    monkeypatch.setattr(doctor, "examine", examine)
    called = call("doctor")
    assert called.status == status
    assert called.err.startswith(said)
    assert "Traceback" not in called.err
    if not isinstance(fault, KeyboardInterrupt):
        assert "Traceback" in call("--debug", "doctor").err


# Arguments


def test_times_are_read_in_decimals_with_the_stop_where_a_step_meets_it():
    assert read_times("0:1:0.1").tolist() == [0.1 * 10 * k / 10 for k in range(11)] or np.allclose(
        read_times("0:1:0.1"), np.arange(11) / 10, rtol=0, atol=0
    )
    assert read_times("0:10:4").tolist() == [0, 4, 8]
    assert read_times("-5:5:5").tolist() == [-5, 0, 5]
    assert read_times(" 0, 5,10.5").tolist() == [0, 5, 10.5]


@pytest.mark.parametrize(
    "text", ["", "0:1", "0:1:0", "0:1:-1", "1:0:1", "a:b:c", "0:inf:1", "0,,1", "nan,1", "0:1e30:1"]
)
def test_times_that_are_none_are_refused(text):
    with pytest.raises(PinnsimError) as caught:
        read_times(text)
    assert caught.value.codes == (("E_SIZE",) if text == "0:1e30:1" else ("E_USAGE",))


# Fit


def test_a_fit_leaves_a_bundle_and_everything_its_reader_should_know(fitted):
    assert {"fit.json", "fit.csv", "prior.csv", "project.toml", "fit_up.png", "fit_down.png", "half_lives.png"} <= {
        path.name for path in fitted.iterdir()
    }
    readings = pd.read_csv(fitted / "fitted.csv")
    assert len(readings) == 2 * 3 * 6
    assert ((readings["lo"] < readings["fitted"]) & (readings["fitted"] < readings["hi"])).all()
    assert np.allclose(readings.loc[~readings["scored"], "fitted"], readings.loc[~readings["scored"], "measured"])
    assert not (fitted / "checkpoint").exists()
    bundle = load_model(fitted / "model")
    assert bundle.members == 2
    summary = json.loads((fitted / "fit.json").read_text(encoding="utf-8"))
    assert bundle.data_digest == summary["data"]["digest"]
    assert summary["data"]["simulated"] is True
    assert summary["data"]["times"] == [0, 40]
    assert summary["interrupted"] is False
    for lane, objective in enumerate(summary["objective"]):
        assert sum(values[lane] for values in summary["terms"].values()) == pytest.approx(objective, rel=1e-12)
    starts = pd.read_csv(fitted / "fit.csv")
    assert sorted(summary["objective"]) == pytest.approx(sorted(starts["objective"]))
    prior = pd.read_csv(fitted / "prior.csv")
    assert prior["gene"].tolist() == ["gA", "gB", "gC"]
    assert prior["half_life"].tolist() == pytest.approx([5, 4, 8])


def test_a_fit_says_which_rates_the_data_identify(fitted):
    rates, model = pd.read_csv(fitted / "rates.csv", keep_default_na=False), load_model(fitted / "model").models[0]
    decay = rates[rates["parameter"].isin([f"decay:{gene}" for gene in ("gA", "gB", "gC")])]
    assert decay["estimate"].tolist() == pytest.approx(np.asarray(model.kinetics.decay.value).tolist())
    assert ((rates["lo"] <= rates["estimate"]) & (rates["estimate"] <= rates["hi"])).all()
    assert len(pd.read_csv(fitted / "edges.csv")) == len(model.table.edges)
    said = (fitted.parent / "fit.out").read_text(encoding="utf-8")
    assert "What the data identify" in said
    assert f"of {len(rates)} free numbers" in said


def test_a_fit_says_terms_outcomes_priors_gate_and_what_comes_next(fitted):
    said = (fitted.parent / "fit.out").read_text(encoding="utf-8")
    for part in (
        "SIMULATED",
        "measured: half_lives.csv",
        "data",
        "kinetics",
        "done",
        "Residual gate: 0",
        "Next: pinnsim",
    ):
        assert part in said
    following = next(line for line in said.splitlines() if line.startswith("Next: "))
    with COMMANDS.commands["simulate"].make_context("simulate", shlex.split(following)[3:]):
        pass


def test_the_copied_project_is_complete_and_reads_the_same_data_from_where_it_lies(fitted):
    original, copy = load_project(fitted.parent / "project.toml"), load_project(fitted / "project.toml")
    assert copy.dataset.digest() == original.dataset.digest()
    assert (copy.config.model, copy.config.fit) == (original.config.model, original.config.fit)
    assert copy.network.edges == original.network.edges


def test_an_interrupted_fit_keeps_the_best_so_far_and_goes_on_to_the_same_end(fitted, tmp_path, monkeypatch):
    config = fitted.parent / "project.toml"
    fit_file, calls = sys.modules["pinnsim.fit.fit"], []
    save = fit_file.save_tree

    def stop(*arguments, **options):
        save(*arguments, **options)
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_file, "save_tree", stop)
    line = ("fit", config, "--out", tmp_path, "--no-progress", "--no-uncertainty")
    first = call(*line)
    assert (first.status, "best so far" in first.err) == (130, True)
    assert json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))["interrupted"] is True
    assert load_model(tmp_path / "model").members
    other = call(*line, "--seed", "5")
    assert (other.status, other.err[:12], "--restart" in other.err) == (3, "E_CKPT_MODEL", True)
    (tmp_path / "rates.csv").write_text("of an earlier fit", encoding="utf-8")
    monkeypatch.setattr("pinnsim.fit.laplace", Mock(side_effect=KeyboardInterrupt))
    last = call(*line[:-1])
    assert (last.status, "without rates.csv" in last.err, (tmp_path / "rates.csv").exists()) == (0, True, False)
    whole, resumed = (json.loads((folder / "fit.json").read_text(encoding="utf-8")) for folder in (fitted, tmp_path))
    assert resumed["objective"] == whole["objective"]
    assert not (tmp_path / "checkpoint").exists()


# Score


def test_a_score_stands_beside_baselines_and_controls_and_is_said_in_words(fitted):
    called = call("score", fitted.parent / "project.toml", "--out", fitted, "--no-progress")
    assert called.status == 0, called.err
    assert "no shuffled control" in called.err  # two edges allow no exchange: said, not passed over
    found = json.loads((fitted / "scores.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(fitted / "scores.csv")
    assert len(found["rows"]) == len(rows)
    assert set(rows["direction"]) == {"up -> down", "down -> up"}
    assert set(rows["kind"]) == {"model", "control", "baseline"}
    assert found["simulated"] is True
    for verdict in found["verdicts"]:
        assert verdict in called.out.replace("\n", " ").replace("  ", " ")
    assert (fitted / "score_bars.png").read_bytes().startswith(b"\x89PNG")


def test_one_condition_is_scored_by_time_blocks(tmp_path):
    config = write_project(tmp_path, ONE_CONDITION)
    called = call("score", config, "--out", tmp_path / "scored", "--no-progress")
    assert called.status == 0, called.err
    rows = pd.read_csv(tmp_path / "scored" / "scores.csv")
    assert set(rows["direction"]) == {"10-20 min"}
    assert rows.loc[rows["kind"] == "model", "n_values"].tolist() == [6]  # two times, three genes
    assert {"persistence", "copy"} <= set(rows["name"])


def test_one_condition_without_blocks_says_what_to_add(tmp_path):
    config = write_project(tmp_path, ONE_CONDITION.replace("blocks", "# blocks"))
    called = call("score", config, "--out", tmp_path / "scored")
    assert called.status == 2
    assert "blocks = [[25, 45]]" in called.err
    assert not (tmp_path / "scored").exists()


# Simulate


def opened(path: Path) -> xr.DataTree:
    return xr.open_datatree(path, engine="zarr", consolidated=False, decode_times=False).load()


def test_the_toggle_stays_at_rest_and_is_flipped_by_a_long_drive(tmp_path):
    out = tmp_path / "toggle.zarr"
    line = ("--times", "0:40:1", "-t", "none", "-t", "hold(u)=9@1:20", "-t", "hold(v)=9@1:20")
    called = call("simulate", "toggle_switch", *line, "-o", out, "--picture", tmp_path / "toggle.png")
    assert called.status == 0, called.err
    assert (tmp_path / "toggle.png").read_bytes().startswith(b"\x89PNG")
    assert course_panels(read_courses(load_simulation(out)))[0].get_ylabel() == "reading (instrument's unit)"
    tree = opened(out)
    assert tree["outcome"].values.tolist() == [0, 0, 0]
    ends = tree["species/abundance"].isel(time=-1).values
    high, low = 5 + 2 * 6**0.5, 5 - 2 * 6**0.5
    assert ends[1] == pytest.approx([high, low], rel=1e-4)
    assert ends[2] == pytest.approx([low, high], rel=1e-4)
    assert tree["species/abundance"]["time"].attrs["units"] == "h"
    assert tree.attrs["model"] == "toggle_switch"
    assert "against the first lane" in called.out


def test_all_members_start_from_the_first_sample_under_the_conditions_own_treatment(fitted, tmp_path):
    config = fitted.parent / "project.toml"
    out = tmp_path / "sample.zarr"
    called = call(
        "simulate", fitted / "model", "--times", "0,20,60", "--from", "sample", "--data", config, "--condition", "down",
        "--members", "all", "--out", out,
    )  # fmt: skip
    assert called.status == 0, called.err
    assert "extrapolation" in called.out
    tree, project = opened(out), load_project(config)
    reading = tree["readout/reading"]
    assert reading.dims == ("member", "lane", "time", "gene")
    first = project.dataset.values[project.dataset.conditions.index("down"), 0, 0]
    assert reading.isel(time=0).values == pytest.approx(np.broadcast_to(first, (2, 1, 3)), abs=1e-6)
    assert str(tree["lane"].values[0]) == str(project.dataset.treatments[project.dataset.conditions.index("down")])


def test_failed_lanes_are_named_and_nothing_is_written_unless_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("pinnsim.cli.simulate._solver", lambda method, rtol: ODE(rtol=rtol, max_steps=64))
    line = ("simulate", "toggle_switch", "--times", "0:40:20", "-t", "none", "-t", "hold(u)=9@1:20", "--rtol", "1e-11")
    refused = call(*line, "--out", tmp_path / "a.zarr")
    assert refused.status == 4
    assert "E_SOLVER: lane 'hold(u)=9@1:20'" in refused.err
    assert listing(tmp_path) == set()
    kept = call(*line, "--out", tmp_path / "a.zarr", "--keep-failed")
    assert kept.status == 4
    tree = opened(tmp_path / "a.zarr")
    done = tree["outcome"].values == 0
    assert np.isfinite(tree["species/abundance"].values).all(axis=(1, 2)).tolist() == done.tolist()
    assert done.tolist() == [True, False]


def test_both_solvers_agree(tmp_path):
    ends = []
    for method in ("tsit5", "kvaerno5"):
        out = tmp_path / f"{method}.zarr"
        line = ("--times", "0,5", "-t", "drive(u)=3@1:", "--method", method, "--rtol", "1e-8")
        assert call("simulate", "toggle_switch", *line, "--out", out).status == 0
        ends.append(opened(out)["species/abundance"].isel(time=-1).values)
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)


# Report, doctor, experiment, demo


def test_a_report_gathers_what_the_verbs_left(fitted, tmp_path):
    if not (fitted / "scores.json").exists():
        assert call("score", fitted.parent / "project.toml", "--out", fitted, "--no-progress").status == 0
    line = ("simulate", fitted / "model", "--times", "0:40:4", "-t", "none", "-t", "gA=0@5:")
    assert call(*line, "--out", fitted / "knock.zarr").status == 0
    assert call("report", fitted, "--out", tmp_path / "page.html").status == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("The fit", "Honest score", "Simulation: knock", "gA=0@5:", "persistence", "measured: half_lives.csv"):
        assert part in text
    for part in ("Gene by gene", "Training", "Network", "24 draws from", "No landscape was computed"):
        assert part in text
    assert f"pinnsim landscape {fitted / 'model'} --out {fitted}/landscape.csv" in text
    assert "nobody &amp; &lt;sons&gt; 2024" in text
    assert "SIMULATED" in text
    # Samples, genes, course of the objective, half-lives, edges, scores, the simulation.
    assert text.count("data:image/png;base64,") == 7


def test_the_doctor_finds_this_installation_well_and_a_missing_shelf_ailing(monkeypatch, tmp_path):
    called = call("doctor")
    assert called.status == 0, called.out
    assert "All is well" in called.out
    assert "toggle switch within" in called.out
    monkeypatch.setattr(shelf, "_PACKAGE", tmp_path)
    ailing = call("doctor")
    assert ailing.status == 1
    assert "FAIL  self-test" in ailing.out
    assert "ok    precision" in ailing.out


def test_the_doctor_lists_every_code():
    out = call("doctor", "--codes").out
    assert all(f"{status}  {code}" in out for code, (status, _) in CODES.items())


EXPERIMENT = '''"""Is two more than one?"""
from pinnsim.experiment import Acceptance, Findings
SMOKE = {"size": 1}
def run(plan, out, progress=True):
    (out / "picture.txt").write_text(str(progress))
    rows = (Acceptance("two", 2.0, 1.0, "higher"), Acceptance("x", 2.0, 1.0))
    return Findings({"size": plan["size"]}, acceptance=rows)
'''


def test_an_experiment_is_listed_and_run_at_either_size(tmp_path, monkeypatch):
    folder = tmp_path / "_share" / "experiments"
    folder.mkdir(parents=True)
    (folder / "two.py").write_text(EXPERIMENT, encoding="utf-8")
    (folder / "two.toml").write_text("size = 9\n", encoding="utf-8")
    monkeypatch.setattr(shelf, "_PACKAGE", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call("experiment", "--list").out == "two: Is two more than one?\n"
    assert call("experiment").status == 2
    called = call("experiment", "two", "--smoke", "--no-progress")
    assert called.status == 0, called.err
    assert "holds: two" in called.out
    assert "FAILS: x" in called.out
    assert (tmp_path / "out" / "two" / "picture.txt").read_text() == "False"
    assert json.loads((tmp_path / "out" / "two" / "two.json").read_text())["metrics"] == {"size": 1}
    assert call("experiment", "two", "--out", tmp_path / "full").status == 0
    assert json.loads((tmp_path / "full" / "two.json").read_text())["metrics"] == {"size": 9}


def test_the_demo_is_given_its_folder_size_and_progress(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(demo, "run_demo", lambda out, smoke, progress: given.append((out, smoke, progress)))
    assert call("demo", "--out", tmp_path / "d", "--smoke", "--quiet").status == 0
    assert call("demo").status == 0
    assert given == [(tmp_path / "d", True, False), (Path("demo"), False, True)]
