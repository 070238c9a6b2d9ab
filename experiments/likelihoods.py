"""Do likelihoods say what scipy says, and are readings that no likelihood can take told by their codes?

Every likelihood, by random draws over the ranges in which people use it: the largest difference of any log density from
scipy's, as a share of the density's size where that is above 1.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float

from pinnsim import shelf
from pinnsim.data import Dataset
from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError, PinnsimWarning
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import populations
from pinnsim.observation import (
    AbstractLikelihood,
    Censored,
    Correlated,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflated,
)
from pinnsim.plot import save
from pinnsim.plot.acceptance import acceptance_dots

SMOKE: dict[str, Any] = {"draws": 50}
TIMES, LIMIT, LOST, DF = 6, 33.0, 0.15, 4.0
ALONE = 7.0  # a time at which one cell was taken
Draws = Float[np.ndarray, "time draw"]


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Every row, and their picture."""
    rng = np.random.default_rng(plan["seeds"][0])
    rows = [
        Acceptance(f"{name}: largest difference from scipy", difference(*case), 1e-10)
        for name, case in cases(rng, plan["draws"]).items()
    ]
    told = {what: codes_of(attempt) for what, (attempt, _) in BAD.items()}
    rows += [
        Acceptance(f"{what}: told as {code}", int(told[what] == code), 1, "higher") for what, (_, code) in BAD.items()
    ]
    save(acceptance_dots(rows, "Likelihoods beside scipy; bad readings"), out / "likelihoods.png")
    return Findings({"draws of each": TIMES * plan["draws"], "bad readings": told}, {}, tuple(rows))


Case = tuple[AbstractLikelihood, Draws, Draws, Draws, np.ndarray]


def cases(rng: np.random.Generator, draws: int) -> dict[str, Case]:
    """Each likelihood with readings, predictions, their measured errors and scipy's log density of every column."""
    shape = (TIMES, draws)
    sd, alpha = (np.exp(rng.uniform(*np.log(ends), draws)) for ends in ((1e-2, 3.0), (1e-3, 10.0)))
    measured = np.where(rng.random(shape) < 0.5, rng.uniform(0.05, 0.5, shape), 0.0)
    width = np.hypot(sd, measured)
    center = rng.normal(8.0, 3.0, shape)
    near = center + width * rng.standard_t(DF, shape)
    means = np.exp(rng.uniform(np.log(1e-3), np.log(1e4), shape))
    poisson = rng.poisson(means).astype(float)
    counts = rng.negative_binomial(1 / alpha, 1 / (1 + alpha * means)).astype(float)
    plain = scipy.stats.nbinom.logpmf(counts, 1 / alpha, 1 / (1 + alpha * means))
    kept = np.log1p(-LOST) + plain
    amounts = means * np.exp(sd * rng.normal(size=shape))
    own = np.hypot(sd, measured / amounts)
    cycles = rng.normal(30.0, 4.0, shape)
    stopped = np.minimum(cycles + width * rng.normal(size=shape), LIMIT)
    seen = np.where(
        stopped < LIMIT, scipy.stats.norm.logpdf(stopped, cycles, width), scipy.stats.norm.logsf(LIMIT, cycles, width)
    )
    none = np.zeros(shape)
    correlated = Correlated(*(jnp.asarray(v) for v in (sd, DF, 0.8, 0.25, 30.0, 20.0)))
    return {
        "Gaussian": (Gaussian(jnp.asarray(sd)), near, center, measured, scipy.stats.norm.logpdf(near, center, width)),
        "Student-t": (
            StudentT(jnp.asarray(sd), jnp.asarray(DF)),
            near,
            center,
            measured,
            scipy.stats.t.logpdf(near, DF, center, width),
        ),
        "correlated Student-t": (correlated, near, center, measured, correlated_log(sd, near, center, measured)),
        "Poisson": (Poisson(), poisson, means, none, scipy.stats.poisson.logpmf(poisson, means)),
        "negative binomial": (NegativeBinomial(jnp.asarray(alpha)), counts, means, none, plain),
        "zero-inflated": (
            ZeroInflated(jnp.asarray(alpha), jnp.asarray(LOST)),
            counts,
            means,
            none,
            np.where(counts > 0, kept, np.logaddexp(np.log(LOST), kept)),
        ),
        "log-normal": (
            LogNormal(jnp.asarray(sd)),
            amounts,
            means,
            measured,
            scipy.stats.lognorm.logpdf(amounts, own, scale=means),
        ),
        "censored": (Censored(jnp.asarray(sd), jnp.asarray(LIMIT)), stopped, cycles, measured, seen),
    }


def correlated_log(sd: np.ndarray, readings: Draws, predictions: Draws, measured: Draws) -> np.ndarray:
    """scipy's multivariate Student-t over the times of each draw, (draw,)."""
    times = np.arange(TIMES, dtype=float)
    error = 0.8 * np.exp(-times / 30.0) + 0.25
    kernel = np.outer(error, error) * np.exp(-np.abs(times[:, None] - times) / 20.0)
    return np.array(
        [
            scipy.stats.multivariate_t.logpdf(
                readings[:, k],
                loc=predictions[:, k],
                shape=kernel + np.diag(np.where(measured[:, k] > 0, measured[:, k], sd[k]) ** 2),
                df=DF,
            )
            for k in range(readings.shape[1])
        ]
    )


def difference(
    likelihood: AbstractLikelihood, readings: Draws, predictions: Draws, measured: Draws, exact: np.ndarray
) -> float:
    """The largest difference of a log density: of every draw where draws are independent, else of every column."""

    def of_one(reading: jax.Array, prediction: jax.Array, error: jax.Array) -> jax.Array:
        times = jnp.arange(reading.shape[0], dtype=float)
        return likelihood.log_density(times, reading, prediction, jnp.ones_like(reading, dtype=bool), error)

    shape = (-1, 1, readings.shape[1]) if exact.ndim == 2 else (1, *readings.shape)
    arrays = (jnp.asarray(array.reshape(shape)) for array in (readings, predictions, measured))
    got = np.asarray(jax.jit(jax.vmap(of_one))(*arrays)).reshape(exact.shape)
    return float(np.max(np.abs(got - exact) / np.maximum(1.0, np.abs(exact))))


def codes_of(attempt: Callable[[], Any]) -> str:
    """The codes with which something is refused or warned of; "taken" where it is neither."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", PinnsimWarning)
        try:
            attempt()
        except PinnsimError as error:
            return " ".join(sorted(set(error.codes)))
    return " ".join(sorted({str(warning.message).split(":")[0] for warning in told})) or "taken"


def bulk(change: Callable[[np.ndarray], Any], **declared: Any) -> Callable[[], Any]:
    """Bulk counts of two genes in two conditions, changed in place."""

    def build() -> Dataset:
        values = np.random.default_rng(0).poisson(40.0, (2, 1, 4, 2)).astype(float)
        change(values)
        return Dataset.build(
            values, [0.0, 1.0, 2.0, 3.0], ("a", "b"), ("c", "d"), **{"time_unit": "h", "scale": "counts", **declared}
        )

    return build


def cells(change: Callable[[np.ndarray], Any], sampled: Sequence[float] = (0.0, 1.0), **declared: Any) -> Any:
    """Twelve single cells with counts of two genes at each time, changed in place."""

    def build() -> Snapshots:
        times = np.repeat(sampled, [1 if time == ALONE else 12 for time in sampled])
        values = np.random.default_rng(0).poisson(5.0, (len(times), 2)).astype(float)
        change(values)
        return Snapshots.build(
            values, times, ("a", "b"), ("mrna",), **{"time_unit": "h", "scale": "counts", **declared}
        )

    return build


def nothing(values: np.ndarray) -> None:
    """Readings as they are."""


def put(where: Any, value: float) -> Callable[[np.ndarray], Any]:
    """Readings with something else in one place."""
    return lambda values: values.__setitem__(where, value)


def no_cells() -> Any:
    """Of two conditions, one without cells at its first time, to a fit."""
    both = Snapshots.build(
        np.random.default_rng(0).poisson(5.0, (24, 2)).astype(float),
        np.repeat([0.0, 1.0], 12),
        ("a", "b"),
        ("mrna",),
        time_unit="h",
        scale="counts",
    )
    table = shelf.load("toggle_switch").model.table
    empty = dataclasses.replace(both, there=both.there & (both.times != 0.0)[:, :, None], genes=("u", "v"))
    return populations(empty, table, cells=4)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "bulk counts as they should be": (bulk(nothing), "taken"),
    "bulk counts with NaN": (bulk(put((0, 0, 1, 0), np.nan)), "E_DATA_NONFINITE"),
    "negative bulk counts": (bulk(put((0, 0, 1, 0), -2.0)), "E_DATA_NEGATIVE"),
    "a gene without a count": (bulk(put((..., 1), 0.0)), "W_GENE_CONSTANT"),
    "log values called counts": (bulk(lambda v: v.__itruediv__(9.7)), "E_SCALE_MISMATCH"),
    "a condition never read": (bulk(put(0, np.nan), missing="mask"), "E_DATA_EMPTY"),
    "cells as they should be": (cells(nothing), "taken"),
    "cells with NaN": (cells(put((0, 0), np.nan)), "E_DATA_NONFINITE"),
    "cells with negative counts": (cells(put((0, 0), -1.0)), "E_DATA_NEGATIVE"),
    "cells without a count of one gene": (cells(put((..., 1), 0.0)), "W_GENE_CONSTANT"),
    "log values of cells called counts": (cells(lambda v: v.__itruediv__(9.7)), "E_SCALE_MISMATCH"),
    "a condition without cells": (no_cells, "E_DATA_EMPTY"),
    "a time with one cell": (cells(nothing, (0.0, ALONE)), "W_CELLS_FEW"),
}


if __name__ == "__main__":
    raise SystemExit(main(__file__))
