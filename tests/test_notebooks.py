"""Notebooks as they are committed: in step with their scripts, executed, quiet, and without traces of a machine.

That they run is `make notebooks`.
"""

import importlib.util
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
UNIT = re.compile(r"\((?:min|h|log2|amount|amounts|nats|mmol/l|spreads|[a-z ]*1/h|time unit)[^)]*\)|_unit=|unit=")

spec = importlib.util.spec_from_file_location("execute_notebooks", ROOT / ".ci" / "execute_notebooks.py")
assert spec is not None
assert spec.loader is not None
executor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(executor)


def read(script: Path) -> NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def test_all_are_named_in_the_readme_and_have_pairs() -> None:
    assert [script.name[:2] for script in SCRIPTS] == [f"{k:02d}" for k in range(1, len(SCRIPTS) + 1)]
    assert len(SCRIPTS) >= 6
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {script.stem for script in SCRIPTS}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [script.stem for script in SCRIPTS if f"notebooks/{script.stem}.ipynb" not in text] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem[:2])
def test_a_notebook_is_in_step_and_fit_to_be_seen(script: Path) -> None:
    notebook, written = read(script), jupytext.read(script)
    assert notebook.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    mine = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert mine == [(cell.cell_type, cell.source) for cell in written.cells], (
        f"run: make notebooks-full NOTEBOOKS={script.name[:2]}"
    )
    assert executor.problems(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert UNIT.search(script.read_text(encoding="utf-8"))
    # They show, they do not define.
    assert not re.search(r"^\s*(?:def|class) ", "\n".join(cell.source for cell in code), flags=re.M)


def test_what_may_not_be_committed_is_found() -> None:
    bad = nbformat.v4.new_notebook()
    noisy = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: ...")
    placed = nbformat.v4.new_output("stream", name="stdout", text="written to /home/somebody/out.zarr")
    fine = nbformat.v4.new_output("stream", name="stdout", text="amount/h, 1/h, docs/home/x")
    bad.cells = [nbformat.v4.new_code_cell("f()", outputs=[output]) for output in (noisy, placed, fine)]
    found = executor.problems(bad)
    assert len(found) == 2
    assert "stderr" in found[0]
    assert "path" in found[1]
