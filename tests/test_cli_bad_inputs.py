"""Every one of the thirty bad inputs of the contract yields its code by the command line; several are told at once."""

import json
from pathlib import Path

import pytest
from command_line import call

from pinnsim import shelf
from pinnsim.experiment import companion

bad = companion(str(shelf.experiment_path("interface")), "_bad_inputs")
CASES = [(number, case) for number, cases in bad.CASES.items() for case in cases]


def test_all_thirty_rows_have_a_case():
    assert sorted(bad.CASES) == list(range(1, 31))


@pytest.mark.filterwarnings("default::pinnsim.errors.PinnsimWarning")
@pytest.mark.parametrize(("number", "case"), CASES, ids=[f"{n}-{case.code}" for n, case in CASES])
def test_a_bad_input_yields_its_code_and_status_without_traceback(number, case, tmp_path):
    status, _, said = bad.called(case, tmp_path)
    codes = [line.partition(":")[0] for line in said.splitlines()]
    assert case.code in codes, said
    assert "Traceback" not in said
    assert not (tmp_path / "x.zarr").exists()
    assert (status == 0) == case.code.startswith("W_")


def test_several_at_once_are_all_listed_also_as_json(tmp_path):
    text = bad.PROJECT.replace('time_unit = "min"\nscale', "scale").replace("signal(sugar)=1@0:", "sgnal(sugar)=1@0:")
    tables = {
        "readings.csv": bad.edited("readings.csv", "gA,up,5,9.6", "gA,up,5,inf").replace("gB,up,5", "gB,up,5 min"),
        "network.csv": "source,target,weight\ngA,gB,foo\n",
        "half_lives.csv": "gene,half_life\ngA,-5\n",
    }
    for name, content in {"project.toml": text, **tables}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    called = call("check", tmp_path / "project.toml", "--json")
    told = [line.partition(":")[0] for line in called.err.splitlines()]
    problems = json.loads(called.out)["problems"]
    assert {"E_TIME_UNIT", "E_DATA_NONFINITE", "E_NETWORK_SIGN", "E_PRIOR_VALUE", "E_PERTURB_TEXT"} <= set(told)
    assert [problem["code"] for problem in problems] == told
    assert called.status == 2


def test_messages_name_settings_of_the_file_not_arguments_of_python(tmp_path):
    text = bad.PROJECT.replace('time_unit = "min"\n', "").replace('half_lives = "half_lives.csv"\nunit = "min"\n', "")
    for name, content in {"project.toml": text, **bad.TABLES}.items():
        (Path(tmp_path) / name).write_text(content, encoding="utf-8")
    said = call("check", tmp_path / "project.toml").err
    assert "[data] time_unit is not given" in said
    assert "[prior] typical = 2" in said  # told in the same round, although no gene is known yet
    assert "pass " not in said


def test_another_unit_of_the_model_than_of_the_data_is_refused(tmp_path):
    text = bad.PROJECT.replace("[model]\n", '[model]\ntime_unit = "h"\n')
    for name, content in {"project.toml": text, **bad.TABLES}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    called = call("check", tmp_path / "project.toml")
    assert called.status == 3
    assert "E_TIME_UNIT: [model] time_unit = 'h'" in called.err
