"""Forks drivers of `sweeping.Squares` on request: a process of its own, because one in which JAX runs cannot be forked.

It reads lines `SECONDS FOLDER`, forks a child that works the store there out, each call taking so long, and prints the
child's number; after a line `wait` it prints how the last child ended.
"""

import os
import sys
from pathlib import Path

from sweeping import Squares

from pinnsim.sweep import InProcess, Store, drive


def _fork(seconds: float, folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            work = Squares(seconds)
            with Store(folder).hold() as store:
                drive(store, work, InProcess(work))
        finally:
            os._exit(0)
    return child


def _main() -> None:
    child = 0
    for line in sys.stdin:
        first, _, folder = line.strip().partition(" ")
        if first == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            child = _fork(float(first), Path(folder))
            print(child, flush=True)


if __name__ == "__main__":
    _main()
