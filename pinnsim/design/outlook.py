"""What a model expects of experiments, and how its uncertainty shows in the readings.

From a normal posterior with covariance `A A'`, `A = S (I - V diag(1 - 1 / sqrt(1 + l)) V')` (`fit.laplace`): the roots
are `J A`, J the readings' Jacobian at the estimate by forward mode, a tangent solve per free parameter. From an
ensemble of m members: the roots are `(f_k - mean) / sqrt(m - 1)`, so that `roots roots'` is the sample covariance of
the predicted readings, and no derivative is needed.

New cultures rest before the first switch, unless another rule for their initial state is given.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.design.experiments import Layout
from pinnsim.design.gain import Goals, Outlook, goals_of
from pinnsim.design.parts import in_parts
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.fit import Draws, Laplace
from pinnsim.fit.curvature import by_batches
from pinnsim.fit.free import FreeVector, Vector
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Times
from pinnsim.simulate import ODE, AbstractInitial, Outcome
from pinnsim.simulate.run import run_one
from pinnsim.treatment import resolve_lanes

Belief: TypeAlias = Laplace | Draws | CellModel
"""A posterior, draws, or an ensemble of models, (member, ...)."""
Goal: TypeAlias = str | list[str] | tuple[str, ...] | Callable[[CellModel], Array]

_TANGENTS, _SIDE_BY_SIDE = 32, 32  # parameters, and treatments of one of them
_MOST_DRAWS = 256
_RELATED = 1e-9  # correlation below it is rounding


class Setting(eqx.Module):
    """How experiments are simulated: `times`: (time,), from the start on; `perturbations`: leading treatment axis;
    `initial`: the cultures' rule; `method`: in forward mode."""

    times: Times
    perturbations: Perturbation
    initial: AbstractInitial
    method: ODE


def setting_of(model: CellModel, layout: Layout, initial: AbstractInitial, rtol: float, atol: float) -> Setting:
    """The candidates' treatments for a model."""
    perturbations = resolve_lanes(layout.treatments, model.table)
    return Setting(layout.times, perturbations, initial, ODE(rtol, atol).forward_mode())


def readings(setting: Setting, model: CellModel) -> tuple[Float[Array, "treatment time gene"], Array]:
    """Expected readings under every treatment and whether it could be solved, (treatment,). `model` is resolved."""

    def one(perturbation: Perturbation) -> tuple[Array, Array]:
        solution, predicted = run_one(model, setting.times, setting.method, perturbation, setting.initial)
        return predicted, solution.outcome == Outcome.DONE

    return in_parts(one, setting.perturbations, _SIDE_BY_SIDE)


def instrument(model: CellModel, times: Times, predicted: Float[Array, "time gene"]) -> tuple[Array, Array]:
    """The instrument's standard deviations at these expected readings, (time, gene), and the correlations of its
    errors, (gene, time, time): those of the inverse curvature of its likelihood."""
    likelihood = model.observation.likelihood
    every, none = jnp.ones(predicted.shape, bool), jnp.zeros_like(predicted)

    def cost(values: Array) -> Array:
        return -jnp.sum(likelihood.log_density(times, predicted, values, every, none))

    def column(time: Array) -> Array:
        return jax.jvp(jax.grad(cost), (predicted,), (none.at[time].set(1.0),))[1]

    curvature = jnp.moveaxis(jax.vmap(column)(jnp.arange(times.shape[0])), 2, 0)
    own = jnp.einsum("gtt->gt", curvature)
    sound = jnp.all(jnp.isfinite(own) & (own > 0), axis=1)[:, None, None]
    plain = jnp.eye(times.shape[0], dtype=predicted.dtype)[None]
    covariance = jnp.linalg.inv(jnp.where(sound, curvature, plain))
    size = jnp.sqrt(jnp.einsum("gtt->gt", covariance))
    return likelihood.standard_deviation(times, predicted), covariance / (size[:, :, None] * size[:, None, :])


def outlook_of(belief: Belief, layout: Layout, setting: Setting, progress: bool = False) -> Outlook:
    """What is expected of all treatments by a posterior, draws, an ensemble, or one model (which has no doubts)."""
    if not isinstance(belief, Laplace):
        return outlook_from(members_expect(setting, members_of(belief)))
    kind = belief.free.center.dtype
    kept: list[tuple[Array, ...]] = []
    estimate, scale = jnp.asarray(belief.estimate, kind), jnp.asarray(belief.scale, kind)

    def some(numbers: Array) -> Array:
        seen, slopes = _tangents(setting, belief.free, estimate, scale, numbers)
        kept[:] = [seen]
        return slopes

    slopes = by_batches(some, len(belief.free.names), _TANGENTS, "readings' slopes", progress)
    roots = _rooted(belief, np.moveaxis(slopes, 0, -1))
    mean, sd, related, usable = kept[0]
    usable = usable & jnp.asarray(np.isfinite(roots).all(axis=(1, 2, 3)))
    return Outlook(mean, sd, jnp.asarray(roots, kind), _some(related), usable)


class Expected(NamedTuple):
    """What members expect: readings and the instrument's standard deviations, (member, treatment, time, gene),
    correlations of its errors, (member, treatment, gene, time, time), and what can be solved, (member, treatment)."""

    mean: Array
    sd: Array
    correlation: Array
    usable: Array


def outlook_from(expected: Expected) -> Outlook:
    """The outlook of an ensemble: its mean, and the roots of its sample covariance."""
    mean = jnp.mean(expected.mean, axis=0)
    many = jnp.asarray(max(len(expected.mean) - 1, 1), mean.dtype)
    roots = jnp.moveaxis(expected.mean - mean[None], 0, -1) / jnp.sqrt(many)
    sd, related = jnp.sqrt(jnp.mean(expected.sd**2, axis=0)), jnp.mean(expected.correlation, axis=0)
    return Outlook(mean, sd, roots, _some(related), jnp.all(expected.usable, axis=0))


def members_of(belief: Draws | CellModel) -> CellModel:
    """The models of an ensemble, (member, ...); of many draws some, spread evenly."""
    if isinstance(belief, Draws):
        rows = belief.flat[np.linspace(0, len(belief.flat) - 1, min(len(belief.flat), _MOST_DRAWS)).astype(int)]
        return eqx.filter_vmap(belief.free.with_values)(jnp.asarray(rows, belief.free.center.dtype))
    arrays = eqx.filter(belief, eqx.is_array)
    single = np.ndim(resolve(belief.kinetics.decay)) == 1
    return eqx.combine(jax.tree.map(lambda leaf: leaf[None], arrays), belief) if single else belief


def count_of(members: CellModel | None) -> int:
    """How many members an ensemble has."""
    return 0 if members is None else int(np.shape(resolve(members.kinetics.decay))[0])


def goals_for(belief: Belief, goal: Goal | None) -> tuple[Goals | None, tuple[str, ...]]:
    """Goals in directions of a belief, and their names.

    **Raises** `E_USAGE` for rates that are not free, rates of an ensemble that does not say which they are, and a
    quantity of no finite number.
    """
    if goal is None:
        return None, ()
    if callable(goal):
        rows, name = _quantity_rows(belief, goal), getattr(goal, "__name__", "quantity")
        names = (name,) if len(rows) == 1 else tuple(f"{name}[{k}]" for k in range(len(rows)))
        if not np.isfinite(rows).all():
            raise PinnsimError.of(
                "E_USAGE", f"Goal '{name}' has no finite value or slope at this model; choose another quantity."
            )
        return goals_of(jnp.asarray(rows)), names
    names = (goal,) if isinstance(goal, str) else tuple(goal)
    if not isinstance(belief, Laplace | Draws):
        raise PinnsimError.of(
            "E_USAGE",
            "An ensemble of models does not say which rates are free; give the posterior of fit.laplace or fit.nuts, "
            "or a function of the model as goal.",
        )
    free = belief.free.names
    with Problems() as problems:
        for name in names:
            if name not in free:
                problems.add(
                    "E_USAGE",
                    f"Goal '{name}'{did_you_mean(name, free)} is no free rate; the free ones are {first(free, 6)}.",
                )
        if not names:
            problems.add("E_USAGE", "The goal names no rate; name some, or leave it out.")
    at = [free.index(name) for name in names]
    if isinstance(belief, Laplace):
        rows = _rooted(belief, np.eye(len(free))[at] * belief.scale)
    else:
        chosen = belief.flat[np.linspace(0, len(belief.flat) - 1, min(len(belief.flat), _MOST_DRAWS)).astype(int)]
        rows = (chosen - chosen.mean(axis=0))[:, at].T / np.sqrt(max(len(chosen) - 1, 1))
    return goals_of(jnp.asarray(rows, belief.free.center.dtype)), names


def _quantity_rows(belief: Belief, quantity: Callable[[CellModel], Array]) -> np.ndarray:
    """Changes of a quantity per unit of each direction, (goal, direction)."""
    if isinstance(belief, Laplace):
        free, scale = belief.free, jnp.asarray(belief.scale, belief.free.center.dtype)

        @eqx.filter_jit
        def slope(free: FreeVector, estimate: Vector, scale: Vector) -> Array:
            def value(white: Vector) -> Array:
                return jnp.ravel(quantity(resolve(free.with_values(estimate + scale * white))))

            return jax.jacfwd(value)(jnp.zeros_like(estimate))

        return _rooted(belief, np.asarray(slope(free, jnp.asarray(belief.estimate, scale.dtype), scale)))

    @eqx.filter_jit
    def values(members: CellModel) -> Array:
        return eqx.filter_vmap(lambda model: jnp.ravel(quantity(resolve(model))))(members)

    found = np.asarray(values(members_of(belief)))
    return (found - found.mean(axis=0)).T / np.sqrt(max(len(found) - 1, 1))


def _rooted(belief: Laplace, slopes: np.ndarray) -> np.ndarray:
    """Slopes per prior width, (..., free), as slopes per direction of the posterior, (..., free)."""
    narrowed = 1.0 - 1.0 / np.sqrt(1.0 + belief.eigenvalues)
    return slopes - (slopes @ belief.basis * narrowed) @ belief.basis.T


def _some(related: Array) -> Array | None:
    """Correlations, `None` where errors are independent."""
    apart = np.asarray(related) * (1.0 - np.eye(related.shape[-1]))
    return related if np.abs(np.nan_to_num(apart)).max(initial=0.0) > _RELATED else None


@eqx.filter_jit
def _tangents(
    setting: Setting, free: FreeVector, estimate: Vector, scale: Vector, numbers: Int[Array, " some"]
) -> tuple[tuple[Array, ...], Float[Array, "some treatment time gene"]]:
    """What is expected at the estimate, and changes of all readings per prior width of each of these parameters."""

    def predicted(vector: Vector) -> tuple[Array, Array]:
        return readings(setting, resolve(free.with_values(vector)))

    def tangent(number: Int[Array, ""]) -> tuple[Array, Array, Array]:
        direction = jnp.where(jnp.arange(estimate.shape[0]) == number, scale, 0.0)
        return jax.jvp(predicted, (estimate,), (direction,), has_aux=True)

    # The readings themselves come with their tangents: they are solved once.
    mean, slopes, usable = jax.vmap(tangent, out_axes=(None, 0, None))(numbers)
    sd, related = jax.vmap(partial(instrument, resolve(free.with_values(estimate)), setting.times))(mean)
    return (mean, sd, related, usable), slopes


@eqx.filter_jit
def members_expect(setting: Setting, members: CellModel) -> Expected:
    """What every member of an ensemble, (member, ...), expects of every treatment."""

    def one(model: CellModel) -> Expected:
        model = resolve(model)
        predicted, usable = readings(setting, model)
        sd, related = jax.vmap(partial(instrument, model, setting.times))(predicted)
        return Expected(predicted, sd, related, usable)

    return eqx.filter_vmap(one)(members)
