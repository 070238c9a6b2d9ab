"""Stages beside the two usual ones: multiple shooting, growing horizons, the polish; and the table's words on failures.

The limit cycle is a ring of three repressors (M. Elowitz and S. Leibler, Nature 403:335, 2000).
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from problems import measured, prior_model, truth_of

from pinnsim.data import Dataset
from pinnsim.fit import FitPlan, FitResult, cultures, fit
from pinnsim.fit.objective import objective, trajectory_readings
from pinnsim.fit.optimise import Lanes
from pinnsim.fit.polish import residuals, why_not
from pinnsim.fit.shooting import adaptive_cost
from pinnsim.fit.stages import horizon, up_to_horizon
from pinnsim.fit.starts import at_bounds
from pinnsim.model import ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import interval, resolve
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.simulate import ODE, FromSample, simulate
from pinnsim.tree import digest, stack

GENES, TIMES, NOISE = ["a", "b", "c"], np.arange(0.0, 100.0, 2.5), 0.1
HALF_LIFE = 5.0
PLAN = FitPlan(
    starts=1,
    keep=1,
    collocation_steps=0,
    trajectory_steps=0,
    shooting_steps=60,
    polish_steps=10,
    shooting_interval=4,
    trajectory_learning_rate=0.05,
)


def ring(half_life: float) -> ModelPrior:
    """Repressors with RNA half-lives to be found, all else known."""
    regulation = {
        "hidden": "none",
        "basal": 4.0,
        "strength": 12.0,
        "hill": 4.0,
        "affinity": 0.25,
        **dict.fromkeys(("basal_sd", "strength_sd", "affinity_sd"), 0.01),
    }
    config = ModelConfig.model_validate(
        {
            "layers": ("mrna", "protein"),
            "protein_half_life": HALF_LIFE,
            "translation": np.log(2.0) / HALF_LIFE,
            "translation_sd": 0.0,
            "regulation": regulation,
            "readout": {"kind": "array", "offset": 10.0},
            "likelihood": {"kind": "gaussian", "sd": NOISE},
        }
    )
    edges = pd.DataFrame({"regulator": ["c", "a", "b"], "target": GENES, "sign": [-1, -1, -1]})
    rate = LogNormal(jnp.full(3, np.log(2.0) / half_life), jnp.full(3, 1.0))
    known = KineticPrior(rate, tuple(GENES), ("test",) * 3, "mrna", "min")
    return build(config, Network.from_frame(edges, genes=GENES), known)


@pytest.fixture(scope="module")
def cycle() -> Dataset:
    rule = [FromSample(jnp.asarray([9.8, 9.0, 8.4]))]
    found = simulate(ring(HALF_LIFE).center, TIMES, ["none"], initial=rule, method=ODE(1e-8, 1e-10))
    readings = np.array(found.raise_failures().readings)
    readings[:, 1:] += NOISE * np.random.default_rng(0).standard_normal(readings[:, 1:].shape)
    return Dataset.build(readings[:, None], TIMES, GENES, ("cycle",), time_unit="min", scale="log2", simulated=True)


@pytest.fixture(scope="module")
def start() -> ModelPrior:
    """A prior of which the centre rests: eight times too slow, with the true half-lives two deviates away."""
    return eqx.tree_at(
        lambda p: p.center.kinetics.decay.raw, ring(HALF_LIFE), jnp.full(3, np.log(np.log(2.0) / (8.0 * HALF_LIFE)))
    )


@pytest.fixture(scope="module")
def shot(cycle: Dataset, start: ModelPrior) -> FitResult:
    return fit(start, cycle, PLAN, progress=False)


def half_lives(found: FitResult) -> np.ndarray:
    return np.log(2.0) / np.asarray(resolve(found.best()).kinetics.decay)


def test_shooting_finds_a_cycle_from_a_start_where_whole_trajectories_stick(
    cycle: Dataset, start: ModelPrior, shot: FitResult
) -> None:
    np.testing.assert_allclose(half_lives(shot), HALF_LIFE, rtol=0.05)
    count = 3 * (len(TIMES) - 1)
    noise = count * (0.5 + np.log(NOISE * np.sqrt(2.0 * np.pi)))
    assert shot.terms["data"][0] == pytest.approx(noise, abs=0.2 * count)
    single = fit(
        start,
        cycle,
        PLAN.model_copy(update={"shooting_steps": 0, "polish_steps": 0, "trajectory_steps": 70}),
        progress=False,
    )
    assert single.terms["data"][0] > shot.terms["data"][0] + 100.0


def test_gaps_that_weigh_themselves_close_as_well(cycle: Dataset, start: ModelPrior) -> None:
    # Gaps that begin light close slowly: seven times the steps of a weight that rises by itself.
    plan = PLAN.model_copy(update={"shooting_weights": "adaptive", "shooting_steps": 420, "polish_steps": 0})
    found = fit(start, cycle, plan, progress=False)
    np.testing.assert_allclose(half_lives(found), HALF_LIFE, rtol=0.1)


def test_gaps_weigh_as_much_as_their_variance_says() -> None:
    gaps = jnp.asarray(np.random.default_rng(3).normal(size=(1, 40, 3)) * [0.01, 0.1, 1.0])
    most = jnp.asarray(1e3)
    slope = jax.grad(adaptive_cost)(gaps, most)
    weight = 1.0 / (np.mean(np.square(np.asarray(gaps)), axis=(0, 1)) + 1e-3)
    np.testing.assert_allclose(slope, weight * np.asarray(gaps), rtol=1e-10)
    assert float(adaptive_cost(gaps[:, :0], most)) == 0.0


def test_polish_ends_where_the_gradient_does(cycle: Dataset, start: ModelPrior, shot: FitResult) -> None:
    data = cultures(cycle, start.center.table)
    settings = PLAN.settings()

    def moved(model, raw):
        return eqx.tree_at(lambda m: m.kinetics.decay.raw, model, raw)

    @eqx.filter_jit
    def measures(model):
        """Largest entry of the gradient; the objective less half the squared residuals."""
        total, slope = jax.value_and_grad(
            lambda raw: objective(moved(model, raw), start, data, settings, trajectory_readings).total
        )(model.kinetics.decay.raw)
        return jnp.abs(slope).max(), total - 0.5 * jnp.sum(residuals(model, start, data, settings) ** 2)

    best = shot.best()
    found = [measures(m) for m in (best, start.center, moved(best, best.kinetics.decay.raw + 0.1))]
    # Up to the solver's tolerance; the readings' information per unit of a log rate is about 1e4.
    assert found[0][0] < 1e-3 * found[1][0]
    assert shot.table["after polish"][0] < shot.value[0] + 1e-6
    # The objective is half the squared residuals, up to one constant.
    np.testing.assert_allclose(found[0][1], found[2][1], rtol=1e-6)


def test_a_fit_killed_while_shooting_goes_on_bit_for_bit(
    cycle: Dataset, start: ModelPrior, shot: FitResult, tmp_path
) -> None:
    module = sys.modules[fit.__module__]  # which the function hides
    calls, save = [], module.save_tree

    def stopping(path, tree, meta) -> None:
        save(path, tree, meta)
        calls.append(meta["done"])
        if len(calls) == 2:
            raise SystemExit  # after the checkpoint was written, as a kill may be

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_tree", stopping)
        with pytest.raises(SystemExit):
            fit(start, cycle, PLAN, progress=False, checkpoint=tmp_path / "fit")
    again = fit(start, cycle, PLAN, progress=False, checkpoint=tmp_path / "fit")
    assert calls == ["10", "20"]
    assert digest(again.models) == digest(shot.models)
    assert again.table.equals(shot.table)


def test_horizons_grow_and_end_with_everything(cycle: Dataset, start: ModelPrior) -> None:
    plan = PLAN.model_copy(update={"curriculum_steps": 50, "curriculum_from": 0.2})
    shares = [horizon(plan, done) for done in (0, 10, 20, 30, 40)]
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.6, 0.8, 1.0])
    data = stack([cultures(cycle, start.center.table)])
    half = up_to_horizon(data, 0.5)
    assert np.asarray(half.mask).any(axis=-1).sum() == np.count_nonzero(TIMES <= 48.75)
    assert float(half.times.max()) == 48.75
    assert digest(up_to_horizon(data, 1.0)) == digest(data)
    # What does not count is not solved, and what counts is the same.
    read = eqx.filter_jit(lambda d: trajectory_readings(resolve(start.center), d, PLAN.settings())[0])
    shown = [np.asarray(read(jax.tree.map(lambda a: a[0], d))) for d in (data, half)]
    np.testing.assert_allclose(shown[1][0, TIMES <= 48.0], shown[0][0, TIMES <= 48.0], atol=2e-3)


def test_the_polish_says_why_it_is_left_out() -> None:
    def lanes(**changes: object) -> Lanes:
        prior = prior_model("hidden", **changes)
        return Lanes(stack([prior.center]), stack([prior]), None)

    assert why_not(lanes(), PLAN) is None
    assert why_not(lanes(likelihood={"kind": "student_t"}), PLAN) == "errors are StudentT, not normal"
    learned = lanes(residual={"kind": "mlp", "width": 2})
    assert why_not(learned, PLAN) is None
    assert why_not(learned, PLAN.model_copy(update={"gate_penalty": 1.0})) == (
        "the gate of the learned correction has a price"
    )


def test_the_table_tells_where_a_start_failed_and_what_sits_at_a_bound() -> None:
    prior = prior_model("hidden", regulation={"hidden": "all", "own_inputs": True, "learn_hill": True})
    data = measured(truth_of(prior))
    plan = FitPlan(starts=2, keep=2, collocation_steps=0, trajectory_steps=1, max_steps=16, rtol=1e-9, atol=1e-11)
    with pytest.raises(Exception, match=r"fed/1 stopped at [0-9.]+ min: MAX_STEPS, ran out of steps"):
        fit(prior, data, plan, progress=False)
    edges = len(prior.center.table.edges)
    hill = np.full(edges, 2.0)
    hill[1] = 3.99
    stuck = eqx.tree_at(lambda m: m.kinetics.promoter.hill, prior.center, interval(hill, np.ones(edges), 4.0))
    both = [stack(pair) for pair in ([prior.center, stuck], [prior] * 2, [cultures(data, prior.center.table)] * 2)]
    texts = at_bounds(Lanes(*both))
    assert texts == ["", f"hill:{prior.center.table.edges[1]} = 3.99"]
