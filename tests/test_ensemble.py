"""Many sampled cells as one value: moments, failures, labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of

from pinnsim.dynamics.motifs import birth_death
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Perturbation
from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.ssa import SSA
from pinnsim.treatment import Treatment

KEY = jax.random.key(8)


def made_up() -> Ensemble:
    """Two treatments of four cells; one cell of the second failed."""
    states = np.random.default_rng(0).exponential(size=(2, 4, 3, 2))
    outcome = np.zeros((2, 4), int)
    outcome[1, 2] = Outcome.MAX_STEPS
    states[1, 2] = np.nan
    return Ensemble(
        times=jnp.asarray([0.0, 1.0, 2.0]),
        states=jnp.asarray(states),
        outcome=jnp.asarray(outcome),
        reached=jnp.asarray(np.where(outcome, 0.5, 2.0)),
        size=jnp.asarray(10.0),
        lanes=("none", "g0=0"),
        species=("g0.mrna", "h.activity"),
        time_unit="min",
    )


def test_moments_are_over_the_cells_that_are_done() -> None:
    ensemble = made_up()
    kept = np.asarray(ensemble.states)[1][[0, 1, 3]]
    np.testing.assert_allclose(ensemble.mean()[1], kept.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(ensemble.variance()[1], kept.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(ensemble.fano()[1], 10 * kept.var(axis=0, ddof=1) / kept.mean(axis=0), rtol=1e-12)
    assert ensemble.state_of("h.activity").shape == (2, 4, 3)
    np.testing.assert_array_equal(ensemble.done.sum(axis=1), [4, 3])


def test_failures_are_named_once_per_treatment() -> None:
    with pytest.raises(PinnsimError) as error:
        made_up().raise_failures()
    assert error.value.codes == ("E_SOLVER",)
    assert "1 of 4 cells of lane 'g0=0' ended early (first: cell 2 at t=0.5 min): raise max_events" in str(error.value)


def test_labels_and_units_in_xarray() -> None:
    tree = made_up().to_xarray()
    abundance = tree["/species"]["abundance"]
    assert abundance.dims == ("lane", "cell", "time", "species")
    assert list(abundance.coords["species"].values) == ["g0.mrna"]
    assert abundance.coords["time"].attrs["units"] == "min"
    assert tree["/hidden"]["log_activity"].shape == (2, 4, 3, 1)
    assert tree["outcome"].dims == ("lane", "cell")
    assert "ran out of steps" in tree["outcome"].attrs["meaning"]
    assert tree.attrs["size"] == 10.0


def test_gene_kinetics_are_sampled_with_their_names() -> None:
    model = model_of(("mrna",), genes=3)
    p = Perturbation.stack([Treatment.parse(t).resolve(model.table) for t in ("none", "g0=0@1:")])
    states = jnp.ones((2, 3))
    found = sample_cells(
        SSA(50.0), model.kinetics, jnp.asarray([0.0, 1.0, 9.0]), p, states, KEY, 4, ("none", "g0=0@1:")
    ).raise_failures()
    assert found.species == model.table.species
    assert found.states.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(found.states[0, :, :2], found.states[1, :, :2])
    assert (found.state_of("g0.mrna")[1, :, 2] < found.state_of("g0.mrna")[1, :, 1]).all()


def test_what_cannot_be_sampled_is_refused() -> None:
    system, times = birth_death(), jnp.asarray([0.0, 1.0])
    p = Perturbation.stack([Perturbation.none(system.table)])
    with pytest.raises(PinnsimError, match="E_USAGE.*at least 1"):
        sample_cells(SSA(), system, times, p, jnp.ones((1, 1)), KEY, 0)
    with pytest.raises(PinnsimError, match="E_INIT.*shape"):
        sample_cells(SSA(), system, times, p, jnp.ones((2, 1)), KEY, 3)
