"""Means and covariances as a result: units, ratios by hand, failed lanes by name, and out to xarray."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim.errors import PinnsimError
from pinnsim.simulate import Outcome
from pinnsim.simulate.moments import Moments

SIZE = 20.0


@pytest.fixture
def moments() -> Moments:
    """Two lanes, the second failed; RNA and protein, one absent at first, and a hidden activity."""
    mean = np.array([[0.0, 2.0, -0.3], [5.0, 50.0, 0.4]])
    covariance = np.array([[[0.0, 0.0, 0], [0.0, 0.1, 0], [0, 0, 0]], [[0.25, 0.5, 0], [0.5, 7.5, 0], [0, 0, 0]]])
    return Moments(
        times=jnp.asarray([0.0, 1.0]),
        mean=jnp.asarray(np.stack([mean, np.full_like(mean, np.nan)])),
        covariance=jnp.asarray(np.stack([covariance, np.full_like(covariance, np.nan)])),
        outcome=jnp.asarray([Outcome.DONE, Outcome.NOT_STABLE]),
        reached=jnp.asarray([1.0, 0.0]),
        size=jnp.asarray(SIZE),
        lanes=("none", "g*9"),
        species=("g.mrna", "g.protein", "r.activity"),
        time_unit="h",
        stiffness=(1.0, 4.0),
    )


def test_ratios_by_hand(moments: Moments) -> None:
    np.testing.assert_allclose(moments.fano()[0], [[np.nan, SIZE * 0.05, np.nan], [SIZE * 0.05, SIZE * 0.15, np.nan]])
    np.testing.assert_allclose(moments.noise()[0, 1], [0.5 / 5.0, np.sqrt(7.5) / 50.0, np.nan])
    np.testing.assert_allclose(moments.variance()[0, 1], [0.25, 7.5, 0.0])
    np.testing.assert_allclose(moments.mean_of("g.protein")[0], [2.0, 50.0])
    np.testing.assert_allclose(moments.covariance_of("g.protein", "g.mrna")[0], [0.0, 0.5])
    together = moments.correlation()[0, 1]
    np.testing.assert_allclose(together[:2, :2], [[1.0, np.sqrt(2 / 15)], [np.sqrt(2 / 15), 1.0]])
    assert np.isnan(np.asarray(together)[2]).all()


def test_molecules_give_the_same_ratios(moments: Moments) -> None:
    mean, covariance = moments.molecules()
    np.testing.assert_allclose(mean[0, 1, :2], [100.0, 1000.0])
    variance = np.diagonal(np.asarray(covariance), axis1=-2, axis2=-1)
    np.testing.assert_allclose(variance[0, 1, :2] / np.asarray(mean)[0, 1, :2], moments.fano()[0, 1, :2])
    np.testing.assert_allclose(np.sqrt(variance[0, 1, :2]) / np.asarray(mean)[0, 1, :2], moments.noise()[0, 1, :2])


def test_failed_lanes_are_nan_and_named(moments: Moments) -> None:
    assert moments.done.tolist() == [True, False]
    for values in (moments.fano(), moments.noise(), moments.correlation()):
        assert np.isnan(np.asarray(values[1])).all()
    with pytest.raises(PinnsimError, match=r"lane 'g\*9' the steady state is not stable") as caught:
        moments.raise_failures()
    assert caught.value.codes == ("E_SOLVER",)


def test_a_result_without_failures_passes_through(moments: Moments) -> None:
    whole = Moments(**{**vars(moments), "outcome": jnp.zeros(2, int)})
    assert whole.raise_failures() is whole


def test_the_tree_has_names_and_units(moments: Moments) -> None:
    tree = moments.to_xarray()
    spread = tree["moments"]
    assert spread["covariance"].dims == ("lane", "time", "species", "other")
    assert spread["covariance"].sel(lane="none", time=1.0, species="g.mrna", other="g.protein").item() == 0.5
    assert spread["covariance"].attrs["units"] == "relative abundance squared"
    assert spread["fano"].sel(lane="none", time=1.0, species="g.protein").item() == pytest.approx(3.0)
    assert spread["noise"].sel(lane="none", time=1.0, species="g.mrna").item() == pytest.approx(0.1)
    assert list(spread["species"].values) == ["g.mrna", "g.protein"]
    assert tree["species"]["abundance"].sel(lane="none", time=1.0, species="g.mrna").item() == 5.0
    assert tree["hidden"]["log_activity"].sel(lane="none", time=1.0, species="r.activity").item() == 0.4
    assert tree["size"].item() == SIZE
    assert tree["size"].attrs["units"].startswith("molecules per")
    assert tree["moments"]["time"].attrs["units"] == "h"
    assert "4 the steady state is not stable" in tree["outcome"].attrs["meaning"]
