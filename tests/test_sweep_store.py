"""What a campaign's folder survives: kills, damage, full disks, two runners; on work without JAX."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sweeping import POINTS, Squares, begin, compute, finish, layout, undisturbed

from pinnsim.errors import PinnsimError
from pinnsim.sweep import InProcess, Store, drive, journal, merge
from pinnsim.sweep.lock import Lock


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """The hash of an uninterrupted run."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "store")


def codes(call) -> list[str]:
    with pytest.raises(PinnsimError) as caught:
        call()
    return list(caught.value.codes)


# The journal


def test_a_journal_gives_back_whole_lines_and_drops_every_torn_one(tmp_path):
    path = tmp_path / "journal"
    entries = [{"chunk": k, "text": "x" * k} for k in range(4)]
    for entry in entries:
        journal.Journal(path).append(entry)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found = journal.Journal(path)
        assert found.entries == entries[: sum(end <= size for end in ends)]
        assert found.torn == (size > 0 and size not in ends)
    found.mend()
    found.append(entries[3])
    assert journal.Journal(path).entries == entries


def test_every_flipped_bit_of_a_journal_costs_lines_and_nothing_else(tmp_path):
    path = tmp_path / "journal"
    entries = [{"chunk": k} for k in range(3)]
    for entry in entries:
        journal.Journal(path).append(entry)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = journal.Journal(path)
        assert all(entry in entries for entry in found.entries)
        assert len(found.entries) in (1, 2)
        assert found.damaged or found.torn


# Opening and reading


def test_a_finished_store_is_one_dataset_with_named_dimensions_and_units(tmp_path):
    begin(tmp_path / "a", chunk=7)
    report = finish(tmp_path / "a")
    assert report.counts == {"requested": POINTS, "done": 90, "failed": 10, "pending": 0}
    dataset = Store(tmp_path / "a").to_xarray()
    assert dict(dataset.sizes) == {"point": POINTS, "part": 2}
    assert dataset.square.attrs["units"] == "1"
    np.testing.assert_array_equal(dataset.square, np.arange(POINTS) ** 2.0)
    np.testing.assert_array_equal(dataset.pair.sel(part="third"), np.arange(POINTS) / 3)
    assert set(dataset.coords) == {"axis_number", "part"}


@pytest.mark.parametrize("chunk", [1, 7, 8, 33, 100])
def test_the_hash_does_not_depend_on_the_chunks(tmp_path, whole, chunk):
    begin(tmp_path / "a", chunk=chunk)
    finish(tmp_path / "a")
    assert Store(tmp_path / "a").content_hash() == whole


def test_folders_that_are_no_new_campaign_are_refused(tmp_path):
    assert codes(lambda: Store(tmp_path / "none")) == ["E_CKPT_MISSING"]
    begin(tmp_path / "a")
    assert codes(lambda: begin(tmp_path / "a")) == ["E_USAGE"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("all of it")
    assert codes(lambda: begin(tmp_path / "b")) == ["E_USAGE"]
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"points": 100', '"points": 101'))
    assert codes(lambda: Store(tmp_path / "a")) == ["E_CKPT_CORRUPT"]


# Damage


def test_missing_truncated_and_flipped_chunks_are_found_and_done_again(tmp_path, whole):
    begin(tmp_path / "a")
    finish(tmp_path / "a")
    store = Store(tmp_path / "a")
    store.file("square", 2).unlink()
    cut = store.file("pair", 3)
    cut.write_bytes(cut.read_bytes()[:-3])
    flipped = store.file("square", 5)
    flipped.write_bytes(b"\x01" + flipped.read_bytes()[1:])
    (tmp_path / "a" / "data" / "square" / ".7.4242.part").write_bytes(b"half")
    assert codes(Store(tmp_path / "a").verify) == ["E_CKPT_MISSING", "E_CKPT_CORRUPT", "E_CKPT_CORRUPT"]
    assert finish(tmp_path / "a").chunks == 3
    Store(tmp_path / "a").verify()
    assert Store(tmp_path / "a").content_hash() == whole
    assert not list((tmp_path / "a").rglob("*.part"))


def test_a_lost_or_torn_journal_line_costs_its_chunk_only(tmp_path, whole):
    begin(tmp_path / "a")
    finish(tmp_path / "a")
    path = tmp_path / "a" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b"4", b"5", 1), *lines[4:-1], lines[-1][:-9]]))
    assert codes(Store(tmp_path / "a").verify) == ["E_CKPT_CORRUPT", "E_CKPT_CORRUPT"]
    assert finish(tmp_path / "a").chunks == 2
    Store(tmp_path / "a").verify()
    assert Store(tmp_path / "a").content_hash() == whole


def test_a_chunk_finished_twice_must_be_the_same(tmp_path):
    begin(tmp_path / "a")
    finish(tmp_path / "a")
    work = Squares()
    same = {**compute(8, 16), **work.axes(8, 16)}
    with Store(tmp_path / "a").hold() as store:
        lines = len(store.journal.entries)
        store.commit(1, same)
        assert len(store.journal.entries) == lines
        assert codes(lambda: store.commit(1, {**same, "square": same["square"] + 1})) == ["E_CKPT_CORRUPT"]
    Store(tmp_path / "a").verify()
    record = json.loads(json.dumps(Store(tmp_path / "a").done[1]))
    record["sha256"]["square"] = "0" * 64
    journal.Journal(tmp_path / "a" / "journal.jsonl").append(record)
    assert codes(lambda: Store(tmp_path / "a")) == ["E_CKPT_CORRUPT"]


# Kills


@pytest.fixture(scope="module")
def driver() -> Iterator[Callable[[str], int]]:
    """Asks the process that forks drivers."""
    command = [sys.executable, str(Path(__file__).parent / "sweep_driver.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(line: str) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            print(line, file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield ask
        process.kill()


def test_a_driver_killed_at_any_time_loses_the_chunk_in_hand_at_most(tmp_path, whole, driver):
    random = np.random.default_rng(3)
    kills = 0
    for trial in range(3):
        folder = tmp_path / str(trial)
        begin(folder)
        before = 0
        while before < POINTS:
            child = driver(f"0.004 {folder}")
            time.sleep(random.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert driver("wait") in (0, -signal.SIGKILL)
            kills += 1
            store = Store(folder)
            counts = store.counts()
            assert counts["done"] + counts["failed"] + counts["pending"] == counts["requested"] == POINTS
            assert store.damage() == {}
            assert POINTS - counts["pending"] >= before
            before = POINTS - counts["pending"]
            if kills % 5 == 0:
                finish(folder)
        finish(folder)
        Store(folder).verify()
        assert Store(folder).content_hash() == whole
    assert kills >= 3


# Ctrl-C


def interrupted(folder: Path, presses: list[float]) -> float:
    """How long a slow run goes on after its first Ctrl-C."""
    begin(folder)
    pressed = []

    def press() -> None:
        for wait in presses:
            time.sleep(wait)
            pressed.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press, daemon=True)
    work = Squares(0.3)
    with Store(folder).hold() as store:
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            drive(store, work, InProcess(work))
    finger.join(60)
    return time.perf_counter() - pressed[0]


def test_ctrl_c_ends_in_order_and_twice_at_once(tmp_path, whole):
    before = signal.getsignal(signal.SIGINT)
    interrupted(tmp_path / "a", [0.4])
    assert signal.getsignal(signal.SIGINT) is before
    assert 8 <= POINTS - Store(tmp_path / "a").counts()["pending"] <= 24
    assert interrupted(tmp_path / "b", [0.4, 0.02]) < 0.3
    for name in "ab":
        finish(tmp_path / name)
        assert Store(tmp_path / name).content_hash() == whole


# Disks and locks


def test_a_full_disk_keeps_the_journal(tmp_path, whole, monkeypatch):
    begin(tmp_path / "a")
    write, left = os.write, [1500]

    def full(descriptor: int, data) -> int:
        count = min(len(data), left[0])
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= count
        return write(descriptor, data[:count])

    for room in (1500, 0, 700, 333, 90):
        left[0] = room
        monkeypatch.setattr(journal.os, "write", full)
        with pytest.raises(PinnsimError, match="E_DISK.*No space.*sweep resume") as caught:
            finish(tmp_path / "a")
        monkeypatch.setattr(journal.os, "write", write)
        assert caught.value.exit_status == 3
        counts = Store(tmp_path / "a").counts()
        assert counts["done"] + counts["failed"] + counts["pending"] == POINTS
        assert Store(tmp_path / "a").damage() == {}
    finish(tmp_path / "a")
    assert Store(tmp_path / "a").content_hash() == whole


def test_a_real_disk_that_is_full_keeps_the_journal_and_goes_on_when_there_is_room(tmp_path, whole):
    script = str(Path(__file__).parent / "sweep_full_disk.py")
    for namespace in (["--mount"], ["--mount", "--user", "--map-root-user"]):
        command = ["unshare", *namespace, sys.executable, script, str(tmp_path)]
        try:
            called = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            pytest.skip("no 'unshare' on this system: a small disk cannot be mounted")
        if called.returncode == 0:
            break
    else:
        if called.returncode == 77 or "unshare" in called.stderr:
            pytest.skip(f"mounting a small disk is refused here: {called.stderr.strip()}")
    assert called.returncode == 0, called.stderr
    found = json.loads(called.stdout)
    assert re.search("E_DISK.*No space left on device.*sweep resume", found["told"])
    assert found["status"] == 3
    assert 0 < found["full"]["pending"] < POINTS
    assert found["full"]["done"] + found["full"]["failed"] + found["full"]["pending"] == POINTS
    assert found["damaged"] == 0
    assert found["hash"] == whole


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    begin(tmp_path / "a")
    usual = os.open

    def read_only(path, flags, *rest, **more):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return usual(path, flags, *rest, **more)

    monkeypatch.setattr("pinnsim.sweep.lock.os.open", read_only)
    assert codes(lambda: Store(tmp_path / "a").hold()) == ["E_DISK"]


def test_one_runner_at_a_time_and_stale_locks_are_taken_over(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; import importlib.util as u; "
        "s = u.spec_from_file_location('lock', sys.argv[2]); m = u.module_from_spec(s); s.loader.exec_module(m); "
        "lock = m.Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    source = Path(__file__).parent.parent / "pinnsim" / "sweep" / "lock.py"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(source)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        late = threading.Timer(60, holder.kill)
        late.start()
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PinnsimError, match=f"E_LOCKED: process {holder.pid} on"):
            Lock(path)
        holder.kill()
        late.cancel()
    lock = Lock(path)
    with pytest.raises(PinnsimError, match=f"E_LOCKED: process {os.getpid()}"):
        Lock(path)
    lock.release()
    assert not path.exists()
    here = {"pid": os.getppid(), "began": "0", "boot": "another run of the machine"}
    path.write_text(json.dumps({**here, "host": os.uname().nodename}))
    Lock(path).release()
    path.write_text(json.dumps({**here, "host": "another machine"}))
    assert codes(lambda: Lock(path)) == ["E_LOCKED"]


# Shards


def test_three_shards_make_the_whole(tmp_path, whole):
    folders = [tmp_path / f"part{k}" for k in (1, 2, 3)]
    for k, folder in enumerate(folders, start=1):
        begin(folder, shard=(k, 3))
        assert finish(folder).counts["pending"] == 0
    assert sum(Store(folder).counts()["requested"] for folder in folders) == POINTS
    assert merge(folders[:2], tmp_path / "whole").counts()["pending"] == 32
    assert merge(folders, tmp_path / "whole").counts()["pending"] == 0
    Store(tmp_path / "whole").verify()
    assert Store(tmp_path / "whole").content_hash() == whole
    Store.create(tmp_path / "other", layout(), {"campaign": "cubes"})
    assert codes(lambda: merge([folders[0], tmp_path / "other"], tmp_path / "b")) == ["E_USAGE"]
    Store(folders[0]).file("square", 0).unlink()
    assert codes(lambda: merge(folders, tmp_path / "b")) == ["E_CKPT_MISSING"]
