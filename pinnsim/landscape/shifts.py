"""What became of the valleys under each perturbation: which remain, vanish or are new, and how far each moved.

Where the ball of a valley rests, its valley is said to be now. If several balls rest in one place, the valley that was
nearest keeps its name and the others have vanished into it; what no ball reached is new. A valley's shift is that of
its ball,

    log2 fold_i = log2((x_i + floor_i) / (x0_i + floor_i)),      distance = sqrt(mean_i (z_i - z0_i)^2),

with floors and coordinates z of `pinnsim.landscape.coordinates`. The genes that a perturbation edits move by its own
force; "downstream" is the distance over all other species.

Source: S. Huang, G. Eichler, Y. Bar-Yam and D. E. Ingber, Phys. Rev. Lett. 94:128701 (2005), attractors as cell types.
"""

import dataclasses

import numpy as np
import pandas as pd

from pinnsim.errors import PinnsimError, did_you_mean

REMAINS, VANISHES, NEW = "remains", "vanishes", "new"
SENTENCES = {
    REMAINS: "its ball rests in a valley of its own",
    VANISHES: "its ball rests in a valley that another ball was nearer to",
    NEW: "no ball of an unperturbed valley rests here",
    "cycle": "its ball goes round and does not rest; find_attractors closes the cycle",
    "not settled": "its ball still moves, or rests where nothing can stay (a saddle): follow it for longer",
    "failed": "its ball left the range of numbers, or the solver ran out of steps",
}


@dataclasses.dataclass(frozen=True)
class Shifts:
    """Attractors under many perturbations.

    **Arguments:**

    - `labels`: of perturbations; `valleys`: names of the unperturbed attractors; `reference`: (valley, species).
    - `states`: (attractor, species), of all perturbations one after another; `owner`: (attractor,), which perturbation;
      `names`: that of the valley whose ball rests there, or "N1", "N2" ... for new ones, most starts first.
    - `residual`: (attractor,), max |f| / (1 + |x|) per time unit; `leading`: eigenvalue of the largest real part, per
      time unit (below 0: Morse index 0, stable); `arrivals`: how many of the shared starts the flow brought there.
    - `lifted`: (attractor,), the valley to which a ball returns when the perturbation ends, or -1.
    - `home`: (perturbation, valley), where the ball rests, or -1; `fate`: (perturbation, valley), a key of `sentences`.
    - `motion`: (perturbation, start), of all lanes, the balls first: "settled", "cycle", "not settled" or "failed".
    - `log_states`, `log_reference`: log2 of abundance + floor; hidden activities over ln 2.
    - `edited`: (perturbation, species), those of genes that the perturbation acts on.
    - `seconds`: taken, compilation included; `time_unit`.
    """

    labels: tuple[str, ...]
    species: tuple[str, ...]
    valleys: tuple[str, ...]
    reference: np.ndarray
    states: np.ndarray
    owner: np.ndarray
    names: tuple[str, ...]
    residual: np.ndarray
    leading: np.ndarray
    arrivals: np.ndarray
    lifted: np.ndarray
    home: np.ndarray
    fate: np.ndarray
    motion: np.ndarray
    log_states: np.ndarray
    log_reference: np.ndarray
    edited: np.ndarray
    seconds: float
    time_unit: str

    def __repr__(self) -> str:
        return f"Shifts({self.describe()})"

    @property
    def rate(self) -> float:
        """Perturbations per second, compilation included."""
        return len(self.labels) / self.seconds

    @property
    def sentences(self) -> dict[str, str]:
        """What each fate means for a reader."""
        return dict(SENTENCES)

    def describe(self) -> str:
        """One plain sentence: how many attractors, what became of the valleys, time and rate."""
        count, fates = len(self.labels), self.fate.ravel().tolist()
        said = [f"{n} {kind}" for kind in SENTENCES if (n := fates.count(kind))]
        said += [f"{n} new" for n in [self._without_ball().sum()] if n]
        return (
            f"{len(self.states)} attractors under {count} perturbation{'s' * (count != 1)} from {self.motion.shape[1]} "
            f"starts each, in {self.seconds:.3g} s ({self.rate:.3g} per second); of {len(fates)} balls in "
            f"{len(self.valleys)} valleys and elsewhere: {', '.join(said) or 'none'}."
        )

    def under(self, label: str) -> np.ndarray:
        """The attractors under one perturbation, positions in `states`. **Raises** `E_CONDITION_UNKNOWN`."""
        if label not in self.labels:
            raise PinnsimError.of(
                "E_CONDITION_UNKNOWN",
                f"'{label}' is not among the {len(self.labels)} perturbations{did_you_mean(label, self.labels)}.",
            )
        return np.flatnonzero(self.owner == self.labels.index(label))

    def folds(self) -> np.ndarray:
        """log2 fold of every species, (perturbation, valley, species); NaN where the ball does not rest."""
        moved = self._at_home(self.log_states) - self.log_reference[None]
        return np.where((self.home >= 0)[..., None], moved, np.nan)

    def distances(self, downstream: bool = False) -> np.ndarray:
        """Distance that each ball moved, (perturbation, valley), natural log; NaN where it does not rest.

        **Arguments:** `downstream`: over the species of genes that the perturbation does not act on.
        """
        counted = ~self.edited[:, None] if downstream else np.ones((len(self.labels), 1, len(self.species)), bool)
        squares = np.where(counted, (np.log(2.0) * self.folds()) ** 2, 0.0).sum(axis=2)
        return np.sqrt(squares / np.maximum(counted.sum(axis=2), 1))

    def table(self) -> pd.DataFrame:
        """One row per perturbation and valley, then one per new attractor: fate, where the ball rests, how far that is,
        the species that moved most beside the edited ones, and the certificate."""
        row, column = np.indices(self.home.shape).reshape(2, -1)
        new = np.flatnonzero(self._without_ball())
        at = np.concatenate([self.home.ravel(), new])
        folds = self.folds().reshape(-1, len(self.species))
        most = np.where(self.edited[row], 0.0, np.nan_to_num(np.abs(folds))).argmax(axis=1)
        lost = np.full(len(new), np.nan)
        rests, here = at >= 0, np.maximum(at, 0)

        def of_attractor(values: np.ndarray, missing: float | str) -> np.ndarray:
            return np.where(rests, values[here], missing) if len(values) else np.full(len(at), missing)

        valleys = np.array([*self.valleys, ""], object)
        table = pd.DataFrame(
            {
                "perturbation": np.array(self.labels, object)[np.concatenate([row, self.owner[new]])],
                "valley": np.concatenate([valleys[column], np.full(len(new), "", object)]),
                "fate": np.concatenate([self.fate.ravel(), np.full(len(new), NEW, object)]),
                "rests in": of_attractor(np.array(self.names, object), ""),
                "distance": np.concatenate([self.distances().ravel(), lost]),
                "downstream": np.concatenate([self.distances(downstream=True).ravel(), lost]),
                "most moved": np.concatenate(
                    [np.where(rests[: len(row)], np.array(self.species, object)[most], ""), np.full(len(new), "")]
                ),
                "log2 fold": np.concatenate([folds[np.arange(len(row)), most], lost]),
                "share of starts": of_attractor(self.arrivals / max(self.motion.shape[1] - len(self.valleys), 1), 0.0),
                f"leading eigenvalue (1/{self.time_unit})": of_attractor(self.leading.real, np.nan),
                "residual": of_attractor(self.residual, np.nan),
                "when lifted": of_attractor(valleys[self.lifted], ""),
            }
        )
        order = np.lexsort((np.arange(len(at)), np.concatenate([row, self.owner[new]])))
        return table.iloc[order].reset_index(drop=True)

    def ranked(self, count: int | None = None) -> pd.DataFrame:
        """One row per perturbation, the most telling first: valleys that do not remain or are new, then the largest
        downstream shift of a valley that remains."""
        stays = self.fate == REMAINS
        far = np.where(stays, self.distances(downstream=True), -np.inf)
        most, largest = (
            far.argmax(axis=1) if far.shape[1] else np.zeros(len(far), int),
            far.max(axis=1, initial=-np.inf),
        )
        any_stays = stays.any(axis=1)
        new = np.bincount(self.owner[self._without_ball()], minlength=len(self.labels))
        kinds = {kind: (self.fate == kind).sum(axis=1) for kind in SENTENCES if kind != NEW}
        table = pd.DataFrame(
            {
                "perturbation": list(self.labels),
                **kinds,
                NEW: new,
                "largest downstream shift": np.where(any_stays, largest, np.nan),
                "of valley": np.where(any_stays, np.array([*self.valleys, ""], object)[most], ""),
            }
        )
        changed = len(self.valleys) - kinds[REMAINS] + new
        order = np.lexsort((-np.where(any_stays, largest, 0.0), -changed))
        return table.iloc[order[:count]].reset_index(drop=True)

    def _without_ball(self) -> np.ndarray:
        """(attractor,), true where no ball rests."""
        return ~np.isin(np.arange(len(self.states)), self.home)

    def _at_home(self, values: np.ndarray) -> np.ndarray:
        """Values of attractors, (attractor, species), where balls rest."""
        if not len(values):
            return np.zeros((*self.home.shape, len(self.species)))
        return values[np.maximum(self.home, 0)]
