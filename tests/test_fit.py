"""`fit`: it recovers what is known, is deterministic, survives interruption bit for bit, and never keeps what failed.

All fits here share one shape, so that their numbers (data, priors, seeds, rates, tolerances, steps, patience) are
arguments of two compiled programs, one per stage: a third trace fails the test that causes it.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, dataset_of, measured, prior_model, truth_of

from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, FitResult, cultures, fit, optimise
from pinnsim.fit.fit import draw_start
from pinnsim.fit.optimise import Progress
from pinnsim.fit.plan import Settings
from pinnsim.fit.schedule import learning_rates
from pinnsim.model import ModelPrior
from pinnsim.parameter import resolve
from pinnsim.tree import digest, lane, stack

FIT = sys.modules[fit.__module__]  # the module, which the function hides
NOISE = 0.02  # log2: 1.4 %
PLAN = FitPlan(starts=2, keep=2, collocation_steps=25, trajectory_steps=15, substeps=2, rtol=1e-4, atol=1e-6, seed=3)


@pytest.fixture(scope="module", autouse=True)
def _two_traces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        inner = eqx.debug.assert_max_traces(optimise._advance.__wrapped__, max_traces=2)
        patch.setattr(optimise, "_advance", eqx.filter_jit(inner))
        yield


@pytest.fixture(scope="module")
def prior() -> ModelPrior:
    regulation = {"hidden": "none", "basal": -1.0, "strength_sd": 0.1, "affinity_sd": 0.2, "basal_sd": 0.5}
    likelihood = {"kind": "gaussian", "sd": NOISE}
    return prior_model("abundance", layers=("mrna",), regulation=regulation, likelihood=likelihood)


@pytest.fixture(scope="module")
def truth(prior):
    return truth_of(prior, 2, 1.0)


@pytest.fixture(scope="module")
def data(truth):
    return measured(truth, noise=NOISE, sample=False)


def run(prior, data, checkpoint: Path | None = None, **changes: object) -> FitResult:
    return fit(prior, data, PLAN.model_copy(update=changes), progress=False, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def result(prior, data) -> FitResult:
    return run(prior, data)


def same(a: FitResult, b: FitResult) -> bool:
    return digest(a.models) == digest(b.models) and a.table.equals(b.table) and a.course.equals(b.course)


def log_error(model, truth) -> float:
    rates = (np.asarray(resolve(m).kinetics.decay) for m in (model, truth))
    return float(np.abs(np.log(next(rates) / next(rates))).max())


def test_decay_rates_are_recovered(prior, truth, data) -> None:
    """From readings with 1.4 % noise; the prior is off by a factor of 3."""
    long = run(prior, data, collocation_steps=250, trajectory_steps=100)
    assert log_error(prior.center, truth) > 1
    assert max(log_error(lane(long.ensemble(), k), truth) for k in range(2)) < 0.35
    # The data term is that of pure noise: half a squared deviate per reading, apart from the normalisation.
    count = data.values[:, :, 1:].size
    noise = count * (0.5 + np.log(NOISE * np.sqrt(2 * np.pi)))
    assert long.terms["data"][0] == pytest.approx(noise, abs=0.35 * count)


def test_result_is_ordered_and_reported(prior, data, result: FitResult) -> None:
    assert not result.interrupted
    assert (np.diff(result.value) >= 0).all()
    table = result.table
    assert table["kept"].all()
    assert (table["outcome"] == "done").all()
    named = ["data", "kinetics", "network", "hidden", "observation", "residual", "gate"]
    np.testing.assert_allclose(table[named].sum(axis=1), table["objective"])
    np.testing.assert_allclose(sorted(table["objective"]), result.value)
    anonymous = dataclasses.replace(cultures(data, prior.center.table, substeps=2), names=())
    twice = [stack([tree] * 2) for tree in (prior.center, prior, anonymous)]
    start = optimise.evaluate(*twice, PLAN.settings(), FIT.trajectory_readings)
    assert result.value[0] < 0.5 * float(start.total[0])
    assert jax.tree.structure(result.best()) == jax.tree.structure(prior.center)


def test_the_same_seed_gives_the_same_bits(prior, data, result: FitResult) -> None:
    assert same(run(prior, data), result)
    other = run(prior, data, seed=4)
    # The first start is the centre whatever the seed; the second is drawn.
    np.testing.assert_allclose(other.table["objective"][0], result.table["objective"][0], rtol=1e-9)
    assert other.table["objective"][1] != result.table["objective"][1]


def test_numbers_are_arguments_of_one_program(prior, data, result: FitResult) -> None:
    """Data, priors, rates, tolerances, schedules, steps: each changes the result, none compiles anew."""
    moved = dataset_of(np.asarray(data.values)[:, 0] + 0.3, TIMES)
    wider = eqx.tree_at(lambda p: p.spread.kinetics.decay.raw, prior, jnp.full(3, 0.9, float))
    found = [
        run(prior, moved),
        run(wider, data),
        run(prior, data, learning_rate=0.03),
        run(prior, data, rtol=1e-3),
        run(prior, data, schedule="cyclical", collocation_steps=12),
        run(prior, data, patience=7),
        run(prior, data, gate_penalty=1.0, trajectory_learning_rate=0.1),
    ]
    values = [f.value[0] for f in found]
    assert len({result.value[0], *values[:5], values[6]}) == 7


def test_members_are_kept_up_to_the_plan(prior, data, result: FitResult) -> None:
    best = run(prior, data, keep=1)
    assert best.value.tolist() == result.value[:1].tolist()
    assert best.table["kept"].tolist() == (result.table["objective"] == result.value[0]).tolist()


def test_starts_are_drawn_from_the_prior(prior, key) -> None:
    assert digest(draw_start(prior, key, 0.0)) == digest(prior.center)
    free = eqx.tree_at(lambda p: p.spread.kinetics.decay.raw, prior, jnp.asarray([jnp.inf, 0.5, 0.5]))
    drawn = [draw_start(free, k, 1.0).kinetics for k in jax.random.split(key, 400)]
    decay = np.array([k.decay.raw for k in drawn]) - np.asarray(prior.center.kinetics.decay.raw)
    np.testing.assert_allclose(decay.std(axis=0), [0, 0.5, 0.5], atol=0.05)
    np.testing.assert_allclose(decay.mean(axis=0), 0, atol=0.08)
    # What is fixed stays.
    assert all((k.synthesis.raw == prior.center.kinetics.synthesis.raw).all() for k in drawn[:5])


def test_the_course_has_every_chunk_and_adds_up(result: FitResult) -> None:
    """Every lane's best objective after every chunk, and its parts; the last is what the table of starts tells."""
    course = result.course
    told = course[["stage", "step"]].drop_duplicates().to_numpy().tolist()
    assert told == [["collocation", s] for s in (10, 20, 25)] + [["trajectories", s] for s in (35, 40)]
    parts = course[["data", "kinetics", "network", "hidden", "observation", "residual"]].sum(axis=1)
    np.testing.assert_allclose(parts, course["objective"], rtol=1e-9)
    for _, one in course.groupby(["stage", "start"]):
        assert (np.diff(one["objective"]) <= 0).all()
    last = course[course["step"] == 40].sort_values("start")["objective"]
    np.testing.assert_allclose(last, result.table.sort_values("start")["after trajectories"])


Chunks = list[tuple[str, int]]


def stopping(patch: pytest.MonkeyPatch, stage: str, after: int, error: BaseException | None) -> Chunks:
    """Makes stages report their chunks, and raise `error` in `stage` once `after` of them are done (0: at once)."""
    original, chunks = optimise.run_stage, []

    def watched(
        lanes, current, settings: Settings, progress, done: int, on_chunk: Callable[[int, Progress], None], part=None
    ):
        def on(steps: int, now: Progress) -> None:
            on_chunk(steps, now)
            chunks.append((current.name, steps))
            if error is not None and [c[0] for c in chunks].count(stage) == after and current.name == stage:
                raise error

        if error is not None and current.name == stage and after == 0:
            raise error
        return original(lanes, current, settings, progress, done, on, part)

    patch.setattr(FIT, "run_stage", watched)
    return chunks


def test_stages_run_in_chunks_to_their_last_step(prior, data, monkeypatch) -> None:
    chunks = stopping(monkeypatch, "", 0, None)
    run(prior, data)
    stages = ("collocation", "collocation", "collocation", "trajectories", "trajectories")
    assert chunks == list(zip(stages, (10, 20, 25, 10, 15), strict=True))


def test_a_stage_stops_when_no_start_improves(prior, data, monkeypatch) -> None:
    """A rate at which every step makes it worse."""
    chunks = stopping(monkeypatch, "", 0, None)
    hopeless = {"schedule": "constant", "learning_rate": 500.0, "collocation_steps": 200, "trajectory_steps": 0}
    stopped = run(prior, data, patience=3, **hopeless)
    assert chunks == [("collocation", 10)]
    del chunks[:]
    whole = run(prior, data, patience=0, **hopeless | {"collocation_steps": 40})
    assert [steps for _, steps in chunks] == [10, 20, 30, 40]
    # The best that was seen is kept.
    assert stopped.value[0] == whole.value[0]


def test_control_c_keeps_the_best_so_far(prior, data, monkeypatch) -> None:
    stopping(monkeypatch, "collocation", 2, KeyboardInterrupt())
    early = run(prior, data)
    assert early.interrupted
    assert np.isfinite(early.value).all()
    assert "after trajectories" not in early.table
    monkeypatch.undo()
    stopping(monkeypatch, "trajectories", 0, KeyboardInterrupt())
    # Before the first chunk of the second stage there is the first one's result.
    late = run(prior, data)
    assert late.interrupted
    gained = early.table["after collocation"] - late.table["after collocation"]
    assert (gained >= 0).all()
    assert (gained > 0).any()
    monkeypatch.undo()
    stopping(monkeypatch, "collocation", 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(prior, data)


@pytest.mark.parametrize(("stage", "after"), [("collocation", 2), ("trajectories", 1)])
def test_a_killed_fit_goes_on_bit_for_bit(
    prior, data, result: FitResult, tmp_path: Path, monkeypatch, stage: str, after: int
) -> None:
    stopping(monkeypatch, stage, after, RuntimeError("the power went off"))
    with pytest.raises(RuntimeError, match="power"):
        run(prior, data, tmp_path / "fit")
    monkeypatch.undo()
    chunks = stopping(monkeypatch, "", 0, None)
    assert same(run(prior, data, tmp_path / "fit"), result)
    assert len(chunks) == (3 if stage == "collocation" else 1)
    del chunks[:]
    # A finished fit is read, not repeated.
    assert same(run(prior, data, tmp_path / "fit"), result)
    assert chunks == []


def refusal(prior, data, checkpoint: Path, **changes: object) -> tuple[str, ...]:
    with pytest.raises(PinnsimError) as caught:
        run(prior, data, checkpoint, **changes)
    return caught.value.codes


def test_checkpoints_of_other_fits_and_damaged_ones_are_refused(prior, data, tmp_path: Path) -> None:
    quick = {"collocation_steps": 5, "trajectory_steps": 0}
    run(prior, data, tmp_path / "fit", **quick)
    file = tmp_path / "fit.collocation.safetensors"
    moved = dataset_of(np.asarray(data.values)[:, 0] + 1e-9, TIMES)
    wider = eqx.tree_at(lambda p: p.spread.kinetics.decay.raw, prior, jnp.full(3, 0.9, float))
    for other in (
        refusal(prior, data, tmp_path / "fit", **quick, seed=9),
        refusal(prior, moved, tmp_path / "fit", **quick),
        refusal(wider, data, tmp_path / "fit", **quick),
    ):
        assert other == ("E_CKPT_MODEL",)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert refusal(prior, data, tmp_path / "fit", **quick) == ("E_CKPT_CORRUPT",)


def test_a_likelihood_of_counts_refuses_logarithms(data, tmp_path: Path) -> None:
    counted = prior_model("abundance", layers=("mrna",), likelihood={"kind": "negative_binomial"})
    assert refusal(counted, data, tmp_path / "fit") == ("E_SCALE_MISMATCH",)


def test_a_start_that_cannot_be_solved_is_reported_and_never_kept(prior, data) -> None:
    """Half-lives of a microsecond: an explicit solver cannot follow them."""
    wild = eqx.tree_at(lambda p: p.spread.kinetics.decay.raw, prior, jnp.full(3, 30.0, float))
    found = run(wild, data, start_spread=1.0, collocation_steps=5, seed=1)
    assert found.table["outcome"].tolist() == ["done", "a culture could not be solved"]
    assert found.table["kept"].tolist() == [True, False]
    assert found.value.shape == (1,)
    hopeless = eqx.tree_at(lambda p: p.center.kinetics.decay.raw, wild, jnp.full(3, 20.0, float))
    with pytest.raises(PinnsimError, match="None of the 2 starts of problem 0 could be solved") as caught:
        run(hopeless, data, start_spread=0.0, collocation_steps=0)
    assert caught.value.codes == ("E_FIT",)
    assert caught.value.exit_status == 4


def test_data_that_do_not_fit_the_model_are_refused_together(prior, data) -> None:
    seen = np.array(data.mask)
    seen[0, 0, 0, 1], seen[1, 0, 1:] = False, False
    holed = eqx.tree_at(lambda d: d.mask, data, seen)
    other = dataset_of(np.asarray(data.values)[:, 0, :, :2], TIMES)
    with pytest.raises(PinnsimError) as caught:
        fit(prior, holed, PLAN)
    assert caught.value.codes == ("E_INIT", "E_TIME_FEW")
    assert "'fed, replicate 1' lacks 1 genes in its first sample (first: g1)" in str(caught.value)
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        fit(prior, other, PLAN)
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        fit(prior, eqx.tree_at(lambda d: d.mask, data, np.zeros_like(seen)), PLAN)


def rates(steps: int, **changes: object) -> np.ndarray:
    return learning_rates(FitPlan.model_validate({"warmup_fraction": 0.1, **changes}), 0.2, steps)


def test_schedules_are_what_they_say() -> None:
    k = np.arange(100)
    down = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (k - 10) / 90))
    np.testing.assert_allclose(rates(100), 0.2 * np.where(k < 10, 0.05 + 0.095 * k, down), rtol=1e-6)
    np.testing.assert_allclose(rates(100, schedule="constant"), 0.2 * np.minimum(0.05 + 0.095 * k, 1), rtol=1e-6)
    cyclical = rates(90, schedule="cyclical", cycles=3)
    np.testing.assert_allclose(cyclical, np.tile(rates(30), 3), rtol=1e-6)
    assert cyclical.argmax() == 3
    assert rates(0).shape == (0,)
    assert (rates(1) > 0).all()
    assert (rates(5, schedule="cyclical", cycles=10) > 0).all()
