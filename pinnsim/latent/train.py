"""`fit_latent`: snapshots in; encoder, decoder and a landscape of embeddings, trained together, out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from pinnsim.data.snapshots import Snapshots
from pinnsim.distance import AbstractDistance, Energy
from pinnsim.errors import Problems
from pinnsim.fit.network import alone, train_network
from pinnsim.fit.optimise import CHUNK, evaluate
from pinnsim.fit.plan import FitPlan
from pinnsim.latent.cells import Cells, cells_of, check_scale, features_of, taken
from pinnsim.latent.collapse import Spread, spread_of, warn_collapse
from pinnsim.latent.domain import domain_of
from pinnsim.latent.learn import TERMS, Followed, Source, embeddings_of, latent_loss
from pinnsim.latent.model import LatentModel
from pinnsim.latent.network import Anchor, LatentNetwork, latent_network
from pinnsim.latent.plan import LatentPlan
from pinnsim.tree import brief

_READS = "cells"  # what the loss predicts
_LEAST_HELD = 2  # cells of a population that stay for training, and calibration cells in all


@dataclasses.dataclass(frozen=True)
class LatentFit:
    """A trained latent model.

    **Arguments:** `model`; `spread`: of the training cells' embeddings, with the verdict on collapse; `terms`: each
    term of the loss before and after training, unweighted; `history`: (chunk,), the loss; `interrupted`: whether Ctrl-C
    ended it.
    """

    __repr__ = brief

    model: LatentModel
    spread: Spread
    terms: pd.DataFrame
    history: np.ndarray
    interrupted: bool


def fit_latent(
    snapshots: Snapshots,
    plan: LatentPlan | None = None,
    *,
    inputs: Sequence[str] = (),
    anchor: Anchor | None = None,
    distance: AbstractDistance | None = None,
    followed: bool = False,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> LatentFit:
    """Trains an encoder, a decoder and a landscape of embeddings on populations at several times.

    The loss is in the first lines of `pinnsim.latent.learn`.

    **Arguments:** `snapshots`: of counts (negative binomial, size factors from `exposure`) or logarithms (normal);
    `inputs`: names of the signals that treatments give; `anchor`: what a kinetic model says, from `kinetic_anchor`;
    `distance`: of predicted and seen embeddings (default: energy distance, pairs of a cell with itself left out);
    `followed`: cell k of every time of a condition is the same cell (time lapse), predicted one by one, without noise;
    `checkpoint`: a path; `<path>.latent.safetensors` is written during the training, and the same training goes on
    from it, to the same numbers as without the interruption.

    **Returns** a `LatentFit`. **Warns** `W_LATENT_COLLAPSED` where the embeddings no longer tell cells apart.

    **Raises** together `E_SCALE_MISMATCH`, `E_TIME_FEW` where no condition has two populations, `E_DATA_EMPTY` for
    fewer than 8 cells, `E_DATA_SHAPE` for followed cells that are not equally many and anchors of other readings,
    `E_USAGE`; `E_PERTURB_...` for treatments that give more than signals; `E_CKPT_MODEL` and `E_CKPT_CORRUPT` for the
    checkpoint of another training or a damaged one.
    """
    plan = LatentPlan() if plan is None else plan
    cells = cells_of(snapshots)
    with Problems() as problems:
        counted = bool(problems.attempt(lambda: check_scale(snapshots.scale)))
        _check(problems, snapshots, cells, plan, anchor, followed)
    training, held = _parted(cells, plan, followed)
    features = features_of(training.values, training.exposure, counted)
    untrained = latent_network(
        features,
        (training.values / training.exposure[:, None]).mean(axis=0),
        float(np.ptp(training.time)),
        dimension=plan.dimension,
        width=plan.width,
        depth=plan.depth,
        counted=counted,
        swirl=plan.swirl,
        inputs=tuple(inputs),
        anchor=anchor,
        time_unit=snapshots.time_unit,
        key=jax.random.key(plan.seed),
    )
    acting = [treatment.resolve(untrained.field.table) for treatment in snapshots.treatments]
    within = Followed() if followed else Energy(unbiased=True) if distance is None else distance
    source = Source(training, untrained, acting, plan, within)
    schedule = FitPlan(seed=plan.seed, learning_rate=plan.learning_rate)
    network, history, interrupted = train_network(
        untrained, latent_loss, source.batch, schedule, plan.steps, name="latent", reads=_READS,
        told=plan.model_dump_json(), checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    # One chunk that training never saw, the same before and after.
    terms = _terms(untrained, network, source.batch(CHUNK * (plan.steps + 1)), plan, schedule)
    embeddings = embeddings_of(network, features)
    spread = spread_of(embeddings)
    warn_collapse(spread)
    domain = domain_of(network, training, embeddings, held, plan.neighbours, plan.seed)
    model = LatentModel(network, domain, cells.readings, snapshots.scale, snapshots.time_unit, plan)
    return LatentFit(model, spread, terms, history, interrupted)


def _terms(before: LatentNetwork, after: LatentNetwork, data: Any, plan: LatentPlan, schedule: FitPlan) -> pd.DataFrame:
    """A row per term of the loss: its weight, and its value before and after training, of the same data."""
    both = [
        evaluate(*alone(network, data), schedule.settings(), _READS, latent_loss).terms for network in (before, after)
    ]
    return pd.DataFrame(
        {
            "term": TERMS,
            "weight": [getattr(plan, name) for name in TERMS],
            "before": [float(both[0][name][0]) for name in TERMS],
            "after": [float(both[1][name][0]) for name in TERMS],
        }
    )


def _parted(cells: Cells, plan: LatentPlan, followed: bool) -> tuple[Cells, Cells]:
    """Cells to train on, and those that calibrate: the same share of every population, the same cells where they were
    followed."""
    held = np.zeros(len(cells.time), bool)
    for number, (c, t) in enumerate(sorted(set(zip(cells.condition.tolist(), cells.time.tolist(), strict=True)))):
        rows = np.flatnonzero((cells.condition == c) & (cells.time == t))
        rng = np.random.default_rng([plan.seed, 6, c if followed else number])
        count = min(max(int(plan.held * len(rows)), 1), len(rows) - _LEAST_HELD)
        held[rows[rng.permutation(len(rows))[: max(count, 0)]]] = True
    return taken(cells, ~held), taken(cells, held)


def _check(
    problems: Problems, snapshots: Snapshots, cells: Cells, plan: LatentPlan, anchor: Anchor | None, followed: bool
) -> None:
    counts = snapshots.cells()
    if not ((counts > 0).sum(axis=1) >= 2).any():
        problems.add("E_TIME_FEW", "No condition has cells at two times; a latent model needs populations that move.")
    if len(cells.time) < 8 or counts[counts > 0].min() < 3:
        problems.add("E_DATA_EMPTY", f"{len(cells.time)} cells are too few; give 8 or more, 3 of every population.")
    if plan.dimension > len(cells.readings):
        problems.add(
            "E_USAGE", f"A dimension of {plan.dimension} exceeds the {len(cells.readings)} readings; lower it."
        )
    if anchor is not None and anchor.nodes.value.shape[1:] != (len(cells.readings),):
        problems.add(
            "E_DATA_SHAPE",
            f"The anchor {anchor.nodes.value.shape} must be (node, {len(cells.readings)}); make it with the snapshots' "
            "readings.",
        )
    if followed and any(len(set(row[row > 0].tolist())) > 1 for row in counts):
        problems.add("E_DATA_SHAPE", "Cells that were followed must be equally many at all times of a condition.")
