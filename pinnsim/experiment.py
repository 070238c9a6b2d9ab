"""Experiments: a question, a frozen plan, a run, and a results file that keeps every number, failing ones included.

An experiment is a file `experiments/<name>.py` beside `<name>.toml`. The file's first line is the question, `SMOKE` is
what a quick run replaces, `run(plan, out, progress)` returns `Findings`. Run at full size it writes
`experiments/results/<name>.json` and its picture; continuous integration runs the SMOKE size.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pinnsim import __version__
from pinnsim.errors import PinnsimError
from pinnsim.precision import enable_x64
from pinnsim.shelf import experiment_path

_PACKAGES = ("jax", "equinox", "diffrax", "optax", "numpy", "scipy")


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """One numeric bar: `what` is measured, its `value`, the `bar`, and whether lower or higher is better."""

    what: str
    value: float | int
    bar: float | int
    better: str = "lower"

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bar; not a number never does."""
        return bool(self.value <= self.bar if self.better == "lower" else self.value >= self.bar)

    def to_dict(self) -> dict[str, Any]:
        """The row of a results file."""
        return {"what": self.what, "value": self.value, "bar": self.bar, "better": self.better, "holds": self.holds}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a run found: numbers by name, the baselines' numbers, acceptance rows, notes in plain words."""

    metrics: dict[str, Any]
    baselines: dict[str, Any] = dataclasses.field(default_factory=dict)
    acceptance: tuple[Acceptance, ...] = ()
    notes: tuple[str, ...] = ()


def load_experiment(name: str) -> ModuleType:
    """The module of an experiment on the shelf. **Raises** `E_EXPERIMENT_UNKNOWN`."""
    return companion(str(experiment_path(name)), name)


def companion(file: str, name: str) -> ModuleType:
    """The module `<name>.py` beside an experiment's file, which several experiments share."""
    path = Path(file).resolve().parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"pinnsim_experiment_{name}", path)
    if spec is None or spec.loader is None:
        raise PinnsimError.of("E_EXPERIMENT_UNKNOWN", f"'{path.name}' cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_plan(name: str, *, smoke: dict[str, Any] | None = None) -> dict[str, Any]:
    """The frozen plan of an experiment, with the SMOKE replacements merged in when given."""
    plan = tomllib.loads(experiment_path(name).with_suffix(".toml").read_text(encoding="utf-8"))
    return merged(plan, smoke or {})


def merged(plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A nested dictionary with nested changes."""
    return {
        **plan,
        **{
            key: merged(plan[key], value) if isinstance(value, dict) and isinstance(plan.get(key), dict) else value
            for key, value in changes.items()
        },
    }


def results(name: str, plan: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """The content of a results file."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "experiment": name,
        "plan": plan,
        "seeds": plan.get("seeds", [plan.get("fit", {}).get("seed", 0)]),
        "versions": {
            "python": platform.python_version(),
            "pinnsim": __version__,
            **{package: version(package) for package in _PACKAGES},
        },
        "machine": {"cores": cores, "device": jax.devices()[0].device_kind},
        "metrics": findings.metrics,
        "baselines": findings.baselines,
        "acceptance": [row.to_dict() for row in findings.acceptance],
        "notes": list(findings.notes),
    }


def write_results(folder: Path, name: str, plan: dict[str, Any], findings: Findings) -> Path:
    """Writes `<name>.json` into `folder`, keys in order, numbers to 6 significant digits."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(_rounded(results(name, plan, findings)), indent=1, allow_nan=False) + "\n")
    return path


def main(file: str, argv: list[str] | None = None) -> int:
    """The command line of an experiment file: `python experiments/<name>.py [--smoke] [--out FOLDER]`."""
    name = Path(file).stem
    module = sys.modules["__main__"]
    parser = argparse.ArgumentParser(prog=f"experiments/{name}.py", description=module.__doc__)
    parser.add_argument("--smoke", action="store_true", help="a quick run at small size; its numbers mean nothing")
    parser.add_argument(
        "--out", type=Path, help="where pictures and results go (default: experiments/results, smoke runs: out/NAME)"
    )
    options = parser.parse_args(argv)
    enable_x64()
    out = options.out or (Path("out") / name if options.smoke else Path(file).resolve().parent / "results")
    out.mkdir(parents=True, exist_ok=True)
    plan = read_plan(name, smoke=module.SMOKE if options.smoke else None)
    findings = module.run(plan, out, progress=True)
    path = write_results(out, name, plan, findings)
    for row in findings.acceptance:
        verdict = "holds" if row.holds else "FAILS"
        print(f"{verdict}: {row.what}: {row.value:.6g} (bar {row.bar:g}, {row.better} is better)")
    print(f"written: {path}")
    return 0


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return float(f"{number:.6g}") if number == number and abs(number) != float("inf") else None
