"""Splits by what was done to the cells, and by populations of cells: leave one perturbation, drug or time point out.

Held out is everything that touches one thing: of conditions under perturbations, all those in which a gene is touched,
alone or beside others, since a double knock-out tells of each of its halves; of conditions under drugs, all that
contain one drug at any dose; of snapshots, all cells of a moment, and of its neighbours in time where they are told.
Further leaks are refused, each with its own sentence:

- *shared target*: what a split holds out is touched in its training part;
- *twins*: conditions of equal treatment under two names (replicates of one moment) on both sides;
- *copies*: the same readings on both sides, as where one untreated sample was entered for every condition;
- *cells*: the same cells, by barcode or by an equal profile, in both parts;
- *neighbours*: populations closer in time to the held-out one than they may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pinnsim.data.dataset import Dataset
from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.score.splits import Split
from pinnsim.treatment import Treatment
from pinnsim.treatment.edit import Dose

DETECTED = 20  # entries above 0 from which on two cells do not have the same profile by chance
_GENES = 3  # observed readings from which on two samples are not equal by chance


def touched(treatment: Treatment) -> frozenset[str]:
    """Names of the genes, species, edges and inputs that a treatment's edits act on; a species or reaction counts as
    its gene (`GATA1.mrna` and `decay:GATA1` touch GATA1), an edge as itself."""
    return frozenset(_gene(edit.field, edit.name) for edit in treatment.edits)


def by_perturbation(dataset: Dataset, targets: Sequence[str] | None = None) -> tuple[Split, ...]:
    """Leave one perturbation out: for each touched name, all conditions that touch it are predicted from all others.

    **Arguments:** `targets`: names to hold out, in order; default all that are touched, in order of appearance. What
    every condition touches (a signal that all cultures get) cannot be held out, and is passed over by default.

    **Raises:** `E_DATA_EMPTY` where nothing can be held out, `E_CONDITION_UNKNOWN` for targets that no condition
    touches or that all do, and as `check_leave_out`; all together.
    """
    return _by_touch(dataset, [touched(treatment) for treatment in dataset.treatments], targets, "perturbation")


def by_drug(dataset: Dataset, drugs: Mapping[str, Sequence[str]] | None = None) -> tuple[Split, ...]:
    """Leave one drug out: all conditions that contain it, at any dose and in any combination.

    **Arguments:** `drugs`: for each drug the names that its edits act on (its targets, or the input that stands for
    it); by default every target of an edit with a dose is a drug of its own. Give a drug of several targets by name,
    or each of them would be held out while the others tell of it.

    **Raises:** as `by_perturbation`.
    """
    if drugs is None:
        found = [
            frozenset(_gene(e.field, e.name) for e in treatment.edits if e.dose != Dose())
            for treatment in dataset.treatments
        ]
    else:
        acting = [touched(treatment) for treatment in dataset.treatments]
        found = [frozenset(n for n, targets in drugs.items() if set(targets) & names) for names in acting]
    return _by_touch(dataset, found, None if drugs is None else list(drugs), "drug")


def check_leave_out(split: Split, held: str, contains: Callable[[Treatment], frozenset[str]] = touched) -> None:
    """Refuse a split of which the training part tells of what is held out: shared target, twins, copies.

    **Arguments:** `held`: the name; `contains`: the names that a treatment stands for. First samples, from which
    predictions start, may be equal.

    **Raises:** `E_SPLIT_LEAK`, all problems together.
    """
    train, test = split.train, split.test
    with Problems() as problems:
        shared = [c for c, t in zip(train.conditions, train.treatments, strict=True) if held in contains(t)]
        if shared:
            problems.add(
                "E_SPLIT_LEAK",
                f"'{split.name}': '{held}' is held out, but {len(shared)} fitted conditions contain it "
                f"({first(shared)}); hold them out as well.",
            )
        fitted = {str(t): c for c, t in zip(train.conditions, train.treatments, strict=True)}
        twins = [
            f"'{c}' and '{fitted[str(t)]}'"
            for c, t in zip(test.conditions, test.treatments, strict=True)
            if str(t) in fitted
        ]
        if twins:
            problems.add(
                "E_SPLIT_LEAK",
                f"'{split.name}': {len(twins)} tested conditions have the treatment of a fitted one ({first(twins)}); "
                "make them replicates of one condition.",
            )
        copies = _copies(train, test)
        if copies:
            problems.add(
                "E_SPLIT_LEAK",
                f"'{split.name}': {len(copies)} samples are both fitted and tested ({first(copies)}); a sample that "
                "was entered for several conditions may count in one only.",
            )


@dataclass(frozen=True)
class SnapshotSplit:
    """A named pair of snapshots. `test` holds the population at `time` and those that cells start from;
    `extrapolates` says that no fitted population is as late. **Raises:** `E_SPLIT_LEAK`."""

    name: str
    time: float
    train: Snapshots
    test: Snapshots
    extrapolates: bool

    def __post_init__(self) -> None:
        check_no_shared_population(self.train, self.test, self.name)


def by_time_point(
    snapshots: Snapshots, times: Sequence[float] | None = None, gap: float = 0.0
) -> tuple[SnapshotSplit, ...]:
    """Leave one time point of snapshots out, in all conditions; the last one is extrapolation.

    **Arguments:** `times`: default all but first ones; `gap`: fitted populations no farther than this from the held-out
    time are left out too: they are nearly the same cells. Good value: the time within which a population hardly moves.

    **Raises:** `E_TIME_RANGE` for times that cannot be held out or that leave nothing to fit, `E_SPLIT_LEAK` for cells
    that are in both parts; all together.
    """
    seen = snapshots.there.any(axis=2)
    starts = {float(row[0]) for row in snapshots.times}
    every = sorted({float(t) for t in snapshots.times[seen]} - starts)
    splits = []
    with Problems() as problems:
        for time in every if times is None else times:
            try:
                train, test = snapshots.hold_out(float(time))
                for other in every:
                    if other != time and abs(other - time) <= gap:
                        train = train.hold_out(other)[0]
                if not train.there[:, 1:].any():
                    problems.add(
                        "E_TIME_RANGE",
                        f"without {time:g} {snapshots.time_unit} and what lies within {gap:g} of it no population is "
                        "left to fit after the first; choose a smaller gap.",
                    )
                    continue
                late = train.times[train.there.any(axis=2)].max() < time
                splits.append(SnapshotSplit(f"{time:g} {snapshots.time_unit}", float(time), train, test, bool(late)))
            except PinnsimError as error:
                problems.absorb(error)
    return tuple(splits)


def check_no_shared_population(train: Snapshots, test: Snapshots, name: str = "split") -> None:
    """Refuse snapshots that share a moment of a condition after the first, or cells: equal profiles of 20 or more
    entries above 0, which only a copied cell has. **Raises:** `E_SPLIT_LEAK`, together."""
    with Problems() as problems:
        shared = sorted(_moments(train) & _moments(test))
        if shared:
            shown = first(f"{c} at {t:g} {test.time_unit}" for c, t in shared)
            problems.add(
                "E_SPLIT_LEAK",
                f"'{name}': {len(shared)} populations are both fitted and tested ({shown}); hold out whole moments.",
            )
        fitted = _profiles(train)
        copied = [place for profile, place in _profiles(test).items() if profile in fitted]
        if copied and not shared:
            problems.add(
                "E_SPLIT_LEAK",
                f"'{name}': {len(copied)} cells of the tested populations are fitted at another moment "
                f"({first(copied)}); drop the copies.",
            )


def check_no_shared_cells(train: Sequence[str], test: Sequence[str], name: str = "split") -> None:
    """Refuse parts with the same barcodes. **Arguments:** names of the cells of each part, unique within the data set.
    **Raises:** `E_SPLIT_LEAK`."""
    shared = sorted(set(train) & set(test))
    if shared:
        raise PinnsimError.of(
            "E_SPLIT_LEAK",
            f"'{name}': {len(shared)} cells are in both parts ({first(shared)}); split by whole populations, and make "
            "barcodes of several lanes unique first.",
        )


def check_no_neighbours(train: Snapshots, time: float, gap: float, name: str = "split") -> None:
    """Refuse fitted populations within `gap` of the held-out `time`, but for first ones. **Raises:** `E_SPLIT_LEAK`."""
    near = sorted({f"{c} at {t:g} {train.time_unit}" for c, t in _moments(train) if abs(t - time) <= gap})
    if near:
        raise PinnsimError.of(
            "E_SPLIT_LEAK",
            f"'{name}': {len(near)} fitted populations lie within {gap:g} of the held-out {time:g} {train.time_unit} "
            f"({first(near)}); hold them out with it (by_time_point has `gap`).",
        )


def _gene(field: str, name: str) -> str:
    if field == "edge":
        return name
    return name.rpartition(":")[2].split(".")[0] if field == "reaction" else name.split(".")[0]


def _by_touch(
    dataset: Dataset, found: list[frozenset[str]], wanted: Sequence[str] | None, what: str
) -> tuple[Split, ...]:
    by_text = {str(treatment): names for treatment, names in zip(dataset.treatments, found, strict=True)}
    known = list(dict.fromkeys(name for names in found for name in sorted(names)))
    possible = [name for name in known if not all(name in names for names in found)]
    splits = []
    with Problems() as problems:
        if wanted is None and not possible:
            problems.add(
                "E_DATA_EMPTY",
                f"no {what} can be held out: a split needs conditions with it and conditions without.",
            )
        odd = [name for name in wanted or () if name not in possible]
        if odd:
            shown = first(f"'{name}'{did_you_mean(name, possible)}" for name in odd)
            problems.add(
                "E_CONDITION_UNKNOWN",
                f"{len(odd)} of {len(wanted or ())} names are in no condition, or in all of them ({shown}); a split "
                f"needs conditions with the {what} and conditions without.",
            )
        for name in possible if wanted is None else [name for name in wanted if name in possible]:
            pairs = list(zip(dataset.conditions, found, strict=True))
            rest, held = ([c for c, names in pairs if (name in names) == inside] for inside in (False, True))
            split = Split(f"without {name}", dataset.select(conditions=rest), dataset.select(conditions=held))
            try:
                check_leave_out(split, name, lambda treatment: by_text[str(treatment)])
                splits.append(split)
            except PinnsimError as error:
                problems.absorb(error)
    return tuple(splits)


def _copies(train: Dataset, test: Dataset) -> list[str]:
    """Tested samples, after the first ones, whose readings are those of a fitted sample to the last digit."""
    fitted = _samples(train)
    return [place for readings, place in _samples(test).items() if readings in fitted]


def _samples(dataset: Dataset) -> dict[bytes, str]:
    marks = np.array(dataset.mask)
    marks[:, :, 0] = False
    found = {}
    for c, r, t in np.argwhere(marks.sum(axis=3) >= _GENES):
        seen = marks[c, r, t]
        values = np.asarray(dataset.values)[c, r, t]
        if np.ptp(values[seen]) > 0:
            place = f"{dataset.conditions[c]}, replicate {dataset.replicates[r]}, {dataset.times[c, t]:g}"
            found[np.where(seen, values, np.nan).tobytes()] = place
    return found


def _moments(snapshots: Snapshots) -> set[tuple[str, float]]:
    seen = np.array(snapshots.there.any(axis=2))
    seen[:, 0] = False
    return {(snapshots.conditions[c], float(snapshots.times[c, t])) for c, t in np.argwhere(seen)}


def _profiles(snapshots: Snapshots) -> dict[bytes, str]:
    """Cells after the first populations, by their whole profile, where it has enough entries above 0."""
    found = {}
    rich = snapshots.there & ((snapshots.values > 0).sum(axis=(3, 4)) >= DETECTED)
    rich[:, 0] = False
    for c, t, cell in np.argwhere(rich):
        place = f"{snapshots.conditions[c]} at {snapshots.times[c, t]:g} {snapshots.time_unit}, cell {cell}"
        found[np.ascontiguousarray(snapshots.values[c, t, cell]).tobytes()] = place
    return found
