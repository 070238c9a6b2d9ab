"""A run of the command line begins in double precision, with a cache that may be missing; it speaks in single lines."""

import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from pinnsim import session
from pinnsim.errors import warn


def test_the_cache_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv(session.CACHE_VARIABLE, str(tmp_path / "kept" / "here"))
    assert session.cache_folder() == tmp_path / "kept" / "here"
    assert list((tmp_path / "kept" / "here").iterdir()) == []


def test_without_the_variable_the_cache_lies_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(session.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(session.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert session.cache_folder() == tmp_path / "pinnsim" / "jax"


@pytest.mark.parametrize("wrong", ["off", "OFF", "a file"])
def test_no_cache_where_it_is_off_or_cannot_be_made(tmp_path, monkeypatch, wrong):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(session.CACHE_VARIABLE, str(tmp_path / "file" / "x") if wrong == "a file" else wrong)
    assert session.cache_folder() is None


def test_start_leaves_a_cache_that_is_already_set_up():
    before = jax.config.values["jax_compilation_cache_dir"]
    session.start()
    assert before is not None
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert jax.config.values["jax_enable_x64"]


def test_start_sets_a_cache_up_and_does_without_one_that_cannot_be_written(tmp_path, monkeypatch):
    before = {
        name: jax.config.values[name]
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv(session.CACHE_VARIABLE, "off")
        session.start()
        assert jax.config.values["jax_compilation_cache_dir"] is None
        monkeypatch.setenv(session.CACHE_VARIABLE, str(tmp_path))
        session.start()
        assert Path(jax.config.values["jax_compilation_cache_dir"]) == tmp_path
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_our_warnings_are_one_line_and_those_of_a_broken_cache_are_not_spoken_of(capsys):
    with session.plain_warnings():
        warn("W_GENE_CONSTANT", "gene 'gA' never changes.")
        warnings.warn("Error reading persistent compilation cache entry for 'jit_f': ValueError", stacklevel=1)
    assert capsys.readouterr().err == "W_GENE_CONSTANT: gene 'gA' never changes.\n"


def test_other_warnings_are_treated_as_before():
    with session.plain_warnings(), pytest.raises(RuntimeWarning, match="divide"):
        warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)


def test_versions_name_what_numbers_depend_on():
    found = session.versions()
    assert set(found) == {"python", *session.PACKAGES}
    assert found["jax"] == jax.__version__


def test_cores_become_devices_where_nothing_has_run_yet():
    """In a process of its own, since the number of devices is fixed when it starts."""
    code = (
        "import os, jax; from pinnsim.session import use_cores; "
        "cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(); "
        "assert use_cores(1_000) == cores; assert use_cores(1) == cores == jax.local_device_count()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
