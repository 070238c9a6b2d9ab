"""A worker of `sweeping.Squares` in a process of its own, which takes its time and dies of some points.

It needs no JAX, so that it starts at once.
"""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def compute(start: int, stop: int) -> dict[str, np.ndarray]:
    """Points `start` to `stop`."""
    number = np.arange(start, stop, dtype=float)
    return {
        "outcome": (np.arange(start, stop) % 10 == 9).astype(np.int16),
        "square": number**2,
        "pair": np.stack([number, number / 3], axis=1),
    }


def _main(seconds: float, poison: list[int]) -> None:
    # The file alone: the package would bring JAX, which squares have no use for.
    path = Path(__file__).parent.parent / "pinnsim" / "sweep" / "worker.py"
    spec = importlib.util.spec_from_file_location("worker", path)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)

    def work(start, stop):
        time.sleep(seconds)
        if any(start <= point < stop for point in poison):
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(start, stop)

    worker.serve(lambda: work)


if __name__ == "__main__":
    _main(float(sys.argv[1]), [int(point) for point in sys.argv[2:]])
