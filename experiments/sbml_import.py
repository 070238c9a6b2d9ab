"""How long does a kinetic model take from its file to its first batch of results, and how does that grow with its size?

A network of reversible, saturating, regulated and linear reactions is written as SBML, and read and run in a process of
its own without any compilation cache. What counts is processor time, of that process and of the parser's: on an idle
machine nobody waits longer than that, and on a busy one it says more than a clock.

    python experiments/sbml_import.py      # also --smoke, --out
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.plot import save

SMOKE: dict[str, Any] = {"reactions": [8], "lanes": 2, "times": 3}
_KINDS = 4
_MEASURE = "--measure"


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Reads and runs a model of each size."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in tqdm(plan["reactions"], desc="models", disable=not progress):
            path = Path(folder) / f"network_{count}.xml"
            _write(path, count, plan["seeds"][0])
            found[count] = _measured(path, plan)
    counts = sorted(found)
    seconds = {count: found[count]["read"] + found[count]["first run"] for count in counts}
    growth = seconds[counts[-1]] / seconds[counts[0]] / (counts[-1] / counts[0])
    rows = (
        Acceptance(
            f"seconds to read {counts[0]} reactions and run them first, of processors", seconds[counts[0]], 10.0
        ),
        Acceptance(f"growth of that to {counts[-1]} reactions, over that of reactions", growth, 1.0),
        Acceptance("lanes that did not reach the last time", sum(found[count]["failed"] for count in counts), 0),
    )
    save(_picture(found), out / "sbml_import.png")
    return Findings({f"{count} reactions": found[count] for count in counts}, {}, rows)


def _write(path: Path, count: int, seed: int) -> None:
    import antimony

    draw, species = random.Random(seed), max(count // 3, 2)
    lines = [f"S{k} = {draw.random():.3f}" for k in range(species)]
    for k in range(count):
        a, b = draw.sample(range(species), 2)
        p, q = draw.uniform(0.1, 1.0), draw.uniform(0.1, 1.0)
        law = (
            f"S{a} -> S{b}; p{k}*S{a} - q{k}*S{b}",
            f"S{a} -> S{b}; p{k}*S{a}/(q{k} + S{a})",
            f"-> S{a}; p{k}*S{b}^2/(q{k}^2 + S{b}^2)",
            f"S{a} -> ; p{k}*S{a}",
        )[k % _KINDS]
        lines.append(f"{law}; p{k} = {p:.3f}" + (f"; q{k} = {q:.3f}" if k % _KINDS != _KINDS - 1 else ""))
    if antimony.loadString("\n".join(lines)) < 0:
        raise ValueError(antimony.getLastError())
    path.write_text(antimony.getSBMLString(antimony.getMainModuleName()))


def _measured(path: Path, plan: dict[str, Any]) -> dict[str, float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, __file__, _MEASURE, str(path), str(plan["lanes"]), str(plan["times"])]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True, timeout=1800)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(path: str, lanes: int, count: int) -> dict[str, float]:
    """Processor seconds of the library's import, of reading, of the first run and of another."""
    used = [_processor()]
    from pinnsim import enable_x64, read_sbml
    from pinnsim.simulate import simulate

    enable_x64()
    used.append(_processor())
    model = read_sbml(path)
    used.append(_processor())
    treatments = ["none", *(f"reaction({name})*0.5" for name in model.table.reactions[: lanes - 1])]
    failed = 0
    for _ in range(2):
        result = simulate(model, np.linspace(0.0, 10.0, count), treatments)
        failed += int((np.asarray(result.outcome) != 0).sum())
        np.asarray(result.states)
        used.append(_processor())
    return {
        **dict(zip(("library", "read", "first run", "second run"), np.diff(used).tolist(), strict=True)),
        "failed": failed,
    }


def _processor() -> float:
    """Seconds of this process and of those it waited for."""
    return sum(os.times()[:4])


def _picture(found: dict[int, dict[str, float]]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(5.0, 3.2), layout="constrained")
    for name, mark, colour in (("read", "o", "#0072B2"), ("first run", "s", "#D55E00"), ("second run", "^", "#009E73")):
        axes.plot(list(found), [each[name] for each in found.values()], marker=mark, color=colour, label=name)
    axes.set(xlabel="reactions", ylabel="processor time (s)", xscale="log", yscale="log",
             title="From a file to results, nothing compiled before")  # fmt: skip
    axes.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    if _MEASURE in sys.argv:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        raise SystemExit(main(__file__))
