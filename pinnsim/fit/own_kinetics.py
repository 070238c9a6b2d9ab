"""Fits of kinetic models as people write them: chosen constants, and one learned rate, to measured amounts.

    minimise  1/2 sum ((y - x(t; theta)) / sd)^2 + 1/2 |z|^2

z are the free numbers in widths of their prior: `k = k0 exp(spread z)` of a constant, `z` itself of the gate's log-odds
and, times `weight_sd`, of the network's weights, from where they began. Gauss-Newton with forward derivatives, so small
models with up to some hundred free numbers. Its curvature gives intervals and the evidence (Laplace):

    ln p(data | model) = -minimum - 1/2 ln det(I + J'J) + constants of the data,

by which the model with a learned rate is compared with the one without: that is what says whether it earns its place.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float
from scipy.stats import norm
from tqdm import tqdm

from pinnsim.data import Dataset
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.learned_rate import LearnedRate, as_written
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.fit.cultures import measured_cultures
from pinnsim.fit.least_squares import Minimum, Squares, least_squares, values
from pinnsim.parameter import is_parameter, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome
from pinnsim.simulate.solve import solve
from pinnsim.tree import named_shapes, path_name, replaced
from pinnsim.units import known_time_unit

_FAILED = 1e3  # standard deviations that a reading of a culture counts as that could not be solved

Free = dict[str, Any]


class _Given(eqx.Module):
    """What residuals need: the model at its prior, the data, and how both are read."""

    model: AbstractKinetics
    spread: dict[str, Array]
    weight_sd: Array
    times: Float[Array, "culture time"]
    readings: Float[Array, "culture time species"]
    sd: Float[Array, "culture time species"]
    mask: Array
    perturbations: Perturbation
    method: ODE
    which: tuple[int, ...] = eqx.field(static=True)


@dataclasses.dataclass(frozen=True)
class KineticFit:
    """A fitted kinetic model.

    **Arguments:** `kinetics`: the model, for `simulate`; `table`: a row per free constant (`value`, `low`, `high`,
    `prior`, `narrowed`: posterior over prior width, of the logarithm); `gate`: of the learned rate, NaN without one,
    and `gate_before`; `learned`: root mean square of the logarithm of the learned factor at the measured times;
    `misfit`: root mean square of residuals in standard deviations, near 1 where the model suits the data; `evidence`:
    see above, nats, to be compared between fits of the same data only; `steps`, `converged`, `interrupted`.
    """

    kinetics: AbstractKinetics
    table: pd.DataFrame
    gate: float
    gate_before: float
    learned: float
    misfit: float
    evidence: float
    steps: int
    converged: bool
    interrupted: bool
    _given: _Given
    _found: Minimum

    def __repr__(self) -> str:
        told = f"KineticFit: misfit {self.misfit:.2f} sd, evidence {self.evidence:.1f} nats"
        if np.isfinite(self.gate):
            told += f", gate {self.gate_before:.2f} -> {self.gate:.2f}, learned factor {np.exp(self.learned):.2f} (rms)"
        return told + ("" if self.converged else f", not converged in {self.steps} steps")

    def rate(
        self, reaction: str, species: str, amounts: ArrayLike, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rate of a reaction against the amount of a species, everything else as the model starts: lowest, fitted
        and highest, each (amount,), from the normal posterior of its logarithm."""
        back = ravel_pytree(self._found.parameters)[1]
        across = jnp.asarray(amounts, dtype=float)
        value, spread = _log_rates(
            jnp.asarray(self._found.vector), jnp.asarray(self._found.covariance), back, self._given, across,
            self.kinetics.table.require("reactions", reaction), self.kinetics.table.require("species", species),
        )  # fmt: skip
        reach = float(norm.ppf(0.5 + 0.5 * level))
        return tuple(np.exp(np.asarray(value + k * reach * spread)) for k in (-1, 0, 1))


def fit_kinetics(
    kinetics: AbstractKinetics,
    dataset: Dataset,
    free: Mapping[str, float],
    *,
    sd: float | None = None,
    weight_sd: float = 1.0,
    most: int = 60,
    level: float = 0.9,
    method: ODE | None = None,
    progress: bool = True,
) -> KineticFit:
    """Fits constants of a kinetic model, and its learned rate where it has one, to amounts in time.

    **Arguments:** `kinetics`: a reaction system, what `read_sbml` or `read_antimony` returns, or `learned_rate(...)` of
    these; every culture starts as the model says; `dataset`: amounts (`scale="linear"`), its `genes` being names of
    species, with a treatment per condition; `free`: constants that may move, and the prior standard deviation of their
    natural logarithm about the model's value: `{"Vmax": 1.0}` (0.7 is a factor of two); `sd`: measurement error, where
    the data do not say it; `weight_sd`: prior standard deviation of the network's weights; `most`: steps; `level`: of
    intervals; `method`: of the solver (default: rtol 1e-6, atol 1e-8).

    **Returns** a `KineticFit`. Deterministic. One program, compiled once per model and shape of the data.

    **Raises** `E_USAGE` for unknown or repeated names, `E_BOUNDS` for constants that are not > 0 and spreads that are
    not, `E_GENE_UNMATCHED`, `E_SCALE_MISMATCH`, `E_DATA_EMPTY` (no error is known), `E_FIT` where the model cannot be
    solved as it is.
    """
    names = _named(kinetics, free)
    readings, which = _readings(kinetics, dataset, sd)
    spread = {path: jnp.asarray(float(free[name])) for name, path in names.items()}
    method = ODE(1e-6, 1e-8) if method is None else method
    given = _Given(
        kinetics, spread, jnp.asarray(float(weight_sd)), *readings, method=method.forward_mode(), which=which
    )
    start: Free = {"constants": {path: jnp.zeros(()) for path in names.values()}}
    if isinstance(kinetics, LearnedRate):
        weights = eqx.filter(kinetics.network, eqx.is_inexact_array)
        start |= {"gate": jnp.zeros(()), "weights": jax.tree.map(jnp.zeros_like, weights)}
    with tqdm(total=most, desc="kinetics", unit="step", disable=None if progress else True) as bar:
        found = least_squares(_residuals, start, Squares(given, jnp.ones(())), most=most, bar=bar)
    ended = np.asarray(values(_residuals, found.parameters, given)).reshape(given.mask.shape)
    left = ended[np.asarray(given.mask)]
    if not np.isfinite(found.value) or (np.abs(left) >= _FAILED).all():
        raise PinnsimError.of(
            "E_FIT", "The model cannot be solved for these treatments; look at simulate(model, times, treatments)."
        )
    fitted = _moved(found.parameters, given)
    gate = float(fitted.gate.value) if isinstance(fitted, LearnedRate) else np.nan
    return KineticFit(
        kinetics=resolve(fitted),
        table=_table(names, given, found, level),
        gate=gate,
        gate_before=float(kinetics.gate.value) if isinstance(kinetics, LearnedRate) else np.nan,
        learned=float(_learned(found.parameters, given)) if isinstance(fitted, LearnedRate) else 0.0,
        misfit=float(np.sqrt((left**2).mean())),
        # The covariance is the inverse of I + J'J in prior widths.
        evidence=-found.value + 0.5 * float(np.linalg.slogdet(found.covariance)[1]),
        steps=found.steps,
        converged=found.converged,
        interrupted=found.interrupted,
        _given=given,
        _found=found,
    )


def _named(kinetics: AbstractKinetics, free: Mapping[str, float]) -> dict[str, str]:
    """The leaf that each name means: its last word, where only one leaf has it, or all of it."""
    inner = as_written(kinetics)
    leaves = jax.tree_util.tree_flatten_with_path(inner, is_leaf=is_parameter)[0]
    prefix = ""
    while isinstance(kinetics, LearnedRate):
        prefix, kinetics = prefix + "kinetics/", kinetics.kinetics
    scalars = {path: shape for path, shape in named_shapes(inner).items() if shape == ()}
    values = {path_name(path): leaf for path, leaf in leaves}
    short: dict[str, list[str]] = {}
    for path in scalars:
        short.setdefault(path.rpartition("/")[2], []).append(path)
    found: dict[str, str] = {}
    with Problems() as problems:
        if not free:
            problems.add("E_USAGE", 'Argument `free` names no constant; give {"k": 0.7}, or more.')
        for name, width in free.items():
            places = [name] if name in scalars else short.get(name, [])
            if len(places) != 1:
                told = f"is {len(places)} of the model's numbers" if places else "is none of the model's numbers"
                known = [key for key, paths in short.items() if len(paths) == 1]
                near = "" if places else did_you_mean(name, known)
                problems.add("E_USAGE", f"'{name}' {told}{near}; there are {first(places or known, 12)}.")
                continue
            value = float(np.asarray(values.get(places[0], np.nan)))
            if not (np.isfinite(value) and value > 0 and np.isfinite(width) and width > 0):
                problems.add(
                    "E_BOUNDS", f"'{name}' = {value:g} with spread {width:g}: both must be > 0 for a log-normal prior."
                )
            found[name] = prefix + places[0]
    return found


def _readings(
    kinetics: AbstractKinetics, dataset: Dataset, sd: float | None
) -> tuple[tuple[Array, Array, Array, Array, Perturbation], tuple[int, ...]]:
    """Times, readings, their errors, mask and perturbations of all cultures, and which species were read."""
    table, rows = kinetics.table, measured_cultures(dataset)
    missing = [gene for gene in dataset.genes if gene not in table.species]
    with Problems() as problems:
        if dataset.scale != "linear":
            problems.add("E_SCALE_MISMATCH", f"Amounts are fitted as they are: scale 'linear', not '{dataset.scale}'.")
        if missing:
            problems.add(
                "E_GENE_UNMATCHED",
                f"{len(missing)} names of the data are no species of the model (first: {first(missing)}); it has "
                f"{first(table.species, 8)}.",
            )
        # Files that do not say their unit of time mean that of whoever uses them.
        if known_time_unit(kinetics.time_unit) not in (None, dataset.time_unit):
            problems.add(
                "E_TIME_UNIT",
                f"The data are in {dataset.time_unit}, the model in {kinetics.time_unit}; give both the same unit.",
            )
        if sd is not None and not sd > 0:
            problems.add("E_BOUNDS", f"Argument `sd` is {sd}; a measurement error is > 0.")
    at = tuple(np.array(rows).T)
    mask = np.asarray(dataset.mask)[at]
    told = np.asarray(dataset.sd)[at]
    error = np.where(np.isfinite(told) & (told > 0), told, np.nan if sd is None else sd)
    if np.isnan(error[mask]).any():
        raise PinnsimError.of(
            "E_DATA_EMPTY", "The data do not say the error of every reading; give it as `sd`, in their unit."
        )
    arrays = (
        jnp.asarray(np.asarray(dataset.times)[at[0]], dtype=float),
        jnp.asarray(np.where(mask, np.asarray(dataset.values)[at], 0.0), dtype=float),
        jnp.asarray(np.where(mask, error, 1.0), dtype=float),
        jnp.asarray(mask),
        Perturbation.stack([dataset.treatments[c].resolve(table) for c, _ in rows]),
    )
    return arrays, tuple(table.require("species", gene) for gene in dataset.genes)


def _moved(parameters: Free, given: _Given) -> AbstractKinetics:
    """The model at these free numbers, not resolved."""
    base = given.model
    arrays = {
        path_name(path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(eqx.filter(base, eqx.is_array))[0]
        if path_name(path) in given.spread
    }
    moved = {
        path: value * jnp.exp(given.spread[path] * parameters["constants"][path]) for path, value in arrays.items()
    }
    model = replaced(base, moved)
    if not isinstance(model, LearnedRate):
        return model
    weights, rest = eqx.partition(model.network, eqx.is_inexact_array)
    weights = jax.tree.map(lambda w, z: w + given.weight_sd * z, weights, parameters["weights"])
    raw = model.gate.raw + parameters["gate"]
    return eqx.tree_at(lambda m: (m.network, m.gate.raw), model, (eqx.combine(weights, rest), raw))


def _courses(model: AbstractKinetics, given: _Given) -> tuple[Array, Array]:
    """States of all cultures, (culture, time, species), and their outcomes."""
    begin = model.default_state()

    def one(times: Array, perturbation: Perturbation) -> tuple[Array, Array]:
        solution = solve(model, times, perturbation, begin, given.method)
        return solution.states, solution.outcome

    return jax.vmap(one)(given.times, given.perturbations)


def _residuals(parameters: Free, given: _Given) -> Array:
    states, outcome = _courses(resolve(_moved(parameters, given)), given)
    done = (outcome == Outcome.DONE)[:, None, None]
    seen = jnp.where(done, states[:, :, jnp.asarray(given.which)], given.readings)
    left = jnp.where(given.mask, jnp.where(done, (seen - given.readings) / given.sd, _FAILED), 0.0)
    return jnp.ravel(left)


@eqx.filter_jit
def _learned(parameters: Free, given: _Given) -> Array:
    """Root mean square of the learned log factor where the data are."""
    model = resolve(_moved(parameters, given))
    assert isinstance(model, LearnedRate)
    states, _ = _courses(model, given)
    logs = jax.vmap(jax.vmap(model.log_factor))(states)
    counted = jnp.any(given.mask, axis=2)
    return jnp.sqrt(jnp.sum(jnp.where(counted, logs**2, 0.0)) / jnp.sum(jnp.where(counted, 1.0, 0.0)))


@eqx.filter_jit
def _log_rates(
    vector: Array, covariance: Array, back: Callable, given: _Given, amounts: Array, column: int, row: int
) -> tuple[Array, Array]:
    """Logarithm of a rate at each amount of one species, and its standard deviation to first order."""
    none = Perturbation.none(given.model.table)

    def logs(free: Array) -> Array:
        model = resolve(_moved(back(free), given))
        states = jnp.tile(model.default_state(), (amounts.shape[0], 1)).at[:, row].set(amounts)
        rates = jax.vmap(lambda state: model.propensities(jnp.zeros(()), state, none)[column])(states)
        return jnp.log(jnp.maximum(rates, jnp.finfo(rates.dtype).tiny))

    slopes = jax.jacfwd(logs)(vector)
    return logs(vector), jnp.sqrt(jnp.maximum(jnp.einsum("ap,pq,aq->a", slopes, covariance, slopes), 0.0))


def _table(names: dict[str, str], given: _Given, found: Minimum, level: float) -> pd.DataFrame:
    """A row per free constant."""
    wide = np.sqrt(np.diag(found.covariance))
    back = ravel_pytree(found.parameters)[1]
    width = back(jnp.asarray(wide))["constants"]
    before = {path_name(p): leaf for p, leaf in jax.tree_util.tree_flatten_with_path(given.model)[0]}
    reach = float(norm.ppf(0.5 + 0.5 * level))
    rows = []
    for name, path in names.items():
        prior, spread = float(before[path]), float(given.spread[path])
        z, sd = float(found.parameters["constants"][path]), float(width[path])
        low, value, high = (prior * np.exp(spread * (z + k * reach * sd)) for k in (-1, 0, 1))
        rows.append({"constant": name, "prior": prior, "value": value, "low": low, "high": high, "narrowed": sd})
    return pd.DataFrame(rows)
