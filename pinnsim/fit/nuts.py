"""NUTS: draws from the posterior by the no-U-turn sampler, for what a normal approximation cannot show.

Chains walk in the coordinates of the normal posterior (`fit.target`), in which it is the unit normal, so that few short
trajectories suffice; step size (dual averaging to a target acceptance) and the remaining widths (windowed, diagonal)
are adapted as in Stan. All chains are lanes of one program, which runs in stretches of equal length so that a bar can
be shown; every step of a chain has the key `fold_in(chain's key, step)`, so that a seed gives the same draws whatever
the stretches. The sampler itself is blackjax's (extra `[bayes]`).

Sources: M. Hoffman and A. Gelman, JMLR 15:1593 (2014); M. Betancourt, arXiv:1701.02434 (2017), multinomial form; Stan
Reference Manual, "HMC algorithm parameters", windows.
"""

import contextlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray
from tqdm import tqdm

from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.draws import Draws
from pinnsim.fit.free import Vector
from pinnsim.fit.laplace import Laplace, laplace
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.target import Predict, Target, White, target, white
from pinnsim.model import CellModel, ModelPrior
from pinnsim.shapes import Scalar

STRETCH = 25  # steps between two looks at the clock
_FAST, _SLOW, _DRAW = 0, 1, 2  # what is adapted in a step: step size, widths too, nothing
_WORST = -1e6  # nats: log density where it is not a number

Density = Callable[[Any, Vector], Scalar]
"""A log density of coordinates, given whatever it depends on."""


class Walk(NamedTuple):
    """What chains did, on the host: coordinates, (chain, draw, free); log density, divergence, acceptance, leapfrog
    steps, (chain, draw); step size, (chain,)."""

    position: np.ndarray
    log_density: np.ndarray
    divergent: np.ndarray
    acceptance: np.ndarray
    steps: np.ndarray
    step_size: np.ndarray


class _Chain(NamedTuple):
    """One chain between two steps: the sampler's state, the step size's averaging, the widths' estimate and what is in
    use of it."""

    state: Any
    averaging: Any
    estimate: Any
    metric: Array


def nuts(
    model: CellModel,
    prior: ModelPrior,
    data: Cultures,
    plan: FitPlan,
    *,
    posterior: Laplace | None = None,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    acceptance: float = 0.8,
    doublings: int = 8,
    seed: int = 0,
    predict: Predict | None = None,
    progress: bool = True,
) -> Draws:
    """Draws from the posterior around a fitted model.

    **Arguments:** `model`, `prior`, `data`, `plan`, `predict`: as for `laplace`; `posterior`: `laplace(...)` of this
    model, where it is at hand; `warmup`, `draws`: steps per chain; `acceptance`: the step size's target; `doublings`:
    a trajectory has at most 2^doublings steps; `seed`: the same one gives the same draws.

    Good values: 4 chains, 300 warm-up steps, 500 draws; acceptance 0.95 where steps diverge. Read
    `Draws.complaints()` before anything else. Collocation is no likelihood (it reads the readings): draws through it
    are a quick look, those through trajectories count.

    **Raises** `E_EXTRA_MISSING` without blackjax, `E_USAGE` for impossible numbers, `E_FIT` where nothing is free or
    solvable.
    """
    with Problems() as problems:
        if min(chains, warmup, doublings) < 1 or draws < 4:
            problems.add("E_USAGE", "NUTS needs chains, warmup and doublings of 1 or more, and 4 draws or more.")
        if not 0 < acceptance < 1:
            problems.add("E_USAGE", f"Argument `acceptance` must be between 0 and 1, but is {acceptance:g}.")
    _blackjax()
    aim = target(model, prior, data, plan, predict)
    told = posterior or laplace(model, prior, data, plan, predict=predict, progress=progress)
    coordinates = white(told)
    begin, walk = jax.random.split(jax.random.key(seed))
    shape = (chains, len(told.estimate))
    start = _usable(aim, coordinates, jax.random.normal(begin, shape, coordinates.center.dtype))
    found = run_chains(
        log_density,
        (aim, coordinates),
        start,
        jax.random.split(walk, chains),
        shared=True,
        warmup=warmup,
        draws=draws,
        acceptance=acceptance,
        doublings=doublings,
        progress=progress,
    )
    raw = jax.vmap(coordinates.vector)(jnp.asarray(found.position.reshape(-1, shape[1]), start.dtype))
    return Draws(
        free=aim.free,
        raw=np.asarray(raw).reshape(found.position.shape),
        log_density=found.log_density,
        divergent=found.divergent,
        steps=found.steps,
        step_size=found.step_size,
    )


def log_density(inputs: tuple[Target, White], z: Vector) -> Scalar:
    """Log density, in nats, at coordinates of the normal posterior; the map to unconstrained numbers is linear, so that
    densities of both agree up to a constant."""
    aim, coordinates = inputs
    return -aim(coordinates.vector(z)).total


@eqx.filter_jit
def _usable(aim: Target, coordinates: White, start: Float[Array, "chain free"]) -> Float[Array, "chain free"]:
    """The same starts, but the normal posterior's mean where nothing can be solved."""

    def one(z: Vector) -> Vector:
        found = aim(coordinates.vector(z))
        return jnp.where((found.failed == 0) & jnp.isfinite(found.total), z, jnp.zeros_like(z))

    return jax.vmap(one)(start)


def run_chains(
    density: Density,
    inputs: Any,
    start: Float[Array, "chain free"],
    keys: Key[Array, " chain"],
    *,
    shared: bool,
    warmup: int,
    draws: int,
    acceptance: float = 0.8,
    doublings: int = 8,
    progress: bool = True,
    label: str = "NUTS",
) -> Walk:
    """Chains of a log density, all as lanes of one program.

    **Arguments:** `density`: a function defined once (each new one compiles); `inputs`: what it depends on, one for all
    chains where `shared`, else with a leading chain axis (one data set per chain, say); `start`, `keys`: of each chain.

    **Raises** `E_EXTRA_MISSING` without blackjax.
    """
    _blackjax()
    target_rate = jnp.asarray(acceptance, start.dtype)
    parts = []
    with _blackjax_promotion():
        schedule = _schedule(warmup, draws)
        chains = _begin(density, inputs, shared, start)
        with tqdm(total=len(schedule), desc=label, unit="step", disable=None if progress else True) as bar:
            for first in range(0, len(schedule), STRETCH):
                now = jnp.asarray(schedule[first : first + STRETCH])
                chains, part = _advance(density, inputs, shared, chains, keys, now, target_rate, doublings)
                parts.append([np.asarray(leaf) for leaf in part])
                bar.update(STRETCH)
                bar.set_postfix_str(f"{int(sum(p[2].sum() for p in parts))} divergent")
    position, value, divergent, rate, steps, size = (
        np.concatenate(leaves, axis=1)[:, warmup : warmup + draws] for leaves in zip(*parts, strict=True)
    )
    return Walk(position, value, divergent, rate, steps, size[:, -1])


def _schedule(warmup: int, draws: int) -> np.ndarray:
    """Number, stage and whether a window ends, of every step, (step, 3), to full stretches: what is drawn beyond
    `draws` is not kept."""
    from blackjax.adaptation.window_adaptation import build_schedule

    windows = np.asarray(build_schedule(warmup)).astype(int)
    total = -(-(warmup + draws) // STRETCH) * STRETCH
    rest = np.tile([_DRAW, 0], (total - warmup, 1))
    return np.column_stack([np.arange(total), np.concatenate([windows, rest])])


def _finite(density: Density, inputs: Any) -> Callable[[Vector], Scalar]:
    def value(z: Vector) -> Scalar:
        found = density(inputs, z)
        return jnp.where(jnp.isfinite(found), found, jnp.asarray(_WORST, found.dtype))

    return value


@eqx.filter_jit
def _begin(density: Density, inputs: Any, shared: bool, start: Float[Array, "chain free"]) -> _Chain:
    import blackjax
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    def one(inputs: Any, z: Vector) -> _Chain:
        estimate = mass_matrix_adaptation(True)[0](z.shape[0])
        averaging = dual_averaging_adaptation(0.8)[0](jnp.ones((), z.dtype))
        # Both hold plain Python numbers at first, which a loop could not carry.
        averaging, estimate = jax.tree.map(jnp.asarray, (averaging, estimate))
        state = blackjax.nuts.init(z, _finite(density, inputs))
        return _Chain(state, averaging, estimate, estimate.inverse_mass_matrix)

    return _mapped(one, shared)(inputs, start)


@eqx.filter_jit
def _advance(
    density: Density,
    inputs: Any,
    shared: bool,
    chains: _Chain,
    keys: Key[Array, " chain"],
    schedule: Array,
    acceptance: Scalar,
    doublings: int,
) -> tuple[_Chain, tuple]:
    """A stretch of steps of every chain, and what is kept of each step, (chain, step, ...)."""
    import blackjax
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    kernel = blackjax.nuts.build_kernel()
    renew_averaging, average, averaged = dual_averaging_adaptation(acceptance)
    _, gather, gathered = mass_matrix_adaptation(True)

    def one(inputs: Any, chain: _Chain, key: PRNGKeyArray) -> tuple[_Chain, tuple]:
        value = _finite(density, inputs)

        def step(chain: _Chain, now: Array) -> tuple[_Chain, tuple]:
            number, stage, ends = now
            size = jnp.where(stage < _DRAW, jnp.exp(chain.averaging.log_step_size), averaged(chain.averaging))
            state, info = kernel(jax.random.fold_in(key, number), chain.state, value, size, chain.metric, doublings)
            rate = jnp.where(jnp.isfinite(info.acceptance_rate), info.acceptance_rate, 0.0)
            averaging = _where(stage < _DRAW, average(chain.averaging, rate), chain.averaging)
            estimate = _where(stage == _SLOW, gather(chain.estimate, state.position), chain.estimate)
            done = gathered(estimate)
            metric = jnp.where(ends > 0, done.inverse_mass_matrix, chain.metric)
            averaging = _where(ends > 0, renew_averaging(averaged(averaging)), averaging)
            estimate = _where(ends > 0, done, estimate)
            kept = (state.position, state.logdensity, info.is_divergent, rate, info.num_integration_steps, size)
            return _Chain(state, averaging, estimate, metric), kept

        return jax.lax.scan(step, chain, schedule)

    return _mapped(one, shared)(inputs, chains, keys)


def _mapped(function: Callable, shared: bool) -> Callable:
    """The function of one chain for all of them, whose first argument is one for all where `shared`."""

    def everywhere(inputs: Any, *others: Any) -> Any:
        axes = (None if shared else eqx.if_array(0), *(eqx.if_array(0) for _ in others))
        return eqx.filter_vmap(function, in_axes=axes)(inputs, *others)

    return everywhere


def _where(flag: Array, new: Any, old: Any) -> Any:
    """`new` where the flag is set, in the types of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(flag, jnp.asarray(a).astype(b.dtype), b), new, old)


def _blackjax_promotion() -> Any:
    """blackjax mixes dtypes and ranks, which strict promotion (a setting of tests and careful users) refuses."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


def _blackjax() -> None:
    """**Raises** `E_EXTRA_MISSING` where blackjax is not installed."""
    if importlib.util.find_spec("blackjax") is None:
        raise PinnsimError.of(
            "E_EXTRA_MISSING",
            "NUTS needs the package blackjax; install it with pip install 'pinnsim[bayes]', or use laplace(...).",
        )
