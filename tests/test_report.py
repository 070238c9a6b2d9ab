"""A report is one well-formed page that loads nothing, escapes everything, and is written whole or not at all."""

import base64
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pinnsim.errors import PinnsimError
from pinnsim.plot import save
from pinnsim.report import Report, png_bytes
from pinnsim.score import Entry, score_table
from pinnsim.score.compare import ROLL_OUT, Comparison

NASTY = "<script>alert('x')</script> & \"gene\""
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a page holds; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def figure():
    drawn, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, 1])
    return drawn


@pytest.fixture
def report() -> Report:
    frame = pd.DataFrame({"gene": [NASTY, "gB"], "rate": [0.12345678, np.nan], "kept": [True, False]})
    return (
        Report(f"Title {NASTY}", f"Lead {NASTY}")
        .section(f"First {NASTY}")
        .text(f"One {NASTY}\n\nTwo")
        .table(frame, f"Caption {NASTY}")
        .figure(figure(), f"Figure {NASTY}", "What it shows")
        .verdicts([f"Lost {NASTY}"])
        .section("Second")
        .provenance(data=NASTY, caveats=("c1", "c2"), seeds=(0, 7), digest="abc", simulated=True, network_source=NASTY)
    )


def test_the_page_is_well_formed_and_holds_what_was_said_word_for_word(report):
    page = Page(report.to_html())
    text = "".join(page.words)
    for part in ("Title", "Lead", "First", "One", "Caption", "Figure", "Lost"):
        assert f"{part} {NASTY}" in text
    for part in ("Two", "abc", "0, 7", "c1", "c2", "network source", "jax"):
        assert part in text
    assert not page.named("script")


def test_nothing_is_loaded_from_elsewhere(report):
    page = Page(report.to_html())
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.named("img"))
    assert all(link["href"].startswith("#") for link in page.named("a"))
    assert not page.named("link")
    assert not re.search(r"url\(|@import|https?:", report.to_html())


def test_links_lead_to_the_sections(report):
    page = Page(report.to_html())
    assert [link["href"] for link in page.named("a")] == [f"#{heading['id']}" for heading in page.named("h2")]


def test_a_picture_is_embedded_bit_for_bit_with_its_size_and_words_for_who_cannot_see_it(tmp_path):
    path = save(figure(), tmp_path / "p.png")
    (image,) = Page(Report("t").picture(path, "A caption").to_html()).named("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == path.read_bytes()
    assert image["alt"] == "A caption"
    assert (int(image["width"]), int(image["height"])) == (3 * 96, 2 * 96)


def test_a_figure_or_its_axes_give_the_same_picture_and_are_closed():
    ax = figure().axes[0]
    assert png_bytes(ax) == png_bytes([figure().axes[0]]) == png_bytes(figure())
    assert plt.get_fignums() == []


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_picture_that_is_none_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(PinnsimError) as caught:
        Report("t").picture(tmp_path / "p.png", "c")
    assert caught.value.codes == ("E_DATA_FILE",)


def cells(frame: pd.DataFrame) -> list[str]:
    return re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", Report("t").table(frame, "").to_html())[len(frame.columns) :]


def test_numbers_of_a_column_have_equal_decimals_and_undefined_ones_a_dash():
    assert cells(pd.DataFrame({"a": [1.2, 0.456, np.nan]})) == ["1.200", "0.456", "–"]
    assert cells(pd.DataFrame({"a": [4.0, 8.0]})) == ["4", "8"]
    assert cells(pd.DataFrame({"a": [1e-9, 1e3, np.inf]})) == ["1e-09", "1000", "inf"]
    assert cells(pd.DataFrame({"a": [True, False]})) == ["yes", "no"]
    assert cells(pd.DataFrame({"a": ["x", None]})) == ["x", "–"]


def test_tables_without_rows_and_sections_without_content_are_well_formed():
    report = Report("t").section("s").table(pd.DataFrame({"a": []}), "c").section("e").verdicts([]).facts({})
    assert {"s", "a", "c", "e"} <= set(Page(report.to_html()).words)


def test_a_score_table_is_shown_by_direction_with_the_model_marked_and_simulated_data_named():
    rng = np.random.default_rng(0)
    truth, start = rng.normal(0, 1, (4, 5)), np.zeros((4, 5))
    mask = np.ones((4, 5), dtype=bool)

    def entry(name, kind, direction, error):
        return Entry.of(name, kind, direction, Comparison(ROLL_OUT, np.arange(4.0), truth + error, truth, start, mask))

    table = score_table(
        [
            entry(name, kind, direction, error)
            for direction in ("a -> b", "b -> a")
            for name, kind, error in (("pinnsim", "model", 0.1), ("persistence", "baseline", 0.5))
        ],
        simulated=True,
    )
    html = Report("t").table(table, "The caption").to_html()
    page = Page(html)
    assert len(page.named("table")) == 2
    assert len([row for row in page.named("tr") if row.get("class") == "strong"]) == 2
    text = "".join(page.words)
    assert "a -> b" in text
    assert text.count("SIMULATED") == 2
    assert "persistence (best)" in text
    assert "0.100" in text


def test_simulated_data_are_called_so_above_everything(report):
    html = report.to_html()
    assert html.index("SIMULATED") < html.index("<main>")


def test_writing_is_all_or_nothing(tmp_path, report):
    path = report.write(tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == report.to_html()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(PinnsimError) as caught:
        report.write(tmp_path / "file" / "report.html")
    assert caught.value.codes == ("E_DISK",)
