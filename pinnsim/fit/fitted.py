"""Fitted courses as a table, gene by gene, with intervals.

The interval of a reading is the normal one of all that parts it from the fitted course,

    sd^2 = sd_measurement^2 + var over members of the fitted course,

with the observation's own standard deviation (and the measured one where the fit uses it). Members are draws from the
posterior, or kept starts where there is none.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.stats import norm

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import Cultures, measured_cultures
from pinnsim.fit.evaluate import predict_cultures
from pinnsim.fit.objective import scored_readings
from pinnsim.fit.plan import FitPlan
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.tree import brief, lane

LEVEL = 0.9


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Courses of a fit at the samples' times.

    **Arguments:** `courses`: (member, culture, time, gene), the kept starts, best first; `table`: a row per reading
    that could be made (culture, time and gene): `condition`, `replicate`, `gene`, `time`, `measured` (NaN where there
    is none), `samples`, `scored` (whether it counts: a first sample that the model starts from does not), `fitted`,
    `lo`, `hi`; `members`: how many the interval's spread was taken over.
    """

    __repr__ = brief

    courses: np.ndarray
    table: pd.DataFrame
    members: int


def fitted_courses(
    models: CellModel,
    data: Cultures,
    dataset: Dataset,
    plan: FitPlan,
    *,
    draws: CellModel | None = None,
    level: float = LEVEL,
) -> Fitted:
    """Solves the fitted cultures once more, for the best start's course and its intervals.

    **Arguments:** `models`: (member, ...), kept starts, best first; `data`: cultures of `dataset`; `draws`: (draw,
    ...), of the posterior at the best start (`Laplace.sample`); `level`: of the intervals.

    **Raises** `E_USAGE` for a level that is none.
    """
    if not 0.0 < level < 1.0:
        raise PinnsimError.of("E_USAGE", f"level={level} must lie between 0 and 1.")
    kept = len(jax.tree.leaves(eqx.filter(models, eqx.is_array))[0])
    # One program for both, compiled once.
    every = models if draws is None else jax.tree.map(_joined, models, draws)
    readings = predict_cultures(every, data, plan)
    courses, spread = readings[:kept], readings[kept if draws is not None else 0 :]
    best = courses[0]
    good = np.isfinite(spread).all(axis=(1, 2, 3))
    variance = spread[good].var(axis=0) if good.sum() > 1 else np.zeros_like(best)
    likelihood = resolve(lane(models, 0)).observation.likelihood
    deviation = jax.vmap(likelihood.standard_deviation)(data.times, jnp.asarray(best))
    width = np.sqrt(np.asarray(deviation) ** 2 + np.asarray(data.measured_sd) ** 2 + variance)
    half = float(norm.ppf(0.5 + 0.5 * level)) * np.where(np.isfinite(width), width, np.nan)
    low = best - half
    return Fitted(
        courses,
        _table(data, dataset, plan, best, low if dataset.scale == "log2" else np.maximum(low, 0.0), best + half),
        int(good.sum()),
    )


def _table(
    data: Cultures, dataset: Dataset, plan: FitPlan, best: np.ndarray, low: np.ndarray, high: np.ndarray
) -> pd.DataFrame:
    rows = measured_cultures(dataset)
    real = np.arange(best.shape[1]) < np.array([dataset.length[c] for c, _ in rows])[:, None]
    k, t, g = np.nonzero(np.broadcast_to(real[:, :, None], best.shape))
    at = (k, t, g)
    measured = np.where(np.asarray(data.mask), np.asarray(data.readings), np.nan)
    samples = np.stack([np.asarray(dataset.samples)[c, r] for c, r in rows])
    return pd.DataFrame(
        {
            "condition": np.array([dataset.conditions[c] for c, _ in rows], dtype=object)[k],
            "replicate": np.array([dataset.replicates[r] for _, r in rows], dtype=object)[k],
            "gene": np.array(dataset.genes, dtype=object)[g],
            "time": np.asarray(data.times)[k, t],
            "measured": measured[at],
            "samples": samples[at],
            "scored": np.asarray(scored_readings(data, plan.settings()))[at],
            "fitted": best[at],
            "lo": low[at],
            "hi": high[at],
        }
    )


def _joined(first: Any, second: Any) -> Any:
    return jnp.concatenate([first, second]) if eqx.is_array(first) else first
