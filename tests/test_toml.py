"""Configuration files: what is written is read back, and every mistake is told with its key, file and line."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.errors import PinnsimError
from pinnsim.formats.toml import line_of, parse_config, parse_toml, read_config, to_toml, write_config


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fit(Section):
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    starts: int = 8


class Tilt(Section):
    kind: Literal["tilt"] = "tilt"
    slope: float


class Bump(Section):
    kind: Literal["bump"] = "bump"
    width: float


class Edge(Section):
    sign: int
    origin: str = ""


class Config(Section):
    title: str = "toggle switch"
    fit: Fit = Fit()
    edges: tuple[Edge, ...] = ()
    shape: Annotated[Tilt | Bump, Field(discriminator="kind")] | None = None
    notes: dict[str, str] = {}


CONFIG = Config(
    title='a "quoted" name\n',
    fit=Fit(learning_rate=1e-6),
    edges=(Edge(sign=-1, origin="SubtiWiki"), Edge(sign=1)),
    shape=Bump(width=0.1 + 0.2),
    notes={"NO": "a gene, not false"},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.toml"


def problems(path, text: str) -> list[tuple[str, str]]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PinnsimError) as caught:
        read_config(path, Config)
    assert caught.value.exit_status == 2
    return [(problem.code, problem.message) for problem in caught.value.problems]


def test_what_is_written_is_read_back(path):
    write_config(path, CONFIG)
    assert read_config(path, Config) == CONFIG
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_byte_order_mark_is_no_mistake(path):
    path.write_text("\ufefftitle = 'a'\n", encoding="utf-8")
    assert read_config(path, Config).title == "a"


def test_unknown_keys_are_told_with_the_nearest_one_and_the_line(path):
    text = "titel = 'x'\n\n[fit]\nstarts = 3\nlerning_rate = 0.1 # slow\n\n[[edges]]\nsign = 1\n[[edges]]\nsing = 1\n"
    found = problems(path, text)
    assert sorted(code for code, _ in found) == ["E_CONFIG_KEY"] * 3 + ["E_CONFIG_VALUE"]
    told = {message.partition(" is no key")[0]: message for code, message in found if code == "E_CONFIG_KEY"}
    assert set(told) == {
        "'titel' (did you mean 'title'?)",
        "'lerning_rate' (did you mean 'learning_rate'?)",
        "'sing' (did you mean 'sign'?)",
    }
    lines = {"titel": "fit.toml, line 1)", "lerning": "fit.toml, line 5)", "sing": "fit.toml, line 10)"}
    for name, line in lines.items():
        assert [message for message in told.values() if f"'{name}" in message and line in message]
    assert "[fit]" in told["'lerning_rate' (did you mean 'learning_rate'?)"]
    assert ("E_CONFIG_VALUE", f"'sign' is missing from [edges[1]] ({path}, line 9).") in found


def test_impossible_values_are_told_together(path):
    text = "[fit]\nlearning_rate = -1\nstarts = 'many'\n[shape]\nkind = 'bump'\nwidth = 'broad'\nslope = 1\n"
    found = problems(path, text)
    assert [code for code, _ in found] == ["E_CONFIG_VALUE"] * 3 + ["E_CONFIG_KEY"]
    assert found[0][1] == f"fit.learning_rate = -1: input should be greater than 0 ({path}, line 2)."
    assert "fit.starts = 'many'" in found[1][1]
    assert found[2][1].startswith("shape.width = 'broad': input should be a valid number")
    assert "line 6" in found[2][1]
    assert found[3][1].startswith("'slope' is no key of [shape]")
    assert "there are kind, width." in found[3][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [("a = 1\nb = = 2\n", "line 2, column 5"), ("a = 1\na = 2", "not valid TOML"), ("a = " + "[" * 100_000, "TOML")],
)
def test_what_is_no_toml_is_refused(text, words, path):
    ((code, message),) = problems(path, text)
    assert code == "E_CONFIG_FILE"
    assert words in message


def test_files_that_cannot_be_read_are_refused(path):
    for prepare, words in ((lambda: None, "No such file"), (lambda: path.write_bytes(b"\xff\xfe"), "UTF-8")):
        prepare()
        with pytest.raises(PinnsimError, match=words) as caught:
            read_config(path, Config)
        assert caught.value.codes == ("E_CONFIG_FILE",)


def test_what_toml_cannot_hold_is_refused(path):
    with pytest.raises(PinnsimError, match="E_CONFIG_VALUE"):
        write_config(path, {"note": {1, 2}})
    assert not path.exists()


def test_a_dictionary_without_a_file_is_checked_too():
    with pytest.raises(
        PinnsimError, match="'strats' \\(did you mean 'starts'\\?\\) is no key of \\[fit\\] \\(the plan\\)"
    ):
        parse_config({"fit": {"strats": 1}}, Config, "the plan")


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("edges", 1, "sign"), 6),
        (("edges", 0, "more", "x y"), 4),
        (("edges", 0, "more", "none"), 3),
        (("fit", "rate"), 9),
        (("fit", "deep", "b"), 10),
        (("nowhere",), None),
    ],
)
def test_lines_are_found_in_nested_tables(location, line):
    text = (
        "[[edges]]\nsign = 1\n[edges.more]\n'x y' = 2\n[[edges]]\nsign = 2\n\n[ fit ] # the fit\nrate = 1\ndeep.b = 2\n"
    )
    assert line_of(text, location) == line


def test_floats_survive_exactly():
    numbers = [0.1 + 0.2, 1e-320, 1e22, float("inf")]
    assert parse_toml(to_toml({"x": numbers}), "x")["x"] == numbers
