"""The training loop tells lanes that gradients which are not finite have stopped."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from problems import QUICK, TIMES, dataset_of, prior_model

from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, fit
from pinnsim.fit.objective import Objective
from pinnsim.fit.optimise import Halt, Lanes, Progress, Stage, halted, require_steps, run_stage
from pinnsim.fit.starts import outcomes
from pinnsim.observation.readout import AbstractReadout
from pinnsim.shapes import PerGene


class Number(eqx.Module):
    """One parameter per lane."""

    at: Array


class Spread(NamedTuple):
    """A prior as the loop sees one."""

    spread: Number


class Wall(eqx.Module):
    """Where a square root ends, and with it the gradient; `times` for the shape."""

    times: Array
    wall: Array


class Kinked(AbstractReadout):
    """The abundance, by a formula whose value is right and whose slope is not a number."""

    def __call__(self, abundance: PerGene) -> PerGene:
        return abundance + jnp.sqrt(abundance - abundance)

    def invert(self, reading: PerGene) -> PerGene:
        return reading


def hilly(model: Number, prior: Spread, data: Wall, settings: Any, predict: Any) -> Objective:
    """`(x - 1)^2 + sqrt(max(wall - x, 0))`: from the wall on its gradient is not a number."""
    total = (model.at - 1.0) ** 2 + jnp.sqrt(jnp.maximum(data.wall - model.at, 0.0))
    return Objective(total, {}, jnp.zeros((), int))


@pytest.fixture(scope="module")
def ended() -> Progress:
    """Lanes that are free, that begin beyond the wall, and that come to it."""
    walls = jnp.asarray([9.0, 0.1, 0.5])
    models = Number(jnp.asarray([0.0, 0.4, 0.4]))
    lanes = Lanes(models, Spread(Number(jnp.ones(3))), Wall(jnp.zeros((3, 1)), walls))
    stage = Stage("toy", None, np.full(30, 0.02), hilly)
    return run_stage(lanes, stage, FitPlan().settings(), None, 0, lambda *_: None)


def test_a_lane_without_a_finite_gradient_says_so(ended: Progress) -> None:
    found = halted(ended)
    assert found.never.tolist() == [False, True, False]
    assert found.last.tolist() == [False, True, True]
    assert ended.parameters.at[1] == 0.4
    assert 0.5 <= float(ended.parameters.at[2]) < 0.55


def test_its_outcome_is_not_done_and_a_start_that_never_moved_is_not_kept(ended: Progress) -> None:
    value = np.array([1.0, 1.0, 1.0])
    good, words = outcomes(value, np.zeros(3), halted(ended), "unsolved", "infinite")
    assert good.tolist() == [True, False, True]
    assert words[0] == "done"
    assert "not fitted" in words[1]
    assert "stopped" in words[2]
    none = np.zeros(3, bool)
    good, words = outcomes(np.array([1.0, np.nan, 1.0]), np.array([0, 0, 2]), Halt(none, none), "unsolved", "infinite")
    assert good.tolist() == [True, False, False]
    assert words.tolist() == ["done", "infinite", "unsolved"]


def test_training_that_never_began_is_an_error(ended: Progress) -> None:
    require_steps(ended, "a number")
    state = ended.optimiser
    stuck = state._replace(inner_state=state.inner_state._replace(count=jnp.zeros(3, int)))
    stuck = stuck._replace(total_notfinite=jnp.full(3, 30))
    with pytest.raises(PinnsimError, match="E_FIT.*a number.*gradient is not finite"):
        require_steps(ended._replace(optimiser=stuck), "a number")


def test_where_data_change_one_bad_step_is_no_stop(ended: Progress) -> None:
    """A chunk of them is: the last lane has stood at its wall for longer than that."""
    assert halted(ended, changing=True).last.tolist() == [False, True, True]
    state = ended.optimiser._replace(notfinite_count=jnp.asarray([0, 30, 1]))
    assert halted(ended._replace(optimiser=state), changing=True).last.tolist() == [False, True, False]


def test_a_fit_whose_gradient_is_not_finite_says_that_it_is_none() -> None:
    prior = prior_model("abundance", layers=("mrna",), regulation={"hidden": "none"}, readout={"kind": "identity"})
    kinked = eqx.tree_at(
        lambda p: (p.center.observation.readout, p.spread.observation.readout), prior, (Kinked(), Kinked())
    )
    data = dataset_of(1.0 + np.random.default_rng(0).random((2, len(TIMES), 3)), TIMES)
    plan = QUICK.model_copy(update={"trajectory_steps": 0})
    with pytest.raises(PinnsimError, match="E_FIT: None of the 2 starts of problem 0 could be fitted: the gradient is"):
        fit(kinked, data, plan, progress=False)
