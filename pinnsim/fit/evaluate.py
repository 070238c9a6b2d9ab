"""Predictions of what was held out: whole conditions or time blocks, with the controls that must fail, as lanes of one
program.

Every problem holds all cultures; they differ by which readings count in the fit and by their network (the real one, or
shuffled ones), never by their shapes. So all fits of an evaluation, the one to everything included, compile once. A
culture that is held out gives its first sample, from which it is predicted, and nothing else.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.data import Dataset
from pinnsim.dynamics.residual import NoResidual
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.fit.cultures import Cultures, cultures, measured_cultures
from pinnsim.fit.fit import FitResult, fit_groups
from pinnsim.fit.objective import trajectory_readings
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.model import CellModel, ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.prior import KineticPrior
from pinnsim.score.splits import Split
from pinnsim.simulate import Outcome
from pinnsim.tree import brief, stack

REAL, PRIOR_ONLY, SHUFFLED, SHUFFLED_TIME = "pinnsim", "prior only", "shuffled network", "shuffled time"
PHYSICS = "without its neural part"
ALL = "all conditions"
_SHUT = -1e4  # log-odds of a gate that is 0 in any precision


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predicted readings of one culture by one variant.

    **Arguments:** `variant`: `REAL`, `PRIOR_ONLY`, `SHUFFLED`, `SHUFFLED_TIME` or `PHYSICS`; `number`: which shuffle,
    else 0; `fitted`: what was fitted (a condition, or a split's name); `predicted`: the condition; `times`: (time,);
    `truth`: (time, gene); `mask`: (time, gene), true where a reading was held out; `members`: (member, time, gene),
    each kept start's prediction.
    """

    __repr__ = brief

    variant: str
    number: int
    fitted: str
    predicted: str
    times: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    members: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(time, gene), the ensemble's mean: the prediction that is scored."""
        return self.members.mean(axis=0)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `cross_condition` and `predict_splits` return: `predictions`; `fits`, whose groups are `problems` (what was
    fitted, network number with 0 the real one, and below 0 a variant of it: without its neural part for
    `cross_condition`, shuffled times for `predict_splits`); the `prior` at its centre."""

    predictions: tuple[Prediction, ...]
    fits: FitResult
    problems: tuple[tuple[str, int], ...]
    prior: ModelPrior

    def ensemble(self, fitted: str, network: int = 0) -> CellModel:
        """The kept starts of one problem, (member, ...)."""
        return self.fits.ensemble(self.problems.index((fitted, network)))


def predict_cultures(models: CellModel, data: Cultures, plan: FitPlan) -> np.ndarray:
    """Readings of every culture by every member, (member, culture, time, gene), from each culture's own first sample;
    NaN where a culture could not be solved."""
    return np.asarray(_predict(models, data.anonymous(), plan.settings()))


@eqx.filter_jit
def _predict(models: CellModel, data: Cultures, settings: Settings) -> Float[Array, "member culture time gene"]:
    def one(model: CellModel) -> Array:
        readings, outcome = trajectory_readings(resolve(model), data, settings)
        return jnp.where((outcome == Outcome.DONE)[:, None, None], readings, jnp.nan)

    return eqx.filter_vmap(one)(models)


def cross_condition(
    config: ModelConfig,
    network: Network,
    prior: KineticPrior,
    dataset: Dataset,
    plan: FitPlan,
    *,
    shuffles: int = 0,
    physics: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Fits each condition alone and predicts every other one from its own first sample; fits all conditions together as
    well.

    **Arguments:** `dataset`: one replicate (use `dataset.mean()`), two or more conditions; `shuffles`: number of
    shuffled networks fitted alike (a control), beside a model that was not fitted at all (`PRIOR_ONLY`); `physics`:
    whether the model without its neural residual is fitted alike too (`PHYSICS`): does that part earn its place?

    **Raises** `E_DATA_EMPTY` for fewer than two conditions, `E_USAGE` for `physics` of a model that has no neural part,
    and everything that `fit` raises.
    """
    if len(dataset.conditions) < 2:
        raise PinnsimError.of(
            "E_DATA_EMPTY",
            f"Predicting one condition from another needs two or more, but the data have {len(dataset.conditions)}; "
            "use held_out_blocks.",
        )
    real = build(config, network, prior)
    networks = {0: real} | {k: _rewired(real, config, network.shuffled(k), prior) for k in range(1, shuffles + 1)}
    if physics:
        networks[-1] = without_neural_part(real)
    data = cultures(dataset, real.center.table, substeps=plan.substeps)
    owner = _owner(dataset)
    problems = [(c, k) for c in (*dataset.conditions, ALL) for k in networks if c != ALL or k <= 0]
    training = [_counting(data, (owner == c) | (c == ALL)) for c, _ in problems]
    priors = [networks[k] for _, k in problems]
    fits = fit_groups(priors, training, plan, progress=progress, label="fits across conditions")
    predictions = []
    unfitted = predict_cultures(stack([real.center] * len(fits.indices(0))), data, plan)[:1]
    for condition in dataset.conditions:
        for number in networks:
            members = predict_cultures(fits.ensemble(problems.index((condition, number))), data, plan)
            variant = REAL if number == 0 else SHUFFLED if number > 0 else PHYSICS
            predictions += _predictions(variant, max(number, 0), condition, data, owner, members)
        predictions += _predictions(PRIOR_ONLY, 0, condition, data, owner, unfitted)
    return Evaluation(tuple(predictions), fits, tuple(problems), real)


def predict_splits(
    config: ModelConfig,
    network: Network,
    prior: KineticPrior,
    dataset: Dataset,
    plan: FitPlan,
    splits: Sequence[Split],
    *,
    shuffles: int = 0,
    shuffled_times: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Fits the training part of every split and predicts its test part, all splits and controls as lanes of one
    program. Every culture is predicted from its own first sample.

    **Arguments:** `dataset`: what the splits are parts of (any of `score.by_condition`, `by_arm`, `by_time_blocks`,
    `by_perturbation`, `by_drug`); `shuffles`: networks of equal degrees fitted alike; `shuffled_times`: fits to the
    same readings with the order of each culture's fitted samples drawn anew; beside them `PRIOR_ONLY`, not fitted.

    **Raises** `E_DATA_EMPTY` without splits, or for parts without a reading after the first sample,
    `E_SAMPLE_UNMATCHED` for splits of other data, and everything that `fit` raises.
    """
    real = build(config, network, prior)
    networks = [real] + [_rewired(real, config, network.shuffled(k + 1), prior) for k in range(shuffles)]
    data = cultures(dataset, real.center.table, substeps=plan.substeps)
    parts = _parts(dataset, data, splits)
    numbers = [*range(shuffles + 1), *range(-1, -shuffled_times - 1, -1)]
    problems = [(split.name, k) for split in splits for k in numbers]
    training = []
    for train, _ in parts:
        counting = eqx.tree_at(lambda d: d.mask, data, jnp.asarray(train))
        training += [_reordered(counting, -k) if k < 0 else counting for k in numbers]
    fits = fit_groups(
        [networks[max(k, 0)] for _, k in problems], training, plan, progress=progress, label="fits of splits"
    )
    unfitted = predict_cultures(stack([real.center] * len(fits.indices(0))), data, plan)[:1]
    predictions = []
    for split, (_, test) in zip(splits, parts, strict=True):
        for k in numbers:
            members = predict_cultures(fits.ensemble(problems.index((split.name, k))), data, plan)
            variant = REAL if k == 0 else SHUFFLED if k > 0 else SHUFFLED_TIME
            predictions += _scored(variant, abs(k), split.name, dataset, data, test, members)
        predictions += _scored(PRIOR_ONLY, 0, split.name, dataset, data, test, unfitted)
    return Evaluation(tuple(predictions), fits, tuple(problems), real)


def _parts(dataset: Dataset, data: Cultures, splits: Sequence[Split]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every split the readings of `data` that are fitted and tested, (culture, time, gene) each."""
    names = [split.name for split in splits]
    with Problems() as problems:
        if not splits:
            problems.add("E_DATA_EMPTY", "There is no split to predict; make some with pinnsim.score.")
        if len(set(names)) < len(names):
            problems.add("E_CONDITION_DUPLICATE", "Two splits have the same name; rename one.")
        found = []
        for split in splits:
            both = []
            for part, what in ((split.train, "fitted"), (split.test, "tested")):
                try:
                    both.append(_readings_of(part, dataset, data, split.name))
                except PinnsimError as error:
                    problems.absorb(error)
                    continue
                if not both[-1][:, 1:].any():
                    problems.add(
                        "E_DATA_EMPTY",
                        f"Split '{split.name}' has no {what} reading after the first samples, where cultures start.",
                    )
            found.append(tuple(both))
    return found  # type: ignore[return-value]


def _readings_of(part: Dataset, dataset: Dataset, data: Cultures, name: str) -> np.ndarray:
    rows, marks = measured_cultures(dataset), np.zeros(data.mask.shape, bool)
    lacking = [c for c in part.conditions if c not in dataset.conditions]
    if lacking or part.genes != dataset.genes or part.replicates != dataset.replicates:
        raise PinnsimError.of(
            "E_SAMPLE_UNMATCHED",
            f"Split '{name}' is not a part of this data set (conditions, genes or replicates differ"
            + (f"; first: {first(lacking)}" if lacking else "")
            + "); split the data set that is fitted.",
        )
    for culture, (c, r) in enumerate(rows):
        if dataset.conditions[c] not in part.conditions:
            continue
        here = part.conditions.index(dataset.conditions[c])
        mine, theirs = dataset.times[c, : dataset.length[c]], part.times[here, : part.length[here]]
        for k, time in enumerate(theirs):
            for t in np.flatnonzero(mine == time):
                marks[culture, t] = part.mask[here, r, k]
    return marks & np.asarray(data.mask)


def _reordered(data: Cultures, seed: int) -> Cultures:
    """The same cultures with their fitted samples, but for the first ones, at each other's times."""
    rng, readings = np.random.default_rng(seed), np.array(data.readings)
    mask, sd, exposure = np.array(data.mask), np.array(data.measured_sd), np.array(data.exposure)
    for culture in range(len(readings)):
        there = np.flatnonzero(mask[culture, 1:].any(axis=1)) + 1
        order = rng.permutation(there)
        for array in (readings, mask, sd, exposure):
            array[culture, there] = array[culture, order]
    arrays = [jnp.asarray(a) for a in (readings, mask, sd, exposure)]
    return eqx.tree_at(lambda d: (d.readings, d.mask, d.measured_sd, d.exposure), data, arrays)


def _scored(
    variant: str, number: int, fitted: str, dataset: Dataset, data: Cultures, test: np.ndarray, members: np.ndarray
) -> list[Prediction]:
    """Predictions of every culture with tested readings."""
    owner, found = _owner(dataset), []
    for culture in np.flatnonzero(test[:, 1:].any(axis=(1, 2))):
        mask = test[culture].copy()
        mask[0] = False
        times, truth = np.asarray(data.times[culture]), np.asarray(data.readings[culture])
        there = str(owner[culture])
        found.append(Prediction(variant, number, fitted, there, times, truth, mask, members[:, culture]))
    return found


def held_out_blocks(
    config: ModelConfig,
    network: Network,
    prior: KineticPrior,
    dataset: Dataset,
    plan: FitPlan,
    blocks: Sequence[tuple[float, float]],
    *,
    progress: bool = True,
) -> list[Prediction]:
    """Fits each condition alone without one block of times `low <= t <= high`, and predicts that block: for choosing
    between configurations without a look at other conditions.

    **Raises** `E_TIME_RANGE` for a block in which a condition has no reading after its first sample, and everything
    that `fit` raises.
    """
    real = build(config, network, prior)
    data = cultures(dataset, real.center.table, substeps=plan.substeps)
    owner = _owner(dataset)
    held = _held(data, blocks)
    problems = [(condition, k) for condition in dataset.conditions for k in range(len(blocks))]
    training = [_counting(data, owner == c, held[k]) for c, k in problems]
    fits = fit_groups([real] * len(problems), training, plan, progress=progress, label="fits without a time block")
    predictions = []
    for group, (condition, k) in enumerate(problems):
        members = predict_cultures(fits.ensemble(group), data, plan)
        for culture in np.flatnonzero(owner == condition):
            mask = np.asarray(data.mask[culture]) & held[k][culture][:, None]
            name = f"{condition} without {blocks[k][0]:g}-{blocks[k][1]:g}"
            times, truth = np.asarray(data.times[culture]), np.asarray(data.readings[culture])
            predictions.append(Prediction(REAL, 0, name, condition, times, truth, mask, members[:, culture]))
    return predictions


def _held(data: Cultures, blocks: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """For each block, which times it holds out, (culture, time); a first sample, where predictions start, never."""
    held = []
    with Problems() as problems:
        for low, high in blocks:
            inside = np.array((data.times >= low) & (data.times <= high))
            inside[:, 0] = False
            empty = ~(np.asarray(data.mask) & inside[:, :, None]).any(axis=(1, 2))
            if empty.any():
                lacking = first(data.names[culture] for culture in np.flatnonzero(empty))
                problems.add(
                    "E_TIME_RANGE",
                    f"The block {low:g}-{high:g} holds no reading after the first sample of {lacking}; choose times "
                    "that every culture has.",
                )
            held.append(inside)
    return held


def _owner(dataset: Dataset) -> np.ndarray:
    """The condition of every culture, (culture,)."""
    return np.array([dataset.conditions[c] for c, _ in measured_cultures(dataset)])


def _predictions(
    variant: str, number: int, fitted: str, data: Cultures, owner: np.ndarray, members: np.ndarray
) -> list[Prediction]:
    """Predictions of every culture of the other conditions, at all times after the first."""
    found = []
    for culture in np.flatnonzero(owner != fitted):
        mask = np.array(data.mask[culture])
        mask[0] = False
        times, truth = np.asarray(data.times[culture]), np.asarray(data.readings[culture])
        there = str(owner[culture])
        found.append(Prediction(variant, number, fitted, there, times, truth, mask, members[:, culture]))
    return found


def _counting(data: Cultures, chosen: np.ndarray, without: np.ndarray | None = None) -> Cultures:
    """The same cultures, of which only the readings of the chosen ones count, less those at the times in `without`,
    (culture, time)."""
    counts = np.array(data.mask) & chosen[:, None, None]
    if without is not None:
        counts &= ~without[:, :, None]
    return eqx.tree_at(lambda d: d.mask, data, jnp.asarray(counts))


def without_neural_part(prior: ModelPrior) -> ModelPrior:
    """The same model with its neural residual shut off for good: gate 0, and nothing of it free. The structure stays,
    so that both are lanes of one program.

    **Raises** `E_USAGE` where it has none.
    """
    if isinstance(prior.center.kinetics.residual, NoResidual):
        raise PinnsimError.of(
            "E_USAGE", "The model has no neural part to be left out; set residual = { kind = 'mlp' } to have one."
        )
    still = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, prior.spread.kinetics.residual
    )
    shut = jnp.full_like(prior.center.kinetics.residual.gate.raw, _SHUT)
    return eqx.tree_at(
        lambda p: (p.center.kinetics.residual.gate.raw, p.spread.kinetics.residual), prior, (shut, still)
    )


def _rewired(real: ModelPrior, config: ModelConfig, network: Network, prior: KineticPrior) -> ModelPrior:
    """A model with another network of equal degrees, in the real model's structure, so that both are lanes of one
    program. Edge names stay the real network's."""
    leaves = jax.tree.leaves(eqx.filter(build(config, network, prior), eqx.is_array))
    arrays, rest = eqx.partition(real, eqx.is_array)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
