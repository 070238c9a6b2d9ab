"""Through time in spans: what every sampled method shares.

A span is a stretch of time in which nothing from outside changes: no switch of a perturbation and no saved time lies
inside, and its edits are constant. A span ends at the next saved time, the next switch, or the next point of a refresh
grid (`first + k * refresh`), where dose curves and hidden activities are looked at again. The rules at switches are
those of the rate equations: a value reported at a switch is the one before it, and a held species takes its level at
the start of its span.

Dose curves count by their value in the middle of a grid cell (of its part between two switches), and so do hidden
activities, whose own motion, `dh/dt = (set point - h) / tau + drive`, is solved exactly. Both errors are of second
order in `refresh`; without dose curves and hidden activities there is no error, and the grid is not needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinnsim.dynamics.gene_kinetics import GeneKinetics, reaction_kinds
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.reactions import ReactionSystem
from pinnsim.dynamics.structure import Structure, gene_structure
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import Amounts, Hidden, Rates, Scalar, State, Times
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.solve import Solution

_FINE = 0.05  # refresh, as a share of the fastest time constant of doses and hidden activities

Count = Int[Array, ""]
Advance = Callable[[Any, "Span"], tuple[Any, Count]]


class Channels(eqx.Module):
    """A model as jumps: which reactions change which amounts, and how often they fire.

    **Arguments:** `kinetics`: resolved; `structure`: the reactions among the `amounts`, the leading entries of the
    state; hidden activities follow them; `numbered`: which of them are numbers of molecules, `None` for all.
    """

    kinetics: AbstractKinetics
    structure: Structure = eqx.field(static=True)
    numbered: tuple[bool, ...] | None = eqx.field(static=True, default=None)

    @property
    def whole(self) -> np.ndarray:
        """(amount,), true for what is counted in whole molecules."""
        count = self.structure.species
        return np.ones(count, bool) if self.numbered is None else np.array(self.numbered, dtype=bool)

    @property
    def amounts(self) -> int:
        """Number of species with an abundance."""
        return self.structure.species

    def rates(self, amounts: Amounts, hidden: Hidden, edits: Edits, grain: Scalar) -> Rates:
        """v, (reaction,), amount per time, where one molecule is `grain`."""
        state = jnp.concatenate([amounts, hidden]) if hidden.size else amounts
        if isinstance(self.kinetics, ReactionSystem):
            return self.kinetics.molecular(state, edits, grain)
        return self.kinetics.propensities(jnp.zeros((), state.dtype), state, Constant(edits))


class Span(NamedTuple):
    """One stretch of time: its ends, what acts, the hidden activities that count in it, and of the amounts alone which
    are held (1 or 0), at which level, and their added production (0 where held)."""

    left: Scalar
    right: Scalar
    edits: Edits
    hidden: Hidden
    held: Float[Array, " amount"]
    level: Amounts
    drive: Amounts


def channels_of(kinetics: AbstractKinetics) -> Channels:
    """The jumps of a model. **Raises** `E_USAGE` where something other than gene kinetics has hidden activities."""
    if isinstance(kinetics, ReactionSystem):
        return Channels(kinetics, kinetics.structure)
    if isinstance(kinetics, GeneKinetics):
        kinds = reaction_kinds(kinetics.layers)
        return Channels(kinetics, gene_structure(kinetics.layers, kinds, kinetics.genes))
    with jax.ensure_compile_time_eval():
        material = np.asarray(kinetics.material())
    if not material.all():
        raise PinnsimError.of(
            "E_USAGE",
            f"{type(kinetics).__name__} has {int((~material).sum())} states that are not abundances, which sampled "
            "methods know of gene kinetics only; use ODE() or Diffusion(...).",
        )
    matrix = kinetics.stoichiometry()
    changes = tuple((int(i), int(r), int(matrix[i, r])) for i, r in np.argwhere(matrix))
    return Channels(kinetics, Structure(matrix.shape[0], matrix.shape[1], ((),) * matrix.shape[1], changes))


def own_refresh(kinetics: AbstractKinetics, perturbation: Perturbation, kind: np.dtype) -> Scalar:
    """The refresh that a model and a perturbation need: 1/20 of the fastest time constant of dose curves and hidden
    activities; infinite where there are none."""
    curves = jnp.concatenate([jnp.where(jnp.isfinite(perturbation.ka), perturbation.ka, 0.0), perturbation.ke])
    fastest = jnp.max(curves, initial=0.0)
    if isinstance(kinetics, GeneKinetics) and kinetics.hidden.tau.size:
        fastest = jnp.maximum(fastest, jnp.max(1.0 / kinetics.hidden.tau))
    return (_FINE / fastest).astype(kind)


def march(
    kinetics: AbstractKinetics,
    amounts: int,
    times: Times,
    perturbation: Perturbation,
    state: State,
    refresh: Scalar | None,
    begin: Any,
    amounts_of: Callable[[Any], Amounts],
    advance: Advance,
) -> Solution:
    """From `times[0]` to the last time, one span after another.

    **Arguments:** `kinetics`: resolved; `amounts`: how many leading entries of the state the method moves (the rest are
    hidden activities, which are moved here); `refresh`: time between looks at doses and hidden activities, or `None`
    for `own_refresh`; `begin`: the method's own carry; `amounts_of(carry)`: the amounts to report, (amount,);
    `advance(carry, span)`: the carry at the span's end and an `Outcome`.

    **Returns** a `Solution`; states after a failure are those where it stopped.
    """
    kind, count = state.dtype, amounts
    times = times.astype(kind)
    first = times[0]
    cuts = jnp.concatenate([perturbation.start, perturbation.stop]).astype(kind)
    spacing = own_refresh(kinetics, perturbation, kind) if refresh is None else refresh.astype(kind)
    resting = _Hidden(state[count:], jnp.broadcast_to(first, state[count:].shape), state[count:], state[count:])

    def to_save(carry: tuple, save: Scalar) -> tuple[tuple, State]:
        def unfinished(carry: tuple) -> Array:
            return (carry[0] < save) & (carry[-1] == Outcome.DONE)

        def step(carry: tuple) -> tuple:
            left, cell, own, hidden, outcome = carry
            # At cell 0 an infinite spacing has no product.
            opens = jnp.where(cell > 0, first + cell * spacing, first)
            closes = first + (cell + 1.0) * spacing
            middle = 0.5 * (opens + jnp.minimum(closes, jnp.maximum(times[-1], opens)))
            following = jnp.min(jnp.where(cuts > left, cuts, jnp.inf))
            previous = jnp.max(jnp.where(cuts <= left, cuts, -jnp.inf))
            right = jnp.minimum(jnp.minimum(save, following), jnp.where(closes > left, closes, save))
            edits = perturbation.during(left, right).at(jnp.clip(middle, jnp.maximum(previous, first), following))
            if count < state.shape[0]:
                hidden = _updated(kinetics, hidden, edits, count, left, left <= opens, middle)
            span = Span(
                left,
                right,
                edits,
                hidden.shown,
                edits.hold[:count].astype(kind),
                edits.level[:count],
                jnp.where(edits.hold, 0.0, edits.drive)[:count],
            )
            own, outcome = advance(own, span)
            return right, jnp.where(right >= closes, cell + 1.0, cell), own, hidden, outcome

        carry = jax.lax.while_loop(unfinished, step, carry)
        return carry, jnp.concatenate([amounts_of(carry[2]), _relaxed(kinetics, carry[3], carry[0])])

    done = jnp.asarray(Outcome.DONE.value, dtype=int)
    start = (first, jnp.zeros((), kind), begin, resting, done)
    last, states = jax.lax.scan(to_save, start, times)
    return Solution(states, last[-1], last[0])


class _Hidden(NamedTuple):
    """Hidden activities: their value when last settled, when that was, where they have been going since, and what
    counts in the present grid cell."""

    value: Hidden
    since: Hidden
    rest: Hidden
    shown: Hidden


def _updated(
    kinetics: AbstractKinetics, hidden: _Hidden, edits: Edits, count: int, now: Scalar, opening: Array, middle: Scalar
) -> _Hidden:
    """Settles what now goes elsewhere. Only that: so a switch that does not concern an activity leaves it bitwise as
    it was, and with it all that depends on it."""
    if not isinstance(kinetics, GeneKinetics):
        return hidden
    held, level = edits.hold[count:], edits.level[count:]
    rest = kinetics.hidden.set_point(edits.signal) + kinetics.hidden.tau * edits.drive[count:]
    rest = jnp.where(held, level, rest)
    changed = (rest != hidden.rest) | held
    value = jnp.where(changed, jnp.where(held, level, _relaxed(kinetics, hidden, now)), hidden.value)
    after = _Hidden(value, jnp.where(changed, now, hidden.since), rest, hidden.shown)
    shown = jnp.where(opening, _relaxed(kinetics, after, jnp.maximum(middle, now)), hidden.shown)
    return after._replace(shown=jnp.where(held, level, shown))


def _relaxed(kinetics: AbstractKinetics, hidden: _Hidden, time: Scalar) -> Hidden:
    """Hidden activities at `time`: each goes to its own rest exponentially."""
    if not isinstance(kinetics, GeneKinetics):
        return hidden.value
    passed = jnp.exp(-(time - hidden.since) / kinetics.hidden.tau)
    return hidden.rest + (hidden.value - hidden.rest) * passed
