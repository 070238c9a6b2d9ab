"""Where the balls of all valleys are under every combination of edits: at rest, or at a time after the switch.

At rest it is `pinnsim.landscape.attractors_under`: followed, polished, certified. At a time it is the state to which
the flow has come from each valley, by the batched solver, with edits that begin at 0 or at their own times; nothing is
certified, and a ball is said to be where it is nearest.

The same programs serve the model and every member of an ensemble, one after the other, because their numbers are
arguments; combinations and balls are lanes.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.attractors import ARRIVED, Attractors
from pinnsim.landscape.attractors_under import attractors_under, edited_species
from pinnsim.landscape.coordinates import host_coordinates
from pinnsim.landscape.resting import Settling
from pinnsim.landscape.shifts import REMAINS, Shifts
from pinnsim.landscape.slabs import in_batches
from pinnsim.simulate import ODE, Outcome, solve_many
from pinnsim.treatment import Treatment, resolve_lanes

NEAR, ELSEWHERE, FAILED, LOST = "near", "elsewhere", "failed", "no valley"
STAYS = (REMAINS, NEAR)  # fates that are no change
SENTENCES = {
    NEAR: "at that time its ball is nearer to its own valley than to any other",
    ELSEWHERE: "at that time its ball is nearer to another valley than to its own",
    LOST: "this member does not have the valley, so no ball starts there",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How balls are followed. **Arguments:** `background`: acts in all; `span`: how long at first, or, where `timed`,
    the time at which effects are read; `starts`, `seed`: shared starts of the search for new valleys."""

    background: Treatment
    span: float
    timed: bool
    starts: int
    seed: int
    method: ODE
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Balls:
    """Where balls are, of one model, (combination, valley, ...).

    **Arguments:** `base`: (valley, species), where they are unperturbed; `states`: NaN where a ball is nowhere; `fate`;
    `rests`: the valley, or "N1" ... for a new one; `returns`: the valley to which it goes back afterwards, "" where
    that is not known; `distance`, `downstream`: from `base`, natural log; `new`: (combination,), valleys that no ball
    reached; `edited`: (combination, species).
    """

    base: np.ndarray
    states: np.ndarray
    fate: np.ndarray
    rests: np.ndarray
    returns: np.ndarray
    distance: np.ndarray
    downstream: np.ndarray
    new: np.ndarray
    edited: np.ndarray

    @staticmethod
    def nowhere(count: int, valleys: int, species: int) -> "Balls":
        """Of a member that has none of the valleys."""
        words = np.full((count, valleys), "", object)
        numbers = np.full((count, valleys), np.nan)
        states = np.full((count, valleys, species), np.nan)
        fate, edited = np.full((count, valleys), LOST, object), np.zeros((count, species), bool)
        base = np.full((valleys, species), np.nan)
        return Balls(base, states, fate, words, words.copy(), numbers, numbers.copy(), np.zeros(count, int), edited)

    def put(self, kept: np.ndarray, some: "Balls") -> "Balls":
        """With the balls of the valleys that a member has in their places."""
        for name in ("states", "fate", "rests", "returns", "distance", "downstream"):
            getattr(self, name)[:, kept] = getattr(some, name)
        self.base[kept] = some.base
        return dataclasses.replace(self, new=some.new, edited=some.edited)

    def joined(self, other: "Balls") -> "Balls":
        """The combinations of both, one after the other."""
        names = [field.name for field in dataclasses.fields(Balls) if field.name != "base"]
        return Balls(base=self.base, **{n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in names})


def followed(
    kinetics: AbstractKinetics,
    treatments: Sequence[Treatment],
    points: np.ndarray,
    names: Sequence[str],
    settings: Settings,
    *,
    own: bool,
    progress: bool,
) -> Balls:
    """The balls of one model. **Arguments:** `points`: (valley, species), NaN for those that it does not have; `own`:
    whether it is the model itself, where new valleys are looked for and balls are let go afterwards."""
    kept = np.isfinite(points).all(axis=1)
    whole = Balls.nowhere(len(treatments), *points.shape)
    if not kept.any():
        return whole
    its, valleys = [name for name, k in zip(names, kept, strict=True) if k], points[kept]
    if settings.timed:
        return whole.put(kept, _in_time(kinetics, treatments, valleys, its, settings, progress))
    return whole.put(kept, _at_rest(kinetics, treatments, valleys, its, settings, own, progress))


def decided(
    kinetics: AbstractKinetics, treatments: Sequence[Treatment], state: np.ndarray, settings: Settings
) -> Settings:
    """With explicit or implicit steps chosen, once for all combinations and members: one program, not two."""
    stacked = resolve_lanes([settings.background + t for t in treatments], kinetics.table, host=True)
    programs = Settling(kinetics, stacked, np.inf, settings.method, settings.batch_size)
    programs.decide(state, settings.span)
    return dataclasses.replace(settings, method=programs.method)


def _at_rest(
    kinetics: AbstractKinetics,
    treatments: Sequence[Treatment],
    valleys: np.ndarray,
    names: Sequence[str],
    settings: Settings,
    own: bool,
    progress: bool,
) -> Balls:
    shifts = attractors_under(
        kinetics,
        {"": Treatment(), **{str(k): t for k, t in enumerate(treatments)}},
        background=settings.background,
        reference=_known(kinetics, valleys, names, settings.span),
        starts=settings.starts if own else 0,
        settle=settings.span,
        seed=settings.seed,
        method=settings.method,
        batch_size=settings.batch_size,
        lift=own,
        progress=progress,
    )
    if own:
        _check_rest(kinetics, shifts)
    home, rests = shifts.home[1:], shifts.home[1:] >= 0
    at = np.maximum(home, 0)
    without = ~np.isin(np.arange(len(shifts.states)), shifts.home)
    new = np.bincount(shifts.owner[without], minlength=len(treatments) + 1)
    backs = np.array([*shifts.valleys, ""], object)[shifts.lifted] if len(shifts.states) else np.array([""], object)
    called = np.array(shifts.names or [""], object)
    states = shifts.states if len(shifts.states) else np.zeros((1, len(shifts.species)))
    return Balls(
        base=np.where(shifts.home[0][:, None] >= 0, states[np.maximum(shifts.home[0], 0)], shifts.reference),
        states=np.where(rests[..., None], states[at], np.nan),
        fate=shifts.fate[1:],
        rests=np.where(rests, called[at], ""),
        returns=np.where(rests, backs[at], ""),
        distance=shifts.distances()[1:],
        downstream=shifts.distances(downstream=True)[1:],
        # What the search of the unperturbed cell has missed is no work of a perturbation.
        new=np.maximum(new[1:] - new[0], 0),
        edited=shifts.edited[1:],
    )


def _check_rest(kinetics: AbstractKinetics, shifts: Shifts) -> None:
    """Raises `E_INIT` for valleys in which the unperturbed ball does not stay."""
    gaps = shifts.distances()[0]
    left = np.flatnonzero(~(gaps <= ARRIVED))
    if len(left):
        raise PinnsimError.of(
            "E_INIT",
            f"{len(left)} states of `reference` are no place of rest of the unperturbed model (first: "
            f"{shifts.valleys[left[0]]}, whose ball is said to be '{shifts.fate[0, left[0]]}', "
            f"{gaps[left[0]]:.2g} away); give the result of find_attractors, a longer `settle`, or `time`.",
        )


def _known(kinetics: AbstractKinetics, valleys: np.ndarray, names: Sequence[str], span: float) -> Attractors:
    """Valleys that were certified elsewhere, in the form that the search takes."""
    count, none = len(valleys), np.zeros(0, int)
    return Attractors(
        states=valleys,
        names=tuple(names),
        stability=("stable",) * count,
        index=np.zeros(count, int),
        eigenvalues=np.zeros((count, 0), complex),
        residual=np.zeros(count),
        starts=np.zeros(count, int),
        motion=(),
        arrives=none,
        ends=np.zeros((0, valleys.shape[1])),
        settle=span,
        species=kinetics.table.species,
        time_unit=kinetics.time_unit,
    )


def _in_time(
    kinetics: AbstractKinetics,
    treatments: Sequence[Treatment],
    valleys: np.ndarray,
    names: Sequence[str],
    settings: Settings,
    progress: bool,
) -> Balls:
    lanes = [settings.background, *(settings.background + t for t in treatments)]
    stacked = resolve_lanes(lanes, kinetics.table, host=True)
    # Three times, as where balls are followed to rest: the same program serves both.
    shape, times = (len(lanes), len(valleys)), jnp.asarray([0.0, 0.5 * settings.span, settings.span])
    which = np.repeat(np.arange(len(lanes)), len(valleys))
    begin = np.tile(valleys, (len(lanes), 1))

    def run(which: np.ndarray, states: np.ndarray) -> tuple[Array, Array]:
        acting = jax.tree.map(lambda a: jnp.asarray(a[which]), stacked)
        found = solve_many(kinetics, times, acting, jnp.asarray(states), settings.method)
        return found.states[:, -1], found.outcome

    label = "courses" if progress else None
    ends, outcome = in_batches(run, [which, begin], settings.batch_size, label)
    done = (outcome == Outcome.DONE) & np.isfinite(ends).all(axis=1)
    material = np.asarray(kinetics.material())
    states = np.where(done[:, None], np.where(material, np.maximum(ends, 0.0), ends), np.nan).reshape(*shape, -1)
    place = host_coordinates(kinetics)
    moved = (place(states[1:]) - place(states[:1])) ** 2
    gaps = np.sqrt(np.mean((place(states[1:])[:, :, None] - place(valleys)) ** 2, axis=-1))
    solved = np.isfinite(gaps).all(axis=-1)
    nearest = np.where(solved, np.argmin(np.where(solved[..., None], gaps, 0.0), axis=-1), -1)
    edited = edited_species(kinetics, stacked)[1:]
    kept = np.broadcast_to(~edited[:, None], moved.shape)
    return Balls(
        base=states[0],
        states=states[1:],
        fate=np.where(~solved, FAILED, np.where(nearest == np.arange(len(valleys)), NEAR, ELSEWHERE)).astype(object),
        rests=np.array([*names, ""], object)[nearest],
        returns=np.full(solved.shape, "", object),
        distance=np.sqrt(moved.mean(axis=-1)),
        downstream=np.sqrt(np.where(kept, moved, 0.0).sum(axis=-1) / np.maximum(kept.sum(axis=-1), 1)),
        new=np.zeros(len(treatments), int),
        edited=edited,
    )
