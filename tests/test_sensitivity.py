"""Global sensitivity: against the Ishigami function's exact indices, and a decay solved by hand."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from problems import prior_model
from systems import cascade

from pinnsim.design import sensitivity
from pinnsim.errors import PinnsimError
from pinnsim.prior import LogNormal

A, B = 7.0, 0.1


def ishigami(model):
    """T. Ishigami and T. Homma, ISUMA 1990: sin x1 + a sin^2 x2 + b x3^4 sin x1."""
    x = model["x"]
    return jnp.sin(x[0]) + A * jnp.sin(x[1]) ** 2 + B * x[2] ** 4 * jnp.sin(x[0])


BOX = {f"x[{k}]": (-np.pi, np.pi) for k in range(3)}


@pytest.fixture(scope="module")
def found():
    return sensitivity({"x": jnp.zeros(3)}, BOX, ishigami, samples=2048, batch=1000, progress=False)


def test_sobol_indices_of_the_ishigami_function(found):
    """First-order and total variances in closed form."""
    first = 0.5 * (1 + B * np.pi**4 / 5) ** 2
    second, mixed = A**2 / 8, B**2 * np.pi**8 * (1 / 18 - 1 / 50)
    whole = first + second + mixed
    table = found.table.set_index("parameter")
    exact = {"x[0]": (first, first + mixed), "x[1]": (second, second), "x[2]": (0.0, mixed)}
    for name, (alone, total) in exact.items():
        assert table.loc[name, "S1"] == pytest.approx(alone / whole, abs=0.03)
        assert table.loc[name, "ST"] == pytest.approx(total / whole, abs=0.03)
        assert table.loc[name, "ST_lo"] < total / whole < table.loc[name, "ST_hi"]
    assert found.samples.shape == (2048 * 5, 3)
    assert np.abs(found.samples).max() <= np.pi
    assert list(found.table["parameter"]) == ["x[0]", "x[1]", "x[2]"]


def end(model):
    """Amount of x at time 2 without supply, from 1: exp(-2 loss), and what the supply alone makes."""
    loss = model.loss[0]
    return jnp.stack([jnp.exp(-2.0 * loss), model.supply * 0.0 + loss])


def test_morris_ranks_and_keeps_signs():
    """Linear effects are their slopes; what is not there has none."""
    told = sensitivity(
        cascade(),
        {"loss[0]": (0.5, 1.5), "supply": (0.0, 1.0)},
        end,
        method="morris",
        samples=10,
        outputs=("left", "rate"),
        progress=False,
    ).table.set_index(["output", "parameter"])
    assert told.loc[("rate", "loss[0]"), "mu"] == pytest.approx(1.0, abs=1e-9)
    assert told.loc[("rate", "loss[0]"), "sigma"] == pytest.approx(0.0, abs=1e-9)
    assert told.loc[("left", "loss[0]"), "mu"] < 0 < told.loc[("left", "loss[0]"), "mu_star"]
    assert told.loc[("left", "supply"), "mu_star"] == 0.0


def log_level(model):
    """Of a gene at rest that nothing regulates: log synthesis - log decay."""
    return jnp.log(model.kinetics.synthesis[0]) - jnp.log(model.kinetics.decay[0])


def test_log_normal_rates_of_a_cell_model():
    """Variances of logarithms add, so that indices are shares of the log-variances, tails of 0.5 % left out alike."""
    model = prior_model("abundance", layers=("mrna",), regulation={"hidden": "none"}).center
    rates = {
        "synthesis:g0": LogNormal(jnp.asarray(1.0), jnp.asarray(0.3)),
        "decay:g0": LogNormal(jnp.asarray(0.2), jnp.asarray(0.6)),
    }
    told = sensitivity(model, rates, log_level, samples=512, progress=False).table.set_index("parameter")
    assert told.loc["decay:g0", "ST"] == pytest.approx(0.8, abs=0.02)
    assert told.loc["synthesis:g0", "S1"] == pytest.approx(0.2, abs=0.03)


def test_a_prior_varies_all_its_free_numbers():
    prior = prior_model("abundance", layers=("mrna",), regulation={"hidden": "none", "learn_hill": True})
    told = sensitivity(prior.center, prior, log_level, samples=16, progress=False)
    assert set(told.table["parameter"]) >= {"decay:g0", "decay:g1", "hill:g0->g1"}
    assert told.table["parameter"].iloc[0] == "decay:g0"
    assert told.table["ST"].iloc[0] == pytest.approx(1.0, abs=0.5)
    assert np.isfinite(told.samples).all()


def test_what_cannot_be_asked_is_named(monkeypatch):
    model = {"x": jnp.zeros(3)}
    with pytest.raises(PinnsimError) as caught:
        sensitivity(model, {"x[3]": (0, 1), "y": (0, 1), "x[0]": (1, 0)}, ishigami, samples=100, progress=False)
    assert caught.value.codes == ("E_USAGE",) * 4
    with pytest.raises(PinnsimError, match="E_SOLVER.*narrow"):
        sensitivity(model, {"x[0]": (-2.0, -1.0)}, lambda m: jnp.log(m["x"][0]), samples=4, progress=False)
    cell = prior_model("abundance", layers=("mrna",), regulation={"hidden": "none"}).center
    with pytest.raises(PinnsimError, match="leaves its bounds"):
        sensitivity(cell, {"decay:g0": (-1.0, 1.0)}, log_level, samples=4)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "SALib" else found(name))
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pinnsim\[sensitivity\]"):
        sensitivity(model, BOX, ishigami)
