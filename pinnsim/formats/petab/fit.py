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
that did not (Marquardt). No step moves a parameter by more than a tenth of the room between its bounds: longer ones,
early on, lead to where nothing depends on most parameters any more. Derivatives are forward sensitivities through the
solver.

A lane whose start has settled is free, and hops: it begins again at a random place around the best of all, and what it
finds there, if it is better, becomes the end of the start that was best. The other starts end where they settled. A hop
is given up where, at its pace, it would not be as good as the best a hundred steps later.

Sources: D. Marquardt, J. SIAM 11:431 (1963); F. Froehlich and P. K. Sorger, PLoS Comput. Biol. 18:e1010322 (2022), for
the use of the expected curvature in fits of this kind; D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101:5111 (1997),
for hops between optima.
"""

import dataclasses
from collections.abc import Callable
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
_CAP = 0.1  # of a parameter's room, the most that a step moves it
_HOP = 0.2  # of a parameter's room, the most that a hop moves it
_PACE, _WAIT = 20, 5  # so often a hop is looked at, and for so many times that it may need
_NEAR = 0.01  # Laplace: |r| below which its parabola does not get steeper


@dataclasses.dataclass(frozen=True)
class PetabFit:
    """Fits from many starts, the best first. `values`: (start, parameter), on their scales; `objective`: (start,),
    -log L; `begun`: (start,), where it was; `redrawn`: starts that could not be solved and were drawn again; `rounds`:
    steps that were tried; `settled`: (start,), whether it had come to an end by then; `alone`: the best -log L of
    starts alone, without hops; `hops` that came to an end; `interrupted`: whether Ctrl-C ended it."""

    names: tuple[str, ...]
    values: np.ndarray
    objective: np.ndarray
    begun: np.ndarray
    redrawn: int
    rounds: int
    settled: np.ndarray
    alone: float
    hops: int
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
    most); `rounds`: steps tried per start, at the most; it is over before when every start has settled and as many hops
    on end as there are starts have found nothing better; `progress`: whether a bar is shown. Priors do not enter: it is
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
    descent = _Descent(lambda tried: space.look(tried, method), space.room, moved, here, draw)
    bar = tqdm(total=rounds, desc="rounds of steps", disable=not progress)
    done, interrupted = 0, False
    try:
        while done < rounds and not descent.over:
            descent.turn()
            done += 1
            bar.update(1)
            bar.set_postfix_str(f"best {np.min(descent.ends):.6g} nats, {int(descent.settled.sum())} settled")
    except KeyboardInterrupt:
        interrupted = True
    bar.close()
    order = [k for k in np.argsort(descent.ends, kind="stable") if solved[k]]
    return PetabFit(
        problem.names,
        # What comes back from its logarithm may have left its bounds by rounding.
        np.clip(space.back(descent.places[order]), lower, upper),
        descent.ends[order],
        begun[order],
        redrawn,
        done,
        descent.settled[order],
        descent.alone,
        descent.hops,
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
    """Damped steps of all lanes, side by side, and hops of those that are free; what cannot be solved is no step."""

    def __init__(
        self,
        look: Callable[[np.ndarray], _Look],
        room: np.ndarray,
        moved: np.ndarray,
        here: _Look,
        draw: np.random.Generator,
    ):
        self.look, self.room, self.moved, self.here, self.draw = look, room, moved, here, draw
        self.places, self.ends = moved.copy(), here.value.copy()  # the best of every start
        self.mu = np.full(len(moved), _FIRST)
        self.idle = np.zeros(len(moved), dtype=int)
        self.settled = ~np.isfinite(here.value)  # starts, not lanes
        self.alone = float(np.min(self.ends))
        self.hops = self.vain = 0
        self.age, self.mark = np.zeros(len(moved), dtype=int), here.value.copy()  # of hops

    @property
    def over(self) -> bool:
        """Whether all starts have settled and hops do not help any more."""
        return bool(self.settled.all()) and self.vain >= len(self.settled)

    def turn(self) -> None:
        """Tries a step in every lane that is not done; those that are done hop."""
        done = (self.idle >= _TIMES) | (self.mu > _MOST) | ~np.isfinite(self.here.value) | self._slow()
        ended = int(np.sum(done & self.settled & np.isfinite(self.here.value)))
        self.hops, self.vain = self.hops + ended, self.vain + ended
        self.settled |= done
        tried = np.array([self._hop() if end else self._step(k) for k, end in enumerate(done)])
        there = self.look(tried)
        better = (there.value < self.here.value) & ~done
        gained = np.where(better, self.here.value - np.where(better, there.value, 0.0), 0.0)
        self.idle = np.where(better & (gained < _ENOUGH), self.idle + 1, np.where(better | done, 0, self.idle))
        mu = np.where(better, np.maximum(self.mu * _FALL, _LEAST), self.mu * _RISE)
        self.mu = np.where(done, _FIRST, mu)
        taken = better | done
        self.moved = np.where(taken[:, None], tried, self.moved)
        self.here = _Look(*(_chosen(taken, new, old) for new, old in zip(there, self.here, strict=True)))
        self.age = np.where(done, 0, self.age + 1)
        self.mark = np.where(self.age % _PACE == 0, self.here.value, self.mark)
        self._note()

    def _slow(self) -> np.ndarray:
        """(lane,), hops that are given up; asked for before their marks are set again."""
        asked = self.settled & (self.age % _PACE == _PACE - 1) & np.isfinite(self.here.value)
        value = np.where(asked, self.here.value, 0.0)
        return asked & (_WAIT * (self.mark - value) < value - np.min(self.ends))

    def _hop(self) -> np.ndarray:
        lower, upper = self.room
        around = self.places[np.argmin(self.ends)]
        reach = _HOP * self.draw.uniform() * (upper - lower)
        return np.clip(around + reach * self.draw.uniform(-1, 1, len(lower)), lower, upper)

    def _note(self) -> None:
        """What starts found for themselves, and what hops found for the best of them."""
        own = ~self.settled & (self.here.value < self.ends)
        self.places[own], self.ends[own] = self.moved[own], self.here.value[own]
        self.alone = min(self.alone, float(np.min(self.here.value, where=~self.settled, initial=np.inf)))
        best = int(np.argmin(self.ends))
        hopped = np.where(self.settled, self.here.value, np.inf)
        k = int(np.argmin(hopped))
        if hopped[k] < self.ends[best]:
            self.vain = 0 if hopped[k] < self.ends[best] - _ENOUGH else self.vain
            self.places[best], self.ends[best] = self.moved[k], hopped[k]

    def _step(self, k: int) -> np.ndarray:
        far = _CAP * (self.room[1] - self.room[0])
        lower, upper = np.maximum(self.room[0], self.moved[k] - far), np.minimum(self.room[1], self.moved[k] + far)
        x, slope, curvature = self.moved[k], self.here.gradient[k], self.here.curvature[k]
        free = ~(((x <= lower) & (slope > 0)) | ((x >= upper) & (slope < 0)))
        damping = self.mu[k] * np.maximum(np.diag(curvature), 1e-12 * np.max(np.diag(curvature), initial=1e-300))
        target = x.copy()
        # What a step would take beyond a bound, or too far, goes no further, and the others make the best of that.
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
