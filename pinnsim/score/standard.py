"""The baselines that every score is printed beside."""

from __future__ import annotations

from pinnsim.score.baselines import (
    AR1,
    AbstractBaseline,
    Copy,
    GeneRelaxation,
    MeanOfArms,
    Persistence,
    Relaxation,
)
from pinnsim.score.compare import ROLL_OUT, evaluate
from pinnsim.score.linear import LinearODE
from pinnsim.score.splits import Split
from pinnsim.score.table import Entry
from pinnsim.units import time_factor


def standard_baselines(
    time_unit: str = "min", late: float | None = None, tau: float | None = None
) -> tuple[AbstractBaseline, ...]:
    """All baselines with their default settings.

    **Arguments:** `time_unit` of the data; `late`, from when on an arm counts as settled (None: the last 60 % of the
    fitted span); `tau` of the common relaxation (None: 20 min; say what is typical where cells are slower), both in
    `time_unit`.

    **Returns:** the baselines. Mean and copy coincide where one arm is fitted. **Raises:** `E_TIME_UNIT`.
    """
    common = 20.0 * time_factor("min", time_unit) if tau is None else tau
    return (
        Persistence(),
        MeanOfArms(),
        Copy(),
        Copy(change=True),
        Relaxation(common, late),
        GeneRelaxation(late),
        AR1(),
        LinearODE(),
    )


def baseline_entries(
    split: Split, baselines: tuple[AbstractBaseline, ...] | None = None, mode: str = ROLL_OUT
) -> tuple[Entry, ...]:
    """Every baseline fitted on the training part of a split and scored on its test part, ready for `score_table`."""
    chosen = standard_baselines(split.train.time_unit) if baselines is None else baselines
    return tuple(Entry.of(b.name, "baseline", split.name, evaluate(b, split, mode)) for b in chosen)
