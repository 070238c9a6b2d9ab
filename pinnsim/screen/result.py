"""What a screen found: levels, effects, interactions and fates of every combination, with the members' agreement.

Tables have one row per combination and valley, the most telling first. A ball that leaves its valley has effects like
any other (it rests elsewhere), but `same valley` is false: an interaction that compares two valleys is a change of
fate, not of expression.
"""

import dataclasses
import math
from itertools import combinations

import numpy as np
import pandas as pd

from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.landscape.members import MemberValleys
from pinnsim.landscape.shifts import SENTENCES as REST_SENTENCES
from pinnsim.screen.agreement import Agreement, agreement
from pinnsim.screen.combinations import WIDTH
from pinnsim.screen.courses import SENTENCES, STAYS, Balls
from pinnsim.screen.interaction import EXPECTATIONS, Expectation, effect, of_three, of_two, terms
from pinnsim.screen.readouts import Readouts, one_readout

_ORDERS = ("", "single", "double", "triple")


@dataclasses.dataclass(frozen=True)
class Screen:
    """Single, double and triple perturbations of a model, and of the members of an ensemble.

    **Arguments:**

    - `edits`: texts; `parts`: (combination, 3), positions in `edits`, -1 for none; `labels`: (combination,).
    - `valleys`: names; `readouts`: names, weights and floors; `model`: the model's own balls; `members`: those of each
      member; `kept`: which member has which valley, the model first (`None` without members).
    - `time`: of the readings, in `time_unit`, `None` for rest; `level`: of intervals; `threshold`: of words, log2 for
      the multiplicative and a share of the unperturbed level for the additive expectation; `seconds`: taken.
    """

    edits: tuple[str, ...]
    parts: np.ndarray
    labels: tuple[str, ...]
    valleys: tuple[str, ...]
    readouts: Readouts
    model: Balls
    members: tuple[Balls, ...]
    kept: MemberValleys | None
    time: float | None
    time_unit: str
    level: float
    threshold: float
    seconds: float

    def __repr__(self) -> str:
        return f"Screen({self.describe()})"

    @property
    def order(self) -> np.ndarray:
        """(combination,), how many edits."""
        return (self.parts >= 0).sum(axis=1)

    @property
    def sentences(self) -> dict[str, str]:
        """What each fate means for a reader."""
        return {**REST_SENTENCES, **SENTENCES}

    @property
    def base(self) -> np.ndarray:
        """Unperturbed levels, (model, valley, readout); the model first, then its members."""
        return np.stack([self.readouts(balls.base) for balls in (self.model, *self.members)])

    @property
    def levels(self) -> np.ndarray:
        """Levels, (model, combination, valley, readout), abundance units; NaN where a ball does not rest."""
        return np.stack([self.readouts(balls.states) for balls in (self.model, *self.members)])

    def effects_on(self, expectation: Expectation = "multiplicative") -> np.ndarray:
        """Effects, (model, combination, valley, readout): log2 folds, or changes over the unperturbed level."""
        return effect(self.levels, self.base[:, None], self.readouts.floor, expectation)

    def interactions(self, expectation: Expectation = "multiplicative", order: int = 2) -> np.ndarray:
        """eps of all doubles, or triples, (model, combination of that order, valley, readout).

        See `pinnsim.screen.interaction` for the equations. **Raises** `E_USAGE` for another order or expectation.
        """
        if order not in (2, 3) or expectation not in EXPECTATIONS:
            raise PinnsimError.of(
                "E_USAGE", f"Interactions are of order 2 or 3, multiplicative or additive, not {order}, {expectation}."
            )
        found = self.effects_on(expectation)
        if order == 2:
            return of_two(found[:, self.order == 2], [found[:, k] for k in self._inside(2, 1)])
        pairs, singles = ([found[:, k] for k in self._inside(3, size)] for size in (2, 1))
        return of_three(found[:, self.order == 3], pairs, singles)

    def words(self, expectation: Expectation = "multiplicative") -> np.ndarray:
        """The term for each double, (double, valley, readout), by the model itself (`interaction.TERMS`)."""
        found = self.effects_on(expectation)[0]
        return terms(found[self.order == 2], [found[k] for k in self._inside(2, 1)], self.threshold)

    def changed(self) -> np.ndarray:
        """(combination, valley), true where a ball does not stay in its valley."""
        return ~np.isin(self.model.fate.astype(str), STAYS)

    def emergent(self) -> np.ndarray:
        """(combination, valley), true where a double or triple changes a fate that no part of it changes."""
        changed, order = self.changed(), self.order
        found = changed & (order > 1)[:, None]
        for size in (2, 3):
            for smaller in range(1, size):
                for inside in self._inside(size, smaller):
                    found[order == size] &= ~changed[inside]
        return found

    def fate_agreement(self) -> np.ndarray:
        """(combination, valley), share of members whose ball has the model's fate and place; NaN without members."""
        if not self.members:
            return np.full(self.model.fate.shape, np.nan)
        own = self.model
        # A new valley's number counts starts, so it is no name across members.
        ours = np.where(np.isin(own.rests.astype(str), self.valleys), own.rests, "new")
        same = []
        for member in self.members:
            theirs = np.where(np.isin(member.rests.astype(str), self.valleys), member.rests, "new")
            same.append((member.fate == own.fate) & (theirs == ours))
        return np.mean(same, axis=0)

    def effects(self, readout: str | None = None, count: int | None = None) -> pd.DataFrame:
        """Ranked effects: of one readout, by its log2 fold, or of the most changed one each, by how far the state moved
        beside the edited species.

        **Returns** columns `perturbation`, `order`, `valley`, `fate`, `rests in`, `when lifted`, `distance` and
        `downstream` (root mean square, log2), `readout`, `level`, `unperturbed`, `log2 fold`; with members also the
        fold's mean, interval, share of the same sign, and `same fate`.
        """
        found = self.effects_on()
        row, valley = np.indices(self.model.fate.shape).reshape(2, -1)
        which = self._readout(found[0], readout).ravel()
        at = (slice(None), row, valley, which)
        fold, balls = found[at], self.model
        downstream = balls.downstream.ravel() / np.log(2.0)
        table = {
            **self._named(np.arange(len(self.labels)), row, valley),
            "fate": balls.fate.ravel(),
            "rests in": balls.rests.ravel(),
            "when lifted": balls.returns.ravel(),
            "distance": balls.distance.ravel() / np.log(2.0),
            "downstream": downstream,
            "readout": np.array(self.readouts.names, object)[which],
            "level": self.levels[0][at[1:]],
            "unperturbed": self.base[0][valley, which],
            "log2 fold": fold[0],
            **self._agreed({"log2 fold": fold}),
            **self._fates(row, valley),
        }
        return _ranked(table, np.abs(fold[0]) if readout else downstream, count)

    def synergies(
        self, readout: str | None = None, count: int | None = None, by: Expectation = "multiplicative"
    ) -> pd.DataFrame:
        """Ranked interactions of all doubles, of one readout or of the one with the largest each; those that compare
        one valley with itself come first.

        **Arguments:** `by`: the expectation that ranks, and by which the readout is chosen.

        **Returns** columns `perturbation`, `valley`, `readout`, `same valley`, `fate`; `effect a`, `effect b`, `effect
        ab` (log2 folds); `multiplicative` (log2) and `additive` (share of the unperturbed level), each with its word,
        and with members its mean, interval and share of the same sign.
        """
        return self._interacting(2, readout, count, by)

    def triples(
        self, readout: str | None = None, count: int | None = None, by: Expectation = "multiplicative"
    ) -> pd.DataFrame:
        """Ranked interactions of three that no pair explains; columns as of `synergies`, without words."""
        return self._interacting(3, readout, count, by)

    def fates(self) -> pd.DataFrame:
        """Every ball that does not stay, and every combination with new valleys; what no part does alone comes first.

        **Returns** columns `perturbation`, `order`, `valley`, `fate`, `rests in`, `when lifted`, `emergent`, `new
        valleys`, and with members `same fate`, the share that agrees.
        """
        changed, emergent, balls = self.changed(), self.emergent(), self.model
        told = changed | (balls.new > 0)[:, None]
        row, valley = np.nonzero(told)
        at = (row, valley)
        table = {
            **self._named(np.arange(len(self.labels)), row, valley),
            "fate": balls.fate[at],
            "rests in": balls.rests[at],
            "when lifted": balls.returns[at],
            "emergent": emergent[at],
            "new valleys": balls.new[row],
            **self._fates(row, valley),
        }
        return _ranked(table, 2.0 * emergent[at] + changed[at], None)

    def describe(self) -> str:
        """One plain sentence: what was screened, what became of it, and how far members agree."""
        counts = [f"{n} {name}s" for k, name in enumerate(_ORDERS) if k and (n := int((self.order == k).sum()))]
        when = "at rest" if self.time is None else f"{self.time:g} {self.time_unit} after the switch"
        fates, sizes = np.unique(self.model.fate.astype(str), return_counts=True)
        told = ", ".join(f"{n} {fate}" for fate, n in zip(fates, sizes, strict=True))
        text = (
            f"{', '.join(counts)} of {len(self.edits)} edits in {len(self.valleys)} "
            f"valley{'s' * (len(self.valleys) != 1)}, {when}, in {self.seconds:.3g} s: {told}"
        )
        emergent = int(self.emergent()[self.order > 1].sum())
        text += f"; {emergent} changes of fate that no part brings about alone." if emergent else "."
        if self.kept is not None:
            members = dataclasses.replace(self.kept, states=self.kept.states[1:], kind=self.kept.kind[1:])
            text += f" {members.describe()}"
            share = self.fate_agreement()[self.changed()]
            if share.size:
                text += f" On a changed fate {share.mean():.0%} of them agree, on average."
        return text

    def _inside(self, size: int, smaller: int) -> list[np.ndarray]:
        """For all combinations of `size`, the positions of their parts of `smaller`, an array for each part."""
        number = {tuple(row): k for k, row in enumerate(self.parts.tolist())}
        rows, padding = self.parts[self.order == size, :size].tolist(), (-1,) * (WIDTH - smaller)
        lists = [[number[(*part, *padding)] for part in combinations(row, smaller)] for row in rows]
        return list(np.array(lists, int).reshape(len(rows), math.comb(size, smaller)).T)

    def _interacting(self, size: int, readout: str | None, count: int | None, by: Expectation) -> pd.DataFrame:
        found = {e: self.interactions(e, size) for e in EXPECTATIONS}
        if by not in EXPECTATIONS:
            raise PinnsimError.of("E_USAGE", f"by='{by}' is no expectation{did_you_mean(by, EXPECTATIONS)}.")
        numbers = np.flatnonzero(self.order == size)
        row, valley = np.indices(found[by].shape[1:3]).reshape(2, -1)
        which = self._readout(found[by][0], readout, numbers).ravel()
        folds = self.effects_on()[0]
        inside = [k for smaller in range(1, size) for k in self._inside(size, smaller)]
        changed = self.changed()
        alone = self._inside(size, 1)
        table = {
            **self._named(numbers, row, valley),
            "readout": np.array(self.readouts.names, object)[which],
            "same valley": ~np.any([changed[k][row, valley] for k in [*inside, numbers]], axis=0),
            "fate": self.model.fate[numbers[row], valley],
        }
        for name, k in zip("abc", alone, strict=False):
            table[f"effect {name}"] = folds[k[row], valley, which]
        table[f"effect {'abc'[:size]}"] = folds[numbers[row], valley, which]
        for expectation, values in found.items():
            table[expectation] = values[0, row, valley, which]
            if size == 2:
                table[f"{expectation} term"] = self.words(expectation)[row, valley, which]
        table |= self._agreed({e: values[:, row, valley, which] for e, values in found.items()})
        table |= self._fates(numbers[row], valley)
        return _ranked(table, np.abs(found[by][0, row, valley, which]), count, table["same valley"])

    def _readout(self, values: np.ndarray, name: str | None, numbers: np.ndarray | None = None) -> np.ndarray:
        """The readout that a row of a table shows, (combination, valley): the one asked for, or the largest beside
        those of edited genes (of these where there are no others)."""
        if name is not None:
            return np.full(values.shape[:2], one_readout(name, self.readouts.names))
        own = self.readouts.of(self.model.edited if numbers is None else self.model.edited[numbers])
        counted = ~own | own.all(axis=1, keepdims=True)
        size = np.where(np.isfinite(values) & counted[:, None], np.abs(values), -1.0)
        return size.argmax(axis=2)

    def _named(self, numbers: np.ndarray, row: np.ndarray, valley: np.ndarray) -> dict[str, np.ndarray]:
        which = numbers[row]
        return {
            "perturbation": np.array(self.labels, object)[which],
            "order": self.order[which],
            "valley": np.array(self.valleys, object)[valley],
        }

    def _agreed(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns of the members' agreement on each quantity, (model, row)."""
        columns: dict[str, np.ndarray] = {}
        if self.members:
            for name, each in values.items():
                found: Agreement = agreement(each, self.level)
                columns |= found.columns(name)
        return columns

    def _fates(self, row: np.ndarray, valley: np.ndarray) -> dict[str, np.ndarray]:
        return {"same fate": self.fate_agreement()[row, valley]} if self.members else {}


def _ranked(
    columns: dict[str, np.ndarray], size: np.ndarray, count: int | None, before: np.ndarray | None = None
) -> pd.DataFrame:
    """A table, the largest first, those of `before` ahead of the others; what is not a number comes last."""
    ahead = np.zeros(len(size), bool) if before is None else before
    order = np.lexsort((-np.where(np.isfinite(size), size, -np.inf), ~ahead))
    return pd.DataFrame(columns).iloc[order[:count]].reset_index(drop=True)
