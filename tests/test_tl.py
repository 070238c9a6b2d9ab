"""Tools on AnnData objects, run by the code of docs/anndata.md, against truth: known rates, scipy's solutions and roots
of equations that were written down again."""

import contextlib
import re
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.optimize
import scipy.sparse
from annotated_cells import CAPTURE, DECAY, SIZE, TOGGLE, activated_cells, same, toggle_cells, toggle_force
from annotated_cells import toggle_parts as parts

import pinnsim
from pinnsim import annotated, pl, tl
from pinnsim.errors import PinnsimError
from pinnsim.formats.bundle import load_model, save_model
from pinnsim.formats.simulation import load_simulation
from pinnsim.landscape import chemical, nearest_cells, system_of, transitions
from pinnsim.tree import digest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "anndata.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
HOLD = {"layers": {"mrna": "X"}, "size": SIZE}


def run_block(text: str, known: dict[str, Any]) -> None:
    """Code of the page, as a reader would run it."""
    exec(compile(text, str(PAGE), "exec"), known)


def solved(force: Any, x: np.ndarray, hours: float) -> np.ndarray:
    return scipy.integrate.solve_ivp(lambda _, y: force(y), (0, hours), x, rtol=1e-9, atol=1e-11).y[:, -1]


@pytest.fixture(scope="module")
def toggle(tmp_path_factory: pytest.TempPathFactory) -> tuple[anndata.AnnData, np.ndarray]:
    """Cells of the toggle with the true model, and what the steps find for them."""
    folder = tmp_path_factory.mktemp("toggle") / "model"
    save_model(folder, *parts())
    adata, x = toggle_cells()
    tl.use_model(adata, folder, **HOLD)
    known = {"adata": adata, "tl": tl, "pinnsim": pinnsim}
    with contextlib.chdir(folder.parent):
        for block in BLOCKS[1:]:
            run_block(block, known)
    return adata, x


def test_valleys_are_the_roots_of_the_equations(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, x = toggle
    found = tl.attractors_of(adata.uns["pinnsim_landscape"])
    assert found.stability == ("stable", "stable", "saddle")
    roots = [scipy.optimize.fsolve(toggle_force, guess) for guess in ([1.8, 0.2], [0.2, 1.8], [0.9, 0.9])]
    order = np.argsort(found.states[:, 0] - found.states[:, 1])
    wanted = sorted(roots, key=lambda root: root[0] - root[1])
    np.testing.assert_allclose(found.states[order], wanted, rtol=1e-6)
    names = adata.obs["pinnsim_landscape_valley"].astype(str)
    for k in range(12):
        end = solved(toggle_force, x[k], 60.0)
        nearest = int(np.argmin(np.abs(found.states[:2] - end).sum(axis=1)))
        assert names.iloc[k] == found.names[nearest]
    assert set(names) == {"A1", "A2"}


def test_what_an_edit_does_to_every_cell(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, x = toggle
    change = adata.obsm["pinnsim_perturb_off"]
    assert list(change.columns) == ["src", "dst"]

    def without(y: np.ndarray) -> np.ndarray:
        return np.array([toggle_force(y)[0], -TOGGLE["decay"] * y[1]])

    for k in (0, 7, 119):
        wanted = np.log2(solved(without, x[k], 2.0)) - np.log2(solved(toggle_force, x[k], 2.0))
        np.testing.assert_allclose(change.iloc[k], wanted, atol=2e-3)
    np.testing.assert_allclose(adata.obs["pinnsim_perturb_off"], np.sqrt((change**2).mean(axis=1)))
    np.testing.assert_allclose(adata.uns["pinnsim_perturb"]["mean"][0], change.mean(axis=0))
    assert (adata.obsm["pinnsim_perturb_more"]["src"] > 0).all()


def test_courses_start_at_the_mean_cell(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, x = toggle
    kept = adata.uns["pinnsim_simulation"]
    begin = x[:60].mean(axis=0)
    np.testing.assert_allclose(kept["states"][0, 0, 0], begin, rtol=1e-8)
    np.testing.assert_allclose(kept["states"][0, 0, 2], solved(toggle_force, begin, 3.0), rtol=1e-3)
    np.testing.assert_allclose(kept["readings"], CAPTURE * kept["states"], rtol=1e-10)
    assert list(kept["lanes"]) == ["none", "dst=0"]


def test_fates_of_cells(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, _ = toggle
    share = adata.obsm["pinnsim_fate"]
    assert list(share.columns) == ["A1", "A2", "undecided", "failed"]
    np.testing.assert_allclose(share.iloc[:12].sum(axis=1), 1.0)
    assert share.iloc[12:].isna().to_numpy().all()
    # Noise of 200 molecules does not carry a cell from one valley to the other in two hours.
    own = adata.obs["pinnsim_landscape_valley"].astype(str).iloc[:12]
    assert np.mean([share[name].iloc[k] for k, name in enumerate(own)]) > 0.85
    table = adata.uns["pinnsim_fate"]["table"]
    assert table["runs"].sum() == 4 * 4 * 12
    assert ((table["low"] <= table["probability"] + 1e-12) & (table["probability"] <= table["high"] + 1e-12)).all()


def test_the_chain_on_cells(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, x = toggle
    matrix = adata.obsp["pinnsim_transition"]
    assert isinstance(matrix, scipy.sparse.csr_matrix)  # what CellRank takes: a matrix of SciPy, rows added up to 1e-12
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1.0, atol=1e-12)
    model = annotated.fitted(adata, "pinnsim_fit").models[0]
    noise = chemical(system_of(model), SIZE)
    wanted = transitions(model, x, nearest_cells(x, 20), 1.0, noise).matrix
    np.testing.assert_allclose(matrix.toarray(), wanted.toarray(), rtol=1e-6, atol=1e-12)
    adata.obsp["mine"] = nearest_cells(x, 5).astype(float)
    new = tl.transition_matrix(adata, step=1.0, neighbors="mine", key_added="pinnsim_chain", copy=True)
    assert "pinnsim_chain" not in adata.obsp
    assert new.obsp["pinnsim_chain"].nnz <= (adata.obsp["mine"] > 0).sum() + adata.n_obs


def test_a_round_trip_keeps_results_and_the_model(toggle: tuple[anndata.AnnData, np.ndarray], tmp_path: Path) -> None:
    adata, _ = toggle
    path = annotated.write_results(adata, tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(path)
    assert same(dict(adata.uns), dict(back.uns))
    one, other = (annotated.fitted(a, "pinnsim_fit") for a in (adata, back))
    assert digest(one.model) == digest(other.model)
    assert one.config == other.config
    for key in adata.obsm:
        pd.testing.assert_frame_equal(adata.obsm[key], back.obsm[key], check_names=False)
    for column in adata.obs:
        assert same(adata.obs[column].to_numpy(), back.obs[column].to_numpy()), column
    assert (adata.obsp["pinnsim_transition"] != back.obsp["pinnsim_transition"]).nnz == 0
    tl.landscape(back, starts=8, axes=("src", "dst"))
    assert same(back.uns["pinnsim_landscape"], adata.uns["pinnsim_landscape"])


def test_results_in_other_formats(toggle: tuple[anndata.AnnData, np.ndarray], tmp_path: Path) -> None:
    adata, _ = toggle
    for name in ("results.nc", "results.zarr"):
        tree = load_simulation(annotated.write_results(adata, tmp_path / name))
        course = tree["/simulation"]["states"]
        assert course.dims == ("member", "lane", "time", "species")
        assert course["time"].attrs["units"] == "h"
        np.testing.assert_array_equal(course.values, adata.uns["pinnsim_simulation"]["states"])
        np.testing.assert_array_equal(tree["/cells"]["pinnsim_fate:A1"], adata.obsm["pinnsim_fate"]["A1"])
    folder = annotated.write_results(adata, tmp_path / "tables")
    chain = pd.read_csv(folder / "transition.csv")
    np.testing.assert_allclose(chain.groupby("from")["probability"].sum(), 1.0)
    points = pd.read_csv(folder / "landscape_points.csv")
    np.testing.assert_allclose(points["src.mrna"], adata.uns["pinnsim_landscape"]["states"][:, 0])
    assert len(pd.read_csv(folder / "simulation.csv")) == 2 * 3 * 2
    with pytest.raises(PinnsimError, match=r"E_USAGE.*\.csv"):
        annotated.write_results(adata, tmp_path / "results.csv")


def test_pictures_of_a_landscape(toggle: tuple[anndata.AnnData, np.ndarray]) -> None:
    adata, x = toggle
    adata.obsm["X_plane"] = x
    for view in ("contour", "3d"):
        ax = pl.landscape(adata, view=view)
        assert "simulated" in ax.figure.get_suptitle() + "".join(t.get_text() for t in [ax.title, *ax.figure.texts]) + (
            ax.get_title(loc="left")
        )
    assert len(pl.simulation(adata)) == 2
    assert pl.perturb(adata).get_title(loc="left").startswith("Change in 2 h")
    assert [t.get_text() for t in pl.fate(adata).get_xticklabels()] == ["control, 0 h"]
    ax = pl.transitions(adata, basis="X_plane", color="pinnsim_landscape_valley")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("plane 1", "plane 2")
    for call in (
        lambda: pl.landscape(adata, view="above"),
        lambda: pl.transitions(adata, basis="X_umap"),
        lambda: pl.simulation(adata, ["nobody"]),
        lambda: pl.populations(adata, key="pinnsim_other"),
    ):
        with pytest.raises(PinnsimError):
            call()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[anndata.AnnData, Path]:
    """Cells with known rates, prepared and fitted by the page's own words."""
    folder, known = tmp_path_factory.mktemp("fit"), {}
    activated_cells(40).write_h5ad(folder / "cells.h5ad")
    with contextlib.chdir(folder):
        run_block(BLOCKS[0], known)
    return known["adata"], folder / "model"


def test_a_fit_finds_rates_and_beats_no_change(fitted: tuple[anndata.AnnData, Path]) -> None:
    adata, folder = fitted
    prior = np.log(2) / np.array([0.8, 3.0])
    found = adata.var["pinnsim_fit_decay"].to_numpy()[:2]
    gap, before = np.abs(np.log(found / DECAY)), np.abs(np.log(prior / DECAY))
    assert (gap < 0.25).all()
    assert (gap < before).all()
    assert np.isnan(adata.var["pinnsim_fit_decay"].to_numpy()[2:]).all()
    scores = adata.uns["pinnsim_fit"]["scores"]
    assert scores["rms_log1p_mean_model"] < 0.3 * scores["rms_log1p_mean_no_change"]
    kept = annotated.fitted(adata, "pinnsim_fit")
    assert digest(kept.model) == digest(load_model(folder).model)
    assert kept.data_digest
    assert adata.uns["pinnsim_fit"]["params"]["layers"] == {"mrna": "X"}
    shown = adata.uns["pinnsim_fit"]["populations"]
    here = (adata.obs["arm"] == "control").to_numpy() & (adata.obs["hours"] == 4.0).to_numpy()
    mean = (adata.X[here, 0] / adata.obs["pinnsim_size_factor"][here]).mean()
    arm = list(shown["conditions"]).index("control")
    np.testing.assert_allclose(shown["measured_mean"][arm, 3, 0, 0], mean, rtol=1e-5)
    assert len(pl.populations(adata)) == 2
    assert "simulated" in pl.genes(adata).get_title(loc="left")


def test_problems_of_tools_come_at_once_and_nothing_is_written(fitted: tuple[anndata.AnnData, Path]) -> None:
    adata, folder = fitted
    before = (list(adata.obs), list(adata.var), list(adata.uns), list(adata.obsm), list(adata.obsp))

    def codes(call: Any) -> set[str]:
        with pytest.raises(PinnsimError) as caught:
            call()
        return set(caught.value.codes)

    raw = activated_cells(6)
    told = codes(lambda: tl.fit(raw, layers={"mrna": "counts"}, scale="counts", size=-1.0, key_added="fit"))
    assert told == {"E_USAGE", "E_COLUMN_MISSING", "E_LAYER_MISSING"}
    assert not raw.uns
    config = load_model(folder).config.model_copy(update={"time_unit": "min"})
    assert codes(lambda: tl.fit(adata, **HOLD, scale="counts", config=config)) == {"E_TIME_UNIT"}
    assert codes(lambda: tl.fit(adata, layers={"rna": "X"}, scale="counts", size=1.0)) == {"E_CONFIG_VALUE"}
    assert codes(lambda: tl.simulate(adata, times=[0, 1], key="pinnsim_no")) == {"E_COLUMN_MISSING"}
    assert codes(lambda: tl.simulate(adata, times=[0, 1], start="mock")) == {"E_CONDITION_UNKNOWN"}
    told = codes(lambda: tl.perturb(adata, {"a/b": "dst=0"}, duration=0.0, key_added="mine"))
    assert told == {"E_USAGE"}
    acts = {"one": "nobody=0", "two": "dst=,"}
    assert codes(lambda: tl.perturb(adata, acts, duration=1.0)) == {"E_PERTURB_GENE", "E_PERTURB_TEXT"}
    told = codes(lambda: tl.landscape(adata, "dst=,", axes=("src", "dts")))
    assert told == {"E_GENE_UNKNOWN", "E_PERTURB_TEXT"}
    assert codes(lambda: tl.fate(adata, duration=1.0, settle=1.0, dt=0.1)) == {"E_COLUMN_MISSING"}
    told = codes(lambda: tl.transition_matrix(adata, step=-1.0, neighbors="graph"))
    assert told == {"E_USAGE", "E_COLUMN_MISSING"}
    told = codes(lambda: tl.use_model(raw[:, ["dst"]].copy(), folder, layers={"protein": "X"}, size=1.0))
    assert told == {"E_GENE_UNMATCHED"}
    raw.uns["pinnsim_times"] = {"time_unit": "min"}
    assert codes(lambda: tl.use_model(raw, folder, **HOLD)) == {"E_TIME_UNIT"}
    damaged = adata.copy()
    damaged.uns["pinnsim_fit"]["model"]["parameters"][-9] ^= 1
    assert codes(lambda: annotated.fitted(damaged, "pinnsim_fit")) == {"E_CKPT_CORRUPT"}
    assert (list(adata.obs), list(adata.var), list(adata.uns), list(adata.obsm), list(adata.obsp)) == before
