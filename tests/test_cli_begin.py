"""Projects to begin from: every template passes the check, and the schema knows every setting."""

import json
import tomllib

import pytest
from command_line import call, listing

from pinnsim.cli.begin import Template


@pytest.mark.parametrize("template", [one for one in Template if one != Template.PETAB])
def test_every_template_passes_the_check(template: Template, tmp_path) -> None:
    folder = tmp_path / "mine"
    called = call("init", folder, "--template", template.value)
    assert called.status == 0, called.err
    checked = call("check", folder / "project.toml")
    assert checked.status == 0, checked.err
    assert ("SIMULATED" in checked.out) == (template != Template.EMBEDDED)
    before = listing(folder)
    again = call("init", folder)
    assert (again.status, again.err.partition(":")[0]) == (2, "E_USAGE")
    assert listing(folder) == before


def test_a_petab_template_is_a_problem_that_passes_the_check(tmp_path) -> None:
    pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")
    pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'pinnsim[petab]')")
    called = call("init", tmp_path / "mine", "--template", "petab")
    assert called.status == 0, called.err
    checked = call("check", tmp_path / "mine" / "problem.yaml", "--json")
    assert checked.status == 0, checked.err
    found = json.loads(checked.out)
    assert (found["version"], found["measurements"], found["at_rest_first"]) == (2, 32, 2)
    assert "MADE UP" in (tmp_path / "mine" / "problem.yaml").read_text()


def test_the_schema_of_cells_has_every_setting_of_its_template(tmp_path) -> None:
    found = json.loads(call("schema", "--cells").out)
    call("init", tmp_path / "mine", "--template", "snapshots")
    example = tomllib.loads((tmp_path / "mine" / "project.toml").read_text())
    assert set(example) <= set(found["properties"])
    assert set(example["cells"]) <= set(found["$defs"]["CellsConfig"]["properties"])


def test_the_schema_has_every_section_and_setting(tmp_path) -> None:
    found = json.loads(call("schema").out)
    call("init", tmp_path / "mine")
    example = tomllib.loads((tmp_path / "mine" / "project.toml").read_text())
    assert set(example) <= set(found["properties"])
    lines = call("schema", "--fields").out.splitlines()
    names = {line.partition(":")[0] for line in lines}
    assert {"data.tidy", "model.regulation.kind", "fit.starts", "treatments"} <= names
    assert "fit.starts: default 4" in lines
