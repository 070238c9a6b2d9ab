"""Fits of PEtab problems from many starts, by bounded least squares where noise is normal.

With noise that is estimated the residuals alone do not make the likelihood, but they do with one more per measurement,

    r_m = (g(m) - g(y)) / sigma_m,     q_m = sqrt(2 log sigma_m + C),     -log L = sum (r^2 + q^2) / 2 + constant,

C = 60 so that the root is real for every sigma > 1e-13. Jacobians are forward sensitivities through the solver. Other
noise is fitted by its gradient (L-BFGS-B).

Source: L. Schmiester et al., Bioinformatics 36:594 (2020), for residuals of noise; M. A. Branch et al., SIAM J. Sci.
Comput. 21:1 (1999), for the trust region.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.optimize import least_squares, minimize
from tqdm import tqdm

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.lanes import Arrays
from pinnsim.formats.petab.measure import answer, residuals
from pinnsim.formats.petab.problem import PetabProblem, stiff_method
from pinnsim.simulate.method import ODE

_SHIFT = 60.0  # C
_FAR = 1e6  # a residual of what could not be solved
_DRAWS = 20  # starts that cannot be solved are drawn again so often


@dataclasses.dataclass(frozen=True)
class PetabFit:
    """Fits from many starts, the best first. `values`: (start, parameter), on their scales; `objective`: (start,),
    -log L; `begun`: (start,), where it was; `redrawn`: starts that could not be solved and were drawn again."""

    names: tuple[str, ...]
    values: np.ndarray
    objective: np.ndarray
    begun: np.ndarray
    redrawn: int

    @property
    def best(self) -> np.ndarray:
        """(parameter,), on their scales."""
        return self.values[0]

    def reached(self, within: float = 0.1) -> int:
        """How many starts ended within so much of the best."""
        return int(np.sum(self.objective <= self.objective[0] + within))


def fit_petab(
    problem: PetabProblem,
    starts: int = 20,
    *,
    seed: int = 0,
    method: ODE | None = None,
    evaluations: int = 500,
    progress: bool = True,
) -> PetabFit:
    """Fits a problem's parameters from starts drawn evenly between their bounds, on their scales.

    **Arguments:** `starts`, `seed`; `method`: the solver (default: `Kvaerno5`, rtol 1e-7); `evaluations`: of the model
    per start, at the most; `progress`: whether a bar is shown. Priors do not enter: it is the likelihood that is
    maximised.

    **Returns** a `PetabFit`. **Raises** `E_BOUNDS` for parameters without bounds; `E_SOLVER` where no start can be
    solved.
    """
    lower, upper = problem.bounds
    if not np.isfinite(lower).all() or not np.isfinite(upper).all():
        bad = [name for name, low, high in zip(problem.names, lower, upper, strict=True) if not np.isfinite(high - low)]
        raise PinnsimError.of("E_BOUNDS", f"Starts are drawn between bounds, but '{bad[0]}' has none on its scale.")
    method = stiff_method(1e-7, 1e-10) if method is None else method
    draw = np.random.default_rng(seed)
    normal = all(group.noise.endswith("normal") for group in problem.arrays.groups)
    solve = _by_squares if normal else _by_gradient
    found: list[tuple[float, np.ndarray, float]] = []
    redrawn = 0
    for _ in tqdm(range(starts), desc="starts", disable=not progress):
        for _ in range(_DRAWS):
            begin = draw.uniform(lower, upper)
            value = -problem.log_likelihood(begin, method)
            if np.isfinite(value):
                break
            redrawn += 1
        else:
            continue
        end = solve(problem, begin, (lower, upper), method, evaluations)
        found.append((-problem.log_likelihood(end, method), end, value))
    found = sorted((one for one in found if np.isfinite(one[0])), key=lambda one: one[0])
    if not found:
        raise PinnsimError.of("E_SOLVER", f"None of {starts} starts could be solved; narrow the bounds.")
    values = np.array([one[1] for one in found])
    objective, begun = (np.array([one[k] for one in found]) for k in (0, 2))
    return PetabFit(problem.names, values, objective, begun, redrawn)


def _by_squares(
    problem: PetabProblem, begin: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], method: ODE, evaluations: int
) -> np.ndarray:
    forward = method.forward_mode()
    last: dict[bytes, Any] = {}

    def both(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = theta.tobytes()
        if key not in last:
            last.clear()
            rows, slopes = _rows_and_slopes(problem.arrays, jnp.asarray(theta), forward)
            good = np.isfinite(rows).all() and np.isfinite(slopes).all()
            last[key] = (
                (np.asarray(rows), np.asarray(slopes)) if good else (np.full(rows.shape, _FAR), np.zeros(slopes.shape))
            )
        return last[key]

    def value(theta: np.ndarray) -> np.ndarray:
        return both(theta)[0]

    def slope(theta: np.ndarray) -> np.ndarray:
        return both(theta)[1]

    done = least_squares(
        value,
        begin,
        jac=slope,
        bounds=bounds,
        method="trf",
        x_scale=1.0,
        ftol=1e-10,
        xtol=1e-10,
        gtol=1e-10,
        max_nfev=evaluations,
    )
    return np.asarray(done.x)


def _by_gradient(
    problem: PetabProblem, begin: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], method: ODE, evaluations: int
) -> np.ndarray:
    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = problem.value_and_gradient(theta, method)
        good = np.isfinite(value) and np.isfinite(slope).all()
        return (value, slope) if good else (_FAR**2, np.zeros_like(slope))

    between = list(zip(*bounds, strict=True))
    done = minimize(both, begin, jac=True, bounds=between, method="L-BFGS-B", options={"maxfun": evaluations})
    return np.asarray(done.x)


def rows(arrays: Arrays, theta: Array, method: ODE) -> Array:
    """Residuals of measurements and of their noise, (2 measurement,)."""
    found = answer(arrays, theta, method)
    return jnp.concatenate([residuals(arrays, found), jnp.sqrt(2.0 * jnp.log(found.noise) + _SHIFT)])


@eqx.filter_jit
def _rows_and_slopes(arrays: Arrays, theta: Array, method: ODE) -> tuple[Array, Array]:
    def forward(t: Array) -> Array:
        return rows(arrays, t, method)

    push = jax.vmap(lambda tangent: jax.jvp(forward, (theta,), (tangent,)), out_axes=(None, -1))
    return push(jnp.eye(theta.size, dtype=theta.dtype))
