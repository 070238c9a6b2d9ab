"""What a worker process says and hears: jobs as lines, numbers as bytes.

To the worker: `{"chunk": 3, "start": 768, "stop": 1024}`. From it: `{"ready": true}` once, then per job a line
`{"chunk", "start", "stop", "seconds", "arrays": [[name, dtype, shape], ...]}` followed by the bytes of the arrays, or
`{"errors": [[code, message], ...]}`. When its input ends, because whoever started it is gone, the worker ends too.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import IO, Any, BinaryIO

import numpy as np

from pinnsim.errors import PinnsimError

Arrays = dict[str, np.ndarray]


def serve(begin: Callable[[], Callable[[int, int], Arrays]]) -> None:
    """Works until the input ends. **Arguments:** `begin`: makes what works out points `start` to `stop`."""
    # What libraries print must not get between the numbers.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        compute = begin()
        _say(out, {"ready": True})
        for line in sys.stdin.buffer:
            job = json.loads(line)
            began = time.perf_counter()
            arrays = compute(job["start"], job["stop"])
            _say(out, {**job, "seconds": time.perf_counter() - began}, arrays)
    except PinnsimError as error:
        _say(out, {"errors": [[problem.code, problem.message] for problem in error.problems]})
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more; the interpreter must not try to say so.
        os._exit(1)


def _say(out: BinaryIO, head: dict[str, Any], arrays: Arrays | None = None) -> None:
    if arrays is not None:
        head = {**head, "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]}
    out.write(json.dumps(head).encode() + b"\n")
    for array in (arrays or {}).values():
        out.write(np.ascontiguousarray(array).data)
    out.flush()


def hear(source: IO[bytes]) -> tuple[dict[str, Any], Arrays] | None:
    """One message of a worker with its arrays; `None` where it ended, whole messages only.

    What was printed before the worker spoke is passed on to the standard error.
    """
    while line := source.readline():
        head = _message(line)
        if head is not None:
            break
        if line.endswith(b"\n"):
            print(line.decode(errors="replace"), end="", file=sys.stderr)
    else:
        return None
    arrays = {}
    for name, dtype, shape in head.get("arrays", ()):
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        data = source.read(size)
        if len(data) != size:
            return None
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return head, arrays


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(line)
    except ValueError:
        return None
    return head if isinstance(head, dict) and head.keys() & {"ready", "errors", "arrays"} else None
