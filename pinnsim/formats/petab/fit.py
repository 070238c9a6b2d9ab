"""Fits of PEtab problems from many starts, all of them lanes of one compiled program.

What is minimised, and what a step is made of, with r = (g(m) - g(y)) / sigma and s = log sigma of every measurement m:

    normal:     -log L = sum r^2 / 2 + s + constant        gradient = sum r dr + ds
                F = sum (dr + r ds)(dr + r ds)' + 2 ds ds'
    laplace:    -log L = sum |r| + s + constant            gradient = sum sign(r) dr + ds
                F = sum (dr + r ds)(dr + r ds)' / max(|r|, 1/100) + ds ds'

F is the expected curvature (Fisher's information; for Laplace noise that of a parabola that touches |r|), so that noise
that is estimated costs no steps. Each lane takes damped steps between its bounds,

    (F + mu diag F) step = -gradient,

of the parameters that are not held at a bound by their gradient; mu falls after a step that helped and rises after one
that did not (Marquardt). Derivatives are forward sensitivities through the solver.

Sources: D. Marquardt, J. SIAM 11:431 (1963); F. Froehlich and P. K. Sorger, PLoS Comput. Biol. 18:e1010322 (2022), for
the use of the expected curvature in fits of this kind.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from pinnsim.errors import PinnsimError, first
from pinnsim.formats.petab.lanes import Arrays
from pinnsim.formats.petab.measure import answer, log_likelihoods, residuals
from pinnsim.formats.petab.problem import PetabProblem, stiff_method
from pinnsim.lanes import lanes_last
from pinnsim.simulate.method import ODE

_WIDE = 100.0  # bounds so many times apart are those of a number whose size is not known
_DRAWS = 20  # starts that cannot be solved are drawn again so often
_FIRST, _FALL, _RISE, _LEAST, _MOST = 1e-2, 0.3, 4.0, 1e-9, 1e9  # mu
_ENOUGH, _TIMES = 1e-7, 5  # a lane is done when so many steps on end have lowered it by less than so many nats
_NEAR = 0.01  # Laplace: |r| below which its parabola does not get steeper


@dataclasses.dataclass(frozen=True)
class PetabFit:
    """Fits from many starts, the best first. `values`: (start, parameter), on their scales; `objective`: (start,),
    -log L; `begun`: (start,), where it was; `redrawn`: starts that could not be solved and were drawn again; `rounds`:
    steps that were tried; `settled`: (start,), whether it had come to an end by then; `interrupted`: whether Ctrl-C
    ended it."""

    names: tuple[str, ...]
    values: np.ndarray
    objective: np.ndarray
    begun: np.ndarray
    redrawn: int
    rounds: int
    settled: np.ndarray
    interrupted: bool = False

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
    rounds: int = 500,
    progress: bool = True,
) -> PetabFit:
    """Fits a problem's parameters from starts drawn evenly between their bounds, on their scales; on a logarithmic one
    where the scale is linear but the bounds are positive and a hundredfold apart, as version 2 has no scales.

    **Arguments:** `starts`, `seed`; `method`: the solver (default: `stiff_method(1e-7, 1e-10)`, 10,000 steps at the
    most); `rounds`: steps tried per start, at the most; `progress`: whether a bar is shown. Priors do not enter: it is
    the likelihood that is maximised. Ctrl-C ends the fit with what was found so far.

    **Returns** a `PetabFit`. **Raises** `E_BOUNDS` for parameters without bounds; `E_SOLVER` where no start can be
    solved.
    """
    lower, upper = problem.bounds
    bad = [name for name, low, high in zip(problem.names, lower, upper, strict=True) if not np.isfinite(high - low)]
    if bad:
        raise PinnsimError.of(
            "E_BOUNDS", f"Starts are drawn between bounds, but {len(bad)} have none on their scale (first: "
            f"{first(bad)}); give them lowerBound and upperBound."
        )  # fmt: skip
    method = stiff_method(1e-7, 1e-10, 10_000) if method is None else method
    space = _Space.of(problem)
    draw = np.random.default_rng(seed)
    low, high = space.room
    moved = draw.uniform(low, high, (starts, len(lower)))
    here, redrawn = space.look(moved, method), 0
    for _ in range(_DRAWS):
        lost = np.flatnonzero(~np.isfinite(here.value))
        if not lost.size:
            break
        moved[lost] = draw.uniform(low, high, (lost.size, len(lower)))
        redrawn += lost.size
        here = space.look(moved, method)
    if not np.isfinite(here.value).any():
        raise PinnsimError.of("E_SOLVER", f"None of {starts} starts could be solved; narrow the bounds.")
    solved = np.isfinite(here.value)
    begun = here.value.copy()
    descent = _Descent(space, method, moved, here)
    bar = tqdm(total=rounds, desc="rounds of steps", disable=not progress)
    done, interrupted = 0, False
    try:
        while done < rounds and not descent.settled[solved].all():
            descent.turn()
            done += 1
            bar.update(1)
            bar.set_postfix_str(f"best {np.nanmin(descent.here.value):.6g} nats, {int(descent.settled.sum())} settled")
    except KeyboardInterrupt:
        interrupted = True
    bar.close()
    order = [k for k in np.argsort(descent.here.value, kind="stable") if solved[k]]
    return PetabFit(
        problem.names,
        # What comes back from its logarithm may have left its bounds by rounding.
        np.clip(space.back(descent.moved[order]), lower, upper),
        descent.here.value[order],
        begun[order],
        redrawn,
        done,
        descent.settled[order],
        interrupted,
    )


class _Look(NamedTuple):
    """-log L of every lane, its gradient and expected curvature; NaN or infinite where it could not be solved."""

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Space:
    """What is moved: parameters on their scales, or, where `logs`, their logarithms; `room`: (2, parameter)."""

    arrays: Arrays
    logs: np.ndarray
    room: np.ndarray

    @staticmethod
    def of(problem: PetabProblem) -> "_Space":
        logs = np.array([one.scale == "lin" and 0 < _WIDE * one.lower <= one.upper for one in problem.parameters])
        return _Space(problem.arrays, logs, np.where(logs, np.log(np.where(logs, problem.bounds, 1.0)), problem.bounds))

    def back(self, moved: np.ndarray) -> np.ndarray:
        return np.where(self.logs, np.exp(np.where(self.logs, moved, 0.0)), moved)

    def look(self, moved: np.ndarray, method: ODE) -> _Look:
        theta = self.back(moved)
        found = [np.asarray(part) for part in _looked(self.arrays, jnp.asarray(theta.T), method.forward_mode())]
        value, gradient, curvature = (np.moveaxis(part, -1, 0) for part in found)
        stretch = np.where(self.logs, theta, 1.0)
        look = _Look(value, gradient * stretch, curvature * stretch[:, :, None] * stretch[:, None, :])
        whole = np.isfinite(value) & np.isfinite(gradient).all(axis=1) & np.isfinite(curvature).all(axis=(1, 2))
        return look._replace(value=np.where(whole, value, np.inf))


class _Descent:
    """Damped steps of all lanes, side by side; what cannot be solved is no step."""

    def __init__(self, space: _Space, method: ODE, moved: np.ndarray, here: _Look):
        self.space, self.method, self.moved, self.here = space, method, moved, here
        self.mu = np.full(len(moved), _FIRST)
        self.idle = np.zeros(len(moved), dtype=int)

    @property
    def settled(self) -> np.ndarray:
        """(start,), whether a lane is done."""
        return (self.idle >= _TIMES) | (self.mu > _MOST) | ~np.isfinite(self.here.value)

    def turn(self) -> None:
        """Tries a step in every lane."""
        settled = self.settled
        tried = np.array([self.moved[k] if end else self._step(k) for k, end in enumerate(settled)])
        there = self.space.look(tried, self.method)
        better = (there.value < self.here.value) & ~settled
        gained = np.where(better, self.here.value - there.value, 0.0)
        self.idle = np.where(better & (gained < _ENOUGH), self.idle + 1, np.where(better, 0, self.idle))
        self.mu = np.where(settled, self.mu, np.where(better, np.maximum(self.mu * _FALL, _LEAST), self.mu * _RISE))
        self.moved = np.where(better[:, None], tried, self.moved)
        self.here = _Look(*(_chosen(better, new, old) for new, old in zip(there, self.here, strict=True)))

    def _step(self, k: int) -> np.ndarray:
        lower, upper = self.space.room
        x, slope, curvature = self.moved[k], self.here.gradient[k], self.here.curvature[k]
        free = ~(((x <= lower) & (slope > 0)) | ((x >= upper) & (slope < 0)))
        damping = self.mu[k] * np.maximum(np.diag(curvature), 1e-12 * np.max(np.diag(curvature), initial=1e-300))
        target = x.copy()
        # What a step would take beyond a bound goes to the bound, and the others make the best of that.
        for _ in range(len(x)):
            matrix = (curvature + np.diag(damping))[np.ix_(free, free)]
            push = slope[free] + curvature[np.ix_(free, ~free)] @ (target - x)[~free]
            step = np.linalg.lstsq(matrix, -push, rcond=None)[0]
            wish = x[free] + step
            beyond = (wish < lower[free]) | (wish > upper[free])
            target[free] = np.clip(wish, lower[free], upper[free])
            if not beyond.any() or beyond.all():
                break
            free[np.flatnonzero(free)[beyond]] = False
        return target


def _chosen(better: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)


@eqx.filter_jit
def _looked(arrays: Arrays, theta: Float[Array, "parameter lane"], method: ODE) -> tuple[Array, Array, Array]:
    return lanes_last(_looked_once)((arrays, method), theta)


def _looked_once(shared: tuple[Arrays, ODE], theta: Float[Array, " parameter"]) -> tuple[Array, Array, Array]:
    arrays, method = shared

    def parts(theta: Array) -> tuple[Array, Array, Array]:
        found = answer(arrays, theta, method)
        value = -jnp.sum(log_likelihoods(arrays, found))
        return residuals(arrays, found), jnp.log(found.noise), value

    push = jax.vmap(lambda one: jax.jvp(parts, (theta,), (one,)), out_axes=(None, -1))
    (r, _, value), (dr, ds, slope) = push(jnp.eye(theta.size, dtype=theta.dtype))
    squared = jnp.zeros(arrays.measured.shape, bool)
    for group in arrays.groups:
        squared = squared.at[group.rows].set(group.noise.endswith("normal"))
    weight = jnp.where(squared, 1.0, 1.0 / jnp.maximum(jnp.abs(r), _NEAR))
    seen = dr + r[:, None] * ds
    curvature = seen.T @ (weight[:, None] * seen) + ds.T @ (jnp.where(squared, 2.0, 1.0)[:, None] * ds)
    return value, slope, curvature
