"""PEtab in: published calibration problems, with their model, data, noise and priors, as one compiled objective.

    log L(theta) = sum_m log p(m | y(t, x(t; theta), theta), sigma(theta)),      objective = -log L

`theta` are the estimated parameters on their own scales (lin, log, log10), in the order of the table. What is
understood is computed as the standard says, anything else refused by name. `docs/petab.md` has the table.

Source: L. Schmiester et al., PLoS Comput. Biol. 17:e1008646 (2021), and PEtab 2.0's specification.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from pinnsim.errors import PinnsimError, Problem, Problems, did_you_mean, first
from pinnsim.formats.petab.files import TABLE_LIMITS, TableLimits
from pinnsim.formats.petab.lanes import Arrays, arrays_of
from pinnsim.formats.petab.measure import Answer, answer, log_likelihoods, residuals
from pinnsim.formats.petab.noise import from_scale, log_prior, to_scale
from pinnsim.formats.petab.read import Source, read_source
from pinnsim.formats.petab.system import petab_system
from pinnsim.formats.petab.tables import Parameter
from pinnsim.formats.sbml.read import LIMITS, Limits
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome

Values: TypeAlias = "Mapping[str, float] | Sequence[float] | np.ndarray | Array | None"


def read_petab(
    path: str | Path, *, limits: Limits = LIMITS, tables: TableLimits = TABLE_LIMITS, isolated: bool = True
) -> "PetabProblem":
    """The calibration problem of a PEtab YAML file, version 1 or 2, with a model in SBML.

    **Arguments:** `path`; `limits`, `tables`: sizes that are read; `isolated`: parse the model in a process of its own.

    **Returns** a `PetabProblem`. Files are looked for in the YAML file's folder and below, nowhere else.

    **Raises** `E_PETAB_UNSUPPORTED`, `E_PETAB_INVALID`, `E_FORMULA`, `E_BOUNDS`, `E_DATA_EMPTY`, those of `read_sbml`;
    all problems at once; `E_PRECISION` in single precision.

    Source: Schmiester et al. (2021), above.
    """
    path = Path(path)
    if jnp.zeros(()).dtype != jnp.float64:
        raise PinnsimError.of(
            "E_PRECISION", "Likelihoods of published problems need double precision; call pinnsim.enable_x64() first."
        )
    source = read_source(path, limits=limits, tables=tables, isolated=isolated)
    problems = Problems()
    system = petab_system(source.model, source.tables, source.alias, problems)
    arrays = None if system is None else arrays_of(source.tables, system, problems)
    if arrays is None:
        raise PinnsimError([Problem(one.code, f"{one.message.rstrip('.')} ('{path}').") for one in problems.found])
    return PetabProblem(source, arrays)


_RTOL, _ATOL = 1e-9, 1e-10


def stiff_method(rtol: float = _RTOL, atol: float = _ATOL, max_steps: int = 100_000) -> ODE:
    """The solver of PEtab problems, linearly implicit steps at these tolerances; `atol` in the model's amounts."""
    return ODE(rtol, atol, max_steps=max_steps, stiff=True)


@dataclasses.dataclass(frozen=True)
class PetabProblem:
    """A calibration problem, ready to be evaluated; `read_petab` builds it.

    Every method takes `values`: the estimated parameters on their scales, (parameter,), or a mapping from names to
    numbers as they are (the rest nominal), or `None` for the nominal ones.
    """

    source: Source
    arrays: Arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Estimated parameters, in the order of the table."""
        return tuple(one.name for one in self.arrays.parameters)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Their rows of the table."""
        return self.arrays.parameters

    @cached_property
    def nominal(self) -> np.ndarray:
        """(parameter,), on their scales; NaN where the table has none."""
        return np.array([float(to_scale(one.scale, jnp.asarray(one.value))) for one in self.parameters])

    @cached_property
    def bounds(self) -> np.ndarray:
        """(2, parameter): lower and upper, on their scales."""
        ends = [
            [float(to_scale(one.scale, jnp.asarray(getattr(one, word)))) for one in self.parameters]
            for word in ("lower", "upper")
        ]
        return np.array(ends)

    def scaled(self, values: Values = None) -> Float[Array, " parameter"]:
        """What any method takes, as an array on the parameters' scales. **Raises** `E_USAGE`."""
        if values is None or isinstance(values, Mapping):
            given = {} if values is None else dict(values)
            unknown = [name for name in given if name not in self.names]
            if unknown:
                raise PinnsimError.of(
                    "E_USAGE", f"'{unknown[0]}' is not estimated{did_you_mean(unknown[0], self.names)}."
                )
            found = [
                float(to_scale(one.scale, jnp.asarray(float(given[one.name])))) if one.name in given else start
                for one, start in zip(self.parameters, self.nominal, strict=True)
            ]
            missing = [name for name, value in zip(self.names, found, strict=True) if np.isnan(value)]
            if missing:
                raise PinnsimError.of("E_USAGE", f"{first(missing)} have no nominal value; give one.")
            return jnp.asarray(found, dtype=float)
        array = jnp.asarray(values, dtype=float)
        if array.shape != (len(self.names),):
            raise PinnsimError.of(
                "E_USAGE",
                f"`values` needs one number per estimated parameter, shape ({len(self.names)},), but has "
                f"shape {array.shape}; see problem.names.",
            )
        return array

    def unscaled(self, values: Values = None) -> dict[str, float]:
        """Estimated parameters as they are, by name."""
        theta = self.scaled(values)
        return {one.name: float(from_scale(one.scale, theta[k])) for k, one in enumerate(self.parameters)}

    def log_likelihood(self, values: Values = None, method: ODE | None = None) -> float:
        """log L; NaN where an experiment could not be solved (`outcomes` says why)."""
        found = _answer(self.arrays, self.scaled(values), method or stiff_method())
        return float(jnp.sum(log_likelihoods(self.arrays, found)))

    def gradient(self, values: Values = None, method: ODE | None = None) -> np.ndarray:
        """d objective / d theta, (parameter,), of -log L."""
        return self.value_and_gradient(values, method)[1]

    def value_and_gradient(self, values: Values = None, method: ODE | None = None) -> tuple[float, np.ndarray]:
        """-log L and its gradient."""
        value, slope = _slope(self.arrays, self.scaled(values), method or stiff_method())
        return float(value), np.asarray(slope)

    def chi2(self, values: Values = None, method: ODE | None = None) -> float:
        """The sum of squared residuals."""
        found = _answer(self.arrays, self.scaled(values), method or stiff_method())
        return float(jnp.sum(residuals(self.arrays, found) ** 2))

    def log_priors(self, values: Values = None) -> dict[str, float]:
        """log density of each estimated parameter before any measurement, cut off at its bounds."""
        theta = self.scaled(values)
        return {
            one.name: float(log_prior(one, from_scale(one.scale, theta[k]))) for k, one in enumerate(self.parameters)
        }

    def log_prior(self, values: Values = None) -> float:
        """The sum of `log_priors`; of version 1, of those parameters that have a prior."""
        return float(sum(self.log_priors(values).values()))

    def simulate(self, values: Values = None, method: ODE | None = None) -> pd.DataFrame:
        """The simulation table: the measurement table with `simulation` instead of `measurement`."""
        found = _answer(self.arrays, self.scaled(values), method or stiff_method())
        table = self.source.tables.described.drop(columns="_where").rename(columns={"measurement": "simulation"})
        return table.assign(simulation=np.asarray(found.value))

    def outcomes(self, values: Values = None, method: ODE | None = None) -> dict[str, str]:
        """Experiments that could not be solved, and why."""
        found = _answer(self.arrays, self.scaled(values), method or stiff_method())
        names = list(dict.fromkeys(row.experiment for row in self.source.tables.measurements))
        codes = np.asarray(found.outcome).tolist()
        return {
            name or "the model as it is": Outcome(code).sentence
            for name, code in zip(names, codes, strict=True)
            if code != Outcome.DONE
        }


def objective(arrays: Arrays, theta: Float[Array, " parameter"], method: ODE) -> Array:
    """-log L. Pure: use it under `jit` and in forward mode (`jax.jvp`, `jax.jacfwd`), which own solvers have alone."""
    return -jnp.sum(log_likelihoods(arrays, answer(arrays, theta, method)))


@eqx.filter_jit
def _slope(arrays: Arrays, theta: Array, method: ODE) -> tuple[Array, Array]:
    forward = method.forward_mode()
    push = jax.vmap(lambda one: jax.jvp(lambda t: objective(arrays, t, forward), (theta,), (one,)), out_axes=(None, 0))
    return push(jnp.eye(theta.size, dtype=theta.dtype))


@eqx.filter_jit
def _answer(arrays: Arrays, theta: Array, method: ODE) -> Answer:
    return answer(arrays, theta, method)
