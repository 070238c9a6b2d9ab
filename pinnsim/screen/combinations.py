"""Which edits go together: singles, doubles of edits on different targets, and chosen triples.

Combinations are rows of positions in the list of edits, singles first, so that every double finds its singles and every
triple its doubles. Triples of many edits are too many to try; the most promising ones are found by a beam: the doubles
that interact most, each with every third edit, ranked by the interactions of the three doubles inside,

    score(a, b, c) = score(a, b) + score(a, c) + score(b, c),

because three-way interactions are rarely seen where no pair interacts.

Source: E. Kuzmin et al., Science 360:eaao1729 (2018), who chose the triples of their screen by the pairs' interactions.
"""

import dataclasses
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.reprogramming.edits import has_rate
from pinnsim.treatment import Edit, Treatment, as_treatment
from pinnsim.treatment.edit import SET

WIDTH = 3


@dataclasses.dataclass(frozen=True)
class EditList:
    """The edits of a screen. **Arguments:** `names`: their texts; `treatments`; `targets`: what each one changes."""

    names: tuple[str, ...]
    treatments: tuple[Treatment, ...]
    targets: tuple[frozenset[tuple[str, str]], ...]

    def apart(self, which: Sequence[int]) -> bool:
        """Whether edits change different targets, so that they go together."""
        return all(not self.targets[a] & self.targets[b] for a, b in combinations(which, 2))

    def together(self, which: Sequence[int] | np.ndarray) -> Treatment:
        """The treatment of several edits at once; -1 stands for none."""
        edits = [edit for k in which if k >= 0 for edit in self.treatments[k].edits]
        return Treatment(tuple(edits))

    def number(self, text: Treatment | str, problems: Problems) -> int:
        """Where an edit stands in the list, -1 and a problem where it does not."""
        name = str(as_treatment(text))
        if name not in self.names:
            near = did_you_mean(name, self.names)
            problems.add("E_USAGE", f"'{name}' is not among the {len(self.names)} edits of the screen{near}.")
            return -1
        return self.names.index(name)


def knockouts(kinetics: AbstractKinetics) -> tuple[str, ...]:
    """The knock-out of each gene; of a model without genes, the stop of each reaction.

    ("GATA1=0", "SPI1=0", ...), or ("reaction(inflow)*0", ...)
    """
    table = kinetics.table
    genes = [Treatment((Edit("gene", gene, 0.0),)) for gene in table.genes]
    rates = [Treatment((Edit("reaction", name, 0.0),)) for name in table.reactions]
    return tuple(str(t) for t in (genes or rates) if not genes or has_rate(t, kinetics))


def edit_list(given: Sequence[Treatment | str], kinetics: AbstractKinetics, timed: bool) -> EditList:
    """Edits checked against a model, all problems at once. **Arguments:** `timed`: whether edits may have times.

    **Raises** `E_USAGE` for no edit, one named twice, one that changes nothing, or with times that a state of rest does
    not know; `E_PERTURB_...`.
    """
    treatments: list[Treatment] = []
    with Problems() as problems:
        if isinstance(given, str):
            problems.add("E_USAGE", f"Argument `edits` is the text '{given}'; give a list of edits, ['{given}'].")
            given = ()
        elif not len(given):
            problems.add("E_USAGE", "There is no edit to screen; name some, for example ['GATA1=0', 'SPI1*2'].")
        for text in given:
            try:
                treatment = as_treatment(text)
                treatment.check(kinetics.table)
            except PinnsimError as error:
                problems.absorb(error)
                continue
            treatments.append(treatment)
            if all(_idle(edit) for edit in treatment.edits):
                problems.add("E_USAGE", f"'{treatment}' changes nothing; leave it out, all is compared with that.")
            if not timed and any(edit.start != -np.inf or edit.stop != np.inf for edit in treatment.edits):
                problems.add("E_USAGE", f"'{treatment}' has times, but rest has none; leave them out, or give `time`.")
        names = [str(t) for t in treatments]
        for name in sorted({n for n in names if names.count(n) > 1}):
            problems.add("E_USAGE", f"'{name}' is named {names.count(name)} times; name each edit once.")
    targets = tuple(frozenset((_field(e), e.name) for e in t.edits) for t in treatments)
    return EditList(tuple(names), tuple(treatments), targets)


def singles_and_doubles(
    edits: EditList, order: int, chosen: Sequence[Sequence[str]] | None, triples: Sequence[Sequence[str]]
) -> np.ndarray:
    """Rows of singles, then of doubles, (combination, 3), -1 where there is none.

    **Arguments:** `chosen`: doubles, by their edits (default: all of edits on different targets); `triples`: whose
    doubles are needed to tell what three do that two do not. **Raises** `E_USAGE` for what cannot be combined.
    """
    rows = [(k,) for k in range(len(edits.names))]
    pairs: list[tuple[int, ...]] = []
    if order > 1:
        with Problems() as problems:
            pairs = rows_of(edits, () if chosen is None else chosen, 2, problems)
            three = rows_of(edits, triples, 3, problems)
        if chosen is None:
            pairs = [p for p in combinations(range(len(edits.names)), 2) if edits.apart(p)]
        pairs = sorted({*pairs, *(p for row in three for p in combinations(row, 2))})
    return as_rows([*rows, *pairs])


def rows_of(edits: EditList, given: Sequence[Sequence[str]], size: int, problems: Problems) -> list[tuple[int, ...]]:
    """Positions of the edits of each combination, in order, each once; notes what is wrong."""
    found = set()
    for names in given:
        if isinstance(names, str) or len(names) != size:
            problems.add("E_USAGE", f"{names!r} is not {size} edits; give them as a list, one text each.")
            continue
        row = tuple(sorted(edits.number(name, problems) for name in names))
        if row[0] < 0:
            continue
        if not edits.apart(row):
            problems.add("E_USAGE", f"{', '.join(names)} change one target; combine edits on different targets.")
        found.add(row)
    return sorted(found)


def best_triples(edits: EditList, pairs: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """The `count` triples whose doubles interact most, of a beam of `4 count` doubles, (triple, 3).

    **Arguments:** `pairs`: (double, 2); `score`: (double,), how strongly each interacts, NaN for unknown.
    """
    known = np.where(np.isfinite(score), score, 0.0)
    value = {(int(a), int(b)): float(s) for (a, b), s in zip(pairs, known, strict=True)}
    beam = pairs[np.argsort(-known, kind="stable")[: 4 * count]]
    total: dict[tuple[int, ...], float] = {}
    for a, b in beam.tolist():
        for c in range(len(edits.names)):
            row = tuple(sorted((a, b, c)))
            if c in (a, b) or row in total or not edits.apart(row):
                continue
            inside = list(combinations(row, 2))
            if all(pair in value for pair in inside):
                total[row] = sum(value[pair] for pair in inside)
    return as_rows(sorted(sorted(total, key=lambda row: (-total[row], row))[:count]))


def as_rows(rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Combinations as an array, (combination, 3), filled up with -1."""
    found = np.full((len(rows), WIDTH), -1)
    for k, row in enumerate(rows):
        found[k, : len(row)] = row
    return found


def _idle(edit: Edit) -> bool:
    """Whether an edit changes nothing: a factor of 1, or nothing added. A hold always does something."""
    if edit.dose.ic50 > 0 or edit.field == "hold":
        return False
    return edit.value == (0.0 if edit.field in SET else 1.0)


def _field(edit: Edit) -> str:
    return "transcription" if edit.field == "gene" else edit.field
