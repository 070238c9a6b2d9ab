"""Conserved totals in a search: every start is moved to the totals of one stated state, and stays there.

Reactions that only convert (a promoter between off and on, a protein between two forms) keep sums of amounts, so a cell
with such totals has one landscape for each value of them; starts with different totals live in different landscapes and
must not be mixed. A law is an integer row y with `y x` constant (`pinnsim.dynamics.conservation`). Of all states with
the wanted totals T the one nearest to a start x, in relative entropy, is taken,

    min_q sum_i q_i log(q_i / x_i) - q_i + x_i,   L q = T,      so   q_i = x_i exp(sum_k lambda_k L_ki),

which is positive where x is; lambda is found by Newton's method on the convex dual `sum_i q_i - lambda' T`.

Source: I. Csiszar, Ann. Probab. 3:146 (1975), I-projection; C. Reder, J. Theor. Biol. 135:175 (1988), conserved totals.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.conservation import conservation_laws, law_names
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, first
from pinnsim.landscape.coordinates import Numbers, require_states
from pinnsim.perturbation import Edits, Perturbation

_SAME = 1e-9  # totals that differ by less than this part of the amounts that they add are equal
_NEWTON, _HALVINGS = 200, 40


@dataclasses.dataclass(frozen=True)
class Totals:
    """What is conserved, and how much of it there is.

    **Arguments:** `laws`: (law, species), integers; `values`: (law,), abundance units; `state`: (species,), a state
    that has these totals; `names`: one per law, as `A + AB = total`.
    """

    laws: np.ndarray
    values: np.ndarray
    state: np.ndarray
    names: tuple[str, ...]

    def gaps(self, states: np.ndarray) -> np.ndarray:
        """Largest difference of totals, (state,), relative to the amounts that are added up."""
        if not len(self.laws):
            return np.zeros(len(states))
        size = np.abs(states) @ np.abs(self.laws.T) + np.abs(self.values)[None]
        return np.max(np.abs(states @ self.laws.T - self.values[None]) / np.maximum(size, 1e-300), axis=1)

    def held_by(self, states: np.ndarray) -> np.ndarray:
        """The states with these totals that are nearest to `states`, (state, species).

        **Raises** `E_INIT` where no positive amounts have them.
        """
        if not len(self.laws) or not len(states):
            return states
        laws, values = self.laws.astype(float), self.values
        pools = np.asarray((laws >= 0).all(axis=1))
        # Of a pool of which there is nothing, all members are absent: a multiplier would have to be infinite.
        absent = np.asarray(((laws > 0) & (pools & (values <= 0))[:, None]).any(axis=0))
        kept = np.asarray((laws * ~absent[None] != 0).any(axis=1))
        laws, values = laws[kept] * ~absent[None], values[kept]
        begin = np.where(absent[None], 0.0, states)
        found = begin if not len(laws) else _projected(begin, laws, values)
        gaps = self.gaps(found)
        if not (gaps <= _SAME).all():
            raise PinnsimError.of(
                "E_INIT",
                f"{int((~(gaps <= _SAME)).sum())} of {len(states)} starts cannot be given the totals of the stated "
                f"state ({first(self.names)}); give a state with positive amounts of everything that is conserved.",
            )
        return found


def conserved(kinetics: AbstractKinetics, acting: Edits) -> np.ndarray:
    """The laws that hold under a treatment, (law, species), integers; none for flows without reactions.

    A species that is held or driven is exchanged with the outside and belongs to no total; a reaction that is switched
    off converts nothing.
    """
    changes = np.asarray(kinetics.stoichiometry())
    count = changes.shape[0]
    if not changes.shape[1]:
        return np.zeros((0, count), int)
    unit, free = np.eye(count, dtype=int), ~np.asarray(acting.hold)
    outside = np.asarray(acting.drive != 0) | ~np.asarray(kinetics.material())
    moved = np.concatenate([changes[:, np.asarray(acting.factor != 0)], unit[:, outside]], axis=1)[free]
    if np.linalg.matrix_rank(moved) == free.sum():
        return np.zeros((0, count), int)
    laws = np.zeros((0, count), int)
    found = conservation_laws(moved)
    if len(found):
        laws = np.zeros((len(found), count), int)
        laws[:, free] = found
    return laws


def totals_of(
    kinetics: AbstractKinetics, acting: Perturbation, totals: Numbers | None, states: np.ndarray | None
) -> Totals:
    """The totals that a search holds: those of `totals`, else those that all `states` have.

    **Arguments:** `kinetics`: resolved; `acting`: frozen; `totals`: (species,); `states`: (state, species) or `None`.

    **Raises** `E_INIT` where totals are conserved and neither says how large they are, or given states have others.
    """
    edits = acting.at(jnp.zeros(()))
    laws = conserved(kinetics, edits)
    names = law_names(laws, kinetics.table.species)
    hold, level = np.asarray(edits.hold), np.asarray(edits.level)
    if totals is not None:
        stated = np.asarray(totals, dtype=float)
        require_states(stated[None] if stated.ndim == 1 else stated, kinetics, "totals")
    elif not len(laws):
        stated = np.asarray(kinetics.default_state())
    elif states is not None and len(states):
        stated = states[0]
    else:
        raise PinnsimError.of(
            "E_INIT",
            f"The model conserves {len(laws)} totals ({first(names)}), and every value of them is a landscape of its "
            "own; give argument `totals` a state that has the wanted ones.",
        )
    stated = np.where(hold, level, stated)
    held = Totals(laws, laws @ stated, stated, names)
    gaps = held.gaps(states) if states is not None else np.zeros(0)
    if (gaps > _SAME).any():
        raise PinnsimError.of(
            "E_INIT",
            f"{int((gaps > _SAME).sum())} given states (first: state {int(np.argmax(gaps > _SAME))}) have other totals "
            f"({first(names)}) than {'`totals`' if totals is not None else 'state 0'}; search each value on its own.",
        )
    return held


def _projected(states: np.ndarray, laws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """I-projections of states, (state, species); what Newton's method has by the end is judged by the caller."""
    moves = (laws != 0).any(axis=0)
    laws, begin = laws[:, moves], np.maximum(states[:, moves], 1e-300)
    weights = np.zeros((len(states), len(laws)))

    def amounts(weights: np.ndarray) -> np.ndarray:
        return begin * np.exp(np.clip(weights @ laws, -700.0, 700.0))

    def dual(weights: np.ndarray) -> np.ndarray:
        return amounts(weights).sum(axis=1) - weights @ values

    for _ in range(_NEWTON):
        now = amounts(weights)
        slope = now @ laws.T - values[None]
        if (np.abs(slope) <= 1e-14 * (now @ np.abs(laws.T) + np.abs(values)[None])).all():
            break
        bend = np.einsum("ki,si,li->skl", laws, now, laws)
        # Laws are independent, but amounts may be so small that a row of the matrix is lost to rounding.
        bend += 1e-15 * np.trace(bend, axis1=1, axis2=2)[:, None, None] * np.eye(len(laws))[None]
        step = np.linalg.solve(bend + 1e-290 * np.eye(len(laws))[None], slope[..., None])[..., 0]
        step *= np.minimum(1.0, 5.0 / np.maximum(np.abs(step @ laws).max(axis=1), 1e-300))[:, None]
        height, part = dual(weights), np.ones(len(states))
        for _ in range(_HALVINGS):
            worse = dual(weights - part[:, None] * step) > height + 1e-13 * np.abs(height)
            if not worse.any():
                break
            part = np.where(worse, 0.5 * part, part)
        weights = weights - part[:, None] * step
    found = states.copy()
    found[:, moves] = amounts(weights)
    return found
