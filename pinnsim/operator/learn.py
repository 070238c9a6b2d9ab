"""Training an operator: from its own physics, from solver runs, or from any mix of both.

    loss = physics * mean r^2 + data * mean (log (x + floor) / (x* + floor))^2 + conservation * mean (y x - y x(0))^2

r is the operator's own residual (how far a course is from what the true rates make of it, in natural logarithms, for
the first guess and after every sweep), x* a solver's states at the nodes, y conserved totals, relative. Conservation
and bounds hold by construction, so their term is a check that stays at rounding.

Every chunk of steps draws fresh lanes from the domain. The horizon grows from `curriculum_from` of a window to all of
it. Where there are switches or several windows, half of the lanes start where a course has already brought them. The
loop, its checkpoints, schedule and progress bar are those of fits (`pinnsim.fit.optimise`).

Source: S. Wang, H. Wang and P. Perdikaris, Sci. Adv. 7:eabi8605 (2021), physics-informed DeepONets.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.dynamics.conservation import conservation_laws
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.fit.network import train_network
from pinnsim.fit.objective import Objective
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.operator.domain import Domain, Draws, lane_kinetics
from pinnsim.operator.form import AbstractOperator
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, solve_many
from pinnsim.simulate.batch import run_lanes
from pinnsim.tree import stack

Trained = TypeVar("Trained", bound=AbstractOperator)
Weight = Annotated[float, Field(ge=0)]


class OperatorPlan(BaseModel):
    """How an operator is trained. Good values: 500-3000 steps of 64-512 lanes at learning rate 1e-3; physics alone
    where runs are dear; a data weight beside it takes out what nodes cannot see (bends between them)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    batch: Annotated[int, Field(ge=2, le=1_000_000)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    physics: Weight = 1.0
    data: Weight = 0.0
    conservation: Weight = 0.0
    curriculum_from: Annotated[float, Field(gt=0, le=1)] = 0.3
    curriculum_steps: Annotated[int, Field(ge=0)] = 0
    rtol: Annotated[float, Field(gt=0)] = 1e-4
    seed: Annotated[int, Field(ge=0)] = 0


class Batch(NamedTuple):
    """Lanes of one chunk: windows of one length. `times`: (1,), that length; `targets`: (lane, node, species), a
    solver's, or of no nodes; `laws`: (law, species); `weights`: (3,)."""

    times: Array
    kinetics: AbstractKinetics
    own: dict[str, Array]
    perturbation: Perturbation
    states: Array
    targets: Array
    laws: Array
    weights: Array


class Training(NamedTuple):
    """`operator`: trained; `history`: (chunk,), the loss after every ten steps; `interrupted`: whether Ctrl-C ended
    it."""

    operator: Any
    history: np.ndarray
    interrupted: bool


def train(
    operator: Trained,
    domain: Domain,
    plan: OperatorPlan | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Training:
    """Trains an operator on a domain.

    **Arguments:** `checkpoint`: a path; `<path>.operator.safetensors` is written during the training, and the same
    training goes on from it, to the same weights as without the interruption.

    **Raises** `E_CKPT_MODEL`, `E_CKPT_CORRUPT` for a checkpoint of another training or a damaged one.
    """
    plan = OperatorPlan() if plan is None else plan
    source = _Source(operator, domain, plan)
    schedule = FitPlan(seed=plan.seed, learning_rate=plan.learning_rate)
    return Training(
        *train_network(
            operator, operator_loss, source.batch, schedule, plan.steps, name="operator", reads="nodes",
            told=plan.model_dump_json(), checkpoint=checkpoint, progress=progress,
        )
    )  # fmt: skip


class _Source:
    """Fresh lanes for every chunk, the same for the same plan, whatever came before."""

    def __init__(self, operator: AbstractOperator, domain: Domain, plan: OperatorPlan) -> None:
        self.operator, self.plan, self.domain = operator, plan, domain
        nominal = resolve(domain).kinetics
        self.kinetics = jax.tree.map(jnp.asarray, nominal)
        self.laws = jnp.asarray(conservation_laws(nominal.stoichiometry()), dtype=float)
        self.window = float(np.asarray(resolve(domain).horizon)) / operator.windows
        self.key = jax.random.key(plan.seed)

    def batch(self, done: int) -> Batch:
        key = jax.random.fold_in(self.key, done)
        rng = np.random.default_rng([self.plan.seed, done])
        rise = min(done / max(self.plan.curriculum_steps, 1), 1.0)
        share = self.plan.curriculum_from + (1.0 - self.plan.curriculum_from) * rise
        # Half of the chunks are as long as they may be, where errors are largest.
        length = self.window * share * (1.0 if rng.random() < 0.5 else rng.uniform(0.2, 1.0))
        draws = self.domain.sample(key, self.plan.batch)
        acting = _for_ever(draws.perturbation)
        states = self._carried(draws, acting, length, rng)
        nodes = len(self.operator.nodes) if self.plan.data > 0 else 0
        targets = jnp.zeros((self.plan.batch, nodes, states.shape[1]))
        if nodes:
            method = ODE(self.plan.rtol, 1e-3 * self.plan.rtol)
            times = self.operator.nodes * length
            targets = solve_many(self.kinetics, times, acting, states, method, own=draws.own).states
        weights = jnp.asarray([self.plan.physics, self.plan.data, self.plan.conservation])
        batch = Batch(jnp.asarray(length), self.kinetics, draws.own, acting, states, targets, self.laws, weights)
        return stack([batch])

    def _carried(self, draws: Draws, acting: Perturbation, length: float, rng: np.random.Generator) -> Array:
        """First states, half of them where unperturbed or perturbed courses lead within the horizon."""
        if self.operator.windows == 1 and not self.domain.pulses:
            return draws.states
        states, windows = draws.states, int(rng.integers(1, max(self.operator.windows, 2) + 1))
        for _ in range(windows):
            states = _after(resolve(self.operator), self.kinetics, draws.own, acting, states, jnp.asarray(length))
        carried = jnp.asarray(rng.random(states.shape[0]) < 0.5)
        return jnp.where(carried[:, None], states, draws.states)


def _for_ever(perturbation: Perturbation) -> Perturbation:
    always = (jnp.full_like(perturbation.start, -jnp.inf), jnp.full_like(perturbation.stop, jnp.inf))
    return eqx.tree_at(lambda p: (p.start, p.stop), perturbation, always)


@eqx.filter_jit
def _after(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    own: dict[str, Array],
    perturbation: Perturbation,
    states: Array,
    length: Array,
) -> Array:
    def one(shared: tuple, lane: tuple) -> Array:
        operator, kinetics, length = shared
        own, acting, state = lane
        course = operator.course(lane_kinetics(kinetics, own), acting.at(0.5 * length), state, length)
        return course.states[-1]

    return run_lanes(one, (operator, kinetics, length), (own, perturbation, states))


def operator_loss(model: Any, prior: Any, data: Batch, settings: Settings, predict: Any) -> Objective:
    """The loss of one chunk's lanes, and its terms. See the module's first lines."""
    operator, length = resolve(model), data.times

    def one(own: dict[str, Array], acting: Perturbation, state: Array, target: Array) -> tuple[Array, Array, Array]:
        kinetics, edits = lane_kinetics(data.kinetics, own), acting.at(0.5 * length)
        residual = operator.physics_residual(kinetics, edits, state, length)
        physics = jnp.mean(residual**2)
        if not target.shape[0] and not data.laws.shape[0]:
            return physics, jnp.zeros(()), jnp.zeros(())
        found = operator.course(kinetics, edits, state, length).states
        missed = jnp.zeros(())
        if target.shape[0]:
            floor = operator.floor[None]
            material = floor > 0
            ratio = jnp.where(material, found + floor, 1.0) / jnp.where(material, jnp.maximum(target, 0.0) + floor, 1.0)
            missed = jnp.mean(jnp.log(jnp.maximum(ratio, 1e-30)) ** 2)
        lost = jnp.zeros(())
        if data.laws.shape[0]:
            begin = jnp.where(edits.hold, edits.level, state)
            closed = ~(jnp.any(edits.hold) | jnp.any(edits.drive != 0))
            gone = (found - begin[None]) @ data.laws.T / (jnp.abs(data.laws) @ begin + 1e-12)[None]
            lost = jnp.where(closed, jnp.mean(gone**2), 0.0)
        return physics, missed, lost

    terms = jax.vmap(one)(data.own, data.perturbation, data.states, data.targets)
    physics, missed, lost = (jnp.mean(term) for term in terms)
    total = jnp.sum(data.weights * jnp.stack([physics, missed, lost]))
    named = {"physics": physics, "data": missed, "conservation": lost}
    return Objective(total, named, jnp.zeros((), int))
