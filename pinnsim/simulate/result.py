"""Results as values: states of all lanes, an outcome for each, names and units; out to xarray."""

import enum
from collections.abc import Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.events import ENDLESS, FINE, FULL, WRONG_DELAY
from pinnsim.errors import Problems
from pinnsim.shapes import Times
from pinnsim.shown import Facts, as_html, as_text, some, span


class Outcome(enum.IntEnum):
    """How a lane ended."""

    DONE = 0
    MAX_STEPS = 1
    NOT_FINITE = 2
    NOT_SETTLED = 3
    NOT_STABLE = 4
    EVENTS_WAITING = 5
    EVENTS_ENDLESS = 6
    EVENT_DELAY = 7
    MANY_EVENTS = 8
    NO_JUMPS = 9

    @property
    def sentence(self) -> str:
        """What it means for a reader."""
        return {
            Outcome.DONE: "reached the last time",
            Outcome.MAX_STEPS: "ran out of steps before the last time (stiff, or oscillating fast)",
            Outcome.NOT_FINITE: "left the range of numbers (a rate or state is NaN or infinite)",
            Outcome.NOT_SETTLED: "no steady state was reached (the state still moves, or cycles)",
            Outcome.NOT_STABLE: "the steady state is not stable (fluctuations around it grow or wander off)",
            Outcome.EVENTS_WAITING: "has more delayed executions of one event waiting than there is room for",
            Outcome.EVENTS_ENDLESS: "has events that trigger one another without end at one time",
            Outcome.EVENT_DELAY: "has an event with a delay that is negative or no number",
            Outcome.MANY_EVENTS: "has more than 100,000 instants at which a condition of an event changes",
            Outcome.NO_JUMPS: "is no process of jumps (a rate or amount is below 0, or an amount not whole)",
        }[self]


def event_outcome(trouble: int) -> Outcome:
    """The outcome of what went wrong with a model's events (`pinnsim.dynamics.events`)."""
    return _OF_EVENTS[trouble]


_OF_EVENTS = {
    FINE: Outcome.DONE,
    FULL: Outcome.EVENTS_WAITING,
    ENDLESS: Outcome.EVENTS_ENDLESS,
    WRONG_DELAY: Outcome.EVENT_DELAY,
}

Advice: TypeAlias = Mapping[Outcome, str]  # the way out of each ending, where it is not Python's


class Certificate(eqx.Module):
    """Which lanes a surrogate answered, and how sure it was.

    **Arguments:** `certified`: (lane,), true where the answer is the surrogate's, false where a solver ran; `bound`:
    (lane,), on the relative error of the surrogate's answer; `in_domain`: (lane,), whether it was made for this lane.
    """

    certified: Bool[Array, " lane"]
    bound: Float[Array, " lane"]
    in_domain: Bool[Array, " lane"]

    @property
    def fallback(self) -> float:
        """Share of lanes that a solver ran."""
        return float(np.mean(~np.asarray(self.certified)))


def run_facts(title: str, run: Any, *more: tuple[str, object]) -> Facts:
    """How a result of `simulate` shows itself: lanes, species, times, and how many reached the end."""
    rows = [("lanes", some(run.lanes)), ("species", some(run.species)), *more]
    if isinstance(run.times, jax.core.Tracer) or isinstance(run.outcome, jax.core.Tracer):
        return title, [*rows, ("times", f"{run.times.shape[0]}, in {run.time_unit}")]
    moments, done = np.asarray(run.times), np.asarray(run.done)
    rows.append(("times", f"{moments.size}, {span(moments[0], moments[-1], run.time_unit)}"))
    rows.append(("reached the last time", f"{int(done.sum())} of {done.size}"))
    whole = done.reshape(len(done), -1)
    failed = [name for name, lane in zip(run.lanes, whole, strict=False) if not lane.all()]
    return title, [*rows, *([("failed", some(failed))] if failed else [])]


class Simulation(eqx.Module):
    """Solved lanes.

    **Arguments:** `times`: (time,); `states`: (lane, time, species), NaN for lanes that failed; `outcome`: (lane,),
    see `Outcome`; `reached`: (lane,), the last time solved; `readings`: (lane, time, gene), what the instrument would
    show, or `None`; `certificate`: of a surrogate's answers, else `None`.
    """

    times: Times
    states: Float[Array, "lane time species"]
    outcome: Int[Array, " lane"]
    reached: Float[Array, " lane"]
    readings: Float[Array, "lane time gene"] | None
    lanes: tuple[str, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    genes: tuple[str, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    stiffness: tuple[float, ...] = eqx.field(static=True)
    certificate: Certificate | None = None

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        return run_facts("Simulation", self)

    @property
    def done(self) -> Array:
        """(lane,), true where the lane reached its last time."""
        return self.outcome == Outcome.DONE

    def state_of(self, species: str) -> Array:
        """One species over all lanes and times, (lane, time)."""
        return self.states[..., self.species.index(species)]

    def raise_failures(self, advice: Advice | None = None) -> "Simulation":
        """Raises `E_SOLVER` naming every failed lane, its last time and the way out (that of `advice`, where it has
        one); returns itself when all lanes are done."""
        raise_failed(self.lanes, self.outcome, self.reached, self.stiffness, self.time_unit, advice)
        return self

    def to_xarray(self) -> xr.DataTree:
        """A tree with `abundance` (lane, time, species), `hidden` activities where the model has them, `reading` and
        `outcome`, with units."""
        lanes = {"lane": list(self.lanes)}
        time = ("time", np.asarray(self.times), {"units": self.time_unit})
        root = xr.Dataset({"outcome": outcome_variable(("lane",), self.outcome)}, coords=lanes)
        parts = state_nodes(np.asarray(self.states), ("lane", "time"), {**lanes, "time": time}, self.species)
        nodes = {"/": root, **parts}
        if self.readings is not None:
            reading = xr.DataArray(
                np.asarray(self.readings),
                dims=("lane", "time", "gene"),
                coords={**lanes, "time": time, "gene": list(self.genes)},
                attrs={"units": "log2 intensity, or the readout's own unit"},
            )
            nodes["/readout"] = xr.Dataset({"reading": reading})
        return xr.DataTree.from_dict(nodes)


def raise_failed(
    lanes: tuple[str, ...],
    outcomes: Array,
    reached: Array,
    stiffness: tuple[float, ...],
    time_unit: str,
    advice: Advice | None = None,
) -> None:
    """Raises `E_SOLVER` naming every lane that is not done, its last time and the way out: that of `advice`, or in
    terms of Python's arguments."""
    with Problems() as problems:
        for lane, outcome, last, ratio in zip(lanes, np.asarray(outcomes), np.asarray(reached), stiffness, strict=True):
            if outcome != Outcome.DONE:
                ended = Outcome(int(outcome))
                remedy = (advice or {}).get(ended) or _remedy(ended, ratio)
                problems.add(
                    "E_SOLVER",
                    f"lane '{lane}' {ended.sentence}: stopped at t={last:.4g} {time_unit}; stiffness ratio "
                    f"~{ratio:.0e}: {remedy}.",
                )


def _remedy(ended: Outcome, stiffness: float) -> str:
    if ended == Outcome.NOT_FINITE:
        return "look for NaN in this lane's parameters, doses and initial state"
    if ended == Outcome.NOT_SETTLED:
        return "start from FromState(...) or FromSample(...), or give AtRest a guess"
    if ended == Outcome.NOT_STABLE:
        return "start from a stable steady state, or with a covariance of zero"
    if ended in MODEL_REMEDIES:
        return MODEL_REMEDIES[ended]
    return "use ODE(stiff=True)" if stiffness > 1e3 else "raise max_steps or loosen rtol"


MODEL_REMEDIES = {
    Outcome.EVENTS_WAITING: "read the model with more room: read_sbml(..., places=64), or read_antimony",
    Outcome.EVENTS_ENDLESS: "look for events whose assignments make one another's triggers true",
    Outcome.EVENT_DELAY: "look at the formula of the delay, which must be >= 0",
    Outcome.NO_JUMPS: "write reversible reactions as two, and amounts in whole molecules, or use ODE()",
    Outcome.MANY_EVENTS: "simulate a shorter time, or look for events that come ever faster",
}


def outcome_variable(dims: tuple[str, ...], outcome: Array) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    """Outcomes as an xarray variable that says what its codes mean."""
    return dims, np.asarray(outcome), {"meaning": "; ".join(f"{o.value} {o.sentence}" for o in Outcome)}


def is_hidden(species: tuple[str, ...]) -> np.ndarray:
    """(species,), true for hidden activities, which have no abundance."""
    return np.array([name.endswith((".activity", ".input")) for name in species], dtype=bool)


def state_nodes(
    states: np.ndarray, dims: tuple[str, ...], coords: dict[str, object], species: tuple[str, ...]
) -> dict[str, xr.Dataset]:
    """States, (*dims, species), as nodes of a tree: `/species` and, where the model has them, `/hidden`."""
    hidden = is_hidden(species)

    def part(keep: np.ndarray, label: str, units: str) -> xr.Dataset:
        names = [name for name, kept in zip(species, keep, strict=True) if kept]
        array = xr.DataArray(
            states[..., keep], dims=(*dims, "species"), coords={**coords, "species": names}, attrs={"units": units}
        )
        return xr.Dataset({label: array})

    nodes = {"/species": part(~hidden, "abundance", "relative abundance")}
    if hidden.any():
        nodes["/hidden"] = part(hidden, "log_activity", "natural log, relative")
    return nodes


def mask_failed(states: Array, failed: Array) -> Array:
    """NaN in place of what a failed solve left: it can be finite and plain wrong."""
    return jnp.where(failed, jnp.nan, states)


def stiffness_ratio(jacobian: Array) -> float:
    """Largest over smallest rate |Re lambda| of a Jacobian, on the host; infinite when a rate is zero or the Jacobian
    is not finite."""
    matrix = np.asarray(jax.device_get(jacobian))
    if not np.isfinite(matrix).all():
        return float("inf")
    rates = np.abs(np.linalg.eigvals(matrix).real)
    rates = rates[rates > 1e-12 * max(rates.max(initial=0.0), 1e-300)]
    return float(rates.max() / rates.min()) if rates.size else 1.0
