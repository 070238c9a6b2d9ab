"""Global sensitivity: which rates move a quantity, over their whole ranges, by the designs and estimators of SALib.

With the parameters independent over their ranges or priors, Sobol's indices split the variance of a quantity Y,

    S1_i = Var(E[Y | x_i]) / Var(Y),        ST_i = 1 - Var(E[Y | all but x_i]) / Var(Y),

(alone, and with all interactions); Morris's elementary effects are finite differences along random walks over a grid
of the unit cube: `mu_star`, the mean of their sizes, ranks parameters; `sigma`, their spread, shows interactions.
Samples are drawn in the unit cube and carried to the parameters by their quantiles (priors from 0.5 % to 99.5 %), and
are all evaluated by one compiled program, chunk by chunk.

Sources: I. M. Sobol, Math. Comput. Simul. 55:271 (2001); A. Saltelli et al., Comput. Phys. Commun. 181:259 (2010);
M. D. Morris, Technometrics 33:161 (1991); T. Iwanaga, W. Usher and J. Herman, SESMO 4:18155 (2022), SALib.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from scipy.special import ndtri

from pinnsim.errors import Problems, did_you_mean
from pinnsim.fit.curvature import by_batches
from pinnsim.fit.free import FreeVector, free_vector
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import is_parameter, resolve
from pinnsim.prior import LogNormal
from pinnsim.tree import brief, path_name

Number = int | float
Range: TypeAlias = tuple[Number, Number] | LogNormal
_TAIL = 0.005  # of a prior's probability that is left out at either end
_PLACE = re.compile(r"(?P<leaf>[^\[\]]+)(?:\[(?P<at>[\d, ]+)\])?")


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Indices of every parameter.

    **Arguments:** `table`: a row per output and parameter, the most important first: `output`, `parameter` and, for
    Sobol, `S1`, `ST`, for Morris, `mu`, `mu_star`, `sigma` (in the quantity's unit, per unit of the cube), with `_lo`
    and `_hi` where SALib gives an interval; `samples`: (sample, parameter), values; `values`: (sample, output).
    """

    __repr__ = brief

    table: pd.DataFrame
    samples: np.ndarray
    values: np.ndarray
    method: str


def sensitivity(
    model: Any,
    parameters: Mapping[str, Range] | ModelPrior,
    quantity: Callable[[Any], Array],
    *,
    method: Literal["sobol", "morris"] = "sobol",
    samples: int = 256,
    batch: int = 256,
    level: float = 0.95,
    resamples: int = 100,
    outputs: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> Sensitivity:
    """Global sensitivity of a quantity to parameters of a model.

    **Arguments:** `model`: a cell model, kinetics, or any tree of arrays; `parameters`: name -> range of its values
    `(low, high)`, or `LogNormal(median, log_sd)`; or a `ModelPrior`, of which all numbers with a finite spread vary.
    Names are those of `fit.rate_table` (`decay:g0`), or a leaf's path with a position (`kinetics/decay[0]`, `loss[1]`);
    `quantity`: of a resolved model, one or several numbers, pure JAX; `samples`: Sobol needs a power of 2 and solves
    `samples (parameters + 2)` models, Morris `samples (parameters + 1)` (good values 256 to 4096, and 20 to 200);
    `batch`: models side by side; `level`, `resamples`: of the bootstrap intervals; `outputs`: names.

    **Raises** `E_EXTRA_MISSING` without SALib, `E_USAGE` for unknown names and ranges that are none, `E_SOLVER` where a
    sample gives no finite number.
    """
    names, places = _read(model, parameters, method, samples, level)
    from SALib.analyze import morris as morris_indices
    from SALib.analyze import sobol as sobol_indices
    from SALib.sample import morris as morris_sample
    from SALib.sample import sobol as sobol_sample

    cube = {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}
    if method == "sobol":
        units = sobol_sample.sample(cube, samples, calc_second_order=False, seed=seed)
    else:
        units = morris_sample.sample(cube, samples, seed=seed)
    kind = jnp.zeros(()).dtype
    values = np.stack([place.quantile(units[:, k]) for k, place in enumerate(places)], axis=1)
    setter = _Setter.of(model, names)
    program = eqx.filter_jit(
        lambda setter, rows: jax.vmap(lambda row: jnp.ravel(quantity(resolve(setter.model_with(row)))))(rows)
    )

    def some(numbers: Array) -> Array:
        return program(setter, jnp.asarray(values[np.asarray(numbers)], kind))

    found = by_batches(some, len(values), min(batch, len(values)), "sensitivity", progress, unit="model")
    _check_finite(found, values, names)
    tables = []
    bounded: tuple[str, ...] = ("S1", "ST") if method == "sobol" else ("mu_star",)
    plain: tuple[str, ...] = () if method == "sobol" else ("mu", "sigma")
    labels = tuple(outputs) or _labels(quantity, found.shape[1])
    for column, label in zip(np.asarray(found, dtype=float).T, labels, strict=True):
        if method == "sobol":
            told = sobol_indices.analyze(
                cube, column, calc_second_order=False, num_resamples=resamples, conf_level=level, seed=seed
            )
        else:
            told = morris_indices.analyze(cube, units, column, num_resamples=resamples, conf_level=level, seed=seed)
        columns: dict[str, Any] = {"output": label, "parameter": names}
        for key in bounded:
            middle, half = np.asarray(told[key], dtype=float), np.asarray(told[f"{key}_conf"], dtype=float)
            columns |= {key: middle, f"{key}_lo": middle - half, f"{key}_hi": middle + half}
        columns |= {key: np.asarray(told[key], dtype=float) for key in plain}
        tables.append(pd.DataFrame(columns).sort_values(bounded[-1], ascending=False, kind="stable"))
    return Sensitivity(pd.concat(tables, ignore_index=True), values, np.asarray(found), method)


@dataclasses.dataclass(frozen=True)
class _Span:
    """Values of one parameter: from `low` to `high`, or by a normal number `center + spread z` through `value`."""

    low: float = 0.0
    high: float = 1.0
    center: float = 0.0
    spread: float = 0.0
    value: Callable[[np.ndarray], np.ndarray] | None = None

    def quantile(self, unit: np.ndarray) -> np.ndarray:
        """Values at these shares of the probability."""
        if self.value is None:
            return self.low + (self.high - self.low) * unit
        return self.value(self.center + self.spread * ndtri(_TAIL + (1.0 - 2.0 * _TAIL) * unit))


class _Setter(eqx.Module):
    """A model and where its varied parameters sit: `free` holds the named numbers of a cell model, (`at`, in it);
    `leaf`, (path, flat position), the others."""

    model: Any
    free: FreeVector | None
    named: tuple[tuple[int, int], ...] = eqx.field(static=True)
    leaves: tuple[tuple[int, str, int], ...] = eqx.field(static=True)

    @staticmethod
    def of(model: Any, names: Sequence[str]) -> "_Setter":
        free = _all_numbers(model)
        known = {} if free is None else {name: k for k, name in enumerate(free.names)}
        named = tuple((column, known[name]) for column, name in enumerate(names) if name in known)
        shapes = _leaf_shapes(model)
        leaves = tuple((column, *_position(name, shapes)) for column, name in enumerate(names) if name not in known)
        return _Setter(model, free, named, leaves)

    def model_with(self, row: Array) -> Any:
        """The resolved model with these values, (parameter,)."""
        model = self.model
        if self.free is not None and self.named:
            columns, at = (np.array(part) for part in zip(*self.named, strict=True))
            model = self.free.with_values(self.free.start.at[at].set(_raw(self.free, at, row[columns])))
        model = resolve(model)
        changes: dict[str, list[tuple[int, int]]] = {}
        for column, leaf, position in self.leaves:
            changes.setdefault(leaf, []).append((column, position))

        def changed(path: tuple, leaf: Any) -> Any:
            for column, position in changes.get(path_name(path), []):
                leaf = jnp.ravel(leaf).at[position].set(row[column]).reshape(leaf.shape)
            return leaf

        return jax.tree_util.tree_map_with_path(changed, model)


def _raw(free: FreeVector, at: np.ndarray, values: Array) -> Array:
    """Unconstrained numbers of these values."""
    positive, lower, upper = free.positive[at], free.lower[at], free.upper[at]
    bounded = jnp.isfinite(lower) & jnp.isfinite(upper) & ~positive
    share = (values - jnp.where(bounded, lower, 0.0)) / jnp.where(bounded, upper - lower, 1.0)
    inside = jnp.where(bounded, share, 0.5)
    return jnp.where(
        positive,
        jnp.log(jnp.where(positive, values, 1.0)),
        jnp.where(bounded, jnp.log(inside) - jnp.log1p(-inside), values),
    )


def _all_numbers(model: Any) -> FreeVector | None:
    """Every trainable number of a cell model by name."""
    if not isinstance(model, CellModel):
        return None
    spread = jax.tree.map(lambda leaf: jnp.ones_like(leaf) if eqx.is_inexact_array(leaf) else leaf, model)
    return free_vector(model, ModelPrior(model, spread))


def _leaf_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of all numbers by path, parameters as one."""
    nodes = jax.tree_util.tree_flatten_with_path(model, is_leaf=is_parameter)[0]
    plain = [(path_name(path), resolve(node)) for path, node in nodes]
    return {name: np.shape(value) for name, value in plain if eqx.is_inexact_array_like(value)}


def _position(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """Leaf and flat position that a name says. **Raises** `KeyError` where there is none."""
    match = _PLACE.fullmatch(name)
    if match is None or match["leaf"] not in shapes:
        raise KeyError(name)
    shape = shapes[match["leaf"]]
    at = tuple(int(text) for text in (match["at"] or "").split(",") if text.strip())
    if len(at) != len(shape) or any(k >= size for k, size in zip(at, shape, strict=True)):
        raise KeyError(name)
    return match["leaf"], int(np.ravel_multi_index(at, shape)) if shape else 0


def _read(
    model: Any, parameters: Mapping[str, Range] | ModelPrior, method: str, samples: int, level: float
) -> tuple[tuple[str, ...], list[_Span]]:
    """Names and quantiles of what varies, checked."""
    with Problems() as problems:
        if importlib.util.find_spec("SALib") is None:
            problems.add(
                "E_EXTRA_MISSING",
                "sensitivity needs the package SALib; install it with pip install 'pinnsim[sensitivity]'.",
            )
        if method not in ("sobol", "morris"):
            problems.add("E_USAGE", f"method = '{method}' is neither 'sobol' nor 'morris'.")
        if samples < 2 or (method == "sobol" and samples & (samples - 1)):
            problems.add("E_USAGE", f"samples = {samples}: Sobol needs a power of 2, Morris 2 or more, such as 256.")
        if not 0 < level < 1:
            problems.add("E_USAGE", f"level = {level:g} of the intervals is not between 0 and 1.")
        if isinstance(parameters, ModelPrior):
            return _of_prior(parameters)
        shapes, free = _leaf_shapes(model), _all_numbers(model)
        numbers = () if free is None else free.names
        spans = []
        for name, given in parameters.items():
            try:
                found = name in numbers or bool(_position(name, shapes)[0])
            except KeyError:
                found = False
            if not found:
                near = did_you_mean(name, [*numbers, *shapes])
                problems.add("E_USAGE", f"'{name}'{near} is no number of the model; name one, with its position.")
            span = _span(given)
            if span is None:
                problems.add(
                    "E_USAGE", f"The range of '{name}' is none: give finite low < high, or a LogNormal of one."
                )
            elif found and name in numbers and free is not None:
                at = free.names.index(name)
                ends = span.quantile(np.array([0.0, 1.0]))
                if not (float(free.lower[at]) < ends[0] and ends[1] < float(free.upper[at])):
                    problems.add(
                        "E_USAGE",
                        f"The range of '{name}', {ends[0]:g} to {ends[1]:g}, leaves its bounds "
                        f"{float(free.lower[at]):g} to {float(free.upper[at]):g}.",
                    )
            if span is not None:
                spans.append(span)
        if not parameters:
            problems.add("E_USAGE", "No parameter varies; give some with their ranges.")
    return tuple(parameters), spans


def _span(given: Range) -> _Span | None:
    if isinstance(given, LogNormal):
        median, sd = np.asarray(given.median), np.asarray(given.log_sd)
        if median.size != 1 or sd.size != 1 or not (median.item() > 0 and sd.item() > 0):
            return None
        return _Span(center=float(np.log(median.item())), spread=float(sd.item()), value=np.exp)
    low, high = (float(end) for end in given)
    return _Span(low, high) if np.isfinite([low, high]).all() and low < high else None


def _of_prior(prior: ModelPrior) -> tuple[tuple[str, ...], list[_Span]]:
    """All numbers of finite spread, through the map from unconstrained numbers to values."""
    free = free_vector(prior.center, prior)

    def values(number: int) -> Callable[[np.ndarray], np.ndarray]:
        def of(raw: np.ndarray) -> np.ndarray:
            whole = jnp.broadcast_to(free.start, (len(raw), len(free.names))).at[:, number].set(jnp.asarray(raw))
            return np.asarray(jax.vmap(free.value)(whole))[:, number]

        return of

    known = [k for k in range(len(free.names)) if np.isfinite(np.asarray(free.spread)[k])]
    spans = [_Span(center=float(free.center[k]), spread=float(free.spread[k]), value=values(k)) for k in known]
    return tuple(free.names[k] for k in known), spans


def _check_finite(found: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    with Problems() as problems:
        if bad.size:
            shown = ", ".join(f"{name} = {value:.4g}" for name, value in zip(names, values[bad[0]], strict=True))
            problems.add(
                "E_SOLVER",
                f"{bad.size} of {len(found)} samples give no finite number (first: {shown}); narrow the ranges.",
            )


def _labels(quantity: Callable[[Any], Array], count: int) -> tuple[str, ...]:
    name = getattr(quantity, "__name__", "quantity")
    return (name,) if count == 1 else tuple(f"{name}[{k}]" for k in range(count))
