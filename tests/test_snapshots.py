"""Snapshots from arrays and from AnnData: shapes by mask, nothing guessed, everything wrong said at once."""

import dataclasses
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from pinnsim.data import Snapshots, read_anndata
from pinnsim.errors import PinnsimError, PinnsimWarning

rng = np.random.default_rng(11)
GENES = ("a", "b", "c")
TIMES = np.repeat([0.0, 6.0, 24.0, 0.0, 12.0], [12, 15, 11, 10, 14])
CONDITIONS = np.repeat(["control", "treated"], [38, 24])
CELLS = [f"cell{i}" for i in range(62)]
SAID: dict[str, Any] = {"time_unit": "h", "scale": "counts"}


def counts() -> np.ndarray:
    return rng.poisson(5.0, (62, 2, 3)).astype(float)


def table(sparse: bool = False) -> anndata.AnnData:
    values = counts()
    kind = scipy.sparse.csr_matrix if sparse else np.asarray
    obs = pd.DataFrame({"hours": TIMES, "drug": CONDITIONS, "depth": rng.uniform(0.5, 2, 62)}, index=CELLS)
    return anndata.AnnData(
        kind(values.sum(axis=1)),
        obs,
        pd.DataFrame(index=list(GENES)),
        layers={"u": kind(values[:, 0]), "s": kind(values[:, 1])},
    )


def test_populations_of_different_sizes_share_one_shape() -> None:
    values, exposure = counts(), rng.uniform(0.5, 2, 62)
    order = rng.permutation(62)
    got = Snapshots.build(
        values[order],
        TIMES[order],
        GENES,
        ("unspliced", "spliced"),
        CONDITIONS[order],
        exposure=exposure[order],
        treatments={"treated": "a=0"},
        **SAID,
    ).select(conditions=("control", "treated"))
    assert got.values.shape == (2, 3, 15, 2, 3)
    assert got.cells().tolist() == [[12, 15, 11], [10, 14, 0]]
    np.testing.assert_array_equal(got.times[0], [0, 6, 24])
    np.testing.assert_array_equal(got.times[1, :2], [0, 12])
    assert (np.diff(got.times) > 0).all()
    assert str(got.treatments[1]) == "a=0"
    inside = got.values[1, 1][got.there[1, 1]]
    expected = values[(CONDITIONS == "treated") & (TIMES == 12)]
    np.testing.assert_array_equal(np.sort(inside.reshape(14, 6), axis=0), np.sort(expected.reshape(14, 6), axis=0))
    assert not got.values[~got.there].any()
    np.testing.assert_array_equal(got.exposure[~got.there], 1.0)
    chosen = (CONDITIONS == "control") & (TIMES == 24)
    np.testing.assert_allclose(got.mean()[0, 2], (values / exposure[:, None, None])[chosen].mean(axis=0))
    assert np.isnan(got.mean()[1, 2]).all()
    assert "treated: cells at 0 (10), 12 (14) h; a=0" in got.describe()
    assert got.select(genes=("c", "a")).values.shape == (2, 3, 15, 2, 2)
    assert got.digest() != got.select(genes=("c", "a", "b")).digest()


def test_a_time_is_held_out_without_leaking() -> None:
    whole = Snapshots.build(counts(), TIMES, GENES, ("unspliced", "spliced"), CONDITIONS, **SAID)
    kept, held = whole.hold_out(6.0)
    assert kept.cells().tolist() == [[12, 0, 11], [10, 14, 0]]
    assert not kept.values[0, 1].any()
    assert held.cells().tolist() == [[12, 15, 0], [10, 0, 0]]
    for time in (0.0, 7.0):
        with pytest.raises(PinnsimError, match="E_TIME_RANGE"):
            whole.hold_out(time)


def test_pseudo_bulk_keeps_every_count() -> None:
    exposure = rng.uniform(0.5, 2, 62)
    whole = Snapshots.build(counts(), TIMES, GENES, ("unspliced", "spliced"), CONDITIONS, exposure=exposure, **SAID)
    pooled = whole.pooled(4)
    assert pooled.cells().tolist() == [[4, 4, 4], [4, 4, 0]]
    np.testing.assert_allclose(pooled.values.sum(axis=2), whole.values.sum(axis=2))
    np.testing.assert_allclose(pooled.exposure[pooled.there].sum(), exposure.sum())
    np.testing.assert_array_equal(whole.pooled(100).cells(), whole.cells())
    with pytest.raises(PinnsimError, match="E_SCALE_MISMATCH"):
        dataclasses.replace(whole, scale="log1p").pooled(4)


@pytest.mark.parametrize("sparse", [False, True])
def test_anndata_says_what_its_columns_are(sparse: bool, tmp_path: Path) -> None:
    data = table(sparse)
    said: dict[str, Any] = {
        "layers": {"unspliced": "u", "spliced": "s"},
        "time_key": "hours",
        "condition_key": "drug",
        **SAID,
    }
    got = read_anndata(data, size_factors="total", **said)
    assert got.layers == ("unspliced", "spliced")
    total = np.asarray(data.X.sum(axis=1)).ravel()
    np.testing.assert_allclose(np.sort(got.exposure[got.there]), np.sort(total / total.mean()))
    named = read_anndata(data, size_factors="depth", genes=("c", "a"), **said)
    np.testing.assert_allclose(np.sort(named.exposure[named.there]), np.sort(data.obs["depth"]))
    np.testing.assert_array_equal(named.values, got.values[..., [2, 0]])
    main = read_anndata(data, size_factors="none", **{**said, "layers": {"mrna": "X"}})
    np.testing.assert_array_equal(main.values[..., 0, :], got.values.sum(axis=3))
    data.write_h5ad(tmp_path / "cells.h5ad")
    assert read_anndata(tmp_path / "cells.h5ad", size_factors="total", **said).digest() == got.digest()


def test_absent_names_are_told_together() -> None:
    with pytest.raises(PinnsimError) as caught:
        read_anndata(
            table(), layers={"mrna": "spliced"}, time_key="hour", size_factors="size", genes=("A", "b"), time_unit="h"
        )
    assert set(caught.value.codes) == {"E_LAYER_MISSING", "E_COLUMN_MISSING", "E_GENE_UNMATCHED", "E_USAGE"}
    assert "did you mean 'hours'" in str(caught.value)
    assert "'A' (did you mean 'a'?)" in str(caught.value)


def test_layers_and_size_factors_that_are_no_numbers_are_told_together() -> None:
    data = table()
    data.layers["words"] = np.full(data.shape, "many")
    data.obs["size"] = "large"
    with pytest.raises(PinnsimError) as caught:
        read_anndata(
            data, layers={"mrna": "words"}, time_key="hours", size_factors="size", time_unit="h", scale="counts"
        )
    assert caught.value.codes == ("E_DATA_TYPE", "E_DATA_TYPE")


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "broken.h5ad").write_bytes(b"not HDF5")
    for name in ("broken.h5ad", "absent.h5ad"):
        with pytest.raises(PinnsimError, match="E_DATA_FILE"):
            read_anndata(tmp_path / name, layers={"mrna": "X"}, time_key="t", size_factors="none", **SAID)


def changed(values: np.ndarray, where: tuple[int, ...], to: float) -> np.ndarray:
    out = values.copy()
    out[where] = to
    return out


@pytest.mark.filterwarnings("ignore:W_:pinnsim.errors.PinnsimWarning")
@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"values": changed(counts(), (4, 1, 2), -2.0)}, "E_DATA_NEGATIVE", "cell cell4, layer spliced, gene c = -2"),
        ({"values": changed(counts(), (4, 1, 2), np.nan)}, "E_DATA_NONFINITE", "cell cell4"),
        ({"values": counts() / 3.1}, "E_SCALE_MISMATCH", "non-integer"),
        ({"values": np.full((62, 2, 3), "x")}, "E_DATA_TYPE", "plain numbers"),
        ({"values": counts()[:, :1]}, "E_DATA_SHAPE", "(cell, 2, 3)"),
        ({"values": counts()[:0], "times": [], "conditions": [], "cells": []}, "E_DATA_EMPTY", "no cells"),
        ({"times": changed(TIMES, (7,), np.nan)}, "E_TIME_UNIT", "cell7"),
        ({"times": ["0h"] * 62}, "E_TIME_UNIT", "time_unit="),
        ({"times": np.zeros(62)}, "E_TIME_FEW", "2 of 2 conditions"),
        ({"times": TIMES[:5]}, "E_DATA_SHAPE", "one entry per cell"),
        ({"genes": ("a", "a", "c")}, "E_GENE_DUPLICATE", "'a'"),
        ({"cells": ["same"] * 62}, "E_SAMPLE_DUPLICATE", "same"),
        ({"exposure": changed(np.ones(62), (3,), 0.0)}, "E_DATA_EMPTY", "cell3"),
        ({"conditions": ["", *CONDITIONS[1:]]}, "E_DATA_TYPE", "no condition"),
        ({"treatments": {"tread": "a=0"}}, "E_CONDITION_UNKNOWN", "did you mean 'treated'"),
        ({"limit": 100.0}, "E_SIZE", "padded"),
        ({"time_unit": None}, "E_TIME_UNIT", "never guessed"),
        ({"scale": None}, "E_USAGE", "never guessed"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], code: str, text: str) -> None:
    given: dict[str, Any] = {"values": counts(), "times": TIMES, "genes": GENES, "layers": ("unspliced", "spliced")}
    given |= {"conditions": CONDITIONS, "cells": CELLS, **SAID, **change}
    with pytest.raises(PinnsimError) as caught:
        Snapshots.build(**given)
    assert code in caught.value.codes
    assert text in str(caught.value)


def test_small_populations_and_silent_genes_are_flagged() -> None:
    values = counts()
    values[:, :, 1] = 0.0
    with pytest.warns(PinnsimWarning) as told:
        got = Snapshots.build(values, np.where(np.arange(62) == 5, 3.0, TIMES), GENES, ("u", "s"), CONDITIONS, **SAID)
    said = [str(w.message) for w in told]
    assert any("W_CELLS_FEW: 1 of 6 populations" in text and "control at 3 h: 1" in text for text in said)
    assert any("W_GENE_CONSTANT: 1 of 3 genes" in text for text in said)
    assert got.cells()[0].tolist() == [11, 1, 15, 11]


def test_cells_that_declare_more_than_they_hold_or_lead_elsewhere_are_refused(tmp_path):
    path = tmp_path / "cells.h5ad"
    for shape, words in (((10**6, 10**6), "declares 8e+03 GB"), ((10, 10**8), "declares 8 GB of arrays, but holds")):
        with h5py.File(path, "w") as file:
            file.create_dataset("X", shape=shape, chunks=(1, 100), dtype="f8")
        assert words in str(_unread(path, "E_SIZE"))
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("other.h5", "/x")
    assert "is a link" in str(_unread(path, "E_DATA_FILE"))


def test_a_file_at_which_the_library_does_not_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(b"any")
    child = tmp_path / "hdf5_child.py"
    child.write_text("while True: pass")
    monkeypatch.setattr("pinnsim.store.hdf5.CHILD", child)
    monkeypatch.setattr("pinnsim.store.hdf5.PATIENCE", 0.5)
    assert "does not come to an end" in str(_unread(path, "E_DATA_FILE"))


def _unread(path, code):
    with pytest.raises(PinnsimError) as caught:
        read_anndata(path, layers={"mrna": "X"}, time_key="t", size_factors="none", **SAID)
    assert caught.value.codes == (code,)
    return caught.value
