"""The report of a folder: what is there is told, what is lacking is said, and damaged files are refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import call, listing
from report_folder import NASTY, write_folder

from pinnsim.cli.report import gather
from pinnsim.errors import PinnsimError
from pinnsim.report import fit_scores, history_panels, network_panel, shown_genes
from pinnsim.report.page import POLICY
from pinnsim.report.tables import LONG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("report") / "fitted")


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return gather(folder).to_html()


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The same files, to be spoiled."""
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_everything_in_a_folder_is_told(html: str) -> None:
    for part in ("In brief", "Data and coverage", "Gene by gene", "Training", "What the data identify", "Network"):
        assert part in html
    assert "The 4 genes of the worst fit" in html
    assert "4 genes around the median fit" in html
    assert "Of 30 parameters: 10 identified, 10 in part, 10 prior echo." in html
    assert "1 valley where the cell can rest, among 2 fixed points." in html
    assert "30 perturbations, combinations 30 of 1, read at rest" in html
    assert "Fitted: shift 0 &amp; &lt;b&gt;, shift 1 &amp; &lt;b&gt;. Predicted" in html
    assert (
        "Of 20 candidates &#x27;&lt;script&gt;alert(1)&lt;/script&gt;=0&#x27; would tell most about everything" in html
    )
    assert "2.5 nats of information" in html
    # Samples, worst, median and best genes, the course, edges, the plane of fixed points.
    assert html.count("data:image/png;base64,") == 7
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    assert POLICY in html
    assert html.index(POLICY) < html.index("<title>")


def test_long_tables_scroll_in_a_box_and_have_all_genes(html: str) -> None:
    genes = html[html.index("Every gene, worst first") :].partition("</table>")[0]
    assert genes.count("<tr>") == 1 + 30 > LONG
    assert '<th scope="row">NA</th>' in genes
    assert html.count('class="scroll tall"') >= 2


LACKING = {
    "fitted.csv": "kept no intervals of fitted readings",
    "course.csv": "The course of the objective was not kept",
    "rates.csv": "Whether the data identify the rates was not computed",
    "landscape.csv": "No landscape was computed.",
    "evaluation.json": "This fit was not tried on a condition that it has not seen.",
}


def test_experiments_that_could_not_be_judged_and_ranks_by_cost_are_said(copied: Path, folder: Path) -> None:
    found = json.loads((folder / "design" / "design.json").read_text(encoding="utf-8"))
    for by, gain, sentence in (
        ("gain per cost", 2.5, "would tell most for its cost about everything"),
        ("gain", None, "None of 20 candidates could be judged."),
    ):
        ranking = [{**row, "gain": gain} for row in found["ranking"]]
        (copied / "design.json").write_text(json.dumps({**found, "by": by, "ranking": ranking}), encoding="utf-8")
        assert sentence in gather(copied).to_html()


def test_what_is_lacking_is_said_with_the_command_that_would_compute_it(html: str, copied: Path) -> None:
    assert [sentence for sentence in LACKING.values() if sentence in html] == []
    for name in LACKING:
        (copied / name).unlink()
    html = gather(copied).to_html()
    assert [sentence for sentence in LACKING.values() if sentence not in html] == []
    for verb in ("score", "evaluate", "landscape", "screen", "push", "simulate", "design"):
        assert f"<code>pinnsim {verb} " in html


def test_only_a_landscape_makes_a_report_too(tmp_path: Path) -> None:
    rows = "point,stability,share,index,leading eigenvalue,residual,u\nA1,stable,1.0,0,-1,1e-12,2.0\n"
    (tmp_path / "toggle.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    html = gather(tmp_path).to_html()
    assert "Landscape: toggle" in html
    assert "A model of one species has no plane to draw." in html
    assert "No fit is in this folder." in html


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"data": 3}'])
def test_a_report_of_a_damaged_or_empty_folder_is_refused(tmp_path, content):
    assert call("report", tmp_path).err.startswith("E_DATA_EMPTY")
    (tmp_path / "fit.json").write_text(content)
    called = call("report", tmp_path)
    assert called.status == 3
    assert called.err.startswith("E_CKPT_CORRUPT")
    assert listing(tmp_path) == {"fit.json"}


@pytest.mark.parametrize(
    ("name", "content"),
    [("rates.csv", "a,b\n1,2\n"), ("fitted.csv", "x\n1\n"), ("edges.csv", ""), ("course.csv", "a\n1\n")],
)
def test_a_damaged_table_is_refused_by_name(copied: Path, name: str, content: str) -> None:
    (copied / name).write_text(content, encoding="utf-8")
    with pytest.raises(PinnsimError) as caught:
        gather(copied)
    assert caught.value.codes == ("E_CKPT_CORRUPT",)


def test_scores_of_genes_are_root_mean_squares_beside_no_change() -> None:
    frame = pd.DataFrame(
        {
            "condition": "a", "replicate": "1", "gene": ["x"] * 3 + ["y"] * 3, "time": [0, 1, 2] * 2, "samples": 1,
            "measured": [1.0, 2.0, 4.0, 0.0, 0.0, 0.0], "scored": [False, True, True] * 2,
            "fitted": [1.0, 2.0, 3.0, 0.0, 3.0, 4.0],
        }
    )  # fmt: skip
    frame = frame.assign(lo=frame["fitted"] - 0.5, hi=frame["fitted"] + 0.5)
    scores = fit_scores(frame).set_index("gene")
    assert list(scores.index) == ["y", "x"]
    assert scores.loc["x", "RMSE"] == pytest.approx(0.5**0.5)
    assert scores.loc["x", "RMSE of no change"] == pytest.approx(5.0**0.5)
    assert scores.loc["x", "skill"] == pytest.approx(1 - 0.1**0.5)
    assert scores.loc["x", "inside"] == 0.5
    assert pd.isna(scores.loc["y", "skill"])  # nothing moved: no change is perfect
    assert shown_genes(fit_scores(frame)) == {"all": ["y", "x"]}
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        fit_scores(frame.assign(measured=float("nan")))


def test_pictures_of_nothing_are_refused() -> None:
    with pytest.raises(PinnsimError, match="E_NETWORK_EMPTY"):
        network_panel(pd.DataFrame({"source": [], "target": [], "strength": []}))
    empty = pd.DataFrame({"stage": ["a"], "step": [1], "start": [0], "objective": [float("inf")]})
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        history_panels(empty)


def test_the_folder_of_these_tests_has_names_that_could_break_a_page(folder: Path) -> None:
    genes = set(pd.read_csv(folder / "fitted.csv", keep_default_na=False)["gene"])
    assert set(NASTY) <= genes
    assert json.loads((folder / "fit.json").read_text())["data"]["genes"] == 30
