"""Settings under which every test runs: sloppiness raises.

Double precision, no implicit broadcasting across ranks, no implicit promotion between dtypes; warnings are errors and
pinnsim's shape annotations are checked on every call (both in pyproject.toml). This file is read before any test
module, so x64 is set before any array is made.

optax computes `float ** int32` and so cannot live with strict promotion: `fit/` calls it under
`jax.numpy_dtype_promotion("standard")`, which covers optax's lines only. diffrax, optimistix, lineax and equinox can.
"""

import ctypes
import gc
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from reached import Reached

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
os.environ.setdefault("MPLBACKEND", "Agg")

_MANY_MAPS, _TOO_MANY_MAPS = 15_000, 30_000
_LONG = 1.0  # seconds

# A first example pays for a compilation, and any may wait for a processor, so time says nothing; every run draws the
# same examples, so that a failure can be repeated.
hypothesis.settings.register_profile(
    "pinnsim",
    deadline=None,
    derandomize=True,
    max_examples=25,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("pinnsim")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test` asks for beside the tests."""
    parser.addoption("--reached", action="store_true", help="show which lines of the package the tests reach")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs between runs: where nothing changed, nothing compiles. `make clean` forgets them."""
    if config.getoption("--reached"):
        config.pluginmanager.register(Reached(config))
    jax.config.update("jax_compilation_cache_dir", str(config.rootpath / ".pytest_cache" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    # JAX lets XLA look for garbage whenever Python does: every 700 objects, and tracing makes millions.
    gc.set_threshold(20_000)


@pytest.fixture
def key() -> jax.Array:
    """The random key of a test that needs one."""
    return jax.random.key(20120302)


def _forget_programs(most: int) -> None:
    """Compiled programs are forgotten where they hold more maps of memory than `most`. A process may have 65,530; past
    that, compiling crashes."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > most:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _programs_forgotten() -> Iterator[None]:
    """Between modules, not within: some of them count how often a program is traced."""
    yield
    _forget_programs(_MANY_MAPS)


@pytest.fixture(autouse=True)
def _memory_given_back() -> Iterator[None]:
    """After a test of a second or more: what the compiler has freed goes back to the system (glibc keeps it: two test
    processes grew to 11 GB and more), and programs are forgotten if there is no waiting for the module's end."""
    began = time.perf_counter()
    yield
    if time.perf_counter() - began < _LONG:
        return
    _forget_programs(_TOO_MANY_MAPS)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Third-party code that draws from the global generators draws the same in every order of the tests."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """No test leaves figures open to the next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
