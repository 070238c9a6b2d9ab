"""Where data that may not be copied into the repository lie: `$PINNSIM_DATA/dev`, else `../shared/data/dev` beside the
checkout. Experiments on them are skipped with a message where they are absent."""

import os
from pathlib import Path


def data_folder(name: str) -> Path | None:
    """The folder of one data set, or `None` where it is absent."""
    named = os.environ.get("PINNSIM_DATA")
    root = Path(named).expanduser() if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = root / "dev" / name
    return folder if folder.is_dir() else None


def absent(name: str) -> str:
    """What a results file says where a data set is absent."""
    return f"Not run: data set '{name}' is absent; name the folder that holds dev/{name} in PINNSIM_DATA."
