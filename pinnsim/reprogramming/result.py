"""What a search for reprogramming found: ranked plans, what was tried and how it ended, and what none undercuts."""

import dataclasses
import enum

import numpy as np
import pandas as pd

from pinnsim.errors import Problems, first
from pinnsim.reprogramming.bound import Bound
from pinnsim.reprogramming.edits import EditSet
from pinnsim.reprogramming.lanes import FAILED, UNSETTLED
from pinnsim.reprogramming.robustness import Robustness
from pinnsim.reprogramming.search import Level
from pinnsim.treatment import Treatment
from pinnsim.tree import brief


class Ending(enum.StrEnum):
    """How the pushes with a combination of edits ended."""

    REACHES = "reaches the target"
    RETURNS = "comes back"
    ELSEWHERE = "settles in another valley"
    CYCLES = "goes round a cycle"
    UNSETTLED = "does not settle"
    FAILED = "could not be solved"
    UNCONFIRMED = "not confirmed at full accuracy"


@dataclasses.dataclass(frozen=True)
class Search:
    """How hard to look.

    **Arguments:**

    - `exhaustive`: the most combinations of one size that are all tried; `beam`: of larger levels, how many of the best
      combinations of the level before are extended.
    - `keep`: how many combinations of each size are refined, verified and tried for robustness.
    - `margin`: a plan must also reach with all its strengths smaller by this share (its duration, where only
      knock-outs act). At 0 plans end exactly on the edge.
    - `threshold`: the largest distance (log abundance, root mean square) of a state that has settled in a valley.
    - `tolerance`: relative width of the last bracket of strengths and durations; `steps`: of refinement, at most.
    - `cells`, `spread`, `seed`: cells with rates of their own, and the spread of a rate's logarithm.
    - `points`: of a minimum action path, odd; 0 for no bound. `starts`: of the search for valleys.
    - `batch_size`: pushes solved at a time; larger on an accelerator.

    Good values: `margin` 0.05 to 0.3, the more the less is known of the rates; `spread` 0.1 to 0.3.
    """

    exhaustive: int = 1024
    beam: int = 16
    keep: int = 4
    margin: float | int = 0.05
    threshold: float | int = 0.1
    tolerance: float | int = 1e-3
    steps: int = 12
    cells: int = 64
    spread: float | int = 0.1
    seed: int = 0
    points: int = 65
    starts: int = 32
    batch_size: int = 64

    def check(self, problems: Problems) -> None:
        """Notes impossible values."""
        least = {"exhaustive": 1, "beam": 1, "keep": 1, "steps": 0, "cells": 0, "starts": 1, "batch_size": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                problems.add("E_USAGE", f"Option `{name}` must be {low} or more, but is {getattr(self, name)}.")
        if not 0 <= self.margin < 1:
            problems.add("E_USAGE", f"Option `margin` must be in [0, 1), but is {self.margin}.")
        for name in ("threshold", "tolerance", "spread"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                problems.add("E_USAGE", f"Option `{name}` must be finite and > 0, but is {value}.")
        if self.points and (self.points < 9 or self.points % 2 == 0):
            problems.add("E_USAGE", f"Option `points` must be 0, or odd and 9 or more, but is {self.points}.")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One verified way.

    **Arguments:** `edits`: in words; `treatment`: what the cell gets, from time 0 on; `strengths`: of its edits, knock-
    outs counted as ln 1000; `duration`; `effort`, `begun`: E after and before the refinement by gradients; `control`:
    `1/4 int u' D^-1 u dt`; `robust`: on other cells; `front`: (duration, [duration, strength, effort]), the least
    common strength of all edits at each duration (the margin included); `times`, `states`: the verifying course.
    """

    __repr__ = brief

    edits: str
    treatment: Treatment
    strengths: np.ndarray
    duration: float
    effort: float
    begun: float
    control: float
    robust: Robustness
    front: np.ndarray
    times: np.ndarray
    states: np.ndarray


@dataclasses.dataclass(frozen=True)
class Reprogramming:
    """The result of `reprogram`.

    **Arguments:** `plans`: verified, least effort first; `tried`: one row per combination, with how its pushes ended;
    `levels`: (size, possible, tried, whole, reached) of each level; `start`, `target`: valleys; `bound`: the minimum
    action; `margin`, `power`: of the plans and of their effort.
    """

    __repr__ = brief

    plans: tuple[Plan, ...]
    tried: pd.DataFrame
    levels: tuple[tuple[int, int, int, bool, int], ...]
    start: str
    target: str
    bound: Bound
    margin: float
    power: float
    beam: int
    species: tuple[str, ...]
    time_unit: str

    @property
    def best(self) -> Plan | None:
        """The plan of least effort, or `None` where no combination reaches the target."""
        return self.plans[0] if self.plans else None

    @property
    def reachable(self) -> bool:
        """Whether any verified plan reaches the target."""
        return bool(self.plans)

    def table(self) -> pd.DataFrame:
        """Plans by effort: what is given, E before and after the gradients, control effort and how many times the
        bound that is, and the share of other cells that are moved, with Wilson's interval."""
        unit, bound = self.time_unit, self.bound.action
        rows = [
            {
                "edits": plan.edits,
                "treatment": str(plan.treatment),
                f"duration ({unit})": plan.duration,
                "effort": plan.effort,
                "effort before gradients": plan.begun,
                "control effort": plan.control,
                "times the bound": plan.control / bound if bound > 0 else float("nan"),
                "moved": plan.robust.share,
                "moved, low": plan.robust.interval[0],
                "moved, high": plan.robust.interval[1],
                "not moved": ", ".join(f"{n} {why}" for why, n in plan.robust.reasons.items() if why != "moved"),
            }
            for plan in self.plans
        ]
        return pd.DataFrame(rows)

    def describe(self) -> str:
        """Plain sentences: what is best, what it is bounded by, what was looked at, and why the others fail."""
        parts = []
        for size, possible, tried, whole, reached in self.levels:
            how = "all" if whole else f"{tried}, by a beam of {self.beam},"
            parts.append(f"{how} of {possible} combinations of {size} tried, {reached} reach")
        looked = "; ".join(parts)
        if not self.plans:
            counts = self.tried["ending"].value_counts()
            why = first([f"{n} {code}" for code, n in counts.items()], 6)
            return f"{self.target} is not reached from {self.start} with these edits ({looked}). Combinations: {why}."
        plan = self.plans[0]
        times = plan.control / self.bound.action if self.bound.action > 0 else float("nan")
        return (
            f"{self.start} to {self.target}: {plan.edits} for {plan.duration:.4g} {self.time_unit} "
            f"({plan.treatment}), effort {plan.effort:.4g}, control effort {plan.control:.4g}, {times:.3g} times the "
            f"least possible; moves {plan.robust.share:.0%} of {plan.robust.cells} other cells ({looked})."
        )


def described(
    edits: EditSet,
    levels: list[Level],
    endings: list[np.ndarray],
    home: str,
    goal: str,
    unconfirmed: dict[tuple[int, ...], str],
) -> pd.DataFrame:
    """One row per combination: size, ending (of the strongest and longest push, where none reaches), all places where
    its pushes ended. **Arguments:** `endings`: per level names, (combination, strength, duration)."""
    rows = []
    for level, names in zip(levels, endings, strict=True):
        for which, reached, ends in zip(level.which, level.reached, names, strict=True):
            combination = tuple(int(k) for k in which)
            places = sorted(set(ends.ravel().tolist()))
            code = Ending.REACHES if reached.any() else _code(str(ends[-1, -1]), home, goal)
            if combination in unconfirmed:
                code, places = Ending.UNCONFIRMED, [unconfirmed[combination]]
            rows.append(
                {
                    "edits": edits.label(combination),
                    "size": level.size,
                    "ending": str(code),
                    "share of pushes that reach": float(reached.mean()),
                    "pushes end in": ", ".join(places),
                }
            )
    return pd.DataFrame(rows)


def _code(name: str, home: str, goal: str) -> Ending:
    known = {home: Ending.RETURNS, goal: Ending.REACHES, FAILED: Ending.FAILED, UNSETTLED: Ending.UNSETTLED}
    return known.get(name, Ending.CYCLES if name.startswith("C") else Ending.ELSEWHERE)
