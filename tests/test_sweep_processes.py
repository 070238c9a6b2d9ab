"""Worker processes that are killed, kill themselves, never begin, or say what nobody asked; on work without JAX."""

import contextlib
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from sweeping import POINTS, begin, finish, undisturbed, worker_command

from pinnsim.errors import PinnsimError
from pinnsim.sweep import Processes, Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """The hash of an uninterrupted run."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "store")


def test_workers_that_are_killed_are_replaced(tmp_path, whole):
    begin(tmp_path / "a")
    engine = Processes(worker_command(0.02), 2)

    def kill() -> None:
        for wait in (0.4, 0.1, 0.15):
            time.sleep(wait)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(engine.pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    report = finish(tmp_path / "a", engine)
    killer.join(60)
    assert report.counts["pending"] == 0
    assert report.quarantined == ()
    assert Store(tmp_path / "a").content_hash() == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_points_that_kill_their_worker_are_named_and_the_rest_completes(tmp_path, workers):
    begin(tmp_path / "a")
    report = finish(tmp_path / "a", Processes(worker_command(poison=(13,)), workers))
    assert report.quarantined == (13,)
    assert report.counts == {"requested": POINTS, "done": 89, "failed": 11, "pending": 0}
    store = Store(tmp_path / "a")
    assert store.done[1]["quarantined"] == {"13": "SIGKILL"}
    dataset = store.to_xarray()
    assert int(dataset.outcome[13]) == 100
    expected = np.where(np.arange(POINTS) == 13, np.nan, np.arange(POINTS) ** 2.0)
    np.testing.assert_array_equal(dataset.square, expected)
    assert finish(tmp_path / "a").chunks == 0


def test_workers_that_never_begin_end_the_run_with_what_they_are(tmp_path):
    begin(tmp_path / "a")
    engine = Processes([sys.executable, "-c", "raise SystemExit(7)"], 2)
    with pytest.raises(PinnsimError, match="E_USAGE: 3 workers ended before they were ready.*exit status 7"):
        finish(tmp_path / "a", engine)


SLOW = "import sys, time; print('a library says hello', flush=True); time.sleep(600)"


def test_workers_that_are_never_ready_are_killed_and_end_the_run(tmp_path):
    begin(tmp_path / "a")
    began = time.monotonic()
    with pytest.raises(PinnsimError, match=r"E_USAGE: 3 workers ended before they were ready .*: not ready in 0\.3 s"):
        finish(tmp_path / "a", Processes([sys.executable, "-c", SLOW], 1, begin=0.3))
    assert time.monotonic() - began < 60


def test_workers_may_print_before_they_speak_and_must_end_when_they_close_their_output(tmp_path, whole, capfd):
    begin(tmp_path / "a")
    said = f"print('a library says hello', flush=True); import runpy, sys; sys.argv = {worker_command()[1:]!r}; "
    command = [sys.executable, "-c", said + "runpy.run_path(sys.argv[0], run_name='__main__')"]
    finish(tmp_path / "a", Processes(command, 1))
    assert Store(tmp_path / "a").content_hash() == whole
    assert "a library says hello" in capfd.readouterr().err
    closed = "import os, time; os.close(1); time.sleep(600)"
    begin(tmp_path / "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnsim.sweep.processes._END", 0.2)
        with pytest.raises(PinnsimError, match="E_USAGE: .* ended before they were ready .*: closed its output"):
            finish(tmp_path / "b", Processes([sys.executable, "-c", closed], 1))


def test_workers_that_die_of_everything_end_the_run_and_are_not_tried_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pinnsim.sweep.drive"], "_VAIN", 5)
    begin(tmp_path / "a")
    engine = Processes(worker_command(poison=tuple(range(POINTS))), 1)
    with pytest.raises(PinnsimError, match=r"E_SOLVER: 6 workers in a row died .*: SIGKILL"):
        finish(tmp_path / "a", engine)
    assert Store(tmp_path / "a").counts()["pending"] == POINTS
