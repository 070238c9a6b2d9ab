"""Does a bulk fit of 5,000 genes run on a small machine, and how do memory and time grow with the number of genes?

Simulated networks of 10 regulators per gene, four conditions at eight times, each fitted by collocation and then along
trajectories in a process of its own, whose peak memory is read; one condition is held out and predicted from its first
sample. Seconds are processor seconds of one core, without compilation.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, GREEN, GREY, RED, new_panels, styled

SMOKE: dict[str, Any] = {
    "sizes": [30], "regulators": 3, "times": [0, 2, 6], "conditions": 2,
    "fit": {"collocation_steps": 20, "trajectory_steps": 0, "substeps": 2},
}  # fmt: skip
MOST = 24.0  # GiB


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """A fit per size, the largest against its bars."""
    script, rows = Path(__file__).resolve().parent / "_fit_of_size.py", []
    for genes in tqdm(plan["sizes"], desc="sizes", unit="fit", disable=None if progress else True):
        told = subprocess.run(
            [sys.executable, str(script), json.dumps(plan), str(genes)], check=True, stdout=subprocess.PIPE, text=True
        )
        rows.append(json.loads(told.stdout))
    largest = rows[-1]
    save(picture(rows), out / "bench_fit_size.png")
    size = f"{largest['genes']} genes, {largest['edges']} edges"
    share = largest["error, fitted"] / largest["error, persistence"]
    found = (
        Acceptance(f"peak memory of a fit of {size}, GiB", largest["memory"], MOST),
        Acceptance(f"log2 RMSE on a held-out condition over that of persistence, {size}", share, 1.0),
    )
    metrics = {f"{row['genes']} genes": row for row in rows}
    baselines = {"log2 RMSE, persistence": largest["error, persistence"], "log2 RMSE, prior": largest["error, prior"]}
    return Findings(metrics, baselines, found, ("The data are simulated.",))


@styled
def picture(rows: list[dict[str, Any]]) -> Any:
    """Memory and seconds against the number of genes, and the bar."""
    left, right = panels = new_panels(1, 2, (8.2, 3.4))[0]
    genes = [row["genes"] for row in rows]
    left.plot(genes, [row["memory"] for row in rows], marker="o", color=BLUE, label="peak, whole process")
    left.plot(genes, [row["memory before"] for row in rows], marker="s", color=GREY, label="before the fit")
    left.axhline(MOST, color=RED, linestyle="--", label="bar")
    left.set(xscale="log", yscale="log", xlabel="genes", ylabel="memory (GiB)")
    left.set_title("Memory of a bulk fit (simulated)")
    for name, marker, color in (("collocation", "o", BLUE), ("trajectories", "s", GREEN)):
        seconds = [row[f"{name}, seconds per step"] for row in rows]
        if any(seconds):
            right.plot(genes, seconds, marker=marker, color=color, label=name)
    right.set(xscale="log", yscale="log", xlabel="genes", ylabel="processor time per step (s)")
    right.set_title("Time per step (simulated)")
    for axes in (left, right):
        axes.legend()
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
