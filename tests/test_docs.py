"""The documentation: links lead somewhere, names exist, code and command lines run, nothing public is left out."""

import contextlib
import importlib
import importlib.util
import json
import operator
import pkgutil
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sweeping
import typer

import pinnsim
from pinnsim import design, fit, landscape, latent, plot, screen
from pinnsim import operator as operators
from pinnsim import simulate as solving
from pinnsim.cli.app import app
from pinnsim.landscape import Grid
from pinnsim.landscape.potential import KINDS
from pinnsim.project import ProjectConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = [*PAGES, ROOT / "README.md"]
GENERATED = {"results", "shelf"}  # their text is made from files


def part(name: str) -> ModuleType:
    """A file of docs/_ext; none of those read here needs Sphinx."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


honest, house, reference = part("honest"), part("house"), part("reference")


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in GENERATED], ids=lambda page: page.stem)
def test_links_and_names_of_a_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
    inline = re.findall(r"`([^`\n]+)`", text)
    # Shorter words are mathematics: f(x), exp(-S), div(D p).
    called = {name for code in inline for name in re.findall(r"(?<![.\w])([a-z][a-z_0-9]{3,})\(", code)} - {
        "sqrt",
        "log2",
        # The text form of treatments.
        "drive",
        "hold",
        "signal",
    }
    known = {
        name
        for module in (landscape, plot, fit, screen, operators, design, latent, solving, pinnsim, pinnsim.score)
        for name in dir(module)
    } | {"raise_failures"}
    assert sorted(called - known) == []
    methods = {name for code in inline for name in re.findall(r"\bGrid\.([a-z_]+)", code)}
    assert sorted(name for name in methods if not hasattr(Grid, name)) == []


def test_links_and_dotted_names_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    named = set(re.findall(r"`pinnsim\.([a-z_.]+)", text))
    assert "design.design" in named
    for name in named:
        operator.attrgetter(name)(pinnsim)


def test_every_kind_of_potential_is_explained() -> None:
    text = (ROOT / "docs" / "landscapes.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"kind `{kind}`" not in text] == []


def fenced(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block, in order."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """Blocks of a language; "" are those without one, which are for a shell."""
    return [text for word, text in fenced(page) if word == language]


# docs/anndata.md is run by test_tl.py, where its results are held against truth.
RUN_HERE = [page for page in WRITTEN if page.stem != "anndata" and blocks(page, "python")]
SLOW = {"README", "latent", "operators", "prior_echo", "screens"}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in RUN_HERE],
)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    known: dict[str, Any] = {}
    if page.stem == "campaigns":  # reads what the command line above it wrote
        (tmp_path / "out").mkdir()
        sweeping.begin(tmp_path / "out" / "sweep")
        sweeping.finish(tmp_path / "out" / "sweep")
    with contextlib.chdir(tmp_path):
        for block in blocks(page, "python"):
            check_runs(block, page, known)


def check_runs(block: str, page: Path, known: dict[str, Any]) -> None:
    """Runs a block after those before it; whatever it raises fails with the block's first line."""
    try:
        exec(compile(block, str(page), "exec"), known)
    except Exception as error:
        pytest.fail(f"{page.name}, the block that begins '{block.partition(chr(10))[0]}': {error!r}")


def test_every_block_has_a_language_that_is_checked() -> None:
    found = {(page.name, word.partition(" ")[0]) for page in WRITTEN for word, _ in fenced(page)}
    unknown = {(page, word) for page, word in found if word not in ("", "python", "toml", "{toctree}", "{generated}")}
    assert unknown == set()


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every line of a shell block that begins with `pinnsim`, put together where a line goes on."""
    for page in WRITTEN:
        for block in blocks(page, ""):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(\w+=\S+ )?(\.venv/bin/)?pinnsim ", line):
                    yield page.name, shlex.split(line.partition("pinnsim ")[2], comments=True)


@pytest.mark.parametrize(("page", "words"), [pytest.param(*line, id=" ".join(line[1])) for line in command_lines()])
def test_command_lines_are_understood(page: str, words: list[str]) -> None:
    """Verbs, options and their values are those of the program; whether the files are there is not asked."""
    command: Any = typer.main.get_command(app)
    context = None
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"{page}: no verb '{name}'"
        context, command = typer.Context(command, parent=context, info_name=name), command.commands[name]
    assert command.make_context(command.name, list(words), parent=context).args == [], "words that nothing reads"


def test_a_wrong_option_is_not_understood() -> None:
    command: Any = typer.main.get_command(app)
    with pytest.raises(Exception, match="No such option"):
        command.commands["fit"].make_context("fit", ["project.toml", "--outt", "x"])


def test_configurations_are_understood() -> None:
    for page in WRITTEN:
        for block in blocks(page, "toml"):
            written = tomllib.loads(block)
            read = ProjectConfig.model_validate({"data": {"name": "bsubtilis_carbon_shift"}, **written})
            assert read.model_fields_set == {"data", *written}, page.name


# -- the API


def shown() -> set[str]:
    """Modules that pages of the API show."""
    folder = ROOT / "docs" / "api"
    return {*reference.shown_modules(folder), *reference.other_homes(folder)}


def test_a_page_that_the_index_forgets_is_in_the_contents(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\none\n```\n")
    (tmp_path / "one.md").write_text("# One\n")
    assert reference.other_pages(tmp_path) == ""
    (tmp_path / "two.md").write_text("# Two\n")
    assert reference.other_pages(tmp_path).splitlines()[-2:] == ["two", "```"]


def test_every_public_name_has_an_entry() -> None:
    packages = [
        f"pinnsim.{module.name}" for module in pkgutil.iter_modules(pinnsim.__path__) if not module.name.startswith("_")
    ]
    public = {name for name in packages if hasattr(importlib.import_module(name), "__all__")} - {"pinnsim.cli"}
    assert "pinnsim.fit" in public
    assert sorted(public - shown()) == []
    # `pinnsim` itself has no page: each of its names is a module with one, or lives in one.
    homes = {name for module in shown() for name in reference.public_names(importlib.import_module(module))}
    modules = {name.removeprefix("pinnsim.") for name in shown()}
    lost = [
        name
        for name in pinnsim.__all__
        if not name.startswith("_") and name not in homes and not any(m.split(".")[0] == name for m in modules)
    ]
    assert lost == []


def test_an_entry_has_signature_arguments_and_text() -> None:
    text = reference.entry(fit, "rate_table")
    assert "{py:function} rate_table(posterior: Laplace | Draws, level: float=0.9) -> pd.DataFrame" in text
    assert ":module: pinnsim.fit" in text
    assert "- `posterior`: the normal one, or draws" in text
    assert "- `level`: of prior and posterior intervals." in text
    assert "\n\n**Returns** a row per parameter" in text
    methods = reference.entry(pinnsim.data, "Dataset")
    assert "{py:classmethod} build(" in methods
    assert "times: Float[np.ndarray, 'condition time']" in methods
    assert reference.markdown("One.\n\n>>> 1 + 1\n2\n") == "One.\n\n```pycon\n>>> 1 + 1\n2\n```"


def test_all_entries_can_be_written() -> None:
    for module in sorted(shown()):
        page = reference.module_page(module)
        assert len(page) > 100, module
        for name in reference.public_names(importlib.import_module(module)):
            assert re.search(rf"\{{py:\w+\}} {name}\b", page), f"{module}.{name}"


# -- the page of results


def planted(folder: Path, rows: list[dict[str, Any]], name: str = "toss") -> Path:
    """An experiment with given rows."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text('"""Does a coin | fall?\n\nMore."""\n')
    (folder / "results" / f"{name}.png").write_bytes(b"")
    found = {
        "experiment": name,
        "seeds": [0],
        "versions": {"jax": "1"},
        "machine": {"cores": 1, "device": "cpu"},
        "metrics": {"share": {"heads": 0.123456, "many": list(range(100))}},
        "baselines": {"guess": 0.5},
        "acceptance": rows,
        "notes": ["A note with <tags> and *stars*."],
    }
    (folder / "results" / f"{name}.json").write_text(json.dumps(found))
    return folder


def row(value: float | None, bar: float = 1.0, better: str = "lower", holds: bool | None = None) -> dict[str, Any]:
    reached = value is not None and (value <= bar if better == "lower" else value >= bar)
    what = f"a bar | of {bar} and {value}"
    return {"what": what, "value": value, "bar": bar, "better": better, "holds": reached if holds is None else holds}


def test_failing_rows_are_shown_as_failing(tmp_path: Path) -> None:
    page = honest.page(planted(tmp_path, [row(0.5), row(2.0), row(None), row(0.5, better="higher")]))
    assert "1 experiments set 4 bars. 1 hold, 3 fail, 1 of them because they were not measured" in page
    section = page[page.index("(result-toss)=") :]
    assert section.count("FAILS") == 3
    assert section.count(">holds<") == 1
    failing = page[: page.index("## All experiments")]
    assert failing.count("[toss](#result-toss)") == 3
    for told in (
        "Does a coin | fall?",
        "![Does",
        "guess",
        "share, heads",
        "0.1235",
        "100 numbers, 0 to 99",
        "&lt;tags",
    ):
        assert told in page
    assert "a bar \\| of 1.0 and 2.0" in page


def test_a_row_that_contradicts_itself_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="said to hold: True"):
        honest.page(planted(tmp_path, [row(2.0, holds=True)]))


def test_no_row_and_no_picture_of_the_checkout_is_lost() -> None:
    page = honest.page(ROOT / "experiments")
    files = sorted((ROOT / "experiments" / "results").glob("*.json"))
    rows = [row for path in files for row in json.loads(path.read_text())["acceptance"]]
    failing = sum(not row["holds"] for row in rows)
    assert f"{len(files)} experiments set {len(rows)} bars. {len(rows) - failing} hold, {failing} fail" in page
    assert page.count(">holds<") == len(rows) - failing
    assert page.count(">FAILS<") == failing
    pictures = [path.name for path in (ROOT / "experiments" / "results").iterdir() if path.suffix in (".png", ".gif")]
    assert [name for name in pictures if f"results/{name})" not in page] == []


# -- the drawing of the house, and the built site


def test_the_house_is_drawn_from_the_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = house.floors(text)
    assert [name.split()[0] for name, _, _ in found] == list("12345678")
    drawing = house.drawn(text)
    assert [unit for _, units, _ in found for unit in units if f">{unit}</text>" not in drawing] == []
    # Higher floors stand above: their rectangles have a smaller y.
    assert drawing.index(">8 edges<") < drawing.index(">1 ground<")


def test_a_broken_site_is_found_broken(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        check_site = importlib.import_module("check_site")
    finally:
        sys.path.remove(str(ROOT / ".ci"))
    fine = '<h1 id="top">x</h1><a href="#top">a</a><a href="https://example.org">b</a><img src="p.png" alt="p">'
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "index.html").write_text(fine)
    assert list(check_site.problems(tmp_path)) == []
    for bad, told in [
        ('<a href="gone.html">x</a>', "leads nowhere"),
        ('<a href="#gone">x</a>', "no such place"),
        ('<script src="https://cdn.example/x.js"></script>', "loaded from elsewhere"),
        ('<img src="p.png">', "without a text"),
    ]:
        (tmp_path / "index.html").write_text(fine + bad)
        assert [told in line for line in check_site.problems(tmp_path)] == [True]
