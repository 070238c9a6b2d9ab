"""`pinnsim simulate` by every method: options that fit it or are refused, what is written, said and reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from command_line import call, listing

from pinnsim import shelf
from pinnsim.cli import courses as told
from pinnsim.cli.methods import SAMPLED, Method, Settings
from pinnsim.errors import Problems
from pinnsim.formats.simulation import load_simulation
from pinnsim.parameter import resolve
from pinnsim.simulate import SSA, simulate
from pinnsim.treatment import NONE, resolve_lanes
from pinnsim.tree import lane

LINE = ("simulate", "toggle_switch", "--times", "0,1,2")
NUMBERS = {"--method": "ssa", "--size": "10", "--cells": "4", "--seed": "7"}


def flat(options: dict[str, str]) -> list[str]:
    return [part for pair in options.items() for part in pair]


# Options


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"--method": "ssa"}, ["needs --size OMEGA"]),
        ({"--method": "linear-noise"}, ["needs --size OMEGA"]),
        ({"--size": "10"}, ["--size is unsuitable for --method auto"]),
        ({"--method": "tsit5", "--cells": "9", "--seed": "1"}, ["--cells is unsuitable", "--seed is unsuitable"]),
        ({"--method": "linear-noise", "--size": "9", "--cells": "9"}, ["--cells is unsuitable"]),
        ({**NUMBERS, "--dt": "0.1"}, ["--dt is unsuitable for --method ssa"]),
        ({**NUMBERS, "--rtol": "1e-3"}, ["--rtol is unsuitable for --method ssa"]),
        ({**NUMBERS, "--size": "-1", "--cells": "0", "--seed": "-1"}, ["--size -1", "--cells 0", "--seed -1"]),
        ({"--method": "langevin", "--size": "inf", "--dt": "nan"}, ["--size inf", "--dt nan"]),
    ],
)
def test_options_that_do_not_fit_the_method_are_refused_together_before_any_work(tmp_path, options, parts):
    called = call(*LINE, *flat(options), "--out", tmp_path / "x.zarr")
    assert called.status == 2
    lines = called.err.splitlines()
    assert all(line.startswith("E_USAGE") for line in lines)
    assert [sum(part in line for line in lines) for part in parts] == [1] * len(parts)
    assert len(lines) == len(parts)
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("method", list(Method))
def test_every_method_accepts_its_own_options(method):
    counting, sampled = method in (Method.LINEAR_NOISE, *SAMPLED), method in SAMPLED
    with Problems() as problems:
        Settings(method, *((50.0,) if counting else (None,)), *((9, 3) if sampled else (None, None))).check(problems)
    full = Settings(method, 50.0 if counting else None).completed(shelf.load("toggle_switch").models)
    assert (full.cells, full.seed) == ((100, 0) if sampled else (None, None))
    assert full.rtol == (None if sampled else 1e-6)
    assert (full.dt is None) == (method != Method.LANGEVIN)


def test_the_step_is_a_tenth_of_the_fastest_time_constant():
    models = shelf.load("toggle_switch").models
    full = Settings(Method.LANGEVIN, 10.0).completed(models)
    kinetics, untreated = resolve(models[0].kinetics), lane(resolve_lanes([NONE], models[0].table), 0)
    jacobian = jax.jacfwd(lambda x: kinetics.vector_field(jnp.zeros(()), x, untreated))(kinetics.default_state())
    # Two digits, and power iteration that stops after a few rounds.
    assert full.dt == pytest.approx(0.1 / np.abs(np.linalg.eigvals(jacobian)).max(), rel=0.15)


# Results


def test_sampled_cells_are_those_of_simulate_with_their_seed_and_settings_noted(tmp_path):
    out = tmp_path / "cells.zarr"
    called = call(*LINE, *flat(NUMBERS), "-t", "none", "-t", "u=0@1:", "--out", out)
    assert called.status == 0, called.err
    for part in ("4 of 4 cells done", "largest changes of the mean", "sd of cells", "against the first lane"):
        assert part in called.out
    tree = load_simulation(out)
    abundance = tree["/species/abundance"]
    assert abundance.dims == ("lane", "cell", "time", "species")
    assert abundance.attrs["units"] == "relative abundance"
    noted = {"method": "ssa", "size": 10, "cells": 4, "seed": 7}
    assert {name: tree.attrs[name] for name in noted} == noted
    assert not {"rtol", "dt"} & set(tree.attrs)
    model, key = shelf.load("toggle_switch").models[0], jax.random.key(7)
    direct = simulate(model, [0.0, 1.0, 2.0], ["none", "u=0@1:"], method=SSA(10.0), key=key, cells=4)
    np.testing.assert_array_equal(abundance.values, direct.states)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_the_report_shows_cells_and_moments_beside_rate_equations(tmp_path, suffix):
    options = {
        "langevin": {"--size": "50", "--cells": "5", "--dt": "0.1"},
        "tau-leaping": {"--size": "50", "--cells": "5"},
        "linear-noise": {"--size": "50"},
        "auto": {},
    }
    for method, given in options.items():
        line = (*LINE, "--method", method, *flat(given), "-t", "hold(u)=9@0:1", "--members", "all")
        called = call(*line, "--out", tmp_path / f"{method}{suffix}")
        assert called.status == 0, called.err
        assert ("Fano" in called.out) == (method == "linear-noise")
    tree = load_simulation(tmp_path / f"linear-noise{suffix}")
    assert tree["/moments/covariance"].dims == ("member", "lane", "time", "species", "other")
    assert tree["/moments/covariance"].attrs["units"] == "relative abundance squared"
    assert load_simulation(tmp_path / f"langevin{suffix}").attrs["dt"] == 0.1
    assert call("report", tmp_path).status == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == len(options)
    for part in ("5 of 5 cells: reached", "bands hold 90 % of the cells", "Fano factors", "range of an ensemble"):
        assert part in text


def test_linear_noise_says_where_it_may_mislead(tmp_path):
    line = ("simulate", "toggle_switch", "--times", "0,20", "--method", "linear-noise", "--size", "10")
    called = call(*line, "--out", tmp_path / "x.zarr")  # rest is the saddle, from which cells part
    assert called.status == 0
    assert "linear noise may mislead" in called.err


def test_failed_cells_are_named_counted_and_left_out_of_bands(tmp_path, monkeypatch):
    monkeypatch.setattr("pinnsim.cli.simulate.counting", lambda settings: SSA(settings.size, max_events=180))
    line = ("simulate", "toggle_switch", "--times", "0,2", *flat(NUMBERS | {"--cells": "40"}))
    refused = call(*line, "--out", tmp_path / "x.zarr")
    assert refused.status == 4
    assert "of 40 cells of lane 'none' ended early" in refused.err
    # What the command line can do, not Python.
    assert "lower --size" in refused.err
    assert "max_" not in refused.err
    assert listing(tmp_path) == set()
    assert call(*line, "--out", tmp_path / "x.zarr", "--keep-failed").status == 4
    found = told.read_courses(load_simulation(tmp_path / "x.zarr"))
    failed = int((found.outcomes != 0).sum())
    assert 0 < failed < 40
    assert all(np.isfinite(edge).all() for edge in told.bands(found))
    assert call("report", tmp_path).status == 0
    assert f"{failed} of 40 cells: ran out of steps" in (tmp_path / "report.html").read_text(encoding="utf-8")


def crowd(values: np.ndarray, kind: str = "cells", spread: np.ndarray | None = None) -> told.Courses:
    times, outcomes = xr.DataArray(np.arange(values.shape[3])), np.zeros(values.shape[:3])
    return told.Courses(kind, ["a"], ["none"], times, "abundance", values, outcomes, spread, None)


def test_bands_hold_90_percent_of_cells():
    cells = np.random.default_rng(0).normal(10.0, 2.0, (2, 1, 20000, 1, 1))
    expected = [10.0, 10.0 - 1.645 * 2, 10.0 + 1.645 * 2]
    # 40000 cells: a percentile is known to about 0.02.
    assert np.ravel(told.bands(crowd(cells))) == pytest.approx(expected, abs=0.08)
    mean = np.array([9.0, 11.0]).reshape(2, 1, 1, 1, 1)
    spread = np.full((2, 1, 1, 1), np.sqrt(3.0))  # with the variance of means, 1, the variance is 4
    assert np.ravel(told.bands(crowd(mean, kind="moments", spread=spread))) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(told.bands(crowd(np.full((1, 1, 3, 2, 1), np.nan)))).all()
