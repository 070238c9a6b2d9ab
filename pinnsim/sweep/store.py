"""A campaign's folder: numbers in Zarr arrays that any tool opens, and a journal that says which of them count.

    manifest.json      the specification, its digest, what was found before the start, the layout, versions
    data/              a Zarr group; one array per variable, its first dimension `point`, cut into chunks
    journal.jsonl      a line per chunk: which points, how they ended, sha256 of each of its files
    lock               who is working here

A chunk is done when its files are in place and its line is in the journal, in this order. Chunks of one array lie in
one folder as `<chunk>`, `<chunk>.0` ..., uncompressed, so that a chunk is one durable write and the disk need is known
beforehand; the last is padded with the fill value, which Zarr leaves out.
"""

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.sweep.journal import Journal, delete_orphans, disk_errors, write_durably
from pinnsim.sweep.lock import Lock

if TYPE_CHECKING:
    import xarray as xr

SCHEMA = 1
MANIFEST, JOURNAL, LOCK, DATA = "manifest.json", "journal.jsonl", "lock", "data"
OUTCOME = "outcome"
QUARANTINED = 100
"""The outcome of a point that killed its worker."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """An array with a number, or more, per point. **Arguments:** `dtype`; `dims`, `shape`: after `point`; `fill`: of
    what is not there; `attrs`: units and the like."""

    dtype: str
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    fill: float | int = 0
    attrs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def bytes_per_point(self) -> int:
        """What a point takes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a store holds. **Arguments:** `points`; `chunk`: points per chunk; `variables`: by name; `coordinates`: of
    dimensions but `point`, name -> (values, attributes); `shard`: (which, of how many), from 1."""

    points: int
    chunk: int
    variables: Mapping[str, Variable]
    coordinates: Mapping[str, tuple[Sequence[Any], Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    shard: tuple[int, int] = (1, 1)

    @property
    def chunks(self) -> int:
        """How many chunks all points take."""
        return -(-self.points // self.chunk)

    @property
    def own(self) -> range:
        """The chunks of this shard."""
        which, total = self.shard
        return range(which - 1, self.chunks, total)

    @property
    def requested(self) -> int:
        """The points of this shard."""
        return sum(stop - start for start, stop in map(self.span, self.own)) if self.shard[1] > 1 else self.points

    @property
    def bytes(self) -> int:
        """What the numbers of this shard take on disk."""
        return len(self.own) * self.chunk * sum(v.bytes_per_point for v in self.variables.values())

    def span(self, chunk: int) -> tuple[int, int]:
        """First point of a chunk, and the one after its last."""
        return chunk * self.chunk, min((chunk + 1) * self.chunk, self.points)


class Store:
    """A campaign's folder, to read, or with `hold()` to write.

    **Arguments:** `folder`. **Raises** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`, `E_CKPT_VERSION`; `E_CKPT_CORRUPT` where one
    chunk was finished twice with different numbers.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        plain = self.manifest["layout"]
        self.layout = Layout(
            plain["points"],
            plain["chunk"],
            {name: Variable(**_tuples(entry)) for name, entry in plain["variables"].items()},
            {name: (entry[0], entry[1]) for name, entry in plain["coordinates"].items()},
            (plain["shard"][0], plain["shard"][1]),
        )
        self._lock: Lock | None = None
        self._read_journal()

    @staticmethod
    def create(folder: str | Path, layout: Layout, about: Mapping[str, Any]) -> "Store":
        """A new store. **Arguments:** `about`: what else the manifest says, as JSON. **Raises** `E_USAGE` where the
        folder holds something, `E_DISK`."""
        folder = Path(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / MANIFEST).exists():
                raise PinnsimError.of(
                    "E_USAGE", f"'{folder}' holds a campaign; go on with 'pinnsim sweep resume', or choose another."
                )
            # A run that was killed before its manifest left no number that counts.
            if any(entry.name not in (DATA, LOCK) and not entry.name.endswith(".part") for entry in folder.iterdir()):
                raise PinnsimError.of("E_USAGE", f"'{folder}' holds something else; choose another folder.")
            lock = Lock(folder / LOCK)
            try:
                _make_arrays(folder / DATA, layout)
                write_durably(folder / MANIFEST, _manifest(layout, about))
            finally:
                lock.release()
        return Store(folder)

    def _read_journal(self) -> None:
        self.journal = Journal(self.folder / JOURNAL)
        self.done: dict[int, dict[str, Any]] = {}
        self._outcomes: Counter[int] = Counter()
        for entry in self.journal.entries:
            before = self.done.get(entry["chunk"])
            if before is None:
                self._count(entry)
            elif before["sha256"] != entry["sha256"]:
                raise _twice(self.folder, entry["chunk"])

    def _count(self, entry: dict[str, Any]) -> None:
        self.done[entry["chunk"]] = entry
        self._outcomes.update({int(code): count for code, count in entry["outcomes"].items()})

    def hold(self) -> "Store":
        """Takes the folder for writing: `with store.hold(): ...`. **Raises** `E_LOCKED`, `E_DISK`."""
        with disk_errors(self.folder):
            self._lock = Lock(self.folder / LOCK)
            try:
                self._read_journal()
                self.journal.mend()
                delete_orphans(self.folder)
            except BaseException:
                self._lock.release()
                raise
        return self

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def commit(self, chunk: int, arrays: Mapping[str, np.ndarray], note: Mapping[str, Any] | None = None) -> None:
        """Makes a chunk done. **Arguments:** `arrays`: by variable, (point, ...), without padding; `note`: more for the
        journal.

        A chunk that is done already must have the same numbers; its files are put in place again.

        **Raises** `E_DISK`; `E_CKPT_CORRUPT` for other numbers than before.
        """
        if self._lock is None:
            raise RuntimeError("a store is written inside `with store.hold():`")
        start, stop = self.layout.span(chunk)
        files = {
            name: _encoded(name, kind, arrays[name], stop - start, self.layout.chunk)
            for name, kind in self.layout.variables.items()
        }
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        before = self.done.get(chunk)
        if before is not None and before["sha256"] != sums:
            raise _twice(self.folder, chunk)
        outcomes = Counter(np.asarray(arrays[OUTCOME]).tolist())
        counts = {str(code): count for code, count in sorted(outcomes.items())}
        with disk_errors(self.folder):
            for name, data in files.items():
                write_durably(self.file(name, chunk), data)
            if before is None:
                entry = {"chunk": chunk, "points": [start, stop], "outcomes": counts, "sha256": sums, **(note or {})}
                self.journal.append(entry)
                self._count(entry)

    def file(self, variable: str, chunk: int) -> Path:
        """Where a chunk of a variable lies."""
        zeros = ["0"] * len(self.layout.variables[variable].dims)
        return self.folder / DATA / variable / ".".join([str(chunk), *zeros])

    def read(self, variable: str, chunk: int) -> np.ndarray:
        """A chunk's numbers, (point, ...), as they lie there; see `damage` for whether they are sound."""
        kind = self.layout.variables[variable]
        start, stop = self.layout.span(chunk)
        raw = np.frombuffer(self.file(variable, chunk).read_bytes(), np.dtype(kind.dtype))
        return raw.reshape(-1, *kind.shape)[: stop - start]

    def damage(self, chunks: Sequence[int] | None = None) -> dict[int, Problems]:
        """What is wrong with chunks that the journal calls done, by chunk; sound ones are left out."""
        found: dict[int, Problems] = {}
        for chunk in sorted(self.done) if chunks is None else chunks:
            problems = Problems()
            for name, expected in self.done[chunk]["sha256"].items():
                path = self.file(name, chunk)
                place = f"chunk {chunk} (points {self.layout.span(chunk)[0]} to {self.layout.span(chunk)[1] - 1})"
                if not path.exists():
                    problems.add("E_CKPT_MISSING", f"{place}: its file '{name}/{path.name}' is missing; resume.")
                    continue
                data = path.read_bytes()
                size = self.layout.chunk * self.layout.variables[name].bytes_per_point
                if len(data) != size:
                    what = f"has {len(data)} bytes instead of {size}"
                elif hashlib.sha256(data).hexdigest() != expected:
                    what = "is damaged: sha256 mismatch"
                else:
                    continue
                problems.add("E_CKPT_CORRUPT", f"{place}: its file '{name}/{path.name}' {what}; resume.")
            if problems:
                found[chunk] = problems
        return found

    def verify(self) -> None:
        """Reads everything that is done and raises all that is wrong. **Raises** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`."""
        with Problems() as problems:
            if self.journal.damaged:
                lines = first(self.journal.damaged)
                problems.add("E_CKPT_CORRUPT", f"'{JOURNAL}' has damaged lines ({lines}); resume does them again.")
            if self.journal.torn:
                problems.add("E_CKPT_CORRUPT", f"the last line of '{JOURNAL}' is cut off; resume does its chunk again.")
            for found in self.damage().values():
                for problem in found.found:
                    problems.add(problem.code, problem.message)

    def counts(self) -> dict[str, int]:
        """Points `requested`, `done`, `failed` (solved to no end, or quarantined) and `pending`; the first is the sum
        of the others."""
        outcomes = self.outcomes()
        done = outcomes.get(0, 0)
        failed = sum(outcomes.values()) - done
        total = self.layout.requested
        return {"requested": total, "done": done, "failed": failed, "pending": total - done - failed}

    def outcomes(self) -> Counter[int]:
        """How many points ended each way, by code."""
        return Counter(self._outcomes)

    def content_hash(self) -> str:
        """sha256 over every variable's name, kind and numbers of all done points, in order: it does not depend on how
        they were cut. Of sound stores: see `verify`."""
        total = hashlib.sha256()
        for name, kind in sorted(self.layout.variables.items()):
            total.update(f"{name} {kind.dtype} {kind.shape}\n".encode())
            for chunk in sorted(self.done):
                total.update(np.ascontiguousarray(self.read(name, chunk)).data)
        return total.hexdigest()

    def to_xarray(self) -> "xr.Dataset":
        """All points as one dataset with named dimensions and units; numbers are read when they are used, and what is
        pending holds fill values."""
        import xarray as xr

        dataset = xr.open_zarr(self.folder / DATA, consolidated=False, chunks=None, mask_and_scale=False)
        return dataset.assign_attrs(self.manifest["about"])


def _encoded(name: str, kind: Variable, values: np.ndarray, count: int, chunk: int) -> bytes:
    expected = (count, *kind.shape)
    if values.shape != expected:
        raise RuntimeError(f"variable '{name}' has shape {values.shape} instead of {expected}")
    whole = np.full((chunk, *kind.shape), kind.fill, dtype=kind.dtype)
    whole[:count] = values
    return whole.tobytes()


def _make_arrays(folder: Path, layout: Layout) -> None:
    import xarray as xr
    import zarr

    coords = {
        name: (name, np.array(values, dtype=object if isinstance(values[0], str) else None), dict(attrs))
        for name, (values, attrs) in layout.coordinates.items()
    }
    xr.Dataset(coords=coords).to_zarr(folder, mode="w", zarr_format=3, consolidated=False)
    group = zarr.open_group(folder, mode="r+")
    for name, kind in layout.variables.items():
        group.create_array(
            name,
            shape=(layout.points, *kind.shape),
            chunks=(layout.chunk, *kind.shape),
            dtype=kind.dtype,
            compressors=None,
            filters=None,
            fill_value=kind.fill,
            dimension_names=["point", *kind.dims],
            attributes=dict(kind.attrs),
            chunk_key_encoding={"name": "v2", "separator": "."},
        )


def _manifest(layout: Layout, about: Mapping[str, Any]) -> bytes:
    body = {"schema": SCHEMA, "about": dict(about), "layout": dataclasses.asdict(layout)}
    text = json.dumps(body, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), **body}, indent=1, sort_keys=True).encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        body = {name: value for name, value in found.items() if name != "sha256"}
        sound = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() == found["sha256"]
    except FileNotFoundError as error:
        raise PinnsimError.of(
            "E_CKPT_MISSING", f"'{folder}' holds no campaign; begin with 'pinnsim sweep run'."
        ) from error
    except (OSError, ValueError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise PinnsimError.of(
            "E_CKPT_CORRUPT", f"'{path}' is damaged; run the campaign into another folder from its specification."
        )
    if body["schema"] != SCHEMA:
        raise PinnsimError.of("E_CKPT_VERSION", f"'{path}': file schema {body['schema']}, this build reads {SCHEMA}.")
    return body


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _twice(folder: Path, chunk: int) -> PinnsimError:
    return PinnsimError.of(
        "E_CKPT_CORRUPT",
        f"chunk {chunk} of '{folder}' was finished twice with different numbers: another version of a library, another "
        "kind of processor, or a changed model; run the campaign into another folder.",
    )
