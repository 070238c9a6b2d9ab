"""SBML that is refused: each construct by name, identifier and line, all at once; hostile files end in coded errors."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")

import sbml_support  # noqa: E402
from command_line import call  # noqa: E402
from sbml_models import mathml, written  # noqa: E402

from pinnsim.errors import PinnsimError  # noqa: E402
from pinnsim.formats.antimony import read_antimony  # noqa: E402
from pinnsim.formats.sbml.read import parsed_text, read_sbml, system_of  # noqa: E402
from pinnsim.formats.sbml.report import describe_model  # noqa: E402
from pinnsim.formats.sbml.scan import Limits  # noqa: E402

EVENT = (
    '<listOfEvents>\n<event id="burst" useValuesFromTriggerTime="true"><trigger initialValue="true" persistent="true">'
    f"{mathml('delay(A, 1) < 1')}</trigger></event></listOfEvents>"
)
ALGEBRAIC = f'<listOfRules>\n<algebraicRule id="balance">{mathml("k2 - k1")}</algebraicRule></listOfRules>'
SECOND = '<parameter id="k2" constant="false"/></listOfParameters>'


def _with(text: str, part: str, after: str) -> str:
    return text.replace(after, f"{after}{part}")


def _third(text: str) -> str:
    """The same model in Level 3 Version 1, which has fast reactions."""
    return text.replace("version2/core", "version1/core").replace('version="2"', 'version="1"')


BASE = written()
FAST = _third(BASE).replace('id="R" reversible="true"', 'id="R" reversible="true" fast="true"')
DELAYED = BASE.replace("<ci> A </ci>", mathml("delay(A, 1)").partition(">")[2].rpartition("</math>")[0])
REFUSED: dict[str, tuple[str, str, str]] = {
    "delay in an event": (
        _with(BASE, EVENT, "</listOfReactions>"), "E_SBML_UNSUPPORTED", "delay() in trigger at line 4 (burst)"
    ),
    "algebraic rule": (
        _with(BASE.replace("</listOfParameters>", SECOND), ALGEBRAIC, "</listOfParameters>"),
        "E_SBML_UNSUPPORTED",
        "algebraicRule at line 4 (balance)",
    ),
    "fast reaction": (FAST, "E_SBML_UNSUPPORTED", "fast reaction at line 3 (R)"),
    "delay": (DELAYED, "E_SBML_UNSUPPORTED", "delay() in kineticLaw at line 3 (R)"),
    "package": (
        BASE.replace(
            'level="3"',
            'xmlns:comp="http://www.sbml.org/sbml/level3/version1/comp/version1" comp:required="true" level="3"',
        ),
        "E_SBML_UNSUPPORTED",
        "package 'comp'",
    ),
    "unknown name": (BASE.replace("<ci> k1 </ci>", "<ci> kk </ci>"), "E_SBML_INVALID", "libSBML 102"),
    "no value": (BASE.replace(' value="0.7"', ""), "E_SBML_INVALID", "'k1', which 'R' needs, has no value (line 3)"),
    "no start": (BASE.replace(' initialAmount="3"', ""), "E_SBML_INVALID", "'A' has no initial value (line 3)"),
    "no size": (BASE.replace(' size="1"', ""), "E_SBML_INVALID", "'C', which"),
    "no count": (BASE.replace(' stoichiometry="1"', "", 1), "E_SBML_INVALID", "R's stoichiometry"),
    "circle": (written(("constant", "assigned")).replace(mathml("0.5 + 0.1*cos(3*time)"), mathml("k1 + 1")),
               "E_RULE_CYCLE", "Circular dependencies involving rules"),
    "derivative of what is assigned": (
        written(("constant", "assigned"), ("count", "varying")).replace(mathml("1 + 0.3*time"), mathml("rateOf(k1)")),
        "E_SBML_INVALID",
        "rateOf",
    ),
    "no model": (
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"/>',
        "E_SBML_INVALID",
        "no model",
    ),
    "other XML": ("<html><body>hello</body></html>", "E_SBML_INVALID", "libSBML"),
}  # fmt: skip


def refusal(content: str | bytes, **options) -> PinnsimError:
    """The error of a text, which must come."""
    content = content.encode() if isinstance(content, str) else content
    with pytest.raises(PinnsimError) as caught:
        system_of(parsed_text(content, "m.xml", isolated=False, **options), "m.xml")
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(name: str) -> None:
    text, code, words = REFUSED[name]
    error = refusal(text)
    assert all(found.startswith(code) for found in error.codes)
    assert words in str(error)
    assert "m.xml" in str(error)


def test_what_is_published_as_refused_is_what_is_tested() -> None:
    page = (Path(__file__).parents[1] / "docs" / "sbml.md").read_text(encoding="utf-8")
    codes = {name: code for name, (_, code, _) in REFUSED.items()}
    assert sbml_support.refused(codes) in page, "run python tests/sbml_support.py for the table"
    assert {name for row in sbml_support.NOT_TAKEN for name in row.shown} == set(REFUSED)
    assert all(codes[name].startswith(row.code) for row in sbml_support.NOT_TAKEN for name in row.shown)


def test_all_is_told_at_once() -> None:
    text = _with(_with(DELAYED.replace("</listOfParameters>", SECOND), EVENT, "</listOfReactions>"), ALGEBRAIC,
                 "</listOfParameters>")  # fmt: skip
    error = refusal(text)
    assert error.codes == ("E_SBML_UNSUPPORTED",) * 3
    for words in ("delay() in trigger at line 5 (burst)", "algebraicRule at line 4 (balance)", "delay() in kineticLaw"):
        assert words in str(error)
    assert error.exit_status == 3


def _bomb() -> bytes:
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10 if k else "ha"}">' for k in range(12))
    return f'<?xml version="1.0"?><!DOCTYPE sbml [{entities}]><sbml>&e11;</sbml>'.encode()


def _doubling() -> bytes:
    """Functions that each call the one before twice."""
    functions = "".join(
        f'<functionDefinition id="f{k}">{mathml(f"lambda(x, f{k - 1}(f{k - 1}(x)))" if k else "lambda(x, x + x)")}'
        "</functionDefinition>"
        for k in range(40)
    )
    law = BASE.replace("<ci> A </ci>", "<apply><ci> f39 </ci><ci> A </ci></apply>")
    return _with(law, f"<listOfFunctionDefinitions>{functions}</listOfFunctionDefinitions>", '<model id="m" >').encode()


def _deep(levels: int) -> bytes:
    return BASE.replace("<ci> A </ci>", "<apply><minus/>" * levels + "<ci> A </ci>" + "</apply>" * levels).encode()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "entity bomb": (_bomb, "E_SBML_INVALID"),
    "external entity": (
        lambda: b'<!DOCTYPE sbml [<!ENTITY x SYSTEM "file:///etc/passwd">]><sbml>&x;</sbml>',
        "E_SBML_INVALID",
    ),
    "external document type": (lambda: b'<!DOCTYPE sbml SYSTEM "http://127.0.0.1:9/x.dtd"><sbml/>', "E_SBML_INVALID"),
    "deep formula": (lambda: _deep(20_000), "E_SIZE"),
    "deep elements": (lambda: b"<a>" * 100_000 + b"</a>" * 100_000, "E_SIZE"),
    "functions that double": (_doubling, "E_SIZE"),
    "cut off": (lambda: BASE.encode()[:700], "E_SBML_INVALID"),
    "empty": (lambda: b"", "E_SBML_INVALID"),
    "bytes": (lambda: bytes(range(256)) * 20, "E_SBML_INVALID"),
    "sixteen bits": (lambda: BASE.replace("UTF-8", "UTF-16").encode("utf-16"), "E_SBML_INVALID"),
    "another encoding": (lambda: BASE.replace("UTF-8", "UTF-7").encode(), "E_SBML_INVALID"),
    "null bytes": (lambda: BASE.encode() + b"\0" * 1000, "E_SBML_INVALID"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_a_coded_error(name: str) -> None:
    made, code = HOSTILE[name]
    content = made()
    began = time.process_time()
    error = refusal(content)
    assert time.process_time() - began < 5.0
    assert code in error.codes


def test_towers_and_huge_numbers_are_numbers() -> None:
    tower = BASE.replace("<ci> k1 </ci>", mathml("9^9^9^9^9^9*k1").partition(">")[2].rpartition("</math>")[0])
    host = system_of(parsed_text(tower.encode(), "m.xml", isolated=False), "m.xml").on_host()
    assert not abs(host.slope(0.0, host.begin)).max() < float("inf")
    assert refusal(BASE.replace('value="0.7"', f'value="{"9" * 5000}"')).codes == ("E_SBML_INVALID",)


def test_a_model_as_deep_as_is_allowed_is_read() -> None:
    host = system_of(parsed_text(_deep(180), "m.xml", isolated=False), "m.xml").on_host()
    assert host.slope(0.0, host.begin).tolist() == [-0.7 * 3.0, 0.7 * 3.0]


def test_a_parser_without_memory_ends_itself_only(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text(BASE)
    with pytest.raises(PinnsimError) as caught:
        read_sbml(tmp_path / "m.xml", limits=Limits(memory=20_000_000))
    assert caught.value.codes == ("E_SBML_INVALID",)
    assert "could not be parsed" in str(caught.value)


def test_antimony_reads_no_other_files() -> None:
    pytest.importorskip("antimony", reason="antimony is not installed (pip install 'pinnsim[sbml]')")
    with pytest.raises(PinnsimError, match="import at line 2"):
        read_antimony('// import "x"\nimport "/etc/passwd"\nA -> B; k*A; k = 1', isolated=False)
    with pytest.raises(PinnsimError, match="E_SBML_INVALID"):
        read_antimony("A -> ; ; (", isolated=False)


def test_the_command_line_says_what_was_understood_and_what_was_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text(written(("law", "switched")))
    bad.write_text(REFUSED["algebraic rule"][0])
    found = json.loads(call("import", good, "--json").out)
    assert found["conservation_laws"] == ["A + B = total"]
    assert found["switch_times"] == [1.3]
    assert found["refused"] == []
    assert found["start"] == {"A": 3.0, "B": 0.5}
    status, _, said = call("import", bad)
    assert status == 3
    assert "E_SBML_UNSUPPORTED: algebraicRule at line 4 (balance)" in said
    status, shown, _ = call("check", good)
    assert status == 0
    assert "Conserved: A + B = total" in shown
    assert describe_model(tmp_path / "absent.xml")[1].codes == ("E_CONFIG_FILE",)


def test_no_module_of_the_folder_one_stands_in_is_imported(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("open('canary', 'w')\nraise SystemExit\n")
    (tmp_path / "model.ant").write_text("S = 1; J: S -> ; k*S; k = 2\n")
    monkeypatch.chdir(tmp_path)
    assert float(read_antimony(tmp_path / "model.ant").constants["k"]) == 2.0
    assert not (tmp_path / "canary").exists()
