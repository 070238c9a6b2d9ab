"""How quickly does the program answer, what does it say of bad inputs and missing extras, what does a file lose?

Start-up and import are timed in processes of their own, pinnsim and jax in turn in the same run. Bad inputs are the
thirty of the contract, by the command line. The chain for CellRank is compared with the exact generator of a double
well on a grid; the file with the object that was written to it (simulated cells).
"""

import contextlib
import functools
import importlib
import io
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots

SMOKE: dict[str, Any] = {"rounds": 1, "cells": 12, "neighbors": 6, "inputs": 4}
_bad = companion(__file__, "_bad_inputs")
_NOISE, _NEAR = 0.15, 60


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Times, then what is found, said and kept."""
    times = _times(plan["rounds"])
    numbers = sorted(_bad.CASES)[: plan["inputs"]]
    missed = [number for number in numbers if not all(map(_found, _bad.CASES[number]))]
    silent = [extra for extra, module in EXTRAS.items() if not _said(extra, module)]
    lost = _lost(plan)
    chain = _chain_error(plan["chain_step"])
    ratio = times["import pinnsim"] / times["import jax"]
    rows = (
        Acceptance("pinnsim --help, best of rounds, s", times["pinnsim --help"], 1.0),
        Acceptance("import pinnsim over import jax, best of each in turn", ratio, 1.5),
        Acceptance(
            "bad inputs of the contract that yield their code", len(numbers) - len(missed), len(numbers), "higher"
        ),
        Acceptance("entries of an annotated object that a .h5ad file changes", lost, 0),
        Acceptance("chain for CellRank against the exact semigroup of a double well, largest error", chain, 0.02),
        Acceptance("extras whose absence is not said in one sentence with the command", len(silent), 0),
    )
    metrics = {
        "seconds": times,
        "bad inputs looked at": len(numbers),
        "bad inputs missed": missed,
        "extras with an entry in the library": sorted(EXTRAS),
        "extras without one (for benchmarks, accelerators, other programs)": sorted(declared() - set(EXTRAS)),
        "extras whose absence is not said": silent,
    }
    save(acceptance_dots(rows, "The interface: measured over its bar"), out / "interface.png")
    notes = (
        "Row 14 of the contract (cyclic references) is tried on rules of SBML: project files have no references.",
        "Of row 29 a second runner is refused in tests/test_sweep_store.py, not here.",
    )
    return Findings(metrics, {"import jax, s": times["import jax"]}, rows, notes)


def _times(rounds: int) -> dict[str, float]:
    """Best wall time of each, in processes of their own, in turn."""
    python = [sys.executable, "-c"]
    commands = {
        "import jax": [*python, "import jax"],
        "import pinnsim": [*python, "import pinnsim"],
        "pinnsim --help": [sys.executable, "-m", "pinnsim", "--help"],
    }
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _found(case: Any) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return bool(_bad.found(case, Path(folder)))


def declared() -> set[str]:
    """The extras of this checkout."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if not path.is_file():
        return set()
    return set(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"])


class _Parts(NamedTuple):
    """A small project as functions of the library take it."""

    project: Any
    prior: Any
    data: Any


@functools.cache
def _parts() -> _Parts:
    from pinnsim.fit import cultures
    from pinnsim.model import build
    from pinnsim.project import load_project

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {"project.toml": _bad.PROJECT, **_bad.TABLES}.items():
            (folder / file).write_text(text, encoding="utf-8")
        project = load_project(folder / "project.toml")
    prior = build(project.config.model, project.network, project.prior)
    return _Parts(project, prior, cultures(project.dataset, prior.center.table, substeps=2))


def _nuts() -> None:
    from pinnsim.fit import nuts

    project, prior, data = _parts()
    nuts(prior.center, prior, data, project.config.fit)


def _sbml() -> None:
    from pinnsim.formats.sbml.read import parsed_text

    parsed_text(b"<sbml/>", "model.xml")


def _dask() -> None:
    from pinnsim.sweep.cluster import Cluster

    Cluster(_load, ())


def _load(texts: Any) -> Any:
    raise RuntimeError("nothing is loaded here")


def _queue() -> None:
    from pinnsim.sweep.queues import queue_cluster

    queue_cluster("slurm", 1.0)


def _sensitivity() -> None:
    from pinnsim.design import sensitivity

    sensitivity(_parts().prior.center, {}, lambda model: model.kinetics.decay)


def _tune() -> None:
    from pinnsim.study import study

    project = _parts().project
    parts = (project.network, project.prior, project.dataset, project.config.fit)
    study(project.config.model, {}, *parts)


def _interactive() -> None:
    from pinnsim.plot import write_html

    write_html(None, "landscape.html")


def _pypesto() -> None:
    from pinnsim.fit import target
    from pinnsim.formats.pypesto import to_pypesto

    project, prior, data = _parts()
    to_pypesto(target(prior.center, prior, data, project.config.fit))


CALLS: dict[str, Callable[[], None]] = {
    "sbml": _sbml,
    "bayes": _nuts,
    "dask": _dask,
    "cluster": _queue,
    "sensitivity": _sensitivity,
    "tune": _tune,
    "interactive": _interactive,
    "pypesto": _pypesto,
}
EXTRAS = {
    "sbml": "libsbml",
    "bayes": "blackjax",
    "dask": "distributed",
    "cluster": "dask_jobqueue",
    "sensitivity": "SALib",
    "tune": "optuna",
    "interactive": "plotly",
    "pypesto": "pypesto",
}


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Inside, this module cannot be imported, as if it were not installed."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == module}
    sys.modules[module] = None  # type: ignore[assignment]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(kept)


def sentence(extra: str) -> str:
    """What is said where the package of an extra is absent; empty where it is not said."""
    with without(EXTRAS[extra]):
        try:
            CALLS[extra]()
        except PinnsimError as error:
            return next((str(one) for one in error.problems if one.code == "E_EXTRA_MISSING"), "")
        except Exception as error:  # any other error is no sentence
            print(f"{extra}: {type(error).__name__}: {error}", file=sys.stderr)
    return ""


def _said(extra: str, module: str) -> bool:
    said = sentence(extra)
    return f"pip install 'pinnsim[{extra}]'" in said and "\n" not in said


def _lost(plan: dict[str, Any]) -> int:
    """How many entries of an annotated object differ after a round trip."""
    import anndata

    from pinnsim.annotated import write_results
    from pinnsim.cli import run as command
    from pinnsim.tl.project import load_cells

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stdout(io.StringIO()):
            command(["init", str(folder / "cells"), "--template", "us"])
        adata = load_cells(folder / "cells" / "project.toml").adata[:: max(400 // plan["cells"], 1)].copy()
        rng = np.random.default_rng(0)
        adata.obsm["pinnsim_fate"] = rng.random((adata.n_obs, 3))
        adata.obsp["pinnsim_transition"] = _sparse(rng, adata.n_obs, plan["neighbors"])
        adata.uns["pinnsim_landscape"] = {"states": rng.random((2, 2)), "names": np.array(["A1", "A2"], dtype=object)}
        back = anndata.read_h5ad(write_results(adata, folder / "cells.h5ad"))
    places = ("obs", "var", "obsm", "obsp", "layers", "uns")
    differing = int(not _same(adata.X, back.X))
    for place in places:
        one, other = getattr(adata, place), getattr(back, place)
        names = set(one.keys()) | set(other.keys())
        differing += sum(name not in one or name not in other or not _same(one[name], other[name]) for name in names)
    return differing


def _sparse(rng: np.random.Generator, cells: int, neighbors: int) -> Any:
    import scipy.sparse

    rows = np.repeat(np.arange(cells), neighbors)
    columns = np.concatenate([rng.choice(cells, neighbors, replace=False) for _ in range(cells)])
    return scipy.sparse.csr_matrix((rng.random(len(rows)), (rows, columns)), (cells, cells))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return set(one) == set(other) and all(_same(one[name], other[name]) for name in one)
    a, b = (np.asarray(x.toarray() if hasattr(x, "toarray") else x) for x in (one, other))
    if a.dtype.kind in "OUST":
        return a.shape == b.shape and [str(v) for v in a.ravel()] == [str(v) for v in b.ravel()]
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _chain_error(step: float) -> float:
    """Largest difference between the chain on cells and the exact semigroup of a double well, over three functions and
    the cells that lie inside."""
    import scipy.sparse.linalg
    import scipy.special

    from pinnsim.dynamics.textbook import double_well
    from pinnsim.landscape import additive, fokker_planck, nearest_cells, transitions

    # Cells at the quantiles of a normal law, far from even.
    cells = 0.2 + 0.9 * np.sqrt(2.0) * scipy.special.erfinv(2.0 * (np.arange(400) + 0.5) / 400 - 1.0)
    cells = cells[np.abs(cells) < 1.9][:, None]
    inner = np.abs(cells[:, 0]) < 1.3
    noise = additive(_NOISE, 1)
    grid = fokker_planck(double_well(), noise, ([-2.2], [2.2]), 440)
    found = transitions(double_well(), cells, nearest_cells(cells, _NEAR), step, noise)
    places, worst = grid.points[:, 0], 0.0
    for f in (lambda x: x, lambda x: x**2, lambda x: np.tanh(4 * x)):
        exact = scipy.sparse.linalg.expm_multiply(found.step * grid.generator.T.tocsc(), f(places))
        wanted = np.interp(cells[:, 0], places, exact)
        worst = max(worst, float(np.abs(found.matrix @ f(cells[:, 0]) - wanted)[inner].max()))
    return worst


if __name__ == "__main__":
    raise SystemExit(main(__file__))
