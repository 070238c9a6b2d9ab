"""A process of its own for what a stranger wrote: bounded, and deaf to modules in the folder that one stands in.

This file imports nothing of the package: what runs in such a process starts quickly.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def run_apart(module: str, arguments: Sequence[str], content: bytes, seconds: int) -> subprocess.CompletedProcess:
    """Runs a module of this package as a program.

    **Arguments:** `content`: its standard input; `seconds`: by the clock, after which it is ended.

    **Returns** what ended, with its output as bytes. **Raises** `subprocess.TimeoutExpired`.
    """
    # -P: a stranger's folder may hold a json.py, and -m alone would look there first.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        input=content,
        capture_output=True,
        timeout=seconds,
        check=False,
    )


def bounded(memory: int, seconds: int) -> None:
    """Bounds the memory (bytes) and processor time of this process, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def last_words(done: subprocess.CompletedProcess) -> str:
    """Why a process gave no answer."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"it ended with status {done.returncode}"
