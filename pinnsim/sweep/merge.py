"""Shards become one store: every chunk is checked, then written as if it had been worked out there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pinnsim.errors import PinnsimError, Problems
from pinnsim.sweep.store import Store


def merge(folders: Sequence[str | Path], out: str | Path) -> Store:
    """One store of several of the same campaign; may be called again with more of them.

    **Arguments:** `folders`: shards, or stopped runs of the whole; `out`: new, or what an earlier merge began.

    **Raises** `E_USAGE` for other campaigns or chunks, `E_CKPT_MISSING`, `E_CKPT_CORRUPT` for damaged shards (resume
    them first), `E_DISK`, `E_LOCKED`.
    """
    if not folders:
        raise PinnsimError.of("E_USAGE", "Nothing to merge: name the folders of the shards.")
    stores = [Store(folder) for folder in folders]
    with Problems() as problems:
        for store in stores:
            for what in ("points", "chunk"):
                here, there = getattr(store.layout, what), getattr(stores[0].layout, what)
                if here != there:
                    problems.add("E_USAGE", f"'{store.folder}' has {what} {here}, '{stores[0].folder}' {there}.")
            if store.manifest["about"]["campaign"] != stores[0].manifest["about"]["campaign"]:
                problems.add("E_USAGE", f"'{store.folder}' is of another campaign than '{stores[0].folder}'.")
            try:
                store.verify()
            except PinnsimError as error:
                for problem in error.problems:
                    problems.add(problem.code, f"'{store.folder}': {problem.message}")
    whole = replace(stores[0].layout, shard=(1, 1))
    if (Path(out) / "manifest.json").exists():
        target = Store(out)
        if target.manifest["about"]["campaign"] != stores[0].manifest["about"]["campaign"]:
            raise PinnsimError.of("E_USAGE", f"'{out}' holds another campaign; choose another folder.")
    else:
        target = Store.create(out, whole, stores[0].manifest["about"])
    with target.hold():
        for store in stores:
            for chunk, entry in sorted(store.done.items()):
                note = {key: entry[key] for key in ("quarantined",) if key in entry}
                target.commit(chunk, {name: store.read(name, chunk) for name in store.layout.variables}, note)
    return target
