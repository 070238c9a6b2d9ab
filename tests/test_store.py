"""Stored arrays come back bit for bit, or are refused: damage, other models, other precision, killed writers."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from pinnsim import store
from pinnsim.errors import PinnsimError
from pinnsim.store import arrays as file_format
from pinnsim.table import Table
from pinnsim.tree import named_leaves

ROOT = Path(__file__).resolve().parent.parent


class Rates(eqx.Module):
    """Two fields of equal shape and names that give them their meaning."""

    k_on: jax.Array
    k_off: jax.Array
    count: jax.Array
    table: Table = eqx.field(static=True)


def table(*genes: str) -> Table:
    return Table(genes, (), (), (), tuple(f"{gene}.mrna" for gene in genes), ())


def rates(*genes: str) -> Rates:
    return Rates(jnp.array([0.1, -np.pi]), jnp.array([2.0, np.nan]), jnp.array(7), table(*genes or ("a", "b")))


def refusal(code: str, action, *arguments) -> str:
    """The message with which an action is refused."""
    with pytest.raises(PinnsimError) as caught:
        action(*arguments)
    assert caught.value.codes == (code,)
    return str(caught.value)


def redigested(data: bytes) -> bytes:
    """A file whose digest was made to fit what was done to it: only its other checks are left."""
    place = file_format._digest_place(data)
    blank = data[: place.start] + b"0" * 64 + data[place.stop :]
    return data[: place.start] + hashlib.sha256(blank).hexdigest().encode() + data[place.stop :]


def with_header(data: bytes, old: str, new: str) -> bytes:
    """A file with a text of its header replaced by one of the same length, and a fitting digest."""
    assert data.count(old.encode()) == 1
    assert len(old) == len(new)
    return redigested(data.replace(old.encode(), new.encode()))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "rates.safetensors"


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", ">f8", "c8"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_back_bit_for_bit(dtype, shape, path):
    saved = {"z/first": np.arange(np.prod(shape), dtype=int).reshape(shape).astype(dtype), "a": np.array(-0.0)}
    store.save_arrays(path, saved, {"step": "3", "digest": "0" * 64, "gene": 'tée"\\'})
    leaves, meta = store.load_arrays(path)
    assert list(leaves) == ["z/first", "a"]
    assert leaves["z/first"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(leaves["z/first"], saved["z/first"], strict=dtype != ">f8")
    assert np.signbit(leaves["a"])
    assert meta == {"step": "3", "digest": "0" * 64, "gene": 'tée"\\'}
    assert safetensors.numpy.load_file(path).keys() == saved.keys()


def test_a_tree_comes_back_bit_for_bit_and_equal_trees_give_equal_bytes(path):
    store.save_tree(path, rates(), {"step": "3"})
    loaded, meta = store.load_tree(path, jax.tree.map(jnp.zeros_like, rates()))
    for saved, back in zip(jax.tree.leaves(rates()), jax.tree.leaves(loaded), strict=True):
        assert (saved.dtype, saved.tobytes()) == (back.dtype, back.tobytes())
    assert meta == {"step": "3"}
    assert path.read_bytes() == store.encode_tree(rates(), {"step": "3"})


def test_what_is_no_number_is_not_stored(path):
    for leaf in (np.array(["GATA1"]), np.array([None]), np.array(1j)):
        assert "'k'" in refusal("E_USAGE", store.save_arrays, path, {"k": leaf})
    assert list(path.parent.iterdir()) == []


def test_every_single_bit_flip_is_refused(path):
    data = store.encode_tree(rates())
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PinnsimError) as caught:
            store.arrays.decode(bytes(flipped), "rates")
        assert caught.value.codes == ("E_CKPT_CORRUPT",)


def test_random_flips_of_the_file_are_refused_and_the_leaf_is_named(path):
    data = store.encode_tree(rates())
    start = 8 + int.from_bytes(data[:8], "little")
    spans = {name: entry.get("data_offsets") for name, entry in json.loads(data[8:start]).items()}
    random = np.random.default_rng(1)
    for place in [*random.integers(0, len(data), 100).tolist(), *random.integers(start, len(data), 20).tolist()]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        message = refusal("E_CKPT_CORRUPT", store.read, path)
        assert "rates.safetensors" in message
        hit = [name for name, span in spans.items() if span and span[0] <= place - start < span[1]]
        assert not hit or f"sha256 mismatch in leaf '{hit[0]}'" in message


@pytest.mark.parametrize("keep", [0, 7, 8, 200, -1])
def test_a_truncated_file_is_refused(keep, path):
    path.write_bytes(store.encode_tree(rates())[:keep])
    assert path.name in refusal("E_CKPT_CORRUPT", store.read, path)


def test_trailing_bytes_are_refused(path):
    path.write_bytes(store.encode_tree(rates()) + b"\0")
    assert "not its own" in refusal("E_CKPT_CORRUPT", store.read, path)


def test_exchanged_fields_are_refused_and_both_named(path):
    data = store.encode_tree(rates())
    saved = rates()
    on, off = (np.asarray(leaf).tobytes() for leaf in (saved.k_on, saved.k_off))
    assert data.count(on) == data.count(off) == 1
    exchanged = data.replace(on, b"#" * 16).replace(off, on).replace(b"#" * 16, off)
    path.write_bytes(exchanged)
    assert "'k_off' and 'k_on' were exchanged" in refusal("E_CKPT_CORRUPT", store.read, path)


def test_a_file_of_a_newer_schema_is_refused(path):
    path.write_bytes(with_header(store.encode_tree(rates()), '\\"schema\\": 1', '\\"schema\\": 3'))
    assert "file schema 3, this build reads 1; update pinnsim" in refusal("E_CKPT_VERSION", store.read, path)


class Swapped(eqx.Module):
    """`Rates` with its fields in another order."""

    k_off: jax.Array
    k_on: jax.Array
    count: jax.Array
    table: Table = eqx.field(static=True)


@pytest.mark.parametrize(
    ("like", "told"),
    [
        ({"k_on": jnp.zeros(2), "count": jnp.array(0)}, ["not in the model: 'k_off'"]),
        (eqx.tree_at(lambda r: r.k_off, rates(), jnp.zeros(3)), ["'k_off' (2,) instead of (3,)"]),
        (Swapped(jnp.zeros(2), jnp.zeros(2), jnp.array(0), table("a", "b")), ["other order", "'k_on'", "'k_off'"]),
        (rates("b", "a"), ["table/genes has 'a' instead of 'b' at 0, 'b' instead of 'a' at 1", "1 more"]),
        (rates("a", "b", "c"), ["table/genes has 2 entries instead of 3"]),
        (dict.fromkeys(("k_on", "k_off", "rate"), jnp.zeros(2)), ["not in the file: 'rate'", "in the model: 'count'"]),
    ],
)
def test_another_model_is_refused_and_the_difference_named(like, told, path):
    store.save_tree(path, rates())
    with pytest.raises(PinnsimError) as caught:
        store.load_tree(path, like)
    assert set(caught.value.codes) == {"E_CKPT_MODEL"}
    assert all(words in str(caught.value) for words in told)


def test_double_precision_is_never_cast_down(path):
    store.save_tree(path, rates())
    with jax.enable_x64(False):
        single = jax.tree.map(jnp.asarray, Rates(*(np.zeros(2, "f4"),) * 2, np.array(0, "i4"), table("a", "b")))
        message = refusal("E_PRECISION", store.load_tree, path, single)
        assert "pinnsim.enable_x64()" in message
        assert "k_on" in message
        store.save_tree(path, single)
        assert store.load_tree(path, single)[0].k_on.dtype == jnp.float32
    assert "float32 in the file, float64 in the model" in refusal("E_PRECISION", store.load_tree, path, rates())


def test_sizes_are_refused_before_anything_is_read(path):
    store.save_arrays(path, {"k": np.zeros(1000)})
    assert "limit" in refusal("E_SIZE", store.read, path, 1000)
    header = {"k": {"dtype": "F64", "shape": [10**6, 10**6], "data_offsets": [0, 8 * 10**12]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert "declares 8e+03 GB" in refusal("E_SIZE", store.read, path)


def test_files_that_are_not_ours_are_refused(path):
    missing = refusal("E_CKPT_MISSING", store.read, path)
    assert str(path) in missing
    safetensors.numpy.save_file({"k": np.zeros(2)}, path)
    assert "no file of pinnsim" in refusal("E_CKPT_CORRUPT", store.read, path)
    deep = b"[" * 100_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    refusal("E_CKPT_CORRUPT", store.read, path)


def test_the_previous_generation_is_kept_offered_and_never_pushed_out_by_a_damaged_one(path):
    for step in (1, 2):
        store.save_arrays(path, {"k": np.full(3, step)})
    previous = store.previous_of(path)
    assert previous.name == "rates.safetensors.previous"
    assert store.load_arrays(previous)[0]["k"][0] == 1
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert f"load '{previous}'" in refusal("E_CKPT_CORRUPT", store.read, path)
    store.save_arrays(path, {"k": np.full(3, 3)})
    assert store.load_arrays(path)[0]["k"][0] == 3
    assert store.load_arrays(previous)[0]["k"][0] == 1
    previous.write_bytes(b"")
    path.unlink()
    assert "previous generation" not in refusal("E_CKPT_MISSING", store.read, path)


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.relative_to(folder).as_posix(): entry.read_bytes() for entry in folder.rglob("*") if entry.is_file()}


@pytest.mark.parametrize("step", ["fsync", "replace", "link"])
def test_a_failing_write_leaves_what_was_there_and_no_litter(step, path, monkeypatch):
    for number in (1, 2):
        store.save_arrays(path, {"k": np.full(3, number)})
    before = contents(path.parent)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        if step == "link":  # a file system without links: the previous generation is copied instead
            store.save_arrays(path, {"k": np.full(3, 3)})
            assert store.load_arrays(store.previous_of(path))[0]["k"][0] == 2
            return
        message = refusal("E_DISK", store.save_arrays, path, {"k": np.full(3, 3)})
    assert "No space left on device" in message
    assert contents(path.parent) == before


def test_a_folder_that_cannot_be_written_is_an_error_of_the_disk(path):
    path.write_bytes(b"a file")
    assert path.name in refusal("E_DISK", store.save_arrays, path / "inside.safetensors", {"k": np.zeros(1)})
    assert path.read_bytes() == b"a file"


@pytest.mark.parametrize("call", [1, 2, 3])
def test_folders_are_replaced_whole(call, tmp_path, monkeypatch):
    target = tmp_path / "bundle"

    def write(text: str) -> None:
        with store.replacing(target, lambda folder: (folder / "a").exists()) as folder:
            (folder / "inner").mkdir(parents=True)
            (folder / "a").write_text(text)
            (folder / "inner" / "b").write_text(text)

    write("1")
    write("2")
    assert contents(tmp_path) == {
        **{"bundle/a": b"2", "bundle/inner/b": b"2"},
        **{"bundle.previous/a": b"1", "bundle.previous/inner/b": b"1"},
    }
    before, replace, calls = contents(tmp_path), os.replace, []

    def failing(source, destination):
        calls.append(source)
        if len(calls) == call:
            raise OSError(5, "Input/output error")
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        assert "Input/output error" in refusal("E_DISK", write, "3")
    assert contents(tmp_path) == before
    (target / "a").unlink()
    write("4")
    assert contents(tmp_path) == {**before, "bundle/a": b"4", "bundle/inner/b": b"4"}


KILLED = """
    import os, signal, sys
    import numpy as np
    from pinnsim import store

    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    store.save_arrays(sys.argv[1], {"k": np.full(3, 2)})
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_writer_leaves_the_old_file_and_its_litter_goes_with_the_next_write(path):
    store.save_arrays(path, {"k": np.full(3, 1)})
    before = path.read_bytes()
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=300)
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert [entry for entry in path.parent.iterdir() if re.search(r"\.\d+\.(old\.)?tmp$", entry.name)]
    store.save_arrays(path, {"k": np.full(3, 3)})
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, f"{path.name}.previous"}


def test_another_living_writers_file_is_left_alone(path):
    other = path.with_name(f".{path.name}.{os.getppid()}.tmp")
    other.write_bytes(b"at work")
    store.save_arrays(path, {"k": np.zeros(1)})
    assert other.read_bytes() == b"at work"


def test_names_of_optimiser_states_and_tables_are_found():
    from pinnsim.store.identity import static_names

    class Moments(tuple):
        _fields = ("mu", "nu")

    found = static_names({"state": Moments((rates(), [rates("c")])), "step": 3})
    assert found["state/mu/table/genes"] == ("a", "b")
    assert found["state/nu/0/table/species"] == ("c.mrna",)
    assert "step" not in found
    assert named_leaves(rates()).keys() == {"k_on", "k_off", "count"}
