"""A fit that left a condition out: scored on it, asked what to measure next, exported to every format, as JSON."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from command_line import PROJECT, call, listing, write_project

from pinnsim import annotated
from pinnsim.formats.bundle import load_model
from pinnsim.formats.simulation import load_simulation
from pinnsim.project import load_project
from pinnsim.store import encode_tree

ATTENTION = PROJECT.replace("[model.readout]", '[model.residual]\nkind = "attention"\nwidth = 4\n[model.readout]')


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A fit of `up` alone with an attention residual, and what it printed for programs."""
    config = write_project(tmp_path_factory.mktemp("held"), ATTENTION)
    called = call(
        "fit", config, "--out", config.parent / "fitted", "--without", "down", "--starts", "1", "--json",
        "--no-progress",
    )  # fmt: skip
    assert called.status == 0, called.err
    (config.parent / "fit.out").write_text(called.out, encoding="utf-8")
    (config.parent / "fit.err").write_text(called.err, encoding="utf-8")
    return config.parent / "fitted"


def test_a_fit_speaks_json_alone_on_stdout_and_to_people_on_stderr(fitted):
    found = json.loads((fitted.parent / "fit.out").read_text(encoding="utf-8"))
    assert found["data"]["conditions"].keys() == {"up"}
    assert [row["outcome"] for row in found["starts"]] == ["done"]
    assert "Terms of the best start's objective" in (fitted.parent / "fit.err").read_text(encoding="utf-8")


def test_edges_of_an_attention_fit_say_what_it_made_of_each(fitted):
    edges = pd.read_csv(fitted / "edges.csv", keep_default_na=False)
    network = load_model(fitted / "model").network
    assert sorted(zip(edges["source"], edges["target"], strict=True)) == sorted(
        (network.regulators[s], network.genes[t]) for s, t in zip(network.source, network.target, strict=True)
    )
    # Joined by the names of the edge, whatever its rank; one sign column, that of the network.
    assert edges[["attention", "contribution"]].map(float).notna().all(axis=None)
    assert [name for name in edges if name.startswith("sign")] == ["sign"]
    assert edges["attention"].between(0, 1).all()


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
    assert (found["fitted"], found["predicted"]) == (["up"], ["down"])
    kinds = {row["name"]: row["kind"] for row in found["rows"]}
    assert {kinds["pinnsim"], kinds["prior only"], kinds["shuffled genes"]} == {"model", "control"}
    assert kinds["persistence"] == "baseline"
    assert json.loads((fitted / "evaluation.json").read_text())["rows"] == found["rows"]
    # Persistence by hand: the first sample of `down`, held.
    dataset = load_project(fitted.parent / "project.toml").dataset.select(conditions=["down"])
    values = dataset.values[0, 0]
    row = next(row for row in found["rows"] if row["name"] == "persistence")
    assert row["rmse"] == pytest.approx(float(np.sqrt(((values[1:] - values[:1]) ** 2).mean())))
    assert (fitted / "evaluation_bars.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_fitted_is_not_evaluated(fitted, tmp_path):
    config = fitted.parent / "project.toml"
    leak = call("evaluate", fitted, config, "--condition", "up", "--condition", "dwn", "--out", tmp_path / "x")
    assert leak.status == 2
    assert {"E_SPLIT_LEAK", "E_CONDITION_UNKNOWN"} == {line.partition(":")[0] for line in leak.err.splitlines()}
    assert "did you mean 'down'" in leak.err
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
    np.testing.assert_array_equal(adata.X, dataset.values[0, 0])
    assert adata.obs["time"].tolist() == dataset.times[0].tolist()
    assert set(adata.obs["condition"]) == {"up"}
    model = load_model(fitted / "model").model
    assert encode_tree(annotated.fitted(adata, "pinnsim_fit").model) == encode_tree(model)
    tree, tidy = load_simulation(tmp_path / "a.nc"), pd.read_csv(tmp_path / "a.csv")
    shown = tree["/readings/fitted"]
    assert shown.dims == ("member", "culture", "sample", "gene")
    assert tidy["fitted"].tolist() == pytest.approx(shown.values.ravel().tolist())
    np.testing.assert_allclose(adata.layers["pinnsim_fitted"], shown.values.mean(axis=(0, 1)), rtol=1e-12)
    rates = pd.read_csv(fitted / "rates.csv")
    assert pd.read_csv(tmp_path / "tables" / "rates.csv")["estimate"].tolist() == rates["estimate"].tolist()
    assert load_simulation(tmp_path / "a.zarr").identical(tree)


def test_a_simulation_is_exported_and_other_things_are_refused(tmp_path):
    out = tmp_path / "s.zarr"
    line = ("simulate", "toggle_switch", "--times", "0,2", "--perturb", "none", "--perturb", "u=0@1:", "--out", out)
    told = json.loads(call(*line, "--json").out)
    assert [lane["treatment"] for lane in told["lanes"]] == ["none", "u=0@1:"]
    assert call("export", out, tmp_path / "s.csv").status == 0
    frame, tree = pd.read_csv(tmp_path / "s.csv"), load_simulation(out)
    array = tree["/species/abundance"]
    picked = frame[(frame["lane"] == "u=0@1:") & (frame["species"] == "u.mrna") & (frame["time"] == 2)]
    assert picked["abundance"].item() == float(array.sel(lane="u=0@1:", species="u.mrna", time=2))
    assert call("export", out, tmp_path / "s.h5ad").status == 0
    assert anndata.read_h5ad(tmp_path / "s.h5ad").shape == (4, array.sizes["species"])
    before = listing(tmp_path)
    assert call("export", out, tmp_path / "s.txt").status == 2
    assert call("export", tmp_path / "nothing", tmp_path / "s.nc").status == 3
    assert call("export", tmp_path, tmp_path / "x.nc").status == 2
    assert listing(tmp_path) == before
