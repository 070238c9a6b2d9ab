"""The checkout keeps the house rules of `structure.py` and its promises about importing; each check can fail."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import structure

ROOT = Path(__file__).resolve().parent.parent

CHECKS = [
    structure.floors,
    structure.abstract_or_final,
    structure.executed_text,
    structure.long_files,
    structure.missing_docstrings,
    structure.small_folders,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_checkout_keeps_the_rule(check):
    assert check(ROOT) == []


def test_contributing_shows_the_same_floors():
    rows = re.findall(r"^\| (\d) [^|]*\|([^|]*)\|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.M)
    shown = {int(floor): set(re.findall(r"`(\w+)/?`", units)) for floor, units in rows}
    assert shown == {floor: set(units) for floor, units in enumerate(structure.FLOORS, start=1)}


# A small house that keeps every rule; each planted file breaks one.
HOUSE = {
    "pinnsim/__init__.py": '"""Front door."""\n__version__ = "0"\n',
    "pinnsim/errors.py": '"""Errors."""\nfrom pinnsim import __version__\n',
    "pinnsim/dynamics/__init__.py": '"""Equations."""\nfrom pinnsim.dynamics.base import AbstractRate, Constant\n',
    "pinnsim/dynamics/base.py": '''
        """Rates."""
        import abc
        import equinox as eqx
        from pinnsim.errors import __version__

        class AbstractRate(eqx.Module):
            """A rate."""
            value: eqx.AbstractVar[object]

            @abc.abstractmethod
            def __call__(self):
                """The rate."""

        class Constant(AbstractRate):
            value: object

            def __call__(self):
                return self.value
        ''',
    "pinnsim/dynamics/linear.py": '"""Linear."""\nfrom . import base\n',
    "pinnsim/dynamics/hill.py": '"""Hill."""\nfrom .base import Constant\n',
    "pinnsim/simulate.py": '"""Solving."""\nimport diffrax\nfrom pinnsim.dynamics import Constant\n',
}

CELL, NETWORK, SCORE = "pinnsim/cell.py", "pinnsim/network.py", "pinnsim/score.py"
EQX = "import abc, diffrax, equinox as eqx\nfrom pinnsim.dynamics import AbstractRate, Constant\n"
DATACLASSES = "import dataclasses as d\n@d.dataclass(frozen=True)\nclass A: x: int\n@d.dataclass\nclass B(A): y: int"

# What each check must find in which file: words of the violation, or nothing where the look-alike is allowed.
PLANTED = {
    structure.floors: [
        (NETWORK, "from pinnsim.dynamics import Constant", "'network' (floor 2) imports 'dynamics' (floor 3)"),
        (NETWORK, "from pinnsim import dynamics", "'network' (floor 2) imports 'dynamics'"),
        (NETWORK, "def late():\n    import pinnsim.simulate", "'network' (floor 2) imports 'simulate'"),
        ("pinnsim/dynamics/deep.py", "from .. import simulate", "'dynamics' (floor 3) imports 'simulate'"),
        (NETWORK, "import pinnsim", "the package's front door"),
        ("pinnsim/helpers.py", "", "'helpers' has no floor"),
        (SCORE, "import diffrax.solver", "imports diffrax, which only simulate/ may"),
        (SCORE, "from optax import adam", "imports optax, which only fit/ and operator/ may"),
        (SCORE, "import pinnsim.fit, pinnsim.network", None),
    ],
    structure.abstract_or_final: [
        (CELL, EQX + "class Cell(Constant): pass", "concrete class pinnsim.dynamics.base.Constant"),
        (CELL, EQX + "class Cell(eqx.nn.MLP): pass", "concrete class equinox.nn.MLP"),
        (CELL, EQX + "class Cell(diffrax.Tsit5): pass", "concrete class diffrax.Tsit5"),
        (CELL, EQX + "class Cell(diffrax.AbstractERK): pass", None),
        ("experiments/cell.py", DATACLASSES, "concrete class experiments.cell.A"),
        (
            CELL,
            EQX + "class AbstractCell(eqx.Module):\n    size: AbstractSize\n    def f(self): return 1",
            "holds concrete f, size",
        ),
        (
            CELL,
            EQX + "class Cell(eqx.Module):\n    @property\n    @abc.abstractmethod\n    def f(self): pass",
            "call it AbstractCell",
        ),
        (CELL, EQX + "class Cell(AbstractRate):\n    size: float | None = None", "Cell.size is a float"),
        (CELL, EQX + "class Cell(eqx.Module):\n    f: object = eqx.field(default=lambda x: x)", "to a lambda"),
    ],
    structure.executed_text: [
        (CELL, "def load(f):\n    import pickle", "imports pickle"),
        ("experiments/cell.py", "from joblib import load", "imports joblib"),
        (CELL, "eval('1')", "calls eval"),
        (CELL, "def f(frame): return frame.eval('a + b')", "calls frame.eval"),
        (CELL, "import builtins\nbuiltins.exec('1')", "calls builtins.exec"),
        (CELL, "import re\nre.compile('a')", None),
        (CELL, "from sympy import sympify", "imports sympify"),
        (CELL, "import sympy\nsympy.lambdify(1, 2)", "uses sympy.lambdify"),
        (CELL, "import numpy as np\nnp.load('a.npz', allow_pickle=True)", "passes allow_pickle=True"),
        (CELL, "import numpy as np\nnp.load('a.npz', allow_pickle=False)", None),
    ],
    structure.long_files: [(CELL, "x = 1\n" * (structure.MAX_LINES - 1), "401 lines")],
    structure.missing_docstrings: [("tests/test_cell.py", None, "no opening docstring")],
    structure.small_folders: [("pinnsim/plot/axes.py", "", "pinnsim/plot/: 1 siblings")],
}


def _write(root: Path, place: str, text: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for place, text in HOUSE.items():
        _write(tmp_path, place, text)
    return tmp_path


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_clean_house_passes(check, house):
    assert check(house) == []


@pytest.mark.parametrize(
    ("check", "place", "body", "expected"), [(check, *row) for check, rows in PLANTED.items() for row in rows]
)
def test_a_planted_violation_is_found(check, place, body, expected, house):
    _write(house, place, "x = 1\n" if body is None else f'"""Planted."""\n{body}\n')
    found = check(house)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]
        assert found[0].startswith(place.rpartition("/")[0] if check is structure.small_folders else place)


def test_units_that_import_each_other_are_found(house):
    _write(house, "pinnsim/tree.py", '"""Tree."""\nimport pinnsim.units\n')
    _write(house, "pinnsim/units.py", '"""Units."""\nfrom pinnsim.tree import leaf\n')
    assert [line for line in structure.floors(house) if "circle" in line and "tree" in line and "units" in line]


def _python(root: Path, code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with warnings as errors and without the tests' settings; pinnsim comes from `root`."""
    ours = ("JAX_", "XLA_", "MPL", "COV_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["PYTHONPATH"] = str(root)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )


IMPORT_EVERYTHING = """
    import importlib, os, pkgutil, random, sys
    import jax, matplotlib, numpy
    import anndata, equinox, rich.console, xarray, zarr

    def settings():
        return {
            "jax": dict(jax.config.values), "matplotlib": dict(matplotlib.rcParams), "environment": dict(os.environ),
            "numpy errors": numpy.geterr(), "numpy random": str(numpy.random.get_state()), "random": random.getstate(),
        }

    before = settings()
    import pinnsim
    for module in pkgutil.walk_packages(pinnsim.__path__, "pinnsim."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    changed = [name for name, value in settings().items() if value != before[name]]
    assert not changed, f"importing pinnsim changed {changed}"
    assert jax.numpy.ones(1).dtype == "float32", "importing pinnsim switched on x64"
"""


def test_importing_everything_changes_no_setting_and_prints_nothing(tmp_path):
    run = _python(ROOT, IMPORT_EVERYTHING, tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import jax; jax.config.update('jax_enable_x64', True)", "changed ['jax']"),
        ("import numpy; numpy.random.seed(1)", "changed ['numpy random']"),
        ("import os; os.environ['XLA_FLAGS'] = ''", "changed ['environment']"),
        ("import warnings; warnings.warn('look')", "UserWarning: look"),
        ("print('hello')", "hello"),
    ],
)
def test_a_planted_side_effect_is_found(line, expected, house, tmp_path):
    shutil.rmtree(house / "pinnsim")
    _write(house, "pinnsim/__init__.py", f'"""Front door."""\n{line}\n')
    run = _python(house, IMPORT_EVERYTHING, tmp_path)
    assert (run.returncode, run.stdout, run.stderr) != (0, "", "")
    assert expected in run.stdout + run.stderr


# What a help page has no use for, and what would take it past a second.
HEAVY = {"jax", "jaxlib", "equinox", "diffrax", "optax", "anndata", "xarray", "zarr", "pandas", "scipy", "matplotlib"}

LOADED = """
    import json, runpy, sys, time
    sys.argv = ["pinnsim", *{arguments!r}]
    status = None
    try:
        {statement}
    except SystemExit as stop:
        status = stop.code
    loaded = sorted({{name.partition(".")[0] for name in sys.modules}})
    print(json.dumps({{"status": status, "loaded": loaded, "seconds": time.process_time()}}))
"""


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("import pinnsim", []),
        ("import pinnsim.cli", []),
        ("runpy.run_module('pinnsim', run_name='__main__')", ["--help"]),
        ("runpy.run_module('pinnsim', run_name='__main__')", ["fit", "--help"]),
    ],
)
def test_the_front_door_and_the_help_are_light(statement, arguments, tmp_path):
    run = _python(ROOT, LOADED.format(statement=statement, arguments=arguments), tmp_path)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["status"] in ((0,) if arguments else (None,))
    assert HEAVY.isdisjoint(told["loaded"])
    # The promise is `--help` in under a second; processor seconds, so that a busy machine does not decide.
    assert told["seconds"] < 1.0


def test_a_heavy_import_would_be_seen(tmp_path):
    run = _python(ROOT, LOADED.format(statement="import pandas", arguments=[]), tmp_path)
    assert "pandas" in json.loads(run.stdout)["loaded"]
