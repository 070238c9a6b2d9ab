"""Judgement of an evaluation: the model beside every baseline and control, in both directions, win or lose."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import cultures
from pinnsim.fit.evaluate import (
    ALL,
    PHYSICS,
    PRIOR_ONLY,
    REAL,
    SHUFFLED,
    Evaluation,
    Prediction,
    without_neural_part,
)
from pinnsim.fit.free import free_vector
from pinnsim.fit.laplace import laplace
from pinnsim.fit.plan import FitPlan
from pinnsim.parameter import resolve
from pinnsim.score import (
    Comparison,
    Coverage,
    Entry,
    Interval,
    ScoreTable,
    arms,
    baseline_entries,
    by_arm,
    compare,
    coverage_of_normal,
    difference_interval,
    rmse,
    rmse_interval,
    score_table,
    stacked,
    standard_baselines,
)
from pinnsim.score.metrics import LEVEL
from pinnsim.tree import lane

_KINDS = {REAL: "model", PHYSICS: "model", PRIOR_ONLY: "control", SHUFFLED: "control"}


@dataclasses.dataclass(frozen=True)
class NeuralPart:
    """Does the neural residual earn its place? In one direction: held-out RMSE of the model `whole` and of the same
    model fitted `without` it; `saved`: how much lower the whole one's is, a paired bootstrap over genes; `evidence`:
    log evidence of the fit to all conditions, whole less without, in nats (NaN where it was not computed)."""

    direction: str
    whole: float
    without: float
    saved: Interval
    evidence: float
    unit: str

    @property
    def earned(self) -> bool:
        """Whether held-out readings are predicted better with it, beyond the bootstrap interval."""
        return self.saved.lo > 0

    def sentence(self) -> str:
        """The verdict in words."""
        verdict = "does not earn its place: held-out readings do not tell it apart from physics alone"
        if self.earned:
            verdict = "earns its place: held-out readings are predicted better with it"
        elif self.saved.hi < 0:
            verdict = "does harm: held-out readings are predicted better without it"
        numbers = (
            f"RMSE {self.whole:.3f} with, {self.without:.3f} without, saved {self.saved.value:+.3f} {self.unit}, "
            f"{LEVEL:.0%} interval {self.saved.lo:+.3f} to {self.saved.hi:+.3f}"
        )
        if np.isfinite(self.evidence):
            side = "for" if self.evidence > 0 else "against"
            numbers += f"; evidence of the fit to all conditions: {abs(self.evidence):.1f} nats {side} it"
        return f"{self.direction}: the neural part {verdict} ({numbers})."


def neural_part(
    evaluation: Evaluation,
    dataset: Dataset,
    plan: FitPlan | None = None,
    *,
    most: int = 2000,
    progress: bool = True,
) -> tuple[NeuralPart, ...]:
    """The neural residual on trial, one verdict per direction: by held-out skill, which decides, and beside it by the
    normal approximation's evidence.

    **Arguments:** `evaluation`: of `cross_condition(..., physics=True)`; `dataset`: what was fitted; `plan`: the fit's,
    where the evidence is wanted as well; `most`: free parameters up to which it is computed.

    **Raises** `E_USAGE` where the model without its neural part was not fitted.
    """
    if not any(p.variant == PHYSICS for p in evaluation.predictions):
        raise PinnsimError.of(
            "E_USAGE", "The model was not fitted without its neural part; give cross_condition(..., physics=True)."
        )
    gain = _evidence_gain(evaluation, dataset, plan, most, progress) if plan is not None else float("nan")
    found = []
    for split in by_arm(dataset):
        truth = arms(split.test)[0]
        here = {p.variant: p for p in evaluation.predictions if split.name == f"{p.fitted} -> {p.predicted}"}
        whole, without = (compare(here[variant].mean, truth) for variant in (REAL, PHYSICS))
        saved = difference_interval(without, whole)
        found.append(NeuralPart(split.name, rmse(whole), rmse(without), saved, gain, dataset.scale))
    return tuple(found)


def _evidence_gain(evaluation: Evaluation, dataset: Dataset, plan: FitPlan, most: int, progress: bool) -> float:
    """Log evidence of the model fitted to all conditions less that of the model without its neural part."""
    table = evaluation.prior.center.table
    data = cultures(dataset, table, substeps=plan.substeps)
    priors = {0: evaluation.prior, -1: without_neural_part(evaluation.prior)}
    if len(free_vector(evaluation.prior.center, evaluation.prior).names) > most:
        return float("nan")
    whole, without = (
        laplace(lane(evaluation.ensemble(ALL, k), 0), priors[k], data, plan, progress=progress).evidence
        for k in (0, -1)
    )
    return whole - without


def judge(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    late: float | None = None,
    relaxation: float | None = None,
    name: str = "",
) -> ScoreTable:
    """Scores predictions across conditions.

    **Arguments:** `dataset`: what was fitted (one replicate); `late`, `relaxation`: settings of the relaxation
    baselines in the data's time unit; `name`: of the data, for the title.
    """
    baselines = standard_baselines(dataset.time_unit, late, relaxation)
    entries: list[Entry] = []
    for split in by_arm(dataset):
        truth = arms(split.test)[0]
        here = [p for p in evaluation.predictions if split.name == f"{p.fitted} -> {p.predicted}"]
        for variant, kind in _KINDS.items():
            scored = [compare(p.mean, truth) for p in here if p.variant == variant]
            if scored:
                entries.append(Entry.of(variant, kind, split.name, scored[0] if kind == "model" else scored))
        entries += baseline_entries(split, baselines)
    return score_table(entries, unit=dataset.scale, data=name, simulated=dataset.simulated)


def coverage(evaluation: Evaluation, predictions: Sequence[Prediction]) -> Coverage:
    """Coverage of the model's predictive intervals over several predictions: spread of the members, model error and
    measurement error together, as normal."""
    likelihood = resolve(evaluation.prior.center.observation.likelihood)
    means, sds, truths, masks = [], [], [], []
    for p in predictions:
        error = np.asarray(likelihood.standard_deviation(jnp.asarray(p.times), jnp.asarray(p.mean)))
        means.append(p.mean[1:])
        sds.append(np.sqrt(error**2 + p.members.var(axis=0))[1:])
        truths.append(p.truth[1:])
        masks.append(p.mask[1:])
    mean, sd, truth, mask = (np.concatenate(parts) for parts in (means, sds, truths, masks))
    return coverage_of_normal(mean, sd, truth, mask)


def block_score(predictions: Sequence[Prediction]) -> tuple[float, float]:
    """RMSE over held-out time blocks and its bootstrap standard error over genes."""
    parts = [
        Comparison("roll-out", p.times, p.mean, p.truth, np.broadcast_to(p.truth[0], p.truth.shape).copy(), p.mask)
        for p in predictions
    ]
    pooled = stacked(parts)
    band = rmse_interval(pooled)
    # A 95 % interval of a nearly normal statistic is 3.92 standard errors wide.
    return rmse(pooled), (band.hi - band.lo) / 3.92
