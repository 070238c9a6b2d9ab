"""Does everything compile once, are damaged files refused, and do commands answer in time?

Compilations are counted as traces of the compiled functions while every array argument takes three values and
perturbations change their kind; files are copies of the shelf's bundle with one bit flipped or two fields exchanged;
commands run in processes of their own.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from pinnsim import shelf
from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import FitPlan, cultures, evaluate, fit, optimise, predict_cultures
from pinnsim.formats.bundle import Bundle, load_model
from pinnsim.landscape import push
from pinnsim.model import build
from pinnsim.parameter import resolve
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots
from pinnsim.simulate import ODE, FromState, many, simulate, steady_state
from pinnsim.treatment import Treatment
from pinnsim.tree import named_leaves

SMOKE: dict[str, Any] = {"flips": 10, "help_runs": 1, "demo": False, "time_tests": False}
FILES = ("manifest.json", "model.toml", "parameters.safetensors")
# Each with a dose curve: what moves between switches is a program of its own.
KINDS = (
    ("none", "u=0{ke=0.2}@0:", "hold(v)=0.4@1:4"),
    ("u*5@1:2, edge(u->v)*3@3:", "rnai(v)*0.2{ka=1}@1:", "drive(v)=0.3@2:3"),
    ("decay(u)*3{dose=2;ka=0.3;ke=0.1;ic50=1;hill=2}@1:", "activity(u)*0@1:", "v=0, u*2@0.5:"),
)
PUSHES = (("drive(u)=1", "none"), ("u*1", "drive(v)=0.1"), ("hold(v)=1", "v*0.9"))
PLANS: tuple[dict[str, Any], ...] = (
    {"steps": 12, "cycles": 2},
    {"steps": 20, "rate": 0.01, "seed": 1, "rtol": 1e-3},
    {"steps": 3, "schedule": "constant", "patience": 2, "gate_penalty": 1.0},
)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every row, and their picture."""
    what = "compilations of {} for three values of every array argument"
    rows = [Acceptance(what.format(name), n, 1) for name, n in compilations(shelf.load("toggle_switch")).items()]
    rows += files(plan["flips"], np.random.default_rng(plan["seeds"][0]))
    rows += commands(plan)
    save(acceptance_dots(rows, "Compiled once, quick enough"), out / "soundness.png")
    return Findings({"load of the machine when it ended": round(os.getloadavg()[0], 1)}, {}, tuple(rows))


@contextlib.contextmanager
def counted(module: ModuleType, name: str) -> Iterator[Any]:
    """The compiled function of a module, counting its traces."""
    original = getattr(module, name)
    counting = eqx.debug.assert_max_traces(original.__wrapped__, max_traces=None)
    setattr(module, name, eqx.filter_jit(counting))
    try:
        yield counting
    finally:
        setattr(module, name, original)


def compilations(toggle: Bundle) -> dict[str, int]:
    """Traces of every public verb. A plan's seeds, rates, tolerances, schedules and steps are array arguments too."""
    synthesis = toggle.model.kinetics.synthesis.raw
    models = [eqx.tree_at(lambda m: m.kinetics.synthesis.raw, toggle.model, synthesis + 0.01 * k) for k in range(3)]
    found = {"simulate": 0, "steady_state": 0, "push": 0}
    with counted(many, "_solved") as traces:
        for k, model in enumerate(models):
            begin = [FromState(jnp.full(2, 0.1 + 0.1 * k + 0.01 * lane)) for lane in range(3)]
            method = ODE(10.0 ** (-4 - k), 1e-8 / (k + 1))
            simulate(model, [0.0, 2.0 + k, 9.0], KINDS[k], initial=begin, method=method, phases=2)
    found["simulate"] = eqx.debug.get_num_traces(traces)
    settle = eqx.debug.assert_max_traces(steady_state, max_traces=None)
    compiled = eqx.filter_jit(settle)
    for k, model in enumerate(models):
        for text in KINDS[k]:
            acting = Treatment.parse(text).resolve(model.table, 2)
            compiled(resolve(model.kinetics), acting, jnp.full(2, 0.3 + k), jnp.asarray(float(k)))
    found["steady_state"] = eqx.debug.get_num_traces(settle)
    with counted(sys.modules[push.__module__], "_run") as traces:
        for k, (model, (text, background)) in enumerate(zip(models, PUSHES, strict=True)):
            points = np.array([[9.9, 0.1], [0.1, 9.9]]) + 0.01 * k
            lanes = [1.0 + k, 3.0], [2.0, 4.0 + k]
            push(model, points[1], text, *lanes, points, settle=30.0 + k, background=background)
    found["push"] = eqx.debug.get_num_traces(traces)
    with counted(evaluate, "_predict") as predictions:
        for stage in ("collocation", "trajectory"):
            with counted(optimise, "_advance") as traces:
                for k, chosen in enumerate(PLANS):
                    fit_and_predict(toggle, k, stage, dict(chosen))
            found[f"a {stage} step of fit"] = eqx.debug.get_num_traces(traces)
    return {**found, "predict_cultures": eqx.debug.get_num_traces(predictions)}


def fit_and_predict(toggle: Bundle, number: int, stage: str, chosen: dict[str, Any]) -> None:
    """One stage of a fit of the toggle to made-up readings, and what it then predicts."""
    prior = build(toggle.config, toggle.network, toggle.prior)
    spread = 0.1 * (number + 1) * jnp.ones_like(prior.spread.kinetics.decay.raw)
    prior = eqx.tree_at(lambda p: p.spread.kinetics.decay.raw, prior, spread)
    readings = np.random.default_rng(number).uniform(0.5, 8.0, (2, 1, 3, 2))
    times = [0.0, 1.0 + 0.1 * number, 4.0]
    treatments = {"a": ("none", "u*3@1:2", "hold(v)=1@2:3")[number], "b": "v=0@0:"}
    data = Dataset.build(
        readings, times, ("u", "v"), list(treatments), treatments=treatments, time_unit="h", scale="linear"
    )
    other = "trajectory_steps" if stage == "collocation" else "collocation_steps"
    named = {f"{stage}_steps": chosen.pop("steps"), other: 0, "starts": 1, "keep": 1, "substeps": 2}
    if "rate" in chosen:
        chosen["learning_rate" if stage == "collocation" else "trajectory_learning_rate"] = chosen.pop("rate")
    plan = FitPlan.model_validate({**named, **chosen})
    models = fit(prior, data, plan, progress=False).models
    predict_cultures(models, cultures(data, prior.center.table, substeps=2), plan)


def files(flips: int, rng: np.random.Generator) -> list[Acceptance]:
    """Damaged copies of the shelf's carbon-shift bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(shelf.path("carbon_shift"), Path(scratch) / "bundle"))
        whole = {name: (folder / name).read_bytes() for name in FILES}
        leaves = named_leaves(load_model(folder).model)
        places = np.repeat(FILES, [len(whole[name]) for name in FILES])
        refusals = 0
        for spot in rng.integers(len(places), size=flips):
            name = str(places[spot])
            content = bytearray(whole[name])
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            refusals += _refused(folder, name, bytes(content))
            (folder / name).write_bytes(whole[name])
        one, other = (leaves[f"kinetics/{rate}/raw"].tobytes() for rate in ("synthesis", "decay"))
        before = whole[FILES[2]]
        after = before.replace(one, b"#" * len(one)).replace(other, one).replace(b"#" * len(one), other)
        exchanged = sorted(before) == sorted(after) and before != after and _refused(folder, FILES[2], after)
    return [
        Acceptance("single-bit flips of a bundle that are refused", refusals, flips, "higher"),
        Acceptance("two exchanged fields of one shape, refused", int(exchanged), 1, "higher"),
    ]


def _refused(folder: Path, name: str, content: bytes) -> bool:
    (folder / name).write_bytes(content)
    try:
        load_model(folder)
    except PinnsimError as error:
        return set(error.codes) == {"E_CKPT_CORRUPT"}
    return False


def commands(plan: dict[str, Any]) -> list[Acceptance]:
    """Seconds of what people wait for."""
    pinnsim, root = [sys.executable, "-m", "pinnsim"], shelf.experiment_path("soundness").parent.parent
    best = min(_seconds([*pinnsim, "--help"]) for _ in range(plan["help_runs"]))
    rows = [Acceptance("pinnsim --help, seconds, the best of its runs", best, 1.0)]
    if plan["demo"]:
        with tempfile.TemporaryDirectory() as scratch:
            demo = [*pinnsim, "demo", "--quiet", "--out", f"{scratch}/demo"]
            spent = _seconds(demo, PINNSIM_CACHE=f"{scratch}/cache")
        rows.append(Acceptance("pinnsim demo with nothing compiled before, seconds", spent, 180.0))
    if plan["time_tests"] and (root / "tests").is_dir():
        tests = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
        rows.append(Acceptance("tests on two processes, seconds", _seconds(tests, cwd=root), 1200.0))
    return rows


def _seconds(command: list[str], cwd: Path | None = None, **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=cwd, env={**os.environ, **environment})
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main(__file__))
