"""Pages of docs/: what they link to is there, and what they name exists."""

import operator
import re
from pathlib import Path

import pytest

import pinnsim
from pinnsim import design, fit, landscape, latent, plot, screen
from pinnsim import operator as operators
from pinnsim import simulate as solving
from pinnsim.landscape import Grid
from pinnsim.landscape.potential import KINDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
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
    }
    assert called
    known = {
        name
        for module in (landscape, plot, fit, screen, operators, design, latent, solving, pinnsim)
        for name in dir(module)
    }
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
