"""Simulations come back from disk as they were, and damage, foreign coders and declared giants are refused."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pinnsim.errors import PinnsimError
from pinnsim.formats import simulation as simulation_file
from pinnsim.formats.simulation import load_simulation, save_simulation


def tree() -> xr.DataTree:
    lanes, time = {"lane": ["wild type", "ΔccpN"]}, ("time", np.array([0.0, 5.0]), {"units": "min"})
    species = {**lanes, "time": time, "species": ["ccpN.mrna"]}
    abundance = xr.DataArray(
        np.array([[[0.1], [np.nan]], [[0.0], [1e-300]]]), dims=("lane", "time", "species"), coords=species
    )
    root = xr.Dataset({"outcome": ("lane", np.array([0, 2]), {"meaning": "0 done; 2 not finite"})}, coords=lanes)
    return xr.DataTree.from_dict({"/": root, "/species": xr.Dataset({"abundance": abundance})})


def refusal(path: Path, **options) -> PinnsimError:
    with pytest.raises(PinnsimError) as caught:
        load_simulation(path, **options)
    return caught.value


@pytest.fixture(params=["course.zarr", "course.nc"])
def path(request, tmp_path) -> Path:
    save_simulation(tmp_path / request.param, tree())
    return tmp_path / request.param


def test_a_simulation_comes_back_as_it_was(path):
    loaded = load_simulation(path)
    xr.testing.assert_identical(loaded, tree())
    assert loaded["species"]["abundance"].sel(lane="ΔccpN", time=5.0).item() == 1e-300
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_no_texts_at_all_come_back_as_none(path):
    none = tree().to_dataset().assign(along=("crossing", np.array([], dtype=object)))
    save_simulation(path, none)
    loaded = load_simulation(path).to_dataset()
    assert loaded["along"].dtype.kind in "UT"
    assert loaded.sizes["crossing"] == 0


def test_an_older_one_is_replaced(path):
    save_simulation(path, tree().isel(lane=[0]))
    assert load_simulation(path).sizes["lane"] == 1


def test_a_single_dataset_is_a_tree_of_one(path):
    save_simulation(path, tree().to_dataset())
    assert load_simulation(path).to_dataset().identical(tree().to_dataset())


def test_more_than_the_limit_is_refused(path):
    assert refusal(path, limit=10).codes == ("E_SIZE",)


def test_absent_and_misnamed_files_are_refused(path):
    assert refusal(path.with_name(f"other{path.suffix}")).codes == ("E_CKPT_MISSING",)
    for action in (load_simulation, lambda name: save_simulation(name, tree())):
        with pytest.raises(PinnsimError, match="E_USAGE"):
            action(path.with_suffix(".csv"))


@pytest.fixture
def zarr(tmp_path) -> Path:
    save_simulation(tmp_path / "course.zarr", tree())
    return tmp_path / "course.zarr"


def edited(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_lost_chunk_is_not_read_as_success(zarr):
    (zarr / "outcome" / "c" / "0").unlink()
    assert refusal(zarr).codes == ("E_CKPT_CORRUPT",)


def test_a_changed_name_is_refused(zarr):
    (zarr / "outcome").rename(zarr / "result")
    assert refusal(zarr).codes == ("E_CKPT_CORRUPT",)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"shape": [10**13]}, "E_SIZE", "8e+04 GB"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "E_CKPT_CORRUPT", "numcodecs.pickle"),
        ({"codecs": 3}, "E_CKPT_CORRUPT", "cannot be read"),
    ],
)
def test_declared_giants_and_foreign_coders_are_refused_before_reading(changes, code, words, zarr):
    edited(zarr / "outcome" / "zarr.json", **changes)
    error = refusal(zarr)
    assert error.codes == (code,)
    assert words in str(error)


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "data.zarr").mkdir()
    (tmp_path / "data.zarr" / "mine").write_text("x")
    with pytest.raises(PinnsimError, match="E_USAGE"):
        save_simulation(tmp_path / "data.zarr", tree())
    assert (tmp_path / "data.zarr" / "mine").exists()


def test_netcdf_with_links_giants_or_damage_is_refused(tmp_path):
    path = tmp_path / "course.nc"
    with h5py.File(path, "w") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    assert "is a link" in str(refusal(path))
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", shape=(10**6, 10**6), chunks=(100, 100), dtype="f8")
    assert refusal(path).codes == ("E_SIZE",)
    with h5py.File(path, "w") as file:
        file["itself"] = file["/"]
    assert refusal(path).codes == ("E_CKPT_CORRUPT",)
    with h5py.File(path, "w") as file:
        file["time"] = 0.0  # a dimension that has none: h5netcdf stumbles where HDF5 2.0 may overwrite its memory
        file["time"].make_scale("time")
    assert "index out of range" in str(refusal(path))
    path.write_bytes(b"CDF")
    assert refusal(path).codes == ("E_CKPT_CORRUPT",)


def test_netcdf_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PinnsimError, match="E_EXTRA_MISSING.*pip install h5netcdf"):
        save_simulation(tmp_path / "course.nc", tree())
    assert list(tmp_path.iterdir()) == []
