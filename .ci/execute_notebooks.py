"""Execute notebooks at their full size and write what they show into their .ipynb files.

A notebook is edited in its `.py` (percent format); its `.ipynb` holds the same cells with their outputs, and is written
by this program alone. Nothing of the machine stays in it: no paths of its own, no times of execution. A notebook that
prints to stderr (a warning, a progress bar) or shows a path of this machine is refused and not written.

    python .ci/execute_notebooks.py [01 05 ...]     # those whose names begin so; all by default
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LIMIT = 1.5e6  # bytes of a file
PLACES = re.compile(rf"(?<![\w.:/])/(?:home|root|tmp|usr|opt|work|Users|var)/|{re.escape(tempfile.gettempdir())}")


def executed(source: Path) -> NotebookNode:
    """The notebook of a .py, with outputs."""
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = KERNEL
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(source.parent)}})
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"] = NotebookNode()
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def problems(notebook: NotebookNode) -> list[str]:
    """What may not be committed."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            text = str(output.get("text", "")) + str(
                {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/")}
            )
            if output["output_type"] == "error" or output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {text[:300]}")
            if PLACES.search(text):
                found.append(f"cell {number} shows a path of this machine: {text[:300]}")
    size = len(nbformat.writes(notebook))
    return found + ([f"it has {size} bytes, limit {LIMIT:g}"] if size > LIMIT else [])


def main(chosen: list[str]) -> int:
    failed = False
    for source in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        if chosen and not source.name.startswith(tuple(chosen)):
            continue
        began = time.perf_counter()
        notebook = executed(source)
        found = problems(notebook)
        print(f"{source.stem}: {time.perf_counter() - began:.0f} s", *found, sep="\n  ")
        failed |= bool(found)
        if not found:
            source.with_suffix(".ipynb").write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
