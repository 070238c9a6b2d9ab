"""Weighted ensembles against exact first-passage times, down to rates that no plain simulation would see."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim.dynamics.textbook import double_well
from pinnsim.errors import PinnsimError
from pinnsim.landscape.first_passage import line
from pinnsim.landscape.noise import additive
from pinnsim.landscape.rare_events import Coordinate, _ensemble, weighted_ensemble

EDGES = np.linspace(-1.0, 0.5, 31)
ALONG = Coordinate(jnp.array([1.0]))


def test_rates_from_common_to_one_in_a_hundred_million():
    well, before = double_well(), _ensemble._cached._cache_size()
    for noise, rough in ((0.1, 0.015), (0.0146, 1e-8)):
        exact = 1.0 / line(well, additive(noise, 1), (-2.5, 2.5)).exit_time(-1.0, 0.5)
        assert 0.3 < exact / rough < 3
        found = weighted_ensemble(
            well, additive(noise, 1), [-1.0], ALONG, EDGES, dt=0.01, interval=10, rounds=600, walkers=8
        )
        # Steps of 0.01 move the rate itself by about 1 %.
        assert 0.98 * found.low < exact < 1.02 * found.high
        assert (found.high - found.low) / found.rate < 1.2
        assert found.replicates.shape == (8,)
        assert found.course.shape == (600,)
    assert _ensemble._cached._cache_size() == before + 1


def test_what_cannot_arrive_is_refused():
    well, noise = double_well(), additive(0.1, 1)
    with pytest.raises(PinnsimError, match="increasing"):
        weighted_ensemble(well, noise, [-1.0], ALONG, EDGES[::-1], dt=0.01)
    with pytest.raises(PinnsimError, match="arrived already"):
        weighted_ensemble(well, noise, [1.0], ALONG, EDGES, dt=0.01)
    with pytest.raises(PinnsimError, match="2 or more `replicates`"):
        weighted_ensemble(well, noise, [-1.0], ALONG, EDGES, dt=0.01, replicates=1)
    with pytest.raises(PinnsimError, match="E_SOLVER.*No walker arrived"):
        weighted_ensemble(well, noise, [-1.0], ALONG, [-0.9, 5.0], dt=0.01, interval=2, rounds=3, walkers=1)
