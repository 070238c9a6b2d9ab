"""Populations pushed forward and fitted: laws in closed form, gradients, seeds, and known rates from snapshots."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from pinnsim.data import Snapshots
from pinnsim.distance import Energy, Sinkhorn
from pinnsim.dynamics.motifs import birth_death, toggle
from pinnsim.errors import PinnsimError
from pinnsim.fit import (
    ByDistance,
    ByLikelihood,
    Extrinsic,
    FitPlan,
    Intrinsic,
    LogNormalBegin,
    PopulationModel,
    PopulationPrior,
    SampledBegin,
    SnapshotFit,
    fit_data,
    fit_snapshots,
    populations,
    simulate_populations,
)
from pinnsim.fit.population import cell_keys
from pinnsim.fit.snapshots import snapshot_objective
from pinnsim.fit.suits import flags
from pinnsim.observation import LinearReadout, Observation, Poisson
from pinnsim.parameter import frozen, positive, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Langevin

SIZE, CAPTURE, STRENGTH, DECAY = 50.0, 8.0, 8.0, 0.7
TIMES = (0.0, 0.5, 1.0, 2.0, 4.0)
CELLS = 120


def system(strength: Any, decay: Any) -> PopulationModel:
    """A toggle seen as Poisson counts; cells start around the middle."""
    kinetics = toggle(1.0, 1.0, 2, 1.0, time_unit="h")
    kinetics = eqx.tree_at(lambda k: (k.law.strength, k.law.decay), kinetics, (strength, decay))
    kinetics = eqx.tree_at(lambda k: k.law.threshold, kinetics, frozen(jnp.ones(2)))
    counter = Observation(LinearReadout(frozen(jnp.full(2, CAPTURE)), frozen(0.0)), Poisson())
    begin = LogNormalBegin(frozen(jnp.asarray([1.5, 0.7])), frozen(jnp.asarray([0.5, 0.5])))
    return PopulationModel(kinetics, begin, Intrinsic(frozen(SIZE)), (counter,))


def prior(strength: float = 4.0, decay: float = 1.2) -> PopulationPrior:
    center = system(positive(jnp.full(2, strength)), positive(jnp.full(2, decay)))
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, center)
    where = lambda m: (m.kinetics.law.strength.raw, m.kinetics.law.decay.raw)  # noqa: E731
    return PopulationPrior(center, eqx.tree_at(where, still, (jnp.ones(2), jnp.ones(2))))


@pytest.fixture(scope="module")
def snapshots() -> Snapshots:
    """Cells of the truth by the library's own Langevin steps, finer and otherwise seeded, fresh at every time."""
    truth = resolve(system(positive(jnp.full(2, STRENGTH)), positive(jnp.full(2, DECAY))))
    rng = np.random.default_rng(0)
    begin = np.exp(np.log([1.5, 0.7]) + 0.5 * rng.standard_normal((CELLS * len(TIMES), 2)))
    method, plain = Langevin(SIZE, 0.01), Perturbation.none(truth.kinetics.table)
    # Cells of `sample_cells` with one number share their noise across lanes, for comparisons; these must not.
    run = jax.jit(jax.vmap(lambda x, key: method.sample(truth.kinetics, jnp.asarray(TIMES), plain, x, key).states))
    states = np.asarray(run(jnp.asarray(begin), jax.random.split(jax.random.key(77), len(begin))))
    times = np.repeat(np.arange(len(TIMES)), CELLS)
    counts = rng.poisson(CAPTURE * states[np.arange(len(times)), times])
    return Snapshots.build(
        counts, np.asarray(TIMES)[times], ("u", "v"), ("mrna",), time_unit="h", scale="counts", simulated=True
    )


def rates_of(model: PopulationModel) -> np.ndarray:
    law = resolve(model).kinetics.law
    return np.concatenate([law.strength, law.decay])


fit_module = importlib.import_module("pinnsim.fit.fit")  # the package's `fit` is the function

PLAN = FitPlan(
    starts=2, trajectory_steps=120, trajectory_learning_rate=0.08, start_spread=0.3, substeps=12, initial="rest"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("match", "cells", "within"),
    [(ByDistance(Energy()), 300, 0.12), (ByDistance(Sinkhorn()), 300, 0.12), (ByLikelihood(), 300, 0.2)],
    ids=["energy", "sinkhorn", "likelihood"],
)
def test_known_rates_of_a_toggle_come_back(snapshots: Snapshots, match: Any, cells: int, within: float) -> None:
    """From priors centred half and twice as high, of 120 cells at each of five times."""
    fitted = fit_snapshots(prior(), snapshots, match, PLAN, cells=cells, progress=False)
    np.testing.assert_allclose(rates_of(fitted.best), [STRENGTH] * 2 + [DECAY] * 2, rtol=within)
    assert fitted.table["outcome"].tolist() == ["done"] * 2
    assert (np.diff(fitted.value) >= 0).all()


SHORT = FitPlan(starts=1, trajectory_steps=20, trajectory_learning_rate=0.1, substeps=4, initial="rest")


def short_fit(
    snapshots: Snapshots, steps: int = 20, weight: float = 1.0, seed: int = 0, checkpoint: Path | None = None
) -> SnapshotFit:
    plan, match = SHORT.model_copy(update={"trajectory_steps": steps, "seed": seed}), ByDistance(Energy(), weight)
    return fit_snapshots(prior(), snapshots, match, plan, cells=30, batch=40, progress=False, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def fitted(snapshots: Snapshots) -> SnapshotFit:
    return short_fit(snapshots)


class Killed(BaseException):
    """What nothing in a fit catches, as nothing catches SIGKILL."""


@pytest.mark.parametrize("ending", [Killed, KeyboardInterrupt])
def test_a_killed_fit_goes_on_from_its_checkpoint(
    snapshots: Snapshots, fitted: SnapshotFit, ending: type[BaseException], tmp_path: Path, monkeypatch: Any
) -> None:
    """20 steps in two chunks, on parts of the cells: ended after the first chunk was written, then run again."""
    write, written = fit_module.save_tree, []

    def once(*given: Any) -> None:
        write(*given)
        written.append(given[0])
        if len(written) == 1:
            raise ending

    monkeypatch.setattr(fit_module, "save_tree", once)
    path = tmp_path / "cells"
    if ending is Killed:
        with pytest.raises(Killed):
            short_fit(snapshots, checkpoint=path)
    else:
        stopped = short_fit(snapshots, checkpoint=path)
        assert stopped.interrupted
        assert stopped.value[0] > fitted.value[0]
    resumed = short_fit(snapshots, checkpoint=path)
    assert len(written) == 2  # one chunk of ten steps was left
    np.testing.assert_array_equal(rates_of(resumed.best), rates_of(fitted.best))
    assert resumed.table.equals(fitted.table)
    for other in ({"weight": 2.0}, {"seed": 1}):
        with pytest.raises(PinnsimError, match="E_CKPT_MODEL"):
            short_fit(snapshots, checkpoint=path, **other)


def test_a_fit_is_the_same_by_seed_and_goes_down(snapshots: Snapshots, fitted: SnapshotFit) -> None:
    np.testing.assert_array_equal(rates_of(short_fit(snapshots).best), rates_of(fitted.best))
    assert fitted.value[0] < 0.7 * short_fit(snapshots, steps=0).value[0]


def unlike(snapshots: Snapshots, **changes: Any) -> PinnsimError:
    with pytest.raises(PinnsimError) as caught:
        short_fit(dataclasses.replace(snapshots, **changes), steps=1)
    return caught.value


def test_data_that_do_not_suit_the_instrument_are_told(snapshots: Snapshots) -> None:
    logs = unlike(snapshots, values=np.log1p(snapshots.values), scale="log1p")
    assert logs.codes == ("E_SCALE_MISMATCH",)
    assert "Poisson needs counts" in str(logs)
    broken = snapshots.values.copy()
    broken[0, 2, 3, 0, 1] = np.nan
    assert "all at 1 h, cell 3, layer mrna, gene v" in str(unlike(snapshots, values=broken))
    first_only = snapshots.there & (np.arange(5) == 0)[None, :, None]
    assert unlike(snapshots, there=first_only).codes == ("E_DATA_EMPTY",)
    alone = snapshots.there.copy()
    alone[0, 3, 1:] = False
    lonely = dataclasses.replace(snapshots, there=alone)
    with pytest.raises(PinnsimError, match="an unbiased distance needs two"):
        fit_snapshots(prior(), lonely, ByDistance(Energy(unbiased=True)), SHORT, cells=30, progress=False)
    extra = eqx.tree_at(lambda p: p.center.observations, prior(), prior().center.observations * 2)
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        fit_data(extra, snapshots, ByLikelihood(), SHORT, 10)


def test_what_cells_cannot_tell_is_flagged(snapshots: Snapshots) -> None:
    values, there = snapshots.values.copy(), snapshots.there.copy()
    values[..., 1] = 0.0
    there[0, 4, 1:] = False
    said = flags(dataclasses.replace(snapshots, values=values, there=there))
    assert [text.partition(":")[0] for text in said] == ["W_GENE_CONSTANT", "W_CELLS_FEW"]
    assert "have no count in any cell of layer 'mrna' (v)" in said[0]
    assert "all at 4 h" in said[1]
    assert flags(snapshots) == ()


def test_cells_that_died_do_not_pull_where_matching_is_unbalanced(snapshots: Snapshots) -> None:
    """Of two fates that are simulated, one is not measured. Balanced, its cells are pulled across; unbalanced, making
    them fewer is cheaper, and they stay."""
    given, rng = prior(), np.random.default_rng(3)
    fates = jnp.asarray(np.where(np.arange(40)[:, None] < 20, [40.0, 2.0], [2.0, 40.0]) + rng.normal(size=(40, 2)))
    keys, ones, alive = cell_keys(jnp.asarray([1, 2], jnp.uint32), 40), jnp.ones(40), jnp.arange(40) < 20

    @eqx.filter_jit
    def pull(distance: Sinkhorn) -> Array:
        match = ByDistance(distance, noise=False, logs=False)

        def cost(shown: Array) -> Array:
            there, unit = alive.astype(float), jnp.full((1, 2), 10.0)
            return match.cost(given.center, fates[:, None], there, ones, shown[:, None], ones, unit, keys)[0]

        return jnp.abs(jax.grad(cost)(fates))

    balanced, unbalanced = (pull(Sinkhorn(1.0, reach, relative=False)) for reach in (jnp.inf, 0.5))
    assert float(balanced[20:].max()) > 0.3
    assert float(unbalanced[20:].max()) < 0.1 * float(balanced[20:].max())


@pytest.mark.parametrize("match", [ByDistance(Energy()), ByLikelihood()], ids=lambda m: type(m).__name__)
def test_slopes_are_those_of_finite_differences(snapshots: Snapshots, match: Any) -> None:
    given = prior()
    data = populations(snapshots, given.center.kinetics.table, cells=20, substeps=4)
    settings = PLAN.settings()

    @jax.jit
    def cost(raw: Array) -> Array:
        model = eqx.tree_at(
            lambda m: (m.kinetics.law.strength.raw, m.kinetics.law.decay.raw), given.center, (raw[:2], raw[2:])
        )
        return snapshot_objective(model, given, data, settings, match).total

    at, h = jnp.asarray([1.6, 1.9, 0.1, -0.2]), 1e-5
    slope = jax.jit(jax.grad(cost))(at)
    for k in range(4):
        step = h * jnp.zeros(4).at[k].set(1.0)
        central = (cost(at + step) - cost(at - step)) / (2 * h)
        assert abs(float(slope[k] - central)) < 2e-5 * float(jnp.abs(slope).max())


def moments(model: PopulationModel, cells: int, times: np.ndarray, substeps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over simulated cells, (time,)."""
    kinetics, begin = resolve(model.kinetics), jnp.full((cells, 1), 4.0)
    keys = cell_keys(jnp.asarray([1, 2], dtype=jnp.uint32), cells)
    grid = jnp.asarray(np.interp(np.arange(substeps * (len(times) - 1) + 1) / substeps, np.arange(len(times)), times))
    run = jax.jit(
        lambda: resolve(model).push.courses(
            kinetics, jnp.asarray(times), grid, Perturbation.none(kinetics.table), begin, keys
        )
    )
    courses, arrived = run()
    assert np.asarray(arrived).all()
    return np.asarray(courses[..., 0]).mean(axis=0), np.asarray(courses[..., 0]).var(axis=0)


def test_cells_with_intrinsic_noise_have_the_moments_of_birth_and_death() -> None:
    times = np.asarray([0.0, 1.0, 4.0])
    model = PopulationModel(birth_death(20.0, 0.5), SampledBegin(), Intrinsic(frozen(1.0)), ())
    mean, variance = moments(model, 4000, times)
    decay = np.exp(-0.5 * times)
    exact_mean = 4.0 * decay + 40.0 * (1 - decay)
    exact_variance = 4.0 * decay * (1 - decay) + 40.0 * (1 - decay)
    np.testing.assert_allclose(mean, exact_mean, atol=4 * np.sqrt(exact_variance.max() / 4000) + 0.15)
    np.testing.assert_allclose(variance[1:], exact_variance[1:], rtol=0.1)


def test_cells_with_rates_of_their_own_spread_as_these() -> None:
    push = Extrinsic(jnp.asarray([0.4]), ODE(rtol=1e-6, atol=1e-8), ("law/constant",))
    model = PopulationModel(birth_death(20.0, 0.5), SampledBegin(), push, ())
    mean, variance = moments(model, 500, np.asarray([0.0, 1.0, 40.0]))
    # One factor on both rates: where cells rest is the same for all, how fast they get there is not.
    np.testing.assert_allclose(mean[2], 40.0, rtol=1e-4)
    assert variance[2] < 1e-3
    factors = np.exp(0.4 * np.random.default_rng(0).standard_normal(200_000) - 0.08)
    early = 40.0 - 36.0 * np.exp(-0.5 * factors)
    np.testing.assert_allclose(mean[1], early.mean(), rtol=0.03)
    np.testing.assert_allclose(variance[1], early.var(), rtol=0.25)


def test_cells_start_as_they_were_seen(snapshots: Snapshots) -> None:
    model = resolve(eqx.tree_at(lambda m: m.begin, prior().center, SampledBegin()))
    data = populations(snapshots, model.kinetics.table, cells=25, substeps=2, seed=4)
    shown, arrived = eqx.filter_jit(simulate_populations)(model, data)
    np.testing.assert_allclose(shown[0, 0], data.seeds[0], rtol=1e-10)
    assert np.asarray(arrived).all()
    again = populations(snapshots, model.kinetics.table, cells=10, substeps=2, seed=4)
    np.testing.assert_array_equal(again.keys[0], data.keys[0, :10])


def test_what_the_model_does_not_have_is_told(snapshots: Snapshots) -> None:
    table = birth_death().table
    with pytest.raises(PinnsimError) as caught:
        populations(snapshots, table, cells=0)
    assert set(caught.value.codes) == {"E_GENE_UNMATCHED", "E_USAGE"}
    with pytest.raises(PinnsimError) as caught:
        short_fit(snapshots, steps=1, weight=np.nan)
    assert caught.value.codes == ("E_FIT",)
