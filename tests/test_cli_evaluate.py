"""A fit that left a condition out: scored on it, asked what to measure next, exported to every format, as JSON."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from command_line import PROJECT, call, listing, write_project

from pinnsim import annotated
from pinnsim.cli.fit import with_attention
from pinnsim.formats.bundle import load_model
from pinnsim.formats.simulation import load_simulation
from pinnsim.project import load_project
from pinnsim.store import encode_tree

ATTENTION = PROJECT.replace("[model.readout]", '[model.residual]\nkind = "attention"\nwidth = 4\n[model.readout]')
THREE = PROJECT.replace("[network]", 'mid = "signal(sugar)=1@0:"\n[network]')


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A fit of `up` and `down`, as in test_cli (whose compiled programs it shares), of data that have `mid` too."""
    config = write_project(tmp_path_factory.mktemp("held"), THREE)
    rows = pd.read_csv(config.parent / "readings.csv")
    middle = rows[rows["medium"] == "up"].assign(medium="mid", value=lambda frame: 1.5 + 0.5 * frame["value"])
    pd.concat([rows, middle]).to_csv(config.parent / "readings.csv", index=False)
    called = call("fit", config, "--out", config.parent / "fitted", "--without", "mid", "--json", "--no-progress")
    assert called.status == 0, called.err
    (config.parent / "fit.out").write_text(called.out, encoding="utf-8")
    (config.parent / "fit.err").write_text(called.err, encoding="utf-8")
    return config.parent / "fitted"


def test_a_fit_speaks_json_alone_on_stdout_and_to_people_on_stderr(fitted):
    found = json.loads((fitted.parent / "fit.out").read_text(encoding="utf-8"))
    assert found["data"]["conditions"].keys() == {"up", "down"}
    assert [row["outcome"] for row in found["starts"]] == ["done", "done"]
    assert "Terms of the best start's objective" in (fitted.parent / "fit.err").read_text(encoding="utf-8")


def test_attention_is_joined_to_the_edges_by_their_names():
    edges = pd.DataFrame({"source": ["b", "a"], "target": ["c", "b"], "strength": [-2.0, 1.0], "rank": [1, 2]})
    parts = {"attention": [0.3, 0.6], "contribution": [0.1, -0.2], "sign": [1.0, -1.0]}
    found = with_attention(edges, pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"], **parts}))
    assert found["attention"].tolist() == [0.6, 0.3]  # in the order of the ranks
    assert found["contribution"].tolist() == [-0.2, 0.1]
    assert "sign" not in found


@pytest.mark.parametrize("kind", ["attention", "low_rank"])
def test_a_project_with_a_newer_residual_is_checked(kind, tmp_path):
    path = write_project(tmp_path, ATTENTION.replace('kind = "attention"\nwidth = 4', f'kind = "{kind}"'))
    assert call("check", path).status == 0
    wrong = ATTENTION.replace('kind = "attention"', 'kind = "atention"')
    refused = call("check", write_project(tmp_path, wrong))
    assert (refused.status, "E_CONFIG_VALUE" in refused.err) == (2, True)


def test_a_held_out_condition_is_scored_beside_baselines_and_controls(fitted):
    called = call("evaluate", fitted, fitted.parent / "project.toml", "--shuffles", "3", "--json")
    assert called.status == 0, called.err
    found = json.loads(called.out)
    assert (found["fitted"], found["predicted"]) == (["up", "down"], ["mid"])
    kinds = {row["name"]: row["kind"] for row in found["rows"]}
    assert {kinds["pinnsim"], kinds["prior only"], kinds["shuffled genes"]} == {"model", "control"}
    assert kinds["persistence"] == "baseline"
    assert json.loads((fitted / "evaluation.json").read_text())["rows"] == found["rows"]
    # Persistence by hand: the first sample of `mid`, held.
    dataset = load_project(fitted.parent / "project.toml").dataset.select(conditions=["mid"])
    values = dataset.values[0, 0]
    row = next(row for row in found["rows"] if row["name"] == "persistence")
    assert row["rmse"] == pytest.approx(float(np.sqrt(((values[1:] - values[:1]) ** 2).mean())))
    assert (fitted / "evaluation_bars.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_fitted_is_not_evaluated(fitted, tmp_path):
    config = fitted.parent / "project.toml"
    leak = call("evaluate", fitted, config, "--condition", "up", "--condition", "mdi", "--out", tmp_path / "x")
    assert leak.status == 2
    assert {"E_SPLIT_LEAK", "E_CONDITION_UNKNOWN"} == {line.partition(":")[0] for line in leak.err.splitlines()}
    assert "did you mean 'mid'" in leak.err
    assert listing(tmp_path) == set()
    assert "give the folder above" in call("evaluate", fitted / "model", config).err


def test_data_that_changed_since_the_fit_are_noticed(fitted, tmp_path):
    # A copy of the project that names other readings.
    text = (fitted / "project.toml").read_text(encoding="utf-8").replace("../readings.csv", "other.csv")
    other = tmp_path / "fitted"
    other.mkdir()
    readings = pd.read_csv(fitted.parent / "readings.csv")
    readings["value"] += 0.1
    readings.to_csv(other / "other.csv", index=False)
    for name in ("network.csv", "half_lives.csv"):
        (tmp_path / name).write_bytes((fitted.parent / name).read_bytes())
    (other / "project.toml").write_text(text, encoding="utf-8")
    (other / "model").symlink_to(fitted / "model")
    called = call("evaluate", other, fitted.parent / "project.toml")
    assert (called.status, called.err.partition(":")[0]) == (3, "E_CKPT_MODEL")


def test_the_next_experiment_is_ranked_and_chosen(fitted, tmp_path):
    line = ("design", fitted, "-t", "gA=0@0:", "-t", "none", "--times", "0,5,10", "--readout", "gB", "--no-progress")
    called = call(*line, "--readout", "gB,gC", "--batch", "2", "--price", "10,1,0.5", "--json", "--out", tmp_path)
    assert called.status == 0, called.err
    found = json.loads(called.out)
    assert found["candidates"] == 4
    gains = [row["gain"] for row in found["ranking"]]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0
    assert {row["cost"] for row in found["ranking"]} == {10 + 3 * (1 + 0.5), 10 + 3 * (1 + 2 * 0.5)}
    assert len(found["batch"]) == 2
    assert len(pd.read_csv(tmp_path / "design.csv")) == 4
    assert (tmp_path / "design.png").exists()
    refused = call("design", fitted, "--readout", "gX", "--price", "1,2", "--times", "a")
    assert refused.status == 2
    assert refused.err.count("E_USAGE") == 2


def test_a_fit_goes_to_every_format_with_its_model(fitted, tmp_path):
    for name in ("a.h5ad", "a.nc", "a.zarr", "a.csv", "tables"):
        called = call("export", fitted, tmp_path / name)
        assert called.status == 0, called.err
    dataset = load_project(fitted / "project.toml").dataset
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(adata.X, dataset.values[:, 0].reshape(-1, 3))
    assert adata.obs["time"].tolist() == dataset.times.ravel().tolist()
    assert set(adata.obs["condition"]) == {"up", "down"}
    kept = annotated.fitted(adata, "pinnsim_fit")
    assert encode_tree(kept.model) == encode_tree(load_model(fitted / "model").model)
    tree, tidy = load_simulation(tmp_path / "a.nc"), pd.read_csv(tmp_path / "a.csv")
    shown = tree["/readings/fitted"]
    assert shown.dims == ("member", "culture", "sample", "gene")
    assert tidy["fitted"].tolist() == pytest.approx(shown.values.ravel().tolist())
    np.testing.assert_allclose(adata.layers["pinnsim_fitted"], shown.values.mean(axis=0).reshape(-1, 3), rtol=1e-12)
    exact = {"float_precision": "round_trip"}
    rates = pd.read_csv(fitted / "rates.csv", **exact)
    assert pd.read_csv(tmp_path / "tables" / "rates.csv", **exact)["estimate"].tolist() == rates["estimate"].tolist()
    assert load_simulation(tmp_path / "a.zarr").identical(tree)


def test_a_simulation_is_exported_and_other_things_are_refused(tmp_path):
    out = tmp_path / "s.zarr"
    line = ("simulate", "toggle_switch", "--times", "0,2", "--perturb", "none", "--perturb", "u=0@1:", "--out", out)
    told = json.loads(call(*line, "--json").out)
    assert [lane["treatment"] for lane in told["lanes"]] == ["none", "u=0@1:"]
    assert call("export", out, tmp_path / "s.csv").status == 0
    frame, tree = pd.read_csv(tmp_path / "s.csv"), load_simulation(out)
    array = tree["/readout/reading"]
    picked = frame[(frame["lane"] == "u=0@1:") & (frame["gene"] == "u") & (frame["time"] == 2)]
    assert picked["reading"].item() == pytest.approx(float(array.sel(lane="u=0@1:", gene="u", time=2)))
    assert call("export", out, tmp_path / "s.h5ad").status == 0
    assert anndata.read_h5ad(tmp_path / "s.h5ad").shape == (4, array.sizes["gene"])
    before = listing(tmp_path)
    assert call("export", out, tmp_path / "s.txt").status == 2
    assert call("export", tmp_path / "nothing", tmp_path / "s.nc").status == 3
    assert call("export", tmp_path, tmp_path / "x.nc").status == 2
    assert listing(tmp_path) == before
