"""A campaign on a tmpfs too small for it, in a mount namespace of its own: fills up, gets room, goes on.

Prints, as JSON, what was told when the disk was full, the counts at that moment, and the hash in the end. Ends with
status 77 where mounting is refused.
"""

import json
import subprocess
import sys
from pathlib import Path


def main(place: Path) -> int:
    """Mounts over an empty folder and works there."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, timeout=30, check=False).returncode:
        return 77
    from sweeping import begin, finish

    from pinnsim.errors import PinnsimError
    from pinnsim.sweep import Store

    begin(place / "a")
    told, status = "", 0
    try:
        finish(place / "a")
    except PinnsimError as error:
        told, status = str(error), error.exit_status
    full = Store(place / "a")
    counts, damaged = full.counts(), len(full.damage())
    subprocess.run(["mount", "-o", "remount,size=4m", str(place)], timeout=30, check=True)
    finish(place / "a")
    whole = Store(place / "a")
    whole.verify()
    print(
        json.dumps({"told": told, "status": status, "full": counts, "damaged": damaged, "hash": whole.content_hash()})
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
