"""Extras that are not installed: one sentence with the command. Those with an entry of their own in the library are
tried in test_cli_manners; here are PEtab's, and that no other extra is imported by the library at all."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import call

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.files import read_grouping

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {"ott-jax": "ott", "numba": "numba", "libroadrunner": "roadrunner", "gillespy2": "gillespy2",
             "scons": "SCons", "torchsde": "torchsde", "numpyro": "numpyro", "arviz": "arviz"}  # fmt: skip


def packages(extra: str) -> set[str]:
    """What an extra of the project installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[\[<>=]", need)[0] for need in project["optional-dependencies"][extra]}


def test_petab_without_yaml_is_one_sentence_with_its_command(tmp_path, monkeypatch) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text("format_version: 1\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(PinnsimError, match=r"^E_EXTRA_MISSING: [^\n]*pip install 'pinnsim\[petab\]'\.$"):
        read_grouping(path)
    called = call("import", path)
    assert (called.status, called.out, called.err.count("\n")) == (2, "", 1)
    assert "pip install 'pinnsim[petab]'" in called.err


def test_what_serves_benchmarks_alone_is_never_imported_by_the_library() -> None:
    assert packages("bench") | packages("ot") <= set(ELSEWHERE)
    found = {
        (path.name, name.partition(".")[0])
        for path in (ROOT / "pinnsim").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert any(name == "jax" for _, name in found)
    assert [(path, name) for path, name in found if name in ELSEWHERE.values()] == []
