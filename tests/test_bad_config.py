"""Bad input by the command line: rows 15 to 19, 23 and 29 of the contract, each with its code, remedy and no traceback.

Everything that is wrong is said at once, and nothing is left behind.
"""

import shutil
from pathlib import Path

import pytest
from command_line import PROJECT, Called, call, listing, write_project
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnsim import shelf
from pinnsim.cli.arguments import read_project
from pinnsim.errors import CODES, PinnsimError
from pinnsim.project import Project
from pinnsim.session import plain_warnings


def refused(called: Called, *codes: str) -> list[str]:
    """The lines of a refusal, which must have exactly these codes, each on a line of its own, and their status."""
    lines = called.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(codes), called.err
    assert called.status == min(CODES[code][0] for code in codes)
    assert "Traceback" not in called.err
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("bad")).parent


def fit_of(folder: Path, *changes: tuple[str, str]) -> Called:
    """`fit` of the tiny project with texts replaced; nothing may be left behind."""
    text = PROJECT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "changed.toml").write_text(text, encoding="utf-8")
    before = listing(folder)
    called = call("fit", folder / "changed.toml", "--out", folder / "out", "--no-progress")
    assert listing(folder) == before
    return called


def simulate(tmp_path: Path, *treatments: str, times: str = "0:40:1") -> Called:
    lanes = [part for treatment in treatments for part in ("--treatment", treatment)]
    called = call("simulate", "toggle_switch", "--times", times, *lanes, "--out", tmp_path / "x.zarr")
    assert listing(tmp_path) == set()
    return called


@pytest.mark.parametrize(
    ("section", "wrong", "right"),
    [
        ("[fit]", "lerning_rate = 0.1", "learning_rate"),
        ("[model]", "leyers = ['mrna']", "layers"),
        ("[model.readout]", "ofset = 1", "offset"),
        ("[score]", "shufles = 1", "shuffles"),
        ("[data]", "tme = 'time'", "time"),
        ("[network]", "pth = 'x'", "path"),
    ],
)
def test_15_unknown_key_with_the_nearest_known_one_and_its_line(folder, section, wrong, right):
    (line,) = refused(fit_of(folder, (section, f"{section}\n{wrong}")), "E_CONFIG_KEY")
    number = PROJECT.splitlines().index(section) + 2
    assert f"'{wrong.split()[0]}' (did you mean '{right}'?)" in line
    assert f"line {number}" in line


def test_15_every_mistake_of_a_file_is_said_at_once(folder):
    changes = ("[fit]", "[fit]\nlerning_rate = 1\npatience = -1\nseed = 'x'"), ("[score]", "[score]\nlate = [1]")
    lines = refused(fit_of(folder, *changes), "E_CONFIG_VALUE", "E_CONFIG_VALUE", "E_CONFIG_KEY", "E_CONFIG_VALUE")
    for line, place in zip(lines, ("fit.patience", "fit.seed", "lerning_rate", "score.late"), strict=True):
        assert place in line


def test_15_an_unknown_section_is_refused_too(folder):
    (line,) = refused(fit_of(folder, ("[fit]", "[fti]\n[fit]")), "E_CONFIG_KEY")
    assert "did you mean 'fit'" in line


def test_16_unknown_gene_with_the_nearest_known_one(tmp_path, folder):
    (line,) = refused(simulate(tmp_path, "U=0"), "E_PERTURB_GENE")
    assert "did you mean 'u'" in line
    lines = refused(simulate(tmp_path, "x9=0, drive(y9)=1", "signal(z9)=1"), *["E_PERTURB_GENE"] * 3)
    assert all(name in line for name, line in zip(("x9", "y9", "z9"), lines, strict=True))
    (line,) = refused(fit_of(folder, ("signal(sugar)=1@0:", "signal(suger)=1@0:")), "E_PERTURB_GENE")
    assert "did you mean 'sugar'" in line


@pytest.mark.parametrize("text", ["drive(u)=-1", "u*-0.5", "u*nan", "hold(u)=inf", "u*2{dose=-1;ic50=1}"])
def test_17_negative_or_undefined_dose(tmp_path, text):
    (line,) = refused(simulate(tmp_path, text), "E_DOSE_NEGATIVE")
    assert text.partition("{")[0] in line


def test_17_knock_out_and_over_expression_at_once(tmp_path):
    (line,) = refused(simulate(tmp_path, "u=0, u*3"), "E_PERTURB_CONFLICT")
    assert "'u=0' and 'u*3'" in line
    assert call("simulate", "toggle_switch", "--times", "0:1", "--out", "x").status == 2


def test_18_perturbation_outside_the_times(tmp_path):
    (line,) = refused(simulate(tmp_path, "u=0@50:60"), "E_PERTURB_TIME")
    assert "[0, 40]" in line
    refused(simulate(tmp_path, "u=0@9:8"), "E_PERTURB_TIME")


@pytest.mark.parametrize(
    "wrong",
    [
        "[model.regulation]\nhill = 9",
        "[model.regulation]\ntau = -1",
        "[model.residual]\ngate = 1.5",
        "[model.likelihood]\nsd = 0",
    ],
)
def test_19_values_outside_their_bounds(folder, wrong):
    (line,) = refused(fit_of(folder, ("[model.readout]", f"{wrong}\n[model.readout]")), "E_CONFIG_VALUE")
    assert wrong.split()[1] in line


def test_19_a_start_that_the_command_line_puts_outside_its_bounds_is_refused(folder):
    called = call("fit", folder / "project.toml", "--out", folder / "out", "--starts", "5000")
    (line,) = refused(called, "E_CONFIG_VALUE")
    assert "starts = 5000" in line


def test_several_kinds_of_mistakes_of_one_command_line_come_together(tmp_path):
    called = call(
        "simulate", "toggle_switch", "--times", "0:1", "--rtol", "2", "-t", "u=", "-t", "v*-1", "--from", "sample",
        "--out", tmp_path / "x.csv",
    )  # fmt: skip
    refused(called, "E_USAGE", "E_USAGE", "E_USAGE", "E_USAGE", "E_PERTURB_TEXT", "E_DOSE_NEGATIVE")
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("verb", ["fit", "score"])
@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("[data", "not valid TOML"), ("", "'data' is missing")]
)
def test_a_project_file_that_is_none(tmp_path, verb, content, said):
    config = tmp_path / "p.toml"
    if content is not None:
        config.write_text(content)
    before = listing(tmp_path)
    called = call(verb, config, "--out", tmp_path / "out")
    (line,) = refused(called, "E_CONFIG_VALUE" if content == "" else "E_CONFIG_FILE")
    assert said in line
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["readings.csv", "network.csv", "half_lives.csv"])
def test_a_table_that_is_not_there_is_named_with_the_nearest_one(folder, name):
    (line,) = refused(fit_of(folder, (name, name.replace(".csv", "s.csv"))), "E_DATA_FILE")
    assert f"did you mean '{name}'" in line


def test_names_that_are_not_on_the_shelf(tmp_path):
    line = ("--times", "0:1:1", "--out", tmp_path / "x.zarr")
    assert "did you mean 'toggle_switch'" in refused(call("simulate", "toggle_swich", *line), "E_MODEL_UNKNOWN")[0]
    refused(call("simulate", tmp_path / "nothing" / "here", *line), "E_CKPT_MISSING")
    refused(call("simulate", tmp_path, *line), "E_CKPT_MISSING")
    refused(call("experiment", "carbon_shft"), "E_EXPERIMENT_UNKNOWN")
    sample = ("--from", "sample", "--condition", "glc_mal", "--data")
    refused(call("simulate", "carbon_shift", *line, *sample, "nothing"), "E_DATASET_UNKNOWN")
    wrong = ("--from", "sample", "--condition", "glc_mla", "--data", "bsubtilis_carbon_shift")
    assert (
        "did you mean 'glc_mal'" in refused(call("simulate", "carbon_shift", *line, *wrong), "E_CONDITION_UNKNOWN")[0]
    )


def test_a_sample_of_other_genes_in_another_unit_is_refused(tmp_path):
    line = ("--times", "0:1:1", "--out", tmp_path / "x.zarr", "--from", "sample", "--condition", "glc_mal")
    called = call("simulate", "toggle_switch", *line, "--data", "bsubtilis_carbon_shift")
    unit, _ = refused(called, "E_TIME_UNIT", "E_GENE_UNMATCHED")
    assert "counts time in min, the model in h" in unit
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("file", ["model.toml", "parameters.safetensors", "manifest.json"])
def test_23_a_damaged_bundle(tmp_path, file):
    shutil.copytree(shelf.path("toggle_switch"), tmp_path / "model")
    path = tmp_path / "model" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (line,) = refused(
        call("simulate", tmp_path / "model", "--times", "0:1:1", "--out", tmp_path / "x.zarr"), "E_CKPT_CORRUPT"
    )
    assert file in line
    assert not (tmp_path / "x.zarr").exists()


def test_29_a_folder_that_cannot_be_made_is_refused_before_any_work(folder):
    (line,) = refused(call("fit", folder / "project.toml", "--out", folder / "network.csv" / "out"), "E_DISK")
    assert "is a file" in line
    refused(call("demo", "--out", folder / "network.csv"), "E_DISK")


@settings(max_examples=60)
@given(st.data())
def test_a_mangled_project_file_is_read_or_refused_and_nothing_else(folder, data):
    text = list(PROJECT)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(
            st.sampled_from(["", "=", '"', "[", "]", "{", "\n", "0", "-", "x", ".", "#", "1e999", "nan"])
        )
    (folder / "mangled.toml").write_text("".join(text), encoding="utf-8")
    with plain_warnings():
        try:
            found = read_project(folder / "mangled.toml")
        except PinnsimError as refusal:
            found = refusal
    assert isinstance(found, Project | PinnsimError)
    if isinstance(found, PinnsimError):
        assert set(found.codes) <= set(CODES)
        assert len(str(found)) > len(found.codes[0]) + 20  # more than a code: what, where and what to do
