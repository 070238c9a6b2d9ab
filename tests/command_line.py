"""The command line as tests use it: a call gives status and texts; a tiny project lies in a folder of its own."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pinnsim.cli import run

GENES, TIMES = {"gA": 0.1, "gB": 0.2, "gC": 0.05}, (0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
PROJECT = """
[data]
tidy = "readings.csv"
condition = "medium"
replicate = "flask"
time_unit = "min"
scale = "log2"
source = "nobody & <sons> 2024"
simulated = true
[treatments]
up = "signal(sugar)=1@0:"
down = "signal(sugar)=1, signal(sugar)=-1@0:"
[network]
path = "network.csv"
[prior]
half_lives = "half_lives.csv"
unit = "min"
[model]
inputs = [{ name = "sugar" }]
[model.readout]
kind = "array"
offset = 3.0
floor = -2.0
ceiling = 8.0
[fit]
starts = 2
keep = 2
collocation_steps = 4
trajectory_steps = 2
substeps = 2
[score]
shuffles = 1
blocks = [[10, 20]]
"""
ONE_CONDITION = PROJECT.replace("readings.csv", "one.csv").replace('down = "signal', '# "signal')


class Called(NamedTuple):
    """How a call ended and what it said."""

    status: int
    out: str
    err: str


def call(*arguments: str | Path) -> Called:
    """Runs a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([str(argument) for argument in arguments])
    return Called(status, out.getvalue(), err.getvalue())


def write_project(folder: Path, text: str = PROJECT) -> Path:
    """Three genes that relax up or down (the upward shift alone in `one.csv`), their network, and a project file."""
    noise = np.random.default_rng(0)
    rows = [
        {
            "gene": gene,
            "medium": medium,
            "flask": flask,
            "time": time,
            "value": end + (start - end) * np.exp(-rate * time) + noise.normal(0, 0.05),
        }
        for medium, (start, end) in {"up": (1.0, 3.0), "down": (3.0, 1.0)}.items()
        for gene, rate in GENES.items()
        for flask in ("1", "2")
        for time in TIMES
    ]
    frame = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "readings.csv", index=False)
    frame[frame["medium"] == "up"].to_csv(folder / "one.csv", index=False)
    (folder / "network.csv").write_text("source,target,weight\ngA,gB,1\ngB,gC,-1\n", encoding="utf-8")
    (folder / "half_lives.csv").write_text("gene,half_life\ngA,5\ngB,4\ngC,8\n", encoding="utf-8")
    path = folder / "project.toml"
    path.write_text(text, encoding="utf-8")
    return path


def listing(folder: Path) -> set[str]:
    """Everything in a folder, to see that nothing was left behind."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
