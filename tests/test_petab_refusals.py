"""What PEtab problems may not hold is refused by name, all at once; what strangers' files may try is inert."""

import json
import os

import petab_problems as own
import pytest
from command_line import call

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.files import TableLimits, inside, number_of, read_grouping
from pinnsim.formats.petab.problem import read_petab
from pinnsim.formats.petab.report import describe_petab
from pinnsim.formats.petab.write import write_petab

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")
pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'pinnsim[petab]')")

PARAMETER = [{"parameterId": "k2", "lowerBound": 0.1, "upperBound": 3, "nominalValue": 0.6, "estimate": "true"}]
OBSERVABLE = [{"observableId": "y", "observableFormula": "A", "noiseFormula": "0.1"}]
MEASUREMENT = [{"observableId": "y", "experimentId": "", "time": 1, "measurement": 0.5}]
EVENT = (
    '<listOfEvents><event id="boom" useValuesFromTriggerTime="true"><trigger initialValue="true" persistent="true">'
    '<math xmlns="http://www.w3.org/1998/Math/MathML"><apply><gt/><ci> A </ci><cn> 5 </cn></apply></math></trigger>'
    "</event></listOfEvents></model>"
)


def _tables(**changed):
    return {"parameter": PARAMETER, "observable": OBSERVABLE, "measurement": MEASUREMENT} | changed


def _with(row, **more):
    return [{**row[0], **more}]


PERIOD = [{"experimentId": "e", "time": 0, "conditionId": "c"}]
CASES = {
    "event": ({}, own.MODEL.replace("</model>", EVENT), "E_PETAB_UNSUPPORTED", "event.*boom"),
    "unknown name": ({"observable": _with(OBSERVABLE, observableFormula="AA + 1")}, None, "E_PETAB_INVALID", "'AA'"),
    "no formula": (
        {"observable": _with(OBSERVABLE, observableFormula="__import__('os')")},
        None,
        "E_FORMULA",
        "column",
    ),
    "unknown observable": ({"measurement": _with(MEASUREMENT, observableId="z")}, None, "E_PETAB_INVALID", "line 2"),
    "no number": ({"measurement": _with(MEASUREMENT, measurement="many")}, None, "E_PETAB_INVALID", "many"),
    "no experiment": ({"measurement": _with(MEASUREMENT, experimentId="e")}, None, "E_PETAB_INVALID", "experiment"),
    "too early": (
        {
            "measurement": _with(MEASUREMENT, experimentId="e", time=-1),
            "experiment": PERIOD,
            "condition": [{"conditionId": "c", "targetId": "k1", "targetValue": 1}],
        },
        None,
        "E_PETAB_INVALID",
        "before the experiment",
    ),
    "changed twice": (
        {
            "experiment": [*PERIOD, {**PERIOD[0], "conditionId": "d"}],
            "condition": [{"conditionId": c, "targetId": "k1", "targetValue": 1} for c in "cd"],
        },
        None,
        "E_PETAB_INVALID",
        "'k1' is changed twice",
    ),
    "both tables": (
        {"experiment": PERIOD, "condition": [{"conditionId": "c", "targetId": "k2", "targetValue": 1}]},
        None,
        "E_PETAB_INVALID",
        "'k2' is changed by a condition and in the parameter table",
    ),
    "bounds": ({"parameter": _with(PARAMETER, lowerBound=5)}, None, "E_BOUNDS", "'k2' has bounds 5 and 3"),
    "no nominal": ({"parameter": _with(PARAMETER, nominalValue="", estimate="false")}, None, "E_PETAB_INVALID", "k2"),
    "prior": ({"parameter": _with(PARAMETER, priorDistribution="norma")}, None, "E_PETAB_INVALID", "normal"),
    "placeholders": ({"measurement": _with(MEASUREMENT, noiseParameters="3")}, None, "E_PETAB_INVALID", "1 noisePara"),
    "logarithm": (
        {
            "observable": _with(OBSERVABLE, noiseDistribution="log-normal"),
            "measurement": _with(MEASUREMENT, measurement=0),
        },
        None,
        "E_PETAB_INVALID",
        "0 has no logarithm",
    ),
    "column": ({"observable": [{"observableId": "y", "formula": "A"}]}, None, "E_PETAB_INVALID", "observableFormula"),
    "no measurements": ({"measurement": _with(MEASUREMENT, observableId="")}, None, "E_PETAB_INVALID", "observable"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name(name, tmp_path):
    changed, model, code, words = CASES[name]
    path = own.version_two(tmp_path, model or own.MODEL, **_tables(**changed))
    with pytest.raises(PinnsimError, match=words) as caught:
        read_petab(path, isolated=False)
    assert code in caught.value.codes


def test_all_problems_come_at_once(tmp_path):
    noise = _with(OBSERVABLE, noiseDistribution="cauchy")
    rows = _with(PARAMETER, lowerBound=5)
    path = own.version_two(
        tmp_path, **_tables(parameter=rows, observable=noise, measurement=_with(MEASUREMENT, time="soon"))
    )
    with pytest.raises(PinnsimError) as caught:
        read_petab(path, isolated=False)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "name", ["../x.tsv", "/etc/passwd", "https://example.org/x.tsv", "file:///etc/passwd", "~/x", "", 3]
)
def test_files_outside_the_folder_are_not_read(name, tmp_path):
    with pytest.raises(PinnsimError, match="E_PETAB_INVALID"):
        inside(tmp_path, name)


def test_a_link_out_of_the_folder_is_followed_before_it_is_judged(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.tsv").write_text("a\tb\n")
    os.symlink(tmp_path / "secret.tsv", home / "x.tsv")
    with pytest.raises(PinnsimError, match="outside"):
        inside(home, "x.tsv")
    assert inside(home, "sub/y.tsv") == (home / "sub" / "y.tsv").resolve()


GROUPINGS = {
    "python": "a: !!python/object/apply:os.system ['echo']",
    "alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "deep": "a: " + "[" * 30 + "]" * 30,
    "no mapping": "- a\n- b",
    "broken": "a: [",
    "names": "1: 2",
}


@pytest.mark.parametrize("name", GROUPINGS)
def test_a_yaml_file_is_plain_or_refused(name, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(GROUPINGS[name])
    with pytest.raises(PinnsimError, match="E_PETAB_INVALID"):
        read_grouping(path)


def test_sizes_are_bounded(tmp_path):
    path = own.version_two(tmp_path, **_tables(measurement=MEASUREMENT * 50))
    for limits in (TableLimits(rows=20), TableLimits(size=100), TableLimits(grouping=10), TableLimits(files=2)):
        with pytest.raises(PinnsimError, match="E_SIZE"):
            read_petab(path, tables=limits, isolated=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format_version: 3", "versions 1 and 2"),
        ("format_version: 1\nproblems: [{}, {}]", "2 problems"),
        ("format_version: 2.0.0\nextensions: {sciml: {}}", "extensions sciml"),
        ("format_version: 2.0.0\nmodel_files: {m: {language: pysb, location: m.py}}", "not written in SBML"),
    ],
)
def test_other_kinds_of_problems_are_refused(text, message, tmp_path):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PinnsimError, match=message):
        read_petab(tmp_path / "p.yaml")


def test_cells_are_numbers_only_where_they_say_so():
    assert [number_of(cell) for cell in ("1e-3", "inf", "-inf", " 2 ")] == [1e-3, float("inf"), float("-inf"), 2.0]
    assert [number_of(cell) for cell in ("nan", "1_0", "x", "", "٣")] == [None] * 5


def test_a_problem_is_described_and_written_again(tmp_path):
    path = own.version_two(tmp_path, **_tables())
    found, error = describe_petab(path)
    assert error is None
    assert (found["version"], found["measurements"], found["estimated"], found["refused"]) == (2, 1, ["k2"], [])
    problem = read_petab(path, isolated=False)
    again = read_petab(write_petab(problem, tmp_path / "fitted", [1.25]), isolated=False)
    assert again.nominal.tolist() == [1.25]
    assert again.source.model == problem.source.model
    with pytest.raises(PinnsimError, match="not empty"):
        write_petab(problem, tmp_path / "fitted")
    found, error = describe_petab(tmp_path / "absent.yaml")
    assert error is not None
    assert "cannot be read" in found["refused"][0]


def test_the_command_line_tells_what_was_understood_and_refused(tmp_path):
    path = own.version_two(tmp_path, **_tables())
    status, out, _ = call("check", path)
    assert status == 0
    assert "Estimated (1): k2" in out
    assert json.loads(call("import", path, "--json").out)["estimated"] == ["k2"]
    own.version_two(tmp_path, own.MODEL.replace("</model>", EVENT), **_tables())
    status, _, said = call("import", path)
    assert status == 3
    assert "E_PETAB_UNSUPPORTED" in said
