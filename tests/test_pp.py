"""Preparing AnnData objects: what is written, that nothing is guessed, that a failing step writes nothing."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from annotated_cells import activated_cells, edges, same

from pinnsim import annotated, pp, tl
from pinnsim.annotated import record
from pinnsim.annotated.cells import prior_of, snapshots_of
from pinnsim.data.blocks import columns, row_sums
from pinnsim.data.changing import changing
from pinnsim.errors import PinnsimError


def prepared(adata: anndata.AnnData, layer: str = "X") -> anndata.AnnData:
    pp.times(adata, time_key="hours", time_unit="h", condition_key="arm", treatments={"knockout": "src=0"})
    pp.size_factors(adata, column="depth", method="column")
    pp.select_genes(adata, edges(), layer=layer, min_cells=5)
    pp.half_lives(adata, column="half_life_h", unit="h", log_sd=0.7)
    return adata


@pytest.fixture(scope="module")
def ready() -> anndata.AnnData:
    return prepared(activated_cells(20))


def test_what_is_attached(ready: anndata.AnnData) -> None:
    assert ready.obs["pinnsim_time"].tolist() == ready.obs["hours"].tolist()
    assert ready.obs["pinnsim_condition"].astype(str).tolist() == ready.obs["arm"].tolist()
    np.testing.assert_allclose(ready.obs["pinnsim_size_factor"], ready.obs["depth"] / ready.obs["depth"].mean())
    assert ready.var["pinnsim_selected"].tolist() == [True, True, False, False]
    assert ready.var["pinnsim_in_network"].tolist() == [True, True, False, True]
    assert ready.var["pinnsim_cells"].tolist()[2:] == [200, 0]
    # The house-keeping gene has the same law at all times: its ratio is what chance gives.
    ratio, chance = ready.var["pinnsim_change"], ready.uns["pinnsim_genes"]["expected_change"]
    assert ratio["src"] > 0.5
    assert ratio["housekeeping"] < 4 * chance
    assert ratio["silent"] == 0
    network = record.network_of(ready.uns["pinnsim_network"])
    assert network.edges == ("src->dst",)
    prior = prior_of(ready, ["src", "dst"], "min")
    np.testing.assert_allclose(prior.rate.median, np.log(2) / (60 * np.array([0.8, 3.0])))
    np.testing.assert_allclose(prior.rate.log_sd, 0.7)
    cells = snapshots_of(ready, {"unspliced": "unspliced", "spliced": "spliced"}, "counts", ["dst", "src"])
    assert cells.cells().tolist() == [[20] * 5] * 2
    assert [str(t) for t in cells.treatments] in (["none", "src=0"], ["src=0", "none"])
    one = (ready.obs["arm"] == "control").to_numpy() & (ready.obs["hours"] == 8.0).to_numpy()
    wanted = ready.layers["spliced"][one][:, [1, 0]].mean(axis=0)
    got = cells.values[cells.conditions.index("control"), 4, :20, 1].mean(axis=0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "int64", "float64"])
@pytest.mark.parametrize("sparse", [False, True])
def test_tables_of_every_kind_give_the_same(kind: str, sparse: bool, ready: anndata.AnnData) -> None:
    adata = prepared(activated_cells(20, sparse=sparse, kind=kind))
    for name in ("pinnsim_change", "pinnsim_half_life", "pinnsim_cells"):
        np.testing.assert_allclose(adata.var[name], ready.var[name], rtol=1e-5)
    total = pp.size_factors(adata, layers=["spliced", "unspliced"], copy=True).obs["pinnsim_size_factor"]
    counts = np.asarray((adata.layers["spliced"] + adata.layers["unspliced"]).sum(axis=1), dtype=float).ravel()
    np.testing.assert_allclose(total, counts / counts.mean(), rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_objects_left_on_the_disk(sparse: bool, ready: anndata.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    activated_cells(20, sparse=sparse).write_h5ad(path)
    adata = anndata.read_h5ad(path, backed="r")
    prepared(adata)
    np.testing.assert_allclose(adata.var["pinnsim_change"], ready.var["pinnsim_change"], rtol=1e-5)
    got = snapshots_of(adata, {"mrna": "X"}, "counts", ["src", "dst"])
    np.testing.assert_array_equal(got.values, snapshots_of(ready, {"mrna": "X"}, "counts", ["src", "dst"]).values)
    with pytest.raises(PinnsimError, match=r"E_USAGE.*to_memory"):
        pp.size_factors(adata, method="none", copy=True)
    adata.file.close()


def test_texts_of_every_kind_of_pandas(ready: anndata.AnnData) -> None:
    for kind in ("category", "string", object):
        adata = activated_cells(20)
        adata.obs["arm"] = adata.obs["arm"].astype(kind)
        prepared(adata)
        assert adata.obs["pinnsim_condition"].astype(str).tolist() == ready.obs["arm"].tolist()
        assert same(adata.uns["pinnsim_times"], ready.uns["pinnsim_times"])
    adata.obs["hours"] = adata.obs["hours"].astype("category")  # numbers in a column of categories are numbers
    pp.times(adata, time_key="hours", time_unit="h")
    assert adata.obs["pinnsim_time"].dtype == float


def test_in_place_returns_nothing_and_a_copy_leaves_the_object_alone() -> None:
    adata = activated_cells(6)
    before = (list(adata.obs), list(adata.var), list(adata.uns))
    new = pp.times(adata, time_key="hours", time_unit="h", copy=True)
    assert (list(adata.obs), list(adata.var), list(adata.uns)) == before
    assert "pinnsim_time" in new.obs
    assert pp.times(adata, time_key="hours", time_unit="h") is None
    assert same(adata.uns["pinnsim_times"], new.uns["pinnsim_times"])
    part = new[:10].copy()
    assert pp.size_factors(part, method="none") is None
    assert part.obs["pinnsim_size_factor"].tolist() == [1.0] * 10


def test_a_round_trip_keeps_everything(ready: anndata.AnnData, tmp_path: Path) -> None:
    annotated.write_results(ready, tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert same(dict(ready.uns), dict(back.uns))
    for name in ("obs", "var"):
        for column in getattr(ready, name):
            one, other = getattr(ready, name)[column], getattr(back, name)[column]
            assert same(one.to_numpy(), other.to_numpy()), column
    assert record.network_of(back.uns["pinnsim_network"]).edges == ("src->dst",)
    assert prior_of(back, ["src"], "h").source == prior_of(ready, ["src"], "h").source


def codes(call) -> set[str]:
    with pytest.raises(PinnsimError) as caught:
        call()
    return set(caught.value.codes)


def test_all_problems_of_a_call_are_told_at_once_and_nothing_is_written() -> None:
    adata = activated_cells(6)
    adata.obs["bad"] = ["24h"] * adata.n_obs
    adata.obs["gap"] = np.where(np.arange(adata.n_obs) == 3, np.nan, 1.0)
    adata.obs["zero"] = np.where(np.arange(adata.n_obs) == 2, 0.0, 1.0)
    before = (list(adata.obs), list(adata.var), list(adata.uns))
    told = codes(lambda: pp.times(adata, time_key="hour", time_unit="parsec", condition_key="arms"))
    assert told == {"E_COLUMN_MISSING", "E_TIME_UNIT"}
    adata.obs["text"] = pd.Categorical(["24"] * adata.n_obs)
    with pytest.raises(
        PinnsimError, match=r"holds '24', which are text: .astype\(float\) makes them numbers; give plain"
    ):
        pp.times(adata, time_key="text", time_unit="h")
    with pytest.raises(PinnsimError, match=r"holds '24h'; give plain numbers and the unit"):
        pp.times(adata, time_key="bad", time_unit="h")
    del adata.obs["text"]
    with pytest.raises(PinnsimError, match=r"did you mean 'hours'\?(.|\n)*did you mean 'arm'"):
        pp.times(adata, time_key="hour", time_unit="h", condition_key="arms")
    assert codes(lambda: pp.times(adata, time_key="bad", time_unit="h")) == {"E_TIME_UNIT"}
    assert codes(lambda: pp.times(adata, time_key="gap", time_unit="h")) == {"E_DATA_NONFINITE"}
    acts = {"mock": "src=0", "knockout": "src=,"}
    told = codes(lambda: pp.times(adata, time_key="hours", time_unit="h", condition_key="arm", treatments=acts))
    assert told == {"E_CONDITION_UNKNOWN", "E_PERTURB_TEXT"}
    assert codes(lambda: pp.size_factors(adata)) == {"E_USAGE"}
    assert codes(lambda: pp.size_factors(adata, layers=["counts"])) == {"E_LAYER_MISSING"}
    assert codes(lambda: pp.size_factors(adata, layers=["X"], method="none")) == {"E_USAGE"}
    assert codes(lambda: pp.size_factors(adata, column="zero", method="column")) == {"E_DATA_EMPTY"}
    told = codes(lambda: pp.select_genes(adata, edges(), layer="counts", top=0, keep=["nobody"]))
    assert told == {"E_COLUMN_MISSING", "E_LAYER_MISSING", "E_USAGE", "E_GENE_UNMATCHED"}
    with pytest.raises(PinnsimError, match=r"run pinnsim\.pp\.times first(.|\n)*run pinnsim\.pp\.size_factors first"):
        pp.select_genes(adata, edges(), layer="X")
    assert codes(lambda: pp.half_lives(adata, unit="h")) == {"E_COLUMN_MISSING"}
    assert (list(adata.obs), list(adata.var), list(adata.uns)) == before


def test_what_may_not_be_assumed_of_genes(ready: anndata.AnnData) -> None:
    adata = ready.copy()
    strange = pd.DataFrame({"tf": ["ENSG1"], "target": ["ENSG2"], "sign": [1]})
    assert codes(lambda: pp.select_genes(adata, strange, layer="X")) == {"E_GENE_UNMATCHED"}
    assert codes(lambda: pp.select_genes(adata, edges(), layer="X", min_cells=10_000)) == {"E_DATA_EMPTY"}
    pp.select_genes(adata, edges(), layer="X", min_cells=5, top=1, keep=["silent"])
    assert adata.var["pinnsim_selected"].tolist() == [True, False, False, True]
    network = record.network_of(adata.uns["pinnsim_network"])
    assert (network.edges, network.hidden) == (("ghost->silent",), ("ghost",))
    assert codes(lambda: pp.half_lives(adata, column="half_life_h", unit="h")) == {"E_PRIOR_MISSING"}
    pp.half_lives(adata, column="half_life_h", unit="h", organism="human")
    assert adata.var["pinnsim_half_life"].tolist()[0] == pytest.approx(0.8)
    assert adata.var["pinnsim_half_life_source"].iloc[3].startswith("typical: human")
    # A unit that the table states goes before the one that is asked for.
    table = pd.DataFrame({"gene": ["src", "silent"], "half_life_min": [48.0, 60.0]})
    pp.half_lives(adata, table, unit="h")
    np.testing.assert_allclose(adata.var["pinnsim_half_life"].iloc[[0, 3]], [0.8, 1.0])
    twice = ready.copy()
    twice.var_names = ["a", "a", "b", "c"]
    assert codes(lambda: pp.times(twice, time_key="hours", time_unit="h")) == {"E_GENE_DUPLICATE"}


def test_other_objects_and_a_missing_package(monkeypatch) -> None:
    with pytest.raises(PinnsimError, match=r"E_USAGE.*read_h5ad"):
        pp.times("cells.h5ad", time_key="hours", time_unit="h")
    adata = activated_cells(6)
    monkeypatch.setitem(sys.modules, "anndata", None)
    for step in (
        lambda: pp.size_factors(adata, method="none"),
        lambda: tl.landscape(adata),
        lambda: annotated.tables(adata),
    ):
        with pytest.raises(PinnsimError, match=r"^E_EXTRA_MISSING: .*pip install anndata\.$"):
            step()


def test_the_correlation_ratio_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(2)
    times, arms = np.repeat([0.0, 1.0, 0.0, 2.0, 3.0], 9), np.repeat(["a", "b"], [18, 27])
    table = rng.poisson(3.0 + 2.0 * times[:, None] * np.array([0.0, 1.0, 3.0]), (45, 3))
    exposure = rng.uniform(0.5, 2.0, 45)
    logs = np.log1p(table / exposure[:, None])
    between, total = np.zeros(3), np.zeros(3)
    for arm in "ab":
        mean = logs[arms == arm].mean(axis=0)
        total += ((logs[arms == arm] - mean) ** 2).sum(axis=0)
        for time in np.unique(times[arms == arm]):
            here = (arms == arm) & (times == time)
            between += here.sum() * (logs[here].mean(axis=0) - mean) ** 2
    for rows in (7, 4096):
        for given in (table, scipy.sparse.csc_matrix(table)):
            found = changing(given, times, arms, exposure, rows)
            np.testing.assert_allclose(found.ratio, between / total, rtol=1e-10)
    assert found.expected == pytest.approx(3 / 43)
    np.testing.assert_array_equal(row_sums(scipy.sparse.csr_matrix(table), 7), table.sum(axis=1))
    np.testing.assert_array_equal(columns(scipy.sparse.csr_matrix(table), np.array([2, 0]), 7), table[:, [2, 0]])
