"""A report in a real browser: quiet, whole, legible and accessible; and the checks find what is planted."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from report_folder import write_folder

from pinnsim.cli.report import gather
from pinnsim.experiment import companion
from pinnsim.shelf import experiment_path

TOOL: ModuleType = companion(str(experiment_path("report_checks")), "_browser")
pytestmark = pytest.mark.skipif(bool(TOOL.lacking()), reason=TOOL.lacking() or "a browser is there")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with TOOL.browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("report") / "fitted")
    return gather(folder).write(folder / "report.html")


@pytest.fixture(scope="module")
def seen(driver, page) -> Any:
    return TOOL.look(driver, page)


def test_a_report_of_everything_has_no_fault_on_a_phone_and_on_a_desk_by_day_and_by_night(seen) -> None:
    assert {kind: texts for kind, texts in seen.problems().items() if texts} == {}
    assert sorted(seen.views) == [(width, scheme) for width in TOOL.WIDTHS for scheme in ("dark", "light")]
    for (width, _), view in seen.views.items():
        assert view["width"] == view["seen"] == width
        assert view["images"] >= 6
        assert view["texts"] > 300
        assert view["boxes"] > 30
        assert view["scripts"] == 0


def test_names_that_look_like_markup_do_nothing(driver, page, seen) -> None:
    driver.get(page.as_uri())
    assert "<script>alert(1)</script>" in driver.execute_script("return document.body.textContent")
    assert driver.execute_script("return document.querySelectorAll('[onerror], script, b, i, u').length") == 0


PLANTED = {
    "faint": '<p style="color: #999; background: #fff">faint</p>',
    "sideways": '<div style="width: 3000px">wide</div>',
    "nameless": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    "unloaded": '<img alt="broken" src="data:image/png;base64,AAAA">',
    "overlaps": '<div style="margin-bottom: -40px">one<br>two<br>three</div><div>four<br>five</div>',
    "structure": "<h5>far too deep</h5><table><tr><th>no scope</th></tr></table>",
    "requests": '<img alt="elsewhere" src="http://127.0.0.1:9/x.png">',
    "console": "<script>console.error('look')</script>",
}


def test_every_planted_fault_is_found(driver, page, tmp_path) -> None:
    # The policy would stop some faults, which is its purpose.
    text = page.read_text(encoding="utf-8").replace("Content-Security-Policy", "x-none")
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(text.replace("</section>", "".join(PLANTED.values()) + "</section>", 1), encoding="utf-8")
    found = TOOL.look(driver, spoiled, dark=False).problems()
    assert [kind for kind in PLANTED if not found[kind]] == []


def test_the_policy_stops_scripts_and_requests(driver, page, tmp_path) -> None:
    spoiled = tmp_path / "spoiled.html"
    text = page.read_text(encoding="utf-8")
    planted = "<script>document.title = 'mine'</script>" + PLANTED["requests"]
    spoiled.write_text(text.replace("</section>", planted + "</section>", 1), encoding="utf-8")
    saw = TOOL.look(driver, spoiled, dark=False)
    assert "mine" not in {view["title"] for view in saw.views.values()}
    assert any("Content Security Policy" in text for text in saw.console)
