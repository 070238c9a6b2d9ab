"""An operator as a method of `simulate`: its answers where they are certified, a solver's where they are not."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.operator.conformal import Conformal, calibrate, trajectory_error
from pinnsim.operator.domain import Domain, Draws, lane_kinetics
from pinnsim.operator.form import AbstractOperator
from pinnsim.operator.march import Predicted, at_nodes, inner_edges, predict, predict_at_nodes
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, Scalar, Times
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.many import check_lanes, solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.surrogate import AbstractSurrogate, Answer

_BLOCK = 64  # lanes side by side: wide enough for matrix products, small enough for a core's cache


class CertifiedOperator(eqx.Module):
    """An operator, the domain that it was trained for, and how far off it is there. Make it with `certify`."""

    operator: AbstractOperator
    domain: Domain
    conformal: Conformal


class Operator(AbstractSurrogate):
    """`simulate(..., method=Operator(certified))`: certified answers of an operator, solved ones for the rest.

    **Arguments:** `certified`: from `certify` or `load_operator`; `fallback`: the solver for lanes that are not
    certified; `tolerance`: relative error of the worst amount of a trajectory up to which an answer is taken, with the
    confidence of the calibration.
    """

    certified: CertifiedOperator
    fallback: ODE
    tolerance: Scalar

    def __init__(self, certified: CertifiedOperator, fallback: ODE | None = None, tolerance: ArrayLike = 0.05):
        self.certified = certified
        self.fallback = ODE() if fallback is None else fallback
        self.tolerance = jnp.asarray(tolerance, dtype=float)

    def answer(
        self,
        kinetics: AbstractKinetics,
        times: Numbers,
        perturbation: Perturbation,
        states: Array,
        own: Mapping[str, Array] | None = None,
    ) -> Answer:
        kinetics, own = resolve(kinetics), dict(own or {})
        check_lanes(kinetics, states, own)
        moments = np.asarray(times, dtype=float)
        edges = inner_edges(perturbation, moments, states.shape[0])
        which = at_nodes(self.certified.operator, moments) if edges.shape[1] == 2 else None
        which = which if self.certified.operator.windows == 1 else None
        span, ends = jnp.asarray(moments, states.dtype), jnp.asarray(edges, states.dtype)
        return _answered(resolve(self.certified), kinetics, span, perturbation, states, own, ends, which)


@eqx.filter_jit
def _answered(
    certified: CertifiedOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    states: Array,
    own: dict[str, Array],
    edges: Array,
    which: tuple[int, ...] | None,
) -> Answer:
    common, each = (perturbation, None) if perturbation.start.ndim == 1 else (None, perturbation)

    def one(shared: tuple, lane: tuple) -> tuple[Array, Array, Array]:
        certified, kinetics, times, common = shared
        own, each, state, edges = lane
        acting, mine = each if common is None else common, lane_kinetics(kinetics, own)
        found = _predicted(certified.operator, mine, times, acting, state, edges, which)
        inside = certified.domain.contains(mine, times, acting, state, edges)
        return found.states, certified.conformal.bound(found.doubts), inside

    found = run_lanes(one, (certified, kinetics, times, common), (own, each, states, edges), block=_BLOCK)
    return Answer(*found)


def _predicted(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    state: Array,
    edges: Array,
    which: tuple[int, ...] | None,
) -> Predicted:
    if which is None:
        return predict(operator, kinetics, times, perturbation, state, edges)
    return predict_at_nodes(operator, kinetics, times, perturbation, state, which)


def predict_many(
    operator: AbstractOperator, kinetics: AbstractKinetics, times: Numbers, draws: Draws
) -> tuple[Float[Array, "lane time species"], Float[Array, "lane doubt"]]:
    """States and doubts of many lanes, without a certificate."""
    moments = np.asarray(times, dtype=float)
    edges = inner_edges(draws.perturbation, moments, draws.states.shape[0])
    which = at_nodes(operator, moments) if edges.shape[1] == 2 and operator.windows == 1 else None
    kind = draws.states.dtype
    span, ends = jnp.asarray(moments, kind), jnp.asarray(edges, kind)
    found = _many(resolve(operator), resolve(kinetics), span, draws.perturbation, draws.states, draws.own, ends, which)
    return found.states, found.doubts


@eqx.filter_jit
def _many(
    operator: AbstractOperator,
    kinetics: AbstractKinetics,
    times: Times,
    perturbation: Perturbation,
    states: Array,
    own: dict[str, Array],
    edges: Array,
    which: tuple[int, ...] | None,
) -> Predicted:
    def one(shared: tuple, lane: tuple) -> Predicted:
        operator, kinetics, times = shared
        own, each, state, edges = lane
        return _predicted(operator, lane_kinetics(kinetics, own), times, each, state, edges, which)

    return run_lanes(one, (operator, kinetics, times), (own, perturbation, states, edges), block=_BLOCK)


def certify(
    operator: AbstractOperator,
    domain: Domain,
    key: PRNGKeyArray,
    *,
    lanes: int = 2000,
    level: float = 0.9,
    times: Numbers | None = None,
    solver: ODE | None = None,
    chunk: int = 500,
    progress: bool = True,
) -> CertifiedOperator:
    """Measures an operator against a solver on `lanes` fresh draws from its domain, and calibrates its bound.

    **Arguments:** `level`: share of the domain for which the bound is to hold; `times`: where trajectories are compared
    (default: the nodes over the horizon; a user who asks at other times gets the bound of these); `solver`: default
    `ODE(1e-7, 1e-10)`, `ODE(1e-5, 1e-7)` in single precision.

    **Raises** `E_USAGE` where too few of the lanes could be solved for the level.
    """
    horizon = float(np.asarray(resolve(domain).horizon))
    moments = operator.nodes * horizon if times is None else np.asarray(times, dtype=float)
    errors, doubts = [], []
    with tqdm(total=lanes, desc="calibrate", unit="lane", disable=None if progress else True) as bar:
        for number in range(-(-lanes // chunk)):
            draws = domain.sample(jax.random.fold_in(key, number), chunk)
            error, doubt = measured_errors(operator, domain, draws, moments, solver)
            errors.append(error)
            doubts.append(doubt)
            bar.update(chunk)
    every, doubtful = np.concatenate(errors)[:lanes], np.concatenate(doubts)[:lanes]
    good = np.isfinite(every)
    return CertifiedOperator(operator, domain, calibrate(doubtful[good], every[good], level))


def measured_errors(
    operator: AbstractOperator, domain: Domain, draws: Draws, times: Numbers, solver: ODE | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Worst relative error of every lane against the solver, (lane,), and its doubts, (lane, doubt); NaN where the
    solver failed."""
    single = draws.states.dtype == jnp.float32
    solver = (ODE(1e-5, 1e-7) if single else ODE(1e-7, 1e-10)) if solver is None else solver
    kinetics = resolve(domain).kinetics
    exact = solve_many(kinetics, times, draws.perturbation, draws.states, solver, own=draws.own)
    states, doubts = predict_many(operator, kinetics, times, draws)
    floor = resolve(operator).floor
    error = np.asarray(trajectory_error(states, exact.states, jnp.asarray(floor)))
    return np.where(np.asarray(exact.outcome) == 0, error, np.nan), np.asarray(doubts)
