"""`solve_many`: rates, perturbations and states of their own or in common, and what does not fit is told at once."""

import jax.numpy as jnp
import numpy as np
import pytest
from diffrax import Tsit5
from systems import CASCADE, cascade, cascade_exact

from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome, solve_many
from pinnsim.treatment import Treatment

TIMES, SHARP = [0.0, 1.0, 4.0], ODE(1e-10, 1e-12)
NONE = Perturbation.none(CASCADE)
PULSE = Treatment.parse("signal(s)=2@0.5:3").resolve(CASCADE, 1)
LOSSES = np.array([[0.5, 0.3], [2.0, 0.1], [0.2, 1.5]])
STATES = jnp.asarray([[0.4, 1.0], [1.0, 0.0], [0.0, 2.0]])


def exact(k: int, pulsed: bool) -> np.ndarray:
    pieces = [(0, 0, None), (0.5, 2, None), (3, 0, None)] if pulsed else [(0, 0, None)]
    return cascade_exact(cascade(loss=LOSSES[k]), TIMES, pieces, np.asarray(STATES)[k])


@pytest.mark.parametrize("method", [SHARP, ODE(1e-10, 1e-12, stiff=True), ODE(1e-10, 1e-12, Tsit5())])
def test_lanes_have_rates_and_perturbations_of_their_own(method):
    own = {"loss": jnp.asarray(LOSSES)}
    shared = solve_many(cascade(), TIMES, PULSE, STATES, method, own=own)
    each = solve_many(cascade(), TIMES, Perturbation.stack([NONE, PULSE, NONE]), STATES, method, own=own)
    for k in range(3):
        np.testing.assert_allclose(shared.states[k], exact(k, True), atol=1e-7)
        np.testing.assert_allclose(each.states[k], exact(k, k == 1), atol=1e-7)
    assert (np.asarray(shared.outcome) == Outcome.DONE).all()


def test_what_does_not_fit_is_told_at_once():
    own = {"los": jnp.ones((3, 2)), "loss": jnp.ones((2, 2))}
    with pytest.raises(PinnsimError) as caught:
        solve_many(cascade(), TIMES, NONE, STATES[:, :1], own=own)
    assert caught.value.codes == ("E_INIT", "E_USAGE", "E_USAGE")
    assert "(lane, 2)" in str(caught.value)
    assert "did you mean 'loss'?" in str(caught.value)
    assert "(3, 2)" in str(caught.value)
