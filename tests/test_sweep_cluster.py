"""Campaigns on a real Dask cluster on this machine, a killed worker included."""

import contextlib
import functools
import importlib.util
import os
import signal
import threading
import time

import pytest
from sweeping import POINTS, Squares, layout

from pinnsim.errors import PinnsimError
from pinnsim.sweep import InProcess, Store, drive
from pinnsim.sweep.cluster import Cluster

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Dask and its event loop
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Port:UserWarning"),
]


def load(texts: tuple[str, ...]) -> Squares:
    """What a worker makes of the texts: points that take their time, as long as the text says."""
    return Squares(float(texts[0]))


def test_without_dask_the_engine_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pip install 'pinnsim\[dask\]'"):
        Cluster(load, ("0",))


def test_a_cluster_gives_the_same_hash_although_a_worker_is_killed(tmp_path):
    pytest.importorskip("distributed")
    Store.create(tmp_path / "a", layout(), {})
    with Store(tmp_path / "a").hold() as store:
        drive(store, Squares(), InProcess(Squares()))
    Store.create(tmp_path / "b", layout(), {})
    engine = Cluster(load, ("0.02",), 2, patience=60)
    pids = list(engine.client.run(os.getpid).values())
    killed = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "b" / "journal.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    killer = threading.Thread(target=kill, daemon=True)
    with Store(tmp_path / "b").hold() as store:
        killer.start()
        report = drive(store, Squares(), engine)
    killer.join(60)
    assert killed == pids[:1]
    assert report.counts == {"requested": POINTS, "done": 90, "failed": 10, "pending": 0}
    assert report.quarantined == ()
    assert Store(tmp_path / "b").content_hash() == Store(tmp_path / "a").content_hash()


def test_a_cluster_without_workers_ends_the_run(tmp_path):
    distributed = pytest.importorskip("distributed")
    Store.create(tmp_path / "a", layout(), {})
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty:
        engine = Cluster(load, ("0",), address=empty.scheduler_address, patience=0.3)
        with (
            Store(tmp_path / "a").hold() as store,
            pytest.raises(PinnsimError, match=r"E_USAGE: no Dask worker has been there for 0\.3 s"),
        ):
            drive(store, Squares(), engine)


def test_workers_that_do_not_begin_on_this_machine_are_told(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def never(**settings: object) -> None:
        assert settings["memory_limit"] is None, "Dask holds workers back without end at a share of a limit"
        raise RuntimeError(f"Nanny failed to start worker process in {settings['death_timeout']} s")

    monkeypatch.setattr(distributed, "LocalCluster", never)
    with pytest.raises(PinnsimError, match=r"E_USAGE: no Dask worker began .* in 5 s.*--engine processes"):
        Cluster(load, ("0",), patience=5)


def test_a_scheduler_that_does_not_answer_is_named():
    distributed = pytest.importorskip("distributed")
    refused = functools.partial(_refuse, "Timed out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "Client", refused)
        with pytest.raises(PinnsimError, match="E_USAGE: no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
            Cluster(load, ("0",), address="tcp://127.0.0.1:9")


def _refuse(reason: str, *_: object, **__: object) -> None:
    raise OSError(reason)
