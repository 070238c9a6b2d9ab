"""Many sampled cells under each treatment: the result as a value, and the function that makes it.

Cell number c of every treatment has the key `lane_key(key, c)`, so a control cell and the treated cell of the same
number see the same random numbers, and their difference is the treatment's effect on one cell. Results do not depend
on how cells are split into blocks, because a cell's numbers depend on its own number only.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key
from pinnsim.shapes import Times
from pinnsim.shown import Facts, as_html, as_text
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.result import (
    MODEL_REMEDIES,
    Advice,
    Outcome,
    mask_failed,
    outcome_variable,
    run_facts,
    state_nodes,
)
from pinnsim.simulate.sampler import AbstractSampler, Key
from pinnsim.simulate.solve import Solution
from pinnsim.simulate.ssa import SSA

# Cells that run side by side on a processor. Exact jumps wait for the slowest cell and touch all reactions at each
# firing: few at a time, in the innermost cache. Steps that all cells take together: as many as the outer cache holds.
_JUMPS, _MOST_JUMPING = 4096, 256
_STEPS, _MOST_STEPPING = 65536, 1024
_LEAST = 32


class Ensemble(eqx.Module):
    """Sampled cells.

    **Arguments:** `times`: (time,); `states`: (lane, cell, time, species), abundances, NaN for cells that failed;
    `outcome`: (lane, cell), see `Outcome`; `reached`: (lane, cell), the last time reached; `size`: molecules per
    abundance unit (NaN where the method has none); `lanes`: a name per treatment.
    """

    times: Times
    states: Float[Array, "lane cell time species"]
    outcome: Int[Array, "lane cell"]
    reached: Float[Array, "lane cell"]
    size: Float[Array, ""]
    lanes: tuple[str, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        return run_facts("Ensemble", self, ("cells per lane", self.states.shape[1]))

    @property
    def done(self) -> Array:
        """(lane, cell), true where the cell reached the last time."""
        return self.outcome == Outcome.DONE

    def state_of(self, species: str) -> Array:
        """One species over all cells and times, (lane, cell, time)."""
        return self.states[..., self.species.index(species)]

    def mean(self) -> Float[Array, "lane time species"]:
        """Mean over the cells that are done; NaN where none is."""
        return self._average(self.states)

    def variance(self) -> Float[Array, "lane time species"]:
        """Variance over the cells that are done, with the factor n / (n - 1)."""
        count = jnp.sum(self.done, axis=1)[:, None, None].astype(self.states.dtype)
        spread = self._average((self.states - self.mean()[:, None]) ** 2)
        return jnp.where(count > 1, spread * count / jnp.maximum(count - 1, 1), jnp.nan)

    def fano(self) -> Float[Array, "lane time species"]:
        """Variance over mean of molecule numbers, `size * variance / mean`: 1 for Poisson numbers."""
        return self.size * self.variance() / self.mean()

    def _average(self, values: Float[Array, "lane cell time species"]) -> Float[Array, "lane time species"]:
        kept = self.done[:, :, None, None]
        count = jnp.sum(kept, axis=1).astype(values.dtype)
        total = jnp.sum(jnp.where(kept, values, 0.0), axis=1)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    def raise_failures(self, advice: Advice | None = None) -> "Ensemble":
        """Raises `E_SOLVER` naming each treatment with failed cells, and the way out (that of `advice`, where it has
        one); returns itself when all cells are done."""
        codes, reached, remedies = np.asarray(self.outcome), np.asarray(self.reached), {**_REMEDIES, **(advice or {})}
        with Problems() as problems:
            for row, name in enumerate(self.lanes):
                for kind in sorted(set(codes[row].tolist()) - {Outcome.DONE.value}):
                    which = np.flatnonzero(codes[row] == kind)
                    problems.add(
                        "E_SOLVER",
                        f"{len(which)} of {codes.shape[1]} cells of lane '{name}' ended early (first: cell {which[0]} "
                        f"at t={reached[row, which[0]]:.4g} {self.time_unit}): {remedies[Outcome(kind)]}.",
                    )
        return self

    def to_xarray(self) -> xr.DataTree:
        """A tree with `abundance` (lane, cell, time, species), `hidden` activities where the model has them, and
        `outcome`, with units."""
        cells = np.arange(self.outcome.shape[1])
        coords = {
            "lane": list(self.lanes),
            "cell": cells,
            "time": ("time", np.asarray(self.times), {"units": self.time_unit}),
        }
        places = {"lane": list(self.lanes), "cell": cells}
        root = xr.Dataset({"outcome": outcome_variable(("lane", "cell"), self.outcome)}, coords=places)
        root.attrs["size"] = float(self.size)
        nodes = state_nodes(np.asarray(self.states), ("lane", "cell", "time"), coords, self.species)
        return xr.DataTree.from_dict({"/": root, **nodes})


_REMEDIES = MODEL_REMEDIES | {
    Outcome.MAX_STEPS: "raise max_events or max_leaps, lower the size, or use Langevin(...)",
    Outcome.NOT_FINITE: "look for NaN or infinite rates in the parameters, doses and initial state",
    Outcome.NOT_SETTLED: "the initial state is no steady state; start from FromState(...)",
}


def sample_cells(
    method: AbstractSampler,
    kinetics: AbstractKinetics,
    times: Times,
    perturbations: Perturbation,
    states: Float[Array, "lane species"],
    key: Key,
    cells: int,
    lanes: Sequence[str] | None = None,
) -> Ensemble:
    """`cells` cells under each of many perturbations.

    **Arguments:** `perturbations`: stacked, with a leading lane axis; `states`: (lane, species), where the cells of
    each lane start; `key`: one key; cell c of every lane uses `lane_key(key, c)`; `lanes`: names, default numbers.

    **Raises** `E_USAGE` for fewer than one cell, `E_INIT` where the states' shape is not the lanes' and the model's.
    """
    count = perturbations.start.shape[0]
    if cells < 1:
        raise PinnsimError.of("E_USAGE", f"Argument `cells` must be at least 1, but is {cells}.")
    expected = (count, len(kinetics.table.species))
    if states.shape != expected:
        raise PinnsimError.of(
            "E_INIT", f"States to start from must have the shape (lane, species) = {expected}, but have {states.shape}."
        )
    found = _sampled(method, kinetics, times, perturbations, states, key_of(key), cells)
    size = getattr(method, "size", None)
    return Ensemble(
        times=times,
        states=mask_failed(found.states, (found.outcome != Outcome.DONE)[..., None, None]),
        outcome=found.outcome,
        reached=found.reached,
        size=jnp.asarray(jnp.nan if size is None else size, dtype=states.dtype),
        lanes=tuple(str(i) for i in range(count)) if lanes is None else tuple(lanes),
        species=kinetics.table.species,
        time_unit=kinetics.time_unit,
    )


@eqx.filter_jit
def _sampled(
    method: AbstractSampler,
    kinetics: AbstractKinetics,
    times: Times,
    perturbations: Perturbation,
    states: Array,
    words: Array,
    cells: int,
) -> Solution:
    lanes = states.shape[0]
    # Cells of one treatment lie side by side: they take nearly the same number of steps.
    which, cell = jnp.repeat(jnp.arange(lanes), cells), jnp.tile(jnp.arange(cells), lanes)
    shared = (method, resolve(kinetics), times, perturbations, states, words)
    table = kinetics.table
    numbers, most = (_JUMPS, _MOST_JUMPING) if isinstance(method, SSA) else (_STEPS, _MOST_STEPPING)
    fitting = numbers // max(len(table.species) + len(table.reactions), 1)
    on_processor = jax.local_devices()[0].platform == "cpu"
    block = min(max(fitting, _LEAST), most) if on_processor else None
    found = run_lanes(_one, shared, (which, cell), block=block)
    return jax.tree.map(lambda array: array.reshape(lanes, cells, *array.shape[1:]), found)


def _one(shared: tuple, place: tuple[Array, Array]) -> Solution:
    method, kinetics, times, perturbations, states, words = shared
    which, cell = place
    own = jax.tree.map(lambda leaf: leaf[which], perturbations)
    return method.sample(kinetics, times, own, states[which], lane_key(words, cell))
