"""Multiple shooting: courses in segments with free initial states, and a price of the gaps between them.

A course of samples t_0 ... t_n is cut every `shooting_interval` samples. The first segment starts where the culture
does, segment s at a free state z_s; each is solved on its own, and

    objective = data + prior + (weight / 2) sum_s |log x(end of segment s) - log z_{s+1}|^2

(hidden activities, which are logarithms already, as they are). With a low weight every segment follows the data, as in
collocation, but exactly, and whatever the rates are no course runs far enough to fall out of phase, diverge, or have
its gradient explode; as the weight rises a thousandfold the pieces grow together into one course, and the states are
dropped. What is left to trajectories is the last bit.

Instead of a rising weight the gaps may say themselves what they weigh (`shooting_weights = "adaptive"`): they are taken
for normal with a variance v_i of each species' own, which is profiled out,

    n / 2 sum_i log(1 + most v_i),   v_i = mean of species i's squared gaps,   n gaps each,

so that each weighs 1 / v_i: little while physics and data are at odds, up to `most` where they agree, and species that
the equations describe badly hold up no other. With `shooting_interval = 1` this is the physics residual of collocation
with free states.

Sources: H. G. Bock, Recent advances in parameter identification techniques for ODEs (1983); J. Kallrath, J. Schloeder
and H. Bock, Celest. Mech. Dyn. Astron. 56:353 (1993), for chaotic systems; E. M. Turan and J. Jaeschke, IEEE Control
Syst. Lett. 6:1897 (2021), for penalties that rise.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.fit.collocation import smooth
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import FAILED_CULTURE, Objective, prior_terms, scored_readings, start_of
from pinnsim.fit.optimise import Lanes, Stage
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.model import CellModel, ModelPrior
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar
from pinnsim.simulate import ODE, FromSample, FromState, Outcome
from pinnsim.simulate.run import run_one

RISE = 1000.0  # how many times the weight grows
_LEAST = 1e-9  # abundance below which logarithms are not followed


class Shot(eqx.Module):
    """A model with the free states of its segments: `states`, (culture, segment - 1, species), logarithms of
    abundances and hidden activities as they are."""

    model: CellModel
    states: Float[Array, "..."]


class ShotPrior(eqx.Module):
    """A model's prior; the free states have none."""

    center: Shot
    spread: Shot


class Pieces(eqx.Module):
    """Cultures in segments, beside the whole ones: `times`, (culture, segment, sample), the last of a segment being the
    first of the next; `position`: of each in the culture; `counts`: whether it is scored; `weight`: the price of gaps,
    the most it may be where it is `adaptive`."""

    whole: Cultures
    times: Float[Array, "..."]
    position: Int[Array, "..."]
    counts: Bool[Array, "..."]
    weight: Float[Array, "..."]
    adaptive: Bool[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Shooting:
    """The stage of a plan."""

    plan: FitPlan

    def stage(self, rates: np.ndarray) -> Stage:
        """Between collocation and trajectories."""
        return Stage(
            "shooting",
            None,
            rates,
            shooting_objective,
            enter=self.enter,
            leave=model_of,
            part=self.part,
        )

    def enter(self, lanes: Lanes) -> Lanes:
        """Lanes with free states, begun where the readings are."""
        data = pieces(lanes.data, self.plan)
        states = _first_states(lanes.models, data)
        priors = ShotPrior(
            Shot(lanes.priors.center, states), Shot(lanes.priors.spread, jnp.full(states.shape, jnp.inf, states.dtype))
        )
        return Lanes(Shot(lanes.models, states), priors, data)

    def part(self, lanes: Lanes, done: int) -> Pieces:
        """The same data at the weight of this step."""
        rise = 1.0 if self.plan.shooting_weights == "adaptive" else done / max(self.plan.shooting_steps, 1)
        weight = self.plan.shooting_weight * RISE**rise
        data: Pieces = lanes.data
        return dataclasses.replace(data, weight=jnp.full(data.weight.shape, weight, data.weight.dtype))


def model_of(shot: Shot) -> CellModel:
    """The model without its free states."""
    return shot.model


def pieces(data: Cultures, plan: FitPlan) -> Pieces:
    """Cultures with leading axes (lane, culture) cut every `plan.shooting_interval` samples; the last segment is padded
    with times after the end that count nothing."""
    times = np.asarray(data.times)
    samples, size = times.shape[-1], plan.shooting_interval
    segments = max(-(-(samples - 1) // size), 1)
    place = np.arange(segments)[:, None] * size + np.arange(size + 1)[None]
    position, real = np.minimum(place, samples - 1), place < samples
    # Beyond the end time stands nearly still: nothing is solved for nothing.
    tiny = 1e-6 * (times[..., -1:] - times[..., :1])[..., None]
    cut = times[..., position] + tiny * np.maximum(place - samples + 1, 0)
    counts = real & ((np.arange(size + 1) > 0) | (place == 0))
    lead = times.shape[:-1]
    return Pieces(
        whole=data,
        times=jnp.asarray(cut),
        position=jnp.asarray(np.broadcast_to(position, (*lead, *position.shape))),
        counts=jnp.asarray(np.broadcast_to(counts, (*lead, *counts.shape))),
        weight=jnp.full(lead[0], plan.shooting_weight, data.times.dtype),
        adaptive=jnp.full(lead[0], plan.shooting_weights == "adaptive"),
    )


@eqx.filter_jit
def _first_states(models: CellModel, data: Pieces) -> Array:
    """States of segments after the first as the readings, drawn through what is missing, show them at rest."""

    def lane(model: CellModel, data: Pieces) -> Array:
        cell = resolve(model)
        whole = data.whole

        def culture(times: Array, readings: Array, mask: Array, perturbation: Perturbation, cut: Array) -> Array:
            shown = smooth(times, readings, mask, cut[1:, 0])
            return jax.vmap(lambda r: _raw(cell, FromSample(r).state(cell, perturbation)))(shown)

        return jax.vmap(culture)(whole.times, whole.per_exposure, whole.mask, whole.perturbations, data.times)

    return eqx.filter_vmap(lane)(models, data)


def _raw(cell: CellModel, states: Array) -> Array:
    """Logarithms of abundances, (species,); activities as they are."""
    material = cell.kinetics.material()
    safe = jnp.where(material, jnp.maximum(states, _LEAST), 1.0)
    return jnp.where(material, jnp.log(safe), states)


def _state(cell: CellModel, raw: Array) -> Array:
    material = cell.kinetics.material()
    return jnp.where(material, jnp.exp(jnp.where(material, raw, 0.0)), raw)


def shooting_objective(shot: Shot, prior: ShotPrior, data: Pieces, settings: Settings, _: None) -> Objective:
    """Data, prior, and `gaps`; a segment that cannot be solved costs as much as a culture that cannot."""
    cell, whole = resolve(shot.model), data.whole
    method = ODE(settings.rtol, settings.atol, max_steps=settings.max_steps)

    def culture(times: Array, shown: Array, states: Array, perturbation: Perturbation) -> tuple[Array, Array, Array]:
        own = start_of(shown, settings).state(cell, perturbation)
        starts = jnp.concatenate([own[None], jax.vmap(lambda raw: _state(cell, raw))(states)])

        def segment(times: Array, state: Array) -> tuple[Array, Array, Array]:
            solution, readings = run_one(cell, times, method, perturbation, FromState(state))
            return readings, solution.states[-1], solution.outcome

        readings, ends, outcome = jax.vmap(segment)(times, starts)
        gaps = jax.vmap(lambda end, raw: _raw(cell, end) - raw)(ends[:-1], states)
        met = (outcome[:-1] == Outcome.DONE)[:, None]
        return readings, jnp.where(met, gaps, 0.0), outcome

    readings, gaps, outcome = jax.vmap(culture)(data.times, whole.per_exposure, shot.states, whole.perturbations)
    scored = scored_readings(whole, settings)
    rows = jnp.arange(scored.shape[0])[:, None, None]
    counts = data.counts[..., None] & scored[rows, data.position]
    done = outcome == Outcome.DONE
    failed = ~done & jnp.any(counts, axis=(2, 3))
    measured = whole.readings[rows, data.position]
    exposed = jnp.where(done[..., None, None], readings, whole.per_exposure[rows, data.position])
    exposed = exposed * whole.exposure[rows, data.position][..., None]
    density = jax.vmap(jax.vmap(cell.observation.likelihood.log_density))(
        data.times, measured, exposed, counts, whole.measured_sd[rows, data.position]
    )
    cost = jnp.where(done, -jnp.sum(density, axis=-1), jnp.where(failed, FAILED_CULTURE, 0.0))
    believed = ModelPrior(prior.center.model, prior.spread.model)
    terms = {"data": jnp.sum(cost), **prior_terms(shot.model, believed)}
    terms["gate"] = settings.gate_penalty * cell.kinetics.residual.gate * len(shot.model.table.genes)
    terms["gaps"] = jnp.where(data.adaptive, adaptive_cost(gaps, data.weight), 0.5 * data.weight * jnp.sum(gaps**2))
    return Objective(sum(terms.values(), jnp.zeros(())), terms, jnp.sum(failed, dtype=int))


def adaptive_cost(gaps: Float[Array, "... species"], most: Scalar) -> Scalar:
    """Nats of gaps whose variances are profiled out, (..., species); 0 where there are none. Its slope in a gap g is
    g / (v + 1 / most)."""
    count = gaps.size // gaps.shape[-1]
    square = jnp.mean(gaps**2, axis=tuple(range(gaps.ndim - 1))) if count else jnp.zeros(gaps.shape[-1], gaps.dtype)
    return 0.5 * count * jnp.sum(jnp.log1p(most * square))
