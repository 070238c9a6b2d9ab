"""What an HDF5 file declares, looked at before anything of it is read.

A file of a kilobyte can declare arrays of terabytes, links can lead to other files, and damaged files can make the
library run for ever or end its process: a process of its own walks through the file first (`hdf5_child`).
"""

import json
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("hdf5_child.py")
PATIENCE = 600.0  # seconds of a slow disk
_SECONDS = 5  # of a processor


def declared_bytes(path: Path) -> int:
    """Bytes of all arrays as declared.

    **Raises** `ValueError` for what the library cannot read, links, and data in other files.
    """
    command = [sys.executable, "-I", str(CHILD), str(path.resolve()), str(_SECONDS)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        found = json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired) as error:
        raise ValueError("the HDF5 library does not come to an end with it") from error
    if "refused" in found:
        raise ValueError(found["refused"])
    return int(found["declared"])
